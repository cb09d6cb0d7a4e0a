//! Puts the parts together as the configuration says: the lists in `source` and `notifier` are
//! walked, and every part builds itself from its own settings. All problems are reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;

use crate::act::Tools;
use crate::client;
use crate::clock::Clock;
use crate::config::schema::Section;
use crate::config::{Config, ConfigError, Problem, Root};
use crate::core::recovery::plan::{Mode, Place};
use crate::executor;
use crate::kind;
use crate::lease::{Lease, Terms};
use crate::nodes::Nodes;
use crate::notifier::{self, NOTIFIERS, Notifier};
use crate::source::{self, SOURCES, Source};
use crate::trace::Traces;
use crate::wake::Waker;

/// Every kind of target.
pub const KINDS: &[kind::Entry] = &[crate::nodes::ENTRY];

/// The lists that repairs are made of.
#[derive(Clone, Copy)]
pub struct Lists {
    /// What can be ill.
    pub kinds: &'static [kind::Entry],
    /// What can repair it.
    pub executors: &'static [executor::Entry],
}

/// All that there are.
pub const LISTS: Lists = Lists { kinds: KINDS, executors: executor::EXECUTORS };

/// Every part of the configuration, in the order in which it is documented: the one list of all lists.
pub fn schema() -> Vec<Section> {
    schema_of(LISTS)
}

/// The same with these kinds and executors.
pub fn schema_of(lists: Lists) -> Vec<Section> {
    let mut all = vec![Root::section(""), crate::config::COOLDOWN];
    for entry in NOTIFIERS {
        all.extend_from_slice(entry.sections);
    }
    for entry in SOURCES {
        all.extend_from_slice(entry.sections);
    }
    all.extend_from_slice(crate::hush::SECTIONS);
    all.extend_from_slice(crate::serve::SECTIONS);
    all.extend_from_slice(crate::beacon::SECTIONS);
    for entry in lists.kinds {
        all.extend_from_slice(entry.sections);
    }
    for entry in lists.executors {
        all.extend_from_slice(entry.sections);
    }
    all
}

impl Config {
    /// A configuration from one TOML text against the whole [`schema`], without files or environment; for tests and
    /// examples.
    ///
    /// # Errors
    /// Every problem with keys and types.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        Config::of_text(text, &schema())
    }
}

/// What a configuration comes to, with everything that is wrong with it.
pub struct Reckoning {
    /// The sources that are on, by name.
    pub sources: Vec<String>,
    /// The channels that are on, by name.
    pub channels: Vec<String>,
    /// Every problem of every part, those of the configuration itself first; what merely follows from them is left out.
    pub problems: Vec<Problem>,
}

/// Has every part judge its settings, also where others are wrong, and starts nothing.
pub fn reckon(config: &Config, clock: &Clock) -> Reckoning {
    let mut problems = Vec::new();
    let mut take =
        |outcome: Result<(), ConfigError>| problems.extend(outcome.err().into_iter().flat_map(|e| e.problems));
    let mut names = (Vec::new(), Vec::new());
    let outfit = outfit(config, clock, &Waker::new(), None, &Arc::default());
    take(sources(config, &outfit).map(|all| names.0 = all.iter().map(|s| s.name().to_string()).collect()));
    let channels = notifiers(config, clock, &Remembered::new());
    take(channels.map(|all| names.1 = all.iter().map(|n| n.name().to_string()).collect()));
    let beat = |url: Option<crate::config::value::Secret>| {
        url.map(|url| crate::deadman::Beat::of(config, url)).transpose().map(drop)
    };
    take(crate::deadman::url(config).and_then(beat));
    take(crate::serve::check(config));
    take(crate::hush::windows::windows(config).map(drop));
    if ["beacon", "consul", "node"].into_iter().any(|key| config.is_set(key)) {
        take(crate::beacon::check(config));
    }
    take(Nodes::of(config, KINDS, executor::EXECUTORS).map(drop));
    let switches = crate::nodes::switches(config);
    take(executor::machines(executor::EXECUTORS, config, &executor_outfit(config, clock), &switches).map(drop));
    let news = config.news(problems);
    let mut problems = [config.problems(), &news].concat();
    problems.sort_by_cached_key(reading_order);
    Reckoning { sources: names.0, channels: names.1, problems }
}

/// By place, and in a file by line.
fn reading_order(problem: &Problem) -> (String, u32) {
    let place = problem.place.as_deref().unwrap_or_default();
    // watchdog.toml:14 or watchdog.toml:14:3
    let mut parts = place.split(':');
    let file = parts.next().unwrap_or_default().to_string();
    (file, parts.next().and_then(|line| line.parse().ok()).unwrap_or(0))
}

/// What a channel asked to be remembered, by the channel's name.
pub type Remembered = BTreeMap<String, BTreeMap<String, String>>;

/// Every source that is switched on.
pub fn sources(config: &Config, outfit: &source::Outfit) -> Result<Vec<Box<dyn Source>>, ConfigError> {
    let mut built = Vec::new();
    let mut problems = Vec::new();
    for entry in SOURCES {
        match (entry.build)(config, outfit) {
            Ok(source) => built.extend(source),
            Err(error) => problems.extend(error.problems),
        }
    }
    if problems.is_empty() { Ok(built) } else { Err(ConfigError { problems }) }
}

