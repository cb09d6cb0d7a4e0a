//! From edges to messages: grouping, headlines, storm digest.
//!
//! Edges of one incident are one [`Story`], whatever number of them has piled up, so that an
//! outage of a channel ends with each incident named once. One story is told in full; several of one cause
//! stand under its name, others under how many they are; more than [`STORM`] are a digest with one line each, the
//! most severe first: every signal is always named. Facts stay plain text here; escaping belongs to the notifier,
//! which hands in its [`Markup`]. Read on in [`tell`] (the lines of a story) and [`text`] (what is safe to show, and
//! how a message is cut to a channel's size). The form is `adr/0012-messages-are-facts-in-lines.md`.

mod tell;
mod text;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::edge::{Edge, EdgeKind, Incident};
use super::name::in_url;
use super::signal::Severity;
use super::time::Wall;
use super::zone::Zone;

pub use self::text::{LEAST_LIMIT, clean, split, utf16};

/// More stories than this in one message are told as a digest.
pub const STORM: usize = 10;
/// Characters of a fact or a reason at most.
pub const FACT_LIMIT: usize = 600;
/// Characters of an instance, key or title at most.
pub const NAME_LIMIT: usize = 200;

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

impl Piece {
    /// Text that does not stand out.
    pub fn plain(text: impl Into<String>) -> Piece {
        Piece { text: text.into(), style: Style::Plain }
    }

    /// A title.
    pub fn bold(text: impl Into<String>) -> Piece {
        Piece { text: text.into(), style: Style::Bold }
    }

    /// A name that can be copied.
    pub fn code(text: impl Into<String>) -> Piece {
        Piece { text: text.into(), style: Style::Code }
    }
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
    /// The incident whose first message this one answers, when no story in it begins with an alert.
    /// Whether each incident was indeed told before, only the store knows.
    pub reply_to: Option<Incident>,
    /// How loud it should arrive.
    pub sound: Sound,
}

/// How loud a message should arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sound {
    /// Somebody should hear it.
    #[default]
    Loud,
    /// It holds nothing but recoveries: the channel's settings decide.
    Recovery,
    /// It holds nothing but infos: without a sound.
    Silent,
}

/// Where and when a message is written.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The name of this watchdog in every message.
    pub instance: &'a str,
    /// The time zone of the person who reads it.
    pub zone: &'a Zone,
    /// When it is written.
    pub now: Wall,
}

/// A channel's acknowledgement of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// The channel's name for the message (Telegram: chat and message id), for later replies.
    pub reference: Option<String>,
    /// What must be remembered across restarts, as name and value.
    pub remember: Option<(String, String)>,
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

/// The edges grouped by incident, in the order of each incident's first edge.
pub fn stories(edges: Vec<Edge>) -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    let mut places: BTreeMap<Incident, usize> = BTreeMap::new();
    for edge in edges {
        match places.entry(edge.incident.clone()) {
            Entry::Occupied(place) => {
                if let Some(story) = stories.get_mut(*place.get()) {
                    story.edges.push(edge);
                }
            }
            Entry::Vacant(place) => {
                place.insert(stories.len());
                stories.push(Story { edges: vec![edge] });
            }
        }
    }
    stories
}

/// The message that tells these stories: one in full, several of one cause under its name, a few one after the
/// other, and more than [`STORM`] as a digest.
pub fn compose(stories: &[Story], place: &Place<'_>) -> Message {
    let mut lines = Vec::new();
    match stories {
        [] => {}
        [story] => tell::whole(story, Some(place.instance), place, &mut lines),
        many => {
            let cause = common_cause(many);
            lines.push(tell::headline(many, cause, place));
            if many.len() > STORM || cause.is_some() {
                let mut sorted: Vec<&Story> = many.iter().collect();
                sorted.sort_by_key(|story| (!tell::standing(story).opens(), tell::severity(story)));
                lines.extend(sorted.iter().filter_map(|story| tell::digest(story, cause.is_some(), place)));
                // What has one cause is looked into in one place.
                if cause.is_some() {
                    tell::together(&sorted, &mut lines);
                }
            } else {
                for story in many {
                    lines.push(Vec::new());
                    tell::whole(story, None, place, &mut lines);
                }
            }
        }
    }
    envelope(lines, stories)
}

/// The message with a last line that leads to the page at `page`: to the one signal that it is about, or to all of them.
/// What is no longer watched has no page.
#[must_use]
pub fn linked(mut message: Message, stories: &[Story], page: &str) -> Message {
    let page = page.trim_end_matches('/');
    let link = match stories {
        [] => return message,
        [story] if tell::standing(story) == EdgeKind::Removed => return message,
        [story] => {
            let key = story.edges.last().map(|edge| in_url(edge.key.as_str())).unwrap_or_default();
            format!("{page}/signal/{key}")
        }
        _ => format!("{page}/"),
    };
    message.lines.push(vec![Piece::plain(link)]);
    message
}

/// The shortest form that still names every signal and incident: no styles, no facts. For a
/// channel that does not accept the usual form.
pub fn brief(instance: &str, stories: &[Story]) -> Message {
    let mut lines = vec![vec![Piece::plain(clean(instance, NAME_LIMIT))]];
    for last in stories.iter().filter_map(|story| story.edges.last()) {
        let key = clean(last.key.as_str(), NAME_LIMIT);
        // A line for several removed subjects has their names in its fact only.
        let names = if last.kind == EdgeKind::Removed { clean(&last.fact, FACT_LIMIT) } else { String::new() };
        let line = format!("{} {key} {} {names}", last.kind.as_str(), tell::name(&last.incident));
        lines.push(vec![Piece::plain(line.trim_end().to_string())]);
    }
    envelope(lines, stories)
}

/// What all of them share, when they stand alike: a headline of its own.
fn common_cause(stories: &[Story]) -> Option<&str> {
    let of = |story: &'_ Story| {
        let last = story.edges.last()?;
        let standing = tell::standing(story);
        let removed = standing == EdgeKind::Removed;
        (!last.about.cause.is_empty()).then(|| (last.about.cause.to_string(), standing.opens(), removed))
    };
    let first = of(stories.first()?)?;
    let alike = stories.iter().all(|story| of(story).as_ref() == Some(&first));
    alike.then(|| stories.first()?.edges.last().map(|edge| edge.about.cause.as_ref())).flatten()
}

fn envelope(lines: Vec<Line>, stories: &[Story]) -> Message {
    let mut incidents: Vec<Incident> = Vec::new();
    let mut seen = BTreeSet::new();
    for incident in stories.iter().flat_map(|story| &story.edges).map(|edge| &edge.incident) {
        if seen.insert(incident) {
            incidents.push(incident.clone());
        }
    }
    let begins = stories.iter().filter_map(|story| story.edges.first()).any(|edge| edge.kind == EdgeKind::Alert);
    let reply_to = if begins { None } else { incidents.first().cloned() };
    Message { lines, incidents, reply_to, sound: sound(stories) }
}

/// How loud the loudest of them is.
fn sound(stories: &[Story]) -> Sound {
    let edges = || stories.iter().flat_map(|story| &story.edges);
    if edges().next().is_some() && edges().all(|edge| edge.severity == Severity::Info) {
        Sound::Silent
    } else if edges().next().is_some() && edges().all(|edge| edge.kind.closes()) {
        Sound::Recovery
    } else {
        Sound::Loud
    }
}

#[cfg(test)]
mod tests;
