//! HTTP by `ureq`: one agent set up the way every part of the program needs it.
//!
//! No redirects unless asked, no cookies, no compression asked for, TLS as [`Trust`] says, proxies as [`Proxies`]
//! says, a total deadline, limits on header and body, and names resolved by [`resolve`](super::resolve) (deadline,
//! refusal of metadata addresses, again on each redirect). A request without a body that fails on a connection that
//! was kept is sent once more on a new one (F47). Errors never show the URL: it may hold a token.

//! HTTP by `ureq`: one agent set up the way every part of the program needs it.
//!
//! No redirects unless asked, no proxy from the environment, no cookies, no decompression, bundled
//! TLS roots, a total deadline, a limit on header and body, and names resolved by
//! [`resolve`](super::resolve) (deadline, refusal of metadata addresses, again on each redirect) and
//! connected to by [`dial`](super::dial). Errors never show the URL: it may hold a token.

mod error;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use ureq::http::{HeaderMap, Method, Request};
use ureq::{Agent, AsSendBody, Body};

pub use self::error::HttpError;
use self::error::{explain, explain_io, is_cut};
use self::wire::{Lookup, Road};
use super::coding::Coded;
use super::proxy::Proxies;
use super::resolve::Lane;
use super::trust::Trust;

/// Bytes of an answer's header at most, for every client of the program.
pub const HEADER_LIMIT: usize = 16 * 1024;
/// Fields of an answer's header at most, for every client of the program.
pub const HEADER_FIELDS: usize = 128;
/// Bytes of a body that are read only to keep its connection.
const DRAINED: usize = 64 * 1024;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Total limit of one call, from the lookup of the name to the last byte.
    pub timeout: Duration,
    /// Redirects followed; zero hands the redirect back as the answer.
    pub redirects: u32,
    /// May talk to link-local and metadata addresses.
    pub allow_link_local: bool,
    /// Whether names are looked up for what is watched, or for what the program itself lives by.
    pub lane: Lane,
    /// Keep connections open between calls, for peers that are asked often.
    pub keep_alive: bool,
    /// Bytes of body read at most; a longer body is [`HttpError::TooLarge`].
    pub body_limit: usize,
    /// Who a TLS peer must be.
    pub trust: Arc<Trust>,
    /// Through which proxy, if any.
    pub proxies: Arc<Proxies>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            timeout: Duration::from_secs(5),
            redirects: 0,
            allow_link_local: false,
            lane: Lane::Own,
            keep_alive: false,
            body_limit: 1024 * 1024,
            trust: Trust::bundled(),
            proxies: Proxies::direct(),
        }
    }
}

/// Limits of one call, in place of those of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Total limit of the call. Looking up the name and connecting stay within the client's own.
    pub timeout: Duration,
    /// Bytes of body read at most.
    pub body: usize,
}

/// How much of a body is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    All,
    /// So many bytes, as far as they come.
    Beginning(usize),
    /// None.
    None,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The `Content-Type`, empty when missing.
    pub content_type: String,
    /// `Retry-After` in seconds, when present: a number, or a date counted from the answer's own `Date`.
    pub retry_after: Option<u64>,
    /// All headers, as they came.
    pub headers: HeaderMap,
    /// The body, at most `body_limit` bytes.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header; `None` when it is missing or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
    }
}

/// An answer of which the header has come and the body is still on its way.
pub struct Coming {
    /// The answer, with an empty body.
    pub answer: Response,
    body: Coded<ureq::BodyReader<'static>>,
    read: usize,
    limits: Limits,
}

impl Coming {
    /// Appends the next bytes of the body, as many as come up to `most`; none: that was all.
    pub fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Result<usize, HttpError> {
        // Of an error's page it is the status that counts.
        if let (Coded::Unknown(coding), 200..=299) = (&self.body, self.answer.status) {
            return Err(HttpError::Coded(coding.clone()));
        }
        let some = self.body.read(into, most).map_err(|error| match error.kind() {
            std::io::ErrorKind::FileTooLarge => HttpError::TooLarge(self.limits.body),
            std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => explain_io(&error),
            _ => explain(ureq::Error::from(error), self.limits.timeout),
        })?;
        self.read = self.read.saturating_add(some);
        if self.read > self.limits.body { Err(HttpError::TooLarge(self.limits.body)) } else { Ok(some) }
    }

    /// The answer with all of its body.
    pub fn whole(mut self) -> Result<Response, HttpError> {
        let mut body = Vec::new();
        self.read(&mut body, self.limits.body.saturating_add(1))?;
        Ok(Response { body, ..self.answer })
    }
}

/// An HTTP client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Http {
    agent: Agent,
    options: Arc<Options>,
}

impl Http {
    /// A client with these options.
    pub fn new(options: Options) -> Http {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .no_delay(true)
            .accept_encoding("identity")
            .max_redirects(options.redirects)
            .max_redirects_will_error(false)
            .timeout_global(Some(options.timeout))
            .max_response_header_size(HEADER_LIMIT)
            .max_idle_connections(if options.keep_alive { 4 } else { 0 })
            .max_idle_connections_per_host(usize::from(options.keep_alive))
            .max_idle_age(Duration::from_secs(25))
            .user_agent(concat!("watchdog/", env!("CARGO_PKG_VERSION")))
            .build();
        let options = Arc::new(options);
        let agent = Agent::with_parts(config, Road(Arc::clone(&options)), Lookup(Arc::clone(&options)));
        Http { agent, options }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// GET with these headers.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response, HttpError> {
        let mut request = Request::get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(|_| HttpError::BadUrl)?;
        self.ask(request, self.limits())?.whole()
    }

