//! Repairs as they run: hands the fleet what a pass saw, and the operator what the fleet ordered.
//!
//! A straight line without decisions, like [`tick`](crate::tick), of which it is a part: what is decided is
//! decided in `core::recovery`, and no order leaves before the commit that holds its intent is on the
//! disk. What was done becomes spans of one trace per repair.

mod spans;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::spans::Spans;
use crate::act::{Operator, Tools};
use crate::core::recovery::facts::Fact;
use crate::core::recovery::fleet::{Fleet, Restored};
use crate::core::recovery::heartbeat::Heartbeats;
use crate::core::recovery::journal::{Told, fold, suspect};
use crate::core::recovery::kind::{self, Share};
use crate::core::recovery::phrase::Phrase;
use crate::core::recovery::plan::{Input, Looked, Mode, Place, Plan, Standing, Task};
use crate::core::recovery::target::Kept;
use crate::core::signal::{Answer, Severity, SignalKey};
use crate::core::time::{Mono, Now, Wall};
use crate::core::watch::Watch;
use crate::executor::Machines;
use crate::hush::Hush;
use crate::lease::Lease;
use crate::nodes::Nodes;
use crate::source::consul;
use crate::store::{Condition, HistoryEntry, Repairs as Remembered};
use crate::trace::Traces;

/// A picture of the heartbeats that is older than this many ticks is none.
const OLD: u32 = 3;

/// The signal of notes that are not known. It is there once it has been trouble.
const NOTES: &str = "recovery/notes";

/// Before the names of pools among the names of targets, none of which begins so.
const POOL: char = '/';

/// Under this name lies what was spent by those that share a pool.
fn pool_key(share: Share) -> String {
    format!("{POOL}{}", share.as_str())
}

/// The repairs of one program.
pub struct Repairs {
    /// The core.
    pub fleet: Fleet,
    operator: Operator,
    lease: Lease,
    beats: Option<Arc<Heartbeats>>,
    hurry_since: Mono,
    spans: Option<Spans>,
}

impl Repairs {
    /// Repairs with their operator and lease started.
    pub fn new(fleet: Fleet, operator: Operator, lease: Lease, traces: Option<Traces>) -> Repairs {
        Repairs { fleet, operator, lease, beats: None, hurry_since: Mono(i64::MIN), spans: traces.map(Spans::new) }
    }

    /// Takes back what an earlier run kept.
    pub fn restore(&mut self, remembered: &Remembered, now: Now, same_boot: bool) {
        let pools = remembered.targets.iter().filter_map(|(name, body)| {
            let share = Share::ALL.into_iter().find(|share| *name == pool_key(*share))?;
            Some((share, serde_json::from_str(body).unwrap_or_default()))
        });
        let targets =
            remembered.targets.iter().filter(|(name, _)| !name.starts_with(POOL)).filter_map(|(name, body)| {
                let kept = serde_json::from_str(body).map_err(|error| {
                    tracing::warn!("what was kept of {name} cannot be read and begins afresh: {error}");
                });
                Some((name.clone(), kept.ok()?))
            });
        let restored = Restored {
            targets: targets.collect(),
            open: open(remembered),
            closed: remembered.closed.clone(),
            budget: remembered.budget.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default(),
            others: pools.collect(),
        };
        if let Some(spans) = &mut self.spans {
            restored.open.iter().for_each(|told| spans.resume(told));
        }
        self.fleet.restore(restored, now, same_boot);
    }

    /// Repairs under way of nodes that are not configured any more are finished with the machines that `find` gives
    /// for their places: what is owed is owed to the machine, whoever names it (B1).
    pub fn adopt_orphans(&mut self, find: impl FnOnce(&[(Arc<str>, Place)]) -> Machines) {
        let orphans = self.fleet.orphans();
        if orphans.is_empty() {
            return;
        }
        let machines = find(&orphans);
        machines.keys().for_each(|name| self.fleet.reach(name));
        self.operator.add(machines);
    }

