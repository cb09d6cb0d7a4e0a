//! Any history: the promises that hold whatever happens (A8, B5, C1), by chance.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use watchdog::core::recovery::plan::Mode;
use watchdog::core::recovery::subject::{Reply, State as Power, Verb};
use watchdog::core::signal::State;
use watchdog::core::time::{Mono, Now, Wall};

use super::world::{MINUTE, World};

#[derive(Debug, Clone)]
enum Step {
    Dies(u8),
    Returns(u8),
    Evidence(u8, u8),
    Consul(bool),
    Api(bool),
    Lease(bool),
    Durable(bool),
    Paused(bool),
    Observe(bool),
    Replies(u8, bool),
    Restart(bool),
    OperatorStops(u8),
    Time(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..5_u8).prop_map(Step::Dies),
        1 => (1..5_u8).prop_map(Step::Returns),
        1 => (1..5_u8, 0..3_u8).prop_map(|(node, state)| Step::Evidence(node, state)),
        1 => any::<bool>().prop_map(Step::Consul),
        1 => any::<bool>().prop_map(Step::Api),
        1 => prop::bool::weighted(0.7).prop_map(Step::Lease),
        1 => prop::bool::weighted(0.7).prop_map(Step::Durable),
        1 => prop::bool::weighted(0.2).prop_map(Step::Paused),
        1 => prop::bool::weighted(0.2).prop_map(Step::Observe),
        2 => (0..8_u8, any::<bool>()).prop_map(|(reply, counts)| Step::Replies(reply, counts)),
        1 => any::<bool>().prop_map(Step::Restart),
        1 => (1..5_u8).prop_map(Step::OperatorStops),
        8 => (1..12_u8).prop_map(Step::Time),
    ]
}

fn take(world: &mut World, step: &Step) {
    let name = |n: u8| format!("n{n}");
    match *step {
        Step::Dies(n) => world.heartbeat_dies(&name(n)),
        Step::Returns(n) => world.heartbeat_returns(&name(n), "again"),
        Step::Evidence(n, state) => {
            let state = [State::Ok, State::Firing, State::Unknown][usize::from(state)];
            world.evidence(&format!("probe/n{n}"), state);
        }
        Step::Consul(up) => world.sees_consul = up,
        Step::Api(up) => world.api_up = up,
        Step::Lease(held) => world.holds_lease = held,
        Step::Durable(works) => world.is_durable = works,
        Step::Paused(paused) => {
            world.policy.paused = paused;
            world.reload();
        }
        Step::Observe(observe) => {
            world.policy.mode = if observe { Mode::Observe } else { Mode::Active };
            world.reload();
        }
        Step::Replies(reply, counts) => {
            let reply = Reply::ALL[usize::from(reply)];
            world.replies.push_back((reply, reply == Reply::Accepted || (reply == Reply::Unknown && counts)));
        }
        Step::Restart(reboot) => world.restart(reboot),
        Step::OperatorStops(n) => world.machine(&name(n)).becomes(Power::Stopped),
        Step::Time(minutes) => {
            for _ in 0..u32::from(minutes) * 12 {
                pass(world);
            }
        }
    }
}

fn pass(world: &mut World) {
    world.clock_goes_on(Duration::from_secs(5));
    let before = world.asked.len();
    let observes = world.policy.mode == Mode::Observe;
    let barred = world.policy.paused || observes || !world.holds_lease || !world.is_durable || !world.sees_consul;
    world.pass();
    for (_, verb, _, _) in &world.asked[before..] {
        assert!(*verb == Verb::START || !barred, "nothing goes down while something bars it\n{}", world.story());
    }
    let under_way = world.fleet.standings(world.now);
    let under_way = under_way.filter(|standing| standing.reason.contains("asked for")).count();
    assert!(under_way <= world.policy.machines.max_in_flight as usize || observes, "{under_way} at once");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_nothing_goes_down_that_may_not_and_the_same_history_gives_the_same_deeds(
        steps in prop::collection::vec(step(), 1..50)
    ) {
        let [one, other] = [0, 1].map(|_| {
            let mut world = World::of(4);
            steps.iter().for_each(|step| take(&mut world, step));
            world
        });
        prop_assert_eq!(one.story(), other.story());
        prop_assert_eq!(&one.asked, &other.asked);
        prop_assert_eq!(&one.kept, &other.kept);
        // A machine that an open repair of ours left off runs once everything answers again.
        let mut world = one;
        (world.api_up, world.sees_consul, world.no_capacity) = (true, true, false);
        world.replies.clear();
        let open: Vec<String> = watchdog::core::recovery::journal::fold(&world.journal)
            .into_iter()
            .filter(|told| !told.simulated && told.saga.owes_start())
            .map(|told| told.target)
            .collect();
        for _ in 0..120 {
            pass(&mut world);
        }
        for name in open {
            prop_assert_eq!(world.life(watchdog::core::recovery::kind::name(&name)), Power::Running, "{}\n{}", name, world.story());
        }
    }

    #[test]
    fn no_clock_makes_it_panic(clocks in prop::collection::vec((any::<i64>(), any::<i64>()), 1..30)) {
        let mut world = World::of(2);
        world.heartbeat_dies("n1");
        let edges = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        let all = clocks.into_iter().chain(edges.into_iter().flat_map(|a| edges.map(|b| (a, b))));
        for (at, (wall, mono)) in all.enumerate() {
            world.now = Now { wall: Wall(wall), mono: Mono(mono), awake: Mono(mono) };
            world.pass();
            let _ = (world.fleet.standings(world.now).count(), world.fleet.own_facts(world.now));
            if at % 7 == 0 {
                world.restart(at % 2 == 0);
                world.time_passes(MINUTE);
            }
        }
    }
}
