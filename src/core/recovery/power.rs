//! The words for machines that can be switched off and on: what state one is in, what may be asked
//! of it, and what came of asking.
//!
//! They are those of Oracle's compute API, which has the most states of the providers we know; an
//! executor for another provider maps onto them. Nothing here decides anything
//! (`adr/0022-a-repair-is-a-saga.md`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a machine, as its provider says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// It is on.
    Running,
    /// It is being switched off.
    Stopping,
    /// It is off.
    Stopped,
    /// It is being switched on.
    Starting,
    /// The provider moves it to other hardware.
    Moving,
    /// It is being made.
    Provisioning,
    /// An image is being taken of it.
    CreatingImage,
    /// It is being destroyed.
    Terminating,
    /// It is no more.
    Terminated,
    /// A state that we do not know.
    Other,
}

impl Lifecycle {
    /// Every state, for tables.
    pub const ALL: [Lifecycle; 10] = [
        Lifecycle::Running,
        Lifecycle::Stopping,
        Lifecycle::Stopped,
        Lifecycle::Starting,
        Lifecycle::Moving,
        Lifecycle::Provisioning,
        Lifecycle::CreatingImage,
        Lifecycle::Terminating,
        Lifecycle::Terminated,
        Lifecycle::Other,
    ];

    /// The state by the provider's word, in any case; unknown words are [`Lifecycle::Other`].
    pub fn parse(word: &str) -> Lifecycle {
        let found = Lifecycle::ALL.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(word));
        found.unwrap_or(Lifecycle::Other)
    }

    /// The provider's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Lifecycle::Running => "RUNNING",
            Lifecycle::Stopping => "STOPPING",
            Lifecycle::Stopped => "STOPPED",
            Lifecycle::Starting => "STARTING",
            Lifecycle::Moving => "MOVING",
            Lifecycle::Provisioning => "PROVISIONING",
            Lifecycle::CreatingImage => "CREATING_IMAGE",
            Lifecycle::Terminating => "TERMINATING",
            Lifecycle::Terminated => "TERMINATED",
            Lifecycle::Other => "OTHER",
        }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can be asked of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Power off at once.
    Stop,
    /// Power on.
    Start,
    /// Power off and on at once.
    Reset,
    /// Let the system shut down, then power off and on.
    SoftReset,
}

impl Verb {
    /// Every verb, for tables.
    pub const ALL: [Verb; 4] = [Verb::Stop, Verb::Start, Verb::Reset, Verb::SoftReset];

    /// The provider's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Stop => "STOP",
            Verb::Start => "START",
            Verb::Reset => "RESET",
            Verb::SoftReset => "SOFTRESET",
        }
    }

    /// True for what takes a machine down; all but START.
    pub fn takes_down(self) -> bool {
        self != Verb::Start
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One rung of a node's ladder: one way to repair a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Off, and on again when it is off: also moves it to other hardware.
    StopStart,
    /// Off and on at once.
    Reset,
    /// A shutdown by the system itself, then off and on.
    #[serde(rename = "softreset")]
    SoftReset,
    /// On, for a machine that somebody else switched off (`when_stopped = "start"`).
    Start,
}

impl Rung {
    /// What a ladder may be made of, as written in the configuration.
    pub const LADDER: [Rung; 3] = [Rung::StopStart, Rung::Reset, Rung::SoftReset];

    /// The word in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Rung::StopStart => "stop_start",
            Rung::Reset => "reset",
            Rung::SoftReset => "softreset",
            Rung::Start => "start",
        }
    }

    /// The first thing that it asks for.
    pub fn first(self) -> Verb {
        match self {
            Rung::StopStart => Verb::Stop,
            Rung::Reset => Verb::Reset,
            Rung::SoftReset => Verb::SoftReset,
            Rung::Start => Verb::Start,
        }
    }
}

/// What came of asking, as far as it matters for what may be asked next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The provider took it.
    Accepted,
    /// It may or may not have been taken: no answer, a broken one, or a server error.
    Unknown,
    /// It never left: no connection, or it was held back at the last moment.
    NotSent,
    /// Not taken now: too many requests, the wrong state, a lock.
    Busy,
    /// Not taken: somebody else changes the machine.
    Conflict,
    /// Not taken: the machine is not in the version that this was decided on.
    Changed,
    /// Not taken, and asking again soon is no use: rights, a wrong name, a wrong request.
    Refused,
    /// Not taken: the provider has no room for the machine.
    NoCapacity,
}

impl Reply {
    /// Every reply, for tables.
    pub const ALL: [Reply; 8] = [
        Reply::Accepted,
        Reply::Unknown,
        Reply::NotSent,
        Reply::Busy,
        Reply::Conflict,
        Reply::Changed,
        Reply::Refused,
        Reply::NoCapacity,
    ];
}

/// What makes a request count once and on one version of the machine only.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// The version of the machine that the request was decided on (`if-match`).
    pub etag: String,
    /// Names the request: sent twice, it counts once (`opc-retry-token`).
    pub token: String,
}

/// One look at a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// Its state.
    pub lifecycle: Lifecycle,
    /// Its version.
    pub etag: String,
}
