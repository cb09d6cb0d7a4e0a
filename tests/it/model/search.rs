//! Breadth first through every state, and back again from those where all is well.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use watchdog::core::recovery::subject::State as Life;

use super::moves::moves;
use super::real::Core;
use super::state::{Broken, Move, Rules, State};

/// FxHash: states are hashed a million times, and nobody chooses them to collide.
pub type Fx = BuildHasherDefault<FxHasher>;

#[derive(Default, Clone, Copy)]
pub struct FxHasher(u64);

impl Hasher for FxHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }
    fn write_isize(&mut self, word: isize) {
        self.write_u64(word.cast_unsigned() as u64);
    }
}

/// What was found.
pub struct Found {
    pub states: usize,
    pub sagas: usize,
    pub took: Duration,
    /// The first broken promise, with the shortest way there.
    pub broken: Option<(Broken, Vec<Move>)>,
}

/// Searches everything, or until a promise in `watched` is broken.
pub fn search(rules: Rules, watched: &[Broken]) -> Found {
    let began = Instant::now();
    let mut core = Core::new();
    let mut numbers: HashMap<State, u32, Fx> = HashMap::default();
    let mut states = vec![State::first(rules).sorted()];
    let mut came: Vec<(u32, Option<Move>)> = vec![(0, None)];
    let mut helped: Vec<(u32, u32)> = Vec::new();
    numbers.insert(states[0], 0);
    let mut next = 0;
    let mut broken = None;
    while next < states.len() && broken.is_none() {
        let state = states[next];
        let from = u32::try_from(next).unwrap();
        for taken in moves(&state, rules, &mut core) {
            let known = u32::try_from(states.len()).unwrap();
            let to = *numbers.entry(taken.to).or_insert(known);
            if to == known {
                states.push(taken.to);
                came.push((from, Some(taken.by)));
            }
            if taken.by.helps() && to != from {
                helped.push((to, from));
            }
            let stranded = taken.to.is_down_by_us() && !taken.to.is_owed(&core);
            let all = taken.broken.into_iter().chain(stranded.then_some(Broken::B1));
            if let Some(which) = all.filter(|which| watched.contains(which)).min() {
                let mut way = trace(&came, from);
                way.push(taken.by);
                broken = Some((which, way));
                break;
            }
        }
        next += 1;
    }
    if broken.is_none() && watched.contains(&Broken::B1) {
        let way = hopeless(&states, &mut helped).map(|at| trace(&came, at));
        broken = way.map(|way| (Broken::B1, way));
    }
    Found { states: states.len(), sagas: core.len(), took: began.elapsed(), broken }
}

fn trace(came: &[(u32, Option<Move>)], mut at: u32) -> Vec<Move> {
    let mut way = Vec::new();
    while let (from, Some(by)) = came[at as usize] {
        way.push(by);
        at = from;
    }
    way.reverse();
    way
}

/// The first state with the machine off by our doing from which nothing that helps leads to RUNNING.
fn hopeless(states: &[State], helped: &mut [(u32, u32)]) -> Option<u32> {
    helped.sort_unstable();
    let mut good: Vec<bool> = states.iter().map(|state| state.life == Life::Running).collect();
    let mut queue: VecDeque<u32> = (0..).zip(&good).filter(|(_, good)| **good).map(|(at, _)| at).collect();
    while let Some(to) = queue.pop_front() {
        let first = helped.partition_point(|(edge, _)| *edge < to);
        for (_, from) in helped[first..].iter().take_while(|(edge, _)| *edge == to) {
            if !std::mem::replace(&mut good[*from as usize], true) {
                queue.push_back(*from);
            }
        }
    }
    (0..).zip(states).find(|(at, state)| state.is_down_by_us() && !good[*at as usize]).map(|(at, _)| at)
}
