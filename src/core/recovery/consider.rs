//! The fleet's gate: considers new repairs, one node after another.
//!
//! First by what is known without a look, so that a blocked repair costs nothing; then, with the
//! evidence, the heartbeats and the machine looked at anew, once more (B3). What speaks against acting
//! is kept by name, and told once it matters.

use std::sync::Arc;
use std::time::Duration;

use super::budget::may_be_ill;
use super::fleet::Fleet;
use super::gate::{Blocked, Facts, gate};
use super::heartbeat::{Beat, Heartbeats, Life};
use super::journal::Event;
use super::member::{Check, Member, Repair};
use super::plan::{Input, Looked, Mode, Plan, Task, WhenStopped};
use super::procedure::Procedure;
use super::repairs::in_few_words;
use super::saga::Saga;
use super::story;
use super::subject::{Seen, State};
use super::target::Phase;
use crate::core::signal::{self, SignalKey};
use crate::core::time::{Mono, Now};

/// Evidence that was not looked at again within this is not evidence.
const EVIDENCE_WITHIN: Duration = Duration::from_secs(20);
/// What was looked at for a decision is too old for it after this.
const LOOKED_WITHIN: Duration = Duration::from_mins(1);
/// A machine found off until this long after a request of unknown outcome is off by our doing.
const OURS: Duration = Duration::from_hours(1);
/// A check that did not lead to a repair is made again after this many looks.
const CHECK_AGAIN: u32 = 6;

/// What was looked at just before a decision.
pub(super) struct Confirmation<'a> {
    pub(super) beats: &'a Result<Heartbeats, String>,
    /// The heartbeats of the pass, which know for how long a stop has been said to be planned.
    pub(super) before: Option<&'a Heartbeats>,
    pub(super) seen: &'a Result<Seen, String>,
    /// The evidence is newer than this.
    pub(super) since: Mono,
}

impl Fleet {
    /// Considers a new repair of one node.
    pub(super) fn consider(&mut self, name: &Arc<str>, now: Now, input: &Input<'_>, plan: &mut Plan) {
        if let Some(member) = self.members.get_mut(name)
            && member.is_silenced(input)
        {
            member.silenced_at = Some(now.mono);
        }
        let Some(member) = self.members.get(name) else { return };
        let is_well = member.target.kept.was_alive && !member.target.is_ill();
        if member.repair.is_some() || is_well || !member.node.repairable {
            return self.unblock(name);
        }
        let blocked = gate(self.facts(member, None, now, input));
        let due = member.target.is_due(now.mono, member.node.times) && !member.leaving;
        if !blocked.is_empty() || !due {
            // Evidence that was asked for is used at once or not at all: it grows old while something blocks.
            if matches!(member.check, Check::Evidence(_)) {
                self.check_later(name, now);
            }
            return self.hold(name, blocked, due, now, input, plan);
        }
        let busy = member.out.is_some();
        match member.check {
            Check::Idle(from) if now.mono >= from => {
                let asks = !member.node.evidence.is_empty();
                self.set_check(name, if asks { Check::Evidence(now.mono) } else { Check::Confirming(now.mono) });
                plan.hurry |= asks;
                if !asks {
                    self.order(name, Task::Confirm, plan);
                }
            }
            Check::Evidence(since) if self.is_fresh(name, since, input) => {
                self.set_check(name, Check::Confirming(since));
                self.order(name, Task::Confirm, plan);
            }
            Check::Evidence(since) if now.mono.since(since) >= EVIDENCE_WITHIN => {
                self.check_later(name, now);
                self.hold(name, vec![Blocked::EvidenceDisagrees], true, now, input, plan);
            }
            Check::Confirming(_) if !busy => self.check_later(name, now),
            Check::Idle(_) | Check::Evidence(_) | Check::Confirming(_) => {}
        }
    }

    fn unblock(&mut self, name: &Arc<str>) {
        if let Some(member) = self.members.get_mut(name) {
            member.blocked.clear();
            member.told = None;
        }
    }

    fn set_check(&mut self, name: &Arc<str>, check: Check) {
        if let Some(member) = self.members.get_mut(name) {
            member.check = check;
        }
    }

    fn check_later(&mut self, name: &Arc<str>, now: Now) {
        let from = now.mono.plus(self.policy.poll.saturating_mul(CHECK_AGAIN));
        self.set_check(name, Check::Idle(from));
    }

