//! What is still to be said, per channel, until the channel acknowledges it (A1).
//!
//! At most one row per channel, signal, incident and kind: a newer edge takes the place of the
//! pending older one under a new id, so that an acknowledgement of the older one, already on its
//! way, cannot remove the newer. Never drops a row by itself; `merge` folds what is over.

use std::borrow::Cow;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Result, params};

use crate::core::edge::{Edge, EdgeKind};
use crate::core::time::{Mono, Now, Wall};

use super::merge::{self, NAMES};
use super::schema::sum;
use super::{Backlog, Pending};

/// Steps of one repair told at once.
const STEPS: usize = 8;
/// The most rows handed out at once.
const HANDED_ROWS: usize = 1_000;

/// Puts one row per edge and channel into the outbox.
pub fn put(db: &Connection, now: Now, tick: i64, edges: &[Edge], channels: &[String]) -> Result<()> {
    let mut older = db.prepare_cached(
        "DELETE FROM outbox WHERE channel = ?1 AND key = ?2 AND incident = ?3 AND kind = ?4 RETURNING times, first, body",
    )?;
    let mut add = db.prepare_cached(
        "INSERT INTO outbox (tick, channel, key, incident, kind, wall, mono, times, first, also, body, sum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, '', ?10, ?11)",
    )?;
    for edge in edges {
        for channel in channels {
            let place = params![channel, edge.key.as_str(), edge.incident.0, edge.kind.as_str()];
            let replaced: Option<(i64, i64, String)> =
                older.query_row(place, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
            let mut told = Cow::Borrowed(edge);
            // A reminder replaces a reminder, a step of a repair follows on the one before; anything else that
            // happened twice says so.
            let (times, first) = match (replaced, edge.kind) {
                (Some((_, _, before)), EdgeKind::Repair) => {
                    told = Cow::Owned(continued(&before, edge));
                    (1, edge.since.0)
                }
                (Some((times, first, _)), kind) if kind != EdgeKind::Realert => (times.saturating_add(1), first),
                _ => (1, edge.since.0),
            };
            let body =
                serde_json::to_string(&*told).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
            add.execute(params![
                tick,
                channel,
                edge.key.as_str(),
                edge.incident.0,
                edge.kind.as_str(),
                now.wall.0,
                now.mono.0,
                times,
                first,
                body,
                sum(&[channel, &body])
            ])?;
        }
    }
    Ok(())
}

/// The steps of one repair that are still to be told, a line for each; of very many the last.
fn continued(before: &str, edge: &Edge) -> Edge {
    let earlier = serde_json::from_str::<Edge>(before).map(|edge| edge.fact).unwrap_or_default();
    let lines: Vec<&str> = earlier.lines().chain(edge.fact.lines()).collect();
    let kept = lines.get(lines.len().saturating_sub(STEPS)..).unwrap_or_default();
    Edge { fact: kept.join("\n"), ..edge.clone() }
}

/// What `channel` has not acknowledged, oldest first.
pub fn pending(db: &Connection, channel: &str, limit: usize) -> Result<Vec<Pending>> {
    let limit = i64::try_from(limit.min(HANDED_ROWS)).unwrap_or(0);
    db.prepare_cached(
        "SELECT id, tick, times, first, body, also, mono FROM outbox WHERE channel = ?1 ORDER BY id LIMIT ?2",
    )?
    .query_map(params![channel, limit], |row| {
        let mut edge = edge(row.get_ref(4)?.as_str()?)?;
        let times: i64 = row.get(2)?;
        if times > 1 {
            let first = Wall(row.get(3)?);
            edge.fact =
                format!("{times} times since {first}{}, most recently: {}", also(row.get_ref(5)?.as_str()?), edge.fact);
        }
        Ok(Pending { id: row.get(0)?, tick: row.get(1)?, since: Mono(row.get(6)?), edge })
    })?
    .collect()
}

/// How much there is.
pub fn backlog(db: &Connection, channel: &str) -> Result<Backlog> {
    db.prepare_cached("SELECT count(*), min(wall), min(mono) FROM outbox WHERE channel = ?1")?.query_row(
        [channel],
        |row| {
            let pending: i64 = row.get(0)?;
            Ok(Backlog {
                pending: pending.unsigned_abs(),
                oldest_at: row.get::<_, Option<i64>>(1)?.map(Wall),
                oldest_mono: row.get::<_, Option<i64>>(2)?.map(Mono),
            })
        },
    )
}

/// How many rows there are, of all channels.
pub fn count(db: &Connection) -> Result<i64> {
    db.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))
}

/// After a reboot: puts what the old boot's monotonic clock said onto this boot's, by the age that
/// the wall clock gives, between nothing and 30 days (F5).
pub fn rebase(db: &Connection, now: Now) -> Result<()> {
    const LONGEST: i64 = 30 * 86_400_000;
    db.execute("UPDATE outbox SET mono = ?1 - min(max(?2 - wall, 0), ?3)", params![now.mono.0, now.wall.0, LONGEST])?;
    Ok(())
}

