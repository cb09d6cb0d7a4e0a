//! Containers that are to do one thing and end: told once, as a warning, when they end with an error.
//!
//! What is a job, and why it is an event and no state, is in `adr/0026-jobs.md`. Each end is told by the list or,
//! where the container is gone before anybody could look, by the engine's event; never by both, and never by
//! `container/<name>` as well. What somebody ended from outside, and what somebody sits at, is not told. Knows no
//! clock and makes no call: log lines are handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::events::{Ended, Hint};
use super::fact;
use super::select::{Awaited, Called, Choice, Selection};
use crate::client::docker::{Inspected, Listed};
use crate::config::veil;
use crate::core::about::{About, Details};
use crate::core::name;
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Observation, Reading, Severity, SignalKey, Spec};
use crate::core::time::{Mono, Wall, people};

/// Jobs whose last failure is shown at most.
const SHOWN: usize = 64;
/// A failure is shown for this long.
const SHOWN_FOR: Duration = Duration::from_hours(1);
/// Ends that wait for their container to go at most.
const WAITING: usize = 256;
/// A job that is gone is known for so many more looks, because the event of its end may still come; and so many looks
/// may show one as running whose end was told by an event.
const AWAY: u8 = 3;
/// Characters of one log line that are told.
const LINE: usize = 120;

/// What is known of all jobs.
#[derive(Debug)]
pub struct Jobs {
    /// What ended before was told by somebody before us, or is old news.
    since: Wall,
    lives: BTreeMap<String, Life>,
    /// Ends whose container may still be listed, and at how many looks it seemed to run.
    waiting: Vec<(Ended, u8)>,
    told: BTreeMap<SignalKey, Told>,
    /// Ends of this look that were too many to keep.
    pub lost: u64,
}

/// One container that is, or may be, a job.
#[derive(Debug, Clone, Default)]
struct Life {
    /// It was inspected at least once.
    known: bool,
    /// Its end was told, needs not be told, or was before we looked first.
    done: bool,
    /// Somebody sits at its terminal and sees how it ends.
    attended: bool,
    /// It is a job, and not a container that is watched as such.
    job: bool,
    /// The end that `done` speaks of, as the engine dates it: its event may come later than the list.
    finished: String,
    /// Looks at which it was not there any more.
    away: u8,
}

#[derive(Debug)]
struct Told {
    spec: Arc<Spec>,
    at: Mono,
    fact: String,
}

/// One job that ended with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its container's id, for its log.
    pub id: String,
    /// It has a terminal, which its log shows.
    pub terminal: bool,
    /// It is gone, and its log with it.
    pub removed: bool,
    called: Called,
    exit_code: i64,
    oom: bool,
    lasted: Option<Duration>,
}

/// The last lines of a log, or why there are none.
pub type Lines = Result<Vec<String>, String>;

impl Jobs {
    /// None known yet. What ended before `since`, by the engine's clock, is not told.
    pub fn new(since: Wall) -> Jobs {
        Jobs { since, lives: BTreeMap::new(), waiting: Vec::new(), told: BTreeMap::new(), lost: 0 }
    }

    /// Takes note of who is there and of ends told by events. Gives the ids of one-off jobs about which the engine
    /// should be asked.
    pub fn expect(&mut self, list: &[Listed], selection: &Selection, ended: Vec<Ended>) -> Vec<(String, Called)> {
        self.waiting.extend(ended.into_iter().map(|ended| (ended, 0)));
        // The last end of each is news; those of others than ours never are.
        let mut latest: BTreeMap<String, (Ended, u8)> = BTreeMap::new();
        for (ended, looks) in std::mem::take(&mut self.waiting) {
            let choice = selection.judge(&ended.listed, &Called::of(&ended.listed));
            if matches!(choice, Choice::Watched | Choice::Job) {
                latest.insert(ended.listed.id.clone(), (ended, looks));
            }
        }
        self.lost = u64::try_from(latest.len().saturating_sub(WAITING)).unwrap_or(u64::MAX);
        self.waiting = latest.into_values().take(WAITING).collect();
        let waiting: BTreeSet<&str> = self.waiting.iter().map(|(ended, _)| ended.listed.id.as_str()).collect();
        let there: BTreeSet<&str> = list.iter().map(|listed| listed.id.as_str()).collect();
        self.lives.retain(|id, life| {
            let is_here = there.contains(id.as_str()) || waiting.contains(id.as_str());
            life.away = if is_here { 0 } else { life.away.saturating_add(1) };
            life.away < AWAY
        });
        let mut wanted = Vec::new();
        for listed in list {
            let called = Called::of(listed);
            if selection.judge(listed, &called) != Choice::Job {
                continue;
            }
            let life = self.lives.entry(listed.id.clone()).or_default();
            life.job = true;
            life.done &= has_ended(listed) && !waiting.contains(listed.id.as_str());
            let ask = if has_ended(listed) { !life.done } else { !life.known };
            if ask {
                wanted.push((listed.id.clone(), called));
            }
        }
        wanted
    }

