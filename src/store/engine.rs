//! One database and where it lies: runs every question and every change.
//!
//! A change is one transaction. One that the file refuses is done again in memory, with everything
//! the file knew (`fallback`), so that a caller never loses what it handed in. Never waits for
//! anything but this one disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::client::shortage;
use crate::core::time::{Mono, Now, Wall, people};

use super::fallback::Away;
use super::lock::{Lock, Refused};
use super::{Before, Commit, Condition, Pending, Repairs, StoreError, disk, history, journal, merge, outbox, signals};

/// An empty commit is written at most this often.
const MARK_EVERY: Duration = Duration::from_secs(10);
/// Notes kept until they are taken.
const NOTES: usize = 32;

/// Where the database lies.
pub enum Place {
    /// In memory, as configured.
    Memory,
    /// In somebody else's file, to be read.
    View,
    /// In the state file.
    File {
        /// The file.
        path: PathBuf,
        /// What tells that it is still the same file.
        identity: Option<(u64, u64)>,
    },
    /// In memory, because the state file fails.
    Away(Away),
}

/// One database and where it lies.
pub struct Engine {
    db: Connection,
    place: Place,
    lock: Option<Lock>,
    boot_id: String,
    /// The latest reading of the clocks that a caller handed in.
    now: Now,
    last: Option<(Wall, Mono)>,
    marked: Option<Mono>,
    /// Per channel the highest outbox id handed out: rows up to it may be on their way.
    handed: BTreeMap<String, i64>,
    /// Rows about repairs that were in a file once and are not here; 1 where it is not known how many.
    missing: usize,
    notes: Vec<String>,
    /// Notes that made room since notes were taken last.
    unsaid: usize,
}

impl Engine {
    /// Around an open database.
    pub fn new(db: Connection, place: Place, now: Now, boot_id: &str) -> Engine {
        let last = signals::mark(&db).ok().flatten().map(|mark| (mark.wall, mark.mono));
        Engine {
            db,
            place,
            lock: None,
            boot_id: boot_id.to_string(),
            now,
            last,
            marked: None,
            handed: BTreeMap::new(),
            missing: 0,
            notes: Vec::new(),
            unsaid: 0,
        }
    }

    /// Holds the file's lock for as long as the engine lives.
    pub fn hold(&mut self, lock: Lock) {
        self.lock = Some(lock);
    }

    /// Lets the lock file count from this database's commits again.
    pub fn forget_marks(&mut self) {
        let tick = signals::mark(&self.db).ok().flatten().map_or(0, |mark| mark.tick);
        if let Some(lock) = &mut self.lock {
            lock.mark(tick);
        }
    }

    /// What the previous run left here.
    pub fn before(&mut self) -> Result<Option<Before>, StoreError> {
        let boot_id = self.boot_id.clone();
        self.read(&|db| {
            let Some(mark) = signals::mark(db)? else { return Ok(None) };
            Ok(Some(Before {
                last_at: mark.wall,
                last_mono: mark.mono,
                same_boot: !boot_id.is_empty() && boot_id == mark.boot_id,
                boot_id: mark.boot_id,
                signals: signals::all(db)?,
            }))
        })
    }

    /// Rows about repairs were left behind.
    pub fn miss(&mut self, rows: usize) {
        self.missing = self.missing.saturating_add(rows);
    }

    /// What is remembered of repairs, and how much of it is missing.
    pub fn repairs(&mut self) -> Result<Repairs, StoreError> {
        let repairs = self.read(&journal::repairs)?;
        let unsound = repairs.unsound.saturating_add(self.missing);
        Ok(Repairs { unsound, ..repairs })
    }

    /// As people see it.
    pub fn condition(&self) -> Condition {
        match &self.place {
            Place::Memory => Condition::Memory,
            Place::View | Place::File { .. } => Condition::File,
            Place::Away(away) => Condition::Degraded { why: away.why.clone(), since: away.since },
        }
    }

    /// The last commit.
    pub fn last(&self) -> Option<(Wall, Mono)> {
        self.last
    }

    /// Keeps a note until it is taken; the oldest make room.
    pub fn say(&mut self, note: String) {
        if self.notes.len() >= NOTES {
            self.notes.remove(0);
            self.unsaid = self.unsaid.saturating_add(1);
        }
        self.notes.push(note);
    }

