//! Gathers the layers: which files, which variables, which flags, and what each says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use figment::value::{Dict, Value};

use super::check::{all_keys, nearest};
use super::files::{self, Files};
use super::merged::Stack;
use super::places::{Origin, PREFIX, variable};
use super::raw::{self, Mark, Written};
use super::schema::{Field, Kind, Section};
use super::value::{Secret, Span};
use super::veil::{self, quoted};
use super::{Layers, Problem};

/// Variables with this prefix belong to the test suite and are not configuration.
const TEST_PREFIX: &str = "WATCHDOG_TEST_";
/// systemd sets these for a service that it watches; they only look like ours.
const SYSTEMD: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];
/// How the variables begin that belong to other programs and count for ours.
const FOREIGN: [&str; 3] = ["CONSUL_", "NOTIFY_SOCKET", "OTEL_"];
/// Variables about proxies, which every program shares, and the mark of CGI that makes one of them untrue.
const SHARED: [&str; 7] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"];

/// All layers put together, not yet checked.
pub struct Gathered {
    /// The layers, later ones over earlier ones.
    pub stack: Stack,
    /// The files read, in order.
    pub files: Vec<PathBuf>,
    /// What is already known to be wrong.
    pub problems: Vec<Problem>,
    /// Keys about which enough has been said; a file that cannot be read holds nobody knows which.
    pub spoiled: Spoiled,
    /// What is odd and yet used, in words.
    pub warnings: Vec<String>,
}

/// What the layers would have said but for a mistake in them.
#[derive(Debug, Clone, Default)]
pub struct Spoiled {
    /// Anything may be missing.
    pub all: bool,
    /// Lines that were left out, by the key at their head: the last part of a dotted key.
    pub keys: BTreeSet<String>,
}

/// One TOML text as the only layer.
pub fn of_text(text: &str, schema: &[Section]) -> Gathered {
    let mut gathered = Gathered::new();
    gathered.add(Origin::Text, "configuration", text, schema);
    gathered
}

/// Reads every layer that `layers` names.
pub fn gather(layers: &Layers, schema: &[Section]) -> Gathered {
    let mut gathered = Gathered::new();
    let Files { read, problems, warnings } = files::read(&layers.files);
    gathered.spoiled.all = !problems.is_empty();
    (gathered.problems, gathered.warnings) = (problems, warnings);
    for (path, text) in read {
        gathered.add(Origin::File(path.clone()), &path.display().to_string(), &text, schema);
        gathered.files.push(path);
    }
    for name in &layers.broken {
        if is_ours(name) {
            let what = "is not valid UTF-8; set it again, or unset it";
            gathered.problems.push(Problem::of_place(format!("environment variable {}", name.escape_debug()), what));
            gathered.spoiled.all = true;
        }
    }
    let mut dict = Dict::new();
    for (name, text) in &layers.environment {
        if is_ours(name) {
            let key = name.strip_prefix(PREFIX).unwrap_or_default().to_lowercase().replace("__", ".");
            let place = format!("environment variable {name}");
            gathered.set(&mut dict, &Set { key: &key, text, place: &place, variable: true }, schema);
        } else if name.to_ascii_uppercase().starts_with(PREFIX) && !name.starts_with(PREFIX) {
            gathered.warnings.push(format!("environment variable {name} is not read: write {PREFIX} in capitals"));
        }
    }
    gathered.stack.replace(Origin::Environment, dict);
    let mut dict = Dict::new();
    for (index, pair) in layers.overrides.iter().enumerate() {
        // What has no `=` may be a secret behind a colon: it is counted, not repeated.
        let Some((key, text)) = pair.split_once('=') else {
            let what = format!("the {} --set is not KEY=VALUE", ordinal(index + 1));
            gathered.problems.push(Problem::of_place("command line", what));
            continue;
        };
        let set = Set { key: key.trim(), text, place: "command line", variable: false };
        gathered.set(&mut dict, &set, schema);
    }
    gathered.stack.replace(Origin::CommandLine, dict);
    gathered
}

