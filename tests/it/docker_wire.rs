//! The Docker client and source against a scripted engine: versions, refusals, hangs, floods.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use watchdog::client::docker::{Docker, INSPECT_LIMIT, LIST_LIMIT, Next, Nudge};
use watchdog::clock::Clock;
use watchdog::core::signal::{Reading, Report};
use watchdog::core::time::Mono;
use watchdog::source::docker::{DockerSource, Settings};
use watchdog::source::{Ask, Outfit, Source as _};
use watchdog::wake::{Wake, Waker};

use crate::peer::docker::{CHUNKED, Peer, Reply, chunk, json, nobody};

const LIMIT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(400);

fn client(peer: &Peer) -> Docker {
    Docker::new(&peer.socket()).unwrap()
}

fn listed(id: &str, name: &str) -> String {
    format!(r#"{{"Id":"{id}","Names":["/{name}"],"State":"running","Created":1700000000,"Labels":null,"Health":null}}"#)
}

fn inspected(id: &str, name: &str) -> String {
    format!(
        r#"{{"Id":"{id}","Name":"/{name}","RestartCount":0,"State":{{"Status":"running","StartedAt":"2024-01-06T09:06:59.461876391Z",
           "FinishedAt":"0001-01-01T00:00:00Z","Health":null}},"Config":{{"Image":"nginx","Env":["TOKEN=canary-81723"],"Labels":null}},
           "HostConfig":{{"RestartPolicy":{{"Name":"always"}}}}}}"#
    )
}

/// `n` running containers `c0`, `c1` …; `other` may answer first.
fn engine(n: usize, other: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) -> Peer {
    Peer::start(move |path| {
        if let Some(reply) = other(path) {
            return reply;
        }
        if path == "/_ping" {
            return json(200, "1.41", "OK");
        }
        let path = path.strip_prefix("/v1.41").expect("the agreed version");
        if path == "/containers/json?all=1" {
            let all: Vec<String> = (0..n).map(|i| listed(&format!("{i:064x}"), &format!("c{i}"))).collect();
            return json(200, "1.41", &format!("[{}]", all.join(",")));
        }
        if path.starts_with("/events?") {
            return Reply::ThenHang(CHUNKED.to_vec());
        }
        let id = path.strip_prefix("/containers/").and_then(|p| p.strip_suffix("/json")).expect("an inspect call");
        json(200, "1.41", &inspected(id, "x"))
    })
}

fn source(socket: &Path, timeout: Duration) -> (DockerSource, Waker, Clock) {
    source_with(socket, timeout, |_| {})
}

fn source_with(socket: &Path, timeout: Duration, change: impl FnOnce(&mut Settings)) -> (DockerSource, Waker, Clock) {
    let mut settings = Settings { socket: socket.display().to_string(), ..Settings::default() };
    change(&mut settings);
    let (clock, waker) = (Clock::system(), Waker::new());
    let outfit = Outfit {
        clock: clock.clone(),
        waker: waker.clone(),
        timeout,
        tick: Duration::from_secs(15),
        previous_boot: None,
        seen_before: std::sync::Arc::default(),
        kept: watchdog::source::Kept::default(),
    };
    (DockerSource::new(settings, outfit, BTreeSet::new()).unwrap(), waker, clock)
}

fn look(source: &mut DockerSource, clock: &Clock) -> Result<Report, String> {
    source.observe(&Ask { now: clock.now(), fresh_since: Mono(0), hurry_since: Mono(i64::MIN), once: false })
}

#[test]
fn the_version_spoken_is_the_smaller_of_both() {
    for (theirs, spoken) in [("1.41", "/v1.41"), ("1.44", "/v1.44"), ("1.52", "/v1.52"), ("1.60", "/v1.52")] {
        let peer = Peer::start(move |path| match path {
            "/_ping" => json(200, theirs, "OK"),
            _ => json(200, theirs, "[]"),
        });
        assert!(client(&peer).list(LIMIT).unwrap().is_empty());
        assert_eq!(peer.asked(), ["/_ping".to_string(), format!("{spoken}/containers/json?all=1")]);
    }
}

