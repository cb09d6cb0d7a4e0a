//! One signal over time: what its rule remembers, what was said about it, and what to say now.
//!
//! Two conversations may run about a signal: that it is bad (alert, realert, recovery) and that
//! nobody can see it (unknown, seen). Both are decided by [`decide`] and each has its incident.
//! Never looks at other signals: whether one of them explains this one's blindness is handed in.

mod remembered;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::about::Details;
use super::decide::{Action, Active, Decision, Reason, after, decide};
use super::edge::{Edge, EdgeKind, Incident, Known};
use super::memory::{Condition, Events, Judgement, Look, Memory, Why};
use super::policy::Cooldowns;
use super::rule::Test;
use super::signal::{KEEP_LIMIT, Observation, Spec, State};
use super::talk::{Began, Namer, Talk, Topic};
use super::time::{Mono, Now, Wall};
use super::words;

pub use self::remembered::Remembered;

/// What settling one signal needs to know of the world, and where it puts what is to be said.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The time of this pass.
    pub now: Now,
    /// When the answer was given; no look in it can be later.
    pub at: Mono,
    /// Least time between two alerts of an unchanged signal.
    pub cooldown: Cooldowns,
    /// Look without confirming: the first answer after a start, suspend or clock step.
    pub warming: bool,
    /// One look is enough to confirm (a single pass without memory).
    pub confirm_at_once: bool,
    /// Names new incidents.
    pub namer: &'a mut Namer,
    /// What is to be said, in order.
    pub edges: &'a mut Vec<Edge>,
}

/// What the reason of a signal's standing follows from, together with its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grounds {
    judgement: Judgement,
    decision: Decision,
    is_told: bool,
    explained: bool,
}

/// One signal over time.
#[derive(Debug, Clone)]
pub struct Tracked {
    /// What is always true of it; a stand-in from the store until its source reports it.
    pub spec: Arc<Spec>,
    /// The fact seen last, in words.
    pub fact: Cow<'static, str>,
    /// How it stands.
    pub state: State,
    /// Since when it stands so, by the wall clock.
    pub since: Wall,
    /// When the last alert about it was decided.
    pub last_alert_at: Option<Wall>,
    /// True when something changed that must survive a restart.
    pub dirty: bool,
    alert: Option<Box<Talk>>,
    blind: Option<Box<Talk>>,
    memory: Memory,
    judgement: Judgement,
    decision: Decision,
    bad_since: Option<Box<Began>>,
    blind_since: Option<Box<Now>>,
    /// When its source last spoke of it at all.
    vouched_at: Now,
    /// Another signal that fires explains why this one cannot be seen.
    explained: bool,
    kept: Option<Box<Kept>>,
    /// When the last of them happened, where its source knows.
    kept_at: Option<Wall>,
    /// What the last look had to say besides its fact.
    details: Option<Arc<Details>>,
    /// What its source wants back when it is built again.
    for_source: Option<Arc<str>>,
    /// Only its source's memory speaks of it.
    is_gone: bool,
    /// How it stood when somebody could last tell.
    known: Option<Known>,
}

/// Events that happened in a warm-up: how many, and the last of them in words. Told after it.
type Kept = (u32, String);

impl Tracked {
    /// A signal seen for the first time.
    pub fn new(spec: Arc<Spec>, now: Now) -> Tracked {
        Tracked {
            spec,
            fact: Cow::Borrowed("not checked yet"),
            state: State::Unknown,
            since: now.wall,
            last_alert_at: None,
            dirty: true,
            alert: None,
            blind: None,
            memory: Memory::default(),
            judgement: Judgement::default(),
            decision: Decision { action: Action::Nothing, reason: Reason::CannotTell },
            bad_since: None,
            blind_since: None,
            vouched_at: now,
            explained: false,
            kept: None,
            kept_at: None,
            details: None,
            for_source: None,
            is_gone: false,
            known: None,
        }
    }

    /// True when its source spoke of it at `at` or later, and not from memory alone.
    pub fn is_reported(&self, at: Mono) -> bool {
        self.vouched_at.mono >= at && !self.is_gone
    }

    /// What the last look had to say besides its fact.
    pub fn details(&self) -> Option<&Arc<Details>> {
        self.details.as_ref()
    }

    /// True while it was said to be bad and not said to be over.
    pub fn is_alerted(&self) -> bool {
        self.alert.is_some()
    }

    /// True while it cannot be seen, or just came back into sight, or that was not told yet.
    pub fn is_blind(&self) -> bool {
        self.judgement.condition == Condition::Unknown || self.blind_since.is_some() || self.blind.is_some()
    }

    /// When it was last seen, by a look that told something.
    pub fn seen_at(&self) -> Option<Mono> {
        self.memory.seen_at()
    }

