//! What the whole daemon costs: the real binary, measured from outside.
//!
//! `cargo bench --bench daemon -- idle [SECONDS]`: defaults with 20 containers (where an engine and
//! a static busybox are at hand), 20 probes, a state file and the page open; resident memory and share of a core.
//! `cargo bench --bench daemon -- probes COUNT INTERVAL_MS SECONDS [HANGING]`: also CPU per check
//! and the worst lateness of a tick.
//! With `BINARY=PATH` before it, another binary is measured: the static one of the image, for example.
//! `cargo bench --bench daemon -- compare COUNT INTERVAL_MS SECONDS`: the same work done in one run by a bare loop of
//! sockets (the floor), by monit where it is installed, and by the watchdog without and with `keep_alive`; as ratios.
//! `cargo bench --bench daemon -- start`: from the start to the first complete pass, and from SIGTERM to the end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measuring program may stop at the first surprise")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |index: usize, default: u64| arguments.get(index).map_or(default, |a| a.parse().unwrap());
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(),
        Some("probes") => probes(number(1, 1000), number(2, 5000), number(3, 30), number(4, 0)),
        Some("compare") => compare(number(1, 1000), number(2, 5000), number(3, 60)),
        Some("floor") => floor(number(1, 0), number(2, 1000), number(3, 5000)),
        Some("start") => start(),
        _ => idle(number(1, 60)),
    }
}

fn idle(seconds: u64) {
    let server = Server::start();
    let containers = Containers::start(20);
    let mut toml = "state = \"state.db\"\n".to_string();
    for n in 0..20 {
        let _ = write!(toml, "[[probe]]\nname = \"p{n:02}\"\ntarget = \"http://127.0.0.1:{}/\"\n", server.answering);
    }
    let daemon = Daemon::start(&toml);
    let before = daemon.settle();
    let pages = seconds / 15;
    for _ in 0..pages {
        daemon.get("/");
        std::thread::sleep(Duration::from_secs(15));
    }
    let spent = (daemon.cpu() - before) / (pages * 15) as f64;
    println!(
        "idle: {} containers, 20 probes, state file, page open: {:.1} MB resident, {:.3} % of a core over {} s",
        containers.count,
        daemon.resident_mb(),
        spent * 100.0,
        pages * 15
    );
}

fn probes(count: u64, interval_ms: u64, seconds: u64, hanging: u64) {
    let server = Server::start();
    let mut toml = "[host]\nenabled = false\n[docker]\nenabled = false\n".to_string();
    for n in 0..count {
        let port = if n < hanging { server.silent } else { server.answering };
        let _ = write!(
            toml,
            "[[probe]]\nname = \"p{n:05}\"\ntarget = \"http://127.0.0.1:{port}/{n}\"\ninterval = \"{interval_ms}ms\"\n"
        );
    }
    let daemon = Daemon::start(&toml);
    let before = daemon.settle();
    let (checks, began) = (server.count(), Instant::now());
    let mut worst: f64 = 0.0;
    while began.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_secs(1));
        let status: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/status")).unwrap();
        worst = worst.max(status["tick"]["lateness_ms"].as_f64().unwrap());
    }
    let (spent, checked) = (daemon.cpu() - before, server.count() - checks);
    let due = (count - hanging) as f64 * began.elapsed().as_secs_f64() * 1e3 / interval_ms as f64;
    println!(
        "{count} probes each {interval_ms} ms, {hanging} hanging: {:.1} MB resident, {:.3} ms CPU a check, {checked} checks of {due:.0} due, \
         worst lateness {worst:.1} ms",
        daemon.resident_mb(),
        spent * 1e3 / checked as f64,
    );
}

/// What one program spent on the work.
struct Spent {
    resident_mb: f64,
    cpu_ms: f64,
    checks: u64,
}

/// Lets the process work for so long, after its first rounds.
fn measure(pid: u32, server: &Server, seconds: u64) -> Spent {
    std::thread::sleep(Duration::from_secs(8));
    let (before, checks) = (cpu(pid), server.count());
    std::thread::sleep(Duration::from_secs(seconds));
    let checks = server.count() - checks;
    Spent { resident_mb: resident_mb(pid), cpu_ms: (cpu(pid) - before) * 1e3 / checks as f64, checks }
}

