//! The table of a repair, written by hand and held against the code cell by cell: where each event
//! leads, what may be asked, how it may end, what is due. The same tables stand in the ADR.
//!
//! The code is only read here, never used to make the expectation: `LOOKS` to `DUE` are written text.

use std::fmt::Write as _;
use std::time::Duration;

use watchdog::core::recovery::journal::Event;
use watchdog::core::recovery::pace::{Move, Pace, due};
use watchdog::core::recovery::power::{Fence, Lifecycle, Reply, Rung, Seen, Verb};
use watchdog::core::recovery::saga::{End, Saga, Stage};
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
    Fence { etag: "e1".into(), token: "t1".into() }
}

/// Every place where a repair can stand, by its name in the tables.
fn places() -> Vec<(String, Saga)> {
    let rung = |verb| match verb {
        Verb::Reset => Rung::Reset,
        Verb::SoftReset => Rung::SoftReset,
        Verb::Stop | Verb::Start => Rung::StopStart,
    };
    let at = |verb, stage, unsure| Saga { stage, fence: present(), unsure, sends: 1, ..Saga::open(rung(verb)) };
    let verbs = [Verb::Stop, Verb::Reset, Verb::SoftReset, Verb::Start];
    let mut places = vec![("decided".to_string(), Saga::open(Rung::StopStart))];
    places.extend(verbs.map(|verb| (format!("asking {verb}"), at(verb, Stage::Asking(verb), false))));
    places.extend(verbs.map(|verb| (format!("refused {verb}"), at(verb, Stage::Doubt(verb), false))));
    places.extend(verbs.map(|verb| (format!("doubt {verb}"), at(verb, Stage::Doubt(verb), true))));
    places.extend(verbs.map(|verb| (format!("await {verb}"), at(verb, Stage::Awaiting(verb), false))));
    places.push(("owing".to_string(), at(Verb::Stop, Stage::Owing, false)));
    places.push(("over".to_string(), at(Verb::Stop, Stage::Closed(End::Up), false)));
    places
}

