//! What one pass of the core costs with a hundred thousand signals: `cargo bench --bench core`.
//!
//! Observations are made outside the timed part. The allocations of a quiet pass are counted, so
//! that they can be seen to stay flat. Target: ≤ 10 ms on one core.

use std::sync::Arc;
use std::time::Duration;

use divan::{AllocProfiler, Bencher};
use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::{Answer, Observation, Reading, Report, Severity, SignalKey, Spec};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::core::watch::{Cooldowns, Policy, Watch};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const SIGNALS: usize = 100_000;
const TICK: Duration = Duration::from_secs(15);

fn main() {
    divan::main();
}

/// A mix of every kind of rule.
fn specs() -> Vec<Arc<Spec>> {
    let hold = Duration::from_mins(5);
    let rules = [
        Rule::counted(Test::Verdict),
        Rule { hold, ..Rule::at_once(Test::Above { limit: 90.0, clear: 80.0 }) },
        Rule::at_once(Test::Increases { counter: true }),
        Rule { hold, ..Rule::at_once(Test::Stalls) },
        Rule::at_once(Test::Event),
        Rule::at_once(Test::Absent),
    ];
    let parent = SignalKey::new("app/down");
    (0..SIGNALS)
        .zip(rules.into_iter().cycle())
        .map(|(i, rule)| {
            let key = SignalKey::new(&format!("app/rule/{i:06}"));
            Arc::new(Spec::new(key, format!("rule {i}"), Severity::Warning, rule).under(parent.clone()))
        })
        .collect()
}

struct Bench {
    watch: Watch,
    specs: Vec<Arc<Spec>>,
    pass: i64,
}

impl Bench {
    fn new() -> Bench {
        let policy = Policy {
            cooldown: Cooldowns::all(Duration::from_hours(1)),
            tick: TICK,
            warm_up: true,
            confirm_at_once: false,
        };
        let mut bench = Bench { watch: Watch::new(policy), specs: specs(), pass: 0 };
        for _ in 0..3 {
            let (now, answers) = bench.next(false);
            bench.watch.tick(now, answers);
        }
        bench
    }

    /// The clocks and the answer of the next pass.
    fn next(&mut self, bad: bool) -> (Now, Vec<Answer>) {
        self.pass += 1;
        let mono = Mono(self.pass * 15_000);
        let now = Now { wall: Wall(1_767_225_600_000 + mono.0), mono, awake: mono };
        let observations = self
            .specs
            .iter()
            .map(|spec| Observation::new(spec, mono, reading(spec.rule.test, self.pass, bad), "as it was seen"))
            .collect();
        let report = Report { observations, complete: true, ..Report::default() };
        (now, vec![Answer { source: Arc::from("app"), at: mono, outcome: Ok(report), details: None }])
    }
}

fn reading(test: Test, pass: i64, bad: bool) -> Reading {
    match (test, bad) {
        (Test::Verdict, false) => Reading::Up,
        (Test::Verdict, true) => Reading::Down,
        (Test::Event, bad) => Reading::Happened(u32::from(bad)),
        (Test::Absent, true) => Reading::Absent,
        (Test::Stalls, false) | (Test::Increases { .. }, true) => Reading::Value(pass as f64),
        (_, false) => Reading::Value(1.0),
        (_, true) => Reading::Value(99.0),
    }
}

/// All is well: the pass of nearly every day.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn quiet(bencher: Bencher) {
    let bench = std::cell::RefCell::new(Bench::new());
    bencher.with_inputs(|| bench.borrow_mut().next(false)).bench_local_values(|(now, answers)| {
        bench.borrow_mut().watch.tick(now, answers);
    });
}

/// Everything that can fire fires and was said: each is held back by its cooldown.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn firing(bencher: Bencher) {
    let mut bench = Bench::new();
    let fires = |spec: &Arc<Spec>| !matches!(spec.rule.test, Test::Increases { .. } | Test::Event);
    bench.specs.retain(fires);
    let renamed = |(i, spec): (usize, &Arc<Spec>)| {
        Arc::new(Spec { key: SignalKey::new(&format!("app/some/{i:06}")), ..(**spec).clone() })
    };
    let more: Vec<Arc<Spec>> = bench.specs.iter().take(SIGNALS - bench.specs.len()).enumerate().map(renamed).collect();
    bench.specs.extend(more);
    let bench = std::cell::RefCell::new(bench);
    for _ in 0..30 {
        let (now, answers) = bench.borrow_mut().next(true);
        bench.borrow_mut().watch.tick(now, answers);
    }
    assert!(bench.borrow().watch.firing() > SIGNALS * 99 / 100);
    bencher.with_inputs(|| bench.borrow_mut().next(true)).bench_local_values(|(now, answers)| {
        bench.borrow_mut().watch.tick(now, answers);
    });
}

/// Everything goes bad in one pass: a hundred thousand edges at once, or as many recoveries.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn all_at_once(bencher: Bencher) {
    let bench = std::cell::RefCell::new(Bench::new());
    let bad = std::cell::Cell::new(false);
    bencher
        .with_inputs(|| {
            let mut bench = bench.borrow_mut();
            // Twenty-nine passes on one side, so that holds are over and nothing flaps.
            for _ in 0..29 {
                let (now, answers) = bench.next(bad.get());
                bench.watch.tick(now, answers);
            }
            bad.set(!bad.get());
            bench.next(bad.get())
        })
        .bench_local_values(|(now, answers)| bench.borrow_mut().watch.tick(now, answers));
}
