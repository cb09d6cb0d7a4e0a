//! Two days in the life of a watchdog, in seconds: containers die and flap, the application stalls,
//! sources go blind, clocks jump, the machine sleeps, the process is killed, and the channel is out
//! now and then. The real core, the real store (in memory) and the real courier; only time and the
//! channel are in our hands. The same seed tells the same story.
//!
//! Checked all the way: pairing (A4, by the world), every long outage alerted and every end told,
//! nothing lost (A1), told soon after the channel is back (A2), duplicates only for sends whose
//! outcome is unknown (A3), a storm in few messages that name everything (A7).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchdog::core::edge::{Edge, EdgeKind};
use watchdog::core::message::{Markup, Message, Style, split};
use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::{Answer, Reading, Report, Spec};
use watchdog::core::time::Mono;
use watchdog::deliver::{Courier, Rest};
use watchdog::notifier::{Class, Notifier, Part, Receipt, SendError};
use watchdog::store::{Commit, SignalRow, Store};

use crate::world::{Dice, World, answer, policy, saw, spec};

const TICK: Duration = Duration::from_secs(15);
const TWO_DAYS: usize = 2 * 24 * 60 * 4;
const CHANNEL: &str = "paper";
const CONTAINERS: usize = 24;

/// How the channel behaves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Weather {
    #[default]
    Fair,
    /// Nothing gets through.
    Out,
    /// It arrives, but the answer is lost.
    Deaf,
    /// Not now, says the channel.
    Busy,
}

#[derive(Default)]
struct Paper {
    weather: Weather,
    now: Mono,
    /// What arrived, and when.
    arrived: Vec<(Mono, String)>,
    acknowledged: usize,
    unknown: usize,
}

struct Sink(Arc<Mutex<Paper>>);

struct Bare;

impl Markup for Bare {
    fn open(&self, _: Style) -> &'static str {
        ""
    }
    fn close(&self, _: Style) -> &'static str {
        ""
    }
    fn escape(&self, c: char, out: &mut String) {
        out.push(c);
    }
}

impl Notifier for Sink {
    fn name(&self) -> &'static str {
        CHANNEL
    }

    fn render(&self, message: &Message) -> Vec<String> {
        split(message, &Bare, 4096)
    }

    fn send(&mut self, part: &Part<'_>) -> Result<Receipt, SendError> {
        let mut paper = self.0.lock().unwrap();
        let now = paper.now;
        let no = |what: &str, class| Err(SendError { what: what.to_string(), advice: "", class });
        match paper.weather {
            Weather::Out => no("connection refused", Class::Transient),
            Weather::Busy => no("too many requests", Class::RateLimited(Duration::from_secs(20))),
            Weather::Deaf => {
                paper.arrived.push((now, part.text.to_string()));
                paper.unknown += 1;
                no("timed out", Class::Transient)
            }
            Weather::Fair => {
                paper.arrived.push((now, part.text.to_string()));
                paper.acknowledged += 1;
                Ok(Receipt::default())
            }
        }
    }
}

/// One container as it really is, and what an honest eye would have seen of it.
struct Container {
    spec: Arc<Spec>,
    down_until: usize,
    flaps_until: usize,
    bad_in_a_row: usize,
    good_in_a_row: usize,
}

struct Story {
    world: World,
    dice: Dice,
    store: Store,
    courier: Courier,
    paper: Arc<Mutex<Paper>>,
    /// When the courier wants to be stepped next.
    due: Option<Mono>,
    fair_since: Mono,
    weather_until: usize,
    pass: usize,
    containers: Vec<Container>,
    memory: Arc<Spec>,
    jobs: Arc<Spec>,
    agent: Arc<Spec>,
    down: Arc<Spec>,
    failed_jobs: u32,
    app_down_until: usize,
    stalled_until: usize,
    blind_until: usize,
    full_until: usize,
    edges: Vec<(Mono, Edge)>,
}

