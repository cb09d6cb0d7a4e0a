//! Nodes that are not configured any more: what is kept of them, and when it is forgotten.
//!
//! Somebody who takes a node out of the configuration may put it back, today or in a month, and then it must be
//! known that it was seen alive, and what was tried before (B6). What is kept has to end all the same, or a fleet whose nodes come
//! and go would fill the file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::heartbeat::Beat;
use super::kind;
use super::member::Member;
use super::plan::{Node, Plan};
use super::target::{Kept, Target};
use crate::core::time::Wall;

/// A node that is not configured is forgotten when it had no key for this long.
const FORGOTTEN: Duration = Duration::from_hours(24 * 30);
/// That its key is still there is written down this often.
const NOTED: Duration = Duration::from_hours(24);

/// What is kept of nodes that are not configured any more, by key.
#[derive(Debug, Clone, Default)]
pub(super) struct Left {
    nodes: BTreeMap<Arc<str>, Kept>,
}

impl Left {
    /// A node is not configured any more.
    pub(super) fn put(&mut self, name: Arc<str>, kept: Kept) {
        self.nodes.insert(name, kept);
    }

    /// A node as it is kept; it is configured again.
    pub(super) fn member(&mut self, node: Node) -> Member {
        let fresh = Member::new(node);
        match self.nodes.remove(&fresh.node.key) {
            Some(kept) => Member { target: Target::restored(Kept { left_at: None, ..kept }), dirty: true, ..fresh },
            None => fresh,
        }
    }

    /// What is kept of a node.
    pub(super) fn kept(&self, name: &str) -> Option<&Kept> {
        self.nodes.get(name)
    }

    /// Takes note of those whose key is there, and forgets those who had none for long. Only what was looked at
    /// counts.
    pub(super) fn tick(&mut self, beats: Option<&BTreeMap<Arc<str>, Beat>>, now: Wall, plan: &mut Plan) {
        self.nodes.retain(|name, kept| {
            let Some(left_at) = kept.left_at else {
                kept.left_at = Some(now);
                plan.changed.push(Arc::clone(name));
                return true;
            };
            let (Some(beats), away) = (beats, now.since(left_at)) else { return true };
            if beats.contains_key(kind::name(name)) {
                if away >= NOTED {
                    kept.left_at = Some(now);
                    plan.changed.push(Arc::clone(name));
                }
                return true;
            }
            if away >= FORGOTTEN {
                plan.forgotten.push(Arc::clone(name));
            }
            away < FORGOTTEN
        });
    }
}
