//! What earlier versions left on disks and in Consul, as files that never change: every later version reads them,
//! and writes nothing that the version before it could not read.
//!
//! A file below `tests/fixtures/kept` is added to, never edited. Rows are never rewritten in the field either: their
//! sums hold, and a journal is read for as long as it exists.

mod before;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use watchdog::core::recovery::budget::Budget;
use watchdog::core::recovery::journal::{Event, Record, fold};
use watchdog::core::recovery::plan::Note;
use watchdog::core::recovery::target::{Kept, Phase};
use watchdog::core::signal::SignalKey;
use watchdog::core::time::{Mono, Now, Wall};
use watchdog::core::tracked::Remembered;
use watchdog::store::{Commit, Repairs, SignalRow, Store};

const NOW: Now = Now { wall: Wall(1_767_300_000_000), mono: Mono(9_000_000), awake: Mono(9_000_000) };

/// One line of a fixture: the columns of a row, the last of them the text that was kept.
type Row = Vec<Value>;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kept").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn rows(name: &str) -> Vec<Row> {
    fixture(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The sum over the fields of a row, as files hold it for ever (FNV-1a).
fn sum(fields: &[&str]) -> i64 {
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in fields.iter().flat_map(|field| field.bytes().chain([0xff])) {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    sum.cast_signed()
}

/// A state file that holds the fixtures, as the version that they are from left it.
fn left_behind() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(Store::open(Some(&path), NOW, "boot").unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    for (id, row) in (1..).zip(rows("journal.jsonl")) {
        let [saga, target, number, wall, body] = row.as_slice() else { panic!("{row:?}") };
        let (number, wall) = (number.as_i64().unwrap(), wall.as_i64().unwrap());
        let columns = (text(saga), text(target), text(body));
        let sum = sum(&[&i64::to_string(&id), columns.0, columns.1, &number.to_string(), &wall.to_string(), columns.2]);
        let values = rusqlite::params![id, columns.0, columns.1, number, wall, columns.2, sum];
        db.execute("INSERT INTO journal VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", values).unwrap();
    }
    let budget = vec![Value::from(""), Value::from(fixture("budget.json").trim())];
    for row in rows("targets.jsonl").iter().chain([&budget]) {
        let [key, body] = row.as_slice() else { panic!("{row:?}") };
        let sum = sum(&[text(key), text(body)]);
        db.execute("INSERT INTO targets VALUES (?1, ?2, ?3)", rusqlite::params![text(key), text(body), sum]).unwrap();
    }
    (dir, path)
}

fn read() -> Repairs {
    let (_dir, path) = left_behind();
    let opened = Store::open(Some(&path), NOW, "boot").unwrap();
    assert!(opened.notes.is_empty(), "{:?}", opened.notes);
    opened.repairs
}

/// True when `later` says everything that `earlier` said; it may say more.
fn holds(earlier: &Value, later: &Value) -> bool {
    match (earlier, later) {
        (Value::Object(earlier), Value::Object(later)) => {
            earlier.iter().all(|(key, value)| later.get(key).is_some_and(|later| holds(value, later)))
        }
        _ => earlier == later,
    }
}

fn assert_holds(earlier: &str, later: &str) {
    let [old, new] = [earlier, later].map(|text| serde_json::from_str::<Value>(text).unwrap());
    assert!(holds(&old, &new), "it was\n{earlier}\nand is written as\n{later}");
}

#[test]
fn a_journal_of_every_event_is_read_whole_and_owes_what_it_owed() {
    let repairs = read();
    assert_eq!((repairs.records.len(), repairs.unsound), (rows("journal.jsonl").len(), 0));
    let told = fold(&repairs.records);
    let open: Vec<(&str, bool, bool, bool)> = told
        .iter()
        .map(|told| (told.id.trim_start_matches('0'), told.saga.owes_start(), told.adopted, told.simulated))
        .collect();
    assert_eq!(
        open,
        [
            ("a7", true, false, true),
            ("b2", true, false, false),
            ("c3", true, false, false),
            ("d4", false, false, false),
            ("e5", false, false, false),
            ("f6", true, true, false),
        ]
    );
    assert!(told.iter().all(|told| !told.damaged), "{told:?}");
    let over: Vec<&str> = repairs.closed.iter().map(|saga| saga.trim_start_matches('0')).collect();
    assert_eq!(over, ["a1", "b8", "c9", "da", "eb", "fc"]);
}

#[test]
fn what_is_written_of_a_repair_the_version_before_reads_as_its_own() {
    let records = read().records;
    let (_dir, path) = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let opened = Store::open(Some(&path), NOW, "boot").unwrap();
        opened.store.commit(NOW, &Commit { records: &records, ..Commit::default() }).unwrap();
        (dir, path)
    };
    let db = rusqlite::Connection::open(path).unwrap();
    let mut all = db.prepare("SELECT saga, target, number, wall, body FROM journal ORDER BY id").unwrap();
    let written: Vec<(String, String, i64, i64, String)> = all
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let left = rows("journal.jsonl");
    assert_eq!(written.len(), left.len());
    for (row, (saga, target, number, wall, body)) in left.iter().zip(&written) {
        assert_eq!(row[..4], [Value::from(&**saga), Value::from(&**target), (*number).into(), (*wall).into()]);
        let [was, is] = [text(&row[4]), body].map(|body| serde_json::from_str::<before::Event>(body).unwrap());
        assert_eq!(was, is, "{body}");
        assert_holds(text(&row[4]), body);
    }
}

#[test]
fn an_event_reads_the_same_after_it_was_written_again() {
    for row in rows("journal.jsonl") {
        let event: Event = serde_json::from_str(text(&row[4])).unwrap();
        let again: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(event, again);
    }
    let record = read().records.remove(0);
    let again: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
    assert_eq!(record, again);
}

#[test]
fn targets_and_the_budget_are_read_and_keep_every_word() {
    let repairs = read();
    let left = rows("targets.jsonl");
    assert_eq!(repairs.targets.len(), left.len());
    let mut phases = Vec::new();
    for row in &left {
        let kept: Kept = serde_json::from_str(text(&row[1])).unwrap();
        phases.push(kept.phase);
        assert_holds(text(&row[1]), &serde_json::to_string(&kept).unwrap());
    }
    assert_eq!(phases[0], Phase::Suspect);
    assert!(Phase::ALL.iter().all(|phase| phases.contains(phase)), "one of each: {phases:?}");
    let kept: Kept = serde_json::from_str(text(&left[0][1])).unwrap();
    assert!(kept.simulated && kept.own && kept.was_alive && kept.attempts == 2, "{kept:?}");
    assert_eq!(kept.place.unwrap().machine, Arc::from("ocid1.instance.oc1.eu-frankfurt-1.aaaa"));
    // A row of a time before any of these fields.
    assert_eq!(serde_json::from_str::<Kept>("{}").unwrap(), Kept::default());

    let budget: Budget = serde_json::from_str(&repairs.budget.unwrap()).unwrap();
    assert!(budget.has_room(Mono(3_601_001), 2, 3) && !budget.has_room(Mono(3_601_001), 2, 2), "{budget:?}");
    assert_holds(&fixture("budget.json"), &serde_json::to_string(&budget).unwrap());
}

#[test]
fn notes_of_other_agents_are_read_and_written_as_those_read_them() {
    for row in rows("notes.jsonl") {
        let note: Note = serde_json::from_str(text(&row[1])).unwrap();
        let again = serde_json::to_string(&note).unwrap();
        assert_eq!(
            serde_json::from_str::<before::Note>(text(&row[1])).unwrap(),
            serde_json::from_str::<before::Note>(&again).unwrap()
        );
        assert_holds(text(&row[1]), &again);
    }
    assert!(serde_json::from_str::<Note>("{}").is_err(), "a note that names nothing is none");
}

#[test]
fn signals_are_remembered_with_every_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = Store::open(Some(&path), NOW, "boot").unwrap().store;
    for row in rows("signals.jsonl") {
        let signal = SignalRow { key: SignalKey::new(text(&row[0])), body: text(&row[1]).to_string() };
        store.commit(NOW, &Commit { signals: std::array::from_ref(&signal), ..Commit::default() }).unwrap();
        let remembered: Remembered = serde_json::from_str(&signal.body).unwrap();
        assert_holds(&signal.body, &serde_json::to_string(&remembered).unwrap());
    }
    assert_eq!(store.signals().unwrap().len(), 2);
}
