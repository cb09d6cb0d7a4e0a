//! The configuration: layers, provenance, and refusal of what nobody knows.
//!
//! Layers, later wins: defaults < files (TOML; `conf.d/*.toml` beside the first) < `WATCHDOG_*`
//! environment < `--set`. Lists of tables (`[[probe]]`) add up across files. This module owns only
//! the top-level keys; every other part is declared by the file that uses it
//! (`adr/0011-settings-live-beside-their-user.md`), and is handed in as a schema: nothing here knows who they are.
//! All problems are reported at once, each with its place and the nearest thing that would have been right.

mod check;
pub use check::{all_keys, nearest, one_of};
pub(crate) mod exposed;
pub mod file;
mod files;
pub mod form;
pub mod headers;
mod layers;
mod merged;
mod places;
mod problem;
mod raw;
pub mod schema;
pub mod value;
pub mod veil;
pub mod written;

pub use places::variable;
pub use problem::{ConfigError, Problem, Problems};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::core::policy::Cooldowns;
use crate::core::quiet::QuietHours;
use crate::core::zone::Zone;

use self::layers::{Gathered, Spoiled};
use self::places::Places;
use self::schema::{Field, Kind, Section};
use self::value::{MASK, Secret, Span};

crate::settings! {
    /// The program as a whole.
    pub struct Root {
        /// false: alive and idle; checks, reports and repairs nothing. The health check still passes.
        enabled: bool = true,
        /// The name in every alert. Default: the host name.
        instance: String = host_name(),
        /// How often everything is checked, at least 100ms.
        tick: Span = Span::seconds(15),
        /// Time zone of times in messages, on the page and in the terminal: Europe/Berlin. Default: that of the host.
        time_zone: String = String::new(),
        /// When warnings and infos wait until the end, and then come in one message: 22:00-07:00, in time_zone. Critical
        /// news never wait. Empty = never.
        quiet_hours: String = String::new(),
        /// Default time limit of every call to another program or host.
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
        /// Text that the answer of heartbeat_url must contain. What Healthchecks and Uptime Kuma answer to an address
        /// that they do not know is known without it.
        heartbeat_expect: Option<String> = None,
        /// PEM file of the authorities that may sign the certificate of heartbeat_url, or of that certificate itself.
        /// Default: the bundled authorities.
        heartbeat_ca_file: Option<PathBuf> = None,
        /// HTTP proxy for heartbeat_url: http://host:port, or none. Default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
        heartbeat_proxy: Option<Secret> = None,
        /// File that holds heartbeat_proxy.
        heartbeat_proxy_file: Option<PathBuf> = None,
        /// Short form of probes: name=tcp://db:5432, name=https://host/health, name=dns://example.org,
        /// name=tls://host:443, name=icmp://host.
        deps: Vec<String> = Vec::new(),
    }
}

crate::settings! {
    /// Least time between two reminders of a problem that lasts, by its severity; 0 = never again. One duration for all of
    /// them may be written in its place: cooldown = "30m", or WATCHDOG_COOLDOWN=30m.
    pub struct Cooldown {
        /// Of critical signals.
        critical: Span = Span::seconds(3600),
        /// Of warnings.
        warning: Span = Span::seconds(3600),
        /// Of infos.
        info: Span = Span::seconds(3600),
    }
}

/// Where the cooldowns stand.
pub const COOLDOWN: Section = Cooldown::section("cooldown").or_plain();

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
    /// The names of variables that are not text in UTF-8.
    pub broken: Vec<String>,
    /// `KEY=VALUE` from the command line.
    pub overrides: Vec<String>,
}

/// The effective configuration: every value checked against the schema, with its place.
#[derive(Debug, Clone)]
pub struct Config {
    values: Map<String, Value>,
    places: Places,
    root: Root,
    cooldown: Cooldown,
    files: Vec<PathBuf>,
    warnings: Vec<String>,
    /// Variables of other programs' conventions; as secrets, because some are.
    variables: BTreeMap<String, Secret>,
    /// Those of them that are not text.
    broken: BTreeSet<String>,
    problems: Vec<Problem>,
    /// Keys of which something has been said.
    refused: BTreeSet<String>,
    spoiled: Spoiled,
}

