//! What is said about repairs, in words for a person on a phone. Decides nothing.
//!
//! Everything about one trouble is told under the incident of its signal `node/<name>`, as edges of
//! the kind `repair`; what was only played through says so in each sentence that claims a deed.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::budget::may_be_ill;
use super::fleet::Fleet;
use super::gate::Blocked;
use super::member::Member;
use super::plan::{Input, Line, Mode, Node, Note, Policy, Standing, WhenStopped};
use super::power::{Reply, Rung, Seen, Verb};
use super::saga::{End, Stage};
use super::target::{Change, Kept, Phase, Times};
use crate::core::edge::{Edge, EdgeKind, Incident};
use crate::core::message::clean;
use crate::core::signal::{Severity, SignalKey};
use crate::core::time::{Now, Wall, people};

/// A repair that is not over after this long is told, and each cooldown again.
const UNFINISHED: Duration = Duration::from_mins(30);

/// Names that others wrote are kept to this length, in characters.
const NAME: usize = 100;

/// Something about the repairs that a person should know while it lasts: a signal of the program's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The signal's key.
    pub key: String,
    /// What it is about, in a few words.
    pub title: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong; `None` while nothing is.
    pub trouble: Option<String>,
}

/// The signal that a node's heartbeat is.
pub fn key(node: &str) -> SignalKey {
    SignalKey::new(&format!("node/{node}"))
}

/// Names a repair: 16 hexadecimal digits, others for each agent, node and instant (FNV-1a).
pub fn saga_id(instance: &str, node: &str, now: Now) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let instants = now.wall.0.to_le_bytes().into_iter().chain(now.mono.0.to_le_bytes());
    for byte in instance.bytes().chain([0xff]).chain(node.bytes()).chain([0xff]).chain(instants) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// Stands in for a node with a repair under way that is no longer configured.
pub fn unconfigured(name: Arc<str>) -> Node {
    let hour = Duration::from_hours(1);
    Node {
        name,
        domain: None,
        evidence: Vec::new(),
        heartbeat_only: false,
        when_stopped: WhenStopped::Tell,
        ladder: Vec::new(),
        times: Times { after: hour, boot_grace: hour, attempts_reset_after: hour },
        repairable: false,
        machine: None,
    }
}

fn edge(member: &Member, simulated: bool, now: Now, fact: String, reason: String) -> Edge {
    let kept = &member.target.kept;
    let name = &member.node.name;
    let began = kept.lost_at.as_deref().or(kept.repair_at.as_deref()).copied().unwrap_or(now);
    // Without an incident of its signal the story has one of its own, the same for one trouble.
    let own = || Incident(saga_id("", name, began).chars().take(6).collect());
    Edge {
        kind: EdgeKind::Repair,
        key: key(name),
        title: format!("node {name}"),
        severity: if simulated { Severity::Info } else { Severity::Critical },
        fact,
        since: began.wall,
        at: now.wall,
        lasted: now.mono.since(began.mono),
        incident: kept.incident.clone().unwrap_or_else(own),
        reason,
        ..Edge::default()
    }
}

fn words(rung: Rung) -> &'static str {
    match rung {
        Rung::StopStart => "stop and start it",
        Rung::Reset => "reset it",
        Rung::SoftReset => "shut it down and start it (softreset)",
        Rung::Start => "start it",
    }
}

/// A repair begins: which, why, and on what evidence.
pub fn acting(member: &Member, rung: Rung, seen: &Seen, input: &Input<'_>, now: Now, policy: &Policy) -> Edge {
    let simulated = policy.mode == Mode::Observe;
    let kept = &member.target.kept;
    let lead = if simulated { "[observe] would " } else { "repairing: " };
    let (attempts, most, gone) = (kept.attempts, policy.max_attempts, people(member.target.gone));
    // All in the fact: where steps pile up, a message shows a line of each, and no reasons.
    let mut fact = format!(
        "{lead}{}, attempt {attempts} of {most}; heartbeat gone for {gone}; machine {}",
        words(rung),
        seen.lifecycle
    );
    for evidence in &member.node.evidence {
        let state = (input.look)(evidence).map_or("unknown", |looked| looked.state.as_str());
        let _ = write!(fact, "; {evidence} {state}");
    }
    edge(member, simulated, now, fact, String::new())
}

