//! The picture that the tick publishes after every pass: plain data, in the words of the contract.
//!
//! Its JSON names are fixed (`/api/v1/status`). Whoever holds a [`Snapshot`] holds it alone: the
//! cell [`Published`] only swaps and clones an `Arc`, so neither side ever waits for the other.
//! Nothing in here is computed from a clock; ages are worked out when the picture is looked at,
//! from the instant it was made ([`Snapshot::at`]) and the monotonic clock.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::muted::{MuteView, Silenced};
use super::strip::Strip;
use super::wall;
use crate::core::about::{About, Details};
use crate::core::edge::Incident;
use crate::core::signal::{Severity, SignalKey, State};
use crate::core::time::{Now, Wall};
use crate::core::zone::Zone;

/// Entries of history that a snapshot carries at most, newest first.
pub const RECENT: usize = 1_000;

/// Everything that can be seen from outside, as of the end of one pass.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// The name in every alert.
    pub instance: String,
    /// The program's version.
    pub version: String,
    /// False: alive and idle by configuration.
    pub enabled: bool,
    /// `observe` or `active`.
    pub mode: String,
    /// When the process started.
    #[serde(with = "wall")]
    pub started_at: Wall,
    /// The grid of the loop in milliseconds.
    pub interval_ms: u64,
    /// How durable memory is doing.
    pub state_file: StateFile,
    /// The last pass.
    pub tick: Tick,
    /// Every signal, sorted by key, keys unique. Those that did not change are shared with the picture before.
    pub signals: Vec<Arc<SignalView>>,
    /// Everything that can be repaired, sorted by name; empty without recovery.
    pub targets: Vec<Arc<TargetView>>,
    /// Every way out, in the order of configuration, names unique.
    pub channels: Vec<ChannelView>,
    /// Everything that looks at the world, in the order of configuration, names unique.
    pub sources: Vec<SourceView>,
    /// Silences in force and windows that are open, soonest end first; then the next times of the other windows.
    pub silences: Vec<MuteView>,
    /// The time zone of whoever reads the page. Not in the JSON.
    #[serde(skip)]
    pub zone: Zone,
    /// The clocks when this picture was made; all ages count from here. Not in the JSON.
    #[serde(skip)]
    pub at: Now,
    /// The last entries of history, newest first, at most [`RECENT`]. In `/api/v1/history`.
    #[serde(skip)]
    pub recent: Arc<[HistoryView]>,
    /// What was counted since the start. In `/metrics`.
    #[serde(skip)]
    pub counters: Counters,
    /// What the first pass waits for, before it was written to the state file; nothing else in here is true then.
    #[serde(skip)]
    pub waits_for: Option<&'static str>,
}

/// One pass of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tick {
    /// Passes finished since the start; zero before the first.
    pub count: u64,
    /// When the last one finished; `None` before the first.
    #[serde(with = "wall::option")]
    pub last_at: Option<Wall>,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// How long after its place on the grid it began, in milliseconds.
    pub lateness_ms: f64,
    /// Time since it finished, in milliseconds. Filled when it is served; the tick leaves it zero.
    pub age_ms: u64,
}

/// One signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalView {
    /// Its key.
    pub key: SignalKey,
    /// How it stands.
    pub state: State,
    /// How much it matters when it fires.
    pub severity: Severity,
    /// A few words for people.
    pub title: Arc<str>,
    /// The fact that was seen last.
    pub detail: Cow<'static, str>,
    /// Since when it stands so; `None` when nobody knows.
    #[serde(with = "wall::option")]
    pub since: Option<Wall>,
    /// The incident it is part of, while it is alerting.
    #[serde(with = "incident")]
    pub incident: Option<Incident>,
    /// Why it stands so and why that was or was not said. Shared by those for whom it is the same.
    pub reason: Arc<str>,
    /// When it was last said.
    #[serde(with = "wall::option")]
    pub last_alert_at: Option<Wall>,
    /// What keeps news of it back; `None` when they are told.
    #[serde(default)]
    pub silenced: Option<Arc<Silenced>>,
    /// What a person calls it and what the user wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Arc<About>>,
    /// What the last look had to say besides its fact: evidence, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Arc<Details>>,
    /// Its last 24 hours, shared by those for whom they were the same. On the page only.
    #[serde(skip)]
    pub strip: Arc<Strip>,
}

impl SignalView {
    /// What a person calls it: its own name, else its title, else its key.
    pub fn name(&self) -> &str {
        let name = self.about.as_deref().map_or("", |about| &about.name);
        [name, &self.title, self.key.as_str()].into_iter().find(|name| !name.trim().is_empty()).unwrap_or_default()
    }
}

