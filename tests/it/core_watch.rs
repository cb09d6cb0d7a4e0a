//! The whole core in small scenes: sources that come, go and fail, warm-ups, events, restarts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use watchdog::core::edge::{Edge, EdgeKind};
use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::{Answer, Reading, Report, Severity, SignalKey, Spec, State};
use watchdog::core::time::Mono;
use watchdog::core::watch::{Outcome, Policy, Watch};

use crate::world::{World, answer, full, policy, saw, spec};

const TICK: Duration = Duration::from_secs(15);

fn said(out: &Outcome) -> Vec<(&str, EdgeKind)> {
    out.edges.iter().map(|edge| (edge.key.as_str(), edge.kind)).collect()
}

impl World {
    /// One tick later a full answer with this reading of one signal.
    fn see(&mut self, spec: &Arc<Spec>, reading: Reading) -> Outcome {
        self.pass_time(TICK);
        let at = self.now.mono;
        self.pass(vec![full("eye", at, vec![saw(spec, at, reading)])])
    }

    fn fail(&mut self) -> Outcome {
        self.pass_time(TICK);
        let at = self.now.mono;
        self.pass(vec![answer("eye", at, Err("it hangs".to_string()))])
    }

    fn state(&self, key: &str) -> Option<State> {
        self.watch.standings().find(|standing| standing.key.as_str() == key).map(|standing| standing.state)
    }
}

fn warm(rule: Rule) -> (World, Arc<Spec>) {
    let (mut world, spec) = (World::new(policy()), spec("a/web", rule));
    assert!(world.see(&spec, Reading::Up).edges.is_empty());
    (world, spec)
}

#[test]
fn the_life_of_an_incident_has_one_name() {
    let (mut world, spec) = warm(Rule::counted(Test::Verdict));
    let mut edges: Vec<Edge> = Vec::new();
    for _ in 0..250 {
        edges.extend(world.see(&spec, Reading::Down).edges);
    }
    assert_eq!(world.state("a/web"), Some(State::Firing));
    edges.extend(world.see(&spec, Reading::Up).edges);
    edges.extend(world.see(&spec, Reading::Up).edges);
    let kinds: Vec<EdgeKind> = edges.iter().map(|edge| edge.kind).collect();
    assert_eq!(kinds, [EdgeKind::Alert, EdgeKind::Realert, EdgeKind::Recovery]);
    assert!(edges.iter().all(|edge| edge.incident == edges[0].incident && edge.since == edges[0].since));
    assert_eq!(edges[0].lasted, TICK * 2);
    assert_eq!(edges[1].lasted, TICK * 2 + policy().cooldown.critical);
    assert_eq!(edges[2].lasted, TICK * 251);
    assert_eq!(edges[2].reason, "the checks pass again");
}

#[test]
fn a_source_that_cannot_see_raises_its_own_alarm_and_its_signals_do_not_recover() {
    let (mut world, spec) = warm(Rule { unknown_after: Duration::from_mins(1), ..Rule::at_once(Test::Verdict) });
    assert_eq!(said(&world.see(&spec, Reading::Down)), [("a/web", EdgeKind::Alert)]);
    let mut told = Vec::new();
    for _ in 0..20 {
        let out = world.fail();
        told.extend(out.edges.into_iter().map(|edge| (edge.key.to_string(), edge.kind)));
        assert_eq!(world.state("a/web"), Some(State::Unknown));
    }
    // The signal is unknown for five minutes, but the source explains it.
    assert_eq!(told, [("source/eye".to_string(), EdgeKind::Alert)]);
    assert_eq!(
        said(&world.see(&spec, Reading::Up)),
        [("source/eye", EdgeKind::Recovery), ("a/web", EdgeKind::Recovery)]
    );
}

#[test]
fn a_source_that_was_away_for_long_comes_back_through_a_warm_up() {
    for (failures, told_at_once) in [(2, true), (3, false), (9, false)] {
        let (mut world, spec) = warm(Rule::at_once(Test::Verdict));
        for _ in 0..failures {
            world.fail();
        }
        let alert = ("a/web", EdgeKind::Alert);
        assert_eq!(said(&world.see(&spec, Reading::Down)).contains(&alert), told_at_once, "{failures} failures");
        assert_eq!(said(&world.see(&spec, Reading::Down)).contains(&alert), !told_at_once);
    }
}