/// It is due, and nothing is done.
pub fn blocked(member: &Member, input: &Input<'_>, now: Now, policy: &Policy) -> Edge {
    let reasons = join(&member.blocked);
    let mut fact = format!("not touched: {reasons}");
    if member.blocked.contains(&Blocked::EvidenceDisagrees) {
        for evidence in &member.node.evidence {
            let state = (input.look)(evidence).map_or("unknown", |looked| looked.state.as_str());
            let _ = write!(fact, "; {evidence} {state}");
        }
    }
    if let Some(trouble) = &member.trouble {
        let _ = write!(fact, "; {trouble}");
    }
    let changes = member.blocked.iter().map(|reason| reason.to_change()).collect::<Vec<_>>().join("; ");
    edge(member, policy.mode == Mode::Observe, now, fact, changes)
}

/// The program began anew in the middle of a repair.
pub fn resumed(member: &Member, damaged: bool, now: Now) -> Edge {
    let fact = if damaged {
        "goes on with a repair whose journal has a gap: the machine is looked at, and only ever started"
    } else {
        "goes on with the repair that was under way"
    };
    let simulated = member.repair.as_ref().is_some_and(|repair| repair.simulated);
    edge(member, simulated, now, fact.to_string(), "the watchdog was restarted".to_string())
}

/// A repair of another agent is taken over.
pub fn adopted(member: &Member, note: &Note, now: Now) -> Edge {
    let fact = format!("takes over the repair that agent {} began and did not finish", note.agent);
    edge(member, false, now, fact, format!("it was about to ask for {}", note.verb))
}

/// A repair of another agent, of a node that is not configured here.
pub fn stranger(note: &Note) -> String {
    let (node, agent) = (clean(&note.target, NAME), clean(&note.agent, NAME));
    format!(
        "{node} (agent {agent} was about to ask for {}; note repairs/{node}/{})",
        note.verb,
        clean(&note.saga, NAME)
    )
}

/// A repair is over, in so far as that has to be told: what comes of it, the heartbeat will say.
pub fn ended(
    member: &Member,
    end: End,
    trouble: Option<&str>,
    simulated: bool,
    now: Now,
    policy: &Policy,
) -> Option<Edge> {
    let why = trouble.map_or(String::new(), |trouble| format!(" ({trouble})"));
    let fact = match end {
        End::Up => return None,
        End::NoEffect => format!("nothing was done to the machine{why}"),
        End::Expired => format!("whether the request counted never became clear; the machine runs{why}"),
        End::Gone => "the machine is destroyed; nothing can be done about it".to_string(),
    };
    Some(edge(member, simulated, now, fact, next(member, policy)))
}

fn next(member: &Member, policy: &Policy) -> String {
    let kept = &member.target.kept;
    if kept.phase == Phase::Exhausted {
        return "gave up; repair it by hand".to_string();
    }
    let wait = kept.not_before.as_deref().map_or(Duration::ZERO, |until| until.wall.since(kept.since.wall));
    format!("attempt {} of {} failed; the next in {} at the earliest", kept.attempts, policy.max_attempts, people(wait))
}

/// The line of the audit log for a change of the heartbeat.
pub fn changed(member: &Member, change: &Change) -> Line {
    let (kind, text) = match change {
        Change::Lost => ("lost", "the heartbeat is gone".to_string()),
        Change::BackByItself(lasted) => ("back", format!("the heartbeat is back by itself after {}", people(*lasted))),
        Change::Repaired(took) => {
            ("repaired", format!("the heartbeat is back on a new boot, {} after the repair began", people(*took)))
        }
        Change::Planned => ("planned", "it stops as planned: maintenance until its TTL has passed twice".to_string()),
        Change::NotBack => ("not-back", "no heartbeat within its time to boot".to_string()),
        Change::Forgiven => ("forgiven", "healthy for so long that its attempts begin anew".to_string()),
    };
    Line { kind, target: member.name(), text }
}

/// What a change of the heartbeat adds to the story; the signal's own alert and recovery are not repeated.
pub fn told_change(member: &Member, change: &Change, now: Now, policy: &Policy) -> Option<Edge> {
    let kept = &member.target.kept;
    let simulated = kept.imagined;
    let attempt = format!("attempt {} of {}", kept.attempts, policy.max_attempts);
    let (fact, reason) = match change {
        Change::Lost | Change::Forgiven => return None,
        Change::Planned => {
            let fact = "stops as planned: maintenance, nothing is repaired until its TTL has passed twice";
            return Some(Edge {
                severity: Severity::Info,
                ..edge(member, simulated, now, fact.to_string(), "its beacon said so".to_string())
            });
        }
        Change::BackByItself(_) if kept.attempts == 0 => return None,
        Change::BackByItself(lasted) => {
            (format!("back by itself after {}, without a reboot by the repair", people(*lasted)), attempt)
        }
        Change::Repaired(took) if simulated => (
            format!("[observe] back on a new boot {} after the repair that was only played through", people(*took)),
            attempt,
        ),
        Change::Repaired(took) => {
            (format!("repaired: back on a new boot, {} after the repair began", people(*took)), attempt)
        }
        Change::NotBack => {
            let fact = format!("no heartbeat within {} of the repair", people(member.node.times.boot_grace));
            (if simulated { format!("[observe] {fact}") } else { fact }, next(member, policy))
        }
    };
    Some(edge(member, simulated, now, fact, reason))
}

