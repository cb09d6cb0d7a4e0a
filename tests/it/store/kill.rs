//! `kill -9` in the middle of commits: what was reported is there, and states and edges agree.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use watchdog::core::message::Receipt;
use watchdog::store::Filter;

use super::{at, commit_alert, open, repairs};

const CHILD: &str = "WATCHDOG_TEST_STORE";

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
            for id in ids {
                println!("acknowledged {id}");
            }
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
            .args(["--exact", "store::kill::child_that_commits_until_it_is_killed", "--nocapture"])
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
        assert_eq!(repairs(&opened.store), ((1..=count).collect(), count), "journal, targets and states agree");
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