#[test]
fn long_blindness_is_not_told_in_a_warm_up_but_right_after_it() {
    let (mut world, spec) = warm(Rule { unknown_after: Duration::from_mins(1), ..Rule::at_once(Test::Verdict) });
    for _ in 0..4 {
        assert!(world.see(&spec, Reading::Unknown).edges.is_empty());
    }
    world.set_clock(-3_600_000);
    assert_eq!(said(&world.see(&spec, Reading::Unknown)), [("clock/step", EdgeKind::Alert)]);
    assert_eq!(said(&world.see(&spec, Reading::Unknown)), [("a/web", EdgeKind::Unknown)]);
}

#[test]
fn naps_one_upon_the_other_are_no_time_seen_bad() {
    let hold = Duration::from_hours(1);
    let (mut world, spec) = warm(Rule { hold, ..Rule::at_once(Test::Verdict) });
    for _ in 0..20 {
        world.sleep(Duration::from_mins(30));
        let out = world.see(&spec, Reading::Down);
        assert!(!said(&out).contains(&("a/web", EdgeKind::Alert)), "ten hours asleep are not an hour of failures");
    }
}

#[test]
fn a_parent_that_fires_in_the_same_pass_explains_the_blindness() {
    for parent_key in ["app/down", "zz/down"] {
        let mut world = World::new(policy());
        let rule = Rule { unknown_after: Duration::from_mins(1), ..Rule::at_once(Test::Verdict) };
        let parent = spec(parent_key, Rule { fail_after: 6, ..rule });
        let child = Arc::new(Spec { parent: Some(parent.key.clone()), ..(*spec("b/rule", rule)).clone() });
        let mut told = Vec::new();
        for pass in 0..10 {
            world.pass_time(TICK);
            let at = world.now.mono;
            let (one, other) = if pass == 0 { (Reading::Up, Reading::Up) } else { (Reading::Down, Reading::Unknown) };
            let mut seen = vec![saw(&parent, at, one), saw(&child, at, other)];
            seen.sort_by(|a, b| a.spec.key.cmp(&b.spec.key));
            told.extend(world.pass(vec![full("app", at, seen)]).edges);
        }
        // Five passes of a minute unknown are told, and the sixth would be; the parent fires in it.
        let kinds: Vec<(&str, EdgeKind)> = told.iter().map(|edge| (edge.key.as_str(), edge.kind)).collect();
        assert_eq!(kinds, [("b/rule", EdgeKind::Unknown), (parent_key, EdgeKind::Alert)]);
    }
}

#[test]
fn a_signal_that_is_left_out_of_a_full_report_is_gone_and_its_incident_is_closed() {
    let (mut world, spec) = warm(Rule::at_once(Test::Verdict));
    world.see(&spec, Reading::Down);
    world.pass_time(TICK);
    let out = world.pass(vec![full("eye", world.now.mono, vec![])]);
    assert_eq!(said(&out), [("a/web", EdgeKind::Removed)]);
    assert_eq!(out.edges[0].fact, "removed, no longer watched");
    assert_eq!(out.edges[0].reason, "it was failing until then");
    assert_eq!(out.removed, [SignalKey::new("a/web")]);
    assert_eq!(world.state("a/web"), None);
}

#[test]
fn a_signal_that_is_left_out_of_a_partial_report_stands_until_it_is_overdue() {
    let (mut world, spec) = warm(Rule::at_once(Test::Verdict));
    for pass in 1..=45 {
        world.pass_time(TICK);
        let partial = Report { complete: false, ..Report::default() };
        let out = world.pass(vec![answer("eye", world.now.mono, Ok(partial))]);
        let state = if pass < 40 { State::Ok } else { State::Unknown };
        assert_eq!(world.state("a/web"), Some(state), "pass {pass}");
        assert_eq!(out.edges.len(), usize::from(pass == 40));
    }
    assert_eq!(said(&world.see(&spec, Reading::Up)), [("a/web", EdgeKind::Seen)]);
}

