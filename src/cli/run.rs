//! `watchdog run`: the daemon. Starts the parts, ticks on a fixed grid, wakes early for news, reads
//! the configuration again on SIGHUP, and ends cleanly within seconds on SIGTERM or SIGINT.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::out::say;
use crate::assemble;
use crate::client::children;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Layers};
use crate::core::time::people;
use crate::doubts::doubts;
use crate::gather::Whom;
use crate::program::Program;
use crate::wake::{Wake, Waker};

/// Early passes are at least this far apart, so that a flood of events costs no more than this.
const EARLY: Duration = Duration::from_millis(150);
/// A signal interrupted a command that looks once.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// How long undelivered messages of a single pass are waited for at its end.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long the parts of a daemon have to end in order, all of them together.
pub(super) const ORDERLY: Duration = Duration::from_secs(4);
/// How long after it was asked to end the process is gone, whatever still hangs: a disk, a full pipe. What is
/// on the disk then is what is there after a kill, which loses nothing that was acknowledged.
const GONE: Duration = Duration::from_millis(4_600);
/// How long killing what commands have left may take when there is no time for anything else.
const HASTE: Duration = Duration::from_millis(200);

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
    let clock = Clock::system();
    let waker = Waker::new();
    children::reap_orphans().context("cannot start a thread")?;
    if arguments.once {
        warn(&config);
        end_children_on_signals()?;
        let mut program = Program::start_once(&config, &clock, &waker)?;
        if config.root().state.is_empty() {
            tracing::warn!(
                "without a state file this pass knows nothing of earlier ones: what takes several checks, or a \
                 comparison with the past, cannot be judged; set state"
            );
        }
        let firing = program.once();
        program.stop(Instant::now() + FAREWELL);
        return Ok(unless_interrupted(ExitCode::from(u8::from(firing))));
    }
    listen_to_signals(&waker)?;
    let mut program = Program::start(&config, &clock, &waker).inspect_err(|_| warn(&config))?;
    let began = Instant::now();
    program.first();
    say!("{}", super::banner::banner(&config, &program));
    warn(&config);
    // The settings have become parts; a thousand probes would be held twice.
    drop(config);
    repeat(&mut program, layers, &waker, began);
    program.stop(waker.end_by().unwrap_or_else(|| Instant::now() + ORDERLY));
    Ok(ExitCode::SUCCESS)
}

/// What is allowed and probably not meant. After the first screen, which nothing should push out of sight.
fn warn(config: &Config) {
    let doubts = doubts(config).into_iter().map(|doubt| doubt.to_string());
    config.warnings().iter().cloned().chain(doubts).for_each(|warning| tracing::warn!("{warning}"));
}

/// The loop: a fixed grid from the first pass on, and passes in between for whoever has news.
fn repeat(program: &mut Program, layers: &Layers, waker: &Waker, began: Instant) {
    let mut due = next(began, program.interval(), Instant::now());
    let mut early_from = Instant::now();
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
                Wake::Answered | Wake::Command => answered = true,
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

/// Turns SIGTERM and SIGINT into [`Wake::Shutdown`], SIGHUP into [`Wake::Reload`]. From the first SIGTERM on
/// time runs: the parts have [`ORDERLY`] to end, and after [`GONE`] the process ends where it stands. So it does
/// on a second SIGTERM. A file that may not grow any more (SIGXFSZ) is a write that failed, like one on a full
/// disk, and no reason to end.
pub(super) fn listen_to_signals(waker: &Waker) -> anyhow::Result<()> {
    let too_large = rustix::process::Signal::XFSZ.as_raw();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, too_large]).context("cannot listen to signals")?;
    let waker = waker.clone();
    let listen = move || {
        let mut gone_at = None;
        loop {
            let arrived: Vec<i32> = match gone_at {
                None => signals.wait().collect(),
                Some(_) => signals.pending().collect(),
            };
            for signal in arrived {
                if signal == SIGHUP {
                    waker.wake(Wake::Reload);
                } else if signal == too_large {
                    tracing::warn!("a file may not grow any more (a limit on the size of files): the write failed");
                } else if gone_at.is_some() {
                    // Asked twice: whoever asks again does not want to wait.
                    quit(130);
                } else {
                    let now = Instant::now();
                    gone_at = Some(now + GONE);
                    waker.end(now + ORDERLY);
                }
            }
            match gone_at {
                Some(at) if Instant::now() >= at => {
                    tell_of_haste();
                    quit(0);
                }
                Some(_) => std::thread::sleep(Duration::from_millis(20)),
                None => {}
            }
        }
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(listen).context("cannot start a thread")?;
    Ok(())
}

/// Commands that look once have no parts to end, but what their checks started must not outlive them.
pub(super) fn end_children_on_signals() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot listen to signals")?;
    let listen = move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            children::end_all(Instant::now() + HASTE);
            // As without us: whoever waits for this process learns by which signal it ended.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            std::process::exit(130);
        }
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(listen).context("cannot start a thread")?;
    Ok(())
}

/// The exit code of a command that looks once, unless a signal interrupted it: what was killed for the signal says
/// nothing of how things stand, and must not pass for "all is well". The process then ends by the signal.
pub(super) fn unless_interrupted(code: ExitCode) -> ExitCode {
    if INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::sleep(HASTE + Duration::from_secs(1));
        return ExitCode::from(130);
    }
    code
}

/// Ends the process where it stands, and with it whatever it started.
fn quit(code: i32) {
    children::end_all(Instant::now() + HASTE);
    std::process::exit(code);
}

/// In a thread of its own: what hangs may be the reader of the log.
fn tell_of_haste() {
    let tell = || {
        tracing::warn!(
            "something still hangs {} after the signal (the disk of the state file?); ended without waiting for it",
            people(GONE)
        );
    };
    if std::thread::Builder::new().spawn(tell).is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
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
