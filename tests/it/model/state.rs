//! The modelled world: one machine, three agents, the note in Consul, late requests, and every move.

use watchdog::core::recovery::power::{Lifecycle, Verb};
use watchdog::core::recovery::saga::{End, Stage};

use super::real::{Core, Id, Step, version};

/// Which safeguards are there, and how much may go wrong.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub journal: bool,
    pub resume: bool,
    pub note: bool,
    pub fence: bool,
    pub start_only: bool,
    /// Agents that live.
    pub agents: usize,
    /// Repairs decided, by all agents together.
    pub decisions: u8,
    /// The same STOP is sent so often at most.
    pub sends: u32,
    pub crashes: u8,
    pub faults: u8,
    /// An agent that never comes back, or a Consul that forgets its notes: one or the other.
    pub losses: u8,
    /// The operator stops the machine once, and may start it.
    pub operator: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Status {
    #[default]
    Up,
    Down,
    Dead,
}

/// An agent. While it is up its saga is in memory and in the journal, while it is down only there. Asking while
/// up: its request is on its way and it waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Agent {
    pub status: Status,
    pub saga: Id,
    pub decision: u8,
    /// Its repair was begun by another.
    pub adopted: bool,
    /// Repairs that it knows to be over, a bit each.
    pub closed: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DownBy {
    Nobody,
    Us,
    Operator,
}

/// A request on its way that nobody waits for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Late {
    pub verb: Verb,
    pub version: u8,
    pub decision: u8,
}

pub const LATE: usize = 2;
pub const AGENTS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub fenced: bool,
    pub life: Lifecycle,
    pub version: u8,
    pub down_by: DownBy,
    /// The operator stopped it while no repair of ours was open anywhere.
    pub innocent: bool,
    pub heartbeat: bool,
    pub agents: [Agent; AGENTS],
    /// Notes in Consul, a bit for each decision.
    pub notes: u8,
    /// The version that each decision was made on.
    pub decided_on: [u8; 2],
    /// Repairs that some agent has given up, a bit each.
    pub expired: u8,
    /// Decisions whose STOP took effect, a bit each.
    pub stopped: u8,
    pub late: [Option<Late>; LATE],
    pub decisions: u8,
    pub crashes: u8,
    pub faults: u8,
    pub losses: u8,
    pub operator: u8,
}

/// What happens, for the story and to tell help from harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Decide,
    CrashBeforeNote,
    Again,
    AskStart,
    ForcedStop,
    Look,
    Close(End),
    Adopt,
    Forget,
    Answered,
    HeldBack,
    Refused,
    LostAnswer,
    ServerError,
    TimedOut,
    LateCounts,
    LateLost,
    Crash,
    CrashInFlight,
    Restart,
    Die,
    DieInFlight,
    Wipe,
    MachineGoesOn,
    HeartbeatBack,
    OperatorStops,
    OperatorStarts,
}