    /// Looks at what the engine said about a job, or about a container that may be one. Some when it ended with an
    /// error that nobody was told of.
    pub fn see(&mut self, called: &Called, seen: &Inspected, hint: &Hint, is_job: bool) -> Option<Failure> {
        let life = self.lives.entry(seen.id.clone()).or_default();
        (life.known, life.job) = (true, is_job);
        life.attended = seen.config.tty && seen.config.attach_stdin;
        if !is_over(seen) {
            life.done = false;
            return None;
        }
        let is_old = !hint.died && instant(&seen.state.finished_at).is_none_or(|at| at < self.since);
        let is_told = std::mem::replace(&mut life.done, true) || life.finished == seen.state.finished_at;
        life.finished.clone_from(&seen.state.finished_at);
        if !is_job || is_told || life.attended || is_old {
            return None;
        }
        let (code, oom) = (seen.state.exit_code, seen.state.oom_killed);
        // Without an event, what looks like a signal from outside is taken for one.
        let by_somebody = hint.killed || hint.is_open() || (!hint.died && matches!(code, 137 | 143));
        (code != 0 && (oom || !by_somebody)).then(|| Failure {
            id: seen.id.clone(),
            terminal: seen.config.tty,
            removed: false,
            called: called.clone(),
            exit_code: code,
            oom,
            lasted: lasted(&seen.state.started_at, &seen.state.finished_at),
        })
    }

    /// Ends of jobs that are gone, and of which only an event tells.
    pub fn gone(&mut self, list: &[Listed], selection: &Selection) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (ended, looks) in std::mem::take(&mut self.waiting) {
            let id = &ended.listed.id;
            let life = self.lives.get(id).cloned().unwrap_or(Life { job: true, ..Life::default() });
            if life.done || life.attended || !life.job {
                continue;
            }
            match list.iter().find(|listed| listed.id == *id) {
                // The list is older than the event, or it is about to be removed; or the engine did not answer about it.
                Some(listed) if listed.state == "restarting" || (listed.state == "running" && looks >= AWAY) => {}
                Some(listed) => {
                    let looks = if listed.state == "running" { looks.saturating_add(1) } else { looks };
                    self.waiting.push((ended, looks));
                }
                None => {
                    let called = Called::of(&ended.listed);
                    let choice = selection.judge(&ended.listed, &called);
                    // One that must be there is missed by `container/<name>`.
                    let missed = selection.requires(&ended.listed, &called);
                    if choice == Choice::Job || (choice == Choice::Watched && !missed) {
                        failures.push(Failure {
                            id: id.clone(),
                            terminal: false,
                            removed: true,
                            called,
                            exit_code: ended.exit_code,
                            oom: ended.oom,
                            lasted: None,
                        });
                    }
                }
            }
        }
        failures
    }

    /// What is to be said: each failure as news, those before as they were.
    pub fn observe(&mut self, failures: Vec<(Failure, Lines)>, now: Mono) -> Vec<Observation> {
        self.told.retain(|_, told| now.since(told.at) < SHOWN_FOR);
        while self.told.len() > SHOWN {
            let oldest = self.told.iter().min_by_key(|(_, told)| told.at).map(|(key, _)| key.clone());
            oldest.iter().for_each(|key| drop(self.told.remove(key)));
        }
        let mut news: BTreeMap<SignalKey, (u32, String, Details)> = BTreeMap::new();
        for (failure, lines) in failures {
            let spec = failure.spec();
            let fact = failure.fact(&lines);
            let told = Told { at: now, fact: with_lines(&fact, &lines), spec };
            let details = failure.details(&lines);
            let count = news.get(&told.spec.key).map_or(0, |(count, ..)| *count);
            news.insert(told.spec.key.clone(), (count.saturating_add(1), fact, details));
            match self.told.get_mut(&told.spec.key) {
                Some(before) => (before.at, before.fact) = (told.at, told.fact),
                None => drop(self.told.insert(told.spec.key.clone(), told)),
            }
        }
        let one = |(key, told): (&SignalKey, &Told)| match news.remove(key) {
            // In a message the lines are evidence; a page shows the fact alone.
            Some((count, fact, details)) => {
                Observation::new(&told.spec, now, Reading::Happened(count), fact).with(details)
            }
            None => Observation::new(&told.spec, now, Reading::Happened(0), told.fact.clone()),
        };
        self.told.iter().map(one).collect()
    }
}

