//! A world in which time is moved by hand: the core, a store that keeps what it would keep (as
//! text, through serde), and an eye on every promise about what is said. Deterministic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use watchdog::core::edge::{Edge, EdgeKind, Incident};
use watchdog::core::rule::Rule;
use watchdog::core::signal::{Answer, Observation, Reading, Report, Severity, SignalKey, Spec};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::core::tracked::Remembered;
use watchdog::core::watch::{Cooldowns, Outcome, Policy, Watch};

/// 2026-01-01T00:00:00Z, in milliseconds.
pub const NEW_YEAR: i64 = 1_767_225_600_000;

pub fn policy() -> Policy {
    Policy {
        cooldown: Cooldowns::all(Duration::from_hours(1)),
        tick: Duration::from_secs(15),
        warm_up: true,
        confirm_at_once: false,
    }
}

pub fn spec(key: &str, rule: Rule) -> Arc<Spec> {
    let severity = Severity::Warning;
    Arc::new(Spec::new(SignalKey::new(key), format!("the {key}"), severity, rule))
}

pub fn saw(spec: &Arc<Spec>, at: Mono, reading: Reading) -> Observation {
    Observation::new(spec, at, reading, format!("{reading:?}"))
}

pub fn answer(source: &str, at: Mono, outcome: Result<Report, String>) -> Answer {
    Answer { source: Arc::from(source), at, outcome, details: None }
}

/// A complete report of one source.
pub fn full(source: &str, at: Mono, observations: Vec<Observation>) -> Answer {
    answer(source, at, Ok(Report { observations, complete: true, ..Report::default() }))
}

/// What was said about one signal and not taken back (A4).
#[derive(Debug, Default)]
pub struct Open {
    pub bad: Option<Incident>,
    pub blind: Option<Incident>,
}

/// Follows the edges and panics at the first broken pairing.
#[derive(Debug, Default)]
pub struct Pairing {
    pub open: BTreeMap<SignalKey, Open>,
}

impl Pairing {
    /// `is_event`: alerts of this signal are occurrences and open nothing.
    pub fn follow(&mut self, edge: &Edge, is_event: bool) {
        let open = self.open.entry(edge.key.clone()).or_default();
        match edge.kind {
            EdgeKind::Repair => {}
            EdgeKind::Removed => {
                let closes = |talk: &mut Option<Incident>| talk.take_if(|open| *open == edge.incident).is_some();
                let closed = closes(&mut open.bad) || closes(&mut open.blind);
                assert!(closed || edge.severity == Severity::Info, "it closes something or was well: {edge:?}");
            }
            EdgeKind::Alert if is_event => {}
            EdgeKind::Alert => {
                assert_eq!(open.bad, None, "a second alert without a recovery between: {edge:?}");
                open.bad = Some(edge.incident.clone());
            }
            EdgeKind::Realert => assert_eq!(open.bad.as_ref(), Some(&edge.incident), "{edge:?}"),
            EdgeKind::Recovery => assert_eq!(open.bad.take().as_ref(), Some(&edge.incident), "{edge:?}"),
            EdgeKind::Unknown => {
                let known = open.blind.get_or_insert_with(|| edge.incident.clone());
                assert_eq!(*known, edge.incident, "{edge:?}");
            }
            EdgeKind::Seen => assert_eq!(open.blind.take().as_ref(), Some(&edge.incident), "{edge:?}"),
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.open.values().all(|open| open.bad.is_none() && open.blind.is_none())
    }
}

/// The core and its store, with the clocks in hand.
pub struct World {
    pub watch: Watch,
    pub policy: Policy,
    pub now: Now,
    pub rows: BTreeMap<SignalKey, String>,
    pub pairing: Pairing,
}

impl World {
    pub fn new(policy: Policy) -> World {
        let mono = Mono(86_400_000);
        World {
            watch: Watch::new(policy),
            policy,
            now: Now { wall: Wall(NEW_YEAR), mono, awake: mono },
            rows: BTreeMap::new(),
            pairing: Pairing::default(),
        }
    }

    /// All clocks go on evenly.
    pub fn pass_time(&mut self, span: Duration) {
        self.now.awake = self.now.awake.plus(span);
        self.sleep(span);
    }

    /// The machine is suspended.
    pub fn sleep(&mut self, span: Duration) {
        self.now.mono = self.now.mono.plus(span);
        self.now.wall = Wall(self.now.wall.0.saturating_add(i64::try_from(span.as_millis()).unwrap()));
    }

    /// Somebody sets the wall clock.
    pub fn set_clock(&mut self, by_millis: i64) {
        self.now.wall = Wall(self.now.wall.0.saturating_add(by_millis));
    }

    /// One pass: judge, keep what changed, check the pairing.
    pub fn pass(&mut self, answers: Vec<Answer>) -> Outcome {
        let out = self.watch.tick(self.now, answers);
        self.keep(&out);
        for edge in &out.edges {
            let key = edge.key.as_str();
            self.pairing.follow(edge, key == "clock/step" || key.contains("event"));
        }
        out
    }

    fn keep(&mut self, out: &Outcome) {
        for key in &out.changed {
            let row = self.watch.remembered(key).expect("what changed is there");
            self.rows.insert(key.clone(), serde_json::to_string(&row).unwrap());
        }
        for key in &out.removed {
            self.rows.remove(key);
        }
    }

    /// kill -9 and a new process; with `reboot` on a new boot of the machine.
    pub fn restart(&mut self, reboot: bool) {
        if reboot {
            self.now.mono = Mono(30_000);
            self.now.awake = Mono(30_000);
        }
        self.watch = Watch::new(self.policy);
        let rows: Vec<(SignalKey, Remembered)> =
            self.rows.iter().map(|(key, text)| (key.clone(), serde_json::from_str(text).unwrap())).collect();
        self.watch.restore(rows, self.now, !reboot, false);
    }
}

/// A small generator of numbers, the same for the same seed on every machine (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, not including, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
