//! What is not told for a time, because a person said so.
//!
//! A silence names signals by their key or a glob and must end, at most [`LONGEST`] later: a forgotten silence is
//! a real outage that nobody hears of (F61). What it covers is judged and shown as always; only its alerts and
//! reminders are not sent. What still fires when the silence ends is told then, under its own incident; what was
//! told before it is told as over also within it (A4). Pure: the instant is an argument
//! (`adr/0033-silences-and-the-command-socket.md`).

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::edge::{Edge, EdgeKind};
use super::glob::matches;
use super::signal::SignalKey;
use super::time::Wall;

/// The longest that a silence may last.
pub const LONGEST: Duration = Duration::from_hours(30 * 24);
/// Silences in force at most.
pub const MOST: usize = 256;
/// Characters of a pattern or a reason at most.
pub const TEXT: usize = 200;

/// Signals that a person does not want to hear of until an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Silence {
    /// A key, or a glob with `*` and `?`: `container/shop-*`.
    pub pattern: String,
    /// When it was set.
    pub since: Wall,
    /// When it ends.
    pub until: Wall,
    /// Why, in the person's own words; may be empty.
    pub reason: String,
}

impl Default for Silence {
    fn default() -> Silence {
        Silence { pattern: String::new(), since: Wall(0), until: Wall(0), reason: String::new() }
    }
}

impl Silence {
    /// True when it holds for this signal at `now`. A clock that stands before its beginning does not lengthen it.
    pub fn covers(&self, key: &SignalKey, now: Wall) -> bool {
        self.is_active(now) && matches(&self.pattern, key.as_str())
    }

    fn is_active(&self, now: Wall) -> bool {
        now < self.until && self.until.since(now) <= LONGEST
    }
}

/// What is not told at the moment, and what is owed to a person once that ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Silences {
    /// In force, oldest first; at most [`MOST`].
    pub silences: Vec<Silence>,
    /// Signals that began to fire, or could not be checked any more, without being told.
    untold: BTreeSet<SignalKey>,
    /// The local day whose first pass has named what is silenced: `2026-01-01`. Empty before the first.
    pub told_day: String,
}

/// Something that mutes signals now, or a window that will next, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Mute {
    /// Keys, or globs.
    pub patterns: Vec<String>,
    /// A window of planned work, not a person's command.
    pub is_planned: bool,
    /// When it began or will begin.
    pub since: Wall,
    /// When it ends.
    pub until: Wall,
    /// It mutes now.
    pub is_active: bool,
    /// Why; may be empty.
    pub reason: String,
}

/// What keeps news of a signal back at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// The key or glob that names the signal.
    pub pattern: String,
    /// It is a window of planned work, and not a person's command.
    pub is_planned: bool,
    /// Until when.
    pub until: Wall,
    /// Why, in the person's own words; may be empty.
    pub reason: String,
}

