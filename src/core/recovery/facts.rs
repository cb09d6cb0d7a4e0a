//! What a person should know about the repairs while it lasts, as signals of the program's own: paused, a storm, given
//! up, not finished. Words for one member are in `story`; nothing here decides anything.

use std::time::Duration;

use super::fleet::Fleet;
use super::gate::Blocked;
use super::kind::{Share, on_disk};
use super::member::Member;
use super::phrase::{Deed, Phrase};
use super::plan::Policy;
use super::saga::Stage;
use super::story;
use super::subject::Reply;
use super::target::Phase;
use crate::core::signal::Severity;
use crate::core::time::Now;

/// A repair that is not over after this long is told, and each cooldown again.
const UNFINISHED: Duration = Duration::from_mins(30);

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
    pub trouble: Option<Phrase>,
}

/// The same as a signal of the repair of one node.
fn fact(member: &Member, trouble: Option<Phrase>, policy: &Policy) -> Fact {
    let (key, word, name) = (on_disk(&member.node.key), member.node.kind.word, &member.node.name);
    let deed = story::deed(member, policy);
    Fact {
        key: format!("recovery/{key}"),
        title: deed.names(format_args!("repair of {word} {name}")),
        severity: if deed.is_simulated() { Severity::Info } else { Severity::Critical },
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
                Phrase::seen("paused by configuration: nothing is repaired; set recovery.paused = false to go on")
            }),
        };
        let mut facts = vec![paused, self.storm(), self.unknown_nodes()];
        let members = self.spoken.iter().filter_map(|name| self.members.get(name));
        facts.extend(members.map(|member| fact(member, self.trouble(member, now), &self.policy)));
        facts
    }

    /// So many are ill that nobody is touched: told once for all of them, when one of them is due.
    fn storm(&self) -> Fact {
        let waits = |member: &Member| {
            let told = member.told.as_deref().is_some_and(|(told, _)| told.contains(&Blocked::TooManyMissing));
            told && member.blocked.contains(&Blocked::TooManyMissing)
        };
        let pool = self.pools.of(Share::Machines);
        let (ill, nodes) = pool.ill;
        let (reason, most) = (Blocked::TooManyMissing, pool.may_be_ill(self.policy.bounds(Share::Machines)));
        let deed = Deed::in_mode(self.policy.mode);
        let trouble = (!pool.few_are_ill && self.members.values().any(|member| waits(member))).then(|| {
            let why =
                format!("{reason} ({ill} of {nodes} nodes are ill, at most {most} may be); {}", reason.to_change());
            deed.says(format_args!("nobody is touched: {why}"), format_args!("nobody would be touched: {why}"))
        });
        Fact {
            key: format!("recovery/{reason}"),
            title: deed.names("repairs"),
            severity: if deed.is_simulated() { Severity::Info } else { Severity::Critical },
            trouble,
        }
    }

    /// Somebody began to repair nodes that nobody knows here: their machines may be off, and no one will start them.
    fn unknown_nodes(&self) -> Fact {
        let (named, count) = &self.strangers.met;
        let more = count.saturating_sub(named.len());
        let trouble = (*count > 0).then(|| {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Phrase::seen(format!(
                "begun by an agent, not finished, and not configured here: {}{more}; their machines may be off: put the \
                 nodes back, or see to the machines and remove the notes",
                named.join(", ")
            ))
        });
        let title = "repairs of nodes that are not configured".to_string();
        Fact { key: "recovery/unconfigured".to_string(), title, severity: Severity::Critical, trouble }
    }

    fn trouble(&self, member: &Member, now: Now) -> Option<Phrase> {
        let kept = &member.target.kept;
        match &member.repair {
            None if kept.phase == Phase::Exhausted => Some(story::reason(member, &self.policy, now)),
            None => None,
            Some(repair) => {
                let lasted = now.mono.since(repair.began.mono);
                let no_room = repair.pace.reply == Some(Reply::NoCapacity);
                let refused = repair.pace.refused > 1
                    && matches!(repair.saga.stage, Stage::Refused(_) | Stage::Doubt(_) | Stage::Next(_));
                let lost = !member.node.repairable;
                (no_room || refused || lost || lasted >= UNFINISHED || repair.pace.blind > 2).then(|| {
                    let lead = if lost { "it is no longer configured; put it back: " } else { "not finished: " };
                    Phrase::seen(format!("{lead}{}", story::reason(member, &self.policy, now)))
                })
            }
        }
    }
}
