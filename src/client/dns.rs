//! One question to one name server: the addresses of a name, by UDP, and by TCP when the answer does not fit.
//!
//! For what the system's resolver cannot tell: what a certain server says. Asks for both families at once,
//! reads at most one message of each, follows aliases within it, and never takes part of an answer for the
//! whole: a truncated one is asked for again by TCP, and is an error when that fails. Everything that a
//! server sends is bounded by the 64 KiB of a message; a name is read with pointers that only go back.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::dial::{Bounded, DialError, dial};

/// A question that got no answer is sent again after this long: a lost packet is not a dead server.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes of one message at most, by the protocol.
const MESSAGE: usize = 65_535;
/// Aliases followed within one answer.
const ALIASES: usize = 16;
const HEADER: usize = 12;
const CNAME: u16 = 5;

/// Why a server named no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// Our own machine is at fault: no descriptors, no route.
    #[error("cannot ask {0}: {1}")]
    Own(SocketAddr, String),
    /// Nothing that answers the question came before the deadline.
    #[error("no answer from the name server {0}")]
    Timeout(SocketAddr),
    /// Nobody listens there.
    #[error("no name server listens at {0}")]
    Refused(SocketAddr),
    /// The server says that there is no such name.
    #[error("{0} answers NXDOMAIN: there is no such name")]
    NoSuchName(SocketAddr),
    /// The name exists and has no address.
    #[error("{0} answers that the name has no address")]
    NoAddress(SocketAddr),
    /// The server answers with an error: SERVFAIL, REFUSED and the like.
    #[error("{0} answers {1}")]
    Failed(SocketAddr, String),
    /// What it sends is not a DNS answer.
    #[error("the answer from {0} is not a valid DNS message")]
    Malformed(SocketAddr),
    /// The answer is longer than one packet, and the rest could not be fetched.
    #[error("the answer from {0} is truncated, and the whole of it cannot be had by TCP: {1}")]
    Truncated(SocketAddr, String),
}

/// The two questions that make up one lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn code(self) -> u16 {
        match self {
            Family::V4 => 1,
            Family::V6 => 28,
        }
    }

    fn address(self, data: &[u8]) -> Option<IpAddr> {
        match self {
            Family::V4 => <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).into()),
            Family::V6 => <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).into()),
        }
    }
}

/// A question on its way.
struct Query {
    id: u16,
    family: Family,
    bytes: Vec<u8>,
    outcome: Option<Result<Vec<IpAddr>, DnsError>>,
}

/// What a server says the addresses of `name` are: exactly this name, no search list; never empty.
///
/// An address of one family is worth having although the server fails on the other; that neither has one
/// is said only when both were answered.
pub fn ask(server: SocketAddr, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, DnsError> {
    let own = |error: io::Error| DnsError::Own(server, super::dial::plain(&error));
    let mut ids = [0; 4];
    SystemRandom::new().fill(&mut ids).map_err(|_| DnsError::Own(server, "no random numbers".to_string()))?;
    let [a, b, c, d] = ids;
    let first = u16::from_be_bytes([a, b]);
    // Two questions on one socket are told apart by their ids.
    let second = if u16::from_be_bytes([c, d]) == first { !first } else { u16::from_be_bytes([c, d]) };
    let mut queries = [(first, Family::V4), (second, Family::V6)].map(|(id, family)| Query {
        id,
        family,
        bytes: question(id, name, family),
        outcome: None,
    });
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).map_err(own)?;
    // Only packets from the server itself are handed to a connected socket.
    socket.connect(server).map_err(own)?;
    let mut malformed = false;
    while queries.iter().any(|q| q.outcome.is_none()) {
        for query in queries.iter().filter(|q| q.outcome.is_none()) {
            match socket.send(&query.bytes) {
                // That nobody listens may be told of the packet before.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Err(DnsError::Refused(server)),
                Err(error) => return Err(own(error)),
                Ok(_) => {}
            }
        }
        let until = deadline.min(Instant::now() + AGAIN);
        malformed |= listen(&socket, server, name, &mut queries, until, deadline)?;
        if Instant::now() >= deadline {
            break;
        }
    }
    let none = || if malformed { DnsError::Malformed(server) } else { DnsError::Timeout(server) };
    let [v4, v6] = queries.map(|q| q.outcome.unwrap_or_else(|| Err(none())));
    match (v4, v6) {
        (Ok(mut found), Ok(more)) => {
            found.extend(more);
            if found.is_empty() { Err(DnsError::NoAddress(server)) } else { Ok(found) }
        }
        // Part of the addresses is a part: what is missing from it cannot be judged.
        (_, Err(error @ DnsError::Truncated(..)))
        | (Err(error @ DnsError::Truncated(..)), _)
        | (Err(error), Err(_)) => Err(error),
        (Ok(found), Err(error)) | (Err(error), Ok(found)) => {
            if found.is_empty() {
                Err(error)
            } else {
                Ok(found)
            }
        }
    }
}

