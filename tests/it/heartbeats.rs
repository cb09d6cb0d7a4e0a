//! Reading heartbeats from a Consul that says of itself that it is not to be believed, in ways that a real one
//! shows seldom: nothing of it may look like a node that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchdog::clock::Clock;
use watchdog::core::recovery::heartbeat::Life;
use watchdog::core::signal::{Reading, Report, SignalKey};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::source::consul::{Heart, Where, confirm};
use watchdog::source::{Ask, Kept, Outfit, Source};
use watchdog::wake::Waker;

use crate::daemon::wait;
use crate::peer::consul::client;
use crate::peer::kv::{Held, Kv};

const N1: &str = "watchdog/nodes/n1";
const N2: &str = "watchdog/nodes/n2";
const SENTINEL: &str = "watchdog/sentinel";
const RESETTLE: Duration = Duration::from_mins(3);

fn place() -> Where {
    Where { prefix: "watchdog/nodes".to_string(), sentinel: SENTINEL.to_string(), resettle: RESETTLE }
}

/// What happens to a Consul.
type Change = fn(&mut Held);

/// A source that reads this Consul, by a clock that is moved by hand.
struct Rig {
    kv: Kv,
    heart: Heart,
    clock: Clock,
    hand: Arc<Mutex<Now>>,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(&[N1, N2, SENTINEL], &[])
    }

    /// A Consul with these keys, read by somebody who knows these nodes from before.
    fn with(keys: &[&str], seen_before: &[&str]) -> Rig {
        Rig::after(keys, seen_before, Kept::default(), Clock::system().now())
    }

    /// The same, and with what the source before this one kept.
    fn after(keys: &[&str], seen_before: &[&str], kept: Kept, now: Now) -> Rig {
        let kv = Kv::start(keys);
        let (clock, hand) = Clock::by_hand(now);
        let outfit = Outfit {
            clock: clock.clone(),
            waker: Waker::new(),
            timeout: Duration::from_secs(5),
            tick: Duration::from_secs(1),
            previous_boot: None,
            seen_before: Arc::new(seen_before.iter().map(|name| Arc::from(*name)).collect()),
            kept,
        };
        let configured = BTreeSet::from([Arc::from("n1"), Arc::from("n2")]);
        let heart = Heart::new(client(&kv.url(), None), place(), configured, outfit);
        Rig { kv, heart, clock, hand }
    }

    fn observe(&mut self, once: bool) -> Result<Report, String> {
        let ask = Ask { now: self.clock.now(), fresh_since: Mono(0), hurry_since: Mono(i64::MIN), once };
        self.heart.observe(&ask)
    }

    fn pass_time(&self, span: Duration) {
        let mut now = self.hand.lock().unwrap();
        now.mono = now.mono.plus(span);
        now.awake = now.awake.plus(span);
    }

    /// Waits until the thread that reads has brought a report that is as wanted.
    fn wait(&mut self, what: &str, wanted: impl Fn(&Result<Report, String>) -> bool) -> Result<Report, String> {
        wait(what, || Some(self.observe(false)).filter(|report| wanted(report)))
    }

    fn wait_well(&mut self) {
        let _ = self.wait("both to be well", |report| report.as_ref().is_ok_and(is_well));
    }
}

fn readings(report: &Report) -> Vec<(&str, Reading)> {
    report.observations.iter().map(|seen| (seen.spec.key.as_str(), seen.reading)).collect()
}

fn is_well(report: &Report) -> bool {
    readings(report) == [("node/n1", Reading::Up), ("node/n2", Reading::Up)]
}

fn is_blind(words: &str) -> impl Fn(&Result<Report, String>) -> bool {
    move |report| report.as_ref().is_err_and(|said| said.contains(words))
}

