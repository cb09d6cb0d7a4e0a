//! What a person asks in a terminal: `status` at eighty columns, `why` and `history` by a name, a part of one, and an
//! incident that is over.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use crate::daemon::{Daemon, SOON, run, wait, watchdog};
use crate::peer::telegram::Telegram;
use crate::setup::Setup;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asks the daemon with its page where it is; a terminal of eighty columns.
fn ask(dir: &Path, daemon: &Daemon, arguments: &[&str]) -> Output {
    let listen = format!("listen={}", daemon.page().trim_start_matches("http://"));
    watchdog(dir).args(["--set", &listen]).args(arguments).env("COLUMNS", "80").output().unwrap()
}

#[test]
fn what_is_not_ok_comes_first_and_everything_fits_eighty_columns() {
    let dir = tempfile::tempdir().unwrap();
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let long = "a-name-that-goes-on-for-longer-than-anybody-would-like-to-read-it-in-a-terminal-at-night";
    let deps = [
        format!("{long}=http://127.0.0.1:1/health/of/the/whole/shop"),
        format!("db=tcp://{}", there.local_addr().unwrap()),
    ];
    Setup::new("100ms").set("instance", "web-1").set("deps", deps.as_slice()).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state(&format!("probe/{long}"), "firing");
    daemon.wait_state("probe/db", "ok");
    let set = run(
        dir.path(),
        &["silence", "probe/a-name*", "--for", "2h", "--reason", "a move that takes long and is told at length"],
    );
    assert!(set.status.success(), "{}", text(&set));
    daemon.wait_pass();
    for arguments in [&["status"][..], &["status", "--all"], &["why", long], &["silences"]] {
        let output = ask(dir.path(), &daemon, arguments);
        let shown = text(&output);
        let wide: Vec<&str> = shown.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty() || arguments == ["silences"], "{arguments:?}: {wide:#?}\n{shown}");
    }
    let shown = text(&ask(dir.path(), &daemon, &["status"]));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("web-1: 1 firing, 0 unknown"), "{shown}");
    assert!(lines[1].starts_with("firing   a-name-that"), "{shown}");
    assert!(shown.contains("silenced until") && !shown.contains("probe/db"), "{shown}");
    assert!(shown.contains("1 signal and ") && shown.contains("`watchdog status --all` shows them"), "{shown}");
    let all = text(&ask(dir.path(), &daemon, &["status", "--all"]));
    assert!(
        all.contains("ok       probe/db · ") && all.contains("self-checks (") && all.contains("source/probe"),
        "{all}"
    );
    assert_eq!(all.matches("source/probe").count(), 1, "self-checks take one line: {all}");
    daemon.terminate();
}

#[test]
fn a_signal_is_found_by_a_part_of_its_name_and_an_incident_also_when_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = there.local_addr().unwrap();
    let deps =
        [format!("shop-db=tcp://{address}"), format!("shop-cache=tcp://{address}"), format!("mail=tcp://{address}")];
    Setup::new("100ms").set("deps", deps.as_slice()).write(dir.path());
    let daemon = Daemon::start(dir.path());
    daemon.wait_state("probe/shop-db", "ok");
    daemon.wait_state("probe/mail", "ok");
    drop(there);
    daemon.wait_state("probe/shop-db", "firing");
    let incident = daemon.status()["signals"].as_array().unwrap().iter().find(|s| s["key"] == "probe/shop-db").unwrap()
        ["incident"]
        .as_str()
        .unwrap()
        .to_string();
    daemon.wait_pass();
    let why = text(&ask(dir.path(), &daemon, &["why", "mail"]));
    assert!(why.starts_with("probe/mail is "), "{why}");
    let several = ask(dir.path(), &daemon, &["why", "shop"]);
    assert_eq!(several.status.code(), Some(1));
    assert!(text(&several).contains("  probe/shop-cache\n  probe/shop-db\n"), "{}", text(&several));
    let open = text(&ask(dir.path(), &daemon, &["why", &incident]));
    for words in [
        "probe/shop-db is firing",
        "next reminder in ",
        "watchdog silence 'probe/shop-db' --for 2h",
        "watchdog history",
    ] {
        assert!(open.contains(words), "{words}: {open}");
    }
    let _there = wait("the port", || TcpListener::bind(address).ok());
    daemon.wait_state("probe/shop-db", "ok");
    // From the daemon, and from what it left in its state file.
    for live in [true, false] {
        let asked =
            |arguments: &[&str]| if live { ask(dir.path(), &daemon, arguments) } else { run(dir.path(), arguments) };
        let over = text(&asked(&["why", &incident]));
        assert!(over.contains(&format!("{incident} was about probe/shop-db; it is over")), "{over}");
        assert!(over.contains("recovery: ") && over.contains("probe/shop-db is ok"), "{over}");
        let history = text(&asked(&["history", &incident]));
        assert!(
            history.contains("alert") && history.contains("recovery") && !history.contains("probe/mail"),
            "{history}"
        );
    }
    let none = ask(dir.path(), &daemon, &["why", "#zzzzzz"]);
    assert!(
        none.status.code() == Some(1) && text(&none).contains("no incident #zzzzzz is open or in the log"),
        "{}",
        text(&none)
    );
    daemon.terminate();
}

#[test]
fn a_message_ends_with_a_link_to_the_page_of_its_signal_when_people_can_reach_it() {
    let (telegram, dir) = (Telegram::start(), tempfile::tempdir().unwrap());
    let setup = Setup::new("100ms").telegram(&telegram).set("serve.public_url", "https://status.example.org/");
    setup.set("deps", ["shop.db=tcp://127.0.0.1:1"].as_slice()).write(dir.path());
    let daemon = Daemon::start(dir.path());
    let told = telegram.wait_delivered(1, SOON);
    let last = told[0].text.lines().last().unwrap().to_string();
    let path = last.strip_prefix("https://status.example.org").unwrap_or_else(|| panic!("{told:?}"));
    assert!(path == "/signal/probe/shop.db", "{path}");
    let page = daemon.get(path);
    let text = String::from_utf8(page.body).unwrap();
    assert!(page.status == 200 && text.contains("connection refused") && text.contains("How it stands"), "{text}");
    assert_eq!(daemon.get("/signal/probe/nothing").status, 404);
    daemon.terminate();
}
