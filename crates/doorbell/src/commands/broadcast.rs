//! `doorbell broadcast DATA`: rings every connection there is.

use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use serde_json::value::RawValue;

use super::ask::{Asking, data};
use super::print_line;
use crate::cli::BroadcastArgs;
use crate::config::Environment;
use crate::exit::Failure;

/// The body of `POST /v1/broadcast`.
#[derive(Serialize)]
struct Broadcast<'a> {
    data: &'a RawValue,
}

pub(crate) fn run(args: &BroadcastArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let asking = Asking::new(&args.ask.server, environment)?;
    let data = data(&args.ask, &args.data)?;
    let body = serde_json::to_string(&Broadcast { data: &data })
        .context("cannot write the request")
        .map_err(Failure::Usage)?;
    print_line(&asking.post("/v1/broadcast", body)?.delivery()?.text);
    Ok(ExitCode::SUCCESS)
}
