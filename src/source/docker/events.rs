//! Follows the engine's events in a thread of its own: wakes the loop early and keeps hints.
//!
//! Events are hints and nothing else (F32): the list of each look is the truth, so a stream that
//! ends, hangs or dies silently costs only time. What they add is who caused an end (a `kill`
//! came shortly before the `die`, or a `stop` came after it, or neither did) and starts after failures that the
//! engine does not count. The last hour of events is asked for at the start, for who did what before. An engine that
//! ends stops its containers as a command would: one that does not remember what it told last is another one. The same
//! thread rings the alarm when a grace runs out between two ticks. Hints are bounded by [`HINTS`].

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::select::LABELS;
use crate::client::docker::{Docker, Event, Listed, Next, Nudge};
use crate::clock::Clock;
use crate::core::time::{Mono, Wall};
use crate::pace::Pace;
use crate::wake::{Wake, Waker};

/// Containers that hints are kept for at most; the one longest without news makes room.
pub const HINTS: usize = 512;
/// Starts after a failure remembered per container.
const CRASHES: usize = 32;
/// Removals remembered. One that was forgotten only takes longer to be believed when nothing is left.
const DESTROYED: usize = 1_024;
/// A stream that brought nothing for so long is opened anew.
const IDLE: Duration = Duration::from_mins(5);
/// Waits between attempts to open the stream, doubling from the first to the last; the pace of one engine.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// An engine that ends stops its containers within this time, in nanoseconds, and says nothing more after that.
const WITH_ENGINE: i64 = 60_000_000_000;
/// A stream that breaks this soon after its last event may have ended with the engine.
const BREAKS: Duration = Duration::from_secs(30);
/// An engine that remembers an event tells it again within this time.
const REMEMBERS: Duration = Duration::from_secs(2);

/// How far back events are asked for at the start, in nanoseconds.
const BEFORE: i64 = 3_600_000_000_000;

/// Ends with an error that nobody has asked for yet, kept at most.
pub const ENDS: usize = 256;

/// A container that ended with an error, and that nobody ended from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What the event says of it: id, name, the labels that choose.
    pub listed: Listed,
    /// Its exit code, not 0.
    pub exit_code: i64,
    /// A process in it was killed for memory.
    pub oom: bool,
}

/// A signal by a command, of which an end may come: `docker stop` sends the second one after its time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    /// When, in nanoseconds by the engine's clock.
    nanos: i64,
    /// Its number.
    signal: i64,
    /// A process in it was killed for memory since then.
    doubted: bool,
}

/// Signals that are meant to end whatever gets them.
const ENDING: [i64; 5] = [2, 3, 6, 9, 15];
/// An end this long after such a signal came of it.
const CAUSED_WITHIN: i64 = 60_000_000_000;

impl Asked {
    /// True when an end with this exit code at this instant came of it.
    fn caused(self, exit_code: i64, nanos: i64) -> bool {
        let in_time = (0..=CAUSED_WITHIN).contains(&nanos.saturating_sub(self.nanos));
        let ends = ENDING.contains(&self.signal) || exit_code == 128 + self.signal;
        in_time && ends && !self.doubted
    }
}

/// What events told about one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hint {
    /// A command ended this run.
    pub killed: bool,
    /// A command sent it a signal in this run.
    asked: Option<Asked>,
    /// This run ended.
    pub died: bool,
    /// The exit code of the last end.
    pub exit_code: Option<i64>,
    /// The last time that a process in it was killed for memory.
    pub oom_at: Option<Mono>,
    /// Starts that followed an end by itself with a code that is not 0, oldest first.
    pub crashes: VecDeque<Mono>,
    /// It was removed.
    pub destroyed: bool,
    /// The engine itself ended and took it along.
    pub with_engine: bool,
    /// When it ended, in nanoseconds by the engine's clock.
    died_nanos: i64,
    touched: u64,
}

/// Hints for all containers.
#[derive(Debug, Default)]
pub struct Hints {
    by_id: BTreeMap<String, Hint>,
    /// The containers removed last, oldest first.
    destroyed: VecDeque<String>,
    count: u64,
    ended: Vec<Ended>,
    /// How many more ended than [`ENDS`].
    lost: u64,
}

impl Hint {
    /// It ended after a signal by a command, and whether it ended because of it the engine has not said yet.
    pub fn is_open(&self) -> bool {
        self.died && !self.killed && self.asked.is_some()
    }
}

