//! The status server over real sockets: what it answers, to whom, and what the rude cannot do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::core::signal::{Severity, SignalKey, State};
use watchdog::core::time::Now;
use watchdog::serve::server::{CONNECTION_LIFE, CONNECTIONS, HEADER_TIMEOUT, Server};
use watchdog::serve::snapshot::{ChannelView, Published, SignalView, Snapshot, SourceView, Tick};

use crate::{exposition, parts};

const EVIL: &str = "\"><script>alert(1)</script>\n\\";
const HOST: &str = "Host: localhost\r\n";

fn signal(key: &str, detail: &str) -> SignalView {
    SignalView {
        key: SignalKey::new(key),
        state: State::Firing,
        severity: Severity::Critical,
        title: detail.into(),
        detail: detail.to_string().into(),
        since: None,
        incident: None,
        reason: Arc::default(),
        last_alert_at: None,
        silenced: None,
        about: None,
        details: None,
        strip: Arc::default(),
    }
}

fn picture(signals: Vec<SignalView>, at: Now) -> Snapshot {
    Snapshot {
        instance: "web-1".into(),
        version: "0.1.0".into(),
        enabled: true,
        mode: "observe".into(),
        interval_ms: 60_000,
        tick: Tick { count: 1, last_at: Some(at.wall), ..Tick::default() },
        signals: signals.into_iter().map(Arc::new).collect(),
        channels: vec![ChannelView { name: EVIL.into(), state: "ok".into(), ..ChannelView::default() }],
        sources: vec![SourceView { name: "host".into(), state: "ok".into(), ..SourceView::default() }],
        at,
        ..Snapshot::default()
    }
}

fn serving_with(settings: &str, signals: Vec<SignalView>) -> (Server, Arc<Published>) {
    let clock = Clock::system();
    let published = Arc::new(Published::new(picture(signals, clock.now())));
    let config = Config::from_toml(&format!("listen = \"127.0.0.1:0\"\n{settings}")).unwrap();
    let server = watchdog::serve::start(&config, &published, &clock).unwrap().unwrap();
    (server, published)
}

fn serving() -> (Server, Arc<Published>) {
    serving_with("", vec![signal(EVIL, EVIL), signal("probe/db", "connection refused")])
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(CONNECTION_LIFE + Duration::from_secs(5))).unwrap();
    stream
}

/// All that comes until the server closes; what came before a reset counts, too.
fn drain(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 65_536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(e) => panic!("the server did not close in time: {e}"),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    // A server that refuses early may close while we still write.
    let _ = stream.write_all(request.as_bytes());
    drain(stream)
}

fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    send(address, &format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"))
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn wait_until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_path_answers_with_its_type_and_the_headers_that_protect_readers() {
    let (server, _published) = serving();
    for (path, code, kind) in [
        ("/", 200, "text/html; charset=utf-8"),
        ("/api/v1/status", 200, "application/json"),
        ("/api/v1/history?since=24h", 200, "application/json"),
        ("/api/v1/history?limit=none", 400, "text/plain; charset=utf-8"),
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", 200, "text/plain; charset=utf-8"),
        ("/readyz", 200, "text/plain; charset=utf-8"),
        ("/admin", 404, "text/plain; charset=utf-8"),
    ] {
        let answer = get(server.address(), path, HOST);
        assert_eq!(status(&answer), code, "{path}: {answer}");
        let head = answer.split_once("\r\n\r\n").unwrap().0.to_lowercase();
        assert!(head.contains(&format!("content-type: {kind}\r\n")), "{path}: {head}");
        for line in [
            "content-security-policy: default-src 'none'; style-src 'sha256-",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(head.contains(line), "{path} lacks {line}: {head}");
        }
        assert!(!head.contains("access-control"), "{path}");
    }
    assert_eq!(body(&get(server.address(), "/healthz", HOST)), "ok\n");
}

#[test]
fn a_head_has_no_body_and_other_verbs_are_refused() {
    let (server, _published) = serving();
    let head = send(server.address(), &format!("HEAD /metrics HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"));
    assert_eq!((status(&head), body(&head)), (200, ""));
    for verb in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let answer = send(server.address(), &format!("{verb} / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"));
        assert_eq!(status(&answer), 405, "{verb}");
        assert!(answer.to_lowercase().contains("allow: get, head"), "{answer}");
    }
    let with_body = send(server.address(), &format!("GET / HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc"));
    assert_eq!(status(&with_body), 413);
}

