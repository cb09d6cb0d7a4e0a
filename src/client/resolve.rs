//! Names to addresses, with a deadline and a refusal of addresses that are nobody's business.
//!
//! `getaddrinfo` has no timeout and cannot be aborted (F38): each lookup of a real name runs in
//! a thread of its own, at most [`LOOKUPS`] at once; a lookup past its deadline is left behind and
//! its thread counts until it ends. Link-local and cloud metadata addresses are refused unless
//! allowed (T9), after the name was resolved, and the address checked is the address connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::shortage;

/// Lookups that may be under way at once.
pub const LOOKUPS: usize = 64;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

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
    /// The resolver was asked and could not tell: no server answered it, or the server failed.
    #[error("cannot look up {name}: {why}")]
    Undecided {
        /// The name looked up.
        name: String,
        /// The resolver's words.
        why: String,
    },
    /// No answer within the deadline.
    #[error("looking up {0} took too long; the resolver does not answer")]
    Timeout(String),
    /// Too many lookups hang already.
    #[error("{LOOKUPS} lookups are under way already; the resolver hangs")]
    Busy,
    /// The address is link-local or a cloud's metadata service.
    #[error("{0} is a link-local or metadata address; set allow_link_local = true if it is meant")]
    Refused(IpAddr),
}

/// The addresses of `host`, each with `port`; never empty. A literal address is taken as it is.
pub fn resolve(
    host: &str,
    port: u16,
    allow_link_local: bool,
    limit: Duration,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let addresses = match bare.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => look_up(bare, port, limit).map_err(or_our_own)?,
    };
    if !allow_link_local && let Some(address) = addresses.iter().map(SocketAddr::ip).find(|ip| is_link_local(*ip)) {
        return Err(ResolveError::Refused(address));
    }
    Ok(addresses)
}

/// Without descriptors the resolver reads neither its settings nor the hosts file, and says that there is no such name.
fn or_our_own(error: ResolveError) -> ResolveError {
    match error {
        ResolveError::NotFound { name, why } => match shortage::behind_lookup() {
            Some(lack) => ResolveError::Undecided { name, why: lack.to_string() },
            None => ResolveError::NotFound { name, why },
        },
        other => other,
    }
}

fn look_up(name: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, ResolveError> {
    if UNDER_WAY.fetch_add(1, Ordering::SeqCst) >= LOOKUPS {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        return Err(ResolveError::Busy);
    }
    let (answer, answered) = mpsc::sync_channel(1);
    let asked = name.to_string();
    let spawned = thread::Builder::new().name("resolve".to_string()).stack_size(128 * 1024).spawn(move || {
        let found = (asked.as_str(), port).to_socket_addrs().map(|found| found.take(16).collect::<Vec<_>>());
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        // The asker may have given up; then nobody wants to know.
        let _ = answer.send(found);
    });
    if let Err(error) = spawned {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        let why = shortage::seen_starting(&error).map_or_else(|| error.to_string(), |lack| lack.to_string());
        return Err(ResolveError::Undecided { name: name.to_string(), why });
    }
    match answered.recv_timeout(limit) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(explain(name, "no address")),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(explain(name, &error.to_string())),
        Err(_) => Err(ResolveError::Timeout(name.to_string())),
    }
}

/// Tells "there is no such name" from "the resolver could not tell". `getaddrinfo` answers
/// `EAI_AGAIN` for the latter; the standard library hands on only its words (glibc's, musl's).
fn explain(name: &str, words: &str) -> ResolveError {
    let why = words.strip_prefix("failed to lookup address information: ").unwrap_or(words).to_string();
    let name = name.to_string();
    let again = ["Temporary failure", "Try again", "System error", "Memory allocation"];
    if again.iter().any(|words| why.contains(words)) {
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
        for words in ["Temporary failure in name resolution", "Try again", "System error"] {
            assert!(matches!(explain("db", &format!("{lead}{words}")), ResolveError::Undecided { .. }), "{words}");
        }
    }

    #[test]
    fn a_refused_address_is_named_and_an_allowed_one_passes() {
        let limit = Duration::from_secs(5);
        let refused = resolve("169.254.169.254", 80, false, limit).unwrap_err();
        assert_eq!(refused, ResolveError::Refused("169.254.169.254".parse().unwrap()));
        assert!(resolve("169.254.169.254", 80, true, limit).is_ok());
        assert!(resolve("[::1]", 80, false, limit).is_ok());
    }
}
