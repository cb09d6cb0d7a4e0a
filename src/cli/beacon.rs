//! `watchdog beacon`: the node's side of the Consul heartbeat, as a program of its own.

use std::process::ExitCode;

use clap::Args;

use super::out::say;
use crate::beacon::{self, Plan};
use crate::client::children;
use crate::clock::Clock;
use crate::config::Config;
use crate::wake::Waker;

/// How to run.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The node's name, the last part of its key [default: beacon.node, else the host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Runs until told to stop.
pub fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    super::log::start(config);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let clock = Clock::system();
    let waker = Waker::new();
    let plan = Plan::new(config, arguments.node.as_deref())?;
    children::reap_orphans()?;
    super::run::listen_to_signals(&waker)?;
    let running = beacon::start(plan, config, &clock, &waker)?;
    say!("{}", running.first_screen());
    running.run();
    Ok(ExitCode::SUCCESS)
}
