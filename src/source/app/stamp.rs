//! `generated_at`: when the application says that its envelope was written.
//!
//! The instant is only a hint, for clocks differ (F6): what counts is whether it moved since our last
//! look. One that stands still means that an old envelope is served again, and then nothing in it is
//! news. One that lies in our future, or is not an instant at all, makes the envelope invalid (F7, F8).

use std::time::{Duration, SystemTime};

use super::envelope::Found;
use crate::core::time::Wall;

/// An instant may be this far ahead of our clock.
const AHEAD: i64 = 60_000;
/// 2020-01-01 and 2100-01-01 in unix milliseconds; outside of them a number is not a Unix time.
const YEARS: std::ops::Range<i64> = 1_577_836_800_000..4_102_444_800_000;

/// What the envelope's instant says about its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// They are news.
    Fresh,
    /// It stands still, but not yet for long: nothing new was seen.
    Repeated,
    /// It has stood still for too long.
    Stale {
        /// The reason in words.
        why: String,
        /// The instant at which it stands: what came later is not known.
        at: Wall,
    },
    /// It cannot be right; the reason in words.
    Invalid(String),
}

/// The instant seen last.
#[derive(Debug, Clone, Default)]
pub struct Stamp {
    /// The number to its last bit, or the text itself: any change is movement.
    last: Option<String>,
    still: u32,
}

impl Stamp {
    /// One that stood still for too long already when an earlier source looked; `kept` is what that one handed
    /// over, empty when it moved.
    pub fn stale(kept: String, stale_after: u32) -> Stamp {
        if kept.is_empty() { Stamp::default() } else { Stamp { last: Some(kept), still: stale_after } }
    }

    /// What a later source needs to know that it stands still; empty while it moves.
    pub fn standing(&self, stale_after: u32) -> &str {
        self.last.as_deref().filter(|_| self.still >= stale_after).unwrap_or_default()
    }

    /// Judges the instant of a new answer. It is stale once it has not moved in `stale_after` looks in a row.
    pub fn judge(&mut self, found: &Found, now: Wall, stale_after: u32) -> Freshness {
        if *found == Found::Missing {
            *self = Stamp::default();
            return Freshness::Fresh;
        }
        let Some(at) = instant(found) else {
            *self = Stamp::default();
            return Freshness::Invalid(
                "invalid: generated_at is neither unix seconds nor RFC 3339 between 2020 and 2100".to_string(),
            );
        };
        if at.0 > now.0.saturating_add(AHEAD) {
            return Freshness::Invalid(format!("invalid: generated_at is in the future ({at}; it is {now} here)"));
        }
        let written = format!("{found:?}");
        if self.last.as_ref() != Some(&written) {
            self.last = Some(written);
            self.still = 0;
            return Freshness::Fresh;
        }
        self.still = self.still.saturating_add(1);
        if self.still < stale_after {
            Freshness::Repeated
        } else {
            let why = format!("stale: generated_at has stood at {at} for {} readings", self.still);
            Freshness::Stale { why, at }
        }
    }
}

fn instant(found: &Found) -> Option<Wall> {
    let millis = match found {
        Found::Whole(seconds) => i64::try_from(seconds.checked_mul(1_000)?).ok()?,
        // Out of range saturates and not-a-number is zero; the years below refuse both.
        Found::Real(seconds) => (seconds * 1_000.0) as i64,
        Found::Text(text) => rfc3339(text.trim())?,
        Found::Missing | Found::Null | Found::Flag(_) | Found::Nested => return None,
    };
    YEARS.contains(&millis).then_some(Wall(millis))
}

