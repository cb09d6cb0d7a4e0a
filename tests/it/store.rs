//! The store on real files: damaged, replaced, on a full and on a read-only disk, killed half-way.
//!
//! What was reported as committed is there afterwards, or it is said that it is not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod damage;
mod disk;
mod journal;
mod kill;
mod model;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use watchdog::core::edge::{Edge, EdgeKind, Incident};
use watchdog::core::message::Receipt;
use watchdog::core::recovery::journal::{Event, Record};
use watchdog::core::recovery::legacy::STOP_START;
use watchdog::core::signal::{Severity, SignalKey};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::store::{Commit, Condition, Filter, HistoryEntry, Opened, SignalRow, Store, StoreError};

const BOOT: &str = "boot-a";

fn at(second: i64) -> Now {
    Now { wall: Wall(1_767_225_600_000 + second * 1_000), mono: Mono(second * 1_000), awake: Mono(second * 1_000) }
}

fn edge(kind: EdgeKind, key: &str, incident: &str, second: i64) -> Edge {
    Edge {
        kind,
        key: SignalKey::new(key),
        title: format!("title of {key}"),
        severity: Severity::Critical,
        fact: format!("fact {second} · ünïcode <&>"),
        since: at(second).wall,
        at: at(second).wall,
        lasted: Duration::from_secs(5),
        incident: Incident(incident.to_string()),
        reason: "because".to_string(),
        ..Edge::default()
    }
}

fn row(key: &str, body: &str) -> SignalRow {
    SignalRow { key: SignalKey::new(key), body: body.to_string() }
}

fn channels() -> Vec<String> {
    vec!["telegram".to_string(), "console".to_string()]
}

fn open(path: &Path, second: i64) -> Opened {
    Store::open(Some(path), at(second), BOOT).unwrap()
}

/// The first line about repair n.
fn opened_repair(n: i64) -> Record {
    Record {
        saga: format!("repair-{n}"),
        target: format!("node/node-{n}"),
        number: 0,
        at: at(n).wall,
        event: Event::Opened { procedure: STOP_START.into(), simulated: false },
    }
}

/// The repairs n in the order in which they are told, and what is remembered as spent.
fn repairs(store: &Store) -> (Vec<i64>, i64) {
    let repairs = store.repairs().unwrap();
    assert_eq!(repairs.unsound, 0);
    let numbers: Vec<i64> = repairs.records.iter().map(|record| record.saga[7..].parse().unwrap()).collect();
    assert_eq!(repairs.records, numbers.iter().map(|n| opened_repair(*n)).collect::<Vec<_>>());
    let targets: BTreeSet<_> = repairs.targets.into_iter().collect();
    assert_eq!(targets, numbers.iter().map(|n| (format!("node/node-{n}"), format!("kept {n}"))).collect());
    (numbers, repairs.budget.unwrap().parse().unwrap())
}

/// Alert n: the signal's state, its edge and the first line of a repair in one commit.
fn commit_alert(store: &Store, n: i64) {
    let key = format!("probe/{n}");
    store
        .commit(
            at(n),
            &Commit {
                signals: &[row(&key, &format!("{{\"n\":{n}}}")), row("count", &n.to_string())],
                removed: &[],
                edges: &[edge(EdgeKind::Alert, &key, &format!("i{n}"), n)],
                channels: &channels(),
                records: &[opened_repair(n)],
                targets: &[(format!("node/node-{n}").into(), format!("kept {n}"))],
                budget: Some(&n.to_string()),
                ..Commit::default()
            },
        )
        .unwrap();
}

