//! What was written, before anybody judged it: TOML as values of `figment`, and beside them the line of each.
//!
//! Owns the reading of TOML. Errors name line, column and what was expected there, in words of our own: never the
//! text that was read, for it may hold a secret.

use std::collections::BTreeMap;
use std::ops::Range;

use figment::value::{Dict, Empty, Tag, Value};
use toml_edit::{ImDocument, Item, TableLike, TomlError};

/// The mistakes in the form of one file that are told at once.
const FAULTS: usize = 16;

/// Where something was written: the layer by its number, and the line, from 1; 0 where there are no lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At {
    /// The place of the layer in the list of layers.
    pub layer: u16,
    /// Its line.
    pub line: u32,
}

/// Where one key of a layer was written, and what is below it.
#[derive(Debug, Default)]
pub struct Mark {
    /// Its line.
    pub line: u32,
    /// The keys of a table; `None` for anything else.
    pub keys: Option<BTreeMap<String, Mark>>,
    /// The entries of a list.
    pub entries: Vec<Entry>,
}

/// Where one entry of a list was written. There may be ten thousand, so only numbers are kept.
#[derive(Debug, Default)]
pub struct Entry {
    /// Its line.
    pub line: u32,
    /// The lines of its keys, in the order of their names, when it is a table.
    pub lines: Box<[u32]>,
}

/// One text, read.
#[derive(Debug)]
pub struct Written {
    /// Its values.
    pub dict: Dict,
    /// Where they are.
    pub mark: Mark,
}

/// One mistake in the form of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its line, from 1.
    pub line: u32,
    /// Its column, from 1.
    pub column: u32,
    /// What was expected. Nothing of the text is in it.
    pub what: String,
    /// The key that stands at the head of the line, where there is one.
    pub key: Option<String>,
}

/// Reads one text. A line that cannot be read is left out, so that the other mistakes are found as well; without a
/// tree the text could not be read even so.
pub fn read(text: &str) -> (Option<Written>, Vec<Fault>) {
    let mut faults: Vec<Fault> = Vec::new();
    let mut text = text.to_string();
    loop {
        let error = match ImDocument::parse(text.as_str()) {
            Ok(document) => {
                let lines = Lines::of(&text);
                let root = document.as_table();
                return (Some(Written { dict: table(root), mark: lines.mark_table(root, 0) }), faults);
            }
            Err(error) => error,
        };
        let (fault, range) = fault(&text, &error);
        // Only a line that is one key with its value can be left out without changing what the others mean.
        let goes_on = fault.key.is_some() && faults.iter().all(|f| f.line != fault.line) && faults.len() + 1 < FAULTS;
        let blank: String = text.get(range.clone()).unwrap_or_default().chars().map(|_| ' ').collect();
        faults.push(fault);
        if !goes_on {
            return (None, faults);
        }
        text.replace_range(range, &blank);
    }
}

/// One value, as it stands behind a `=`.
pub fn value(text: &str) -> Result<Value, String> {
    let line = format!("value = {text}");
    let document = ImDocument::parse(line.as_str()).map_err(|error| expected(error.message()))?;
    Ok(table(document.as_table()).remove("value").unwrap_or_else(|| list(std::iter::empty())))
}

fn table(table: &dyn TableLike) -> Dict {
    table.iter().filter_map(|(name, item)| Some((name.to_string(), self::item(item)?))).collect()
}

fn item(item: &Item) -> Option<Value> {
    Some(match item {
        Item::None => return None,
        Item::Value(value) => scalar(value),
        Item::Table(inner) => dict(table(inner)),
        Item::ArrayOfTables(tables) => list(tables.iter().map(|inner| dict(table(inner)))),
    })
}

fn scalar(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(flag) => Value::from(*flag.value()),
        // No setting is a date or a time.
        toml_edit::Value::Datetime(_) => Value::Empty(Tag::Default, Empty::Unit),
        toml_edit::Value::InlineTable(inner) => dict(table(inner)),
        toml_edit::Value::Array(items) => list(items.iter().map(scalar)),
    }
}

/// A table as a value; figment's own conversion copies it.
pub fn dict(dict: Dict) -> Value {
    Value::Dict(Tag::Default, dict)
}

/// A list as a value.
pub fn list(items: impl Iterator<Item = Value>) -> Value {
    Value::Array(Tag::Default, items.collect())
}

impl From<&Dict> for Mark {
    /// Marks without lines, for what was not written in a text.
    fn from(dict: &Dict) -> Mark {
        let one = |(name, value): (&String, &Value)| {
            let mark = value.as_dict().map_or_else(Mark::default, Mark::from);
            (name.clone(), mark)
        };
        Mark { keys: Some(dict.iter().map(one).collect()), ..Mark::default() }
    }
}