    /// Runs a request without a body. `part` says how much of the answer's body is wanted, once its header is there;
    /// none is not judged, and not read beyond what keeping the connection is worth.
    pub fn run(&self, request: Request<()>, part: impl FnOnce(&Response) -> Part) -> Result<Response, HttpError> {
        let mut coming = self.ask(request, self.limits())?;
        let most = match part(&coming.answer) {
            Part::All => return coming.whole(),
            Part::Beginning(most) => most,
            Part::None => 0,
        };
        let mut body = Vec::new();
        // Whatever comes of it, the answer itself is here.
        while let left @ 1.. = most.saturating_sub(body.len()) {
            if !matches!(coming.read(&mut body, left), Ok(1..)) {
                break;
            }
        }
        if most == 0 && self.options.keep_alive {
            let _ = coming.read(&mut Vec::new(), DRAINED);
        }
        Ok(Response { body, ..coming.answer })
    }

    /// Runs a request of any method, with a body (`Vec<u8>`, `&str`) or without (`()`), within its own limits. An
    /// empty body is sent as such, with `Content-Length: 0`.
    pub fn run_with_body<B: AsSendBody + Clone>(
        &self,
        request: Request<B>,
        limits: Limits,
    ) -> Result<Response, HttpError> {
        self.ask(request, limits)?.whole()
    }

    /// The same, for a body that is to be read bit by bit. One that is not read to its end costs the connection.
    pub fn open<B: AsSendBody + Clone>(&self, request: Request<B>, limits: Limits) -> Result<Coming, HttpError> {
        self.ask(request, limits)
    }

    /// Runs a request with exactly this body, within the client's own limits.
    pub fn send(&self, request: Request<&[u8]>) -> Result<Response, HttpError> {
        self.run_with_body(request, self.limits())
    }

    /// POST of a JSON text.
    pub fn post_json(&self, url: &str, json: &str) -> Result<Response, HttpError> {
        let request = Request::post(url).header(CONTENT_TYPE, "application/json").body(json);
        self.run_with_body(request.map_err(|_| HttpError::BadUrl)?, self.limits())
    }

    /// POST of these bytes with these headers, `Content-Type` among them.
    pub fn post(&self, url: &str, headers: &HeaderMap, body: &[u8]) -> Result<Response, HttpError> {
        let mut request = Request::post(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.send(request.body(body).map_err(|_| HttpError::BadUrl)?)
    }

    /// The client's own limits.
    fn limits(&self) -> Limits {
        Limits { timeout: self.options.timeout, body: self.options.body_limit }
    }

    /// Sends, and waits for the header of the answer. A question that only reads and that a kept connection lost is
    /// sent once more on a new one: the peer had closed it.
    fn ask<B: AsSendBody + Clone>(&self, request: Request<B>, limits: Limits) -> Result<Coming, HttpError> {
        let is_plain = request.uri().scheme_str() == Some("http");
        let proxy = self.options.proxies.route(request.uri()).filter(|_| is_plain).cloned();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let again = (self.options.keep_alive && reads).then(|| request.clone());
        let begun = Instant::now();
        wire::watch_dialling();
        let outcome = match (self.once(request, limits.timeout), again) {
            (Err(error), Some(again)) if is_cut(&error) && !wire::has_dialled() => {
                self.once(again, limits.timeout.saturating_sub(begun.elapsed()))
            }
            (outcome, _) => outcome,
        };
        let answer = outcome.map_err(|error| explain(error, limits.timeout))?;
        match proxy {
            Some(proxy) if answer.status().as_u16() == 407 => Err(wire::refused(&proxy, 407)),
            _ => Ok(begin(answer, limits)),
        }
    }

    fn once(
        &self,
        request: Request<impl AsSendBody>,
        timeout: Duration,
    ) -> Result<ureq::http::Response<Body>, ureq::Error> {
        if timeout == self.options.timeout {
            return self.agent.run(request);
        }
        let request = self.agent.configure_request(request).timeout_global(Some(timeout)).build();
        self.agent.run(request)
    }
}

fn begin(answer: ureq::http::Response<Body>, limits: Limits) -> Coming {
    let (mut head, body) = answer.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let content_type = header("content-type").to_string();
    let retry_after = seconds_to_wait(header("retry-after"), header("date"));
    let status = head.status.as_u16();
    let body = Coded::new(body.into_reader(), &head.headers, limits.body);
    if matches!(body, Coded::Gzip(_)) {
        head.headers.remove(CONTENT_ENCODING);
    }
    let answer = Response { status, content_type, retry_after, headers: head.headers, body: Vec::new() };
    Coming { answer, body, read: 0, limits }
}

/// What `Retry-After` asks for. A date is taken against the `Date` of the same answer, so that no
/// clock but the peer's is in it.
fn seconds_to_wait(retry_after: &str, date: &str) -> Option<u64> {
    if let Ok(seconds) = retry_after.trim().parse() {
        return Some(seconds);
    }
    let until = httpdate::parse_http_date(retry_after.trim()).ok()?;
    let said = httpdate::parse_http_date(date.trim()).ok()?;
    Some(until.duration_since(said).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_or_a_date_by_the_peers_clock() {
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        let table = [
            ("17", "", Some(17)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", date, Some(30)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", date, Some(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", "", None),
            ("soon", date, None),
            ("-5", date, None),
            ("", date, None),
        ];
        for (retry_after, date, seconds) in table {
            assert_eq!(seconds_to_wait(retry_after, date), seconds, "{retry_after}");
        }
    }
}
