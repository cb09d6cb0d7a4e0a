//! Single passes, one after another, as cron makes them: what they must know of one another they remember.

use std::time::{Duration, Instant};

use crate::daemon::run;
use crate::parts;
use crate::repair::World;

#[test]
fn a_node_that_earlier_passes_saw_is_told_as_gone_by_the_pass_that_confirms_it() {
    if !parts::consul() {
        return;
    }
    let world = World::new("observe");
    // The evidence is well: only the node is to fire.
    let deps = format!("deps=gone=tcp://{}", world.consul.url().trim_start_matches("http://"));
    let settings = ["--set", "listen=", "--set", "consul.resettle=31s", "--set", &deps];
    let pass = || run(world.path(), &[&settings[..], &["run", "--once"]].concat());
    let beat = world.beacon("boot-1");
    for _ in 0..2 {
        assert_eq!(pass().status.code(), Some(0));
    }
    beat.dies();
    let lost = Instant::now();
    let first = pass();
    assert_eq!(first.status.code(), Some(0), "one look, and Consul may have lost its data: {first:?}");
    assert!(world.telegram.delivered().is_empty(), "{:?}", world.telegram.delivered());
    // Longer than beacons have to register again, by the clock that the rule counts with.
    while lost.elapsed() < Duration::from_secs(32) {
        std::thread::park_timeout(Duration::from_secs(1));
    }
    let second = pass();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(world.story().contains("🔴") && world.story().contains("node/n1"), "{}", world.story());
    assert_eq!(pass().status.code(), Some(1), "it still fires");
    let _beat = world.beacon("boot-2");
    assert_eq!(pass().status.code(), Some(0));
    assert_eq!(world.telegram.delivered().len(), 2, "{}", world.story());
}

#[test]
fn a_pass_without_a_state_file_says_that_it_cannot_remember() {
    let dir = tempfile::tempdir().unwrap();
    crate::setup::Setup::new("1s").set("log", "info").set("state", "").write(dir.path());
    let pass = run(dir.path(), &["--set", "listen=", "run", "--once"]);
    let said = String::from_utf8_lossy(&pass.stderr).into_owned();
    assert!(said.contains("knows nothing of earlier ones") && said.contains("set state"), "{said}");
}