    /// Takes the notes.
    pub fn take_notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        match std::mem::take(&mut self.unsaid) {
            0 => {}
            left => notes.insert(0, format!("{left} earlier notes about the state file are left out")),
        }
        notes
    }

    /// These rows may be on their way from now on.
    pub fn handed_out(&mut self, channel: &str, rows: &[Pending]) {
        if let Some(row) = rows.last() {
            self.handed.insert(channel.to_string(), row.id);
        }
    }

    /// One pass: states, outbox, journal, targets, history and the mark, all or nothing.
    pub fn commit(&mut self, now: Now, commit: &Commit<'_>) -> Result<(), StoreError> {
        let empty = commit.is_empty();
        let marked_lately = self.marked.is_some_and(|at| now.mono >= at && now.mono.since(at) < MARK_EVERY);
        let due = matches!(&self.place, Place::Away(away) if away.due(now));
        if empty && marked_lately && !due && !matches!(self.place, Place::View) {
            self.now = now;
            self.last = Some((now.wall, now.mono));
            return Ok(());
        }
        let (boot_id, handed) = (self.boot_id.clone(), self.handed.clone());
        let tick = self.write(Some(now), &|db, bounds| {
            let tick = signals::advance(db, now, &boot_id)?;
            signals::change(db, commit.signals, commit.removed)?;
            if !commit.edges.is_empty() {
                outbox::put(db, now, tick, commit.edges, commit.channels)?;
                for channel in commit.channels {
                    merge::fold(db, channel, handed.get(channel).copied().unwrap_or(0))?;
                }
            }
            journal::put(db, commit.records)?;
            journal::keep(db, commit.targets, commit.budget)?;
            journal::forget(db, commit.forgotten)?;
            let lines: Vec<_> = commit.edges.iter().map(history::decided).chain(commit.lines.iter().cloned()).collect();
            history::append(db, now.wall, &lines, bounds)?;
            Ok(tick)
        })?;
        self.marked = Some(now.mono);
        self.last = Some((now.wall, now.mono));
        if let Some(lock) = &mut self.lock {
            lock.mark(tick.max(lock.tick()));
        }
        Ok(())
    }

    /// Asks the database.
    pub fn read<T>(&mut self, work: &dyn Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        match work(&self.db) {
            Ok(answer) => Ok(answer),
            Err(error) => match self.place {
                Place::View => Err(StoreError::View(error)),
                Place::Memory | Place::Away(_) => Err(StoreError::Memory(error)),
                Place::File { .. } => {
                    self.leave_file(&error.to_string(), disk::suspect(&error))?;
                    work(&self.db).map_err(StoreError::Memory)
                }
            },
        }
    }

    /// Changes the database, in one transaction. `work` gets the bound of the history and may be
    /// done twice, the first time in vain.
    pub fn write<T>(
        &mut self,
        now: Option<Now>,
        work: &dyn Fn(&Connection, i64) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.now = now.unwrap_or(self.now);
        match &self.place {
            Place::View => return Err(StoreError::ReadOnly),
            Place::Away(away) if now.is_some() && away.due(self.now) => self.return_to_file(),
            Place::File { path, identity } if disk::identity(path) != *identity => {
                // What is written to a file without a name is gone with the process.
                self.leave_file("it was moved, removed or replaced while it was in use", false)?;
                self.return_to_file();
            }
            _ => {}
        }
        let rows =
            if matches!(self.place, Place::File { .. }) { history::ROWS_ON_FILE } else { history::ROWS_IN_MEMORY };
        match transact(&mut self.db, |db| work(db, rows)) {
            Ok(done) => Ok(done),
            Err(error) if matches!(self.place, Place::File { .. }) => {
                self.leave_file(&error.to_string(), disk::suspect(&error))?;
                transact(&mut self.db, |db| work(db, history::ROWS_IN_MEMORY)).map_err(StoreError::Memory)
            }
            Err(error) => Err(StoreError::Memory(error)),
        }
    }

    fn leave_file(&mut self, why: &str, suspect: bool) -> Result<(), StoreError> {
        let Place::File { path, .. } = &self.place else { return Ok(()) };
        let lack = shortage::now(1).map(|lack| format!("{why}: {lack}"));
        let why = lack.as_deref().unwrap_or(why);
        let (memory, mut away) =
            Away::begin(path, Some((&self.db, false)), why, self.now).map_err(StoreError::Memory)?;
        away.suspect = suspect;
        self.miss(away.missing);
        self.say(away.told());
        let file = std::mem::replace(&mut self.db, memory);
        // A disk that fails is not asked to tidy up.
        let _ = file.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        self.place = Place::Away(away);
        Ok(())
    }

    fn return_to_file(&mut self) {
        let Place::Away(away) = &mut self.place else { return };
        away.try_at(self.now);
        if self.lock.is_none() {
            match Lock::take(&away.path) {
                Ok(lock) => self.lock = Some(lock),
                Err(Refused::Held(holder)) => {
                    away.why = format!("another watchdog ({holder}) is using it; stop that one or this one");
                    return;
                }
                Err(Refused::Unusable(_)) => {}
            }
        }
        let Some(lock) = &mut self.lock else { return };
        // What is there now may be another's: a link to the file that another watchdog uses.
        if let Err(Refused::Held(holder)) = lock.claim(&away.path) {
            away.why = format!("another watchdog ({holder}) is using it; stop that one or this one");
            return;
        }
        let Some((db, aside)) = away.return_to_file(&self.db, self.now) else { return };
        let (path, since) = (away.path.clone(), away.since);
        // A new file may have taken its place.
        let _ = lock.claim(&path);
        let aside = aside.map_or(String::new(), |aside| format!("; the old file was put aside as {}", aside.display()));
        self.db = db;
        self.place = Place::File { identity: disk::identity(&path), path: path.clone() };
        self.say(format!(
            "state file {} works again after {}; what was kept in memory was carried back{aside}",
            path.display(),
            people(self.now.wall.since(since))
        ));
    }
}

fn transact<T>(db: &mut Connection, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&change)?;
    change.commit()?;
    Ok(done)
}
