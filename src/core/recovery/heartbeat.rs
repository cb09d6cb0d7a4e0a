//! Heartbeats as the core sees them: who holds a key in Consul, and what its value says.
//!
//! A node lives while a session holds its key; Consul takes the key away when the session ends. The
//! sender's clock is never believed (F6): of the value only the boot, the name of the session and a
//! planned stop matter. Values of oracle-watchdog (a plain instant) are heartbeats without a boot. What
//! cannot be read proves neither life nor death.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::beacon::Heartbeat;
use crate::core::time::Mono;

/// The longest TTL that is believed, in seconds. A planned stop of a beacon that does not say for how long is believed
/// for twice its TTL.
const LONGEST_TTL: u64 = 600;
/// The longest that a planned stop is believed, in seconds.
pub const LONGEST_PLAN: u64 = 86_400;

/// All heartbeats in one look at Consul.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heartbeats {
    /// When they were read.
    pub at: Mono,
    /// By the name of the node; shared by looks between which nothing changed.
    pub nodes: Arc<BTreeMap<Arc<str>, Beat>>,
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
    /// Its value says that it stops as planned; for how long that is believed.
    pub planned: Option<Duration>,
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

impl Beat {
    /// What a key says: `session` holds it, `value` is what was written, and `planned_for` is how long it has
    /// been seen to say that its node stops as planned.
    pub fn read(session: Option<&str>, value: &[u8], planned_for: Duration) -> Beat {
        let written = Heartbeat::parse(value);
        let ttl = Duration::from_secs(written.as_ref().map_or(0, |heartbeat| heartbeat.ttl_s).clamp(1, LONGEST_TTL));
        let planned = written.as_ref().filter(|heartbeat| heartbeat.planned_stop.is_some());
        let planned = planned.map(|heartbeat| match heartbeat.planned_s {
            Some(seconds) => Duration::from_secs(seconds.min(LONGEST_PLAN)),
            None => ttl * 2,
        });
        let life = match (session, planned) {
            (Some(_), None) => Life::Alive,
            (_, Some(limit)) if planned_for < limit => Life::Planned,
            (_, Some(_)) => Life::Gone,
            (None, None) => Life::Unheld,
        };
        let boot = written.map(|heartbeat| heartbeat.boot_id).filter(|boot| !boot.is_empty());
        Beat { life, session: session.map(Arc::from), boot: boot.map(Arc::from), planned }
    }

    /// The same, sharing with an earlier look the texts that are as they were: looks in which little changed
    /// leave little behind.
    #[must_use]
    pub fn sharing(self, before: &Beat) -> Beat {
        let share =
            |now: Option<Arc<str>>, before: &Option<Arc<str>>| if now == *before { before.clone() } else { now };
        let (session, boot) = (share(self.session, &before.session), share(self.boot, &before.boot));
        Beat { session, boot, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = (Option<&'a str>, &'a [u8], Duration, Life, Option<&'a str>);

    #[test]
    fn a_node_lives_while_a_session_holds_its_key() {
        let ours = br#"{"node":"n1","boot_id":"b","beat":7,"ttl_s":30}"#;
        let stop = br#"{"node":"n1","boot_id":"b","ttl_s":30,"planned_stop":"2026-01-01T00:00:00Z"}"#;
        let long = br#"{"node":"n1","boot_id":"b","ttl_s":30,"planned_s":600,"planned_stop":"2026-01-01T00:00:00Z"}"#;
        let none = br#"{"node":"n1","boot_id":"b","ttl_s":30,"planned_s":0,"planned_stop":"2026-01-01T00:00:00Z"}"#;
        let ever = br#"{"node":"n1","boot_id":"b","planned_s":99999999999,"planned_stop":"2026-01-01T00:00:00Z"}"#;
        let other: &[u8] = b"2026-01-01T00:00:00Z";
        let s = Duration::from_secs;
        let table: [Row<'_>; 13] = [
            (Some("s"), ours, s(0), Life::Alive, Some("b")),
            (Some("s"), other, s(0), Life::Alive, None),
            (Some("s"), b"\xff\x00{", s(0), Life::Alive, None),
            (None, ours, s(0), Life::Unheld, Some("b")),
            (None, other, s(0), Life::Unheld, None),
            (None, stop, s(0), Life::Planned, Some("b")),
            (None, stop, s(59), Life::Planned, Some("b")),
            (None, stop, s(60), Life::Gone, Some("b")),
            (None, long, s(599), Life::Planned, Some("b")),
            (None, long, s(600), Life::Gone, Some("b")),
            (None, none, s(0), Life::Gone, Some("b")),
            (None, ever, s(86_399), Life::Planned, Some("b")),
            (None, ever, s(86_400), Life::Gone, Some("b")),
        ];
        for (session, value, planned_for, life, boot) in table {
            let beat = Beat::read(session, value, planned_for);
            assert_eq!((beat.life, beat.boot.as_deref()), (life, boot), "{session:?} {planned_for:?}");
        }
    }

    #[test]
    fn a_node_without_a_key_is_gone() {
        assert_eq!(Heartbeats::default().life("n1"), Life::Gone);
    }
}