impl Hints {
    /// Takes note of one event that happened at `now`. Of what is `old`, before anybody here looked, only who did
    /// it is news: crashes and ends were counted by whoever looked then.
    pub fn note(&mut self, event: &Event, now: Mono, old: bool) {
        let id = event.actor.id.as_str();
        if id.is_empty() || id.len() > 128 {
            return;
        }
        let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
        match event.action.as_str() {
            "kill" => {
                let asked = Asked { nanos: event.time_nano, signal: signal(attribute("signal")), doubted: false };
                let hint = self.of(id);
                // What asks to read the configuration again does not take back what asks to end.
                if ENDING.contains(&asked.signal) || !hint.asked.is_some_and(|one| ENDING.contains(&one.signal)) {
                    hint.asked = Some(asked);
                }
            }
            "oom" => {
                let hint = self.of(id);
                hint.oom_at = Some(now);
                hint.asked = hint.asked.map(|asked| Asked { doubted: true, ..asked });
            }
            // Comes after the end, and only of a command.
            "stop" => self.of(id).killed = true,
            "die" => {
                let hint = self.of(id);
                (hint.died, hint.with_engine, hint.died_nanos) = (true, false, event.time_nano);
                hint.exit_code = attribute("exitCode").and_then(|code| code.parse().ok());
                let code = hint.exit_code.unwrap_or(0);
                hint.killed |= hint.asked.is_some_and(|asked| asked.caused(code, event.time_nano));
                let (by_somebody, oom) = (hint.killed || hint.is_open(), hint.oom_at.is_some());
                if old {
                    return;
                }
                if code != 0 && !by_somebody && self.ended.len() < ENDS {
                    self.ended.push(Ended { listed: listed(event), exit_code: code, oom });
                } else if code != 0 && !by_somebody {
                    self.lost = self.lost.saturating_add(1);
                }
            }
            "start" => {
                let hint = self.of(id);
                if hint.died && !hint.killed && hint.exit_code != Some(0) && !old {
                    if hint.crashes.len() >= CRASHES {
                        hint.crashes.pop_front();
                    }
                    hint.crashes.push_back(now);
                }
                (hint.killed, hint.died, hint.asked, hint.with_engine) = (false, false, None, false);
            }
            "destroy" => {
                self.by_id.remove(id);
                if self.destroyed.len() >= DESTROYED {
                    self.destroyed.pop_front();
                }
                self.destroyed.push_back(id.to_string());
            }
            _ => {}
        }
    }

    /// The engine that told its last event at `last` is gone, and another is there: what it stopped at its end was no
    /// command's doing.
    pub fn engine_is_new(&mut self, last: i64) {
        for hint in self.by_id.values_mut() {
            let at_its_end = (0..=WITH_ENGINE).contains(&last.saturating_sub(hint.died_nanos));
            if hint.killed && hint.died && at_its_end {
                (hint.killed, hint.asked, hint.with_engine) = (false, None, true);
            }
        }
    }

    /// What is known about a container; nothing when no event spoke of it.
    pub fn get(&self, id: &str) -> Hint {
        let destroyed = self.destroyed.iter().any(|gone| gone == id);
        Hint { destroyed, ..self.by_id.get(id).cloned().unwrap_or_default() }
    }

    fn of(&mut self, id: &str) -> &mut Hint {
        if !self.by_id.contains_key(id) && self.by_id.len() >= HINTS {
            let oldest = self.by_id.iter().min_by_key(|(_, hint)| hint.touched).map(|(id, _)| id.clone());
            self.by_id.remove(&oldest.unwrap_or_default());
        }
        self.count = self.count.saturating_add(1);
        let hint = self.by_id.entry(id.to_string()).or_default();
        hint.touched = self.count;
        hint
    }
}

/// The number of a signal, which engines write as a number or as a name.
fn signal(written: Option<&str>) -> i64 {
    const NAMES: [(&str, i64); 8] =
        [("HUP", 1), ("INT", 2), ("QUIT", 3), ("ABRT", 6), ("KILL", 9), ("USR1", 10), ("USR2", 12), ("TERM", 15)];
    let written = written.unwrap_or_default();
    let name = written.strip_prefix("SIG").unwrap_or(written);
    let named = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    named.or_else(|| written.parse().ok()).unwrap_or(0)
}

/// The container of an event, as a list would show it.
fn listed(event: &Event) -> Listed {
    let attributes = &event.actor.attributes;
    let label = |name: &&str| attributes.get(*name).map(|value| ((*name).to_string(), value.clone()));
    Listed {
        id: event.actor.id.clone(),
        names: attributes.get("name").map(|name| format!("/{name}")).into_iter().collect(),
        labels: LABELS.iter().filter_map(label).collect(),
        ..Listed::default()
    }
}

