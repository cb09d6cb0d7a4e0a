//! An exhaustive search for a machine that is left off: machine, journal, note and fence, with the real
//! `Saga::apply`, `may_ask`, `may_close` and `journal::fold`, every interleaving within its bounds.
//!
//! What is modelled and how it is kept small:
//! - Crashes, API faults and the operator's switching are not counted: each may happen at any time and as often as it
//!   likes, so that the search holds whatever the number.
//! - Time is order. What `pace` does after a time may happen at any time; only the end of the doubt is kept: a
//!   repair is given up when none of its requests is on its way, and is sent again only before that.
//! - The lease may end at any time and its holder may not know: any agent may act as the holder at any time.
//!   The model therefore has no lease; what holds here holds without one.
//! - A look that is not acted on at once is forgotten, as `pace` does; what passes between deciding and counting is the
//!   request's time on its way.
//! - Agents are alike and sorted; versions are the present one or past; a late request for a past one is dropped.
//! - Bounds: repairs, sendings of one request, one loss of memory for good, an agent or Consul's notes (with both,
//!   nobody could know).
//! - That it ends well: from every state in which the machine is off by our doing, steps of a world in which nothing new
//!   goes wrong lead to RUNNING. The graph is finite, so every fair run gets there.
//!
//! `MODEL_TRACES=1 cargo test --test it model -- --nocapture` prints the way to each counterexample.

mod moves;
mod real;
mod search;
mod state;

use search::{Found, search};
use state::{ANY, Broken, Rules};
use watchdog::core::recovery::legacy::{RESET, SOFTRESET, STOP_START};

const ALL: [Broken; 5] = [Broken::B1, Broken::B2, Broken::B7, Broken::B8, Broken::F72];

/// Three agents, all safeguards, and everything that may go wrong.
const WORLD: Rules = Rules {
    journal: true,
    resume: true,
    note: true,
    fence: true,
    start_only: true,
    way: &STOP_START,
    agents: 3,
    decisions: 1,
    sends: 2,
    crashes: ANY,
    faults: ANY,
    losses: 1,
    operator: ANY,
};

fn tell(name: &str, found: &Found) {
    eprintln!("{name}: {} states, {} sagas, {:.1?}", found.states, found.sagas, found.took);
    if let Some((which, way)) = found.broken.as_ref().filter(|_| std::env::var_os("MODEL_TRACES").is_some()) {
        eprintln!("  {which:?} after:");
        way.iter().for_each(|step| eprintln!("    - {}", step.words()));
    }
}

/// Holds, and is as large as it was: another number of states or sagas is another machine, and wants a reason.
fn holds(name: &str, rules: Rules, size: Size) {
    assert_eq!(searched(name, rules), size, "{name}: states and sagas");
}

/// How many states and sagas there are.
type Size = (usize, usize);

fn searched(name: &str, rules: Rules) -> Size {
    let found = search(rules, &ALL);
    tell(name, &found);
    assert_eq!(found.broken, None, "{name}");
    (found.states, found.sagas)
}

// Each search is a test of its own, so that they run beside one another.

#[test]
fn of_three_agents_none_leaves_a_machine_off_or_stops_it_twice_whatever_happens() {
    holds("three agents, stop and start", WORLD, (989_338, 109));
}

#[test]
fn nor_by_a_second_repair_on_top_of_the_first() {
    holds("two agents, two repairs", Rules { agents: 2, decisions: 2, sends: 1, losses: 0, ..WORLD }, (1_199_136, 106));
}

#[test]
fn nor_by_a_reset_or_by_asking_three_times() {
    // Where the operator stays away, whether a machine comes back depends on nobody else.
    let mut sizes: Vec<Size> = Vec::new();
    for operator in [ANY, 0] {
        for way in [&RESET, &SOFTRESET] {
            let rules = Rules { agents: 2, way, operator, ..WORLD };
            sizes.push(searched(&format!("two agents, {}", way.name), rules));
        }
        let rules = Rules { agents: 2, sends: 3, operator, ..WORLD };
        sizes.push(searched("two agents, sent three times", rules));
        // Lost for good, a single agent leaves nobody who could know.
        let rules = Rules { agents: 1, decisions: 2, sends: 3, losses: 0, operator, ..WORLD };
        sizes.push(searched("one agent, two repairs", rules));
    }
    let (always, never) = (
        [(59_717, 109), (59_717, 109), (79_164, 153), (10_287, 282)],
        [(13_646, 81), (13_646, 81), (16_762, 116), (1_572, 146)],
    );
    assert_eq!(sizes, [always, never].concat(), "states and sagas");
}

#[test]
fn each_safeguard_taken_away_is_missed() {
    let without = [
        ("journal", Rules { journal: false, ..WORLD }, Broken::B1),
        ("resume", Rules { resume: false, ..WORLD }, Broken::B1),
        ("note", Rules { note: false, ..WORLD }, Broken::B1),
        ("fence", Rules { fence: false, ..WORLD }, Broken::B7),
        ("START only", Rules { start_only: false, ..WORLD }, Broken::B8),
        // And what it leads to, where nobody minds the rule itself.
        ("START only, to the end", Rules { start_only: false, ..WORLD }, Broken::B2),
    ];
    for (name, rules, which) in without {
        let found = search(rules, &[which]);
        tell(&format!("without {name}"), &found);
        assert_eq!(found.broken.map(|(which, _)| which), Some(which), "without {name}");
    }
}

/// What two crashes, two faults and one switching off allow is a part of what any number allows; counted, they are
/// searched as well, as a check of the uncounted.
#[test]
fn counted_mishaps_lead_nowhere_else() {
    holds(
        "two agents, counted",
        Rules { agents: 2, crashes: 2, faults: 2, losses: 0, operator: 1, ..WORLD },
        (106_971, 109),
    );
}
