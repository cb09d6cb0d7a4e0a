//! The dead-man's switch by a clock in the hand: when it beats, and what keeps it from beating.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use watchdog::client::http::Options;
use watchdog::clock::Clock;
use watchdog::config::value::Secret;
use watchdog::core::edge::{Edge, EdgeKind, Incident};
use watchdog::core::message::Message;
use watchdog::core::recovery::plan::Plan;
use watchdog::core::signal::{Severity, SignalKey};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::core::watch::{Cooldowns, Outcome, Policy, Watch};
use watchdog::deadman::{Beat, Deadman, UNDELIVERED};
use watchdog::deliver::{self, Courier};
use watchdog::gather::{Gather, Whom};
use watchdog::notifier::{Class, Notifier, Part, Receipt, SendError};
use watchdog::store::Store;
use watchdog::tick::Tick;
use watchdog::wake::Waker;

use crate::daemon::{SOON, wait};
use crate::peer::http::{Manner, Peer};

const MINUTE: i64 = 60_000;

fn switch(peer: &Peer) -> Deadman {
    expecting(peer, None)
}

fn expecting(peer: &Peer, expect: Option<&str>) -> Deadman {
    let options = Options { timeout: SOON, ..Beat::options() };
    let url = Secret::new(format!("{}/ping/canary-token", peer.url()));
    Deadman::start(Beat { url, expect: expect.map(str::to_string), options }).unwrap()
}

#[test]
fn it_beats_at_most_once_a_minute_and_not_while_something_is_undelivered_for_long() {
    let peer = Peer::start(Manner::answer("200 OK", ""));
    let mut switch = switch(&peer);
    let ms = Duration::from_millis(1);
    // When, how long the oldest alert has waited, and whether that is a beat.
    let table = [
        (0, Duration::ZERO, true),
        (MINUTE - 1, Duration::ZERO, false),
        (MINUTE, Duration::ZERO, true),
        (2 * MINUTE, UNDELIVERED + ms, false),
        (20 * MINUTE, Duration::MAX, false),
        (20 * MINUTE, UNDELIVERED, true),
        // A clock that went back does not stop the beats.
        (MINUTE, Duration::ZERO, true),
        (MINUTE + 1, Duration::ZERO, false),
        (2 * MINUTE, Duration::ZERO, true),
    ];
    let mut beats = 0;
    for (at, undelivered, beat) in table {
        switch.beat(Mono(at), undelivered);
        beats += usize::from(beat);
        wait("the beat", || (peer.heard().len() == beats).then_some(()));
    }
    wait("the answer", || (switch.outcome()? == Ok(())).then_some(()));
    assert_eq!(peer.connections(), beats, "one connection for each beat and no other");
}

#[test]
fn an_answer_that_is_no_success_is_told_without_the_address() {
    let peer = Peer::start(Manner::answer("500 Oops", ""));
    let mut switch = switch(&peer);
    assert_eq!(switch.outcome(), None, "nothing is known before the first beat has ended");
    switch.beat(Mono(0), Duration::ZERO);
    let outcome = wait("the answer", || switch.outcome());
    assert_eq!(outcome, Err("heartbeat_url answered with status 500".to_string()));
}

