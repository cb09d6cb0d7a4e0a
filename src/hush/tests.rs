//! What covers a signal, what the log and the daily digest say of it.

use std::time::Duration;

use super::*;
use crate::core::maintenance::{Days, Hours, When};
use crate::core::signal::Reading;
use crate::core::time::Mono;

fn at(text: &str) -> Now {
    let wall = Wall(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    Now { wall, mono: Mono(wall.0 / 1_000), awake: Mono(wall.0 / 1_000) }
}

fn silence(pattern: &str, now: Now, hours: u64, reason: &str) -> Silence {
    let until = now.wall.plus(Duration::from_hours(hours));
    Silence { pattern: pattern.to_string(), since: now.wall, until, reason: reason.to_string() }
}

fn window(pattern: &str, when: When) -> Window {
    Window { patterns: vec![pattern.to_string()], when, zone: Zone::default(), reason: "backup".to_string() }
}

fn nightly() -> When {
    When::Again(Days::Week([true; 7]), Hours::new(22 * 60, 6 * 60).unwrap())
}

#[test]
fn a_signal_is_covered_by_what_lasts_longest_and_nobody_silences_the_digest() {
    let now = at("2026-01-01T23:00:00Z");
    let mut hush = Hush::default();
    hush.configure(vec![window("container/*", nightly())], Zone::default());
    hush.silences.add(silence("container/web", now, 2, "upgrade"), now.wall).unwrap();
    hush.silences.add(silence("*", now, 1, ""), now.wall).unwrap();
    hush.look(now.wall);
    let cover = |key: &str| hush.cover(&SignalKey::new(key), now.wall).map(|cover| (cover.pattern, cover.is_planned));
    assert_eq!(cover("container/web"), Some(("container/*".to_string(), true)));
    assert_eq!(cover("probe/db"), Some(("*".to_string(), false)));
    assert_eq!(cover(DIGEST), None);
    let later = at("2026-01-02T06:00:00Z");
    hush.look(later.wall);
    assert_eq!(hush.cover(&SignalKey::new("container/web"), later.wall), None);
}

#[test]
fn windows_that_open_and_close_stand_in_the_log_once() {
    let mut hush = Hush::default();
    hush.configure(vec![window("container/*", nightly())], Zone::default());
    let mut kinds = Vec::new();
    for minute in 0..24 * 60 {
        hush.look(at("2026-01-01T12:00:00Z").wall.plus(Duration::from_mins(minute)));
        kinds.extend(std::mem::take(&mut hush.lines).into_iter().map(|line| (line.kind, line.text)));
    }
    let words: Vec<(&str, &str)> = kinds.iter().map(|(kind, text)| (kind.as_str(), text.as_str())).collect();
    let expected =
        [("silenced", "maintenance until 2026-01-02T06:00:00Z: backup"), ("unsilenced", "the maintenance has ended")];
    assert_eq!(words, expected);
}

#[test]
fn what_is_open_is_listed_before_what_comes_next() {
    let now = at("2026-01-01T23:00:00Z");
    let once = Span { from: at("2026-02-01T00:00:00Z").wall, to: at("2026-02-01T01:00:00Z").wall };
    let over = Span { from: at("2025-02-01T00:00:00Z").wall, to: at("2025-02-01T01:00:00Z").wall };
    let mut hush = Hush::default();
    let windows = [("later", When::Once(once)), ("open", nightly()), ("over", When::Once(over))];
    hush.configure(windows.map(|(name, when)| window(name, when)).to_vec(), Zone::default());
    hush.silences.add(silence("silence", now, 2, ""), now.wall).unwrap();
    hush.look(now.wall);
    let mutes = hush.mutes(now.wall);
    let listed: Vec<(&str, bool)> = mutes.iter().map(|mute| (mute.patterns[0].as_str(), mute.is_active)).collect();
    assert_eq!(listed, [("silence", true), ("open", true), ("later", false)]);
}

/// What the digest says at `now`: whether it is told, under which name, and its fact.
fn digest(hush: &mut Hush, now: Now, is_known: bool) -> Option<(bool, String, String)> {
    let seen = hush.digest_of(now, is_known)?;
    let name = seen.spec.about.as_ref().unwrap().name.to_string();
    Some((seen.reading == Reading::Happened(1), name, seen.fact.into_owned()))
}

#[test]
fn the_first_pass_of_each_local_day_names_what_is_silenced_once() {
    let berlin = Zone::new(jiff::tz::TimeZone::get("Europe/Berlin").unwrap());
    let evening = at("2026-01-01T20:00:00Z");
    let mut hush = Hush::default();
    hush.configure(vec![window("host/*", nightly())], berlin);
    assert_eq!(digest(&mut hush, evening, false), None, "nothing is silenced, and never was");
    hush.silences.add(silence("container/web", evening, 48, "upgrade"), evening.wall).unwrap();
    let fact = "container/web until 2026-01-03 21:00:00 (upgrade)";
    assert_eq!(digest(&mut hush, evening, false).unwrap(), (false, "1 silence".into(), fact.into()), "set today");
    let before = at("2026-01-01T22:59:59Z");
    assert!(!digest(&mut hush, before, true).unwrap().0, "the day begins in Berlin");
    let midnight = at("2026-01-01T23:00:00Z");
    assert_eq!(digest(&mut hush, midnight, true).unwrap(), (true, "1 silence".into(), fact.into()));
    assert!(!digest(&mut hush, midnight, true).unwrap().0, "once");
    // Over a restart, and also with nothing left that it could name.
    let kept: Silences = serde_json::from_str(&serde_json::to_string(&hush.silences).unwrap()).unwrap();
    let mut hush = Hush { silences: kept, zone: hush.zone.clone(), ..Hush::default() };
    assert!(!digest(&mut hush, at("2026-01-02T10:00:00Z"), true).unwrap().0);
    assert!(digest(&mut hush, at("2026-01-02T23:00:00Z"), true).unwrap().0);
    let ended = digest(&mut hush, at("2026-01-03T23:00:00Z"), true).unwrap();
    assert_eq!(ended, (false, "0 silences".into(), "nothing is silenced".into()));
}

#[test]
fn the_digest_names_the_windows_that_last_for_days_and_is_bounded() {
    let now = at("2026-01-01T23:00:00Z");
    let long = Span { from: at("2026-01-01T00:00:00Z").wall, to: at("2026-01-08T00:00:00Z").wall };
    let mut hush = Hush::default();
    hush.configure(vec![window("nightly", nightly()), window("move/*", When::Once(long))], Zone::default());
    hush.silences.told_day = "2025-12-31".to_string();
    let (told, name, fact) = digest(&mut hush, now, false).unwrap();
    assert_eq!(
        (told, name.as_str(), fact.as_str()),
        (true, "1 silence", "move/* until 2026-01-08 00:00:00 UTC (backup)")
    );
    for n in 0..20 {
        hush.silences.add(silence(&format!("probe/{n}"), now, 2, ""), now.wall).unwrap();
    }
    let (_, name, fact) = digest(&mut hush, now, false).unwrap();
    assert!(name == "21 silences" && fact.ends_with("; 13 more"), "{name}: {fact}");
}
