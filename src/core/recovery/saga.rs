//! One repair of one machine: where it stands, and the one table of what may follow.
//!
//! [`Saga::apply`] is used live and when a journal is read back, so that a crash anywhere leaves a
//! state that the live path knows. The rule that matters most is in [`Saga::may_ask`]: once
//! something that takes the machine down was written down as intended, nothing but START may be
//! asked, until the machine was seen running (B8). A saga that owes a START cannot be closed (B1).
//! Knows no time and no text; `pace` says when, `journal` how it is kept
//! (`adr/0022-a-repair-is-a-saga.md`).

use serde::{Deserialize, Serialize};

use super::phrase::{Deed, Phrase};
use super::power::{Fence, Lifecycle, Reply, Rung, Seen, Verb};

/// Where a repair stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Decided, nothing asked yet.
    Deciding,
    /// This is written down as intended; whether it was sent or taken is not known here yet.
    Asking(Verb),
    /// This was asked and not accepted, or nobody knows: look first.
    Doubt(Verb),
    /// This was taken; the machine is on its way.
    Awaiting(Verb),
    /// The machine is down or going down by our doing: it is to be started.
    Owing,
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

/// One repair of one machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Saga {
    /// The way it goes.
    pub rung: Rung,
    /// Where it stands.
    pub stage: Stage,
    /// What the present request carries.
    pub fence: Fence,
    /// The present request may have been taken without our knowing.
    pub unsure: bool,
    /// How often the present request was meant to be sent; whether each one left, `pace` knows.
    pub sends: u32,
    /// The machine as it was seen last since the present request.
    pub seen: Option<Seen>,
}