#[test]
fn an_old_look_that_its_source_vouches_for_is_neither_new_nor_overdue() {
    let (mut world, spec) = warm(Rule::counted(Test::Verdict));
    let seen_at = world.now.mono.plus(TICK);
    for _ in 0..100 {
        world.pass_time(TICK);
        let out = world.pass(vec![full("eye", world.now.mono, vec![saw(&spec, seen_at, Reading::Down)])]);
        assert!(out.edges.is_empty());
        assert_eq!(world.state("a/web"), Some(State::Pending));
    }
}

#[test]
fn nothing_new_is_alerted_by_the_first_full_answer_and_the_next_one_counts() {
    let (mut world, spec) = (World::new(policy()), spec("a/web", Rule::at_once(Test::Verdict)));
    assert!(world.see(&spec, Reading::Down).edges.is_empty());
    assert_eq!(world.state("a/web"), Some(State::Pending));
    assert_eq!(said(&world.see(&spec, Reading::Down)), [("a/web", EdgeKind::Alert)]);
}

#[test]
fn a_source_that_never_answers_fully_is_warm_after_two_ticks() {
    let (mut world, spec) = (World::new(policy()), spec("a/web", Rule::at_once(Test::Verdict)));
    let mut told = Vec::new();
    for pass in 0..5 {
        world.pass_time(TICK);
        let at = world.now.mono;
        let report = Report { observations: vec![saw(&spec, at, Reading::Down)], ..Report::default() };
        let out = world.pass(vec![answer("eye", at, Ok(report))]);
        told.extend(out.edges.iter().map(|_| pass));
    }
    assert_eq!(told, [3], "the third look ends the warm-up");
}

#[test]
fn a_suspend_opens_a_warm_up_and_is_told_and_ages_begin_again() {
    let hold = Duration::from_mins(5);
    let (mut world, spec) = warm(Rule { hold, ..Rule::at_once(Test::Verdict) });
    for _ in 0..20 {
        assert!(world.see(&spec, Reading::Down).edges.is_empty());
    }
    world.sleep(Duration::from_hours(8));
    let out = world.see(&spec, Reading::Down);
    assert_eq!(said(&out), [("clock/step", EdgeKind::Alert)]);
    assert_eq!(out.edges[0].fact, "this machine was suspended for 8 h");
    assert_eq!(world.watch.fresh_since(), world.now.mono);
    for _ in 0..19 {
        assert!(world.see(&spec, Reading::Down).edges.is_empty(), "eight hours asleep are not five minutes seen bad");
    }
    assert_eq!(said(&world.see(&spec, Reading::Down)), [("a/web", EdgeKind::Alert)]);
}

#[test]
fn a_clock_that_steps_at_every_pass_neither_silences_nor_floods() {
    let hold = Duration::from_mins(5);
    let (mut world, spec) = warm(Rule { hold, ..Rule::at_once(Test::Verdict) });
    let mut alerted_at = None;
    let mut steps = 0;
    for pass in 0..240 {
        world.set_clock(if pass % 2 == 0 { 3_600_000 } else { -3_600_000 });
        for (key, _) in said(&world.see(&spec, Reading::Down)) {
            match key {
                "a/web" => alerted_at = alerted_at.or(Some(pass)),
                _ => steps += 1,
            }
        }
    }
    assert_eq!(alerted_at, Some(20), "five minutes, as if the clock were still");
    assert!(steps <= 7, "an hour of steps was told {steps} times");
}

#[test]
fn a_process_that_is_always_late_still_alerts() {
    let (mut world, spec) = warm(Rule { hold: Duration::from_mins(10), ..Rule::counted(Test::Verdict) });
    let mut alerted = false;
    for _ in 0..15 {
        world.pass_time(Duration::from_mins(1));
        alerted |= said(&world.see(&spec, Reading::Down)).contains(&("a/web", EdgeKind::Alert));
    }
    assert!(alerted);
}

