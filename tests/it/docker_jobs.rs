//! Jobs and what is left out: the Docker source against scripted and real engines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use watchdog::client::docker::{Docker, LOG_LIMIT};
use watchdog::clock::Clock;
use watchdog::core::signal::{Reading, Report};
use watchdog::core::time::{Mono, Wall};
use watchdog::source::docker::{DockerSource, Settings};
use watchdog::source::{Ask, Kept, Outfit, Source as _};
use watchdog::wake::Waker;

use crate::engine::{Engine, IMAGE};
use crate::parts;
use crate::peer::docker::{CHUNKED, Peer, Reply, chunk, json};

const LIMIT: Duration = Duration::from_secs(5);

fn source(socket: &Path, own: &[&str], change: impl FnOnce(&mut Settings)) -> (DockerSource, Waker, Clock) {
    source_after(Kept::default(), socket, own, change)
}

fn source_after(
    kept: Kept,
    socket: &Path,
    own: &[&str],
    change: impl FnOnce(&mut Settings),
) -> (DockerSource, Waker, Clock) {
    let mut settings = Settings { socket: socket.display().to_string(), ..Settings::default() };
    change(&mut settings);
    let (clock, waker) = (Clock::system(), Waker::new());
    let outfit = Outfit {
        clock: clock.clone(),
        waker: waker.clone(),
        timeout: LIMIT,
        tick: Duration::from_mins(5),
        previous_boot: None,
        seen_before: Arc::default(),
        kept,
    };
    let own: BTreeSet<String> = own.iter().map(ToString::to_string).collect();
    (DockerSource::new(settings, outfit, own).unwrap(), waker, clock)
}

fn look(source: &mut DockerSource, clock: &Clock) -> Report {
    let ask = Ask { now: clock.now(), fresh_since: Mono(0), hurry_since: Mono(i64::MIN), once: false };
    source.observe(&ask).unwrap()
}

/// What is new about jobs in this report: how often, the fact and the evidence.
fn news(report: &Report) -> Vec<(String, u32, String)> {
    let news = report.observations.iter().filter_map(|seen| match seen.reading {
        Reading::Happened(n) if n > 0 => {
            let evidence = seen.details.as_ref().map(|details| details.evidence.join(" / ")).unwrap_or_default();
            let lead = if evidence.is_empty() { "" } else { ": " };
            Some((seen.spec.key.to_string(), n, format!("{}{lead}{evidence}", seen.fact)))
        }
        _ => None,
    });
    news.collect()
}

fn keys(report: &Report) -> Vec<String> {
    report.observations.iter().map(|seen| seen.spec.key.to_string()).collect()
}

/// One container of a scripted engine.
#[derive(Clone)]
pub struct Box_ {
    id: String,
    name: String,
    state: &'static str,
    exit: i64,
    labels: Vec<(&'static str, &'static str)>,
    config: &'static str,
    host: &'static str,
    finished: Wall,
}

impl Box_ {
    pub fn new(n: u8, name: &str, state: &'static str, exit: i64) -> Box_ {
        Box_ {
            id: format!("{n:064x}"),
            name: name.into(),
            state,
            exit,
            labels: Vec::new(),
            config: "{}",
            host: "{}",
            finished: Clock::system().now().wall,
        }
    }

    pub fn of(mut self, service: &'static str) -> Box_ {
        self.labels.extend([("com.docker.compose.project", "shop"), ("com.docker.compose.service", service)]);
        self
    }

    /// One that its label says must be there.
    pub fn required(mut self) -> Box_ {
        self.labels.push(("watchdog.required", "true"));
        self
    }

    fn once(mut self) -> Box_ {
        self.labels.push(("com.docker.compose.oneoff", "True"));
        self
    }

    fn labels(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(k, v)| format!("\"{k}\":\"{v}\"")).collect();
        format!("{{{}}}", labels.join(","))
    }

    fn listed(&self) -> String {
        let (id, name, state, labels) = (&self.id, &self.name, self.state, self.labels());
        format!(r#"{{"Id":"{id}","Names":["/{name}"],"State":"{state}","Created":1700000000,"Labels":{labels}}}"#)
    }

    fn inspected(&self) -> String {
        let (id, name, state, exit, config, host) =
            (&self.id, &self.name, self.state, self.exit, self.config, self.host);
        let (started, finished) = (self.finished.minus(Duration::from_secs(12)).rfc3339(), self.finished.rfc3339());
        format!(
            r#"{{"Id":"{id}","Name":"/{name}","State":{{"Status":"{state}","ExitCode":{exit},"StartedAt":"{started}",
               "FinishedAt":"{finished}"}},"Config":{config},"HostConfig":{host}}}"#
        )
    }
}

