//! The provider is asked before a repair needs it: what is wrong with an id or a key is known at once.

use crate::daemon::{Daemon, run, wait};
use crate::peer::oci::{Fault, Kind, Lifecycle, Oci, ocid};
use crate::setup::{GONE, Setup};

struct World {
    oci: Oci,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let world = World { oci: Oci::start(), dir: tempfile::tempdir().unwrap() };
        world.setup().node("n1", GONE).write(world.dir.path());
        world
    }

    /// Its settings but for the node.
    fn setup(&self) -> Setup {
        // Nobody listens there: what is asked of the provider does not depend on Consul.
        let setup = Setup::agent("agent-1", "http://127.0.0.1:1");
        setup.oci(&self.oci, self.dir.path()).set("oci.ask_every", "10m")
    }
}

fn is_connected(daemon: &Daemon, value: u8) -> bool {
    let page = String::from_utf8(daemon.get("/metrics").body).unwrap();
    page.contains(&format!("watchdog_oci_connected {value}\n"))
}

fn detail(daemon: &Daemon, key: &str) -> String {
    let status = daemon.status();
    let signal = status["signals"].as_array().unwrap().iter().find(|signal| signal["key"] == key).cloned();
    signal.unwrap_or_default()["detail"].as_str().unwrap_or_default().to_string()
}

#[test]
fn an_instance_that_is_there_is_asked_for_once_and_shown_as_connected_before_any_repair() {
    let world = World::new();
    world.oci.add_instance(&ocid("n1"), Lifecycle::Running);
    let daemon = Daemon::start(world.dir.path());
    daemon.wait_state("oci/instances", "ok");
    daemon.wait_state("source/oci", "ok");
    wait("the metric", || is_connected(&daemon, 1).then_some(()));
    (0..3).for_each(|_| daemon.wait_pass());
    assert_eq!(world.oci.asked(Kind::Get).len(), 1, "{:?}", world.oci.ledger());
    daemon.terminate();
}

#[test]
fn an_unknown_instance_is_told_at_once_with_what_to_do_also_by_check() {
    let world = World::new();
    let daemon = Daemon::start(world.dir.path());
    daemon.wait_state("oci/instances", "firing");
    let detail = detail(&daemon, "oci/instances");
    assert!(detail.contains("node n1: ") && detail.contains("404") && detail.contains("instance_id"), "{detail}");
    wait("the metric", || is_connected(&daemon, 1).then_some(()));
    daemon.terminate();
    let checked = run(world.dir.path(), &["check"]);
    let table = String::from_utf8_lossy(&checked.stdout).into_owned();
    let row = table.lines().find(|line| line.contains("oci/instances")).unwrap_or_default();
    assert!(row.contains("firing") && row.contains("404"), "{table}");
    assert_eq!(checked.status.code(), Some(1));
}

#[test]
fn a_revoked_key_is_told_as_a_source_that_cannot_see_and_asked_again_with_patience() {
    let world = World::new();
    world.oci.add_instance(&ocid("n1"), Lifecycle::Running);
    let refused = Fault::Refuse(401, "NotAuthenticated", "The required information was not provided");
    world.oci.script(Kind::Get, std::iter::repeat_n(refused, 50));
    let daemon = Daemon::start(world.dir.path());
    daemon.wait_state("source/oci", "firing");
    let detail = detail(&daemon, "source/oci");
    assert!(detail.contains("401") && detail.contains("[oci]"), "{detail}");
    wait("the metric", || is_connected(&daemon, 0).then_some(()));
    assert!(world.oci.asked(Kind::Get).len() <= 3, "{:?}", world.oci.ledger());
    daemon.terminate();
}

#[test]
fn a_provider_that_asks_for_patience_gets_it_and_is_told_with_what_to_do() {
    let world = World::new();
    world.oci.add_instance(&ocid("n1"), Lifecycle::Running);
    world.oci.script(Kind::Get, [Fault::RateLimit(5)]);
    let daemon = Daemon::start(world.dir.path());
    daemon.wait_state("source/oci", "firing");
    let detail = detail(&daemon, "source/oci");
    for words in ["429", "too many requests", "asked again in 5", "oci.ask_every"] {
        assert!(detail.contains(words), "{words}: {detail}");
    }
    daemon.wait_state("source/oci", "ok");
    daemon.wait_state("oci/instances", "ok");
    let asked = world.oci.asked(Kind::Get);
    assert_eq!(asked.len(), 2, "{asked:?}");
    let waited = asked[1].at.duration_since(asked[0].at);
    assert!(waited >= std::time::Duration::from_secs(5), "{waited:?}");
    daemon.terminate();
}

#[test]
fn an_instance_of_another_region_is_told_with_both_regions_and_what_to_do_and_never_asked_for() {
    let world = World::new();
    world.oci.add_instance(&ocid("n1"), Lifecycle::Running);
    let elsewhere = "[[node]]\nname = \"n2\"\ninstance_id = \"ocid1.instance.oc1.uk-london-1.testn2\"\n";
    world.setup().node("n1", GONE).block(&format!("{elsewhere}{GONE}\n")).write(world.dir.path());
    // What only looks, shows it beside the rest; what would act refuses to begin.
    for (command, code) in [(&["config", "check"][..], 2), (&["run"], 2), (&["check"], 1)] {
        let ended = run(world.dir.path(), &[&["--set", "listen="], command].concat());
        let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        for words in ["n2", "uk-london-1", "eu-frankfurt-1", "correct instance_id"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    let others = world.oci.ledger().into_iter().filter(|entry| entry.instance != ocid("n1")).count();
    assert_eq!(others, 0, "{:?}", world.oci.ledger());
}

#[test]
fn an_instance_that_the_asked_region_does_not_have_is_told_with_its_region_as_a_reason() {
    // The endpoint is that of another region than the instance's: it knows nothing of it, and says only 404.
    let world = World::new();
    let daemon = Daemon::start(world.dir.path());
    daemon.wait_state("oci/instances", "firing");
    let detail = detail(&daemon, "oci/instances");
    assert!(detail.contains("node n1: ") && detail.contains("404") && detail.contains("its region"), "{detail}");
    daemon.terminate();
}
