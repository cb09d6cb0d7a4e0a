//! What kinds of targets have in common and what not: what one is called, whom it shares its bounds with, and which
//! facts of its own the gate asks for.
//!
//! Plain data. A kind's settings, and where it is listed, are not the core's (`kind::KINDS`).

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
    /// Whom it shares its bounds with.
    pub share: Share,
    /// It is a whole machine: an agent never takes down the one that it runs on (F79), something else must be
    /// reachable, and in a fleet of one or two there must be evidence. A process that runs alone needs none of these.
    pub is_machine: bool,
}

/// A machine that shows by its heartbeat in Consul that it lives.
pub const NODE: Kind = Kind { word: "node", thing: "machine", share: Share::Machines, is_machine: true };

impl Kind {
    /// The key of a target of this kind.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.word)
    }
}
