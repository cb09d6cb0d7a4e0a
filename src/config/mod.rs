//! The configuration: layers, provenance, and refusal of what nobody knows.
//!
//! Layers, later wins: defaults < files (TOML; `conf.d/*.toml` beside the first) < `WATCHDOG_*`
//! environment < `--set`. Lists of tables (`[[probe]]`) add up across files. This module owns only
//! the top-level keys; every other part is declared by the file that uses it
//! (`adr/0011-settings-live-beside-their-user.md`). All problems are reported at once, each with its
//! place and the nearest thing that would have been right.

mod check;
pub use check::{all_keys, nearest, one_of};
pub(crate) mod exposed;
mod layers;
pub mod schema;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::core::quiet::QuietHours;
use crate::core::zone::Zone;

use self::schema::{Field, Kind, Section};
use self::value::{MASK, Secret, Span};

crate::settings! {
    /// The program as a whole.
    pub struct Root {
        /// false: alive and idle; collects, says and repairs nothing. The health check still passes.
        enabled: bool = true,
        /// The name in every alert. Default: the host name.
        instance: String = host_name(),
        /// Grid of the loop, at least 100ms.
        tick: Span = Span::seconds(15),
        /// Least time before a still-firing signal is said again; 0 = never again.
        cooldown: Span = Span::seconds(3600),
        /// Time zone of times in messages, on the page and in the terminal: Europe/Berlin. Default: that of the host.
        time_zone: String = String::new(),
        /// When warnings and infos wait until the end, and then come in one message: 22:00-07:00, in time_zone. Critical
        /// news never wait. Empty = never.
        quiet_hours: String = String::new(),
        /// Default limit of every outside call.
        timeout: Span = Span::seconds(5),
        /// SQLite file for what must survive a restart; empty = memory only.
        state: String = String::new(),
        /// Address of the status page, JSON and metrics; empty = off.
        listen: String = "127.0.0.1:9106".to_string(),
        /// What is logged: error, warn, info, debug, trace, also by module (info,watchdog::deliver=debug).
        log: String = "info".to_string(),
        /// How it is logged: text on a terminal and JSON otherwise with auto.
        log_format: LogFormat = LogFormat::Auto,
        /// Dead-man's switch: fetched from the loop after a full pass, at most once a minute, and not
        /// while an alert has been undelivered for 10 minutes.
        heartbeat_url: Option<Secret> = None,
        /// File that holds heartbeat_url.
        heartbeat_url_file: Option<PathBuf> = None,
        /// Short form of probes: name=tcp://db:5432, name=https://host/health, name=dns://example.org,
        /// name=tls://host:443, name=icmp://host.
        deps: Vec<String> = Vec::new(),
    }
}

impl Root {
    /// The time zone that people read.
    ///
    /// # Errors
    /// In words, when nobody knows a zone of this name.
    pub fn zone(&self) -> Result<Zone, String> {
        match self.time_zone.as_str() {
            "" => Ok(Zone::new(jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC))),
            name => jiff::tz::TimeZone::get(name)
                .map(Zone::new)
                .map_err(|_| format!("\"{name}\" is not a time zone; write for example \"Europe/Berlin\" or \"UTC\"")),
        }
    }

    /// When warnings and infos wait.
    ///
    /// # Errors
    /// In words, when it is not a span of time.
    pub fn quiet_hours(&self) -> Result<Option<QuietHours>, String> {
        if self.quiet_hours.is_empty() { Ok(None) } else { QuietHours::parse(&self.quiet_hours).map(Some) }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl schema::Setting for LogFormat {
    const KIND: schema::Kind = schema::Kind::Choice(&["auto", "text", "json"]);
}

/// Where the layers come from.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// Files named by the user, in order; each must exist. Empty: the default places, if present.
    pub files: Vec<PathBuf>,
    /// Environment variables; only those that begin with `WATCHDOG_` are looked at.
    pub environment: Vec<(String, String)>,
    /// `KEY=VALUE` from the command line.
    pub overrides: Vec<String>,
}

/// The effective configuration: every value checked against the schema, with its place.
#[derive(Debug, Clone)]
pub struct Config {
    values: Map<String, Value>,
    places: BTreeMap<String, String>,
    root: Root,
    files: Vec<PathBuf>,
    warnings: Vec<String>,
    /// Variables of other programs' conventions; as secrets, because some are.
    variables: BTreeMap<String, Secret>,
}