    /// Everything was looked at just now: go, or say why not.
    pub(super) fn decide(
        &mut self,
        name: &Arc<str>,
        fresh: &Confirmation<'_>,
        now: Now,
        input: &Input<'_>,
        plan: &mut Plan,
    ) {
        let Some(member) = self.members.get(name) else { return };
        let blocked = gate(self.facts(member, Some(fresh), now, input));
        let gone = fresh.is_gone(name);
        let (when_stopped, unsure_at) = (member.node.when_stopped, member.target.kept.unsure_at.as_deref().copied());
        let ladder = &member.node.ladder;
        let way = ladder.get(member.target.kept.attempts as usize).or(ladder.last()).cloned();
        let starts = member.node.starts.clone();
        let due = member.target.is_due(now.mono, member.node.times);
        self.check_later(name, now);
        // It was back meanwhile, if only for a moment: its time begins anew.
        if !due {
            return self.hold(name, blocked, false, now, input, plan);
        }
        self.explain(name, fresh, &blocked);
        let Ok(seen) = fresh.seen else { return self.hold(name, blocked, true, now, input, plan) };
        let ours = unsure_at.is_some_and(|at| now.mono.since(at.mono) < OURS) || when_stopped == WhenStopped::Start;
        let is_off = blocked == [Blocked::NotRunning] && ours && seen.state == State::Stopped;
        let way = if blocked.is_empty() { way } else { starts.filter(|_| is_off) };
        match way.filter(|_| gone) {
            Some(way) => self.open(name, way, seen, now, input, plan),
            None => self.hold(name, blocked, gone, now, input, plan),
        }
    }

    /// What the look before a repair met with, in words.
    fn explain(&mut self, name: &Arc<str>, fresh: &Confirmation<'_>, blocked: &[Blocked]) {
        let trouble = match (fresh.beats, fresh.seen) {
            (Err(why), _) | (Ok(_), Err(why)) => Some(in_few_words(why)),
            (Ok(_), Ok(seen)) if blocked.contains(&Blocked::NotRunning) => {
                Some(format!("the provider says {}", seen.word))
            }
            _ => None,
        };
        if let Some(member) = self.members.get_mut(name) {
            member.trouble = trouble;
        }
    }

    /// Begins a repair.
    fn open(
        &mut self,
        name: &Arc<str>,
        way: Arc<Procedure>,
        seen: &Seen,
        now: Now,
        input: &Input<'_>,
        plan: &mut Plan,
    ) {
        let simulated = self.policy.mode == Mode::Observe;
        let id = story::saga_id(&self.policy.instance, name, now);
        let Some(member) = self.members.get_mut(name) else { return };
        member.repair = Some(Box::new(Repair::open(id, Saga::open(Arc::clone(&way)), simulated, now)));
        member.blocked.clear();
        member.told = None;
        member.trouble = None;
        member.dirty = true;
        member.note_place();
        let kept = &mut member.target.kept;
        kept.attempts = kept.attempts.saturating_add(1);
        kept.simulated = simulated;
        kept.repair_at = Some(Box::new(now));
        kept.boot_before.clone_from(&kept.boot);
        kept.session_before.clone_from(&kept.session);
        kept.enter(Phase::Recovering, now);
        member.happen(Event::Opened { procedure: Arc::clone(&way), simulated }, now, plan);
        self.in_flight += 1;
        if let Some(domain) = &member.node.domain {
            *self.flights.entry(domain.clone()).or_default() += 1;
        }
        plan.edges.push(story::acting(member, &way, seen, input, now, &self.policy));
        if simulated {
            self.simulated_budget.spend(now);
        } else {
            self.budget.spend(now);
            plan.spent = true;
        }
        self.ask(name, seen.version.as_deref(), now, plan);
    }

    /// Nothing is done: why is kept, and told once it matters.
    fn hold(
        &mut self,
        name: &Arc<str>,
        blocked: Vec<Blocked>,
        due: bool,
        now: Now,
        input: &Input<'_>,
        plan: &mut Plan,
    ) {
        let Some(member) = self.members.get_mut(name) else { return };
        // Counted as it is told: what was in the way before the node was due is counted once that it is.
        let known = |reason: &Blocked| member.told.as_deref().is_some_and(|(told, _)| told.contains(reason));
        for reason in blocked.iter().filter(|reason| due && !known(reason)) {
            *self.counts.blocked.entry(*reason).or_default() += 1;
        }
        member.blocked = blocked;
        if !due || member.blocked.is_empty() {
            return;
        }
        let again = self.policy.cooldown;
        let is_told = member
            .told
            .as_deref()
            .is_some_and(|(told, at)| *told == member.blocked && (again.is_zero() || now.mono.since(*at) < again));
        if !is_told {
            member.told = Some(Box::new((member.blocked.clone(), now.mono)));
            // A storm is told once, as a fact about all of them, not once for each; who silenced it knows why.
            if !member.blocked.contains(&Blocked::TooManyMissing) && !member.blocked.contains(&Blocked::Silenced) {
                plan.edges.push(story::blocked(member, input, now, &self.policy));
            }
        }
    }

