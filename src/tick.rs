//! One pass, a straight line without decisions: gather, core, commit, ring the couriers, beat, show.
//!
//! Nothing here waits for Telegram, a cloud or a hung disk of somebody else; the only thing waited
//! for is a source, and that for a bounded time. What becomes visible was committed before
//! (`adr/0006-transactional-outbox.md`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::shortage;
use crate::clock::Clock;
use crate::core::decide::Action;
use crate::core::recovery::plan::Plan;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Answer, Observation, Reading, Report, Severity, SignalKey, Spec};
use crate::core::time::{Mono, Now};
use crate::core::watch::{OWN, Outcome, Watch};
use crate::deadman::Deadman;
use crate::deliver::Delivery;
use crate::gather::{Gather, Whom};
use crate::hush::Hush;
use crate::notifier::Place;
use crate::own;
use crate::repair::{self, Repairs};
use crate::source::Ask;
use crate::store::{Commit, Condition, HistoryEntry, Rows, Store};

/// The longest that a pass waits for its sources; whoever is later is taken when it comes.
const WAIT: Duration = Duration::from_secs(1);
/// How long a shortage of our own is told after it was last seen.
const SHORT: Duration = Duration::from_mins(1);

/// Everything that one pass needs.
pub struct Tick {
    /// Reads the clocks.
    pub clock: Clock,
    /// The sources.
    pub gather: Gather,
    /// The core.
    pub watch: Watch,
    /// Durable memory.
    pub store: Store,
    /// The couriers, one per way out.
    pub couriers: Vec<Delivery>,
    /// What may be repaired, when there is anything.
    pub repairs: Option<Repairs>,
    /// The dead-man's switch, when one is set.
    pub deadman: Option<Deadman>,
    /// Why the configuration in the files is not the one in force, when it is not.
    pub reload_error: Option<String>,
    /// What the store met that a person should know (a damaged file put aside), until it is told.
    pub notes: Vec<String>,
    /// How often each action was decided since the start.
    pub decisions: BTreeMap<Action, u64>,
    /// Switched off: passes look at nothing, say nothing and only show that the loop is alive.
    pub idle: bool,
    /// Looks at everything once and waits for every answer.
    pub once: bool,
    /// Waits for answers as long as a pass ever may, however short the grid.
    pub is_first: bool,
    /// What is not told for a time, and the commands that change it.
    pub hush: Hush,
    /// The grid of the loop.
    pub interval: Duration,
    /// The state file, as it may stand in a command.
    pub state_path: Option<String>,
    specs: BTreeMap<String, Arc<Spec>>,
    noted: Arc<Spec>,
    /// The state file was not used in the pass before.
    was_away: bool,
}

impl Tick {
    /// The parts of a pass, put together.
    pub fn new(clock: Clock, gather: Gather, watch: Watch, store: Store, interval: Duration) -> Tick {
        Tick {
            clock,
            gather,
            watch,
            store,
            couriers: Vec::new(),
            repairs: None,
            deadman: None,
            reload_error: None,
            notes: Vec::new(),
            decisions: BTreeMap::new(),
            idle: false,
            once: false,
            is_first: false,
            interval,
            hush: Hush::default(),
            state_path: None,
            specs: BTreeMap::new(),
            was_away: false,
            noted: Arc::new(Spec::new(
                SignalKey::new("state/notice"),
                "state file",
                Severity::Warning,
                Rule::at_once(Test::Event),
            )),
        }
    }

