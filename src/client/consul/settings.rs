//! Where Consul is and what lets us in: the keys of `[consul]`, and the variables that Consul's own
//! tools use where a key is not set.
//!
//! Variables are read once, at the edge, through [`Config::variable`]; nothing deeper looks at the
//! environment. A key that is set always wins over a variable. A token from a file is read again
//! whenever the file changes, so that a rotation needs no restart; what cannot be read then (a file that
//! is being replaced) leaves the old token in use. Nothing here shows a token.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Consul;
use crate::client::http::{Http, Options};
use crate::client::proxy::Proxies;
use crate::client::trust::Trust;
use crate::config::value::{Secret, Span};
use crate::config::veil::quoted;
use crate::config::{Config, ConfigError, Problem, Problems, form};

crate::settings! {
    /// Consul, where the heartbeats of nodes are kept.
    pub struct Settings {
        /// Its HTTP API: http://host:port or https://host:port, with a path where a proxy wants one.
        /// Default: the variable CONSUL_HTTP_ADDR, else http://127.0.0.1:8500.
        address: String = String::new(),
        /// ACL token. Default: what CONSUL_HTTP_TOKEN_FILE names, else CONSUL_HTTP_TOKEN.
        token: Option<Secret> = None,
        /// File that holds token; read again when it changes.
        token_file: Option<PathBuf> = None,
        /// user:password for a proxy in front of Consul that wants HTTP Basic authentication. Default: the variable
        /// CONSUL_HTTP_AUTH.
        auth: Option<Secret> = None,
        /// File that holds auth.
        auth_file: Option<PathBuf> = None,
        /// Where the nodes' keys are: a node's key is prefix/node.
        prefix: String = "watchdog/nodes".to_string(),
        /// PEM file of the authorities that may sign Consul's certificate, or of that certificate itself. Default: the
        /// variable CONSUL_CACERT, else the bundled authorities.
        ca_file: Option<PathBuf> = None,
        /// HTTP proxy to ask through: http://host:port, or none. Default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
        proxy: Option<Secret> = None,
        /// File that holds proxy.
        proxy_file: Option<PathBuf> = None,
        /// Datacenter that is asked; empty: that of the agent.
        datacenter: String = String::new(),
        /// Consul Enterprise: the namespace that the keys are in. Default: the variable CONSUL_NAMESPACE, else that of
        /// the token.
        namespace: String = String::new(),
        /// After Consul's data was replaced (restored, wiped), nodes have this long to register again before
        /// one that is missing counts as missing. At least 31s, because a beacon may wait for 30s between two tries;
        /// longer than beacon.renew where that was raised.
        resettle: Span = Span::seconds(60),
    }
}

/// The variables of Consul's own tools that count where a key is not set. Empty ones are not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CONSUL_HTTP_ADDR`.
    pub address: Option<String>,
    /// `CONSUL_HTTP_SSL`: https for an address from a variable, whatever its scheme says.
    pub ssl: bool,
    /// `CONSUL_HTTP_TOKEN`.
    pub token: Option<Secret>,
    /// `CONSUL_HTTP_TOKEN_FILE`, which wins over the token.
    pub token_file: Option<PathBuf>,
    /// `CONSUL_CACERT`.
    pub ca_file: Option<PathBuf>,
    /// `CONSUL_HTTP_AUTH`.
    pub auth: Option<Secret>,
    /// `CONSUL_NAMESPACE`.
    pub namespace: Option<String>,
}

