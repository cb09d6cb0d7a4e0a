//! The verdict on one container: one pure function over what is known of it, and the written table
//! behind it (`adr/0013-container-verdicts.md`, F27).
//!
//! No clock, no memory, no I/O: how long ago something was is handed in. Every combination has an
//! answer and a [`Reason`]. Whatever may still turn out to be a deploy is [`Reading::Unknown`] until its
//! grace is over; [`Verdict::again_in`] says when time alone will change the answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::signal::Reading;

/// How the engine says that a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Made, never started.
    Created,
    /// Runs.
    Running,
    /// Frozen by somebody.
    Paused,
    /// Ended, and the engine is about to start it again.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Could not be removed whole.
    Dead,
    /// Not there, though it should be.
    Gone,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// What its health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has none.
    Unchecked,
    /// In its start period.
    Starting,
    /// Passing.
    Healthy,
    /// Failed too often.
    Unhealthy,
}

/// When the engine starts it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Never.
    No,
    /// After an exit code that is not 0.
    OnFailure,
    /// Always.
    Always,
    /// Always, unless somebody stopped it.
    UnlessStopped,
}

/// How it came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By itself.
    Itself,
    /// By a command: the engine's events say so.
    Command,
    /// By a command: the engine would have started it again otherwise.
    Presumed,
    /// The engine itself ended and took it along.
    WithEngine,
    /// By a signal, and nobody saw from where.
    Unclear,
    /// The engine's events will tell in a moment.
    NotYetTold,
}

impl How {
    /// True when somebody meant it.
    pub fn is_meant(self) -> bool {
        matches!(self, How::Command | How::Presumed)
    }
}

/// True for an exit code that says that a signal ended it which people and engines send: SIGINT, SIGKILL, SIGTERM.
pub fn is_signalled(exit_code: i64) -> bool {
    matches!(exit_code, 130 | 137 | 143)
}

/// All that the verdict depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// How it stands.
    pub standing: Standing,
    /// Its health check.
    pub health: Health,
    /// Exit code of its last end.
    pub exit_code: i64,
    /// A process in it was killed for memory in this run or the one before.
    pub oom: bool,
    /// What the engine does when it ends.
    pub policy: Policy,
    /// Restarts after a failure within the window.
    pub restarts: u32,
    /// It was in a crash loop at the last look, and has not yet been quiet for the window.
    pub looping: bool,
    /// How it ended.
    pub how: How,
    /// How long it has stood like this; for a running one after an OOM kill, since the later of
    /// its start and the kill.
    pub ago: Duration,
    /// It runs, but that it does not crash again must be seen for this much longer: the engine started it anew
    /// before anybody looked.
    pub unproven: Duration,
    /// For one that is gone: it was meant to stay, so that its going is told.
    pub expected: bool,
    /// For one that is gone: it must be there, for the settings or its label say so.
    pub required: bool,
}

/// The numbers of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Restarts within the window that make a crash loop.
    pub restarts: u32,
    /// Time that a stopped or removed container has to come back.
    pub grace: Duration,
    /// Time that a created container has to be started.
    pub start_grace: Duration,
    /// Time that it must run after an OOM kill.
    pub oom_calm: Duration,
    /// Time that an exit waits for the engine's events to say who caused it.
    pub settle: Duration,
}

