//! The journal of repairs on real files: whole or told, in order, and what is owed never forgotten.

use std::fs;
use std::ops::Range;

use watchdog::core::edge::EdgeKind;
use watchdog::core::recovery::journal::{Event, Record, fold};
use watchdog::core::recovery::legacy::STOP_START;
use watchdog::core::recovery::saga::End;
use watchdog::core::recovery::subject::{Fence, Reply, Seen, State as Power, Verb};
use watchdog::store::{Commit, Condition, HistoryEntry, Repairs, Store};

use super::{at, beside, channels, commit_alert, edge, keys, names, open, opened_repair, quick_dir, repairs, row};

/// What damage tests write: two repairs that are over, one about to switch off, one that owes a
/// START, and one that is only decided.
fn written(n: usize) -> Vec<Record> {
    let fence = |name: &str| Fence::new(format!("etag-{name}"), format!("token-{n}-{name}"));
    let seen = |state, name: &str| Event::Seen { seen: Seen::new(state, format!("etag-{name}")) };
    let accepted = |verb| Event::Replied { verb, reply: Reply::Accepted, detail: String::new() };
    let all = [
        Event::Opened { procedure: STOP_START.into(), simulated: false },
        Event::Intent { verb: Verb::STOP, fence: fence("a") },
        accepted(Verb::STOP),
        seen(Power::Stopped, "b"),
        Event::Intent { verb: Verb::START, fence: fence("b") },
        accepted(Verb::START),
        seen(Power::Running, "c"),
    ];
    let none = vec![all[0].clone(), Event::Closed { end: End::NoEffect }];
    let events = [all.to_vec(), none, all[..4].to_vec(), all[..2].to_vec(), all[..1].to_vec()];
    let record = |(number, event): (usize, &Event)| Record {
        saga: format!("saga-{n}"),
        target: format!("node/machine-{n}"),
        number: u32::try_from(number).unwrap(),
        at: at(number.try_into().unwrap()).wall,
        event: event.clone(),
    };
    events[n].iter().enumerate().map(record).collect()
}

/// Writes repairs that [`hold_repairs`] looks for.
pub fn commit_repairs(store: &Store, which: Range<usize>) {
    for n in which {
        for record in written(n) {
            let kept = (format!("node/machine-{n}").into(), format!("kept {}", record.number));
            let commit = Commit { records: &[record], targets: &[kept], budget: Some("9"), ..Commit::default() };
            store.commit(at(100), &commit).unwrap();
        }
    }
}

/// Nothing that was not written is told, all of it in order, and who owes something owes it. True when
/// nothing is missing.
pub fn hold_repairs(repairs: &Repairs, what: &str) -> bool {
    let own = |record: &&Record| record.saga.starts_with("saga-");
    let all: Vec<Record> = (0..5).flat_map(written).collect();
    let mut rest = all.iter();
    for record in repairs.records.iter().filter(own) {
        assert!(rest.any(|known| known == record), "{what}: invented, twice or out of order: {record:?}");
    }
    for (n, record) in repairs.records.iter().filter(|record| !own(record)).enumerate() {
        assert!(n < 10 && *record == opened_repair(record.saga[7..].parse().unwrap()), "{what}: {record:?}");
    }
    for (name, body) in repairs.targets.iter().filter(|(name, _)| name.starts_with("node/machine-")) {
        let known = (0..5).find(|n| *name == format!("node/machine-{n}")).map(written);
        assert!(
            known.unwrap().iter().any(|record| *body == format!("kept {}", record.number)),
            "{what}: {name} {body}"
        );
    }
    let open: Vec<String> = fold(&repairs.records).into_iter().map(|told| told.id).collect();
    for n in [2, 3] {
        let stop = &written(n)[1];
        assert!(!repairs.records.contains(stop) || open.contains(&stop.saga), "{what}: forgotten: {}", stop.saga);
    }
    assert!((2..5).all(|n| !repairs.closed.contains(&format!("saga-{n}"))), "{what}: {:?}", repairs.closed);
    let whole = repairs.records.iter().filter(own).count() == all.len() && repairs.targets.len() >= 5;
    if whole {
        assert!(["saga-0", "saga-1"].iter().all(|saga| repairs.closed.contains(*saga)), "{what}");
        assert_eq!(open.iter().filter(|saga| saga.starts_with("saga-")).count(), 3, "{what}");
    }
    whole
}

