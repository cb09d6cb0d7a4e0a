//! What keeps an agent from acting, each by itself, with everything else saying that it should.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Scene, linger, metric, side_by_side, target, wait_blocked, wait_phase};
use crate::daemon::{Daemon, SOON, wait};
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::{Durations, Fault, Kind, Lifecycle, ocid};
use crate::repair::Beat;
use crate::setup::{ALONE, GONE, Setup};

fn scene() -> (Scene, Consul) {
    (Scene::new(&["n1"]), Consul::dev(Dev::default()))
}

/// Starts an agent, sees n1 well, and lets n1 die.
fn loses_n1(scene: &Scene, consul: &Consul, plan: &Setup) -> Daemon {
    let beat = Beat::start(consul, "n1", "boot-1");
    let agent = scene.start(plan);
    wait_phase(&agent, "n1", "healthy");
    agent.wait_state("node/n1", "ok");
    beat.dies();
    agent
}

#[test]
fn observe_lives_the_whole_life_with_the_same_messages_marked_and_asks_for_nothing() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = scene();
    let agent = loses_n1(&scene, &consul, &scene.agent(&consul.url()).node("n1", GONE).set("recovery.mode", "observe"));
    scene.wait_told("simulated: would stop and start it");
    wait_phase(&agent, "n1", "waiting");
    let _beat = Beat::start(&consul, "n1", "boot-2");
    wait_phase(&agent, "n1", "healthy");
    scene.wait_told("simulated: back on a new boot");
    scene.assert_untouched();
    let actions = |action: &str| {
        let name = "watchdog_recovery_actions_total";
        metric(&agent, &format!("{name}{{target=\"node/n1\",action=\"{action}\",mode=\"observe\"}}"))
    };
    assert_eq!((actions("STOP"), actions("START")), (Some(1.0), Some(1.0)));
    assert!(!scene.oci.asked(Kind::Get).is_empty(), "it really looks");
    for part in scene.story().split("---").filter(|part| part.contains("stop and start")) {
        assert!(part.contains("simulated: "), "{part}");
    }
}

#[test]
fn a_node_that_was_never_seen_alive_is_not_touched_and_one_that_was_is_known_after_a_restart() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = scene();
    let plan = scene.agent(&consul.url()).node("n1", ALONE);
    let agent = scene.start(&plan);
    wait_blocked(&agent, "n1", "never-seen");
    linger(&agent, Duration::from_secs(3));
    scene.assert_untouched();
    assert!(scene.oci.ledger().is_empty() && !scene.story().contains("node/n1"), "{}", scene.story());
    let beat = Beat::start(&consul, "n1", "boot-1");
    wait_phase(&agent, "n1", "healthy");
    agent.wait_pass();
    agent.kill();
    // It dies while nobody looks.
    beat.dies();
    let agent = scene.start(&plan);
    scene.wait_started(1);
    let _beat = Beat::start(&consul, "n1", "boot-2");
    wait_phase(&agent, "n1", "healthy");
    scene.assert_repaired_once("n1");
}

#[test]
fn evidence_that_disagrees_or_cannot_tell_or_does_not_exist_keeps_the_hands_off() {
    if !parts::consul() {
        return;
    }
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    // It holds its connections: one that ends at once is not a sign of life.
    std::thread::spawn(move || open.incoming().collect::<Vec<_>>().len());
    let deps = ["gone=tcp://127.0.0.1:1".to_string(), format!("open=tcp://127.0.0.1:{port}")];
    let cannot_tell = "[[probe]]\nname = \"dark\"\ntype = \"exec\"\ncommand = [\"/nonexistent/program\"]\n";
    let table = [
        ("evidence = [\"probe/gone\", \"probe/open\"]", "probe/open ok"),
        ("evidence = [\"probe/gone\", \"probe/dark\"]", "probe/dark unknown"),
        ("evidence = [\"docker/nobody\"]", "docker/nobody unknown"),
        ("", "evidence-disagrees"),
    ];
    side_by_side(table, |(evidence, told)| {
        let (scene, consul) = scene();
        let plan = scene.agent(&consul.url()).set("deps", deps.as_slice()).node("n1", evidence).block(cannot_tell);
        let agent = loses_n1(&scene, &consul, &plan);
        wait_phase(&agent, "n1", "suspect");
        wait_blocked(&agent, "n1", "evidence-disagrees");
        scene.wait_told("not touched: evidence-disagrees");
        scene.wait_told(told);
        linger(&agent, Duration::from_secs(1));
        scene.assert_untouched();
    });
}

