//! One small world for each case: a scripted cloud, a node, an agent that is the real binary. Consul is
//! one for all of them, each with keys of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use watchdog::client::consul::{Behavior, Consul as Client, How};

use crate::daemon::{Daemon, SOON, wait, watchdog};
use crate::peer::consul::Consul;
use crate::peer::oci::{Durations, Entry, Fault, Hook, Kind, Lifecycle, Oci, Strike, ocid};
use crate::peer::telegram::Telegram;
use crate::setup::{GONE, Setup};

/// No agent: a blow that falls now has nobody to hit yet.
const NOBODY: i32 = 0;

/// A request of the story, by how it stands with the machine when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The look before the decision.
    Confirm,
    Stop,
    /// A look at a machine that is going down, or down.
    Stopping,
    /// A look at a machine that is down.
    Stopped,
    Start,
    /// A look at a machine that is coming up.
    Starting,
    /// A look at a machine that is up again.
    Up,
    /// Any look.
    Look,
}

impl Place {
    fn is(self, entry: &Entry, ledger: &[Entry]) -> bool {
        let looks = |states: &[Lifecycle]| {
            entry.kind == Kind::Get && entry.before.is_some_and(|lifecycle| states.contains(&lifecycle))
        };
        let had = |kind: Kind| ledger.iter().any(|e| e.kind == kind && e.effect && e.instance == entry.instance);
        match self {
            Place::Confirm => looks(&[Lifecycle::Running]) && !had(Kind::Stop),
            Place::Stop => entry.kind == Kind::Stop,
            Place::Stopping => looks(&[Lifecycle::Stopping, Lifecycle::Stopped]),
            Place::Stopped => looks(&[Lifecycle::Stopped]),
            Place::Start => entry.kind == Kind::Start,
            Place::Starting => looks(&[Lifecycle::Starting]),
            Place::Up => looks(&[Lifecycle::Running]) && had(Kind::Start),
            Place::Look => entry.kind == Kind::Get,
        }
    }
}

/// One world. Its nodes are n1, n2, …
pub struct World {
    pub oci: Oci,
    pub telegram: Option<Telegram>,
    pub dir: tempfile::TempDir,
    pub nodes: usize,
    consul: Client,
    /// Of Consul: host and port.
    pub address: String,
    base: String,
    lease_ttl: &'static str,
    /// The agent that blows fall on.
    agent: Arc<AtomicI32>,
}

/// What a world is configured with.
#[derive(Clone)]
pub struct Plan {
    pub tells: bool,
    pub nodes: usize,
    /// Short: an agent that is killed leaves the lease to the next one when it ends.
    pub lease_ttl: &'static str,
    pub stopping: Duration,
    pub starting: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        // Some looks fall into each, also on a machine that is busy.
        let span = Duration::from_millis(800);
        Plan { tells: false, nodes: 1, lease_ttl: "1s", stopping: span, starting: span }
    }
}

impl World {
    pub fn new(consul: &Consul, plan: &Plan) -> World {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let base = format!("w{}", WORLDS.fetch_add(1, Ordering::Relaxed));
        let oci = Oci::start();
        oci.durations(Durations { stopping: plan.stopping, starting: plan.starting, ..Durations::default() });
        let world = World {
            oci,
            telegram: plan.tells.then(Telegram::start),
            dir: tempfile::tempdir().unwrap(),
            nodes: plan.nodes,
            consul: consul.client(),
            address: consul.address(),
            base,
            lease_ttl: plan.lease_ttl,
            agent: Arc::new(AtomicI32::new(NOBODY)),
        };
        for n in 1..=plan.nodes {
            world.oci.add_instance(&ocid(&node(n)), Lifecycle::Running);
        }
        world.configure(|setup| setup);
        world
    }

    /// The agent's settings with these nodes.
    pub fn setup(&self, nodes: impl IntoIterator<Item = usize>) -> Setup {
        let setup = Setup::agent("agent-1", &format!("http://{}", self.address))
            .set("tick", "100ms")
            .set("timeout", "1s")
            .set("deps", ["gone=tcp://127.0.0.1:1".to_string(), format!("ref=tcp://{}", self.address)].as_slice())
            .set("consul.prefix", format!("{}/nodes", self.base))
            .set("recovery.after", "300ms")
            .set("recovery.boot_grace", "90s")
            .set("recovery.min_healthy", "0%")
            .set("recovery.max_in_flight", 100)
            .set("recovery.max_per_domain", 100)
            .set("recovery.max_per_hour", 100)
            .set("recovery.max_per_day", 100)
            .set("recovery.max_per_node", 100)
            .set("recovery.references", ["probe/ref"].as_slice())
            .set("recovery.lease", self.base.as_str())
            .set("recovery.lease_ttl", self.lease_ttl)
            .oci(&self.oci, self.path());
        let setup = self.telegram.iter().fold(setup, Setup::telegram);
        nodes.into_iter().fold(setup, |setup, n| setup.node(&node(n), GONE))
    }

