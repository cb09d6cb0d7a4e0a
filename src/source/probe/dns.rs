//! dns: does the machine's own resolver, or a certain name server, find the name, and where asked, at the
//! right addresses? All addresses are judged, or none: part of an answer is not a ground for a verdict.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::advice::Trouble;
use super::pool::Verdict;
use super::target::Place;
use super::unresolved;
use crate::client::dns::{DnsError, ask};
use crate::client::resolve::{Lane, resolve};
use crate::core::time::people;

/// The port of name servers.
const PORT: u16 = 53;

/// One dns check.
pub struct DnsCheck {
    /// The name to look up.
    pub name: String,
    /// Limit of one look.
    pub limit: Duration,
    /// Addresses that must all be among the answers; empty: any answer will do.
    pub expect: Vec<IpAddr>,
    /// The name server to ask; `None`: the machine's own resolver.
    pub server: Option<Place>,
    /// The server may be at a link-local or metadata address.
    pub allow_link_local: bool,
}

impl DnsCheck {
    /// Looks once.
    pub fn look(&self) -> Verdict {
        let begun = Instant::now();
        let found = match &self.server {
            Some(server) => match self.ask(server, begun + self.limit) {
                Ok(found) => found,
                Err(verdict) => return verdict,
            },
            // Nothing is sent to the address, so that any address may be the answer.
            None => match resolve(&self.name, 0, Lane::Targets, true, self.limit) {
                Ok(found) => found.iter().map(SocketAddr::ip).collect(),
                Err(error) => return unresolved(&error, &self.name),
            },
        };
        self.judge(found.iter().map(IpAddr::to_canonical).collect(), begun.elapsed())
    }

    /// What the server says. It was named, so that its silence is what the check is about.
    fn ask(&self, server: &Place, deadline: Instant) -> Result<Vec<IpAddr>, Verdict> {
        let port = server.port.unwrap_or(PORT);
        let addresses = resolve(&server.host, port, Lane::Targets, self.allow_link_local, self.limit)
            .map_err(|error| unresolved(&error, &server.host))?;
        // The first will do: a server that has several is asked at all of them by probes of their own.
        let address = addresses.first().ok_or_else(|| Verdict::unknown("the server has no address"))?;
        ask(*address, &self.name, deadline).map_err(|error| self.failed(&error))
    }

    /// The verdict on a server that named no address.
    pub fn failed(&self, error: &DnsError) -> Verdict {
        let (name, server) = (self.name.as_str(), self.server.as_ref().map(|server| server.host.as_str()));
        let asked = server.unwrap_or_default();
        match error {
            DnsError::Own(..) => Verdict::unknown(error.to_string()),
            DnsError::Truncated(..) => Verdict::unknown(format!("{error}; part of an answer is not judged")),
            DnsError::Timeout(_) => {
                let fact = format!("{error} within {}", people(self.limit));
                Verdict::down(fact).because(Trouble::NoNameServer(asked))
            }
            DnsError::NoSuchName(_) | DnsError::NoAddress(_) => {
                Verdict::down(format!("{name} does not resolve: {error}")).because(Trouble::NoName { name, server })
            }
            DnsError::Failed(..) => {
                Verdict::down(format!("{name} does not resolve: {error}")).because(Trouble::NameFails { name, server })
            }
            DnsError::Refused(_) | DnsError::Malformed(_) => {
                Verdict::down(error.to_string()).because(Trouble::NoNameServer(asked))
            }
        }
    }

    /// The verdict on these addresses.
    pub fn judge(&self, mut found: Vec<IpAddr>, took: Duration) -> Verdict {
        found.sort_unstable();
        found.dedup();
        let shown: Vec<String> = found.iter().take(4).map(ToString::to_string).collect();
        let more =
            if found.len() > shown.len() { format!(" and {} more", found.len() - shown.len()) } else { String::new() };
        let seen = format!("resolves to {}{more} in {}", shown.join(", "), people(took));
        match self.expect.iter().find(|wanted| !found.contains(wanted)) {
            Some(missing) => {
                let (name, server) = (self.name.as_str(), self.server.as_ref().map(|server| server.host.as_str()));
                let verdict = Verdict::down(format!("{seen}, but not to {missing}"));
                verdict.because(Trouble::OtherAddress { name, server })
            }
            None => Verdict::up(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::signal::Reading;

    fn check(name: &str, expect: &[&str]) -> DnsCheck {
        let expect = expect.iter().map(|a| a.parse().unwrap()).collect();
        DnsCheck {
            name: name.to_string(),
            limit: Duration::from_secs(5),
            expect,
            server: None,
            allow_link_local: false,
        }
    }

    #[test]
    fn every_expected_address_must_be_among_the_answers() {
        let found = || vec!["10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let took = Duration::from_millis(3);
        let verdict = check("db", &["10.0.0.1"]).judge(found(), took);
        assert_eq!(verdict, Verdict::up("resolves to 10.0.0.1, 10.0.0.2 in 3 ms"));
        let verdict = check("db", &["10.0.0.1", "10.0.0.9"]).judge(found(), took);
        assert_eq!(verdict.reading, Reading::Down);
        assert!(verdict.fact.ends_with("but not to 10.0.0.9"), "{}", verdict.fact);
        let many = (0..100).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        assert!(check("db", &[]).judge(many, took).fact.contains("and 96 more"));
    }

    #[test]
    fn the_machine_knows_itself() {
        let verdict = check("localhost", &[]).look();
        assert_eq!(verdict.reading, Reading::Up, "{}", verdict.fact);
    }
}