#[test]
fn a_proxy_that_hides_ping_is_asked_for_the_version_instead() {
    let page = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<no>";
    let peer = Peer::start(move |path| match path {
        "/_ping" => Reply::Bytes(page.to_vec()),
        "/version" => json(200, "", r#"{"ApiVersion":"1.47","MinAPIVersion":"1.24"}"#),
        "/v1.47/containers/json?all=1" => json(200, "", "[]"),
        other => panic!("{other}"),
    });
    assert!(client(&peer).list(LIMIT).is_ok());
}

#[test]
fn an_engine_older_than_us_or_no_engine_at_all_is_named() {
    let old = Peer::start(|_| json(200, "1.12", "OK"));
    let error = client(&old).list(LIMIT).unwrap_err().to_string();
    assert!(error.contains("cannot list containers at ") && error.contains("speaks API 1.12"), "{error}");
    let web = Peer::start(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec()));
    let error = client(&web).list(LIMIT).unwrap_err().to_string();
    assert!(error.contains("is this a Docker socket?"), "{error}");
}

#[test]
fn after_a_version_complaint_the_version_is_agreed_upon_again_once() {
    // The engine was replaced by one that wants 1.44 at least, between two looks.
    let asked = AtomicUsize::new(0);
    let peer = Peer::start(move |path| match path {
        "/_ping" if asked.fetch_add(1, Ordering::SeqCst) == 0 => json(200, "1.41", "OK"),
        "/_ping" => json(200, "1.50", "OK"),
        path if path.starts_with("/v1.50/") => json(200, "1.50", "[]"),
        _ => json(
            400,
            "1.50",
            r#"{"message":"client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version"}"#,
        ),
    });
    let mut docker = client(&peer);
    assert!(docker.list(LIMIT).is_ok());
    assert_eq!(docker.version().unwrap().to_string(), "1.50");
    assert_eq!(peer.count("/_ping"), 2);

    let stubborn = Peer::start(|path| match path {
        "/_ping" => json(200, "1.52", "OK"),
        _ => {
            json(400, "1.52", r#"{"message":"client version 1.52 is too new. Maximum supported API version is 1.41"}"#)
        }
    });
    let error = client(&stubborn).list(LIMIT).unwrap_err().to_string();
    assert!(error.contains("too new"), "{error}");
    assert_eq!(stubborn.count("/containers/json"), 2, "asked again once, not for ever");
}

#[test]
fn a_proxys_page_is_told_without_its_markup() {
    let peer = Peer::start(|path| {
        match path {
        "/_ping" => json(200, "1.41", "OK"),
        _ => Reply::Bytes(b"HTTP/1.1 403 X\r\nContent-Type: text/html\r\n\r\n<html><body><h1>403 Forbidden</h1>\nRequest forbidden by rules.</body></html>".to_vec()),
    }
    });
    let error = client(&peer).list(LIMIT).unwrap_err().to_string();
    assert!(error.ends_with("HTTP 403: 403 Forbidden Request forbidden by rules."), "{error}");
}

#[test]
fn a_socket_that_nobody_answers_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let list = |path: &Path| Docker::new(path).unwrap().list(LIMIT).unwrap_err().to_string();
    assert!(list(&directory.path().join("none")).contains("no such socket"));
    assert!(list(&nobody(directory.path())).contains("not running"));
    assert!(Docker::new(Path::new("")).is_err());
}

