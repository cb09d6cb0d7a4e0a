//! A new kind of target and a new executor are one file and one line each: those of `fake/`, which the program does
//! not know, are read, told, repaired, journalled and taken up again by it as it is.

mod caretaker;
mod shop;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use watchdog::assemble::{Lists, schema_of, targets};
use watchdog::clock::Clock;
use watchdog::config::Config;
use watchdog::core::recovery::fleet::{Fleet, Restored};
use watchdog::core::recovery::journal::fold;
use watchdog::core::recovery::plan::{Answer, Input, Looked, Order, Outcome, Plan, Policy, Task};
use watchdog::core::recovery::target::{Kept, Phase};
use watchdog::core::signal::{SignalKey, State};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::executor::{self, Machines};
use watchdog::kind;
use watchdog::store::{Commit, Store};

/// All that has to be said of them.
const LISTS: Lists = Lists {
    kinds: &[
        watchdog::nodes::ENTRY,
        shop::ENTRY, // the new kind
    ],
    executors: &[
        executor::oci::ENTRY,
        caretaker::ENTRY, // the new executor
    ],
};

const TICK: Duration = Duration::from_secs(5);

/// A town with one shop, which is closed by its signal until it was opened anew.
struct Town {
    dir: tempfile::TempDir,
    fleet: Fleet,
    policy: Policy,
    machines: Machines,
    store: Store,
    now: Now,
    is_closed: bool,
    answers: Vec<Answer>,
    said: Vec<String>,
    asked: Vec<String>,
    /// The operator is killed before it can say what came of its request.
    dies_asking: bool,
}

impl Town {
    fn new() -> Town {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop").display().to_string();
        std::fs::write(&file, "open 1").unwrap();
        let text = format!(
            "[recovery]\nmode = \"active\"\npoll = \"5s\"\n[[shop]]\nname = \"web\"\nsignal = \"probe/web\"\n\
             executor = \"caretaker\"\nplace = \"{file}\"\n"
        );
        let config = Config::of_text(&text, &schema_of(LISTS)).unwrap();
        let (nodes, machines) = targets(&config, &Clock::system(), LISTS).unwrap();
        assert_eq!(nodes.nodes.iter().map(|node| &*node.key).collect::<Vec<_>>(), ["shop/web"]);
        let now = Now { wall: Wall(1_767_225_600_000), mono: Mono(86_400_000), awake: Mono(86_400_000) };
        let store = Store::open(Some(&dir.path().join("state.db")), now, "boot").unwrap().store;
        let fleet = Fleet::new(nodes.policy.clone(), nodes.nodes);
        let (policy, answers, said, asked) = (nodes.policy, Vec::new(), Vec::new(), Vec::new());
        let (is_closed, dies_asking) = (false, false);
        let mut town = Town { dir, fleet, policy, machines, store, now, is_closed, answers, said, asked, dies_asking };
        town.time_passes(Duration::from_mins(5));
        town
    }

    fn file(&self) -> String {
        self.dir.path().join("shop").display().to_string()
    }

    fn opened(&self) -> u32 {
        caretaker::read(&self.file()).1
    }

    fn time_passes(&mut self, span: Duration) {
        let end = self.now.mono.plus(span);
        while self.now.mono < end && !self.dies_asking_now() {
            (self.now.wall, self.now.mono) = (self.now.wall.plus(TICK), self.now.mono.plus(TICK));
            self.pass();
        }
    }

    fn dies_asking_now(&self) -> bool {
        self.dies_asking && !self.asked.is_empty()
    }

    /// One pass without Consul and without a lease: nobody but this machine has a say.
    fn pass(&mut self) {
        let (state, at) = (if self.is_closed { State::Firing } else { State::Ok }, self.now.mono);
        let look = |key: &SignalKey| {
            (key.as_str() == "probe/web").then_some(Looked {
                state,
                is_bad: state == State::Firing,
                seen_at: Some(at),
                incident: None,
            })
        };
        let input = Input {
            beats: None,
            fresh_since: Mono(80_000_000),
            look: &look,
            silenced: &|_| false,
            holds_lease: false,
            notes: &[],
            is_durable: true,
            answers: std::mem::take(&mut self.answers),
        };
        let plan = self.fleet.tick(self.now, input);
        self.commit(&plan);
        self.said.extend(plan.edges.iter().map(|edge| format!("{} {}: {}", edge.title, edge.key, edge.fact)));
        for order in plan.orders {
            self.carry_out(order);
        }
    }

    fn commit(&self, plan: &Plan) {
        let kept = |key: &Arc<str>| Some((Arc::clone(key), serde_json::to_string(self.fleet.kept(key)?).unwrap()));
        self.store.commit(self.now, &Commit { records: &plan.records, ..Commit::default() }).unwrap();
        for row in plan.changed.iter().filter_map(kept) {
            self.store.commit(self.now, &Commit { targets: &[row], ..Commit::default() }).unwrap();
        }
    }

