//! Hard conditions for the whole program: nobody reads what it prints, it is frozen, its settings are
//! at their ends, others may write its files, its dead-man's switch hangs.

use std::fs::Permissions;
use std::io::{Error, pipe};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;
use std::thread::park_timeout;
use std::time::Duration;

use rustix::process::Signal;
use ureq::http::Uri;
use watchdog::client::http::{Http, Options};
use watchdog::client::resolve::{Lane, ResolveError, resolve};

use crate::daemon::{Daemon, SOON, configure, run, wait, watchdog};
use crate::peer::http::{Manner, Peer};
use crate::peer::small_app::SmallApp;
use crate::peer::telegram::{Answer, Telegram};
use crate::setup::Setup;

/// A quiet watchdog: no host, no Docker, no state file.
const QUIET: &str = "tick = \"100ms\"\n[host]\nenabled = false\n[docker]\nenabled = false\n";

fn told_by(telegram: &Telegram) -> Setup {
    Setup::new("100ms").set("instance", "web-1").telegram(telegram)
}

/// A pipe whose reader has gone away.
fn nobody() -> Result<Stdio, Error> {
    Ok(Stdio::from(pipe()?.1))
}

#[test]
fn a_reader_that_goes_away_ends_no_command_in_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &format!("listen = \"127.0.0.1:1\"\nstate = \"state.db\"\n{QUIET}"));
    assert!(run(dir.path(), &["run", "--once"]).status.success());
    for (command, code) in [
        (&["check"][..], 0),
        (&["check", "--json"], 0),
        (&["status"], 0),
        (&["history"], 0),
        (&["why", "clock/step"], 0),
        (&["config", "check"], 0),
        (&["config", "show"], 0),
        (&["config", "explain"], 0),
        (&["completions", "bash"], 0),
        (&["config", "explain", "telegram.chat_id"], 0),
        (&["notify", "test"], 1),
    ] {
        let output = watchdog(dir.path()).args(command).stdout(nobody().unwrap()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        assert!(!said.contains("panicked"), "{command:?}: {said}");
    }
    let silent = watchdog(dir.path()).arg("nothing").stderr(nobody().unwrap()).status().unwrap();
    assert_eq!(silent.code(), Some(2));
    let silent = watchdog(dir.path()).args(["why", "nothing"]).stderr(nobody().unwrap()).status().unwrap();
    assert_eq!(silent.code(), Some(1));
}

#[test]
fn output_that_a_full_disk_swallows_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), QUIET);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = watchdog(dir.path()).args(["config", "show"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("could not be written"));
}

#[test]
fn a_daemon_to_which_nobody_listens_lives_on_and_still_tells_by_telegram() {
    let telegram = Telegram::start();
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The refused beat is something to log and something to tell.
    told_by(&telegram).set("log", "trace").set("heartbeat_url", "http://127.0.0.1:9/").write(dir.path());
    let command = &mut watchdog(dir.path());
    command.args(["--set", &format!("listen=127.0.0.1:{port}")]).stdout(nobody().unwrap()).stderr(nobody().unwrap());
    let mut child = Killed(command.spawn().unwrap());
    let http = Http::new(Options { timeout: SOON, ..Options::default() });
    let count = || {
        let answer = http.get(&format!("http://127.0.0.1:{port}/api/v1/status"), &[]).ok()?;
        serde_json::from_slice::<serde_json::Value>(&answer.body).ok()?["tick"]["count"].as_u64()
    };
    let first = wait("the page", count);
    wait("ten passes", || (count()? > first + 10).then_some(()));
    let told = telegram.wait_delivered(1, SOON);
    assert!(told.iter().any(|m| m.text.contains("channel/heartbeat")), "{told:?}");
    // Standard output is gone, and that is news too.
    wait("the news", || telegram.delivered().iter().any(|m| m.text.contains("channel/console")).then_some(()));
    assert!(child.0.try_wait().unwrap().is_none());
}

