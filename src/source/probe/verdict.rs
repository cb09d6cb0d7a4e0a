//! What one check of a probe found: a reading, the fact in words, and whether a second look could say anything else.

use std::borrow::Cow;

use crate::core::signal::Reading;
use crate::core::time::Wall;

/// What one check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Up, down, or unknown.
    pub reading: Reading,
    /// The fact in words.
    pub fact: Cow<'static, str>,
    /// One look is enough: looking again would say the same.
    pub certain: bool,
    /// When it happened, where the check knows: the date of a certificate.
    pub since: Option<Wall>,
}

impl Verdict {
    /// The same, for a fact that needs no second look: a date that has passed stays passed.
    #[must_use]
    pub fn certain(self) -> Verdict {
        Verdict { certain: true, ..self }
    }

    /// The same, of what has been so since this second of the Unix clock, where that is known.
    #[must_use]
    pub fn since(self, second: Option<i64>) -> Verdict {
        Verdict { since: second.map(|second| Wall(second.saturating_mul(1_000))), ..self }
    }

    /// It is well.
    pub fn up(fact: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { reading: Reading::Up, fact: fact.into(), certain: false, since: None }
    }

    /// It is not well.
    pub fn down(fact: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { reading: Reading::Down, fact: fact.into(), certain: false, since: None }
    }

    /// It cannot be told.
    pub fn unknown(fact: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { reading: Reading::Unknown, fact: fact.into(), certain: false, since: None }
    }
}
