//! From edges to messages: grouping, storm digest, and splitting to a channel's size.
//!
//! Facts stay plain text here; escaping belongs to the notifier, which hands in its [`Markup`].

use super::edge::{Edge, EdgeKind, Incident};
use super::time::Now;

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Plain,
    /// A title.
    Bold,
    /// A name that can be copied: a signal's key.
    Code,
}

/// A piece of text in one style. Plain facts, not escaped; may hold anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// How it stands out.
    pub style: Style,
}

/// One line of a message.
pub type Line = Vec<Piece>;

/// One message for one channel: what is said, and how it belongs to earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The text, line by line; lines hold no line ends.
    pub lines: Vec<Line>,
    /// Every incident named in it, in order, without repeats.
    pub incidents: Vec<Incident>,
    /// The incident whose first message this one answers, when every edge in it is a later one.
    pub reply_to: Option<Incident>,
    /// True when it holds nothing but recoveries.
    pub only_recoveries: bool,
}

/// All that is to be said about one incident at once, oldest first; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    /// The edges, oldest first.
    pub edges: Vec<Edge>,
}

/// How a channel writes styles and what it must escape.
pub trait Markup {
    /// Written before text in this style; nothing for plain text.
    fn open(&self, style: Style) -> &'static str;
    /// Written after text in this style.
    fn close(&self, style: Style) -> &'static str;
    /// Appends one character of plain text, escaped.
    fn escape(&self, c: char, out: &mut String);
}
