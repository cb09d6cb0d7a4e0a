//! An agent in a network namespace of its own, whose link is cut: what it cannot see it does not touch,
//! and what it owes it does as soon as it can, also without Consul.
//!
//! Oracle's API is asked over plain http on loopback only, so the namespace has a door to it: a proxy
//! whose sockets belong to the namespace and lead over the same link.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::AsFd as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::{Scene, linger, side_by_side, wait_phase};
use crate::daemon::{Daemon, wait, watchdog};
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::{Durations, Kind};
use crate::peer::proxy::{Fault, Proxy};
use crate::repair::Beat;
use crate::setup::GONE;

static NEXT: AtomicU32 = AtomicU32::new(0);

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// A namespace with one link to the world outside. Removed when dropped.
struct Island {
    name: String,
    /// Our end of the link, and the address there.
    link: String,
    shore: String,
}

impl Island {
    fn new() -> Option<Island> {
        if !parts::netns() {
            return None;
        }
        let n = NEXT.fetch_add(1, Ordering::SeqCst);
        // The test runner may run twice on one machine: names and addresses follow the process.
        let (id, low) = (std::process::id(), std::process::id() % 250);
        let name = format!("wd-{id}-{n}");
        let (link, far) = (format!("wda{id}{n}"), format!("wdb{id}{n}"));
        let (shore, inside) = (format!("10.253.{low}.{}", n * 4 + 1), format!("10.253.{low}.{}", n * 4 + 2));
        ip(&format!("netns add {name}"));
        let island = Island { name, link, shore };
        ip(&format!("link add {} type veth peer name {far} netns {}", island.link, island.name));
        ip(&format!("addr add {}/30 dev {}", island.shore, island.link));
        ip(&format!("link set {} up", island.link));
        for inside in [
            format!("-n {} addr add {inside}/30 dev {far}", island.name),
            format!("-n {} link set {far} up", island.name),
            format!("-n {} link set lo up", island.name),
        ] {
            ip(&inside);
        }
        Some(island)
    }

    /// A door to `to` on the shore, at an address that the island can reach.
    fn shore(&self, to: &str) -> Proxy {
        Proxy::at(&self.shore, to)
    }

    /// A door on the island's own loopback that leads to `to`.
    fn inside(&self, to: &str) -> Proxy {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let to = to.to_string();
        // The proxy's threads are begun in there, so their sockets are, too.
        let enter = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            Proxy::to(&to)
        };
        thread::spawn(enter).join().unwrap()
    }

    /// The binary as it runs in there.
    fn watchdog(&self, dir: &Path) -> Command {
        let outside = watchdog(dir);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(outside.get_program()).current_dir(dir).stdin(Stdio::null());
        for (name, _) in outside.get_envs() {
            command.env_remove(name);
        }
        command
    }

    fn cut(&self) {
        ip(&format!("link set {} down", self.link));
    }

    fn mend(&self) {
        ip(&format!("link set {} up", self.link));
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.link]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// The page of an agent in a namespace is reached from within only.
struct Cut {
    scene: Scene,
    consul: Consul,
    island: Island,
    dir: PathBuf,
    doors: Vec<Proxy>,
    beat: Option<Beat>,
    agent: Daemon,
}

fn cut_off() -> Option<Cut> {
    if !parts::consul() {
        return None;
    }
    let island = Island::new()?;
    let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
    let beat = Beat::start(&consul, "n1", "boot-1");
    let to_consul = island.shore(&consul.address());
    let to_oci = island.shore(scene.oci.url().trim_start_matches("http://"));
    let to_telegram = island.shore(scene.telegram.base_url().trim_start_matches("http://"));
    let door = island.inside(&to_oci.address().to_string());
    let setup = scene.agent(&to_consul.url()).node("n1", GONE).set("timeout", "1s");
    let dir = scene.configure(&setup.set("oci.endpoint", door.url()).set("telegram.api_base", to_telegram.url()));
    let agent = Daemon::begin(island.watchdog(&dir).args(["--set", "listen=127.0.0.1:0"]));
    wait(
        || format!("the lease: {}", agent.stderr()),
        || agent.stderr().contains("this agent holds the lease").then_some(()),
    );
    let cut =
        Cut { scene, consul, island, dir, doors: vec![to_consul, to_oci, to_telegram, door], beat: Some(beat), agent };
    wait(
        || format!("n1 to be well: {}", cut.status()),
        || (cut.status()["targets"][0]["phase"] == "healthy").then_some(()),
    );
    Some(cut)
}

