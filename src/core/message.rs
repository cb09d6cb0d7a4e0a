//! From edges to messages: grouping, storm digest, and splitting to a channel's size.
//!
//! Edges of one incident are one [`Story`], whatever number of them has piled up, so that an
//! outage of a channel ends with each incident named once. Up to [`STORM`] stories are told in
//! full, more of them as a digest with one line each: every signal is always named. Facts stay
//! plain text here; escaping belongs to the notifier, which hands in its [`Markup`]. What a fact
//! holds cannot forge a line: line ends and invisible characters never pass [`clean`], and a fact
//! stands behind a mark that no other line has (`adr/0012-messages-are-facts-in-lines.md`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::edge::{Edge, EdgeKind, Incident};
use super::signal::Severity;
use super::time::{Wall, people};

/// More stories than this in one message are told as a digest.
pub const STORM: usize = 10;
/// Characters of a fact or a reason at most.
pub const FACT_LIMIT: usize = 600;
/// Characters of an instance, key or title at most.
pub const NAME_LIMIT: usize = 200;
/// The least limit that [`split`] honours, in UTF-16 units: room for a number, a tag and some text.
pub const LEAST_LIMIT: usize = 64;
/// A message told this much later than its edge was decided says so.
const LATE_MS: u64 = 60_000;
/// Stands before a fact, and nowhere else at the beginning of a line.
const FACT_MARK: &str = "› ";
/// Stands for what is done about a trouble.
const REPAIR_MARK: &str = "🔧";

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
    /// True when it holds nothing but recoveries.
    pub only_recoveries: bool,
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

/// The message that tells these stories: in full up to [`STORM`], as a digest beyond.
pub fn compose(instance: &str, stories: &[Story], now: Wall) -> Message {
    let instance = clean(instance, NAME_LIMIT);
    let mut lines = Vec::new();
    match stories {
        [] => {}
        [story] => {
            let head = vec![Piece::bold(instance), Piece::plain(" · ")];
            tell(story, head, now, &mut lines);
        }
        few if few.len() <= STORM => {
            lines.push(vec![Piece::bold(instance), Piece::plain(format!(" · {}", counts(few)))]);
            for story in few {
                lines.push(Vec::new());
                tell(story, Vec::new(), now, &mut lines);
            }
        }
        many => {
            lines.push(vec![
                Piece::bold(instance),
                Piece::plain(format!(" · storm: {} of {} signals", counts(many), signals(many))),
            ]);
            lines.extend(many.iter().filter_map(digest));
        }
    }
    envelope(lines, stories)
}

/// The shortest form that still names every signal and incident: no styles, no facts. For a
/// channel that does not accept the usual form.
pub fn brief(instance: &str, stories: &[Story]) -> Message {
    let mut lines = vec![vec![Piece::plain(clean(instance, NAME_LIMIT))]];
    for last in stories.iter().filter_map(|story| story.edges.last()) {
        let key = clean(last.key.as_str(), NAME_LIMIT);
        lines.push(vec![Piece::plain(format!("{} {key} {}", last.kind.as_str(), name(&last.incident)))]);
    }
    envelope(lines, stories)
}

fn envelope(lines: Vec<Line>, stories: &[Story]) -> Message {
    let mut incidents: Vec<Incident> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for incident in stories.iter().flat_map(|story| &story.edges).map(|edge| &edge.incident) {
        if seen.insert(incident) {
            incidents.push(incident.clone());
        }
    }
    let begins = stories.iter().filter_map(|story| story.edges.first()).any(|edge| edge.kind == EdgeKind::Alert);
    let reply_to = if begins { None } else { incidents.first().cloned() };
    let mut edges = stories.iter().flat_map(|story| &story.edges);
    let only_recoveries = !stories.is_empty() && edges.all(|edge| edge.kind.closes());
    Message { lines, incidents, reply_to, only_recoveries }
}

