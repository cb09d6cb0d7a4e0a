//! The pool: long-lived threads that look at whatever is due, as many as hang and a few more.
//!
//! One free worker has the watch: it sleeps until the next probe is due, looks, and takes the watch
//! again. A second one, its relief, sleeps a moment longer and steps in when the watch is still out, so
//! that nobody has to be called for a quick check. A new worker is started only when there is neither,
//! up to a bound; a worker nobody needed for a while ends. So a hung check costs one worker, never
//! another probe's turn, and quick checks need two workers however many there are. Probes of one host or
//! zone hold at most half of the workers, so that one dependency that hangs never takes them all. A check
//! that only has to wait for a while hands its worker back and is gone on with later. Nothing here waits
//! for a check: dropping the pool tells the free workers to end and leaves the others to end with
//! theirs. See `adr/0014-probe-pool.md`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::schedule::Schedule;
pub use super::verdict::Verdict;
use crate::client::shortage;
use crate::clock::Clock;
use crate::core::signal::Reading;
use crate::core::time::Mono;

/// Workers at most.
pub const WORKERS: usize = 512;
/// How long a worker that nobody needs stays.
pub const IDLE: Duration = Duration::from_secs(30);
/// How long a probe may wait for a watch that has not come back from a check.
const SLACK: Duration = Duration::from_millis(10);
/// Room for a TLS handshake or a resolver with its buffers; without optimisation all frames are larger.
const STACK: usize = if cfg!(debug_assertions) { 1024 * 1024 } else { 256 * 1024 };

/// What one visit to a probe came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// The check is done.
    Done(Verdict),
    /// Nothing is known yet: the check is to be gone on with after this long, by whatever worker is free.
    Again(Duration),
}

impl From<Verdict> for Look {
    fn from(verdict: Verdict) -> Look {
        Look::Done(verdict)
    }
}

/// How often one probe is looked at, and which of its results are worth waking the loop for.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Distance of two looks.
    pub interval: Duration,
    /// The limit of one look; a check still out well after it is stuck.
    pub limit: Duration,
    /// Results in a row that matter after a change: the larger of the probe's two counts.
    pub counts: u32,
}

/// Bounds of a pool; tests use small ones.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Workers at most.
    pub workers: usize,
    /// How long a worker that nobody needs stays.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { workers: WORKERS, idle: IDLE }
    }
}

/// How one probe stands at this moment.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The last result and when its look was finished.
    pub last: Option<(&'a Verdict, Mono)>,
    /// For how long the check under way has been out, if one is.
    pub out_for: Option<Duration>,
    /// It is due and not begun, because those that share its fate hold all the workers that they may.
    pub is_held_back: bool,
}

/// Looks at probes and remembers the last result of each. Ends its threads when dropped.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Rung when everything that was asked to be looked at has been.
    settled: Condvar,
    look: Box<dyn Fn(usize) -> Look + Send + Sync>,
    news: Box<dyn Fn() + Send + Sync>,
    clock: Clock,
    paces: Vec<Pace>,
    bounds: Bounds,
}

/// Probes that share one fate: an address, or the zone of a name.
#[derive(Default)]
struct Group {
    /// Workers that look at one of them now.
    workers: usize,
    /// Those that are due and may not begin, the first to come first.
    held_back: VecDeque<usize>,
}

struct State {
    schedule: Schedule,
    slots: Vec<Slot>,
    groups: Vec<Group>,
    /// The worker that sleeps until the next probe is due.
    watch: Option<Free>,
    /// The worker that sleeps a moment longer, in case the watch does not come back from a check.
    relief: Option<Free>,
    /// Workers with nothing to do, the last to come at the end.
    idle: Vec<Free>,
    workers: usize,
    named: u64,
    /// Probes that were asked to be looked at soon and have not been.
    awaited: usize,
    stop: bool,
    /// The system would not give us a thread when one was needed.
    refused: bool,
}

#[derive(Default)]
struct Slot {
    out_since: Option<Instant>,
    last: Option<(Verdict, Mono)>,
    streak: u32,
    changed: bool,
    awaited: bool,
    is_held_back: bool,
    /// Its place in the groups.
    group: Option<usize>,
}

struct Free {
    name: u64,
    thread: Option<Thread>,
    /// When it wakes by itself.
    until: Instant,
}

