//! Verbs for containers on a real Docker Engine: the machine's, or one of our own.
//!
//! Everything a test makes carries the prefix of its [`Engine`] and goes away with it. Images hold a static busybox
//! and nothing else: none is pulled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::daemon::wait;

/// The image that tests run.
pub const IMAGE: &str = "wdt-docker-busybox:latest";
/// The socket of the machine's engine.
pub const SOCKET: &str = "/var/run/docker.sock";

/// What the name of everything begins with that tests make.
const FAMILY: &str = "wdt-docker";

/// An engine, and the prefix of everything that this test makes on it.
pub struct Engine {
    socket: PathBuf,
    prefix: String,
}

impl Engine {
    /// The machine's engine. What killed runs left behind is removed.
    pub fn local(prefix: &str) -> Engine {
        Engine::at(Path::new(SOCKET), prefix)
    }

    /// The engine behind this socket.
    pub fn at(socket: &Path, prefix: &str) -> Engine {
        let prefix = format!("{FAMILY}-{prefix}-{}", std::process::id());
        let engine = Engine { socket: socket.to_path_buf(), prefix };
        engine.sweep_the_dead();
        engine.make_image();
        engine
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The full name of a container: `web` is `wdt-docker-<prefix>-<pid>-web`.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A pattern that means all containers of this test.
    pub fn all(&self) -> String {
        format!("{}-*", self.prefix)
    }

    /// Runs `docker` with these arguments; its output, or what it complained about.
    pub fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("docker")
            .arg("--host")
            .arg(format!("unix://{}", self.socket.display()))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_string())
        }
    }

    /// Runs `docker` with these arguments, which must succeed.
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
    }

    /// Starts a container that runs a shell script, with more options for `docker run`.
    pub fn run(&self, name: &str, options: &[&str], script: &str) {
        let name = self.name(name);
        let mut arguments = vec!["run", "--detach", "--network", "none", "--name", &name];
        arguments.extend_from_slice(options);
        arguments.extend_from_slice(&[IMAGE, "sh", "-c", script]);
        self.docker(&arguments);
    }

    /// Runs a command in a running container.
    pub fn exec(&self, name: &str, command: &[&str]) {
        let name = self.name(name);
        let mut arguments = vec!["exec", name.as_str()];
        arguments.extend_from_slice(command);
        self.docker(&arguments);
    }

    /// `docker <verb> <name>`: `stop`, `pause`, `rm -f` …
    pub fn act(&self, verb: &[&str], name: &str) {
        let name = self.name(name);
        let mut arguments = verb.to_vec();
        arguments.push(&name);
        self.docker(&arguments);
    }

    /// `docker compose` for the project of this test, with this file.
    pub fn compose(&self, file: &Path, arguments: &[&str]) {
        let file = file.display().to_string();
        let mut all = vec!["compose", "--project-name", self.prefix.as_str(), "--file", file.as_str()];
        all.extend_from_slice(arguments);
        self.docker(&all);
    }

    fn make_image(&self) {
        if self.try_docker(&["image", "inspect", IMAGE]).is_ok() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let busybox = Command::new("sh").args(["-c", "command -v busybox"]).output().unwrap().stdout;
        std::fs::copy(String::from_utf8(busybox).unwrap().trim(), bin.join("busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "touch", "rm", "dd", "echo", "true", "false", "kill", "httpd", "nc"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let archive = directory.path().join("image.tar");
        let root = directory.path().display().to_string();
        let status = Command::new("tar").arg("-cf").arg(&archive).args(["-C", &root, "bin"]).status().unwrap();
        assert!(status.success(), "tar");
        self.docker(&["import", &archive.display().to_string(), IMAGE]);
    }

    fn sweep(&self) {
        self.remove(|name| name.contains(&format!("{}-", self.prefix)));
    }

    /// Removes what test processes left behind that do not live any more.
    fn sweep_the_dead(&self) {
        self.remove(|name| {
            let pid = name.split('-').find_map(|part| part.parse::<u32>().ok());
            pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        });
    }

    fn remove(&self, which: impl Fn(&str) -> bool) {
        let filter = format!("name={FAMILY}-");
        let all = self.try_docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]).unwrap_or_default();
        let mut arguments = vec!["rm", "--force", "--volumes"];
        arguments.extend(all.split_whitespace().filter(|name| which(name)));
        if arguments.len() > 3 {
            let _ = self.try_docker(&arguments);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.sweep();
    }
}

/// An engine of our own, in a directory that goes away with it: to be stopped, frozen and restarted.
pub struct Daemon {
    child: Child,
    directory: tempfile::TempDir,
}

impl Daemon {
    /// Starts it and waits until it answers.
    pub fn start() -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let mut daemon = Daemon { child: spawn(directory.path()), directory };
        daemon.wait_until_it_answers();
        daemon
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// Sends it a signal by name: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -{name}");
    }

    /// Ends it with SIGTERM and waits until it is gone.
    pub fn stop(&mut self) {
        self.signal("TERM");
        wait("the engine to end", || self.child.try_wait().unwrap());
    }

    /// Starts it again in the same place.
    pub fn start_again(&mut self) {
        self.child = spawn(self.directory.path());
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let host = format!("unix://{}", self.socket().display());
        let file = self.directory.path().join("log");
        let log = || std::fs::read_to_string(&file).unwrap_or_default();
        wait(
            || format!("the engine to answer: {}", log()),
            || {
                assert!(self.child.try_wait().unwrap().is_none(), "the engine ended: {}", log());
                let version = Command::new("docker").args(["--host", &host, "version"]).output().unwrap();
                version.status.success().then_some(())
            },
        );
    }
}

fn spawn(directory: &Path) -> Child {
    let log = std::fs::File::create(directory.join("log")).unwrap();
    let place = |name: &str| directory.join(name).display().to_string();
    // The machine's own daemon.json is not for this one.
    std::fs::write(directory.join("daemon.json"), "{}").unwrap();
    // In a network of its own: a daemon without a bridge removes docker0, which belongs to the machine's own daemon.
    Command::new("unshare")
        .args(["--net", "dockerd"])
        .args(["--host", &format!("unix://{}", place("docker.sock"))])
        .args(["--config-file", &place("daemon.json")])
        .args(["--data-root", &place("data"), "--exec-root", &place("exec"), "--pidfile", &place("pid")])
        .args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "vfs"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let pid = self.child.id().to_string();
            let _ = Command::new("kill").args(["-CONT", &pid]).status();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            let _ = self.child.wait();
        }
    }
}
