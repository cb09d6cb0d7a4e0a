//! The whole daemon against a scripted Telegram and a small application: what a person is told, and
//! that nothing they should be told is lost, whatever happens to the process.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::daemon::{Daemon, SOON, configure, run, wait};
use crate::peer::small_app::SmallApp;
use crate::peer::telegram::{Answer, Delivered, TOKEN, Telegram};
use crate::setup::Setup;

/// The rule by which a job that fails is told.
fn rule(name: &str) -> String {
    format!("[[app.rule]]\nname = \"{name}\"\nvalue = \"/queue/counts/failed\"\nwhen = \"increases\"")
}

struct World {
    dir: tempfile::TempDir,
    telegram: Telegram,
    app: SmallApp,
}

impl World {
    fn new() -> World {
        let (telegram, app) = (Telegram::start(), SmallApp::start());
        let world = World { dir: tempfile::tempdir().unwrap(), telegram, app };
        world.setup().block(&rule("job-failed")).write(world.path());
        world
    }

    /// Its settings but for the rule.
    fn setup(&self) -> Setup {
        let setup = Setup::new("100ms").set("timeout", "1s").set("instance", "web-1").telegram(&self.telegram);
        setup.set("app.metrics_url", self.app.url()).set("app.down_after", 2)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A daemon that has warmed up.
    fn daemon(&self) -> Daemon {
        let daemon = Daemon::start(self.path());
        daemon.wait_pass();
        daemon
    }
}

fn incident(message: &Delivered) -> String {
    let Some((_, rest)) = message.text.split_once('#') else { panic!("no incident: {message:?}") };
    rest.chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[test]
fn an_outage_is_told_with_its_end_as_a_reply_and_a_failed_job_each_time() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.wait_state("app/down", "ok");
    world.app.job_fails();
    world.telegram.wait_delivered(1, SOON);
    world.app.job_fails();
    world.telegram.wait_delivered(2, SOON);
    world.app.down(true);
    world.telegram.wait_delivered(3, SOON);
    daemon.wait_state("app/down", "firing");
    world.app.down(false);
    let told = world.telegram.wait_delivered(4, SOON);
    assert!(told[0].text.contains("app/job-failed") && told[0].text.contains("rose from 0 to 1"), "{told:?}");
    assert!(told[1].text.contains("rose from 1 to 2"), "{told:?}");
    assert_ne!(incident(&told[0]), incident(&told[1]));
    assert!(
        told[2].text.starts_with("🔴") && told[2].text.contains("web-1") && told[2].text.contains("503"),
        "{told:?}"
    );
    assert!(told[3].text.starts_with("🟢") && told[3].silent, "{told:?}");
    assert_eq!(incident(&told[2]), incident(&told[3]));
    assert_eq!(told[3].reply_to, Some(told[2].message_id));
    let (status, took) = daemon.terminate();
    assert!(status.success());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(world.telegram.delivered().len(), 4);
}

#[test]
fn a_restart_repeats_no_alert_and_forgets_no_recovery() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.wait_state("app/down", "ok");
    world.app.down(true);
    world.telegram.wait_delivered(1, SOON);
    daemon.terminate();
    let daemon = world.daemon();
    daemon.wait_pass();
    daemon.wait_pass();
    daemon.wait_state("app/down", "firing");
    assert_eq!(world.telegram.delivered().len(), 1, "{:?}", world.telegram.delivered());
    daemon.terminate();
    world.app.down(false);
    world.app.job_fails();
    let daemon = world.daemon();
    let told = world.telegram.wait_delivered(3, SOON);
    let recovery = told.iter().find(|m| m.text.starts_with("🟢")).unwrap();
    assert_eq!(incident(recovery), incident(&told[0]));
    assert_eq!(recovery.reply_to, Some(told[0].message_id));
    assert!(told.iter().any(|m| m.text.contains("rose from 0 to 1")), "a job that failed while it was down: {told:?}");
    daemon.terminate();
}

/// Kills at a point in time after an event, in steps of a third of a tick.
#[derive(Clone, Copy)]
enum Point {
    AfterFall(u32),
    AfterRise(u32),
    /// Telegram has read the alert and never answers.
    Unanswered,
    /// Telegram has not even read it.
    Unread,
}

