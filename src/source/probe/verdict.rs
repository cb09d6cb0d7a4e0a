//! What one check of a probe found: a reading, the fact in words, and whether a second look could say anything else.

use std::borrow::Cow;
use std::sync::Arc;

use super::advice::Trouble;
use crate::core::about::Details;
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
    /// What happened, evidence and what to do next; `None` when it is well.
    pub details: Option<Arc<Details>>,
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

    /// The same with what happened and what to do about it.
    #[must_use]
    pub fn because(self, trouble: Trouble<'_>) -> Verdict {
        self.with(trouble.details())
    }

    /// The same with these details.
    #[must_use]
    pub fn with(self, details: Details) -> Verdict {
        Verdict { details: Some(Arc::new(details)), ..self }
    }

    /// It is well.
    pub fn up(fact: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { reading: Reading::Up, fact: fact.into(), certain: false, since: None, details: None }
    }

    /// It is not well.
    pub fn down(fact: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { reading: Reading::Down, fact: fact.into(), certain: false, since: None, details: None }
    }

    /// It cannot be told.
    pub fn unknown(fact: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { reading: Reading::Unknown, fact: fact.into(), certain: false, since: None, details: None }
    }
}
