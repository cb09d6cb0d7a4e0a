//! The operator by itself, with machines that write down what they are asked: what must be true at the very
//! moment of a request, when what was decided on may no longer hold.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchdog::act::{Operator, Tools};
use watchdog::client::consul::Consul as Client;
use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::core::recovery::fleet::Fleet;
use watchdog::core::recovery::legacy;
use watchdog::core::recovery::plan::{Order, Outcome, Plan, Task};
use watchdog::core::recovery::subject::{Fence, Reply, Seen, State as Power, Verb};
use watchdog::executor::{Machine, Machines};
use watchdog::lease::{Lease, Terms};
use watchdog::nodes::Nodes;
use watchdog::repair::Repairs;
use watchdog::wake::Waker;

use crate::daemon::wait;
use crate::parts;
use crate::peer::consul::{Consul, Dev};
use crate::peer::proxy::{Fault, Proxy};

/// Long: what ends it is not a renewal that came late.
const TTL: Duration = Duration::from_mins(1);

/// What was asked, and whether the note about it stood in Consul then.
type Asked = Arc<Mutex<Vec<(Verb, bool)>>>;

struct Book {
    asked: Asked,
    consul: Client,
    answers: bool,
}

impl Machine for Book {
    fn executor(&self) -> &'static str {
        "book"
    }

    fn id(&self) -> Arc<str> {
        Arc::from("book-1")
    }

    fn look(&mut self) -> Result<Seen, String> {
        let seen = Seen::new(Power::Running, "v1");
        if self.answers { Ok(seen) } else { Err("nobody is there".to_string()) }
    }

    fn ask(&mut self, verb: Verb, _: &Fence) -> (Reply, String) {
        self.asked.lock().unwrap().push((verb, note(&self.consul)));
        (Reply::Accepted, String::new())
    }
}

/// Whether anybody wrote down what is done to n1.
fn note(consul: &Client) -> bool {
    consul.get("watchdog/repairs/n1/s1").unwrap().is_some()
}

/// An operator whose lease is held, through a proxy that can be told to misbehave.
struct Rig {
    operator: Operator,
    lease: Lease,
    hand: Arc<Mutex<watchdog::core::time::Now>>,
    asked: Asked,
    proxy: Proxy,
    consul: Consul,
}

impl Rig {
    fn new() -> Rig {
        let consul = Consul::dev(Dev::default());
        let proxy = Proxy::to(&consul.address());
        let (clock, hand) = Clock::by_hand(Clock::system().now());
        let terms = Terms {
            consul: crate::peer::consul::client(&proxy.url(), None),
            base: "watchdog".to_string(),
            agent: "agent-1".to_string(),
            ttl: TTL,
        };
        let lease = Lease::start(terms, &clock, &Waker::new()).unwrap();
        let asked = Asked::default();
        let book = |answers| Book { asked: Arc::clone(&asked), consul: consul.client(), answers };
        let mut machines = Machines::new();
        machines.insert(Arc::from("n1"), Box::new(book(true)));
        machines.insert(Arc::from("gone"), Box::new(book(false)));
        let tools = Tools { machines, heartbeats: None, lease: lease.clone() };
        let operator = Operator::start(tools, clock, Waker::new()).unwrap();
        wait("the lease", || lease.holds().then_some(()));
        Rig { operator, lease, hand, asked, proxy, consul }
    }

    fn carry_out(&self, target: &str, task: Task) -> Outcome {
        self.operator.order(Order { id: 1, target: Arc::from(target), task });
        wait("the answer", || self.operator.take_answers().pop()).result
    }

    fn ask(&self, verb: Verb) -> Outcome {
        self.carry_out("n1", ask(verb))
    }

    fn asked(&self) -> Vec<(Verb, bool)> {
        self.asked.lock().unwrap().clone()
    }
}

fn ask(verb: Verb) -> Task {
    let fence = Fence::new("v1", "t");
    let procedure = Arc::new(legacy::ALL.into_iter().find(|way| way.steps[0].verb == verb).unwrap());
    Task::Ask { step: procedure.steps[0], procedure, fence, saga: "s1".to_string() }
}

