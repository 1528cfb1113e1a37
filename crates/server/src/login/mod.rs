//! Pages that log in by scanning: the state machine of `doorbell-login`, with this server's clock, randomness,
//! connections and metrics.
//!
//! | file | owns |
//! |---|---|
//! | [`watchers`] | who is told when a login takes a step, and telling them |
//! | [`room`] | how many may ask at once |
//! | [`shown`] | a login as JSON |
//! | [`providers`] | who can say who a phone's owner is |
//!
//! The routes are in `http/login`. A step is told from the thread that took it, straight to the connections that
//! watch; no task belongs to a page.

mod providers;
mod room;
mod shown;
mod watchers;

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use doorbell_login::{
    Attempt, Keys, LoginId, Logins, MemoryStore, NoRandomness, Now, Observer, Page, Provider, Random,
    Refusal, State, Step, View,
};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::providers::Providers;
use self::room::Room;
pub(crate) use self::shown::{Envelope, Shown, seconds};
use self::watchers::Watchers;
use crate::context::Context;
use crate::io::Connection;
use crate::metrics::LoginMetrics;
use crate::places::Places;
use crate::settings::{Login, Settings, WebhookEvent};

/// When a page for which there was no room should ask again: those before it are on their way to the store, which takes
/// no longer.
const OPENING_AGAIN: Duration = Duration::from_secs(1);
/// The same for a request that wanted to wait; those before it leave with the next step or after `wait` seconds.
const WAITING_AGAIN: Duration = Duration::from_secs(5);
/// How often the clock's work is done.
const TICK: Duration = Duration::from_millis(250);

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) logins: Logins<MemoryStore>,
    pub(crate) settings: ArcSwap<Login>,
    providers: ArcSwap<Providers>,
    watchers: Arc<Watchers>,
    metrics: LoginMetrics,
    places: Option<Places>,
    started: Instant,
    runtime: Handle,
    stop: CancellationToken,
    opening: Room,
    waiting: Room,
}

/// Why a request could not wait for a step.
#[derive(Debug)]
pub(crate) enum NotWaited {
    /// The login says no.
    Refused(Refusal),
    /// As many wait as may; when to ask again.
    Full(Duration),
}

impl From<Refusal> for NotWaited {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The system's randomness.
#[derive(Debug)]
pub(crate) struct System;

impl Random for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        getrandom::fill(bytes).map_err(|_| NoRandomness)
    }
}

/// Tells of a step: the metrics, the log, and whoever watches.
struct Teller {
    watchers: Arc<Watchers>,
    metrics: LoginMetrics,
    /// The service belongs to it.
    context: Weak<Context>,
}

/// What a backend is told: that there is something to fetch, or that there will not be. Never the result: whoever
/// fetches it shows the device code and the verifier.
#[derive(Serialize)]
struct Told<'a> {
    login: String,
    client_id: &'a str,
    state: &'static str,
    version: u64,
}

impl Observer for Teller {
    fn stepped(&self, attempt: &Arc<Attempt>, step: Step, view: &dyn Fn() -> View) {
        self.metrics.stepped(step);
        tracing::debug!(login = %attempt.id, version = attempt.version, step = step.name(), "login");
        self.watchers.tell(attempt, view);
        let event = match step {
            Step::Approved | Step::Released if attempt.is_released() => WebhookEvent::LoginApproved,
            Step::Denied => WebhookEvent::LoginDenied,
            _ => return,
        };
        if let Some(context) = self.context.upgrade() {
            let login = attempt.id.to_string();
            let (state, version) = (attempt.state.name(), attempt.version);
            let told = Told { login: login.clone(), client_id: &attempt.client, state, version };
            context.webhooks.send(event, &login, &told);
        }
    }
}

impl Service {
    /// A service whose work for pages runs on `runtime`, and whose requests wait no longer than until `stop`.
    pub(crate) fn new(
        settings: &Settings,
        context: &Arc<Context>,
        places: Option<Places>,
        runtime: Handle,
        stop: CancellationToken,
    ) -> Result<Self, NoRandomness> {
        let watchers = Arc::<Watchers>::default();
        let metrics = context.metrics.login.clone();
        let teller = Teller {
            watchers: Arc::clone(&watchers),
            metrics: metrics.clone(),
            context: Arc::downgrade(context),
        };
        let keys = Keys::random(&System)?;
        let rules = settings.login.rules.clone();
        let store = MemoryStore::new(rules.attempts);
        Ok(Self {
            logins: Logins::new(store, keys, Box::new(System), rules, Box::new(teller)),
            settings: ArcSwap::from_pointee(settings.login.clone()),
            providers: ArcSwap::from_pointee(Providers::new(settings, None)),
            watchers,
            metrics,
            places,
            started: Instant::now(),
            runtime,
            stop,
            opening: Room::default(),
            waiting: Room::default(),
        })
    }

