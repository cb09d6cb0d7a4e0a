//! Silences on the real program: set over the command socket, kept over restarts, told of when they end.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use watchdog::clock::Clock;
use watchdog::core::time::Wall;
use watchdog::store::Store;

use crate::daemon::{Daemon, run, wait};
use crate::docker_jobs::{Box_, engine, settled};
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::telegram::Telegram;
use crate::repair::Beat;
use crate::setup::Setup;

/// As long as nothing may be told: many ticks.
const PASSES: usize = 10;
const SOON: std::time::Duration = crate::daemon::SOON;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs one command to its end in `dir`: what it said, once it has succeeded.
pub fn done(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

#[test]
fn what_is_silenced_is_not_told_also_over_a_restart_and_is_told_when_the_silence_ends() {
    let (telegram, dir) = (Telegram::start(), tempfile::tempdir().unwrap());
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = there.local_addr().unwrap();
    let setup = Setup::new("100ms").set("instance", "web-1").telegram(&telegram);
    setup.set("deps", [format!("db=tcp://{address}")].as_slice()).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/db", "ok");
    let set = done(dir.path(), &["silence", "probe/*", "--for", "1h", "--reason", "upgrade of the database"]);
    assert!(set.starts_with("probe/* is silenced until "), "{set}");
    drop(there);
    daemon.wait_state("probe/db", "firing");
    (0..PASSES).for_each(|_| daemon.wait_pass());
    daemon.terminate();

    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/db", "firing");
    (0..PASSES).for_each(|_| daemon.wait_pass());
    assert_eq!(telegram.delivered().len(), 0, "{:?}", telegram.delivered());
    let listed = done(dir.path(), &["silences"]);
    assert!(listed.contains("probe/*") && listed.contains("upgrade of the database"), "{listed}");
    let again = done(dir.path(), &["silence", "probe/db", "--for", "30m"]);
    assert!(again.contains("still failing, and not told until then: probe/db"), "{again}");

    done(dir.path(), &["unsilence", "probe/db"]);
    (0..PASSES).for_each(|_| daemon.wait_pass());
    assert_eq!(telegram.delivered().len(), 0, "the other one still covers it");
    let ended = done(dir.path(), &["unsilence", "probe/*"]);
    assert!(ended.contains("1 silence ended"), "{ended}");
    let told = telegram.wait_delivered(1, SOON);
    assert!(told[0].text.starts_with("🔴 web-1 · ") && told[0].text.contains("probe/db"), "{told:?}");
    let _there = TcpListener::bind(address).unwrap();
    let told = telegram.wait_delivered(2, SOON);
    assert!(told[1].text.starts_with("🟢") && told[1].reply_to == Some(told[0].message_id), "{told:?}");
    let history = done(dir.path(), &["history"]);
    assert!(history.contains("silenced") && history.contains("alert not told"), "{history}");
    daemon.terminate();
    assert_eq!(telegram.delivered().len(), 2);
}

#[test]
fn what_was_told_before_a_silence_and_still_fails_at_its_end_is_told_again() {
    let (telegram, dir) = (Telegram::start(), tempfile::tempdir().unwrap());
    let setup = Setup::new("100ms").set("instance", "web-1").telegram(&telegram);
    setup.set("deps", ["db=tcp://127.0.0.1:1"].as_slice()).write(dir.path());
    let daemon = Daemon::start(dir.path());
    telegram.wait_delivered(1, SOON);
    done(dir.path(), &["silence", "probe/db", "--for", "1h"]);
    done(dir.path(), &["silence", "probe/*", "--for", "1h"]);
    done(dir.path(), &["unsilence", "probe/db"]);
    (0..PASSES).for_each(|_| daemon.wait_pass());
    assert_eq!(telegram.delivered().len(), 1, "the other one still covers it");
    done(dir.path(), &["unsilence", "probe/*"]);
    let told = telegram.wait_delivered(2, SOON);
    assert!(told[1].text.contains("probe/db") && told[1].text.contains("no longer silenced"), "{told:?}");
    (0..PASSES).for_each(|_| daemon.wait_pass());
    daemon.terminate();
    assert_eq!(telegram.delivered().len(), 2, "{:?}", telegram.delivered());
}

#[test]
fn what_was_told_before_a_silence_is_told_as_over_within_another_that_lasts_longer() {
    let (telegram, dir) = (Telegram::start(), tempfile::tempdir().unwrap());
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = there.local_addr().unwrap();
    let setup = Setup::new("100ms").telegram(&telegram);
    setup.set("deps", [format!("db=tcp://{address}")].as_slice()).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/db", "ok");
    drop(there);
    telegram.wait_delivered(1, SOON);
    done(dir.path(), &["silence", "probe/db", "--for", "1h"]);
    done(dir.path(), &["silence", "probe/*", "--for", "1h"]);
    done(dir.path(), &["unsilence", "probe/db"]);
    (0..PASSES).for_each(|_| daemon.wait_pass());
    let _there = TcpListener::bind(address).unwrap();
    let told = telegram.wait_delivered(2, SOON);
    assert!(told[1].text.starts_with("🟢"), "{told:?}");
    daemon.terminate();
}

#[test]
fn what_begins_and_ends_in_a_silence_is_never_told() {
    let (telegram, dir) = (Telegram::start(), tempfile::tempdir().unwrap());
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = there.local_addr().unwrap();
    let setup = Setup::new("100ms").telegram(&telegram);
    setup.set("deps", [format!("db=tcp://{address}")].as_slice()).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/db", "ok");
    done(dir.path(), &["silence", "probe/db", "--for", "1h"]);
    drop(there);
    daemon.wait_state("probe/db", "firing");
    let _there = TcpListener::bind(address).unwrap();
    daemon.wait_state("probe/db", "ok");
    done(dir.path(), &["unsilence", "probe/db"]);
    (0..PASSES).for_each(|_| daemon.wait_pass());
    daemon.terminate();
    assert_eq!(telegram.delivered().len(), 0, "{:?}", telegram.delivered());
}

#[test]
fn a_silence_that_cannot_be_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    Setup::new("100ms").write(dir.path());
    let nobody = run(dir.path(), &["silences"]);
    assert!(nobody.status.code() == Some(1) && said(&nobody).contains("is it running"), "{}", said(&nobody));
    let daemon = Daemon::start(dir.path());
    for (arguments, code, words) in [
        (&["silence", "clock/step"][..], 2, "--for"),
        (&["silence", "clock/step", "--for", "40d"], 1, "30 days at most"),
        (&["silence", "clock/step", "--until", "tomorrow"], 2, "is not a time"),
        (&["silence", "probe/nothing", "--for", "1h"], 1, "no signal is called probe/nothing"),
        (&["unsilence", "probe/nothing"], 1, "no silence covers"),
    ] {
        let output = run(dir.path(), arguments);
        assert!(
            output.status.code() == Some(code) && said(&output).contains(words),
            "{arguments:?}: {}",
            said(&output)
        );
    }
    assert!(done(dir.path(), &["silences"]).contains("nothing is silenced"));
    wait("the socket to be private", || {
        use std::os::unix::fs::PermissionsExt as _;
        let meta = std::fs::metadata(dir.path().join("state.db.sock")).ok()?;
        (meta.permissions().mode() & 0o777 == 0o600).then_some(())
    });
    daemon.terminate();
    assert!(!dir.path().join("state.db.sock").exists(), "the end takes the socket along");
    Setup::new("100ms").set("state", "").write(dir.path());
    let stateless = run(dir.path(), &["silences"]);
    assert!(said(&stateless).contains("`state` is not set"), "{}", said(&stateless));
}

