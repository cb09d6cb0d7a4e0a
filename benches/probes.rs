//! What probes cost: resident memory and CPU per check, against a server on loopback.
//!
//! `cargo bench --bench probes -- PROBES INTERVAL_MS SECONDS [HANGING]`, for example
//! `cargo bench --bench probes -- 1000 5000 30 100`. The server is a process of its own, so that the
//! figures are the watchdog's alone: this process holds the source, a loop that asks it each 15 s or
//! when it is woken, and nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measuring program may stop at the first surprise")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::core::signal::Reading;
use watchdog::source::probe::ENTRY;
use watchdog::source::{Ask, Outfit, Source};
use watchdog::wake::Waker;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.first().is_some_and(|a| a == "serve") {
        return serve();
    }
    let number = |index: usize, default: u64| arguments.get(index).map_or(default, |a| a.parse().unwrap());
    measure(number(0, 100), number(1, 5000), number(2, 20), number(3, 0));
}

/// A server with two ports: one answers, one takes connections and says nothing.
fn serve() {
    let answering = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{} {}", answering.local_addr().unwrap().port(), silent.local_addr().unwrap().port());
    let served = Arc::new(AtomicU64::new(0));
    for _ in 0..16 {
        let (listener, served) = (answering.try_clone().unwrap(), Arc::clone(&served));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut head = [0; 2048];
                let length = stream.read(&mut head).unwrap_or(0);
                let is_count = head[..length].starts_with(b"GET /count");
                let so_far =
                    if is_count { served.load(Ordering::SeqCst) } else { served.fetch_add(1, Ordering::SeqCst) };
                let body = format!("{so_far:<20}");
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
    }
    std::thread::spawn(move || {
        let held: Vec<_> = silent.incoming().collect();
        drop(held);
    });
    // Ends with the process that started it.
    let _ = std::io::stdin().read(&mut [0]);
}

fn measure(probes: u64, interval: u64, seconds: u64, hanging: u64) {
    let mut server = Command::new(std::env::current_exe().unwrap());
    let mut server = server.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let (port, silent) = line.trim().split_once(' ').unwrap();

    let bare = resident();
    let mut source = source(probes, interval, hanging, port, silent);
    let clock = Clock::system();
    let waker = source.1;
    let ask = |now| Ask {
        now,
        fresh_since: watchdog::core::time::Mono(0),
        hurry_since: watchdog::core::time::Mono(i64::MIN),
        once: false,
    };
    let built = resident();
    source.0.observe(&ask(clock.now())).unwrap();
    // The first second is the start; the figures are of the life after it.
    std::thread::sleep(Duration::from_millis(2000 + interval));

    let (begun, cpu, served) = (Instant::now(), cpu_time(), count(port));
    let end = begun + Duration::from_secs(seconds);
    let (mut looks, mut most, mut threads) = (0u64, 0, 0);
    while Instant::now() < end {
        let tick = (Instant::now() + Duration::from_secs(1)).min(end);
        waker.wait_until(tick);
        source.0.observe(&ask(clock.now())).unwrap();
        looks += 1;
        most = most.max(resident());
        threads = threads.max(status("Threads:"));
    }
    let (cpu, served, lasted) = (cpu_time().saturating_sub(cpu), count(port) - served, begun.elapsed());
    let report = source.0.observe(&ask(clock.now())).unwrap();
    let up = report.observations.iter().filter(|o| o.reading == Reading::Up).count();
    let now = clock.now().mono;
    let oldest = report.observations.iter().filter(|o| o.reading == Reading::Up).map(|o| now.since(o.seen_at)).max();
    let due = (probes - hanging) as f64 * lasted.as_secs_f64() / (interval as f64 / 1000.0);
    println!("{probes} probes, {hanging} of them hanging, every {interval} ms, for {:.1} s", lasted.as_secs_f64());
    println!(
        "  checks served {served} of {due:.0} due; up {up}; oldest result of a healthy one {oldest:?}; looks {looks}"
    );
    println!(
        "  CPU {:.4} ms per check ({:.2} % of a core)",
        cpu.as_secs_f64() * 1e3 / served as f64,
        cpu.as_secs_f64() * 100.0 / lasted.as_secs_f64()
    );
    let mb = |kb: u64| kb as f64 / 1e3;
    println!(
        "  resident {:.1} MB at most ({:.1} MB before, {:.1} MB once the settings were read), {threads} threads",
        mb(most),
        mb(bare),
        mb(built)
    );
    drop(server.stdin.take());
    server.wait().unwrap();
}

fn source(probes: u64, interval: u64, hanging: u64, port: &str, silent: &str) -> (Box<dyn Source>, Waker) {
    use std::fmt::Write as _;
    let mut text = String::new();
    for n in 0..probes {
        let port = if n < hanging { silent } else { port };
        // Spread over the list, as hanging targets are in life.
        let name = n * 7919 % probes;
        writeln!(
            text,
            "[[probe]]\nname = \"p{name:05}\"\ntarget = \"http://127.0.0.1:{port}/{name}\"\ninterval = \"{interval}ms\""
        )
        .unwrap();
    }
    let config = Config::from_toml(&text).unwrap();
    let waker = Waker::new();
    let outfit = Outfit {
        clock: Clock::system(),
        waker: waker.clone(),
        timeout: Duration::from_secs(5),
        tick: Duration::from_secs(15),
        previous_boot: None,
        seen_before: Arc::default(),
        kept: watchdog::source::Kept::default(),
    };
    ((ENTRY.build)(&config, &outfit).unwrap().unwrap(), waker)
}

fn count(port: &str) -> u64 {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.write_all(b"GET /count HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n").next().unwrap().trim().parse().unwrap()
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Resident memory in kB.
fn resident() -> u64 {
    status("VmRSS:")
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