impl Failure {
    fn spec(&self) -> Arc<Spec> {
        let key = name::bounded(&self.called.name, 128, |c| c == ' ' || !(c.is_whitespace() || c.is_control()));
        let title = format!("job {}", fact::clean(&self.called.name, 128));
        let rule = Rule { unknown_after: Duration::ZERO, ..Rule::at_once(Test::Event) };
        let called = self.called.service.as_deref().unwrap_or(&self.called.name);
        let group = self.called.project.as_deref().map(|project| format!("project {}", fact::clean(project, 64)));
        let about = About {
            name: format!("job {}", fact::clean(called, 64)).into(),
            group: group.unwrap_or_default().into(),
            ..About::default()
        };
        Arc::new(Spec::new(SignalKey::new(&format!("job/{key}")), title, Severity::Warning, rule).about(about))
    }

    fn fact(&self, lines: &Lines) -> String {
        let code = fact::code(self.exit_code);
        let mut text = if self.oom {
            format!("was killed for lack of memory (OOM), {code}")
        } else {
            format!("ended with an error, {code}")
        };
        if let Some(lasted) = self.lasted {
            let _ = write!(text, ", after {}", people(lasted));
        }
        match lines {
            _ if self.removed => text.push_str("; it was removed, and its log with it"),
            Ok(_) => {}
            Err(why) => {
                let _ = write!(text, "; its log cannot be read: {}", fact::clean(why, 200));
            }
        }
        text
    }

    fn details(&self, lines: &Lines) -> Details {
        let advice = if self.removed {
            String::new()
        } else {
            format!("docker logs --tail 50 {}", fact::clean(&self.called.name, 128))
        };
        let details = Details::new("ended with an error", advice);
        lines.iter().flatten().fold(details, |details, line| details.with(format!("\"{line}\"")))
    }
}

/// The fact with the last lines behind it, for where there is only a fact.
fn with_lines(fact: &str, lines: &Lines) -> String {
    let lines: Vec<String> = lines.iter().flatten().map(|line| format!("\"{line}\"")).collect();
    match lines.as_slice() {
        [] => fact.to_string(),
        [line] => format!("{fact}; last line: {line}"),
        lines => format!("{fact}; last lines: {}", lines.join(" / ")),
    }
}

/// True when this container, which the settings mean, is a job: nothing starts it again, nobody insists on it, and
/// either it goes away when it ends, or something waits for its end, or somebody wrote `restart: "no"` for what looks
/// like no service.
pub fn is_job(called: &Called, listed: &Listed, seen: &Inspected, awaited: &Awaited, selection: &Selection) -> bool {
    let policy = seen.host_config.restart_policy.name.as_str();
    if !matches!(policy, "" | "no") || selection.requires(listed, called) {
        return false;
    }
    if seen.host_config.auto_remove || awaited.has(called, "service_completed_successfully") {
        return true;
    }
    let is_service = seen.state.health.is_some()
        || seen.host_config.publishes
        || awaited.has(called, "service_started")
        || awaited.has(called, "service_healthy");
    // Compose leaves the policy empty where nobody wrote one; `docker run` does not.
    policy == "no" && called.project.is_some() && called.service.is_some() && !is_service
}

/// True when it has ended.
pub fn is_over(seen: &Inspected) -> bool {
    matches!(seen.state.status.as_str(), "exited" | "stopped" | "dead")
}

/// The last `count` lines of a log, each redacted, cut and without control characters or colours.
pub fn last_lines(log: &[u8], count: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(log);
    let lines = text.split(['\n', '\r']).map(|line| fact::clean(&veil::prose(&without_colours(line)), LINE));
    let mut lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    lines.drain(..lines.len().saturating_sub(count));
    lines
}

/// Takes out `ESC [ … letter`, by which terminals are told of colours.
fn without_colours(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        } else {
            text.push(c);
        }
    }
    text
}

fn has_ended(listed: &Listed) -> bool {
    matches!(listed.state.as_str(), "exited" | "dead")
}

/// How long it ran, by the engine's own clock.
fn lasted(started: &str, finished: &str) -> Option<Duration> {
    let (started, finished) = (instant(started)?, instant(finished)?);
    (started <= finished).then(|| finished.since(started))
}

