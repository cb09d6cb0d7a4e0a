//! When each probe is due: a fixed grid per probe, spread so that many probes never come in a burst.
//!
//! A probe keeps its own grid (base + n × interval) however long a check took; grid points that passed
//! while it was being looked at are skipped, not caught up on. The grids of n probes of one interval
//! are spread evenly over it, in small groups that one worker looks at in one go: waking up for each
//! would cost more than the look. Plain data: the caller hands in the time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// The grids of one interval stand together in groups this far apart, or a twentieth of the interval. Measured: a check
/// in a group of fifty costs three quarters of one in a group of ten, which costs half of one that stands alone.
const GROUP: Duration = Duration::from_millis(250);
/// The least distance between two probes when many are to be looked at soon.
const STEP: Duration = Duration::from_millis(1);
/// The time within which all of them are begun.
const SOON: Duration = Duration::from_secs(1);

/// The due times of a fixed set of probes, known by their index.
pub struct Schedule {
    grids: Vec<Grid>,
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

struct Grid {
    base: Instant,
    interval: Duration,
}

impl Schedule {
    /// A schedule of `intervals` (each longer than zero) that begins at `start`; nothing is due before
    /// [`Schedule::soon`] or its first point on the grid.
    pub fn new(intervals: &[Duration], start: Instant) -> Schedule {
        let count = u32::try_from(intervals.len()).unwrap_or(u32::MAX).max(1);
        let mut grids = Vec::with_capacity(intervals.len());
        let mut heap = BinaryHeap::with_capacity(intervals.len());
        for (index, interval) in intervals.iter().enumerate() {
            let interval = (*interval).max(STEP);
            let place = u32::try_from(index).unwrap_or(u32::MAX);
            let group = (interval / 20).clamp(Duration::from_nanos(1), GROUP);
            let offset = (interval / count).saturating_mul(place);
            let groups = u32::try_from(offset.as_nanos() / group.as_nanos()).unwrap_or(u32::MAX);
            let base = start + group.saturating_mul(groups);
            grids.push(Grid { base, interval });
            heap.push(Reverse((base + interval, index)));
        }
        Schedule { grids, heap }
    }

    /// Puts each probe on the grid of its leader where their intervals are the same, so that both are looked at in one go.
    pub fn align(&mut self, leaders: &[usize]) {
        for (index, leader) in leaders.iter().enumerate() {
            let lead = self.grids.get(*leader).map(|grid| (grid.base, grid.interval));
            if let (Some((base, interval)), Some(grid)) = (lead, self.grids.get_mut(index))
                && grid.interval == interval
            {
                grid.base = base;
            }
        }
        let grids = &self.grids;
        let due = |index: usize| grids.get(index).map(|grid| Reverse((grid.base + grid.interval, index)));
        self.heap = (0..grids.len()).filter_map(due).collect();
    }

    /// Makes every waiting probe that `wanted` names due, begun one after the other: a millisecond
    /// apart, or closer when there are so many that a second would not do.
    pub fn soon(&mut self, now: Instant, mut wanted: impl FnMut(usize) -> bool) {
        let mut all = std::mem::take(&mut self.heap).into_vec();
        all.sort_unstable_by_key(|Reverse((_, index))| *index);
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX).max(1);
        let step = STEP.min(SOON / count);
        let mut due = now;
        for Reverse((at, index)) in &mut all {
            if wanted(*index) {
                *at = (*at).min(due);
                due += step;
            }
        }
        self.heap = BinaryHeap::from(all);
    }

    /// Takes the probe that has been due for longest, if one is due. It stays out until [`Schedule::done`].
    pub fn take_due(&mut self, now: Instant) -> Option<usize> {
        match self.heap.peek() {
            Some(Reverse((at, _))) if *at <= now => self.heap.pop().map(|Reverse((_, index))| index),
            _ => None,
        }
    }

