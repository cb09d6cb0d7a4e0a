//! The long lists of the picture, one line per signal and per target.
//!
//! In most passes most of ten thousand lines are as they were: those are shared with the picture
//! before, and only what changed is put into words. Decides nothing. See `adr/0023-reading-heartbeats.md`
//! for how many there may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::recovery::plan::Standing;
use crate::core::signal::{SignalKey, Spec};
use crate::core::time::Wall;
use crate::core::tracked::{Grounds, Tracked};
use crate::core::watch::Watch;
use crate::serve::snapshot::{SignalView, TargetView};
use crate::serve::strip::Strip;

/// The lines shown last.
#[derive(Default)]
pub struct Lines {
    /// In the order in which the core has them.
    signals: Vec<Line>,
    /// The places of `signals`, sorted by key.
    order: Vec<usize>,
    targets: Vec<Arc<TargetView>>,
}

struct Line {
    spec: Arc<Spec>,
    grounds: Grounds,
    view: Arc<SignalView>,
}

impl Lines {
    /// Every signal as it stands, sorted by key. One that is shown for the first time begins with its strip in
    /// `strips`, where there is one.
    pub fn signals(
        &mut self,
        watch: &Watch,
        strips: &mut BTreeMap<SignalKey, Strip>,
        now: Wall,
    ) -> Vec<Arc<SignalView>> {
        let mut before = std::mem::take(&mut self.signals).into_iter().peekable();
        let mut astray: BTreeMap<SignalKey, Line> = BTreeMap::new();
        let mut is_same = true;
        for tracked in watch.tracked() {
            let known = before.next_if(|line| Arc::ptr_eq(&line.spec, &tracked.spec)).or_else(|| {
                is_same = false;
                // Somebody came, went or was described anew: whoever is left is found by key.
                astray.extend(before.by_ref().map(|line| (line.view.key.clone(), line)));
                astray.remove(&tracked.spec.key)
            });
            self.signals.push(line(tracked, known, strips, now));
        }
        if !is_same || before.next().is_some() {
            let mut places: Vec<(&SignalKey, usize)> =
                self.signals.iter().enumerate().map(|(place, line)| (&line.view.key, place)).collect();
            places.sort();
            self.order = places.into_iter().map(|(_, place)| place).collect();
        }
        self.order.iter().filter_map(|place| self.signals.get(*place)).map(|line| Arc::clone(&line.view)).collect()
    }

    /// Every target as it stands; `standings` are sorted by name.
    pub fn targets(&mut self, standings: Vec<Standing>) -> Vec<Arc<TargetView>> {
        let mut before = std::mem::take(&mut self.targets).into_iter().peekable();
        for standing in standings {
            while before.next_if(|view| name(view) < &*standing.name).is_some() {}
            let known = before.next_if(|view| name(view) == &*standing.name);
            self.targets.push(match known.filter(|view| is_shown(view, &standing)) {
                Some(view) => view,
                None => Arc::new(target(standing)),
            });
        }
        self.targets.clone()
    }
}

fn line(tracked: &Tracked, known: Option<Line>, strips: &mut BTreeMap<SignalKey, Strip>, now: Wall) -> Line {
    let (spec, grounds) = (&tracked.spec, tracked.grounds());
    let begun = known.as_ref().map(|line| line.view.strip).or_else(|| strips.remove(&spec.key));
    let mut strip = begun.unwrap_or_default();
    strip.advance(now);
    strip.record(tracked.state);
    let stands = |line: &Line| {
        let view = &line.view;
        Arc::ptr_eq(&line.spec, spec)
            && line.grounds == grounds
            && (view.state, view.since) == (tracked.state, Some(tracked.since))
            && (view.last_alert_at, view.incident.as_ref()) == (tracked.last_alert_at, tracked.incident())
            && view.detail == tracked.fact
            && view.strip == strip
    };
    known.filter(stands).unwrap_or_else(|| Line {
        spec: Arc::clone(spec),
        grounds,
        view: Arc::new(SignalView {
            key: spec.key.clone(),
            state: tracked.state,
            severity: spec.severity,
            title: spec.title.clone(),
            detail: tracked.fact.to_string(),
            since: Some(tracked.since),
            incident: tracked.incident().cloned(),
            reason: tracked.reason(),
            last_alert_at: tracked.last_alert_at,
            strip,
        }),
    })
}

fn name(view: &TargetView) -> &str {
    view.name.strip_prefix("node/").unwrap_or(&view.name)
}

fn is_shown(view: &TargetView, standing: &Standing) -> bool {
    view.phase == standing.phase.as_str()
        && (view.attempts, view.since) == (standing.attempts, standing.since)
        && view.unhealthy_s == standing.unhealthy.as_secs()
        && view.reason == standing.reason
        && view.blocked.iter().map(String::as_str).eq(standing.blocked.iter().map(|reason| reason.as_str()))
}

fn target(standing: Standing) -> TargetView {
    TargetView {
        name: format!("node/{}", standing.name),
        phase: standing.phase.as_str().to_string(),
        attempts: standing.attempts,
        blocked: standing.blocked.iter().map(ToString::to_string).collect(),
        since: standing.since,
        reason: standing.reason.into_owned(),
        unhealthy_s: standing.unhealthy.as_secs(),
    }
}
