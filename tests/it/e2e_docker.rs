//! The whole daemon on a real Docker Engine: what happens to a container, and the messages that a
//! person gets for it, counted exactly.
//!
//! Each story watches the containers of its own test only, and ends with a calm in which nothing more
//! may be said. Where a story is about speed of notice the tick is 15 s, so that what is told in
//! time is told because an event woke the loop.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::engine::{self, Engine};
use crate::parts;
use crate::peer::telegram::{Delivered, Telegram};
use crate::setup::Setup;

/// The longest that any message may take that is due; the machine is shared with other tests.
const DUE: Duration = Duration::from_secs(40);
/// A calm at the end of a story, longer than the grace and some ticks.
pub const CALM: Duration = Duration::from_secs(4);

pub struct World {
    pub dir: tempfile::TempDir,
    pub telegram: Telegram,
    pub engine: Engine,
    pub setup: Setup,
}

impl World {
    /// A story on the machine's engine; `docker` holds further settings of that section.
    pub fn new(prefix: &str, tick: &str, docker: &[(&str, &str)]) -> World {
        World::on(Engine::local(&format!("e2e-{prefix}")), tick, docker)
    }

    pub fn on(engine: Engine, tick: &str, docker: &[(&str, &str)]) -> World {
        let telegram = Telegram::start();
        let setup = Setup::new(tick).set("timeout", "5s").set("instance", "web-1").telegram(&telegram);
        let setup = setup.set("docker.enabled", true).set("docker.socket", engine.socket().display().to_string());
        let setup = setup.set("docker.containers", [engine.all()].as_slice());
        let setup = docker.iter().fold(setup, |setup, (key, value)| setup.set(&format!("docker.{key}"), *value));
        World { dir: tempfile::tempdir().unwrap(), telegram, engine, setup }
    }

    pub fn key(&self, name: &str) -> String {
        format!("container/{}", self.engine.name(name))
    }

    /// A daemon that has warmed up and hears events: it has seen that `name` is well.
    pub fn daemon(&self, name: &str) -> Daemon {
        let daemon = self.restarted();
        daemon.wait_state(&self.key(name), "ok");
        daemon
    }

    /// A daemon that has made its first passes.
    pub fn restarted(&self) -> Daemon {
        self.setup.write(self.dir.path());
        let daemon = Daemon::start(self.dir.path());
        // The stream of events rings once when it is open.
        let count = || daemon.status()["tick"]["count"].as_u64().unwrap_or(0);
        crate::daemon::wait("the first passes", || (count() >= 2).then_some(()));
        daemon
    }

    /// Has the container's script end, with the code it likes. The call in it may be cut off by that end.
    pub fn end_by_itself(&self, name: &str) {
        let _ = self.engine.try_docker(&["exec", &self.engine.name(name), "kill", "-USR1", "1"]);
    }

    /// Waits for the `n`th message.
    pub fn told(&self, n: usize) -> Delivered {
        self.telegram.wait_delivered(n, DUE)[n - 1].clone()
    }

    /// Ends the story: after a calm there are `n` messages and no more.
    pub fn end(&self, daemon: Daemon, n: usize) -> Vec<Delivered> {
        self.calm(CALM, n);
        let (status, _) = daemon.terminate();
        assert!(status.success());
        let told = self.telegram.delivered();
        assert_eq!(told.len(), n, "{told:#?}");
        told
    }