/// An engine with these containers, whose logs all end alike; events are what `events` says, then silence.
pub fn engine(
    boxes: Arc<Mutex<Vec<Box_>>>,
    log: &'static [u8],
    events: impl Fn() -> String + Send + Sync + 'static,
) -> Peer {
    Peer::start(move |path| {
        if path == "/_ping" {
            return json(200, "1.41", "OK");
        }
        let path = path.strip_prefix("/v1.41").expect("the agreed version");
        let boxes = boxes.lock().unwrap().clone();
        if path == "/containers/json?all=1" {
            let all: Vec<String> = boxes.iter().map(Box_::listed).collect();
            return json(200, "1.41", &format!("[{}]", all.join(",")));
        }
        if path.starts_with("/events?") {
            let events = events();
            let pieces = if events.is_empty() { Vec::new() } else { chunk(&events) };
            return Reply::ThenHang([CHUNKED.to_vec(), pieces].concat());
        }
        let rest = path.strip_prefix("/containers/").expect("a container");
        let (id, what) = rest.split_once('/').unwrap();
        let Some(found) = boxes.iter().find(|b| b.id == id) else {
            return json(404, "1.41", "{\"message\":\"No such container\"}");
        };
        match what {
            "json" => json(200, "1.41", &found.inspected()),
            "logs?stdout=1&stderr=1&tail=3" if log == b"403" => json(403, "1.41", "forbidden"),
            "logs?stdout=1&stderr=1&tail=3" => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", log.len());
                Reply::Bytes([head.as_bytes(), log].concat())
            }
            other => panic!("{other}"),
        }
    })
}

const LOG: &[u8] = b"\x01\0\0\0\0\0\0\x06three\n\x02\0\0\0\0\0\0\x0d\x1b[31mtwo\x1b[0m\n\x01\0\0\0\0\0\0\x05fou\x07\n";

pub fn settled(boxes: &[Box_]) -> Arc<Mutex<Vec<Box_>>> {
    Arc::new(Mutex::new(boxes.to_vec()))
}

#[test]
fn a_log_is_read_as_it_was_written_and_never_beyond_its_limit() {
    let peer = engine(settled(&[Box_::new(1, "job", "exited", 3)]), LOG, String::new);
    let mut docker = Docker::new(&peer.socket()).unwrap();
    let id = format!("{:064x}", 1);
    assert_eq!(docker.logs(&id, 3, false, LIMIT).unwrap(), b"three\n\x1b[31mtwo\x1b[0m\nfou\x07\n");
    assert_eq!(docker.logs(&id, 3, true, LIMIT).unwrap(), LOG);
    assert!(docker.logs("../x", 3, true, LIMIT).unwrap_err().to_string().contains("not a container id"));
    let endless = Peer::start(|path| match path {
        "/_ping" => json(200, "1.41", "OK"),
        _ => Reply::Endless(CHUNKED.to_vec(), chunk(&"x".repeat(64 * 1024))),
    });
    let error = Docker::new(&endless.socket()).unwrap().logs("ab", 3, true, Duration::from_secs(20)).unwrap_err();
    assert!(error.to_string().contains(&LOG_LIMIT.to_string()), "{error}");
}

