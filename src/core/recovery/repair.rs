//! A member's repair under way: asks, looks, asks again, and ends it.
//!
//! What is due says `pace`, what is allowed the saga; here the two become orders for the operator and
//! lines of the journal. A START that is owed is asked for whether or not we hold the lease, are paused
//! or may write: a machine that we took down is brought back (B1, B9).

use std::sync::Arc;

use super::journal::{Event, adopt};
use super::member::{Check, Member, Repair, in_few_words};
use super::pace::{self, Move};
use super::pass::Pass;
use super::phrase::Deed;
use super::plan::{Mode, Note, Task};
use super::saga::End;
use super::story;
use super::subject::{Fence, Reply, Seen};
use super::target::Phase;

/// A note that is still there is asked to be taken away again after this many looks.
pub const FORGET_AGAIN: u32 = 6;

impl Member {
    /// The machine was looked at.
    pub fn saw(&mut self, seen: Seen, pass: &mut Pass<'_>) {
        let Some(before) = self.repair.as_ref().map(|repair| repair.saga.stage) else { return };
        if self.happen(Event::Seen { seen }, pass)
            && let Some(repair) = &mut self.repair
        {
            repair.pace.looked(before, repair.saga.stage, pass.now.mono, pass.policy.poll);
        }
        self.finish(pass);
    }

    /// A request came back.
    pub fn replied(&mut self, reply: Reply, detail: &str, pass: &mut Pass<'_>) {
        let detail = in_few_words(detail);
        let asked = self.repair.as_ref().and_then(|repair| repair.saga.asked());
        let Some(verb) = asked.map(|step| step.verb) else { return };
        self.trouble = (reply != Reply::Accepted).then(|| format!("{verb}: {detail}"));
        if reply != Reply::Accepted {
            *pass.counts.failures.entry((self.key(), verb)).or_default() += 1;
        }
        if self.happen(Event::Replied { verb, reply, detail }, pass)
            && let Some(repair) = &mut self.repair
        {
            repair.pace.replied(reply, pass.now.mono, pass.policy.poll, &self.node.name);
        }
    }

    /// Goes on with what an agent before us began and cannot finish: whoever holds the lease owes it.
    pub fn adopt(&mut self, note: &Note, pass: &mut Pass<'_>) {
        if self.target.kept.note.as_ref() == Some(&note.saga) {
            // It is still booting.
            return;
        }
        if pass.closed.contains(&note.saga) {
            // The note stays in sight until it is gone: asked for now and then, not with each pass.
            if pass.now.mono >= self.forget_at {
                self.forget_at = pass.now.mono.plus(pass.policy.poll.saturating_mul(FORGET_AGAIN));
                pass.order(&self.node.key, Task::Forget { saga: note.saga.clone() });
            }
        } else if self.repair.is_none() {
            self.begin_adopted(note, pass);
        }
    }

    fn begin_adopted(&mut self, note: &Note, pass: &mut Pass<'_>) {
        let now = pass.now;
        let procedure = note.procedure.clone().map(Arc::new);
        let saga = adopt(procedure.clone(), note.verb, note.fence.clone());
        self.repair = Some(Box::new(Repair { adopted: true, ..Repair::open(note.saga.clone(), saga, false, now) }));
        self.dirty = true;
        self.check = Check::Idle(now.mono);
        self.out = None;
        self.note_place();
        let kept = &mut self.target.kept;
        // The agent before us saw it alive, or there would be no repair; without this it would wait for ever after.
        kept.was_alive = true;
        kept.enter(Phase::Recovering, now);
        kept.repair_at = Some(Box::new(now));
        kept.attempts = kept.attempts.saturating_add(1);
        kept.boot_before.clone_from(&kept.boot);
        kept.session_before.clone_from(&kept.session);
        kept.begun.spend(now);
        self.happen(Event::Adopted { procedure, verb: note.verb, fence: note.fence.clone() }, pass);
        pass.plan.edges.push(story::adopted(self, note, now));
    }

