//! Durable memory: signal states, the outbox, receipts, the journal of repairs, history.
//!
//! One `SQLite` database, in a file or in memory, behind one type and the same code. What changed
//! and what is to be said about it are one commit (`adr/0006-transactional-outbox.md`); a row of
//! the outbox goes away only when its channel acknowledged it. A file that cannot be used is put
//! aside or left alone, said, and worked without (`adr/0010-state-in-sqlite.md`); nothing here
//! ends the program. Reads no clock: [`Now`] is an argument. Never decides what is said or sent.
//!
//! Read in this order: `schema` (what is kept), `outbox`, `journal` and `history` (how), `opening` and
//! `quarantine` (from a path to a database), `engine` and `fallback` (when the disk fails).

mod disk;
mod engine;
mod error;
mod fallback;
mod history;
mod journal;
mod lock;
mod merge;
mod opening;
mod outbox;
mod quarantine;
mod receipts;
mod schema;
mod signals;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::edge::{Edge, Incident};
use crate::core::message::Receipt;
use crate::core::recovery::journal::Record;
use crate::core::signal::{Severity, SignalKey};
use crate::core::time::{Mono, Now, Wall};

pub use self::error::StoreError;
pub use self::journal::Repairs;

use self::engine::Engine;
use self::opening::beside;

/// The memory of one watchdog. Cheap to clone; clones share one database.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Mutex<Engine>>,
    /// Apart from the engine, so that a view never waits for a commit that waits for a disk.
    condition: Arc<Mutex<Condition>>,
}

/// A store that has been opened, and what there is to say about it.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What happened on the way, in words for people: put aside, degraded, down for 7m 12s.
    pub notes: Vec<String>,
    /// What the run before this one left; `None` at the first start.
    pub before: Option<Before>,
    /// What is remembered of repairs. There even without `before`: a damaged file is begun afresh, but what
    /// its journal tells is owed all the same (F81).
    pub repairs: Repairs,
}

/// What the previous run left.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    /// Its last commit by the wall clock.
    pub last_at: Wall,
    /// Its last commit by its monotonic clock; comparable with ours only if `same_boot`.
    pub last_mono: Mono,
    /// The boot it ran in, as the kernel names it; empty where that could not be read.
    pub boot_id: String,
    /// True when the machine has not booted since.
    pub same_boot: bool,
    /// The signal states it remembered, by key.
    pub signals: Vec<SignalRow>,
}

/// Where the store keeps what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// In the state file: what is committed survives.
    File,
    /// In memory, as configured: a restart begins anew.
    Memory,
    /// In memory although a state file is configured. No action may be started (no journal, no step).
    Degraded {
        /// Why the file is not used, and what to do about it.
        why: String,
        /// Since when.
        since: Wall,
    },
}

/// The remembered state of one signal. The body is the core's, opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalRow {
    /// The signal.
    pub key: SignalKey,
    /// Its state as JSON.
    pub body: String,
}

/// Everything one pass wants remembered, all or nothing.
#[derive(Clone, Copy)]
pub struct Commit<'a> {
    /// States that changed, by key.
    pub signals: &'a dyn Rows,
    /// Signals that are gone.
    pub removed: &'a [SignalKey],
    /// What is to be said: one outbox row per edge and channel, one history row per edge.
    pub edges: &'a [Edge],
    /// The channels that are to say it; none still writes history.
    pub channels: &'a [String],
    /// What happened to repairs, and what is about to be asked.
    pub records: &'a [Record],
    /// What is to be kept of targets, by name, as JSON. A name is never empty.
    pub targets: &'a dyn Rows,
    /// Targets of which nothing is kept any more.
    pub forgotten: &'a [Arc<str>],
    /// What was spent, as JSON, if that changed.
    pub budget: Option<&'a str>,
    /// Lines for the audit log beyond those of the edges.
    pub lines: &'a [HistoryEntry],
}

/// Named bodies to be remembered, made one by one as they are written: those of ten thousand at once would be
/// larger than all that is kept of them.
pub trait Rows {
    /// True when there are none.
    fn is_empty(&self) -> bool;

    /// Hands over each name with its body.
    fn each(&self, put: &mut dyn FnMut(&str, &str));
}

impl<const N: usize> Rows for [SignalRow; N] {
    fn is_empty(&self) -> bool {
        N == 0
    }

