//! Units of a real systemd, process 1 of a container: the real program inside of it, told by what it prints.
//!
//! The image is made by `.ci/systemd` (Debian's systemd and nothing else). Without it these tests are skipped.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::wait;
use crate::parts;

const CONFIG: &str = "listen = \"127.0.0.1:9106\"\ntick = \"500ms\"\ntimeout = \"3s\"\nstate = \"/tmp/state.db\"\ninstance = \"web-1\"\n\
                      log_format = \"text\"\n[host]\nenabled = false\n[docker]\nenabled = false\n";

/// A machine that runs systemd. Removed when dropped.
struct Machine {
    name: String,
}

impl Machine {
    /// `None` where there is none to be had.
    fn boot(test: &str) -> Option<Machine> {
        if !parts::systemd() {
            return None;
        }
        let machine = Machine { name: format!("wdt-systemd-{test}-{}", std::process::id()) };
        let binary = format!("{}:/usr/bin/watchdog:ro", env!("CARGO_BIN_EXE_watchdog"));
        let run = [
            "run",
            "-d",
            "--name",
            &machine.name,
            "--network",
            "none",
            "--cap-add",
            "SYS_ADMIN",
            "--cap-add",
            "NET_ADMIN",
            "--cap-add",
            "SYS_PTRACE",
            "--security-opt",
            "seccomp=unconfined",
            "--tmpfs",
            "/run",
            "--tmpfs",
            "/run/lock",
            "--tmpfs",
            "/tmp:exec",
            "-v",
            "/sys/fs/cgroup:/sys/fs/cgroup:rw",
            "-v",
            &binary,
            "-e",
            "container=docker",
            parts::SYSTEMD,
        ];
        let started = Command::new("docker").args(run).output().unwrap();
        assert!(started.status.success(), "{started:?}");
        wait("systemd to run", || (machine.sh("systemctl is-system-running").1.trim() == "running").then_some(()));
        Some(machine)
    }

