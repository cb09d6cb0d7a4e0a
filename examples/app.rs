//! The small application that `compose.yaml` puts beside the watchdog: a job queue with two agents.
//!
//! It serves its state as a JSON envelope on `:8080/metrics` and can be broken on purpose, so that
//! one sees what the watchdog says: `app fail-job`, `app stick-agent`, `app crash`, `app mend`.
//! Standard library only and no dependency on the watchdog: it stands for any program at all.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PORT: u16 = 8080;
const WITHIN: Duration = Duration::from_secs(2);
/// Longer requests than this are not read: the first line is all that matters.
const REQUEST_BYTES: usize = 1024;

/// What the application would know about itself.
#[derive(Default)]
struct Shop {
    seconds: AtomicU64,
    failed: AtomicU64,
    first_ticks: AtomicU64,
    second_ticks: AtomicU64,
    second_stuck: AtomicBool,
}

impl Shop {
    /// One second of work: each agent that is not stuck uses some CPU.
    fn work(&self) {
        self.seconds.fetch_add(1, Relaxed);
        self.first_ticks.fetch_add(40, Relaxed);
        if !self.second_stuck.load(Relaxed) {
            self.second_ticks.fetch_add(25, Relaxed);
        }
    }

    fn envelope(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = self.seconds.load(Relaxed);
        format!(
            concat!(
                r#"{{"generated_at":{}.{:03},"queue":{{"counts":{{"queued":{},"running":2,"done":{},"failed":{}}}}},"#,
                r#""agents":[{{"run_id":"a1","cpu_ticks":{}}},{{"run_id":"a2","cpu_ticks":{}}}]}}"#
            ),
            now.as_secs(),
            now.subsec_millis(),
            seconds % 7,
            seconds / 3,
            self.failed.load(Relaxed),
            self.first_ticks.load(Relaxed),
            self.second_ticks.load(Relaxed),
        )
    }

    /// The answer to one request: status line and body.
    fn answer(&self, method: &str, path: &str) -> (&'static str, String) {
        match (method, path) {
            ("GET", "/metrics") => return ("200 OK", self.envelope()),
            ("POST", "/fail-job") => _ = self.failed.fetch_add(1, Relaxed),
            ("POST", "/stick-agent") => self.second_stuck.store(true, Relaxed),
            ("POST", "/mend") => self.second_stuck.store(false, Relaxed),
            ("POST", "/crash") => std::process::exit(3),
            _ => return ("404 Not Found", String::from("{}")),
        }
        ("200 OK", String::from("{}"))
    }
}

fn serve_one(shop: &Shop, mut peer: TcpStream) -> std::io::Result<()> {
    peer.set_read_timeout(Some(WITHIN))?;
    peer.set_write_timeout(Some(WITHIN))?;
    let mut request = Vec::new();
    let mut part = [0; 256];
    while request.len() < REQUEST_BYTES && !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match peer.read(&mut part)? {
            0 => break,
            n => request.extend(part.iter().take(n)),
        }
    }
    let text = String::from_utf8_lossy(&request);
    let mut words = text.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = shop.answer(method, path);
    let length = body.len();
    write!(
        peer,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn serve() -> Result<(), Box<dyn Error>> {
    let shop = Arc::new(Shop::default());
    let worker = Arc::clone(&shop);
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            worker.work();
        }
    });
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    println!("app: serving http://0.0.0.0:{PORT}/metrics");
    for peer in listener.incoming() {
        // A peer that went away or was slow is its own loss.
        if let Err(error) = peer.and_then(|peer| serve_one(&shop, peer)) {
            eprintln!("app: request not answered: {error}");
        }
    }
    Ok(())
}

/// Speaks to the application that already runs in this container.
fn ask(method: &str, path: &str) -> Result<(), Box<dyn Error>> {
    let mut peer = TcpStream::connect(("127.0.0.1", PORT))?;
    peer.set_read_timeout(Some(WITHIN))?;
    write!(peer, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    peer.read_to_string(&mut answer)?;
    // An application that was told to crash cannot answer.
    if answer.starts_with("HTTP/1.1 200") || (path == "/crash" && answer.is_empty()) {
        return Ok(());
    }
    Err(format!("{method} {path} was answered: {}", answer.lines().next().unwrap_or("nothing")).into())
}

fn main() -> ExitCode {
    let asked = std::env::args().nth(1).unwrap_or_default();
    let done = match asked.as_str() {
        "" => serve(),
        "healthcheck" => ask("GET", "/metrics"),
        "fail-job" | "stick-agent" | "mend" | "crash" => ask("POST", &format!("/{asked}")),
        _ => Err("usage: app [healthcheck | fail-job | stick-agent | mend | crash]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("app: {error}");
            ExitCode::FAILURE
        }
    }
}
