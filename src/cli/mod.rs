//! The commands, one file each. This file holds the arguments, the common steps and the exit codes:
//! 0 well, 1 something is wrong out there, 2 wrong use or configuration, 3 nothing to ask.

mod ask;
mod banner;
mod beacon;
mod check;
mod completions;
mod doctor;
mod healthcheck;
mod history;
mod log;
mod notify;
mod out;
mod paint;
mod privacy;
mod run;
mod screen;
mod settings;
mod silence;
mod status;
mod subject;
mod ways;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};

use self::out::complain;
use crate::assemble;
use crate::client::{children, shortage};
use crate::config::{Config, ConfigError, Layers};

const EXAMPLES: &str = "\
Examples:
  watchdog                                  watch with what is found here: host, Docker, console
  watchdog check                            look once at everything and print a table
  watchdog --set deps=db=tcp://db:5432 run  one more probe for this run
  watchdog why container/web                why it fires, or does not
  watchdog config explain telegram.chat_id  what a key means and where its value comes from";

/// A watchdog that tells the truth about an application, and touches machines only for good reason.
#[derive(Debug, Parser)]
#[command(name = "watchdog", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Common {
    /// A configuration file (repeatable) [default: /etc/watchdog/watchdog.toml, then ./watchdog.toml, if present]
    #[arg(long, value_name = "FILE", global = true)]
    config: Vec<PathBuf>,
    /// Set one key for this run, over files and environment (repeatable)
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch until stopped (the default)
    #[command(
        after_help = "Examples:\n  watchdog run\n  watchdog run --once   one full pass, for cron; exit code 1 while something is failing"
    )]
    Run(run::Arguments),
    /// Check everything once and print a table; sends, repairs and writes nothing
    #[command(
        after_help = "Exit code 0 when all is OK, 1 when something is failing or unknown.\n\nExamples:\n  watchdog check\n  watchdog check --json | jq '.[] | select(.state != \"ok\")'"
    )]
    Check(check::Arguments),
    /// Check the set-up and say what to type: Docker socket, /proc, state file, Telegram, clock, Consul, Oracle Cloud
    #[command(
        after_help = "Changes nothing. Exit code 0 when nothing is wrong, 1 otherwise.\n\nExamples:\n  watchdog doctor\n  docker compose run --rm watchdog doctor"
    )]
    Doctor(doctor::Arguments),
    /// Ask the running daemon how things stand, or read the state file when there is none
    #[command(
        after_help = "Exit code 0 when all is OK, 1 while something is failing, 3 without daemon and state file.\n\nExamples:\n  watchdog status        what is not OK\n  watchdog status --all  everything\n  watchdog status --watch"
    )]
    Status(status::Arguments),
    /// Show the audit log: every alert, recovery, delivery, start and stop
    #[command(
        after_help = "Examples:\n  watchdog history\n  watchdog history container/web --since 7d\n  watchdog history '#k3f9'\n  watchdog history --json | jq -r .text"
    )]
    History(history::Arguments),
    /// Explain why a signal fires or does not, and what would have to change
    #[command(after_help = "Examples:\n  watchdog why container/web\n  watchdog why sonarr\n  watchdog why '#k3f9'")]
    Why(why::Arguments),
    /// Mute a signal until a given time; it is still checked and shown
    #[command(
        after_help = "Survives restarts. What is still failing at the end is told then. Exit code 1 for an unknown signal, 2 without an end.\n\nExamples:\n  watchdog silence container/shop-web-1 --for 2h --reason upgrade\n  watchdog silence 'container/shop-*' --until 07:30"
    )]
    Silence(silence::Silence),
    /// End a silence early
    Unsilence(silence::Unsilence),
    /// List the active silences, and the maintenance windows that are open or next
    Silences(silence::List),
    /// Forget a signal whose subject is gone for good; if it appears again, it is new
    #[command(
        after_help = "Closes its open incident and ends its silence. Exit code 1 for an unknown signal, and for one that is\nstill reported, because it would come back at once.\n\nExample:\n  watchdog forget node/n3"
    )]
    Forget(silence::Forget),
    /// On a node: hold its key in Consul while it lives, so that an agent elsewhere sees when it does not
    #[command(
        after_help = "Exit code 0 on SIGTERM or SIGINT; the key then says that the stop was planned.\n\nExamples:\n  watchdog beacon\n  watchdog --set consul.address=http://consul:8500 beacon --node n1"
    )]
    Beacon(beacon::Arguments),
    /// Check, show or explain the configuration
    #[command(
        subcommand,
        after_help = "Examples:\n  watchdog --config new.toml config check\n  watchdog config explain telegram.chat_id"
    )]
    Config(settings::Command),
    /// Test the channels
    #[command(subcommand)]
    Notify(notify::Command),
    /// For a container's HEALTHCHECK: has the loop ticked within three intervals (at least 15 s)?
    Healthcheck,
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

