//! An HTTP peer on loopback that misbehaves in one chosen way, and says what it was asked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::listener::{Ended, Listener, hang_unread, reset};

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
    listener: Listener,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Starts listening on a free port.
    pub fn start(manner: Manner) -> Peer {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        let listener = Listener::start(move || {
            let (manner, heard) = (manner.clone(), Arc::clone(&hearing));
            move |stream: TcpStream, ended: &Ended| behave(&heard, stream, &manner, ended)
        });
        Peer { listener, heard }
    }

    /// Where it listens: `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.listener.address().port()
    }

    /// The headers of the requests so far, as they came.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.listener.connections()
    }
}

fn behave(heard: &Mutex<Vec<String>>, mut stream: TcpStream, manner: &Manner, ended: &Ended) {
    if let Manner::Reset = manner {
        return reset(stream);
    }
    let Some(head) = read_head(&mut stream) else { return };
    heard.lock().unwrap().push(head);
    match manner {
        Manner::Say(bytes) => {
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
            // Until the other side closes too: closing first could cut off what was sent.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.read(&mut [0; 64]);
        }
        Manner::Hang => hang_unread(ended),
        Manner::Reset => {}
        Manner::Slow(bytes) => {
            for byte in bytes {
                if stream.write_all(&[*byte]).is_err() || ended.within(Duration::from_millis(20)) {
                    return;
                }
            }
        }
        Manner::Endless(bytes) => {
            let mut sent = stream.write_all(bytes);
            while sent.is_ok() && !ended.is() {
                sent = stream.write_all(&[b'x'; 16 * 1024]);
            }
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
