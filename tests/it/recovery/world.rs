//! A small world for the fleet: Consul, a provider, evidence, a disk and an operator, with verbs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use watchdog::core::recovery::budget::{Bounds, Budget};
use watchdog::core::recovery::fleet::{Fleet, Restored};
use watchdog::core::recovery::heartbeat::{Beat, Heartbeats, Life};
use watchdog::core::recovery::journal::{Event, Record, fold};
use watchdog::core::recovery::kind::{self, NODE};
use watchdog::core::recovery::legacy::{START, STOP_START};
use watchdog::core::recovery::phrase::Deed;
use watchdog::core::recovery::plan::{
    Answer, Cause, Input, Looked, Mode, Node, Note, Order, Outcome, Plan, Policy, Task, WhenStopped,
};
use watchdog::core::recovery::subject::{Fence, Reply, Seen, State as Power, Verb};
use watchdog::core::recovery::target::{Kept, Times};
use watchdog::core::signal::{SignalKey, State};
use watchdog::core::time::{Mono, Now, Wall};

pub const TICK: Duration = Duration::from_secs(5);
pub const MINUTE: Duration = Duration::from_mins(1);
pub const HOUR: Duration = Duration::from_hours(1);

/// One machine at the provider.
#[derive(Debug, Clone)]
pub struct Machine {
    pub life: Power,
    pub version: u32,
    /// A start helps: its heartbeat comes back on a new boot.
    pub heals: bool,
}

impl Machine {
    pub fn becomes(&mut self, life: Power) {
        self.life = life;
        self.version += 1;
    }
}

pub struct World {
    pub fleet: Fleet,
    pub policy: Policy,
    pub nodes: Vec<Node>,
    pub now: Now,
    pub fresh_since: Mono,
    pub beats: BTreeMap<Arc<str>, Beat>,
    pub sees_consul: bool,
    pub evidence: BTreeMap<String, State>,
    /// Signals that still fire and whose last look was good.
    pub recovering: BTreeSet<String>,
    /// Signals that somebody silenced.
    pub silenced: BTreeSet<String>,
    /// Evidence is looked at with each pass.
    pub probes: bool,
    pub holds_lease: bool,
    pub is_durable: bool,
    pub notes: Vec<Note>,
    pub machines: BTreeMap<Arc<str>, Machine>,
    pub api_up: bool,
    /// What comes of the next requests, and whether they count all the same.
    pub replies: VecDeque<(Reply, bool)>,
    pub no_capacity: bool,
    /// What the provider says to the next request, in place of one word.
    pub detail: Option<String>,
    /// On the disk.
    pub journal: Vec<Record>,
    pub kept: BTreeMap<String, String>,
    pub budget: String,
    /// What the operator has to do, and what it brings back.
    orders: Vec<Order>,
    answers: Vec<Answer>,
    /// What was asked of the provider: node, verb, what carried it, when.
    pub asked: Vec<(Arc<str>, Verb, Fence, Mono)>,
    pub looks: usize,
    pub confirms: usize,
    pub forgotten: Vec<String>,
    pub edges: Vec<(Mono, String)>,
    pub defects: Vec<String>,
    boots: u32,
    seen_at: Mono,
}

pub fn policy() -> Policy {
    Policy {
        instance: "a1".into(),
        mode: Mode::Active,
        paused: false,
        machines: Bounds {
            max_in_flight: 1,
            max_per_domain: 1,
            max_per_hour: 3,
            max_per_day: 10,
            max_per_target: 10,
            min_healthy: 51,
        },
        others: BTreeMap::new(),
        max_attempts: 3,
        poll: Duration::from_secs(10),
        cooldown: HOUR,
        references: Vec::new(),
    }
}

pub fn node(name: &str) -> Node {
    Node {
        cause: Cause::Heartbeat,
        kind: &NODE,
        key: NODE.key(name),
        name: Arc::from(name),
        domain: None,
        evidence: vec![SignalKey::new(&format!("probe/{name}"))],
        heartbeat_only: false,
        when_stopped: WhenStopped::Tell,
        ladder: vec![Arc::new(STOP_START)],
        starts: Some(Arc::new(START)),
        times: Times { after: MINUTE * 5, boot_grace: MINUTE * 10, attempts_reset_after: HOUR },
        repairable: true,
        machine: Some(("cloud", Arc::from(format!("machine-of-{name}")))),
    }
}

impl World {
    /// `count` nodes n1, n2 …, all seen alive for long.
    pub fn of(count: usize) -> World {
        let nodes = (1..=count).map(|n| node(&format!("n{n}"))).collect();
        let mut world = World::with(policy(), nodes);
        for n in 1..=count {
            world.heartbeat_returns(&format!("n{n}"), "boot-0");
            world.evidence(&format!("probe/n{n}"), State::Ok);
        }
        world.time_passes(MINUTE * 10);
        world
    }

