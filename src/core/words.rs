//! Why a signal stands as it does and why something is said or not, in words for people.
//!
//! The numbers come from the judgement and the decision; this file decides nothing.

use super::decide::{Decision, Reason};
use super::memory::{FLAP_LOOKS, Judgement, Why};
use super::rule::Rule;
use super::talk::Topic;
use super::time::people;

/// Why the condition stands as it does.
pub fn standing(judgement: Judgement, rule: &Rule) -> String {
    match judgement.why {
        Why::NotSeen => "it cannot be seen".to_string(),
        Why::WarmingUp => "seen bad in the first look after a start or a gap; the next look counts".to_string(),
        Why::LooksGood => "the last look was good".to_string(),
        Why::Counting(n) => format!("{n} of {} looks in a row were bad", rule.fail_after),
        Why::Holding(held) => format!("bad for {} of {}", people(held), people(rule.hold)),
        Why::Confirmed if !rule.hold.is_zero() => format!("it lasted for {}", people(rule.hold)),
        Why::Confirmed if rule.fail_after > 1 => format!("{} looks in a row were bad", rule.fail_after),
        Why::Confirmed => "it was seen".to_string(),
        Why::Recovering(n) => format!("{n} of {} looks in a row were good", rule.recover_after),
        Why::Flapping(n) => format!("it is flapping: {n} changes within {FLAP_LOOKS} looks"),
        Why::Quiet => "nothing new has happened".to_string(),
    }
}

/// Why an edge is said now.
pub fn edge(topic: Topic, decision: Decision, judgement: Judgement, rule: &Rule) -> String {
    match (topic, decision.reason) {
        (Topic::Blind, Reason::Began) => "nobody could see it for long".to_string(),
        (Topic::Blind, Reason::Ended) => "it can be seen again".to_string(),
        (Topic::Bad, Reason::Ended) => "it is over".to_string(),
        (_, Reason::Worse) if !matches!(judgement.why, Why::Flapping(_)) => "it got worse".to_string(),
        (_, Reason::CooldownOver) => "it lasts".to_string(),
        _ => standing(judgement, rule),
    }
}

/// What `decision` adds to the standing of a signal that was alerted; nothing when it adds nothing.
pub fn silence(decision: Decision, open: bool) -> String {
    match decision.reason {
        Reason::CoolingDown(left) => format!("; said already, next reminder in {}", people(left)),
        Reason::SaidOnce => "; said already, reminders are off".to_string(),
        Reason::ClockWentBack => "; said already, the clock went back, the cooldown begins again".to_string(),
        Reason::CannotTell if open => "; it was firing and has not been seen well since".to_string(),
        _ => String::new(),
    }
}
