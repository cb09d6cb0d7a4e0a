//! All nodes together: one pure step per pass, from what was seen to what is to be done.
//!
//! Lends each member in turn what all share, so that each counts for the next (B2, B4): to look at its heartbeat, to
//! take what the operator brought back, to move on its repair, and to consider a new one. A machine is
//! touched only through the gate, with everything freshly looked at (B3). In `observe` the same is
//! decided and told, and what the provider would answer is simulated (`adr/0008-observe-by-default.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::budget::Budget;
use super::closed::Closed;
use super::confirm::is_gone;
use super::heartbeat::Beat;
use super::journal::{Event, Record, Told};
use super::kind::Share;
use super::left::Left;
use super::member::{Check, Member, Repair};
use super::pass::Pass;
use super::plan::{Answer, Counts, Input, Mode, Node, Outcome, Place, Plan, Policy, Standing};
use super::pool::Pools;
use super::saga::End;
use super::story;
use super::strangers::Strangers;
use super::target::{Kept, Phase, Target};
use crate::core::time::{Mono, Now, Wall};

/// The members by key. Boxed: half of the places in a tree's leaves are free, and a member is large.
type Members = BTreeMap<Arc<str>, Box<Member>>;

/// Everything that the fleet remembers from an earlier run.
#[derive(Debug, Default)]
pub struct Restored {
    /// What was kept of each target, by name.
    pub targets: BTreeMap<String, Kept>,
    /// The repairs that were under way.
    pub open: Vec<Told>,
    /// The names of repairs that are over.
    pub closed: BTreeSet<String>,
    /// What was spent on machines.
    pub budget: Budget,
    /// What was spent on everything else.
    pub others: BTreeMap<Share, Budget>,
}

