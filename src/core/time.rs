//! Instants and durations as the core sees them: plain numbers handed in by the caller.
//!
//! Two clocks, because one of them lies now and then (F1–F5): [`Mono`] counts since boot,
//! goes on during suspend and is the only source of durations; [`Wall`] is for people and for
//! bridging a reboot. All subtraction saturates, so no clock value can panic or go negative.
//! This file never reads a clock; `clock.rs` does. See `adr/0009-two-clocks.md`.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// An instant on the monotonic clock, in milliseconds since this machine booted
/// (`CLOCK_BOOTTIME`). May be negative for an instant before the boot, which happens when a
/// remembered instant is carried across a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Mono(pub i64);

impl Mono {
    /// Time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Mono) -> Duration {
        millis(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` later, saturating at the end of time.
    #[must_use]
    pub fn plus(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(to_millis(span)))
    }

    /// The instant `span` earlier, saturating at the beginning of time.
    #[must_use]
    pub fn minus(self, span: Duration) -> Mono {
        Mono(self.0.saturating_sub(to_millis(span)))
    }
}

/// An instant on the wall clock, in milliseconds since 1970-01-01 UTC. For people and for
/// bridging reboots only; never subtracted to decide anything while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Wall(pub i64);

impl Wall {
    /// Time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn since(self, earlier: Wall) -> Duration {
        millis(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` later, saturating.
    #[must_use]
    pub fn plus(self, span: Duration) -> Wall {
        Wall(self.0.saturating_add(to_millis(span)))
    }

    /// The instant `span` earlier, saturating.
    #[must_use]
    pub fn minus(self, span: Duration) -> Wall {
        Wall(self.0.saturating_sub(to_millis(span)))
    }

    /// RFC 3339 in UTC with seconds: `2026-01-01T00:00:00Z`. Instants outside 1970–9999 are clamped.
    pub fn rfc3339(self) -> String {
        // 253402300799 is the last second of the year 9999, the end of what RFC 3339 can write.
        let millis = u64::try_from(self.0.clamp(0, 253_402_300_799_000)).unwrap_or(0);
        let instant = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        humantime::format_rfc3339_seconds(instant).to_string()
    }

    /// As HTTP writes an instant: `Thu, 01 Jan 2026 00:00:00 GMT`. Clamped like [`Wall::rfc3339`].
    pub fn http_date(self) -> String {
        let millis = u64::try_from(self.0.clamp(0, 253_402_300_799_000)).unwrap_or(0);
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }

    /// Hour, minute and second in UTC, for a sentence: `02:14:05`.
    pub fn clock(self) -> String {
        self.rfc3339().get(11..19).unwrap_or_default().to_string()
    }

    /// The date in UTC: `2026-01-01`.
    pub fn date(self) -> String {
        self.rfc3339().get(..10).unwrap_or_default().to_string()
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// One reading of all clocks, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// Wall clock, for people.
    pub wall: Wall,
    /// Time since boot including suspend, for durations.
    pub mono: Mono,
    /// Time since boot without suspend (`CLOCK_MONOTONIC`); `mono` running ahead of it is a suspend.
    pub awake: Mono,
}

/// A duration for people: the two largest units, nothing below a second once above ten.
///
/// `350 ms` `4.2 s` `5 s` `38 s` `12 min 5 s` `3 h 20 min` `2 d 4 h`
pub fn people(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds, span.subsec_millis() / 100) {
        (0, _) => format!("{} ms", span.as_millis()),
        (1..=9, tenths @ 1..) => format!("{seconds}.{tenths} s"),
        (1..=59, _) => format!("{seconds} s"),
        (60..=3_599, _) => two(seconds, 60, "min", 1, "s"),
        (3_600..=86_399, _) => two(seconds, 3_600, "h", 60, "min"),
        _ => two(seconds, 86_400, "d", 3_600, "h"),
    }
}

fn two(seconds: u64, large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    let rest = seconds % large / small;
    if rest == 0 {
        format!("{} {large_unit}", seconds / large)
    } else {
        format!("{} {large_unit} {rest} {small_unit}", seconds / large)
    }
}

fn millis(value: i64) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

fn to_millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtraction_saturates_at_every_extreme() {
        for a in [i64::MIN, -1, 0, 1, i64::MAX] {
            for b in [i64::MIN, -1, 0, 1, i64::MAX] {
                let span = Mono(a).since(Mono(b));
                assert_eq!(span == Duration::ZERO, a <= b, "{a} since {b}");
                let _ = Wall(a).since(Wall(b));
                let _ = Mono(a).plus(Duration::MAX);
                let _ = Mono(a).minus(Duration::MAX);
                let _ = (Wall(a).rfc3339(), Wall(a).http_date());
            }
        }
    }

    #[test]
    fn durations_read_like_speech() {
        let table = [
            (0, "0 ms"),
            (350, "350 ms"),
            (4_250, "4.2 s"),
            (5_049, "5 s"),
            (38_900, "38 s"),
            (725_000, "12 min 5 s"),
            (12_000_000, "3 h 20 min"),
            (7_200_000, "2 h"),
            (187_200_000, "2 d 4 h"),
        ];
        for (millis, text) in table {
            assert_eq!(people(Duration::from_millis(millis)), text);
        }
    }
}
