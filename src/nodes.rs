//! `[recovery]` and `[[node]]`: what may be repaired, how, and within which bounds.
//!
//! Reads and checks what people wrote, all problems at once, and makes of it what the pure core works
//! with. Owns no policy of its own: what the words mean is decided in `core::recovery`. Nothing here
//! touches a machine; the default everywhere is to observe (`adr/0008-observe-by-default.md`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::client::consul::usable_key;
use crate::config::schema::{Identity, Kind, Section, Setting, Spelling};
use crate::config::value::Span;
use crate::config::{Config, ConfigError, Problem, nearest, one_of};
use crate::core::recovery::budget::Bounds;
use crate::core::recovery::kind::NODE;
use crate::core::recovery::plan::{Cause, Mode, Node, Policy, WhenStopped};
use crate::core::recovery::procedure::Procedure;
use crate::core::recovery::target::Times;
use crate::core::signal::SignalKey;
use crate::executor::{EXECUTORS, Entry};
use crate::kind::{self, Targets};

pub use crate::executor::Switch;

/// The executor of a node that is only watched.
const NOBODY: &str = "none";
/// Nodes at most.
const NODES: usize = 10_000;

crate::settings! {
    /// Repairs: whether machines are touched, and within which bounds.
    pub struct Settings {
        /// observe: everything is decided and told, nothing is touched. active: machines are repaired; needs state.
        mode: ModeWord = ModeWord::Observe,
        /// How long a node must be gone before it may be repaired.
        after: Span = Span::seconds(300),
        /// Repairs at the same time, at least 1.
        max_in_flight: u32 = 1,
        /// Repairs at the same time among nodes of one domain, at least 1.
        max_per_domain: u32 = 1,
        /// Repairs begun within an hour, of all nodes together.
        max_per_hour: u32 = 4,
        /// Repairs begun within a day, of all nodes together.
        max_per_day: u32 = 12,
        /// Repairs of one node begun within a day, at least 1: what two did not help, a third rarely does.
        max_per_node: u32 = 2,
        /// Nobody is touched while a smaller share of the nodes than this is healthy; one may always be ill.
        min_healthy: String = "51%".to_string(),
        /// Repairs of one node before it is given up; 0: never, those of an hour and of a day still hold.
        max_attempts: u32 = 3,
        /// Healthy for this long without a break, a node has all its attempts again.
        attempts_reset_after: Span = Span::seconds(3600),
        /// Time that a node has to come back with its heartbeat after it was switched.
        boot_grace: Span = Span::seconds(600),
        /// true: no repair begins; one that is under way is finished.
        paused: bool = false,
        /// Signals (probe/gateway) of which at least one must be OK; otherwise the fault is taken to be our own.
        /// None: another node's heartbeat, or with one node Consul and the provider.
        references: Vec<String> = Vec::new(),
        /// Time between two checks of a machine that is being switched, 100ms to 1m.
        poll: Span = Span::seconds(5),
        /// Where agents keep in Consul who leads and what is under way: <lease>/leader, <lease>/repairs/.
        lease: String = "watchdog".to_string(),
        /// Life of the lease without a renewal, at least 10s unless Consul's session_ttl_min says less. Another
        /// agent takes over within twice this.
        lease_ttl: Span = Span::seconds(15),
    }
}

crate::settings! {
    /// One node that is watched by its heartbeat, as the signal `node/<name>`, and may be repaired.
    pub struct NodeSettings {
        /// Its name: the last part of its key in Consul. Required.
        name: String = String::new(),
        /// What repairs it: oci, or none to watch it only.
        executor: String = "oci".to_string(),
        /// oci: the OCID of its instance. Required for oci.
        instance_id: String = String::new(),
        /// oci: the OCID of its compartment.
        compartment_id: String = String::new(),
        /// Signals that must be down, too, before it is repaired, such as probe/n1-ssh; or heartbeat-only.
        /// With one or two nodes there must be one, or the word.
        evidence: Evidence = Evidence::default(),
        /// When somebody else switched it off: tell, or start it (for instances that the provider takes back).
        when_stopped: WhenStoppedWord = WhenStoppedWord::Tell,
        /// How to repair it: stop_start, reset, softreset. One per attempt, the last for all that follow.
        ladder: Vec<String> = vec!["stop_start".to_string()],
        /// What it shares with nodes that must not be down together: a rack, a quorum.
        domain: Option<String> = None,
        /// Instead of recovery.after.
        after: Option<Span> = None,
        /// Instead of recovery.boot_grace.
        boot_grace: Option<Span> = None,
    }
}