/// A process that ends with the test, also with one that fails.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_frozen_watchdog_says_so_raises_no_false_alarm_and_goes_on() {
    let (telegram, app) = (Telegram::start(), SmallApp::start());
    let dir = tempfile::tempdir().unwrap();
    let rule = "[[app.rule]]\nname = \"stuck\"\nvalue = \"/queue/counts/failed\"\nwhen = \"stalls\"\nfor = \"5s\"";
    let setup = told_by(&telegram).set("app.metrics_url", app.url()).set("app.down_after", 1);
    setup.block(rule).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("app/down", "ok");
    app.job_fails();
    daemon.signal(Signal::STOP);
    // Longer than a freeze must be to count as one, and than the value may stand still. The job that
    // failed moves the value; without that the stall would be true.
    park_timeout(Duration::from_secs(6));
    app.job_fails();
    daemon.signal(Signal::CONT);
    let told = telegram.wait_delivered(1, SOON);
    assert!(told[0].text.contains("clock/step") && told[0].text.contains("was frozen for"), "{told:?}");
    daemon.wait_state("app/stuck", "ok");
    daemon.wait_pass();
    assert_eq!(daemon.state("app/down").as_deref(), Some("ok"));
    assert_eq!(telegram.delivered().len(), 1, "{:?}", telegram.delivered());
    // It is as sharp as before.
    app.down(true);
    let told = telegram.wait_delivered(2, SOON);
    assert!(told[1].text.starts_with("🔴") && told[1].text.contains("app/down"), "{told:?}");
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
}

#[test]
fn settings_at_their_ends_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let toml = r#"
tick = "1day"
cooldown = "10y"
timeout = "5m"
state = "state.db"
heartbeat_url = "http://127.0.0.1:9/x"
[app]
metrics_url = "http://127.0.0.1:9/metrics"
timeout = "5m"
down_after = 4294967295
stale_after = 4294967295
[[app.rule]]
name = "x"
value = "/a"
when = "stalls"
for = "10y"
fail_after = 4294967295
recover_after = 4294967295
[host]
memory_pct = 99
[docker]
enabled = true
socket = "/nonexistent.sock"
restarts = 4294967295
restart_window = "10y"
grace = "10y"
start_grace = "10y"
oom_calm = "10y"
forget_after = "10y"
[[probe]]
name = "p"
type = "tcp"
target = "tcp://127.0.0.1:9"
interval = "10y"
timeout = "5m"
fail_after = 1000
[[probe]]
name = "h"
type = "http"
target = "http://127.0.0.1:9/"
interval = "100ms"
timeout = "5m"
max_latency = "10y"
"#;
    configure(dir.path(), toml);
    let daemon = Daemon::start(dir.path());
    wait("the first pass", || daemon.state("source/docker"));
    daemon.signal(Signal::HUP);
    wait("the second", || (daemon.status()["tick"]["count"].as_u64()? > 1).then_some(()));
    for path in ["/", "/metrics", "/readyz", "/api/v1/history"] {
        daemon.get(path);
    }
    let said = daemon.stderr();
    assert!(!said.contains("panicked"), "{said}");
    let (status, _) = daemon.terminate();
    assert!(status.success());
    for command in [&["run", "--once"][..], &["check"], &["history", "--since", "10y"], &["status"]] {
        let output = run(dir.path(), &[&["--set", "listen=127.0.0.1:1"], command].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)) && !said.contains("panicked"), "{command:?}: {said}");
    }
}

#[test]
fn the_switch_is_fetched_from_the_loop_and_a_server_that_hangs_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let well = Peer::start(Manner::answer("200 OK", "OK"));
    configure(dir.path(), &format!("heartbeat_url = \"{}/ping/1\"\n{QUIET}", well.url()));
    let daemon = Daemon::start(dir.path());
    wait("a beat", || (!well.heard().is_empty()).then_some(()));
    assert!(well.heard()[0].starts_with("GET /ping/1 "), "{:?}", well.heard());
    daemon.wait_state("channel/heartbeat", "ok");
    daemon.wait_pass();
    assert_eq!(well.connections(), 1, "once a minute, not once a tick");
    daemon.terminate();

    let hangs = Peer::start(Manner::Hang);
    configure(dir.path(), &format!("timeout = \"5m\"\nheartbeat_url = \"{}/\"\n{QUIET}", hangs.url()));
    let daemon = Daemon::start(dir.path());
    wait("a beat", || (hangs.connections() == 1).then_some(()));
    let first = daemon.status()["tick"]["count"].as_u64().unwrap();
    wait("ten passes", || (daemon.status()["tick"]["count"].as_u64()? > first + 10).then_some(()));
    assert_eq!(daemon.state("channel/heartbeat").as_deref(), Some("unknown"), "nobody knows yet");
    let (status, took) = daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_restart_is_no_recovery_of_a_channel_and_a_channel_that_is_taken_away_leaves_nothing_open() {
    let telegram = Telegram::start();
    let dir = tempfile::tempdir().unwrap();
    told_by(&telegram).set("heartbeat_url", "http://127.0.0.1:9/").write(dir.path());
    let daemon = Daemon::start(dir.path());
    let told = telegram.wait_delivered(1, SOON);
    assert!(told[0].text.contains("channel/heartbeat"), "{told:?}");
    daemon.terminate();
    let daemon = Daemon::start(dir.path());
    wait("a refused beat", || daemon.stderr().contains("heartbeat_url: connection refused").then_some(()));
    daemon.wait_pass();
    daemon.wait_state("channel/heartbeat", "firing");
    daemon.terminate();
    assert_eq!(telegram.delivered().len(), 1, "{:?}", telegram.delivered());

    told_by(&telegram).write(dir.path());
    let daemon = Daemon::start(dir.path());
    let told = telegram.wait_delivered(2, SOON);
    assert!(told[1].text.starts_with("⚪") && told[1].text.contains("channel/heartbeat"), "{told:?}");
    assert_eq!(daemon.state("channel/heartbeat"), None);
    daemon.terminate();
}