    /// For `span`, nothing is said beyond the first `n` messages.
    pub fn calm(&self, span: Duration, n: usize) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            let told = self.telegram.delivered();
            assert_eq!(told.len(), n, "{told:#?}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

pub fn incident(message: &Delivered) -> String {
    let Some((_, rest)) = message.text.split_once('#') else { panic!("no incident: {message:?}") };
    rest.chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// `alert` says that this is down and why, aloud.
pub fn assert_alert(alert: &Delivered, key: &str, facts: &[&str]) {
    assert!(alert.text.starts_with("🔴") && alert.text.contains("web-1") && !alert.silent, "{alert:?}");
    assert!(alert.text.contains(key), "{key}: {alert:?}");
    for fact in facts {
        assert!(alert.text.contains(fact), "{fact}: {alert:?}");
    }
}

/// `alert` says that a command did this, and wakes nobody.
pub fn assert_planned(alert: &Delivered, key: &str, facts: &[&str]) {
    assert!(alert.text.starts_with("🔵") && alert.text.contains("web-1") && alert.silent, "{alert:?}");
    assert!(alert.text.contains(key) && !alert.text.contains("🔴"), "{key}: {alert:?}");
    for fact in facts {
        assert!(alert.text.contains(fact), "{fact}: {alert:?}");
    }
}

/// `recovery` is the end of that very alert: silent, under its incident, as a reply to it.
pub fn assert_recovery(recovery: &Delivered, alert: &Delivered, key: &str) {
    assert!(recovery.text.starts_with("🟢") && recovery.silent && recovery.text.contains(key), "{recovery:?}");
    assert_eq!(incident(recovery), incident(alert), "{recovery:?} {alert:?}");
    assert_eq!(recovery.reply_to, Some(alert.message_id), "{recovery:?}");
}

#[test]
fn a_crash_is_told_once_and_its_end_once() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("crash", "15s", &[]);
    world.engine.run("web", &[], "trap 'exit 3' USR1; while :; do sleep 0.1; done");
    world.engine.run("other", &[], "sleep 999");
    let daemon = world.daemon("web");
    let began = Instant::now();
    world.end_by_itself("web");
    let alert = world.told(1);
    assert!(began.elapsed() < Duration::from_secs(10), "without waiting for a tick: {:?}", began.elapsed());
    assert_alert(&alert, &world.key("web"), &["exited by itself, exit code 3", "image wdt-docker-busybox"]);
    world.calm(CALM, 1);
    world.engine.act(&["start"], "web");
    assert_recovery(&world.told(2), &alert, &world.key("web"));
    world.end(daemon, 2);
}

#[test]
fn a_real_oom_kill_is_told_as_that_once_and_its_end_after_the_calm() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("oom", "15s", &[("oom_calm", "3s")]);
    let limits = ["--memory", "16m", "--memory-swap", "16m"];
    // It outlives the process that was killed: an engine that hears of the kill only after the end does not report it.
    let hungry = "[ -e /full ] && sleep 999; while [ ! -e /go ]; do sleep 0.1; done; touch /full; \
                  dd if=/dev/zero of=/dev/null bs=64M; code=$?; sleep 1; exit $code";
    world.engine.run("eater", &limits, hungry);
    let daemon = world.daemon("eater");
    world.engine.exec("eater", &["touch", "/go"]);
    let alert = world.told(1);
    assert_alert(&alert, &world.key("eater"), &["out of memory", "OOM", "137", "image wdt-docker-busybox"]);
    world.calm(CALM, 1);
    world.engine.act(&["start"], "eater");
    assert_recovery(&world.told(2), &alert, &world.key("eater"));
    world.end(daemon, 2);
}

#[test]
fn an_unhealthy_container_is_told_with_what_its_check_said_and_its_recovery() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("health", "15s", &[]);
    let check = ["--health-cmd", "cat /well", "--health-interval", "500ms", "--health-retries", "2"];
    world.engine.run("web", &check, "touch /well; sleep 999");
    let daemon = world.daemon("web");
    world.engine.exec("web", &["rm", "/well"]);
    let alert = world.told(1);
    assert_alert(&alert, &world.key("web"), &["unhealthy: 2 failed checks", "can't open '/well'", "image wdt-docker"]);
    world.calm(CALM, 1);
    world.engine.exec("web", &["touch", "/well"]);
    assert_recovery(&world.told(2), &alert, &world.key("web"));
    world.end(daemon, 2);
}

#[test]
fn a_crash_loop_is_one_alert_until_it_was_quiet_for_its_window() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("loop", "500ms", &[("restart_window", "12s")]);
    let script = "n=$(cat /n 2>/dev/null || echo 0); n=$((n+1)); echo $n > /n; [ $n -eq 1 ] && sleep 3; [ $n -ge 8 ] && sleep 999; sleep 0.2; exit 7";
    world.engine.run("web", &["--restart", "always"], script);
    let daemon = world.daemon("web");
    let alert = world.told(1);
    assert_alert(&alert, &world.key("web"), &["crash loop: 3 restarts in 12", "last exit code 7", "image wdt-docker"]);
    let count = || {
        let count = world.engine.docker(&["inspect", "--format", "{{.RestartCount}}", &world.engine.name("web")]);
        count.parse::<u32>().unwrap()
    };
    crate::daemon::wait("the last restart", || {
        assert_eq!(world.telegram.delivered().len(), 1, "not over while it loops: {:#?}", world.telegram.delivered());
        (count() >= 7).then_some(())
    });
    // Quiet, but not yet for long: runs of a loop are not its end.
    world.calm(Duration::from_secs(8), 1);
    assert_recovery(&world.told(2), &alert, &world.key("web"));
    assert_eq!(count(), 7);
    world.end(daemon, 2);
}

#[test]
fn a_paused_container_is_told_and_its_going_on() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("pause", "15s", &[("grace", "2s")]);
    world.engine.run("web", &[], "sleep 999");
    let daemon = world.daemon("web");
    world.engine.act(&["pause"], "web");
    let alert = world.told(1);
    let unpause = format!("→ docker unpause {}", world.engine.name("web"));
    assert_planned(&alert, &world.key("web"), &["was paused by a command", "image wdt-docker-busybox", &unpause]);
    world.calm(CALM, 1);
    world.engine.act(&["unpause"], "web");
    assert_recovery(&world.told(2), &alert, &world.key("web"));
    world.end(daemon, 2);
}