#[test]
fn a_job_that_failed_is_told_once_with_its_last_lines() {
    let boxes = settled(&[
        Box_::new(1, "shop-web-1", "running", 0).of("web"),
        Box_::new(2, "shop-web-run-1", "running", 0).of("web").once(),
    ]);
    let peer = engine(Arc::clone(&boxes), LOG, String::new);
    let (mut source, _, clock) = source(&peer.socket(), &[], |_| {});
    let report = look(&mut source, &clock);
    assert_eq!((keys(&report), news(&report).len()), (vec!["container/shop-web-1".to_string()], 0));
    assert_eq!(report.note.as_deref(), Some("1 container and 1 job"));

    boxes.lock().unwrap()[1] = Box_::new(2, "shop-web-run-1", "exited", 3).of("web").once();
    let report = look(&mut source, &clock);
    let fact = "ended with an error, exit code 3, after 12 s: \"three\" / \"two\" / \"fou\"";
    assert_eq!(news(&report), [("job/shop-web-run-1".to_string(), 1, fact.to_string())]);
    let seen = report.observations.iter().find(|o| o.spec.key.as_str() == "job/shop-web-run-1").unwrap();
    assert_eq!(seen.spec.severity.as_str(), "warning");
    assert_eq!(seen.details.as_ref().unwrap().advice, "docker logs --tail 50 shop-web-run-1");
    for _ in 0..3 {
        let report = look(&mut source, &clock);
        assert!(news(&report).is_empty(), "told once");
        let shown = report.observations.iter().find(|o| o.spec.key.as_str() == "job/shop-web-run-1").unwrap();
        assert!(
            shown.fact.ends_with("; last lines: \"three\" / \"two\" / \"fou\""),
            "and shown for a while: {shown:?}"
        );
    }
    assert_eq!(peer.count("/logs?"), 1);

    // Started again, and failed again.
    boxes.lock().unwrap()[1].state = "running";
    assert!(news(&look(&mut source, &clock)).is_empty());
    let again = Box_ {
        finished: clock.now().wall.plus(Duration::from_secs(1)),
        ..Box_::new(2, "shop-web-run-1", "exited", 127)
    };
    boxes.lock().unwrap()[1] = again.of("web").once();
    let report = look(&mut source, &clock);
    assert!(news(&report)[0].2.contains("exit code 127 (its command was not found)"), "{:?}", news(&report));
}

#[test]
fn what_ended_well_long_ago_or_before_somebodys_eyes_is_no_news() {
    let old = Clock::system().now().wall.minus(Duration::from_mins(11));
    let attended = r#"{"Tty":true,"AttachStdin":true}"#;
    let peer = engine(
        settled(&[
            Box_::new(1, "well", "exited", 0).once(),
            Box_ { finished: old, ..Box_::new(2, "old", "exited", 1) }.once(),
            Box_ { config: attended, ..Box_::new(3, "shell", "exited", 1) }.once(),
            Box_::new(4, "stopped", "exited", 143).once(),
            Box_::new(5, "fresh", "exited", 1).once(),
        ]),
        b"403",
        String::new,
    );
    let (mut source, _, clock) = source(&peer.socket(), &[], |_| {});
    let report = look(&mut source, &clock);
    // It may have been brought up together with the watchdog.
    let fact = "ended with an error, exit code 1, after 12 s; its log cannot be read: HTTP 403: forbidden";
    assert_eq!(news(&report), [("job/fresh".to_string(), 1, fact.to_string())]);
    assert_eq!(peer.count("/json"), 6, "each is asked about once: {:?}", peer.asked());
    look(&mut source, &clock);
    assert_eq!(peer.count("/json"), 7, "and then not again");
}

#[test]
fn what_failed_while_nobody_looked_is_told_and_what_those_before_us_told_is_not() {
    let now = Clock::system().now();
    let ended =
        |n, name, ago| Box_ { finished: now.wall.minus(Duration::from_secs(ago)), ..Box_::new(n, name, "exited", 1) };
    let boxes = [ended(1, "missed", 5).once(), ended(2, "told", 15).once()];
    let peer = engine(settled(&boxes), b"", String::new);
    // A reload, a restart with a state file, the next of several single passes.
    let kept = Kept::new(std::collections::BTreeMap::new(), Some(now.mono.minus(Duration::from_secs(10))), true);
    let (mut source, _, clock) = source_after(kept, &peer.socket(), &[], |_| {});
    let told: Vec<String> = news(&look(&mut source, &clock)).into_iter().map(|(key, ..)| key).collect();
    assert_eq!(told, ["job/missed"]);
}

