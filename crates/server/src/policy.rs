//! What a running server goes by, exchangeable as a whole while it runs (SIGHUP).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doorbell_hub::Retention;
use rustls::ServerConfig;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::identity::{TokenKeyError, TokenKeys};
use crate::origin::OriginPolicy;
use crate::settings::{ApiKey, IdentityMode, Limits, Settings};

/// A checked reading of [`Settings`].
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) limits: Limits,
    pub(crate) origins: OriginPolicy,
    pub(crate) trusted_proxies: Vec<ipnet::IpNet>,
    /// The address browsers know the public listener by, without a slash at its end.
    pub(crate) url: Option<String>,
    /// What new TLS sessions go by; without it the public listener speaks plainly.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Whether WebSockets may use permessage-deflate.
    pub(crate) compression: bool,
    /// Whether frames may go to the kernel together.
    pub(crate) io_uring: bool,
    pub(crate) identity: Identity,
    pub(crate) text_key: Option<SecretString>,
    pub(crate) api_keys: Vec<ApiKey>,
    /// How long a line on the text port waits for a page.
    pub(crate) hold: Duration,
    /// How long a push waits that does not say.
    pub(crate) ttl: Duration,
    pub(crate) retention: Retention,
    /// Bytes for what became of messages.
    pub(crate) trail_memory: usize,
    /// How long tokens live at most.
    pub(crate) max_lifetime: Duration,
    /// How long a uid is away before it is said to be.
    pub(crate) offline_after: Duration,
}

/// How a first message becomes a uid.
#[derive(Debug)]
pub(crate) enum Identity {
    Open,
    Token(Box<TokenKeys>),
}

impl Policy {
    pub(crate) fn new(settings: &Settings, tls: Option<Arc<ServerConfig>>) -> Result<Self, TokenKeyError> {
        let identity = match settings.public.identity {
            IdentityMode::Open => Identity::Open,
            IdentityMode::Token => Identity::Token(Box::new(TokenKeys::new(&settings.tokens)?)),
        };
        Ok(Self {
            limits: settings.limits.clone(),
            origins: OriginPolicy::new(&settings.public.origins, settings.public.identity, tls.is_some()),
            trusted_proxies: settings.public.trusted_proxies.clone(),
            url: settings.public.url.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
            tls,
            compression: settings.public.compression,
            io_uring: settings.public.io_uring,
            identity,
            text_key: settings.text.key.clone(),
            api_keys: settings.api.keys.clone(),
            hold: settings.text.hold,
            ttl: settings.mailbox.ttl,
            retention: Retention {
                messages: settings.mailbox.messages,
                bytes: settings.mailbox.bytes,
                memory: settings.mailbox.memory,
                idle: settings.mailbox.ttl,
            },
            trail_memory: settings.trail.memory,
            max_lifetime: settings.tokens.max_lifetime,
            offline_after: settings.webhooks.offline_after,
        })
    }

    /// What the echo server goes by: anyone, from anywhere.
    pub(crate) fn echo(limits: Limits, compression: bool) -> Self {
        Self {
            limits,
            origins: OriginPolicy::any(),
            trusted_proxies: Vec::new(),
            url: None,
            tls: None,
            compression,
            io_uring: false,
            identity: Identity::Open,
            text_key: None,
            api_keys: Vec::new(),
            hold: Duration::ZERO,
            ttl: Duration::ZERO,
            retention: Retention::default(),
            trail_memory: 0,
            max_lifetime: Duration::ZERO,
            offline_after: Duration::ZERO,
        }
    }

    /// The name of the API key that `secret` is, if it is one that still works.
    pub(crate) fn api_key(&self, secret: &[u8], now: SystemTime) -> Option<&str> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // Every key is compared, so that the time says nothing about which one came close.
        let mut found = None;
        for key in &self.api_keys {
            if same(key.secret.expose_secret().as_bytes(), secret) && key.expires.is_none_or(|at| now < at) {
                found = Some(key.name.as_str());
            }
        }
        found
    }

    /// Whether `secret` opens the text port.
    pub(crate) fn opens_text(&self, secret: &[u8]) -> bool {
        self.text_key.as_ref().is_some_and(|key| same(key.expose_secret().as_bytes(), secret))
    }
}

/// Compares in constant time; only the length shows.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}
