//! What a beacon says about itself: one line per change of state, never one per try.

use std::time::Duration;

use tracing::{error, info, warn};

use crate::client::systemd::Systemd;
use crate::core::beacon::{Beacon, Fault, Holder, State, Why};
use crate::core::message::clean;
use crate::core::time::people;

/// Says what has changed since it looked last.
#[derive(Debug)]
pub struct Tell {
    key: String,
    ttl: Duration,
    said: Option<Said>,
    was_ready: bool,
    /// The words of the last call that failed.
    error: String,
}

/// What was said last, as far as it decides whether the next is news.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Active,
    Failing(Fault),
    Lost(Option<Fault>),
    Delayed,
    Earlier,
    Held(String),
}

impl Tell {
    /// Nothing said yet.
    pub fn new(key: &str, ttl: Duration) -> Tell {
        Tell { key: key.to_string(), ttl, said: None, was_ready: false, error: String::new() }
    }

    /// A call failed, in these words.
    pub fn failed(&mut self, error: String) {
        self.error = error;
    }

    /// Says what is new, to the log and to systemd.
    pub fn look(&mut self, machine: &Beacon, systemd: &Systemd) {
        let said = match (machine.state(), machine.why()) {
            (State::Active, Why::Failing(fault)) => Said::Failing(*fault),
            (State::Active, _) => Said::Active,
            (State::Disconnected, Why::Failing(fault)) => Said::Lost(Some(*fault)),
            (State::Disconnected, Why::SessionLost) => Said::Lost(None),
            (State::Connecting, Why::Delayed) => Said::Delayed,
            (State::Connecting, Why::Earlier(_)) => Said::Earlier,
            (State::Connecting, Why::Held(holder)) => Said::Held(holder.session.clone()),
            // On the way from one to the next.
            _ => return,
        };
        if self.said.as_ref() == Some(&said) {
            return;
        }
        let words = self.words(machine, &said);
        match said {
            Said::Active | Said::Earlier => info!("{words}"),
            Said::Held(_) => error!("{words}"),
            Said::Failing(_) | Said::Lost(_) | Said::Delayed => warn!("{words}"),
        }
        if said == Said::Active && !self.was_ready {
            self.was_ready = true;
            systemd.ready(&words);
        } else {
            systemd.status(&words);
        }
        self.said = Some(said);
    }

    /// How the end went.
    pub fn ended(&self, cleanly: bool) {
        if cleanly {
            info!("stopped; {} says that this was planned, where it was held", self.key);
        } else {
            warn!("stopped without an answer from Consul; the session ends by itself within {}", people(self.ttl * 2));
        }
    }

    fn words(&self, machine: &Beacon, said: &Said) -> String {
        let (key, error) = (&self.key, &self.error);
        match (said, machine.why()) {
            (Said::Active, _) => format!("active: {key} is held by session {}", machine.session().unwrap_or_default()),
            (Said::Failing(_), _) => {
                format!("{error}; still active, for at most {} after the last renewal", people(self.ttl))
            }
            (Said::Lost(Some(_)), _) => format!("disconnected: {error}; trying again until it works"),
            (Said::Lost(None), _) => {
                "the session is gone, ended from outside or lost with Consul's data; making a new one".to_string()
            }
            (Said::Delayed, _) => format!("{key} has no holder and cannot be locked yet; trying again"),
            (_, Why::Earlier(holder)) => format!(
                "{key} is held by an earlier run on this boot ({}); ending its session {}",
                who(holder),
                holder.session
            ),
            (_, Why::Held(holder)) => format!(
                "{key} is held by another beacon: {}, session {}. Not taking it from there; if two machines have this \
                 name, give one another by beacon.node. If that was this machine before it rebooted, its session ends \
                 by itself",
                who(holder),
                holder.session
            ),
            _ => String::new(),
        }
    }
}

/// Whoever wrote the key, in its own words, cleaned.
fn who(holder: &Holder) -> String {
    match &holder.heartbeat {
        Some(other) => {
            clean(&format!("node {}, boot {}, started {}", other.node, other.boot_id, other.started_at), 200)
        }
        None => "something that writes no heartbeat of ours".to_string(),
    }
}
