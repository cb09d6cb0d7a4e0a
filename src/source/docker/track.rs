//! What is remembered of one watched container between looks, and how it becomes [`Facts`].
//!
//! Durations are measured on our monotonic clock from what we saw; the engine's wall-clock dates
//! only say how long a thing had lasted before we first looked, and never more than the time since
//! the look before (F1, F5). Memory is bounded: [`RISES`] restarts per container. No I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::events::Hint;
use super::select::Called;
use super::verdict::{Facts, Health, How, Policy, Reason, Standing, Verdict};
use crate::client::docker::{Inspected, Listed};
use crate::core::signal::{Reading, Spec};
use crate::core::time::{Mono, Now, Wall};

/// Restarts remembered per container.
const RISES: usize = 32;
/// A kill for memory this close to an end is taken for its cause.
const OOM_NEAR: Duration = Duration::from_mins(1);

/// What one look brings besides the answer about the container.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// When.
    pub now: Now,
    /// How far back the picture before reaches: dates of the engine count at most this much.
    /// Zero after blindness, without limit at the first look.
    pub reach: Duration,
    /// What events told about it.
    pub hint: &'a Hint,
    /// The stream of events is open.
    pub live: bool,
    /// The window in which restarts are counted.
    pub window: Duration,
    /// This is the only look there will be.
    pub once: bool,
}

/// One watched container through all its lives.
#[derive(Debug)]
pub struct Track {
    /// Its signal.
    pub spec: Arc<Spec>,
    /// How it is called.
    pub called: Called,
    /// The last answer about it.
    pub inspected: Option<Inspected>,
    /// The last exit code known.
    pub last_exit: Option<i64>,
    /// It did not answer the last inspect call.
    pub hangs: bool,
    /// How it stands, and since when.
    phase: Phase,
    since: Mono,
    seen_running: bool,
    looping: bool,
    rises: VecDeque<Mono>,
    oom_at: Option<Mono>,
    last: Option<(Reading, Reason)>,
}

/// While this stays the same, time goes on; when it changes, the time begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Phase {
    id: String,
    standing: Standing,
    started_at: String,
    finished_at: String,
}

impl Track {
    /// Nothing seen of it yet.
    pub fn new(spec: Arc<Spec>, called: Called) -> Track {
        let phase = Phase {
            id: String::new(),
            standing: Standing::Other,
            started_at: String::new(),
            finished_at: String::new(),
        };
        Track {
            spec,
            called,
            inspected: None,
            last_exit: None,
            hangs: false,
            phase,
            since: Mono::default(),
            seen_running: false,
            looping: false,
            rises: VecDeque::new(),
            oom_at: None,
            last: None,
        }
    }

    /// The id of its present or last container; empty when there was none.
    pub fn id(&self) -> &str {
        &self.phase.id
    }

    /// How long it has been gone; `None` while it is there.
    pub fn gone_for(&self, now: Mono) -> Option<Duration> {
        (self.phase.standing == Standing::Gone).then(|| now.since(self.since))
    }

    /// Takes in an answer.
    pub fn see(&mut self, listed: &Listed, inspected: Inspected, look: &Look<'_>) -> Facts {
        let standing = standing(&inspected.state.status);
        let renewed = self.phase.id != inspected.id;
        let before = if renewed { None } else { self.inspected.take() };
        if renewed {
            (self.looping, self.oom_at, self.last_exit) = (false, None, None);
            self.rises.clear();
        }
        let witnessed = !renewed && self.seen_running;
        let phase = Phase {
            id: inspected.id.clone(),
            standing,
            started_at: inspected.state.started_at.clone(),
            finished_at: inspected.state.finished_at.clone(),
        };
        if phase != self.phase {
            self.since = look.now.mono.minus(age(&phase, listed, look.now.wall).min(look.reach));
            self.phase = phase;
        }
        self.count_restarts(before.as_ref(), &inspected, look);
        self.note_oom(before.as_ref(), &inspected, look);
        self.seen_running |= standing == Standing::Running;
        let ended = matches!(standing, Standing::Exited | Standing::Restarting | Standing::Dead);
        if ended {
            self.last_exit = Some(inspected.state.exit_code);
        } else if look.hint.exit_code.is_some() {
            self.last_exit = look.hint.exit_code;
        }
        let facts = self.facts(standing, &inspected, look, witnessed);
        self.hangs = false;
        self.inspected = Some(inspected);
        facts
    }