#[test]
fn events_of_a_warm_up_are_all_told_after_it_even_across_a_restart() {
    for restart in [false, true] {
        let (mut world, spec) = (World::new(policy()), spec("a/event", Rule::at_once(Test::Event)));
        assert!(world.see(&spec, Reading::Happened(2)).edges.is_empty());
        if restart {
            world.restart(false);
            assert!(world.see(&spec, Reading::Happened(3)).edges.is_empty(), "a warm-up of its own");
        }
        let out = world.see(&spec, Reading::Happened(0));
        assert_eq!(said(&out), [("a/event", EdgeKind::Alert)]);
        assert_eq!(out.edges[0].reason, format!("it happened {} times", if restart { 5 } else { 2 }));
        assert!(world.see(&spec, Reading::Happened(0)).edges.is_empty());
    }
}

#[test]
fn a_restart_repeats_no_alert_and_forgets_no_recovery() {
    for reboot in [false, true] {
        for passes_down in 0..3 {
            let (mut world, spec) = warm(Rule::counted(Test::Verdict));
            let mut alert = Vec::new();
            for _ in 0..3 {
                alert.extend(world.see(&spec, Reading::Down).edges);
            }
            world.restart(reboot);
            for _ in 0..passes_down {
                assert!(world.see(&spec, Reading::Down).edges.is_empty(), "it was said already");
            }
            assert!(world.see(&spec, Reading::Up).edges.is_empty());
            let out = world.see(&spec, Reading::Up);
            assert_eq!(said(&out), [("a/web", EdgeKind::Recovery)], "reboot: {reboot}");
            assert_eq!(out.edges[0].incident, alert[0].incident);
        }
    }
}

#[test]
fn a_signal_that_gets_more_severe_is_told_once_and_ends_as_loudly() {
    let (mut world, spec) = warm(Rule::at_once(Test::Verdict));
    let [critical, warning] =
        [Severity::Critical, Severity::Warning].map(|severity| Arc::new(Spec { severity, ..Spec::clone(&spec) }));
    let told = |out: &Outcome| out.edges.iter().map(|edge| (edge.kind, edge.severity)).collect::<Vec<_>>();
    let began = world.see(&warning, Reading::Down);
    assert_eq!(told(&began), [(EdgeKind::Alert, Severity::Warning)]);
    assert_eq!(told(&world.see(&critical, Reading::Unknown)), [], "what cannot be seen is not worse");
    let worse = world.see(&critical, Reading::Down);
    assert_eq!(told(&worse), [(EdgeKind::Realert, Severity::Critical)]);
    assert_eq!((&worse.edges[0].incident, worse.edges[0].reason.as_str()), (&began.edges[0].incident, "it got worse"));
    for spec in [&critical, &warning, &critical] {
        assert_eq!(told(&world.see(spec, Reading::Down)), [], "to and fro is not told");
    }
    assert_eq!(told(&world.see(&warning, Reading::Down)), []);
    world.restart(false);
    for spec in [&critical, &warning] {
        assert_eq!(told(&world.see(spec, Reading::Down)), [], "nor after a restart");
    }
    assert_eq!(told(&world.see(&warning, Reading::Up)), [(EdgeKind::Recovery, Severity::Critical)]);
}

#[test]
fn a_signal_that_got_more_severe_while_nobody_looked_is_told_so() {
    let (mut world, spec) = warm(Rule::at_once(Test::Verdict));
    let [critical, warning] =
        [Severity::Critical, Severity::Warning].map(|severity| Arc::new(Spec { severity, ..Spec::clone(&spec) }));
    world.see(&warning, Reading::Down);
    world.restart(true);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend(world.see(&critical, Reading::Down).edges.into_iter().map(|edge| (edge.kind, edge.severity)));
    }
    assert_eq!(told, [(EdgeKind::Realert, Severity::Critical)]);
}

