//! Which requests go through an HTTP proxy: a client's own `proxy` key, else `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`.
//!
//! A key counts for everything its client asks; the environment never for this machine (`localhost`, loopback) and
//! never for a name without a dot, which only this network knows. Lower case wins over upper case, as with curl;
//! `HTTP_PROXY` in capitals is left out where `REQUEST_METHOD` is set, because there a visitor may have chosen it.
//! User and password of a proxy are secrets: nothing here shows them. See `adr/0030-proxies.md`.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::http::Uri;

use crate::config::value::Secret;
use crate::config::{Config, ConfigError};

/// What stands in a `proxy` key for no proxy at all, whatever the environment says.
const NONE: &str = "none";

/// One HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    pub credentials: Option<Secret>,
}

/// Without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Proxy {
    /// Reads `http://user:password@host:port`; without a scheme it is http, without a port 80. Errors repeat nothing
    /// that was written.
    pub fn parse(text: &str) -> Result<Proxy, String> {
        const RIGHT: &str = "write for example \"http://proxy.example:3128\"";
        let text = text.trim();
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(format!("a proxy is spoken to by http, not by https; {RIGHT}"));
            }
            Some((scheme, _)) if scheme.to_ascii_lowercase().starts_with("socks") => {
                return Err(format!("a SOCKS proxy cannot be used, only an HTTP proxy; {RIGHT}"));
            }
            Some(_) => return Err(format!("is not the address of an HTTP proxy; {RIGHT}")),
        };
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let wrong = || format!("is not the address of an HTTP proxy; {RIGHT}");
        let uri: Uri = format!("http://{place}/").parse().map_err(|_| wrong())?;
        let host = uri.host().map(|host| host.trim_matches(['[', ']'])).filter(|host| !host.is_empty());
        let (Some(host), "/", None) = (host, uri.path(), uri.query()) else { return Err(wrong()) };
        let port = match (uri.port_u16(), place.rsplit_once(':')) {
            (Some(0), _) => return Err(wrong()),
            (Some(port), _) => port,
            // A port that cannot be read is not the default.
            (None, Some((_, end))) if !end.ends_with(']') => return Err(wrong()),
            (None, _) => 80,
        };
        let credentials = credentials.map(|credentials| {
            let plain = |part: &str| percent_encoding::percent_decode_str(part).collect::<Vec<u8>>();
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            let both = [plain(user), vec![b':'], plain(password)].concat();
            Secret::new(format!("Basic {}", STANDARD.encode(both)))
        });
        Ok(Proxy { host: host.to_ascii_lowercase(), port, credentials })
    }
}

/// What the environment says about proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    http: Option<Arc<Proxy>>,
    https: Option<Arc<Proxy>>,
    except: Vec<Except>,
}

impl Environment {
    /// The variables that the program was started with.
    ///
    /// Errors: a proxy that cannot be used, by the name of its variable and without its value.
    pub fn of(config: &Config) -> Result<Environment, ConfigError> {
        let read = |name: &'static str| config.variable(name).filter(|value| !value.trim().is_empty());
        let either = |lower, upper| read(lower).map(|value| (lower, value)).or(read(upper).map(|v| (upper, v)));
        let proxy = |found: Option<(&'static str, &str)>| match found {
            None => Ok(None),
            Some((name, value)) => match Proxy::parse(value) {
                Ok(proxy) => Ok(Some(Arc::new(proxy))),
                Err(what) => Err(config.error("proxy", format!("{name}: {what}"))),
            },
        };
        let upper = if config.variable("REQUEST_METHOD").is_some() { "http_proxy" } else { "HTTP_PROXY" };
        let except = either("no_proxy", "NO_PROXY").map(|(_, text)| text).unwrap_or_default();
        Ok(Environment {
            http: proxy(either("http_proxy", upper))?,
            https: proxy(either("https_proxy", "HTTPS_PROXY"))?,
            except: except.split([',', ' ']).filter_map(Except::parse).collect(),
        })
    }

