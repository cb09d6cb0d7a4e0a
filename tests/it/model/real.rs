//! The real core as the search sees it: sagas by number, their next ones remembered.
//!
//! Nothing of the saga is modelled here: every step is made by `Saga::apply`, and each time a step is
//! made for the first time, a journal that holds it is read back by `fold` and has to tell the same.
//! Two journals that fold to one saga fold to one saga after the same record, so one of them stands
//! for all.
//!
//! A version is written as its age: 0 is the machine's present one. The core asks of two versions only
//! whether they are the same, and one that is past never comes back, so to a saga all of them are one
//! ([`PAST`]); a journal keeps them apart.

use std::collections::HashMap;

use watchdog::core::recovery::journal::{Event, Record, adopt, fold};
use watchdog::core::recovery::legacy::START;
use watchdog::core::recovery::procedure::Procedure;
use watchdog::core::recovery::saga::{End, Saga, Stage};
use watchdog::core::recovery::subject::{Fence, Reply, Seen, State as Life, Verb};
use watchdog::core::time::Wall;

use super::search::Fx;

/// The machine's version as it is.
pub const PRESENT: u8 = 0;

/// Any version before it.
pub const PAST: u8 = 1;

/// A saga by its number; 0 is none.
pub type Id = u16;

/// What can happen to a saga here, with versions and decisions as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Open(&'static Procedure),
    Adopt { verb: Verb, version: u8, decision: u8 },
    Intent { verb: Verb, version: u8, decision: u8 },
    Accepted,
    Unknown,
    Refused,
    Seen(Life),
    Resumed,
    Close(End),
}

#[derive(Default)]
pub struct Core {
    sagas: Vec<Saga>,
    journals: Vec<Vec<Record>>,
    numbers: HashMap<Saga, Id, Fx>,
    known: HashMap<(Id, Step), Option<Id>, Fx>,
    aged: HashMap<Id, Id, Fx>,
}

fn etag(age: u8) -> String {
    format!("v{age}")
}

/// What a request carries: that which takes the machine down is named by its decision.
pub fn fence(verb: Verb, version: u8, decision: u8) -> Fence {
    let token = if takes_down(verb) { format!("d{decision}") } else { "start".to_string() };
    Fence::new(etag(version), token)
}

fn number(etag: &str) -> u8 {
    etag.trim_start_matches('v').parse().unwrap()
}

/// The age of the version that a request is for.
pub fn version(fence: &Fence) -> u8 {
    number(fence.version.as_ref().unwrap())
}

/// All but START.
pub fn takes_down(verb: Verb) -> bool {
    verb != Verb::START
}

fn age(etag: &mut Option<String>) {
    if let Some(etag) = etag {
        *etag = self::etag(number(etag) + 1);
    }
}

/// To a saga, all that is past is one.
fn seen_from_here(mut saga: Saga) -> Saga {
    if saga.fence.version.is_some() {
        saga.fence.version = Some(etag(version(&saga.fence).min(PAST)));
    }
    saga
}

/// The journal, read back, tells what was lived.
fn tells(journal: &[Record], lived: &Saga) {
    let told = fold(journal);
    let told: Vec<Saga> =
        told.iter().filter(|told| !told.damaged).map(|told| seen_from_here(told.saga.clone())).collect();
    assert_eq!(told, if lived.is_open() { vec![lived.clone()] } else { vec![] });
}

impl Core {
    pub fn new() -> Core {
        let mut core = Core::default();
        // Number 0 is not a saga.
        core.sagas.push(Saga::open(START));
        core.journals.push(Vec::new());
        core
    }

    pub fn saga(&self, id: Id) -> &Saga {
        &self.sagas[id as usize]
    }

    pub fn len(&self) -> usize {
        self.sagas.len() - 1
    }