#[test]
fn a_rise_across_a_restart_is_told_once() {
    let (mut world, spec) = (World::new(policy()), spec("a/event", Rule::at_once(Test::Increases { counter: true })));
    let value = |n: f64| Reading::Value(n + 0.1 + 0.2);
    world.see(&spec, value(5.0));
    assert_eq!(world.see(&spec, value(6.0)).edges.len(), 1);
    world.restart(false);
    assert!(world.see(&spec, value(6.0)).edges.is_empty());
    assert!(world.see(&spec, value(6.0)).edges.is_empty());
    world.restart(true);
    assert!(world.see(&spec, value(7.0)).edges.is_empty(), "warming up");
    assert_eq!(world.see(&spec, value(7.0)).edges.len(), 1);
    assert!(world.see(&spec, value(7.0)).edges.is_empty());
}

#[test]
fn one_pass_without_memory_confirms_at_once() {
    let once = Policy { warm_up: false, confirm_at_once: true, ..policy() };
    let hold = Duration::from_hours(1);
    for (test, reading) in [
        (Test::Verdict, Reading::Down),
        (Test::Absent, Reading::Absent),
        (Test::Above { limit: 1.0, clear: 1.0 }, Reading::Value(2.0)),
    ] {
        let (mut world, spec) = (World::new(once), spec("a/web", Rule { hold, ..Rule::counted(test) }));
        assert_eq!(said(&world.see(&spec, reading)), [("a/web", EdgeKind::Alert)]);
    }
}

#[test]
fn a_source_that_is_no_longer_configured_leaves_nothing_open() {
    let (mut world, spec) = warm(Rule::at_once(Test::Verdict));
    world.see(&spec, Reading::Down);
    let keep = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<BTreeSet<Arc<str>>>();
    assert_eq!(world.watch.keep_only(&keep(&["eye"]), &keep(&[]), world.now), Outcome::default());
    let out = world.watch.keep_only(&keep(&["other"]), &keep(&[]), world.now);
    assert_eq!(said(&out), [("a/web", EdgeKind::Removed)]);
    assert_eq!(out.edges[0].fact, "no longer configured, no longer watched");
    assert_eq!(out.removed, ["a/web", "source/eye"].map(SignalKey::new));
    assert_eq!(world.watch.keys(), [SignalKey::new("clock/step")]);
}

