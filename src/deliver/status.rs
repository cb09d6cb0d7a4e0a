//! How a channel stands, for the tick and the views: read without waiting.
//!
//! The lock is held for a copy only, never during a call to a channel or to the store.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::time::Mono;
use crate::notifier::Place;
use crate::store::Backlog;

/// Whether a channel lets messages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelState {
    /// Nothing stands in the way.
    #[default]
    Ok,
    /// The last attempt failed and another will be made soon.
    Retrying,
    /// The channel does not let us in until the settings change; tried again every hour.
    Refused,
}

impl ChannelState {
    /// The word used in JSON and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            ChannelState::Ok => "ok",
            ChannelState::Retrying => "retrying",
            ChannelState::Refused => "refused",
        }
    }
}

/// Attempts by their result, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages acknowledged.
    pub delivered: u64,
    /// Attempts that failed and are made again: timeouts, refusals, 5xx.
    pub failed: u64,
    /// Attempts that the channel refused for good.
    pub refused: u64,
    /// Attempts put off to keep the channel's pace.
    pub delayed: u64,
}

impl Counts {
    /// Every result by its word, in a fixed order, for `notifications_total{result}`.
    pub fn by_result(&self) -> [(&'static str, u64); 4] {
        [("delivered", self.delivered), ("failed", self.failed), ("refused", self.refused), ("delayed", self.delayed)]
    }
}

/// How a channel stands at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The channel's name.
    pub name: String,
    /// Whether it lets messages out.
    pub state: ChannelState,
    /// Edges it has not acknowledged.
    pub pending: u64,
    /// How long the oldest of them has waited; `None` when nothing is pending but what waits on purpose (quiet hours).
    pub oldest: Option<Duration>,
    /// Why the last attempt failed; `None` after a success. No secrets.
    pub last_error: Option<String>,
    /// The end of it that says what to do next, where there is one.
    pub last_advice: Option<String>,
    /// Attempts by their result.
    pub counts: Counts,
    /// Where its messages go.
    pub place: Place,
    /// The courier has looked at its outbox since it was started; before, nothing is known of the channel.
    pub looked: bool,
}

/// What a courier shows of itself.
#[derive(Debug)]
pub struct ChannelStatus {
    name: String,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
pub(super) struct Shown {
    pub state: ChannelState,
    pub backlog: Backlog,
    /// Some wait on purpose.
    pub holds: bool,
    /// Then: when the oldest of the others was committed, if there are others.
    pub oldest_due: Option<Mono>,
    pub last_error: Option<String>,
    pub last_advice: &'static str,
    pub counts: Counts,
    pub place: Place,
    pub looked: bool,
}

impl ChannelStatus {
    pub(super) fn new(name: &str) -> ChannelStatus {
        ChannelStatus { name: name.to_string(), shown: Mutex::default() }
    }

    /// The channel's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the channel stands at `now`.
    pub fn read(&self, now: Mono) -> Standing {
        let shown = self.shown();
        let oldest = if shown.holds { shown.oldest_due } else { shown.backlog.oldest_mono };
        Standing {
            name: self.name.clone(),
            state: shown.state,
            pending: shown.backlog.pending,
            oldest: oldest.map(|at| now.since(at)),
            last_error: shown.last_error.clone(),
            last_advice: Some(shown.last_advice).filter(|advice| !advice.is_empty()).map(str::to_string),
            counts: shown.counts,
            place: shown.place.clone(),
            looked: shown.looked,
        }
    }

    pub(super) fn set_backlog(&self, backlog: Backlog) {
        self.shown().backlog = backlog;
    }

    pub(super) fn change(&self, what: impl FnOnce(&mut Shown)) {
        what(&mut self.shown());
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
