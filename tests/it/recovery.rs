//! The fleet as a whole in a small world: what is asked of a provider, what is said, what is kept.

mod bounds;
mod damaged;
mod ends;
mod evidence;
mod random;
pub mod world;

use std::sync::Arc;
use std::time::Duration;

use watchdog::core::recovery::gate::Blocked;
use watchdog::core::recovery::journal::{Event, Record};
use watchdog::core::recovery::kind;
use watchdog::core::recovery::plan::{Mode, Note, WhenStopped};
use watchdog::core::recovery::subject::{Fence, Reply, State as Power, Verb};
use watchdog::core::recovery::target::Phase;
use watchdog::core::signal::State;

use world::{HOUR, MINUTE, World, node, policy};

/// Something that happens to a world.
type Change = fn(&mut World);

const CYCLE: [Verb; 2] = [Verb::STOP, Verb::START];

fn blocked(world: &World, name: &str) -> Vec<Blocked> {
    let mut standings = world.fleet.standings(world.now);
    standings.find(|standing| kind::name(&standing.key) == name).unwrap().blocked
}

/// A world of three with n1 gone, one pass before its STOP is answered.
fn stopping() -> World {
    let mut world = World::of(3);
    world.heartbeat_dies("n1");
    world.until(MINUTE * 7, |world| world.asked.len() == 1);
    world
}

#[test]
fn the_whole_story_of_a_repair() {
    let mut world = World::of(3);
    world.heartbeat_dies("n1");
    world.until(MINUTE * 12, |world| world.said("repaired") > 0);
    assert_eq!(
        world.story(),
        "  node/n1: repairing: stop and start it, attempt 1 of 3; heartbeat gone for 5 min 10 s; machine RUNNING; probe/n1 firing []\n  \
         node/n1: repaired: back on a new boot, 45 s after the repair began [attempt 1 of 3]\n  \
         0 repair by stop_start decided\n  1 about to ask for STOP\n  2 STOP accepted\n  3 the machine is STOPPED\n  \
         4 about to ask for START\n  5 START accepted\n  6 the machine is RUNNING\n"
    );
    assert_eq!(world.verbs(), CYCLE);
    assert_eq!(world.forgotten.len(), 1, "the note for other agents goes");
    assert_eq!((world.kept_of("n1").phase, world.kept_of("n1").attempts), (Phase::Healthy, 1));
}

#[test]
fn observe_lives_the_same_life_and_asks_for_nothing() {
    let mut world = World::of(3);
    world.policy.mode = Mode::Observe;
    world.reload();
    world.heartbeat_dies("n1");
    world.time_passes(HOUR * 3);
    assert_eq!((world.asked.len(), world.kept_of("n1").phase), (0, Phase::Exhausted));
    assert_eq!(world.said("simulated: would stop and start it"), 3);
    let opened = |record: &&Record| matches!(record.event, Event::Opened { simulated: true, .. });
    assert_eq!(world.journal.iter().filter(opened).count(), 3);
    // Machines are really touched from here on: what was simulated counts for nothing.
    world.policy.mode = Mode::Active;
    world.reload();
    world.until(MINUTE * 7, |world| world.verbs() == CYCLE);
}

#[test]
fn unknown_never_starts_a_recovery() {
    for state in [State::Unknown, State::Ok, State::Pending] {
        let mut world = World::of(3);
        world.heartbeat_dies("n1");
        world.evidence("probe/n1", state);
        world.time_passes(HOUR);
        assert_eq!((world.asked.len(), blocked(&world, "n1")), (0, vec![Blocked::EvidenceDisagrees]), "{state:?}");
        assert_eq!(world.said("evidence-disagrees"), 1);
    }
}

#[test]
fn evidence_that_still_fires_and_whose_last_look_was_good_agrees_to_nothing() {
    let mut world = World::of(3);
    world.recovering.insert("probe/n1".to_string());
    world.heartbeat_dies("n1");
    world.time_passes(HOUR);
    assert_eq!((world.asked.len(), blocked(&world, "n1")), (0, vec![Blocked::EvidenceDisagrees]));
    world.recovering.clear();
    world.until(MINUTE * 12, |world| world.said("repaired") > 0);
}

