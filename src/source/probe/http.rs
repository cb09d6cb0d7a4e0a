//! http and https: status, what the body says, and how long it took.
//!
//! Without a question to the body, only the header is read. The body is never repeated beyond 200
//! escaped characters, and the URL's query never at all. A page that says 200 and means something
//! else (F37) is what `body_contains` and `json_pointer` are for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Method, Request, Uri};

use super::advice::{Peer, Trouble};
use super::pool::Verdict;
use super::{excerpt, unresolved};
use crate::client::http::{Http, HttpError, Part, Response};
use crate::client::trust::Kind;
use crate::core::time::people;

/// Characters of a body that are told as evidence.
const EXCERPT: usize = 100;
/// Characters of a URL in an advice.
const URL: usize = 200;

/// Statuses that are well, as ranges with both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Reads `["200-299", "401"]`.
    pub fn parse(texts: &[String]) -> Result<Statuses, String> {
        let wrong =
            |text: &str| format!("\"{text}\" is not a status or a range; write for example [\"200-299\", \"401\"]");
        let mut ranges = Vec::new();
        for text in texts {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            match (low.trim().parse::<u16>(), high.trim().parse::<u16>()) {
                (Ok(low), Ok(high)) if (100..=high).contains(&low) && high <= 599 => ranges.push((low, high)),
                _ => return Err(wrong(text)),
            }
        }
        if ranges.is_empty() {
            return Err("is empty; write for example [\"200-299\"]".to_string());
        }
        Ok(Statuses(ranges))
    }

    /// `200–299, 401`.
    fn words(&self) -> String {
        let range = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}–{high}") };
        self.0.iter().map(range).collect::<Vec<_>>().join(", ")
    }

    fn hold(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

/// What a JSON body must say at one place.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonWant {
    /// A JSON pointer: `/status/db`.
    pub pointer: String,
    /// The text or JSON that must stand there; `None`: anything but null and false.
    pub equals: Option<String>,
}

/// One http check.
pub struct HttpCheck {
    /// The client, shared by all checks with the same options.
    pub client: Arc<Http>,
    /// GET or HEAD.
    pub method: Method,
    /// What to ask for.
    pub uri: Uri,
    /// What to send with it; shared by all checks that send the same.
    pub headers: Arc<HeaderMap>,
    /// Statuses that are well.
    pub statuses: Statuses,
    /// Text that the body must hold.
    pub contains: Option<String>,
    /// Text that the body must not hold.
    pub lacks: Option<String>,
    /// What the body must say as JSON.
    pub json: Option<JsonWant>,
    /// Slower than this is not well.
    pub max_latency: Option<Duration>,
}

impl HttpCheck {
    /// Looks once.
    pub fn look(&self) -> Verdict {
        let begun = Instant::now();
        let whole = self.contains.is_some() || self.lacks.is_some() || self.json.is_some();
        let part = |answer: &Response| match (self.statuses.hold(answer.status), whole) {
            (true, true) => Part::All,
            (true, false) => Part::None,
            (false, _) => Part::Beginning(EXCERPT),
        };
        let outcome = self.client.run(self.request(), part);
        let took = begun.elapsed();
        match outcome {
            Ok(answer) => self.judge(&answer, took),
            Err(error) => self.failed(&error),
        }
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().clone_from(&self.headers);
        request
    }

