//! What must come to an end, and what must not get lost on the way: a wait, a request that never left, a repair that
//! was only simulated, a note about somebody unknown, the row of a node that is no more.

use std::sync::Arc;
use std::time::Duration;

use watchdog::core::recovery::gate::Blocked;
use watchdog::core::recovery::heartbeat::{Beat, Life};
use watchdog::core::recovery::journal::{Event, Record, fold};
use watchdog::core::recovery::legacy::STOP_START;
use watchdog::core::recovery::plan::{Mode, Note, Place};
use watchdog::core::recovery::subject::{Fence, Reply, State as Power, Verb};
use watchdog::core::recovery::target::Phase;
use watchdog::core::signal::State;

use super::world::{HOUR, MINUTE, Machine, World, node};
use super::{CYCLE, blocked};

/// Its key is there, and no session holds it.
fn unheld() -> Beat {
    Beat { life: Life::Unheld, session: None, boot: None, planned: None }
}

#[test]
fn a_node_whose_key_nobody_holds_is_not_waited_for_beyond_its_time_to_boot() {
    let mut world = World::of(3);
    world.machine("n1").heals = false;
    world.heartbeat_dies("n1");
    world.until(MINUTE * 12, |world| world.kept_of("n1").phase == Phase::Waiting);
    world.beats.insert(Arc::from("n1"), unheld());
    let waited = world.until(MINUTE * 11, |world| world.kept_of("n1").phase != Phase::Waiting);
    assert!(waited >= MINUTE * 9, "{waited:?}");
    assert_eq!((world.kept_of("n1").phase, world.said("no heartbeat within 10 min")), (Phase::Suspect, 1));
    assert_eq!(world.forgotten.len(), 1, "the note for other agents goes");
    // It proves no death either: nothing more is done to the machine.
    world.time_passes(HOUR * 5);
    assert_eq!((world.verbs().len(), world.kept_of("n1").attempts), (2, 1));
    let standings: Vec<_> = world.fleet.standings(world.now).collect();
    assert!(standings[0].reason.contains("no session holds it"), "{}", standings[0].reason);
    world.heartbeat_returns("n1", "by-hand");
    world.time_passes(MINUTE);
    assert_eq!(world.kept_of("n1").phase, Phase::Healthy);
}

#[test]
fn requests_that_never_left_do_not_count_against_those_that_may_be_sent() {
    let mut world = World::of(3);
    world.replies.extend([(Reply::NotSent, false); 4]);
    world.heartbeat_dies("n1");
    world.until(MINUTE * 15, |world| world.said("repaired") > 0);
    let stops = world.asked.iter().filter(|asked| asked.1 == Verb::STOP).count();
    assert_eq!((stops, world.said("nothing was done")), (5, 0), "{}", world.story());
    assert_eq!(world.kept_of("n1").attempts, 1);
    // What leaves is still counted: three of those, however many that never left lie between.
    let mut world = World::of(3);
    for reply in [Reply::NotSent, Reply::Busy, Reply::NotSent, Reply::Busy, Reply::NotSent, Reply::Busy] {
        world.replies.push_back((reply, false));
    }
    world.heartbeat_dies("n1");
    world.until(MINUTE * 15, |world| world.said("nothing was done") > 0);
    assert_eq!(world.asked.len(), 6, "{}", world.story());
}

#[test]
fn requests_that_never_leave_are_given_up_after_a_few() {
    let mut world = World::of(3);
    world.policy.poll = Duration::from_millis(100);
    world.reload();
    world.replies.extend([(Reply::NotSent, false); 1_000]);
    world.heartbeat_dies("n1");
    world.until(MINUTE * 30, |world| world.said("nothing was done") > 0);
    assert!((5..=15).contains(&world.asked.len()), "{}", world.asked.len());
}

