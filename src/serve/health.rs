//! The health check's own way in: a socket that no crowd at the page can fill.
//!
//! An abstract Unix socket, named after the address that the page listens on. It needs no file, so it works on a
//! read-only root; it lives in the network namespace, so only this machine, or this container, reaches it; and
//! it answers only its own user and root. Whoever connects is told one line at once, without being listened to:
//! there is nothing to be slow with. See `adr/0016-status-server.md`.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener, UnixStream};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tracing::debug;

use super::snapshot::Snapshot;
use crate::core::time::Now;

/// Bytes of an answer at most.
const ANSWER: u64 = 4096;
/// How long a line may take to be written; it fits into the socket's buffer.
const WRITING: Duration = Duration::from_secs(1);

/// What the health check is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Milliseconds since the last pass finished.
    pub age_ms: u64,
    /// Why there was no pass yet, when there was none.
    pub starting: Option<String>,
}

impl Health {
    /// As this picture shows it now.
    pub fn of(snapshot: &Snapshot, now: Now) -> Health {
        let age_ms = u64::try_from(snapshot.age(now).as_millis()).unwrap_or(u64::MAX);
        Health { age_ms, starting: snapshot.not_started() }
    }
}

/// Why the daemon could not be asked this way.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Nobody listens there, or somebody whom we do not believe: ask by the page's address.
    #[error("nobody of ours listens on the socket of the health check")]
    Absent,
    /// The daemon is there and does not answer.
    #[error("the daemon took the connection and did not answer within {0:?}; it hangs")]
    Hangs(Duration),
    /// What came is not an answer of this version.
    #[error("the daemon answered the health check with something else; is it of the same version?")]
    Unreadable,
}

fn name(page: SocketAddr) -> io::Result<Name> {
    Name::from_abstract_name(format!("sidecar-watchdog/{page}"))
}

/// Listens for the health checks of a page at this address.
///
/// # Errors
/// What the system says; the name may be taken.
pub fn listen(page: SocketAddr) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&name(page)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers each connection with what `tell` says, one after the other.
pub async fn answer(listener: UnixListener, tell: impl Fn() -> Health) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => {
                let is_ours = stream.peer_cred().is_ok_and(|peer| believes(peer.uid()));
                if is_ours && let Ok(line) = serde_json::to_vec(&tell()) {
                    // Whoever does not read has asked in vain.
                    let _ = timeout(WRITING, stream.write_all(&line)).await;
                }
            }
            Err(error) => {
                debug!(%error, "accepting a health check failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn believes(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// Asks the daemon whose page is at this address, within `limit`.
///
/// # Errors
/// [`HealthError::Absent`] when it has to be asked by its page.
pub fn ask(page: SocketAddr, limit: Duration) -> Result<Health, HealthError> {
    let stream = name(page).and_then(|name| UnixStream::connect_addr(&name)).map_err(|_| HealthError::Absent)?;
    let user = socket_peercred(&stream).map_err(|_| HealthError::Absent)?.uid.as_raw();
    // Anybody on this machine may take the name. Root believes every user's daemon.
    if !believes(user) && geteuid().as_raw() != 0 {
        return Err(HealthError::Absent);
    }
    let mut line = Vec::new();
    let read = stream.set_read_timeout(Some(limit)).and_then(|()| (&stream).take(ANSWER).read_to_end(&mut line));
    match read {
        // Turned away: it runs as somebody who does not believe us.
        Ok(0) => Err(HealthError::Absent),
        Ok(_) => serde_json::from_slice(&line).map_err(|_| HealthError::Unreadable),
        Err(_) => Err(HealthError::Hangs(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_under_the_name_and_says_nothing_is_told_apart_from_nobody() {
        let page: SocketAddr = format!("127.0.0.1:{}", 20_000 + std::process::id() % 10_000).parse().unwrap();
        assert!(matches!(ask(page, Duration::from_secs(5)), Err(HealthError::Absent)));
        let _silent = listen(page).unwrap();
        assert!(matches!(ask(page, Duration::from_millis(50)), Err(HealthError::Hangs(_))));
        assert!(listen(page).is_err(), "the name is taken");
    }
}
