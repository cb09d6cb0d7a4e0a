//! The thread that keeps one blocking read of the prefix open.
//!
//! Publishes each picture and wakes the loop when a node came or went, or when Consul became visible or
//! invisible; anything else waits for the next tick. Reads are at least [`SPACING`] apart, so that a
//! busy Consul is not asked in a circle. Ends with the source that started it, after the read under way; the wait
//! after a failure goes on in the thread that comes after it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::picture::Reader;
use crate::clock::Clock;
use crate::core::recovery::heartbeat::Heartbeats;
use crate::core::time::Mono;
use crate::pace::Pace;
use crate::source::SourceName;
use crate::wake::{Wake, Waker};

/// Least time between the beginnings of two reads that brought news; below the second within which a
/// loss has to be seen.
const SPACING: Duration = Duration::from_millis(400);
/// Waits after failures; the pace of one Consul.
pub const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// What was read last.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The heartbeats, or why they cannot be seen.
    pub outcome: Result<Arc<Heartbeats>, String>,
    /// When.
    pub at: Mono,
}

struct Shared {
    latest: Mutex<Option<Reading>>,
}

/// The handle of the thread; it ends when this is dropped.
pub struct Follower {
    shared: Arc<Shared>,
}

impl Follower {
    /// Starts the thread. Where none can be had, nothing is ever read, and the source says so.
    pub fn start(
        mut reader: Reader,
        wait: Duration,
        (clock, waker): (Clock, Waker),
        name: SourceName,
        pace: Pace,
    ) -> Follower {
        let left = pace.left();
        let rests = pace.why().filter(|_| !left.is_zero());
        let known = rests.map(|why| Reading { outcome: Err(why), at: clock.now().mono });
        let shared = Arc::new(Shared { latest: Mutex::new(known) });
        let weak = Arc::downgrade(&shared);
        let follow = move || {
            thread::sleep(left);
            while weak.strong_count() > 0 {
                let began = Instant::now();
                let outcome = reader.read(Some(wait), &clock);
                let rest = match &outcome {
                    Ok(_) => {
                        pace.worked();
                        SPACING.saturating_sub(began.elapsed())
                    }
                    Err(why) => pace.failed(began.elapsed(), why),
                };
                if publish(&weak, Reading { outcome, at: clock.now().mono }) {
                    waker.wake(Wake::Look(Arc::clone(&name)));
                }
                thread::sleep(rest);
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
