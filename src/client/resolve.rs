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
        Err(_) => look_up(bare, port, limit)?,
    };
    if !allow_link_local && let Some(address) = addresses.iter().map(SocketAddr::ip).find(|ip| is_link_local(*ip)) {
        return Err(ResolveError::Refused(address));
    }
    Ok(addresses)
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
    if spawned.is_err() {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        return Err(ResolveError::Busy);
    }
    let not_found = |why: String| ResolveError::NotFound { name: name.to_string(), why };
    match answered.recv_timeout(limit) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(not_found("no address".to_string())),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(not_found(error.to_string())),
        Err(_) => Err(ResolveError::Timeout(name.to_string())),
    }
}

/// Link-local, or a metadata service of a cloud (AWS, Azure, GCP and OCI at 169.254.169.254;
/// Alibaba at 100.100.100.200; AWS by IPv6 at fd00:ec2::254), also inside IPv6-mapped forms.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == Ipv4Addr::new(100, 100, 100, 200),
        IpAddr::V6(v6) => {
            let embedded = v6.to_ipv4_mapped().or_else(|| six_to_four(v6));
            v6.is_unicast_link_local()
                || v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
                || embedded.is_some_and(|v4| is_link_local(IpAddr::V4(v4)))
        }
    }
}

/// The IPv4 address inside the well-known translation prefixes 64:ff9b::/96 and 2002::/16, and in
/// the old compatible form ::a.b.c.d.
fn six_to_four(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        (0x64, 0xff9b) => Some(join(g, h)),
        (0x2002, _) => Some(join(b, c)),
        (0, 0) if c == 0 && d == 0 && e == 0 && f == 0 && g != 0 => Some(join(g, h)),
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
        ] {
            assert!(is_link_local(text.parse().unwrap()), "{text}");
        }
        for text in ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::"] {
            assert!(!is_link_local(text.parse().unwrap()), "{text}");
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
