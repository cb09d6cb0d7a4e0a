//! What `systemctl show` says of units, and what is made of it: well, down, or not to be told, with the words for people.
//!
//! Pure: text in, verdicts out. Instants of systemd are microseconds since the boot, without suspend.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::message::clean;
use crate::core::signal::Reading;
use crate::core::time::{Mono, Now, Wall, people};

/// The properties that are asked for.
pub const PROPERTIES: &str = "--property=Id,Description,LoadState,ActiveState,SubState,Result,Type,UnitFileState,\
     ExecMainCode,ExecMainStatus,NRestarts,StateChangeTimestampMonotonic,NextElapseUSecRealtime,NextElapseUSecMonotonic,AccuracyUSec,Unit";
/// Characters of a description.
const DESCRIPTION: usize = 80;

/// What is said of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    values: BTreeMap<String, String>,
}

/// How one unit stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Well, down, or not to be told.
    pub reading: Reading,
    /// The fact in words.
    pub fact: String,
    /// What happened, to follow the name.
    pub happened: &'static str,
    /// When it came to stand so.
    pub since: Option<Wall>,
}

/// The units of an answer, by their names.
pub fn units(answer: &str) -> BTreeMap<String, Unit> {
    let block = |text: &str| {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let values: BTreeMap<String, String> =
            pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Some((values.get("Id")?.clone(), Unit { values }))
    };
    answer.split("\n\n").filter_map(block).collect()
}

/// The names at the head of the lines of a list.
pub fn names(list: &str) -> Vec<String> {
    let first = |line: &str| line.split_whitespace().find(|word| word.contains('.')).map(str::to_string);
    list.lines().filter_map(first).collect()
}

impl Unit {
    fn get(&self, name: &str) -> &str {
        self.values.get(name).map(String::as_str).unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.get(name).parse().ok()
    }

    /// What its author calls it; empty when that is only its name.
    pub fn description(&self) -> String {
        let text = clean(self.get("Description"), DESCRIPTION);
        if text == self.get("Id") { String::new() } else { text }
    }

    /// True when systemd knows it.
    pub fn is_known(&self) -> bool {
        !matches!(self.get("LoadState"), "not-found" | "")
    }

    /// Changes whenever it comes to stand otherwise.
    pub fn stamp(&self) -> String {
        format!("{} {}", self.get("StateChangeTimestampMonotonic"), self.get("NRestarts"))
    }

    /// When it came to stand as it stands.
    fn changed_at(&self, now: Now) -> Option<Wall> {
        self.instant("StateChangeTimestampMonotonic", now)
    }

    fn instant(&self, name: &str, now: Now) -> Option<Wall> {
        let micros = self.number(name).filter(|micros| *micros > 0)?;
        Some(now.wall.minus(now.awake.since(Mono(micros / 1_000))))
    }

    /// How it stands. `is_named`: it must be active, and there. A unit on its way for longer than `limit` is down.
    pub fn judge(&self, is_named: bool, limit: Duration, now: Now) -> Verdict {
        let (state, sub) = (self.get("ActiveState"), clean(self.get("SubState"), 40));
        let since = self.changed_at(now);
        let say = |reading, happened, fact: String| Verdict { reading, fact, happened, since };
        let stands = format!("{} ({sub})", clean(state, 40));
        match self.get("LoadState") {
            "not-found" | "" if is_named => {
                return say(Reading::Down, "does not exist", "systemd knows no unit of this name".to_string());
            }
            "masked" if is_named => {
                return say(Reading::Down, "is masked", "masked: it cannot be started".to_string());
            }
            "bad-setting" | "error" if is_named => {
                let fact = "its unit file cannot be loaded".to_string();
                return say(Reading::Down, "cannot be loaded", fact);
            }
            _ => {}
        }
        let way = since.map_or(Duration::ZERO, |at| now.wall.since(at));
        match state {
            "failed" => say(Reading::Down, "has failed", format!("failed: {}", self.result())),
            "active" | "reloading" | "refreshing" => say(Reading::Up, "", stands),
            "activating" if sub == "auto-restart" && self.get("Result") != "success" => {
                let fact = format!("waits to be restarted: {}", self.result());
                say(Reading::Down, "keeps failing", fact)
            }
            "activating" | "deactivating" if way > limit => {
                let happened = if state == "activating" { "does not start" } else { "does not stop" };
                say(Reading::Down, happened, format!("{stands} for {} (limit {})", people(way), people(limit)))
            }
            "activating" | "deactivating" => say(Reading::Unknown, "", format!("{stands} for {}", people(way))),
            // systemd forgets a service that rests, but not one that failed.
            "inactive" if self.get("Type") == "oneshot" && self.get("Result") == "success" => {
                say(Reading::Up, "", "a oneshot service between its runs; it has not failed".to_string())
            }
            "inactive" if is_named => say(Reading::Down, "is not running", stands),
            _ if is_named => say(Reading::Unknown, "", format!("in a state that is not known here: {stands}")),
            _ => say(Reading::Up, "", stands),
        }
    }

