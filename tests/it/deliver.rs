//! The courier, moved by hand over a channel that answers as told.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use watchdog::clock::Clock;
use watchdog::core::edge::{Edge, EdgeKind, Incident};
use watchdog::core::message::{Markup, Message, Sound, Style, split};
use watchdog::core::signal::{Severity, SignalKey};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::deliver::{BACKOFF_LIMIT, ChannelState, Courier, REFUSED_WAIT, Rest, spawn, stop_all};
use watchdog::notifier::{Class, Notifier, Part, Receipt, SendError};
use watchdog::store::{Commit, Filter, Store};

/// 2026-01-01T00:00:00Z.
const NEW_YEAR: i64 = 1_767_225_600_000;

pub fn begin() -> Now {
    Now { wall: Wall(NEW_YEAR), mono: Mono(1_000_000), awake: Mono(1_000_000) }
}

pub fn later(now: Now, span: Duration) -> Now {
    let millis = i64::try_from(span.as_millis()).unwrap();
    Now { wall: Wall(now.wall.0 + millis), mono: now.mono.plus(span), awake: now.awake.plus(span) }
}

pub fn edge(kind: EdgeKind, name: &str, now: Now) -> Edge {
    Edge {
        kind,
        key: SignalKey::new(&format!("probe/{name}")),
        title: format!("probe {name}"),
        severity: Severity::Critical,
        fact: "connection <refused> & more".to_string(),
        since: now.wall,
        at: now.wall,
        lasted: Duration::ZERO,
        incident: Incident(name.to_string()),
        reason: "failed 3 checks in a row".to_string(),
        ..Edge::default()
    }
}

pub fn commit(store: &Store, channel: &str, now: Now, edges: &[Edge]) {
    let channels = [channel.to_string()];
    store.commit(now, &Commit { edges, channels: &channels, ..Commit::default() }).unwrap();
}

#[derive(Debug, Clone, PartialEq)]
struct Sent {
    text: String,
    reply_to: Option<String>,
    silent: bool,
}

#[derive(Default)]
struct Told {
    /// `None` lets a part through, as does the end of the list.
    answers: VecDeque<Option<Class>>,
    /// Every attempt, and whether it was acknowledged.
    attempts: Vec<(Sent, bool)>,
    delay: Duration,
}

#[derive(Clone, Default)]
struct Paper {
    told: Arc<Mutex<Told>>,
    limit: usize,
}

struct Bare;

impl Markup for Bare {
    fn open(&self, _style: Style) -> &'static str {
        ""
    }
    fn close(&self, _style: Style) -> &'static str {
        ""
    }
    fn escape(&self, c: char, out: &mut String) {
        out.push(c);
    }
}

impl Notifier for Paper {
    fn name(&self) -> &'static str {
        "paper"
    }
    fn render(&self, message: &Message) -> Vec<String> {
        split(message, &Bare, self.limit)
    }
    fn send(&mut self, part: &Part<'_>) -> Result<Receipt, SendError> {
        let delay = self.told.lock().unwrap().delay;
        std::thread::sleep(delay);
        let mut told = self.told.lock().unwrap();
        let answer = told.answers.pop_front().flatten();
        let sent = Sent {
            text: part.text.to_string(),
            reply_to: part.reply_to.map(str::to_string),
            silent: part.sound != Sound::Loud,
        };
        told.attempts.push((sent, answer.is_none()));
        match answer {
            None => Ok(Receipt { reference: Some(format!("r{}", told.attempts.len())), remember: None }),
            Some(class) => Err(SendError { what: format!("paper: {class:?}"), advice: "", class }),
        }
    }
}

struct Rig {
    paper: Paper,
    store: Store,
    courier: Courier,
    now: Now,
}

impl Rig {
    fn new(limit: usize) -> Rig {
        let paper = Paper { limit, ..Paper::default() };
        let store = Store::open(None, begin(), "boot").unwrap().store;
        let courier = Courier::new(store.clone(), Box::new(paper.clone()), "web-1", 7);
        Rig { paper, store, courier, now: begin() }
    }