impl Config {
    /// Reads all layers and checks every key and value.
    pub fn load(layers: &Layers) -> Result<Config, ConfigError> {
        let schema = sections();
        let gathered = layers::gather(layers, &schema)?;
        let checked = check::check(gathered.figment, &schema, gathered.problems)?;
        let mut config = Config {
            values: checked.values,
            places: checked.places,
            root: Root::default(),
            files: gathered.files,
            warnings: gathered.warnings,
            variables: layers::foreign(&layers.environment),
        };
        config.root = config.section("")?;
        config.check_root()?;
        Ok(config)
    }

    /// A configuration from one TOML text, without files or environment; for tests and examples.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        let schema = sections();
        let figment = figment::Figment::from(layers::text(text));
        let checked = check::check(figment, &schema, Vec::new())?;
        let mut config = Config {
            values: checked.values,
            places: checked.places,
            root: Root::default(),
            files: Vec::new(),
            warnings: Vec::new(),
            variables: BTreeMap::new(),
        };
        config.root = config.section("")?;
        config.check_root()?;
        Ok(config)
    }

    /// The top-level settings.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The files that were read, in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What a person should know about the files, in words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The settings at `path` (`telegram`), defaults where nothing is set.
    pub fn section<T: DeserializeOwned>(&self, path: &str) -> Result<T, ConfigError> {
        let value = if path.is_empty() {
            let own: Map<String, Value> = self
                .values
                .iter()
                .filter(|(key, _)| Root::FIELDS.iter().any(|f| f.name == key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            Value::Object(own)
        } else {
            self.values.get(path).cloned().unwrap_or_else(|| Value::Object(Map::new()))
        };
        serde_json::from_value(value).map_err(|e| self.error(path, e.to_string()))
    }

    /// The tables at `path` (`[[probe]]`), in order; none when nothing is set.
    pub fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ConfigError> {
        let Some(value) = self.values.get(path) else { return Ok(Vec::new()) };
        // From the value itself: a copy of a long list would stay behind as a hole in the heap.
        Vec::deserialize(value).map_err(|e| self.error(path, e.to_string()))
    }

    /// The same one by one, for lists of which thousands of tables at once would be too much.
    pub fn each<T: DeserializeOwned>(&self, path: &str) -> impl Iterator<Item = Result<T, ConfigError>> {
        let tables = self.values.get(path).and_then(Value::as_array).into_iter().flatten();
        tables.map(move |table| T::deserialize(table).map_err(|e| self.error(path, e.to_string())))
    }

    /// True when any layer sets something at `key` (`telegram.chat_id`, `probe[2].status`, `telegram`).
    pub fn is_set(&self, key: &str) -> bool {
        let mut names = key.split(['.', '[']).map(|name| name.trim_end_matches(']'));
        let first = names.next().and_then(|name| self.values.get(name));
        let found = names.try_fold(first, |value, name| match value? {
            Value::Object(table) => Some(table.get(name)),
            Value::Array(items) => Some(name.parse::<usize>().ok().and_then(|index| items.get(index))),
            _ => None,
        });
        found.flatten().is_some()
    }

    /// A variable that other programs set or share (`CONSUL_HTTP_ADDR`, `NOTIFY_SOCKET`), as it was when the
    /// program started. Only those that the program knows are kept.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(Secret::expose)
    }

    /// All variables whose names begin so, of those that the program knows.
    pub fn variables(&self, begin: &str) -> Vec<(String, String)> {
        let known = self.variables.iter().filter(|(name, _)| name.starts_with(begin));
        known.map(|(name, value)| (name.clone(), value.expose().to_string())).collect()
    }

    /// Where the value of `key` came from, in words; `None` for a default.
    pub fn place(&self, key: &str) -> Option<&str> {
        let table = key.split_inclusive(']').next().filter(|table| table.ends_with(']'));
        self.places.get(key).or_else(|| self.places.get(table?)).map(String::as_str)
    }

    /// What some layer set for `name` in the section `path`; `None` when the default holds. Not masked.
    pub fn value(&self, path: &str, name: &str) -> Option<&Value> {
        if path.is_empty() { self.values.get(name) } else { self.values.get(path)?.get(name) }
    }

    /// Every list of tables that some layer set (`[[probe]]`, `[[app.rule]]`), with its dotted path;
    /// secrets masked.
    pub fn tables(&self, sections: &[Section]) -> Vec<(String, Vec<Map<String, Value>>)> {
        let mut all = Vec::new();
        for section in sections {
            if section.list {
                all.push((section.path.to_string(), masked(self.values.get(section.path), section.fields)));
                continue;
            }
            for field in section.fields {
                if let Kind::Tables(fields) = field.kind {
                    let path = if section.path.is_empty() {
                        field.name.to_string()
                    } else {
                        format!("{}.{}", section.path, field.name)
                    };
                    all.push((path, masked(self.value(section.path, field.name), fields)));
                }
            }
        }
        all.retain(|(_, tables)| !tables.is_empty());
        all
    }

    /// A problem with the value of `key` (`telegram.chat_id`, `probe[2].target`), named with its place.
    pub fn error(&self, key: &str, what: impl Into<String>) -> ConfigError {
        let place = self.place(key).map(str::to_string);
        ConfigError { problems: vec![Problem { key: key.to_string(), place, what: what.into() }] }
    }

    /// The secret `key`, set directly or by its twin `<key>_file`; problems name the one that is wrong.
    pub fn secret(
        &self,
        key: &str,
        direct: Option<&Secret>,
        file: Option<&Path>,
    ) -> Result<Option<Secret>, ConfigError> {
        Secret::resolve(key, direct, file).map_err(|what| match direct {
            Some(value) if !value.is_empty() => self.error(key, what),
            _ => self.error(&format!("{key}_file"), what),
        })
    }

    fn check_root(&self) -> Result<(), ConfigError> {
        let root = &self.root;
        log_filter(&root.log).map_err(|what| self.error("log", what))?;
        if root.tick.0 < std::time::Duration::from_millis(100) {
            return Err(self.error("tick", format!("{} is too short; the least is 100ms", root.tick)));
        }
        if root.timeout.0 < std::time::Duration::from_millis(10) {
            return Err(self.error("timeout", format!("{} is too short; the least is 10ms", root.timeout)));
        }
        root.zone().map_err(|what| self.error("time_zone", what))?;
        root.quiet_hours().map_err(|what| self.error("quiet_hours", what))?;
        if root.instance.trim().is_empty() {
            return Err(self.error("instance", "is empty; give the name that alerts should carry"));
        }
        if !root.listen.is_empty() && root.listen.parse::<std::net::SocketAddr>().is_err() {
            return Err(self.error(
                "listen",
                format!(
                    "\"{}\" is not an address and port; write for example \"127.0.0.1:9106\", or \"\" for off",
                    root.listen
                ),
            ));
        }
        Ok(())
    }
}