    /// The verdict on an answer that took this long.
    pub fn judge(&self, answer: &Response, took: Duration) -> Verdict {
        let seen = format!("HTTP {} in {}", answer.status, people(took));
        if !self.statuses.hold(answer.status) {
            return self.other_status(answer, &seen);
        }
        let url = || self.url();
        let down = |fact: String, trouble: Trouble<'_>| Verdict::down(fact).because(trouble);
        if let Some(text) = &self.contains
            && !holds(&answer.body, text.as_bytes())
        {
            let fact = format!("{seen}, but the body lacks \"{}\"", excerpt(text.as_bytes()));
            return Verdict::down(fact).with(Trouble::Lacks(&self.url()).details().with(begins(&answer.body)));
        }
        if let Some(text) = &self.lacks
            && holds(&answer.body, text.as_bytes())
        {
            return down(
                format!("{seen}, but the body contains \"{}\"", excerpt(text.as_bytes())),
                Trouble::Holds(&url()),
            );
        }
        if let Some(want) = &self.json
            && let Err(wrong) = want.judge(&answer.body)
        {
            return match wrong {
                Differs::NotJson => Verdict::down(format!("{seen}, but the body is not JSON"))
                    .with(Trouble::NotJson(&self.url()).details().with(begins(&answer.body))),
                Differs::Nothing => {
                    down(format!("{seen}, but the body has nothing at {}", want.pointer), Trouble::NoValue(&url()))
                }
                Differs::Other(value) => {
                    let wanted = want.shown();
                    let fact = format!("{seen}, but {} is {value}, expected {wanted}", want.pointer);
                    down(fact, Trouble::OtherValue(&url()))
                }
            };
        }
        match self.max_latency {
            Some(limit) if took > limit => {
                let fact = format!("HTTP {} after {}, limit {}", answer.status, people(took), people(limit));
                down(fact, Trouble::Slow(&url()))
            }
            _ => Verdict::up(seen),
        }
    }

    fn other_status(&self, answer: &Response, seen: &str) -> Verdict {
        let target = answer.header("location").filter(|_| (300..400).contains(&answer.status)).map(place);
        let target = target.map(|place| format!(", to {place}")).unwrap_or_default();
        let fact = format!("{seen}, expected {}{target}", self.statuses.words());
        let details = Trouble::Status { status: answer.status, url: &self.url() }.details();
        let is_text = ["text/plain", "application/json", "application/problem+json"]
            .iter()
            .any(|kind| answer.content_type.starts_with(kind));
        Verdict::down(fact).with(if is_text { details.with(begins(&answer.body)) } else { details })
    }

    /// The verdict on a request without an answer.
    pub fn failed(&self, error: &HttpError) -> Verdict {
        let (host, url) = (self.uri.host().unwrap_or_default(), self.url());
        let is_tls = self.uri.scheme_str() == Some("https");
        let peer = Peer { host, port: self.uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }) };
        let trouble = match error {
            HttpError::Resolve(error) => return unresolved(error, host),
            HttpError::Own(_) => return Verdict::unknown(error.to_string()),
            HttpError::Proxy(_) => return Verdict::unknown(error.to_string()).because(Trouble::Proxy),
            HttpError::Tls(refusal) => {
                let trouble = Trouble::Tls { flaw: refusal.flaw, peer, name: host };
                let verdict = Verdict::down(format!("TLS: {}", refusal.words)).because(trouble);
                return match refusal.kind {
                    Kind::Date { since } => verdict.certain().since(since),
                    Kind::Certificate | Kind::Talk => verdict,
                };
            }
            HttpError::Refused(_) => Trouble::Refused(peer),
            HttpError::Unreached(_) => Trouble::Silent(peer),
            HttpError::Timeout(..) if error.is_unsent() => Trouble::Silent(peer),
            HttpError::Timeout(..) => Trouble::Stuck(&url),
            HttpError::TooLarge(_) => Trouble::TooLarge,
            HttpError::BadUrl | HttpError::Header(_) | HttpError::Coded(_) | HttpError::Broken(_) => {
                Trouble::Broken(&url)
            }
        };
        Verdict::down(error.to_string()).because(trouble)
    }

    /// What is asked for, without its query.
    fn url(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or("http");
        let authority = self.uri.authority().map(ureq::http::uri::Authority::as_str).unwrap_or_default();
        let url: String = format!("{scheme}://{authority}{}", self.uri.path()).chars().take(URL).collect();
        // It stands between these marks in a command.
        url.replace('\'', "%27")
    }
}

