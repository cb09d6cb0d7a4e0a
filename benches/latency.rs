//! How soon a person is told: from a container's death to the request on Telegram's socket; and how soon the daemon sees:
//! from its start to its first complete tick.
//!
//! `cargo bench --bench latency -- [CRASHES] [CONTAINERS]` on a machine with a Docker Engine. The real binary
//! with a 15 s tick and a state file on disk watches 20 containers; one after another ends by itself with exit
//! code 3, which the verdict tells without any grace. A death is the instant at which the kernel reports the end of the
//! container's first process (pidfd). The engine's own share, until another client hears its event, is shown beside it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measuring program may stop at the first surprise")]
#![allow(dead_code, reason = "the tests' parts are shared; this program needs some of them")]
#![allow(missing_docs, reason = "a program")]

#[path = "../tests/it/daemon.rs"]
mod daemon;
#[path = "../tests/it/engine.rs"]
mod engine;
#[path = "../tests/it/parts.rs"]
mod parts;
#[path = "../tests/it/peer"]
mod peer {
    pub mod html;
    pub mod listener;
    pub mod telegram;
}

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use watchdog::client::http::{Http, Options};

use crate::daemon::{Daemon, configure, watchdog};
use crate::engine::Engine;
use crate::peer::telegram::{TOKEN, Telegram};

const DUE: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |index: usize, default: usize| arguments.get(index).map_or(default, |a| a.parse().unwrap());
    let (crashes, containers) = (number(0, 20), number(1, 20));
    let bare = starts("[docker]\nenabled = false\n", |status| status["tick"]["count"].as_u64() >= Some(1));
    report("start to first complete tick, no docker (<= 100 ms)", &bare);
    if !parts::busybox() {
        eprintln!("SKIPPED the latency of crashes: no docker");
        return;
    }
    let engine = Engine::local("latency");
    for n in 0..containers {
        // Waits for free, and ends by itself when it is told to.
        engine.run(&format!("c{n}"), &[], "trap 'exit 3' USR1; while :; do sleep 999 & wait; done");
    }
    let watch = format!("[docker]\ncontainers = [\"{}\"]\n", engine.all());
    let full = starts(&watch, |status| {
        let signals = status["signals"].as_array().unwrap();
        let well =
            signals.iter().filter(|s| s["key"].as_str().unwrap().starts_with("container/") && s["state"] == "ok");
        well.count() == containers
    });
    report(&format!("start to first complete tick, {containers} containers (<= 300 ms)"), &full);
    deaths(&engine, &watch, crashes, containers);
}

/// Lets containers die one after another.
fn deaths(engine: &Engine, watch: &str, crashes: usize, containers: usize) {
    let telegram = Telegram::start();
    let dir = directory();
    let channel =
        format!("[telegram]\nbot_token = \"{TOKEN}\"\nchat_id = \"42\"\napi_base = \"{}\"\n", telegram.base_url());
    configure(dir.path(), &format!("state = \"state.db\"\ntick = \"15s\"\n[host]\nenabled = false\n{channel}{watch}"));
    let daemon = Daemon::start(dir.path());
    for n in 0..containers {
        daemon.wait_state(&format!("container/{}", engine.name(&format!("c{n}"))), "ok");
    }
    let events = Events::follow(engine);
    let (mut told, mut engines, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..crashes {
        // The channel's own pace of one message a second is not a part of this; 17 spreads the tries over the grid.
        std::thread::sleep(Duration::from_millis(1300 + (n as u64 * 17) % 150));
        let name = engine.name(&format!("c{}", n % containers));
        let before = telegram.requests().len();
        let died = die(engine, &name);
        let heard = events.next(&name);
        let request = telegram.wait_for(before + 1, DUE)[before].at;
        told.push(request.duration_since(died));
        engines.push(heard.saturating_duration_since(died));
        ours.push(request.saturating_duration_since(heard));
        std::thread::sleep(Duration::from_millis(1300));
        engine.docker(&["start", &name]);
        telegram.wait_for(before + 2, DUE);
    }
    report("crash to the request on Telegram's socket, 15 s tick (median <= 150 ms)", &told);
    report("  of it: until another client hears the engine's event", &engines);
    report("  of it: from there on", &ours);
    let texts = telegram.delivered();
    assert_eq!(texts.len(), crashes * 2, "{texts:#?}");
    assert_eq!(texts.iter().filter(|m| m.text.contains("exit code 3")).count(), crashes);
    daemon.terminate();
}

/// Ends a container's first process from outside the engine; the instant of its death.
fn die(engine: &Engine, name: &str) -> Instant {
    let pid: i32 = engine.docker(&["inspect", "--format", "{{.State.Pid}}", name]).parse().unwrap();
    let process = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&process, Signal::USR1).unwrap();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
    Instant::now()
}

/// Deaths as another client of the engine hears of them.
struct Events {
    child: Child,
    heard: Receiver<(String, Instant)>,
}

impl Events {
    fn follow(engine: &Engine) -> Events {
        let mut child = Command::new("docker")
            .args(["--host", &format!("unix://{}", engine.socket().display()), "events"])
            .args(["--filter", "event=die", "--format", "{{.Actor.Attributes.name}}"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, heard) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send((line, Instant::now())).is_err() {
                    return;
                }
            }
        });
        Events { child, heard }
    }

    fn next(&self, name: &str) -> Instant {
        loop {
            let (heard, at) = self.heard.recv_timeout(DUE).unwrap();
            if heard == name {
                return at;
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From the start of a process until its status satisfies `complete`, some times.
fn starts(watch: &str, complete: impl Fn(&Value) -> bool) -> Vec<Duration> {
    (0..10).map(|_| start(watch, &complete)).collect()
}

fn start(watch: &str, complete: &impl Fn(&Value) -> bool) -> Duration {
    let dir = directory();
    configure(dir.path(), &format!("state = \"state.db\"\n{watch}"));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = Http::new(Options { timeout: Duration::from_secs(2), body_limit: 64 << 20, ..Options::default() });
    let began = Instant::now();
    let mut child = watchdog(dir.path())
        .args(["--set", &format!("listen={free}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let took = loop {
        let answer = http.get(&format!("http://{free}/api/v1/status"), &[]);
        let status = answer.ok().and_then(|answer| serde_json::from_slice::<Value>(&answer.body).ok());
        if status.is_some_and(|status| complete(&status)) {
            break began.elapsed();
        }
        assert!(began.elapsed() < DUE, "no complete tick");
        std::thread::sleep(Duration::from_millis(1));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

/// On a disk, not in memory: what is told was written before.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

fn report(what: &str, spans: &[Duration]) {
    let mut sorted = spans.to_vec();
    sorted.sort();
    let at = |part: usize| sorted[(sorted.len() * part / 100).min(sorted.len() - 1)];
    println!(
        "{what}: median {:.1?}, p95 {:.1?}, worst {:.1?} ({} times)",
        at(50),
        at(95),
        sorted[sorted.len() - 1],
        sorted.len()
    );
}
