//! The store on real files: damaged, replaced, on a full and on a read-only disk, killed half-way.
//!
//! What was reported as committed is there afterwards, or it is said that it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use watchdog::core::edge::{Edge, EdgeKind, Incident};
use watchdog::core::signal::{Severity, SignalKey};
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::notifier::Receipt;
use watchdog::store::{Commit, Condition, Filter, HistoryEntry, Opened, SignalRow, Store, StoreError};

use crate::parts::skipped;

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

/// Alert n: the signal's state and its edge in one commit.
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
    assert_eq!(second.notes, ["the previous run was last alive 7m 12s ago"]);
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

/// A file, its log and its lock, as a kill between commits leaves them.
struct Scene {
    file: Vec<u8>,
    log: Vec<u8>,
    lock: Vec<u8>,
}

impl Scene {
    fn record(alerts: i64) -> Scene {
        let dir = quick_dir();
        let path = dir.path().join("state.db");
        // Some in the file, some only in the log.
        (1..=alerts).for_each(|n| commit_alert(&open(&path, 0).store, n));
        let opened = open(&path, 0);
        (alerts + 1..=alerts + 2).for_each(|n| commit_alert(&opened.store, n));
        let read = |suffix| fs::read(beside(&path, suffix)).unwrap();
        Scene { file: read(""), log: read("-wal"), lock: read(".lock") }
    }

    /// Opens the scene with these bytes; true when everything is there, false when something is
    /// missing and that was said.
    fn play(&self, dir: &Path, file: &[u8], log: &[u8], alerts: i64, what: &str) -> bool {
        for name in names(dir) {
            fs::remove_file(dir.join(name)).unwrap();
        }
        let path = dir.join("state.db");
        fs::write(&path, file).unwrap();
        fs::write(beside(&path, "-wal"), log).unwrap();
        fs::write(beside(&path, ".lock"), &self.lock).unwrap();
        let opened = open(&path, 1_000);
        let (store, notes) = (&opened.store, &opened.notes);
        assert_eq!(store.condition(), Condition::File, "{what}");
        let put_aside = names(dir).iter().any(|name| name.contains(".corrupt-") || name.contains(".newer-"));
        let said = notes.iter().any(|note| note.starts_with("state file "));
        assert!(said || !put_aside, "{what}: silent: {notes:?}");

        let signals = store.signals().unwrap();
        let pending = store.pending("telegram", 1_000).unwrap();
        let history = store.history(&Filter { limit: 1_000, ..Filter::default() }).unwrap();
        let total = alerts + 2;
        let whole = signals.len() == usize::try_from(total + 1).unwrap()
            && pending.len() == usize::try_from(total).unwrap()
            && store.backlog("console").unwrap().pending == total.unsigned_abs();
        assert!(whole || said, "{what}: lost silently: {} signals, {} pending", signals.len(), pending.len());
        if !signals.is_empty() {
            // Served: states and edges agree, and each is what was written.
            let count: i64 = signals[0].body.parse().unwrap();
            let expected: BTreeSet<_> =
                (1..=count).map(|n| edge(EdgeKind::Alert, &format!("probe/{n}"), &format!("i{n}"), n).fact).collect();
            assert_eq!(
                pending.iter().map(|pending| pending.edge.fact.clone()).collect::<BTreeSet<_>>(),
                expected,
                "{what}"
            );
        }
        assert!(history.len() <= usize::try_from(total).unwrap(), "{what}");
        // And it goes on.
        commit_alert(store, 2_000);
        assert!(keys(store, "telegram").contains(&"probe/2000".to_string()), "{what}");
        whole
    }
}

#[test]
fn every_prefix_of_a_state_file_is_served_or_put_aside_and_never_lost_silently() {
    let scene = Scene::record(6);
    let dir = quick_dir();
    assert!(scene.play(dir.path(), &scene.file, &scene.log, 6, "untouched"));
    let near_a_page = |length: usize| length % 4_096 < 2 || length % 4_096 == 4_095;
    let lengths = |all: usize| (0..=all).filter(move |n| *n < 120 || n % 1_021 == 0 || near_a_page(*n) || all - n < 3);
    let mut served = 0;
    for length in lengths(scene.file.len()) {
        // With its log, a short file may be whole again; without, what the log held is missing.
        served += u32::from(scene.play(dir.path(), &scene.file[..length], &scene.log, 6, &format!("file {length}")));
        scene.play(dir.path(), &scene.file[..length], &[], 6, &format!("file alone {length}"));
    }
    for length in lengths(scene.log.len()) {
        scene.play(dir.path(), &scene.file, &scene.log[..length], 6, &format!("log {length}"));
    }
    println!("{served} prefixes were served whole");
}

