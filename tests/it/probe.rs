//! Probes over real sockets and real processes, against peers that misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod pool;
mod secure;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::core::about::Details;
use watchdog::core::signal::{Observation, Reading, Report};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::source::probe::pool::{Bounds, Pace, Pool, Verdict};
use watchdog::source::probe::{ENTRY, Probes, read};
use watchdog::source::{Ask, Outfit, Source};
use watchdog::wake::{Wake, Waker};

use crate::daemon::{SOON, wait};
use crate::peer::http::{Manner, Peer};

fn outfit(clock: &Clock) -> Outfit {
    Outfit {
        clock: clock.clone(),
        waker: Waker::new(),
        timeout: Duration::from_secs(5),
        tick: Duration::from_secs(15),
        previous_boot: None,
        seen_before: Arc::default(),
        kept: watchdog::source::Kept::default(),
    }
}

fn source(text: &str, outfit: &Outfit) -> Box<dyn Source> {
    let config = Config::from_toml(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    (ENTRY.build)(&config, outfit).unwrap_or_else(|e| panic!("{e}\n{text}")).expect("at least one probe")
}

fn once(clock: &Clock) -> Ask {
    Ask { now: clock.now(), fresh_since: Mono(0), hurry_since: Mono(i64::MIN), once: true }
}

fn ask(clock: &Clock) -> Ask {
    Ask { once: false, ..once(clock) }
}

/// Looks once at one probe with these keys.
fn look(keys: &str) -> Observation {
    look_at(keys, &Clock::system())
}

fn look_at(keys: &str, clock: &Clock) -> Observation {
    let mut source = source(&format!("[[probe]]\nname = \"it\"\n{keys}"), &outfit(clock));
    let report = source.observe(&once(clock)).unwrap();
    assert!(report.complete && report.blind.is_none(), "{report:?}");
    report.observations.into_iter().next().unwrap()
}

#[test]
fn each_misbehaviour_of_an_http_peer_has_its_verdict_and_its_fact() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\nhalf";
    let body = "body_contains = \"ok\"\n";
    let latin = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00\x1b".to_vec();
    let far = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n".to_vec();
    let headers = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 64 * 1024]].concat();
    let json = Manner::answer("200 OK", r#"{"db":{"ok":true}}"#);
    let table = [
        (Manner::answer("200 OK", "ok"), "", Reading::Up, "HTTP 200 in "),
        (Manner::answer("200 OK", "all ok here"), body, Reading::Up, "HTTP 200 in "),
        (Manner::answer("200 OK", "fine"), "body_not_contains = \"error\"\n", Reading::Up, "HTTP 200 in "),
        (
            Manner::answer("200 OK", "an error"),
            "body_not_contains = \"error\"\n",
            Reading::Down,
            "but the body contains \"error\"",
        ),
        (Manner::answer("503 Service Unavailable", "x"), "", Reading::Down, "ms, expected 200–299"),
        (Manner::answer("503 Service Unavailable", "x"), "status = [\"503\"]\n", Reading::Up, "HTTP 503 in "),
        (Manner::answer("200 OK", "<h1>Login</h1>"), body, Reading::Down, "the body begins: \"<h1>Login</h1>\""),
        (json.clone(), "json_pointer = \"/db/ok\"\njson_equals = \"true\"\n", Reading::Up, "HTTP 200"),
        (json, "json_pointer = \"/db/ok\"\njson_equals = \"false\"\n", Reading::Down, "/db/ok is true"),
        (Manner::Hang, "timeout = \"300ms\"\n", Reading::Down, "no answer within 300 ms"),
        (Manner::Reset, "", Reading::Down, "connection reset by the peer"),
        (Manner::Say(Vec::new()), "", Reading::Down, "the connection ended before the answer was whole"),
        (Manner::Say(b"\x16\x03\x01 garbage\r\n\r\n".to_vec()), "", Reading::Down, "not a valid HTTP answer"),
        (Manner::Say(whole.into()), body, Reading::Down, "the connection ended before the answer was whole"),
        (Manner::Slow(whole.into()), "timeout = \"400ms\"\n", Reading::Down, "no answer within 400 ms"),
        (Manner::Slow(whole.into()), "timeout = \"1500ms\"\nbody_contains = \"x\"\n", Reading::Down, ""),
        (Manner::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), body, Reading::Down, "larger than 1048576 bytes"),
        (Manner::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), "", Reading::Up, "HTTP 200"),
        (
            Manner::Endless(b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
            "",
            Reading::Down,
            "header of the answer is larger than 16 KiB",
        ),
        (Manner::Say(headers), "", Reading::Down, "header of the answer is larger than 16 KiB"),
        (Manner::Say(latin), body, Reading::Down, "the body begins: \"\u{fffd}\u{fffd}\\0\\u{1b}\""),
        (Manner::Say(far.clone()), "", Reading::Down, "expected 200–299, to http://169.254.169.254/latest"),
        (Manner::Say(far.clone()), "status = [\"300-399\"]\n", Reading::Up, "HTTP 302 in "),
        (Manner::Say(far), "follow_redirects = 5\n", Reading::Down, "169.254.169.254 is a link-local"),
    ];
    for (manner, keys, reading, fact) in table {
        let peer = Peer::start(manner.clone());
        let seen = look(&format!("target = \"{}/health?token=canary\"\n{keys}", peer.url()));
        let label = format!("{:.60} {keys}: {}", format!("{manner:?}"), seen.fact);
        assert_eq!(seen.reading, reading, "{label}");
        let details = seen.details.as_deref().cloned().unwrap_or_default();
        let told = [&[seen.fact.to_string()], details.evidence.as_slice(), &[details.advice.to_string()]].concat();
        assert!(told.iter().any(|line| line.contains(fact)), "{label}: {told:?}");
        assert!(told.iter().all(|line| !line.contains("canary") && line.chars().count() < 400), "{label}: {told:?}");
        assert_eq!(seen.reading == Reading::Up, details == Details::default(), "{label}: {told:?}");
    }
}

