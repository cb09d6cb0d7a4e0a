//! What the audit log says about the last 24 hours, so that the strips of the page do not begin
//! empty after a restart.
//!
//! Pure: the log, the signals as the state file remembers them, and the clock are arguments. Shows
//! only what was written down: firing from an alert to its recovery, unknown from "unknown" to
//! "seen", well in between; nothing for the time in which the watchdog was down and for the time
//! before it first spoke of a signal. A suspicion that came to nothing is in no log and is not shown.

use std::collections::BTreeMap;

use crate::core::edge::{EdgeKind, Incident};
use crate::core::signal::{SignalKey, State};
use crate::core::time::Wall;
use crate::core::watch::Standing;
use crate::serve::strip::Strip;
use crate::store::HistoryEntry;

/// The strips of all `signals`. `log` is newest first, as the store gives it; `left_at` is when the
/// run before this one wrote last.
pub fn strips(
    log: &[HistoryEntry],
    signals: impl Iterator<Item = Standing>,
    left_at: Wall,
    now: Wall,
) -> BTreeMap<SignalKey, Strip> {
    let runs = runs(log, left_at);
    let mut by_subject: BTreeMap<&str, Vec<&HistoryEntry>> = BTreeMap::new();
    for entry in log.iter().rev() {
        by_subject.entry(&entry.subject).or_default().push(entry);
    }
    let strips = signals.map(|signal| {
        let entries = by_subject.get(signal.key.as_str()).map(Vec::as_slice).unwrap_or_default();
        let mut strip = Strip::default();
        strip.advance(now);
        for (from, to, state) in spells(entries, &signal, left_at) {
            for (began, ended) in &runs {
                strip.fill(from.max(*began), to.min(*ended), state);
            }
        }
        (signal.key, strip)
    });
    strips.collect()
}

/// When the watchdog ran: from each start to the stop, or to the last word of a run that crashed.
fn runs(log: &[HistoryEntry], left_at: Wall) -> Vec<(Wall, Wall)> {
    let mut runs = Vec::new();
    // A log whose oldest lines are gone begins in the middle of a run.
    let mut began = Some(Wall(i64::MIN));
    let mut heard = Wall(i64::MIN);
    for entry in log.iter().rev() {
        match (entry.subject.as_str(), entry.kind.as_str()) {
            ("watchdog", "started") => {
                runs.extend(began.map(|began| (began, heard)));
                began = Some(entry.at);
            }
            ("watchdog", "stopped") => runs.extend(began.take().map(|began| (began, entry.at))),
            _ => {}
        }
        heard = entry.at;
    }
    runs.extend(began.map(|began| (began, left_at)));
    runs
}

