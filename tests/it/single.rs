//! Single passes, one after another over one state file, as cron makes them: what the daemon keeps in its head they
//! keep in the file.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, run, wait};
use crate::e2e_docker;
use crate::parts;
use crate::peer::kv::Kv;
use crate::peer::small_app::SmallApp;
use crate::peer::telegram::{Delivered, Telegram};
use crate::setup::Setup;

/// A state file, and a chat that is told.
struct Cron {
    dir: tempfile::TempDir,
    telegram: Telegram,
}

impl Cron {
    fn new(more: impl FnOnce(Setup) -> Setup) -> Cron {
        let cron = Cron { dir: tempfile::tempdir().unwrap(), telegram: Telegram::start() };
        more(Setup::new("100ms").set("instance", "web-1").set("timeout", "2s").telegram(&cron.telegram))
            .write(cron.path());
        cron
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn output(&self) -> Output {
        run(self.path(), &["--set", "listen=", "run", "--once"])
    }

    /// One pass: its exit code.
    fn pass(&self) -> i32 {
        let output = self.output();
        output.status.code().unwrap_or_else(|| panic!("{output:?}"))
    }

    /// Makes passes until more than `n` messages were told; the exit code of the last one.
    fn until_told(&self, n: usize) -> i32 {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let code = self.pass();
            if self.telegram.delivered().len() > n {
                return code;
            }
            assert!(Instant::now() < deadline, "nothing more was told than {:?}", self.telegram.delivered());
        }
    }

    /// What was told beyond the first `n` messages.
    fn told_after(&self, n: usize) -> Vec<Delivered> {
        self.telegram.delivered().split_off(n)
    }
}

#[test]
fn a_node_that_nobody_configured_is_told_as_lost_by_the_pass_that_confirms_it() {
    let consul = Kv::start(&["watchdog/nodes/n1", "watchdog/nodes/n2", "watchdog/sentinel"]);
    let cron = Cron::new(|setup| setup.set("consul.address", consul.url()).set("consul.resettle", "31s"));
    assert_eq!(cron.pass(), 0);
    assert_eq!(cron.pass(), 0);
    {
        let mut held = consul.held();
        held.keys.remove("watchdog/nodes/n2");
        held.index += 1;
    }
    let lost = Instant::now();
    assert_eq!(cron.pass(), 0, "one look, and Consul may have lost its data");
    assert!(cron.telegram.delivered().is_empty(), "{:?}", cron.telegram.delivered());
    assert_eq!(cron.until_told(0), 1);
    assert!(lost.elapsed() >= Duration::from_secs(31), "told after {:?}", lost.elapsed());
    let told = cron.told_after(0);
    assert!(told.len() == 1 && told[0].text.starts_with("🔴") && told[0].text.contains("node/n2"), "{told:?}");
    // Since the last pass that saw it, not since the one that told.
    assert!(told[0].text.contains("for 3"), "{told:?}");
    assert_eq!(cron.pass(), 1, "it still fires");
    // A look that remembers nothing of its own reads who was there.
    let checked = run(cron.path(), &["check"]);
    let table = String::from_utf8_lossy(&checked.stdout).into_owned();
    let row = table.lines().find(|line| line.contains("node/n2")).unwrap_or_default();
    assert!(row.contains("firing") && checked.status.code() == Some(1), "{table}");
    {
        let mut held = consul.held();
        held.keys.insert("watchdog/nodes/n2".to_string(), ("{}".to_string(), Some("session".to_string())));
        held.index += 1;
    }
    assert_eq!(cron.pass(), 0);
    let told = cron.told_after(1);
    assert!(told.len() == 1 && told[0].text.starts_with("🟢"), "{told:?}");
}

#[test]
fn a_counter_that_rose_between_two_passes_is_told_once() {
    let app = SmallApp::start();
    let rule = "[[app.rule]]\nname = \"job-failed\"\nvalue = \"/queue/counts/failed\"\nwhen = \"increases\"";
    let cron = Cron::new(|setup| setup.set("app.metrics_url", app.url()).block(rule));
    assert_eq!(cron.pass(), 0);
    app.job_fails();
    app.job_fails();
    cron.pass();
    let told = cron.told_after(0);
    assert!(told.len() == 1 && told[0].text.contains("rose from 0 to 2"), "{told:?}");
    cron.pass();
    assert_eq!(cron.told_after(1).len(), 0);
}

#[test]
fn reminders_keep_their_distance_over_passes_and_are_counted() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let probe = format!("[[probe]]\nname = \"db\"\ntarget = \"tcp://127.0.0.1:{port}\"\nfail_after = 2");
    let cron = Cron::new(|setup| setup.set("cooldown", "4s").block(&probe));
    let began = Instant::now();
    assert_eq!(cron.pass(), 0, "one of two looks");
    assert_eq!(cron.pass(), 1);
    let alerted = Instant::now();
    assert_eq!(cron.pass(), 1);
    assert_eq!(cron.told_after(0).len(), 1, "{:?}", cron.told_after(0));
    assert_eq!(cron.until_told(1), 1);
    assert!(alerted.elapsed() >= Duration::from_secs(4), "reminded after {:?}", alerted.elapsed());
    let told = cron.told_after(1);
    assert!(told.len() == 1 && told[0].text.starts_with("🔁") && told[0].text.contains("reminder 1"), "{told:?}");
    assert_eq!(cron.until_told(2), 1);
    let _there = TcpListener::bind(("127.0.0.1", port)).unwrap();
    assert_eq!(cron.pass(), 1, "one good look of two");
    assert_eq!(cron.pass(), 0);
    let told = cron.told_after(3);
    assert!(told.last().unwrap().text.starts_with("🟢"), "{told:?}");
    // It began with the first pass that saw it, which told nothing.
    let lasted = began.elapsed().as_secs();
    let said = told.last().unwrap().text.split("lasted ").nth(1).unwrap().split(' ').next().unwrap();
    let said: u64 = said.split('.').next().unwrap().parse().unwrap();
    assert!(lasted - said <= 3, "{lasted} {told:?}");
}