impl Cut {
    /// The agent's status, asked for from where it is.
    fn status(&self) -> Value {
        let listen = format!("listen={}", self.agent.page().trim_start_matches("http://"));
        let output = self.island.watchdog(&self.dir).args(["--set", &listen, "status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// Lets passes of the agent go by for this long: time in which what must not happen could.
    fn linger(&self, span: Duration) {
        let begun = Instant::now();
        let passes = || self.status()["tick"]["count"].as_u64().unwrap();
        let before = passes();
        wait("time and passes to go by", || (begun.elapsed() >= span && passes() > before + 2).then_some(()));
    }

    /// Cuts the link; the node dies, which the agent cannot see. Waits until it has given the lease up.
    fn off(&mut self) {
        self.island.cut();
        self.beat.take().unwrap().dies();
        wait(
            || format!("the lease to be lost: {}", self.agent.stderr()),
            || self.agent.stderr().contains("lost the lease").then_some(()),
        );
    }
}

#[test]
fn an_agent_that_is_cut_off_touches_nobody_and_repairs_what_is_still_missing_when_it_is_back() {
    let Some(mut cut) = cut_off() else { return };
    cut.off();
    // Long past `after`: whatever it did out of blindness, it would have done by then.
    cut.linger(Duration::from_secs(5));
    assert!(cut.scene.oci.ledger().is_empty(), "{:#?}", cut.scene.oci.ledger());
    cut.island.mend();
    cut.scene.wait_started(1);
    let _beat = Beat::start(&cut.consul, "n1", "boot-2");
    cut.scene.wait_told("repaired: back on a new boot");
    cut.scene.assert_repaired_once("n1");
    assert_eq!(cut.doors.len(), 4);
}

#[test]
fn an_agent_that_is_cut_off_while_a_node_comes_back_does_nothing_at_all() {
    let Some(mut cut) = cut_off() else { return };
    cut.off();
    cut.linger(Duration::from_secs(2));
    let _beat = Beat::start(&cut.consul, "n1", "boot-2");
    cut.island.mend();
    wait("the lease again", || (cut.agent.stderr().matches("this agent holds the lease").count() >= 2).then_some(()));
    cut.linger(Duration::from_secs(2));
    cut.scene.assert_untouched();
}

#[test]
fn cut_from_consul_after_the_stop_it_starts_the_machine_all_the_same() {
    if !parts::consul() {
        return;
    }
    side_by_side([Fault::Hang, Fault::Reset], |fault| {
        let (scene, consul) = (Scene::new(&["n1"]), Consul::dev(Dev::default()));
        scene.oci.durations(Durations { stopping: Duration::from_secs(5), ..Durations::default() });
        let proxy = Arc::new(Proxy::to(&consul.address()));
        let beat = Beat::start(&consul, "n1", "boot-1");
        let agent = scene.start(&scene.agent(&proxy.url()).node("n1", GONE));
        wait_phase(&agent, "n1", "healthy");
        let cut = Arc::clone(&proxy);
        scene.oci.on_answered(Kind::Stop, 1, Box::new(move || cut.set(fault)));
        beat.dies();
        scene.wait_started(1);
        wait_phase(&agent, "n1", "waiting");
        assert!(agent.stderr().contains("lost the lease"), "{fault:?}: it went on without: {}", agent.stderr());
        linger(&agent, Duration::from_secs(1));
        scene.assert_repaired_once("n1");
        proxy.set(Fault::None);
        let _beat = Beat::start(&consul, "n1", "boot-2");
        wait_phase(&agent, "n1", "healthy");
        scene.assert_repaired_once("n1");
    });
}
