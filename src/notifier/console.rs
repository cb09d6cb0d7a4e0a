//! The console: every message as plain lines on standard output, always on.
//!
//! The channel that is left when no other is set up or lets us in, and the log of all that was
//! said. Control characters never pass, so that no fact can move a terminal's cursor. Blocks only
//! its own courier when nobody reads.

use std::io::{ErrorKind, IsTerminal as _, Write, stdout};

use super::{Class, Entry, Notifier, Outfit, Part, Receipt, SendError};
use crate::config::{Config, ConfigError};
use crate::core::message::{Markup, Message, Style, split};

/// How the program knows the console.
pub const ENTRY: Entry = Entry { name: "console", about: "alerts are printed here", advice: "", sections: &[], build };

#[allow(clippy::unnecessary_wraps, reason = "the shape of every entry; this one is always on")]
fn build(_config: &Config, _outfit: &Outfit) -> Result<Option<Box<dyn Notifier>>, ConfigError> {
    let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Ok(Some(Box::new(Console::new(Box::new(stdout()), colour))))
}

/// Messages as lines.
pub struct Console {
    out: Box<dyn Write + Send>,
    colour: bool,
}

impl Console {
    /// A console that writes to `out`, with ANSI styles only if `colour`.
    pub fn new(out: Box<dyn Write + Send>, colour: bool) -> Console {
        Console { out, colour }
    }
}

impl Notifier for Console {
    fn name(&self) -> &str {
        ENTRY.name
    }

    fn render(&self, message: &Message) -> Vec<String> {
        let markup: &dyn Markup = if self.colour { &Ansi } else { &Bare };
        split(message, markup, usize::MAX)
    }

    fn reaches_people(&self) -> bool {
        false
    }

    fn send(&mut self, part: &Part<'_>) -> Result<Receipt, SendError> {
        let written = writeln!(self.out, "{}", part.text).and_then(|()| self.out.flush());
        written.map(|()| Receipt::default()).map_err(|error| {
            let gone = error.kind() == ErrorKind::BrokenPipe;
            let class = if gone { Class::Permanent } else { Class::Transient };
            let advice = if gone { "nobody reads standard output" } else { "trying again" };
            SendError { what: format!("console: {error}; {advice}"), advice, class }
        })
    }
}

/// Lines without styles.
struct Bare;

impl Markup for Bare {
    fn open(&self, _style: Style) -> &'static str {
        ""
    }

    fn close(&self, _style: Style) -> &'static str {
        ""
    }

    fn escape(&self, c: char, out: &mut String) {
        if !c.is_control() {
            out.push(c);
        }
    }
}

/// Lines with ANSI styles.
struct Ansi;

impl Markup for Ansi {
    fn open(&self, style: Style) -> &'static str {
        match style {
            Style::Plain => "",
            Style::Bold => "\u{1b}[1m",
            Style::Code => "\u{1b}[36m",
        }
    }

    fn close(&self, style: Style) -> &'static str {
        match style {
            Style::Plain => "",
            Style::Bold | Style::Code => "\u{1b}[0m",
        }
    }

    fn escape(&self, c: char, out: &mut String) {
        Bare.escape(c, out);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::core::message::{Piece, Sound};

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>, Option<ErrorKind>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.1 {
                Some(kind) => Err(kind.into()),
                None => self.0.lock().unwrap().write(bytes),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn message(text: &str) -> Message {
        let lines = vec![vec![Piece::bold(text)], Vec::new(), vec![Piece::code("k"), Piece::plain(" <&>")]];
        Message { lines, incidents: Vec::new(), reply_to: None, sound: Sound::Loud }
    }

    fn print(text: &str, colour: bool) -> String {
        let paper = Paper::default();
        let mut console = Console::new(Box::new(paper.clone()), colour);
        let parts = console.render(&message(text));
        assert_eq!(parts.len(), 1);
        console.send(&Part { text: &parts[0], reply_to: None, sound: Sound::Loud }).unwrap();
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_message_is_plain_lines_and_coloured_only_if_told_so() {
        assert_eq!(print("web-1", false), "web-1\n\nk <&>\n");
        assert_eq!(print("web-1", true), "\u{1b}[1mweb-1\u{1b}[0m\n\n\u{1b}[36mk\u{1b}[0m <&>\n");
        assert_eq!(print("\u{1b}]0;owned\u{7}\u{9b}2J\u{0}x", false), "]0;owned2Jx\n\nk <&>\n");
    }

    #[test]
    fn a_broken_pipe_is_for_good_and_a_full_disk_may_pass() {
        for (kind, class) in [(ErrorKind::BrokenPipe, Class::Permanent), (ErrorKind::StorageFull, Class::Transient)] {
            let mut console = Console::new(Box::new(Paper(Arc::default(), Some(kind))), false);
            let error = console.send(&Part { text: "x", reply_to: None, sound: Sound::Loud }).unwrap_err();
            assert_eq!(error.class, class);
        }
    }
}