/// RFC 3339 with any offset; without one it is UTC.
fn rfc3339(text: &str) -> Option<i64> {
    let (local, offset) = match text.char_indices().rev().find(|(_, c)| matches!(c, '+' | '-' | 'Z' | 'z' | 'T' | ' '))
    {
        Some((at, 'Z' | 'z')) => (text.get(..at)?, 0),
        // A sign after the date's two hyphens begins an offset.
        Some((at, sign @ ('+' | '-'))) if at > 10 => {
            let (hours, minutes) = text.get(at + 1..)?.split_once(':')?;
            let minutes = hours.parse::<u16>().ok()?.checked_mul(60)?.checked_add(minutes.parse().ok()?)?;
            let millis = i64::from(minutes) * 60_000;
            (text.get(..at)?, if sign == '+' { millis } else { -millis })
        }
        _ => (text, 0),
    };
    let local = local.replace(['t', ' '], "T");
    let at = humantime::parse_rfc3339_weak(&local).ok()?;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).ok()?.checked_sub(offset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Wall = Wall(1_750_000_000_000);

    fn text(text: &str) -> Found {
        Found::Text(text.to_string())
    }

    #[test]
    fn instants_are_read_as_people_write_them() {
        let expected = Some(Wall(1_750_000_000_500));
        for found in [
            Found::Real(1_750_000_000.5),
            text("2025-06-15T15:06:40.5Z"),
            text("2025-06-15T15:06:40.500000+00:00"),
            text("2025-06-15T17:06:40.5+02:00"),
            text("2025-06-15 10:36:40.5-04:30"),
            text("2025-06-15t15:06:40.5z"),
            text("2025-06-15T15:06:40.5"),
        ] {
            assert_eq!(instant(&found), expected, "{found:?}");
        }
        for none in [
            text("yesterday"),
            text(""),
            text("2025-06-15T15:06:40+2"),
            text("2025-06-15T15:06:40+99999:00"),
            text("2025-13-01T00:00:00Z"),
            text("1750000000"),
            Found::Whole(0),
            Found::Whole(1_750_000_000_500),
            Found::Whole(i128::MAX),
            Found::Real(f64::NAN),
            Found::Real(1e300),
            Found::Null,
            Found::Flag(true),
            Found::Nested,
        ] {
            assert_eq!(instant(&none), None, "{none:?}");
        }
    }

    #[test]
    fn an_instant_that_stands_still_is_repeated_then_stale_then_fresh_again() {
        let mut stamp = Stamp::default();
        let at = Found::Real(1_749_999_000.5);
        assert_eq!(stamp.judge(&at, NOW, 3), Freshness::Fresh);
        assert_eq!(stamp.judge(&at, NOW, 3), Freshness::Repeated);
        assert_eq!(stamp.judge(&at, NOW, 3), Freshness::Repeated);
        let Freshness::Stale { why, .. } = stamp.judge(&at, NOW, 3) else { panic!("not stale") };
        assert_eq!(why, "stale: generated_at has stood at 2025-06-15T14:50:00Z for 3 readings");
        assert!(
            matches!(stamp.judge(&at, NOW, 3), Freshness::Stale { why, at } if why.contains("4 readings") && at < NOW)
        );
        let mut later = Stamp::stale(stamp.standing(3).to_string(), 3);
        assert!(matches!(later.judge(&at, NOW, 3), Freshness::Stale { .. }), "it is stale for whoever comes after");
        // Also a step back is movement: the application's clock may be set.
        assert_eq!(stamp.judge(&Found::Real(1_749_998_000.0), NOW, 3), Freshness::Fresh);
        assert_eq!(stamp.judge(&Found::Missing, NOW, 3), Freshness::Fresh);
        assert_eq!(stamp.judge(&Found::Missing, NOW, 3), Freshness::Fresh);
    }

    #[test]
    fn a_minute_ahead_is_a_skewed_clock_and_more_is_invalid() {
        for (ahead, valid) in [(0, true), (60, true), (61, false), (86_400, false)] {
            let found = Found::Whole(1_750_000_000 + ahead);
            let judged = Stamp::default().judge(&found, NOW, 3);
            assert_eq!(judged == Freshness::Fresh, valid, "{ahead}: {judged:?}");
        }
        assert!(matches!(Stamp::default().judge(&Found::Null, NOW, 3), Freshness::Invalid(_)));
    }

    const TOKENS: &[&str] = &[
        "2025",
        "-",
        "06",
        "15",
        "T",
        " ",
        "10",
        ":",
        ":",
        "Z",
        "z",
        "+",
        ".",
        "5",
        "0000",
        "ü",
        "99999999999",
        "-00:00",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_text_is_an_instant_or_none(picks in prop::collection::vec(0..TOKENS.len(), 0..12)) {
            let any: String = picks.into_iter().map(|pick| TOKENS[pick]).collect();
            let _ = instant(&text(&any));
        }
    }
}
