//! One server with four probes against a scripted Telegram: when it is down a person gets one message, and one more when
//! it is back.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::daemon::{Daemon, SOON};
use crate::peer::telegram::Telegram;
use crate::setup::Setup;

/// A web server that can be stopped and started again on its port.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves what comes to this listener.
    pub fn start(listener: TcpListener) -> Server {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        listener.set_nonblocking(true).unwrap();
        let serve = move || {
            while !stopped.load(Ordering::SeqCst) {
                let Ok((mut stream, _)) = listener.accept() else {
                    thread::park_timeout(Duration::from_millis(2));
                    continue;
                };
                thread::spawn(move || {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    // A tcp probe says nothing and goes away.
                    if matches!(stream.read(&mut [0; 2_048]), Ok(1..)) {
                        let _ =
                            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
                    }
                });
            }
        };
        Server { stop, thread: Some(thread::spawn(serve)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn one_server_with_four_probes_is_one_alert_and_one_recovery() {
    let telegram = Telegram::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::start(listener);
    let dir = tempfile::tempdir().unwrap();
    let probe = |name: &str, target: &str, more: &str| {
        let pace = "interval = \"500ms\"\nfail_after = 2\nrecover_after = 2\n";
        format!("[[probe]]\nname = \"nginx-{name}\"\ntarget = \"{target}\"\n{pace}{more}")
    };
    let url = format!("http://127.0.0.1:{port}/");
    Setup::new("1s")
        .set("instance", "web-1")
        .telegram(&telegram)
        .block(&probe("port", &format!("tcp://127.0.0.1:{port}"), ""))
        .block(&probe("page", &url, ""))
        .block(&probe("health", &format!("{url}health"), "body_contains = \"ok\"\n"))
        .block(&probe("api", &format!("{url}api"), "note = \"the shop is down with it\"\n"))
        .write(dir.path());
    let daemon = Daemon::start(dir.path());
    let names = ["port", "page", "health", "api"];
    let all = |state: &str| names.iter().for_each(|name| daemon.wait_state(&format!("probe/nginx-{name}"), state));
    all("ok");
    drop(server);
    let told = telegram.wait_delivered(1, SOON);
    let text = &told[0].text;
    assert!(text.starts_with(&format!("🔴 web-1 · nginx (127.0.0.1:{port}): 4")), "{text}");
    for name in names {
        assert!(text.contains(&format!("probe/nginx-{name}")), "{name}: {text}");
    }
    let advice: Vec<&str> = text.lines().filter(|line| line.starts_with('→')).collect();
    assert_eq!(advice.len(), 2, "one next step, and the note: {text}");
    assert!(advice[0].contains(&format!("ss -ltnp 'sport = :{port}'")), "{text}");
    assert_eq!(advice[1], "→ the shop is down with it");
    all("firing");
    let _server = Server::start(TcpListener::bind(("127.0.0.1", port)).unwrap());
    let told = telegram.wait_delivered(2, SOON);
    let text = &told[1].text;
    assert!(text.starts_with(&format!("🟢 web-1 · nginx (127.0.0.1:{port}): 4 checks are OK again")), "{text}");
    all("ok");
    for _ in 0..3 {
        daemon.wait_pass();
    }
    assert_eq!(telegram.delivered().len(), 2, "{:#?}", telegram.delivered());
    daemon.terminate();
}
