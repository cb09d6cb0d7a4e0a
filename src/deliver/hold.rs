//! What waits a little, so that fewer messages say more: quiet hours, and further news of one cause.
//!
//! An incident waits as a whole, or its end could overtake its beginning. Critical news never waits for the morning;
//! news of a cause that was told less than [`CAUSE_WAIT`] ago waits for the rest of that time and is then told
//! together; infos of a cause wait until it brings no more of them, so that one act of a person (`compose stop`)
//! is one message. A batch that is full never waits: what is held must not stand in the way of what is urgent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::core::edge::{Edge, EdgeKind, Incident};
use crate::core::quiet::QuietHours;
use crate::core::signal::Severity;
use crate::core::time::{Mono, Now};
use crate::core::zone::Zone;
use crate::store::Pending;

/// How long news of one cause are gathered after the first of them was told.
pub const CAUSE_WAIT: Duration = Duration::from_secs(30);
/// How long a cause must bring no further infos before those that came are told.
pub const INFO_CALM: Duration = Duration::from_secs(12);
/// The longest that an info waits for others of its cause.
pub const INFO_WAIT: Duration = Duration::from_mins(1);
/// How long the first news of a cause wait for those of its other signals, where it is known that there are others: one
/// server that fails is seen by several checks within a moment.
pub const PEERS_WAIT: Duration = Duration::from_secs(3);
/// Causes remembered at most; one more than these is told at once.
const CAUSES: usize = 256;
/// The longest until a held message is looked at again: the wall clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Which news wait for what.
#[derive(Debug, Default)]
pub struct Hold {
    /// When a cause was told last.
    told: BTreeMap<Cause, Mono>,
}

/// What news have in common that are told together: the cause, whether they begin something, and the severity. What
/// is critical never waits for what is not.
type Cause = (Arc<str>, bool, Severity);

/// What is to be told now, and how long the rest waits.
#[derive(Debug, Default, PartialEq)]
pub struct Sorted {
    /// To be told now.
    pub now: Vec<Pending>,
    /// What waits.
    pub held: Vec<Pending>,
    /// When to look again, while something waits.
    pub again: Option<Duration>,
}

impl Hold {
    /// Sorts what is pending, at most `full` rows. `ending`: the program is about to end, and only quiet hours count.
    /// `quiet`: when warnings and infos wait, and in which time zone that is meant.
    pub fn sort(
        &mut self,
        rows: Vec<Pending>,
        full: usize,
        now: Now,
        ending: bool,
        quiet: Option<(QuietHours, &Zone)>,
    ) -> Sorted {
        self.told.retain(|_, at| *at <= now.mono && now.mono.since(*at) < CAUSE_WAIT);
        if rows.len() >= full {
            return Sorted { now: rows, ..Sorted::default() };
        }
        let night = quiet.and_then(|(hours, zone)| hours.end(now.wall, zone));
        let mut until: BTreeMap<Incident, Duration> = BTreeMap::new();
        if let Some(end) = night {
            let urgent = incidents(&rows, never_waits);
            let quiet = rows.iter().filter(|row| !urgent.contains(&row.edge.incident));
            until.extend(quiet.map(|row| (row.edge.incident.clone(), end.since(now.wall))));
        }
        if !ending {
            let infos = gathered(&rows);
            let pressing = incidents(&rows, |edge| never_waits(edge) && edge.kind.opens());
            for row in rows.iter().filter(|row| !pressing.contains(&row.edge.incident)) {
                if let Some((first, last)) = cause(&row.edge).and_then(|cause| infos.get(&cause)) {
                    let due = last.plus(INFO_CALM).min(first.plus(INFO_WAIT));
                    if now.mono < due && *last <= now.mono {
                        let wait = until.entry(row.edge.incident.clone()).or_default();
                        *wait = due.since(now.mono).max(*wait);
                    }
                }
            }
            for row in &rows {
                if let Some(at) = cause(&row.edge).and_then(|cause| self.told.get(&cause)) {
                    let left = CAUSE_WAIT.saturating_sub(now.mono.since(*at));
                    let wait = until.entry(row.edge.incident.clone()).or_default();
                    *wait = left.max(*wait);
                }
            }
            for (incident, left) in self.incomplete(&rows, now.mono) {
                let wait = until.entry(incident).or_default();
                *wait = left.max(*wait);
            }
        }
        let again = until.values().min().map(|wait| (*wait).clamp(Duration::from_millis(100), LOOK_AGAIN));
        let (held, now) = rows.into_iter().partition(|row| until.contains_key(&row.edge.incident));
        Sorted { now, held, again }
    }

