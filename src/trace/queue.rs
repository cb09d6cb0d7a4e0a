//! The bounded queue between those who record spans and the thread that sends them.
//!
//! One lock, held for moving spans and never for I/O. What does not fit, in spans or in bytes, is
//! dropped and counted. Also knows when to end, and counts what became of every span.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Counts;
use super::span::Span;

/// Bytes queued at most, about.
const WEIGHT: usize = 8 * 1024 * 1024;
/// Bytes of a batch at most, about: a collector refuses more than 4 MiB by gRPC.
const BATCH: usize = 2 * 1024 * 1024;

pub(super) struct Queue {
    state: Mutex<State>,
    bell: Condvar,
    limit: usize,
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct State {
    spans: VecDeque<Span>,
    weight: usize,
    /// Spans that make the sender start before its delay is over.
    enough: usize,
    /// Until when to send what is left; `Some` once it is to end.
    until: Option<Instant>,
    /// The sender has ended.
    ended: bool,
}

/// How a pause ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The time is over.
    Over,
    /// It is to end, and has until then.
    Stopped(Instant),
}

impl Queue {
    /// A queue of at most `limit` spans.
    pub(super) fn new(limit: usize) -> Queue {
        let none = || AtomicU64::new(0);
        let state = Mutex::new(State { enough: limit, ..State::default() });
        Queue { state, bell: Condvar::new(), limit, exported: none(), dropped: none(), failed: none() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, span: Span) {
        let weight = span.weight();
        let mut state = self.lock();
        if state.until.is_some() || state.spans.len() >= self.limit || state.weight + weight > WEIGHT {
            drop(state);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.spans.push_back(span);
        state.weight += weight;
        // Its first span and a full batch are news for the sender; what is between is not.
        if state.spans.len() == 1 || state.spans.len() == state.enough {
            self.bell.notify_all();
        }
    }

    /// The next spans, at most `most`: when there are as many, when the first has waited for `delay`, or at once
    /// when it is to end. `None`: no more will come, or the time to send them is over.
    pub(super) fn next(&self, most: usize, delay: Duration) -> Option<Vec<Span>> {
        let mut state = self.lock();
        state.enough = most;
        while state.spans.is_empty() && state.until.is_none() {
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let due = Instant::now() + delay;
        while state.spans.len() < most && state.until.is_none() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.until.is_some_and(|until| until <= Instant::now()) {
            return None;
        }
        let mut batch = Vec::new();
        let mut weight = 0;
        while batch.len() < most && weight < BATCH {
            let Some(span) = state.spans.pop_front() else { break };
            weight += span.weight();
            batch.push(span);
        }
        state.weight = state.weight.saturating_sub(weight);
        (!batch.is_empty()).then_some(batch)
    }

    /// Waits until `instant`, or until it is to end.
    pub(super) fn pause(&self, instant: Instant) -> Pause {
        let mut state = self.lock();
        loop {
            if let Some(until) = state.until {
                return Pause::Stopped(until);
            }
            let left = instant.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Pause::Over;
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Until when to send what is left; `None` while it is not to end.
    pub(super) fn until(&self) -> Option<Instant> {
        self.lock().until
    }

    /// Asks the sender to end, waits for it until `until`, and drops what it did not send.
    pub(super) fn stop(&self, until: Instant) {
        let mut state = self.lock();
        state.until = Some(state.until.map_or(until, |before| before.min(until)));
        self.bell.notify_all();
        while !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let left = state.spans.len() as u64;
        state.spans = VecDeque::new();
        state.weight = 0;
        drop(state);
        self.dropped.fetch_add(left, Ordering::Relaxed);
    }

    /// Says that the sender has ended.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.bell.notify_all();
    }

    pub(super) fn count(&self, exported: u64, failed: u64) {
        self.exported.fetch_add(exported, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts { exported: read(&self.exported), dropped: read(&self.dropped), failed: read(&self.failed) }
    }
}