    /// Takes over what can change while running.
    pub(crate) fn adopt(&self, settings: &Settings) {
        self.logins.adopt(settings.login.rules.clone());
        self.settings.store(Arc::new(settings.login.clone()));
        let before = self.providers.load();
        self.providers.store(Arc::new(Providers::new(settings, Some(&before))));
    }

    /// Milliseconds since the start, by a clock that never goes back.
    pub(crate) fn now(&self) -> Now {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A moment of that clock in seconds since the Unix epoch.
    pub(crate) fn unix_seconds(&self, at: Now) -> u64 {
        let ago = Duration::from_millis(self.now().saturating_sub(at));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(ago).as_secs()
    }

    /// The provider of that section.
    pub(crate) fn provider(&self, name: &str) -> Option<Arc<dyn Provider>> {
        self.providers.load().find(name)
    }

    /// The providers that suit a phone, in the order of the configuration.
    pub(crate) fn providers_for(&self, user_agent: &str) -> Vec<Arc<dyn Provider>> {
        self.providers.load().suiting(user_agent)
    }

    /// Where addresses are, when there is a database.
    pub(crate) fn places(&self) -> Option<&Places> {
        self.places.as_ref()
    }

    /// Counts something that was refused.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.metrics.refused(reason);
    }

    /// How many logins there are under way, for the metrics.
    pub(crate) fn under_way(&self) -> usize {
        self.logins.under_way()
    }