#[test]
fn reports_in_any_order_are_judged_the_same() {
    let specs: Vec<Arc<Spec>> =
        ["a", "b", "c", "d"].map(|key| spec(key, Rule { hold: TICK, ..Rule::at_once(Test::Verdict) })).to_vec();
    let told = |order: [usize; 4]| {
        let mut world = World::new(policy());
        let mut told: Vec<(String, EdgeKind)> = Vec::new();
        for _ in 0..4 {
            world.pass_time(TICK);
            let at = world.now.mono;
            let seen = order.map(|n| saw(&specs[n], at, Reading::Down)).to_vec();
            told.extend(world.pass(vec![full("eye", at, seen)]).edges.into_iter().map(|e| (e.key.to_string(), e.kind)));
        }
        told.sort();
        told
    };
    assert_eq!(told([0, 1, 2, 3]).len(), 4);
    for order in [[3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
        assert_eq!(told(order), told([0, 1, 2, 3]));
    }
}

#[test]
fn the_programs_own_signals_are_always_in_sight() {
    let mut world = World::new(policy());
    let channel =
        Spec { severity: Severity::Critical, ..(*spec("channel/telegram", Rule::at_once(Test::Verdict))).clone() };
    let channel = Arc::new(channel);
    for pass in 0..100 {
        world.pass_time(TICK);
        let at = world.now.mono.plus(Duration::from_secs(2));
        let seen = if pass == 0 { vec![saw(&channel, at, Reading::Up)] } else { vec![] };
        let own: Answer =
            answer(watchdog::core::watch::OWN, at, Ok(Report { observations: seen, ..Report::default() }));
        assert!(world.pass(vec![own]).edges.is_empty());
        assert_eq!(world.state("channel/telegram"), Some(State::Ok));
        assert_eq!(world.state("clock/step"), Some(State::Ok));
    }
    let late = world.now.mono.plus(TICK).plus(Duration::from_secs(3));
    world.pass_time(TICK);
    let seen = vec![saw(&channel, late, Reading::Down)];
    let own = answer(watchdog::core::watch::OWN, Mono(0), Ok(Report { observations: seen, ..Report::default() }));
    assert_eq!(said(&world.pass(vec![own])), [("channel/telegram", EdgeKind::Alert)]);
}

/// The next of several single passes over what the one before left.
fn next_pass(world: &mut World, reboot: bool) {
    if reboot {
        (world.now.mono, world.now.awake) = (Mono(30_000), Mono(30_000));
    }
    let keys = world.watch.keys();
    let rows = keys.into_iter().map(|key| {
        let text = serde_json::to_string(&world.watch.remembered(&key).unwrap()).unwrap();
        (key, serde_json::from_str(&text).unwrap())
    });
    let rows = rows.collect();
    world.watch = Watch::new(Policy { warm_up: false, ..policy() });
    world.watch.restore(rows, world.now, !reboot, true);
}

#[test]
fn what_nobody_can_see_for_long_is_told_by_single_passes_too() {
    for reboot in [false, true] {
        let (mut world, spec) =
            (World::new(Policy { warm_up: false, ..policy() }), spec("a/web", Rule::at_once(Test::Verdict)));
        assert!(world.see(&spec, Reading::Up).edges.is_empty());
        let mut told = Vec::new();
        let began = world.now.wall;
        for pass in 0..6 {
            world.pass_time(Duration::from_mins(3));
            next_pass(&mut world, reboot && pass == 3);
            told.extend(world.see(&spec, Reading::Unknown).edges);
        }
        assert_eq!(told.iter().map(|edge| edge.kind).collect::<Vec<_>>(), [EdgeKind::Unknown], "{told:?}");
        assert!(told[0].since.since(began) < Duration::from_mins(4), "since it could not be seen: {told:?}");
        assert!(told[0].lasted >= Duration::from_mins(10), "{told:?}");
        next_pass(&mut world, false);
        assert_eq!(said(&world.see(&spec, Reading::Up)), [("a/web", EdgeKind::Seen)]);
    }
}

#[test]
fn what_takes_several_passes_to_confirm_has_lasted_since_the_first_of_them() {
    let rule = Rule { fail_after: 3, ..Rule::at_once(Test::Verdict) };
    let (mut world, spec) = (World::new(Policy { warm_up: false, ..policy() }), spec("a/web", rule));
    assert!(world.see(&spec, Reading::Up).edges.is_empty());
    let mut told = Vec::new();
    world.pass_time(Duration::from_mins(5));
    let first = world.now.wall;
    for _ in 0..3 {
        next_pass(&mut world, false);
        told.extend(world.see(&spec, Reading::Down).edges);
        world.pass_time(Duration::from_mins(5));
    }
    assert_eq!(told.iter().map(|edge| edge.kind).collect::<Vec<_>>(), [EdgeKind::Alert], "{told:?}");
    assert!(told[0].since.since(first) <= TICK && told[0].lasted >= Duration::from_mins(10), "{told:?}");
}

#[test]
fn an_event_is_dated_by_its_source_also_when_it_happened_in_a_warm_up() {
    for warm_up in [false, true] {
        for restart in [false, true] {
            let (mut world, spec) =
                (World::new(Policy { warm_up, ..policy() }), spec("a/event", Rule::at_once(Test::Event)));
            world.pass_time(TICK);
            let (at, happened) = (world.now.mono, world.now.wall.minus(Duration::from_hours(3)));
            let event = saw(&spec, at, Reading::Happened(1)).since(Some(happened));
            let mut told = world.pass(vec![full("eye", at, vec![event])]).edges;
            assert_eq!(told.is_empty(), warm_up);
            if restart {
                world.restart(false);
            }
            told.extend(world.see(&spec, Reading::Happened(0)).edges);
            told.extend(world.see(&spec, Reading::Happened(0)).edges);
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!((told[0].since, told[0].noticed.is_some()), (happened, true), "{warm_up} {restart}");
        }
    }
}