/// What a Consul says of itself, and what is made of it.
fn doubts() -> [(Change, &'static str); 3] {
    [
        (|held| held.known_leader = false, "no leader"),
        (|held| held.last_contact = 5_001, "5 s ago"),
        (|held| held.filtered = true, "key_prefix \"watchdog/nodes\" read"),
    ]
}

#[test]
fn a_listing_that_is_in_doubt_is_no_look_at_any_node() {
    for (doubt, words) in doubts() {
        let mut rig = Rig::new();
        rig.wait_well();
        {
            let mut held = rig.kv.held();
            held.keys.remove(N1);
            held.index += 1;
            doubt(&mut held);
        }
        rig.wait(words, is_blind(words)).unwrap_err();
        assert!(is_blind(words)(&rig.observe(true)), "{words}");
        let error = confirm(&client(&rig.kv.url(), None), &place(), &rig.clock, "n1").unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let mut rig = Rig::new();
    rig.kv.held().last_contact = 5_000;
    assert!(is_well(&rig.observe(true).unwrap()), "a follower that heard of its leader lately");
}

#[test]
fn a_decision_is_made_on_a_consistent_read_with_our_own_key_there_and_the_node_s_not_hidden() {
    let kv = Kv::start(&[N1, SENTINEL]);
    let consul = client(&kv.url(), None);
    let confirm = |node: &str| confirm(&consul, &place(), &Clock::system(), node);
    assert_eq!(confirm("n1").unwrap().life("n1"), Life::Alive);
    assert_eq!(confirm("n2").unwrap().life("n2"), Life::Gone);
    let listings: Vec<String> = kv.asked().into_iter().filter(|asked| asked.contains("recurse")).collect();
    assert!(listings.len() == 2 && listings.iter().all(|asked| asked.contains("consistent")), "{listings:?}");
    kv.held().hidden = vec![N1.to_string()];
    assert!(confirm("n1").is_err(), "hidden is not gone");
    kv.held().hidden.clear();
    kv.held().keys.remove(SENTINEL);
    let error = confirm("n2").unwrap_err();
    assert!(error.contains(SENTINEL), "{error}");
}

#[test]
fn a_node_that_was_lost_while_nobody_looked_is_gone_once_it_had_time_to_register_again() {
    let states = |report: &Result<Report, String>, n1, n2| {
        report.as_ref().is_ok_and(|report| readings(report) == [("node/n1", n1), ("node/n2", n2)])
    };
    let mut rig = Rig::with(&[SENTINEL], &["n1"]);
    rig.wait("nobody to be missed yet", |report| states(report, Reading::Unknown, Reading::Unknown)).unwrap();
    rig.pass_time(RESETTLE);
    let report = rig.wait("n1 to be gone", |report| states(report, Reading::Down, Reading::Unknown)).unwrap();
    assert!(report.observations[0].fact.contains("it was there once"), "{:?}", report.observations);
    // One that is back in time was never gone, and one that goes later is gone at once.
    let mut rig = Rig::with(&[N1, SENTINEL], &["n1"]);
    rig.wait("n1 to be there", |report| states(report, Reading::Up, Reading::Unknown)).unwrap();
    {
        let mut held = rig.kv.held();
        held.keys.remove(N1);
        held.index += 1;
    }
    rig.wait("n1 to go", |report| states(report, Reading::Down, Reading::Unknown)).unwrap();
}

#[test]
fn a_key_without_a_holder_is_neither_life_nor_death() {
    let mut rig = Rig::new();
    rig.wait_well();
    {
        let mut held = rig.kv.held();
        held.keys.get_mut(N1).unwrap().1 = None;
        held.index += 1;
    }
    let report = rig.observe(true).unwrap();
    assert_eq!(readings(&report), [("node/n1", Reading::Unknown), ("node/n2", Reading::Up)]);
}

#[test]
fn data_that_was_replaced_is_not_believed_until_nodes_had_time_to_register_again() {
    let replaced: [(Change, &str); 4] = [
        (|held| held.index = 5, "index went back"),
        (|held| drop(held.keys.remove(SENTINEL)), "is gone"),
        (|held| held.keys.get_mut(SENTINEL).unwrap().0 = "somebody else's".to_string(), "is gone"),
        (
            |held| {
                held.keys.clear();
                held.index = 1;
            },
            "index went back",
        ),
    ];
    for (replace, words) in replaced {
        let mut rig = Rig::new();
        rig.wait_well();
        {
            let mut held = rig.kv.held();
            held.keys.remove(N1);
            held.index += 1;
            replace(&mut held);
        }
        rig.wait(words, is_blind(words)).unwrap_err();
        // Whatever is read meanwhile: the time has to pass.
        rig.kv.held().index += 1;
        rig.wait("the wait", is_blind("more to register again")).unwrap_err();
        rig.pass_time(RESETTLE.saturating_sub(Duration::from_secs(1)));
        rig.wait("the end of the wait", is_blind("have 1 s more")).unwrap_err();
        rig.pass_time(Duration::from_secs(2));
        let report = rig.wait("sight", Result::is_ok).unwrap();
        // It was seen by this run before: now it is really missing.
        assert_eq!(readings(&report)[0], ("node/n1", Reading::Down), "{words}");
        assert!(rig.kv.held().keys.contains_key(SENTINEL), "{words}: a new one is kept");
    }
}

#[test]
fn a_node_that_is_hidden_all_at_once_makes_blind_and_one_that_is_gone_does_not() {
    let mut rig = Rig::new();
    rig.wait_well();
    {
        let mut held = rig.kv.held();
        held.hidden = vec![N1.to_string()];
        held.index += 1;
    }
    rig.wait("the denial", is_blind("key")).unwrap_err();
    {
        let mut held = rig.kv.held();
        held.hidden.clear();
        held.keys.remove(N1);
        held.index += 1;
    }
    let report = rig.wait("sight", Result::is_ok).unwrap();
    assert_eq!(readings(&report), [("node/n1", Reading::Down), ("node/n2", Reading::Up)]);
}

#[test]
fn a_picture_that_nobody_renews_is_none() {
    let mut rig = Rig::new();
    rig.wait_well();
    rig.kv.held().hangs = true;
    rig.wait("the last picture to be of before", Result::is_ok).unwrap();
    let before = rig.kv.asked().len();
    wait("a read that hangs", || (rig.kv.asked().len() > before).then_some(()));
    rig.pass_time(Duration::from_secs(10));
    assert!(rig.observe(false).is_ok(), "a read may take its time");
    rig.pass_time(Duration::from_secs(10));
    assert!(is_blind("no answer from Consul for 20 s")(&rig.observe(false)), "{:?}", rig.observe(false));
}

/// What a report wanted kept.
fn kept(report: &Report, before: &mut BTreeMap<SignalKey, Arc<str>>) {
    for seen in &report.observations {
        let keep = seen.more.as_deref().and_then(|more| more.keep.clone());
        before.extend(keep.map(|keep| (seen.spec.key.clone(), Arc::from(keep))));
    }
}

fn happened_at(report: &Report, key: &str) -> Option<Wall> {
    let seen = report.observations.iter().find(|seen| seen.spec.key.as_str() == key)?;
    seen.more.as_deref()?.happened_at
}

#[test]
fn a_node_is_lost_since_it_was_last_seen_whoever_saw_it() {
    let mut rig = Rig::new();
    let report = rig.wait("both to be well", |report| report.as_ref().is_ok_and(is_well)).unwrap();
    let mut all = BTreeMap::new();
    kept(&report, &mut all);
    assert_eq!(all.len(), 2, "{all:?}");
    let quiet = rig.observe(false).unwrap();
    assert!(quiet.observations.iter().all(|seen| seen.more.is_none()), "what stands as it stood is not kept again");
    // Lost under our eyes: since the look before.
    let before = rig.clock.now().wall;
    {
        let mut held = rig.kv.held();
        held.keys.remove(N1);
        held.index += 1;
    }
    let report =
        rig.wait("n1 to go", |report| report.as_ref().is_ok_and(|r| readings(r)[0].1 == Reading::Down)).unwrap();
    assert_eq!(happened_at(&report, "node/n1"), Some(before));
    let mut lost = all.clone();
    kept(&report, &mut lost);
    // Lost while nobody looked, and found so two hours later, by a source that is told when the one before looked last.
    let left = rig.clock.now();
    let hours = Duration::from_hours(2);
    let now = Now { wall: left.wall.plus(hours), mono: left.mono.plus(hours), awake: left.awake.plus(hours) };
    for (bodies, since) in [(all, left.wall), (lost, before)] {
        let mut rig = Rig::after(&[N2, SENTINEL], &[], Kept::new(bodies, Some(left.mono), true), now);
        let _ = rig.wait("n1 to be missed", |report| {
            report.as_ref().is_ok_and(|r| readings(r) == [("node/n1", Reading::Unknown), ("node/n2", Reading::Up)])
        });
        rig.pass_time(RESETTLE);
        let gone = |report: &Result<Report, String>| report.as_ref().is_ok_and(|r| readings(r)[0].1 == Reading::Down);
        let report = rig.wait("n1 to be gone", gone).unwrap();
        assert_eq!(happened_at(&report, "node/n1"), Some(since));
    }
}

#[test]
fn a_node_that_nobody_configured_is_missed_after_a_restart_until_it_is_forgotten() {
    let now = Clock::system().now();
    let body: Arc<str> = Arc::from("{}");
    let bodies = || BTreeMap::from([(SignalKey::new("node/n3"), Arc::clone(&body))]);
    let is_missed = |report: &Report| readings(report).iter().any(|(key, _)| *key == "node/n3");
    let seen = Kept::new(bodies(), Some(now.mono.minus(Duration::from_mins(5))), true);
    let mut rig = Rig::after(&[N1, N2, SENTINEL], &[], seen, now);
    let report = rig.wait("a picture", Result::is_ok).unwrap();
    assert!(is_missed(&report), "{report:?}");
    rig.pass_time(RESETTLE);
    let report = rig.wait("n3 to be gone", |report| {
        report.as_ref().is_ok_and(|r| readings(r).contains(&("node/n3", Reading::Down)))
    });
    assert!(happened_at(&report.unwrap(), "node/n3").is_some());
    let long_ago = Kept::new(bodies(), Some(now.mono.minus(Duration::from_hours(25))), true);
    let mut rig = Rig::after(&[N1, N2, SENTINEL], &[], long_ago, now);
    let report = rig.wait("a picture", Result::is_ok).unwrap();
    assert!(!is_missed(&report), "{report:?}");
}

#[test]
fn a_planned_stop_holds_for_its_time_whoever_watches_and_is_recalled_then() {
    let stop = r#"{"node":"n1","boot_id":"b","ttl_s":30,"planned_s":600,"planned_stop":"2026-01-01T00:00:00Z"}"#;
    let state = |report: &Report| readings(report)[0].1;
    let fact = |report: &Report| report.observations[0].fact.to_string();
    let mut rig = Rig::new();
    let _ = rig.wait("both to be well", |report| report.as_ref().is_ok_and(is_well));
    let stopped = rig.clock.now();
    {
        let mut held = rig.kv.held();
        held.keys.insert(N1.to_string(), (stop.to_string(), None));
        held.index += 1;
    }
    let planned = |report: &Result<Report, String>| report.as_ref().is_ok_and(|r| state(r) == Reading::Unknown);
    let report = rig.wait("the planned stop", planned).unwrap();
    assert_eq!(fact(&report), "it said that it stops as planned: maintenance for 10 min at most");
    let mut all = BTreeMap::new();
    kept(&report, &mut all);
    // Single passes, one every four minutes: each is another source, and the third finds the time to be over.
    let body = (stop.to_string(), None);
    let mut seen = Vec::new();
    for pass in 1..=3 {
        let span = Duration::from_mins(4) * pass;
        let now = Now { wall: stopped.wall.plus(span), mono: stopped.mono.plus(span), awake: stopped.awake.plus(span) };
        let before = now.mono.minus(Duration::from_mins(4));
        let mut rig = Rig::after(&[N2, SENTINEL], &[], Kept::new(all.clone(), Some(before), true), now);
        rig.kv.held().keys.insert(N1.to_string(), body.clone());
        let report = rig.observe(true).unwrap();
        kept(&report, &mut all);
        seen.push((state(&report), fact(&report), happened_at(&report, "node/n1")));
    }
    assert_eq!((seen[0].0, seen[1].0, seen[2].0), (Reading::Unknown, Reading::Unknown, Reading::Down), "{seen:?}");
    assert_eq!(seen[2].1, "it stopped as planned and has not come back within 10 min (beacon.planned)");
    assert_eq!(seen[2].2, Some(stopped.wall), "since it stopped");
}
