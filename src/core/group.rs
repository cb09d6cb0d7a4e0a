//! One source and its signals: walks an answer along the known signals, and keeps the warm-up.
//!
//! After a start, a gap or a long blindness the first full answer only sets the baseline. A signal
//! that a complete report leaves out is gone; one that a partial report leaves out stands as it
//! stood until it is overdue. Never looks at the signals of another source, but for the program's
//! own, which may explain why these cannot be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::about::{About, Details};
use super::decide::{Action, Decision};
use super::edge::{Edge, EdgeKind};
use super::policy::Policy;
use super::rule::FAIL_AFTER;
use super::signal::{Answer, Observation, Reading, Removal, Report, Severity, SignalKey, Spec};
use super::talk::Namer;
use super::time::{Mono, Now};
use super::tracked::{Scene, Tracked};

/// The signals of one source, or of the program itself. Boxed: nearly half of the places in a tree's leaves are
/// free, and a signal over time is large.
pub type Signals = BTreeMap<SignalKey, Box<Tracked>>;

/// Said of a signal whose subject is gone.
const REMOVED: (&str, &str) = ("removed, no longer watched", "was removed");
/// Bytes of the names of removed signals in one line at most.
const NAMES_LIMIT: usize = 480;

/// What one pass gathers while it walks the groups.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What is to be said, in order.
    pub edges: Vec<Edge>,
    /// Signals whose remembered form changed.
    pub changed: Vec<SignalKey>,
    /// Signals that are no more.
    pub removed: Vec<SignalKey>,
    decided: [u64; Action::ALL.len()],
}

impl Gathered {
    /// How often each action was decided; nothing for those that never were.
    pub fn decisions(&self) -> BTreeMap<Action, u64> {
        Action::ALL.into_iter().zip(self.decided).filter(|(_, count)| *count > 0).collect()
    }

    fn count(&mut self, decision: Decision) {
        if let Some(count) = self.decided.get_mut(decision.action as usize) {
            *count += 1;
        }
    }
}

/// One source as the core knows it.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Its signals.
    pub signals: Signals,
    /// The spec of `source/<name>`, made when it is first needed.
    pub sight: Option<Arc<Spec>>,
    /// It has answered fully since the last disturbance.
    warm: bool,
    /// Since when its answers only set the baseline.
    cold_since: Mono,
    blind_in_a_row: u32,
    /// When it last looked and saw something; `None` before the first time.
    answered_at: Option<Mono>,
}

/// What all groups share in one pass.
#[derive(Debug)]
pub struct Pass<'a> {
    /// The policy in force.
    pub policy: Policy,
    /// When the pass began.
    pub now: Now,
    /// Only observations later than this count as looks after the last start, suspend or clock step.
    pub fresh_since: Mono,
    /// Names new incidents.
    pub namer: &'a mut Namer,
    /// Where everything that follows is put.
    pub out: &'a mut Gathered,
}

impl Group {
    /// A source that has not answered yet: its first full answer only sets the baseline.
    pub fn new(now: Now) -> Group {
        Group { cold_since: now.mono, ..Group::default() }
    }

    /// True when this source can see and spoke of `tracked` in its last answer, and not from memory alone.
    pub fn reports(&self, tracked: &Tracked) -> bool {
        self.blind_in_a_row == 0 && self.answered_at.is_some_and(|at| tracked.is_reported(at))
    }

    /// The next full answer only sets the baseline.
    pub fn cool(&mut self, now: Now) {
        self.warm = false;
        self.cold_since = now.mono;
    }

    /// The signals of the program itself, which has no blindness and needs no warm-up.
    pub fn own(&mut self, observations: Vec<Observation>, pass: &mut Pass<'_>) {
        self.signals.values_mut().for_each(|tracked| tracked.vouch(pass.now));
        let at = observations.iter().map(|o| o.seen_at).fold(pass.now.mono, Mono::max);
        let report = Report { observations, ..Report::default() };
        let mut walk = Walk { at, warming: false, blind: Vec::new(), pass: &mut *pass };
        walk.report(&mut self.signals, report);
        let blind = walk.blind;
        self.settle_blindness(blind, None, pass, false);
    }

