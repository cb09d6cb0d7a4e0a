//! SIGTERM in the middle hands over cleanly; SIGHUP in the middle, whatever it brings, leaves nothing half done.

use std::time::Instant;

use rustix::process::Signal;

use super::world::{Place, Plan, World, at};
use super::{Blow, Case, Moment, Tally, come_back, consul, each, healthy, live};
use crate::daemon::wait;
use crate::parts;
use crate::peer::consul::Consul;
use crate::peer::oci::{Kind, Lifecycle, Strike};

#[test]
fn told_to_end_at_any_request_the_agent_hands_over_within_five_seconds() {
    if !parts::consul() {
        return;
    }
    let told_at = |place, moment| Case {
        blows: vec![Blow { signal: Signal::TERM, ..Blow::kill(place, 0, moment) }],
        ..Case::default()
    };
    let mut cases = Vec::new();
    for place in [Place::Stop, Place::Start] {
        cases.extend([Moment::Lost, Moment::Arrived, Moment::Unanswered, Moment::Answered].map(|m| told_at(place, m)));
    }
    for place in [Place::Confirm, Place::Stopping, Place::Stopped, Place::Starting] {
        cases.extend([Moment::Lost, Moment::Arrived, Moment::Answered].map(|m| told_at(place, m)));
    }
    let (began, consul, tally) = (Instant::now(), consul(), Tally::default());
    each(cases, |case| live(&consul, case, &tally));
    tally.close("SIGTERM", began);
}

/// What the configuration has become when it is read again.
#[derive(Debug, Clone, Copy)]
enum Reload {
    Other,
    Paused,
    Observe,
    WithoutNode,
    WithoutAny,
}

#[test]
fn a_configuration_read_again_in_the_middle_leaves_no_machine_down() {
    if !parts::consul() {
        return;
    }
    let places = [(Place::Stop, Moment::Answered), (Place::Stopping, Moment::Arrived), (Place::Start, Moment::Arrived)];
    let reloads = [Reload::Other, Reload::Paused, Reload::Observe, Reload::WithoutNode, Reload::WithoutAny];
    let cases: Vec<_> = places.into_iter().flat_map(|place| reloads.map(|reload| (place, reload))).collect();
    let (began, consul, tally) = (Instant::now(), consul(), Tally::default());
    each(cases, |((place, moment), reload)| reloaded(&consul, *place, *moment, *reload, &tally));
    tally.close("SIGHUP", began);
}

fn reloaded(consul: &Consul, place: Place, moment: Moment, reload: Reload, tally: &Tally) {
    let world = World::new(consul, &Plan { nodes: 2, ..Plan::default() });
    let (daemon, sessions) = healthy(&world);
    // The new configuration lies there, and counts when it is read again.
    match reload {
        Reload::Other => {
            world.configure(|setup| setup.set("recovery.max_attempts", 7).set("recovery.attempts_reset_after", "2h"));
        }
        Reload::Paused => world.configure(|setup| setup.set("recovery.paused", true)),
        Reload::Observe => world.configure(|setup| setup.set("recovery.mode", "observe")),
        Reload::WithoutNode => world.setup([2]).write(world.path()),
        Reload::WithoutAny => world.setup([]).write(world.path()),
    }
    let blow = world.blow(Signal::HUP);
    let strike = at(1, place, 0);
    world.oci.strike(match moment {
        Moment::Lost | Moment::Arrived => Strike { arrived: Some(blow), ..strike },
        Moment::Unanswered | Moment::Answered => Strike { answered: Some(blow), ..strike },
    });
    world.dies(&sessions[0]);
    let context = || format!("{}\n{}\n{}", world.asked(), daemon.status()["targets"], daemon.stderr());
    if matches!(reload, Reload::Other) {
        return come_back(&world, daemon, tally);
    }
    wait(|| format!("the machine to be up again:\n{}", context()), || world.is_up_again(1).then_some(()));
    wait(
        || format!("the repair to end:\n{}", context()),
        || {
            let asked = world.oci.ledger();
            asked.last().is_some_and(|e| e.kind == Kind::Get && e.before == Some(Lifecycle::Running)).then_some(())
        },
    );
    tally.count(&world, 1);
    let log = context();
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{log}");
    assert_eq!((world.effects(1, Kind::Stop), world.effects(1, Kind::Start)), (1, 1), "{log}");
    assert_eq!(world.oci.violations(), Vec::<String>::new(), "{log}");
}

/// What somebody has done to the configuration while nobody ran.
#[derive(Debug, Clone, Copy)]
enum Removed {
    /// The node is gone, another is left.
    One,
    /// No node is left at all.
    All,
}

#[test]
fn a_node_taken_out_of_the_configuration_while_nobody_ran_is_switched_on_all_the_same() {
    if !parts::consul() {
        return;
    }
    let places =
        [(Place::Stop, Moment::Unanswered), (Place::Stopping, Moment::Arrived), (Place::Start, Moment::Arrived)];
    let cases: Vec<_> = places.into_iter().flat_map(|place| [Removed::One, Removed::All].map(|r| (place, r))).collect();
    let (began, consul, tally) = (Instant::now(), consul(), Tally::default());
    each(cases, |((place, moment), removed)| taken_out(&consul, *place, *moment, *removed, &tally));
    tally.close("SIGKILL, and the node taken out", began);
}

fn taken_out(consul: &Consul, place: Place, moment: Moment, removed: Removed, tally: &Tally) {
    let world = World::new(consul, &Plan { nodes: 2, ..Plan::default() });
    let (mut daemon, sessions) = healthy(&world);
    let blow = world.blow(Signal::KILL);
    let strike = at(2, place, 0);
    world.oci.strike(match moment {
        Moment::Lost | Moment::Arrived => Strike { arrived: Some(blow), ..strike },
        Moment::Unanswered | Moment::Answered => Strike { answered: Some(blow), ..strike },
    });
    world.dies(&sessions[1]);
    wait(|| format!("the agent to be killed: {}", world.asked()), || daemon.ended());
    world.nobody();
    let left = usize::from(matches!(removed, Removed::One));
    world.setup(1..=left).write(world.path());
    let daemon = world.start();
    let context = || format!("{}\n{}\n{}", world.asked(), daemon.status()["targets"], daemon.stderr());
    wait(|| format!("the machine to be up again:\n{}", context()), || world.is_up_again(2).then_some(()));
    wait(
        || format!("the node to be let go:\n{}", context()),
        || (daemon.status()["targets"].as_array().map_or(0, Vec::len) == left).then_some(()),
    );
    tally.count(&world, 2);
    let log = context();
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{log}");
    assert_eq!((world.effects(2, Kind::Stop), world.effects(2, Kind::Start)), (1, 1), "{log}");
    assert_eq!(world.oci.violations(), Vec::<String>::new(), "{log}");
}
