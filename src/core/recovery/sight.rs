//! A member takes what was seen: its heartbeat in each pass, and what the operator brought back.

use super::confirm::Confirmation;
use super::member::{Check, Member, in_few_words};
use super::pass::Pass;
use super::plan::{Answer, Outcome, Task};
use super::story;
use super::target::Change;
use crate::core::signal::SignalKey;

impl Member {
    /// Takes one look at its heartbeat. `ours`: the boot of the machine that we run on.
    pub fn look(&mut self, ours: Option<&str>, pass: &mut Pass<'_>) {
        let (glance, at) = pass.glance(&self.node);
        let kept = &self.target.kept;
        let before = (kept.was_alive, kept.boot.clone(), kept.healthy.as_secs() / 60);
        let change = self.target.look(glance, at, pass.now, self.node.times);
        let kept = &mut self.target.kept;
        if let Some((beat, ours)) = glance.and_then(|(_, beat)| beat).zip(ours) {
            self.dirty |= kept.recognise(beat, before.1.as_deref(), ours, pass.now.mono);
        }
        self.dirty |= change.is_some() || before != (kept.was_alive, kept.boot.clone(), kept.healthy.as_secs() / 60);
        if self.target.is_ill()
            && let Some(incident) = pass.look(&SignalKey::new(&self.node.key)).and_then(|looked| looked.incident)
        {
            self.dirty |= self.target.kept.incident.as_ref() != Some(&incident);
            self.target.kept.incident = Some(incident);
        }
        if let Some(change) = change {
            self.follow(&change, pass);
        }
    }

    /// What a change of the heartbeat means for the story and for the next attempt.
    fn follow(&mut self, change: &Change, pass: &mut Pass<'_>) {
        if *change == Change::NotBack {
            self.next_attempt(pass);
        }
        pass.plan.lines.push(story::changed(self, change));
        pass.plan.edges.extend(story::told_change(self, change, pass.now, pass.policy));
        if let Some(saga) = self.target.kept.note.take() {
            pass.order(&self.node.key, Task::Forget { saga });
        }
    }

    /// Takes what the operator brought back. `ill`: how many are ill or not there, by a look at all heartbeats.
    pub fn take(&mut self, answer: Answer, ill: usize, pass: &mut Pass<'_>) {
        if self.out != Some(answer.id) {
            return;
        }
        self.out = None;
        match answer.result {
            Outcome::Confirmed { beats, seen } => {
                if let Check::Confirming(since) = self.check {
                    let (beats, before, seen) = (&beats, pass.input.beats, &seen);
                    self.decide(&Confirmation { beats, before, seen, since, ill }, pass);
                }
            }
            Outcome::Seen(Ok(seen)) => self.saw(seen, pass),
            Outcome::Seen(Err(why)) => {
                if let Some(repair) = &mut self.repair {
                    repair.pace.was_blind(pass.now.mono, pass.policy.poll, &self.node.name);
                    self.trouble = Some(in_few_words(&why));
                }
            }
            Outcome::Replied(reply, detail) => self.replied(reply, &detail, pass),
        }
    }
}
