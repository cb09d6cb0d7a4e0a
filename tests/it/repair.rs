//! The whole story with real parts: a node's heartbeat in a real Consul, the real binary as agent, a
//! scripted Oracle Cloud that verifies signatures and keeps a ledger, a scripted Telegram.

mod passes;
mod provider;
mod simulated;

use std::path::Path;
use std::time::Duration;

use crate::daemon::{Daemon, SOON, run, wait, watchdog};
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::{Durations, Kind, Lifecycle, Oci, ocid};
use crate::peer::otlp::{Collector, Received, Speech};
use crate::peer::telegram::Telegram;
use crate::setup::{GONE, Setup};

pub struct World {
    pub consul: Consul,
    pub oci: Oci,
    pub telegram: Telegram,
    pub dir: tempfile::TempDir,
}

impl World {
    pub fn new(mode: &str) -> World {
        let world = World {
            consul: Consul::dev(Dev::default()),
            oci: Oci::start(),
            telegram: Telegram::start(),
            dir: tempfile::tempdir().unwrap(),
        };
        let ms = Duration::from_millis;
        world.oci.durations(Durations {
            stopping: ms(300),
            between: ms(100),
            starting: ms(300),
            ..Durations::default()
        });
        world.oci.add_instance(&ocid("n1"), Lifecycle::Running);
        let setup = Setup::agent("agent-1", &world.consul.url()).set("recovery.mode", mode).node("n1", GONE);
        setup.telegram(&world.telegram).oci(&world.oci, world.path()).write(world.path());
        world
    }

