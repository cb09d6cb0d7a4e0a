//! A journal with lines missing: what is left of a repair is taken at its worst, never for less than it may be.

use watchdog::core::recovery::journal::{Event, Record, Told, adopt, fold};
use watchdog::core::recovery::legacy::STOP_START;
use watchdog::core::recovery::saga::{End, Saga};
use watchdog::core::recovery::subject::{Fence, Reply, Seen, State, Verb};
use watchdog::core::time::Wall;

fn fence() -> Fence {
    Fence::new("v1", "t1")
}

fn intent(verb: Verb) -> Event {
    Event::Intent { verb, fence: fence() }
}

fn accepted(verb: Verb) -> Event {
    Event::Replied { verb, reply: Reply::Accepted, detail: String::new() }
}

fn seen() -> Event {
    Event::Seen { seen: Seen::new(State::Running, "v2") }
}

/// What is told of a repair by these lines, each with its number.
fn told(lines: &[(u32, Event)]) -> Vec<Told> {
    let record = |(number, event): &(u32, Event)| Record {
        saga: "s".to_string(),
        target: "n1".to_string(),
        number: *number,
        at: Wall(0),
        event: event.clone(),
    };
    fold(&lines.iter().map(record).collect::<Vec<_>>())
}

#[test]
fn a_repair_whose_beginning_is_lost_may_have_asked_for_what_its_first_line_allows() {
    for verb in Verb::OCI {
        for (first, worst) in [
            (intent(verb), adopt(None, verb, fence())),
            (accepted(verb), adopt(None, verb, Fence::default())),
            (seen(), adopt(None, Verb::STOP, Fence::default())),
            (Event::Resumed, adopt(None, Verb::STOP, Fence::default())),
        ] {
            let told = told(&[(1, first.clone())]);
            assert_eq!(told.len(), 1, "{first:?}");
            assert!(told[0].damaged && !told[0].simulated && told[0].next == 2, "{told:?}");
            assert_eq!(told[0].saga, worst, "{first:?}");
        }
    }
    assert!(told(&[(7, Event::Closed { end: End::Up })]).is_empty(), "what is over is over");
}

#[test]
fn a_line_lost_in_the_middle_leaves_no_decision_that_may_be_taken_again() {
    let opened = (0, Event::Opened { procedure: STOP_START.into(), simulated: false });
    for (next, worst) in [
        (accepted(Verb::STOP), adopt(None, Verb::STOP, Fence::default())),
        (intent(Verb::START), Saga::adopt(STOP_START, 1, fence())),
        (seen(), adopt(None, Verb::STOP, Fence::default())),
    ] {
        let told = told(&[opened.clone(), (2, next.clone())]);
        assert!(told.len() == 1 && told[0].damaged, "{told:?}");
        assert_eq!(told[0].saga, worst, "{next:?}");
    }
    let whole = told(&[opened, (1, intent(Verb::STOP)), (2, accepted(Verb::STOP))]);
    assert!(whole.len() == 1 && !whole[0].damaged, "{whole:?}");
}
