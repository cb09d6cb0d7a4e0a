//! `[[probe]]` and `deps`: what people may write, read into probes that are ready to look.
//!
//! Everything that can be known to be wrong is said here, with the key and the right form, and all of
//! it at once; nothing is looked up or connected to. A key that does nothing for a probe's type is
//! refused rather than ignored. How probes are put together is in `read.rs` and `build.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::target::split;

pub use super::types::Type;
use crate::config::schema::{Kind, Setting};
use crate::config::value::{Secret, Span};
use crate::config::{Config, ConfigError};
use crate::core::rule::{FAIL_AFTER, RECOVER_AFTER};
use crate::core::signal::Severity;

crate::settings! {
    /// One thing to check from outside, as the signal `probe/<name>`. `deps` is the short form.
    pub struct Settings {
        /// The name in `probe/<name>`: letters, digits, `.`, `_`, `-`, at most 100. Required.
        name: String = String::new(),
        /// http, tcp, dns, tls, icmp or exec. Default: what the target's scheme says, or exec when there is a command.
        r#type: Option<Type> = None,
        /// https://host/path, tcp://host:port, dns://name, tls://host:port (443) or icmp://host. Required, except for exec.
        /// A name with a dot is looked up as written, one without through the search list of resolv.conf. Where its
        /// `ndots` is larger than the number of dots, as in Kubernetes, the search domains of the cluster (svc.…) count, too.
        target: String = String::new(),
        /// How often to check, at least 100ms. Default: `tick`.
        interval: Option<Span> = None,
        /// Time limit of one check, from 10ms to 5m. Default: the top-level `timeout`.
        timeout: Option<Span> = None,
        /// Failed checks in a row before the alert, at least 1.
        fail_after: u32 = FAIL_AFTER,
        /// Passed checks in a row before the recovery, at least 1.
        recover_after: u32 = RECOVER_AFTER,
        /// How much it matters: critical, warning or info.
        severity: Severity = Severity::Critical,
        /// What whoever is woken by it should know, in one line: it stands in each message about it.
        note: String = String::new(),
        /// Where the instructions for it are: an http or https URL, which stands in each message about it.
        runbook: String = String::new(),
        /// Least time between two reminders of it; 0 = never again. Default: the cooldown of its severity.
        cooldown: Option<Span> = None,
        /// http, tcp, tls, icmp, and the server of dns: link-local and cloud metadata addresses may be talked to.
        allow_link_local: bool = false,
        /// http: GET or HEAD.
        method: Method = Method::Get,
        /// http: status codes that count as OK, single or as ranges. A redirect counts only if it is listed or followed.
        status: Vec<String> = vec!["200-299".to_string()],
        /// http: text that the body must hold, byte for byte.
        body_contains: Option<String> = None,
        /// http: text that the body must not hold, byte for byte.
        body_not_contains: Option<String> = None,
        /// http: JSON pointer (/status/db) to what must be in the body; alone: must be there and be neither null nor false.
        json_pointer: Option<String> = None,
        /// http: what must stand at json_pointer: a text, or JSON.
        json_equals: Option<String> = None,
        /// http: an answer slower than this counts as failed.
        max_latency: Option<Span> = None,
        /// http: redirects to follow, 0 to 10; each hop's address is checked like the first.
        follow_redirects: u32 = 0,
        /// http: headers to send. A secret belongs in a file, named by the header's name with _file behind it:
        /// { X-Api-Key_file = "/run/secrets/key" }.
        headers: BTreeMap<String, String> = BTreeMap::new(),
        /// http: value of the Authorization header: Bearer abc.
        authorization: Option<Secret> = None,
        /// http: file that holds authorization.
        authorization_file: Option<PathBuf> = None,
        /// http: user name, sent with the password as HTTP Basic authentication.
        user: Option<String> = None,
        /// http: the password of user.
        password: Option<Secret> = None,
        /// http: file that holds password.
        password_file: Option<PathBuf> = None,
        /// http: HTTP proxy to ask through: http://host:port, or none. Default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
        proxy: Option<Secret> = None,
        /// http: file that holds proxy.
        proxy_file: Option<PathBuf> = None,
        /// http: keep the connection for the next check. Cheaper, but that a new connection comes about is then
        /// checked only when the old one has ended.
        keep_alive: bool = false,
        /// http: bytes of body read at most, when the body is asked about at all; up to 8388608.
        body_limit: u64 = 1024 * 1024,
        /// http, tls: PEM file with the only authorities that may sign the peer's certificate, or with that certificate
        /// itself. Default: the bundled authorities.
        ca_file: Option<PathBuf> = None,
        /// http, tls: SHA-256 fingerprint of the one certificate that is accepted, in hex. Then neither its authority
        /// nor its name counts, and its dates only for a tls probe.
        tls_fingerprint: Option<String> = None,
        /// http, tls: PEM file with the certificate to show to a peer that wants one, and those that sign it.
        client_cert: Option<PathBuf> = None,
        /// http, tls: PEM file with the private key of client_cert, without a passphrase.
        client_key: Option<PathBuf> = None,
        /// tcp: text to send once connected.
        send: String = String::new(),
        /// tcp: text that the first 4 KiB of the answer must hold; the same as `expect`.
        receive: String = String::new(),
        /// tcp: texts that the first 4 KiB of what the server says must hold, such as SSH-2.0. dns: addresses that must all
        /// be among the answers. One text, or a list.
        expect: Texts = Texts::default(),
        /// dns: the name server to ask, as address, address:port or name, in place of the machine's own resolver.
        server: String = String::new(),
        /// tls: fewer days than this until the certificate expires count as failed.
        min_days: u32 = 14,
        /// tls: the name to ask for. Default: the target's host.
        server_name: Option<String> = None,
        /// exec: program and arguments. Exit code 0 is OK. At the time limit it is killed with its whole process group.
        command: Vec<String> = Vec::new(),
        /// exec: the command is one line for sh -c.
        shell: bool = false,
    }
}