/// Removes acknowledged rows and gives their edges, in the order of `ids`.
pub fn remove(db: &Connection, channel: &str, ids: &[i64]) -> Result<Vec<Edge>> {
    let mut remove = db.prepare_cached("DELETE FROM outbox WHERE channel = ?1 AND id = ?2 RETURNING body")?;
    let mut edges = Vec::with_capacity(ids.len());
    for id in ids {
        // A row that is gone was replaced by a newer one while this one was on its way.
        if let Some(body) = remove.query_row(params![channel, id], |row| row.get::<_, String>(0)).optional()? {
            edges.push(edge(&body)?);
        }
    }
    Ok(edges)
}

/// The other signals that were folded into a row, in words. One that was left out and folded again counts twice.
fn also(text: &str) -> String {
    let (names, left_out) = merge::names(text);
    let shown = names.iter().copied().collect::<Vec<&str>>().join(", ");
    match (names.len(), left_out) {
        (0, _) => String::new(),
        // Rows of earlier versions do not say how many.
        (count, 0) if count >= NAMES => format!(", also {shown} and more (see `watchdog history`)"),
        (_, 0) => format!(", also {shown}"),
        _ => format!(", also {shown} and up to {left_out} more (see `watchdog history`)"),
    }
}

fn edge(body: &str) -> Result<Edge> {
    serde_json::from_str(body).map_err(|e| rusqlite::Error::FromSqlConversionFailure(4, Type::Text, Box::new(e)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::edge::Incident;
    use crate::core::signal::{Severity, SignalKey};
    use crate::store::schema;

    fn edge(kind: EdgeKind, second: i64) -> Edge {
        Edge {
            kind,
            key: SignalKey::new("probe/db"),
            title: String::new(),
            severity: Severity::Critical,
            fact: format!("fact {second}"),
            since: Wall(second * 1_000),
            at: Wall(second * 1_000),
            lasted: Duration::ZERO,
            incident: Incident("a".to_string()),
            reason: String::new(),
            ..Edge::default()
        }
    }

    fn put(db: &Connection, tick: i64, edge: Edge) {
        super::put(db, Now::default(), tick, &[edge], &["tg".to_string()]).unwrap();
    }

    #[test]
    fn an_acknowledgement_of_a_replaced_reminder_leaves_the_newer_one() {
        let db = schema::memory().unwrap();
        put(&db, 1, edge(EdgeKind::Realert, 1));
        let on_its_way = pending(&db, "tg", 10).unwrap();
        put(&db, 2, edge(EdgeKind::Realert, 2));
        assert!(remove(&db, "tg", &[on_its_way[0].id]).unwrap().is_empty());
        let left = pending(&db, "tg", 10).unwrap();
        assert_eq!((left.len(), left[0].tick, left[0].edge.fact.as_str()), (1, 2, "fact 2"));
    }

    #[test]
    fn what_happened_twice_in_one_incident_says_so() {
        let db = schema::memory().unwrap();
        put(&db, 1, edge(EdgeKind::Unknown, 1));
        put(&db, 2, edge(EdgeKind::Seen, 2));
        put(&db, 3, edge(EdgeKind::Unknown, 3));
        let told: Vec<_> = pending(&db, "tg", 10).unwrap().into_iter().map(|row| row.edge.fact).collect();
        assert_eq!(told, ["fact 2", "2 times since 1970-01-01T00:00:01Z, most recently: fact 3"]);
    }

    #[test]
    fn ids_are_never_used_twice_and_belong_to_their_channel() {
        let db = schema::memory().unwrap();
        put(&db, 1, edge(EdgeKind::Alert, 1));
        let first = pending(&db, "tg", 10).unwrap()[0].id;
        assert!(remove(&db, "console", &[first]).unwrap().is_empty());
        assert_eq!(remove(&db, "tg", &[first, first]).unwrap().len(), 1);
        put(&db, 2, edge(EdgeKind::Alert, 2));
        assert!(pending(&db, "tg", 10).unwrap()[0].id > first);
    }

    #[test]
    fn at_most_a_thousand_rows_are_handed_out() {
        let db = schema::memory().unwrap();
        let change = db.unchecked_transaction().unwrap();
        for n in 0..1_100 {
            put(&db, n, Edge { incident: Incident(n.to_string()), ..edge(EdgeKind::Alert, n) });
        }
        assert_eq!(pending(&db, "tg", usize::MAX).unwrap().len(), 1_000);
        assert_eq!(pending(&db, "tg", 0).unwrap().len(), 0);
        assert_eq!(backlog(&db, "tg").unwrap().pending, 1_100);
        change.commit().unwrap();
    }
}
