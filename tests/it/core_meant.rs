//! What somebody meant, beside what happens by itself: told once, with a severity of its own, never as flapping; and
//! never a reason to be silent about the other.

use std::sync::Arc;
use std::time::Duration;

use watchdog::core::edge::EdgeKind::{self, Alert, Realert, Recovery};
use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::Reading::{self, Down, Unknown, Up};
use watchdog::core::signal::Severity::{self, Critical, Info};
use watchdog::core::signal::Spec;

use crate::world::{World, full, policy, saw, spec};

/// A world that has seen it well, and its two specs: by itself, and meant.
fn story() -> (World, Arc<Spec>, Arc<Spec>) {
    let usual = spec("container/web", Rule::at_once(Test::Verdict));
    let usual = Arc::new(Spec { severity: Critical, ..Spec::clone(&usual) });
    let planned = Arc::new(Spec { severity: Info, meant: true, ..Spec::clone(&usual) });
    let mut world = World::new(policy());
    for _ in 0..3 {
        assert_eq!(see(&mut world, &usual, Up), []);
    }
    (world, usual, planned)
}

fn see(world: &mut World, spec: &Arc<Spec>, reading: Reading) -> Vec<(EdgeKind, Severity)> {
    world.pass_time(Duration::from_secs(15));
    let at = world.now.mono;
    let out = world.pass(vec![full("docker", at, vec![saw(spec, at, reading)])]);
    out.edges.iter().map(|edge| (edge.kind, edge.severity)).collect()
}

#[test]
fn what_is_meant_is_told_once_and_ends_quietly() {
    let (mut world, usual, planned) = story();
    assert_eq!(see(&mut world, &usual, Unknown), []);
    assert_eq!(see(&mut world, &planned, Down), [(Alert, Info)]);
    for _ in 0..1_000 {
        assert_eq!(see(&mut world, &planned, Down), [], "no reminder in four hours");
    }
    world.restart(false);
    for _ in 0..1_000 {
        assert_eq!(see(&mut world, &planned, Down), [], "nor after a restart");
    }
    assert_eq!(see(&mut world, &usual, Up), [(Recovery, Info)]);
    assert!(world.pairing.is_quiet());
}

#[test]
fn a_failure_after_it_is_critical_whether_or_not_it_was_seen_well_between() {
    let (mut world, usual, planned) = story();
    see(&mut world, &planned, Down);
    see(&mut world, &usual, Up);
    assert_eq!(see(&mut world, &usual, Down), [(Alert, Critical)]);
    let (mut world, usual, planned) = story();
    assert_eq!(see(&mut world, &planned, Down), [(Alert, Info)]);
    assert_eq!(see(&mut world, &usual, Down), [(Realert, Critical)]);
    let reminders = (0..300).filter(|_| !see(&mut world, &usual, Down).is_empty()).count();
    assert_eq!(reminders, 1, "and it is repeated like any other");
    assert_eq!(see(&mut world, &usual, Up), [(Recovery, Critical)]);
}

#[test]
fn whoever_was_woken_is_told_once_that_somebody_is_at_it_and_again_when_it_fails_again() {
    let (mut world, usual, planned) = story();
    assert_eq!(see(&mut world, &usual, Down), [(Alert, Critical)]);
    assert_eq!(see(&mut world, &planned, Down), [(Realert, Info)], "never silently milder");
    for _ in 0..1_000 {
        assert_eq!(see(&mut world, &planned, Down), []);
    }
    world.restart(true);
    for _ in 0..10 {
        assert_eq!(see(&mut world, &planned, Down), []);
    }
    assert_eq!(see(&mut world, &usual, Down), [(Realert, Critical)]);
    assert_eq!(see(&mut world, &planned, Down), [(Realert, Info)]);
    assert_eq!(see(&mut world, &usual, Up), [(Recovery, Critical)], "the end is as loud as the worst of it");
}

#[test]
fn stopping_and_starting_all_day_is_no_flapping() {
    let (mut world, usual, planned) = story();
    for _ in 0..50 {
        assert_eq!(see(&mut world, &planned, Down), [(Alert, Info)]);
        assert_eq!(see(&mut world, &usual, Up), [(Recovery, Info)]);
    }
    let mut by_itself = Vec::new();
    for _ in 0..10 {
        by_itself.extend(see(&mut world, &usual, Down));
        by_itself.extend(see(&mut world, &usual, Up));
    }
    assert!(by_itself.contains(&(Realert, Critical)), "what goes down and up by itself flaps: {by_itself:?}");
}
