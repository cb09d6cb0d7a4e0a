//! Spans of repairs: one trace for each, with a span for every request and every wait.
//!
//! Follows the journal and what the operator did; decides nothing and never waits. A repair that survives
//! a restart stays one trace, because its name makes the trace's id. The repair's own span is sent last,
//! when its heartbeat is back or is no longer waited for. See `adr/0020-traces.md`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::act::Done;
use crate::core::recovery::fleet::Fleet;
use crate::core::recovery::journal::{Event, Record, Told};
use crate::core::recovery::legacy;
use crate::core::recovery::phrase::Deed;
use crate::core::recovery::plan::Plan;
use crate::core::recovery::procedure::Procedure;
use crate::core::recovery::subject::{Reply, State};
use crate::core::recovery::target::Phase;
use crate::core::time::Wall;
use crate::trace::{Counts, Kind, Span, SpanId, TraceId, Traces, Value};

/// The longest that the end waits for spans.
const FLUSH: Duration = Duration::from_secs(2);

/// The repairs that are being traced.
pub struct Spans {
    traces: Traces,
    open: BTreeMap<Arc<str>, Open>,
    step: u64,
}

/// One repair.
struct Open {
    saga: String,
    began: Wall,
    simulated: bool,
    /// The way that it goes, where that is known.
    procedure: Option<Arc<Procedure>>,
    /// What is waited for, and since when.
    wait: Option<(Cow<'static, str>, Wall)>,
}

const HEARTBEAT: &str = "wait for the heartbeat";

impl Spans {
    /// Nothing is traced yet.
    pub fn new(traces: Traces) -> Spans {
        Spans { traces, open: BTreeMap::new(), step: 0 }
    }

    /// A repair that an earlier run began.
    pub fn resume(&mut self, told: &Told) {
        let procedure = Some(Arc::clone(&told.saga.procedure));
        let (saga, began, simulated) = (told.id.clone(), told.opened_at, told.simulated);
        self.open.insert(Arc::from(told.target.as_str()), Open { saga, began, simulated, procedure, wait: None });
    }

    /// What became of the spans so far.
    pub fn counts(&self) -> Counts {
        self.traces.counts()
    }

    /// Sends what is left, for at most `limit` and two seconds.
    pub fn stop(self, limit: Duration) {
        self.traces.stop(FLUSH.min(limit));
    }

    /// Takes what one pass brought.
    pub fn follow(&mut self, plan: &Plan, done: &[Done], fleet: &Fleet, now: Wall) {
        for record in &plan.records {
            self.begin(record);
        }
        done.iter().for_each(|done| self.request(done));
        for record in &plan.records {
            self.waits(record);
        }
        for line in &plan.lines {
            if matches!(line.kind, "repaired" | "back" | "not-back") {
                self.finish(&line.target, now, (line.kind == "not-back").then(|| line.text.to_string()));
            }
        }
        let over: Vec<Arc<str>> =
            self.open.keys().filter(|name| fleet.phase(name) != Some(Phase::Recovering)).cloned().collect();
        for name in over {
            if fleet.phase(&name) != Some(Phase::Waiting) {
                self.finish(&name, now, Some("the machine was not switched".to_string()));
            } else if let Some(open) = self.open.get_mut(&name)
                && open.wait.as_ref().is_none_or(|(what, _)| what != HEARTBEAT)
            {
                open.wait = Some((HEARTBEAT.into(), now));
            }
        }
    }

    fn begin(&mut self, record: &Record) {
        let (procedure, simulated) = match &record.event {
            Event::Opened { procedure, simulated } => (Some(Arc::clone(procedure)), *simulated),
            Event::Adopted { procedure, verb, .. } => {
                (Some(procedure.clone().unwrap_or_else(|| Arc::new(legacy::by_verb(*verb)))), false)
            }
            _ => return,
        };
        let open = Open { saga: record.saga.clone(), began: record.at, simulated, procedure, wait: None };
        self.open.insert(Arc::from(record.target.as_str()), open);
    }

    /// A look or a request that the operator carried out.
    fn request(&mut self, done: &Done) {
        if let Some(open) = self.open.get(&done.target) {
            let span = span(open, done.what.clone(), Kind::Client, done.span, done.error.clone());
            self.send(span, &done.target);
        }
    }

    fn waits(&mut self, record: &Record) {
        let name: Arc<str> = Arc::from(record.target.as_str());
        let Some(open) = self.open.get_mut(&name) else { return };
        let ended = match &record.event {
            Event::Replied { verb, reply: Reply::Accepted, .. } => {
                let step = open.procedure.as_ref().and_then(|procedure| procedure.step(procedure.place(*verb)?));
                let goal = step.map_or(State::Running, |step| step.goal.shows());
                open.wait.replace((format!("wait for {goal}").into(), record.at))
            }
            Event::Seen { seen } if matches!(seen.state, State::Stopped | State::Running) => open.wait.take(),
            Event::Closed { .. } => open.wait.take(),
            _ => None,
        };
        if let Some((what, since)) = ended {
            let span = span(open, what, Kind::Internal, (since, record.at), None);
            self.send(span, &name);
        }
    }

    fn finish(&mut self, name: &Arc<str>, now: Wall, error: Option<String>) {
        let Some(open) = self.open.remove(name) else { return };
        if let Some((what, since)) = open.wait.clone() {
            let span = span(&open, what, Kind::Internal, (since, now), None);
            self.send(span, name);
        }
        let mut whole = span(&open, "repair".into(), Kind::Internal, (open.began, now), error);
        (whole.id, whole.parent) = (SpanId::of(whole.trace, 0), None);
        whole.attributes.push((Cow::Borrowed("watchdog.target"), Value::from(name.to_string())));
        self.traces.record(whole);
    }

    /// Numbers a span apart from those of an earlier run by its own start.
    fn send(&mut self, span: Span, name: &Arc<str>) {
        self.step += 1;
        let number = span.start.0.unsigned_abs().wrapping_mul(1_000).wrapping_add(self.step % 1_000).max(1);
        let attribute = (Cow::Borrowed("watchdog.target"), Value::from(name.to_string()));
        let mut span = Span { id: SpanId::of(span.trace, number), ..span };
        span.attributes.push(attribute);
        self.traces.record(span);
    }
}

fn span(open: &Open, name: Cow<'static, str>, kind: Kind, span: (Wall, Wall), error: Option<String>) -> Span {
    let trace = TraceId::of(&[&open.saga]);
    let mut attributes = vec![(Cow::Borrowed("watchdog.repair"), Value::from(open.saga.clone()))];
    if open.simulated {
        attributes.push((Cow::Borrowed("watchdog.simulated"), Value::from(true)));
    }
    // A look was made either way; whatever else is told of a simulated repair is its own invention.
    let name = match (kind, Deed::of(open.simulated)) {
        (Kind::Internal, deed @ Deed::Simulated) => Cow::Owned(deed.names(name)),
        _ => name,
    };
    Span {
        trace,
        id: SpanId::of(trace, 0),
        parent: Some(SpanId::of(trace, 0)),
        name,
        kind,
        start: span.0,
        end: span.1,
        attributes,
        error,
    }
}