    fn route(&self, uri: &Uri) -> Option<&Arc<Proxy>> {
        let is_https = uri.scheme_str() == Some("https");
        let proxy = if is_https { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = uri.host()?.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let is_near = match address {
            Some(address) => address.is_loopback() || address.is_unspecified(),
            None => !host.contains('.') || host.ends_with(".localhost"),
        };
        let is_except = self.except.iter().any(|except| except.holds(&host, address, port));
        Some(proxy).filter(|_| !is_near && !is_except)
    }
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Except {
    All,
    /// A domain and everything below it.
    Domain(String, Option<u16>),
    Address(IpAddr, Option<u16>),
    Network(IpAddr, u8),
}

impl Except {
    fn parse(text: &str) -> Option<Except> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Except::All);
        }
        if let Some((address, bits)) = text.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.trim_matches(['[', ']']).parse::<IpAddr>(), bits.parse::<u8>())
        {
            return Some(Except::Network(address, bits));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Except::Address(address.to_canonical(), None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host.to_string(), Some(port.parse().ok()?)),
            None => (text, None),
        };
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Except::Address(address.to_canonical(), port));
        }
        let domain = host.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.').to_string();
        (!domain.is_empty()).then_some(Except::Domain(domain, port))
    }

    fn holds(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let same_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Except::All => true,
            Except::Domain(domain, wanted) => {
                let below = host.strip_suffix(domain.as_str());
                same_port(wanted) && below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Except::Address(wanted, wanted_port) => same_port(wanted_port) && address == Some(*wanted),
            Except::Network(network, bits) => address.is_some_and(|address| within(address, *network, *bits)),
        }
    }
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((address, width), (network, other)) = (number(address), number(network));
    if width != other || bits > width {
        return false;
    }
    bits == 0 || (address ^ network) >> (128 - u32::from(bits)) == 0
}

/// How one client gets to where it asks.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    own: Own,
    environment: Environment,
}

#[derive(Debug, Clone, Default)]
enum Own {
    /// Nothing is set: what the environment says.
    #[default]
    Unset,
    Direct,
    By(Arc<Proxy>),
}

impl Proxies {
    /// Everything directly.
    pub fn direct() -> Arc<Proxies> {
        Arc::default()
    }

    /// What the environment says, unless `own` (a `proxy` key) says otherwise: a proxy, or `none`. Errors say what is
    /// wrong with `own`, without repeating it.
    pub fn new(own: Option<&str>, environment: Environment) -> Result<Proxies, String> {
        let own = match own.map(str::trim).filter(|own| !own.is_empty()) {
            None => Own::Unset,
            Some(NONE) => Own::Direct,
            Some(proxy) => Own::By(Arc::new(Proxy::parse(proxy)?)),
        };
        Ok(Proxies { own, environment })
    }

    /// The same for the key `key` of the configuration and its twin `<key>_file`.
    pub fn of(
        config: &Config,
        key: &str,
        own: Option<&Secret>,
        file: Option<&Path>,
    ) -> Result<Arc<Proxies>, ConfigError> {
        let own = config.secret(key, own, file)?;
        let proxies = Proxies::new(own.as_ref().map(Secret::expose), Environment::of(config)?);
        proxies.map(Arc::new).map_err(|what| config.error(key, what))
    }

    /// The proxy for this address; `None`: directly.
    pub fn route(&self, uri: &Uri) -> Option<&Arc<Proxy>> {
        match &self.own {
            Own::Unset => self.environment.route(uri),
            Own::Direct => None,
            Own::By(proxy) => Some(proxy),
        }
    }

