//! The last 24 hours of one signal at a glance: 96 quarters of an hour, each with the worst state
//! that was seen in it.
//!
//! Pure data. Time is an argument: quarters are counted on the wall clock, because people read
//! them so; a clock that goes back writes into the newest quarter, and one that leaps ahead leaves
//! quarters in which nothing was seen. Neither loses what is still within 24 hours of the newest.

use crate::core::signal::State;
use crate::core::time::Wall;

/// Quarters of an hour in a day.
pub const QUARTERS: usize = 96;
/// A quarter of an hour in milliseconds.
const QUARTER_MS: i64 = 15 * 60 * 1_000;
/// [`QUARTERS`] as the numbers of quarters are counted.
const DAY: i64 = 96;

/// The last day of one signal. 112 bytes, no allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strip {
    /// A ring: the quarter numbered `n` since 1970 stands at `n % 96`.
    seen: [Option<State>; QUARTERS],
    /// The number of the newest quarter; `None` before the first.
    newest: Option<i64>,
}

impl Default for Strip {
    fn default() -> Self {
        Strip { seen: [None; QUARTERS], newest: None }
    }
}

/// Neighbouring quarters in the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The worst state seen in each; `None` where nothing was seen.
    pub state: Option<State>,
    /// Quarters from the beginning of the strip, 0 to 95.
    pub from: usize,
    /// How many quarters, at least 1.
    pub count: usize,
}

impl Strip {
    /// Moves on to the quarter of `now`, forgetting what is older than a day. Does nothing when
    /// the clock went back.
    pub fn advance(&mut self, now: Wall) {
        let quarter = now.0.div_euclid(QUARTER_MS);
        let Some(newest) = self.newest else {
            self.newest = Some(quarter);
            return;
        };
        let steps = quarter.saturating_sub(newest);
        if steps <= 0 {
            return;
        }
        for back in 0..steps.min(DAY) {
            self.put(quarter.saturating_sub(back), None);
        }
        self.newest = Some(quarter);
    }

    /// Notes a state in the newest quarter, keeping the worst. Nothing before the first
    /// [`Strip::advance`].
    pub fn record(&mut self, state: State) {
        let Some(newest) = self.newest else { return };
        let before = self.get(newest);
        if before.is_none_or(|before| badness(state) > badness(before)) {
            self.put(newest, Some(state));
        }
    }

    /// Notes a state in every quarter from `from` to `to` that is within the day, keeping the worst.
    /// Nothing before the first [`Strip::advance`], and nothing for a span that ends before it begins.
    pub fn fill(&mut self, from: Wall, to: Wall, state: State) {
        let Some(newest) = self.newest else { return };
        if to < from {
            return;
        }
        let oldest = newest.saturating_sub(DAY - 1);
        let (first, last) = (from.0.div_euclid(QUARTER_MS).max(oldest), to.0.div_euclid(QUARTER_MS).min(newest));
        for quarter in first..=last {
            if self.get(quarter).is_none_or(|before| badness(state) > badness(before)) {
                self.put(quarter, Some(state));
            }
        }
    }

    /// The day from its oldest quarter to the newest, neighbours in the same state together.
    pub fn runs(&self) -> Vec<Run> {
        let newest = self.newest.unwrap_or(0);
        let mut runs: Vec<Run> = Vec::new();
        for (from, back) in (0..DAY).rev().enumerate() {
            let state = self.get(newest.saturating_sub(back));
            match runs.last_mut() {
                Some(run) if run.state == state => run.count += 1,
                _ => runs.push(Run { state, from, count: 1 }),
            }
        }
        runs
    }

    /// How many quarters had this as their worst state.
    pub fn quarters(&self, state: Option<State>) -> usize {
        self.seen.iter().filter(|seen| **seen == state).count()
    }

    fn get(&self, quarter: i64) -> Option<State> {
        self.seen.get(place(quarter)).copied().flatten()
    }

    fn put(&mut self, quarter: i64, state: Option<State>) {
        if let Some(seen) = self.seen.get_mut(place(quarter)) {
            *seen = state;
        }
    }
}

fn place(quarter: i64) -> usize {
    usize::try_from(quarter.rem_euclid(DAY)).unwrap_or(0)
}

/// Worse is greater: firing is worst, then not knowing, then a suspicion.
fn badness(state: State) -> u8 {
    match state {
        State::Ok => 0,
        State::Pending => 1,
        State::Unknown => 2,
        State::Firing => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: i64 = 1_767_225_600_000;

    fn quarter(n: i64) -> Wall {
        Wall(START + n * QUARTER_MS)
    }

    #[test]
    fn a_quarter_keeps_the_worst_that_was_seen_in_it() {
        let mut strip = Strip::default();
        strip.record(State::Firing);
        assert_eq!(strip.quarters(None), QUARTERS, "nothing is noted before the first look at the clock");
        strip.advance(quarter(0));
        for state in [State::Ok, State::Pending, State::Unknown, State::Pending, State::Firing, State::Ok] {
            strip.record(state);
        }
        strip.advance(quarter(1));
        strip.record(State::Ok);
        let runs = strip.runs();
        assert_eq!(runs.len(), 3);
        assert_eq!(runs[0], Run { state: None, from: 0, count: 94 });
        assert_eq!(runs[1], Run { state: Some(State::Firing), from: 94, count: 1 });
        assert_eq!(runs[2], Run { state: Some(State::Ok), from: 95, count: 1 });
    }

    #[test]
    fn a_day_later_the_first_quarter_is_gone() {
        let mut strip = Strip::default();
        for n in 0..=96 {
            strip.advance(quarter(n));
            strip.record(if n == 0 { State::Firing } else { State::Ok });
        }
        assert_eq!(strip.quarters(Some(State::Ok)), QUARTERS);
    }

    #[test]
    fn a_gap_is_shown_as_not_seen_and_a_clock_that_went_back_loses_nothing() {
        let mut strip = Strip::default();
        strip.advance(quarter(0));
        strip.record(State::Ok);
        strip.advance(quarter(5));
        strip.record(State::Ok);
        assert_eq!(strip.quarters(None), QUARTERS - 2);
        let before = strip;
        strip.advance(quarter(-50));
        assert_eq!(strip, before);
        strip.record(State::Firing);
        assert_eq!(strip.runs().last().unwrap().state, Some(State::Firing));
    }

    #[test]
    fn a_leap_of_the_clock_clears_the_day_and_nothing_more() {
        for leap in [i64::MAX, i64::MIN, 0, quarter(40_000).0] {
            let mut strip = Strip::default();
            strip.advance(quarter(0));
            strip.record(State::Firing);
            strip.advance(Wall(leap));
            strip.record(State::Ok);
            assert_eq!(strip.runs().iter().map(|r| r.count).sum::<usize>(), QUARTERS);
        }
    }

    proptest! {
        #[test]
        fn runs_always_cover_the_whole_day_in_order(steps in proptest::collection::vec((any::<i64>(), 0u8..4), 0..50)) {
            let mut strip = Strip::default();
            for (at, which) in steps {
                strip.advance(Wall(at));
                strip.record([State::Ok, State::Pending, State::Firing, State::Unknown][usize::from(which)]);
            }
            let runs = strip.runs();
            let mut next = 0;
            for run in &runs {
                prop_assert_eq!(run.from, next);
                prop_assert!(run.count > 0);
                next += run.count;
            }
            prop_assert_eq!(next, QUARTERS);
            prop_assert!(runs.windows(2).all(|w| w[0].state != w[1].state));
        }
    }
}
