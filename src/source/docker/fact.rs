//! The facts of a verdict in words for people: what was seen, and what helps at three in the morning.
//!
//! Exit code with the signal's name, memory, restarts, image, the tail of the failing health check.
//! Text that a container wrote is cut short and loses its control characters here (T15); escaping for
//! a channel is the notifier's.

use std::fmt::Write as _;
use std::time::Duration;

use super::verdict::{Facts, How, Limits, Policy, Reason, is_signalled};
use crate::client::docker::Inspected;
use crate::config::veil;
use crate::core::time::people;

/// Failed checks in a row that make a container unhealthy where nobody set another number.
const RETRIES: u32 = 3;
/// Characters of a health check's output that are told at most.
const TAIL: usize = 200;

/// What the words need besides the facts.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The last answer about it, if it was ever seen.
    pub inspected: Option<&'a Inspected>,
    /// The last exit code known; a running container shows none.
    pub last_exit: Option<i64>,
    /// The window in which restarts are counted.
    pub window: Duration,
}

/// One sentence, at most a few hundred characters.
pub fn fact(reason: Reason, facts: &Facts, limits: &Limits, told: &Told<'_>) -> String {
    let exit = told.last_exit.unwrap_or(facts.exit_code);
    let mut text = match reason {
        Reason::Running => return "running".to_string(),
        Reason::Healthy => return "running, healthy".to_string(),
        Reason::Starting => return "running, its health check has not passed yet".to_string(),
        Reason::Completed => return "completed, exit code 0".to_string(),
        Reason::Created => return "created, not started yet".to_string(),
        Reason::Forgotten | Reason::Removed => return "removed".to_string(),
        Reason::Unproven => {
            let left = people(facts.unproven);
            return format!(
                "running, but the engine restarted it before the first check; {left} to go without a crash"
            );
        }
        Reason::NotUnderstood => return "the engine reports a state that this version does not know".to_string(),
        Reason::Settling => return settling(facts, limits),
        Reason::Restarting => return format!("restarting after {}", code(exit)),
        Reason::Unhealthy => unhealthy(told.inspected),
        Reason::CrashLoop => {
            let (restarts, window) = (times(facts.restarts, "restart"), people(told.window));
            format!("crash loop: {restarts} in {window} (limit {}), last {}", limits.restarts, code(exit))
        }
        Reason::OutOfMemory => {
            let limit = match told.inspected.map_or(0, |inspected| inspected.host_config.memory) {
                0 => "without a memory limit of its own".to_string(),
                limit => format!("memory limit {}", bytes(limit)),
            };
            format!("out of memory: killed by the kernel (OOM), {}, {limit}", code(if exit == 0 { 137 } else { exit }))
        }
        Reason::ByCommand if facts.how == How::Presumed => {
            let policy = policy(facts.policy);
            format!(
                "stopped by a command, {}; its restart policy ({policy}) would have restarted it otherwise",
                code(facts.exit_code)
            )
        }
        Reason::ByCommand => format!("stopped by a command, {}", code(facts.exit_code)),
        Reason::Stopped => format!("stopped, exit code 0, though its restart policy is {}", policy(facts.policy)),
        Reason::Failed => failed(facts, told),
        Reason::Paused => "paused by a command".to_string(),
        Reason::Dead => "dead: the engine could not remove it completely".to_string(),
        Reason::NeverStarted => format!("created, but not started for more than {}", people(limits.start_grace)),
        Reason::CannotStart => format!("cannot be started, {}", code(facts.exit_code)),
        Reason::StuckRemoving => format!("being removed for more than {}", people(limits.grace)),
        Reason::Missing => "missing: no such container".to_string(),
    };
    if let Some(inspected) = told.inspected {
        if matches!(reason, Reason::CannotStart | Reason::Dead) && !inspected.state.error.is_empty() {
            let _ = write!(text, ": {}", clean(&veil::prose(&inspected.state.error), TAIL));
        }
        text.push_str(and_then(reason, facts));
        if reason != Reason::CrashLoop && facts.restarts > 0 {
            let _ = write!(text, "; {} in {}", times(facts.restarts, "restart"), people(told.window));
        }
        let image = clean(&inspected.config.image, 100);
        if !image.is_empty() {
            let _ = write!(text, "; image {image}");
        }
    }
    text
}

/// What the engine does about it.
fn and_then(reason: Reason, facts: &Facts) -> &'static str {
    use super::verdict::Standing;
    match (reason, facts.policy) {
        (Reason::CrashLoop, _) if facts.standing != Standing::Exited => "; Docker keeps restarting it",
        (Reason::Failed | Reason::OutOfMemory, Policy::No) if facts.standing == Standing::Exited => {
            "; not restarted (restart policy no)"
        }
        (Reason::Failed | Reason::OutOfMemory, Policy::OnFailure) if facts.standing == Standing::Exited => {
            "; not restarted again (restart policy on-failure)"
        }
        (Reason::OutOfMemory, _) if facts.standing == Standing::Restarting => "; Docker restarts it",
        _ => "",
    }
}

