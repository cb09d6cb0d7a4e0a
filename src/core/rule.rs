//! Rules: from one observation and what is remembered to a condition.
//!
//! A rule has a [`Test`] (is this reading bad?), counts in a row, and a time the badness must
//! have lasted. Time that nobody saw counts as neither good nor bad: durations are the sum of
//! the spans between looks with nothing unknown between them. Flapping is judged on the raw
//! looks, so that a signal that never stays bad long enough is still told (Nagios' numbers).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::signal::Reading;
use super::time::Mono;

/// Looks over which flapping is judged (Nagios).
pub const FLAP_LOOKS: u32 = 21;
/// Changes within [`FLAP_LOOKS`] looks at which a signal begins to flap: 30 % of 20.
const FLAP_ENTER: u32 = 6;
/// Changes at which it has settled: 20 % of 20.
const FLAP_LEAVE: u32 = 4;

/// Fail and recover counts that the field has learnt (Gatus).
pub const FAIL_AFTER: u32 = 3;
/// Looks in a row that must be good before a signal counts as recovered.
pub const RECOVER_AFTER: u32 = 2;
/// How long a signal may be unknown before that is told by itself.
pub const UNKNOWN_AFTER: Duration = Duration::from_secs(600);

/// When observations of a signal mean trouble.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// What makes a single reading bad.
    pub test: Test,
    /// Bad looks in a row before it fires, at least 1.
    pub fail_after: u32,
    /// Good looks in a row before it is over, at least 1.
    pub recover_after: u32,
    /// Time it must have been seen bad before it fires; for [`Test::Stalls`] the time without movement.
    pub hold: Duration,
    /// Unknown for this long is an alert of its own; zero never.
    pub unknown_after: Duration,
}

impl Rule {
    /// A rule with the given test that fires and recovers at the first look.
    pub const fn at_once(test: Test) -> Rule {
        Rule { test, fail_after: 1, recover_after: 1, hold: Duration::ZERO, unknown_after: UNKNOWN_AFTER }
    }

    /// A rule with the given test and the default counts (3 to fail, 2 to recover).
    pub const fn counted(test: Test) -> Rule {
        Rule { fail_after: FAIL_AFTER, recover_after: RECOVER_AFTER, ..Rule::at_once(test) }
    }
}

/// What makes a single reading bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Test {
    /// The reading speaks for itself: `Down` is bad, `Up` is good.
    Verdict,
    /// Bad above `limit`; once bad, good again only at or below `clear` (hysteresis).
    Above {
        /// Bad when the value is greater than this.
        limit: f64,
        /// Good again at or below this; equal to `limit` for none.
        clear: f64,
    },
    /// Bad below `limit`; once bad, good again only at or above `clear`.
    Below {
        /// Bad when the value is less than this.
        limit: f64,
        /// Good again at or above this.
        clear: f64,
    },
    /// Each rise of the value is an event. Keeps no state.
    Increases {
        /// A counter that fell was restarted: its new value is the rise.
        counter: bool,
    },
    /// Bad when the value has not moved for the rule's `hold`.
    Stalls,
    /// Bad when the thing is absent, good when it has any value.
    Absent,
    /// Bad is an event: `Happened(n)` with n > 0. Keeps no state.
    Event,
}

/// How the condition stands after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Condition {
    /// Well.
    Good,
    /// Bad, but not yet often or long enough.
    Pending,
    /// Confirmed.
    Bad,
    /// Cannot be told.
    #[default]
    Unknown,
}

/// Why the condition stands as it does; `Display` is in `watch`, where the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Why {
    /// The last look could not tell.
    #[default]
    NotSeen,
    /// The look before a verdict counts again after a start, suspend or clock step.
    WarmingUp,
    /// The last look was good.
    LooksGood,
    /// Bad this many looks in a row, more are needed.
    Counting(u32),
    /// Bad for long enough looks, not yet for long enough time: seen bad for this long.
    Holding(Duration),
    /// Confirmed bad.
    Confirmed,
    /// Good again this many looks in a row, more are needed.
    Recovering(u32),
    /// Changed this many times within [`FLAP_LOOKS`] looks.
    Flapping(u32),
    /// An event-like signal with nothing new.
    Quiet,
}