/// Texts, one or several.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Texts(pub Vec<String>);

impl Setting for Texts {
    const KIND: Kind = Kind::Texts;
}

/// How an http probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// The whole answer.
    Get,
    /// Its header only.
    Head,
}

impl Setting for Method {
    const KIND: Kind = Kind::Choice(&["GET", "HEAD"]);
}

/// Keys that only some types have a use for.
const ONLY: &[(&str, &[Type])] = &[
    ("allow_link_local", &[Type::Http, Type::Tcp, Type::Dns, Type::Tls, Type::Icmp]),
    ("method", &[Type::Http]),
    ("status", &[Type::Http]),
    ("body_contains", &[Type::Http]),
    ("body_not_contains", &[Type::Http]),
    ("user", &[Type::Http]),
    ("password", &[Type::Http]),
    ("password_file", &[Type::Http]),
    ("proxy", &[Type::Http]),
    ("proxy_file", &[Type::Http]),
    ("keep_alive", &[Type::Http]),
    ("tls_fingerprint", &[Type::Http, Type::Tls]),
    ("client_cert", &[Type::Http, Type::Tls]),
    ("client_key", &[Type::Http, Type::Tls]),
    ("json_pointer", &[Type::Http]),
    ("json_equals", &[Type::Http]),
    ("max_latency", &[Type::Http]),
    ("follow_redirects", &[Type::Http]),
    ("headers", &[Type::Http]),
    ("authorization", &[Type::Http]),
    ("authorization_file", &[Type::Http]),
    ("body_limit", &[Type::Http]),
    ("ca_file", &[Type::Http, Type::Tls]),
    ("send", &[Type::Tcp]),
    ("receive", &[Type::Tcp]),
    ("expect", &[Type::Tcp, Type::Dns]),
    ("server", &[Type::Dns]),
    ("min_days", &[Type::Tls]),
    ("server_name", &[Type::Tls]),
    ("command", &[Type::Exec]),
    ("shell", &[Type::Exec]),
    ("target", &[Type::Http, Type::Tcp, Type::Dns, Type::Tls, Type::Icmp]),
];

