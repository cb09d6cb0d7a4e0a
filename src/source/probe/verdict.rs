//! What one check of a probe found: a reading, the fact in words, and whether a second look could say anything else.

use std::borrow::Cow;

use crate::core::signal::Reading;

/// What one check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Up, down, or unknown.
    pub reading: Reading,
    /// The fact in words.
    pub fact: Cow<'static, str>,
    /// One look is enough: looking again would say the same.
    pub certain: bool,
}

impl Verdict {
    /// The same, for a fact that needs no second look: a date that has passed stays passed.
    #[must_use]
    pub fn certain(self) -> Verdict {
        Verdict { certain: true, ..self }
    }

    /// It is well.
    pub fn up(fact: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { reading: Reading::Up, fact: fact.into(), certain: false }
    }

    /// It is not well.
    pub fn down(fact: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { reading: Reading::Down, fact: fact.into(), certain: false }
    }

    /// It cannot be told.
    pub fn unknown(fact: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { reading: Reading::Unknown, fact: fact.into(), certain: false }
    }
}
