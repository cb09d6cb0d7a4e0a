//! Gathers the layers: which files, which variables, which flags, and what each says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map as FigmentMap, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::check::{self, nearest};
use super::exposed::{self, Exposed};
use super::schema::{Field, Kind, Section};
use super::value::Secret;
use super::{ConfigError, Layers, Problem};

/// The environment prefix of every key.
pub const PREFIX: &str = "WATCHDOG_";
/// Variables with this prefix belong to the test suite and are no configuration.
const TEST_PREFIX: &str = "WATCHDOG_TEST_";
/// systemd sets these for a service that it watches; they only look like ours.
const SYSTEMD: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];
/// How the variables begin that belong to other programs and count for ours.
const FOREIGN: [&str; 3] = ["CONSUL_", "NOTIFY_SOCKET", "OTEL_"];
/// The name of the environment layer in figment's metadata.
pub const ENVIRONMENT: &str = "environment";
/// The name of the command line layer in figment's metadata.
pub const COMMAND_LINE: &str = "command line";
/// A configuration file larger than this is not one.
const FILE_LIMIT: u64 = 1024 * 1024;

/// All layers put together, not yet checked.
pub struct Gathered {
    /// The layers, later ones over earlier ones.
    pub figment: Figment,
    /// The files read, in order.
    pub files: Vec<PathBuf>,
    /// What is already known to be wrong.
    pub problems: Vec<Problem>,
    /// What is odd and yet used, in words.
    pub warnings: Vec<String>,
}

/// One TOML text as a layer.
pub fn text(text: &str) -> impl Provider {
    Toml::string(text)
}

/// Reads every layer that `layers` names.
pub fn gather(layers: &Layers, schema: &[Section]) -> Result<Gathered, ConfigError> {
    let files = files(&layers.files)?;
    let mut figment = Figment::new();
    let mut warnings = Vec::new();
    for file in &files {
        readable(file)?;
        match exposed::configuration(file, rustix::process::geteuid().as_raw()) {
            Some(Exposed::Refused(what)) => return Err(whole_file(file, &what)),
            Some(Exposed::Told(what)) => warnings.push(format!("{} {what}", file.display())),
            None => {}
        }
        figment = figment.admerge(Toml::file_exact(file));
    }
    let mut problems = Vec::new();
    let environment = environment(&layers.environment, schema, &mut problems);
    figment = figment.merge(Layer { name: ENVIRONMENT, dict: environment });
    let overrides = overrides(&layers.overrides, schema, &mut problems);
    figment = figment.merge(Layer { name: COMMAND_LINE, dict: overrides });
    Ok(Gathered { figment, files, problems, warnings })
}

/// The named files, or the default places that exist; then `conf.d/*.toml` beside the first, sorted.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files: Vec<PathBuf> = if named.is_empty() {
        ["/etc/watchdog/watchdog.toml", "watchdog.toml"].iter().map(PathBuf::from).filter(|p| p.is_file()).collect()
    } else {
        named.to_vec()
    };
    let Some(first) = files.first() else { return Ok(files) };
    let directory = first.parent().unwrap_or(Path::new("")).join("conf.d");
    if directory.is_dir() {
        let entries =
            std::fs::read_dir(&directory).map_err(|e| whole_file(&directory, &format!("cannot be read: {e}")))?;
        let mut more: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "toml") && path.is_file())
            .collect();
        more.sort();
        files.extend(more);
    }
    Ok(files)
}

fn readable(file: &Path) -> Result<(), ConfigError> {
    let meta = std::fs::metadata(file).map_err(|e| whole_file(file, &format!("cannot be read: {e}")))?;
    if !meta.is_file() || meta.len() > FILE_LIMIT {
        return Err(whole_file(file, "is not a plain file of at most 1 MiB"));
    }
    let text = std::fs::read_to_string(file).map_err(|e| whole_file(file, &format!("cannot be read: {e}")))?;
    match text.parse::<toml::Table>() {
        Ok(_) => Ok(()),
        Err(e) => Err(whole_file(file, &format!("is not TOML: {}", e.to_string().trim_end()))),
    }
}

