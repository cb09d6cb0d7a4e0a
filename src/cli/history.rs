//! `watchdog history`: the audit log, newest last, from the state file or the daemon.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;

use super::ask;
use super::out::{complain, say};
use super::paint::{Paint, clean};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::value::Span;
use crate::core::edge::Incident;
use crate::core::name::in_url;
use crate::serve::snapshot::HistoryView;
use crate::store::{Filter, Store};

/// Entries shown at most.
const LIMIT: usize = 10_000;
/// How far back an incident is looked for; nothing is kept for longer.
const INCIDENT: Span = Span::seconds(31 * 24 * 3_600);

/// What to show.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this signal, channel or target, or an incident such as '#k3f9', also one that is over
    subject: Option<String>,
    /// How far back, for example 24h or 7d; an incident is shown from its beginning
    #[arg(long, default_value = "24h", value_parser = Span::parse)]
    since: Span,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Prints the entries.
pub fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let incident = arguments.subject.as_deref().and_then(|subject| subject.trim().strip_prefix('#'));
    let entries = match incident {
        Some(incident) => of_incident(config, incident)?,
        None => entries(config, arguments.subject.as_deref(), None, arguments.since)?,
    };
    let (paint, zone) = (Paint::stdout(), config.root().zone().unwrap_or_default());
    for entry in &entries {
        if arguments.json {
            say!("{}", serde_json::to_string(entry)?);
            continue;
        }
        let incident = entry.incident.as_ref().map(|i| format!(" {i}")).unwrap_or_default();
        say!(
            "{}  {:<9} {}{}  {}",
            paint.faint(&format!("{} {}", zone.date(entry.at), zone.clock(entry.at))),
            clean(&entry.kind),
            clean(&entry.subject),
            paint.faint(&incident),
            clean(&entry.text)
        );
    }
    if entries.is_empty() {
        let about = arguments.subject.as_ref().map(|subject| format!(" about {}", clean(subject))).unwrap_or_default();
        let since = if incident.is_some() { INCIDENT } else { arguments.since };
        complain!("watchdog: nothing{about} in the last {since}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that the log holds about one incident, oldest first.
pub fn of_incident(config: &Config, incident: &str) -> anyhow::Result<Vec<HistoryView>> {
    entries(config, None, Some(incident), INCIDENT)
}

/// Oldest first.
fn entries(
    config: &Config,
    subject: Option<&str>,
    incident: Option<&str>,
    since: Span,
) -> anyhow::Result<Vec<HistoryView>> {
    let state = &config.root().state;
    if !state.is_empty() && Path::new(state).exists() {
        let filter = Filter {
            subject: subject.map(str::to_string),
            incident: incident.map(|name| Incident(name.to_string())),
            since: Some(Clock::system().now().wall.minus(since.0)),
            limit: LIMIT,
        };
        let found = Store::read(Path::new(state)).and_then(|store| store.history(&filter));
        let found = found.with_context(|| format!("cannot read the state file {state}"))?;
        return Ok(found.into_iter().rev().map(crate::view::history_view).collect());
    }
    let mut path = format!("/api/v1/history?limit={LIMIT}&since={since}");
    for (name, value) in [("subject", subject), ("incident", incident)] {
        if let Some(value) = value {
            let _ = write!(path, "&{name}={}", in_url(value));
        }
    }
    let body = ask::get(config, &path)?;
    let mut answer: Answer = serde_json::from_slice(&body).context("the daemon's answer cannot be read")?;
    if !answer.complete {
        complain!("watchdog: the daemon remembers only these; set `state` to keep older entries");
    }
    answer.entries.reverse();
    Ok(answer.entries)
}

#[derive(Deserialize)]
struct Answer {
    complete: bool,
    entries: Vec<HistoryView>,
}
