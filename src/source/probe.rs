//! Probes: looks at dependencies from outside (http, tcp, dns, tls, icmp, exec), each at its own pace.
//!
//! The checks run in a [`pool`](pool::Pool) of threads; [`Probes::observe`] only hands out the last result
//! of each with the time of its look, and waits for nothing (except for the one look of `check`).
//! What was not looked at since it should have been is Unknown, never the old verdict. Redirects are
//! off, metadata addresses refused (T9); facts hold no query, no credential and at most 200
//! characters of what a peer said. See `adr/0014-probe-pool.md`.

pub mod advice;
mod build;
mod cause;
pub mod dns;
pub mod exec;
pub mod http;
pub mod icmp;
pub mod pool;
pub mod read;
pub mod schedule;
pub mod settings;
pub mod target;
pub mod tcp;
pub mod tls;
mod types;
pub mod verdict;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::pool::{Bounds, Look, Pace, Pool, Standing, Verdict};
use self::settings::Settings;
use super::{Ask, Entry, Outfit, Source};
use crate::client::resolve::ResolveError;
use crate::client::shortage::Shortage;
use crate::config::{Config, ConfigError};
use crate::core::about::Details;
use crate::core::rule::Rule;
use crate::core::signal::{Observation, Reading, Report, Spec};
use crate::core::time::{Mono, Wall, people};
use crate::wake::Wake;

/// The source of `probe/<name>`.
pub const ENTRY: Entry = Entry {
    name: "probe",
    advice: "deps = [\"db=tcp://db:5432\", \"web=https://host/health\"]",
    sections: &[Settings::sections("probe")],
    build: open,
};

/// A check is stuck when it is out for this much longer than its limit.
const STUCK: Duration = Duration::from_secs(2);
/// A pool that is this late cannot keep up.
const LATE: Duration = Duration::from_secs(1);

fn open(config: &Config, outfit: &Outfit) -> Result<Option<Box<dyn Source>>, ConfigError> {
    let (probes, groups) = read::probes(config, outfit)?;
    if probes.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(Probes::new(probes, groups, outfit, Bounds::default()))))
}

/// One probe, ready to look.
pub struct Probe {
    /// The signal it speaks of.
    pub spec: Arc<Spec>,
    /// How often it looks.
    pub pace: Pace,
    /// How it looks.
    pub check: Check,
    /// What it shares its fate with: an address, or the zone of a name; `None` for a command and a mere name.
    pub dependency: Option<Arc<str>>,
    /// The host and port that it talks to.
    pub place: Option<String>,
}

/// One kind of look at one target.
pub enum Check {
    /// http and https.
    Http(Box<http::HttpCheck>),
    /// A port.
    Tcp(tcp::TcpCheck),
    /// A name.
    Dns(dns::DnsCheck),
    /// A certificate.
    Tls(Box<tls::TlsCheck>),
    /// An echo.
    Icmp(icmp::IcmpCheck),
    /// A command.
    Exec(exec::ExecCheck),
}

impl Check {
    /// Looks once, within the probe's limit, or goes on with a look that was to be gone on with.
    pub fn look(&self) -> Look {
        match self {
            Check::Http(check) => check.look().into(),
            Check::Tcp(check) => check.look(),
            Check::Dns(check) => check.look().into(),
            Check::Tls(check) => check.look().into(),
            Check::Icmp(check) => check.look().into(),
            Check::Exec(check) => check.look().into(),
        }
    }
}

/// The source: all probes and the pool that looks at them.
pub struct Probes {
    all: Arc<[Probe]>,
    groups: exec::Groups,
    pool: Pool,
    /// What the pool was last asked to be newer than; `None` before the first question.
    fresh_since: Option<Mono>,
}

impl Probes {
    /// A source over `probes`, sorted by key. No check begins before the first question.
    pub fn new(probes: Vec<Probe>, groups: exec::Groups, outfit: &Outfit, bounds: Bounds) -> Probes {
        let probes: Arc<[Probe]> = probes.into();
        let paces = probes.iter().map(|p| p.pace).collect();
        let looked_at = Arc::clone(&probes);
        let look = move |index: usize| match looked_at.get(index) {
            Some(probe) => probe.check.look(),
            None => Look::from(Verdict::unknown("no such probe")),
        };
        let waker = outfit.waker.clone();
        let name: Arc<str> = Arc::from(ENTRY.name);
        let news = move || waker.wake(Wake::Look(Arc::clone(&name)));
        let dependencies = probes.iter().map(|p| p.dependency.clone()).collect();
        let pool = Pool::new(paces, bounds, outfit.clock.clone(), look, news).sharing(dependencies);
        let pool = pool.together(&cause::leaders(&probes));
        Probes { all: probes, groups, pool, fresh_since: None }
    }

    /// Threads alive now.
    pub fn workers(&self) -> usize {
        self.pool.workers()
    }

