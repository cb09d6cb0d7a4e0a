//! Jobs on their way through a look: who is asked about, whose end is told, and the last lines of their logs.
//!
//! What counts as a job and what is said of it is in [`jobs`](super::jobs); here are the calls and their bounds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::events::Hint;
use super::jobs::{self, Failure, Lines};
use super::select::{Awaited, Called};
use super::{Answers, DockerSource};
use crate::client::docker::Listed;
use crate::core::signal::Observation;
use crate::core::time::Now;

/// Logs read in one look at most.
const LOGS: usize = 8;
/// The longest that one log may take.
const ONE_LOG: Duration = Duration::from_secs(1);

impl DockerSource {
    /// One-off jobs to be asked about in this look.
    pub(super) fn expect_jobs(&mut self, list: &[Listed]) -> Vec<(String, Called)> {
        let (ended, lost) = self.listener.as_ref().map(super::events::Listener::ended).unwrap_or_default();
        let wanted = self.jobs.expect(list, &self.selection, ended);
        self.census.lost = lost.saturating_add(self.jobs.lost);
        if self.census.lost > 0 {
            tracing::warn!(
                count = self.census.lost,
                "containers ended with an error, too many at once to be told one by one"
            );
        }
        wanted
    }

    /// Takes out of `chosen` and `answers` what ended as a job, and says what there is to say about jobs.
    pub(super) fn tell_jobs(
        &mut self,
        list: &[Listed],
        wanted: &[(String, Called)],
        chosen: &mut BTreeMap<String, (Called, &Listed)>,
        answers: &mut Answers,
        now: Now,
    ) -> Vec<Observation> {
        let mut failures = Vec::new();
        for (id, called) in wanted {
            // One that did not answer is asked about again.
            if let Some(Ok(seen)) = answers.remove(&key_of(id)) {
                failures.extend(self.jobs.see(called, &seen, &self.hint(id), true));
            }
        }
        let awaited = Awaited::of(list);
        let mut over = Vec::new();
        for (identity, (called, listed)) in &*chosen {
            let Some(Ok(seen)) = answers.get(identity) else { continue };
            let is_job = jobs::is_job(called, listed, seen, &awaited, &self.selection);
            let hint = self.listener.as_ref().map(|l| l.hint(&seen.id).0).unwrap_or_default();
            failures.extend(self.jobs.see(called, seen, &hint, is_job));
            if is_job && jobs::is_over(seen) && seen.state.exit_code != 0 {
                over.push(identity.clone());
            }
        }
        for identity in over {
            chosen.remove(&identity);
            answers.remove(&identity);
            self.tracks.remove(&identity);
        }
        failures.extend(self.jobs.gone(list, &self.selection));
        let failures = self.with_logs(failures);
        self.jobs.observe(failures, now.mono)
    }

    fn hint(&self, id: &str) -> Hint {
        self.listener.as_ref().map(|listener| listener.hint(id).0).unwrap_or_default()
    }

    fn with_logs(&mut self, failures: Vec<Failure>) -> Vec<(Failure, Lines)> {
        let count = self.settings.job_lines;
        let deadline = Instant::now() + self.outfit.timeout / 2;
        let mut read = 0;
        let lines = |failure: Failure| {
            if failure.removed || count == 0 {
                return (failure, Ok(Vec::new()));
            }
            read += 1;
            let left = deadline.saturating_duration_since(Instant::now()).min(ONE_LOG);
            if left.is_zero() || read > LOGS {
                return (failure, Err("too many jobs ended at once".to_string()));
            }
            let log = self.docker.logs(&failure.id, count, failure.terminal, left);
            let lines = log.map(|log| jobs::last_lines(&log, count as usize)).map_err(|error| error.cause.to_string());
            (failure, lines)
        };
        failures.into_iter().map(lines).collect()
    }
}

/// Where the answer about a one-off job stands among the answers.
pub(super) fn key_of(id: &str) -> String {
    format!("job {id}")
}
