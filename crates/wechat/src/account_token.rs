//! The account token: one per appid, used by every call about the account, renewed by one at a time.
//!
//! Fetched from `stable_token`, which gives the same token to all who ask until five minutes before its end; then a new
//! one, while both work. So the token is renewed ahead of time by whoever needs it next, and everyone else goes on
//! with the old one meanwhile.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::api::{Call, unreadable};
use crate::error::Advice;
use crate::{Api, App, CallError, Endpoint, StoredToken, TokenStore};

/// WeChat allows tokens of up to 512 characters to be expected; twice that is surely wrong.
const MAX_TOKEN_BYTES: usize = 1_024;

/// When the account token is renewed.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long before its end. WeChat gives no new one earlier than five minutes before.
    pub ahead: Duration,
    /// How long after a failed renewal the next is tried, while the old token still works.
    pub pause: Duration,
    /// The least time between two forced renewals; WeChat ignores sooner ones, and allows twenty a day.
    pub forced_pause: Duration,
    /// How long to wait for another process that renews.
    pub lease: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ahead: Duration::from_secs(300),
            pause: Duration::from_secs(10),
            forced_pause: Duration::from_secs(30),
            lease: Duration::from_secs(15),
        }
    }
}

/// See the module's header. Shared by `Arc`.
#[derive(Debug)]
pub struct AccountToken {
    api: Arc<Api>,
    app: App,
    store: Arc<dyn TokenStore>,
    timing: Timing,
    held: Mutex<Option<Held>>,
    /// Taken by whoever renews.
    renewing: AsyncMutex<Renewing>,
}

#[derive(Debug, Clone)]
struct Held {
    token: SecretString,
    /// Measured from the moment its request was sent.
    expires: Instant,
    /// When to renew, `ahead` of the end less a spread.
    renew: Instant,
    /// Whether WeChat has refused it.
    refused: bool,
}

#[derive(Debug, Default)]
struct Renewing {
    loaded: bool,
    not_before: Option<Instant>,
    forced: Option<Instant>,
}

/// How a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Force {
    No,
    Yes,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: SecretString,
    expires_in: u64,
}

impl AccountToken {
    /// The token of `app`, kept in `store`.
    pub fn new(api: Arc<Api>, app: App, store: Arc<dyn TokenStore>, timing: Timing) -> Self {
        Self { api, app, store, timing, held: Mutex::new(None), renewing: AsyncMutex::default() }
    }

    /// Makes `call` with the token. Refused because of the token, it is made once more with another one.
    ///
    /// # Errors
    /// As the call, or as the renewal.
    pub async fn with<T, F>(&self, call: impl Fn(SecretString) -> F + Send + Sync) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>> + Send,
    {
        let token = self.token().await?;
        match call(token.clone()).await {
            Err(error) if error.advice() == Advice::RefreshToken => {
                tracing::warn!(%error, "the account token was refused");
                let token = self.instead_of(&token).await?;
                call(token).await
            }
            result => result,
        }
    }

    /// A token that works, as far as is known.
    ///
    /// # Errors
    /// When none is held and WeChat gives none.
    pub async fn token(&self) -> Result<SecretString, CallError> {
        let now = Instant::now();
        let held = self.usable();
        if let Some(held) = &held {
            if now < held.renew {
                return Ok(held.token.clone());
            }
            // Due, and still good: one renews, the others do not wait for it.
            let Ok(mut renewing) = self.renewing.try_lock() else { return Ok(held.token.clone()) };
            if renewing.not_before.is_some_and(|not_before| now < not_before) {
                return Ok(held.token.clone());
            }
            return match self.renew(&mut renewing, None).await {
                Ok(token) => Ok(token),
                Err(error) => {
                    tracing::warn!(%error, "failed to renew the account token; using the old one");
                    renewing.not_before = Some(Instant::now() + self.timing.pause);
                    Ok(held.token.clone())
                }
            };
        }
        let mut renewing = self.renewing.lock().await;
        match self.usable() {
            // Someone else has renewed meanwhile.
            Some(held) => Ok(held.token),
            None => self.renew(&mut renewing, None).await,
        }
    }

    /// A token other than `refused`, which WeChat refused: the one held by now, or a new one.
    async fn instead_of(&self, refused: &SecretString) -> Result<SecretString, CallError> {
        let mut renewing = self.renewing.lock().await;
        match self.usable() {
            Some(held) if !same(&held.token, refused) => Ok(held.token),
            _ => {
                if let Some(held) = &mut *self.held.lock() {
                    held.refused = true;
                }
                self.renew(&mut renewing, Some(refused)).await
            }
        }
    }