/// From when to when one signal was in which state.
fn spells(entries: &[&HistoryEntry], signal: &Standing, left_at: Wall) -> Vec<(Wall, Wall, State)> {
    let mut spells = Vec::new();
    let mut open: BTreeMap<&Incident, (Wall, State)> = BTreeMap::new();
    let mut known_from = entries.first().map(|entry| entry.at);
    if signal.state == State::Ok {
        known_from = known_from.into_iter().chain([signal.since]).min();
    }
    for entry in entries {
        let Some(incident) = &entry.incident else { continue };
        let is = |kind: EdgeKind| entry.kind == kind.as_str();
        if is(EdgeKind::Alert) || is(EdgeKind::Realert) {
            open.entry(incident).or_insert((entry.at, State::Firing));
        } else if is(EdgeKind::Unknown) {
            open.entry(incident).or_insert((entry.at, State::Unknown));
        } else if is(EdgeKind::Recovery) || is(EdgeKind::Seen) || is(EdgeKind::Removed) {
            // One that was well when it was removed opened nothing.
            let unopened = (!is(EdgeKind::Removed)).then_some(Wall(i64::MIN));
            let state = if is(EdgeKind::Recovery) { State::Firing } else { State::Unknown };
            let spell = open.remove(incident).or(unopened.map(|from| (from, state)));
            spells.extend(spell.map(|(from, state)| (from, entry.at, state)));
        }
    }
    // An alert that nothing closed is still open, or told of an event, which is over at once.
    let still = open.into_iter().filter(|(incident, _)| signal.incident.as_ref() == Some(*incident));
    spells.extend(still.map(|(_, (from, state))| (from, left_at, state)));
    spells.extend(known_from.map(|from| (from, left_at, State::Ok)));
    spells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::signal::Severity;

    const MINUTE: i64 = 60_000;
    const NOW: i64 = 1_767_225_600_000;

    fn at(minutes_ago: i64) -> Wall {
        Wall(NOW - minutes_ago * MINUTE)
    }

    fn entry(minutes_ago: i64, kind: &str, subject: &str, incident: &str) -> HistoryEntry {
        HistoryEntry {
            at: at(minutes_ago),
            kind: kind.to_string(),
            subject: subject.to_string(),
            incident: (!incident.is_empty()).then(|| Incident(incident.to_string())),
            severity: None,
            text: String::new(),
        }
    }

    fn signal(state: State, since: i64, incident: Option<&str>) -> Standing {
        Standing {
            key: SignalKey::new("probe/db"),
            state,
            severity: Severity::Critical,
            title: String::new(),
            detail: String::new(),
            since: at(since),
            incident: incident.map(|name| Incident(name.to_string())),
            reason: String::new(),
            last_alert_at: None,
        }
    }

    /// One letter per hour, oldest first, of the quarter that begins on the hour: o k, f iring, u nknown, - none.
    fn day(log: &[HistoryEntry], signal: Standing, left: i64) -> String {
        let newest_first: Vec<_> = log.iter().rev().cloned().collect();
        let strips = strips(&newest_first, std::iter::once(signal), at(left), at(0));
        let strip = strips.into_values().next().unwrap();
        let mut quarters = Vec::new();
        for run in strip.runs() {
            let letter = match run.state {
                Some(State::Ok) => 'o',
                Some(State::Firing) => 'f',
                Some(State::Unknown) => 'u',
                Some(State::Pending) => 'p',
                None => '-',
            };
            quarters.extend(std::iter::repeat_n(letter, run.count));
        }
        quarters.into_iter().skip(3).step_by(4).collect()
    }

    #[test]
    fn an_outage_of_this_morning_is_still_on_the_strip() {
        let log = [
            entry(3_000, "started", "watchdog", ""),
            entry(2_000, "alert", "probe/db", "aaaa"),
            entry(1_990, "recovery", "probe/db", "aaaa"),
            entry(600, "alert", "probe/db", "bbbb"),
            entry(590, "delivered", "probe/db", "bbbb"),
            entry(420, "recovery", "probe/db", "bbbb"),
            entry(300, "unknown", "probe/db", "cccc"),
            entry(180, "seen", "probe/db", "cccc"),
            entry(1, "stopped", "watchdog", ""),
        ];
        assert_eq!(day(&log, signal(State::Ok, 180, None), 1), "oooooooooooooffffouuuoo-");
    }

    #[test]
    fn what_never_made_news_was_well_since_it_is() {
        let log = [entry(3_000, "started", "watchdog", "")];
        assert_eq!(day(&log, signal(State::Ok, 600, None), 1), "-------------oooooooooo-");
        assert_eq!(day(&log, signal(State::Pending, 600, None), 1), "-".repeat(24), "nothing is known of it");
    }

    #[test]
    fn an_open_incident_fires_to_the_end_and_an_event_is_over_at_once() {
        let log = [entry(3_000, "started", "watchdog", ""), entry(300, "alert", "probe/db", "aaaa")];
        assert_eq!(day(&log, signal(State::Firing, 300, Some("aaaa")), 1), "------------------fffff-");
        assert_eq!(day(&log, signal(State::Ok, 600, None), 1), "-------------oooooooooo-");
    }

    #[test]
    fn while_the_watchdog_was_down_nothing_was_seen() {
        let log = [
            entry(3_000, "started", "watchdog", ""),
            entry(900, "alert", "probe/db", "aaaa"),
            entry(600, "stopped", "watchdog", ""),
            entry(300, "started", "watchdog", ""),
            entry(290, "recovery", "probe/db", "aaaa"),
            // This run is killed and says no word at its end.
            entry(240, "alert", "app/down", "zzzz"),
            entry(120, "started", "watchdog", ""),
        ];
        assert_eq!(day(&log, signal(State::Ok, 290, None), 60), "--------ffffff----fo-oo-");
    }

    #[test]
    fn any_log_makes_a_strip() {
        let kinds = ["alert", "recovery", "unknown", "seen", "started", "stopped", "realert", "?"];
        for seed in 0..2_000_usize {
            let log: Vec<_> = (0..6)
                .map(|n| {
                    let kind = kinds[(seed >> n) % kinds.len()];
                    let subject = if kind.starts_with("st") { "watchdog" } else { "probe/db" };
                    let ago =
                        if seed % 7 == n { i64::MIN / MINUTE / 2 } else { 2_000 - 300 * i64::try_from(n).unwrap() };
                    entry(ago, kind, subject, if seed % 3 == 0 { "" } else { "aaaa" })
                })
                .collect();
            assert_eq!(day(&log, signal(State::Ok, 100, None), 1).len(), 24);
        }
    }
}
