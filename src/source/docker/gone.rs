//! Containers that are not there any more: which of them are dropped without a word, and which are told.
//!
//! One that somebody removed is neither well nor missing: it is told once, all of one compose project in one
//! line, and forgotten. Only one that must be there (named in the settings, or with the label
//! `watchdog.required=true`) is missing. What is remembered of those is bounded by [`MISSING`], and whoever
//! falls off is told as removed, with the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::DockerSource;
use super::fact::{self, Told};
use super::select::Called;
use super::verdict::{Facts, Reason, Verdict};
use crate::client::docker::Listed;
use crate::core::signal::{Observation, Reading, Removal, SignalKey};
use crate::core::time::Now;

/// Missing containers that nobody named, remembered at most.
pub const MISSING: usize = 256;

/// Graces that a removed container waits for the others of its project, to be told with them in one line.
pub const TOGETHER: u32 = 6;

/// What one look finds to be going or gone.
#[derive(Debug, Default)]
pub struct Going {
    /// Identities of those that go without a word.
    pub forgotten: Vec<String>,
    /// Identities of those that somebody removed.
    pub removed: Vec<(String, Facts)>,
    /// Compose projects of which a container has just stopped or been removed: more may follow.
    pub projects: BTreeSet<String>,
}

impl Going {
    /// Takes note of one that is still there, or may be replaced.
    pub fn note(&mut self, called: &Called, verdict: &Verdict) {
        if verdict.reason == Reason::Settling {
            self.projects.extend(called.project.clone());
        }
    }
}

/// The facts about one that is not there, when `nobody_said` why. An empty list may be an engine that lost its disk:
/// that somebody removed the last container is known from the engine's event, and without it nothing is gone on
/// the word of such a list before `forget_after`.
pub fn believed(facts: Facts, nobody_said: bool, forget_after: Duration) -> Facts {
    let waits = nobody_said && !facts.required && facts.ago < forget_after;
    if waits { Facts { ago: Duration::ZERO, ..facts } } else { facts }
}

/// What was removed since the look before, by compose project.
#[derive(Debug, Default)]
pub struct Removed(BTreeMap<Option<String>, Vec<SignalKey>>);

impl Removed {
    /// One more.
    pub fn note(&mut self, called: &Called, key: &SignalKey) {
        self.0.entry(called.project.clone()).or_default().push(key.clone());
    }

    /// To be told: one line for each project, and one for those that belong to none.
    pub fn tell(self) -> Vec<Removal> {
        let removals = self.0.into_iter().map(|(project, signals)| {
            let (key, title) = match project {
                Some(project) => {
                    let project = fact::clean(&project, 128);
                    (format!("project/{project}"), format!("containers of project {project}"))
                }
                None => ("container/*".to_string(), "containers".to_string()),
            };
            Removal { key: SignalKey::new(&key), title: Arc::from(title), signals }
        });
        removals.collect()
    }
}

impl DockerSource {
    /// Drops what is gone, once nothing more of its project is going.
    pub(super) fn let_go(
        &mut self,
        going: Going,
        now: Now,
        seen: &mut BTreeMap<SignalKey, Observation>,
        removed: &mut Removed,
    ) {
        for identity in going.forgotten {
            self.tracks.remove(&identity);
        }
        for (identity, facts) in going.removed {
            let Some(track) = self.tracks.get_mut(&identity) else { continue };
            let more_follow = track.called.project.as_ref().is_some_and(|project| going.projects.contains(project));
            if more_follow && facts.ago < self.limits.grace * TOGETHER {
                let told = Told { inspected: None, last_exit: track.last_exit, window: self.settings.restart_window.0 };
                let text = fact::fact(Reason::Settling, &facts, &self.limits, &told);
                let waits = || Observation::new(&track.specs.usual, now.mono, Reading::Unknown, text);
                seen.entry(track.specs.key().clone()).or_insert_with(waits);
            } else {
                removed.note(&track.called, track.specs.key());
                self.tracks.remove(&identity);
            }
        }
    }

    /// Drops what is gone for good: renamed, replaced under the same name, missing for too long.
    pub(super) fn forget(
        &mut self,
        list: &[Listed],
        present: &BTreeMap<String, (Called, &Listed)>,
        now: Now,
    ) -> Removed {
        let named: BTreeSet<String> = self.selection.named().map(str::to_string).collect();
        let ids: BTreeSet<&str> = list.iter().map(|listed| listed.id.as_str()).collect();
        let names: BTreeSet<&str> = present.values().map(|(called, _)| called.name.as_str()).collect();
        let own = self.own_identity.clone();
        self.tracks.retain(|identity, track| {
            let elsewhere = ids.contains(track.id()) || names.contains(track.called.name.as_str());
            let answered = track.id().is_empty()
                && present.values().any(|(called, _)| called.service.as_deref() == Some(&track.called.name));
            present.contains_key(identity) || !(elsewhere || answered || own.as_ref() == Some(identity))
        });
        let mut missing: Vec<(Duration, String)> = self
            .tracks
            .iter()
            .filter(|(_, track)| track.called.required)
            .filter(|(_, track)| !named.iter().any(|name| self.selection.means(name, &track.called)))
            .filter_map(|(identity, track)| track.gone_for(now.mono).map(|gone| (gone, identity.clone())))
            .collect();
        missing.sort();
        let mut removed = Removed::default();
        for (index, (gone, identity)) in missing.into_iter().enumerate() {
            if (gone >= self.settings.forget_after.0 || index >= MISSING)
                && let Some(track) = self.tracks.remove(&identity)
            {
                removed.note(&track.called, track.specs.key());
            }
        }
        removed
    }
}
