//! One database and where it lies: runs every question and every change.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::core::time::{Mono, Now, Wall};

use super::{Commit, Condition, Pending, StoreError, history, outbox, signals};

/// An empty commit is written at most this often.
const MARK_EVERY: Duration = Duration::from_secs(10);

/// One database and where it lies.
pub struct Engine {
    db: Connection,
    boot_id: String,
    last: Option<(Wall, Mono)>,
    marked: Option<Mono>,
    handed: BTreeMap<String, i64>,
    notes: Vec<String>,
}

impl Engine {
    pub fn in_memory(db: Connection, boot_id: &str) -> Engine {
        Engine {
            db,
            boot_id: boot_id.to_string(),
            last: None,
            marked: None,
            handed: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    pub fn condition(&self) -> Condition {
        Condition::Memory
    }

    pub fn last(&self) -> Option<(Wall, Mono)> {
        self.last
    }

    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    pub fn handed_out(&mut self, channel: &str, rows: &[Pending]) {
        if let Some(row) = rows.last() {
            self.handed.insert(channel.to_string(), row.id);
        }
    }

    pub fn commit(&mut self, now: Now, commit: &Commit<'_>) -> Result<(), StoreError> {
        let empty = commit.signals.is_empty() && commit.removed.is_empty() && commit.edges.is_empty();
        self.last = Some((now.wall, now.mono));
        if empty && self.marked.is_some_and(|at| now.mono >= at && now.mono.since(at) < MARK_EVERY) {
            return Ok(());
        }
        let boot_id = self.boot_id.clone();
        self.write(Some(now), &|db, bounds| {
            let tick = signals::advance(db, now, &boot_id)?;
            signals::change(db, commit.signals, commit.removed)?;
            outbox::put(db, now, tick, commit.edges, commit.channels)?;
            let lines: Vec<_> = commit.edges.iter().map(history::decided).collect();
            history::append(db, now.wall, &lines, bounds)
        })?;
        self.marked = Some(now.mono);
        Ok(())
    }

    pub fn read<T>(&mut self, work: &dyn Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.db).map_err(StoreError::Memory)
    }

    pub fn write<T>(
        &mut self,
        _now: Option<Now>,
        work: &dyn Fn(&Connection, i64) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::Memory)?;
        let outcome = work(&change, history::ROWS_IN_MEMORY).map_err(StoreError::Memory)?;
        change.commit().map_err(StoreError::Memory)?;
        Ok(outcome)
    }
}
