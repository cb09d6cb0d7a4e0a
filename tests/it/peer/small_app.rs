//! A small application on loopback with an envelope at `/metrics`, for stories told by the whole daemon.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the application says of itself.
#[derive(Default)]
struct Story {
    down: AtomicBool,
    failed: AtomicI64,
    asked: AtomicI64,
}

/// The application. Goes on serving until the test process ends.
#[derive(Clone)]
pub struct SmallApp {
    address: SocketAddr,
    story: Arc<Story>,
}

impl SmallApp {
    /// Starts it, well.
    pub fn start() -> SmallApp {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let app = SmallApp { address: listener.local_addr().unwrap(), story: Arc::default() };
        let story = Arc::clone(&app.story);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let story = Arc::clone(&story);
                thread::spawn(move || answer(stream, &story));
            }
        });
        app
    }

    /// For `app.metrics_url`, or any probe.
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// From now on it answers 503, or is well again.
    pub fn down(&self, down: bool) {
        self.story.down.store(down, Ordering::SeqCst);
    }

    /// One more job has failed.
    pub fn job_fails(&self) {
        self.story.failed.fetch_add(1, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub fn asked(&self) -> i64 {
        self.story.asked.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, story: &Story) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
            _ => return,
        }
    }
    story.asked.fetch_add(1, Ordering::SeqCst);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let (status, body) = if story.down.load(Ordering::SeqCst) {
        ("503 Service Unavailable", "no".to_string())
    } else {
        let failed = story.failed.load(Ordering::SeqCst);
        let body = format!(
            r#"{{"generated_at": {now}, "queue": {{"counts": {{"queued": 3, "failed": {failed}}}}}, "agents": [{{"run_id": "a1", "cpu_ticks": {}}}]}}"#,
            story.asked.load(Ordering::SeqCst)
        );
        ("200 OK", body)
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}
