//! `[[maintenance]]` as people write it: read, checked as a whole, and made into windows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::config::schema::{Kind, Section, Setting};
use crate::config::veil::quoted;
use crate::config::{Config, ConfigError, Problem, one_of};
use crate::core::maintenance::{DAY, Days, Hours, Span, When, Window};
use crate::core::silence::{LONGEST, TEXT};
use crate::core::time::{Wall, people};
use crate::core::zone::Zone;

/// Windows at most.
const MOST: usize = 64;
/// Globs of one window at most.
const PATTERNS: usize = 64;

crate::settings! {
    /// Planned work: while the window is open, what it names is checked and shown, but not told and not repaired. What
    /// still fails at its end is told then. Without days and day it opens every day; with dates it is there once.
    pub struct Settings {
        /// Signals, or globs over their keys: container/shop-*, probe/db. Required.
        r#match: Globs = Globs::default(),
        /// Days of the week on which it opens: mon, tue, wed, thu, fri, sat, sun.
        days: Globs = Globs::default(),
        /// Day of the month on which it opens: 1 to 31, last, or such as "first sat", "last fri". A month without such
        /// a day has no window.
        day: String = String::new(),
        /// When it opens: 02:00, or once: 2026-12-01T22:00. Required.
        from: String = String::new(),
        /// When it closes: 04:00, or once: 2026-12-02T02:00. A time of day that is not later than from is on the next
        /// day; 24:00 is midnight. Required.
        to: String = String::new(),
        /// The same as from, for a window that is there once.
        start: String = String::new(),
        /// The same as to, for a window that is there once.
        end: String = String::new(),
        /// Time zone in which the times are meant: Europe/Berlin. Default: the top-level time_zone.
        time_zone: String = String::new(),
        /// Why, shown wherever the window is shown; at most 200 characters.
        reason: String = String::new(),
    }
}

/// The parts of the configuration that this folder owns.
pub const SECTIONS: &[Section] = &[Settings::sections("maintenance")];

/// Texts; one text alone is a list of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Globs(pub Vec<String>);

impl Setting for Globs {
    const KIND: Kind = Kind::Texts;
}