#[test]
fn kill_9_at_any_point_loses_nothing_and_repeats_at_most_what_was_unanswered() {
    let mut points: Vec<Point> = (0..12).map(Point::AfterFall).collect();
    points.extend((0..12).map(Point::AfterRise));
    points.extend([Point::Unanswered, Point::Unread]);
    let queue = std::sync::Mutex::new(points.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(point) = queue.lock().unwrap().next() else { return };
                    story_with_a_kill(point);
                }
            });
        }
    });
}

fn story_with_a_kill(point: Point) {
    let world = World::new();
    let mut daemon = world.daemon();
    daemon.wait_state("app/down", "ok");
    let step = Duration::from_millis(33);
    match point {
        Point::Unanswered => world.telegram.script([Answer::HangAfterReading]),
        Point::Unread => world.telegram.script([Answer::HangBeforeReading]),
        _ => {}
    }
    world.app.down(true);
    match point {
        Point::AfterFall(steps) => {
            std::thread::park_timeout(step * steps);
            daemon.kill();
            daemon = world.daemon();
        }
        Point::Unanswered | Point::Unread => {
            wait("the request", || (world.telegram.connections() > 0).then_some(()));
            daemon.kill();
            daemon = world.daemon();
        }
        Point::AfterRise(_) => {}
    }
    wait("the alert", || world.telegram.delivered().iter().any(|m| m.text.starts_with("🔴")).then_some(()));
    daemon.wait_state("app/down", "firing");
    world.app.down(false);
    if let Point::AfterRise(steps) = point {
        std::thread::park_timeout(step * steps);
        daemon.kill();
        daemon = world.daemon();
    }
    wait("the recovery", || world.telegram.delivered().iter().any(|m| m.text.starts_with("🟢")).then_some(()));
    daemon.wait_state("app/down", "ok");
    daemon.terminate();
    let told = world.telegram.delivered();
    let first = incident(&told[0]);
    assert!(told.iter().all(|m| incident(m) == first), "one incident only: {told:?}");
    let count = |emoji: &str| told.iter().filter(|m| m.text.starts_with(emoji)).count();
    // One kill: each edge at most twice, and only what was on its way when it came.
    assert!((1..=2).contains(&count("🔴")) && (1..=2).contains(&count("🟢")), "{told:?}");
    assert!(told.len() <= 3, "{told:?}");
    assert!(told.last().unwrap().text.starts_with("🟢"), "{told:?}");
}

#[test]
fn what_began_and_ended_while_telegram_was_dead_is_still_told_once() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.wait_state("app/down", "ok");
    world.telegram.script(std::iter::repeat_n(Answer::Refuse(502, "Bad Gateway"), 2));
    world.app.down(true);
    wait("the first attempt", || (world.telegram.connections() > 0).then_some(()));
    daemon.wait_state("app/down", "firing");
    world.app.down(false);
    daemon.wait_state("app/down", "ok");
    let told = world.telegram.wait_delivered(1, SOON);
    wait("the recovery", || {
        let told = world.telegram.delivered();
        told.iter().any(|m| m.text.contains("lasted ")).then_some(())
    });
    let incidents: std::collections::BTreeSet<String> = world.telegram.delivered().iter().map(incident).collect();
    assert_eq!(incidents.len(), 1, "{told:?}");
    daemon.terminate();
}

#[test]
fn a_token_that_is_refused_is_said_on_the_console_and_the_page() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.wait_state("app/down", "ok");
    world.telegram.script(std::iter::repeat_n(Answer::Refuse(401, "Unauthorized"), 3));
    world.app.down(true);
    daemon.wait_state("channel/telegram", "firing");
    wait("the console", || daemon.stdout().contains("channel/telegram").then_some(()));
    let page = String::from_utf8(daemon.get("/").body).unwrap();
    assert!(page.contains("channel/telegram") && page.contains("refused"), "{page}");
    assert!(daemon.stdout().contains("app/down"));
    daemon.kill();
}

#[test]
fn a_bad_configuration_on_reload_keeps_the_old_one_and_is_told() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.wait_state("app/down", "ok");
    configure(world.path(), "tik = \"1s\"\n");
    daemon.signal(Signal::HUP);
    let told = world.telegram.wait_delivered(1, SOON);
    assert!(told[0].text.contains("config/reload") && told[0].text.contains("did you mean `tick`"), "{told:?}");
    daemon.wait_state("app/down", "ok");
    world.setup().block(&rule("job-broke")).write(world.path());
    daemon.signal(Signal::HUP);
    let told = world.telegram.wait_delivered(2, SOON);
    assert!(told[1].text.starts_with("🟢"), "{told:?}");
    daemon.wait_state("app/job-broke", "ok");
    wait("the removed rule to go", || daemon.state("app/job-failed").is_none().then_some(()));
    daemon.terminate();
}

