//! What is not told at the moment, in the running program: silences, changed by commands and kept in the state file,
//! and windows of planned work, which the configuration names.
//!
//! Carries out what came in over the command socket ([`crate::command`]) and remembers it before it is answered; a
//! pass hands its edges through [`Hush::sift`]. What a silence is and what it keeps back is `core/silence.rs`'s to
//! decide, and when a window is open `core/maintenance.rs`'s (`adr/0033-silences-and-the-command-socket.md`,
//! `adr/0036-maintenance-windows.md`).

mod digest;
mod orders;
pub mod windows;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::{Desk, Reply, Waiting};
use crate::core::edge::Edge;
use crate::core::glob::matches;
use crate::core::maintenance::{Span, Window};
use crate::core::signal::{SignalKey, Spec};
use crate::core::silence::{Cover, Mute, Silence, Silences};
use crate::core::time::{Now, Wall};
use crate::core::watch::{Outcome, Watch};
use crate::core::zone::Zone;
use crate::gather::Gather;
use crate::store::{HistoryEntry, Store};

pub use self::digest::KEY as DIGEST;
pub use self::windows::SECTIONS;

/// Under this the store remembers them.
const PLACE: (&str, &str) = ("silences", "in force");

/// The silences, the windows, and the desk at which commands wait.
#[derive(Default)]
pub struct Hush {
    silences: Silences,
    /// What was remembered last.
    kept: Silences,
    windows: Vec<Window>,
    /// The windows that are open in this pass, by their places, and until when.
    open: Vec<(usize, Span)>,
    /// In which local days the digest counts.
    zone: Zone,
    /// What covered signals in the pass before, and how often that has changed.
    shown: (Vec<Silence>, Vec<(usize, Span)>),
    changes: u64,
    digest: Option<Arc<Spec>>,
    /// Where commands wait; none without a state file and in single passes.
    pub desk: Option<Desk>,
    lines: Vec<HistoryEntry>,
    /// The patterns of what ended in this pass: whatever of it still fails is told.
    ended: Vec<String>,
}

/// A command that was carried out and waits for the commit to be answered.
pub type Answered = (Waiting, Reply);

impl Hush {
    /// What an earlier run left in force.
    pub fn restored(store: &Store) -> Hush {
        let kept = store.remembered(PLACE.0).unwrap_or_default();
        let silences: Silences = match kept.get(PLACE.1).map(|text| serde_json::from_str(text)) {
            None => Silences::default(),
            Some(Ok(silences)) => silences,
            Some(Err(error)) => {
                tracing::warn!("state: the silences cannot be read, so nothing is silenced: {error}");
                Silences::default()
            }
        };
        Hush { kept: silences.clone(), silences, ..Hush::default() }
    }

    /// Goes on with these windows; the days of the digest begin and end in this time zone.
    pub fn configure(&mut self, windows: Vec<Window>, zone: Zone) {
        if self.windows != windows {
            self.windows = windows;
            self.open.clear();
            self.changes += 1;
        }
        self.zone = zone;
    }

    /// Ends what has ended and opens what is due.
    pub fn look(&mut self, now: Wall) {
        for ended in self.silences.expire(now) {
            self.note(now, "unsilenced", &ended.pattern, "the silence has ended".to_string());
            self.ended.push(ended.pattern);
        }
        self.open_and_close(now);
    }

    /// Ends what has ended, opens what is due, and carries out what waits at the desk. The answers are given after the
    /// commit. What commands close is added to `outcome`.
    pub fn obey(&mut self, watch: &mut Watch, outcome: &mut Outcome, gather: &Gather, now: Now) -> Vec<Answered> {
        self.look(now.wall);
        let waiting = self.desk.as_ref().map(Desk::take).unwrap_or_default();
        let mut answered = Vec::with_capacity(waiting.len());
        for waiting in waiting {
            let reply = self.carry_out(&waiting.request, watch, outcome, gather, now);
            answered.push((waiting, reply));
        }
        if self.shown.0 != self.silences.silences || self.shown.1 != self.open {
            self.shown = (self.silences.silences.clone(), self.open.clone());
            self.changes += 1;
        }
        answered
    }

    fn open_and_close(&mut self, now: Wall) {
        let spans = self.windows.iter().enumerate().filter_map(|(place, window)| Some((place, window.open(now)?)));
        let open: Vec<(usize, Span)> = spans.collect();
        let before = std::mem::replace(&mut self.open, open);
        let was = |place: usize| before.iter().any(|(other, _)| *other == place);
        let is = |place: usize| self.open.iter().any(|(other, _)| *other == place);
        let (mut lines, mut ended) = (Vec::new(), Vec::new());
        for (place, window) in self.windows.iter().enumerate() {
            let until = self.open.iter().find(|(other, _)| *other == place).map(|(_, span)| span.to);
            let because = if window.reason.is_empty() { String::new() } else { format!(": {}", window.reason) };
            let patterns = window.patterns.join(" ");
            match (was(place), until) {
                (false, Some(until)) => {
                    lines.push(("silenced", patterns, format!("maintenance until {until}{because}")));
                }
                (true, None) if !is(place) => {
                    ended.extend(window.patterns.iter().cloned());
                    lines.push(("unsilenced", patterns, "the maintenance has ended".into()));
                }
                _ => {}
            }
        }
        for (kind, patterns, text) in lines {
            self.note(now, kind, &patterns, text);
        }
        self.ended.append(&mut ended);
    }

