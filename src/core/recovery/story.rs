//! What is said about repairs, in words for a person on a phone. Decides nothing.
//!
//! Everything about one trouble is told under the incident of its signal `node/<name>`, as edges of
//! the kind `repair`; what was only simulated says so in each sentence, or there is none (`phrase`).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use super::gate::Blocked;
use super::kind::on_disk;
use super::member::Member;
use super::pass::Pass;
use super::phrase::{Deed, Phrase};
use super::plan::{Line, Note, Policy, Standing};
use super::procedure::Procedure;
use super::saga::{End, Saga, Stage};
use super::subject::{Seen, State};
use super::target::{Change, Kept, Phase};
use crate::core::about::Details;
use crate::core::edge::{Edge, EdgeKind, Incident};
use crate::core::message::clean;
use crate::core::reach::quoted;
use crate::core::signal::{Severity, SignalKey};
use crate::core::time::{Now, Wall, people};

/// Names that others wrote are kept to this length, in characters.
const NAME: usize = 100;

/// Names a repair: 16 hexadecimal digits, others for each agent, node and instant (FNV-1a).
pub fn saga_id(instance: &str, node: &str, now: Now) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let instants = now.wall.0.to_le_bytes().into_iter().chain(now.mono.0.to_le_bytes());
    for byte in instance.bytes().chain([0xff]).chain(node.bytes()).chain([0xff]).chain(instants) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

fn edge(member: &Member, deed: Deed, now: Now, fact: Phrase, reason: Phrase) -> Edge {
    let kept = &member.target.kept;
    let name = &member.node.name;
    let began = kept.lost_at.as_deref().or(kept.repair_at.as_deref()).copied().unwrap_or(now);
    // Without an incident of its signal the story has one of its own, the same for one trouble.
    let own = || Incident(saga_id("", name, began).chars().take(6).collect());
    Edge {
        kind: EdgeKind::Repair,
        key: SignalKey::new(&member.node.key),
        title: format!("{} {name}", member.node.kind.word),
        severity: if deed.is_simulated() { Severity::Info } else { Severity::Critical },
        fact: fact.into_text().into_owned(),
        since: began.wall,
        at: now.wall,
        lasted: now.mono.since(began.mono),
        incident: kept.incident.clone().unwrap_or_else(own),
        reason: reason.into_text().into_owned(),
        ..Edge::default()
    }
}

/// The same with what happened, in the words of its first line, and where to read on.
fn headed(edge: Edge, happened: Cow<'static, str>) -> Edge {
    let advice = format!("watchdog why {}", quoted(edge.key.as_str()));
    Edge { details: Details::new(happened, advice), ..edge }
}

/// A repair begins: which, why, and on what evidence.
pub fn acting(member: &Member, way: &Procedure, seen: &Seen, pass: &Pass<'_>) -> Edge {
    let (policy, kind, deed) = (pass.policy, member.node.kind, Deed::in_mode(pass.policy.mode));
    let kept = &member.target.kept;
    let (attempt, gone) = (policy.attempt(kept.attempts), people(member.target.gone));
    // All in the fact: where steps pile up, a message shows a line of each, and no reasons.
    let mut fact = format!("{}, {attempt}; {} for {gone}; {} {}", way.says, kind.shows, kind.thing, seen.word);
    for evidence in &member.node.evidence {
        let _ = write!(fact, "; {evidence} {}", pass.state(evidence));
    }
    let fact = deed.says(format_args!("repairing: {fact}"), format_args!("would {fact}"));
    headed(edge(member, deed, pass.now, fact, Phrase::default()), deed.heads("is being repaired", "would be repaired"))
}

/// It is due, and nothing is done.
pub fn blocked(member: &Member, pass: &Pass<'_>) -> Edge {
    let reasons = join(&member.blocked);
    let mut fact = reasons;
    if member.blocked.contains(&Blocked::EvidenceDisagrees) {
        for evidence in &member.node.evidence {
            let _ = write!(fact, "; {evidence} {}", pass.state(evidence));
        }
    }
    let most = pass.pool(&member.node).1.max_per_target;
    let begun = member.begun_today(pass);
    if member.blocked.contains(&Blocked::BudgetSpent) && begun >= most as usize {
        let _ = write!(fact, "; {begun} of {most} repairs of it within a day");
    }
    if let Some(trouble) = &member.trouble {
        let _ = write!(fact, "; {trouble}");
    }
    let changes = member.blocked.iter().map(|reason| reason.to_change()).collect::<Vec<_>>().join("; ");
    let deed = Deed::in_mode(pass.policy.mode);
    let fact = deed.says(format_args!("not touched: {fact}"), format_args!("would not be touched: {fact}"));
    let happened = deed.heads("is down and is not repaired", "is down and would not be repaired");
    headed(edge(member, deed, pass.now, fact, Phrase::seen(changes)), happened)
}

