//! The node's side of the heartbeat as a state machine: disconnected → connecting → active, and its end.
//!
//! It says which call to Consul comes next and when, is told how that call ended, and does nothing
//! itself. One call at a time. A session is kept for as long as nobody has said that it is gone: after
//! an outage it is renewed first, because Consul's own timer is longer than the TTL and a key that never
//! vanished is the best news. No longer than the TTL after the last renewal it calls itself active. A key
//! that somebody else holds is never fought over; only the session of an earlier run on this very boot is
//! ended (`adr/0019-beacon.md`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Mono;

/// The first wait after a failure.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest wait after failures. Who waits for nodes to register again waits for longer.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait for a key that somebody else holds.
const PAUSE_CAP: Duration = Duration::from_secs(10);
/// The wait before the one retry at the end.
const STOP_PAUSE: Duration = Duration::from_millis(500);

/// The value of a node's key. Unknown fields are left out when it is read, missing ones are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// The node's name, the last part of the key.
    pub node: String,
    /// The kernel's name for the boot that the beacon runs in.
    pub boot_id: String,
    /// When the beacon started, RFC 3339. For people.
    pub started_at: String,
    /// The same in milliseconds since the boot: what two runs in one boot are compared by.
    pub started_ms: i64,
    /// Renewals since the beacon started.
    pub beat: u64,
    /// The beacon's version.
    pub version: String,
    /// The session's TTL in seconds.
    pub ttl_s: u64,
    /// How long a planned stop of it is maintenance, in seconds; absent in what earlier versions wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_s: Option<u64>,
    /// When the beacon was told to stop, RFC 3339; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_stop: Option<String>,
}

impl Heartbeat {
    /// Reads a value; `None` for what no beacon of ours wrote.
    pub fn parse(value: &[u8]) -> Option<Heartbeat> {
        serde_json::from_slice(value).ok().filter(|heartbeat: &Heartbeat| !heartbeat.node.is_empty())
    }
}

/// Who holds the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The session.
    pub session: String,
    /// What it wrote; `None` when that is not readable.
    pub heartbeat: Option<Heartbeat>,
}

/// What the beacon holds itself to.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Life of the session without a renewal.
    pub ttl: Duration,
    /// Time between renewals, below the TTL.
    pub renew: Duration,
    /// Time between two writings of an unchanged value, so that its beat shows progress. The first comes after one
    /// TTL already.
    pub rewrite: Duration,
    /// Spreads the retries of a fleet.
    pub seed: u64,
}

/// How a call failed, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The session is unknown to Consul.
    SessionGone,
    /// The token may not.
    Denied,
    /// The servers are electing.
    NoLeader,
    /// Anything else: no answer, or one that says nothing.
    Unreachable,
}

/// A call to Consul; texts are session ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Make a session.
    Create,
    /// Renew it.
    Renew(String),
    /// Write the heartbeat while taking, or keeping, the lock.
    Write(String),
    /// Read who holds the key.
    Read,
    /// End a session: our own at the end, or that of an earlier run.
    Destroy(String),
    /// Write the heartbeat with a planned stop, under the lock.
    WriteStop(String),
    /// Give the lock back; the key stays.
    Release(String),
}

/// How a call ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The new session.
    Created(String),
    /// False: the session is gone.
    Renewed(bool),
    /// False: the lock is somebody else's. Also for a planned stop.
    Written(bool),
    /// `None`: nobody holds the key.
    Read(Option<Holder>),
    /// The session is gone.
    Destroyed,
    /// The lock is given back, or was not ours.
    Released,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The call.
    pub call: Call,
    /// Not before this instant.
    pub at: Mono,
}

/// Where the beacon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No session that can be counted on.
    Disconnected,
    /// A session without the key.
    Connecting,
    /// The key is held, and the session was renewed within its TTL.
    Active,
    /// Told to stop.
    Stopping,
    /// Nothing is left to do.
    Done,
}

/// Why it stands so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It has just begun.
    Starting,
    /// All is well.
    Well,
    /// The last call failed.
    Failing(Fault),
    /// Consul has forgotten the session: data lost, or ended from outside.
    SessionLost,
    /// The key has no holder and cannot be locked yet: a lock delay.
    Delayed,
    /// The key is held by an earlier run on this boot, whose session is being ended.
    Earlier(Holder),
    /// The key is held by somebody else.
    Held(Holder),
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Renewals that Consul confirmed.
    pub renewals: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Times it became active again after having been so before.
    pub reconnects: u64,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Beacon {
    policy: Policy,
    own: Heartbeat,
    state: State,
    why: Why,
    next: Next,
    session: Option<String>,
    /// The key was locked with this session.
    holds: bool,
    /// Just before the last creation or renewal that worked was sent.
    good_at: Mono,
    written_at: Mono,
    /// Failures since it was last well.
    attempts: u32,
    /// The foreign session that was ended last: none is ended twice.
    ended: Option<String>,
    was_active: bool,
    /// The value was written again since the key was taken first.
    wrote_a_beat: bool,
    stop_retried: bool,
    counts: Counts,
    dice: u64,
}