fn whole_file(file: &Path, what: &str) -> ConfigError {
    let place = Some(file.display().to_string());
    ConfigError { problems: vec![Problem { key: String::new(), place, what: what.to_string() }] }
}

fn environment(variables: &[(String, String)], schema: &[Section], problems: &mut Vec<Problem>) -> Dict {
    let mut dict = Dict::new();
    for (name, text) in variables {
        let not_ours = name.starts_with(TEST_PREFIX) || SYSTEMD.contains(&name.as_str());
        let Some(rest) = name.strip_prefix(PREFIX).filter(|_| !not_ours) else { continue };
        let key = rest.to_lowercase().replace("__", ".");
        let place = format!("environment variable {name}");
        set(&mut dict, &key, text, &place, schema, problems);
    }
    dict
}

/// The variables of other programs that count for ours.
pub fn foreign(variables: &[(String, String)]) -> BTreeMap<String, Secret> {
    let known = |name: &str| SYSTEMD.contains(&name) || FOREIGN.iter().any(|begin| name.starts_with(begin));
    let kept = variables.iter().filter(|(name, _)| known(name));
    kept.map(|(name, value)| (name.clone(), Secret::new(value.as_str()))).collect()
}

fn overrides(pairs: &[String], schema: &[Section], problems: &mut Vec<Problem>) -> Dict {
    let mut dict = Dict::new();
    for pair in pairs {
        let Some((key, text)) = pair.split_once('=') else {
            let what = format!("--set wants KEY=VALUE, not \"{pair}\"");
            problems.push(Problem { key: String::new(), place: Some(COMMAND_LINE.to_string()), what });
            continue;
        };
        set(&mut dict, key.trim(), text, COMMAND_LINE, schema, problems);
    }
    dict
}

/// Puts one written value where it belongs, by the kind of its field.
fn set(dict: &mut Dict, key: &str, text: &str, place: &str, schema: &[Section], problems: &mut Vec<Problem>) {
    let mut refuse = |what: String| {
        problems.push(Problem { key: key.to_string(), place: Some(place.to_string()), what });
    };
    let Some(kind) = find(schema, key) else {
        if let Some(list) = list_above(schema, key) {
            let what = "is inside a list of tables; write the whole list as TOML";
            return refuse(format!("{what}: {list} = [{{ name = \"a\" }}]"));
        }
        let known = check::all_keys(schema);
        refuse(nearest("unknown key", key, known.iter().map(String::as_str)));
        return;
    };
    let value = match written(kind, text) {
        Ok(value) => value,
        Err(what) => return refuse(what),
    };
    match key.split_once('.') {
        None => {
            dict.insert(key.to_string(), value);
        }
        Some((section, field)) => {
            let table = dict.entry(section.to_string()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = table {
                inner.insert(field.to_string(), value);
            }
        }
    }
}

/// The kind of the value at a dotted key, `None` when nobody knows the key.
fn find(schema: &[Section], key: &str) -> Option<Kind> {
    if let Some(list) = schema.iter().find(|s| s.list && s.path == key) {
        return Some(Kind::Tables(list.fields));
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
            _ => Err(format!("\"{text}\" is neither true nor false")),
        },
        Kind::Count => {
            text.trim().parse::<u64>().map(Value::from).map_err(|_| format!("\"{text}\" is not a whole number"))
        }
        Kind::ListOr(word) if text.trim() == word => Ok(Value::from(word)),
        Kind::ListOr(_) => written(Kind::List, text),
        Kind::Number => text.trim().parse::<f64>().map(Value::from).map_err(|_| format!("\"{text}\" is not a number")),
        Kind::List | Kind::Texts if !text.trim_start().starts_with('[') => {
            let items: Vec<Value> =
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect();
            Ok(Value::from(items))
        }
        Kind::List | Kind::Texts | Kind::Tables(_) | Kind::Map => {
            let table: toml::Table = format!("value = {text}")
                .parse()
                .map_err(|e: toml::de::Error| format!("is not a TOML value: {}", e.message()))?;
            let value = table.get("value").cloned().unwrap_or(toml::Value::Array(Vec::new()));
            Value::serialize(value).map_err(|e| e.to_string())
        }
    }
}

/// One layer that is no file.
struct Layer {
    name: &'static str,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<FigmentMap<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}
