//! Waking the loop before its next tick: a container event, an answer that came late, a signal
//! from the operating system, a message delivered.
//!
//! A wake is a hint that costs nothing when it is lost: the next tick looks at everything anyway.
//! Wakes for one reason that arrive together are one wake, so the queue is bounded by the number
//! of different reasons.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Why the loop should not wait for its next tick.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// This source has news and wants to be asked.
    Look(Arc<str>),
    /// An answer that was still out has arrived.
    Answered,
    /// Somebody gave a command over the socket.
    Command,
    /// Read the configuration again (SIGHUP).
    Reload,
    /// End cleanly (SIGTERM, SIGINT).
    Shutdown,
}

#[derive(Default)]
struct Shared {
    wakes: Mutex<BTreeSet<Wake>>,
    bell: Condvar,
    end_by: OnceLock<Instant>,
}

/// Rings for the loop. Cheap to clone and to use from any thread.
#[derive(Clone, Default)]
pub struct Waker {
    shared: Arc<Shared>,
}

impl Waker {
    /// A waker with nobody rung yet.
    pub fn new() -> Waker {
        Waker::default()
    }

    /// Asks the loop to wake up for this reason.
    pub fn wake(&self, reason: Wake) {
        self.shared.wakes.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
        self.shared.bell.notify_all();
    }

    /// Asks the loop to end, and everything with it before `by`. The first to ask sets the time.
    pub fn end(&self, by: Instant) {
        let _ = self.shared.end_by.set(by);
        self.wake(Wake::Shutdown);
    }

    /// When everything has to have ended; `None` while nobody has asked for the end.
    pub fn end_by(&self) -> Option<Instant> {
        self.shared.end_by.get().copied()
    }

    /// Waits until something rings or `deadline` passes, and takes all reasons (none at the deadline).
    pub fn wait_until(&self, deadline: Instant) -> BTreeSet<Wake> {
        let mut wakes = self.shared.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        while wakes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            wakes = self.shared.bell.wait_timeout(wakes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut *wakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wakes_for_one_reason_are_one() {
        let waker = Waker::new();
        for _ in 0..1000 {
            waker.wake(Wake::Look(Arc::from("docker")));
        }
        waker.wake(Wake::Shutdown);
        let reasons = waker.wait_until(Instant::now() + Duration::from_secs(5));
        assert_eq!(reasons.len(), 2);
        assert!(waker.wait_until(Instant::now()).is_empty());
    }
}
