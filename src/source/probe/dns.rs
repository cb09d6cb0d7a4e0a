//! dns: does the machine's own resolver find the name, and where asked, at the right addresses?

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::pool::Verdict;
use super::unresolved;
use crate::client::resolve::resolve;
use crate::core::time::people;

/// One dns check.
pub struct DnsCheck {
    /// The name to look up.
    pub name: String,
    /// Limit of one look.
    pub limit: Duration,
    /// Addresses that must all be among the answers; empty: any answer will do.
    pub expect: Vec<IpAddr>,
}

impl DnsCheck {
    /// Looks once.
    pub fn look(&self) -> Verdict {
        let begun = Instant::now();
        // Nothing is sent to the address, so that any address may be the answer.
        match resolve(&self.name, 0, true, self.limit) {
            Ok(found) => self.judge(found.iter().map(|a| a.ip().to_canonical()).collect(), begun.elapsed()),
            Err(error) => unresolved(&error),
        }
    }

    fn judge(&self, mut found: Vec<IpAddr>, took: Duration) -> Verdict {
        found.sort_unstable();
        found.dedup();
        let shown: Vec<String> = found.iter().take(4).map(ToString::to_string).collect();
        let more =
            if found.len() > shown.len() { format!(" and {} more", found.len() - shown.len()) } else { String::new() };
        let seen = format!("resolves to {}{more} in {}", shown.join(", "), people(took));
        match self.expect.iter().find(|wanted| !found.contains(wanted)) {
            Some(missing) => Verdict::down(format!("{seen}, but not to {missing}")),
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
        DnsCheck { name: name.to_string(), limit: Duration::from_secs(5), expect }
    }

    #[test]
    fn every_expected_address_must_be_among_the_answers() {
        let found = || vec!["10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let took = Duration::from_millis(3);
        let verdict = check("db", &["10.0.0.1"]).judge(found(), took);
        assert_eq!(verdict, Verdict::up("resolves to 10.0.0.1, 10.0.0.2 in 3ms"));
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
