//! What watching and repairing nodes costs, and how soon it happens: the real binary, a real Consul, a
//! scripted Oracle Cloud.
//!
//! `cargo bench --bench repair -- nodes [COUNT] [TICK_MS] [TICKS] [REWRITES_A_SECOND]`: requests and CPU per tick and
//! resident memory, with keys that nobody configured and with as many configured nodes.
//! `cargo bench --bench repair -- loss [TIMES] [COUNT]`: from the end of a node's session to the phase `suspect`.
//! `cargo bench --bench repair -- stop [TIMES] [TICK_MS]`: from the evidence, re-read, to the STOP on the wire.
//! `cargo bench --bench repair -- beacon`: resident memory of `watchdog beacon` with its metrics on.
//! `cargo bench --bench repair -- fleet`: the pure pass over 10,000 nodes, all well and all ill.
//! Without a word: all of them. With `BINARY=PATH` before it, another binary is measured.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measuring program may stop at the first surprise")]
#![allow(dead_code, reason = "the tests' parts are shared; this program needs some of them")]
#![allow(missing_docs, reason = "a program")]

#[path = "../tests/it/daemon.rs"]
mod daemon;
#[path = "../tests/it/parts.rs"]
mod parts;
#[path = "../tests/it/peer"]
mod peer {
    pub mod consul;
    pub mod html;
    pub mod listener;
    pub mod oci;
    pub mod proxy;
    pub mod telegram;
}

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use watchdog::client::consul::{Behavior, Consul as Client, How};
use watchdog::core::recovery::budget::Bounds;
use watchdog::core::recovery::fleet::Fleet;
use watchdog::core::recovery::heartbeat::{Beat as Look, Heartbeats, Life};
use watchdog::core::recovery::kind::NODE;
use watchdog::core::recovery::legacy::STOP_START;
use watchdog::core::recovery::plan::{Cause, Input, Mode, Node, Policy, WhenStopped};
use watchdog::core::recovery::target::Times;
use watchdog::core::time::{Mono, Now, Wall};

use crate::daemon::{Daemon, configure, watchdog};
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::{Durations, Kind, Lifecycle, Oci, ocid};
use crate::peer::proxy::Proxy;
use crate::peer::telegram::{TOKEN, Telegram};

const DUE: Duration = Duration::from_mins(2);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |index: usize, default: u64| arguments.get(index).map_or(default, |a| a.parse().unwrap());
    let word = arguments.first().map_or("all", String::as_str);
    let is = |name: &str| word == name || word == "all";
    if is("fleet") {
        fleet();
    }
    if !parts::consul() {
        eprintln!("SKIPPED everything but `fleet`: no consul");
        return;
    }
    if is("beacon") {
        beacon();
    }
    if is("nodes") {
        nodes(number(1, 10_000), number(2, 1_000), number(3, 30), number(4, 0));
    }
    if is("loss") {
        loss(number(1, 20), number(2, 100));
    }
    if is("stop") {
        stop(number(1, 10), number(2, 200));
    }
}

/// What a node's beacon would write.
fn value(node: &str, boot: &str, beat: u64) -> String {
    json!({
        "node": node, "boot_id": boot, "started_at": "2026-01-01T00:00:00Z", "started_ms": 123_456, "beat": beat,
        "version": "0.1.0", "ttl_s": 30
    })
    .to_string()
}

fn boot(n: u64) -> String {
    format!("9f1c2a34-5b6d-4e7f-8a9b-{n:012x}")
}

fn name(n: u64) -> String {
    format!("node-{n:05}")
}

fn session(client: &Client, name: &str) -> String {
    client.session_create(name, Duration::from_hours(24), Behavior::Delete, Duration::ZERO).unwrap()
}