    fn each(&self, put: &mut dyn FnMut(&str, &str)) {
        self.iter().for_each(|row| put(row.key.as_str(), &row.body));
    }
}

impl Rows for Vec<SignalRow> {
    fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    fn each(&self, put: &mut dyn FnMut(&str, &str)) {
        self.iter().for_each(|row| put(row.key.as_str(), &row.body));
    }
}

impl<const N: usize> Rows for [(Arc<str>, String); N] {
    fn is_empty(&self) -> bool {
        N == 0
    }

    fn each(&self, put: &mut dyn FnMut(&str, &str)) {
        self.iter().for_each(|(name, body)| put(name, body));
    }
}

impl Default for Commit<'_> {
    fn default() -> Self {
        let nothing: &[SignalRow; 0] = &[];
        Commit {
            signals: nothing,
            removed: &[],
            edges: &[],
            channels: &[],
            records: &[],
            targets: nothing,
            forgotten: &[],
            budget: None,
            lines: &[],
        }
    }
}

impl Commit<'_> {
    fn is_empty(&self) -> bool {
        let says = !self.edges.is_empty() || !self.lines.is_empty();
        let targets = !self.targets.is_empty() || !self.forgotten.is_empty();
        let repairs = !self.records.is_empty() || targets || self.budget.is_some();
        self.signals.is_empty() && self.removed.is_empty() && !says && !repairs
    }
}

/// An edge that a channel has not acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Names the row for [`Store::acknowledge`]; never used twice.
    pub id: i64,
    /// The commit it came from: edges decided together share it.
    pub tick: i64,
    /// When it was committed, by this boot's monotonic clock.
    pub since: Mono,
    /// What is to be said.
    pub edge: Edge,
}

/// How much a channel has not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Rows.
    pub pending: u64,
    /// When the oldest was committed, by the wall clock.
    pub oldest_at: Option<Wall>,
    /// When the oldest was committed, by this boot's monotonic clock (carried over a reboot by the wall clock).
    pub oldest_mono: Option<Mono>,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When it happened.
    pub at: Wall,
    /// What happened: alert realert recovery unknown seen delivered failed started stopped …
    pub kind: String,
    /// A signal key, or a channel.
    pub subject: String,
    /// The incident, if it belongs to one.
    pub incident: Option<Incident>,
    /// How much it matters, if it has a severity.
    pub severity: Option<Severity>,
    /// The rest, in words; longer than 2,000 characters is cut.
    pub text: String,
}

/// Which lines of the audit log are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only this subject.
    pub subject: Option<String>,
    /// Only of this incident.
    pub incident: Option<Incident>,
    /// Only at or after this instant.
    pub since: Option<Wall>,
    /// At most this many (and never more than 10,000), the newest.
    pub limit: usize,
}

impl Store {
    /// Opens the store in `path`, or in memory without one.
    ///
    /// A bad file is not an error: one that is not a state file, is damaged, or was written by a newer
    /// version is renamed beside itself and a fresh one is started; one that cannot be read or
    /// written is worked without ([`Condition::Degraded`]). `boot_id` is the kernel's name for
    /// this boot, empty if unknown.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another live process uses the file.
    pub fn open(path: Option<&Path>, now: Now, boot_id: &str) -> Result<Opened, StoreError> {
        let (mut engine, notes, before) = opening::open(path, now, boot_id)?;
        let repairs = engine.repairs()?;
        Ok(Opened { store: Store::of(engine), notes, before, repairs })
    }

    /// A read-only view of a state file, which a daemon may be using.
    ///
    /// # Errors
    /// When there is no such file, or it is not a state file of this version.
    pub fn read(path: &Path) -> Result<Store, StoreError> {
        opening::view(path).map(Store::of)
    }

    fn of(engine: Engine) -> Store {
        let condition = Arc::new(Mutex::new(engine.condition()));
        Store { engine: Arc::new(Mutex::new(engine)), condition }
    }

    /// Remembers all of `commit`, or nothing of it; returns when it is on the disk.
    ///
    /// When the disk fails, everything known goes on in memory (see [`Store::condition`]) and the
    /// call succeeds. An empty commit marks that the loop is alive, on the disk at most every 10 s.
    ///
    /// An intent among the records may be acted on only if [`Store::condition`] is [`Condition::File`]
    /// after the call: it was fsynced then (B5), while in memory it would end with the process.
    ///
    /// # Errors
    /// When even memory refuses, or the store is a read-only view.
    pub fn commit(&self, now: Now, commit: &Commit<'_>) -> Result<(), StoreError> {
        self.change(|engine| engine.commit(now, commit))
    }