#[test]
fn endless_answers_end_at_their_limits() {
    let big = Peer::start(|path| match path {
        "/_ping" => json(200, "1.41", "OK"),
        _ => Reply::Endless(CHUNKED.to_vec(), chunk(&" ".repeat(64 * 1024))),
    });
    let mut docker = client(&big);
    let error = docker.list(Duration::from_secs(20)).unwrap_err().to_string();
    assert!(error.contains(&LIST_LIMIT.to_string()), "{error}");
    let error = docker.inspect("ab", LIMIT).unwrap_err().to_string();
    assert!(error.contains("container ab") && error.contains(&INSPECT_LIMIT.to_string()), "{error}");

    let slow = Peer::start(|path| match path {
        "/_ping" => json(200, "1.41", "OK"),
        _ => Reply::Pieces((0..100).map(|_| (Duration::from_millis(20), b"H".to_vec())).collect()),
    });
    let started = Instant::now();
    let error = client(&slow).list(SHORT).unwrap_err().to_string();
    assert!(started.elapsed() < SHORT * 3, "{error}");
    for path in ["", "../../x", "a b", "é"] {
        assert!(client(&slow).inspect(path, SHORT).unwrap_err().to_string().contains("not a container id"));
    }
}

#[test]
fn a_hanging_daemon_costs_its_deadline_and_no_more() {
    let peer = Peer::start(|_| Reply::Hang);
    let started = Instant::now();
    let error = client(&peer).list(SHORT).unwrap_err().to_string();
    assert!(started.elapsed() >= SHORT && started.elapsed() < SHORT * 3);
    assert!(error.contains("no answer within 400 ms"), "{error}");
}

#[test]
fn a_header_beyond_the_limit_and_a_coding_that_nobody_asked_for_are_named() {
    let said = |field: String| {
        let peer = Peer::start(move |_| {
            let head = format!("HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n{field}\r\nContent-Length: 2\r\n\r\nOK");
            Reply::Bytes(head.into_bytes())
        });
        client(&peer).list(LIMIT).unwrap_err().to_string()
    };
    let long = said(format!("X-Long: {}", "a".repeat(20 * 1024)));
    assert!(long.contains("the header of the answer is larger than 16 KiB"), "{long}");
    let many = said((0..130).map(|n| format!("X-{n}: 1")).collect::<Vec<_>>().join("\r\n"));
    assert!(many.contains("more than 128 fields"), "{many}");
    let coded = said("Content-Encoding: br".to_string());
    assert!(coded.contains("compressed with br"), "{coded}");
    // What stays below is read: 9 KiB in one field.
    let fits = said(format!("X-Long: {}", "a".repeat(9 * 1024)));
    assert!(!fits.contains("header"), "{fits}");
}

