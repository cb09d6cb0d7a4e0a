//! The Docker Engine over its Unix socket, to look and nothing else.
//!
//! Owns the wire: one current-thread runtime that never leaves this type, the API version spoken,
//! deadlines and body limits. Offers five questions (list, inspect one or many, events, the end of a log), all GET:
//! the type has no other verb, because whoever may POST to this socket is root on the host (T1;
//! `adr/0002-docker-through-hyperlocal-get-only.md`). No retries except the one after a version complaint, no
//! policy, no connection kept between calls: a daemon that was restarted is met afresh.

mod error;
mod events;
mod logs;
mod model;
mod version;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use hyperlocal::UnixConnector;
use serde::Deserialize;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub use self::error::{Cause, DockerError};
pub use self::events::{Events, Next, Nudge};
pub use self::logs::LOG_LIMIT;
pub use self::model::{
    Actor, ContainerConfig, ContainerState, Event, Health, HealthResult, Healthcheck, HostConfig, Inspected, Listed,
    RestartPolicy,
};
pub use self::version::{ApiVersion, NEWEST, OLDEST};
use super::http::{HEADER_FIELDS, HEADER_LIMIT};

/// Bytes of a list of containers at most.
pub const LIST_LIMIT: usize = 8 * 1024 * 1024;
/// Bytes of one inspect answer at most.
pub const INSPECT_LIMIT: usize = 1024 * 1024;
/// Inspect calls under way at once.
pub const AT_ONCE: usize = 8;
/// Bytes of `/_ping`, `/version` and of an error's body at most.
const SMALL: usize = 64 * 1024;
/// Asked of the engine, so that exec-based health checks do not flood the stream:
/// `{"type":["container"],"event":["die","oom","kill","stop","start","destroy","pause","unpause","rename","health_status"]}`.
const EVENTS: &str = "%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22die%22%2C%22oom%22%2C%22kill%22%2C\
                      %22stop%22%2C%22start%22%2C%22destroy%22%2C%22pause%22%2C%22unpause%22%2C%22rename%22%2C\
                      %22health_status%22%5D%7D";

type Wire = Client<UnixConnector, Empty<Bytes>>;

/// A client of one engine. Not to be shared between threads: each call blocks its thread.
pub struct Docker {
    runtime: Runtime,
    wire: Wire,
    socket: PathBuf,
    version: Option<ApiVersion>,
}

