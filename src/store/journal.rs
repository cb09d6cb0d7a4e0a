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
use crate::core::recovery::kind::{from_disk, on_disk};
use crate::core::time::Wall;

use super::schema::{self, sum};
use super::tables::{JOURNAL, TARGETS, Table, last_id};
use super::{Rows, signals};

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
    /// table that could not be read to its end counts as one, and so do commits that are missing
    /// from the file. Above 0 something may be missing from any repair.
    pub unsound: usize,
    /// What was kept of each target, by key, as JSON.
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
        let target = on_disk(&record.target);
        // The id is part of the sum, and so has to be known first.
        id = id.saturating_add(1);
        let body =
            serde_json::to_string(&record.event).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        let Record { saga, number, at, .. } = record;
        let sum = sum(&[&id.to_string(), saga, target, &number.to_string(), &at.0.to_string(), &body]);
        add.execute(params![id, saga, target, number, at.0, body, sum])?;
    }
    sweep(db, records.len(), ROWS)
}

/// Remembers what is kept of targets, and the budget if it changed. Targets are as many as are configured, or were
/// within a month: people bound them.
pub fn keep(db: &Connection, targets: &dyn Rows, budget: Option<&str>) -> Result<()> {
    const PUT: &str = "INSERT OR REPLACE INTO targets (key, body, sum) VALUES (?1, ?2, ?3)";
    signals::put(db, PUT, &Bare(targets))?;
    match budget {
        Some(body) => signals::put(db, PUT, &[(Arc::from(BUDGET), body.to_string())]),
        None => Ok(()),
    }
}

/// What is kept of targets, by their keys as they are written.
struct Bare<'a>(&'a dyn Rows);

impl Rows for Bare<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn each(&self, put: &mut dyn FnMut(&str, &str)) {
        self.0.each(&mut |key, body| put(on_disk(key), body));
    }
}

/// Nothing is kept of these targets any more.
pub fn forget(db: &Connection, targets: &[Arc<str>]) -> Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    let mut remove = db.prepare_cached("DELETE FROM targets WHERE key = ?1 AND key <> ?2")?;
    for target in targets {
        remove.execute(params![on_disk(target), BUDGET])?;
    }
    Ok(())
}

/// Everything that is remembered of repairs.
pub fn repairs(db: &Connection) -> Result<Repairs> {
    let (records, unsound) = records(db, "", "")?;
    let mut repairs = Repairs { unsound, ..Repairs::default() };
    each(db, &TARGETS, "ORDER BY key", "", |row| match row {
        Some([Value::Text(key), Value::Text(body), _]) if key == BUDGET => repairs.budget = Some(body.clone()),
        Some([Value::Text(key), Value::Text(body), _]) => {
            repairs.targets.push((from_disk(key.clone()), body.clone()));
        }
        _ => repairs.unsound += 1,
    })?;
    let open: BTreeSet<String> = fold(&records).into_iter().map(|told| told.id).collect();
    repairs.closed = records.iter().map(|record| &record.saga).filter(|saga| !open.contains(*saga)).cloned().collect();
    repairs.records = records;
    Ok(repairs)
}

