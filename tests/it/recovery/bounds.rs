//! The bounds of a repair: of one machine in a day, of looks at once, and that one pool is not another's.

use std::time::Duration;

use watchdog::core::recovery::gate::Blocked;
use watchdog::core::recovery::kind::{Kind, Share};
use watchdog::core::recovery::plan::{Mode, Node, Task};
use watchdog::core::recovery::subject::Verb;

use super::blocked;
use super::world::{HOUR, MINUTE, TICK, World, node, policy};

/// Something that runs on a machine, for these tests with a heartbeat of its own.
static WORKLOAD: Kind =
    Kind { word: "workload", thing: "workload", shows: "heartbeat gone", share: Share::Workloads, is_machine: false };

fn stops(world: &World) -> usize {
    world.asked.iter().filter(|asked| asked.1 == Verb::STOP).count()
}

/// A world whose n1 no repair helps, and which may be repaired often but for its own limit of two a day.
fn hopeless() -> World {
    let mut world = World::of(3);
    (world.policy.max_attempts, world.policy.machines.max_per_hour) = (9, 9);
    world.policy.machines.max_per_target = 2;
    world.reload();
    world.machine("n1").heals = false;
    world.heartbeat_dies("n1");
    world
}

#[test]
fn a_machine_that_two_repairs_did_not_help_is_left_for_a_day_and_that_is_told() {
    let mut world = hopeless();
    world.time_passes(HOUR * 6);
    assert_eq!((stops(&world), blocked(&world, "n1")), (2, vec![Blocked::BudgetSpent]), "{}", world.story());
    assert!(world.said("2 of 2 repairs of it within a day") > 0, "{}", world.story());
    // Neither a restart nor a reboot gives it another one.
    for reboot in [false, true] {
        world.restart(reboot);
        world.time_passes(HOUR * 8);
        assert_eq!(stops(&world), 2, "{reboot}");
    }
    // Another machine is another machine.
    world.machine("n1").heals = true;
    world.heartbeat_returns("n1", "by-hand");
    world.time_passes(MINUTE);
    world.heartbeat_dies("n2");
    world.until(MINUTE * 12, |world| stops(world) == 3);
}

#[test]
fn without_a_limit_of_attempts_it_is_never_given_up_and_the_limit_of_a_day_holds() {
    let mut world = hopeless();
    world.policy.max_attempts = 0;
    world.reload();
    world.time_passes(HOUR * 80);
    assert!((6..=8).contains(&stops(&world)), "{}", stops(&world));
    assert!(world.said("gave up") == 0 && world.said("attempt 4;") == 1, "{}", world.story());
}

#[test]
fn a_day_later_it_is_tried_again() {
    let mut world = hopeless();
    world.time_passes(HOUR * 23);
    assert_eq!(stops(&world), 2);
    world.time_passes(HOUR * 3);
    assert!(stops(&world) > 2, "{}", world.story());
}

#[test]
fn what_is_simulated_keeps_to_two_a_day_and_counts_for_nothing_once_machines_are_really_touched() {
    let mut world = hopeless();
    world.policy.mode = Mode::Observe;
    world.reload();
    world.time_passes(HOUR * 6);
    assert_eq!((world.said("would stop and start it"), blocked(&world, "n1")), (2, vec![Blocked::BudgetSpent]));
    world.policy.mode = Mode::Active;
    world.reload();
    world.time_passes(HOUR * 6);
    assert_eq!(stops(&world), 2);
}

#[test]
fn of_many_that_are_lost_at_once_sixteen_are_looked_at_at_once() {
    let mut world = World::of(1_000);
    for name in (1..=100).map(|n| format!("n{n}")) {
        world.machine(&name).heals = false;
        world.heartbeat_dies(&name);
    }
    let mut most = 0;
    for _ in 0..100 {
        world.clock_goes_on(TICK);
        let plan = world.pass();
        most = most.max(plan.orders.iter().filter(|order| order.task == Task::Confirm).count());
    }
    assert_eq!((most, stops(&world)), (16, 1), "one repair at a time");
    // All of them have their turn, as far as there is room.
    world.policy.machines.max_in_flight = 100;
    (world.policy.machines.max_per_hour, world.policy.machines.max_per_day) = (100, 100);
    world.reload();
    world.until(MINUTE * 10, |world| stops(world) >= 90);
}

/// Three machines and thirty workloads, all well.
fn mixed() -> World {
    let workload = |n: usize| {
        let name = format!("w{n}");
        Node { kind: &WORKLOAD, key: WORKLOAD.key(&name), ..node(&name) }
    };
    let nodes = (1..=3).map(|n| node(&format!("n{n}"))).chain((1..=30).map(workload)).collect();
    let mut world = World::with(policy(), nodes);
    for name in world.nodes.iter().map(|node| node.name.to_string()).collect::<Vec<_>>() {
        world.heartbeat_returns(&name, "boot-0");
    }
    world.time_passes(MINUTE * 10);
    world
}

#[test]
fn a_storm_among_workloads_keeps_no_machine_from_being_repaired_nor_the_reverse() {
    let mut world = mixed();
    (1..=30).for_each(|n| world.heartbeat_dies(&format!("w{n}")));
    world.heartbeat_dies("n1");
    world.until(MINUTE * 12, |world| world.said("node/n1: repaired") > 0);
    assert!(world.asked.iter().all(|asked| &*asked.0 == "node/n1"), "{:?}", world.asked);
    assert_eq!(blocked(&world, "w1"), [Blocked::TooManyMissing]);

    let mut world = mixed();
    (1..=3).for_each(|n| world.heartbeat_dies(&format!("n{n}")));
    world.heartbeat_dies("w1");
    world.until(MINUTE * 12, |world| world.said("w1: repaired") > 0);
    assert_eq!(blocked(&world, "n1"), [Blocked::TooManyMissing]);
}

#[test]
fn a_workload_needs_no_other_to_be_seen_and_its_budget_is_its_own() {
    let mut world = mixed();
    world.policy.machines.max_per_day = 1;
    world.reload();
    world.heartbeat_dies("n1");
    world.until(MINUTE * 12, |world| world.said("node/n1: repaired") > 0);
    world.heartbeat_dies("w1");
    world.until(MINUTE * 12, |world| world.said("w1: repaired") > 0);
    world.heartbeat_dies("n2");
    world.time_passes(MINUTE * 12 + Duration::from_secs(5));
    assert_eq!(blocked(&world, "n2"), [Blocked::BudgetSpent]);
}