fn join(blocked: &[Blocked]) -> String {
    blocked.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// What a repair is about, in a few words.
fn going_on(stage: Stage) -> String {
    match stage {
        Stage::Deciding => "a repair was decided".to_string(),
        Stage::Asking(verb) => format!("{verb} is being asked for"),
        Stage::Doubt(verb) => format!("{verb} was asked for and not confirmed; the machine is looked at"),
        Stage::Awaiting(Verb::Stop) => "STOP was accepted; waiting for STOPPED".to_string(),
        Stage::Awaiting(verb) => format!("{verb} was accepted; waiting for RUNNING"),
        Stage::Owing => "the machine is down by our doing and is being started".to_string(),
        Stage::Closed(_) => "over".to_string(),
    }
}

/// What is going on with a target, in a sentence.
fn reason(member: &Member, fleet: &Fleet, now: Now) -> Cow<'static, str> {
    let kept = &member.target.kept;
    if let Some(repair) = &member.repair {
        let trouble = member.trouble.as_ref().map_or(String::new(), |trouble| format!("; {trouble}"));
        let (lead, what) = (if repair.simulated { "[observe] " } else { "" }, going_on(repair.saga.stage));
        return Cow::Owned(format!(
            "{lead}{what}, {} after it began{trouble}",
            people(now.mono.since(repair.began.mono))
        ));
    }
    if kept.phase == Phase::Waiting {
        return Cow::Owned(format!(
            "switched; has {} to come back with its heartbeat",
            people(member.node.times.boot_grace)
        ));
    }
    if kept.phase == Phase::Suspect && member.target.is_unheld() {
        return Cow::Borrowed("its key is there and no session holds it: nobody can tell whether it lives");
    }
    if member.blocked.is_empty() && kept.phase == Phase::Suspect {
        return Cow::Owned(format!(
            "heartbeat gone for {} of {}",
            people(member.target.gone),
            people(member.node.times.after)
        ));
    }
    if !member.node.repairable {
        return Cow::Borrowed("it is watched only: nothing is configured that could repair it");
    }
    if fleet.policy.paused && member.blocked.is_empty() {
        return Cow::Borrowed("repairs are paused");
    }
    standing_still(kept)
}

/// The same for what was kept, when nobody runs who knows more. `stage`: where an open repair stands.
pub fn left(kept: &Kept, stage: Option<Stage>) -> String {
    match stage {
        Some(stage) => format!("{}; it goes on when the watchdog runs", going_on(stage)),
        None => standing_still(kept).into_owned(),
    }
}

fn standing_still(kept: &Kept) -> Cow<'static, str> {
    match kept.phase {
        Phase::Exhausted => {
            let why = kept.given_up.clone().unwrap_or_else(|| format!("{} attempts did not help", kept.attempts));
            Cow::Owned(format!("given up: {why}; repair it by hand"))
        }
        _ if !kept.blocked.is_empty() => {
            let changes: Vec<&str> = kept.blocked.iter().map(|reason| reason.to_change()).collect();
            Cow::Owned(format!("not touched: {}; to change that: {}", join(&kept.blocked), changes.join("; ")))
        }
        Phase::Healthy | Phase::Paused => Cow::Borrowed("its heartbeat is there"),
        Phase::Suspect | Phase::Recovering => Cow::Borrowed("its heartbeat is gone"),
        Phase::Waiting => Cow::Borrowed("switched; it has time to come back with its heartbeat"),
    }
}

/// One target as people and programs see it.
pub fn standing(member: &Member, fleet: &Fleet, now: Now) -> Standing {
    let kept = &member.target.kept;
    let phase = match kept.phase {
        _ if member.repair.is_some() => Phase::Recovering,
        _ if fleet.policy.paused => Phase::Paused,
        Phase::Healthy if !kept.was_alive => Phase::Suspect,
        phase => phase,
    };
    Standing {
        name: member.name(),
        phase,
        since: Some(kept.since_wall()).filter(|since| *since != Wall::default()),
        attempts: kept.attempts,
        blocked: member.blocked.clone(),
        reason: reason(member, fleet, now),
        unhealthy: member.ill_for(now.mono),
    }
}

