//! The whole picture over time: every source, every signal, and one pure step per pass.
//!
//! [`Watch::tick`] takes the clocks and the answers of the sources and gives back what must be
//! remembered and said. It notices by itself when time was lost (start, suspend, frozen process,
//! stepped clock) and then lets every source answer once before it counts again: blind time is
//! neither good nor bad. A source that cannot see raises `source/<name>`; its signals turn unknown.

mod forget;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::decide::Action;
use super::edge::{Edge, Incident};
use super::gap::{Gap, Gaps};
use super::group::{Gathered, Group, Pass, Signals};
use super::rule::{FAIL_AFTER, Rule, Test};
use super::signal::{Answer, More, Observation, Reading, Report, Severity, SignalKey, Spec, State};
use super::talk::Namer;
use super::time::{Mono, Now, Wall};
use super::tracked::{Remembered, Tracked};

pub use self::forget::{Forgotten, Refusal};
pub use super::policy::{Cooldowns, Policy};

/// The name of the source that the program itself is: `source/*`, `clock/step`, `channel/*`.
pub const OWN: &str = "watchdog";

/// Said of a signal whose source or channel is no longer configured.
const UNCONFIGURED: (&str, &str) = ("no longer configured, no longer watched", "is no longer configured");

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

/// How many signals of one source stand how, for the first screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Checked and OK.
    pub ok: usize,
    /// Failing: alerted, or not yet for long enough.
    pub failing: usize,
    /// Not checked yet, or impossible to check.
    pub unknown: usize,
}

/// The state of the core.
#[derive(Debug, Clone)]
pub struct Watch {
    policy: Policy,
    /// The program's own name as a source.
    name: Arc<str>,
    own: Group,
    groups: BTreeMap<Arc<str>, Group>,
    clock: Arc<Spec>,
    last: Option<Now>,
    gaps: Gaps,
    fresh_since: Mono,
    namer: Namer,
}

impl Watch {
    /// A core that has seen nothing yet.
    pub fn new(policy: Policy) -> Watch {
        let rule = Rule { unknown_after: Duration::ZERO, ..Rule::at_once(Test::Event) };
        Watch {
            policy,
            name: Arc::from(OWN),
            own: Group::default(),
            groups: BTreeMap::new(),
            clock: own_spec(SignalKey::new("clock/step"), "the clock".to_string(), Severity::Info, rule),
            last: None,
            gaps: Gaps::default(),
            fresh_since: Mono(i64::MIN),
            namer: Namer::default(),
        }
    }

    /// Takes back what an earlier run remembered. With `counts` also the looks in a row, for single
    /// passes that follow one another.
    pub fn restore(&mut self, rows: Vec<(SignalKey, Remembered)>, now: Now, same_boot: bool, counts: bool) {
        for (key, row) in rows {
            let group = if row.source == self.name {
                &mut self.own
            } else {
                self.groups.entry(Arc::clone(&row.source)).or_default()
            };
            let tracked = Tracked::restored(key.clone(), row, now, same_boot, counts, self.policy.cooldown);
            group.signals.insert(key, Box::new(tracked));
        }
    }

    /// Changes the policy (the configuration was read again).
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Nothing is watched for the time being: what is open stays open and is said nothing about, and
    /// the next pass begins like the first after a start.
    pub fn idle(&mut self, now: Now) {
        self.last = None;
        self.all_signals().for_each(|tracked| tracked.lose_time(true, now));
    }

    /// Only observations later than this count as looks after the last start, suspend or clock step.
    pub fn fresh_since(&self) -> Mono {
        self.fresh_since
    }

    /// Forgets sources and channels that are no longer configured and closes what was open about them.
    pub fn keep_only(&mut self, sources: &BTreeSet<Arc<str>>, channels: &BTreeSet<Arc<str>>, now: Now) -> Outcome {
        let is_lost = |key: &SignalKey| match key.as_str().split_once('/') {
            Some(("source", name)) => !sources.contains(name),
            Some(("channel", name)) => !channels.contains(name.split('/').next().unwrap_or(name)),
            _ => false,
        };
        let mut gone: Signals = self.own.signals.extract_if(.., |key, _| is_lost(key)).collect();
        for (_, group) in self.groups.extract_if(.., |name, _| !sources.contains(name)) {
            gone.extend(group.signals);
        }
        let mut out = Outcome::default();
        for (key, mut tracked) in gone {
            tracked.gone(UNCONFIGURED, now, &mut out.edges);
            out.removed.push(key);
        }
        out
    }

