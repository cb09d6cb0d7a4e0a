//! Several agents at one Consul: one writer, however they die, freeze and come back.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use watchdog::client::consul::How;

use super::{Scene, linger, side_by_side, wait_phase};
use crate::daemon::{Daemon, wait};
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::Kind;
use crate::repair::Beat;
use crate::setup::{GONE, Setup};

const HOLDS: &str = "this agent holds the lease";
const TTL: Duration = Duration::from_secs(3);

fn plan(scene: &Scene, consul: &Consul, name: &str) -> Setup {
    scene.named(name, &consul.url()).node("n1", GONE)
}

/// Starts agents one after another; the first leads.
fn agents(scene: &Scene, count: usize, plan: impl Fn(&str) -> Setup) -> Vec<Daemon> {
    let start = |n: usize| {
        let agent = scene.start(&plan(&format!("agent-{n}")));
        wait_phase(&agent, "n1", "healthy");
        if n == 1 {
            wait_leads(&agent);
        }
        agent
    };
    (1..=count).map(start).collect()
}

fn wait_leads(agent: &Daemon) {
    wait(|| format!("the lease: {}", agent.stderr()), || agent.stderr().contains(HOLDS).then_some(()));
}

fn leads(agent: &Daemon) -> bool {
    agent.stderr().contains(HOLDS)
}

/// A signal for this process when a request arrives, before it has any effect.
fn at(scene: &Scene, kind: Kind, pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    scene.oci.on_arrival(kind, 1, Box::new(move || kill_process(pid, signal).unwrap()));
}

#[test]
fn of_three_agents_one_leads_and_only_that_one_acts() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let beat = Beat::start(&consul, "n1", "boot-1");
    let all = agents(&scene, 3, |name| plan(&scene, &consul, name));
    beat.dies();
    scene.wait_started(1);
    for agent in &all[1..] {
        wait(
            || format!("not-leader: {}", agent.status()),
            || {
                let page = String::from_utf8(agent.get("/metrics").body).unwrap();
                page.contains("watchdog_recovery_blocked_total{reason=\"not-leader\"}").then_some(())
            },
        );
    }
    wait_phase(&all[0], "n1", "waiting");
    let _beat = Beat::start(&consul, "n1", "boot-2");
    all.iter().for_each(|agent| wait_phase(agent, "n1", "healthy"));
    linger(&all[2], Duration::from_secs(2));
    scene.assert_repaired_once("n1");
    assert_eq!(all.iter().map(leads).collect::<Vec<_>>(), [true, false, false]);
    let gone = || {
        let notes = consul.client().prefix("watchdog/repairs", None, None, false).unwrap();
        notes.entries().unwrap().is_empty().then_some(())
    };
    wait("the note to be taken away", gone);
}

#[test]
fn when_the_leader_is_killed_another_takes_over_within_two_ttls_and_a_tick_and_acts() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let beat = Beat::start(&consul, "n1", "boot-1");
    // Who waits asks four times in a TTL, which is within a tick as ticks usually are.
    let tick = Duration::from_secs(1);
    let mut all = agents(&scene, 3, |name| plan(&scene, &consul, name).set("tick", "1s"));
    let mut killed = Instant::now();
    let mut beat = Some(beat);
    for round in 1..=2 {
        linger(&all[1], Duration::from_secs(1));
        killed = Instant::now();
        all.remove(0).kill();
        // Due long before the lease is free: the STOP comes as soon as that is.
        if let Some(beat) = beat.take_if(|_| round == 2) {
            beat.dies();
        }
        let next = wait("the next leader", || all.iter().position(leads));
        let took = killed.elapsed();
        println!("round {round}: the lease went over {took:?} after SIGKILL (TTL {TTL:?}, tick {tick:?})");
        assert!(took <= TTL * 2 + tick, "{took:?}");
        all.swap(0, next);
    }
    scene.wait_started(1);
    let acted = scene.oci.asked(Kind::Stop)[0].at.duration_since(killed);
    println!("STOP {acted:?} after SIGKILL");
    let _beat = Beat::start(&consul, "n1", "boot-2");
    wait_phase(&all[0], "n1", "healthy");
    scene.assert_repaired_once("n1");
}

