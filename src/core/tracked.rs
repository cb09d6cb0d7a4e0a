//! One signal over time: what its rule remembers, what was said about it, and what to say now.
//!
//! Two conversations may run about a signal: that it is bad (alert, realert, recovery) and that
//! nobody can see it (unknown, seen). Both are decided by [`decide`] and each has its incident.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decide::{Action, Active, Decision, Reason, Said, after, decide};
use super::edge::{Edge, EdgeKind, Incident};
use super::rule::{Condition, FLAP_LOOKS, Judgement, Memory, Rule, Test, Why};
use super::signal::{Observation, Severity, SignalKey, Spec, State};
use super::time::{Mono, Now, Wall, people};

/// A conversation with a person about one trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talk {
    /// Its incident.
    pub incident: Incident,
    /// What was said last, and when.
    pub said: Said,
    /// The same instant by the wall clock, to bridge a reboot.
    pub said_wall: Wall,
    /// When the trouble began.
    pub since: Mono,
    /// The same by the wall clock.
    pub since_wall: Wall,
}

/// Names incidents. Names are drawn from 28⁶ = 482 million by a hash of signal, time and a running
/// number: the same for the same history, and with a thousand open ones a clash is one in a million.
#[derive(Debug, Clone, Default)]
pub struct Namer {
    made: u64,
}

/// What settling one signal needs to know of the world.
pub struct Scene<'a> {
    /// The time of this pass.
    pub now: Now,
    /// Least time between two alerts of an unchanged signal.
    pub cooldown: Duration,
    /// Look without counting: the first answer after a start, suspend or clock step.
    pub warming: bool,
    /// One look is enough to confirm (a single pass without memory).
    pub confirm_at_once: bool,
    /// A firing signal that explains why this one cannot be seen.
    pub told_by: Option<&'a SignalKey>,
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
    /// The conversation about its being bad.
    pub alert: Option<Talk>,
    /// The conversation about nobody seeing it.
    pub blind: Option<Talk>,
    /// When the last alert about it was decided.
    pub last_alert_at: Option<Wall>,
    /// True when something changed that must survive a restart.
    pub dirty: bool,
    memory: Memory,
    judgement: Judgement,
    decision: Decision,
    bad_since: Option<Now>,
    blind_since: Option<Now>,
    told_by_other: bool,
    /// Events that happened while warming up, told by the next look.
    kept: Option<(u32, Cow<'static, str>)>,
}

/// What the store keeps of a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The source it belongs to.
    pub source: Arc<str>,
    /// Its title when it was last seen.
    pub title: String,
    /// Its severity when it was last seen.
    pub severity: Severity,
    /// How it stood.
    pub state: State,
    /// Since when.
    pub since: Wall,
    /// The last fact.
    pub fact: String,
    /// The reason of the last decision, for `why` without a daemon.
    pub reason: String,
    /// Open conversations.
    pub alert: Option<Talk>,
    /// See [`Tracked::blind`].
    pub blind: Option<Talk>,
    /// When it was last alerted.
    pub last_alert_at: Option<Wall>,
    /// What its rule remembers.
    pub memory: Memory,
}

impl Tracked {
    /// A signal seen for the first time.
    pub fn new(spec: Arc<Spec>, now: Now) -> Tracked {
        Tracked {
            spec,
            fact: Cow::Borrowed("not looked at yet"),
            state: State::Unknown,
            since: now.wall,
            alert: None,
            blind: None,
            last_alert_at: None,
            dirty: true,
            memory: Memory::default(),
            judgement: Judgement::default(),
            decision: Decision { action: Action::Nothing, reason: Reason::CannotTell },
            bad_since: None,
            blind_since: None,
            told_by_other: false,
            kept: None,
        }
    }

    /// A signal as the store remembers it. Instants of another boot are carried over by the wall
    /// clock, bounded to between nothing and one cooldown, so that no clock can silence it for ever.
    pub fn restored(key: SignalKey, row: Remembered, now: Now, same_boot: bool, cooldown: Duration) -> Tracked {
        let carry = |talk: Option<Talk>| {
            talk.map(|mut talk| {
                if !same_boot || talk.said.at > now.mono {
                    talk.said.at = now.mono.minus(now.wall.since(talk.said_wall).min(cooldown));
                    talk.since = now.mono.minus(now.wall.since(talk.since_wall));
                }
                talk
            })
        };
        let rule = Rule::at_once(Test::Verdict);
        let spec = Spec { key, title: row.title, severity: row.severity, rule, parent: None };
        let mut memory = row.memory;
        memory.forget_ages();
        Tracked {
            fact: Cow::Owned(row.fact),
            state: row.state,
            since: row.since,
            alert: carry(row.alert),
            blind: carry(row.blind),
            last_alert_at: row.last_alert_at,
            dirty: false,
            memory,
            ..Tracked::new(Arc::new(spec), now)
        }
    }

