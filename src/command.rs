//! The command socket: what a person asks of the running program, from the same machine.
//!
//! A Unix socket beside the state file (`<state>.sock`, mode 0600; only our own user and root are answered). One
//! connection carries one request and one reply, each a line of JSON. The socket's threads decide nothing: a request
//! waits at the [`Desk`] until the loop takes it as an input of its next pass, and is answered after the commit.
//! Everything is bounded: the length of a request, the time for it, how many are open at once
//! (`adr/0033-silences-and-the-command-socket.md`).

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::silence::Mute;
use crate::core::time::Wall;
use crate::wake::{Wake, Waker};

/// Bytes of a request or reply at most.
const LINE: u64 = 256 * 1024;
/// Connections at once at most; one more is told to come again.
const OPEN: usize = 8;
/// The longest that a client may take for its request, and the loop for its reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Do not tell of these signals until then.
    Silence {
        /// A key or a glob.
        pattern: String,
        /// When it ends.
        until: Wall,
        /// Why; may be empty.
        #[serde(default)]
        reason: String,
    },
    /// End the silence with this pattern, or those that cover this key.
    Unsilence {
        /// A pattern as it was given, or a key.
        pattern: String,
    },
    /// Which silences are in force, and which windows are open or next?
    Silences,
    /// Something is gone for good: forget its signal.
    Forget {
        /// The signal's key.
        subject: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// It was done.
    pub done: bool,
    /// What was done, or why not, in one sentence.
    pub text: String,
    /// The silences in force and the windows, where they were asked for.
    pub mutes: Vec<Mute>,
    /// Signals that fire now and are covered by a new silence.
    pub covered: Vec<String>,
}

impl Reply {
    /// It was done.
    pub fn done(text: impl Into<String>) -> Reply {
        Reply { done: true, text: text.into(), ..Reply::default() }
    }

    /// It was not done, and why.
    pub fn refused(text: impl Into<String>) -> Reply {
        Reply { text: text.into(), ..Reply::default() }
    }
}

/// Why the running program could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no state file, hence no socket.
    #[error(
        "commands go over a socket beside the state file, and `state` is not set; set it, for example state = \"/var/lib/watchdog/state.db\""
    )]
    NoState,
    /// Nobody listens there.
    #[error("no watchdog listens on {}; is it running, with the same `state`?", .0.display())]
    Nobody(PathBuf),
    /// The call failed.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Failed(PathBuf, io::Error),
    /// The reply was not understood.
    #[error("the watchdog on {} did not answer in time, or not in words of this version", .0.display())]
    Unreadable(PathBuf),
}

/// Where the socket of a state file is.
pub fn socket(state: &str) -> PathBuf {
    PathBuf::from(format!("{state}.sock"))
}

/// A request that waits for the loop.
pub struct Waiting {
    /// What is asked.
    pub request: Request,
    answer: SyncSender<Reply>,
}

impl Waiting {
    /// Answers it. Whoever asked may be gone, which changes nothing.
    pub fn answer(self, reply: Reply) {
        let _ = self.answer.try_send(reply);
    }
}

/// Where requests wait for the loop. Dropping it ends the socket.
pub struct Desk {
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    over: Arc<AtomicBool>,
    path: PathBuf,
}

impl Desk {
    /// Listens on the socket of this state file. A socket that is left there by a run that died is replaced: whoever
    /// holds the state file's lock is alone.
    ///
    /// # Errors
    /// When the system does not let us bind there: a path that is too long, a folder that may not be written.
    pub fn open(state: &str, waker: &Waker) -> io::Result<Desk> {
        let path = socket(state);
        if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.file_type().is_socket()) {
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let desk = Desk { waiting: Arc::default(), over: Arc::default(), path };
        let door = Door { waiting: Arc::clone(&desk.waiting), over: Arc::clone(&desk.over), waker: waker.clone() };
        thread::Builder::new().name("command".to_string()).spawn(move || door.open(&listener))?;
        Ok(desk)
    }

