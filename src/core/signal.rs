//! The words of the core: what a source reports and how a signal is described.
//!
//! A source turns what it saw into [`Observation`]s: a [`Reading`] (a raw fact) together with the
//! [`Spec`] of the signal it speaks of (key, title, severity, rule). The rule, not the source,
//! decides whether the condition holds. Unknown is a third state (`adr/0004-unknown-is-a-third-state.md`).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::about::{About, Details};
use super::recovery::heartbeat::Heartbeats;
use super::rule::Rule;
use super::time::{Mono, Wall};

/// The name of a signal, as people and other programs see it: `container/web`, `probe/db`.
///
/// Cheap to clone; two keys cloned from one another compare without reading their text.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignalKey(Arc<str>);

impl SignalKey {
    /// A key from its full text.
    pub fn new(text: &str) -> Self {
        SignalKey(Arc::from(text))
    }

    /// The full text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for SignalKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for SignalKey {}

impl PartialOrd for SignalKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SignalKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl fmt::Display for SignalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much a firing signal matters. Ordered from the most to the least severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should get up.
    #[default]
    Critical,
    /// Somebody should look in the morning.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// The word used in messages, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is always true of one signal, decided by its source when it is set up.
///
/// Keep one `Arc<Spec>` per signal and hand out clones: the core recognises it without
/// comparing text.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The signal's key, unique within the whole program.
    pub key: SignalKey,
    /// A few words for people: `container web`, `memory in use`.
    pub title: Arc<str>,
    /// How much it matters when it fires.
    pub severity: Severity,
    /// When an observation of it means trouble.
    pub rule: Rule,
    /// A signal that explains this one's blindness (`app/down` for the application's rules):
    /// while the parent fires, this one being unknown is not told a second time.
    pub parent: Option<SignalKey>,
    /// What a person calls it and what the user wrote about it.
    pub about: Option<Arc<About>>,
    /// What is bad about it was meant: somebody did it by a command. It is told once, also to whoever was told of
    /// worse before, never repeated, and does not count as flapping. A source hands out such a spec beside the usual
    /// one of the same key, with a severity of its own.
    pub meant: bool,
}

impl Spec {
    /// A signal that stands by itself, with nothing more to say about it than its title.
    pub fn new(key: SignalKey, title: impl Into<Arc<str>>, severity: Severity, rule: Rule) -> Spec {
        Spec { key, title: title.into(), severity, rule, parent: None, about: None, meant: false }
    }

    /// The same with a signal that explains its blindness.
    #[must_use]
    pub fn under(self, parent: SignalKey) -> Spec {
        Spec { parent: Some(parent), ..self }
    }

    /// The same with what a person should know about it.
    #[must_use]
    pub fn about(self, about: About) -> Spec {
        Spec { about: Some(Arc::new(about)), ..self }
    }
}

/// What was seen, before any rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// Looked, and it is well.
    Up,
    /// Looked, and it is not well.
    Down,
    /// Could not look, or could not tell. Never well, never a reason to act.
    Unknown,
    /// A number, to be judged by the rule. Not-a-number counts as [`Reading::Unknown`].
    Value(f64),
    /// Looked, and the thing is not there.
    Absent,
    /// Looked, and there is nothing to judge now (a quantile of no requests): how it stands stays.
    Idle,
    /// Something happened this many times since the last look. Zero is quiet.
    Happened(u32),
}

/// One look at one signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The signal looked at.
    pub spec: Arc<Spec>,
    /// When the look was finished. An observation whose `seen_at` is not later than the one
    /// before counts as no new look.
    pub seen_at: Mono,
    /// The raw fact.
    pub reading: Reading,
    /// The fact in words for people, at most a few hundred characters: `exit code 137, out of memory`.
    pub fact: Cow<'static, str>,
    /// What else a person should be told when this is news; `None` while there is nothing.
    pub details: Option<Arc<Details>>,
    /// What only some sources know; boxed, because most observations have nothing here.
    pub more: Option<Box<More>>,
}

