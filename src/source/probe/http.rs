//! http and https: status, what the body says, and how long it took.
//!
//! Without a question to the body, only the header is read. The body is never repeated beyond 200
//! escaped characters, and the URL's query never at all. A page that says 200 and means something
//! else (F37) is what `body_contains` and `json_pointer` are for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Method, Request, Uri};

use super::pool::Verdict;
use super::{excerpt, unresolved};
use crate::client::http::{Http, HttpError, Response};
use crate::client::trust::{Kind, Refusal};
use crate::core::time::people;

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
        let outcome = self.client.run(self.request(), whole);
        let took = begun.elapsed();
        match outcome {
            Ok(answer) => self.judge(&answer, took),
            Err(error) => explain(&error),
        }
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().clone_from(&self.headers);
        request
    }

    fn judge(&self, answer: &Response, took: Duration) -> Verdict {
        let seen = format!("HTTP {} in {}", answer.status, people(took));
        if !self.statuses.hold(answer.status) {
            return Verdict::down(seen);
        }
        if let Some(text) = &self.contains
            && !holds(&answer.body, text.as_bytes())
        {
            return Verdict::down(format!(
                "{seen}, but the body lacks what it should hold; it begins: {}",
                excerpt(&answer.body)
            ));
        }
        if let Some(text) = &self.lacks
            && holds(&answer.body, text.as_bytes())
        {
            return Verdict::down(format!("{seen}, but the body contains \"{}\"", excerpt(text.as_bytes())));
        }
        if let Some(want) = &self.json
            && let Err(what) = want.judge(&answer.body)
        {
            return Verdict::down(format!("{seen}, but {what}"));
        }
        match self.max_latency {
            Some(limit) if took > limit => Verdict::down(format!("{seen}, slower than {}", people(limit))),
            _ => Verdict::up(seen),
        }
    }
}

impl JsonWant {
    fn judge(&self, body: &[u8]) -> Result<(), String> {
        use serde_json::Value;
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return Err(format!("the body is not JSON; it begins: {}", excerpt(body)));
        };
        let pointer = &self.pointer;
        let Some(there) = value.pointer(pointer) else {
            return Err(format!("the body has nothing at {pointer}"));
        };
        let is_meant = match (&self.equals, there) {
            (None, value) => !matches!(value, Value::Null | Value::Bool(false)),
            (Some(want), Value::String(text)) => want == text,
            (Some(want), Value::Number(number)) => {
                want.parse::<f64>().ok().zip(number.as_f64()).is_some_and(|(a, b)| a.total_cmp(&b).is_eq())
            }
            (Some(want), other) => serde_json::from_str::<Value>(want).is_ok_and(|want| want == *other),
        };
        if is_meant { Ok(()) } else { Err(format!("{pointer} is {}", excerpt(there.to_string().as_bytes()))) }
    }
}

/// Whether `needle` stands somewhere in `body`, byte for byte.
fn holds(body: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || body.windows(needle.len()).any(|window| window == needle)
}

fn explain(error: &HttpError) -> Verdict {
    match error {
        HttpError::Resolve(error) => unresolved(error),
        HttpError::Own(_) | HttpError::Proxy(_) => Verdict::unknown(error.to_string()),
        HttpError::Tls(Refusal { kind: Kind::Date { since }, words }) => {
            Verdict::down(format!("TLS: {words}")).certain().since(*since)
        }
        _ => Verdict::down(error.to_string()),
    }
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
        assert!(want.judge(deep.as_bytes()).unwrap_err().contains("not JSON"));
        assert!(want.judge(b"\xff\xfe").unwrap_err().contains("not JSON"));
    }

    #[test]
    fn a_body_is_searched_byte_for_byte() {
        assert!(holds(b"\xffall ok\xfe", b"ok"));
        assert!(!holds(b"o", b"ok"));
        assert!(holds(b"", b""));
    }
}