    fn say(&mut self, edges: &[(EdgeKind, &str)]) {
        let edges: Vec<Edge> = edges.iter().map(|(kind, name)| edge(*kind, name, self.now)).collect();
        commit(&self.store, "paper", self.now, &edges);
    }

    fn answers(&self, answers: impl IntoIterator<Item = Option<Class>>) {
        self.paper.told.lock().unwrap().answers.extend(answers);
    }

    fn pass(&mut self, span: Duration) {
        self.now = later(self.now, span);
    }

    fn step(&mut self) -> Rest {
        self.courier.step(self.now)
    }

    /// Steps, passing the time it asks for, until nothing is pending.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            match self.step() {
                Rest::UntilRung => return,
                Rest::For(span) => self.pass(span),
            }
        }
        panic!("it never settles");
    }

    fn seen(&self) -> Vec<Sent> {
        let told = self.paper.told.lock().unwrap();
        told.attempts.iter().filter(|(_, acknowledged)| *acknowledged).map(|(sent, _)| sent.clone()).collect()
    }

    fn attempts(&self) -> usize {
        self.paper.told.lock().unwrap().attempts.len()
    }

    fn state(&self) -> ChannelState {
        self.courier.status().read(self.now.mono).state
    }
}

#[test]
fn edges_of_one_tick_are_one_message_and_later_ones_answer_it() {
    let mut rig = Rig::new(4096);
    rig.say(&[(EdgeKind::Alert, "aaaa"), (EdgeKind::Alert, "bbbb")]);
    rig.settle();
    rig.say(&[(EdgeKind::Recovery, "aaaa")]);
    rig.settle();
    rig.say(&[(EdgeKind::Realert, "bbbb"), (EdgeKind::Alert, "cccc")]);
    rig.settle();
    let seen = rig.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen[0].text.contains("#aaaa") && seen[0].text.contains("#bbbb") && seen[0].reply_to.is_none());
    assert_eq!((seen[1].reply_to.as_deref(), seen[1].silent), (Some("r1"), true));
    assert_eq!((seen[2].reply_to.as_deref(), seen[2].silent), (None, false), "a new alert answers nothing");
    assert_eq!(rig.courier.status().read(rig.now.mono).pending, 0);
}

#[test]
fn an_outage_ends_with_each_incident_named_once() {
    let mut rig = Rig::new(4096);
    rig.answers(std::iter::repeat_n(Some(Class::Transient), 60));
    for tick in 0..40 {
        rig.say(&[(EdgeKind::Alert, &format!("n{tick}"))]);
        if tick % 2 == 0 {
            rig.pass(Duration::from_secs(15));
            rig.say(&[(EdgeKind::Recovery, &format!("n{tick}"))]);
        }
        rig.step();
        rig.pass(Duration::from_mins(1));
    }
    rig.settle();
    let seen = rig.seen();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert!(
        seen[0].text.starts_with("🔴 web-1 · 20 alerts, 20 OK again: probe n1, probe n3, probe n5 and 37 more"),
        "{}",
        seen[0].text
    );
    for tick in 0..40 {
        let named = seen[0].text.split_whitespace().filter(|word| *word == format!("#n{tick}")).count();
        assert_eq!(named, 1, "n{tick} in {}", seen[0].text);
    }
    assert!(!seen[0].silent, "untold alerts are not silent, though they are over");
}

#[test]
fn a_recovery_whose_alert_was_never_delivered_is_one_entry() {
    let mut rig = Rig::new(4096);
    rig.answers([Some(Class::Transient)]);
    rig.say(&[(EdgeKind::Alert, "aaaa")]);
    rig.step();
    rig.pass(Duration::from_secs(40));
    rig.say(&[(EdgeKind::Recovery, "aaaa")]);
    rig.settle();
    let seen = rig.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].text.matches("#aaaa").count(), 1, "{}", seen[0].text);
    assert!(seen[0].text.starts_with('🟢') && seen[0].text.contains("lasted "), "{}", seen[0].text);
}

