//! What a verdict on a container rests on besides the look itself, in the form in which it is kept.
//!
//! Kept with the container's signal and handed back after our own restart or reload, so that a crash loop
//! is not over, and a removed container not forgotten, because we looked away. Instants are those of the
//! monotonic clock, with one reading of both clocks beside them: after a boot of the machine the wall clock
//! bridges the gap, bounded to the past. On disk for ever: every field has a default.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::select::Called;
use super::verdict::Standing;
use crate::core::time::{Mono, Now, Wall};

/// What is kept of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// How it is called.
    pub called: Called,
    /// The id of its present or last container.
    pub id: String,
    /// How it stood.
    pub standing: Standing,
    /// When it was started last, in the engine's words.
    pub started_at: String,
    /// When it ended last, in the engine's words.
    pub finished_at: String,
    /// Since when it stood so.
    pub since: Mono,
    /// A command ended it.
    pub meant: bool,
    /// It was bad by itself, and not well since.
    pub failing: bool,
    /// It was seen running.
    pub seen_running: bool,
    /// It was in a crash loop.
    pub looping: bool,
    /// Until when a run that began before anybody looked proves nothing.
    pub unproven_until: Option<Mono>,
    /// Restarts counted by the engine, in the window.
    pub rises: Vec<Mono>,
    /// Starts after a failure that events told of, in the window.
    pub crashes: Vec<Mono>,
    /// When it was killed for memory last.
    pub oom_at: Option<Mono>,
    /// The engine's mark of such a kill was there.
    pub oom_flag: bool,
    /// The engine's count of restarts.
    pub count: Option<u32>,
    /// Its last exit code.
    pub last_exit: Option<i64>,
    /// The engine removes it when it ends.
    pub auto_remove: bool,
    /// The last verdict that was not a wait was bad.
    pub was_down: bool,
    /// The last verdict that was not a wait was that it completed.
    pub was_completed: bool,
}

/// The same with a reading of both clocks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stamped {
    /// When it was written, by the wall clock.
    wall: Wall,
    /// When it was written, by the monotonic clock.
    mono: Mono,
    /// What is kept.
    past: Past,
}

impl Stamped {
    /// To be kept, as text.
    pub fn text(past: &Past, now: Now) -> Option<String> {
        serde_json::to_string(&Stamped { wall: now.wall, mono: now.mono, past: past.clone() }).ok()
    }

    /// What was kept, with instants by the clocks of `now`; never in the future.
    pub fn carried(self, now: Now, same_boot: bool) -> Past {
        let Stamped { wall, mono, past } = self;
        let gap = if same_boot && mono <= now.mono { now.mono.since(mono) } else { now.wall.since(wall) };
        let carry = |at: Mono| now.mono.minus(gap.saturating_add(mono.since(at)));
        let all = |instants: Vec<Mono>| instants.into_iter().map(carry).collect();
        // The one instant that lies ahead keeps its distance, less what has passed since.
        let ahead = |until: Mono| now.mono.plus(until.since(mono).saturating_sub(gap).min(LONGEST));
        Past {
            since: carry(past.since),
            unproven_until: past.unproven_until.map(ahead),
            rises: all(past.rises),
            crashes: all(past.crashes),
            oom_at: past.oom_at.map(carry),
            // What ended shortly before the machine did was stopped by that.
            meant: past.meant && (same_boot || !is_of_shutdown(&past.finished_at, now)),
            ..past
        }
    }
}

/// A machine that shuts down stops its containers this long before it boots again at most, when it boots at once.
const SHUTDOWN: Duration = Duration::from_mins(5);

/// True when an end at this date, in the engine's words, may have come of the end of the machine.
fn is_of_shutdown(finished_at: &str, now: Now) -> bool {
    let up = Duration::from_millis(u64::try_from(now.mono.0).unwrap_or(0));
    let boot = now.wall.minus(up);
    date(finished_at).is_none_or(|ended| ended > boot.minus(SHUTDOWN))
}

/// A date in the engine's words.
pub fn date(text: &str) -> Option<Wall> {
    // The year 1 means never, and is refused like any other nonsense.
    let since = humantime::parse_rfc3339_weak(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Wall)
}

/// No wait that was kept is longer than this, whatever the file says.
const LONGEST: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, mono: i64) -> Now {
        Now { wall: Wall(wall), mono: Mono(mono), awake: Mono(mono) }
    }

    fn past() -> Past {
        Past {
            since: Mono(900),
            rises: vec![Mono(400), Mono(800)],
            unproven_until: Some(Mono(1_500)),
            ..Past::default()
        }
    }

    fn carried(now: Now, same_boot: bool) -> Past {
        let text = Stamped::text(&past(), at(50_000, 1_000)).unwrap();
        serde_json::from_str::<Stamped>(&text).unwrap().carried(now, same_boot)
    }

    #[test]
    fn instants_go_on_in_the_same_boot_and_are_bridged_over_another() {
        let same = carried(at(999_999, 1_300), true);
        assert_eq!(
            (same.since, same.rises, same.unproven_until),
            (Mono(900), vec![Mono(400), Mono(800)], Some(Mono(1_500)))
        );
        let other = carried(at(50_300, 20), false);
        assert_eq!((other.since, other.rises), (Mono(-380), vec![Mono(-880), Mono(-480)]));
        assert_eq!(other.unproven_until, Some(Mono(220)));
    }

    #[test]
    fn no_clock_brings_an_instant_into_the_future() {
        for wall in [i64::MIN, 0, 49_999, i64::MAX] {
            for mono in [i64::MIN, 0, 999, 1_000, i64::MAX] {
                for same_boot in [true, false] {
                    let past = carried(at(wall, mono), same_boot);
                    assert!(past.since <= Mono(mono) && past.rises.iter().all(|rise| *rise <= Mono(mono)));
                    assert!(past.unproven_until.is_some_and(|until| until <= Mono(mono).plus(LONGEST)));
                }
            }
        }
    }

    #[test]
    fn what_ended_with_the_machine_no_command_stopped() {
        // Up for twenty seconds at 09:00:00.
        let now = Now { wall: Wall(1_704_531_600_000), mono: Mono(20_000), awake: Mono(20_000) };
        let meant = |finished_at: &str, same_boot| {
            let past = Past { meant: true, finished_at: finished_at.into(), ..Past::default() };
            let stamped = Stamped { past, ..Stamped::default() };
            stamped.carried(now, same_boot).meant
        };
        assert!(!meant("2024-01-06T08:58:59Z", false) && !meant("nonsense", false));
        assert!(meant("2024-01-06T08:54:00Z", false), "well before the shutdown");
        assert!(meant("2024-01-06T08:58:59Z", true));
    }

    #[test]
    fn what_an_earlier_version_kept_is_read() {
        let stamped: Stamped = serde_json::from_str(r#"{"past":{"id":"a","unheard_of":1}}"#).unwrap();
        assert_eq!(stamped.carried(at(1, 1), true).id, "a");
    }
}
