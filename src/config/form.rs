//! Forms that a value must have to work at all, for every part of the program alike.
//!
//! Each check looks at the text, and at most whether a file is there; nothing is connected to or looked up. A
//! complaint follows the key ("`state`: is a directory; …"), says what would be right, and repeats no secret.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::value::Span;
use super::veil::quoted;

/// The longest URL.
const URL: usize = 2_000;

/// An http or https URL that can be asked: with a host, a port that exists, nothing that is sent nowhere.
///
/// # Errors
/// What keeps it from working. A user or password is refused: none would be sent.
pub fn url(text: &str) -> Result<(), String> {
    const LIKE: &str = "write for example \"https://host:8080/path\"";
    if text.len() > URL {
        return Err(format!("is longer than {URL} characters"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("is not an http or https URL; {LIKE}"));
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(format!("is not an http or https URL; {LIKE}"));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') || rest.split(['?', '#']).next().is_some_and(|before| before.contains('@')) {
        return Err("holds a user name or password, which would not be sent; keep them out of the URL".to_string());
    }
    if !text.is_ascii() || text.bytes().any(|b| b.is_ascii_control() || matches!(b, b' ' | b'"' | b'<' | b'>' | b'\\'))
    {
        return Err(
            "holds a space or another character that is not allowed in a URL; write %20 for a space".to_string()
        );
    }
    if text.contains('#') {
        return Err("holds a fragment (#…), which is never sent; leave it away".to_string());
    }
    place(authority).map_err(|what| format!("{what}; {LIKE}"))
}

/// `host`, `host:port`, `[::1]:port`.
fn place(authority: &str) -> Result<(), String> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (inner, rest) = rest.split_once(']').ok_or("has a bracket that is not closed")?;
        inner.parse::<std::net::Ipv6Addr>().map_err(|_| "has no IPv6 address in its brackets")?;
        (None, rest)
    } else {
        let (host, _) = authority.split_once(':').unwrap_or((authority, ""));
        (Some(host), authority.get(host.len()..).unwrap_or_default())
    };
    if let Some(host) = host {
        host_name(host)?;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        None => Err("has something behind its host that is not a port".to_string()),
        Some(digits) => match digits.parse::<u16>() {
            Ok(1..) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
            _ => Err("has a port that is not a number from 1 to 65535".to_string()),
        },
    }
}

/// A name of letters, digits, hyphens, dots and underscores, or an IPv4 address.
fn host_name(host: &str) -> Result<(), String> {
    let bare = host.strip_suffix('.').unwrap_or(host);
    if bare.is_empty() {
        return Err("has no host".to_string());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let is_number = bare.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if bare.len() > 253 || !bare.split('.').all(is_label) || (is_number && bare.parse::<IpAddr>().is_err()) {
        return Err("has a host that is neither a name nor an address".to_string());
    }
    Ok(())
}

/// An address and port to listen on, or nothing.
///
/// # Errors
/// Anything else.
pub fn listen(text: &str) -> Result<(), String> {
    if text.is_empty() || text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("{} is not an address and port; write for example \"127.0.0.1:9106\", or \"\" for off", quoted(text)))
}

/// A duration within bounds.
///
/// # Errors
/// One outside.
pub fn span(span: Span, least: Duration, most: Duration) -> Result<(), String> {
    if span.0 < least {
        return Err(format!("{span} is too short; the least is {}", Span(least)));
    }
    if span.0 > most {
        return Err(format!("{span} is too long; the most is {}", Span(most)));
    }
    Ok(())
}

/// A name that people read in alerts.
///
/// # Errors
/// An empty one, control characters, more than 200 characters.
pub fn name(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty; give the name that alerts should carry".to_string());
    }
    if text.chars().any(char::is_control) || text.chars().count() > 200 {
        return Err("should be one line of at most 200 characters".to_string());
    }
    Ok(())
}