#[test]
fn an_acknowledged_part_is_not_sent_again() {
    let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
    let alerts: Vec<_> = names.iter().map(|name| (EdgeKind::Alert, name.as_str())).collect();
    let mut smooth = Rig::new(120);
    smooth.say(&alerts);
    smooth.step();
    let whole = smooth.seen();
    assert!(whole.len() > 2);

    let mut rough = Rig::new(120);
    rough.say(&alerts);
    rough.answers([None, Some(Class::Transient), Some(Class::RateLimited(Duration::from_secs(9)))]);
    assert_eq!(rough.step(), Rest::For(Duration::from_secs(1)));
    assert_eq!(rough.seen(), whole[..1]);
    // What happens in between waits its turn.
    rough.say(&[(EdgeKind::Recovery, "n3")]);
    rough.settle();
    let seen = rough.seen();
    assert_eq!(seen[..whole.len()], whole);
    assert_eq!(seen.len(), whole.len() + 1);
    assert!(seen[whole.len()].text.contains("#n3"));
}

#[test]
fn failures_that_may_pass_back_off_from_a_second_to_a_minute() {
    let mut rig = Rig::new(4096);
    rig.answers(std::iter::repeat_n(Some(Class::Transient), 12));
    rig.say(&[(EdgeKind::Alert, "aaaa")]);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let Rest::For(span) = rig.step() else { panic!("nothing pending") };
        // A ring in between changes nothing.
        let attempts = rig.attempts();
        assert_eq!(rig.step(), Rest::For(span));
        assert_eq!(rig.attempts(), attempts);
        waits.push(span);
        rig.pass(span);
    }
    assert_eq!(waits[0], Duration::from_secs(1));
    for (n, wait) in waits.iter().enumerate() {
        let ceiling = Duration::from_secs(1 << n.min(6)).min(BACKOFF_LIMIT);
        assert!(*wait >= ceiling / 2 && *wait <= ceiling && *wait >= Duration::from_secs(1), "{n}: {wait:?}");
    }
    assert_eq!(rig.state(), ChannelState::Retrying);
    rig.settle();
    assert_eq!((rig.seen().len(), rig.state()), (1, ChannelState::Ok));
    let failed: Vec<_> = rig.store.history(&Filter { limit: 100, ..Filter::default() }).unwrap();
    assert_eq!(
        failed.iter().filter(|line| line.kind == "failed").count(),
        1,
        "said once, not at each retry: {failed:#?}"
    );
    assert_eq!(rig.courier.status().read(rig.now.mono).counts.failed, 12);
}

#[test]
fn a_named_wait_is_obeyed_with_little_spread() {
    let mut rig = Rig::new(4096);
    rig.answers([Some(Class::RateLimited(Duration::from_secs(17)))]);
    rig.say(&[(EdgeKind::Alert, "aaaa")]);
    let Rest::For(span) = rig.step() else { panic!() };
    assert!(span >= Duration::from_secs(17) && span < Duration::from_secs(18), "{span:?}");
    rig.pass(Duration::from_secs(16));
    rig.say(&[(EdgeKind::Alert, "bbbb")]);
    assert!(matches!(rig.step(), Rest::For(_)));
    assert_eq!(rig.attempts(), 1);
    rig.settle();
    let seen = rig.seen();
    assert_eq!(seen.len(), 1, "what came while waiting is merged");
    assert!(seen[0].text.contains("#aaaa") && seen[0].text.contains("#bbbb"));
}

