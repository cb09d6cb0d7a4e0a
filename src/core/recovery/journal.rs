//! The journal: what is written down of a repair before and after each request, and how it is read back.
//!
//! An intent is on the disk before its request leaves (B5). Reading back folds the records of a
//! repair by the table that the live path uses; one that cannot follow, because something is
//! missing, leaves the repair in doubt, never forgotten: the machine is looked at before anything
//! is asked. See `adr/0007-journal-before-act.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::legacy;
use super::procedure::Procedure;
use super::saga::{Saga, Stage};
use super::subject::{Fence, Verb};
use crate::core::time::Wall;

pub use super::saga::Event;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Names the repair; never used twice.
    pub saga: String,
    /// What is repaired.
    pub target: String,
    /// Counts the records of one repair from 0: a number left out is a record lost.
    pub number: u32,
    /// When, by the wall clock.
    pub at: Wall,
    /// What happened.
    pub event: Event,
}

/// A repair as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Names the repair.
    pub id: String,
    /// What is repaired.
    pub target: String,
    /// Only simulated.
    pub simulated: bool,
    /// When it was decided.
    pub opened_at: Wall,
    /// The number that its next record gets.
    pub next: u32,
    /// Where it stands.
    pub saga: Saga,
    /// It was begun by another agent.
    pub adopted: bool,
    /// Something was missing or could not follow.
    pub damaged: bool,
}

/// The repairs that are not over, from records in the order in which they were written.
pub fn fold(records: &[Record]) -> Vec<Told> {
    let mut told: BTreeMap<&str, Told> = BTreeMap::new();
    for record in records {
        match told.get_mut(record.saga.as_str()) {
            Some(known) => follow(known, record),
            None => {
                told.insert(&record.saga, begin(record));
            }
        }
    }
    told.into_values().filter(|told| told.saga.is_open()).collect()
}

/// A decision and its first intent are written together: where lines are missing, one that stands alone has
/// lost the other, and the worst is that it was sent.
#[must_use]
pub fn suspect(told: Told) -> Told {
    if told.saga.stage != Stage::Decided {
        return told;
    }
    let saga = Saga::adopt(Arc::clone(&told.saga.procedure), 0, Fence::default());
    Told { saga, damaged: true, ..told }
}

/// A repair of which only this request is known, and the way that it goes where somebody wrote it down.
pub fn adopt(procedure: Option<Arc<Procedure>>, verb: Verb, fence: Fence) -> Saga {
    let procedure = procedure.unwrap_or_else(|| Arc::new(legacy::by_verb(verb)));
    let step = procedure.place(verb).unwrap_or_default();
    Saga::adopt(procedure, step, fence)
}

fn begin(record: &Record) -> Told {
    let (saga, simulated, damaged) = match &record.event {
        Event::Opened { procedure, simulated } => (Saga::open(Arc::clone(procedure)), *simulated, false),
        Event::Adopted { procedure, verb, fence } => (adopt(procedure.clone(), *verb, fence.clone()), false, false),
        other => (worst(None, other), false, true),
    };
    Told {
        id: record.saga.clone(),
        target: record.target.clone(),
        simulated,
        opened_at: record.at,
        next: record.number.saturating_add(1),
        saga,
        adopted: matches!(record.event, Event::Adopted { .. }),
        damaged,
    }
}

fn follow(told: &mut Told, record: &Record) {
    let in_order = record.number == told.next;
    told.next = told.next.max(record.number.saturating_add(1));
    match told.saga.apply(&record.event) {
        Ok(next) if in_order => told.saga = next,
        _ => {
            told.damaged = true;
            told.saga = worst(Some(&told.saga), &record.event);
        }
    }
}

/// With something missing, the worst that the record allows: what takes the subject down was asked.
fn worst(before: Option<&Saga>, event: &Event) -> Saga {
    let known = before.filter(|saga| saga.stage != Stage::Decided);
    // The way that it goes, as far as it was known and has such a step.
    let asked = |verb: Verb, fence: Fence| {
        let carried = before.map(|saga| &saga.procedure).filter(|procedure| procedure.place(verb).is_some());
        adopt(carried.cloned(), verb, fence)
    };
    match event {
        Event::Intent { verb, fence } => asked(*verb, fence.clone()),
        Event::Adopted { procedure, verb, fence } => adopt(procedure.clone(), *verb, fence.clone()),
        Event::Closed { end } => {
            let open = known.cloned().unwrap_or_else(|| Saga::open(legacy::STOP_START));
            Saga { stage: Stage::Closed(*end), ..open }
        }
        Event::Opened { procedure, .. } => known.cloned().unwrap_or_else(|| Saga::open(Arc::clone(procedure))),
        Event::Replied { verb, .. } => known.cloned().unwrap_or_else(|| asked(*verb, Fence::default())),
        Event::Seen { .. } | Event::Resumed => known.cloned().unwrap_or_else(|| match before {
            Some(saga) => Saga::adopt(Arc::clone(&saga.procedure), 0, Fence::default()),
            None => adopt(None, Verb::STOP, Fence::default()),
        }),
    }
}
