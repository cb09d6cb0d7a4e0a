//! Quiet hours: when warnings and infos wait for the morning.
//!
//! A daily span of local time, which may cross midnight. Pure: the zone and the instant are arguments. What waits
//! and what does not is the courier's to know (`deliver`); critical news never waits.

use std::time::Duration;

use super::time::Wall;
use super::zone::Zone;

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: u16 = 24 * 60;

/// A daily span of local time, in minutes after midnight; `from` is in it, `to` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    from: u16,
    to: u16,
}

impl QuietHours {
    /// Reads `22:00-07:00`.
    ///
    /// # Errors
    /// In words, when it is not two different times of day.
    pub fn parse(text: &str) -> Result<QuietHours, String> {
        let wrong = || format!("\"{text}\" is not a span of time; write for example \"22:00-07:00\"");
        let (from, to) = text.split_once(['-', '–']).ok_or_else(wrong)?;
        let hours = QuietHours { from: minutes(from).ok_or_else(wrong)?, to: minutes(to).ok_or_else(wrong)? };
        if hours.from == hours.to { Err(wrong()) } else { Ok(hours) }
    }

    /// The end of the quiet hours that hold at `now`; `None` outside of them. Where clocks change in between, the
    /// end is the wanted time of day after the change.
    pub fn end(&self, now: Wall, zone: &Zone) -> Option<Wall> {
        let local = zone.local(now);
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0);
        let within = if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        };
        if !within {
            return None;
        }
        let day = if minute < self.to { local.date() } else { local.date().tomorrow().ok()? };
        let (hour, minute) = (i8::try_from(self.to / 60).ok()?, i8::try_from(self.to % 60).ok()?);
        let end = day.at(hour, minute, 0, 0).to_zoned_datetime(local.time_zone().clone()).ok()?;
        // A clock that stands still or went back must not hold a message for ever.
        let end = Wall(end.timestamp().as_millisecond());
        Some(end.max(now.plus(Duration::from_millis(1))).min(Wall(now.0.saturating_add(25 * 60 * MINUTE_MS))))
    }
}

/// `07:30` as minutes after midnight; `24:00` is midnight at the end of the day.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let all_digits = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(hour) || minute.len() != 2 || !all_digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let all = hour * 60 + minute;
    (minute < 60 && all <= DAY_MINUTES).then_some(all % DAY_MINUTES)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn at(text: &str) -> Wall {
        Wall(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn the_span_holds_from_its_beginning_to_just_before_its_end_also_across_midnight() {
        let (night, noon) = (QuietHours::parse("22:00-07:00").unwrap(), QuietHours::parse("12:00 - 13:30").unwrap());
        let zone = Zone::default();
        let morning = Some(at("2026-01-02T07:00:00Z"));
        let table = [
            (night, "2026-01-01T21:59:59Z", None),
            (night, "2026-01-01T22:00:00Z", morning),
            (night, "2026-01-02T00:00:00Z", morning),
            (night, "2026-01-02T06:59:59Z", morning),
            (night, "2026-01-02T07:00:00Z", None),
            (noon, "2026-01-01T11:59:59Z", None),
            (noon, "2026-01-01T12:00:00Z", Some(at("2026-01-01T13:30:00Z"))),
            (noon, "2026-01-01T13:30:00Z", None),
        ];
        for (hours, now, end) in table {
            assert_eq!(hours.end(at(now), &zone), end, "{now}");
        }
    }

    #[test]
    fn the_end_is_a_time_of_day_and_follows_daylight_saving() {
        let berlin = Zone::new(TimeZone::get("Europe/Berlin").unwrap());
        let night = QuietHours::parse("22:00-07:00").unwrap();
        // The night in which an hour is missing: 07:00 is 05:00 UTC and no longer 06:00.
        assert_eq!(night.end(at("2026-03-28T22:30:00Z"), &berlin), Some(at("2026-03-29T05:00:00Z")));
        assert_eq!(night.end(at("2026-03-27T22:30:00Z"), &berlin), Some(at("2026-03-28T06:00:00Z")));
    }

    #[test]
    fn what_is_not_a_span_is_refused_and_no_clock_holds_for_more_than_a_day() {
        for text in
            ["", "22:00", "22-7", "25:00-07:00", "22:60-07:00", "22:00-22:00", "00:00-24:00", "a:b-c:d", "22:0-7:00"]
        {
            assert!(QuietHours::parse(text).is_err(), "{text}");
        }
        let night = QuietHours::parse("22:00-21:59").unwrap();
        for now in [i64::MIN, 0, i64::MAX] {
            if let Some(end) = night.end(Wall(now), &Zone::default()) {
                assert!(end.since(Wall(now)) <= Duration::from_hours(25));
            }
        }
    }
}