#[test]
fn blind_time_never_counts_as_gone() {
    let mut world = World::of(3);
    world.heartbeat_dies("n1");
    for _ in 0..30 {
        world.time_passes(MINUTE);
        world.sees_consul = false;
        world.time_passes(MINUTE * 10);
        world.sees_consul = true;
        if world.fleet.standings(world.now).next().unwrap().phase == Phase::Recovering || !world.asked.is_empty() {
            break;
        }
    }
    let seen_gone = world.asked[0].3.since(world.edges[0].0);
    assert!(world.now.mono.since(world.kept_of("n1").repair_at.unwrap().mono) < MINUTE * 12, "{seen_gone:?}");
    let mut blind = World::of(3);
    blind.heartbeat_dies("n1");
    blind.time_passes(MINUTE * 4);
    blind.sees_consul = false;
    blind.time_passes(HOUR * 24);
    assert!(blind.asked.is_empty());
}

#[test]
fn a_node_never_seen_alive_is_never_touched_and_one_seen_is_known_after_a_restart() {
    let mut world = World::of(3);
    world.beats.remove("n3");
    let mut fresh = World::with(policy(), vec![node("n1"), node("n2"), node("n3")]);
    fresh.heartbeat_returns("n1", "b");
    fresh.evidence("probe/n3", State::Firing);
    fresh.time_passes(HOUR * 2);
    assert_eq!((fresh.asked.len(), blocked(&fresh, "n3").contains(&Blocked::NeverSeen)), (0, true));
    world.restart(true);
    world.evidence("probe/n3", State::Firing);
    world.until(MINUTE * 12, |world| world.verbs() == CYCLE);
}

#[test]
fn consul_that_forgets_everybody_costs_nobody_anything() {
    let mut world = World::of(1_000);
    world.beats.clear();
    for n in 1..=1_000 {
        world.evidence(&format!("probe/n{n}"), State::Firing);
    }
    world.time_passes(MINUTE * 20);
    assert!(world.asked.is_empty() && world.looks == 0);
    assert_eq!(blocked(&world, "n1"), [Blocked::TooManyMissing]);
    assert_eq!(world.said("too-many-missing"), 0, "not once for each");
    let facts = world.fleet.own_facts(world.now);
    let told: Vec<&str> = facts.iter().filter_map(|fact| fact.trouble.as_deref()).collect();
    let [once] = told.as_slice() else { panic!("{told:?}") };
    assert!(once.contains("too-many-missing (1000 of 1000 nodes are ill, at most 490 may be)"), "{once}");
}

#[test]
fn of_n_nodes_no_more_than_the_table_says_may_be_missing() {
    for (count, may) in (1_usize..=10).zip([1, 1, 1, 1, 2, 2, 3, 3, 4, 4]) {
        for ill in 1..=count {
            let mut world = World::of(count);
            (1..=ill).for_each(|n| world.heartbeat_dies(&format!("n{n}")));
            world.time_passes(MINUTE * 7);
            assert_eq!(!world.asked.is_empty(), ill <= may && (count == 1 || ill < count), "{ill} of {count}");
            assert!(ill <= may || world.confirms == 0, "{ill} of {count}: not even a look");
        }
    }
}

#[test]
fn repairs_keep_to_their_room_and_their_budget_across_restarts_and_reboots() {
    let mut world = World::of(10);
    (1..=3).for_each(|n| world.heartbeat_dies(&format!("n{n}")));
    (1..=10).for_each(|n| world.machine(&format!("n{n}")).heals = false);
    world.time_passes(MINUTE * 14);
    assert_eq!(world.verbs(), CYCLE, "one at a time, also while one is waited for");
    world.policy.machines.max_in_flight = 9;
    world.policy.machines.max_per_hour = 2;
    world.reload();
    world.until(MINUTE * 20, |world| world.asked.iter().filter(|asked| asked.1 == Verb::STOP).count() == 2);
    for reboot in [false, true] {
        world.restart(reboot);
        world.time_passes(MINUTE * 12);
        assert_eq!(world.asked.iter().filter(|asked| asked.1 == Verb::STOP).count(), 2, "reboot {reboot}");
    }
    let mut world = World::of(10);
    world.policy.machines.max_in_flight = 9;
    for node in &mut world.nodes {
        node.domain = Some("rack".into());
    }
    world.reload();
    (1..=2).for_each(|n| world.heartbeat_dies(&format!("n{n}")));
    world.until(MINUTE * 7, |world| !world.asked.is_empty());
    assert!(world.asked.len() == 1 && blocked(&world, "n2").is_empty() || blocked(&world, "n2") == [Blocked::InFlight]);
}

