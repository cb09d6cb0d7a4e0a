//! The thread that sends: batch by batch, with a bounded number of attempts for each.
//!
//! Waits between attempts grow and are never in step with those of others; a wait that the collector
//! asks for is obeyed, up to an hour, and by the batches after it as well. It warns once for each reason,
//! not once for each batch, and traces nothing itself.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::encode::encode;
use super::queue::{Pause, Queue};
use super::span::Span;
use super::variables::Plan;
use super::wire::{Outcome, Wire};

/// Attempts for one batch at most.
const ATTEMPTS: u32 = 5;
/// The first wait between two attempts; each further one is twice as long.
const WAIT: Duration = Duration::from_secs(1);
/// The longest wait that a collector may ask for.
const LONGEST: Duration = Duration::from_hours(1);

pub(super) struct Exporter {
    queue: Arc<Queue>,
    wire: Wire,
    resource: Vec<(String, String)>,
    batch: usize,
    delay: Duration,
    /// The next attempt's turn.
    turn: Instant,
    /// The turn is the collector's wish and not only ours.
    asked: bool,
    /// Why it does not work, once that was said.
    trouble: Option<String>,
}

impl Exporter {
    pub(super) fn new(queue: Arc<Queue>, wire: Wire, plan: Plan) -> Exporter {
        let Plan { resource, batch, delay, .. } = plan;
        Exporter { queue, wire, resource, batch, delay, turn: Instant::now(), asked: false, trouble: None }
    }

    /// Sends until the queue ends.
    pub(super) fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        let _end = End(&queue);
        while let Some(batch) = queue.next(self.batch, self.delay) {
            self.deliver(batch);
        }
    }

    fn deliver(&mut self, batch: Vec<Span>) {
        let spans = batch.len() as u64;
        let body = encode(&self.resource, batch);
        for attempt in 0..ATTEMPTS {
            if !self.may_try() {
                break;
            }
            match self.wire.send(&body) {
                Outcome::Accepted { rejected, words } => {
                    let rejected = rejected.min(spans);
                    self.queue.count(spans - rejected, rejected);
                    return self.judge(spans, rejected, &words);
                }
                Outcome::Refused { why } => {
                    self.warn(format!("not exported: {why}"));
                    break;
                }
                Outcome::Later { why, after } => {
                    let wait = after.unwrap_or_default().min(LONGEST);
                    self.turn = Instant::now() + wait.max(backoff(attempt));
                    self.asked = after.is_some();
                    self.warn(format!("not exported yet: {why}"));
                    // At the end there is one attempt for each batch.
                    if self.queue.until().is_some() {
                        break;
                    }
                }
            }
        }
        self.queue.count(0, spans);
    }

    /// Waits for the next attempt's turn. False: the end comes before it.
    fn may_try(&self) -> bool {
        match self.queue.pause(self.turn) {
            Pause::Over => true,
            Pause::Stopped(until) => {
                // At the end our own wait is cut short; a collector that asked to be left alone is left alone.
                let now = Instant::now();
                now < until && (!self.asked || self.turn <= now)
            }
        }
    }

    fn judge(&mut self, spans: u64, rejected: u64, words: &str) {
        if rejected > 0 || !words.is_empty() {
            return self.warn(format!("the collector rejected {rejected} of {spans} spans and says: {words}"));
        }
        if self.trouble.take().is_some() {
            tracing::info!("traces: the collector takes them again");
        }
    }

    fn warn(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            tracing::warn!("traces: {why}");
        }
        self.trouble = Some(why);
    }
}

/// Says that the thread has ended, however it ends.
struct End<'a>(&'a Queue);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Half of a wait that doubles, and a random part of the other half.
fn backoff(attempt: u32) -> Duration {
    let half = WAIT * 2_u32.saturating_pow(attempt) / 2;
    // Keyed at random by the standard library, which is random enough not to march in step.
    let random = RandomState::new().build_hasher().finish();
    let millis = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(random % millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_bounds_and_differ() {
        for attempt in 0..ATTEMPTS {
            let whole = WAIT * 2_u32.pow(attempt);
            let waits: Vec<Duration> = (0..50).map(|_| backoff(attempt)).collect();
            assert!(waits.iter().all(|wait| *wait >= whole / 2 && *wait < whole), "{attempt}: {waits:?}");
            assert!(waits.windows(2).any(|pair| pair[0] != pair[1]));
        }
    }
}
