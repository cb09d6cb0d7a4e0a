//! How the daemon ends, and what it leaves: no child of a check, no zombie, nothing told before it is true,
//! and five seconds at most, whatever the disk does.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use watchdog::client::http::{Http, Options};

use crate::daemon::{Daemon, SOON, run, wait, watchdog};
use crate::parts;
use crate::setup::Setup;

/// The promise: a daemon that is told to stop has ended by then.
const WITHIN: Duration = Duration::from_secs(5);

/// Every process whose command line holds `text`, dead ones excepted.
fn running(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let holds = |number: &i32| {
        let line = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    numbers.filter(holds).collect()
}

/// Dead children of `parent` that nobody has reaped.
fn zombies(parent: i32) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit_once(')').unwrap().1.starts_with(&format!(" Z {parent} "))).count()
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

fn exec(name: &str, script: &str) -> String {
    format!(
        "[[probe]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", {script:?}]\ninterval = \"100ms\"\ntimeout = \"60s\"\n"
    )
}

/// The child of a process that has become the watchdog, once there is one.
fn child_of(number: u32) -> i32 {
    let path = format!("/proc/{number}/task/{number}/children");
    let is_watchdog = |child: &&str| {
        std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "watchdog")
    };
    wait("its child", || std::fs::read_to_string(&path).ok()?.split_whitespace().find(is_watchdog)?.parse().ok())
}

#[test]
fn as_process_1_it_reaps_orphans_and_no_exit_code_gets_lost() {
    if !parts::pid_namespaces() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new("100ms").set("state", "").block(&exec("leaver", "echo >>runs; setsid true & exit 0"));
    setup.block(&exec("three", "echo >>threes; exit 3")).write(dir.path());
    let program = watchdog(dir.path());
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(program.get_program());
    command.args(["--set", "listen=127.0.0.1:0"]).current_dir(dir.path()).stdin(Stdio::null());
    let daemon = Daemon::start_with(&mut command);
    let own = child_of(daemon.pid());
    daemon.wait_state("probe/three", "firing");
    let detail = || {
        let status = daemon.status();
        let signals = status["signals"].as_array().unwrap();
        let three = signals.iter().find(|signal| signal["key"] == "probe/three").unwrap();
        three["detail"].as_str().unwrap().to_string()
    };
    wait("forty orphans and forty exit codes", || {
        assert_eq!(detail(), "exit code 3");
        (lines(&dir.path().join("runs")) >= 40 && lines(&dir.path().join("threes")) >= 40).then_some(())
    });
    wait(|| format!("few zombies: {}", zombies(own)), || (zombies(own) < 15).then_some(()));
    assert_eq!(daemon.state("probe/leaver").as_deref(), Some("ok"));
}

/// Three checks that hang, each with a child in its group, one in a session of its own, and one that keeps
/// making new ones there. What they all have in their command lines is `text`.
fn hanging(text: &str) -> Setup {
    let script = format!(
        "sleep {text} & setsid sleep {text} & setsid sh -c 'while :; do sleep {text}; done' & sleep {text}; wait"
    );
    // Long enough that the last of them runs before the first is given up, on a busy machine too.
    let setup = Setup::new("100ms").set("state", "").set("timeout", "1m");
    ["one", "two", "three"].into_iter().fold(setup, |setup, name| setup.block(&exec(name, &script)))
}

fn unique(number: u32) -> String {
    format!("300.{:09}{number:03}", std::process::id())
}