/// An instant as the engine writes it; the year 1 means never.
fn instant(text: &str) -> Option<Wall> {
    let since = humantime::parse_rfc3339_weak(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(id: &str, exit_code: i64) -> Ended {
        let listed = Listed { id: id.into(), names: vec![format!("/{id}")], ..Listed::default() };
        Ended { listed, exit_code, oom: false }
    }

    fn there(id: &str, state: &str) -> Listed {
        Listed { id: id.into(), names: vec![format!("/{id}")], state: state.into(), ..Listed::default() }
    }

    fn seen(id: &str, status: &str, code: i64) -> Inspected {
        let mut seen = Inspected { id: id.into(), ..Inspected::default() };
        seen.state.status = status.into();
        seen.state.exit_code = code;
        seen.state.finished_at = "2024-01-06T09:00:00Z".into();
        seen
    }

    /// One look: the list, the events since the last, and the answers about containers that are not one-offs.
    fn look(jobs: &mut Jobs, list: &[Listed], ends: &[Ended], answers: &[(Inspected, bool)]) -> usize {
        let all = Selection::default();
        assert!(jobs.expect(list, &all, ends.to_vec()).is_empty());
        let mut count = 0;
        for (seen, is_job) in answers {
            let called = Called::of(&there(&seen.id, ""));
            count += usize::from(jobs.see(&called, seen, &Hint::default(), *is_job).is_some());
        }
        count + jobs.gone(list, &all).len()
    }

    #[test]
    fn an_event_that_comes_late_or_early_tells_nothing_twice_and_nothing_is_lost() {
        let fresh = || Jobs::new(Wall(0));
        let (died, over) = ([ended("a", 3)], seen("a", "exited", 3));
        // The list tells it; its event comes one look later, when it is gone.
        let mut jobs = fresh();
        assert_eq!(look(&mut jobs, &[there("a", "exited")], &[], &[(over.clone(), true)]), 1);
        assert_eq!(look(&mut jobs, &[], &died, &[]), 0);
        // The same while it is still there.
        let mut jobs = fresh();
        assert_eq!(look(&mut jobs, &[there("a", "exited")], &[], &[(over.clone(), true)]), 1);
        assert_eq!(look(&mut jobs, &[there("a", "exited")], &died, &[(over.clone(), true)]), 0);
        // The event overtakes the list, and then it is gone.
        let mut jobs = fresh();
        assert_eq!(look(&mut jobs, &[there("a", "running")], &died, &[(seen("a", "running", 0), true)]), 0);
        assert_eq!(look(&mut jobs, &[there("a", "removing")], &[], &[]), 0);
        assert_eq!(look(&mut jobs, &[], &[], &[]), 1);
        assert_eq!(look(&mut jobs, &[], &[], &[]), 0);
        // It was restarted by hand meanwhile: no end to wait for.
        let mut jobs = fresh();
        look(&mut jobs, &[there("a", "running")], &died, &[(seen("a", "running", 0), true)]);
        for _ in 0..=AWAY {
            assert_eq!(look(&mut jobs, &[there("a", "running")], &[], &[(seen("a", "running", 0), true)]), 0);
        }
        assert_eq!(look(&mut jobs, &[], &[], &[]), 0);
        // A container that is watched as such is never a job as well.
        let mut jobs = fresh();
        assert_eq!(look(&mut jobs, &[there("a", "exited")], &died, &[(over, false)]), 0);
        assert_eq!(look(&mut jobs, &[], &died, &[]), 0);
    }

    #[test]
    fn ends_and_failures_are_bounded_and_what_is_over_the_bound_is_counted() {
        let mut jobs = Jobs::new(Wall(0));
        let many: Vec<Ended> = (0..WAITING + 9).map(|n| ended(&format!("j{n}"), 1)).collect();
        assert_eq!(look(&mut jobs, &[], &many, &[]), WAITING);
        assert_eq!(jobs.lost, 9);
        let failures = |jobs: &mut Jobs, ends: &[Ended]| {
            jobs.expect(&[], &Selection::default(), ends.to_vec());
            jobs.gone(&[], &Selection::default()).into_iter().map(|failure| (failure, Ok(Vec::new()))).collect()
        };
        let mut jobs = Jobs::new(Wall(0));
        let all: Vec<(Failure, Lines)> = failures(&mut jobs, &many[..SHOWN + 5]);
        let news = |seen: &[Observation]| seen.iter().filter(|o| o.reading == Reading::Happened(1)).count();
        let first = jobs.observe(all, Mono(0));
        assert_eq!((first.len(), news(&first)), (SHOWN + 5, SHOWN + 5), "each is told, also beyond what is shown");
        let second = jobs.observe(Vec::new(), Mono(1));
        assert_eq!((second.len(), news(&second)), (SHOWN, 0));
        assert!(jobs.observe(Vec::new(), Mono(3_600_000)).is_empty());
    }

    #[test]
    fn the_last_lines_are_short_and_without_colours_or_controls() {
        let log =
            format!("old\n\u{1b}[1;31mred\u{1b}[0m \u{7}bell\r\n\n{}\n  last \u{202e}line\u{1b}[", "x".repeat(500));
        let lines = last_lines(log.as_bytes(), 3);
        assert_eq!(lines, ["red bell".to_string(), "x".repeat(LINE), "last line".to_string()]);
        assert_eq!(last_lines(b"", 3), [""; 0]);
        assert_eq!(last_lines(b"\xff\xfe\n", 3), ["\u{fffd}\u{fffd}"]);
    }
}
