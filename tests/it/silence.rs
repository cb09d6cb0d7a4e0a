//! Silences on the real program: set over the command socket, kept over restarts, told of when they end.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use crate::daemon::{Daemon, run, wait};
use crate::peer::telegram::Telegram;
use crate::setup::Setup;

/// As long as nothing may be told: many ticks.
const PASSES: usize = 10;
const SOON: std::time::Duration = crate::daemon::SOON;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn done(dir: &Path, arguments: &[&str]) -> String {
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
        (&["silence", "probe/nothing", "--for", "1h"], 1, "there is no signal probe/nothing"),
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
