//! The audit log: bounded, oldest lines go first, a few at a time.
//!
//! Written in the same transaction as what it tells of. Never read to decide anything.

use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, Result, Row, params, params_from_iter};

use crate::core::edge::{Edge, Incident};
use crate::core::signal::Severity;
use crate::core::time::Wall;

use super::{Filter, HistoryEntry};

/// Lines kept in a file.
pub const ROWS_ON_FILE: i64 = 100_000;
/// Lines kept in memory.
pub const ROWS_IN_MEMORY: i64 = 10_000;
/// How long lines are kept.
const KEPT: Duration = Duration::from_hours(30 * 24);
/// The most lines one question is answered with.
const ANSWER_ROWS: usize = 10_000;
/// The most characters of one line.
const TEXT_CHARS: usize = 2_000;
/// Old lines removed by one write beyond what it added itself.
const SWEEP_ROWS: i64 = 64;

/// The line for an edge that was decided.
pub fn decided(edge: &Edge) -> HistoryEntry {
    let reason = if edge.reason.is_empty() { String::new() } else { format!(" ({})", edge.reason) };
    HistoryEntry {
        at: edge.at,
        kind: edge.kind.as_str().to_string(),
        subject: edge.key.to_string(),
        incident: Some(edge.incident.clone()),
        severity: Some(edge.severity),
        text: format!("{}: {}{reason}", edge.title, edge.fact),
    }
}

/// The line for an edge that a channel acknowledged.
pub fn delivered(at: Wall, channel: &str, edge: &Edge) -> HistoryEntry {
    HistoryEntry {
        at,
        kind: "delivered".to_string(),
        subject: edge.key.to_string(),
        incident: Some(edge.incident.clone()),
        severity: Some(edge.severity),
        text: format!("{} told on {channel}", edge.kind.as_str()),
    }
}

/// Adds lines, and removes lines that are beyond `rows` or too old: at most 64 more than twice
/// those added, so that no write waits for a large clean-up.
pub fn append(db: &Connection, now: Wall, lines: &[HistoryEntry], rows: i64) -> Result<()> {
    let mut add = db.prepare_cached(
        "INSERT INTO history (at, kind, subject, incident, severity, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for line in lines {
        let text = match line.text.char_indices().nth(TEXT_CHARS) {
            Some((end, _)) => line.text.get(..end).unwrap_or_default(),
            None => &line.text,
        };
        add.execute(params![
            line.at.0,
            line.kind,
            line.subject,
            line.incident.as_ref().map(|incident| &incident.0),
            line.severity.map(Severity::as_str),
            text
        ])?;
    }
    let added = i64::try_from(lines.len()).unwrap_or(i64::MAX);
    db.prepare_cached(
        "DELETE FROM history WHERE id IN (SELECT id FROM history ORDER BY id LIMIT ?1)
         AND (at < ?2 OR id <= (SELECT max(id) FROM history) - ?3)",
    )?
    .execute(params![added.saturating_mul(2).saturating_add(SWEEP_ROWS), now.minus(KEPT).0, rows])?;
    Ok(())
}

/// The lines that match, newest first.
pub fn select(db: &Connection, filter: &Filter) -> Result<Vec<HistoryEntry>> {
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    if let Some(subject) = &filter.subject {
        conditions.push("subject = ?");
        values.push(Value::from(subject.clone()));
    }
    if let Some(incident) = &filter.incident {
        conditions.push("incident = ?");
        values.push(Value::from(incident.0.clone()));
    }
    if let Some(since) = filter.since {
        conditions.push("at >= ?");
        values.push(Value::from(since.0));
    }
    values.push(Value::from(i64::try_from(filter.limit.min(ANSWER_ROWS)).unwrap_or(0)));
    let conditions = if conditions.is_empty() { "TRUE".to_string() } else { conditions.join(" AND ") };
    // "+id": with a condition on a column that has an index its index is used to find and the few found are sorted, instead of
    // walking the whole log backwards.
    let is_indexed = filter.subject.is_some() || filter.since.is_some();
    let order = if is_indexed { "+id" } else { "id" };
    db.prepare_cached(&format!(
        "SELECT at, kind, subject, incident, severity, text FROM history WHERE {conditions} ORDER BY {order} DESC LIMIT ?"
    ))?
    .query_map(params_from_iter(values), entry)?
    .collect()
}

