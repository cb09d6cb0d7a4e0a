//! Heartbeats in Consul: one signal `node/<name>` for each key under the prefix and each configured node.
//!
//! A thread keeps one blocking read of the whole prefix open, however many nodes there are, and wakes
//! the loop when a node came or went; a question is answered from its last picture. What cannot be
//! trusted makes the source blind and every node unknown: no leader, a leader heard of too long ago, keys
//! hidden by ACLs, data that was replaced (the index went back, or our sentinel key is gone) — never
//! "everybody is missing" (F11–F13). See `adr/0023-reading-heartbeats.md`.

mod advice;
mod follow;
mod picture;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::follow::{Follower, Reading as Looked};
use self::picture::Reader;
pub use self::picture::Where;
use super::{Ask, Entry, Outfit, Source};
use crate::client::consul::{self, Consul};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::core::about::Details;
use crate::core::beacon::LONGEST_WAIT;
use crate::core::recovery::heartbeat::{Heartbeats, Life};
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Observation, Reading, Report, Severity, SignalKey, Spec};
use crate::core::time::{Mono, people};
use crate::nodes::Nodes;

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
    // Variables that other programs use are no mistake of ours where nothing asks Consul.
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

/// A node that has been spoken of.
struct Tracked {
    spec: Arc<Spec>,
    /// In the picture reported last.
    life: Life,
    has_key: bool,
    /// When it was last seen to have a key; moves on when it has none any more.
    there_at: Mono,
    sight: Sight,
}

/// Whether a node was ever seen to have a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    Never,
    /// In an earlier run, or under the settings before these.
    Before,
    Now,
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
        let mut reader = Reader::for_one_look(self.consul.clone(), self.place.clone());
        let outcome = reader.read(None, &self.outfit.clock);
        Looked { outcome, at: self.outfit.clock.now().mono }
    }

    fn latest(&mut self) -> Option<Looked> {
        let follower = self.follower.get_or_insert_with(|| {
            Follower::start(
                Reader::new(self.consul.clone(), self.place.clone()),
                self.wait,
                self.outfit.clock.clone(),
                self.outfit.waker.clone(),
                Arc::from(NAME),
            )
        });
        follower.latest()
    }

    fn report(&mut self, beats: &Arc<Heartbeats>) -> Report {
        // Pictures between which nothing changed share their nodes, and then nobody needs to be looked up.
        if !Arc::ptr_eq(&beats.nodes, &self.last.nodes) {
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
        let observations = self.specs.iter().map(|(name, known)| {
            let seen = observe(known, beats.at, is_settled);
            let details = advice::node(name, seen.reading, known.life, self.plans.get(name));
            seen.with_some(details)
        });
        let observations = observations.collect();
        let blind = (self.left_out > 0)
            .then(|| format!("{REMEMBERED} nodes are followed; at least {} more are not looked at", self.left_out));
        Report { observations, complete: true, blind, beats: Some(Arc::clone(beats)), ..Report::default() }
    }

    /// Takes over who is there, and who is not any more.
    fn compare(&mut self, beats: &Heartbeats) {
        let room = REMEMBERED.saturating_sub(self.specs.len());
        let others = beats.nodes.keys().filter(|name| !self.configured.contains(*name));
        let others: Vec<_> = others.filter(|name| !self.specs.contains_key(*name)).collect();
        self.left_out = others.len().saturating_sub(room);
        let others = others.into_iter().take(room);
        let own = self.configured.iter().filter(|name| !self.specs.contains_key(*name));
        let newcomer = |name: &Arc<str>| {
            let spec = spec(name, self.once.then_some(self.place.resettle));
            let sight = if self.outfit.seen_before.contains(name) { Sight::Before } else { Sight::Never };
            let known = Tracked { spec, life: Life::Gone, has_key: false, there_at: beats.at, sight };
            (Arc::clone(name), known)
        };
        // All at once: a tree that grows by one and one is half empty.
        let mut newcomers = others.chain(own).map(newcomer).collect();
        self.specs.append(&mut newcomers);
        for (name, known) in &mut self.specs {
            let beat = beats.nodes.get(name);
            if known.has_key {
                // Until the look before this one.
                known.there_at = self.last.at;
            }
            known.has_key = beat.is_some();
            if known.has_key {
                known.sight = Sight::Now;
            }
            known.life = beat.map_or(Life::Gone, |beat| beat.life);
        }
        self.may_forget = self.specs.iter().any(|(name, known)| !known.has_key && !self.configured.contains(name));
    }
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

    fn advice(&self, why: &str) -> Details {
        advice::blind(why)
    }

    fn patience(&self) -> Duration {
        self.consul.timeout() * 4 + Duration::from_secs(2)
    }
}

/// `apart`: single passes, of which a second one has to see it gone this long after the first.
fn spec(name: &str, apart: Option<Duration>) -> Arc<Spec> {
    // A session's end has been waited for by Consul: one look is enough.
    let at_once = Rule::at_once(Test::Verdict);
    let rule = apart.map_or(at_once, |hold| Rule { fail_after: 2, hold, ..at_once });
    let key = SignalKey::new(&format!("node/{name}"));
    Arc::new(Spec::new(key, format!("node {name}"), Severity::Critical, rule))
}

fn observe(known: &Tracked, at: Mono, is_settled: bool) -> Observation {
    let (reading, fact) = match known.life {
        Life::Alive => (Reading::Up, Cow::Borrowed("its session holds its key")),
        Life::Planned => (Reading::Unknown, Cow::Borrowed("it said that it stops as planned: maintenance")),
        Life::Unheld => (Reading::Unknown, Cow::Borrowed("its key is there and no session holds it")),
        Life::Gone if known.sight == Sight::Before && is_settled => {
            (Reading::Down, Cow::Borrowed("its heartbeat is gone: it was there once, and not since we look"))
        }
        Life::Gone if known.sight != Sight::Now => (Reading::Unknown, Cow::Borrowed("its heartbeat was not seen yet")),
        Life::Gone => (Reading::Down, Cow::Borrowed("its heartbeat is gone: the session has ended")),
    };
    Observation::new(&known.spec, at, reading, fact)
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