    /// Like [`Tracked::restored`], with the counts of the run before: for single passes started by cron.
    #[must_use]
    pub fn with_counts(mut self, memory: Memory) -> Tracked {
        self.memory = memory;
        self
    }

    /// What the store should keep.
    pub fn remembered(&self, source: &Arc<str>) -> Remembered {
        Remembered {
            source: Arc::clone(source),
            title: self.spec.title.clone(),
            severity: self.spec.severity,
            state: self.state,
            since: self.since,
            fact: self.fact.to_string(),
            reason: self.reason(),
            alert: self.alert.clone(),
            blind: self.blind.clone(),
            last_alert_at: self.last_alert_at,
            memory: self.memory,
        }
    }

    /// See [`Memory::forget_ages`]; also the time of blindness begins again.
    pub fn forget_ages(&mut self) {
        self.memory.forget_ages();
        self.blind_since = None;
        if self.alert.is_none() {
            self.bad_since = None;
        }
    }

    /// The open incident, if any.
    pub fn incident(&self) -> Option<&Incident> {
        self.alert.as_ref().or(self.blind.as_ref()).map(|talk| &talk.incident)
    }

    /// Takes one observation and says what follows from it.
    pub fn observe(
        &mut self,
        seen: Observation,
        scene: &Scene<'_>,
        namer: &mut Namer,
        edges: &mut Vec<Edge>,
    ) -> Decision {
        if !Arc::ptr_eq(&self.spec, &seen.spec) {
            self.spec = seen.spec;
        }
        let rule = self.rule(scene);
        let value_before = self.memory.value();
        self.judgement = self.memory.judge(&rule, seen.reading, seen.seen_at, scene.warming);
        self.fact = seen.fact;
        self.dirty |= matches!(rule.test, Test::Increases { .. }) && self.memory.value() != value_before;
        self.tell_events(scene, namer, edges);
        self.settle(scene, namer, edges)
    }

    /// What follows from time alone, when there was no look at it in this pass.
    pub fn wait(&mut self, scene: &Scene<'_>, namer: &mut Namer, edges: &mut Vec<Edge>) -> Decision {
        self.judgement.flap_began = false;
        self.judgement.events = 0;
        self.settle(scene, namer, edges)
    }

    /// The signal is no longer there: whatever was open about it is closed.
    pub fn gone(&mut self, why: &'static str, now: Now, edges: &mut Vec<Edge>) {
        self.fact = Cow::Borrowed(why);
        if let Some(talk) = self.alert.take() {
            edges.push(self.edge(EdgeKind::Recovery, &talk, now, why.to_string()));
        }
        if let Some(talk) = self.blind.take() {
            edges.push(self.edge(EdgeKind::Seen, &talk, now, why.to_string()));
        }
    }

    fn rule(&self, scene: &Scene<'_>) -> Rule {
        let rule = self.spec.rule;
        if scene.confirm_at_once && rule.test != Test::Stalls {
            Rule { fail_after: 1, recover_after: 1, hold: Duration::ZERO, ..rule }
        } else {
            rule
        }
    }

    /// Events alert on each occurrence and keep no state; those of a warm-up are told after it.
    fn tell_events(&mut self, scene: &Scene<'_>, namer: &mut Namer, edges: &mut Vec<Edge>) {
        let (count, fact) = match (self.judgement.events, self.judgement.rise) {
            (0, _) => (0, Cow::Borrowed("")),
            (n, Some((from, to))) => (n, Cow::Owned(format!("{} (rose from {from} to {to})", self.fact))),
            (n, None) => (n, self.fact.clone()),
        };
        if scene.warming {
            if count > 0 {
                self.kept = Some((count, fact));
            }
            return;
        }
        for (count, fact) in self.kept.take().into_iter().chain((count > 0).then_some((count, fact))) {
            let incident = namer.name(&self.spec.key, scene.now);
            let talk = Talk {
                incident,
                said: Said { at: scene.now.mono },
                said_wall: scene.now.wall,
                since: scene.now.mono,
                since_wall: scene.now.wall,
            };
            let reason = if count > 1 { format!("it happened {count} times") } else { "it happened".to_string() };
            let mut edge = self.edge(EdgeKind::Alert, &talk, scene.now, reason);
            edge.fact = fact.into_owned();
            edges.push(edge);
            self.last_alert_at = Some(scene.now.wall);
            self.dirty = true;
        }
    }

