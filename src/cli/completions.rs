//! `watchdog completions SHELL`: a completion script on stdout.

use std::io;
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
    clap_complete::generate(arguments.shell, &mut super::Cli::command(), "watchdog", &mut io::stdout());
    ExitCode::SUCCESS
}
