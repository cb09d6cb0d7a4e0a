//! Properties of the core: the invariants of alerts (A4–A8, C1) over any history.
//!
//! The counts of cases are chosen so that all core tests together stay far below 20 s in a debug
//! build and above 10,000 cases.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use watchdog::core::decide::{Action, Active, Said, after, decide};
use watchdog::core::edge::{Edge, EdgeKind};
use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::{Reading, Report, SignalKey};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::core::watch::{Cooldowns, Policy, Watch};

use crate::world::{World, answer, full, policy, saw, spec};

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

const TICK: Duration = Duration::from_secs(15);
const SOURCE: &str = "eye";

/// The rules of the four signals of every history.
fn rules() -> [(&'static str, Rule); 4] {
    let hold = Duration::from_secs(40);
    [
        ("a/counted", Rule::counted(Test::Verdict)),
        ("b/event", Rule::at_once(Test::Increases { counter: true })),
        ("c/held", Rule { hold, ..Rule::at_once(Test::Above { limit: 5.0, clear: 3.0 }) }),
        ("d/once", Rule { unknown_after: Duration::from_mins(2), ..Rule::at_once(Test::Verdict) }),
    ]
}

/// One pass of a history: what the source answers, and what the world does before it.
#[derive(Debug, Clone)]
enum Step {
    /// A full answer: good, bad or unknown for each signal.
    Look([u8; 4]),
    /// An answer that leaves the last signals out.
    Part(usize, [u8; 4]),
    /// The source fails.
    Fail,
    /// The source is not asked.
    Skip,
    /// Somebody sets the wall clock.
    SetClock(i64),
    /// The machine sleeps for some minutes.
    Sleep(u8),
    /// kill -9; on another boot when true.
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let look = prop::array::uniform4(0u8..4);
    prop_oneof![
        12 => look.clone().prop_map(Step::Look),
        6 => (0u8..3).prop_map(|all| Step::Look([all; 4])),
        2 => (1usize..4, look).prop_map(|(n, look)| Step::Part(n, look)),
        2 => Just(Step::Fail),
        1 => Just(Step::Skip),
        1 => any_step().prop_map(Step::SetClock),
        1 => any::<u8>().prop_map(Step::Sleep),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

/// A step of the wall clock from one second to ten years, either way.
fn any_step() -> impl Strategy<Value = i64> {
    (0u32..9, 1i64..10, any::<bool>()).prop_map(|(size, n, back)| {
        let span = (1_000 * 10i64.pow(size) * n).min(315_576_000_000);
        if back { -span } else { span }
    })
}

struct Run {
    world: World,
    count: u64,
    edges: Vec<Edge>,
    /// When each edge was said, on the monotonic clock.
    said_at: Vec<Mono>,
    record: String,
}

impl Run {
    fn new() -> Run {
        Run { world: World::new(policy()), count: 0, edges: Vec::new(), said_at: Vec::new(), record: String::new() }
    }

    /// 0 good, 1 bad, else unknown.
    fn reading(&mut self, rule: &Rule, what: u8) -> Reading {
        match (rule.test, what) {
            (Test::Verdict, 0) => Reading::Up,
            (Test::Verdict, 1) => Reading::Down,
            (Test::Above { .. }, 0) => Reading::Value(1.0),
            (Test::Above { .. }, 1) => Reading::Value(9.0),
            (Test::Increases { .. }, 0) => Reading::Value(self.count as f64),
            (Test::Increases { .. }, 1) => {
                self.count += 1;
                Reading::Value(self.count as f64)
            }
            (_, 2) => Reading::Unknown,
            _ => Reading::Value(f64::NAN),
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        let world = &mut self.world;
        match step {
            Step::SetClock(by) => return world.set_clock(*by),
            Step::Sleep(minutes) => return world.sleep(Duration::from_mins(u64::from(*minutes))),
            Step::Restart(reboot) => return world.restart(*reboot),
            Step::Look(_) | Step::Part(..) | Step::Fail | Step::Skip => world.pass_time(TICK),
        }
        let at = self.world.now.mono;
        let answers = match step {
            Step::Fail => vec![answer(SOURCE, at, Err("it does not answer".to_string()))],
            Step::Look(look) => self.look(at, 4, *look),
            Step::Part(n, look) => self.look(at, *n, *look),
            _ => Vec::new(),
        };
        let out = self.world.pass(answers);
        let _ = write!(self.record, "{out:?} {}", serde_json::to_string(&out.edges).unwrap());
        self.said_at.extend(out.edges.iter().map(|_| at));
        self.edges.extend(out.edges);
    }

    fn look(&mut self, at: Mono, n: usize, look: [u8; 4]) -> Vec<watchdog::core::signal::Answer> {
        let mut observations = Vec::new();
        for ((key, rule), what) in rules().into_iter().zip(look).take(n) {
            let reading = self.reading(&rule, what);
            observations.push(saw(&spec(key, rule), at, reading));
        }
        vec![answer(SOURCE, at, Ok(Report { observations, complete: n == 4, ..Report::default() }))]
    }
}

proptest! {
    #![proptest_config(cases(6_000))]

    /// A6 at its heart: whatever a clock shows, an alert that holds is said again within one
    /// cooldown of the clock going on, and never twice within one.
    #[test]
    fn any_clock_delays_by_one_cooldown_at_most_and_never_floods(
        moves in prop::collection::vec(prop_oneof![8 => 0i64..400, 1 => any::<i64>()], 1..60),
        cooldown in 1u64..1_000,
    ) {
        let cooldown = Duration::from_millis(cooldown);
        let (mut said, mut now) = (None::<Said>, 0i64);
        let mut since_said = Duration::ZERO;
        for by in moves {
            let before = now;
            now = now.saturating_add(by);
            since_said += Mono(now).since(Mono(before));
            let decision = decide(Active::Yes, said, Mono(now), cooldown);
            said = after(decision, said, Mono(now));
            match decision.action {
                Action::Alert | Action::Realert => {
                    prop_assert!(decision.action == Action::Alert || since_said >= cooldown, "flood");
                    since_said = Duration::ZERO;
                }
                Action::Hold if now < before => since_said = Duration::ZERO,
                Action::Hold => prop_assert!(since_said < cooldown, "silence: {decision:?}"),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(700))]

    /// A4, over any history with failures, sleeps, restarts, reboots and clocks that jump (the world
    /// checks each edge); and whatever was opened is closed once all is well for long.
    #[test]
    fn every_recovery_has_its_alert_and_every_alert_its_recovery(steps in prop::collection::vec(step(), 1..40)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        for _ in 0..30 {
            run.step(&Step::Look([0; 4]));
        }
        prop_assert!(run.world.pairing.is_quiet(), "{:?}", run.world.pairing);
        prop_assert_eq!(run.world.watch.firing(), 0);
    }

    /// A8: the same history gives the same outcomes, byte for byte.
    #[test]
    fn the_same_history_gives_the_same_bytes(steps in prop::collection::vec(step(), 1..20)) {
        let [first, second] = [0, 1].map(|_| {
            let mut run = Run::new();
            run.steps(&steps);
            (run.record, run.world.rows)
        });
        prop_assert_eq!(first, second);
    }

    /// A6: reminders of an unchanged incident are a cooldown apart on the clock that cannot be set,
    /// but for the one that tells that it flaps; and events are said once for each rise.
    #[test]
    fn reminders_are_a_cooldown_apart_whatever_the_wall_clock_does(
        steps in prop::collection::vec(step().prop_filter("one boot", |s| !matches!(s, Step::Restart(true))), 1..60),
    ) {
        let mut run = Run::new();
        run.steps(&steps);
        let mut last: BTreeMap<(SignalKey, String), Mono> = BTreeMap::new();
        let mut flaps: BTreeMap<String, u32> = BTreeMap::new();
        for (edge, at) in run.edges.iter().zip(&run.said_at) {
            if edge.kind.closes() {
                continue;
            }
            let before = last.insert((edge.key.clone(), edge.incident.0.clone()), *at);
            if edge.kind == EdgeKind::Realert && edge.reason.contains("flapping") {
                let told = flaps.entry(edge.incident.0.clone()).or_default();
                *told += 1;
                prop_assert!(*told == 1, "flapping is told once: {:?}", run.edges);
            } else if let Some(before) = before {
                prop_assert!(at.since(before) >= run.world.policy.cooldown.critical, "{edge:?}");
            }
        }
        let rises = run.edges.iter().filter(|e| e.key.as_str() == "b/event" && e.kind == EdgeKind::Alert).count();
        prop_assert!(rises as u64 <= run.count);
    }

    /// A5: what nobody can tell never says that something is bad or well; only that nobody can see.
    #[test]
    fn unknown_alone_never_alerts_and_never_recovers(
        opened in any::<bool>(),
        steps in prop::collection::vec(prop_oneof![
            (2u8..4).prop_map(|what| Step::Look([what; 4])),
            Just(Step::Fail), Just(Step::Skip),
            any_step().prop_map(Step::SetClock), any::<bool>().prop_map(Step::Restart),
        ], 1..40),
    ) {
        let mut run = Run::new();
        if opened {
            (0..5).for_each(|_| run.step(&Step::Look([1; 4])));
            prop_assert!(run.world.watch.firing() >= 2);
        }
        let before = run.edges.len();
        run.steps(&steps);
        for edge in &run.edges[before..] {
            let own = edge.key.as_str().starts_with("source/") || edge.key.as_str() == "clock/step";
            prop_assert!(own || matches!(edge.kind, EdgeKind::Unknown | EdgeKind::Realert), "{edge:?}");
            // A reminder may only come of a look, and there was none.
            prop_assert!(own || edge.kind != EdgeKind::Realert, "{edge:?}");
        }
    }
}

/// A history of one signal in phases that last long enough not to flap, with or without steps.
fn phased(rule: Rule, phases: &[(bool, u8)], steps: &BTreeMap<usize, i64>) -> Vec<(usize, EdgeKind)> {
    let mut world = World::new(policy());
    let spec = spec("a/counted", rule);
    let mut told = Vec::new();
    let looks = phases.iter().flat_map(|(bad, looks)| std::iter::repeat_n(*bad, usize::from(*looks)));
    for (pass, bad) in looks.enumerate() {
        world.pass_time(TICK);
        world.set_clock(steps.get(&pass).copied().unwrap_or(0));
        let reading = Reading::Value(if bad { 9.0 } else { 1.0 });
        let at = world.now.mono;
        let out = world.pass(vec![full(SOURCE, at, vec![saw(&spec, at, reading)])]);
        told.extend(out.edges.iter().filter(|e| e.key == spec.key).map(|e| (pass, e.kind)));
    }
    told
}

proptest! {
    #![proptest_config(cases(500))]

    /// F1: a wall clock that steps by a second or by ten years changes nothing of what is said but
    /// a delay of two looks at most.
    #[test]
    fn steps_of_the_wall_clock_change_no_alert(
        phases in prop::collection::vec((any::<bool>(), 6u8..14), 1..8),
        steps in prop::collection::btree_map(0usize..80, any_step(), 0..6),
        hold in 0u64..60,
        fail_after in 1u32..4,
    ) {
        let test = Test::Above { limit: 5.0, clear: 3.0 };
        let rule = Rule { fail_after, hold: Duration::from_secs(hold), ..Rule::counted(test) };
        let still = phased(rule, &phases, &BTreeMap::new());
        let stepped = phased(rule, &phases, &steps);
        prop_assert_eq!(still.len(), stepped.len(), "{:?} {:?}", still, stepped);
        for (one, other) in still.iter().zip(&stepped) {
            prop_assert_eq!(one.1, other.1);
            prop_assert!(other.0 >= one.0 && other.0 - one.0 <= 2, "{:?} {:?}", one, other);
        }
    }

    /// Flapping is told, never hidden: whatever the rhythm, a signal that changes often enough is
    /// told as flapping exactly once, and what it was told of ends.
    #[test]
    fn flapping_is_told_once_and_never_hidden(
        good in 1usize..4, bad in 1usize..4, counted in any::<bool>(), cycles in 12usize..30,
    ) {
        prop_assume!(good + bad <= 5);
        let rule = if counted { Rule::counted(Test::Verdict) } else { Rule::at_once(Test::Verdict) };
        let (mut world, spec) = (World::new(policy()), spec("a/web", rule));
        let rhythm = std::iter::repeat_n(Reading::Down, bad).chain(std::iter::repeat_n(Reading::Up, good));
        let looks = rhythm.cycle().take(cycles * (good + bad)).chain(std::iter::repeat_n(Reading::Up, 30));
        let mut edges = Vec::new();
        for reading in looks {
            world.pass_time(TICK);
            let at = world.now.mono;
            edges.extend(world.pass(vec![full(SOURCE, at, vec![saw(&spec, at, reading)])]).edges);
        }
        let told = edges.iter().filter(|e| e.reason.contains("flapping") && !e.kind.closes()).count();
        prop_assert_eq!(told, 1, "{:?}", edges);
        prop_assert!(world.pairing.is_quiet());
        // Before the flapping is known a change may be told as such, afterwards none is.
        prop_assert!(edges.len() <= 8, "{:?}", edges);
    }

    /// Long unknown is told, unless its source or its parent is what fires.
    #[test]
    fn long_unknown_is_told_unless_explained(
        minutes in 2u64..20, source_fails in any::<bool>(), partial in any::<bool>(),
    ) {
        let rule = Rule { unknown_after: Duration::from_mins(minutes), ..Rule::counted(Test::Verdict) };
        let (mut world, spec) = (World::new(policy()), spec("a/web", rule));
        let mut told = None;
        for pass in 0..(minutes * 4 + 5) {
            world.pass_time(TICK);
            let at = world.now.mono;
            let outcome = if source_fails && pass > 0 {
                Err("no".to_string())
            } else {
                let reading = if partial { Reading::Up } else { Reading::Unknown };
                let observations = if partial && pass > 0 { vec![] } else { vec![saw(&spec, at, reading)] };
                Ok(Report { observations, complete: !partial || pass == 0, ..Report::default() })
            };
            let out = world.pass(vec![answer(SOURCE, at, outcome)]);
            let told_now = out.edges.iter().any(|e| e.kind == EdgeKind::Unknown);
            prop_assert!(!(told_now && told.is_some()));
            told = told.or(told_now.then_some(pass));
        }
        prop_assert_eq!(told, (!source_fails).then_some(minutes * 4));
    }
}

fn any_reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        Just(Reading::Up),
        Just(Reading::Down),
        Just(Reading::Unknown),
        Just(Reading::Absent),
        Just(Reading::Idle),
        any::<u32>().prop_map(Reading::Happened),
        any::<f64>().prop_map(Reading::Value),
        any::<u64>().prop_map(|bits| Reading::Value(f64::from_bits(bits))),
    ]
}

fn any_test() -> impl Strategy<Value = Test> {
    prop_oneof![
        Just(Test::Verdict),
        Just(Test::Stalls),
        Just(Test::Absent),
        Just(Test::Event),
        any::<bool>().prop_map(|counter| Test::Increases { counter }),
        (any::<f64>(), any::<f64>()).prop_map(|(limit, clear)| Test::Above { limit, clear }),
        (any::<f64>(), any::<f64>()).prop_map(|(limit, clear)| Test::Below { limit, clear }),
    ]
}

fn any_millis() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0i64..200_000, 1 => any::<i64>(), 1 => prop::sample::select(vec![i64::MIN, -1, i64::MAX])]
}

fn any_span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0u64..100_000).prop_map(Duration::from_millis),
        Just(Duration::MAX),
        any::<u64>().prop_map(Duration::from_millis),
    ]
}

