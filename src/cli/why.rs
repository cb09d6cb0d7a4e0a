//! `watchdog why SUBJECT`: why a signal stands as it does, and what would have to change.

use std::process::ExitCode;

use clap::Args;

use super::ask::{Standing, standing};
use super::out::{complain, say};
use super::paint::clean;
use crate::config::Config;
use crate::core::recovery::phrase::Deed;
use crate::core::signal::State;
use crate::serve::snapshot::{SignalView, TargetView};

/// What to explain.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A signal's key as messages show it, for example container/web or node/n1, or an incident such as #k3f9
    subject: String,
}

/// Explains one signal; 1 when nobody knows it.
pub fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let snapshot = match standing(config)? {
        Standing::Live(snapshot, _) => snapshot,
        Standing::Left(snapshot, note) => {
            complain!("watchdog: {note}");
            snapshot
        }
        Standing::Nothing(why) => anyhow::bail!("{why}"),
    };
    let wanted = arguments.subject.trim();
    let found = snapshot.signals.iter().find(|signal| {
        signal.key.as_str() == wanted || signal.incident.as_ref().is_some_and(|i| i.0 == wanted.trim_start_matches('#'))
    });
    let name = found.map_or(wanted, |signal| signal.key.as_str());
    let target = snapshot.targets.iter().find(|target| target.name == name || target.name == format!("node/{name}"));
    if let Some(signal) = found {
        explain(signal);
    }
    if let Some(target) = target {
        repair(target, &snapshot.mode);
    }
    if found.is_some() || target.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    let targets = snapshot.targets.iter().map(|target| target.name.as_str());
    let known = snapshot.signals.iter().map(|signal| signal.key.as_str()).chain(targets);
    let what = crate::config::nearest(&format!("no signal is called \"{}\"", clean(wanted)), wanted, known);
    complain!("watchdog: {what}");
    Ok(ExitCode::from(1))
}

fn explain(signal: &SignalView) {
    say!("{} is {} ({}, {})", signal.key, signal.state.as_str(), clean(&signal.title), signal.severity);
    say!("  seen       {}", clean(&signal.detail));
    if let Some(since) = signal.since {
        say!("  since      {since}");
    }
    if let Some(incident) = &signal.incident {
        say!("  incident   {incident}");
    }
    say!("  why        {}", clean(&signal.reason));
    match signal.last_alert_at {
        Some(at) => say!("  last said  {at}"),
        None => say!("  last said  never"),
    }
    say!("  to change  {}", to_change(signal));
}

/// Why it is or is not repaired.
fn repair(target: &TargetView, mode: &str) {
    let what = Deed::of(target.simulated).names(format_args!("repair of {}", clean(&target.name)));
    say!("{what} is {} ({} attempts, mode {mode})", clean(&target.phase), target.attempts);
    if let Some(since) = target.since {
        say!("  since      {since}");
    }
    if !target.blocked.is_empty() {
        say!("  blocked    {}", clean(&target.blocked.join(", ")));
    }
    say!("  why        {}", clean(&target.reason));
}

fn to_change(signal: &SignalView) -> &'static str {
    match (signal.state, signal.incident.is_some()) {
        (State::Firing, _) => {
            "it recovers when enough checks in a row pass; until then it is told again after each cooldown"
        }
        (State::Unknown, true) => "it must be seen again; being unseen neither resolves it nor says it again",
        (State::Unknown, false) => "it must be checked; that it cannot be checked is told only when it lasts",
        (State::Pending, _) => "it fires if it stays as it is, and is well again if the next look is good",
        (State::Ok, _) => "it fires when it is seen bad often or long enough",
    }
}
