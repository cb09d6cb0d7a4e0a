//! tcp: does somebody take the connection and keep it, and, where asked, say the right words?
//!
//! A connection alone proves little: a proxy such as docker-proxy takes it and ends it at once when nobody
//! listens behind. So a connection that is closed within [`GRACE`] without a word is not well; a server
//! that waits in silence, or says something, is. No worker waits for that: the check hands the connection
//! back with the time at which to look at it again.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::advice::{Peer, Trouble};
use super::pool::{Look, Verdict};
use super::{excerpt, unresolved};
use crate::client::dial::{Bounded, DialError, dial};
use crate::client::resolve::{Lane, resolve};
use crate::core::time::people;

/// Bytes of an answer read at most.
pub const ANSWER: usize = 4096;
/// How long a connection must hold. docker-proxy ends one within milliseconds when it is refused.
pub const GRACE: Duration = Duration::from_millis(100);

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
    /// Texts that the answer must hold within its first 4 KiB; empty: a connection that holds is enough.
    pub expect: Vec<String>,
    /// The connection that is to be looked at again.
    pub waiting: Mutex<Option<Waiting>>,
}

/// A connection that was well so far.
pub struct Waiting {
    stream: TcpStream,
    /// How long it took to connect.
    took: Duration,
}

/// What can be seen of a connection without waiting.
enum Sight {
    /// Nothing yet.
    Silence,
    /// The peer said something.
    Words,
    /// The peer ended it.
    Closed(&'static str),
}

impl TcpCheck {
    /// Looks once, or looks again at the connection that is still waiting.
    pub fn look(&self) -> Look {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        match waiting {
            Some(waiting) => {
                let lost = |_| Verdict::unknown("the check was lost");
                waiting.judge(true, self.peer()).unwrap_or_else(lost).into()
            }
            None => self.begin(),
        }
    }

    fn peer(&self) -> Peer<'_> {
        Peer { host: &self.host, port: self.port }
    }

    fn begin(&self) -> Look {
        let begun = Instant::now();
        let deadline = begun + self.limit;
        let addresses = match resolve(&self.host, self.port, Lane::Targets, self.allow_link_local, self.limit) {
            Ok(addresses) => addresses,
            Err(error) => return unresolved(&error, &self.host).into(),
        };
        let mut stream = match dial(&addresses, deadline) {
            Ok(stream) => stream,
            Err(error) => return not_connected(&error, self.limit, self.peer()).into(),
        };
        let took = begun.elapsed();
        if !self.send.is_empty() || !self.expect.is_empty() {
            let mut talk = Bounded::new(stream, deadline);
            match self.talk(&mut talk, begun) {
                Some(verdict) => return verdict.into(),
                None => stream = talk.into_inner(),
            }
        }
        match (Waiting { stream, took }).judge(false, self.peer()) {
            Ok(verdict) => verdict.into(),
            Err(waiting) => {
                *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
                Look::Again(GRACE.min(deadline.saturating_duration_since(Instant::now())))
            }
        }
    }