/// Keys of `count` nodes, all held by one session: 64 writes in a transaction, as many as Consul takes.
fn populate(consul: &Consul, numbers: &[u64], session: &str, beat: u64) {
    for some in numbers.chunks(64) {
        let lock = |n: &u64| {
            let value = STANDARD.encode(value(&name(*n), &boot(*n), beat));
            json!({ "KV": { "Verb": "lock", "Key": format!("watchdog/nodes/{}", name(*n)), "Value": value, "Session": session } })
        };
        let body = serde_json::to_string(&some.iter().map(lock).collect::<Vec<_>>()).unwrap();
        let (status, said) = consul.api("PUT", "/v1/txn", &body).unwrap();
        assert_eq!(status, 200, "{said}");
    }
}

/// `[[node]]` tables for nodes that are only watched, or have an instance each; in files beside the first, of
/// which none may have more than a megabyte.
fn tables(dir: &Path, count: u64, executor: &str) {
    let more = dir.join("conf.d");
    std::fs::create_dir(&more).unwrap();
    for first in (0..count).step_by(2_000) {
        let mut toml = String::new();
        for n in first..count.min(first + 2_000) {
            let _ = write!(toml, "[[node]]\nname = \"{}\"\nexecutor = \"{executor}\"\n", name(n));
            if executor == "oci" {
                let _ = writeln!(toml, "instance_id = \"{}\"", ocid(&name(n)));
            }
        }
        std::fs::write(more.join(format!("{first:05}.toml")), toml).unwrap();
    }
}

const QUIET: &str = "[host]\nenabled = false\n[docker]\nenabled = false\n";

fn nodes(count: u64, tick_ms: u64, ticks: u64, rewrites: u64) {
    let consul = Consul::dev(Dev::default());
    let holder = session(&consul.client(), "fleet");
    let all: Vec<u64> = (0..count).collect();
    populate(&consul, &all, &holder, 1);
    let oci = Oci::start();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        if rewrites > 0 {
            scope.spawn(|| rewrite(&consul, count, &holder, rewrites, &over));
        }
        for (what, executor) in [("not configured", ""), ("configured", "none"), ("configured to be repaired", "oci")] {
            let dir = directory();
            let mut more = String::new();
            if !executor.is_empty() {
                tables(dir.path(), count, executor);
            }
            if executor == "oci" {
                let (file, url) = (oci.config_file(dir.path()), oci.url());
                let file = file.display();
                more =
                    format!("[oci]\nconfig_file = \"{file}\"\nendpoint = \"{url}\"\n[recovery]\nmode = \"active\"\n");
            }
            let proxy = Proxy::to(&consul.address());
            let head = format!("tick = \"{tick_ms}ms\"\nstate = \"state.db\"\nlisten = \"127.0.0.1:0\"\n");
            configure(dir.path(), &format!("{head}{QUIET}[consul]\naddress = \"{}\"\n{more}", proxy.url()));
            let daemon = start(dir.path());
            wait_for("all nodes to be well", || (well(&daemon) == count).then_some(()));
            thread::sleep(Duration::from_millis(tick_ms * 5).max(Duration::from_secs(3)));
            let (requests, lists) = (proxy.requests().len(), proxy.count("recurse"));
            let (before, first, began) = (cpu(daemon.pid()), passes(&daemon), Instant::now());
            // Looking at the page is not a part of a tick; neither is the reading of the count.
            let looked = cpu(daemon.pid()) - before;
            thread::sleep(Duration::from_millis(tick_ms * ticks));
            let spent = cpu(daemon.pid()) - before - looked;
            let grid = began.elapsed().as_secs_f64() * 1e3 / tick_ms as f64;
            let (requests, lists) = (proxy.requests().len() - requests, proxy.count("recurse") - lists);
            let memory = memory(daemon.pid());
            println!(
                "{count} nodes, {what}, {rewrites} keys rewritten a second, tick {tick_ms} ms: {:.2} requests a tick ({:.2} of them listings), \
                 {:.2} ms CPU a tick, {:.1} MB resident (peak {:.1}); {} passes in {grid:.0} ticks",
                requests as f64 / grid,
                lists as f64 / grid,
                spent * 1e3 / grid,
                memory.0,
                memory.1,
                passes(&daemon) - first,
            );
            daemon.terminate();
        }
        over.store(true, Ordering::SeqCst);
    });
}

