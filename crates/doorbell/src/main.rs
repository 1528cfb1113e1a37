//! `doorbell`: see `doorbell --help`.

use std::process::ExitCode;

use doorbell::config::Environment;

fn main() -> ExitCode {
    doorbell::run(std::env::args_os(), &Environment::of_process())
}