#[test]
fn attempts_come_back_through_an_hour_of_seen_health_only() {
    let mut world = World::of(3);
    world.heartbeat_dies("n1");
    world.until(MINUTE * 12, |world| world.said("repaired") > 0);
    for _ in 0..2 {
        world.time_passes(MINUTE * 25);
        world.restart(true);
        world.sees_consul = false;
        world.time_passes(HOUR * 5);
        world.sees_consul = true;
    }
    assert_eq!(world.kept_of("n1").attempts, 1);
    world.time_passes(MINUTE * 15);
    assert_eq!(world.kept_of("n1").attempts, 0);
}

#[test]
fn three_attempts_and_then_it_is_given_up_and_told() {
    let mut world = World::of(3);
    world.policy.machines.max_per_hour = 9;
    world.reload();
    world.machine("n1").heals = false;
    world.heartbeat_dies("n1");
    world.time_passes(HOUR * 6);
    assert_eq!((world.verbs().len(), world.kept_of("n1").phase), (6, Phase::Exhausted));
    assert_eq!((world.said("gave up"), world.life("n1")), (1, Power::Running));
    let told = world.fleet.own_facts(world.now);
    assert!(told.iter().any(|fact| fact.key == "recovery/n1" && fact.trouble.is_some()));
    world.heartbeat_returns("n1", "by-hand");
    world.time_passes(MINUTE);
    assert_eq!(world.kept_of("n1").phase, Phase::Healthy);
}

#[test]
fn an_open_repair_starts_the_machine_whatever_has_changed_meanwhile() {
    let changes: [(&str, Change); 6] = [
        ("paused", |world| world.policy.paused = true),
        ("observe", |world| world.policy.mode = Mode::Observe),
        ("lease lost", |world| world.holds_lease = false),
        ("disk fails", |world| world.is_durable = false),
        ("Consul gone", |world| world.sees_consul = false),
        ("removed", |world| drop(world.nodes.remove(0))),
    ];
    for (name, change) in changes {
        for restarts in [false, true] {
            let mut world = stopping();
            change(&mut world);
            world.reload();
            if restarts && name != "removed" {
                world.restart(false);
            }
            world.until(MINUTE * 2, |world| world.life("n1") == Power::Running && world.verbs().len() == 2);
            assert_eq!(world.verbs(), CYCLE, "{name}");
        }
    }
}

#[test]
fn a_node_removed_in_mid_repair_is_started_and_then_left_alone() {
    let mut world = stopping();
    world.machine("n1").heals = false;
    world.nodes.remove(0);
    world.reload();
    world.time_passes(HOUR * 3);
    assert_eq!(world.verbs(), CYCLE);
    assert_eq!(world.fleet.standings(world.now).count(), 2);
}

#[test]
fn a_node_removed_before_a_restart_is_told_until_it_is_put_back() {
    let mut world = stopping();
    let gone = world.nodes.remove(0);
    world.restart(false);
    world.time_passes(MINUTE * 5);
    assert_eq!(world.life("n1"), Power::Stopped);
    let told = world.fleet.own_facts(world.now);
    assert!(told.iter().any(|fact| fact.trouble.as_ref().is_some_and(|trouble| trouble.contains("put it back"))));
    world.nodes.push(gone);
    world.reload();
    world.until(MINUTE * 2, |world| world.life("n1") == Power::Running);
}

#[test]
fn paused_or_without_a_state_file_nothing_begins() {
    let changes: [(Blocked, Change); 3] = [
        (Blocked::Paused, |world| world.policy.paused = true),
        (Blocked::NoStateFile, |world| world.is_durable = false),
        (Blocked::NotLeader, |world| world.holds_lease = false),
    ];
    for (reason, change) in changes {
        let mut world = World::of(3);
        change(&mut world);
        world.reload();
        world.heartbeat_dies("n1");
        world.time_passes(MINUTE * 30);
        assert_eq!((world.asked.len(), blocked(&world, "n1")), (0, vec![reason]));
    }
}

