//! The real daemon reads its configuration again: nothing of the old one stays behind, and what a
//! reload cannot change it says.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::daemon::{Daemon, SOON, wait};
use crate::peer::docker::{self, CHUNKED, Reply};
use crate::peer::http::{self, Manner};
use crate::peer::small_app::SmallApp;
use crate::peer::telegram::{Answer, Telegram};
use crate::setup::Setup;

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

fn small(app: &SmallApp, telegram: &Telegram) -> Setup {
    let setup = Setup::new("100ms").set("timeout", "500ms").telegram(telegram);
    setup.set("app.metrics_url", app.url()).set("app.down_after", 2)
}

#[test]
fn after_fifty_reloads_no_thread_file_or_beat_of_the_old_configurations_is_left() {
    let (telegram, app, engine) = (Telegram::start(), SmallApp::start(), engine());
    let (hung, switch) = (http::Peer::start(Manner::Hang), http::Peer::start(Manner::answer("200 OK", "")));
    let dir = tempfile::tempdir().unwrap();
    let probes = format!(
        r#"[[probe]]
name = "hung"
target = "{}"
interval = "200ms"
timeout = "300ms"
[[probe]]
name = "command"
type = "exec"
command = ["sleep", "0.1"]
interval = "200ms""#,
        hung.url()
    );
    let all = small(&app, &telegram).set("heartbeat_url", switch.url()).set("docker.enabled", true);
    all.set("docker.socket", engine.socket().display().to_string()).block(&probes).write(dir.path());
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
    let all = || format!("nothing more to be left than {before:?} and {files} files: {:?}", belongings(&daemon));
    wait(all, || {
        let (last, open) = belongings(&daemon);
        (named(&last) == named(&before) && count(&last, "probe") <= 5 && open <= files + 6).then_some(())
    });
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
    let setup = small(&app, &telegram);
    setup.write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_pass();
    setup.clone().set("log", "debug").set("cooldown", "2h").set("state", "other.db").write(dir.path());
    reload(&daemon, 1);
    let told = lines_of_history(&daemon, "reloaded").remove(0);
    assert!(told.ends_with("restart for the new value of state, log"), "{told}");
    assert!(daemon.stderr().contains(&told), "{}", daemon.stderr());
    setup.write(dir.path());
    reload(&daemon, 2);
    assert_eq!(lines_of_history(&daemon, "reloaded").remove(0), "the configuration was read again");
    setup.set("serve.token", "short").write(dir.path());
    daemon.signal(Signal::HUP);
    daemon.wait_state("config/reload", "firing");
    daemon.terminate();
}

#[test]
fn switched_off_and_on_by_reload_an_open_alert_is_neither_forgotten_nor_repeated() {
    let (telegram, app) = (Telegram::start(), SmallApp::start());
    let dir = tempfile::tempdir().unwrap();
    let on = small(&app, &telegram);
    on.write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("app/down", "ok");
    app.down(true);
    telegram.wait_delivered(1, SOON);
    on.clone().set("enabled", false).write(dir.path());
    reload(&daemon, 1);
    assert_eq!(daemon.status()["enabled"], false);
    assert_eq!(daemon.status()["signals"].as_array().unwrap().len(), 0);
    daemon.wait_pass();
    let asked = app.asked();
    daemon.wait_pass();
    assert_eq!(app.asked(), asked, "switched off it looks at nothing");
    assert_eq!(daemon.get("/readyz").status, 200);
    on.write(dir.path());
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

#[test]
fn ten_reloads_during_an_outage_of_the_chat_ask_it_no_more_often_than_none_would() {
    let (telegram, app) = (Telegram::start(), SmallApp::start());
    let dir = tempfile::tempdir().unwrap();
    small(&app, &telegram).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("app/down", "ok");
    // Back off: 1 s, 1 to 2 s, 2 to 4 s, …
    telegram.script(std::iter::repeat_n(Answer::Page(502), 40));
    let began = Instant::now();
    app.down(true);
    telegram.wait_for(1, SOON);
    for times in 1..=10 {
        reload(&daemon, times);
    }
    let asked = telegram.requests().len();
    let most = 1 + began.elapsed().as_secs().max(1).ilog2() as usize + 1;
    assert!(asked <= most, "asked {asked} times in {:?}, at most {most} expected", began.elapsed());
    daemon.terminate();
}

#[test]
fn ten_reloads_do_not_shorten_the_wait_that_the_chat_asked_for() {
    let (telegram, app) = (Telegram::start(), SmallApp::start());
    let dir = tempfile::tempdir().unwrap();
    small(&app, &telegram).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("app/down", "ok");
    telegram.script([Answer::RateLimit { body: Some(300), header: None }]);
    app.down(true);
    telegram.wait_for(1, SOON);
    for times in 1..=10 {
        reload(&daemon, times);
    }
    daemon.wait_pass();
    assert_eq!(telegram.requests().len(), 1, "{:?}", telegram.requests());
    assert_eq!(telegram.delivered().len(), 0);
    daemon.signal(Signal::TERM);
}

#[test]
fn the_chat_keeps_its_pace_however_often_the_configuration_is_read_again() {
    let (telegram, app) = (Telegram::start(), SmallApp::start());
    let dir = tempfile::tempdir().unwrap();
    small(&app, &telegram).set("app.down_after", 1).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("app/down", "ok");
    let mut times = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        app.down(times % 2 == 0);
        times += 1;
        reload(&daemon, times);
    }
    let requests = telegram.requests();
    let close = requests.windows(2).filter(|pair| pair[1].at - pair[0].at < Duration::from_millis(900)).count();
    assert!(
        requests.len() > 1 && close == 0,
        "{close} of {} requests within a second of the one before",
        requests.len()
    );
    daemon.signal(Signal::TERM);
}

