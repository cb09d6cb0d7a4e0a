//! What happened to a container in a few words, and the one next step: the table behind `docs/messages.md`.
//!
//! One row for each verdict, and for a failure one for each exit code that says more than "an error". A step is a
//! command that can be pasted, with the container's own name in it, then what to change. Pure text; whether
//! something is told at all is decided elsewhere.

use super::fact::{self, clean};
use super::select::Called;
use super::verdict::{Facts, How, Reason, is_signalled};
use crate::client::docker::Inspected;
use crate::config::veil;
use crate::core::about::Details;

/// Characters of a health check that are shown at most.
const CHECK: usize = 160;

/// What happened and what to do next; nothing for what needs no words.
pub fn advice(reason: Reason, facts: &Facts, called: &Called, inspected: Option<&Inspected>, last: i64) -> Details {
    let name = clean(&called.name, 128);
    let logs = |lines: u32| format!("docker logs --tail {lines} {name}");
    let silence = || format!("watchdog silence 'container/{name}' --for 8h");
    match reason {
        Reason::Running => Details::new("runs again", ""),
        Reason::Healthy => Details::new("is healthy again", ""),
        Reason::Completed => Details::new("has completed", ""),
        Reason::Failed => failed(facts, &name),
        Reason::CrashLoop => {
            let look = by_code(last, &name).unwrap_or_else(|| logs(50));
            Details::new("keeps crashing", format!("{look}; docker stop {name} ends the loop"))
        }
        Reason::OutOfMemory if inspected.is_some_and(|seen| seen.host_config.memory > 0) => {
            Details::new("ran out of memory", format!("docker stats {name}; raise its mem_limit, or find the leak"))
        }
        Reason::OutOfMemory => {
            let advice = "docker stats; no limit is set, so the host ran out: set mem_limit where the leak is";
            Details::new("ran out of memory", advice)
        }
        Reason::Unhealthy => Details::new("is unhealthy", by_hand(&name, inspected)),
        Reason::Starting => Details::new("has not become healthy", by_hand(&name, inspected)),
        Reason::Restarting => Details::new("is restarting", logs(50)),
        Reason::ByCommand => Details::new(
            "was stopped by a command",
            format!("docker start {name}; if more work is planned: {}", silence()),
        ),
        Reason::Paused => Details::new(
            "was paused by a command",
            format!("docker unpause {name}; if more work is planned: {}", silence()),
        ),
        Reason::Stopped => Details::new("has stopped", format!("{}; docker start {name}", logs(50))),
        Reason::Dead => {
            Details::new("is dead", format!("docker rm --force {name}; journalctl -u docker --since '-1 hour'"))
        }
        Reason::NeverStarted => Details::new("was never started", format!("docker start {name}")),
        Reason::CannotStart => {
            let look = by_code(facts.exit_code, &name);
            let free = || format!("docker start {name}, once the port, mount or device that it names is there");
            Details::new("cannot be started", look.unwrap_or_else(free))
        }
        Reason::StuckRemoving => {
            Details::new("cannot be removed", format!("docker rm --force {name}; journalctl -u docker"))
        }
        Reason::Missing => {
            let start = match &called.service {
                Some(service) => format!("docker compose up -d {}", clean(service, 64)),
                None => format!("start {name}"),
            };
            let unless = if called.required {
                "the label watchdog.required=true says that it must be there"
            } else {
                "or take its name out of docker.containers"
            };
            Details::new("is missing", format!("{start}; {unless}"))
        }
        Reason::Settling
        | Reason::Unproven
        | Reason::Created
        | Reason::Removed
        | Reason::Forgotten
        | Reason::NotUnderstood => Details::default(),
    }
}

/// One that ended with an error, by its exit code.
fn failed(facts: &Facts, name: &str) -> Details {
    let exit = facts.exit_code;
    let happened = match exit {
        _ if facts.how == How::WithEngine => "has stopped",
        137 if facts.how != How::Unclear => "was killed",
        126 | 127 => "cannot be run",
        _ if is_signalled(exit) => "has stopped",
        _ if exit > 128 && fact::signal(exit - 128).is_some() => "crashed",
        _ => "ended with an error",
    };
    let advice = match exit {
        _ if facts.how == How::WithEngine => {
            format!("docker start {name}; with a restart policy it would start with the engine")
        }
        137 if facts.how != How::Unclear => format!("journalctl -k | grep -i oom; docker inspect {name}"),
        _ if is_signalled(exit) => {
            format!("docker start {name}; if it was meant: watchdog silence 'container/{name}' --for 8h")
        }
        _ => by_code(exit, name).unwrap_or_else(|| format!("docker logs --tail 50 {name}")),
    };
    Details::new(happened, advice)
}

/// What an exit code asks for, where it says more than that there was an error.
fn by_code(exit: i64, name: &str) -> Option<String> {
    match exit {
        126 | 127 => Some(format!("docker inspect -f '{{{{.Config.Entrypoint}}}} {{{{.Config.Cmd}}}}' {name}")),
        132 | 134 | 135 | 136 | 139 => {
            Some(format!("docker logs --tail 100 {name}; look for a core dump, a bad image, the wrong architecture"))
        }
        _ => None,
    }
}

