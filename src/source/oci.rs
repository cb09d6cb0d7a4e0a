//! The instances of configured nodes, asked for at Oracle's API now and then: whether a repair would find them.
//!
//! A thread of its own asks for one instance after another, so that no pass waits for a cloud and no repair's look is
//! counted: the first round at [`FASTEST`], later ones spread over `oci.ask_every`. What keeps every instance from
//! being read (a revoked key, no way there) makes the source blind and the round begin again later; what is wrong
//! with single ones (an unknown id, another region, destroyed) fires `oci/instances`, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::{Ask, Entry, Outfit, Source};
use crate::client::oci::settings::{self, Settings};
use crate::client::oci::{Class, Oci, OciError};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::core::about::{About, Details};
use crate::core::rule::{Rule, Test};
use crate::core::signal::{Observation, Reading, Report, Severity, SignalKey, Spec};
use crate::core::time::{Mono, people};
use crate::nodes::Nodes;
use crate::wake::{Wake, Waker};

/// The source's name, and the word in `[[node]] executor`.
const NAME: &str = "oci";
/// Least time between two requests: ten a second, also in the first round.
const FASTEST: Duration = Duration::from_millis(100);
/// Waits after a round that failed as a whole, or was told to slow down.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(10));
/// The longest that a single pass spends on asking.
const ONCE: Duration = Duration::from_secs(30);
/// Instances in trouble are told by name up to this many.
const NAMED: usize = 5;
/// No request before this, because a 429 said so: it holds for the whole process, also after a reload.
static NOT_BEFORE: Mutex<Option<Instant>> = Mutex::new(None);
/// How often the thread looks whether it is still wanted.
const NAP: Duration = Duration::from_millis(250);

/// How the program knows this source. Its section belongs to the executor.
pub const ENTRY: Entry = Entry { name: NAME, advice: "", sections: &[], build };

fn build(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let nodes = Nodes::read(config)?;
    let own = nodes.switches.into_iter().filter(|switch| switch.executor == NAME);
    let asked: Vec<Asked> = own.map(|switch| Asked { node: switch.node, id: switch.instance_id }).collect();
    let every = config.section::<Settings>("oci")?.ask_every.0;
    if asked.is_empty() || every.is_zero() {
        return Ok(None);
    }
    let access = settings::access(config, outfit.clock.clone(), outfit.timeout)?;
    let oci = Oci::new(access).map_err(|error| config.error("oci", error.to_string()))?;
    let spec = Spec::new(
        SignalKey::new("oci/instances"),
        "instances in Oracle Cloud",
        Severity::Warning,
        Rule::at_once(Test::Verdict),
    );
    let usual = Details::new(
        "cannot all be found",
        "correct instance_id of these nodes, or the policy of their compartment: oci compute instance get --instance-id ID",
    );
    let spec = Arc::new(spec.about(About { usual: Some(Arc::new(usual)), ..About::default() }));
    let round = Round { oci, asked: asked.into(), clock: outfit.clock.clone() };
    Ok(Some(Box::new(Cloud { round, every, outfit: outfit.clone(), spec, follower: None })))
}

/// One instance and whose it is.
struct Asked {
    node: Arc<str>,
    id: Arc<str>,
}

/// What is known of all instances.
#[derive(Debug, Clone, Default)]
struct Known {
    /// What is wrong with single instances, by node.
    troubles: BTreeMap<Arc<str>, String>,
    /// Instances asked for in the round under way, or in the last one.
    asked: usize,
    /// Why none can be read.
    blind: Option<String>,
    /// When the last answer came, or failed to; `None` before the first.
    at: Option<Mono>,
}

/// What one request came to.
enum Found {
    /// The instance is there.
    Well,
    /// Something is wrong with this one.
    Trouble(String),
    /// Nothing can be read now, and why; how long to wait at least, where that was said.
    Blind(String, Option<Duration>),
}

#[derive(Clone)]
struct Round {
    oci: Oci,
    asked: Arc<[Asked]>,
    clock: Clock,
}

impl Round {
    fn ask(&self, asked: &Asked) -> Found {
        match self.oci.instance(&asked.id) {
            Ok(instance) => match instance.lifecycle.to_ascii_uppercase().as_str() {
                gone @ ("TERMINATING" | "TERMINATED") => Found::Trouble(format!(
                    "the instance is {gone}; set the node's new instance_id, or remove the node"
                )),
                _ => Found::Well,
            },
            Err(error) => judge(&error),
        }
    }
}

/// Is it this instance, or all of them?
fn judge(error: &OciError) -> Found {
    let said = error.to_string();
    match error.class() {
        Class::NotFound => {
            Found::Trouble(format!("{said}; check instance_id, its region, and the policy of its compartment"))
        }
        Class::Permanent => Found::Trouble(format!("{said}; check instance_id and [oci]")),
        Class::RateLimited(wait) => {
            let again = wait.map(|wait| format!(", and is asked again in {}", people(wait))).unwrap_or_default();
            let what = format!(
                "{said}; Oracle had too many requests of this tenancy{again}: if that lasts, raise oci.ask_every, or \
                 look for what else uses its API"
            );
            Found::Blind(what, Some(wait.unwrap_or_default()))
        }
        Class::Auth => {
            Found::Blind(format!("{said}; no node can be repaired until [oci] has a key that is let in"), None)
        }
        _ => Found::Blind(said, None),
    }
}

