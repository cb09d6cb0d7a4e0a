//! TCP connections with a deadline: the one way out for everything that speaks over a socket.
//!
//! The addresses come from [`resolve`](super::resolve), already checked; the address checked is the
//! address connected to. Each address but the last gets half of the time that is left, so that a
//! black hole in one family (F48) does not eat the other's turn. An error names the address and says
//! whether the peer or our own machine is at fault. [`Bounded`] holds reads and writes to one total
//! deadline, however slowly the bytes come (F41).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::shortage;

/// How far a limit that is set on a socket may be from what is left before it is set anew: one system call less for
/// each read and write of a quick exchange. A call ends at most this much after its deadline, or a sixteenth of it.
const SLACK: Duration = Duration::from_millis(10);

/// Why no connection came about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody listens there.
    #[error("connection refused by {0}")]
    Refused(SocketAddr),
    /// No answer before the deadline.
    #[error("no answer from {0} (connecting)")]
    Timeout(SocketAddr),
    /// The network says that there is no way to this host.
    #[error("cannot connect to {0}: {1}")]
    Unreachable(SocketAddr, String),
    /// Our own machine is at fault: no descriptors, no ports, no network.
    #[error("cannot open a connection: {0}")]
    Own(String),
}

/// Connects to the first address that answers before `deadline`.
pub fn dial(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, DialError> {
    let mut last = DialError::Own("no address to connect to".to_string());
    for (index, address) in addresses.iter().enumerate() {
        let left = left(deadline);
        let is_last = index + 1 == addresses.len();
        let limit = if is_last { left } else { left / 2 };
        if limit.is_zero() {
            return Err(DialError::Timeout(*address));
        }
        match connect(address, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = explain(*address, &error),
        }
    }
    Err(last)
}

/// Like [`TcpStream::connect_timeout`], but the kernel keeps the limit: no switching of modes and no polling, which
/// would be three of ten system calls of a check. The limit stays in force for what is sent.
fn connect(address: &SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let begun = Instant::now();
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    match rustix::net::connect(&socket, address) {
        Ok(()) => Ok(TcpStream::from(socket)),
        // This is how socket(7) says that the limit has passed.
        Err(Errno::INPROGRESS | Errno::AGAIN) => Err(ErrorKind::TimedOut.into()),
        Err(Errno::INTR) => {
            let left = limit.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
            TcpStream::connect_timeout(address, left)
        }
        Err(error) => Err(error.into()),
    }
}

fn explain(address: SocketAddr, error: &io::Error) -> DialError {
    match error.kind() {
        ErrorKind::ConnectionRefused => DialError::Refused(address),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => DialError::Timeout(address),
        ErrorKind::ConnectionReset | ErrorKind::HostUnreachable | ErrorKind::ConnectionAborted => {
            DialError::Unreachable(address, plain(error))
        }
        // What is left is ours: no route at all, no descriptors, no ports, no permission.
        _ => DialError::Own(shortage::seen(error).map_or_else(|| plain(error), |lack| lack.to_string())),
    }
}

/// The system's words without the number of the error.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// A connection whose reads and writes all end at one deadline.
#[derive(Debug)]
pub struct Bounded {
    stream: TcpStream,
    deadline: Instant,
    /// The limits that are set on the socket now; zero where that is not known.
    reads: Duration,
    writes: Duration,
    /// Something was written and nothing has been read since.
    wrote: bool,
    is_prompt: bool,
}

impl Bounded {
    /// Holds `stream` to `deadline`.
    pub fn new(stream: TcpStream, deadline: Instant) -> Bounded {
        Bounded { stream, deadline, reads: Duration::ZERO, writes: Duration::ZERO, wrote: false, is_prompt: false }
    }

    /// Connects to the first address that answers before `deadline`, and holds the connection to it.
    pub fn dial(addresses: &[SocketAddr], deadline: Instant) -> Result<Bounded, DialError> {
        let limit = left(deadline);
        let mut line = Bounded::new(dial(addresses, deadline)?, deadline);
        // The first of several addresses was given half of the time.
        line.writes = if addresses.len() == 1 { limit } else { Duration::ZERO };
        Ok(line)
    }

    /// Holds what follows to another deadline.
    pub fn until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// True while the peer has neither sent anything that was not read nor ended the connection.
    pub fn is_idle(&mut self) -> bool {
        let nothing_to_read = |mut stream: &TcpStream| {
            stream.set_nonblocking(true)?;
            let seen = stream.read(&mut [0]);
            stream.set_nonblocking(false)?;
            Ok::<_, io::Error>(matches!(seen, Err(e) if e.kind() == ErrorKind::WouldBlock))
        };
        nothing_to_read(&self.stream).unwrap_or(false)
    }

    /// The connection itself, free of the deadline.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn left(&self) -> io::Result<Duration> {
        let left = left(self.deadline);
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// True when a limit of `set` serves for one of `left`.
fn serves(set: Duration, left: Duration) -> bool {
    set.abs_diff(left) <= SLACK.min(left / 16)
}

/// A blocked call that ran out of time says `WouldBlock`; everybody else calls that a timeout.
fn timed<T>(outcome: io::Result<T>) -> io::Result<T> {
    outcome.map_err(|e| if e.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { e })
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        if !serves(self.reads, left) {
            self.stream.set_read_timeout(Some(left))?;
            self.reads = left;
        }
        self.wrote = false;
        timed(self.stream.read(buffer))
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        if !serves(self.writes, left) {
            self.stream.set_write_timeout(Some(left))?;
            self.writes = left;
        }
        // A second packet in a row must not wait until the peer has acknowledged the first.
        if self.wrote && !self.is_prompt {
            self.stream.set_nodelay(true)?;
            self.is_prompt = true;
        }
        self.wrote = true;
        timed(self.stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_refusal_names_the_address_and_the_next_address_gets_its_turn() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        assert_eq!(dial(&[gone], deadline).unwrap_err(), DialError::Refused(gone));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        assert_eq!(dial(&[gone, there], deadline).unwrap().peer_addr().unwrap(), there);
        assert!(matches!(dial(&[there], Instant::now()), Err(DialError::Timeout(_))));
        assert!(matches!(dial(&[], deadline), Err(DialError::Own(_))));
    }

    #[test]
    fn a_host_that_never_answers_costs_the_limit_and_no_more() {
        // A queue that is full: the kernel drops what else asks.
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        let begun = Instant::now();
        let mut held = Vec::new();
        let error = loop {
            match dial(&[address], Instant::now() + Duration::from_millis(200)) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error, DialError::Timeout(address));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?} after {}", begun.elapsed(), held.len());
    }

    #[test]
    fn a_limit_is_set_anew_when_it_is_off_by_more_than_the_slack() {
        let ms = Duration::from_millis;
        assert!(serves(ms(5_000), ms(4_995)) && serves(ms(4_995), ms(5_000)));
        assert!(!serves(ms(5_000), ms(4_980)) && !serves(ms(50), ms(40)) && !serves(Duration::ZERO, ms(40)));
    }

    #[test]
    fn a_peer_that_drips_bytes_does_not_stretch_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(300);
        let mut stream = Bounded::new(dial(&[address], deadline).unwrap(), deadline);
        let mut all = Vec::new();
        let error = stream.read_to_end(&mut all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        drop(stream);
        peer.join().unwrap();
    }
}