#[test]
fn many_damaged_bytes_are_found_and_never_believed() {
    let scene = Scene::record(6);
    let dir = quick_dir();
    let (mut served, mut found) = (0, 0);
    let mut count = |whole: bool| if whole { served += 1 } else { found += 1 };
    for position in (0..scene.file.len()).filter(|n| *n < 100 || n % 97 == 0) {
        for mask in [0x01, 0xff] {
            let mut file = scene.file.clone();
            file[position] ^= mask;
            count(scene.play(dir.path(), &file, &scene.log, 6, &format!("file byte {position} ^ {mask:#x}")));
        }
    }
    for position in (0..scene.log.len()).filter(|n| *n < 64 || n % 307 == 0) {
        let mut log = scene.log.clone();
        log[position] ^= 0xff;
        count(scene.play(dir.path(), &scene.file, &log, 6, &format!("log byte {position}")));
    }
    println!("{served} served whole, {found} found and said");
    assert!(served > 0 && found > 0);
}

#[test]
fn a_state_file_that_vanished_is_told_and_one_that_vanishes_in_use_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let opened = open(&path, 0);
    (1..=3).for_each(|n| commit_alert(&opened.store, n));
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(&path, suffix));
    }
    commit_alert(&opened.store, 4);
    assert_eq!(opened.store.condition(), Condition::File);
    assert_eq!(opened.store.take_notes().len(), 2);
    drop(opened);
    let again = open(&path, 10);
    assert_eq!(keys(&again.store, "console"), ["probe/1", "probe/2", "probe/3", "probe/4"]);
    drop(again);
    fs::remove_file(&path).unwrap();
    let opened = open(&path, 20);
    assert!(opened.notes[0].contains("commits are missing"), "{:?}", opened.notes);
}

#[test]
fn what_is_no_file_or_cannot_be_made_is_worked_without() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in
        [dir.path().to_path_buf(), file.join("state.db"), PathBuf::from("/proc/state.db"), PathBuf::from("/dev/null")]
    {
        let opened = open(&path, 0);
        let Condition::Degraded { why, since } = opened.store.condition() else { panic!("{}", path.display()) };
        assert_eq!(since, at(0).wall, "{why}");
        assert_eq!(opened.notes.len(), 1, "{:?}", opened.notes);
        commit_alert(&opened.store, 1);
        commit_alert(&opened.store, 100);
        assert_eq!(keys(&opened.store, "console"), ["probe/1", "probe/100"]);
    }
}

/// A small filesystem of its own, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(test: &str, dir: &Path, options: &str) -> Option<Mount> {
        let place = dir.join("mount");
        fs::create_dir(&place).unwrap();
        let outcome = Command::new("mount").args(["-t", "tmpfs", "-o", options, "watchdog-test"]).arg(&place).output();
        let why = match outcome {
            Ok(done) if done.status.success() => return Some(Mount(place)),
            Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_string(),
            Err(error) => error.to_string(),
        };
        skipped(test, "mount", &why);
        None
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_worked_without_and_everything_is_carried_back_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new("a_full_disk_is_worked_without", dir.path(), "size=1m,mode=700") else { return };
    let path = mount.0.join("state.db");
    let ballast = mount.0.join("ballast");
    let opened = open(&path, 0);
    let store = &opened.store;
    (1..=3).for_each(|n| commit_alert(store, n));
    // Whatever is left is taken away; the log's own blocks carry a few commits more.
    fs::write(&ballast, vec![0; 2 << 20]).unwrap_err();
    let mut n = 3;
    while store.condition() == Condition::File {
        n += 1;
        assert!(n < 2_000, "the disk never filled");
        commit_alert(store, n);
    }
    let Condition::Degraded { why, since } = store.condition() else { unreachable!() };
    println!("full after {n} commits: {why}");
    assert_eq!(since, at(n).wall);
    assert!(store.take_notes()[0].contains("working in memory"));
    let first = store.pending("telegram", 1).unwrap()[0].id;
    store.acknowledge(at(n), "telegram", &[first], &[Incident("i1".to_string())], &Receipt::default()).unwrap();
    commit_alert(store, n + 61);
    assert!(matches!(store.condition(), Condition::Degraded { .. }), "still full");

    fs::remove_file(&ballast).unwrap();
    commit_alert(store, n + 100);
    assert!(matches!(store.condition(), Condition::Degraded { .. }), "at most one try a minute");
    commit_alert(store, n + 122);
    assert_eq!(store.condition(), Condition::File);
    assert!(store.take_notes().last().unwrap().contains("works again after 2m 2s"));
    let expected: Vec<String> = (2..=n).chain([n + 61, n + 100, n + 122]).map(|n| format!("probe/{n}")).collect();
    drop(opened);
    let again = open(&path, n + 200);
    assert_eq!(keys(&again.store, "telegram"), expected);
    assert_eq!(again.store.signals().unwrap().len(), expected.len() + 2);
    let lines = again.store.history(&Filter { limit: 10_000, ..Filter::default() }).unwrap();
    assert_eq!(lines.iter().filter(|line| line.kind == "alert").count(), expected.len() + 1);
    assert_eq!(lines.iter().filter(|line| line.kind == "delivered").count(), 1);
}