fn assert_not_sent(outcome: &Outcome, why: &str) {
    assert!(matches!(outcome, Outcome::Replied(Reply::NotSent, said) if said.contains(why)), "{why}: {outcome:?}");
}

#[test]
fn what_takes_a_machine_down_is_written_down_first_and_the_note_goes_with_the_repair() {
    if !parts::consul() {
        return;
    }
    let rig = Rig::new();
    for verb in Verb::OCI {
        assert_eq!(rig.ask(verb), Outcome::Replied(Reply::Accepted, String::new()));
    }
    let noted: Vec<_> = rig.asked().into_iter().filter(|(verb, _)| *verb != Verb::START).collect();
    assert_eq!(noted, [(Verb::STOP, true), (Verb::RESET, true), (Verb::SOFTRESET, true)]);
    rig.operator.order(Order { id: 2, target: Arc::from("n1"), task: Task::Forget { saga: "s1".to_string() } });
    wait("the note to go", || (!note(&rig.consul.client())).then_some(()));
}

#[test]
fn a_lease_that_ran_out_between_decision_and_request_stops_what_takes_down_and_not_the_start() {
    if !parts::consul() {
        return;
    }
    let rig = Rig::new();
    // The clock jumps over the end of the lease; Consul, which would take the note, knows nothing of it.
    {
        let mut now = rig.hand.lock().unwrap();
        now.mono = now.mono.plus(TTL * 2);
        now.awake = now.awake.plus(TTL * 2);
    }
    assert!(!rig.lease.holds(), "by its own clock");
    assert_not_sent(&rig.ask(Verb::STOP), "the lease was lost");
    assert_eq!(rig.ask(Verb::START), Outcome::Replied(Reply::Accepted, String::new()));
    assert_eq!(rig.asked().iter().map(|(verb, _)| *verb).collect::<Vec<_>>(), [Verb::START]);
}

#[test]
fn without_its_note_nothing_that_takes_down_is_sent_and_a_start_is() {
    if !parts::consul() {
        return;
    }
    let rig = Rig::new();
    rig.proxy.set(Fault::Reset);
    assert_not_sent(&rig.ask(Verb::STOP), "cannot write the note");
    assert!(rig.lease.holds(), "it is not the lease that keeps it");
    assert_eq!(rig.ask(Verb::START), Outcome::Replied(Reply::Accepted, String::new()));
    assert_eq!(rig.asked(), [(Verb::START, false)]);
}

#[test]
fn whether_a_provider_answers_is_known_from_the_last_look() {
    if !parts::consul() {
        return;
    }
    let rig = Rig::new();
    assert!(rig.operator.reached().is_empty(), "nobody was asked yet");
    for (target, answers) in [("gone", false), ("n1", true), ("gone", false)] {
        assert!(
            matches!(rig.carry_out(target, Task::Look), Outcome::Seen(seen) if seen.is_ok() == answers),
            "{target}"
        );
        assert_eq!(rig.operator.reached().get("book"), Some(&answers), "{target}");
    }
    assert!(matches!(rig.carry_out("stranger", Task::Look), Outcome::Seen(Err(_))));
}

#[test]
fn what_takes_down_does_not_leave_before_its_intent_is_on_the_disk() {
    if !parts::consul() {
        return;
    }
    let Rig { operator, lease, asked, proxy: _proxy, consul: _consul, .. } = Rig::new();
    let nodes = Nodes::read(&Config::from_toml("").unwrap()).unwrap();
    let repairs = Repairs::new(Fleet::new(nodes.policy, nodes.nodes), operator, lease, None);
    let order = |verb| Order { id: 1, target: Arc::from("n1"), task: ask(verb) };
    let orders = || Plan { orders: Verb::OCI.map(order).to_vec(), ..Plan::default() };
    let verbs = || asked.lock().unwrap().iter().map(|(verb, _)| *verb).collect::<Vec<_>>();
    repairs.dispatch(orders(), false);
    wait("the START", || (verbs() == [Verb::START]).then_some(()));
    repairs.dispatch(orders(), true);
    wait(|| format!("all: {:?}", verbs()), || (verbs()[1..] == Verb::OCI).then_some(()));
}
