//! What a command prints. `println!` would end the program when nobody reads (`watchdog history |
//! head`), and a daemon must outlive its terminal: here a reader that has gone away is not an error, and
//! anything else that keeps output from being written (a full disk) makes the command fail at its end.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

static LOST: AtomicBool = AtomicBool::new(false);

/// Prints one line to standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::out::line(format_args!($($text)*)) };
}

/// Prints one line to standard error.
macro_rules! complain {
    ($($text:tt)*) => { $crate::cli::out::complaint(format_args!($($text)*)) };
}

pub(super) use {complain, say};

/// See [`say!`].
pub fn line(text: Arguments<'_>) {
    note(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints a text that brings its own line ends. False when nobody reads any more.
pub fn text(text: &str) -> bool {
    let mut out = io::stdout().lock();
    let outcome = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let read = outcome.is_ok();
    note(outcome);
    read
}

/// See [`complain!`]. When not even this can be written, there is nobody left to tell.
pub fn complaint(text: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// True when some output was lost although somebody wanted it.
pub fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

fn note(outcome: io::Result<()>) {
    if outcome.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}
