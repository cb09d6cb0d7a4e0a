//! All nodes together: one pure step per pass, from what was seen to what is to be done.
//!
//! Takes the heartbeats and what the operator brought back, moves on the repairs under way, and
//! considers new ones one after another, so that each counts for the next (B2, B4). A machine is
//! touched only through the gate, with everything freshly looked at (B3). In `observe` the same is
//! decided and told, and what the provider would answer is simulated (`adr/0008-observe-by-default.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::budget::{Breaker, Budget, may_be_ill};
use super::consider::Confirmation;
use super::heartbeat::{Beat, Life};
use super::journal::{Event, Record, Told};
use super::left::Left;
use super::member::{Check, Member, Repair};
use super::plan::{Answer, Counts, Input, Mode, Node, Order, Outcome, Place, Plan, Policy, Standing, Task};
use super::repairs::in_few_words;
use super::saga::End;
use super::story;
use super::target::{Change, Kept, Phase, Target};
use crate::core::time::{Mono, Now, Wall};

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Everything that the fleet remembers from an earlier run.
#[derive(Debug, Default)]
pub struct Restored {
    /// What was kept of each target, by name.
    pub targets: BTreeMap<String, Kept>,
    /// The repairs that were under way.
    pub open: Vec<Told>,
    /// The names of repairs that are over.
    pub closed: BTreeSet<String>,
    /// What was spent.
    pub budget: Budget,
}

/// All nodes together.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub(super) policy: Policy,
    /// Boxed: half of the places in a tree's leaves are free, and a member is large.
    pub(super) members: BTreeMap<Arc<str>, Box<Member>>,
    pub(super) budget: Budget,
    /// What was spent by repairs that were only simulated.
    pub(super) simulated_budget: Budget,
    breaker: Breaker,
    pub(super) few_are_ill: bool,
    /// How many are ill, of how many.
    pub(super) ill: (usize, usize),
    /// Repairs under way, in all and by failure domain.
    pub(super) in_flight: usize,
    pub(super) flights: BTreeMap<String, usize>,
    /// The names of repairs that are over.
    pub(super) closed: BTreeSet<String>,
    /// Ends of repairs that were only simulated, until a pass writes them down.
    played: Vec<Record>,
    pub(super) orders: u64,
    pub(super) counts: Counts,
    pub(super) fresh_since: Mono,
    /// Nodes about which something may have been told.
    pub(super) spoken: BTreeSet<Arc<str>>,
    /// Some are configured no more and stay only for the repair under way.
    some_leave: bool,
    /// Repairs of nodes that are not configured here, begun by agents before us: in words, as many as are named, and how
    /// many there are.
    pub(super) strangers: (Vec<String>, usize),
    /// No note about a node that is not configured is asked to be taken away again before this.
    pub(super) forget_at: Mono,
    /// Nodes that are not configured any more.
    left: Left,
    /// The boot of the machine that we run on.
    own_boot: Option<Arc<str>>,
    /// The heartbeats of the pass before, where they could be seen.
    seen: Option<Arc<BTreeMap<Arc<str>, Beat>>>,
}

impl Fleet {
    /// A fleet that nothing is known of yet.
    pub fn new(policy: Policy, nodes: Vec<Node>) -> Fleet {
        let members = nodes.into_iter().map(|node| (Arc::clone(&node.name), Box::new(Member::new(node)))).collect();
        Fleet {
            policy,
            members,
            budget: Budget::default(),
            simulated_budget: Budget::default(),
            breaker: Breaker::default(),
            few_are_ill: true,
            ill: (0, 0),
            in_flight: 0,
            flights: BTreeMap::new(),
            closed: BTreeSet::new(),
            played: Vec::new(),
            orders: 0,
            counts: Counts::default(),
            fresh_since: Mono(i64::MIN),
            spoken: BTreeSet::new(),
            some_leave: false,
            strangers: (Vec::new(), 0),
            forget_at: Mono(i64::MIN),
            left: Left::default(),
            own_boot: None,
            seen: None,
        }
    }

    /// A node in this boot is the machine that we run on, and is never touched (F79).
    pub fn know_own_boot(&mut self, boot: Option<Arc<str>>) {
        self.own_boot = boot;
    }

