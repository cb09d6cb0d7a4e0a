//! Heartbeats in Consul: one signal `node/<name>` for each key under the prefix and each configured node.
//!
//! A thread keeps one blocking read of the whole prefix open, however many nodes there are, and wakes
//! the loop when a node came or went; a question is answered from its last picture. What cannot be
//! trusted makes the source blind and every node unknown: no leader, a leader heard of too long ago, keys
//! hidden by ACLs, data that was replaced (the index went back, or our sentinel key is gone) — never
//! "everybody is missing" (F11–F13). See `adr/0023-reading-heartbeats.md`.

mod advice;
mod follow;
mod known;
mod picture;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::follow::{Follower, Reading as Looked};
use self::known::{Kept, PREFIX, Tracked};
use self::picture::Reader;
pub use self::picture::Where;
use super::{Ask, Entry, Outfit, Source};
use crate::client::consul::{self, Consul};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::core::about::Details;
use crate::core::beacon::LONGEST_WAIT;
use crate::core::recovery::heartbeat::Heartbeats;
use crate::core::signal::{Report, SignalKey};
use crate::core::time::{Mono, people};
use crate::nodes::Nodes;
use crate::pace::Pace;

/// The source's name.
const NAME: &str = "consul";
/// A blocking read waits for a tick, within these.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Nodes that nobody configured are remembered, at most this many.
const REMEMBERED: usize = 20_000;
/// A node that nobody configured is forgotten when it has been gone for this long.
const FORGOTTEN: Duration = Duration::from_hours(24);

/// How the program knows this source.
pub const ENTRY: Entry = Entry {
    name: NAME,
    advice: "[consul] and [[node]] to watch nodes by their heartbeats",
    sections: consul::SECTIONS,
    build,
};

fn build(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let nodes = Nodes::read(config)?;
    // Variables that other programs use are not a mistake of ours where nothing asks Consul.
    if nodes.nodes.is_empty() && !config.is_set("consul") && !config.is_set("beacon") {
        return Ok(None);
    }
    // Checked even where it is off, so that a mistake shows before it matters.
    let client = consul::connect(config, outfit.timeout)?;
    consul::prefix(config)?;
    resettle(config)?;
    if nodes.nodes.is_empty() && !config.is_set("consul") {
        return Ok(None);
    }
    let place = place(config, &nodes)?;
    let names = nodes.nodes.iter().map(|node| Arc::clone(&node.name)).collect();
    let heart = Heart::new(client, place, names, outfit.clone());
    Ok(Some(Box::new(Heart { plans: advice::plans(&nodes), ..heart })))
}

/// Where the heartbeats are.
///
/// # Errors
/// A prefix or a time that cannot be used.
pub fn place(config: &Config, nodes: &Nodes) -> Result<Where, ConfigError> {
    let sentinel = format!("{}/sentinel", nodes.lease);
    Ok(Where { prefix: consul::prefix(config)?, sentinel, resettle: resettle(config)? })
}

/// How long nodes have to register again. Shorter than a beacon may wait between two tries, it would have a fleet that
/// is about to come back counted as missing (F12).
fn resettle(config: &Config) -> Result<Duration, ConfigError> {
    let resettle = config.section::<consul::Settings>("consul")?.resettle;
    if resettle.0 > LONGEST_WAIT {
        return Ok(resettle.0);
    }
    let (wait, least) = (people(LONGEST_WAIT), people(LONGEST_WAIT + Duration::from_secs(1)));
    let what =
        format!("{resettle} is not longer than a beacon may wait between two tries ({wait}); the least is {least}");
    Err(config.error("consul.resettle", what))
}

