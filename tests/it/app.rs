//! The application source against a real socket: what it asks, what it makes of every kind of
//! answer, and what the core says about it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on says so by a panic")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use watchdog::clock::Clock;
use watchdog::config::{Config, ConfigError};
use watchdog::core::edge::{Edge, EdgeKind};
use watchdog::core::signal::{Answer as Seen, Reading, Report, State};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::core::watch::{Cooldowns, Policy, Watch};
use watchdog::source::{Ask, Kept, Outfit, Source, app};
use watchdog::wake::Waker;

use crate::peer::app::{Answer, Peer, json, metrics};

mod rules;

/// The envelope of the project's own description, word for word.
const ENVELOPE: &str = r#"{"generated_at": 1750000000.5, "queue": {"counts": {"queued": 3, "failed": 0}}, "agents": [{"run_id": "a1", "cpu_ticks": 100}]}"#;

const JOB_AND_AGENT: &str = r#"
[[app.rule]]
name = "job-failed"
value = "/queue/counts/failed"
when = "increases"
[[app.rule]]
name = "agent-stuck"
each = "/agents"
id = "run_id"
value = "cpu_ticks"
when = "stalls"
for = "10m"
"#;

const START: Now = Now { wall: Wall(1_750_000_000_000), mono: Mono(1_000_000), awake: Mono(1_000_000) };
const TICK: Duration = Duration::from_secs(15);

fn source(toml: &str, clock: &Clock) -> Result<Option<Box<dyn Source>>, ConfigError> {
    source_after(Kept::default(), toml, clock)
}

fn source_after(kept: Kept, toml: &str, clock: &Clock) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let outfit = Outfit {
        clock: clock.clone(),
        waker: Waker::new(),
        timeout: Duration::from_secs(2),
        tick: TICK,
        previous_boot: None,
        seen_before: Arc::default(),
        kept,
    };
    (app::ENTRY.build)(&Config::from_toml(toml)?, &outfit)
}

/// The source, the core and a clock moved by hand.
struct World {
    source: Box<dyn Source>,
    watch: Watch,
    hand: Arc<Mutex<Now>>,
    clock: Clock,
}

impl World {
    fn new(url: &str, rest: &str) -> World {
        let (clock, hand) = Clock::by_hand(START);
        let source = source(&format!("[app]\nmetrics_url = \"{url}\"\n{rest}"), &clock).unwrap().unwrap();
        let policy = Policy {
            cooldown: Cooldowns::all(Duration::from_hours(1)),
            tick: TICK,
            warm_up: true,
            confirm_at_once: false,
        };
        World { source, watch: Watch::new(policy), hand, clock }
    }

    /// The settings are read again, which makes a new source.
    fn reload(&mut self, url: &str, rest: &str) {
        let kept = Kept::new(self.watch.kept_for_sources(), Some(self.clock.now().mono), true);
        let toml = format!("[app]\nmetrics_url = \"{url}\"\n{rest}");
        self.source = source_after(kept, &toml, &self.clock).unwrap().unwrap();
    }

    fn look(&mut self) -> Report {
        let ask = Ask {
            now: self.clock.now(),
            fresh_since: self.watch.fresh_since(),
            hurry_since: Mono(i64::MIN),
            once: false,
        };
        self.source.observe(&ask).unwrap()
    }

    /// One tick later: looks and says what follows.
    fn tick(&mut self) -> Vec<Edge> {
        {
            let mut now = self.hand.lock().unwrap();
            now.wall = Wall(now.wall.0 + 15_000);
            now.mono = now.mono.plus(TICK);
            now.awake = now.awake.plus(TICK);
        }
        let report = self.look();
        let now = self.clock.now();
        let answer = Seen { source: Arc::from("app"), at: now.mono, outcome: Ok(report), details: None };
        self.watch.tick(now, vec![answer]).edges
    }

    fn ticks(&mut self, count: usize) -> Vec<Edge> {
        (0..count).flat_map(|_| self.tick()).collect()
    }

    fn states(&self) -> BTreeMap<String, State> {
        self.watch.standings().map(|s| (s.key.to_string(), s.state)).collect()
    }
}

fn readings(report: &Report) -> BTreeMap<&str, (Reading, &str)> {
    report.observations.iter().map(|o| (o.spec.key.as_str(), (o.reading, o.fact.as_ref()))).collect()
}