    fn usable(&self) -> Option<Held> {
        self.held.lock().clone().filter(|held| !held.refused && Instant::now() < held.expires)
    }

    /// Takes a token from the store or from WeChat. The caller holds `renewing`.
    async fn renew(
        &self,
        renewing: &mut Renewing,
        refused: Option<&SecretString>,
    ) -> Result<SecretString, CallError> {
        if !renewing.loaded {
            renewing.loaded = true;
            if let Some(token) = self.stored(refused) {
                return Ok(token);
            }
        }
        let lease = tokio::time::timeout(self.timing.lease, self.store.lease()).await;
        let _lease = match lease {
            Ok(Ok(lease)) => Some(lease),
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to take the lease of the account token; renewing without it");
                None
            }
            Err(_) => {
                tracing::warn!(
                    "another process holds the lease of the account token for too long; renewing without it"
                );
                None
            }
        };
        // Whoever held the lease may have renewed.
        if let Some(token) = self.stored(refused) {
            return Ok(token);
        }
        let sent = Instant::now();
        let mut answer = self.ask(Force::No).await?;
        if refused.is_some_and(|refused| same(&answer.access_token, refused)) {
            // WeChat refuses a token that it still gives out: only force gets another one.
            let now = Instant::now();
            if renewing.forced.is_none_or(|forced| now >= forced + self.timing.forced_pause) {
                renewing.forced = Some(now);
                answer = self.ask(Force::Yes).await?;
            }
        }
        let lasts = Duration::from_secs(answer.expires_in);
        let stored = StoredToken {
            token: answer.access_token.clone(),
            expires_at: unix_now().saturating_add(answer.expires_in).saturating_sub(sent.elapsed().as_secs()),
        };
        if let Err(error) = self.store.save(&stored) {
            tracing::warn!(%error, "failed to keep the account token; a restart will ask for it again");
        }
        tracing::info!(appid = self.app.appid, seconds = answer.expires_in, "renewed the account token");
        self.hold(answer.access_token, sent + lasts)
    }

    /// The stored token, when it is neither over, nor due for renewal, nor the one held or refused.
    fn stored(&self, refused: Option<&SecretString>) -> Option<SecretString> {
        let stored = match self.store.load() {
            Ok(stored) => stored?,
            Err(error) => {
                tracing::warn!(%error, "failed to read the kept account token");
                return None;
            }
        };
        // The wall clock may have been wrong when it was saved: no token lasts longer than two hours.
        let left = Duration::from_secs(stored.expires_at.saturating_sub(unix_now()).min(7_200));
        let held = self.held.lock().clone();
        let known = |other: &SecretString| same(other, &stored.token);
        if left <= self.timing.ahead
            || refused.is_some_and(known)
            || held.is_some_and(|held| known(&held.token))
        {
            return None;
        }
        self.hold(stored.token, Instant::now() + left).ok()
    }

    fn hold(&self, token: SecretString, expires: Instant) -> Result<SecretString, CallError> {
        let now = Instant::now();
        let left = expires.saturating_duration_since(now);
        // Spread, so that nodes which fetched together do not renew together.
        let mut random = [0];
        let spread = match getrandom::fill(&mut random) {
            Ok(()) => left.min(Duration::from_secs(30)) * u32::from(random[0]) / 256 / 10,
            Err(_) => Duration::ZERO,
        };
        // A token that lasts no longer than `ahead` was given inside WeChat's overlap: half of it is used.
        let ahead = self.timing.ahead.min(left / 2) + spread;
        let renew = expires.checked_sub(ahead).unwrap_or(now);
        *self.held.lock() = Some(Held { token: token.clone(), expires, renew, refused: false });
        Ok(token)
    }

    async fn ask(&self, force: Force) -> Result<TokenAnswer, CallError> {
        let body = json!({
            "grant_type": "client_credential",
            "appid": self.app.appid,
            "secret": self.app.secret.expose_secret(),
            "force_refresh": force == Force::Yes,
        });
        let endpoint = Endpoint::StableToken;
        let answer: TokenAnswer = self.api.json(Call { endpoint, query: &[], body: Some(body) }).await?;
        let length = answer.access_token.expose_secret().len();
        if length == 0 || length > MAX_TOKEN_BYTES {
            return Err(unreadable(endpoint, "the token is empty or too long"));
        }
        Ok(answer)
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
