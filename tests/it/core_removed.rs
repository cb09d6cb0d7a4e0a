//! What the core makes of subjects that are gone, of instants that a source knows better, and of what a source
//! wants back when it is built again.

use std::sync::Arc;
use std::time::Duration;

use watchdog::core::edge::EdgeKind;
use watchdog::core::message::{Piece, Place, compose, stories};
use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::{KEEP_LIMIT, More, Reading, Removal, Report, Severity, SignalKey, Spec, State};
use watchdog::core::time::Wall;
use watchdog::core::watch::Outcome;
use watchdog::core::zone::Zone;

use crate::world::{World, answer, policy, saw, spec};

const TICK: Duration = Duration::from_secs(15);

fn said(out: &Outcome) -> Vec<(&str, EdgeKind, Severity)> {
    out.edges.iter().map(|edge| (edge.key.as_str(), edge.kind, edge.severity)).collect()
}

fn text(out: &Outcome, now: Wall) -> String {
    let message = compose(&stories(out.edges.clone()), &Place { instance: "web-1", zone: &Zone::default(), now });
    let line = |line: &Vec<Piece>| line.iter().map(|piece| piece.text.as_str()).collect::<String>();
    message.lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A world that has seen each of these, and `down` of them bad.
fn seen(specs: &[Arc<Spec>], down: usize) -> World {
    let mut world = World::new(policy());
    for pass in 0..3 {
        world.pass_time(TICK);
        let at = world.now.mono;
        let reading = |n: usize| if pass > 0 && n < down { Reading::Down } else { Reading::Up };
        let observations = specs.iter().enumerate().map(|(n, spec)| saw(spec, at, reading(n))).collect();
        let report = Report { observations, complete: true, ..Report::default() };
        world.pass(vec![answer("docker", at, Ok(report))]);
    }
    world
}

fn remove(world: &mut World, specs: &[Arc<Spec>]) -> Outcome {
    world.pass_time(TICK);
    let removal = Removal {
        key: SignalKey::new("project/shop"),
        title: Arc::from("containers of project shop"),
        signals: specs.iter().map(|spec| spec.key.clone()).collect(),
    };
    let report = Report { removals: vec![removal], ..Report::default() };
    let at = world.now.mono;
    world.pass(vec![answer("docker", at, Ok(report))])
}

fn containers(count: usize) -> Vec<Arc<Spec>> {
    (0..count).map(|n| spec(&format!("container/shop-{n:03}"), Rule::at_once(Test::Verdict))).collect()
}

#[test]
fn what_was_removed_is_closed_without_green_and_what_was_well_is_told_in_one_line() {
    let specs = containers(4);
    let mut world = seen(&specs, 1);
    let open = world.watch.tracked().find_map(|tracked| tracked.incident().cloned()).unwrap();
    let out = remove(&mut world, &specs);
    let expected = [
        ("container/shop-000", EdgeKind::Removed, Severity::Warning),
        ("project/shop", EdgeKind::Removed, Severity::Info),
    ];
    assert_eq!(said(&out), expected);
    assert_eq!(out.edges[0].incident, open);
    assert_eq!(out.edges[1].fact, "removed, no longer watched: shop-001, shop-002, shop-003");
    assert!(world.watch.standings().all(|standing| !standing.key.as_str().starts_with("container/")));
    assert!(world.pairing.is_quiet());
    let text = text(&out, world.now.wall);
    assert!(!text.contains('🟢') && !text.contains('🔴'), "{text}");
    assert_eq!(text.matches('⚪').count(), 3, "a headline and two subjects: {text}");
    assert_eq!(remove(&mut world, &specs).edges, [], "told once");
}

#[test]
fn one_that_was_well_is_told_under_its_own_name() {
    let specs = containers(1);
    let mut world = seen(&specs, 0);
    let out = remove(&mut world, &specs);
    assert_eq!(said(&out), [("container/shop-000", EdgeKind::Removed, Severity::Info)]);
    assert_eq!(out.edges[0].fact, "removed, no longer watched");
}

#[test]
fn of_four_hundred_removed_at_once_the_number_that_has_no_room_is_told() {
    let specs = containers(400);
    let mut world = seen(&specs, 0);
    let out = remove(&mut world, &specs);
    assert_eq!(out.removed.len(), 400);
    assert_eq!(out.edges.len(), 1);
    let fact = &out.edges[0].fact;
    let (named, more) = fact.rsplit_once(" and ").unwrap();
    let more: usize = more.strip_suffix(" more").unwrap().parse().unwrap();
    assert_eq!(named.matches("shop-").count() + more, 400, "{fact}");
    assert!(text(&out, world.now.wall).contains(fact.as_str()), "not cut anywhere: {fact}");
}

#[test]
fn a_blind_signal_that_is_removed_is_not_told_as_seen_again() {
    let specs = containers(1);
    let mut world = seen(&specs, 0);
    let mut told = Vec::new();
    for _ in 0..45 {
        world.pass_time(TICK);
        let at = world.now.mono;
        let report =
            Report { observations: vec![saw(&specs[0], at, Reading::Unknown)], complete: true, ..Report::default() };
        told.extend(world.pass(vec![answer("docker", at, Ok(report))]).edges);
    }
    assert_eq!(told.iter().map(|edge| edge.kind).collect::<Vec<_>>(), [EdgeKind::Unknown]);
    let out = remove(&mut world, &specs);
    assert_eq!(said(&out), [("container/shop-000", EdgeKind::Removed, Severity::Warning)]);
    assert!(world.pairing.is_quiet());
}

fn happened(world: &mut World, spec: &Arc<Spec>, reading: Reading, at: Option<Wall>) -> Outcome {
    world.pass_time(TICK);
    let now = world.now.mono;
    let seen = saw(spec, now, reading).knowing(More { happened_at: at, ..More::default() });
    let report = Report { observations: vec![seen], complete: true, ..Report::default() };
    world.pass(vec![answer("docker", now, Ok(report))])
}

#[test]
fn since_is_when_it_happened_and_when_it_was_noticed_is_said_where_they_differ() {
    let (mut world, spec) = (World::new(policy()), spec("container/web", Rule::at_once(Test::Verdict)));
    let stopped = world.now.wall.minus(Duration::from_mins(30));
    assert_eq!(happened(&mut world, &spec, Reading::Down, Some(stopped)).edges, [], "the first look only warms up");
    let noticed = world.now.wall;
    let out = happened(&mut world, &spec, Reading::Down, Some(stopped));
    let alert = &out.edges[0];
    assert_eq!((alert.since, alert.noticed), (stopped, Some(noticed)));
    assert_eq!(alert.lasted, alert.at.since(alert.since), "since and for how long agree");
    let text = text(&out, world.now.wall);
    assert!(text.contains("for 30 min 30 s") && text.contains("noticed "), "{text}");
    assert_eq!(world.watch.standings().find(|s| s.state == State::Firing).unwrap().since, stopped);
    // The same across a restart, and to the end.
    world.restart(false);
    let out = happened(&mut world, &spec, Reading::Up, None);
    assert_eq!((out.edges[0].kind, out.edges[0].since), (EdgeKind::Recovery, stopped));
    assert_eq!(out.edges[0].lasted, out.edges[0].at.since(stopped));
}

#[test]
fn an_instant_ahead_of_our_clock_is_not_believed() {
    let (mut world, spec) = (World::new(policy()), spec("container/web", Rule::at_once(Test::Verdict)));
    happened(&mut world, &spec, Reading::Up, None);
    let ahead = world.now.wall.plus(Duration::from_hours(1));
    let out = happened(&mut world, &spec, Reading::Down, Some(ahead));
    assert_eq!((out.edges[0].since, out.edges[0].noticed, out.edges[0].lasted), (world.now.wall, None, Duration::ZERO));
}

fn keeping(world: &mut World, spec: &Arc<Spec>, keep: Option<&str>) -> Outcome {
    world.pass_time(TICK);
    let at = world.now.mono;
    let seen = saw(spec, at, Reading::Up).knowing(More { keep: keep.map(str::to_string), ..More::default() });
    let report = Report { observations: vec![seen], complete: true, ..Report::default() };
    world.pass(vec![answer("docker", at, Ok(report))])
}

#[test]
fn what_a_source_wants_back_is_kept_with_its_signal_and_written_only_when_it_changes() {
    let (mut world, spec) = (World::new(policy()), spec("container/web", Rule::at_once(Test::Verdict)));
    let kept = |world: &World| world.watch.kept_for_sources().get(&spec.key).map(ToString::to_string);
    keeping(&mut world, &spec, Some("[1]"));
    keeping(&mut world, &spec, None);
    assert_eq!(kept(&world).as_deref(), Some("[1]"));
    assert!(!keeping(&mut world, &spec, Some("[1]")).changed.contains(&spec.key), "nothing to write");
    assert!(keeping(&mut world, &spec, Some("[2]")).changed.contains(&spec.key));
    keeping(&mut world, &spec, Some(&"x".repeat(KEEP_LIMIT + 1)));
    for reboot in [false, true] {
        world.restart(reboot);
        assert_eq!(kept(&world).as_deref(), Some("[2]"), "too long is not kept");
    }
    let full = "x".repeat(KEEP_LIMIT);
    keeping(&mut world, &spec, Some(&full));
    assert_eq!(kept(&world).as_deref(), Some(full.as_str()));
    remove(&mut world, &[Arc::clone(&spec)]);
    assert_eq!(kept(&world), None);
}