    /// When the next waiting probe is due; `None` when all are out.
    pub fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Puts a probe that was taken back in, due at `at`, to go on with it.
    pub fn again(&mut self, index: usize, at: Instant) {
        if index < self.grids.len() {
            self.heap.push(Reverse((at, index)));
        }
    }

    /// Puts a probe that was taken back in, due at the next point of its grid after `now`.
    pub fn done(&mut self, index: usize, now: Instant) {
        let Some(grid) = self.grids.get(index) else { return };
        let passed = now.saturating_duration_since(grid.base).as_nanos() / grid.interval.as_nanos().max(1);
        let points = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
        self.heap.push(Reverse((grid.base + grid.interval.saturating_mul(points), index)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_thousand_probes_are_begun_within_a_second_and_then_spread_over_their_interval() {
        let start = Instant::now();
        let interval = Duration::from_secs(5);
        let mut schedule = Schedule::new(&vec![interval; 1000], start);
        assert_eq!(schedule.take_due(start), None);
        schedule.soon(start, |_| true);
        let mut now = start;
        let mut most_at_once = 0;
        let mut begun = 0;
        while begun < 1000 {
            let mut at_once = 0;
            while let Some(index) = schedule.take_due(now) {
                schedule.done(index, now);
                at_once += 1;
            }
            begun += at_once;
            most_at_once = most_at_once.max(at_once);
            now += MS;
            assert!(now <= start + SOON, "only {begun} begun within a second");
        }
        assert!(most_at_once <= 3, "{most_at_once} begun in one millisecond");
        // After that: 200 a second, in groups of fifty each 250 ms.
        now = start + interval;
        let mut seen = vec![0; 1000];
        for _ in 0..5000 {
            let mut at_once = 0;
            while let Some(index) = schedule.take_due(now) {
                seen[index] += 1;
                at_once += 1;
                schedule.done(index, now);
            }
            assert!(at_once <= 50, "{at_once} at once");
            now += MS;
        }
        assert!(seen.iter().all(|n| *n == 1), "every probe once per interval");
    }

    #[test]
    fn those_with_a_leader_are_due_with_it_unless_their_interval_is_another() {
        let start = Instant::now();
        let (short, long) = (Duration::from_secs(5), Duration::from_secs(7));
        let mut schedule = Schedule::new(&[short, short, short, long], start);
        schedule.align(&[0, 1, 0, 0]);
        let grid = |index: usize| schedule.grids[index].base;
        assert_eq!(grid(0), grid(2));
        assert!(grid(1) != grid(0) && grid(3) != grid(0));
    }

    #[test]
    fn a_slow_check_skips_points_of_its_grid_and_keeps_the_rest() {
        let start = Instant::now();
        let mut schedule = Schedule::new(&[100 * MS], start);
        assert_eq!(schedule.take_due(start + 100 * MS), Some(0));
        assert_eq!(schedule.next_due(), None, "at most one check in flight");
        schedule.done(0, start + 350 * MS);
        assert_eq!(schedule.next_due(), Some(start + 400 * MS));
        assert_eq!(schedule.take_due(start + 399 * MS), None);
        assert_eq!(schedule.take_due(start + 400 * MS), Some(0));
    }

    #[test]
    fn hurrying_leaves_out_those_not_wanted_and_those_that_are_out() {
        let start = Instant::now();
        let mut schedule = Schedule::new(&[Duration::from_secs(9); 3], start);
        schedule.soon(start, |_| true);
        assert_eq!(schedule.take_due(start), Some(0));
        schedule.soon(start, |index| index == 2);
        assert_eq!(schedule.take_due(start + MS), Some(2));
    }

    #[test]
    fn extremes_do_not_panic() {
        let now = Instant::now();
        let mut schedule = Schedule::new(&[Duration::ZERO, Duration::from_hours(87_840)], now);
        schedule.soon(now, |_| true);
        schedule.done(7, now);
        schedule.done(0, now + Duration::from_hours(1));
        assert!(schedule.next_due().is_some());
        Schedule::new(&[], now).soon(now, |_| true);
    }
}