#[test]
fn who_is_a_job_is_told_as_a_job_and_who_is_not_as_a_container_and_nobody_as_both() {
    let no = r#"{"RestartPolicy":{"Name":"no"}}"#;
    let unset = r#"{"RestartPolicy":{"Name":""}}"#;
    let published = r#"{"RestartPolicy":{"Name":"no"},"PortBindings":{"80/tcp":[{"HostPort":"80"}]}}"#;
    let removed = r#"{"RestartPolicy":{"Name":"no"},"AutoRemove":true}"#;
    let always = r#"{"RestartPolicy":{"Name":"always"}}"#;
    let host = |host, b: Box_| Box_ { host, ..b };
    let mut app = host(always, Box_::new(20, "shop-app-1", "running", 0).of("app"));
    app.labels
        .push(("com.docker.compose.depends_on", "seed:service_completed_successfully:false,mq:service_started:true"));
    let mut required = host(no, Box_::new(9, "shop-required-1", "exited", 1).of("required"));
    required.labels.push(("watchdog.required", "true"));
    let peer = engine(
        settled(&[
            app,
            host(no, Box_::new(1, "shop-migrate-1", "exited", 1).of("migrate")),
            host(unset, Box_::new(2, "shop-seed-1", "exited", 1).of("seed")),
            host(removed, Box_::new(3, "passing", "exited", 1)),
            host(unset, Box_::new(4, "shop-web-1", "exited", 1).of("web")),
            host(no, Box_::new(5, "by-hand", "exited", 1)),
            host(published, Box_::new(6, "shop-front-1", "exited", 1).of("front")),
            host(no, Box_::new(7, "shop-mq-1", "exited", 1).of("mq")),
            host(no, Box_::new(8, "shop-named-1", "exited", 1).of("named")),
            required,
            host(always, Box_::new(10, "shop-loop-1", "exited", 1).of("loop")),
        ]),
        b"",
        String::new,
    );
    let containers = |settings: &mut Settings| settings.containers = vec!["*".into(), "named".into()];
    let (mut source, _, clock) = source(&peer.socket(), &[], containers);
    let report = look(&mut source, &clock);
    let jobs: Vec<String> = news(&report).into_iter().map(|(key, ..)| key).collect();
    assert_eq!(jobs, ["job/passing", "job/shop-migrate-1", "job/shop-seed-1"]);
    let down: BTreeSet<&str> =
        report.observations.iter().filter(|o| o.reading == Reading::Down).map(|o| o.spec.key.as_str()).collect();
    // The engine would start shop-loop-1 again: a command stopped it, a moment ago.
    let expected = ["by-hand", "shop-front-1", "shop-mq-1", "shop-named-1", "shop-required-1", "shop-web-1"];
    assert_eq!(down, expected.map(|name| format!("container/{name}")).iter().map(String::as_str).collect());
    assert_eq!(report.observations.len(), 3 + 7 + 1);
    let report = look(&mut source, &clock);
    assert!(news(&report).is_empty() && report.observations.len() == 11, "{report:?}");
}

fn die(id: u8, attributes: &str) -> String {
    // Later than the source begins to listen: what was before is told by whoever looked then.
    let at = Clock::system().now().wall.plus(Duration::from_mins(1)).0 * 1_000_000 + i64::from(id);
    format!(
        "{{\"Action\":\"die\",\"Actor\":{{\"ID\":\"{id:064x}\",\"Attributes\":{{{attributes}}}}},\"timeNano\":{at}}}\n"
    )
}