#[test]
fn paused_is_told_and_nothing_begins_but_what_was_begun_is_finished() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = scene();
    let plan = scene.agent(&consul.url()).node("n1", GONE);
    let slow = Duration::from_secs(2);
    scene.oci.durations(Durations { stopping: slow, ..Durations::default() });
    let agent = loses_n1(&scene, &consul, &plan);
    scene.oci.wait("STOP", Duration::from_secs(20), |ledger| ledger.iter().any(|entry| entry.kind == Kind::Stop));
    scene.configure(&plan.clone().set("recovery.paused", true));
    agent.signal(rustix::process::Signal::HUP);
    agent.wait_state("recovery/paused", "firing");
    scene.wait_started(1);
    assert_eq!(scene.asked(), (1, 1));
    let beat = Beat::start(&consul, "n1", "boot-2");
    agent.wait_state("node/n1", "ok");
    scene.wait_told("repaired: back on a new boot");
    scene.wait_told("paused by configuration");
    beat.dies();
    agent.wait_state("node/n1", "firing");
    wait_blocked(&agent, "n1", "paused");
    linger(&agent, Duration::from_secs(2));
    assert_eq!(scene.asked(), (1, 1));
    assert_eq!(target(&agent, "n1")["phase"], "paused");
    scene.wait_told("not touched: paused");
    scene.configure(&plan);
    agent.signal(rustix::process::Signal::HUP);
    scene.wait_started(2);
    assert_eq!(scene.asked(), (2, 2));
}

#[test]
fn without_a_state_file_nothing_is_touched() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = scene();
    let agent = loses_n1(&scene, &consul, &scene.agent(&consul.url()).node("n1", GONE).set("state", ""));
    wait_blocked(&agent, "n1", "no-state-file");
    scene.wait_told("not touched: no-state-file");
    linger(&agent, Duration::from_secs(2));
    scene.assert_untouched();
}

#[test]
fn a_machine_that_somebody_stopped_is_told_or_started_as_configured() {
    if !parts::consul() {
        return;
    }
    side_by_side([("tell", 0), ("start", 1)], |(when, starts)| {
        let (scene, consul) = scene();
        scene.oci.set(&ocid("n1"), Lifecycle::Stopped);
        let plan = scene.agent(&consul.url()).node("n1", &format!("{GONE}\nwhen_stopped = \"{when}\""));
        let agent = loses_n1(&scene, &consul, &plan);
        if starts == 0 {
            wait_blocked(&agent, "n1", "not-running");
            scene.wait_told("not touched: not-running");
            scene.wait_told("STOPPED");
        } else {
            scene.wait_started(1);
            wait_phase(&agent, "n1", "waiting");
            scene.wait_told("start it");
        }
        linger(&agent, Duration::from_secs(2));
        assert_eq!(scene.asked(), (0, starts), "{when}: {:#?}", scene.switched());
    });
}

#[test]
fn a_machine_that_somebody_rebooted_between_the_look_and_the_stop_is_not_stopped() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = scene();
    let (arrived, arrives) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    // The STOP waits at the cloud's door until the machine is another version of itself, and back.
    let hook = move || {
        arrived.send(()).unwrap();
        goes_on.recv().unwrap();
    };
    scene.oci.on_arrival(Kind::Stop, 1, Box::new(hook));
    let agent = loses_n1(&scene, &consul, &scene.agent(&consul.url()).node("n1", GONE));
    arrives.recv_timeout(SOON).unwrap();
    scene.oci.set(&ocid("n1"), Lifecycle::Running);
    let _beat = Beat::start(&consul, "n1", "boot-2");
    go_on.send(()).unwrap();
    wait_phase(&agent, "n1", "healthy");
    linger(&agent, Duration::from_secs(2));
    let stops = scene.oci.asked(Kind::Stop);
    assert_eq!(stops.iter().map(|stop| (stop.answered, stop.effect)).collect::<Vec<_>>(), [(Some(412), false)]);
    assert_eq!((scene.asked(), scene.oci.lifecycle(&ocid("n1"))), ((1, 0), Lifecycle::Running));
}

