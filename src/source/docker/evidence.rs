//! The last lines that a failing container wrote, for whoever is woken by it.
//!
//! Read in the look that finds it failing, on the source's own thread, and kept until it fails in another run or for
//! another reason: at most [`LOGS`] logs in one look, all of them within [`ALL`], and one container's at most once
//! in [`AGAIN`]. Lines are redacted, cut and cleaned (T15); what cannot be read is said. Never decides anything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::DockerSource;
use super::jobs::{Lines, last_lines};
use super::verdict::Reason;
use crate::core::time::Mono;

/// Logs read in one look at most.
const LOGS: usize = 8;
/// The longest that all of them may take.
const ALL: Duration = Duration::from_secs(1);
/// Least time between two reads of the log of one container that goes on failing for one reason.
const AGAIN: Duration = Duration::from_mins(1);

/// What was read of one container's log.
#[derive(Debug)]
pub struct Log {
    id: String,
    started_at: String,
    reason: Reason,
    read_at: Mono,
    lines: Lines,
}

impl Log {
    /// True when it says nothing about what is wrong now.
    fn is_old(&self, id: &str, started_at: &str, reason: Reason, now: Mono) -> bool {
        let other = self.id != id || self.reason != reason;
        other || (self.started_at != started_at && now.since(self.read_at) >= AGAIN)
    }
}

/// True for what its own log may explain.
fn is_explained(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Failed | Reason::Stopped | Reason::CrashLoop | Reason::OutOfMemory | Reason::Unhealthy | Reason::Dead
    )
}

/// The lines in quotes, as evidence for what is wrong now; why there are none, where there should be some.
pub fn quoted(log: Option<&Log>, reason: Reason) -> Vec<String> {
    match log.filter(|log| log.reason == reason).map(|log| &log.lines) {
        None => Vec::new(),
        Some(Ok(lines)) => lines.iter().map(|line| format!("\"{line}\"")).collect(),
        Some(Err(why)) => vec![format!("its log cannot be read: {}", super::fact::clean(why, 160))],
    }
}

impl DockerSource {
    /// Reads the logs of those that fail for one of these reasons and of which nothing is known yet.
    pub(super) fn read_logs<'a>(&mut self, failing: impl Iterator<Item = (&'a String, Reason)>, now: Mono) {
        let count = self.settings.log_lines;
        let deadline = Instant::now() + ALL.min(self.outfit.timeout / 4);
        let mut read = BTreeSet::new();
        for (identity, reason) in failing.filter(|(_, reason)| is_explained(*reason) && count > 0) {
            let Some(track) = self.tracks.get_mut(identity) else { continue };
            let (id, started_at) = (track.id().to_string(), track.started_at().to_string());
            if track.log.as_ref().is_some_and(|log| !log.is_old(&id, &started_at, reason, now)) {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let lines = if left.is_zero() || read.len() >= LOGS {
                Err("too many containers failed at once".to_string())
            } else {
                let terminal = track.inspected.as_ref().is_some_and(|inspected| inspected.config.tty);
                let log = self.docker.logs(&id, count, terminal, left);
                log.map(|log| last_lines(&log, count as usize)).map_err(|error| error.cause.to_string())
            };
            read.insert(identity);
            track.log = Some(Log { id, started_at, reason, read_at: now, lines });
        }
    }
}
