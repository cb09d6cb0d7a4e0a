//! State files that are cut short or have wrong bytes in them: served, or put aside and said.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use watchdog::core::edge::EdgeKind;
use watchdog::store::{Condition, Filter, HistoryEntry};

use super::journal::{commit_repairs, hold_repairs};
use super::{at, beside, commit_alert, edge, keys, names, open, quick_dir, repairs};

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
        commit_repairs(&open(&path, 0).store, 0..3);
        let opened = open(&path, 0);
        commit_repairs(&opened.store, 3..5);
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
        let told = hold_repairs(&opened.repairs, what);
        assert!(told || (said && opened.repairs.unsound > 0), "{what}: of repairs lost silently");
        let whole = whole && told;
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
    assert!(again.notes.is_empty(), "{:?}", again.notes);
    assert_eq!(keys(&again.store, "telegram"), ["probe/1", "probe/2", "probe/90"]);
    assert_eq!(again.store.signals().unwrap().len(), 4);
    assert_eq!(repairs(&again.store), (vec![1, 2, 90], 90));
}