#[test]
fn what_a_provider_says_at_length_is_written_down_in_few_words() {
    // Of two bytes each, so that a cut by bytes would fall into the middle of one; a cut shows as one character more.
    for (length, kept) in [(299, 299), (300, 300), (301, 301), (1_000_000, 301)] {
        let mut world = World::of(3);
        world.detail = Some("ä".repeat(length));
        world.replies.push_back((Reply::Busy, false));
        world.heartbeat_dies("n1");
        world.until(MINUTE * 7, |world| world.asked.len() == 1);
        world.time_passes(Duration::from_secs(5));
        let details: Vec<usize> = world.journal.iter().filter_map(|record| detail(&record.event)).collect();
        assert_eq!(details.first(), Some(&kept), "{length}");
        let reason = world.fleet.standings(world.now).next().unwrap().reason.chars().count();
        assert!(reason < 600, "{reason}");
    }
}

fn detail(event: &Event) -> Option<usize> {
    match event {
        Event::Replied { detail, .. } => Some(detail.chars().count()),
        _ => None,
    }
}

#[test]
fn a_silenced_machine_is_not_touched_nor_is_the_silenced_time_counted() {
    let mut world = World::of(3);
    world.time_passes(MINUTE * 10);
    world.silenced.insert("node/n1".to_string());
    world.heartbeat_dies("n1");
    world.time_passes(HOUR);
    assert_eq!((world.asked.len(), blocked(&world, "n1")), (0, vec![Blocked::Silenced]), "{}", world.story());
    assert_eq!(world.said("not touched: silenced"), 0, "who silenced it knows why");
    // What is kept can be read by a version that does not know the word.
    assert!(!world.kept["n1"].contains("silenced"), "{}", world.kept["n1"]);
    world.silenced.clear();
    let after = world.until(HOUR, |world| !world.asked.is_empty());
    assert!(after >= MINUTE * 5, "the time begins anew: {after:?}");
}

#[test]
fn a_silence_never_holds_back_the_start_that_is_owed() {
    let mut world = World::of(3);
    world.time_passes(MINUTE * 10);
    world.heartbeat_dies("n1");
    world.until(HOUR, |world| !world.asked.is_empty());
    world.silenced.insert("node/n1".to_string());
    world.until(HOUR, |world| world.asked.iter().any(|(_, verb, ..)| *verb == Verb::START));
}

/// A world of three in which the agent runs on n1.
fn on_n1() -> World {
    let mut world = World::of(3);
    world.fleet.know_own_boot(Some(Arc::from("boot-0")));
    world.beats.get_mut(&Arc::<str>::from("n2")).unwrap().boot = Some(Arc::from("boot-2"));
    world.beats.get_mut(&Arc::<str>::from("n3")).unwrap().boot = Some(Arc::from("boot-3"));
    world.time_passes(MINUTE);
    world
}

#[test]
fn an_agent_never_takes_down_the_machine_that_it_runs_on() {
    let mut world = on_n1();
    world.heartbeat_dies("n1");
    world.time_passes(HOUR * 3);
    assert_eq!((world.asked.len(), blocked(&world, "n1")), (0, vec![Blocked::OwnMachine]), "{}", world.story());
    assert!(world.said("not touched: own-machine") > 0);
    // It is known after a restart and after a reboot, in which its beacon does not come up.
    for reboot in [false, true] {
        world.restart(reboot);
        world.fleet.know_own_boot(Some(Arc::from(if reboot { "boot-1" } else { "boot-0" })));
        world.time_passes(HOUR);
        assert_eq!((world.asked.len(), blocked(&world, "n1")), (0, vec![Blocked::OwnMachine]), "{reboot}");
    }
    // Any other is repaired as ever.
    world.heartbeat_returns("n1", "boot-1");
    world.time_passes(MINUTE);
    world.heartbeat_dies("n2");
    world.until(MINUTE * 12, |world| world.said("node/n2: repaired") > 0);
    assert_eq!(world.verbs(), CYCLE);
}

