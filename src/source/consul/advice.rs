//! What happened to a node or to the reading of heartbeats, and what to do next: the one table of this source
//! (`adr/0035-advice-belongs-to-the-verdict.md`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::about::Details;
use crate::core::reach::quoted;
use crate::core::recovery::heartbeat::Life;
use crate::core::recovery::plan::Mode;
use crate::core::signal::Reading;
use crate::core::time::people;
use crate::nodes::Nodes;

/// What will be done about each node when it is lost.
pub fn plans(nodes: &Nodes) -> BTreeMap<Arc<str>, Arc<str>> {
    // Thousands of nodes share a few sentences.
    let mut known: BTreeMap<String, Arc<str>> = BTreeMap::new();
    let policy = &nodes.policy;
    let mut plan = |repairable: bool, after| {
        let words = match (repairable, policy.paused, policy.mode) {
            (false, ..) => "no automatic repair is configured for it".to_string(),
            (true, true, _) => "repairs are paused: nothing will be done".to_string(),
            (true, false, Mode::Active) => format!("a repair is considered {} after the loss", people(after)),
            (true, false, Mode::Observe) => {
                format!("a repair is simulated {} after the loss: nothing will be done", people(after))
            }
        };
        Arc::clone(known.entry(words.clone()).or_insert_with(|| words.into()))
    };
    nodes.nodes.iter().map(|node| (Arc::clone(&node.name), plan(node.repairable, node.times.after))).collect()
}

/// What to tell of a node that is not alive; `None` of one that is.
pub fn node(name: &str, reading: Reading, life: Life, plan: Option<&Arc<str>>) -> Option<Details> {
    let key = quoted(&format!("node/{name}"));
    match (reading, life) {
        (Reading::Down, _) => {
            let advice = format!("watchdog why {key}; can it be reached? else look at its console at the provider");
            Some(Details::new("has lost its heartbeat", advice).with(plan.map(ToString::to_string).unwrap_or_default()))
        }
        (Reading::Unknown, Life::Unheld) => {
            let advice = "is its beacon running? on that machine: systemctl status watchdog-beacon";
            Some(Details::new("may have lost its heartbeat", advice))
        }
        (Reading::Unknown, Life::Planned) => Some(Details::new("is in maintenance", "")),
        (Reading::Unknown, _) => {
            let advice = "has its beacon been started? on that machine: systemctl status watchdog-beacon";
            Some(Details::new("has not been seen yet", advice))
        }
        _ => None,
    }
}

/// The heartbeats cannot be read.
pub fn blind(why: &str) -> Details {
    let advice = if why.contains("leader") {
        "consul operator raft list-peers; consul members; read the log of its servers"
    } else if why.contains("hidden") || why.contains("token") || why.contains("ACL") || why.contains("403") {
        "consul acl token read -self; set consul.token or consul.token_file to one that may read the prefix"
    } else if why.contains("replaced") {
        "wait: nodes register again by themselves; who restored or emptied Consul?"
    } else {
        "is Consul running, and is consul.address right? consul members"
    };
    Details::new("cannot be read", advice)
}
