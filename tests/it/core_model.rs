//! A second core for one signal, slow and obvious: it keeps the whole history and answers each
//! question by reading it from the beginning. It must agree with the real one step by step.
//!
//! It knows counts, hold, hysteresis-free verdicts, flapping, warm-up, gaps and the cooldown.

use std::time::Duration;

use proptest::prelude::*;
use watchdog::core::edge::EdgeKind;
use watchdog::core::rule::{Rule, Test};
use watchdog::core::signal::{Reading, State};

use crate::world::{World, full, policy, saw, spec};

const TICK: i64 = 15_000;

/// What may happen between one pass and the next, and what the pass then sees.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Move {
    See(Seen),
    /// The wall clock is set, then a look.
    Step(Seen),
    /// The machine sleeps for an hour, then a look.
    Sleep(Seen),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    Good,
    Bad,
    Unknown,
}

impl Move {
    fn seen(self) -> Seen {
        match self {
            Move::See(seen) | Move::Step(seen) | Move::Sleep(seen) => seen,
        }
    }
}

/// The whole history, and answers read from it.
struct Model {
    fail_after: usize,
    recover_after: usize,
    hold: i64,
    cooldown: i64,
    moves: Vec<Move>,
}

impl Model {
    /// When pass `n` was, in milliseconds since the first.
    fn at(&self, n: usize) -> i64 {
        self.moves[..=n].iter().map(|m| if matches!(m, Move::Sleep(_)) { TICK + 3_600_000 } else { TICK }).sum()
    }

    fn is_gap(&self, n: usize) -> bool {
        n > 0 && !matches!(self.moves[n], Move::See(_))
    }

    /// A gap stands alone when the five passes before it had none.
    fn is_alone(&self, n: usize) -> bool {
        self.is_gap(n) && !(n.saturating_sub(5)..n).any(|before| self.is_gap(before))
    }

    fn is_warming(&self, n: usize) -> bool {
        n == 0 || self.is_alone(n)
    }

    /// Ages and counts begin again with this pass.
    fn begins_again(&self, n: usize) -> bool {
        n == 0 || self.is_alone(n) && matches!(self.moves[n], Move::Sleep(_))
    }

    /// The telling looks up to `n` since counts last began again, oldest first.
    fn counted(&self, n: usize) -> Vec<usize> {
        let from = (0..=n).rev().find(|n| self.begins_again(*n)).unwrap_or(0);
        (from..=n).filter(|n| self.moves[*n].seen() != Seen::Unknown).collect()
    }

    /// The looks of one kind in a row at the end of `counted`, oldest first.
    fn row(&self, n: usize, kind: Seen) -> Vec<usize> {
        let mut row: Vec<usize> =
            self.counted(n).into_iter().rev().take_while(|n| self.moves[*n].seen() == kind).collect();
        row.reverse();
        row
    }

    /// Seen bad for long and often enough.
    fn is_enough(&self, n: usize) -> bool {
        let row = self.row(n, Seen::Bad);
        // A span between two looks was seen when nothing unknown and no sleep lies in it.
        let held: i64 = row
            .windows(2)
            .filter(|pair| (pair[0] + 1..=pair[1]).all(|n| self.moves[n].seen() != Seen::Unknown))
            .filter(|pair| (pair[0] + 1..=pair[1]).all(|n| !matches!(self.moves[n], Move::Sleep(_))))
            .map(|pair| self.at(pair[1]) - self.at(pair[0]))
            .sum();
        row.len() >= self.fail_after && held >= self.hold
    }

    fn is_confirmed(&self, n: usize) -> bool {
        let before = n > 0 && self.is_confirmed(n - 1);
        match self.moves[n].seen() {
            Seen::Unknown => before,
            Seen::Bad => before || !self.is_warming(n) && self.is_enough(n),
            Seen::Good => before && self.row(n, Seen::Good).len() < self.recover_after,
        }
    }

