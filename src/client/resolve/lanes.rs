//! How many lookups may be under way: one dead zone, or one kind of asker, never takes all the room.
//!
//! `getaddrinfo` cannot be aborted (F38): a lookup whose asker gave up keeps its place until it ends. So
//! places are shared out. What the program itself needs (channels, dead-man's switch, Consul, traces) has
//! places of its own that targets cannot take. Within a lane one zone has a few places, and names whose
//! last lookup did not end in time may hold half of them at most, so that a name that answers always
//! finds one. Who finds none waits while somebody else is likely to be done soon, and is turned away at
//! once when all who stand in the way hang: waiting for them would cost a thread and bring nothing.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A lookup that has been under way for this long hangs.
const HANGS: Duration = Duration::from_secs(1);

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What is watched: the targets of probes, the application.
    Targets,
    /// What the program itself lives by: channels, heartbeat, Consul, clouds, traces.
    Own,
    /// Whether the resolver answers at all.
    Control,
}

impl Lane {
    /// Places in all, and for the names of one zone.
    fn places(self) -> (usize, usize) {
        match self {
            Lane::Targets => (64, 8),
            Lane::Own => (32, 4),
            Lane::Control => (4, 2),
        }
    }
}

/// The places that are taken.
pub struct Lanes {
    taken: Mutex<Taken>,
    freed: Condvar,
}

struct Taken {
    places: Vec<Place>,
    named: u64,
}

struct Place {
    name: u64,
    lane: Lane,
    zone: String,
    is_suspect: bool,
    since: Instant,
}

/// There is no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Lookups that stand in the way.
    pub count: usize,
    /// The zone whose places are taken; `None` when it is the lane's.
    pub zone: Option<String>,
}