/// True for a node about which something may be told.
pub(super) fn is_story(member: &Member) -> bool {
    let kept = &member.target.kept;
    member.repair.is_some() || kept.phase != Phase::Healthy || kept.attempts > 0 || kept.imagined
}

fn fact(member: &Member, trouble: Option<String>) -> Fact {
    let name = &member.node.name;
    let imagined = member.target.kept.imagined;
    let said = if imagined { "[observe] " } else { "" };
    Fact {
        key: format!("recovery/{name}"),
        title: format!("{said}repair of node {name}"),
        severity: if imagined { Severity::Info } else { Severity::Critical },
        trouble,
    }
}

impl Fleet {
    /// What a person should know while it lasts: paused, a storm, given up, not finished, down by our doing. Of nodes only
    /// those about which there was ever anything to know.
    pub fn own_facts(&self, now: Now) -> Vec<Fact> {
        let paused = Fact {
            key: "recovery/paused".to_string(),
            title: "repairs".to_string(),
            severity: Severity::Warning,
            trouble: self.policy.paused.then(|| {
                "paused by configuration: nothing is repaired; set recovery.paused = false to go on".to_string()
            }),
        };
        let mut facts = vec![paused, self.storm(), self.unknown_nodes()];
        let members = self.spoken.iter().filter_map(|name| self.members.get(name));
        facts.extend(members.map(|member| fact(member, self.trouble(member, now))));
        facts
    }

    /// So many are ill that nobody is touched: told once for all of them, when one of them is due.
    fn storm(&self) -> Fact {
        let waits = |member: &Member| {
            let told = member.told.as_deref().is_some_and(|(told, _)| told.contains(&Blocked::TooManyMissing));
            told && member.blocked.contains(&Blocked::TooManyMissing)
        };
        let (ill, nodes) = self.ill;
        let (reason, most) = (Blocked::TooManyMissing, may_be_ill(nodes, self.policy.min_healthy));
        let trouble = (!self.few_are_ill && self.members.values().any(|member| waits(member))).then(|| {
            format!(
                "nobody is touched: {reason} ({ill} of {nodes} nodes are ill, at most {most} may be); {}",
                reason.to_change()
            )
        });
        let observe = self.policy.mode == Mode::Observe;
        Fact {
            key: format!("recovery/{reason}"),
            title: if observe { "[observe] repairs" } else { "repairs" }.to_string(),
            severity: if observe { Severity::Info } else { Severity::Critical },
            trouble,
        }
    }

    /// Somebody began to repair nodes that nobody knows here: their machines may be off, and no one will start them.
    fn unknown_nodes(&self) -> Fact {
        let (named, count) = &self.strangers;
        let more = count.saturating_sub(named.len());
        let trouble = (*count > 0).then(|| {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!(
                "begun by an agent, not finished, and not configured here: {}{more}; their machines may be off: put the \
                 nodes back, or see to the machines and remove the notes",
                named.join(", ")
            )
        });
        let title = "repairs of nodes that are not configured".to_string();
        Fact { key: "recovery/unconfigured".to_string(), title, severity: Severity::Critical, trouble }
    }

    /// Notes whose stories began, so that their ends are told, too.
    pub(super) fn note_stories(&mut self) {
        self.spoken.extend(self.members.values().filter(|member| is_story(member)).map(|member| member.name()));
    }

    fn trouble(&self, member: &Member, now: Now) -> Option<String> {
        let kept = &member.target.kept;
        match &member.repair {
            None if kept.phase == Phase::Exhausted => Some(reason(member, self, now).into_owned()),
            None => None,
            Some(repair) => {
                let lasted = now.mono.since(repair.began.mono);
                let no_room = repair.pace.reply == Some(Reply::NoCapacity);
                let refused = repair.pace.refused > 1 && matches!(repair.saga.stage, Stage::Doubt(_) | Stage::Owing);
                let lost = !member.node.repairable;
                (no_room || refused || lost || lasted >= UNFINISHED || repair.pace.blind > 2).then(|| {
                    let lead = if lost { "it is no longer configured; put it back: " } else { "not finished: " };
                    format!("{lead}{}", reason(member, self, now))
                })
            }
        }
    }

    /// How many nodes are in each state, for metrics: alive, missing, never seen.
    pub fn nodes(&self) -> [(&'static str, usize); 3] {
        let seen = self.members.values().map(|member| &member.target).filter(|target| target.kept.was_alive);
        let (seen, ill) = seen.fold((0, 0), |(seen, ill), target| (seen + 1, ill + usize::from(target.is_ill())));
        [("alive", seen - ill), ("ill", ill), ("never-seen", self.members.len() - seen)]
    }
}
