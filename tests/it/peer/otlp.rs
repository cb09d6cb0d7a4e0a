//! A collector on loopback that speaks OTLP by HTTP/1 or by gRPC over a real HTTP/2, plain or by TLS, decodes
//! what it gets with the official messages, and misbehaves as the script says, one answer per request.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::listener::{Ended, Listener};

/// How to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    Http,
    Grpc,
}

/// One answer of the script.
#[derive(Debug, Clone)]
pub enum Answer {
    /// All is taken. What happens without a script.
    Take,
    /// Taken but for so many spans, with these words.
    Partial(i64, &'static str),
    /// An HTTP status, also where gRPC is spoken, with `Retry-After`.
    Status(u16, Option<&'static str>),
    /// A gRPC status with the seconds of its `RetryInfo`.
    Grpc(u32, Option<u8>),
    /// Nothing, for ever.
    Hang,
    /// The connection or the stream ends without an answer.
    Close,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub at: Instant,
    pub path: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub message: ExportTraceServiceRequest,
}

impl Received {
    /// Its spans.
    pub fn spans(&self) -> Vec<Span> {
        self.message.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| s.spans.clone()).collect()
    }
}

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<Answer>>,
    received: Mutex<Vec<Received>>,
}

/// The collector. Ends when it is dropped.
pub struct Collector {
    listener: Listener,
    speech: Speech,
    tls: bool,
    shared: Arc<Shared>,
}

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peer/certs").join(name)
}

/// The file of the authority that signed the collector's certificate.
pub fn authority() -> String {
    certificate("lasting_ca.pem").display().to_string()
}

fn acceptor(speech: Speech) -> TlsAcceptor {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let leaf = CertificateDer::from_pem_file(certificate("lasting_leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificate("lasting_leaf.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .unwrap();
    config.alpn_protocols = vec![if speech == Speech::Grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    TlsAcceptor::from(Arc::new(config))
}

impl Collector {
    /// Listens; answers by the script, then takes everything.
    pub fn start(speech: Speech, tls: bool, script: impl IntoIterator<Item = Answer>) -> Collector {
        let shared = Arc::new(Shared { script: Mutex::new(script.into_iter().collect()), ..Shared::default() });
        let serving = Arc::clone(&shared);
        let listener = Listener::start(move || {
            let serving = Arc::clone(&serving);
            move |stream: std::net::TcpStream, _: &Ended| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(connection(speech, tls, stream, serving));
            }
        });
        Collector { listener, speech, tls, shared }
    }

    /// The address to give out, without a path.
    pub fn url(&self) -> String {
        format!("{}://localhost:{}", if self.tls { "https" } else { "http" }, self.listener.address().port())
    }

    /// The variables that lead here, with short delays.
    pub fn variables(&self) -> Vec<(String, String)> {
        let protocol = if self.speech == Speech::Grpc { "grpc" } else { "http/protobuf" };
        let all = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.url()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_string()),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20".to_string()),
        ];
        all.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.listener.connections()
    }
}

async fn connection(speech: Speech, tls: bool, stream: std::net::TcpStream, shared: Arc<Shared>) {
    stream.set_nonblocking(true).unwrap();
    let stream = TcpStream::from_std(stream).unwrap();
    if !tls {
        return serve(speech, stream, shared).await;
    }
    if let Ok(stream) = acceptor(speech).accept(stream).await {
        serve(speech, stream, shared).await;
    }
}

async fn serve<T>(speech: Speech, stream: T, shared: Arc<Shared>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| answer(speech, request, Arc::clone(&shared)));
    let io = TokioIo::new(stream);
    // How a connection ends is the client's affair.
    let _ = match speech {
        Speech::Http => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
        Speech::Grpc => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        }
    };
}

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

async fn answer(speech: Speech, request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, String> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    let message = match speech {
        Speech::Http => &body[..],
        Speech::Grpc => {
            let length = u32::from_be_bytes(body[1..5].try_into().unwrap());
            assert_eq!((body[0], length as usize), (0, body.len() - 5), "the frame around the message");
            &body[5..]
        }
    };
    shared.received.lock().unwrap().push(Received {
        at: Instant::now(),
        path: head.uri.path().to_string(),
        version: head.version,
        headers: head.headers,
        message: ExportTraceServiceRequest::decode(message).unwrap(),
    });
    let next = shared.script.lock().unwrap().pop_front().unwrap_or(Answer::Take);
    let good = |partial_success| ExportTraceServiceResponse { partial_success }.encode_to_vec();
    match next {
        Answer::Take => Ok(taken(speech, good(None))),
        Answer::Partial(rejected_spans, words) => {
            let error_message = words.to_string();
            Ok(taken(speech, good(Some(ExportTracePartialSuccess { rejected_spans, error_message }))))
        }
        Answer::Status(status, retry_after) => {
            let mut response = Response::builder().status(status).header("content-type", "application/x-protobuf");
            if let Some(value) = retry_after {
                response = response.header("retry-after", value);
            }
            // google.rpc.Status with the message "no".
            Ok(response.body(Full::new(Bytes::from_static(b"\x12\x02no")).boxed_unsync()).unwrap())
        }
        Answer::Grpc(status, seconds) => {
            let mut response =
                Response::builder().header("content-type", "application/grpc").header("grpc-status", status);
            response = response.header("grpc-message", "no%20more");
            if let Some(seconds) = seconds {
                response = response.header("grpc-status-details-bin", retry_info(seconds));
            }
            Ok(response.body(Full::default().boxed_unsync()).unwrap())
        }
        Answer::Hang => {
            tokio::time::sleep(Duration::from_mins(5)).await;
            Err("hung".to_string())
        }
        Answer::Close => Err("closed".to_string()),
    }
}

fn taken(speech: Speech, message: Vec<u8>) -> Response<Body> {
    if speech == Speech::Http {
        let body = Full::new(Bytes::from(message)).boxed_unsync();
        return Response::builder().header("content-type", "application/x-protobuf").body(body).unwrap();
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(frame)).with_trailers(async move { Some(Ok(trailers)) }).boxed_unsync();
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// `google.rpc.Status { details: [RetryInfo { retry_delay: seconds }] }`, in base64 without padding.
fn retry_info(seconds: u8) -> String {
    let field = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let info = field(1, &[1 << 3, seconds]);
    let any = [field(1, b"type.googleapis.com/google.rpc.RetryInfo"), field(2, &info)].concat();
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(field(3, &any))
}
