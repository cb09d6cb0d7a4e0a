//! What is remembered, and for how long.

use super::*;
use Condition::{Bad, Good, Pending, Unknown};
use Reading::{Absent, Down, Happened, Idle, Up, Value};

const BLIND: Reading = Reading::Unknown;

fn look(seconds: i64, reading: Reading) -> Look {
    Look { reading, seen_at: Mono(seconds * 1_000), at: Mono(seconds * 1_000), warming: false, meant: false }
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
    // A blind span is not a standstill that was seen.
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
    let (rule, mut memory) = (Rule { hold: Duration::from_secs(1), ..Rule::counted(Test::Verdict) }, Memory::default());
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

#[test]
fn nothing_to_judge_moves_no_count_and_is_no_gap() {
    let rule = Rule { hold: Duration::from_secs(30), ..Rule::counted(Test::Above { limit: 5.0, clear: 5.0 }) };
    let mut memory = Memory::default();
    let mut look = |seconds: i64, reading| {
        let at = Mono(seconds * 1_000);
        memory.judge(&rule, Look { reading, seen_at: at, at, warming: false, meant: false }).0.condition
    };
    assert_eq!(look(0, Idle), Condition::Good, "never measured is not blind");
    assert_eq!(look(10, Value(9.0)), Condition::Pending);
    assert_eq!(look(20, Value(9.0)), Condition::Pending);
    assert_eq!(look(600, Idle), Condition::Pending);
    assert_eq!(look(610, Value(9.0)), Condition::Pending, "three bad looks, but only 20 s of them seen");
    assert_eq!(look(620, Value(9.0)), Condition::Bad);
    assert_eq!(look(6_000, Idle), Condition::Bad, "what fires is not over because nobody asks");
    assert_eq!(look(6_010, Value(1.0)), Condition::Bad);
    assert_eq!(look(6_020, Idle), Condition::Bad);
    assert_eq!(look(6_030, Value(1.0)), Condition::Good);
}
