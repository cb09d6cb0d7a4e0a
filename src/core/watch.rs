//! The whole picture over time: every source, every signal, and one pure step per pass.
//!
//! [`Watch::tick`] takes the clocks and the answers of the sources and gives back what must be
//! remembered and said. It notices by itself when time was lost (start, suspend, frozen process,
//! stepped clock) and then lets every source answer once before it counts again: blind time is
//! neither good nor bad. A source that cannot see raises `source/<name>`; its signals turn unknown.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::decide::Action;
use super::edge::{Edge, Incident};
use super::rule::{FAIL_AFTER, Rule, Test};
use super::signal::{Answer, Observation, Reading, Report, Severity, SignalKey, Spec, State};
use super::time::{Mono, Now, Wall, people};
use super::tracked::{Namer, Remembered, Scene, Tracked};

/// The name of the source that the program itself is: `source/*`, `clock/step`, `channel/*`.
pub const OWN: &str = "watchdog";
/// Wall and monotonic clock may drift apart by this much between two passes before it is a step.
const STEP: Duration = Duration::from_secs(5);
/// Ticks missed in a row before the process counts as frozen.
const MISSED_TICKS: u32 = 3;

/// What the core is told once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Least time before a still-firing signal is said again; zero is never.
    pub cooldown: Duration,
    /// The grid of the loop.
    pub tick: Duration,
    /// Let every source answer once before anything counts. Off only for a single pass.
    pub warm_up: bool,
    /// One look is enough to confirm, for a single pass that has no memory of earlier ones.
    pub confirm_at_once: bool,
}

/// What follows from one pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// What is to be said, in order.
    pub edges: Vec<Edge>,
    /// Signals whose remembered form changed.
    pub changed: Vec<SignalKey>,
    /// Signals that are no more.
    pub removed: Vec<SignalKey>,
    /// How often each action was decided.
    pub decisions: BTreeMap<Action, u64>,
}

/// One signal as it stands, for views.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its key.
    pub key: SignalKey,
    /// How it stands.
    pub state: State,
    /// How much it matters.
    pub severity: Severity,
    /// What it is, in a few words.
    pub title: String,
    /// The fact seen last.
    pub detail: String,
    /// Since when it stands so.
    pub since: Wall,
    /// Its open incident.
    pub incident: Option<Incident>,
    /// Why it stands so and why something is or is not said.
    pub reason: String,
    /// When it was last alerted.
    pub last_alert_at: Option<Wall>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    /// It has answered fully since the last disturbance.
    warm: bool,
    signals: BTreeMap<SignalKey, Tracked>,
    /// The spec of `source/<name>`.
    own: Option<Arc<Spec>>,
    blind_in_a_row: u32,
    /// Since when its answers only set the baseline.
    cold_since: Mono,
}

/// The state of the core.
#[derive(Debug, Clone)]
pub struct Watch {
    policy: Policy,
    groups: BTreeMap<Arc<str>, Group>,
    own: Arc<str>,
    clock: Arc<Spec>,
    last: Option<Now>,
    fresh_since: Mono,
    namer: Namer,
}

impl Watch {
    /// A core that has seen nothing yet.
    pub fn new(policy: Policy) -> Watch {
        let own: Arc<str> = Arc::from(OWN);
        let clock = own_spec("clock/step", "clock", Severity::Info, Rule::at_once(Test::Event));
        let mut groups = BTreeMap::new();
        groups.insert(Arc::clone(&own), Group { warm: true, ..Group::default() });
        Watch { policy, groups, own, clock, last: None, fresh_since: Mono(i64::MIN), namer: Namer::default() }
    }

    /// Takes back what an earlier run remembered. With `counts` also the looks in a row, for single
    /// passes that follow one another.
    pub fn restore(&mut self, rows: Vec<(SignalKey, Remembered)>, now: Now, same_boot: bool, counts: bool) {
        for (key, row) in rows {
            let (source, memory) = (Arc::clone(&row.source), row.memory);
            let mut tracked = Tracked::restored(key.clone(), row, now, same_boot, self.policy.cooldown);
            if counts {
                tracked = tracked.with_counts(memory);
            }
            self.groups.entry(source).or_default().signals.insert(key, tracked);
        }
    }

    /// Changes the policy (the configuration was read again).
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Only observations later than this count as looks after the last start, suspend or clock step.
    pub fn fresh_since(&self) -> Mono {
        self.fresh_since
    }

