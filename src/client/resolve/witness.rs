//! Whether it is one name that does not resolve, or the resolver that does not answer.
//!
//! A name server that fails on one name and answers for others says something about the name; one that
//! fails on all says nothing (F39). So a name that failed is held against another that was found
//! before: found at the same time, or looked up again now. Names in the hosts file and those of the
//! local network need no name server and prove nothing. In a network of containers where only one name
//! is watched, the witness is our own name, which Docker's name server knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lanes::{Lane, zone};
use super::system::{Conf, is_listed, is_local};
use crate::client::dns;

/// Names that hang, remembered at most; further ones count as names that answer.
const HUNG: usize = 16_384;
/// Names found last that are remembered, of each kind: more witnesses are not needed.
const FOUND: usize = 32;
/// A witness that does not answer within this is none.
const CONTROL: Duration = Duration::from_millis(500);
/// The time that all witnesses have together.
const ROUND: Duration = Duration::from_secs(1);

/// What is known of the names that were looked up.
pub struct Witnesses {
    names: Mutex<Names>,
    /// When each witness was asked last, and whether it was found. Held while one is asked, so that many
    /// names that fail at once ask it once.
    asked: Mutex<BTreeMap<String, (Instant, bool)>>,
}

struct Names {
    /// Those whose last lookup did not end in time.
    hung: BTreeSet<String>,
    /// Those found last, without dots.
    plain: BTreeMap<String, Instant>,
    /// Those found last, with dots.
    dotted: BTreeMap<String, Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Witnesses {
    /// That knows nothing.
    pub const fn new() -> Witnesses {
        let names = Names { hung: BTreeSet::new(), plain: BTreeMap::new(), dotted: BTreeMap::new() };
        Witnesses { names: Mutex::new(names), asked: Mutex::new(BTreeMap::new()) }
    }

    /// Whether the last lookup of `name` did not end in time.
    pub fn hangs(&self, name: &str) -> bool {
        lock(&self.names).hung.contains(name)
    }

    /// Remembers how a lookup ended: with an address, and in time.
    pub fn keep(&self, name: &str, is_found: bool, hangs: bool) {
        let mut names = lock(&self.names);
        let Names { hung, plain, dotted } = &mut *names;
        if !hangs {
            hung.remove(name);
        } else if hung.len() < HUNG {
            hung.insert(name.to_string());
        }
        if !is_found {
            return;
        }
        let found = if name.contains('.') { dotted } else { plain };
        found.insert(name.to_string(), Instant::now());
        if found.len() > FOUND {
            let oldest = found.iter().min_by_key(|(_, found_at)| **found_at).map(|(name, _)| name.clone());
            oldest.and_then(|name| found.remove(&name));
        }
    }

    /// Another name that resolves now, although `name`, whose lookup began at `begun`, does not.
    /// `is_found` looks a name up within a limit.
    pub fn other(&self, name: &str, begun: Instant, is_found: impl Fn(&str, Duration, Lane) -> bool) -> Option<String> {
        let mut others = self.candidates(name);
        if let Some((other, _)) = others.iter().find(|(_, found_at)| *found_at >= begun) {
            return Some(other.clone());
        }
        // The latest of all, and the latest of another zone.
        let first = others.first().cloned();
        let elsewhere = others.iter().find(|(other, _)| first.as_ref().is_some_and(|(n, _)| zone(n) != zone(other)));
        others = first.iter().chain(elsewhere).cloned().collect();
        let deadline = Instant::now() + ROUND;
        for (other, _) in others {
            let left = deadline.saturating_duration_since(Instant::now()).min(CONTROL);
            if self.asked_since(&other, begun, || !left.is_zero() && is_found(&other, left, Lane::Control)) {
                return Some(other);
            }
        }
        let own = if name.contains('.') { None } else { own_name() }?;
        let server = Conf::read().server()?;
        let left = deadline.saturating_duration_since(Instant::now()).min(CONTROL);
        let answers = || dns::ask(server, &own, Instant::now() + left).is_ok();
        (own != name && self.asked_since(&own, begun, answers)).then_some(own)
    }

    /// Names that a name server found, the latest first. A name with dots is not judged by one without:
    /// the server of a container network knows the latter by itself.
    fn candidates(&self, name: &str) -> Vec<(String, Instant)> {
        let names = lock(&self.names);
        let plain = names.plain.iter().filter(|_| !name.contains('.'));
        let others = plain.chain(&names.dotted).filter(|(other, _)| *other != name);
        let mut found: Vec<(String, Instant)> = others.map(|(other, at)| (other.clone(), *at)).collect();
        drop(names);
        found.sort_by_key(|(_, found_at)| std::cmp::Reverse(*found_at));
        found
    }

    /// What `ask` says of `name`, or what it said last, when it was asked since `begun`.
    fn asked_since(&self, name: &str, begun: Instant, ask: impl Fn() -> bool) -> bool {
        let mut asked = lock(&self.asked);
        if let Some((_, is_found)) = asked.get(name).filter(|(asked_at, _)| *asked_at >= begun) {
            return *is_found;
        }
        if asked.len() >= 64 {
            asked.clear();
        }
        let asked_at = Instant::now();
        let is_found = ask();
        asked.insert(name.to_string(), (asked_at, is_found));
        is_found
    }
}

/// Whether a name server was needed to find `name`.
pub fn proves(name: &str) -> bool {
    !is_local(name) && !is_listed(name) && own_name().is_none_or(|own| own != name)
}

fn own_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    (!name.is_empty() && name != "localhost").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_witness_is_another_name_of_the_same_kind_that_resolves_now() {
        let all = Witnesses::new();
        all.keep("db", true, false);
        all.keep("www.example.org", true, false);
        let begun = Instant::now();
        let asked = Cell::new(0);
        let found = |is_found: bool| {
            let asked = &asked;
            move |_: &str, _: Duration, _: Lane| {
                asked.set(asked.get() + 1);
                is_found
            }
        };
        assert_eq!(all.other("api.example.net", begun, found(true)).as_deref(), Some("www.example.org"));
        assert_eq!(all.other("api.example.net", begun, found(true)).as_deref(), Some("www.example.org"));
        assert_eq!(asked.get(), 1, "what was asked since then is not asked again");
        assert_eq!(all.other("www.example.org", begun, found(true)), None, "a plain name is not a witness for it");
        std::thread::sleep(Duration::from_millis(2));
        let begun = Instant::now();
        assert_eq!(all.other("api.example.net", begun, found(false)), None);
        all.keep("cache.example.net", true, false);
        let other = all.other("api.example.net", begun, found(false));
        assert_eq!(other.as_deref(), Some("cache.example.net"), "found at the same time");
    }

    #[test]
    fn no_more_names_are_remembered_than_there_is_room_for() {
        let all = Witnesses::new();
        for n in 0..HUNG + 3 {
            all.keep(&format!("n{n}"), false, true);
        }
        assert_eq!(lock(&all.names).hung.len(), HUNG);
        assert!(all.hangs("n0") && !all.hangs(&format!("n{HUNG}")));
        all.keep("n0", true, false);
        assert!(!all.hangs("n0"), "a name that answers again");
        for n in 0..FOUND + 3 {
            all.keep(&format!("n{n}.example"), true, false);
        }
        let found = all.candidates("gone.example");
        assert_eq!(found.len(), FOUND);
        assert_eq!(found.first().map(|(name, _)| name.clone()), Some(format!("n{}.example", FOUND + 2)));
    }
}