    pub fn with(policy: Policy, nodes: Vec<Node>) -> World {
        let mono = Mono(86_400_000);
        let machine = |node: &Node| (Arc::clone(&node.name), Machine { life: Power::Running, version: 1, heals: true });
        World {
            fleet: Fleet::new(policy.clone(), nodes.clone()),
            machines: nodes.iter().map(machine).collect(),
            policy,
            nodes,
            now: Now { wall: Wall(1_767_225_600_000), mono, awake: mono },
            fresh_since: mono,
            beats: BTreeMap::new(),
            sees_consul: true,
            evidence: BTreeMap::new(),
            recovering: BTreeSet::new(),
            silenced: BTreeSet::new(),
            probes: true,
            holds_lease: true,
            is_durable: true,
            notes: Vec::new(),
            api_up: true,
            replies: VecDeque::new(),
            no_capacity: false,
            detail: None,
            journal: Vec::new(),
            kept: BTreeMap::new(),
            budget: serde_json::to_string(&Budget::default()).unwrap(),
            orders: Vec::new(),
            answers: Vec::new(),
            asked: Vec::new(),
            looks: 0,
            confirms: 0,
            forgotten: Vec::new(),
            edges: Vec::new(),
            defects: Vec::new(),
            boots: 0,
            seen_at: mono,
        }
    }

    pub fn heartbeat_dies(&mut self, name: &str) {
        self.beats.remove(name);
        self.evidence(&format!("probe/{name}"), State::Firing);
    }

    pub fn heartbeat_returns(&mut self, name: &str, boot: &str) {
        let beat = Beat {
            life: Life::Alive,
            session: Some(Arc::from(format!("s-{boot}"))),
            boot: Some(Arc::from(boot)),
            planned: None,
        };
        self.beats.insert(Arc::from(name), beat);
        self.evidence(&format!("probe/{name}"), State::Ok);
    }

    pub fn evidence(&mut self, key: &str, state: State) {
        self.evidence.insert(key.to_string(), state);
    }

    pub fn machine(&mut self, name: &str) -> &mut Machine {
        self.machines.get_mut(name).unwrap()
    }

    pub fn life(&self, name: &str) -> Power {
        self.machines[name].life
    }

    pub fn reload(&mut self) {
        self.fleet.configure(self.policy.clone(), self.nodes.clone());
    }

    /// The watchdog dies and comes back; on another boot of its own machine when `reboot`. Only what is on the disk
    /// is left.
    pub fn restart(&mut self, reboot: bool) {
        if reboot {
            self.now.mono = Mono(60_000);
            self.seen_at = self.now.mono;
        }
        (self.orders, self.answers) = (Vec::new(), Vec::new());
        self.fresh_since = self.now.mono;
        let open = fold(&self.journal);
        let mut closed: BTreeSet<String> = self.journal.iter().map(|record| record.saga.clone()).collect();
        closed.retain(|id| open.iter().all(|told| told.id != *id));
        let targets = self
            .kept
            .iter()
            .map(|(name, text)| (kind::from_disk(name.clone()), serde_json::from_str::<Kept>(text).unwrap()));
        let budget = serde_json::from_str(&self.budget).unwrap();
        let restored = Restored { targets: targets.collect(), open, closed, budget, ..Restored::default() };
        self.fleet = Fleet::new(self.policy.clone(), self.nodes.clone());
        self.fleet.restore(restored, self.now, !reboot);
    }

    /// The state file is lost and there is none any more.
    pub fn state_file_lost(&mut self) {
        self.is_durable = false;
        self.journal.clear();
        self.kept.clear();
    }

    pub fn time_passes(&mut self, span: Duration) {
        let end = self.now.mono.plus(span);
        while self.now.mono < end {
            self.clock_goes_on(TICK);
            self.pass();
        }
    }

    pub fn clock_goes_on(&mut self, span: Duration) {
        self.now.wall = self.now.wall.plus(span);
        self.now.mono = self.now.mono.plus(span);
    }

    /// Passes until `done`, at most for `limit`.
    pub fn until(&mut self, limit: Duration, done: impl Fn(&World) -> bool) -> Duration {
        let began = self.now.mono;
        while !done(self) {
            assert!(self.now.mono.since(began) < limit, "not within {limit:?}\n{}", self.story());
            self.time_passes(TICK);
        }
        self.now.mono.since(began)
    }

    /// The provider's side of one pass, the core's, the disk's, and the operator's.
    pub fn pass(&mut self) -> Plan {
        self.machines_go_on();
        if self.probes {
            self.seen_at = self.now.mono;
        }
        let beats = Heartbeats { at: self.now.mono, nodes: Arc::new(self.beats.clone()) };
        let (evidence, recovering, seen_at) = (&self.evidence, &self.recovering, self.seen_at);
        let look = |key: &SignalKey| {
            let state = *evidence.get(key.as_str())?;
            let is_bad = state == State::Firing && !recovering.contains(key.as_str());
            Some(Looked { state, is_bad, seen_at: Some(seen_at), incident: None })
        };
        let silenced = |key: &SignalKey| self.silenced.contains(key.as_str());
        let input = Input {
            silenced: &silenced,
            beats: self.sees_consul.then_some(&beats),
            fresh_since: self.fresh_since,
            look: &look,
            holds_lease: self.holds_lease,
            notes: &self.notes,
            is_durable: self.is_durable,
            answers: std::mem::take(&mut self.answers),
        };
        let plan = self.fleet.tick(self.now, input);
        self.keep(&plan);
        self.orders.extend(plan.orders.iter().cloned());
        self.operate();
        plan
    }

