//! Names to addresses, with a deadline and a refusal of addresses that are nobody's business.
//!
//! `getaddrinfo` has no timeout and cannot be aborted (F38): each lookup of a real name runs in a thread
//! of its own; a lookup past its deadline is left behind and its thread counts until it ends. How many
//! there may be, of which zone and for whom, is in [`lanes`]; how a name is spelled for the resolver in
//! [`system`]; whose fault a lookup is that nobody answers in [`witness`]. Link-local and cloud metadata
//! addresses are refused unless allowed (T9), after the name was resolved, and the address checked is the
//! address connected to. See `adr/0029-whose-fault-a-name-is.md`.

mod lanes;
mod system;
mod witness;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub use lanes::{Lane, zone};

use self::lanes::{Full, Lanes};
use self::witness::Witnesses;
use super::shortage;
use crate::core::time::people;

static LANES: Lanes = Lanes::new();
static WITNESSES: Witnesses = Witnesses::new();

/// Why a name gave no address that we may use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The resolver says that the name has no address.
    #[error("the name {name} does not resolve: {why}")]
    NotFound {
        /// The name looked up.
        name: String,
        /// The resolver's words.
        why: String,
    },
    /// The resolver could not tell, although at the same time it tells of others.
    #[error("the name {name} does not resolve: {why}; {other} does")]
    Alone {
        /// The name looked up.
        name: String,
        /// What happened to it.
        why: String,
        /// A name that resolves.
        other: String,
    },
    /// The resolver was asked and could not tell: no server answered it, or the server failed.
    #[error("cannot look up {name}: {why}")]
    Undecided {
        /// The name looked up.
        name: String,
        /// The resolver's words.
        why: String,
    },
    /// No answer within the deadline.
    #[error("looking up {name} took too long; the resolver does not answer within {}", people(*.limit))]
    Timeout {
        /// The name looked up.
        name: String,
        /// The time it had.
        limit: Duration,
    },
    /// The name was not looked up: too many lookups hang already, or our own machine lacks something.
    #[error("{name} was not looked up: {why}")]
    Busy {
        /// The name.
        name: String,
        /// What stands in the way.
        why: String,
    },
    /// The address is link-local or a cloud's metadata service.
    #[error("{0} is a link-local or metadata address; set allow_link_local = true if it is meant")]
    Refused(IpAddr),
}

/// All addresses of `host`, each with `port`; never empty. A literal address is taken as it is. A name
/// with a dot is absolute; one without is completed by the search list of the machine.
pub fn resolve(
    host: &str,
    port: u16,
    lane: Lane,
    allow_link_local: bool,
    limit: Duration,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let addresses = match bare.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => look_up(bare, port, lane, limit)?,
    };
    if !allow_link_local && let Some(address) = addresses.iter().map(SocketAddr::ip).find(|ip| is_link_local(*ip)) {
        return Err(ResolveError::Refused(address));
    }
    Ok(addresses)
}

/// Without descriptors the resolver reads neither its settings nor the hosts file, and says that there is no such
/// name, or that it cannot tell: that is our own lack, and says nothing of the name.
fn or_our_own(error: ResolveError) -> ResolveError {
    match error {
        ResolveError::NotFound { name, why } | ResolveError::Undecided { name, why }
            if shortage::behind_lookup().is_some() =>
        {
            let why = shortage::behind_lookup().map_or(why, |lack| lack.to_string());
            ResolveError::Busy { name, why }
        }
        other => other,
    }
}

fn look_up(name: &str, port: u16, lane: Lane, limit: Duration) -> Result<Vec<SocketAddr>, ResolveError> {
    let begun = Instant::now();
    let name = name.to_ascii_lowercase();
    match ask_system(&name, port, lane, limit) {
        // The names that the program itself lives by are retried anyway, whoever is at fault.
        Err(error) if lane == Lane::Targets => Err(judge(error, begun)),
        outcome => outcome,
    }
}

/// What cannot be told of one name is its own fault while others are told of.
fn judge(error: ResolveError, begun: Instant) -> ResolveError {
    let (name, why) = match &error {
        ResolveError::Undecided { name, why } => (name, why.clone()),
        ResolveError::Timeout { name, limit } => (name, format!("no answer within {}", people(*limit))),
        // What was not looked up, for want of room or of descriptors, is nobody's fault but ours.
        _ => return error,
    };
    let is_found = |other: &str, limit, lane| ask_system(other, 0, lane, limit).is_ok();
    match WITNESSES.other(name, begun, is_found) {
        Some(other) => ResolveError::Alone { name: name.clone(), why, other },
        None => error,
    }
}

/// Asks the system's resolver, in a thread that is left behind when it takes too long.
fn ask_system(name: &str, port: u16, lane: Lane, limit: Duration) -> Result<Vec<SocketAddr>, ResolveError> {
    let deadline = Instant::now() + limit;
    let busy = |why: String| ResolveError::Busy { name: name.to_string(), why };
    let permit = LANES.enter(lane, &zone(name), WITNESSES.hangs(name), deadline).map_err(|full| busy(words(&full)))?;
    let (answer, answered) = mpsc::sync_channel(1);
    let asked = name.to_string();
    let spawned = thread::Builder::new().name("resolve".to_string()).stack_size(128 * 1024).spawn(move || {
        let found = ask_each(&asked, port);
        drop(permit);
        // The asker may have given up; then nobody wants to know.
        let _ = answer.send(found);
    });
    if let Err(error) = spawned {
        let why = shortage::seen_starting(&error).map_or_else(|| error.to_string(), |lack| lack.to_string());
        return Err(busy(format!("the system gives no thread for it: {why}")));
    }
    let found = match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(found) => found.map_err(or_our_own),
        Err(_) => Err(ResolveError::Timeout { name: name.to_string(), limit }),
    };
    let hangs = matches!(found, Err(ResolveError::Timeout { .. }));
    // A witness has far less time than a target: that it did not answer within it says little about itself.
    let counts = found.is_ok() || lane != Lane::Control;
    if counts && (hangs || witness::proves(name)) {
        WITNESSES.keep(name, found.is_ok(), hangs);
    }
    found
}

