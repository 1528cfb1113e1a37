//! The `doorbell` program as a library, so that its configuration can be fuzzed and its parts tested.
//!
//! `cli` says what can be typed, `commands` has one file for each command, `config` reads and checks the
//! configuration, `data_dir` keeps the keys that the first run makes, `exit` has the exit codes.

use std::borrow::Cow;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

mod bounded;
pub mod cli;
mod commands;
pub mod config;
pub mod data_dir;
mod exit;
mod logging;

/// Runs the program with these arguments, the first of which is its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: &config::Environment) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match cli::Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            let program = arguments.first().map_or(Cow::Borrowed("doorbell"), |name| name.to_string_lossy());
            commands::run(cli, &program, environment).unwrap_or_else(exit::Failure::report)
        }
        Err(error) => {
            // Help and the version are asked for and go to stdout; a closed pipe there is nobody's fault.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
        }
    }
}