    /// Says and hears what is asked for; `None` when nothing was to be heard.
    fn talk(&self, stream: &mut Bounded, begun: Instant) -> Option<Verdict> {
        let limit = people(self.limit);
        if let Err(error) = stream.write_all(self.send.as_bytes()) {
            let verdict = Verdict::down(format!("connected, but could not send: {}", words(&error, &limit)));
            return Some(verdict.because(Trouble::HangsUp(self.peer())));
        }
        if self.expect.is_empty() {
            return None;
        }
        let mut seen = Vec::new();
        while let Some(missing) = self.expect.iter().find(|wanted| !holds(&seen, wanted.as_bytes())) {
            let mut piece = [0; 512];
            let room = piece.len().min(ANSWER.saturating_sub(seen.len()));
            let what = match stream.read(piece.get_mut(..room).unwrap_or_default()) {
                _ if room == 0 => format!("it is not in the first {ANSWER} bytes"),
                Ok(0) => "the connection ended".to_string(),
                Ok(count) => {
                    seen.extend_from_slice(piece.get(..count).unwrap_or_default());
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => words(&error, &limit),
            };
            return Some(self.lacks(missing, &what, &seen));
        }
        Some(Verdict::up(format!("answered in {}", people(begun.elapsed()))))
    }

    /// The verdict on an answer without the text that it must hold; `what` says why no more of it came.
    pub fn lacks(&self, missing: &str, what: &str, seen: &[u8]) -> Verdict {
        let missing = excerpt(missing.as_bytes());
        if seen.is_empty() {
            let fact = format!("the answer lacks \"{missing}\" ({what}); nothing came");
            return Verdict::down(fact).because(Trouble::Mute(self.peer()));
        }
        let fact = format!("the answer lacks \"{missing}\" ({what}); it begins: {}", excerpt(seen));
        Verdict::down(fact).because(Trouble::Unexpected(self.peer()))
    }
}

impl Waiting {
    /// The verdict, if there is one yet; in the end, silence is well.
    fn judge(self, is_end: bool, peer: Peer<'_>) -> Result<Verdict, Waiting> {
        match sight(&self.stream) {
            Ok(Sight::Silence) if !is_end => Err(self),
            Ok(Sight::Silence | Sight::Words) => Ok(Verdict::up(format!("connected in {}", people(self.took)))),
            Ok(Sight::Closed(how)) => Ok(hung_up(how, peer)),
            Err(error) => Ok(Verdict::unknown(format!("cannot look at the connection: {error}"))),
        }
    }
}

/// The verdict on a connection that was accepted and `closed` or `reset` at once.
pub fn hung_up(how: &str, peer: Peer<'_>) -> Verdict {
    let fact = format!("the connection was accepted and {how} at once; perhaps nothing listens behind a proxy");
    let trouble = if how == "reset" { Trouble::Resets(peer) } else { Trouble::HangsUp(peer) };
    Verdict::down(fact).because(trouble)
}

fn sight(stream: &TcpStream) -> std::io::Result<Sight> {
    stream.set_nonblocking(true)?;
    match stream.peek(&mut [0]) {
        Ok(0) => Ok(Sight::Closed("closed")),
        Ok(_) => Ok(Sight::Words),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(Sight::Silence),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Ok(Sight::Closed("reset")),
            _ => Err(error),
        },
    }
}

/// Whether `needle` is somewhere in `body`.
fn holds(body: &[u8], needle: &[u8]) -> bool {
    body.windows(needle.len().max(1)).any(|window| window == needle)
}

