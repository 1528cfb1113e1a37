//! `doorbell check-config`: says all that is wrong, and where. Opens no port, writes no file.

use std::process::ExitCode;

use super::{print, print_line};
use crate::cli::CheckConfigArgs;
use crate::config::{Environment, Overrides, file_of, load, reference_text};
use crate::exit::Failure;

pub(crate) fn run(args: &CheckConfigArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    if args.print_default {
        print(&reference_text());
        return Ok(ExitCode::SUCCESS);
    }
    let sources = args.place.sources(environment, Overrides::default());
    load(&sources)?;
    match file_of(&sources) {
        Some(path) => print_line(&format!("{}: ok", path.display())),
        None => print_line("ok: no configuration file, so the defaults and the environment"),
    }
    Ok(ExitCode::SUCCESS)
}