    /// One pass. `answers` holds one answer per source that was asked; a source that was not asked
    /// is judged by time alone.
    pub fn tick(&mut self, now: Now, answers: Vec<Answer>) -> Outcome {
        let mut own = vec![self.notice(now)];
        let mut others = Vec::with_capacity(answers.len());
        for answer in answers {
            if answer.source == self.name {
                own.extend(answer.outcome.map(|report| report.observations).unwrap_or_default());
            } else {
                own.push(self.sight(&answer, now));
                others.push(answer);
            }
        }
        let mut out = Gathered::default();
        let mut pass =
            Pass { policy: self.policy, now, fresh_since: self.fresh_since, namer: &mut self.namer, out: &mut out };
        self.own.own(own, &mut pass);
        let asked: BTreeSet<Arc<str>> = others.iter().map(|answer| Arc::clone(&answer.source)).collect();
        for answer in others {
            let group = self.groups.entry(Arc::clone(&answer.source)).or_insert_with(|| Group::new(now));
            let sight = source_key(&answer.source);
            group.answered(&sight, answer, &self.own.signals, &mut pass);
        }
        for (name, group) in self.groups.iter_mut().filter(|(name, _)| !asked.contains(*name)) {
            group.not_asked(&source_key(name), &self.own.signals, &mut pass);
        }
        let decisions = out.decisions();
        Outcome { edges: out.edges, changed: out.changed, removed: out.removed, decisions }
    }