    /// The open incident, if any.
    pub fn incident(&self) -> Option<&Incident> {
        self.alert.as_ref().or(self.blind.as_ref()).map(|talk| &talk.incident)
    }

    /// Time was lost, see [`Memory::break_off`]. With `ages` everything begins again, see
    /// [`Memory::forget_ages`].
    pub fn lose_time(&mut self, ages: bool, now: Now) {
        if ages {
            self.memory.forget_ages();
        } else {
            self.memory.break_off();
        }
        self.judgement = Judgement::default();
        self.blind_since = None;
        self.vouched_at = now;
        if self.alert.is_none() {
            self.bad_since = None;
        }
    }

    /// Its source spoke of it, or it belongs to the program itself, which always knows.
    pub fn vouch(&mut self, now: Now) {
        self.vouched_at = now;
    }

    /// Takes one observation and says what follows from it.
    pub fn observe(&mut self, seen: Observation, scene: &mut Scene<'_>) -> Decision {
        if !Arc::ptr_eq(&self.spec, &seen.spec) {
            self.dirty |= self.spec.severity != seen.spec.severity;
            self.spec = seen.spec;
        }
        let eager;
        let rule = if scene.confirm_at_once {
            eager = self.spec.rule.confirmed_at_once();
            &eager
        } else {
            &self.spec.rule
        };
        let (value, flapping) = (self.memory.value(), self.memory.is_flapping());
        let (reading, seen_at) = (seen.reading, seen.seen_at);
        let look = Look { reading, seen_at, at: scene.at, warming: scene.warming, meant: self.spec.meant };
        let (judgement, events) = self.memory.judge(rule, look);
        let counted_on = matches!(rule.test, Test::Increases { .. }) && value != self.memory.value();
        self.dirty |= counted_on || flapping != self.memory.is_flapping();
        self.judgement = judgement;
        if judgement.condition != Condition::Unknown {
            self.known = Some(Known { is_ok: judgement.condition == Condition::Good, at: scene.now.wall });
        }
        self.fact = seen.fact;
        self.details = seen.details;
        self.vouched_at = scene.now;
        let more = seen.more.map(|more| *more).unwrap_or_default();
        self.is_gone = more.gone;
        if let Some(keep) =
            more.keep.filter(|keep| keep.len() <= KEEP_LIMIT && Some(&**keep) != self.for_source.as_deref())
        {
            self.for_source = Some(keep.into());
            self.dirty = true;
        }
        self.tell_events(events, more.happened_at, scene);
        self.settle(more.happened_at, scene)
    }

    /// What follows from time alone, when there was no look at it in this pass.
    pub fn wait(&mut self, scene: &mut Scene<'_>) -> Decision {
        if self.is_overdue(scene.now) {
            self.memory.break_off();
            self.judgement = Judgement::default();
            self.blind_since = Some(Box::new(self.vouched_at));
            self.details = None;
        }
        self.tell_events(Events::default(), None, scene);
        self.settle(None, scene)
    }

    /// True when time alone may bring news of it: a reminder, an event kept back, a long silence.
    pub fn may_wait(&self, now: Now) -> bool {
        self.alert.is_some() || self.is_blind() || self.kept.is_some() || self.is_overdue(now)
    }

    /// The signal is no longer watched, for the reason `why`, which `happened` says in a few words: whatever was open about it is closed, which says
    /// nothing about whether it is well. False when nothing was open.
    pub fn gone(&mut self, (why, happened): (&'static str, &'static str), now: Now, edges: &mut Vec<Edge>) -> bool {
        self.fact = Cow::Borrowed(why);
        self.details = Some(Arc::new(Details::new(happened, "")));
        let before = edges.len();
        for (topic, talk) in [(Topic::Bad, self.alert.take()), (Topic::Blind, self.blind.take())] {
            edges.extend(talk.map(|talk| self.edge(EdgeKind::Removed, &talk, now, topic.removed().to_string())));
        }
        edges.len() > before
    }

    /// What its source wants back when it is built again.
    pub fn kept_for_source(&self) -> Option<&Arc<str>> {
        self.for_source.as_ref()
    }

    /// What [`reason`](Self::reason) follows from, to know without words whether it is another.
    pub fn grounds(&self) -> Grounds {
        Grounds {
            judgement: self.judgement,
            decision: self.decision,
            is_told: self.alert.is_some(),
            explained: self.explained,
        }
    }

    /// True when its last look was bad, and that is settled.
    pub fn is_bad(&self) -> bool {
        self.judgement.why == Why::Confirmed
    }

    /// Why it stands as it does and why something is or is not said, in one sentence.
    pub fn reason(&self) -> String {
        let mut text = words::standing(self.judgement, &self.spec.rule);
        text.push_str(&words::silence(self.decision, self.alert.is_some()));
        if self.explained {
            text.push_str("; another signal that is failing explains it");
        }
        text
    }

