//! Folds what is over, when a channel has been dead for so long that its outbox reaches its bound.
//!
//! Only what cannot change any more is folded: incidents of one signal whose alert and recovery are
//! both still to be said, and events, which have no recovery. The newest of them stays and says how
//! often and since when; only if that is not enough, signals of one kind and severity are folded
//! together, and the names are kept. What still goes on, and what may be on its way, is not touched,
//! so the bound is exceeded only while more signals than that are firing at once (F55).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rusqlite::{Connection, Result, params};

use crate::core::edge::EdgeKind;

/// Rows per channel above which is folded.
pub const ROWS: i64 = 10_000;
/// Names of other signals kept on a folded row.
pub const NAMES: usize = 200;
/// Begins the line after them that holds how many were left out. No signal's key begins so.
const MORE: char = '+';

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
    let (mut also, mut more) = names(&carrier.also);
    let mut remove = db.prepare_cached("DELETE FROM outbox WHERE id = ?1")?;
    for incident in &incidents {
        for row in &incident.opening {
            times = times.saturating_add(row.times);
            first = first.min(row.first);
            let (others, beyond) = names(&row.also);
            also.extend(others);
            more = more.saturating_add(beyond);
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
    more = more.saturating_add(also.len().saturating_sub(NAMES));
    let mut kept = also.into_iter().take(NAMES).collect::<Vec<&str>>().join("\n");
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(kept, "\n{MORE}{more}");
    }
    db.prepare_cached("UPDATE outbox SET times = ?2, first = ?3, also = ?4 WHERE id = ?1")?
        .execute(params![carrier.id, times, first, kept])?;
    Ok(())
}

