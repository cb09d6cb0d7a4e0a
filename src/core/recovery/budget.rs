//! The blast radius: how many machines may be ill, under repair, or have been touched lately.
//!
//! Counts across everything that acts, and survives restarts: instants of another boot are carried
//! over by the wall clock, bounded, so that no clock frees a budget early by more than it shows
//! (B4, F75, F76). Empty or unknown is never "all".

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::time::{Mono, Now, Wall};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// A storm is over when it has been calm for this long.
const CALM: Duration = Duration::from_mins(5);
/// Spent actions remembered; more within a day than this are over every limit that can be set.
const REMEMBERED: usize = 1_000;

/// How many of `nodes` may be ill before nobody is touched: `max(1, ⌊nodes · (1 − min_healthy)⌋)`, none of
/// nobody. `min_healthy` is in percent, at most 100.
pub fn may_be_ill(nodes: usize, min_healthy: u32) -> usize {
    if nodes == 0 {
        return 0;
    }
    let share = usize::try_from(100_u32.saturating_sub(min_healthy)).unwrap_or(0);
    (nodes.saturating_mul(share) / 100).max(1)
}

/// Within which bounds targets of one pool are repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Repairs at the same time, in all.
    pub max_in_flight: u32,
    /// Repairs at the same time in one failure domain.
    pub max_per_domain: u32,
    /// Repairs begun within an hour.
    pub max_per_hour: u32,
    /// Repairs begun within a day.
    pub max_per_day: u32,
    /// Repairs of one target begun within a day (F77).
    pub max_per_target: u32,
    /// Nobody is touched while fewer than this share of the targets is healthy, in percent.
    pub min_healthy: u32,
}

/// What was spent lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    spent: Vec<Spent>,
}

/// One repair that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    at: Mono,
    wall: Wall,
}

impl Budget {
    /// A repair begins.
    pub fn spend(&mut self, now: Now) {
        self.spent.retain(|spent| now.mono.since(spent.at) < DAY);
        if self.spent.len() >= REMEMBERED {
            self.spent.remove(0);
        }
        self.spent.push(Spent { at: now.mono, wall: now.wall });
    }

    /// How many were begun within a day.
    pub fn today(&self, now: Mono) -> usize {
        self.spent.iter().filter(|spent| now.since(spent.at) < DAY).count()
    }

    /// True when nothing was spent, or nothing that is remembered.
    pub fn is_empty(&self) -> bool {
        self.spent.is_empty()
    }

    /// True when one more may begin now; a limit of 0 allows none.
    pub fn has_room(&self, now: Mono, per_hour: u32, per_day: u32) -> bool {
        let within = |span: Duration| self.spent.iter().filter(|spent| now.since(spent.at) < span).count();
        within(HOUR) < per_hour as usize && within(DAY) < per_day as usize
    }

    /// As an earlier run left it: instants of another boot, or later than now, are placed by the wall
    /// clock, between nothing and a day ago.
    #[must_use]
    pub fn carried(mut self, now: Now, same_boot: bool) -> Budget {
        for spent in &mut self.spent {
            if !same_boot || spent.at > now.mono {
                spent.at = now.mono.minus(now.wall.since(spent.wall).min(DAY));
            }
        }
        self
    }
}

/// Trips when too many are ill; released only after a time of calm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaker {
    last_storm: Option<Mono>,
}

impl Breaker {
    /// Takes note of one look; true when it lets through.
    pub fn note(&mut self, too_many: bool, now: Mono) -> bool {
        if too_many {
            self.last_storm = Some(now);
        } else if self.last_storm.is_some_and(|storm| now.since(storm) >= CALM) {
            self.last_storm = None;
        }
        self.last_storm.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_of_nobody_may_have_nobody_ill_and_a_small_one_one() {
        let of_51: Vec<usize> = (0..=10).map(|nodes| may_be_ill(nodes, 51)).collect();
        assert_eq!(of_51, [0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!((may_be_ill(1_000, 51), may_be_ill(1_000, 100), may_be_ill(5, 0)), (490, 1, 5));
        assert_eq!(may_be_ill(7, 4_000), 1);
    }

    fn at(minutes: i64) -> Now {
        Now { wall: Wall(minutes * 60_000), mono: Mono(minutes * 60_000), awake: Mono(0) }
    }

    #[test]
    fn an_hour_and_a_day_are_counted_to_the_millisecond() {
        let mut budget = Budget::default();
        assert!(!budget.has_room(Mono(0), 0, 5) && !budget.has_room(Mono(0), 5, 0));
        budget.spend(at(0));
        assert!(!budget.has_room(Mono(3_599_999), 1, 9) && budget.has_room(Mono(3_600_000), 1, 9));
        assert!(!budget.has_room(Mono(86_399_999), 9, 1) && budget.has_room(Mono(86_400_000), 9, 1));
        for minute in 0..5_000 {
            budget.spend(at(minute));
        }
        assert_eq!(budget.spent.len(), REMEMBERED);
    }

    #[test]
    fn a_budget_survives_a_restart_and_a_reboot_and_no_clock_frees_it_at_once() {
        let mut budget = Budget::default();
        budget.spend(at(600));
        let reboot = |wall: i64| Now { wall: Wall(wall * 60_000), mono: Mono(60_000), awake: Mono(0) };
        // Same boot or another, and the wall clock; then how many minutes ago it was spent.
        for (same_boot, now, minutes) in
            [(true, at(630), 30), (false, reboot(630), 30), (false, reboot(0), 0), (false, reboot(999_999), 1_440)]
        {
            let carried = budget.clone().carried(now, same_boot);
            assert_eq!(now.mono.since(carried.spent[0].at), Duration::from_mins(minutes), "{same_boot} {now:?}");
        }
    }

    #[test]
    fn a_storm_is_over_after_five_minutes_of_calm() {
        let mut breaker = Breaker::default();
        assert!(breaker.note(false, Mono(0)));
        assert!(!breaker.note(true, Mono(1_000)));
        assert!(!breaker.note(false, Mono(300_999)));
        assert!(!breaker.note(true, Mono(300_999)));
        assert!(!breaker.note(false, Mono(600_998)));
        assert!(breaker.note(false, Mono(600_999)));
    }
}
