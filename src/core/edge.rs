//! An edge: the one thing that is worth saying about a signal, as plain data.
//!
//! Edges are made by [`watch`](super::watch), remembered by the store together with the state
//! that caused them (one commit), and turned into text by [`message`](super::message).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::about::{About, Details};
use super::signal::{Severity, SignalKey};
use super::time::Wall;

/// Names one incident from its first alert to its recovery: four to six letters or digits,
/// written with a leading `#`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incident(pub String);

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What kind of news an edge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeKind {
    #[default]
    /// A signal began to fire, or an event happened.
    Alert,
    /// It still fires after a cooldown, or it is worse (flapping).
    Realert,
    /// It is over.
    Recovery,
    /// Nobody could see it for long.
    Unknown,
    /// After [`EdgeKind::Unknown`]: it can be seen again.
    Seen,
    /// It is no longer watched: its subject was removed, or it is no longer configured. Ends what was
    /// open about it without a word on whether it is well.
    Removed,
    /// What is done about it, or why nothing is.
    Repair,
}

impl EdgeKind {
    /// The word used in JSON, metrics and history.
    pub fn as_str(self) -> &'static str {
        match self {
            EdgeKind::Alert => "alert",
            EdgeKind::Realert => "realert",
            EdgeKind::Recovery => "recovery",
            EdgeKind::Unknown => "unknown",
            EdgeKind::Seen => "seen",
            EdgeKind::Removed => "removed",
            EdgeKind::Repair => "repair",
        }
    }

    /// True for the kinds that begin an incident or say that it lasts.
    pub fn opens(self) -> bool {
        matches!(self, EdgeKind::Alert | EdgeKind::Realert | EdgeKind::Unknown)
    }

    /// True for the kinds that end an incident.
    pub fn closes(self) -> bool {
        matches!(self, EdgeKind::Recovery | EdgeKind::Seen | EdgeKind::Removed)
    }
}

/// How a signal stood when somebody could last tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// It was OK.
    pub is_ok: bool,
    /// When, by the wall clock.
    pub at: Wall,
}

/// One thing to say about one signal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Edge {
    /// What kind of news this is.
    pub kind: EdgeKind,
    /// The signal it is about.
    pub key: SignalKey,
    /// The signal's title, for people.
    pub title: String,
    /// How much it matters.
    pub severity: Severity,
    /// The fact that was seen.
    pub fact: String,
    /// When the condition began, by the wall clock.
    pub since: Wall,
    /// When this edge was decided, by the wall clock.
    pub at: Wall,
    /// When it was noticed, where that was materially later than `since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed: Option<Wall>,
    /// How long the condition has lasted, by the monotonic clock.
    pub lasted: Duration,
    /// The incident it belongs to, the same in alert, realert and recovery.
    pub incident: Incident,
    /// Why this is said now, for people and `why`.
    pub reason: String,
    /// What a person calls the subject and what the user wrote about it.
    #[serde(default)]
    pub about: Arc<About>,
    /// What happened in a few words, further evidence, and what to do next.
    #[serde(default)]
    pub details: Details,
    /// Which reminder this is, from 1; 0 when it is none.
    #[serde(default)]
    pub reminder: u32,
    /// The fact that was told before this one, empty where there was none.
    #[serde(default)]
    pub was: String,
    /// Of what cannot be checked: how it stood when it last could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
}