#[test]
fn a_refusal_names_the_address_and_a_slow_answer_its_latency() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for keys in [format!("target = \"http://{gone}/\""), format!("target = \"tcp://{gone}\"")] {
        let seen = look(&keys);
        assert_eq!((seen.reading, seen.fact), (Reading::Down, format!("connection refused by {gone}").into()));
    }
    let peer = Peer::start(Manner::Slow(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let seen = look(&format!("target = \"{}\"\nmax_latency = \"100ms\"", peer.url()));
    assert!(seen.reading == Reading::Down && seen.fact.ends_with(", limit 100 ms"), "{}", seen.fact);
}

#[test]
fn the_request_is_what_was_asked_for_and_nothing_else() {
    let peer = Peer::start(Manner::answer("200 OK", "ok"));
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "Bearer canary\n").unwrap();
    let keys = format!(
        "target = \"{}/a%20b?x=1&y=2\"\nmethod = \"HEAD\"\nheaders = {{ X-Probe = \"yes\" }}\nauthorization_file = {secret:?}",
        peer.url()
    );
    assert_eq!(look(&keys).reading, Reading::Up);
    let heard = peer.heard();
    let [head] = heard.as_slice() else { panic!("{heard:?}") };
    let head = head.to_lowercase();
    assert!(head.starts_with("head /a%20b?x=1&y=2 http/1.1\r\n"), "{head}");
    for line in [
        "x-probe: yes",
        "authorization: bearer canary",
        "connection: close",
        "accept: */*",
        "accept-encoding: identity",
        "user-agent: watchdog/0",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    for word in ["cookie", "referer", "gzip", "proxy", "transfer-encoding", "content-length"] {
        assert!(!head.contains(word), "{word} in {head}");
    }
}

#[test]
fn a_user_and_a_password_travel_as_basic_authentication() {
    let peer = Peer::start(Manner::answer("200 OK", "ok"));
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "pass:wörd\n").unwrap();
    let keys = format!("target = \"{}/\"\nuser = \"me\"\npassword_file = {secret:?}", peer.url());
    assert_eq!(look(&keys).reading, Reading::Up);
    let head = peer.heard()[0].clone();
    assert!(head.to_lowercase().contains("\r\nauthorization: basic bwu6cgfzczp3w7zyza==\r\n"), "{head}");
    let refused = |keys: &str| {
        let config =
            Config::from_toml(&format!("[[probe]]\nname = \"it\"\ntarget = \"http://x.example\"\n{keys}")).unwrap();
        (ENTRY.build)(&config, &outfit(&Clock::system())).err().expect("refused").to_string()
    };
    for (keys, words) in [
        ("password = \"canary\"", "needs user"),
        ("user = \"a:b\"\npassword = \"canary\"", "holds a colon"),
        ("user = \"a\"\npassword = \"canary\"\nauthorization = \"canary\"", "keep one"),
        ("body_not_contains = \"\"", "which every body contains"),
        ("body_not_contains = \"x\"\nmethod = \"HEAD\"", "HEAD brings no body"),
        ("proxy = \"https://canary@p:1\"", "by http, not by https"),
        ("tls_fingerprint = \"abc\"", "64 hexadecimal digits"),
    ] {
        let what = refused(keys);
        assert!(what.contains(words) && !what.contains("canary"), "{keys}: {what}");
    }
}