/// Keys get new values at this rate, as beacons that write with each beat would do it.
fn rewrite(consul: &Consul, count: u64, holder: &str, a_second: u64, over: &AtomicBool) {
    let (began, mut done) = (Instant::now(), 0);
    while !over.load(Ordering::SeqCst) {
        let due = (began.elapsed().as_secs_f64() * a_second as f64) as u64;
        let some: Vec<u64> = (done..due.min(done + 64)).map(|n| n % count).collect();
        done += some.len() as u64;
        populate(consul, &some, holder, done);
        thread::sleep(Duration::from_millis(5));
    }
}

fn loss(times: u64, count: u64) {
    let (consul, telegram) = (Consul::dev(Dev::default()), Telegram::start());
    let client = consul.client();
    let holder = session(&client, "fleet");
    populate(&consul, &(times..count.max(times + 1)).collect::<Vec<_>>(), &holder, 1);
    let sessions: Vec<String> = (0..times).map(|n| session(&client, &name(n))).collect();
    for (n, session) in (0..times).zip(&sessions) {
        populate(&consul, &[n], session, 1);
    }
    let dir = directory();
    let channel =
        format!("[telegram]\nbot_token = \"{TOKEN}\"\nchat_id = \"42\"\napi_base = \"{}\"\n", telegram.base_url());
    tables(dir.path(), count.max(times + 1), "none");
    let address = consul.url();
    configure(
        dir.path(),
        &format!(
            "tick = \"15s\"\nstate = \"state.db\"\nlisten = \"127.0.0.1:0\"\n{channel}{QUIET}[consul]\naddress = \"{address}\"\n"
        ),
    );
    let daemon = start(dir.path());
    wait_for("all nodes to be well", || (well(&daemon) == count.max(times + 1)).then_some(()));
    // The warm-up of the core is over with the second pass of the grid.
    wait_for("three passes", || (passes(&daemon) >= 3).then_some(()));
    let (mut suspect, mut told) = (Vec::new(), Vec::new());
    for (n, session) in (0..times).zip(&sessions) {
        thread::sleep(Duration::from_millis(1_500 + n * 37 % 400));
        let before = telegram.requests().len();
        client.session_destroy(session).unwrap();
        let gone = Instant::now();
        let key = format!("watchdog_target_phase{{target=\"node/{}\",phase=\"suspect\"}} 1", name(n));
        wait_for("suspect", || metrics(&daemon).contains(&key).then_some(()));
        suspect.push(gone.elapsed());
        told.push(telegram.wait_for(before + 1, DUE)[before].at.saturating_duration_since(gone));
    }
    report(&format!("{count} nodes, tick 15 s: end of the session to phase suspect (<= 1 s)"), &suspect);
    report("  and to the alert on Telegram's socket", &told);
    daemon.terminate();
}

/// The evidence: a page that says that it is not well, and when it was asked.
struct Evidence {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Evidence {
    fn start() -> Evidence {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let own = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 4096]);
                own.lock().unwrap().push(Instant::now());
                let _ = stream.write_all(b"HTTP/1.1 500 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        Evidence { address, asked }
    }

    /// The last time it was asked before `then`.
    fn last(&self, then: Instant) -> Instant {
        *self.asked.lock().unwrap().iter().rev().find(|at| **at < then).unwrap()
    }
}

