//! Builds the picture that the status server shows, from the parts of a pass. Only copies; decides
//! nothing.

mod lines;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::lines::{Covers, Lines};
use crate::clock::Clock;
use crate::config::Root;
use crate::core::decide::Action;
use crate::core::recovery::plan::Mode;
use crate::core::signal::SignalKey;
use crate::core::time::{Now, Wall};
use crate::core::zone::Zone;
use crate::executor::oci;
use crate::past;
use crate::repair::Repairs;
use crate::serve::snapshot::{
    ChannelView, Counters, HistoryView, RECENT, Recovery, SourceView, StateFile, Tick as TickView,
};
use crate::serve::strip::Strip;
use crate::serve::{Published, Snapshot};
use crate::source::consul;
use crate::store::{Condition, Filter, HistoryEntry};
use crate::tick::Tick;

/// Lines of history that the strips are filled from at the start.
const LOG: usize = 10_000;

/// What the picture keeps from pass to pass.
pub struct View {
    published: Arc<Published>,
    clock: Clock,
    instance: String,
    enabled: bool,
    interval: Duration,
    zone: Zone,
    started_at: Wall,
    count: u64,
    lateness: Duration,
    /// The past of signals that were not shown yet.
    strips: BTreeMap<SignalKey, Strip>,
    lines: Lines,
}

impl View {
    /// A picture of a program that has made no pass yet.
    pub fn new(published: Arc<Published>, clock: Clock, root: &Root) -> View {
        let started_at = clock.now().wall;
        let mut view = View {
            published,
            clock,
            instance: String::new(),
            enabled: true,
            interval: Duration::ZERO,
            zone: Zone::default(),
            started_at,
            count: 0,
            lateness: Duration::ZERO,
            strips: BTreeMap::new(),
            lines: Lines::default(),
        };
        view.configure(root);
        view
    }

    /// Fills the strips of the last 24 hours from what the run before this one left; `left_at` is
    /// when it wrote last. To be called before the first pass.
    pub fn remember(&mut self, tick: &Tick, left_at: Wall) {
        let filter = Filter { limit: LOG, ..Filter::default() };
        let log = tick.store.history(&filter).unwrap_or_default();
        self.strips = past::strips(&log, tick.watch.standings(), left_at, self.clock.now().wall);
    }

    /// Takes over settings that may change while running.
    pub fn configure(&mut self, root: &Root) {
        self.instance.clone_from(&root.instance);
        self.enabled = root.enabled;
        self.interval = root.tick.0;
        self.zone = root.zone().unwrap_or_default();
    }

    /// Where the picture is published.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// Passes shown so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Shows how things stand after a pass that took `took`; `lateness` is how long after its place
    /// on the grid it began, `None` for a pass between ticks.
    pub fn show(&mut self, tick: &Tick, took: Duration, lateness: Option<Duration>) {
        let now = self.clock.now();
        self.count += 1;
        self.lateness = lateness.unwrap_or(self.lateness);
        let signals = if self.enabled {
            let covers = Covers { changes: tick.hush.changes(), of: &|key| tick.hush.cover(key, now.wall) };
            self.lines.signals(&tick.watch, &mut self.strips, &covers, now.wall)
        } else {
            Vec::new()
        };
        let targets = tick.repairs.as_ref().map(|repairs| self.lines.targets(repairs.standings(now)));
        let filter = Filter { limit: RECENT, ..Filter::default() };
        let recent: Vec<HistoryView> =
            tick.store.history(&filter).unwrap_or_default().into_iter().map(history_view).collect();
        let snapshot = Snapshot {
            instance: self.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            enabled: self.enabled,
            mode: tick.repairs.as_ref().map_or(Mode::Observe, Repairs::mode).as_str().to_string(),
            started_at: self.started_at,
            interval_ms: millis(self.interval),
            state_file: state_file(tick.store.condition()),
            tick: TickView {
                count: self.count,
                last_at: Some(now.wall),
                duration_ms: took.as_secs_f64() * 1e3,
                lateness_ms: self.lateness.as_secs_f64() * 1e3,
                age_ms: 0,
            },
            signals,
            targets: targets.unwrap_or_default(),
            channels: channels(tick, now),
            sources: sources(tick),
            silences: tick.hush.mutes(now.wall).into_iter().map(Into::into).collect(),
            zone: self.zone.clone(),
            at: now,
            recent: recent.into(),
            counters: counters(tick, now),
            waits_for: None,
        };
        self.published.publish(snapshot);
    }
}