    /// Takes back what an earlier run kept. Repairs under way go on; one of a node that is no longer
    /// configured is shown and told, because nobody else will.
    pub fn restore(&mut self, restored: Restored, now: Now, same_boot: bool) {
        self.budget = restored.budget.carried(now, same_boot);
        self.closed = restored.closed;
        for (name, kept) in restored.targets {
            let kept: Kept = kept.carried(now, same_boot);
            match self.members.get_mut(name.as_str()) {
                Some(member) => {
                    member.dirty |= kept.left_at.is_some();
                    member.target = Target::restored(Kept { left_at: None, ..kept });
                }
                None => self.left.put(Arc::from(name), kept),
            }
        }
        self.take_up(restored.open, now);
        // Under repair by no repair: its journal was lost, and nothing would ever end it.
        for member in self.members.values_mut().filter(|member| member.repair.is_none()) {
            if member.target.kept.phase == Phase::Recovering {
                member.target.kept.enter(Phase::Suspect, now);
                member.dirty = true;
            }
        }
        self.note_stories();
        self.forgive_simulated();
    }

    /// Goes on with repairs that the journal tells of and this fleet does not know: first those of which something
    /// is owed. One that was only simulated ends where nobody would go on with it.
    pub fn take_up(&mut self, open: Vec<Told>, now: Now) {
        let (played, real): (Vec<Told>, Vec<Told>) = open.into_iter().partition(|told| told.simulated);
        for told in real.into_iter().chain(played) {
            if self.closed.contains(&told.id) {
                continue;
            }
            let known = self.members.get_mut(told.target.as_str());
            let in_the_way =
                known.and_then(|member| member.repair.take_if(|repair| repair.simulated && !told.simulated));
            if let Some(repair) = in_the_way {
                self.end_play(repair.id, &told.target, repair.next);
            }
            let free = self.members.get(told.target.as_str()).map(|member| member.repair.is_none());
            if told.simulated && (self.policy.mode == Mode::Active || free != Some(true)) {
                self.end_play(told.id, &told.target, told.next);
                continue;
            }
            let left = &mut self.left;
            let member = self
                .members
                .entry(Arc::from(told.target.as_str()))
                .or_insert_with_key(|name| Box::new(left.member(story::unconfigured(Arc::clone(name)))));
            if member.repair.is_some() {
                continue;
            }
            // Nobody is repaired who was never seen alive: that it was may have been lost, the repair was not.
            member.target.kept.was_alive = true;
            member.target.kept.enter(Phase::Recovering, now);
            member.target.kept.repair_at.get_or_insert_with(|| Box::new(now));
            member.repair = Some(Box::new(Repair::resumed(told, now)));
            member.note_place();
            member.out = None;
            member.dirty = true;
        }
        self.note_stories();
    }

    /// Machines of repairs under way whose nodes are not configured, and where they are found.
    pub fn orphans(&self) -> Vec<(Arc<str>, Place)> {
        let orphan = |member: &Member| {
            let place = member.target.kept.place.as_deref().filter(|_| member.repair.is_some());
            Some((member.name(), place.filter(|_| !member.node.repairable)?.clone()))
        };
        self.members.values().filter_map(|member| orphan(member)).collect()
    }

    /// The machine of an orphan can be reached all the same: its repair is finished, and it is left alone then.
    pub fn reach(&mut self, name: &str) {
        if let Some(member) = self.members.get_mut(name).filter(|member| member.repair.is_some()) {
            member.node.repairable = true;
            member.leaving = true;
            self.some_leave = true;
        }
    }

    /// A repair that was only simulated ends wherever it stands: nothing was done to the machine.
    fn end_play(&mut self, saga: String, target: &str, number: u32) {
        self.closed.insert(saga.clone());
        let event = Event::Closed { end: End::NoEffect };
        self.played.push(Record { saga, target: target.to_string(), number, at: Wall::default(), event });
    }

    /// The configuration was read again. A node with a repair under way stays until that is over.
    pub fn configure(&mut self, policy: Policy, nodes: Vec<Node>) {
        self.policy = policy;
        let mut old = std::mem::take(&mut self.members);
        for node in nodes {
            let name = Arc::clone(&node.name);
            let member = match old.remove(&name) {
                Some(known) => Box::new(Member { node, leaving: false, ..*known }),
                None => Box::new(self.left.member(node)),
            };
            self.members.insert(name, member);
        }
        for (name, mut member) in old {
            if member.repair.is_some() {
                member.leaving = true;
                self.some_leave = true;
                self.members.insert(name, member);
            } else {
                self.left.put(name, member.target.kept);
            }
        }
        self.note_stories();
        self.forgive_simulated();
    }

