//! The thread that makes the beacon's calls: one at a time, each with its deadline.
//!
//! Decides nothing. When it is dropped with a call under way, the thread ends with that call and its
//! answer goes nowhere.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use crate::client::consul::{Behavior, Consul, ConsulError, How};
use crate::clock::Clock;
use crate::core::beacon::{Answer, Call, Heartbeat, Holder};
use crate::core::time::Mono;
use crate::wake::{Wake, Waker};

/// A call ends within its limit; one this many times longer is a thread that is lost.
const LOST_AFTER: u32 = 3;

/// Makes calls.
pub struct Caller {
    calls: SyncSender<(Call, u64)>,
    ended: Receiver<Ended>,
    busy_since: Option<Mono>,
    limit: Duration,
}

/// What the thread needs to make any call.
pub struct Work {
    /// Where Consul is, with the limit of a call.
    pub consul: Consul,
    /// The node's key.
    pub key: String,
    /// What is written, but for the beat.
    pub own: Heartbeat,
    /// Life of a session.
    pub ttl: Duration,
    /// For the instants of calls and of a planned stop.
    pub clock: Clock,
}

/// A call that has ended.
pub struct Ended {
    /// Just before it was sent.
    pub sent: Mono,
    /// When it ended.
    pub at: Mono,
    /// How.
    pub outcome: Result<Answer, ConsulError>,
}

impl Caller {
    /// Starts the thread; the waker rings when a call has ended.
    pub fn start(work: Work, waker: &Waker) -> std::io::Result<Caller> {
        let (calls, due) = mpsc::sync_channel::<(Call, u64)>(1);
        let (done, ended) = mpsc::sync_channel(1);
        let limit = work.consul.timeout();
        let waker = waker.clone();
        thread::Builder::new().name("consul".to_string()).stack_size(512 * 1024).spawn(move || {
            while let Ok((call, beat)) = due.recv() {
                let sent = work.clock.now().mono;
                let outcome = work.make(call, beat);
                if done.send(Ended { sent, at: work.clock.now().mono, outcome }).is_err() {
                    return;
                }
                waker.wake(Wake::Answered);
            }
        })?;
        Ok(Caller { calls, ended, busy_since: None, limit })
    }

    /// True while a call is under way.
    pub fn is_busy(&self) -> bool {
        self.busy_since.is_some()
    }

    /// False when a call is under way for much longer than any may take.
    pub fn is_within_its_time(&self, now: Mono) -> bool {
        self.busy_since.is_none_or(|since| now.since(since) < self.limit * LOST_AFTER)
    }

    /// Makes a call, unless one is under way. `beat` goes into what is written.
    pub fn call(&mut self, call: Call, beat: u64, now: Mono) {
        if self.busy_since.is_none() && self.calls.try_send((call, beat)).is_ok() {
            self.busy_since = Some(now);
        }
    }

    /// The call that has ended, once.
    pub fn take(&mut self) -> Option<Ended> {
        let ended = self.ended.try_recv().ok()?;
        self.busy_since = None;
        Some(ended)
    }
}

impl Work {
    fn make(&self, call: Call, beat: u64) -> Result<Answer, ConsulError> {
        let consul = &self.consul;
        match call {
            Call::Create => {
                let name = format!("watchdog beacon {}", self.own.node);
                consul.session_create(&name, self.ttl, Behavior::Delete, Duration::ZERO).map(Answer::Created)
            }
            Call::Renew(session) => consul.session_renew(&session).map(Answer::Renewed),
            Call::Write(session) => self.write(&session, beat, None),
            Call::WriteStop(session) => self.write(&session, beat, Some(self.clock.now().wall.rfc3339())),
            Call::Read => {
                let held = consul.get(&self.key)?.and_then(|pair| Some((pair.session?, pair.value)));
                let holder = held.map(|(session, value)| Holder { session, heartbeat: Heartbeat::parse(&value) });
                Ok(Answer::Read(holder))
            }
            Call::Destroy(session) => consul.session_destroy(&session).map(|()| Answer::Destroyed),
            // A release writes the value it is given: the planned stop must be in this one, too.
            Call::Release(session) => {
                let value = self.value(beat, Some(self.clock.now().wall.rfc3339()));
                consul.put(&self.key, &value, How::Release(&session)).map(|_| Answer::Released)
            }
        }
    }

    fn write(&self, session: &str, beat: u64, planned_stop: Option<String>) -> Result<Answer, ConsulError> {
        self.consul.put(&self.key, &self.value(beat, planned_stop), How::Acquire(session)).map(Answer::Written)
    }

    fn value(&self, beat: u64, planned_stop: Option<String>) -> Vec<u8> {
        // Texts and numbers only: this cannot fail.
        serde_json::to_vec(&Heartbeat { beat, planned_stop, ..self.own.clone() }).unwrap_or_default()
    }
}