    /// Forgets sources that are no longer configured and closes what was open about their signals.
    pub fn keep_only(&mut self, sources: &BTreeSet<Arc<str>>, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let gone: Vec<Arc<str>> =
            self.groups.keys().filter(|name| **name != self.own && !sources.contains(*name)).cloned().collect();
        for name in gone {
            for (key, mut tracked) in self.groups.remove(&name).unwrap_or_default().signals {
                tracked.gone("it is no longer watched", now, &mut out.edges);
                out.removed.push(key);
            }
            self.drop_own(&source_key(&name), now, &mut out);
        }
        let stale: Vec<SignalKey> =
            self.own_group().signals.keys().filter(|k| is_of_lost_source(k, sources)).cloned().collect();
        for key in stale {
            self.drop_own(&key, now, &mut out);
        }
        out
    }

    /// One pass. `answers` holds one answer per source that was asked; a source that was not asked
    /// is judged by time alone.
    pub fn tick(&mut self, now: Now, answers: Vec<Answer>) -> Outcome {
        let mut out = Outcome::default();
        let disturbance = self.disturbance(now);
        self.last = Some(now);
        if let Some(fact) = &disturbance {
            self.begin_again(now, fact.is_empty());
        }
        let mut own = Report::default();
        if let Some(fact) = disturbance.filter(|fact| !fact.is_empty()) {
            own.observations.push(Observation {
                spec: Arc::clone(&self.clock),
                seen_at: now.mono,
                reading: Reading::Happened(1),
                fact: Cow::Owned(fact),
            });
        }
        let mut rest = Vec::with_capacity(answers.len());
        for answer in answers {
            if answer.source == self.own {
                own.observations.extend(answer.outcome.map(|r| r.observations).unwrap_or_default());
            } else {
                own.observations.push(self.sight(&answer));
                rest.push(answer);
            }
        }
        let own_name = Arc::clone(&self.own);
        self.answered(Answer { source: own_name, at: now.mono, outcome: Ok(own) }, now, &mut out);
        let asked: BTreeSet<Arc<str>> = rest.iter().map(|a| Arc::clone(&a.source)).collect();
        for answer in rest {
            self.answered(answer, now, &mut out);
        }
        let waiting: Vec<Arc<str>> =
            self.groups.keys().filter(|name| **name != self.own && !asked.contains(*name)).cloned().collect();
        for name in waiting {
            self.waited(&name, now, &mut out);
        }
        out
    }