impl Beacon {
    /// A beacon that has done nothing yet. `own` is what it writes, with `beat` zero.
    pub fn new(policy: Policy, own: Heartbeat, now: Mono) -> Beacon {
        Beacon {
            policy,
            own,
            state: State::Disconnected,
            why: Why::Starting,
            next: Next { call: Call::Create, at: now },
            session: None,
            holds: false,
            good_at: now,
            written_at: now,
            attempts: 0,
            ended: None,
            was_active: false,
            wrote_a_beat: false,
            stop_retried: false,
            counts: Counts::default(),
            dice: policy.seed,
        }
    }

    /// The call that comes next; `None` when all is done.
    pub fn next(&self) -> Option<&Next> {
        (self.state != State::Done).then_some(&self.next)
    }

    /// When [`on_time`](Self::on_time) may change something.
    pub fn expires_at(&self) -> Option<Mono> {
        (self.state == State::Active).then(|| self.good_at.plus(self.trusted()))
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it stands so.
    pub fn why(&self) -> &Why {
        &self.why
    }

    /// Its session, as far as it knows.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// What has been counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What to write now.
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat { beat: self.counts.renewals, ..self.own.clone() }
    }

    /// Time goes on: an own TTL that has passed ends `active`, whether anybody says so or not.
    pub fn on_time(&mut self, now: Mono) {
        if self.expires_at().is_some_and(|at| now >= at) {
            self.state = State::Disconnected;
            // The tries before were close together for the TTL's sake: from here on the waits grow anew, or an
            // outage that is about to end would cost half a minute more, and with it the session.
            self.attempts = 0;
        }
    }

    /// The call of [`next`](Self::next), sent at `sent`, has ended.
    pub fn on_answer(&mut self, sent: Mono, now: Mono, outcome: Result<Answer, Fault>) {
        if outcome.is_err() {
            self.counts.failures += 1;
        }
        let call = self.next.call.clone();
        if self.state == State::Stopping {
            return self.on_stop_answer(now, &call, outcome);
        }
        match outcome {
            Ok(Answer::Created(session)) => {
                self.session = Some(session.clone());
                self.holds = false;
                self.good_at = sent;
                self.state = State::Connecting;
                self.go(now, Call::Write(session));
            }
            Ok(Answer::Renewed(true)) => self.on_renewed(sent, now),
            Ok(Answer::Renewed(false)) | Err(Fault::SessionGone) => self.lose(now),
            Ok(Answer::Written(true)) => self.on_written(now),
            Ok(Answer::Written(false)) => {
                self.holds = false;
                self.state = State::Connecting;
                self.go(now, Call::Read);
            }
            Ok(Answer::Read(holder)) => self.on_read(now, holder),
            Ok(Answer::Destroyed | Answer::Released) => self.write(now),
            Err(fault) => self.on_fault(now, fault),
        }
    }

    /// Told to end: say so under the lock, give it back, end the session.
    pub fn on_stop(&mut self, now: Mono) {
        self.state = State::Stopping;
        match self.session.clone() {
            Some(session) if self.holds => self.go(now, Call::WriteStop(session)),
            Some(session) => self.go(now, Call::Destroy(session)),
            None => self.state = State::Done,
        }
    }

    fn on_renewed(&mut self, sent: Mono, now: Mono) {
        self.good_at = sent;
        self.counts.renewals += 1;
        if self.state != State::Active {
            self.state = State::Connecting;
            return self.write(now);
        }
        if now.since(self.written_at) >= self.rewrite_after() {
            // Well only when that has worked, too: a token may let us renew and not write.
            return self.write(now);
        }
        self.attempts = 0;
        self.why = Why::Well;
        self.renew_at(sent.plus(self.policy.renew));
    }

    /// Each writing is work for every server of Consul and wakes every agent that reads the prefix.
    fn rewrite_after(&self) -> Duration {
        if self.wrote_a_beat { self.policy.rewrite } else { self.policy.ttl }
    }

    fn on_written(&mut self, now: Mono) {
        self.wrote_a_beat |= self.state == State::Active;
        if self.state != State::Active {
            self.counts.reconnects += u64::from(self.was_active);
        }
        self.state = State::Active;
        self.was_active = true;
        self.holds = true;
        self.why = Why::Well;
        self.attempts = 0;
        self.written_at = now;
        self.renew_at(self.good_at.plus(self.policy.renew).max(now));
    }