#[test]
fn a_receiver_that_says_no_under_a_good_status_is_believed() {
    let ends = |body: &str, expect: Option<&str>| {
        let peer = Peer::start(Manner::answer("200 OK", body));
        let mut switch = expecting(&peer, expect);
        switch.beat(Mono(0), Duration::ZERO);
        wait("the answer", || switch.outcome())
    };
    assert_eq!(ends("OK", None), Ok(()));
    assert_eq!(ends("all is noted", Some("noted")), Ok(()));
    let table = [
        ("OK (not found)", None, "was refused: not found"),
        ("OK (rate limited)", None, "was refused: rate limited"),
        (r#"{"ok":false,"msg":"no monitor canary-token"}"#, None, "was refused: no monitor ********"),
        ("<html>Please log in</html>", Some("noted"), "without what heartbeat_expect says"),
    ];
    for (body, expect, words) in table {
        let what = ends(body, expect).unwrap_err();
        assert!(what.starts_with("heartbeat_url ") && what.contains(words) && !what.contains("canary"), "{what}");
    }
    let peer = Peer::start(Manner::answer("404 Not Found", r#"{"ok":false,"msg":"Monitor not found"}"#));
    let mut switch = switch(&peer);
    switch.beat(Mono(0), Duration::ZERO);
    let outcome = wait("the answer", || switch.outcome());
    assert_eq!(outcome, Err("heartbeat_url answered with status 404 (Monitor not found)".to_string()));
}

/// A channel that accepts nothing until it is told to.
struct Stubborn(Arc<AtomicBool>);

impl Notifier for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
    }

    fn render(&self, _message: &Message) -> Vec<String> {
        vec!["text".to_string()]
    }

    fn send(&mut self, _part: &Part<'_>) -> Result<Receipt, SendError> {
        let error = SendError { what: "out".to_string(), advice: "", class: Class::Transient };
        if self.0.load(Ordering::SeqCst) { Ok(Receipt::default()) } else { Err(error) }
    }
}

#[test]
fn a_pass_does_not_beat_while_the_oldest_alert_waits_for_more_than_ten_minutes() {
    let start = Now { wall: Wall(1_767_225_600_000), mono: Mono(MINUTE), awake: Mono(MINUTE) };
    let (clock, hand) = Clock::by_hand(start);
    let forward = |minutes: i64| {
        let mut now = hand.lock().unwrap();
        now.wall.0 += minutes * MINUTE;
        now.mono.0 += minutes * MINUTE;
        now.awake.0 += minutes * MINUTE;
    };
    let peer = Peer::start(Manner::answer("200 OK", ""));
    let opens = Arc::new(AtomicBool::new(false));
    let store = Store::open(None, start, "boot").unwrap().store;
    let tick = Duration::from_mins(1);
    let policy = Policy { cooldown: Cooldowns::all(Duration::ZERO), tick, warm_up: false, confirm_at_once: false };
    let gather = Gather::start(Vec::new(), clock.clone(), &Waker::new()).unwrap();
    let mut loops = Tick::new(clock.clone(), gather, Watch::new(policy), store.clone(), tick);
    let courier = Courier::new(store, Box::new(Stubborn(Arc::clone(&opens))), "web-1", 1);
    loops.couriers.push(deliver::spawn(courier, clock.clone()).unwrap());
    loops.deadman = Some(switch(&peer));
    let alert = Edge {
        kind: EdgeKind::Alert,
        key: SignalKey::new("probe/db"),
        title: "db".to_string(),
        severity: Severity::Critical,
        fact: "down".to_string(),
        since: start.wall,
        at: start.wall,
        lasted: Duration::ZERO,
        incident: Incident("k3f9".to_string()),
        reason: "began".to_string(),
        ..Edge::default()
    };
    loops.commit(start, &Outcome { edges: vec![alert], ..Outcome::default() }, &Plan::default());
    let beats = |n: usize| wait("the beat", || (peer.heard().len() == n).then_some(()));

    loops.pass(&Whom::All);
    beats(1);
    forward(10);
    loops.pass(&Whom::All);
    beats(2);
    // Passes for news alone are not proof that the loop keeps its grid.
    forward(1);
    loops.pass(&Whom::Only(std::collections::BTreeSet::new()));
    for _ in 0..5 {
        forward(1);
        loops.pass(&Whom::All);
    }
    opens.store(true, Ordering::SeqCst);
    forward(2);
    loops.couriers[0].ring();
    let delivered = || loops.couriers[0].status().read(clock.now().mono).pending == 0;
    wait("the delivery", || delivered().then_some(()));
    loops.pass(&Whom::All);
    beats(3);
    assert_eq!(peer.connections(), 3, "none while the alert had waited for more than ten minutes");
}
