//! icmp: does the host answer a ping? For routers, switches and others that offer nothing else to ask.
//!
//! Needs no privilege, but a system that lets our group send pings; where it does not, the verdict is
//! unknown and says which setting to change: that tells nothing about the host.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::advice::Trouble;
use super::pool::Verdict;
use super::unresolved;
use crate::client::icmp::{PingError, ping};
use crate::client::resolve::{Lane, resolve};
use crate::core::time::people;

/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;

/// One icmp check.
pub struct IcmpCheck {
    /// Name or address.
    pub host: String,
    /// Limit of one look, name lookup included.
    pub limit: Duration,
    /// May talk to link-local and metadata addresses.
    pub allow_link_local: bool,
}

impl IcmpCheck {
    /// Looks once.
    pub fn look(&self) -> Verdict {
        let deadline = Instant::now() + self.limit;
        let addresses = match resolve(&self.host, 0, Lane::Targets, self.allow_link_local, self.limit) {
            Ok(addresses) => addresses,
            Err(error) => return unresolved(&error, &self.host),
        };
        let addresses: Vec<IpAddr> = addresses.iter().map(std::net::SocketAddr::ip).take(ADDRESSES).collect();
        let mut last = Verdict::unknown("no address to ping");
        for (index, address) in addresses.iter().enumerate() {
            // As when connecting: each but the last gets half of the time that is left.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = if index + 1 == addresses.len() { left } else { left / 2 };
            last = match ping(*address, Instant::now() + share) {
                Ok(took) => return Verdict::up(format!("{address} answered a ping in {}", people(took))),
                Err(error) => self.failed(&error),
            };
        }
        last
    }

    /// The verdict on a ping without an answer.
    pub fn failed(&self, error: &PingError) -> Verdict {
        match error {
            PingError::Forbidden { .. } => Verdict::unknown(error.to_string()).because(Trouble::NoPings),
            PingError::Own(_) => Verdict::unknown(error.to_string()),
            PingError::Unreachable(..) => Verdict::down(error.to_string()).because(Trouble::Unreachable(&self.host)),
            PingError::Timeout(_) => {
                let fact = format!("{error} within {}", people(self.limit));
                Verdict::down(fact).because(Trouble::NoEcho(&self.host))
            }
        }
    }
}