/// The parts of the configuration that this file owns.
pub const SECTIONS: &[Section] = &[Settings::section("recovery"), NodeSettings::sections("node").once(ONCE)];

/// How the program knows nodes.
pub const ENTRY: kind::Entry = kind::Entry { kind: &NODE, sections: SECTIONS, read: targets };

/// What two nodes must not have in common.
const ONCE: &[Identity] = &[
    Identity { field: "name", spelling: Spelling::Exact, why: "give each node its own name" },
    Identity {
        field: "instance_id",
        spelling: Spelling::AnyCase,
        why: "two nodes cannot be one machine: the healthy one would be stopped for the lost one",
    },
];

/// `observe` or `active`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeWord {
    /// Nothing is touched.
    #[default]
    Observe,
    /// Machines are repaired.
    Active,
}

impl Setting for ModeWord {
    const KIND: Kind = Kind::Choice(&["observe", "active"]);
}

/// `tell` or `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenStoppedWord {
    /// It is told.
    #[default]
    Tell,
    /// It is started.
    Start,
}

impl Setting for WhenStoppedWord {
    const KIND: Kind = Kind::Choice(&["tell", "start"]);
}

/// Signals, or the word that says that none is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Evidence {
    /// These must be down.
    Signals(Vec<String>),
    /// `heartbeat-only`.
    Word(String),
}

impl Default for Evidence {
    fn default() -> Self {
        Evidence::Signals(Vec::new())
    }
}

impl Setting for Evidence {
    const KIND: Kind = Kind::ListOr("heartbeat-only");
}

/// Everything about repairs that is configured, checked.
#[derive(Debug, Clone)]
pub struct Nodes {
    /// What holds for all repairs.
    pub policy: Policy,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What switches those that can be repaired, for the executors.
    pub switches: Vec<Switch>,
    /// Where agents keep their lease, without slashes at its ends.
    pub lease: String,
    /// Life of the lease without a renewal.
    pub lease_ttl: std::time::Duration,
}

/// By an executor's word: its ways for a ladder, and how it brings a machine up.
type Offer = (&'static str, Vec<Arc<Procedure>>, Option<Arc<Procedure>>);

/// What the executors offer, each way shared by all nodes that go it.
struct Offers {
    executors: Vec<Offer>,
}

impl Offers {
    fn of(executors: &[Entry]) -> Offers {
        let offer = |entry: &Entry| {
            let ladder = entry.offers.iter().cloned().map(Arc::new).collect();
            (entry.name, ladder, entry.starts.clone().map(Arc::new))
        };
        Offers { executors: executors.iter().map(offer).collect() }
    }

    /// What may stand in `executor`.
    fn words(&self) -> Vec<&'static str> {
        self.executors.iter().map(|(name, _, _)| *name).chain([NOBODY]).collect()
    }

    /// The ways that a ladder may be made of; of a node that nothing switches, any.
    fn ways(&self, executor: &str) -> Vec<Arc<Procedure>> {
        let of = |own: bool| {
            let all = self.executors.iter().filter(move |(name, _, _)| !own || *name == executor);
            all.flat_map(|(_, ways, _)| ways.iter().cloned()).collect::<Vec<_>>()
        };
        let own = of(true);
        if own.is_empty() { of(false) } else { own }
    }

    /// How the executor brings up a machine that somebody else switched off.
    fn starts(&self, executor: &str) -> Option<Arc<Procedure>> {
        self.executors.iter().find(|(name, _, _)| *name == executor).and_then(|(_, _, starts)| starts.clone())
    }
}

impl Nodes {
    /// True when there is anything to repair.
    pub fn any_repairable(&self) -> bool {
        self.nodes.iter().any(|node| node.repairable)
    }

    /// Reads and checks both sections.
    ///
    /// # Errors
    /// Every problem, by its key.
    pub fn read(config: &Config) -> Result<Nodes, ConfigError> {
        Nodes::of(config, &[ENTRY], EXECUTORS)
    }

