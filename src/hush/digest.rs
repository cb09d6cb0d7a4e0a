//! What is silenced, named once a day: the first pass of each local day tells it in one quiet message.
//!
//! A silence that nobody remembers is an outage that nobody hears of (F61). Windows that come back end by themselves
//! within a day and are not named; one that is there once and lasts for longer is.

use std::sync::Arc;
use std::time::Duration;

use super::Hush;
use crate::core::about::{About, Details};
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Observation, Reading, Severity, SignalKey, Spec};
use crate::core::silence::Mute;
use crate::core::time::Now;
use crate::core::watch::Watch;

/// The signal under which it is told. Nothing silences it.
pub const KEY: &str = "watchdog/silences";
/// Silences that the message names; it says how many more there are.
const NAMED: usize = 8;
/// A window that lasts for less is not named.
const LONG: Duration = Duration::from_hours(26);

impl Hush {
    /// The observation that tells of the silences in force in the first pass of a local day, and says in all others
    /// how many there are; `None` where there never were any.
    pub fn digest(&mut self, now: Now, watch: &Watch) -> Option<Observation> {
        self.digest_of(now, watch.looked(&SignalKey::new(KEY)).is_some())
    }

    /// `is_known`: the signal exists.
    pub(super) fn digest_of(&mut self, now: Now, is_known: bool) -> Option<Observation> {
        let is_day = self.silences.begins_day(&self.zone.date(now.wall));
        let lasting = |mute: &Mute| {
            mute.is_active && mute.until > now.wall && (!mute.is_planned || mute.until.since(mute.since) >= LONG)
        };
        let mutes: Vec<Mute> = self.mutes(now.wall).into_iter().filter(lasting).collect();
        if mutes.is_empty() && !is_known {
            return None;
        }
        let name = if mutes.len() == 1 { "1 silence".to_string() } else { format!("{} silences", mutes.len()) };
        let spec = match &self.digest {
            Some(spec) if spec.about.as_ref().is_some_and(|about| *about.name == *name) => Arc::clone(spec),
            _ => {
                let rule = Rule { unknown_after: Duration::ZERO, ..Rule::at_once(Test::Event) };
                let spec = Spec::new(SignalKey::new(KEY), "silences", Severity::Info, rule);
                Arc::new(spec.about(About { name: name.into(), ..About::default() }))
            }
        };
        self.digest = Some(Arc::clone(&spec));
        let told = is_day && !mutes.is_empty();
        let fact = if mutes.is_empty() { "nothing is silenced".to_string() } else { self.list(&mutes, now) };
        let seen = Observation::new(&spec, now.mono, Reading::Happened(u32::from(told)), fact);
        let happened = if mutes.len() == 1 { "is in force" } else { "are in force" };
        Some(if told {
            seen.with(Details::new(happened, "watchdog silences; end one: watchdog unsilence 'PATTERN'"))
        } else {
            seen
        })
    }

    /// `container/shop-* until 2026-01-02 07:30:00: upgrade; probe/db until …`.
    fn list(&self, mutes: &[Mute], now: Now) -> String {
        let one = |mute: &Mute| {
            let reason = if mute.reason.is_empty() { String::new() } else { format!(" ({})", mute.reason) };
            format!("{} until {}{reason}", mute.patterns.join(", "), self.zone.instant(mute.until, now.wall))
        };
        let mut parts: Vec<String> = mutes.iter().take(NAMED).map(one).collect();
        if let Some(more) = mutes.len().checked_sub(NAMED).filter(|more| *more > 0) {
            parts.push(format!("{more} more"));
        }
        parts.join("; ")
    }
}
