//! From a listing of Consul to heartbeats that can be trusted, or the reason why they cannot.
//!
//! Remembers the index, the sentinel and which nodes were there: a listing in which somebody is missing
//! is believed only while the sentinel is there, and one whose index went back is not believed at all
//! until nodes had time to register again. Waits for nothing but its calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::client::consul::{Consul, ConsulError, Entry, How, Listing};
use crate::clock::Clock;
use crate::core::recovery::heartbeat::{Beat, Heartbeats};
use crate::core::time::{Mono, people};

/// A leader that was heard of longer ago than this leads nobody.
const CONTACT: Duration = Duration::from_secs(5);
/// Nodes kept at most; more keys than this are not a fleet.
const NODES: usize = 50_000;

/// Where the heartbeats are, and how we know that they are whole.
#[derive(Debug, Clone)]
pub struct Where {
    /// The nodes' keys are below this.
    pub prefix: String,
    /// Our own key: gone, when Consul's data was replaced.
    pub sentinel: String,
    /// How long nodes have to register again after that.
    pub resettle: Duration,
}

/// Reads the prefix.
pub struct Reader {
    consul: Consul,
    place: Where,
    /// May write the sentinel where there is none.
    keeps: bool,
    index: Option<u64>,
    /// The highest index that was seen: data older than this was put in the place of what we knew.
    newest: u64,
    last: Arc<Heartbeats>,
    /// Names seen in this run, to know when somebody is missing.
    known: BTreeSet<Arc<str>>,
    /// What the sentinel held when it was read last.
    sentinel: Option<Vec<u8>>,
    /// Nothing is believed before this.
    settled_at: Option<Mono>,
    /// Since when nodes say that they stop as planned.
    planned: BTreeMap<Arc<str>, Mono>,
}

/// What the keys of a listing say.
#[derive(Default)]
struct Found {
    nodes: Vec<(Arc<str>, Beat)>,
    /// Keys of nodes beyond [`NODES`].
    left_out: usize,
    planned: BTreeMap<Arc<str>, Mono>,
}

impl Reader {
    /// A reader that has read nothing, and keeps the sentinel.
    pub fn new(consul: Consul, place: Where) -> Reader {
        Reader { keeps: true, ..Reader::for_one_look(consul, place) }
    }

    /// A reader that writes nothing.
    pub fn for_one_look(consul: Consul, place: Where) -> Reader {
        Reader {
            consul,
            place,
            keeps: false,
            index: None,
            newest: 0,
            last: Arc::default(),
            known: BTreeSet::new(),
            sentinel: None,
            settled_at: None,
            planned: BTreeMap::new(),
        }
    }

    /// The same, of nodes that are known to have said since these instants that they stop as planned.
    #[must_use]
    pub fn knowing(self, planned: BTreeMap<Arc<str>, Mono>) -> Reader {
        Reader { planned, ..self }
    }

    /// One read of the prefix; with `wait` it comes back when something changes, or after that long.
    pub fn read(&mut self, wait: Option<Duration>, clock: &Clock) -> Result<Arc<Heartbeats>, String> {
        let index = wait.and(self.index);
        let (listing, found) = self.list(index, wait, false, clock).inspect_err(|_| {
            // What is asked for next is everything: the listing may have been cut.
            self.index = None;
        })?;
        let now = clock.now().mono;
        self.trust(&listing)?;
        if listing.index < std::mem::replace(&mut self.newest, listing.index) {
            self.index = None;
            return Err(self.unsettle(now, "Consul's index went back: its data was replaced"));
        }
        let beats = self.beats(&listing, found, now, clock)?;
        // What did not change since it was found to be whole is whole: a node that stays away costs nothing.
        let is_checked = listing.is_unchanged() && self.sentinel.is_some() && self.settled_at.is_none();
        self.index = None;
        if !is_checked {
            self.check_sentinel(&beats, now)?;
        }
        self.index = Some(listing.index);
        if !Arc::ptr_eq(&beats.nodes, &self.last.nodes) {
            let mut names = beats.nodes.keys().cloned().collect();
            self.known.append(&mut names);
        }
        self.last = Arc::clone(&beats);
        Ok(beats)
    }

    /// One consistent read for a decision about `node`: nothing is remembered of it, and nothing changed.
    pub fn confirm(consul: &Consul, place: &Where, clock: &Clock, node: &str) -> Result<Heartbeats, String> {
        let mut reader = Reader::for_one_look(consul.clone(), place.clone());
        let (listing, found) = reader.list(None, None, true, clock)?;
        reader.trust(&listing)?;
        if consul.get(&place.sentinel).map_err(|error| error.to_string())?.is_none() {
            return Err(format!("our own key {} is gone", place.sentinel));
        }
        let beats = reader.take(found, clock.now().mono);
        if !beats.nodes.contains_key(node) {
            reader.check_sight(node)?;
        }
        Ok(Heartbeats::clone(&beats))
    }