    /// What was only simulated counts for nothing once machines are really touched.
    fn forgive_simulated(&mut self) {
        if self.policy.mode == Mode::Observe {
            return;
        }
        let mut played = Vec::new();
        for member in self.members.values_mut().filter(|member| member.target.kept.simulated) {
            if member.repair.as_ref().is_none_or(|repair| repair.simulated) {
                played.extend(member.repair.take().map(|repair| (repair.id, member.name(), repair.next)));
                member.out = None;
                member.target.kept.forgive();
                member.dirty = true;
            }
        }
        played.into_iter().for_each(|(saga, target, next)| self.end_play(saga, &target, next));
    }

    /// One pass.
    pub fn tick(&mut self, now: Now, mut input: Input<'_>) -> Plan {
        let mut plan = Plan::default();
        let played = std::mem::take(&mut self.played);
        plan.records.extend(played.into_iter().map(|record| Record { at: now.wall, ..record }));
        self.let_go();
        if input.fresh_since != self.fresh_since {
            self.fresh_since = input.fresh_since;
            self.members.values_mut().for_each(|member| member.target.lose_time());
        }
        // From here on only these are touched, and those of whom somebody brings word: ten thousand healthy nodes cost
        // one look each, and nothing more.
        let mut stirred = self.look(now, &input, &mut plan);
        let brought = input.answers.iter().map(|answer| &*answer.target);
        let words: Vec<&str> = brought.chain(input.notes.iter().map(|note| note.target.as_str())).collect();
        stirred.extend(words.into_iter().filter_map(|name| self.members.get(name)).map(|member| member.name()));
        stirred.sort();
        stirred.dedup();
        for answer in std::mem::take(&mut input.answers) {
            self.take(answer, now, &input, &mut plan);
        }
        self.adopt(now, &input, &mut plan);
        self.count_flights(&stirred);
        for name in &stirred {
            if self.members.get(name).is_some_and(|member| member.is_busy()) {
                self.go_on(name, now, &input, &mut plan);
                self.consider(name, now, &input, &mut plan);
            }
        }
        self.left.tick(input.beats.map(|beats| &*beats.nodes), now.wall, &mut plan);
        for name in stirred {
            let Some(member) = self.members.get_mut(&name) else { continue };
            if story::is_story(member) {
                self.spoken.insert(name);
            }
            let kept = &mut member.target.kept;
            if kept.blocked != member.blocked {
                kept.blocked.clone_from(&member.blocked);
                member.dirty = true;
            }
            if std::mem::take(&mut member.dirty) {
                plan.changed.push(member.name());
            }
        }
        plan
    }

    /// Nodes that are configured no more stay only for the repair under way.
    fn let_go(&mut self) {
        if !std::mem::take(&mut self.some_leave) {
            return;
        }
        let (left, some_leave) = (&mut self.left, &mut self.some_leave);
        self.members.retain(|name, member| {
            let stays = !member.leaving || member.repair.is_some();
            if !stays {
                left.put(Arc::clone(name), std::mem::take(&mut member.target.kept));
            }
            *some_leave |= stays && member.leaving;
            stays
        });
    }

    fn count_flights(&mut self, stirred: &[Arc<str>]) {
        self.flights.clear();
        self.in_flight = 0;
        let members = stirred.iter().filter_map(|name| self.members.get(name));
        for member in members.filter(|member| member.is_in_flight()) {
            self.in_flight += 1;
            if let Some(domain) = &member.node.domain {
                *self.flights.entry(domain.clone()).or_default() += 1;
            }
        }
    }