/// The verdict on a connection that did not come about.
pub fn not_connected(error: &DialError, limit: Duration, peer: Peer<'_>) -> Verdict {
    match error {
        DialError::Own(_) => Verdict::unknown(error.to_string()),
        DialError::Timeout(address) => {
            let fact = format!("no answer from {address} within {} (connecting)", people(limit));
            Verdict::down(fact).because(Trouble::Silent(peer))
        }
        DialError::Refused(_) => Verdict::down(error.to_string()).because(Trouble::Refused(peer)),
        DialError::Unreachable(..) => Verdict::down(error.to_string()).because(Trouble::Unreachable(peer.host)),
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

    /// Looks until there is a verdict.
    fn look(check: &TcpCheck) -> Verdict {
        loop {
            match check.look() {
                Look::Done(verdict) => return verdict,
                Look::Again(after) => std::thread::sleep(after),
            }
        }
    }

    fn check(port: u16, send: &str, receive: &str) -> TcpCheck {
        TcpCheck {
            host: "127.0.0.1".to_string(),
            port,
            limit: Duration::from_millis(400),
            allow_link_local: false,
            send: send.to_string(),
            expect: Some(receive.to_string()).into_iter().filter(|text| !text.is_empty()).collect(),
            waiting: Mutex::default(),
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
        let verdict = look(&check(port, "PING\r\n", "PONG"));
        asked.join().unwrap();
        assert_eq!(verdict.reading, Reading::Up, "{}", verdict.fact);
        let (port, asked) = peer(b"PING\r\n", b"-LOADING \x01\xff\r\n");
        let verdict = look(&check(port, "PING\r\n", "PONG"));
        asked.join().unwrap();
        assert_eq!(verdict.reading, Reading::Down);
        assert!(verdict.fact.contains("-LOADING \\u{1}"), "{}", verdict.fact);
    }

    #[test]
    fn silence_ends_at_the_limit_and_a_refusal_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(look(&check(port, "", "")).reading, Reading::Up);
        let verdict = look(&check(port, "", "hello"));
        assert!(verdict.fact.contains("no more within 400 ms"), "{}", verdict.fact);
        drop(listener);
        let refused = look(&check(port, "", ""));
        assert_eq!(
            (refused.reading, refused.fact),
            (Reading::Down, format!("connection refused by 127.0.0.1:{port}").into())
        );
    }

    #[test]
    fn link_local_is_refused_unless_allowed() {
        let verdict = look(&TcpCheck { host: "169.254.169.254".to_string(), ..check(80, "", "") });
        assert_eq!(verdict.reading, Reading::Down);
        assert!(verdict.fact.contains("allow_link_local"), "{}", verdict.fact);
    }

    /// Accepts one connection and does this with it.
    fn accepts(with: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || with(listener.accept().unwrap().0));
        port
    }

    #[test]
    fn a_connection_that_is_ended_at_once_is_not_well() {
        let closed = look(&check(accepts(drop), "", ""));
        assert_eq!(closed.reading, Reading::Down, "{}", closed.fact);
        assert!(closed.fact.contains("accepted and closed at once"), "{}", closed.fact);
        // What was sent and not read makes the end a reset.
        let reset = look(&check(accepts(drop), "hello", ""));
        assert_eq!(reset.reading, Reading::Down, "{}", reset.fact);
        let late = accepts(|stream| {
            std::thread::sleep(GRACE / 4);
            drop(stream);
        });
        assert_eq!(look(&check(late, "", "")).reading, Reading::Down, "within the grace");
    }

    #[test]
    fn a_server_that_waits_or_says_something_first_is_well() {
        let begun = Instant::now();
        let silent = accepts(|mut stream| {
            let _ = stream.read(&mut [0; 8]);
        });
        let verdict = look(&check(silent, "", ""));
        assert_eq!(verdict.reading, Reading::Up, "{}", verdict.fact);
        assert!(begun.elapsed() >= GRACE && verdict.fact.starts_with("connected in "), "{}", verdict.fact);
        let polite = accepts(|mut stream| {
            let _ = stream.write_all(b"SSH-2.0-x\r\n");
        });
        assert_eq!(look(&check(polite, "", "")).reading, Reading::Up, "it said something, then closed");
    }

    #[test]
    fn every_expected_text_must_come_within_the_bound() {
        let banner = |texts: &[&str]| {
            let port = accepts(|mut stream| {
                let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
                let _ = stream.read(&mut [0; 8]);
            });
            let expect = texts.iter().map(ToString::to_string).collect();
            look(&TcpCheck { expect, ..check(port, "", "") })
        };
        assert_eq!(banner(&["220", "ESMTP"]).reading, Reading::Up);
        let verdict = banner(&["220", "LMTP"]);
        assert!(verdict.reading == Reading::Down && verdict.fact.contains("lacks \"LMTP\""), "{}", verdict.fact);
        // At the bound itself, and one byte beyond.
        for (before, right) in [(ANSWER - 2, Reading::Up), (ANSWER - 1, Reading::Down)] {
            let port = accepts(move |mut stream| {
                let _ = stream.write_all(&vec![b'a'; before]);
                let _ = stream.write_all(b"ok");
                let _ = stream.read(&mut [0; 8]);
            });
            assert_eq!(look(&check(port, "", "ok")).reading, right, "{before}");
        }
    }
}