/// The variables of other programs that count for ours, and those of them that are not text.
pub fn foreign(layers: &Layers) -> (BTreeMap<String, Secret>, BTreeSet<String>) {
    let exact = |name: &str| SYSTEMD.contains(&name) || SHARED.contains(&name);
    let known = |name: &str| exact(name) || FOREIGN.iter().any(|begin| name.starts_with(begin));
    let kept = layers.environment.iter().filter(|(name, _)| known(name));
    let kept = kept.map(|(name, value)| (name.clone(), Secret::new(value.as_str()))).collect();
    (kept, layers.broken.iter().filter(|name| known(name)).cloned().collect())
}

/// True for a variable that is meant to be one of our keys.
fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
        && !name.starts_with(TEST_PREFIX)
        && !SYSTEMD.contains(&name)
        && !is_service_link(name.strip_prefix(PREFIX).unwrap_or_default())
}

/// Kubernetes and Docker links make such variables for a service that is called "watchdog".
fn is_service_link(rest: &str) -> bool {
    let port = rest.strip_prefix("PORT").is_some_and(|rest| {
        let digits = rest.strip_prefix('_').map(|rest| rest.split('_').next().unwrap_or_default());
        rest.is_empty() || digits.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
    });
    port || rest == "SERVICE_HOST" || rest == "SERVICE_PORT" || rest.starts_with("SERVICE_PORT_")
}

/// One value written outside of TOML.
struct Set<'a> {
    key: &'a str,
    text: &'a str,
    place: &'a str,
    variable: bool,
}

impl Gathered {
    fn new() -> Gathered {
        Gathered {
            stack: Stack::default(),
            files: Vec::new(),
            problems: Vec::new(),
            spoiled: Spoiled::default(),
            warnings: Vec::new(),
        }
    }

    /// Lays a text over what there is.
    fn add(&mut self, origin: Origin, shown: &str, text: &str, schema: &[Section]) {
        let (written, faults) = raw::read(text);
        for fault in faults {
            let place = format!("{shown}:{}:{}", fault.line, fault.column);
            self.problems.push(Problem::of_place(place, fault.what));
            self.spoiled.keys.extend(fault.key.and_then(|key| Some(key.rsplit('.').next()?.to_string())));
        }
        match written {
            Some(mut written) => {
                schema.iter().filter(|section| section.may_be_plain).for_each(|section| spread(section, &mut written));
                self.stack.add(origin, written.dict, written.mark);
            }
            None => self.spoiled.all = true,
        }
    }

    /// Puts one written value where it belongs, by the kind of its field.
    fn set(&mut self, dict: &mut Dict, set: &Set<'_>, schema: &[Section]) {
        let (key, place) = (set.key, set.place);
        let mut refuse = |key: &str, what: String| {
            let shown = if set.variable { "" } else { key };
            let place = Some(place.to_string());
            self.problems.push(Problem { key: shown.to_string(), table: None, place, what });
            self.spoiled.keys.extend(key.rsplit('.').next().map(str::to_string));
        };
        let Some(kind) = find(schema, key) else {
            if let Some(list) = list_above(schema, key) {
                let what = "is inside a list of tables; write the whole list as TOML";
                return refuse(key, format!("{what}: {list} = [{{ name = \"a\" }}]"));
            }
            let known = all_keys(schema);
            if set.variable {
                let known: Vec<String> = known.iter().map(|key| variable(key)).collect();
                return refuse("", nearest("unknown setting", &variable(key), known.iter().map(String::as_str)));
            }
            let lead = "unknown key";
            // What nobody knows may be anything, also a secret in front of a `=`.
            return refuse(veil::key(key), nearest(lead, key, known.iter().map(String::as_str)));
        };
        let value = match written(kind, set.text) {
            Ok(value) => value,
            Err(what) => return refuse(key, what),
        };
        if let Some(section) = plain(schema, key) {
            if let Err(what) = Span::parse(set.text) {
                return refuse(key, what);
            }
            let table = dict.entry(section.path.to_string()).or_insert_with(|| raw::dict(Dict::new()));
            if let Value::Dict(_, inner) = table {
                // A key of its own says more, in whatever order they come.
                for field in section.fields {
                    inner.entry(field.name.to_string()).or_insert_with(|| value.clone());
                }
            }
            return;
        }
        match key.split_once('.') {
            None => {
                dict.insert(key.to_string(), value);
            }
            Some((section, field)) => {
                let table = dict.entry(section.to_string()).or_insert_with(|| raw::dict(Dict::new()));
                if let Value::Dict(_, inner) = table {
                    inner.insert(field.to_string(), value);
                }
            }
        }
    }
}

