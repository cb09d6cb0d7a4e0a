//! What is told of silences: that one has ended, which are in force, and that a signal was forgotten.

use std::sync::Arc;
use std::time::Duration;

use watchdog::core::about::Details;
use watchdog::core::edge::EdgeKind;
use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::{More, Observation, Reading, Report, Severity, SignalKey, Spec};
use watchdog::core::silence::{Silence, Silences};
use watchdog::core::time::Mono;
use watchdog::core::watch::OWN;
use watchdog::hush::Hush;
use watchdog::store::Store;

use super::{Chapter, Scene, read};
use crate::world::answer;

fn spec(key: &str, title: &str) -> Arc<Spec> {
    Arc::new(Spec::new(SignalKey::new(key), title, Severity::Critical, Rule::at_once(Test::Verdict)))
}

/// Down, as its source remembers it.
fn down(spec: &Arc<Spec>, fact: &'static str) -> Observation {
    let seen = Observation::new(spec, Mono(0), Reading::Down, fact);
    seen.with(Details::new("is down", "")).knowing(More { gone: true, ..More::default() })
}

#[test]
fn the_chapter_about_silences() {
    let mut chapter = Chapter::new("Silences");

    let mut scene = Scene::new();
    let db = spec("probe/db", "db");
    let refused = || vec![down(&db, "connection refused by 10.0.0.7:5432")];
    scene.see("probe", vec![Observation::new(&db, Mono(0), Reading::Up, "OK")]);
    scene.until(EdgeKind::Alert, "probe", refused);
    scene.world.pass_time(Duration::from_mins(20));
    let ended = scene.world.watch.open_edge(&db.key, scene.world.now).unwrap();
    chapter.show("A silence has ended, and what began within it still lasts", &read(vec![ended], scene.world.now));

    let mut scene = Scene::new();
    let (now, hours) = (scene.world.now, Duration::from_hours);
    let silence = |pattern: &str, reason: &str, left: u64| Silence {
        pattern: pattern.to_string(),
        since: now.wall.minus(hours(20)),
        until: now.wall.plus(hours(left)),
        reason: reason.to_string(),
    };
    let mut silences = Silences::default();
    silences.begins_day("2025-12-31");
    for silence in [silence("container/shop-*", "upgrade of the shop", 5), silence("probe/printer", "", 100)] {
        silences.add(silence, now.wall).unwrap();
    }
    let store = Store::open(None, now, "").unwrap().store;
    store.remember("silences", "in force", &serde_json::to_string(&silences).unwrap()).unwrap();
    let seen = Hush::restored(&store).digest(now, &scene.world.watch).unwrap();
    let report = Report { observations: vec![seen], ..Report::default() };
    let told = scene.world.pass(vec![answer(OWN, now.mono, Ok(report))]).edges;
    chapter.show("The first check of each day, while something is silenced", &read(told, now));

    let mut scene = Scene::new();
    let node = spec("node/n3", "node n3");
    scene.see("consul", vec![Observation::new(&node, Mono(0), Reading::Up, "its session holds its key")]);
    scene.until(EdgeKind::Alert, "consul", || {
        vec![down(&node, "its heartbeat is gone: its session in Consul has ended")]
    });
    scene.world.pass_time(hours(3));
    let forgotten = scene.world.watch.forget(&node.key, scene.world.now).unwrap();
    chapter.show("A signal was forgotten by a command", &read(forgotten.edges, scene.world.now));

    chapter.check();
}
