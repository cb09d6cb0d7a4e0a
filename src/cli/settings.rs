//! `watchdog config check|show|explain`: is it valid, what is in force, where does it come from.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::Usage;
use super::out::{self, complain, say};
use crate::assemble;
use crate::clock::Clock;
use crate::config::schema::{Field, Kind, Section};
use crate::config::veil::quoted;
use crate::config::{self, Config, ConfigError, Layers, Problem, nearest, variable};
use crate::core::glob::matches;
use crate::doubts::doubts;
use crate::hush::windows::windows;
use crate::store::Store;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate files, environment and flags; exit code 2 when something is wrong
    Check,
    /// The effective values as TOML, secrets masked
    Show,
    /// What a key means, its value, and where that came from; without a key, all of them
    Explain {
        /// A key such as telegram.chat_id, a section such as probe
        key: Option<String>,
    },
}

/// Runs one of them.
pub fn run(layers: &Layers, command: &Command) -> anyhow::Result<ExitCode> {
    let schema = assemble::schema();
    let config = Config::read(layers, &schema);
    match command {
        Command::Check => check(&config),
        Command::Show => {
            out::text(&show(&config.whole()?, &schema));
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain { key } => explain(&config, &schema, key.as_deref()),
    }
}

fn check(config: &Config) -> anyhow::Result<ExitCode> {
    let reckoning = assemble::reckon(config, &Clock::system());
    let doubts = doubts(config);
    let warnings: Vec<String> =
        config.warnings().iter().cloned().chain(doubts.iter().map(ToString::to_string)).collect();
    if !reckoning.problems.is_empty() {
        for warning in &warnings {
            complain!("watchdog: warning: {warning}");
        }
        return Err(ConfigError { problems: reckoning.problems }.into());
    }
    let files: Vec<String> = config.files().iter().map(|f| f.display().to_string()).collect();
    let files = if files.is_empty() { "no file".to_string() } else { files.join(", ") };
    let names = |mut all: Vec<String>| {
        all.sort();
        all.join(", ")
    };
    say!("The configuration is valid ({files}).");
    say!("  sources   {}", names(reckoning.sources));
    say!("  channels  {}", names(reckoning.channels));
    if let Some(what) = super::ways::ways(config) {
        say!("  proxy     {what}");
    }
    for warning in &warnings {
        say!("  warning   {warning}");
    }
    for note in unmatched(config) {
        say!("  note      {note}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Globs of windows that match no signal that the state file knows. They may be about signals to come.
fn unmatched(config: &Config) -> Vec<Problem> {
    let state = &config.root().state;
    let known = Some(state).filter(|state| !state.is_empty()).and_then(|state| Store::read(Path::new(state)).ok());
    let known = known.and_then(|store| store.signals().ok()).unwrap_or_default();
    let windows = windows(config).unwrap_or_default();
    let mut notes = Vec::new();
    for (index, window) in windows.iter().enumerate().filter(|_| !known.is_empty()) {
        let lost = |pattern: &&String| !known.iter().any(|row| matches(pattern, row.key.as_str()));
        for pattern in window.patterns.iter().filter(lost) {
            let what = format!("{} matches no signal that the state file knows", quoted(pattern));
            notes.push(config.problem(&format!("maintenance[{index}].match"), what));
        }
    }
    notes
}

/// Every key with its effective value, as TOML. Keys without a value are comments.
pub fn show(config: &Config, sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections.iter().filter(|s| !s.list) {
        if !section.path.is_empty() {
            let _ = writeln!(out, "\n[{}]", section.path);
        }
        for field in section.fields.iter().filter(|f| !matches!(f.kind, Kind::Tables(_))) {
            let key = dotted(section.path, field.name);
            let place = config.place(&key).map(|p| format!("  # {p}")).unwrap_or_default();
            match effective(config, section, field) {
                Value::Null => {
                    let _ = writeln!(out, "# {} is not set", field.name);
                }
                value => {
                    let _ = writeln!(out, "{} = {}{place}", field.name, toml(&value));
                }
            }
        }
    }
    for (path, tables) in config.tables(sections) {
        for table in tables {
            let _ = writeln!(out, "\n[[{path}]]");
            for (name, value) in table {
                let _ = writeln!(out, "{name} = {}", toml(&value));
            }
        }
    }
    out
}

fn explain(config: &Config, sections: &[Section], key: Option<&str>) -> anyhow::Result<ExitCode> {
    let wanted = key.unwrap_or_default();
    let mut found = false;
    for section in sections {
        for field in section.fields {
            let dotted = dotted(section.path, field.name);
            let inside = dotted == wanted || wanted.is_empty() || section.path == wanted;
            if inside {
                found = true;
                explain_one(config, section, field, &dotted);
            }
            if let Kind::Tables(fields) = field.kind
                && (inside || wanted.starts_with(&dotted))
            {
                for inner in fields.iter().filter(|f| inside || wanted == format!("{dotted}.{}", f.name)) {
                    found = true;
                    say!("{dotted}.{}  (in [[{dotted}]])", inner.name);
                    print_doc(inner.doc);
                }
            }
        }
    }
    if !found {
        let known = config::all_keys(sections);
        let what = nearest(&format!("unknown key `{wanted}`"), wanted, known.iter().map(String::as_str));
        return Err(Usage(what).into());
    }
    // Whoever asks what a key means may be in the middle of putting it right.
    let about =
        |problem: &&config::Problem| wanted.is_empty() || problem.key.is_empty() || is_about(&problem.key, wanted);
    for problem in config.problems().iter().filter(about) {
        complain!("watchdog: {problem}");
    }
    Ok(ExitCode::SUCCESS)
}

/// True when the problem's key (`probe[2].target`) is `wanted` (`probe.target`, `probe`) or in it.
fn is_about(key: &str, wanted: &str) -> bool {
    let plain: String = key.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    plain == wanted || plain.starts_with(&format!("{wanted}."))
}

fn explain_one(config: &Config, section: &Section, field: &Field, dotted: &str) {
    if section.list {
        say!("{dotted}  (in [[{}]])", section.path);
        print_doc(field.doc);
        return;
    }
    say!("{dotted}");
    print_doc(field.doc);
    let value = match effective(config, section, field) {
        Value::Null => "not set".to_string(),
        value => toml(&value),
    };
    match config.place(dotted) {
        Some(place) => say!("    value    {value}  (from {place})"),
        None => say!("    value    {value}  (default)"),
    }
    say!("    variable {}\n", variable(dotted));
}

fn print_doc(doc: &str) {
    for line in doc.lines() {
        say!("    {}", line.trim());
    }
}

fn dotted(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

/// The value in force: what was set, or the default; secrets masked, unset is null.
fn effective(config: &Config, section: &Section, field: &Field) -> Value {
    let set = config.value(section.path, field.name);
    match set {
        Some(value) => config::shown(field.kind, value),
        None => (section.defaults)().get(field.name).cloned().unwrap_or(Value::Null),
    }
}

/// One value as TOML on one line. Unlike JSON, TOML writes `key = value` in tables and has no null.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "{}".to_string(),
        Value::Object(map) => {
            let inner: Vec<String> =
                map.iter().map(|(k, v)| format!("{} = {}", Value::from(k.as_str()), toml(v))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
        Value::Array(items) => {
            let inner: Vec<String> = items.iter().map(toml).collect();
            format!("[{}]", inner.join(", "))
        }
        other => other.to_string(),
    }
}
