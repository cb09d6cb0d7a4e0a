//! The application source against a real socket: what it asks, what it makes of every kind of
//! answer, and what the core says about it.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use watchdog::clock::Clock;
use watchdog::config::{Config, ConfigError};
use watchdog::core::edge::{Edge, EdgeKind};
use watchdog::core::signal::{Answer as Seen, Reading, Report, State};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::core::watch::{Policy, Watch};
use watchdog::source::{Ask, Outfit, Source, app};
use watchdog::wake::Waker;

use crate::peer::app::{Answer, Peer, json, metrics};

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
    let outfit = Outfit {
        clock: clock.clone(),
        waker: Waker::new(),
        timeout: Duration::from_secs(2),
        tick: TICK,
        previous_boot: None,
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
        let policy = Policy { cooldown: Duration::from_secs(3600), tick: TICK, warm_up: true, confirm_at_once: false };
        World { source, watch: Watch::new(policy), hand, clock }
    }

    fn look(&mut self) -> Report {
        let ask = Ask { now: self.clock.now(), fresh_since: self.watch.fresh_since(), once: false };
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
        let answer = Seen { source: Arc::from("app"), at: now.mono, outcome: Ok(report) };
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
    assert!(!head.to_lowercase().contains("accept-encoding"), "nothing may be compressed: {head}");
}

