//! The time zone in which people read instants.
//!
//! Texts for people (messages, page, terminal) show local time; JSON, logs and everything that is kept stay in
//! UTC. The rules of the zone, daylight saving among them, come from the system or from the copy of the IANA
//! database that the program carries; both are read before, where the settings are. In UTC an instant says so.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::time::Wall;

/// A time zone with its rules.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Zone {
        Zone(TimeZone::UTC)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}

impl Zone {
    /// A zone with these rules.
    pub fn new(rules: TimeZone) -> Zone {
        Zone(rules)
    }

    /// Its rules.
    pub fn rules(&self) -> TimeZone {
        self.0.clone()
    }

    /// Its name in the IANA database: `Europe/Berlin`; `local` for rules without one.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("local")
    }

    /// Hour, minute and second, for a sentence: `02:14:05`; in UTC `02:14:05 UTC`. Instants outside the years that
    /// a calendar holds are clamped.
    pub fn clock(&self, at: Wall) -> String {
        let local = self.local(at);
        let suffix = if self.0 == TimeZone::UTC { " UTC" } else { "" };
        format!("{:02}:{:02}:{:02}{suffix}", local.hour(), local.minute(), local.second())
    }

    /// The date: `2026-01-01`.
    pub fn date(&self, at: Wall) -> String {
        self.local(at).date().to_string()
    }

    /// The instant as it is told on the day of `today`: without the date on the same day.
    pub fn instant(&self, at: Wall, today: Wall) -> String {
        let (date, clock) = (self.date(at), self.clock(at));
        if date == self.date(today) { clock } else { format!("{date} {clock}") }
    }

    /// The instant with the fields of its local calendar.
    pub fn local(&self, at: Wall) -> ZonedDateTime {
        let (least, most) = (Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
        let instant = Timestamp::from_millisecond(at.0.clamp(least, most)).unwrap_or(Timestamp::UNIX_EPOCH);
        instant.to_zoned_datetime(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-29T00:59:59Z, a second before Berlin's clocks go from 2 to 3.
    const SPRING: i64 = 1_774_745_999_000;

    #[test]
    fn an_instant_is_told_in_local_time_and_utc_says_so() {
        let berlin = Zone::new(TimeZone::get("Europe/Berlin").unwrap());
        assert_eq!(berlin.clock(Wall(SPRING)), "01:59:59");
        assert_eq!(berlin.clock(Wall(SPRING + 1_000)), "03:00:00");
        assert_eq!(berlin.date(Wall(SPRING)), "2026-03-29");
        assert_eq!(berlin.name(), "Europe/Berlin");
        assert_eq!(Zone::default().clock(Wall(SPRING)), "00:59:59 UTC");
        assert_eq!(berlin.instant(Wall(SPRING), Wall(SPRING - 3 * 3_600_000)), "2026-03-29 01:59:59");
        assert_eq!(berlin.instant(Wall(SPRING), Wall(SPRING + 3_600_000)), "01:59:59");
    }

    #[test]
    fn no_clock_value_is_too_much() {
        for at in [i64::MIN, -1, 0, i64::MAX] {
            assert!(!Zone::default().instant(Wall(at), Wall(0)).is_empty());
        }
    }
}