fn compare(count: u64, interval_ms: u64, seconds: u64) {
    let server = Server::start();
    let own = |keep_alive: bool| {
        let mut toml = "[host]\nenabled = false\n[docker]\nenabled = false\n".to_string();
        for n in 0..count {
            let _ = write!(
                toml,
                "[[probe]]\nname = \"p{n:05}\"\ntarget = \"http://127.0.0.1:{}/{n}\"\ninterval = \"{interval_ms}ms\"\nkeep_alive = {keep_alive}\n",
                server.answering
            );
        }
        let daemon = Daemon::start(&toml);
        measure(daemon.child.id(), &server, seconds)
    };
    let words = ["floor".to_string(), server.answering.to_string(), count.to_string(), interval_ms.to_string()];
    let mut bare = Guard(Command::new(std::env::current_exe().unwrap()).args(words).spawn().unwrap());
    let floor = measure(bare.0.id(), &server, seconds);
    bare.end();
    let monit = monit(&server, count, interval_ms, seconds);
    let (new, kept) = (own(false), own(true));
    let peer = monit.as_ref();
    for (name, spent) in
        [("floor", Some(&floor)), ("monit", peer), ("watchdog", Some(&new)), ("keep_alive", Some(&kept))]
    {
        let Some(spent) = spent else {
            println!("SKIPPED monit: it is not installed");
            continue;
        };
        let against = |other: Option<&Spent>, of: fn(&Spent) -> f64| {
            other.map_or("-".to_string(), |other| format!("{:.2}", of(spent) / of(other)))
        };
        println!(
            "{name:>10}: {:5.1} MB resident ({} x monit), {:.3} ms CPU a check ({} x monit, {} x floor), {} checks",
            spent.resident_mb,
            against(peer, |s| s.resident_mb),
            spent.cpu_ms,
            against(peer, |s| s.cpu_ms),
            against(Some(&floor), |s| s.cpu_ms),
            spent.checks
        );
    }
}

