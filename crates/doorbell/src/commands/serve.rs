//! `doorbell serve`: logging, configuration and keys, then the server until a signal.

use std::process::ExitCode;

use super::running::{self, Unread};
use crate::cli::ServeArgs;
use crate::config::{Environment, load};
use crate::exit::Failure;
use crate::logging;

pub(crate) fn run(args: &ServeArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let sources = args.place.sources(environment, args.overrides());
    let data_dir = args.place.data_dir(environment);
    let config = load(&sources)?;
    logging::start(&config.log);
    let settings = data_dir.complete(&config)?;
    let reread = || {
        let fresh = load(&sources).map_err(Unread::Wrong)?;
        if fresh.log != config.log {
            tracing::warn!("log.level and log.format take effect after a restart");
        }
        data_dir.complete(&fresh).map_err(Unread::NoKey)
    };
    running::serve(settings, &reread, |_| {})
}
