//! The thread that keeps one blocking read of the prefix open.
//!
//! Publishes each picture and wakes the loop when a node came or went, or when Consul became visible or
//! invisible; anything else waits for the next tick. Reads are at least [`SPACING`] apart, so that a
//! busy Consul is not asked in a circle. Ends with the source that started it, after the read under way.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::picture::Reader;
use crate::clock::Clock;
use crate::core::recovery::heartbeat::Heartbeats;
use crate::core::time::Mono;
use crate::source::SourceName;
use crate::wake::{Wake, Waker};

/// Least time between the beginnings of two reads that brought news; below the second within which a
/// loss has to be seen.
const SPACING: Duration = Duration::from_millis(400);
/// Waits after failures.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// What was read last.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The heartbeats, or why they cannot be seen.
    pub outcome: Result<Arc<Heartbeats>, String>,
    /// When.
    pub at: Mono,
}

#[derive(Default)]
struct Shared {
    latest: Mutex<Option<Reading>>,
}

/// The handle of the thread; it ends when this is dropped.
pub struct Follower {
    shared: Arc<Shared>,
}

impl Follower {
    /// Starts the thread. Where none can be had, nothing is ever read, and the source says so.
    pub fn start(mut reader: Reader, wait: Duration, clock: Clock, waker: Waker, name: SourceName) -> Follower {
        let shared = Arc::new(Shared::default());
        let weak = Arc::downgrade(&shared);
        let follow = move || {
            let mut failures = 0;
            while weak.strong_count() > 0 {
                let began = Instant::now();
                let outcome = reader.read(Some(wait), &clock);
                failures = if outcome.is_ok() { 0 } else { failures + 1 };
                if publish(&weak, Reading { outcome, at: clock.now().mono }) {
                    waker.wake(Wake::Look(Arc::clone(&name)));
                }
                thread::sleep(rest(failures, began.elapsed()));
            }
        };
        let thread = thread::Builder::new().name("heartbeats".to_string()).stack_size(512 * 1024).spawn(follow);
        if let Err(error) = thread {
            tracing::error!("cannot start a thread to read heartbeats: {error}");
        }
        Follower { shared }
    }

    /// What was read last; `None` before the first answer.
    pub fn latest(&self) -> Option<Reading> {
        self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long to wait before the next read.
fn rest(failures: u32, took: Duration) -> Duration {
    let least = match failures {
        0 => SPACING,
        n => BACKOFF.0.saturating_mul(1 << (n - 1).min(8)).min(BACKOFF.1),
    };
    least.saturating_sub(took)
}

/// Shows a picture; true when somebody should look at once.
fn publish(shared: &Weak<Shared>, reading: Reading) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    let mut latest = shared.latest.lock().unwrap_or_else(PoisonError::into_inner);
    let is_news = match (latest.as_ref().map(|before| &before.outcome), &reading.outcome) {
        (Some(Ok(before)), Ok(now)) => differ(before, now),
        (Some(Err(_)), Err(_)) => false,
        _ => true,
    };
    *latest = Some(reading);
    is_news
}

/// True when a node came, went, or lives in another way than before.
fn differ(before: &Heartbeats, now: &Heartbeats) -> bool {
    if Arc::ptr_eq(&before.nodes, &now.nodes) {
        return false;
    }
    let mut pairs = before.nodes.iter().zip(now.nodes.iter());
    before.nodes.len() != now.nodes.len()
        || pairs.any(|((a, x), (b, y))| a != b || x.life != y.life || x.boot != y.boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_spaced_and_failures_wait_longer_up_to_a_limit() {
        let ms = Duration::from_millis;
        for (failures, took, waited) in [
            (0, 0, 400),
            (0, 300, 100),
            (0, 15_000, 0),
            (1, 0, 500),
            (2, 0, 1_000),
            (4, 0, 4_000),
            (99, 0, 5_000),
            (1, 900, 0),
        ] {
            assert_eq!(rest(failures, ms(took)), ms(waited), "{failures} {took}");
        }
    }
}