#[test]
fn a_job_that_lived_and_died_between_two_looks_is_told_by_its_event_alone() {
    let turn = AtomicUsize::new(0);
    let events = move || {
        if turn.fetch_add(1, Ordering::SeqCst) > 0 {
            return String::new();
        }
        let kill = die(3, "\"name\":\"c\"").replace("\"die\"", "\"kill\"");
        [
            die(1, "\"name\":\"a\",\"exitCode\":\"3\",\"com.docker.compose.oneoff\":\"True\""),
            die(2, "\"name\":\"b\",\"exitCode\":\"0\""),
            kill,
            die(3, "\"name\":\"c\",\"exitCode\":\"137\""),
            die(4, "\"name\":\"d\",\"exitCode\":\"1\",\"watchdog.enable\":\"false\""),
            die(5, "\"name\":\"e\",\"exitCode\":\"1\""),
            die(6, "\"name\":\"named\",\"exitCode\":\"1\""),
            die(20, "\"name\":\"web\",\"exitCode\":\"1\""),
        ]
        .concat()
    };
    let web = Box_ { host: r#"{"RestartPolicy":{"Name":"always"}}"#, ..Box_::new(20, "web", "restarting", 1) };
    let peer = engine(settled(&[web]), b"", events);
    let containers = |settings: &mut Settings| settings.containers = vec!["*".into(), "named".into()];
    let (mut source, waker, clock) = source(&peer.socket(), &[], containers);
    let mut told = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while told.len() < 2 && Instant::now() < deadline {
        told.extend(news(&look(&mut source, &clock)));
        waker.wait_until(Instant::now() + Duration::from_millis(50));
    }
    for _ in 0..3 {
        told.extend(news(&look(&mut source, &clock)));
    }
    let gone = |code: u8| format!("ended with an error, exit code {code}; it was removed, and its log with it");
    assert_eq!(told, [("job/a".to_string(), 1, gone(3)), ("job/e".to_string(), 1, gone(1))]);
    assert_eq!(peer.count("/logs?"), 0);
}

#[test]
fn what_is_left_out_is_noted_with_the_numbers_of_the_last_look() {
    let ours = |n: u8, name: &str| Box_::new(n, name, "running", 0).of("web");
    let boxes =
        settled(&[ours(1, "shop-web-1"), Box_::new(2, "alien", "running", 0), Box_::new(3, "other", "running", 0)]);
    let peer = engine(Arc::clone(&boxes), b"", String::new);
    let own = format!("{:064x}", 1);
    let (mut source, _, clock) = source(&peer.socket(), &[&own], |_| {});
    let note = look(&mut source, &clock).note;
    assert_eq!(
        note.as_deref(),
        Some("1 container of project shop; 2 others are not watched: docker.containers = [\"*\"]")
    );
    boxes.lock().unwrap().pop();
    let note = look(&mut source, &clock).note;
    assert!(note.as_deref().unwrap().contains("; 1 other is not watched"), "{note:?}");
}

#[test]
fn a_real_job_of_compose_a_removed_one_and_a_written_no_are_each_told_once() {
    if !parts::compose() || !parts::busybox() {
        return;
    }
    let engine = Engine::local("jobs");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("compose.yaml");
    let service = |name: &str, rest: &str| {
        format!("  {name}:\n    image: {IMAGE}\n    network_mode: none\n    stop_grace_period: 500ms\n    {rest}\n")
    };
    let text = [
        "services:\n".to_string(),
        service("web", "command: [\"sh\", \"-c\", \"sleep 999\"]"),
        service(
            "migrate",
            "restart: \"no\"\n    command: [\"sh\", \"-c\", \"sleep 2; echo no such table >&2; exit 4\"]",
        ),
    ]
    .concat();
    std::fs::write(&file, text).unwrap();
    let (mut source, waker, clock) =
        source(engine.socket(), &[], |settings| settings.containers = vec![engine.all(), "job-*".into()]);
    look(&mut source, &clock);
    engine.compose(&file, &["up", "--detach"]);
    let mut told = Vec::new();
    let mut until = |source: &mut DockerSource, what: &str, count: usize| {
        let deadline = Instant::now() + Duration::from_secs(40);
        while told.len() < count {
            assert!(Instant::now() < deadline, "never {what}: {told:?}");
            waker.wait_until(Instant::now() + Duration::from_millis(200));
            let report = look(source, &clock);
            told.extend(news(&report));
            let both = report.observations.iter().any(|o| o.reading == Reading::Down);
            assert!(!both, "not as a container as well: {report:?}");
        }
        told.last().unwrap().2.clone()
    };
    let fact = until(&mut source, "the written no", 1);
    assert!(fact.contains("exit code 4") && fact.ends_with(": \"no such table\""), "{fact}");

    let name = engine.name("run");
    let script = "echo one; echo two; echo three; echo four; sleep 0.2; exit 3";
    let run = ["run", "--no-deps", "-T", "--name", &name, "web", "sh", "-c", script];
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.compose(&file, &run)));
    assert!(ended.is_err(), "it ends with 3");
    let fact = until(&mut source, "the job of compose run", 2);
    assert!(fact.contains("exit code 3") && fact.contains("\"four\"") && !fact.contains("\"one\""), "{fact}");

    let passing = engine.name("passing");
    let options = ["run", "--rm", "--network", "none", "--name", &passing, IMAGE, "sh", "-c", "exit 5"];
    assert!(engine.try_docker(&options).is_err(), "it ends with 5");
    let fact = until(&mut source, "the one that is gone", 3);
    assert!(fact.contains("exit code 5"), "{fact}");

    let well = ["run", "--rm", "--network", "none", "--name", &engine.name("well"), IMAGE, "true"];
    engine.docker(&well);
    let calm = Instant::now() + Duration::from_secs(2);
    while Instant::now() < calm {
        waker.wait_until(Instant::now() + Duration::from_millis(100));
        assert!(news(&look(&mut source, &clock)).is_empty(), "each once, and what ends well never");
    }
    engine.compose(&file, &["down"]);
}
