//! `watchdog completions SHELL`: a completion script on stdout.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Which shell.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell the script is for
    shell: Shell,
}

/// Prints the script.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Cli::command(), "watchdog", &mut script);
    super::paint::write(String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