type Pass = ((i64, i64, i64, i64), u8, Vec<(i64, Reading)>);

fn any_pass() -> impl Strategy<Value = Pass> {
    let clocks = (any_millis(), any_millis(), any_millis(), any_millis());
    (clocks, any::<u8>(), prop::collection::vec((any_millis(), any_reading()), 0..4))
}

proptest! {
    #![proptest_config(cases(1_000))]

    /// C1: no clock, reading, rule or policy panics, in one run or across a restart; every view works.
    #[test]
    fn nothing_panics(
        spans in (any_span(), any_span(), any_span(), any_span()),
        rules in prop::collection::vec((any_test(), any::<u32>(), any::<u32>()), 3),
        flags in any::<(bool, bool, bool)>(),
        passes in prop::collection::vec(any_pass(), 1..12),
    ) {
        let (cooldown, tick, hold, unknown_after) = spans;
        let policy = Policy { cooldown: Cooldowns::all(cooldown), tick, warm_up: flags.0, confirm_at_once: flags.1 };
        let specs: Vec<_> = ["a", "b", "c"].into_iter().zip(rules).map(|(key, (test, fail_after, recover_after))| {
            spec(key, Rule { test, fail_after, recover_after, hold, unknown_after })
        }).collect();
        let mut watch = Watch::new(policy);
        for ((wall, mono, awake, at), kind, seen) in passes {
            let now = Now { wall: Wall(wall), mono: Mono(mono), awake: Mono(awake) };
            let observations =
                seen.iter().zip(specs.iter().rev()).map(|((at, reading), spec)| saw(spec, Mono(*at), *reading)).collect();
            let report = Report { observations, complete: kind % 2 == 0, blind: (kind % 5 == 0).then(String::new), ..Report::default() };
            let outcome = if kind % 7 == 0 { Err(String::new()) } else { Ok(report) };
            watch.tick(now, vec![answer(SOURCE, Mono(at), outcome)]);
            let standings: Vec<_> = watch.standings().collect();
            prop_assert_eq!(standings.len(), watch.keys().len());
            if kind % 11 == 0 {
                let rows = watch.keys().into_iter().map(|key| {
                    let row = serde_json::to_string(&watch.remembered(&key).unwrap()).unwrap();
                    (key, serde_json::from_str(&row).unwrap())
                }).collect();
                watch = Watch::new(policy);
                watch.restore(rows, now, flags.2, kind % 3 == 0);
            }
        }
    }
}