/// Why the reading is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Runs, and nothing speaks against it.
    Running,
    /// Runs, and its health check passes.
    Healthy,
    /// In the start period of its health check.
    Starting,
    /// Its health check fails.
    Unhealthy,
    /// Restarted too often within the window.
    CrashLoop,
    /// Killed for memory.
    OutOfMemory,
    /// About to be started again, not often enough to be a loop.
    Restarting,
    /// Done with exit code 0, and not meant to run for ever.
    Completed,
    /// Exit code 0, but meant to run for ever.
    Stopped,
    /// Ended with another exit code.
    Failed,
    /// Ended a moment ago; may be replaced.
    Settling,
    /// A command stopped or killed it, and nothing took its place.
    ByCommand,
    /// A command froze it.
    Paused,
    /// Dead in the engine's sense.
    Dead,
    /// Made a moment ago.
    Created,
    /// Made, and nobody started it.
    NeverStarted,
    /// The engine could not start it.
    CannotStart,
    /// Being removed for too long.
    StuckRemoving,
    /// Runs, but was started anew by the engine not long before the first look.
    Unproven,
    /// Not there, and it must be.
    Missing,
    /// Somebody removed it.
    Removed,
    /// Not there, and nobody expects it.
    Forgotten,
    /// The engine used a word that is not known here.
    NotUnderstood,
}

