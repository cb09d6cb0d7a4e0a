//! Colour and columns for the terminal; plain text everywhere else (`NO_COLOR` is honoured).

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use crate::core::signal::State;

/// Writes with or without colour.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// Colour when stdout is a terminal and nobody asked for none.
    pub fn stdout() -> Paint {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Paint { colour: wanted && std::io::stdout().is_terminal() }
    }

    /// True when a person looks on.
    pub fn is_terminal() -> bool {
        std::io::stdout().is_terminal()
    }

    /// A state in a column of its own width, in its colour.
    pub fn state(self, state: State) -> String {
        let code = match state {
            State::Ok => "32",
            State::Pending => "33",
            State::Firing => "1;31",
            State::Unknown => "35",
        };
        self.wrap(code, &format!("{:<7}", state.as_str()))
    }

    /// Less important text.
    pub fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// A headline.
    pub fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// Writes to stdout. False when nobody reads it any more (`watchdog status | head`), which is no error.
pub fn write(text: impl Display) -> bool {
    let mut out = std::io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// `println!` that does not panic when nobody reads, see [`write`].
macro_rules! say {
    ($($line:tt)*) => { $crate::cli::paint::write(format_args!("{}\n", format_args!($($line)*))) };
}
pub(super) use say;

/// Text that came from outside, safe for a terminal: no control characters, one line, bounded.
pub fn clean(text: &str) -> String {
    const LIMIT: usize = 400;
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LIMIT).collect();
    if text.chars().nth(LIMIT).is_some() {
        out.push('…');
    }
    out
}
