//! Checks every key and value against what the program knows, and says where each came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use figment::value::{Dict, Num, Value as Raw};
use serde_json::{Map, Value};

use super::Problem;
use super::merged::{Merged, Sources};
use super::places::{self, Places};
use super::problem::called;
use super::raw::{At, Entry};
use super::schema::{Field, Identity, Kind, Section};
use super::value::Span;
use super::veil;

/// Values in the form that settings structs deserialize from, and the place of each key. What is wrong is left out
/// and named among the problems.
pub struct Checked {
    pub values: Map<String, Value>,
    pub places: Places,
    pub problems: Vec<Problem>,
    /// Keys of which something has been said.
    pub refused: BTreeSet<String>,
}

/// Checks the merged layers.
pub fn check(merged: Merged, schema: &[Section]) -> Checked {
    let Merged { root, origins, sources } = merged;
    let mut walk = Walk { problems: Vec::new(), refused: BTreeSet::new(), places: Places::new(origins), sources };
    let mut values = Map::new();
    let own = schema.iter().find(|s| s.path.is_empty());
    let fields = own.map(|s| s.fields).unwrap_or_default();
    let defaults = own.map_or(Value::Null, |s| (s.defaults)());
    for (key, raw) in root {
        let at = walk.sources.at(&[&key], &raw);
        if let Some(field) = fields.iter().find(|f| f.name == key) {
            let seat = Seat { key: &key, field, default: defaults.get(field.name), at, table: None };
            walk.keep(&mut values, &seat, &[&key], raw);
        } else if let Some(section) = schema.iter().find(|s| !s.path.is_empty() && s.path == key) {
            if let Some(value) = walk.section(section, &key, at, raw) {
                values.insert(key, value);
            }
        } else {
            let names = fields.iter().map(|f| f.name).chain(schema.iter().map(|s| s.path)).filter(|n| !n.is_empty());
            let what = nearest("unknown key", &key, names);
            walk.refuse(veil::key(&key), at, None, what);
        }
    }
    Checked { values, places: walk.places, problems: walk.problems, refused: walk.refused }
}

/// Every key that may be set from the environment, dotted.
pub fn all_keys(schema: &[Section]) -> Vec<String> {
    let mut keys = Vec::new();
    for section in schema {
        if section.list {
            keys.push(section.path.to_string());
        } else if section.may_be_plain {
            keys.push(section.path.to_string());
            keys.extend(section.fields.iter().map(|f| format!("{}.{}", section.path, f.name)));
        } else if section.path.is_empty() {
            keys.extend(section.fields.iter().map(|f| f.name.to_string()));
        } else {
            keys.extend(section.fields.iter().map(|f| format!("{}.{}", section.path, f.name)));
        }
    }
    keys
}

/// `lead`, and the known name nearest to `wrong` if one is near.
pub fn nearest<'a>(lead: &str, wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best = known
        .map(|name| (strsim::normalized_damerau_levenshtein(wrong, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= 0.5);
    match best {
        Some((_, name)) => format!("{lead}; did you mean `{name}`?"),
        None => lead.to_string(),
    }
}

/// `lead`, the nearest of `words` if one is near, and all of them.
pub fn one_of(lead: &str, wrong: &str, words: &[&str]) -> String {
    let mut what = nearest(lead, wrong, words.iter().copied());
    let join = if what.ends_with('?') { " One of" } else { "; one of" };
    let _ = write!(what, "{join} {}.", words.join(", "));
    what
}

/// Where a value stands.
struct Seat<'a> {
    key: &'a str,
    field: &'a Field,
    default: Option<&'a Value>,
    at: At,
    /// The table of a list that it is in.
    table: Option<&'a str>,
}

impl Seat<'_> {
    /// A right line in place of the wrong one.
    fn example(&self) -> String {
        let right = match (self.field.kind, self.default) {
            (Kind::Tables(_), _) => return format!("write [[{}]]", self.key.split('[').next().unwrap_or(self.key)),
            (Kind::Secret, _) => "\"…\"".to_string(),
            (_, Some(default)) if is_example(default) => default.to_string(),
            (Kind::Text, _) => "\"text\"".to_string(),
            (Kind::Flag, _) => "true".to_string(),
            (Kind::Count(_), _) => "3".to_string(),
            (Kind::Number, _) => "1.5".to_string(),
            (Kind::Span, _) => "\"15s\"".to_string(),
            (Kind::List | Kind::Texts, _) => "[\"a\", \"b\"]".to_string(),
            (Kind::ListOr(word), _) => format!("[\"a\", \"b\"] or {} = \"{word}\"", self.field.name),
            (Kind::Map, _) => "{ Accept = \"text/plain\" }".to_string(),
            (Kind::Choice(words), _) => format!("\"{}\"", words.first().unwrap_or(&"")),
        };
        format!("write for example {} = {right}", self.field.name)
    }
}

