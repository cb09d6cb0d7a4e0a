//! What targets of one kind have in common: how many are ill and may be, what is under way, what was spent.
//!
//! A storm among thirty workloads never keeps a machine from being repaired, nor the reverse: each pool has its own
//! budget, breaker and share that has to be healthy. Decides nothing by itself; the gate asks.

use std::collections::BTreeMap;

use super::budget::{Bounds, Breaker, Budget, may_be_ill};
use super::kind::Share;
use crate::core::time::Now;

/// Every pool.
#[derive(Debug, Clone, Default)]
pub struct Pools([Pool; 3]);

impl Pools {
    /// The pool of these.
    pub fn of(&self, share: Share) -> &Pool {
        let [machines, workloads, processes] = &self.0;
        match share {
            Share::Machines => machines,
            Share::Workloads => workloads,
            Share::Processes => processes,
        }
    }

    /// The same, to change it.
    pub fn of_mut(&mut self, share: Share) -> &mut Pool {
        let [machines, workloads, processes] = &mut self.0;
        match share {
            Share::Machines => machines,
            Share::Workloads => workloads,
            Share::Processes => processes,
        }
    }
}

/// Looks before a repair that are made at once, in one pool.
const CHECKS: usize = 16;

/// What targets of one kind have in common.
#[derive(Debug, Clone)]
pub struct Pool {
    /// What was spent.
    pub budget: Budget,
    /// What was spent by repairs that were only simulated.
    pub simulated: Budget,
    /// How many are ill, of how many that were ever seen alive.
    pub ill: (usize, usize),
    /// No more are ill than may be, and that for a while.
    pub few_are_ill: bool,
    breaker: Breaker,
    /// Repairs under way, in all and by failure domain.
    in_flight: usize,
    flights: BTreeMap<String, usize>,
    /// Looks before a repair that are being made.
    checks: usize,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            budget: Budget::default(),
            simulated: Budget::default(),
            ill: (0, 0),
            few_are_ill: true,
            breaker: Breaker::default(),
            in_flight: 0,
            flights: BTreeMap::new(),
            checks: 0,
        }
    }
}

impl Pool {
    /// Takes note of how many are ill, of how many; `saw`: it was looked, and not only remembered.
    pub fn count(&mut self, ill: (usize, usize), saw: bool, bounds: &Bounds, now: Now) {
        self.ill = ill;
        if saw {
            self.few_are_ill = self.breaker.note(ill.0 > self.may_be_ill(bounds), now.mono);
        }
    }

    /// How many may be ill before nobody is touched.
    pub fn may_be_ill(&self, bounds: &Bounds) -> usize {
        may_be_ill(self.ill.1, bounds.min_healthy)
    }

    /// Nothing is under way, until it is counted again.
    pub fn land(&mut self) {
        self.flights.clear();
        self.in_flight = 0;
        self.checks = 0;
    }

    /// Is there room for one more look before a repair?
    pub fn may_check(&self) -> bool {
        self.checks < CHECKS
    }

    /// One more look before a repair is being made.
    pub fn check(&mut self) {
        self.checks += 1;
    }

    /// One more repair is under way.
    pub fn fly(&mut self, domain: Option<&str>) {
        self.in_flight += 1;
        if let Some(domain) = domain {
            *self.flights.entry(domain.to_string()).or_default() += 1;
        }
    }

    /// Is there room for one more, in all and in its failure domain?
    pub fn has_room(&self, domain: Option<&str>, bounds: &Bounds) -> bool {
        let beside = domain.and_then(|domain| self.flights.get(domain)).copied().unwrap_or(0);
        self.in_flight < bounds.max_in_flight as usize && beside < bounds.max_per_domain as usize
    }

    /// May one more begin by what was spent?
    pub fn has_budget(&self, simulated: bool, bounds: &Bounds, now: Now) -> bool {
        let budget = if simulated { &self.simulated } else { &self.budget };
        budget.has_room(now.mono, bounds.max_per_hour, bounds.max_per_day)
    }

    /// A repair begins.
    pub fn spend(&mut self, simulated: bool, now: Now) {
        if simulated { self.simulated.spend(now) } else { self.budget.spend(now) }
    }
}
