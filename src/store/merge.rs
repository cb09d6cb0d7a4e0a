//! Folds what is over, when a channel has been dead for so long that its outbox reaches its bound.
//!
//! Only what cannot change any more is folded: incidents of one signal whose alert and recovery are
//! both still to be said, and events, which have no recovery. The newest of them stays and says how
//! often and since when; only if that is not enough, signals of one kind and severity are folded
//! together, and the names are kept. What still goes on, and what may be on its way, is not touched,
//! so the bound is exceeded only while more signals than that are firing at once (F55).

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Result, params};

use crate::core::edge::EdgeKind;

/// Rows per channel above which is folded.
pub const ROWS: i64 = 10_000;
/// Names of other signals kept on a folded row.
pub const NAMES: usize = 200;

/// One incident's rows.
#[derive(Default)]
struct Incident {
    key: String,
    opening: Vec<Row>,
    reminders: Vec<i64>,
    closing: Vec<i64>,
    unknown: bool,
    newest: i64,
}

struct Row {
    id: i64,
    times: i64,
    first: i64,
    also: String,
}

/// Folds `channel`'s rows above id `handed`, if there are too many.
pub fn fold(db: &Connection, channel: &str, handed: i64) -> Result<()> {
    fold_above(db, channel, handed, ROWS)
}

fn fold_above(db: &Connection, channel: &str, handed: i64, rows: i64) -> Result<()> {
    let many = |db: &Connection| -> Result<bool> {
        let count: i64 = db
            .prepare_cached("SELECT count(*) FROM outbox WHERE channel = ?1")?
            .query_row([channel], |row| row.get(0))?;
        Ok(count > rows)
    };
    if many(db)? {
        fold_groups(db, channel, handed, "key")?;
    }
    if many(db)? {
        let kind_and_severity =
            "substr(key, 1, instr(key || '/', '/')) || ifnull(json_extract(body, '$.severity'), '')";
        fold_groups(db, channel, handed, kind_and_severity)?;
    }
    Ok(())
}

fn fold_groups(db: &Connection, channel: &str, handed: i64, group: &str) -> Result<()> {
    let mut groups: BTreeMap<String, BTreeMap<(String, String), Incident>> = BTreeMap::new();
    let mut select = db.prepare(&format!(
        "SELECT id, key, incident, kind, times, first, also, {group} FROM outbox WHERE channel = ?1 AND id > ?2 ORDER BY id"
    ))?;
    let mut rows = select.query(params![channel, handed])?;
    while let Some(row) = rows.next()? {
        let (id, key, kind): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(3)?);
        let incident = groups.entry(row.get(7)?).or_default().entry((key.clone(), row.get(2)?)).or_default();
        incident.key = key;
        incident.newest = id;
        if kind == EdgeKind::Alert.as_str() || kind == EdgeKind::Unknown.as_str() {
            incident.unknown |= kind == EdgeKind::Unknown.as_str();
            incident.opening.push(Row { id, times: row.get(4)?, first: row.get(5)?, also: row.get(6)? });
        } else if kind == EdgeKind::Realert.as_str() {
            incident.reminders.push(id);
        } else {
            incident.closing.push(id);
        }
    }
    for incidents in groups.into_values() {
        let (over, rest): (Vec<_>, Vec<_>) = incidents
            .into_values()
            .filter(|incident| !incident.opening.is_empty())
            .partition(|incident| !incident.closing.is_empty());
        fold_into_newest(db, over)?;
        fold_into_newest(db, events(rest))?;
    }
    Ok(())
}

/// Of the incidents that began and did not end, those that another of the same signal followed: a
/// condition cannot begin again before it ended, so they are events. The newest may still go on.
fn events(incidents: Vec<Incident>) -> Vec<Incident> {
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    for incident in incidents.iter().filter(|incident| !incident.unknown) {
        let seen = newest.entry(incident.key.clone()).or_default();
        *seen = incident.newest.max(*seen);
    }
    incidents
        .into_iter()
        .filter(|incident| {
            !incident.unknown && newest.get(&incident.key).is_some_and(|newest| incident.newest < *newest)
        })
        .collect()
}

fn fold_into_newest(db: &Connection, mut incidents: Vec<Incident>) -> Result<()> {
    incidents.sort_by_key(|incident| incident.newest);
    let Some(stays) = incidents.pop() else { return Ok(()) };
    let Some(carrier) = stays.opening.first() else { return Ok(()) };
    if incidents.is_empty() {
        return Ok(());
    }
    let (mut times, mut first) = (carrier.times, carrier.first);
    let mut also: BTreeSet<&str> = carrier.also.lines().collect();
    let mut remove = db.prepare_cached("DELETE FROM outbox WHERE id = ?1")?;
    for incident in &incidents {
        for row in &incident.opening {
            times = times.saturating_add(row.times);
            first = first.min(row.first);
            also.extend(row.also.lines());
            remove.execute([row.id])?;
        }
        also.insert(&incident.key);
        for id in incident.reminders.iter().chain(&incident.closing) {
            remove.execute([id])?;
        }
    }
    for id in &stays.reminders {
        remove.execute([id])?;
    }
    also.remove(stays.key.as_str());
    let names: Vec<&str> = also.into_iter().take(NAMES).collect();
    db.prepare_cached("UPDATE outbox SET times = ?2, first = ?3, also = ?4 WHERE id = ?1")?.execute(params![
        carrier.id,
        times,
        first,
        names.join("\n")
    ])?;
    Ok(())
}
