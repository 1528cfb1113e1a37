//! A running server and the signals that steer it: the only file that calls the server.
//!
//! SIGTERM and SIGINT drain; a second one stops at once. SIGHUP reloads. The signals are caught before a port opens,
//! so whoever reads the `listening` line can send one right away.

use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

use anyhow::Context;
use doorbell_server::settings::{Limits, Settings};
use doorbell_server::{Addresses, EchoServer, Server, StartError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::print_line;
use crate::config::{ConfigError, GOOD_SECRET_BYTES};
use crate::exit::{FAILURE, Failure};

/// Reads the configuration anew, for SIGHUP.
pub(crate) type Reread<'a> = &'a dyn Fn() -> Result<Settings, Unread>;

/// Why a configuration that was read anew is not taken.
pub(crate) enum Unread {
    /// It is wrong.
    Wrong(Vec<ConfigError>),
    /// A key of the data directory cannot be read.
    NoKey(anyhow::Error),
}

/// Starts a server, says where it listens, and runs it until a signal stops it.
pub(crate) fn serve(
    settings: Settings,
    reread: Reread<'_>,
    listening: impl FnOnce(&Addresses),
) -> Result<ExitCode, Failure> {
    let runtime = runtime()?;
    let mut signals = Signals::catch(&runtime)?;
    warn_of_short_secrets(&settings);
    warn_of_readable_key(&settings);
    let mut server = Server::start(settings).map_err(not_started)?;
    let addresses = server.addresses();
    let Addresses { public, text, api } = addresses;
    tracing::info!(%public, %text, %api, "listening");
    print_line(&format!("listening public={public} text={text} api={api}"));
    listening(&addresses);
    while let Request::Reload = runtime.block_on(signals.next()) {
        reload(&mut server, reread);
    }
    let drained = drain(runtime, signals, move || server.drain())?;
    Ok(drained.map_or_else(stopped_at_once, |report| {
        tracing::info!(closed = report.closed, cut = report.cut, "stopped");
        ExitCode::SUCCESS
    }))
}

/// Starts the echo server and runs it until a signal stops it.
pub(crate) fn echo(
    listen: std::net::SocketAddr,
    limits: Limits,
    compression: bool,
) -> Result<ExitCode, Failure> {
    let runtime = runtime()?;
    let mut signals = Signals::catch(&runtime)?;
    let server = EchoServer::start(listen, limits, compression).map_err(not_started)?;
    print_line(&format!("listening echo={}", server.address()));
    while let Request::Reload = runtime.block_on(signals.next()) {
        tracing::info!("nothing to reload");
    }
    let drained = drain(runtime, signals, move || server.drain())?;
    Ok(drained.map_or_else(stopped_at_once, |()| ExitCode::SUCCESS))
}

/// Says which secrets could be guessed, never what they are.
fn warn_of_short_secrets(settings: &Settings) {
    let short = |secret: &SecretString| secret.expose_secret().len() < GOOD_SECRET_BYTES;
    if settings.text.key.as_ref().is_some_and(short) {
        tracing::warn!("text.key is short enough to be guessed; use at least {GOOD_SECRET_BYTES} bytes");
    }
    if settings.webhooks.secret.as_ref().is_some_and(short) {
        tracing::warn!(
            "webhooks.secret is short enough to be guessed; use at least {GOOD_SECRET_BYTES} bytes"
        );
    }
    for key in settings.api.keys.iter().filter(|key| short(&key.secret)) {
        tracing::warn!(
            name = key.name,
            "an API key is short enough to be guessed; use at least {GOOD_SECRET_BYTES} bytes"
        );
    }
}

/// The key of the certificate is often another program's, such as certbot's, so who may read it is theirs to decide.
fn warn_of_readable_key(settings: &Settings) {
    let Some(key) = &settings.public.tls_key else { return };
    if std::fs::metadata(key).is_ok_and(|file| file.mode() & 0o007 != 0) {
        tracing::warn!(path = %key.display(), "public.tls_key can be read by everyone on this machine: run chmod o= on it");
    }
}

/// What the settings are to blame for is a configuration error, though `check-config` should have found it.
fn not_started(error: StartError) -> Failure {
    let ours = matches!(
        error,
        StartError::Unsafe(_) | StartError::TokenKey(_) | StartError::Tls(_) | StartError::Webhooks(_)
    );
    let error = anyhow::Error::new(error).context("cannot start");
    if ours { Failure::Usage(error) } else { Failure::Runtime(error) }
}

fn stopped_at_once() -> ExitCode {
    tracing::warn!("stopped at once by a second signal");
    ExitCode::from(FAILURE)
}

fn reload(server: &mut Server, reread: Reread<'_>) {
    match reread() {
        Ok(settings) => {
            let report = match server.reload(settings) {
                Ok(report) => report,
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    tracing::error!(error, "not reloaded: the configuration before stays in force");
                    return;
                }
            };
            tracing::info!(applied = %report.applied.join(", "), "reloaded");
            if !report.needs_restart.is_empty() {
                tracing::warn!(keys = %report.needs_restart.join(", "), "these take effect after a restart");
            }
        }
        Err(Unread::Wrong(errors)) => {
            for error in &errors {
                tracing::error!("{error}");
            }
            tracing::error!(errors = errors.len(), "not reloaded: the configuration before stays in force");
        }
        Err(Unread::NoKey(error)) => {
            let error = format!("{error:#}");
            tracing::error!(error, "not reloaded: the configuration before stays in force");
        }
    }
}

/// Drains on a thread of its own, so that a second signal is still heard; `None` when one was.
fn drain<D: Send + 'static>(
    runtime: Runtime,
    mut signals: Signals,
    drain: impl FnOnce() -> D + Send + 'static,
) -> Result<Option<D>, Failure> {
    tracing::info!("draining; a second signal stops at once");
    let draining = runtime.spawn_blocking(drain);
    let drained = runtime.block_on(async move {
        tokio::pin!(draining);
        loop {
            tokio::select! {
                drained = &mut draining => break Some(drained),
                request = signals.next() => if let Request::Stop = request { break None },
            }
        }
    });
    // Does not wait for a drain that was cut short.
    runtime.shutdown_background();
    Ok(drained.transpose().context("draining failed")?)
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// What a signal asks for.
enum Request {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch(runtime: &Runtime) -> anyhow::Result<Self> {
        let _entered = runtime.enter();
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// A signal that came while nobody waited is given to the next call.
    async fn next(&mut self) -> Request {
        tokio::select! {
            // Stopping goes first when both came.
            biased;
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hang_up.recv() => Request::Reload,
        }
    }
}
