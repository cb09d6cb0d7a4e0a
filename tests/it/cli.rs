//! The commands as a person or a script uses them: what they print, where, and how they end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use watchdog::clock::Clock;
use watchdog::core::edge::Incident;
use watchdog::core::time::Wall;
use watchdog::store::{HistoryEntry, Store};

use crate::daemon::{Daemon, configure, run, wait, watchdog};
use crate::peer::http::{Manner, Peer};

const QUIET: &str = "tick = \"100ms\"\nlisten = \"127.0.0.1:9\"\n[host]\nenabled = false\n[docker]\nenabled = false\n";

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `config check` with this environment: its exit code and complaint.
fn checked(dir: &Path, environment: &[(&str, &str)]) -> (i32, String) {
    let output = watchdog(dir).args(["config", "check"]).envs(environment.iter().copied()).output().unwrap();
    (code(&output), stderr(&output))
}

#[test]
fn a_log_filter_with_a_typo_is_refused_by_place_and_nearest_level() {
    let dir = tempfile::tempdir().unwrap();
    for (filter, wanted) in [
        ("inof", "did you mean `info`"),
        ("watchdog::deliver=debg", "did you mean `debug`"),
        ("info,,warn", "is not a level"),
        ("=info", "is not a level"),
        ("verbose", "one of error, warn, info, debug, trace, off"),
    ] {
        let (code, said) = checked(dir.path(), &[("WATCHDOG_LOG", filter)]);
        assert!(
            code == 2 && said.contains(wanted) && said.contains("variable WATCHDOG_LOG"),
            "{filter}: {code} {said}"
        );
    }
    for filter in ["info", "WARN", "off", "info,watchdog::deliver=debug", "info, watchdog::deliver=trace"] {
        assert_eq!(checked(dir.path(), &[("WATCHDOG_LOG", filter)]).0, 0, "{filter}");
    }
}

#[test]
fn every_secret_has_a_twin_and_both_at_once_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "https://a-secret-of-some-length/\n").unwrap();
    for (key, more) in [
        ("WATCHDOG_TELEGRAM__BOT_TOKEN", ("WATCHDOG_TELEGRAM__CHAT_ID", "1")),
        ("WATCHDOG_HEARTBEAT_URL", ("WATCHDOG_TICK", "15s")),
        ("WATCHDOG_SERVE__TOKEN", ("WATCHDOG_TICK", "15s")),
        ("WATCHDOG_APP__AUTHORIZATION", ("WATCHDOG_APP__METRICS_URL", "http://127.0.0.1:1/")),
        ("WATCHDOG_APP__AUTHORIZATION", ("WATCHDOG_TICK", "15s")),
        ("WATCHDOG_CONSUL__TOKEN", ("WATCHDOG_TICK", "15s")),
    ] {
        let twin = format!("{key}_FILE");
        let (code, said) = checked(dir.path(), &[more, (key, "https://another-secret"), (&twin, "secret")]);
        assert!(code == 2 && said.contains("both") && said.contains(key), "{key}: {code} {said}");
        assert!(!said.contains("another-secret"), "{said}");
        let (code, said) = checked(dir.path(), &[more, (&twin, "/nowhere/secret")]);
        assert!(code == 2 && said.contains(&twin) && said.contains("/nowhere/secret"), "{key}: {code} {said}");
        assert_eq!(
            checked(dir.path(), &[("WATCHDOG_TICK", "1s"), (key, ""), (&twin, "")]),
            (0, String::new()),
            "{key}"
        );
        if !key.contains("TELEGRAM") {
            assert_eq!(checked(dir.path(), &[more, (key, ""), (&twin, "secret")]), (0, String::new()), "{key}");
        }
    }
}

#[test]
fn a_mistake_in_the_status_server_s_settings_is_a_mistake_of_configuration_to_run_as_well() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &format!("{QUIET}[serve]\ntoken = \"short\"\n"));
    let output = run(dir.path(), &["run"]);
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(stderr(&output).contains("watchdog.toml:8: `serve.token`"), "{output:?}");
}

#[test]
fn without_daemon_and_state_status_ends_with_3_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), QUIET);
    let output = run(dir.path(), &["status"]);
    assert_eq!(code(&output), 3, "{output:?}");
    assert!(stderr(&output).contains("127.0.0.1:9") && stderr(&output).contains("watchdog run"), "{output:?}");
    assert_eq!(code(&run(dir.path(), &["healthcheck"])), 1);
    assert_eq!(code(&run(dir.path(), &["--set", "listen=", "--set", "enabled=false", "healthcheck"])), 0);
    assert_eq!(code(&run(dir.path(), &["--set", "listen=", "healthcheck"])), 1);
}