/// The health check as a command that can be pasted; how to find it, where it is long or may hold a secret.
fn by_hand(name: &str, inspected: Option<&Inspected>) -> String {
    let test = inspected.map(|seen| seen.config.healthcheck.test.as_slice()).unwrap_or_default();
    let command = match test {
        [kind, command] if kind == "CMD-SHELL" => format!("sh -c {}", shell(command)),
        [kind, words @ ..] if kind == "CMD" && !words.is_empty() => {
            words.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    };
    if command.is_empty() || command.chars().count() > CHECK || clean(&command, CHECK) != command || is_secret(&command)
    {
        return format!("docker inspect -f '{{{{json .Config.Healthcheck.Test}}}}' {name}, and run that in it");
    }
    format!("docker exec {name} {command}")
}

/// One word of a command as a shell reads it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// True for a command that may hold a secret in one of its words.
fn is_secret(command: &str) -> bool {
    let words = || command.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '=' | ':'));
    veil::prose(command) != command
        || words().any(|word| veil::is_secret_name(word.trim_start_matches('-')))
        || words().any(|word| matches!(word, "-a" | "-u" | "-p" | "-P") || (word.starts_with("-p") && word.len() > 2))
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Health, Policy, Standing};
    use super::*;
    use crate::client::docker::{ContainerConfig, Healthcheck};
    use std::time::Duration;

    fn facts(exit_code: i64, how: How) -> Facts {
        Facts {
            standing: Standing::Exited,
            health: Health::Unchecked,
            exit_code,
            oom: false,
            policy: Policy::No,
            restarts: 0,
            looping: false,
            how,
            ago: Duration::ZERO,
            unproven: Duration::ZERO,
            expected: true,
            required: false,
        }
    }

    fn said(reason: Reason, exit_code: i64, how: How, inspected: Option<&Inspected>) -> (String, String) {
        let called = Called { name: "shop-web-1".into(), service: Some("web".into()), ..Called::default() };
        let details = advice(reason, &facts(exit_code, how), &called, inspected, exit_code);
        (details.happened.into_owned(), details.advice.into_owned())
    }

    #[test]
    fn each_exit_code_that_says_something_has_its_row() {
        let table = [
            (1, How::Itself, "ended with an error", "docker logs --tail 50 shop-web-1"),
            (137, How::Itself, "was killed", "journalctl -k | grep -i oom"),
            (137, How::Unclear, "has stopped", "docker start shop-web-1; if it was meant: watchdog silence"),
            (143, How::Itself, "has stopped", "docker start shop-web-1"),
            (139, How::Itself, "crashed", "docker logs --tail 100 shop-web-1; look for a core dump"),
            (134, How::Itself, "crashed", "docker logs --tail 100"),
            (
                127,
                How::Itself,
                "cannot be run",
                "docker inspect -f '{{.Config.Entrypoint}} {{.Config.Cmd}}' shop-web-1",
            ),
            (255, How::Itself, "ended with an error", "docker logs --tail 50"),
            (i64::MAX, How::Itself, "ended with an error", "docker logs --tail 50"),
            (i64::MIN, How::Itself, "ended with an error", "docker logs --tail 50"),
        ];
        for (exit, how, happened, advice) in table {
            let (found, next) = said(Reason::Failed, exit, how, None);
            assert_eq!(found, happened, "{exit} {how:?}");
            assert!(next.starts_with(advice), "{exit} {how:?}: {next}");
        }
    }

    fn checked(test: &[&str]) -> Inspected {
        let test = test.iter().map(ToString::to_string).collect();
        let config = ContainerConfig { healthcheck: Healthcheck { test, retries: 0 }, ..ContainerConfig::default() };
        Inspected { config, ..Inspected::default() }
    }

    #[test]
    fn a_health_check_is_given_as_a_command_unless_it_may_hold_a_secret() {
        let by_hand = |test: &[&str]| said(Reason::Unhealthy, 0, How::Itself, Some(&checked(test))).1;
        assert_eq!(
            by_hand(&["CMD-SHELL", "curl -f http://localhost/"]),
            "docker exec shop-web-1 sh -c 'curl -f http://localhost/'"
        );
        assert_eq!(by_hand(&["CMD", "pg_isready", "-d", "my db"]), "docker exec shop-web-1 pg_isready -d 'my db'");
        assert_eq!(
            by_hand(&["CMD-SHELL", "test \"$(date +%s)\" != '0'"]),
            "docker exec shop-web-1 sh -c 'test \"$(date +%s)\" != '\\''0'\\'''"
        );
        for secret in [
            "mysqladmin ping -phunter2",
            "mysqladmin ping --password=hunter2",
            "redis-cli -a hunter2 ping",
            "curl -u me:hunter2 http://h/",
            "curl http://me:hunter2@h/",
            "curl -H 'Authorization: Bearer hunter2' http://h/",
            "PGPASSWORD=hunter2 psql",
        ] {
            let said = by_hand(&["CMD-SHELL", secret]);
            assert!(!said.contains("hunter2") && said.contains("Healthcheck.Test"), "{secret}: {said}");
        }
        for odd in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL", "a\nb"], &["CMD-SHELL", &"x".repeat(500)]] {
            assert!(by_hand(odd).contains("Healthcheck.Test"), "{odd:?}");
        }
    }
}