    /// Takes note that it is not there; `named` when the settings say that it must be.
    pub fn lose(&mut self, look: &Look<'_>, named: bool) -> Facts {
        if self.phase.standing != Standing::Gone {
            self.phase.standing = Standing::Gone;
            self.since = look.now.mono.minus(if look.once { Duration::MAX } else { Duration::ZERO });
        }
        self.hangs = false;
        let passing = self.inspected.as_ref().is_some_and(|i| i.host_config.auto_remove)
            || matches!(self.last, Some((_, Reason::Completed)));
        Facts {
            standing: Standing::Gone,
            health: Health::Unchecked,
            exit_code: self.last_exit.unwrap_or(0),
            oom: false,
            policy: self.inspected.as_ref().map_or(Policy::No, policy),
            restarts: 0,
            looping: false,
            how: How::Outside,
            ago: look.now.mono.since(self.since),
            expected: named || (self.seen_running && !passing),
        }
    }

    /// Remembers the answer; the next look depends on it.
    pub fn judged(&mut self, facts: &Facts, verdict: &Verdict, limit: u32) {
        self.looping = facts.looping || facts.restarts >= limit;
        // Completed stays known while it is being removed.
        if verdict.reason != Reason::Settling {
            self.last = Some((verdict.reading, verdict.reason));
        }
    }

    /// For a while nobody could look: what was waiting waits from `now` again.
    pub fn was_unseen(&mut self, now: Mono) {
        let waits = !matches!(self.last, Some((Reading::Down, _)));
        if waits && !matches!(self.phase.standing, Standing::Running) {
            self.since = self.since.max(now);
        }
    }

    fn count_restarts(&mut self, before: Option<&Inspected>, inspected: &Inspected, look: &Look<'_>) {
        let count = inspected.restart_count;
        let rise = match before.map(|before| before.restart_count) {
            Some(before) if count >= before => count - before,
            Some(_) => count,
            // One that appeared since the look before had all its restarts since then.
            None if look.reach < look.window && look.reach > Duration::ZERO => count,
            None => 0,
        };
        for _ in 0..rise.min(RISES as u32) {
            self.rises.push_back(look.now.mono);
        }
        while self.rises.len() > RISES || self.rises.front().is_some_and(|at| look.now.mono.since(*at) >= look.window) {
            self.rises.pop_front();
        }
    }

    fn note_oom(&mut self, before: Option<&Inspected>, inspected: &Inspected, look: &Look<'_>) {
        let flagged_before = before.is_some_and(|before| before.state.oom_killed);
        if inspected.state.oom_killed && !flagged_before {
            // At the first look nobody knows when; it was at the latest when this phase began.
            self.oom_at = Some(if before.is_some() { look.now.mono } else { self.since });
        }
        self.oom_at = self.oom_at.max(look.hint.oom_at);
    }