    /// The facts that the gate asks for: as far as they are known without a look, or with the look just made.
    fn facts(&self, member: &Member, fresh: Option<&Confirmation<'_>>, now: Now, input: &Input<'_>) -> Facts {
        let observe = self.policy.mode == Mode::Observe;
        let budget = if observe { &self.simulated_budget } else { &self.budget };
        let sees = match fresh {
            None => input.beats.is_some(),
            Some(fresh) if now.mono.since(fresh.since) > LOOKED_WITHIN => false,
            Some(fresh) => fresh.beats.is_ok() && fresh.seen.is_ok() && self.has_reference(member, fresh, input),
        };
        Facts {
            was_alive: member.target.kept.was_alive,
            observer_sees: sees,
            few_are_ill: self.few_are_ill && fresh.is_none_or(|fresh| self.few_are_gone(fresh)),
            has_room: self.has_room(member.node.domain.as_deref()),
            has_budget: budget.has_room(now.mono, self.policy.max_per_hour, self.policy.max_per_day),
            evidence_agrees: self.evidence(member, input, fresh.map(|fresh| fresh.since))
                && fresh.is_none_or(|fresh| fresh.is_gone(&member.node.name)),
            // Where it cannot be looked at, that is the observer's trouble and named so.
            is_running: fresh.is_none_or(|fresh| fresh.seen.as_ref().map_or(true, |seen| seen.state == State::Running)),
            holds_lease: observe || input.holds_lease,
            is_unpaused: !self.policy.paused,
            is_warm: now.mono.since(self.fresh_since) >= member.node.times.after,
            is_durable: observe || input.is_durable,
            has_attempts: member.target.kept.attempts < self.policy.max_attempts
                && member.target.kept.given_up.is_none(),
            is_elsewhere: !member.target.kept.own,
            is_heard: member.silenced_at.is_none_or(|at| now.mono.since(at) >= member.node.times.after),
        }
    }

    fn has_room(&self, domain: Option<&str>) -> bool {
        let beside = domain.and_then(|domain| self.flights.get(domain)).copied().unwrap_or(0);
        self.in_flight < self.policy.max_in_flight as usize && beside < self.policy.max_per_domain as usize
    }

    /// Every evidence signal is down, looked at later than `since`; and there is one where one is required.
    pub(super) fn evidence(&self, member: &Member, input: &Input<'_>, since: Option<Mono>) -> bool {
        let node = &member.node;
        let required = self.ill.1 <= 2 && !node.heartbeat_only;
        let is_down = |looked: Looked| {
            let fresh = since.is_none_or(|since| looked.seen_at.is_some_and(|at| at >= since));
            looked.state == signal::State::Firing && fresh
        };
        let agree = node.evidence.iter().all(|key| (input.look)(key).is_some_and(is_down));
        agree && !(required && node.evidence.is_empty())
    }

    fn is_fresh(&self, name: &Arc<str>, since: Mono, input: &Input<'_>) -> bool {
        let looked =
            |key: &SignalKey| (input.look)(key).and_then(|looked| looked.seen_at).is_some_and(|at| at >= since);
        self.members.get(name).is_some_and(|member| member.node.evidence.iter().all(looked))
    }

    /// Something else than what is lost must be reachable, or the fault is ours.
    fn has_reference(&self, member: &Member, fresh: &Confirmation<'_>, input: &Input<'_>) -> bool {
        if !self.policy.references.is_empty() {
            let well = |key: &SignalKey| (input.look)(key).is_some_and(|looked| looked.state == signal::State::Ok);
            return self.policy.references.iter().any(well);
        }
        let Ok(beats) = fresh.beats else { return false };
        let alive = |(name, beat): (&Arc<str>, &Beat)| *name != member.node.name && beat.life == Life::Alive;
        // A fleet of one has no other node: Consul and the provider, which both answered, have to do.
        self.ill.1 <= 1 || beats.nodes.iter().any(alive)
    }

    /// The look just made must not show more ill than there may be, either.
    fn few_are_gone(&self, fresh: &Confirmation<'_>) -> bool {
        if fresh.beats.is_err() {
            return true;
        }
        let ill = self.members.values().filter(|member| {
            let gone = fresh.is_gone(&member.node.name);
            member.target.kept.was_alive && (gone || member.target.is_ill())
        });
        ill.count() <= may_be_ill(self.ill.1, self.policy.min_healthy)
    }
}

impl Confirmation<'_> {
    /// True when the node is not there. A single look cannot tell for how long a stop has been planned:
    /// that it has lasted for too long is what the pass saw.
    fn is_gone(&self, name: &str) -> bool {
        match self.beats.as_ref().map(|beats| beats.life(name)) {
            Ok(Life::Gone) => true,
            Ok(Life::Planned) => self.before.is_some_and(|beats| beats.life(name) == Life::Gone),
            _ => false,
        }
    }
}
