//! What a rule remembers of one signal, and how one more look is judged by it.
//!
//! Time that nobody saw counts as neither good nor bad: durations are the sum of the spans
//! between looks with nothing unknown between them, and an unknown look neither advances nor
//! resets a count (`adr/0004-unknown-is-a-third-state.md`). Flapping is judged on the raw looks,
//! so that a signal that never stays bad long enough is still told
//! (`adr/0018-flapping-is-told.md`). Never alerts: it answers how things stand and why.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rule::{Rule, Test};
use super::signal::Reading;
use super::time::Mono;

/// Looks over which flapping is judged (Nagios).
pub const FLAP_LOOKS: u32 = 21;
/// Changes within [`FLAP_LOOKS`] looks at which a signal begins to flap: 30 % of 20.
const FLAP_ENTER: u32 = 6;
/// Changes at which it may have settled: 20 % of 20.
const FLAP_LEAVE: u32 = 4;
/// The pairs of neighbours among [`FLAP_LOOKS`] looks, one bit each.
const FLAP_PAIRS: u32 = (1 << (FLAP_LOOKS - 1)) - 1;

/// How the condition stands after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

/// Why the condition stands as it does; in words in [`words`](super::words).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Why {
    /// The last look could not tell.
    #[default]
    NotSeen,
    /// Seen bad often and long enough, but in a warm-up, in which nothing new is confirmed.
    WarmingUp,
    /// The last look was good.
    LooksGood,
    /// Bad this many looks in a row, more are needed.
    Counting(u32),
    /// Bad for enough looks, not yet for long enough time: seen bad for this long.
    Holding(Duration),
    /// Confirmed bad.
    Confirmed,
    /// Good again this many looks in a row, more are needed.
    Recovering(u32),
    /// Changed this many times within [`FLAP_LOOKS`] looks.
    Flapping(u32),
    /// An event-like signal: nothing to be well or ill.
    Quiet,
}

/// How things stand after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Judgement {
    /// How the condition stands now.
    pub condition: Condition,
    /// Why.
    pub why: Why,
}

/// What happened in a look, to be told by itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Events {
    /// How many times something happened.
    pub count: u32,
    /// For a counter that rose: its value before and after.
    pub rise: Option<(f64, f64)>,
}

/// One look at one signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// The raw fact.
    pub reading: Reading,
    /// When the look was finished.
    pub seen_at: Mono,
    /// The present: no look can be later than this.
    pub at: Mono,
    /// The look only sets the baseline; nothing new is confirmed by it.
    pub warming: bool,
    /// What is bad in it was meant by somebody: no flapping, however often it changes.
    pub meant: bool,
}

/// What a rule remembers of one signal.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The last look that could tell.
    seen_at: Option<Mono>,
    /// Nothing unknown and no lost time since that look.
    unbroken: bool,
    bad_in_a_row: u32,
    good_in_a_row: u32,
    /// Time seen bad (for a stall: time seen standing still).
    held: Duration,
    #[serde(with = "exact")]
    value: Option<f64>,
    confirmed: bool,
    flapping: bool,
    /// One bit per look, newest lowest: 1 is bad.
    looks: u32,
}

/// One reading under one test.
enum Verdict {
    Good,
    Bad,
    Unknown,
    /// Neither good nor bad, and no gap: no count moves, and no time is added.
    Nothing,
    Events(Events),
}

impl Memory {
    /// Judges one look. A look that is not later than the one before is not a new look and changes
    /// nothing; a look dated in the future tells nothing.
    pub fn judge(&mut self, rule: &Rule, look: Look) -> (Judgement, Events) {
        if self.seen_at.is_some_and(|last| last > look.at) {
            // The clock went back behind the last look. It must not hold up the looks to come.
            self.seen_at = None;
            self.break_off();
        }
        let known = look.reading != Reading::Unknown && look.seen_at <= look.at;
        if known && self.seen_at.is_some_and(|last| look.seen_at <= last) {
            return (self.standing(rule, look.warming), Events::default());
        }
        let verdict = if known { self.verdict(rule.test, look) } else { Verdict::Unknown };
        match verdict {
            Verdict::Unknown => self.break_off(),
            Verdict::Nothing => self.saw(look.seen_at),
            Verdict::Events(events) => {
                self.saw(look.seen_at);
                return (self.standing(rule, look.warming), events);
            }
            Verdict::Good => {
                self.good(rule);
                self.sample(rule, false, look);
            }
            Verdict::Bad => {
                self.bad(rule, look);
                self.sample(rule, true, look);
            }
        }
        (self.standing(rule, look.warming), Events::default())
    }

    /// Nobody saw it for a while: the span up to the next look counts as neither good nor bad.
    pub fn break_off(&mut self) {
        self.unbroken = false;
    }

    /// Counts and ages begin again: after a start or a suspend nobody knows what happened in
    /// between. What was confirmed or flapping stays so until looks say otherwise.
    pub fn forget_ages(&mut self) {
        self.break_off();
        self.held = Duration::ZERO;
        self.bad_in_a_row = 0;
        self.good_in_a_row = 0;
        if !self.flapping {
            self.looks = if self.confirmed { u32::MAX } else { 0 };
        }
    }

    /// What an earlier run left behind, when `open` says whether that run had said that it is bad.
    /// Instants of that run are void; what was said counts as confirmed, and nothing else does.
    #[must_use]
    pub fn restored(mut self, open: bool) -> Memory {
        self.seen_at = None;
        self.confirmed = open;
        self.flapping &= open;
        self.forget_ages();
        self
    }

    /// True while the signal changes to and fro.
    pub fn is_flapping(&self) -> bool {
        self.flapping
    }

