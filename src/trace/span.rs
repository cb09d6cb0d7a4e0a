//! What a span is: ids, names, times, attributes. Plain data, bounded before it is queued.

use std::borrow::Cow;

use ring::digest::{Context, SHA256};

use crate::core::time::Wall;

/// Bytes of a name or an attribute's key at most.
const NAME: usize = 128;
/// Bytes of a text at most.
const TEXT: usize = 1024;
/// Attributes of a span at most.
const ATTRIBUTES: usize = 64;

/// The name of a trace, never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

impl TraceId {
    /// The trace of what these words name together, the same for ever: the instance, the repair's
    /// id, its beginning.
    pub fn of(words: &[&str]) -> TraceId {
        let mut all = Context::new(&SHA256);
        for word in words {
            // With its length, so that two words never look like another two.
            all.update(&(word.len() as u64).to_be_bytes());
            all.update(word.as_bytes());
        }
        TraceId(first(all))
    }
}

/// The name of a span within its trace, never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

impl SpanId {
    /// The span of step `step` of this trace, the same for ever. Zero is the repair itself by custom.
    pub fn of(trace: TraceId, step: u64) -> SpanId {
        let mut all = Context::new(&SHA256);
        all.update(&trace.0);
        all.update(&step.to_be_bytes());
        SpanId(first(all))
    }
}

/// The first bytes of a hash; the last is odd, because an id of nothing but zeros is none.
fn first<const N: usize>(hash: Context) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
    if bytes.iter().all(|byte| *byte == 0) {
        bytes = [1; N];
    }
    bytes
}

/// On which side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work or a wait of our own.
    Internal,
    /// A request to somebody else.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text; what is over 1 KiB is cut off.
    Text(Cow<'static, str>),
    /// A whole number.
    Integer(i64),
    /// A number.
    Decimal(f64),
    /// Yes or no.
    Truth(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Value {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Truth(truth)
    }
}

/// One piece of work with a beginning and an end. Whoever makes it keeps secrets out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Its own name within the trace.
    pub id: SpanId,
    /// The span that it is a part of; none for the repair itself.
    pub parent: Option<SpanId>,
    /// What it is, from a small set of names; at most 128 bytes.
    pub name: Cow<'static, str>,
    /// Work of our own or a request.
    pub kind: Kind,
    /// When it began.
    pub start: Wall,
    /// When it ended.
    pub end: Wall,
    /// At most 64.
    pub attributes: Vec<(Cow<'static, str>, Value)>,
    /// Why it failed; none: it did not.
    pub error: Option<String>,
}

impl Span {
    /// The same span within its bounds.
    pub(super) fn clipped(mut self) -> Span {
        clip(&mut self.name, NAME);
        self.attributes.truncate(ATTRIBUTES);
        for (key, value) in &mut self.attributes {
            clip(key, NAME);
            if let Value::Text(text) = value {
                clip(text, TEXT);
            }
        }
        if let Some(error) = &mut self.error {
            error.truncate(end(error, TEXT));
        }
        self
    }

    /// About how many bytes it takes, in the queue and on the wire.
    pub(super) fn weight(&self) -> usize {
        let value = |value: &Value| if let Value::Text(text) = value { text.len() } else { 0 };
        let attributes: usize = self.attributes.iter().map(|(key, v)| 64 + key.len() + value(v)).sum();
        256 + self.name.len() + attributes + self.error.as_ref().map_or(0, String::len)
    }
}

fn clip(text: &mut Cow<'static, str>, limit: usize) {
    if text.len() > limit {
        let end = end(text, limit);
        text.to_mut().truncate(end);
    }
}

/// The last place at or before `limit` where a character ends.
fn end(text: &str, limit: usize) -> usize {
    text.floor_char_boundary(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str) -> Span {
        let trace = TraceId::of(&["box", "node/n1"]);
        Span {
            trace,
            id: SpanId::of(trace, 1),
            parent: None,
            name: Cow::Owned(name.to_string()),
            kind: Kind::Internal,
            start: Wall(1),
            end: Wall(2),
            attributes: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn ids_are_the_same_for_ever_and_differ_by_every_word_and_step() {
        let trace = TraceId::of(&["box", "node/n1"]);
        assert_eq!(trace, TraceId::of(&["box", "node/n1"]));
        assert_eq!(
            u128::from_be_bytes(trace.0),
            0x5a8a_8319_2d91_a36d_b8c0_0aad_0622_0d13,
            "a release must not change it"
        );
        for other in [&["box", "node/n2"][..], &["boxnode/n1"], &["boxn", "ode/n1"], &[], &["box", "node/n1", ""]] {
            assert_ne!(trace, TraceId::of(other), "{other:?}");
        }
        let ids: std::collections::BTreeSet<[u8; 8]> = (0..1000).map(|step| SpanId::of(trace, step).0).collect();
        assert_eq!(ids.len(), 1000);
        assert!(!ids.contains(&[0; 8]));
    }

    #[test]
    fn a_span_of_any_size_becomes_one_of_a_bounded_size() {
        let mut big = span(&"ä".repeat(5_000));
        big.attributes =
            (0..5_000).map(|n| (Cow::Owned(format!("{n}{}", "k".repeat(500))), "ü".repeat(9_000).into())).collect();
        big.error = Some("€".repeat(9_000));
        let small = big.clipped();
        assert_eq!((small.name.len(), small.attributes.len()), (NAME, ATTRIBUTES));
        assert!(small.error.as_ref().is_some_and(|e| e.len() <= TEXT && e.len() > TEXT - 3));
        assert!(small.weight() < 100 * 1024, "{}", small.weight());
        assert_eq!(span("repair").clipped(), span("repair"), "what fits stays as it is");
    }
}
