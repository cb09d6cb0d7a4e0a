//! One writer at a time: among several agents, whoever holds a lock in Consul may take machines down.
//!
//! The lock is held as a node's key is ([`core::beacon`](crate::core::beacon)): a session, renewed, whose
//! own clock ends it before Consul does. It is an optimisation, never the fence (T23): each request
//! carries the version of the machine that it was decided on. Before it counts as held, what agents before
//! us wrote down and did not finish has been read. Without Consul the lock on the state file is what
//! keeps a second writer away. See `adr/0024-lease-and-notes.md`.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::beacon::caller::{Caller, Ended, Work};
use crate::client::consul::{Consul, ConsulError, How};
use crate::clock::{self, Clock};
use crate::core::beacon::{Beacon, Heartbeat, Policy, State, Why};
use crate::core::recovery::kind::on_disk;
use crate::core::recovery::plan::Note;
use crate::core::time::Mono;
use crate::wake::{Wake, Waker};

/// How long the end may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// The loop looks at least this often.
const LOOK: Duration = Duration::from_secs(5);
/// Notes read at most.
const NOTES: usize = 10_000;
/// While there are notes they are read again after this many lives of the lease: somebody may have removed one.
const NOTES_AGAIN: u32 = 4;

/// The lease of this agent. Cheap to clone.
#[derive(Clone)]
pub struct Lease {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// The lock on the state file is all there is.
    Local,
    /// A lock in Consul.
    Consul(Arc<Held>),
}

struct Held {
    consul: Consul,
    base: String,
    agent: String,
    clock: Clock,
    state: Mutex<Shown>,
    /// Rings the thread.
    waker: Waker,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shown {
    /// Held until this instant, unless renewed; `None` while it is not held.
    until: Option<Mono>,
    /// Notes as they were read last; none while it is not held.
    notes: Arc<Vec<Note>>,
    /// Those of them that are not known.
    unknown: Unknown,
    /// Consul answered the last call.
    connected: bool,
}

/// Notes of agents that are there and are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unknown {
    /// Beyond as many as are read.
    pub left_out: usize,
    /// In no form that we can read.
    pub unreadable: usize,
}

impl Unknown {
    /// In words; `None` when every note is known.
    pub fn words(self) -> Option<String> {
        let count = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            n => Some(format!("{n} {what}")),
        };
        let left_out = count(self.left_out, &format!("beyond the {NOTES} that are read"));
        let unreadable = count(self.unreadable, "in a form that cannot be read");
        let both: Vec<String> = left_out.into_iter().chain(unreadable).collect();
        (!both.is_empty()).then(|| {
            format!(
                "not all notes of other agents about their repairs are known: {}; a machine that one of them left off \
                 would not be started: look at the keys below <recovery.lease>/repairs in Consul, and remove those of \
                 repairs that are over",
                both.join(", ")
            )
        })
    }
}

/// What a lease in Consul needs.
pub struct Terms {
    /// Consul, with the limit of a call.
    pub consul: Consul,
    /// Its keys are below this.
    pub base: String,
    /// The name of this agent.
    pub agent: String,
    /// Life of the lease without a renewal.
    pub ttl: Duration,
}

impl Lease {
    /// The lock on the state file is all there is.
    pub fn local() -> Lease {
        Lease { kind: Kind::Local }
    }

