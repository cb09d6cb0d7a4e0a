//! Windows of planned work: when signals are not told because a person planned it so.
//!
//! A window comes back on days of the week or of the month, or is there once. It is a function of the instant and
//! its zone alone and keeps nothing: a clock that goes back opens it again, as its owner would expect. What it covers
//! behaves as under a [`silence`](super::silence). Local times are taken at their widest where clocks change: a time
//! in the hour that is missing begins when that hour would have begun, one in the hour that is double begins with the
//! first and ends with the second, and a window that lies in the missing hour alone keeps its length
//! (`adr/0036-maintenance-windows.md`).

use std::time::Duration;

use jiff::civil::{Date, Weekday};
use jiff::tz::AmbiguousOffset;

use super::glob::matches;
use super::signal::SignalKey;
use super::time::Wall;
use super::zone::Zone;

/// Minutes in a day.
pub const DAY: u16 = 24 * 60;
/// Days that are looked through for the next time: from one day 31 to the next are at most 62.
const AHEAD: usize = 100;
/// Windows that touch are shown as one, at most this many of them.
const JOINED: usize = 40;

/// Signals that are not told while planned work is going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Keys, or globs with `*` and `?`.
    pub patterns: Vec<String>,
    /// When.
    pub when: When,
    /// In which time zone that is meant.
    pub zone: Zone,
    /// Why, in the person's own words; may be empty.
    pub reason: String,
}

/// When a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// From one instant to another, once.
    Once(Span),
    /// Each time that one of these days comes.
    Again(Days, Hours),
}

/// A span of time: `from` is in it, `to` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it begins.
    pub from: Wall,
    /// When it ends.
    pub to: Wall,
}

impl Span {
    fn holds(&self, now: Wall) -> bool {
        self.from <= now && now < self.to
    }
}

/// Which days a window begins on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Days {
    /// These days of the week, Monday first.
    Week([bool; 7]),
    /// This day of the month, 1 to 31; months that have no such day are left out.
    Month(i8),
    /// The last day of the month.
    Last,
    /// The first to fourth such day of the month, or with -1 the last.
    Nth(i8, Weekday),
}

impl Days {
    fn hold(self, date: Date) -> bool {
        match self {
            Days::Week(days) => {
                let index = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or(0);
                days.get(index).copied().unwrap_or(false)
            }
            Days::Month(day) => date.day() == day,
            Days::Last => date == date.last_of_month(),
            Days::Nth(nth, weekday) => date.nth_weekday_of_month(nth, weekday).is_ok_and(|found| found == date),
        }
    }
}

/// A span of local time in minutes after midnight of the day on which it begins: `from` below [`DAY`], `to` above
/// `from` and at most a day later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    to: u16,
}

impl Hours {
    /// From one time of day to another, in minutes after midnight; one that is not later is on the next day. `None` when
    /// there are no such times.
    pub fn new(from: u16, to: u16) -> Option<Hours> {
        let to = if to <= from { to.checked_add(DAY)? } else { to };
        (from < DAY && to <= from + DAY).then_some(Hours { from, to })
    }

    /// How long it is on a day on which no clock is changed.
    pub fn length(self) -> Duration {
        Duration::from_mins(u64::from(self.to - self.from))
    }
}

impl Window {
    /// True when it is about this signal.
    pub fn names(&self, key: &SignalKey) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, key.as_str()))
    }

    /// True when it would never close.
    pub fn is_endless(&self) -> bool {
        matches!(self.when, When::Again(Days::Week(days), hours)
            if days.iter().all(|day| *day) && hours.length() >= Duration::from_hours(24))
    }

    /// The time that holds at `now`, to its end; `None` while the window is closed. Where one ends as the next begins,
    /// they are one.
    pub fn open(&self, now: Wall) -> Option<Span> {
        let mut span = self.at(now)?;
        for _ in 0..JOINED {
            match self.at(span.to) {
                Some(next) if next.to > span.to => span.to = next.to,
                _ => break,
            }
        }
        Some(span)
    }

    /// The next time that begins after `now`; `None` when there is none.
    pub fn next(&self, now: Wall) -> Option<Span> {
        match self.when {
            When::Once(span) => (span.from > now).then_some(span),
            When::Again(days, hours) => {
                let mut date = self.zone.local(now).date();
                for _ in 0..AHEAD {
                    if days.hold(date)
                        && let Some(span) = self.on(date, hours)
                        && span.from > now
                    {
                        return Some(span);
                    }
                    date = date.tomorrow().ok()?;
                }
                None
            }
        }
    }

    /// Of those that hold at `now` the one that ends last.
    fn at(&self, now: Wall) -> Option<Span> {
        match self.when {
            When::Once(span) => Some(span).filter(|span| span.holds(now)),
            When::Again(days, hours) => {
                let today = self.zone.local(now).date();
                // One of yesterday lasts until tomorrow's beginning at most, two days back where a clock went back.
                let yesterday = today.yesterday().ok();
                let before = yesterday.and_then(|date| date.yesterday().ok());
                let dates = [Some(today), yesterday, before].into_iter().flatten().filter(|date| days.hold(*date));
                let spans = dates.filter_map(|date| self.on(date, hours)).filter(|span| span.holds(now));
                spans.max_by_key(|span| span.to)
            }
        }
    }

    /// The time that begins on this day.
    fn on(&self, date: Date, hours: Hours) -> Option<Span> {
        let from = self.instant(date, hours.from, Side::Beginning)?;
        let to = self.instant(date, hours.to, Side::End)?;
        // All of it may lie in the hour that is missing.
        Some(Span { from, to: if to > from { to } else { from.plus(hours.length()) } })
    }

    fn instant(&self, date: Date, minutes: u16, side: Side) -> Option<Wall> {
        let (days, minutes) = (minutes / DAY, minutes % DAY);
        let date = (0..days).try_fold(date, |date, _| date.tomorrow().ok())?;
        let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
        let rules = self.zone.rules();
        let local = rules.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
        let missing = matches!(local.offset(), AmbiguousOffset::Gap { .. });
        let instant = match side {
            Side::Beginning => {
                let earlier = local.earlier().ok()?;
                // Of the missing hour: when the clocks are changed.
                let change = missing.then(|| rules.following(earlier).next()).flatten();
                change.map_or(earlier, |change| change.timestamp())
            }
            Side::End => local.later().ok()?,
        };
        Some(Wall(instant.as_millisecond()))
    }
}

/// Which end of a window a local time is.
#[derive(Clone, Copy)]
enum Side {
    Beginning,
    End,
}

#[cfg(test)]
mod tests;