    /// Everything that was told so far.
    pub fn story(&self) -> String {
        self.telegram.delivered().iter().map(|message| message.text.clone()).collect::<Vec<_>>().join("\n---\n")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A node with its beacon, as another boot of the machine each time.
    pub fn beacon(&self, boot: &str) -> Beat {
        Beat::start(&self.consul, "n1", boot)
    }
}

/// A heartbeat that is kept by a session without an end, as a beacon would write it.
pub struct Beat {
    consul: watchdog::client::consul::Consul,
    session: String,
}

impl Beat {
    pub fn start(consul: &Consul, node: &str, boot: &str) -> Beat {
        use watchdog::client::consul::{Behavior, How};
        let client = consul.client();
        let session = client.session_create(node, Duration::from_hours(1), Behavior::Delete, Duration::ZERO).unwrap();
        let value = format!(r#"{{"node":"{node}","boot_id":"{boot}","ttl_s":3}}"#);
        let key = format!("watchdog/nodes/{node}");
        wait("the key", || client.put(&key, value.as_bytes(), How::Acquire(&session)).unwrap().then_some(()));
        Beat { consul: client, session }
    }

    /// The node is gone: its session ends.
    pub fn dies(self) {
        self.consul.session_destroy(&self.session).unwrap();
    }
}

fn phase(daemon: &Daemon) -> String {
    daemon.status()["targets"][0]["phase"].as_str().unwrap_or_default().to_string()
}

pub fn wait_phase(daemon: &Daemon, wanted: &str) {
    wait(
        || format!("{wanted}: {}\n{}\n{}", daemon.status()["targets"], daemon.stdout(), daemon.stderr()),
        || (phase(daemon) == wanted).then_some(()),
    );
}

#[test]
fn a_node_that_fell_silent_is_stopped_and_started_and_the_story_is_told() {
    if !parts::consul() {
        return;
    }
    let world = World::new("active");
    let beat = world.beacon("boot-1");
    let daemon = Daemon::start(world.path());
    daemon.wait_state("node/n1", "ok");
    wait_phase(&daemon, "healthy");
    beat.dies();
    world.oci.wait("a START", SOON, |ledger| ledger.iter().any(|entry| entry.kind == Kind::Start));
    wait_phase(&daemon, "waiting");
    let _beat = world.beacon("boot-2");
    wait_phase(&daemon, "healthy");
    wait("the end of the story", || world.story().contains("🟢").then_some(()));
    let all = world.story();
    for words in [
        "🔴",
        "its heartbeat is gone",
        "repairing: stop and start it, attempt 1 of 3; heartbeat gone for",
        "probe/gone firing",
        "repaired: back on a new boot",
        "🟢",
    ] {
        assert!(all.contains(words), "{words} in\n{all}");
    }
    assert_eq!((world.oci.effects(Kind::Stop), world.oci.effects(Kind::Start)), (1, 1));
    let metrics = String::from_utf8(daemon.get("/metrics").body).unwrap();
    for line in [
        "watchdog_recovery_actions_total{target=\"node/n1\",action=\"STOP\",mode=\"active\"} 1",
        "watchdog_target_phase{target=\"node/n1\",phase=\"healthy\"} 1",
        "watchdog_nodes{state=\"alive\"} 1",
        "watchdog_consul_connected 1",
        "watchdog_oci_connected 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    daemon.terminate();
    // Nobody runs any more; whoever answers at the usual address is not ours.
    let why = run(world.path(), &["--set", "listen=", "why", "node/n1"]);
    assert!(String::from_utf8_lossy(&why.stdout).contains("repair of node/n1 is healthy (1 attempts"), "{why:?}");
    let history = String::from_utf8(run(world.path(), &["history", "node/n1"]).stdout).unwrap();
    for words in ["about to ask for STOP", "STOP accepted", "the machine is STOPPED", "START accepted", "repaired"] {
        assert!(history.contains(words), "{words} in\n{history}");
    }
}

#[test]
fn a_repair_is_one_trace_with_a_span_for_each_request_and_each_wait() {
    if !parts::consul() {
        return;
    }
    let world = World::new("active");
    let collector = Collector::start(Speech::Http, false, []);
    let beat = world.beacon("boot-1");
    let mut command = watchdog(world.path());
    command.args(["--set", "listen=127.0.0.1:0"]).envs(collector.variables()).env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let daemon = Daemon::start_with(&mut command);
    wait_phase(&daemon, "healthy");
    beat.dies();
    wait_phase(&daemon, "waiting");
    let _beat = world.beacon("boot-2");
    let spans = wait("the repair's own span", || {
        let spans: Vec<_> = collector.received().iter().flat_map(Received::spans).collect();
        spans.iter().any(|span| span.name == "repair").then_some(spans)
    });
    let whole = spans.iter().find(|span| span.name == "repair").unwrap();
    assert!(whole.parent_span_id.is_empty() && spans.iter().all(|span| span.trace_id == whole.trace_id), "{spans:?}");
    assert!(spans.iter().filter(|span| span.name != "repair").all(|span| span.parent_span_id == whole.span_id));
    for name in ["confirm", "STOP", "wait for STOPPED", "START", "wait for RUNNING", "look", "wait for the heartbeat"] {
        assert!(
            spans.iter().any(|span| span.name == name),
            "{name} in {:?}",
            spans.iter().map(|s| &s.name).collect::<Vec<_>>()
        );
    }
    let mut ids: Vec<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), spans.len(), "each span has its own id");
    daemon.terminate();
}

#[test]
fn observing_lives_the_same_life_and_asks_the_cloud_for_nothing_but_looks() {
    if !parts::consul() {
        return;
    }
    let world = World::new("observe");
    let beat = world.beacon("boot-1");
    let daemon = Daemon::start(world.path());
    wait_phase(&daemon, "healthy");
    beat.dies();
    wait_phase(&daemon, "waiting");
    let _beat = world.beacon("boot-1");
    wait_phase(&daemon, "healthy");
    wait("the end of the story", || world.story().contains("🟢").then_some(()));
    assert!(world.story().contains("simulated: would stop and start it"), "{}", world.story());
    let switched = world.oci.ledger().iter().filter(|entry| !matches!(entry.kind, Kind::Get | Kind::List)).count();
    assert_eq!(switched, 0, "{:?}", world.oci.ledger());
    assert!(!world.oci.asked(Kind::Get).is_empty(), "it looks all the same");
    assert_eq!(world.oci.lifecycle(&ocid("n1")), Lifecycle::Running);
    daemon.terminate();
}
