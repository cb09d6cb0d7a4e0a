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
    Events(Events),
}

impl Memory {
    /// Judges one look. A look that is not later than the one before is no new look and changes
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

    /// The value a rule on changes compares with.
    pub fn value(&self) -> Option<f64> {
        self.value
    }

    fn verdict(&mut self, test: Test, look: Look) -> Verdict {
        let value = match (test, look.reading) {
            (Test::Event, Reading::Happened(count)) => return Verdict::Events(Events { count, rise: None }),
            (Test::Verdict, Reading::Up) | (Test::Absent, Reading::Value(_) | Reading::Up) => return Verdict::Good,
            (Test::Verdict, Reading::Down) | (Test::Absent, Reading::Absent) => return Verdict::Bad,
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
mod tests {
    use super::*;
    use Condition::{Bad, Good, Pending, Unknown};
    use Reading::{Absent, Down, Happened, Up, Value};

    const BLIND: Reading = Reading::Unknown;

    fn look(seconds: i64, reading: Reading) -> Look {
        Look { reading, seen_at: Mono(seconds * 1_000), at: Mono(seconds * 1_000), warming: false }
    }

    /// The conditions after looks at 1 s, 2 s, 3 s …
    fn run(rule: &Rule, readings: &[Reading]) -> Vec<Condition> {
        let mut memory = Memory::default();
        (1..).zip(readings).map(|(at, reading)| memory.judge(rule, look(at, *reading)).0.condition).collect()
    }

    fn held(test: Test, seconds: u64) -> Rule {
        Rule { hold: Duration::from_secs(seconds), ..Rule::at_once(test) }
    }

    #[test]
    fn counts_in_a_row_confirm_and_recover() {
        let rule = Rule::counted(Test::Verdict);
        assert_eq!(run(&rule, &[Down, Down, Down, Up, Up]), [Pending, Pending, Bad, Bad, Good]);
        assert_eq!(run(&rule, &[Down, Down, Up, Down, Down]), [Pending, Pending, Good, Pending, Pending]);
        assert_eq!(run(&rule, &[Down, Down, Down, Up, Down, Up, Up]), [Pending, Pending, Bad, Bad, Bad, Bad, Good]);
        assert_eq!(run(&Rule::at_once(Test::Verdict), &[Down, Up]), [Bad, Good]);
    }

    #[test]
    fn unknown_neither_counts_nor_resets() {
        let rule = Rule::counted(Test::Verdict);
        assert_eq!(run(&rule, &[Down, BLIND, Down, BLIND, Down]), [Pending, Unknown, Pending, Unknown, Bad]);
        assert_eq!(run(&rule, &[Down, Down, Down, Up, BLIND, Up]), [Pending, Pending, Bad, Bad, Unknown, Good]);
        assert_eq!(run(&rule, &[BLIND; 3]), [Unknown; 3]);
    }

    #[test]
    fn a_hold_needs_seen_time() {
        let rule = held(Test::Verdict, 2);
        assert_eq!(run(&rule, &[Down, Down, Down, Down]), [Pending, Pending, Bad, Bad]);
        assert_eq!(run(&rule, &[Down, Down, Up, Down, Down]), [Pending, Pending, Good, Pending, Pending]);
        // The spans around an unknown look were seen by nobody.
        assert_eq!(
            run(&rule, &[Down, BLIND, Down, BLIND, Down, Down, Down]),
            [Pending, Unknown, Pending, Unknown, Pending, Pending, Bad]
        );
    }

    #[test]
    fn thresholds_have_two_edges() {
        let above = Rule::at_once(Test::Above { limit: 5.0, clear: 3.0 });
        let readings = [5.0, 5.1, 4.0, 3.1, 3.0, 5.0].map(Value);
        assert_eq!(run(&above, &readings), [Good, Bad, Bad, Bad, Good, Good]);
        let below = Rule::at_once(Test::Below { limit: 1.0, clear: 2.0 });
        let readings = [1.0, 0.9, 1.5, 1.9, 2.0, 1.0].map(Value);
        assert_eq!(run(&below, &readings), [Good, Bad, Bad, Bad, Good, Good]);
        // A clear on the wrong side of the limit is as if there were none.
        let odd = Rule::at_once(Test::Above { limit: 5.0, clear: 9.0 });
        assert_eq!(run(&odd, &[6.0, 5.0].map(Value)), [Bad, Good]);
        assert_eq!(run(&above, &[Value(f64::INFINITY), Value(f64::NEG_INFINITY)]), [Bad, Good]);
    }

    #[test]
    fn what_is_no_number_or_no_answer_is_unknown() {
        for rule in [
            Rule::at_once(Test::Above { limit: 1.0, clear: 1.0 }),
            Rule::at_once(Test::Below { limit: 1.0, clear: 1.0 }),
            Rule::at_once(Test::Stalls),
            Rule::at_once(Test::Increases { counter: true }),
        ] {
            assert_eq!(run(&rule, &[Value(f64::NAN), Up, Down, Absent, Happened(3), BLIND]), [Unknown; 6], "{rule:?}");
        }
        assert_eq!(run(&Rule::at_once(Test::Stalls), &[Value(f64::INFINITY)]), [Unknown]);
        assert_eq!(run(&Rule::at_once(Test::Verdict), &[Value(1.0), Absent, Happened(1)]), [Unknown; 3]);
        assert_eq!(run(&Rule::at_once(Test::Event), &[Value(1.0), Absent, Up, Down]), [Unknown; 4]);
        assert_eq!(run(&Rule::at_once(Test::Absent), &[Down, Happened(0)]), [Unknown; 2]);
    }

    #[test]
    fn absence_is_bad_and_presence_good() {
        let rule = Rule::at_once(Test::Absent);
        assert_eq!(run(&rule, &[Absent, Value(0.0), Absent, Value(f64::NAN), Up]), [Bad, Good, Bad, Good, Good]);
    }

    #[test]
    fn a_value_that_stands_still_stalls_and_movement_ends_it() {
        let rule = held(Test::Stalls, 2);
        let readings = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0].map(Value);
        assert_eq!(run(&rule, &readings), [Good, Pending, Bad, Bad, Good, Pending]);
        // A blind span is no standstill that was seen.
        let readings = [Value(1.0), BLIND, Value(1.0), Value(1.0), Value(1.0)];
        assert_eq!(run(&rule, &readings), [Good, Unknown, Good, Pending, Bad]);
    }

    fn rises(counter: bool, values: &[(f64, bool)]) -> Vec<Option<(f64, f64)>> {
        let (rule, mut memory) = (Rule::at_once(Test::Increases { counter }), Memory::default());
        (1..)
            .zip(values)
            .map(|(at, (value, warming))| {
                let look = Look { warming: *warming, ..look(at, Value(*value)) };
                let (judgement, events) = memory.judge(&rule, look);
                assert_eq!(judgement.condition, Good);
                assert_eq!(events.count, u32::from(events.rise.is_some()));
                events.rise
            })
            .collect()
    }

    #[test]
    fn each_rise_is_an_event_and_a_restarted_counter_begins_at_nothing() {
        let rise = |from, to| Some((from, to));
        let values = [(5.0, false), (5.0, false), (7.0, false), (2.0, false), (2.0, false), (3.0, false)];
        assert_eq!(rises(true, &values), [None, None, rise(5.0, 7.0), rise(0.0, 2.0), None, rise(2.0, 3.0)]);
        assert_eq!(rises(false, &values), [None, None, rise(5.0, 7.0), None, None, rise(2.0, 3.0)]);
        assert_eq!(rises(true, &[(5.0, false), (0.0, false), (0.0, false)]), [None; 3]);
    }

    #[test]
    fn a_rise_during_a_warm_up_is_told_by_the_look_after_it() {
        let rise = |from, to| Some((from, to));
        assert_eq!(rises(true, &[(5.0, true), (6.0, true), (6.0, false)]), [None, None, rise(5.0, 6.0)]);
        assert_eq!(rises(true, &[(5.0, false), (6.0, true), (7.0, false)]), [None, None, rise(5.0, 7.0)]);
        assert_eq!(rises(true, &[(5.0, false), (1.0, true), (1.0, false)]), [None, None, rise(0.0, 1.0)]);
    }

    #[test]
    fn events_count_themselves_and_keep_no_state() {
        let (rule, mut memory) = (Rule::at_once(Test::Event), Memory::default());
        for (at, count) in [(1, 0), (2, 3), (3, 1), (4, 0)] {
            let (judgement, events) = memory.judge(&rule, look(at, Happened(count)));
            assert_eq!((judgement.condition, judgement.why, events.count), (Good, Why::Quiet, count));
        }
        assert_eq!(memory.judge(&rule, look(4, Happened(9))).1.count, 0, "the same look twice is one look");
    }

    #[test]
    fn an_old_look_is_no_new_look() {
        let (rule, mut memory) = (Rule::counted(Test::Verdict), Memory::default());
        for at in [5, 5, 4, 5, i64::MIN / 1_000] {
            let old = Look { at: Mono(9_000), ..look(at, Down) };
            assert_eq!(memory.judge(&rule, old).0, Judgement { condition: Pending, why: Why::Counting(1) });
        }
        // Nor does it bring back into sight what could not be seen since.
        memory.judge(&rule, look(6, BLIND));
        assert_eq!(memory.judge(&rule, Look { at: Mono(9_000), ..look(5, Up) }).0.condition, Unknown);
    }

    #[test]
    fn a_look_from_the_future_tells_nothing_and_holds_up_nothing() {
        let (rule, mut memory) = (Rule::at_once(Test::Verdict), Memory::default());
        let future = Look { at: Mono(1_000), ..look(99, Down) };
        assert_eq!(memory.judge(&rule, future).0.condition, Unknown);
        // The clock itself went back behind the last look.
        assert_eq!(memory.judge(&rule, look(50, Up)).0.condition, Good);
        assert_eq!(memory.judge(&rule, look(1, Down)).0.condition, Bad);
    }

    #[test]
    fn a_warm_up_counts_but_confirms_nothing() {
        let warm = |at, reading| Look { warming: true, ..look(at, reading) };
        let (rule, mut memory) = (Rule::at_once(Test::Verdict), Memory::default());
        assert_eq!(memory.judge(&rule, warm(1, Down)).0, Judgement { condition: Pending, why: Why::WarmingUp });
        assert_eq!(memory.judge(&rule, look(2, Down)).0.condition, Bad);
        // What is confirmed stays so in a warm-up, and may recover in it.
        assert_eq!(memory.judge(&rule, warm(3, Down)).0.condition, Bad);
        assert_eq!(memory.judge(&rule, warm(4, Up)).0.condition, Good);
    }

    #[test]
    fn lost_time_forgets_counts_and_ages_but_not_what_was_confirmed() {
        let (rule, mut memory) =
            (Rule { hold: Duration::from_secs(1), ..Rule::counted(Test::Verdict) }, Memory::default());
        for at in [1, 2] {
            memory.judge(&rule, look(at, Down));
        }
        memory.forget_ages();
        assert_eq!(memory.judge(&rule, look(3, Down)).0.why, Why::Counting(1));
        memory.judge(&rule, look(4, Down));
        assert_eq!(memory.judge(&rule, look(5, Down)).0.condition, Bad);
        memory.judge(&rule, look(6, Up));
        memory.forget_ages();
        assert_eq!(memory.judge(&rule, look(7, Up)).0.why, Why::Recovering(1));
        assert_eq!(memory.judge(&rule, look(8, Up)).0.condition, Good);
    }

    #[test]
    fn flapping_begins_at_thirty_and_ends_at_twenty_percent() {
        let (rule, mut memory) = (Rule::counted(Test::Verdict), Memory::default());
        let judged: Vec<Judgement> =
            (1..=6).map(|at| memory.judge(&rule, look(at, if at % 2 == 1 { Down } else { Up })).0).collect();
        assert!(judged[..5].iter().all(|judged| judged.condition != Bad), "{judged:?}");
        assert_eq!(judged[5], Judgement { condition: Bad, why: Why::Flapping(6) });
        // Six changes lie among the last twenty-one looks until the first of them falls out.
        let whys: Vec<Why> = (7..=30).map(|at| memory.judge(&rule, look(at, Up)).0.why).collect();
        let settled = whys.iter().position(|why| *why == Why::LooksGood).unwrap();
        assert_eq!(whys[settled - 1], Why::Flapping(5));
        assert_eq!(settled, 15, "the second change leaves with the 22nd look: {whys:?}");
    }

    #[test]
    fn flapping_ends_only_on_one_side() {
        let (rule, mut memory) = (Rule::counted(Test::Verdict), Memory::default());
        for at in 1..=6 {
            memory.judge(&rule, look(at, if at % 2 == 1 { Down } else { Up }));
        }
        let mut why = Why::NotSeen;
        for at in 7..=21 {
            why = memory.judge(&rule, look(at, Up)).0.why;
        }
        assert_eq!(why, Why::Flapping(5));
        // Few changes are left, but one bad look is neither a recovery nor a confirmed failure.
        for at in [22, 23] {
            assert_eq!(memory.judge(&rule, look(at, Down)).0.condition, Bad);
        }
        assert_eq!(memory.judge(&rule, look(24, Down)).0.why, Why::Confirmed);
    }

    #[test]
    fn going_to_and_fro_below_the_hold_is_normal_life() {
        let (rule, mut memory) = (held(Test::Above { limit: 5.0, clear: 5.0 }, 60), Memory::default());
        for at in 1..=100 {
            let reading = Value(if at % 2 == 0 { 9.0 } else { 1.0 });
            assert_ne!(memory.judge(&rule, look(at, reading)).0.condition, Bad);
        }
    }

    #[test]
    fn a_restored_memory_confirms_what_was_said_and_nothing_else() {
        let (rule, mut memory) = (Rule::counted(Test::Verdict), Memory::default());
        memory.judge(&rule, look(1_000_000, Down));
        for open in [false, true] {
            let mut restored = memory.restored(open);
            // Another boot: the instants of the earlier one lie in its future.
            let judged = restored.judge(&rule, look(1, Down)).0;
            assert_eq!(judged.condition, if open { Bad } else { Pending });
        }
    }

    #[test]
    fn a_value_survives_the_store_to_the_last_bit() {
        for value in [0.1 + 0.2, 1_750_000_000.123_456_7, f64::MIN_POSITIVE, -0.0, f64::MAX] {
            let memory = Memory { value: Some(value), ..Memory::default() };
            let text = serde_json::to_string(&memory).unwrap();
            let back: Memory = serde_json::from_str(&text).unwrap();
            assert_eq!(back.value.map(f64::to_bits), Some(value.to_bits()));
            assert_eq!(back, memory);
        }
    }
}
