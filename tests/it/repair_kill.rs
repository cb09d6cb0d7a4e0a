//! The real binary is killed at every request and at every write of its journal while it repairs a
//! node, the cloud answers with everything it has, and the agent is told to end or to read its
//! configuration again in the middle: no machine stays stopped, none is stopped twice for one decision,
//! and every case ends with the machine running.

mod faults;
mod handover;
mod journal;
mod kills;
mod world;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use self::world::{Place, Plan, World, at, node, phase};
use crate::daemon::{Daemon, wait};
use crate::peer::consul::{Consul, Dev};
use crate::peer::oci::{Fault, Kind, Lifecycle, Strike};

/// Worlds at the same time, of all tests here together. They wait for most of their life.
const SIDE_BY_SIDE: usize = 16;
/// SIGTERM ends the agent within this.
const FAREWELL: Duration = Duration::from_secs(5);

/// When a blow falls, and what becomes of the request that it falls at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// When the request has arrived; it has no effect, as if it had never been sent.
    Lost,
    /// When the request has arrived; its effect comes after the blow.
    Arrived,
    /// After its effect and before any answer.
    Unanswered,
    /// Right after its answer.
    Answered,
}

const MOMENTS: [Moment; 4] = [Moment::Lost, Moment::Arrived, Moment::Unanswered, Moment::Answered];

/// One blow at one request.
#[derive(Debug, Clone)]
struct Blow {
    place: Place,
    skip: usize,
    moment: Moment,
    signal: Signal,
    /// What the request meets instead of what the moment says.
    fault: Option<Fault>,
}

impl Blow {
    fn kill(place: Place, skip: usize, moment: Moment) -> Blow {
        Blow { place, skip, moment, signal: Signal::KILL, fault: None }
    }

    fn strike(&self, world: &World, struck: &Arc<AtomicUsize>) -> Strike {
        let fault = match self.moment {
            Moment::Lost => Some(Fault::Hang),
            Moment::Unanswered => Some(Fault::EffectThenHang),
            Moment::Arrived | Moment::Answered => None,
        };
        let (blow, struck) = (world.blow(self.signal), Arc::clone(struck));
        let hook: Box<dyn FnOnce() + Send> = Box::new(move || {
            blow();
            struck.fetch_add(1, Ordering::Release);
        });
        let strike = Strike { fault: self.fault.clone().or(fault), ..at(1, self.place, self.skip) };
        match self.moment {
            Moment::Lost | Moment::Arrived => Strike { arrived: Some(hook), ..strike },
            Moment::Unanswered | Moment::Answered => Strike { answered: Some(hook), ..strike },
        }
    }
}

/// One story: what falls on the agent while it repairs n1.
#[derive(Debug, Clone, Default)]
struct Case {
    blows: Vec<Blow>,
    /// What changes between the first blow and the next agent.
    then: Then,
}

/// What changes before the next agent starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Then {
    #[default]
    Nothing,
    /// The state file is lost.
    NoState,
    /// Another agent takes over, with another name and no state file.
    OtherAgent,
    /// Repairs are paused.
    Paused,
    /// Repairs are only simulated.
    Observe,
    /// Consul is out of reach.
    NoConsul,
}

impl Then {
    fn happen(self, world: &World) {
        let leaves_note = matches!(self, Then::NoState | Then::OtherAgent);
        if leaves_note {
            let note = world.note(1).expect("a note for the agent after it");
            assert!(note.contains("agent-1") && note.contains(&node(1)), "{note}");
            world.lose_state();
        }
        match self {
            Then::Nothing | Then::NoState => {}
            Then::OtherAgent => world.configure(|setup| setup.set("instance", "agent-2")),
            Then::Paused => world.configure(|setup| setup.set("recovery.paused", true)),
            Then::Observe => world.configure(|setup| setup.set("recovery.mode", "observe")),
            Then::NoConsul => world.configure(|setup| setup.set("consul.address", "http://127.0.0.1:1")),
        }
    }
}