impl Observation {
    /// One look with nothing more to say than its fact.
    pub fn new(spec: &Arc<Spec>, seen_at: Mono, reading: Reading, fact: impl Into<Cow<'static, str>>) -> Observation {
        Observation { spec: Arc::clone(spec), seen_at, reading, fact: fact.into(), details: None, more: None }
    }

    /// The same with what a person should be told besides.
    #[must_use]
    pub fn with(self, details: Details) -> Observation {
        Observation { details: Some(Arc::new(details)), ..self }
    }

    /// The same of what happened at this instant, where its source knows.
    #[must_use]
    pub fn since(self, happened_at: Option<Wall>) -> Observation {
        let more = self.more.as_deref().cloned().unwrap_or_default();
        if happened_at.is_none() { self } else { self.knowing(More { happened_at, ..more }) }
    }

    /// The same with these details, where there are any.
    #[must_use]
    pub fn with_some(self, details: Option<Details>) -> Observation {
        match details {
            Some(details) => self.with(details),
            None => self,
        }
    }

    /// The same with what its source knows besides.
    #[must_use]
    pub fn knowing(self, more: More) -> Observation {
        Observation { more: Some(Box::new(more)), ..self }
    }
}

/// What only some sources know about what they saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct More {
    /// When what was seen happened, by the wall clock of the place where it happened. The core takes it only
    /// when it is past and not before 2020.
    pub happened_at: Option<Wall>,
    /// What this verdict rests on besides the look itself, as text of the source's own (JSON). It is kept with
    /// the signal and handed back when the source is built again; `None` leaves what was kept. At most
    /// [`KEEP_LIMIT`] bytes: a longer text is not kept.
    pub keep: Option<String>,
    /// Its subject is not there any more, and only the source's memory speaks of it: when a person says that it is
    /// gone for good, the source can drop it. Never set for what the configuration names. Begins no signal.
    pub gone: bool,
}

/// Bytes of [`More::keep`] at most.
pub const KEEP_LIMIT: usize = 4_096;

/// Subjects that are gone because somebody removed them, to be told together in one line: the containers
/// of one compose project. Neither a recovery nor trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// What they have in common, for when there are several of them: `project/shop`.
    pub key: SignalKey,
    /// The same for people: `containers of project shop`.
    pub title: Arc<str>,
    /// The signals, which are forgotten. Those with an open incident are told by closing that instead.
    pub signals: Vec<SignalKey>,
}

/// Everything one source saw in one look.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// One observation per signal; sorted by key is fastest, any order is right.
    pub observations: Vec<Observation>,
    /// True when `observations` covers every signal this source has now, each seen since the
    /// instant it was asked for. Signals that a complete report leaves out are gone (a removed
    /// rule, an agent that ended). Never set it on an empty or partial answer that may be an error.
    pub complete: bool,
    /// Why part of the picture is missing although the source answered (a stale envelope,
    /// inspect calls that hang). Raises `source/<name>`.
    pub blind: Option<String>,
    /// Since when that part is missing, where it began before this look: the instant of a stale envelope.
    pub blind_since: Option<Wall>,
    /// What somebody removed since the look before.
    pub removals: Vec<Removal>,
    /// What it looks at and what it leaves out, in one sentence with live numbers; `None` where its settings say it
    /// all. The fact of `source/<name>` while nothing is missing.
    pub note: Option<String>,
    /// The heartbeats of nodes, from the source that reads them.
    pub beats: Option<Arc<Heartbeats>>,
}

/// The answer of one source in one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The source's name, as in `source/<name>`.
    pub source: Arc<str>,
    /// When it answered.
    pub at: Mono,
    /// What it saw, or why it could not look, in words.
    pub outcome: Result<Report, String>,
    /// What a person should be told while it cannot look, or part of the picture is missing.
    pub details: Option<Arc<Details>>,
}

/// How a signal stands, as people and other programs see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Seen and well.
    Ok,
    /// Seen bad, not yet for long enough.
    Pending,
    /// Alerted, not yet recovered.
    Firing,
    /// Not seen, or cannot be told.
    #[default]
    Unknown,
}

impl State {
    /// The word used in JSON, metrics and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Pending => "pending",
            State::Firing => "firing",
            State::Unknown => "unknown",
        }
    }
}