fn keys(store: &Store, channel: &str) -> Vec<String> {
    store.pending(channel, 1_000).unwrap().iter().map(|pending| pending.edge.key.to_string()).collect()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A directory in memory, so that thousands of opens do not wait for a disk.
fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn what_is_committed_is_there_after_a_restart_and_only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/state.db");
    let first = open(&path, 0);
    assert_eq!((first.notes.len(), first.before.is_none()), (0, true), "{:?}", first.notes);
    assert_eq!(first.store.condition(), Condition::File);
    (1..=3).for_each(|n| commit_alert(&first.store, n));
    let ids: Vec<_> = first.store.pending("telegram", 1).unwrap().iter().map(|pending| pending.id).collect();
    let receipt =
        Receipt { reference: Some("42:7".to_string()), remember: Some(("chat".to_string(), "-100".to_string())) };
    first.store.acknowledge(at(4), "telegram", &ids, &[Incident("i1".to_string())], &receipt).unwrap();
    for name in names(path.parent().unwrap()) {
        let mode = fs::metadata(path.with_file_name(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} {mode:o}");
    }
    drop(first);

    let second = open(&path, 435);
    let before = second.before.unwrap();
    assert_eq!((before.last_at, before.last_mono, before.same_boot), (at(3).wall, at(3).mono, true));
    assert_eq!(before.signals.len(), 4);
    assert_eq!(before.signals[0], row("count", "3"));
    assert!(second.notes.is_empty(), "{:?}", second.notes);
    assert_eq!(repairs(&second.store), (vec![1, 2, 3], 3));
    assert_eq!(second.store.repairs().unwrap(), second.repairs);
    assert_eq!(second.store.journal("node-2").unwrap(), [opened_repair(2)]);
    assert_eq!(keys(&second.store, "telegram"), ["probe/2", "probe/3"]);
    assert_eq!(keys(&second.store, "console"), ["probe/1", "probe/2", "probe/3"]);
    assert_eq!(second.store.reference("telegram", &Incident("i1".to_string())).unwrap().as_deref(), Some("42:7"));
    assert_eq!(second.store.remembered("telegram").unwrap()["chat"], "-100");
    let kinds: Vec<_> = second.store.history(&Filter { limit: 10, ..Filter::default() }).unwrap();
    assert_eq!(
        kinds.iter().map(|line| line.kind.as_str()).collect::<Vec<_>>(),
        ["delivered", "alert", "alert", "alert"]
    );
}

#[test]
fn ages_are_carried_over_a_reboot_whatever_the_clocks_did() {
    // Same or another boot × the wall clock went back, stood still, went forward, a year forward.
    for boot in [BOOT, "boot-b", ""] {
        for (wall, age) in [(-500, 0), (0, 0), (90, 90), (400 * 86_400, 30 * 86_400)] {
            let dir = quick_dir();
            let path = dir.path().join("state.db");
            commit_alert(&open(&path, 1_000).store, 1_000);
            let now = Now { wall: at(1_000 + wall).wall, mono: Mono(1_060_000), awake: Mono(1_060_000) };
            let opened = Store::open(Some(&path), now, boot).unwrap();
            let oldest = opened.store.backlog("telegram").unwrap().oldest_mono.unwrap();
            let age = if boot == BOOT { 60 } else { age };
            assert_eq!(now.mono.since(oldest), Duration::from_secs(age), "{boot} {wall}");
            assert_eq!(opened.before.unwrap().same_boot, boot == BOOT);
        }
    }
}

#[test]
fn a_second_daemon_is_refused_with_the_file_named_and_a_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let daemon = open(&path, 0);
    commit_alert(&daemon.store, 1);
    let Err(error @ StoreError::Locked { .. }) = Store::open(Some(&path), at(1), BOOT) else { panic!("two daemons") };
    let text = error.to_string();
    assert!(text.contains("state.db") && text.contains(&format!("process {}", std::process::id())), "{text}");

    let view = Store::read(&path).unwrap();
    assert_eq!((view.signals().unwrap().len(), view.last()), (2, Some((at(1).wall, at(1).mono))));
    commit_alert(&daemon.store, 2);
    assert_eq!(view.signals().unwrap().len(), 3, "a view sees what the daemon writes");
    assert_eq!(repairs(&view), (vec![1, 2], 2));
    assert!(matches!(view.commit(at(3), &Commit::default()), Err(StoreError::ReadOnly)));
    assert!(matches!(view.remember("telegram", "a", "b"), Err(StoreError::ReadOnly)));
    drop(daemon);
    open(&path, 3);
}

#[test]
fn a_view_of_nothing_or_of_rubbish_is_an_error_that_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    assert!(matches!(Store::read(&path), Err(StoreError::Absent { .. })));
    assert!(names(dir.path()).is_empty());
    for rubbish in [&b""[..], b"x", &[7; 5_000]] {
        fs::write(&path, rubbish).unwrap();
        assert!(matches!(Store::read(&path), Err(StoreError::Unreadable { .. })));
        assert_eq!(fs::read(&path).unwrap(), rubbish);
    }
    assert!(matches!(Store::read(dir.path()), Err(StoreError::Unreadable { .. })));
}

#[test]
fn a_file_of_a_newer_version_is_put_aside_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    (1..=2).for_each(|n| commit_alert(&open(&path, 0).store, n));
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let newer = fs::read(&path).unwrap();
    assert!(matches!(Store::read(&path), Err(StoreError::Unreadable { .. })));

    let opened = open(&path, 3);
    assert_eq!(opened.store.condition(), Condition::File);
    assert!(opened.before.is_none());
    assert!(opened.notes.iter().any(|note| note.contains("newer watchdog (version 99)")), "{:?}", opened.notes);
    let aside = dir.path().join("state.db.newer-20260101T000003Z");
    assert_eq!(fs::read(aside).unwrap(), newer);
    assert_eq!(keys(&opened.store, "telegram"), ["probe/1", "probe/2"], "what was to be said is saved");
    assert!(opened.store.signals().unwrap().is_empty());
    assert_eq!(repairs(&opened.store), (vec![1, 2], 2), "what is owed to machines is saved");
    assert!(opened.notes[0].contains("2 lines of the journal of repairs were saved"), "{:?}", opened.notes);
}

#[test]
fn a_database_of_another_program_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)")
        .unwrap();
    let opened = open(&path, 0);
    assert!(opened.notes[0].contains("not written by watchdog"), "{:?}", opened.notes);
    let aside = rusqlite::Connection::open(dir.path().join("state.db.corrupt-20260101T000000Z")).unwrap();
    assert_eq!(aside.query_row("SELECT a FROM theirs", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn notes_are_kept_and_found_by_subject_and_time() {
    let store = Store::open(None, at(0), BOOT).unwrap().store;
    assert_eq!(store.condition(), Condition::Memory);
    for n in 0..10 {
        let entry = HistoryEntry {
            at: at(n).wall,
            kind: "failed".to_string(),
            subject: if n % 2 == 0 { "telegram" } else { "console" }.to_string(),
            incident: None,
            severity: Some(Severity::Info),
            text: n.to_string(),
        };
        store.note(at(n), &entry).unwrap();
    }
    let filter =
        Filter { subject: Some("telegram".to_string()), since: Some(at(3).wall), limit: 2, ..Filter::default() };
    let texts: Vec<_> = store.history(&filter).unwrap().into_iter().map(|line| line.text).collect();
    assert_eq!(texts, ["8", "6"]);
}
