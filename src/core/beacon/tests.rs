//! A beacon and its clock, its calls answered by hand.

use super::*;

fn own() -> Heartbeat {
    Heartbeat { node: "n1".into(), boot_id: "boot".into(), started_ms: 1_000, ..Heartbeat::default() }
}

/// A machine and its clock; calls are answered by hand.
struct Sim {
    beacon: Beacon,
    now: Mono,
}

impl Sim {
    fn new() -> Sim {
        let policy = Policy {
            ttl: Duration::from_secs(30),
            renew: Duration::from_secs(10),
            rewrite: Duration::from_secs(30),
            seed: 7,
        };
        Sim { beacon: Beacon::new(policy, own(), Mono(0)), now: Mono(0) }
    }

    fn active() -> Sim {
        let mut sim = Sim::new();
        sim.ok(Answer::Created("s1".into()));
        sim.ok(Answer::Written(true));
        assert_eq!(sim.beacon.state(), State::Active);
        sim
    }

    /// Waits until the next call is due and says which, and after how long.
    fn call(&mut self) -> (Call, Duration) {
        let next = self.beacon.next().unwrap().clone();
        let waited = next.at.since(self.now);
        if let Some(at) = self.beacon.expires_at().filter(|at| *at <= next.at) {
            self.beacon.on_time(at);
        }
        self.now = self.now.max(next.at);
        (next.call, waited)
    }

    fn answer(&mut self, outcome: Result<Answer, Fault>) {
        self.call();
        let sent = self.now;
        self.beacon.on_answer(sent, self.now, outcome);
    }

    fn ok(&mut self, answer: Answer) {
        self.answer(Ok(answer));
    }
}

fn holder(boot: &str, started_ms: i64) -> Holder {
    let heartbeat = Heartbeat { boot_id: boot.into(), started_ms, ..own() };
    Holder { session: "other".into(), heartbeat: Some(heartbeat) }
}

#[test]
fn the_value_is_written_once_per_ttl_and_not_with_each_renewal() {
    let mut sim = Sim::active();
    let mut writes = 0;
    while sim.now < Mono(300_000) {
        match sim.call().0 {
            Call::Renew(_) => sim.ok(Answer::Renewed(true)),
            Call::Write(_) => {
                writes += 1;
                sim.ok(Answer::Written(true));
            }
            other => panic!("{other:?}"),
        }
    }
    // The write at the 300th second is still to come.
    assert_eq!((writes, sim.beacon.counts().renewals, sim.beacon.heartbeat().beat), (9, 30, 30));
    assert_eq!(sim.beacon.counts().reconnects, 0);
}

#[test]
fn an_election_shorter_than_the_ttl_changes_nothing() {
    let mut sim = Sim::active();
    sim.answer(Err(Fault::NoLeader));
    assert_eq!((sim.beacon.state(), sim.beacon.why()), (State::Active, &Why::Failing(Fault::NoLeader)));
    let (call, waited) = sim.call();
    assert!(call == Call::Renew("s1".into()) && waited <= Duration::from_secs(1), "{call:?} {waited:?}");
    sim.ok(Answer::Renewed(true));
    assert_eq!((sim.beacon.state(), sim.beacon.why()), (State::Active, &Why::Well));
    assert_eq!((sim.beacon.counts().failures, sim.beacon.counts().reconnects), (1, 0));
}

#[test]
fn after_its_ttl_it_is_disconnected_and_renews_the_old_session_first() {
    let mut sim = Sim::active();
    while sim.beacon.state() == State::Active {
        sim.answer(Err(Fault::Unreachable));
        assert!(sim.now < Mono(40_000));
    }
    assert_eq!(sim.call().0, Call::Renew("s1".into()));
    sim.ok(Answer::Renewed(true));
    assert_eq!((sim.call().0, sim.beacon.state()), (Call::Write("s1".into()), State::Connecting));
    sim.ok(Answer::Written(true));
    assert_eq!((sim.beacon.state(), sim.beacon.counts().reconnects), (State::Active, 1));
}

#[test]
fn active_ends_with_the_ttl_of_the_last_renewal_that_was_sent() {
    let mut sim = Sim::active();
    sim.beacon.on_time(Mono(28_999));
    assert_eq!(sim.beacon.state(), State::Active);
    sim.beacon.on_time(Mono(29_000));
    assert_eq!(sim.beacon.state(), State::Disconnected);
}

#[test]
fn waits_grow_to_half_a_minute_and_never_beyond() {
    let mut sim = Sim::new();
    let mut longest = Duration::ZERO;
    for attempt in 0..40_u32 {
        let (call, waited) = sim.call();
        assert_eq!(call, Call::Create);
        let most = Duration::from_secs(1 << attempt.saturating_sub(1).min(5)).min(LONGEST_WAIT);
        assert!(attempt == 0 || (waited >= most / 2 && waited <= most), "{attempt}: {waited:?}");
        longest = longest.max(waited);
        sim.answer(Err(Fault::Denied));
    }
    assert!(longest > Duration::from_secs(20), "{longest:?}");
    assert_eq!(sim.beacon.counts().failures, 40);
}

#[test]
fn the_waits_begin_anew_when_the_ttl_has_passed() {
    let mut sim = Sim::active();
    while sim.beacon.state() == State::Active {
        sim.answer(Err(Fault::Unreachable));
    }
    assert!(sim.beacon.counts().failures > 3, "{:?}", sim.beacon.counts());
    for most in [1, 2, 4] {
        let (_, waited) = sim.call();
        assert!(waited <= Duration::from_secs(most), "{waited:?}");
        sim.answer(Err(Fault::Unreachable));
    }
}