#[test]
fn a_rebound_name_gets_nothing_over_the_wire() {
    let (server, _published) = serving_with("serve.allowed_hosts = [\"status.example\"]", vec![]);
    for (host, code) in [
        ("Host: localhost\r\n", 200),
        ("Host: 127.0.0.1:9106\r\n", 200),
        ("Host: [::1]\r\n", 200),
        ("Host: STATUS.example:80\r\n", 200),
        ("Host: evil.example\r\n", 421),
        ("Host: localhost.evil.example:9106\r\n", 421),
        ("Host: 10.0.0.1\r\n", 421),
        ("Host: localhost\r\nHost: evil.example\r\n", 400),
        ("Host: a@localhost\r\n", 400),
        ("", 400),
    ] {
        let answer = get(server.address(), "/api/v1/status", host);
        assert_eq!(status(&answer), code, "{host:?}: {answer}");
        assert_eq!(answer.contains("web-1"), code == 200, "{host:?}");
    }
    let absolute = get(server.address(), "http://evil.example/api/v1/status", HOST);
    assert_eq!(status(&absolute), 421);
}

#[test]
fn a_token_is_asked_for_and_never_shown() {
    let (server, _published) = serving_with("serve.token = \"correct-horse\"", vec![]);
    let refused = get(server.address(), "/", HOST);
    assert_eq!(status(&refused), 401);
    assert!(!refused.contains("correct-horse") && !refused.contains("web-1"));
    let opened = get(server.address(), "/", &format!("{HOST}Authorization: Bearer correct-horse\r\n"));
    assert_eq!(status(&opened), 200);
    assert_eq!(status(&get(server.address(), "/readyz", HOST)), 200);
}

#[test]
fn the_json_holds_hostile_text_as_text_and_the_page_holds_no_script() {
    let (server, _published) = serving();
    let page = get(server.address(), "/", HOST);
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
    let answer = get(server.address(), "/api/v1/status", HOST);
    let value: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(value["signals"][0]["key"], EVIL);
    assert!(value["tick"]["age_ms"].is_u64());
}

#[test]
fn scrapers_get_the_format_they_ask_for_and_can_read_it() {
    let long = "x".repeat(5_000);
    let (server, _published) =
        serving_with("", vec![signal(EVIL, ""), signal(&format!("{long}1"), ""), signal(&format!("{long}2"), "")]);
    for (accept, open) in [("text/plain", false), ("application/openmetrics-text; version=1.0.0", true)] {
        let answer = get(server.address(), "/metrics", &format!("{HOST}Accept: {accept}\r\n"));
        assert_eq!(answer.contains("application/openmetrics-text"), open);
        let samples = exposition::parse(body(&answer), open).unwrap();
        let firing = samples.iter().filter(|(name, labels, value)| {
            name == "watchdog_signal_state" && labels["state"] == "firing" && *value == 1.0
        });
        assert_eq!(firing.count(), 3);
    }
}

#[test]
fn prometheus_own_linter_accepts_the_text_page() {
    use std::process::{Command, Stdio};
    if !parts::promtool() {
        return;
    }
    let (server, _published) = serving_with("", vec![signal(EVIL, ""), signal(&"x".repeat(5_000), "")]);
    // It reads the text format only; OpenMetrics is judged by our own strict reader, above.
    let answer = get(server.address(), "/metrics", &format!("{HOST}Accept: text/plain\r\n"));
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body(&answer).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // 3 means remarks on style only.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
}

#[test]
fn a_kept_connection_is_answered_more_than_once() {
    let (server, _published) = serving();
    let mut stream = connect(server.address());
    for _ in 0..3 {
        stream.write_all(format!("GET /healthz HTTP/1.1\r\n{HOST}\r\n").as_bytes()).unwrap();
        let mut seen = String::new();
        let mut piece = [0; 1024];
        while !seen.ends_with("ok\n") {
            let n = stream.read(&mut piece).unwrap();
            assert!(n > 0, "closed after {seen}");
            seen.push_str(std::str::from_utf8(&piece[..n]).unwrap());
        }
    }
}

#[test]
fn the_thirty_third_connection_is_turned_away_at_once_and_the_next_one_served() {
    let (server, _published) = serving();
    let held: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(server.address())).collect();
    let begun = Instant::now();
    let answer = drain(connect(server.address()));
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(begun.elapsed() < HEADER_TIMEOUT, "not at once: {:?}", begun.elapsed());
    assert_eq!(
        answer.split_once("content-length: ").unwrap().1.split_once('\r').unwrap().0,
        body(&answer).len().to_string()
    );
    drop(held);
    wait_until(Duration::from_secs(5), "a free place", || status(&get(server.address(), "/healthz", HOST)) == 200);
}

