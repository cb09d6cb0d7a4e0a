//! Who may ask: the name in the Host header, and the token when one is set.
//!
//! A page in somebody's browser can make that browser ask `evil.example`, whose address it then
//! turns into 127.0.0.1 (T10): the name in the request gives it away. So only names that nobody
//! else can own are answered: localhost, literal addresses, and what `serve.allowed_hosts` names.
//! Nothing here logs or shows a token; comparing takes the same time wherever they differ (T11).

use std::net::{IpAddr, SocketAddr};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{StatusCode, Uri};

use crate::config::value::Secret;

/// The shortest token that is accepted, in characters.
const TOKEN_AT_LEAST: usize = 8;

/// Decides whether a request may be answered.
#[derive(Debug, Clone)]
pub struct Access {
    listen: IpAddr,
    names: Vec<String>,
    token: Option<Secret>,
}

/// Why it may not, as status and sentence.
pub type Refusal = (StatusCode, &'static str);

impl Access {
    /// The rules for a server that listens on this address.
    pub fn new(listen: SocketAddr, allowed_hosts: &[String], token: Option<Secret>) -> Access {
        let names = allowed_hosts.iter().map(|name| folded(name)).collect();
        Access { listen: listen.ip(), names, token }
    }

    /// True when anybody on the network may read what is served.
    pub fn is_open(&self) -> bool {
        self.token.is_none() && !is_loopback(self.listen)
    }

    /// Refuses a request that was meant for another name.
    pub fn judge_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        const WRONG: Refusal = (
            StatusCode::MISDIRECTED_REQUEST,
            "this name is not served here; ask by address or localhost, or add the name to serve.allowed_hosts",
        );
        const UNCLEAR: Refusal = (StatusCode::BAD_REQUEST, "exactly one Host header with a valid name is needed");
        let mut given = headers.get_all(HOST).iter();
        let (Some(first), None) = (given.next(), given.next()) else { return Err(UNCLEAR) };
        let named = first.to_str().ok().and_then(|text| text.parse::<Authority>().ok()).ok_or(UNCLEAR)?;
        // `GET http://name/ HTTP/1.1` names the host a second time; both must be ours.
        for authority in [Some(&named), uri.authority()].into_iter().flatten() {
            if authority.as_str().contains('@') {
                return Err(UNCLEAR);
            }
            if !self.is_ours(authority.host()) {
                return Err(WRONG);
            }
        }
        Ok(())
    }

    /// Refuses a request without the token, where one is set.
    pub fn judge_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(presented);
        match given {
            Some(given) if equal(given.as_bytes(), token.expose().as_bytes()) => Ok(()),
            _ => Err((StatusCode::UNAUTHORIZED, "the token of serve.token is needed")),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = folded(host);
        if host == "localhost" || self.names.contains(&host) {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&host);
        match bare.parse::<IpAddr>() {
            Ok(address) => is_loopback(address) || !is_loopback(self.listen) || address == self.listen,
            Err(_) => false,
        }
    }
}