impl Environment {
    /// Picks the variables out of those that the program was started with.
    ///
    /// # Errors
    /// A variable that counts and is not text, or says what is not done here; all of them.
    pub fn of(config: &Config) -> Result<Environment, ConfigError> {
        let mut problems = Problems::new(config);
        let mut text = |name: &str| {
            let found = problems.take(config.readable_variable(name)).flatten();
            found.map(str::trim).filter(|value| !value.is_empty()).map(str::to_string)
        };
        let environment = Environment {
            address: text("CONSUL_HTTP_ADDR"),
            ssl: false,
            token: text("CONSUL_HTTP_TOKEN").map(Secret::new),
            token_file: text("CONSUL_HTTP_TOKEN_FILE").map(PathBuf::from),
            ca_file: text("CONSUL_CACERT").map(PathBuf::from),
            auth: text("CONSUL_HTTP_AUTH").map(Secret::new),
            namespace: text("CONSUL_NAMESPACE"),
        };
        let refused = REFUSED.iter().filter(|(name, _)| text(name).is_some()).collect::<Vec<_>>();
        let (ssl, verify) = (text("CONSUL_HTTP_SSL"), text("CONSUL_HTTP_SSL_VERIFY"));
        let ssl = truth(&mut problems, "CONSUL_HTTP_SSL", ssl.as_deref()).unwrap_or(false);
        if truth(&mut problems, "CONSUL_HTTP_SSL_VERIFY", verify.as_deref()) == Some(false) {
            let what = "turns off the check of Consul's certificate, which is refused here: anybody could pose as \
                        Consul; unset it, and name the authority by consul.ca_file or CONSUL_CACERT";
            problems.add(of_variable("CONSUL_HTTP_SSL_VERIFY", what));
        }
        for (name, what) in refused {
            problems.add(of_variable(name, *what));
        }
        problems.unless_any(Environment { ssl, ..environment })
    }
}

/// Variables of Consul's own tools that would change whom we talk to or how, and are not done here: to leave one out
/// without a word would be to ask another Consul than the operator means.
const REFUSED: [(&str, &str); 5] = [
    ("CONSUL_CLIENT_CERT", CLIENT_CERT),
    ("CONSUL_CLIENT_KEY", CLIENT_CERT),
    ("CONSUL_CAPATH", "names a directory, and one file is read here: unset it, and name the file by consul.ca_file"),
    ("CONSUL_TLS_SERVER_NAME", "is not supported: unset it, and put the name of the certificate into consul.address"),
    ("CONSUL_PARTITION", "is not supported: unset it, and ask an agent of that partition"),
];
const CLIENT_CERT: &str = "is not supported: client certificates are not shown to Consul; unset it, and let a local agent \
                           or a proxy do so";

/// A boolean as Go reads it.
fn truth(problems: &mut Problems<'_>, name: &str, text: Option<&str>) -> Option<bool> {
    match text? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => {
            problems.add(of_variable(name, "is neither true nor false"));
            None
        }
    }
}

fn of_variable(name: &str, what: impl Into<String>) -> Problem {
    Problem::of_place(format!("environment variable {name}"), what)
}

/// Checks `[consul]` and the variables, and makes a client whose calls end within `timeout`.
///
/// Errors: an address, a prefix, a token or a file of authorities that cannot be used, each by its name.
pub fn connect(config: &Config, timeout: Duration) -> Result<Consul, ConfigError> {
    let settings: Settings = config.section("consul")?;
    let environment = Environment::of(config)?;
    let (base, place) = match settings.address.trim() {
        "" => (address(environment.address.as_deref().unwrap_or_default(), environment.ssl), "CONSUL_HTTP_ADDR: "),
        own => (address(own, false), ""),
    };
    let base = base.map_err(|what| config.error("consul.address", format!("{place}{what}")))?;
    let own = settings.ca_file.as_deref().filter(|path| !path.as_os_str().is_empty());
    let (ca, whose) = match own {
        Some(own) => (Some(own), ""),
        None => (environment.ca_file.as_deref(), "CONSUL_CACERT: "),
    };
    let trust = Trust::by(ca, "consul.ca_file");
    let trust = trust.map_err(|what| config.error("consul.ca_file", format!("{whose}{what}")))?;
    let proxies = Proxies::of(config, "consul.proxy", settings.proxy.as_ref(), settings.proxy_file.as_deref())?;
    let token = token(config, &settings, &environment)?;
    let auth = auth(config, &settings, &environment)?;
    let namespace = names(config, &settings, &environment)?;
    if token.current().is_some_and(|token| !token.expose().trim().bytes().all(|b| b.is_ascii_graphic())) {
        let what = "the token may hold only printable ASCII without spaces, because it travels in a header";
        return Err(config.error("consul.token", what));
    }
    prefix(config)?;
    let options = Options {
        timeout,
        // The operator named the address; Consul's documentation itself advises 169.254.1.1 for local agents.
        allow_link_local: true,
        keep_alive: true,
        trust,
        proxies,
        ..Options::default()
    };
    let consul = Consul::new(Http::new(options), &base, token, &settings.datacenter).in_namespace(&namespace);
    Ok(match auth {
        Some(auth) => consul.with_auth(&auth),
        None => consul,
    })
}

