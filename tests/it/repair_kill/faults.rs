//! Every answer that the cloud has, once and three times in a row, at every request, and with a kill right after it.

use std::time::{Duration, Instant};

use super::world::{Place, Plan, World, node, phase};
use super::{Blow, Case, Moment, Tally, consul, each, healthy, live};
use crate::daemon::wait;
use crate::parts;
use crate::peer::consul::Consul;
use crate::peer::oci::{Fault, Kind, Lifecycle};

/// What a fault of STOP comes to, three times in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Not now: asked again.
    Later,
    /// It is useless: the attempt is over, and after the last one the node is given up.
    Never,
    /// Nobody knows: asked again a few times, then only looked at.
    Unclear,
    /// It counted, whatever the answer says.
    Done,
}

fn faults() -> Vec<(Fault, Says)> {
    use Fault::{EffectThenClose, EffectThenHalf, EffectThenHang, EffectThenNonsense, EffectThenRefuse, Hang, Lose};
    let no = Fault::Refuse;
    vec![
        (no(401, "NotAuthenticated", "no"), Says::Never),
        (Fault::Skew(-600), Says::Never),
        (no(404, "NotAuthorizedOrNotFound", "no"), Says::Never),
        (no(409, "IncorrectState", "no"), Says::Later),
        (no(409, "Conflict", "no"), Says::Never),
        (no(409, "InvalidatedRetryToken", "no"), Says::Never),
        (no(412, "NoEtagMatch", "no"), Says::Never),
        (no(429, "TooManyRequests", "no"), Says::Later),
        (Fault::RateLimit(1), Says::Later),
        (Fault::NO_CAPACITY, Says::Never),
        (no(500, "InternalServerError", "no"), Says::Unclear),
        (Fault::Page(502), Says::Unclear),
        (Lose, Says::Unclear),
        (Hang, Says::Unclear),
        (EffectThenRefuse(500, "InternalServerError"), Says::Done),
        (EffectThenClose, Says::Done),
        (EffectThenHang, Says::Done),
        (EffectThenHalf, Says::Done),
        (EffectThenNonsense, Says::Done),
    ]
}

/// Nodes of one world, each with a fault of its own.
#[derive(Debug)]
struct Batch {
    place: Place,
    times: usize,
    faults: Vec<(Fault, Says)>,
}

#[test]
fn whatever_the_cloud_answers_every_machine_runs_in_the_end() {
    if !parts::consul() {
        return;
    }
    let mut batches = Vec::new();
    for place in [Place::Stop, Place::Start, Place::Confirm, Place::Stopping, Place::Starting] {
        for times in [1, 3] {
            // One operator asks for all nodes of a world: one that hangs holds up the others.
            for part in 0..3 {
                let faults = faults().into_iter().skip(part).step_by(3).collect();
                batches.push(Batch { place, times, faults });
            }
        }
    }
    // START is asked for without end.
    let ever = [0, 3, 9, 12].map(|index| faults().swap_remove(index)).to_vec();
    batches.push(Batch { place: Place::Start, times: 12, faults: ever });
    let (began, consul, tally) = (Instant::now(), consul(), Tally::default());
    each(batches, |batch| answered(&consul, batch, &tally));
    tally.close("faults", began);
}

fn answered(consul: &Consul, batch: &Batch, tally: &Tally) {
    let nodes = batch.faults.len();
    // Slow enough that a look at each state is made also while another node's request hangs.
    let span = if matches!(batch.place, Place::Stopping | Place::Starting) { 4_000 } else { 300 };
    let span = Duration::from_millis(span);
    let world = World::new(consul, &Plan { tells: true, nodes, stopping: span, starting: span, lease_ttl: "5s" });
    let (daemon, sessions) = healthy(&world);
    for (index, (fault, _)) in batch.faults.iter().enumerate() {
        world.faults(index + 1, batch.place, fault, batch.times);
    }
    for session in &sessions {
        world.dies(session);
    }
    let context = |n: usize| {
        let asked = world.asked();
        let asked = asked.lines().filter(|line| line.contains(&node(n))).collect::<Vec<_>>().join("\n");
        format!("{} {:?}\n{asked}{}\n{}", node(n), batch.faults[n - 1], daemon.status()["targets"], daemon.stderr())
    };
    let is_final =
        |says: Says| batch.place == Place::Stop && batch.times == 3 && matches!(says, Says::Never | Says::Unclear);
    for (index, (_, says)) in batch.faults.iter().enumerate() {
        let n = index + 1;
        if is_final(*says) {
            left_alone(&world, n, *says, &daemon, &|| context(n));
        } else {
            wait(|| format!("it to be up again: {}", context(n)), || world.is_up_again(n).then_some(()));
            wait(|| format!("it to be waited for: {}", context(n)), || (phase(&daemon, n) == "waiting").then_some(()));
            world.beats(n, "boot-2");
            wait(|| format!("it to be well: {}", context(n)), || (phase(&daemon, n) == "healthy").then_some(()));
            assert_eq!((world.effects(n, Kind::Stop), world.effects(n, Kind::Start)), (1, 1), "{}", context(n));
        }
        tally.count(&world, n);
        assert_eq!(world.lifecycle(n), Lifecycle::Running, "{}", context(n));
    }
    assert_eq!(world.oci.violations(), Vec::<String>::new());
    daemon.terminate();
}

/// A machine whose STOP never counted was not touched, and people know.
fn left_alone(world: &World, n: usize, says: Says, daemon: &crate::daemon::Daemon, context: &dyn Fn() -> String) {
    let stops = || world.oci.asked(Kind::Stop).iter().filter(|e| e.instance.ends_with(&node(n))).count();
    let key = format!("recovery/{}", node(n));
    wait(|| format!("{key} to be told: {}", context()), || (daemon.state(&key)? == "firing").then_some(()));
    if says == Says::Never {
        wait(|| format!("it to be given up: {}", context()), || (phase(daemon, n) == "exhausted").then_some(()));
    }
    let told = || world.telegram.as_ref().unwrap().delivered();
    wait(
        || format!("a message about {key}: {:?}", told()),
        || told().iter().any(|m| m.text.contains(&key)).then_some(()),
    );
    // One that was held back before it left counts as asked, too.
    assert!((1..=3).contains(&stops()), "{}", context());
    assert_eq!((world.effects(n, Kind::Stop), world.effects(n, Kind::Start)), (0, 0), "{}", context());
}

#[test]
fn killed_right_after_any_answer_the_next_agent_ends_the_repair() {
    if !parts::consul() {
        return;
    }
    let mut cases = Vec::new();
    for place in [Place::Stop, Place::Start] {
        for (fault, _) in faults() {
            let blow = Blow { fault: Some(fault), ..Blow::kill(place, 0, Moment::Answered) };
            cases.push(Case { blows: vec![blow], ..Case::default() });
        }
    }
    let (began, consul, tally) = (Instant::now(), consul(), Tally::default());
    each(cases, |case| live(&consul, case, &tally));
    tally.close("killed after faults", began);
}
