//! `watchdog run`: the daemon. Starts the parts, ticks on a fixed grid, wakes early for news, reads
//! the configuration again on SIGHUP, and ends cleanly within seconds on SIGTERM or SIGINT.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::out::say;
use crate::assemble;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Layers};
use crate::doubts::doubts;
use crate::gather::Whom;
use crate::program::Program;
use crate::wake::{Wake, Waker};

/// Early passes are at least this far apart, so that a flood of events costs no more than this.
const EARLY: Duration = Duration::from_millis(150);
/// How long undelivered messages are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// How to run.
#[derive(Debug, Default, Args)]
pub struct Arguments {
    /// Make one full pass, deliver, and end: for cron. Exit code 1 while something fires
    #[arg(long)]
    once: bool,
}

/// Runs until told to stop, or once.
pub fn run(layers: &Layers, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    start(layers, arguments).map_err(|error| match error.downcast::<ConfigError>() {
        Ok(first) => all_that_is_wrong(layers, first).into(),
        Err(error) => error,
    })
}

/// What `config check` would say: who cannot start is told everything at once.
fn all_that_is_wrong(layers: &Layers, first: ConfigError) -> ConfigError {
    let config = Config::read(layers, &assemble::schema());
    let problems = assemble::reckon(&config, &Clock::system()).problems;
    if problems.is_empty() { first } else { ConfigError { problems } }
}

fn start(layers: &Layers, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(layers, &assemble::schema())?;
    super::log::start(&config);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    for doubt in doubts(&config) {
        tracing::warn!("{doubt}");
    }
    let clock = Clock::system();
    let waker = Waker::new();
    if arguments.once {
        let mut program = Program::start_once(&config, &clock, &waker)?;
        let firing = program.once();
        program.stop(FAREWELL);
        return Ok(ExitCode::from(u8::from(firing)));
    }
    listen_to_signals(&waker)?;
    let mut program = Program::start(&config, &clock, &waker)?;
    say!("{}", super::banner::banner(&config, &program));
    // The settings have become parts; a thousand probes would be held twice.
    drop(config);
    repeat(&mut program, layers, &waker);
    program.stop(FAREWELL);
    Ok(ExitCode::SUCCESS)
}

/// The loop: a fixed grid, and passes in between for whoever has news.
fn repeat(program: &mut Program, layers: &Layers, waker: &Waker) {
    let mut due = Instant::now();
    let mut early_from = due;
    let mut news: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut answered = false;
    loop {
        let now = Instant::now();
        if now >= due {
            news.clear();
            answered = false;
            program.tick(&Whom::All, Some(now.duration_since(due)));
            due = next(due, program.interval(), Instant::now());
        } else if (answered || !news.is_empty()) && now >= early_from {
            program.tick(&Whom::Only(std::mem::take(&mut news)), None);
            answered = false;
            early_from = Instant::now() + EARLY;
        }
        let until = if answered || !news.is_empty() { due.min(early_from) } else { due };
        for wake in waker.wait_until(until) {
            match wake {
                Wake::Shutdown => return,
                Wake::Reload => {
                    program.reload(layers, waker);
                    due = Instant::now();
                }
                Wake::Look(source) => {
                    news.insert(source);
                }
                Wake::Answered => answered = true,
            }
        }
    }
}

/// The next place on the grid that is still ahead; ticks that were missed are not made up for.
fn next(due: Instant, interval: Duration, now: Instant) -> Instant {
    let missed = now.saturating_duration_since(due).as_nanos() / interval.as_nanos().max(1);
    let steps = u32::try_from(missed).unwrap_or(u32::MAX - 1).saturating_add(1);
    due.checked_add(interval.saturating_mul(steps)).unwrap_or(now + interval)
}

/// Turns SIGTERM and SIGINT into [`Wake::Shutdown`], SIGHUP into [`Wake::Reload`]. The second SIGTERM ends
/// the process where it stands. A file that may not grow any more (SIGXFSZ) is a write that failed, like one
/// on a full disk, and no reason to end.
pub(super) fn listen_to_signals(waker: &Waker) -> anyhow::Result<()> {
    let too_large = rustix::process::Signal::XFSZ.as_raw();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, too_large]).context("cannot listen to signals")?;
    let waker = waker.clone();
    let listen = move || {
        let mut ending = false;
        for signal in signals.forever() {
            if signal == SIGHUP {
                waker.wake(Wake::Reload);
            } else if signal == too_large {
                tracing::warn!("a file may not grow any more (a limit on the size of files): the write failed");
            } else if ending {
                // Asked twice: whoever asks again does not want to wait.
                std::process::exit(130);
            } else {
                ending = true;
                waker.wake(Wake::Shutdown);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(listen).context("cannot start a thread")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_kept_and_missed_ticks_are_not_made_up_for() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(next(start, second, start), start + second);
        assert_eq!(next(start, second, start + second / 2), start + second);
        assert_eq!(next(start, second, start + second * 3), start + second * 4);
        assert_eq!(next(start, second, start + second * 7 / 2), start + second * 4);
    }
}