/// Reads heartbeats.
pub struct Heart {
    consul: Consul,
    place: Where,
    configured: BTreeSet<Arc<str>>,
    outfit: Outfit,
    wait: Duration,
    follower: Option<Follower>,
    specs: BTreeMap<Arc<str>, Tracked>,
    /// The picture that was reported last.
    last: Heartbeats,
    /// Nobody configured some of those that have no key.
    may_forget: bool,
    /// The first report.
    began: Option<Mono>,
    /// Nodes beyond those that are followed.
    left_out: usize,
    /// Single passes that follow one another: what was lost is confirmed by the next of them.
    once: bool,
    /// What will be done about each configured node when it is lost, in words.
    plans: BTreeMap<Arc<str>, Arc<str>>,
}

/// One consistent read of all heartbeats, with the sentinel, for a decision about `node`.
///
/// # Errors
/// Why they cannot be believed, in words.
pub fn confirm(consul: &Consul, place: &Where, clock: &Clock, node: &str) -> Result<Heartbeats, String> {
    Reader::confirm(consul, place, clock, node)
}

impl Heart {
    /// A source that reads nothing before it is asked for the first time.
    pub fn new(consul: Consul, place: Where, configured: BTreeSet<Arc<str>>, outfit: Outfit) -> Heart {
        let wait = outfit.tick.clamp(WAIT.0, WAIT.1);
        Heart {
            consul,
            place,
            configured,
            outfit,
            wait,
            follower: None,
            specs: BTreeMap::new(),
            last: Heartbeats::default(),
            may_forget: false,
            began: None,
            left_out: 0,
            once: false,
            plans: BTreeMap::new(),
        }
    }

    /// Reads once, without waiting for news.
    fn look_once(&self) -> Looked {
        let reader = Reader::for_one_look(self.consul.clone(), self.place.clone());
        let mut reader = reader.knowing(self.planned_before());
        let outcome = reader.read(None, &self.outfit.clock);
        Looked { outcome, at: self.outfit.clock.now().mono }
    }

    fn latest(&mut self) -> Option<Looked> {
        if self.follower.is_none() {
            let reader = Reader::new(self.consul.clone(), self.place.clone()).knowing(self.planned_before());
            let pace = Pace::of(&format!("consul {}", self.consul.address()), follow::BACKOFF);
            let (clock, waker) = (self.outfit.clock.clone(), self.outfit.waker.clone());
            self.follower = Some(Follower::start(reader, self.wait, (clock, waker), Arc::from(NAME), pace));
        }
        self.follower.as_ref().and_then(Follower::latest)
    }

    /// Since when nodes said to those before us that they stop as planned.
    fn planned_before(&self) -> BTreeMap<Arc<str>, Mono> {
        let now = self.outfit.clock.now();
        let kept = self.outfit.kept.under::<Kept>(PREFIX);
        kept.filter_map(|(key, kept)| Some((name(key)?, kept.planned_since(now)?))).collect()
    }

    fn report(&mut self, beats: &Arc<Heartbeats>) -> Report {
        // Pictures between which nothing changed share their nodes, and then nobody needs to be looked up.
        if self.began.is_none() || !Arc::ptr_eq(&beats.nodes, &self.last.nodes) {
            self.compare(beats);
        }
        self.last = Heartbeats::clone(beats);
        if self.may_forget {
            let configured = &self.configured;
            self.specs.retain(|name, known| {
                known.has_key || configured.contains(name) || beats.at.since(known.there_at) < FORGOTTEN
            });
        }
        // What was lost while nobody looked may be Consul's data: nodes have their time to register again.
        let began = *self.began.get_or_insert(beats.at);
        let is_settled = self.once || beats.at.since(began) >= self.place.resettle;
        let (configured, plans) = (&self.configured, &self.plans);
        let observe = |(name, known): (&Arc<str>, &mut Tracked)| {
            let seen = known.observe(beats.at, is_settled, !configured.contains(name));
            let details = advice::node(name, seen.reading, known.life, plans.get(name));
            seen.with_some(details)
        };
        let observations = self.specs.iter_mut().map(observe).collect();
        let blind = (self.left_out > 0)
            .then(|| format!("{REMEMBERED} nodes are followed; at least {} more are not watched", self.left_out));
        Report { observations, complete: true, blind, beats: Some(Arc::clone(beats)), ..Report::default() }
    }

