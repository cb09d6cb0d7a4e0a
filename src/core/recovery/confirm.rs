//! What was looked at just before a decision.

use super::heartbeat::{Heartbeats, Life};
use super::subject::Seen;
use crate::core::time::Mono;

/// What was looked at just before a decision.
pub struct Confirmation<'a> {
    /// All heartbeats, or why they cannot be read.
    pub beats: &'a Result<Heartbeats, String>,
    /// The heartbeats of the pass, which know for how long a stop has been said to be planned.
    pub before: Option<&'a Heartbeats>,
    /// The machine, or why it cannot be looked at.
    pub seen: &'a Result<Seen, String>,
    /// The evidence is newer than this.
    pub since: Mono,
    /// How many are ill or not there, by this look.
    pub ill: usize,
}

/// True when a node is not there by a look made just now. A single look cannot tell for how long a stop has been
/// planned: that it has lasted for too long is what the pass saw.
pub fn is_gone(beats: &Heartbeats, before: Option<&Heartbeats>, name: &str) -> bool {
    match beats.life(name) {
        Life::Gone => true,
        Life::Planned => before.is_some_and(|beats| beats.life(name) == Life::Gone),
        Life::Alive | Life::Unheld => false,
    }
}

impl Confirmation<'_> {
    /// True when the node is not there.
    pub fn is_gone(&self, name: &str) -> bool {
        self.beats.as_ref().is_ok_and(|beats| is_gone(beats, self.before, name))
    }
}