fn told(edges: &[Edge]) -> Vec<(EdgeKind, &str, &str)> {
    edges.iter().map(|e| (e.kind, e.key.as_str(), e.fact.as_str())).collect()
}

fn envelope(at: f64, failed: u32, agents: &[(&str, u32)]) -> Answer {
    let agents: Vec<String> =
        agents.iter().map(|(id, ticks)| format!("{{\"run_id\": \"{id}\", \"cpu_ticks\": {ticks}}}")).collect();
    json(&format!(
        "{{\"generated_at\": {at}, \"queue\": {{\"counts\": {{\"queued\": 3, \"failed\": {failed}}}}}, \"agents\": [{}]}}",
        agents.join(", ")
    ))
}

#[test]
fn the_envelope_is_asked_for_and_read_word_for_word() {
    let peer = Peer::new(vec![json(ENVELOPE)]);
    let mut world = World::new(
        &peer.url(),
        &format!("authorization = \"Bearer canary-5\"\nheaders = {{ X-Tenant = \"a\" }}\n{JOB_AND_AGENT}"),
    );
    let report = world.look();
    assert_eq!(
        readings(&report),
        BTreeMap::from([
            ("app/agent-stuck/a1", (Reading::Value(100.0), "cpu_ticks is 100")),
            ("app/down", (Reading::Up, "it answers")),
            ("app/job-failed", (Reading::Value(0.0), "/queue/counts/failed is 0")),
        ])
    );
    assert_eq!((report.complete, &report.blind), (true, &None));
    let parent = &report.observations.iter().find(|o| o.spec.key.as_str() == "app/agent-stuck/a1").unwrap().spec.parent;
    assert_eq!(parent.as_ref().unwrap().as_str(), "app/down");

    let head = peer.asked().remove(0);
    assert!(head.starts_with("GET /metrics HTTP/1.1\r\n"), "{head}");
    let lines: Vec<String> = head.lines().map(str::to_lowercase).collect();
    for line in [
        format!("host: {}", peer.address),
        "accept: application/json,*/*;q=0.1".to_string(),
        "authorization: bearer canary-5".to_string(),
        "x-tenant: a".to_string(),
    ] {
        assert!(lines.contains(&line), "{line} is missing in {head}");
    }
    let is_plain = head.to_lowercase().contains("\naccept-encoding: identity\r\n");
    assert!(is_plain, "nothing may be compressed: {head}");
}

#[test]
fn an_envelope_that_stands_still_is_stale_and_not_healthy() {
    let peer = Peer::new(vec![json(ENVELOPE)]);
    let mut world = World::new(&peer.url(), JOB_AND_AGENT);
    world.tick();
    let first = world.look().observations[0].seen_at;
    let edges = world.tick();
    assert_eq!(edges, []);
    let report = world.look();
    // The third and fourth fetch are still; by then it is stale, and only then.
    assert_eq!(report.blind.as_deref(), Some("stale: generated_at has stood at 2025-06-15T15:06:40Z for 3 readings"));
    let seen = readings(&report);
    assert_eq!(seen["app/down"].0, Reading::Up);
    assert_eq!(seen["app/job-failed"].0, Reading::Unknown);
    assert_eq!(seen["app/agent-stuck/a1"].0, Reading::Unknown);
    assert!(report.observations.iter().all(|o| o.seen_at >= first));

    // Nothing stalls while nothing is seen, however long it lasts: only the blindness is told.
    let edges = world.ticks(80);
    let kinds: Vec<(EdgeKind, &str)> = edges.iter().map(|e| (e.kind, e.key.as_str())).collect();
    assert_eq!(kinds, [(EdgeKind::Alert, "source/app")]);
    assert_eq!(edges[0].since, Wall(1_750_000_000_500), "stale since the instant that stands in it");
    // To a new source, too, the old envelope is old.
    world.reload(&peer.url(), JOB_AND_AGENT);
    assert_eq!(world.ticks(4), []);
    peer.say(envelope(1_750_001_000.0, 0, &[("a1", 100)]));
    let edges = world.tick();
    assert_eq!(told(&edges), [(EdgeKind::Recovery, "source/app", "it answers")]);
}