    /// Writes the configuration as `change` makes it.
    pub fn configure(&self, change: impl FnOnce(Setup) -> Setup) {
        change(self.setup(1..=self.nodes)).write(self.path());
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the agent; blows fall on it from now on.
    pub fn start(&self) -> Daemon {
        let daemon = Daemon::start_with(watchdog(self.path()).args(["--set", "listen=127.0.0.1:0"]));
        self.agent.store(i32::try_from(daemon.pid()).unwrap(), Ordering::Release);
        daemon
    }

    /// The agent is gone: the next blow waits for the next one.
    pub fn nobody(&self) {
        self.agent.store(NOBODY, Ordering::Release);
    }

    /// Sends `signal` to the agent, once there is one.
    pub fn blow(&self, signal: Signal) -> Hook {
        let agent = Arc::clone(&self.agent);
        Box::new(move || {
            let deadline = Instant::now() + SOON;
            while agent.load(Ordering::Acquire) == NOBODY && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            if let Some(pid) = Pid::from_raw(agent.load(Ordering::Acquire)) {
                // It may have ended by itself; the case will tell.
                let _ = kill_process(pid, signal);
            }
        })
    }

    /// The next `times` requests `place` of node `n` meet this fault.
    pub fn faults(&self, n: usize, place: Place, fault: &Fault, times: usize) {
        for _ in 0..times {
            self.oci.strike(Strike { fault: Some(fault.clone()), ..at(n, place, 0) });
        }
    }

    /// The heartbeat of node `n` from this boot on; gives its session.
    pub fn beats(&self, n: usize, boot: &str) -> String {
        let name = node(n);
        let hour = Duration::from_hours(1);
        let session = self.consul.session_create(&name, hour, Behavior::Delete, Duration::ZERO).unwrap();
        let value = format!(r#"{{"node":"{name}","boot_id":"{boot}","ttl_s":3}}"#);
        let key = format!("{}/nodes/{name}", self.base);
        wait(|| key.clone(), || self.consul.put(&key, value.as_bytes(), How::Acquire(&session)).ok()?.then_some(()));
        session
    }

    /// A session ends, and the heartbeat with it.
    pub fn dies(&self, session: &str) {
        self.consul.session_destroy(session).unwrap();
    }

    /// The note about node `n` that an agent left for another.
    pub fn note(&self, n: usize) -> Option<String> {
        let listing = self.consul.prefix(&format!("{}/repairs/{}", self.base, node(n)), None, None, false).unwrap();
        let value = listing.entries().unwrap().first()?.value().unwrap();
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// Removes the state file and all beside it.
    pub fn lose_state(&self) {
        for entry in std::fs::read_dir(self.path()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("state.db") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    /// How often requests of this kind changed the machine of node `n`.
    pub fn effects(&self, n: usize, kind: Kind) -> usize {
        let id = ocid(&node(n));
        self.oci.asked(kind).iter().filter(|entry| entry.effect && entry.instance == id).count()
    }

    pub fn lifecycle(&self, n: usize) -> Lifecycle {
        self.oci.lifecycle(&ocid(&node(n)))
    }

    /// It was switched on again, and runs.
    pub fn is_up_again(&self, n: usize) -> bool {
        self.effects(n, Kind::Start) > 0 && self.lifecycle(n) == Lifecycle::Running
    }

    /// Since when it runs again.
    pub fn up_since(&self, n: usize) -> Option<Instant> {
        self.oci.running_since(&ocid(&node(n))).filter(|_| self.is_up_again(n))
    }

    /// What was asked, for a person who looks for the reason of a failure.
    pub fn asked(&self) -> String {
        let line = |e: &Entry| {
            let (before, answered) = (e.before.map_or("", Lifecycle::word), e.answered);
            format!("{:?} {} {before} effect {} answered {answered:?}\n", e.kind, e.instance, e.effect)
        };
        self.oci.ledger().iter().map(line).collect::<Vec<_>>().concat()
    }
}

/// The name of the `n`-th node.
pub fn node(n: usize) -> String {
    format!("n{n}")
}

/// Where node `n` stands.
pub fn phase(daemon: &Daemon, n: usize) -> String {
    let status = daemon.status();
    let targets = status["targets"].as_array().cloned().unwrap_or_default();
    let name = node(n);
    let own = targets.iter().find(|target| target["name"].as_str().is_some_and(|t| t.ends_with(&name)));
    own.and_then(|target| target["phase"].as_str()).unwrap_or_default().to_string()
}

/// A strike at the request `place` of node `n`, after `skip` such requests; not yet armed.
pub fn at(n: usize, place: Place, skip: usize) -> Strike {
    let id = ocid(&node(n));
    Strike {
        wanted: Box::new(move |entry, ledger| entry.instance == id && place.is(entry, ledger)),
        skip,
        fault: None,
        arrived: None,
        answered: None,
    }
}
