//! Targets as people write them, read strictly: what is accepted means one thing to everybody (T9).
//!
//! A target is `scheme://…`. No credentials, no fragment, no backslash, no blank, ASCII only. A host is a
//! name of letters, digits, hyphens, dots and underscores, an IPv4 address in four plain decimal
//! numbers, or an IPv6 address in brackets: everything that resolvers read in ways of their own
//! (`2130706433`, `0x7f.1`, `0177.0.0.1`) is refused with the right form. Whether the host may be
//! talked to at all is decided on its addresses, in [`resolve`](crate::client::resolve).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::http::Uri;

use super::types::Type;

/// A host and, where one was given, a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The name or address, IPv6 without brackets.
    pub host: String,
    /// The port, not zero.
    pub port: Option<u16>,
}

impl Place {
    /// The address, when the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Reads `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.
    pub fn parse(text: &str) -> Result<Place, String> {
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((inner, rest))) => {
                let address: Ipv6Addr = inner.parse().map_err(|_| format!("\"{inner}\" is not an IPv6 address"))?;
                (address.to_string(), rest)
            }
            Some(None) => return Err("the bracket is not closed".to_string()),
            None => match text.split_once(':') {
                Some((host, _)) => (name(host)?, text.get(host.len()..).unwrap_or_default()),
                None => (name(text)?, ""),
            },
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return Err(format!("\"{port}\" after the host is not a port")),
            Some(digits) => Some(number(digits)?),
        };
        Ok(Place { host, port })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// What a probe looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A whole http or https URL and its place.
    Url(Uri, Place),
    /// A host and a port.
    Port(Place),
    /// A name to look up.
    Name(String),
}

impl Target {
    /// Reads the target of a probe of this type. Errors say what is wrong and the right form, and
    /// never repeat what may be a secret.
    pub fn parse(text: &str, kind: Type) -> Result<Target, String> {
        plain(text)?;
        let right = kind.example();
        let (scheme, rest) = split(text).ok_or_else(|| format!("has no scheme; write for example \"{right}\""))?;
        if !kind.schemes().contains(&scheme.as_str()) {
            return Err(format!("{scheme}:// is not for a {kind} probe; write for example \"{right}\""));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let place = Place::parse(authority).map_err(|e| format!("{e}; write for example \"{right}\""))?;
        match kind {
            Type::Http => {
                let uri = format!("{scheme}://{place}{}{path}", if path.starts_with('/') { "" } else { "/" });
                let uri = uri.parse().map_err(|_| format!("is not a usable URL; write for example \"{right}\""))?;
                Ok(Target::Url(uri, place))
            }
            _ if !path.is_empty() => Err(format!("has a path; write for example \"{right}\"")),
            Type::Dns | Type::Icmp if place.port.is_some() => Err(format!("has a port; write for example \"{right}\"")),
            Type::Dns if place.address().is_some() => {
                Err(format!("is an address already; give a name, for example \"{right}\""))
            }
            Type::Dns => Ok(Target::Name(place.host)),
            Type::Tcp if place.port.is_none() => Err(format!("has no port; write for example \"{right}\"")),
            _ => Ok(Target::Port(place)),
        }
    }

    /// The host and port as one text, the port of the scheme where none is written: what all checks of one server have
    /// in common. `None` for a name that is only looked up, and for a host without a port.
    pub fn endpoint(&self) -> Option<String> {
        let (place, usual) = match self {
            Target::Url(uri, place) => (place, Some(if uri.scheme_str() == Some("https") { 443 } else { 80 })),
            Target::Port(place) => (place, None),
            Target::Name(_) => return None,
        };
        let port = place.port.or(usual)?;
        let host = place.host.strip_suffix('.').unwrap_or(&place.host).to_string();
        Some(Place { host, port: Some(port) }.to_string())
    }

    /// The host and port talked to; `None` for a name that is only looked up.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Target::Url(_, place) | Target::Port(place) => Some(place),
            Target::Name(_) => None,
        }
    }
}

/// For people: no query, at most 80 characters.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Target::Url(uri, place) if uri.path() == "/" => place.to_string(),
            Target::Url(uri, place) => format!("{place}{}", uri.path()),
            Target::Port(place) => place.to_string(),
            Target::Name(name) => name.clone(),
        };
        match text.char_indices().nth(80) {
            Some((end, _)) => write!(f, "{}…", text.get(..end).unwrap_or_default()),
            None => f.write_str(&text),
        }
    }
}