impl Move {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Move::Decide => "an agent decides, writes the intent and the note, and sends STOP",
            Move::CrashBeforeNote => "an agent decides, writes the intent, and crashes before the note",
            Move::Again => "its agent sends the same STOP again",
            Move::AskStart => "an agent sees STOPPED and sends START",
            Move::ForcedStop => "an agent sends a new STOP though it owes a START",
            Move::Look => "an agent looks at the machine",
            Move::Close(End::Expired) => "an agent gives the repair up: it runs, and no request can count any more",
            Move::Close(_) => "an agent ends the repair",
            Move::Adopt => "an agent takes the repair over by its note",
            Move::Forget => "the note of a repair that is over is taken away",
            Move::Answered => "the request arrives and is answered",
            Move::HeldBack => "the request is held back: the lease is lost",
            Move::Refused => "the request is refused",
            Move::LostAnswer => "the request counts and its answer is lost",
            Move::ServerError => "a server error, without effect",
            Move::TimedOut => "no answer; the request is still on its way",
            Move::LateCounts => "a late request counts",
            Move::LateLost => "a late request is lost",
            Move::Crash => "an agent crashes; nothing of it is on its way",
            Move::CrashInFlight => "an agent crashes with its request on its way",
            Move::Restart => "an agent comes back",
            Move::Die => "an agent is gone for good",
            Move::DieInFlight => "an agent is gone for good with its request on its way",
            Move::Wipe => "Consul loses its notes",
            Move::MachineGoesOn => "the machine gets where it was going",
            Move::HeartbeatBack => "the heartbeat is back",
            Move::OperatorStops => "the operator stops the machine",
            Move::OperatorStarts => "the operator starts the machine",
        }
    }

    /// True for what a fair world does in the end, with an API that answers and nothing new going wrong.
    pub fn helps(self) -> bool {
        use Move as M;
        matches!(
            self,
            M::AskStart | M::Look | M::Close(_) | M::Adopt | M::Forget | M::Answered | M::LateCounts | M::LateLost
        ) || matches!(self, M::Restart | M::MachineGoesOn)
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// The machine is off by our doing and nobody owes it a START, or nothing leads back to RUNNING.
    B1,
    /// A second STOP took effect for one decision.
    B2,
    /// A request took effect on another version than it was decided on.
    B7,
    /// Something else than START was asked after a STOP.
    B8,
    /// A machine that the operator stopped was started.
    F72,
}

impl State {
    pub fn first(rules: Rules) -> State {
        let mut agents = [Agent { status: Status::Dead, ..Agent::default() }; AGENTS];
        agents.iter_mut().take(rules.agents).for_each(|agent| agent.status = Status::Up);
        State {
            fenced: rules.fence,
            life: Lifecycle::Running,
            version: 0,
            down_by: DownBy::Nobody,
            innocent: false,
            heartbeat: false,
            agents,
            notes: 0,
            decided_on: [0; 2],
            expired: 0,
            stopped: 0,
            late: [None; LATE],
            decisions: 0,
            crashes: 0,
            faults: 0,
            losses: 0,
            operator: 0,
        }
    }

    /// Agents are alike: the order in which they are written down says nothing.
    pub fn sorted(mut self) -> State {
        // Under the fence a request for a version that is past counts never, and versions never come back.
        for late in &mut self.late {
            *late = late.filter(|late| !self.fenced || late.version == self.version);
        }
        self.agents.sort_unstable();
        self.late.sort_unstable();
        self
    }

    fn becomes(&mut self, life: Lifecycle) {
        self.life = life;
        self.version += 1;
        if life == Lifecycle::Running {
            self.down_by = DownBy::Nobody;
            self.innocent = false;
        }
    }

    /// The provider gets a request. True when it counts.
    fn arrives(&mut self, request: Late, rules: Rules, broken: &mut Vec<Broken>) -> bool {
        let on = if request.verb == Verb::Stop { Lifecycle::Running } else { Lifecycle::Stopped };
        if self.life != on || (rules.fence && self.version != request.version) {
            return false;
        }
        if self.version != request.version {
            broken.push(Broken::B7);
        }
        if request.verb == Verb::Start {
            self.becomes(Lifecycle::Starting);
            return true;
        }
        let bit = 1 << request.decision;
        if self.stopped & bit != 0 {
            broken.push(Broken::B2);
        }
        self.stopped |= bit;
        self.heartbeat = false;
        self.becomes(Lifecycle::Stopping);
        self.down_by = DownBy::Us;
        true
    }

    fn with(mut self, at: usize, agent: Agent) -> State {
        self.agents[at] = agent;
        self
    }

    /// What an agent that waits for an answer has on its way.
    fn request(&self, at: usize, core: &Core) -> Option<Late> {
        let agent = self.agents[at];
        let saga = core.saga(agent.saga);
        let verb = saga.asked().filter(|_| agent.saga != 0 && agent.status == Status::Up)?;
        Some(Late { verb, version: version(&saga.fence.etag), decision: agent.decision })
    }