    /// The state file could not be read when we began, and can be now: what it knows to be under way is ours.
    pub fn catch_up(&mut self, remembered: &Remembered, now: Now) {
        self.fleet.take_up(open(remembered), now);
    }

    /// The configuration was read again.
    pub fn configure(&mut self, nodes: &Nodes, tools: Tools) {
        self.lease = tools.lease.clone();
        self.fleet.configure(nodes.policy.clone(), nodes.nodes.clone());
        self.operator.equip(tools);
    }

    /// What may be repaired and whether it is, in words, for the first screen.
    pub fn describe(&self, has_file: bool) -> String {
        let nodes = self.fleet.size();
        let mode = match self.mode() {
            Mode::Observe => "observe: repairs are simulated, nothing is touched",
            Mode::Active if !has_file => "active, but without a state file nothing is touched; set state",
            Mode::Active => "active: machines are switched",
        };
        let paused = if self.fleet.policy().paused { "; paused" } else { "" };
        format!("{nodes} {}; {mode}{paused}", if nodes == 1 { "node" } else { "nodes" })
    }

    /// True while a repair is under way.
    pub fn is_busy(&self) -> bool {
        self.fleet.is_busy()
    }

    /// No node is configured any more: what is under way is finished, and nothing begins.
    pub fn wind_down(&mut self) {
        let policy = self.fleet.policy().clone();
        self.fleet.configure(policy, Vec::new());
    }

    /// Evidence is to be looked at again later than this.
    pub fn hurry_since(&self) -> Mono {
        self.hurry_since
    }

    /// One pass, after the signals were judged; `beats` is what [`heartbeats`] found in its answers.
    pub fn tick(
        &mut self,
        now: Now,
        watch: &Watch,
        hush: &Hush,
        beats: Seen,
        tick: Duration,
        condition: &Condition,
    ) -> Plan {
        match beats {
            Seen::Beats(beats) => self.beats = Some(beats),
            Seen::Blind => self.beats = None,
            Seen::NotAsked => {
                let old = tick.saturating_mul(OLD);
                self.beats = self.beats.take().filter(|beats| now.mono.since(beats.at) < old);
            }
        }
        let notes = self.lease.notes();
        let look = |key: &SignalKey| look(watch, key);
        let silenced = |key: &SignalKey| hush.cover(key, now.wall).is_some();
        let input = Input {
            beats: self.beats.as_deref(),
            fresh_since: watch.fresh_since(),
            look: &look,
            silenced: &silenced,
            holds_lease: self.lease.holds(),
            notes: &notes,
            is_durable: *condition == Condition::File,
            answers: self.operator.take_answers(),
        };
        let plan = self.fleet.tick(now, input);
        if plan.hurry {
            self.hurry_since = now.mono;
        }
        let done = self.operator.take_done();
        if let Some(spans) = &mut self.spans {
            spans.follow(&plan, &done, &self.fleet, now.wall);
        }
        plan
    }

    /// Hands the orders over; `is_durable`: what was decided with them is on the disk.
    pub fn dispatch(&self, plan: Plan, is_durable: bool) {
        for order in plan.orders {
            let takes_down = matches!(&order.task, Task::Ask { step, .. } if step.disrupts());
            if takes_down && !is_durable {
                self.operator.refuse(&order, "its intent could not be written to the state file");
            } else {
                self.operator.order(order);
            }
        }
    }

    /// What a target is kept as.
    pub fn kept(&self, name: &str) -> Option<String> {
        // Plain data always has a JSON form; a row that had none would be left as it was.
        serde_json::to_string(self.fleet.kept(name)?).ok()
    }

    /// What was spent, when that changed.
    pub fn budget(&self, plan: &Plan) -> Option<String> {
        plan.spent.then(|| serde_json::to_string(self.fleet.budget()).ok()).flatten()
    }

    /// What was spent on everything but machines, when something was, as rows.
    pub fn other_budgets(&self, plan: &Plan) -> Vec<(String, String)> {
        let budgets = self.fleet.other_budgets().filter(|_| plan.spent);
        budgets.filter_map(|(share, budget)| Some((pool_key(share), serde_json::to_string(budget).ok()?))).collect()
    }