#[derive(Default)]
struct Board {
    hints: Hints,
    alarm: Option<Instant>,
    live: bool,
    over: bool,
}

/// The looking side's hold on the listening thread. Dropping it ends the thread.
#[derive(Default)]
pub struct Listener {
    board: Arc<Mutex<Board>>,
    nudge: Nudge,
}

/// What the thread needs.
pub struct Follow {
    /// The engine's socket.
    pub socket: PathBuf,
    /// Limit for opening the stream.
    pub timeout: Duration,
    /// Dates the hints.
    pub clock: Clock,
    /// Rung at each event, after each connect and at the alarm.
    pub waker: Waker,
    /// The source to be asked.
    pub source: Arc<str>,
}

impl Listener {
    /// Starts the thread. Where none can be started there are no hints, and looks go by the tick.
    pub fn start(follow: Follow) -> Listener {
        let listener = Listener::default();
        let (board, nudge) = (Arc::clone(&listener.board), listener.nudge.clone());
        let spawned = thread::Builder::new()
            .name("docker-events".to_string())
            .stack_size(256 * 1024)
            .spawn(move || Thread { follow, board, nudge }.run());
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for Docker events; containers are checked on every tick only");
        }
        listener
    }

    /// What events told about a container, and whether the stream is open now.
    pub fn hint(&self, id: &str) -> (Hint, bool) {
        let board = lock(&self.board);
        (board.hints.get(id), board.live)
    }

    /// The ends with an error since this was asked last, and how many more there were.
    pub fn ended(&self) -> (Vec<Ended>, u64) {
        let mut board = lock(&self.board);
        (std::mem::take(&mut board.hints.ended), std::mem::take(&mut board.hints.lost))
    }

    /// Asks to be woken at `at`, instead of at any instant given before; `None` for never.
    pub fn alarm(&self, at: Option<Instant>) {
        lock(&self.board).alarm = at;
        self.nudge.give();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.board).over = true;
        self.nudge.give();
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was heard so far, over all streams.
struct Heard {
    /// The last event, in nanoseconds by the engine's clock.
    last: i64,
    /// The same, while it is not known whether the engine that told it is still the one that is asked.
    doubt: Option<i64>,
}

struct Thread {
    follow: Follow,
    board: Arc<Mutex<Board>>,
    nudge: Nudge,
}

impl Thread {
    fn run(self) {
        let mut docker = match Docker::new(&self.follow.socket) {
            Ok(docker) => docker,
            Err(error) => {
                return tracing::warn!(%error, "no Docker events; containers are checked on every tick only");
            }
        };
        let began = self.follow.clock.now().wall.0.saturating_mul(1_000_000);
        let mut heard = Heard { last: began.saturating_sub(BEFORE), doubt: None };
        let pace = Pace::of(&format!("docker {}", self.follow.socket.display()), BACKOFF);
        self.rest(&docker, Instant::now() + pace.left());
        while !lock(&self.board).over {
            let opened = Instant::now();
            let why = self.follow_once(&mut docker, &mut heard, began);
            let over = {
                let mut board = lock(&self.board);
                board.live = false;
                board.over
            };
            tracing::debug!(%why, "the stream of Docker events ended");
            if opened.elapsed() > BACKOFF.1 {
                pace.worked();
            }
            // That nobody listens any more is no failure of the engine.
            if !over {
                self.rest(&docker, Instant::now() + pace.failed(Duration::ZERO, &why));
            }
        }
    }

    /// Follows one stream to its end and says why it ended.
    fn follow_once(&self, docker: &mut Docker, heard: &mut Heard, began: i64) -> String {
        let since = heard.doubt.unwrap_or(heard.last.saturating_add(1));
        let mut stream = match docker.events(Some(since), self.follow.timeout) {
            Ok(stream) => stream,
            Err(error) => return error.to_string(),
        };
        lock(&self.board).live = true;
        self.wake();
        let (opened, mut heard_at) = (Instant::now(), Instant::now());
        loop {
            let stale_at = heard_at + IDLE;
            let until = if heard.doubt.is_some() { stale_at.min(opened + REMEMBERS) } else { stale_at };
            let next = stream.next(self.ring(until), &self.nudge);
            let is_known = matches!(&next, Next::Event(event) if Some(event.time_nano) == heard.doubt);
            let is_early = matches!(next, Next::Nothing) && opened.elapsed() < REMEMBERS;
            if let Some(last) = heard.doubt.take_if(|_| !is_early && !matches!(next, Next::Ended(_)))
                && !is_known
            {
                lock(&self.board).hints.engine_is_new(last);
                self.wake();
            }
            match next {
                // It was noted when it came for the first time.
                Next::Event(_) if is_known => heard_at = Instant::now(),
                Next::Event(event) => {
                    heard_at = Instant::now();
                    if event.time_nano > 0 {
                        heard.last = event.time_nano;
                    }
                    let now = self.follow.clock.now();
                    let old = (1..began).contains(&event.time_nano);
                    let ago = now.wall.since(Wall(event.time_nano / 1_000_000));
                    let at = if old { now.mono.minus(ago) } else { now.mono };
                    lock(&self.board).hints.note(&event, at, old);
                    self.wake();
                }
                Next::Ended(why) => {
                    let broke = heard_at.elapsed() < BREAKS && heard.last > began;
                    heard.doubt = heard.doubt.or(broke.then_some(heard.last));
                    return why;
                }
                Next::Nothing if lock(&self.board).over => return "nobody listens any more".to_string(),
                Next::Nothing if Instant::now() >= stale_at => return format!("silent for {IDLE:?}"),
                Next::Nothing => {}
            }
        }
    }

