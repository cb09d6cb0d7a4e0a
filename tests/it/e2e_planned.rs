//! The whole daemon on a real Docker Engine while somebody works on it: each act is one quiet message or none, and
//! what fails by itself beside it is critical at once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::e2e_docker::{World, assert_alert, assert_planned};
use crate::engine;
use crate::parts;
use crate::peer::telegram::Delivered;

/// Longer than infos of one cause are gathered and the grace together: nothing is only late.
const CALM: Duration = Duration::from_secs(17);
/// Ends well when it is asked to.
const WELL: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
/// Ends with an error when it gets the signal, whoever sends it.
const FRAIL: &str = "echo no space left; trap 'exit 3' USR1; trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn compose_file(directory: &Path) -> PathBuf {
    let path = directory.join("compose.yaml");
    let service = |name: &str, more: &str, script: &str| {
        let image = engine::IMAGE;
        format!(
            "  {name}:\n    image: {image}\n    network_mode: none\n    stop_grace_period: 1s\n{more}    command: [\"sh\", \"-c\", \"{script}\"]\n"
        )
    };
    let always = "    restart: unless-stopped\n";
    let text = [
        "services:\n".to_string(),
        service("db", "", WELL),
        service("web", &format!("{always}    depends_on: [db]\n"), WELL),
        // Takes its whole time to end, and is killed.
        service("worker", &format!("{always}    depends_on: [web]\n"), "sleep 999"),
        service("frail", "    labels: {watchdog.note: ask the shop team}\n", FRAIL),
    ];
    std::fs::write(&path, text.concat()).unwrap();
    path
}

/// A project of four services, and a daemon that has seen them well.
fn shop(prefix: &str, docker: &[(&str, &str)]) -> (World, tempfile::TempDir, PathBuf) {
    let settings: Vec<(&str, &str)> = [("grace", "3s")].into_iter().chain(docker.iter().copied()).collect();
    let world = World::new(prefix, "500ms", &settings);
    let project = tempfile::tempdir().unwrap();
    let file = compose_file(project.path());
    world.engine.compose(&file, &["up", "--detach"]);
    (world, project, file)
}

/// How often each icon stands in the messages, and whether any of them was heard.
fn loud(told: &[Delivered]) -> usize {
    told.iter().filter(|message| !message.silent).count()
}

