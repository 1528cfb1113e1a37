//! `doorbell echo`: echoes WebSocket messages through the server's own connection code.

use std::process::ExitCode;

use doorbell_server::settings::Limits;

use super::running;
use crate::cli::EchoArgs;
use crate::config::{Environment, Log, Overrides, Sources, load};
use crate::exit::Failure;
use crate::logging;

/// How many messages of the longest kind may wait for a client that reads slower than it writes.
const ECHOES_WAITING: usize = 4;

pub(crate) fn run(args: &EchoArgs) -> Result<ExitCode, Failure> {
    logging::start(&Log::default());
    let limits = limits(args)?;
    running::echo(args.listen, limits, args.compression)
}

/// The defaults, but for the flag: a conformance suite wants the same server whatever the configuration says. The flag
/// is read as the key of the same meaning is.
fn limits(args: &EchoArgs) -> Result<Limits, Failure> {
    let mut overrides = Overrides::default();
    if let Some(size) = &args.max_message {
        overrides.set("limits.message", "--max-message", size);
    }
    // An empty file: not even the ./doorbell.toml that is read when none is named.
    let nothing = Some("/dev/null".into());
    let sources = Sources { file: nothing, environment: Environment::default(), overrides };
    let mut limits = load(&sources)?.settings.limits;
    // What comes in must be able to go out.
    limits.queue_bytes = limits.queue_bytes.max(limits.message_bytes.saturating_mul(ECHOES_WAITING));
    Ok(limits)
}