#[test]
fn a_probe_may_keep_its_connection() {
    let peer = Peer::start(Manner::answer("200 OK", "ok"));
    look(&format!("target = \"{}/\"\nkeep_alive = true", peer.url()));
    assert!(!peer.heard()[0].to_lowercase().contains("connection: close"), "{:?}", peer.heard());
}

#[test]
fn a_redirect_is_followed_only_when_asked_and_leaves_the_credentials_behind() {
    let goal = Peer::start(Manner::answer("200 OK", "ok"));
    let to = format!("HTTP/1.1 302 Found\r\nLocation: {}/goal\r\nContent-Length: 0\r\n\r\n", goal.url());
    let first = Peer::start(Manner::Say(to.into_bytes()));
    let keys = format!("target = \"{}/\"\nauthorization = \"Bearer canary\"\n", first.url());
    assert_eq!(look(&keys).reading, Reading::Down);
    assert_eq!(goal.connections(), 0);
    assert_eq!(look(&format!("{keys}follow_redirects = 1")).reading, Reading::Up);
    assert!(goal.heard()[0].starts_with("GET /goal "), "{:?}", goal.heard());
    assert!(!goal.heard()[0].contains("canary"), "{:?}", goal.heard());
}

/// Answers TLS handshakes with the certificate for localhost, db.example and 127.0.0.1 (2026).
fn tls_peer() -> u16 {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peer/certs");
    let leaf = CertificateDer::from_pem_file(certs.join("leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(certs.join("leaf.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let _ = session.complete_io(&mut stream);
            let _ = stream.flush();
        }
    });
    port
}

#[test]
fn a_certificate_is_judged_by_its_days_its_name_and_its_issuer() {
    let port = tls_peer();
    let ca = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peer/certs/ca.pem");
    let trusted = format!("ca_file = {ca:?}\n");
    // Noon of a day of 2026, counted from its first.
    let day = |n: i64| Wall((1_767_225_600 + 43_200 + n * 86_400) * 1000);
    let table = [
        (100, "localhost", trusted.clone(), Reading::Up, "certificate expires in 264 days"),
        (100, "127.0.0.1", trusted.clone(), Reading::Up, "certificate expires in 264 days"),
        (350, "localhost", trusted.clone(), Reading::Up, "certificate expires in 14 days"),
        (351, "localhost", trusted.clone(), Reading::Down, "certificate expires in 13 days, fewer than 14 days"),
        (351, "localhost", format!("{trusted}min_days = 7\n"), Reading::Up, "certificate expires in 13 days"),
        (364, "localhost", trusted.clone(), Reading::Down, "certificate expires in 12 h, fewer than 14 days"),
        (368, "localhost", trusted.clone(), Reading::Down, "certificate expired 3 days ago"),
        (368, "localhost", String::new(), Reading::Down, "certificate expired 3 days ago"),
        (-9, "localhost", trusted.clone(), Reading::Down, "certificate is not valid yet, only in "),
        (100, "localhost", String::new(), Reading::Down, "certificate is signed by an unknown authority"),
        (
            100,
            "localhost",
            format!("{trusted}server_name = \"other.example\"\n"),
            Reading::Down,
            "certificate is not for other.example, but for localhost, db.example, 127.0.0.1 (it expires in 264 days)",
        ),
        (100, "localhost", format!("{trusted}server_name = \"db.example\"\n"), Reading::Up, "expires in 264 days"),
    ];
    for (n, host, keys, reading, fact) in table {
        let now = Now { wall: day(n), mono: Mono(1_000_000), awake: Mono(1_000_000) };
        let seen = look_at(&format!("target = \"tls://{host}:{port}\"\n{keys}"), &Clock::by_hand(now).0);
        assert_eq!(seen.reading, reading, "day {n} {keys}: {}", seen.fact);
        assert!(seen.fact.contains(fact), "day {n} {keys}: {}", seen.fact);
    }
    // https judges by the same authorities, on the machine's own clock: only the name can be told here.
    let seen = look(&format!("target = \"https://127.0.0.1:{port}/\""));
    assert!(seen.reading == Reading::Down && seen.fact.starts_with("TLS: "), "{}", seen.fact);
}