/// What all cases together came to.
#[derive(Default)]
struct Tally {
    cases: AtomicUsize,
    blows: AtomicUsize,
    missed: AtomicUsize,
    running: AtomicUsize,
    stops_twice: AtomicUsize,
}

impl Tally {
    fn count(&self, world: &World, n: usize) {
        self.cases.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(usize::from(world.lifecycle(n) == Lifecycle::Running), Ordering::Relaxed);
        let twice = world.effects(n, Kind::Stop) > 1;
        self.stops_twice.fetch_add(usize::from(twice), Ordering::Relaxed);
    }

    /// Prints the sum, past the test runner, and holds it to what must be.
    fn close(&self, what: &str, began: Instant) {
        let get = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        let missed = get(&self.missed);
        let (cases, running, twice) = (get(&self.cases), get(&self.running), get(&self.stops_twice));
        say(&format!(
            "{what}: {cases} cases, {} blows ({missed} missed), {running} RUNNING, {twice} second STOPs, {:.1} s",
            get(&self.blows),
            began.elapsed().as_secs_f32()
        ));
        assert!(missed <= cases / 5, "{what}: {missed} blows fell on nobody");
        assert!(cases > 0 && running == cases && twice == 0, "{what}: {running} of {cases} run, {twice} second STOPs");
    }
}

/// Not `eprintln!`: the test runner keeps what a passing test prints that way to itself.
fn say(line: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The Consul of all worlds of all tests that run now.
fn consul() -> Arc<Consul> {
    static ONE: Mutex<Weak<Consul>> = Mutex::new(Weak::new());
    let mut one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    one.upgrade().unwrap_or_else(|| {
        // Each world has a few connections of its own, all from one address.
        let hcl = "limits { http_max_conns_per_client = 10000 }".to_string();
        let consul = Arc::new(Consul::dev(Dev { hcl, ..Dev::default() }));
        *one = Arc::downgrade(&consul);
        consul
    })
}

/// Room for one more world, until it is dropped.
struct Room;

static ROOMS: (Mutex<usize>, Condvar) = (Mutex::new(SIDE_BY_SIDE), Condvar::new());

impl Room {
    fn take() -> Room {
        let free = ROOMS.0.lock().unwrap_or_else(PoisonError::into_inner);
        *ROOMS.1.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner) -= 1;
        Room
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *ROOMS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        ROOMS.1.notify_one();
    }
}

/// Runs each of `cases` in a few threads. Panics with the names of those that failed.
fn each<C: std::fmt::Debug + Send>(cases: Vec<C>, run: impl Fn(&C) + Sync) {
    let queue = Mutex::new(VecDeque::from(cases));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { return };
                    let _room = Room::take();
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&case)));
                    if let Err(why) = outcome {
                        let why = why.downcast_ref::<String>().cloned();
                        let why = why.unwrap_or_else(|| "it panicked".to_string());
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{case:?}: {why}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n\n"));
}

/// A world whose agent has seen the node alive.
fn healthy(world: &World) -> (Daemon, Vec<String>) {
    let sessions: Vec<String> = (1..=world.nodes).map(|n| world.beats(n, "boot-1")).collect();
    let daemon = world.start();
    let lease = "this agent holds the lease";
    wait(
        || format!("healthy: {}", daemon.stderr()),
        || ((1..=world.nodes).all(|n| phase(&daemon, n) == "healthy") && daemon.stderr().contains(lease)).then_some(()),
    );
    (daemon, sessions)
}

/// Waits until the machine was switched on again, lets the heartbeat return, and ends the agent.
fn come_back(world: &World, daemon: Daemon, tally: &Tally) {
    let context = || format!("{}\n{}\n{}", world.asked(), daemon.status()["targets"], daemon.stderr());
    wait(|| format!("the machine to be up again:\n{}", context()), || world.is_up_again(1).then_some(()));
    wait(
        || format!("the heartbeat to be waited for:\n{}", context()),
        || matches!(phase(&daemon, 1).as_str(), "waiting" | "paused").then_some(()),
    );
    world.beats(1, "boot-2");
    wait(
        || format!("the node to be well:\n{}", context()),
        || matches!(phase(&daemon, 1).as_str(), "healthy" | "paused").then_some(()),
    );
    end(world, daemon, tally);
}