    /// News of causes that others will share in a moment, and how long to wait for them.
    fn incomplete(&self, rows: &[Pending], now: Mono) -> Vec<(Incident, Duration)> {
        let mut causes: BTreeMap<Cause, Vec<&Pending>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.edge.about.peers > 1) {
            if let Some(cause) = cause(&row.edge).filter(|cause| !self.told.contains_key(cause)) {
                causes.entry(cause).or_default().push(row);
            }
        }
        let mut waits = Vec::new();
        for rows in causes.into_values() {
            let incidents: BTreeSet<&Incident> = rows.iter().map(|row| &row.edge.incident).collect();
            let peers = rows.iter().map(|row| row.edge.about.peers).max().unwrap_or(0);
            let first = rows.iter().map(|row| row.since).min().unwrap_or(now);
            // A clock that went back holds nothing.
            let left = if first <= now { PEERS_WAIT.saturating_sub(now.since(first)) } else { Duration::ZERO };
            if u32::try_from(incidents.len()).is_ok_and(|count| count < peers) && !left.is_zero() {
                waits.extend(incidents.into_iter().map(|incident| (incident.clone(), left)));
            }
        }
        waits
    }

    /// These were told.
    pub fn note<'a>(&mut self, edges: impl Iterator<Item = &'a Edge>, now: Mono) {
        for cause in edges.filter_map(cause) {
            if self.told.len() < CAUSES || self.told.contains_key(&cause) {
                self.told.insert(cause, now);
            }
        }
    }
}

fn never_waits(edge: &Edge) -> bool {
    edge.severity == Severity::Critical
}

fn incidents(rows: &[Pending], which: impl Fn(&Edge) -> bool) -> BTreeSet<&Incident> {
    rows.iter().filter(|row| which(&row.edge)).map(|row| &row.edge.incident).collect()
}

/// When the first and the last info of each cause came.
fn gathered(rows: &[Pending]) -> BTreeMap<Cause, (Mono, Mono)> {
    let mut infos: BTreeMap<Cause, (Mono, Mono)> = BTreeMap::new();
    for row in rows {
        if let Some(cause) = cause(&row.edge).filter(|(.., severity)| *severity == Severity::Info) {
            let span = infos.entry(cause).or_insert((row.since, row.since));
            *span = (span.0.min(row.since), span.1.max(row.since));
        }
    }
    infos
}