/// The program began anew in the middle of a repair.
pub fn resumed(member: &Member, damaged: bool, now: Now) -> Edge {
    let done = if damaged {
        "goes on with a repair whose journal has a gap: the machine is checked, and only ever started"
    } else {
        "goes on with the repair that was under way"
    };
    let deed = Deed::of(member.repair.as_ref().is_some_and(|repair| repair.simulated));
    let fact = deed.says(done, "goes on with the repair that is simulated");
    let happened = deed.heads("is still being repaired", "would still be repaired");
    headed(edge(member, deed, now, fact, Phrase::seen("the watchdog was restarted")), happened)
}

/// A repair of another agent is taken over.
pub fn adopted(member: &Member, note: &Note, now: Now) -> Edge {
    // Whoever observes takes nothing over.
    let fact = format!("takes over the repair that agent {} began and did not finish", note.agent);
    let reason = format!("it was about to ask for {}", note.verb);
    let happened = Deed::Done.heads("is being repaired", "");
    headed(edge(member, Deed::Done, now, Phrase::seen(fact), Phrase::seen(reason)), happened)
}

/// A repair of another agent, of a node that is not configured here.
pub fn stranger(note: &Note) -> String {
    let (node, agent) = (clean(on_disk(&note.target), NAME), clean(&note.agent, NAME));
    format!(
        "{node} (agent {agent} was about to ask for {}; note repairs/{node}/{})",
        note.verb,
        clean(&note.saga, NAME)
    )
}

/// A repair is over, in so far as that has to be told: what comes of it, the heartbeat will say.
pub fn ended(member: &Member, end: End, trouble: Option<&str>, deed: Deed, now: Now, policy: &Policy) -> Option<Edge> {
    let why = trouble.map_or(String::new(), |trouble| format!(" ({trouble})"));
    let fact = match end {
        End::Up => return None,
        End::NoEffect => format!("nothing was done to the machine{why}"),
        End::Expired => format!("whether the request counted never became clear; the machine runs{why}"),
        End::Gone => "the machine is destroyed; nothing can be done about it".to_string(),
    };
    let would = format_args!("the repair ends without effect{why}");
    let happened = deed.heads("was not repaired", "would not have been repaired");
    Some(headed(edge(member, deed, now, deed.says(&fact, would), next(member, deed, policy)), happened))
}

fn next(member: &Member, deed: Deed, policy: &Policy) -> Phrase {
    let kept = &member.target.kept;
    if kept.phase == Phase::Exhausted {
        return deed.says("gave up; repair it by hand", "would have given up; repair it by hand");
    }
    let wait = kept.not_before.as_deref().map_or(Duration::ZERO, |until| until.wall.since(kept.since.wall));
    let attempt = policy.attempt(kept.attempts);
    let next = format!("the next in {} at the earliest", people(wait));
    deed.says(format_args!("{attempt} failed; {next}"), format_args!("{attempt} would have failed; {next}"))
}

/// The line of the audit log for a change of the heartbeat.
pub fn changed(member: &Member, change: &Change) -> Line {
    let deed = Deed::of(member.target.kept.simulated);
    let (kind, text) = match change {
        Change::Lost => ("lost", Phrase::seen("the heartbeat is gone")),
        Change::BackByItself(lasted) => {
            ("back", Phrase::seen(format!("the heartbeat is back by itself after {}", people(*lasted))))
        }
        Change::Repaired(took) => {
            let (back, took) = ("the heartbeat is back on a new boot", people(*took));
            let done = format_args!("{back}, {took} after the repair began");
            ("repaired", deed.says(done, format_args!("{back}, {took} after the repair would have begun")))
        }
        Change::Planned => (
            "planned",
            Phrase::seen("it stops as planned: maintenance for as long as its beacon said (beacon.planned)"),
        ),
        Change::NotBack => {
            let done = "no heartbeat within its time to boot";
            ("not-back", deed.says(done, "no heartbeat within the time that it would have to boot"))
        }
        Change::Forgiven => {
            let done = "healthy for so long that its attempts begin anew";
            ("forgiven", deed.says(done, done))
        }
    };
    Line { kind, target: member.key(), text }
}

