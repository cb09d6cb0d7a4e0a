//! The tables as lists of columns: to check every row that matters, and to copy tables between
//! the file and the memory when one has to stand in for the other.
//!
//! A row whose sum does not match its content is not believed and not copied. Copying never
//! stops at a damaged table: what can be read is saved, what cannot is counted.

use std::borrow::Cow;

use rusqlite::types::{Type, Value};
use rusqlite::{Connection, Error, Result, Row, params_from_iter};

use crate::core::edge::Edge;

use super::schema::{self, sum};

/// The most rows copied from one table: a damaged tree could hand out the same rows for ever.
pub const COPIED_ROWS: usize = 1_000_000;

/// One table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, in the order used here.
    pub columns: &'static [&'static str],
    /// Which columns its last one is the sum of, whole numbers in decimal; empty for a table without sums.
    pub summed: &'static [usize],
    /// The first version of the file that has it.
    pub since: i32,
}

/// The mark of the last commit.
pub const META: Table =
    Table { name: "meta", columns: &["one", "boot_id", "wall", "mono", "tick"], summed: &[], since: 1 };
/// Signal states.
pub const SIGNALS: Table = Table { name: "signals", columns: &["key", "body", "sum"], summed: &[0, 1], since: 1 };
/// What is still to be said.
pub const OUTBOX: Table = Table {
    name: "outbox",
    columns: &[
        "id", "tick", "channel", "key", "incident", "kind", "wall", "mono", "times", "first", "also", "body", "sum",
    ],
    summed: &[2, 11],
    since: 1,
};
/// First messages of incidents.
pub const RECEIPTS: Table = Table {
    name: "receipts",
    columns: &["channel", "incident", "reference", "touched", "closed", "sum"],
    summed: &[0, 1, 2],
    since: 1,
};
/// What channels asked to be remembered.
pub const REMEMBERED: Table =
    Table { name: "remembered", columns: &["id", "channel", "name", "value", "sum"], summed: &[1, 2, 3], since: 1 };
/// The audit log; without its ids, which are given anew where it is copied to.
pub const HISTORY: Table = Table {
    name: "history",
    columns: &["at", "kind", "subject", "incident", "severity", "text"],
    summed: &[],
    since: 1,
};
/// What was written down of repairs. The id is part of the sum: it is the order.
pub const JOURNAL: Table = Table {
    name: "journal",
    columns: &["id", "saga", "target", "number", "wall", "body", "sum"],
    summed: &[0, 1, 2, 3, 4, 5],
    since: 2,
};
/// What is kept of targets, and the budget.
pub const TARGETS: Table = Table { name: "targets", columns: &["key", "body", "sum"], summed: &[0, 1], since: 2 };

/// The tables that must be right: without them a restart would repeat or forget.
pub const ESSENTIAL: [&Table; 7] = [&META, &SIGNALS, &OUTBOX, &RECEIPTS, &REMEMBERED, &JOURNAL, &TARGETS];
/// The tables whose rows are saved from a bad file. Signal states are not: they look at the world anew.
pub const SAVED: [&Table; 5] = [&OUTBOX, &RECEIPTS, &REMEMBERED, &JOURNAL, &TARGETS];

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Rows that are there now.
    pub rows: usize,
    /// Rows left out because their content is not what was written.
    pub unsound: usize,
    /// True when the table could be read to its end.
    pub whole: bool,
}

impl Table {
    /// The question for its rows; `tail` says which and in what order.
    pub fn select(&self, tail: &str) -> String {
        format!("SELECT {} FROM {} {tail}", self.columns.join(", "), self.name)
    }