#[test]
fn a_request_whose_fate_is_unknown_is_asked_again_under_its_own_name() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = scene();
    scene.oci.script(Kind::Stop, [Fault::Lose]);
    scene.oci.script(Kind::Start, [Fault::Lose]);
    let agent = loses_n1(&scene, &consul, &scene.agent(&consul.url()).node("n1", GONE));
    scene.wait_started(2);
    wait_phase(&agent, "n1", "waiting");
    // By what the cloud knows it again, and the version that it was decided on.
    let names = |kind| -> Vec<_> {
        scene.oci.asked(kind).into_iter().map(|entry| (entry.retry_token.unwrap(), entry.if_match)).collect()
    };
    let (stops, starts) = (names(Kind::Stop), names(Kind::Start));
    assert_eq!((stops.len(), starts.len()), (2, 2));
    assert!(stops[0] == stops[1] && starts[0] == starts[1], "{stops:?} {starts:?}");
    assert_ne!(stops[0].0, starts[0].0);
    assert_eq!((scene.oci.effects(Kind::Stop), scene.oci.effects(Kind::Start)), (1, 1));
}

#[test]
fn an_instance_that_is_not_found_is_told_and_left_alone() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = scene();
    scene.oci.script(Kind::Get, vec![Fault::Refuse(404, "NotAuthorizedOrNotFound", "not found"); 1_000]);
    let agent = loses_n1(&scene, &consul, &scene.agent(&consul.url()).node("n1", GONE));
    wait_blocked(&agent, "n1", "observer-blind");
    scene.wait_told("not touched: observer-blind");
    linger(&agent, Duration::from_secs(2));
    scene.assert_untouched();
    println!("told of a 404:\n{}", scene.story());
    assert!(scene.story().contains("404") || scene.story().contains("NotAuthorizedOrNotFound"), "{}", scene.story());
}

/// As a full disk does it: from now on no file of this process grows.
fn limit(pid: u32, size: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: size, maximum: None }).unwrap();
}

#[test]
fn a_state_file_that_fails_in_the_middle_stops_new_repairs_and_not_the_start_that_is_owed() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = scene();
    let beat = Beat::start(&consul, "n1", "boot-1");
    let agent = scene.start(&scene.agent(&consul.url()).node("n1", GONE));
    wait_phase(&agent, "n1", "healthy");
    let pid = agent.pid();
    scene.oci.on_arrival(Kind::Stop, 1, Box::new(move || limit(pid, Some(0))));
    beat.dies();
    scene.wait_started(1);
    agent.wait_state("state/file", "firing");
    wait_phase(&agent, "n1", "waiting");
    let beat = Beat::start(&consul, "n1", "boot-2");
    wait_phase(&agent, "n1", "healthy");
    scene.assert_repaired_once("n1");
    beat.dies();
    wait_blocked(&agent, "n1", "no-state-file");
    scene.wait_told("not touched: no-state-file");
    linger(&agent, Duration::from_secs(2));
    scene.assert_repaired_once("n1");
}

#[test]
fn a_node_that_was_the_only_one_and_is_put_back_by_a_reload_is_known_as_seen_alive() {
    if !parts::consul() {
        return;
    }
    let (scene, consul) = scene();
    let (nobody, one) = (scene.agent(&consul.url()), scene.agent(&consul.url()).node("n1", GONE));
    let beat = Beat::start(&consul, "n1", "boot-1");
    let agent = scene.start(&one);
    wait_phase(&agent, "n1", "healthy");
    agent.wait_pass();
    scene.configure(&nobody);
    agent.signal(rustix::process::Signal::HUP);
    wait("nobody to be looked after", || agent.status()["targets"].as_array()?.is_empty().then_some(()));
    beat.dies();
    scene.configure(&one);
    agent.signal(rustix::process::Signal::HUP);
    scene.wait_started(1);
    let _beat = Beat::start(&consul, "n1", "boot-2");
    wait_phase(&agent, "n1", "healthy");
    scene.assert_repaired_once("n1");
}