    fn longest(&self) -> Duration {
        self.all.iter().map(|p| p.pace.limit).max().unwrap_or_default()
    }
}

impl Source for Probes {
    fn name(&self) -> &str {
        ENTRY.name
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.all.iter().filter_map(|p| p.spec.key.as_str().strip_prefix("probe/")).collect();
        match names.as_slice() {
            [] => "no probes".to_string(),
            [name] => format!("1 probe: {name}"),
            [a, b, c, _, ..] if names.len() > 4 => format!("{} probes: {a}, {b}, {c} and more", names.len()),
            _ => format!("{} probes: {}", names.len(), names.join(", ")),
        }
    }

    fn observe(&mut self, ask: &Ask) -> Result<Report, String> {
        let since = if ask.once { ask.now.mono } else { ask.fresh_since };
        let newer = since.max(ask.hurry_since);
        if self.fresh_since != Some(newer) {
            self.fresh_since = Some(newer);
            self.pool.hurry(newer);
        }
        if ask.once {
            self.pool.settle(Instant::now() + self.longest() + STUCK / 2);
        }
        let lag = self.pool.behind().filter(|lag| lag.late > LATE);
        let mut report =
            Report { observations: Vec::with_capacity(self.all.len()), complete: true, ..Report::default() };
        self.pool.standings(|index, standing| {
            let Some(probe) = self.all.get(index) else { return };
            let told = tell(&probe.pace, &standing, since, ask.now.mono);
            report.complete &= told.is_fresh;
            report.observations.push(observation(&probe.spec, told));
        });
        report.blind = lag.map(|lag| {
            let late = people(lag.late);
            if lag.refused {
                format!("a probe is {late} late with {} threads: {}", lag.workers, Shortage::Threads)
            } else {
                format!("all {} workers are busy with targets that hang; a probe is {late} late", lag.workers)
            }
        });
        Ok(report)
    }

    fn advice(&self, why: &str) -> Details {
        let advice = if why.contains("thread") {
            "raise TasksMax (systemd), pids_limit (compose) or `ulimit -u`"
        } else {
            "shorten `timeout` or lengthen `interval` of the probes that hang: watchdog status --all"
        };
        Details::new("cannot keep up", advice)
    }

    fn patience(&self) -> Duration {
        self.longest() + STUCK
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        // Their workers then find them ended; the pool itself waits for nobody.
        self.groups.close();
    }
}

/// What is said of one probe.
struct Told {
    reading: Reading,
    fact: Cow<'static, str>,
    seen_at: Mono,
    is_fresh: bool,
    /// One look is enough.
    certain: bool,
    /// When it happened, where the check knows.
    since: Option<Wall>,
    details: Option<Arc<Details>>,
}

impl Told {
    fn of(verdict: &Verdict, seen_at: Mono) -> Told {
        let (reading, fact, certain) = (verdict.reading, verdict.fact.clone(), verdict.certain);
        Told { reading, fact, seen_at, is_fresh: true, certain, since: verdict.since, details: verdict.details.clone() }
    }
}

/// What one look at the probe of `spec` says, when it was finished at `seen_at`.
pub fn observed(spec: &Arc<Spec>, verdict: &Verdict, seen_at: Mono) -> Observation {
    observation(spec, Told::of(verdict, seen_at))
}

fn observation(spec: &Arc<Spec>, told: Told) -> Observation {
    let spec = if told.certain { &at_once(spec) } else { spec };
    let seen = Observation::new(spec, told.seen_at, told.reading, told.fact);
    Observation { details: told.details, ..seen }.since(told.since)
}

/// The same signal under a rule that does not count: for what is certain at the first look.
fn at_once(spec: &Arc<Spec>) -> Arc<Spec> {
    Arc::new(Spec { rule: Rule::at_once(spec.rule.test), ..Spec::clone(spec) })
}

fn tell(pace: &Pace, standing: &Standing<'_>, since: Mono, now: Mono) -> Told {
    let unknown = |fact: Cow<'static, str>, is_fresh| Told {
        reading: Reading::Unknown,
        fact,
        seen_at: now,
        is_fresh,
        certain: false,
        since: None,
        details: None,
    };
    if let Some(out) = standing.out_for.filter(|out| *out > pace.limit.saturating_add(STUCK)) {
        let limit = people(pace.limit);
        return unknown(
            format!("the check hangs for {} (its limit is {limit}); not asked again before it ends", people(out))
                .into(),
            true,
        );
    }
    match standing.last {
        Some((_, seen_at)) if seen_at < since => unknown("not checked yet".into(), false),
        None => unknown("not checked yet".into(), false),
        Some((_, seen_at)) if now.since(seen_at) > overdue(pace) => {
            let why = if standing.is_held_back {
                "; too many other checks of the same host are waiting for an answer"
            } else {
                ""
            };
            unknown(format!("not checked for {}{why}", people(now.since(seen_at))).into(), true)
        }
        Some((verdict, seen_at)) => {
            // A date that has passed is bad now as it was at the look: a look a day must not have to wait for the
            // next one because the first fell into the time after a start, in which nothing is confirmed.
            let lasts = verdict.certain && verdict.reading == Reading::Down;
            Told::of(verdict, if lasts { now } else { seen_at })
        }
    }
}

