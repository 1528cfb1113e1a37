//! What the server tells backends of its own accord: signed JSON, posted to the URLs of `[webhooks]`.
//!
//! | file | owns |
//! |---|---|
//! | [`endpoint`] | one URL: what waits for it, in order for each subject, tries and waits |
//! | [`signature`] | how a request shows that it comes from here |
//! | [`presence`] | which uids came and went, the brief absences left out |
//!
//! Without URLs nothing is kept and nothing runs. Every task belongs to the [`Webhooks`] that started it and ends in
//! [`Webhooks::finish`].

mod endpoint;
mod presence;
mod signature;

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::endpoint::{Delivery, Endpoint, Terms};
pub(crate) use self::presence::{note as note_presence, watch as watch_presence};
use self::signature::SigningKey;
use crate::metrics::Metrics;
use crate::settings::{WebhookEvent, Webhooks as Settings};

/// Why webhooks cannot be sent as the settings say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhooksError {
    /// One of `webhooks.urls` is no absolute http or https URL.
    #[error("{url:?} is no http or https URL")]
    Url {
        /// As configured.
        url: String,
    },
    /// There are URLs and no secret.
    #[error("webhooks are signed: set webhooks.secret or webhooks.secret_file")]
    NoSecret,
    /// The secret starts like a Standard Webhooks secret and is none.
    #[error("a webhooks.secret that starts with whsec_ goes on in base64")]
    Secret,
    /// The HTTP client cannot be made.
    #[error("make the HTTP client")]
    Client(#[from] reqwest::Error),
}

/// Checks what [`crate::Server::start`] would refuse about `[webhooks]`.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(settings: &Settings) -> Result<(), WebhooksError> {
    for url in &settings.urls {
        parse_url(url)?;
    }
    match &settings.secret {
        Some(secret) => SigningKey::new(secret).map(drop),
        None if settings.urls.is_empty() => Ok(()),
        None => Err(WebhooksError::NoSecret),
    }
}

/// Whether a text is an absolute http or https URL.
#[must_use]
pub fn is_url(text: &str) -> bool {
    parse_url(text).is_ok()
}

fn parse_url(text: &str) -> Result<reqwest::Url, WebhooksError> {
    let url = reqwest::Url::parse(text).ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| WebhooksError::Url { url: text.to_owned() })
}

/// The sender; see the module's header.
#[derive(Debug)]
pub(crate) struct Webhooks {
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    events: ArcSwap<Vec<WebhookEvent>>,
    /// Set before the first endpoint.
    runtime: OnceLock<Handle>,
    tasks: TaskTracker,
    stop: CancellationToken,
    configured: Notify,
    /// The beginning of every id of this process.
    name: u64,
    sent: AtomicU64,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            endpoints: ArcSwap::default(),
            events: ArcSwap::default(),
            runtime: OnceLock::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            configured: Notify::new(),
            name: std::hash::RandomState::new().hash_one(std::process::id()),
            sent: AtomicU64::new(0),
        }
    }
}

impl Webhooks {
    /// Takes over settings, with `runtime` to send on. URLs that stay keep what waits for them; what waits for others
    /// is still sent as it would have been.
    ///
    /// # Errors
    /// [`WebhooksError`]; nothing has changed then.
    pub(crate) fn configure(
        &self,
        settings: &Settings,
        runtime: &Handle,
        metrics: &Metrics,
    ) -> Result<(), WebhooksError> {
        check(settings)?;
        let mut endpoints = Vec::with_capacity(settings.urls.len());
        if let Some(secret) = settings.secret.as_ref().filter(|_| !settings.urls.is_empty()) {
            let terms = Arc::new(Terms::new(settings, SigningKey::new(secret)?));
            let before = self.endpoints.load();
            let mut client = before.first().map(|endpoint| endpoint.client.clone());
            for url in &settings.urls {
                let url = parse_url(url)?;
                if let Some(same) = before.iter().find(|endpoint| endpoint.url == url) {
                    endpoints.push((Arc::clone(same), Arc::clone(&terms)));
                    continue;
                }
                let client = match &client {
                    Some(client) => client.clone(),
                    None => client.insert(make_client()?).clone(),
                };
                let endpoint = Endpoint::new(
                    url,
                    client,
                    Arc::clone(&terms),
                    self.stop.clone(),
                    metrics.webhooks().clone(),
                );
                endpoints.push((Arc::new(endpoint), Arc::clone(&terms)));
            }
        }
        let _ = self.runtime.set(runtime.clone());
        let adopted = endpoints.into_iter().map(|(endpoint, terms)| {
            endpoint.adopt(terms);
            endpoint
        });
        self.endpoints.store(Arc::new(adopted.collect()));
        self.events.store(Arc::new(settings.events.clone()));
        self.configured.notify_one();
        Ok(())
    }

    /// Whether anybody wants to know of `event`.
    pub(crate) fn wants(&self, event: WebhookEvent) -> bool {
        !self.endpoints.load().is_empty() && self.events.load().contains(&event)
    }

    /// Sends `data` to every URL, after what was sent about `subject` before. Never waits: what finds no room in a queue
    /// is dropped and counted. May be called from any thread.
    pub(crate) fn send<T: serde::Serialize + ?Sized>(&self, event: WebhookEvent, subject: &str, data: &T) {
        if !self.wants(event) {
            return;
        }
        let Some(runtime) = self.runtime.get() else { return };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let body = match serde_json::value::to_raw_value(data) {
            Ok(data) => Body { kind: event.name(), timestamp: now.as_secs(), data: &data }.text(),
            Err(error) => {
                tracing::error!(%error, event = event.name(), "failed to write a webhook");
                return;
            }
        };
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let id = format!("w_{:016x}_{number}", self.name);
        let delivery = Arc::new(Delivery { id, event, body: body.into() });
        for endpoint in self.endpoints.load().iter() {
            if endpoint.accept(subject, &delivery) {
                let (endpoint, subject) = (Arc::clone(endpoint), Arc::from(subject));
                self.tasks.spawn_on(async move { endpoint.work_off(&subject).await }, runtime);
            }
        }
    }

    /// Ends within `window`: what waits is tried once more, and what is not taken then is given up.
    pub(crate) async fn finish(&self, window: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(window, self.tasks.wait()).await.is_err() {
            tracing::warn!("webhooks were cut at the end of the drain window");
        }
    }
}

/// A webhook's body.
#[derive(serde::Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Unix seconds of what happened.
    timestamp: u64,
    data: &'a RawValue,
}

impl Body<'_> {
    fn text(&self) -> Vec<u8> {
        // Texts, a number and JSON always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// No redirects: a signed request is for the URL that was configured. No proxies from the environment.
fn make_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("doorbell/", env!("CARGO_PKG_VERSION")))
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
}
