//! What kinds of targets have in common and what not: what one is called, whom it shares its bounds with, and which
//! facts of its own the gate asks for.
//!
//! Keys have the kind before a slash everywhere in memory (`node/n1`). On disk and in Consul those of nodes are bare,
//! as they always were (`n1`); [`on_disk`] and [`from_disk`] are the only way between the two.
//!
//! Plain data. A kind's settings, and where it is listed, are not the core's (`kind::KINDS`).

use std::sync::Arc;

/// Who shares one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// Whole machines.
    Machines,
    /// What runs on this machine under somebody else's care: containers, units.
    Workloads,
    /// Processes that are ours to start.
    Processes,
}

impl Share {
    /// Every pool.
    pub const ALL: [Share; 3] = [Share::Machines, Share::Workloads, Share::Processes];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Share::Machines => "machines",
            Share::Workloads => "workloads",
            Share::Processes => "processes",
        }
    }
}

/// A kind of target.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The word before the slash in its keys, and for people: `node/n1` is "node n1".
    pub word: &'static str,
    /// What is switched, for people: "machine".
    pub thing: &'static str,
    /// How it shows that one is ill, for people: "heartbeat gone".
    pub shows: &'static str,
    /// Whom it shares its bounds with.
    pub share: Share,
    /// It is a whole machine: an agent never takes down the one that it runs on (F79), something else must be
    /// reachable, and in a fleet of one or two there must be evidence. A process that runs alone needs none of these.
    pub is_machine: bool,
}

/// A machine that shows by its heartbeat in Consul that it lives.
pub const NODE: Kind =
    Kind { word: "node", thing: "machine", shows: "heartbeat gone", share: Share::Machines, is_machine: true };

impl Kind {
    /// The key of a target of this kind.
    pub fn key(&self, name: &str) -> Arc<str> {
        Arc::from(format!("{}/{name}", self.word))
    }
}

/// The name of a target, without its kind: what stands after the first slash of its key.
pub fn name(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, name)| name)
}

/// A key as it is written to the disk and to Consul: of a node only its name.
pub fn on_disk(key: &str) -> &str {
    key.strip_prefix(NODE.word).and_then(|rest| rest.strip_prefix('/')).unwrap_or(key)
}

/// A key as it was written: without a slash it is the name of a node.
pub fn from_disk(written: String) -> String {
    if written.contains('/') { written } else { format!("{}/{written}", NODE.word) }
}

/// Keys in what others read: bare for nodes.
pub mod bare {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a key.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn serialize<S: Serializer>(key: &str, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(super::on_disk(key))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
        String::deserialize(input).map(super::from_disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_bare_on_disk_and_all_others_as_they_are() {
        for (key, written) in [("node/n1", "n1"), ("workload/web", "workload/web"), ("/machines", "/machines")] {
            assert_eq!(on_disk(key), written);
            assert_eq!(from_disk(written.to_string()), key);
        }
        // As earlier versions and other agents write it, and as nobody does.
        assert_eq!((on_disk("n1"), on_disk("nodes/n1"), name("node/n1"), name("n1")), ("n1", "nodes/n1", "n1", "n1"));
    }
}