/// One story in full: the headline, the facts, the times.
fn tell(story: &Story, before: Vec<Piece>, now: Wall, lines: &mut Vec<Line>) {
    let repairs = story.edges.iter().filter(|edge| edge.kind == EdgeKind::Repair);
    let mut news = story.edges.iter().filter(|edge| edge.kind != EdgeKind::Repair).peekable();
    let alone = news.peek().is_none();
    let edges: Vec<&Edge> = if alone { repairs.clone().collect() } else { news.collect() };
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return };
    let mut head = vec![Piece::plain(format!("{} ", emoji(story)))];
    head.extend(before);
    let title = clean(&last.title, NAME_LIMIT);
    if !title.is_empty() {
        head.push(Piece::bold(title));
        head.push(Piece::plain(" · "));
    }
    head.push(Piece::code(clean(last.key.as_str(), NAME_LIMIT)));
    let mut tail = String::new();
    if last.severity != Severity::Critical {
        tail.push_str(" · ");
        tail.push_str(last.severity.as_str());
    }
    tail.push_str(" · ");
    tail.push_str(&name(&last.incident));
    head.push(Piece::plain(tail));
    lines.push(head);

    let closed_at_once = last.kind.closes() && !first.kind.closes();
    let worst = if closed_at_once { edges.iter().rfind(|e| !e.kind.closes()).unwrap_or(first) } else { last };
    if alone {
        let steps = repairs.clone().flat_map(|repair| repair.fact.lines());
        lines.extend(steps.map(|step| vec![Piece::plain(format!("{FACT_MARK}{}", clean(step, FACT_LIMIT)))]));
        lines.push(vec![Piece::plain(times(last, now))]);
        return;
    }
    let fact = clean(&worst.fact, FACT_LIMIT);
    let now_fact = clean(&last.fact, FACT_LIMIT);
    if !fact.is_empty() {
        lines.push(vec![Piece::plain(format!("{FACT_MARK}{fact}"))]);
    }
    if closed_at_once && !now_fact.is_empty() && now_fact != fact {
        lines.push(vec![Piece::plain(format!("{FACT_MARK}now: {now_fact}"))]);
    }
    for step in repairs.flat_map(|repair| repair.fact.lines()) {
        lines.push(vec![Piece::plain(format!("{FACT_MARK}{REPAIR_MARK} {}", clean(step, FACT_LIMIT)))]);
    }
    lines.push(vec![Piece::plain(times(last, now))]);
}

/// Since when, for how long, and why it is said now.
fn times(edge: &Edge, now: Wall) -> String {
    let since = instant(edge.since, now.date());
    let whole_seconds = edge.lasted.as_secs() > 0;
    let mut text = match edge.kind {
        EdgeKind::Recovery | EdgeKind::Seen => {
            let lead = if edge.kind == EdgeKind::Seen { "unseen" } else { "lasted" };
            // The end carries the date only where it is not the day of the beginning.
            let end = instant(edge.at, edge.since.date());
            format!("{lead} from {since} to {end} UTC ({})", people(edge.lasted))
        }
        _ if whole_seconds => format!("since {since} UTC, for {}", people(edge.lasted)),
        _ => format!("since {since} UTC"),
    };
    let late = now.since(edge.at);
    if late.as_millis() >= u128::from(LATE_MS) {
        text.push_str(", told ");
        text.push_str(&people(late));
        text.push_str(" late");
    }
    let reason = clean(&edge.reason, FACT_LIMIT);
    if !edge.kind.closes() && !reason.is_empty() {
        text.push_str(" · ");
        text.push_str(&reason);
    }
    text
}

fn instant(at: Wall, day: String) -> String {
    if at.date() == day { at.clock() } else { format!("{} {}", at.date(), at.clock()) }
}

/// One line of a storm digest.
fn digest(story: &Story) -> Option<Line> {
    let last = story.edges.last()?;
    let mut tail = format!(" {}", name(&last.incident));
    if last.kind.closes() {
        tail.push_str(" lasted ");
        tail.push_str(&people(last.lasted));
    }
    let key = Piece::code(clean(last.key.as_str(), NAME_LIMIT));
    Some(vec![Piece::plain(format!("{} ", emoji(story))), key, Piece::plain(tail)])
}

/// How a story stands at its end. A realert that comes together with its alert is news: an alert.
fn standing(story: &Story) -> EdgeKind {
    let news = story.edges.iter().rfind(|edge| edge.kind != EdgeKind::Repair).or(story.edges.last());
    let last = news.map_or(EdgeKind::Unknown, |edge| edge.kind);
    let first = story.edges.first().map_or(last, |edge| edge.kind);
    if last == EdgeKind::Realert && first == EdgeKind::Alert { EdgeKind::Alert } else { last }
}

fn emoji(story: &Story) -> &'static str {
    match standing(story) {
        EdgeKind::Alert => "🔴",
        EdgeKind::Realert => "🔁",
        EdgeKind::Recovery | EdgeKind::Seen => "🟢",
        EdgeKind::Unknown => "⚪",
        EdgeKind::Repair => REPAIR_MARK,
    }
}

/// `3 alerts, 1 recovery`.
fn counts(stories: &[Story]) -> String {
    let words = [
        (EdgeKind::Alert, "alert", "alerts"),
        (EdgeKind::Realert, "still firing", "still firing"),
        (EdgeKind::Unknown, "unknown", "unknown"),
        (EdgeKind::Recovery, "recovery", "recoveries"),
        (EdgeKind::Seen, "seen again", "seen again"),
        (EdgeKind::Repair, "repair", "repairs"),
    ];
    let mut parts = Vec::new();
    for (kind, one, more) in words {
        match stories.iter().filter(|story| standing(story) == kind).count() {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            n => parts.push(format!("{n} {more}")),
        }
    }
    parts.join(", ")
}