    /// Moves on the repair, if there is one and something is due.
    pub fn go_on(&mut self, pass: &mut Pass<'_>) {
        let Some(repair) = &mut self.repair else { return };
        if std::mem::take(&mut repair.resumed) {
            let damaged = std::mem::take(&mut repair.damaged);
            self.happen(Event::Resumed, pass);
            pass.plan.edges.push(story::resumed(self, damaged, pass.now));
        }
        let Some(repair) = self.repair.as_ref().filter(|_| self.out.is_none() && self.node.repairable) else {
            return;
        };
        let (simulated, rests) = (repair.simulated, pass.now.mono < repair.pace.not_before);
        match pace::due(&repair.saga, &repair.pace, pass.now.mono, pass.policy.poll) {
            Move::Wait => {}
            Move::Look if simulated => {
                let seen = repair.simulated_look();
                self.saw(seen, pass);
                // No answer will come that could wake the loop: what follows on the look follows now.
                self.go_on(pass);
            }
            Move::Ask => {
                let version = repair.saga.seen.as_ref().and_then(|seen| seen.version.clone());
                self.ask(version.as_deref(), pass);
            }
            Move::Again if self.is_still_wanted(pass) => {
                let fence = repair.saga.fence.clone();
                self.send(fence, pass);
            }
            // It is due with each pass for as long as the look is fresh: one look in its time is enough.
            Move::Again if rests => {}
            Move::Look | Move::Again => self.order(Task::Look, pass),
            Move::Close(end) => {
                self.happen(Event::Closed { end }, pass);
                self.finish(pass);
            }
        }
    }

    /// Would the request that may be sent again still be decided? Only by the agent that decided it, and soon:
    /// another agent may have taken the repair over and given it up, and would not take it over again.
    fn is_still_wanted(&self, pass: &Pass<'_>) -> bool {
        let ours = |repair: &Repair| !repair.adopted && pass.now.mono.since(repair.began.mono) < pace::AGAIN_WITHIN;
        if self.target.kept.own || !self.repair.as_deref().is_some_and(ours) {
            return false;
        }
        let may_act = pass.input.holds_lease || self.node.is_local();
        pass.is_ill(&self.node, None)
            && may_act
            && pass.input.is_durable
            && pass.pool(&self.node).0.few_are_ill
            && !pass.policy.paused
            && !self.is_silenced(pass)
            && pass.policy.mode == Mode::Active
            && self.evidence(None, pass)
    }

    /// Asks for the present step, in this version.
    pub fn ask(&mut self, version: Option<&str>, pass: &mut Pass<'_>) {
        let fence = self.repair.as_ref().and_then(|repair| Some(repair.fence(repair.saga.step()?, version)));
        if let Some(fence) = fence {
            self.send(fence, pass);
        }
    }

    fn send(&mut self, fence: Fence, pass: &mut Pass<'_>) {
        let Some(repair) = &self.repair else { return };
        let Some(step) = repair.saga.step().copied() else { return };
        let (saga, simulated, procedure) = (repair.id.clone(), repair.simulated, Arc::clone(&repair.saga.procedure));
        if !self.happen(Event::Intent { verb: step.verb, fence: fence.clone() }, pass) {
            return;
        }
        let mode = if simulated { Mode::Observe } else { Mode::Active };
        *pass.counts.actions.entry((self.key(), step.verb, mode.as_str())).or_default() += 1;
        if simulated {
            self.replied(Reply::Accepted, "", pass);
        } else {
            self.order(Task::Ask { step, procedure, fence, saga }, pass);
        }
    }

    /// Ends a repair whose saga is over.
    fn finish(&mut self, pass: &mut Pass<'_>) {
        let Some(end) = self.ended() else { return };
        let Some(repair) = self.repair.take() else { return };
        let now = pass.now;
        self.out = None;
        self.dirty = true;
        self.check = Check::Idle(now.mono);
        let trouble = self.trouble.take();
        let kept = &mut self.target.kept;
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
                self.next_attempt(pass);
            }
        }
        let deed = Deed::of(repair.simulated);
        pass.plan.edges.extend(story::ended(self, end, trouble.as_deref(), deed, now, pass.policy));
        if repair.simulated {
            return;
        }
        pass.closed.insert(repair.id.clone());
        if end == End::Up {
            // Whoever holds the lease after us must not stop a machine that is still booting.
            self.target.kept.note = Some(repair.id);
        } else {
            pass.order(&self.node.key, Task::Forget { saga: repair.id });
        }
    }
}