#[test]
fn the_key_of_the_boot_before_is_still_our_own_and_a_life_of_its_own_is_not() {
    // The agent is up again before the session of the boot before is over, and its beacon does not come up.
    let mut world = on_n1();
    world.restart(true);
    world.fleet.know_own_boot(Some(Arc::from("boot-9")));
    world.time_passes(MINUTE * 2);
    world.heartbeat_dies("n1");
    world.time_passes(HOUR);
    assert_eq!((world.asked.len(), blocked(&world, "n1")), (0, vec![Blocked::OwnMachine]));
    // The agent, with its state, has moved to another machine: what lives on without us is not us.
    for (after, boot) in [(HOUR * 2, "boot-0"), (MINUTE, "boot-7")] {
        let mut world = on_n1();
        world.restart(true);
        world.fleet.know_own_boot(Some(Arc::from("boot-9")));
        world.heartbeat_returns("n1", boot);
        world.time_passes(after);
        world.heartbeat_dies("n1");
        world.until(MINUTE * 12, |world| world.said("node/n1: repaired") > 0);
        assert_eq!(world.verbs(), CYCLE, "{boot}");
    }
}

/// The repairs that the journal holds as not over, by whether they were only simulated.
fn open(world: &World) -> Vec<bool> {
    fold(&world.journal).iter().map(|told| told.simulated).collect()
}

/// A world that observes, with n1 in the middle of a repair that is only simulated.
fn simulating() -> World {
    let mut world = World::of(3);
    world.policy.mode = Mode::Observe;
    // Rarely looked at, or the whole life would be over within a pass.
    world.policy.poll = MINUTE;
    world.reload();
    world.heartbeat_dies("n1");
    world.until(MINUTE * 12, |world| !open(world).is_empty());
    world
}

#[test]
fn what_was_only_played_through_is_closed_in_the_journal_once_machines_are_really_touched() {
    for restarts in [false, true] {
        let mut world = simulating();
        world.policy.mode = Mode::Active;
        if restarts {
            world.restart(false);
        } else {
            world.reload();
        }
        world.time_passes(Duration::from_secs(10));
        assert_eq!(open(&world), [false; 0], "restarts {restarts}");
        world.until(MINUTE * 15, |world| world.verbs() == CYCLE);
        world.restart(false);
        world.time_passes(MINUTE * 30);
        assert_eq!((world.verbs(), open(&world)), (CYCLE.to_vec(), vec![]), "restarts {restarts}");
    }
}

#[test]
fn what_an_earlier_version_left_open_of_a_play_never_stands_before_a_start_that_is_owed() {
    let mut world = World::of(3);
    world.heartbeat_dies("n1");
    world.until(MINUTE * 7, |world| world.asked.len() == 1);
    // As earlier versions left it: a play without an end, by a name that comes first.
    let played = Record {
        saga: "0".into(),
        target: "node/n1".into(),
        number: 0,
        at: world.now.wall,
        event: Event::Opened { procedure: STOP_START.into(), simulated: true },
    };
    for mode in [Mode::Active, Mode::Observe] {
        world.journal.insert(0, Record { saga: format!("0-{}", mode.as_str()), ..played.clone() });
    }
    world.restart(false);
    world.until(MINUTE * 2, |world| world.life("n1") == Power::Running && world.verbs() == CYCLE);
    world.time_passes(MINUTE);
    assert_eq!(open(&world), [false; 0]);
}

#[test]
fn a_play_about_a_node_that_is_no_longer_configured_is_closed_and_not_told() {
    let mut world = simulating();
    world.nodes.remove(0);
    world.restart(false);
    world.time_passes(MINUTE);
    assert_eq!(open(&world), [false; 0]);
    assert!(world.fleet.own_facts(world.now).iter().all(|fact| fact.key != "recovery/n1"));
}

