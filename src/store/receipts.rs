//! What channels gave back: the first message of each incident, to answer to, and what they
//! asked to be remembered (a migrated chat).
//!
//! Bounded: receipts go 7 days after their incident was told to be over, or 30 days after they
//! were last of use, or when a channel has more than 10,000.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Result, params};

use crate::core::edge::{Edge, Incident};
use crate::core::message::Receipt;
use crate::core::time::Wall;

use super::schema::sum;

const DAY: u64 = 86_400;
/// How long the receipt of a closed incident is kept.
const CLOSED_KEPT: Duration = Duration::from_secs(7 * DAY);
/// How long a receipt is kept that nothing was said about.
const IDLE_KEPT: Duration = Duration::from_secs(30 * DAY);
/// Receipts per channel.
const RECEIPTS: i64 = 10_000;
/// Remembered names per channel.
const NAMES: i64 = 100;

/// Keeps the receipt for each incident that has none yet, and notes which incidents are over.
pub fn keep(
    db: &Connection,
    now: Wall,
    channel: &str,
    incidents: &[Incident],
    edges: &[Edge],
    receipt: &Receipt,
) -> Result<()> {
    if let Some(reference) = &receipt.reference {
        let mut put = db.prepare_cached(
            "INSERT INTO receipts (channel, incident, reference, touched, closed, sum) VALUES (?1, ?2, ?3, ?4, NULL, ?5)
             ON CONFLICT (channel, incident) DO UPDATE SET touched = ?4",
        )?;
        for Incident(incident) in incidents {
            put.execute(params![channel, incident, reference, now.0, sum(&[channel, incident, reference])])?;
        }
    }
    let mut close =
        db.prepare_cached("UPDATE receipts SET closed = ?3 WHERE channel = ?1 AND incident = ?2 AND closed IS NULL")?;
    for edge in edges.iter().filter(|edge| edge.kind.closes()) {
        close.execute(params![channel, edge.incident.0, now.0])?;
    }
    db.prepare_cached("DELETE FROM receipts WHERE channel = ?1 AND (closed < ?2 OR touched < ?3)")?
        .execute(params![channel, now.minus(CLOSED_KEPT).0, now.minus(IDLE_KEPT).0])?;
    db.prepare_cached(
        "DELETE FROM receipts WHERE channel = ?1 AND incident IN
         (SELECT incident FROM receipts WHERE channel = ?1 ORDER BY touched DESC, incident LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![channel, RECEIPTS])?;
    match &receipt.remember {
        Some((name, value)) => remember(db, channel, name, value),
        None => Ok(()),
    }
}

/// The receipt of the first message about `incident`.
pub fn reference(db: &Connection, channel: &str, incident: &Incident) -> Result<Option<String>> {
    db.prepare_cached("SELECT reference FROM receipts WHERE channel = ?1 AND incident = ?2")?
        .query_row([channel, &incident.0], |row| row.get(0))
        .optional()
}

/// Everything remembered for `channel`.
pub fn remembered(db: &Connection, channel: &str) -> Result<BTreeMap<String, String>> {
    db.prepare_cached("SELECT name, value FROM remembered WHERE channel = ?1")?
        .query_map([channel], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Remembers a value; the oldest names make room.
pub fn remember(db: &Connection, channel: &str, name: &str, value: &str) -> Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO remembered (channel, name, value, sum) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![channel, name, value, sum(&[channel, name, value])])?;
    db.prepare_cached(
        "DELETE FROM remembered WHERE channel = ?1 AND id IN
         (SELECT id FROM remembered WHERE channel = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![channel, NAMES])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::edge::EdgeKind;
    use crate::core::signal::{Severity, SignalKey};
    use crate::store::schema;

    fn incident(name: &str) -> Incident {
        Incident(name.to_string())
    }

    fn receipt(reference: &str) -> Receipt {
        Receipt { reference: Some(reference.to_string()), remember: None }
    }

    fn recovery(name: &str) -> Edge {
        Edge {
            kind: EdgeKind::Recovery,
            key: SignalKey::new("a"),
            title: String::new(),
            severity: Severity::Info,
            fact: String::new(),
            since: Wall(0),
            at: Wall(0),
            lasted: Duration::ZERO,
            incident: incident(name),
            reason: String::new(),
            ..Edge::default()
        }
    }

    fn days(n: i64) -> Wall {
        Wall(n * 86_400_000)
    }

    #[test]
    fn the_first_message_of_an_incident_is_the_one_to_answer_to() {
        let db = schema::memory().unwrap();
        keep(&db, days(0), "tg", &[incident("a"), incident("b")], &[], &receipt("1")).unwrap();
        keep(&db, days(1), "tg", &[incident("a")], &[], &receipt("2")).unwrap();
        assert_eq!(reference(&db, "tg", &incident("a")).unwrap().as_deref(), Some("1"));
        assert_eq!(reference(&db, "other", &incident("a")).unwrap(), None);
    }

    #[test]
    fn receipts_go_a_week_after_the_end_and_a_month_after_the_last_word() {
        let db = schema::memory().unwrap();
        keep(&db, days(0), "tg", &[incident("over"), incident("idle"), incident("busy")], &[], &receipt("1")).unwrap();
        keep(&db, days(1), "tg", &[incident("over")], &[recovery("over")], &receipt("2")).unwrap();
        keep(&db, days(8), "tg", &[incident("busy")], &[], &receipt("3")).unwrap();
        assert!(reference(&db, "tg", &incident("over")).unwrap().is_some());
        keep(&db, days(9), "tg", &[incident("busy")], &[], &receipt("3")).unwrap();
        assert!(reference(&db, "tg", &incident("over")).unwrap().is_none());
        keep(&db, days(31), "tg", &[], &[], &Receipt::default()).unwrap();
        assert!(reference(&db, "tg", &incident("idle")).unwrap().is_none());
        assert!(reference(&db, "tg", &incident("busy")).unwrap().is_some());
    }

    #[test]
    fn receipts_and_names_hold_their_bounds_and_keep_the_newest() {
        let db = schema::memory().unwrap();
        let change = db.unchecked_transaction().unwrap();
        let many: Vec<_> = (0..RECEIPTS + 50).map(|n| incident(&format!("{n}"))).collect();
        keep(&db, days(0), "tg", &many, &[], &receipt("1")).unwrap();
        keep(&db, days(1), "tg", &[incident("new")], &[], &receipt("2")).unwrap();
        let count: i64 = db.query_row("SELECT count(*) FROM receipts", [], |row| row.get(0)).unwrap();
        assert_eq!(count, RECEIPTS);
        assert!(reference(&db, "tg", &incident("new")).unwrap().is_some());
        for n in 0..NAMES + 20 {
            remember(&db, "tg", &format!("name {n}"), "v").unwrap();
        }
        remember(&db, "tg", "name 119", "w").unwrap();
        let names = remembered(&db, "tg").unwrap();
        assert_eq!((names.len(), names["name 119"].as_str(), names.contains_key("name 0")), (100, "w", false));
        change.commit().unwrap();
    }
}