    fn on_read(&mut self, now: Mono, holder: Option<Holder>) {
        let pause = self.spread(self.policy.renew.min(PAUSE_CAP));
        let again = now.plus(pause);
        match holder {
            None => self.why = Why::Delayed,
            Some(holder) if self.session.as_ref() == Some(&holder.session) => self.why = Why::Delayed,
            Some(holder) if self.is_earlier(&holder) && self.ended.as_ref() != Some(&holder.session) => {
                self.ended = Some(holder.session.clone());
                self.go(now, Call::Destroy(holder.session.clone()));
                self.why = Why::Earlier(holder);
                return;
            }
            Some(holder) => self.why = Why::Held(holder),
        }
        self.renew_at(again);
    }

    /// The same boot is the same machine, and the later of two runs in it goes on: an order in which no
    /// two ever take the key from each other. Another boot may be another machine of the same name.
    fn is_earlier(&self, holder: &Holder) -> bool {
        holder.heartbeat.as_ref().is_some_and(|other| {
            let same_boot = !other.boot_id.is_empty() && other.boot_id == self.own.boot_id;
            other.node == self.own.node && same_boot && other.started_ms < self.own.started_ms
        })
    }

    fn on_fault(&mut self, now: Mono, fault: Fault) {
        self.why = Why::Failing(fault);
        let wait = self.backoff();
        if self.state == State::Active {
            // Not later than the next renewal would have been: every second of the TTL counts.
            return self.renew_at(now.plus(wait.min(self.policy.renew)));
        }
        self.state = State::Disconnected;
        self.renew_at(now.plus(wait));
    }

    /// Consul does not know the session: a new one at once, and with a wait if that was tried already.
    fn lose(&mut self, now: Mono) {
        self.session = None;
        self.holds = false;
        self.state = State::Disconnected;
        self.why = Why::SessionLost;
        let wait = if self.attempts == 0 { Duration::ZERO } else { self.backoff() };
        self.attempts = self.attempts.max(1);
        self.go(now.plus(wait), Call::Create);
    }

    fn on_stop_answer(&mut self, now: Mono, call: &Call, outcome: Result<Answer, Fault>) {
        let Some(session) = self.session.clone() else {
            self.state = State::Done;
            return;
        };
        let retry = outcome.is_err() && outcome != Err(Fault::SessionGone) && !self.stop_retried;
        match (call, outcome) {
            (Call::WriteStop(_), Ok(Answer::Written(true))) => self.go(now, Call::Release(session)),
            (Call::WriteStop(_) | Call::Release(_), Err(_)) if retry => {
                self.stop_retried = true;
                self.go(now.plus(STOP_PAUSE), call.clone());
            }
            // Without a word about a planned stop the key must not stay: the session takes it along.
            (Call::WriteStop(_) | Call::Release(_), _) => self.go(now, Call::Destroy(session)),
            _ => self.state = State::Done,
        }
    }

    fn write(&mut self, now: Mono) {
        match self.session.clone() {
            Some(session) => self.go(now, Call::Write(session)),
            None => self.go(now, Call::Create),
        }
    }

    /// The next call that keeps the session, or makes one where there is none.
    fn renew_at(&mut self, at: Mono) {
        match self.session.clone() {
            Some(session) => self.go(at, Call::Renew(session)),
            None => self.go(at, Call::Create),
        }
    }

    fn go(&mut self, at: Mono, call: Call) {
        self.next = Next { call, at };
    }

    /// How long after a renewal was sent the session is counted on: a tenth less than its TTL, at most a
    /// second less, and always beyond the next renewal.
    fn trusted(&self) -> Duration {
        let Policy { ttl, renew, .. } = self.policy;
        ttl.saturating_sub((ttl / 10).min(Duration::from_secs(1)).min(ttl.saturating_sub(renew) / 2))
    }

    fn backoff(&mut self) -> Duration {
        let wait = BACKOFF_FIRST.saturating_mul(1 << self.attempts.min(5)).min(LONGEST_WAIT);
        self.attempts = self.attempts.saturating_add(1);
        self.spread(wait)
    }

    /// Between half of `wait` and all of it.
    fn spread(&mut self, wait: Duration) -> Duration {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let half = u64::try_from(wait.as_millis() / 2).unwrap_or(u64::MAX);
        Duration::from_millis(half + (mixed ^ (mixed >> 31)) % half.saturating_add(1))
    }
}

#[cfg(test)]
mod tests;
