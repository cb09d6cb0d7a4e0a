//! The fleet's repairs under way: asks, looks, asks again, and ends them.
//!
//! What is due says `pace`, what is allowed the saga; here the two become orders for the operator and
//! lines of the journal. A START that is owed is asked for whether or not we hold the lease, are paused
//! or may write: a machine that we took down is brought back (B1, B9).

use std::sync::Arc;

use super::fleet::{Fleet, next_attempt};
use super::heartbeat::Life;
use super::journal::{Event, adopt};
use super::member::{Check, Member, Repair};
use super::pace::{self, Move};
use super::phrase::Deed;
use super::plan::{Input, Mode, Note, Order, Plan, Task};
use super::saga::End;
use super::story;
use super::subject::{Fence, Reply, Seen};
use super::target::Phase;
use crate::core::message::clean;
use crate::core::time::Now;

/// What a provider says is kept to this length, in characters: it goes into the journal and into messages.
const WORDS: usize = 300;
/// Repairs of nodes that are not configured are told by name up to this many.
const NAMED: usize = 5;
/// A note that is still there is asked to be taken away again after this many looks.
const FORGET_AGAIN: u32 = 6;

impl Fleet {
    pub(super) fn saw(&mut self, name: &Arc<str>, seen: Seen, now: Now, plan: &mut Plan) {
        let Some(member) = self.members.get_mut(name) else { return };
        let Some(before) = member.repair.as_ref().map(|repair| repair.saga.stage) else { return };
        if member.happen(Event::Seen { seen }, now, plan)
            && let Some(repair) = &mut member.repair
        {
            repair.pace.looked(before, repair.saga.stage, now.mono, self.policy.poll);
        }
        self.finish(name, now, plan);
    }

    pub(super) fn replied(&mut self, name: &Arc<str>, reply: Reply, detail: String, now: Now, plan: &mut Plan) {
        let detail = in_few_words(&detail);
        let Some(member) = self.members.get_mut(name) else { return };
        let asked = member.repair.as_ref().and_then(|repair| repair.saga.asked());
        let Some(verb) = asked.map(|step| step.verb) else { return };
        member.trouble = (reply != Reply::Accepted).then(|| format!("{verb}: {detail}"));
        if reply != Reply::Accepted {
            *self.counts.failures.entry((Arc::clone(name), verb)).or_default() += 1;
        }
        if member.happen(Event::Replied { verb, reply, detail }, now, plan)
            && let Some(repair) = &mut member.repair
        {
            repair.pace.replied(reply, now.mono, self.policy.poll, name);
        }
    }

    /// Goes on with what an agent before us began and cannot finish: whoever holds the lease owes it. What is about a
    /// node that is not configured here is told.
    pub(super) fn adopt(&mut self, now: Now, input: &Input<'_>, plan: &mut Plan) {
        self.strangers = (Vec::new(), 0);
        if !input.holds_lease || self.policy.mode == Mode::Observe {
            return;
        }
        let forget_at = now.mono.plus(self.policy.poll.saturating_mul(FORGET_AGAIN));
        let may_forget = now.mono >= self.forget_at;
        for note in input.notes {
            let is_over = self.closed.contains(&note.saga);
            let Some(member) = self.members.get_mut(note.target.as_str()) else {
                if !is_over {
                    self.meet(note);
                } else if may_forget {
                    self.forget_at = forget_at;
                    self.order(&Arc::from(note.target.as_str()), Task::Forget { saga: note.saga.clone() }, plan);
                }
                continue;
            };
            if member.target.kept.note.as_ref() == Some(&note.saga) {
                // It is still booting.
                continue;
            }
            if is_over {
                // The note stays in sight until it is gone: asked for now and then, not with each pass.
                if now.mono < member.forget_at {
                    continue;
                }
                member.forget_at = forget_at;
                let target = member.name();
                self.order(&target, Task::Forget { saga: note.saga.clone() }, plan);
            } else if member.repair.is_none() {
                begin_adopted(member, note, now, plan);
            }
        }
    }

