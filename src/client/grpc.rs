//! One gRPC call over HTTP/2: a message in, a status and a message out.
//!
//! Owns the wire of gRPC: the frame around a message, the status in headers or trailers, `RetryInfo`.
//! No stream, no compression, no retry, no connection kept: each call connects anew by
//! [`resolve`] and [`dial`] like every other client, with one deadline for everything and a limit on
//! what it reads. What a message means is the caller's business. Errors never show headers.
//! See `adr/0020-traces.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::dial::{DialError, dial};
use super::http::HEADER_LIMIT;
use super::resolve::{Lane, ResolveError, resolve};
use super::trust::{self, Refusal, Trust};
use crate::clock;
use crate::core::time::people;

/// Bytes of an answer's message at most, and of all its headers or trailers.
const ANSWER: usize = 256 * 1024;
const HEADERS: u32 = HEADER_LIMIT as u32;
/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The statuses that somebody here asks for.
pub mod code {
    /// All is well.
    pub const OK: u32 = 0;
    /// The caller, or somebody in between, called it off.
    pub const CANCELLED: u32 = 1;
    /// Nobody knows.
    pub const UNKNOWN: u32 = 2;
    /// The peer ran out of time.
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// Not with these credentials.
    pub const PERMISSION_DENIED: u32 = 7;
    /// Too much, or too many.
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    /// Given up on a conflict.
    pub const ABORTED: u32 = 10;
    /// Past the end.
    pub const OUT_OF_RANGE: u32 = 11;
    /// There is no such method.
    pub const UNIMPLEMENTED: u32 = 12;
    /// Something is broken.
    pub const INTERNAL: u32 = 13;
    /// Not now.
    pub const UNAVAILABLE: u32 = 14;
    /// What was sent is lost.
    pub const DATA_LOSS: u32 = 15;
    /// Who are you?
    pub const UNAUTHENTICATED: u32 = 16;
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The gRPC status, see [`code`].
    pub status: u32,
    /// The peer's words about it, as it sent them: not clean, not short.
    pub words: String,
    /// The wait that the peer asks for (`RetryInfo`).
    pub retry_after: Option<Duration>,
    /// The message; empty without one.
    pub message: Vec<u8>,
}

/// Why there is no answer. `Display` names no URL and no header.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The address cannot be used.
    #[error("not a usable http or https URL")]
    BadUrl,
    /// The name gave no usable address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// No connection came about.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The deadline passed. The request may have been received.
    #[error("no answer within {}", people(*.0))]
    Timeout(Duration),
    /// TLS failed: expired, wrong name, unknown issuer.
    #[error("TLS: {0}")]
    Tls(Refusal),
    /// The connection broke, or what came is not gRPC.
    #[error("{0}")]
    Broken(String),
}

/// A client of one peer.
pub struct Grpc {
    origin: Uri,
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    headers: HeaderMap,
    limit: Duration,
}

impl Grpc {
    /// A client of the peer at `url` (`http` or `https`; its path is not used), with `headers` in each
    /// call and `limit` for each call in all. `trust` says who the peer must be.
    pub fn new(url: &str, trust: &Trust, headers: HeaderMap, limit: Duration) -> Result<Grpc, GrpcError> {
        let origin: Uri = url.parse().map_err(|_| GrpcError::BadUrl)?;
        let host = origin.host().filter(|host| !host.is_empty()).ok_or(GrpcError::BadUrl)?.to_string();
        let (port, tls) = match origin.scheme_str() {
            Some("http") => (80, None),
            Some("https") => {
                let bare = host.trim_matches(['[', ']']).to_string();
                (
                    443,
                    Some((
                        Arc::new(trust.config_for(&[b"h2"])),
                        ServerName::try_from(bare).map_err(|_| GrpcError::BadUrl)?,
                    )),
                )
            }
            _ => return Err(GrpcError::BadUrl),
        };
        let port = origin.port_u16().unwrap_or(port);
        Ok(Grpc { origin, host, port, tls, headers, limit })
    }

