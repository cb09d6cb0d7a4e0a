//! Any sequence of commits, acknowledgements and restarts against a small model of the outbox.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use watchdog::core::edge::EdgeKind;
use watchdog::core::message::Receipt;
use watchdog::core::signal::SignalKey;
use watchdog::store::Commit;

use super::{at, channels, edge, open, quick_dir, row};

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
                    for key in &gone {
                        states.remove(key.as_str());
                    }
                    store.commit(at(second), &Commit { signals: &rows, removed: &gone, edges: &made, channels: &channels(), ..Commit::default() }).unwrap();
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