    fn meet(&mut self, note: &Note) {
        self.strangers.1 += 1;
        if self.strangers.0.len() < NAMED {
            self.strangers.0.push(story::stranger(note));
        }
    }

    /// Moves on the repair of one node, if it has one and something is due.
    pub(super) fn go_on(&mut self, name: &Arc<str>, now: Now, input: &Input<'_>, plan: &mut Plan) {
        let Some(member) = self.members.get_mut(name) else { return };
        let Some(repair) = &mut member.repair else { return };
        if std::mem::take(&mut repair.resumed) {
            let damaged = std::mem::take(&mut repair.damaged);
            member.happen(Event::Resumed, now, plan);
            plan.edges.push(story::resumed(member, damaged, now));
        }
        let Some(repair) = member.repair.as_ref().filter(|_| member.out.is_none() && member.node.repairable) else {
            return;
        };
        let (simulated, rests) = (repair.simulated, now.mono < repair.pace.not_before);
        match pace::due(&repair.saga, &repair.pace, now.mono, self.policy.poll) {
            Move::Wait => {}
            Move::Look if simulated => {
                let seen = repair.simulated_look();
                self.saw(name, seen, now, plan);
                // No answer will come that could wake the loop: what follows on the look follows now.
                self.go_on(name, now, input, plan);
            }
            Move::Ask => {
                let version = repair.saga.seen.as_ref().and_then(|seen| seen.version.clone());
                self.ask(name, version.as_deref(), now, plan);
            }
            Move::Again if self.is_still_wanted(name, now, input) => self.ask_again(name, now, plan),
            // It is due with each pass for as long as the look is fresh: one look in its time is enough.
            Move::Again if rests => {}
            Move::Look | Move::Again => self.order(name, Task::Look, plan),
            Move::Close(end) => {
                if let Some(member) = self.members.get_mut(name) {
                    member.happen(Event::Closed { end }, now, plan);
                }
                self.finish(name, now, plan);
            }
        }
    }

    /// Would the request that may be sent again still be decided? Only by the agent that decided it, and soon:
    /// another agent may have taken the repair over and given it up, and would not take it over again.
    fn is_still_wanted(&self, name: &Arc<str>, now: Now, input: &Input<'_>) -> bool {
        let Some(member) = self.members.get(name) else { return false };
        let ours = |repair: &Repair| !repair.adopted && now.mono.since(repair.began.mono) < pace::AGAIN_WITHIN;
        if member.target.kept.own || !member.repair.as_deref().is_some_and(ours) {
            return false;
        }
        let gone = input.beats.is_some_and(|beats| beats.life(name) == Life::Gone);
        gone && input.holds_lease
            && input.is_durable
            && self.few_are_ill
            && !self.policy.paused
            && !member.is_silenced(input)
            && self.policy.mode == Mode::Active
            && self.evidence(member, input, None)
    }

    /// Asks for the present step, in this version.
    pub(super) fn ask(&mut self, name: &Arc<str>, version: Option<&str>, now: Now, plan: &mut Plan) {
        let Some(member) = self.members.get(name) else { return };
        let Some(repair) = &member.repair else { return };
        let Some(fence) = repair.saga.step().map(|step| repair.fence(step, version)) else { return };
        self.send(name, fence, now, plan);
    }

    /// Asks once more for the very same.
    fn ask_again(&mut self, name: &Arc<str>, now: Now, plan: &mut Plan) {
        let repair = self.members.get(name).and_then(|member| member.repair.as_ref());
        if let Some(fence) = repair.map(|repair| repair.saga.fence.clone()) {
            self.send(name, fence, now, plan);
        }
    }