    /// Every signal as it stands, by key within its source.
    pub fn standings(&self) -> impl Iterator<Item = Standing> + '_ {
        self.groups.values().flat_map(|group| group.signals.values()).map(|tracked| Standing {
            key: tracked.spec.key.clone(),
            state: tracked.state,
            severity: tracked.spec.severity,
            title: tracked.spec.title.clone(),
            detail: tracked.fact.to_string(),
            since: tracked.since,
            incident: tracked.incident().cloned(),
            reason: tracked.reason(),
            last_alert_at: tracked.last_alert_at,
        })
    }

    /// What the store should keep of the signal `key`; `None` when there is no such signal.
    pub fn remembered(&self, key: &SignalKey) -> Option<Remembered> {
        self.groups.iter().find_map(|(name, group)| group.signals.get(key).map(|tracked| tracked.remembered(name)))
    }

    /// Every key, for keeping everything.
    pub fn keys(&self) -> Vec<SignalKey> {
        self.groups.values().flat_map(|group| group.signals.keys().cloned()).collect()
    }

    /// How many signals are firing now.
    pub fn firing(&self) -> usize {
        self.groups.values().flat_map(|group| group.signals.values()).filter(|t| t.alert.is_some()).count()
    }

    /// Why the time since the last pass cannot be trusted: empty words for a start, otherwise a fact
    /// for people; `None` when all is well.
    fn disturbance(&self, now: Now) -> Option<String> {
        let Some(last) = self.last else { return self.policy.warm_up.then(String::new) };
        let passed = now.mono.since(last.mono);
        let asleep = passed.saturating_sub(now.awake.since(last.awake));
        let wall_forward = now.wall.since(last.wall);
        let wall_back = last.wall.since(now.wall);
        if asleep > STEP {
            return Some(format!("this machine was suspended for {}", people(asleep)));
        }
        if !wall_back.is_zero() && wall_back + passed > STEP {
            return Some(format!("the clock was set back by {}", people(wall_back + passed)));
        }
        if wall_forward > passed + STEP {
            return Some(format!("the clock was set forward by {}", people(wall_forward.saturating_sub(passed))));
        }
        if passed > wall_forward + STEP {
            return Some(format!("the clock was set back by {}", people(passed.saturating_sub(wall_forward))));
        }
        if passed > (self.policy.tick * MISSED_TICKS).max(STEP) {
            return Some(format!("the watchdog was frozen for {}", people(passed)));
        }
        None
    }

    /// Counts and ages of every signal begin again.
    fn begin_again(&mut self, now: Now, start: bool) {
        self.fresh_since = now.mono;
        for (name, group) in &mut self.groups {
            group.warm = *name == self.own;
            group.cold_since = now.mono;
            // At the start there is nothing to forget but what the store brought, which did that.
            if !start {
                group.signals.values_mut().for_each(Tracked::forget_ages);
            }
        }
    }

    /// The observation of `source/<name>` that follows from an answer.
    fn sight(&mut self, answer: &Answer) -> Observation {
        let group = self.groups.entry(Arc::clone(&answer.source)).or_default();
        let spec = group.own.get_or_insert_with(|| {
            let rule = Rule { recover_after: 1, unknown_after: Duration::ZERO, ..Rule::counted(Test::Verdict) };
            own_spec(
                source_key(&answer.source).as_str(),
                &format!("source {}", answer.source),
                Severity::Critical,
                rule,
            )
        });
        let blind = match &answer.outcome {
            Ok(report) => report.blind.as_ref(),
            Err(reason) => Some(reason),
        };
        let (reading, fact) = match blind {
            None => (Reading::Up, Cow::Borrowed("it sees")),
            Some(reason) => (Reading::Down, Cow::Owned(reason.clone())),
        };
        Observation { spec: Arc::clone(spec), seen_at: answer.at, reading, fact }
    }

    fn answered(&mut self, answer: Answer, now: Now, out: &mut Outcome) {
        let told = self.firing_keys(&answer);
        let policy = self.policy;
        let namer = &mut self.namer;
        let group = self.groups.entry(answer.source).or_default();
        match answer.outcome {
            Ok(report) => {
                group.blind_in_a_row = 0;
                let warm = group.warm || warms(&report, self.fresh_since, group.cold_since, now, policy);
                let mut pass = Pass { policy, now, warming: !group.warm && policy.warm_up, told: &told, namer, out };
                pass.report(&mut group.signals, report);
                group.warm = warm;
            }
            Err(reason) => {
                group.blind_in_a_row = group.blind_in_a_row.saturating_add(1);
                if group.blind_in_a_row == FAIL_AFTER {
                    // A source that was away for long comes back to a world that went on without it.
                    group.warm = false;
                    group.cold_since = now.mono;
                }
                let mut pass = Pass { policy, now, warming: !group.warm && policy.warm_up, told: &told, namer, out };
                for tracked in group.signals.values_mut() {
                    let unseen = Observation {
                        spec: Arc::clone(&tracked.spec),
                        seen_at: answer.at,
                        reading: Reading::Unknown,
                        fact: Cow::Owned(reason.clone()),
                    };
                    pass.one(tracked, Some(unseen));
                }
            }
        }
    }

    fn waited(&mut self, name: &Arc<str>, now: Now, out: &mut Outcome) {
        let told = BTreeSet::new();
        let Some(group) = self.groups.get_mut(name) else { return };
        let mut pass = Pass {
            policy: self.policy,
            now,
            warming: !group.warm && self.policy.warm_up,
            told: &told,
            namer: &mut self.namer,
            out,
        };
        // Only an open conversation can have news without a look: a reminder that is due.
        for tracked in group.signals.values_mut().filter(|t| t.alert.is_some() || t.blind.is_some()) {
            pass.one(tracked, None);
        }
    }

    /// The firing signals that may explain why signals of this answer cannot be seen.
    fn firing_keys(&self, answer: &Answer) -> BTreeSet<SignalKey> {
        let mut told = BTreeSet::new();
        let fires = |key: &SignalKey| {
            [&self.own, &answer.source]
                .into_iter()
                .filter_map(|name| self.groups.get(name))
                .any(|group| group.signals.get(key).is_some_and(|t| t.alert.is_some()))
        };
        let source = source_key(&answer.source);
        if fires(&source) {
            told.insert(source);
        }
        if let Ok(report) = &answer.outcome {
            let parents: BTreeSet<&SignalKey> =
                report.observations.iter().filter_map(|o| o.spec.parent.as_ref()).collect();
            told.extend(parents.into_iter().filter(|key| fires(key)).cloned());
        }
        told
    }

    fn own_group(&mut self) -> &mut Group {
        self.groups.entry(Arc::clone(&self.own)).or_default()
    }

    fn drop_own(&mut self, key: &SignalKey, now: Now, out: &mut Outcome) {
        if let Some(mut tracked) = self.own_group().signals.remove(key) {
            tracked.gone("it is no longer watched", now, &mut out.edges);
            out.removed.push(key.clone());
        }
    }
}