/// The outcome of judging one look.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Judgement {
    /// How the condition stands now.
    pub condition: Condition,
    /// Why.
    pub why: Why,
    /// Flapping began with this look.
    pub flap_began: bool,
    /// Events to be told: how many happened, and for a rise the value before and after.
    pub events: u32,
    /// The rise behind the events.
    pub rise: Option<(f64, f64)>,
}

/// What a rule remembers of one signal.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The last look that counted.
    seen_at: Option<Mono>,
    /// That look could tell; an unknown one breaks the sum of seen time.
    told: bool,
    bad_in_a_row: u32,
    good_in_a_row: u32,
    /// Time seen bad (for a stall: time seen standing still) without a break.
    held: Duration,
    value: Option<f64>,
    confirmed: bool,
    flapping: bool,
    /// One bit per look, newest lowest: 1 is bad.
    looks: u32,
}

/// One look, before counting.
enum Look {
    Good,
    Bad,
    Unknown,
    Events(u32, Option<(f64, f64)>),
}

impl Memory {
    /// Judges one observation. `warming`: the look only sets the baseline, nothing new is confirmed.
    /// An observation that is not later than the one before is no new look and changes nothing.
    pub fn judge(&mut self, rule: &Rule, reading: Reading, seen_at: Mono, warming: bool) -> Judgement {
        if reading != Reading::Unknown && self.seen_at.is_some_and(|last| seen_at <= last) {
            return self.standing(rule, warming);
        }
        match self.look(rule.test, reading, warming) {
            Look::Unknown => {
                self.told = false;
                Judgement { condition: Condition::Unknown, why: Why::NotSeen, ..Judgement::default() }
            }
            Look::Events(events, rise) => {
                self.seen_at = Some(seen_at);
                self.told = true;
                Judgement { condition: Condition::Good, why: Why::Quiet, events, rise, flap_began: false }
            }
            Look::Good => {
                self.good(rule, seen_at);
                self.finish(rule, warming)
            }
            Look::Bad => {
                self.bad(rule, seen_at, warming);
                self.finish(rule, warming)
            }
        }
    }

    /// Counts and ages begin again: after a start, a suspend or a step of the clock nobody knows
    /// what happened in between. What was confirmed stays so until a look says otherwise.
    pub fn forget_ages(&mut self) {
        self.told = false;
        self.bad_in_a_row = 0;
        self.good_in_a_row = 0;
        self.held = Duration::ZERO;
        self.looks = if self.confirmed { u32::MAX } else { 0 };
    }

    /// The last value a rule on values saw, for the store.
    pub fn value(&self) -> Option<f64> {
        self.value
    }

    fn look(&mut self, test: Test, reading: Reading, warming: bool) -> Look {
        let value = match (test, reading) {
            (_, Reading::Unknown) => return Look::Unknown,
            (Test::Event, Reading::Happened(count)) => return Look::Events(count, None),
            (Test::Verdict, Reading::Up) | (Test::Absent, Reading::Value(_) | Reading::Up) => return Look::Good,
            (Test::Verdict, Reading::Down) | (Test::Absent, Reading::Absent) => return Look::Bad,
            (_, Reading::Value(value)) if value.is_nan() => return Look::Unknown,
            (_, Reading::Value(value)) => value,
            // A reading that the rule has no use for tells nothing.
            _ => return Look::Unknown,
        };
        let bad = match test {
            Test::Above { limit, clear } => value > if self.confirmed { clear.min(limit) } else { limit },
            Test::Below { limit, clear } => value < if self.confirmed { clear.max(limit) } else { limit },
            Test::Stalls => {
                let still = self.value == Some(value);
                self.value = Some(value);
                still
            }
            Test::Increases { counter } => return self.rise(value, counter, warming),
            Test::Verdict | Test::Event | Test::Absent => return Look::Unknown,
        };
        if bad { Look::Bad } else { Look::Good }
    }

