//! A member considers a new repair of itself.
//!
//! First by what is known without a look, so that a blocked repair costs nothing; then, with the
//! evidence, the heartbeats and the machine looked at anew, once more (B3). What speaks against acting
//! is kept by name, and told once it matters.

use std::sync::Arc;
use std::time::Duration;

use super::confirm::Confirmation;
use super::gate::{Blocked, Fact, gate};
use super::heartbeat::Life;
use super::journal::Event;
use super::member::{Check, Member, Repair, in_few_words};
use super::pass::Pass;
use super::plan::{Cause, Looked, Task, WhenStopped};
use super::procedure::Procedure;
use super::saga::Saga;
use super::story;
use super::subject::{Seen, State};
use super::target::Phase;
use crate::core::signal::{self, SignalKey};
use crate::core::time::Mono;

/// Evidence that was not looked at again within this is not evidence.
const EVIDENCE_WITHIN: Duration = Duration::from_secs(20);
/// What was looked at for a decision is too old for it after this.
const LOOKED_WITHIN: Duration = Duration::from_mins(1);
/// A machine found off until this long after a request of unknown outcome is off by our doing.
const OURS: Duration = Duration::from_hours(1);
/// A check that did not lead to a repair is made again after this many looks.
const CHECK_AGAIN: u32 = 6;

impl Member {
    /// Considers a new repair.
    pub fn consider(&mut self, pass: &mut Pass<'_>) {
        if self.is_silenced(pass) {
            self.silenced_at = Some(pass.now.mono);
        }
        let is_well = self.target.kept.was_alive && !self.target.is_ill();
        if self.repair.is_some() || is_well || !self.node.repairable {
            self.blocked.clear();
            self.told = None;
            return;
        }
        let now = pass.now.mono;
        let blocked = gate(&self.facts(None, pass));
        let due = self.target.is_due(now, self.node.times) && !self.leaving;
        if !blocked.is_empty() || !due {
            // Evidence that was asked for is used at once or not at all: it grows old while something blocks.
            if matches!(self.check, Check::Evidence(_)) {
                self.check_later(pass);
            }
            return self.hold(blocked, due, pass);
        }
        match self.check {
            // Those that find no room for their look have it once others are done with theirs.
            Check::Idle(from) if now >= from && pass.pool(&self.node).0.may_check() => {
                pass.pool_mut(&self.node).check();
                if self.node.evidence.is_empty() && self.node.has_heartbeat() {
                    self.check = Check::Confirming(now);
                    self.order(Task::Confirm, pass);
                } else {
                    self.check = Check::Evidence(now);
                    pass.plan.hurry = true;
                }
            }
            Check::Evidence(since) if self.is_fresh(since, pass) => {
                self.check = Check::Confirming(since);
                self.order(Task::Confirm, pass);
            }
            Check::Evidence(since) if now.since(since) >= EVIDENCE_WITHIN => {
                self.check_later(pass);
                self.hold(vec![Blocked::EvidenceDisagrees], true, pass);
            }
            Check::Confirming(_) if self.out.is_none() => self.check_later(pass),
            Check::Idle(_) | Check::Evidence(_) | Check::Confirming(_) => {}
        }
    }

    fn check_later(&mut self, pass: &Pass<'_>) {
        self.check = Check::Idle(pass.now.mono.plus(pass.policy.poll.saturating_mul(CHECK_AGAIN)));
    }

    /// Everything was looked at just now: go, or say why not.
    pub fn decide(&mut self, fresh: &Confirmation<'_>, pass: &mut Pass<'_>) {
        let now = pass.now.mono;
        let blocked = gate(&self.facts(Some(fresh), pass));
        let gone = self.is_gone(fresh, pass);
        self.check_later(pass);
        // It was back meanwhile, if only for a moment: its time begins anew.
        if !self.target.is_due(now, self.node.times) {
            return self.hold(blocked, false, pass);
        }
        self.explain(fresh, &blocked);
        let Ok(seen) = fresh.seen else { return self.hold(blocked, true, pass) };
        let is_ours = self.target.kept.unsure_at.as_deref().is_some_and(|at| now.since(at.mono) < OURS);
        let may_start = is_ours || self.node.when_stopped == WhenStopped::Start;
        let is_off = blocked == [Blocked::NotRunning] && may_start && seen.state == State::Stopped;
        let (ladder, attempts) = (&self.node.ladder, self.target.kept.attempts as usize);
        let way = if blocked.is_empty() {
            ladder.get(attempts).or(ladder.last())
        } else {
            self.node.starts.as_ref().filter(|_| is_off)
        };
        match way.filter(|_| gone).cloned() {
            Some(way) => self.open(&way, seen, pass),
            None => self.hold(blocked, gone, pass),
        }
    }

