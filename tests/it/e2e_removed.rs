//! The whole daemon on a real Docker Engine: what a person is told when containers are removed, and what is
//! not told when we ourselves are restarted or read our settings again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::e2e_docker::{CALM, World, assert_alert, assert_recovery, incident};
use crate::engine;
use crate::parts;

/// A compose file with these services, each a shell script.
fn compose_file(directory: &Path, services: &[(&str, &str, &str)]) -> PathBuf {
    let path = directory.join("compose.yaml");
    let service = |(name, more, script): &(&str, &str, &str)| {
        format!(
            "  {name}:\n    image: {}\n    network_mode: none\n    stop_grace_period: 500ms\n{more}    command: [\"sh\", \"-c\", \"{script}\"]\n",
            engine::IMAGE
        )
    };
    let text = format!("services:\n{}", services.iter().map(service).collect::<String>());
    std::fs::write(&path, text).unwrap();
    path
}

const WELL: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

#[test]
fn removed_is_neither_well_nor_missing() {
    if !parts::compose() || !parts::busybox() {
        return;
    }
    let world = World::new("removed", "500ms", &[("grace", "4s")]);
    let project = tempfile::tempdir().unwrap();
    let failing = "while [ ! -e /go ]; do sleep 0.1; done; exit 3";
    let services = [("bad", "", failing), ("api", "", WELL), ("db", "", WELL), ("web", "    depends_on: [db]\n", WELL)];
    let file = compose_file(project.path(), &services);
    world.engine.compose(&file, &["up", "--detach"]);
    // Somebody else's container, so that the engine's list never is empty.
    world.engine.run("other", &[], "sleep 999");
    let daemon = world.daemon("web-1");
    world.engine.exec("bad-1", &["touch", "/go"]);
    let alert = world.told(1);
    assert_alert(&alert, &world.key("bad-1"), &["exit code 3"]);
    world.engine.compose(&file, &["down"]);
    let removed = world.told(2);
    assert!(!removed.text.contains("🟢") && !removed.text.contains("🔴"), "{removed:?}");
    assert_eq!(removed.text.matches('⚪').count(), 3, "a headline and two subjects: {removed:?}");
    assert!(removed.silent && removed.text.contains(&incident(&alert)), "{removed:?}");
    let names: Vec<String> = ["api-1", "db-1", "web-1"].map(|name| world.engine.name(name)).to_vec();
    let line = format!("removed, no longer watched: {}", names.join(", "));
    assert!(removed.text.contains(&line), "{line} {removed:?}");
    assert_eq!(daemon.state(&world.key("bad-1")), None);
    assert_eq!(daemon.state(&world.key("api-1")), None);
    world.end(daemon, 2);
}

#[test]
fn containers_removed_while_we_were_away_are_told_when_we_are_back() {
    if !parts::busybox() {
        return;
    }
    let mut world = World::new("away", "500ms", &[("grace", "2s")]);
    let state = world.dir.path().join("state.db").display().to_string();
    world.setup = world.setup.set("state", state);
    world.engine.run("web", &[], "sleep 999");
    world.engine.run("other", &[], "sleep 999");
    let daemon = world.daemon("web");
    daemon.terminate();
    world.engine.act(&["rm", "--force"], "web");
    let daemon = world.restarted();
    let removed = world.told(1);
    assert!(removed.text.contains('⚪') && removed.text.contains(&world.key("web")), "{removed:?}");
    world.end(daemon, 1);
}

