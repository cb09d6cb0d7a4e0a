//! When a repair does its next thing, and what that is. Pure: the time is an argument.
//!
//! The saga says what is allowed; this file says what is due. A machine that owes a START is asked
//! again for ever, with growing waits up to a limit (F67); what may be given up is given up only
//! where the saga allows it. See `adr/0022-a-repair-is-a-saga.md`.

use std::time::Duration;

use super::backoff;
use super::procedure::{Again, Step};
use super::saga::{End, Saga, Stage};
use super::subject::{Reply, State};
use crate::core::time::Mono;

/// Looks between two waits at the limit: the longest wait is this many times the shortest.
const SLOWEST: u32 = 12;
/// So many that never left are not counted among them; more would be no accident.
const UNSENT: u32 = 8;
/// A request whose outcome is not known may still count for this long: longer than any request lives
/// on its way, and than the provider takes to show it.
const DOUBT: Duration = Duration::from_mins(15);
/// A request is sent again only this long after its repair began: early enough that nobody else who looks
/// after it has given it up.
pub const AGAIN_WITHIN: Duration = Duration::from_mins(7);
/// A machine that runs for this long in another version than the request was for is not on its way down.
const RUNS_ON: Duration = Duration::from_mins(5);

/// The times of one repair. Not kept: after a restart they begin anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// Since when it stands where it stands.
    pub since: Mono,
    /// Nothing is done before this.
    pub not_before: Mono,
    /// Looks in a row that failed.
    pub blind: u32,
    /// Requests in a row that were not taken.
    pub refused: u32,
    /// Requests that never left.
    pub unsent: u32,
    /// What came of the last request.
    pub reply: Option<Reply>,
    /// When the machine was seen last.
    pub seen_at: Option<Mono>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Nothing yet.
    Wait,
    /// Look at the machine.
    Look,
    /// Ask for the next step, in the version just seen.
    Ask,
    /// Send the same request once more, if it is still wanted.
    Again,
    /// It is over.
    Close(End),
}

impl Pace {
    /// A repair that begins, or goes on after a restart, now.
    pub fn new(now: Mono) -> Pace {
        Pace { since: now, not_before: now, blind: 0, refused: 0, unsent: 0, reply: None, seen_at: None }
    }

    /// A look came back: the saga stood at `before` and stands at `after`. `poll` is the time between
    /// two looks at a machine on its way.
    pub fn looked(&mut self, before: Stage, after: Stage, now: Mono, poll: Duration) {
        self.blind = 0;
        self.seen_at = Some(now);
        let moved = before != after;
        if moved {
            self.since = now;
        }
        self.not_before = now.plus(poll);
    }

    /// A look failed.
    pub fn was_blind(&mut self, now: Mono, poll: Duration, name: &str) {
        self.blind = self.blind.saturating_add(1);
        self.not_before = now.plus(backoff::wait(self.blind, poll, poll.saturating_mul(SLOWEST), name));
    }

    /// A request came back.
    pub fn replied(&mut self, reply: Reply, now: Mono, poll: Duration, name: &str) {
        self.since = now;
        self.reply = Some(reply);
        self.unsent = self.unsent.saturating_add(u32::from(reply == Reply::NotSent));
        self.seen_at = None;
        if reply == Reply::Accepted {
            self.refused = 0;
            self.not_before = now.plus(poll);
        } else {
            self.refused = self.refused.saturating_add(1);
            // The first look after a reply that settles nothing comes at once: the machine may be on its way.
            let wait = backoff::wait(self.refused - 1, poll, poll.saturating_mul(SLOWEST), name);
            self.not_before = now.plus(wait);
        }
    }
}

/// What is due now. What a fresh look leads to is due at once: by the time of the next look it would be
/// stale, and nothing would ever follow.
pub fn due(saga: &Saga, pace: &Pace, now: Mono, poll: Duration) -> Move {
    if let Some(follows) = follows(saga, pace, now, poll) {
        return follows;
    }
    if matches!(saga.stage, Stage::Asking(_) | Stage::Closed(_)) || now < pace.not_before {
        return Move::Wait;
    }
    Move::Look
}

/// What follows from the last look, if that is fresh.
fn follows(saga: &Saga, pace: &Pace, now: Mono, poll: Duration) -> Option<Move> {
    let seen_at = pace.seen_at.filter(|_| saga.seen.is_some())?;
    if now.since(seen_at) > poll {
        return None;
    }
    let lasted = now.since(pace.since);
    let disrupts = saga.step().is_some_and(Step::disrupts);
    match saga.stage {
        Stage::Decided => Some(Move::Close(End::NoEffect)),
        Stage::Next(_) if saga.seen.as_ref().is_some_and(|seen| seen.state == State::Stopped) => Some(Move::Ask),
        Stage::Refused(_) | Stage::Doubt(_) if disrupts => in_doubt(saga, pace, (seen_at, now), poll),
        Stage::Awaiting(_) if saga.awaits_new_life() => {
            (saga.is_running() && lasted >= settle(poll)).then_some(Move::Close(End::Up))
        }
        // In the version that it was asked for it may still be on its way down.
        Stage::Awaiting(_) if disrupts && saga.is_running() => {
            let ran_on = seen_at.since(pace.since) >= if saga.is_moved_on() { RUNS_ON } else { DOUBT };
            ran_on.then_some(Move::Close(End::Expired))
        }
        _ => None,
    }
}

fn in_doubt(saga: &Saga, pace: &Pace, at: (Mono, Mono), poll: Duration) -> Option<Move> {
    let (seen_at, now) = at;
    let lasted = now.since(pace.since);
    let no_use = matches!(pace.reply, Some(Reply::Refused | Reply::Changed | Reply::Conflict | Reply::NoCapacity));
    let sent = saga.sends.saturating_sub(pace.unsent.min(UNSENT));
    let may_send = match saga.step()?.again {
        Again::WhileUntouched(times) => sent < times,
        Again::Always => true,
        Again::Never => false,
    };
    let spent = no_use || !saga.is_untouched() || !may_send;
    if saga.may_close(End::NoEffect) && (spent || lasted >= DOUBT) {
        return Some(Move::Close(End::NoEffect));
    }
    // The look was made when nothing could count any more: in another version, once the provider shows what it did.
    let limit = if saga.is_moved_on() { RUNS_ON } else { DOUBT };
    if saga.may_close(End::Expired) && seen_at.since(pace.since) >= limit {
        return Some(Move::Close(End::Expired));
    }
    (saga.is_untouched() && !spent && lasted >= poll).then_some(Move::Again)
}

/// A reset that shows as running all the time is believed after this long.
fn settle(poll: Duration) -> Duration {
    poll.saturating_mul(SLOWEST)
}