#[test]
fn what_fails_in_a_maintenance_window_is_told_when_it_ends_and_every_view_shows_the_window() {
    let (telegram, dir) = (Telegram::start(), tempfile::tempdir().unwrap());
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = there.local_addr().unwrap();
    let now = Clock::system().now().wall;
    // Long enough for the failure to be confirmed within it on a busy machine; the test waits for its end.
    let ends = Wall((now.0 / 1_000 + 20) * 1_000);
    let window = format!(
        "[[maintenance]]\nmatch = \"probe/*\"\nstart = \"{}\"\nend = \"{}\"\nreason = \"move of the database\"\n\
         [[maintenance]]\nmatch = [\"container/*\", \"host/*\"]\ndays = [\"sat\", \"sun\"]\nfrom = \"02:00\"\nto = \"04:00\"\n",
        now.minus(Duration::from_mins(1)).rfc3339(),
        ends.rfc3339()
    );
    let setup = Setup::new("100ms").set("instance", "web-1").telegram(&telegram).block(&window);
    setup.set("deps", [format!("db=tcp://{address}")].as_slice()).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/db", "ok");
    drop(there);
    daemon.wait_state("probe/db", "firing");
    if Clock::system().now().wall < ends.minus(Duration::from_secs(3)) {
        assert_eq!(telegram.delivered().len(), 0, "{:?}", telegram.delivered());
        let status = daemon.status();
        let signal = status["signals"].as_array().unwrap().iter().find(|signal| signal["key"] == "probe/db").unwrap();
        assert_eq!(
            (&signal["silenced"]["by"], &signal["silenced"]["reason"]),
            (&"maintenance".into(), &"move of the database".into())
        );
        let listed = done(dir.path(), &["silences"]);
        assert!(
            listed.contains("probe/*  maintenance until ") && listed.contains("container/*, host/*  next maintenance "),
            "{listed}"
        );
        let metrics = String::from_utf8(daemon.get("/metrics").body).unwrap();
        assert!(
            metrics.contains("watchdog_signal_silenced{key=\"probe/db\"} 1")
                && metrics.contains("watchdog_silences_active 1")
        );
        let page = String::from_utf8(daemon.get("/").body).unwrap();
        assert!(page.contains("silenced until") && page.contains("move of the database"), "{page}");
        let refused = run(dir.path(), &["unsilence", "probe/db"]);
        assert!(refused.status.code() == Some(1) && said(&refused).contains("[[maintenance]]"), "{}", said(&refused));
    }
    let told = telegram.wait_delivered(1, SOON);
    assert!(Clock::system().now().wall >= ends, "not before its end: {told:?}");
    assert!(told[0].text.starts_with("🔴 web-1 · ") && told[0].text.contains("probe/db"), "{told:?}");
    let history = done(dir.path(), &["history"]);
    assert!(history.contains("maintenance until") && history.contains("the maintenance has ended"), "{history}");
    daemon.terminate();
    assert_eq!(telegram.delivered().len(), 1);
}