    fn facts(&self, standing: Standing, inspected: &Inspected, look: &Look<'_>, witnessed: bool) -> Facts {
        let now = look.now.mono;
        let exit_code = inspected.state.exit_code;
        let recent = |at: &&Mono| now.since(**at) < look.window;
        let crashes = look.hint.crashes.iter().filter(recent).count();
        let restarts = u32::try_from(self.rises.len().max(crashes)).unwrap_or(u32::MAX);
        let near = self.oom_at.is_some_and(|at| at.plus(OOM_NEAR) > self.since);
        let (oom, from) = match standing {
            Standing::Running => (self.oom_at.is_some(), self.oom_at.map_or(self.since, |at| at.max(self.since))),
            _ => (near || (inspected.state.oom_killed && exit_code == 137), self.since),
        };
        let how = if look.hint.killed {
            How::Outside
        } else if look.hint.died {
            How::Itself
        } else if matches!(exit_code, 137 | 143) {
            How::Outside
        } else if look.live && witnessed {
            How::NotYetTold
        } else {
            How::Itself
        };
        Facts {
            standing,
            health: health(inspected),
            exit_code,
            oom,
            policy: policy(inspected),
            restarts,
            looping: self.looping && !(restarts == 0 && standing == Standing::Running),
            how,
            ago: now.since(from),
            expected: true,
        }
    }
}

/// How long it has stood like this, by the engine's wall clock; zero when that is not known.
fn age(phase: &Phase, listed: &Listed, wall: Wall) -> Duration {
    let since = match phase.standing {
        Standing::Created => Some(Wall(listed.created.saturating_mul(1_000))),
        Standing::Running => date(&phase.started_at),
        Standing::Exited | Standing::Dead | Standing::Restarting => date(&phase.finished_at),
        Standing::Paused | Standing::Removing | Standing::Gone | Standing::Other => None,
    };
    since.map_or(Duration::ZERO, |since| wall.since(since))
}

fn date(text: &str) -> Option<Wall> {
    // The year 1 means never, and is refused like any other nonsense.
    let since = humantime::parse_rfc3339_weak(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Wall)
}

fn standing(word: &str) -> Standing {
    match word {
        "created" => Standing::Created,
        "running" => Standing::Running,
        "paused" => Standing::Paused,
        "restarting" => Standing::Restarting,
        "removing" => Standing::Removing,
        "exited" | "stopped" => Standing::Exited,
        "dead" => Standing::Dead,
        _ => Standing::Other,
    }
}

fn health(inspected: &Inspected) -> Health {
    match inspected.state.health.as_ref().map(|health| health.status.as_str()) {
        Some("starting") => Health::Starting,
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => Health::Unhealthy,
        _ => Health::Unchecked,
    }
}

