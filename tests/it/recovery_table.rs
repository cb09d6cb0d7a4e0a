//! The table of a repair, written by hand and held against the code cell by cell: where each event
//! leads, what may be asked, how it may end, what is due. The same tables stand in the ADR.
//!
//! The code is only read here, never used to make the expectation: `LOOKS` to `DUE` are written text.

use std::fmt::Write as _;
use std::time::Duration;

use watchdog::core::recovery::journal::{Event, adopt};
use watchdog::core::recovery::legacy::{self, RESET, SOFTRESET, STOP_START};
use watchdog::core::recovery::pace::{Move, Pace, due};
use watchdog::core::recovery::procedure::Procedure;
use watchdog::core::recovery::saga::{End, Saga, Stage};
use watchdog::core::recovery::subject::{Fence, Reply, Seen, Verb};
use watchdog::core::time::Mono;

/// Where one look leads. `=` stays, `!` cannot be.
const LOOKS: &str = "
| stands at         | RUNNING, same version | RUNNING, another | STOPPING        | STOPPED | STARTING        | MOVING, PROVISIONING, CREATING_IMAGE, OTHER | TERMINATING, TERMINATED |
|-------------------|-----------------------|------------------|-----------------|---------|-----------------|---------------------------------------------|-------------------------|
| decided           | =                     | =                | =               | =       | =               | =                                           | gone                    |
| asking STOP       | !                     | !                | !               | !       | !               | !                                           | !                       |
| asking RESET      | !                     | !                | !               | !       | !               | !                                           | !                       |
| asking SOFTRESET  | !                     | !                | !               | !       | !               | !                                           | !                       |
| asking START      | !                     | !                | !               | !       | !               | !                                           | !                       |
| refused STOP      | =                     | =                | =               | =       | =               | =                                           | gone                    |
| refused RESET     | =                     | =                | =               | =       | =               | =                                           | gone                    |
| refused SOFTRESET | =                     | =                | =               | =       | =               | =                                           | gone                    |
| refused START     | up                    | up               | owing           | owing   | await START     | =                                           | gone                    |
| doubt STOP        | =                     | =                | await STOP      | owing   | await START     | =                                           | gone                    |
| doubt RESET       | =                     | =                | await RESET     | owing   | await RESET     | =                                           | gone                    |
| doubt SOFTRESET   | =                     | =                | await SOFTRESET | owing   | await SOFTRESET | =                                           | gone                    |
| doubt START       | up                    | up               | owing           | owing   | await START     | =                                           | gone                    |
| await STOP        | =                     | =                | =               | owing   | await START     | =                                           | gone                    |
| await RESET       | =                     | up               | =               | owing   | =               | =                                           | gone                    |
| await SOFTRESET   | =                     | up               | =               | owing   | =               | =                                           | gone                    |
| await START       | up                    | up               | owing           | owing   | =               | =                                           | gone                    |
| owing             | up                    | up               | =               | =       | await START     | =                                           | gone                    |
| over              | !                     | !                | !               | !       | !               | !                                           | !                       |
";

/// Where all else leads. Replies are those to what is being asked; a reply to another verb cannot be.
const EVENTS: &str = "
| stands at         | accepted        | unknown         | not-sent, busy, conflict, changed, refused, no-capacity | resumed         | opened, adopted |
|-------------------|-----------------|-----------------|---------------------------------------------------------|-----------------|-----------------|
| decided           | !               | !               | !                                                       | =               | !               |
| asking STOP       | await STOP      | doubt STOP      | refused STOP                                            | doubt STOP      | !               |
| asking RESET      | await RESET     | doubt RESET     | refused RESET                                           | doubt RESET     | !               |
| asking SOFTRESET  | await SOFTRESET | doubt SOFTRESET | refused SOFTRESET                                       | doubt SOFTRESET | !               |
| asking START      | await START     | doubt START     | refused START                                           | doubt START     | !               |
| refused STOP      | !               | !               | !                                                       | =               | !               |
| refused RESET     | !               | !               | !                                                       | =               | !               |
| refused SOFTRESET | !               | !               | !                                                       | =               | !               |
| refused START     | !               | !               | !                                                       | =               | !               |
| doubt STOP        | !               | !               | !                                                       | =               | !               |
| doubt RESET       | !               | !               | !                                                       | =               | !               |
| doubt SOFTRESET   | !               | !               | !                                                       | =               | !               |
| doubt START       | !               | !               | !                                                       | =               | !               |
| await STOP        | !               | !               | !                                                       | =               | !               |
| await RESET       | !               | !               | !                                                       | =               | !               |
| await SOFTRESET   | !               | !               | !                                                       | =               | !               |
| await START       | !               | !               | !                                                       | =               | !               |
| owing             | !               | !               | !                                                       | =               | !               |
| over              | !               | !               | !                                                       | !               | !               |
";