#[test]
fn nothing_that_a_check_started_survives_the_end_in_ten_of_ten_tries() {
    for number in 0..10 {
        let text = unique(number);
        let dir = tempfile::tempdir().unwrap();
        hanging(&text).write(dir.path());
        let mut daemon = Daemon::start(dir.path());
        wait(|| format!("all to run: {:?}", running(&text)), || (running(&text).len() >= 15).then_some(()));
        let began = Instant::now();
        daemon.signal(if number % 2 == 0 { Signal::TERM } else { Signal::INT });
        let status = wait("the end", || daemon.ended());
        assert!(status.success() && began.elapsed() < WITHIN, "{status} after {:?}", began.elapsed());
        // They were killed before the end; they may still be dying.
        let dying = Instant::now() + Duration::from_secs(1);
        while !running(&text).is_empty() && Instant::now() < dying {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(running(&text), [0; 0], "try {number}");
    }
}

#[test]
fn a_reload_that_removes_a_check_leaves_nothing_of_it() {
    let (gone, kept) = (unique(100), unique(101));
    let dir = tempfile::tempdir().unwrap();
    hanging(&gone).write(dir.path());
    let daemon = Daemon::start(dir.path());
    wait("the old ones to run", || (running(&gone).len() >= 15).then_some(()));
    hanging(&kept).write(dir.path());
    daemon.signal(Signal::HUP);
    wait("the old ones to be gone", || running(&gone).is_empty().then_some(()));
    wait("the new ones to run", || (running(&kept).len() >= 15).then_some(()));
    daemon.terminate();
    wait("the new ones to be gone", || running(&kept).is_empty().then_some(()));
}

#[test]
fn a_single_look_that_is_interrupted_leaves_nothing_either() {
    let text = unique(200);
    let dir = tempfile::tempdir().unwrap();
    hanging(&text).write(dir.path());
    for arguments in [&["check"][..], &["run", "--once"]] {
        let mut child =
            watchdog(dir.path()).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait("all to run", || (running(&text).len() >= 15).then_some(()));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = wait("the end", || child.try_wait().unwrap());
        assert!(!status.success());
        wait(|| format!("nothing of {arguments:?} to be left"), || running(&text).is_empty().then_some(()));
    }
}

/// A daemon whose every fsync takes three seconds, under strace. Both are gone when it is dropped.
struct Slow {
    strace: Child,
    port: u16,
    agent: Option<Pid>,
}

impl Slow {
    fn start(dir: &Path) -> Slow {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = watchdog(dir);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        command.args(["-e", "inject=fsync,fdatasync:delay_enter=3000000"]).arg(program.get_program());
        command.args(["--set", &format!("listen=127.0.0.1:{port}")]).current_dir(dir).stdin(Stdio::null());
        let strace = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Slow { strace, port, agent: None }
    }

    /// Status and body at this path; `None` while nobody answers.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let http = Http::new(Options { timeout: SOON, ..Options::default() });
        let answer = http.get(&format!("http://127.0.0.1:{}{path}", self.port), &[]).ok()?;
        Some((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    fn agent(&mut self) -> Pid {
        let agent = Pid::from_raw(child_of(self.strace.id())).unwrap();
        *self.agent.insert(agent)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        if self.strace.try_wait().is_ok_and(|ended| ended.is_none()) {
            if let Some(agent) = self.agent {
                let _ = kill_process(agent, Signal::KILL);
            }
            let _ = self.strace.kill();
            let _ = self.strace.wait();
        }
    }
}

#[test]
fn on_a_slow_disk_nothing_is_told_before_it_is_true_and_the_end_comes_in_time() {
    if !parts::strace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    Setup::new("1s").set("instance", "web-1").block(&exec("one", "true")).write(dir.path());
    Daemon::start(dir.path()).terminate();
    let mut slow = Slow::start(dir.path());
    let agent = slow.agent();
    wait("/healthz", || (slow.get("/healthz")?.0 == 200).then_some(()));
    let mut refused = 0;
    let status = wait("the first status", || {
        let (code, body) = slow.get("/api/v1/status")?;
        if code == 200 {
            return Some(body);
        }
        assert!(code == 503 && body.contains("starting"), "{code} {body}");
        refused += 1;
        if refused == 1 {
            for path in ["/", "/metrics", "/readyz", "/api/v1/history"] {
                let (code, body) = slow.get(path).unwrap();
                assert!(code == 503 && body.contains("starting"), "{path} {code} {body}");
            }
            let listen = format!("listen=127.0.0.1:{}", slow.port);
            let asked = run(dir.path(), &["--set", &listen, "status"]);
            let said = String::from_utf8_lossy(&asked.stderr).into_owned();
            assert!(said.contains("starting, nothing can be told yet"), "{said}");
            let health = run(dir.path(), &["--set", &listen, "healthcheck"]);
            let said = String::from_utf8_lossy(&health.stderr).into_owned();
            assert!(!health.status.success() && said.contains("starting"), "{said}");
        }
        None
    });
    assert!(refused > 0);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["instance"], &status["enabled"]), (&"web-1".into(), &true.into()), "{status}");
    assert!(status["tick"]["count"].as_u64() > Some(0) && !status["started_at"].to_string().contains("1970"));
    let began = Instant::now();
    kill_process(agent, Signal::TERM).unwrap();
    wait("the end", || slow.strace.try_wait().unwrap());
    // Also for strace, which waits for the call that was under way.
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
}
