//! What single passes (`run --once`) remember for one another: which nodes were ever seen alive.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Program;
use crate::core::signal::State;
use crate::store::{Condition, Store};

/// Under this single passes remember for one another.
const PASSES: &str = "single passes";
/// The names of nodes that were seen alive, a line each.
const NODES_SEEN: &str = "nodes seen alive";
/// At most this many.
const NODES_REMEMBERED: usize = 20_000;

impl Program {
    /// Single passes keep no targets: what they must know of nodes is which of them were ever there.
    pub(super) fn remember_nodes(&mut self) {
        if self.tick.store.condition() == Condition::Memory {
            return;
        }
        let mut seen = remembered_nodes(&self.tick.store);
        let before = seen.len();
        let alive = self.tick.watch.tracked().filter(|tracked| tracked.state == State::Ok);
        let names = alive.filter_map(|tracked| tracked.spec.key.as_str().strip_prefix("node/"));
        for name in names {
            if seen.len() < NODES_REMEMBERED {
                seen.insert(Arc::from(name));
            }
        }
        if seen.len() == before {
            return;
        }
        let text = seen.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("\n");
        if let Err(error) = self.tick.store.remember(PASSES, NODES_SEEN, &text) {
            tracing::warn!("state: which nodes were seen was not kept: {error}");
        }
    }
}

/// Nodes that earlier single passes saw alive.
pub(super) fn remembered_nodes(store: &Store) -> BTreeSet<Arc<str>> {
    let kept = store.remembered(PASSES).unwrap_or_default();
    let lines = kept.get(NODES_SEEN).map(String::as_str).unwrap_or_default().lines();
    lines.filter(|name| !name.is_empty()).map(Arc::from).collect()
}
