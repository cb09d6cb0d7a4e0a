//! The journal of repairs, and what is kept of their targets and of the budget.
//!
//! Records are only ever added; ids rise in the order in which they were written. Each row carries
//! a sum over its content and its id, so that no damage invents a record or puts it elsewhere. A
//! repair that is not over keeps every record, however old (B5); of those that are over the oldest
//! go beyond 10,000 rows, always as a whole: a rest without its beginning would read as a repair
//! in doubt. A row that is not what was written, or cannot be understood, is counted and passed
//! over, and never an error. Decides nothing: reading back is the core's (`core::recovery::journal`,
//! `adr/0007-journal-before-act.md`).

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, Result, params};

use crate::core::recovery::journal::{Record, fold};
use crate::core::time::Wall;

use super::schema::{self, sum};
use super::tables::{JOURNAL, TARGETS, Table, last_id};

/// Under this name the budget lies among the targets; no target is without a name.
pub const BUDGET: &str = "";
/// Rows kept; more only of repairs that are not over.
const ROWS: i64 = 10_000;
/// Rows removed by one write beyond twice those added, to the end of the last repair begun with.
const SWEEP_ROWS: usize = 64;

/// What is remembered of repairs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repairs {
    /// The lines of the journal that can be believed, in the order in which they were written.
    pub records: Vec<Record>,
    /// Rows, of the journal or of targets, that were there and cannot be believed or understood; a
    /// table that could not be read to its end counts as one. Above 0 something may be missing
    /// from any repair.
    pub unsound: usize,
    /// What was kept of each target, by name, as JSON.
    pub targets: Vec<(String, String)>,
    /// What was spent, as JSON.
    pub budget: Option<String>,
    /// The names of the repairs among `records` that are over.
    pub closed: BTreeSet<String>,
}

impl Repairs {
    /// True when some repair is not over.
    pub fn any_open(&self) -> bool {
        self.records.iter().any(|record| !self.closed.contains(&record.saga))
    }
}

/// Adds `records`; removes a few that are over and beyond the bound.
pub fn put(db: &Connection, records: &[Record]) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut id = last_id(db, &JOURNAL)?;
    let mut add = db.prepare_cached(
        "INSERT INTO journal (id, saga, target, number, wall, body, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for record in records {
        // The id is part of the sum, and so has to be known first.
        id = id.saturating_add(1);
        let body =
            serde_json::to_string(&record.event).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        let Record { saga, target, number, at, .. } = record;
        let sum = sum(&[&id.to_string(), saga, target, &number.to_string(), &at.0.to_string(), &body]);
        add.execute(params![id, saga, target, number, at.0, body, sum])?;
    }
    sweep(db, records.len(), ROWS)
}

/// Remembers what is kept of targets, and the budget if it changed. Targets are as many as were ever
/// configured: people bound them.
pub fn keep(db: &Connection, targets: &[(Arc<str>, String)], budget: Option<&str>) -> Result<()> {
    let mut put = db.prepare_cached("INSERT OR REPLACE INTO targets (key, body, sum) VALUES (?1, ?2, ?3)")?;
    let budget = budget.map(|body| (BUDGET, body));
    for (key, body) in targets.iter().map(|(key, body)| (&**key, body.as_str())).chain(budget) {
        put.execute(params![key, body, sum(&[key, body])])?;
    }
    Ok(())
}

/// Everything that is remembered of repairs.
pub fn repairs(db: &Connection) -> Result<Repairs> {
    let (records, unsound) = records(db, "", "")?;
    let mut repairs = Repairs { unsound, ..Repairs::default() };
    each(db, &TARGETS, "ORDER BY key", "", |row| match row {
        Some([Value::Text(key), Value::Text(body), _]) if key == BUDGET => repairs.budget = Some(body.clone()),
        Some([Value::Text(key), Value::Text(body), _]) => repairs.targets.push((key.clone(), body.clone())),
        _ => repairs.unsound += 1,
    })?;
    let open: BTreeSet<String> = fold(&records).into_iter().map(|told| told.id).collect();
    repairs.closed = records.iter().map(|record| &record.saga).filter(|saga| !open.contains(*saga)).cloned().collect();
    repairs.records = records;
    Ok(repairs)
}

/// The lines about one target, in the order in which they were written.
pub fn about(db: &Connection, target: &str) -> Result<Vec<Record>> {
    records(db, "WHERE target = ?1", target).map(|(records, _)| records)
}

/// The records that `which` selects by `name`, and how many rows are none.
fn records(db: &Connection, which: &str, name: &str) -> Result<(Vec<Record>, usize)> {
    let (mut records, mut unsound) = (Vec::new(), 0);
    each(db, &JOURNAL, &format!("{which} ORDER BY id"), name, |row| match row.and_then(record) {
        Some(record) => records.push(record),
        None => unsound += 1,
    })?;
    Ok((records, unsound))
}

/// Hands over each row of `table` that can be believed, and `None` for each that cannot.
fn each(db: &Connection, table: &Table, tail: &str, name: &str, mut take: impl FnMut(Option<&[Value]>)) -> Result<()> {
    let mut select = match db.prepare_cached(&table.select(tail)) {
        Ok(select) => select,
        // A view of a file that a daemon of an earlier version writes: there are no repairs in it.
        Err(_) if schema::of(db)? < table.since => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut rows = if select.parameter_count() == 0 { select.query([])? } else { select.query([name])? };
    while let Some(row) = rows.next()? {
        let values = table.values(row).ok().filter(|values| table.sound(values));
        take(values.as_deref());
    }
    Ok(())
}

fn record(row: &[Value]) -> Option<Record> {
    use Value::{Integer, Text};
    let [_, Text(saga), Text(target), Integer(number), Integer(wall), Text(body), _] = row else { return None };
    Some(Record {
        saga: saga.clone(),
        target: target.clone(),
        number: u32::try_from(*number).ok()?,
        at: Wall(*wall),
        event: serde_json::from_str(body).ok()?,
    })
}

/// Removes the oldest repairs that are over and lie wholly beyond the newest `rows`.
fn sweep(db: &Connection, added: usize, rows: i64) -> Result<()> {
    let count: i64 = db.prepare_cached("SELECT count(*) FROM journal")?.query_row([], |row| row.get(0))?;
    if count <= rows {
        return Ok(());
    }
    let mut beyond = db.prepare_cached(
        "SELECT saga FROM journal GROUP BY saga
         HAVING max(id) <= (SELECT id FROM journal ORDER BY id DESC LIMIT 1 OFFSET ?1) ORDER BY max(id)",
    )?;
    let sagas = beyond.query_map([rows], |row| row.get::<_, String>(0))?.collect::<Result<Vec<String>>>()?;
    let mut left = added.saturating_mul(2).saturating_add(SWEEP_ROWS);
    for saga in sagas {
        let (records, _) = records(db, "WHERE saga = ?1", &saga)?;
        if records.is_empty() || !fold(&records).is_empty() {
            continue;
        }
        left = left.saturating_sub(db.prepare_cached("DELETE FROM journal WHERE saga = ?1")?.execute([&saga])?);
        if left == 0 {
            break;
        }
    }
    Ok(())
}