impl Story {
    fn new(seed: u64) -> Story {
        let world = World::new(policy());
        let store = Store::open(None, world.now, "boot").unwrap().store;
        let paper = Arc::new(Mutex::new(Paper::default()));
        let courier = Courier::new(store.clone(), Box::new(Sink(Arc::clone(&paper))), "web-1", seed);
        let five = Duration::from_mins(5);
        let stalls = Rule { hold: five, ..Rule::at_once(Test::Stalls) };
        let down = spec("app/down", Rule::counted(Test::Verdict));
        let child = |spec: Arc<Spec>| Arc::new(Spec { parent: Some(down.key.clone()), ..(*spec).clone() });
        let container = |n| Container {
            spec: spec(&format!("container/c{n:02}"), Rule::counted(Test::Verdict)),
            down_until: 0,
            flaps_until: 0,
            bad_in_a_row: 0,
            good_in_a_row: 0,
        };
        Story {
            due: Some(world.now.mono),
            fair_since: world.now.mono,
            dice: Dice(seed),
            store,
            courier,
            paper,
            weather_until: 0,
            pass: 0,
            containers: (0..CONTAINERS).map(container).collect(),
            memory: spec("host/memory", Rule { hold: five, ..Rule::at_once(Test::Above { limit: 90.0, clear: 80.0 }) }),
            jobs: child(spec("app/job-event", Rule::at_once(Test::Increases { counter: true }))),
            agent: child(spec("app/stuck/a1", stalls)),
            down,
            failed_jobs: 0,
            app_down_until: 0,
            stalled_until: 0,
            blind_until: 0,
            full_until: 0,
            edges: Vec::new(),
            world,
        }
    }

    /// How long a fault lasts, in passes: mostly minutes, now and then hours.
    fn a_while(&mut self) -> usize {
        let length = if self.dice.once_in(8) { 1_200 } else { 40 };
        self.pass + 1 + usize::try_from(self.dice.below(length)).unwrap()
    }

    fn any_container(&mut self) -> usize {
        usize::try_from(self.dice.below(CONTAINERS as u64)).unwrap()
    }

    fn container_dies(&mut self) {
        let (which, until) = (self.any_container(), self.a_while());
        self.containers[which].down_until = until;
    }

    fn container_flaps(&mut self) {
        let (which, until) = (self.any_container(), self.a_while());
        self.containers[which].flaps_until = until;
    }

    fn everything_dies(&mut self) {
        let until = self.a_while();
        self.containers.iter_mut().for_each(|container| container.down_until = until);
    }

    fn clock_jumps(&mut self) {
        let size = u32::try_from(self.dice.below(8)).unwrap();
        let by = 1_000 * 10i64.pow(size).min(315_360_000);
        self.world.set_clock(if self.dice.once_in(2) { by } else { -by });
    }

    fn suspends(&mut self) {
        let minutes = self.dice.below(8 * 60);
        self.world.sleep(Duration::from_mins(minutes));
        self.counts_begin_again();
    }

    fn freezes(&mut self) {
        let minutes = self.dice.below(20);
        self.world.pass_time(Duration::from_mins(minutes));
        self.counts_begin_again();
    }

    /// kill -9, and a new process with what the store holds.
    fn is_killed(&mut self) {
        let rows = self.store.signals().unwrap();
        self.world.rows = rows.into_iter().map(|row| (row.key, row.body)).collect();
        self.world.restart(false);
        let sink = Sink(Arc::clone(&self.paper));
        self.courier = Courier::new(self.store.clone(), Box::new(sink), "web-1", self.dice.roll());
        self.due = Some(self.world.now.mono);
        self.counts_begin_again();
    }

    fn counts_begin_again(&mut self) {
        for container in &mut self.containers {
            (container.bad_in_a_row, container.good_in_a_row) = (0, 0);
        }
    }

    fn weather_turns(&mut self) {
        let weather = [Weather::Out, Weather::Deaf, Weather::Busy][usize::try_from(self.dice.below(3)).unwrap()];
        self.weather_until = self.a_while();
        self.paper.lock().unwrap().weather = weather;
    }

    /// Something happens before the next pass, or more often nothing.
    fn fate(&mut self) {
        match self.dice.below(900) {
            0..12 => self.container_dies(),
            12..16 => self.container_flaps(),
            16 => self.everything_dies(),
            17..20 => self.clock_jumps(),
            20 => self.suspends(),
            21 => self.freezes(),
            22..25 => self.is_killed(),
            25..29 => self.weather_turns(),
            29..32 => self.app_down_until = self.a_while(),
            32..35 => self.stalled_until = self.a_while(),
            35..38 => self.blind_until = self.a_while(),
            38..41 => self.full_until = self.a_while(),
            41..51 => self.failed_jobs += 1,
            _ => {}
        }
    }

    /// Fifteen seconds, in which the courier works when it wants to.
    fn time_passes(&mut self) {
        let end = self.world.now.mono.plus(TICK);
        while let Some(due) = self.due.filter(|due| *due < end) {
            self.world.pass_time(due.since(self.world.now.mono));
            self.courier_steps();
        }
        self.world.pass_time(end.since(self.world.now.mono));
    }