    /// Every signal as it stands: the program's own, then by source, then by key.
    pub fn standings(&self) -> impl Iterator<Item = Standing> + '_ {
        self.tracked().map(|tracked| Standing {
            key: tracked.spec.key.clone(),
            state: tracked.state,
            severity: tracked.spec.severity,
            title: tracked.spec.title.to_string(),
            detail: tracked.fact.to_string(),
            since: tracked.since,
            incident: tracked.incident().cloned(),
            reason: tracked.reason(),
            last_alert_at: tracked.last_alert_at,
        })
    }

    /// How the signal `key` stands, when it was looked at last, and its open incident.
    pub fn looked(&self, key: &SignalKey) -> Option<(State, Option<Mono>, Option<&Incident>)> {
        let tracked = [&self.own].into_iter().chain(self.groups.values()).find_map(|group| group.signals.get(key))?;
        Some((tracked.state, tracked.seen_at(), tracked.incident()))
    }

    /// True when the signal `key` fires by its last look, and does not flap: one that is about to recover, or that
    /// changes all the time, agrees to nothing.
    pub fn is_bad(&self, key: &SignalKey) -> bool {
        let tracked = [&self.own].into_iter().chain(self.groups.values()).find_map(|group| group.signals.get(key));
        tracked.is_some_and(|tracked| tracked.state == State::Firing && tracked.is_bad())
    }

    /// The edge that tells of what is open about the signal `key`, for whoever was not told when it began; `None` when
    /// nothing is.
    pub fn open_edge(&self, key: &SignalKey, now: Now) -> Option<Edge> {
        let tracked = [&self.own].into_iter().chain(self.groups.values()).find_map(|group| group.signals.get(key))?;
        tracked.open_edge(now)
    }

    /// What the store should keep of the signal `key`; `None` when there is no such signal.
    pub fn remembered(&self, key: &SignalKey) -> Option<Remembered> {
        [(&self.name, &self.own)]
            .into_iter()
            .chain(&self.groups)
            .find_map(|(name, group)| group.signals.get(key).map(|tracked| tracked.remembered(name)))
    }

    /// When the last pass was; `None` before the first.
    pub fn last_at(&self) -> Option<Mono> {
        self.last.map(|last| last.mono)
    }

    /// What sources want back when they are built again, by signal.
    pub fn kept_for_sources(&self) -> BTreeMap<SignalKey, Arc<str>> {
        let kept = |tracked: &Tracked| Some((tracked.spec.key.clone(), Arc::clone(tracked.kept_for_source()?)));
        self.tracked().filter_map(kept).collect()
    }

    /// Every key, for keeping everything.
    pub fn keys(&self) -> Vec<SignalKey> {
        self.tracked().map(|tracked| tracked.spec.key.clone()).collect()
    }

    /// How the signals of one source stand; nothing where there is no such source.
    pub fn tally(&self, source: &str) -> Tally {
        let mut tally = Tally::default();
        for tracked in self.groups.get(source).into_iter().flat_map(|group| group.signals.values()) {
            match tracked.state {
                State::Ok => tally.ok += 1,
                State::Pending | State::Firing => tally.failing += 1,
                State::Unknown => tally.unknown += 1,
            }
        }
        tally
    }

    /// How many signals are firing now.
    pub fn firing(&self) -> usize {
        self.tracked().filter(|tracked| tracked.is_alerted()).count()
    }

    /// Every signal: the program's own, then by source, then by key.
    pub fn tracked(&self) -> impl Iterator<Item = &Tracked> {
        let groups = [&self.own].into_iter().chain(self.groups.values());
        groups.flat_map(|group| group.signals.values().map(AsRef::as_ref))
    }

    /// Looks at the clocks: was time lost since the last pass? A start and a gap that stands alone
    /// open a warm-up. The observation of `clock/step` that follows.
    fn notice(&mut self, now: Now) -> Observation {
        match self.last.replace(now) {
            Some(last) => self.compare(last, now),
            None if self.policy.warm_up => self.cool(now),
            None => {}
        }
        match self.gaps.tell(now.mono) {
            Some((count, gap)) => {
                Observation::new(&self.clock, now.mono, Reading::Happened(count), gap.fact()).with(gap.details())
            }
            None => Observation::new(&self.clock, now.mono, Reading::Happened(0), "the clocks run evenly"),
        }
    }

    fn compare(&mut self, last: Now, now: Now) {
        let gap = Gap::between(last, now, self.policy.tick);
        let alone = self.gaps.note(gap);
        // A frozen process among many freezes is only a slow one: its looks are as good as any.
        if gap.is_some_and(|gap| gap.lost_time() && (alone || gap.is_of_machine())) {
            self.all_signals().for_each(|tracked| tracked.lose_time(alone, now));
        }
        if alone && self.policy.warm_up {
            self.cool(now);
        }
    }

    fn cool(&mut self, now: Now) {
        self.fresh_since = now.mono;
        self.groups.values_mut().for_each(|group| group.cool(now));
    }

    fn all_signals(&mut self) -> impl Iterator<Item = &mut Tracked> {
        let groups = [&mut self.own].into_iter().chain(self.groups.values_mut());
        groups.flat_map(|group| group.signals.values_mut().map(AsMut::as_mut))
    }

    /// The observation of `source/<name>` that follows from an answer.
    fn sight(&mut self, answer: &Answer, now: Now) -> Observation {
        let group = self.groups.entry(Arc::clone(&answer.source)).or_insert_with(|| Group::new(now));
        let spec = group.sight.get_or_insert_with(|| {
            // Looks that news brought early are not proof: it must be blind for about as long as the grid takes
            // to count; half a tick less, so that the last of the grid's own looks is never a little too early.
            let tick = self.policy.tick;
            let hold = tick.saturating_mul(FAIL_AFTER.saturating_sub(1)).saturating_sub(tick / 2);
            let rule = Rule { recover_after: 1, hold, unknown_after: Duration::ZERO, ..Rule::counted(Test::Verdict) };
            let title = format!("source {}", answer.source);
            own_spec(source_key(&answer.source), title, Severity::Critical, rule)
        });
        let (reading, fact) = match &answer.outcome {
            Ok(Report { blind: Some(reason), .. }) | Err(reason) => (Reading::Down, Cow::Owned(reason.clone())),
            Ok(Report { note: Some(note), .. }) => (Reading::Up, Cow::Owned(note.clone())),
            Ok(_) => (Reading::Up, Cow::Borrowed("it answers")),
        };
        let happened_at = answer.outcome.as_ref().ok().and_then(|report| report.blind_since);
        let seen = Observation::new(spec, now.mono, reading, fact);
        let seen = Observation { details: answer.details.clone(), ..seen };
        if happened_at.is_none() { seen } else { seen.knowing(More { happened_at, ..More::default() }) }
    }
}

/// The key `source/<name>`.
pub fn source_key(name: &str) -> SignalKey {
    SignalKey::new(&format!("source/{name}"))
}

fn own_spec(key: SignalKey, title: String, severity: Severity, rule: Rule) -> Arc<Spec> {
    Arc::new(Spec::new(key, title, severity, rule))
}