/// The section that is written as one duration under this key.
fn plain<'a>(schema: &'a [Section], key: &str) -> Option<&'a Section> {
    schema.iter().find(|section| section.may_be_plain && section.path == key)
}

/// One duration in place of a table is that duration for each of its keys, so that layers are joined key by key. What is
/// no duration stays as it is, to be refused.
fn spread(section: &Section, written: &mut Written) {
    let Some(Value::String(_, text)) = written.dict.get(section.path) else { return };
    if Span::parse(text).is_err() {
        return;
    }
    let text = text.clone();
    let names = || section.fields.iter().map(|field| field.name.to_string());
    let dict = names().map(|name| (name, Value::from(text.as_str()))).collect();
    written.dict.insert(section.path.to_string(), raw::dict(dict));
    if let Some(mark) = written.mark.keys.as_mut().and_then(|keys| keys.get_mut(section.path)) {
        let line = mark.line;
        mark.keys = Some(names().map(|name| (name, Mark { line, ..Mark::default() })).collect());
    }
}

fn ordinal(number: usize) -> String {
    let end = match number {
        1 => "st",
        2 => "nd",
        3 => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

/// The kind of the value at a dotted key, `None` when nobody knows the key.
fn find(schema: &[Section], key: &str) -> Option<Kind> {
    if let Some(list) = schema.iter().find(|s| s.list && s.path == key) {
        return Some(Kind::Tables(list.fields));
    }
    if plain(schema, key).is_some() {
        return Some(Kind::Span);
    }
    let (path, name) = key.split_once('.').unwrap_or(("", key));
    let section = schema.iter().find(|s| !s.list && s.path == path)?;
    section.fields.iter().find(|f: &&Field| f.name == name).map(|f| f.kind)
}

/// The list of tables that `key` tries to reach into.
fn list_above<'a>(schema: &[Section], key: &'a str) -> Option<&'a str> {
    let ends = key.match_indices('.').filter_map(|(at, _)| key.get(..at));
    ends.into_iter().find(|above| matches!(find(schema, above), Some(Kind::Tables(_))))
}

/// Reads a value written outside TOML (a variable, a flag) by the kind of its field.
fn written(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Text | Kind::Secret | Kind::Span | Kind::Choice(_) => Ok(Value::from(text)),
        Kind::Flag => match text.trim().to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Value::from(true)),
            "false" | "0" | "no" | "off" => Ok(Value::from(false)),
            _ => Err(format!("{} is neither true nor false", quoted(text))),
        },
        Kind::Count(_) => {
            text.trim().parse::<i64>().map(Value::from).map_err(|_| format!("{} is not a whole number", quoted(text)))
        }
        Kind::ListOr(word) if text.trim() == word => Ok(Value::from(word)),
        Kind::ListOr(_) => written(Kind::List, text),
        Kind::Number => {
            text.trim().parse::<f64>().map(Value::from).map_err(|_| format!("{} is not a number", quoted(text)))
        }
        Kind::List | Kind::Texts if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(raw::list(items.map(Value::from)))
        }
        Kind::List | Kind::Texts | Kind::Tables(_) | Kind::Map => raw::value(text),
    }
}
