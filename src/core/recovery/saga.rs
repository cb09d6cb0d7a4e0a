//! One repair of one subject: where it stands, and the one set of rules for what may follow.
//!
//! [`Saga::apply`] is used live and when a journal is read back, so that a crash anywhere leaves a
//! state that the live path knows. The rule that matters most is in [`Saga::may_ask`]: once
//! something that takes the subject down was written down as intended, nothing but what restores it may be
//! asked, until it was seen running (B8). A saga that owes that cannot be closed (B1).
//! Knows no time, no text and no executor; the steps are data (`procedure`), `pace` says when, `rows` how it is kept
//! (`adr/0022-a-repair-is-a-saga.md`, `adr/0039-one-engine-of-steps.md`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::phrase::{Deed, Phrase};
use super::procedure::{Again, Goal, Procedure, Step};
use super::subject::{Fence, Reply, Seen, State, Verb};

/// Where a repair stands. The number is that of a step of its procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Decided, nothing asked yet.
    Decided,
    /// This is written down as intended; whether it was sent or taken is not known here yet.
    Asking(u8),
    /// This was asked, and each time refused for certain: it has done nothing.
    Refused(u8),
    /// This was asked, and nobody knows whether it was taken: look first.
    Doubt(u8),
    /// This was taken; the subject is on its way.
    Awaiting(u8),
    /// This is to be asked next.
    Next(u8),
    /// Over.
    Closed(End),
}

/// How a repair ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The machine was switched and is running. Whether that helped, its heartbeat will say.
    Up,
    /// Nothing was done to the machine.
    NoEffect,
    /// Whether anything was done never became clear; it has been running for long since.
    Expired,
    /// The machine is destroyed, or being destroyed.
    Gone,
}

/// One repair of one subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Saga {
    /// The way it goes.
    pub procedure: Arc<Procedure>,
    /// Where it stands.
    pub stage: Stage,
    /// What the present request carries.
    pub fence: Fence,
    /// The present request may have been taken without our knowing.
    pub unsure: bool,
    /// How often the present request was meant to be sent; whether each one left, `pace` knows.
    pub sends: u32,
    /// The subject as it was seen last since the present request.
    pub seen: Option<Seen>,
}

/// What can happen to a repair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// It was decided.
    Opened {
        /// The way it goes.
        procedure: Arc<Procedure>,
        /// Only simulated: nothing leaves the program.
        simulated: bool,
    },
    /// It was taken over from an agent that is gone, as that one left it.
    Adopted {
        /// The way it goes, where that is known.
        procedure: Option<Arc<Procedure>>,
        /// What was asked, or was about to be.
        verb: Verb,
        /// With what.
        fence: Fence,
    },
    /// This will be asked.
    Intent {
        /// What.
        verb: Verb,
        /// With what.
        fence: Fence,
    },
    /// This came of it.
    Replied {
        /// What was asked.
        verb: Verb,
        /// What came of it.
        reply: Reply,
        /// In words, for people.
        detail: String,
    },
    /// The machine was looked at.
    Seen {
        /// What was seen.
        seen: Seen,
    },
    /// The program began anew and knows only what is written.
    Resumed,
    /// It is over.
    Closed {
        /// How.
        end: End,
    },
}

impl Event {
    /// One word for errors and for history.
    pub fn as_str(&self) -> &'static str {
        match self {
            Event::Opened { .. } => "opened",
            Event::Adopted { .. } => "adopted",
            Event::Intent { .. } => "intent",
            Event::Replied { .. } => "replied",
            Event::Seen { .. } => "seen",
            Event::Resumed => "resumed",
            Event::Closed { .. } => "closed",
        }
    }

    /// What happened, for people.
    pub fn told(&self, deed: Deed) -> Phrase {
        match self {
            Event::Opened { procedure, .. } => {
                let what = format!("repair by {}", procedure.name);
                deed.says(format_args!("{what} decided"), format_args!("{what} would begin"))
            }
            Event::Adopted { verb, .. } => {
                Phrase::seen(format!("taken over from an agent that is gone; it had asked for {verb}"))
            }
            Event::Intent { verb, .. } => {
                deed.says(format_args!("about to ask for {verb}"), format_args!("would ask for {verb}"))
            }
            Event::Replied { verb, reply: Reply::Accepted, .. } => {
                deed.says(format_args!("{verb} accepted"), format_args!("{verb} would be accepted"))
            }
            Event::Replied { verb, detail, .. } => {
                let what = format!("{verb} not confirmed: {detail}");
                deed.says(&what, &what)
            }
            Event::Seen { seen } => {
                let state = &seen.word;
                deed.says(format_args!("the machine is {state}"), format_args!("the machine would be {state}"))
            }
            Event::Resumed => {
                let what = "goes on after a restart of the watchdog";
                deed.says(what, what)
            }
            Event::Closed { end: End::Up } => {
                deed.says("the machine was switched and runs", "the machine would run again; nothing was done")
            }
            Event::Closed { end: End::NoEffect } => {
                deed.says("nothing was done to the machine", "the repair ends without effect")
            }
            Event::Closed { end: End::Expired } => {
                let what = "whether the request counted never became clear";
                deed.says(format_args!("given up: {what}"), format_args!("would have given up: {what}"))
            }
            Event::Closed { end: End::Gone } => deed.says("the machine is destroyed", "the machine would be destroyed"),
        }
    }
}