/// A result older than this says nothing any more: two looks and a whole limit were missed.
fn overdue(pace: &Pace) -> Duration {
    pace.interval.saturating_mul(2).saturating_add(pace.limit).saturating_add(STUCK)
}

/// The verdict on a name that gave no address: what the resolver says is the target's fault; what it
/// cannot say is nobody's.
pub fn unresolved(error: &ResolveError, name: &str) -> Verdict {
    let verdict = match error {
        ResolveError::NotFound { .. } | ResolveError::Alone { .. } | ResolveError::Refused(_) => {
            Verdict::down(error.to_string())
        }
        ResolveError::Undecided { .. } | ResolveError::Timeout { .. } | ResolveError::Busy { .. } => {
            Verdict::unknown(error.to_string())
        }
    };
    verdict.because(advice::of_lookup(error, name))
}

/// What a peer said, fit for a fact: escaped, at most 200 characters.
fn excerpt(bytes: &[u8]) -> String {
    const LIMIT: usize = 200;
    let text = String::from_utf8_lossy(bytes.get(..LIMIT * 4).unwrap_or(bytes));
    let mut shown = String::new();
    let mut room = LIMIT;
    for c in text.chars() {
        let escaped = c.escape_debug();
        // A quotation mark is harmless here and reads better plain.
        let (width, plain) = if matches!(c, '"' | '\'') { (1, true) } else { (escaped.len(), false) };
        if width >= room {
            shown.push('…');
            break;
        }
        room -= width;
        if plain { shown.push(c) } else { shown.extend(escaped) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { interval: Duration::from_secs(15), limit: Duration::from_secs(5), counts: 3 };

    #[test]
    fn what_was_not_looked_at_is_unknown_and_never_the_old_verdict() {
        let up = Verdict::up("fine");
        let table = [
            (None, None, Reading::Unknown, false),
            (Some((&up, Mono(90_000))), None, Reading::Unknown, false),
            (Some((&up, Mono(100_000))), None, Reading::Up, true),
            (Some((&up, Mono(100_000))), Some(Duration::from_secs(6)), Reading::Up, true),
            (Some((&up, Mono(100_000))), Some(Duration::from_secs(8)), Reading::Unknown, true),
            (None, Some(Duration::from_secs(8)), Reading::Unknown, true),
        ];
        for (last, out_for, reading, is_fresh) in table {
            let told = tell(&PACE, &Standing { last, out_for, is_held_back: false }, Mono(100_000), Mono(110_000));
            assert_eq!((told.reading, told.is_fresh), (reading, is_fresh), "{last:?} {out_for:?} {}", told.fact);
        }
        let told = tell(
            &PACE,
            &Standing { last: Some((&up, Mono(100_000))), out_for: None, is_held_back: false },
            Mono(0),
            Mono(200_000),
        );
        assert_eq!(told.reading, Reading::Unknown);
        assert_eq!(told.fact, "not checked for 1 min 40 s");
    }

    #[test]
    fn an_excerpt_is_escaped_and_at_most_200_characters() {
        assert_eq!(excerpt(b"ok \"fine\"\n\x1b[0m"), "ok \"fine\"\\n\\u{1b}[0m");
        assert_eq!(excerpt(&[b'a'; 5000]).chars().count(), 200);
        assert_eq!(excerpt("é".repeat(5000).as_bytes()).chars().count(), 200);
        assert!(excerpt(&[0xff; 5000]).chars().count() <= 200);
        assert!(excerpt(&[0; 5000]).chars().count() <= 200);
    }

    #[test]
    fn a_name_that_does_not_exist_is_down_and_a_resolver_that_hangs_is_unknown() {
        let name = || "db".to_string();
        let why = String::new;
        assert_eq!(unresolved(&ResolveError::NotFound { name: name(), why: why() }, "db").reading, Reading::Down);
        let other = "www".to_string();
        assert_eq!(unresolved(&ResolveError::Alone { name: name(), why: why(), other }, "db").reading, Reading::Down);
        assert_eq!(unresolved(&ResolveError::Undecided { name: name(), why: why() }, "db").reading, Reading::Unknown);
        assert_eq!(unresolved(&ResolveError::Timeout { name: name(), limit: STUCK }, "db").reading, Reading::Unknown);
        assert_eq!(unresolved(&ResolveError::Busy { name: name(), why: why() }, "db").reading, Reading::Unknown);
    }
}