    fn courier_steps(&mut self) {
        let now = self.world.now;
        self.paper.lock().unwrap().now = now.mono;
        self.due = match self.courier.step(now) {
            Rest::For(span) => Some(now.mono.plus(span)),
            Rest::UntilRung => None,
        };
    }

    fn docker(&mut self, at: Mono) -> Answer {
        if self.pass < self.blind_until {
            return answer("docker", at, Err("the daemon does not answer".to_string()));
        }
        let mut observations = Vec::new();
        for container in &mut self.containers {
            let flaps = self.pass < container.flaps_until && self.pass.is_multiple_of(2);
            let bad = self.pass < container.down_until || flaps;
            if bad {
                (container.bad_in_a_row, container.good_in_a_row) = (container.bad_in_a_row + 1, 0);
            } else {
                (container.bad_in_a_row, container.good_in_a_row) = (0, container.good_in_a_row + 1);
            }
            observations.push(saw(&container.spec, at, if bad { Reading::Down } else { Reading::Up }));
        }
        answer("docker", at, Ok(Report { observations, complete: true, ..Report::default() }))
    }

    fn app(&self, at: Mono) -> Answer {
        let is_down = self.pass < self.app_down_until;
        let see = |reading| if is_down { Reading::Unknown } else { reading };
        let moved = if self.pass < self.stalled_until { self.stalled_until } else { self.pass };
        let observations = vec![
            saw(&self.down, at, if is_down { Reading::Down } else { Reading::Up }),
            saw(&self.jobs, at, see(Reading::Value(f64::from(self.failed_jobs)))),
            saw(&self.agent, at, see(Reading::Value(moved as f64))),
        ];
        answer("app", at, Ok(Report { observations, complete: true, ..Report::default() }))
    }

    fn host(&self, at: Mono) -> Answer {
        let used = if self.pass < self.full_until { 97.0 } else { 40.0 };
        let observations = vec![saw(&self.memory, at, Reading::Value(used))];
        answer("host", at, Ok(Report { observations, complete: true, ..Report::default() }))
    }

    fn tick(&mut self) {
        self.time_passes();
        self.pass += 1;
        if self.pass == self.weather_until {
            self.paper.lock().unwrap().weather = Weather::Fair;
        }
        if self.paper.lock().unwrap().weather != Weather::Fair {
            self.fair_since = self.world.now.mono;
        }
        let at = self.world.now.mono;
        let answers = vec![self.app(at), self.docker(at), self.host(at)];
        let out = self.world.pass(answers);
        let signals: Vec<SignalRow> =
            out.changed.iter().map(|key| SignalRow { key: key.clone(), body: self.world.rows[key].clone() }).collect();
        if !(signals.is_empty() && out.edges.is_empty()) {
            let channels = [CHANNEL.to_string()];
            let commit = Commit {
                signals: &signals,
                removed: &out.removed,
                edges: &out.edges,
                channels: &channels,
                ..Commit::default()
            };
            self.store.commit(self.world.now, &commit).unwrap();
        }
        if !out.edges.is_empty() {
            self.due = self.due.or(Some(at));
        }
        self.edges.extend(out.edges.into_iter().map(|edge| (at, edge)));
        self.hold_promises();
    }

    fn hold_promises(&self) {
        for container in &self.containers {
            let open = self.world.pairing.open.get(&container.spec.key);
            let is_open = open.is_some_and(|open| open.bad.is_some());
            if container.bad_in_a_row >= 5 {
                assert!(is_open, "{} is down and nobody was told, pass {}", container.spec.key, self.pass);
            }
            if container.good_in_a_row >= 22 {
                assert!(!is_open, "{} is well and nobody was told, pass {}", container.spec.key, self.pass);
            }
        }
        let fair_for = self.world.now.mono.since(self.fair_since);
        if fair_for >= Duration::from_secs(75) {
            let oldest = self.store.backlog(CHANNEL).unwrap().oldest_mono;
            let age = oldest.map_or(Duration::ZERO, |at| self.world.now.mono.since(at));
            assert!(age <= Duration::from_secs(90), "the channel is fair for {fair_for:?}, the outbox is {age:?} old");
        }
    }

    fn live(mut self) -> Story {
        for _ in 0..TWO_DAYS {
            self.fate();
            self.tick();
        }
        self.calm()
    }

    /// Every fault ends; an hour later all must be told.
    fn calm(mut self) -> Story {
        let now = self.pass;
        for container in &mut self.containers {
            (container.down_until, container.flaps_until) = (now, now);
        }
        self.app_down_until = now;
        (self.stalled_until, self.blind_until, self.full_until) = (now, now, now);
        self.weather_until = now + 1;
        for _ in 0..240 {
            self.tick();
        }
        self
    }