#[test]
fn a_peer_that_speaks_no_tls_or_nothing_at_all_is_down_in_time() {
    let plain = Peer::start(Manner::Hang);
    let begun = Instant::now();
    let seen = look(&format!("target = \"tls://127.0.0.1:{}\"\ntimeout = \"300ms\"", plain.port()));
    assert_eq!(seen.reading, Reading::Down);
    assert_eq!(seen.fact, "no answer within 300 ms (TLS handshake)");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
    });
    assert_eq!(look(&format!("target = \"tls://127.0.0.1:{port}\"")).reading, Reading::Down);
}

#[test]
fn a_name_that_does_not_exist_is_not_up() {
    for target in ["tcp://no-such-host.invalid:1", "http://no-such-host.invalid/", "dns://no-such-host.invalid"] {
        // Down where a resolver says so, unknown on a machine without one.
        let seen = look(&format!("target = \"{target}\""));
        assert_ne!(seen.reading, Reading::Up, "{}", seen.fact);
        assert!(seen.fact.contains("no-such-host.invalid"), "{}", seen.fact);
    }
}

/// Children of this process and their descendants whose command line holds `mark`.
fn marked(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let Ok(line) = std::fs::read(path.join("cmdline")) else { continue };
        let state = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        // A zombie has no command line; what is left of it is its name.
        if String::from_utf8_lossy(&line).contains(mark) || state.contains(&format!("({mark}")) {
            found.push(state.split(' ').take(4).collect::<Vec<_>>().join(" "));
        }
    }
    found
}

#[test]
fn a_hung_command_is_killed_with_its_whole_group() {
    let mark = format!("61{}", std::process::id());
    let script = format!("sleep {mark} & (sleep {mark} & wait) & echo started; wait");
    let seen = look(&format!("command = [{script:?}]\nshell = true\ntimeout = \"500ms\""));
    assert_eq!((seen.reading, seen.fact), (Reading::Down, "killed after 500 ms: started".into()));
    wait("the group to be gone", || marked(&mark).is_empty().then_some(()));
}

#[test]
fn our_own_settings_are_not_in_the_environment_of_a_command() {
    if std::env::var_os("WATCHDOG_TELEGRAM__BOT_TOKEN").is_none() {
        let name = "probe::our_own_settings_are_not_in_the_environment_of_a_command";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name]).env("WATCHDOG_TELEGRAM__BOT_TOKEN", "canary").env("CONSUL_HTTP_TOKEN", "canary");
        assert!(again.env("PLAIN", "yes").status().unwrap().success());
        return;
    }
    let seen = look(
        "command = [\"env | grep -c -e WATCHDOG_ -e canary; echo plain $PLAIN; env | grep canary || true\"]\nshell = true",
    );
    assert!(seen.reading == Reading::Up && seen.fact.ends_with(": plain yes"), "{}", seen.fact);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The pipes that this process holds open, by their number.
fn pipes() -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))).count()
}