impl Reason {
    /// True for what somebody meant.
    pub fn is_planned(self) -> bool {
        matches!(self, Reason::ByCommand | Reason::Paused)
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// For the rule.
    pub reading: Reading,
    /// For people.
    pub reason: Reason,
    /// After this much more time the answer changes though nothing happens.
    pub again_in: Option<Duration>,
}

/// The table.
pub fn verdict(facts: &Facts, limits: &Limits) -> Verdict {
    let loops = facts.looping || facts.restarts >= limits.restarts;
    match facts.standing {
        Standing::Running => running(facts, limits, loops),
        Standing::Restarting if loops => down(Reason::CrashLoop),
        Standing::Restarting if facts.oom => down(Reason::OutOfMemory),
        Standing::Restarting => unknown(Reason::Restarting),
        Standing::Paused => after(limits.grace, facts.ago, Reason::Settling, Reason::Paused),
        Standing::Dead => down(Reason::Dead),
        Standing::Created if facts.exit_code != 0 => down(Reason::CannotStart),
        Standing::Created => after(limits.start_grace, facts.ago, Reason::Created, Reason::NeverStarted),
        Standing::Removing => after(limits.grace, facts.ago, Reason::Settling, Reason::StuckRemoving),
        Standing::Exited => exited(facts, limits, loops),
        Standing::Gone if facts.required => after(limits.grace, facts.ago, Reason::Settling, Reason::Missing),
        Standing::Gone if facts.expected && facts.ago < limits.grace => {
            after(limits.grace, facts.ago, Reason::Settling, Reason::Removed)
        }
        Standing::Gone if facts.expected => unknown(Reason::Removed),
        Standing::Gone => unknown(Reason::Forgotten),
        Standing::Other => unknown(Reason::NotUnderstood),
    }
}

fn running(facts: &Facts, limits: &Limits, loops: bool) -> Verdict {
    if loops {
        return down(Reason::CrashLoop);
    }
    if facts.oom && facts.ago < limits.oom_calm {
        return Verdict { again_in: Some(limits.oom_calm.saturating_sub(facts.ago)), ..down(Reason::OutOfMemory) };
    }
    match facts.health {
        Health::Unchecked | Health::Healthy if !facts.unproven.is_zero() => {
            Verdict { again_in: Some(facts.unproven), ..unknown(Reason::Unproven) }
        }
        Health::Unchecked => Verdict { reading: Reading::Up, reason: Reason::Running, again_in: None },
        Health::Healthy => Verdict { reading: Reading::Up, reason: Reason::Healthy, again_in: None },
        Health::Starting => unknown(Reason::Starting),
        Health::Unhealthy => down(Reason::Unhealthy),
    }
}

fn exited(facts: &Facts, limits: &Limits, loops: bool) -> Verdict {
    if facts.how.is_meant() {
        return after(limits.grace, facts.ago, Reason::Settling, Reason::ByCommand);
    }
    let signalled = is_signalled(facts.exit_code);
    let wait = if signalled && !facts.oom { limits.grace } else { limits.settle };
    if facts.how == How::NotYetTold && facts.ago < wait {
        return Verdict { again_in: Some(wait.saturating_sub(facts.ago)), ..unknown(Reason::Settling) };
    }
    if facts.oom && facts.exit_code != 0 {
        return down(Reason::OutOfMemory);
    }
    let ends = matches!(facts.policy, Policy::No | Policy::OnFailure);
    if facts.exit_code == 0 && ends {
        return Verdict { reading: Reading::Up, reason: Reason::Completed, again_in: None };
    }
    let last = match facts.exit_code {
        0 => Reason::Stopped,
        _ if loops && facts.how == How::Itself => Reason::CrashLoop,
        _ => Reason::Failed,
    };
    match facts.how {
        How::Itself | How::NotYetTold if facts.exit_code != 0 => down(last),
        _ => after(limits.grace, facts.ago, Reason::Settling, last),
    }
}

/// Unknown for `grace`, then down.
fn after(grace: Duration, ago: Duration, meanwhile: Reason, then: Reason) -> Verdict {
    if ago < grace { Verdict { again_in: Some(grace.saturating_sub(ago)), ..unknown(meanwhile) } } else { down(then) }
}

fn down(reason: Reason) -> Verdict {
    Verdict { reading: Reading::Down, reason, again_in: None }
}

fn unknown(reason: Reason) -> Verdict {
    Verdict { reading: Reading::Unknown, reason, again_in: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        restarts: 3,
        grace: Duration::from_secs(10),
        start_grace: Duration::from_mins(1),
        oom_calm: Duration::from_mins(1),
        settle: Duration::from_secs(1),
    };

    const HOWS: [How; 6] = [How::Itself, How::Command, How::Presumed, How::WithEngine, How::Unclear, How::NotYetTold];

    fn well() -> Facts {
        Facts {
            standing: Standing::Running,
            health: Health::Unchecked,
            exit_code: 0,
            oom: false,
            policy: Policy::UnlessStopped,
            restarts: 0,
            looping: false,
            how: How::Itself,
            ago: Duration::from_hours(1),
            unproven: Duration::ZERO,
            expected: true,
            required: false,
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_table_reads_as_it_is_written_in_the_adr() {
        use Reading::{Down, Unknown, Up};
        use Standing as S;
        let w = well;
        let table: Vec<(&str, Facts, Reading, Reason)> = vec![
            ("runs", w(), Up, Reason::Running),
            ("healthy", Facts { health: Health::Healthy, ..w() }, Up, Reason::Healthy),
            ("starting", Facts { health: Health::Starting, ..w() }, Unknown, Reason::Starting),
            ("unhealthy", Facts { health: Health::Unhealthy, ..w() }, Down, Reason::Unhealthy),
            ("two restarts", Facts { restarts: 2, ..w() }, Up, Reason::Running),
            ("three restarts", Facts { restarts: 3, ..w() }, Down, Reason::CrashLoop),
            ("not yet quiet", Facts { restarts: 1, looping: true, ..w() }, Down, Reason::CrashLoop),
            ("oom, 59 s", Facts { oom: true, ago: seconds(59), ..w() }, Down, Reason::OutOfMemory),
            ("oom, 60 s", Facts { oom: true, ago: seconds(60), ..w() }, Up, Reason::Running),
            ("oom, 60 s, ill", Facts { oom: true, health: Health::Unhealthy, ..w() }, Down, Reason::Unhealthy),
            (
                "restarts",
                Facts { standing: S::Restarting, exit_code: 1, restarts: 1, ..w() },
                Unknown,
                Reason::Restarting,
            ),
            ("loops", Facts { standing: S::Restarting, exit_code: 1, restarts: 3, ..w() }, Down, Reason::CrashLoop),
            (
                "oom restart",
                Facts { standing: S::Restarting, exit_code: 137, oom: true, ..w() },
                Down,
                Reason::OutOfMemory,
            ),
            ("just paused", Facts { standing: S::Paused, ago: seconds(9), ..w() }, Unknown, Reason::Settling),
            ("paused", Facts { standing: S::Paused, ..w() }, Down, Reason::Paused),
            ("dead", Facts { standing: S::Dead, ..w() }, Down, Reason::Dead),
            ("just made", Facts { standing: S::Created, ago: seconds(59), ..w() }, Unknown, Reason::Created),
            ("left lying", Facts { standing: S::Created, ago: seconds(60), ..w() }, Down, Reason::NeverStarted),
            (
                "bad command",
                Facts { standing: S::Created, exit_code: 127, ago: seconds(0), ..w() },
                Down,
                Reason::CannotStart,
            ),
            ("removing", Facts { standing: S::Removing, ago: seconds(9), ..w() }, Unknown, Reason::Settling),
            ("stuck", Facts { standing: S::Removing, ago: seconds(10), ..w() }, Down, Reason::StuckRemoving),
            ("gone", Facts { standing: S::Gone, ago: seconds(9), ..w() }, Unknown, Reason::Settling),
            ("removed", Facts { standing: S::Gone, ago: seconds(10), ..w() }, Unknown, Reason::Removed),
            ("away", Facts { standing: S::Gone, required: true, ago: seconds(9), ..w() }, Unknown, Reason::Settling),
            ("missing", Facts { standing: S::Gone, required: true, ago: seconds(10), ..w() }, Down, Reason::Missing),
            ("unproven", Facts { unproven: seconds(1), ..w() }, Unknown, Reason::Unproven),
            (
                "unproven, ill",
                Facts { unproven: seconds(1), health: Health::Unhealthy, ..w() },
                Down,
                Reason::Unhealthy,
            ),
            ("unproven, loops", Facts { unproven: seconds(1), restarts: 3, ..w() }, Down, Reason::CrashLoop),
            ("let go", Facts { standing: S::Gone, expected: false, ..w() }, Unknown, Reason::Forgotten),
            ("new word", Facts { standing: S::Other, ..w() }, Unknown, Reason::NotUnderstood),
        ];
        for (name, facts, reading, reason) in table {
            let given = verdict(&facts, &LIMITS);
            assert_eq!((given.reading, given.reason), (reading, reason), "{name}");
        }
    }

    #[test]
    fn an_exit_is_judged_by_code_policy_cause_and_age() {
        use Reading::{Down, Unknown, Up};
        let policies = [Policy::No, Policy::OnFailure, Policy::Always, Policy::UnlessStopped];
        for policy in policies {
            let ends = matches!(policy, Policy::No | Policy::OnFailure);
            for how in HOWS {
                for (ago, code) in [(0, 0), (0, 1), (0, 143), (5, 0), (5, 1), (10, 0), (10, 143), (99, 1)] {
                    let facts =
                        Facts { standing: Standing::Exited, exit_code: code, policy, how, ago: seconds(ago), ..well() };
                    let told_by = if code == 143 { 10 } else { 1 };
                    let (reading, reason) = match code {
                        _ if how.is_meant() && ago < 10 => (Unknown, Reason::Settling),
                        _ if how.is_meant() => (Down, Reason::ByCommand),
                        _ if how == How::NotYetTold && ago < told_by => (Unknown, Reason::Settling),
                        0 if ends => (Up, Reason::Completed),
                        0 if ago < 10 => (Unknown, Reason::Settling),
                        0 => (Down, Reason::Stopped),
                        _ if matches!(how, How::Unclear | How::WithEngine) && ago < 10 => (Unknown, Reason::Settling),
                        _ => (Down, Reason::Failed),
                    };
                    let given = verdict(&facts, &LIMITS);
                    assert_eq!((given.reading, given.reason), (reading, reason), "{facts:?}");
                    let oom = verdict(&Facts { oom: true, ..facts }, &LIMITS);
                    if code != 0 && !how.is_meant() && (how != How::NotYetTold || ago >= 1) {
                        assert_eq!((oom.reading, oom.reason), (Down, Reason::OutOfMemory), "{facts:?}");
                    }
                    let looping = verdict(&Facts { restarts: 3, ..facts }, &LIMITS);
                    assert_eq!(looping.reading, reading, "a count changes no exit's reading: {facts:?}");
                }
            }
        }
    }

    /// Every combination there is, at the edges of every duration.
    fn everything() -> Vec<Facts> {
        use Standing as S;
        let mut all = Vec::new();
        for standing in
            [S::Created, S::Running, S::Paused, S::Restarting, S::Removing, S::Exited, S::Dead, S::Gone, S::Other]
        {
            for health in [Health::Unchecked, Health::Starting, Health::Healthy, Health::Unhealthy] {
                for policy in [Policy::No, Policy::OnFailure, Policy::Always, Policy::UnlessStopped] {
                    for how in HOWS {
                        for exit_code in [i64::MIN, -1, 0, 1, 137, 143, i64::MAX] {
                            for restarts in [0, 2, 3, u32::MAX] {
                                for ago in [0, 999, 1_000, 9_999, 10_000, 59_999, 60_000, u64::MAX] {
                                    for bits in 0..16 {
                                        all.push(Facts {
                                            standing,
                                            health,
                                            exit_code,
                                            policy,
                                            restarts,
                                            how,
                                            oom: bits & 1 != 0,
                                            looping: bits & 2 != 0,
                                            unproven: Duration::ZERO,
                                            expected: bits & 4 != 0,
                                            required: bits & 8 != 0,
                                            ago: Duration::from_millis(ago),
                                        });
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        all
    }

    #[test]
    fn in_every_combination_waiting_ends_and_down_has_a_cause() {
        for facts in everything() {
            let given = verdict(&facts, &LIMITS);
            assert!(matches!(given.reading, Reading::Up | Reading::Down | Reading::Unknown), "{facts:?}");
            if let Some(wait) = given.again_in {
                assert!(wait > Duration::ZERO && wait <= seconds(60), "{facts:?}");
                let later = verdict(&Facts { ago: facts.ago + wait, ..facts }, &LIMITS);
                let twice = facts.how == How::NotYetTold && facts.exit_code == 0;
                assert!(twice || (later.reading, later.reason) != (given.reading, given.reason), "{facts:?}");
                assert!(later.again_in.is_none() || twice, "one wait is the last: {facts:?}");
            }
            if given.reading == Reading::Up {
                let runs = facts.standing == Standing::Running && facts.restarts < 3 && !facts.looping;
                let done = facts.standing == Standing::Exited && facts.exit_code == 0;
                assert!(runs || done, "only these are well: {facts:?}");
                assert!(!runs || !matches!(facts.health, Health::Unhealthy | Health::Starting), "{facts:?}");
            }
            if given.reading == Reading::Unknown && given.again_in.is_none() {
                assert!(
                    matches!(
                        given.reason,
                        Reason::Starting
                            | Reason::Restarting
                            | Reason::Forgotten
                            | Reason::Removed
                            | Reason::NotUnderstood
                    ),
                    "{facts:?}"
                );
            }
        }
    }

    #[test]
    fn being_worse_never_makes_it_better() {
        let rank = |reading| match reading {
            Reading::Up => 0,
            Reading::Unknown => 1,
            _ => 2,
        };
        for facts in everything().into_iter().filter(|f| f.standing == Standing::Running) {
            let base = rank(verdict(&facts, &LIMITS).reading);
            for worse in [
                Facts { oom: true, ..facts },
                Facts { looping: true, ..facts },
                Facts { unproven: seconds(1), ..facts },
                Facts { restarts: facts.restarts.saturating_add(3), ..facts },
                Facts { health: Health::Unhealthy, ..facts },
            ] {
                assert!(rank(verdict(&worse, &LIMITS).reading) >= base, "{facts:?} {worse:?}");
            }
        }
    }
}
