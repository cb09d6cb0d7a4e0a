//! An HTTP peer on loopback that misbehaves in one chosen way, and says what it was asked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the peer does with each connection, after it has read the request's header.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Sends these bytes and closes.
    Say(Vec<u8>),
    /// Sends nothing until it is dropped.
    Hang,
    /// Closes with a reset, without an answer.
    Reset,
    /// Sends these bytes, one each 20 ms.
    Slow(Vec<u8>),
    /// Sends these bytes, then `x` for ever.
    Endless(Vec<u8>),
}

impl Manner {
    /// A whole answer with this status and body.
    pub fn answer(status: &str, body: &str) -> Manner {
        Manner::Say(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

/// A peer that is listening. Ends its threads when dropped.
pub struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Vec<String>>,
    connections: AtomicUsize,
    end: AtomicBool,
}

impl Peer {
    /// Starts listening on a free port.
    pub fn start(manner: Manner) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.end.load(Ordering::SeqCst) {
                    return;
                }
                own.connections.fetch_add(1, Ordering::SeqCst);
                let (stream, manner, own) = (stream.unwrap(), manner.clone(), Arc::clone(&own));
                std::thread::spawn(move || own.behave(stream, &manner));
            }
        });
        Peer { address, shared, listening: Some(listening) }
    }

    /// Where it listens: `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The headers of the requests so far, as they came.
    pub fn heard(&self) -> Vec<String> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

impl Shared {
    fn behave(&self, mut stream: TcpStream, manner: &Manner) {
        if let Manner::Reset = manner {
            // Closing with something unread sends a reset instead of an end.
            let _ = stream.peek(&mut [0]);
            return;
        }
        let Some(head) = read_head(&mut stream) else { return };
        self.heard.lock().unwrap().push(head);
        match manner {
            Manner::Say(bytes) => {
                let _ = stream.write_all(bytes);
                let _ = stream.shutdown(Shutdown::Write);
                // Until the other side closes too: closing first could cut off what was sent.
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let _ = stream.read(&mut [0; 64]);
            }
            Manner::Hang => self.until_end(|| true),
            Manner::Reset => {}
            Manner::Slow(bytes) => {
                for byte in bytes {
                    if stream.write_all(&[*byte]).is_err() || self.end.load(Ordering::SeqCst) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Manner::Endless(bytes) => {
                let _ = stream.write_all(bytes);
                self.until_end(|| stream.write_all(&[b'x'; 16 * 1024]).is_ok());
            }
        }
    }

    fn until_end(&self, mut go_on: impl FnMut() -> bool) {
        while !self.end.load(Ordering::SeqCst) && go_on() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 || head.len() > 16 * 1024 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}