    /// True when it is ill by what was looked at just now.
    fn is_gone(&self, fresh: &Confirmation<'_>, pass: &Pass<'_>) -> bool {
        if self.node.has_heartbeat() {
            fresh.is_gone(&self.node.name)
        } else {
            pass.is_ill(&self.node, Some(fresh.since))
        }
    }

    /// What the look before a repair met with, in words.
    fn explain(&mut self, fresh: &Confirmation<'_>, blocked: &[Blocked]) {
        self.trouble = match (fresh.beats, fresh.seen) {
            (Err(why), _) if self.node.has_heartbeat() => Some(in_few_words(why)),
            (_, Err(why)) => Some(in_few_words(why)),
            (_, Ok(seen)) if blocked.contains(&Blocked::NotRunning) => Some(format!("the provider says {}", seen.word)),
            _ => None,
        };
    }

    /// Begins a repair.
    fn open(&mut self, way: &Arc<Procedure>, seen: &Seen, pass: &mut Pass<'_>) {
        let (now, simulated) = (pass.now, pass.observes());
        let id = story::saga_id(&pass.policy.instance, &self.node.name, now);
        self.repair = Some(Box::new(Repair::open(id, Saga::open(Arc::clone(way)), simulated, now)));
        self.blocked.clear();
        self.told = None;
        self.trouble = None;
        self.dirty = true;
        self.note_place();
        let kept = &mut self.target.kept;
        kept.attempts = kept.attempts.saturating_add(1);
        kept.simulated = simulated;
        kept.repair_at = Some(Box::new(now));
        kept.boot_before.clone_from(&kept.boot);
        kept.session_before.clone_from(&kept.session);
        kept.enter(Phase::Recovering, now);
        self.happen(Event::Opened { procedure: Arc::clone(way), simulated }, pass);
        pass.pool_mut(&self.node).fly(self.node.domain.as_deref());
        let edge = story::acting(self, way, seen, pass);
        pass.plan.edges.push(edge);
        pass.pool_mut(&self.node).spend(simulated, now);
        let begun = if simulated { &mut self.simulated_begun } else { &mut self.target.kept.begun };
        begun.spend(now);
        pass.plan.spent |= !simulated;
        self.ask(seen.version.as_deref(), pass);
    }

    /// Nothing is done: why is kept, and told once it matters.
    fn hold(&mut self, blocked: Vec<Blocked>, due: bool, pass: &mut Pass<'_>) {
        // Counted as it is told: what was in the way before the node was due is counted once that it is.
        let known = |reason: &Blocked| self.told.as_deref().is_some_and(|(told, _)| told.contains(reason));
        for reason in blocked.iter().filter(|reason| due && !known(reason)) {
            *pass.counts.blocked.entry(*reason).or_default() += 1;
        }
        self.blocked = blocked;
        if !due || self.blocked.is_empty() {
            return;
        }
        let (again, now) = (pass.policy.cooldown, pass.now.mono);
        let is_told = self
            .told
            .as_deref()
            .is_some_and(|(told, at)| *told == self.blocked && (again.is_zero() || now.since(*at) < again));
        if !is_told {
            self.told = Some(Box::new((self.blocked.clone(), now)));
            // A storm is told once, as a fact about all of them, not once for each; who silenced it knows why.
            if !self.blocked.contains(&Blocked::TooManyMissing) && !self.blocked.contains(&Blocked::Silenced) {
                let edge = story::blocked(self, pass);
                pass.plan.edges.push(edge);
            }
        }
    }

    /// The facts that the gate asks for: as far as they are known without a look, or with the look just made.
    fn facts(&self, fresh: Option<&Confirmation<'_>>, pass: &Pass<'_>) -> Vec<Fact> {
        let mut facts = self.generic_facts(fresh, pass).to_vec();
        if self.node.kind.is_machine {
            // Where it cannot be looked at, that is the observer's trouble and named so.
            let runs = |fresh: &Confirmation<'_>| fresh.seen.as_ref().map_or(true, |seen| seen.state == State::Running);
            facts.push((fresh.is_none_or(runs), Blocked::NotRunning));
            facts.push((!self.target.kept.own, Blocked::OwnMachine));
        }
        facts
    }