#[test]
fn a_disabled_watchdog_is_alive_idle_and_says_so() {
    let world = World::new();
    world.setup().set("enabled", false).write(world.path());
    let daemon = Daemon::start(world.path());
    daemon.wait_pass();
    world.app.down(true);
    daemon.wait_pass();
    let status = daemon.status();
    assert_eq!(status["enabled"], false);
    assert_eq!(status["sources"].as_array().unwrap().len(), 0);
    assert_eq!(daemon.get("/readyz").status, 200);
    assert_eq!(world.app.asked(), 0);
    assert_eq!(world.telegram.connections(), 0);
    assert!(!world.path().join("state.db").exists());
    let address = status_address(&daemon);
    let listen = format!("listen={address}");
    assert!(run(world.path(), &["--set", &listen, "healthcheck"]).status.success());
    let shown = run(world.path(), &["--set", &listen, "status"]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("disabled"), "{shown:?}");
    daemon.terminate();
}

fn status_address(daemon: &Daemon) -> String {
    let screen = daemon.stdout();
    let rest = screen.split_once("http://").map(|(_, rest)| rest.to_string()).unwrap();
    rest.split_once('/').unwrap().0.to_string()
}

#[test]
fn one_pass_from_cron_counts_across_passes_and_ends_with_1_while_something_fires() {
    let world = World::new();
    world.app.down(true);
    let once = || run(world.path(), &["run", "--once"]);
    let first = once();
    assert_eq!(first.status.code(), Some(0), "one of two looks: {first:?}");
    let second = once();
    assert_eq!(second.status.code(), Some(1), "two of two looks: {second:?}");
    assert_eq!(world.telegram.wait_delivered(1, SOON).len(), 1);
    assert_eq!(once().status.code(), Some(1), "it still fires");
    world.app.down(false);
    assert_eq!(once().status.code(), Some(0));
    let told = world.telegram.wait_delivered(2, SOON);
    assert!(told[1].text.starts_with("🟢"), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn an_idle_daemon_ends_within_a_second_and_a_hanging_telegram_delays_the_end_by_seconds_only() {
    let world = World::new();
    let daemon = world.daemon();
    let (status, took) = daemon.terminate();
    assert!(status.success());
    assert!(took < Duration::from_secs(1), "{took:?}");
    let daemon = world.daemon();
    daemon.wait_state("app/down", "ok");
    world.telegram.script(std::iter::repeat_n(Answer::HangBeforeReading, 50));
    world.app.down(true);
    daemon.wait_state("app/down", "firing");
    let (status, took) = daemon.terminate();
    assert!(status.success());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn no_secret_shows_in_any_output() {
    let world = World::new();
    world.setup().set("heartbeat_url", "http://127.0.0.1:9/CANARY-ping-token").write(world.path());
    let daemon = world.daemon();
    daemon.wait_state("app/down", "ok");
    world.telegram.script([Answer::Refuse(401, "Unauthorized"), Answer::Reset, Answer::Page(502)]);
    world.app.down(true);
    wait("an attempt", || (world.telegram.connections() > 0).then_some(()));
    let mut all = String::new();
    for path in ["/", "/api/v1/status", "/api/v1/history", "/metrics", "/readyz"] {
        all.push_str(&String::from_utf8_lossy(&daemon.get(path).body));
    }
    let listen = format!("listen={}", status_address(&daemon));
    for command in [
        &["config", "show"][..],
        &["config", "explain"],
        &["config", "check"],
        &["status", "--json"],
        &["history"],
        &["check"],
    ] {
        let output = run(world.path(), &[&["--set", &listen], command].concat());
        all.push_str(&String::from_utf8_lossy(&output.stdout));
        all.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    all.push_str(&daemon.stdout());
    all.push_str(&daemon.stderr());
    daemon.terminate();
    let secret = TOKEN.split_once(':').unwrap().1;
    assert!(!all.contains(secret), "the token shows");
    assert!(!all.contains("CANARY"), "a secret shows");
}

#[test]
fn two_daemons_on_one_state_file_are_refused_by_name() {
    let world = World::new();
    let daemon = world.daemon();
    let began = Instant::now();
    let second = run(world.path(), &["--set", "listen=", "run"]);
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("state.db"), "{said}");
    assert!(began.elapsed() < SOON);
    daemon.terminate();
}