    fn arrivals_naming(&self, edge: &Edge, since: Mono) -> usize {
        let paper = self.paper.lock().unwrap();
        paper.arrived.iter().filter(|(at, text)| *at >= since && text.contains(edge.key.as_str())).count()
    }

    fn check(&self) {
        assert!(self.world.pairing.is_quiet(), "{:?}", self.world.pairing);
        assert_eq!(self.world.watch.firing(), 0);
        assert_eq!(self.store.backlog(CHANNEL).unwrap().pending, 0);
        for (at, edge) in &self.edges {
            assert!(self.arrivals_naming(edge, *at) >= 1, "nobody was told: {edge:?}");
        }
        let paper = self.paper.lock().unwrap();
        assert_eq!(paper.arrived.len(), paper.acknowledged + paper.unknown);
        assert!(paper.acknowledged <= self.edges.len(), "each message takes at least one edge away");
        let rises = self.edges.iter().filter(|(_, e)| e.key == self.jobs.key && e.kind == EdgeKind::Alert).count();
        assert!(rises > 0 && rises <= self.failed_jobs as usize, "{rises} of {}", self.failed_jobs);
    }
}

fn two_days(seed: u64) {
    let story = Story::new(seed).live();
    let kinds = [EdgeKind::Alert, EdgeKind::Realert, EdgeKind::Recovery, EdgeKind::Unknown, EdgeKind::Seen];
    let counts = kinds.map(|kind| story.edges.iter().filter(|(_, edge)| edge.kind == kind).count());
    let paper = story.paper.lock().unwrap();
    println!("seed {seed}: {counts:?} edges, {} messages, {} unknown", paper.arrived.len(), paper.unknown);
    drop(paper);
    story.check();
    let [alerts, _, recoveries, ..] = counts;
    assert!(alerts > 50 && recoveries > 50, "a story worth telling: {counts:?}");
}

#[test]
fn two_days_of_trouble_are_told_as_they_were() {
    two_days(1);
}

#[test]
fn two_other_days_of_trouble_are_told_as_they_were() {
    two_days(20_260_101);
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let tell = || {
        let mut story = Story::new(7);
        for _ in 0..2_000 {
            story.fate();
            story.tick();
        }
        let paper = story.paper.lock().unwrap();
        serde_json::to_string(&story.edges).unwrap() + &format!("{:?}", paper.arrived)
    };
    assert_eq!(tell(), tell());
}

#[test]
fn quiet_days_are_quiet() {
    let mut story = Story::new(3);
    for _ in 0..TWO_DAYS / 4 {
        story.tick();
    }
    assert!(story.edges.is_empty(), "{:?}", story.edges);
    assert!(story.paper.lock().unwrap().arrived.is_empty());
}

#[test]
fn what_begins_and_ends_while_the_channel_is_out_is_told_once() {
    let mut story = Story::new(5);
    let at = |story: &mut Story, passes: usize| (0..passes).for_each(|_| story.tick());
    at(&mut story, 4);
    story.paper.lock().unwrap().weather = Weather::Out;
    (story.weather_until, story.containers[3].down_until) = (story.pass + 400, story.pass + 100);
    at(&mut story, 390);
    assert!(story.paper.lock().unwrap().arrived.is_empty());
    at(&mut story, 20);
    let arrived = story.paper.lock().unwrap().arrived.clone();
    assert_eq!(arrived.len(), 1, "{arrived:?}");
    let (alert, recovery) = (&story.edges[0].1, &story.edges[1].1);
    assert_eq!((alert.kind, recovery.kind), (EdgeKind::Alert, EdgeKind::Recovery));
    assert!(arrived[0].1.contains("container/c03") && arrived[0].1.contains(&alert.incident.to_string()));
    story.check_nothing_pending();
}

#[test]
fn a_storm_is_one_message_that_names_everything() {
    let mut story = Story::new(9);
    (0..4).for_each(|_| story.tick());
    story.everything_dies();
    story.containers.iter_mut().for_each(|container| container.down_until = usize::MAX);
    (0..8).for_each(|_| story.tick());
    let arrived = story.paper.lock().unwrap().arrived.clone();
    assert_eq!(arrived.len(), 1, "{arrived:?}");
    assert!(story.containers.iter().all(|container| arrived[0].1.contains(container.spec.key.as_str())));
    story.check_nothing_pending();
}

impl Story {
    fn check_nothing_pending(&self) {
        assert_eq!(self.store.backlog(CHANNEL).unwrap().pending, 0);
    }
}
