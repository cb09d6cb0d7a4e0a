//! The program: everything is in the library, so that tests and benches use what users run.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchdog::cli::main()
}