/// An event that cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot follow on {stage:?}")]
pub struct Illegal {
    /// Where the repair stood.
    pub stage: Stage,
    /// What was said to have happened.
    pub event: &'static str,
}

impl Saga {
    /// A repair that was decided.
    pub fn open(procedure: impl Into<Arc<Procedure>>) -> Saga {
        let procedure = procedure.into();
        Saga { procedure, stage: Stage::Decided, fence: Fence::default(), unsure: false, sends: 0, seen: None }
    }

    /// A repair that somebody else began and cannot go on with: this step was asked, or may have been.
    pub fn adopt(procedure: impl Into<Arc<Procedure>>, step: u8, fence: Fence) -> Saga {
        Saga { stage: Stage::Doubt(step), fence, unsure: true, sends: 1, ..Saga::open(procedure) }
    }

    /// True until it is over.
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Closed(_))
    }

    /// The number of the step that it is about; `None` once it is over.
    fn place(&self) -> Option<u8> {
        match self.stage {
            Stage::Decided => Some(0),
            Stage::Asking(at) | Stage::Refused(at) | Stage::Doubt(at) | Stage::Awaiting(at) | Stage::Next(at) => {
                Some(at)
            }
            Stage::Closed(_) => None,
        }
    }

    /// The step that it is about: asked, waited for, or to be asked next; `None` once it is over.
    pub fn step(&self) -> Option<&Step> {
        self.procedure.step(self.place()?)
    }

    /// What was asked and has not been answered.
    pub fn asked(&self) -> Option<&Step> {
        self.step().filter(|_| matches!(self.stage, Stage::Asking(_)))
    }

    fn disrupts(&self, at: u8) -> bool {
        self.procedure.step(at).is_some_and(Step::disrupts)
    }

    /// True while something that takes the subject down may have been taken, and it was not
    /// seen running since: the only thing to ask is what restores it.
    pub fn owes_start(&self) -> bool {
        match self.stage {
            Stage::Refused(at) if self.disrupts(at) => false,
            Stage::Asking(at) | Stage::Refused(at) | Stage::Doubt(at) | Stage::Awaiting(at) => {
                (0..=at).any(|step| self.disrupts(step))
            }
            Stage::Next(_) => true,
            Stage::Decided | Stage::Closed(_) => false,
        }
    }

    /// True when the subject was seen running in the version that the present request is for.
    pub fn is_untouched(&self) -> bool {
        self.is_running() && self.same_version() == Some(true)
    }

    /// True when the subject was seen running in another version than the present request is for: the
    /// request can have no effect any more.
    pub fn is_moved_on(&self) -> bool {
        self.is_running() && self.same_version() == Some(false)
    }

    /// True when the subject was seen running since the present request.
    pub fn is_running(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.state == State::Running)
    }

    /// Is it in the version that the present request is for? `None` where either is not known.
    fn same_version(&self) -> Option<bool> {
        Some(self.seen.as_ref()?.version.as_ref()? == self.fence.version.as_ref()?)
    }

    /// May this be asked now? The whole of what is ever allowed to leave.
    pub fn may_ask(&self, verb: Verb, fence: &Fence) -> bool {
        let Some(step) = self.step().filter(|step| step.verb == verb) else { return false };
        match self.stage {
            Stage::Decided => true,
            // The very same request once more, on a subject that it has not touched.
            Stage::Refused(_) | Stage::Doubt(_) => {
                step.disrupts() && step.again != Again::Never && *fence == self.fence && self.is_untouched()
            }
            Stage::Next(_) => {
                let off = |seen: &Seen| seen.state == State::Stopped && seen.version == fence.version;
                step.restores() && self.seen.as_ref().is_some_and(off)
            }
            Stage::Asking(_) | Stage::Awaiting(_) | Stage::Closed(_) => false,
        }
    }

    /// May it end so? Never while the subject may be down by our doing.
    pub fn may_close(&self, end: End) -> bool {
        match (self.stage, end) {
            (Stage::Decided, End::NoEffect) => true,
            // Refused for certain: whatever the subject is doing, it is not by this.
            (Stage::Refused(at), End::NoEffect) => self.disrupts(at) && self.seen.is_some(),
            (Stage::Refused(at) | Stage::Doubt(at) | Stage::Awaiting(at), End::Expired) => {
                self.disrupts(at) && self.is_running()
            }
            (Stage::Awaiting(_), End::Up) => self.awaits_new_life() && self.is_running(),
            _ => false,
        }
    }

    /// True while it waits for its subject to come up in another version.
    pub fn awaits_new_life(&self) -> bool {
        matches!(self.stage, Stage::Awaiting(_)) && matches!(self.step().map(|step| step.goal), Some(Goal::Anew(_)))
    }

    /// What follows on `event`.
    ///
    /// # Errors
    /// When it cannot follow: a defect, or a journal with something missing.
    pub fn apply(&self, event: &Event) -> Result<Saga, Illegal> {
        let illegal = Illegal { stage: self.stage, event: event.as_str() };
        match (self.stage, event) {
            (Stage::Closed(_), _) | (_, Event::Opened { .. } | Event::Adopted { .. }) => Err(illegal),
            (_, Event::Intent { verb, fence }) if self.may_ask(*verb, fence) => Ok(self.asking(fence)),
            (Stage::Asking(at), Event::Replied { verb, reply, .. })
                if self.asked().is_some_and(|step| step.verb == *verb) =>
            {
                Ok(self.replied(at, *reply))
            }
            (Stage::Asking(at), Event::Resumed) => {
                Ok(Saga { stage: Stage::Doubt(at), unsure: true, seen: None, ..self.clone() })
            }
            (_, Event::Resumed) => Ok(Saga { seen: None, ..self.clone() }),
            (stage, Event::Seen { seen }) if !matches!(stage, Stage::Asking(_)) => {
                Ok(Saga { stage: self.sees(seen), seen: Some(seen.clone()), ..self.clone() })
            }
            (_, Event::Closed { end }) if self.may_close(*end) => {
                Ok(Saga { stage: Stage::Closed(*end), ..self.clone() })
            }
            _ => Err(illegal),
        }
    }

    fn asking(&self, fence: &Fence) -> Saga {
        let again = matches!(self.stage, Stage::Refused(_) | Stage::Doubt(_));
        Saga {
            procedure: Arc::clone(&self.procedure),
            stage: Stage::Asking(self.place().unwrap_or_default()),
            fence: fence.clone(),
            unsure: again && self.unsure,
            sends: if again { self.sends.saturating_add(1) } else { 1 },
            seen: None,
        }
    }

    fn replied(&self, at: u8, reply: Reply) -> Saga {
        let unsure = self.unsure || reply == Reply::Unknown;
        let stage = match reply {
            Reply::Accepted => Stage::Awaiting(at),
            _ if unsure => Stage::Doubt(at),
            _ => Stage::Refused(at),
        };
        Saga { stage, unsure, seen: None, ..self.clone() }
    }

    /// Where a look leads. A subject that is found off while something of ours may have done that is ours.
    fn sees(&self, seen: &Seen) -> Stage {
        let (stage, state) = (self.stage, seen.state);
        if state == State::Terminated {
            return Stage::Closed(End::Gone);
        }
        let at = match stage {
            // Every request was refused for certain: somebody else's doing, and not ours to undo (F72).
            Stage::Refused(at) if self.disrupts(at) => return stage,
            Stage::Refused(at) | Stage::Doubt(at) | Stage::Awaiting(at) | Stage::Next(at) => at,
            Stage::Decided | Stage::Asking(_) | Stage::Closed(_) => return stage,
        };
        if self.is_there(at, seen) {
            return self.after(at, seen);
        }
        let is_on_the_way = |at: u8| self.procedure.step(at).is_some_and(|step| step.goal.is_on_the_way(state));
        let owed = self.procedure.restorer(at);
        if is_on_the_way(at) {
            return Stage::Awaiting(at);
        }
        match owed {
            Some(owed) if is_on_the_way(owed) => Stage::Awaiting(owed),
            Some(owed) if matches!(state, State::Stopping | State::Stopped) => Stage::Next(owed),
            _ => stage,
        }
    }

    /// True when the subject shows what this step leads to.
    fn is_there(&self, at: u8, seen: &Seen) -> bool {
        match self.procedure.step(at).map(|step| step.goal) {
            Some(Goal::Reaches(states)) => states.has(seen.state),
            Some(Goal::Anew(states)) => {
                let is_other = seen.version.as_ref().zip(self.fence.version.as_ref()).is_some_and(|(a, b)| a != b);
                matches!(self.stage, Stage::Awaiting(_)) && states.has(seen.state) && is_other
            }
            None => false,
        }
    }

    /// What follows once this step has led where it should. What only restores what is up already is left out.
    fn after(&self, at: u8, seen: &Seen) -> Stage {
        let mut next = at.saturating_add(1);
        while let Some(step) = self.procedure.step(next) {
            if !(step.restores() && self.is_there(next, seen)) {
                return Stage::Next(next);
            }
            next = next.saturating_add(1);
        }
        Stage::Closed(End::Up)
    }
}
