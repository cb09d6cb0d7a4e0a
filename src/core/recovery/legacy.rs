//! The four procedures of machines in Oracle Cloud: what journals of all versions mean by `rung`, and what a request
//! means whose beginning is lost.
//!
//! They stand here and not with their executor because reading back needs no list of executors; the executor offers
//! the same constants.

use std::borrow::Cow;

use super::procedure::{Again, Does, Goal, Guard, Procedure, States, Step};
use super::subject::Verb;

/// The same request is sent this often at most.
const SENDS: u32 = 3;

impl Verb {
    /// Power off at once.
    pub const STOP: Verb = Verb::of("STOP");
    /// Power on.
    pub const START: Verb = Verb::of("START");
    /// Power off and on at once.
    pub const RESET: Verb = Verb::of("RESET");
    /// Let the system shut down, then power off and on.
    pub const SOFTRESET: Verb = Verb::of("SOFTRESET");
    /// All four.
    pub const OCI: [Verb; 4] = [Verb::STOP, Verb::START, Verb::RESET, Verb::SOFTRESET];
}

const ON: Step =
    Step { verb: Verb::START, does: Does::Restores, goal: Goal::Reaches(States::RUNNING), again: Again::Always };
const OFF: Step = Step {
    verb: Verb::STOP,
    does: Does::Disrupts,
    goal: Goal::Reaches(States::STOPPED),
    again: Again::WhileUntouched(SENDS),
};
const ANEW: Step = Step { verb: Verb::RESET, goal: Goal::Anew(States::RUNNING), ..OFF };
const SOFTLY: Step = Step { verb: Verb::SOFTRESET, ..ANEW };

const OFF_ON: &[Step] = &[OFF, ON];
const ANEW_ON: &[Step] = &[ANEW, ON];
const SOFTLY_ON: &[Step] = &[SOFTLY, ON];
const ONLY_ON: &[Step] = &[ON];

/// Off, and on again when it is off: also moves it to other hardware.
pub const STOP_START: Procedure = Procedure {
    name: Cow::Borrowed("stop_start"),
    says: Cow::Borrowed("stop and start it"),
    steps: Cow::Borrowed(OFF_ON),
    guard: Guard::Version,
};
/// Off and on at once.
pub const RESET: Procedure = Procedure {
    name: Cow::Borrowed("reset"),
    says: Cow::Borrowed("reset it"),
    steps: Cow::Borrowed(ANEW_ON),
    guard: Guard::Version,
};
/// A shutdown by the system itself, then off and on.
pub const SOFTRESET: Procedure = Procedure {
    name: Cow::Borrowed("softreset"),
    says: Cow::Borrowed("shut it down and start it (softreset)"),
    steps: Cow::Borrowed(SOFTLY_ON),
    guard: Guard::Version,
};
/// On, for a machine that somebody else switched off (`when_stopped = "start"`).
pub const START: Procedure = Procedure {
    name: Cow::Borrowed("start"),
    says: Cow::Borrowed("start it"),
    steps: Cow::Borrowed(ONLY_ON),
    guard: Guard::Version,
};

/// All four.
pub const ALL: [Procedure; 4] = [STOP_START, RESET, SOFTRESET, START];

/// The procedure that journals of all versions call so.
pub fn by_name(name: &str) -> Option<Procedure> {
    ALL.into_iter().find(|procedure| procedure.name == name)
}

/// The procedure that a request belongs to whose beginning is lost. Of one that nobody knows only its effect can be
/// waited for.
pub fn by_verb(verb: Verb) -> Procedure {
    let begins = |procedure: &Procedure| procedure.steps.first().is_some_and(|step| step.verb == verb);
    ALL.into_iter().find(begins).unwrap_or_else(|| Procedure {
        name: Cow::Owned(verb.to_string()),
        says: Cow::Owned(format!("{verb} it")),
        steps: Cow::Owned(vec![Step { verb, again: Again::Never, ..ANEW }]),
        guard: Guard::Version,
    })
}