/// The scheme in lower case and what follows `://`.
pub fn split(text: &str) -> Option<(String, &str)> {
    text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest))
}

/// Refuses characters that different readers take for different things.
fn plain(text: &str) -> Result<(), String> {
    if text.len() > 2_000 {
        return Err("is longer than 2000 characters".to_string());
    }
    if !text.is_ascii() {
        return Err("has characters beyond ASCII; write names in their xn-- form and paths with %".to_string());
    }
    if text.bytes().any(|b| b.is_ascii_control() || b == b' ') {
        return Err("has a blank or a control character; write %20 in a path".to_string());
    }
    for (c, what) in [
        ('@', "credentials or an @; write %40 in a path and use `user` and `password` for credentials"),
        ('#', "a fragment"),
        ('\\', "a backslash"),
    ] {
        if text.contains(c) {
            return Err(format!("has {what}"));
        }
    }
    Ok(())
}

/// A host name or a plain IPv4 address.
fn name(host: &str) -> Result<String, String> {
    let host = host.to_ascii_lowercase();
    let bare = host.strip_suffix('.').unwrap_or(&host);
    if bare.is_empty() || bare.len() > 253 {
        return Err("has no host".to_string());
    }
    let last = bare.rsplit('.').next().unwrap_or(bare);
    // Anything that ends in a number is an address to some reader: it must be one to all.
    let numeric = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if numeric {
        return match host.parse::<Ipv4Addr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => Err(format!("\"{host}\" is not an IPv4 address in four plain decimal numbers")),
        };
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if bare.split('.').all(is_label) { Ok(host) } else { Err("the host is not a plain name or address".to_string()) }
}