    /// Takes over who is there, and who is not any more.
    fn compare(&mut self, beats: &Heartbeats) {
        let now = self.outfit.clock.now();
        let kept: BTreeMap<Arc<str>, Kept> = match self.began {
            Some(_) => BTreeMap::new(),
            None => self.outfit.kept.under::<Kept>(PREFIX).filter_map(|(key, kept)| Some((name(key)?, kept))).collect(),
        };
        let room = REMEMBERED.saturating_sub(self.specs.len());
        let others = beats.nodes.keys().chain(kept.keys()).filter(|name| !self.configured.contains(*name));
        let others: BTreeSet<_> = others.filter(|name| !self.specs.contains_key(*name)).collect();
        self.left_out = others.len().saturating_sub(room);
        let others = others.into_iter().take(room);
        let own = self.configured.iter().filter(|name| !self.specs.contains_key(*name));
        let (apart, outfit) = (self.once.then_some(self.place.resettle), &self.outfit);
        let newcomer = |name: &Arc<str>| {
            let known = Tracked::new(name, beats.at, outfit.seen_before.contains(name), apart);
            (Arc::clone(name), known.knowing(kept.get(name).copied(), outfit.kept.looked_at(), now))
        };
        // All at once: a tree that grows by one and one is half empty.
        let mut newcomers = others.chain(own).map(newcomer).collect();
        self.specs.append(&mut newcomers);
        for (name, known) in &mut self.specs {
            known.take(beats.nodes.get(name), self.last.at, now);
        }
        self.may_forget = self.specs.iter().any(|(name, known)| !known.has_key && !self.configured.contains(name));
    }
}

/// The node whose signal this is.
fn name(key: &SignalKey) -> Option<Arc<str>> {
    key.as_str().strip_prefix(PREFIX).map(Arc::from)
}

impl Source for Heart {
    fn name(&self) -> &str {
        NAME
    }

    fn describe(&self) -> String {
        let nodes = match self.configured.len() {
            0 => "every node".to_string(),
            1 => "1 node and every other".to_string(),
            n => format!("{n} nodes and every other"),
        };
        format!("{nodes} under {}", self.place.prefix)
    }

    fn observe(&mut self, ask: &Ask) -> Result<Report, String> {
        self.once = ask.once;
        let looked = if ask.once { Some(self.look_once()) } else { self.latest() };
        let Some(looked) = looked else { return Err("Consul has not answered yet".to_string()) };
        let now = self.outfit.clock.now().mono;
        let patience = self.wait + self.wait / 16 + self.consul.timeout() + Duration::from_secs(10);
        let age = now.since(looked.at);
        if age > patience {
            return Err(format!("no answer from Consul for {}", people(age)));
        }
        looked.outcome.map(|beats| self.report(&beats))
    }

    fn forget(&mut self, key: &SignalKey) {
        let gone = key.as_str().strip_prefix(known::PREFIX);
        self.specs.retain(|name, known| known.has_key || self.configured.contains(name) || gone != Some(&**name));
    }

    fn advice(&self, why: &str) -> Details {
        advice::blind(why)
    }

    fn patience(&self) -> Duration {
        self.consul.timeout() * 4 + Duration::from_secs(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_longer_to_register_again_than_a_beacon_may_wait_between_two_tries() {
        let read = |toml: &str| resettle(&Config::from_toml(toml).unwrap()).map_err(|error| error.to_string());
        assert_eq!(read(""), Ok(Duration::from_mins(1)), "the default is long enough");
        assert_eq!(read("[consul]\nresettle = \"31s\""), Ok(Duration::from_secs(31)));
        for short in ["30s", "1s", "0s"] {
            let what = read(&format!("[consul]\nresettle = \"{short}\"")).unwrap_err();
            assert!(what.contains("`consul.resettle`") && what.contains("the least is 31 s"), "{what}");
        }
    }
}
