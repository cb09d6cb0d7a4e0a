//! `watchdog history`: the audit log, newest last, from the state file or the daemon.

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
use crate::serve::snapshot::HistoryView;
use crate::store::{Filter, Store};

/// Entries shown at most.
const LIMIT: usize = 10_000;

/// What to show.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this signal, channel or target
    subject: Option<String>,
    /// How far back, for example 24h or 7d
    #[arg(long, default_value = "24h", value_parser = Span::parse)]
    since: Span,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Prints the entries.
pub fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut entries = entries(config, arguments)?;
    entries.reverse();
    let paint = Paint::stdout();
    for entry in &entries {
        if arguments.json {
            say!("{}", serde_json::to_string(entry)?);
            continue;
        }
        let incident = entry.incident.as_ref().map(|i| format!(" {i}")).unwrap_or_default();
        say!(
            "{}  {:<9} {}{}  {}",
            paint.faint(&entry.at.to_string()),
            clean(&entry.kind),
            clean(&entry.subject),
            paint.faint(&incident),
            clean(&entry.text)
        );
    }
    if entries.is_empty() {
        let about = arguments.subject.as_ref().map(|subject| format!(" about {}", clean(subject))).unwrap_or_default();
        complain!("watchdog: nothing{about} in the last {}", arguments.since);
    }
    Ok(ExitCode::SUCCESS)
}

fn entries(config: &Config, arguments: &Arguments) -> anyhow::Result<Vec<HistoryView>> {
    let state = &config.root().state;
    if !state.is_empty() && Path::new(state).exists() {
        let since = Clock::system().now().wall.minus(arguments.since.0);
        let filter = Filter { subject: arguments.subject.clone(), since: Some(since), limit: LIMIT };
        let found = Store::read(Path::new(state)).and_then(|store| store.history(&filter));
        let found = found.with_context(|| format!("cannot read the state file {state}"))?;
        return Ok(found.into_iter().map(crate::view::history_view).collect());
    }
    let mut path = format!("/api/v1/history?limit={LIMIT}&since={}", arguments.since);
    if let Some(subject) = &arguments.subject {
        path.push_str("&subject=");
        path.extend(url_encoded(subject));
    }
    let body = ask::get(config, &path)?;
    let answer: Answer = serde_json::from_slice(&body).context("the daemon's answer cannot be read")?;
    if !answer.complete {
        complain!("watchdog: the daemon remembers no more than these; set `state` to keep older entries");
    }
    Ok(answer.entries)
}

#[derive(Deserialize)]
struct Answer {
    complete: bool,
    entries: Vec<HistoryView>,
}

fn url_encoded(text: &str) -> impl Iterator<Item = String> + '_ {
    text.bytes().map(|byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    })
}