    /// Takes out of a pass what is not told, and adds what is due because nothing covers it any more. Gives the lines
    /// that the audit log gets for it, those of commands among them.
    pub fn sift(&mut self, edges: &mut Vec<Edge>, watch: &Watch, now: Now) -> Vec<HistoryEntry> {
        self.owe_what_lasts(edges, watch, now.wall);
        if self.covers_any() || self.silences.owes() {
            let keys = edges.iter().map(|edge| &edge.key).chain(self.silences.untold());
            let covered = keys.filter(|key| self.cover(key, now.wall).is_some()).cloned();
            let covered: BTreeSet<SignalKey> = covered.collect();
            let open = |key: &SignalKey| watch.open_edge(key, now);
            for edge in self.silences.sift(edges, |key| covered.contains(key), open) {
                self.lines.push(HistoryEntry {
                    at: now.wall,
                    kind: "silenced".to_string(),
                    subject: edge.key.to_string(),
                    incident: Some(edge.incident),
                    severity: Some(edge.severity),
                    text: format!("{} not told: {}", edge.kind.as_str(), edge.fact),
                });
            }
        }
        std::mem::take(&mut self.lines)
    }

    /// What was told before a silence and still lasts at its end is told again: nobody was reminded of it meanwhile.
    fn owe_what_lasts(&mut self, edges: &[Edge], watch: &Watch, now: Wall) {
        let ended = std::mem::take(&mut self.ended);
        if ended.is_empty() {
            return;
        }
        let told_now: BTreeSet<&SignalKey> = edges.iter().map(|edge| &edge.key).collect();
        let lasting = watch.tracked().filter(|tracked| tracked.is_alerted()).map(|tracked| &tracked.spec.key);
        for key in lasting.filter(|key| !told_now.contains(key)) {
            // What another silence covers is told when that ends.
            let was_covered = ended.iter().any(|pattern| matches(pattern, key.as_str()));
            if was_covered && self.cover(key, now).is_none() {
                self.silences.owe(key.clone());
            }
        }
    }

    /// Remembers what changed. Before the commit of the pass: an alert that is kept back must stay owed after a crash.
    pub fn keep(&mut self, store: &Store) {
        if self.silences == self.kept {
            return;
        }
        let text = serde_json::to_string(&self.silences).unwrap_or_default();
        match store.remember(PLACE.0, PLACE.1, &text) {
            Ok(()) => self.kept = self.silences.clone(),
            Err(error) => tracing::error!("state: the silences were not kept: {error}"),
        }
    }

    /// What keeps news of this signal back longest in this pass; `None` when they are told.
    pub fn cover(&self, key: &SignalKey, now: Wall) -> Option<Cover> {
        if !self.covers_any() || key.as_str() == DIGEST {
            return None;
        }
        let silence = self.silences.covering(key, now).map(|silence| Cover {
            pattern: silence.pattern.clone(),
            is_planned: false,
            until: silence.until,
            reason: silence.reason.clone(),
        });
        let open = self.open.iter().filter_map(|(place, span)| Some((self.windows.get(*place)?, span)));
        let window = open.filter(|(window, _)| window.names(key)).max_by_key(|(_, span)| span.to);
        let window = window.map(|(window, span)| Cover {
            pattern: window.patterns.join(", "),
            is_planned: true,
            until: span.to,
            reason: window.reason.clone(),
        });
        silence.into_iter().chain(window).max_by_key(|cover| cover.until)
    }

    /// True when something may be covered at all.
    fn covers_any(&self) -> bool {
        !self.silences.silences.is_empty() || !self.open.is_empty()
    }

    /// How often what is covered has changed: while it stays the same, [`Hush::cover`] gives the same.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Everything that mutes now or will next: silences and open windows, then the next times of the others.
    pub fn mutes(&self, now: Wall) -> Vec<Mute> {
        let silences = self.silences.silences.iter().map(|silence| Mute {
            patterns: vec![silence.pattern.clone()],
            is_planned: false,
            since: silence.since,
            until: silence.until,
            is_active: true,
            reason: silence.reason.clone(),
        });
        let mut mutes: Vec<Mute> = silences.collect();
        for window in &self.windows {
            let open = window.open(now);
            let Some(span) = open.or_else(|| window.next(now)) else { continue };
            mutes.push(Mute {
                patterns: window.patterns.clone(),
                is_planned: true,
                since: span.from,
                until: span.to,
                is_active: open.is_some(),
                reason: window.reason.clone(),
            });
        }
        mutes.sort_by_key(|mute| if mute.is_active { (false, mute.until) } else { (true, mute.since) });
        mutes
    }

    fn note(&mut self, at: Wall, kind: &str, subject: &str, text: String) {
        let subject = subject.to_string();
        self.lines.push(HistoryEntry { at, kind: kind.to_string(), subject, incident: None, severity: None, text });
    }
}

#[cfg(test)]
mod tests;
