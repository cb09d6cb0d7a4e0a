//! Heartbeats as the core sees them: who holds a key in Consul, and what its value says.
//!
//! A node lives while a session holds its key; Consul takes the key away when the session ends. The
//! sender's clock is never believed (F6): of the value only the boot, the name of the session and a
//! planned stop matter. Values of oracle-watchdog (a plain instant) are heartbeats without a boot. What
//! cannot be read is no proof of life and none of death.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::time::Mono;

/// All heartbeats in one look at Consul.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heartbeats {
    /// When they were read.
    pub at: Mono,
    /// By the name of the node.
    pub nodes: BTreeMap<Arc<str>, Beat>,
}

impl Heartbeats {
    /// What is known of a node; gone when Consul has no key of it.
    pub fn life(&self, node: &str) -> Life {
        self.nodes.get(node).map_or(Life::Gone, |beat| beat.life)
    }
}

/// One node's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// What it says.
    pub life: Life,
    /// The session that holds it.
    pub session: Option<Arc<str>>,
    /// The boot of the node, where its value says so.
    pub boot: Option<Arc<str>>,
}

/// Does a node live?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// A session holds its key.
    Alive,
    /// It said that it stops as planned, and that is not long ago.
    Planned,
    /// Nobody holds its key, and it did not say why.
    Unheld,
    /// There is no key, or a planned stop has lasted for too long.
    Gone,
}

/// What the value of a key says, as far as it matters here. Written by `watchdog beacon`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Value {
    /// The boot of the node, as its kernel names it.
    pub boot_id: Option<String>,
    /// The session's time to live in seconds.
    pub ttl_s: Option<u64>,
    /// When it began to stop as planned, by its own clock.
    pub planned_stop: Option<String>,
}

impl Value {
    /// Reads a value; anything that is no JSON object of ours says nothing.
    pub fn parse(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_program_says_nothing_and_breaks_nothing() {
        let values: [&[u8]; 8] =
            [b"", b"2026-01-01T00:00:00Z", b"1767225600", b"[1]", b"\xff\x00", b"{\"boot_id\":7}", b"null", b"{"];
        for value in values {
            assert_eq!(Value::parse(value), Value::default(), "{value:?}");
        }
        let ours =
            br#"{"node":"n1","boot_id":"b","started_at":"2026-01-01T00:00:00Z","beat":7,"version":"0.1.0","ttl_s":30}"#;
        let value = Value::parse(ours);
        assert_eq!((value.boot_id.as_deref(), value.ttl_s, value.planned_stop), (Some("b"), Some(30), None));
    }

    #[test]
    fn a_node_without_a_key_is_gone() {
        assert_eq!(Heartbeats::default().life("n1"), Life::Gone);
    }
}