    /// When the last look that told something was finished.
    pub fn seen_at(&self) -> Option<Mono> {
        self.seen_at
    }

    /// True when the last look that could tell was good.
    pub fn is_good(&self) -> bool {
        self.bad_in_a_row == 0
    }

    /// For how long it was seen bad; of a value that stands still, for how long it was seen to stand.
    pub fn held(&self) -> Duration {
        self.held
    }

    /// The value a rule on changes compares with.
    pub fn value(&self) -> Option<f64> {
        self.value
    }

    fn verdict(&mut self, test: Test, look: Look) -> Verdict {
        let value = match (test, look.reading) {
            (Test::Event, Reading::Happened(count)) => return Verdict::Events(Events { count, rise: None }),
            (Test::Verdict, Reading::Up) | (Test::Absent, Reading::Value(_) | Reading::Up) => return Verdict::Good,
            (Test::Verdict, Reading::Down) | (Test::Absent, Reading::Absent) => return Verdict::Bad,
            (_, Reading::Idle) => return Verdict::Nothing,
            (_, Reading::Value(value)) if !value.is_nan() => value,
            // A reading that the rule has no use for tells nothing.
            _ => return Verdict::Unknown,
        };
        let bad = match test {
            Test::Above { limit, clear } => value > if self.confirmed { clear.min(limit) } else { limit },
            Test::Below { limit, clear } => value < if self.confirmed { clear.max(limit) } else { limit },
            Test::Stalls if value.is_finite() => self.value.replace(value) == Some(value),
            Test::Increases { counter } if value.is_finite() => {
                return Verdict::Events(self.rise(value, counter, look.warming));
            }
            _ => return Verdict::Unknown,
        };
        if bad { Verdict::Bad } else { Verdict::Good }
    }

    fn rise(&mut self, value: f64, counter: bool, warming: bool) -> Events {
        let before = *self.value.get_or_insert(value);
        if warming {
            // The old baseline stays, so that a rise during the gap is told by the next look.
            return Events::default();
        }
        self.value = Some(value);
        let from = if counter && value < before { 0.0 } else { before };
        if value > from { Events { count: 1, rise: Some((from, value)) } } else { Events::default() }
    }

    fn good(&mut self, rule: &Rule) {
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        self.bad_in_a_row = 0;
        self.held = Duration::ZERO;
        self.confirmed &= self.good_in_a_row < rule.recover_after;
    }

    fn bad(&mut self, rule: &Rule, look: Look) {
        // A value that stands still has stood still since the look before; badness begins now.
        let lasted = self.bad_in_a_row > 0 || rule.test == Test::Stalls;
        if let Some(last) = self.seen_at.filter(|_| lasted && self.unbroken) {
            self.held = self.held.saturating_add(look.seen_at.since(last));
        }
        self.good_in_a_row = 0;
        self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
        self.confirmed |= !look.warming && self.enough(rule);
    }

    fn enough(&self, rule: &Rule) -> bool {
        self.bad_in_a_row >= rule.fail_after && self.held >= rule.hold
    }

    fn saw(&mut self, seen_at: Mono) {
        self.seen_at = Some(seen_at);
        self.unbroken = true;
    }

    fn sample(&mut self, rule: &Rule, bad: bool, look: Look) {
        self.saw(look.seen_at);
        if bad && look.meant {
            return;
        }
        // Where the rule asks for time, going to and fro below that time is normal life.
        let sample = if rule.hold.is_zero() { bad } else { self.confirmed };
        self.looks = (self.looks << 1) | u32::from(sample);
        let changes = self.changes();
        self.flapping = if self.flapping {
            // It has settled only on one side: confirmed bad, or good for as long as a recovery needs.
            let settled = self.confirmed || self.good_in_a_row >= rule.recover_after.max(1);
            changes > FLAP_LEAVE || !settled
        } else {
            changes >= FLAP_ENTER && !look.warming
        };
    }

    /// How the condition stands by the last look.
    fn standing(&self, rule: &Rule, warming: bool) -> Judgement {
        let (condition, why) = if !self.unbroken {
            (Condition::Unknown, Why::NotSeen)
        } else if matches!(rule.test, Test::Event | Test::Increases { .. }) {
            (Condition::Good, Why::Quiet)
        } else if self.flapping {
            (Condition::Bad, Why::Flapping(self.changes()))
        } else if self.confirmed && self.good_in_a_row > 0 {
            (Condition::Bad, Why::Recovering(self.good_in_a_row))
        } else if self.confirmed {
            (Condition::Bad, Why::Confirmed)
        } else if self.bad_in_a_row == 0 || (rule.test == Test::Stalls && self.held.is_zero()) {
            (Condition::Good, Why::LooksGood)
        } else if warming && self.enough(rule) {
            (Condition::Pending, Why::WarmingUp)
        } else if self.bad_in_a_row < rule.fail_after {
            (Condition::Pending, Why::Counting(self.bad_in_a_row))
        } else {
            (Condition::Pending, Why::Holding(self.held))
        };
        Judgement { condition, why }
    }

    fn changes(&self) -> u32 {
        ((self.looks ^ (self.looks >> 1)) & FLAP_PAIRS).count_ones()
    }
}

/// A number kept to the last bit. As decimal text it may come back one bit off, and a counter
/// that seems to have risen by one bit would be an alert.
mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
    pub fn serialize<S: Serializer>(value: &Option<f64>, out: S) -> Result<S::Ok, S::Error> {
        value.map(f64::to_bits).serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<u64>::deserialize(input)?.map(f64::from_bits))
    }
}

#[cfg(test)]
mod tests;
