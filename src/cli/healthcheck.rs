//! `watchdog healthcheck`: has the loop ticked within three intervals? Silent when it has.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::ask;
use super::out::complain;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::time::people;
use crate::store::Store;

/// 0 when the loop is alive, 1 otherwise.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let root = config.root();
    if !root.enabled && root.listen.is_empty() {
        // Switched off it writes no state file either: that it is alive is all there is to know.
        return Ok(ExitCode::SUCCESS);
    }
    let age = if root.listen.is_empty() { age_in_file(config)? } else { age_by_daemon(config)? };
    // A commit without news is written every ten seconds at most, and the first pass takes a moment.
    let limit = (root.tick.0 * 3).max(Duration::from_secs(15));
    if age > limit {
        complain!("watchdog: the loop ticked {} ago; more than {} is too long", people(age), people(limit));
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

fn age_by_daemon(config: &Config) -> anyhow::Result<Duration> {
    let health = ask::health(config)?;
    match health.starting {
        Some(why) => anyhow::bail!("the daemon is {why}"),
        None => Ok(Duration::from_millis(health.age_ms)),
    }
}

fn age_in_file(config: &Config) -> anyhow::Result<Duration> {
    let state = &config.root().state;
    anyhow::ensure!(
        !state.is_empty(),
        "listen is off and no state file is configured; set one of them so that the health can be checked"
    );
    let (_, last) = Store::read(Path::new(state))?
        .last()
        .ok_or_else(|| anyhow::anyhow!("the state file {state} holds no tick yet"))?;
    let now = Clock::system().now().mono;
    // The clock that only runs forward begins anew with each boot.
    anyhow::ensure!(last <= now, "the state file {state} is from before this machine booted; nothing has ticked since");
    Ok(now.since(last))
}