/// Where a redirect leads, without what may be a secret.
fn place(location: &str) -> String {
    let plain = location.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = plain.split_once("://").map_or(("", plain), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let colon = if scheme.is_empty() { "" } else { "://" };
    excerpt(format!("{scheme}{colon}{rest}").as_bytes())
}

/// A line of evidence: how a body begins.
fn begins(body: &[u8]) -> String {
    let shown: String = excerpt(body.trim_ascii()).chars().take(EXCERPT).collect();
    if shown.is_empty() { String::new() } else { format!("the body begins: \"{shown}\"") }
}

/// What is wrong with a JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Differs {
    NotJson,
    Nothing,
    /// This stands there instead.
    Other(String),
}

impl JsonWant {
    /// What must stand there, as JSON writes it.
    fn shown(&self) -> String {
        match &self.equals {
            None => "something other than null and false".to_string(),
            Some(text) if serde_json::from_str::<serde_json::Value>(text).is_ok() => excerpt(text.as_bytes()),
            Some(text) => format!("\"{}\"", excerpt(text.as_bytes())),
        }
    }

    fn judge(&self, body: &[u8]) -> Result<(), Differs> {
        use serde_json::Value;
        let value = serde_json::from_slice::<Value>(body).map_err(|_| Differs::NotJson)?;
        let there = value.pointer(&self.pointer).ok_or(Differs::Nothing)?;
        let is_meant = match (&self.equals, there) {
            (None, value) => !matches!(value, Value::Null | Value::Bool(false)),
            (Some(want), Value::String(text)) => want == text,
            (Some(want), Value::Number(number)) => {
                want.parse::<f64>().ok().zip(number.as_f64()).is_some_and(|(a, b)| a.total_cmp(&b).is_eq())
            }
            (Some(want), other) => serde_json::from_str::<Value>(want).is_ok_and(|want| want == *other),
        };
        if is_meant { Ok(()) } else { Err(Differs::Other(excerpt(there.to_string().as_bytes()))) }
    }
}

/// Whether `needle` stands somewhere in `body`, byte for byte.
fn holds(body: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || body.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_or_ranges() {
        let parse = |texts: &[&str]| Statuses::parse(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        let statuses = parse(&["200-299", "401"]).unwrap();
        assert!(statuses.hold(200) && statuses.hold(299) && statuses.hold(401));
        assert!(!statuses.hold(199) && !statuses.hold(300) && !statuses.hold(400));
        for wrong in [&["299-200"][..], &["99"], &["600"], &["ok"], &[""], &["2xx"], &[]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn json_is_compared_by_meaning() {
        let body = br#"{"status":{"db":"ok","n":5,"on":true,"none":null,"list":[1]}}"#;
        let judge = |pointer: &str, equals: Option<&str>| {
            JsonWant { pointer: pointer.to_string(), equals: equals.map(ToString::to_string) }.judge(body)
        };
        for (pointer, equals) in [
            ("/status/db", Some("ok")),
            ("/status/n", Some("5")),
            ("/status/n", Some("5.0")),
            ("/status/on", Some("true")),
            ("/status/none", Some("null")),
            ("/status/list", Some("[1]")),
            ("/status/on", None),
        ] {
            assert_eq!(judge(pointer, equals), Ok(()), "{pointer} {equals:?}");
        }
        for (pointer, equals) in [
            ("/status/db", Some("down")),
            ("/status/n", Some("NaN")),
            ("/status/none", None),
            ("/status/nothing", Some("x")),
        ] {
            assert!(judge(pointer, equals).is_err(), "{pointer} {equals:?}");
        }
        let deep = "[".repeat(100_000);
        let want = JsonWant { pointer: String::new(), equals: None };
        assert_eq!(want.judge(deep.as_bytes()), Err(Differs::NotJson));
        assert_eq!(want.judge(b"\xff\xfe"), Err(Differs::NotJson));
    }

    #[test]
    fn a_body_is_searched_byte_for_byte() {
        assert!(holds(b"\xffall ok\xfe", b"ok"));
        assert!(!holds(b"o", b"ok"));
        assert!(holds(b"", b""));
    }
}