/// Takes what comes until all is answered or `until`; true when something came that is not an answer at all.
fn listen(
    socket: &UdpSocket,
    server: SocketAddr,
    name: &str,
    queries: &mut [Query],
    until: Instant,
    deadline: Instant,
) -> Result<bool, DnsError> {
    let mut malformed = false;
    let mut buffer = [0; 4096];
    while queries.iter().any(|q| q.outcome.is_none()) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let own = |error: io::Error| DnsError::Own(server, super::dial::plain(&error));
        socket.set_read_timeout(Some(left)).map_err(own)?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => break,
                ErrorKind::Interrupted => continue,
                ErrorKind::ConnectionRefused => return Err(DnsError::Refused(server)),
                _ => return Err(own(error)),
            },
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        let id = bytes.first_chunk().map(|id| u16::from_be_bytes(*id));
        let Some(query) = queries.iter_mut().find(|q| Some(q.id) == id && q.outcome.is_none()) else { continue };
        // Somebody may guess the id: what does not fit the question is passed over, and the answer waited for.
        match read(bytes, name, query.family) {
            None => malformed = true,
            Some(answer) if answer.is_truncated => {
                query.outcome = Some(by_tcp(server, query, name, deadline));
            }
            Some(answer) => query.outcome = Some(answer.judge(server)),
        }
    }
    Ok(malformed)
}

fn by_tcp(server: SocketAddr, query: &Query, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, DnsError> {
    let failed = |why: String| DnsError::Truncated(server, why);
    let stream = dial(&[server], deadline).map_err(|error| match error {
        DialError::Own(_) => DnsError::Own(server, error.to_string()),
        _ => failed(error.to_string()),
    })?;
    let mut stream = Bounded::new(stream, deadline);
    let mut exchange = || -> io::Result<Vec<u8>> {
        // A question is far shorter than this.
        let length = u16::try_from(query.bytes.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&length.to_be_bytes(), query.bytes.as_slice()].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length)).min(MESSAGE)];
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = exchange().map_err(|error| {
        failed(match error.kind() {
            ErrorKind::UnexpectedEof => "the connection ended".to_string(),
            ErrorKind::TimedOut => "no answer in time".to_string(),
            _ => super::dial::plain(&error),
        })
    })?;
    let id = bytes.first_chunk().map(|id| u16::from_be_bytes(*id));
    match read(&bytes, name, query.family).filter(|_| id == Some(query.id)) {
        None => Err(DnsError::Malformed(server)),
        Some(answer) if answer.is_truncated => Err(failed("it is truncated there, too".to_string())),
        Some(answer) => answer.judge(server),
    }
}

fn question(id: u16, name: &str, family: Family) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + name.len() + 6);
    out.extend(id.to_be_bytes());
    // Recursion desired; one question.
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        // A label is at most 63 characters: checked where targets are read; cut here rather than sent wrong.
        let label = label.as_bytes().get(..63).unwrap_or(label.as_bytes());
        out.push(u8::try_from(label.len()).unwrap_or(63));
        out.extend(label);
    }
    out.push(0);
    out.extend(family.code().to_be_bytes());
    out.extend([0, 1]);
    out
}

/// An answer to our question.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    code: u8,
    is_truncated: bool,
    addresses: Vec<IpAddr>,
}

impl Answer {
    /// The addresses, none among them when the server says that the name has none of this family.
    fn judge(self, server: SocketAddr) -> Result<Vec<IpAddr>, DnsError> {
        let name = match self.code {
            0 => return Ok(self.addresses),
            3 => return Err(DnsError::NoSuchName(server)),
            1 => "FORMERR",
            2 => "SERVFAIL",
            4 => "NOTIMP",
            5 => "REFUSED",
            code => return Err(DnsError::Failed(server, format!("with error {code}"))),
        };
        Err(DnsError::Failed(server, name.to_string()))
    }
}

