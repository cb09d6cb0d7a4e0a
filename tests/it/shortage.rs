//! Too little of something: connections for the health check, file descriptors, a clock that was never set.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::daemon::{Daemon, run, wait, watchdog};
use crate::parts;
use crate::setup::Setup;

/// Clients that send half a request, wait to be closed and come back. Gone when dropped.
struct Crowd {
    gone: Arc<AtomicBool>,
    turned_away: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Crowd {
    fn start(page: SocketAddr, clients: usize) -> Crowd {
        let (gone, turned_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (told, counted) = (Arc::clone(&gone), Arc::clone(&turned_away));
        let come = move || {
            let mut stream = TcpStream::connect(page).ok()?;
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localh");
            stream.set_nonblocking(true).ok()?;
            Some(stream)
        };
        let thread = thread::spawn(move || {
            let mut crowd: Vec<Option<TcpStream>> = (0..clients).map(|_| come()).collect();
            while !told.load(Ordering::SeqCst) {
                for place in &mut crowd {
                    let mut piece = [0; 256];
                    let stays = match place.as_mut().map(|stream| stream.read(&mut piece)) {
                        Some(Ok(count)) => {
                            counted.fetch_add(usize::from(count > 0), Ordering::SeqCst);
                            false
                        }
                        Some(Err(error)) => error.kind() == ErrorKind::WouldBlock,
                        None => false,
                    };
                    if !stays {
                        *place = come();
                    }
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        Crowd { gone, turned_away, thread: Some(thread) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
        let _ = self.thread.take().unwrap().join();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn two_hundred_slow_clients_do_not_keep_the_health_check_out() {
    let dir = tempfile::tempdir().unwrap();
    let page = free_address();
    // No state file: the page is all that there is to ask, as in a container with a read-only root.
    Setup::new("100ms").set("state", "").set("listen", page.to_string()).write(dir.path());
    let _daemon = Daemon::start_with(&mut watchdog(dir.path()));
    let crowd = Crowd::start(page, 200);
    wait("the crowd to fill the page", || (crowd.turned_away.load(Ordering::SeqCst) > 200).then_some(()));
    for _ in 0..20 {
        let health = run(dir.path(), &["healthcheck"]);
        assert!(health.status.success(), "{}", String::from_utf8_lossy(&health.stderr));
    }
    // Everybody else is told honestly what is wrong.
    let status = wait("a refusal", || {
        let status = run(dir.path(), &["status"]);
        (status.status.code() == Some(3)).then_some(status)
    });
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(said.contains("503: too many connections"), "{said}");
}

#[test]
fn a_health_check_says_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let page = free_address();
    Setup::new("100ms").set("state", "").set("listen", page.to_string()).write(dir.path());
    let said = || String::from_utf8_lossy(&run(dir.path(), &["healthcheck"]).stderr).into_owned();
    assert!(said().contains("no daemon answers"), "{}", said());
    let daemon = Daemon::start_with(&mut watchdog(dir.path()));
    assert_eq!(said(), "");
    daemon.kill();
    // Something else took its place, and its name.
    let _other = crate::peer::http::Peer::start(crate::peer::http::Manner::answer("500 No", "<html>no</html>"));
    assert!(said().contains("no daemon answers"), "{}", said());
}

/// Words that blame somebody else, or say something of what was not seen.
const WRONG: [&str; 7] =
    ["does not resolve", "set host.proc", "refused", "is Docker running", "exit code", "· probe/", "· host/"];

#[test]
fn out_of_descriptors_nothing_else_is_blamed() {
    let (_dir, page, mut command) = limited(36);
    let daemon = Daemon::start_with(&mut command);
    daemon.wait_state("probe/named", "ok");
    let crowd = Crowd::start(page, 60);
    wait(
        || format!("the shortage to be told: {}", daemon.stdout()),
        || daemon.stdout().contains("LimitNOFILE").then_some(()),
    );
    // Some more passes without descriptors.
    let told = daemon.stdout().len();
    wait_switches(&daemon, 60);
    let told = daemon.stdout().len().max(told);
    drop(crowd);
    daemon.wait_state("probe/named", "ok");
    let said: String = daemon.stdout().chars().take(told).collect();
    for wrong in WRONG {
        assert!(!said.contains(wrong), "{wrong}: {said}");
    }
    let history = String::from_utf8_lossy(&daemon.get("/api/v1/history").body).into_owned();
    let alerts: serde_json::Value = serde_json::from_str(&history).unwrap();
    for entry in alerts["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "alert") {
        let subject = entry["subject"].as_str().unwrap();
        assert!(!subject.starts_with("probe/") && !subject.starts_with("host/"), "{entry}");
    }
}

/// Waits until the loop's thread has gone to sleep `more` times: it does so between any two passes, and within one
/// while it waits for a source. Nothing else shows that passes go on while no descriptor is left for the page.
fn wait_switches(daemon: &Daemon, more: u64) {
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let from = switches();
    wait("passes without descriptors", || (switches() >= from + more).then_some(()));
}

/// So few that not even the page can be served: it is said on the console.
#[test]
fn with_twenty_descriptors_in_all_nothing_else_is_blamed() {
    let (_dir, _, mut command) = limited(20);
    let daemon = Daemon::begin(&mut command);
    wait(
        || format!("the shortage to be told: {}{}", daemon.stdout(), daemon.stderr()),
        || daemon.stdout().contains("LimitNOFILE").then_some(()),
    );
    wait_switches(&daemon, 60);
    let said = daemon.stdout();
    for wrong in WRONG {
        assert!(!said.contains(wrong), "{wrong}: {said}");
    }
    assert!(said.contains("its limit is 20"), "{said}");
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
    let (status, took) = daemon.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{status} {took:?}");
}

/// A daemon with checks of every kind that may open `most` files, and where its page is.
fn limited(most: usize) -> (tempfile::TempDir, SocketAddr, Command) {
    let dir = tempfile::tempdir().unwrap();
    let (page, there) = (free_address(), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = there.local_addr().unwrap().port();
    // Holds each connection until its client ends it: one that ends at once is no sign of life.
    let hold = |mut client: TcpStream| thread::spawn(move || std::io::copy(&mut client, &mut std::io::sink()));
    thread::spawn(move || {
        while let Ok((client, _)) = there.accept() {
            drop(hold(client));
        }
    });
    let probes = format!(
        "[[probe]]\nname = \"named\"\ntarget = \"tcp://localhost:{port}\"\ninterval = \"100ms\"\nfail_after = 1\n\
         [[probe]]\nname = \"numbered\"\ntarget = \"tcp://127.0.0.1:{port}\"\ninterval = \"100ms\"\nfail_after = 1\n\
         [[probe]]\nname = \"command\"\ncommand = [\"true\"]\ninterval = \"100ms\"\nfail_after = 1\n"
    );
    let setup = Setup::new("100ms").set("listen", page.to_string()).set("host.enabled", true).set("log", "info");
    // A busy machine is none of this.
    let setup = setup.set("host.load_per_cpu", 0).set("host.memory_pct", 0);
    setup
        .set("docker.enabled", true)
        .set("docker.socket", "/var/run/docker.sock")
        .set("docker.containers", ["nobody-*"].as_slice())
        .block(&probes)
        .write(dir.path());
    let program = watchdog(dir.path());
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {most} && exec \"$0\"")])
        .arg(program.get_program())
        .current_dir(dir.path());
    command.stdin(Stdio::null());
    (dir, page, command)
}

/// The library by which `faketime` shows a program another time; the program itself is then our own child.
fn preload() -> String {
    let output = Command::new("faketime").args(["2001-01-01", "printenv", "LD_PRELOAD"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// Runs the daemon for some passes at this time of day: its page, its log, its end.
fn at(time: &str, dir: &Path) {
    let page = free_address();
    let tls = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = tls.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let answering = thread::spawn(move || {
        for stream in tls.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            // A handshake is begun and gets no further.
            let _ = stream.and_then(|mut stream| stream.read(&mut [0; 64]));
        }
    });
    let probes = format!(
        "[[probe]]\nname = \"page\"\ntarget = \"https://{peer}/\"\ninterval = \"100ms\"\n\
         [[probe]]\nname = \"leaf\"\ntarget = \"tls://{peer}\"\ninterval = \"100ms\"\n"
    );
    let setup = Setup::new("100ms").set("listen", page.to_string()).set("host.enabled", true).block(&probes);
    setup.set("heartbeat_url", format!("https://{peer}/beat")).set("log_format", "text").write(dir);
    let faked = |arguments: &[&str]| {
        let mut command = watchdog(dir);
        command.args(arguments).env("LD_PRELOAD", preload()).env("FAKETIME", format!("@{time}"));
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    };
    let mut daemon = Daemon::start_with(&mut faked(&[]));
    let never_set = time.starts_with("19") && time < "1970";
    wait("its passes", || faked(&["healthcheck"]).output().unwrap().status.success().then_some(()));
    for path in ["/", "/metrics", "/api/v1/history", "/api/v1/status"] {
        let answer = daemon.get(path);
        assert_eq!(answer.status, if never_set { 503 } else { 200 }, "{time} {path}");
        assert_eq!(never_set, answer.body.starts_with(b"the clock of this machine"), "{time} {path}");
    }
    if !never_set {
        daemon.wait_pass();
    }
    wait("the checks to have been made", || (asked.load(Ordering::SeqCst) >= 2).then_some(()));
    assert!(daemon.ended().is_none(), "{}", daemon.stderr());
    assert!(!daemon.stderr().contains("panicked"), "{time}: {}", daemon.stderr());
    for arguments in [&["status"][..], &["history"], &["check"], &["healthcheck"]] {
        let output = faked(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code().is_some() && !said.contains("panicked"), "{time} {arguments:?}: {said}");
    }
    daemon.terminate();
    drop(answering);
}

#[test]
fn no_time_of_day_ends_the_program() {
    if !parts::faketime() {
        return;
    }
    for time in ["1969-07-20 20:17:40", "1970-01-01 00:00:00", "2106-02-07 06:28:16", "2999-12-31 23:59:59"] {
        let dir = tempfile::tempdir().unwrap();
        at(time, dir.path());
    }
}
