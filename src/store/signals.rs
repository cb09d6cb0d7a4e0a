//! The remembered states of signals, and the mark of the last commit.
//!
//! Bodies belong to the core and are not looked into here.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use crate::core::signal::SignalKey;
use crate::core::time::{Mono, Now, Wall};

use super::schema::sum;
use super::{Rows, SignalRow};

/// Writes what changed and forgets what is gone.
pub fn change(db: &Connection, rows: &dyn Rows, removed: &[SignalKey]) -> Result<()> {
    put(db, "INSERT OR REPLACE INTO signals (key, body, sum) VALUES (?1, ?2, ?3)", rows)?;
    let mut forget = db.prepare_cached("DELETE FROM signals WHERE key = ?1")?;
    for key in removed {
        forget.execute([key.as_str()])?;
    }
    Ok(())
}

/// Writes each row by `statement`, which takes its name, its body and their sum; ends with the first that fails.
pub fn put(db: &Connection, statement: &str, rows: &dyn Rows) -> Result<()> {
    let mut put = db.prepare_cached(statement)?;
    let mut outcome = Ok(());
    rows.each(&mut |name, body| {
        if outcome.is_ok() {
            outcome = put.execute(params![name, body, sum(&[name, body])]).map(drop);
        }
    });
    outcome
}

/// All of them, by key.
pub fn all(db: &Connection) -> Result<Vec<SignalRow>> {
    let mut select = db.prepare_cached("SELECT key, body FROM signals ORDER BY key")?;
    let rows = select.query_map([], |row: &Row<'_>| {
        Ok(SignalRow { key: SignalKey::new(row.get_ref(0)?.as_str()?), body: row.get(1)? })
    })?;
    rows.collect()
}

/// The last commit: its boot, its instant by both clocks, its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The boot in which it happened.
    pub boot_id: String,
    /// When, by the wall clock.
    pub wall: Wall,
    /// When, by that boot's monotonic clock.
    pub mono: Mono,
    /// How many commits there were.
    pub tick: i64,
}

/// Reads the mark; `None` before the first commit.
pub fn mark(db: &Connection) -> Result<Option<Mark>> {
    db.prepare_cached("SELECT boot_id, wall, mono, tick FROM meta")?
        .query_row([], |row| {
            Ok(Mark { boot_id: row.get(0)?, wall: Wall(row.get(1)?), mono: Mono(row.get(2)?), tick: row.get(3)? })
        })
        .optional()
}

/// Marks one more commit and gives its number.
pub fn advance(db: &Connection, now: Now, boot_id: &str) -> Result<i64> {
    db.prepare_cached(
        "INSERT INTO meta (one, boot_id, wall, mono, tick) VALUES (1, ?1, ?2, ?3, 1)
         ON CONFLICT (one) DO UPDATE SET boot_id = ?1, wall = ?2, mono = ?3, tick = tick + 1 RETURNING tick",
    )?
    .query_row(params![boot_id, now.wall.0, now.mono.0], |row| row.get(0))
}
