//! What to say about one signal now: the heart of the program, and the smallest part of it.
//!
//! [`decide`] is pure and total: whatever the clock shows, it answers, and it always says why.
//! It knows nothing of rules (is the condition active?) nor of channels (was it delivered?).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Mono;

/// Does the condition hold now?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Active {
    /// It holds.
    Yes,
    /// It does not.
    No,
    /// Nobody can tell.
    Unknown,
}

/// What was said last about a signal that is alerting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When an alert or realert was decided last.
    pub at: Mono,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Say that it began.
    Alert,
    /// Say again that it still holds.
    Realert,
    /// Say that it is over.
    Recovery,
    /// It was said; stay silent and go on remembering it.
    Hold,
    /// Nothing is wrong and nothing was said.
    Nothing,
}

impl Action {
    /// Every action, for tables and metrics.
    pub const ALL: [Action; 5] = [Action::Alert, Action::Realert, Action::Recovery, Action::Hold, Action::Nothing];

    /// The word used in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Alert => "alert",
            Action::Realert => "realert",
            Action::Recovery => "recovery",
            Action::Hold => "hold",
            Action::Nothing => "nothing",
        }
    }
}

/// Why that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The condition holds and nobody was told yet.
    Began,
    /// It still holds and the cooldown is over.
    CooldownOver,
    /// It still holds and was said less than a cooldown ago; this much is left.
    CoolingDown(Duration),
    /// It still holds and reminders are switched off (cooldown 0).
    SaidOnce,
    /// The clock shows an instant before the last alert. The cooldown begins again from now, so a
    /// clock that went back delays a reminder by one cooldown at most, and never floods.
    ClockWentBack,
    /// It still holds and is worse than what was said: told before the cooldown is over.
    Worse,
    /// It still holds, but now somebody means it: told once.
    Meant,
    /// The condition is over.
    Ended,
    /// Nothing is wrong.
    Quiet,
    /// Nobody can tell; unknown neither fires nor resolves.
    CannotTell,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// Decides what to say about one signal. `prev` is what was said last while it is alerting, `None`
/// when it is not; `cooldown` zero means that a firing signal is never said again.
pub fn decide(active: Active, prev: Option<Said>, now: Mono, cooldown: Duration) -> Decision {
    let answer = |action, reason| Decision { action, reason };
    match (active, prev) {
        // Not knowing is not news: it must neither wake a person nor tell them that all is well.
        (Active::Unknown, None) => answer(Action::Nothing, Reason::CannotTell),
        (Active::Unknown, Some(_)) => answer(Action::Hold, Reason::CannotTell),
        (Active::No, None) => answer(Action::Nothing, Reason::Quiet),
        // Whoever was told of the trouble is told of its end.
        (Active::No, Some(_)) => answer(Action::Recovery, Reason::Ended),
        (Active::Yes, None) => answer(Action::Alert, Reason::Began),
        (Active::Yes, Some(_)) if cooldown.is_zero() => answer(Action::Hold, Reason::SaidOnce),
        (Active::Yes, Some(said)) if now < said.at => answer(Action::Hold, Reason::ClockWentBack),
        (Active::Yes, Some(said)) => match cooldown.checked_sub(now.since(said.at)) {
            Some(left) if !left.is_zero() => answer(Action::Hold, Reason::CoolingDown(left)),
            _ => answer(Action::Realert, Reason::CooldownOver),
        },
    }
}

/// What is remembered after a decision was carried out at `now`.
pub fn after(decision: Decision, prev: Option<Said>, now: Mono) -> Option<Said> {
    match (decision.action, decision.reason) {
        (Action::Alert | Action::Realert, _) | (Action::Hold, Reason::ClockWentBack) => Some(Said { at: now }),
        (Action::Hold, _) => prev,
        (Action::Recovery | Action::Nothing, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const HOUR_MS: i64 = 3_600_000;

    fn actions(prev: Option<Said>, now: i64, cooldown: Duration) -> [Decision; 3] {
        [Active::Yes, Active::No, Active::Unknown].map(|active| decide(active, prev, Mono(now), cooldown))
    }

    #[test]
    fn every_cell_of_the_table() {
        use Action::{Alert, Hold, Nothing, Realert, Recovery};
        let said = Some(Said { at: Mono(1_000) });
        let left = |millis| Reason::CoolingDown(Duration::from_millis(millis));
        // What was said, the clock, the cooldown; then the answer while active. The other two columns never vary.
        let table = [
            (None, 0, HOUR, Alert, Reason::Began),
            (None, i64::MIN, Duration::ZERO, Alert, Reason::Began),
            (None, i64::MAX, Duration::MAX, Alert, Reason::Began),
            (said, 1_000, HOUR, Hold, left(3_600_000)),
            (said, 1_000 + HOUR_MS - 1, HOUR, Hold, left(1)),
            (said, 1_000 + HOUR_MS, HOUR, Realert, Reason::CooldownOver),
            (said, 1_000 + HOUR_MS + 1, HOUR, Realert, Reason::CooldownOver),
            (said, i64::MAX, HOUR, Realert, Reason::CooldownOver),
            (said, 999, HOUR, Hold, Reason::ClockWentBack),
            (said, i64::MIN, HOUR, Hold, Reason::ClockWentBack),
            (said, 1_000, Duration::ZERO, Hold, Reason::SaidOnce),
            (said, 999, Duration::ZERO, Hold, Reason::SaidOnce),
            (said, i64::MAX, Duration::ZERO, Hold, Reason::SaidOnce),
            (said, 1_000, Duration::from_nanos(1), Hold, Reason::CoolingDown(Duration::from_nanos(1))),
            (said, 1_001, Duration::from_nanos(1), Realert, Reason::CooldownOver),
            (Some(Said { at: Mono(i64::MIN) }), i64::MAX, HOUR, Realert, Reason::CooldownOver),
            (Some(Said { at: Mono(i64::MAX) }), i64::MIN, HOUR, Hold, Reason::ClockWentBack),
        ];
        for (prev, now, cooldown, action, reason) in table {
            let [yes, no, unknown] = actions(prev, now, cooldown);
            assert_eq!(yes, Decision { action, reason }, "{prev:?} {now} {cooldown:?}");
            let (end, silent) = if prev.is_some() { (Recovery, Hold) } else { (Nothing, Nothing) };
            assert_eq!(no.action, end);
            assert_eq!(unknown, Decision { action: silent, reason: Reason::CannotTell });
        }
    }

    #[test]
    fn a_clock_that_went_back_begins_the_cooldown_again() {
        let held = decide(Active::Yes, Some(Said { at: Mono(HOUR_MS) }), Mono(0), HOUR);
        let said = after(held, Some(Said { at: Mono(HOUR_MS) }), Mono(0));
        assert_eq!(said, Some(Said { at: Mono(0) }));
        assert_eq!(decide(Active::Yes, said, Mono(HOUR_MS), HOUR).action, Action::Realert);
    }

    #[test]
    fn the_extremes_of_the_clock_always_have_an_answer() {
        let ends = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        for at in ends {
            for now in ends {
                for cooldown in [Duration::ZERO, Duration::from_nanos(1), HOUR, Duration::MAX] {
                    for decision in actions(Some(Said { at: Mono(at) }), now, cooldown) {
                        let said = after(decision, Some(Said { at: Mono(at) }), Mono(now));
                        assert_eq!(said.is_none(), decision.action == Action::Recovery);
                    }
                }
            }
        }
    }
}