    /// What follows from its being unseen: news of its own after long, unless `explained` by
    /// another signal that fires.
    pub fn settle_blindness(&mut self, explained: bool, scene: &mut Scene<'_>) {
        let limit = self.spec.rule.unknown_after;
        let unknown = self.judgement.condition == Condition::Unknown;
        let began = self
            .blind_since
            .as_deref()
            .filter(|since| unknown && since.mono <= scene.now.mono)
            .copied()
            .unwrap_or(scene.now);
        let long = !limit.is_zero() && scene.now.mono.since(began.mono) >= limit && !scene.warming;
        self.blind_since = unknown.then(|| Box::new(began));
        self.explained = unknown && explained;
        let active = match (unknown, explained) {
            (true, true) => Active::Unknown,
            (true, false) if long || self.blind.is_some() => Active::Yes,
            _ => Active::No,
        };
        self.converse(Topic::Blind, active, Began::noticed(began), scene);
    }

    fn is_overdue(&self, now: Now) -> bool {
        let limit = self.spec.rule.unknown_after;
        let seen = self.judgement.condition != Condition::Unknown;
        seen && !limit.is_zero() && now.mono.since(self.vouched_at.mono) >= limit
    }

    /// Events alert on each occurrence and keep no state; those of a warm-up are told after it.
    fn tell_events(&mut self, events: Events, at: Option<Wall>, scene: &mut Scene<'_>) {
        if events.count == 0 && self.kept.is_none() {
            return;
        }
        let happened = (events.count > 0).then(|| match events.rise {
            Some((from, to)) => (events.count, format!("{} (rose from {from} to {to})", self.fact)),
            None => (events.count, self.fact.to_string()),
        });
        if !scene.warming {
            let kept = self.kept.take().map(|kept| (*kept, self.kept_at.take()));
            for (event, at) in kept.into_iter().chain(happened.map(|event| (event, at))) {
                self.tell_event(event, at, scene);
            }
        } else if let Some((count, fact)) = happened {
            let before = self.kept.take().map_or(0, |kept| kept.0);
            self.kept = Some(Box::new((before.saturating_add(count), fact)));
            self.kept_at = at;
            self.dirty = true;
        }
    }

    fn tell_event(&mut self, (count, fact): Kept, at: Option<Wall>, scene: &mut Scene<'_>) {
        let now = scene.now;
        let talk = Talk::open(scene.namer.name(&self.spec.key, now), Began::happened(at, now), now);
        // That it happened is what the fact says.
        let reason = if count > 1 { format!("it happened {count} times") } else { String::new() };
        let edge = self.edge(EdgeKind::Alert, &talk, now, reason);
        scene.edges.push(Edge { fact, ..edge });
        self.last_alert_at = Some(now.wall);
        self.dirty = true;
    }

    /// `happened`: when what was seen in this pass happened, where its source knows.
    fn settle(&mut self, happened: Option<Wall>, scene: &mut Scene<'_>) -> Decision {
        let condition = self.judgement.condition;
        match condition {
            Condition::Bad | Condition::Pending => {
                self.bad_since.get_or_insert_with(|| Box::new(Began::happened(happened, scene.now)));
            }
            Condition::Good => self.bad_since = None,
            Condition::Unknown => {}
        }
        let active = match condition {
            Condition::Bad => Active::Yes,
            Condition::Good | Condition::Pending => Active::No,
            Condition::Unknown => Active::Unknown,
        };
        let began = self.bad_since.as_deref().copied().unwrap_or_else(|| Began::noticed(scene.now));
        self.decision = self.converse(Topic::Bad, active, began, scene);
        let (state, since) = match (condition, &self.alert) {
            (Condition::Unknown, _) => (State::Unknown, scene.now.wall),
            (_, Some(talk)) => (State::Firing, talk.since_wall),
            (Condition::Pending, None) => (State::Pending, began.since.wall),
            _ => (State::Ok, scene.now.wall),
        };
        if state != self.state {
            self.state = state;
            self.since = since;
            self.dirty = true;
        }
        self.decision
    }