/// The names on a folded row, and how many were left out.
pub fn names(also: &str) -> (BTreeSet<&str>, usize) {
    let beyond = |line: &str| line.strip_prefix(MORE).and_then(|count| count.parse::<usize>().ok());
    let left_out = also.lines().filter_map(beyond).fold(0, usize::saturating_add);
    (also.lines().filter(|line| !line.starts_with(MORE)).collect(), left_out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::core::edge::{Edge, Incident};
    use crate::core::signal::{Severity, SignalKey};
    use crate::core::time::{Mono, Now, Wall};
    use crate::store::{outbox, schema};

    const DAY: i64 = 1_767_225_600_000;

    fn edge(kind: EdgeKind, key: &str, incident: &str, second: i64) -> Edge {
        Edge {
            kind,
            key: SignalKey::new(key),
            title: key.to_string(),
            severity: Severity::Warning,
            fact: format!("fact {second}"),
            since: Wall(DAY + second * 1_000),
            at: Wall(DAY + second * 1_000),
            lasted: Duration::ZERO,
            incident: Incident(incident.to_string()),
            reason: String::new(),
            ..Edge::default()
        }
    }

    fn put(db: &Connection, edges: &[Edge]) {
        outbox::put(db, Now { wall: Wall(DAY), mono: Mono(0), awake: Mono(0) }, 1, edges, &["tg".to_string()]).unwrap();
    }

    fn told(db: &Connection) -> Vec<(EdgeKind, String, String)> {
        let rows = outbox::pending(db, "tg", 1_000).unwrap();
        rows.into_iter().map(|row| (row.edge.kind, row.edge.key.to_string(), row.edge.fact)).collect()
    }

    fn down_and_up(db: &Connection, key: &str, n: i64) {
        let incident = format!("{key}-{n}");
        put(db, &[edge(EdgeKind::Alert, key, &incident, n * 10), edge(EdgeKind::Realert, key, &incident, n * 10 + 1)]);
        put(db, &[edge(EdgeKind::Recovery, key, &incident, n * 10 + 2)]);
    }

    #[test]
    fn incidents_that_are_over_become_one_that_says_how_often_and_since_when() {
        let db = schema::memory().unwrap();
        (0..4).for_each(|n| down_and_up(&db, "probe/db", n));
        put(&db, &[edge(EdgeKind::Alert, "probe/db", "goes-on", 90)]);
        fold_above(&db, "tg", 0, 5).unwrap();
        let expected = [
            (EdgeKind::Alert, "4 times since 2026-01-01T00:00:00Z, most recently: fact 30"),
            (EdgeKind::Recovery, "fact 32"),
            (EdgeKind::Alert, "fact 90"),
        ];
        assert_eq!(told(&db), expected.map(|(kind, fact)| (kind, "probe/db".to_string(), fact.to_string())));
        // Folded again, the count goes on.
        (10..13).for_each(|n| down_and_up(&db, "probe/db", n));
        fold_above(&db, "tg", 0, 5).unwrap();
        assert!(told(&db).iter().any(|(_, _, fact)| fact.starts_with("7 times since 2026-01-01T00:00:00Z")));
    }

    #[test]
    fn what_may_be_on_its_way_or_was_half_told_is_not_touched() {
        let db = schema::memory().unwrap();
        (0..3).for_each(|n| down_and_up(&db, "probe/db", n));
        let rows = outbox::pending(&db, "tg", 1_000).unwrap();
        fold_above(&db, "tg", rows.last().unwrap().id, 0).unwrap();
        assert_eq!(outbox::pending(&db, "tg", 1_000).unwrap(), rows, "all handed out");
        // The first alert is delivered: its recovery must stay.
        outbox::remove(&db, "tg", &[rows[0].id, rows[1].id]).unwrap();
        fold_above(&db, "tg", 0, 0).unwrap();
        assert_eq!(told(&db)[0].2, "fact 2");
        assert_eq!(told(&db).len(), 3);
    }

    #[test]
    fn events_are_folded_but_for_the_newest_and_unknown_ones_are_not() {
        let db = schema::memory().unwrap();
        for n in 0..5 {
            put(&db, &[edge(EdgeKind::Alert, "app/failed", &format!("e{n}"), n)]);
        }
        put(&db, &[edge(EdgeKind::Unknown, "probe/db", "u", 6), edge(EdgeKind::Alert, "probe/db", "a", 7)]);
        fold_above(&db, "tg", 0, 4).unwrap();
        let facts: Vec<String> = told(&db).into_iter().map(|(_, _, fact)| fact).collect();
        assert_eq!(facts, ["4 times since 2026-01-01T00:00:00Z, most recently: fact 3", "fact 4", "fact 6", "fact 7"]);
    }

    #[test]
    fn many_signals_that_are_over_become_one_that_names_them() {
        let db = schema::memory().unwrap();
        for n in 0..30 {
            down_and_up(&db, &format!("app/agent/{n:02}"), n);
        }
        down_and_up(&db, "probe/db", 40);
        fold_above(&db, "tg", 0, 10).unwrap();
        let told = told(&db);
        assert_eq!(told.len(), 5, "{told:?}");
        assert_eq!((told[0].0, told[0].1.as_str()), (EdgeKind::Alert, "app/agent/29"));
        assert!(told[0].2.starts_with("30 times since 2026-01-01T00:00:00Z, also app/agent/00, app/agent/01, "));
        assert!((0..29).all(|n| told[0].2.contains(&format!("app/agent/{n:02}"))));
    }

    #[test]
    fn the_outbox_holds_its_bound_through_any_number_of_incidents() {
        let db = schema::memory().unwrap();
        let change = db.unchecked_transaction().unwrap();
        for n in 0..(ROWS / 3 + 600) {
            down_and_up(&db, &format!("app/agent/{n}"), n);
            if n % 100 == 0 {
                fold(&db, "tg", 0).unwrap();
                assert!(outbox::count(&db).unwrap() <= ROWS);
            }
        }
        fold(&db, "tg", 0).unwrap();
        assert!(outbox::count(&db).unwrap() < 2_000);
        let names = told(&db).remove(0).2;
        let folded: usize = names.split(' ').next().unwrap().parse().unwrap();
        let left_out = folded - 1 - NAMES;
        assert!(names.contains(&format!(" and up to {left_out} more (see `watchdog history`)")), "{names}");
        assert!(names.len() < 8_000, "{}", names.len());
        change.commit().unwrap();
    }

    proptest! {
        /// Whatever is folded, the incidents told stay the same number, and what goes on stays as it is.
        #[test]
        fn no_incident_vanishes(story in proptest::collection::vec((0..3_u8, 0..4_u8, any::<bool>()), 1..60), bound in 0..20_i64) {
            let db = schema::memory().unwrap();
            let mut open: BTreeMap<String, String> = BTreeMap::new();
            let mut begun = 0;
            for (n, (kind, key, fold_now)) in story.into_iter().enumerate() {
                let second = i64::try_from(n).unwrap();
                let key = format!("probe/{key}");
                match (kind, open.get(&key).cloned()) {
                    (0, Some(incident)) => put(&db, &[edge(EdgeKind::Realert, &key, &incident, second)]),
                    (1, Some(incident)) => {
                        put(&db, &[edge(EdgeKind::Recovery, &key, &incident, second)]);
                        open.remove(&key);
                    }
                    (_, None) => {
                        begun += 1;
                        put(&db, &[edge(EdgeKind::Alert, &key, &format!("i{n}"), second)]);
                        open.insert(key, format!("i{n}"));
                    }
                    _ => {}
                }
                if fold_now {
                    fold_above(&db, "tg", 0, bound).unwrap();
                }
            }
            let times: i64 = db
                .query_row("SELECT sum(times) FROM outbox WHERE kind = 'alert'", [], |row| row.get(0))
                .unwrap();
            prop_assert_eq!(times, begun);
            for (key, incident) in open {
                let rows: i64 = db
                    .query_row(
                        "SELECT count(*) FROM outbox WHERE kind = 'alert' AND times = 1 AND key = ?1 AND incident = ?2",
                        [key, incident],
                        |row| row.get(0),
                    )
                    .unwrap();
                prop_assert_eq!(rows, 1);
            }
        }
    }
}
