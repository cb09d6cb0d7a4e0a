//! One echo request (ping) to one address, through a datagram socket that needs no privilege.
//!
//! The kernel hands such sockets to the groups that `net.ipv4.ping_group_range` names, for IPv6 too, and
//! gives each socket only the answers to its own requests. A packet may get lost without anything being
//! wrong, so the request is sent again each second until the deadline.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::dial::plain;

/// A request without an answer is sent again after this long.
const AGAIN: Duration = Duration::from_secs(1);
/// Type, code, checksum, id, sequence; the kernel fills in checksum and id.
const HEADER: usize = 8;
/// Bytes that come back as they were sent, and that nobody can guess.
const TOKEN: usize = 16;
const RANGE: &str = "/proc/sys/net/ipv4/ping_group_range";

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// This process may not send echo requests.
    #[error(
        "this process may not send pings: its group is not in net.ipv4.ping_group_range ({range}); run \
         sysctl -w net.ipv4.ping_group_range=\"0 2147483647\", in compose as an entry of `sysctls`"
    )]
    Forbidden {
        /// The range as it is now.
        range: String,
    },
    /// Our own machine is at fault: no descriptors, no route.
    #[error("cannot send a ping: {0}")]
    Own(String),
    /// The network says that there is no way to this host.
    #[error("{0} is unreachable: {1}")]
    Unreachable(IpAddr, String),
    /// No answer before the deadline.
    #[error("no answer from {0} to a ping")]
    Timeout(IpAddr),
}

/// The time that an echo from `address` took.
pub fn ping(address: IpAddr, deadline: Instant) -> Result<Duration, PingError> {
    let socket = open(address)?;
    let mut token = [0; TOKEN];
    SystemRandom::new().fill(&mut token).map_err(|_| PingError::Own("no random numbers".to_string()))?;
    let (request, answer) = if address.is_ipv4() { (8, 0) } else { (128, 129) };
    let mut sent: Vec<Instant> = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let now = Instant::now();
        if now >= deadline || sent.len() >= usize::from(u16::MAX) {
            return Err(PingError::Timeout(address));
        }
        // Fewer than 65536, as checked above.
        let [high, low] = u16::try_from(sent.len()).unwrap_or_default().to_be_bytes();
        let packet = [&[request, 0, 0, 0, 0, 0, high, low], token.as_slice()].concat();
        sent.push(now);
        socket.send(&packet).map_err(|e| explain(address, &e))?;
        let until = deadline.min(now + AGAIN);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left)).map_err(|e| explain(address, &e))?;
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    if let Some(sequence) = read(bytes, answer, &token)
                        && let Some(sent_at) = sent.get(usize::from(sequence))
                    {
                        return Ok(sent_at.elapsed());
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(explain(address, &error)),
            }
        }
    }
}

/// Whether this process may send echo requests at all.
pub fn open(address: IpAddr) -> Result<UdpSocket, PingError> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(protocol));
    let socket = socket.map_err(|error| match error {
        rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => {
            let range = std::fs::read_to_string(RANGE).unwrap_or_default();
            let range = range.split_whitespace().collect::<Vec<_>>().join(" ");
            PingError::Forbidden { range: if range.is_empty() { "unknown".to_string() } else { range } }
        }
        error => PingError::Own(plain(&error.into())),
    })?;
    // All that is used of it is the same for every datagram socket.
    let socket = UdpSocket::from(socket);
    socket.connect(SocketAddr::new(address, 0)).map_err(|e| explain(address, &e))?;
    Ok(socket)
}

/// The sequence number of an answer that brings our token back.
fn read(bytes: &[u8], answer: u8, token: &[u8]) -> Option<u16> {
    let is_ours = bytes.first() == Some(&answer) && bytes.get(HEADER..) == Some(token);
    let sequence = bytes.get(6..HEADER)?.first_chunk()?;
    is_ours.then(|| u16::from_be_bytes(*sequence))
}

fn explain(address: IpAddr, error: &io::Error) -> PingError {
    match error.kind() {
        ErrorKind::HostUnreachable | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => {
            PingError::Unreachable(address, plain(error))
        }
        _ => PingError::Own(plain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_answer_counts() {
        let token = [7; TOKEN];
        let answer = [&[0, 0, 1, 2, 3, 4, 0, 5], token.as_slice()].concat();
        assert_eq!(read(&answer, 0, &token), Some(5));
        assert_eq!(read(&answer, 129, &token), None);
        assert_eq!(read(&answer, 0, &[8; TOKEN]), None);
        for length in 0..answer.len() {
            assert_eq!(read(&answer[..length], 0, &token), None, "{length}");
        }
    }
}