fn failed(facts: &Facts, told: &Told<'_>) -> String {
    let exit = code(facts.exit_code);
    if facts.how == How::Unclear {
        return format!("ended by a signal, {exit}; no event says whether a command sent it");
    }
    if facts.how == How::WithEngine {
        return format!("ended together with the Docker engine, {exit}");
    }
    if !is_signalled(facts.exit_code) || facts.how != How::Itself {
        return format!("exited by itself, {exit}");
    }
    let limit = told.inspected.map_or(0, |inspected| inspected.host_config.memory);
    let limit = match (facts.exit_code, limit) {
        (137, 1..) => format!(", memory limit {}", bytes(limit)),
        _ => String::new(),
    };
    format!("ended by a signal that no docker command sent, {exit}{limit}")
}

/// Why part of the picture is missing: how many, who, and the first reason.
pub fn blind(hung: &[(String, String)], all: usize) -> Option<String> {
    let (_, why) = hung.first()?;
    let names: Vec<&str> = hung.iter().take(5).map(|(name, _)| name.as_str()).collect();
    let more = match hung.len() - names.len() {
        0 => String::new(),
        left => format!(" and {left} more"),
    };
    Some(format!("cannot inspect {} of {all} containers ({}{more}): {}", hung.len(), names.join(", "), clean(why, 300)))
}

/// Why nothing can be said about a container that did not answer.
pub fn not_inspected(why: &str) -> String {
    format!("cannot be looked at: {}", clean(why, 300))
}

fn settling(facts: &Facts, limits: &Limits) -> String {
    use super::verdict::Standing;
    let what = match facts.standing {
        Standing::Paused => return format!("paused; told after {} if it is not continued", people(limits.grace)),
        Standing::Gone | Standing::Removing => "removed".to_string(),
        _ => format!("stopped with {}", code(facts.exit_code)),
    };
    format!("{what}; it has {} to be replaced or started again", people(limits.grace))
}

fn unhealthy(inspected: Option<&Inspected>) -> String {
    let mut text = "unhealthy".to_string();
    let Some(health) = inspected.and_then(|i| i.state.health.as_ref()) else { return text };
    if health.failing_streak > 0 {
        let retries = inspected.map_or(0, |seen| seen.config.healthcheck.retries);
        let limit = if retries == 0 { RETRIES } else { retries };
        let _ = write!(text, ": {} in a row (limit {limit})", times(health.failing_streak, "failed check"));
    }
    if let Some(result) = health.log.iter().rev().find(|result| result.exit_code != 0) {
        let _ = write!(text, ", exit code {}", result.exit_code);
        let output = clean_tail(&veil::prose(&result.output), TAIL);
        if !output.is_empty() {
            let _ = write!(text, "; output: {output}");
        }
    }
    text
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::No => "no",
        Policy::OnFailure => "on-failure",
        Policy::Always => "always",
        Policy::UnlessStopped => "unless-stopped",
    }
}

