//! The agent against a real Consul that dies, elects, forgets, refuses and is cut off: the right actions
//! in exact counts, and none where none is due. One scripted Oracle Cloud, one scripted Telegram, any
//! number of agents and beacons, all of them the real binary.

mod acl;
mod amnesia;
mod beacons;
mod cluster;
mod gate;
mod lease;
mod many;

mod partition;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Daemon, wait, watchdog};
use crate::peer::consul::Consul;
use crate::peer::oci::{Durations, Entry, Kind, Lifecycle, Oci, ocid};
use crate::peer::telegram::Telegram;
use crate::setup::Setup;

/// A cloud, a chat, and a place for agents and beacons.
struct Scene {
    oci: Oci,
    telegram: Telegram,
    home: tempfile::TempDir,
}

impl Scene {
    fn new(nodes: &[&str]) -> Scene {
        let ms = Duration::from_millis;
        let scene = Scene { oci: Oci::start(), telegram: Telegram::start(), home: tempfile::tempdir().unwrap() };
        scene.oci.durations(Durations {
            stopping: ms(300),
            between: ms(100),
            starting: ms(300),
            ..Durations::default()
        });
        nodes.iter().for_each(|node| scene.oci.add_instance(&ocid(node), Lifecycle::Running));
        scene
    }

    /// The settings of the only agent: it repairs in this cloud, and tells in this chat.
    fn agent(&self, consul: &str) -> Setup {
        self.named("agent-1", consul)
    }

    /// Those of one of several, with a directory of its own.
    fn named(&self, name: &str, consul: &str) -> Setup {
        let dir = self.home.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let setup = Setup::agent(name, consul).telegram(&self.telegram).oci(&self.oci, &dir);
        setup.set("host.sys", sys(&dir, false))
    }

    /// Writes an agent's configuration into its directory.
    fn configure(&self, agent: &Setup) -> PathBuf {
        let dir = self.home.path().join(agent.get("instance").as_str().unwrap());
        agent.write(&dir);
        dir
    }

    fn start(&self, agent: &Setup) -> Daemon {
        Daemon::start(&self.configure(agent))
    }

    /// A real beacon for this node, renewed ten times in its TTL.
    fn beacon(&self, node: &str, consul: &str, ttl: &str, renew: &str) -> Daemon {
        self.beacon_with(node, consul, |setup| setup.set("beacon.ttl", ttl).set("beacon.renew", renew))
    }

    fn beacon_with(&self, node: &str, consul: &str, settings: impl FnOnce(Setup) -> Setup) -> Daemon {
        let dir = self.home.path().join(format!("beacon-{node}"));
        std::fs::create_dir_all(&dir).unwrap();
        let setup = Setup::default().set("consul.address", consul).set("beacon.listen", "127.0.0.1:0");
        settings(setup.set("beacon.node", node)).write(&dir);
        let daemon = Daemon::start_with(watchdog(&dir).arg("beacon"));
        wait(|| format!("the beacon of {node}"), || (daemon.get("/healthz").status == 200).then_some(()));
        daemon
    }

    /// Everything that was told so far.
    fn story(&self) -> String {
        self.telegram.delivered().iter().map(|message| message.text.clone()).collect::<Vec<_>>().join("\n---\n")
    }

    fn wait_told(&self, words: &str) {
        wait(
            || format!("\"{words}\" to be told; told was:\n{}", self.story()),
            || self.story().contains(words).then_some(()),
        );
    }

    /// Requests that switch anything, whatever came of them.
    fn switched(&self) -> Vec<Entry> {
        let looks = |entry: &Entry| matches!(entry.kind, Kind::Get | Kind::List);
        self.oci.ledger().into_iter().filter(|entry| !looks(entry)).collect()
    }

    /// STOP and START requests, whatever came of them.
    fn asked(&self) -> (usize, usize) {
        (self.oci.asked(Kind::Stop).len(), self.oci.asked(Kind::Start).len())
    }

    fn assert_untouched(&self) {
        let switched = self.switched();
        assert!(switched.is_empty(), "{switched:#?}\n{}", self.story());
    }

    /// One STOP and one START, both with effect, and the machine runs.
    fn assert_repaired_once(&self, node: &str) {
        assert_eq!(self.asked(), (1, 1), "{:#?}\n{}", self.switched(), self.story());
        assert_eq!((self.oci.effects(Kind::Stop), self.oci.effects(Kind::Start)), (1, 1));
        assert_eq!(self.oci.lifecycle(&ocid(node)), Lifecycle::Running);
    }

    fn wait_started(&self, times: usize) {
        self.oci.wait("START", Duration::from_secs(30), |ledger| {
            ledger.iter().filter(|entry| entry.kind == Kind::Start).count() >= times
        });
    }
}

/// The /sys of a machine of the cloud, or of another.
fn sys(dir: &std::path::Path, in_cloud: bool) -> String {
    let id = dir.join("sys/class/dmi/id");
    std::fs::create_dir_all(&id).unwrap();
    std::fs::write(id.join("chassis_asset_tag"), if in_cloud { "OracleCloud.com\n" } else { "\n" }).unwrap();
    dir.join("sys").display().to_string()
}

/// One node as the agent's page shows it.
fn target(daemon: &Daemon, node: &str) -> Value {
    let status = daemon.status();
    let name = format!("node/{node}");
    status["targets"].as_array().unwrap().iter().find(|target| target["name"] == name).cloned().unwrap_or_default()
}

fn wait_phase(daemon: &Daemon, node: &str, wanted: &str) {
    wait(
        || format!("{node} to be {wanted}: {} {}", daemon.status(), daemon.stderr()),
        || (target(daemon, node)["phase"] == wanted).then_some(()),
    );
}

fn wait_blocked(daemon: &Daemon, node: &str, reason: &str) {
    wait(
        || format!("{node} to be blocked by {reason}: {} {}", daemon.status(), daemon.stderr()),
        || target(daemon, node)["blocked"].as_array()?.iter().any(|word| word == reason).then_some(()),
    );
}

/// The value of a line on the agent's metrics; `None` where there is no such line.
fn metric(daemon: &Daemon, name: &str) -> Option<f64> {
    let page = String::from_utf8(daemon.get("/metrics").body).unwrap();
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Runs each case in a thread of its own: they mostly wait.
fn side_by_side<T: Send>(cases: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let run = &run;
            scope.spawn(move || run(case));
        }
    });
}

/// Lets passes go by for this long: time in which what must not happen could.
fn linger(daemon: &Daemon, span: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        daemon.wait_pass();
    }
}

/// Heartbeats for many nodes, held by one session without an end.
fn hold(consul: &Consul, names: &[String], boot: &str) -> String {
    use base64::Engine as _;
    use watchdog::client::consul::Behavior;
    let session =
        consul.client().session_create("many", Duration::from_hours(1), Behavior::Delete, Duration::ZERO).unwrap();
    for chunk in names.chunks(60) {
        let lock = |name: &String| {
            let value = format!(r#"{{"node":"{name}","boot_id":"{boot}","ttl_s":3}}"#);
            let value = base64::engine::general_purpose::STANDARD.encode(value);
            serde_json::json!({"KV": {
                "Verb": "lock", "Key": format!("watchdog/nodes/{name}"), "Value": value, "Session": session,
            }})
        };
        let body = serde_json::to_string(&chunk.iter().map(lock).collect::<Vec<Value>>()).unwrap();
        let (status, said) = consul.api("PUT", "/v1/txn", &body).unwrap();
        assert_eq!(status, 200, "{said}");
    }
    session
}
