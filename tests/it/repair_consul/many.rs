//! A thousand nodes at once, and what the watching of many costs.

use std::time::{Duration, Instant};

use super::{Scene, hold, linger, metric, wait_phase};
use crate::daemon::{SOON, wait};
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::Kind;
use crate::peer::proxy::Proxy;
use crate::repair::Beat;
use crate::setup::{GONE, Setup};

const MANY: usize = 1_000;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("n{n:04}")).collect()
}

fn fleet(scene: &Scene, consul: &str, names: &[String]) -> Setup {
    names.iter().fold(scene.agent(consul), |setup, name| setup.node(name, "")).set("tick", "500ms")
}

fn nodes(agent: &crate::daemon::Daemon, state: &str) -> f64 {
    metric(agent, &format!("watchdog_nodes{{state=\"{state}\"}}")).unwrap_or(-1.0)
}

#[test]
fn a_thousand_nodes_lost_at_once_are_one_message_and_no_action_and_one_of_a_thousand_is_repaired() {
    if !parts::consul() {
        return;
    }
    let names = names(MANY);
    let scene = Scene::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let consul = Consul::dev(Dev::default());
    let session = hold(&consul, &names, "boot-1");
    let fleet = fleet(&scene, &consul.url(), &names);
    let agent = scene.start(&fleet);
    wait("a thousand to be alive", || (nodes(&agent, "alive") == 1_000.0).then_some(()));
    linger(&agent, Duration::from_secs(2));
    consul.client().session_destroy(&session).unwrap();
    let lost = Instant::now();
    wait("a thousand to be ill", || (nodes(&agent, "ill") == 1_000.0).then_some(()));
    println!("1,000 nodes ill {:?} after they were lost", lost.elapsed());
    let blocked = || metric(&agent, "watchdog_recovery_blocked_total{reason=\"too-many-missing\"}");
    wait("a thousand to be blocked", || (blocked() == Some(1_000.0)).then_some(()));
    agent.wait_state("recovery/too-many-missing", "firing");
    // Behind the list of a thousand names, in nine messages at Telegram's pace of one a second.
    let told = Instant::now();
    while !scene.story().contains("too-many-missing") && told.elapsed() < SOON * 2 {
        agent.wait_pass();
    }
    println!("why nobody is touched was told {:?} after the loss", lost.elapsed());
    scene.assert_untouched();
    assert_eq!(scene.oci.ledger().len(), 0, "not even a look");
    assert_eq!((nodes(&agent, "ill"), nodes(&agent, "alive"), nodes(&agent, "never-seen")), (1_000.0, 0.0, 0.0));
    assert_eq!(blocked(), Some(1_000.0));
    let page = String::from_utf8(agent.get("/metrics").body).unwrap();
    assert!(!page.contains("watchdog_recovery_actions_total{"), "no request of any kind");
    let told = scene.telegram.delivered();
    let why: Vec<_> = told.iter().filter(|message| message.text.contains("too-many-missing")).collect();
    println!("{} messages, {} of them say why", told.len(), why.len());
    assert_eq!(why.len(), 1, "{}", scene.story());
    assert!(why[0].text.contains("1000 of 1000 nodes are ill, at most 490 may be"), "{}", why[0].text);
    assert!(told.len() <= 12, "{}", scene.story());

    // All are back but one, and a watchdog that was not there in the storm: an ordinary loss.
    let _session = hold(&consul, &names[1..], "boot-2");
    let one = Beat::start(&consul, &names[0], "boot-2");
    wait("a thousand to be alive", || (nodes(&agent, "alive") == 1_000.0).then_some(()));
    agent.terminate();
    let agent = scene.start(&fleet);
    wait("a thousand to be alive", || (nodes(&agent, "alive") == 1_000.0).then_some(()));
    linger(&agent, Duration::from_secs(2));
    one.dies();
    scene.wait_started(1);
    wait_phase(&agent, &names[0], "waiting");
    let _one = Beat::start(&consul, &names[0], "boot-3");
    wait_phase(&agent, &names[0], "healthy");
    linger(&agent, Duration::from_secs(2));
    scene.assert_repaired_once(&names[0]);
}

#[test]
fn a_quiet_fleet_costs_one_request_per_tick_and_a_loss_is_seen_within_a_second() {
    if !parts::consul() {
        return;
    }
    let names = names(50);
    let scene = Scene::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let consul = Consul::dev(Dev::default());
    let proxy = Proxy::to(&consul.address());
    let _session = hold(&consul, &names[1..], "boot-1");
    let one = Beat::start(&consul, &names[0], "boot-1");
    let fleet = fleet(&scene, &proxy.url(), &names).set("tick", "3s").set("recovery.after", "1m");
    let agent = scene.start(&fleet);
    wait("all to be alive", || (nodes(&agent, "alive") == 50.0).then_some(()));
    let ticks = || agent.status()["tick"]["count"].as_u64().unwrap();
    let reads = || proxy.count("GET /v1/kv/watchdog/nodes");
    linger(&agent, Duration::from_secs(3));
    let (ticks_before, reads_before, begun) = (ticks(), reads(), Instant::now());
    linger(&agent, Duration::from_secs(12));
    let (ticked, read) = (ticks() - ticks_before, reads() - reads_before);
    println!("{read} requests of the prefix in {ticked} ticks ({:?}) with 50 nodes", begun.elapsed());
    assert!(read as u64 <= ticked + 1, "{read} {ticked}: {:#?}", proxy.requests());
    let suspect = || super::target(&agent, &names[0])["phase"] == "suspect";
    let gone = Instant::now();
    one.dies();
    wait("suspect", || suspect().then_some(()));
    let took = gone.elapsed();
    println!("suspect {took:?} after the key disappeared (tick 3 s)");
    assert!(took < Duration::from_secs(2), "{took:?}");
    // A node that stays away costs nothing more.
    linger(&agent, Duration::from_secs(3));
    let all = || proxy.count("GET /v1/kv/watchdog/nodes") + proxy.count("GET /v1/kv/watchdog/sentinel");
    let (ticks_before, before) = (ticks(), all());
    linger(&agent, Duration::from_secs(9));
    let (ticked, read) = (ticks() - ticks_before, all() - before);
    println!("{read} requests in {ticked} ticks while a node is missing");
    assert!(read as u64 <= ticked + 1, "{read} {ticked}: {:#?}", proxy.requests());
}

/// Real beacons write their keys now and then, and each write ends the blocking read.
#[test]
fn beacons_that_write_do_not_make_the_agent_ask_in_a_circle() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let proxy = Proxy::to(&consul.address());
    let beacon = scene.beacon("n1", &consul.url(), "3s", "100ms");
    let agent = scene.start(&scene.agent(&proxy.url()).node("n1", GONE).set("tick", "1s"));
    wait_phase(&agent, "n1", "healthy");
    let reads = || proxy.count("GET /v1/kv/watchdog/nodes");
    let (before, begun) = (reads(), Instant::now());
    linger(&agent, Duration::from_secs(6));
    let per_second = (reads() - before) as f64 / begun.elapsed().as_secs_f64();
    println!("{per_second:.2} requests of the prefix a second beside a beacon that writes every 3 s (tick 1 s)");
    assert!(per_second <= 2.5, "{per_second}");
    beacon.kill();
    scene.oci.wait("STOP", SOON, |ledger| ledger.iter().any(|entry| entry.kind == Kind::Stop));
}