    /// Changes among the last 21 samples. Before the first there was nothing bad; where counts
    /// began again, only what was confirmed is known of the time before, unless it flaps.
    fn changes(&self, n: usize) -> usize {
        let from = (0..=n).rev().find(|n| self.begins_again(*n) && !(*n > 0 && self.is_flapping(*n - 1))).unwrap_or(0);
        let origin = from > 0 && self.is_confirmed(from - 1);
        let sample = |n: usize| if self.hold == 0 { self.moves[n].seen() == Seen::Bad } else { self.is_confirmed(n) };
        let told = (from..=n).filter(|n| self.moves[*n].seen() != Seen::Unknown).map(sample);
        let samples: Vec<bool> = std::iter::repeat_n(origin, 21).chain(told).collect();
        samples[samples.len() - 21..].windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    fn is_flapping(&self, n: usize) -> bool {
        let before = n > 0 && self.is_flapping(n - 1);
        if self.moves[n].seen() == Seen::Unknown {
            return before;
        }
        if before {
            let settled = self.is_confirmed(n) || self.row(n, Seen::Good).len() >= self.recover_after;
            self.changes(n) > 4 || !settled
        } else {
            self.changes(n) >= 6 && !self.is_warming(n)
        }
    }

    /// Everything that is said up to the last pass, by pass.
    fn said(&self) -> Vec<(usize, EdgeKind)> {
        let mut said: Vec<(usize, EdgeKind)> = Vec::new();
        let mut told_flapping = false;
        for n in 0..self.moves.len() {
            let open = said.last().is_some_and(|(_, kind)| *kind != EdgeKind::Recovery);
            let flapping = self.is_flapping(n);
            let bad = flapping || self.is_confirmed(n);
            if self.moves[n].seen() == Seen::Unknown {
                continue;
            }
            let last = said.last().map_or(0, |(n, _)| *n);
            if bad && !open {
                told_flapping = flapping;
                said.push((n, EdgeKind::Alert));
            } else if !bad && open {
                said.push((n, EdgeKind::Recovery));
            } else if bad && (self.at(n) - self.at(last) >= self.cooldown || flapping && !told_flapping) {
                told_flapping |= flapping;
                said.push((n, EdgeKind::Realert));
            }
        }
        said
    }

    fn state(&self, n: usize) -> State {
        match self.moves[n].seen() {
            Seen::Unknown => State::Unknown,
            _ if self.is_flapping(n) || self.is_confirmed(n) => State::Firing,
            Seen::Bad => State::Pending,
            Seen::Good => State::Ok,
        }
    }
}

fn any_move() -> impl Strategy<Value = Move> {
    let seen = || prop_oneof![4 => Just(Seen::Good), 5 => Just(Seen::Bad), 1 => Just(Seen::Unknown)];
    prop_oneof![
        14 => seen().prop_map(Move::See),
        1 => seen().prop_map(Move::Step),
        1 => seen().prop_map(Move::Sleep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: Some(Box::new(proptest::test_runner::FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_core_agrees_with_the_obvious_one_step_by_step(
        fail_after in 1usize..4,
        recover_after in 1usize..4,
        hold in prop::sample::select(vec![0, 0, 20_000, 60_000]),
        minutes in 1i64..10,
        moves in prop::collection::vec((any_move(), 1usize..4), 1..14),
    ) {
        let rule = Rule {
            fail_after: fail_after as u32,
            recover_after: recover_after as u32,
            hold: Duration::from_millis(hold as u64),
            unknown_after: Duration::ZERO,
            ..Rule::at_once(Test::Verdict)
        };
        let moves = moves.into_iter().flat_map(|(one, times)| {
            // What happens to the clocks happens once; what is seen may be seen for a while.
            std::iter::once(one).chain(std::iter::repeat_n(Move::See(one.seen()), times - 1))
        }).collect();
        let model = Model { fail_after, recover_after, hold, cooldown: minutes * 60_000, moves };
        let policy = watchdog::core::watch::Policy { cooldown: watchdog::core::watch::Cooldowns::all(Duration::from_mins(minutes as u64)), ..policy() };
        let (mut world, spec) = (World::new(policy), spec("a/web", rule));
        let mut said = Vec::new();
        for (n, step) in model.moves.iter().enumerate() {
            match step {
                Move::Step(_) => world.set_clock(-86_400_000),
                Move::Sleep(_) => world.sleep(Duration::from_hours(1)),
                Move::See(_) => {}
            }
            world.pass_time(Duration::from_millis(TICK as u64));
            let at = world.now.mono;
            let reading = match step.seen() {
                Seen::Good => Reading::Up,
                Seen::Bad => Reading::Down,
                Seen::Unknown => Reading::Unknown,
            };
            let out = world.pass(vec![full("eye", at, vec![saw(&spec, at, reading)])]);
            said.extend(out.edges.iter().filter(|e| e.key == spec.key).map(|e| (n, e.kind)));
            let standing = world.watch.standings().find(|s| s.key == spec.key).unwrap();
            prop_assert_eq!(standing.state, model.state(n), "at pass {} of {:?}: {:?}", n, model.moves, standing);
        }
        prop_assert_eq!(said, model.said(), "{:?}", model.moves);
    }
}
