//! What every scripted peer is built on: a listener on loopback that hands each connection to a thread of
//! its own, and the parts of HTTP/1 that a peer has to understand.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Whether the peer has ended; for those who serve.
#[derive(Clone, Default)]
pub struct Ended(Arc<(Mutex<bool>, Condvar)>);

impl Ended {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once it has.
    pub fn is(&self) -> bool {
        *self.lock()
    }

    /// Waits for this long, or until the peer ends; true when it has ended.
    pub fn within(&self, span: Duration) -> bool {
        let (ended, _) = self.0.1.wait_timeout_while(self.lock(), span, |ended| !*ended).unwrap();
        *ended
    }

    fn end(&self) {
        *self.lock() = true;
        self.0.1.notify_all();
    }
}

/// The listener. Ends when it is dropped; what serves a connection sees that by [`Ended`].
pub struct Listener {
    address: SocketAddr,
    /// The socket once more, to be shut down.
    socket: TcpStream,
    connections: Arc<AtomicUsize>,
    ended: Ended,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens on 127.0.0.1. `accept` is called in the order of the connections, so that it can take the next answer of
    /// a script; what it gives serves the connection, in a thread of its own.
    pub fn start<S>(accept: impl Fn() -> S + Send + 'static) -> Listener
    where
        S: FnOnce(TcpStream, &Ended) + Send + 'static,
    {
        Listener::at("127.0.0.1", accept)
    }

    /// The same at another address of this machine. Its threads belong to the network namespace of the caller's.
    pub fn at<S>(address: &str, accept: impl Fn() -> S + Send + 'static) -> Listener
    where
        S: FnOnce(TcpStream, &Ended) + Send + 'static,
    {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let socket = TcpStream::from(OwnedFd::from(listener.try_clone().unwrap()));
        let (connections, ended) = (Arc::new(AtomicUsize::new(0)), Ended::default());
        let (counted, end) = (Arc::clone(&connections), ended.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if end.is() {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let serve = accept();
                counted.fetch_add(1, Ordering::SeqCst);
                let end = end.clone();
                thread::spawn(move || serve(stream, &end));
            }
        });
        Listener { address, socket, connections, ended, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections so far, also those on which nothing was read.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ended.end();
        // Ends the wait for connections, also where nobody could connect from here.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A request of HTTP/1 as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub verb: String,
    /// With its query.
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads one whole; `None` when the other side does not bring it to its end.
    pub fn read(stream: &mut TcpStream) -> Option<Request> {
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (verb, path) = (words.next()?.to_string(), words.next()?.to_string());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_string());
        }
        let length: usize = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Request { verb, path, headers, body })
    }

    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// Closes with something unread, which resets the connection; one byte shows that it is there.
pub fn reset(mut stream: TcpStream) {
    let _ = stream.read(&mut [0]);
}

/// Holds the connection until the client gives up or the peer ends.
pub fn hang(stream: &mut TcpStream, ended: &Ended) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    while !ended.is() {
        match stream.read(&mut [0]) {
            Ok(0) => return,
            Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            _ => {}
        }
    }
}

/// Holds the connection without reading from it, until the peer ends.
pub fn hang_unread(ended: &Ended) {
    while !ended.within(Duration::from_hours(1)) {}
}

/// Waits until `reached` holds for what `changed` guards; panics with what `context` says after `deadline`.
pub fn wait_until<T>(
    (mutex, changed): (&Mutex<T>, &Condvar),
    deadline: Duration,
    reached: impl Fn(&T) -> bool,
    context: impl Fn(&T) -> String,
) {
    let until = Instant::now() + deadline;
    let mut state = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    while !reached(&state) {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not within {deadline:?}: {}", context(&state));
        state = changed.wait_timeout(state, left).unwrap().0;
    }
}