/// The file of the state, or nothing.
///
/// # Errors
/// What can be no file: a directory, a device, a place below something that is not a directory.
pub fn state(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    if text.contains("://") || text.chars().any(char::is_control) {
        return Err("is not the path of a file; write for example \"/var/lib/watchdog/state.db\"".to_string());
    }
    let path = Path::new(text);
    if text.ends_with('/') || path.is_dir() {
        return Err(format!(
            "is a directory; name a file in it: \"{}/state.db\"",
            text.trim_end_matches('/').escape_debug()
        ));
    }
    if path.exists() && !path.is_file() {
        return Err("is neither a file nor a place for one; name a file".to_string());
    }
    let above = path.ancestors().skip(1).find(|above| above.exists());
    match above {
        Some(above) if !above.is_dir() => Err(format!("lies below {}, which is not a directory", above.display())),
        _ => Ok(()),
    }
}

/// A JSON pointer: `/a/b`, with `~0` for `~` and `~1` for `/`.
///
/// # Errors
/// Anything else.
pub fn pointer(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err(format!("{} is not a JSON pointer; write for example \"/status/db\"", quoted(text)));
    }
    escapes(text)
}

/// The escapes of a JSON pointer.
///
/// # Errors
/// A `~` that stands for nothing.
pub fn escapes(text: &str) -> Result<(), String> {
    let stray = text.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']));
    if stray {
        return Err(format!("{} has a `~` that stands for nothing; write ~0 for ~ and ~1 for /", quoted(text)));
    }
    Ok(())
}

/// The name of a container or service, `*` for any text.
///
/// # Errors
/// A pattern that no name can match.
pub fn container(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("has an empty name in it".to_string());
    }
    if let Some(rest) = text.strip_prefix('/') {
        return Err(format!(
            "{} begins with a slash, which is not part of the name; write \"{}\"",
            quoted(text),
            super::veil::short(rest)
        ));
    }
    let can_be = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '*');
    if !text.chars().all(can_be) {
        let what = "cannot be the name of a container; use letters, digits, '_', '.', '-', and * for any text";
        return Err(format!("{} {what}", quoted(text)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_url_that_can_be_asked_passes() {
        for good in [
            "http://app:8080/metrics",
            "https://[::1]:9/m?x=secret",
            "HTTPS://a_b.example./",
            "http://10.0.0.1",
            "https://hc.example/ping/abc?x=a@b",
        ] {
            assert_eq!(url(good), Ok(()), "{good}");
        }
        for (bad, words) in [
            ("", "not an http"),
            ("http://", "no host"),
            ("http:///x", "no host"),
            ("https://:443/", "no host"),
            ("ftp://x/", "not an http"),
            ("app:8080", "not an http"),
            ("http://x:99999/", "1 to 65535"),
            ("http://x:0/", "1 to 65535"),
            ("http://x:/", "1 to 65535"),
            ("http://x:+80/", "1 to 65535"),
            ("http://a b/", "a space"),
            ("http://x/a b", "a space"),
            ("http://x/\n", "a space"),
            ("http://x/#y", "fragment"),
            ("http://u:canary@x/", "would not be sent"),
            ("http://u:can/ary@x/", "would not be sent"),
            ("http://1.2.3/", "neither a name nor an address"),
            ("http://2130706433/", "neither a name nor an address"),
            ("http://-/-é/", "not allowed in a URL"),
            ("http://[::1/", "not closed"),
            ("http://[zz]/", "IPv6"),
        ] {
            let what = url(bad).unwrap_err();
            assert!(what.contains(words) && !what.contains("canary"), "{bad}: {what}");
        }
    }

    #[test]
    fn the_state_is_a_file_or_can_become_one() {
        let dir = tempfile::tempdir().unwrap();
        let inside = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(inside("file"), "").unwrap();
        for good in
            [String::new(), inside("state.db"), inside("not/yet/there.db"), inside("file"), "state.db".to_string()]
        {
            assert_eq!(state(&good), Ok(()), "{good}");
        }
        for bad in [
            inside(""),
            "/".to_string(),
            inside("file/state.db"),
            inside("new/"),
            "/dev/null".to_string(),
            "sqlite://x".to_string(),
        ] {
            assert!(state(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pointers_and_patterns_that_match_nothing_are_refused() {
        assert_eq!(pointer("/a~1b/~0"), Ok(()));
        for bad in ["a", "/a~2", "/~", "/a~"] {
            assert!(pointer(bad).is_err(), "{bad}");
        }
        assert_eq!(container("shop-*_1.2"), Ok(()));
        for bad in ["", " ", "/db", "db?", "[ab]", "a b", "app=web"] {
            assert!(container(bad).is_err(), "{bad}");
        }
    }
}
