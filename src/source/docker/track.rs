//! What is remembered of one watched container between looks, and how it becomes [`Facts`].
//!
//! Durations are measured on our monotonic clock from what we saw; the engine's wall-clock dates
//! only say how long a thing had lasted before we first looked, and never more than the time since
//! the look before (F1, F5). Memory is bounded: [`RISES`] restarts per container. No I/O.

use std::collections::VecDeque;
use std::time::Duration;

use super::events::Hint;
use super::evidence::Log;
use super::past::{Past, Stamped, date};
use super::select::Called;
use super::signals::Specs;
use super::verdict::{Facts, Health, How, Policy, Reason, Standing, Verdict, is_signalled};
use super::wishes::Wishes;
use crate::client::docker::{Inspected, Listed};
use crate::core::signal::Reading;
use crate::core::time::{Mono, Now, Wall};

/// Restarts remembered per container.
const RISES: usize = 32;
/// Containers that end this close to one another may have ended for one reason.
const TOGETHER: Duration = Duration::from_mins(1);
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
    pub specs: Specs,
    /// How it is called.
    pub called: Called,
    /// What its labels ask for.
    pub wishes: Wishes,
    /// The last lines of its log, once they were read.
    pub log: Option<Log>,
    /// The last answer about it.
    pub inspected: Option<Inspected>,
    /// The last exit code known.
    pub last_exit: Option<i64>,
    /// It did not answer the last inspect call.
    pub hangs: bool,
    /// How it stands, and since when.
    phase: Phase,
    since: Mono,
    /// The engine's events said that a command ended this run.
    meant: bool,
    /// It was bad by itself, and not well since.
    failing: bool,
    /// Whether the last verdict that was not a wait was that a command did it, and whether the one before was.
    planned: (bool, bool),
    seen_running: bool,
    looping: bool,
    /// Until when a run that began before anybody looked proves nothing.
    unproven_until: Option<Mono>,
    rises: VecDeque<Mono>,
    /// Starts after a failure that events told an earlier source of.
    crashes: Vec<Mono>,
    oom_at: Option<Mono>,
    /// Kills for memory up to here were lived through.
    oom_over: Option<Mono>,
    oom_flag: bool,
    /// The engine's count of restarts at the last look.
    count: Option<u32>,
    auto_remove: bool,
    created_at: Option<Wall>,
    was_down: bool,
    was_completed: bool,
    /// What is kept of it now.
    kept: Option<Past>,
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
    pub fn new(specs: Specs, called: Called) -> Track {
        let phase = Phase {
            id: String::new(),
            standing: Standing::Other,
            started_at: String::new(),
            finished_at: String::new(),
        };
        Track {
            specs,
            called,
            wishes: Wishes::default(),
            log: None,
            inspected: None,
            last_exit: None,
            hangs: false,
            phase,
            since: Mono::default(),
            meant: false,
            failing: false,
            planned: (false, false),
            seen_running: false,
            looping: false,
            unproven_until: None,
            rises: VecDeque::new(),
            crashes: Vec::new(),
            oom_at: None,
            oom_over: None,
            oom_flag: false,
            count: None,
            auto_remove: false,
            created_at: None,
            was_down: false,
            was_completed: false,
            kept: None,
        }
    }

    /// As it was when somebody looked last.
    pub fn restored(specs: Specs, past: Past) -> Track {
        let kept = Some(past.clone());
        let (id, standing, started_at, finished_at) = (past.id, past.standing, past.started_at, past.finished_at);
        Track {
            last_exit: past.last_exit,
            phase: Phase { id, standing, started_at, finished_at },
            since: past.since,
            meant: past.meant,
            failing: past.failing,
            seen_running: past.seen_running,
            looping: past.looping,
            unproven_until: past.unproven_until,
            rises: past.rises.into_iter().take(RISES).collect(),
            crashes: past.crashes.into_iter().take(RISES).collect(),
            oom_at: past.oom_at,
            oom_flag: past.oom_flag,
            count: past.count,
            auto_remove: past.auto_remove,
            was_down: past.was_down,
            was_completed: past.was_completed,
            kept,
            ..Track::new(specs, past.called)
        }
    }

    /// What is to be kept of it, when that is another than before.
    pub fn keep(&mut self, look: &Look<'_>) -> Option<String> {
        let recent = |at: &Mono| look.now.mono.since(*at) < look.window;
        let mut crashes: Vec<Mono> = self.crashes.iter().chain(&look.hint.crashes).copied().filter(recent).collect();
        crashes.drain(..crashes.len().saturating_sub(RISES));
        let past = Past {
            called: self.called.clone(),
            id: self.phase.id.clone(),
            standing: self.phase.standing,
            started_at: self.phase.started_at.clone(),
            finished_at: self.phase.finished_at.clone(),
            since: self.since,
            meant: self.meant,
            failing: self.failing,
            seen_running: self.seen_running,
            looping: self.looping,
            unproven_until: self.unproven_until,
            rises: self.rises.iter().copied().collect(),
            crashes,
            oom_at: self.oom_at,
            oom_flag: self.oom_flag,
            count: self.count,
            last_exit: self.last_exit,
            auto_remove: self.auto_remove,
            was_down: self.was_down,
            was_completed: self.was_completed,
        };
        if self.kept.as_ref() == Some(&past) {
            return None;
        }
        let text = Stamped::text(&past, look.now);
        self.kept = Some(past);
        text
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
        if renewed {
            // The same one to a person: a loop, and a kill for memory, are over after their calm and not before.
            (self.count, self.oom_flag) = (None, false);
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
            if self.phase.standing == Standing::Restarting && self.count == Some(inspected.restart_count) {
                // The run that the first look found about to begin has begun.
                self.unproven_until = self.unproven_until.map(|_| self.since.plus(look.window));
            }
            (self.phase, self.meant) = (phase, false);
        }
        self.auto_remove = inspected.host_config.auto_remove;
        self.created_at = (listed.created > 0).then_some(Wall(listed.created.saturating_mul(1_000)));
        let unseen = self.inspected.is_none() && look.reach >= look.window;
        if unseen && inspected.restart_count > 0 && self.count != Some(inspected.restart_count) {
            // The engine started it anew while nobody looked: how often lately, nobody knows.
            self.begin_unproven(standing, look);
            self.count = Some(inspected.restart_count);
        }
        self.count_restarts(&inspected, look);
        self.note_oom(&inspected, look);
        self.seen_running |= standing == Standing::Running;
        let ended = matches!(standing, Standing::Exited | Standing::Restarting | Standing::Dead);
        if ended {
            self.last_exit = Some(inspected.state.exit_code);
        } else if look.hint.exit_code.is_some() {
            self.last_exit = look.hint.exit_code;
        }
        let facts = self.facts(standing, &inspected, look, witnessed);
        self.meant = ended && facts.how == How::Command;
        self.hangs = false;
        self.inspected = Some(inspected);
        facts
    }

    /// Takes note that it is not there; `named` when the settings say that it must be.
    pub fn lose(&mut self, look: &Look<'_>, named: bool) -> Facts {
        if self.phase.standing != Standing::Gone {
            self.phase.standing = Standing::Gone;
            self.since = look.now.mono.minus(if look.once && named { Duration::MAX } else { Duration::ZERO });
        }
        let required = named || self.called.required;
        self.hangs = false;
        let passing = self.auto_remove || self.was_completed;
        Facts {
            standing: Standing::Gone,
            health: Health::Unchecked,
            exit_code: self.last_exit.unwrap_or(0),
            oom: false,
            policy: self.inspected.as_ref().map_or(Policy::No, policy),
            restarts: 0,
            looping: false,
            how: How::Unclear,
            ago: look.now.mono.since(self.since),
            unproven: Duration::ZERO,
            expected: !passing && (self.seen_running || self.was_down),
            required: named || (required && !passing && self.seen_running),
        }
    }

    /// Remembers the answer; the next look depends on it.
    pub fn judged(&mut self, facts: &Facts, verdict: &Verdict, limit: u32) {
        self.looping = facts.looping || facts.restarts >= limit;
        // Completed stays known while it is being removed.
        if verdict.reason != Reason::Settling {
            self.was_down = verdict.reading == Reading::Down;
            self.failing |= self.was_down && !verdict.reason.is_planned();
            self.failing &= verdict.reading != Reading::Up;
            if verdict.reading != Reading::Unknown {
                self.planned = (verdict.reason.is_planned(), self.planned.0);
            }
            // One that somebody stopped, for all that is known yet, did not complete its work.
            self.was_completed = verdict.reason == Reason::Completed && facts.how == How::Itself;
        }
        if verdict.reading == Reading::Up && facts.standing == Standing::Running {
            // It ran for long enough after a kill for memory; the next start is not that kill's.
            (self.oom_over, self.oom_at) = (self.oom_at.or(self.oom_over), None);
        }
    }

    /// For a while nobody could look: what was waiting waits from `now` again.
    pub fn was_unseen(&mut self, now: Mono) {
        if !self.was_down && !matches!(self.phase.standing, Standing::Running) {
            self.since = self.since.max(now);
        }
    }

    /// When what `reason` speaks of happened, as far as the engine or its events tell.
    pub fn happened_at(&self, reason: Reason, hint: &Hint, now: Now) -> Option<Wall> {
        let by_wall = |at: Mono| now.wall.minus(now.mono.since(at));
        match reason {
            Reason::OutOfMemory if self.phase.standing == Standing::Running => self.oom_at.map(by_wall),
            Reason::Failed | Reason::Stopped | Reason::ByCommand | Reason::OutOfMemory | Reason::Dead => {
                date(&self.phase.finished_at)
            }
            Reason::CrashLoop => {
                let recent = self.rises.iter().chain(&self.crashes).chain(&hint.crashes).copied();
                recent.min().map(by_wall)
            }
            Reason::Unhealthy => {
                let log = &self.inspected.as_ref()?.state.health.as_ref()?.log;
                log.iter().rev().take_while(|check| check.exit_code != 0).last().and_then(|check| date(&check.start))
            }
            Reason::NeverStarted | Reason::CannotStart => self.created_at,
            Reason::Paused | Reason::StuckRemoving | Reason::Missing => Some(by_wall(self.since)),
            _ => None,
        }
    }

    fn begin_unproven(&mut self, standing: Standing, look: &Look<'_>) {
        let from = if standing == Standing::Running { self.since } else { look.now.mono };
        let until = from.plus(look.window);
        if until > look.now.mono {
            self.unproven_until = Some(until);
            // It runs since the last of those restarts: a start by hand sets the engine's count to nothing.
            self.rises.push_back(from);
        }
    }

    fn count_restarts(&mut self, inspected: &Inspected, look: &Look<'_>) {
        let count = inspected.restart_count;
        let rise = match self.count.replace(count) {
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

    fn note_oom(&mut self, inspected: &Inspected, look: &Look<'_>) {
        let flagged_before = std::mem::replace(&mut self.oom_flag, inspected.state.oom_killed);
        if inspected.state.oom_killed && !flagged_before {
            // At the first look nobody knows when; it was at the latest when this phase began.
            self.oom_at = Some(if self.inspected.is_some() { look.now.mono } else { self.since });
        }
        self.oom_at = self.oom_at.max(look.hint.oom_at.filter(|at| Some(*at) > self.oom_over));
    }

    fn facts(&self, standing: Standing, inspected: &Inspected, look: &Look<'_>, witnessed: bool) -> Facts {
        let now = look.now.mono;
        let exit_code = inspected.state.exit_code;
        let recent = |at: &&Mono| now.since(**at) < look.window;
        let crashes = self.crashes.iter().chain(&look.hint.crashes).filter(recent).count();
        let restarts = u32::try_from(self.rises.len().max(crashes)).unwrap_or(u32::MAX);
        let near = self.oom_at.is_some_and(|at| at.plus(OOM_NEAR) > self.since);
        let how = self.how(inspected, look, witnessed);
        let (oom, from) = match standing {
            Standing::Running => (self.oom_at.is_some(), self.oom_at.map_or(self.since, |at| at.max(self.since))),
            _ if how.is_meant() => (false, self.since),
            _ => (near || (inspected.state.oom_killed && exit_code == 137), self.since),
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
            unproven: self.unproven_until.map_or(Duration::ZERO, |until| until.since(now)),
            expected: true,
            required: false,
        }
    }
}

impl Track {
    /// How it came to its end: events know; else whether the engine lets it lie although it would start again what
    /// ended by itself.
    fn how(&self, inspected: &Inspected, look: &Look<'_>, witnessed: bool) -> How {
        let lies = inspected.state.error.is_empty() && self.phase.standing == Standing::Exited;
        if look.hint.with_engine {
            How::WithEngine
        } else if look.hint.killed || self.meant {
            How::Command
        } else if lies && matches!(policy(inspected), Policy::Always | Policy::UnlessStopped) {
            How::Presumed
        } else if look.hint.is_open() || (!look.hint.died && look.live && witnessed) {
            How::NotYetTold
        } else if !look.hint.died && is_signalled(inspected.state.exit_code) {
            How::Unclear
        } else {
            How::Itself
        }
    }

    /// Our own container ended at `own_end`: what was kept of one that ended together with it proves no command, because
    /// an engine that ends stops them all. Its events know better, where it still has them.
    pub fn doubt(&mut self, own_end: Wall) {
        let together = |ended: Wall| ended.since(own_end).max(own_end.since(ended)) < TOGETHER;
        self.meant &= self.inspected.is_some() || !date(&self.phase.finished_at).is_some_and(together);
    }

    /// It was bad by itself before a command stopped it, and nobody saw it well since.
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// It is back from what a command did, since this very look.
    pub fn is_back(&self) -> bool {
        self.planned == (false, true)
    }

    /// When the run began that it is in, or that ended last, in the engine's words.
    pub fn started_at(&self) -> &str {
        &self.phase.started_at
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
    use crate::core::signal::{Severity, SignalKey, Spec};
    use std::sync::Arc;

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
        away: Option<Duration>,
        hint: Hint,
    }

    impl Story {
        fn begin() -> Story {
            let (key, rule) = (SignalKey::new("container/web"), Rule::at_once(Test::Verdict));
            let spec = Arc::new(Spec::new(key, "container web", Severity::Critical, rule));
            let specs = Specs { usual: Arc::clone(&spec), planned: Arc::clone(&spec), back: spec };
            let called = Called { identity: "name web".into(), name: "web".into(), ..Called::default() };
            let now = Now { wall: Wall(NINE), mono: Mono(1_000_000), awake: Mono(1_000_000) };
            Story { track: Track::new(specs, called), now, last: None, away: None, hint: Hint::default() }
        }

        fn keep(&mut self) -> Option<String> {
            let window = Duration::from_mins(10);
            let look =
                Look { now: self.now, reach: Duration::ZERO, hint: &self.hint, live: false, window, once: false };
            self.track.keep(&look)
        }

        /// Our own process ends and another begins `seconds` later, in this boot or another.
        fn restart(&mut self, seconds: i64, same_boot: bool) {
            self.track.kept = None;
            let kept = self.keep().unwrap();
            self.now.wall.0 += seconds * 1_000;
            self.now.mono.0 = if same_boot { self.now.mono.0 + seconds * 1_000 } else { 20_000 };
            let stamped: Stamped = serde_json::from_str(&kept).unwrap();
            self.track = Track::restored(self.track.specs.clone(), stamped.carried(self.now, same_boot));
            self.hint = Hint::default();
            self.away = Some(Duration::from_secs(seconds.unsigned_abs()));
        }

        /// Looks after `seconds`; gives what the verdict says.
        fn look(&mut self, seconds: i64, seen: Option<Inspected>) -> (Reading, Reason) {
            self.now.mono.0 += seconds * 1_000;
            self.now.wall.0 += seconds * 1_000;
            let reach = self.last.map_or(Duration::MAX, |last| self.now.mono.since(last));
            self.last = Some(self.now.mono);
            let window = Duration::from_mins(10);
            let reach = self.away.take().unwrap_or(reach);
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
        assert_eq!(
            Story::begin().look(0, Some(web("exited", 143))),
            (Reading::Down, Reason::ByCommand),
            "a minute ago"
        );
        let mut story = Story::begin();
        assert_eq!(story.look(0, Some(web("running", 0))), (Reading::Up, Reason::Running));
        // The wall clock jumped ahead ten years: the end was still within the last second.
        story.now.wall.0 += 315_360_000_000;
        assert_eq!(story.look(1, Some(web("exited", 143))), (Reading::Unknown, Reason::Settling));
        story.now.wall.0 -= 2 * 315_360_000_000;
        assert_eq!(story.look(8, Some(web("exited", 143))).1, Reason::Settling);
        assert_eq!(
            story.look(1, Some(web("exited", 143))),
            (Reading::Down, Reason::ByCommand),
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
        assert_eq!(story.look(10, Some(web("exited", 143))), (Reading::Down, Reason::ByCommand));
        story.track.was_unseen(story.now.mono);
        assert_eq!(
            story.look(0, Some(web("exited", 143))),
            (Reading::Down, Reason::ByCommand),
            "what is down stays down"
        );
    }

    fn restarted(count: u32) -> Inspected {
        Inspected { restart_count: count, ..web("running", 0) }
    }

    #[test]
    fn who_did_it_is_known_by_events_by_what_the_engine_does_not_do_or_not_at_all() {
        let with = |policy: &str, exit_code| {
            let mut inspected = web("exited", exit_code);
            inspected.host_config.restart_policy.name = policy.into();
            inspected
        };
        let first = |seen: Inspected| Story::begin().look(0, Some(seen)).1;
        for code in [0, 1, 137, 143] {
            assert_eq!(first(with("unless-stopped", code)), Reason::ByCommand, "it would have been started again");
        }
        assert_eq!(first(with("no", 143)), Reason::Failed, "nobody knows who sent the signal");
        assert_eq!(first(with("on-failure", 1)), Reason::Failed, "it may have been tried often enough");
        let mut broken = with("always", 1);
        broken.state.error = "port is already allocated".into();
        assert_eq!(first(broken), Reason::Failed, "the engine tried and could not");

        let mut story = Story::begin();
        story.look(0, Some(web("running", 0)));
        (story.hint.killed, story.hint.died) = (true, true);
        assert_eq!(story.look(1, Some(with("no", 1))), (Reading::Unknown, Reason::Settling));
        assert_eq!(story.look(10, Some(with("no", 1))), (Reading::Down, Reason::ByCommand));
        // Unless we ended together with it: then the engine may have.
        let mut together = Story::begin();
        together.look(0, Some(web("running", 0)));
        (together.hint.killed, together.hint.died) = (true, true);
        together.look(11, Some(with("no", 1)));
        let at = |millis: i64| date("2024-01-06T08:59:00Z").unwrap().plus(Duration::from_millis(millis.unsigned_abs()));
        together.restart(5, true);
        together.track.doubt(at(60_000));
        assert!(together.track.meant, "a minute later is another matter");
        together.track.doubt(at(59_000));
        assert!(!together.track.meant);
        // What an event told once is known for as long as it lies there, also to those after us.
        story.restart(5, true);
        assert_eq!(story.look(1, Some(with("no", 1))), (Reading::Down, Reason::ByCommand));
        let mut again = with("no", 1);
        (again.state.started_at, again.state.finished_at) =
            ("2024-01-06T09:01:00Z".into(), "2024-01-06T09:01:01Z".into());
        assert_eq!(story.look(60, Some(again)), (Reading::Down, Reason::Failed), "the next end is another matter");
    }

    #[test]
    fn a_failure_is_known_until_it_was_well_whatever_a_command_did_meanwhile() {
        let mut story = Story::begin();
        story.look(0, Some(restarted(0)));
        assert!(!story.track.is_failing());
        assert_eq!(story.look(60, Some(restarted(3))).1, Reason::CrashLoop);
        let stopped = || Inspected { restart_count: 3, ..web("exited", 7) };
        assert_eq!(story.look(1, Some(stopped())).1, Reason::Settling);
        assert_eq!(story.look(10, Some(stopped())), (Reading::Down, Reason::ByCommand), "docker stop ends the loop");
        assert!(story.track.is_failing());
        story.restart(5, true);
        assert!(story.track.is_failing());
        story.look(700, Some(restarted(0)));
        assert!(!story.track.is_failing());
    }

    #[test]
    fn a_crash_loop_ends_only_after_a_whole_window_without_a_restart() {
        let mut story = Story::begin();
        let (ok, looping) = ((Reading::Up, Reason::Running), (Reading::Down, Reason::CrashLoop));
        assert_eq!(story.look(0, Some(restarted(57))), ok, "what was before the first look is not counted");
        assert_eq!(story.look(60, Some(restarted(58))), ok);
        assert_eq!(story.look(60, Some(restarted(59))), ok);
        assert_eq!(story.look(60, Some(restarted(60))), looping);
        // The first two leave the window: one restart is not a loop, but this loop is not over.
        assert_eq!(story.look(590, Some(restarted(60))), looping);
        assert_eq!(story.look(10, Some(restarted(60))), ok);
        // Three at once, as after a tick in which nobody looked.
        assert_eq!(story.look(15, Some(restarted(63))), looping);
        let fresh = Inspected { id: "b".into(), ..restarted(0) };
        assert_eq!(story.look(15, Some(fresh.clone())), looping, "made anew it is the same one, and not yet calm");
        assert_eq!(story.look(584, Some(fresh.clone())), looping);
        assert_eq!(story.look(1, Some(fresh)), ok);
    }

    #[test]
    fn a_crash_loop_is_not_over_because_we_looked_away() {
        let mut story = Story::begin();
        story.look(0, Some(restarted(0)));
        assert_eq!(story.look(60, Some(restarted(3))).1, Reason::CrashLoop);
        for same_boot in [true, false] {
            story.restart(30, same_boot);
            assert_eq!(story.look(0, Some(restarted(3))).1, Reason::CrashLoop, "same boot: {same_boot}");
        }
        // Sixty seconds away: the calm goes on by the same clock as without us.
        assert_eq!(story.look(539, Some(restarted(3))).1, Reason::CrashLoop);
        assert_eq!(story.look(1, Some(restarted(3))), (Reading::Up, Reason::Running));
        // What happened while nobody looked is counted when somebody does.
        story.restart(60, true);
        assert_eq!(story.look(0, Some(restarted(6))).1, Reason::CrashLoop);
    }

    #[test]
    fn a_run_that_the_engine_began_before_the_first_look_proves_nothing_until_it_was_calm() {
        let run = |count, started: &str| {
            let mut inspected = restarted(count);
            inspected.state.started_at = started.into();
            inspected
        };
        let mut story = Story::begin();
        let begun = "2024-01-06T08:59:50Z";
        assert_eq!(story.look(0, Some(run(57, begun))), (Reading::Unknown, Reason::Unproven));
        assert_eq!(story.look(589, Some(run(57, begun))).1, Reason::Unproven);
        assert_eq!(story.look(1, Some(run(57, begun))), (Reading::Up, Reason::Running), "ten minutes after its start");
        let mut loops = Story::begin();
        loops.look(0, Some(run(57, begun)));
        assert_eq!(loops.look(10, Some(run(58, "2024-01-06T09:00:09Z"))).1, Reason::Unproven);
        assert_eq!(loops.look(10, Some(run(59, "2024-01-06T09:00:19Z"))).1, Reason::CrashLoop, "three within a minute");
        let mut waits = Story::begin();
        let about = Inspected { restart_count: 57, ..web("restarting", 7) };
        assert_eq!(waits.look(0, Some(about)), (Reading::Unknown, Reason::Restarting));
        assert_eq!(waits.look(30, Some(run(57, "2024-01-06T09:00:20Z"))).1, Reason::Unproven);
        assert_eq!(waits.look(589, Some(run(57, "2024-01-06T09:00:20Z"))).1, Reason::Unproven, "619 of 620 seconds");
        assert_eq!(waits.look(1, Some(run(57, "2024-01-06T09:00:20Z"))).1, Reason::Running);
        let mut old = Story::begin();
        assert_eq!(old.look(0, Some(run(57, "2024-01-06T08:00:00Z"))).1, Reason::Running, "calm for an hour");
        let mut by_hand = Story::begin();
        assert_eq!(by_hand.look(0, Some(run(0, begun))).1, Reason::Running, "nobody but a person started it");
    }

    #[test]
    fn what_is_kept_stays_below_its_limit_and_is_kept_only_when_it_changes() {
        let mut story = Story::begin();
        let long = |length: usize| "x".repeat(length);
        story.track.called = Called {
            identity: long(550),
            name: long(255),
            project: Some(long(255)),
            service: Some(long(255)),
            required: true,
        };
        story.now.mono = Mono(i64::MAX / 4);
        story.look(0, Some(restarted(0)));
        let crash = story.now.mono;
        story.hint.crashes = (0..64).map(|n| crash.plus(Duration::from_millis(n))).collect();
        story.look(1, Some(restarted(u32::MAX)));
        let kept = story.keep().unwrap();
        assert!(kept.len() <= crate::core::signal::KEEP_LIMIT, "{} bytes", kept.len());
        story.look(1, Some(restarted(u32::MAX)));
        assert_eq!(story.keep(), None);
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
            inspected.host_config.restart_policy.name = "no".into();
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
        story.restart(9, true);
        assert_eq!(story.look(50, Some(again.clone())).1, Reason::OutOfMemory, "also when we were away meanwhile");
        assert_eq!(story.look(1, Some(again.clone())).1, Reason::Running);
        // Started by hand later, it is not the old kill that counts.
        again.state.oom_killed = false;
        again.state.started_at = "2024-01-06T09:59:00Z".into();
        assert_eq!(story.look(3600, Some(again.clone())).1, Reason::Running);
        // A failure an hour later is not the memory's fault.
        again.state.status = "exited".into();
        again.state.exit_code = 1;
        assert_eq!(story.look(3600, Some(again)).1, Reason::Failed);
    }

    #[test]
    fn what_was_removed_is_neither_well_nor_missing_unless_it_must_be_there() {
        let mut story = Story::begin();
        story.look(0, Some(web("running", 0)));
        assert_eq!(story.look(1, None), (Reading::Unknown, Reason::Settling));
        assert_eq!(story.look(10, None), (Reading::Unknown, Reason::Removed));
        let mut required = Story::begin();
        required.track.called.required = true;
        required.look(0, Some(web("running", 0)));
        assert_eq!(required.look(1, None), (Reading::Unknown, Reason::Settling));
        assert_eq!(required.look(10, None), (Reading::Down, Reason::Missing));
        let mut failing = Story::begin();
        failing.look(0, Some(web("exited", 1)));
        assert_eq!(failing.look(1, None), (Reading::Unknown, Reason::Settling), "it may be made anew");
        assert_eq!(failing.look(10, None), (Reading::Unknown, Reason::Removed));
        let mut never = Story::begin();
        never.look(0, Some(web("flying", 0)));
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
