//! The operator: carries out orders, one at a time, and brings back what came of each.
//!
//! Knows no policy and keeps no state of a repair: an order is one look or one request that was decided
//! and written down before. Immediately before a request that takes a machine down it makes sure that
//! this agent still holds the lease, and leaves a note for an agent after it; what cannot be made sure of
//! is not sent (B5, B7). START is sent either way: a machine that we took down is brought back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::consul::Consul;
use crate::clock::Clock;
use crate::core::recovery::kind;
use crate::core::recovery::legacy;
use crate::core::recovery::plan::{Answer, Note, Order, Outcome, Task};
use crate::core::recovery::procedure::{Guard, Procedure, Step};
use crate::core::recovery::subject::{Fence, Reply, Seen};
use crate::executor::Machines;
use crate::lease::Lease;
use crate::source::consul::{self, Where};
use crate::wake::{Wake, Waker};

/// Orders that may wait. One per target is usual; more than these would mean that nobody carries them out.
const QUEUE: usize = 4_096;

/// What the operator works with; replaced when the configuration is read again.
pub struct Tools {
    /// The machines.
    pub machines: Machines,
    /// Where the heartbeats are; `None` where there are none.
    pub heartbeats: Option<(Consul, Where)>,
    /// Who may take machines down.
    pub lease: Lease,
}

/// One request or look that was carried out, for traces and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The node.
    pub target: Arc<str>,
    /// What was done, one word.
    pub what: Cow<'static, str>,
    /// For which repair; empty for a look before one.
    pub saga: String,
    /// By the wall clock: from and to.
    pub span: (crate::core::time::Wall, crate::core::time::Wall),
    /// What went wrong, in words.
    pub error: Option<String>,
}

enum Message {
    Order(Order),
    Tools(Box<Tools>),
    Machines(Machines),
    End,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<Vec<Answer>>,
    done: Mutex<Vec<Done>>,
    /// Did each executor's provider answer the last time?
    reached: Mutex<BTreeMap<&'static str, bool>>,
}

/// The operator's thread and what goes to and from it.
pub struct Operator {
    orders: SyncSender<Message>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Operator {
    /// Starts the thread; `waker` is rung when something came back.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(tools: Tools, clock: Clock, waker: Waker) -> std::io::Result<Operator> {
        let (orders, inbox) = mpsc::sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let desk = Desk { inbox, tools, shared: Arc::clone(&shared), clock, waker };
        let thread = thread::Builder::new().name("operator".to_string()).spawn(move || desk.work())?;
        Ok(Operator { orders, shared, thread: Some(thread) })
    }

    /// Hands over an order. One that cannot be taken is answered at once as not sent.
    pub fn order(&self, order: Order) {
        if let Err(TrySendError::Full(Message::Order(order)) | TrySendError::Disconnected(Message::Order(order))) =
            self.orders.try_send(Message::Order(order))
        {
            self.refuse(&order, "the operator is busy");
        }
    }

    /// Answers an order without carrying it out.
    pub fn refuse(&self, order: &Order, why: &str) {
        let result = match &order.task {
            Task::Forget { .. } => return,
            Task::Ask { .. } => Outcome::Replied(Reply::NotSent, why.to_string()),
            Task::Look => Outcome::Seen(Err(why.to_string())),
            Task::Confirm => Outcome::Confirmed { beats: Err(why.to_string()), seen: Err(why.to_string()) },
        };
        let answer = Answer { id: order.id, target: Arc::clone(&order.target), result };
        self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }

    /// Works with these from the next order on. Machines that are not among them are kept: a repair under
    /// way is finished.
    pub fn equip(&self, tools: Tools) {
        let _ = self.orders.send(Message::Tools(Box::new(tools)));
    }

    /// Works with these machines, too.
    pub fn add(&self, machines: Machines) {
        let _ = self.orders.send(Message::Machines(machines));
    }