    fn settle(&mut self, scene: &Scene<'_>, namer: &mut Namer, edges: &mut Vec<Edge>) -> Decision {
        let condition = self.judgement.condition;
        match condition {
            Condition::Bad | Condition::Pending => {
                self.bad_since.get_or_insert(scene.now);
            }
            Condition::Good => self.bad_since = None,
            Condition::Unknown => {}
        }
        let active = match condition {
            Condition::Bad => Active::Yes,
            Condition::Good | Condition::Pending => Active::No,
            Condition::Unknown => Active::Unknown,
        };
        let began = self.bad_since.unwrap_or(scene.now);
        let worse = self.judgement.flap_began;
        let mut alert = self.alert.take();
        let decision = self.converse(&mut alert, active, worse, began, false, scene, namer, edges);
        self.alert = alert;
        self.settle_blindness(scene, namer, edges);
        self.decision = decision;
        let state = match condition {
            Condition::Unknown => State::Unknown,
            _ if self.alert.is_some() => State::Firing,
            Condition::Pending => State::Pending,
            _ => State::Ok,
        };
        if state != self.state {
            self.state = state;
            self.since = if state == State::Firing { began.wall } else { scene.now.wall };
            self.dirty = true;
        }
        decision
    }

    /// Being unknown for long is news of its own, unless a firing signal already explains it.
    fn settle_blindness(&mut self, scene: &Scene<'_>, namer: &mut Namer, edges: &mut Vec<Edge>) {
        let limit = self.spec.rule.unknown_after;
        let unknown = self.judgement.condition == Condition::Unknown;
        if !unknown {
            self.blind_since = None;
            self.told_by_other = false;
            if self.blind.is_none() {
                return;
            }
        }
        let began = *if unknown { self.blind_since.get_or_insert(scene.now) } else { &scene.now };
        self.told_by_other = unknown && scene.told_by.is_some();
        let long = !limit.is_zero() && scene.now.mono.since(began.mono) >= limit;
        let active = match (unknown, self.told_by_other) {
            (false, _) => Active::No,
            (true, true) => Active::Unknown,
            (true, false) if long || self.blind.is_some() => Active::Yes,
            (true, false) => Active::No,
        };
        let mut blind = self.blind.take();
        self.converse(&mut blind, active, false, began, true, scene, namer, edges);
        self.blind = blind;
    }