/// The first spelling of the name that is found. When none is: that one of them could not be told weighs
/// more than that another does not exist.
fn ask_each(name: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    let mut failed = None;
    for spelling in system::spellings(name) {
        let error = match (spelling.as_str(), port).to_socket_addrs() {
            // As many as a DNS answer can hold; a part of them could not be judged.
            Ok(found) => {
                let addresses: Vec<SocketAddr> = found.collect();
                if !addresses.is_empty() {
                    return Ok(addresses);
                }
                no_address(name)
            }
            Err(error) => explain(name, &error.to_string()),
        };
        let weighs_more = !matches!(error, ResolveError::NotFound { .. });
        if failed.is_none() || weighs_more {
            failed = Some(error);
        }
    }
    Err(failed.unwrap_or_else(|| no_address(name)))
}

fn no_address(name: &str) -> ResolveError {
    ResolveError::NotFound { name: name.to_string(), why: "it has no address".to_string() }
}

fn words(full: &Full) -> String {
    match &full.zone {
        Some(zone) => format!("{} lookups in {zone} are waiting for an answer", full.count),
        None => format!("{} lookups are waiting for an answer; the resolver hangs", full.count),
    }
}

/// Tells "there is no such name" from "the resolver could not tell". `getaddrinfo` answers
/// `EAI_AGAIN` for the latter; the standard library hands on only its words (glibc's, musl's).
fn explain(name: &str, words: &str) -> ResolveError {
    let name = name.to_string();
    // Without these words it is an error of the system: no descriptors, no memory.
    let Some(why) = words.strip_prefix("failed to lookup address information: ") else {
        return ResolveError::Busy { name, why: words.to_string() };
    };
    let why = why.to_string();
    let holds = |all: &[&str]| all.iter().any(|words| why.contains(words));
    if holds(&["System error", "Memory allocation"]) {
        ResolveError::Busy { name, why }
    } else if holds(&["Temporary failure", "Try again"]) {
        ResolveError::Undecided { name, why }
    } else {
        ResolveError::NotFound { name, why }
    }
}

/// Link-local, or a metadata service of a cloud (AWS, Azure, GCP and OCI at 169.254.169.254, Azure's
/// wire server at 168.63.129.16, Alibaba at 100.100.100.200, and the IPv6 ones of AWS, OCI, GCP and
/// Scaleway), also inside every IPv6 form that carries an IPv4 address.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || METADATA_V4.contains(&v4),
        IpAddr::V6(v6) => {
            let embedded = v6.to_ipv4_mapped().or_else(|| six_to_four(v6));
            v6.is_unicast_link_local()
                || METADATA_V6.contains(&v6)
                || embedded.is_some_and(|v4| is_link_local(IpAddr::V4(v4)))
        }
    }
}

const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// The IPv4 address inside the translation prefixes 64:ff9b::/96, 64:ff9b:1::/48 and 2002::/16, in the
/// translated form `::ffff:0:a.b.c.d`, in ISATAP interface ids, and in the old compatible form
/// `::a.b.c.d`.
#[allow(clippy::many_single_char_names, reason = "eight segments in a row read best by their letters")]
fn six_to_four(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        (0x64, 0xff9b) => Some(join(g, h)),
        (0x2002, _) => Some(join(b, c)),
        (0, 0) if c == 0 && d == 0 && e == 0 && f == 0 && g != 0 => Some(join(g, h)),
        (0, 0) if c == 0 && d == 0 && e == 0xffff && f == 0 => Some(join(g, h)),
        _ if matches!(e, 0 | 0x200) && f == 0x5efe => Some(join(g, h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_addresses_are_recognised_in_every_dress() {
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "::a9fe:a9fe",
            "::ffff:0:a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2001:db8::5efe:169.254.169.254",
            "fd00:c1::a9fe:a9fe",
            "fd20:ce::254",
            "168.63.129.16",
        ] {
            assert!(is_link_local(text.parse().unwrap()), "{text}");
        }
        for text in ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::"] {
            assert!(!is_link_local(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn no_such_name_and_a_resolver_that_cannot_tell_are_two_things() {
        let lead = "failed to lookup address information: ";
        for words in ["Name or service not known", "No address associated with hostname", "Name does not resolve"] {
            assert!(matches!(explain("db", &format!("{lead}{words}")), ResolveError::NotFound { .. }), "{words}");
        }
        for words in ["Temporary failure in name resolution", "Try again"] {
            assert!(matches!(explain("db", &format!("{lead}{words}")), ResolveError::Undecided { .. }), "{words}");
        }
        for words in [&format!("{lead}System error"), "Too many open files (os error 24)"] {
            assert!(matches!(explain("db", words), ResolveError::Busy { .. }), "our own shortage: {words}");
        }
    }

    #[test]
    fn a_refused_address_is_named_and_an_allowed_one_passes() {
        let limit = Duration::from_secs(5);
        let refused = resolve("169.254.169.254", 80, Lane::Targets, false, limit).unwrap_err();
        assert_eq!(refused, ResolveError::Refused("169.254.169.254".parse().unwrap()));
        assert!(resolve("169.254.169.254", 80, Lane::Targets, true, limit).is_ok());
        assert!(resolve("[::1]", 80, Lane::Targets, false, limit).is_ok());
    }
}
