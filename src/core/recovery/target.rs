//! One thing that can be repaired, over time: its phase, its attempts, how long it has been gone.
//!
//! Takes one look per pass and says what became of it; decides nothing about acting. Time in which
//! nobody could see counts as neither gone nor healthy (A5). Attempts come back only through
//! continuously observed health, across restarts (B6). What it knows is kept as [`Kept`].

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::budget::Budget;
use super::gate::Blocked;
use super::heartbeat::{Beat, Life};
use crate::core::edge::Incident;
use crate::core::time::{Mono, Now, Wall};

/// No heartbeat of the boot before lives on for this long after a boot: longer than any session without a renewal.
const OUTLIVED: Duration = Duration::from_hours(1);

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing is wrong with it, as far as can be seen.
    #[default]
    Healthy,
    /// Its heartbeat is gone.
    Suspect,
    /// It is being repaired.
    Recovering,
    /// It was repaired and has time to come back.
    Waiting,
    /// Every attempt was used, or it is no more.
    Exhausted,
    /// Repairs are paused by configuration. Never kept: it is shown in place of the others.
    Paused,
}

impl Phase {
    /// Every phase, for metrics.
    pub const ALL: [Phase; 6] =
        [Phase::Healthy, Phase::Suspect, Phase::Recovering, Phase::Waiting, Phase::Exhausted, Phase::Paused];

    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Healthy => "healthy",
            Phase::Suspect => "suspect",
            Phase::Recovering => "recovering",
            Phase::Waiting => "waiting",
            Phase::Exhausted => "exhausted",
            Phase::Paused => "paused",
        }
    }
}

/// Where the machine of a node is found when the node is not configured any more.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The executor's name.
    pub executor: String,
    /// What the executor knows it by.
    pub machine: Arc<str>,
}

/// What the store keeps of a target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Now,
    /// It was seen alive at least once.
    pub was_alive: bool,
    /// The boot it was seen in last.
    pub boot: Option<Arc<str>>,
    /// The session that held its key last.
    pub session: Option<Arc<str>>,
    /// Repairs begun since it was last healthy for long.
    pub attempts: u32,
    /// How long it has been seen healthy without a break, counted only while there are attempts.
    pub healthy: Duration,
    /// When the present trouble began. Boxed like the other instants that a healthy target has not.
    pub lost_at: Option<Box<Now>>,
    /// When the present or last repair began.
    pub repair_at: Option<Box<Now>>,
    /// The boot it was in before that repair.
    pub boot_before: Option<Arc<str>>,
    /// The session it had before that repair.
    pub session_before: Option<Arc<str>>,
    /// No new repair before this.
    pub not_before: Option<Box<Now>>,
    /// A request of ours whose outcome never became clear: a machine found off until an hour after this is off
    /// by our doing.
    pub unsure_at: Option<Box<Now>>,
    /// The incident that the story is told under.
    pub incident: Option<Incident>,
    /// Its attempts were only simulated. On disk it has the name of old.
    #[serde(rename = "imagined")]
    pub simulated: bool,
    /// It is the machine that we run on.
    pub own: bool,
    /// The repair whose note other agents still find, until the node is back or no longer waited for.
    pub note: Option<String>,
    /// Where its machine was found when the present or last repair began.
    pub place: Option<Box<Place>>,
    /// It is not configured any more, and was last known to be there then.
    pub left_at: Option<Wall>,
    /// Why nothing is done, for commands without a daemon.
    #[serde(serialize_with = "words_of_old")]
    pub blocked: Vec<Blocked>,
    /// Why it is exhausted, where that is not by its attempts.
    pub given_up: Option<String>,
    /// Repairs of it that were begun within a day.
    #[serde(skip_serializing_if = "Budget::is_empty")]
    pub begun: Budget,
}

/// What became of a target in one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its heartbeat is gone.
    Lost,
    /// Its heartbeat is back before anything was done, or on the same boot as before.
    BackByItself(Duration),
    /// Its heartbeat is back on a new boot, this long after the repair began.
    Repaired(Duration),
    /// It said that it stops as planned.
    Planned,
    /// It did not come back within its time to boot.
    NotBack,
    /// It has been healthy for so long that its attempts are its own again.
    Forgiven,
}

/// The times that a target is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// Gone for this long: it may be repaired.
    pub after: Duration,
    /// Time to come back after a repair.
    pub boot_grace: Duration,
    /// Healthy for this long: its attempts begin anew.
    pub attempts_reset_after: Duration,
}