    /// The same with the targets of all these kinds, switched by these executors.
    ///
    /// # Errors
    /// Every problem, by its key.
    pub fn of(config: &Config, kinds: &[kind::Entry], executors: &[Entry]) -> Result<Nodes, ConfigError> {
        let settings: Settings = config.section("recovery")?;
        let mut problems = Vec::new();
        let min_healthy = bounds(config, &settings, &mut problems);
        let lease = settings.lease.trim_matches('/').to_string();
        let (mut nodes, mut switches, mut others) = (Vec::new(), Vec::new(), BTreeMap::new());
        for entry in kinds {
            match (entry.read)(config, executors) {
                Ok(mut read) => {
                    nodes.append(&mut read.targets);
                    switches.append(&mut read.switches);
                    others.extend(read.bounds.map(|bounds| (entry.kind.share, bounds)));
                }
                Err(error) => problems.extend(error.problems),
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let policy = Policy {
            instance: config.root().instance.clone(),
            mode: if settings.mode == ModeWord::Active { Mode::Active } else { Mode::Observe },
            paused: settings.paused,
            machines: Bounds {
                max_in_flight: settings.max_in_flight,
                max_per_domain: settings.max_per_domain,
                max_per_hour: settings.max_per_hour,
                max_per_day: settings.max_per_day,
                max_per_target: settings.max_per_node,
                min_healthy,
            },
            others,
            max_attempts: settings.max_attempts,
            poll: settings.poll.0,
            cooldown: config.cooldowns().critical,
            references: settings.references.iter().map(|key| SignalKey::new(key)).collect(),
        };
        Ok(Nodes { policy, nodes, switches, lease, lease_ttl: settings.lease_ttl.0 })
    }
}

/// The nodes and what switches them.
fn targets(config: &Config, executors: &[Entry]) -> Result<Targets, ConfigError> {
    let settings: Settings = config.section("recovery")?;
    let (offers, mut problems) = (Offers::of(executors), Vec::new());
    let mut read = Targets::default();
    for (index, node) in config.each::<NodeSettings>("node").enumerate() {
        let node = node?;
        read.targets.push(read_node(config, &settings, (index, &node), &offers, &mut problems));
        read.switches.extend(switch(index, &node, executors));
    }
    if read.targets.len() > NODES {
        let what = format!("there are {}; at most {NODES} can be kept", read.targets.len());
        problems.extend(config.error("node", what).problems);
    }
    if problems.is_empty() { Ok(read) } else { Err(ConfigError { problems }) }
}

/// What switches each node, as far as it is written, whatever else is wrong with the nodes.
pub fn switches(config: &Config) -> Vec<Switch> {
    let nodes = config.each::<NodeSettings>("node").enumerate();
    nodes.filter_map(|(index, node)| switch(index, &node.ok()?, EXECUTORS)).collect()
}

/// `None` for a node that nothing switches, or nothing that is known; the latter is a problem of its own.
fn switch(index: usize, node: &NodeSettings, executors: &[Entry]) -> Option<Switch> {
    let executor = executors.iter().map(|entry| entry.name).find(|known| *known == node.executor)?;
    let key = NODE.key(&node.name);
    let (node, instance_id) = (Arc::from(node.name.as_str()), Arc::from(node.instance_id.as_str()));
    Some(Switch { index, node, key, executor, instance_id })
}

fn bounds(config: &Config, settings: &Settings, problems: &mut Vec<Problem>) -> u32 {
    let mut refuse = |key: &str, what: String| problems.extend(config.error(key, what).problems);
    for (key, value) in [
        ("recovery.max_in_flight", settings.max_in_flight),
        ("recovery.max_per_domain", settings.max_per_domain),
        ("recovery.max_per_node", settings.max_per_node),
    ] {
        if value == 0 {
            refuse(key, "should be at least 1; to repair nothing write recovery.paused = true".to_string());
        }
    }
    let poll = settings.poll.0.as_millis();
    if !(100..=60_000).contains(&poll) {
        refuse("recovery.poll", format!("{} is not between 100ms and 1m", settings.poll));
    }
    for (key, span, usual) in [
        ("recovery.after", settings.after, "5m"),
        ("recovery.boot_grace", settings.boot_grace, "10m"),
        ("recovery.attempts_reset_after", settings.attempts_reset_after, "1h"),
    ] {
        if span.0.is_zero() {
            refuse(key, format!("should be longer than nothing; {usual} is usual"));
        }
    }
    if settings.lease_ttl.0.as_secs() < 1 {
        refuse("recovery.lease_ttl", format!("{} is too short; 15s is usual", settings.lease_ttl));
    }
    if !usable_key(settings.lease.trim_matches('/')) {
        refuse("recovery.lease", format!("\"{}\" cannot be a key; write for example \"watchdog\"", settings.lease));
    }
    for key in &settings.references {
        known_signal(config, "recovery.references", key, problems);
    }
    let percent = settings.min_healthy.trim().trim_end_matches('%').trim().parse::<u32>().ok().filter(|p| *p <= 100);
    if percent.is_none() {
        let what = format!("\"{}\" is not a percentage; write 0% to 100%, such as \"51%\"", settings.min_healthy);
        problems.extend(config.error("recovery.min_healthy", what).problems);
    }
    percent.unwrap_or(100)
}

fn read_node(
    config: &Config,
    all: &Settings,
    (index, node): (usize, &NodeSettings),
    offers: &Offers,
    problems: &mut Vec<Problem>,
) -> Node {
    let name: Arc<str> = Arc::from(node.name.as_str());
    let key = |name: &str| format!("node[{index}].{name}");
    let mut refuse = |name: &str, what: String| problems.extend(config.error(&key(name), what).problems);
    if node.name.contains('/') || !usable_key(&node.name) {
        let what = format!("\"{}\" cannot be part of a key; use letters, digits, `_`, `-` and `.`", node.name);
        refuse("name", if node.name.is_empty() { "is missing".to_string() } else { what });
    }
    for (field, span, usual) in [("after", &node.after, "5m"), ("boot_grace", &node.boot_grace, "10m")] {
        if span.is_some_and(|span| span.0.is_zero()) {
            refuse(field, format!("should be longer than nothing; {usual} is usual"));
        }
    }
    let repairable = node.executor != NOBODY;
    let (words, ways) = (offers.words(), offers.ways(&node.executor));
    if !words.contains(&node.executor.as_str()) {
        refuse("executor", one_of(&format!("\"{}\" is not known here", node.executor), &node.executor, &words));
    } else if repairable && node.instance_id.is_empty() {
        let what = "is missing: the OCID of the instance; or write executor = \"none\" to watch the node only";
        refuse("instance_id", what.to_string());
    }
    let ladder = ladder(&node.ladder, &ways, &mut refuse);
    let (evidence, heartbeat_only) = match &node.evidence {
        Evidence::Signals(keys) => (keys.clone(), false),
        Evidence::Word(_) => (Vec::new(), true),
    };
    for signal in &evidence {
        known_signal(config, &key("evidence"), signal, problems);
    }
    Node {
        kind: &NODE,
        cause: Cause::Heartbeat,
        key: NODE.key(&name),
        name,
        domain: node.domain.clone(),
        evidence: evidence.iter().map(|key| SignalKey::new(key)).collect(),
        heartbeat_only,
        when_stopped: match node.when_stopped {
            WhenStoppedWord::Tell => WhenStopped::Tell,
            WhenStoppedWord::Start => WhenStopped::Start,
        },
        ladder,
        starts: offers.starts(&node.executor),
        times: Times {
            after: node.after.as_ref().unwrap_or(&all.after).0,
            boot_grace: node.boot_grace.as_ref().unwrap_or(&all.boot_grace).0,
            attempts_reset_after: all.attempts_reset_after.0,
        },
        repairable,
        machine: None,
    }
}

/// The ways of a ladder by their words.
fn ladder(words: &[String], ways: &[Arc<Procedure>], refuse: &mut dyn FnMut(&str, String)) -> Vec<Arc<Procedure>> {
    if words.is_empty() {
        refuse("ladder", "is empty; write [\"stop_start\"]".to_string());
    }
    let mut ladder = Vec::new();
    for word in words {
        if let Some(way) = ways.iter().find(|way| way.name == *word) {
            ladder.push(Arc::clone(way));
        } else {
            let words: Vec<&str> = ways.iter().map(|way| &*way.name).collect();
            refuse("ladder", one_of(&format!("\"{word}\" is not known here"), word, &words));
        }
    }
    ladder
}

/// A probe that does not exist would never be down: a typo must not look like a healthy node.
fn known_signal(config: &Config, key: &str, signal: &str, problems: &mut Vec<Problem>) {
    let Some(probe) = signal.strip_prefix("probe/") else {
        if !signal.contains('/') {
            let what = format!("\"{signal}\" is not a signal; write its key, such as \"probe/{signal}\"");
            problems.extend(config.error(key, what).problems);
        }
        return;
    };
    let tables = config.value("", "probe").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    let named = tables.iter().filter_map(|table| Some(table.get("name")?.as_str()?.to_string()));
    let short = config.root().deps.iter().filter_map(|dep| Some(dep.split_once('=')?.0.trim().to_string()));
    let known: Vec<String> = named.chain(short).collect();
    if !known.iter().any(|name| name == probe) {
        let lead = format!("no probe is called \"{probe}\"");
        let what = nearest(&lead, probe, known.iter().map(String::as_str));
        problems.extend(config.error(key, what).problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Nodes, String> {
        let config = Config::from_toml(toml).map_err(|error| error.to_string())?;
        Nodes::read(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_configured_observes_nobody() {
        let nodes = read("").unwrap();
        assert_eq!(nodes.policy.mode, Mode::Observe);
        assert!(nodes.nodes.is_empty() && !nodes.any_repairable());
    }

    #[test]
    fn a_node_is_read_with_its_own_times_and_those_of_all() {
        let nodes = read(
            r#"
            deps = ["n1-ssh=tcp://127.0.0.1:22"]
            [recovery]
            mode = "active"
            min_healthy = "75 %"
            [[node]]
            name = "n1"
            instance_id = "ocid1.instance.oc1.eu-frankfurt-1.aaaa"
            evidence = ["probe/n1-ssh"]
            ladder = ["softreset", "stop_start"]
            after = "2m"
            [[node]]
            name = "n2"
            executor = "none"
            evidence = "heartbeat-only"
            "#,
        )
        .unwrap();
        assert_eq!((nodes.policy.mode, nodes.policy.machines.min_healthy), (Mode::Active, 75));
        let [n1, n2] = nodes.nodes.as_slice() else { panic!("{nodes:?}") };
        let ladder: Vec<&str> = n1.ladder.iter().map(|way| &*way.name).collect();
        assert_eq!(ladder, ["softreset", "stop_start"]);
        assert!(n1.starts.is_some() && n2.starts.is_none());
        assert_eq!((n1.times.after.as_secs(), n1.times.boot_grace.as_secs()), (120, 600));
        assert!(n1.repairable && !n1.heartbeat_only && !n2.repairable && n2.heartbeat_only);
    }

    #[test]
    fn attempts_may_have_no_limit_of_their_own() {
        assert_eq!(read("[recovery]\nmax_attempts = 0").unwrap().policy.max_attempts, 0);
    }

    #[test]
    fn every_mistake_is_named_with_what_would_be_right() {
        let table = [
            ("[[node]]\nexecutor = \"none\"", "`node[0].name`: is missing"),
            ("[[node]]\nname = \"n1\"", "instance_id`: is missing"),
            ("[[node]]\nname = \"n1\"\nexecutor = \"ocj\"", "did you mean `oci`"),
            ("[[node]]\nname = \"a/b\"\nexecutor = \"none\"", "cannot be part of a key"),
            ("[[node]]\nname = \"n1\"\nexecutor = \"none\"\nladder = [\"stopstart\"]", "did you mean `stop_start`"),
            ("[[node]]\nname = \"n1\"\nexecutor = \"none\"\nevidence = \"none\"", "or \"heartbeat-only\""),
            (
                "deps=[\"n1-ssh=tcp://127.0.0.1:22\"]\n[[node]]\nname = \"n1\"\nexecutor = \"none\"\nevidence = [\"probe/n1-shs\"]",
                "did you mean `n1-ssh`",
            ),
            ("[recovery]\nmin_healthy = \"120%\"", "is not a percentage"),
            ("[recovery]\nmode = \"aktive\"", "did you mean `active`"),
            ("[recovery]\nmax_in_flight = 0", "recovery.paused"),
            ("[recovery]\npoll = \"1ms\"", "100ms"),
            ("[recovery]\nmax_attempt = 3", "did you mean `max_attempts`"),
        ];
        for (toml, words) in table {
            let error = read(toml).unwrap_err();
            assert!(error.contains(words), "{toml}: {error}");
        }
    }
}
