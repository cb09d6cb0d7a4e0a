//! The real binary as a user runs it: started in a directory of its own, asked over its page, killed.

#![allow(dead_code, reason = "shared by tests and measuring programs; not each uses every verb")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use watchdog::client::http::{Http, Options, Response};

/// The longest anything may take that should happen at once, on a machine that is busy with everything else. What a
/// time is part of a promise is measured where the promise is tested.
pub const SOON: Duration = Duration::from_mins(1);

/// A running daemon. Killed when dropped.
pub struct Daemon {
    child: Child,
    page: String,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

/// The binary with a clean environment, in `dir`.
pub fn watchdog(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchdog"));
    // Whatever the program reads, and whoever runs the tests may happen to have set.
    let read = ["WATCHDOG_", "CONSUL_", "OTEL_", "OCI_", "DOCKER_", "NO_COLOR", "RUST_LOG", "XDG_"];
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if read.iter().any(|prefix| upper.starts_with(prefix)) || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs one command to its end in `dir`.
pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    watchdog(dir).args(arguments).output().unwrap()
}

/// Writes `watchdog.toml` in `dir`.
pub fn configure(dir: &Path, toml: &str) -> PathBuf {
    let path = dir.join("watchdog.toml");
    std::fs::write(&path, toml).unwrap();
    path
}

/// What is waited for, in words; a closure says how it stands when the wait is over.
pub trait Words {
    fn words(&self) -> String;
}

impl Words for &str {
    fn words(&self) -> String {
        (*self).to_string()
    }
}

impl<F: Fn() -> String> Words for F {
    fn words(&self) -> String {
        self()
    }
}

/// Waits until `ask` gives something; panics with `what` after [`SOON`].
pub fn wait<T>(what: impl Words, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {}", what.words());
        thread::park_timeout(Duration::from_millis(10));
    }
}

impl Daemon {
    /// Starts it with the `watchdog.toml` in `dir` and waits for its first screen.
    pub fn start(dir: &Path) -> Daemon {
        Daemon::start_with(watchdog(dir).args(["--set", "listen=127.0.0.1:0"]))
    }

    /// Starts this command and waits for its first screen and its first pass.
    pub fn start_with(command: &mut Command) -> Daemon {
        let daemon = Daemon::begin(command);
        // Before its first pass it tells nothing but that.
        wait("the first pass", || {
            let answer = daemon.get("/readyz");
            (answer.status == 200 || !answer.body.starts_with(b"starting")).then_some(())
        });
        daemon
    }

    /// Starts this command and waits for its first screen: its page may be out of our reach.
    pub fn begin(command: &mut Command) -> Daemon {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let mut daemon = Daemon { child, page: String::new(), stdout, stderr };
        daemon.page = wait("the first screen", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}: {}{}", daemon.stdout(), daemon.stderr());
            }
            let screen = daemon.stdout();
            // Messages about what an earlier run left may come first, with addresses of their own.
            let whole = screen.rsplit_once('\n')?.0;
            let page = |word: &str| {
                let address = word.strip_prefix("http://")?.strip_suffix('/')?;
                (!address.contains('/')).then(|| format!("http://{address}"))
            };
            whole.split_whitespace().find_map(page)
        });
        daemon
    }

    /// Where its page is: `http://address`.
    pub fn page(&self) -> &str {
        &self.page
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// What it logged so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// GET from its status server.
    pub fn get(&self, path: &str) -> Response {
        let http = Http::new(Options { timeout: SOON, body_limit: 64 << 20, ..Options::default() });
        http.get(&format!("{}{path}", self.page), &[]).unwrap()
    }

    /// `/api/v1/status`.
    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.get("/api/v1/status").body).unwrap()
    }

    /// The state of one signal; `None` while it does not exist.
    pub fn state(&self, key: &str) -> Option<String> {
        let status = self.status();
        let signal = status["signals"].as_array()?.iter().find(|signal| signal["key"] == key)?;
        Some(signal["state"].as_str()?.to_string())
    }

    /// Waits until a signal is in this state.
    pub fn wait_state(&self, key: &str, state: &str) {
        wait(|| format!("{key} to be {state}: {}", self.status()), || (self.state(key)? == state).then_some(()));
    }

    /// Waits for a full pass that begins after now.
    pub fn wait_pass(&self) {
        let count = || self.status()["tick"]["count"].as_u64().unwrap();
        let before = count();
        wait("two passes", || (count() >= before + 2).then_some(()));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and how it ended and after how long.
    pub fn terminate(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(Signal::TERM);
        let status = wait("the end", || self.child.try_wait().unwrap());
        (status, began.elapsed())
    }

    /// How it ended, once somebody else has told it to; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}