/// All nodes together.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub(super) policy: Policy,
    pub(super) members: Members,
    /// What they share.
    pub(super) pools: Pools,
    /// The names of repairs that are over.
    closed: Closed,
    /// Ends of repairs that were only simulated, until a pass writes them down.
    played: Vec<Record>,
    orders: u64,
    counts: Counts,
    fresh_since: Mono,
    /// Nodes about which something may have been told.
    pub(super) spoken: BTreeSet<Arc<str>>,
    /// Some are configured no more and stay only for the repair under way.
    some_leave: bool,
    /// Repairs of nodes that are not configured here.
    pub(super) strangers: Strangers,
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
        let members = nodes.into_iter().map(|node| (Arc::clone(&node.key), Box::new(Member::new(node)))).collect();
        Fleet {
            policy,
            members,
            pools: Pools::default(),
            closed: Closed::default(),
            played: Vec::new(),
            orders: 0,
            counts: Counts::default(),
            fresh_since: Mono(i64::MIN),
            spoken: BTreeSet::new(),
            some_leave: false,
            strangers: Strangers::default(),
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
        self.pools.of_mut(Share::Machines).budget = restored.budget.carried(now, same_boot);
        for (share, budget) in restored.others {
            self.pools.of_mut(share).budget = budget.carried(now, same_boot);
        }
        self.closed = restored.closed.into_iter().collect();
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
                .or_insert_with_key(|name| Box::new(left.member(Node::unconfigured(Arc::clone(name)))));
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
            Some((member.key(), place.filter(|_| !member.node.repairable)?.clone()))
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
            let key = Arc::clone(&node.key);
            let member = match old.remove(&key) {
                Some(known) => Box::new(Member { node, leaving: false, ..*known }),
                None => Box::new(self.left.member(node)),
            };
            self.members.insert(key, member);
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
                played.extend(member.repair.take().map(|repair| (repair.id, member.key(), repair.next)));
                member.out = None;
                member.target.kept.forgive();
                member.dirty = true;
            }
        }
        played.into_iter().for_each(|(saga, target, next)| self.end_play(saga, &target, next));
    }

    /// One pass. Nothing else walks over the members to decide.
    pub fn tick(&mut self, now: Now, mut input: Input<'_>) -> Plan {
        let mut plan = Plan::default();
        let answers = std::mem::take(&mut input.answers);
        let is_quiet = self.begin(now, &input, &mut plan);
        let Fleet { policy, members, pools, closed, orders, counts, spoken, strangers, left, own_boot, .. } = self;
        let input = &input;
        let mut pass = Pass { now, policy, input, plan: &mut plan, counts, pools, closed, orders };

        // Those of whom there may be more to do or to write down: ten thousand healthy nodes cost one look each, and
        // nothing more.
        let mut stirred: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut ill: BTreeMap<Share, (usize, usize)> = Share::ALL.map(|share| (share, (0, 0))).into();
        for member in members.values_mut() {
            if !(is_quiet && member.node.has_heartbeat() && member.target.is_steady()) {
                member.look(own_boot.as_deref(), &mut pass);
            }
            if let Some((ill, of)) = ill.get_mut(&member.node.kind.share).filter(|_| member.target.kept.was_alive) {
                *ill += usize::from(member.target.is_ill());
                *of += 1;
            }
            if member.is_stirred() {
                stirred.insert(member.key());
            }
        }
        for (share, ill) in ill {
            let saw = input.beats.is_some() || share != Share::Machines;
            pass.pools.of_mut(share).count(ill, saw, policy.bounds(share), now);
        }

        for answer in answers {
            let ill = missing(members, &answer, input);
            if let Some(member) = members.get_mut(&answer.target) {
                stirred.insert(member.key());
                member.take(answer, ill, &mut pass);
            }
        }
        strangers.forget();
        let takes_over = input.holds_lease && !pass.observes();
        for note in input.notes.iter().filter(|_| takes_over) {
            match members.get_mut(note.target.as_str()) {
                Some(member) => {
                    stirred.insert(member.key());
                    member.adopt(note, &mut pass);
                }
                None => strangers.meet(note, &mut pass),
            }
        }

        count_flights(pass.pools, stirred.iter().filter_map(|name| members.get(name)));
        for name in stirred {
            let Some(member) = members.get_mut(&name) else { continue };
            if member.is_busy() {
                member.go_on(&mut pass);
                member.consider(&mut pass);
            }
            if member.settle() {
                pass.plan.changed.push(member.key());
            }
            if member.is_story() {
                spoken.insert(name);
            }
        }
        left.tick(input.beats.map(|beats| &*beats.nodes), now.wall, pass.plan);
        plan
    }

    /// What comes before anybody is looked at. True when the heartbeats are those of the pass before.
    fn begin(&mut self, now: Now, input: &Input<'_>, plan: &mut Plan) -> bool {
        let played = std::mem::take(&mut self.played);
        plan.records.extend(played.into_iter().map(|record| Record { at: now.wall, ..record }));
        self.let_go();
        if input.fresh_since != self.fresh_since {
            self.fresh_since = input.fresh_since;
            self.members.values_mut().for_each(|member| member.target.lose_time());
        }
        let before = std::mem::replace(&mut self.seen, input.beats.map(|beats| Arc::clone(&beats.nodes)));
        before.zip(self.seen.as_ref()).is_some_and(|(before, now)| Arc::ptr_eq(&before, now))
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

    /// What the store should keep of a target.
    pub fn kept(&self, name: &str) -> Option<&Kept> {
        self.members.get(name).map(|member| &member.target.kept).or_else(|| self.left.kept(name))
    }

    /// Nodes that were seen alive at least once, by name.
    pub fn seen_alive(&self) -> BTreeSet<Arc<str>> {
        let alive = self.members.values().filter(|member| member.target.kept.was_alive);
        alive.map(|member| Arc::clone(&member.node.name)).collect()
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
        &self.pools.of(Share::Machines).budget
    }

    /// What the store should keep of the budgets of everything but machines, as far as there is anything.
    pub fn other_budgets(&self) -> impl Iterator<Item = (Share, &Budget)> {
        let others = Share::ALL.into_iter().filter(|share| *share != Share::Machines);
        others.map(|share| (share, &self.pools.of(share).budget)).filter(|(_, budget)| !budget.is_empty())
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
        self.members.values().map(move |member| story::standing(member, &self.policy, now))
    }

    /// How many nodes are in each state, for metrics: alive, missing, never seen.
    pub fn nodes(&self) -> [(&'static str, usize); 3] {
        let seen = self.members.values().map(|member| &member.target).filter(|target| target.kept.was_alive);
        let (seen, ill) = seen.fold((0, 0), |(seen, ill), target| (seen + 1, ill + usize::from(target.is_ill())));
        [("alive", seen - ill), ("ill", ill), ("never-seen", self.members.len() - seen)]
    }

    /// Nodes whose stories began, so that their ends are told, too.
    fn note_stories(&mut self) {
        self.spoken.extend(self.members.values().filter(|member| member.is_story()).map(|member| member.key()));
    }
}

/// Counts anew what is under way in each pool, and the looks that are being made before a repair.
fn count_flights<'a>(pools: &mut Pools, members: impl Iterator<Item = &'a Box<Member>>) {
    Share::ALL.into_iter().for_each(|share| pools.of_mut(share).land());
    for member in members {
        let pool = pools.of_mut(member.node.kind.share);
        if member.is_in_flight() {
            pool.fly(member.node.domain.as_deref());
        }
        if !matches!(member.check, Check::Idle(_)) {
            pool.check();
        }
    }
}

/// How many that share a pool with whom an answer is about are ill or not there, by the look at all heartbeats that it
/// brings.
fn missing(members: &Members, answer: &Answer, input: &Input<'_>) -> usize {
    let (Outcome::Confirmed { beats: Ok(beats), .. }, Some(about)) = (&answer.result, members.get(&answer.target))
    else {
        return 0;
    };
    let ill = members.values().filter(|member| {
        let target = &member.target;
        member.node.kind.share == about.node.kind.share
            && target.kept.was_alive
            && (target.is_ill() || (member.node.has_heartbeat() && is_gone(beats, input.beats, &member.node.name)))
    });
    ill.count()
}
