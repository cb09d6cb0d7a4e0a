//! `watchdog status`: how things stand, from the daemon or from what it left.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::ask::{Standing, standing};
use super::out::{self, complain, say};
use super::paint::{Paint, clean};
use crate::clock::Clock;
use crate::config::Config;
use crate::core::recovery::phrase::Deed;
use crate::core::signal::State;
use crate::core::time::people;
use crate::serve::Snapshot;

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(2);

/// Clears a terminal.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// What to show.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Print the daemon's JSON
    #[arg(long)]
    json: bool,
    /// Look again every two seconds until interrupted
    #[arg(long)]
    watch: bool,
}

/// Prints the standing; 0 well, 1 firing, 3 nothing to ask.
pub fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    loop {
        let standing = standing(config)?;
        let read = !arguments.watch || out::text(if Paint::is_terminal() { CLEAR } else { "\n" });
        let code = show(&standing, arguments);
        if !arguments.watch || !read {
            return Ok(code);
        }
        std::thread::sleep(WATCH);
    }
}

fn show(standing: &Standing, arguments: &Arguments) -> ExitCode {
    let (snapshot, json) = match standing {
        Standing::Live(snapshot, json) => (snapshot, json.clone()),
        Standing::Left(snapshot, note) => {
            complain!("watchdog: {note}");
            (snapshot, crate::serve::json::status(snapshot, Clock::system().now()).to_string())
        }
        Standing::Nothing(why) => {
            complain!("watchdog: {why}");
            return ExitCode::from(3);
        }
    };
    if arguments.json {
        say!("{}", json.trim_end());
    } else {
        table(snapshot);
    }
    let firing = snapshot.signals.iter().any(|s| s.state == State::Firing || s.incident.is_some());
    ExitCode::from(u8::from(firing))
}

fn table(snapshot: &Snapshot) {
    let paint = Paint::stdout();
    let now = Clock::system().now().wall;
    let count = |state: State| snapshot.signals.iter().filter(|s| s.state == state).count();
    let headline = if snapshot.enabled {
        format!(
            "{}: {} firing, {} unknown, {} pending, {} ok",
            clean(&snapshot.instance),
            count(State::Firing),
            count(State::Unknown),
            count(State::Pending),
            count(State::Ok)
        )
    } else {
        format!("{}: disabled (enabled = false); nothing is watched", clean(&snapshot.instance))
    };
    say!("{}", paint.strong(&headline));
    let width = snapshot.signals.iter().map(|s| s.key.as_str().chars().count()).max().unwrap_or(0).min(48);
    let mut signals: Vec<_> = snapshot.signals.iter().collect();
    let rank = |state: State| match state {
        State::Firing => 0,
        State::Unknown => 1,
        State::Pending => 2,
        State::Ok => 3,
    };
    signals.sort_by(|a, b| rank(a.state).cmp(&rank(b.state)).then_with(|| a.key.cmp(&b.key)));
    for signal in signals {
        let since = signal.since.map(|since| people(now.since(since))).unwrap_or_default();
        let incident = signal.incident.as_ref().map(|i| format!("  {i}")).unwrap_or_default();
        say!(
            "{} {:<width$}  {:>8}  {}{}",
            paint.state(signal.state),
            clean(signal.key.as_str()),
            since,
            clean(&signal.detail),
            paint.faint(&incident),
        );
    }
    for target in snapshot.targets.iter().filter(|target| target.phase != "healthy") {
        let attempts = if target.attempts > 0 { format!(", attempt {}", target.attempts) } else { String::new() };
        let what = Deed::of(target.simulated).names(format_args!("repair of {}", clean(&target.name)));
        say!("{what}: {}{attempts}: {}", clean(&target.phase), clean(&target.reason));
    }
    for channel in snapshot.channels.iter().filter(|c| c.state != "ok" || c.pending > 0) {
        let error = channel.error.as_deref().unwrap_or("delivering");
        say!("channel {}: {}, {} undelivered: {}", channel.name, channel.state, channel.pending, clean(error));
    }
    for source in &snapshot.sources {
        if let Some(error) = &source.error {
            say!("source {} cannot see: {}", source.name, clean(error));
        }
    }
}
