//! Disks that are full, read-only or fail to write, and files that vanish: worked without, and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use watchdog::core::edge::Incident;
use watchdog::core::message::Receipt;
use watchdog::store::{Condition, Filter, Store};

use super::{at, beside, commit_alert, keys, names, open, repairs};
use crate::parts;

const LIMITED: &str = "WATCHDOG_TEST_STORE_LIMITED";

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
    assert_eq!(repairs(&again.store), (vec![1, 2, 3, 4], 4));
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
    fn new(dir: &Path, options: &str) -> Option<Mount> {
        if !parts::mount() {
            return None;
        }
        let place = dir.join("mount");
        fs::create_dir(&place).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "watchdog-test"]).arg(&place).status();
        assert!(done.unwrap().success());
        Some(Mount(place))
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
    let Some(mount) = Mount::new(dir.path(), "size=1m,mode=700") else { return };
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
    assert_eq!(repairs(store), ((1..=n).collect(), n), "the journal goes on in memory");
    let first = store.pending("telegram", 1).unwrap()[0].id;
    store.acknowledge(at(n), "telegram", &[first], &[Incident("i1".to_string())], &Receipt::default()).unwrap();
    commit_alert(store, n + 61);
    assert!(matches!(store.condition(), Condition::Degraded { .. }), "still full");

    fs::remove_file(&ballast).unwrap();
    commit_alert(store, n + 100);
    assert!(matches!(store.condition(), Condition::Degraded { .. }), "at most one try a minute");
    commit_alert(store, n + 122);
    assert_eq!(store.condition(), Condition::File);
    assert!(store.take_notes().last().unwrap().contains("works again after 2 min 2 s"));
    let expected: Vec<String> = (2..=n).chain([n + 61, n + 100, n + 122]).map(|n| format!("probe/{n}")).collect();
    drop(opened);
    let again = open(&path, n + 200);
    assert_eq!(keys(&again.store, "telegram"), expected);
    assert_eq!(repairs(&again.store), ((1..=n).chain([n + 61, n + 100, n + 122]).collect(), n + 122));
    assert_eq!(again.store.signals().unwrap().len(), expected.len() + 2);
    let lines = again.store.history(&Filter { limit: 10_000, ..Filter::default() }).unwrap();
    assert_eq!(lines.iter().filter(|line| line.kind == "alert").count(), expected.len() + 1);
    assert_eq!(lines.iter().filter(|line| line.kind == "delivered").count(), 1);
}

#[test]
fn a_read_only_disk_is_read_and_worked_without() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(dir.path(), "size=4m,mode=700") else { return };
    let path = mount.0.join("state.db");
    (1..=3).for_each(|n| commit_alert(&open(&path, 0).store, n));
    mount.remount("ro");
    let opened = open(&path, 10);
    let store = &opened.store;
    assert!(matches!(store.condition(), Condition::Degraded { .. }));
    assert_eq!(opened.before.as_ref().unwrap().signals.len(), 4, "a restart repeats no alert");
    assert_eq!(opened.repairs.records.len(), 3, "nor forgets a repair");
    assert_eq!(Store::read(&path).unwrap().signals().unwrap().len(), 4);
    assert_eq!(repairs(&Store::read(&path).unwrap()), (vec![1, 2, 3], 3));
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
    assert_eq!(again.before.as_ref().unwrap().last_at, at(90).wall);
    assert_eq!(repairs(&again.store), (vec![1, 2, 3, 12, 90], 90));
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
    let again = open(Path::new(&path), 0);
    assert_eq!(keys(&again.store, "telegram"), expected);
    assert_eq!(repairs(&again.store), ((1..=n).chain([n + 61, n + 130]).collect(), n + 130));
}

#[test]
fn a_write_error_in_the_middle_of_a_commit_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::disk::child_that_meets_a_write_error", "--nocapture"])
        .env(LIMITED, dir.path().join("state.db"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("1 passed"), "the child was not found");
    assert!(!names(dir.path()).iter().any(|name| name.contains(".suspect-")), "a limit says nothing against the file");
}