    /// Calls `path` (`/package.Service/Method`) with `message`.
    pub fn call(&self, path: &str, message: &[u8]) -> Result<Answer, GrpcError> {
        if self.tls.is_some() && clock::was_never_set() {
            let words = "the clock of this machine says a time before 1970; set it".to_string();
            return Err(GrpcError::Tls(Refusal::new(trust::Flaw::Expired, words)));
        }
        let deadline = Instant::now() + self.limit;
        let addresses = resolve(&self.host, self.port, Lane::Own, false, self.limit)?;
        let stream = dial(&addresses, deadline).map_err(|error| match error {
            DialError::Timeout(_) => GrpcError::Timeout(self.limit),
            other => GrpcError::Dial(other),
        })?;
        let request = self.request(path, message)?;
        // A runtime for each call: with it ends whatever the connection left running, and its socket.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| GrpcError::Broken(e.to_string()))?;
        runtime.block_on(async {
            let exchange = self.exchange(stream, request);
            match tokio::time::timeout_at(deadline.into(), exchange).await {
                Ok(outcome) => outcome,
                Err(_) => Err(GrpcError::Timeout(self.limit)),
            }
        })
    }

    fn request(&self, path: &str, message: &[u8]) -> Result<Request<Full<Bytes>>, GrpcError> {
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = Some(path.parse().map_err(|_| GrpcError::BadUrl)?);
        let uri = Uri::from_parts(parts).map_err(|_| GrpcError::BadUrl)?;
        let mut request = Request::new(Full::new(framed(message)?));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("watchdog/", env!("CARGO_PKG_VERSION"))));
        // At most eight digits.
        let millis = self.limit.as_millis().min(99_999_999);
        if let Ok(value) = HeaderValue::from_str(&format!("{millis}m")) {
            headers.insert(HeaderName::from_static("grpc-timeout"), value);
        }
        Ok(request)
    }

    async fn exchange(&self, stream: std::net::TcpStream, request: Request<Full<Bytes>>) -> Result<Answer, GrpcError> {
        let broken = |e: std::io::Error| GrpcError::Broken(e.to_string());
        stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).map_err(broken)?;
        let stream = TcpStream::from_std(stream).map_err(broken)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await.map_err(explain_tls)?;
                if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return Err(GrpcError::Broken("the peer does not speak HTTP/2, which gRPC needs".to_string()));
                }
                Box::new(stream)
            }
        };
        converse(TokioIo::new(stream), request).await
    }
}

/// Plain or TLS: one type, so that HTTP/2 is compiled once.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn explain_tls(error: std::io::Error) -> GrpcError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => GrpcError::Tls(trust::explain(tls)),
        None => GrpcError::Broken(error.to_string()),
    }
}

/// One request and its whole answer.
async fn converse(io: TokioIo<Box<dyn Stream>>, request: Request<Full<Bytes>>) -> Result<Answer, GrpcError> {
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEADERS)
        .handshake::<_, Full<Bytes>>(io)
        .await
        .map_err(|e| explain(&e))?;
    // Ends with the runtime; what goes wrong there also ends the request.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|e| explain(&e))?;
    let (head, body) = answer.into_parts();
    let body = match Limited::new(body, ANSWER).collect().await {
        Ok(body) => body,
        Err(e) => match e.downcast::<hyper::Error>() {
            Ok(e) => return Err(explain(&e)),
            Err(_) => return Err(GrpcError::Broken(format!("the answer is larger than {ANSWER} bytes"))),
        },
    };
    let trailers = body.trailers().cloned().unwrap_or_default();
    understood(head.status, &head.headers, &trailers, &body.to_bytes())
}

fn explain(error: &hyper::Error) -> GrpcError {
    use std::error::Error as _;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    GrpcError::Broken(format!("{error}{cause}"))
}

fn framed(message: &[u8]) -> Result<Bytes, GrpcError> {
    let length = u32::try_from(message.len()).map_err(|_| GrpcError::Broken("the message is too large".to_string()))?;
    let mut frame = Vec::with_capacity(PREFIX + message.len());
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    Ok(frame.into())
}

