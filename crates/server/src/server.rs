//! A running server: three listeners, their threads, and how they start, reload and stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, unix_seconds};
use crate::descriptors::Budget;
use crate::http::DemoAddresses;
use crate::http::{Public, Tasks, api_router, serve_api, serve_public};
use crate::identity::TokenKeyError;
use crate::io::{Io, Role};
use crate::login::Service;
use crate::metrics::Listener;
use crate::places::{Places, PlacesError};
use crate::policy::Policy;
use crate::settings::{IdentityMode, Limits, Settings};
use crate::tls::{Certificate, Tls, TlsError};
use crate::utc::rfc3339;
use crate::webhooks::{WebhooksError, note_presence, watch_presence};

/// Connections the system may hold for us before they are accepted; it takes less when its own limit is lower.
const BACKLOG: i32 = 4_096;
/// Requests on their way from the event loops to the HTTP library.
const HTTP_BACKLOG: usize = 1_024;
/// How long before a certificate expires a start or a reload warns. Who renews certificates does so weeks before.
const EXPIRES_SOON: Duration = Duration::from_hours(14 * 24);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("listen on {address} ({listener})")]
    Listen {
        /// `public`, `text`, `api` or `echo`
        listener: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A setting would leave a door open.
    #[error("{0}")]
    Unsafe(&'static str),
    /// The token key cannot be used.
    #[error("use tokens.key")]
    TokenKey(#[from] TokenKeyError),
    /// The file of revocations cannot be used.
    #[error("keep revocations in {path}")]
    Revocations {
        /// Where they are kept.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("use public.tls_cert and public.tls_key")]
    Tls(#[from] TlsError),
    /// Webhooks cannot be sent as the settings say.
    #[error("set up webhooks")]
    Webhooks(#[from] WebhooksError),
    /// The logins' rules contradict each other.
    #[error("use [login]")]
    Login(#[from] doorbell_login::RulesError),
    /// The database of places cannot be read.
    #[error("use login.places_file")]
    Places(#[from] PlacesError),
    /// The system gives no randomness.
    #[error(transparent)]
    Random(#[from] doorbell_login::NoRandomness),
    /// A thread or an epoll set cannot be made.
    #[error("start the server's threads")]
    Threads(#[from] io::Error),
}

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Browsers.
    pub public: SocketAddr,
    /// Backends that write lines.
    pub text: SocketAddr,
    /// Backends that speak HTTP.
    pub api: SocketAddr,
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// Settings that changed and are in force, by their configuration keys.
    pub applied: Vec<String>,
    /// Settings that changed and need a restart.
    pub needs_restart: Vec<String>,
}

/// How a server parted with its connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Told to come back, and gone in time.
    pub closed: usize,
    /// Still there at the end of the window.
    pub cut: usize,
}

/// A running server. Dropping it stops it at once; [`Server::drain`] is the polite way.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    settings: Settings,
    tls: Tls,
    certificate: Option<Certificate>,
    context: Arc<Context>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    io: Io,
    runtime: Runtime,
    tasks: Tasks,
    presence: (CancellationToken, JoinHandle<()>),
}

impl Server {
    /// Binds the three listeners, starts the threads, and returns when all of it listens.
    ///
    /// Not for use inside an asynchronous task: the server has its own runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        refuse_unsafe(&settings)?;
        settings.login.rules.check()?;
        let tls = Tls::new()?;
        let certificate = Certificate::of(&settings.public)?;
        let sessions = certificate.as_ref().map(|certificate| tls.configure(certificate));
        let context = Arc::new(Context::new(Policy::new(&settings, sessions)?));
        if let Some(path) = &settings.tokens.revocations_path {
            let kept = context.revocations.keep_in(path.clone(), unix_seconds(SystemTime::now()));
            kept.map_err(|source| StartError::Revocations { path: path.clone(), source })?;
        }
        let public = listen("public", settings.public.listen)?;
        let text = listen("text", settings.text.listen)?;
        let api = listen("api", settings.api.listen)?;
        let addresses =
            Addresses { public: public.local_addr()?, text: text.local_addr()?, api: api.local_addr()? };

        let runtime = runtime()?;
        context.webhooks.configure(&settings.webhooks, runtime.handle(), &context.metrics)?;
        note_presence(&context);
        let tasks = Tasks::default();
        let listeners = vec![(public, Listener::Public, Role::Page), (text, Listener::Text, Role::Page)];
        let (sender, receiver) = tokio::sync::mpsc::channel(HTTP_BACKLOG);
        let places = settings.login.places_file.as_deref().map(Places::open).transpose()?;
        let service =
            Service::new(&settings, &context, places, runtime.handle().clone(), tasks.stop.clone())?;
        // A context is new here, so nothing has set them.
        let _ = context.http.set(sender);
        let _ = context.login.set(Arc::new(service));
        let budget = Budget::take();
        let io = Io::start(&context, listeners, budget.connections)?;
        let demo = settings.demo.clone();
        let demo = demo.map(|demo| {
            (demo, DemoAddresses { public: addresses.public.ip(), text: addresses.text, api: addresses.api })
        });
        let public = Public::new(&context, demo);
        let guard = runtime.enter();
        tasks.tracker.spawn(serve_public(receiver, public, tasks.clone(), budget.http));
        let api = tokio::net::TcpListener::from_std(api)?;
        let router = api_router(Arc::clone(&context));
        tasks.tracker.spawn(serve_api(api, router, Arc::clone(&context), tasks.clone(), budget.api));
        tasks.tracker.spawn(Service::keep_time(Arc::clone(&context), tasks.clone()));
        tasks.tracker.spawn(sweep_mailboxes(Arc::clone(&context), tasks.clone()));
        let watching = CancellationToken::new();
        let watcher = runtime.spawn(watch_presence(Arc::clone(&context), watching.clone()));
        drop(guard);
        let running = Running { io, runtime, tasks, presence: (watching, watcher) };
        let server = Self { addresses, settings, tls, certificate, context, running: Some(running) };
        server.note_certificate();
        Ok(server)
    }

    /// Where it listens: the real ports, also when 0 was asked for.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Takes over what can change while running: keys, certificate, limits, origins, trusted proxies, identity.
    ///
    /// # Errors
    /// The new token key or certificate cannot be used, or the settings would leave a door open where the server listens now, which
    /// need not be where they say; nothing has changed then.
    pub fn reload(&mut self, settings: Settings) -> Result<ReloadReport, StartError> {
        let mut here = settings.clone();
        here.public.listen = self.addresses.public;
        here.text.listen = self.addresses.text;
        here.api.listen = self.addresses.api;
        refuse_unsafe(&here)?;
        settings.login.rules.check()?;
        let certificate = Certificate::of(&settings.public)?;
        let sessions = certificate.as_ref().map(|certificate| self.tls.configure(certificate));
        let policy = Arc::new(Policy::new(&settings, sessions)?);
        let mut report = compare(&self.settings, &settings);
        // Files of the same names may hold others.
        if !same(self.certificate.as_ref(), certificate.as_ref()) {
            report.applied.push("public.tls_cert".to_owned());
        }
        if let Some(running) = &self.running {
            let runtime = running.runtime.handle();
            self.context.webhooks.configure(&settings.webhooks, runtime, &self.context.metrics)?;
            note_presence(&self.context);
            running.io.loops().reload(&policy);
        }
        self.context.hub.retain(policy.retention);
        self.context.hub.trail().set_memory(policy.trail_memory);
        self.context.policy.store(policy);
        if let Some(service) = self.context.login.get() {
            service.adopt(&settings);
        }
        self.settings = settings;
        self.certificate = certificate;
        self.note_certificate();
        Ok(report)
    }

    /// Shows when the certificate now in force expires, and warns where that is soon or was.
    fn note_certificate(&self) {
        let expires = self.certificate.as_ref().and_then(Certificate::expires);
        self.context.metrics.certificate_expires.set(expires);
        let (Some(expires), Some(path)) = (expires, &self.settings.public.tls_cert) else { return };
        let (path, now) = (path.display(), unix_seconds(SystemTime::now()));
        let date = rfc3339(expires.saturating_mul(1_000));
        if expires < now {
            tracing::warn!(%path, expires = date, "the certificate in public.tls_cert has expired: clients refuse it");
        } else if expires - now < EXPIRES_SOON.as_secs() {
            tracing::warn!(%path, expires = date, "the certificate in public.tls_cert expires soon: has it been renewed?");
        }
    }

    /// Stops accepting, finishes what was accepted, tells every client when to come back, and returns when all are
    /// gone or `limits.drain_timeout` has passed.
    ///
    /// Not for use inside an asynchronous task: it waits.
    #[must_use]
    pub fn drain(mut self) -> DrainReport {
        let window = self.context.policy.load().limits.drain_timeout;
        self.stop(window)
    }

    fn stop(&mut self, window: Duration) -> DrainReport {
        let Some(Running { io, runtime, tasks, presence }) = self.running.take() else {
            return DrainReport::default();
        };
        let until = Instant::now() + window;
        // First, so that pages the server sends away are not said to have gone.
        presence.0.cancel();
        if runtime.block_on(presence.1).is_err() {
            tracing::error!("watching who comes and goes had panicked");
        }
        let (closed, cut) = io.drain(until);
        tasks.stop.cancel();
        tasks.tracker.close();
        let left = until.saturating_duration_since(Instant::now());
        let served = runtime.block_on(async { tokio::time::timeout(left, tasks.tracker.wait()).await });
        if served.is_err() {
            tracing::warn!("HTTP requests were cut at the end of the drain window");
        }
        let left = until.saturating_duration_since(Instant::now());
        runtime.block_on(self.context.webhooks.finish(left));
        runtime.shutdown_background();
        DrainReport { closed, cut }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// A server whose WebSockets get back what they send, through the same connection code: what conformance suites run
/// against.
#[derive(Debug)]
pub struct EchoServer {
    address: SocketAddr,
    io: Option<Io>,
}

impl EchoServer {
    /// Listens on `address`, with `limits` but without the limits per client address; `compression` as in
    /// [`settings::Public`](crate::settings::Public).
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(address: SocketAddr, limits: Limits, compression: bool) -> Result<Self, StartError> {
        let context = Arc::new(Context::new(Policy::echo(limits, compression)));
        let listener = listen("echo", address)?;
        let address = listener.local_addr()?;
        let io =
            Io::start(&context, vec![(listener, Listener::Public, Role::Echo)], Budget::take().connections)?;
        Ok(Self { address, io: Some(io) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says goodbye to every connection and stops within five seconds.
    pub fn drain(mut self) {
        self.stop(Duration::from_secs(5));
    }

    fn stop(&mut self, window: Duration) {
        if let Some(io) = self.io.take() {
            io.drain(Instant::now() + window);
        }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// Gives up mail that is too old, every few seconds until told to stop.
async fn sweep_mailboxes(context: Arc<Context>, tasks: Tasks) {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = tasks.stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let context = Arc::clone(&context);
        // Many mailboxes take a while, and requests should not wait for it.
        if let Err(error) = tokio::task::spawn_blocking(move || context.hub.sweep(context.now())).await {
            tracing::error!(%error, "sweeping the mailboxes failed");
        }
    }
}

fn refuse_unsafe(settings: &Settings) -> Result<(), StartError> {
    let Settings { public, text, api, demo, .. } = settings;
    let open = public.identity == IdentityMode::Open && !public.listen.ip().is_loopback();
    if open && !public.open_identity_acknowledged {
        return Err(StartError::Unsafe(
            "with open identity anyone can claim any uid: listen on loopback, use identity = \"token\", or set public.open_identity_acknowledged = true",
        ));
    }
    if !text.listen.ip().is_loopback() && text.key.is_none() {
        return Err(StartError::Unsafe(
            "beyond loopback the text port needs a key: set text.key or text.key_file",
        ));
    }
    if !api.listen.ip().is_loopback() && api.keys.is_empty() {
        return Err(StartError::Unsafe("beyond loopback the API needs a key: add one under [[api.keys]]"));
    }
    if demo.as_ref().is_some_and(|demo| !demo.lan) && !public.listen.ip().is_loopback() {
        return Err(StartError::Unsafe(
            "the demonstration only runs on loopback, unless it was let into the network",
        ));
    }
    Ok(())
}

fn listen(listener: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it: a push must not wait for the acknowledgement of the one before (Nagle).
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(|source| StartError::Listen { listener, address, source })
}

/// The runtime for ordinary HTTP. Waiting pages do not run on it, so it needs few threads.
fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(4))
        .thread_name("http")
        .enable_all()
        .build()
}

fn same(old: Option<&Certificate>, new: Option<&Certificate>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.is_same(new),
        (old, new) => old.is_none() && new.is_none(),
    }
}

/// What differs, and whether it can change while running.
fn compare(old: &Settings, new: &Settings) -> ReloadReport {
    use secrecy::ExposeSecret as _;
    let secret = |key: &Option<secrecy::SecretString>| key.as_ref().map(|key| key.expose_secret().to_owned());
    let keys = |settings: &Settings| -> Vec<_> {
        let keys = settings.api.keys.iter();
        keys.map(|key| (key.name.clone(), key.secret.expose_secret().to_owned(), key.expires)).collect()
    };
    let tokens = |settings: &Settings| {
        let tokens = &settings.tokens;
        (
            tokens.algorithm,
            secret(&tokens.key),
            tokens.issuer.clone(),
            tokens.audience.clone(),
            tokens.max_lifetime,
        )
    };
    let webhooks = |settings: &Settings| {
        let webhooks = &settings.webhooks;
        // The secret does not show in the other's `Debug`.
        (secret(&webhooks.secret), format!("{webhooks:?}"))
    };
    let same_providers = old.providers.len() == new.providers.len()
        && old.providers.iter().zip(&new.providers).all(|(old, new)| old.is_same(new));
    let checks = [
        ("public.url", old.public.url != new.public.url, true),
        ("login", format!("{:?}", old.login) != format!("{:?}", new.login), true),
        ("providers", !same_providers, true),
        ("public.origins", old.public.origins != new.public.origins, true),
        ("public.trusted_proxies", old.public.trusted_proxies != new.public.trusted_proxies, true),
        ("public.compression", old.public.compression != new.public.compression, true),
        ("public.identity", old.public.identity != new.public.identity, true),
        ("text.key", secret(&old.text.key) != secret(&new.text.key), true),
        ("api.keys", keys(old) != keys(new), true),
        ("tokens", tokens(old) != tokens(new), true),
        ("text.hold", old.text.hold != new.text.hold, true),
        ("mailbox", old.mailbox != new.mailbox, true),
        ("webhooks", webhooks(old) != webhooks(new), true),
        ("trail", old.trail != new.trail, true),
        ("limits", format!("{:?}", old.limits) != format!("{:?}", new.limits), true),
        ("login.places_file", old.login.places_file != new.login.places_file, false),
        ("public.listen", old.public.listen != new.public.listen, false),
        ("text.listen", old.text.listen != new.text.listen, false),
        ("api.listen", old.api.listen != new.api.listen, false),
    ];
    let mut report = ReloadReport::default();
    for (key, _, live) in checks.into_iter().filter(|(_, changed, _)| *changed) {
        let list = if live { &mut report.applied } else { &mut report.needs_restart };
        list.push(key.to_owned());
    }
    report
}
