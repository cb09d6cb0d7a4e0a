//! `watchdog status`: how things stand, from the daemon or from what it left. What is not OK comes first.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::ask::{Standing, standing};
use super::out::{self, complain, say};
use super::paint::{Paint, clean};
use super::screen::Screen;
use super::silence;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::recovery::phrase::Deed;
use crate::core::signal::State;
use crate::core::time::{Wall, people};
use crate::core::zone::Zone;
use crate::serve::Snapshot;
use crate::serve::snapshot::SignalView;

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(2);

/// Clears a terminal.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Width of the column of states, with its gap.
const INDENT: usize = 9;

/// Kinds of signals by which the watchdog checks itself.
const OWN: [&str; 7] = ["source/", "channel/", "watchdog/", "state/", "config/", "clock/", "recovery/"];

/// What to show.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Also what is OK
    #[arg(long)]
    all: bool,
    /// Print the daemon's JSON
    #[arg(long)]
    json: bool,
    /// Look again every two seconds until interrupted
    #[arg(long)]
    watch: bool,
}

/// Prints the standing; 0 well, 1 firing, 3 nothing to ask.
pub fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let zone = config.root().zone().unwrap_or_default();
    loop {
        let standing = standing(config)?;
        let read = !arguments.watch || out::text(if Paint::is_terminal() { CLEAR } else { "\n" });
        let code = show(&standing, arguments, &zone);
        if !arguments.watch || !read {
            return Ok(code);
        }
        std::thread::sleep(WATCH);
    }
}

fn show(standing: &Standing, arguments: &Arguments, zone: &Zone) -> ExitCode {
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
        let table =
            Table { snapshot, paint: Paint::stdout(), screen: Screen::stdout(), now: Clock::system().now().wall, zone };
        let lines = table.lines(arguments.all);
        let lines = if arguments.watch { table.screen.top(lines) } else { lines };
        lines.iter().for_each(|line| say!("{line}"));
    }
    let firing = snapshot.signals.iter().any(|s| s.state == State::Firing || s.incident.is_some());
    ExitCode::from(u8::from(firing))
}

/// True for a signal by which the watchdog checks itself.
pub fn is_own(key: &str) -> bool {
    OWN.iter().any(|kind| key.starts_with(kind))
}

struct Table<'a> {
    snapshot: &'a Snapshot,
    paint: Paint,
    screen: Screen,
    now: Wall,
    zone: &'a Zone,
}