/// Says something, as TOML writes it on one line.
fn is_example(value: &Value) -> bool {
    match value {
        Value::Null | Value::Object(_) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

struct Walk {
    problems: Vec<Problem>,
    refused: BTreeSet<String>,
    places: Places,
    sources: Sources,
}

/// A table that is checked.
enum Table<'a> {
    /// A section by its name.
    Section { name: &'a str, defaults: Value },
    /// The entry of a list, what people call it, and its place.
    Entry { name: Option<&'a str>, at: At, lines: Box<[u32]> },
}

impl Walk {
    // What was read is taken apart as it is checked: of ten thousand tables there are never two copies.

    fn section(&mut self, section: &Section, key: &str, at: At, raw: Raw) -> Option<Value> {
        match (section.list, raw) {
            (false, Raw::Dict(_, dict)) => {
                self.places.key(key, at);
                let table = Table::Section { name: key, defaults: (section.defaults)() };
                let value = Value::Object(self.table(section.fields, key, &table, dict).0);
                for identity in section.identities {
                    self.distinct(key, identity, &value);
                }
                Some(value)
            }
            (true, Raw::Array(_, items)) => {
                let value = self.tables(section.fields, key, &[key], items);
                self.places.key(key, at);
                for identity in section.identities {
                    self.distinct_tables(key, identity, &value);
                }
                Some(Value::Array(value))
            }
            (false, Raw::String(_, text)) if section.may_be_plain => {
                let what = Span::parse(&text).err().unwrap_or_default();
                self.refuse(key, at, None, what);
                None
            }
            (false, _) if section.may_be_plain => {
                let what =
                    format!("should be a duration in quotes, or a table of them; write for example {key} = \"1h\"");
                self.refuse(key, at, None, what);
                None
            }
            (false, _) => {
                self.refuse(key, at, None, format!("is a section; write [{key}]"));
                None
            }
            (true, _) => {
                self.refuse(key, at, None, format!("is a list of tables; write [[{key}]]"));
                None
            }
        }
    }

    /// The values of a table, and the line of each.
    fn table(
        &mut self,
        fields: &'static [Field],
        path: &str,
        table: &Table<'_>,
        dict: Dict,
    ) -> (Map<String, Value>, Vec<u32>) {
        let mut values = Map::new();
        let mut kept = Vec::with_capacity(dict.len());
        for (index, (name, raw)) in dict.into_iter().enumerate() {
            let key = format!("{path}.{name}");
            let (at, called, defaults, within) = match table {
                Table::Section { name: section, defaults } => {
                    (self.sources.at(&[section, &name], &raw), None, Some(defaults), Some([*section, &name]))
                }
                Table::Entry { name, at, lines } => {
                    let line = lines.get(index).copied().unwrap_or(at.line);
                    (At { line, ..*at }, *name, None, None)
                }
            };
            if let Some(field) = fields.iter().find(|f| f.name == name) {
                let default = defaults.and_then(|defaults| defaults.get(field.name));
                let seat = Seat { key: &key, field, default, at, table: called };
                let within: &[&str] = within.as_ref().map_or(&[], |within| within);
                if self.keep(&mut values, &seat, within, raw) {
                    kept.push(at.line);
                }
            } else {
                let what = nearest("unknown key", &name, fields.iter().map(|f| f.name));
                // Whoever meant that one has not left it out.
                let meant = what.rsplit_once("mean `").and_then(|(_, name)| name.strip_suffix("`?"));
                self.refused.extend(meant.map(|name| format!("{path}.{name}")));
                self.refuse(&format!("{path}.{}", veil::key(&name)), at, called, what);
            }
        }
        (values, kept)
    }

    fn keep(&mut self, values: &mut Map<String, Value>, seat: &Seat<'_>, path: &[&str], raw: Raw) -> bool {
        let Some(value) = self.value(seat, path, raw) else { return false };
        // What is in a table of a list is found by the table's own lines.
        if !seat.key.contains('[') {
            self.places.key(seat.key, seat.at);
        }
        values.insert(seat.field.name.to_string(), value);
        true
    }

    /// The tables of the list `key`, which is at `path` in its layers.
    fn tables(&mut self, fields: &'static [Field], key: &str, path: &[&str], items: Vec<Raw>) -> Vec<Value> {
        let mut tables = Vec::with_capacity(items.len());
        // Layers add up one behind the other, so that each begins where another ends.
        let (mut layer, mut number) = (None, 0);
        for (index, item) in items.into_iter().enumerate() {
            let from = self.sources.layer(&item);
            number = if layer == Some(from) { number + 1 } else { 0 };
            layer = Some(from);
            let Entry { line, lines } = self.sources.take_entry(path, from, number);
            let at = At { layer: from, line };
            let here = format!("{key}[{index}]");
            let (dict, name) = if let Raw::Dict(_, dict) = item {
                let name = dict.get("name").and_then(text).unwrap_or_default();
                (dict, called(key, &name))
            } else {
                self.refuse(&here, at, None, format!("should be a table: {key} = [{{ name = \"a\" }}]"));
                (Dict::new(), None)
            };
            let table = Table::Entry { name: name.as_deref(), at, lines };
            let (values, lines) = self.table(fields, &here, &table, dict);
            self.places.table(key, places::Table { at, lines: lines.into_boxed_slice() });
            tables.push(Value::Object(values));
        }
        tables
    }

    /// The value as its settings struct wants it; `None` after refusing it.
    fn value(&mut self, seat: &Seat<'_>, path: &[&str], raw: Raw) -> Option<Value> {
        let wanted = |what: &str| Err(format!("should be {what}; {}", seat.example()));
        let checked = match (seat.field.kind, raw) {
            (Kind::Tables(fields), Raw::Array(_, items)) => {
                Ok(Value::Array(self.tables(fields, seat.key, path, items)))
            }
            (Kind::Tables(_), _) => wanted("a list of tables"),
            (Kind::List | Kind::Texts | Kind::ListOr(_), Raw::Array(_, items)) => {
                match items.iter().map(text).collect::<Option<Vec<_>>>() {
                    Some(texts) if texts.iter().any(|text| text.contains('\0')) => Err(NUL.to_string()),
                    Some(texts) => Ok(Value::from(texts)),
                    None => wanted("a list of texts"),
                }
            }
            (Kind::ListOr(word), Raw::String(_, text)) if text == word => Ok(Value::from(text)),
            (Kind::Texts, Raw::String(_, text)) if !text.contains('\0') => Ok(Value::from(vec![text])),
            (Kind::Texts, Raw::String(..)) => Err(NUL.to_string()),
            (Kind::List | Kind::Texts, _) => wanted("a list"),
            (Kind::ListOr(word), _) => wanted(&format!("a list, or \"{word}\"")),
            (Kind::Map, Raw::Dict(_, dict)) => dict
                .iter()
                .map(|(name, item)| text(item).map(|value| (name.clone(), Value::from(value))))
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object)
                .map_or_else(|| wanted("a table of texts"), Ok),
            (Kind::Map, _) => wanted("a table"),
            (Kind::Text | Kind::Secret, raw) => match text(&raw) {
                Some(text) if text.contains('\0') => Err(NUL.to_string()),
                Some(text) => Ok(Value::from(text)),
                None => wanted("a text in quotes"),
            },
            (Kind::Flag, Raw::Bool(_, flag)) => Ok(Value::from(flag)),
            (Kind::Flag, _) => wanted("true or false, without quotes"),
            (Kind::Count(most), Raw::Num(_, Num::I64(number))) => match u64::try_from(number) {
                Ok(number) if number <= most => Ok(Value::from(number)),
                Ok(_) => Err(format!("{number} is too large; {most} is the most")),
                Err(_) => wanted("a whole number, not negative"),
            },
            (Kind::Count(_), _) => wanted("a whole number, without quotes"),
            (Kind::Number, Raw::Num(_, Num::I64(number))) => Ok(Value::from(number as f64)),
            (Kind::Number, Raw::Num(_, Num::F64(number))) if number.is_finite() => Ok(Value::from(number)),
            (Kind::Number, _) => wanted("a number, without quotes"),
            (Kind::Span, Raw::Num(_, Num::I64(1..))) => wanted("a duration in quotes, with its unit"),
            (Kind::Span, raw) => match text(&raw) {
                Some(written) => Span::parse(&written).map(|span| Value::from(span.to_string())),
                None => wanted("a duration in quotes"),
            },
            (Kind::Choice(words), raw) => match text(&raw) {
                Some(word) if words.contains(&word.as_str()) => Ok(Value::from(word)),
                Some(word) => Err(one_of(&format!("{} is not known here", veil::quoted(&word)), &word, words)),
                None => Err(format!("should be one of {}; {}", words.join(", "), seat.example())),
            },
        };
        match checked {
            Ok(value) => Some(value),
            Err(what) => {
                self.refuse(seat.key, seat.at, seat.table, what);
                None
            }
        }
    }

    /// No two entries of a list are the same.
    fn distinct(&mut self, path: &str, identity: &Identity, values: &Value) {
        let key = format!("{path}.{}", identity.field);
        let mut seen = BTreeSet::new();
        for entry in values.get(identity.field).and_then(Value::as_array).into_iter().flatten() {
            let Some(written) = entry.as_str() else { continue };
            if !seen.insert(identity.same(written)) {
                let what = format!("{} is listed twice; keep one", veil::quoted(written));
                self.refuse_found(&key, None, what);
            }
        }
    }

    /// No two tables of a list are about the same thing.
    fn distinct_tables(&mut self, path: &str, identity: &Identity, tables: &[Value]) {
        let mut first: BTreeMap<String, usize> = BTreeMap::new();
        let called_at = |index: usize| {
            let name = tables.get(index).and_then(|table| table.get("name")?.as_str());
            called(path, name.unwrap_or_default())
        };
        let values = Map::from_iter([(path.to_string(), Value::Null)]);
        for (index, table) in tables.iter().enumerate() {
            let Some(written) = table.get(identity.field).and_then(Value::as_str).filter(|text| !text.is_empty())
            else {
                continue;
            };
            let Some(before) = first.insert(identity.same(written), index) else { continue };
            first.insert(identity.same(written), before);
            let other = called_at(before).unwrap_or_else(|| format!("{path}[{before}]"));
            let place = self.places.find(&format!("{path}[{before}]"), &values).unwrap_or_default();
            let what = format!("{} is also used by {other} ({place}); {}", veil::quoted(written), identity.why);
            let key = format!("{path}[{index}].{}", identity.field);
            self.refuse_at_table(&key, path, index, called_at(index), what, tables);
        }
    }

    fn refuse_at_table(
        &mut self,
        key: &str,
        path: &str,
        index: usize,
        table: Option<String>,
        what: String,
        tables: &[Value],
    ) {
        let fields = tables.get(index).and_then(Value::as_object);
        let field = key.rsplit('.').next().unwrap_or_default();
        let place = self.places.line_in(path, index, fields.and_then(|fields| fields.keys().position(|n| n == field)));
        self.refused.insert(key.to_string());
        self.problems.push(Problem { key: key.to_string(), table, place, what });
    }

    fn refuse_found(&mut self, key: &str, table: Option<String>, what: String) {
        let place = self.places.find(key, &Map::new());
        self.refused.insert(key.to_string());
        self.problems.push(Problem { key: key.to_string(), table, place, what });
    }

    fn refuse(&mut self, key: &str, at: At, table: Option<&str>, what: String) {
        let place = Some(self.places.words(key, at));
        self.refused.insert(key.to_string());
        self.problems.push(Problem { key: key.to_string(), table: table.map(str::to_string), place, what });
    }
}

/// No name, path or header may hold one, and C would read half of it.
const NUL: &str = "holds a NUL character, which nothing can use";

/// A scalar by its spelling.
fn text(raw: &Raw) -> Option<String> {
    match raw {
        Raw::String(_, text) => Some(text.clone()),
        Raw::Bool(_, flag) => Some(flag.to_string()),
        Raw::Num(_, Num::I64(number)) => Some(number.to_string()),
        Raw::Num(_, Num::F64(number)) => Some(number.to_string()),
        _ => None,
    }
}