#[test]
fn an_hour_of_work_is_one_quiet_message_for_each_act_and_a_crash_beside_it_is_critical_at_once() {
    if !parts::compose() || !parts::busybox() {
        return;
    }
    let (world, _project, file) = shop("work", &[]);
    let daemon = world.daemon("worker-1");
    let compose = |arguments: &[&str]| world.engine.compose(&file, arguments);

    // Done again at once, each of these is nothing.
    compose(&["restart", "web", "db"]);
    compose(&["up", "--detach", "--force-recreate", "web", "worker"]);
    compose(&["pause", "web"]);
    compose(&["unpause", "web"]);
    world.calm(CALM, 0);

    compose(&["stop", "web", "db", "worker"]);
    let stopped = world.told(1);
    for service in ["web-1", "db-1", "worker-1"] {
        assert_planned(&stopped, &world.key(service), &[]);
    }
    let first = stopped.text.lines().next().unwrap();
    assert!(first.ends_with(": 3 were stopped by a command"), "{stopped:?}");
    world.calm(CALM, 1);

    compose(&["start", "web", "db", "worker"]);
    let started = world.told(2);
    assert!(started.text.starts_with("🟢") && started.silent && started.text.contains("web-1"), "{started:?}");
    assert_eq!(started.reply_to, Some(stopped.message_id), "{started:?}");
    assert!(started.text.lines().next().unwrap().ends_with(": 3 run again"), "{started:?}");

    compose(&["pause", "db"]);
    assert_planned(&world.told(3), &world.key("db-1"), &["db was paused by a command"]);
    // Quiet news wait for others of their kind, and nothing else does.
    compose(&["unpause", "db"]);
    let began = Instant::now();
    world.end_by_itself("frail-1");
    let alert = world.told(4);
    eprintln!("crash to message: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let note = "→ ask the shop team";
    let logs = format!("→ docker logs --tail 50 {}", world.engine.name("frail-1"));
    let facts = ["frail ended with an error", "exit code 3", "\"no space left\"", "project ", note, &logs];
    assert_alert(&alert, &world.key("frail-1"), &facts);
    let unpaused = world.told(5);
    assert!(unpaused.silent && unpaused.text.starts_with("🟢"), "{unpaused:?}");

    // Scaled up and down again.
    compose(&["up", "--detach", "--no-recreate", "--scale", "worker=3", "worker"]);
    daemon.wait_state(&world.key("worker-3"), "ok");
    compose(&["up", "--detach", "--no-recreate", "--scale", "worker=1", "worker"]);
    let scaled = world.told(6);
    let names = ["worker-2", "worker-3"].map(|name| world.engine.name(name)).join(", ");
    assert!(scaled.silent && scaled.text.starts_with("⚪") && scaled.text.contains(&names), "{scaled:?}");

    // What was stopped before is removed with the rest, and so is what had failed.
    compose(&["stop", "web"]);
    world.told(7);
    compose(&["down"]);
    let down = world.told(8);
    assert!(down.silent && down.text.starts_with("⚪") && !down.text.contains("🟢"), "{down:?}");
    for service in ["db-1", "web-1", "worker-1", "frail-1"] {
        assert!(down.text.contains(&world.engine.name(service)), "{service}: {down:?}");
    }
    world.calm(CALM, 8);
    let told = world.end(daemon, 8);
    assert_eq!(loud(&told), 1, "the crash, and nothing else: {told:#?}");
}

#[test]
fn a_project_under_another_name_is_the_old_one_removed_and_no_alert() {
    if !parts::compose() || !parts::busybox() {
        return;
    }
    let (world, _project, file) = shop("renamed", &[]);
    let daemon = world.daemon("worker-1");
    let (file, other) = (file.display().to_string(), world.engine.name("b"));
    let renamed = |verb: &[&str]| {
        let head = ["compose", "--project-name", &other, "--file", &file];
        world.engine.docker(&[&head, verb].concat());
    };
    renamed(&["up", "--detach"]);
    world.engine.compose(Path::new(&file), &["down"]);
    let removed = world.told(1);
    assert!(removed.silent && removed.text.starts_with("⚪"), "{removed:?}");
    assert_eq!(removed.text.matches('⚪').count(), 1, "one line for the project: {removed:?}");
    daemon.wait_state(&format!("container/{other}-worker-1"), "ok");
    world.calm(CALM, 1);
    world.end(daemon, 1);
    renamed(&["down"]);
}

#[test]
fn what_a_command_stopped_while_nobody_looked_wakes_nobody() {
    if !parts::busybox() {
        return;
    }
    let mut world = World::new("before", "500ms", &[("grace", "2s")]);
    world.engine.run("kept", &["--restart", "unless-stopped", "--stop-timeout", "1"], "sleep 999");
    world.engine.run("plain", &["--stop-timeout", "1"], "sleep 999");
    world.engine.run("other", &[], "sleep 999");
    world.engine.act(&["stop"], "kept");
    world.engine.act(&["kill"], "plain");
    world.setup = world.setup.set("docker.planned", "none");
    let daemon = world.daemon("other");
    // By its policy the one, by the engine's memory of events the other.
    daemon.wait_state(&world.key("kept"), "ok");
    daemon.wait_state(&world.key("plain"), "ok");
    world.end(daemon, 0);

    world.setup = world.setup.set("docker.planned", "info");
    let daemon = world.daemon("other");
    let all = || world.telegram.delivered().iter().map(|message| message.text.clone()).collect::<String>();
    let is_told = |name: &str| all().contains(&world.key(name));
    crate::daemon::wait("both to be told", || (is_told("kept") && is_told("plain")).then_some(()));
    assert!(all().contains("→ docker start") && !all().contains("🔴"), "{}", all());
    let told = world.telegram.delivered();
    assert_eq!((told.len(), loud(&told)), (1, 0), "one hand, one message: {told:#?}");
    let first = told[0].text.lines().next().unwrap();
    assert_eq!(first, "🔵 web-1 · containers: 2 were stopped by a command");
    world.end(daemon, told.len());

    world.setup = world.setup.set("docker.planned", "critical");
    let daemon = world.daemon("other");
    let worse = world.told(told.len() + 1);
    assert!(worse.text.contains("🔴") && !worse.silent, "{worse:?}");
    daemon.terminate();
}

#[test]
fn a_crash_loop_that_somebody_stops_is_told_so_once() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("loopstop", "500ms", &[("grace", "2s"), ("restart_window", "20s")]);
    let labels = ["--label", "watchdog.severity=warning", "--label", "watchdog.runbook=https://wiki.example/loop"];
    let restart = ["--restart", "always"];
    world.engine.run("web", &[&restart[..], &labels].concat(), "sleep 0.3; echo boom; exit 7");
    world.engine.run("other", &[], "sleep 999");
    let daemon = world.daemon("other");
    let alert = world.told(1);
    assert!(alert.text.starts_with("🟠") && !alert.silent, "the label says so: {alert:?}");
    for fact in ["keeps crashing", "(limit 3), last exit code 7", "\"boom\"", "→ https://wiki.example/loop"] {
        assert!(alert.text.contains(fact), "{fact}: {alert:?}");
    }
    world.engine.act(&["stop"], "web");
    let stopped = world.told(2);
    assert!(stopped.silent && stopped.text.contains("🔵"), "{stopped:?}");
    assert!(stopped.text.contains("was stopped by a command"), "{stopped:?}");
    world.calm(Duration::from_secs(6), 2);
    world.end(daemon, 2);
}