/// What a proxy in front of Consul wants to see.
fn auth(config: &Config, settings: &Settings, environment: &Environment) -> Result<Option<Secret>, ConfigError> {
    let own = config.secret("consul.auth", settings.auth.as_ref(), settings.auth_file.as_deref())?;
    let (auth, whose) = match own {
        Some(own) => (Some(own), ""),
        None => (environment.auth.clone(), "CONSUL_HTTP_AUTH: "),
    };
    if auth.as_ref().is_some_and(|auth| !is_user_and_password(auth)) {
        let what = format!("{whose}is not user:password in printable characters");
        return Err(config.error("consul.auth", what));
    }
    Ok(auth)
}

/// The namespace, after a look at it and at the datacenter.
fn names(config: &Config, settings: &Settings, environment: &Environment) -> Result<String, ConfigError> {
    let mut problems = Problems::new(config);
    let namespace = match settings.namespace.trim() {
        "" => environment.namespace.clone().unwrap_or_default(),
        own => own.to_string(),
    };
    for (key, name) in [("consul.datacenter", settings.datacenter.trim()), ("consul.namespace", namespace.as_str())] {
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            let what = format!("{} cannot be a name in Consul; use letters, digits, `-` and `_`", quoted(name));
            problems.refuse(key, what);
        }
    }
    problems.unless_any(namespace)
}

fn is_user_and_password(auth: &Secret) -> bool {
    let text = auth.expose().trim();
    text.split_once(':').is_some_and(|(user, _)| !user.is_empty()) && !text.chars().any(char::is_control)
}

/// The prefix of the nodes' keys, without slashes at its ends. Errors: a prefix that Consul may refuse or rewrite.
pub fn prefix(config: &Config) -> Result<String, ConfigError> {
    let settings: Settings = config.section("consul")?;
    let prefix = settings.prefix.trim_end_matches('/');
    if usable_key(prefix) {
        return Ok(prefix.to_string());
    }
    let what = format!(
        "\"{prefix}\" cannot be a prefix; use letters, digits, `_`, `-`, `.` and single slashes between them, such as \"watchdog/nodes\""
    );
    Err(config.error("consul.prefix", what))
}

/// True for a key that every version of Consul takes as it is (key names are validated since 1.21).
pub fn usable_key(key: &str) -> bool {
    let fits = |part: &str| {
        let known = part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        known && !part.is_empty() && part != "." && part != ".."
    };
    key.len() <= 256 && key.split('/').all(fits)
}