fn note(target: &str) -> Note {
    let fence = Fence::new("v0", "t");
    Note {
        target: format!("node/{target}"),
        saga: format!("s-{target}"),
        agent: "a0".into(),
        verb: Verb::STOP,
        fence,
        procedure: None,
    }
}

fn told(world: &mut World, key: &str) -> Option<String> {
    let facts = world.fleet.own_facts(world.now);
    facts
        .into_iter()
        .find(|fact| fact.key == key)
        .expect("it is always said, so that its end is, too")
        .trouble
        .map(|trouble| trouble.to_string())
}

#[test]
fn a_note_about_a_node_that_is_not_configured_is_told_until_it_is_put_back_or_the_note_is_gone() {
    let mut world = World::of(3);
    assert_eq!(told(&mut world, "recovery/unconfigured"), None);
    world.notes.push(note("n9"));
    world.time_passes(MINUTE);
    let said = told(&mut world, "recovery/unconfigured").unwrap();
    assert!(said.contains("n9 (agent a0 was about to ask for STOP; note repairs/n9/s-n9)"), "{said}");
    world.notes.clear();
    world.time_passes(MINUTE);
    assert_eq!(told(&mut world, "recovery/unconfigured"), None);
    // Whoever does not hold the lease does not know, and many are not all named.
    world.notes.extend((10..1_000).map(|n| note(&format!("n{n}"))));
    world.time_passes(MINUTE);
    let said = told(&mut world, "recovery/unconfigured").unwrap();
    assert!(said.contains("n14 ") && said.contains("and 985 more") && said.len() < 800, "{said}");
    world.holds_lease = false;
    world.time_passes(MINUTE);
    assert_eq!(told(&mut world, "recovery/unconfigured"), None);
    // Put back, it is finished.
    world.holds_lease = true;
    world.notes = vec![note("n9")];
    world.machines.insert(Arc::from("n9"), Machine { life: Power::Stopped, version: 1, heals: true });
    world.nodes.push(node("n9"));
    world.reload();
    world.until(MINUTE, |world| world.life("n9") == Power::Running);
    assert_eq!((told(&mut world, "recovery/unconfigured"), world.verbs()), (None, vec![Verb::START]));
}

#[test]
fn the_note_of_a_repair_that_is_over_goes_even_if_its_node_is_no_longer_configured() {
    let mut world = World::of(3);
    world.machine("n1").heals = false;
    world.heartbeat_dies("n1");
    world.until(MINUTE * 12, |world| world.kept_of("n1").phase == Phase::Waiting);
    let saga = world.journal[0].saga.clone();
    world.notes.push(Note { saga: saga.clone(), ..note("n1") });
    world.nodes.remove(0);
    world.reload();
    world.time_passes(MINUTE);
    assert_eq!((told(&mut world, "recovery/unconfigured"), world.forgotten.first()), (None, Some(&saga)));
    assert!(world.forgotten.len() <= 2, "asked for now and then: {:?}", world.forgotten);
}

/// Days go by with a pass each hour.
fn days(world: &mut World, count: u32) {
    for _ in 0..count * 24 {
        world.clock_goes_on(HOUR);
        world.pass();
    }
}

#[test]
fn what_is_kept_of_a_node_ends_a_month_after_it_was_removed_and_not_before() {
    for restarts in [false, true] {
        let mut world = World::of(3);
        let gone = world.nodes.pop().unwrap();
        world.reload();
        world.heartbeat_dies("n3");
        // Its key is there for a while after it was taken out.
        let key = world.beats["n1"].clone();
        world.beats.insert(Arc::from("n3"), key);
        days(&mut world, 40);
        world.beats.remove("n3");
        let again = |world: &mut World| {
            if restarts {
                world.restart(true);
            }
        };
        again(&mut world);
        days(&mut world, 28);
        assert!(world.kept.contains_key("n3"), "restarts {restarts}");
        // Nobody looks: nothing is forgotten for that.
        world.sees_consul = false;
        days(&mut world, 10);
        again(&mut world);
        assert!(world.kept.contains_key("n3"), "restarts {restarts}");
        world.sees_consul = true;
        world.pass();
        assert_eq!(world.kept.keys().collect::<Vec<_>>(), ["n1", "n2"], "restarts {restarts}");
        world.nodes.push(gone);
        again(&mut world);
        world.reload();
        world.time_passes(MINUTE * 20);
        assert!(blocked(&world, "n3").contains(&Blocked::NeverSeen));
    }
}