    /// The same for a URL as text; for people, so one that cannot be read has none.
    pub fn route_of(&self, url: &str) -> Option<&Arc<Proxy>> {
        self.route(&url.parse::<Uri>().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(environment: &Environment, url: &str) -> bool {
        environment.route(&url.parse().unwrap()).is_some()
    }

    fn by(no_proxy: &str) -> Environment {
        let proxy = Some(Arc::new(Proxy::parse("http://proxy:3128").unwrap()));
        let except = no_proxy.split([',', ' ']).filter_map(Except::parse).collect();
        Environment { http: proxy.clone(), https: proxy, except }
    }

    #[test]
    fn a_proxy_is_read_strictly_and_its_password_is_shown_nowhere() {
        for (text, shown, credentials) in [
            ("http://proxy.example:3128", "proxy.example:3128", None),
            ("proxy.example:3128/", "proxy.example:3128", None),
            ("HTTP://proxy.example", "proxy.example:80", None),
            ("http://[::1]:3128", "[::1]:3128", None),
            ("http://u:p%40ss@10.0.0.1:3128", "10.0.0.1:3128", Some("Basic dTpwQHNz")),
            ("http://u@10.0.0.1:3128", "10.0.0.1:3128", Some("Basic dTo=")),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!(proxy.to_string(), shown, "{text}");
            assert_eq!(proxy.credentials.as_ref().map(Secret::expose), credentials, "{text}");
            assert!(!format!("{proxy:?}").contains("dTp"), "{proxy:?}");
        }
        for text in [
            "",
            "http://",
            "https://canary@p:1",
            "socks5://canary:x@p:1",
            "ftp://p:1",
            "http://p:99999",
            "http://p:0",
            "http://p:1/canary",
            "http://p:1?canary",
            "http://a b:1",
            "http://canary:canary@",
        ] {
            let what = Proxy::parse(text).unwrap_err();
            assert!(what.contains("http://proxy.example:3128") && !what.contains("canary"), "{text}: {what}");
        }
    }

    #[test]
    fn the_environment_never_takes_this_machine_or_a_plain_name_to_a_proxy() {
        let environment = by("");
        for near in [
            "http://localhost/",
            "http://127.0.0.1:80/",
            "http://127.9.9.9/",
            "http://[::1]:8080/",
            "https://app.localhost/",
            "http://web:8080/",
            "http://[::ffff:127.0.0.1]/",
            "http://LOCALHOST./",
        ] {
            assert!(!route(&environment, near), "{near}");
        }
        for far in ["http://example.org/", "https://10.0.0.1/", "http://web.internal/", "https://[2001:db8::1]/"] {
            assert!(route(&environment, far), "{far}");
        }
    }

    #[test]
    fn exceptions_are_domains_ports_addresses_and_networks() {
        let table = [
            ("*", "https://example.org/", false),
            ("example.org", "https://example.org/", false),
            ("example.org", "https://a.example.org./", false),
            ("EXAMPLE.org", "https://a.EXAMPLE.ORG/", false),
            ("example.org", "https://badexample.org/", true),
            (".example.org", "https://a.example.org/", false),
            (".example.org", "https://example.org/", false),
            ("*.example.org", "https://a.example.org/", false),
            ("example.org:8443", "https://example.org:8443/", false),
            ("example.org:8443", "https://example.org/", true),
            ("example.org:443", "https://example.org/", false),
            ("a.net, example.org b.net", "https://example.org/", false),
            ("10.0.0.0/8", "http://10.200.0.1/", false),
            ("10.0.0.0/8", "http://11.0.0.1/", true),
            ("10.0.0.1", "http://10.0.0.1:81/", false),
            ("10.0.0.1:80", "http://10.0.0.1:81/", true),
            ("10.0.0.0/0", "http://8.8.8.8/", false),
            ("10.0.0.0/99", "http://10.0.0.1/", true),
            ("2001:db8::/32", "http://[2001:db8:1::1]/", false),
            ("2001:db8::/32", "http://[2001:db9::1]/", true),
            ("[2001:db8::1]:80", "http://[2001:db8::1]/", false),
            ("10.0.0.0/8", "http://ten.example/", true),
            ("", "http://example.org/", true),
            (",,", "http://example.org/", true),
        ];
        for (no_proxy, url, proxied) in table {
            assert_eq!(route(&by(no_proxy), url), proxied, "{no_proxy} {url}");
        }
    }

    #[test]
    fn a_clients_own_key_wins_over_the_environment() {
        let own = Proxies::new(Some("http://own:1"), by("*")).unwrap();
        assert_eq!(own.route_of("http://127.0.0.1/").unwrap().to_string(), "own:1");
        assert!(Proxies::new(Some("none"), by("")).unwrap().route_of("http://example.org/").is_none());
        assert!(Proxies::new(Some(" "), by("")).unwrap().route_of("http://example.org/").is_some());
        assert!(Proxies::new(Some("socks5://x"), by("")).is_err());
    }
}
