//! The engine's endless stream of events, one JSON object a line.
//!
//! Reading waits until an instant of the caller's choice, or until somebody nudges: so one thread
//! can follow the stream, ring alarms and end when told to. An object cut off in the middle is
//! never given out; a line that is not JSON is an empty event. A line over [`LINE`] is an error.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::model::Event;

/// Bytes of one event at most.
pub const LINE: usize = 64 * 1024;
/// Events read ahead of the caller at most; more in one chunk are dropped, they are hints.
const AHEAD: usize = 1024;

/// Interrupts a wait from another thread. One nudge before the wait counts as well.
#[derive(Debug, Clone, Default)]
pub struct Nudge(pub(super) Arc<Notify>);

impl Nudge {
    /// Ends the wait that is under way, or the next one.
    pub fn give(&self) {
        self.0.notify_one();
    }
}

/// What a wait for the next event gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// An event.
    Event(Event),
    /// Nothing until the given instant, or a nudge.
    Nothing,
    /// The stream is over, for the given reason.
    Ended(String),
}

/// An open stream of events.
pub struct Events<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) body: Incoming,
    pub(super) lines: Lines,
}

impl Events<'_> {
    /// The next event, waiting no longer than `until`.
    pub fn next(&mut self, until: Instant, nudge: &Nudge) -> Next {
        loop {
            if let Some(event) = self.lines.ready.pop_front() {
                return Next::Event(event);
            }
            let body = &mut self.body;
            let frame = self.runtime.block_on(async {
                tokio::time::timeout_at(until.into(), first(body.frame(), nudge.0.notified())).await
            });
            match frame {
                Err(_) | Ok(None) => return Next::Nothing,
                Ok(Some(None)) => return Next::Ended("the daemon closed the stream".to_string()),
                Ok(Some(Some(Err(error)))) => return Next::Ended(error.to_string()),
                Ok(Some(Some(Ok(frame)))) => {
                    if let Ok(bytes) = frame.into_data()
                        && !self.lines.push(&bytes)
                    {
                        return Next::Ended(format!("an event is larger than {LINE} bytes"));
                    }
                }
            }
        }
    }
}

/// The output of `work`, or `None` when `stop` is done first.
async fn first<T>(work: impl Future<Output = T>, stop: impl Future<Output = ()>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut stop = std::pin::pin!(stop);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(done) = work.as_mut().poll(cx) {
            return std::task::Poll::Ready(Some(done));
        }
        stop.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Puts chunks together to lines and reads the events in them.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    ready: VecDeque<Event>,
}

impl Lines {
    /// Takes a chunk; false when a line is over the limit.
    fn push(&mut self, chunk: &[u8]) -> bool {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.partial.len() + line.len() > LINE {
                return false;
            }
            self.partial.extend_from_slice(line);
            let whole = std::mem::take(&mut self.partial);
            self.read(&whole);
        }
        self.partial.extend_from_slice(rest);
        self.partial.len() <= LINE
    }

    fn read(&mut self, line: &[u8]) {
        // 0x1E opens each object of a JSON text sequence, which a proxy may have asked for.
        let line = line.trim_ascii().strip_prefix(b"\x1e").unwrap_or(line);
        if line.trim_ascii().is_empty() {
            return;
        }
        for event in serde_json::Deserializer::from_slice(line).into_iter::<Event>() {
            let garbled = event.is_err();
            if self.ready.len() < AHEAD {
                self.ready.push_back(event.unwrap_or_default());
            }
            if garbled {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(lines: &mut Lines) -> Vec<String> {
        lines.ready.drain(..).map(|e| e.action).collect()
    }

    #[test]
    fn chunks_of_any_size_give_the_same_events() {
        let text = b"{\"Action\":\"die\"}\n\n{\"Action\":\"start\"}\n\x1e{\"Action\":\"oom\"}\nnonsense\n{\"Action\":\"a\"}{\"Action\":\"b\"}\n{\"Action\":\"cut";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            for chunk in text.chunks(size) {
                assert!(lines.push(chunk));
            }
            assert_eq!(actions(&mut lines), ["die", "start", "oom", "", "a", "b"], "chunks of {size}");
        }
    }

    #[test]
    fn an_endless_line_and_a_flood_are_bounded() {
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b'x'; LINE]));
        assert!(!lines.push(b"x"));
        let mut lines = Lines::default();
        assert!(!lines.push(&[vec![b'x'; LINE + 1], b"\n".to_vec()].concat()));
        let mut lines = Lines::default();
        assert!(lines.push("{}\n".repeat(AHEAD * 2).as_bytes()));
        assert_eq!(lines.ready.len(), AHEAD);
    }
}
