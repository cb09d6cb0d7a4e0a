//! HTTP by `ureq`: one agent set up the way every part of the program needs it.
//!
//! No redirects unless asked, no proxy from the environment, no cookies, no decompression, bundled
//! TLS roots, a total deadline, a limit on header and body, and names resolved by
//! [`resolve`](super::resolve) (deadline, refusal of metadata addresses, again on each redirect) and
//! connected to by [`dial`](super::dial). Errors never show the URL: it may hold a token.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{HeaderMap, Request, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, Transport,
};
use ureq::{Agent, AsSendBody, Body};

use super::dial::{DialError, dial};
use super::resolve::{Lane, ResolveError, resolve};
use crate::core::time::people;

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
    /// Authorities that may sign a peer's certificate; empty: the bundled ones.
    pub roots: Arc<Vec<Certificate<'static>>>,
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
            roots: Arc::default(),
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
    body: ureq::BodyReader<'static>,
    read: usize,
    limits: Limits,
}

impl Coming {
    /// Appends the next bytes of the body, as many as come up to `most`; none: that was all.
    pub fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Result<usize, HttpError> {
        let some = (&mut self.body).take(most as u64).read_to_end(into);
        let some = some.map_err(|e| explain(ureq::Error::from(e), self.limits.timeout))?;
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

/// Why there is no answer. `Display` names no URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The URL cannot be used.
    #[error("not a usable http or https URL")]
    BadUrl,
    /// The name gave no usable address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Nobody listens there.
    #[error("connection refused by {0}")]
    Refused(SocketAddr),
    /// Our own machine is at fault: no descriptors, no ports, no network.
    #[error("cannot open a connection: {0}")]
    Own(String),
    /// The deadline passed. The request may have been received.
    #[error("no answer within {}{}", people(*.0), meanwhile(.1))]
    Timeout(Duration, &'static str),
    /// TLS failed: expired, wrong name, unknown issuer.
    #[error("TLS: {0}")]
    Tls(String),
    /// Header or body over the limit.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke, or what came is no HTTP.
    #[error("{0}")]
    Broken(String),
}

/// An HTTP client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Http {
    agent: Agent,
    options: Options,
}

impl Http {
    /// A client with these options.
    pub fn new(options: Options) -> Http {
        let roots =
            if options.roots.is_empty() { RootCerts::WebPki } else { RootCerts::Specific(Arc::clone(&options.roots)) };
        let tls = TlsConfig::builder().root_certs(roots).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .tls_config(tls)
            .no_delay(true)
            .max_redirects(options.redirects)
            .max_redirects_will_error(false)
            .timeout_global(Some(options.timeout))
            .max_response_header_size(16 * 1024)
            .input_buffer_size(8 * 1024)
            .output_buffer_size(4 * 1024)
            .max_idle_connections(if options.keep_alive { 4 } else { 0 })
            .max_idle_connections_per_host(usize::from(options.keep_alive))
            .max_idle_age(Duration::from_secs(25))
            .user_agent(concat!("watchdog/", env!("CARGO_PKG_VERSION")))
            .build();
        let lookup = Lookup { options: Arc::new(options.clone()) };
        let connector = Dial { limit: options.timeout }.chain(RustlsConnector::default());
        Http { agent: Agent::with_parts(config, connector, lookup), options }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// GET with these headers.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response, HttpError> {
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        finish(request.call(), self.limits())
    }

    /// Runs a request without a body. Without `whole` the answer ends
    /// with its header: the body is neither read nor judged, and the connection is closed.
    pub fn run(&self, request: Request<()>, whole: bool) -> Result<Response, HttpError> {
        let outcome = self.agent.run(request);
        if whole {
            return finish(outcome, self.limits());
        }
        let answer = outcome.map_err(|e| explain(e, self.options.timeout))?;
        Ok(Response { status: answer.status().as_u16(), ..Response::default() })
    }