#[test]
fn each_failed_job_is_told_and_a_stuck_agent_once() {
    let peer = Peer::new(vec![json(ENVELOPE)]);
    let mut world = World::new(&peer.url(), JOB_AND_AGENT);
    let mut at = 1_750_000_000.0;
    let mut pass = |world: &mut World, failed, agents: &[(&str, u32)]| {
        at += 15.0;
        peer.say(envelope(at, failed, agents));
        world.tick()
    };
    for ticks in [100, 101, 102] {
        assert_eq!(pass(&mut world, 0, &[("a1", ticks), ("b2", ticks)]), []);
    }
    let edges = pass(&mut world, 2, &[("a1", 103), ("b2", 103)]);
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/job-failed", "/queue/counts/failed is 2 (rose from 0 to 2)")]);
    let edges = pass(&mut world, 3, &[("a1", 104), ("b2", 104)]);
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/job-failed", "/queue/counts/failed is 3 (rose from 2 to 3)")]);
    // A count that is cleared away is no failure.
    assert_eq!(pass(&mut world, 0, &[("a1", 105), ("b2", 105)]), []);

    // a1 stands still, b2 works: ten minutes are forty looks.
    let mut edges = Vec::new();
    for look in 0..60 {
        edges.extend(pass(&mut world, 0, &[("a1", 105), ("b2", 106 + look)]));
        if look < 38 {
            assert_eq!(edges, [], "look {look}");
        }
    }
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/agent-stuck/a1", "cpu_ticks is 105")]);
    assert_eq!(world.states()["app/agent-stuck/b2"], State::Ok);

    // It ends: what was open about it is closed, and the other one goes without a word.
    let edges = pass(&mut world, 0, &[]);
    assert_eq!(told(&edges), [(EdgeKind::Recovery, "app/agent-stuck/a1", "it is no longer reported")]);
    assert!(!world.states().keys().any(|key| key.starts_with("app/agent-stuck")));
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
    assert_eq!(report.blind.as_deref(), Some("stale: generated_at has stood at 2025-06-15T15:06:40Z for 3 looks"));
    let seen = readings(&report);
    assert_eq!(seen["app/down"].0, Reading::Up);
    assert_eq!(seen["app/job-failed"].0, Reading::Unknown);
    assert_eq!(seen["app/agent-stuck/a1"].0, Reading::Unknown);
    assert!(report.observations.iter().all(|o| o.seen_at >= first));

    // Nothing stalls while nothing is seen, however long it lasts: only the blindness is told.
    let edges = world.ticks(80);
    let kinds: Vec<(EdgeKind, &str)> = edges.iter().map(|e| (e.kind, e.key.as_str())).collect();
    assert_eq!(kinds, [(EdgeKind::Alert, "source/app")]);
    peer.say(envelope(1_750_001_000.0, 0, &[("a1", 100)]));
    let edges = world.tick();
    assert_eq!(told(&edges), [(EdgeKind::Recovery, "source/app", "it sees")]);
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
        (Answer::Whole(500, "text/plain", b"a 1".to_vec()), "answers 500"),
        (Answer::Whole(404, "text/plain", b"a 1".to_vec()), "answers 404"),
        (Answer::Whole(401, "text/plain", Vec::new()), "check app.authorization"),
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
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/queue", "/queue/counts/queued is 3")]);
    let address = peer.address;
    drop(peer);
    assert_eq!(world.ticks(2), []);
    let edges = world.tick();
    let words = format!("{address}: connection refused by {address}");
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

#[test]
fn a_metrics_page_feeds_thresholds_rises_and_absence() {
    let rules = r#"
[[app.rule]]
name = "errors"
value = 'http_requests_total{code="500",method!="GET"}'
when = "increases"
[[app.rule]]
name = "latency"
value = "latency_seconds{quantile='0.99'}"
when = ">= 0.5"
[[app.rule]]
name = "worker"
value = "worker_up"
when = "absent"
"#;
    let page = |errors: u32, latency: &str, worker: &str| {
        metrics(&format!(
            "# TYPE http_requests_total counter\nhttp_requests_total{{code=\"500\",method=\"POST\"}} {errors}\n\
             http_requests_total{{code=\"500\",method=\"PUT\",}} 7 1700000000000\n\
             http_requests_total{{code=\"500\",method=\"GET\"}} 1e9\nhttp_requests_total{{code=\"200\",method=\"POST\"}} 5\n\
             latency_seconds{{quantile=\"0.5\"}} 9\nlatency_seconds{{quantile=\"0.99\"}} {latency}\n{worker}"
        ))
    };
    let peer = Peer::new(vec![page(1, "0.1", "worker_up 1\n")]);
    let mut world = World::new(&peer.url(), rules);
    assert_eq!(world.ticks(2), []);
    assert!(peer.asked()[0].to_lowercase().contains("accept: text/plain;version=0.0.4"), "{}", peer.asked()[0]);

    peer.say(page(3, "0.5", "worker_up 0\n"));
    let edges = world.tick();
    let sum = "http_requests_total{code=\"500\",method!=\"GET\"} is 10 (the sum of 2 series) (rose from 8 to 10)";
    let slow = "latency_seconds{quantile='0.99'} is 0.5";
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/errors", sum), (EdgeKind::Alert, "app/latency", slow)]);

    // A restart sets the counter back: what it counts from there is a rise. Not-a-number is unknown.
    peer.say(page(0, "NaN", ""));
    let edges = world.tick();
    let restarted = "http_requests_total{code=\"500\",method!=\"GET\"} is 7 (the sum of 2 series) (rose from 0 to 7)";
    assert_eq!(
        told(&edges),
        [(EdgeKind::Alert, "app/errors", restarted), (EdgeKind::Alert, "app/worker", "worker_up is not reported")]
    );
    assert_eq!(world.states()["app/latency"], State::Unknown);
    peer.say(page(0, "0.4999", "worker_up 1\n"));
    let edges = world.ticks(2);
    let over: Vec<_> = edges.iter().map(|e| (e.kind, e.key.as_str())).collect();
    assert_eq!(over, [(EdgeKind::Recovery, "app/latency"), (EdgeKind::Recovery, "app/worker")]);
}

#[test]
fn a_series_that_goes_away_is_no_restart_of_the_counter() {
    let rule = "[[app.rule]]\nname = \"errors\"\nvalue = \"errors_total\"\nwhen = \"increases\"";
    let peer = Peer::new(vec![metrics("errors_total{pod=\"a\"} 5\nerrors_total{pod=\"b\"} 7\n")]);
    let mut world = World::new(&peer.url(), rule);
    assert_eq!(world.ticks(2), []);
    peer.say(metrics("errors_total{pod=\"b\"} 7\n"));
    assert_eq!(world.ticks(2), []);
    peer.say(metrics("errors_total{pod=\"b\"} 8\n"));
    assert_eq!(world.tick().len(), 1);
}

/// Every form of `when` on every kind of value, judged by the core at the first look.
#[test]
fn every_condition_judges_every_kind_of_value() {
    use State::{Firing as Bad, Ok as Good, Unknown};
    let table: &[(&str, &str, State)] = &[
        ("> 5", "6", Bad),
        ("> 5", "5", Good),
        (">= 5", "5", Bad),
        (">= 5", "4.999999999", Good),
        ("< 1", "0.5", Bad),
        ("< 1", "1", Good),
        ("<= 1", "1", Bad),
        ("<= 1", "1.000001", Good),
        ("< 1", "false", Bad),
        ("< 1", "true", Good),
        ("> 5", "\"6\"", Unknown),
        ("> 5", "null", Unknown),
        ("> 5", "[6]", Unknown),
        ("> 5", "{}", Unknown),
        ("absent", "6", Good),
        ("absent", "\"here\"", Good),
        ("absent", "{}", Good),
        ("absent", "null", Bad),
        ("increases", "6", Good),
        ("increases", "null", Unknown),
        ("stalls", "6", State::Pending),
        ("stalls", "null", Unknown),
    ];
    for (when, value, state) in table {
        let peer = Peer::new(vec![json(&format!("{{\"v\": {value}}}"))]);
        let hold = if *when == "stalls" { "for = \"10m\"" } else { "" };
        let mut world =
            World::new(&peer.url(), &format!("[[app.rule]]\nname = \"r\"\nvalue = \"/v\"\nwhen = \"{when}\"\n{hold}"));
        world.ticks(2);
        assert_eq!(world.states()["app/r"], *state, "{value} {when}");
    }
    for (when, state) in [("> 5", Unknown), ("absent", Bad), ("increases", Unknown)] {
        let peer = Peer::new(vec![json("{\"other\": 1}")]);
        let mut world =
            World::new(&peer.url(), &format!("[[app.rule]]\nname = \"r\"\nvalue = \"/v\"\nwhen = \"{when}\""));
        world.ticks(2);
        assert_eq!(world.states()["app/r"], state, "nothing {when}");
    }
}

#[test]
fn a_clear_value_keeps_it_firing_until_it_is_well_again() {
    let rule = "[[app.rule]]\nname = \"q\"\nvalue = \"/q\"\nwhen = \"> 90\"\nclear = 80\nfor = \"30s\"\nseverity = \"warning\"";
    let peer = Peer::new(vec![json("{\"q\": 95}")]);
    let mut world = World::new(&peer.url(), rule);
    // A warm-up look, the first bad one, and thirty seconds of it.
    let edges = world.ticks(4);
    assert_eq!(told(&edges), [(EdgeKind::Alert, "app/q", "/q is 95")]);
    assert_eq!(edges[0].severity.as_str(), "warning");
    peer.say(json("{\"q\": 85}"));
    assert_eq!(world.ticks(5), []);
    peer.say(json("{\"q\": 80}"));
    assert_eq!(world.ticks(2)[0].kind, EdgeKind::Recovery);
}

#[test]
fn a_list_is_bounded_and_what_cannot_be_named_is_not_lost() {
    let peer = Peer::new(vec![envelope(1.75e9, 0, &[("a", 1), ("b", 1), ("x y", 1)])]);
    let mut world = World::new(&peer.url(), JOB_AND_AGENT);
    let report = world.look();
    assert!(report.complete && readings(&report).contains_key("app/agent-stuck/x_y"), "{report:?}");

    // The same id twice: neither can be told. One that is not named may be b, which is not seen now.
    peer.say(json(r#"{"queue": {"counts": {"failed": 0}}, "agents": [{"run_id": "a", "cpu_ticks": 2}, {"run_id": "a", "cpu_ticks": 3}, {"cpu_ticks": 2}]}"#));
    let report = world.look();
    assert!(!report.complete);
    assert!(report.blind.as_deref().unwrap().contains("no id"), "{report:?}");
    let seen = readings(&report);
    assert_eq!(seen["app/agent-stuck/a"], (Reading::Unknown, "2 objects of /agents have this id"));
    assert_eq!(seen["app/agent-stuck/b"].0, Reading::Unknown);

    let many: Vec<String> = (0..1_200).map(|n| format!("{{\"run_id\": {n}, \"cpu_ticks\": 1}}")).collect();
    peer.say(json(&format!("{{\"queue\": {{\"counts\": {{\"failed\": 0}}}}, \"agents\": [{}]}}", many.join(","))));
    for _ in 0..3 {
        let report = world.look();
        assert_eq!(report.observations.len(), 1_002, "down, job-failed and a thousand agents");
        assert!(report.blind.as_deref().unwrap().contains("more than 1000"), "{:?}", report.blind);
    }
    // Empty and null are lists without agents; a missing list says nothing about them.
    for (list, complete) in
        [("\"agents\": []", true), ("\"agents\": null", true), ("\"x\": 1", false), ("\"agents\": 5", false)]
    {
        peer.say(json(&format!("{{\"queue\": {{\"counts\": {{\"failed\": 0}}}}, {list}}}")));
        assert_eq!(world.look().complete, complete, "{list}");
    }
}

#[test]
fn the_wrong_language_is_unknown_for_that_rule_alone() {
    let rules = "[[app.rule]]\nname = \"j\"\nvalue = \"/a\"\nwhen = \"> 5\"\n[[app.rule]]\nname = \"m\"\nvalue = \"a\"\nwhen = \"> 5\"";
    let peer = Peer::new(vec![json("{\"a\": 1}"), metrics("a 1\n")]);
    let mut world = World::new(&peer.url(), rules);
    let report = world.look();
    assert_eq!(readings(&report)["app/j"].0, Reading::Value(1.0));
    assert_eq!(readings(&report)["app/m"].0, Reading::Unknown);
    let report = world.look();
    assert_eq!(readings(&report)["app/j"].0, Reading::Unknown);
    assert_eq!(readings(&report)["app/m"].0, Reading::Value(1.0));
}

#[test]
fn a_wrong_rule_is_named_by_its_key() {
    let rule = |text: &str| format!("[app]\nmetrics_url = \"http://127.0.0.1:1/\"\n[[app.rule]]\n{text}\n");
    let good = "name = \"ok\"\nvalue = \"/v\"\nwhen = \"> 5\"";
    let table: Vec<(String, &str, &str)> = vec![
        (rule("value = \"/v\"\nwhen = \"> 5\""), "app.rule[0].name", "is missing"),
        (rule("name = \"down\"\nvalue = \"/v\"\nwhen = \"> 5\""), "app.rule[0].name", "choose another"),
        (rule("name = \"a/b\"\nvalue = \"/v\"\nwhen = \"> 5\""), "app.rule[0].name", "letters"),
        (rule(&format!("{good}\n[[app.rule]]\n{good}")), "app.rule[1].name", "taken"),
        (rule("name = \"a\"\nwhen = \"> 5\""), "app.rule[0].value", "is missing"),
        (rule("name = \"a\"\nvalue = \"/v\""), "app.rule[0].when", "no condition"),
        (rule("name = \"a\"\nvalue = \"/v\"\nwhen = \"5\""), "app.rule[0].when", "no condition"),
        (rule("name = \"a\"\nvalue = \"/v\"\nwhen = \"stalls\""), "app.rule[0].for", "is missing"),
        (rule("name = \"a\"\nvalue = \"/v\"\nwhen = \"increases\"\nfor = \"5m\""), "app.rule[0].for", "means nothing"),
        (rule(&format!("{good}\nclear = 6")), "app.rule[0].clear", "bad side"),
        (rule("name = \"a\"\nvalue = \"/v\"\nwhen = \"absent\"\nclear = 6"), "app.rule[0].clear", "threshold"),
        (rule(&format!("{good}\nfail_after = 0")), "app.rule[0].fail_after", "at least 1"),
        (rule(&format!("{good}\nid = \"x\"")), "app.rule[0].id", "without `each`"),
        (rule(&format!("{good}\neach = \"/l\"")), "app.rule[0].id", "is missing"),
        (rule(&format!("{good}\neach = \"l\"\nid = \"x\"")), "app.rule[0].each", "not a JSON pointer"),
        (rule("name = \"a\"\nvalue = \"up{a=~'b'}\"\nwhen = \"> 5\""), "app.rule[0].value", "patterns"),
        (rule("name = \"a\"\nvalue = \"up down\"\nwhen = \"> 5\""), "app.rule[0].value", "not the name"),
        (
            rule(
                "name = \"a\"\nvalue = \"/l/0/v\"\nwhen = \"> 5\"\n[[app.rule]]\nname = \"b\"\neach = \"/l\"\nid = \"x\"\nvalue = \"y\"\nwhen = \"> 5\"",
            ),
            "app.rule[0].value",
            "points into a list",
        ),
        (rule(good).replace("[[", "format = \"prometheus\"\n[["), "app.rule[0].value", "is a JSON pointer"),
        (
            rule("name = \"a\"\nvalue = \"up\"\nwhen = \"> 5\"").replace("[[", "format = \"json\"\n[["),
            "app.rule[0].value",
            "no JSON pointer",
        ),
        (format!("[[app.rule]]\n{good}"), "app.rule[0]", "app.metrics_url"),
        ("[app]\nmetrics_url = \"app:80\"".to_string(), "app.metrics_url", "not an http"),
        ("[app]\nmetrics_url = \"http://u:p@app/\"".to_string(), "app.metrics_url", "app.authorization"),
        ("[app]\nmetrics_url = \"http://app/\"\ndown_after = 0".to_string(), "app.down_after", "at least 1"),
        ("[app]\nmetrics_url = \"http://app/\"\nstale_after = 0".to_string(), "app.stale_after", "at least 1"),
        ("[app]\nmetrics_url = \"http://app/\"\ntimeout = \"1ms\"".to_string(), "app.timeout", "between"),
        (
            "[app]\nmetrics_url = \"http://app/\"\nheaders = { \"a b\" = \"c\" }".to_string(),
            "app.headers.a b",
            "not a header",
        ),
    ];
    for (toml, key, words) in table {
        let Err(error) = source(&toml, &Clock::system()) else { panic!("accepted: {toml}") };
        assert_eq!(error.problems[0].key, key, "{error}");
        assert!(error.problems[0].what.contains(words), "{toml}\n{error}");
        assert!(!error.to_string().contains("u:p"), "{error}");
    }
    assert!(source("", &Clock::system()).unwrap().is_none());
    assert!(source("[app]\ndown_after = 5", &Clock::system()).unwrap().is_none());
}

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