#[test]
fn a_refused_token_stays_refused_over_a_restart() {
    let telegram = Telegram::start();
    let dir = tempfile::tempdir().unwrap();
    telegram.script(std::iter::repeat_n(Answer::Refuse(401, "Unauthorized"), 50));
    told_by(&telegram).set("heartbeat_url", "http://127.0.0.1:9/").write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("channel/telegram", "firing");
    daemon.terminate();
    let before = telegram.connections();
    let daemon = Daemon::start(dir.path());
    wait("another attempt", || (telegram.connections() > before).then_some(()));
    daemon.wait_pass();
    daemon.wait_state("channel/telegram", "firing");
    assert!(!daemon.stdout().contains("🟢"), "{}", daemon.stdout());
    daemon.terminate();
}

#[test]
fn no_core_is_dumped_and_nobody_of_the_same_user_may_look_into_us() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), QUIET);
    let daemon = Daemon::start(dir.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{limits}");
    // The kernel gives the files of a process that may not be dumped to root.
    let environment = std::fs::metadata(format!("/proc/{}/environ", daemon.pid())).unwrap();
    assert_eq!(environment.uid(), 0);
    // What we read of ourselves is still there.
    let metrics = String::from_utf8(daemon.get("/metrics").body).unwrap();
    assert!(metrics.contains("process_resident_memory_bytes"), "{metrics}");
    daemon.terminate();
}

#[test]
fn a_configuration_that_everybody_may_write_is_refused_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = configure(dir.path(), QUIET);
    std::fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let output = run(dir.path(), &["config", "check"]);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let code = if rustix::process::geteuid().is_root() { 2 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains("watchdog.toml") && said.contains("may be written by every user"), "{said}");
}

#[test]
fn a_proxy_in_the_environment_is_not_used() {
    let (proxy, app) = (Peer::start(Manner::answer("200 OK", "{}")), SmallApp::start());
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &format!("{QUIET}[app]\nmetrics_url = \"{}\"\n", app.url()));
    let mut command = watchdog(dir.path());
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env(name, proxy.url());
    }
    let output = command.arg("check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(app.asked() > 0);
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn no_spelling_of_a_metadata_address_gives_an_address() {
    // Looked up as every connection looks it up; nothing is connected to, whatever comes out.
    let hosts = [
        "169.254.169.254",
        "169.254.169.254.",
        "169.254.169.254:80",
        "169.254.169.254:8080",
        "169.254.0.1",
        "169.254.43518",
        "169.16689662",
        "2852039166",
        "0xa9fea9fe",
        "0xA9.0xFE.0xA9.0xFE",
        "0xa9.254.0251.254",
        "0251.0376.0251.0376",
        "025177524776",
        "user@169.254.169.254",
        "user:pass@169.254.169.254",
        "example.org@169.254.169.254",
        "127.0.0.1:80@169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[::a9fe:a9fe]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[2001:db8::5efe:a9fe:a9fe]",
        "[fe80::1]",
        "[fe80::a9fe:a9fe]",
        "[febf::1]",
        "[fd00:ec2::254]",
        "[fd00:c1::a9fe:a9fe]",
        "[fd20:ce::254]",
        "[fd00:42::42]",
        "168.63.129.16",
        "0xa83f8110",
        "100.100.100.200",
        "1684301000",
        "0144.0144.0144.0310",
    ];
    for host in hosts {
        // A name with a port or a user is not a host; the URL's own parser takes them off.
        let url: Uri = format!("http://{host}/latest").parse().unwrap();
        let found = resolve(url.host().unwrap(), 80, Lane::Targets, false, SOON);
        assert!(matches!(found, Err(ResolveError::Refused(_) | ResolveError::NotFound { .. })), "{host}: {found:?}");
    }
}