#[test]
fn what_a_daemon_left_is_shown_with_its_age_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &format!("state = \"s.db\"\ndeps = [\"gone=tcp://127.0.0.1:9\"]\n{QUIET}"));
    for _ in 0..3 {
        run(dir.path(), &["run", "--once"]);
    }
    let left = run(dir.path(), &["status"]);
    assert_eq!(code(&left), 1, "{left:?}");
    assert!(stderr(&left).contains(" old (") && stdout(&left).contains("probe/gone"), "{left:?}");
    let json: serde_json::Value = serde_json::from_str(&stdout(&run(dir.path(), &["status", "--json"]))).unwrap();
    assert!(json["tick"]["last_at"].is_string(), "{json}");
    let why = run(dir.path(), &["why", "probe/gone"]);
    assert!(code(&why) == 0 && stdout(&why).contains("to change"), "{why:?}");
    let unknown = run(dir.path(), &["why", "probe/gome"]);
    assert!(code(&unknown) == 1 && stderr(&unknown).contains("did you mean `probe/gone`"), "{unknown:?}");
    let log = stdout(&run(dir.path(), &["history", "probe/gone", "--since", "1h", "--json"]));
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((first["kind"].as_str(), first["subject"].as_str()), (Some("alert"), Some("probe/gone")));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["config", "explain"][..], &["completions", "bash"], &["config", "show"]] {
        let mut child =
            watchdog(dir.path()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success() && said.is_empty(), "{arguments:?}: {said}");
    }
}

#[test]
fn watching_ends_when_nobody_reads_any_more() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &QUIET.replace("127.0.0.1:9\"", "127.0.0.1:0\""));
    let daemon = Daemon::start(dir.path());
    let listen = format!("listen={}", daemon.page().trim_start_matches("http://"));
    let mut child =
        watchdog(dir.path()).args(["--set", &listen, "status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    while !line.contains("firing,") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "it ended before a look");
        assert!(!line.contains('\x1b'), "no escapes where no terminal is");
    }
    drop(reader);
    wait("the end", || child.try_wait().unwrap());
    daemon.terminate();
}

#[test]
fn one_pass_also_beats_the_dead_man_s_switch_before_it_ends() {
    let switch = Peer::start(Manner::answer("200 OK", ""));
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &format!("heartbeat_url = \"{}\"\n{QUIET}", switch.url()));
    for passes in 1..=3 {
        assert_eq!(code(&run(dir.path(), &["run", "--once"])), 0);
        assert_eq!(switch.heard().len(), passes);
    }
}

#[test]
fn the_strips_of_the_page_go_back_beyond_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = configure(dir.path(), &format!("state = \"s.db\"\ndeps = [\"self=tcp://127.0.0.1:9\"]\n{QUIET}"));
    run(dir.path(), &["run", "--once"]);
    let now = Clock::system().now();
    let store = Store::open(Some(&dir.path().join("s.db")), now, &watchdog::clock::boot_id()).unwrap().store;
    for (hours, kind, subject) in
        [(20, "started", "watchdog"), (12, "alert", "probe/self"), (6, "recovery", "probe/self")]
    {
        let entry = HistoryEntry {
            at: Wall(now.wall.minus(Duration::from_hours(hours)).0),
            kind: kind.to_string(),
            subject: subject.to_string(),
            incident: Some(Incident("aaaa".to_string())),
            severity: None,
            text: String::new(),
        };
        store.note(now, &entry).unwrap();
    }
    drop(store);
    assert!(path.exists());
    let daemon = Daemon::start(dir.path());
    daemon.wait_pass();
    let page = String::from_utf8(daemon.get("/").body).unwrap();
    assert!(page.contains("firing 6"), "{page}");
    daemon.terminate();
}

#[test]
fn a_key_inside_a_list_of_tables_is_told_how_to_write_it() {
    let dir = tempfile::tempdir().unwrap();
    for (variable, list) in [("WATCHDOG_PROBE__0__NAME", "probe"), ("WATCHDOG_APP__RULE__0__NAME", "app.rule")] {
        let (code, said) = checked(dir.path(), &[(variable, "x")]);
        assert!(code == 2 && said.contains(&format!("write the whole list as TOML: {list} = [")), "{said}");
    }
    let rules = "[{ name = \"queue\", value = \"/queue\", when = \"> 5\" }]";
    let app = ("WATCHDOG_APP__METRICS_URL", "http://127.0.0.1:1/");
    assert_eq!(checked(dir.path(), &[app, ("WATCHDOG_APP__RULE", rules)]), (0, String::new()));
}

#[test]
fn a_channel_that_refuses_a_test_message_is_reported_with_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let telegram = "[telegram]\nbot_token = \"1:abc\"\nchat_id = \"1\"\napi_base = \"http://127.0.0.1:1\"\n";
    configure(dir.path(), &format!("{QUIET}{telegram}"));
    let output = run(dir.path(), &["notify", "test"]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(stdout(&output).contains("telegram: connection refused by 127.0.0.1:1\n"), "{output:?}");
    assert!(stdout(&output).contains("console: accepted"), "{output:?}");
}

#[test]
fn a_daemon_that_wants_its_token_says_so_to_whoever_has_none() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "correct-horse\n").unwrap();
    configure(dir.path(), &format!("{QUIET}[serve]\ntoken_file = \"token\"\n"));
    let daemon = Daemon::start(dir.path());
    let listen = format!("listen={}", daemon.page().trim_start_matches("http://"));
    let ask = |more: &[&str]| {
        wait("the first pass", || {
            let output = run(dir.path(), &[&["--set", &listen, "status"], more].concat());
            (code(&output) != 3 || !more.is_empty()).then_some(output)
        })
    };
    assert_eq!(code(&ask(&[])), 0);
    let without = ask(&["--set", "serve.token_file="]);
    assert!(code(&without) == 3 && stderr(&without).contains("set serve.token"), "{without:?}");
    daemon.terminate();
}