    fn keep(&mut self, plan: &Plan) {
        self.journal.extend(plan.records.iter().cloned());
        for name in &plan.changed {
            if let Some(kept) = self.fleet.kept(name) {
                self.kept.insert(kind::on_disk(name).to_string(), serde_json::to_string(kept).unwrap());
            }
        }
        plan.forgotten.iter().for_each(|name| drop(self.kept.remove(kind::on_disk(name))));
        if plan.spent {
            self.budget = serde_json::to_string(self.fleet.budget()).unwrap();
        }
        let said = |edge: &watchdog::core::edge::Edge| {
            (self.now.mono, format!("{}: {} [{}]", edge.key, edge.fact, edge.reason))
        };
        self.edges.extend(plan.edges.iter().map(said));
        let defects = plan.lines.iter().filter(|line| line.kind == "defect").map(|line| line.text.to_string());
        self.defects.extend(defects);
        assert!(self.defects.is_empty(), "{:?}", self.defects);
    }

    fn machines_go_on(&mut self) {
        let mut booted = Vec::new();
        for (name, machine) in &mut self.machines {
            match machine.life {
                Power::Stopping => machine.becomes(Power::Stopped),
                Power::Starting => {
                    machine.becomes(Power::Running);
                    if machine.heals {
                        booted.push(name.to_string());
                    }
                }
                _ => {}
            }
        }
        for name in booted {
            self.boots += 1;
            let boot = format!("boot-{}", self.boots);
            self.heartbeat_returns(&name, &boot);
        }
    }

    fn operate(&mut self) {
        for order in std::mem::take(&mut self.orders) {
            self.confirms += usize::from(order.task == Task::Confirm);
            let seen = match self.machines.get(kind::name(&order.target)).filter(|_| self.api_up) {
                Some(machine) => Ok(Seen::new(machine.life, format!("v{}", machine.version))),
                None => Err("the API does not answer".to_string()),
            };
            let result = match order.task {
                Task::Confirm => Outcome::Confirmed {
                    beats: if self.sees_consul {
                        Ok(Heartbeats { at: self.now.mono, nodes: Arc::new(self.beats.clone()) })
                    } else {
                        Err("no leader".into())
                    },
                    seen,
                },
                Task::Look => {
                    self.looks += 1;
                    Outcome::Seen(seen)
                }
                Task::Ask { step, fence, saga, .. } => self.request(&order.target, step.verb, fence, &saga),
                Task::Forget { saga } => {
                    self.forgotten.push(saga);
                    continue;
                }
            };
            self.answers.push(Answer { id: order.id, target: order.target, result });
        }
    }

    fn request(&mut self, name: &Arc<str>, verb: Verb, fence: Fence, saga: &str) -> Outcome {
        // B5: what leaves was written down before.
        let last = self.journal.iter().rfind(|record| record.saga == saga).map(|record| record.event.clone());
        assert_eq!(last, Some(Event::Intent { verb, fence: fence.clone() }), "intent before request");
        self.asked.push((Arc::clone(name), verb, fence.clone(), self.now.mono));
        let (reply, counts) = match self.replies.pop_front() {
            _ if !self.api_up => (Reply::NotSent, false),
            Some(scripted) => scripted,
            None if verb == Verb::START && self.no_capacity => (Reply::NoCapacity, false),
            None => (Reply::Accepted, true),
        };
        let machine = self.machines.get_mut(kind::name(name)).unwrap();
        let on = if verb == Verb::START { Power::Stopped } else { Power::Running };
        if counts && (fence.version != Some(format!("v{}", machine.version)) || machine.life != on) {
            return Outcome::Replied(Reply::Changed, "412".into());
        }
        if counts {
            machine.becomes(if verb == Verb::START { Power::Starting } else { Power::Stopping });
            if verb != Verb::START {
                self.beats.remove(kind::name(name));
            }
        }
        Outcome::Replied(reply, self.detail.take().unwrap_or_else(|| format!("{reply:?}")))
    }

    pub fn verbs(&self) -> Vec<Verb> {
        self.asked.iter().map(|(_, verb, _, _)| *verb).collect()
    }

    pub fn said(&self, words: &str) -> usize {
        self.edges.iter().filter(|(_, said)| said.contains(words)).count()
    }

    pub fn kept_of(&self, name: &str) -> Kept {
        self.fleet.kept(&NODE.key(name)).unwrap().clone()
    }

    /// Everything that was said, and then the journal.
    pub fn story(&self) -> String {
        let edges = self.edges.iter().map(|(_, said)| format!("  {said}\n"));
        edges
            .chain(self.journal.iter().map(|record| format!("  {} {}\n", record.number, record.event.told(Deed::Done))))
            .collect()
    }
}