/// A typo in a filter would silence the log: whatever is no level counts there as the name of a module.
fn log_filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    for part in text.split(',') {
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module.trim()), level.trim()),
            None => (None, part.trim()),
        };
        if module == Some("") || !LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known)) {
            let lead = format!("\"{}\" is no level", part.trim());
            return Err(one_of(&lead, &level.to_lowercase(), &LEVELS));
        }
    }
    Ok(())
}

/// Every part of the configuration, in the order in which it is documented.
pub fn sections() -> Vec<Section> {
    let mut all = vec![Root::section("")];
    for entry in crate::notifier::NOTIFIERS {
        all.extend_from_slice(entry.sections);
    }
    for entry in crate::source::SOURCES {
        all.extend_from_slice(entry.sections);
    }
    all.extend_from_slice(crate::serve::SECTIONS);
    all.extend_from_slice(crate::beacon::SECTIONS);
    all.extend_from_slice(crate::nodes::SECTIONS);
    for entry in crate::executor::EXECUTORS {
        all.extend_from_slice(entry.sections);
    }
    all
}

/// What is wrong with the configuration: every problem found, in reading order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, as written in TOML with dots; empty when it concerns a whole file.
    pub key: String,
    /// The file or variable it stands in; `None` when nobody wrote it.
    pub place: Option<String>,
    /// What is wrong and what would be right. Never contains a secret.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

fn masked(tables: Option<&Value>, fields: &[Field]) -> Vec<Map<String, Value>> {
    let items = tables.and_then(Value::as_array).cloned().unwrap_or_default();
    items
        .into_iter()
        .filter_map(|item| match item {
            Value::Object(table) => Some(table),
            _ => None,
        })
        .map(|table| {
            let secret = |name: &str| fields.iter().any(|f| f.name == name && matches!(f.kind, Kind::Secret));
            table
                .into_iter()
                .map(|(name, value)| if secret(&name) { (name, Value::from(MASK)) } else { (name, value) })
                .collect()
        })
        .collect()
}

/// The name of this machine.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_string() } else { name }
}