    /// Waits without a stream; alarms ring all the same.
    fn rest(&self, docker: &Docker, until: Instant) {
        while Instant::now() < until && !lock(&self.board).over {
            docker.idle(self.ring(until), &self.nudge);
        }
        let _ = self.ring(until);
    }

    /// Rings if the alarm is due, and says how long to wait: to the next alarm or to `until`.
    fn ring(&self, until: Instant) -> Instant {
        let mut board = lock(&self.board);
        match board.alarm {
            Some(at) if at <= Instant::now() => {
                board.alarm = None;
                drop(board);
                self.wake();
                until
            }
            Some(at) => at.min(until),
            None => until,
        }
    }

    fn wake(&self) {
        self.follow.waker.wake(Wake::Look(Arc::clone(&self.follow.source)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::docker::Actor;

    fn event(id: &str, action: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        Event { action: action.to_string(), actor: Actor { id: id.to_string(), attributes }, time_nano: 1 }
    }

    fn told(events: &[(&str, &[(&str, &str)])]) -> Hint {
        let mut hints = Hints::default();
        for (index, (action, attributes)) in events.iter().enumerate() {
            hints.note(&event("a", action, attributes), Mono(i64::try_from(index).unwrap()), false);
        }
        hints.get("a")
    }

    #[test]
    fn a_kill_before_the_end_means_that_somebody_did_it() {
        let stopped = told(&[("kill", &[("signal", "15")]), ("die", &[("exitCode", "143")])]);
        assert!(stopped.killed && stopped.died && stopped.exit_code == Some(143));
        let crashed = told(&[("die", &[("exitCode", "1")])]);
        assert!(!crashed.killed && crashed.died);
        let reloaded = told(&[("kill", &[("signal", "1")]), ("die", &[("exitCode", "1")])]);
        assert!(!reloaded.killed, "SIGHUP ends nothing");
        let restarted = told(&[("kill", &[("signal", "9")]), ("die", &[("exitCode", "137")]), ("start", &[])]);
        assert!(!restarted.killed && !restarted.died && restarted.crashes.is_empty());
        let ended_a_loop = told(&[("die", &[("exitCode", "3")]), ("stop", &[])]);
        assert!(ended_a_loop.killed, "docker stop sends no signal to what waits for its next start");
        let by_its_signal = told(&[("kill", &[("signal", "SIGUSR1")]), ("die", &[("exitCode", "138")])]);
        assert!(by_its_signal.killed, "the exit code says that the signal ended it");
    }

    #[test]
    fn a_signal_of_long_ago_or_a_kill_for_memory_leaves_it_open_until_the_engine_says_stop() {
        let at = |action: &str, attributes: &[(&str, &str)], second: i64| Event {
            time_nano: second * 1_000_000_000,
            ..event("a", action, attributes)
        };
        let (kill, die) = (("signal", "15"), ("exitCode", "1"));
        let mut hints = Hints::default();
        hints.note(&at("kill", &[kill], 100), Mono(0), false);
        hints.note(&at("die", &[die], 200), Mono(1), false);
        assert!(hints.get("a").is_open() && !hints.get("a").killed && hints.ended.is_empty());
        hints.note(&at("stop", &[], 200), Mono(2), false);
        assert!(hints.get("a").killed && !hints.get("a").is_open());
        let mut memory = Hints::default();
        memory.note(&at("kill", &[kill], 100), Mono(0), false);
        memory.note(&at("oom", &[], 101), Mono(0), false);
        memory.note(&at("die", &[("exitCode", "137")], 102), Mono(1), false);
        assert!(memory.get("a").is_open(), "killed for memory after a signal that it did not obey");
        // What was before anybody looked tells who did it, and counts nothing.
        let mut old = Hints::default();
        old.note(&at("die", &[die], 100), Mono(0), true);
        old.note(&at("start", &[], 101), Mono(0), true);
        old.note(&at("kill", &[kill], 102), Mono(0), true);
        old.note(&at("die", &[("exitCode", "143")], 103), Mono(0), true);
        assert!(old.get("a").killed && old.get("a").crashes.is_empty() && old.ended.is_empty());
    }

    #[test]
    fn what_the_engine_stopped_at_its_own_end_no_command_stopped() {
        let at = |id: &str, action: &str, second: i64| Event {
            time_nano: second * 1_000_000_000,
            ..event(id, action, &[("signal", "15"), ("exitCode", "143")])
        };
        let mut hints = Hints::default();
        for (id, second) in [("before", 100), ("with", 400)] {
            for action in ["kill", "die", "stop"] {
                hints.note(&at(id, action, second), Mono(0), false);
            }
        }
        hints.engine_is_new(400_000_000_000);
        assert!(hints.get("before").killed && !hints.get("before").with_engine, "five minutes before");
        let with = hints.get("with");
        assert!(!with.killed && with.with_engine && with.died && !with.is_open());
        hints.note(&at("with", "start", 500), Mono(0), false);
        assert!(!hints.get("with").with_engine);
    }

    #[test]
    fn only_starts_after_a_failure_by_itself_count_as_crashes() {
        let crash: [(&str, &[(&str, &str)]); 2] = [("die", &[("exitCode", "1")]), ("start", &[])];
        assert_eq!(told(&crash).crashes, [Mono(1)]);
        assert_eq!(told(&[("die", &[("exitCode", "0")]), ("start", &[])]).crashes.len(), 0);
        assert_eq!(told(&[("start", &[]), ("start", &[])]).crashes.len(), 0);
        assert_eq!(told(&crash.repeat(100)).crashes.len(), CRASHES);
    }

    #[test]
    fn ends_with_an_error_are_kept_with_what_chooses_them_and_counted_beyond_a_bound() {
        let mut hints = Hints::default();
        let labels = [("name", "shop-web-run-1"), ("exitCode", "3"), ("com.docker.compose.oneoff", "True"), ("x", "y")];
        hints.note(&event("a", "die", &labels), Mono(0), false);
        hints.note(&event("b", "die", &[("exitCode", "0")]), Mono(0), false);
        hints.note(&event("c", "kill", &[("signal", "15")]), Mono(0), false);
        hints.note(&event("c", "die", &[("exitCode", "143")]), Mono(0), false);
        hints.note(&event("d", "die", &[]), Mono(0), false);
        let [ended] = hints.ended.as_slice() else { panic!("{:?}", hints.ended) };
        assert_eq!(
            (ended.exit_code, ended.oom, ended.listed.names.as_slice()),
            (3, false, &["/shop-web-run-1".into()][..])
        );
        assert_eq!(ended.listed.labels.len(), 1, "only labels that choose: {:?}", ended.listed);
        hints.note(&event("e", "oom", &[]), Mono(0), false);
        for _ in 0..ENDS + 4 {
            hints.note(&event("e", "die", &[("exitCode", "137")]), Mono(0), false);
        }
        assert!(hints.ended[1].oom);
        assert_eq!((hints.ended.len(), hints.lost), (ENDS, 5));
    }

    #[test]
    fn hints_are_bounded_and_the_longest_silent_makes_room() {
        let mut hints = Hints::default();
        for n in 0..HINTS * 3 {
            hints.note(&event("loud", "oom", &[]), Mono(i64::try_from(n).unwrap()), false);
            hints.note(&event(&format!("c{n}"), "die", &[]), Mono(0), false);
        }
        assert_eq!(hints.by_id.len(), HINTS);
        assert!(hints.get("loud").oom_at.is_some());
        hints.note(&event("loud", "destroy", &[]), Mono(0), false);
        assert_eq!(hints.get("loud"), Hint { destroyed: true, ..Hint::default() });
        (0..DESTROYED * 2).for_each(|n| hints.note(&event(&format!("d{n}"), "destroy", &[]), Mono(0), false));
        assert_eq!(hints.destroyed.len(), DESTROYED);
        hints.note(&event(&"x".repeat(10_000), "die", &[]), Mono(0), false);
        hints.note(&Event::default(), Mono(0), false);
        assert_eq!(hints.by_id.len(), HINTS - 1);
    }
}
