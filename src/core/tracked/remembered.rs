//! What the store keeps of a signal, and how a signal comes back from it. On disk is for ever: each new field has a
//! default, and rows of every earlier form are read.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Tracked;
use crate::core::about::{About, Details};
use crate::core::memory::Memory;
use crate::core::policy::Cooldowns;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Severity, SignalKey, Spec, State};
use crate::core::talk::{Began, Talk};
use crate::core::time::{Now, Wall};

/// What the store keeps of a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The source it belongs to.
    pub source: Arc<str>,
    /// Its title when it was last seen.
    pub title: String,
    /// Its severity when it was last seen.
    pub severity: Severity,
    /// How it stood.
    pub state: State,
    /// Since when.
    pub since: Wall,
    /// The last fact.
    pub fact: String,
    /// The reason of the last decision, for `why` without a daemon.
    pub reason: String,
    /// The open conversation about its being bad.
    pub alert: Option<Talk>,
    /// The open conversation about nobody seeing it.
    pub blind: Option<Talk>,
    /// When it was last alerted.
    pub last_alert_at: Option<Wall>,
    /// What its rule remembers.
    pub memory: Memory,
    /// Events of a warm-up that were not told yet: how many, and the last of them in words.
    #[serde(default)]
    pub kept: Option<(u32, String)>,
    /// When the last of them happened, where its source knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_at: Option<Wall>,
    /// What a person calls it and what the user wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Arc<About>>,
    /// What the last look had to say besides its fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Arc<Details>>,
    /// What its source wants back when it is built again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_source: Option<Arc<str>>,
    /// Since when it has been bad without a break, also before that was told; for single passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_since: Option<Began>,
    /// Since when nobody could see it, also before that was told; for single passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind_since: Option<Now>,
}

impl Tracked {
    /// A signal as the store remembers it. `same_boot`: it was written since this machine booted.
    /// `counts`: the looks in a row go on, and so do spans that were not told of yet, for single passes that follow
    /// one another.
    pub fn restored(
        key: SignalKey,
        row: Remembered,
        now: Now,
        same_boot: bool,
        counts: bool,
        cooldown: Cooldowns,
    ) -> Tracked {
        let severity = row.severity;
        let carry = |talk: Talk| Box::new(talk.carried(now, same_boot, cooldown.longest()).told_as(severity));
        let rule = Rule::at_once(Test::Verdict);
        let spec = Spec { about: row.about, ..Spec::new(key, row.title, row.severity, rule) };
        let memory = if counts && same_boot { row.memory } else { row.memory.restored(row.alert.is_some()) };
        // An instant of another boot is bridged by the wall clock.
        let here = |then: Now| {
            let ago = now.wall.since(then.wall);
            let elsewhere = Now { mono: now.mono.minus(ago), awake: now.awake.minus(ago), ..then };
            if same_boot { then } else { elsewhere }
        };
        let bad_since = row.bad_since.map(|began| Box::new(Began { since: here(began.since), ..began }));
        let blind_since = row.blind_since.map(|since| Box::new(here(since)));
        Tracked {
            fact: Cow::Owned(row.fact),
            state: row.state,
            since: row.since,
            alert: row.alert.map(carry),
            blind: row.blind.map(carry),
            last_alert_at: row.last_alert_at,
            dirty: false,
            memory,
            kept: row.kept.map(Box::new),
            kept_at: row.kept_at,
            details: row.details,
            for_source: row.for_source,
            bad_since: bad_since.filter(|_| counts),
            blind_since: blind_since.filter(|_| counts),
            ..Tracked::new(Arc::new(spec), now)
        }
    }

    /// What the store should keep.
    pub fn remembered(&self, source: &Arc<str>) -> Remembered {
        Remembered {
            source: Arc::clone(source),
            title: self.spec.title.to_string(),
            severity: self.spec.severity,
            state: self.state,
            since: self.since,
            fact: self.fact.to_string(),
            reason: self.reason(),
            alert: self.alert.as_deref().cloned(),
            blind: self.blind.as_deref().cloned(),
            last_alert_at: self.last_alert_at,
            memory: self.memory,
            kept: self.kept.as_deref().cloned(),
            kept_at: self.kept_at,
            about: self.spec.about.clone(),
            details: self.details.clone(),
            for_source: self.for_source.clone(),
            bad_since: self.bad_since.as_deref().copied(),
            blind_since: self.blind_since.as_deref().copied(),
        }
    }
}
