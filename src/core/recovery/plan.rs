//! What the core of the repairs is told, what it asks for, and what it gives back: plain data.
//!
//! The core decides; the operator does one thing at a time as it is told and answers. Every order is
//! answered once. See `adr/0022-a-repair-is-a-saga.md`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::budget::Bounds;
use super::heartbeat::Heartbeats;
use super::journal::Record;
use super::kind::{self, Kind, NODE, Share};
use super::phrase::Phrase;
use super::procedure::{Guard, Procedure, Step};
use super::rows;
use super::subject::{Fence, Reply, Seen, Verb};
use super::target::{Phase, Times};
use crate::core::edge::{Edge, Incident};
use crate::core::signal::{SignalKey, State};
use crate::core::time::{Mono, Wall};

pub use super::phrase::Mode;
pub use super::target::Place;

/// What holds for all repairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The name of this agent; part of what it sends, so that two agents never send the same.
    pub instance: String,
    /// Are machines really touched?
    pub mode: Mode,
    /// No new repair begins.
    pub paused: bool,
    /// Within which bounds machines are repaired.
    pub machines: Bounds,
    /// Within which bounds everything else is repaired.
    pub others: BTreeMap<Share, Bounds>,
    /// Repairs of one node before it is given up; 0 never.
    pub max_attempts: u32,
    /// Time between two looks at a machine on its way.
    pub poll: Duration,
    /// Least time before the same is said again.
    pub cooldown: Duration,
    /// Signals of which at least one has to be well for us to be believed; none: another node's heartbeat.
    pub references: Vec<SignalKey>,
}

impl Policy {
    /// May one that was repaired so often be repaired once more?
    pub fn has_attempts(&self, attempts: u32) -> bool {
        self.max_attempts == 0 || attempts < self.max_attempts
    }

    /// Which attempt this is, for people.
    pub fn attempt(&self, attempts: u32) -> String {
        match self.max_attempts {
            0 => format!("attempt {attempts}"),
            most => format!("attempt {attempts} of {most}"),
        }
    }

    /// The bounds of a pool. One that has none of its own keeps to those of machines.
    pub fn bounds(&self, share: Share) -> &Bounds {
        self.others.get(&share).unwrap_or(&self.machines)
    }
}

/// What is done with a machine that somebody else switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenStopped {
    /// It is told.
    #[default]
    Tell,
    /// It is started.
    Start,
}

/// How illness shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Its heartbeat in Consul is gone.
    Heartbeat,
    /// This signal fires. Anything else but OK says nothing.
    Signal(SignalKey),
}

/// How one node is repaired.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// How illness shows.
    pub cause: Cause,
    /// What it is.
    pub kind: &'static Kind,
    /// Its key: `node/n1`.
    pub key: Arc<str>,
    /// Its name, as people and Consul know it: `n1`.
    pub name: Arc<str>,
    /// What it shares with nodes that must not be down together.
    pub domain: Option<String>,
    /// Signals that have to be down, too.
    pub evidence: Vec<SignalKey>,
    /// The heartbeat alone is enough, also in a small fleet.
    pub heartbeat_only: bool,
    /// What is done when somebody else switched it off.
    pub when_stopped: WhenStopped,
    /// How to repair it: the first attempt by the first, the last for all that follow.
    pub ladder: Vec<Arc<Procedure>>,
    /// How to bring it up where somebody else switched it off; `None` where it cannot be.
    pub starts: Option<Arc<Procedure>>,
    /// Its times.
    pub times: Times,
    /// There is something that can repair it.
    pub repairable: bool,
    /// Which executor switches its machine, and by what name that knows it.
    pub machine: Option<(&'static str, Arc<str>)>,
}

impl Node {
    /// True for one that shows by its heartbeat whether it lives.
    pub fn has_heartbeat(&self) -> bool {
        self.cause == Cause::Heartbeat
    }

    /// True when only this machine's own doing can repair it: nobody else has to agree.
    pub fn is_local(&self) -> bool {
        !self.ladder.is_empty() && self.ladder.iter().all(|way| way.guard == Guard::Local)
    }

    /// Stands in for a node with a repair under way that is no longer configured.
    pub fn unconfigured(key: Arc<str>) -> Node {
        let hour = Duration::from_hours(1);
        Node {
            cause: Cause::Heartbeat,
            kind: &NODE,
            name: Arc::from(kind::name(&key)),
            key,
            domain: None,
            evidence: Vec::new(),
            heartbeat_only: false,
            when_stopped: WhenStopped::Tell,
            ladder: Vec::new(),
            starts: None,
            times: Times { after: hour, boot_grace: hour, attempts_reset_after: hour },
            repairable: false,
            machine: None,
        }
    }
}

