//! When the disk fails: everything known goes on in memory, and back to the file when it works again.
//!
//! A full or read-only disk is written to again in place. A file that is suspect (damage, or a
//! failed fsync, after which a later success proves nothing, F82) is never written to again: all that
//! is known goes into a new file, which then takes its place. Tried at most once a minute.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Result, TransactionBehavior};

use crate::core::time::{Mono, Now, Wall};

use super::disk::{self, Trouble};
use super::tables::{COPIED_ROWS, ESSENTIAL, HISTORY, JOURNAL, OUTBOX, TARGETS, ids_above, last_id};
use super::{quarantine, schema, signals};

/// What a new file is called until it takes the place of the old one.
const NEW: &str = ".new";
/// Least time between two tries to go back.
const RETRY: Duration = Duration::from_mins(1);
/// Lines of history taken into memory, the newest.
const HISTORY_TAKEN: &str = "ORDER BY id DESC LIMIT 1000";

/// A time without the state file.
#[derive(Debug)]
pub struct Away {
    /// The file.
    pub path: PathBuf,
    /// Why it is not used, and what to do.
    pub why: String,
    /// Since when.
    pub since: Wall,
    /// True when the memory began with everything the file knew, so that it may replace it.
    pub knows_file: bool,
    /// True when the file must not be written to any more.
    pub suspect: bool,
    /// Rows about repairs that the file has and could not be believed; a table not read to its end is one.
    pub missing: usize,
    /// The highest history id that came from the file.
    history_from: i64,
    /// The last try to go back.
    tried: Mono,
}

impl Away {
    /// Takes what `source` knows into memory and begins a time without the file. With the source comes
    /// whether it is blind to what is only in the file's log.
    pub fn begin(path: &Path, source: Option<(&Connection, bool)>, why: &str, now: Now) -> Result<(Connection, Away)> {
        let mut memory = schema::memory()?;
        let mut away = Away {
            path: path.to_path_buf(),
            why: why.to_string(),
            since: now.wall,
            knows_file: source.is_some_and(|(_, blind)| !blind),
            suspect: false,
            missing: 0,
            history_from: 0,
            tried: now.mono,
        };
        let change = memory.transaction()?;
        let mut unread = 0;
        if let Some((source, _)) = source {
            for table in ESSENTIAL {
                let copied = table.rescue(source, &change, COPIED_ROWS)?;
                away.knows_file &= copied.whole && copied.unsound == 0;
                let lost = copied.unsound + usize::from(!copied.whole);
                unread += lost;
                if [JOURNAL.name, TARGETS.name].contains(&table.name) {
                    away.missing += lost;
                }
            }
            HISTORY.copy(
                source,
                &change,
                &format!("WHERE id IN (SELECT id FROM history {HISTORY_TAKEN}) ORDER BY id"),
            )?;
            away.history_from = last_id(&change, &HISTORY)?;
        }
        for table in [&OUTBOX, &JOURNAL] {
            match source.map(|(source, _)| last_id(source, table)) {
                Some(Ok(id)) if away.knows_file => ids_above(&change, table, id)?,
                // The wall clock in milliseconds is above every id that a readable file has given, so
                // that no row carried back, and no acknowledgement, meets another row of the same id.
                _ => ids_above(&change, table, now.wall.0.max(0))?,
            }
        }
        change.commit()?;
        if unread > 0 {
            away.why = format!("{why}; {unread} rows or tables of it could not be read");
        }
        Ok((memory, away))
    }

    /// What a person is told about it.
    pub fn told(&self) -> String {
        format!(
            "state file {}: {}; working in memory, a restart now forgets what happens from here on, and no action is started",
            self.path.display(),
            self.why
        )
    }

    /// True when it is time to try again.
    pub fn due(&self, now: Now) -> bool {
        now.mono < self.tried || now.mono.since(self.tried) >= RETRY
    }

    /// A try to go back has begun, whatever comes of it.
    pub fn try_at(&mut self, now: Now) {
        self.tried = now.mono;
    }

