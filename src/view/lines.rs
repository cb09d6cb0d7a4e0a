//! The long lists of the picture, one line per signal and per target.
//!
//! In most passes most of ten thousand lines are as they were: those are shared with the picture
//! before, and only what changed is put into words. What many lines have in common (the day, the reason) they
//! share. Decides nothing. See `adr/0023-reading-heartbeats.md` for how many there may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::recovery::plan::Standing;
use crate::core::signal::{SignalKey, Spec, State};
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
    /// The past of a signal that has none.
    blank: Arc<Strip>,
}

struct Line {
    spec: Arc<Spec>,
    grounds: Grounds,
    view: Arc<SignalView>,
}

/// What the line before this one came to: often it is the same for the next.
struct Neighbour {
    now: Wall,
    /// A day, the state noted in it, and the day that came of it.
    day: Option<(Arc<Strip>, State, Arc<Strip>)>,
    reason: Arc<str>,
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
        let before = std::mem::take(&mut self.signals);
        self.signals.reserve_exact(before.len());
        let mut before = before.into_iter().peekable();
        let mut astray: BTreeMap<SignalKey, Line> = BTreeMap::new();
        let mut neighbour = Neighbour { now, day: None, reason: Arc::default() };
        let mut is_same = true;
        for tracked in watch.tracked() {
            let known = before.next_if(|line| Arc::ptr_eq(&line.spec, &tracked.spec)).or_else(|| {
                is_same = false;
                // Somebody came, went or was described anew: whoever is left is found by key.
                astray.extend(before.by_ref().map(|line| (line.view.key.clone(), line)));
                astray.remove(&tracked.spec.key)
            });
            let past = match &known {
                Some(line) => Arc::clone(&line.view.strip),
                None => strips.remove(&tracked.spec.key).map_or_else(|| Arc::clone(&self.blank), Arc::new),
            };
            self.signals.push(line(tracked, known, &past, &mut neighbour));
        }
        if !is_same || before.next().is_some() {
            self.signals.shrink_to_fit();
            let mut places: Vec<(&SignalKey, usize)> =
                self.signals.iter().enumerate().map(|(place, line)| (&line.view.key, place)).collect();
            places.sort();
            self.order = places.into_iter().map(|(_, place)| place).collect();
        }
        let mut views = Vec::with_capacity(self.order.len());
        views.extend(self.order.iter().filter_map(|place| self.signals.get(*place)).map(|line| Arc::clone(&line.view)));
        views
    }

    /// Every target as it stands; `standings` are sorted by name.
    pub fn targets(&mut self, standings: impl Iterator<Item = Standing>) -> Vec<Arc<TargetView>> {
        let before = std::mem::take(&mut self.targets);
        self.targets.reserve_exact(before.len());
        let mut before = before.into_iter().peekable();
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

impl Neighbour {
    /// The day `past` with `state` noted in it now.
    fn day(&mut self, past: &Arc<Strip>, state: State) -> Arc<Strip> {
        if let Some((before, noted, after)) = &self.day
            && *noted == state
            && Arc::ptr_eq(before, past)
        {
            return Arc::clone(after);
        }
        let mut strip = Strip::clone(past);
        strip.advance(self.now);
        strip.record(state);
        let after = if strip == **past { Arc::clone(past) } else { Arc::new(strip) };
        self.day = Some((Arc::clone(past), state, Arc::clone(&after)));
        after
    }

    fn reason(&mut self, reason: &str) -> Arc<str> {
        if *self.reason != *reason {
            self.reason = Arc::from(reason);
        }
        Arc::clone(&self.reason)
    }
}

fn line(tracked: &Tracked, known: Option<Line>, past: &Arc<Strip>, neighbour: &mut Neighbour) -> Line {
    let (spec, grounds) = (&tracked.spec, tracked.grounds());
    let strip = neighbour.day(past, tracked.state);
    let stands = |line: &Line| {
        let view = &line.view;
        Arc::ptr_eq(&line.spec, spec)
            && line.grounds == grounds
            && (view.state, view.since) == (tracked.state, Some(tracked.since))
            && (view.last_alert_at, view.incident.as_ref()) == (tracked.last_alert_at, tracked.incident())
            && view.detail == tracked.fact
            && Arc::ptr_eq(&view.strip, &strip)
    };
    known.filter(stands).unwrap_or_else(|| Line {
        spec: Arc::clone(spec),
        grounds,
        view: Arc::new(SignalView {
            key: spec.key.clone(),
            state: tracked.state,
            severity: spec.severity,
            title: Arc::clone(&spec.title),
            detail: tracked.fact.clone(),
            since: Some(tracked.since),
            incident: tracked.incident().cloned(),
            reason: neighbour.reason(&tracked.reason()),
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
        phase: standing.phase.as_str().into(),
        attempts: standing.attempts,
        blocked: standing.blocked.iter().map(ToString::to_string).collect(),
        since: standing.since,
        reason: standing.reason,
        unhealthy_s: standing.unhealthy.as_secs(),
    }
}