/// What may be asked, by what was seen since the present request. `same X`: the very same request only;
/// `START`: in the version seen only. A decided repair may ask for its first step, here STOP.
const MAY_ASK: &str = "
| stands at         | nothing | RUNNING, same version | RUNNING, another | STOPPED | anything else |
|-------------------|---------|-----------------------|------------------|---------|---------------|
| decided           | STOP    | STOP                  | STOP             | STOP    | STOP          |
| asking STOP       | -       | -                     | -                | -       | -             |
| asking RESET      | -       | -                     | -                | -       | -             |
| asking SOFTRESET  | -       | -                     | -                | -       | -             |
| asking START      | -       | -                     | -                | -       | -             |
| refused STOP      | -       | same STOP             | -                | -       | -             |
| refused RESET     | -       | same RESET            | -                | -       | -             |
| refused SOFTRESET | -       | same SOFTRESET        | -                | -       | -             |
| refused START     | -       | -                     | -                | -       | -             |
| doubt STOP        | -       | same STOP             | -                | -       | -             |
| doubt RESET       | -       | same RESET            | -                | -       | -             |
| doubt SOFTRESET   | -       | same SOFTRESET        | -                | -       | -             |
| doubt START       | -       | -                     | -                | -       | -             |
| await STOP        | -       | -                     | -                | -       | -             |
| await RESET       | -       | -                     | -                | -       | -             |
| await SOFTRESET   | -       | -                     | -                | -       | -             |
| await START       | -       | -                     | -                | -       | -             |
| owing             | -       | -                     | -                | START   | -             |
| over              | -       | -                     | -                | -       | -             |
";

/// How it may be ended by us, by what was seen. (`up` and `gone` also come of looks, see above.)
const MAY_CLOSE: &str = "
| stands at         | nothing   | RUNNING            | anything else |
|-------------------|-----------|--------------------|---------------|
| decided           | no-effect | no-effect          | no-effect     |
| asking STOP       | -         | -                  | -             |
| asking RESET      | -         | -                  | -             |
| asking SOFTRESET  | -         | -                  | -             |
| asking START      | -         | -                  | -             |
| refused STOP      | -         | no-effect, expired | no-effect     |
| refused RESET     | -         | no-effect, expired | no-effect     |
| refused SOFTRESET | -         | no-effect, expired | no-effect     |
| refused START     | -         | -                  | -             |
| doubt STOP        | -         | expired            | -             |
| doubt RESET       | -         | expired            | -             |
| doubt SOFTRESET   | -         | expired            | -             |
| doubt START       | -         | -                  | -             |
| await STOP        | -         | expired            | -             |
| await RESET       | -         | up, expired        | -             |
| await SOFTRESET   | -         | up, expired        | -             |
| await START       | -         | -                  | -             |
| owing             | -         | -                  | -             |
| over              | -         | -                  | -             |
";