    /// Starts to take, and to keep, the lock in Consul; `news` is rung when it is won or lost.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(terms: Terms, clock: &Clock, news: &Waker) -> std::io::Result<Lease> {
        let held = Arc::new(Held {
            // A call must not outlast what is left of the lease when it is made.
            consul: terms.consul.with_timeout(terms.consul.timeout().min(terms.ttl / 3)),
            base: terms.base,
            agent: terms.agent,
            clock: clock.clone(),
            state: Mutex::default(),
            waker: Waker::new(),
            thread: Mutex::default(),
        });
        let keeper = Keeper::new(Arc::clone(&held), terms.ttl, news.clone())?;
        let thread = thread::Builder::new().name("lease".to_string()).spawn(move || keeper.run())?;
        *held.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Lease { kind: Kind::Consul(held) })
    }

    /// True while nobody else can hold it. Asked immediately before each request that takes a machine down.
    pub fn holds(&self) -> bool {
        match &self.kind {
            Kind::Local => true,
            Kind::Consul(held) => held.shown().until.is_some_and(|until| held.clock.now().mono < until),
        }
    }

    /// True when Consul answered the last call about the lease; `None` without Consul.
    pub fn connected(&self) -> Option<bool> {
        match &self.kind {
            Kind::Local => None,
            Kind::Consul(held) => Some(held.shown().connected),
        }
    }

    /// What agents wrote down and is still there, as it was read last while the lease was held.
    pub fn notes(&self) -> Arc<Vec<Note>> {
        match &self.kind {
            Kind::Local => Arc::default(),
            Kind::Consul(held) => Arc::clone(&held.shown().notes),
        }
    }

    /// Notes that are there and are not known, as of the last reading.
    pub fn unknown_notes(&self) -> Unknown {
        match &self.kind {
            Kind::Local => Unknown::default(),
            Kind::Consul(held) => held.shown().unknown,
        }
    }

    /// Writes down what is about to be asked, for an agent after us.
    ///
    /// # Errors
    /// When it is not written; then nothing may be asked.
    pub fn note(&self, note: &Note) -> Result<(), String> {
        let Kind::Consul(held) = &self.kind else { return Ok(()) };
        let note = Note { agent: held.agent.clone(), ..note.clone() };
        let body = serde_json::to_vec(&note).map_err(|error| error.to_string())?;
        match held.consul.put(&held.note_key(&note.target, &note.saga), &body, How::Plain) {
            Ok(true) => Ok(()),
            Ok(false) => Err("Consul did not take the note for other agents".to_string()),
            Err(error) => Err(format!("cannot write the note for other agents: {error}")),
        }
    }

    /// Removes what was written down about a repair that is over.
    pub fn forget(&self, target: &str, saga: &str) {
        let Kind::Consul(held) = &self.kind else { return };
        if let Err(error) = held.consul.delete(&held.note_key(target, saga), None) {
            warn!("the note about {target} stays in Consul: {error}");
        }
    }

    /// Gives the lease back; waits for that until `by`, and for two seconds at most.
    pub fn stop(&self, by: Instant) {
        let Kind::Consul(held) = &self.kind else { return };
        held.waker.wake(Wake::Shutdown);
        let by = by.min(Instant::now() + FAREWELL);
        let Some(thread) = held.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        while !thread.is_finished() && Instant::now() < by {
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Held {
    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for each repair: the end of one must not take the note of another along.
    fn note_key(&self, target: &str, saga: &str) -> String {
        format!("{}/repairs/{}/{saga}", self.base, on_disk(target))
    }

    fn notes(&self) -> Result<(Vec<Note>, Unknown), ConsulError> {
        let listing = self.consul.prefix(&format!("{}/repairs", self.base), None, None, true)?;
        let entries = listing.entries()?;
        // A key that ends like a folder is one: Consul's own page makes them.
        let notes = entries.iter().filter(|entry| !entry.key().ends_with('/'));
        Ok(read(notes.map(|entry| entry.value().ok())))
    }
}

/// The notes that these values are; at most [`NOTES`].
fn read(values: impl Iterator<Item = Option<Vec<u8>>>) -> (Vec<Note>, Unknown) {
    let (mut notes, mut unknown) = (Vec::new(), Unknown::default());
    for (index, value) in values.enumerate() {
        if index >= NOTES {
            unknown.left_out += 1;
        } else if let Some(note) = value.and_then(|value| serde_json::from_slice(&value).ok()) {
            notes.push(note);
        } else {
            unknown.unreadable += 1;
        }
    }
    (notes, unknown)
}

/// The thread's own part.
struct Keeper {
    held: Arc<Held>,
    machine: Beacon,
    caller: Caller,
    news: Waker,
    ttl: Duration,
    /// When the notes were read last since the lease was won.
    noted_at: Option<Mono>,
    said: Option<String>,
}

impl Keeper {
    fn new(held: Arc<Held>, ttl: Duration, news: Waker) -> std::io::Result<Keeper> {
        let now = held.clock.now();
        let own = Heartbeat {
            node: held.agent.clone(),
            boot_id: clock::boot_id(),
            started_at: now.wall.rfc3339(),
            started_ms: now.mono.0,
            version: env!("CARGO_PKG_VERSION").to_string(),
            ttl_s: ttl.as_secs(),
            ..Heartbeat::default()
        };
        // Renewed four times in its life: who waits for it asks as often, and takes over that much sooner.
        let rewrite = Duration::from_hours(1);
        let policy =
            Policy { ttl, renew: ttl / 4, rewrite, seed: now.wall.0.unsigned_abs() ^ u64::from(std::process::id()) };
        let machine = Beacon::new(policy, own.clone(), now.mono);
        let caller = Caller::start(work(&held, &own, ttl), &held.waker)?;
        Ok(Keeper { held, machine, caller, news, ttl, noted_at: None, said: None })
    }

    fn run(mut self) {
        loop {
            let now = self.held.clock.now().mono;
            self.take_answers();
            self.machine.on_time(now);
            self.show(now);
            self.call_if_due(now);
            let rest = self.machine.next().filter(|_| !self.caller.is_busy()).map(|next| next.at.since(now));
            let wakes = self.held.waker.wait_until(Instant::now() + rest.unwrap_or(LOOK).min(LOOK));
            if wakes.contains(&Wake::Shutdown) {
                return self.end();
            }
        }
    }

    fn call_if_due(&mut self, now: Mono) {
        if let Some(next) = self.machine.next().filter(|next| next.at <= now)
            && !self.caller.is_busy()
        {
            self.caller.call(next.call.clone(), self.machine.counts().renewals, now);
        }
    }

    fn take_answers(&mut self) {
        while let Some(Ended { sent, at, outcome }) = self.caller.take() {
            self.held.shown().connected = outcome.is_ok();
            if let Err(error) = &outcome {
                self.say(format!("the lease is not kept: {error}"));
            }
            self.machine.on_answer(sent, at, outcome.map_err(|error| error.fault()));
        }
    }

    fn show(&mut self, now: Mono) {
        let active = self.machine.state() == State::Active;
        if active {
            self.read_notes(now);
        } else if self.noted_at.take().is_some() {
            let mut shown = self.held.shown();
            (shown.notes, shown.unknown) = (Arc::default(), Unknown::default());
        }
        let until = self.machine.expires_at().filter(|_| self.noted_at.is_some()).filter(|until| now < *until);
        let was_held = {
            let mut shown = self.held.shown();
            std::mem::replace(&mut shown.until, until).is_some()
        };
        match (was_held, until.is_some()) {
            (false, true) => {
                self.said = None;
                info!("this agent holds the lease: it may repair");
                self.news.wake(Wake::Answered);
            }
            (true, false) => {
                warn!("this agent lost the lease: it begins no repair");
                self.news.wake(Wake::Answered);
            }
            _ => {}
        }
        if let Why::Held(holder) = self.machine.why() {
            let name = holder.heartbeat.as_ref().map_or("somebody", |heartbeat| heartbeat.node.as_str()).to_string();
            self.say(format!("agent {name} holds the lease; this one watches"));
        }
    }

    /// Reads the notes once the lease is won, and again now and then while there are any.
    fn read_notes(&mut self, now: Mono) {
        let again = self.ttl.saturating_mul(NOTES_AGAIN);
        let is_read = |at: Mono| {
            let shown = self.held.shown();
            now.since(at) < again || (shown.notes.is_empty() && shown.unknown == Unknown::default())
        };
        if self.noted_at.is_some_and(is_read) {
            return;
        }
        match self.held.notes() {
            Ok((notes, unknown)) => {
                self.noted_at = Some(now);
                let mut shown = self.held.shown();
                (shown.notes, shown.unknown) = (Arc::new(notes), unknown);
            }
            // Those that were read before stand; they are read again when it is their time.
            Err(_) if self.noted_at.is_some() => self.noted_at = Some(now),
            Err(error) => self.say(format!("the lease is won, but not what other agents left: {error}")),
        }
    }

    /// The same thing is said once.
    fn say(&mut self, what: String) {
        if self.said.as_ref() != Some(&what) {
            info!("{what}");
            self.said = Some(what);
        }
    }

    fn end(mut self) {
        let deadline = Instant::now() + FAREWELL;
        self.held.shown().until = None;
        self.take_answers();
        self.machine.on_stop(self.held.clock.now().mono);
        let own = self.machine.heartbeat();
        let mut work = work(&self.held, &own, self.ttl);
        work.consul = self.held.consul.with_timeout(FAREWELL / 4);
        if let Ok(caller) = Caller::start(work, &self.held.waker) {
            self.caller = caller;
        }
        while self.machine.next().is_some() && Instant::now() < deadline {
            self.call_if_due(self.held.clock.now().mono);
            self.held.waker.wait_until(deadline);
            self.take_answers();
        }
    }
}

fn work(held: &Held, own: &Heartbeat, ttl: Duration) -> Work {
    Work {
        consul: held.consul.clone(),
        key: format!("{}/leader", held.base),
        own: own.clone(),
        ttl,
        clock: held.clock.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_that_are_not_known_are_counted() {
        let note = r#"{"target":"n1","saga":"s","agent":"a","verb":"stop","fence":{}}"#;
        let is_read = serde_json::from_str::<Note>(note).is_ok();
        let values = (0..NOTES + 7).map(|n| match n {
            0 => None,
            1 => Some(b"nonsense".to_vec()),
            _ => Some(note.as_bytes().to_vec()),
        });
        let (notes, unknown) = read(values);
        let unreadable = if is_read { 2 } else { NOTES };
        assert_eq!((notes.len(), unknown), (NOTES - unreadable, Unknown { left_out: 7, unreadable }));
        let words = unknown.words().unwrap();
        assert!(words.contains("7 beyond the 10000 that are read") && words.contains("cannot be read"), "{words}");
        assert_eq!(Unknown::default().words(), None);
    }
}