#[test]
fn a_silence_of_the_daemon_holds_in_single_passes_and_its_end_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let probe =
        format!("[[probe]]\nname = \"db\"\ntarget = \"tcp://127.0.0.1:{port}\"\nfail_after = 1\ninterval = \"100ms\"");
    let cron = Cron::new(|setup| setup.block(&probe));
    let daemon = Daemon::start(cron.path());
    daemon.wait_state("probe/db", "ok");
    let silenced = Instant::now();
    let set = run(cron.path(), &["silence", "probe/db", "--for", "12s"]);
    assert!(set.status.success(), "{set:?}");
    daemon.terminate();
    drop(listener);
    for _ in 0..2 {
        assert_eq!(cron.pass(), 1, "it fires");
    }
    assert!(silenced.elapsed() < Duration::from_secs(11), "too slow to say anything: {:?}", silenced.elapsed());
    assert_eq!(cron.told_after(0).len(), 0, "{:?}", cron.told_after(0));
    assert_eq!(cron.until_told(0), 1);
    assert!(silenced.elapsed() >= Duration::from_secs(12), "told after {:?}", silenced.elapsed());
    let told = cron.told_after(0);
    assert!(told.len() == 1 && told[0].text.contains("probe/db"), "{told:?}");
}

#[test]
fn a_source_that_never_answers_is_told_by_the_pass_that_confirms_it() {
    let consul = Kv::start(&["watchdog/nodes/n1", "watchdog/sentinel"]);
    let cron = Cron::new(|setup| setup.set("consul.address", consul.url()).set("timeout", "300ms"));
    assert_eq!(cron.pass(), 0);
    consul.held().hangs = true;
    let codes: Vec<i32> = (0..3).map(|_| cron.pass()).collect();
    assert_eq!(codes, [0, 0, 1]);
    let told = cron.told_after(0);
    assert!(told.len() == 1 && told[0].text.contains("source/consul"), "{told:?}");
    assert!(!told[0].text.contains("node/n1"), "nobody knows how it is: {told:?}");
    consul.held().hangs = false;
    assert_eq!(cron.pass(), 0);
    assert!(cron.told_after(1)[0].text.starts_with("🟢"), "{:?}", cron.told_after(1));
}

#[test]
fn a_job_that_failed_between_two_passes_is_told_once() {
    if !parts::busybox() {
        return;
    }
    let world = e2e_docker::World::new("single-job", "1s", &[]);
    world.setup.write(world.dir.path());
    let pass = || run(world.dir.path(), &["--set", "listen=", "run", "--once"]).status.code();
    world.engine.run("web", &[], "sleep 999");
    assert_eq!(pass(), Some(0));
    world.engine.run("job", &["--restart", "no"], "echo no such table; exit 3");
    let ended = || world.engine.docker(&["inspect", "--format", "{{.State.Status}}", &world.engine.name("job")]);
    wait("the job to end", || (ended() == "exited").then_some(()));
    pass();
    let told = world.telegram.delivered();
    assert!(told.len() == 1 && told[0].text.contains("exit code 3"), "{told:?}");
    pass();
    pass();
    assert_eq!(world.telegram.delivered().len(), 1, "{:?}", world.telegram.delivered());
}

#[test]
fn restarts_are_counted_over_passes_and_a_loop_is_no_container_that_runs() {
    if !parts::busybox() {
        return;
    }
    let world = e2e_docker::World::new("single-loop", "1s", &[("restart_window", "60s")]);
    world.setup.write(world.dir.path());
    let pass = || run(world.dir.path(), &["--set", "listen=", "run", "--once"]).status.code();
    world.engine.run("web", &["--restart", "always"], "sleep 1; exit 7");
    let name = world.engine.name("web");
    let count = || world.engine.docker(&["inspect", "--format", "{{.RestartCount}}", &name]).parse::<u32>().unwrap();
    pass();
    let mut codes = Vec::new();
    for wanted in [2, 4, 5] {
        wait("restarts", || (count() >= wanted).then_some(()));
        codes.push(pass());
    }
    assert_eq!(codes.last(), Some(&Some(1)), "{codes:?} {:?}", world.telegram.delivered());
    let told = world.telegram.delivered();
    let alerts: Vec<_> = told.iter().filter(|message| message.text.starts_with("🔴")).collect();
    assert!(alerts.len() == 1 && alerts[0].text.contains("crash loop"), "{told:?}");
    assert!(!told.iter().any(|message| message.text.starts_with("🟢")), "{told:?}");
}
