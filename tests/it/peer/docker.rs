//! A scripted engine on a Unix socket. It asserts what it is asked, and misbehaves as told.
//!
//! Every request must be a GET with a `Host`: anything else is remembered and fails the test when
//! the peer is dropped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How to answer one request.
pub enum Reply {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, for as long as the other side waits.
    Hang,
    /// These bytes, then nothing more.
    ThenHang(Vec<u8>),
    /// The first bytes, then the second ones again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// Pieces with a pause before each, then the end of the connection.
    Pieces(Vec<(Duration, Vec<u8>)>),
}

/// A JSON answer with a status and the API version in its header.
pub fn json(status: u16, api: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(
        format!(
            "HTTP/1.1 {status} X\r\nApi-Version: {api}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes(),
    )
}

/// The head of an answer whose body comes in chunks.
pub const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

/// One chunk.
pub fn chunk(body: &str) -> Vec<u8> {
    format!("{:x}\r\n{body}\r\n", body.len()).into_bytes()
}

/// The scripted engine.
pub struct Peer {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    wrong: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
}

impl Peer {
    /// Starts listening; `script` answers a path (with its query).
    pub fn start(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Peer {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("docker.sock")).unwrap();
        let peer =
            Peer { directory, asked: Arc::default(), wrong: Arc::default(), over: Arc::new(AtomicBool::new(false)) };
        let (asked, wrong, over) = (Arc::clone(&peer.asked), Arc::clone(&peer.wrong), Arc::clone(&peer.over));
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (script, asked, wrong, over) =
                    (Arc::clone(&script), Arc::clone(&asked), Arc::clone(&wrong), Arc::clone(&over));
                thread::spawn(move || {
                    if let Some(path) = request(&stream, &wrong) {
                        asked.lock().unwrap().push(path.clone());
                        answer(&stream, script(&path), &over);
                    }
                });
            }
        });
        peer
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// The paths asked for so far, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// How many paths asked for so far hold this text.
    pub fn count(&self, text: &str) -> usize {
        self.asked().iter().filter(|path| path.contains(text)).count()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(self.socket());
        let wrong = self.wrong.lock().unwrap();
        if !thread::panicking() {
            assert!(wrong.is_empty(), "wrong requests: {wrong:?}");
        }
    }
}

fn request(mut stream: &UnixStream, wrong: &Mutex<Vec<String>>) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) if head.len() < 16_384 => head.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (verb, path) = (words.next()?, words.next()?.to_string());
    let body = head.to_ascii_lowercase().contains("transfer-encoding")
        || head.to_ascii_lowercase().contains("content-length: 1");
    if verb != "GET" || !path.starts_with('/') || !head.to_ascii_lowercase().contains("\r\nhost: docker\r\n") || body {
        wrong.lock().unwrap().push(head);
    }
    Some(path)
}

fn answer(mut stream: &UnixStream, reply: Reply, over: &AtomicBool) {
    let wait_for_the_end = |stream: &UnixStream| {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let started = Instant::now();
        while !over.load(Ordering::SeqCst) && started.elapsed() < Duration::from_mins(1) {
            let mut byte = [0];
            let mut reader = stream;
            if matches!(reader.read(&mut byte), Ok(0)) {
                return;
            }
        }
    };
    match reply {
        Reply::Bytes(bytes) => drop(stream.write_all(&bytes)),
        Reply::Hang => wait_for_the_end(stream),
        Reply::ThenHang(bytes) => {
            drop(stream.write_all(&bytes));
            wait_for_the_end(stream);
        }
        Reply::Endless(head, again) => {
            let mut going = stream.write_all(&head).is_ok();
            while going && !over.load(Ordering::SeqCst) {
                going = stream.write_all(&again).is_ok();
            }
        }
        Reply::Pieces(pieces) => {
            for (pause, bytes) in pieces {
                thread::sleep(pause);
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        }
    }
}

/// A socket path at which nobody listens.
pub fn nobody(directory: &Path) -> PathBuf {
    let path = directory.join("dead.sock");
    drop(UnixListener::bind(&path).unwrap());
    path
}
