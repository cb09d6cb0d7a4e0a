//! What is said of a repair, and whether it was done.
//!
//! A sentence about a deed has two wordings, and [`Deed::says`] chooses: there is no other way from a deed to a
//! [`Phrase`], and messages, the audit log, views and traces take nothing else. So nobody can say "switched" of a
//! machine that was only simulated to be (`adr/0032-simulated-is-said-in-every-place.md`).

use std::borrow::Cow;
use std::fmt;

/// Are machines really touched?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Everything is decided and told, and only simulated.
    #[default]
    Observe,
    /// Machines are repaired.
    Active,
}

impl Mode {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Active => "active",
        }
    }
}

/// The first word of everything that was only simulated.
pub const SIMULATED: &str = "simulated";

/// Was it done?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Machines are really touched.
    Done,
    /// It is decided and told, and nothing is done.
    Simulated,
}

/// A sentence that says whether what it speaks of was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Phrase(Cow<'static, str>);

impl Deed {
    /// By whether it is simulated.
    pub fn of(simulated: bool) -> Deed {
        if simulated { Deed::Simulated } else { Deed::Done }
    }

    /// What a repair that begins in this mode is.
    pub fn in_mode(mode: Mode) -> Deed {
        Deed::of(mode == Mode::Observe)
    }

    /// True when nothing is done.
    pub fn is_simulated(self) -> bool {
        self == Deed::Simulated
    }

    /// The sentence `done`, or that it was simulated and `would` have been.
    pub fn says(self, done: impl fmt::Display, would: impl fmt::Display) -> Phrase {
        Phrase(Cow::Owned(match self {
            Deed::Done => done.to_string(),
            Deed::Simulated => format!("{SIMULATED}: {would}"),
        }))
    }

    /// What happened to the subject, for a first line: "is being repaired", "would be repaired (simulated)".
    pub fn heads(self, done: &'static str, would: &str) -> Cow<'static, str> {
        match self {
            Deed::Done => Cow::Borrowed(done),
            Deed::Simulated => Cow::Owned(format!("{would} ({SIMULATED})")),
        }
    }

    /// A few words that name something, without a sentence: "repair of node n1".
    pub fn names(self, what: impl fmt::Display) -> String {
        match self {
            Deed::Done => what.to_string(),
            Deed::Simulated => format!("{SIMULATED} {what}"),
        }
    }
}

impl Phrase {
    /// A sentence about what was seen, which is true whether anything was done or not.
    pub fn seen(words: impl Into<Cow<'static, str>>) -> Phrase {
        Phrase(words.into())
    }

    /// Its text, to keep.
    pub fn into_text(self) -> Cow<'static, str> {
        self.0
    }
}

impl std::ops::Deref for Phrase {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_done_is_said_in_the_other_words_and_marked() {
        for (mode, says, names) in [
            (Mode::Active, "STOP accepted", "repair of node n1"),
            (Mode::Observe, "simulated: STOP would be accepted", "simulated repair of node n1"),
        ] {
            let deed = Deed::in_mode(mode);
            assert_eq!(deed.says("STOP accepted", "STOP would be accepted").to_string(), says);
            assert_eq!(deed.names("repair of node n1"), names);
            assert_eq!(deed.heads("is repaired", "would be").contains(SIMULATED), deed.is_simulated());
            assert_eq!(Deed::of(deed.is_simulated()), deed);
        }
        assert_eq!(Phrase::seen("its heartbeat is gone").to_string(), "its heartbeat is gone");
    }
}
