//! `doorbell token UID`: mints a connection token, without a running server.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use doorbell_protocol::Uid;
use doorbell_server::identity::TokenKeys;

use super::print_line;
use crate::cli::TokenArgs;
use crate::config::{Environment, Overrides, load};
use crate::data_dir::TOKEN_KEY_FILE;
use crate::exit::Failure;

pub(crate) fn run(args: &TokenArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let uid = Uid::new(&args.uid).context("not a uid").map_err(Failure::Usage)?;
    let config = load(&args.place.sources(environment, Overrides::default()))?;
    let mut tokens = config.settings.tokens.clone();
    if config.uses_made_token_key() {
        // Made here when the server never ran: it will find the same key.
        tokens.key = Some(args.place.data_dir(environment).ensure_key(TOKEN_KEY_FILE)?);
    }
    let keys = TokenKeys::new(&tokens).context("cannot use the token key")?;
    let token = keys.mint(&uid, args.ttl, SystemTime::now()).context("cannot mint a token")?;
    print_line(&token);
    Ok(ExitCode::SUCCESS)
}
