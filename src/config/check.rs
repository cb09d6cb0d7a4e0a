//! Checks every key and value against what the program knows, and says where each came from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use figment::value::{Dict, Num, Tag, Value as Raw};
use figment::{Figment, Metadata, Profile, Provider as _};
use serde_json::{Map, Value};

use super::schema::{Field, Kind, Section};
use super::value::Span;
use super::{ConfigError, Problem, layers};

/// Values in the form that settings structs deserialize from, and the place of each key.
pub struct Checked {
    pub values: Map<String, Value>,
    pub places: BTreeMap<String, String>,
}

/// Checks the merged layers. All problems come back at once, after those already `known`.
pub fn check(figment: Figment, schema: &[Section], known: Vec<Problem>) -> Result<Checked, ConfigError> {
    // Not `extract`, which copies everything twice more: our layers have no other profile than the default.
    let root: Dict = match figment.data() {
        Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
        Err(error) => {
            let mut problems = known;
            problems.extend(error.into_iter().map(|e| Problem {
                key: e.path.join("."),
                place: e.metadata.as_ref().and_then(|m| m.source.as_ref()).map(ToString::to_string),
                what: e.kind.to_string(),
            }));
            return Err(ConfigError { problems });
        }
    };
    let mut origins = BTreeMap::new();
    root.values().for_each(|raw| origin(&figment, raw, &mut origins));
    // The checked values are a copy, and a thousand probes need not be held three times.
    drop(figment);
    let mut walk = Walk { origins, problems: known, places: BTreeMap::new() };
    let mut values = Map::new();
    let own = schema.iter().find(|s| s.path.is_empty()).map(|s| s.fields).unwrap_or_default();
    for (key, raw) in root {
        if let Some(field) = own.iter().find(|f| f.name == key) {
            walk.keep(&mut values, field, &key, raw);
        } else if let Some(section) = schema.iter().find(|s| !s.path.is_empty() && s.path == key) {
            if let Some(value) = walk.section(section, &key, raw) {
                values.insert(key, value);
            }
        } else {
            let names = own.iter().map(|f| f.name).chain(schema.iter().map(|s| s.path)).filter(|n| !n.is_empty());
            let what = nearest("unknown key", &key, names);
            walk.refuse(&key, raw.tag(), what);
        }
    }
    if walk.problems.is_empty() {
        Ok(Checked { values, places: walk.places })
    } else {
        Err(ConfigError { problems: walk.problems })
    }
}

