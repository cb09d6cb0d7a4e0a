//! What was written, before anybody judged it: TOML as a tree in which everything knows its line.
//!
//! Owns the reading of TOML and the laying of one layer over another. Errors name line, column and what
//! was expected there, in words of our own: never the text that was read, for it may hold a secret.

use std::collections::BTreeMap;

use toml_edit::{ImDocument, Item, TableLike, TomlError, Value};

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

/// One value with its place: that of its key, or its own where it is an entry of a list.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its place.
    pub at: At,
    /// What it is.
    pub raw: Raw,
}

/// A table.
pub type Dict = BTreeMap<String, Node>;

/// A value as TOML knows them.
#[derive(Debug, Clone)]
pub enum Raw {
    /// A text.
    Text(String),
    /// True or false.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// Any other number.
    Number(f64),
    /// A date or a time, of which no setting is one.
    Date,
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Dict),
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
pub fn read(text: &str, layer: u16) -> (Option<Dict>, Vec<Fault>) {
    let mut faults: Vec<Fault> = Vec::new();
    let mut text = text.to_string();
    loop {
        let error = match ImDocument::parse(text.as_str()) {
            Ok(document) => {
                let lines = Lines::of(&text);
                return (Some(table(document.as_table(), layer, &lines, 0)), faults);
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
pub fn value(text: &str, layer: u16) -> Result<Raw, String> {
    let line = format!("value = {text}");
    let document = ImDocument::parse(line.as_str()).map_err(|error| expected(error.message()))?;
    let found = table(document.as_table(), layer, &Lines::default(), 0).remove("value");
    Ok(found.map_or(Raw::List(Vec::new()), |node| node.raw))
}

/// Lays `over` on `base`: tables are joined key by key, lists are added up where `add` says so, and of anything else
/// the later one counts.
pub fn lay(base: &mut Dict, over: Dict, add: bool) {
    for (key, node) in over {
        match (base.get_mut(&key), node) {
            (Some(Node { raw: Raw::Table(below), .. }), Node { raw: Raw::Table(above), .. }) => lay(below, above, add),
            (Some(Node { raw: Raw::List(below), .. }), Node { raw: Raw::List(above), .. }) if add => {
                below.extend(above);
            }
            (_, node) => {
                base.insert(key, node);
            }
        }
    }
}

/// Where each line begins.
#[derive(Default)]
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect())
    }

    fn line(&self, at: usize) -> u32 {
        u32::try_from(self.0.partition_point(|begin| *begin <= at)).unwrap_or(u32::MAX - 1) + 1
    }
}

fn table(table: &dyn TableLike, layer: u16, lines: &Lines, around: u32) -> Dict {
    let mut dict = Dict::new();
    for (name, item) in table.iter() {
        let written = table.get_key_value(name).and_then(|(key, _)| key.span());
        let line = written.or_else(|| item.span()).map_or(around, |span| lines.line(span.start));
        if let Some(raw) = self::item(item, layer, lines, line) {
            dict.insert(name.to_string(), Node { at: At { layer, line }, raw });
        }
    }
    dict
}

fn item(item: &Item, layer: u16, lines: &Lines, line: u32) -> Option<Raw> {
    Some(match item {
        Item::None => return None,
        Item::Value(value) => scalar(value, layer, lines, line),
        Item::Table(inner) => Raw::Table(table(inner, layer, lines, line)),
        Item::ArrayOfTables(tables) => {
            let each = tables.iter().map(|inner| {
                let line = inner.span().map_or(line, |span| lines.line(span.start));
                Node { at: At { layer, line }, raw: Raw::Table(table(inner, layer, lines, line)) }
            });
            Raw::List(each.collect())
        }
    })
}

fn scalar(value: &Value, layer: u16, lines: &Lines, line: u32) -> Raw {
    match value {
        Value::String(text) => Raw::Text(text.value().clone()),
        Value::Integer(number) => Raw::Whole(*number.value()),
        Value::Float(number) => Raw::Number(*number.value()),
        Value::Boolean(flag) => Raw::Flag(*flag.value()),
        Value::Datetime(_) => Raw::Date,
        Value::InlineTable(inner) => Raw::Table(table(inner, layer, lines, line)),
        Value::Array(items) => {
            let each = items.iter().map(|inner| {
                let line = inner.span().map_or(line, |span| lines.line(span.start));
                Node { at: At { layer, line }, raw: scalar(inner, layer, lines, line) }
            });
            Raw::List(each.collect())
        }
    }
}

/// The fault, and the line that holds it as a range of bytes.
fn fault(text: &str, error: &TomlError) -> (Fault, std::ops::Range<usize>) {
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
        let text = "a = 1\n\n[t]\nb.c = \"x\"\n[[l]]\nn = 1\n[[l]]\nn = [\n  1,\n  2,\n]\n";
        let (dict, faults) = read(text, 3);
        assert!(faults.is_empty());
        let dict = dict.unwrap();
        assert_eq!(dict["a"].at, At { layer: 3, line: 1 });
        let Raw::Table(t) = &dict["t"].raw else { panic!() };
        assert_eq!(t["b"].at.line, 4);
        let Raw::List(l) = &dict["l"].raw else { panic!() };
        assert_eq!((l[0].at.line, l[1].at.line), (5, 7));
        let Raw::Table(second) = &l[1].raw else { panic!() };
        let Raw::List(numbers) = &second["n"].raw else { panic!() };
        assert_eq!((second["n"].at.line, numbers[1].at.line), (8, 10));
    }

    #[test]
    fn lines_that_cannot_be_read_are_all_named_and_the_rest_is_kept() {
        let text = "a = 1\nb = canary\nc = 2\nd: canary\ne = \"canary\ng = 3\n";
        let (dict, faults) = read(text, 0);
        let lines: Vec<(u32, Option<&str>)> = faults.iter().map(|f| (f.line, f.key.as_deref())).collect();
        assert_eq!(lines, [(2, Some("b")), (4, Some("d")), (5, Some("e"))], "{faults:?}");
        assert!(faults.iter().all(|f| !f.what.contains("canary")), "{faults:?}");
        assert_eq!(dict.unwrap().into_keys().collect::<Vec<_>>(), ["a", "c", "g"]);
    }

    #[test]
    fn where_a_table_begins_wrongly_nothing_behind_it_is_believed() {
        let (dict, faults) = read("a = 1\n[t\nb = 2\n", 0);
        assert!(dict.is_none());
        assert_eq!((faults[0].line, faults.len()), (2, 1), "{faults:?}");
    }

    #[test]
    fn a_key_that_is_there_twice_is_named_by_its_line_alone() {
        for text in ["canary = 1\ncanary = 2\n", "[canary]\n[canary]\n", "canary = 1\ncanary.x = 2\n"] {
            let (_, faults) = read(text, 0);
            assert_eq!(faults[0].line, 2, "{text} {faults:?}");
            assert!(!faults[0].what.contains("canary"), "{faults:?}");
        }
    }

    #[test]
    fn layers_join_tables_and_add_lists_only_between_files() {
        let parse = |text: &str, layer| read(text, layer).0.unwrap();
        for (add, count) in [(true, 2), (false, 1)] {
            let mut base = parse("x = 1\n[t]\na = 1\nb = 1\n[[l]]\nn = 1\n", 0);
            lay(&mut base, parse("x = 2\n[t]\nb = 2\n[[l]]\nn = 2\n", 1), add);
            let Raw::Table(t) = &base["t"].raw else { panic!() };
            assert_eq!((t["a"].at.layer, t["b"].at.layer, base["x"].at.layer), (0, 1, 1));
            let Raw::List(l) = &base["l"].raw else { panic!() };
            assert_eq!(l.len(), count);
        }
    }
}
