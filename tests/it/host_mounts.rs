//! The real binary among real mounts, in a mount namespace of its own: what it says of a disk that is
//! unmounted, replaced or turned read-only, also across a restart. Takes root.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::daemon::{Daemon, SOON, wait};
use crate::parts;
use crate::peer::telegram::Telegram;
use crate::setup::Setup;

/// A mount namespace, which ends when this is dropped.
struct Mounts {
    holder: Child,
    dir: tempfile::TempDir,
    telegram: Telegram,
}

impl Mounts {
    /// A namespace with the directory `data` in it; `None`, loudly, where mounts cannot be made.
    fn new() -> Option<Mounts> {
        if !parts::mount() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "sh", "-c", "touch held && exec sleep 600"]);
        let holder = holder.current_dir(dir.path()).stdin(Stdio::null()).spawn().unwrap();
        wait("the namespace", || dir.path().join("held").exists().then_some(()));
        Some(Mounts { holder, dir, telegram: Telegram::start() })
    }

    /// The path that is watched.
    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn key(&self, kind: &str) -> String {
        format!("host/{kind}:{}", self.data().display())
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg(program).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WATCHDOG_")) {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.inside(program).args(arguments).arg(self.data()).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    }

    fn mount(&self, name: &str, options: &str) {
        self.run("mount", &["-t", "tmpfs", "-o", options, name]);
    }

    fn umount(&self) {
        self.run("umount", &[]);
    }

    /// Writes so many KiB into the mounted directory.
    fn fill(&self, kib: usize) {
        let path = format!("/proc/{}/root{}/fill", self.holder.id(), self.data().display());
        std::fs::write(path, vec![1; kib * 1024]).unwrap();
    }

    /// A daemon in the namespace that watches the path, by these further settings.
    fn daemon(&self, settings: &[(&str, i64)]) -> Daemon {
        let mut setup = Setup::new("100ms").telegram(&self.telegram).set("host.enabled", true);
        for quiet in ["memory_pct", "load_per_cpu", "pressure_memory_pct", "pressure_io_pct", "files_pct"] {
            setup = setup.set(&format!("host.{quiet}"), 0);
        }
        let path = self.data().display().to_string();
        // To enter a namespace changes the working directory.
        setup = setup.set("state", self.dir.path().join("state.db").display().to_string());
        setup = setup.set("host.disk_paths", [path.as_str()].as_slice()).set("host.oom", false);
        for (key, value) in settings {
            setup = setup.set(key, *value);
        }
        setup.write(self.dir.path());
        let config = self.dir.path().join("watchdog.toml");
        let mut command = self.inside(env!("CARGO_BIN_EXE_watchdog"));
        let daemon = Daemon::start_with(command.args(["--set", "listen=127.0.0.1:0", "--config"]).arg(config));
        daemon.wait_pass();
        daemon
    }

    fn told(&self, what: &str) -> String {
        wait(
            || format!("{what:?} in {:?}", self.telegram.delivered()),
            || self.telegram.delivered().into_iter().find(|m| m.text.contains(what)).map(|m| m.text),
        )
    }

    fn told_green(&self) -> bool {
        self.telegram.delivered().iter().any(|m| m.text.contains('🟢'))
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn detail(daemon: &Daemon, key: &str) -> String {
    let status = daemon.status();
    let signal = status["signals"].as_array().unwrap().iter().find(|signal| signal["key"] == key).cloned();
    signal.unwrap_or_else(|| panic!("no {key}: {status}"))["detail"].as_str().unwrap().to_string()
}

#[test]
fn a_disk_that_is_unmounted_is_never_well_by_the_figures_of_what_lies_beneath() {
    let Some(mounts) = Mounts::new() else { return };
    mounts.mount("first", "size=1m");
    let daemon = mounts.daemon(&[("host.disk_pct", 60)]);
    let (disk, mount) = (mounts.key("disk"), mounts.key("mount"));
    daemon.wait_state(&disk, "ok");
    mounts.fill(800);
    daemon.wait_state(&disk, "firing");
    mounts.umount();
    daemon.wait_pass();
    daemon.wait_pass();
    assert_eq!(daemon.state(&disk).as_deref(), Some("unknown"), "{}", detail(&daemon, &disk));
    daemon.wait_state(&mount, "firing");
    for key in [&disk, &mount] {
        let detail = detail(&daemon, key);
        assert!(detail.contains("nothing is mounted") && detail.contains("tmpfs on first"), "{detail}");
    }
    mounts.told("nothing is mounted");
    assert!(!mounts.told_green(), "{:?}", mounts.telegram.delivered());

    daemon.terminate();

    // A restart looks at the same empty place, and knows better.
    let daemon = mounts.daemon(&[("host.disk_pct", 60)]);
    daemon.wait_pass();
    daemon.wait_state(&mount, "firing");
    assert_eq!(daemon.state(&disk).as_deref(), Some("unknown"));
    assert!(!mounts.told_green(), "{:?}", mounts.telegram.delivered());

    // Another disk in its place is judged by its own figures, and told.
    mounts.mount("second", "size=2m");
    daemon.wait_state(&mount, "ok");
    daemon.wait_state(&disk, "ok");
    mounts.told("another file system");
    daemon.terminate();
}

#[test]
fn a_disk_that_is_remounted_read_only_fires_also_after_a_restart() {
    let Some(mounts) = Mounts::new() else { return };
    mounts.mount("first", "size=1m");
    let daemon = mounts.daemon(&[]);
    let key = mounts.key("readonly");
    daemon.wait_state(&key, "ok");
    mounts.run("mount", &["-o", "remount,ro"]);
    daemon.wait_state(&key, "firing");
    assert!(mounts.told("read-only").contains("🔴"));
    daemon.terminate();
    let daemon = mounts.daemon(&[]);
    daemon.wait_pass();
    daemon.wait_state(&key, "firing");
    assert!(!mounts.told_green(), "{:?}", mounts.telegram.delivered());
    mounts.run("mount", &["-o", "remount,rw"]);
    daemon.wait_state(&key, "ok");
    mounts.told("🟢");
    daemon.terminate();
}

#[test]
fn a_disk_that_was_read_only_from_the_start_is_no_fault() {
    let Some(mounts) = Mounts::new() else { return };
    mounts.mount("first", "size=1m,ro");
    let daemon = mounts.daemon(&[]);
    let key = mounts.key("readonly");
    daemon.wait_state(&key, "ok");
    assert!(detail(&daemon, &key).contains("since it was first checked"), "{}", detail(&daemon, &key));
    daemon.terminate();
}

#[test]
fn a_disk_that_fills_up_is_a_warning_first_and_critical_once() {
    let Some(mounts) = Mounts::new() else { return };
    mounts.mount("first", "size=1m");
    let daemon = mounts.daemon(&[("host.disk_pct", 50), ("host.disk_critical_pct", 80)]);
    let key = mounts.key("disk");
    daemon.wait_state(&key, "ok");
    mounts.fill(600);
    let warning = mounts.told("warning at 50 %");
    let severity = || {
        let status = daemon.status();
        let signal = status["signals"].as_array().unwrap().iter().find(|s| s["key"] == key.as_str()).cloned().unwrap();
        signal["severity"].as_str().unwrap().to_string()
    };
    assert_eq!(severity(), "warning", "{warning}");
    mounts.fill(900);
    let told = mounts.telegram.wait_delivered(2, SOON);
    assert_eq!(severity(), "critical", "{told:?}");
    assert!(told[1].text.contains("critical at 80 %"), "{told:?}");
    mounts.fill(100);
    daemon.wait_state(&key, "ok");
    assert_eq!(mounts.telegram.wait_delivered(3, SOON).len(), 3);
    daemon.terminate();
}
