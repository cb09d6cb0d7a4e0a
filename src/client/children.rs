//! The processes that we start, and those that fall to us: started in groups, killed in groups, reaped.
//!
//! Every command runs in a process group of its own and carries a mark in its environment, which its
//! descendants inherit. When a set of commands ends, its groups are killed, and whoever left them for a
//! session of its own is found by the mark in /proc and killed too. As process 1 of a container we are
//! also the parent of every orphan there: those are reaped, and never one of our own commands, whose exit
//! code somebody waits for. See `adr/0028-no-process-is-left-behind.md`.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid, waitpgid,
};

/// The variable that marks our commands and their descendants. Not named `WATCHDOG_…`: a command may itself
/// be a `watchdog`, which would take that for a setting.
pub const MARK: &str = "SIDECAR_WATCHDOG_RUN";

/// How often process 1 looks for orphans.
const SWEEP: Duration = Duration::from_millis(500);
/// Sweeps after which a dead child that nobody claims is an orphan although a command is just being started.
const UNCLAIMED: u32 = 20;
/// Between two looks for those that are still there.
const MOMENT: Duration = Duration::from_millis(5);
/// How long a set of commands that ends by itself looks for those that left their group.
const PURSUIT: Duration = Duration::from_secs(2);
/// Bytes of a process's environment that are searched for the mark.
const ENVIRONMENT: u64 = 1024 * 1024;

static ALL: Mutex<All> = Mutex::new(All { running: BTreeMap::new(), starting: 0, ending: false });
static CHANGED: Condvar = Condvar::new();
/// Something was started in this run: without that there is nobody to look for.
static STARTED: AtomicBool = AtomicBool::new(false);
static SETS: AtomicU64 = AtomicU64::new(0);
/// Different in each run, so that no other watchdog's commands are taken for ours.
static RUN: LazyLock<String> = LazyLock::new(|| {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
});

struct All {
    /// The leader of each group, until it is reaped.
    running: BTreeMap<i32, Stage>,
    /// Commands between the decision to start them and their entry in `running`.
    starting: usize,
    /// The program ends: nothing is started any more.
    ending: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its group belongs to this set.
    Alive(u64),
    /// It has been killed and is about to be reaped: its number may soon be another's.
    Dying,
}

fn all() -> MutexGuard<'static, All> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl All {
    fn kill(&self, wanted: impl Fn(u64) -> bool) {
        for (leader, stage) in &self.running {
            if let (Stage::Alive(set), Some(leader)) = (stage, Pid::from_raw(*leader))
                && wanted(*set)
            {
                let _ = kill_process_group(leader, Signal::KILL);
            }
        }
    }
}

/// A set of commands that end together; clones are the same set.
#[derive(Clone)]
pub struct Groups(Arc<Set>);

struct Set {
    id: u64,
    closed: AtomicBool,
}

impl Default for Groups {
    fn default() -> Self {
        Groups(Arc::new(Set { id: SETS.fetch_add(1, Ordering::SeqCst), closed: AtomicBool::new(false) }))
    }
}