/// What a change of the heartbeat adds to the story; the signal's own alert and recovery are not repeated.
pub fn told_change(member: &Member, change: &Change, now: Now, policy: &Policy) -> Option<Edge> {
    let kept = &member.target.kept;
    let deed = Deed::of(kept.simulated);
    let attempt = deed.names(policy.attempt(kept.attempts));
    let happened = match change {
        Change::Repaired(_) => deed.heads("was repaired", "is back"),
        Change::NotBack if kept.simulated => Cow::Borrowed("is still down, as its repair was only simulated"),
        Change::NotBack => Cow::Borrowed("did not come back"),
        _ => Cow::Borrowed("is back by itself"),
    };
    let (fact, reason) = match change {
        Change::Lost | Change::Forgiven => return None,
        Change::Planned => {
            let fact = Phrase::seen(
                "stops as planned: maintenance, nothing is repaired for as long as its beacon said (beacon.planned)",
            );
            let reason = Phrase::seen("its beacon said so");
            let edge = headed(edge(member, deed, now, fact, reason), Cow::Borrowed("stops as planned"));
            return Some(Edge { severity: Severity::Info, ..edge });
        }
        Change::BackByItself(_) if kept.attempts == 0 => return None,
        Change::BackByItself(lasted) => {
            let back = format!("back by itself after {}", people(*lasted));
            let done = format_args!("{back}, without a reboot by the repair");
            (deed.says(done, format_args!("{back}; nothing was done")), Phrase::seen(attempt))
        }
        Change::Repaired(took) => {
            let (back, took) = ("back on a new boot", people(*took));
            let done = format_args!("repaired: {back}, {took} after the repair began");
            let would = format_args!("{back} {took} after the repair would have begun; nothing was done");
            (deed.says(done, would), Phrase::seen(attempt))
        }
        Change::NotBack => {
            let grace = people(member.node.times.boot_grace);
            let done = format_args!("no heartbeat within {grace} of the repair");
            let would = format_args!("no heartbeat within {grace}; nothing was done");
            (deed.says(done, would), next(member, deed, policy))
        }
    };
    Some(headed(edge(member, deed, now, fact, reason), happened))
}