impl Silences {
    /// True when nothing is covered and nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.silences.is_empty() && !self.owes()
    }

    /// True when something was kept back that is to be told once nothing covers it.
    pub fn owes(&self) -> bool {
        !self.untold.is_empty()
    }

    /// What is open about this signal is told once nothing covers it: a silence of it has ended.
    pub fn owe(&mut self, key: SignalKey) {
        self.untold.insert(key);
    }

    /// What was kept back and is not told yet.
    pub fn untold(&self) -> impl Iterator<Item = &SignalKey> {
        self.untold.iter()
    }

    /// This signal is no more: nothing is owed of it, and a silence for it alone ends. True when there was one.
    pub fn forget(&mut self, key: &SignalKey) -> bool {
        self.untold.remove(key);
        let before = self.silences.len();
        self.silences.retain(|silence| silence.pattern != key.as_str());
        before != self.silences.len()
    }

    /// True in the first pass of each local day, when `today` is later than the day before; never for the first day
    /// that is known, nor for a clock that went back.
    pub fn begins_day(&mut self, today: &str) -> bool {
        if self.told_day == today {
            return false;
        }
        let before = std::mem::replace(&mut self.told_day, today.to_string());
        !before.is_empty() && *before < *today
    }

    /// The silence that covers this signal longest at `now`.
    pub fn covering(&self, key: &SignalKey, now: Wall) -> Option<&Silence> {
        self.silences.iter().filter(|silence| silence.covers(key, now)).max_by_key(|silence| silence.until)
    }

    /// Takes out of `edges` what `covers`, and puts in what was covered until now and still lasts. `open` gives the
    /// edge that tells of what is open about a signal, `None` when nothing is. Gives back what is not told.
    pub fn sift(
        &mut self,
        edges: &mut Vec<Edge>,
        covers: impl Fn(&SignalKey) -> bool,
        mut open: impl FnMut(&SignalKey) -> Option<Edge>,
    ) -> Vec<Edge> {
        let mut kept_back = Vec::new();
        let mut told = Vec::with_capacity(edges.len());
        for edge in std::mem::take(edges) {
            let is_covered = covers(&edge.key);
            let begins = edge.kind == EdgeKind::Alert || edge.kind == EdgeKind::Unknown && edge.was.is_empty();
            let was_untold = edge.kind.closes() && self.untold.remove(&edge.key);
            if was_untold || is_covered && edge.kind.opens() {
                // An event is over as it happens: nothing is owed of it.
                if begins && open(&edge.key).is_some() {
                    self.untold.insert(edge.key.clone());
                }
                kept_back.push(edge);
            } else {
                told.push(edge);
            }
        }
        let due: Vec<SignalKey> = self.untold.iter().filter(|key| !covers(key)).cloned().collect();
        for key in due {
            self.untold.remove(&key);
            told.extend(open(&key));
        }
        *edges = told;
        kept_back
    }

    /// Takes a new silence; one with the same pattern gives way to it.
    ///
    /// # Errors
    /// In words, when it does not end in time, names nothing, or there are too many.
    pub fn add(&mut self, silence: Silence, now: Wall) -> Result<(), String> {
        let length = |text: &str| text.chars().count();
        if silence.pattern.trim().is_empty() || length(&silence.pattern) > TEXT {
            return Err(format!("a silence needs a signal's key or a glob of at most {TEXT} characters"));
        }
        if length(&silence.reason) > TEXT {
            return Err(format!("the reason is longer than {TEXT} characters"));
        }
        if silence.until <= now {
            return Err("the end of the silence has passed".to_string());
        }
        if silence.until.since(now) > LONGEST {
            return Err("a silence lasts 30 days at most; silence it again then, or take it out of the configuration"
                .to_string());
        }
        self.expire(now);
        self.silences.retain(|known| known.pattern != silence.pattern);
        if self.silences.len() >= MOST {
            return Err(format!("{MOST} silences are in force already; end some with `watchdog unsilence`"));
        }
        self.silences.push(silence);
        Ok(())
    }

    /// Ends the silences with exactly this pattern, or all that name this key; how many they were.
    pub fn remove(&mut self, pattern: &str) -> usize {
        let before = self.silences.len();
        self.silences.retain(|silence| silence.pattern != pattern);
        if before == self.silences.len() {
            self.silences.retain(|silence| !matches(&silence.pattern, pattern));
        }
        before - self.silences.len()
    }

    /// Forgets those that have ended; gives them back.
    pub fn expire(&mut self, now: Wall) -> Vec<Silence> {
        let (active, ended) = std::mem::take(&mut self.silences).into_iter().partition(|s: &Silence| s.is_active(now));
        self.silences = active;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Wall {
        Wall(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn silence(pattern: &str, hours: u64) -> Silence {
        let now = at("2026-01-01T00:00:00Z");
        let until = now.plus(Duration::from_hours(hours));
        Silence { pattern: pattern.to_string(), since: now, until, reason: "upgrade".to_string() }
    }

    #[test]
    fn a_silence_must_end_within_thirty_days_and_holds_until_then() {
        let now = at("2026-01-01T00:00:00Z");
        let mut mutes = Silences::default();
        assert!(mutes.add(silence("container/*", 0), now).is_err());
        assert!(mutes.add(silence("container/*", 30 * 24 + 1), now).is_err());
        assert!(mutes.add(silence("", 1), now).is_err());
        mutes.add(silence("container/*", 2), now).unwrap();
        let key = SignalKey::new("container/web");
        let end = at("2026-01-01T02:00:00Z");
        assert_eq!(mutes.covering(&key, now).map(|silence| silence.until), Some(end));
        assert_eq!(mutes.covering(&key, Wall(end.0 - 1)).map(|silence| silence.until), Some(end));
        assert_eq!(mutes.covering(&key, end), None);
        assert_eq!(mutes.covering(&SignalKey::new("probe/web"), now), None);
        assert_eq!(mutes.expire(end).len(), 1);
        // A clock that was set back by a year makes no silence of a year.
        mutes.add(silence("container/*", 2), now).unwrap();
        assert_eq!(mutes.covering(&key, at("2025-01-01T00:00:00Z")), None);
    }

    #[test]
    fn the_same_pattern_again_moves_its_end_and_a_key_ends_what_covers_it() {
        let now = at("2026-01-01T00:00:00Z");
        let mut mutes = Silences::default();
        mutes.add(silence("container/*", 2), now).unwrap();
        mutes.add(silence("container/*", 5), now).unwrap();
        mutes.add(silence("probe/*", 5), now).unwrap();
        assert_eq!(mutes.silences.len(), 2);
        assert_eq!(mutes.remove("container/web"), 1);
        assert_eq!(mutes.remove("probe/*"), 1);
        assert_eq!(mutes.remove("probe/*"), 0);
    }

    #[test]
    fn there_is_a_limit_and_it_is_told() {
        let now = at("2026-01-01T00:00:00Z");
        let mut mutes = Silences::default();
        for n in 0..MOST {
            mutes.add(silence(&format!("probe/{n}"), 1), now).unwrap();
        }
        assert!(mutes.add(silence("probe/more", 1), now).unwrap_err().contains("unsilence"));
        mutes.add(silence("probe/3", 2), now).unwrap();
    }

    fn edge(kind: EdgeKind, was: &str) -> Edge {
        Edge { kind, key: SignalKey::new("container/web"), was: was.to_string(), ..Edge::default() }
    }

    fn sift(mutes: &mut Silences, edges: &mut Vec<Edge>, now: Wall, open: Option<Edge>) -> Vec<Edge> {
        let in_force = mutes.clone();
        mutes.sift(edges, |key| in_force.covering(key, now).is_some(), |_| open.clone())
    }

    #[test]
    fn what_is_forgotten_takes_its_silence_and_what_is_owed_along_and_leaves_globs() {
        let now = at("2026-01-01T00:00:00Z");
        let mut mutes = Silences::default();
        mutes.add(silence("container/web", 2), now).unwrap();
        mutes.add(silence("container/*", 1), now).unwrap();
        sift(&mut mutes, &mut vec![edge(EdgeKind::Alert, "")], now, Some(edge(EdgeKind::Alert, "")));
        assert!(mutes.owes());
        assert!(mutes.forget(&SignalKey::new("container/web")));
        assert!(!mutes.owes() && mutes.silences.len() == 1);
        assert!(!mutes.forget(&SignalKey::new("container/web")));
    }

    #[test]
    fn a_day_begins_once_and_not_for_a_clock_that_went_back() {
        let mut mutes = Silences::default();
        let days = [
            ("2026-01-01", false),
            ("2026-01-01", false),
            ("2026-01-02", true),
            ("2026-01-02", false),
            ("2026-01-01", false),
            ("2026-01-02", true),
            ("2030-05-01", true),
            ("2026-01-03", false),
            ("2026-01-04", true),
        ];
        for (day, begins) in days {
            assert_eq!(mutes.begins_day(day), begins, "{day}");
            mutes = serde_json::from_str(&serde_json::to_string(&mutes).unwrap()).unwrap();
        }
    }

    #[test]
    fn what_begins_in_a_silence_is_told_at_its_end_when_it_still_lasts_and_never_when_it_is_over() {
        let now = at("2026-01-01T00:00:00Z");
        for lasts in [true, false] {
            let mut mutes = Silences::default();
            mutes.add(silence("container/*", 2), now).unwrap();
            let mut edges = vec![edge(EdgeKind::Alert, "")];
            assert_eq!(sift(&mut mutes, &mut edges, now, Some(edge(EdgeKind::Alert, ""))).len(), 1);
            assert!(edges.is_empty());
            let restored: Silences = serde_json::from_str(&serde_json::to_string(&mutes).unwrap()).unwrap();
            assert_eq!(restored, mutes, "over a restart");
            let later = at("2026-01-01T03:00:00Z");
            if lasts {
                sift(&mut mutes, &mut edges, later, Some(edge(EdgeKind::Alert, "")));
                assert_eq!(edges, [edge(EdgeKind::Alert, "")], "told when the silence ends");
            } else {
                edges = vec![edge(EdgeKind::Recovery, "")];
                assert_eq!(sift(&mut mutes, &mut edges, later, None).len(), 1);
                assert!(edges.is_empty(), "nobody was told of it");
            }
            assert_eq!(sift(&mut mutes, &mut edges, later, Some(edge(EdgeKind::Alert, ""))), [], "once");
        }
    }

    #[test]
    fn what_was_told_before_a_silence_is_told_as_over_within_it_and_its_reminders_are_not() {
        let now = at("2026-01-01T00:00:00Z");
        let mut mutes = Silences::default();
        mutes.add(silence("container/web", 2), now).unwrap();
        let mut edges = vec![edge(EdgeKind::Realert, "x"), edge(EdgeKind::Unknown, "x"), edge(EdgeKind::Repair, "")];
        assert_eq!(sift(&mut mutes, &mut edges, now, Some(edge(EdgeKind::Alert, ""))).len(), 2);
        assert_eq!(edges, [edge(EdgeKind::Repair, "")], "what is done about it is told");
        edges = vec![edge(EdgeKind::Recovery, "x")];
        sift(&mut mutes, &mut edges, now, None);
        assert_eq!(edges.len(), 1);
    }

    #[test]
    fn an_event_in_a_silence_is_not_owed() {
        let now = at("2026-01-01T00:00:00Z");
        let mut mutes = Silences::default();
        mutes.add(silence("*", 1), now).unwrap();
        let mut edges = vec![edge(EdgeKind::Alert, "")];
        assert_eq!(sift(&mut mutes, &mut edges, now, None).len(), 1);
        sift(&mut mutes, &mut edges, at("2026-01-01T02:00:00Z"), Some(edge(EdgeKind::Alert, "")));
        assert!(edges.is_empty() && mutes.expire(at("2026-01-01T02:00:00Z")).len() == 1 && mutes.is_empty());
    }
}