/// How a signal stands, as far as a repair asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Looked {
    /// Its state.
    pub state: State,
    /// It fires, and its last look was bad.
    pub is_bad: bool,
    /// When it was looked at last; `None` when never.
    pub seen_at: Option<Mono>,
    /// Its open incident.
    pub incident: Option<Incident>,
}

/// What an agent writes down in Consul before it takes a machine down, so that another can go on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Note {
    /// The target's key; in Consul that of a node is its name.
    #[serde(with = "kind::bare")]
    pub target: String,
    /// The repair.
    pub saga: String,
    /// The agent.
    pub agent: String,
    /// What it is about to ask.
    pub verb: Verb,
    /// With what.
    pub fence: Fence,
    /// The way that the repair goes; earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "rows::known")]
    pub procedure: Option<Procedure>,
}

/// What one pass is told.
pub struct Input<'a> {
    /// The heartbeats, where they can be seen.
    pub beats: Option<&'a Heartbeats>,
    /// When the last warm-up began.
    pub fresh_since: Mono,
    /// How a signal stands; `None` when there is none of that name.
    pub look: &'a dyn Fn(&SignalKey) -> Option<Looked>,
    /// Somebody silenced this signal, or planned work covers it: its subject is not touched.
    pub silenced: &'a dyn Fn(&SignalKey) -> bool,
    /// We hold the lease.
    pub holds_lease: bool,
    /// Repairs that agents wrote down and did not finish, as far as they were read; none without the lease.
    pub notes: &'a [Note],
    /// What is committed is on a disk that works.
    pub is_durable: bool,
    /// What the operator brought back.
    pub answers: Vec<Answer>,
}

/// One thing for the operator to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Names the order in its answer.
    pub id: u64,
    /// The target, by its key.
    pub target: Arc<str>,
    /// What to do.
    pub task: Task,
}

/// What an operator can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Read all heartbeats consistently and look at the machine.
    Confirm,
    /// Look at the machine.
    Look,
    /// Ask the provider for this.
    Ask {
        /// What, as a step of this procedure.
        step: Step,
        /// The way that the repair goes.
        procedure: Arc<Procedure>,
        /// With what.
        fence: Fence,
        /// For which repair.
        saga: String,
    },
    /// The repair is over: what was written down for other agents can go.
    Forget {
        /// Which repair.
        saga: String,
    },
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Which order.
    pub id: u64,
    /// The target, by its key.
    pub target: Arc<str>,
    /// What came of it.
    pub result: Outcome,
}

/// What came of an order, by its task.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Of [`Task::Confirm`].
    Confirmed {
        /// The heartbeats, or why they cannot be read.
        beats: Result<Heartbeats, String>,
        /// The machine, or why it cannot be looked at.
        seen: Result<Seen, String>,
    },
    /// Of [`Task::Look`].
    Seen(Result<Seen, String>),
    /// Of [`Task::Ask`]: what came of it, and in words.
    Replied(Reply, String),
}

/// What follows from one pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Lines for the journal, to be on the disk before any order leaves.
    pub records: Vec<Record>,
    /// Targets whose kept form changed, by key.
    pub changed: Vec<Arc<str>>,
    /// Targets of which nothing need be kept any more, by key.
    pub forgotten: Vec<Arc<str>>,
    /// The budget changed.
    pub spent: bool,
    /// What is to be said.
    pub edges: Vec<Edge>,
    /// What is only written into the audit log.
    pub lines: Vec<Line>,
    /// What the operator shall do, once all of the above is on the disk.
    pub orders: Vec<Order>,
    /// Evidence has to be looked at again, now.
    pub hurry: bool,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What happened, one word.
    pub kind: &'static str,
    /// The target, by its key.
    pub target: Arc<str>,
    /// In words.
    pub text: Phrase,
}

/// One target, for people and programs.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its key.
    pub key: Arc<str>,
    /// Where it stands.
    pub phase: Phase,
    /// Since when; `None` when nobody has looked yet.
    pub since: Option<Wall>,
    /// Repairs begun.
    pub attempts: u32,
    /// Why nothing is done.
    pub blocked: Vec<super::gate::Blocked>,
    /// In words: what is going on and what would have to change.
    pub reason: Phrase,
    /// What is said of its repair is only simulated.
    pub simulated: bool,
    /// How long it has been ill.
    pub unhealthy: Duration,
}

/// What was counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests by target, action and mode.
    pub actions: std::collections::BTreeMap<(Arc<str>, Verb, &'static str), u64>,
    /// Requests that were not taken, by target and action.
    pub failures: std::collections::BTreeMap<(Arc<str>, Verb), u64>,
    /// How often each reason came up.
    pub blocked: std::collections::BTreeMap<super::gate::Blocked, u64>,
}
