//! The sockets: one thread, few connections, short patience.
//!
//! A current-thread runtime sealed in its own thread serves at most [`CONNECTIONS`] at once; the
//! next one is told 503 and closed. A connection has five seconds to send a request, lives ten in
//! all, and its header is at most 16 KiB; bodies of answers that slow readers have not taken yet
//! are bounded together. The thread shares nothing with the tick but the published snapshot (F44).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::access::Access;
use super::health::{self, Health};
use super::metrics::Process;
use super::page::STYLE_HASH;
use super::pieces::Unread;
use super::route::{Answer, Asked, answer};
use super::snapshot::Published;
use crate::client::shortage;
use crate::clock::{self, Clock};
use crate::config::ConfigError;
use crate::core::time::Wall;

/// Connections served at once.
pub const CONNECTIONS: usize = 32;
/// Time to send a whole request header, also for each further one on a kept connection.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a connection is closed when its answer is out.
const QUIET_AFTER: Duration = Duration::from_secs(6);
/// Time a connection lives in all.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(10);
/// Bytes of a request's header.
pub const HEADER_LIMIT: usize = 16 * 1024;
/// Bytes of all answers that were rendered and are not yet taken by their readers. A single answer
/// may be larger.
const UNREAD_LIMIT: usize = 8 * 1024 * 1024;
/// Time that stopping waits for answers on their way.
const STOP_PATIENCE: Duration = Duration::from_millis(300);

/// A running status server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("the status server cannot listen on {address}: {why}; set `listen` to a free address, or to \"\" for none")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        why: io::Error,
    },
    /// The thread or its runtime could not be made.
    #[error("the status server cannot start: {0}")]
    Start(io::Error),
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] ConfigError),
}

/// What a server answers with. Must not block: every connection is served by one thread.
pub trait Site: Send + Sync + 'static {
    /// The answer to one request.
    fn answer(&self, asked: Asked<'_>) -> Answer;

    /// What the health check is told on its own socket; `None` where there is no such socket.
    fn health(&self) -> Option<Health> {
        None
    }
}

/// The pages of the daemon.
struct Pages {
    access: Access,
    published: Arc<Published>,
    clock: Clock,
}

impl Site for Pages {
    fn answer(&self, asked: Asked<'_>) -> Answer {
        answer(asked, &self.access, &self.published.latest(), self.clock.now(), measure)
    }

    fn health(&self) -> Option<Health> {
        Some(Health::of(&self.published.latest(), self.clock.now()))
    }
}

impl Server {
    /// Listens on `listen` and serves what is published until stopped. Port 0 takes any free one.
    pub fn start(
        listen: SocketAddr,
        access: Access,
        published: Arc<Published>,
        clock: Clock,
    ) -> Result<Server, ServeError> {
        Server::serve(listen, Box::new(Pages { access, published, clock }))
    }

    /// Listens on `listen` and serves `site` until stopped.
    pub fn serve(listen: SocketAddr, site: Box<dyn Site>) -> Result<Server, ServeError> {
        let failed = |why| ServeError::Listen { address: listen, why };
        let socket = std::net::TcpListener::bind(listen).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ServeError::Start)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let health = site.health().and_then(|_| match health::listen(address) {
            Ok(listener) => Some(listener),
            Err(error) => {
                warn!(%error, "the health check has no socket of its own and is answered like any other request");
                None
            }
        });
        let shared = Arc::new(Shared { site, open: AtomicUsize::new(0), unread: Arc::default() });
        let serve = move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(socket) else { return };
                if let Some(health) = health {
                    let shared = Arc::clone(&shared);
                    let tell = move || shared.site.health().unwrap_or_default();
                    tokio::spawn(health::answer(health, tell));
                }
                let accepting = tokio::spawn(accept(listener, shared));
                // A dropped sender means stop, too.
                let _ = stopped.await;
                accepting.abort();
            });
            runtime.shutdown_timeout(STOP_PATIENCE);
        };
        let thread = thread::Builder::new()
            .name("serve".to_string())
            .stack_size(512 * 1024)
            .spawn(serve)
            .map_err(ServeError::Start)?;
        debug!(%address, "status page");
        Ok(Server { address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, closes every connection and waits for the thread, until `by` at most: well under a
    /// second unless the machine stands still.
    pub fn stop(mut self, by: Instant) {
        self.end(by);
    }

    fn end(&mut self, by: Instant) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < by {
            thread::park_timeout(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Instant::now() + STOP_PATIENCE * 3);
    }
}

/// What all connections share.
struct Shared {
    site: Box<dyn Site>,
    open: AtomicUsize,
    unread: Arc<AtomicUsize>,
}

/// Counts a connection for as long as it lives.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            // The library that speaks HTTP writes dates, and ends the program over one before 1970.
            Ok((stream, _)) if clock::was_never_set() => turn_away(&stream, UNDATED),
            Ok((stream, _)) => {
                if shared.open.fetch_add(1, Ordering::SeqCst) < CONNECTIONS {
                    tokio::spawn(serve(stream, Open(Arc::clone(&shared))));
                } else {
                    drop(Open(Arc::clone(&shared)));
                    turn_away(&stream, FULL);
                }
            }
            Err(error) => {
                // Out of descriptors, or a peer that was gone before we looked: try again, without spinning.
                debug!(%error, "accepting a connection failed");
                shortage::seen(&error);
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Says 503 without waiting for anything; a peer that does not read learns it from the close.
fn turn_away(stream: &TcpStream, why: &str) {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         retry-after: 5\r\nconnection: close\r\n\r\n{why}",
        why.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}

const FULL: &str = "too many connections; try again in a few seconds\n";
const UNDATED: &str = "the clock of this machine says a time before 1970; nothing is shown until it is set\n";

async fn serve(stream: TcpStream, open: Open) {
    let shared = &open.0;
    let service = service_fn(|request: Request<Incoming>| {
        let answer = respond(&request, shared);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    // Its own date header panics when the clock was never set.
    builder.auto_date_header(false);
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_LIMIT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Errors are the peer's: broken requests, resets, deadlines. None of them concerns us.
    if timeout(QUIET_AFTER, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(CONNECTION_LIFE.saturating_sub(QUIET_AFTER), connection).await;
    }
}

fn respond(request: &Request<Incoming>, shared: &Shared) -> Response<Unread> {
    let asked = Asked {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        has_body: !request.body().is_end_stream(),
    };
    let answer = if shared.unread.load(Ordering::SeqCst) > UNREAD_LIMIT {
        Answer::sentence(StatusCode::SERVICE_UNAVAILABLE, "too many slow readers; try again in a few seconds")
    } else {
        shared.site.answer(asked)
    };
    let has_body = asked.has_body;
    let mut response = Response::new(answer.body.into_body(&shared.unread));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    let wall = Clock::system().now().wall;
    // Who has no time must not tell it: a clock that was never set is worse than none.
    if wall > Wall::default()
        && let Ok(date) = HeaderValue::from_str(&wall.http_date())
    {
        headers.insert(header::DATE, date);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    for (name, value) in SECURITY {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if let Some((name, value)) = answer.extra {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if has_body {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

const SECURITY: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Our own memory, from the kernel's table.
pub fn measure() -> Process {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix("kB").and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok()));
    Process { resident: resident.map(|kilobytes| kilobytes.saturating_mul(1_024)) }
}
