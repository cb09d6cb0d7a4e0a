//! Asks every source at once and collects what comes back before a deadline.
//!
//! Each source lives in a thread of its own, so that a hung call costs one thread and never a
//! tick. A source that is still busy is not asked again; past its own patience it counts as blind.
//! An answer that comes after the deadline wakes the loop and is taken then
//! (`adr/0001-synchronous-tick-threads-at-the-edge.md`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::shortage;
use crate::clock::Clock;
use crate::core::about::Details;
use crate::core::signal::{Answer, Report, SignalKey};
use crate::core::time::{Wall, people};
use crate::source::{Ask, Source};
use crate::wake::{Wake, Waker};

/// Late answers that may wait to be taken: one per source is usual, and more than these would
/// mean that nobody takes them.
const ARRIVALS: usize = 256;

/// Signals that a source was told to forget and has not yet, at most; a source that hangs takes no more.
const TO_FORGET: usize = 1_024;

/// A shortage of our own that was seen this lately explains why a source could not look.
const SHORT: Duration = Duration::from_mins(1);

/// How a source is doing, for views.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// The source's name.
    pub name: Arc<str>,
    /// When it last answered.
    pub last_ok_at: Option<Wall>,
    /// How long its last answer took.
    pub took: Duration,
    /// Why it cannot see, while it cannot.
    pub error: Option<String>,
    /// What it looks at and what it leaves out, as of its last answer, where it says so.
    pub note: Option<String>,
}

struct Arrival {
    worker: usize,
    answer: Answer,
    took: Duration,
}

struct Worker {
    questions: SyncSender<Ask>,
    asked_at: Option<Instant>,
    /// An answer was sent and nobody has taken it.
    untaken: Arc<AtomicBool>,
    /// What the source is to forget before it looks again.
    to_forget: Arc<Mutex<Vec<SignalKey>>>,
    patience: Duration,
    health: Health,
}

/// The sources, each in its thread.
pub struct Gather {
    clock: Clock,
    workers: Vec<Worker>,
    arrivals: Receiver<Arrival>,
    collecting: Arc<AtomicBool>,
}

/// Which sources are asked in a pass.
pub enum Whom {
    /// All of them: a tick of the grid.
    All,
    /// Those with news.
    Only(BTreeSet<Arc<str>>),
}

impl Gather {
    /// Starts one thread for each source.
    pub fn start(sources: Vec<Box<dyn Source>>, clock: Clock, waker: &Waker) -> std::io::Result<Gather> {
        let (arrived, arrivals) = mpsc::sync_channel(ARRIVALS);
        let collecting = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        for (index, source) in sources.into_iter().enumerate() {
            let name: Arc<str> = Arc::from(source.name());
            let patience = source.patience();
            let (questions, asked) = mpsc::sync_channel(1);
            let (untaken, to_forget) = (Arc::new(AtomicBool::new(false)), Arc::default());
            let desk = Desk {
                index,
                untaken: Arc::clone(&untaken),
                to_forget: Arc::clone(&to_forget),
                name: Arc::clone(&name),
                asked,
                arrived: arrived.clone(),
                clock: clock.clone(),
                collecting: Arc::clone(&collecting),
                waker: waker.clone(),
            };
            thread::Builder::new().name(format!("source {name}")).spawn(move || desk.answer_with(source))?;
            let health = Health { name, last_ok_at: None, took: Duration::ZERO, error: None, note: None };
            workers.push(Worker { questions, asked_at: None, untaken, to_forget, patience, health });
        }
        Ok(Gather { clock, workers, arrivals, collecting })
    }

    /// The names of all sources.
    pub fn names(&self) -> BTreeSet<Arc<str>> {
        self.workers.iter().map(|w| Arc::clone(&w.health.name)).collect()
    }

    /// How each source is doing.
    pub fn health(&self) -> impl Iterator<Item = &Health> {
        self.workers.iter().map(|w| &w.health)
    }

    /// The longest that any source may take for an honest answer.
    pub fn patience(&self) -> Duration {
        self.workers.iter().map(|w| w.patience).max().unwrap_or_default()
    }