/// What is wrong with one field of a probe.
#[derive(Debug)]
pub struct Fault {
    field: &'static str,
    what: String,
}

/// A fault in `field`.
pub fn wrong(field: &'static str, what: impl Into<String>) -> Fault {
    Fault { field, what: what.into() }
}

impl Fault {
    /// The same as a problem of the probe at `key`.
    pub fn at(self, config: &Config, key: &str) -> ConfigError {
        if key == "deps" {
            return config.error(key, self.what);
        }
        let field = format!("{key}.{}", self.field);
        config.error(&field, self.what)
    }
}

/// The type of a `[[probe]]`, after a look for keys that it has no use for.
pub fn kind(config: &Config, key: &str, settings: &Settings) -> Result<Type, Fault> {
    let by_target = split(&settings.target).and_then(|(scheme, _)| Type::of_scheme(&scheme));
    let by_command = (!settings.command.is_empty()).then_some(Type::Exec);
    let Some(kind) = settings.r#type.or(by_target).or(by_command) else {
        return Err(wrong(
            "target",
            "is needed: https://host/path, tcp://host:port, dns://name, tls://host:port or icmp://host; or give a command",
        ));
    };
    for (field, types) in ONLY {
        if !types.contains(&kind) && config.is_set(&format!("{key}.{field}")) {
            let right: Vec<&str> = types.iter().map(|t| t.as_str()).collect();
            return Err(wrong(field, format!("means nothing to a probe of type {kind}, only to {}", right.join(", "))));
        }
    }
    Ok(kind)
}

/// Reads the short form `name=target`.
pub fn dependency(entry: &str) -> Result<(Settings, Type), Fault> {
    const RIGHT: &str = "write name=tcp://db:5432, name=https://host/health, name=dns://example.org, name=tls://host:443 or name=icmp://host";
    // The part that may hold a credential is not repeated.
    let shown = entry.split(['@', '?', '#']).next().filter(|head| head.len() == entry.len());
    let shown = shown.unwrap_or_else(|| entry.split('=').next().unwrap_or_default());
    let refuse = |what: &str| wrong("deps", format!("\"{}\" {what}; {RIGHT}", shown.escape_debug()));
    let (name, target) = entry.split_once('=').ok_or_else(|| refuse("has no name"))?;
    let (scheme, _) = split(target).ok_or_else(|| refuse("has no scheme"))?;
    let kind = Type::of_scheme(&scheme).ok_or_else(|| refuse("has a scheme that is not known"))?;
    let settings = Settings { name: name.trim().to_string(), target: target.trim().to_string(), ..Settings::default() };
    self::name(&settings.name).map_err(|fault| refuse(&format!("has a bad name ({})", fault.what)))?;
    super::target::Target::parse(&settings.target, kind).map_err(|what| refuse(&what))?;
    Ok((settings, kind))
}