#[test]
fn a_commit_that_fails_leaves_neither_edge_nor_record_in_the_file() {
    let dir = quick_dir();
    let path = dir.path().join("state.db");
    let opened = open(&path, 0);
    commit_alert(&opened.store, 1);
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    commit_alert(&opened.store, 2);
    assert!(matches!(opened.store.condition(), Condition::Degraded { .. }), "no request may leave");
    assert_eq!(repairs(&opened.store), (vec![1, 2], 2), "known all the same");
    let view = Store::read(&path).unwrap();
    assert_eq!(repairs(&view), (vec![1], 1));
    assert_eq!((keys(&view, "telegram").len(), view.signals().unwrap().len()), (1, 2));
}

#[test]
fn records_targets_budget_and_lines_alone_are_reason_enough_to_write() {
    let dir = quick_dir();
    let path = dir.path().join("state.db");
    let opened = open(&path, 0);
    commit_alert(&opened.store, 1);
    let line = HistoryEntry {
        at: at(1).wall,
        kind: "step".to_string(),
        subject: "node/a".to_string(),
        incident: None,
        severity: None,
        text: "about to ask for STOP".to_string(),
    };
    let (kept, record) = ((std::sync::Arc::from("node-1"), "kept 1".to_string()), opened_repair(5));
    for commit in [
        Commit { records: &[record], ..Commit::default() },
        Commit { targets: &[kept], ..Commit::default() },
        Commit { budget: Some("7"), ..Commit::default() },
        Commit { forgotten: &["node-1".into(), "".into(), "nobody".into()], ..Commit::default() },
        Commit { lines: &[line], ..Commit::default() },
    ] {
        opened.store.commit(at(1), &commit).unwrap();
    }
    let view = Store::read(&path).unwrap();
    let repairs = view.repairs().unwrap();
    assert_eq!((repairs.records.len(), repairs.budget.as_deref()), (2, Some("7")));
    assert!(repairs.targets.is_empty(), "what is forgotten is gone: {:?}", repairs.targets);
    let lines = view.history(&watchdog::store::Filter { limit: 9, ..Default::default() }).unwrap();
    assert_eq!(lines[0].kind, "step");
}

#[test]
fn a_damaged_row_is_told_and_takes_no_other_repair_with_it() {
    let dir = quick_dir();
    let path = dir.path().join("state.db");
    commit_repairs(&open(&path, 0).store, 0..5);
    let clean = fs::read(&path).unwrap();
    let places: Vec<usize> =
        clean.windows(5).enumerate().filter(|(_, text)| text == b"saga-").map(|(at, _)| at).collect();
    assert!(places.len() >= 16, "{}", places.len());
    let stops: Vec<Record> = [2, 3].map(|n| written(n)[1].clone()).to_vec();
    let mut lost = 0;
    for place in places {
        for name in names(dir.path()) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        let mut file = clean.clone();
        file[place + 3] ^= 0x04;
        fs::write(&path, file).unwrap();
        let opened = open(&path, 1_000);
        assert!(opened.before.is_none() && opened.notes[0].contains("damaged"), "{place}: {:?}", opened.notes);
        let repairs = opened.repairs;
        let missing = 16 - repairs.records.len();
        assert!(missing <= 1 && missing == repairs.unsound, "{place}: {missing} {}", repairs.unsound);
        assert_eq!(opened.notes[0].contains("check the machines"), missing > 0, "{:?}", opened.notes);
        hold_repairs(&repairs, &format!("byte {place}"));
        lost += stops.iter().filter(|stop| !repairs.records.contains(stop)).count();
        // Saved and told: the next start finds a sound file.
        drop(opened.store);
        let again = open(&path, 1_001);
        assert_eq!((again.repairs.records, again.repairs.unsound), (repairs.records, 0));
    }
    assert_eq!(lost, 2, "each intent is lost only with its own row");
}