#[test]
fn a_lost_state_file_leaves_the_owed_start_to_the_note() {
    let mut world = stopping();
    let (_, verb, fence, _) = world.asked[0].clone();
    let saga = world.journal[0].saga.clone();
    world.state_file_lost();
    world.restart(false);
    world.notes.push(Note { target: "node/n1".into(), saga, agent: "a0".into(), verb, fence, procedure: None });
    world.until(MINUTE * 2, |world| world.life("n1") == Power::Running);
    assert_eq!(world.verbs(), CYCLE);
    assert_eq!(world.said("takes over the repair that agent a0 began"), 1);
    // The note is still to be seen: it is asked to go now and then, and not taken over again.
    let before = world.forgotten.len();
    world.time_passes(MINUTE * 10);
    assert!((5..=11).contains(&(world.forgotten.len() - before)), "{}", world.forgotten.len());
    assert_eq!(world.verbs(), CYCLE);
}

#[test]
fn a_note_about_a_node_never_seen_does_not_wait_for_ever() {
    let mut world = World::with(policy(), vec![node("n1"), node("n2"), node("n3")]);
    world.machine("n1").heals = false;
    world.machine("n1").life = Power::Stopped;
    let fence = Fence::new("v0", "t");
    world.notes.push(Note {
        target: "node/n1".into(),
        saga: "s".into(),
        agent: "a0".into(),
        verb: Verb::STOP,
        fence,
        procedure: None,
    });
    world.until(MINUTE, |world| world.life("n1") == Power::Running);
    world.notes.clear();
    world.time_passes(MINUTE * 11);
    assert_eq!(world.kept_of("n1").phase, Phase::Suspect);
}

#[test]
fn an_unknown_outcome_is_looked_at_and_the_same_request_sent_again() {
    let mut world = World::of(3);
    world.replies.extend([(Reply::Unknown, false), (Reply::Unknown, false), (Reply::Unknown, true)]);
    world.heartbeat_dies("n1");
    world.until(MINUTE * 12, |world| world.said("repaired") > 0);
    assert_eq!(world.verbs(), [Verb::STOP, Verb::STOP, Verb::STOP, Verb::START]);
    assert!(world.asked[..3].iter().all(|asked| asked.2 == world.asked[0].2), "sent again it counts once");
}

#[test]
fn an_unknown_outcome_is_given_up_after_a_quarter_of_an_hour_and_a_machine_found_off_then_is_ours() {
    let mut world = World::of(3);
    world.replies.extend([(Reply::Unknown, false); 3]);
    world.heartbeat_dies("n1");
    world.until(MINUTE * 7, |world| world.verbs().len() == 3);
    let lasted = world.until(MINUTE * 17, |world| world.said("never became clear") > 0);
    assert!(lasted >= MINUTE * 14, "{lasted:?}");
    world.machine("n1").becomes(Power::Stopped);
    world.until(MINUTE * 12, |world| world.life("n1") == Power::Running);
    assert_eq!(world.verbs()[3..], [Verb::START]);
}

#[test]
fn a_machine_that_somebody_else_switched_off_is_told_or_started_as_configured() {
    for (when_stopped, verbs) in [(WhenStopped::Tell, vec![]), (WhenStopped::Start, vec![Verb::START])] {
        let mut world = World::of(3);
        world.nodes[0].when_stopped = when_stopped;
        world.reload();
        world.machine("n1").becomes(Power::Stopped);
        world.heartbeat_dies("n1");
        world.time_passes(MINUTE * 20);
        assert_eq!(world.verbs(), verbs);
        assert_eq!(world.said("not touched: not-running"), usize::from(verbs.is_empty()));
    }
}

#[test]
fn a_stop_refused_because_somebody_else_was_faster_starts_nothing() {
    for reply in [Reply::Changed, Reply::Conflict, Reply::Busy, Reply::NotSent, Reply::Refused] {
        let mut world = World::of(3);
        world.replies.push_back((reply, false));
        world.heartbeat_dies("n1");
        world.until(MINUTE * 7, |world| world.asked.len() == 1);
        world.machine("n1").becomes(Power::Stopped);
        world.time_passes(HOUR);
        assert_eq!(world.verbs(), [Verb::STOP], "{reply:?}\n{}", world.story());
    }
}