    /// Runs a request of any method, with a body (`Vec<u8>`, `&str`) or without (`()`), within its own limits. An
    /// empty body is sent as such, with `Content-Length: 0`.
    pub fn run_with_body(&self, request: Request<impl AsSendBody>, limits: Limits) -> Result<Response, HttpError> {
        self.open(request, limits)?.whole()
    }

    /// The same, for a body that is to be read bit by bit. One that is not read to its end costs the connection.
    pub fn open(&self, request: Request<impl AsSendBody>, limits: Limits) -> Result<Coming, HttpError> {
        let request = self.agent.configure_request(request).timeout_global(Some(limits.timeout)).build();
        begin(self.agent.run(request), limits)
    }

    /// Runs a request with exactly this body, within the client's own limits.
    pub fn send(&self, request: Request<&[u8]>) -> Result<Response, HttpError> {
        self.run_with_body(request, self.limits())
    }

    /// POST of a JSON text.
    pub fn post_json(&self, url: &str, json: &str) -> Result<Response, HttpError> {
        finish(self.agent.post(url).content_type("application/json").send(json), self.limits())
    }

    /// POST of these bytes with these headers, `Content-Type` among them.
    pub fn post(&self, url: &str, headers: &HeaderMap, body: &[u8]) -> Result<Response, HttpError> {
        let mut request = self.agent.post(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        finish(request.send(body), self.limits())
    }

    /// The client's own limits.
    fn limits(&self) -> Limits {
        Limits { timeout: self.options.timeout, body: self.options.body_limit }
    }
}

fn finish(outcome: Result<ureq::http::Response<Body>, ureq::Error>, limits: Limits) -> Result<Response, HttpError> {
    begin(outcome, limits)?.whole()
}

fn begin(outcome: Result<ureq::http::Response<Body>, ureq::Error>, limits: Limits) -> Result<Coming, HttpError> {
    let (head, body) = outcome.map_err(|e| explain(e, limits.timeout))?.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let content_type = header("content-type").to_string();
    let retry_after = seconds_to_wait(header("retry-after"), header("date"));
    let status = head.status.as_u16();
    let answer = Response { status, content_type, retry_after, headers: head.headers, body: Vec::new() };
    Ok(Coming { answer, body: body.into_reader(), read: 0, limits })
}

fn explain(error: ureq::Error, limit: Duration) -> HttpError {
    use ureq::Error as E;
    match error {
        E::BadUri(_) | E::Http(_) => HttpError::BadUrl,
        E::HostNotFound => HttpError::Broken("the name has no address".to_string()),
        E::Timeout(phase) => HttpError::Timeout(limit, name_phase(phase)),
        E::LargeResponseHeader(..) => HttpError::TooLarge(16 * 1024),
        E::Rustls(e) => HttpError::Tls(e.to_string()),
        E::Tls(what) => HttpError::Tls(what.to_string()),
        E::Io(e) => explain_io(&e),
        E::Other(inner) => explain_own(inner, limit),
        E::ConnectionFailed => HttpError::Broken("connection failed".to_string()),
        E::Protocol(e) => HttpError::Broken(format!("not a valid HTTP answer: {}", without_text(&e.to_string()))),
        _ => HttpError::Broken("the request failed".to_string()),
    }
}

/// What the library says of an answer without what it repeats of it: a `Location` may hold a password.
fn without_text(said: &str) -> &str {
    match said.split_once(": ") {
        Some((lead, _)) if lead != "http parse fail" => lead,
        _ => said,
    }
}

/// Errors that our own resolver and connector put into ureq's.
fn explain_own(inner: Box<dyn std::error::Error + Send + Sync>, limit: Duration) -> HttpError {
    let inner = match inner.downcast::<ResolveError>() {
        Ok(resolve) => return HttpError::Resolve(*resolve),
        Err(inner) => inner,
    };
    match inner.downcast::<DialError>().map(|e| *e) {
        Ok(DialError::Refused(address)) => HttpError::Refused(address),
        Ok(DialError::Timeout(_)) => HttpError::Timeout(limit, "connecting"),
        Ok(DialError::Own(why)) => HttpError::Own(why),
        Ok(error @ DialError::Unreachable(..)) => HttpError::Broken(error.to_string()),
        Err(_) => HttpError::Broken("the request failed".to_string()),
    }
}

/// The first step of a connection, in place of ureq's own: its errors say who refused.
#[derive(Debug)]
struct Dial {
    limit: Duration,
}

impl Connector for Dial {
    type Out = Wire;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Wire>, ureq::Error> {
        let limit = (*details.timeout.after).min(self.limit);
        let stream = dial(&details.addrs, Instant::now() + limit).map_err(|e| ureq::Error::Other(Box::new(e)))?;
        // One request in one packet needs no waiting for more.
        stream.set_nodelay(true)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Wire { stream, buffers }))
    }
}