#[test]
fn a_header_that_is_too_large_or_no_http_is_refused() {
    let (server, _published) = serving();
    let fits = get(server.address(), "/healthz", &format!("{HOST}X-Fill: {}\r\n", "x".repeat(12_000)));
    assert_eq!(status(&fits), 200);
    for request in [
        format!("GET / HTTP/1.1\r\n{HOST}X-Fill: {}\r\n\r\n", "x".repeat(20_000)),
        format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(20_000)),
        format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "X-A: b\r\n".repeat(500)),
        "\x16\x03\x01\x02\x00\x01\r\n\r\n".to_string(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_string(),
    ] {
        let code = status(&send(server.address(), &request));
        assert!(matches!(code, 0 | 400..=499), "{code} for {} bytes", request.len());
    }
    assert_eq!(status(&get(server.address(), "/healthz", HOST)), 200);
}

#[test]
fn thousands_of_slow_clients_cost_the_publisher_nothing_and_good_ones_a_few_seconds() {
    let (server, published) = serving();
    let mut held = std::collections::VecDeque::new();
    let mut slowest = Duration::ZERO;
    for number in 0..3_000 {
        let mut stream = connect(server.address());
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ");
        held.push_back(stream);
        // Few enough for the test's own descriptors; the first ones hold all places.
        if held.len() > 200 {
            held.remove(CONNECTIONS);
        }
        let begun = Instant::now();
        published.publish(Snapshot { instance: format!("pass {number}"), ..Snapshot::default() });
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_millis(250), "publishing took {slowest:?}");
    let drips = std::thread::spawn(move || {
        let deadline = Instant::now() + HEADER_TIMEOUT * 3;
        // One byte at a time keeps nobody's place: the deadline is for the whole header.
        while Instant::now() < deadline && held.iter_mut().take(CONNECTIONS).any(|s| s.write_all(b"x").is_ok()) {
            std::thread::sleep(Duration::from_millis(100));
        }
        deadline
    });
    wait_until(HEADER_TIMEOUT + Duration::from_secs(5), "a place for a good client", || {
        status(&get(server.address(), "/healthz", HOST)) == 200
    });
    let deadline = drips.join().unwrap();
    assert!(Instant::now() < deadline, "slow clients were never closed");
}

#[test]
fn readers_that_never_read_are_bounded_in_memory_and_time() {
    let detail = "y".repeat(300);
    let (server, _published) = serving_with("", (0..40_000).map(|n| signal(&format!("probe/{n}"), &detail)).collect());
    let request = format!("GET /api/v1/status HTTP/1.1\r\n{HOST}\r\n");
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(server.address());
        stream.write_all(request.as_bytes()).unwrap();
        held.push(stream);
    }
    // A body of some 30 MB is more than sockets take, so the first one stays in memory unread.
    wait_until(Duration::from_secs(8), "the bound", || {
        let answer = get(server.address(), "/healthz", HOST);
        status(&answer) == 503 && answer.contains("slow readers")
    });
    wait_until(CONNECTION_LIFE + Duration::from_secs(8), "their end", || {
        status(&get(server.address(), "/healthz", HOST)) == 200
    });
    drop(held);
}

#[test]
fn stopping_takes_less_than_a_second_whoever_is_connected_and_frees_the_port() {
    let (server, _published) = serving();
    let address = server.address();
    let held: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    server.stop(Instant::now() + Duration::from_secs(5));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for stream in held {
        let _ = stream.shutdown(Shutdown::Write);
        assert_eq!(drain(stream), "");
    }
    let config = Config::from_toml(&format!("listen = \"{address}\"")).unwrap();
    let again = watchdog::serve::start(&config, &Arc::new(Published::default()), &Clock::system()).unwrap().unwrap();
    assert_eq!(again.address(), address);
}

#[test]
fn a_taken_address_is_an_error_that_says_which_key_to_change() {
    let (server, published) = serving();
    let config = Config::from_toml(&format!("listen = \"{}\"", server.address())).unwrap();
    let error = watchdog::serve::start(&config, &published, &Clock::system()).unwrap_err().to_string();
    assert!(error.contains(&server.address().to_string()) && error.contains("`listen`"), "{error}");
}

#[test]
fn readiness_follows_what_is_published() {
    let (server, published) = serving();
    assert_eq!(status(&get(server.address(), "/readyz", HOST)), 200);
    published.publish(Snapshot { enabled: true, interval_ms: 60_000, ..Snapshot::default() });
    let answer = get(server.address(), "/readyz", HOST);
    assert_eq!(status(&answer), 503);
    assert!(answer.contains("first pass"), "{answer}");
    published.publish(Snapshot { enabled: false, ..Snapshot::default() });
    assert_eq!(status(&get(server.address(), "/readyz", HOST)), 200);
    assert_eq!(status(&get(server.address(), "/healthz", HOST)), 200);
}