/// How one look at a target's heartbeat turned out; `None` where nobody could see.
pub type Glance<'a> = Option<(Life, Option<&'a Beat>)>;

/// One target over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Target {
    /// What survives a restart.
    pub kept: Kept,
    /// How long its heartbeat has been seen gone, in this run.
    pub gone: Duration,
    /// The last look at it, and what that showed.
    last: Option<(Mono, Life)>,
}

impl Target {
    /// As an earlier run left it. How long it had been gone begins anew: nobody looked in between.
    pub fn restored(kept: Kept) -> Target {
        Target { kept, ..Target::default() }
    }

    /// Time was lost: what was gone before is not known to have been gone since.
    pub fn lose_time(&mut self) {
        self.gone = Duration::ZERO;
        self.last = None;
    }

    /// Takes one look made at `at` and says what changed.
    pub fn look(&mut self, glance: Glance<'_>, at: Mono, now: Now, times: Times) -> Option<Change> {
        let Some((life, beat)) = glance else {
            self.last = None;
            return None;
        };
        let passed = match self.last {
            Some((before, was)) if was == life => at.since(before),
            _ => Duration::ZERO,
        };
        let was_alive = self.last.is_some_and(|(_, was)| was == Life::Alive);
        self.last = Some((at, life));
        match life {
            Life::Planned if was_alive => Some(Change::Planned),
            Life::Alive => self.alive(beat, passed, now, times),
            Life::Gone => self.gone(passed, now, times),
            // No proof of death, so nothing follows but that it is waited for no longer: what it had to show in its
            // time to boot is a heartbeat, and a key that nobody holds is none.
            Life::Unheld => self.not_back(now, times),
            // Neither proof of life nor of death: what it was told before stands, and no time counts.
            Life::Planned => None,
        }
    }

    fn alive(&mut self, beat: Option<&Beat>, passed: Duration, now: Now, times: Times) -> Option<Change> {
        let kept = &mut self.kept;
        self.gone = Duration::ZERO;
        let (session, boot) = beat.map(|beat| (beat.session.clone(), beat.boot.clone())).unwrap_or_default();
        let change = match kept.phase {
            Phase::Recovering | Phase::Healthy | Phase::Paused => None,
            Phase::Suspect | Phase::Exhausted => {
                let lasted = kept.lost_at.as_deref().map_or(Duration::ZERO, |lost| now.mono.since(lost.mono));
                let repaired =
                    kept.repair_at.as_deref().filter(|_| kept.is_another_life(boot.as_deref(), session.as_deref()));
                Some(match repaired {
                    Some(began) => Change::Repaired(now.mono.since(began.mono)),
                    None => Change::BackByItself(lasted),
                })
            }
            Phase::Waiting => {
                let lasted = kept.repair_at.as_deref().map_or(Duration::ZERO, |began| now.mono.since(began.mono));
                // What shows without a heartbeat has no mark of a new life: its provider's word for that stands.
                let new = beat.is_none() || kept.is_another_life(boot.as_deref(), session.as_deref());
                Some(if new { Change::Repaired(lasted) } else { Change::BackByItself(lasted) })
            }
        };
        kept.was_alive = true;
        if kept.phase != Phase::Recovering {
            (kept.boot, kept.session) = (boot.or(kept.boot.take()), session);
        }
        if change.is_some() {
            kept.enter(Phase::Healthy, now);
            kept.lost_at = None;
            kept.repair_at = None;
            kept.not_before = None;
            kept.unsure_at = None;
            kept.given_up = None;
            kept.healthy = Duration::ZERO;
        }
        if kept.phase == Phase::Healthy && kept.attempts > 0 {
            kept.healthy = kept.healthy.saturating_add(passed);
            if kept.healthy >= times.attempts_reset_after {
                kept.attempts = 0;
                kept.healthy = Duration::ZERO;
                return change.or(Some(Change::Forgiven));
            }
        }
        change
    }

    fn gone(&mut self, passed: Duration, now: Now, times: Times) -> Option<Change> {
        let kept = &mut self.kept;
        if !kept.was_alive {
            return None;
        }
        self.gone = self.gone.saturating_add(passed);
        kept.healthy = Duration::ZERO;
        match kept.phase {
            Phase::Healthy => {
                kept.enter(Phase::Suspect, now);
                kept.lost_at = Some(Box::new(now));
                Some(Change::Lost)
            }
            _ => self.not_back(now, times),
        }
    }