/// A plain connection with ureq's buffers; every wait ends with what is left of the call's limit.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Wire {
    fn timed<T>(outcome: std::io::Result<T>, timeout: NextTimeout) -> Result<T, ureq::Error> {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        outcome.map_err(|e| match e.kind() {
            TimedOut | WouldBlock => ureq::Error::Timeout(timeout.reason),
            _ => ureq::Error::Io(e),
        })
    }

    /// What is left; an error when nothing is.
    fn left(timeout: NextTimeout) -> Result<Option<Duration>, ureq::Error> {
        if timeout.after.is_zero() {
            return Err(ureq::Error::Timeout(timeout.reason));
        }
        match timeout.not_zero() {
            Some(left) => Ok(Some(*left)),
            None => Ok(None),
        }
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.set_write_timeout(Self::left(timeout)?)?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Self::timed(self.stream.write_all(output), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.set_read_timeout(Self::left(timeout)?)?;
        let amount = Self::timed(self.stream.read(self.buffers.input_append_buf()), timeout)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// An idle connection is open when there is nothing to read and no end to be seen.
    fn is_open(&mut self) -> bool {
        let nothing_to_read = |mut stream: &TcpStream| {
            stream.set_nonblocking(true)?;
            let seen = stream.read(&mut [0]);
            stream.set_nonblocking(false)?;
            Ok::<_, std::io::Error>(matches!(seen, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock))
        };
        nothing_to_read(&self.stream).unwrap_or(false)
    }
}

fn explain_io(error: &std::io::Error) -> HttpError {
    // A TLS failure arrives wrapped in an I/O error when it happens during the handshake.
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return HttpError::Tls(tls.to_string());
    }
    match error.kind() {
        std::io::ErrorKind::ConnectionReset => HttpError::Broken("connection reset by the peer".to_string()),
        std::io::ErrorKind::UnexpectedEof => {
            HttpError::Broken("the connection ended before the answer was whole".to_string())
        }
        _ => HttpError::Broken(error.to_string()),
    }
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

/// The phase in brackets, where it says more than "in all".
fn meanwhile(phase: &str) -> String {
    if phase == IN_ALL { String::new() } else { format!(" ({phase})") }
}

/// The phase of a call that ran out of its total time, wherever it was.
const IN_ALL: &str = "in all";

fn name_phase(phase: ureq::Timeout) -> &'static str {
    use ureq::Timeout as T;
    match phase {
        T::Resolve => "looking up the name",
        T::Connect => "connecting",
        T::SendRequest | T::SendBody => "sending the request",
        T::RecvResponse => "waiting for the answer",
        T::RecvBody => "reading the answer",
        _ => IN_ALL,
    }
}

#[derive(Debug)]
struct Lookup {
    options: Arc<Options>,
}

impl Resolver for Lookup {
    fn resolve(&self, uri: &Uri, _config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let limit = (*timeout.after).min(self.options.timeout);
        let Options { lane, allow_link_local, .. } = *self.options;
        let found = resolve(host, uri.port_u16().unwrap_or(default), lane, allow_link_local, limit)
            .map_err(|e| ureq::Error::Other(Box::new(e)))?;
        let mut addresses = self.empty();
        // All were judged; to connect, the first of them will do.
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        Ok(addresses)
    }
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