/// A key of the table and what is wrong with its value.
type Wrong = (&'static str, String);

/// Every window.
///
/// # Errors
/// Everything that is wrong with any of them, with its place.
pub fn windows(config: &Config) -> Result<Vec<Window>, ConfigError> {
    let tables: Vec<Settings> = config.list("maintenance")?;
    // Wrong as a top-level key, it is told there.
    let zone = config.root().zone().unwrap_or_default();
    let (mut windows, mut problems): (Vec<Window>, Vec<Problem>) = (Vec::new(), Vec::new());
    if tables.len() > MOST {
        problems.push(config.problem("maintenance", format!("there are more than {MOST} windows")));
    }
    for (index, table) in tables.iter().enumerate().take(MOST) {
        match window(table, &zone) {
            Ok(window) => windows.push(window),
            Err(wrong) => problems.extend(
                wrong.into_iter().map(|(key, what)| config.problem(&format!("maintenance[{index}].{key}"), what)),
            ),
        }
    }
    if problems.is_empty() { Ok(windows) } else { Err(ConfigError { problems }) }
}

fn window(table: &Settings, root: &Zone) -> Result<Window, Vec<Wrong>> {
    let mut wrong: Vec<Wrong> = Vec::new();
    let mut check =
        |key: &'static str, outcome: Result<(), String>| wrong.extend(outcome.err().map(|what| (key, what)));
    check("match", patterns(&table.r#match.0));
    check("reason", length(&table.reason, "the reason"));
    let zone = match table.time_zone.as_str() {
        "" => Ok(root.clone()),
        name => TimeZone::get(name).map(Zone::new).map_err(|_| {
            format!("{} is not a time zone; write for example \"Europe/Berlin\" or \"UTC\"", quoted(name))
        }),
    };
    check("time_zone", zone.as_ref().map(drop).map_err(Clone::clone));
    let zone = zone.unwrap_or_default();
    let when = match when(table, &zone) {
        Ok(when) => when,
        Err(more) => {
            wrong.extend(more);
            return Err(wrong);
        }
    };
    let window = Window { patterns: table.r#match.0.clone(), when, zone, reason: table.reason.clone() };
    if window.is_endless() {
        let what = "the window never closes: exclude what is not to be watched, or leave a time in which it is told";
        wrong.push(("to", what.to_string()));
    }
    if wrong.is_empty() { Ok(window) } else { Err(wrong) }
}

fn patterns(patterns: &[String]) -> Result<(), String> {
    if patterns.is_empty() {
        return Err("is missing: name signals or globs, for example [\"container/shop-*\"]".to_string());
    }
    if patterns.len() > PATTERNS {
        return Err(format!("has more than {PATTERNS} globs"));
    }
    if patterns.iter().any(|pattern| pattern.trim().is_empty()) {
        return Err("holds an empty glob; \"*\" stands for every signal".to_string());
    }
    patterns.iter().try_for_each(|pattern| length(pattern, "a glob"))
}

fn length(text: &str, what: &str) -> Result<(), String> {
    if text.chars().count() > TEXT { Err(format!("{what} is longer than {TEXT} characters")) } else { Ok(()) }
}

/// The keys of the beginning and the end with their values: `from` and `to`, or `start` and `end`.
fn ends(table: &Settings) -> Result<[(&'static str, &str); 2], Vec<Wrong>> {
    let mut wrong = Vec::new();
    let mut one = |key: &'static str, value, once: &'static str, other| match (value, other) {
        ("", "") => {
            let what = "is missing: write a time of day such as 02:00, or once such as 2026-12-01T22:00";
            wrong.push((key, what.to_string()));
            (key, "")
        }
        ("", other) => (once, other),
        (value, "") => (key, value),
        (..) => {
            wrong.push((once, format!("is the same as `{key}`; keep one")));
            (key, "")
        }
    };
    let from = one("from", table.from.trim(), "start", table.start.trim());
    let to = one("to", table.to.trim(), "end", table.end.trim());
    if wrong.is_empty() { Ok([from, to]) } else { Err(wrong) }
}

fn when(table: &Settings, zone: &Zone) -> Result<When, Vec<Wrong>> {
    let [(from_key, from), (to_key, to)] = ends(table)?;
    let once = |key, text| instant(text, zone).map_err(|what| vec![(key, what)]);
    if is_dated(from) || is_dated(to) || from_key == "start" || to_key == "end" {
        for (key, set) in [("days", !table.days.0.is_empty()), ("day", !table.day.is_empty())] {
            if set {
                return Err(vec![(
                    key,
                    "a window with dates is there once and has no days; leave one out".to_string(),
                )]);
            }
        }
        let span = Span { from: once(from_key, from)?, to: once(to_key, to)? };
        if span.to <= span.from {
            return Err(vec![(to_key, format!("{} is not after `{from_key}` ({})", quoted(to), quoted(from)))]);
        }
        if span.to.since(span.from) > LONGEST {
            let long = people(span.to.since(span.from));
            return Err(vec![(to_key, format!("the window lasts {long}, and 30 days at most are possible"))]);
        }
        return Ok(When::Once(span));
    }
    let mut wrong = Vec::new();
    let mut take = |key, outcome: Result<u16, String>| outcome.map_err(|what| wrong.push((key, what))).ok();
    let times = (take("from", time(from)), take("to", time(to)));
    let days = days(table).map_err(|more| wrong.extend(more)).ok();
    if let (Some(from), Some(to)) = times
        && from == to
    {
        wrong.push(("to", "is the same as `from`; write 24:00 for a day that ends at midnight".to_string()));
    }
    if let (Some(DAY), _) = times {
        wrong.push(("from", "24:00 is the end of a day; write 00:00".to_string()));
    }
    match (times, days) {
        ((Some(from), Some(to)), Some(days)) if wrong.is_empty() => Hours::new(from, to)
            .map(|hours| When::Again(days, hours))
            .ok_or_else(|| vec![("to", "is more than a day after `from`".to_string())]),
        _ => Err(wrong),
    }
}

fn is_dated(text: &str) -> bool {
    text.len() > 5 && text.contains('-')
}

/// `02:00` as minutes after midnight; `24:00` is the end of the day.
fn time(text: &str) -> Result<u16, String> {
    let wrong = || format!("{} is not a time of day; write for example \"02:00\"", quoted(text));
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour, 2) || minute.len() != 2 || !digits(minute, 2) {
        return Err(wrong());
    }
    let (hour, minute): (u16, u16) = (hour.parse().map_err(|_| wrong())?, minute.parse().map_err(|_| wrong())?);
    let all = hour * 60 + minute;
    if minute < 60 && all <= DAY { Ok(all) } else { Err(wrong()) }
}

/// An instant as people write it, in their zone; a time in the hour that is missing is an hour later.
fn instant(text: &str, zone: &Zone) -> Result<Wall, String> {
    let wrong = || format!("{} is not a date with a time; write for example \"2026-12-01T22:00\"", quoted(text));
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Wall(at.as_millisecond()));
    }
    if !text.contains([':']) {
        return Err(wrong());
    }
    let local: DateTime = text.parse().map_err(|_| wrong())?;
    let at = local.to_zoned_datetime(zone.rules()).map_err(|_| wrong())?;
    Ok(Wall(at.timestamp().as_millisecond()))
}

fn days(table: &Settings) -> Result<Days, Vec<Wrong>> {
    if !table.day.trim().is_empty() {
        if !table.days.0.is_empty() {
            return Err(vec![("day", "stands beside `days`; keep one".to_string())]);
        }
        return day(&table.day).map_err(|what| vec![("day", what)]);
    }
    if table.days.0.is_empty() {
        return Ok(Days::Week([true; 7]));
    }
    let mut week = [false; 7];
    for text in &table.days.0 {
        let day = weekday(text).map_err(|what| vec![("days", what)])?;
        let place = usize::try_from(day.to_monday_zero_offset()).unwrap_or(0);
        week.iter_mut().skip(place).take(1).for_each(|day| *day = true);
    }
    Ok(Days::Week(week))
}

fn weekdays() -> BTreeMap<&'static str, Weekday> {
    BTreeMap::from([
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ])
}

fn weekday(text: &str) -> Result<Weekday, String> {
    let wanted = text.trim().to_lowercase();
    weekdays().get(wanted.as_str()).copied().ok_or_else(|| {
        let lead = format!("{} is not a day of the week", quoted(text));
        one_of(&lead, &wanted, &["mon", "tue", "wed", "thu", "fri", "sat", "sun"])
    })
}

/// `1`, `last`, `first sat`.
fn day(text: &str) -> Result<Days, String> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let nth = |word: &str| match word {
        "first" => Some(1),
        "second" => Some(2),
        "third" => Some(3),
        "fourth" => Some(4),
        "last" => Some(-1),
        _ => None,
    };
    match words.as_slice() {
        ["last"] => Ok(Days::Last),
        [number] if number.parse::<i8>().is_ok_and(|number| (1..=31).contains(&number)) => {
            Ok(Days::Month(number.parse().unwrap_or(1)))
        }
        [place, day] if nth(place).is_some() => Ok(Days::Nth(nth(place).unwrap_or(1), weekday(day)?)),
        _ => Err(format!(
            "{} is not a day of a month; write 1 to 31, \"last\", or for example \"first sat\" or \"last fri\"",
            quoted(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Window>, String> {
        let text = format!("time_zone = \"Europe/Berlin\"\n[[maintenance]]\n{body}");
        let config = Config::from_toml(&text).map_err(|error| error.to_string())?;
        windows(&config).map_err(|error| error.to_string())
    }

    fn at(text: &str) -> Wall {
        Wall(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn when(body: &str) -> When {
        read(&format!("match = \"*\"\n{body}")).unwrap_or_else(|error| panic!("{body}: {error}"))[0].when
    }

    #[test]
    fn a_window_is_weekly_monthly_daily_or_there_once() {
        let hours = |from, to| Hours::new(from, to).unwrap();
        let mut weekend = [false; 7];
        (weekend[5], weekend[6]) = (true, true);
        let once = When::Once(Span { from: at("2026-12-01T21:00:00Z"), to: at("2026-12-02T01:00:00Z") });
        let table = [
            (
                "days = [\"sat\", \"Sunday\"]\nfrom = \"02:00\"\nto = \"04:00\"",
                When::Again(Days::Week(weekend), hours(120, 240)),
            ),
            ("from = \"22:00\"\nto = \"6:30\"", When::Again(Days::Week([true; 7]), hours(1_320, 390))),
            ("day = 1\nfrom = \"00:00\"\nto = \"24:00\"", When::Again(Days::Month(1), hours(0, 1_440))),
            ("day = \"last\"\nfrom = \"02:00\"\nto = \"04:00\"", When::Again(Days::Last, hours(120, 240))),
            (
                "day = \"first sat\"\nfrom = \"02:00\"\nto = \"04:00\"",
                When::Again(Days::Nth(1, Weekday::Saturday), hours(120, 240)),
            ),
            (
                "day = \"last friday\"\nfrom = \"02:00\"\nto = \"04:00\"",
                When::Again(Days::Nth(-1, Weekday::Friday), hours(120, 240)),
            ),
            ("from = \"2026-12-01T22:00\"\nto = \"2026-12-02T02:00\"", once),
            ("start = \"2026-12-01 22:00\"\nend = \"2026-12-02T01:00:00Z\"", once),
            ("from = \"2026-12-01T16:00\"\nto = \"2026-12-01T20:00\"\ntime_zone = \"America/New_York\"", once),
        ];
        for (body, expected) in table {
            assert_eq!(when(body), expected, "{body}");
        }
        let all = read("match = [\"container/a\", \"probe/*\"]\nfrom = \"02:00\"\nto = \"03:00\"\nreason = \"backup\"")
            .unwrap();
        assert_eq!((all[0].patterns.len(), all[0].reason.as_str(), all[0].zone.name()), (2, "backup", "Europe/Berlin"));
    }

    #[test]
    fn each_mistake_is_named_with_its_key_and_what_would_be_right() {
        let hours = "from = \"02:00\"\nto = \"04:00\"";
        let table = [
            (hours.to_string(), "match", "is missing"),
            (format!("match = []\n{hours}"), "match", "is missing"),
            (format!("match = \" \"\n{hours}"), "match", "empty glob"),
            ("match = \"*\"\nto = \"04:00\"".to_string(), "from", "is missing"),
            ("match = \"*\"\nfrom = \"02:00\"".to_string(), "to", "is missing"),
            ("match = \"*\"\nfrom = \"2 am\"\nto = \"04:00\"".to_string(), "from", "is not a time of day"),
            ("match = \"*\"\nfrom = \"02:00\"\nto = \"25:00\"".to_string(), "to", "is not a time of day"),
            ("match = \"*\"\nfrom = \"02:00\"\nto = \"02:00\"".to_string(), "to", "same as `from`"),
            ("match = \"*\"\nfrom = \"24:00\"\nto = \"02:00\"".to_string(), "from", "write 00:00"),
            ("match = \"*\"\nfrom = \"00:00\"\nto = \"24:00\"".to_string(), "to", "never closes"),
            (format!("match = \"*\"\ndays = [\"caturday\"]\n{hours}"), "days", "is not a day of the week"),
            (format!("match = \"*\"\ndays = [\"frii\"]\n{hours}"), "days", "fri"),
            (format!("match = \"*\"\nday = 32\n{hours}"), "day", "is not a day of a month"),
            (format!("match = \"*\"\nday = \"fifth sat\"\n{hours}"), "day", "\"first sat\""),
            (format!("match = \"*\"\nday = 1\ndays = \"sat\"\n{hours}"), "day", "keep one"),
            (format!("match = \"*\"\ntime_zone = \"Mars/Olympus\"\n{hours}"), "time_zone", "is not a time zone"),
            (
                "match = \"*\"\nfrom = \"2026-12-02T22:00\"\nto = \"2026-12-01T22:00\"".to_string(),
                "to",
                "is not after `from`",
            ),
            (
                "match = \"*\"\nfrom = \"2026-12-02T22:00\"\nto = \"23:00\"".to_string(),
                "to",
                "is not a date with a time",
            ),
            ("match = \"*\"\nstart = \"22:00\"\nend = \"23:00\"".to_string(), "start", "is not a date with a time"),
            ("match = \"*\"\nfrom = \"2026-12-02T22:00\"\nto = \"2027-12-01T22:00\"".to_string(), "to", "30 days"),
            (
                "match = \"*\"\nfrom = \"02:00\"\nstart = \"2026-12-02T22:00\"\nto = \"03:00\"".to_string(),
                "start",
                "keep one",
            ),
            (
                "match = \"*\"\nday = 1\nfrom = \"2026-12-02T22:00\"\nto = \"2026-12-02T23:00\"".to_string(),
                "day",
                "has no days",
            ),
            (format!("match = \"*\"\n{hours}\nreason = \"{}\"", "x".repeat(201)), "reason", "200 characters"),
        ];
        for (body, key, words) in table {
            let error = read(&body).unwrap_err();
            assert!(error.contains("maintenance") && error.contains(key) && error.contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn all_mistakes_of_a_window_are_told_at_once() {
        let error = read("match = \"*\"\nfrom = \"x\"\nto = \"y\"\ndays = [\"z\"]\ntime_zone = \"q\"").unwrap_err();
        for key in ["maintenance[0].from", "maintenance[0].to", "maintenance[0].days", "maintenance[0].time_zone"] {
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}