/// One thing that can be repaired.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TargetView {
    /// Its name.
    pub name: String,
    /// Where its repair stands: `healthy`, `suspect`, `recovering`, `waiting`, `exhausted`, `paused`.
    pub phase: Cow<'static, str>,
    /// Attempts in the present story.
    pub attempts: u32,
    /// Why nothing is done now, as words with hyphens.
    pub blocked: Vec<String>,
    /// Since when it is in this phase.
    #[serde(with = "wall::option")]
    pub since: Option<Wall>,
    /// What is going on, or why nothing is, and what would have to change.
    #[serde(default)]
    pub reason: Cow<'static, str>,
    /// What is said of its repair was only simulated: nothing was done.
    #[serde(default)]
    pub simulated: bool,
    /// How long it has been ill, in seconds; 0 while it is not. In `/metrics`.
    #[serde(skip)]
    pub unhealthy_s: u64,
}

/// One way out to a person.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// `ok`, or one word for what is wrong.
    pub state: String,
    /// Messages decided and not yet acknowledged.
    pub pending: u64,
    /// Age of the oldest of them in seconds, zero when there is none.
    pub oldest_pending_s: u64,
    /// What went wrong last, while it is not `ok`. No secrets.
    pub error: Option<String>,
}

/// One part that looks at the world.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// `ok`, or one word for what is wrong.
    pub state: String,
    /// When it last answered.
    #[serde(with = "wall::option")]
    pub last_ok_at: Option<Wall>,
    /// How long its last look took, in milliseconds.
    pub duration_ms: f64,
    /// Why it cannot look, while it is not `ok`. No secrets.
    pub error: Option<String>,
    /// What it looks at and what it leaves out, where that is not plain from the settings.
    #[serde(default)]
    pub note: Option<String>,
}

/// One entry of history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    /// When it happened.
    #[serde(with = "wall")]
    pub at: Wall,
    /// What happened, one word: `alert`, `realert`, `recovery`, `delivered` …
    pub kind: String,
    /// What it is about: a signal's key, a channel, a target.
    pub subject: String,
    /// The incident it is part of.
    #[serde(with = "incident")]
    pub incident: Option<Incident>,
    /// How much it matters, where that can be said.
    pub severity: Option<Severity>,
    /// What happened, in words.
    pub text: String,
}

/// What was counted since the process started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Decisions by action (`alert`, `hold` …).
    pub decisions: BTreeMap<String, u64>,
    /// Notifications by channel and result (`ok`, `failed` …).
    pub notifications: BTreeMap<(String, String), u64>,
    /// What repairs have counted; `None` without any.
    pub recovery: Option<Recovery>,
}

/// What repairs have counted since the process started, and how they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Requests by target, action and mode.
    pub actions: BTreeMap<(String, String, String), u64>,
    /// Requests that were not taken, by target and action.
    pub failures: BTreeMap<(String, String), u64>,
    /// How often each reason not to act came up.
    pub blocked: BTreeMap<String, u64>,
    /// Nodes by state.
    pub nodes: Vec<(String, u64)>,
    /// Consul can be read.
    pub consul_connected: bool,
    /// Oracle's API answered the last time it was asked; `None` before the first.
    pub oci_connected: Option<bool>,
    /// Spans by what became of them; empty where nobody wants any.
    pub spans: Vec<(String, u64)>,
}

/// How durable memory is doing; in JSON `memory`, `ok`, or the trouble in words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StateFile {
    /// No file is configured: what must survive a restart does not.
    #[default]
    Memory,
    /// The file takes what is written.
    Writable,
    /// It does not, and this is why.
    Failing(String),
}

impl fmt::Display for StateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateFile::Memory => "memory",
            StateFile::Writable => "ok",
            StateFile::Failing(why) => why,
        })
    }
}

impl From<String> for StateFile {
    fn from(text: String) -> StateFile {
        match text.as_str() {
            "memory" => StateFile::Memory,
            "ok" => StateFile::Writable,
            _ => StateFile::Failing(text),
        }
    }
}

impl From<StateFile> for String {
    fn from(condition: StateFile) -> String {
        condition.to_string()
    }
}

impl Snapshot {
    /// Time since this picture was made, by the monotonic clock.
    pub fn age(&self, now: Now) -> Duration {
        now.mono.since(self.at.mono)
    }

    /// Time since `then`, right even when the wall clock has been set since the picture was made.
    pub fn ago(&self, then: Wall, now: Now) -> Duration {
        self.at.wall.since(then).saturating_add(self.age(now))
    }

    /// What there is to show before the first pass: nothing but what is being waited for.
    pub fn before_first(waits_for: &'static str) -> Snapshot {
        Snapshot { waits_for: Some(waits_for), ..Snapshot::default() }
    }

    /// Why nothing can be shown yet, in words; `None` once a pass was made.
    pub fn not_started(&self) -> Option<String> {
        self.waits_for.map(|what| format!("starting, nothing can be told yet: {what}; try again in a moment"))
    }