    fn carry_out(&mut self, order: Order) {
        let machine = self.machines.get_mut(&order.target).unwrap();
        let result = match order.task {
            Task::Confirm => Outcome::Confirmed { beats: Err("no Consul".to_string()), seen: machine.look() },
            Task::Look => Outcome::Seen(machine.look()),
            Task::Ask { step, fence, .. } => {
                self.asked.push(step.verb.to_string());
                let (reply, words) = machine.ask(step.verb, &fence);
                if self.dies_asking {
                    return;
                }
                Outcome::Replied(reply, words)
            }
            Task::Forget { .. } => return,
        };
        self.answers.push(Answer { id: order.id, target: order.target, result });
        // It is open again once it was opened anew.
        self.is_closed &= self.opened() == 1 || caretaker::read(&self.file()).0 == "closed";
    }

    /// The program begins anew with what is on the disk, and knows neither the shop nor its caretaker any more.
    fn begins_anew_without_lists(&mut self) -> Vec<String> {
        let repairs = self.store.repairs().unwrap();
        let kept = repairs.targets.iter().map(|(key, body)| (key.clone(), serde_json::from_str::<Kept>(body).unwrap()));
        let open = fold(&repairs.records);
        let names = open.iter().map(|told| format!("{} {}", told.target, told.saga.procedure.name)).collect();
        let restored = Restored { targets: kept.collect::<BTreeMap<_, _>>(), open, ..Restored::default() };
        self.answers.clear();
        self.fleet = Fleet::new(self.policy.clone(), Vec::new());
        self.fleet.restore(restored, self.now, true);
        self.fleet.reach("shop/web");
        names
    }
}

#[test]
fn what_the_program_does_not_know_is_repaired_by_one_file_and_one_line_each() {
    let mut town = Town::new();
    town.is_closed = true;
    town.time_passes(Duration::from_mins(5));
    assert_eq!((town.asked.clone(), town.opened()), (vec!["reopen".to_string()], 2), "{:#?}", town.said);
    let all = town.said.join("\n");
    assert!(all.contains("shop web shop/web: repairing: close and open it, attempt 1 of 3; closed for 1 min"), "{all}");
    assert!(all.contains("; shop open") && all.contains("repaired: back"), "{all}");
    let standing = town.fleet.standings(town.now).next().unwrap();
    assert_eq!((&*standing.key, standing.phase), ("shop/web", Phase::Healthy));
    let rows = town.store.journal("shop/web").unwrap();
    assert!(rows.len() == 4 && rows.iter().all(|record| record.target == "shop/web"), "{rows:?}");
}

#[test]
fn one_that_is_found_closed_by_our_doing_is_opened() {
    let mut town = Town::new();
    std::fs::write(format!("{}.sticks", town.file()), "").unwrap();
    town.is_closed = true;
    town.time_passes(Duration::from_mins(5));
    assert_eq!((town.asked.clone(), town.opened()), (vec!["reopen".to_string(), "open".to_string()], 3));
}

#[test]
fn a_repair_goes_on_by_its_journal_alone_and_nothing_is_asked_twice() {
    for sticks in [false, true] {
        let mut town = Town::new();
        if sticks {
            std::fs::write(format!("{}.sticks", town.file()), "").unwrap();
        }
        (town.is_closed, town.dies_asking) = (true, true);
        town.time_passes(Duration::from_mins(5));
        assert_eq!(town.begins_anew_without_lists(), ["shop/web reopen"]);
        town.dies_asking = false;
        town.time_passes(Duration::from_mins(30));
        let asked: &[&str] = if sticks { &["reopen", "open"] } else { &["reopen"] };
        assert_eq!(town.asked, asked);
        assert!(!town.fleet.is_busy() && fold(&town.store.repairs().unwrap().records).is_empty());
    }
}

#[test]
fn each_is_named_in_one_line_and_its_words_are_free() {
    let own = include_str!("fake.rs").split("#[test]").next().unwrap();
    for entry in ["shop::ENTRY", "caretaker::ENTRY"] {
        assert_eq!(own.matches(entry).count(), 1, "{entry}");
    }
    let elsewhere = |folder: &str| {
        let files = crate::architecture::files(folder);
        files.into_iter().filter(|(_, text)| text.contains("caretaker")).map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert!(elsewhere("src").is_empty());
    assert_eq!(elsewhere("tests"), ["tests/it/fake/caretaker.rs", "tests/it/fake.rs"]);
    // The words of Oracle Cloud are written in another form: no other executor may use them.
    let taken = ["stop", "start", "reset", "soft-reset", "STOP", "START", "RESET", "SOFTRESET"];
    for entry in LISTS.executors.iter().filter(|entry| entry.name != "oci") {
        let steps = entry.offers.iter().chain(&entry.starts).flat_map(|way| way.steps.iter());
        steps.for_each(|step| assert!(!taken.contains(&step.verb.as_str()), "{} {}", entry.name, step.verb));
    }
    let words: Vec<&str> = LISTS.kinds.iter().map(|entry: &kind::Entry| entry.kind.word).collect();
    assert_eq!(words, ["node", "shop"]);
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fake/shop.rs").is_file());
}
