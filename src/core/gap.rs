//! What the clocks say about the time between two passes: did it pass as it should have?
//!
//! Two clocks are compared, and the grid of the loop (F1–F4, F9). A gap is only noticed here; what
//! is forgotten and what is told about it is decided in [`watch`](super::watch). Never panics,
//! whatever the clocks show. See `adr/0009-two-clocks.md`.

use std::time::Duration;

use super::about::Details;
use super::time::{Mono, Now, people};

/// The clocks may drift apart by this much between two passes before it is a step.
const STEP: Duration = Duration::from_secs(5);
/// Ticks missed in a row before the process counts as frozen.
const MISSED_TICKS: u32 = 3;

/// Why the time between two passes cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The machine slept for this long.
    Suspended(Duration),
    /// The time since boot went back: the machine was put back to an earlier moment.
    PutBack(Duration),
    /// The process did not run for this long.
    Frozen(Duration),
    /// The wall clock was set forward.
    Forward(Duration),
    /// The wall clock was set back.
    Back(Duration),
}

impl Gap {
    /// Compares two readings of the clocks taken in neighbouring passes on a grid of `tick`.
    pub fn between(last: Now, now: Now, tick: Duration) -> Option<Gap> {
        let passed = now.mono.since(last.mono);
        let put_back = last.mono.since(now.mono);
        let asleep = passed.saturating_sub(now.awake.since(last.awake));
        let drift = i128::from(now.wall.0) - i128::from(last.wall.0) - i128::from(now.mono.0) + i128::from(last.mono.0);
        let drifted = Duration::from_millis(u64::try_from(drift.unsigned_abs()).unwrap_or(u64::MAX));
        if !put_back.is_zero() {
            Some(Gap::PutBack(put_back))
        } else if asleep > STEP {
            Some(Gap::Suspended(asleep))
        } else if drifted > STEP {
            Some(if drift > 0 { Gap::Forward(drifted) } else { Gap::Back(drifted) })
        } else if passed > tick.saturating_mul(MISSED_TICKS).max(STEP) {
            Some(Gap::Frozen(passed))
        } else {
            None
        }
    }

    /// True when time passed in which nobody looked. A step of the wall clock loses none: every
    /// duration is measured by the other clock.
    pub fn lost_time(self) -> bool {
        !matches!(self, Gap::Forward(_) | Gap::Back(_))
    }

    /// True when the whole machine stood still, not only this process.
    pub fn is_of_machine(self) -> bool {
        matches!(self, Gap::Suspended(_) | Gap::PutBack(_))
    }

    /// What happened to the clock in a few words, and what to do next.
    pub fn details(self) -> Details {
        match self {
            Gap::Suspended(_) => Details::new("stood still: the host slept", "journalctl -k -g 'suspend|resume'"),
            Gap::PutBack(_) => Details::new("went back: the host was restored", "journalctl -b -e; timedatectl"),
            Gap::Frozen(_) => Details::new(
                "shows that the watchdog stood still",
                "was the host overloaded, or the container paused? vmstat 5 3; docker events --since 1h",
            ),
            Gap::Forward(_) => Details::new("was set forward", "who sets it? timedatectl; chronyc tracking"),
            Gap::Back(_) => Details::new("was set back", "who sets it? timedatectl; chronyc tracking"),
        }
    }

    /// What happened, for people.
    pub fn fact(self) -> String {
        match self {
            Gap::Suspended(span) => format!("this machine was suspended for {}", people(span)),
            Gap::PutBack(span) => format!("this machine was put back by {} to an earlier moment", people(span)),
            Gap::Frozen(span) => format!("the watchdog was frozen for {}", people(span)),
            Gap::Forward(span) => format!("the clock was set forward by {}", people(span)),
            Gap::Back(span) => format!("the clock was set back by {}", people(span)),
        }
    }
}

/// Passes without a gap after which the next gap counts for itself.
const CALM: u32 = 5;
/// Gaps that never end are told together, at most this often.
const TELL_EVERY: Duration = Duration::from_mins(10);

/// Gaps over time. One alone opens a warm-up and is told at once. Where they come one upon the
/// other (a clock that two programs set, a starved process), opening a warm-up for each would
/// silence everything for ever and telling each would flood: then the looks count as they come,
/// and the gaps are counted and told together.
#[derive(Debug, Clone)]
pub struct Gaps {
    calm: u32,
    untold: u32,
    last: Option<Gap>,
    told_at: Option<Mono>,
}

