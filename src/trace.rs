//! Traces of repairs for an OpenTelemetry collector: one trace per repair, a span for each request and wait.
//!
//! Owns the queue between the loop and the one thread that sends. [`Traces::record`] never blocks:
//! the queue is bounded in spans and in bytes, and what does not fit is dropped and counted. Nothing
//! exists (no thread, no connection) unless an endpoint is set by the standard `OTEL_*` variables.
//! Ids are derived from what a repair is called, so that a repair that outlives a crash stays one
//! trace. The sender's own calls are never traced; headers are secret and never shown.
//! See `adr/0020-traces.md`.

mod encode;
mod export;
mod queue;
mod span;
mod variables;
mod wire;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use self::export::Exporter;
use self::queue::Queue;
pub use self::span::{Kind, Span, SpanId, TraceId, Value};
use self::variables::Plan;
use self::wire::Wire;
use crate::client::proxy::Proxies;

/// Why there are no traces although somebody asked for them.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A variable holds what cannot be used.
    #[error("{name}: {why}")]
    Variable {
        /// The variable's name.
        name: String,
        /// What is wrong and what to write instead; never the value of a secret.
        why: String,
    },
    /// The thread that sends cannot be started.
    #[error("cannot start the thread that sends traces: {0}")]
    Thread(std::io::Error),
}

/// What became of the spans so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Taken by the collector.
    pub exported: u64,
    /// Never sent: the queue was full, or the end came first.
    pub dropped: u64,
    /// Refused by the collector, or given up after the last attempt.
    pub failed: u64,
}

/// Takes spans and sends them. Share it by reference or `Arc`.
pub struct Traces {
    queue: Arc<Queue>,
}

impl Traces {
    /// Starts sending as these variables say: `None` without `OTEL_EXPORTER_OTLP_ENDPOINT` and
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, or when traces are switched off. A wrong value is an error that names
    /// the variable; an unknown choice is warned of and ignored, as the specification wants.
    /// By HTTP they go through `proxies`, by gRPC directly. Connects to nothing before the first span.
    pub fn start(environment: &[(String, String)], proxies: Arc<Proxies>) -> Result<Option<Traces>, TraceError> {
        let Some(plan) = Plan::read(environment)? else { return Ok(None) };
        let wire = Wire::new(&plan, proxies)?;
        let queue = Arc::new(Queue::new(plan.queue));
        let exporter = Exporter::new(Arc::clone(&queue), wire, plan);
        thread::Builder::new().name("traces".to_string()).spawn(move || exporter.run()).map_err(TraceError::Thread)?;
        Ok(Some(Traces { queue }))
    }

    /// Queues a span. Never waits for the network; drops the span when the queue is full.
    pub fn record(&self, span: Span) {
        self.queue.push(span.clipped());
    }

    /// What became of the spans so far.
    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// Sends what is queued, for at most `limit`, and ends. What is left counts as dropped; a call under way is
    /// left behind and ends with its own timeout. Nothing is taken any more.
    pub fn stop(&self, limit: Duration) -> Counts {
        self.queue.stop(Instant::now() + limit);
        self.queue.counts()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.queue.stop(Instant::now());
    }
}