impl Docker {
    /// A client for the engine behind this socket. Connects to nothing yet.
    pub fn new(socket: &Path) -> Result<Docker, DockerError> {
        let fail = |error| DockerError::new("set up the Docker client", socket, Cause::Connect(error));
        if socket.as_os_str().is_empty() || socket.to_str().is_none() {
            return Err(fail(io::Error::from(io::ErrorKind::NotFound)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let wire = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .set_host(false)
            .http1_max_buf_size(HEADER_LIMIT)
            .http1_max_headers(HEADER_FIELDS)
            .build(UnixConnector);
        Ok(Docker { runtime, wire, socket: socket.to_path_buf(), version: None })
    }

    /// The API version that was agreed upon, once a call was made.
    pub fn version(&self) -> Option<ApiVersion> {
        self.version
    }

    /// All containers, also those that do not run. `limit` is for everything, negotiation included.
    pub fn list(&mut self, limit: Duration) -> Result<Vec<Listed>, DockerError> {
        let operation = "list containers";
        let body = self.versioned(operation, "/containers/json?all=1", limit, |response| read(response, LIST_LIMIT))?;
        parse(&body).map_err(|cause| DockerError::new(operation, &self.socket, cause))
    }

    /// One container by its id.
    pub fn inspect(&mut self, id: &str, limit: Duration) -> Result<Inspected, DockerError> {
        let mut answers = self.inspect_all(&[id.to_string()], limit, limit);
        answers.pop().unwrap_or_else(|| Err(DockerError::new("inspect container", &self.socket, Cause::BadId)))
    }

    /// Many containers, [`AT_ONCE`] at a time and in this order: each within `each`, all within
    /// `total`. The answers stand in the order of `ids`; one that hangs costs nobody else's.
    pub fn inspect_all(
        &mut self,
        ids: &[String],
        each: Duration,
        total: Duration,
    ) -> Vec<Result<Inspected, DockerError>> {
        let started = Instant::now();
        if let Err(error) = self.negotiate(started + total, total) {
            let again = |cause| DockerError::new(&error.operation, &self.socket, cause);
            let why = error.cause.to_string();
            return ids.iter().map(|_| Err(again(Cause::Broken(why.clone())))).collect();
        }
        let prefix = self.prefix();
        let mut answers: Vec<Option<Result<Inspected, Cause>>> = ids.iter().map(|_| None).collect();
        let (wire, socket) = (&self.wire, &self.socket);
        let all = async {
            let mut under_way = JoinSet::new();
            let mut waiting = ids.iter().enumerate();
            loop {
                while under_way.len() < AT_ONCE {
                    let Some((place, id)) = waiting.next() else { break };
                    let (wire, socket) = (wire.clone(), socket.clone());
                    let path = is_id(id).then(|| format!("{prefix}/containers/{id}/json"));
                    under_way.spawn(async move { (place, inspect_one(&wire, &socket, path, each).await) });
                }
                let Some(done) = under_way.join_next().await else { break };
                if let Ok((place, answer)) = done
                    && let Some(slot) = answers.get_mut(place)
                {
                    *slot = Some(answer);
                }
            }
        };
        let left = (started + total).saturating_duration_since(Instant::now());
        // Past the deadline, what is under way is dropped and stays without an answer.
        let _ = self.runtime.block_on(async { tokio::time::timeout(left, all).await });
        ids.iter()
            .zip(answers)
            .map(|(id, answer)| {
                answer
                    .unwrap_or(Err(Cause::NotAsked))
                    .map_err(|cause| DockerError::new(&format!("inspect container {}", short(id)), &self.socket, cause))
            })
            .collect()
    }

    /// The last `lines` lines that a container wrote, as it wrote them; `terminal` where it has one. At most
    /// [`LOG_LIMIT`] bytes.
    pub fn logs(&mut self, id: &str, lines: u32, terminal: bool, limit: Duration) -> Result<Vec<u8>, DockerError> {
        let operation = format!("read the log of container {}", short(id));
        if !is_id(id) {
            return Err(DockerError::new(&operation, &self.socket, Cause::BadId));
        }
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&tail={lines}");
        let body = self.versioned(&operation, &path, limit, |response| read(response, LOG_LIMIT))?;
        Ok(logs::unframed(&body, terminal))
    }

    /// The stream of events of containers, from `since` (nanoseconds since 1970) as far as the
    /// engine remembers, or from now. `limit` is for opening it.
    pub fn events(&mut self, since: Option<i64>, limit: Duration) -> Result<Events<'_>, DockerError> {
        let since = since.map_or(String::new(), |nanos| {
            format!("&since={}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
        });
        // A stream is opened after a break: whoever answers now may not be who answered before.
        self.version = None;
        let path = format!("/events?filters={EVENTS}{since}");
        let response = self.versioned("follow events", &path, limit, async |response| Ok(response))?;
        Ok(Events { runtime: &self.runtime, body: response.into_body(), lines: events::Lines::default() })
    }

    /// Waits until `until` or a nudge.
    pub fn idle(&self, until: Instant, nudge: &Nudge) {
        self.runtime.block_on(async {
            let _ = tokio::time::timeout_at(until.into(), nudge.0.notified()).await;
        });
    }

    /// A GET below the agreed version. After a version complaint it is agreed upon again, once.
    fn versioned<T, F>(
        &mut self,
        operation: &str,
        path: &str,
        limit: Duration,
        finish: impl Fn(Response<Incoming>) -> F,
    ) -> Result<T, DockerError>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        let deadline = Instant::now() + limit;
        let mut second = false;
        loop {
            self.negotiate(deadline, limit).map_err(|error| DockerError::new(operation, &self.socket, error.cause))?;
            let path = format!("{}{path}", self.prefix());
            let (wire, socket) = (&self.wire, &self.socket);
            let answer = self.runtime.block_on(in_time(deadline, limit, async {
                let response = accepted(get(wire, socket, &path).await?).await?;
                finish(response).await
            }));
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Cause::Refused { status, message })
                    if !second && version::is_version_complaint(status, &message) =>
                {
                    self.version = None;
                    second = true;
                }
                Err(cause) => {
                    if !matches!(cause, Cause::Refused { .. }) {
                        self.version = None;
                    }
                    return Err(DockerError::new(operation, &self.socket, cause));
                }
            }
        }
    }

    fn prefix(&self) -> String {
        self.version.map_or(String::new(), |version| format!("/v{version}"))
    }

