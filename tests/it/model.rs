//! An exhaustive search for a machine that is left off: machine, journal, note and fence, with the real
//! `Saga::apply`, `may_ask`, `may_close` and `journal::fold`, every interleaving within its bounds.
//!
//! What is modelled and how it is kept small:
//! - Time is order. What `pace` does after a time may happen at any time; only the end of the doubt is kept: a
//!   repair is given up when none of its requests is on its way, and is sent again only before that.
//! - The lease may end at any time and its holder may not know: any agent may act as the holder at any time.
//!   The model therefore has no lease; what holds here holds without one.
//! - A look that is not acted on at once is forgotten, as `pace` does; what passes between deciding and counting is the
//!   request's time on its way.
//! - Agents are alike and sorted; a late request for a version that is past is dropped.
//! - Bounds: see [`BOUNDS`]. One loss of memory for good, an agent or Consul's notes: with both, nobody could know.
//!
//! `MODEL_TRACES=1 cargo test --test it model -- --nocapture` prints the way to each counterexample.

mod moves;
mod real;
mod search;
mod state;

use search::{Found, search};
use state::{Broken, Rules};

const ALL: [Broken; 5] = [Broken::B1, Broken::B2, Broken::B7, Broken::B8, Broken::F72];

const NONE: Rules = Rules {
    journal: true,
    resume: true,
    note: true,
    fence: true,
    start_only: true,
    agents: 3,
    decisions: 1,
    sends: 2,
    crashes: 0,
    faults: 0,
    losses: 0,
    operator: false,
};

/// What may go wrong at the same time: each was chosen as the most that is searched in some ten seconds in a debug
/// build; together they hold two crashes, two faults, a loss, the operator and a second repair, not all with all.
const BOUNDS: [(&str, Rules); 6] = [
    (
        "one agent, all at once",
        Rules { agents: 1, decisions: 2, crashes: 2, faults: 2, losses: 0, operator: true, ..NONE },
    ),
    ("two agents, a repair, two crashes and a loss", Rules { agents: 2, crashes: 2, faults: 1, losses: 1, ..NONE }),
    ("two agents, an operator and two faults", Rules { agents: 2, crashes: 1, faults: 2, operator: true, ..NONE }),
    ("two agents, two repairs", Rules { agents: 2, decisions: 2, sends: 1, crashes: 1, faults: 1, losses: 1, ..NONE }),
    ("three agents, two crashes and a loss", Rules { crashes: 2, losses: 1, sends: 1, ..NONE }),
    ("three agents, a crash and a fault", Rules { crashes: 1, faults: 1, ..NONE }),
];

fn tell(name: &str, found: &Found) {
    eprintln!("{name}: {} states, {} sagas, {:.1?}", found.states, found.sagas, found.took);
    if let Some((which, way)) = found.broken.as_ref().filter(|_| std::env::var_os("MODEL_TRACES").is_some()) {
        eprintln!("  {which:?} after:");
        way.iter().for_each(|step| eprintln!("    - {}", step.words()));
    }
}

#[test]
fn no_interleaving_leaves_a_machine_off_or_stops_it_twice() {
    for (name, rules) in BOUNDS {
        let found = search(rules, &ALL);
        tell(name, &found);
        assert_eq!(found.broken, None, "{name}");
    }
}

#[test]
fn each_safeguard_taken_away_is_missed() {
    let some = Rules { crashes: 1, faults: 1, losses: 1, ..NONE };
    let without = [
        ("journal", Rules { journal: false, ..some }, Broken::B1),
        ("resume", Rules { resume: false, ..some }, Broken::B1),
        ("note", Rules { note: false, ..some }, Broken::B1),
        ("fence", Rules { fence: false, ..some }, Broken::B7),
        ("START only", Rules { start_only: false, operator: true, ..some }, Broken::B8),
        // And what it leads to, where nobody minds the rule itself.
        ("START only, to the end", Rules { start_only: false, operator: true, ..some }, Broken::B2),
    ];
    for (name, rules, which) in without {
        let found = search(rules, &[which]);
        tell(&format!("without {name}"), &found);
        assert_eq!(found.broken.map(|(which, _)| which), Some(which), "without {name}");
    }
}