    /// One step of a conversation: decide, remember, speak.
    fn converse(&mut self, topic: Topic, active: Active, began: Began, scene: &mut Scene<'_>) -> Decision {
        let (now, severity) = (scene.now, self.spec.severity);
        let flapping = topic == Topic::Bad && matches!(self.judgement.why, Why::Flapping(_));
        let meant = self.spec.meant && topic == Topic::Bad;
        let cooldown = self.spec.about.as_ref().and_then(|about| about.cooldown);
        let cooldown = cooldown.unwrap_or_else(|| scene.cooldown.of(severity));
        let cooldown = if meant { Duration::ZERO } else { cooldown };
        let open = self.talk(topic);
        let prev = open.as_ref().map(|talk| talk.said);
        let mut decision = decide(active, prev, now.mono, cooldown);
        let severity = (topic == Topic::Bad && active == Active::Yes).then_some(severity);
        let is_news = open.as_ref().is_some_and(|talk| talk.is_news(severity, flapping, meant));
        if decision.action == Action::Hold && is_news {
            let reason = if meant { Reason::Meant } else { Reason::Worse };
            decision = Decision { action: Action::Realert, reason };
        }
        if decision.action == Action::Alert {
            let incident = scene.namer.name(&self.spec.key, now);
            *self.talk(topic) = Some(Box::new(Talk::open(incident, began, now)));
        }
        if let (Some(talk), Some(said)) = (self.talk(topic), after(decision, prev, now.mono))
            && prev != Some(said)
        {
            talk.said = said;
            talk.said_wall = now.wall;
            self.dirty = true;
        }
        let kind = match decision.action {
            Action::Hold | Action::Nothing => return decision,
            Action::Alert => topic.opens(),
            Action::Realert => topic.repeats(),
            Action::Recovery => topic.closes(),
        };
        if let Some(mut talk) = self.talk(topic).take() {
            talk.flapping |= flapping;
            // The end is not of the severity that its next trouble would have.
            if !kind.closes() && !talk.tell(self.spec.severity, meant) && kind == EdgeKind::Realert {
                talk.reminders = talk.reminders.saturating_add(1);
            }
            let reason = words::edge(topic, decision, self.judgement, &self.spec.rule);
            scene.edges.push(self.edge(kind, &talk, now, reason));
            if !kind.closes() {
                talk.was = self.fact.to_string();
                *self.talk(topic) = Some(talk);
                self.last_alert_at = Some(now.wall);
            }
            self.dirty = true;
        }
        decision
    }

    fn talk(&mut self, topic: Topic) -> &mut Option<Box<Talk>> {
        match topic {
            Topic::Bad => &mut self.alert,
            Topic::Blind => &mut self.blind,
        }
    }

    /// The edge that tells of what is open about it; `None` when nothing is.
    pub fn open_edge(&self, now: Now) -> Option<Edge> {
        let (topic, talk) = match (&self.alert, &self.blind) {
            (Some(talk), _) => (Topic::Bad, talk),
            (None, Some(talk)) => (Topic::Blind, talk),
            (None, None) => return None,
        };
        Some(self.edge(topic.opens(), talk, now, "no longer silenced".to_string()))
    }

    /// What is told of it: the fact, and what the look had to say besides, or else what is always said of it.
    fn told(&self, kind: EdgeKind) -> (String, Details) {
        let own = self.details.as_deref();
        if !matches!(kind, EdgeKind::Alert | EdgeKind::Realert) {
            // What can be checked again may be bad; that is told by itself.
            let own = own.filter(|_| kind != EdgeKind::Seen);
            return (self.fact.to_string(), own.cloned().unwrap_or_default());
        }
        let usual = self.spec.about.as_deref().and_then(|about| about.usual.as_deref());
        let mut details = own.or(usual).cloned().unwrap_or_default();
        let fact = match (self.judgement.why, self.spec.rule.test) {
            (Why::Flapping(changes), _) => {
                details.happened = Cow::Borrowed(words::FLAPS);
                if details.advice.is_empty() {
                    details.advice = Cow::Owned(format!("watchdog history '{}' --since 1h", self.spec.key));
                }
                words::flapping(changes, self.memory.is_good(), &self.fact)
            }
            (_, Test::Stalls) => words::stands(&self.fact, self.memory.held(), self.spec.rule.hold),
            _ => self.fact.to_string(),
        };
        (fact, details)
    }

    fn edge(&self, kind: EdgeKind, talk: &Talk, now: Now, reason: String) -> Edge {
        let (fact, details) = self.told(kind);
        Edge {
            kind,
            key: self.spec.key.clone(),
            title: self.spec.title.to_string(),
            // The end is told as loudly as the worst of it.
            severity: talk.worst.filter(|_| kind.closes()).unwrap_or(self.spec.severity),
            fact,
            since: talk.since_wall,
            at: now.wall,
            noticed: talk.noticed,
            lasted: now.mono.since(talk.since),
            incident: talk.incident.clone(),
            reason,
            about: self.spec.about.clone().unwrap_or_default(),
            details,
            known: self.known.filter(|_| kind == EdgeKind::Unknown),
            reminder: if kind == EdgeKind::Realert { talk.reminders } else { 0 },
            was: talk.was.clone(),
        }
    }
}