impl Default for Gaps {
    fn default() -> Self {
        Gaps { calm: CALM, untold: 0, last: None, told_at: None }
    }
}

impl Gaps {
    /// Takes note of one pass; true when its gap stands alone and so opens a warm-up.
    pub fn note(&mut self, gap: Option<Gap>) -> bool {
        let Some(gap) = gap else {
            self.calm = self.calm.saturating_add(1);
            return false;
        };
        let alone = self.calm >= CALM;
        self.calm = 0;
        self.untold = self.untold.saturating_add(1);
        self.last = Some(gap);
        if alone {
            self.told_at = None;
        }
        alone
    }

    /// The gaps to be told now: how many, and the last of them.
    pub fn tell(&mut self, now: Mono) -> Option<(u32, Gap)> {
        let over = self.told_at.is_none_or(|told| now < told || now.since(told) >= TELL_EVERY);
        if self.untold == 0 || !(over || self.calm >= CALM) {
            return None;
        }
        let last = self.last?;
        self.told_at = Some(now);
        Some((std::mem::take(&mut self.untold), last))
    }
}

#[cfg(test)]
mod tests {
    use super::super::time::Wall;
    use super::*;

    fn at(wall: i64, mono: i64, awake: i64) -> Now {
        Now { wall: Wall(wall * 1_000), mono: Mono(mono * 1_000), awake: Mono(awake * 1_000) }
    }

    #[test]
    fn every_kind_of_gap_is_told_apart() {
        const TICK: Duration = Duration::from_secs(15);
        let last = at(1_000_000, 1_000, 900);
        let secs = Duration::from_secs;
        let table = [
            (at(1_000_015, 1_015, 915), None),
            (at(1_000_045, 1_045, 945), None),
            (at(1_000_046, 1_046, 946), Some(Gap::Frozen(secs(46)))),
            (at(1_000_020, 1_015, 915), None),
            (at(1_000_021, 1_015, 915), Some(Gap::Forward(secs(6)))),
            (at(1_000_010, 1_015, 915), None),
            (at(1_000_009, 1_015, 915), Some(Gap::Back(secs(6)))),
            (at(999_000, 1_015, 915), Some(Gap::Back(secs(1_015)))),
            (at(1_003_615, 4_615, 915), Some(Gap::Suspended(secs(3_600)))),
            // A suspend through which the wall clock stood still is a suspend all the same.
            (at(1_000_015, 4_615, 915), Some(Gap::Suspended(secs(3_600)))),
            (at(1_000_015, 10, 5), Some(Gap::PutBack(secs(990)))),
        ];
        for (now, gap) in table {
            assert_eq!(Gap::between(last, now, TICK), gap, "{now:?}");
        }
    }

    #[test]
    fn no_clock_value_panics() {
        let ends = [i64::MIN, -1, 0, 1, i64::MAX];
        let all: Vec<Now> = ends
            .iter()
            .flat_map(|w| ends.iter().map(move |m| (w, m)))
            .flat_map(|(w, m)| ends.iter().map(move |a| Now { wall: Wall(*w), mono: Mono(*m), awake: Mono(*a) }))
            .collect();
        for last in &all {
            for now in &all {
                for tick in [Duration::ZERO, Duration::MAX] {
                    let _ = Gap::between(*last, *now, tick).map(Gap::fact);
                }
            }
        }
    }

    #[test]
    fn gaps_without_end_are_counted_and_told_together() {
        let mut gaps = Gaps::default();
        let mut told = Vec::new();
        for pass in 0..100 {
            let alone = gaps.note(Some(Gap::Back(Duration::from_hours(1))));
            assert_eq!(alone, pass == 0, "only the first opens a warm-up");
            told.extend(gaps.tell(Mono(pass * 15_000)).map(|(count, _)| (pass, count)));
        }
        assert_eq!(told, [(0, 1), (40, 40), (80, 40)]);
        // Calm returns: the rest is told, and the next gap counts for itself again.
        for pass in 100..105 {
            assert!(!gaps.note(None));
            told.extend(gaps.tell(Mono(pass * 15_000)).map(|(count, _)| (pass, count)));
        }
        assert_eq!(told.last(), Some(&(104, 19)));
        assert!(gaps.note(Some(Gap::Back(Duration::from_hours(1)))));
    }
}
