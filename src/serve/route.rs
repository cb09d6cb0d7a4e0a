//! What is answered to which request: pure, from the request's head and one snapshot.
//!
//! Order matters: first the name (a rebound request learns nothing, not even which paths exist),
//! then method and body, then the token, then the path. Nothing here changes anything, so there is
//! no verb but GET and HEAD.

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, StatusCode, Uri};

use super::access::{Access, Refusal};
use super::json;
use super::metrics::{self, Format, Process};
use super::page::{self, View};
use super::pieces::Pieces;
use super::snapshot::Snapshot;
use crate::core::time::Now;

/// The head of a request.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The verb.
    pub method: &'a Method,
    /// Path and query.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// True when a body follows.
    pub has_body: bool,
}

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// Headers that only this answer has.
    pub extra: Option<(HeaderName, &'static str)>,
    /// The body.
    pub body: Pieces,
}

/// The pages of single signals.
const SIGNAL: &str = "/signal/";
/// The longest key that is looked for, in bytes as it is written in the address.
const LONGEST_KEY: usize = 2_000;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

impl Answer {
    /// One sentence in plain text.
    pub fn sentence(status: StatusCode, words: &str) -> Answer {
        Answer { status, content_type: TEXT, extra: None, body: format!("{words}\n").into() }
    }

    /// A whole page.
    pub fn found(content_type: &'static str, body: impl Into<Pieces>) -> Answer {
        Answer { status: StatusCode::OK, content_type, extra: None, body: body.into() }
    }
}

impl From<Refusal> for Answer {
    fn from((status, words): Refusal) -> Answer {
        let mut answer = Answer::sentence(status, words);
        if status == StatusCode::UNAUTHORIZED {
            answer.extra = Some((header::WWW_AUTHENTICATE, "Basic realm=\"watchdog\", charset=\"UTF-8\""));
        }
        answer
    }
}