#[test]
fn two_hundred_hung_commands_leave_no_process_and_no_pipe() {
    let before = pipes();
    let mark = format!("62{}", std::process::id());
    let clock = Clock::system();
    let mut text = String::new();
    for n in 0..200 {
        writeln!(text, "[[probe]]\nname = \"e{n}\"\ncommand = [\"sleep\", \"{mark}\"]\ntimeout = \"1s\"").unwrap();
    }
    let mut source = source(&text, &outfit(&clock));
    let report = source.observe(&once(&clock)).unwrap();
    assert_eq!(report.observations.len(), 200);
    wait("all to be judged", || {
        let report = source.observe(&ask(&clock)).unwrap();
        report.observations.iter().all(|o| o.reading == Reading::Down && o.fact == "killed after 1 s").then_some(())
    });
    drop(source);
    wait("all processes to be gone", || marked(&mark).is_empty().then_some(()));
    // Other tests of this process hold pipes for moments.
    wait("all pipes to be closed", || (pipes() <= before + 8).then_some(()));
}

#[test]
fn ending_the_source_kills_its_commands_and_waits_for_nothing() {
    let mark = format!("63{}", std::process::id());
    let clock = Clock::system();
    let silent = Peer::start(Manner::Hang);
    let text = format!(
        "[[probe]]\nname = \"e\"\ncommand = [\"sleep\", \"{mark}\"]\ntimeout = \"5m\"\n\
         [[probe]]\nname = \"h\"\ntarget = \"{}\"\ntimeout = \"5m\"",
        silent.url()
    );
    let mut source = source(&text, &outfit(&clock));
    let report = source.observe(&ask(&clock)).unwrap();
    assert!(!report.complete && report.observations.iter().all(|o| o.reading == Reading::Unknown), "{report:?}");
    wait("both to hang", || (silent.connections() == 1 && !marked(&mark).is_empty()).then_some(()));
    let begun = Instant::now();
    drop(source);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    wait("the command to be gone", || marked(&mark).is_empty().then_some(()));
}

/// In a network namespace of its own, where the only name server takes questions and never answers.
#[test]
fn a_resolver_that_hangs_makes_names_unknown_and_delays_nobody() {
    const INSIDE: &str = "WATCHDOG_TEST_BLACKHOLE";
    if std::env::var_os(INSIDE).is_none() {
        if !crate::parts::namespaces() {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n").unwrap();
        let script = "mount --bind \"$1\" /etc/resolv.conf && ip link set lo up && exec \"$2\" --exact \"$3\"";
        let mut inside = std::process::Command::new("unshare");
        inside.args(["-rmn", "sh", "-c", script, "sh"]).arg(file.path()).arg(std::env::current_exe().unwrap());
        inside.arg("probe::a_resolver_that_hangs_makes_names_unknown_and_delays_nobody").env(INSIDE, "1");
        let begun = Instant::now();
        assert!(inside.status().unwrap().success());
        // Lookups that hang for 30 s do not keep the process from ending.
        assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
        return;
    }
    let blackhole = std::net::UdpSocket::bind("127.0.0.1:53").unwrap();
    let healthy = Peer::start(Manner::answer("200 OK", "ok"));
    let clock = Clock::system();
    let keys = "interval = \"200ms\"\ntimeout = \"500ms\"";
    let mut text = format!("[[probe]]\nname = \"up\"\ntarget = \"{}\"\n{keys}\n", healthy.url());
    for n in 0..100 {
        let scheme = ["dns://name", "tcp://name:1", "http://name/"][n % 3].replace("name", &format!("h{n}.example"));
        writeln!(text, "[[probe]]\nname = \"n{n}\"\ntarget = \"{scheme}\"\n{keys}").unwrap();
    }
    let mut source = source(&text, &outfit(&clock));
    let begun = Instant::now();
    let mut seen = Vec::new();
    while begun.elapsed() < Duration::from_secs(4) {
        let report = source.observe(&ask(&clock)).unwrap();
        for look in &report.observations {
            let name = look.spec.key.as_str();
            assert_ne!(look.reading, if name == "probe/up" { Reading::Down } else { Reading::Up }, "{look:?}");
            assert!(look.reading != Reading::Down, "a resolver that hangs says nothing about the target: {look:?}");
            if name == "probe/up" && look.reading == Reading::Up && seen.last() != Some(&look.seen_at) {
                seen.push(look.seen_at);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(seen.len() >= 12, "{} looks at the healthy one in 4 s at 200 ms", seen.len());
    drop(blackhole);
}
