//! Text that is safe to show, and messages cut to a channel's size.
//!
//! [`clean`] takes from a text all that could forge a line or deceive the eye (T15); [`split`] writes a message in a
//! channel's [`Markup`] and cuts it into parts of at most so many UTF-16 units, as Telegram counts, never inside a
//! tag or a character. Nothing here knows what a message is about.

use super::{Line, Markup, Message, Style};

/// The least limit that [`split`] honours, in UTF-16 units: room for a number, a tag and some text.
pub const LEAST_LIMIT: usize = 64;

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