#[test]
fn no_damaged_byte_of_a_journal_invents_a_record_or_forgets_what_is_owed() {
    let dir = quick_dir();
    let path = dir.path().join("state.db");
    commit_repairs(&open(&path, 0).store, 0..5);
    let (clean, lock) = (fs::read(&path).unwrap(), fs::read(beside(&path, ".lock")).unwrap());
    let page = clean.windows(15).position(|text| text == b"saga-4machine-4").unwrap() / 4_096 * 4_096;
    let mut whole = 0;
    for place in page..page + 4_096 {
        for name in names(dir.path()) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        let mut file = clean.clone();
        file[place] ^= if place % 2 == 0 { 0x01 } else { 0xff };
        fs::write(&path, file).unwrap();
        fs::write(beside(&path, ".lock"), &lock).unwrap();
        let opened = open(&path, 1_000);
        let what = format!("byte {place}");
        assert_eq!(opened.store.condition(), Condition::File, "{what}");
        let told = hold_repairs(&opened.repairs, &what);
        assert!(told || (opened.repairs.unsound > 0 && opened.notes[0].contains("check the machines")), "{what}");
        whole += u32::from(told);
    }
    println!("{whole} of 4096 were told whole");
    assert!(whole > 0 && whole < 3_000);
}

#[test]
fn of_a_journal_with_a_hole_both_ends_are_saved() {
    let dir = quick_dir();
    let path = dir.path().join("state.db");
    let first = open(&path, 0);
    let records: Vec<Record> = (100..400).map(opened_repair).collect();
    first.store.commit(at(1), &Commit { records: &records, ..Commit::default() }).unwrap();
    drop(first);
    let mut file = fs::read(&path).unwrap();
    let row = b"repair-250node-250";
    let place = file.windows(row.len()).position(|text| text == row).unwrap() / 4_096 * 4_096;
    file[place..place + 4_096].fill(0);
    fs::write(&path, file).unwrap();
    let Repairs { records: saved, unsound, closed, .. } = open(&path, 1_000).repairs;
    assert!(saved.len() > 200 && saved.len() < 300 && unsound > 0, "{} {unsound}", saved.len());
    assert_eq!((saved.first(), saved.last()), (records.first(), records.last()));
    assert!(saved.windows(2).all(|pair| pair[0].at < pair[1].at) && closed.is_empty());
}

#[test]
fn a_new_file_that_a_kill_kept_from_its_place_is_put_there_at_the_next_start() {
    let dir = quick_dir();
    let path = dir.path().join("state.db");
    commit_alert(&open(&path, 0).store, 1);
    fs::rename(&path, beside(&path, ".new")).unwrap();
    let opened = open(&path, 1);
    assert!(opened.notes.is_empty(), "{:?}", opened.notes);
    assert_eq!(repairs(&opened.store), (vec![1], 1));
    drop(opened);
    fs::write(beside(&path, ".new"), "half of one").unwrap();
    assert_eq!(repairs(&open(&path, 2).store), (vec![1], 1), "a file that is there stays");
}

#[test]
fn what_is_written_without_a_file_that_could_be_read_is_added_to_it_later() {
    let dir = quick_dir();
    let path = dir.path().join("state.db");
    commit_alert(&open(&path, 0).store, 1);
    let aside = beside(&path, ".elsewhere");
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    let opened = open(&path, 1);
    let edges = [edge(EdgeKind::Alert, "probe/2", "i2", 2)];
    let commit = Commit {
        signals: &[row("count", "2")],
        edges: &edges,
        channels: &channels(),
        records: &[opened_repair(2)],
        targets: &[("node-2".into(), "kept 2".to_string())],
        budget: Some("2"),
        ..Commit::default()
    };
    opened.store.commit(at(2), &commit).unwrap();
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    opened.store.commit(at(90), &Commit::default()).unwrap();
    assert_eq!(opened.store.condition(), Condition::File, "{:?}", opened.store.take_notes());
    assert_eq!(repairs(&opened.store), (vec![1, 2], 1), "what the file remembers as spent stays");
}