    /// One pass over the sources `whom`. Gives back how long it took.
    pub fn pass(&mut self, whom: &Whom) -> Duration {
        let began = Instant::now();
        let now = self.clock.now();
        if self.idle {
            self.watch.idle(now);
            self.commit(now, &Outcome::default(), &Plan::default());
            return began.elapsed();
        }
        let hurry = self.repairs.as_ref().map_or(Mono(i64::MIN), Repairs::hurry_since);
        let ask = Ask { now, fresh_since: self.watch.fresh_since(), hurry_since: hurry, once: self.once };
        let limit = match (self.once, self.is_first) {
            (true, _) => self.gather.patience() + WAIT,
            (false, true) => WAIT,
            (false, false) => WAIT.min(self.interval / 2),
        };
        let mut answers = self.gather.gather(whom, ask, limit);
        if self.once {
            answers.extend(self.gather.give_up());
        }
        answers.push(self.own_answer(now));
        let beats = repair::heartbeats(&answers);
        let mut outcome = self.watch.tick(now, answers);
        let answered = self.hush.obey(&mut self.watch, &mut outcome, &self.gather, now);
        let lines = self.hush.sift(&mut outcome.edges, &self.watch, now);
        self.hush.keep(&self.store);
        let condition = self.store.condition();
        self.catch_up(now, &condition);
        let plan = match &mut self.repairs {
            Some(repairs) => repairs.tick(now, &self.watch, &self.hush, beats, self.interval, &condition),
            None => Plan::default(),
        };
        outcome.edges.extend_from_slice(&plan.edges);
        let is_durable = self.commit_with(now, &outcome, &plan, lines);
        answered.into_iter().for_each(|(waiting, reply)| waiting.answer(reply));
        if let Some(repairs) = &self.repairs {
            repairs.dispatch(plan, is_durable);
        }
        let undelivered = self.oldest_undelivered(now.mono);
        if let (Whom::All, Some(deadman)) = (whom, &mut self.deadman) {
            deadman.beat(now.mono, undelivered);
        }
        for (action, count) in outcome.decisions {
            *self.decisions.entry(action).or_default() += count;
        }
        began.elapsed()
    }

    /// A state file that works again may know of repairs that we do not.
    fn catch_up(&mut self, now: Now, condition: &Condition) {
        let away = matches!(condition, Condition::Degraded { .. });
        let was_away = std::mem::replace(&mut self.was_away, away);
        if was_away
            && !away
            && let Some(repairs) = &mut self.repairs
        {
            match self.store.repairs() {
                Ok(remembered) => repairs.catch_up(&remembered, now),
                Err(error) => tracing::error!("state: the journal cannot be read: {error}"),
            }
        }
    }

    /// Writes what a pass brought, in one transaction, and rings the couriers when there is news. True when
    /// it is on the disk.
    pub fn commit(&mut self, now: Now, outcome: &Outcome, plan: &Plan) -> bool {
        self.commit_with(now, outcome, plan, Vec::new())
    }

    /// The same with more lines for the audit log.
    fn commit_with(&mut self, now: Now, outcome: &Outcome, plan: &Plan, mut lines: Vec<HistoryEntry>) -> bool {
        lines.extend(repair::lines(plan, now.wall));
        let everything;
        // What is kept in memory ends with the process that knows it anyway.
        let keys: &[SignalKey] = if self.store.condition() == Condition::Memory {
            &[]
        } else if self.once {
            everything = self.watch.keys();
            &everything
        } else {
            &outcome.changed
        };
        let signals = Signals { watch: &self.watch, keys };
        let channels: Vec<String> = self.couriers.iter().map(|c| c.status().name().to_string()).collect();
        let targets = Targets { repairs: self.repairs.as_ref(), plan };
        let budget = self.repairs.as_ref().and_then(|repairs| repairs.budget(plan));
        let commit = Commit {
            signals: &signals,
            removed: &outcome.removed,
            edges: &outcome.edges,
            channels: &channels,
            records: &plan.records,
            targets: &targets,
            forgotten: &plan.forgotten,
            budget: budget.as_deref(),
            lines: &lines,
        };
        let written = self.store.commit(now, &commit);
        if let Err(error) = &written {
            tracing::error!("state: {error}");
        }
        for edge in &outcome.edges {
            tracing::debug!(key = %edge.key, incident = %edge.incident, kind = edge.kind.as_str(), "{}", edge.fact);
        }
        if !outcome.edges.is_empty() {
            self.couriers.iter().for_each(Delivery::ring);
        }
        written.is_ok() && self.store.condition() == Condition::File
    }