/// What is due on a fresh look, with looks each 10 s; `10s: …` from then on, counted from the last change.
const DUE: &str = "
| stands at               | nothing | RUNNING, same version                  | RUNNING, another   | STOPPED   | anything else |
|-------------------------|---------|----------------------------------------|--------------------|-----------|---------------|
| decided                 | look    | no-effect                              | no-effect          | no-effect | no-effect     |
| asking STOP             | wait    | wait                                   | wait               | wait      | wait          |
| asking RESET            | wait    | wait                                   | wait               | wait      | wait          |
| asking SOFTRESET        | wait    | wait                                   | wait               | wait      | wait          |
| asking START            | wait    | wait                                   | wait               | wait      | wait          |
| refused STOP            | look    | look; 10s: again STOP; 15m: no-effect  | no-effect          | no-effect | no-effect     |
| refused RESET           | look    | look; 10s: again RESET; 15m: no-effect | no-effect          | no-effect | no-effect     |
| refused SOFTRESET       | look    | look; 10s: again SOFTRESET; 15m: no-effect | no-effect      | no-effect | no-effect     |
| refused START           | look    | look                                   | look               | look      | look          |
| refused STOP, for good  | look    | no-effect                              | no-effect          | no-effect | no-effect     |
| refused STOP, 3 times   | look    | no-effect                              | no-effect          | no-effect | no-effect     |
| doubt STOP              | look    | look; 10s: again STOP; 15m: expired    | look; 5m: expired  | look      | look          |
| doubt RESET             | look    | look; 10s: again RESET; 15m: expired   | look; 5m: expired  | look      | look          |
| doubt SOFTRESET         | look    | look; 10s: again SOFTRESET; 15m: expired | look; 5m: expired  | look    | look          |
| doubt START             | look    | look                                   | look               | look      | look          |
| doubt STOP, 3 times     | look    | look; 15m: expired                     | look; 5m: expired  | look      | look          |
| await STOP              | look    | look; 15m: expired                     | look; 5m: expired  | look      | look          |
| await RESET             | look    | look; 2m: up                           | look; 2m: up       | look      | look          |
| await SOFTRESET         | look    | look; 2m: up                           | look; 2m: up       | look      | look          |
| await START             | look    | look                                   | look               | look      | look          |
| owing                   | look    | look                                   | look               | START     | look          |
| over                    | wait    | wait                                   | wait               | wait      | wait          |
";

const POLL: Duration = Duration::from_secs(10);

fn present() -> Fence {
    Fence::new("e1", "t1")
}

/// Every place where a repair can stand, by its name in the tables.
fn places() -> Vec<(String, Saga)> {
    // Each verb as a step of a procedure that has it: START is the second of stopping and starting.
    let at = |verb, stage: fn(u8) -> Stage, unsure| {
        let way: Procedure = [RESET, SOFTRESET].into_iter().find(|way| way.steps[0].verb == verb).unwrap_or(STOP_START);
        let place = way.place(verb).unwrap();
        Saga { stage: stage(place), fence: present(), unsure, sends: 1, ..Saga::open(way) }
    };
    let verbs = [Verb::STOP, Verb::RESET, Verb::SOFTRESET, Verb::START];
    let mut places = vec![("decided".to_string(), Saga::open(STOP_START))];
    places.extend(verbs.map(|verb| (format!("asking {verb}"), at(verb, Stage::Asking, false))));
    places.extend(verbs.map(|verb| (format!("refused {verb}"), at(verb, Stage::Refused, false))));
    places.extend(verbs.map(|verb| (format!("doubt {verb}"), at(verb, Stage::Doubt, true))));
    places.extend(verbs.map(|verb| (format!("await {verb}"), at(verb, Stage::Awaiting, false))));
    places.push(("owing".to_string(), at(Verb::START, Stage::Next, false)));
    places.push(("over".to_string(), at(Verb::STOP, |_| Stage::Closed(End::Up), false)));
    places
}

fn name(saga: &Saga) -> String {
    let verb = saga.step().map(|step| step.verb.to_string()).unwrap_or_default();
    match saga.stage {
        Stage::Decided => "decided".to_string(),
        Stage::Asking(_) => format!("asking {verb}"),
        Stage::Doubt(_) => {
            assert!(saga.unsure);
            format!("doubt {verb}")
        }
        Stage::Refused(_) => {
            assert!(!saga.unsure);
            format!("refused {verb}")
        }
        Stage::Awaiting(_) => format!("await {verb}"),
        Stage::Next(_) => {
            assert_eq!(verb, "START");
            "owing".to_string()
        }
        Stage::Closed(end) => ending(end).to_string(),
    }
}

fn ending(end: End) -> &'static str {
    match end {
        End::Up => "up",
        End::NoEffect => "no-effect",
        End::Expired => "expired",
        End::Gone => "gone",
    }
}

/// Every word of the provider, as journals write them.
const WORDS: [&str; 10] = [
    "running",
    "stopping",
    "stopped",
    "starting",
    "moving",
    "provisioning",
    "creating-image",
    "terminating",
    "terminated",
    "other",
];