/// Reads the answer to the question about `name`; `None` when it is none.
fn read(bytes: &[u8], name: &str, family: Family) -> Option<Answer> {
    let flags = number(bytes, 2)?;
    let is_answer = flags & 0x8000 != 0;
    if !is_answer || number(bytes, 4)? != 1 {
        return None;
    }
    let (asked, end) = read_name(bytes, HEADER)?;
    let wanted = name.trim_end_matches('.').to_ascii_lowercase();
    if asked != wanted || number(bytes, end)? != family.code() || number(bytes, end + 2)? != 1 {
        return None;
    }
    // The low four bits.
    let code = (flags & 0xf) as u8;
    let is_truncated = flags & 0x200 != 0;
    if is_truncated || code != 0 {
        return Some(Answer { code, is_truncated, addresses: Vec::new() });
    }
    let mut at = end + 4;
    let mut aliases = Vec::new();
    let mut found = Vec::new();
    for _ in 0..number(bytes, 6)? {
        let (owner, end) = read_name(bytes, at)?;
        let kind = number(bytes, end)?;
        let length = usize::from(number(bytes, end + 8)?);
        let data = bytes.get(end + 10..end + 10 + length)?;
        if kind == CNAME {
            aliases.push((owner, read_name(bytes, end + 10)?.0));
        } else if kind == family.code() {
            found.push((owner, family.address(data)?));
        }
        at = end + 10 + length;
    }
    let mut current = asked;
    for _ in 0..ALIASES {
        match aliases.iter().find(|(owner, _)| *owner == current) {
            Some((_, target)) => current.clone_from(target),
            None => break,
        }
    }
    let addresses = found.into_iter().filter(|(owner, _)| *owner == current).map(|(_, address)| address).collect();
    Some(Answer { code, is_truncated, addresses })
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.first_chunk().map(|pair| u16::from_be_bytes(*pair))
}

/// The name at `start` in lower case, and where what follows it begins.
fn read_name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut part, mut end, mut name) = (start, start, None, String::new());
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length >> 6 {
            0 if length == 0 => return Some((name, end.unwrap_or(at + 1))),
            0 => {
                let label = bytes.get(at + 1..at + 1 + length)?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                if name.len() > 512 {
                    return None;
                }
                at += 1 + length;
            }
            3 => {
                let target = usize::from(number(bytes, at)? & 0x3fff);
                end.get_or_insert(at + 2);
                // Only ever back beyond where this part began: a loop cannot be written.
                if target >= part {
                    return None;
                }
                (at, part) = (target, target);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server() -> SocketAddr {
        "127.0.0.1:53".parse().unwrap()
    }

    fn answer(name: &str, family: Family, flags: [u8; 2], records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = question(7, name, family);
        bytes[2..4].copy_from_slice(&flags);
        bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        bytes.extend(records.concat());
        bytes
    }

    fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        [owner, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 9], &length, data].concat()
    }

    #[test]
    fn an_answer_is_read_with_its_aliases_and_without_what_belongs_to_others() {
        let alias = b"\x05other\x07EXAMPLE\x00";
        let records = [
            record(&[0xc0, 12], CNAME, alias),
            record(alias, 1, &[10, 0, 0, 1]),
            record(b"\x08stranger\x00", 1, &[6, 6, 6, 6]),
            record(&[0xc0, 12], 16, b"text"),
        ];
        let bytes = answer("Db.Example.org.", Family::V4, [0x81, 0x80], &records);
        let read = read(&bytes, "db.example.ORG", Family::V4).unwrap();
        assert_eq!(read.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(!read.is_truncated && read.code == 0);
    }

    #[test]
    fn what_does_not_fit_the_question_is_no_answer() {
        let whole = answer("db", Family::V4, [0x81, 0x80], &[record(&[0xc0, 12], 1, &[10, 0, 0, 1])]);
        assert!(read(&whole, "db", Family::V4).is_some());
        assert_eq!(read(&whole, "other", Family::V4), None);
        assert_eq!(read(&whole, "db", Family::V6), None);
        assert_eq!(read(&question(7, "db", Family::V4), "db", Family::V4), None, "a question is not an answer");
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length], "db", Family::V4), None, "cut to {length}");
        }
        let ring = answer("db", Family::V4, [0x81, 0x80], &[record(&[0xc0, 20], 1, &[10, 0, 0, 1])]);
        assert_eq!(read(&ring, "db", Family::V4), None, "a pointer to itself");
        let cut = answer("db", Family::V4, [0x83, 0x80], &[record(&[0xc0, 12], 1, &[10, 0, 0, 1])]);
        let cut = read(&cut, "db", Family::V4).unwrap();
        assert!(cut.is_truncated && cut.addresses.is_empty(), "part of an answer is not handed on");
    }

    #[test]
    fn each_code_has_its_words() {
        for (code, words) in
            [(2, "127.0.0.1:53 answers SERVFAIL"), (5, "127.0.0.1:53 answers REFUSED"), (3, "NXDOMAIN")]
        {
            let error = Answer { code, is_truncated: false, addresses: Vec::new() }.judge(server()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes, "db", Family::V4);
            let _ = read_name(&bytes, 0);
        }

        #[test]
        fn no_change_of_a_real_answer_makes_it_panic(at in 0_usize..90, byte in any::<u8>(), length in 0_usize..90) {
            let records = [record(&[0xc0, 12], CNAME, &[0xc0, 12]), record(b"\x01a\xc0\x0c", 28, &[1; 16])];
            let mut bytes = answer("db.example", Family::V6, [0x81, 0x80], &records);
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
            bytes.truncate(bytes.len().min(length.max(20)));
            let _ = read(&bytes, "db.example", Family::V6);
        }
    }
}