    /// How many requests wait for a step, for the metrics.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.taken()
    }

    /// The attempt and what its page is shown once its version is another than `since`, or after `wait`.
    pub(crate) async fn wait_for(
        &self,
        page: Page<'_>,
        since: Option<u64>,
        wait: Duration,
    ) -> Result<(Arc<Attempt>, View), NotWaited> {
        let first = self.logins.current(page, self.now()).await?;
        let Some(since) = since else { return Ok(first) };
        if first.0.version != since {
            return Ok(first);
        }
        if !self.wait_while(first.0.id, wait, |attempt| attempt.version == since).await {
            return Err(NotWaited::Full(WAITING_AGAIN));
        }
        Ok(self.logins.current(page, self.now()).await?)
    }

    /// Returns once `keep_waiting` does not hold of the login, or after `wait`; false at once when too many wait.
    pub(crate) async fn wait_while(
        &self,
        id: LoginId,
        wait: Duration,
        keep_waiting: impl Fn(&Attempt) -> bool,
    ) -> bool {
        let Some(_place) = self.waiting.enter(self.settings.load().long_polls) else {
            self.refused("long_polls");
            return false;
        };
        let waiter = self.watchers.waiter(id);
        let waiting = async {
            loop {
                let stepped = waiter.stepped();
                // Looked at after listening, so that no step falls between.
                match self.logins.inspect(id).await {
                    Ok(Some(attempt)) if !attempt.state.is_final() && keep_waiting(&attempt) => {}
                    _ => return,
                }
                stepped.await;
            }
        };
        // However it ends, whoever waited looks again.
        tokio::select! {
            _ = tokio::time::timeout(wait, waiting) => {}
            () = self.stop.cancelled() => {}
        }
        true
    }

    /// Has a page's connection told of its login from now on, at once and at each step.
    pub(crate) fn watch(self: &Arc<Self>, connection: &Arc<Connection>, device_code: String) {
        let Some(place) = self.opening.enter(self.settings.load().opening) else {
            self.refused("opening");
            connection.tell_login(&shown::failure("temporarily_unavailable", Some(OPENING_AGAIN)));
            return;
        };
        let (service, connection) = (Arc::clone(self), Arc::clone(connection));
        self.runtime.spawn(async move {
            // The cookie is for paths under /v1, so a WebSocket's handshake has none; its origin was checked there.
            match service.logins.watch(&device_code, service.now()).await {
                Ok(attempt) => service.begin_to_tell(&connection, &attempt).await,
                Err(refusal) => {
                    let again = matches!(refusal, Refusal::Store(_)).then_some(WAITING_AGAIN);
                    connection.tell_login(&shown::failure(error_of(&refusal), again));
                }
            }
            drop(place);
        });
    }

    /// Opens an event stream on a login: its head and the first event, or an answer that ends the connection.
    pub(crate) fn open_stream(self: &Arc<Self>, connection: &Arc<Connection>, stream: Stream) {
        let Some(place) = self.opening.enter(self.settings.load().opening) else {
            self.refused("opening");
            connection.end_with(&stream.busy);
            return;
        };
        let (service, connection) = (Arc::clone(self), Arc::clone(connection));
        self.runtime.spawn(async move {
            let Stream { device_code, cookie, web_origin, head, unknown, busy } = stream;
            let page = Page {
                device_code: &device_code,
                cookie: cookie.as_deref(),
                web_origin: web_origin.as_deref(),
            };
            match service.logins.current(page, service.now()).await {
                Ok((attempt, _)) => {
                    connection.send_head(&head);
                    service.begin_to_tell(&connection, &attempt).await;
                }
                Err(Refusal::Store(error)) => {
                    tracing::error!(%error, "failed to look a login up");
                    connection.end_with(&busy);
                }
                Err(_) => {
                    service.refused("unknown");
                    connection.end_with(&unknown);
                }
            }
            drop(place);
        });
    }

    /// Listens first and looks then, so that no step falls between; one that does both is told once.
    async fn begin_to_tell(&self, connection: &Arc<Connection>, attempt: &Attempt) {
        let (watcher, is_new) = self.watchers.add(attempt.id, connection);
        if is_new {
            self.logins.watched(attempt, self.now());
        }
        if connection.is_closing() {
            // Its loop may have forgotten it before it was remembered.
            self.gone(connection);
            return;
        }
        if let Ok(Some(attempt)) = self.logins.inspect(attempt.id).await {
            let view = self.logins.view(&attempt, self.now());
            watcher.tell(view.version, &shown::envelope(&view));
        }
    }

    /// Takes note that a connection that watched a login is gone.
    pub(crate) fn gone(&self, connection: &Connection) {
        if let Some(id) = self.watchers.remove(connection) {
            self.logins.left(id, self.now());
        }
    }

    /// The clock's work, until told to stop.
    pub(crate) async fn keep_time(context: Arc<Context>, tasks: crate::http::Tasks) {
        let Some(service) = context.login.get() else { return };
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tasks.stop.cancelled() => return,
                _ = every.tick() => {}
            }
            if let Err(error) = service.logins.tick(service.now()).await {
                tracing::error!(%error, "the logins' clock failed");
            }
        }
    }
}

/// What an event stream on a login was asked with, and how it may be answered.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) device_code: String,
    pub(crate) cookie: Option<String>,
    pub(crate) web_origin: Option<String>,
    /// The head of a stream.
    pub(crate) head: Vec<u8>,
    /// The whole answer when there is no such login.
    pub(crate) unknown: Vec<u8>,
    /// The whole answer when there is no room.
    pub(crate) busy: Vec<u8>,
}

/// The error's name on the wire.
pub(crate) const fn error_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Renewed => "renewed",
        Refusal::Over(State::Expired) => "expired_token",
        Refusal::Over(State::Denied) => "access_denied",
        Refusal::Over(State::Cancelled) => "cancelled",
        Refusal::Over(_) => "over",
        Refusal::AlreadyScanned => "already_scanned",
        Refusal::WrongState(_) => "wrong_state",
        Refusal::Number { left: 0 } => "access_denied",
        Refusal::Number { .. } => "number",
        Refusal::TooFar => "proximity",
        Refusal::Provider => "provider",
        Refusal::TooOften => "slow_down",
        Refusal::Store(_) | Refusal::Random(_) => "temporarily_unavailable",
        _ => "not_found",
    }
}

/// Whether an address counts towards no limit.
pub(crate) fn is_exempt(context: &Context, address: IpAddr) -> bool {
    crate::admission::is_in(&context.policy.load().limits.exempt, address)
}