#[test]
fn a_read_only_disk_is_read_and_worked_without() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new("a_read_only_disk_is_read", dir.path(), "size=4m,mode=700") else { return };
    let path = mount.0.join("state.db");
    (1..=3).for_each(|n| commit_alert(&open(&path, 0).store, n));
    mount.remount("ro");
    let opened = open(&path, 10);
    let store = &opened.store;
    assert!(matches!(store.condition(), Condition::Degraded { .. }));
    assert_eq!(opened.before.as_ref().unwrap().signals.len(), 4, "a restart repeats no alert");
    assert_eq!(Store::read(&path).unwrap().signals().unwrap().len(), 4);
    assert_eq!(keys(store, "telegram"), ["probe/1", "probe/2", "probe/3"]);
    let ids: Vec<_> = store.pending("telegram", 2).unwrap().iter().map(|pending| pending.id).collect();
    store.acknowledge(at(11), "telegram", &ids, &[], &Receipt::default()).unwrap();
    commit_alert(store, 12);
    mount.remount("rw");
    commit_alert(store, 90);
    assert_eq!(store.condition(), Condition::File, "{:?}", store.take_notes());
    drop(opened);
    let again = open(&path, 100);
    assert_eq!(keys(&again.store, "telegram"), ["probe/3", "probe/12", "probe/90"]);
    assert_eq!(again.before.unwrap().last_at, at(90).wall);
}

const CHILD: &str = "WATCHDOG_TEST_STORE";
const LIMITED: &str = "WATCHDOG_TEST_STORE_LIMITED";

/// Not a test of its own: the process that the kill test kills.
#[test]
fn child_that_commits_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let opened = open(Path::new(&path), 0);
    let start = opened.store.signals().unwrap().first().map_or(0, |row| row.body.parse().unwrap());
    for n in start + 1.. {
        println!("begun {n}");
        commit_alert(&opened.store, n);
        println!("committed {n}");
        if n % 3 == 0 {
            let ids: Vec<_> = opened.store.pending("telegram", 2).unwrap().iter().map(|pending| pending.id).collect();
            opened.store.acknowledge(at(n), "telegram", &ids, &[], &Receipt::default()).unwrap();
            ids.iter().for_each(|id| println!("acknowledged {id}"));
        }
    }
}