    /// Takes everything that waits, in the order in which it came.
    pub fn take(&self) -> VecDeque<Waiting> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection, so that it sees the end.
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The thread that lets clients in.
struct Door {
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    over: Arc<AtomicBool>,
    waker: Waker,
}

impl Door {
    fn open(self, listener: &UnixListener) {
        let open = Arc::new(AtomicUsize::new(0));
        for client in listener.incoming() {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let Ok(client) = client else {
                // Out of descriptors, most likely: try again, not at once.
                thread::park_timeout(Duration::from_millis(100));
                continue;
            };
            if open.fetch_add(1, Ordering::SeqCst) >= OPEN {
                open.fetch_sub(1, Ordering::SeqCst);
                write(&client, &Reply::refused(format!("{OPEN} commands are open already; try again")));
                continue;
            }
            let (waiting, waker, count) = (Arc::clone(&self.waiting), self.waker.clone(), Arc::clone(&open));
            let served = thread::Builder::new().name("command client".to_string()).spawn(move || {
                serve(&client, &waiting, &waker);
                count.fetch_sub(1, Ordering::SeqCst);
            });
            if served.is_err() {
                open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

fn serve(client: &UnixStream, waiting: &Mutex<VecDeque<Waiting>>, waker: &Waker) {
    let reply = match read(client) {
        Err(reply) => reply,
        Ok(request) => {
            let (answer, answered) = mpsc::sync_channel(1);
            waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(Waiting { request, answer });
            waker.wake(Wake::Command);
            answered.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                Reply::refused(
                    "the watchdog is busy and did not answer within 5 s; the command may still be carried out",
                )
            })
        }
    };
    write(client, &reply);
}

fn read(client: &UnixStream) -> Result<Request, Reply> {
    let peer = rustix::net::sockopt::socket_peercred(client)
        .map_err(|e| Reply::refused(format!("who asks is unknown: {e}")))?;
    let (peer, ours) = (peer.uid, rustix::process::geteuid());
    if peer != ours && !peer.is_root() {
        return Err(Reply::refused(format!(
            "user {} may not give commands to the watchdog of user {}",
            peer.as_raw(),
            ours.as_raw()
        )));
    }
    let _ = client.set_read_timeout(Some(PATIENCE));
    let mut line = Vec::new();
    let read = BufReader::new(client).take(LINE).read_until(b'\n', &mut line);
    if read.is_err() || line.last() != Some(&b'\n') {
        return Err(Reply::refused(format!("a command is one line of JSON of at most {LINE} bytes, within 5 s")));
    }
    serde_json::from_slice(&line).map_err(|_| Reply::refused("this version of the watchdog does not know the command"))
}

fn write(mut client: &UnixStream, reply: &Reply) {
    let _ = client.set_write_timeout(Some(PATIENCE));
    if let Ok(mut line) = serde_json::to_vec(reply) {
        line.push(b'\n');
        // A client that is gone misses only the reply.
        let _ = client.write_all(&line);
    }
}

/// Asks the program that uses this state file.
///
/// # Errors
/// When there is none, or it does not answer; each says what to do.
pub fn ask(state: &str, request: &Request) -> Result<Reply, AskError> {
    if state.is_empty() {
        return Err(AskError::NoState);
    }
    let path = socket(state);
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::Nobody(path.clone()),
        _ => AskError::Failed(path.clone(), error),
    })?;
    let failed = |error| AskError::Failed(path.clone(), error);
    stream.set_read_timeout(Some(PATIENCE * 2)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut line = serde_json::to_vec(request).unwrap_or_default();
    line.push(b'\n');
    stream.write_all(&line).map_err(failed)?;
    let mut text = String::new();
    let read = BufReader::new(&stream).take(LINE).read_line(&mut text);
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).ok_or(AskError::Unreadable(path))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    fn desk(dir: &Path) -> (Desk, Waker, String) {
        let (waker, state) = (Waker::new(), dir.join("state.db").display().to_string());
        (Desk::open(&state, &waker).unwrap(), waker, state)
    }

    #[test]
    fn a_request_waits_for_the_loop_and_is_answered_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let (desk, waker, state) = desk(dir.path());
        let mode = std::fs::metadata(socket(&state)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let asked = thread::spawn(move || ask(&state, &Request::Silences));
        let woken = waker.wait_until(Instant::now() + Duration::from_secs(10));
        assert!(woken.contains(&Wake::Command));
        for waiting in desk.take() {
            assert_eq!(waiting.request, Request::Silences);
            waiting.answer(Reply::done("none"));
        }
        assert_eq!(asked.join().unwrap().unwrap(), Reply::done("none"));
    }

    #[test]
    fn a_socket_that_a_dead_run_left_is_replaced_and_nobody_is_told_as_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state.db").display().to_string();
        assert!(matches!(ask(&state, &Request::Silences), Err(AskError::Nobody(_))));
        drop(UnixListener::bind(socket(&state)).unwrap());
        assert!(matches!(ask(&state, &Request::Silences), Err(AskError::Nobody(_))));
        let (desk, _, _) = desk(dir.path());
        drop(desk);
        assert!(!socket(&state).exists(), "the end takes the socket along");
        assert!(matches!(ask("", &Request::Silences), Err(AskError::NoState)));
    }

    #[test]
    fn what_is_no_command_is_refused_and_a_client_that_says_nothing_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let (_desk, _waker, state) = desk(dir.path());
        let silent: Vec<UnixStream> = (0..OPEN - 1).map(|_| UnixStream::connect(socket(&state)).unwrap()).collect();
        let answer = |bytes: &[u8]| {
            let mut stream = UnixStream::connect(socket(&state)).unwrap();
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut text = String::new();
            BufReader::new(&stream).read_line(&mut text).unwrap();
            serde_json::from_str::<Reply>(&text).unwrap()
        };
        for bytes in [&b"{}\n"[..], b"\xff\n", b"{\"command\":\"explode\"}\n", b"no end"] {
            let reply = answer(bytes);
            assert!(!reply.done && !reply.text.is_empty(), "{reply:?}");
        }
        drop(silent);
    }
}