/// The status is in the trailers, or in the headers of an answer without a message, or has to be
/// taken from the HTTP status of somebody who speaks no gRPC.
fn understood(http: StatusCode, headers: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<Answer, GrpcError> {
    let place = if trailers.contains_key("grpc-status") { trailers } else { headers };
    let text = |name: &str| place.get(name).and_then(|value| value.to_str().ok());
    let words = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let Some(status) = text("grpc-status").and_then(|status| status.parse().ok()) else {
        if http == StatusCode::OK {
            return Err(GrpcError::Broken("the answer has no gRPC status; is this a gRPC port?".to_string()));
        }
        return Ok(Answer {
            status: instead(http),
            words: format!("HTTP {}", http.as_u16()),
            retry_after: None,
            message: Vec::new(),
        });
    };
    let message = match body.split_at_checked(PREFIX) {
        _ if status != code::OK => Vec::new(),
        Some((prefix, message)) if prefix.first() == Some(&0) => message.to_vec(),
        Some(_) => return Err(GrpcError::Broken("the answer is compressed, which nobody asked for".to_string())),
        None => Vec::new(),
    };
    Ok(Answer {
        status,
        words: text("grpc-message").map(words).unwrap_or_default(),
        retry_after: text("grpc-status-details-bin").and_then(retry_info),
        message,
    })
}

/// The gRPC status that the specification gives to an HTTP status
/// (`grpc/doc/http-grpc-status-mapping.md`).
fn instead(http: StatusCode) -> u32 {
    match http.as_u16() {
        400 => code::INTERNAL,
        401 => code::UNAUTHENTICATED,
        403 => code::PERMISSION_DENIED,
        404 => code::UNIMPLEMENTED,
        429 | 502 | 503 | 504 => code::UNAVAILABLE,
        _ => code::UNKNOWN,
    }
}

/// `google.rpc.Status`, as far as it is used here.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The wait inside `grpc-status-details-bin`, which may or may not be padded.
fn retry_info(details: &str) -> Option<Duration> {
    let bytes = STANDARD_NO_PAD.decode(details.trim_end_matches('=')).ok()?;
    let status = Status::decode(bytes.as_slice()).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.delay?;
    let nanos = u32::try_from(delay.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn the_status_is_found_wherever_it_is() {
        let none = HeaderMap::new();
        let frame = framed(b"abc").unwrap();
        let good = understood(StatusCode::OK, &none, &map(&[("grpc-status", "0")]), &frame).unwrap();
        assert_eq!((good.status, good.message.as_slice()), (code::OK, b"abc".as_slice()));
        let early = map(&[("grpc-status", "14"), ("grpc-message", "not%20now")]);
        let early = understood(StatusCode::OK, &early, &none, &[]).unwrap();
        assert_eq!((early.status, early.words.as_str()), (code::UNAVAILABLE, "not now"));
        let proxy = understood(StatusCode::BAD_GATEWAY, &none, &none, b"<html>").unwrap();
        assert_eq!((proxy.status, proxy.words.as_str()), (code::UNAVAILABLE, "HTTP 502"));
        assert!(understood(StatusCode::OK, &none, &none, b"hello").is_err());
        let compressed = understood(StatusCode::OK, &none, &map(&[("grpc-status", "0")]), &[1, 0, 0, 0, 0]);
        assert!(compressed.is_err());
    }

    #[test]
    fn a_wait_is_read_from_the_details_with_and_without_padding() {
        let info = RetryInfo { delay: Some(Delay { seconds: 2, nanos: 500_000_000 }) };
        let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info.encode_to_vec() };
        let bytes = Status { details: vec![any] }.encode_to_vec();
        let padded = base64::engine::general_purpose::STANDARD.encode(&bytes);
        for text in [padded.clone(), padded.trim_end_matches('=').to_string()] {
            assert_eq!(retry_info(&text), Some(Duration::from_millis(2500)), "{text}");
        }
        for text in ["", "%%%", "AAAA"] {
            assert_eq!(retry_info(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_called_is_refused() {
        for url in ["", "localhost:4317", "ftp://localhost", "http://", "https://a b"] {
            let made = Grpc::new(url, &Trust::bundled(), HeaderMap::new(), Duration::from_secs(1));
            assert!(matches!(made, Err(GrpcError::BadUrl)), "{url}");
        }
    }
}