    /// Runs a script inside: its exit code, and all that it printed.
    fn sh(&self, script: &str) -> (i32, String) {
        let output = Command::new("docker").args(["exec", &self.name, "sh", "-c", script]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    fn done(&self, script: &str) -> String {
        let (code, said) = self.sh(script);
        assert_eq!(code, 0, "{script}: {said}");
        said
    }

    /// A unit file, and everything that was written read again.
    fn unit(&self, name: &str, text: &str) {
        self.done(&format!("cat > /etc/systemd/system/{name} <<'END'\n{text}\nEND\nsystemctl daemon-reload"));
    }

    fn configure(&self, section: &str) {
        self.done(&format!("cat > /tmp/watchdog.toml <<'END'\n{CONFIG}{section}\nEND"));
    }

    /// What one look says of a signal: its state and its detail.
    fn check(&self, key: &str) -> (String, String) {
        let (_, said) = self.sh("watchdog --config /tmp/watchdog.toml check --json 2>/dev/null");
        let rows: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let row = rows.as_array().unwrap().iter().find(|row| row["key"] == key).cloned();
        let row = row.unwrap_or_else(|| panic!("no {key}: {said}"));
        let text = |name: &str| row[name].as_str().unwrap().to_string();
        (text("state"), text("detail"))
    }

    /// Starts the daemon; what it tells is in /tmp/told.
    fn daemon(&self) {
        self.done("watchdog --config /tmp/watchdog.toml run >/tmp/told 2>/tmp/log & sleep 1");
        wait("the daemon", || (self.sh("watchdog --config /tmp/watchdog.toml healthcheck").0 == 0).then_some(()));
    }

    fn told(&self) -> String {
        self.done("cat /tmp/told")
    }

    fn wait_told(&self, words: &[&str]) -> String {
        wait(
            || format!("{words:?}; told: {}; log: {}", self.told(), self.sh("cat /tmp/log").1),
            || Some(self.told()).filter(|told| words.iter().all(|word| told.contains(word))),
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.name]).output();
    }
}

#[test]
fn a_unit_that_fails_is_told_with_its_reason_its_own_words_and_what_to_do_and_its_end() {
    let Some(machine) = Machine::boot("fails") else { return };
    let flag = "test -e /tmp/well && exec sleep 999; echo no such table >&2; exit 3";
    machine.unit("queue.service", &format!("[Unit]\nDescription=The queue\n[Service]\nExecStart=/bin/sh -c '{flag}'"));
    // By itself: systemd is process 1 here.
    machine.configure("");
    machine.daemon();
    wait("the source", || {
        machine.sh("watchdog --config /tmp/watchdog.toml status --json").1.contains("source/systemd").then_some(())
    });
    machine.sh("systemctl start queue.service");
    let told = machine.wait_told(&["🟠 web-1 · queue has failed"]);
    for words in [
        "failed: its process ended with exit code 3",
        "\"no such table\"",
        "systemd/queue.service · The queue",
        "→ systemctl status queue.service; journalctl -u queue.service -n 50",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    machine.done("touch /tmp/well && systemctl start queue.service");
    let told = machine.wait_told(&["🟢 web-1 · queue"]);
    assert!(!told.contains("no longer watched"), "{told}");
    // Seen well for some looks it is let go without another word.
    wait("it to be let go", || {
        let status = machine.sh("watchdog --config /tmp/watchdog.toml status --json").1;
        (!status.contains("systemd/queue.service")).then_some(())
    });
    assert_eq!(machine.told().matches("queue").count(), told.matches("queue").count(), "{}", machine.told());
    // One that is forgotten by hand is neither well nor failing.
    machine.sh("rm /tmp/well; systemd-run --unit=passing sh -c 'exit 1'");
    machine.wait_told(&["🟠 web-1 · passing has failed"]);
    machine.done("systemctl reset-failed passing.service");
    machine.wait_told(&["⚪ web-1 · passing was removed"]);
}

#[test]
fn named_units_must_be_active_and_there() {
    let Some(machine) = Machine::boot("named") else { return };
    machine.unit("web.service", "[Service]\nExecStart=/bin/sleep 999");
    machine.unit(
        "slow.service",
        "[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=infinity\nExecStart=/bin/sleep 999",
    );
    machine.unit("loop.service", "[Service]\nExecStart=/bin/sh -c 'exit 7'\nRestart=always\nRestartSec=30s");
    machine.unit("once.service", "[Service]\nType=oneshot\nExecStart=/bin/true");
    machine.done("ln -s /dev/null /etc/systemd/system/hidden.service && systemctl daemon-reload");
    machine.configure(
        "[systemd]\nunits = [\"web\", \"slow\", \"loop\", \"once\", \"nosuch\", \"hidden\", \"systemd-journald\"]\nstart_limit = \"2s\"\n",
    );
    for (key, words) in [
        ("systemd/web.service", "inactive (dead)"),
        ("systemd/nosuch.service", "knows no unit"),
        ("systemd/hidden.service", "masked"),
    ] {
        let (state, detail) = machine.check(key);
        assert!(state == "firing" && detail.contains(words), "{key}: {state} {detail}");
    }
    machine.done("systemctl start web once; systemctl start --no-block slow loop; sleep 4");
    for (key, state, words) in [
        ("systemd/web.service", "ok", "active (running)"),
        ("systemd/once.service", "ok", "a oneshot service between its runs"),
        ("systemd/systemd-journald.service", "ok", "active (running)"),
        ("systemd/slow.service", "firing", "activating (start) for "),
        ("systemd/loop.service", "firing", "waits to be restarted: its process ended with exit code 7"),
    ] {
        let (seen, detail) = machine.check(key);
        assert!(seen == state && detail.contains(words), "{key}: {seen} {detail}");
    }
    let (state, detail) = machine.check("source/systemd");
    assert!(state == "ok" && detail.contains("7 units by name, all that fail"), "{detail}");
}

#[test]
fn a_timer_whose_time_has_passed_is_late() {
    let Some(machine) = Machine::boot("timer") else { return };
    machine.unit("tidy.service", "[Service]\nType=oneshot\nExecStart=/bin/true");
    // systemd may wait for an hour; the watchdog knows that, and calls nothing late that is within it.
    machine.unit("tidy.timer", "[Timer]\nOnActiveSec=1s\nAccuracySec=1h\n[Install]\nWantedBy=timers.target");
    machine.unit("sharp.timer", "[Timer]\nOnCalendar=*-*-* *:*:0/20\nAccuracySec=1us\nUnit=tidy.service");
    machine.done("systemctl start tidy.timer sharp.timer");
    machine.configure("[systemd]\ntimer_late = \"1s\"\n");
    let (state, detail) = machine.check("source/systemd");
    assert!(state == "ok" && detail.contains("late timers (0 now)"), "{detail}");
}

#[test]
fn what_cannot_be_asked_is_unknown_with_the_reason() {
    let Some(machine) = Machine::boot("blind") else { return };
    machine.unit("web.service", "[Service]\nExecStart=/bin/sleep 999");
    machine.done("systemctl start web");
    machine.configure("[systemd]\nunits = [\"web\"]\n");
    let seen = |prepare: &str, words: &str| {
        let (_, said) =
            machine.sh(&format!("{prepare} /usr/bin/watchdog --config /tmp/watchdog.toml check --json 2>/dev/null"));
        let rows: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let find =
            |key: &str| rows.as_array().unwrap().iter().find(|row| row["key"] == key).cloned().unwrap_or_default();
        let source = find("source/systemd");
        assert!(source["state"] == "firing" && source["detail"].as_str().unwrap().contains(words), "{prepare}: {said}");
        assert_ne!(find("systemd/web.service")["state"], "ok", "{prepare}: {said}");
    };
    seen("PATH=/nowhere", "is not installed here");
    // The manager is frozen: what hangs is killed.
    let began = Instant::now();
    machine.done("mkdir -p /tmp/hung && printf '#!/bin/sh\\nexec sleep 999\\n' > /tmp/hung/systemctl && chmod +x /tmp/hung/systemctl");
    seen("PATH=/tmp/hung:$PATH", "did not end within 3");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    machine.done("mv /run/systemd/private /run/systemd/away; mv /run/dbus/system_bus_socket /run/dbus/away");
    seen("", "D-Bus cannot be reached");
    machine.done("mv /run/systemd/away /run/systemd/private; mv /run/dbus/away /run/dbus/system_bus_socket");
    assert_eq!(machine.check("systemd/web.service").0, "ok");
}