#[test]
fn what_is_silenced_is_named_once_a_day_and_not_again_after_a_restart() {
    let (telegram, dir) = (Telegram::start(), tempfile::tempdir().unwrap());
    Setup::new("100ms").set("instance", "web-1").set("time_zone", "UTC").telegram(&telegram).write(dir.path());
    let daemon = Daemon::start(dir.path());
    done(dir.path(), &["silence", "*", "--for", "3d", "--reason", "holidays"]);
    daemon.terminate();
    // As if that had been yesterday.
    let now = Clock::system().now();
    let store = Store::open(Some(&dir.path().join("state.db")), now, &watchdog::clock::boot_id()).unwrap().store;
    let kept = store.remembered("silences").unwrap();
    let (name, text) = kept.iter().next().unwrap();
    let today = now.wall.date();
    assert!(text.contains(&format!("\"told_day\":\"{today}\"")), "{text}");
    store.remember("silences", name, &text.replace(&today, "2020-01-01")).unwrap();
    drop(store);
    let daemon = Daemon::start(dir.path());
    let told = telegram.wait_delivered(1, SOON);
    assert!(told[0].text.starts_with("🔵 web-1 · 1 silence is in force\n* until "), "{told:?}");
    assert!(told[0].text.contains("(holidays)") && told[0].text.contains("watchdog unsilence"), "{told:?}");
    (0..PASSES).for_each(|_| daemon.wait_pass());
    daemon.terminate();
    let daemon = Daemon::start(dir.path());
    (0..PASSES).for_each(|_| daemon.wait_pass());
    daemon.terminate();
    assert_eq!(telegram.delivered().len(), 1, "{:?}", telegram.delivered());
}