    /// Its time to boot is over and it is not back.
    fn not_back(&mut self, now: Now, times: Times) -> Option<Change> {
        let kept = &mut self.kept;
        let is_late = kept.phase == Phase::Waiting && now.mono.since(kept.since.mono) >= times.boot_grace;
        is_late.then(|| {
            kept.enter(Phase::Suspect, now);
            Change::NotBack
        })
    }

    /// True when its key is there and no session holds it.
    pub fn is_unheld(&self) -> bool {
        matches!(self.last, Some((_, Life::Unheld)))
    }

    /// True when it has been seen gone for long enough and no wait is left from a repair before.
    pub fn is_due(&self, now: Mono, times: Times) -> bool {
        let waited = self.kept.not_before.as_deref().is_none_or(|until| now >= until.mono);
        self.kept.phase == Phase::Suspect && self.gone >= times.after && waited
    }

    /// True when one more look that shows what the last one showed would change nothing: alive, and no attempts
    /// that time would forgive.
    pub fn is_steady(&self) -> bool {
        let kept = &self.kept;
        let is_alive = matches!(self.last, Some((_, Life::Alive)));
        is_alive && kept.was_alive && kept.phase == Phase::Healthy && kept.attempts == 0
    }

    /// True while it counts as ill: gone, under repair, or given up.
    pub fn is_ill(&self) -> bool {
        self.kept.phase != Phase::Healthy
    }
}

impl Kept {
    /// Another phase begins.
    pub fn enter(&mut self, phase: Phase, now: Now) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
        }
    }

    /// What was only simulated is forgotten.
    pub fn forgive(&mut self) {
        let phase = if self.lost_at.is_some() { Phase::Suspect } else { Phase::Healthy };
        *self = Kept {
            phase,
            attempts: 0,
            healthy: Duration::ZERO,
            repair_at: None,
            not_before: None,
            given_up: None,
            simulated: false,
            ..std::mem::take(self)
        };
    }

    /// True for a heartbeat of another boot than the one before the repair; where a heartbeat tells no boot,
    /// for one of another session.
    fn is_another_life(&self, boot: Option<&str>, session: Option<&str>) -> bool {
        match (boot, self.boot_before.as_deref()) {
            (Some(now), Some(before)) => now != before,
            _ => session.is_some() && session != self.session_before.as_deref(),
        }
    }

    /// Takes note of whether it is the machine that we run on, whose boot is `ours`; `before` is the boot that it was
    /// seen in until now. True when that changed.
    pub fn recognise(&mut self, beat: &Beat, before: Option<&str>, ours: &str, now: Mono) -> bool {
        let Some(boot) = beat.boot.as_deref() else { return false };
        let lives_elsewhere = boot != ours && beat.life == Life::Alive;
        let is_own = if self.own {
            // After a reboot the key of the boot before may live on for a while, and that was us, too.
            !lives_elsewhere || (before == Some(boot) && now.since(Mono(0)) < OUTLIVED)
        } else {
            boot == ours
        };
        std::mem::replace(&mut self.own, is_own) != is_own
    }

    /// Its instants on this boot's clock: those of another boot, or later than now, are placed by the wall clock.
    #[must_use]
    pub fn carried(mut self, now: Now, same_boot: bool) -> Kept {
        let carry = |then: &mut Now| {
            if !same_boot || then.mono > now.mono {
                then.mono = now.mono.minus(now.wall.since(then.wall));
            }
        };
        // A wait lies ahead; carried over a reboot it begins anew, at most as long as it was.
        if let Some(until) = &mut self.not_before
            && !same_boot
        {
            let left = until.wall.since(now.wall).min(Duration::from_hours(1));
            until.mono = now.mono.plus(left);
        }
        for then in [&mut self.lost_at, &mut self.repair_at, &mut self.unsure_at].into_iter().flatten() {
            carry(then);
        }
        carry(&mut self.since);
        self.begun = self.begun.carried(now, same_boot);
        self
    }

    /// Since when it stands where it stands, by the wall clock.
    pub fn since_wall(&self) -> Wall {
        self.since.wall
    }
}

/// Without the words that a version before this one could not read: it would take the whole row for unreadable. They
/// are found anew with the first pass.
fn words_of_old<S: Serializer>(blocked: &[Blocked], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(blocked.iter().filter(|reason| **reason != Blocked::Silenced))
}