/// Said where a value has the right type and still cannot be taken; what the reader of it says may repeat it.
const MISFIT: &str = "holds a value that cannot be used; `watchdog config explain` says what may stand there";

impl Config {
    /// Reads all layers and checks every key and value against `schema`.
    ///
    /// # Errors
    /// Every problem found.
    pub fn load(layers: &Layers, schema: &[Section]) -> Result<Config, ConfigError> {
        Config::read(layers, schema).whole()
    }

    /// The same, as far as it goes: what is wrong is left out and is among [`problems`](Config::problems).
    pub fn read(layers: &Layers, schema: &[Section]) -> Config {
        let mut config = Config::checked(layers::gather(layers, schema), schema);
        (config.variables, config.broken) = layers::foreign(layers);
        config
    }

    /// One TOML text, without files or environment.
    ///
    /// # Errors
    /// Every problem found.
    pub fn of_text(text: &str, schema: &[Section]) -> Result<Config, ConfigError> {
        Config::checked(layers::of_text(text, schema), schema).whole()
    }

    fn checked(gathered: Gathered, schema: &[Section]) -> Config {
        let checked = check::check(gathered.stack.merged(), schema);
        let mut problems = gathered.problems;
        problems.extend(checked.problems);
        let mut config = Config {
            values: checked.values,
            places: checked.places,
            root: Root::default(),
            cooldown: Cooldown::default(),
            files: gathered.files,
            warnings: gathered.warnings,
            variables: BTreeMap::new(),
            broken: BTreeSet::new(),
            problems,
            refused: checked.refused,
            spoiled: gathered.spoiled,
        };
        // Its values have been checked one by one: the defaults stand in only where a setting's own type wants more.
        config.root = config.section("").unwrap_or_default();
        config.cooldown = config.section(COOLDOWN.path).unwrap_or_default();
        let more = config.check_root();
        config.problems.extend(config.news(more));
        config
    }

    /// What is wrong so far.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Itself, unless something is wrong.
    ///
    /// # Errors
    /// Every problem found so far.
    pub fn whole(self) -> Result<Config, ConfigError> {
        if self.problems.is_empty() { Ok(self) } else { Err(ConfigError { problems: self.problems }) }
    }

    /// Of what the parts of the program say about a configuration that is not whole, that which does not merely follow
    /// from what is known: a key that was refused is missing, and so is everything in a file that cannot be read.
    pub fn news(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let follows = |problem: &Problem| {
            let last = problem.key.rsplit('.').next().unwrap_or_default();
            let nobody_wrote_it = problem.place.is_none() || !self.is_set(&problem.key);
            self.refused.contains(&problem.key)
                || self.refused.iter().any(|key| key.starts_with(&format!("{}.", problem.key)))
                || self.spoiled.keys.contains(last)
                || (self.spoiled.all && nobody_wrote_it)
        };
        let mut fresh: Vec<Problem> = Vec::new();
        for problem in problems {
            if !follows(&problem) && !self.problems.contains(&problem) && !fresh.contains(&problem) {
                fresh.push(problem);
            }
        }
        fresh
    }

    /// The top-level settings.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Least time between two reminders, by severity.
    pub fn cooldowns(&self) -> Cooldowns {
        let Cooldown { critical, warning, info } = &self.cooldown;
        Cooldowns { critical: critical.0, warning: warning.0, info: info.0 }
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
        serde_json::from_value(value).map_err(|_| self.error(path, MISFIT))
    }

    /// The tables at `path` (`[[probe]]`), in order; none when nothing is set.
    pub fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ConfigError> {
        let Some(value) = self.values.get(path) else { return Ok(Vec::new()) };
        // From the value itself: a copy of a long list would stay behind as a hole in the heap.
        Vec::deserialize(value).map_err(|_| self.error(path, MISFIT))
    }