impl Groups {
    /// True when nothing is started any more, and what ran was killed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst) || all().ending
    }

    /// Kills every running group, and whoever left one, and lets no new one begin. The threads that started
    /// them reap them. Takes two seconds at the very most.
    pub fn close(&self) {
        {
            let all = all();
            self.0.closed.store(true, Ordering::SeqCst);
            all.kill(|set| set == self.0.id);
        }
        pursue(&self.mark(), Instant::now() + PURSUIT);
    }

    /// Starts the command as the leader of a new group. Not under the lock: starting from a hung mount
    /// hangs. Who was closed meanwhile kills its group at once.
    ///
    /// # Errors
    /// What the system says, or that the program is ending.
    pub fn start(&self, command: &mut Command) -> io::Result<(Child, Pid)> {
        {
            let mut all = all();
            if all.ending || self.0.closed.load(Ordering::SeqCst) {
                return Err(io::Error::other("the program is ending"));
            }
            all.starting += 1;
            STARTED.store(true, Ordering::SeqCst);
        }
        let outcome = command.env(MARK, self.mark()).process_group(0).spawn();
        let mut all = all();
        all.starting = all.starting.saturating_sub(1);
        let outcome = outcome.map(|child| {
            let leader = Pid::from_child(&child);
            if all.ending || self.0.closed.load(Ordering::SeqCst) {
                let _ = kill_process_group(leader, Signal::KILL);
            }
            all.running.insert(leader.as_raw_nonzero().get(), Stage::Alive(self.0.id));
            (child, leader)
        });
        drop(all);
        CHANGED.notify_all();
        outcome
    }

    /// Kills what is left of the group and reaps its leader. The leader is reaped last: until then its
    /// number cannot belong to anybody else.
    ///
    /// # Errors
    /// What the system says when the exit code cannot be had.
    pub fn end(&self, child: &mut Child, leader: Pid) -> io::Result<ExitStatus> {
        let number = leader.as_raw_nonzero().get();
        let _ = kill_process_group(leader, Signal::KILL);
        // Waits for the leader to end and leaves it there, so that no other group can take its number.
        let _ = waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        all().running.insert(number, Stage::Dying);
        let status = child.wait();
        all().running.remove(&number);
        // Orphans of the group are ours only when we are process 1 or a subreaper; they are dying.
        for _ in 0..100 {
            match waitpgid(leader, WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => thread::sleep(Duration::from_millis(1)),
                Err(_) => break,
            }
        }
        status
    }

    fn mark(&self) -> String {
        format!("{}.{}.", *RUN, self.0.id)
    }
}