    fn send(&mut self, name: &Arc<str>, fence: Fence, now: Now, plan: &mut Plan) {
        let Some(member) = self.members.get_mut(name) else { return };
        let Some(repair) = &member.repair else { return };
        let (saga, simulated, procedure) = (repair.id.clone(), repair.simulated, Arc::clone(&repair.saga.procedure));
        let Some(step) = repair.saga.step().copied() else { return };
        if !member.happen(Event::Intent { verb: step.verb, fence: fence.clone() }, now, plan) {
            return;
        }
        let mode = if simulated { Mode::Observe } else { Mode::Active };
        *self.counts.actions.entry((Arc::clone(name), step.verb, mode.as_str())).or_default() += 1;
        if simulated {
            self.replied(name, Reply::Accepted, String::new(), now, plan);
        } else {
            self.order(name, Task::Ask { step, procedure, fence, saga }, plan);
        }
    }

    pub(super) fn order(&mut self, name: &Arc<str>, task: Task, plan: &mut Plan) {
        self.orders += 1;
        if !matches!(task, Task::Forget { .. })
            && let Some(member) = self.members.get_mut(name)
        {
            member.out = Some(self.orders);
        }
        plan.orders.push(Order { id: self.orders, target: Arc::clone(name), task });
    }

    /// Ends a repair whose saga is over.
    fn finish(&mut self, name: &Arc<str>, now: Now, plan: &mut Plan) {
        let Some(member) = self.members.get_mut(name) else { return };
        let Some(end) = member.ended() else { return };
        let Some(repair) = member.repair.take() else { return };
        member.out = None;
        member.dirty = true;
        member.check = Check::Idle(now.mono);
        let trouble = member.trouble.take();
        let kept = &mut member.target.kept;
        match end {
            End::Up => {
                // Taken, and never seen to count: should it count late, the machine is off by our doing.
                kept.unsure_at = repair.saga.is_untouched().then(|| Box::new(now));
                kept.enter(Phase::Waiting, now);
            }
            End::Gone => {
                kept.enter(Phase::Exhausted, now);
                kept.given_up = Some("the machine is destroyed".to_string());
            }
            End::NoEffect | End::Expired => {
                kept.unsure_at = (end == End::Expired).then(|| Box::new(now));
                next_attempt(member, &self.policy, now);
            }
        }
        plan.edges.extend(story::ended(member, end, trouble.as_deref(), Deed::of(repair.simulated), now, &self.policy));
        if repair.simulated {
            return;
        }
        self.closed.insert(repair.id.clone());
        if end == End::Up {
            // Whoever holds the lease after us must not stop a machine that is still booting.
            member.target.kept.note = Some(repair.id);
        } else {
            self.order(name, Task::Forget { saga: repair.id }, plan);
        }
    }
}

/// What somebody else said, on one line and not too long.
pub(super) fn in_few_words(said: &str) -> String {
    clean(said, WORDS)
}

fn begin_adopted(member: &mut Member, note: &Note, now: Now, plan: &mut Plan) {
    let procedure = note.procedure.clone().map(Arc::new);
    let saga = adopt(procedure.clone(), note.verb, note.fence.clone());
    member.repair = Some(Box::new(Repair { adopted: true, ..Repair::open(note.saga.clone(), saga, false, now) }));
    member.dirty = true;
    member.check = Check::Idle(now.mono);
    member.out = None;
    member.note_place();
    let kept = &mut member.target.kept;
    // The agent before us saw it alive, or there would be no repair; without this it would wait for ever after.
    kept.was_alive = true;
    kept.enter(Phase::Recovering, now);
    kept.repair_at = Some(Box::new(now));
    kept.attempts = kept.attempts.saturating_add(1);
    kept.boot_before.clone_from(&kept.boot);
    kept.session_before.clone_from(&kept.session);
    member.happen(Event::Adopted { procedure, verb: note.verb, fence: note.fence.clone() }, now, plan);
    plan.edges.push(story::adopted(member, note, now));
}
