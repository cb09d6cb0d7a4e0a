//! `watchdog why SUBJECT`: why a signal stands as it does, everything that its message said, and what would have to
//! change.

use std::process::ExitCode;

use clap::Args;

use super::ask::{Standing, standing};
use super::history;
use super::out::{complain, say};
use super::paint::{Paint, clean};
use super::screen::Screen;
use super::subject::{self, Meant};
use crate::clock::Clock;
use crate::config::Config;
use crate::core::edge::Incident;
use crate::core::recovery::phrase::Deed;
use crate::core::signal::State;
use crate::core::time::{Wall, people};
use crate::core::zone::Zone;
use crate::serve::Snapshot;
use crate::serve::muted::{By, Silenced};
use crate::serve::snapshot::{HistoryView, SignalView, TargetView};

/// Width of the column of labels, with both gaps.
const INDENT: usize = 13;

/// What to explain.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A signal's key as messages show it (container/web), a name or a part of one (sonarr), a node, or an incident such
    /// as '#k3f9', also one that is over
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
    let zone = config.root().zone().unwrap_or_default();
    let answer = Answer { screen: Screen::stdout(), paint: Paint::stdout(), now: Clock::system().now().wall, zone };
    match subject::find(&snapshot, wanted) {
        Meant::One(key) => {
            answer.explain(&snapshot, &key);
            return Ok(ExitCode::SUCCESS);
        }
        Meant::Several(keys, more) => {
            complain!("watchdog: \"{}\" may be any of these:", clean(wanted));
            keys.iter().for_each(|key| complain!("  {}", clean(key)));
            if more > 0 {
                complain!("  and {more} more");
            }
            return Ok(ExitCode::from(1));
        }
        Meant::Nothing => {}
    }
    let incident = wanted.trim_start_matches('#');
    let told = history::of_incident(config, incident).unwrap_or_default();
    if !told.is_empty() {
        answer.closed(&snapshot, incident, &told);
        return Ok(ExitCode::SUCCESS);
    }
    if wanted.starts_with('#') {
        complain!("watchdog: no incident {} is open or in the log", clean(wanted));
        return Ok(ExitCode::from(1));
    }
    let targets = snapshot.targets.iter().map(|target| target.name.as_str());
    let known = snapshot.signals.iter().map(|signal| signal.key.as_str()).chain(targets);
    let what = crate::config::nearest(&format!("no signal is called \"{}\"", clean(wanted)), wanted, known);
    complain!("watchdog: {what}");
    Ok(ExitCode::from(1))
}

struct Answer {
    screen: Screen,
    paint: Paint,
    now: Wall,
    zone: Zone,
}

impl Answer {
    fn explain(&self, snapshot: &Snapshot, key: &str) {
        if let Some(signal) = snapshot.signals.iter().find(|signal| signal.key.as_str() == key) {
            self.signal(signal);
        }
        if let Some(target) = snapshot.targets.iter().find(|target| target.name == key) {
            self.repair(target, &snapshot.mode);
        }
    }

    /// An incident that is over, as the log tells it, and how its signal stands now.
    fn closed(&self, snapshot: &Snapshot, incident: &str, told: &[HistoryView]) {
        let incident = Incident(incident.to_string());
        let subject = told.iter().map(|entry| entry.subject.as_str()).next().unwrap_or_default();
        self.title(&format!("{} was about {}; it is over", clean(&incident.to_string()), clean(subject)));
        for entry in told {
            let at = self.zone.instant(entry.at, self.now);
            self.say(&at, &format!("{}: {}", clean(&entry.kind), clean(&entry.text)));
        }
        if snapshot.signals.iter().any(|signal| signal.key.as_str() == subject) {
            self.explain(snapshot, subject);
        } else {
            self.say("now", "no longer watched");
        }
    }