    /// True while the machine is off by our doing and somebody knows that it is owed a START.
    pub fn is_owed(&self, core: &Core) -> bool {
        let living = || self.agents.iter().filter(|agent| agent.status != Status::Dead);
        let open = living().any(|agent| agent.saga != 0 && core.saga(agent.saga).owes_start());
        let noted = (0..self.decisions)
            .any(|decision| self.notes & (1 << decision) != 0 && living().any(|a| a.closed & (1 << decision) == 0));
        open || noted
    }

    /// True when the machine is off by our doing.
    pub fn is_down_by_us(&self) -> bool {
        self.down_by == DownBy::Us && matches!(self.life, Lifecycle::Stopping | Lifecycle::Stopped)
    }
}

/// One step of the world.
pub struct Taken {
    pub by: Move,
    pub to: State,
    pub broken: Vec<Broken>,
}

/// Everything that can happen next.
pub fn moves(state: &State, rules: Rules, core: &mut Core) -> Vec<Taken> {
    let mut all = Vec::with_capacity(24);
    around(state, rules, &mut all);
    for at in 0..AGENTS {
        match state.agents[at].status {
            Status::Up => {
                mishaps(state, at, rules, core, &mut all);
                match state.request(at, core) {
                    Some(request) => answers(state, at, request, rules, core, &mut all),
                    None if state.agents[at].saga == 0 => begins(state, at, rules, core, &mut all),
                    None => goes_on(state, at, rules, core, &mut all),
                }
            }
            Status::Down => {
                mishaps(state, at, rules, core, &mut all);
                restart(state, at, rules, core, &mut all);
            }
            Status::Dead => {}
        }
    }
    all
}

fn add(all: &mut Vec<Taken>, by: Move, to: State) {
    all.push(Taken { by, to: to.sorted(), broken: Vec::new() });
}

/// What happens without the agents: the machine, the network, the operator, Consul.
fn around(state: &State, rules: Rules, all: &mut Vec<Taken>) {
    let mut change = |by: Move, change: &dyn Fn(&mut State)| {
        let mut to = *state;
        change(&mut to);
        add(all, by, to);
    };
    match state.life {
        Lifecycle::Stopping => change(Move::MachineGoesOn, &|to| to.becomes(Lifecycle::Stopped)),
        Lifecycle::Starting => change(Move::MachineGoesOn, &|to| to.becomes(Lifecycle::Running)),
        Lifecycle::Running if !state.heartbeat => change(Move::HeartbeatBack, &|to| to.heartbeat = true),
        _ => {}
    }
    if rules.operator && state.operator == 0 && state.life == Lifecycle::Running {
        let is_open = state.agents.iter().any(|agent| agent.saga != 0);
        let innocent = !is_open && state.notes == 0 && state.late.iter().all(Option::is_none);
        change(Move::OperatorStops, &|to| {
            to.becomes(Lifecycle::Stopping);
            (to.operator, to.down_by, to.innocent, to.heartbeat) = (1, DownBy::Operator, innocent, false);
        });
    }
    if state.operator == 1 && state.life == Lifecycle::Stopped {
        change(Move::OperatorStarts, &|to| {
            to.becomes(Lifecycle::Starting);
            to.operator = 2;
        });
    }
    if state.notes != 0 && state.losses < rules.losses {
        change(Move::Wipe, &|to| (to.notes, to.losses) = (0, to.losses + 1));
    }
    for (at, late) in state.late.iter().enumerate() {
        let Some(request) = *late else { continue };
        let mut to = *state;
        to.late[at] = None;
        add(all, Move::LateLost, to);
        let mut broken = Vec::new();
        if to.arrives(request, rules, &mut broken) {
            all.push(Taken { by: Move::LateCounts, to: to.sorted(), broken });
        }
    }
}