    /// One listing, and what its keys say.
    fn list(
        &self,
        index: Option<u64>,
        wait: Option<Duration>,
        consistent: bool,
        clock: &Clock,
    ) -> Result<(Listing, Found), String> {
        let mut found = Found::default();
        let mut note = |entry: &Entry<'_>| self.note(entry, clock, &mut found);
        let listing = self.consul.prefix_each(&self.place.prefix, index, wait, consistent, &mut note);
        let listing = listing.map_err(|error| error.to_string())?;
        // Whoever was left out would pass for gone.
        if found.left_out > 0 {
            let (prefix, more) = (&self.place.prefix, found.left_out);
            return Err(format!("at most {NODES} nodes are read under {prefix}, and {more} more are there"));
        }
        Ok((listing, found))
    }

    fn note(&self, entry: &Entry<'_>, clock: &Clock, found: &mut Found) -> Result<(), ConsulError> {
        let name = entry.key().strip_prefix(&self.place.prefix).and_then(|rest| rest.strip_prefix('/'));
        let Some(name) = name.filter(|name| !name.is_empty() && !name.contains('/')) else { return Ok(()) };
        if found.nodes.len() >= NODES {
            found.left_out += 1;
            return Ok(());
        }
        let value = entry.value()?;
        let since = self.planned.get(name).copied();
        let planned_for = since.map_or(Duration::ZERO, |since| clock.now().mono.since(since));
        let beat = Beat::read(entry.session(), &value, planned_for);
        let (name, beat) = match self.last.nodes.get_key_value(name) {
            Some((name, before)) => (Arc::clone(name), beat.sharing(before)),
            None => (self.known.get(name).cloned().unwrap_or_else(|| Arc::from(name)), beat),
        };
        if beat.planned.is_some() {
            found.planned.insert(Arc::clone(&name), since.unwrap_or_else(|| clock.now().mono));
        }
        found.nodes.push((name, beat));
        Ok(())
    }

    /// Is this key really not there? A list leaves out what we may not read and, before Consul 1.11, says
    /// nothing about it; the key itself is then denied (F13).
    fn check_sight(&self, node: &str) -> Result<(), String> {
        let key = format!("{}/{node}", self.place.prefix);
        self.consul.get(&key).map(drop).map_err(|error| error.to_string())
    }

    fn trust(&self, listing: &Listing) -> Result<(), String> {
        if !listing.known_leader {
            return Err("Consul has no leader".to_string());
        }
        if listing.last_contact > CONTACT {
            return Err(format!("Consul's leader was heard of {} ago", people(listing.last_contact)));
        }
        if listing.filtered {
            let prefix = &self.place.prefix;
            return Err(format!("keys are hidden from us; give the token key_prefix \"{prefix}\" read"));
        }
        Ok(())
    }

    fn beats(&mut self, listing: &Listing, found: Found, now: Mono, clock: &Clock) -> Result<Arc<Heartbeats>, String> {
        // A planned stop that has lasted for long enough turns into a loss without any news from Consul.
        if listing.is_unchanged() && self.planned.is_empty() {
            return Ok(Arc::new(Heartbeats { at: now, nodes: Arc::clone(&self.last.nodes) }));
        }
        if listing.is_unchanged() {
            self.index = None;
            let (whole, found) = self.list(None, None, false, clock)?;
            self.trust(&whole)?;
            return Ok(self.take(found, now));
        }
        Ok(self.take(found, now))
    }

    fn take(&mut self, found: Found, now: Mono) -> Arc<Heartbeats> {
        self.planned = found.planned;
        Arc::new(Heartbeats { at: now, nodes: Arc::new(found.nodes.into_iter().collect()) })
    }

    /// Somebody is missing, or nothing was read before: is this still the Consul that we know?
    fn check_sentinel(&mut self, beats: &Heartbeats, now: Mono) -> Result<(), String> {
        if let Some(settled_at) = self.settled_at {
            if now < settled_at {
                let left = people(settled_at.since(now));
                return Err(format!("Consul's data was replaced; nodes have {left} more to register again"));
            }
            self.settled_at = None;
            self.sentinel = None;
        }
        let missing = self.known.iter().find(|name| !beats.nodes.contains_key(*name));
        if self.sentinel.is_some() && missing.is_none() {
            return Ok(());
        }
        if let Some(name) = missing {
            self.check_sight(name)?;
        }
        let found = self.consul.get(&self.place.sentinel).map_err(|error| error.to_string())?;
        match (found, &self.sentinel) {
            (Some(pair), Some(known)) if pair.value == *known => Ok(()),
            (Some(pair), None) => {
                self.sentinel = Some(pair.value);
                Ok(())
            }
            (None, None) if self.keeps => self.set_sentinel(now),
            (None, None) => Ok(()),
            (_, Some(_)) => {
                Err(self
                    .unsettle(now, &format!("our own key {} is gone: Consul's data was replaced", self.place.sentinel)))
            }
        }
    }

    fn set_sentinel(&mut self, now: Mono) -> Result<(), String> {
        let value = format!("watchdog {} {}", crate::clock::boot_id(), now.0);
        let written = self.consul.put(&self.place.sentinel, value.as_bytes(), How::Cas(0));
        let written = written.map_err(|error: ConsulError| format!("cannot keep our own key: {error}"))?;
        // Another agent was faster: its value is read the next time.
        self.sentinel = written.then(|| value.into_bytes());
        Ok(())
    }

    fn unsettle(&mut self, now: Mono, what: &str) -> String {
        self.settled_at = Some(now.plus(self.place.resettle));
        self.known.clear();
        format!("{what}; nodes have {} to register again", people(self.place.resettle))
    }
}
