//! HTTP by `ureq`: one agent set up the way every part of the program needs it.
//!
//! No redirects unless asked, no proxy from the environment, no cookies, no decompression, bundled
//! TLS roots, a total deadline, a limit on header and body, and names resolved by
//! [`resolve`](super::resolve) (deadline, refusal of metadata addresses). Errors never show the URL:
//! it may hold a token.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};

use super::resolve::{ResolveError, resolve};

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Total limit of one call, from the lookup of the name to the last byte.
    pub timeout: Duration,
    /// Redirects followed; zero hands the redirect back as the answer.
    pub redirects: u32,
    /// May talk to link-local and metadata addresses.
    pub allow_link_local: bool,
    /// Keep connections open between calls, for peers that are asked often.
    pub keep_alive: bool,
    /// Bytes of body read at most; a longer body is [`HttpError::TooLarge`].
    pub body_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            timeout: Duration::from_secs(5),
            redirects: 0,
            allow_link_local: false,
            keep_alive: false,
            body_limit: 1024 * 1024,
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The `Content-Type`, empty when missing.
    pub content_type: String,
    /// `Retry-After` in seconds, when present and a number.
    pub retry_after: Option<u64>,
    /// The body, at most `body_limit` bytes.
    pub body: Vec<u8>,
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
    #[error("connection refused")]
    Refused,
    /// The deadline passed. The request may have been received.
    #[error("no answer within {0:?} ({1})")]
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
        let tls = TlsConfig::builder().root_certs(RootCerts::WebPki).build();
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
        Http { agent: Agent::with_parts(config, DefaultConnector::default(), lookup), options }
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
        self.finish(request.call())
    }

    /// POST of a JSON text.
    pub fn post_json(&self, url: &str, json: &str) -> Result<Response, HttpError> {
        self.finish(self.agent.post(url).content_type("application/json").send(json))
    }

    fn finish(&self, outcome: Result<ureq::http::Response<Body>, ureq::Error>) -> Result<Response, HttpError> {
        let answer = outcome.map_err(|e| self.explain(e))?;
        let status = answer.status().as_u16();
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let content_type = header("content-type").to_string();
        let retry_after = header("retry-after").trim().parse().ok();
        let limit = self.options.body_limit;
        let mut body = Vec::new();
        let mut reader = answer.into_body().into_reader().take(limit as u64 + 1);
        reader.read_to_end(&mut body).map_err(|e| self.explain(ureq::Error::from(e)))?;
        if body.len() > limit {
            return Err(HttpError::TooLarge(limit));
        }
        Ok(Response { status, content_type, retry_after, body })
    }

    fn explain(&self, error: ureq::Error) -> HttpError {
        use ureq::Error as E;
        match error {
            E::BadUri(_) | E::Http(_) => HttpError::BadUrl,
            E::HostNotFound => HttpError::Broken("the name has no address".to_string()),
            E::Timeout(phase) => HttpError::Timeout(self.options.timeout, name_phase(phase)),
            E::LargeResponseHeader(..) => HttpError::TooLarge(16 * 1024),
            E::Rustls(e) => HttpError::Tls(e.to_string()),
            E::Tls(what) => HttpError::Tls(what.to_string()),
            E::Io(e) => explain_io(&e),
            E::Other(inner) => match inner.downcast::<ResolveError>() {
                Ok(resolve) => HttpError::Resolve(*resolve),
                Err(_) => HttpError::Broken("the request failed".to_string()),
            },
            E::ConnectionFailed => HttpError::Broken("connection failed".to_string()),
            E::Protocol(e) => HttpError::Broken(format!("not a valid HTTP answer: {e}")),
            _ => HttpError::Broken("the request failed".to_string()),
        }
    }
}

fn explain_io(error: &std::io::Error) -> HttpError {
    // A TLS failure arrives wrapped in an I/O error when it happens during the handshake.
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return HttpError::Tls(tls.to_string());
    }
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => HttpError::Refused,
        std::io::ErrorKind::ConnectionReset => HttpError::Broken("connection reset by the peer".to_string()),
        std::io::ErrorKind::UnexpectedEof => {
            HttpError::Broken("the connection ended before the answer was whole".to_string())
        }
        _ => HttpError::Broken(error.to_string()),
    }
}

fn name_phase(phase: ureq::Timeout) -> &'static str {
    use ureq::Timeout as T;
    match phase {
        T::Resolve => "looking up the name",
        T::Connect => "connecting",
        T::SendRequest | T::SendBody => "sending the request",
        T::RecvResponse => "waiting for the answer",
        T::RecvBody => "reading the answer",
        _ => "in all",
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
        let found = resolve(host, uri.port_u16().unwrap_or(default), self.options.allow_link_local, limit)
            .map_err(|e| ureq::Error::Other(Box::new(e)))?;
        let mut addresses = self.empty();
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}