#[test]
fn a_deleted_topic_is_told_once_with_what_to_do_and_as_over_when_it_takes_messages_again() {
    let (telegram, app) = (Telegram::start(), SmallApp::start());
    let dir = tempfile::tempdir().unwrap();
    small(&app, &telegram).set("telegram.thread_id", 42).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("app/down", "ok");
    telegram.script(std::iter::repeat_n(Answer::NoTopic(400, "Bad Request: message thread not found"), 3));
    app.down(true);
    let told = telegram.wait_delivered(2, SOON);
    assert!(told.iter().all(|message| message.thread.is_none()), "{told:?}");
    let about = &told[1].text;
    assert!(about.contains("channel/telegram/place") && about.contains("set telegram.thread_id"), "{about}");
    daemon.wait_state("channel/telegram/place", "firing");
    // A reload tries the topic again with the next message, and the signal ends when it works.
    reload(&daemon, 1);
    app.down(false);
    let told = telegram.wait_delivered(4, SOON);
    assert!(told[2..].iter().all(|message| message.thread == Some(42)), "{told:?}");
    assert!(told[3].text.starts_with("🟢") && told[3].text.contains("channel/telegram/place"), "{told:?}");
    daemon.terminate();
    assert_eq!(telegram.delivered().len(), 4);
}

/// An engine whose containers can be seen and whose stream of events ends as soon as it is opened.
fn engine_without_events() -> docker::Peer {
    docker::Peer::start(|path| match path {
        "/_ping" => docker::json(200, "1.41", "OK"),
        _ if path.contains("/events?") => docker::json(500, "1.41", "{\"message\":\"no\"}"),
        _ => docker::json(200, "1.41", "[]"),
    })
}

#[test]
fn ten_reloads_open_the_stream_of_events_no_more_often_than_none_would() {
    let engine = engine_without_events();
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new("100ms").set("docker.enabled", true);
    setup.set("docker.socket", engine.socket().to_str().unwrap()).write(dir.path());
    let began = Instant::now();
    let daemon = Daemon::start(dir.path());
    wait("the third try", || (engine.count("/events?") >= 3).then_some(()));
    for times in 1..=10 {
        reload(&daemon, times);
    }
    // Waits of 0.5 s, 1 s, 2 s, …
    let most = 1 + (began.elapsed().as_millis() / 500 + 1).ilog2() as usize;
    let asked = engine.count("/events?");
    assert!(asked <= most, "asked {asked} times in {:?}, at most {most} expected", began.elapsed());
    daemon.terminate();
}

#[test]
fn ten_reloads_ask_a_consul_that_fails_no_more_often_than_none_would() {
    let consul = http::Peer::start(Manner::answer("500 Internal Server Error", "no leader"));
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new("100ms").set("consul.address", consul.url());
    setup.block("[[node]]\nname = \"n1\"\nexecutor = \"none\"\n").write(dir.path());
    let daemon = Daemon::start(dir.path());
    let asked = || consul.heard().iter().filter(|head| head.contains("recurse")).count();
    // The fourth try is followed by a wait of 4 s, those after it by 5 s.
    wait("the fourth try", || (asked() >= 4).then_some(()));
    let (before, began) = (asked(), Instant::now());
    for times in 1..=10 {
        reload(&daemon, times);
    }
    let most = before + 1 + usize::try_from(began.elapsed().as_secs() / 4).unwrap();
    assert!(asked() <= most, "asked {} times in {:?}, at most {most} expected", asked() - before, began.elapsed());
    // The reason is known from the first pass on, although nobody was asked again.
    daemon.wait_pass();
    let status = daemon.status();
    let source = status["signals"].as_array().unwrap().iter().find(|signal| signal["key"] == "source/consul").cloned();
    assert!(source.unwrap()["detail"].as_str().unwrap().contains("500"), "{status}");
    daemon.terminate();
}
