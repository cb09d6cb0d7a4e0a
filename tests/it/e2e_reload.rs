//! The real daemon reads its configuration again: nothing of the old one stays behind, and what a
//! reload cannot change it says.

use std::time::Duration;

use rustix::process::Signal;

use crate::daemon::{Daemon, SOON, configure, wait};
use crate::peer::docker::{self, CHUNKED, Reply};
use crate::peer::http::{self, Manner};
use crate::peer::small_app::SmallApp;
use crate::peer::telegram::{TOKEN, Telegram};

/// How often the old must make room for the new.
const RELOADS: usize = 50;

fn lines_of_history(daemon: &Daemon, kind: &str) -> Vec<String> {
    let answer: serde_json::Value = serde_json::from_slice(&daemon.get("/api/v1/history").body).unwrap();
    let entries = answer["entries"].as_array().unwrap();
    entries.iter().filter(|e| e["kind"] == kind).map(|e| e["text"].as_str().unwrap().to_string()).collect()
}

fn reload(daemon: &Daemon, times: usize) {
    daemon.signal(Signal::HUP);
    wait("the reload", || (lines_of_history(daemon, "reloaded").len() >= times).then_some(()));
}

/// Threads and open files of the daemon, by what they are.
fn belongings(daemon: &Daemon) -> (Vec<String>, usize) {
    let entries = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).unwrap().flatten();
    let mut threads: Vec<String> = entries("task")
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim().to_string())
        .collect();
    threads.sort();
    (threads, entries("fd").count())
}

fn engine() -> docker::Peer {
    docker::Peer::start(|path| match path {
        "/_ping" => docker::json(200, "1.41", "OK"),
        _ if path.contains("/events?") => Reply::ThenHang(CHUNKED.to_vec()),
        _ => docker::json(200, "1.41", "[]"),
    })
}

fn small(app: &SmallApp, telegram: &Telegram, more: &str) -> String {
    format!(
        r#"
tick = "100ms"
timeout = "500ms"
state = "state.db"
{more}
[telegram]
bot_token = "{TOKEN}"
chat_id = "42"
api_base = "{}"
[app]
metrics_url = "{}"
down_after = 2
[host]
enabled = false
[docker]
enabled = false
"#,
        telegram.base_url(),
        app.url()
    )
}

#[test]
fn after_fifty_reloads_no_thread_file_or_beat_of_the_old_configurations_is_left() {
    let (telegram, app, engine) = (Telegram::start(), SmallApp::start(), engine());
    let (hung, switch) = (http::Peer::start(Manner::Hang), http::Peer::start(Manner::answer("200 OK", "")));
    let dir = tempfile::tempdir().unwrap();
    let rest = small(&app, &telegram, &format!("heartbeat_url = \"{}\"", switch.url()));
    let rest = rest.replace("[docker]\nenabled = false", "");
    let more = format!(
        r#"
[docker]
socket = "{}"
[[probe]]
name = "hung"
target = "{}"
interval = "200ms"
timeout = "300ms"
[[probe]]
name = "command"
type = "exec"
command = ["sleep", "0.1"]
interval = "200ms"
"#,
        engine.socket().display(),
        hung.url()
    );
    configure(dir.path(), &format!("{rest}{more}"));
    let daemon = Daemon::start(dir.path());
    daemon.wait_pass();
    reload(&daemon, 1);
    wait("the first old threads to end", || (count(&belongings(&daemon).0, "docker-events") == 1).then_some(()));
    let (before, files) = belongings(&daemon);
    for times in 2..=RELOADS {
        reload(&daemon, times);
    }
    let named = |threads: &[String]| threads.iter().filter(|name| *name != "probe").cloned().collect::<Vec<_>>();
    // How many workers look at this instant depends on the instant; that they are few does not.
    let (mut last, mut open) = (Vec::new(), 0);
    let settled = std::time::Instant::now() + SOON;
    while std::time::Instant::now() < settled {
        (last, open) = belongings(&daemon);
        if named(&last) == named(&before) && count(&last, "probe") <= 5 && open <= files + 6 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(named(&last), named(&before));
    assert!(count(&last, "probe") <= 5, "{last:?}");
    assert!(open <= files + 6, "{open} open files, {files} before");
    assert_eq!(switch.connections(), 1, "the dead-man's switch is fetched at most once a minute");
    daemon.terminate();
}

fn count(threads: &[String], name: &str) -> usize {
    threads.iter().filter(|thread| *thread == name).count()
}

#[test]
fn what_a_reload_cannot_change_is_named() {
    let (telegram, app) = (Telegram::start(), SmallApp::start());
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &small(&app, &telegram, ""));
    let daemon = Daemon::start(dir.path());
    daemon.wait_pass();
    let more = "log = \"debug\"\ncooldown = \"2h\"";
    configure(dir.path(), &small(&app, &telegram, more).replace("state.db", "other.db"));
    reload(&daemon, 1);
    let told = lines_of_history(&daemon, "reloaded").remove(0);
    assert!(told.ends_with("restart for the new value of state, log"), "{told}");
    assert!(daemon.stderr().contains(&told), "{}", daemon.stderr());
    configure(dir.path(), &small(&app, &telegram, ""));
    reload(&daemon, 2);
    assert_eq!(lines_of_history(&daemon, "reloaded").remove(0), "the configuration was read again");
    configure(dir.path(), &small(&app, &telegram, "").replace("[host]", "[serve]\ntoken = \"short\"\n[host]"));
    daemon.signal(Signal::HUP);
    daemon.wait_state("config/reload", "firing");
    daemon.terminate();
}

#[test]
fn switched_off_and_on_by_reload_an_open_alert_is_neither_forgotten_nor_repeated() {
    let (telegram, app) = (Telegram::start(), SmallApp::start());
    let dir = tempfile::tempdir().unwrap();
    let on = small(&app, &telegram, "");
    configure(dir.path(), &on);
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("app/down", "ok");
    app.down(true);
    telegram.wait_delivered(1, SOON);
    configure(dir.path(), &small(&app, &telegram, "enabled = false"));
    reload(&daemon, 1);
    assert_eq!(daemon.status()["enabled"], false);
    assert_eq!(daemon.status()["signals"].as_array().unwrap().len(), 0);
    daemon.wait_pass();
    let asked = app.asked();
    daemon.wait_pass();
    assert_eq!(app.asked(), asked, "switched off it looks at nothing");
    assert_eq!(daemon.get("/readyz").status, 200);
    configure(dir.path(), &on);
    reload(&daemon, 2);
    daemon.wait_state("app/down", "firing");
    daemon.wait_pass();
    assert_eq!(telegram.delivered().len(), 1, "{:?}", telegram.delivered());
    app.down(false);
    let told = telegram.wait_delivered(2, SOON);
    assert!(told[1].text.starts_with("🟢") && told[1].reply_to == Some(told[0].message_id), "{told:?}");
    daemon.terminate();
    assert_eq!(telegram.delivered().len(), 2, "{:?}", telegram.delivered());
}