    /// One step of a conversation: decide, speak, remember.
    #[allow(
        clippy::too_many_arguments,
        reason = "both conversations take the same step; a struct would only rename the list"
    )]
    fn converse(
        &mut self,
        talk: &mut Option<Talk>,
        active: Active,
        worse: bool,
        began: Now,
        blind: bool,
        scene: &Scene<'_>,
        namer: &mut Namer,
        edges: &mut Vec<Edge>,
    ) -> Decision {
        let now = scene.now;
        let prev = talk.as_ref().map(|t| t.said);
        let mut decision = decide(active, prev, now.mono, scene.cooldown);
        if worse && decision.action == Action::Hold {
            // Flapping is told once as flapping, also to whoever knows that it is bad.
            decision.action = Action::Realert;
        }
        let (kind_first, kind_last) =
            if blind { (EdgeKind::Unknown, EdgeKind::Seen) } else { (EdgeKind::Alert, EdgeKind::Recovery) };
        match decision.action {
            Action::Alert => {
                let opened = Talk {
                    incident: namer.name(&self.spec.key, now),
                    said: Said { at: now.mono },
                    said_wall: now.wall,
                    since: began.mono,
                    since_wall: began.wall,
                };
                edges.push(self.edge(kind_first, &opened, now, self.say(decision, blind)));
                *talk = Some(opened);
            }
            Action::Realert => {
                if let Some(open) = talk {
                    let kind = if blind { EdgeKind::Unknown } else { EdgeKind::Realert };
                    edges.push(self.edge(kind, open, now, self.say(decision, blind)));
                }
            }
            Action::Recovery => {
                if let Some(closed) = talk.take() {
                    edges.push(self.edge(kind_last, &closed, now, self.say(decision, blind)));
                }
            }
            Action::Hold | Action::Nothing => {}
        }
        if let (Some(open), Some(said)) = (talk.as_mut(), after(decision, prev, now.mono))
            && (open.said != said || decision.action == Action::Alert)
        {
            open.said = said;
            open.said_wall = now.wall;
        }
        if !matches!(decision.action, Action::Hold | Action::Nothing) {
            self.dirty = true;
            self.last_alert_at =
                if matches!(decision.action, Action::Recovery) { self.last_alert_at } else { Some(now.wall) };
        }
        decision
    }

    fn edge(&self, kind: EdgeKind, talk: &Talk, now: Now, reason: String) -> Edge {
        Edge {
            kind,
            key: self.spec.key.clone(),
            title: self.spec.title.clone(),
            severity: self.spec.severity,
            fact: self.fact.to_string(),
            since: talk.since_wall,
            at: now.wall,
            lasted: now.mono.since(talk.since),
            incident: talk.incident.clone(),
            reason,
        }
    }

    fn say(&self, decision: Decision, blind: bool) -> String {
        match (decision.reason, blind) {
            (Reason::Began, true) => "nobody could see it for long".to_string(),
            (Reason::Ended, true) => "it can be seen again".to_string(),
            (Reason::Ended, false) => "it is over".to_string(),
            _ if self.judgement.flap_began => format!("it {}", self.why()),
            (Reason::CooldownOver, _) => "it lasts".to_string(),
            _ => self.why(),
        }
    }

    fn why(&self) -> String {
        let need = self.spec.rule;
        match self.judgement.why {
            Why::NotSeen => "it cannot be seen".to_string(),
            Why::WarmingUp => "seen bad in the first look after a start or a gap; the next look counts".to_string(),
            Why::LooksGood => "the last look was good".to_string(),
            Why::Counting(n) => format!("{n} of {} looks in a row were bad", need.fail_after),
            Why::Holding(held) => format!("bad for {} of {}", people(held), people(need.hold)),
            Why::Confirmed if need.hold.is_zero() && need.fail_after > 1 => {
                format!("{} looks in a row were bad", need.fail_after)
            }
            Why::Confirmed if !need.hold.is_zero() => format!("it lasted for {}", people(need.hold)),
            Why::Confirmed => "it was seen".to_string(),
            Why::Recovering(n) => format!("{n} of {} looks in a row were good", need.recover_after),
            Why::Flapping(changes) => format!("is flapping: {changes} changes within {FLAP_LOOKS} looks"),
            Why::Quiet => "nothing new has happened".to_string(),
        }
    }

    /// Why it stands as it does and why something is or is not said, in one sentence.
    pub fn reason(&self) -> String {
        let mut text = self.why();
        match self.decision.reason {
            Reason::CoolingDown(left) => {
                let _ = write!(text, "; said already, next reminder in {}", people(left));
            }
            Reason::SaidOnce => text.push_str("; said already, reminders are off"),
            Reason::ClockWentBack => text.push_str("; said already, the clock went back, the cooldown begins again"),
            Reason::CannotTell if self.alert.is_some() => {
                text.push_str("; it was firing and has not been seen well since")
            }
            _ => {}
        }
        if self.told_by_other {
            text.push_str("; another signal that fires explains it");
        }
        text
    }
}

impl Namer {
    /// A new name for an incident of this signal that begins now.
    pub fn name(&mut self, key: &SignalKey, now: Now) -> Incident {
        // No vowels, no look-alikes: names that can be read aloud and never spell a word.
        const LETTERS: &[u8; 28] = b"23456789bcdfghjkmnpqrstvwxyz";
        self.made = self.made.wrapping_add(1);
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let seed = key.as_str().bytes().chain(now.wall.0.to_le_bytes()).chain(self.made.to_le_bytes());
        for byte in seed {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // FNV's low bits mix poorly for short inputs; fold the high ones in.
        hash ^= hash >> 29;
        let mut name = String::with_capacity(6);
        for _ in 0..6 {
            let letter = LETTERS.get((hash % 28) as usize).copied().unwrap_or(b'x');
            name.push(char::from(letter));
            hash /= 28;
        }
        Incident(name)
    }
}