#[test]
fn a_kill_in_the_middle_of_commits_loses_nothing_that_was_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let (mut reported, mut begun, mut acknowledged) = (0, 0, BTreeSet::new());
    for round in 0..20_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::child_that_commits_until_it_is_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        // Killed after so many lines and some microseconds: at no fixed place within a commit.
        let quota = 5 + round * 7 % 23;
        let mut seen = 0;
        for line in lines.lines() {
            let line = line.unwrap();
            match line.split_once(' ') {
                Some(("begun", n)) => begun = n.parse::<i64>().unwrap(),
                Some(("committed", n)) => reported = n.parse::<i64>().unwrap(),
                Some(("acknowledged", id)) => drop(acknowledged.insert(id.parse::<i64>().unwrap())),
                _ => continue,
            }
            seen += 1;
            if seen == quota {
                std::thread::sleep(Duration::from_micros(round * 137 % 1_500));
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();

        let opened = open(&path, 0);
        assert!(!opened.notes.iter().any(|note| note.starts_with("state file")), "{:?}", opened.notes);
        let signals = opened.store.signals().unwrap();
        let count: i64 = signals.first().unwrap().body.parse().unwrap();
        assert!(count == reported || (count == begun && begun == reported + 1), "{count} {reported} {begun}");
        assert_eq!(signals.len(), usize::try_from(count).unwrap() + 1, "states");
        assert_eq!(opened.store.backlog("console").unwrap().pending, count.unsigned_abs(), "edges and states agree");
        let left: BTreeSet<i64> =
            opened.store.pending("telegram", 1_000).unwrap().iter().map(|pending| pending.id).collect();
        assert!(left.is_disjoint(&acknowledged), "an acknowledged edge came back");
        let alerts = opened.store.history(&Filter { limit: 10_000, ..Filter::default() }).unwrap();
        assert_eq!(alerts.iter().filter(|line| line.kind == "alert").count(), usize::try_from(count).unwrap());
        reported = count;
    }
    println!("20 kills, {reported} commits");
}

/// Not a test of its own: runs with a limit on the size of files, which only a process of its own may set.
#[test]
fn child_that_meets_a_write_error() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let Ok(path) = std::env::var(LIMITED) else { return };
    let limit = |current| setrlimit(Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(rustix::process::Signal::XFSZ.as_raw(), asked).unwrap();
    let opened = open(Path::new(&path), 0);
    let store = &opened.store;
    commit_alert(store, 1);
    limit(Some(fs::metadata(beside(Path::new(&path), "-wal")).unwrap().len()));
    let mut n = 1;
    while store.condition() == Condition::File {
        n += 1;
        commit_alert(store, n);
        assert!(n < 100, "the limit was never met");
    }
    commit_alert(store, n + 61);
    assert!(matches!(store.condition(), Condition::Degraded { .. }));
    limit(None);
    commit_alert(store, n + 130);
    assert_eq!(store.condition(), Condition::File);
    let expected: Vec<String> = (1..=n).chain([n + 61, n + 130]).map(|n| format!("probe/{n}")).collect();
    assert_eq!(keys(store, "telegram"), expected);
    drop(opened);
    assert_eq!(keys(&open(Path::new(&path), 0).store, "telegram"), expected);
}

#[test]
fn a_write_error_in_the_middle_of_a_commit_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::child_that_meets_a_write_error", "--nocapture"])
        .env(LIMITED, dir.path().join("state.db"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!names(dir.path()).iter().any(|name| name.contains(".suspect-")), "a limit says nothing against the file");
}

#[test]
fn a_file_that_is_damaged_while_in_use_is_replaced_by_what_is_known() {
    use std::os::unix::fs::FileExt;
    let dir = quick_dir();
    let path = dir.path().join("state.db");
    let opened = open(&path, 0);
    let store = &opened.store;
    let entry = HistoryEntry {
        at: at(0).wall,
        kind: "failed".to_string(),
        subject: "telegram".to_string(),
        incident: None,
        severity: None,
        text: "x".repeat(1_900),
    };
    (0..400).for_each(|_| store.note(at(0), &entry).unwrap());
    commit_alert(store, 1);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    file.write_all_at(&vec![0xa5; length - 80 * 4_096], 80 * 4_096).unwrap();

    let lines = store.history(&Filter { limit: 10_000, ..Filter::default() }).unwrap();
    assert!(lines.len() < 400);
    let Condition::Degraded { why, .. } = store.condition() else { panic!("damage was not seen") };
    assert!(why.contains("malformed"), "{why}");
    commit_alert(store, 2);
    assert_eq!(keys(store, "telegram"), ["probe/1", "probe/2"]);
    commit_alert(store, 90);
    assert_eq!(store.condition(), Condition::File, "{:?}", store.take_notes());
    assert!(names(dir.path()).iter().any(|name| name.starts_with("state.db.suspect-")));
    assert!(!names(dir.path()).iter().any(|name| name.contains(".new")));
    drop(opened);
    let again = open(&path, 100);
    assert_eq!(again.notes.len(), 1, "{:?}", again.notes);
    assert_eq!(keys(&again.store, "telegram"), ["probe/1", "probe/2", "probe/90"]);
    assert_eq!(again.store.signals().unwrap().len(), 4);
}