    /// The values of one row, in the order of the columns. Text that is none is an error.
    pub fn values(&self, row: &Row<'_>) -> Result<Vec<Value>> {
        let value = |column| {
            let value = row.get_ref(column)?;
            // `Value::from` panics on it.
            if value.data_type() == Type::Text {
                value.as_str().map_err(|e| Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))?;
            }
            Ok(Value::from(value))
        };
        (0..self.columns.len()).map(value).collect()
    }

    /// True when the content is what was written, and the outbox's can be said.
    pub fn sound(&self, row: &[Value]) -> bool {
        let text = |column: &usize| match row.get(*column) {
            Some(Value::Text(text)) => Cow::Borrowed(text.as_str()),
            Some(Value::Integer(number)) => Cow::Owned(number.to_string()),
            _ => Cow::Borrowed(""),
        };
        let fields: Vec<Cow<'_, str>> = self.summed.iter().map(text).collect();
        let fields: Vec<&str> = fields.iter().map(AsRef::as_ref).collect();
        let summed = fields.is_empty() || row.last() == Some(&Value::Integer(sum(&fields)));
        summed && (self.name != OUTBOX.name || serde_json::from_str::<Edge>(&text(&11)).is_ok())
    }

    /// The first row that is not sound, by its number from 1; an error when one cannot be read.
    pub fn unsound(&self, db: &Connection) -> Result<Option<usize>> {
        let mut select = db.prepare(&self.select(""))?;
        let mut rows = select.query([])?;
        let mut number = 0;
        while let Some(row) = rows.next()? {
            number += 1;
            if !self.values(row).is_ok_and(|values| self.sound(&values)) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Copies at most `limit` rows; where the table cannot be read to its end, as many again from there
    /// backwards, if it is in the order of ids: of a journal the end matters most.
    pub fn rescue(&self, from: &Connection, to: &Connection, limit: usize) -> Result<Copied> {
        let copied = self.copy(from, to, &format!("LIMIT {limit}"))?;
        let whole = copied.whole && copied.rows + copied.unsound < limit;
        if whole || self.columns.first() != Some(&"id") {
            return Ok(Copied { whole, ..copied });
        }
        let backwards = self.copy(from, to, &format!("ORDER BY id DESC LIMIT {limit}"))?;
        let (rows, unsound) = (copied.rows + backwards.rows, copied.unsound + backwards.unsound);
        Ok(Copied { rows, unsound, whole })
    }

    /// Copies the rows that `tail` (`WHERE …`) selects; a row already there is replaced.
    /// Errors are those of writing; reading that fails ends the copy and shows in the answer. A table
    /// that a file of an earlier version does not have yet is whole and empty.
    pub fn copy(&self, from: &Connection, to: &Connection, tail: &str) -> Result<Copied> {
        let mut copied = Copied::default();
        let Ok(mut select) = from.prepare(&self.select(tail)) else {
            copied.whole = schema::of(from).is_ok_and(|version| version < self.since);
            return Ok(copied);
        };
        let places = vec!["?"; self.columns.len()].join(", ");
        let mut put = to.prepare(&format!(
            "INSERT OR REPLACE INTO {} ({}) VALUES ({places})",
            self.name,
            self.columns.join(", ")
        ))?;
        let Ok(mut rows) = select.query([]) else { return Ok(copied) };
        while copied.rows < COPIED_ROWS {
            let Ok(row) = rows.next() else { return Ok(copied) };
            let Some(row) = row else {
                copied.whole = true;
                break;
            };
            match self.values(row) {
                Ok(values) if self.sound(&values) => {
                    put.execute(params_from_iter(values))?;
                    copied.rows += 1;
                }
                _ => copied.unsound += 1,
            }
        }
        Ok(copied)
    }
}

/// The highest id that `table` has ever given.
pub fn last_id(db: &Connection, table: &Table) -> Result<i64> {
    db.query_row("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1", [table.name], |row| row.get(0))
}

/// Makes `table` give only ids above `id` from now on.
pub fn ids_above(db: &Connection, table: &Table, id: i64) -> Result<()> {
    let id = id.max(last_id(db, table)?);
    db.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [table.name])?;
    db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", rusqlite::params![table.name, id])?;
    Ok(())
}