/// How long the end waits for what checks have started; it was killed and only has to die.
const LAST: Duration = Duration::from_millis(200);

/// Parses the command line and runs one command. Errors are for people; the exit code is for machines.
pub fn main() -> ExitCode {
    privacy::keep();
    shortage::raise_limit();
    let cli = Cli::parse_from(common_first(std::env::args_os()));
    let outcome = cli.run();
    // What a check started is not left to anybody else, however the command ended.
    children::end_all(Instant::now() + LAST);
    match outcome {
        Ok(_) if out::lost() => {
            complain!("watchdog: standard output could not be written; the disk may be full");
            ExitCode::from(1)
        }
        Ok(code) => code,
        Err(error) => {
            complain!("watchdog: {error:#}");
            let usage = error.downcast_ref::<ConfigError>().is_some() || error.downcast_ref::<Usage>().is_some();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// The arguments with `--config` and `--set` before all others: of a repeatable one that stands on both
/// sides of the command, the parser would forget those before it.
fn common_first(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.fuse();
    let mut first: Vec<OsString> = arguments.next().into_iter().collect();
    let mut others = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--config" | "--set") => match arguments.next() {
                Some(value) => first.extend([argument, value]),
                // Left where it is: at the front it would take the command for its value.
                None => others.push(argument),
            },
            Some(text) if text.starts_with("--config=") || text.starts_with("--set=") => first.push(argument),
            Some("--") => {
                others.push(argument);
                others.extend(arguments.by_ref());
            }
            _ => others.push(argument),
        }
    }
    first.extend(others);
    first
}

/// A mistake in how the program was called; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

impl Cli {
    fn run(self) -> anyhow::Result<ExitCode> {
        let layers = self.common.layers();
        let load = || Config::load(&layers, &assemble::schema());
        match self.command.unwrap_or(Command::Run(run::Arguments::default())) {
            Command::Run(arguments) => run::run(&layers, &arguments),
            Command::Check(arguments) => check::run(&load()?, &arguments),
            Command::Doctor(doctor::Arguments {}) => Ok(doctor::run(&layers)),
            Command::Status(arguments) => status::run(&load()?, &arguments),
            Command::History(arguments) => history::run(&load()?, &arguments),
            Command::Why(arguments) => why::run(&load()?, &arguments),
            Command::Silence(arguments) => silence::silence(&load()?, &arguments),
            Command::Unsilence(arguments) => silence::unsilence(&load()?, &arguments),
            Command::Silences(arguments) => silence::list(&load()?, &arguments),
            Command::Forget(arguments) => silence::forget(&load()?, &arguments),
            Command::Beacon(arguments) => beacon::run(&load()?, &arguments),
            Command::Config(command) => settings::run(&layers, &command),
            Command::Notify(notify::Command::Test) => notify::test(&load()?),
            Command::Healthcheck => healthcheck::run(&load()?),
            Command::Completions(arguments) => Ok(completions::run(&arguments)),
        }
    }
}

impl Common {
    fn layers(&self) -> Layers {
        let (mut environment, mut broken) = (Vec::new(), Vec::new());
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => environment.push((name, value)),
                (Ok(name), Err(_)) => broken.push(name),
                (Err(name), _) => broken.push(name.to_string_lossy().into_owned()),
            }
        }
        Layers { files: self.config.clone(), environment, broken, overrides: self.set.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_settings_count_on_both_sides_of_the_command() {
        let words = "watchdog --set a=1 --config=x status --set b=2 --json --config y";
        let cli = Cli::parse_from(common_first(words.split(' ').map(OsString::from)));
        assert_eq!(cli.common.set, ["a=1", "b=2"]);
        assert_eq!(cli.common.config, [PathBuf::from("x"), PathBuf::from("y")]);
        assert!(matches!(cli.command, Some(Command::Status(_))));
        for words in ["watchdog status --set", "watchdog history -- --set"] {
            let parsed = Cli::try_parse_from(common_first(words.split(' ').map(OsString::from)));
            assert_eq!(parsed.is_ok(), words.contains("-- "), "{words}");
        }
    }
}