/// One entry of the store's history as the status server shows it.
pub fn history_view(entry: HistoryEntry) -> HistoryView {
    HistoryView {
        at: entry.at,
        kind: entry.kind,
        subject: entry.subject,
        incident: entry.incident,
        severity: entry.severity,
        text: entry.text,
    }
}

fn channels(tick: &Tick, now: Now) -> Vec<ChannelView> {
    let channels = tick.couriers.iter().map(|courier| {
        let standing = courier.status().read(now.mono);
        ChannelView {
            name: standing.name,
            state: standing.state.as_str().to_string(),
            pending: standing.pending,
            oldest_pending_s: standing.oldest.unwrap_or_default().as_secs(),
            error: standing.last_error,
        }
    });
    channels.collect()
}

fn sources(tick: &Tick) -> Vec<SourceView> {
    let sources = tick.gather.health().map(|health| SourceView {
        name: health.name.to_string(),
        state: if health.error.is_some() { "blind" } else { "ok" }.to_string(),
        last_ok_at: health.last_ok_at,
        duration_ms: health.took.as_secs_f64() * 1e3,
        error: health.error.clone(),
        note: health.note.clone(),
    });
    sources.collect()
}

fn counters(tick: &Tick, now: Now) -> Counters {
    let mut counters = Counters::default();
    for action in Action::ALL {
        let count = tick.decisions.get(&action).copied().unwrap_or_default();
        counters.decisions.insert(action.as_str().to_string(), count);
    }
    for courier in &tick.couriers {
        let standing = courier.status().read(now.mono);
        for (result, count) in standing.counts.by_result() {
            counters.notifications.insert((standing.name.clone(), result.to_string()), count);
        }
    }
    counters.recovery = tick.repairs.as_ref().map(|repairs| recovery(repairs, tick));
    counters
}

/// Whether a provider answered the source that asks for it now and then; `None` before it did or did not.
fn asked(tick: &Tick, name: &str) -> Option<bool> {
    let health = tick.gather.health().find(|health| *health.name == *name)?;
    (health.last_ok_at.is_some() || health.error.is_some()).then_some(health.error.is_none())
}

fn recovery(repairs: &Repairs, tick: &Tick) -> Recovery {
    let counts = repairs.fleet.counts();
    let actions = counts.actions.iter().map(|((target, verb, mode), count)| {
        ((target.to_string(), verb.as_str().to_string(), (*mode).to_string()), *count)
    });
    let failures =
        counts.failures.iter().map(|((target, verb), count)| ((target.to_string(), verb.as_str().to_string()), *count));
    let sees = tick.gather.health().any(|health| *health.name == *consul::ENTRY.name && health.error.is_none());
    let spans = repairs.traces().map(|spans| {
        [("exported", spans.exported), ("dropped", spans.dropped), ("failed", spans.failed)]
            .map(|(result, count)| (result.to_string(), count))
            .to_vec()
    });
    Recovery {
        actions: actions.collect(),
        failures: failures.collect(),
        blocked: counts.blocked.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
        nodes: repairs.fleet.nodes().iter().map(|(state, count)| ((*state).to_string(), *count as u64)).collect(),
        consul_connected: sees,
        oci_connected: asked(tick, oci::ENTRY.name).or(repairs.reached().get(oci::ENTRY.name).copied()),
        spans: spans.unwrap_or_default(),
    }
}

fn state_file(condition: Condition) -> StateFile {
    match condition {
        Condition::Memory => StateFile::Memory,
        Condition::File => StateFile::Writable,
        Condition::Degraded { why, .. } => StateFile::Failing(why),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
