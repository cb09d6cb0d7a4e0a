//! The tables as lists of columns: to check every row that matters, and to copy tables between
//! the file and the memory when one has to stand in for the other.
//!
//! A row whose sum does not match its content is not believed and not copied. Copying never
//! stops at a damaged table: what can be read is saved, what cannot is counted.

use rusqlite::types::Value;
use rusqlite::{Connection, Result, params_from_iter};

use crate::core::edge::Edge;

use super::schema::sum;

/// The most rows copied from one table: a damaged tree could hand out the same rows for ever.
const COPIED_ROWS: usize = 1_000_000;

/// One table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, in the order used here.
    pub columns: &'static [&'static str],
    /// Which columns its last one is the sum of; empty for a table without sums.
    pub summed: &'static [usize],
}

/// The mark of the last commit.
pub const META: Table = Table { name: "meta", columns: &["one", "boot_id", "wall", "mono", "tick"], summed: &[] };
/// Signal states.
pub const SIGNALS: Table = Table { name: "signals", columns: &["key", "body", "sum"], summed: &[0, 1] };
/// What is still to be said.
pub const OUTBOX: Table = Table {
    name: "outbox",
    columns: &[
        "id", "tick", "channel", "key", "incident", "kind", "wall", "mono", "times", "first", "also", "body", "sum",
    ],
    summed: &[2, 11],
};
/// First messages of incidents.
pub const RECEIPTS: Table = Table {
    name: "receipts",
    columns: &["channel", "incident", "reference", "touched", "closed", "sum"],
    summed: &[0, 1, 2],
};
/// What channels asked to be remembered.
pub const REMEMBERED: Table =
    Table { name: "remembered", columns: &["id", "channel", "name", "value", "sum"], summed: &[1, 2, 3] };
/// The audit log; without its ids, which are given anew where it is copied to.
pub const HISTORY: Table =
    Table { name: "history", columns: &["at", "kind", "subject", "incident", "severity", "text"], summed: &[] };

/// The tables that must be right: without them a restart would repeat or forget.
pub const ESSENTIAL: [&Table; 5] = [&META, &SIGNALS, &OUTBOX, &RECEIPTS, &REMEMBERED];

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
    fn select(&self, tail: &str) -> String {
        format!("SELECT {} FROM {} {tail}", self.columns.join(", "), self.name)
    }

    /// True when the content is what was written, and the outbox's can be said.
    fn sound(&self, row: &[Value]) -> bool {
        let text = |column: &usize| match row.get(*column) {
            Some(Value::Text(text)) => text.as_str(),
            _ => "",
        };
        let fields: Vec<&str> = self.summed.iter().map(text).collect();
        let summed = fields.is_empty() || row.last() == Some(&Value::Integer(sum(&fields)));
        summed && (self.name != OUTBOX.name || serde_json::from_str::<Edge>(text(&11)).is_ok())
    }

    /// The first row that is not sound, by its number from 1; an error when one cannot be read.
    pub fn unsound(&self, db: &Connection) -> Result<Option<usize>> {
        let mut select = db.prepare(&self.select(""))?;
        let mut rows = select.query([])?;
        let mut number = 0;
        while let Some(row) = rows.next()? {
            number += 1;
            let values = (0..self.columns.len()).map(|column| row.get(column)).collect::<Result<Vec<Value>>>()?;
            if !self.sound(&values) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Copies the rows that `tail` (`WHERE …`) selects; a row already there is replaced.
    /// Errors are those of writing; reading that fails ends the copy and shows in the answer.
    pub fn copy(&self, from: &Connection, to: &Connection, tail: &str) -> Result<Copied> {
        let mut copied = Copied::default();
        let Ok(mut select) = from.prepare(&self.select(tail)) else { return Ok(copied) };
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
            match (0..self.columns.len()).map(|column| row.get(column)).collect::<Result<Vec<Value>>>() {
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