/// Checks that a token can be sent in a header and is not guessed in an afternoon.
pub fn usable_token(token: &Secret) -> Result<(), String> {
    let text = token.expose();
    if text.len() < TOKEN_AT_LEAST {
        return Err(format!("is too short; at least {TOKEN_AT_LEAST} characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("may hold only printable ASCII without spaces, because it travels in a header".to_string());
    }
    Ok(())
}

/// Checks that an entry of `allowed_hosts` is a bare host name.
pub fn usable_host(name: &str) -> Result<(), String> {
    match name.parse::<Authority>() {
        Ok(authority) if authority.host() == name && !name.is_empty() => Ok(()),
        _ => Err(format!("\"{name}\" is not a host name; write it without scheme, port and path")),
    }
}

fn folded(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The token in `Bearer <token>`, or the password in `Basic <user:password>` as browsers send it.
fn presented(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_string());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(base64(rest)?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_string())
}

/// Decodes standard base64; `None` for anything that is not. Bounded by the size of a header.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut out) = (0_u32, 0_u32, Vec::with_capacity(text.len()));
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = ((bits << 6) | u32::from(six)) & 0x3fff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

/// Compares in a time that depends on the lengths only.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0_u8, |all, (x, y)| std::hint::black_box(all | (x ^ y)));
    a.len() == b.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn host(access: &Access, host: &str) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        access.judge_host(&Uri::from_static("/"), &headers).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn names_that_could_be_rebound_are_refused() {
        let names = ["Status.Example.org".to_string()];
        let at_home = Access::new("127.0.0.1:9106".parse().unwrap(), &names, None);
        let open = Access::new("0.0.0.0:9106".parse().unwrap(), &names, None);
        let table = [
            ("localhost", 200, 200),
            ("LOCALHOST:9106", 200, 200),
            ("localhost.:9106", 200, 200),
            ("127.0.0.1:9106", 200, 200),
            ("127.8.9.1", 200, 200),
            ("[::1]:9106", 200, 200),
            ("[::ffff:127.0.0.1]", 200, 200),
            ("status.example.org", 200, 200),
            ("status.example.org:443", 200, 200),
            ("192.168.1.7:9106", 421, 200),
            ("[2001:db8::1]:9106", 421, 200),
            ("evil.example", 421, 421),
            ("evil.example:9106", 421, 421),
            ("localhost.evil.example", 421, 421),
            ("127.0.0.1.evil.example", 421, 421),
            ("localhost@evil.example", 400, 400),
            ("evil.example@localhost", 400, 400),
            ("0x7f000001", 421, 421),
            ("2130706433", 421, 421),
            ("", 400, 400),
            ("a b", 400, 400),
            ("localhost/..", 400, 400),
        ];
        for (name, loopback, everywhere) in table {
            assert_eq!(host(&at_home, name), loopback, "{name:?} on loopback");
            assert_eq!(host(&open, name), everywhere, "{name:?} on all addresses");
        }
        let elsewhere = Access::new("127.0.0.2:9106".parse().unwrap(), &[], None);
        assert_eq!(host(&elsewhere, "127.0.0.2"), 200);
    }

    #[test]
    fn a_second_or_missing_host_is_refused_and_both_names_of_a_request_must_be_ours() {
        let access = Access::new("127.0.0.1:9106".parse().unwrap(), &[], None);
        let uri = Uri::from_static("/");
        let mut headers = HeaderMap::new();
        assert_eq!(access.judge_host(&uri, &headers).unwrap_err().0, StatusCode::BAD_REQUEST);
        headers.append(HOST, HeaderValue::from_static("localhost"));
        let foreign = Uri::from_static("http://evil.example/");
        assert_eq!(access.judge_host(&foreign, &headers).unwrap_err().0, StatusCode::MISDIRECTED_REQUEST);
        assert!(access.judge_host(&Uri::from_static("http://localhost/"), &headers).is_ok());
        headers.append(HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(access.judge_host(&uri, &headers).unwrap_err().0, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn only_the_whole_token_opens() {
        let access = Access::new("127.0.0.1:9106".parse().unwrap(), &[], Some(Secret::new("correct-horse")));
        let judge = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            access.judge_token(&headers).is_ok()
        };
        assert!(judge(Some("Bearer correct-horse")));
        assert!(judge(Some("bearer correct-horse")));
        // user:correct-horse
        assert!(judge(Some("Basic dXNlcjpjb3JyZWN0LWhvcnNl")));
        for wrong in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer correct-hors"),
            Some("Bearer correct-horsee"),
            Some("Bearer Correct-horse"),
            Some("correct-horse"),
            Some("Basic correct-horse"),
            Some("Basic Y29ycmVjdC1ob3JzZQ=="),
            Some("Basic ####"),
            Some("Digest correct-horse"),
        ] {
            assert!(!judge(wrong), "{wrong:?}");
        }
        assert!(!format!("{access:?}").contains("horse"));
    }

    #[test]
    fn base64_reads_what_browsers_write() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba")] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(base64("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        assert!(base64("Zm 9v").is_none());
    }
}
