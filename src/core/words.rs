//! Why a signal stands as it does and why something is said or not, in words for people.
//!
//! The numbers come from the judgement and the decision; this file decides nothing.

use std::time::Duration;

use super::decide::{Decision, Reason};
use super::memory::{FLAP_LOOKS, Judgement, Why};
use super::rule::{Rule, Test};
use super::talk::Topic;
use super::time::people;

/// What happened to a signal that changes to and fro.
pub const FLAPS: &str = "keeps going down and up";

/// The fact of a signal that changes to and fro.
pub fn flapping(changes: u32, is_good: bool, fact: &str) -> String {
    let now = if is_good { "up" } else { "down" };
    format!("went down and up {changes} times in {FLAP_LOOKS} checks; {now} now: {fact}")
}

/// The fact of a value that stands still.
pub fn stands(fact: &str, held: Duration, limit: Duration) -> String {
    format!("{fact}, unchanged for {} (limit {})", people(held), people(limit))
}

/// Why the condition stands as it does.
pub fn standing(judgement: Judgement, rule: &Rule) -> String {
    match judgement.why {
        Why::NotSeen => "it cannot be checked".to_string(),
        Why::WarmingUp => "the first check after a start or a gap failed; the next one counts".to_string(),
        Why::LooksGood => "the last check passed".to_string(),
        Why::Counting(n) => format!("failed {n} of {} checks in a row", rule.fail_after),
        Why::Holding(held) => format!("failing for {} of {}", people(held), people(rule.hold)),
        Why::Confirmed if !rule.hold.is_zero() => format!("failing for at least {}", people(rule.hold)),
        Why::Confirmed if rule.fail_after > 1 => format!("failed {} checks in a row", rule.fail_after),
        Why::Confirmed => "the last check failed".to_string(),
        Why::Recovering(n) => format!("passed {n} of {} checks in a row", rule.recover_after),
        Why::Flapping(n) => format!("flapping: changed {n} times in {FLAP_LOOKS} checks"),
        Why::Quiet => "nothing new has happened".to_string(),
    }
}

/// Why an edge is said now.
pub fn edge(topic: Topic, decision: Decision, judgement: Judgement, rule: &Rule) -> String {
    match (topic, decision.reason) {
        (Topic::Blind, Reason::Began) => "it could not be checked for too long".to_string(),
        (Topic::Blind, Reason::Ended) => "it can be checked again".to_string(),
        (Topic::Bad, Reason::Ended) => "the checks pass again".to_string(),
        (_, Reason::Worse) if !matches!(judgement.why, Why::Flapping(_)) => "it got worse".to_string(),
        (_, Reason::Meant) => "no reminders follow".to_string(),
        (_, Reason::CooldownOver) => "still failing".to_string(),
        // The fact says it.
        (Topic::Bad, _) if matches!(judgement.why, Why::Flapping(_)) => "flapping".to_string(),
        (Topic::Bad, _) if rule.test == Test::Stalls => String::new(),
        // One failed check is what the fact says.
        (Topic::Bad, _) if judgement.why == Why::Confirmed && rule.hold.is_zero() && rule.fail_after <= 1 => {
            String::new()
        }
        _ => standing(judgement, rule),
    }
}

/// What `decision` adds to the standing of a signal that was alerted; nothing when it adds nothing.
pub fn silence(decision: Decision, open: bool) -> String {
    match decision.reason {
        Reason::CoolingDown(left) => format!("; alerted, next reminder in {}", people(left)),
        Reason::SaidOnce => "; alerted, reminders are off".to_string(),
        Reason::ClockWentBack => "; alerted; the clock went back, so the cooldown begins again".to_string(),
        Reason::CannotTell if open => "; it was failing when it was last checked".to_string(),
        _ => String::new(),
    }
}