/// Waits until the machine is up, ends the agent, and holds the ledger to what must be.
fn end(world: &World, daemon: Daemon, tally: &Tally) {
    let context = || format!("{}\n{}\n{}", world.asked(), daemon.status()["targets"], daemon.stderr());
    wait(|| format!("the machine to be up again:\n{}", context()), || world.is_up_again(1).then_some(()));
    let log = context();
    let (status, took) = daemon.terminate();
    assert!(status.success() && took < FAREWELL, "{status} after {took:?}: {log}");
    tally.count(world, 1);
    assert_eq!(world.lifecycle(1), Lifecycle::Running, "{log}");
    assert_eq!((world.effects(1, Kind::Stop), world.effects(1, Kind::Start)), (1, 1), "{log}");
    assert_eq!(world.oci.violations(), Vec::<String>::new(), "{log}");
}

/// Waits until the blow has fallen, and for the end of the agent that it fell on. The agent, when it ended its
/// repair without meeting the blow.
fn fallen(world: &World, mut daemon: Daemon, blow: &Blow, struck: &AtomicUsize) -> Result<(), Daemon> {
    let fell = wait(
        || format!("{blow:?} to fall:\n{}\n{}\n{}", world.asked(), daemon.status()["targets"], daemon.stderr()),
        || {
            let fell = struck.load(Ordering::Acquire) > 0;
            let is_over = world.up_since(1).is_some_and(|since| since.elapsed() > Duration::from_secs(3));
            (fell || is_over).then_some(fell)
        },
    );
    if !fell {
        // On a busy machine a blow before it came late, when this request was over; or no look fell into a state.
        world.oci.clear_strikes();
        return Err(daemon);
    }
    let began = Instant::now();
    let status = wait(|| "the end of the agent".to_string(), || daemon.ended());
    if blow.signal == Signal::TERM {
        assert!(status.success(), "{status} after SIGTERM: {}", daemon.stderr());
        assert!(began.elapsed() < FAREWELL, "SIGTERM took {:?}: {}", began.elapsed(), daemon.stderr());
    }
    world.nobody();
    Ok(())
}

/// Lives through one case.
fn live(consul: &Consul, case: &Case, tally: &Tally) {
    let world = World::new(consul, &Plan::default());
    let (first, sessions) = healthy(&world);
    let mut agent = Some(first);
    for (index, blow) in case.blows.iter().enumerate() {
        let struck = Arc::new(AtomicUsize::new(0));
        // Armed before the next agent lives: it may ask at once.
        world.oci.strike(blow.strike(&world, &struck));
        if index == 0 {
            world.dies(&sessions[0]);
        }
        let daemon = agent.take().unwrap_or_else(|| world.start());
        if let Err(daemon) = fallen(&world, daemon, blow, &struck) {
            tally.missed.fetch_add(1, Ordering::Relaxed);
            return come_back(&world, daemon, tally);
        }
        tally.blows.fetch_add(1, Ordering::Relaxed);
        if index == 0 {
            case.then.happen(&world);
        }
    }
    let daemon = world.start();
    // Consul away, its heartbeat cannot be seen. Taken over when the machine was already up, nobody knows
    // whether the STOP of the note may still come, for as long as it may: the repair stays open.
    let has_started = case
        .blows
        .iter()
        .any(|blow| blow.place == Place::Starting || blow.place == Place::Start && blow.moment != Moment::Lost);
    let is_taken_over = matches!(case.then, Then::NoState | Then::OtherAgent);
    if case.then == Then::NoConsul || is_taken_over && has_started {
        return end(&world, daemon, tally);
    }
    come_back(&world, daemon, tally);
}