fn join(blocked: &[Blocked]) -> String {
    blocked.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// What a repair is about, in a few words.
fn going_on(saga: &Saga, deed: Deed) -> Phrase {
    let (verb, goal) = saga.step().map(|step| (step.verb.to_string(), step.goal.shows())).unzip();
    let (verb, goal) = (verb.unwrap_or_default(), goal.map(State::as_str).unwrap_or_default());
    match saga.stage {
        Stage::Decided => deed.says("a repair was decided", "a repair would begin"),
        Stage::Asking(_) => {
            deed.says(format_args!("{verb} is being asked for"), format_args!("would be asking for {verb}"))
        }
        Stage::Refused(_) | Stage::Doubt(_) => deed.says(
            format_args!("{verb} was asked for and not confirmed; the machine is checked"),
            format_args!("would check whether {verb} took effect"),
        ),
        Stage::Awaiting(_) => {
            let after = if goal == "RUNNING" { format!(" after {verb}") } else { String::new() };
            deed.says(
                format_args!("{verb} was accepted; waiting for {goal}"),
                format_args!("would be waiting for {goal}{after}"),
            )
        }
        Stage::Next(_) => {
            deed.says("we stopped the machine, and it is being started", "would be starting the machine again")
        }
        Stage::Closed(_) => deed.says("over", "over"),
    }
}

/// Whether what is said of a node now was done: its repair, else its last one, else one that would begin.
pub fn deed(member: &Member, policy: &Policy) -> Deed {
    match &member.repair {
        Some(repair) => Deed::of(repair.simulated),
        None => kept_deed(&member.target.kept, Deed::in_mode(policy.mode)),
    }
}

/// The same of what was kept. `begins`: what a repair that begins now would be.
fn kept_deed(kept: &Kept, begins: Deed) -> Deed {
    let is_past =
        kept.attempts > 0 && kept.blocked.is_empty() || matches!(kept.phase, Phase::Waiting | Phase::Exhausted);
    if is_past { Deed::of(kept.simulated) } else { begins }
}

/// What is going on with a target, in a sentence.
pub fn reason(member: &Member, policy: &Policy, now: Now) -> Phrase {
    let kept = &member.target.kept;
    let deed = deed(member, policy);
    if let Some(repair) = &member.repair {
        let trouble = member.trouble.as_ref().map_or(String::new(), |trouble| format!("; {trouble}"));
        let what = going_on(&repair.saga, deed);
        let lasted = people(now.mono.since(repair.began.mono));
        return Phrase::seen(format!("{what}, {lasted} after it began{trouble}"));
    }
    if kept.phase == Phase::Waiting {
        let grace = people(member.node.times.boot_grace);
        return deed.says(
            format_args!("switched; has {grace} to come back with its heartbeat"),
            format_args!("nothing was done; its heartbeat is waited for as long as after a repair, {grace}"),
        );
    }
    if kept.phase == Phase::Suspect && member.target.is_unheld() {
        return Phrase::seen("its key is there and no session holds it: nobody can tell whether it lives");
    }
    if member.blocked.is_empty() && kept.phase == Phase::Suspect {
        let (gone, after) = (people(member.target.gone), people(member.node.times.after));
        return Phrase::seen(format!("{} for {gone} of {after}", member.node.kind.shows));
    }
    if !member.node.repairable {
        return Phrase::seen("it is watched only: nothing is configured that could repair it");
    }
    if policy.paused && member.blocked.is_empty() {
        return Phrase::seen("repairs are paused");
    }
    standing_still(kept, deed)
}

/// The same for what was kept, when nobody runs who knows more, and whether it was done. `open`: where an open
/// repair stands, and whether that was done; `begins`: what a repair that begins now would be.
pub fn left(kept: &Kept, open: Option<(&Saga, Deed)>, begins: Deed) -> (Phrase, Deed) {
    let Some((saga, deed)) = open else {
        let deed = kept_deed(kept, begins);
        return (standing_still(kept, deed), deed);
    };
    let what = going_on(saga, deed);
    (Phrase::seen(format!("{what}; it goes on when the watchdog runs")), deed)
}

fn standing_still(kept: &Kept, deed: Deed) -> Phrase {
    match kept.phase {
        Phase::Exhausted => {
            let why = kept.given_up.clone().unwrap_or_else(|| format!("{} attempts did not help", kept.attempts));
            let would = kept.given_up.clone().unwrap_or_else(|| format!("after {} attempts", kept.attempts));
            deed.says(
                format_args!("given up: {why}; repair it by hand"),
                format_args!("would have given up: {would}; repair it by hand"),
            )
        }
        Phase::Waiting => deed.says(
            "switched; it has time to come back with its heartbeat",
            "nothing was done; its heartbeat is waited for as long as after a repair",
        ),
        _ if !kept.blocked.is_empty() => {
            let changes: Vec<&str> = kept.blocked.iter().map(|reason| reason.to_change()).collect();
            let (reasons, changes) = (join(&kept.blocked), changes.join("; "));
            deed.says(
                format_args!("not touched: {reasons}; to change that: {changes}"),
                format_args!("would not be touched: {reasons}; to change that: {changes}"),
            )
        }
        Phase::Healthy | Phase::Paused => Phrase::seen("its heartbeat is there"),
        Phase::Suspect | Phase::Recovering => Phrase::seen("its heartbeat is gone"),
    }
}

/// One target as people and programs see it.
pub fn standing(member: &Member, policy: &Policy, now: Now) -> Standing {
    let kept = &member.target.kept;
    let phase = match kept.phase {
        _ if member.repair.is_some() => Phase::Recovering,
        _ if policy.paused => Phase::Paused,
        Phase::Healthy if !kept.was_alive => Phase::Suspect,
        phase => phase,
    };
    Standing {
        key: member.key(),
        phase,
        since: Some(kept.since_wall()).filter(|since| *since != Wall::default()),
        attempts: kept.attempts,
        blocked: member.blocked.clone(),
        reason: reason(member, policy, now),
        simulated: member.is_story() && deed(member, policy).is_simulated(),
        unhealthy: member.ill_for(now.mono),
    }
}