fn entry(row: &Row<'_>) -> Result<HistoryEntry> {
    let severity: Option<String> = row.get(4)?;
    Ok(HistoryEntry {
        at: Wall(row.get(0)?),
        kind: text(row, 1)?,
        subject: text(row, 2)?,
        incident: row.get::<_, Option<String>>(3)?.map(Incident),
        severity: severity.and_then(|word| {
            [Severity::Critical, Severity::Warning, Severity::Info].into_iter().find(|known| known.as_str() == word)
        }),
        text: text(row, 5)?,
    })
}

/// Text that damage may have made into something else: a log is read as far as it can be.
fn text(row: &Row<'_>, column: usize) -> Result<String> {
    Ok(String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    fn line(at: i64, subject: &str, text: &str) -> HistoryEntry {
        HistoryEntry {
            at: Wall(at),
            kind: "alert".to_string(),
            subject: subject.to_string(),
            incident: None,
            severity: None,
            text: text.to_string(),
        }
    }

    #[test]
    fn the_log_keeps_its_bound_and_the_newest_lines() {
        let db = schema::memory().unwrap();
        for n in 0..500 {
            append(&db, Wall(n), &[line(n, "a", &n.to_string())], 100).unwrap();
        }
        let kept = select(&db, &Filter { limit: 1_000, ..Filter::default() }).unwrap();
        assert_eq!((kept.len(), kept[0].text.as_str(), kept[99].text.as_str()), (100, "499", "400"));
    }

    #[test]
    fn old_lines_go_a_few_at_a_time() {
        let db = schema::memory().unwrap();
        let old: Vec<_> = (0..500).map(|n| line(n, "a", "old")).collect();
        append(&db, Wall(500), &old, 1_000).unwrap();
        let later = Wall(500).minus(Duration::ZERO).0 + i64::try_from(KEPT.as_millis()).unwrap();
        let mut before = 500;
        while before > 0 {
            append(&db, Wall(later), &[], 1_000).unwrap();
            let left: i64 = db.query_row("SELECT count(*) FROM history", [], |row| row.get(0)).unwrap();
            assert!(left < before && before - left <= SWEEP_ROWS);
            before = left;
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let db = schema::memory().unwrap();
        append(&db, Wall(0), &[line(0, "a", &"ü".repeat(5_000))], 10).unwrap();
        let kept = select(&db, &Filter { limit: 1, ..Filter::default() }).unwrap();
        assert_eq!(kept[0].text.chars().count(), TEXT_CHARS);
    }

    #[test]
    fn a_damaged_line_is_still_read() {
        let db = schema::memory().unwrap();
        append(&db, Wall(0), &[line(0, "a", "x")], 10).unwrap();
        db.execute("UPDATE history SET text = CAST(x'ff41' AS TEXT)", []).unwrap();
        assert_eq!(select(&db, &Filter { limit: 1, ..Filter::default() }).unwrap()[0].text, "\u{fffd}A");
    }

    #[test]
    fn questions_use_an_index_and_never_walk_the_whole_log() {
        let db = schema::memory().unwrap();
        for (conditions, order) in
            [("subject = ?", "+id"), ("at >= ?", "+id"), ("subject = ? AND at >= ?", "+id"), ("TRUE", "id")]
        {
            let plan: String = db
                .query_row(
                    &format!(
                        "EXPLAIN QUERY PLAN SELECT text FROM history WHERE {conditions} ORDER BY {order} DESC LIMIT ?"
                    ),
                    rusqlite::params_from_iter(std::iter::repeat_n(1, conditions.matches('?').count() + 1)),
                    |row| row.get(3),
                )
                .unwrap();
            assert!(conditions == "TRUE" || plan.starts_with("SEARCH"), "{conditions}: {plan}");
        }
    }
}
