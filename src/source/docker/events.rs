//! Follows the engine's events in a thread of its own: wakes the loop early and keeps hints.
//!
//! Events are hints and nothing else (F32): the list of each look is the truth, so a stream that
//! ends, hangs or dies silently costs only time. What they add is who caused an end (a `kill`
//! came before the `die`, or none did) and starts after failures that the engine does not count. The same
//! thread rings the alarm when a grace runs out between two ticks. Hints are bounded by [`HINTS`].

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::docker::{Docker, Event, Next, Nudge};
use crate::clock::Clock;
use crate::core::time::Mono;
use crate::wake::{Wake, Waker};

/// Containers that hints are kept for at most; the one longest without news makes room.
pub const HINTS: usize = 512;
/// Starts after a failure remembered per container.
const CRASHES: usize = 32;
/// Removals remembered. One that was forgotten only takes longer to be believed when nothing is left.
const DESTROYED: usize = 1_024;
/// A stream that brought nothing for so long is opened anew.
const IDLE: Duration = Duration::from_mins(5);
/// Waits between attempts to open the stream: doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// What events told about one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hint {
    /// In this run somebody sent it a signal that may end it.
    pub killed: bool,
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
    touched: u64,
}

/// Hints for all containers.
#[derive(Debug, Default)]
pub struct Hints {
    by_id: BTreeMap<String, Hint>,
    /// The containers removed last, oldest first.
    destroyed: VecDeque<String>,
    count: u64,
}

impl Hints {
    /// Takes note of one event.
    pub fn note(&mut self, event: &Event, now: Mono) {
        let id = event.actor.id.as_str();
        if id.is_empty() || id.len() > 128 {
            return;
        }
        let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
        match event.action.as_str() {
            // SIGHUP asks to read the configuration again.
            "kill" if !matches!(attribute("signal"), Some("1" | "SIGHUP")) => self.of(id).killed = true,
            "oom" => self.of(id).oom_at = Some(now),
            "die" => {
                let hint = self.of(id);
                hint.died = true;
                hint.exit_code = attribute("exitCode").and_then(|code| code.parse().ok());
            }
            "start" => {
                let hint = self.of(id);
                if hint.died && !hint.killed && hint.exit_code != Some(0) {
                    if hint.crashes.len() >= CRASHES {
                        hint.crashes.pop_front();
                    }
                    hint.crashes.push_back(now);
                }
                (hint.killed, hint.died) = (false, false);
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
            tracing::warn!(%error, "no thread for Docker events; containers are looked at with every tick only");
        }
        listener
    }

    /// What events told about a container, and whether the stream is open now.
    pub fn hint(&self, id: &str) -> (Hint, bool) {
        let board = lock(&self.board);
        (board.hints.get(id), board.live)
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
                return tracing::warn!(%error, "no Docker events; containers are looked at with every tick only");
            }
        };
        let mut last = None;
        let mut pause = BACKOFF.0;
        while !lock(&self.board).over {
            let opened = Instant::now();
            let why = self.follow_once(&mut docker, &mut last);
            lock(&self.board).live = false;
            tracing::debug!(%why, "the stream of Docker events ended");
            pause = if opened.elapsed() > BACKOFF.1 { BACKOFF.0 } else { (pause * 2).min(BACKOFF.1) };
            self.rest(&docker, Instant::now() + pause);
        }
    }

    /// Follows one stream to its end and says why it ended.
    fn follow_once(&self, docker: &mut Docker, last: &mut Option<i64>) -> String {
        let since = last.map(|nanos| i64::saturating_add(nanos, 1));
        let mut stream = match docker.events(since, self.follow.timeout) {
            Ok(stream) => stream,
            Err(error) => return error.to_string(),
        };
        lock(&self.board).live = true;
        self.wake();
        let mut heard_at = Instant::now();
        loop {
            let stale_at = heard_at + IDLE;
            match stream.next(self.ring(stale_at), &self.nudge) {
                Next::Event(event) => {
                    heard_at = Instant::now();
                    if event.time_nano > 0 {
                        *last = Some(event.time_nano);
                    }
                    let now = self.follow.clock.now().mono;
                    lock(&self.board).hints.note(&event, now);
                    self.wake();
                }
                Next::Ended(why) => return why,
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
            hints.note(&event("a", action, attributes), Mono(i64::try_from(index).unwrap()));
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
    fn hints_are_bounded_and_the_longest_silent_makes_room() {
        let mut hints = Hints::default();
        for n in 0..HINTS * 3 {
            hints.note(&event("loud", "oom", &[]), Mono(i64::try_from(n).unwrap()));
            hints.note(&event(&format!("c{n}"), "die", &[]), Mono(0));
        }
        assert_eq!(hints.by_id.len(), HINTS);
        assert!(hints.get("loud").oom_at.is_some());
        hints.note(&event("loud", "destroy", &[]), Mono(0));
        assert_eq!(hints.get("loud"), Hint { destroyed: true, ..Hint::default() });
        (0..DESTROYED * 2).for_each(|n| hints.note(&event(&format!("d{n}"), "destroy", &[]), Mono(0)));
        assert_eq!(hints.destroyed.len(), DESTROYED);
        hints.note(&event(&"x".repeat(10_000), "die", &[]), Mono(0));
        hints.note(&Event::default(), Mono(0));
        assert_eq!(hints.by_id.len(), HINTS - 1);
    }
}