/// What every server here refuses, whatever the path: another's name, a verb that changes, a body.
pub fn refused(asked: Asked<'_>, access: &Access) -> Option<Answer> {
    if let Err(refusal) = access.judge_host(asked.uri, asked.headers) {
        return Some(refusal.into());
    }
    if asked.method != Method::GET && asked.method != Method::HEAD {
        let mut answer =
            Answer::sentence(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD; nothing here can be changed");
        answer.extra = Some((header::ALLOW, "GET, HEAD"));
        return Some(answer);
    }
    if asked.has_body {
        return Some(Answer::sentence(StatusCode::PAYLOAD_TOO_LARGE, "requests have no body here"));
    }
    None
}

/// The answer to one request.
pub fn answer(asked: Asked<'_>, access: &Access, snapshot: &Snapshot, now: Now, process: fn() -> Process) -> Answer {
    if let Some(refusal) = refused(asked, access) {
        return refusal;
    }
    let path = asked.uri.path();
    match path {
        // Open to everybody who may speak to the port: orchestrators keep no secrets in a health check.
        "/healthz" => return Answer::sentence(StatusCode::OK, "ok"),
        "/readyz" => {
            return match snapshot.not_ready(now) {
                None => Answer::sentence(StatusCode::OK, "ready"),
                Some(why) => Answer::sentence(StatusCode::SERVICE_UNAVAILABLE, &why),
            };
        }
        _ => {}
    }
    if let Err(refusal) = access.judge_token(asked.headers) {
        return refusal.into();
    }
    // A picture of nothing would be read as one of the world: switched off, without a name, all well.
    if let Some(why) = snapshot.not_started() {
        let mut answer = Answer::sentence(StatusCode::SERVICE_UNAVAILABLE, &why);
        answer.extra = Some((header::RETRY_AFTER, "1"));
        return answer;
    }
    let query = asked.uri.query().unwrap_or_default();
    match path {
        "/" => Answer::found(HTML, page::render(snapshot, now, View::parse(query))),
        "/api/v1/status" => Answer::found(JSON, json::status(snapshot, now)),
        "/api/v1/history" => match json::history(snapshot, now, query) {
            Ok(body) => Answer::found(JSON, body),
            Err(what) => Answer::sentence(StatusCode::BAD_REQUEST, &what),
        },
        _ if path.starts_with(SIGNAL) => {
            let key = path.get(SIGNAL.len()..).filter(|key| key.len() <= LONGEST_KEY).and_then(json::percent_decoded);
            let page = key.and_then(|key| page::signal::render(snapshot, now, &key, View::parse(query)));
            // Nothing of what was asked is repeated.
            page.map_or_else(
                || Answer::sentence(StatusCode::NOT_FOUND, "no signal has this name; / lists all of them"),
                |page| Answer::found(HTML, page),
            )
        }
        "/metrics" => {
            let accept = asked.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
            Answer::found(format.content_type(), metrics::render(snapshot, now, process(), format))
        }
        _ => Answer::sentence(
            StatusCode::NOT_FOUND,
            "there are /, /signal/<key>, /api/v1/status, /api/v1/history, /metrics, /healthz, /readyz",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Secret;
    use crate::serve::sample::sample;
    use crate::serve::snapshot::StateFile;

    fn ask(method: &str, uri: &str, headers: &[(&'static str, &'static str)], access: &Access) -> Answer {
        let (snapshot, now) = sample();
        ask_of(&snapshot, now, method, uri, headers, access)
    }

    fn ask_of(
        snapshot: &Snapshot,
        now: Now,
        method: &str,
        uri: &str,
        headers: &[(&'static str, &'static str)],
        access: &Access,
    ) -> Answer {
        let mut map = HeaderMap::new();
        map.insert(header::HOST, "localhost".parse().unwrap());
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let asked = Asked {
            method: &method.parse().unwrap(),
            uri: &uri.parse().unwrap(),
            headers: &map,
            has_body: map.contains_key("content-length"),
        };
        answer(asked, access, snapshot, now, Process::default)
    }

    fn at_home() -> Access {
        Access::new("127.0.0.1:9106".parse().unwrap(), &[], None)
    }

    #[test]
    fn every_path_has_its_status_and_type() {
        let table = [
            ("GET", "/", 200, HTML),
            ("HEAD", "/", 200, HTML),
            ("GET", "/?all&pause", 200, HTML),
            ("GET", "/api/v1/status", 200, JSON),
            ("GET", "/api/v1/history", 200, JSON),
            ("GET", "/api/v1/history?since=1h&subject=container/web&limit=5", 200, JSON),
            ("GET", "/api/v1/history?since=never", 400, TEXT),
            ("GET", "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
            ("GET", "/healthz", 200, TEXT),
            ("GET", "/readyz", 200, TEXT),
            ("GET", "/signal/container/web", 200, HTML),
            ("HEAD", "/signal/container%2Fweb?pause", 200, HTML),
            ("GET", "/signal/container/we%62", 200, HTML),
            ("GET", "/signal/container/nothing", 404, TEXT),
            ("GET", "/signal/container/web/", 404, TEXT),
            ("GET", "/signal/container/%zz", 404, TEXT),
            ("GET", "/signal/%ff", 404, TEXT),
            ("GET", "/signal/", 404, TEXT),
            ("GET", "/signal", 404, TEXT),
            ("POST", "/signal/container/web", 405, TEXT),
            ("GET", "/favicon.ico", 404, TEXT),
            ("GET", "//", 404, TEXT),
            ("GET", "/metrics/../", 404, TEXT),
            ("POST", "/", 405, TEXT),
            ("DELETE", "/api/v1/status", 405, TEXT),
            ("OPTIONS", "/nowhere", 405, TEXT),
        ];
        for (method, uri, status, kind) in table {
            let answer = ask(method, uri, &[], &at_home());
            assert_eq!((answer.status.as_u16(), answer.content_type), (status, kind), "{method} {uri}");
        }
        assert_eq!(ask("GET", "/", &[("content-length", "5")], &at_home()).status, StatusCode::PAYLOAD_TOO_LARGE);
        let refused = ask("PUT", "/", &[], &at_home());
        assert_eq!(refused.extra, Some((header::ALLOW, "GET, HEAD")));
    }

    #[test]
    fn what_was_asked_for_is_never_repeated() {
        for uri in
            ["/signal/%3Cscript%3Ealert(1)%3C/script%3E", "/signal/alert", &format!("/signal/{}", "a".repeat(9_000))]
        {
            let answer = ask("GET", uri, &[], &at_home());
            assert_eq!((answer.status, answer.content_type), (StatusCode::NOT_FOUND, TEXT), "{uri}");
            assert!(!answer.body.to_string().contains("alert"), "{}", answer.body);
        }
    }

    #[test]
    fn a_rebound_name_learns_nothing_at_all() {
        for path in ["/", "/signal/container/web", "/healthz", "/readyz", "/metrics", "/nowhere"] {
            for method in ["GET", "POST"] {
                let answer = ask(method, path, &[("host", "evil.example")], &at_home());
                assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{method} {path}");
                assert!(!answer.body.to_string().contains("web-1"));
            }
        }
    }

    #[test]
    fn a_token_closes_everything_but_health() {
        let access = Access::new("0.0.0.0:9106".parse().unwrap(), &[], Some(Secret::new("correct-horse")));
        for path in ["/", "/signal/container/web", "/api/v1/status", "/api/v1/history", "/metrics", "/nowhere"] {
            let refused = ask("GET", path, &[], &access);
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(refused.extra.is_some());
            let opened = ask("GET", path, &[("authorization", "Bearer correct-horse")], &access);
            assert_ne!(opened.status, StatusCode::UNAUTHORIZED, "{path}");
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(ask("GET", path, &[], &access).status, StatusCode::OK, "{path}");
        }
    }

    #[test]
    fn before_the_first_pass_nothing_is_told_but_what_is_waited_for() {
        let (_, now) = sample();
        let snapshot = Snapshot::before_first("the state file is being opened");
        for path in ["/", "/api/v1/status", "/api/v1/history", "/metrics", "/readyz"] {
            let answer = ask_of(&snapshot, now, "GET", path, &[], &at_home());
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert!(answer.body.to_string().contains("the state file is being opened"), "{path}");
        }
        assert_eq!(ask_of(&snapshot, now, "GET", "/healthz", &[], &at_home()).status, StatusCode::OK);
        let closed = Access::new("0.0.0.0:9106".parse().unwrap(), &[], Some(Secret::new("correct-horse")));
        assert_eq!(ask_of(&snapshot, now, "GET", "/", &[], &closed).status, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn not_ready_is_503_and_says_why_while_healthz_stays_ok() {
        let (mut snapshot, now) = sample();
        snapshot.state_file = StateFile::Failing("disk full".into());
        let answer = ask_of(&snapshot, now, "GET", "/readyz", &[], &at_home());
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.body.to_string().contains("disk full"));
        assert_eq!(ask_of(&snapshot, now, "GET", "/healthz", &[], &at_home()).status, StatusCode::OK);
    }
}