/// The least that a check can cost: connect, send, receive, close, all of a round without a pause.
fn floor(port: u64, count: u64, interval_ms: u64) {
    let address = ("127.0.0.1", u16::try_from(port).unwrap());
    let mut due = Instant::now();
    loop {
        for _ in 0..count {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = [0; 1024];
            while stream.read(&mut answer).unwrap() > 0 {}
        }
        due += Duration::from_millis(interval_ms);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// The same work by monit, all checks in each cycle; `None` where it is not installed.
fn monit(server: &Server, count: u64, interval_ms: u64, seconds: u64) -> Option<Spent> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().display();
    let mut rules = format!(
        "set daemon {}\nset pidfile {place}/pid\nset idfile {place}/id\nset statefile {place}/state\n",
        (interval_ms / 1000).max(1)
    );
    for n in 0..count {
        let port = server.answering;
        let _ = write!(
            rules,
            "check host p{n:05} with address 127.0.0.1\n  if failed port {port} protocol http request \"/{n}\" then alert\n"
        );
    }
    let file = dir.path().join("monitrc");
    std::fs::write(&file, rules).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new("monit");
    let child = command.arg("-I").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let mut child = Guard(child);
    let spent = measure(child.0.id(), server, seconds);
    child.end();
    Some(spent)
}

/// A process that ends with its measurement.
struct Guard(Child);

impl Guard {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

fn start() {
    for (what, containers, limit) in [("no containers", 0, 100), ("20 containers", 20, 300)] {
        let held = Containers::start(containers);
        let docker = if held.count > 0 { "" } else { "[docker]\nenabled = false\n" };
        let mut starts = Vec::new();
        let mut stops = Vec::new();
        for _ in 0..10 {
            let began = Instant::now();
            let daemon = Daemon::start(&format!("state = \"state.db\"\n{docker}"));
            loop {
                let status: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/status")).unwrap();
                if status["tick"]["count"].as_u64().unwrap() > 0 {
                    break;
                }
            }
            starts.push(began.elapsed());
            std::thread::sleep(Duration::from_millis(300));
            stops.push(daemon.terminate());
        }
        starts.sort();
        stops.sort();
        println!(
            "{what} ({} there): start to first complete pass {:?} median, {:?} worst (limit {limit} ms); SIGTERM to exit {:?} worst",
            held.count, starts[5], starts[9], stops[9]
        );
    }
}

/// The real binary, in a directory of its own.
struct Daemon {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Daemon {
    fn start(toml: &str) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("watchdog.toml"), format!("listen = \"127.0.0.1:0\"\n{toml}")).unwrap();
        let binary = std::env::var_os("BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_watchdog").into());
        let mut child =
            Command::new(binary).current_dir(dir.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the daemon ended");
            if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
                break format!("127.0.0.1:{}", rest.trim().trim_end_matches('/'));
            }
        };
        // Whatever it says later must not block it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Daemon { child, address, _dir: dir }
    }

    /// Waits for the first rounds to be over; CPU seconds spent by then.
    fn settle(&self) -> f64 {
        std::thread::sleep(Duration::from_secs(8));
        self.cpu()
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default()
    }

    fn cpu(&self) -> f64 {
        cpu(self.child.id())
    }

    fn resident_mb(&self) -> f64 {
        resident_mb(self.child.id())
    }

    fn terminate(mut self) -> Duration {
        let began = Instant::now();
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap();
        began.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process so far, in seconds; the clock ticks at 100 Hz (proc(5)).
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// A server in a process of its own, so that the figures are the watchdog's alone.
struct Server {
    child: Child,
    answering: u16,
    silent: u16,
}

impl Server {
    fn start() -> Server {
        let mut child =
            Command::new(std::env::current_exe().unwrap()).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports: Vec<u16> = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Server { child, answering: ports[0], silent: ports[1] }
    }

    fn count(&self) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.answering)).unwrap();
        stream.write_all(b"GET /count HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.rsplit_once("\r\n\r\n").unwrap().1.trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One port that answers and counts, one that takes connections and says nothing.
fn serve() {
    let answering = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{} {}", answering.local_addr().unwrap().port(), silent.local_addr().unwrap().port());
    let served = Arc::new(AtomicU64::new(0));
    std::thread::spawn(move || silent.incoming().collect::<Vec<_>>().len());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Ok((mut stream, _)) = answering.accept() {
                    let mut head = [0; 2048];
                    let length = stream.read(&mut head).unwrap_or(0);
                    let asks = head[..length].starts_with(b"GET /count");
                    let so_far =
                        if asks { served.load(Ordering::SeqCst) } else { served.fetch_add(1, Ordering::SeqCst) };
                    let body = format!("{so_far:<20}");
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                }
            });
        }
    });
}

/// Containers that sleep; none where there is no engine or no static busybox.
struct Containers {
    names: Vec<String>,
    count: usize,
}

impl Containers {
    fn start(wanted: usize) -> Containers {
        let ready = wanted > 0 && Path::new("/bin/busybox").exists() && docker(&["version"]);
        if !ready {
            if wanted > 0 {
                println!("SKIPPED containers: no Docker Engine or no static busybox");
            }
            return Containers { names: Vec::new(), count: 0 };
        }
        let image = "wdt-bench-sleep";
        let import = format!("tar -C / -c bin/busybox | docker import - {image}");
        assert!(Command::new("sh").args(["-c", &import]).stdout(Stdio::null()).status().unwrap().success());
        let mut names = Vec::new();
        for n in 0..wanted {
            let name = format!("wdt-bench-{}-{n}", std::process::id());
            assert!(docker(&[
                "run",
                "-d",
                "--network",
                "none",
                "--name",
                &name,
                image,
                "/bin/busybox",
                "sleep",
                "100000"
            ]));
            names.push(name);
        }
        Containers { count: names.len(), names }
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for name in &self.names {
            docker(&["rm", "-f", name]);
        }
    }
}

fn docker(arguments: &[&str]) -> bool {
    Command::new("docker")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