    /// Tries to carry everything back; gives the database on the file and what was done, or keeps
    /// the reason for the next reader of [`Away::why`].
    pub fn return_to_file(&mut self, memory: &Connection, now: Now) -> Option<(Connection, Option<PathBuf>)> {
        let outcome = if self.suspect { self.replace(memory, now) } else { self.write_in_place(memory, now) };
        match outcome {
            Ok(back) => Some(back),
            Err(why) => {
                self.why = why;
                None
            }
        }
    }

    fn write_in_place(
        &mut self,
        memory: &Connection,
        now: Now,
    ) -> std::result::Result<(Connection, Option<PathBuf>), String> {
        let mut db = match disk::open(&self.path) {
            Ok(db) => db,
            Err(Trouble::Unusable(why)) => return Err(why),
            Err(Trouble::Damaged(_) | Trouble::Newer(_)) => {
                self.suspect = true;
                return self.replace(memory, now);
            }
        };
        match carry(memory, &mut db, self.knows_file, self.history_from) {
            Ok(()) => Ok((db, None)),
            Err(error) => {
                self.suspect |= disk::suspect(&error);
                Err(error.to_string())
            }
        }
    }

    fn replace(&mut self, memory: &Connection, now: Now) -> std::result::Result<(Connection, Option<PathBuf>), String> {
        let swapped = swap(&self.path, "suspect", now.wall, &|db| carry(memory, db, true, 0))?;
        self.suspect = false;
        Ok(swapped)
    }
}

/// Makes a new file with what `fill` writes into it, puts the old one aside and the new one in its
/// place. The old one is touched only when the new one is whole, so that a kill loses neither.
pub fn swap(
    path: &Path,
    word: &str,
    now: Wall,
    fill: &dyn Fn(&mut Connection) -> Result<()>,
) -> std::result::Result<(Connection, Option<PathBuf>), String> {
    let open = |path: &Path| {
        disk::open(path).map_err(|trouble| match trouble {
            Trouble::Damaged(why) | Trouble::Unusable(why) => why,
            Trouble::Newer(version) => format!("another of version {version} is there now"),
        })
    };
    let fresh = super::beside(path, NEW);
    for leftover in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(super::beside(&fresh, leftover));
    }
    let mut db = open(&fresh)?;
    fill(&mut db).map_err(|error| error.to_string())?;
    // Closing writes the log into the file and removes it: one file to rename.
    db.close().map_err(|(_, error)| error.to_string())?;
    let aside = match fs::symlink_metadata(path) {
        Ok(_) => Some(quarantine::put_aside(path, word, now).map_err(|error| error.to_string())?),
        Err(_) => None,
    };
    fs::rename(&fresh, path).map_err(|error| error.to_string())?;
    quarantine::sync_directory(path);
    Ok((open(path)?, aside))
}

/// Ends a swap that was cut short when the old file was aside and the new one not yet in its place.
pub fn end_swap(path: &Path) {
    let fresh = super::beside(path, NEW);
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if !is_there(path) && is_there(&fresh) && !is_there(&super::beside(&fresh, "-wal")) {
        // Failing, the new file stays where it is, and that commits are missing is told.
        let _ = fs::rename(&fresh, path);
        quarantine::sync_directory(path);
    }
}

/// Writes what the memory knows into the file, in one transaction.
fn carry(memory: &Connection, file: &mut Connection, replace: bool, history_from: i64) -> Result<()> {
    let change = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tick = signals::mark(&change)?.map_or(0, |mark| mark.tick);
    if replace {
        change.execute_batch(
            "DELETE FROM signals; DELETE FROM outbox; DELETE FROM receipts; DELETE FROM remembered;
             DELETE FROM journal; DELETE FROM targets;",
        )?;
    }
    for table in ESSENTIAL {
        // Without knowing what the file remembers as spent, that is not written over.
        let tail = if table.name == TARGETS.name && !replace { "WHERE key <> ''" } else { "" };
        table.copy(memory, &change, tail)?;
    }
    change.execute("UPDATE meta SET tick = max(tick, ?1)", [tick])?;
    for table in [&OUTBOX, &JOURNAL] {
        ids_above(&change, table, last_id(memory, table)?)?;
    }
    HISTORY.copy(memory, &change, &format!("WHERE id > {history_from} ORDER BY id"))?;
    change.commit()
}