#[test]
fn a_crash_loop_is_not_over_because_we_were_restarted_or_it_was_made_anew() {
    if !parts::compose() || !parts::busybox() {
        return;
    }
    let mut world = World::new("reborn", "500ms", &[("restart_window", "16s"), ("grace", "4s")]);
    let state = world.dir.path().join("state.db").display().to_string();
    world.setup = world.setup.set("state", state);
    let project = tempfile::tempdir().unwrap();
    let restart = "    restart: always\n";
    // It runs for a moment between its crashes: that moment is not health.
    let file = compose_file(project.path(), &[("web", restart, "sleep 2; exit 7")]);
    world.engine.compose(&file, &["up", "--detach"]);
    let daemon = world.restarted();
    let alert = world.told(1);
    assert_alert(&alert, &world.key("web-1"), &["crash loop"]);
    daemon.signal(Signal::HUP);
    world.calm(CALM, 1);
    daemon.terminate();
    let daemon = world.restarted();
    world.calm(CALM, 1);
    daemon.kill();
    let daemon = world.restarted();
    world.calm(CALM, 1);
    let file = compose_file(project.path(), &[("web", restart, "sleep 999")]);
    world.engine.compose(&file, &["up", "--detach", "--force-recreate"]);
    world.calm(Duration::from_secs(8), 1);
    assert_recovery(&world.told(2), &alert, &world.key("web-1"));
    world.end(daemon, 2);
}

#[test]
fn a_reload_without_a_state_file_forgets_no_crash_loop() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("reload", "500ms", &[("restart_window", "20s")]);
    world.engine.run("web", &["--restart", "always"], "sleep 2; exit 7");
    world.engine.run("gone", &[], "sleep 999");
    let daemon = world.restarted();
    let alert = world.told(1);
    assert_alert(&alert, &world.key("web"), &["crash loop"]);
    for _ in 0..3 {
        daemon.signal(Signal::HUP);
        world.calm(Duration::from_secs(3), 1);
        assert_eq!(daemon.state(&world.key("web")).as_deref(), Some("firing"));
    }
    world.end(daemon, 1);
}

#[test]
fn a_run_begun_by_the_engine_before_we_looked_is_not_yet_well() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("unproven", "500ms", &[("restart_window", "9s")]);
    let script = "n=$(cat /n 2>/dev/null || echo 0); n=$((n+1)); echo $n > /n; [ $n -ge 3 ] && sleep 999; exit 7";
    world.engine.run("web", &["--restart", "always"], script);
    let restarts = || world.engine.docker(&["inspect", "--format", "{{.RestartCount}}", &world.engine.name("web")]);
    crate::daemon::wait("the last restart", || (restarts() == "2").then_some(()));
    let daemon = world.restarted();
    daemon.wait_state(&world.key("web"), "unknown");
    daemon.wait_state(&world.key("web"), "ok");
    let started = world.engine.docker(&["inspect", "--format", "{{.State.StartedAt}}", &world.engine.name("web")]);
    let started = humantime::parse_rfc3339_weak(&started).unwrap();
    assert!(started.elapsed().unwrap() >= Duration::from_secs(9), "calm for its window first");
    world.end(daemon, 0);
}

#[test]
fn since_is_when_the_container_ended_and_not_when_we_started() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("since", "500ms", &[]);
    world.engine.run("web", &[], "exit 3");
    let finished = || world.engine.docker(&["inspect", "--format", "{{.State.FinishedAt}}", &world.engine.name("web")]);
    let ended = |text: &str| humantime::parse_rfc3339_weak(text).ok().filter(|at| at.elapsed().is_ok());
    let at = crate::daemon::wait("its end", || ended(&finished()).filter(|at| at.elapsed().unwrap().as_secs() > 3));
    let daemon = world.restarted();
    let alert = world.told(1);
    let since = humantime::format_rfc3339_seconds(at).to_string();
    assert!(alert.text.contains(&format!("since {}", &since[11..19])), "{since} {alert:?}");
    let signals = daemon.status()["signals"].clone();
    let web = signals.as_array().unwrap().iter().find(|s| s["key"] == world.key("web").as_str()).unwrap().clone();
    assert!(web["since"].as_str().unwrap().starts_with(&since[..19]), "{since} {web}");
    world.end(daemon, 1);
}
