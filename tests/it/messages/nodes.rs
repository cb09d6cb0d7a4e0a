//! What is told of nodes: the real source reads a scripted Consul, and the fleet lives through a repair in a small world.

use std::sync::{Arc, Mutex};

use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::core::edge::{Edge, EdgeKind};
use watchdog::core::recovery::plan::Mode;
use watchdog::core::signal::State;
use watchdog::core::time::{Mono, Now};
use watchdog::source::consul;
use watchdog::source::{Ask, Outfit, Source};

use super::{Chapter, Scene, outfit, read};
use crate::peer::kv::{Held, Kv};
use crate::recovery::world::{MINUTE, TICK, World};

const KEYS: [&str; 3] = ["watchdog/nodes/n1", "watchdog/nodes/n2", "watchdog/lease/sentinel"];

/// A Consul, the source that reads it, and the core.
struct Rig {
    kv: Kv,
    source: Box<dyn Source>,
    hand: Arc<Mutex<Now>>,
    scene: Scene,
}

impl Rig {
    fn new() -> Rig {
        let kv = Kv::start(&KEYS);
        let node =
            |name: &str| format!("[[node]]\nname = \"{name}\"\nexecutor = \"none\"\nevidence = \"heartbeat-only\"\n");
        let toml = format!("[consul]\naddress = \"{}\"\n{}{}", kv.url(), node("n1"), node("n2"));
        let config = Config::from_toml(&toml).unwrap_or_else(|e| panic!("{e}"));
        let scene = Scene::new();
        let (clock, hand) = Clock::by_hand(scene.world.now);
        let outfit = Outfit { clock, ..outfit() };
        let source = (consul::ENTRY.build)(&config, &outfit).unwrap_or_else(|e| panic!("{e}")).unwrap();
        let mut rig = Rig { kv, source, hand, scene };
        assert_eq!(rig.look(), None);
        rig
    }

    fn change(&self, change: impl Fn(&mut Held)) {
        let mut held = self.kv.held();
        change(&mut held);
        held.index += 1;
    }

    /// One look; what is told of it, as it is read.
    fn look(&mut self) -> Option<(Vec<EdgeKind>, String)> {
        let now = self.scene.world.now;
        *self.hand.lock().unwrap() = now;
        let ask = Ask { now, fresh_since: Mono(i64::MIN), hurry_since: Mono(i64::MIN), once: true };
        let outcome = self.source.observe(&ask);
        let details = outcome.as_ref().err().map(|why| self.source.advice(why));
        let edges = self.scene.look_with("consul", outcome, details);
        let kinds: Vec<EdgeKind> = edges.iter().map(|edge| edge.kind).collect();
        let text = read(edges, self.scene.world.now).replace(&self.kv.url(), "http://consul:8500");
        (!kinds.is_empty()).then_some((kinds, text))
    }

    fn until(&mut self, kind: EdgeKind) -> String {
        let told = (0..super::LOOKS).find_map(|_| self.look().filter(|(kinds, _)| kinds.contains(&kind)));
        told.map_or_else(|| panic!("nothing of the kind {kind:?}"), |(_, text)| text)
    }
}

#[test]
fn what_is_told_of_nodes() {
    let mut chapter = Chapter::new("Nodes");
    let mut rig = Rig::new();
    rig.change(|held| drop(held.keys.remove(KEYS[0])));
    chapter.show("a node is lost", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new();
    rig.kv.held().known_leader = false;
    chapter.show("source/consul: no leader", &rig.until(EdgeKind::Alert));
    let mut rig = Rig::new();
    rig.kv.held().filtered = true;
    chapter.show("source/consul: keys are hidden", &rig.until(EdgeKind::Alert));
    repaired(&mut chapter, Mode::Active, "a repair");
    repaired(&mut chapter, Mode::Observe, "a simulated repair");
    blocked(&mut chapter);
    chapter.check();
}

/// What is told while this world goes on for so long, each edge as it is read.
fn tell(world: &mut World, minutes: u32) -> Vec<String> {
    let end = world.now.mono.plus(MINUTE * minutes);
    let mut told = Vec::new();
    while world.now.mono < end {
        world.clock_goes_on(TICK);
        let edges: Vec<Edge> = world.pass().edges;
        let now: Now = world.now;
        told.extend(edges.into_iter().map(|edge| read(vec![edge], now)));
    }
    told
}

fn repaired(chapter: &mut Chapter, mode: Mode, heading: &str) {
    let mut world = World::of(3);
    world.policy.mode = mode;
    world.reload();
    world.heartbeat_dies("n1");
    let told = tell(&mut world, 20);
    for (at, text) in told.iter().take(3).enumerate() {
        chapter.show(&format!("{heading}, message {}", at + 1), text);
    }
}

fn blocked(chapter: &mut Chapter) {
    let mut world = World::of(3);
    world.heartbeat_dies("n1");
    world.evidence("probe/n1", State::Ok);
    let told = tell(&mut world, 8);
    chapter.show("a repair is held back", told.first().unwrap());
}
