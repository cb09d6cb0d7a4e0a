//! A real beacon that is killed, frozen, or stopped as planned.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Scene, linger, metric, sys, target, wait_blocked, wait_phase};
use crate::daemon::{Daemon, wait};
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::Kind;
use crate::repair::Beat;
use crate::setup::{ALONE, GONE, Setup};

/// One node with its beacon, seen healthy by an agent.
fn one_node(settings: impl FnOnce(Setup) -> Setup) -> (Scene, Consul, Daemon, Daemon) {
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let beacon = scene.beacon("n1", &consul.url(), "2s", "200ms");
    let agent = scene.start(&settings(scene.agent(&consul.url())));
    wait_phase(&agent, "n1", "healthy");
    (scene, consul, beacon, agent)
}

#[test]
fn the_node_of_a_killed_beacon_is_repaired_exactly_once() {
    if !parts::consul() {
        return;
    }
    let (scene, consul, beacon, agent) = one_node(|setup| setup.node("n1", GONE));
    beacon.kill();
    scene.wait_started(1);
    wait_phase(&agent, "n1", "waiting");
    let _beat = Beat::start(&consul, "n1", "boot-2");
    wait_phase(&agent, "n1", "healthy");
    scene.wait_told("repaired: back on a new boot");
    linger(&agent, Duration::from_secs(2));
    scene.assert_repaired_once("n1");
    let actions = |action: &str| {
        let name = "watchdog_recovery_actions_total";
        metric(&agent, &format!("{name}{{target=\"node/n1\",action=\"{action}\",mode=\"active\"}}"))
    };
    assert_eq!((actions("STOP"), actions("START")), (Some(1.0), Some(1.0)));
}

#[test]
fn a_frozen_beacon_that_goes_on_after_the_repair_is_told_as_what_it_is_and_nothing_more_is_done() {
    if !parts::consul() {
        return;
    }
    let (scene, _consul, beacon, agent) = one_node(|setup| setup.node("n1", GONE));
    beacon.signal(Signal::STOP);
    wait_phase(&agent, "n1", "waiting");
    beacon.signal(Signal::CONT);
    wait_phase(&agent, "n1", "healthy");
    scene.wait_told("back by itself");
    scene.wait_told("without a reboot by the repair");
    linger(&agent, Duration::from_secs(3));
    scene.assert_repaired_once("n1");
    assert_eq!(target(&agent, "n1")["attempts"], 1, "the attempt is not forgiven at once");
}

#[test]
fn a_frozen_beacon_that_goes_on_before_it_is_due_is_left_alone() {
    if !parts::consul() {
        return;
    }
    let (scene, _consul, beacon, agent) = one_node(|setup| setup.node("n1", ALONE).set("recovery.after", "8s"));
    beacon.signal(Signal::STOP);
    wait_phase(&agent, "n1", "suspect");
    let lost = Instant::now();
    scene.wait_told("its heartbeat is gone");
    beacon.signal(Signal::CONT);
    wait_phase(&agent, "n1", "healthy");
    // Past the moment at which it would have been due.
    linger(&agent, Duration::from_secs(9).saturating_sub(lost.elapsed()));
    scene.assert_untouched();
    assert_eq!(target(&agent, "n1")["attempts"], 0);
}

#[test]
fn a_planned_stop_is_maintenance_for_its_time_over_a_restart_of_the_agent_and_then_the_alert_recalls_it() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let beacon = scene.beacon_with("n1", &consul.url(), |setup| {
        setup.set("beacon.ttl", "3s").set("beacon.renew", "300ms").set("beacon.planned", "9s")
    });
    let mut agent = scene.start(&scene.agent(&consul.url()).node("n1", GONE));
    wait_phase(&agent, "n1", "healthy");
    let stopped = Instant::now();
    beacon.terminate();
    wait("the word maintenance", || {
        let status = agent.status();
        let node = status["signals"].as_array()?.iter().find(|signal| signal["key"] == "node/n1")?.clone();
        let told = node["detail"].as_str()?.contains("maintenance for 9 s at most");
        (node["state"] == "unknown" && told).then_some(())
    });
    assert_eq!(target(&agent, "n1")["phase"], "healthy");
    let mut restarted = false;
    while stopped.elapsed() < Duration::from_millis(8_500) {
        agent.wait_pass();
        scene.assert_untouched();
        assert!(!scene.story().contains("not come back"), "{}", scene.story());
        if !restarted && stopped.elapsed() > Duration::from_secs(3) {
            // Whoever comes after counts from where this one began.
            restarted = true;
            agent.terminate();
            agent = scene.start(&scene.agent(&consul.url()).node("n1", GONE));
        }
    }
    scene.wait_told("it stopped as planned and has not come back within 9 s (beacon.planned)");
    assert!(stopped.elapsed() < Duration::from_secs(16), "{:?}", stopped.elapsed());
    scene.wait_started(1);
    let after = scene.oci.asked(Kind::Stop)[0].at.duration_since(stopped);
    println!("STOP {after:?} after a planned stop of 9 s and after = 1 s");
    assert!(after >= Duration::from_secs(10), "{after:?}");
    wait_phase(&agent, "n1", "waiting");
    let _beat = Beat::start(&consul, "n1", "boot-2");
    wait_phase(&agent, "n1", "healthy");
    scene.assert_repaired_once("n1");
}

#[test]
fn an_agent_does_not_take_down_the_machine_that_it_shares_with_a_beacon() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let beacon = scene.beacon("n1", &consul.url(), "2s", "200ms");
    let setup = scene.agent(&consul.url()).node("n1", GONE);
    let setup = setup.set("host.sys", sys(scene.home.path(), true));
    let agent = scene.start(&setup);
    wait_phase(&agent, "n1", "healthy");
    agent.wait_pass();
    beacon.kill();
    wait_blocked(&agent, "n1", "own-machine");
    scene.wait_told("not touched: own-machine");
    linger(&agent, Duration::from_secs(2));
    scene.assert_untouched();
    agent.kill();
    // It is remembered: the heartbeat that told it is gone.
    let agent = scene.start(&setup);
    wait_blocked(&agent, "n1", "own-machine");
    linger(&agent, Duration::from_secs(4));
    scene.assert_untouched();
}