    /// What a person should know while it lasts.
    pub fn facts(&self, now: Now, watch: &Watch) -> Vec<Fact> {
        let mut facts = self.fleet.own_facts(now);
        let trouble = self.lease.unknown_notes().words().map(Phrase::seen);
        // Worth a line only once there was trouble with it.
        if trouble.is_some() || watch.looked(&SignalKey::new(NOTES)).is_some() {
            let (key, title) = (NOTES.to_string(), "notes about repairs".to_string());
            facts.push(Fact { key, title, severity: Severity::Critical, trouble });
        }
        facts
    }

    /// Every target as it stands.
    pub fn standings(&self, now: Now) -> impl Iterator<Item = Standing> + '_ {
        self.fleet.standings(now)
    }

    /// The lease, for views.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether each provider answered the last time it was asked.
    pub fn reached(&self) -> BTreeMap<&'static str, bool> {
        self.operator.reached()
    }

    /// True when machines are really touched.
    pub fn mode(&self) -> Mode {
        self.fleet.policy().mode
    }

    /// What became of spans.
    pub fn traces(&self) -> Option<crate::trace::Counts> {
        self.spans.as_ref().map(Spans::counts)
    }

    /// Ends the operator after what it is doing, gives the lease back, sends what is left of traces; all of it
    /// before `by`. An operator that hangs gets a third of the time, so that the lease is given back all the
    /// same. What is under way goes on with the next start: every intent is on the disk.
    pub fn stop(self, by: Instant) {
        let now = Instant::now();
        self.operator.stop(now + by.saturating_duration_since(now) / 3);
        self.lease.stop(by);
        if let Some(spans) = self.spans {
            spans.stop(by.saturating_duration_since(Instant::now()));
        }
    }
}

/// Nodes that were seen alive, as far as that is kept.
pub fn seen_alive(remembered: &Remembered) -> BTreeSet<Arc<str>> {
    let alive = |body: &String| serde_json::from_str::<Kept>(body).is_ok_and(|kept| kept.was_alive);
    let targets = remembered.targets.iter().filter(|(_, body)| alive(body));
    targets.map(|(key, _)| Arc::from(kind::name(key))).collect()
}

/// The repairs that are not over, as the journal tells them; with something missing, at their worst.
fn open(remembered: &Remembered) -> Vec<Told> {
    let told = fold(&remembered.records);
    if remembered.unsound == 0 { told } else { told.into_iter().map(suspect).collect() }
}

/// What a pass learnt of the heartbeats.
pub enum Seen {
    /// They were read.
    Beats(Arc<Heartbeats>),
    /// They could not be read.
    Blind,
    /// Nobody was asked.
    NotAsked,
}

/// The heartbeats among the answers of a pass.
pub fn heartbeats(answers: &[Answer]) -> Seen {
    let answer = answers.iter().find(|answer| *answer.source == *consul::ENTRY.name);
    match answer.map(|answer| &answer.outcome) {
        None => Seen::NotAsked,
        Some(Ok(report)) => report.beats.as_ref().map_or(Seen::Blind, |beats| Seen::Beats(Arc::clone(beats))),
        Some(Err(_)) => Seen::Blind,
    }
}

/// The lines that a plan adds to the audit log.
pub fn lines(plan: &Plan, at: Wall) -> Vec<HistoryEntry> {
    let line = |line: &crate::core::recovery::plan::Line| HistoryEntry {
        at,
        kind: line.kind.to_string(),
        subject: line.target.to_string(),
        incident: None,
        severity: None,
        text: line.text.to_string(),
    };
    plan.lines.iter().map(line).collect()
}

fn look(watch: &Watch, key: &SignalKey) -> Option<Looked> {
    let (state, seen_at, incident) = watch.looked(key)?;
    Some(Looked { state, is_bad: watch.is_bad(key), seen_at, incident: incident.cloned() })
}
