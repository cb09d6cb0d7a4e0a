//! Where each value was written. Tables of a list may be ten thousand: of them only numbers are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::raw::At;

/// The environment prefix of every key.
pub const PREFIX: &str = "WATCHDOG_";

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// A text that came from nowhere.
    Text,
    /// The variables.
    Environment,
    /// The flags.
    CommandLine,
}

/// All layers, and what each brought.
#[derive(Debug, Clone, Default)]
pub struct Places {
    layers: Vec<Origin>,
    /// By dotted key, outside of lists.
    keys: BTreeMap<String, At>,
    /// By the path of the list.
    tables: BTreeMap<String, Vec<Table>>,
}

/// One table of a list.
#[derive(Debug, Clone)]
pub struct Table {
    /// Where it begins.
    pub at: At,
    /// The lines of its keys, in the order of their names.
    pub lines: Box<[u32]>,
}

/// The variable that sets `key`.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

impl Places {
    /// Of these layers.
    pub fn new(layers: Vec<Origin>) -> Places {
        Places { layers, ..Places::default() }
    }

    /// The value of `key` counts from there.
    pub fn key(&mut self, key: &str, at: At) {
        self.keys.insert(key.to_string(), at);
    }

    /// The next table of the list at `path`.
    pub fn table(&mut self, path: &str, table: Table) {
        if let Some(tables) = self.tables.get_mut(path) {
            tables.push(table);
        } else {
            self.tables.insert(path.to_string(), vec![table]);
        }
    }

    /// A place in words; `key` says which variable it would be.
    pub fn words(&self, key: &str, at: At) -> String {
        let file = match self.layers.get(usize::from(at.layer)) {
            Some(Origin::File(path)) => path.display().to_string(),
            Some(Origin::Environment) => {
                let above = key.split('[').next().unwrap_or(key);
                return format!("environment variable {}", variable(above));
            }
            Some(Origin::CommandLine) => return "command line".to_string(),
            Some(Origin::Text) | None => "configuration".to_string(),
        };
        if at.line == 0 { file } else { format!("{file}:{}", at.line) }
    }

    /// Where the value of `key` was written, or the table that it would be in; `None` for a default.
    pub fn find(&self, key: &str, values: &Map<String, Value>) -> Option<String> {
        let mut part = key;
        loop {
            if let Some(at) = self.at(part, values) {
                return Some(self.words(part, at));
            }
            // The entry of a map stands where its map stands, what nobody wrote where its table stands.
            let above = part.rsplit_once('.').map(|(above, _)| above)?;
            // A key that nobody set stands nowhere, although its section does.
            if !above.contains(['.', '[']) {
                return None;
            }
            part = above;
        }
    }

    /// The file and line of the section that `key` belongs to, for a key that is missing in it.
    pub fn section(&self, key: &str) -> Option<String> {
        let section = key.split('.').next().filter(|section| section.len() < key.len())?;
        let at = self.keys.get(section)?;
        match self.layers.get(usize::from(at.layer))? {
            Origin::File(_) | Origin::Text => Some(self.words(section, *at)),
            Origin::Environment | Origin::CommandLine => None,
        }
    }

    fn at(&self, key: &str, values: &Map<String, Value>) -> Option<At> {
        let Some((list, rest)) = key.split_once('[') else { return self.keys.get(key).copied() };
        let (number, field) = rest.split_once(']')?;
        let index: usize = number.parse().ok()?;
        let Some(field) = field.strip_prefix('.') else { return self.at_field(list, index, None) };
        let fields = walk(values, list)?.get(index)?.as_object()?;
        self.at_field(list, index, Some(fields.keys().position(|name| name == field)?))
    }

    /// The place of a table, or of the key in it that is the `position`-th by name.
    fn at_field(&self, list: &str, index: usize, position: Option<usize>) -> Option<At> {
        let table = self.tables.get(list)?.get(index)?;
        match position {
            None => Some(table.at),
            Some(position) => Some(At { line: *table.lines.get(position)?, ..table.at }),
        }
    }

    /// The same in words.
    pub fn line_in(&self, list: &str, index: usize, position: Option<usize>) -> Option<String> {
        self.at_field(list, index, position).map(|at| self.words(list, at))
    }
}

/// The value at a dotted path.
pub fn walk<'a>(values: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let found = values.get(first)?;
    rest.into_iter().flat_map(|rest| rest.split('.')).try_fold(found, |value, name| value.get(name))
}