    fn signal(&self, signal: &SignalView) {
        let name = clean(signal.name());
        let group = signal.about.as_deref().map(|about| clean(&about.group)).filter(|group| !group.is_empty());
        let group = group.map(|group| format!(", {group}")).unwrap_or_default();
        let key = clean(signal.key.as_str());
        self.title(&format!("{key} is {} ({name}, {}{group})", signal.state.as_str(), signal.severity));
        if let Some(details) = signal.details.as_deref().filter(|details| !details.happened.is_empty()) {
            self.say("what", &format!("{name} {}", clean(&details.happened)));
        }
        self.say("seen", &clean(&signal.detail));
        for line in signal.details.iter().flat_map(|details| &details.evidence) {
            self.say("evidence", &clean(line));
        }
        if let Some(since) = signal.since {
            self.say("since", &self.ago(since));
        }
        if let Some(incident) = &signal.incident {
            self.say("incident", &clean(&incident.to_string()));
        }
        self.say("why", &clean(&signal.reason));
        if let Some(silenced) = &signal.silenced {
            self.say("silenced", &self.silenced(silenced));
        }
        self.say("last alert", &signal.last_alert_at.map_or_else(|| "never".to_string(), |at| self.ago(at)));
        self.say("to change", to_change(signal));
        if let Some(details) = &signal.details {
            self.say("next step", &clean(&details.advice));
        }
        if let Some(about) = &signal.about {
            self.say("note", &clean(&about.note));
            self.say("runbook", &clean(&about.runbook));
        }
        if signal.incident.is_some() && signal.silenced.is_none() {
            self.say("silence", &format!("watchdog silence '{key}' --for 2h"));
        }
        self.say("history", &format!("watchdog history '{key}'"));
    }

    /// `until 06:00:00 (5h left) by container/*: upgrade`.
    fn silenced(&self, silenced: &Silenced) -> String {
        let by = match silenced.by {
            By::Silence => "the silence",
            By::Maintenance => "the maintenance window",
        };
        let reason = if silenced.reason.is_empty() { String::new() } else { format!(": {}", clean(&silenced.reason)) };
        let (until, left) = (self.zone.instant(silenced.until, self.now), people(silenced.until.since(self.now)));
        format!("until {until} ({left} left) by {by} {}{reason}", clean(&silenced.pattern))
    }

    /// Why it is or is not repaired.
    fn repair(&self, target: &TargetView, mode: &str) {
        let what = Deed::of(target.simulated).names(format_args!("repair of {}", clean(&target.name)));
        self.title(&format!("{what} is {} ({} attempts, mode {mode})", clean(&target.phase), target.attempts));
        if let Some(since) = target.since {
            self.say("since", &self.ago(since));
        }
        self.say("blocked", &clean(&target.blocked.join(", ")));
        self.say("why", &clean(&target.reason));
    }

    fn ago(&self, at: Wall) -> String {
        format!("{} ({} ago)", self.zone.instant(at, self.now), people(self.now.since(at)))
    }

    fn title(&self, text: &str) {
        self.screen.wrap(text, 0, 2).iter().for_each(|line| say!("{}", self.paint.strong(line)));
    }

    /// One labelled line; nothing where there is nothing to say.
    fn say(&self, label: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let taken = INDENT.max(label.chars().count() + 4);
        for (at, line) in self.screen.wrap(text, taken, INDENT).into_iter().enumerate() {
            if at == 0 {
                say!("  {:<width$}{line}", label, width = taken - 2);
            } else {
                say!("{line}");
            }
        }
    }
}

fn to_change(signal: &SignalView) -> &'static str {
    match (signal.state, signal.incident.is_some()) {
        (State::Firing, _) => "it recovers when enough checks in a row pass",
        (State::Unknown, true) => "it must be checked again; being unknown neither resolves it nor tells it again",
        (State::Unknown, false) => "it must be checked; that it cannot be checked is told only when it lasts",
        (State::Pending, _) => "it alerts if this lasts, and is OK again if the next check passes",
        (State::Ok, _) => "it alerts when it fails often or long enough",
    }
}