fn stop(times: u64, tick_ms: u64) {
    let (consul, oci, evidence) = (Consul::dev(Dev::default()), Oci::start(), Evidence::start());
    let (ms, after) = (Duration::from_millis, Duration::from_millis((tick_ms * 3).max(3_000)));
    oci.durations(Durations { stopping: ms(300), between: ms(100), starting: ms(300), ..Durations::default() });
    oci.add_instance(&ocid(&name(0)), Lifecycle::Running);
    let dir = directory();
    let key = oci.config_file(dir.path());
    let toml = format!(
        "tick = \"{tick_ms}ms\"\nstate = \"state.db\"\nlisten = \"127.0.0.1:0\"\ninstance = \"agent-1\"\n{QUIET}\
         [[probe]]\nname = \"n0\"\ntarget = \"http://{}/\"\ninterval = \"15s\"\n[consul]\naddress = \"{}\"\n\
         [oci]\nconfig_file = \"{}\"\nendpoint = \"{}\"\n\
         [recovery]\nmode = \"active\"\nafter = \"{}ms\"\nmax_attempts = 1000\nmax_per_hour = 1000\nmax_per_day = 1000\nmax_per_node = 1000\n\
         lease_ttl = \"3s\"\n[[node]]\nname = \"{}\"\ninstance_id = \"{}\"\nevidence = [\"probe/n0\"]\n",
        evidence.address,
        consul.url(),
        key.display(),
        oci.url(),
        after.as_millis(),
        name(0),
        ocid(&name(0)),
    );
    configure(dir.path(), &toml);
    let client = consul.client();
    let daemon = start(dir.path());
    let (mut from_evidence, mut from_machine, mut from_due) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..times {
        let held = session(&client, &name(0));
        let path = format!("watchdog/nodes/{}", name(0));
        wait_for("the key", || {
            client.put(&path, value(&name(0), &boot(n), 1).as_bytes(), How::Acquire(&held)).unwrap().then_some(())
        });
        wait_for("healthy", || phase(&daemon, "healthy").then_some(()));
        wait_for("the evidence to be down", || (daemon.state("probe/n0")? == "firing").then_some(()));
        let stops = oci.effects(Kind::Stop);
        client.session_destroy(&held).unwrap();
        wait_for("suspect", || phase(&daemon, "suspect").then_some(()));
        let lost = Instant::now();
        oci.wait("a STOP", DUE, |ledger| ledger.iter().filter(|e| e.kind == Kind::Stop && e.effect).count() > stops);
        let ledger = oci.ledger();
        let at = ledger.iter().rposition(|entry| entry.kind == Kind::Stop).unwrap();
        let (stop, look) = (&ledger[at], ledger[..at].iter().rev().find(|entry| entry.kind == Kind::Get).unwrap());
        from_evidence.push(stop.at - evidence.last(stop.at));
        from_machine.push(stop.at - look.at);
        from_due.push(stop.at.saturating_duration_since(lost + after));
        wait_for("waiting", || phase(&daemon, "waiting").then_some(()));
    }
    report(&format!("tick {tick_ms} ms: evidence re-read to STOP on the wire (<= 5 s)"), &from_evidence);
    report("  of it: from the look at the machine", &from_machine);
    report("  and from the end of `after`", &from_due);
    daemon.terminate();
}

fn beacon() {
    let consul = Consul::dev(Dev::default());
    let dir = directory();
    let toml = format!("[beacon]\nlisten = \"127.0.0.1:0\"\nnode = \"n1\"\n[consul]\naddress = \"{}\"\n", consul.url());
    configure(dir.path(), &toml);
    let mut command = binary(dir.path());
    let daemon = Daemon::start_with(command.arg("beacon"));
    wait_for("active", || (daemon.get("/healthz").status == 200).then_some(()));
    for _ in 0..20 {
        daemon.get("/metrics");
    }
    let before = cpu(daemon.pid());
    thread::sleep(Duration::from_secs(25));
    let memory = memory(daemon.pid());
    println!(
        "beacon with metrics: {:.1} MB resident, peak {:.1} (<= 8 MB); {:.2} ms CPU in 25 s",
        memory.0,
        memory.1,
        (cpu(daemon.pid()) - before) * 1e3
    );
    daemon.terminate();
}

