//! Every move of the modelled world: the machine, the network, the operator, and each agent by what
//! the real saga allows.

use watchdog::core::recovery::procedure::Step as Asked;
use watchdog::core::recovery::saga::{End, Stage};
use watchdog::core::recovery::subject::{State as Life, Verb};

use super::real::{Core, Id, PRESENT, Step, takes_down, version};
use super::state::{AGENTS, ANY, Agent, Broken, DownBy, Late, Move, Rules, State, Status};

/// One step of the world.
pub struct Taken {
    pub by: Move,
    pub to: State,
    pub broken: Vec<Broken>,
}

/// Everything that can happen next.
pub fn moves(state: &State, rules: Rules, core: &mut Core) -> Vec<Taken> {
    let mut all = Vec::with_capacity(24);
    around(state, rules, core, &mut all);
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

/// One more of what may happen `limit` times; `None` when that is reached.
fn spend(spent: u8, limit: u8) -> Option<u8> {
    if limit == ANY { Some(spent) } else { (spent < limit).then_some(spent + 1) }
}

/// What happens without the agents: the machine, the network, the operator, Consul.
fn around(state: &State, rules: Rules, core: &mut Core, all: &mut Vec<Taken>) {
    let mut becomes = |by: Move, life: Life| {
        let mut to = *state;
        to.becomes(life, core);
        add(all, by, to);
    };
    match state.life {
        Life::Stopping => {
            becomes(Move::MachineGoesOn, Life::Stopped);
            if state.resetting {
                becomes(Move::MachineGoesOn, Life::Starting);
            }
        }
        Life::Starting => becomes(Move::MachineGoesOn, Life::Running),
        _ => {}
    }
    if state.life == Life::Running && !state.heartbeat {
        add(all, Move::HeartbeatBack, State { heartbeat: true, ..*state });
    }
    operator(state, rules, core, all);
    if let (true, Some(losses)) = (state.notes != 0, spend(state.losses, rules.losses)) {
        add(all, Move::Wipe, State { notes: 0, losses, ..*state });
    }
    for (at, late) in state.late.iter().enumerate() {
        let Some(request) = *late else { continue };
        let mut to = *state;
        to.late[at] = None;
        add(all, Move::LateLost, to);
        let mut broken = Vec::new();
        if to.arrives(request, rules, core, &mut broken) {
            all.push(Taken { by: Move::LateCounts, to: to.sorted(), broken });
        }
    }
}

/// Somebody else stops the machine and starts it, whatever we are about.
fn operator(state: &State, rules: Rules, core: &mut Core, all: &mut Vec<Taken>) {
    if state.life == Life::Running
        && let Some(operator) = spend(state.operator, rules.operator)
    {
        let is_open = state.agents.iter().any(|agent| agent.saga != 0);
        let innocent = !is_open && state.notes == 0 && state.late.iter().all(Option::is_none);
        let mut to = *state;
        to.becomes(Life::Stopping, core);
        add(all, Move::OperatorStops, State { operator, down_by: DownBy::Operator, innocent, heartbeat: false, ..to });
    }
    if state.life == Life::Stopped && rules.operator > 0 {
        let mut to = *state;
        to.becomes(Life::Starting, core);
        add(all, Move::OperatorStarts, to);
    }
}

/// An agent with nothing to do decides on a repair, or takes one over. It may do so at any time: a lease can end at
/// any time, and whoever had it may believe for a while that it still has; the lease is not a safeguard here.
fn begins(state: &State, at: usize, rules: Rules, core: &mut Core, all: &mut Vec<Taken>) {
    let agent = state.agents[at];
    if state.life == Life::Running && !state.heartbeat && state.decisions < rules.decisions {
        let decision = state.decisions;
        let opened = core.step(0, Step::Open(rules.way)).unwrap();
        let intent = Step::Intent { verb: rules.first(), version: PRESENT, decision };
        let saga = core.step(opened, intent).unwrap();
        let mut to = state.with(at, Agent { saga, decision, ..agent });
        to.decisions += 1;
        to.decided_on[usize::from(decision)] = PRESENT;
        if let Some(crashes) = spend(state.crashes, rules.crashes) {
            let down = if rules.journal { Agent { status: Status::Down, ..to.agents[at] } } else { gone(Status::Down) };
            let crashed = State { crashes, ..to.with(at, down) };
            add(all, Move::CrashBeforeNote, crashed);
        }
        note(&mut to, decision, rules);
        add(all, Move::Decide, to);
    }
    for decision in 0..state.decisions {
        let bit = 1 << decision;
        if state.notes & bit != 0 && agent.closed & bit == 0 {
            let (verb, version) = (rules.first(), state.decided_on[usize::from(decision)]);
            let step = Step::Adopt { verb, version, decision };
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
        if now.asked().is_some_and(Asked::disrupts) && was.stage != Stage::Decided && was.fence != now.fence {
            broken.push(Broken::B8);
        }
        if by == Move::AskStart && state.innocent {
            broken.push(Broken::F72);
        }
        all.push(Taken { by, to: to.sorted(), broken });
    };
    // What is not acted on at once is stale by the time that it could be, and forgotten; `Resumed` forgets just that.
    let Some(sighted) = core.step(id, Step::Seen(state.life)) else { return };
    let led = core.step(sighted, Step::Resumed).unwrap_or(sighted);
    if led != id {
        go(Move::Look, led, core);
    }
    let start = Step::Intent { verb: Verb::START, version: PRESENT, decision };
    if let Some(next) = core.step(sighted, start) {
        go(Move::AskStart, next, core);
    }
    let asked_on = version(&core.saga(id).fence);
    let again = Step::Intent { verb: rules.first(), version: asked_on, decision };
    // Sent again by its own agent only, and so soon that nobody has given it up yet (`AGAIN_WITHIN`).
    if core.saga(id).sends < rules.sends
        && !agent.adopted
        && state.expired & (1 << decision) == 0
        && let Some(next) = core.step(sighted, again)
    {
        go(Move::Again, next, core);
    }
    if !rules.start_only && state.life == Life::Running && asked_on != PRESENT {
        let next = core.force(sighted, rules.first(), PRESENT, decision);
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
    let counts = counted.arrives(request, rules, core, &mut broken);
    if counts {
        all.push(Taken { by: Move::Answered, to: counted.sorted(), broken: broken.clone() });
    } else {
        add(all, Move::Answered, replied(refused));
    }
    if takes_down(request.verb) {
        add(all, Move::HeldBack, replied(refused));
    }
    let Some(faults) = spend(state.faults, rules.faults) else { return };
    if counts {
        let mut lost = State { faults, ..replied(unknown) };
        lost.arrives(request, rules, core, &mut Vec::new());
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
    if let (Status::Up, Some(crashes)) = (agent.status, spend(state.crashes, rules.crashes)) {
        let down = if rules.journal { Agent { status: Status::Down, ..agent } } else { gone(Status::Down) };
        let to = State { crashes, ..state.with(at, down) };
        add_both(Move::Crash, Move::CrashInFlight, to);
    }
    if let Some(losses) = spend(state.losses, rules.losses) {
        let to = State { losses, ..state.with(at, gone(Status::Dead)) };
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