    fn rise(&mut self, value: f64, counter: bool, warming: bool) -> Look {
        let Some(before) = self.value else {
            self.value = Some(value);
            return Look::Events(0, None);
        };
        if warming {
            // The old baseline stays, so that a rise during the gap is told by the next look.
            return Look::Events(0, None);
        }
        self.value = Some(value);
        let from = if counter && value < before { 0.0 } else { before };
        if value > from { Look::Events(1, Some((from, value))) } else { Look::Events(0, None) }
    }

    fn good(&mut self, rule: &Rule, seen_at: Mono) {
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        self.bad_in_a_row = 0;
        self.held = Duration::ZERO;
        if self.good_in_a_row >= rule.recover_after {
            self.confirmed = false;
        }
        self.seen(rule, seen_at, false);
    }

    fn bad(&mut self, rule: &Rule, seen_at: Mono, warming: bool) {
        self.good_in_a_row = 0;
        if !warming {
            let counts = self.told && (self.bad_in_a_row > 0 || rule.test == Test::Stalls);
            if let Some(last) = self.seen_at.filter(|_| counts) {
                self.held = self.held.saturating_add(seen_at.since(last));
            }
            self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
            self.confirmed |= self.bad_in_a_row >= rule.fail_after && self.held >= rule.hold;
        }
        self.seen(rule, seen_at, true);
    }

    fn seen(&mut self, rule: &Rule, seen_at: Mono, bad: bool) {
        self.seen_at = Some(seen_at);
        self.told = true;
        // Where the rule asks for time, going to and fro below that time is normal life.
        let sample = if rule.hold.is_zero() { bad } else { self.confirmed };
        self.looks = (self.looks << 1) | u32::from(sample);
    }

    fn finish(&mut self, rule: &Rule, warming: bool) -> Judgement {
        let before = self.flapping;
        let changes = self.changes();
        self.flapping = if before { changes > FLAP_LEAVE } else { changes >= FLAP_ENTER && !warming };
        Judgement { flap_began: self.flapping && !before, ..self.standing(rule, warming) }
    }

    /// How the condition stands without a new look.
    fn standing(&self, rule: &Rule, warming: bool) -> Judgement {
        if matches!(rule.test, Test::Event | Test::Increases { .. }) {
            return Judgement { condition: Condition::Good, why: Why::Quiet, ..Judgement::default() };
        }
        let (condition, why) = if self.flapping {
            (Condition::Bad, Why::Flapping(self.changes()))
        } else if self.confirmed && self.good_in_a_row > 0 {
            (Condition::Bad, Why::Recovering(self.good_in_a_row))
        } else if self.confirmed {
            (Condition::Bad, Why::Confirmed)
        } else if !self.told {
            (Condition::Unknown, Why::NotSeen)
        } else if self.looks & 1 == 1 && warming {
            (Condition::Pending, Why::WarmingUp)
        } else if self.bad_in_a_row == 0 || (rule.test == Test::Stalls && self.held.is_zero()) {
            (Condition::Good, Why::LooksGood)
        } else if self.bad_in_a_row < rule.fail_after {
            (Condition::Pending, Why::Counting(self.bad_in_a_row))
        } else {
            (Condition::Pending, Why::Holding(self.held))
        };
        Judgement { condition, why, ..Judgement::default() }
    }

    fn changes(&self) -> u32 {
        let pairs = (1u32 << (FLAP_LOOKS - 1)) - 1;
        ((self.looks ^ (self.looks >> 1)) & pairs).count_ones()
    }
}