fn number(digits: &str) -> Result<u16, String> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(port) if plain && port > 0 => Ok(port),
        _ => Err("the port is not a number from 1 to 65535".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these would reach some other host with some reader, or leak a credential.
    const TRICKS: &[&str] = &[
        "http://user@169.254.169.254/",
        "http://user:secret@db/",
        "http://example.org@169.254.169.254/",
        "http://example.org:80@169.254.169.254/",
        "http://169.254.169.254@example.org/",
        "http://example.org%40169.254.169.254@x/",
        "http://example.org#@169.254.169.254/",
        "http://example.org/#fragment",
        "http://169.254.169.254#.example.org/",
        "http://example.org\\@169.254.169.254/",
        "http://169.254.169.254\\.example.org/",
        "http:\\\\169.254.169.254/",
        "http://2852039166/",
        "http://2130706433:80/",
        "http://0xa9fea9fe/",
        "http://0XA9FEA9FE/",
        "http://0x7f000001/",
        "http://0x/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "http://169.254.0xa9fe/",
        "http://0251.0376.0251.0376/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://127.1/",
        "http://127.0.1/",
        "http://169.254.43518/",
        "http://169.16689662/",
        "http://00169.254.169.254/",
        "http://169.254.169.0254/",
        "http://256.256.256.256/",
        "http://169.254.169.254./",
        "http://0xa9fea9fe./",
        "http://1.2.3.4.5/",
        "http://example.0x10/",
        "http://[::ffff:169.254.169.254/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1]evil.org/",
        "http://[::1]@169.254.169.254/",
        "http://[127.0.0.1]/",
        "http://[v1.fe80::a]/",
        "http://[]/",
        "http://::1/",
        "http://fe80::1/",
        "http://example.org:/",
        "http://example.org:0/",
        "http://example.org:65536/",
        "http://example.org:+80/",
        "http://example.org:80:81/",
        "http://example.org:8O/",
        "http://exa mple.org/",
        "http://example.org /",
        "http://example.org/a b",
        "http://example.org\t/",
        "http://example.org/\r\nHost: evil",
        "http://example.org\0.evil.org/",
        "http://example。org/",
        "http://①⑥⑨.254.169.254/",
        "http://еxample.org/",
        "http://%31%36%39.254.169.254/",
        "http://example%2eorg/",
        "http://a..b/",
        "http://.example.org/",
        "http://./",
        "http:///etc/passwd",
        "http://?x",
        "http:/example.org/",
        "http:example.org/",
        "//example.org/",
        "example.org",
        "",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "ftp://example.org/",
        "dict://127.0.0.1:11211/",
        "unix:///var/run/docker.sock",
        "javascript://x/",
        "httpx://example.org/",
        "http://ex*mple.org/",
        "http://example.org;evil/",
        "http://exa,mple/",
        "http://$host/",
        "http://{a,b}/",
    ];

    #[test]
    fn no_url_trick_is_accepted() {
        assert!(TRICKS.len() >= 60);
        for trick in TRICKS {
            let error = Target::parse(trick, Type::Http).expect_err(trick);
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(Target::parse(&format!("http://{}/", "a".repeat(64)), Type::Http).is_err());
        assert!(Target::parse(&format!("http://a/{}", "a".repeat(3000)), Type::Http).is_err());
    }

    #[test]
    fn an_accepted_url_has_one_host_for_us_and_for_the_client() {
        for (text, host, port, short) in [
            ("http://example.org", "example.org", None, "example.org"),
            ("HTTPS://Example.ORG:8443/Health?token=x", "example.org", Some(8443), "example.org:8443/Health"),
            ("http://127.0.0.1:80/", "127.0.0.1", Some(80), "127.0.0.1:80"),
            ("http://[::1]:9/x", "::1", Some(9), "[::1]:9/x"),
            ("http://[0:0:0:0:0:FFFF:a9fe:a9fe]/", "::ffff:169.254.169.254", None, "[::ffff:169.254.169.254]"),
            ("http://my_service/", "my_service", None, "my_service"),
            ("http://example.org.:80?q=/a", "example.org.", Some(80), "example.org.:80"),
            ("http://xn--bcher-kva.example/", "xn--bcher-kva.example", None, "xn--bcher-kva.example"),
        ] {
            let target = Target::parse(text, Type::Http).expect(text);
            assert_eq!(target.to_string(), short);
            let Target::Url(uri, place) = target else { panic!("{text}") };
            assert_eq!((place.host.as_str(), place.port), (host, port), "{text}");
            assert_eq!(uri.host().unwrap().trim_matches(['[', ']']), host, "{text}");
            assert_eq!(uri.port_u16(), port, "{text}");
        }
    }

    #[test]
    fn checks_of_one_server_have_one_endpoint() {
        let endpoint = |text: &str, kind| Target::parse(text, kind).unwrap().endpoint();
        for (text, kind, same) in [
            ("https://example.org/health?x", Type::Http, Some("example.org:443")),
            ("https://Example.org./", Type::Http, Some("example.org:443")),
            ("http://127.0.0.1/", Type::Http, Some("127.0.0.1:80")),
            ("tcp://127.0.0.1:80", Type::Tcp, Some("127.0.0.1:80")),
            ("tcp://[::1]:80", Type::Tcp, Some("[::1]:80")),
            ("dns://example.org", Type::Dns, None),
            ("icmp://example.org", Type::Icmp, None),
        ] {
            assert_eq!(endpoint(text, kind).as_deref(), same, "{text}");
        }
    }

    #[test]
    fn each_type_wants_its_own_form() {
        assert!(Target::parse("tcp://db:5432", Type::Tcp).is_ok());
        assert!(Target::parse("tcp://db", Type::Tcp).unwrap_err().contains("no port"));
        assert!(Target::parse("tcp://db:5432/x", Type::Tcp).unwrap_err().contains("path"));
        assert!(Target::parse("dns://example.org", Type::Dns).is_ok());
        assert!(Target::parse("dns://127.0.0.1", Type::Dns).unwrap_err().contains("address"));
        assert!(Target::parse("dns://example.org:53", Type::Dns).unwrap_err().contains("port"));
        assert!(Target::parse("tls://example.org", Type::Tls).is_ok());
        assert!(Target::parse("icmp://[::1]", Type::Icmp).is_ok());
        assert!(Target::parse("icmp://gateway:1", Type::Icmp).unwrap_err().contains("port"));
        assert!(Target::parse("http://db:5432", Type::Tcp).unwrap_err().contains("tcp://"));
    }
}