    /// Takes the answer of this source. `own`: the signals of the program itself.
    pub fn answered(&mut self, source: &SignalKey, answer: Answer, own: &Signals, pass: &mut Pass<'_>) {
        let at = answer.at.max(pass.now.mono);
        let explains = own.get(source).is_some_and(|tracked| tracked.is_alerted());
        match answer.outcome {
            Ok(report) => {
                self.blind_in_a_row = 0;
                self.answered_at = Some(pass.now.mono);
                let warming = pass.policy.warm_up && !self.warm;
                self.warm = self.warm || self.waited(pass) || is_full(&report, pass.fresh_since);
                let mut walk = Walk { at, warming, blind: Vec::new(), pass: &mut *pass };
                walk.report(&mut self.signals, report);
                let blind = walk.blind;
                self.settle_blindness(blind, Some((explains, own)), pass, warming);
            }
            Err(reason) => {
                self.blind_in_a_row = self.blind_in_a_row.saturating_add(1);
                if self.blind_in_a_row == FAIL_AFTER {
                    // A source that was away for long comes back to a world that went on without it.
                    self.cool(pass.now);
                }
                let warming = self.is_cold(pass);
                let mut walk = Walk { at, warming, blind: Vec::new(), pass: &mut *pass };
                for tracked in self.signals.values_mut() {
                    let seen = Observation::new(&tracked.spec, at, Reading::Unknown, reason.clone());
                    walk.one(tracked, Some(seen));
                }
                let blind = walk.blind;
                self.settle_blindness(blind, Some((explains, own)), pass, warming);
            }
        }
    }

    /// What follows from time alone, when the source was not asked in this pass.
    pub fn not_asked(&mut self, source: &SignalKey, own: &Signals, pass: &mut Pass<'_>) {
        let explains = own.get(source).is_some_and(|tracked| tracked.is_alerted());
        let (now, warming) = (pass.now, self.is_cold(pass));
        let mut walk = Walk { at: now.mono, warming, blind: Vec::new(), pass: &mut *pass };
        for tracked in self.signals.values_mut().filter(|tracked| tracked.may_wait(now)) {
            walk.one(tracked, None);
        }
        let blind = walk.blind;
        self.settle_blindness(blind, Some((explains, own)), pass, warming);
    }

    /// While the source does not answer, a warm-up keeps back what time alone would say; not for
    /// longer than two ticks.
    fn is_cold(&self, pass: &Pass<'_>) -> bool {
        pass.policy.warm_up && !self.warm && !self.waited(pass)
    }

    /// A source that can never answer fully (one call that hangs for ever) must not be silent for
    /// ever: two ticks end the warm-up as well, and so does a clock that went back behind it.
    fn waited(&self, pass: &Pass<'_>) -> bool {
        let limit = pass.policy.tick.saturating_mul(2).max(Duration::from_secs(1));
        pass.now.mono < self.cold_since || pass.now.mono.since(self.cold_since) >= limit
    }

    /// Tells of the signals that cannot be seen, once all signals were judged: whether the signal
    /// that explains it fires is only known then. `others`: whether `source/<name>` fires, and the
    /// program's own signals; nothing for the program itself.
    fn settle_blindness(
        &mut self,
        blind: Vec<SignalKey>,
        others: Option<(bool, &Signals)>,
        pass: &mut Pass<'_>,
        warming: bool,
    ) {
        let mut walk = Walk { at: pass.now.mono, warming, blind: Vec::new(), pass };
        for key in blind {
            let parent = self.signals.get(&key).and_then(|tracked| tracked.spec.parent.as_ref());
            let fires = |parent: &SignalKey| {
                [Some(&self.signals), others.map(|(_, own)| own)]
                    .into_iter()
                    .flatten()
                    .any(|signals| signals.get(parent).is_some_and(|tracked| tracked.is_alerted()))
            };
            let explained = others.is_some_and(|(source, _)| source) || parent.is_some_and(fires);
            if let Some(tracked) = self.signals.get_mut(&key) {
                tracked.settle_blindness(explained, &mut walk.scene());
                walk.keep(tracked);
            }
        }
    }
}

/// One answer on its walk along the signals.
struct Walk<'a, 'p> {
    at: Mono,
    warming: bool,
    /// Signals whose blindness is to be settled after the walk.
    blind: Vec<SignalKey>,
    pass: &'a mut Pass<'p>,
}

