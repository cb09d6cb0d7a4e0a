//! What is known of one node: whether it was ever seen, when it was last seen alive, and how it stands.
//!
//! What a loss is judged by is kept with the node's signal and comes back after a restart, after a reload and in the
//! next of several single passes, also of a node that nobody configured. Reads no clock and asks nobody.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::recovery::heartbeat::{Beat, Life};
use crate::core::rule::{Rule, Test};
use crate::core::signal::{More, Observation, Reading, Severity, SignalKey, Spec};
use crate::core::time::{Mono, Now, Wall, people};

/// Signals of nodes begin so.
pub const PREFIX: &str = "node/";

/// What is kept of a node that was seen alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// When it was last seen to have a key, once it has none any more.
    lost_at: Option<Wall>,
    /// When it was first seen to say that it stops as planned, while it says so.
    planned_at: Option<Wall>,
}

impl Kept {
    /// Since when it says that it stops as planned, by the clocks of now.
    pub fn planned_since(&self, now: Now) -> Option<Mono> {
        self.planned_at.map(|at| now.mono.minus(now.wall.since(at)))
    }
}

/// A node that has been spoken of.
pub struct Tracked {
    spec: Arc<Spec>,
    /// In the picture reported last.
    pub life: Life,
    /// It had a key in the picture reported last.
    pub has_key: bool,
    /// When it was last seen to have a key; moves on when it has none any more.
    pub there_at: Mono,
    /// The same by the wall clock, once it has none any more.
    lost_at: Option<Wall>,
    /// It says that it stops as planned: since when, and how long that is believed.
    planned: Option<(Wall, Duration)>,
    sight: Sight,
    /// What was handed over to be kept.
    handed: Option<Kept>,
}

/// Whether a node was ever seen to have a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    Never,
    /// In an earlier run, or under the settings before these.
    Before,
    Now,
}

impl Tracked {
    /// A node that nothing is known of at `at`, but that it was `seen_before`. `apart`: single passes, of which a second
    /// one has to see it gone this long after the first.
    pub fn new(name: &str, at: Mono, seen_before: bool, apart: Option<Duration>) -> Tracked {
        let sight = if seen_before { Sight::Before } else { Sight::Never };
        let spec = spec(name, apart);
        Tracked {
            spec,
            life: Life::Gone,
            has_key: false,
            there_at: at,
            lost_at: None,
            planned: None,
            sight,
            handed: None,
        }
    }

    /// The same, with what a source before this one kept. One that it saw alive was last seen when that source looked
    /// last, at `looked_at`.
    #[must_use]
    pub fn knowing(self, kept: Option<Kept>, looked_at: Option<Mono>, now: Now) -> Tracked {
        let Some(kept) = kept else { return self };
        let lost_at =
            kept.lost_at.or(kept.planned_at).or_else(|| looked_at.map(|at| now.wall.minus(now.mono.since(at))));
        let there_at = lost_at.map_or(self.there_at, |at| now.mono.minus(now.wall.since(at)));
        let planned = kept.planned_at.map(|at| (at, Duration::ZERO));
        Tracked { sight: Sight::Before, there_at, lost_at, planned, handed: Some(kept), ..self }
    }

    /// Takes over what a picture says of it; the one before was taken at `before`.
    pub fn take(&mut self, beat: Option<&Beat>, before: Mono, now: Now) {
        if self.has_key {
            // Until the look before this one.
            self.there_at = before;
        }
        let since = self.planned.map(|(since, _)| since);
        match beat {
            Some(beat) => {
                (self.sight, self.lost_at) = (Sight::Now, None);
                self.planned = beat.planned.map(|limit| (since.unwrap_or(now.wall), limit));
            }
            // A key that somebody took away does not make the stop any later.
            None if self.has_key => {
                self.lost_at = since.or(Some(now.wall.minus(now.mono.since(before))));
                self.planned = None;
            }
            None => self.planned = None,
        }
        self.has_key = beat.is_some();
        self.life = beat.map_or(Life::Gone, |beat| beat.life);
    }

    /// How it stands. Before things have settled, one that was only seen by somebody else is not missed. Of one that is
    /// gone and `is_stranger`, whom nobody configured, only memory speaks.
    pub fn observe(&mut self, at: Mono, is_settled: bool, is_stranger: bool) -> Observation {
        let (reading, fact) = match self.life {
            Life::Alive => (Reading::Up, Cow::Borrowed("its session holds its key")),
            Life::Planned => {
                let limit = self.planned.map_or(Duration::ZERO, |(_, limit)| limit);
                let fact = format!("it said that it stops as planned: maintenance for {} at most", people(limit));
                (Reading::Unknown, Cow::Owned(fact))
            }
            Life::Unheld => (Reading::Unknown, Cow::Borrowed("its key is there and no session holds it")),
            Life::Gone if self.has_key => {
                let limit = people(self.planned.map_or(Duration::ZERO, |(_, limit)| limit));
                let fact = format!("it stopped as planned and has not come back within {limit} (beacon.planned)");
                (Reading::Down, Cow::Owned(fact))
            }
            Life::Gone if self.sight == Sight::Before && is_settled => {
                (Reading::Down, Cow::Borrowed("its heartbeat is gone: it was there once, and not since we look"))
            }
            Life::Gone if self.sight != Sight::Now => {
                (Reading::Unknown, Cow::Borrowed("its heartbeat was not seen yet"))
            }
            Life::Gone => (Reading::Down, Cow::Borrowed("its heartbeat is gone: its session in Consul has ended")),
        };
        let seen = Observation::new(&self.spec, at, reading, fact);
        let planned_at = self.planned.map(|(at, _)| at);
        let kept = (self.sight != Sight::Never).then_some(Kept { lost_at: self.lost_at, planned_at });
        // Ten thousand nodes that stand as they stood hand over nothing.
        let is_news = kept != self.handed;
        self.handed = kept;
        // Texts and numbers only: this cannot fail.
        let keep = kept.filter(|_| is_news).and_then(|kept| serde_json::to_string(&kept).ok());
        let happened_at = self.lost_at.or(planned_at).filter(|_| reading == Reading::Down);
        let gone = is_stranger && self.life == Life::Gone && !self.has_key;
        if keep.is_none() && happened_at.is_none() && !gone {
            return seen;
        }
        seen.knowing(More { happened_at, keep, gone })
    }
}

/// `apart`: single passes, of which a second one has to see it gone this long after the first.
fn spec(name: &str, apart: Option<Duration>) -> Arc<Spec> {
    // A session's end has been waited for by Consul: one look is enough.
    let at_once = Rule::at_once(Test::Verdict);
    let rule = apart.map_or(at_once, |hold| Rule { fail_after: 2, hold, ..at_once });
    let key = SignalKey::new(&format!("{PREFIX}{name}"));
    Arc::new(Spec::new(key, format!("node {name}"), Severity::Critical, rule))
}