    /// The same one by one, for lists of which thousands of tables at once would be too much.
    pub fn each<T: DeserializeOwned>(&self, path: &str) -> impl Iterator<Item = Result<T, ConfigError>> {
        let tables = self.values.get(path).and_then(Value::as_array).into_iter().flatten();
        tables.map(move |table| T::deserialize(table).map_err(|_| self.error(path, MISFIT)))
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

    /// The same, refused where it is not text: for those that count when they are set.
    ///
    /// # Errors
    /// Names the variable.
    pub fn readable_variable(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        if self.broken.contains(name) {
            let what = "is not valid UTF-8; set it again, or unset it";
            return Err(Problem::of_place(format!("environment variable {name}"), what).into());
        }
        Ok(self.variable(name))
    }

    /// The names of variables that the program knows and that are not text, beginning so.
    pub fn broken_variables(&self, begin: &str) -> impl Iterator<Item = &str> {
        self.broken.iter().map(String::as_str).filter(move |name| name.starts_with(begin))
    }

    /// All variables whose names begin so, of those that the program knows.
    pub fn variables(&self, begin: &str) -> Vec<(String, String)> {
        let known = self.variables.iter().filter(|(name, _)| name.starts_with(begin));
        known.map(|(name, value)| (name.clone(), value.expose().to_string())).collect()
    }

    /// Where the value of `key` came from, in words; `None` for a default.
    pub fn place(&self, key: &str) -> Option<String> {
        self.places.find(key, &self.values)
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
        self.problem(key, what).into()
    }

    /// The same, to be told with others.
    pub fn problem(&self, key: &str, what: impl Into<String>) -> Problem {
        let table = key.split_once('[').and_then(|(list, rest)| {
            let index = rest.split_once(']')?.0.parse::<usize>().ok()?;
            let name = places::walk(&self.values, list)?.get(index)?.get("name")?.as_str()?;
            problem::called(list, name)
        });
        // What is missing is missed in its section.
        let place = self.place(key).or_else(|| self.places.section(key));
        Problem { key: key.to_string(), table, place, what: what.into() }
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

    fn check_root(&self) -> Vec<Problem> {
        let root = &self.root;
        let mut found = Vec::new();
        let mut check = |key: &str, outcome: Result<(), String>| {
            found.extend(outcome.err().map(|what| self.problem(key, what)));
        };
        check("log", log_filter(&root.log));
        check("tick", form::span(root.tick, Duration::from_millis(100), Duration::from_hours(24)));
        check("timeout", form::span(root.timeout, Duration::from_millis(10), Duration::from_mins(5)));
        check("time_zone", root.zone().map(drop));
        check("quiet_hours", root.quiet_hours().map(drop));
        check("instance", form::name(&root.instance));
        check("listen", form::listen(&root.listen));
        check("state", form::state(&root.state));
        found
    }
}

/// A typo in a filter would silence the log: whatever is not a level counts there as the name of a module.
fn log_filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    for part in text.split(',') {
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module.trim()), level.trim()),
            None => (None, part.trim()),
        };
        if module == Some("") || !LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known)) {
            let lead = format!("{} is not a level", veil::quoted(part.trim()));
            return Err(one_of(&lead, &level.to_lowercase(), &LEVELS));
        }
    }
    Ok(())
}

fn masked(tables: Option<&Value>, fields: &[Field]) -> Vec<Map<String, Value>> {
    let items = tables.and_then(Value::as_array).cloned().unwrap_or_default();
    let kind = |name: &str| fields.iter().find(|f| f.name == name).map_or(Kind::Secret, |f| f.kind);
    items
        .into_iter()
        .filter_map(|item| match item {
            Value::Object(table) => Some(table),
            _ => None,
        })
        .map(|table| table.into_iter().map(|(name, value)| (name.clone(), shown(kind(&name), &value))).collect())
        .collect()
}

/// A value as it may be shown to anybody.
pub fn shown(kind: Kind, value: &Value) -> Value {
    match (kind, value) {
        (Kind::Secret, _) => Value::from(MASK),
        (_, Value::String(text)) => Value::from(veil::veil(text)),
        (_, Value::Array(items)) => Value::Array(items.iter().map(|item| shown(Kind::Text, item)).collect()),
        (_, Value::Object(map)) => {
            let one = |(name, value): (&String, &Value)| {
                // The path of a file that holds a secret is none.
                let is_secret = veil::is_secret_name(name) && !name.ends_with(headers::FILE);
                let kind = if is_secret { Kind::Secret } else { Kind::Text };
                (name.clone(), shown(kind, value))
            };
            Value::Object(map.iter().map(one).collect())
        }
        (_, other) => other.clone(),
    }
}

/// The name of this machine.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_string() } else { name }
}