impl Known {
    fn take(&mut self, node: &Arc<str>, found: &Found, at: Mono) {
        self.at = Some(at);
        match found {
            Found::Blind(why, _) => self.blind = Some(why.clone()),
            Found::Well => {
                self.blind = None;
                self.troubles.remove(node);
            }
            Found::Trouble(what) => {
                self.blind = None;
                self.troubles.insert(Arc::clone(node), what.clone());
            }
        }
    }

    /// In words, and whether anything is wrong.
    fn fact(&self, nodes: usize) -> (Reading, String) {
        if self.troubles.is_empty() && self.asked < nodes {
            // Those that nobody has looked at yet are not found.
            return (Reading::Unknown, format!("{} of {nodes} instances checked so far, and found", self.asked));
        }
        if self.troubles.is_empty() {
            let all = if nodes == 1 { "1 instance".to_string() } else { format!("all {nodes} instances") };
            return (Reading::Up, format!("{all} found"));
        }
        let named = self.troubles.iter().take(NAMED).map(|(node, what)| format!("node {node}: {what}"));
        let named = named.collect::<Vec<_>>().join("; ");
        let more = self.troubles.len().saturating_sub(NAMED);
        (Reading::Down, if more > 0 { format!("{named}; and {more} more") } else { named })
    }
}

/// Asks for instances.
struct Cloud {
    round: Round,
    every: Duration,
    outfit: Outfit,
    spec: Arc<Spec>,
    follower: Option<Arc<Shared>>,
}

/// What the thread and the source share; the thread ends when the source is gone.
#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    changed: Condvar,
}

impl Cloud {
    /// Everything at once, within [`ONCE`].
    fn look_once(&self) -> Known {
        let (mut known, until) = (Known::default(), Instant::now() + ONCE);
        for asked in self.round.asked.iter() {
            let found = self.round.ask(asked);
            known.take(&asked.node, &found, self.round.clock.now().mono);
            if matches!(found, Found::Blind(..)) {
                break;
            }
            known.asked += 1;
            if Instant::now() >= until {
                break;
            }
        }
        known
    }