fn times(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// `256 MiB`.
fn bytes(bytes: i64) -> String {
    const MIB: i64 = 1 << 20;
    match bytes {
        0..MIB => format!("{bytes} bytes"),
        _ if bytes % (MIB << 10) == 0 => format!("{} GiB", bytes / (MIB << 10)),
        _ => format!("{} MiB", bytes / MIB),
    }
}

/// `exit code 137 (SIGKILL)`.
pub fn code(exit: i64) -> String {
    match (exit, exit.checked_sub(128).and_then(signal)) {
        (126, _) => format!("exit code {exit} (its command cannot be run)"),
        (127, _) => format!("exit code {exit} (its command was not found)"),
        (_, Some(name)) => format!("exit code {exit} ({name})"),
        _ => format!("exit code {exit}"),
    }
}

/// The name of a signal.
pub fn signal(number: i64) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// One line without control characters or invisible direction marks, at most `limit` characters
/// from the beginning.
pub fn clean(text: &str, limit: usize) -> String {
    one_line(text).chars().take(limit).collect()
}

/// As [`clean`], from the end.
fn clean_tail(text: &str, limit: usize) -> String {
    let line = one_line(text);
    let skip = line.chars().count().saturating_sub(limit);
    line.chars().skip(skip).collect()
}

fn one_line(text: &str) -> String {
    let blank = |c: char| c.is_whitespace() || c.is_control();
    let unseen =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let shown: String = text.chars().filter(|c| !unseen(*c)).collect();
    shown.split(blank).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Health, Standing};
    use super::*;
    use crate::client::docker::{ContainerConfig, ContainerState, HealthResult};

    fn facts() -> Facts {
        Facts {
            standing: Standing::Exited,
            health: Health::Unchecked,
            exit_code: 1,
            oom: false,
            policy: Policy::Always,
            restarts: 0,
            looping: false,
            how: How::Itself,
            ago: Duration::ZERO,
            unproven: Duration::from_mins(4),
            expected: true,
            required: true,
        }
    }

    fn say(reason: Reason, facts: &Facts, inspected: &Inspected, last_exit: Option<i64>) -> String {
        let limits = Limits {
            restarts: 3,
            grace: Duration::from_secs(10),
            start_grace: Duration::from_mins(1),
            oom_calm: Duration::from_mins(1),
            settle: Duration::from_secs(1),
        };
        fact(reason, facts, &limits, &Told { inspected: Some(inspected), last_exit, window: Duration::from_mins(10) })
    }

    fn nginx() -> Inspected {
        Inspected {
            config: ContainerConfig { image: "nginx:1.27".into(), ..ContainerConfig::default() },
            ..Inspected::default()
        }
    }

    #[test]
    fn the_fact_names_what_helps() {
        let f = facts();
        let table = [
            (Reason::Failed, f, "exited by itself, exit code 1; image nginx:1.27"),
            (
                Reason::Failed,
                Facts { exit_code: 139, ..f },
                "exited by itself, exit code 139 (SIGSEGV); image nginx:1.27",
            ),
            (
                Reason::Failed,
                Facts { exit_code: 143, how: How::Unclear, ..f },
                "ended by a signal, exit code 143 (SIGTERM); no event says whether a command sent it; image nginx:1.27",
            ),
            (
                Reason::Failed,
                Facts { exit_code: 137, ..f },
                "ended by a signal that no docker command sent, exit code 137 (SIGKILL); image nginx:1.27",
            ),
            (
                Reason::ByCommand,
                Facts { exit_code: 143, how: How::Command, ..f },
                "stopped by a command, exit code 143 (SIGTERM); image nginx:1.27",
            ),
            (
                Reason::ByCommand,
                Facts { exit_code: 0, how: How::Presumed, ..f },
                "stopped by a command, exit code 0; its restart policy (always) would have restarted it otherwise; image nginx:1.27",
            ),
            (
                Reason::CrashLoop,
                Facts { restarts: 5, ..f },
                "crash loop: 5 restarts in 10 min (limit 3), last exit code 1; image nginx:1.27",
            ),
            (
                Reason::OutOfMemory,
                Facts { restarts: 1, exit_code: 137, ..f },
                "out of memory: killed by the kernel (OOM), exit code 137 (SIGKILL), without a memory limit of its own; 1 restart in 10 min; image nginx:1.27",
            ),
            (
                Reason::Stopped,
                Facts { exit_code: 0, ..f },
                "stopped, exit code 0, though its restart policy is always; image nginx:1.27",
            ),
            (
                Reason::Settling,
                Facts { exit_code: 143, ..f },
                "stopped with exit code 143 (SIGTERM); it has 10 s to be replaced or started again",
            ),
        ];
        for (reason, facts, expected) in table {
            assert_eq!(say(reason, &facts, &nginx(), None), expected);
        }
        assert!(
            say(Reason::CrashLoop, &Facts { exit_code: 0, restarts: 3, ..f }, &nginx(), Some(7))
                .contains("exit code 7")
        );
    }

    #[test]
    fn the_health_log_is_cut_from_the_front_and_cleaned() {
        let mut sick = nginx();
        let output = format!("{}\u{1b}[31mred\u{7}\r\n\u{202e}timeout \u{0}end", "x".repeat(4096));
        sick.state = ContainerState {
            health: Some(crate::client::docker::Health {
                failing_streak: 4,
                log: vec![
                    HealthResult { exit_code: 1, output, ..Default::default() },
                    HealthResult { exit_code: 0, output: "fine".into(), ..Default::default() },
                ],
                ..Default::default()
            }),
            ..Default::default()
        };
        let text = say(Reason::Unhealthy, &facts(), &sick, None);
        assert!(text.starts_with("unhealthy: 4 failed checks in a row (limit 3), exit code 1; output: xxx"), "{text}");
        assert!(text.contains("[31mred timeout end; image"), "{text}");
        assert!(text.chars().count() < 300 && !text.contains(|c: char| c.is_control() || c == '\u{202e}'));
    }

    #[test]
    fn every_reason_has_words_for_any_numbers() {
        for exit in [i64::MIN, -1, 0, 128, 129, 255, i64::MAX] {
            for reason in [
                Reason::Running,
                Reason::Healthy,
                Reason::Starting,
                Reason::Unhealthy,
                Reason::CrashLoop,
                Reason::OutOfMemory,
                Reason::Restarting,
                Reason::Completed,
                Reason::Stopped,
                Reason::Failed,
                Reason::Settling,
                Reason::ByCommand,
                Reason::Paused,
                Reason::Dead,
                Reason::Created,
                Reason::NeverStarted,
                Reason::CannotStart,
                Reason::StuckRemoving,
                Reason::Missing,
                Reason::Removed,
                Reason::Unproven,
                Reason::Forgotten,
                Reason::NotUnderstood,
            ] {
                let text = say(reason, &Facts { exit_code: exit, restarts: u32::MAX, ..facts() }, &nginx(), Some(exit));
                assert!(!text.is_empty() && text.len() < 300, "{text}");
            }
        }
    }
}