#[test]
fn a_node_that_is_put_back_within_a_month_is_known() {
    for restarts in [false, true] {
        let mut world = World::of(3);
        world.heartbeat_dies("n1");
        world.until(MINUTE * 12, |world| world.said("repaired") > 0);
        let again = |world: &mut World| if restarts { world.restart(false) } else { world.reload() };
        let gone = world.nodes.remove(0);
        again(&mut world);
        days(&mut world, 20);
        world.nodes.push(gone);
        again(&mut world);
        world.pass();
        let kept = world.kept_of("n1");
        assert_eq!((kept.was_alive, kept.attempts, kept.left_at), (true, 1, None), "restarts {restarts}");
        assert!(!world.kept["n1"].contains("left_at\":1"), "{}", world.kept["n1"]);
    }
}

#[test]
fn a_node_that_stays_configured_is_known_however_long_it_is_away() {
    let mut world = World::of(3);
    world.heartbeat_dies("n1");
    world.evidence("probe/n1", State::Ok);
    for _ in 0..3 {
        days(&mut world, 40);
        world.restart(true);
    }
    assert!(world.kept_of("n1").was_alive && world.kept.len() == 3);
}

#[test]
fn a_node_removed_before_a_restart_is_started_where_its_machine_can_be_reached_and_then_left_alone() {
    let mut world = World::of(3);
    world.machine("n1").heals = false;
    world.heartbeat_dies("n1");
    world.until(MINUTE * 7, |world| world.asked.len() == 1);
    let gone = world.nodes.remove(0);
    world.restart(false);
    let place = Place { executor: "cloud".into(), machine: "machine-of-n1".into() };
    assert_eq!(world.fleet.orphans(), [(Arc::from("node/n1"), place)]);
    world.fleet.reach("node/n1");
    assert_eq!(world.fleet.orphans(), []);
    world.until(MINUTE * 2, |world| world.life("n1") == Power::Running && world.verbs() == CYCLE);
    // It is nobody's node: whatever it does, no repair begins.
    world.time_passes(HOUR * 3);
    assert_eq!((world.verbs(), world.fleet.standings(world.now).count()), (CYCLE.to_vec(), 2));
    assert!(world.fleet.own_facts(world.now).iter().all(|fact| fact.key != "recovery/n1" || fact.trouble.is_none()));
    // And if it is put back it is known.
    world.nodes.push(gone);
    world.reload();
    world.time_passes(Duration::from_secs(5));
    assert!(world.kept_of("n1").was_alive && world.kept_of("n1").attempts == 1);
}

#[test]
fn of_what_an_earlier_version_kept_the_place_of_a_machine_is_not_known_and_the_repair_is_told() {
    let mut world = World::of(3);
    world.heartbeat_dies("n1");
    world.until(MINUTE * 7, |world| world.asked.len() == 1);
    world.nodes.remove(0);
    let mut row: serde_json::Value = serde_json::from_str(&world.kept["n1"]).unwrap();
    assert_eq!(row["place"]["machine"], "machine-of-n1", "written down with the decision");
    row.as_object_mut().unwrap().remove("place");
    world.kept.insert("n1".to_string(), row.to_string());
    world.restart(false);
    assert_eq!(world.fleet.orphans(), []);
    world.time_passes(MINUTE);
    assert!(told(&mut world, "recovery/n1").unwrap().contains("put it back"));
}
