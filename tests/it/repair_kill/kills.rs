//! kill -9 at every request of a repair, at pairs of them, and with the state file lost in between.

use std::time::Instant;

use super::world::Place;
use super::{Blow, Case, MOMENTS, Moment, Tally, Then, consul, each, live};
use crate::parts;

/// Every request of the story.
const PLACES: [(Place, usize); 8] = [
    (Place::Confirm, 0),
    (Place::Stop, 0),
    (Place::Stopping, 0),
    (Place::Stopping, 1),
    (Place::Stopped, 0),
    (Place::Start, 0),
    (Place::Starting, 0),
    (Place::Up, 0),
];

fn cases(all: impl IntoIterator<Item = Vec<Blow>>) -> Vec<Case> {
    all.into_iter().map(|blows| Case { blows, ..Case::default() }).collect()
}

fn run(what: &str, cases: Vec<Case>) {
    if !parts::consul() {
        return;
    }
    let (began, consul, tally) = (Instant::now(), consul(), Tally::default());
    each(cases, |case| live(&consul, case, &tally));
    tally.close(what, began);
}

#[test]
fn killed_at_any_request_the_next_agent_ends_the_repair() {
    let blows = PLACES.into_iter().flat_map(|(place, skip)| {
        let asks = matches!(place, Place::Stop | Place::Start);
        // A look has no effect: before or after it is the same.
        let moments = MOMENTS.into_iter().filter(move |moment| asks || *moment != Moment::Unanswered);
        moments.map(move |moment| vec![Blow::kill(place, skip, moment)])
    });
    run("killed once", cases(blows));
}

#[test]
fn killed_at_any_two_requests_the_next_agent_ends_the_repair() {
    let kill = |place, moment| Blow::kill(place, 0, moment);
    let (stop, start) = (Place::Stop, Place::Start);
    let mut pairs = Vec::new();
    // Each first blow with what may follow on it.
    let looks = [kill(Place::Look, Moment::Arrived), kill(Place::Look, Moment::Answered)];
    let starts = MOMENTS.map(|moment| kill(start, moment));
    let ends = [kill(Place::Starting, Moment::Answered), kill(Place::Up, Moment::Answered)];
    let mut follow = |first: Blow, second: &[Blow]| {
        pairs.extend(second.iter().map(|blow| vec![first.clone(), blow.clone()]));
    };
    for first in [kill(Place::Confirm, Moment::Answered), kill(stop, Moment::Lost)] {
        follow(first.clone(), &MOMENTS.map(|moment| kill(stop, moment)));
        follow(first, &[kill(Place::Stopped, Moment::Answered), kill(start, Moment::Unanswered)]);
    }
    for first in [kill(stop, Moment::Arrived), kill(stop, Moment::Unanswered), kill(stop, Moment::Answered)] {
        follow(first.clone(), &looks);
        follow(first.clone(), &starts);
        follow(first, &ends);
    }
    follow(kill(Place::Stopped, Moment::Answered), &starts);
    follow(kill(start, Moment::Lost), &looks);
    follow(kill(start, Moment::Lost), &starts);
    follow(kill(start, Moment::Lost), &ends);
    for first in [kill(start, Moment::Arrived), kill(start, Moment::Unanswered), kill(start, Moment::Answered)] {
        follow(first.clone(), &looks[..1]);
        follow(first, &ends);
    }
    assert!(pairs.len() >= 30, "{}", pairs.len());
    run("killed twice", cases(pairs));
}

#[test]
fn killed_with_its_state_file_lost_the_note_in_consul_brings_the_machine_back() {
    let places = [
        (Place::Stop, 0, Moment::Unanswered),
        (Place::Stop, 0, Moment::Answered),
        (Place::Stopping, 0, Moment::Arrived),
        (Place::Stopped, 0, Moment::Answered),
        (Place::Start, 0, Moment::Lost),
        (Place::Start, 0, Moment::Unanswered),
        (Place::Starting, 0, Moment::Answered),
    ];
    let then = |then| {
        let case = move |(place, skip, moment)| Case { blows: vec![Blow::kill(place, skip, moment)], then };
        places.into_iter().map(case)
    };
    run("state file lost", then(Then::NoState).chain(then(Then::OtherAgent)).collect());
}

#[test]
fn killed_in_the_middle_the_next_agent_ends_the_repair_whatever_it_may_begin() {
    let places = [(Place::Stop, Moment::Unanswered), (Place::Stopped, Moment::Answered), (Place::Start, Moment::Lost)];
    let thens = [Then::Paused, Then::Observe, Then::NoConsul];
    let case = |(place, moment), then| Case { blows: vec![Blow::kill(place, 0, moment)], then };
    run("other rules", places.into_iter().flat_map(|at| thens.map(|then| case(at, then))).collect());
}