    /// What follows, if it can; a saga that is over keeps its number until its owner lets go of it.
    pub fn step(&mut self, id: Id, step: Step) -> Option<Id> {
        if let Some(known) = self.known.get(&(id, step)) {
            return *known;
        }
        let next = self.make(id, step);
        self.known.insert((id, step), next);
        next
    }

    fn make(&mut self, id: Id, step: Step) -> Option<Id> {
        let saga = self.saga(id).clone();
        let asked = saga.asked().map_or(Verb::STOP, |step| step.verb);
        let replied = |reply| Event::Replied { verb: asked, reply, detail: String::new() };
        let event = match step {
            Step::Open(way) => Event::Opened { procedure: way.clone().into(), simulated: false },
            Step::Adopt { verb, version, decision } => {
                Event::Adopted { procedure: None, verb, fence: fence(verb, version, decision) }
            }
            Step::Intent { verb, version, decision } => Event::Intent { verb, fence: fence(verb, version, decision) },
            Step::Accepted => replied(Reply::Accepted),
            Step::Unknown => replied(Reply::Unknown),
            Step::Refused => replied(Reply::Busy),
            Step::Seen(lifecycle) => Event::Seen { seen: Seen::new(lifecycle, etag(PRESENT)) },
            Step::Resumed => Event::Resumed,
            Step::Close(end) => Event::Closed { end },
        };
        let next = match (&event, id) {
            (Event::Opened { procedure, .. }, 0) => Saga::open(procedure.clone()),
            (Event::Adopted { verb, fence, .. }, 0) => adopt(None, *verb, fence.clone()),
            _ => saga.apply(&event).ok()?,
        };
        if step == Step::Refused {
            // All that is refused for certain leads to the same place: one of them is searched.
            let sure = [Reply::NotSent, Reply::Conflict, Reply::Changed, Reply::Refused, Reply::NoCapacity];
            assert!(sure.into_iter().all(|reply| saga.apply(&replied(reply)).as_ref() == Ok(&next)));
        }
        // What follows on a forced step has no journal: the core would not have written it.
        let forced = id != 0 && self.journals[id as usize].is_empty();
        let mut journal = self.journals[id as usize].clone();
        if !forced {
            journal.push(Record {
                saga: "s".into(),
                target: "n1".into(),
                number: journal.len() as u32,
                at: Wall(0),
                event,
            });
            tells(&journal, &next);
        }
        Some(self.number(next, journal))
    }

    /// The same saga once the machine is in another version.
    pub fn aged(&mut self, id: Id) -> Id {
        if id == 0 || self.saga(id).fence.version.is_none() || version(&self.saga(id).fence) == PAST {
            return id;
        }
        if let Some(known) = self.aged.get(&id) {
            return *known;
        }
        let mut saga = self.saga(id).clone();
        age(&mut saga.fence.version);
        let mut journal = self.journals[id as usize].clone();
        for record in &mut journal {
            match &mut record.event {
                Event::Intent { fence, .. } | Event::Adopted { fence, .. } => age(&mut fence.version),
                Event::Seen { seen } => age(&mut seen.version),
                _ => {}
            }
        }
        if !journal.is_empty() {
            tells(&journal, &saga);
        }
        let next = self.number(saga, journal);
        self.aged.insert(id, next);
        next
    }

    /// A step that the core forbids, for the search without that safeguard.
    pub fn force(&mut self, id: Id, verb: Verb, version: u8, decision: u8) -> Id {
        let mut fence = fence(verb, version, decision);
        fence.token.push_str("-forced");
        let next = Saga { stage: Stage::Asking(0), fence, seen: None, sends: 1, ..self.saga(id).clone() };
        self.number(next, Vec::new())
    }

    fn number(&mut self, saga: Saga, journal: Vec<Record>) -> Id {
        if let Some(id) = self.numbers.get(&saga) {
            return *id;
        }
        let id = Id::try_from(self.sagas.len()).unwrap();
        self.numbers.insert(saga.clone(), id);
        self.sagas.push(saga);
        self.journals.push(journal);
        id
    }
}