    /// Takes one look at every heartbeat; gives back of whom there may be more to do or to write down.
    fn look(&mut self, now: Now, input: &Input<'_>, plan: &mut Plan) -> Vec<Arc<str>> {
        let (mut ill, mut nodes, mut stirred) = (0, 0, Vec::new());
        let before = std::mem::replace(&mut self.seen, input.beats.map(|beats| Arc::clone(&beats.nodes)));
        let unchanged = before.zip(self.seen.as_ref()).is_some_and(|(before, now)| Arc::ptr_eq(&before, now));
        for member in self.members.values_mut() {
            if unchanged && member.target.is_steady() {
                nodes += 1;
                if member.is_stirred() {
                    stirred.push(member.name());
                }
                continue;
            }
            let glance = input.beats.map(|beats| {
                let beat = beats.nodes.get(&member.node.name);
                (beat.map_or(Life::Gone, |beat| beat.life), beat)
            });
            let at = input.beats.map_or(now.mono, |beats| beats.at);
            let before = (
                member.target.kept.was_alive,
                member.target.kept.boot.clone(),
                member.target.kept.healthy.as_secs() / 60,
            );
            let change = member.target.look(glance, at, now, member.node.times);
            if let (Some(beat), Some(ours)) = (glance.and_then(|(_, beat)| beat), &self.own_boot) {
                member.dirty |= member.target.kept.recognise(beat, before.1.as_deref(), ours, now.mono);
            }
            let kept = &member.target.kept;
            member.dirty |=
                change.is_some() || before != (kept.was_alive, kept.boot.clone(), kept.healthy.as_secs() / 60);
            if kept.was_alive {
                nodes += 1;
                ill += usize::from(member.target.is_ill());
            }
            if member.target.is_ill()
                && let Some(incident) = (input.look)(&story::key(&member.node.name)).and_then(|looked| looked.incident)
            {
                member.dirty |= member.target.kept.incident.as_ref() != Some(&incident);
                member.target.kept.incident = Some(incident);
            }
            if let Some(change) = change {
                follow_change(member, &change, now, &self.policy, plan);
                if let Some(saga) = member.target.kept.note.take() {
                    self.orders += 1;
                    plan.orders.push(Order { id: self.orders, target: member.name(), task: Task::Forget { saga } });
                }
            }
            if member.is_stirred() {
                stirred.push(member.name());
            }
        }
        self.ill = (ill, nodes);
        if input.beats.is_some() {
            self.few_are_ill = self.breaker.note(ill > may_be_ill(nodes, self.policy.min_healthy), now.mono);
        }
        stirred
    }

    /// Takes what the operator brought back.
    fn take(&mut self, answer: Answer, now: Now, input: &Input<'_>, plan: &mut Plan) {
        let Some(member) = self.members.get_mut(&answer.target) else { return };
        if member.out != Some(answer.id) {
            return;
        }
        member.out = None;
        match answer.result {
            Outcome::Confirmed { beats, seen } => {
                if let Check::Confirming(since) = member.check {
                    let confirmation = Confirmation { beats: &beats, before: input.beats, seen: &seen, since };
                    self.decide(&answer.target, &confirmation, now, input, plan);
                }
            }
            Outcome::Seen(Ok(seen)) => self.saw(&answer.target, seen, now, plan),
            Outcome::Seen(Err(why)) => {
                if let Some(repair) = &mut member.repair {
                    repair.pace.was_blind(now.mono, self.policy.poll, &answer.target);
                    member.trouble = Some(in_few_words(&why));
                }
            }
            Outcome::Replied(reply, detail) => self.replied(&answer.target, reply, detail, now, plan),
        }
    }

    /// What the store should keep of a target.
    pub fn kept(&self, name: &str) -> Option<&Kept> {
        self.members.get(name).map(|member| &member.target.kept).or_else(|| self.left.kept(name))
    }

    /// Nodes that were seen alive at least once.
    pub fn seen_alive(&self) -> BTreeSet<Arc<str>> {
        self.members.values().filter(|member| member.target.kept.was_alive).map(|member| member.name()).collect()
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// True while a repair is under way.
    pub fn is_busy(&self) -> bool {
        self.members.values().any(|member| member.repair.is_some())
    }

    /// Where a target stands.
    pub fn phase(&self, name: &str) -> Option<Phase> {
        let member = self.members.get(name)?;
        Some(if member.repair.is_some() { Phase::Recovering } else { member.target.kept.phase })
    }

    /// What the store should keep of the budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What was counted since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Every target as it stands, by name.
    pub fn standings(&self, now: Now) -> impl Iterator<Item = Standing> + '_ {
        self.members.values().map(move |member| story::standing(member, self, now))
    }
}

/// What a change of the heartbeat means for the story and for the next attempt.
fn follow_change(member: &mut Member, change: &Change, now: Now, policy: &Policy, plan: &mut Plan) {
    if *change == Change::NotBack {
        next_attempt(member, policy, now);
    }
    plan.lines.push(story::changed(member, change));
    plan.edges.extend(story::told_change(member, change, now, policy));
}

/// An attempt has failed: the next one after a wait, or none.
pub(super) fn next_attempt(member: &mut Member, policy: &Policy, now: Now) {
    let kept = &mut member.target.kept;
    if kept.attempts >= policy.max_attempts {
        kept.enter(Phase::Exhausted, now);
        return;
    }
    kept.enter(Phase::Suspect, now);
    let doubled = 1_u32.checked_shl(kept.attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait = member.node.times.after.saturating_mul(doubled).min(LONGEST_WAIT);
    kept.not_before = Some(Box::new(Now { wall: now.wall.plus(wait), mono: now.mono.plus(wait), ..now }));
}
