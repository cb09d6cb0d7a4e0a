//! What one pass lends to every member in turn: the clocks, what was seen, what is decided, what all share.
//!
//! So a member owns all that happens to it, and nobody looks a name up that must exist.

use std::sync::Arc;

use super::budget::Bounds;
use super::closed::Closed;
use super::heartbeat::{Beat, Life};
use super::plan::{Cause, Counts, Input, Looked, Mode, Node, Order, Plan, Policy, Task};
use super::pool::{Pool, Pools};
use crate::core::signal::{SignalKey, State};
use crate::core::time::{Mono, Now};

/// What one pass lends to every member in turn.
pub struct Pass<'a> {
    /// The clocks.
    pub now: Now,
    /// What holds for all repairs.
    pub policy: &'a Policy,
    /// What was seen.
    pub input: &'a Input<'a>,
    /// What follows.
    pub plan: &'a mut Plan,
    /// What is counted since the start.
    pub counts: &'a mut Counts,
    /// What all of one kind share.
    pub pools: &'a mut Pools,
    /// The names of repairs that are over.
    pub closed: &'a mut Closed,
    /// The number of the last order.
    pub orders: &'a mut u64,
}

impl Pass<'_> {
    /// Orders something of the operator; gives back the order's number.
    pub fn order(&mut self, target: &Arc<str>, task: Task) -> u64 {
        *self.orders += 1;
        self.plan.orders.push(Order { id: *self.orders, target: Arc::clone(target), task });
        *self.orders
    }

    /// What a target shares with others, and within which bounds.
    pub fn pool(&self, node: &Node) -> (&Pool, &Bounds) {
        let share = node.kind.share;
        (self.pools.of(share), self.policy.bounds(share))
    }

    /// What a target shares with others, to change it.
    pub fn pool_mut(&mut self, node: &Node) -> &mut Pool {
        self.pools.of_mut(node.kind.share)
    }

    /// True while repairs are only simulated.
    pub fn observes(&self) -> bool {
        self.policy.mode == Mode::Observe
    }

    /// How a signal stands.
    pub fn look(&self, key: &SignalKey) -> Option<Looked> {
        (self.input.look)(key)
    }

    /// How a signal stands, in one word.
    pub fn state(&self, key: &SignalKey) -> &'static str {
        self.look(key).map_or(State::Unknown.as_str(), |looked| looked.state.as_str())
    }

    /// What the pass saw of a target, and when; `None` where nobody could see.
    pub fn glance(&self, node: &Node) -> (Option<(Life, Option<&Beat>)>, Mono) {
        match &node.cause {
            Cause::Heartbeat => {
                let Some(beats) = self.input.beats else { return (None, self.now.mono) };
                let beat = beats.nodes.get(&node.name);
                (Some((beat.map_or(Life::Gone, |beat| beat.life), beat)), beats.at)
            }
            Cause::Signal(key) => {
                let looked = self.look(key);
                let life = looked.as_ref().and_then(|looked| match looked.state {
                    State::Firing if looked.is_bad => Some(Life::Gone),
                    State::Ok => Some(Life::Alive),
                    State::Firing | State::Pending | State::Unknown => None,
                });
                let at = looked.and_then(|looked| looked.seen_at).unwrap_or(self.now.mono);
                (life.map(|life| (life, None)), at)
            }
        }
    }

    /// True when the target is ill by what the pass saw, looked at later than `since`.
    pub fn is_ill(&self, node: &Node, since: Option<Mono>) -> bool {
        let (glance, at) = self.glance(node);
        matches!(glance, Some((Life::Gone, _))) && since.is_none_or(|since| at >= since)
    }
}
