//! A TCP proxy on loopback that can be told, while it runs, to hang, reset, delay or lose answers, and
//! that keeps the request lines it saw.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::listener::{Ended, Listener};

/// What happens to bytes from now on, also on connections that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everything passes.
    None,
    /// Nothing passes in either direction; what came goes on when the fault ends.
    Hang,
    /// A connection that sends something is reset before it arrives.
    Reset,
    /// Each piece of a request waits so long.
    Delay(Duration),
    /// Requests arrive; their answers are lost and the connection ends.
    LoseAnswer,
}

/// A running proxy. Ends when dropped.
pub struct Proxy {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    to: String,
    fault: Mutex<Fault>,
    requests: Mutex<Vec<String>>,
}

impl Proxy {
    /// A proxy in front of `to` (`127.0.0.1:8500`).
    pub fn to(to: &str) -> Proxy {
        Proxy::at("127.0.0.1", to)
    }

    /// The same at another address of this machine.
    pub fn at(address: &str, to: &str) -> Proxy {
        let shared =
            Arc::new(Shared { to: to.to_string(), fault: Mutex::new(Fault::None), requests: Mutex::default() });
        let own = Arc::clone(&shared);
        let listener = Listener::at(address, move || {
            let own = Arc::clone(&own);
            move |stream: TcpStream, ended: &Ended| own.connect(stream, ended)
        });
        Proxy { listener, shared }
    }

    /// `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// What it does from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// The request lines seen so far: `PUT /v1/session/renew/…`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many of them hold `part`.
    pub fn count(&self, part: &str) -> usize {
        self.requests().iter().filter(|line| line.contains(part)).count()
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn hold(&self, ended: &Ended) {
        while self.fault() == Fault::Hang && !ended.within(Duration::from_millis(5)) {}
    }

    fn connect(self: Arc<Shared>, client: TcpStream, ended: &Ended) {
        let Ok(server) = TcpStream::connect(&self.to) else { return };
        let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let (own, end) = (Arc::clone(&self), ended.clone());
        thread::spawn(move || own.answers(&mut back_from, &mut back_to, &end));
        self.questions(client, server, ended);
    }

    fn questions(&self, mut client: TcpStream, mut server: TcpStream, ended: &Ended) {
        let mut text = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            if client.peek(&mut [0]).is_ok_and(|n| n > 0) && self.fault() == Fault::Reset {
                // Closed with something unread: a reset. The other direction lets go when the server's side ends.
                let _ = server.shutdown(Shutdown::Both);
                return;
            }
            let Ok(length @ 1..) = client.read(&mut buffer) else { break };
            self.note(&mut text, &buffer[..length]);
            self.hold(ended);
            if let Fault::Delay(wait) = self.fault() {
                ended.within(wait);
            }
            if ended.is() || server.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Write);
    }

    fn answers(&self, server: &mut TcpStream, client: &mut TcpStream, ended: &Ended) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            self.hold(ended);
            if self.fault() == Fault::LoseAnswer || ended.is() {
                break;
            }
            if client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }

    fn note(&self, text: &mut Vec<u8>, bytes: &[u8]) {
        text.extend_from_slice(bytes);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            // A body has no line end of its own, so the next request line may follow it directly.
            let begins = ["GET /", "PUT /", "DELETE /", "POST /"].iter().filter_map(|verb| line.find(verb)).min();
            if let Some(request) = begins.and_then(|at| line[at..].split_once(" HTTP/1.1")) {
                self.requests.lock().unwrap().push(request.0.to_string());
            }
        }
    }
}