/// The program ends: kills everything that any command has left, and lets nothing new begin. Waits until it
/// is gone, or until `by`. Costs nothing when no command was ever started.
pub fn end_all(by: Instant) {
    {
        let mut all = all();
        all.ending = true;
        all.kill(|_| true);
        // A command that is just being started is killed by the thread that starts it, if that lives to do it.
        while all.starting > 0 {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            all = CHANGED.wait_timeout(all, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        all.kill(|_| true);
    }
    pursue(&RUN, by);
}

/// Kills every process that carries a mark beginning with `mark`, until none is left or `by` has come. One
/// that forks while we look is found in the next round.
fn pursue(mark: &str, by: Instant) {
    if !STARTED.load(Ordering::SeqCst) {
        return;
    }
    let wanted = format!("{MARK}={mark}").into_bytes();
    while kill_marked(&wanted) > 0 && Instant::now() < by {
        thread::sleep(MOMENT);
    }
}

/// One round through /proc; how many were found.
fn kill_marked(wanted: &[u8]) -> usize {
    let own = getpid();
    let marked = |number: &Pid| {
        // Held before it is looked at: the signal then reaches the process that was seen, or nobody.
        let Ok(process) = pidfd_open(*number, PidfdFlags::empty()) else { return false };
        is_marked(*number, wanted) && pidfd_send_signal(process, Signal::KILL).is_ok()
    };
    processes().filter(|number| *number != own).filter(marked).count()
}

/// True when the environment that the process was started with holds the mark. Another user's cannot be
/// read, and a dead one's is empty.
fn is_marked(number: Pid, wanted: &[u8]) -> bool {
    let Ok(file) = File::open(format!("/proc/{}/environ", number.as_raw_nonzero())) else { return false };
    let mut environment = Vec::new();
    // What was read before an error counts.
    let _ = file.take(ENVIRONMENT).read_to_end(&mut environment);
    environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(wanted))
}

/// The numbers of all processes that can be seen.
fn processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// Reaps orphans for as long as the program lives, if it is process 1 and so inherits them. True when it is.
///
/// # Errors
/// When no thread can be started.
pub fn reap_orphans() -> io::Result<bool> {
    if !getpid().is_init() {
        return Ok(false);
    }
    thread::Builder::new().name("orphans".to_string()).stack_size(128 * 1024).spawn(|| {
        let mut unclaimed = BTreeMap::new();
        loop {
            sweep(&mut unclaimed);
            thread::sleep(SWEEP);
        }
    })?;
    Ok(true)
}

/// Reaps every dead child that no command of ours is. `unclaimed` counts how often one was seen.
fn sweep(unclaimed: &mut BTreeMap<i32, u32>) {
    let someone = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);
    if !matches!(someone, Ok(Some(_))) {
        unclaimed.clear();
        return;
    }
    let own = getpid();
    let dead: Vec<Pid> = processes().filter(|number| is_dead_child(*number, own)).collect();
    unclaimed.retain(|number, _| dead.iter().any(|dead| dead.as_raw_nonzero().get() == *number));
    for number in dead {
        let raw = number.as_raw_nonzero().get();
        let all = all();
        if all.running.contains_key(&raw) {
            continue;
        }
        // A command that ended at once is not entered yet. Its entry is a moment away, unless starting
        // another one hangs.
        let seen = unclaimed.entry(raw).or_default();
        *seen += 1;
        if all.starting == 0 || *seen > UNCLAIMED {
            // Under the lock: no command of ours can take the number before it is free.
            let _ = waitid(WaitId::Pid(number), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            unclaimed.remove(&raw);
        }
    }
}

/// True when `number` is a child of `parent` that has ended and waits to be reaped.
fn is_dead_child(number: Pid, parent: Pid) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", number.as_raw_nonzero())) else { return false };
    // The name in parentheses may hold anything, also parentheses.
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut words = rest.split_whitespace();
    let (state, of) = (words.next(), words.next().and_then(|word| word.parse().ok()));
    state == Some("Z") && of == Some(parent.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    /// True while the process runs; a dead one that nobody reaped does not.
    fn lives(number: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{number}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn number_in(path: &std::path::Path) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if let Some(number) = text.strip_suffix('\n').and_then(|text| text.parse().ok()) {
                return number;
            }
            assert!(Instant::now() < deadline, "no number in {}", path.display());
            thread::sleep(MOMENT);
        }
    }

    #[test]
    fn closing_a_set_kills_also_who_left_its_group_and_spares_other_sets() {
        let dir = tempfile::tempdir().unwrap();
        let script = "setsid sh -c 'echo $$ >\"$0\"; exec sleep 300' \"$0\" & exec sleep 300";
        let begin = |groups: &Groups, name: &str| {
            let path = dir.path().join(name);
            let mut command = Command::new("sh");
            command.args(["-c", script]).arg(&path).stdin(Stdio::null());
            let started = groups.start(&mut command).unwrap();
            (started, number_in(&path))
        };
        let (one, other) = (Groups::default(), Groups::default());
        let ((mut child, leader), escaped) = begin(&one, "one");
        let ((mut spared, other_leader), elsewhere) = begin(&other, "other");
        assert!(lives(escaped));
        one.close();
        let status = one.end(&mut child, leader).unwrap();
        assert!(!status.success() && !lives(escaped), "{status}");
        assert!(one.is_closed() && one.start(&mut Command::new("true")).is_err());
        assert!(!other.is_closed() && lives(elsewhere));
        other.close();
        other.end(&mut spared, other_leader).unwrap();
        assert!(!lives(elsewhere));
    }

    #[test]
    fn only_a_dead_child_of_the_right_parent_is_one() {
        let mut child = Command::new("true").spawn().unwrap();
        let number = Pid::from_child(&child);
        let _ = waitid(WaitId::Pid(number), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        assert!(is_dead_child(number, getpid()));
        assert!(!is_dead_child(number, Pid::INIT) && !is_dead_child(getpid(), getpid()));
        child.wait().unwrap();
        assert!(!is_dead_child(number, getpid()));
    }
}
