//! Sources look at the world, each in its own long-lived thread, and report what they saw.
//!
//! A source is asked once per pass and answers with a [`Report`] or with the reason why it could
//! not look. It never decides whether something is an alert (its [`Spec`](crate::core::signal::Spec)s
//! carry the rule), never sleeps for luck, bounds every call, and never imports another source.
//! To add one: a new file with `Settings`, `ENTRY` and one type, and its line in [`SOURCES`].

pub mod app;
pub mod consul;
pub mod docker;
pub mod host;
pub mod oci;
pub mod probe;
pub mod systemd;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::config::schema::Section;
use crate::config::{Config, ConfigError};
use crate::core::about::Details;
use crate::core::signal::{Report, SignalKey};
use crate::core::time::{Mono, Now};
use crate::wake::Waker;

/// Every source, in the order in which they are shown.
pub const SOURCES: &[Entry] =
    &[app::ENTRY, host::ENTRY, docker::ENTRY, systemd::ENTRY, probe::ENTRY, consul::ENTRY, oci::ENTRY];

/// How the program knows a source.
pub struct Entry {
    /// The name in `source/<name>`.
    pub name: &'static str,
    /// What to set so that it watches, for the first screen; empty when it is on by itself.
    pub advice: &'static str,
    /// The parts of the configuration it owns.
    pub sections: &'static [Section],
    /// Makes the source from the configuration; `None` when it is off.
    pub build: Build,
}

/// How a source is made.
pub type Build = fn(&Config, &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError>;

/// What the program lends to every source when it is built.
#[derive(Clone)]
pub struct Outfit {
    /// Reads the clocks.
    pub clock: Clock,
    /// Wakes the loop early: the source with this name will then be asked at once. A hint only.
    pub waker: Waker,
    /// The default limit of one outside call (`timeout`).
    pub timeout: Duration,
    /// The grid of the loop (`tick`).
    pub tick: Duration,
    /// The boot id that an earlier run of the program remembered; `None` where nothing is remembered.
    pub previous_boot: Option<String>,
    /// Nodes that were seen alive in an earlier run, or under the settings before these.
    pub seen_before: Arc<BTreeSet<Arc<str>>>,
    /// What the sources before these wanted kept of their signals.
    pub kept: Kept,
}

/// What sources handed over with [`More::keep`](crate::core::signal::More::keep), for those that come after
/// them: after a restart with a state file, in the next of several single passes, and after each reload.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    bodies: Arc<BTreeMap<SignalKey, Arc<str>>>,
    /// When somebody looked last, by the clocks of now; `None` where nothing is kept.
    looked_at: Option<Mono>,
    same_boot: bool,
}

impl Kept {
    /// What is kept by signal; `looked_at` is the last time that anybody looked, by the clocks of now, `None` where
    /// nobody did, and `same_boot` says that the machine has not booted since.
    pub fn new(bodies: BTreeMap<SignalKey, Arc<str>>, looked_at: Option<Mono>, same_boot: bool) -> Kept {
        Kept { bodies: Arc::new(bodies), looked_at, same_boot }
    }

    /// What is kept of `key`; nothing where it cannot be read, as after a change of its form.
    pub fn of<T: DeserializeOwned>(&self, key: &SignalKey) -> Option<T> {
        self.bodies.get(key).and_then(|body| serde_json::from_str(body).ok())
    }

    /// What is kept of every signal whose key begins with `prefix`, by key.
    pub fn under<T: DeserializeOwned>(&self, prefix: &str) -> impl Iterator<Item = (&SignalKey, T)> {
        let from = self.bodies.range(SignalKey::new(prefix)..);
        from.take_while(move |(key, _)| key.as_str().starts_with(prefix))
            .filter_map(|(key, body)| Some((key, serde_json::from_str(body).ok()?)))
    }

    /// When somebody looked last, by the clocks of now; `None` where nobody did.
    pub fn looked_at(&self) -> Option<Mono> {
        self.looked_at
    }

    /// True when instants on the monotonic clock in what is kept are of this boot.
    pub fn is_of_this_boot(&self) -> bool {
        self.same_boot
    }
}

/// One question to a source.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// When the pass began.
    pub now: Now,
    /// Observations made before this instant belong to the time before a restart, suspend or
    /// clock step; a report is complete only when every observation in it is later.
    pub fresh_since: Mono,
    /// A repair is being considered: what was looked at before this is looked at again as soon as possible,
    /// and stands until it was.
    pub hurry_since: Mono,
    /// True for the one look of `check` and `run --once`: a source that samples by its own
    /// schedule should look at everything now and answer when it has.
    pub once: bool,
}

/// Looks at one part of the world.
pub trait Source: Send {
    /// The name in `source/<name>`.
    fn name(&self) -> &str;

    /// What it watches, in a few words, for the first screen.
    fn describe(&self) -> String;

    /// Looks once and says what was seen, or why looking was not possible (one sentence: what
    /// failed, on what, what to do next; no secrets). Bounded by the source's own time limits.
    fn observe(&mut self, ask: &Ask) -> Result<Report, String>;

    /// What a person should be told when it cannot look, or part of the picture is missing, for this reason.
    fn advice(&self, _why: &str) -> Details {
        Details::default()
    }

    /// The longest an honest answer may take; later than this, the source counts as blind.
    fn patience(&self) -> Duration;

    /// A person says that the subject of this signal is gone for good: what is only remembered of it is dropped. What
    /// is there, or must be there, stays. A source that remembers nothing has nothing to do.
    fn forget(&mut self, _key: &SignalKey) {}
}

/// A source's name, shared.
pub type SourceName = Arc<str>;