/// What an edge has in common with others; reminders and repairs belong to their incident alone.
fn cause(edge: &Edge) -> Option<Cause> {
    let (opens, severity) = match edge.kind {
        EdgeKind::Alert | EdgeKind::Unknown => (true, edge.severity),
        EdgeKind::Recovery | EdgeKind::Seen => (false, edge.severity),
        // That something was removed presses nobody, whatever was wrong with it before.
        EdgeKind::Removed => (false, Severity::Info),
        _ => return None,
    };
    (!edge.about.cause.is_empty()).then(|| (Arc::clone(&edge.about.cause), opens, severity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::about::About;
    use crate::core::time::Wall;

    /// 2026-01-01T23:00:00Z.
    const NIGHT: i64 = 1_767_308_400_000;

    fn at(second: i64) -> Now {
        Now { wall: Wall(NIGHT + second * 1_000), mono: Mono(second * 1_000), awake: Mono(second * 1_000) }
    }

    fn row(id: i64, kind: EdgeKind, severity: Severity, cause: &str) -> Pending {
        let about = Arc::new(About { cause: cause.into(), ..About::default() });
        let edge = Edge { kind, severity, about, incident: Incident(format!("i{id}")), ..Edge::default() };
        Pending { id, tick: id, since: Mono(0), edge }
    }

    fn ids(sorted: &Sorted) -> Vec<i64> {
        sorted.now.iter().map(|row| row.id).collect()
    }

    #[test]
    fn warnings_wait_for_the_morning_and_criticals_never_do() {
        let (mut hold, zone) = (Hold::default(), Zone::default());
        let night = Some((QuietHours::parse("22:00-07:00").unwrap(), &zone));
        let rows = vec![
            row(1, EdgeKind::Alert, Severity::Warning, ""),
            row(2, EdgeKind::Alert, Severity::Critical, ""),
            row(3, EdgeKind::Recovery, Severity::Info, ""),
        ];
        let sorted = hold.sort(rows.clone(), 1_000, at(0), false, night);
        assert_eq!((ids(&sorted), sorted.held.len(), sorted.again), (vec![2], 2, Some(LOOK_AGAIN)));
        assert_eq!(ids(&hold.sort(rows.clone(), 1_000, at(0), true, night)), [2], "not even when the program ends");
        let morning = hold.sort(rows.clone(), 1_000, at(8 * 3_600), false, night);
        assert_eq!((ids(&morning), morning.held.len(), morning.again), (vec![1, 2, 3], 0, None));
        assert_eq!(ids(&hold.sort(rows, 3, at(0), false, night)), [1, 2, 3], "a full batch waits for nothing");
    }

    #[test]
    fn an_incident_that_became_critical_is_told_whole() {
        let (mut hold, zone) = (Hold::default(), Zone::default());
        let night = Some((QuietHours::parse("22:00-07:00").unwrap(), &zone));
        let worse = Pending { id: 2, ..row(1, EdgeKind::Realert, Severity::Critical, "") };
        let rows = vec![row(1, EdgeKind::Alert, Severity::Warning, ""), worse];
        assert_eq!(ids(&hold.sort(rows, 1_000, at(0), false, night)), [1, 2]);
    }

    #[test]
    fn news_of_a_cause_just_told_waits_for_the_rest_of_half_a_minute_beginnings_and_ends_apart() {
        let mut hold = Hold::default();
        let alert = |id| row(id, EdgeKind::Alert, Severity::Critical, "nginx");
        hold.note([alert(1).edge].iter(), Mono(0));
        let rows = vec![
            alert(2),
            row(3, EdgeKind::Recovery, Severity::Critical, "nginx"),
            row(4, EdgeKind::Alert, Severity::Critical, "redis"),
            row(5, EdgeKind::Alert, Severity::Critical, ""),
        ];
        let sorted = hold.sort(rows.clone(), 1_000, at(10), false, None);
        assert_eq!((ids(&sorted), sorted.again), (vec![3, 4, 5], Some(Duration::from_secs(20))));
        assert_eq!(ids(&hold.sort(rows.clone(), 1_000, at(10), true, None)), [2, 3, 4, 5], "nobody waits at the end");
        assert_eq!(ids(&hold.sort(rows.clone(), 1_000, at(30), false, None)), [2, 3, 4, 5]);
        // A clock that went back holds nothing.
        hold.note([alert(1).edge].iter(), Mono(60_000));
        assert_eq!(ids(&hold.sort(rows, 1_000, at(10), false, None)), [2, 3, 4, 5]);
    }

    #[test]
    fn infos_of_a_cause_wait_until_it_brings_no_more_and_what_is_critical_does_not() {
        let mut hold = Hold::default();
        let at_second = |row: Pending, second: i64| Pending { since: Mono(second * 1_000), ..row };
        let info = |id, second| at_second(row(id, EdgeKind::Alert, Severity::Info, "project shop"), second);
        let rows = vec![
            info(1, 0),
            info(2, 10),
            at_second(row(3, EdgeKind::Alert, Severity::Critical, "project shop"), 10),
            at_second(row(4, EdgeKind::Alert, Severity::Info, ""), 10),
            at_second(row(5, EdgeKind::Removed, Severity::Critical, "project shop"), 10),
        ];
        let sorted = hold.sort(rows.clone(), 1_000, at(11), false, None);
        assert_eq!((ids(&sorted), sorted.again), (vec![3, 4], Some(Duration::from_secs(11))));
        assert_eq!(ids(&hold.sort(rows.clone(), 1_000, at(22), false, None)), [1, 2, 3, 4, 5]);
        assert_eq!(ids(&hold.sort(rows, 1_000, at(11), true, None)), [1, 2, 3, 4, 5], "nobody waits at the end");
        // One that goes on and on is told after a minute all the same.
        let many: Vec<Pending> = (0..6).map(|n| info(n, n * 10)).collect();
        assert_eq!(hold.sort(many.clone(), 1_000, at(59), false, None).now.len(), 0);
        assert_eq!(hold.sort(many, 1_000, at(60), false, None).now.len(), 6);
        // What began as an info and became critical presses.
        let worse = Pending { id: 2, ..row(1, EdgeKind::Realert, Severity::Critical, "project shop") };
        assert_eq!(ids(&hold.sort(vec![info(1, 10), worse], 1_000, at(11), false, None)), [1, 2]);
    }

    #[test]
    fn the_first_news_of_a_cause_wait_a_moment_for_the_others_that_it_is_known_to_have() {
        let hold = || Hold::default();
        let one = |id, kind| {
            let row = row(id, kind, Severity::Critical, "nginx");
            let about = Arc::new(About { peers: 3, ..About::clone(&row.edge.about) });
            Pending { edge: Edge { about, ..row.edge }, since: Mono(1_000), ..row }
        };
        let (alert, over) = (|id| one(id, EdgeKind::Alert), |id| one(id, EdgeKind::Recovery));
        let sorted = hold().sort(vec![alert(1), alert(2)], 1_000, at(2), false, None);
        assert_eq!((ids(&sorted), sorted.again), (vec![], Some(Duration::from_secs(2))));
        let sorted = hold().sort(vec![alert(1), alert(2)], 1_000, at(4), false, None);
        assert_eq!(ids(&sorted), [1, 2], "the others are well");
        let sorted = hold().sort(vec![alert(1), alert(2), alert(3)], 1_000, at(2), false, None);
        assert_eq!(ids(&sorted), [1, 2, 3], "all are there");
        let sorted = hold().sort(vec![over(4)], 1_000, at(2), false, None);
        assert_eq!(ids(&sorted), Vec::<i64>::new(), "ends as well");
        assert_eq!(ids(&hold().sort(vec![alert(1)], 1_000, at(2), true, None)), [1], "nobody waits at the end");
        assert_eq!(ids(&hold().sort(vec![alert(1)], 1_000, at(0), false, None)), [1], "a clock went back");
    }

    #[test]
    fn the_causes_remembered_are_bounded() {
        let mut hold = Hold::default();
        for n in 0..10_000 {
            hold.note([row(n, EdgeKind::Alert, Severity::Critical, &format!("cause {n}")).edge].iter(), Mono(0));
        }
        assert_eq!(hold.told.len(), CAUSES);
    }
}
