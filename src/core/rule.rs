//! Rules: when observations of a signal mean trouble. Plain numbers, set up once by a source.
//!
//! A rule has a [`Test`] (is this reading bad?), counts in a row, and a time the badness must
//! have lasted. It holds no state: what was seen so far is in [`memory`](super::memory), which
//! also judges flapping. The defaults are what the field has learnt (Gatus).

use std::time::Duration;

/// Fail and recover counts that the field has learnt (Gatus).
pub const FAIL_AFTER: u32 = 3;
/// Looks in a row that must be good before a signal counts as recovered.
pub const RECOVER_AFTER: u32 = 2;
/// How long a signal may be unknown before that is told by itself.
pub const UNKNOWN_AFTER: Duration = Duration::from_mins(10);

/// When observations of a signal mean trouble.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// What makes a single reading bad.
    pub test: Test,
    /// Failed checks in a row before the alert, at least 1.
    pub fail_after: u32,
    /// Passed checks in a row before the recovery, at least 1.
    pub recover_after: u32,
    /// Time it must have been seen bad before it fires; for [`Test::Stalls`] the time without movement.
    pub hold: Duration,
    /// Not seen, or unknown, for this long is an alert of its own; zero never. A source that looks
    /// by its own schedule sets it well above the time between two of its looks.
    pub unknown_after: Duration,
}

impl Rule {
    /// A rule with the given test that fires and recovers at the first look.
    pub const fn at_once(test: Test) -> Rule {
        Rule { test, fail_after: 1, recover_after: 1, hold: Duration::ZERO, unknown_after: UNKNOWN_AFTER }
    }

    /// A rule with the given test and the default counts (3 to fail, 2 to recover).
    pub const fn counted(test: Test) -> Rule {
        Rule { fail_after: FAIL_AFTER, recover_after: RECOVER_AFTER, ..Rule::at_once(test) }
    }

    /// The same rule for a single pass without memory of earlier ones: one look is enough, but for
    /// standing still, which no single look can show.
    #[must_use]
    pub const fn confirmed_at_once(self) -> Rule {
        match self.test {
            Test::Stalls => self,
            _ => Rule { fail_after: 1, recover_after: 1, hold: Duration::ZERO, ..self },
        }
    }
}

/// What makes a single reading bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Test {
    /// The reading speaks for itself: `Down` is bad, `Up` is good.
    Verdict,
    /// Bad above `limit`; once bad, good again only at or below `clear` (hysteresis).
    Above {
        /// Bad when the value is greater than this.
        limit: f64,
        /// Good again at or below this; equal to `limit` for none.
        clear: f64,
    },
    /// Bad below `limit`; once bad, good again only at or above `clear`.
    Below {
        /// Bad when the value is less than this.
        limit: f64,
        /// Good again at or above this.
        clear: f64,
    },
    /// Each rise of the value is an event. Keeps no state.
    Increases {
        /// A counter that fell was restarted: its new value is the rise.
        counter: bool,
    },
    /// Bad when the value has not moved for the rule's `hold`.
    Stalls,
    /// Bad when the thing is absent, good when it has any value.
    Absent,
    /// Bad is an event: `Happened(n)` with n > 0. Keeps no state.
    Event,
}