#[test]
fn a_removed_container_that_must_be_there_is_missing_after_its_grace_and_recovers_under_its_name() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("removal", "15s", &[("grace", "2s")]);
    let required = ["--label", "watchdog.required=true"];
    world.engine.run("web", &required, "sleep 999");
    world.engine.run("other", &[], "sleep 999");
    let daemon = world.daemon("web");
    let began = Instant::now();
    world.engine.act(&["rm", "--force"], "web");
    let alert = world.told(1);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_alert(&alert, &world.key("web"), &["missing"]);
    world.calm(CALM, 1);
    world.engine.run("web", &required, "sleep 999");
    assert_recovery(&world.told(2), &alert, &world.key("web"));
    world.end(daemon, 2);
}

#[test]
fn a_container_stopped_by_an_operator_is_told_once_and_quietly_after_the_grace() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("stop", "15s", &[("grace", "3s")]);
    let script = "trap 'exit 1' TERM; while :; do sleep 0.1; done";
    world.engine.run("web", &["--restart", "unless-stopped"], script);
    let daemon = world.daemon("web");
    world.engine.act(&["restart"], "web");
    world.calm(CALM, 0);
    let began = Instant::now();
    world.engine.act(&["stop"], "web");
    let alert = world.told(1);
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    let start = format!("→ docker start {}", world.engine.name("web"));
    assert_planned(&alert, &world.key("web"), &["was stopped by a command", "exit code 1", "image wdt-docker", &start]);
    world.calm(CALM, 1);
    world.engine.act(&["start"], "web");
    assert_recovery(&world.told(2), &alert, &world.key("web"));
    world.end(daemon, 2);
}

#[test]
fn containers_that_die_together_are_told_together_each_once() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("together", "15s", &[]);
    let names: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    for name in &names {
        world.engine.run(name, &[], "trap 'exit 3' USR1; while :; do sleep 999 & wait; done");
    }
    let daemon = world.daemon("c0");
    let full: Vec<String> = names.iter().map(|name| world.engine.name(name)).collect();
    let all = |verb: &[&str]| {
        let arguments: Vec<&str> = verb.iter().copied().chain(full.iter().map(String::as_str)).collect();
        world.engine.docker(&arguments)
    };
    let pids = all(&["inspect", "--format", "{{.State.Pid}}"]);
    for pid in pids.lines() {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    }
    let count = |emoji: &str, key: &str| {
        let told = world.telegram.delivered();
        told.iter().filter(|m| m.text.contains(emoji)).map(|m| m.text.matches(key).count()).sum::<usize>()
    };
    crate::daemon::wait("all to be told", || names.iter().all(|n| count("🔴", &world.key(n)) == 1).then_some(()));
    let alerts = world.telegram.delivered().len();
    assert!(alerts <= 4, "not a message for each: {:#?}", world.telegram.delivered());
    world.calm(CALM, alerts);
    all(&["start"]);
    crate::daemon::wait("all to be over", || names.iter().all(|n| count("🟢", &world.key(n)) >= 1).then_some(()));
    let messages = world.telegram.delivered().len();
    assert!(messages <= alerts + 4, "{:#?}", world.telegram.delivered());
    world.calm(CALM, messages);
    daemon.terminate();
}

