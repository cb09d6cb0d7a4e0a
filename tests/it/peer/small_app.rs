//! A small application on loopback with an envelope at `/metrics`, for stories told by the whole daemon.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::listener::{Ended, Listener, Request};

/// What the application says of itself.
#[derive(Default)]
struct Story {
    down: AtomicBool,
    failed: AtomicI64,
    asked: AtomicI64,
}

/// The application. Serves until the last of its handles is dropped.
#[derive(Clone)]
pub struct SmallApp {
    listener: Arc<Listener>,
    story: Arc<Story>,
}

impl SmallApp {
    /// Starts it, well.
    pub fn start() -> SmallApp {
        let story = Arc::<Story>::default();
        let telling = Arc::clone(&story);
        let listener = Listener::start(move || {
            let story = Arc::clone(&telling);
            move |stream: TcpStream, _: &Ended| answer(stream, &story)
        });
        SmallApp { listener: Arc::new(listener), story }
    }

    /// For `app.metrics_url`, or any probe.
    pub fn url(&self) -> String {
        format!("{}/metrics", self.listener.url())
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
    let Some(_) = Request::read(&mut stream) else { return };
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