/// Every notifier that is switched on.
pub fn notifiers(
    config: &Config,
    clock: &Clock,
    remembered: &Remembered,
) -> Result<Vec<Box<dyn Notifier>>, ConfigError> {
    let mut built = Vec::new();
    let mut problems = Vec::new();
    for entry in NOTIFIERS {
        let outfit = notifier::Outfit {
            clock: clock.clone(),
            timeout: config.root().timeout.0,
            remembered: remembered.get(entry.name).cloned().unwrap_or_default(),
        };
        match (entry.build)(config, &outfit) {
            Ok(notifier) => built.extend(notifier),
            Err(error) => problems.extend(error.problems),
        }
    }
    if problems.is_empty() { Ok(built) } else { Err(ConfigError { problems }) }
}

/// What sources are lent.
pub fn outfit(
    config: &Config,
    clock: &Clock,
    waker: &Waker,
    previous_boot: Option<&str>,
    seen_before: &Arc<BTreeSet<Arc<str>>>,
) -> source::Outfit {
    source::Outfit {
        clock: clock.clone(),
        waker: waker.clone(),
        timeout: config.root().timeout.0,
        tick: config.root().tick.0,
        previous_boot: previous_boot.filter(|id| !id.is_empty()).map(str::to_string),
        seen_before: Arc::clone(seen_before),
        kept: source::Kept::default(),
    }
}

/// What repairs are made of, before they are put in force.
pub struct RepairParts {
    /// What is configured.
    pub nodes: Nodes,
    /// What the operator works with.
    pub tools: Tools,
    /// Where spans go, when somebody wants them.
    pub traces: Option<Traces>,
    /// The boot of the machine that we run on, where that is one that could be repaired.
    pub own_boot: Option<Arc<str>>,
}

impl RepairParts {
    /// Repairs that touch nothing: what is left of earlier ones is shown and told.
    pub fn without_nodes(nodes: Nodes) -> RepairParts {
        let tools = Tools { machines: executor::Machines::new(), heartbeats: None, lease: Lease::local() };
        RepairParts { nodes, tools, traces: None, own_boot: None }
    }
}

fn executor_outfit(config: &Config, clock: &Clock) -> executor::Outfit {
    executor::Outfit { clock: clock.clone(), timeout: config.root().timeout.0 }
}

/// The machines of repairs under way whose nodes are not configured any more, as far as they can be reached.
pub fn orphans(config: &Config, clock: &Clock, places: &[(Arc<str>, Place)]) -> executor::Machines {
    let (machines, troubles) = executor::orphans(config, &executor_outfit(config, clock), places);
    for trouble in troubles {
        tracing::warn!("a repair under way cannot be finished: {trouble}");
    }
    machines
}

/// What can be repaired, by these lists, and the machines that switch it.
///
/// # Errors
/// Every problem of every kind, or else of every executor.
pub fn targets(config: &Config, clock: &Clock, lists: Lists) -> Result<(Nodes, executor::Machines), ConfigError> {
    let mut nodes = Nodes::of(config, lists.kinds, lists.executors)?;
    let outfit = executor_outfit(config, clock);
    let machines = executor::machines(lists.executors, config, &outfit, &nodes.switches)?;
    for node in &mut nodes.nodes {
        node.machine = machines.get(&node.key).map(|machine| (machine.executor(), machine.id()));
    }
    Ok((nodes, machines))
}

/// Everything that repairs need; `None` when no node is configured.
pub fn repairs(config: &Config, clock: &Clock, waker: &Waker) -> anyhow::Result<Option<RepairParts>> {
    let (nodes, machines) = targets(config, clock, LISTS)?;
    if nodes.nodes.is_empty() {
        return Ok(None);
    }
    let consul = client::consul::connect(config, config.root().timeout.0)?;
    let active = nodes.policy.mode == Mode::Active && nodes.any_repairable();
    let lease = if active {
        let (base, agent) = (nodes.lease.clone(), nodes.policy.instance.clone());
        let terms = Terms { consul: consul.clone(), base, agent, ttl: nodes.lease_ttl };
        Lease::start(terms, clock, waker).context("cannot start a thread")?
    } else {
        Lease::local()
    };
    let place = source::consul::place(config, &nodes)?;
    for name in config.broken_variables("OTEL_") {
        tracing::warn!("environment variable {name} is not valid UTF-8 and is not used");
    }
    let proxies = client::proxy::Proxies::new(None, client::proxy::Environment::of(config)?).unwrap_or_default().into();
    let traces = Traces::start(&config.variables("OTEL_"), proxies)?;
    let tools = Tools { machines, heartbeats: Some((consul, place)), lease };
    Ok(Some(RepairParts { nodes, tools, traces, own_boot: own_boot(config)? }))
}

/// The boot of the machine that we run on, where that is one that an executor could take down.
fn own_boot(config: &Config) -> anyhow::Result<Option<Arc<str>>> {
    let sys = source::host::sys(config)?;
    if !executor::EXECUTORS.iter().any(|entry| (entry.is_here)(&sys)) {
        return Ok(None);
    }
    let boot = crate::clock::boot_id();
    if boot.is_empty() {
        tracing::warn!("this machine's boot id cannot be read: if it is one of the nodes, give it executor = \"none\"");
    }
    Ok(Some(boot).filter(|boot| !boot.is_empty()).map(Arc::from))
}