fn compose_file(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("compose.yaml");
    let text = format!(
        "services:\n  web:\n    image: {}\n    network_mode: none\n    restart: always\n    stop_grace_period: 1s\n    command: [\"sh\", \"-c\", \"{script}\"]\n",
        engine::IMAGE
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn deploys_by_compose_are_silent_and_a_version_that_crash_loops_is_told() {
    if !parts::compose() || !parts::busybox() {
        return;
    }
    let world = World::new("deploy", "500ms", &[("restart_window", "20s")]);
    let project = tempfile::tempdir().unwrap();
    let file = compose_file(project.path(), "sleep 999");
    world.engine.compose(&file, &["up", "--detach"]);
    let daemon = world.daemon("web-1");
    for _ in 0..4 {
        world.engine.compose(&file, &["up", "--detach", "--force-recreate"]);
    }
    // Longer than the grace of ten seconds: nothing was only late.
    world.calm(Duration::from_secs(12), 0);
    assert_eq!(daemon.state(&world.key("web-1")).as_deref(), Some("ok"));

    let file = compose_file(project.path(), "sleep 0.2; exit 9");
    world.engine.compose(&file, &["up", "--detach"]);
    let alert = world.told(1);
    assert_alert(
        &alert,
        &world.key("web-1"),
        &["crash loop: 3 restarts", "last exit code 9", "image wdt-docker-busybox"],
    );
    world.calm(Duration::from_secs(10), 1);

    // The version before comes back, which ends it when it has run for a whole window.
    let file = compose_file(project.path(), "sleep 999");
    world.engine.compose(&file, &["up", "--detach"]);
    assert_recovery(&world.told(2), &alert, &world.key("web-1"));
    world.end(daemon, 2);
    world.engine.compose(&file, &["down"]);
}

#[test]
fn a_watchdog_killed_while_a_container_is_down_repeats_nothing_and_misses_nothing() {
    if !parts::busybox() {
        return;
    }
    let world = World::new("killed", "500ms", &[]);
    let script = "trap 'exit 3' USR1; while :; do sleep 0.1; done";
    world.engine.run("web", &[], script);
    world.engine.run("db", &[], script);
    let daemon = world.daemon("web");
    world.end_by_itself("web");
    let alert = world.told(1);
    // Past the courier's note that it was delivered: before it, one repeat is allowed.
    world.calm(Duration::from_secs(1), 1);
    daemon.kill();
    let daemon = world.restarted();
    world.calm(CALM, 1);
    assert_eq!(daemon.state(&world.key("web")).as_deref(), Some("firing"));
    daemon.kill();

    world.end_by_itself("db");
    world.engine.act(&["wait"], "db");
    let daemon = world.restarted();
    let second = world.told(2);
    assert_alert(&second, &world.key("db"), &["exit code 3"]);
    assert!(!second.text.contains(&world.key("web")), "{second:?}");
    assert_ne!(incident(&second), incident(&alert));
    world.calm(Duration::from_secs(1), 2);
    daemon.kill();

    world.engine.act(&["start"], "web");
    let daemon = world.restarted();
    assert_recovery(&world.told(3), &alert, &world.key("web"));
    world.end(daemon, 3);
}

/// A world on an engine of its own, with a container that runs and one that is down and told.
fn own_engine(prefix: &str) -> (engine::Daemon, World, Daemon, Delivered) {
    let dockerd = engine::Daemon::start();
    let engine = Engine::at(&dockerd.socket(), &format!("e2e-{prefix}"));
    let world = World::on(engine, "500ms", &[]);
    world.engine.run("web", &["--restart", "always", "--stop-timeout", "1"], "sleep 999");
    world.engine.run("task", &[], "trap 'exit 3' USR1; while :; do sleep 0.1; done");
    let daemon = world.daemon("task");
    world.end_by_itself("task");
    let down = world.told(1);
    assert_alert(&down, &world.key("task"), &["exit code 3"]);
    (dockerd, world, daemon, down)
}

/// The source was told blind once, nothing else was said; then its end was told once.
fn assert_blindness(world: &World, told: &[Delivered]) {
    assert_alert(&told[1], "source/docker", &["docker.sock"]);
    assert!(!told[1].text.contains("container/"), "{:?}", told[1]);
    assert_recovery(&told[2], &told[1], "source/docker");
    assert!(!told[2].text.contains(&world.key("")), "{:?}", told[2]);
}

#[test]
fn a_frozen_engine_is_told_once_as_blind_and_its_containers_stay_as_they_were() {
    if !parts::dockerd() || !parts::busybox() {
        return;
    }
    let (dockerd, world, daemon, down) = own_engine("freeze");
    dockerd.signal("STOP");
    let blind = world.told(2);
    assert_alert(&blind, "source/docker", &["no answer within 5"]);
    world.calm(CALM, 2);
    assert_eq!(daemon.state(&world.key("web")).as_deref(), Some("unknown"));
    dockerd.signal("CONT");
    world.told(3);
    world.calm(CALM, 3);
    assert_blindness(&world, &world.telegram.delivered());
    daemon.wait_state(&world.key("web"), "ok");
    daemon.wait_state(&world.key("task"), "firing");
    world.engine.act(&["start"], "task");
    assert_recovery(&world.told(4), &down, &world.key("task"));
    world.end(daemon, 4);
}

#[test]
fn an_engine_that_is_restarted_is_told_once_as_blind_and_its_containers_do_not_flood() {
    if !parts::dockerd() || !parts::busybox() {
        return;
    }
    let (mut dockerd, world, daemon, down) = own_engine("restart");
    dockerd.stop();
    let blind = world.told(2);
    assert_alert(&blind, "source/docker", &["docker.sock"]);
    world.calm(Duration::from_secs(12), 2);
    dockerd.start_again();
    world.told(3);
    world.calm(Duration::from_secs(12), 3);
    assert_blindness(&world, &world.telegram.delivered());
    daemon.wait_state(&world.key("web"), "ok");
    daemon.wait_state(&world.key("task"), "firing");
    world.engine.act(&["start"], "task");
    assert_recovery(&world.told(4), &down, &world.key("task"));
    world.end(daemon, 4);
}
