//! `watchdog check`: looks once at everything and prints a table. Sends, repairs and writes nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::out::say;
use super::paint::{Paint, clean};
use crate::assemble;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::signal::{SignalKey, State};
use crate::core::time::{Mono, Now};
use crate::core::tracked::Remembered;
use crate::core::watch::{Policy, Standing, Watch};
use crate::gather::{Gather, Whom};
use crate::source::{Ask, Kept, Outfit, consul};
use crate::store::Store;
use crate::wake::Waker;

/// How to print.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    key: String,
    state: State,
    severity: &'static str,
    title: String,
    detail: String,
}

/// 0 when all is well, 1 when something is down or unknown.
pub fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    super::run::end_children_on_signals()?;
    let clock = Clock::system();
    let waker = Waker::new();
    let outfit = assemble::outfit(config, &clock, &waker, None, &std::sync::Arc::default());
    let seen = Seen::read(config, clock.now());
    let sources = assemble::sources(config, &Outfit { kept: seen.kept(), ..outfit })?;
    let mut gather = Gather::start(sources, clock.clone(), &waker)?;
    let root = config.root();
    let policy = Policy { cooldown: config.cooldowns(), tick: root.tick.0, warm_up: false, confirm_at_once: true };
    let mut watch = Watch::new(policy);
    if gather.names().contains(consul::ENTRY.name) {
        watch.restore(seen.rows, clock.now(), seen.same_boot, false);
    }
    let ask = Ask { now: clock.now(), fresh_since: Mono(i64::MIN), hurry_since: Mono(i64::MIN), once: true };
    let answers = gather.gather(&Whom::All, ask, gather.patience() + Duration::from_secs(1));
    let answered: BTreeSet<_> = answers.iter().map(|a| a.source.clone()).collect();
    watch.tick(clock.now(), answers);
    let mut rows: Vec<Row> = watch.standings().map(row).collect();
    for name in gather.names().difference(&answered) {
        rows.push(Row {
            key: format!("source/{name}"),
            state: State::Unknown,
            severity: "critical",
            title: format!("source {name}"),
            detail: "it did not answer in time".to_string(),
        });
    }
    rows.sort_by(|a, b| b.state.cmp(&a.state).then_with(|| a.key.cmp(&b.key)));
    if arguments.json {
        say!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        table(&rows);
    }
    let code = ExitCode::from(u8::from(rows.iter().any(|row| row.state != State::Ok)));
    Ok(super::run::unless_interrupted(code))
}

/// What a daemon, or single passes, remember of nodes: one that nobody configured is missed only by who knows that it was
/// there. Nothing where no state file can be read.
#[derive(Default)]
struct Seen {
    rows: Vec<(SignalKey, Remembered)>,
    looked_at: Option<Mono>,
    same_boot: bool,
}

impl Seen {
    fn read(config: &Config, now: Now) -> Seen {
        let Ok(store) = Store::read(Path::new(&config.root().state)) else { return Seen::default() };
        let Some((wall, mono)) = store.last() else { return Seen::default() };
        let nodes = store.signals().unwrap_or_default().into_iter().filter(|row| row.key.as_str().starts_with("node/"));
        let rows = nodes.filter_map(|row| Some((row.key, serde_json::from_str(&row.body).ok()?)));
        // On another boot both clocks do not tell the same span.
        let (ago, apart) = (now.wall.since(wall), now.mono.since(mono));
        let same_boot = ago.abs_diff(apart) < Duration::from_secs(5);
        Seen { rows: rows.collect(), looked_at: Some(now.mono.minus(ago)), same_boot }
    }

    fn kept(&self) -> Kept {
        let bodies = self.rows.iter().filter_map(|(key, row)| Some((key.clone(), row.for_source.clone()?)));
        Kept::new(bodies.collect(), self.looked_at, self.same_boot)
    }
}

fn row(standing: Standing) -> Row {
    Row {
        key: standing.key.to_string(),
        state: standing.state,
        severity: standing.severity.as_str(),
        title: standing.title,
        detail: standing.detail,
    }
}

fn table(rows: &[Row]) {
    let paint = Paint::stdout();
    let width = rows.iter().map(|row| row.key.chars().count()).max().unwrap_or(0).min(48);
    for row in rows {
        say!("{} {:<width$}  {}", paint.state(row.state), clean(&row.key), clean(&row.detail));
    }
    let wrong = rows.iter().filter(|row| row.state != State::Ok).count();
    let summary = if wrong == 0 { "all well".to_string() } else { format!("{wrong} not well") };
    say!("{}", paint.strong(&format!("{} checked: {summary}", rows.len())));
}
