//! What a person needs besides the bare fact: who the subject is, what happened, and what to do next.
//!
//! [`About`] is always true of one signal and stands in its [`Spec`](super::signal::Spec); [`Details`] belong to
//! one observation. Both are plain data: sources fill them, edges carry them (and so the outbox keeps them), and
//! [`message`](super::message) turns them into lines. Text of either is cut and cleaned where it is written, never
//! here. An empty text means that there is nothing to say, and its line is left out.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is always true of a signal's subject.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The name that a person would use: `redis` for `container/shop-redis-1`. Empty: the signal's title.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: Arc<str>,
    /// What it belongs to, as it is shown: `project shop`. Empty for none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub group: Arc<str>,
    /// What it shares with the signals that fail together with it, in words for a headline:
    /// `nginx (127.0.0.1:8443)`, `project shop`. Signals with the same text have one cause. Empty for none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cause: Arc<str>,
    /// How many signals have this cause, where its source knows: then the first news of it wait a moment for those of
    /// the others. 0 where nobody knows, and nothing waits.
    #[serde(skip_serializing_if = "is_zero")]
    pub peers: u32,
    /// What the user wrote for whoever is woken by it (`note`).
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: Arc<str>,
    /// Where the user keeps the instructions for it (`runbook`), a URL.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub runbook: Arc<str>,
    /// Least time between two reminders of this signal; `None`: that of its severity. Zero: never again.
    #[serde(skip)]
    pub cooldown: Option<Duration>,
    /// What is said when it fires and the look itself has nothing to say: what happened and what to do next are always
    /// the same for many signals.
    #[serde(skip)]
    pub usual: Option<Arc<Details>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What one observation has to say to a person besides its fact.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// What happened, as the rest of a sentence that begins with the subject's name, in two to five words:
    /// `keeps crashing`, `is 93 % full`. Empty: told by the kind of news alone (`is failing`).
    #[serde(skip_serializing_if = "str::is_empty")]
    pub happened: Cow<'static, str>,
    /// Further facts that agree or disagree, one line each, three at most: the last log lines, the words of a
    /// health check.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// One next step, best a command that can be pasted: `docker logs --tail 50 shop-redis-1`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub advice: Cow<'static, str>,
}

impl Details {
    /// What happened, in two to five words, and one next step.
    pub fn new(happened: impl Into<Cow<'static, str>>, advice: impl Into<Cow<'static, str>>) -> Details {
        Details { happened: happened.into(), evidence: Vec::new(), advice: advice.into() }
    }

    /// The same with one more line of evidence; an empty line adds none.
    #[must_use]
    pub fn with(mut self, evidence: impl Into<String>) -> Details {
        let line = evidence.into();
        if !line.is_empty() {
            self.evidence.push(line);
        }
        self
    }
}