/// Where each line begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect())
    }

    fn line(&self, at: usize) -> u32 {
        u32::try_from(self.0.partition_point(|begin| *begin <= at)).unwrap_or(u32::MAX - 1) + 1
    }

    fn mark_table(&self, table: &dyn TableLike, line: u32) -> Mark {
        let below = self.keys(table, line).map(|(name, item, line)| (name.to_string(), self.mark(item, line)));
        Mark { line, keys: Some(below.collect()), entries: Vec::new() }
    }

    fn mark<'a>(&self, item: &'a Item, line: u32) -> Mark {
        if let Some(table) = item.as_table_like() {
            return self.mark_table(table, line);
        }
        let entries = match item {
            Item::ArrayOfTables(tables) => {
                tables.iter().map(|table| self.entry(table.span(), Some(table), line)).collect()
            }
            Item::Value(toml_edit::Value::Array(items)) => {
                let inner = |item: &'a toml_edit::Value| item.as_inline_table().map(|inner| inner as &dyn TableLike);
                items.iter().map(|item| self.entry(item.span(), inner(item), line)).collect()
            }
            _ => Vec::new(),
        };
        Mark { line, keys: None, entries }
    }

    fn entry(&self, span: Option<Range<usize>>, table: Option<&dyn TableLike>, around: u32) -> Entry {
        let line = span.map_or(around, |span| self.line(span.start));
        let keys = table.into_iter().flat_map(|table| self.keys(table, line));
        let by_name: BTreeMap<&str, u32> = keys.map(|(name, _, line)| (name, line)).collect();
        Entry { line, lines: by_name.into_values().collect() }
    }

    /// Each key of a table with its line: that of the key, or else of its value, or else of what is around it.
    fn keys<'a>(&self, table: &'a dyn TableLike, around: u32) -> impl Iterator<Item = (&'a str, &'a Item, u32)> {
        table.iter().filter(|(_, item)| !item.is_none()).map(move |(name, item)| {
            let written = table.get_key_value(name).and_then(|(key, _)| key.span());
            let line = written.or_else(|| item.span()).map_or(around, |span| self.line(span.start));
            (name, item, line)
        })
    }
}

/// The fault, and the line that holds it as a range of bytes.
fn fault(text: &str, error: &TomlError) -> (Fault, Range<usize>) {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (before, after) = text.split_at(at);
    // What is missing at the end of a line is found at its line end, which belongs to it.
    let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = after.find('\n').map_or(text.len(), |newline| at + newline);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX - 1) + 1;
    let fault = Fault {
        line: number(before.matches('\n').count()),
        column: number(text.get(begin..at).unwrap_or_default().chars().count()),
        what: expected(error.message()),
        key: text.get(begin..end).and_then(key_of).map(str::to_string),
    };
    (fault, begin..end)
}

/// The key at the head of a line that is one key and its value.
fn key_of(line: &str) -> Option<&str> {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let line = line.trim_start();
    let end = line.find(|c: char| !is_bare(c)).unwrap_or(line.len());
    let (key, rest) = line.split_at_checked(end)?;
    let is_value = rest.trim_start().starts_with(['=', ':']);
    (is_value && !key.is_empty()).then_some(key)
}

/// What the reader of TOML says was wrong, without the names that it found.
fn expected(message: &str) -> String {
    // The only sentences of its that repeat what was read.
    if message.contains("duplicate key") {
        return "this key or table is defined twice; keep one of the two".to_string();
    }
    if message.contains("dotted key") {
        return "this key is a value already and cannot be a table, too".to_string();
    }
    let known = |line: &&str| line.starts_with("invalid ") || line.starts_with("expected ");
    let parts: Vec<&str> = message.lines().map(str::trim).filter(known).collect();
    match parts.as_slice() {
        [] => "this is not TOML; texts stand in quotes: key = \"value\"".to_string(),
        parts => format!("this is not TOML: {}", parts.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_knows_its_line() {
        let text = "a = 1\n\n[t]\nb.c = \"x\"\n[[l]]\nz = 1\n[[l]]\nz = 2\nn = [\n  1,\n  2,\n]\n[m]\nk = [\n  1,\n  {y = 1, x = 2},\n]\n";
        let (written, faults) = read(text);
        assert!(faults.is_empty());
        let Written { dict, mark } = written.unwrap();
        let keys = mark.keys.as_ref().unwrap();
        assert_eq!(keys["a"].line, 1);
        let below = keys["t"].keys.as_ref().unwrap();
        assert_eq!((below["b"].line, below["b"].keys.as_ref().unwrap()["c"].line), (4, 4));
        let places = |entries: &[Entry]| entries.iter().map(|e| (e.line, e.lines.to_vec())).collect::<Vec<_>>();
        assert_eq!(places(&keys["l"].entries), [(5, vec![6]), (7, vec![9, 8])], "by the names of their keys");
        assert_eq!(places(&keys["m"].keys.as_ref().unwrap()["k"].entries), [(15, vec![]), (16, vec![16, 16])]);
        assert_eq!(dict["l"].as_array().unwrap()[1].find_ref("z").unwrap().to_i128(), Some(2));
    }

    #[test]
    fn lines_that_cannot_be_read_are_all_named_and_the_rest_is_kept() {
        let text = "a = 1\nb = canary\nc = 2\nd: canary\ne = \"canary\ng = 3\n";
        let (written, faults) = read(text);
        let lines: Vec<(u32, Option<&str>)> = faults.iter().map(|f| (f.line, f.key.as_deref())).collect();
        assert_eq!(lines, [(2, Some("b")), (4, Some("d")), (5, Some("e"))], "{faults:?}");
        assert!(faults.iter().all(|f| !f.what.contains("canary")), "{faults:?}");
        assert_eq!(written.unwrap().dict.into_keys().collect::<Vec<_>>(), ["a", "c", "g"]);
    }

    #[test]
    fn where_a_table_begins_wrongly_nothing_behind_it_is_believed() {
        let (written, faults) = read("a = 1\n[t\nb = 2\n");
        assert!(written.is_none());
        assert_eq!((faults[0].line, faults.len()), (2, 1), "{faults:?}");
    }

    #[test]
    fn a_key_that_is_there_twice_is_named_by_its_line_alone() {
        for text in ["canary = 1\ncanary = 2\n", "[canary]\n[canary]\n", "canary = 1\ncanary.x = 2\n"] {
            let (_, faults) = read(text);
            assert_eq!(faults[0].line, 2, "{text} {faults:?}");
            assert!(!faults[0].what.contains("canary"), "{faults:?}");
        }
    }
}
