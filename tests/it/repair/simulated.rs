//! A repair that is only simulated, through every way out of the program: each line that speaks of it says so.

use crate::daemon::{Daemon, run, wait, watchdog};
use crate::parts;
use crate::peer::otlp::{Collector, Received, Speech};
use crate::repair::{World, wait_phase};

/// Words that claim a deed, or belong to one.
const DEEDS: [&str; 13] = [
    "switched",
    "accepted",
    "STOP",
    "START",
    "repair of",
    "repairing",
    "repaired",
    "repair began",
    "attempt",
    "ask for",
    "asked for",
    "given up",
    "touched",
];

/// The lines that speak of a repair and do not say that it was simulated.
fn liars(text: &str) -> Vec<&str> {
    let claims = |line: &&str| DEEDS.iter().any(|word| line.contains(word));
    text.lines().filter(claims).filter(|line| !line.contains("simulated")).collect()
}

/// The list items of a page, a line each.
fn items(page: &str) -> String {
    page.split("<li").skip(1).map(|item| item.split("</li>").next().unwrap().replace('\n', " ") + "\n").collect()
}

fn output(world: &World, arguments: &[&str]) -> String {
    String::from_utf8(run(world.path(), arguments).stdout).unwrap()
}

/// Everything that can be read of a daemon at `listen`, by name; an empty one reads what was left.
fn outputs(world: &World, listen: &str) -> Vec<(String, String)> {
    let listen = format!("listen={listen}");
    let commands: [&[&str]; 5] =
        [&["status"], &["why", "node/n1"], &["why", "n1"], &["history", "node/n1"], &["history", "--json"]];
    let read = |command: &&[&str]| {
        let arguments = [&["--set", &listen], *command].concat();
        (arguments.join(" "), output(world, &arguments))
    };
    commands.iter().map(read).collect()
}

fn pages(daemon: &Daemon) -> Vec<(String, String)> {
    let text = |path: &str| String::from_utf8(daemon.get(path).body).unwrap();
    let metrics = text("/metrics");
    let is_real = |line: &&str| line.contains("recovery_actions_total{") && !line.contains("mode=\"observe\"");
    let real: Vec<String> =
        metrics.lines().filter(is_real).map(|line| format!("{line}: switched, and not by observing")).collect();
    let history: serde_json::Value = serde_json::from_str(&text("/api/v1/history")).unwrap();
    let entries = history["entries"].as_array().unwrap();
    let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
    vec![
        ("the page".to_string(), items(&text("/?all"))),
        ("/metrics".to_string(), real.join("\n")),
        ("/api/v1/history".to_string(), entries.join("\n")),
        ("the log".to_string(), daemon.stderr()),
        ("the first screen".to_string(), daemon.stdout()),
    ]
}

fn assert_honest(seen: &[(String, String)]) {
    for (name, text) in seen {
        assert!(!text.is_empty() || name.contains("metrics") || name.contains("log"), "{name} says nothing");
        assert!(liars(text).is_empty(), "{name}: {:#?} in\n{text}", liars(text));
    }
}

/// The JSON of the one target.
fn target(daemon: &Daemon) -> serde_json::Value {
    daemon.status()["targets"][0].clone()
}

#[test]
fn a_simulated_repair_says_so_on_every_line_of_every_way_out() {
    if !parts::consul() {
        return;
    }
    let world = World::new("observe");
    let collector = Collector::start(Speech::Http, false, []);
    let mut command = watchdog(world.path());
    command.args(["--set", "listen=127.0.0.1:0", "--set", "log=debug"]);
    command.envs(collector.variables()).env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let beat = world.beacon("boot-1");
    let daemon = Daemon::start_with(&mut command);
    let listen = daemon.page().trim_start_matches("http://").to_string();
    wait_phase(&daemon, "healthy");
    assert_eq!(target(&daemon)["simulated"], false, "{}", target(&daemon));
    beat.dies();
    wait_phase(&daemon, "waiting");
    assert_eq!(target(&daemon)["simulated"], true, "{}", target(&daemon));
    let metrics = String::from_utf8(daemon.get("/metrics").body).unwrap();
    assert!(metrics.contains("watchdog_target_simulated{target=\"node/n1\"} 1\n"), "{metrics}");
    let reason = target(&daemon)["reason"].to_string();
    assert!(reason.contains("simulated") && !reason.contains("switched;"), "{reason}");
    assert_honest(&[outputs(&world, &listen), pages(&daemon)].concat());
    let _beat = world.beacon("boot-2");
    wait_phase(&daemon, "healthy");
    wait("the end of the story", || world.story().contains("🟢").then_some(()));
    let told = [("the chat".to_string(), world.story())];
    assert_honest(&[outputs(&world, &listen), pages(&daemon), told.to_vec()].concat());
    for words in ["simulated: would stop and start it", "simulated: back on a new boot"] {
        assert!(world.story().contains(words), "{words} in\n{}", world.story());
    }
    let history = output(&world, &["--set", &format!("listen={listen}"), "history", "node/n1"]);
    for words in ["simulated: would ask for STOP", "simulated: the machine would be STOPPED"] {
        assert!(history.contains(words), "{words} in\n{history}");
    }
    let spans = wait("the repair's own span", || {
        let spans: Vec<_> = collector.received().iter().flat_map(Received::spans).collect();
        spans.iter().any(|span| span.name.ends_with("repair")).then_some(spans)
    });
    for span in &spans {
        let marked = span.attributes.iter().any(|attribute| attribute.key == "watchdog.simulated");
        assert!(marked && (span.kind == 3 || span.name.starts_with("simulated ")), "{span:?}");
    }
    daemon.terminate();
    assert_honest(&outputs(&world, ""));
}

#[test]
fn a_simulated_repair_that_is_left_in_the_middle_says_so_without_a_daemon() {
    if !parts::consul() {
        return;
    }
    let world = World::new("observe");
    let beat = world.beacon("boot-1");
    let daemon = Daemon::start(world.path());
    wait_phase(&daemon, "healthy");
    beat.dies();
    wait_phase(&daemon, "waiting");
    daemon.kill();
    let seen = outputs(&world, "");
    assert_honest(&seen);
    assert!(seen[0].1.contains("simulated"), "{}", seen[0].1);
}