    /// What `channel` has not acknowledged, oldest first, at most `limit` (and never more than 1,000).
    pub fn pending(&self, channel: &str, limit: usize) -> Result<Vec<Pending>, StoreError> {
        self.change(|engine| {
            let rows = engine.read(&|db| outbox::pending(db, channel, limit))?;
            engine.handed_out(channel, &rows);
            Ok(rows)
        })
    }

    /// How much `channel` has not acknowledged.
    pub fn backlog(&self, channel: &str) -> Result<Backlog, StoreError> {
        self.change(|engine| engine.read(&|db| outbox::backlog(db, channel)))
    }

    /// The channel has acknowledged a message: removes the rows `ids`, keeps the receipt as the one
    /// to answer to for each of `incidents` that has none on this channel, remembers what the
    /// channel asked for, and writes one line of history per edge.
    pub fn acknowledge(
        &self,
        now: Now,
        channel: &str,
        ids: &[i64],
        incidents: &[Incident],
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        self.change(|engine| {
            engine.write(Some(now), &|db, bounds| {
                let edges = outbox::remove(db, channel, ids)?;
                receipts::keep(db, now.wall, channel, incidents, &edges, receipt)?;
                let lines: Vec<_> = edges.iter().map(|edge| history::delivered(now.wall, channel, edge)).collect();
                history::append(db, now.wall, &lines, bounds)
            })
        })
    }

    /// The receipt of the first message that told `channel` about `incident`.
    pub fn reference(&self, channel: &str, incident: &Incident) -> Result<Option<String>, StoreError> {
        self.change(|engine| engine.read(&|db| receipts::reference(db, channel, incident)))
    }

    /// What `channel` asked to be remembered, by name.
    pub fn remembered(&self, channel: &str) -> Result<BTreeMap<String, String>, StoreError> {
        self.change(|engine| engine.read(&|db| receipts::remembered(db, channel)))
    }

    /// Remembers a value for `channel` under `name`; at most 100 names, the oldest make room.
    pub fn remember(&self, channel: &str, name: &str, value: &str) -> Result<(), StoreError> {
        self.change(|engine| engine.write(None, &|db, _| receipts::remember(db, channel, name, value)))
    }

    /// Writes one line of history: a failed delivery, a start, a stop.
    pub fn note(&self, now: Now, entry: &HistoryEntry) -> Result<(), StoreError> {
        self.change(|engine| {
            engine.write(Some(now), &|db, bounds| history::append(db, now.wall, std::slice::from_ref(entry), bounds))
        })
    }

    /// The lines of history that match, newest first.
    pub fn history(&self, filter: &Filter) -> Result<Vec<HistoryEntry>, StoreError> {
        self.change(|engine| engine.read(&|db| history::select(db, filter)))
    }

    /// The remembered states of all signals, by key.
    pub fn signals(&self) -> Result<Vec<SignalRow>, StoreError> {
        self.change(|engine| engine.read(&signals::all))
    }

    /// Everything remembered of repairs, as [`Opened::repairs`]; for commands without a daemon, too.
    pub fn repairs(&self) -> Result<Repairs, StoreError> {
        self.change(Engine::repairs)
    }

    /// The journal of one target, in the order in which it was written.
    pub fn journal(&self, target: &str) -> Result<Vec<Record>, StoreError> {
        self.change(|engine| engine.read(&|db| journal::about(db, target)))
    }

    /// The last commit, by both clocks; for a view the last one on the disk, at most 10 s older.
    pub fn last(&self) -> Option<(Wall, Mono)> {
        self.engine().last()
    }

    /// Where things are kept at the moment. Never waits for a disk.
    pub fn condition(&self) -> Condition {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what happened to the store since the last call, in words: degraded, returned, put aside.
    pub fn take_notes(&self) -> Vec<String> {
        self.engine().take_notes()
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, work: impl FnOnce(&mut Engine) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut engine = self.engine();
        let outcome = work(&mut engine);
        let condition = engine.condition();
        let mut shown = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != condition {
            *shown = condition;
        }
        outcome
    }
}
