//! `doorbell push UID DATA`: rings every connection of one uid.

use std::process::ExitCode;

use anyhow::Context;
use doorbell_protocol::Uid;
use serde::Serialize;
use serde_json::value::RawValue;

use super::ask::{Asking, data};
use super::print_line;
use crate::cli::PushArgs;
use crate::config::Environment;
use crate::exit::{Failure, NOBODY};

/// The body of `POST /v1/push`.
#[derive(Serialize)]
struct Push<'a> {
    uid: &'a str,
    data: &'a RawValue,
}

pub(crate) fn run(args: &PushArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let uid = Uid::new(&args.uid).context("not a uid").map_err(Failure::Usage)?;
    let asking = Asking::new(&args.ask.server, environment)?;
    let data = data(&args.ask, &args.data)?;
    let body = serde_json::to_string(&Push { uid: uid.as_str(), data: &data })
        .context("cannot write the request")
        .map_err(Failure::Usage)?;
    let answer = asking.post("/v1/push", body)?.delivery()?;
    print_line(&answer.text);
    Ok(if answer.written > 0 { ExitCode::SUCCESS } else { ExitCode::from(NOBODY) })
}