impl Lanes {
    /// With all places free.
    pub const fn new() -> Lanes {
        Lanes { taken: Mutex::new(Taken { places: Vec::new(), named: 0 }), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a lookup in `zone`, held until the permit is dropped. A suspect is a name whose
    /// last lookup did not end in time.
    pub fn enter(&'static self, lane: Lane, zone: &str, is_suspect: bool, deadline: Instant) -> Result<Permit, Full> {
        let mut taken = self.lock();
        loop {
            let now = Instant::now();
            let Some((full, until)) = taken.in_the_way(lane, zone, is_suspect) else { break };
            let until = until.min(deadline);
            if until <= now {
                return Err(full);
            }
            taken = self.freed.wait_timeout(taken, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
        taken.named += 1;
        let name = taken.named;
        taken.places.push(Place { name, lane, zone: zone.to_string(), is_suspect, since: Instant::now() });
        Ok(Permit { lanes: self, name })
    }
}

impl Taken {
    /// Who keeps a lookup from beginning, and when the last of them will count as hung; `None`: nobody.
    fn in_the_way(&self, lane: Lane, zone: &str, is_suspect: bool) -> Option<(Full, Instant)> {
        let (places, each) = lane.places();
        let counted = |most: usize, zone: Option<&str>, suspects: bool| {
            let those = |place: &&Place| {
                place.lane == lane && zone.is_none_or(|zone| place.zone == zone) && (place.is_suspect || !suspects)
            };
            let count = self.places.iter().filter(those).count();
            let youngest = self.places.iter().filter(those).map(|place| place.since).max()?;
            (count >= most).then(|| (Full { count, zone: zone.map(str::to_string) }, youngest + HANGS))
        };
        counted(each, Some(zone), false)
            .or_else(|| counted(places, None, false))
            .or_else(|| is_suspect.then(|| counted(each / 2, Some(zone), true)).flatten())
            .or_else(|| is_suspect.then(|| counted(places / 2, None, true)).flatten())
    }
}

/// A place that is taken. Dropping it frees the place.
pub struct Permit {
    lanes: &'static Lanes,
    name: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lanes.lock().places.retain(|place| place.name != self.name);
        self.lanes.freed.notify_all();
    }
}

/// What `name` shares its fate with: the domain that somebody registered, as far as the name shows it,
/// and for a name without dots itself.
pub fn zone(name: &str) -> String {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let mut labels = name.rsplit('.');
    let (top, second) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    // co.uk and the like are nobody's.
    let is_shared = top.len() == 2 && second.len() <= 3;
    let keep = if is_shared { 3 } else { 2 };
    let begin = name.rmatch_indices('.').nth(keep - 1).map_or(0, |(at, _)| at + 1);
    name.get(begin..).unwrap_or(&name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> &'static Lanes {
        Box::leak(Box::new(Lanes::new()))
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn soon() -> Instant {
        now() + Duration::from_secs(20)
    }

    #[test]
    fn one_zone_never_takes_the_places_of_another_nor_targets_those_of_the_program() {
        let lanes = lanes();
        let held: Vec<_> = (0..8).map(|_| lanes.enter(Lane::Targets, "dead.test", false, now()).unwrap()).collect();
        let full = lanes.enter(Lane::Targets, "dead.test", false, now()).err().unwrap();
        assert_eq!(full, Full { count: 8, zone: Some("dead.test".to_string()) });
        assert!(lanes.enter(Lane::Targets, "other.test", false, now()).is_ok());
        assert!(lanes.enter(Lane::Own, "dead.test", false, now()).is_ok());
        let more: Vec<_> =
            (0..56).map(|n| lanes.enter(Lane::Targets, &format!("z{n}"), false, now()).unwrap()).collect();
        let full = lanes.enter(Lane::Targets, "other.test", false, now()).err().unwrap();
        assert_eq!(full, Full { count: 64, zone: None });
        assert!(lanes.enter(Lane::Own, "telegram.org", false, now()).is_ok());
        drop((held, more));
        assert!(lanes.enter(Lane::Targets, "dead.test", false, now()).is_ok());
    }

    #[test]
    fn names_that_hung_leave_half_of_the_places_to_those_that_answer() {
        let lanes = lanes();
        let held: Vec<_> = (0..4).map(|_| lanes.enter(Lane::Targets, "home.arpa", true, now()).unwrap()).collect();
        assert_eq!(lanes.enter(Lane::Targets, "home.arpa", true, now()).err().unwrap().count, 4);
        assert!(lanes.enter(Lane::Targets, "home.arpa", false, now()).is_ok());
        let more: Vec<_> =
            (0..28).map(|n| lanes.enter(Lane::Targets, &format!("s{n}"), true, now()).unwrap()).collect();
        assert!(lanes.enter(Lane::Targets, "another", true, now()).is_err());
        assert!(lanes.enter(Lane::Targets, "another", false, now()).is_ok());
        drop((held, more));
    }

    #[test]
    fn one_waits_for_a_place_that_will_be_free_and_not_for_one_that_hangs() {
        let lanes = lanes();
        let held: Vec<_> = (0..8).map(|_| lanes.enter(Lane::Targets, "busy.test", false, now()).unwrap()).collect();
        let waiting = std::thread::spawn(move || lanes.enter(Lane::Targets, "busy.test", false, soon()).is_ok());
        drop(held);
        assert!(waiting.join().unwrap());
        let _held: Vec<_> = (0..8).map(|_| lanes.enter(Lane::Targets, "hung.test", false, now()).unwrap()).collect();
        let begun = now();
        assert!(lanes.enter(Lane::Targets, "hung.test", false, soon()).is_err());
        assert!(begun.elapsed() < Duration::from_secs(10), "turned away once they hang, not at the deadline");
        let begun = now();
        assert!(lanes.enter(Lane::Targets, "hung.test", false, soon()).is_err());
        assert!(begun.elapsed() < Duration::from_millis(900), "turned away at once: {:?}", begun.elapsed());
    }

    #[test]
    fn a_zone_is_what_somebody_registered() {
        for (name, right) in [
            ("h1.dead.test", "dead.test"),
            ("a.b.Example.ORG.", "example.org"),
            ("www.shop.co.uk", "shop.co.uk"),
            ("example.org", "example.org"),
            ("db", "db"),
            ("", ""),
        ] {
            assert_eq!(zone(name), right, "{name}");
        }
    }
}