fn fleet() {
    const COUNT: usize = 10_000;
    let hour = Duration::from_hours(1);
    let policy = Policy {
        instance: "agent".to_string(),
        mode: Mode::Active,
        paused: false,
        machines: Bounds {
            max_in_flight: 1,
            max_per_domain: 1,
            max_per_hour: 4,
            max_per_day: 12,
            max_per_target: 2,
            min_healthy: 51,
        },
        others: BTreeMap::new(),
        max_attempts: 3,
        poll: Duration::from_secs(5),
        cooldown: hour,
        references: Vec::new(),
    };
    let node = |n: usize| Node {
        cause: Cause::Heartbeat,
        kind: &NODE,
        key: NODE.key(&name(n as u64)),
        name: Arc::from(name(n as u64)),
        domain: None,
        evidence: Vec::new(),
        heartbeat_only: true,
        when_stopped: WhenStopped::Tell,
        ladder: vec![Arc::new(STOP_START)],
        starts: None,
        times: Times { after: Duration::from_mins(5), boot_grace: hour, attempts_reset_after: hour },
        repairable: true,
        machine: None,
    };
    let nodes: Vec<Node> = (0..COUNT).map(node).collect();
    let names: Vec<Arc<str>> = nodes.iter().map(|node| Arc::clone(&node.name)).collect();
    let alive = |name: &Arc<str>| {
        let beat = Look { life: Life::Alive, session: Some("s".into()), boot: Some("b".into()), planned: None };
        (Arc::clone(name), beat)
    };
    let well: Arc<BTreeMap<Arc<str>, Look>> = Arc::new(names.iter().map(alive).collect());
    let mut fleet = Fleet::new(policy, nodes);
    let mut pass = 0;
    let mut step = |nodes: &Arc<BTreeMap<Arc<str>, Look>>| {
        pass += 1;
        let mono = Mono(pass * 15_000);
        let now = Now { wall: Wall(1_767_225_600_000 + mono.0), mono, awake: mono };
        let beats = Heartbeats { at: mono, nodes: Arc::clone(nodes) };
        let input = Input {
            silenced: &|_| false,
            beats: Some(&beats),
            fresh_since: Mono(0),
            look: &|_| None,
            holds_lease: true,
            notes: &[],
            is_durable: true,
            answers: Vec::new(),
        };
        let began = Instant::now();
        let plan = fleet.tick(now, input);
        let took = began.elapsed();
        assert!(plan.orders.is_empty(), "nobody is touched");
        (took, plan.edges.len())
    };
    step(&well);
    let quiet: Vec<Duration> = (0..100).map(|_| step(&well).0).collect();
    report("Fleet::tick, 10,000 nodes, all well", &quiet);
    let gone = Arc::default();
    let (first, _) = step(&gone);
    let ill: Vec<Duration> = (0..100).map(|_| step(&gone).0).collect();
    report("Fleet::tick, 10,000 nodes, all ill", &ill);
    println!("Fleet::tick, 10,000 nodes lost at once: {first:.1?}");
}

fn binary(dir: &Path) -> std::process::Command {
    let Some(path) = std::env::var_os("BINARY") else { return watchdog(dir) };
    let mut command = std::process::Command::new(path);
    command.current_dir(dir).stdin(std::process::Stdio::null());
    command
}

fn start(dir: &Path) -> Daemon {
    Daemon::start_with(&mut binary(dir))
}

/// Like the tests' `wait`, with time for slow grids.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DUE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

fn metrics(daemon: &Daemon) -> String {
    String::from_utf8(daemon.get("/metrics").body).unwrap()
}

/// Nodes whose signal is ok.
fn well(daemon: &Daemon) -> u64 {
    let status = daemon.status();
    let signals = status["signals"].as_array().unwrap();
    let is_well = |s: &&serde_json::Value| s["key"].as_str().unwrap().starts_with("node/") && s["state"] == "ok";
    signals.iter().filter(is_well).count() as u64
}

fn phase(daemon: &Daemon, wanted: &str) -> bool {
    daemon.status()["targets"][0]["phase"] == wanted
}

fn passes(daemon: &Daemon) -> u64 {
    daemon.status()["tick"]["count"].as_u64().unwrap()
}

/// User and system time so far, in seconds: of every thread, in nanoseconds where the kernel counts them.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Resident now and at most, in megabytes.
fn memory(pid: u32) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// On a disk, not in memory: what is told was written before.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

fn report(what: &str, spans: &[Duration]) {
    let mut sorted = spans.to_vec();
    sorted.sort();
    let worst = sorted[sorted.len() - 1];
    println!("{what}: median {:.1?}, worst {worst:.1?} ({} times)", sorted[sorted.len() / 2], sorted.len());
}