/// An agent with nothing to do decides on a repair, or takes one over. It may do so at any time: a lease can end at
/// any time, and whoever had it may believe for a while that it still has; the lease is no safeguard here.
fn begins(state: &State, at: usize, rules: Rules, core: &mut Core, all: &mut Vec<Taken>) {
    let agent = state.agents[at];
    if state.life == Lifecycle::Running && !state.heartbeat && state.decisions < rules.decisions {
        let decision = state.decisions;
        let opened = core.step(0, Step::Open).unwrap();
        let intent = Step::Intent { verb: Verb::Stop, version: state.version, decision };
        let saga = core.step(opened, intent).unwrap();
        let mut to = state.with(at, Agent { saga, decision, ..agent });
        to.decisions += 1;
        to.decided_on[usize::from(decision)] = state.version;
        if state.crashes < rules.crashes {
            let down = if rules.journal { Agent { status: Status::Down, ..to.agents[at] } } else { gone(Status::Down) };
            let crashed = State { crashes: to.crashes + 1, ..to.with(at, down) };
            add(all, Move::CrashBeforeNote, crashed);
        }
        note(&mut to, decision, rules);
        add(all, Move::Decide, to);
    }
    for decision in 0..state.decisions {
        let bit = 1 << decision;
        if state.notes & bit != 0 && agent.closed & bit == 0 {
            let step = Step::Adopt { version: state.decided_on[usize::from(decision)], decision };
            let saga = core.step(0, step).unwrap();
            add(all, Move::Adopt, state.with(at, Agent { saga, decision, adopted: true, ..agent }));
        }
        if state.notes & bit != 0 && agent.closed & bit != 0 {
            add(all, Move::Forget, State { notes: state.notes & !bit, ..*state });
        }
    }
}

fn note(to: &mut State, decision: u8, rules: Rules) {
    if rules.note {
        to.notes |= 1 << decision;
    }
}

/// An agent whose memory is gone.
fn gone(status: Status) -> Agent {
    Agent { status, ..Agent::default() }
}

/// An agent with a repair looks, asks or ends, whatever the saga allows and `pace` could find due.
fn goes_on(state: &State, at: usize, rules: Rules, core: &mut Core, all: &mut Vec<Taken>) {
    let agent = state.agents[at];
    let (id, decision) = (agent.saga, agent.decision);
    let mut go = |by: Move, saga: Id, core: &Core| {
        let is_over = !core.saga(saga).is_open();
        let next = if is_over {
            Agent { closed: agent.closed | 1 << decision, ..Agent::default() }
        } else {
            Agent { saga, ..agent }
        };
        let mut to = state.with(at, next);
        if matches!(by, Move::Again | Move::ForcedStop) {
            note(&mut to, decision, rules);
        }
        if by == Move::Close(End::Expired) {
            to.expired |= 1 << decision;
        }
        let mut broken = Vec::new();
        let (was, now) = (core.saga(id), core.saga(saga));
        if now.asked().is_some_and(Verb::takes_down) && was.stage != Stage::Deciding && was.fence != now.fence {
            broken.push(Broken::B8);
        }
        if by == Move::AskStart && state.innocent {
            broken.push(Broken::F72);
        }
        all.push(Taken { by, to: to.sorted(), broken });
    };
    // What is not acted on at once is stale by the time that it could be, and forgotten; `Resumed` forgets just that.
    let look = Step::Seen { life: state.life, version: state.version };
    let Some(sighted) = core.step(id, look) else { return };
    let led = core.step(sighted, Step::Resumed).unwrap_or(sighted);
    if led != id {
        go(Move::Look, led, core);
    }
    let start = Step::Intent { verb: Verb::Start, version: state.version, decision };
    if let Some(next) = core.step(sighted, start) {
        go(Move::AskStart, next, core);
    }
    let asked_on = version(&core.saga(id).fence.etag.clone());
    let again = Step::Intent { verb: Verb::Stop, version: asked_on, decision };
    // Sent again by its own agent only, and so soon that nobody has given it up yet (`AGAIN_WITHIN`).
    if core.saga(id).sends < rules.sends
        && !agent.adopted
        && state.expired & (1 << decision) == 0
        && let Some(next) = core.step(sighted, again)
    {
        go(Move::Again, next, core);
    }
    if !rules.start_only && state.life == Lifecycle::Running && state.version != asked_on {
        let next = core.force(sighted, Verb::Stop, state.version, decision);
        go(Move::ForcedStop, next, core);
    }
    // A request of the repair on its way, of whichever agent, has had its time before the repair is given up.
    let on_its_way = state.late.iter().flatten().any(|late| late.decision == decision)
        || (0..AGENTS).any(|other| state.request(other, core).is_some_and(|request| request.decision == decision));
    for end in [End::NoEffect, End::Expired, End::Up] {
        if (end == End::Expired && on_its_way) || (end == End::NoEffect && core.saga(id).unsure) {
            continue;
        }
        if let Some(next) = core.step(sighted, Step::Close(end)) {
            go(Move::Close(end), next, core);
        }
    }
}