impl Walk<'_, '_> {
    fn scene(&mut self) -> Scene<'_> {
        Scene {
            now: self.pass.now,
            at: self.at,
            cooldown: self.pass.policy.cooldown,
            warming: self.warming,
            confirm_at_once: self.pass.policy.confirm_at_once,
            namer: self.pass.namer,
            edges: &mut self.pass.out.edges,
        }
    }

    /// Walks the known signals and the observations side by side; both are sorted by key, so that
    /// a hundred thousand signals cost one walk. Whatever is out of order is looked up.
    fn report(&mut self, signals: &mut Signals, report: Report) {
        report.removals.iter().for_each(|removal| self.remove(signals, removal));
        let mut newcomers: Vec<Observation> = Vec::new();
        let mut unseen: BTreeSet<SignalKey> = BTreeSet::new();
        let mut observations = report.observations.into_iter().peekable();
        for (key, tracked) in signals.iter_mut() {
            // A source hands out the same spec each time, and then no key needs to be read.
            let mut seen = observations.next_if(|o| Arc::ptr_eq(&o.spec, &tracked.spec));
            while seen.is_none()
                && let Some(next) = observations.next_if(|o| o.spec.key <= *key)
            {
                if next.spec.key == *key {
                    seen = Some(next);
                } else {
                    newcomers.push(next);
                }
            }
            if seen.is_some() {
                self.one(tracked, seen);
            } else {
                unseen.insert(key.clone());
            }
        }
        newcomers.extend(observations);
        // What is gone was told when it went: the memory of it begins no signal.
        newcomers.retain(|seen| !seen.more.as_ref().is_some_and(|more| more.gone) || unseen.contains(&seen.spec.key));
        for seen in newcomers {
            unseen.remove(&seen.spec.key);
            let tracked = signals
                .entry(seen.spec.key.clone())
                .or_insert_with(|| Box::new(Tracked::new(Arc::clone(&seen.spec), self.pass.now)));
            self.one(tracked, Some(seen));
        }
        for key in unseen {
            if report.complete {
                if let Some(mut tracked) = signals.remove(&key) {
                    tracked.gone(REMOVED, self.pass.now, &mut self.pass.out.edges);
                    self.pass.out.removed.push(key);
                }
            } else if let Some(tracked) = signals.get_mut(&key) {
                self.one(tracked, None);
            }
        }
    }

    /// Forgets what somebody removed. An open incident is closed; what was well is told in one line.
    fn remove(&mut self, signals: &mut Signals, removal: &Removal) {
        let now = self.pass.now;
        let mut well: Vec<Box<Tracked>> = Vec::new();
        for key in &removal.signals {
            let Some(mut tracked) = signals.remove(key) else { continue };
            self.pass.out.removed.push(key.clone());
            if !tracked.gone(REMOVED, now, &mut self.pass.out.edges) {
                well.push(tracked);
            }
        }
        let (key, title, fact) = match well.as_slice() {
            [] => return,
            [one] => (&one.spec.key, &one.spec.title, REMOVED.0.to_string()),
            many => (&removal.key, &removal.title, format!("{}: {}", REMOVED.0, names(many))),
        };
        self.pass.out.edges.push(Edge {
            kind: EdgeKind::Removed,
            key: key.clone(),
            title: title.to_string(),
            severity: Severity::Info,
            fact,
            since: now.wall,
            at: now.wall,
            incident: self.pass.namer.name(key, now),
            reason: "nothing was open about it".to_string(),
            details: Details::new(if well.len() > 1 { "were removed" } else { REMOVED.1 }, ""),
            about: shared(&well),
            ..Edge::default()
        });
    }

    fn one(&mut self, tracked: &mut Tracked, seen: Option<Observation>) {
        let mut scene = self.scene();
        let decision = match seen {
            Some(seen) => tracked.observe(seen, &mut scene),
            None => tracked.wait(&mut scene),
        };
        self.pass.out.count(decision);
        // A blind signal is kept after its blindness was settled, too.
        if tracked.is_blind() {
            self.blind.push(tracked.spec.key.clone());
        } else {
            self.keep(tracked);
        }
    }

    fn keep(&mut self, tracked: &mut Tracked) {
        if std::mem::take(&mut tracked.dirty) {
            self.pass.out.changed.push(tracked.spec.key.clone());
        }
    }
}

/// What can be said of all of them: everything about one, and of several what they belong to.
fn shared(removed: &[Box<Tracked>]) -> Arc<About> {
    let mut abouts = removed.iter().map(|tracked| tracked.spec.about.clone().unwrap_or_default());
    let Some(first) = abouts.next() else { return Arc::default() };
    if removed.len() == 1 {
        return first;
    }
    let (mut group, mut cause) = (Arc::clone(&first.group), Arc::clone(&first.cause));
    for about in abouts {
        group = if about.group == group { group } else { Arc::default() };
        cause = if about.cause == cause { cause } else { Arc::default() };
    }
    Arc::new(About { group, cause, ..About::default() })
}

/// The names of removed signals, and how many more there are than a message can hold.
fn names(removed: &[Box<Tracked>]) -> String {
    let mut text = String::new();
    for (index, tracked) in removed.iter().enumerate() {
        let key = tracked.spec.key.as_str();
        let name = key.split_once('/').map_or(key, |(_, name)| name);
        if text.len() + name.len() > NAMES_LIMIT {
            return format!("{text} and {} more", removed.len() - index);
        }
        text.push_str(if index == 0 { "" } else { ", " });
        text.push_str(name);
    }
    text
}

/// True when this report ends a warm-up: it is complete and every observation in it is later than
/// the disturbance.
fn is_full(report: &Report, fresh_since: Mono) -> bool {
    report.complete && report.observations.iter().all(|o| o.seen_at >= fresh_since || o.reading == Reading::Unknown)
}