#[test]
fn broken_answers_are_errors_without_their_content() {
    for body in ["{", "{}", "[{\"Id\":\"canary-81723\",\"Created\":\"canary-81723\"}]", "null", "[[[["] {
        let peer = Peer::start(move |path| match path {
            "/_ping" => json(200, "1.41", "OK"),
            _ => json(200, "1.41", body),
        });
        let error = client(&peer).list(LIMIT).unwrap_err().to_string();
        assert!(error.contains("not what the Docker API promises") && !error.contains("canary"), "{error}");
    }
    let cut = Peer::start(|path| match path {
        "/_ping" => json(200, "1.41", "OK"),
        _ => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[".to_vec()),
    });
    assert!(client(&cut).list(LIMIT).unwrap_err().to_string().contains("broke off"));
}

#[test]
fn a_hanging_inspect_costs_nobody_elses_answer() {
    let peer = engine(20, |path| path.contains(&format!("{:064x}", 3)).then_some(Reply::Hang));
    let timeout = Duration::from_secs(2);
    let (mut source, _, clock) = source(&peer.socket(), timeout);
    let started = Instant::now();
    let report = look(&mut source, &clock).unwrap();
    assert!(started.elapsed() < source.patience(), "{:?}", started.elapsed());
    assert_eq!(report.observations.len(), 20);
    for observation in &report.observations {
        let hung = observation.spec.key.as_str() == "container/c3";
        assert_eq!(observation.reading, if hung { Reading::Unknown } else { Reading::Up }, "{observation:?}");
    }
    let blind = report.blind.unwrap();
    assert!(blind.contains("1 of 20") && blind.contains("(c3)") && blind.contains("no answer within 1 s"), "{blind}");
    assert!(!format!("{:?}{blind}", report.observations).contains("canary"));
}

#[test]
fn many_hanging_inspects_stay_within_one_budget_and_soon_go_last() {
    let peer = engine(40, |path| {
        let hang = (0..30).any(|i| path.contains(&format!("/{i:064x}/")));
        hang.then_some(Reply::Hang)
    });
    let timeout = Duration::from_secs(1);
    let (mut source, _, clock) = source(&peer.socket(), timeout);
    for pass in 0..3 {
        let started = Instant::now();
        let report = look(&mut source, &clock).unwrap();
        assert!(started.elapsed() < source.patience(), "{:?}", started.elapsed());
        let up = report.observations.iter().filter(|o| o.reading == Reading::Up).count();
        assert_eq!(report.observations.len(), 40);
        assert!(pass < 2 || up == 10, "those that hung are asked last: {up}");
        assert!(report.blind.is_some());
    }
}

#[test]
fn a_refused_list_is_an_error_and_nothing_is_gone_on_an_empty_one() {
    let turn = AtomicUsize::new(0);
    let peer = engine(2, move |path| {
        if !path.contains("/containers/json") {
            return None;
        }
        match turn.fetch_add(1, Ordering::SeqCst) {
            0 | 3 => Some(json(200, "1.41", "[]")),
            2 => Some(json(500, "1.41", r#"{"message":"daemon is shutting down"}"#)),
            _ => None,
        }
    });
    let (mut source, _, clock) = source(&peer.socket(), LIMIT);
    let report = look(&mut source, &clock).unwrap();
    assert!(report.observations.is_empty() && !report.complete, "an empty list is not proof");
    let report = look(&mut source, &clock).unwrap();
    assert!(report.complete && report.observations.iter().all(|o| o.reading == Reading::Up));
    let error = look(&mut source, &clock).unwrap_err();
    assert!(error.contains("cannot list containers") && error.contains("shutting down"), "{error}");
    let report = look(&mut source, &clock).unwrap();
    assert_eq!(report.observations.len(), 2, "what was there and is not has a grace");
    assert!(report.observations.iter().all(|o| o.reading == Reading::Unknown), "{report:?}");
    let report = look(&mut source, &clock).unwrap();
    assert!(report.observations.iter().all(|o| o.reading == Reading::Up));
}

#[test]
fn two_events_in_one_chunk_are_two_and_a_cut_one_is_none() {
    let die = r#"{"Type":"container","Action":"die","Actor":{"ID":"ab","Attributes":{"exitCode":"1"}},"timeNano":1700000100515050031}"#;
    let start =
        r#"{"Type":"container","Action":"start","Actor":{"ID":"ab","Attributes":null},"timeNano":1700000101515050031}"#;
    let (head, tail) = start.split_at(40);
    let pieces = vec![
        (Duration::ZERO, [CHUNKED.to_vec(), chunk(&format!("{die}\n{start}\n"))].concat()),
        (Duration::from_millis(30), chunk(head)),
        (Duration::from_millis(30), chunk(&format!("{tail}\n"))),
        (Duration::from_millis(30), chunk(head)),
    ];
    let pieces = std::sync::Mutex::new(Some(pieces));
    let peer = Peer::start(move |path| match path {
        "/_ping" => json(200, "1.41", "OK"),
        path => {
            assert!(path.starts_with("/v1.41/events?filters=%7B%22type%22"), "{path}");
            assert!(path.ends_with("&since=1700000000.000000007"), "{path}");
            Reply::Pieces(pieces.lock().unwrap().take().unwrap())
        }
    });
    let mut docker = client(&peer);
    let mut events = docker.events(Some(1_700_000_000_000_000_007), LIMIT).unwrap();
    let mut actions = Vec::new();
    loop {
        match events.next(Instant::now() + LIMIT, &Nudge::default()) {
            Next::Event(event) => actions.push(event.action),
            Next::Ended(_) => break,
            Next::Nothing => panic!("neither an event nor an end"),
        }
    }
    assert_eq!(actions, ["die", "start", "start"]);
}

#[test]
fn waiting_for_an_event_ends_at_the_instant_or_a_nudge() {
    let peer = engine(0, |_| None);
    let mut docker = client(&peer);
    let mut events = docker.events(None, LIMIT).unwrap();
    let nudge = Nudge::default();
    let started = Instant::now();
    assert_eq!(events.next(started + Duration::from_millis(100), &nudge), Next::Nothing);
    assert!(started.elapsed() >= Duration::from_millis(100));
    nudge.give();
    let started = Instant::now();
    assert_eq!(events.next(started + LIMIT, &nudge), Next::Nothing);
    assert!(started.elapsed() < LIMIT / 2);
}

#[test]
fn a_stream_that_breaks_again_and_again_is_opened_with_growing_pauses() {
    let peer = engine(1, |path| path.contains("/events?").then(|| Reply::Bytes(b"HTTP/1.1 500 X\r\n\r\n".to_vec())));
    let (mut source, _, clock) = source(&peer.socket(), LIMIT);
    assert!(look(&mut source, &clock).unwrap().complete, "looks go on without events");
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
    let opened = peer.count("/events?");
    assert!((2..=4).contains(&opened), "0, 0.5, 1.5, 3.5 s: {opened}");
}

#[test]
fn a_stream_that_ended_is_taken_up_where_it_ended_and_each_event_wakes() {
    let turn = AtomicUsize::new(0);
    let peer = engine(1, move |path| {
        let first = path.contains("/events?") && turn.fetch_add(1, Ordering::SeqCst) == 0;
        let mut event = String::new();
        let _ = writeln!(event, r#"{{"Action":"pause","Actor":{{"ID":"ab"}},"timeNano":1700000100000000031}}"#);
        first.then(|| Reply::Pieces(vec![(Duration::ZERO, [CHUNKED.to_vec(), chunk(&event)].concat())]))
    });
    let (mut source, waker, clock) = source(&peer.socket(), LIMIT);
    look(&mut source, &clock).unwrap();
    let deadline = Instant::now() + LIMIT;
    while peer.count("/events?") < 2 && Instant::now() < deadline {
        let woken = waker.wait_until(Instant::now() + Duration::from_millis(100));
        assert!(woken.iter().all(|wake| matches!(wake, Wake::Look(name) if &**name == "docker")), "{woken:?}");
    }
    let last = peer.asked().into_iter().rfind(|path| path.contains("/events?")).unwrap();
    assert!(last.ends_with("&since=1700000100.000000032"), "{last}");
}

#[test]
fn of_missing_containers_beyond_the_bound_the_rest_is_told_and_not_dropped() {
    let label =
        |id: &str, name: &str| listed(id, name).replace(r#""Labels":null"#, r#""Labels":{"watchdog.required":"true"}"#);
    let gone = std::sync::Arc::new(AtomicBool::new(false));
    let away = std::sync::Arc::clone(&gone);
    let peer = engine(1, move |path| {
        (path == "/v1.41/containers/json?all=1").then(|| {
            let count = if away.load(Ordering::SeqCst) { 1 } else { 401 };
            let all: Vec<String> = (0..count).map(|i| label(&format!("{i:064x}"), &format!("c{i}"))).collect();
            json(200, "1.41", &format!("[{}]", all.join(",")))
        })
    });
    let grace = watchdog::config::value::Span::seconds(0);
    let (mut source, _waker, clock) =
        source_with(&peer.socket(), Duration::from_secs(20), |settings| settings.grace = grace);
    assert_eq!(look(&mut source, &clock).unwrap().observations.len(), 401);
    gone.store(true, Ordering::SeqCst);
    let mut told: BTreeSet<String> = BTreeSet::new();
    for _ in 0..3 {
        let report = look(&mut source, &clock).unwrap();
        told.extend(report.removals.iter().flat_map(|removal| &removal.signals).map(ToString::to_string));
        let missing = report.observations.iter().filter(|o| o.reading == Reading::Down);
        told.extend(missing.map(|o| o.spec.key.to_string()));
    }
    assert_eq!(told.len(), 400, "each is told, as missing or as no longer watched");
}
