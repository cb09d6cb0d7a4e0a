//! tls: does the peer show a certificate that holds, for the right name, for long enough (F45)?
//!
//! The certificate is verified as every client of the program does ([`Trust`]), and never accepted in spite of that.
//! How long it holds is the earliest date of the chain in use: a leaf for a year under an authority for five days
//! holds five days. A date is certain at the first look, see [`Verdict::certain`]. Days are counted on the program's
//! own [`Clock`].

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;

use super::advice::{Peer, Trouble};
use super::pool::Verdict;
use super::tcp::not_connected;
use super::unresolved;
use crate::client::dial::{Bounded, dial};
use crate::client::resolve::{Lane, resolve};
use crate::client::trust::{Flaw, Kind, Refusal, Trust, Verified, days, explain};
use crate::clock::Clock;
use crate::core::time::people;

const DAY: i64 = 86_400;

/// One tls check.
pub struct TlsCheck {
    /// Name or address to connect to.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name asked for, which the certificate must carry.
    pub server_name: ServerName<'static>,
    /// Limit of one look, name lookup included.
    pub limit: Duration,
    /// May talk to link-local and metadata addresses.
    pub allow_link_local: bool,
    /// Fewer days than this left are not well.
    pub min_days: u32,
    /// Who the peer must be; shared by all checks with the same settings.
    pub trust: Arc<Trust>,
    /// Tells the time that certificates are judged by.
    pub clock: Clock,
}

impl TlsCheck {
    /// Looks once.
    pub fn look(&self) -> Verdict {
        let deadline = Instant::now() + self.limit;
        let addresses = match resolve(&self.host, self.port, Lane::Targets, self.allow_link_local, self.limit) {
            Ok(addresses) => addresses,
            Err(error) => return unresolved(&error, &self.host),
        };
        let stream = match dial(&addresses, deadline) {
            Ok(stream) => stream,
            Err(error) => return not_connected(&error, self.limit, self.peer()),
        };
        let (config, seen) = self.trust.watched(Arc::new(OwnTime(self.clock.clone())));
        let mut session = match ClientConnection::new(config, self.server_name.clone()) {
            Ok(session) => session,
            Err(error) => return Verdict::unknown(format!("cannot begin TLS: {}", explain(&error))),
        };
        let outcome = session.complete_io(&mut Bounded::new(stream, deadline));
        match (outcome, seen.take()) {
            (Ok(_), Some(verified)) => self.judge(&verified),
            (Ok(_), None) => Verdict::unknown("the peer showed no certificate"),
            (Err(error), _) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls) => self.refused(&explain(tls)),
                None if error.kind() == std::io::ErrorKind::TimedOut => {
                    let fact = format!("no answer within {} (TLS handshake)", people(self.limit));
                    Verdict::down(fact).because(Trouble::Mute(self.peer()))
                }
                None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    Verdict::down("the peer ended the connection during the TLS handshake").because(self.broken())
                }
                None => Verdict::down(format!("the connection broke during the TLS handshake: {error}"))
                    .because(self.broken()),
            },
        }
    }

    /// The verdict on the dates of a chain that was accepted.
    pub fn judge(&self, verified: &Verified) -> Verdict {
        let now = self.clock.now().wall.0.div_euclid(1000);
        let left = verified.ends.saturating_sub(now);
        let first = &verified.first;
        if left < 0 {
            let fact = format!("the {first} expired {} ago", days(left.saturating_neg()));
            let trouble = Trouble::Tls { flaw: Flaw::Expired, peer: self.peer(), name: &self.server_name.to_str() };
            return Verdict::down(fact).because(trouble).certain().since(Some(verified.ends));
        }
        let mut fact = format!("{first} expires in {}", days(left));
        if verified.ends < verified.leaf_ends {
            let itself = verified.leaf_ends.saturating_sub(now);
            let _ = write!(fact, " (the certificate itself in {})", days(itself));
        }
        let least = i64::from(self.min_days).saturating_mul(DAY);
        if left >= least {
            return Verdict::up(fact);
        }
        let since = Some(verified.ends.saturating_sub(least));
        let expiring = Trouble::Expiring { peer: self.peer(), name: &self.server_name.to_str() };
        Verdict::down(format!("{fact}, fewer than {} days", self.min_days)).because(expiring).certain().since(since)
    }

    /// The verdict on a peer that was refused, or refused us.
    pub fn refused(&self, refusal: &Refusal) -> Verdict {
        let name = self.server_name.to_str();
        let trouble = Trouble::Tls { flaw: refusal.flaw, peer: self.peer(), name: &name };
        match refusal.kind {
            Kind::Date { since } => Verdict::down(refusal.words.clone()).because(trouble).certain().since(since),
            Kind::Certificate => Verdict::down(refusal.words.clone()).because(trouble),
            Kind::Talk => Verdict::down(format!("TLS: {}", refusal.words)).because(trouble),
        }
    }

    fn broken(&self) -> Trouble<'_> {
        Trouble::Tls { flaw: Flaw::Talk, peer: self.peer(), name: &self.host }
    }

    fn peer(&self) -> Peer<'_> {
        Peer { host: &self.host, port: self.port }
    }
}

/// The program's clock as rustls wants it.
struct OwnTime(Clock);

impl fmt::Debug for OwnTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnTime")
    }
}

impl TimeProvider for OwnTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().wall.0.div_euclid(1000)).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