#[test]
fn a_refused_channel_is_tried_every_hour_and_nothing_is_dropped() {
    let mut rig = Rig::new(4096);
    rig.answers([Some(Class::Auth), Some(Class::Auth)]);
    rig.say(&[(EdgeKind::Alert, "aaaa")]);
    assert_eq!(rig.step(), Rest::For(REFUSED_WAIT));
    assert_eq!(rig.state(), ChannelState::Refused);
    rig.pass(REFUSED_WAIT / 2);
    rig.say(&[(EdgeKind::Alert, "bbbb")]);
    assert_eq!(rig.step(), Rest::For(REFUSED_WAIT / 2));
    assert_eq!(rig.attempts(), 1);
    let standing = rig.courier.status().read(rig.now.mono);
    assert_eq!((standing.pending, standing.oldest), (2, Some(REFUSED_WAIT / 2)));
    assert!(standing.last_error.is_some());
    rig.pass(REFUSED_WAIT / 2);
    assert_eq!(rig.step(), Rest::For(REFUSED_WAIT));
    rig.settle();
    assert_eq!((rig.seen().len(), rig.attempts(), rig.state()), (1, 3, ChannelState::Ok));
    assert!(rig.seen()[0].text.contains("#aaaa") && rig.seen()[0].text.contains("#bbbb"));
}

#[test]
fn a_message_that_is_not_accepted_is_tried_in_its_shortest_form_and_then_refused() {
    let mut rig = Rig::new(4096);
    rig.answers([Some(Class::Permanent)]);
    rig.say(&[(EdgeKind::Alert, "aaaa")]);
    rig.settle();
    assert_eq!(rig.seen()[0].text, "web-1\nalert probe/aaaa #aaaa");
    assert_eq!(rig.state(), ChannelState::Ok);
    rig.answers([Some(Class::Permanent), Some(Class::Permanent)]);
    rig.say(&[(EdgeKind::Alert, "bbbb")]);
    assert_eq!(rig.step(), Rest::For(Duration::ZERO));
    assert_eq!(rig.step(), Rest::For(REFUSED_WAIT));
    assert_eq!(rig.state(), ChannelState::Refused);
    rig.pass(REFUSED_WAIT);
    rig.settle();
    assert!(rig.seen()[1].text.contains("connection <refused>"), "an hour later the usual form is tried first");
}

#[test]
fn a_thread_delivers_when_rung_and_ends_at_once_when_idle() {
    let paper = Paper { limit: 4096, ..Paper::default() };
    let clock = Clock::system();
    let store = Store::open(None, clock.now(), "boot").unwrap().store;
    let courier = Courier::new(store.clone(), Box::new(paper.clone()), "web-1", 7);
    let delivery = spawn(courier, clock.clone()).unwrap();
    commit(&store, "paper", clock.now(), &[edge(EdgeKind::Alert, "aaaa", clock.now())]);
    delivery.ring();
    let until = Instant::now() + Duration::from_secs(10);
    while delivery.status().read(clock.now().mono).counts.delivered == 0 {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    let asked = Instant::now();
    assert!(delivery.stop(Duration::from_secs(10)));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[test]
fn a_stop_makes_one_last_attempt_and_does_not_wait_for_a_channel_that_hangs() {
    let clock = Clock::system();
    let start = |answer: Option<Class>, delay: Duration| {
        let paper = Paper { limit: 4096, ..Paper::default() };
        *paper.told.lock().unwrap() = Told { answers: [answer].into(), delay, ..Told::default() };
        let store = Store::open(None, clock.now(), "boot").unwrap().store;
        commit(&store, "paper", clock.now(), &[edge(EdgeKind::Alert, "aaaa", clock.now())]);
        let courier = Courier::new(store, Box::new(paper.clone()), "web-1", 7);
        (spawn(courier, clock.clone()).unwrap(), paper)
    };
    let (fails, failing) = start(Some(Class::Transient), Duration::ZERO);
    let (hangs, _) = start(None, Duration::from_secs(20));
    let until = Instant::now() + Duration::from_secs(10);
    while failing.told.lock().unwrap().attempts.is_empty() {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    let asked = Instant::now();
    let late = stop_all(vec![fails, hangs], Instant::now() + Duration::from_millis(500));
    assert_eq!(late, ["paper"], "only the one that hangs is late");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let told = failing.told.lock().unwrap();
    let acknowledged: Vec<bool> = told.attempts.iter().map(|(_, acknowledged)| *acknowledged).collect();
    assert_eq!(acknowledged, [false, true]);
}