fn name(saga: &Saga) -> String {
    match saga.stage {
        Stage::Deciding => "decided".to_string(),
        Stage::Asking(verb) => format!("asking {verb}"),
        Stage::Doubt(verb) if saga.unsure => format!("doubt {verb}"),
        Stage::Doubt(verb) => format!("refused {verb}"),
        Stage::Awaiting(verb) => format!("await {verb}"),
        Stage::Owing => "owing".to_string(),
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

fn seen(lifecycle: Lifecycle, etag: &str) -> Seen {
    Seen { lifecycle, etag: etag.to_string() }
}

/// Both versions of each state, for the columns that hold them.
fn both(states: &[Lifecycle]) -> Vec<Seen> {
    states.iter().flat_map(|state| [seen(*state, "e1"), seen(*state, "e2")]).collect()
}

const ELSE: [Lifecycle; 4] = [Lifecycle::Moving, Lifecycle::Provisioning, Lifecycle::CreatingImage, Lifecycle::Other];

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
    use Lifecycle as L;
    let columns = [
        vec![seen(L::Running, "e1")],
        vec![seen(L::Running, "e2")],
        both(&[L::Stopping]),
        both(&[L::Stopped]),
        both(&[L::Starting]),
        both(&ELSE),
        both(&[L::Terminating, L::Terminated]),
    ];
    let states: usize = columns.iter().map(Vec::len).sum();
    assert_eq!(states, L::ALL.len() * 2, "every state in both versions");
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
        let asked = saga.asked().unwrap_or(Verb::Stop);
        for verb in Verb::ALL.into_iter().filter(|verb| saga.asked() != Some(*verb)) {
            assert!(Reply::ALL.into_iter().all(|reply| replied(verb, reply) == "!"), "{verb} was not asked");
        }
        let sure = Reply::ALL.into_iter().filter(|reply| !matches!(reply, Reply::Accepted | Reply::Unknown));
        let began = [
            Event::Opened { rung: saga.rung, simulated: false },
            Event::Adopted { verb: Verb::Stop, fence: present() },
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
    let doubt = Saga { seen: Some(seen(Lifecycle::Running, "e1")), ..Saga::adopt(Verb::Stop, present()) };
    let again = doubt.apply(&Event::Intent { verb: Verb::Stop, fence: present() }).unwrap();
    assert_eq!((again.stage, again.unsure, again.sends, &again.seen), (Stage::Asking(Verb::Stop), true, 2, &None));
    for reply in Reply::ALL {
        let next = again.apply(&Event::Replied { verb: Verb::Stop, reply, detail: String::new() }).unwrap();
        assert_eq!((next.unsure, next.seen), (true, None), "{reply:?}");
    }
    let owing = Saga { stage: Stage::Owing, seen: Some(seen(Lifecycle::Stopped, "e3")), ..doubt };
    let fence = Fence { etag: "e3".into(), token: "t3".into() };
    let start = owing.apply(&Event::Intent { verb: Verb::Start, fence: fence.clone() }).unwrap();
    assert_eq!((start.stage, start.unsure, start.sends, start.fence), (Stage::Asking(Verb::Start), false, 1, fence));
    for (place, saga) in places() {
        let owes =
            !matches!(place.as_str(), "decided" | "over" | "refused STOP" | "refused RESET" | "refused SOFTRESET");
        assert_eq!(saga.owes_start(), owes, "{place}");
    }
}

/// The columns of what was seen that [`MAY_ASK`] and [`DUE`] have.
fn sights() -> Vec<Vec<Option<Seen>>> {
    use Lifecycle as L;
    let other: Vec<L> = L::ALL.into_iter().filter(|state| !matches!(state, L::Running | L::Stopped)).collect();
    vec![
        vec![None],
        vec![Some(seen(L::Running, "e1"))],
        vec![Some(seen(L::Running, "e2"))],
        both(&[L::Stopped]).into_iter().map(Some).collect(),
        both(&other).into_iter().map(Some).collect(),
    ]
}

#[test]
fn nothing_may_be_asked_but_what_the_table_says() {
    let asks = |saga: &Saga, sight: &Option<Seen>| {
        let saga = Saga { seen: sight.clone(), ..saga.clone() };
        let version = sight.as_ref().map_or("e1", |seen| seen.etag.as_str());
        let fence = |etag: &str, token: &str| Fence { etag: etag.into(), token: token.into() };
        let fences = [present(), fence("e1", "t2"), fence("e2", "t2"), fence("e3", "t2")];
        let mut allowed = Vec::new();
        for verb in Verb::ALL {
            let may: Vec<&Fence> = fences.iter().filter(|fence| saga.may_ask(verb, fence)).collect();
            for fence in &fences {
                let intent = saga.apply(&Event::Intent { verb, fence: fence.clone() });
                assert_eq!(intent.is_ok(), may.contains(&fence), "the table of events asks may_ask");
            }
            let of_version: Vec<&Fence> = fences.iter().filter(|fence| fence.etag == version).collect();
            if (may.len() == fences.len() && saga.stage == Stage::Deciding)
                || (may == of_version && verb == Verb::Start)
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
    for rung in [Rung::StopStart, Rung::Reset, Rung::SoftReset, Rung::Start] {
        let may = Verb::ALL.into_iter().filter(|verb| Saga::open(rung).may_ask(*verb, &present()));
        assert_eq!(may.collect::<Vec<_>>(), [rung.first()], "a decided repair asks for its first step");
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
    let others: Vec<Lifecycle> = Lifecycle::ALL.into_iter().filter(|state| *state != Lifecycle::Running).collect();
    let line = |saga: &Saga| {
        vec![
            ends(saga, None),
            one(both(&[Lifecycle::Running]).into_iter().map(|seen| ends(saga, Some(seen)))),
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
    let says = |next: Move| match next {
        Move::Wait => "wait".to_string(),
        Move::Look => "look".to_string(),
        Move::Start => "START".to_string(),
        Move::Again(verb) => format!("again {verb}"),
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
                assert_eq!(says(due(&saga, &sooner, at(before), POLL)), last, "{saga:?} {from}");
            }
            if says(next) != last {
                last = says(next);
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
