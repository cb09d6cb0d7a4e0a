//! Consul's data is lost or replaced by older data. Nobody is repaired for that.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use watchdog::client::consul::How;

use super::{Scene, linger};
use crate::daemon::{Daemon, wait};
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::setup::{ALONE, Setup};

pub(super) const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// `resettle` is the least that is taken.
pub(super) fn agent(scene: &Scene, consul: &str) -> Setup {
    let setup = NAMES.iter().fold(scene.agent(consul), |setup, name| setup.node(name, ALONE));
    setup.set("recovery.min_healthy", "0%").set("consul.resettle", "31s")
}

/// Nodes have their time to register again, and use it; nobody is touched meanwhile or after.
fn assert_all_come_back_untouched(scene: &Scene, agent: &Daemon) {
    linger(agent, Duration::from_secs(20));
    scene.assert_untouched();
    agent.wait_state("source/consul", "ok");
    wait_all(agent, "ok");
    linger(agent, Duration::from_secs(3));
    scene.assert_untouched();
}

pub(super) fn wait_all(agent: &Daemon, state: &str) {
    NAMES.iter().for_each(|name| agent.wait_state(&format!("node/{name}"), state));
}

/// The message may already have left with another reason: a Consul that is busy with that answers badly at first.
fn wait_replaced(agent: &Daemon) {
    agent.wait_state("source/consul", "firing");
    wait("the reason", || agent.status().to_string().contains("data was replaced").then_some(()));
}

#[test]
fn a_consul_that_lost_all_its_data_is_told_as_blindness_and_nobody_is_touched() {
    if !parts::consul() {
        return;
    }
    let (scene, mut consul) = (Scene::new(&NAMES), Consul::dev(Dev::default()));
    // It has lived for a while: one that begins anew is behind it even when all have registered before anybody looks.
    (0..200).for_each(|_| assert!(consul.client().put("elsewhere", b"", How::Plain).unwrap()));
    let _beacons = NAMES.map(|name| scene.beacon(name, &consul.url(), "2s", "200ms"));
    let agent = scene.start(&agent(&scene, &consul.url()));
    wait_all(&agent, "ok");
    consul.wipe();
    wait_replaced(&agent);
    assert_all_come_back_untouched(&scene, &agent);
    scene.wait_told("🟢");
    let story = scene.story();
    assert!(story.contains("source consul") && !story.contains("heartbeat is gone"), "{story}");
}

fn snapshot(consul: &Consul, verb: &str, file: &Path) {
    let address = format!("-http-addr={}", consul.url());
    let output = Command::new("consul").args(["snapshot", verb, &address]).arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_consul_restored_from_an_older_snapshot_is_not_believed_until_nodes_had_time_to_register_again() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&NAMES), Consul::dev(Dev::default()));
    let file = scene.home.path().join("consul.snapshot");
    let first = |name: &str| scene.beacon(name, &consul.url(), "5s", "500ms");
    let beacons = [first("n1"), first("n2")];
    let agent = scene.start(&agent(&scene, &consul.url()));
    agent.wait_state("node/n2", "ok");
    agent.wait_pass();
    snapshot(&consul, "save", &file);
    // Registered after the snapshot: the restored Consul has never heard of it.
    let late = first("n3");
    wait_all(&agent, "ok");
    // Nobody speaks for a moment, or the new data would be as new as the old before anybody looked.
    beacons.iter().chain([&late]).for_each(|beacon| beacon.signal(Signal::STOP));
    snapshot(&consul, "restore", &file);
    wait("n3 to be unheard of", || consul.key("watchdog/nodes/n3").is_none().then_some(()));
    wait_replaced(&agent);
    scene.wait_told("source consul");
    beacons.iter().chain([&late]).for_each(|beacon| beacon.signal(Signal::CONT));
    assert_all_come_back_untouched(&scene, &agent);
    let story = scene.story();
    assert!(!story.contains("heartbeat is gone"), "{story}");
}
