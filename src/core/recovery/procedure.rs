//! One way to repair something, as data: steps, each with what it does, where it leads, and whether it may be asked
//! again. What a step waits for, owes and shows when it is only simulated follows from these.
//!
//! An executor offers procedures; the journal carries the one that a repair began with, so that reading back needs
//! no list of executors, and a changed configuration cannot change an open repair. Decides nothing: the rules are
//! `saga`'s (`adr/0039-one-engine-of-steps.md`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::subject::{State, Verb};

/// One way to repair something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Procedure {
    /// The word in `ladder` and in messages: `stop_start`.
    pub name: Cow<'static, str>,
    /// What it does, after "repairing: " or "would ": "stop and start it".
    pub says: Cow<'static, str>,
    /// What is asked, in this order; at least one.
    pub steps: Cow<'static, [Step]>,
    /// What keeps a request from counting twice.
    #[serde(default)]
    pub guard: Guard,
}

/// One request of a procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Step {
    /// What is asked.
    pub verb: Verb,
    /// What it does to its subject.
    pub does: Does,
    /// Where it leads.
    pub goal: Goal,
    /// May the very same request be sent again?
    pub again: Again,
}

/// What a step does to its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Does {
    /// It takes the subject down. Needs the gate, the lease and a note; every restoring step after it is owed.
    Disrupts,
    /// It brings the subject up. Owed once something before it may have been taken; needs nobody's leave.
    Restores,
}

/// Where a step leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// The subject is in one of these states.
    Reaches(States),
    /// It is in one of these states in another version than the request was for: a new life.
    Anew(States),
}

/// May the very same request be sent again?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Again {
    /// While the subject was not touched by it, so often in all.
    WhileUntouched(u32),
    /// As long as it takes, whenever the subject is off.
    Always,
    /// Never: whether it was taken is only looked at.
    Never,
}

/// What keeps a request from counting twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// The provider takes a request only in the version that it was decided on (`if-match`). Others may act on the
    /// subject, too: the lease is asked and a note is left.
    #[default]
    Version,
    /// The subject is on this machine, and nobody else acts on it: no lease, no note.
    Local,
}

/// A set of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Vec<State>", into = "Vec<State>")]
pub struct States(u8);

impl States {
    /// On.
    pub const RUNNING: States = States::of(&[State::Running]);
    /// Off.
    pub const STOPPED: States = States::of(&[State::Stopped]);

    /// These.
    pub const fn of(states: &[State]) -> States {
        let mut bits = 0;
        let mut rest = states;
        while let [first, others @ ..] = rest {
            bits |= 1 << (*first as u8);
            rest = others;
        }
        States(bits)
    }

    /// True when `state` is among them.
    pub fn has(self, state: State) -> bool {
        self.0 & (1 << (state as u8)) != 0
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = State> {
        State::ALL.into_iter().filter(move |state| self.has(*state))
    }
}

impl From<Vec<State>> for States {
    fn from(states: Vec<State>) -> States {
        States::of(&states)
    }
}

impl From<States> for Vec<State> {
    fn from(states: States) -> Vec<State> {
        states.iter().collect()
    }
}

impl Goal {
    /// The states that it is about.
    pub fn states(self) -> States {
        match self {
            Goal::Reaches(states) | Goal::Anew(states) => states,
        }
    }

    /// True for a state in which the subject is on its way there.
    pub fn is_on_the_way(self, state: State) -> bool {
        match state {
            State::Stopping => matches!(self, Goal::Anew(_)) || self.states().has(State::Stopped),
            State::Starting => self.states().has(State::Running),
            _ => false,
        }
    }

    /// The state that a subject shows that has got there.
    pub fn shows(self) -> State {
        self.states().iter().next().unwrap_or(State::Other)
    }
}

impl Step {
    /// True for what takes its subject down.
    pub fn disrupts(&self) -> bool {
        self.does == Does::Disrupts
    }

    /// True for what brings its subject up.
    pub fn restores(&self) -> bool {
        self.does == Does::Restores
    }
}

impl Procedure {
    /// The step of this number.
    pub fn step(&self, at: u8) -> Option<&Step> {
        self.steps.get(usize::from(at))
    }

    /// The number of the first step that asks for this.
    pub fn place(&self, verb: Verb) -> Option<u8> {
        u8::try_from(self.steps.iter().position(|step| step.verb == verb)?).ok()
    }

    /// The first step from number `at` on that brings the subject up.
    pub fn restorer(&self, at: u8) -> Option<u8> {
        (at..).zip(self.steps.iter().skip(usize::from(at))).find(|(_, step)| step.restores()).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_states_reads_as_a_list() {
        let both = States::of(&[State::Stopped, State::Running]);
        assert_eq!(serde_json::to_string(&both).unwrap(), r#"["running","stopped"]"#);
        assert_eq!(serde_json::from_str::<States>(r#"["stopped","running"]"#).unwrap(), both);
        assert!(State::ALL.iter().all(|state| both.has(*state) == matches!(state, State::Running | State::Stopped)));
    }

    #[test]
    fn what_is_on_the_way_follows_from_the_goal() {
        let way = |goal: Goal| State::ALL.into_iter().filter(|state| goal.is_on_the_way(*state)).collect::<Vec<_>>();
        assert_eq!(way(Goal::Reaches(States::STOPPED)), [State::Stopping]);
        assert_eq!(way(Goal::Reaches(States::RUNNING)), [State::Starting]);
        assert_eq!(way(Goal::Anew(States::RUNNING)), [State::Stopping, State::Starting]);
    }
}