    /// What the thread knows; the first answer is waited for, within the source's patience.
    fn latest(&mut self) -> Known {
        let patience = self.outfit.timeout;
        let shared = self.follower.get_or_insert_with(|| {
            let shared = Arc::new(Shared::default());
            follow(&shared, self.round.clone(), self.every, self.outfit.waker.clone());
            shared
        });
        let known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = shared.changed.wait_timeout_while(known, patience, |known| known.at.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Source for Cloud {
    fn name(&self) -> &str {
        NAME
    }

    fn describe(&self) -> String {
        match self.round.asked.len() {
            1 => "1 instance in Oracle Cloud".to_string(),
            n => format!("{n} instances in Oracle Cloud"),
        }
    }

    fn observe(&mut self, ask: &Ask) -> Result<Report, String> {
        let known = if ask.once { self.look_once() } else { self.latest() };
        if known.at.is_none() {
            return Err("Oracle's API has not answered yet".to_string());
        }
        // What was found holds until the next round finds otherwise: every pass may count on it.
        let at = self.round.clock.now().mono;
        let (reading, fact) = known.fact(self.round.asked.len());
        // While nothing can be read, what was found before stands.
        let observations =
            if known.blind.is_some() { Vec::new() } else { vec![Observation::new(&self.spec, at, reading, fact)] };
        Ok(Report { observations, complete: false, blind: known.blind, ..Report::default() })
    }

    fn advice(&self, why: &str) -> Details {
        let advice = if why.contains("[oci]") || why.contains("401") || why.contains("key") {
            "check the key, its fingerprint, the user and the tenancy in [oci]: oci iam region list"
        } else {
            "is there a way to Oracle's API, and is this machine's clock right? timedatectl; oci iam region list"
        };
        Details::new("cannot be read", advice)
    }

    fn patience(&self) -> Duration {
        ONCE + self.outfit.timeout * 2
    }
}

/// Starts the thread. Where none can be had, nothing is ever read, and the source says so.
fn follow(shared: &Arc<Shared>, round: Round, every: Duration, waker: Waker) {
    let weak = Arc::downgrade(shared);
    let work = move || {
        let (mut next, mut rounds, mut failures) = (0_usize, 0_u32, 0_u32);
        let count = round.asked.len();
        let not_before = *NOT_BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        rest(&weak, not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())));
        while weak.strong_count() > 0 {
            let Some(asked) = round.asked.get(next) else { return };
            let found = round.ask(asked);
            let is_blind = matches!(found, Found::Blind(..));
            next = if is_blind { next } else { (next + 1) % count };
            failures = if is_blind { failures.saturating_add(1) } else { 0 };
            rounds += u32::from(next == 0 && !is_blind && rounds == 0);
            if publish(&weak, asked, &found, next, round.clock.now().mono) {
                waker.wake(Wake::Look(Arc::from(NAME)));
            }
            let span = pause(&found, failures, rounds > 0, every, count);
            if matches!(found, Found::Blind(_, Some(_))) {
                *NOT_BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now().checked_add(span);
            }
            rest(&weak, span);
        }
    };
    let _ = thread::Builder::new().name("oci-instances".to_string()).stack_size(512 * 1024).spawn(work);
}

/// The time until the next request.
fn pause(found: &Found, failures: u32, knows_all: bool, every: Duration, count: usize) -> Duration {
    match found {
        Found::Blind(_, wait) => {
            let doubled = BACKOFF.0.saturating_mul(1_u32 << failures.saturating_sub(1).min(8)).min(BACKOFF.1);
            doubled.max(wait.unwrap_or_default())
        }
        _ if knows_all => (every / u32::try_from(count).unwrap_or(u32::MAX).max(1)).max(FASTEST),
        _ => FASTEST,
    }
}

/// Takes an answer over; true when it is news.
fn publish(weak: &Weak<Shared>, asked: &Asked, found: &Found, next: usize, at: Mono) -> bool {
    let Some(shared) = weak.upgrade() else { return false };
    let mut known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
    let before = (known.blind.is_some(), known.troubles.len(), known.at.is_some());
    known.take(&asked.node, found, at);
    if !matches!(found, Found::Blind(..)) {
        known.asked = known.asked.max(if next == 0 { usize::MAX } else { next });
    }
    let after = (known.blind.is_some(), known.troubles.len(), true);
    shared.changed.notify_all();
    before != after
}

/// Sleeps in naps, so that the thread ends soon after its source.
fn rest(weak: &Weak<Shared>, span: Duration) {
    let until = Instant::now() + span;
    while weak.strong_count() > 0 {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spread_over_the_round_and_fewer_than_two_a_second_for_a_thousand_nodes() {
        let every = Duration::from_mins(10);
        let ms = Duration::from_millis;
        for (count, knows_all, waited) in [
            (1, false, ms(100)),
            (1, true, every),
            (1_000, false, ms(100)),
            (1_000, true, ms(600)),
            (10_000, true, ms(100)),
        ] {
            assert_eq!(pause(&Found::Well, 0, knows_all, every, count), waited, "{count} {knows_all}");
        }
        let blind = |wait| Found::Blind(String::new(), wait);
        for (failures, waited) in [(1, 5), (2, 10), (5, 80), (99, 600)] {
            assert_eq!(pause(&blind(None), failures, true, every, 1), Duration::from_secs(waited), "{failures}");
        }
        assert_eq!(pause(&blind(Some(Duration::from_mins(20))), 1, true, every, 1), Duration::from_mins(20));
    }

    #[test]
    fn instances_that_nobody_has_looked_at_yet_are_not_found() {
        let shared = Arc::<Shared>::default();
        let weak = Arc::downgrade(&shared);
        let asked = |n: u32| Asked { node: Arc::from(format!("n{n}")), id: Arc::from("id") };
        let fact = || shared.known.lock().unwrap().fact(3);
        // A provider that refused first has shown nothing.
        publish(&weak, &asked(0), &Found::Blind("429".to_string(), None), 0, Mono(1));
        publish(&weak, &asked(0), &Found::Well, 1, Mono(2));
        assert_eq!(fact(), (Reading::Unknown, "1 of 3 instances checked so far, and found".to_string()));
        publish(&weak, &asked(1), &Found::Well, 2, Mono(3));
        assert_eq!(fact().0, Reading::Unknown);
        publish(&weak, &asked(2), &Found::Well, 0, Mono(4));
        assert_eq!(fact(), (Reading::Up, "all 3 instances found".to_string()));
        publish(&weak, &asked(0), &Found::Well, 1, Mono(5));
        assert_eq!(fact().0, Reading::Up, "what was found stands until the next round");
    }

    #[test]
    fn those_in_trouble_are_named_and_counted_when_there_are_many() {
        let mut known = Known::default();
        for n in 0..7 {
            known.take(&Arc::from(format!("n{n}")), &Found::Trouble("404".to_string()), Mono(1));
        }
        let (reading, fact) = known.fact(7);
        assert!(
            reading == Reading::Down && fact.starts_with("node n0: 404; node n1") && fact.ends_with("; and 2 more"),
            "{fact}"
        );
        known.take(&Arc::from("n0"), &Found::Blind("401".to_string(), None), Mono(2));
        assert_eq!((known.blind.as_deref(), known.troubles.len()), (Some("401"), 7), "what was found before stands");
    }
}