    /// Why it failed, in words.
    fn result(&self) -> String {
        let status = self.number("ExecMainStatus").unwrap_or(0);
        let restarts = match self.number("NRestarts").unwrap_or(0) {
            0 => String::new(),
            1 => ", restarted once".to_string(),
            n => format!(", restarted {n} times"),
        };
        let ended = |lead: &str| match (self.get("ExecMainCode"), status) {
            // CLD_EXITED, CLD_KILLED, CLD_DUMPED
            ("1", code) if code != 0 => format!("{lead} ({})", exit(code)),
            ("2" | "3", number) => format!("{lead} ({})", signal(number)),
            _ => lead.to_string(),
        };
        let words = match self.get("Result") {
            "exit-code" => match (self.get("ExecMainCode"), status) {
                ("1", code) if code != 0 => format!("its process ended with {}", exit(code)),
                // A process beside the main one: its own status is not told here.
                _ => "one of its processes ended with an error".to_string(),
            },
            "signal" => match status {
                0 => "one of its processes was killed by a signal".to_string(),
                number => format!("its process was killed by {}", signal(number)),
            },
            "core-dump" => format!("its process crashed ({})", signal(status)),
            "oom-kill" => "a process was killed for lack of memory".to_string(),
            "timeout" => ended("it did not start or stop within its time limit"),
            "watchdog" => ended("it did not tell systemd in time that it is alive"),
            "start-limit-hit" => ended("it was started too often in a short time, and is not started again"),
            "resources" => "systemd could not start it (a missing file, user, or memory)".to_string(),
            "protocol" => "it did not say in time, or not in the right way, that it has started".to_string(),
            "exec-condition" | "condition" => "a condition of its start is not met".to_string(),
            "success" | "" => "the reason is not known".to_string(),
            other => clean(other, 40),
        };
        words + &restarts
    }

    /// How late this timer is, beyond its own accuracy: by how much its next time has passed. `None` when it is not
    /// waiting for one.
    pub fn overdue(&self, now: Now) -> Option<(Duration, Wall)> {
        if self.get("ActiveState") != "active" || self.get("SubState") != "waiting" {
            return None;
        }
        let real = instant(self.get("NextElapseUSecRealtime"));
        let mono = span(self.get("NextElapseUSecMonotonic")).filter(|at| !at.is_zero());
        let mono = mono.map(|at| now.wall.minus(now.awake.since(Mono(0))).plus(at));
        let due = real.into_iter().chain(mono).min()?;
        let accuracy = span(self.get("AccuracyUSec")).unwrap_or(Duration::from_mins(1));
        let late = now.wall.since(due.plus(accuracy));
        (!late.is_zero()).then_some((late, due))
    }

    /// What this timer starts.
    pub fn starts(&self) -> String {
        clean(self.get("Unit"), 80)
    }
}