/// The name of a probe, if it can be one.
pub fn name(name: &str) -> Result<&str, Fault> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        return Err(wrong("name", "is needed; it makes the signal probe/<name>"));
    }
    if name.len() > 100 || !name.chars().all(is_plain) {
        return Err(wrong("name", "may hold letters, digits, '.', '_' and '-' only, at most 100"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::super::Probe;
    use super::super::read::probes;
    use super::*;
    use crate::clock::Clock;
    use crate::source::Outfit;
    use crate::wake::Waker;
    use std::time::Duration;

    fn read(text: &str) -> Result<Vec<Probe>, String> {
        let config = Config::from_toml(text).map_err(|e| e.to_string())?;
        let outfit = Outfit {
            clock: Clock::system(),
            waker: Waker::new(),
            timeout: Duration::from_secs(5),
            tick: Duration::from_secs(15),
            previous_boot: None,
            seen_before: std::sync::Arc::default(),
            kept: crate::source::Kept::default(),
        };
        probes(&config, &outfit).map(|(probes, _)| probes).map_err(|e| e.to_string())
    }

    fn refused(text: &str) -> String {
        read(text).err().unwrap_or_else(|| panic!("accepted: {text}"))
    }

    #[test]
    fn short_and_long_forms_make_probes_with_the_documented_defaults() {
        let probes = read(
            r#"
            deps = ["db=tcp://db:5432", "web=https://example.org/health?token=x", "name=dns://example.org", "cert=tls://example.org"]
            [[probe]]
            name = "api"
            target = "http://api:8080/"
            [[probe]]
            name = "script"
            command = ["/usr/local/bin/check", "--secret"]
            interval = "1m"
            severity = "warning"
            "#,
        )
        .unwrap();
        let shown: Vec<String> =
            probes.iter().map(|p| format!("{} {} {:?}", p.spec.key, p.spec.title, p.pace.interval)).collect();
        assert_eq!(
            shown,
            [
                "probe/api http api:8080 15s",
                "probe/cert tls example.org 15s",
                "probe/db tcp db:5432 15s",
                "probe/name dns example.org 15s",
                "probe/script exec check 60s",
                "probe/web http example.org/health 15s",
            ]
        );
        let db = &probes[2];
        assert_eq!((db.spec.rule.fail_after, db.spec.rule.recover_after, db.spec.severity), (3, 2, Severity::Critical));
        assert_eq!(db.pace.limit, Duration::from_secs(5));
        assert_eq!(probes[4].spec.severity, Severity::Warning);
    }

    #[test]
    fn a_bad_dependency_is_named_with_the_right_form_and_without_its_credentials() {
        for entry in [
            "db",
            "db:5432",
            "=tcp://db:1",
            "db=db:5432",
            "db=udp://db:53",
            "db=tcp://db",
            "a b=tcp://db:1",
            "db=tcp://0x7f.1:1",
        ] {
            let error = refused(&format!("deps = [\"{entry}\"]"));
            assert!(error.contains("`deps`") && error.contains("write name=tcp://db:5432"), "{entry}: {error}");
            assert!(error.contains(entry), "{error}");
        }
        let error = refused(r#"deps = ["db=http://user:canary@db/"]"#);
        assert!(!error.contains("canary") && error.contains("\"db\""), "{error}");
    }

    #[test]
    fn a_name_given_twice_is_an_error_that_names_both_places() {
        let error = refused("deps = [\"db=tcp://db:1\"]\n[[probe]]\nname = \"db\"\ntarget = \"tcp://db:2\"");
        assert!(error.contains("`deps`") && error.contains("`probe[0]`"), "{error}");
    }

    #[test]
    fn every_wrong_key_is_said_at_once_and_in_its_place() {
        let table = [
            ("target = \"tcp://db:1\"", "`probe[0].name`: is needed"),
            ("name = \"a/b\"\ntarget = \"tcp://db:1\"", "`probe[0].name`: may hold"),
            ("name = \"a\"", "`probe[0].target`: is needed"),
            (
                "name = \"a\"\ntype = \"tcp\"\ntarget = \"http://db\"",
                "`probe[0].target`: http:// is not for a tcp probe",
            ),
            (
                "name = \"a\"\ntarget = \"tcp://db:1\"\nstatus = [\"200\"]",
                "`probe[0].status`: means nothing to a probe of type tcp",
            ),
            ("name = \"a\"\ntarget = \"tcp://db:1\"\nfail_after = 0", "`probe[0].fail_after`"),
            ("name = \"a\"\ntarget = \"tcp://db:1\"\ninterval = \"50ms\"", "`probe[0].interval`"),
            ("name = \"a\"\ntarget = \"tcp://db:1\"\ntimeout = \"1h\"", "`probe[0].timeout`"),
            (
                "name = \"a\"\ntarget = \"tcp://169.254.169.254:1\"",
                "`probe[0].target`: 169.254.169.254 is a link-local",
            ),
            ("name = \"a\"\ntarget = \"http://[::ffff:169.254.169.254]/\"", "`probe[0].target`"),
            ("name = \"a\"\ntarget = \"http://x/\"\nstatus = [\"2xx\"]", "`probe[0].status`"),
            ("name = \"a\"\ntarget = \"http://x/\"\njson_equals = \"1\"", "`probe[0].json_equals`"),
            ("name = \"a\"\ntarget = \"http://x/\"\njson_pointer = \"a\"", "`probe[0].json_pointer`"),
            ("name = \"a\"\ntarget = \"http://x/\"\nmethod = \"HEAD\"\nbody_contains = \"a\"", "`probe[0].method`"),
            ("name = \"a\"\ntarget = \"http://x/\"\nbody_limit = 99999999", "`probe[0].body_limit`"),
            ("name = \"a\"\ntarget = \"http://x/\"\nfollow_redirects = 11", "`probe[0].follow_redirects`"),
            ("name = \"a\"\ntarget = \"http://x/\"\nheaders = { \"a b\" = \"c\" }", "`probe[0].headers`"),
            ("name = \"a\"\ntarget = \"http://x/\"\nheaders = { Authorization = \"canary\" }", "`probe[0].headers`"),
            ("name = \"a\"\ntarget = \"http://x/\"\nca_file = \"/nonexistent\"", "`probe[0].ca_file`"),
            ("name = \"a\"\ntarget = \"dns://x\"\nexpect = [\"x\"]", "`probe[0].expect`"),
            ("name = \"a\"\ntarget = \"dns://x\"\nexpect = 5", "`probe[0].expect`: should be a list"),
            ("name = \"a\"\ntarget = \"tcp://x:1\"\nexpect = \"\"", "`probe[0].expect`"),
            ("name = \"a\"\ntarget = \"dns://x\"\nserver = \"1.2.3.4:0\"", "`probe[0].server`"),
            (
                "name = \"a\"\ntarget = \"dns://x\"\nserver = \"169.254.169.254\"",
                "`probe[0].server`: 169.254.169.254 is",
            ),
            ("name = \"a\"\ntarget = \"dns://x\"\nallow_link_local = true", "`probe[0].allow_link_local`"),
            ("name = \"a\"\ntarget = \"icmp://x:1\"", "`probe[0].target`: has a port"),
            ("name = \"a\"\ntarget = \"tls://x\"\nserver_name = \"a b\"", "`probe[0].server_name`"),
            ("name = \"a\"\ntype = \"exec\"", "`probe[0].command`"),
            ("name = \"a\"\ncommand = [\"a\", \"b\"]\nshell = true", "`probe[0].command`"),
            ("name = \"a\"\ntarget = \"tcp://db:1\"\nrunbook = \"wiki/db\"", "`probe[0].runbook`: is not an http"),
            (
                "name = \"a\"\ntarget = \"tcp://db:1\"\ncooldown = \"often\"",
                "`probe[0].cooldown`: \"often\" is not a duration",
            ),
            ("name = \"a\"\ntarget = \"http://x/\"\ncolour = \"red\"", "`probe[0].colour`: unknown key"),
        ];
        for (text, part) in table {
            let error = refused(&format!("[[probe]]\n{text}"));
            // Once it has a name, its number in the list is not said.
            let part = if text.starts_with("name") { part.replace("probe[0].", "") } else { part.to_string() };
            assert!(error.contains(&part), "{text}\n{error}");
            assert!(!error.contains("canary"), "{error}");
        }
        let error = refused("[[probe]]\nname = \"a\"\n[[probe]]\nname = \"b\"");
        assert_eq!(error.lines().count(), 2, "{error}");
    }
}
