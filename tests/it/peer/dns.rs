//! A name server that answers as told, by UDP and TCP at one address.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is answered about one name.
#[derive(Debug, Clone)]
pub enum Says {
    /// These addresses, each to the question about its family.
    Addresses(Vec<IpAddr>),
    /// The same, but only `.0` of them fit into an answer by UDP, which says that it is truncated.
    Cut(usize, Vec<IpAddr>),
    /// Truncated by UDP, and nothing by TCP.
    CutAndNoMore,
    /// An answer with this code: 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    Code(u8),
    /// These very bytes after the id, instead of an answer.
    Bytes(Vec<u8>),
    /// Nothing at all.
    Silence,
}

/// The server. What it says of a name may be changed at any time; names not listed do not exist.
#[derive(Clone)]
pub struct DnsPeer {
    pub address: SocketAddr,
    names: Arc<Mutex<BTreeMap<String, Says>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl DnsPeer {
    /// A server at `address`; port 0 for any.
    pub fn start(address: &str) -> DnsPeer {
        let wanted: SocketAddr = address.parse().unwrap();
        // Both sockets need one port: try until the one the system chose is free for the other, too.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(wanted).unwrap();
            match TcpListener::bind(udp.local_addr().unwrap()) {
                Ok(tcp) => break (udp, tcp),
                Err(error) if wanted.port() != 0 => panic!("{error}"),
                Err(_) => {}
            }
        };
        let address = udp.local_addr().unwrap();
        let peer = DnsPeer { address, names: Arc::default(), asked: Arc::default() };
        let by_udp = peer.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = by_udp.answer(&buffer[..length], false) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let by_tcp = peer.clone();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let peer = by_tcp.clone();
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                        if stream.read_exact(&mut question).is_err() {
                            return;
                        }
                        let Some(answer) = peer.answer(&question, true) else { return };
                        let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
                        let _ = stream.write_all(&framed);
                    }
                });
            }
        });
        peer
    }

    /// What is said of `name` from now on.
    pub fn say(&self, name: &str, says: Says) {
        self.names.lock().unwrap().insert(name.to_string(), says);
    }

    /// `name` has these addresses from now on.
    pub fn has(&self, name: &str, addresses: &[&str]) {
        self.say(name, Says::Addresses(addresses.iter().map(|a| a.parse().unwrap()).collect()));
    }

    /// Every name asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn says(&self, name: &str) -> Says {
        let names = self.names.lock().unwrap();
        let wild = || names.iter().find(|(key, _)| key.strip_prefix('*').is_some_and(|zone| name.ends_with(zone)));
        names.get(name).or_else(|| wild().map(|(_, says)| says)).cloned().unwrap_or(Says::Code(3))
    }

    fn answer(&self, question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let (name, kind, end) = read_question(question)?;
        self.asked.lock().unwrap().push(name.clone());
        let fits = |addresses: &[IpAddr], most: usize, cut: bool| {
            let records: Vec<Vec<u8>> = addresses
                .iter()
                .filter_map(|address| match (address, kind) {
                    (IpAddr::V4(a), 1) => Some(a.octets().to_vec()),
                    (IpAddr::V6(a), 28) => Some(a.octets().to_vec()),
                    _ => None,
                })
                .collect();
            let shown = &records[..records.len().min(most)];
            let mut out = head(question, if cut && !records.is_empty() { 0x82 } else { 0x80 }, 0, shown.len());
            out.extend(&question[12..end]);
            for data in shown {
                out.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1, 0, data.len() as u8]);
                out.extend(data);
            }
            Some(out)
        };
        match self.says(&name) {
            Says::Addresses(addresses) => fits(&addresses, usize::MAX, false),
            Says::Cut(_, addresses) if by_tcp => fits(&addresses, usize::MAX, false),
            Says::Cut(most, addresses) => fits(&addresses, most, true),
            Says::CutAndNoMore if by_tcp => None,
            Says::CutAndNoMore => Some([head(question, 0x82, 0, 0).as_slice(), &question[12..end]].concat()),
            Says::Code(code) => Some([head(question, 0x80, code, 0).as_slice(), &question[12..end]].concat()),
            Says::Bytes(bytes) => Some([&question[..2], &bytes].concat()),
            Says::Silence => None,
        }
    }
}

fn head(question: &[u8], flags: u8, code: u8, answers: usize) -> Vec<u8> {
    let count = (answers as u16).to_be_bytes();
    vec![question[0], question[1], flags | 1, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]
}

/// The name in lower case, the type, and where the question ends.
fn read_question(bytes: &[u8]) -> Option<(String, u8, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(bytes.get(at..at + length)?).to_lowercase());
        at += length;
    }
    Some((labels.join("."), *bytes.get(at + 1)?, at + 4))
}
