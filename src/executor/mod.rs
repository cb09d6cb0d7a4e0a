//! Executors touch machines: one look, one request at a time, exactly as they are told.
//!
//! No retries, no policy, no decision: what may be asked is decided in `core::recovery`, and was
//! written down before it arrives here. An answer that leaves open whether a request counted says so
//! ([`Reply::Unknown`]) and is never taken for a refusal. To add one: a new file with its settings and
//! `ENTRY`, and its line in [`EXECUTORS`].

pub mod oci;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::schema::Section;
use crate::config::{Config, ConfigError};
use crate::core::recovery::kind;
use crate::core::recovery::plan::Place;
use crate::core::recovery::procedure::Procedure;
use crate::core::recovery::subject::{Fence, Reply, Seen, Verb};

/// Every executor.
pub const EXECUTORS: &[Entry] = &[oci::ENTRY];

/// How the program knows an executor.
pub struct Entry {
    /// The word in `[[node]] executor`.
    pub name: &'static str,
    /// The ways to repair a machine that it offers, for `ladder`.
    pub offers: &'static [Procedure],
    /// How it brings up a machine that somebody else switched off.
    pub starts: Option<Procedure>,
    /// The parts of the configuration it owns.
    pub sections: &'static [Section],
    /// Makes it for the nodes that name it.
    pub build: Build,
    /// Is the machine whose /sys is here one that it could switch?
    pub is_here: fn(&Path) -> bool,
}

/// What switches one node.
#[derive(Debug, Clone)]
pub struct Switch {
    /// The node's place in the list, to name it in a problem.
    pub index: usize,
    /// The node's name, for people.
    pub node: Arc<str>,
    /// The target's key.
    pub key: Arc<str>,
    /// The executor.
    pub executor: &'static str,
    /// The instance, as the executor's provider names it.
    pub instance_id: Arc<str>,
}

/// How an executor is made.
pub type Build = fn(&Config, &Outfit, &[&Switch]) -> Result<Machines, ConfigError>;

/// Machines by the key of their target.
pub type Machines = BTreeMap<Arc<str>, Box<dyn Machine>>;

/// What the program lends to every executor.
#[derive(Clone)]
pub struct Outfit {
    /// Reads the clocks.
    pub clock: Clock,
    /// The default limit of one outside call.
    pub timeout: Duration,
}

/// One machine that can be looked at and switched.
pub trait Machine: Send {
    /// The executor's name, for metrics.
    fn executor(&self) -> &'static str;

    /// What it is known by: enough to find it again with the executor's own settings.
    fn id(&self) -> Arc<str>;

    /// Looks once. An error is a sentence for people, without secrets.
    fn look(&mut self) -> Result<Seen, String>;

    /// Asks once. What came of it, and that in words.
    fn ask(&mut self, verb: Verb, fence: &Fence) -> (Reply, String);
}

/// Every machine that some node names.
///
/// # Errors
/// Every problem of every executor.
pub fn machines(
    executors: &[Entry],
    config: &Config,
    outfit: &Outfit,
    switches: &[Switch],
) -> Result<Machines, ConfigError> {
    let mut machines = Machines::new();
    let mut problems = Vec::new();
    for entry in executors {
        let own: Vec<&Switch> = switches.iter().filter(|switch| switch.executor == entry.name).collect();
        if own.is_empty() {
            continue;
        }
        match (entry.build)(config, outfit, &own) {
            Ok(built) => machines.extend(built),
            Err(error) => problems.extend(error.problems),
        }
    }
    if problems.is_empty() { Ok(machines) } else { Err(ConfigError { problems }) }
}

/// The machines of nodes that are not configured any more, each by its key and place, as far as the settings of their
/// executors lead to them. For the others, why not.
pub fn orphans(config: &Config, outfit: &Outfit, places: &[(Arc<str>, Place)]) -> (Machines, Vec<String>) {
    let (mut machines, mut troubles) = (Machines::new(), Vec::new());
    for (name, place) in places {
        let Some(entry) = EXECUTORS.iter().find(|entry| entry.name == place.executor) else {
            troubles.push(format!("{name}: no executor is called {}", place.executor));
            continue;
        };
        let (key, instance_id) = (Arc::clone(name), Arc::clone(&place.machine));
        let node = Arc::from(kind::name(name));
        let switch = Switch { index: usize::MAX, node, key, executor: entry.name, instance_id };
        // It stands nowhere in the configuration, and what is wrong with it is not a mistake of whoever wrote that.
        match (entry.build)(config, outfit, &[&switch]) {
            Ok(built) => machines.extend(built),
            Err(error) => {
                troubles.extend(error.problems.into_iter().map(|problem| format!("{name}: {}", problem.what)));
            }
        }
    }
    (machines, troubles)
}