    fn negotiate(&mut self, deadline: Instant, limit: Duration) -> Result<(), DockerError> {
        if self.version.is_some() {
            return Ok(());
        }
        let (wire, socket) = (&self.wire, &self.socket);
        let agreed = self.runtime.block_on(in_time(deadline, limit, agree(wire, socket)));
        self.version = Some(agreed.map_err(|cause| DockerError::new("agree on an API version", socket, cause))?);
        Ok(())
    }
}

/// Asks `/_ping`, and `/version` when that says nothing (a proxy may forbid either).
async fn agree(wire: &Wire, socket: &Path) -> Result<ApiVersion, Cause> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Range {
        api_version: String,
    }
    let ping = get(wire, socket, "/_ping").await?;
    let said = ping.headers().get("api-version").and_then(|v| v.to_str().ok()).and_then(ApiVersion::parse);
    if let Some(theirs) = said {
        return ApiVersion::common(theirs).ok_or(Cause::Version(Some(theirs)));
    }
    let body = read(accepted(get(wire, socket, "/version").await?).await?, SMALL).await?;
    let range: Range = parse(&body).map_err(|_| Cause::Version(None))?;
    let theirs = ApiVersion::parse(&range.api_version).ok_or(Cause::Version(None))?;
    ApiVersion::common(theirs).ok_or(Cause::Version(Some(theirs)))
}

async fn inspect_one(wire: &Wire, socket: &Path, path: Option<String>, limit: Duration) -> Result<Inspected, Cause> {
    let path = path.ok_or(Cause::BadId)?;
    let body = in_time(Instant::now() + limit, limit, async {
        read(accepted(get(wire, socket, &path).await?).await?, INSPECT_LIMIT).await
    })
    .await?;
    parse(&body)
}

/// The one request that this client can make.
async fn get(wire: &Wire, socket: &Path, path: &str) -> Result<Response<Incoming>, Cause> {
    // `hyperlocal::Uri::new` cannot fail here: the socket is not empty, the path is ASCII made above.
    let request = Request::get(hyperlocal::Uri::new(socket, path))
        .header("Host", "docker")
        .header("Accept-Encoding", "identity")
        .header("User-Agent", concat!("watchdog/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| Cause::Broken(error.to_string()))?;
    let answer = wire.request(request).await.map_err(|error| {
        let connect = error.is_connect();
        if is_too_large(&error) {
            let what = format!(
                "the header of the answer is larger than {} KiB or has more than {HEADER_FIELDS} fields",
                HEADER_LIMIT / 1024
            );
            return Cause::Broken(what);
        }
        match io_cause(&error) {
            // Its number tells more than its kind: whether it is we who lack something.
            Some(io) if connect => Cause::Connect(
                io.raw_os_error()
                    .map_or_else(|| io::Error::new(io.kind(), io.to_string()), io::Error::from_raw_os_error),
            ),
            Some(io) => Cause::Broken(io.to_string()),
            None => Cause::Broken("the connection ended before an answer, or what came is not HTTP".to_string()),
        }
    })?;
    let coding = answer.headers().get("content-encoding").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !matches!(coding, "" | "identity") {
        let coding = crate::core::message::clean(coding, 40);
        return Err(Cause::Broken(format!(
            "the answer is compressed with {coding}, which a proxy in between must not do"
        )));
    }
    Ok(answer)
}

fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large) {
            return true;
        }
        next = error.source();
    }
    false
}

fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

/// The response if it is a success, else the complaint in its body.
async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, Cause> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    // The status is the news; a body that cannot be read leaves it without words.
    let body = read(response, SMALL).await.unwrap_or_default();
    Err(Cause::Refused { status: status.as_u16(), message: error::complaint(&body) })
}

async fn read(response: Response<Incoming>, limit: usize) -> Result<Bytes, Cause> {
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Cause::TooLarge(limit)),
        Err(error) => Err(Cause::Broken(format!("the answer broke off: {error}"))),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Cause> {
    // serde_json may quote a value in its message: only the place is told.
    serde_json::from_slice(body)
        .map_err(|error| Cause::Malformed(format!("line {} column {}", error.line(), error.column())))
}

async fn in_time<T>(
    deadline: Instant,
    limit: Duration,
    work: impl Future<Output = Result<T, Cause>>,
) -> Result<T, Cause> {
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or(Err(Cause::Timeout(limit)))
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn short(id: &str) -> String {
    id.chars().filter(|c| !c.is_control()).take(12).collect()
}