    /// Takes what came back.
    pub fn take_answers(&self) -> Vec<Answer> {
        std::mem::take(&mut self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what was done, for traces.
    pub fn take_done(&self) -> Vec<Done> {
        std::mem::take(&mut self.shared.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether each executor's provider answered the last time it was asked.
    pub fn reached(&self) -> BTreeMap<&'static str, bool> {
        self.shared.reached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the thread after what it is doing, and waits for that until `by` at most.
    pub fn stop(mut self, by: Instant) {
        let _ = self.orders.try_send(Message::End);
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < by {
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// The thread's own part.
struct Desk {
    inbox: Receiver<Message>,
    tools: Tools,
    shared: Arc<Shared>,
    clock: Clock,
    waker: Waker,
}

impl Desk {
    fn work(mut self) {
        while let Ok(message) = self.inbox.recv() {
            match message {
                Message::Order(order) => self.carry_out(order),
                Message::Tools(mut tools) => {
                    let mut machines = std::mem::take(&mut self.tools.machines);
                    machines.append(&mut tools.machines);
                    self.tools = Tools { machines, ..*tools };
                }
                Message::Machines(mut machines) => self.tools.machines.append(&mut machines),
                Message::End => return,
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        let began = self.clock.now().wall;
        let (what, saga) = describe(&order.task);
        let result = match order.task {
            Task::Forget { saga } => return self.tools.lease.forget(&order.target, &saga),
            Task::Confirm => {
                let beats = match &self.tools.heartbeats {
                    Some((consul, place)) => consul::confirm(consul, place, &self.clock, kind::name(&order.target)),
                    None => Err("heartbeats are not read".to_string()),
                };
                Outcome::Confirmed { beats, seen: self.look(&order.target) }
            }
            Task::Look => Outcome::Seen(self.look(&order.target)),
            Task::Ask { step, procedure, fence, saga } => {
                let (reply, words) = self.ask(&order.target, &step, &procedure, &fence, saga);
                Outcome::Replied(reply, words)
            }
        };
        let done = Done {
            target: Arc::clone(&order.target),
            what,
            saga,
            span: (began, self.clock.now().wall),
            error: trouble(&result),
        };
        self.shared.done.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        let answer = Answer { id: order.id, target: order.target, result };
        self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        self.waker.wake(Wake::Answered);
    }

    fn look(&mut self, target: &Arc<str>) -> Result<Seen, String> {
        let Some(machine) = self.tools.machines.get_mut(target) else {
            return Err("no executor is configured for it".to_string());
        };
        let seen = machine.look();
        let mut reached = self.shared.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.insert(machine.executor(), seen.is_ok());
        seen
    }

    fn ask(
        &mut self,
        target: &Arc<str>,
        step: &Step,
        procedure: &Procedure,
        fence: &Fence,
        saga: String,
    ) -> (Reply, String) {
        let Some(machine) = self.tools.machines.get_mut(target) else {
            return (Reply::NotSent, "no executor is configured for it".to_string());
        };
        // What is on this machine only we switch: nobody has to know, and no outage of Consul keeps it down.
        if step.disrupts() && procedure.guard != Guard::Local {
            // Every agent knows the ways that go by these names.
            let is_known = legacy::by_name(&procedure.name).is_some_and(|known| known == *procedure);
            let note = Note {
                target: target.to_string(),
                saga,
                agent: String::new(),
                verb: step.verb,
                fence: fence.clone(),
                procedure: (!is_known).then(|| procedure.clone()),
            };
            if let Err(why) = self.tools.lease.note(&note) {
                return (Reply::NotSent, why);
            }
            if !self.tools.lease.holds() {
                return (Reply::NotSent, "the lease was lost at the last moment".to_string());
            }
        }
        machine.ask(step.verb, fence)
    }
}

fn describe(task: &Task) -> (Cow<'static, str>, String) {
    match task {
        Task::Confirm => ("confirm".into(), String::new()),
        Task::Look => ("look".into(), String::new()),
        Task::Ask { step, saga, .. } => (step.verb.to_string().into(), saga.clone()),
        Task::Forget { saga } => ("forget".into(), saga.clone()),
    }
}

fn trouble(result: &Outcome) -> Option<String> {
    match result {
        Outcome::Confirmed { beats, seen } => beats.as_ref().err().or(seen.as_ref().err()).cloned(),
        Outcome::Seen(seen) => seen.as_ref().err().cloned(),
        Outcome::Replied(Reply::Accepted, _) => None,
        Outcome::Replied(_, words) => Some(words.clone()),
    }
}
