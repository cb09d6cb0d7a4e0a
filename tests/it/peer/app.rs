//! An application on loopback that answers as it is told to, well or badly, and keeps what it was asked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on says so by a panic")]

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::listener::{Ended, Listener};

/// What one connection gets.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A whole answer: status, content type, body.
    Whole(u16, &'static str, Vec<u8>),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// A good head without a length, then this chunk this many times, then the end.
    Repeated(&'static str, Vec<u8>, usize),
    /// A good head, then endless chunks.
    Endless,
    /// A good head, then one byte in a while.
    Slow,
    /// Nothing, for ever.
    Hang,
    /// A reset in the middle of the answer.
    Reset,
}

/// A JSON answer with status 200.
pub fn json(body: &str) -> Answer {
    Answer::Whole(200, "application/json", body.as_bytes().to_vec())
}

/// A metrics page in text 0.0.4.
pub fn metrics(body: &str) -> Answer {
    Answer::Whole(200, "text/plain; version=0.0.4; charset=utf-8", body.as_bytes().to_vec())
}

/// The application.
pub struct Peer {
    pub address: SocketAddr,
    script: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
    _listener: Listener,
}

impl Peer {
    /// Listens; the answers are taken one after the other, the last one stays.
    pub fn new(script: Vec<Answer>) -> Peer {
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (plan, heard) = (Arc::clone(&script), Arc::clone(&asked));
        let listener = Listener::start(move || {
            let answer = {
                let mut plan = plan.lock().unwrap();
                if plan.len() > 1 { plan.pop_front().unwrap() } else { plan[0].clone() }
            };
            let heard = Arc::clone(&heard);
            move |stream: TcpStream, ended: &Ended| serve(stream, answer, &heard, ended)
        });
        Peer { address: listener.address(), script, asked, _listener: listener }
    }

    /// From now on the answer is this one.
    pub fn say(&self, answer: Answer) {
        *self.script.lock().unwrap() = VecDeque::from([answer]);
    }

    /// Every request head so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The URL to give out.
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }
}

fn serve(mut stream: TcpStream, answer: Answer, heard: &Mutex<Vec<String>>, ended: &Ended) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    // What nobody has read when a connection closes makes the close a reset.
    let enough: &[u8] = if matches!(answer, Answer::Reset) { b"\r\n" } else { b"\r\n\r\n" };
    while !head.ends_with(enough) && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    if head.is_empty() {
        return;
    }
    heard.lock().unwrap().push(String::from_utf8(head).unwrap());
    let good = |kind: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n");
    // Whoever hangs up early has heard enough; a failed write is not a failure of the peer.
    let _ = match answer {
        Answer::Whole(status, kind, body) => {
            let head = format!(
                "HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nLocation: /elsewhere\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body))
        }
        Answer::Raw(bytes) => stream.write_all(&bytes),
        Answer::Repeated(kind, chunk, times) => {
            let head = format!("{}Connection: close\r\n\r\n", good(kind));
            let rest = |mut stream: &TcpStream| (0..times).try_for_each(|_| stream.write_all(&chunk));
            stream.write_all(head.as_bytes()).and_then(|()| rest(&stream))
        }
        Answer::Endless => {
            let head = format!("{}Transfer-Encoding: chunked\r\n\r\n", good("text/plain"));
            let chunk = format!("4000\r\n{}\r\n", "a 1\n".repeat(0x1000));
            let mut sent = stream.write_all(head.as_bytes());
            while sent.is_ok() && !ended.is() {
                sent = stream.write_all(chunk.as_bytes());
            }
            sent
        }
        Answer::Slow => {
            let head = format!("{}Content-Length: 1000\r\n\r\n", good("text/plain"));
            let mut sent = stream.write_all(head.as_bytes());
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            while sent.is_ok() && !ended.is() && !matches!(stream.read(&mut byte), Ok(0)) {
                sent = stream.write_all(b"#");
            }
            sent
        }
        Answer::Hang => {
            // Until the other side gives up.
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.read(&mut byte).map(drop)
        }
        Answer::Reset => {
            let half = format!("{}Content-Length: 1000\r\n\r\nhalf", good("text/plain"));
            stream.write_all(half.as_bytes())
        }
    };
}