/// What a journal of any version tells of a look.
fn seen(word: &str, version: &str) -> Seen {
    serde_json::from_str(&format!(r#"{{"lifecycle":"{word}","etag":"{version}"}}"#)).unwrap()
}

/// Both versions of each state, for the columns that hold them.
fn both(words: &[&str]) -> Vec<Seen> {
    words.iter().flat_map(|word| [seen(word, "e1"), seen(word, "e2")]).collect()
}

const ELSE: [&str; 4] = ["moving", "provisioning", "creating-image", "other"];

/// Where an event leads, as the tables say it.
fn leads(saga: &Saga, event: &Event) -> String {
    saga.apply(event).map_or("!".to_string(), |next| if next.stage == saga.stage { "=".into() } else { name(&next) })
}

/// One word for all of `cells`; all of them where they differ, which no table says.
fn one(cells: impl IntoIterator<Item = String>) -> String {
    let mut cells: Vec<String> = cells.into_iter().collect();
    cells.dedup();
    cells.join(" / ")
}

/// A table without the blanks that only line it up.
fn rows(table: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
    table.trim().lines().map(cells).collect()
}

fn check(table: &str, line: impl Fn(&Saga) -> Vec<String>, places: Vec<(String, Saga)>) {
    let mut expected = rows(table);
    let head = expected.drain(..2).next().unwrap();
    assert_eq!(expected.len(), places.len(), "a row for each place");
    let mut broken = String::new();
    for (row, (place, saga)) in expected.iter().zip(&places) {
        assert_eq!(row[0], *place);
        let found = line(saga);
        assert_eq!(found.len() + 1, row.len());
        for (at, (expected, found)) in row[1..].iter().zip(&found).enumerate() {
            if expected != found {
                let _ = writeln!(broken, "{place}, {}: the table says {expected:?}, the code {found:?}", head[at + 1]);
            }
        }
    }
    assert!(broken.is_empty(), "{broken}");
}

#[test]
fn every_look_leads_where_the_table_says() {
    let columns = [
        vec![seen("running", "e1")],
        vec![seen("running", "e2")],
        both(&["stopping"]),
        both(&["stopped"]),
        both(&["starting"]),
        both(&ELSE),
        both(&["terminating", "terminated"]),
    ];
    let states: usize = columns.iter().map(Vec::len).sum();
    assert_eq!(states, WORDS.len() * 2, "every state in both versions");
    let look = |saga: &Saga, seen: &Seen| {
        let first = saga.apply(&Event::Seen { seen: seen.clone() });
        if let Ok(first) = &first {
            assert_eq!(first.seen.as_ref(), Some(seen));
            // The same look again says nothing new: it need not be written down.
            let again = first.apply(&Event::Seen { seen: seen.clone() });
            assert!(!first.is_open() || again.as_ref() == Ok(first), "{first:?} {again:?}");
        }
        leads(saga, &Event::Seen { seen: seen.clone() })
    };
    check(LOOKS, |saga| columns.iter().map(|seens| one(seens.iter().map(|seen| look(saga, seen)))).collect(), places());
}

#[test]
fn every_other_event_leads_where_the_table_says() {
    let line = |saga: &Saga| {
        let replied = |verb, reply| leads(saga, &Event::Replied { verb, reply, detail: String::new() });
        let asked = saga.asked().map_or(Verb::STOP, |step| step.verb);
        for verb in Verb::OCI.into_iter().filter(|verb| saga.asked().map(|step| step.verb) != Some(*verb)) {
            assert!(Reply::ALL.into_iter().all(|reply| replied(verb, reply) == "!"), "{verb} was not asked");
        }
        let sure = Reply::ALL.into_iter().filter(|reply| !matches!(reply, Reply::Accepted | Reply::Unknown));
        let began = [
            Event::Opened { procedure: saga.procedure.clone(), simulated: false },
            Event::Adopted { procedure: None, verb: Verb::STOP, fence: present() },
        ];
        vec![
            replied(asked, Reply::Accepted),
            replied(asked, Reply::Unknown),
            one(sure.map(|reply| replied(asked, reply))),
            leads(saga, &Event::Resumed),
            one(began.map(|event| leads(saga, &event))),
        ]
    };
    check(EVENTS, line, places());
}

#[test]
fn a_request_once_in_doubt_stays_so_until_another_takes_its_place() {
    let doubt = Saga { seen: Some(seen("running", "e1")), ..adopt(None, Verb::STOP, present()) };
    let again = doubt.apply(&Event::Intent { verb: Verb::STOP, fence: present() }).unwrap();
    assert_eq!((again.stage, again.unsure, again.sends, &again.seen), (Stage::Asking(0), true, 2, &None));
    for reply in Reply::ALL {
        let next = again.apply(&Event::Replied { verb: Verb::STOP, reply, detail: String::new() }).unwrap();
        assert_eq!((next.unsure, next.seen), (true, None), "{reply:?}");
    }
    let owing = Saga { stage: Stage::Next(1), seen: Some(seen("stopped", "e3")), ..doubt };
    let fence = Fence::new("e3", "t3");
    let start = owing.apply(&Event::Intent { verb: Verb::START, fence: fence.clone() }).unwrap();
    assert_eq!((start.stage, start.unsure, start.sends, start.fence), (Stage::Asking(1), false, 1, fence));
    for (place, saga) in places() {
        let owes =
            !matches!(place.as_str(), "decided" | "over" | "refused STOP" | "refused RESET" | "refused SOFTRESET");
        assert_eq!(saga.owes_start(), owes, "{place}");
    }
}

/// The columns of what was seen that [`MAY_ASK`] and [`DUE`] have.
fn sights() -> Vec<Vec<Option<Seen>>> {
    let other: Vec<&str> = WORDS.into_iter().filter(|word| !matches!(*word, "running" | "stopped")).collect();
    vec![
        vec![None],
        vec![Some(seen("running", "e1"))],
        vec![Some(seen("running", "e2"))],
        both(&["stopped"]).into_iter().map(Some).collect(),
        both(&other).into_iter().map(Some).collect(),
    ]
}

#[test]
fn nothing_may_be_asked_but_what_the_table_says() {
    let asks = |saga: &Saga, sight: &Option<Seen>| {
        let saga = Saga { seen: sight.clone(), ..saga.clone() };
        let version = sight.as_ref().map_or(Some("e1"), |seen| seen.version.as_deref());
        let fence = |version: &str, token: &str| Fence::new(version, token);
        let fences = [present(), fence("e1", "t2"), fence("e2", "t2"), fence("e3", "t2")];
        let mut allowed = Vec::new();
        for verb in Verb::OCI {
            let may: Vec<&Fence> = fences.iter().filter(|fence| saga.may_ask(verb, fence)).collect();
            for fence in &fences {
                let intent = saga.apply(&Event::Intent { verb, fence: fence.clone() });
                assert_eq!(intent.is_ok(), may.contains(&fence), "the table of events asks may_ask");
            }
            let of_version: Vec<&Fence> = fences.iter().filter(|fence| fence.version.as_deref() == version).collect();
            if (may.len() == fences.len() && saga.stage == Stage::Decided) || (may == of_version && verb == Verb::START)
            {
                allowed.push(verb.to_string());
            } else if may == [&present()] {
                allowed.push(format!("same {verb}"));
            } else if !may.is_empty() {
                allowed.push(format!("{verb} {may:?}"));
            }
        }
        if allowed.is_empty() { "-".to_string() } else { allowed.join(", ") }
    };
    let line = |saga: &Saga| sights().iter().map(|column| one(column.iter().map(|sight| asks(saga, sight)))).collect();
    check(MAY_ASK, line, places());
    for way in legacy::ALL {
        let may = Verb::OCI.into_iter().filter(|verb| Saga::open(way.clone()).may_ask(*verb, &present()));
        assert_eq!(may.collect::<Vec<_>>(), [way.steps[0].verb], "a decided repair asks for its first step");
    }
}

#[test]
fn nothing_may_end_but_as_the_table_says() {
    let ends = |saga: &Saga, sight: Option<Seen>| {
        let saga = Saga { seen: sight, ..saga.clone() };
        let all = [End::Up, End::NoEffect, End::Expired, End::Gone];
        let allowed: Vec<&str> = all.into_iter().filter(|end| saga.may_close(*end)).map(ending).collect();
        for end in all {
            assert_eq!(saga.apply(&Event::Closed { end }).is_ok(), saga.is_open() && saga.may_close(end));
        }
        if allowed.is_empty() { "-".to_string() } else { allowed.join(", ") }
    };
    let others: Vec<&str> = WORDS.into_iter().filter(|word| *word != "running").collect();
    let line = |saga: &Saga| {
        vec![
            ends(saga, None),
            one(both(&["running"]).into_iter().map(|seen| ends(saga, Some(seen)))),
            one(both(&others).into_iter().map(|seen| ends(saga, Some(seen)))),
        ]
    };
    check(MAY_CLOSE, line, places());
}

/// The places of [`DUE`]: those, and a few that only differ in their history.
fn due_places() -> Vec<(String, Saga)> {
    let mut places = places();
    let after = |places: &mut Vec<(String, Saga)>, place: &str, more: &str, sends: u32| {
        let at = places.iter().position(|(name, _)| name == place).unwrap();
        let verb_end = if place.starts_with("refused") { "refused START" } else { "doubt START" };
        let mut to = places.iter().position(|(name, _)| name == verb_end).unwrap() + 1;
        while places.get(to).is_some_and(|(name, _)| name.contains(',')) {
            to += 1;
        }
        let saga = Saga { sends, ..places[at].1.clone() };
        places.insert(to, (format!("{place}, {more}"), saga));
    };
    after(&mut places, "refused STOP", "for good", 0);
    after(&mut places, "refused STOP", "3 times", 3);
    after(&mut places, "doubt STOP", "3 times", 3);
    places
}

#[test]
fn what_is_due_is_what_the_table_says() {
    let says = |saga: &Saga, next: Move| match next {
        Move::Wait => "wait".to_string(),
        Move::Look => "look".to_string(),
        Move::Ask => saga.step().unwrap().verb.to_string(),
        Move::Again => format!("again {}", saga.step().unwrap().verb),
        Move::Close(end) => ending(end).to_string(),
    };
    let times: [(&str, u64); 6] =
        [("", 0), ("10s: ", 10), ("2m: ", 120), ("5m: ", 300), ("15m: ", 900), ("1d: ", 86_400)];
    let over_time = |saga: &Saga, sight: &Option<Seen>| {
        let saga = Saga { seen: sight.clone(), ..saga.clone() };
        let reply = if saga.sends == 0 { Reply::Refused } else { Reply::Busy };
        let mut cell: Vec<String> = Vec::new();
        let mut last = String::new();
        for (from, seconds) in times {
            let at = |seconds: u64| Mono(1_000_000).plus(Duration::from_secs(seconds));
            let now = at(seconds);
            let pace =
                Pace { reply: Some(reply), seen_at: sight.is_some().then_some(now), ..Pace::new(Mono(1_000_000)) };
            let next = due(&saga, &pace, now, POLL);
            // One moment before, it is not yet so; and what is only looked at waits for its time.
            let early = Pace { not_before: now.plus(Duration::from_millis(1)), ..pace.clone() };
            let rests = due(&saga, &early, now, POLL);
            assert_eq!(rests, if next == Move::Look { Move::Wait } else { next }, "{saga:?}");
            // A stale look leads to another look and to nothing else.
            let stale = due(&saga, &pace, now.plus(POLL + Duration::from_millis(1)), POLL);
            assert!(sight.is_none() || matches!(stale, Move::Look | Move::Wait), "{saga:?} {stale:?}");
            if let Some(before) = seconds.checked_sub(1).filter(|_| sight.is_some()) {
                let sooner = Pace { seen_at: Some(at(before)), ..pace };
                assert_eq!(says(&saga, due(&saga, &sooner, at(before), POLL)), last, "{saga:?} {from}");
            }
            if says(&saga, next) != last {
                last = says(&saga, next);
                cell.push(format!("{from}{last}"));
            }
        }
        cell.join("; ")
    };
    let line =
        |saga: &Saga| sights().iter().map(|column| one(column.iter().map(|sight| over_time(saga, sight)))).collect();
    check(DUE, line, due_places());
}

#[test]
fn the_tables_of_the_decision_are_these() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/adr/0022-a-repair-is-a-saga.md");
    let (begin, end) = ("<!-- tables -->\n", "<!-- end of tables -->");
    let titles = [
        ("Where a look leads", LOOKS),
        ("Where all else leads", EVENTS),
        ("What may be asked, by what was seen since", MAY_ASK),
        ("How it may be ended, by what was seen since", MAY_CLOSE),
        ("What is due, by what was seen just now", DUE),
    ];
    let mut rendered = String::new();
    for (title, table) in titles {
        let _ = writeln!(rendered, "\n### {title}\n");
        for row in rows(table) {
            let _ = writeln!(rendered, "| {} |", row.join(" | "));
        }
    }
    let text = std::fs::read_to_string(path).unwrap();
    let (head, rest) = text.split_once(begin).expect("the ADR has a place for the tables");
    let (found, tail) = rest.split_once(end).expect("the ADR has an end of the tables");
    if std::env::var_os("WATCHDOG_TEST_WRITE").is_some() {
        std::fs::write(path, format!("{head}{begin}{rendered}\n{end}{tail}")).unwrap();
    } else {
        assert_eq!(found.trim(), rendered.trim(), "WATCHDOG_TEST_WRITE=1 cargo test recovery_table writes them anew");
    }
}