impl Table<'_> {
    fn lines(&self, all: bool) -> Vec<String> {
        let mut lines: Vec<String> =
            self.screen.wrap(&self.headline(), 0, 2).iter().map(|line| self.paint.strong(line)).collect();
        let mut signals: Vec<&SignalView> = self.snapshot.signals.iter().map(AsRef::as_ref).collect();
        let rank = |state: State| match state {
            State::Firing => 0,
            State::Unknown => 1,
            State::Pending => 2,
            State::Ok => 3,
        };
        // What somebody has silenced, somebody knows.
        signals.sort_by_key(|s| (rank(s.state), s.silenced.is_some(), s.severity, s.key.clone()));
        let (well, ill): (Vec<&SignalView>, Vec<&SignalView>) = signals.into_iter().partition(|s| s.state == State::Ok);
        ill.iter().for_each(|signal| self.in_full(signal, &mut lines));
        self.parts(&mut lines);
        for mute in self.snapshot.silences.iter().filter(|mute| mute.active || all) {
            self.labelled("silenced", &silence::line(mute, self.now, self.zone), &mut lines);
        }
        let (own, others): (Vec<&SignalView>, Vec<&SignalView>) =
            well.into_iter().partition(|signal| is_own(signal.key.as_str()));
        if all {
            others.iter().for_each(|signal| lines.push(self.in_one_line(signal)));
            if !own.is_empty() {
                let keys: Vec<String> = own.iter().map(|signal| clean(signal.key.as_str())).collect();
                let text = format!("self-checks ({}): {}", own.len(), keys.join(", "));
                self.labelled("ok", &text, &mut lines);
            }
        } else if !own.is_empty() || !others.is_empty() {
            let count = others.len();
            let signals = if count == 1 { "signal" } else { "signals" };
            let checks = if own.len() == 1 { "self-check" } else { "self-checks" };
            let text = format!("{count} {signals} and {} {checks}; `watchdog status --all` shows them", own.len());
            self.labelled("ok", &text, &mut lines);
        }
        // What is left out is told on every screen.
        for source in &self.snapshot.sources {
            if let Some(note) = &source.note {
                self.labelled(&source.name, &clean(note), &mut lines);
            }
        }
        lines
    }

    fn headline(&self) -> String {
        let name = clean(&self.snapshot.instance);
        if !self.snapshot.enabled {
            return format!("{name}: disabled (enabled = false); nothing is watched");
        }
        let count = |state: State| self.snapshot.signals.iter().filter(|s| s.state == state).count();
        format!(
            "{name}: {} firing, {} unknown, {} pending, {} ok",
            count(State::Firing),
            count(State::Unknown),
            count(State::Pending),
            count(State::Ok)
        )
    }

    /// Who it is and since when, then the fact.
    fn in_full(&self, signal: &SignalView, lines: &mut Vec<String>) {
        let (key, name) = (clean(signal.key.as_str()), clean(signal.name()));
        let title = clean(&signal.title);
        let mut parts = vec![if name == title { key } else { format!("{name} · {key}") }];
        parts.extend(signal.since.map(|since| people(self.now.since(since))));
        parts.extend(signal.incident.as_ref().map(ToString::to_string));
        let state = self.paint.state(signal.state);
        let head = self.screen.wrap(&parts.join(" · "), INDENT, INDENT);
        for (at, line) in head.into_iter().enumerate() {
            lines.push(if at == 0 { format!("{state}  {line}") } else { line });
        }
        let mut below = vec![clean(&signal.detail)];
        if let Some(silenced) = &signal.silenced {
            let until = self.zone.instant(silenced.until, self.now);
            below.push(format!("silenced until {until} by {}", clean(&silenced.pattern)));
        }
        for text in below.iter().filter(|text| !text.is_empty()) {
            let wrapped = self.screen.wrap(text, INDENT, INDENT);
            lines.extend(
                wrapped
                    .into_iter()
                    .enumerate()
                    .map(|(at, line)| if at == 0 { format!("{}{line}", " ".repeat(INDENT)) } else { line }),
            );
        }
    }

    fn in_one_line(&self, signal: &SignalView) -> String {
        let since = signal.since.map(|since| format!(" · {}", people(self.now.since(since)))).unwrap_or_default();
        let text = format!("{}{since} · {}", clean(signal.key.as_str()), clean(&signal.detail));
        let room = Screen { columns: self.screen.columns.saturating_sub(INDENT), ..self.screen };
        format!("{}  {}", self.paint.state(signal.state), room.cut(&text))
    }

    fn labelled(&self, label: &str, text: &str, lines: &mut Vec<String>) {
        let taken = label.chars().count().max(INDENT - 1) + 1;
        for (at, line) in self.screen.wrap(text, taken, INDENT).into_iter().enumerate() {
            lines.push(if at == 0 { format!("{} {line}", self.paint.faint(&format!("{label:<8}"))) } else { line });
        }
    }

    /// Repairs, channels and sources that are not as they should be.
    fn parts(&self, lines: &mut Vec<String>) {
        let mut say = |text: String| lines.extend(self.screen.wrap(&text, 0, 2));
        for target in self.snapshot.targets.iter().filter(|target| target.phase != "healthy") {
            let attempts = if target.attempts > 0 { format!(", attempt {}", target.attempts) } else { String::new() };
            let what = Deed::of(target.simulated).names(format_args!("repair of {}", clean(&target.name)));
            say(format!("{what}: {}{attempts}: {}", clean(&target.phase), clean(&target.reason)));
        }
        for channel in self.snapshot.channels.iter().filter(|c| c.state != "ok" || c.pending > 0) {
            let error = channel.error.as_deref().unwrap_or("delivering");
            say(format!(
                "channel {}: {}, {} undelivered: {}",
                channel.name,
                channel.state,
                channel.pending,
                clean(error)
            ));
        }
        for source in &self.snapshot.sources {
            if let Some(error) = &source.error {
                say(format!("source {} cannot see: {}", source.name, clean(error)));
            }
        }
    }
}