    /// The names of all ways out, the dead-man's switch among them.
    pub fn channels(&self) -> BTreeSet<Arc<str>> {
        let couriers = self.couriers.iter().map(|courier| Arc::from(courier.status().name()));
        couriers.chain(self.deadman.iter().map(|_| Arc::from("heartbeat"))).collect()
    }

    /// Age of the oldest edge that some channel has not acknowledged.
    fn oldest_undelivered(&self, now: Mono) -> Duration {
        self.couriers.iter().filter_map(|courier| courier.status().read(now).oldest).max().unwrap_or_default()
    }

    /// What the program knows about itself, as signals like any other.
    fn own_answer(&mut self, now: Now) -> Answer {
        let mut facts: Vec<own::Fact> = Vec::new();
        for courier in &self.couriers {
            let standing = courier.status().read(now.mono);
            let place = SignalKey::new(&format!("channel/{}/place", standing.name));
            // Where messages go is worth a line only once it was not where they should.
            if matches!(&standing.place, Place::Elsewhere(_)) || self.watch.looked(&place).is_some() {
                facts.push(own::place(&standing));
            }
            facts.push(own::channel(&standing));
        }
        facts.push(own::state(&self.store.condition(), self.state_path.as_deref()));
        // Said for a while after it was seen: what could not be looked at meanwhile is unknown for that reason.
        facts.push(own::limits(shortage::within(SHORT.max(self.interval * 2))));
        let repairs = self.repairs.as_ref().map(|repairs| repairs.facts(now, &self.watch)).unwrap_or_default();
        facts.extend(repairs.into_iter().map(own::repairs));
        facts.push(own::reload(self.reload_error.as_deref()));
        facts.extend(self.deadman.as_ref().map(|deadman| own::deadman(deadman.outcome())));
        self.notes.append(&mut self.store.take_notes());
        let notes = std::mem::take(&mut self.notes);
        for note in &notes {
            tracing::warn!("state: {note}");
        }
        let count = Reading::Happened(u32::try_from(notes.len()).unwrap_or(u32::MAX));
        let fact = if notes.is_empty() { Cow::Borrowed("nothing to tell") } else { Cow::Owned(notes.join("; ")) };
        let noted = Observation::new(&self.noted, now.mono, count, fact);
        let observations = facts.into_iter().map(|fact| {
            let spec = match self.specs.get(&fact.key) {
                Some(spec) => Arc::clone(spec),
                None => Arc::clone(self.specs.entry(fact.key.clone()).or_insert_with(|| Arc::new(fact.spec()))),
            };
            fact.observed(&spec, now.mono)
        });
        let observations = observations.chain([noted]).chain(self.hush.digest(now, &self.watch)).collect();
        let report = Report { observations, complete: false, ..Report::default() };
        Answer { source: Arc::from(OWN), at: now.mono, outcome: Ok(report), details: None }
    }
}

/// What is remembered of signals.
struct Signals<'a> {
    watch: &'a Watch,
    keys: &'a [SignalKey],
}

impl Rows for Signals<'_> {
    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn each(&self, put: &mut dyn FnMut(&str, &str)) {
        for key in self.keys {
            // Plain data always has a JSON form; a row that had none would be left as it was.
            let body = self.watch.remembered(key).and_then(|remembered| serde_json::to_string(&remembered).ok());
            body.iter().for_each(|body| put(key.as_str(), body));
        }
    }
}

/// What is kept of targets.
struct Targets<'a> {
    repairs: Option<&'a Repairs>,
    plan: &'a Plan,
}

impl Rows for Targets<'_> {
    fn is_empty(&self) -> bool {
        self.repairs.is_none() || (self.plan.changed.is_empty() && !self.plan.spent)
    }

    fn each(&self, put: &mut dyn FnMut(&str, &str)) {
        for (repairs, name) in
            self.repairs.iter().flat_map(|repairs| self.plan.changed.iter().map(move |name| (repairs, name)))
        {
            repairs.kept(name).iter().for_each(|body| put(name, body));
        }
        for (key, budget) in self.repairs.iter().flat_map(|repairs| repairs.other_budgets(self.plan)) {
            put(&key, &budget);
        }
    }
}