#[test]
fn a_start_without_room_is_asked_again_for_a_day_at_a_bounded_pace_and_told() {
    let mut world = World::of(3);
    world.no_capacity = true;
    world.heartbeat_dies("n1");
    world.time_passes(HOUR * 24);
    let starts: Vec<_> = world.asked.iter().filter(|asked| asked.1 == Verb::START).map(|asked| asked.3).collect();
    let longest = starts.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
    assert!(
        longest <= Duration::from_secs(130) && (600..2_000).contains(&starts.len()),
        "{longest:?} {}",
        starts.len()
    );
    let told = world.fleet.own_facts(world.now);
    assert!(told.iter().any(|fact| fact.trouble.as_ref().is_some_and(|trouble| trouble.contains("NoCapacity"))));
    world.no_capacity = false;
    world.until(MINUTE * 5, |world| world.life("n1") == Power::Running);
}

#[test]
fn an_api_that_is_down_for_a_day_has_the_machine_running_within_five_minutes_of_its_return() {
    for restarts in [false, true] {
        let mut world = stopping();
        world.api_up = false;
        world.time_passes(HOUR * 12);
        if restarts {
            world.restart(true);
        }
        world.time_passes(HOUR * 12);
        assert_eq!(world.life("n1"), Power::Stopped);
        world.api_up = true;
        world.until(MINUTE * 5, |world| world.life("n1") == Power::Running);
        assert_eq!(world.verbs().last(), Some(&Verb::START));
    }
}

#[test]
fn an_owed_start_is_asked_however_seldom_the_passes_come() {
    for seconds in [1, 7, 10, 15, 61] {
        let mut world = stopping();
        world.restart(false);
        for _ in 0..40 {
            world.clock_goes_on(Duration::from_millis(seconds * 1_000 + 137));
            world.pass();
        }
        assert_eq!(world.verbs(), CYCLE, "a pass each {seconds} s");
    }
}

#[test]
fn back_on_the_same_boot_is_no_success_of_ours() {
    let mut world = stopping();
    world.machine("n1").heals = false;
    world.until(MINUTE * 2, |world| world.life("n1") == Power::Running && world.verbs().len() == 2);
    world.time_passes(MINUTE);
    world.heartbeat_returns("n1", "boot-0");
    world.time_passes(MINUTE);
    assert_eq!((world.said("repaired"), world.said("without a reboot by the repair")), (0, 1));
}

#[test]
fn a_node_back_for_a_moment_while_it_is_looked_at_begins_its_time_anew() {
    let mut world = World::of(3);
    world.heartbeat_dies("n1");
    world.probes = false;
    world.time_passes(MINUTE * 5 + Duration::from_secs(10));
    world.probes = true;
    world.heartbeat_returns("n1", "boot-0");
    world.time_passes(Duration::from_secs(5));
    world.heartbeat_dies("n1");
    world.time_passes(MINUTE * 4);
    assert!(world.asked.is_empty());
}

#[test]
fn steps_of_the_wall_clock_change_nothing() {
    let years = 10 * 365 * 86_400_000_i64;
    let told: Vec<Vec<_>> = [0, years, -years, 1_000, -1_000]
        .into_iter()
        .map(|step| {
            let mut world = World::of(3);
            world.heartbeat_dies("n1");
            for _ in 0..20 {
                world.now.wall.0 += step / 20;
                world.time_passes(MINUTE);
            }
            world.asked.iter().map(|asked| (asked.1, asked.3)).collect()
        })
        .collect();
    assert!(told.iter().all(|one| *one == told[0] && one.len() == 2), "{told:?}");
}

#[test]
fn a_node_that_stops_as_planned_is_left_alone() {
    let mut world = World::of(3);
    let beat = world.beats.get_mut(&Arc::<str>::from("n1")).unwrap();
    (beat.life, beat.session) = (watchdog::core::recovery::heartbeat::Life::Planned, None);
    world.evidence("probe/n1", State::Firing);
    world.time_passes(HOUR);
    assert!(world.asked.is_empty());
    let told: Vec<&str> = world.edges.iter().map(|(_, told)| told.as_str()).collect();
    assert!(matches!(told.as_slice(), [once] if once.contains("stops as planned")), "{told:?}");
}
