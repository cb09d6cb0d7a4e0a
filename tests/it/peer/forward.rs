//! A scripted HTTP proxy on loopback: keeps the headers that it was sent, and forwards, refuses or misbehaves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::listener::{Ended, Listener, hang_unread};

/// What the proxy does with each request.
#[derive(Debug, Clone)]
pub enum Way {
    /// Passes it on to this place, whatever it asks for.
    To(SocketAddr),
    /// Answers with these bytes and closes.
    Say(Vec<u8>),
    /// Says nothing.
    Hang,
    /// Ends the connection.
    Close,
}

/// A running proxy. Ends when dropped.
pub struct Forward {
    listener: Listener,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    pub fn start(way: Way) -> Forward {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        let listener = Listener::start(move || {
            let (way, heard) = (way.clone(), Arc::clone(&hearing));
            move |stream: TcpStream, ended: &Ended| {
                let _ = serve(stream, &way, &heard, ended);
            }
        });
        Forward { listener, heard }
    }

    /// `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// `127.0.0.1:1234`.
    pub fn place(&self) -> String {
        self.listener.address().to_string()
    }

    /// The headers of the requests so far, as they came.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, way: &Way, heard: &Mutex<Vec<String>>, ended: &Ended) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    heard.lock().unwrap().push(head.clone());
    match way {
        Way::Say(bytes) => {
            client.write_all(bytes)?;
            client.shutdown(Shutdown::Write)?;
            let _ = client.read(&mut [0; 64]);
        }
        Way::Hang => hang_unread(ended),
        Way::Close => {}
        Way::To(place) => {
            let mut server = TcpStream::connect(place)?;
            if head.starts_with("CONNECT ") {
                client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")?;
            } else {
                // From the whole address to the path, as the server wants it.
                let (verb, rest) = head.split_once(' ').unwrap();
                let path = rest.strip_prefix("http://").map_or(rest, |rest| &rest[rest.find('/').unwrap()..]);
                server.write_all(format!("{verb} {path}").as_bytes())?;
            }
            let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
            let up = thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let _ = std::io::copy(&mut server, &mut client);
            let _ = client.shutdown(Shutdown::Both);
            let _ = up.join();
        }
    }
    Ok(())
}