/// What can happen to a repair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It was decided.
    Opened {
        /// The way it goes.
        rung: Rung,
        /// Only simulated: nothing leaves the program.
        simulated: bool,
    },
    /// It was taken over from an agent that is gone, as that one left it.
    Adopted {
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
            Event::Opened { rung, .. } => {
                let what = format!("repair by {}", rung.as_str());
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
                let state = seen.lifecycle;
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
    pub fn open(rung: Rung) -> Saga {
        Saga { rung, stage: Stage::Deciding, fence: Fence::default(), unsure: false, sends: 0, seen: None }
    }

    /// A repair that somebody else began and cannot go on with: this was asked, or may have been.
    pub fn adopt(verb: Verb, fence: Fence) -> Saga {
        let rung = match verb {
            Verb::Stop => Rung::StopStart,
            Verb::Reset => Rung::Reset,
            Verb::SoftReset => Rung::SoftReset,
            Verb::Start => Rung::Start,
        };
        Saga { stage: Stage::Doubt(verb), fence, unsure: true, sends: 1, ..Saga::open(rung) }
    }

    /// True until it is over.
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Closed(_))
    }

    /// What was asked and has not been answered.
    pub fn asked(&self) -> Option<Verb> {
        match self.stage {
            Stage::Asking(verb) => Some(verb),
            _ => None,
        }
    }

    /// True while something that takes the machine down may have been taken, and the machine was not
    /// seen running since: the only thing to ask is START.
    pub fn owes_start(&self) -> bool {
        match self.stage {
            Stage::Doubt(verb) if verb.takes_down() => self.unsure,
            Stage::Asking(verb) | Stage::Doubt(verb) | Stage::Awaiting(verb) => {
                verb.takes_down() || self.rung != Rung::Start
            }
            Stage::Owing => true,
            Stage::Deciding | Stage::Closed(_) => false,
        }
    }

    /// True when the machine was seen running in the version that the present request is for.
    pub fn is_untouched(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.lifecycle == Lifecycle::Running && seen.etag == self.fence.etag)
    }

    /// True when the machine was seen running in another version than the present request is for: the
    /// request can have no effect any more.
    pub fn is_moved_on(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.lifecycle == Lifecycle::Running && seen.etag != self.fence.etag)
    }

    /// May this be asked now? The whole of what is ever allowed to leave.
    pub fn may_ask(&self, verb: Verb, fence: &Fence) -> bool {
        match self.stage {
            Stage::Deciding => verb == self.rung.first(),
            // The very same request once more, on a machine that it has not touched.
            Stage::Doubt(asked) => asked.takes_down() && verb == asked && *fence == self.fence && self.is_untouched(),
            Stage::Owing => {
                let stopped = |seen: &Seen| seen.lifecycle == Lifecycle::Stopped && seen.etag == fence.etag;
                verb == Verb::Start && self.seen.as_ref().is_some_and(stopped)
            }
            Stage::Asking(_) | Stage::Awaiting(_) | Stage::Closed(_) => false,
        }
    }

    /// May it end so? Never while the machine may be down by our doing.
    pub fn may_close(&self, end: End) -> bool {
        match (self.stage, end) {
            (Stage::Deciding, End::NoEffect) => true,
            // Refused for certain: whatever the machine is doing, it is not by this.
            (Stage::Doubt(verb), End::NoEffect) => verb.takes_down() && !self.unsure && self.seen.is_some(),
            (Stage::Doubt(verb) | Stage::Awaiting(verb), End::Expired) => verb.takes_down() && self.is_running(),
            (Stage::Awaiting(Verb::Reset | Verb::SoftReset), End::Up) => self.is_running(),
            _ => false,
        }
    }

    fn is_running(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.lifecycle == Lifecycle::Running)
    }

    /// What follows on `event`.
    ///
    /// # Errors
    /// When it cannot follow: a defect, or a journal with something missing.
    pub fn apply(&self, event: &Event) -> Result<Saga, Illegal> {
        let illegal = Illegal { stage: self.stage, event: event.as_str() };
        match (self.stage, event) {
            (Stage::Closed(_), _) | (_, Event::Opened { .. } | Event::Adopted { .. }) => Err(illegal),
            (_, Event::Intent { verb, fence }) if self.may_ask(*verb, fence) => Ok(self.asking(*verb, fence)),
            (Stage::Asking(asked), Event::Replied { verb, reply, .. }) if asked == *verb => {
                Ok(self.replied(asked, *reply))
            }
            (Stage::Asking(asked), Event::Resumed) => {
                Ok(Saga { stage: Stage::Doubt(asked), unsure: true, seen: None, ..self.clone() })
            }
            (_, Event::Resumed) => Ok(Saga { seen: None, ..self.clone() }),
            (Stage::Deciding | Stage::Doubt(_) | Stage::Awaiting(_) | Stage::Owing, Event::Seen { seen }) => {
                Ok(Saga { stage: self.sees(seen), seen: Some(seen.clone()), ..self.clone() })
            }
            (_, Event::Closed { end }) if self.may_close(*end) => {
                Ok(Saga { stage: Stage::Closed(*end), ..self.clone() })
            }
            _ => Err(illegal),
        }
    }

    fn asking(&self, verb: Verb, fence: &Fence) -> Saga {
        let again = self.stage == Stage::Doubt(verb);
        Saga {
            rung: self.rung,
            stage: Stage::Asking(verb),
            fence: fence.clone(),
            unsure: again && self.unsure,
            sends: if again { self.sends.saturating_add(1) } else { 1 },
            seen: None,
        }
    }

    fn replied(&self, asked: Verb, reply: Reply) -> Saga {
        let stage = if reply == Reply::Accepted { Stage::Awaiting(asked) } else { Stage::Doubt(asked) };
        Saga { stage, unsure: self.unsure || reply == Reply::Unknown, seen: None, ..self.clone() }
    }

    /// Where a look leads. A machine that is found off while something of ours may have done that is ours.
    fn sees(&self, seen: &Seen) -> Stage {
        use Lifecycle as L;
        use Stage::{Awaiting, Closed, Deciding, Doubt, Owing};
        match (self.stage, seen.lifecycle) {
            (_, L::Terminating | L::Terminated) => Closed(End::Gone),
            (Deciding, _) => Deciding,
            // Every request was refused for certain: somebody else's doing, and not ours to undo (F72).
            (Doubt(verb), _) if verb.takes_down() && !self.unsure => self.stage,
            (Doubt(Verb::Start) | Awaiting(Verb::Start) | Owing, L::Running) => Closed(End::Up),
            (Doubt(Verb::Start | Verb::Stop) | Awaiting(Verb::Start | Verb::Stop) | Owing, L::Starting) => {
                Awaiting(Verb::Start)
            }
            (Doubt(Verb::Start) | Awaiting(Verb::Start), L::Stopping) | (Doubt(_) | Awaiting(_), L::Stopped) => Owing,
            (Doubt(verb), L::Starting | L::Stopping) => Awaiting(verb),
            (Awaiting(Verb::Reset | Verb::SoftReset), L::Running) if seen.etag != self.fence.etag => Closed(End::Up),
            (stage, _) => stage,
        }
    }
}