fn signals(stories: &[Story]) -> usize {
    let keys: std::collections::BTreeSet<_> = stories.iter().flat_map(|s| &s.edges).map(|edge| &edge.key).collect();
    keys.len()
}

fn name(incident: &Incident) -> String {
    clean(&incident.to_string(), NAME_LIMIT)
}

/// The text on one line and without characters that deceive the eye: white space of any kind
/// becomes one space, control, bidirectional and invisible characters go, and what is longer than
/// `limit` characters ends in `…`.
pub fn clean(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = length > 0;
            continue;
        }
        if c.is_control() || deceives(c) {
            continue;
        }
        if length + usize::from(gap) >= limit {
            out.push('…');
            break;
        }
        if gap {
            out.push(' ');
            length += 1;
        }
        gap = false;
        out.push(c);
        length += 1;
    }
    out
}

/// Characters that draw nothing or turn the direction of what follows.
fn deceives(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// The message as texts of at most `limit` UTF-16 units each (at least [`LEAST_LIMIT`]), tags and
/// numbers included. It is cut between lines; a line that is too long by itself is cut between
/// characters, its tags closed and opened again. Several parts end in a line `(i/n)`. Blank lines
/// at a cut are dropped; an empty message has no parts.
pub fn split(message: &Message, markup: &dyn Markup, limit_utf16: usize) -> Vec<String> {
    let limit = limit_utf16.max(LEAST_LIMIT);
    let whole = cut(message, markup, limit);
    if whole.len() <= 1 {
        return whole;
    }
    let mut digits = 1;
    loop {
        // "\n(", "/", ")" and both numbers.
        let parts = cut(message, markup, limit.saturating_sub(4 + 2 * digits));
        let count = parts.len();
        if count.to_string().len() <= digits {
            return parts.iter().enumerate().map(|(i, part)| format!("{part}\n({}/{count})", i + 1)).collect();
        }
        digits += 1;
    }
}

fn cut(message: &Message, markup: &dyn Markup, limit: usize) -> Vec<String> {
    let mut pen = Pen { markup, limit, parts: Vec::new(), text: String::new(), units: 0, style: Style::Plain };
    let mut blank = 0;
    for line in &message.lines {
        if line.iter().all(|piece| piece.text.is_empty()) {
            blank += 1;
            continue;
        }
        let gap = if pen.text.is_empty() { 0 } else { 1 + blank };
        if !pen.text.is_empty() && pen.units + gap + pen.measure(line) > limit {
            pen.turn();
        } else {
            pen.text.push_str(&"\n".repeat(gap));
            pen.units += gap;
        }
        blank = 0;
        pen.write(line);
    }
    pen.turn();
    pen.parts
}

/// Writes parts, counting units; a style is opened at its first character only.
struct Pen<'a> {
    markup: &'a dyn Markup,
    limit: usize,
    parts: Vec<String>,
    text: String,
    units: usize,
    style: Style,
}

impl Pen<'_> {
    /// Units of the line as [`Pen::write`] would write it.
    fn measure(&self, line: &Line) -> usize {
        let mut pen = Pen { limit: usize::MAX, parts: Vec::new(), text: String::new(), units: 0, ..*self };
        pen.write(line);
        pen.units
    }

    fn write(&mut self, line: &Line) {
        let mut escaped = String::new();
        for piece in line {
            for c in piece.text.chars() {
                escaped.clear();
                self.markup.escape(if matches!(c, '\n' | '\r') { ' ' } else { c }, &mut escaped);
                if self.style != piece.style {
                    self.restyle(Style::Plain);
                }
                let tags = if self.style == piece.style { "" } else { self.markup.open(piece.style) };
                let need = utf16(tags) + utf16(&escaped) + utf16(self.markup.close(piece.style));
                if self.units + need > self.limit && !self.text.is_empty() {
                    self.turn();
                }
                self.restyle(piece.style);
                self.units += utf16(&escaped);
                self.text.push_str(&escaped);
            }
        }
        self.restyle(Style::Plain);
    }

    fn restyle(&mut self, style: Style) {
        if self.style != style {
            for tag in [self.markup.close(self.style), self.markup.open(style)] {
                self.units += utf16(tag);
                self.text.push_str(tag);
            }
            self.style = style;
        }
    }

    /// Ends the part that is being written.
    fn turn(&mut self) {
        self.restyle(Style::Plain);
        if !self.text.is_empty() {
            self.parts.push(std::mem::take(&mut self.text));
        }
        self.units = 0;
    }
}

/// The length of a text in UTF-16 units, as Telegram counts.
pub fn utf16(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

#[cfg(test)]
mod tests;