/// What can come of a request that an agent waits for.
fn answers(state: &State, at: usize, request: Late, rules: Rules, core: &mut Core, all: &mut Vec<Taken>) {
    let agent = state.agents[at];
    let mut to_saga = |step: Step| core.step(agent.saga, step).unwrap();
    let (accepted, unknown, refused) = (to_saga(Step::Accepted), to_saga(Step::Unknown), to_saga(Step::Refused));
    let replied = |saga: Id| state.with(at, Agent { saga, ..agent });
    let mut broken = Vec::new();
    let mut counted = replied(accepted);
    let counts = counted.arrives(request, rules, &mut broken);
    if counts {
        all.push(Taken { by: Move::Answered, to: counted.sorted(), broken: broken.clone() });
    } else {
        add(all, Move::Answered, replied(refused));
    }
    if request.verb.takes_down() {
        add(all, Move::HeldBack, replied(refused));
    }
    if state.faults == rules.faults {
        return;
    }
    let faults = state.faults + 1;
    if counts {
        let lost = State { faults, ..counted.with(at, Agent { saga: unknown, ..agent }) };
        all.push(Taken { by: Move::LostAnswer, to: lost.sorted(), broken });
        add(all, Move::Refused, State { faults, ..replied(refused) });
    }
    add(all, Move::ServerError, State { faults, ..replied(unknown) });
    if let Some(free) = state.late.iter().position(Option::is_none) {
        let mut to = State { faults, ..replied(unknown) };
        to.late[free] = Some(request);
        add(all, Move::TimedOut, to);
    }
}

/// An agent crashes, or is gone for good. A request that it had on its way may have left or not.
fn mishaps(state: &State, at: usize, rules: Rules, core: &Core, all: &mut Vec<Taken>) {
    let agent = state.agents[at];
    let request = state.request(at, core);
    let free = state.late.iter().position(Option::is_none);
    let mut add_both = |still: Move, flying: Move, to: State| {
        add(all, still, to);
        if let (Some(request), Some(free)) = (request, free) {
            let mut to = to;
            to.late[free] = Some(request);
            add(all, flying, to);
        }
    };
    if agent.status == Status::Up && state.crashes < rules.crashes {
        let down = if rules.journal { Agent { status: Status::Down, ..agent } } else { gone(Status::Down) };
        let to = State { crashes: state.crashes + 1, ..state.with(at, down) };
        add_both(Move::Crash, Move::CrashInFlight, to);
    }
    if state.losses < rules.losses {
        let to = State { losses: state.losses + 1, ..state.with(at, gone(Status::Dead)) };
        add_both(Move::Die, Move::DieInFlight, to);
    }
}

/// An agent comes back with what its journal tells.
fn restart(state: &State, at: usize, rules: Rules, core: &mut Core, all: &mut Vec<Taken>) {
    let agent = state.agents[at];
    let saga = match agent.saga {
        0 => 0,
        _ if !rules.resume => 0,
        open => core.step(open, Step::Resumed).unwrap(),
    };
    let back = if saga == 0 {
        Agent { closed: agent.closed, ..Agent::default() }
    } else {
        Agent { status: Status::Up, saga, ..agent }
    };
    add(all, Move::Restart, state.with(at, back));
}
