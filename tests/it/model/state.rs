//! The modelled world: one machine, three agents, the note in Consul, late requests.

use watchdog::core::recovery::procedure::Procedure;
use watchdog::core::recovery::saga::End;
use watchdog::core::recovery::subject::{State as Life, Verb};

use super::real::{Core, Id, PAST, PRESENT, takes_down, version};

/// As often as it likes: not counted, so it makes no states of its own.
pub const ANY: u8 = u8::MAX;

/// Which safeguards are there, and how much may go wrong.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub journal: bool,
    pub resume: bool,
    pub note: bool,
    pub fence: bool,
    pub start_only: bool,
    /// What is asked first.
    pub way: &'static Procedure,
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
    /// The operator stops the machine and starts it.
    pub operator: u8,
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
    pub life: Life,
    /// It is off by a RESET or SOFTRESET, and may come on again by itself.
    pub resetting: bool,
    pub down_by: DownBy,
    /// The operator stopped it while no repair of ours was open anywhere.
    pub innocent: bool,
    pub heartbeat: bool,
    pub agents: [Agent; AGENTS],
    /// Notes in Consul, a bit for each decision.
    pub notes: u8,
    /// Whether the version that each decision was made on is the machine's present one or past.
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

impl Rules {
    /// What is asked first.
    pub fn first(&self) -> Verb {
        self.way.steps[0].verb
    }
}

impl State {
    pub fn first(rules: Rules) -> State {
        let mut agents = [Agent { status: Status::Dead, ..Agent::default() }; AGENTS];
        agents.iter_mut().take(rules.agents).for_each(|agent| agent.status = Status::Up);
        State {
            fenced: rules.fence,
            life: Life::Running,
            resetting: false,
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
        if self.fenced {
            // A request for a version that is past counts never, and of two that are the same only one can.
            self.late = self.late.map(|late| late.filter(|late| late.version == PRESENT));
            self.late.sort_unstable();
            for at in 1..LATE {
                if self.late[at] == self.late[at - 1] {
                    self.late[at - 1] = None;
                }
            }
        }
        self.agents.sort_unstable();
        self.late.sort_unstable();
        self
    }

    /// The machine is in another state, and so in another version.
    pub fn becomes(&mut self, life: Life, core: &mut Core) {
        self.life = life;
        for agent in &mut self.agents {
            agent.saga = core.aged(agent.saga);
        }
        self.late.iter_mut().flatten().for_each(|late| late.version = PAST);
        self.decided_on = [PAST; 2];
        self.resetting &= life == Life::Stopping;
        if life == Life::Running {
            self.down_by = DownBy::Nobody;
            self.innocent = false;
        }
    }

    /// The provider gets a request. True when it counts.
    pub fn arrives(&mut self, request: Late, rules: Rules, core: &mut Core, broken: &mut Vec<Broken>) -> bool {
        let on = if takes_down(request.verb) { Life::Running } else { Life::Stopped };
        if self.life != on || (rules.fence && request.version != PRESENT) {
            return false;
        }
        if request.version != PRESENT {
            broken.push(Broken::B7);
        }
        if request.verb == Verb::START {
            self.becomes(Life::Starting, core);
            return true;
        }
        let bit = 1 << request.decision;
        if self.stopped & bit != 0 {
            broken.push(Broken::B2);
        }
        self.stopped |= bit;
        self.heartbeat = false;
        self.becomes(Life::Stopping, core);
        self.resetting = request.verb != Verb::STOP;
        self.down_by = DownBy::Us;
        true
    }

    pub fn with(mut self, at: usize, agent: Agent) -> State {
        self.agents[at] = agent;
        self
    }

    /// What an agent that waits for an answer has on its way.
    pub fn request(&self, at: usize, core: &Core) -> Option<Late> {
        let agent = self.agents[at];
        let saga = core.saga(agent.saga);
        let step = saga.asked().filter(|_| agent.saga != 0 && agent.status == Status::Up)?;
        Some(Late { verb: step.verb, version: version(&saga.fence), decision: agent.decision })
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
        self.down_by == DownBy::Us && matches!(self.life, Life::Stopping | Life::Stopped)
    }
}