fn policy(inspected: &Inspected) -> Policy {
    match inspected.host_config.restart_policy.name.as_str() {
        "always" => Policy::Always,
        "unless-stopped" => Policy::UnlessStopped,
        "on-failure" => Policy::OnFailure,
        _ => Policy::No,
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Limits, verdict};
    use super::*;
    use crate::client::docker::{ContainerState, HostConfig, RestartPolicy};
    use crate::core::rule::{Rule, Test};
    use crate::core::signal::{Severity, SignalKey};

    const LIMITS: Limits = Limits {
        restarts: 3,
        grace: Duration::from_secs(10),
        start_grace: Duration::from_mins(1),
        oom_calm: Duration::from_mins(1),
        settle: Duration::from_secs(1),
    };
    /// 2024-01-06T09:00:00Z.
    const NINE: i64 = 1_704_531_600_000;

    /// One container under a clock that the test moves.
    struct Story {
        track: Track,
        now: Now,
        last: Option<Mono>,
        hint: Hint,
    }

    impl Story {
        fn begin() -> Story {
            let (key, rule) = (SignalKey::new("container/web"), Rule::at_once(Test::Verdict));
            let spec = Spec::new(key, "container web", Severity::Critical, rule);
            let called = Called { identity: "name web".into(), name: "web".into(), project: None, service: None };
            let now = Now { wall: Wall(NINE), mono: Mono(1_000_000), awake: Mono(1_000_000) };
            Story { track: Track::new(Arc::new(spec), called), now, last: None, hint: Hint::default() }
        }

        /// Looks after `seconds`; gives what the verdict says.
        fn look(&mut self, seconds: i64, seen: Option<Inspected>) -> (Reading, Reason) {
            self.now.mono.0 += seconds * 1_000;
            self.now.wall.0 += seconds * 1_000;
            let reach = self.last.map_or(Duration::MAX, |last| self.now.mono.since(last));
            self.last = Some(self.now.mono);
            let window = Duration::from_mins(10);
            let look = Look { now: self.now, reach, hint: &self.hint, live: false, window, once: false };
            let facts = match seen {
                Some(inspected) => self.track.see(&Listed::default(), inspected, &look),
                None => self.track.lose(&look, false),
            };
            let given = verdict(&facts, &LIMITS);
            self.track.judged(&facts, &given, LIMITS.restarts);
            (given.reading, given.reason)
        }
    }

    fn web(status: &str, exit_code: i64) -> Inspected {
        Inspected {
            id: "a".into(),
            state: ContainerState {
                status: status.into(),
                exit_code,
                started_at: "2024-01-06T08:00:00Z".into(),
                finished_at: "2024-01-06T08:59:00Z".into(),
                ..Default::default()
            },
            host_config: HostConfig { restart_policy: RestartPolicy { name: "always".into() }, ..Default::default() },
            ..Default::default()
        }
    }

    #[test]
    fn what_ended_before_the_first_look_needs_no_grace_and_what_ends_later_does() {
        assert_eq!(Story::begin().look(0, Some(web("exited", 143))), (Reading::Down, Reason::Failed), "a minute ago");
        let mut story = Story::begin();
        assert_eq!(story.look(0, Some(web("running", 0))), (Reading::Up, Reason::Running));
        // The wall clock jumped ahead ten years: the end was still within the last second.
        story.now.wall.0 += 315_360_000_000;
        assert_eq!(story.look(1, Some(web("exited", 143))), (Reading::Unknown, Reason::Settling));
        story.now.wall.0 -= 2 * 315_360_000_000;
        assert_eq!(story.look(8, Some(web("exited", 143))).1, Reason::Settling);
        assert_eq!(
            story.look(1, Some(web("exited", 143))),
            (Reading::Down, Reason::Failed),
            "ten seconds by our clock"
        );
    }

    #[test]
    fn blindness_begins_every_wait_again() {
        let mut story = Story::begin();
        story.look(0, Some(web("running", 0)));
        story.look(1, Some(web("exited", 143)));
        story.now.mono.0 += 3_600_000;
        story.track.was_unseen(story.now.mono);
        assert_eq!(story.look(0, Some(web("exited", 143))).1, Reason::Settling);
        assert_eq!(story.look(10, Some(web("exited", 143))), (Reading::Down, Reason::Failed));
        story.track.was_unseen(story.now.mono);
        assert_eq!(story.look(0, Some(web("exited", 143))), (Reading::Down, Reason::Failed), "what is down stays down");
    }

    fn restarted(count: u32) -> Inspected {
        Inspected { restart_count: count, ..web("running", 0) }
    }

    #[test]
    fn a_crash_loop_ends_only_after_a_whole_window_without_a_restart() {
        let mut story = Story::begin();
        let (ok, looping) = ((Reading::Up, Reason::Running), (Reading::Down, Reason::CrashLoop));
        assert_eq!(story.look(0, Some(restarted(57))), ok, "what was before the first look is not counted");
        assert_eq!(story.look(60, Some(restarted(58))), ok);
        assert_eq!(story.look(60, Some(restarted(59))), ok);
        assert_eq!(story.look(60, Some(restarted(60))), looping);
        // The first two leave the window: one restart is no loop, but this loop is not over.
        assert_eq!(story.look(590, Some(restarted(60))), looping);
        assert_eq!(story.look(10, Some(restarted(60))), ok);
        // Three at once, as after a tick in which nobody looked.
        assert_eq!(story.look(15, Some(restarted(63))), looping);
        let fresh = Inspected { id: "b".into(), ..restarted(0) };
        assert_eq!(story.look(15, Some(fresh)), ok, "a new container has no history");
    }

    #[test]
    fn starts_after_failures_seen_in_events_count_as_well_and_not_twice() {
        let mut story = Story::begin();
        story.look(0, Some(restarted(0)));
        story.hint.crashes = [story.now.mono; 2].into();
        assert_eq!(story.look(1, Some(restarted(2))).1, Reason::Running, "two seen two ways are two");
        story.hint.crashes = [story.now.mono; 3].into();
        assert_eq!(story.look(1, Some(restarted(2))).1, Reason::CrashLoop);
        let mut flood = Story::begin();
        flood.look(0, Some(restarted(0)));
        flood.look(1, Some(restarted(u32::MAX)));
        assert!(flood.track.rises.len() <= RISES);
    }

    #[test]
    fn a_kill_for_memory_is_down_until_it_ran_for_a_minute() {
        let killed = |status: &str, code| {
            let mut inspected = web(status, code);
            inspected.state.oom_killed = true;
            inspected
        };
        let mut story = Story::begin();
        assert_eq!(story.look(0, Some(killed("running", 0))).1, Reason::Running, "an hour ago, for all we know");
        let mut story = Story::begin();
        story.look(0, Some(web("running", 0)));
        assert_eq!(story.look(1, Some(killed("exited", 137))), (Reading::Down, Reason::OutOfMemory));
        let mut again = killed("running", 0);
        again.state.started_at = "2024-01-06T09:00:02Z".into();
        assert_eq!(story.look(1, Some(again.clone())).1, Reason::OutOfMemory);
        assert_eq!(story.look(59, Some(again.clone())).1, Reason::OutOfMemory);
        assert_eq!(story.look(1, Some(again.clone())).1, Reason::Running);
        // A failure an hour later is not the memory's fault.
        again.state.status = "exited".into();
        again.state.exit_code = 1;
        assert_eq!(story.look(3600, Some(again)).1, Reason::Failed);
    }

    #[test]
    fn only_what_was_seen_running_and_was_to_stay_is_missing() {
        let mut story = Story::begin();
        story.look(0, Some(web("running", 0)));
        assert_eq!(story.look(1, None), (Reading::Unknown, Reason::Settling));
        assert_eq!(story.look(10, None), (Reading::Down, Reason::Missing));
        let mut never = Story::begin();
        never.look(0, Some(web("exited", 1)));
        assert_eq!(never.look(1, None).1, Reason::Forgotten);
        let mut passing = Story::begin();
        let mut inspected = web("running", 0);
        inspected.host_config.auto_remove = true;
        passing.look(0, Some(inspected));
        assert_eq!(passing.look(1, None).1, Reason::Forgotten);
        let mut done = Story::begin();
        let mut inspected = web("running", 0);
        inspected.host_config.restart_policy.name = "no".into();
        done.look(0, Some(inspected.clone()));
        inspected.state.status = "exited".into();
        assert_eq!(done.look(1, Some(inspected)), (Reading::Up, Reason::Completed));
        assert_eq!(done.look(1, None).1, Reason::Forgotten);
    }

    #[test]
    fn no_date_or_word_of_the_engine_is_trusted_to_make_sense() {
        for text in ["", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2024-13-45T99:99:99Z", "\u{0}é"] {
            for status in ["running", "exited", "created", "removing", "flying", ""] {
                let mut story = Story::begin();
                let mut inspected = web(status, i64::MIN);
                inspected.state.started_at = text.into();
                inspected.state.finished_at = text.into();
                story.look(0, Some(inspected.clone()));
                story.now.mono = Mono(i64::MIN);
                story.look(0, Some(inspected.clone()));
                story.now.mono = Mono(i64::MAX);
                story.now.wall = Wall(i64::MIN);
                story.look(0, Some(inspected));
            }
        }
    }
}