/// The lines about one target, in the order in which they were written.
pub fn about(db: &Connection, target: &str) -> Result<Vec<Record>> {
    records(db, "WHERE target = ?1", on_disk(target)).map(|(records, _)| records)
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
        target: from_disk(target.clone()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::recovery::journal::Event;
    use crate::core::recovery::legacy::STOP_START;
    use crate::core::recovery::saga::End;
    use crate::core::recovery::subject::{Fence, Verb};

    fn told(saga: &str, events: &[Event]) -> Vec<Record> {
        let record = |(number, event): (u32, &Event)| Record {
            saga: saga.to_string(),
            target: "node/a".to_string(),
            number,
            at: Wall(1),
            event: event.clone(),
        };
        (0..).zip(events).map(record).collect()
    }

    fn opened() -> Event {
        Event::Opened { procedure: STOP_START.into(), simulated: false }
    }

    fn over(saga: &str) -> Vec<Record> {
        told(saga, &[opened(), Event::Closed { end: End::NoEffect }])
    }

    fn count(db: &Connection) -> i64 {
        db.query_row("SELECT count(*) FROM journal", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn repairs_that_are_over_go_as_a_whole_and_a_few_at_a_time_and_open_ones_never() {
        let db = schema::memory().unwrap();
        let open = told("open", &[opened(), Event::Intent { verb: Verb::STOP, fence: Fence::default() }]);
        put(&db, &open).unwrap();
        for n in 0..500 {
            put(&db, &over(&format!("over-{n}"))).unwrap();
        }
        let mut before = count(&db);
        // The open one, and 51 of which the oldest reaches into the newest 101 rows.
        while before > 104 {
            sweep(&db, 0, 101).unwrap();
            let left = count(&db);
            assert!(left < before && before - left <= 64 && left % 2 == 0, "{before} {left}");
            before = left;
        }
        for _ in 0..10 {
            sweep(&db, 0, 101).unwrap();
        }
        let repairs = repairs(&db).unwrap();
        assert_eq!(repairs.records[..2], open);
        let kept: BTreeSet<String> = (449..500).map(|n| format!("over-{n}")).collect();
        assert_eq!(repairs.closed, kept);
    }

    #[test]
    fn the_journal_keeps_its_bound_at_the_real_limit() {
        let db = schema::memory().unwrap();
        for n in 0..120 {
            let hundred: Vec<Record> = (0..50).flat_map(|m| over(&format!("{n}-{m}"))).collect();
            put(&db, &hundred).unwrap();
            assert!(count(&db) <= ROWS);
        }
        assert_eq!(count(&db), ROWS);
    }

    #[test]
    fn what_a_later_program_wrote_is_counted_and_kept() {
        let db = schema::memory().unwrap();
        put(&db, &over("a")).unwrap();
        let strange = r#"{"event":"teleported"}"#;
        let sum = sum(&["3", "b", "n", "0", "1", strange]);
        db.execute("INSERT INTO journal VALUES (3, 'b', 'n', 0, 1, ?1, ?2)", params![strange, sum]).unwrap();
        db.execute("INSERT INTO journal VALUES (9, 'c', 'n', 0, 1, '{}', 5)", []).unwrap();
        db.execute("INSERT INTO targets VALUES ('n', '{}', 5)", []).unwrap();
        let found = repairs(&db).unwrap();
        assert_eq!((found.records, found.unsound, found.targets.len()), (over("a"), 3, 0));
        let other = schema::memory().unwrap();
        let copied = JOURNAL.copy(&db, &other, "").unwrap();
        assert_eq!((copied.rows, copied.unsound), (3, 1));
    }

    #[test]
    fn a_file_of_version_1_comes_up_with_everything_kept() {
        use crate::core::edge::{EdgeKind, Incident};
        use crate::core::signal::{Severity, SignalKey};
        use crate::core::time::{Mono, Now};
        use crate::store::{Commit, SignalRow, Store, outbox, signals};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let now = Now { wall: Wall(1_767_225_600_000), mono: Mono(1_000), awake: Mono(1_000) };
        let old = Connection::open(&path).unwrap();
        old.execute_batch(schema::MIGRATIONS[0]).unwrap();
        old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        let state = SignalRow { key: SignalKey::new("probe/a"), body: "{}".to_string() };
        let edge = crate::core::edge::Edge {
            kind: EdgeKind::Alert,
            key: state.key.clone(),
            title: "t".to_string(),
            severity: Severity::Critical,
            fact: "f".to_string(),
            since: now.wall,
            at: now.wall,
            lasted: std::time::Duration::ZERO,
            incident: Incident("i".to_string()),
            reason: "r".to_string(),
            ..crate::core::edge::Edge::default()
        };
        signals::advance(&old, now, "boot").unwrap();
        signals::change(&old, std::array::from_ref(&state), &[]).unwrap();
        outbox::put(&old, now, 1, std::slice::from_ref(&edge), &["console".to_string()]).unwrap();
        crate::store::history::append(&old, now.wall, &[crate::store::history::decided(&edge)], 10).unwrap();

        let memory = schema::memory().unwrap();
        for table in crate::store::tables::ESSENTIAL {
            assert!(table.copy(&old, &memory, "").unwrap().whole, "{}", table.name);
        }
        drop(old);
        let view = Store::read(&path).unwrap();
        assert_eq!((view.repairs().unwrap(), view.journal("a").unwrap()), (Repairs::default(), Vec::new()));
        drop(view);

        let opened = Store::open(Some(&path), now, "boot").unwrap();
        assert!(opened.notes.is_empty() && opened.repairs == Repairs::default(), "{:?}", opened.notes);
        assert_eq!(opened.before.unwrap().signals, [state]);
        assert_eq!(opened.store.pending("console", 9).unwrap()[0].edge, edge);
        assert_eq!(opened.store.history(&crate::store::Filter { limit: 9, ..Default::default() }).unwrap().len(), 1);
        opened.store.commit(now, &Commit { records: &over("a"), ..Commit::default() }).unwrap();
        assert_eq!(opened.store.journal("a").unwrap(), over("a"));
        let version: i32 = schema::of(&Connection::open(&path).unwrap()).unwrap();
        assert_eq!(version, 2);
    }
}