#[test]
fn a_repeated_envelope_is_no_new_look() {
    let peer = Peer::new(vec![json(ENVELOPE)]);
    let mut world = World::new(&peer.url(), JOB_AND_AGENT);
    world.tick();
    let first = world.look();
    world.hand.lock().unwrap().mono.0 += 1_000;
    let again = world.look();
    let rules = |report: &Report| {
        report.observations.iter().filter(|o| o.spec.key.as_str() != "app/down").cloned().collect::<Vec<_>>()
    };
    assert_eq!(rules(&first), rules(&again));
    assert_eq!(again.blind, None);
}

#[test]
fn an_envelope_from_the_future_is_invalid() {
    let peer = Peer::new(vec![envelope(1_750_000_061.0, 0, &[])]);
    let mut world = World::new(&peer.url(), JOB_AND_AGENT);
    let report = world.look();
    let why = report.blind.clone().unwrap();
    assert!(why.starts_with("invalid: generated_at is in the future"), "{why}");
    assert_eq!(readings(&report)["app/job-failed"].0, Reading::Unknown);
    peer.say(envelope(1_750_000_059.0, 0, &[]));
    assert_eq!(world.look().blind, None);
}

#[test]
fn whoever_does_not_answer_is_down() {
    let cut = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    let table: Vec<(Answer, &str)> = vec![
        (Answer::Whole(500, "text/plain", b"a 1".to_vec()), "HTTP 500, expected 200–299"),
        (Answer::Whole(404, "text/plain", b"a 1".to_vec()), "HTTP 404, expected"),
        (Answer::Whole(401, "text/plain", Vec::new()), "HTTP 401"),
        (Answer::Whole(302, "text/html", Vec::new()), "redirects are not followed"),
        (cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na 1\n"), ""),
        (cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\na 1\n"), ""),
        (cut("HTTP/1.1 200 OK\r\nContent-"), ""),
        (cut("SSH-2.0-OpenSSH_9.2\r\n"), ""),
        (cut(&format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\na 1\n", "y".repeat(100_000))), ""),
        (cut(""), ""),
        (Answer::Reset, ""),
        (Answer::Hang, "no answer within"),
        (Answer::Slow, "no answer within"),
    ];
    for (answer, words) in table {
        let peer = Peer::new(vec![answer.clone()]);
        let mut world = World::new(&peer.url(), &format!("timeout = \"500ms\"\n{JOB_AND_AGENT}"));
        let began = Instant::now();
        let report = world.look();
        assert!(began.elapsed() < Duration::from_secs(2), "{answer:?} took {:?}", began.elapsed());
        let seen = readings(&report);
        assert_eq!(seen["app/down"].0, Reading::Down, "{answer:?}");
        assert!(seen["app/down"].1.contains(words), "{answer:?}: {}", seen["app/down"].1);
        assert_eq!(seen["app/job-failed"], (Reading::Unknown, "the application does not answer"));
        // A list that was never seen may hold signals of an earlier run: nothing is gone.
        assert_eq!((report.complete, &report.blind), (false, &None));
        assert_eq!(peer.asked().len(), 1, "{answer:?} was asked more than once");
    }
}

#[test]
fn three_failures_in_a_row_are_the_master_alarm_and_the_rules_keep_silent() {
    let peer = Peer::new(vec![json("{\"queue\": {\"counts\": {\"queued\": 3}}}")]);
    let mut world =
        World::new(&peer.url(), "[[app.rule]]\nname = \"queue\"\nvalue = \"/queue/counts/queued\"\nwhen = \"> 2\"");
    let edges = world.ticks(2);
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/queue", "/queue/counts/queued is 3, alert above 2")]);
    let address = peer.address;
    drop(peer);
    assert_eq!(world.ticks(2), []);
    let edges = world.tick();
    let words = format!("connection refused by {address}");
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/down", words.as_str())]);
    // An hour of it: reminders of what fires, not a word about what cannot be seen because of it.
    let edges = world.ticks(241);
    assert!(edges.iter().all(|e| e.kind == EdgeKind::Realert && e.key.as_str() == "app/down"), "{:?}", told(&edges));
    assert_eq!(world.states()["app/queue"], State::Unknown);
}

#[test]
fn an_answer_that_cannot_be_read_blinds_but_is_not_down() {
    let whole = |kind: &'static str, body: &[u8]| Answer::Whole(200, kind, body.to_vec());
    let table: Vec<(Answer, &str)> = vec![
        (whole("text/html", b"<!DOCTYPE html><title>Sign in</title>"), "web page"),
        (whole("text/plain", b"all is well"), "neither a sample"),
        (whole("application/json", b"{\"generated_at\": "), "not valid JSON"),
        (whole("application/json", b"{\"queue\": {\"counts\": {\"failed\": NaN}}}"), "not valid JSON"),
        (whole("application/json", b"{\"queue\": \"\xff\"}"), "not UTF-8"),
        (whole("application/json", b""), "empty"),
        (whole("application/openmetrics-text", b"a 1\n"), "cut"),
        (Answer::Repeated("text/plain", vec![b'\n'; 1024 * 1024], 9), "larger than 8388608 bytes"),
        (Answer::Repeated("text/plain", b"a 1\n".repeat(1_000), 1_001), "more than 1000000 series"),
        (Answer::Repeated("application/json", vec![b'['; 64 * 1024], 100), "not valid JSON"),
        (whole("text/plain", format!("a{{x=\"{}\"}} 1\n", "y".repeat(100_000)).as_bytes()), "longer than 64 KiB"),
    ];
    for (answer, words) in table {
        let peer = Peer::new(vec![answer]);
        let mut world = World::new(&peer.url(), &format!("timeout = \"20s\"\n{JOB_AND_AGENT}"));
        let report = world.look();
        let blind = report.blind.clone().unwrap_or_default();
        assert!(blind.contains(words), "{words}: {report:?}");
        assert!(blind.len() < 200, "{blind}");
        let seen = readings(&report);
        assert_eq!(seen["app/down"].0, Reading::Up, "{words}");
        assert_eq!(seen["app/job-failed"], (Reading::Unknown, blind.as_str()));
    }
}

/// Every form of `when` on every kind of value, judged by the core at the first look.
#[test]
fn a_metadata_address_is_refused_and_not_called_down() {
    let mut world = World::new("http://169.254.169.254/latest", JOB_AND_AGENT);
    let report = world.look();
    assert_eq!(readings(&report)["app/down"].0, Reading::Unknown);
    assert!(report.blind.unwrap().contains("allow_link_local"));
}

/// Peak memory of this process in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Memory is a matter of the whole process, so this test runs again in a process of its own.
#[test]
fn memory_stays_flat_whatever_is_served() {
    const ALONE: &str = "WATCHDOG_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let again = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "app::memory_stays_flat_whatever_is_served", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&again.stdout);
        print!("{words}");
        assert!(again.status.success(), "{words}{}", String::from_utf8_lossy(&again.stderr));
        assert!(words.contains("peak grew by"), "the test did not run: {words}");
        return;
    }
    let peer = Peer::new(vec![metrics("a 1\n")]);
    let rules = format!(
        "timeout = \"20s\"\n[[app.rule]]\nname = \"a\"\nvalue = \"a{{b='c'}}\"\nwhen = \"> 5\"\n{JOB_AND_AGENT}"
    );
    let mut world = World::new(&peer.url(), &rules);
    world.look();
    let before = peak();
    // A million series in eight megabytes, which can be read, and one rule that wants none of them.
    peer.say(Answer::Repeated("text/plain", b"a{b=\"d\"} 1\nc 1\nd 1\ne 1\nf 1\n".repeat(200), 1_000));
    let report = world.look();
    assert_eq!(readings(&report)["app/a"].1, "a{b='c'} is not reported");
    let read = peak();
    for answer in [
        Answer::Repeated("application/json", b"[[],[],[],[]],".repeat(1_000), 600),
        Answer::Repeated("text/plain", vec![b'a'; 1024 * 1024], 1_000),
        Answer::Endless,
        Answer::Repeated("application/json", b"[".repeat(1024 * 1024), 8),
    ] {
        peer.say(answer);
        assert!(world.look().blind.is_some());
    }
    peer.say(Answer::Repeated("application/json", b"[[],[],[],[],[]],".repeat(1_000), 400));
    world.look();
    let after = peak();
    println!("peak grew by {} KiB for a million series and to {} KiB for all", read - before, after - before);
    assert!(after - before <= 24 * 1024, "peak memory grew from {before} to {after} KiB");
}
