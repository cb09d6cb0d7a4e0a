//! tcp: does somebody take the connection, and, where asked, answer with the right words?

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use super::pool::Verdict;
use super::{excerpt, unresolved};
use crate::client::dial::{Bounded, DialError, dial};
use crate::client::resolve::resolve;
use crate::core::time::people;

/// Bytes of an answer read at most.
const ANSWER: usize = 4096;

/// One tcp check.
pub struct TcpCheck {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Limit of one look, name lookup included.
    pub limit: Duration,
    /// May talk to link-local and metadata addresses.
    pub allow_link_local: bool,
    /// Sent once connected.
    pub send: String,
    /// Text that the answer must hold within its first 4 KiB; empty: connecting is enough.
    pub receive: String,
}

impl TcpCheck {
    /// Looks once.
    pub fn look(&self) -> Verdict {
        let begun = Instant::now();
        let deadline = begun + self.limit;
        let addresses = match resolve(&self.host, self.port, self.allow_link_local, self.limit) {
            Ok(addresses) => addresses,
            Err(error) => return unresolved(&error),
        };
        let stream = match dial(&addresses, deadline) {
            Ok(stream) => stream,
            Err(error) => return not_connected(&error, self.limit),
        };
        let connected = begun.elapsed();
        if self.send.is_empty() && self.receive.is_empty() {
            return Verdict::up(format!("connected in {}", people(connected)));
        }
        self.talk(Bounded::new(stream, deadline), begun)
    }

    fn talk(&self, mut stream: Bounded, begun: Instant) -> Verdict {
        let limit = people(self.limit);
        if let Err(error) = stream.write_all(self.send.as_bytes()) {
            return Verdict::down(format!("connected, but could not send: {}", words(&error, &limit)));
        }
        let wanted = self.receive.as_bytes();
        let mut seen = Vec::new();
        while !wanted.is_empty() && !seen.windows(wanted.len()).any(|window| window == wanted) {
            let mut piece = [0; 512];
            let what = match stream.read(&mut piece) {
                Ok(0) => "the connection ended".to_string(),
                Ok(_) if seen.len() >= ANSWER => format!("it is not in the first {ANSWER} bytes"),
                Ok(count) => {
                    seen.extend_from_slice(piece.get(..count).unwrap_or_default());
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => words(&error, &limit),
            };
            return Verdict::down(format!(
                "the answer lacks what it should hold ({what}); it begins: {}",
                excerpt(&seen)
            ));
        }
        Verdict::up(format!("answered in {}", people(begun.elapsed())))
    }
}

/// The verdict on a connection that did not come about.
pub fn not_connected(error: &DialError, limit: Duration) -> Verdict {
    match error {
        DialError::Own(_) => Verdict::unknown(error.to_string()),
        DialError::Timeout(address) => {
            Verdict::down(format!("no answer from {address} within {} (connecting)", people(limit)))
        }
        _ => Verdict::down(error.to_string()),
    }
}

fn words(error: &std::io::Error, limit: &str) -> String {
    match error.kind() {
        ErrorKind::TimedOut => format!("no more within {limit}"),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset by the peer".to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::signal::Reading;
    use std::net::TcpListener;

    fn check(port: u16, send: &str, receive: &str) -> TcpCheck {
        TcpCheck {
            host: "127.0.0.1".to_string(),
            port,
            limit: Duration::from_millis(400),
            allow_link_local: false,
            send: send.to_string(),
            receive: receive.to_string(),
        }
    }

    /// Answers one connection with `answer` after reading `question`.
    fn peer(question: &'static [u8], answer: &'static [u8]) -> (u16, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = vec![0; question.len()];
            stream.read_exact(&mut heard).unwrap();
            assert_eq!(heard, question);
            let _ = stream.write_all(answer);
        });
        (port, peer)
    }

    #[test]
    fn the_answer_must_hold_the_wanted_text() {
        let (port, asked) = peer(b"PING\r\n", b"+PONG\r\n");
        let verdict = check(port, "PING\r\n", "PONG").look();
        asked.join().unwrap();
        assert_eq!(verdict.reading, Reading::Up, "{}", verdict.fact);
        let (port, asked) = peer(b"PING\r\n", b"-LOADING \x01\xff\r\n");
        let verdict = check(port, "PING\r\n", "PONG").look();
        asked.join().unwrap();
        assert_eq!(verdict.reading, Reading::Down);
        assert!(verdict.fact.contains("-LOADING \\u{1}"), "{}", verdict.fact);
    }

    #[test]
    fn silence_ends_at_the_limit_and_a_refusal_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(check(port, "", "").look().reading, Reading::Up);
        let verdict = check(port, "", "hello").look();
        assert!(verdict.fact.contains("no more within 400ms"), "{}", verdict.fact);
        drop(listener);
        assert_eq!(check(port, "", "").look(), Verdict::down(format!("connection refused by 127.0.0.1:{port}")));
    }

    #[test]
    fn link_local_is_refused_unless_allowed() {
        let verdict = TcpCheck { host: "169.254.169.254".to_string(), ..check(80, "", "") }.look();
        assert_eq!(verdict.reading, Reading::Down);
        assert!(verdict.fact.contains("allow_link_local"), "{}", verdict.fact);
    }
}
