//! One node of the fleet: its target, the repair under way, and the look that comes before one.
//!
//! Keeps the three together so that nothing happens to a repair without its line in the journal:
//! [`Member::happen`] is the only way to change a saga. What a member does about itself is in `sight` (its heartbeat),
//! `check` (new repairs) and `repair` (those under way); all of it works on what a [`Pass`] lends.

use std::sync::Arc;
use std::time::Duration;

use super::budget::Budget;
use super::gate::Blocked;
use super::journal::{Event, Record, Told};
use super::pace::Pace;
use super::pass::Pass;
use super::phrase::{Deed, Phrase};
use super::plan::{Line, Node, Place, Task};
use super::procedure::Step;
use super::saga::{End, Saga, Stage};
use super::subject::{Fence, Seen, State};
use super::target::{Phase, Target};
use crate::core::message::clean;
use crate::core::signal::SignalKey;
use crate::core::time::{Mono, Now};

/// What a provider says is kept to this length, in characters: it goes into the journal and into messages.
const WORDS: usize = 300;
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// The versions that a machine shows when it is only simulated.
const SIMULATED_ON: &str = "simulated-on";
const SIMULATED_OFF: &str = "simulated-off";

/// One node of the fleet.
#[derive(Debug, Clone)]
pub struct Member {
    /// How it is repaired.
    pub node: Node,
    /// How it is.
    pub target: Target,
    /// The repair under way.
    pub repair: Option<Box<Repair>>,
    /// The look before a repair.
    pub check: Check,
    /// The order that is out.
    pub out: Option<u64>,
    /// Why nothing is done.
    pub blocked: Vec<Blocked>,
    /// What was last said about that, and when.
    pub told: Option<Box<(Vec<Blocked>, Mono)>>,
    /// What the provider last could not do, in words.
    pub trouble: Option<String>,
    /// Its kept form changed.
    pub dirty: bool,
    /// It is configured no more and stays only for the repair under way.
    pub leaving: bool,
    /// The last pass in which it was ill and somebody had silenced it, or planned work covered it.
    pub silenced_at: Option<Mono>,
    /// No note of another agent about it is asked to be taken away again before this.
    pub forget_at: Mono,
    /// Repairs of it that were only simulated, within a day.
    pub simulated_begun: Budget,
}

/// The look that comes before a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// None yet; not before this.
    Idle(Mono),
    /// The evidence has to be looked at again, later than this.
    Evidence(Mono),
    /// The heartbeats and the machine are being looked at; the evidence is newer than this.
    Confirming(Mono),
}

/// One repair under way.
#[derive(Debug, Clone)]
pub struct Repair {
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub saga: Saga,
    /// When its next thing is due.
    pub pace: Pace,
    /// Only simulated.
    pub simulated: bool,
    /// The number of its next record.
    pub next: u32,
    /// When it was decided, or this run took it up.
    pub began: Now,
    /// It was taken up by this run and that is not written down yet.
    pub resumed: bool,
    /// Another agent began it.
    pub adopted: bool,
    /// The journal had a gap.
    pub damaged: bool,
}

impl Repair {
    /// A repair that begins now.
    pub fn open(id: String, saga: Saga, simulated: bool, now: Now) -> Repair {
        let pace = Pace::new(now.mono);
        Repair { id, saga, pace, simulated, next: 0, began: now, resumed: false, adopted: false, damaged: false }
    }

    /// A repair as the journal tells it.
    pub fn resumed(told: Told, now: Now) -> Repair {
        let began = Now { wall: told.opened_at, mono: now.mono.minus(now.wall.since(told.opened_at)), ..now };
        Repair {
            next: told.next,
            began,
            resumed: true,
            adopted: told.adopted,
            damaged: told.damaged,
            ..Repair::open(told.id, told.saga, told.simulated, now)
        }
    }

    /// What a look at a machine that is not touched would show: what its present step waits for.
    pub fn simulated_look(&self) -> Seen {
        let (state, version) = match (self.saga.stage, self.saga.step()) {
            (Stage::Next(_), _) => (State::Stopped, SIMULATED_OFF),
            (Stage::Doubt(_), Some(step)) if step.disrupts() => (State::Stopping, SIMULATED_OFF),
            (Stage::Awaiting(_), Some(step)) if step.goal.shows() == State::Stopped => (State::Stopped, SIMULATED_OFF),
            _ => (State::Running, SIMULATED_ON),
        };
        Seen::new(state, version)
    }

    /// The name of a request: the same again only while nobody knows whether it counted.
    pub fn fence(&self, step: &Step, version: Option<&str>) -> Fence {
        let last = &self.saga.fence;
        let is_begun = self.saga.stage != Stage::Decided;
        let same = self.saga.unsure && last.version.as_deref() == version && is_begun && step.restores();
        let token = if same { last.token.clone() } else { format!("{}-{}", self.id, self.next) };
        Fence { version: version.map(str::to_string), token }
    }
}

