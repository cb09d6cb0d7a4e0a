//! kill -9 at every write of the journal, from outside: strace lets the program die at its n-th call.
//!
//! The node is seen alive by an agent that ends; the one that repairs it is traced from its start, so that
//! every commit of the repair has a number. A run without a kill counts them.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::world::{Plan, World};
use super::{Tally, come_back, consul, each, healthy};
use crate::daemon::{SOON, wait, watchdog};
use crate::parts;
use crate::peer::consul::Consul;

/// What the program dies at.
#[derive(Debug, Clone, Copy)]
struct Death {
    calls: &'static str,
    n: usize,
}

/// What strace saw, and what the agent said, in the folder of the world.
const LOG: &str = "strace.log";
const OUT: &str = "traced.out";
/// Each commit of SQLite ends with one of these; killed on entry, what was written is in the file and nothing
/// that it allows has left.
const SYNCS: &str = "fsync,fdatasync";
/// A commit writes several pages by it.
const WRITES: &str = "pwrite64";
/// Whoever connects most: somewhere between two looks.
const CONNECTS: &str = "connect";

#[test]
fn killed_at_any_write_of_the_journal_the_next_agent_ends_the_repair() {
    if !parts::consul() || !parts::strace() {
        return;
    }
    let (began, consul, tally) = (Instant::now(), consul(), Tally::default());
    let counted: Vec<usize> = [SYNCS, WRITES, CONNECTS].iter().map(|calls| count(&consul, calls, &tally)).collect();
    super::say(&format!(
        "calls of one thread in one repair: {SYNCS} {}, {WRITES} {}, {CONNECTS} {}",
        counted[0], counted[1], counted[2]
    ));
    assert!(counted[0] >= 10, "a repair has at least ten commits: {counted:?}");
    // One more than were counted: no two repairs take the same number of looks. A slow machine looks more often.
    let mut deaths: Vec<Death> = (1..=counted[0].min(40) + 1).map(|n| Death { calls: SYNCS, n }).collect();
    deaths.extend((1..=counted[1]).step_by(counted[1] / 12 + 1).map(|n| Death { calls: WRITES, n }));
    deaths.extend((1..=counted[2]).step_by(5).map(|n| Death { calls: CONNECTS, n }));
    each(deaths, |death| die(&consul, *death, &tally));
    tally.close("killed at writes", began);
    // Late numbers are not always reached; were most not, nothing would have been killed.
    let died = tally.blows.load(std::sync::atomic::Ordering::Relaxed);
    assert!(died >= 20, "{died} died");
}

/// The strace that runs the agent. Both are gone when it is dropped.
struct Traced {
    strace: Child,
    agent: Option<Pid>,
}

impl Traced {
    fn start(world: &World, death: Option<Death>, calls: &str) -> Traced {
        let agent = watchdog(world.path());
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", LOG, "-e", &format!("trace={calls}")]);
        if let Some(Death { calls, n }) = death {
            command.args(["-e", &format!("inject={calls}:signal=KILL:when={n}")]);
        }
        command.arg(agent.get_program()).args(["--set", "listen="]).current_dir(world.path());
        let out = File::create(world.path().join(OUT)).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        Traced { strace: command.spawn().unwrap(), agent: None }
    }

    /// The agent: the child of strace that has become it.
    fn agent(&mut self) -> Option<Pid> {
        let id = self.strace.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        let is_agent = |child: &&str| {
            std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "watchdog")
        };
        let found = children.split_whitespace().find(is_agent)?;
        self.agent = self.agent.or(Pid::from_raw(found.parse().ok()?));
        self.agent
    }

    fn ended(&mut self) -> bool {
        self.agent();
        self.strace.try_wait().unwrap().is_some()
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !self.ended() {
            if let Some(agent) = self.agent {
                let _ = kill_process(agent, Signal::KILL);
            }
            let _ = self.strace.kill();
            let _ = self.strace.wait();
        }
        // strace may end before the one it traced, which still holds the state file then.
        let Some(agent) = self.agent.map(Pid::as_raw_nonzero) else { return };
        let deadline = Instant::now() + SOON;
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{agent}/stat")).unwrap_or_default();
            let threads = std::fs::read_dir(format!("/proc/{agent}/task")).map_or(0, Iterator::count);
            // Its first thread counts as dead while others still hold its files.
            stat.contains("(watchdog)") && (threads > 1 || !stat.contains(") Z "))
        };
        while lives() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// A world whose node was seen alive and is gone, without an agent.
fn bereft(consul: &Consul) -> World {
    let world = World::new(consul, &Plan::default());
    let (daemon, sessions) = healthy(&world);
    daemon.terminate();
    world.nobody();
    world.dies(&sessions[0]);
    world
}

fn said(world: &World) -> String {
    std::fs::read_to_string(world.path().join(OUT)).unwrap_or_default()
}

/// The most calls that one thread makes in a repair; strace counts for each thread.
fn count(consul: &Consul, calls: &str, tally: &Tally) -> usize {
    let world = bereft(consul);
    let mut traced = Traced::start(&world, None, calls);
    wait(
        || format!("a repair under strace: {}\n{}", world.asked(), said(&world)),
        || world.is_up_again(1).then_some(()),
    );
    if let Some(agent) = traced.agent() {
        kill_process(agent, Signal::TERM).unwrap();
    }
    wait(|| "the end under strace".to_string(), || traced.ended().then_some(()));
    let text = std::fs::read_to_string(world.path().join(LOG)).unwrap();
    let mut threads = std::collections::BTreeMap::<&str, usize>::new();
    for line in text.lines().filter(|line| line.contains('(') && !line.contains("resumed>")) {
        *threads.entry(line.split_whitespace().next().unwrap_or_default()).or_default() += 1;
    }
    come_back(&world, world.start(), tally);
    threads.into_values().max().unwrap_or_default()
}

fn die(consul: &Consul, death: Death, tally: &Tally) {
    let world = bereft(consul);
    let mut traced = Traced::start(&world, Some(death), death.calls);
    let mut is_dead = false;
    wait(
        || format!("{death:?}: {}\n{}", world.asked(), said(&world)),
        || {
            is_dead = traced.ended();
            // A thread that makes fewer calls than this never dies of it.
            (is_dead || world.is_up_again(1)).then_some(())
        },
    );
    drop(traced);
    tally.blows.fetch_add(usize::from(is_dead), std::sync::atomic::Ordering::Relaxed);
    come_back(&world, world.start(), tally);
}