#[test]
fn a_lost_session_is_replaced_at_once_but_not_in_a_hot_loop() {
    for lost in [Ok(Answer::Renewed(false)), Err(Fault::SessionGone)] {
        let mut sim = Sim::active();
        sim.answer(lost);
        assert_eq!(sim.call(), (Call::Create, Duration::ZERO));
        sim.ok(Answer::Created("s2".into()));
        assert_eq!(sim.call().0, Call::Write("s2".into()));
        sim.answer(Err(Fault::SessionGone));
        let (call, waited) = sim.call();
        assert!(call == Call::Create && waited >= Duration::from_secs(1), "{call:?} {waited:?}");
    }
}

#[test]
fn an_earlier_run_on_this_boot_is_ended_once_and_anybody_else_never() {
    let blocked = |holder: Holder| {
        let mut sim = Sim::new();
        sim.ok(Answer::Created("s1".into()));
        sim.ok(Answer::Written(false));
        assert_eq!(sim.call().0, Call::Read);
        sim.ok(Answer::Read(Some(holder)));
        sim
    };
    let mut sim = blocked(holder("boot", 999));
    assert_eq!(sim.call(), (Call::Destroy("other".into()), Duration::ZERO));
    sim.ok(Answer::Destroyed);
    sim.ok(Answer::Written(false));
    sim.ok(Answer::Read(Some(holder("boot", 999))));
    assert_eq!(sim.call().0, Call::Renew("s1".into()), "not twice");

    let unreadable = Holder { session: "other".into(), heartbeat: None };
    for other in [holder("boot", 1_000), holder("boot", 1_001), holder("another", 1), holder("", 1), unreadable] {
        let mut sim = blocked(other.clone());
        for _ in 0..20 {
            assert_eq!(sim.beacon.why(), &Why::Held(other.clone()));
            let (call, waited) = sim.call();
            assert_eq!(call, Call::Renew("s1".into()));
            assert!(waited >= Duration::from_secs(5) && waited <= Duration::from_secs(10), "{waited:?}");
            sim.ok(Answer::Renewed(true));
            sim.ok(Answer::Written(false));
            sim.ok(Answer::Read(Some(other.clone())));
        }
        sim.ok(Answer::Renewed(true));
        sim.ok(Answer::Written(true));
        assert_eq!(sim.beacon.state(), State::Active, "when the other is gone");
    }
}

#[test]
fn two_runs_on_one_boot_never_take_the_key_from_each_other() {
    let elder = Holder { session: "elder".into(), heartbeat: Some(Heartbeat { started_ms: 1, ..own() }) };
    let later = Holder { session: "later".into(), heartbeat: Some(Heartbeat { started_ms: 2, ..own() }) };
    let policy = Policy {
        ttl: Duration::from_secs(30),
        renew: Duration::from_secs(10),
        rewrite: Duration::from_secs(30),
        seed: 7,
    };
    let run = |started_ms| Beacon::new(policy, Heartbeat { started_ms, ..own() }, Mono(0));
    assert!(run(2).is_earlier(&elder) && !run(1).is_earlier(&later));
    assert!(!run(1).is_earlier(&elder) && !run(2).is_earlier(&later));
}

#[test]
fn a_stop_says_so_gives_back_and_ends_in_this_order() {
    let mut sim = Sim::active();
    sim.beacon.on_stop(sim.now);
    assert_eq!(sim.call().0, Call::WriteStop("s1".into()));
    sim.ok(Answer::Written(true));
    assert_eq!(sim.call().0, Call::Release("s1".into()));
    sim.ok(Answer::Released);
    assert_eq!(sim.call().0, Call::Destroy("s1".into()));
    sim.ok(Answer::Destroyed);
    assert_eq!((sim.beacon.state(), sim.beacon.next()), (State::Done, None));
}

#[test]
fn a_stop_ends_after_few_calls_whatever_fails() {
    let mut sim = Sim::active();
    sim.beacon.on_stop(sim.now);
    let mut calls = Vec::new();
    while sim.beacon.next().is_some() {
        calls.push(sim.call().0);
        sim.answer(Err(Fault::Unreachable));
    }
    let stop = || Call::WriteStop("s1".into());
    assert_eq!(calls, [stop(), stop(), Call::Destroy("s1".into())]);

    let mut sim = Sim::new();
    sim.beacon.on_stop(sim.now);
    assert_eq!(sim.beacon.state(), State::Done, "nothing to give back");
    let mut sim = Sim::new();
    sim.ok(Answer::Created("s1".into()));
    sim.beacon.on_stop(sim.now);
    assert_eq!(sim.call().0, Call::Destroy("s1".into()), "a session without the key is only ended");
}

#[test]
fn a_value_that_no_beacon_wrote_is_none() {
    assert_eq!(Heartbeat::parse(b"2026-01-01T00:00:00Z"), None);
    assert_eq!(Heartbeat::parse(b"{}"), None);
    let text = serde_json::to_vec(&own()).unwrap();
    assert_eq!(Heartbeat::parse(&text), Some(own()));
    assert!(!String::from_utf8(text).unwrap().contains("planned_stop"));
}