    /// Why a caller should not rely on this watchdog now; `None` while it ticks on time and can
    /// write its state. A disabled one is idle on purpose.
    pub fn not_ready(&self, now: Now) -> Option<String> {
        if let Some(why) = self.not_started() {
            return Some(why);
        }
        if !self.enabled {
            return None;
        }
        if let StateFile::Failing(why) = &self.state_file {
            return Some(format!("the state file cannot be written: {why}"));
        }
        if self.tick.count == 0 {
            return Some("the first pass is not finished yet".to_string());
        }
        self.late(now).map(|age| {
            format!(
                "the last pass finished {} ago and the interval is {}",
                crate::core::time::people(age),
                crate::core::time::people(Duration::from_millis(self.interval_ms))
            )
        })
    }

    /// How long ago the last pass finished, when that is three intervals or more.
    pub fn late(&self, now: Now) -> Option<Duration> {
        let age = self.age(now);
        (self.enabled && age >= Duration::from_millis(self.interval_ms.saturating_mul(3))).then_some(age)
    }
}

/// Where the tick leaves its picture and the server finds it.
#[derive(Default)]
pub struct Published {
    latest: Mutex<Arc<Snapshot>>,
}

impl Published {
    /// A cell that shows `first` until something is published.
    pub fn new(first: Snapshot) -> Published {
        Published { latest: Mutex::new(Arc::new(first)) }
    }

    /// Replaces the picture. Takes as long as swapping a pointer.
    pub fn publish(&self, snapshot: Snapshot) {
        let fresh = Arc::new(snapshot);
        let old = std::mem::replace(&mut *self.latest.lock().unwrap_or_else(PoisonError::into_inner), fresh);
        // Freed outside of the lock: the last owner may have a lot to free.
        drop(old);
    }

    /// The latest picture.
    pub fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Incidents with their leading `#`, or null.
mod incident {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::core::edge::Incident;

    #[allow(clippy::ref_option, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(incident: &Option<Incident>, serializer: S) -> Result<S::Ok, S::Error> {
        match incident {
            Some(incident) => serializer.collect_str(incident),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Incident>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map(|t| Incident(t.strip_prefix('#').unwrap_or(&t).to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Mono;

    fn ticking() -> Snapshot {
        Snapshot {
            enabled: true,
            interval_ms: 15_000,
            tick: Tick { count: 1, ..Tick::default() },
            at: Now { wall: Wall(1_000_000), mono: Mono(500_000), awake: Mono(500_000) },
            ..Snapshot::default()
        }
    }

    fn at(mono: i64) -> Now {
        Now { wall: Wall(0), mono: Mono(mono), awake: Mono(mono) }
    }

    #[test]
    fn readiness_names_what_is_wrong() {
        type Row<'a> = (&'a dyn Fn(&mut Snapshot), i64, Option<&'a str>);
        let table: [Row<'_>; 7] = [
            (&|_| {}, 500_000, None),
            (&|_| {}, 544_999, None),
            (&|_| {}, 545_000, Some("45 s ago")),
            (&|s| s.enabled = false, 9_000_000, None),
            (&|s| s.tick.count = 0, 500_000, Some("first pass")),
            (&|s| s.state_file = StateFile::Failing("disk full".into()), 500_000, Some("disk full")),
            (&|s| s.state_file = StateFile::Writable, 500_000, None),
        ];
        for (number, (change, mono, expected)) in table.into_iter().enumerate() {
            let mut snapshot = ticking();
            change(&mut snapshot);
            let answer = snapshot.not_ready(at(mono));
            match expected {
                None => assert_eq!(answer, None, "row {number}"),
                Some(words) => assert!(answer.clone().unwrap().contains(words), "row {number}: {answer:?}"),
            }
        }
    }

    #[test]
    fn ages_do_not_believe_a_wall_clock_that_was_set() {
        let snapshot = ticking();
        let later = Now { wall: Wall(-7), mono: Mono(510_000), awake: Mono(510_000) };
        assert_eq!(snapshot.ago(Wall(940_000), later), Duration::from_secs(70));
        assert_eq!(snapshot.ago(Wall(i64::MAX), later), Duration::from_secs(10));
        assert_eq!(snapshot.ago(Wall(i64::MIN), at(i64::MIN)), Duration::from_millis(i64::MAX as u64));
    }

    #[test]
    fn publishing_swaps_and_readers_keep_what_they_took() {
        let cell = Published::new(ticking());
        let taken = cell.latest();
        cell.publish(Snapshot { instance: "next".into(), ..ticking() });
        assert_eq!(taken.instance, "");
        assert_eq!(cell.latest().instance, "next");
        assert_eq!(Arc::strong_count(&taken), 1, "the cell keeps nothing old");
    }
}
