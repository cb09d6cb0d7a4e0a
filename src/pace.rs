//! Waits after failures that outlive a reload: what protects others does not end with the part that waits.
//!
//! A part that reconnects by itself asks for the [`Pace`] of the place that it connects to. Whoever comes after it,
//! built from a configuration that was read again, goes on with the same count of failures and rests as long as the
//! one before would have rested. Owns no thread, and connects to nothing. The courier of a channel and the requests
//! to a cloud have such a memory of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Places remembered at most; the one that may be asked soonest makes room.
const PLACES: usize = 64;

static PACES: Mutex<BTreeMap<String, Arc<Mutex<State>>>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default)]
struct State {
    failures: u32,
    not_before: Option<Instant>,
    why: Option<String>,
}

/// The pace at which one place is asked. Cheap to clone; all of one place are one.
#[derive(Debug, Clone)]
pub struct Pace {
    first: Duration,
    last: Duration,
    state: Arc<Mutex<State>>,
}

impl Pace {
    /// The pace of `place`, for the life of the process: after failures in a row it rests `first`, then twice as long
    /// each time, at most `last`.
    pub fn of(place: &str, (first, last): (Duration, Duration)) -> Pace {
        let mut all = lock(&PACES);
        if !all.contains_key(place) && all.len() >= PLACES {
            let soonest = all.iter().min_by_key(|(_, state)| lock(state).not_before).map(|(place, _)| place.clone());
            all.remove(&soonest.unwrap_or_default());
        }
        let state = Arc::clone(all.entry(place.to_string()).or_default());
        Pace { first, last, state }
    }

    /// It failed after having taken this long, for this reason; gives how long to rest from now.
    pub fn failed(&self, took: Duration, why: &str) -> Duration {
        let mut state = lock(&self.state);
        let rest = self.first.saturating_mul(1 << state.failures.min(16)).min(self.last).saturating_sub(took);
        state.failures = state.failures.saturating_add(1);
        state.not_before = Instant::now().checked_add(rest);
        state.why = Some(why.to_string());
        rest
    }

    /// It worked: the next failure is a first one.
    pub fn worked(&self) {
        *lock(&self.state) = State::default();
    }

    /// How long it is still to rest; nothing when it may go on.
    pub fn left(&self) -> Duration {
        lock(&self.state).not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Why it failed last; `None` when it did not.
    pub fn why(&self) -> Option<String> {
        lock(&self.state).why.clone()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn whoever_comes_after_rests_as_long_as_the_one_before_would_have() {
        let pace = || Pace::of("test: one", (MS(500), MS(5_000)));
        let rests: Vec<Duration> = (0..6).map(|_| pace().failed(Duration::ZERO, "refused")).collect();
        assert_eq!(rests, [500, 1_000, 2_000, 4_000, 5_000, 5_000].map(MS));
        let left = pace().left();
        assert!(left > MS(4_000) && left <= MS(5_000), "{left:?}");
        assert_eq!(pace().why().as_deref(), Some("refused"));
        assert_eq!(Pace::of("test: another", (MS(500), MS(5_000))).left(), Duration::ZERO);
        pace().worked();
        assert_eq!((pace().left(), pace().why()), (Duration::ZERO, None));
        assert_eq!(pace().failed(MS(200), "again"), MS(300));
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_those_that_rest_longest() {
        let resting = Pace::of("test: resting", (MS(60_000), MS(60_000)));
        resting.failed(Duration::ZERO, "down");
        (0..PLACES * 2).for_each(|n| drop(Pace::of(&format!("test: many {n}"), (MS(1), MS(1)))));
        assert!(lock(&PACES).len() <= PLACES);
        assert!(Pace::of("test: resting", (MS(1), MS(1))).left() > MS(50_000));
    }
}