/// `Fri 2026-11-27 03:14:16 UTC`, as systemd writes an instant for people.
fn instant(text: &str) -> Option<Wall> {
    let mut words = text.split_whitespace().skip_while(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    let (date, time) = (words.next()?, words.next()?);
    if words.next() != Some("UTC") {
        return None;
    }
    let time = time.split('.').next()?;
    let at = humantime::parse_rfc3339(&format!("{date}T{time}Z")).ok()?;
    let millis = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    i64::try_from(millis).ok().map(Wall)
}

/// `1h 30min 5.5s`, as systemd writes a span for people.
fn span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut any = false;
    for word in text.split_whitespace() {
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = word.split_at_checked(end)?;
        let seconds = match unit {
            "us" => 0.000_001,
            "ms" => 0.001,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            "month" | "months" => 2_629_800.0,
            "y" | "year" | "years" => 31_557_600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        any = true;
    }
    any.then_some(total)
}

/// `exit code 203: the program could not be run`.
fn exit(code: i64) -> String {
    let meaning = match code {
        126 => ": the command cannot be run",
        127 => ": the command was not found",
        // systemd.exec(5)
        200 => ": its working directory is missing (CHDIR)",
        203 => ": the program could not be run (EXEC)",
        208 => ": its standard input could not be opened (STDIN)",
        209 => ": its standard output could not be opened (STDOUT)",
        216 => ": its group does not exist (GROUP)",
        217 => ": its user does not exist (USER)",
        226 => ": its file system view could not be set up (NAMESPACE)",
        238 => ": its state directory could not be made (STATE_DIRECTORY)",
        _ => "",
    };
    format!("exit code {code}{meaning}")
}

fn signal(number: i64) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return format!("signal {number}"),
    };
    format!("signal {number}, {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { wall: Wall(1_795_749_256_000), mono: Mono(9_000_000), awake: Mono(9_000_000) };
    const LIMIT: Duration = Duration::from_mins(5);

    fn unit(text: &str) -> Unit {
        units(&format!("Id=x.service\n{}\n", text.replace(' ', "\n"))).remove("x.service").unwrap()
    }

    #[test]
    fn every_state_of_a_unit_has_its_verdict() {
        use Reading::{Down, Unknown, Up};
        let loaded = "LoadState=loaded";
        let table = [
            ("LoadState=not-found ActiveState=inactive", true, Down, "does not exist", "knows no unit"),
            ("LoadState=masked ActiveState=inactive", true, Down, "is masked", "cannot be started"),
            ("LoadState=bad-setting ActiveState=inactive", true, Down, "cannot be loaded", "unit file"),
            ("ActiveState=active SubState=running", true, Up, "", "active (running)"),
            ("ActiveState=reloading SubState=reload", true, Up, "", "reloading"),
            ("ActiveState=inactive SubState=dead Type=simple", true, Down, "is not running", "inactive (dead)"),
            ("ActiveState=inactive SubState=dead Type=oneshot Result=success", true, Up, "", "has not failed"),
            (
                "ActiveState=failed SubState=failed Result=exit-code ExecMainCode=1 ExecMainStatus=3",
                false,
                Down,
                "has failed",
                "failed: its process ended with exit code 3",
            ),
            (
                "ActiveState=failed SubState=failed Result=exit-code ExecMainCode=1 ExecMainStatus=203",
                true,
                Down,
                "has failed",
                "could not be run (EXEC)",
            ),
            (
                "ActiveState=failed SubState=failed Result=signal ExecMainCode=2 ExecMainStatus=9 NRestarts=4",
                true,
                Down,
                "has failed",
                "killed by signal 9, SIGKILL, restarted 4 times",
            ),
            ("ActiveState=failed Result=oom-kill", true, Down, "has failed", "lack of memory"),
            ("ActiveState=failed Result=start-limit-hit", true, Down, "has failed", "too often"),
            ("ActiveState=failed Result=something-new", true, Down, "has failed", "something-new"),
            (
                "ActiveState=activating SubState=auto-restart Result=exit-code ExecMainCode=1 ExecMainStatus=1",
                true,
                Down,
                "keeps failing",
                "waits to be restarted: its process ended with exit code 1",
            ),
            // Five seconds ago, and an hour ago.
            (
                "ActiveState=activating SubState=start StateChangeTimestampMonotonic=8995000000",
                true,
                Unknown,
                "",
                "for 5 s",
            ),
            (
                "ActiveState=activating SubState=start StateChangeTimestampMonotonic=5400000000",
                true,
                Down,
                "does not start",
                "activating (start) for 1 h (limit 5 min)",
            ),
            (
                "ActiveState=deactivating SubState=stop-sigterm StateChangeTimestampMonotonic=5400000000",
                true,
                Down,
                "does not stop",
                "for 1 h",
            ),
            ("ActiveState=maintenance SubState=x", true, Unknown, "", "not known here"),
        ];
        for (text, is_named, reading, happened, fact) in table {
            let text = if text.contains("LoadState") { text.to_string() } else { format!("{loaded} {text}") };
            let verdict = unit(&text).judge(is_named, LIMIT, NOW);
            assert_eq!((verdict.reading, verdict.happened), (reading, happened), "{text}: {}", verdict.fact);
            assert!(verdict.fact.contains(fact), "{text}: {}", verdict.fact);
        }
        // One that failed, that nobody named, and that is gone since, is no trouble.
        assert_eq!(unit("LoadState=not-found ActiveState=inactive SubState=dead").judge(false, LIMIT, NOW).reading, Up);
    }

    #[test]
    fn it_stands_so_since_systemd_says_so() {
        let verdict = unit("LoadState=loaded ActiveState=failed StateChangeTimestampMonotonic=8940000000")
            .judge(true, LIMIT, NOW);
        assert_eq!(verdict.since, Some(NOW.wall.minus(Duration::from_mins(1))));
    }

    #[test]
    fn spans_and_instants_are_read_as_systemd_writes_them() {
        for (text, seconds) in [
            ("1min", Some(60.0)),
            ("1h 30min 5.5s", Some(5_405.5)),
            ("2d 3h", Some(183_600.0)),
            ("500ms", Some(0.5)),
            ("0", None),
            ("infinity", None),
            ("", None),
            ("1 fortnight", None),
        ] {
            assert_eq!(span(text).map(|span| span.as_secs_f64()), seconds, "{text}");
        }
        let at = instant("Fri 2026-11-27 03:14:16 UTC").unwrap();
        assert_eq!(at.rfc3339(), "2026-11-27T03:14:16Z");
        for text in ["", "n/a", "Fri 2026-11-27 03:14:16 CET", "2026", "Fri 2026-13-27 03:14:16 UTC"] {
            assert_eq!(instant(text), None, "{text}");
        }
    }

    #[test]
    fn a_timer_is_late_when_its_time_has_passed_by_more_than_its_accuracy() {
        let timer = |next: &str, accuracy: &str, sub: &str| {
            let text = format!(
                "Id=x.timer\nActiveState=active\nSubState={sub}\nNextElapseUSecRealtime={next}\nAccuracyUSec={accuracy}\n"
            );
            units(&text).remove("x.timer").unwrap().overdue(NOW).map(|(late, _)| late.as_secs())
        };
        // Now is 2026-11-27 03:14:16.
        assert_eq!(NOW.wall.rfc3339(), "2026-11-27T03:14:16Z");
        assert_eq!(timer("Fri 2026-11-27 03:00:00 UTC", "1min", "waiting"), Some(13 * 60 + 16));
        assert_eq!(timer("Fri 2026-11-27 03:00:00 UTC", "1h", "waiting"), None);
        assert_eq!(timer("Fri 2026-11-27 04:00:00 UTC", "1min", "waiting"), None);
        assert_eq!(timer("", "1min", "waiting"), None);
        assert_eq!(timer("Fri 2026-11-27 03:00:00 UTC", "1min", "running"), None, "its unit runs");
        let mono = "Id=x.timer\nActiveState=active\nSubState=waiting\nNextElapseUSecMonotonic=2h\nAccuracyUSec=1min\n";
        let (late, _) = units(mono).remove("x.timer").unwrap().overdue(NOW).unwrap();
        assert_eq!(late, Duration::from_mins(29), "2 h after a boot that was 2 h 30 min ago");
    }

    #[test]
    fn lists_and_blocks_are_taken_apart() {
        let list = "● a.service loaded failed failed A\nb@1.service loaded failed failed B of it\n\n";
        assert_eq!(names(list), ["a.service", "b@1.service"]);
        let all = units("Id=a.service\nDescription=The A\n\nId=b.service\nDescription=b.service\n\nnonsense\n");
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a.service", "b.service"]);
        assert_eq!((all["a.service"].description().as_str(), all["b.service"].description().as_str()), ("The A", ""));
    }
}
