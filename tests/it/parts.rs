//! Which real parts this machine has. A missing one is a loud line on a plain machine and a failure
//! where `WATCHDOG_TEST_REQUIRE` (a comma-separated list) names it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// True when a Docker Engine answers.
pub fn docker() -> bool {
    have("docker", &["docker", "version", "--format", "{{.Server.Version}}"])
}

/// True when `docker compose` is there, and an engine with it.
pub fn compose() -> bool {
    docker() && have("compose", &["docker", "compose", "version"])
}

/// True when a Docker Engine of our own can be started.
pub fn dockerd() -> bool {
    docker() && have("dockerd", &["dockerd", "--version"])
}

/// True when containers can be made: an engine, and a static busybox to put into an image.
pub fn busybox() -> bool {
    docker() && have("busybox", &["busybox", "true"])
}

/// The image that `.ci/systemd` makes.
pub const SYSTEMD: &str = "wdt-systemd";

/// True when there is a machine that runs systemd: an engine, and the image.
pub fn systemd() -> bool {
    docker() && have("systemd", &["docker", "image", "inspect", SYSTEMD])
}

/// True when a Consul agent can be started.
pub fn consul() -> bool {
    have("consul", &["consul", "version"])
}

/// True when filesystems can be mounted, which takes root.
pub fn mount() -> bool {
    have("mount", &["unshare", "--mount", "mount", "-t", "tmpfs", "watchdog-test", "/mnt"])
}

/// True when a network namespace with its own files can be made: root, or user namespaces.
pub fn namespaces() -> bool {
    have("namespaces", &["unshare", "-rmn", "sh", "-c", "ip link set lo up && mount --bind /dev/null /etc/resolv.conf"])
}

/// True when a program can be shown another time of day.
pub fn faketime() -> bool {
    have("faketime", &["faketime", "2001-01-01", "true"])
}

/// True when a process namespace can be made, which takes root.
pub fn pid_namespaces() -> bool {
    have("pid-namespaces", &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "true"])
}

/// True when a program can be traced from outside: strace, and a kernel that lets it.
pub fn strace() -> bool {
    have("strace", &["strace", "-f", "-qq", "-e", "trace=fsync", "true"])
}

/// True when network namespaces with links can be made, which takes root.
pub fn netns() -> bool {
    have("netns", &["unshare", "-mn", "sh", "-c", "mount -t tmpfs none /run && ip link add wd-test type veth"])
}

/// True when the text page can be given to Prometheus' own linter.
pub fn promtool() -> bool {
    have("promtool", &["promtool", "--version"])
}

fn have(part: &str, command: &[&str]) -> bool {
    let there = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        let required = std::env::var("WATCHDOG_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|word| word.trim() == part), "{part} is required here and is not there");
        let test = std::thread::current().name().unwrap_or("a test").to_string();
        // Not `eprintln!`: the test runner keeps what a passing test prints that way to itself. In one
        // piece, because tests run side by side.
        let _ = std::io::stderr().write_all(format!("SKIPPED {test}: no {part}\n").as_bytes());
    }
    there
}