impl Member {
    /// A node that nothing is known of yet.
    pub fn new(node: Node) -> Member {
        Member {
            node,
            target: Target::default(),
            repair: None,
            check: Check::Idle(Mono(i64::MIN)),
            out: None,
            blocked: Vec::new(),
            told: None,
            trouble: None,
            dirty: false,
            leaving: false,
            silenced_at: None,
            forget_at: Mono(i64::MIN),
            simulated_begun: Budget::default(),
        }
    }

    /// Its key.
    pub fn key(&self) -> Arc<str> {
        Arc::clone(&self.node.key)
    }

    /// True while somebody has silenced it, or planned work covers it.
    pub fn is_silenced(&self, pass: &Pass<'_>) -> bool {
        (pass.input.silenced)(&SignalKey::new(&self.node.key))
    }

    /// True while it counts as being repaired.
    pub fn is_in_flight(&self) -> bool {
        self.repair.is_some() || self.target.kept.phase == Phase::Waiting
    }

    /// True when something may be due for it: a healthy node costs nothing.
    pub fn is_busy(&self) -> bool {
        let target = &self.target;
        self.repair.is_some() || target.is_ill() || !target.kept.was_alive || !self.blocked.is_empty()
    }

    /// True when there may be more to do for it in this pass, or something to write down.
    pub fn is_stirred(&self) -> bool {
        self.dirty || self.is_busy() || self.blocked != self.target.kept.blocked
    }

    /// A repair is under way: its machine is to be found again even without its configuration, for it may owe a START.
    pub fn note_place(&mut self) {
        if let Some((executor, machine)) = &self.node.machine {
            let place = Place { executor: (*executor).to_string(), machine: Arc::clone(machine) };
            self.target.kept.place = Some(Box::new(place));
        }
    }

    /// How many repairs of it were begun within a day.
    pub fn begun_today(&self, pass: &Pass<'_>) -> usize {
        let begun = if pass.observes() { &self.simulated_begun } else { &self.target.kept.begun };
        begun.today(pass.now.mono)
    }

    /// True for one about which something may be told.
    pub fn is_story(&self) -> bool {
        let kept = &self.target.kept;
        self.repair.is_some() || kept.phase != Phase::Healthy || kept.attempts > 0 || kept.simulated
    }

    /// An attempt has failed: the next one after a wait, or none.
    pub fn next_attempt(&mut self, pass: &Pass<'_>) {
        let (now, kept) = (pass.now, &mut self.target.kept);
        if !pass.policy.has_attempts(kept.attempts) {
            kept.enter(Phase::Exhausted, now);
            return;
        }
        kept.enter(Phase::Suspect, now);
        let doubled = 1_u32.checked_shl(kept.attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let wait = self.node.times.after.saturating_mul(doubled).min(LONGEST_WAIT);
        kept.not_before = Some(Box::new(Now { wall: now.wall.plus(wait), mono: now.mono.plus(wait), ..now }));
    }

    /// Orders something that is answered.
    pub fn order(&mut self, task: Task, pass: &mut Pass<'_>) {
        self.out = Some(pass.order(&self.node.key, task));
    }

    /// What of it has to be kept changed in this pass.
    pub fn settle(&mut self) -> bool {
        if self.target.kept.blocked != self.blocked {
            self.target.kept.blocked.clone_from(&self.blocked);
            self.dirty = true;
        }
        std::mem::take(&mut self.dirty)
    }

    /// Takes down what happened to the repair and moves it on. False when it could not have happened, which
    /// is a defect and is written into the audit log.
    pub fn happen(&mut self, event: Event, pass: &mut Pass<'_>) -> bool {
        let Some(repair) = &mut self.repair else { return false };
        match &event {
            Event::Opened { .. } | Event::Adopted { .. } => {}
            _ => match repair.saga.apply(&event) {
                Ok(next) => {
                    let old_news = matches!(&event, Event::Seen { seen } if repair.saga.seen.as_ref() == Some(seen));
                    repair.saga = next;
                    if old_news {
                        return true;
                    }
                }
                Err(illegal) => {
                    let text = Phrase::seen(format!("defect, nothing was done: {illegal}"));
                    pass.plan.lines.push(Line { kind: "defect", target: self.key(), text });
                    return false;
                }
            },
        }
        let deed = Deed::of(repair.simulated);
        pass.plan.lines.push(Line { kind: "step", target: Arc::clone(&self.node.key), text: event.told(deed) });
        pass.plan.records.push(Record {
            saga: repair.id.clone(),
            target: self.node.key.to_string(),
            number: repair.next,
            at: pass.now.wall,
            event,
        });
        repair.next = repair.next.saturating_add(1);
        true
    }

    /// How the repair ended, once it has.
    pub fn ended(&self) -> Option<End> {
        match self.repair.as_ref()?.saga.stage {
            Stage::Closed(end) => Some(end),
            _ => None,
        }
    }

    /// How long the present trouble has lasted.
    pub fn ill_for(&self, now: Mono) -> Duration {
        let kept = &self.target.kept;
        match &kept.lost_at {
            Some(lost) if kept.phase != Phase::Healthy => now.since(lost.mono),
            _ => Duration::ZERO,
        }
    }
}

/// What somebody else said, on one line and not too long.
pub fn in_few_words(said: &str) -> String {
    clean(said, WORDS)
}