/// `host:port`, `http://…` or `https://…` as the base of every URL, without a slash at its end.
fn address(text: &str, ssl: bool) -> Result<String, String> {
    const LIKE: &str = "write for example \"http://127.0.0.1:8500\"";
    let text = match text.trim() {
        "" => "127.0.0.1:8500",
        text => text,
    };
    if text.starts_with("unix:") {
        return Err(format!("Consul is not asked over a unix socket; {LIKE}"));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = match (scheme, ssl) {
        ("http", false) => "http",
        ("http" | "https", _) => "https",
        _ => return Err(format!("{} is neither http nor https; {LIKE}", quoted(&format!("{scheme}://")))),
    };
    let rest = rest.trim_end_matches('/');
    let base = format!("{scheme}://{rest}");
    // What stands before an @ would be a password, and is shown nowhere, so not even here.
    if rest.contains('@') {
        return Err("holds a user or password; give a token by consul.token, or consul.auth for a proxy".to_string());
    }
    if rest.contains('?') {
        return Err(format!("{} is not an address: it has a query; {LIKE}", quoted(text)));
    }
    form::url(&base).map_err(|what| format!("{} is not an address: it {what}", quoted(text)))?;
    Ok(base)
}

fn token(config: &Config, settings: &Settings, environment: &Environment) -> Result<Token, ConfigError> {
    let file = settings.token_file.as_deref().filter(|path| !path.as_os_str().is_empty());
    // Also where the file is what counts: both at once, and a file that cannot be used, are told at the start.
    let own = config.secret("consul.token", settings.token.as_ref(), file)?;
    match (own, file, &environment.token_file, &environment.token) {
        (Some(first), Some(path), _, _) => Ok(Token::file(path, Some(first))),
        (Some(own), None, _, _) => Ok(Token::fixed(own)),
        (None, _, Some(path), _) => {
            let first = Secret::resolve("CONSUL_HTTP_TOKEN", None, Some(path))
                .map_err(|what| config.error("consul.token", format!("CONSUL_HTTP_TOKEN_FILE: {what}")))?;
            Ok(Token::file(path, first))
        }
        (None, _, None, Some(theirs)) => Ok(Token::fixed(theirs.clone())),
        (None, _, None, None) => Ok(Token::none()),
    }
}

/// The token of every call, from wherever it comes.
#[derive(Debug, Default)]
pub struct Token {
    file: Option<PathBuf>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    token: Option<Secret>,
    /// The file as it was when the token was read.
    stamp: Option<Stamp>,
}

/// Modification in seconds and nanoseconds, inode, size: a replaced or rewritten file differs in one.
type Stamp = (i64, i64, u64, u64);

impl Token {
    /// No token: that of the agent, or the anonymous one.
    pub fn none() -> Token {
        Token::default()
    }

    /// This token for ever.
    pub fn fixed(token: Secret) -> Token {
        Token { file: None, held: Mutex::new(Held { token: Some(token), stamp: None }) }
    }

    /// Whatever the file holds; `first` until it has been read once.
    pub fn file(path: &Path, first: Option<Secret>) -> Token {
        Token { file: Some(path.to_path_buf()), held: Mutex::new(Held { token: first, stamp: None }) }
    }

    /// The token to use now.
    pub fn current(&self) -> Option<Secret> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.file {
            let stamp = std::fs::metadata(path).ok().map(|m| (m.mtime(), m.mtime_nsec(), m.ino(), m.size()));
            if stamp.is_some()
                && stamp != held.stamp
                && let Ok(token) = Secret::again(path)
            {
                *held = Held { token: Some(token), stamp };
            }
        }
        held.token.clone()
    }

    /// Reads the file again at the next call even if it looks unchanged: the token was refused.
    pub fn distrust(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).stamp = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_consul_s_own_tools_read_them() {
        for (text, ssl, base) in [
            ("", false, "http://127.0.0.1:8500"),
            ("10.0.0.1:8500", false, "http://10.0.0.1:8500"),
            ("consul.example:8501", true, "https://consul.example:8501"),
            ("http://consul:8500/", true, "https://consul:8500"),
            ("https://consul/proxy/", false, "https://consul/proxy"),
            ("[::1]:8500", false, "http://[::1]:8500"),
        ] {
            assert_eq!(address(text, ssl).as_deref(), Ok(base), "{text}");
        }
        for (text, word) in [
            ("unix:///run/consul.sock", "unix socket"),
            ("ftp://consul", "neither http nor https"),
            ("http://a:secret@consul:8500", "consul.token"),
            ("http://", "not an address"),
            ("http://consul:8500?dc=x", "not an address"),
            ("a b", "not an address"),
        ] {
            let what = address(text, false).unwrap_err();
            assert!(what.contains(word) && !what.contains("secret"), "{text}: {what}");
        }
    }

    #[test]
    fn a_token_that_cannot_travel_is_refused_without_being_shown() {
        let config = Config::from_toml("[consul]\ntoken = \"canary canary\"").unwrap();
        let what = connect(&config, Duration::from_secs(1)).unwrap_err().to_string();
        assert!(what.contains("consul.token") && !what.contains("canary"), "{what}");
    }

    #[test]
    fn keys_that_some_consul_would_refuse_or_rewrite_are_not_used() {
        for good in ["watchdog/nodes", "a", "oracle-watchdog/nodes/n1.example_2"] {
            assert!(usable_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/../b", ".", "a b", "a?b", "ä", &"x".repeat(300)] {
            assert!(!usable_key(bad), "{bad}");
        }
    }

    #[test]
    fn a_token_file_is_read_again_when_it_changes_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let token = Token::file(&path, None);
        let shown = |token: &Token| token.current().map(|secret| secret.expose().to_string());
        assert_eq!(shown(&token).as_deref(), Some("one"));
        // As a rotation does it: a new file in the place of the old one.
        std::fs::write(dir.path().join("new"), "two\n").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(shown(&token).as_deref(), Some("two"));
        std::fs::write(&path, "").unwrap();
        assert_eq!(shown(&token).as_deref(), Some("two"), "half-written: the old one stays");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(shown(&token).as_deref(), Some("two"));
        std::fs::write(&path, "canary").unwrap();
        assert_eq!(shown(&token).as_deref(), Some("canary"));
        assert!(!format!("{token:?}").contains("canary"));
    }
}
