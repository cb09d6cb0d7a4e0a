//! What every screen says of Docker: sockets that are missing, wrong or late, and who is not watched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::process::Command;
use std::sync::Arc;

use crate::daemon::{Daemon, configure, run, wait, watchdog};
use crate::docker_jobs::{Box_, engine, settled};
use crate::parts;

/// `docker.enabled` is auto wherever nothing else is said.
fn quiet(docker: &str) -> String {
    format!("tick = \"200ms\"\nstate = \"\"\n[host]\nenabled = false\n[docker]\n{docker}\n")
}

#[test]
fn who_asks_for_containers_is_told_that_they_cannot_be_seen() {
    let directory = tempfile::tempdir().unwrap();
    let none = directory.path().join("none.sock");
    for wish in [format!("socket = \"{}\"", none.display()), format!("socket = \"unix://{}\"", none.display())] {
        configure(directory.path(), &quiet(&wish));
        let output = run(directory.path(), &["check"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("source/docker") && said.contains("is Docker running"), "{said}");
    }
    configure(directory.path(), &quiet(&format!("containers = [\"db\"]\nsocket = \"{}\"", none.display())));
    let daemon = Daemon::start(directory.path());
    daemon.wait_state("source/docker", "firing");
}

#[test]
fn an_address_that_cannot_be_asked_is_refused_at_the_check() {
    let directory = tempfile::tempdir().unwrap();
    for address in
        ["tcp://127.0.0.1:2375", "http://127.0.0.1", "ssh://me@host", "npipe:////./pipe/docker_engine", "docker.sock"]
    {
        configure(directory.path(), &quiet(&format!("socket = \"{address}\"")));
        let output = run(directory.path(), &["config", "check"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}: {said}");
        assert!(said.contains("docker.socket") && said.contains("Unix socket"), "{address}: {said}");
    }
}

/// The words of a screen, however its lines are broken.
fn flat(screen: &str) -> String {
    screen.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the daemon's JSON notes about Docker.
fn note(daemon: &Daemon) -> String {
    let status = daemon.status();
    let source = status["sources"].as_array().unwrap().iter().find(|source| source["name"] == "docker");
    source.and_then(|source| source["note"].as_str()).unwrap_or_default().to_string()
}

#[test]
fn what_is_left_out_is_said_on_every_screen() {
    let boxes = settled(&[
        Box_::new(1, "shop-web-1", "running", 0).of("web"),
        Box_::new(2, "alien", "running", 0),
        Box_::new(3, "other", "running", 0),
    ]);
    let peer = engine(Arc::clone(&boxes), b"", String::new);
    let directory = tempfile::tempdir().unwrap();
    let docker = format!("socket = \"{}\"\ncontainers = [\"web\"]", peer.socket().display());
    configure(directory.path(), &quiet(&docker));
    let daemon = Daemon::start(directory.path());
    let said = "1 container named by docker.containers; 2 others are not watched: docker.containers = [\"*\"]";
    assert!(flat(&daemon.stdout()).contains(said), "{}", daemon.stdout());
    assert_eq!(note(&daemon), said);
    let page = String::from_utf8(daemon.get("/").body.clone()).unwrap();
    assert!(page.contains("2 others are not watched"), "{page}");
    let listen = daemon.page().strip_prefix("http://").unwrap().to_string();
    for arguments in [vec!["check"], vec!["check", "--json"], vec!["--set", &format!("listen={listen}"), "status"]] {
        let output = run(directory.path(), &arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(flat(&text).contains("2 others are not watched"), "{arguments:?}: {text}{:?}", output.stderr);
    }
    boxes.lock().unwrap().push(Box_::new(4, "new", "running", 0));
    wait("the numbers of the last look", || note(&daemon).contains("3 others").then_some(()));
}

/// In a mount namespace of its own, where /run is a directory of the test: a machine without Docker, at first.
#[test]
fn a_socket_that_comes_later_is_used_without_a_restart() {
    if !parts::namespaces() {
        return;
    }
    let (directory, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    configure(directory.path(), "tick = \"200ms\"\n[host]\nenabled = false\n");
    let clean = watchdog(directory.path());
    let mut inside = Command::new("unshare");
    let script = "mount --bind \"$1\" /run && exec \"$2\" --set listen=127.0.0.1:0";
    inside.args(["-rm", "sh", "-c", script, "sh"]).arg(run.path()).arg(clean.get_program());
    for (name, _) in clean.get_envs().filter(|(_, value)| value.is_none()) {
        inside.env_remove(name);
    }
    inside.current_dir(directory.path()).stdin(std::process::Stdio::null());
    let daemon = Daemon::start_with(&mut inside);
    let waits = "no Docker socket at /var/run/docker.sock; it is used as soon as it is there";
    assert!(flat(&daemon.stdout()).contains(waits), "{}", daemon.stdout());
    daemon.wait_state("source/docker", "ok");
    assert_eq!(note(&daemon), waits);

    let boxes = settled(&[Box_::new(1, "late", "running", 0)]);
    let late = engine(boxes, b"", String::new);
    std::os::unix::fs::symlink("x", run.path().join("unrelated")).unwrap();
    std::fs::hard_link(late.socket(), run.path().join("docker.sock")).unwrap();
    daemon.wait_state("container/late", "ok");
    wait("the numbers", || (note(&daemon) == "1 container").then_some(()));
    assert!(String::from_utf8_lossy(&daemon.get("/").body).contains("1 container"));
}