/// What a user of the store can do, for the reference model.
#[derive(Debug, Clone)]
enum Act {
    Commit { edges: Vec<(u8, u8, u8)>, removed: Option<u8> },
    Acknowledge { channel: bool, count: usize },
    Reopen,
    Vanish,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (proptest::collection::vec((0..5_u8, 0..4_u8, 0..3_u8), 0..4), proptest::option::of(0..4_u8))
            .prop_map(|(edges, removed)| Act::Commit { edges, removed }),
        3 => (any::<bool>(), 0..4_usize).prop_map(|(channel, count)| Act::Acknowledge { channel, count }),
        1 => Just(Act::Reopen),
        1 => Just(Act::Vanish),
    ]
}

type Place = (String, String, EdgeKind);

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A1 against a model: per channel a queue in which a newer edge of one incident and kind takes
    /// the place of the older; only an acknowledgement takes anything away.
    #[test]
    fn a_pending_edge_is_there_until_it_is_acknowledged(acts in proptest::collection::vec(act(), 1..25)) {
        let dir = quick_dir();
        let path = dir.path().join("state.db");
        let mut store = open(&path, 0).store;
        let mut queues: BTreeMap<String, Vec<(Place, i64)>> = channels().into_iter().map(|c| (c, Vec::new())).collect();
        let mut states: BTreeMap<String, String> = BTreeMap::new();
        for (step, act) in acts.into_iter().enumerate() {
            let second = i64::try_from(step).unwrap() + 1;
            match act {
                Act::Commit { edges, removed } => {
                    let mut made = Vec::new();
                    let mut rows = Vec::new();
                    for (kind, key, incident) in edges {
                        let kind = [EdgeKind::Alert, EdgeKind::Realert, EdgeKind::Recovery, EdgeKind::Unknown, EdgeKind::Seen]
                            [usize::from(kind)];
                        let (key, incident) = (format!("probe/{key}"), format!("i{incident}"));
                        made.push(edge(kind, &key, &incident, second));
                        rows.push(row(&key, &second.to_string()));
                        states.insert(key.clone(), second.to_string());
                        for queue in queues.values_mut() {
                            let place = (key.clone(), incident.clone(), kind);
                            queue.retain(|(other, _)| *other != place);
                            queue.push((place, second));
                        }
                    }
                    let gone: Vec<_> = removed.map(|key| SignalKey::new(&format!("probe/{key}"))).into_iter().collect();
                    gone.iter().for_each(|key| drop(states.remove(key.as_str())));
                    store.commit(at(second), &Commit { signals: &rows, removed: &gone, edges: &made, channels: &channels() }).unwrap();
                }
                Act::Acknowledge { channel, count } => {
                    let channel = &channels()[usize::from(channel)];
                    let ids: Vec<_> = store.pending(channel, count).unwrap().iter().map(|pending| pending.id).collect();
                    store.acknowledge(at(second), channel, &ids, &[], &Receipt::default()).unwrap();
                    queues.get_mut(channel).unwrap().drain(..ids.len());
                    store.acknowledge(at(second), channel, &ids, &[], &Receipt::default()).unwrap();
                }
                Act::Reopen => {
                    drop(store);
                    store = open(&path, second).store;
                }
                Act::Vanish => {
                    fs::remove_file(&path).unwrap();
                    store.remember("telegram", "chat", "1").unwrap();
                }
            }
            for (channel, queue) in &queues {
                let pending = store.pending(channel, 1_000).unwrap();
                let found: Vec<(Place, i64)> = pending
                    .iter()
                    .map(|p| ((p.edge.key.to_string(), p.edge.incident.0.clone(), p.edge.kind), (p.edge.at.0 - at(0).wall.0) / 1_000))
                    .collect();
                prop_assert_eq!(&found, queue);
                prop_assert!(pending.windows(2).all(|pair| pair[0].id < pair[1].id));
            }
            let found: BTreeMap<_, _> =
                store.signals().unwrap().into_iter().map(|row| (row.key.to_string(), row.body)).collect();
            prop_assert_eq!(&found, &states);
        }
    }
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
    let filter = Filter { subject: Some("telegram".to_string()), since: Some(at(3).wall), limit: 2 };
    let texts: Vec<_> = store.history(&filter).unwrap().into_iter().map(|line| line.text).collect();
    assert_eq!(texts, ["8", "6"]);
}