/// Every key that may be set from the environment, dotted.
pub fn all_keys(schema: &[Section]) -> Vec<String> {
    let mut keys = Vec::new();
    for section in schema {
        if section.list {
            keys.push(section.path.to_string());
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

/// Notes the layer that each value came from.
fn origin(figment: &Figment, raw: &Raw, origins: &mut BTreeMap<Tag, Metadata>) {
    if let Some(metadata) = figment.get_metadata(raw.tag()) {
        origins.entry(raw.tag()).or_insert_with(|| metadata.clone());
    }
    match raw {
        Raw::Dict(_, dict) => dict.values().for_each(|inner| origin(figment, inner, origins)),
        Raw::Array(_, items) => items.iter().for_each(|inner| origin(figment, inner, origins)),
        _ => {}
    }
}

struct Walk {
    /// The layer behind each tag; a handful, one for each file and for the environment and the flags.
    origins: BTreeMap<Tag, Metadata>,
    problems: Vec<Problem>,
    places: BTreeMap<String, String>,
}

impl Walk {
    // What was read is taken apart as it is checked: of ten thousand tables there are never two copies.

    fn section(&mut self, section: &Section, key: &str, raw: Raw) -> Option<Value> {
        match (section.list, raw) {
            (false, Raw::Dict(_, dict)) => Some(self.table(section.fields, key, dict)),
            (true, raw @ Raw::Array(..)) => self.value(Kind::Tables(section.fields), key, raw),
            (false, other) => {
                self.refuse(key, other.tag(), format!("is a section; write [{key}]"));
                None
            }
            (true, other) => {
                self.refuse(key, other.tag(), format!("is a list of tables; write [[{key}]]"));
                None
            }
        }
    }

    fn table(&mut self, fields: &'static [Field], path: &str, dict: Dict) -> Value {
        let mut values = Map::new();
        for (name, raw) in dict {
            let key = format!("{path}.{name}");
            if let Some(field) = fields.iter().find(|f| f.name == name) {
                self.keep(&mut values, field, &key, raw);
            } else {
                let what = nearest("unknown key", &name, fields.iter().map(|f| f.name));
                self.refuse(&key, raw.tag(), what);
            }
        }
        Value::Object(values)
    }

    fn keep(&mut self, values: &mut Map<String, Value>, field: &Field, key: &str, raw: Raw) {
        let tag = raw.tag();
        if let Some(value) = self.value(field.kind, key, raw) {
            // All keys of a table in a list stand where the table stands; a thousand probes have many.
            if !key.contains('[') {
                self.places.insert(key.to_string(), self.place(key, tag));
            }
            values.insert(field.name.to_string(), value);
        }
    }

    /// The value as its settings struct wants it; `None` after refusing it.
    fn value(&mut self, kind: Kind, key: &str, raw: Raw) -> Option<Value> {
        let tag = raw.tag();
        let checked = match (kind, raw) {
            (Kind::Tables(fields), Raw::Array(_, items)) => {
                let mut tables = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    let key = format!("{key}[{index}]");
                    match item {
                        Raw::Dict(tag, dict) => {
                            self.places.insert(key.clone(), self.place(&key, tag));
                            tables.push(self.table(fields, &key, dict));
                        }
                        other => self.refuse(&key, other.tag(), "should be a table".to_string()),
                    }
                }
                Ok(Value::Array(tables))
            }
            (Kind::Tables(_), _) => Err("should be a list of tables".to_string()),
            (Kind::List, Raw::Array(_, items)) => items
                .iter()
                .map(text)
                .collect::<Option<Vec<_>>>()
                .map(Value::from)
                .ok_or_else(|| "should be a list of texts".to_string()),
            (Kind::List, _) => Err("should be a list, for example [\"a\", \"b\"]".to_string()),
            (Kind::Texts, Raw::String(_, text)) => Ok(Value::from(vec![text])),
            (Kind::ListOr(word), Raw::String(_, text)) if text == word => Ok(Value::from(text)),
            (Kind::Texts, raw) | (Kind::ListOr(_), raw @ Raw::Array(..)) => return self.value(Kind::List, key, raw),
            (Kind::ListOr(word), _) => Err(format!("should be a list, for example [\"a\", \"b\"], or \"{word}\"")),
            (Kind::Map, Raw::Dict(_, dict)) => dict
                .iter()
                .map(|(name, item)| text(item).map(|value| (name.clone(), Value::from(value))))
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object)
                .ok_or_else(|| "should be a table of texts".to_string()),
            (Kind::Map, _) => Err("should be a table, for example { Accept = \"text/plain\" }".to_string()),
            (Kind::Text | Kind::Secret, raw) => {
                text(&raw).map(Value::from).ok_or_else(|| "should be a text".to_string())
            }
            (Kind::Flag, Raw::Bool(_, flag)) => Ok(Value::from(flag)),
            (Kind::Flag, _) => Err("should be true or false, without quotes".to_string()),
            (Kind::Count, Raw::Num(_, num)) => whole(num),
            (Kind::Count, _) => Err("should be a whole number, without quotes".to_string()),
            (Kind::Number, Raw::Num(_, num)) => number(num),
            (Kind::Number, _) => Err("should be a number, without quotes".to_string()),
            (Kind::Span, raw) => match text(&raw) {
                Some(written) => Span::parse(&written).map(|span| Value::from(span.to_string())),
                None => Err("should be a duration such as \"15s\"".to_string()),
            },
            (Kind::Choice(words), raw) => match text(&raw) {
                Some(word) if words.contains(&word.as_str()) => Ok(Value::from(word)),
                Some(word) => Err(one_of(&format!("\"{word}\" is not known here"), &word, words)),
                None => Err(format!("should be one of {}", words.join(", "))),
            },
        };
        match checked {
            Ok(value) => Some(value),
            Err(what) => {
                self.refuse(key, tag, what);
                None
            }
        }
    }

    fn refuse(&mut self, key: &str, tag: Tag, what: String) {
        let place = Some(self.place(key, tag));
        self.problems.push(Problem { key: key.to_string(), place, what });
    }

    fn place(&self, key: &str, tag: Tag) -> String {
        let Some(metadata) = self.origins.get(&tag) else { return "configuration".to_string() };
        if metadata.name == layers::ENVIRONMENT {
            let list_end = key.find('[').unwrap_or(key.len());
            let variable = key.get(..list_end).unwrap_or(key).to_uppercase().replace('.', "__");
            return format!("environment variable {}{variable}", layers::PREFIX);
        }
        match metadata.source.as_ref().and_then(|s| s.file_path()) {
            Some(path) => path.display().to_string(),
            None => metadata.name.to_string(),
        }
    }
}

/// `lead`, the nearest of `words` if one is near, and all of them.
pub fn one_of(lead: &str, wrong: &str, words: &[&str]) -> String {
    let mut what = nearest(lead, wrong, words.iter().copied());
    let join = if what.ends_with('?') { " One of" } else { "; one of" };
    let _ = write!(what, "{join} {}.", words.join(", "));
    what
}

/// A scalar by its spelling.
fn text(raw: &Raw) -> Option<String> {
    match raw {
        Raw::String(_, text) => Some(text.clone()),
        Raw::Char(_, c) => Some(c.to_string()),
        Raw::Bool(_, flag) => Some(flag.to_string()),
        Raw::Num(_, num) => match num.to_i128().or_else(|| num.to_u128().and_then(|n| i128::try_from(n).ok())) {
            Some(whole) => Some(whole.to_string()),
            None => num.to_f64().map(|n| n.to_string()),
        },
        Raw::Empty(..) | Raw::Dict(..) | Raw::Array(..) => None,
    }
}

fn whole(num: Num) -> Result<Value, String> {
    let value = num.to_i128().or_else(|| num.to_u128().and_then(|n| i128::try_from(n).ok()));
    match value.and_then(|n| u64::try_from(n).ok()) {
        Some(n) => Ok(Value::from(n)),
        None => Err("should be a whole number, not negative".to_string()),
    }
}

fn number(num: Num) -> Result<Value, String> {
    let whole = num.to_i128().map(|n| n as f64);
    match num.to_f64().or(whole).or_else(|| num.to_u128().map(|n| n as f64)) {
        Some(n) if n.is_finite() => Ok(Value::from(n)),
        _ => Err("should be a finite number".to_string()),
    }
}
