//! Repairs that agents before us began, of nodes that are not configured here: told, because nobody else will start
//! their machines.

use std::sync::Arc;

use super::pass::Pass;
use super::plan::{Note, Task};
use super::repair::FORGET_AGAIN;
use super::story;
use crate::core::time::Mono;

/// Repairs of nodes that are not configured are told by name up to this many.
const NAMED: usize = 5;

/// Repairs of nodes that are not configured here.
#[derive(Debug, Clone)]
pub struct Strangers {
    /// In words, as many as are named, and how many there are.
    pub met: (Vec<String>, usize),
    /// No note about one is asked to be taken away again before this.
    forget_at: Mono,
}

impl Default for Strangers {
    fn default() -> Strangers {
        Strangers { met: (Vec::new(), 0), forget_at: Mono(i64::MIN) }
    }
}

impl Strangers {
    /// A pass begins.
    pub fn forget(&mut self) {
        self.met = (Vec::new(), 0);
    }

    /// A note about somebody who is not configured here.
    pub fn meet(&mut self, note: &Note, pass: &mut Pass<'_>) {
        if !pass.closed.contains(&note.saga) {
            self.met.1 += 1;
            if self.met.0.len() < NAMED {
                self.met.0.push(story::stranger(note));
            }
        } else if pass.now.mono >= self.forget_at {
            // Asked for now and then, not with each pass.
            self.forget_at = pass.now.mono.plus(pass.policy.poll.saturating_mul(FORGET_AGAIN));
            pass.order(&Arc::from(note.target.as_str()), Task::Forget { saga: note.saga.clone() });
        }
    }
}
