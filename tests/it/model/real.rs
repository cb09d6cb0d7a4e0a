//! The real core as the search sees it: sagas by number, their next ones remembered.
//!
//! Nothing of the saga is modelled here: every step is made by `Saga::apply`, and each time a step is
//! made for the first time, a journal that holds it is read back by `fold` and has to tell the same.
//! Two journals that fold to one saga fold to one saga after the same record, so one of them stands
//! for all.

use std::collections::HashMap;

use watchdog::core::recovery::journal::{Event, Record, fold};
use watchdog::core::recovery::power::{Fence, Lifecycle, Reply, Seen, Verb};
use watchdog::core::recovery::saga::{End, Saga, Stage};
use watchdog::core::time::Wall;

/// A saga by its number; 0 is none.
pub type Id = u16;

/// What can happen to a saga here, with versions and decisions as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Open,
    Adopt { version: u8, decision: u8 },
    Intent { verb: Verb, version: u8, decision: u8 },
    Accepted,
    Unknown,
    Refused,
    Seen { life: Lifecycle, version: u8 },
    Resumed,
    Close(End),
}

#[derive(Default)]
pub struct Core {
    sagas: Vec<Saga>,
    journals: Vec<Vec<Record>>,
    numbers: HashMap<Saga, Id>,
    known: HashMap<(Id, Step), Option<Id>>,
}

fn etag(version: u8) -> String {
    format!("v{version}")
}

/// What a request carries: that of a STOP is named by its decision, that of a START by its version.
pub fn fence(verb: Verb, version: u8, decision: u8) -> Fence {
    let token = if verb.takes_down() { format!("d{decision}") } else { format!("start-{version}") };
    Fence { etag: etag(version), token }
}

pub fn version(etag: &str) -> u8 {
    etag.trim_start_matches('v').parse().unwrap()
}

impl Core {
    pub fn new() -> Core {
        let mut core = Core::default();
        // Number 0 is no saga.
        core.sagas.push(Saga::open(watchdog::core::recovery::power::Rung::Start));
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
        let asked = saga.asked().unwrap_or(Verb::Stop);
        let replied = |reply| Event::Replied { verb: asked, reply, detail: String::new() };
        let event = match step {
            Step::Open => Event::Opened { rung: watchdog::core::recovery::power::Rung::StopStart, simulated: false },
            Step::Adopt { version, decision } => {
                Event::Adopted { verb: Verb::Stop, fence: fence(Verb::Stop, version, decision) }
            }
            Step::Intent { verb, version, decision } => Event::Intent { verb, fence: fence(verb, version, decision) },
            Step::Accepted => replied(Reply::Accepted),
            Step::Unknown => replied(Reply::Unknown),
            Step::Refused => replied(Reply::Busy),
            Step::Seen { life, version } => Event::Seen { seen: Seen { lifecycle: life, etag: etag(version) } },
            Step::Resumed => Event::Resumed,
            Step::Close(end) => Event::Closed { end },
        };
        let next = match (&event, id) {
            (Event::Opened { rung, .. }, 0) => Saga::open(*rung),
            (Event::Adopted { verb, fence }, 0) => Saga::adopt(*verb, fence.clone()),
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
            let number = u32::try_from(journal.len()).unwrap();
            journal.push(Record { saga: "s".into(), target: "n1".into(), number, at: Wall(0), event });
            let told = fold(&journal);
            let told: Vec<&Saga> = told.iter().filter(|told| !told.damaged).map(|told| &told.saga).collect();
            assert_eq!(told, if next.is_open() { vec![&next] } else { vec![] }, "the journal tells what was lived");
        }
        Some(self.number(next, journal))
    }

    /// A step that the core forbids, for the search without that safeguard.
    pub fn force(&mut self, id: Id, verb: Verb, version: u8, decision: u8) -> Id {
        let mut fence = fence(verb, version, decision);
        fence.token.push_str("-forced");
        let next = Saga { stage: Stage::Asking(verb), fence, seen: None, sends: 1, ..self.saga(id).clone() };
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