#[test]
fn a_mistake_in_a_window_is_named_with_its_line_and_a_glob_that_matches_nothing_is_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let window = "[[maintenance]]\nmatch = \"probe/nothing*\"\nfrom = \"02:00\"\nto = \"04:00\"\n";
    Setup::new("100ms").block(window).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_pass();
    daemon.terminate();
    let checked = done(dir.path(), &["config", "check"]);
    assert!(
        checked.contains("note      watchdog.toml:") && checked.contains("\"probe/nothing*\" matches no signal"),
        "{checked}"
    );
    Setup::new("100ms")
        .block(&window.replace("to = \"04:00\"", "to = \"4 am\"\ndays = [\"someday\"]"))
        .write(dir.path());
    let output = run(dir.path(), &["config", "check"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for words in [
        "watchdog.toml:",
        "maintenance[0].to",
        "is not a time of day",
        "maintenance[0].days",
        "is not a day of the week",
    ] {
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
}

#[test]
fn what_is_still_reported_or_unknown_is_not_forgotten_and_says_what_to_do_instead() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new("100ms").set("deps", ["gone=tcp://127.0.0.1:1"].as_slice());
    setup.write(dir.path());
    let nobody = run(dir.path(), &["forget", "probe/gone"]);
    assert!(nobody.status.code() == Some(1) && said(&nobody).contains("is it running"), "{}", said(&nobody));
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/gone", "firing");
    for (key, words) in [
        ("probe/gone", "is still reported (firing) and would come back at once; take it out of [[probe]] or deps"),
        ("probe/nothing", "no signal is called probe/nothing"),
        ("source/probe", "is the watchdog's own check"),
    ] {
        let output = run(dir.path(), &["forget", key]);
        assert!(output.status.code() == Some(1) && said(&output).contains(words), "{key}: {}", said(&output));
    }
    assert_eq!(daemon.state("probe/gone").as_deref(), Some("firing"));
    daemon.terminate();
}

#[test]
fn a_node_that_will_not_return_is_forgotten_and_is_a_new_one_when_it_is_seen_again() {
    if !parts::consul() {
        return;
    }
    let (telegram, dir, consul) = (Telegram::start(), tempfile::tempdir().unwrap(), Consul::dev(Dev::default()));
    let beat = Beat::start(&consul, "n9", "boot-1");
    let setup = Setup::new("100ms").set("instance", "web-1").telegram(&telegram).set("consul.address", consul.url());
    setup.write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("node/n9", "ok");
    let refused = run(dir.path(), &["forget", "node/n9"]);
    assert!(said(&refused).contains("is still reported (OK)"), "{}", said(&refused));
    beat.dies();
    daemon.wait_state("node/n9", "firing");
    let told = telegram.wait_delivered(1, SOON);
    done(dir.path(), &["silence", "node/n9", "--for", "1h"]);
    let forgotten = done(dir.path(), &["forget", "node/n9"]);
    assert!(
        forgotten.contains("node/n9 is forgotten; #") && forgotten.contains("its silence has ended"),
        "{forgotten}"
    );
    let told = [told, telegram.wait_delivered(2, SOON)].concat();
    let last = told.last().unwrap();
    assert!(last.text.starts_with("⚪ web-1 · ") && last.text.contains("was forgotten by a command"), "{told:?}");
    (0..PASSES).for_each(|_| daemon.wait_pass());
    assert_eq!(daemon.state("node/n9"), None, "its source does not bring it back");
    assert!(done(dir.path(), &["silences"]).contains("nothing is silenced"));
    daemon.terminate();
    let daemon = Daemon::start(dir.path());
    (0..PASSES).for_each(|_| daemon.wait_pass());
    assert_eq!(daemon.state("node/n9"), None, "nor does a restart");
    let _beat = Beat::start(&consul, "n9", "boot-2");
    daemon.wait_state("node/n9", "ok");
    daemon.terminate();
}

#[test]
fn a_container_that_had_to_be_there_and_is_gone_for_good_is_forgotten_and_one_that_is_named_is_not() {
    let boxes = settled(&[
        Box_::new(1, "old", "running", 0).required(),
        Box_::new(2, "named", "running", 0),
        Box_::new(3, "other", "running", 0),
    ]);
    let peer = engine(Arc::clone(&boxes), b"", String::new);
    let (telegram, dir) = (Telegram::start(), tempfile::tempdir().unwrap());
    let setup = Setup::new("200ms").set("instance", "web-1").telegram(&telegram).set("docker.enabled", true);
    let setup = setup.set("docker.socket", peer.socket().display().to_string()).set("docker.grace", "1s");
    setup.set("docker.containers", ["named", "*"].as_slice()).write(dir.path());
    let daemon = Daemon::start(dir.path());
    for key in ["container/old", "container/named"] {
        daemon.wait_state(key, "ok");
    }
    boxes.lock().unwrap().truncate(0);
    boxes.lock().unwrap().extend(settled(&[Box_::new(3, "other", "running", 0)]).lock().unwrap().drain(..));
    for key in ["container/old", "container/named"] {
        daemon.wait_state(key, "firing");
    }
    let named = run(dir.path(), &["forget", "container/named"]);
    assert!(named.status.code() == Some(1) && said(&named).contains("docker.containers"), "{}", said(&named));
    let forgotten = done(dir.path(), &["forget", "container/old"]);
    assert!(forgotten.contains("container/old is forgotten"), "{forgotten}");
    (0..PASSES).for_each(|_| daemon.wait_pass());
    assert_eq!(daemon.state("container/old"), None, "its source does not bring it back");
    assert_eq!(daemon.state("container/named").as_deref(), Some("firing"));
    wait("its end to be told", || {
        let told = telegram.delivered();
        told.iter().any(|one| one.text.contains("was forgotten by a command")).then_some(())
    });
    daemon.terminate();
}