    /// Asks, waits until everybody asked has answered or `limit` has passed, and hands over all
    /// answers there are, the newest per source.
    pub fn gather(&mut self, whom: &Whom, ask: Ask, limit: Duration) -> Vec<Answer> {
        let deadline = Instant::now() + limit;
        self.collecting.store(true, Ordering::SeqCst);
        let mut answers = Vec::new();
        let mut waiting = self.question(whom, ask, &mut answers);
        while !waiting.is_empty() {
            match self.arrivals.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(arrival) => {
                    waiting.remove(&arrival.worker);
                    self.take(arrival, &mut answers);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.collecting.store(false, Ordering::SeqCst);
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.take(arrival, &mut answers);
        }
        answers
    }

    /// An answer for everybody who was asked and has not answered, for a pass that waits for nobody any more.
    pub fn give_up(&mut self) -> Vec<Answer> {
        let (now, at) = (Instant::now(), self.clock.now().mono);
        let missing = self.workers.iter_mut().filter_map(|worker| {
            let reason = format!("it has not answered for {}", people(now.duration_since(worker.asked_at?)));
            worker.health.error = Some(reason.clone());
            Some(Answer { source: Arc::clone(&worker.health.name), at, outcome: Err(reason), details: None })
        });
        missing.collect()
    }

    /// Before it looks again, this source drops what it only remembers of the signal.
    pub fn forget(&self, source: &str, key: &SignalKey) {
        let worker = self.workers.iter().find(|worker| *worker.health.name == *source);
        let to_forget = worker.map(|worker| worker.to_forget.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(mut to_forget) = to_forget.filter(|keys| keys.len() < TO_FORGET) {
            to_forget.push(key.clone());
        }
    }

    /// Sends the question to whoever is idle; whoever is busy beyond its patience is blind.
    fn question(&mut self, whom: &Whom, ask: Ask, answers: &mut Vec<Answer>) -> BTreeSet<usize> {
        let now = Instant::now();
        let mut waiting = BTreeSet::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            if matches!(whom, Whom::Only(names) if !names.contains(&worker.health.name)) {
                continue;
            }
            let reason = match worker.asked_at {
                None => match worker.questions.try_send(ask) {
                    Ok(()) => {
                        worker.asked_at = Some(now);
                        waiting.insert(index);
                        continue;
                    }
                    Err(_) => "its thread has ended; restart the watchdog".to_string(),
                },
                Some(since) if now.duration_since(since) > worker.patience => {
                    format!("it has not answered for {}", people(now.duration_since(since)))
                }
                Some(_) => continue,
            };
            worker.health.error = Some(reason.clone());
            answers.push(Answer {
                source: Arc::clone(&worker.health.name),
                at: self.clock.now().mono,
                outcome: Err(reason),
                details: None,
            });
        }
        waiting
    }

    fn take(&mut self, arrival: Arrival, answers: &mut Vec<Answer>) {
        let Some(worker) = self.workers.get_mut(arrival.worker) else { return };
        worker.asked_at = None;
        worker.untaken.store(false, Ordering::SeqCst);
        worker.health.took = arrival.took;
        worker.health.error = match &arrival.answer.outcome {
            Ok(Report { blind, .. }) => blind.clone(),
            Err(reason) => Some(reason.clone()),
        };
        if let Ok(report) = &arrival.answer.outcome {
            worker.health.last_ok_at = Some(self.clock.now().wall);
            worker.health.note.clone_from(&report.note);
        }
        answers.retain(|earlier| earlier.source != arrival.answer.source);
        answers.push(arrival.answer);
    }
}

/// What to do about a source that could not look because the watchdog itself runs short: nothing that concerns its
/// subject. `None` where that is not the reason.
fn own_shortage(why: &str) -> Option<Details> {
    let lack = shortage::within(SHORT).filter(|lack| why.contains(&lack.what()))?;
    Some(Details::new("cannot be read", lack.advice()))
}

/// A source's own thread.
struct Desk {
    index: usize,
    name: Arc<str>,
    asked: Receiver<Ask>,
    arrived: SyncSender<Arrival>,
    clock: Clock,
    collecting: Arc<AtomicBool>,
    untaken: Arc<AtomicBool>,
    to_forget: Arc<Mutex<Vec<SignalKey>>>,
    waker: Waker,
}

impl Desk {
    fn answer_with(self, mut source: Box<dyn Source>) {
        while let Ok(ask) = self.asked.recv() {
            let began = Instant::now();
            let to_forget = std::mem::take(&mut *self.to_forget.lock().unwrap_or_else(PoisonError::into_inner));
            to_forget.iter().for_each(|key| source.forget(key));
            let outcome = source.observe(&ask);
            let why = match &outcome {
                Err(why) | Ok(Report { blind: Some(why), .. }) => Some(why),
                Ok(_) => None,
            };
            let details = why.map(|why| Arc::new(own_shortage(why).unwrap_or_else(|| source.advice(why))));
            let answer = Answer { source: Arc::clone(&self.name), at: self.clock.now().mono, outcome, details };
            let arrival = Arrival { worker: self.index, answer, took: began.elapsed() };
            self.untaken.store(true, Ordering::SeqCst);
            if self.arrived.send(arrival).is_err() {
                return;
            }
            // Whoever collects will see it, or has taken it already; otherwise it is late and the loop must be told.
            if !self.collecting.load(Ordering::SeqCst) && self.untaken.load(Ordering::SeqCst) {
                self.waker.wake(Wake::Answered);
            }
        }
    }
}