/// What all signals of one answer share while they are judged.
struct Pass<'a> {
    policy: Policy,
    now: Now,
    warming: bool,
    told: &'a BTreeSet<SignalKey>,
    namer: &'a mut Namer,
    out: &'a mut Outcome,
}

impl Pass<'_> {
    /// Walks the known signals and the observations side by side; both are sorted by key, so that
    /// a hundred thousand signals cost one walk. Whatever is out of order is looked up.
    fn report(&mut self, signals: &mut BTreeMap<SignalKey, Tracked>, report: Report) {
        let mut newcomers: Vec<Observation> = Vec::new();
        let mut unseen: BTreeSet<SignalKey> = BTreeSet::new();
        let mut observations = report.observations.into_iter().peekable();
        for (key, tracked) in signals.iter_mut() {
            while let Some(early) = observations.next_if(|o| o.spec.key < *key) {
                newcomers.push(early);
            }
            match observations.next_if(|o| o.spec.key == *key) {
                Some(seen) => self.one(tracked, Some(seen)),
                None => {
                    unseen.insert(key.clone());
                }
            }
        }
        newcomers.extend(observations);
        for seen in newcomers {
            unseen.remove(&seen.spec.key);
            let tracked =
                signals.entry(seen.spec.key.clone()).or_insert_with(|| Tracked::new(Arc::clone(&seen.spec), self.now));
            self.one(tracked, Some(seen));
        }
        for key in unseen {
            if report.complete {
                if let Some(mut tracked) = signals.remove(&key) {
                    tracked.gone("it is no longer reported", self.now, &mut self.out.edges);
                    self.out.removed.push(key);
                }
            } else if let Some(tracked) = signals.get_mut(&key) {
                self.one(tracked, None);
            }
        }
    }

    fn one(&mut self, tracked: &mut Tracked, seen: Option<Observation>) {
        let parent = tracked.spec.parent.as_ref().filter(|key| self.told.contains(*key));
        let told_by = parent.or_else(|| self.told.iter().find(|key| key.as_str().starts_with("source/"))).cloned();
        let scene = Scene {
            now: self.now,
            cooldown: self.policy.cooldown,
            warming: self.warming,
            confirm_at_once: self.policy.confirm_at_once,
            told_by: told_by.as_ref(),
        };
        let decision = match seen {
            Some(seen) => tracked.observe(seen, &scene, self.namer, &mut self.out.edges),
            None => tracked.wait(&scene, self.namer, &mut self.out.edges),
        };
        *self.out.decisions.entry(decision.action).or_default() += 1;
        if std::mem::take(&mut tracked.dirty) {
            self.out.changed.push(tracked.spec.key.clone());
        }
    }
}

/// True when this report ends a source's warm-up: it is complete and every observation in it is
/// later than the disturbance. A source that can never complete (one call that hangs for ever) must
/// not be silent for ever: two ticks end the warm-up as well.
fn warms(report: &Report, fresh_since: Mono, cold_since: Mono, now: Now, policy: Policy) -> bool {
    let fresh = |o: &Observation| o.seen_at >= fresh_since || o.reading == Reading::Unknown;
    let waited = now.mono.since(cold_since) >= (policy.tick * 2).max(Duration::from_secs(1));
    waited || (report.complete && report.observations.iter().all(fresh))
}

/// The key `source/<name>`.
pub fn source_key(name: &str) -> SignalKey {
    SignalKey::new(&format!("source/{name}"))
}

fn is_of_lost_source(key: &SignalKey, sources: &BTreeSet<Arc<str>>) -> bool {
    key.as_str().strip_prefix("source/").is_some_and(|name| !sources.contains(name))
}

fn own_spec(key: &str, title: &str, severity: Severity, rule: Rule) -> Arc<Spec> {
    Arc::new(Spec { key: SignalKey::new(key), title: title.to_string(), severity, rule, parent: None })
}