#[test]
fn a_leader_killed_in_the_middle_of_a_stop_leaves_a_note_and_the_next_one_starts_the_machine() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let beat = Beat::start(&consul, "n1", "boot-1");
    let mut all = agents(&scene, 2, |name| plan(&scene, &consul, name));
    at(&scene, Kind::Stop, all[0].pid(), Signal::KILL);
    beat.dies();
    scene.wait_started(1);
    wait_phase(&all[1], "n1", "waiting");
    scene.wait_told("takes over the repair that agent agent-1 began");
    let _beat = Beat::start(&consul, "n1", "boot-2");
    wait_phase(&all[1], "n1", "healthy");
    scene.assert_repaired_once("n1");
    // The first comes back with its journal in which the STOP has no answer: it only looks.
    drop(all.remove(0));
    let again = scene.start(&plan(&scene, &consul, "agent-1"));
    linger(&again, Duration::from_secs(3));
    again.wait_state("node/n1", "ok");
    scene.assert_repaired_once("n1");
}

#[test]
fn a_leader_frozen_for_longer_than_its_lease_never_sends_a_second_stop() {
    if !parts::consul() {
        return;
    }
    // Frozen as its STOP arrives, and frozen as the look before it arrives, which it then is about to send.
    side_by_side([Kind::Stop, Kind::Get], |kind| {
        let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
        let beat = Beat::start(&consul, "n1", "boot-1");
        let all = agents(&scene, 2, |name| plan(&scene, &consul, name));
        at(&scene, kind, all[0].pid(), Signal::STOP);
        beat.dies();
        scene.wait_started(1);
        wait_phase(&all[1], "n1", "waiting");
        all[0].signal(Signal::CONT);
        linger(&all[0], Duration::from_secs(3));
        assert_eq!(scene.asked(), (1, 1), "{kind:?} {:#?}\n{}", scene.switched(), all[0].stderr());
        let _beat = Beat::start(&consul, "n1", "boot-2");
        wait_phase(&all[1], "n1", "healthy");
        all.iter().for_each(|agent| agent.wait_state("node/n1", "ok"));
        linger(&all[0], Duration::from_secs(1));
        scene.assert_repaired_once("n1");
    });
}

#[test]
fn a_leader_that_is_told_to_stop_gives_the_lease_back_at_once() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let _beat = Beat::start(&consul, "n1", "boot-1");
    let mut all = agents(&scene, 2, |name| plan(&scene, &consul, name));
    let told = Instant::now();
    all.remove(0).terminate();
    wait("the next leader", || leads(&all[0]).then_some(()));
    let took = told.elapsed();
    println!("the lease went over {took:?} after SIGTERM");
    assert!(took < TTL, "{took:?}");
    scene.assert_untouched();
}

#[test]
fn a_note_about_a_node_that_nobody_here_knows_is_told_until_somebody_removes_it() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let key = "watchdog/repairs/n9/0123";
    let note = r#"{"target":"n9","saga":"0123","agent":"agent-0","verb":"stop","fence":{"etag":"e","token":"t"}}"#;
    consul.client().put(key, note.as_bytes(), How::Plain).unwrap();
    let _beat = Beat::start(&consul, "n1", "boot-1");
    let all = agents(&scene, 2, |name| plan(&scene, &consul, name).set("recovery.lease_ttl", "1s"));
    all[0].wait_state("recovery/unconfigured", "firing");
    scene.wait_told("n9 (agent agent-0 was about to ask for STOP");
    all[1].wait_state("recovery/unconfigured", "ok");
    consul.client().delete(key, None).unwrap();
    all[0].wait_state("recovery/unconfigured", "ok");
    scene.assert_untouched();
}

#[test]
fn a_note_that_cannot_be_read_is_told_until_it_is_gone() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let _beat = Beat::start(&consul, "n1", "boot-1");
    let client = consul.client();
    let key = "watchdog/repairs/n9/of-another-version";
    for (key, value) in [(key, &b"nonsense"[..]), ("watchdog/repairs/", b"")] {
        assert!(client.put(key, value, watchdog::client::consul::How::Plain).unwrap());
    }
    let agent = scene.start(&plan(&scene, &consul, "agent-1"));
    agent.wait_state("recovery/notes", "firing");
    scene.wait_told("1 in a form that cannot be read");
    client.delete(key, None).unwrap();
    agent.wait_state("recovery/notes", "ok");
    scene.assert_untouched();
    agent.terminate();
}
