//! A made-up picture for the tests of this folder: one signal in each state, a channel in trouble.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::muted::{By, MuteView, Silenced};
use super::snapshot::{
    ChannelView, Counters, HistoryView, Recovery, SignalView, Snapshot, SourceView, StateFile, TargetView, Tick,
};
use super::strip::Strip;
use crate::core::edge::Incident;
use crate::core::signal::{Severity, SignalKey, State};
use crate::core::time::{Mono, Now, Wall};
use crate::core::zone::Zone;

/// 2026-01-01T00:00:00Z.
const MIDNIGHT: i64 = 1_767_225_600_000;

/// The picture of 02:14:05, looked at three seconds later.
pub fn sample() -> (Snapshot, Now) {
    let at = Now { wall: Wall(MIDNIGHT + 8_045_000), mono: Mono(9_000_000), awake: Mono(9_000_000) };
    let now = Now { wall: Wall(at.wall.0 + 3_000), mono: Mono(9_003_000), awake: Mono(9_003_000) };
    let snapshot = Snapshot {
        waits_for: None,
        instance: "web-1".into(),
        version: "0.1.0".into(),
        enabled: true,
        mode: "observe".into(),
        started_at: Wall(MIDNIGHT),
        interval_ms: 15_000,
        state_file: StateFile::Writable,
        tick: Tick { count: 42, last_at: Some(at.wall), duration_ms: 3.125, lateness_ms: 0.5, age_ms: 0 },
        signals: signals(),
        targets: vec![Arc::new(TargetView {
            name: "node/n1".into(),
            phase: "suspect".into(),
            attempts: 1,
            blocked: vec!["in-flight".into()],
            since: Some(Wall(MIDNIGHT)),
            reason: "simulated: would not be touched: in-flight".into(),
            simulated: true,
            unhealthy_s: 75,
        })],
        channels: vec![
            ChannelView { name: "console".into(), state: "ok".into(), ..ChannelView::default() },
            ChannelView {
                name: "telegram".into(),
                state: "failing".into(),
                pending: 2,
                oldest_pending_s: 90,
                error: Some("no answer within 5s".into()),
            },
        ],
        sources: vec![
            SourceView {
                name: "docker".into(),
                state: "ok".into(),
                last_ok_at: Some(at.wall),
                duration_ms: 2.0,
                error: None,
                note: Some("2 containers of project <shop>; 13 others are not watched".into()),
            },
            SourceView {
                name: "host".into(),
                state: "blind".into(),
                error: Some("no /proc".into()),
                ..SourceView::default()
            },
        ],
        silences: silences(),
        zone: Zone::default(),
        at,
        recent: [HistoryView {
            at: Wall(MIDNIGHT + 7_320_000),
            kind: "alert".into(),
            subject: "container/web".into(),
            incident: Some(Incident("k3f9".into())),
            severity: Some(Severity::Critical),
            text: "exit code 137, out of memory".into(),
        }]
        .into(),
        counters: counters(),
    };
    (snapshot, now)
}

fn signals() -> Vec<Arc<SignalView>> {
    let silenced = Silenced {
        by: By::Silence,
        pattern: "probe/*".into(),
        until: Wall(MIDNIGHT + 27_000_000),
        reason: "upgrade of <db>".into(),
    };
    let mut signals = vec![
        signal("container/web", State::Firing, Severity::Critical, "exit code 137, out of memory"),
        signal("host/memory", State::Ok, Severity::Warning, "41 % in use"),
        signal("probe/db", State::Pending, Severity::Critical, "connection refused"),
        signal("source/docker", State::Unknown, Severity::Info, "no answer yet"),
    ];
    if let Some(signal) = signals.get_mut(2) {
        Arc::make_mut(signal).silenced = Some(Arc::new(silenced));
    }
    signals
}

fn silences() -> Vec<MuteView> {
    vec![
        MuteView {
            by: By::Silence,
            r#match: vec!["probe/*".into()],
            since: Wall(MIDNIGHT + 7_000_000),
            until: Wall(MIDNIGHT + 27_000_000),
            active: true,
            reason: "upgrade of <db>".into(),
        },
        MuteView {
            by: By::Maintenance,
            r#match: vec!["host/*".into(), "container/web".into()],
            since: Wall(MIDNIGHT + 90_000_000),
            until: Wall(MIDNIGHT + 97_200_000),
            active: false,
            reason: String::new(),
        },
    ]
}

fn counters() -> Counters {
    Counters {
        decisions: BTreeMap::from([("alert".into(), 1), ("hold".into(), 30)]),
        notifications: BTreeMap::from([
            (("telegram".into(), "failed".into()), 3),
            (("telegram".into(), "ok".into()), 7),
        ]),
        recovery: Some(Recovery {
            actions: BTreeMap::from([(("node/n1".into(), "STOP".into(), "active".into()), 1)]),
            failures: BTreeMap::from([(("node/n1".into(), "START".into()), 2)]),
            blocked: BTreeMap::from([("in-flight".into(), 4)]),
            nodes: vec![("alive".into(), 2), ("ill".into(), 1), ("never-seen".into(), 0)],
            consul_connected: true,
            oci_connected: Some(false),
            spans: vec![("exported".into(), 3)],
        }),
    }
}

/// One signal with a short past.
pub fn signal(key: &str, state: State, severity: Severity, detail: &str) -> Arc<SignalView> {
    let mut strip = Strip::default();
    strip.advance(Wall(MIDNIGHT));
    strip.record(State::Ok);
    strip.advance(Wall(MIDNIGHT + 8_045_000));
    strip.record(state);
    let firing = state == State::Firing;
    Arc::new(SignalView {
        key: SignalKey::new(key),
        state,
        severity,
        title: key.replace('/', " ").into(),
        detail: detail.to_string().into(),
        since: Some(Wall(MIDNIGHT + 7_320_000)),
        incident: firing.then(|| Incident("k3f9".into())),
        reason: "alerted, next reminder in 59 min".into(),
        last_alert_at: firing.then_some(Wall(MIDNIGHT + 7_320_000)),
        silenced: None,
        about: None,
        details: None,
        strip: Arc::new(strip),
    })
}