impl Free {
    fn call(&self) {
        // A worker that is just starting has no handle yet and looks by itself.
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl Pool {
    /// A pool over the probes `0..paces.len()`; `look` does one check, `news` is called (never under a
    /// lock) when a result is worth an early look of the loop. Nothing runs before [`Pool::hurry`].
    pub fn new<L: Into<Look>>(
        paces: Vec<Pace>,
        bounds: Bounds,
        clock: Clock,
        look: impl Fn(usize) -> L + Send + Sync + 'static,
        news: impl Fn() + Send + Sync + 'static,
    ) -> Pool {
        let intervals: Vec<Duration> = paces.iter().map(|p| p.interval).collect();
        let state = State {
            schedule: Schedule::new(&intervals, Instant::now()),
            slots: paces.iter().map(|_| Slot::default()).collect(),
            groups: Vec::new(),
            watch: None,
            relief: None,
            idle: Vec::new(),
            workers: 0,
            named: 0,
            awaited: 0,
            stop: false,
            refused: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            settled: Condvar::new(),
            look: Box::new(move |index| look(index).into()),
            news: Box::new(news),
            clock,
            paces,
            bounds,
        };
        Pool { shared: Arc::new(shared) }
    }

    /// Says which probes share their fate: those with the same name. To be said before the first look.
    #[must_use]
    pub fn sharing(self, names: Vec<Option<Arc<str>>>) -> Pool {
        let mut places: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut state = self.shared.lock();
        for (slot, name) in state.slots.iter_mut().zip(names) {
            let next = places.len();
            slot.group = name.map(|name| *places.entry(name).or_insert(next));
        }
        state.groups = places.iter().map(|_| Group::default()).collect();
        drop(state);
        self
    }

    /// Says which probes are looked at together: each at the times of the one with this index. To be said before the
    /// first look.
    #[must_use]
    pub fn together(self, leaders: &[usize]) -> Pool {
        self.shared.lock().schedule.align(leaders);
        self
    }

    /// Looks soon at every probe without a result since `since` that is not being looked at already.
    pub fn hurry(&self, since: Mono) {
        let mut state = self.shared.lock();
        let State { schedule, slots, awaited, .. } = &mut *state;
        let stale = |slot: &Slot| slot.last.as_ref().is_none_or(|(_, seen_at)| *seen_at < since);
        // One that is half done goes on in its own time.
        schedule.soon(Instant::now(), |index| slots.get(index).is_some_and(|s| s.out_since.is_none() && stale(s)));
        *awaited = 0;
        for slot in slots {
            slot.awaited = stale(slot);
            *awaited += usize::from(slot.awaited);
        }
        match state.watch.as_ref().or(state.relief.as_ref()) {
            Some(free) => free.call(),
            None => self.shared.cover(&mut state),
        }
    }

    /// Waits until every probe that was hurried has a result, or until `deadline`.
    pub fn settle(&self, deadline: Instant) {
        let mut state = self.shared.lock();
        while state.awaited > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Shows how each probe stands, in order of the index. `show` must be quick: workers wait for it.
    pub fn standings(&self, mut show: impl FnMut(usize, Standing<'_>)) {
        let state = self.shared.lock();
        for (index, slot) in state.slots.iter().enumerate() {
            let last = slot.last.as_ref().map(|(verdict, seen_at)| (verdict, *seen_at));
            let out_for = slot.out_since.map(|since| since.elapsed());
            show(index, Standing { last, out_for, is_held_back: slot.is_held_back });
        }
    }

    /// How late the pool is when it cannot keep up: all workers are busy and a probe has been due for so long.
    pub fn behind(&self) -> Option<Lag> {
        let mut state = self.shared.lock();
        // A thread that was refused earlier may be given now.
        self.shared.cover(&mut state);
        let late = state.schedule.next_due()?.elapsed();
        let nobody_free = state.sleepers().next().is_none();
        (nobody_free && !late.is_zero()).then_some(Lag { late, workers: state.workers, refused: state.refused })
    }

    /// Workers alive now.
    pub fn workers(&self) -> usize {
        self.shared.lock().workers
    }
}

/// A pool that cannot keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// For how long the longest waiting probe has been due.
    pub late: Duration,
    /// Workers alive, all busy.
    pub workers: usize,
    /// The system would not give us another thread.
    pub refused: bool,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        state.sleepers().for_each(Free::call);
    }
}

impl State {
    /// Everybody who sleeps.
    fn sleepers(&self) -> impl Iterator<Item = &Free> {
        self.watch.iter().chain(&self.relief).chain(&self.idle)
    }

    /// Takes the next probe that is due and may be looked at: those of a group that has all the workers it
    /// may have wait until one of it comes back.
    fn take_due(&mut self, now: Instant, most: usize) -> Option<usize> {
        while let Some(index) = self.schedule.take_due(now) {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            let Some(group) = slot.group.and_then(|group| self.groups.get_mut(group)) else { return Some(index) };
            if group.workers < most {
                group.workers += 1;
                return Some(index);
            }
            slot.is_held_back = true;
            group.held_back.push_back(index);
        }
        None
    }

    /// A worker came back from a probe: the next of its group may begin.
    fn came_back(&mut self, index: usize, now: Instant) {
        let group = self.slots.get(index).and_then(|slot| slot.group).and_then(|group| self.groups.get_mut(group));
        let Some(group) = group else { return };
        group.workers = group.workers.saturating_sub(1);
        if let Some(next) = group.held_back.pop_front() {
            if let Some(slot) = self.slots.get_mut(next) {
                slot.is_held_back = false;
            }
            self.schedule.again(next, now);
        }
    }

    /// Takes a worker that woke off whatever place it slept in.
    fn leave(&mut self, name: u64) {
        let is_me = |free: &Free| free.name == name;
        self.watch.take_if(|free| is_me(free));
        self.relief.take_if(|free| is_me(free));
        self.idle.retain(|free| !is_me(free));
    }

    /// Gives a free worker the first place that is empty or filled by somebody who sleeps too long: the
    /// watch, its relief, or idle for the time that is `left`. `None` when nobody needs it any more.
    fn take_place(&mut self, name: u64, now: Instant, idle: Duration, left: Duration) -> Option<Instant> {
        let longest = now + idle;
        let due = self.schedule.next_due().map_or(longest, |due| due.min(longest));
        let me = |until| Free { name, thread: Some(thread::current()), until };
        for (place, until) in [(&mut self.watch, due), (&mut self.relief, due + SLACK)] {
            if place.as_ref().is_none_or(|free| free.until > until) {
                self.idle.extend(place.replace(me(until)));
                return Some(until);
            }
        }
        if left.is_zero() {
            return None;
        }
        let until = now + left;
        self.idle.push(me(until));
        Some(until)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody free will begin the next probe in time: the watch or its relief if there
    /// is one, else the worker that came free last, else a new one.
    fn cover(self: &Arc<Self>, state: &mut State) {
        let now = Instant::now();
        let Some(due) = state.schedule.next_due() else { return };
        let in_time = |relief: &Free| relief.until <= due.max(now) + SLACK;
        if state.stop || state.watch.is_some() || state.relief.as_ref().is_some_and(in_time) {
            return;
        }
        if let Some(free) = state.idle.pop() {
            free.call();
            // It is awake in a moment and sets its own time then.
            state.watch = Some(Free { until: now, ..free });
            return;
        }
        if state.workers >= self.bounds.workers {
            return;
        }
        state.named += 1;
        let name = state.named;
        let shared = Arc::clone(self);
        let worker = thread::Builder::new().name("probe".to_string()).stack_size(STACK);
        state.refused = match worker.spawn(move || shared.work(name)) {
            Ok(_) => false,
            Err(error) => {
                shortage::seen_starting(&error);
                true
            }
        };
        if !state.refused {
            state.workers += 1;
            state.watch = Some(Free { name, thread: None, until: now });
        }
    }

    /// The life of one worker.
    fn work(self: &Arc<Self>, name: u64) {
        let mut state = self.lock();
        let mut free_since = Instant::now();
        while !state.stop {
            let now = Instant::now();
            state.leave(name);
            if let Some(index) = state.take_due(now, (self.bounds.workers / 2).max(1)) {
                self.cover(&mut state);
                state = self.check(state, index, now);
                free_since = Instant::now();
                continue;
            }
            let left = self.bounds.idle.saturating_sub(free_since.elapsed());
            let Some(until) = state.take_place(name, now, self.bounds.idle, left) else { break };
            drop(state);
            thread::park_timeout(until.saturating_duration_since(now));
            state = self.lock();
        }
        state.workers = state.workers.saturating_sub(1);
    }

    /// Looks at one probe without the lock and keeps the result.
    fn check<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        index: usize,
        now: Instant,
    ) -> MutexGuard<'a, State> {
        if let Some(slot) = state.slots.get_mut(index) {
            slot.out_since.get_or_insert(now);
        }
        drop(state);
        let look = (self.look)(index);
        let seen_at = self.clock.now().mono;
        let mut state = self.lock();
        let now = Instant::now();
        state.came_back(index, now);
        let verdict = match look {
            Look::Done(verdict) => verdict,
            Look::Again(after) => {
                state.schedule.again(index, now + after);
                return state;
            }
        };
        state.schedule.done(index, now);
        if self.keep(&mut state, index, verdict, seen_at) && !state.stop {
            drop(state);
            (self.news)();
            state = self.lock();
        }
        state
    }

    /// Remembers a result; true when the loop should hear of it before its next tick: a change, each
    /// further result until the change is confirmed, and the last one that was awaited.
    fn keep(&self, state: &mut State, index: usize, mut verdict: Verdict, seen_at: Mono) -> bool {
        let State { slots, awaited, .. } = state;
        let (Some(slot), Some(pace)) = (slots.get_mut(index), self.paces.get(index)) else { return false };
        slot.out_since = None;
        let was_certain = slot.last.as_ref().is_some_and(|(last, _)| last.certain && last.reading == Reading::Down);
        // What was bad for certain and is good is over as certainly: the certificate was renewed.
        verdict.certain |= was_certain && verdict.reading == Reading::Up;
        let same = match &slot.last {
            Some((last, _)) => last.reading == verdict.reading,
            // The first good look is not news.
            None => verdict.reading == Reading::Up,
        };
        slot.changed |= !same;
        slot.streak = if same { slot.streak.saturating_add(1) } else { 1 };
        slot.last = Some((verdict, seen_at));
        let mut news = slot.changed && slot.streak <= pace.counts;
        if std::mem::take(&mut slot.awaited) {
            *awaited = awaited.saturating_sub(1);
            if *awaited == 0 {
                self.settled.notify_all();
                news = true;
            }
        }
        news
    }
}