    /// The facts that are asked for whatever the kind.
    fn generic_facts(&self, fresh: Option<&Confirmation<'_>>, pass: &Pass<'_>) -> [Fact; Blocked::GENERIC.len()] {
        let (observe, policy, now, input) = (pass.observes(), pass.policy, pass.now, pass.input);
        let (pool, bounds) = pass.pool(&self.node);
        let kept = &self.target.kept;
        let sees = match fresh {
            None => input.beats.is_some() || !self.node.has_heartbeat(),
            Some(fresh) if now.mono.since(fresh.since) > LOOKED_WITHIN => false,
            Some(fresh) => {
                let sees = fresh.beats.is_ok() || !self.node.has_heartbeat();
                sees && fresh.seen.is_ok() && self.has_reference(fresh, pass)
            }
        };
        // The look just made must not show more ill than there may be, either.
        let few_are_gone = |fresh: &Confirmation<'_>| fresh.beats.is_err() || fresh.ill <= pool.may_be_ill(bounds);
        let has_budget =
            pool.has_budget(observe, bounds, now) && self.begun_today(pass) < bounds.max_per_target as usize;
        let is_heard = self.silenced_at.is_none_or(|at| now.mono.since(at) >= self.node.times.after);
        let agrees =
            self.evidence(fresh.map(|fresh| fresh.since), pass) && fresh.is_none_or(|fresh| self.is_gone(fresh, pass));
        [
            (kept.was_alive, Blocked::NeverSeen),
            (sees, Blocked::ObserverBlind),
            (pool.few_are_ill && fresh.is_none_or(few_are_gone), Blocked::TooManyMissing),
            (pool.has_room(self.node.domain.as_deref(), bounds), Blocked::InFlight),
            (has_budget, Blocked::BudgetSpent),
            (agrees, Blocked::EvidenceDisagrees),
            (observe || input.holds_lease || self.node.is_local(), Blocked::NotLeader),
            (!policy.paused, Blocked::Paused),
            (now.mono.since(input.fresh_since) >= self.node.times.after, Blocked::WarmingUp),
            (observe || input.is_durable, Blocked::NoStateFile),
            (policy.has_attempts(kept.attempts) && kept.given_up.is_none(), Blocked::AttemptsExhausted),
            (is_heard, Blocked::Silenced),
        ]
    }

    /// Every evidence signal is down, looked at later than `since`; and there is one where one is required.
    pub fn evidence(&self, since: Option<Mono>, pass: &Pass<'_>) -> bool {
        let is_small = self.node.kind.is_machine && pass.pool(&self.node).0.ill.1 <= 2;
        let required = is_small && !self.node.heartbeat_only;
        let is_down = |looked: Looked| {
            let fresh = since.is_none_or(|since| looked.seen_at.is_some_and(|at| at >= since));
            looked.is_bad && fresh
        };
        let agree = self.node.evidence.iter().all(|key| pass.look(key).is_some_and(is_down));
        agree && !(required && self.node.evidence.is_empty())
    }

    fn is_fresh(&self, since: Mono, pass: &Pass<'_>) -> bool {
        let looked = |key: &SignalKey| pass.look(key).and_then(|looked| looked.seen_at).is_some_and(|at| at >= since);
        // What shows by a signal is looked at again like its evidence.
        let cause = match &self.node.cause {
            Cause::Heartbeat => None,
            Cause::Signal(key) => Some(key),
        };
        self.node.evidence.iter().chain(cause).all(looked)
    }

    /// Something else than what is lost must be reachable, or the fault is ours.
    fn has_reference(&self, fresh: &Confirmation<'_>, pass: &Pass<'_>) -> bool {
        if !self.node.kind.is_machine {
            return true;
        }
        let references = &pass.policy.references;
        if !references.is_empty() {
            let well = |key: &SignalKey| pass.look(key).is_some_and(|looked| looked.state == signal::State::Ok);
            return references.iter().any(well);
        }
        let Ok(beats) = fresh.beats else { return false };
        let mut others = beats.nodes.iter().filter(|(name, _)| **name != self.node.name);
        // A fleet of one has no other node: Consul and the provider, which both answered, have to do.
        pass.pool(&self.node).0.ill.1 <= 1 || others.any(|(_, beat)| beat.life == Life::Alive)
    }
}
