//! What a server is told before it starts: plain, validated values with their defaults.
//!
//! The binary reads them from a file, the environment and flags; tests build them in code. Nothing here reads a
//! file or opens a port. Each field is one key of the configuration file; `docs/doorbell.toml` lists them all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

pub use doorbell_login::{Client as LoginClient, Digest, NumberMatch, Proximity, Rules as LoginRules};

/// Everything a server needs to start.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The listener browsers reach.
    pub public: Public,
    /// The listener that takes one JSON object a line.
    pub text: Text,
    /// The listener of the HTTP API.
    pub api: Api,
    /// How connection tokens are checked and minted.
    pub tokens: Tokens,
    /// What is kept for pages that are away.
    pub mailbox: Mailbox,
    /// What backends are told unasked.
    pub webhooks: Webhooks,
    /// What is remembered of what became of messages.
    pub trail: Trail,
    /// How pages log in by scanning.
    pub login: Login,
    /// Who can say who a phone's owner is.
    pub providers: Vec<ProviderSettings>,
    /// Every bound.
    pub limits: Limits,
    /// When set, a plain GET of `/` on the public listener answers with the demonstration page.
    pub demo: Option<Demo>,
}

/// How a plain connection's first message names its uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdentityMode {
    /// The first message is a token; its `sub` is the uid.
    #[default]
    Token,
    /// The first message is the uid. Anyone can claim any uid: for development and closed networks.
    Open,
}

/// `[public]`
#[derive(Debug, Clone)]
pub struct Public {
    /// Where to listen. With open identity the binary's default is loopback.
    pub listen: SocketAddr,
    /// What the first message means.
    pub identity: IdentityMode,
    /// Says that whoever configured open identity beyond loopback meant it.
    pub open_identity_acknowledged: bool,
    /// The address browsers and phones know the listener by, such as `https://push.example.com`; without it, what each
    /// request's `Host` says.
    pub url: Option<String>,
    /// Origins allowed besides the listener's own host, as `scheme://host[:port]`; `*` allows all.
    pub origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` or PROXY header is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether WebSockets may use permessage-deflate (RFC 7692), if the client offers it.
    pub compression: bool,
    /// Whether frames for many connections go to the kernel together, by io_uring, where it has that and allows it.
    pub io_uring: bool,
    /// A PEM certificate chain; with `tls_key`, the listener speaks TLS and nothing else.
    pub tls_cert: Option<PathBuf>,
    /// The PEM private key of `tls_cert`.
    pub tls_key: Option<PathBuf>,
}

impl Default for Public {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 19_999)),
            identity: IdentityMode::Token,
            open_identity_acknowledged: false,
            url: None,
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            compression: false,
            io_uring: true,
            tls_cert: None,
            tls_key: None,
        }
    }
}

/// `[text]`
#[derive(Debug, Clone)]
pub struct Text {
    /// Where to listen; beyond loopback only with a key.
    pub listen: SocketAddr,
    /// When set, a connection's first line must be `AUTH <key>`.
    pub key: Option<SecretString>,
    /// How long a line for an absent uid waits for its page and is answered `held`; zero is not at all.
    pub hold: Duration,
}

impl Default for Text {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 10_002)), key: None, hold: Duration::ZERO }
    }
}

/// `[api]`
#[derive(Debug, Clone)]
pub struct Api {
    /// Where to listen; beyond loopback only with at least one key.
    pub listen: SocketAddr,
    /// The keys that open it. Never empty in a server the binary starts: the first run makes one.
    pub keys: Vec<ApiKey>,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 10_003)), keys: Vec::new() }
    }
}

/// `[[api.keys]]`
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// What logs and metrics call it.
    pub name: String,
    /// The secret sent as `Authorization: Bearer` or `X-API-Key`.
    pub secret: SecretString,
    /// When it stops working, in seconds since the Unix epoch.
    pub expires: Option<u64>,
}

/// The signature algorithm of connection tokens. One per server: a token never chooses (RFC 8725 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256; the key is the configured text, byte for byte.
    #[default]
    Hs256,
    /// ECDSA on P-256; the key is PEM, private (mints and checks) or public (checks).
    Es256,
    /// Ed25519; the key is PEM, private (mints and checks) or public (checks).
    EdDsa,
}

/// `[tokens]`
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The only algorithm accepted.
    pub algorithm: TokenAlgorithm,
    /// The key, or none when tokens are not used.
    pub key: Option<SecretString>,
    /// When set, `iss` must be this.
    pub issuer: Option<String>,
    /// When set, `aud` must be or contain this.
    pub audience: Option<String>,
    /// How long after its `iat` a token works at most, whatever its `exp` says: so long must a revocation be remembered.
    pub max_lifetime: Duration,
    /// The file that keeps revocations beyond a restart, in a directory that exists; without it they end with the process.
    pub revocations_path: Option<PathBuf>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            algorithm: TokenAlgorithm::default(),
            key: None,
            issuer: None,
            audience: None,
            max_lifetime: Duration::from_secs(30 * 24 * 3_600),
            revocations_path: None,
        }
    }
}

/// `[mailbox]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Messages kept for one uid.
    pub messages: usize,
    /// Bytes kept for one uid.
    pub bytes: usize,
    /// How long a push that does not say waits, and how long a mailbox remembers its numbers without mail.
    pub ttl: Duration,
    /// Bytes kept for all uids together.
    pub memory: usize,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self { messages: 100, bytes: 1024 * 1024, ttl: Duration::from_secs(300), memory: 256 * 1024 * 1024 }
    }
}

/// What a webhook tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookEvent {
    /// A uid has its first connection.
    UserOnline,
    /// A uid's last connection has been gone for `webhooks.offline_after`.
    UserOffline,
    /// A login was approved.
    LoginApproved,
    /// A login was denied.
    LoginDenied,
}

impl WebhookEvent {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::UserOnline, Self::UserOffline, Self::LoginApproved, Self::LoginDenied];

    /// Its name in the configuration, on the wire and in the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserOnline => "user.online",
            Self::UserOffline => "user.offline",
            Self::LoginApproved => "login.approved",
            Self::LoginDenied => "login.denied",
        }
    }
}

/// `[webhooks]`
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Where events are posted; without any, there are no webhooks.
    pub urls: Vec<String>,
    /// What signs them: `whsec_` and base64, or any text, taken byte for byte.
    pub secret: Option<SecretString>,
    /// Which events are sent.
    pub events: Vec<WebhookEvent>,
    /// Requests made for one event and URL before it is given up.
    pub tries: u32,
    /// The wait after the first failed try; each later one is four times the one before.
    pub retry_first: Duration,
    /// The longest wait between two tries.
    pub retry_max: Duration,
    /// The time one try has, from connecting to the answer.
    pub timeout: Duration,
    /// Requests to one URL at once.
    pub concurrency: usize,
    /// Events that may wait for one URL.
    pub queue_messages: usize,
    /// Bytes that may wait for one URL.
    pub queue_bytes: usize,
    /// How long a uid's last connection must be gone before the uid is said to be offline.
    pub offline_after: Duration,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            secret: None,
            events: WebhookEvent::ALL.to_vec(),
            tries: 5,
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            concurrency: 16,
            queue_messages: 10_000,
            queue_bytes: 16 * 1024 * 1024,
            offline_after: Duration::from_secs(3),
        }
    }
}

/// `[trail]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trail {
    /// Bytes for the steps of the latest messages; 0 remembers none.
    pub memory: usize,
}

impl Default for Trail {
    fn default() -> Self {
        Self { memory: 16 * 1024 * 1024 }
    }
}

/// `[login]`
#[derive(Debug, Clone)]
pub struct Login {
    /// Times, bounds and clients.
    pub rules: LoginRules,
    /// The pause between polls of the token endpoint (RFC 8628 section 3.2).
    pub interval: Duration,
    /// How long the token lasts that comes of a login.
    pub token_ttl: Duration,
    /// WebSockets and event streams that may be about to be told of a login at the same moment.
    pub opening: usize,
    /// Requests that may wait for a step of a login. Each holds one of the places for ordinary HTTP (`descriptors.rs`), and
    /// most of those are for phones and backends.
    pub long_polls: usize,
    /// A database of places in MaxMind's format, for the phone to show where a computer is.
    pub places_file: Option<PathBuf>,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            rules: LoginRules::default(),
            interval: Duration::from_secs(5),
            token_ttl: Duration::from_secs(3_600),
            opening: 1_024,
            long_polls: 128,
            places_file: None,
        }
    }
}

/// `[providers.<name>]`
#[derive(Debug, Clone, Default)]
pub struct ProviderSettings {
    /// The section's name: in the callback's address, and in identities.
    pub name: String,
    /// What it is, such as `demo`.
    pub kind: String,
    /// The provider's name for the application.
    pub appid: Option<String>,
    /// The application's secret.
    pub secret: Option<SecretString>,
    /// What signs the provider's own requests.
    pub token: Option<SecretString>,
    /// What encrypts them.
    pub encoding_aes_key: Option<SecretString>,
    /// What encrypted them until lately.
    pub previous_encoding_aes_key: Option<SecretString>,
    /// Where the provider's API is, when it is not where it always is.
    pub api_base: Option<String>,
    /// Where the pages are that the provider shows to people, likewise.
    pub open_base: Option<String>,
    /// What people are asked to grant; `wechat-web` and `wechat-mp`.
    pub scope: WeChatScope,
    /// Whether every browser counts as WeChat's; for stand-ins, which have none. `wechat-web`.
    pub any_browser: bool,
    /// Whether a scan alone is consent; `wechat-mp`.
    pub scan_is_consent: bool,
    /// The page that a code opens, its home page if none; `wechat-miniprogram`.
    pub page: Option<String>,
    /// Which edition a code opens; `wechat-miniprogram`.
    pub edition: MiniProgramEdition,
    /// Where the account's own token outlives the process; `wechat-mp` and `wechat-miniprogram` do not work without.
    pub account_token_path: Option<PathBuf>,
}

impl ProviderSettings {
    /// What is wrong with what is there; never contains a secret.
    pub fn problems(&self) -> Vec<String> {
        use secrecy::ExposeSecret as _;
        let mut problems = Vec::new();
        for (name, base) in [("api_base", &self.api_base), ("open_base", &self.open_base)] {
            if let Some(Err(why)) = base.as_deref().map(doorbell_wechat::Base::parse) {
                problems.push(format!("`{name}`: {why}"));
            }
        }
        let keys = [
            ("encoding_aes_key", &self.encoding_aes_key),
            ("previous_encoding_aes_key", &self.previous_encoding_aes_key),
        ];
        for (name, key) in keys {
            let read = key.as_ref().map(|key| doorbell_wechat::crypto::AesKey::parse(key.expose_secret()));
            if let Some(Err(why)) = read {
                problems.push(format!("`{name}`: {why}"));
            }
        }
        problems
    }

    /// Whether another section says the same, secrets included.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret as _;
        let secrets = |one: &Self| {
            [&one.secret, &one.token, &one.encoding_aes_key, &one.previous_encoding_aes_key]
                .map(|secret| secret.as_ref().map(|secret| secret.expose_secret().to_owned()))
        };
        // Secrets print as nothing.
        format!("{self:?}") == format!("{other:?}") && secrets(self) == secrets(other)
    }
}

/// Which edition of a mini program a code opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MiniProgramEdition {
    /// The published one.
    #[default]
    Release,
    /// The one that is tried out.
    Trial,
    /// The one in the developer's hands.
    Develop,
}

/// What people who log in by `wechat-web` or `wechat-mp` are asked to grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeChatScope {
    /// Nothing: WeChat tells their openid without a prompt.
    #[default]
    Base,
    /// Their name, picture and unionid, by WeChat's own prompt.
    UserInfo,
}

/// `[limits]`: each bound has a key here and, where it refuses something, a reason in `doorbell_refused_total`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open public connections from one address. IPv6 addresses count by their /64.
    pub connections_per_ip: u32,
    /// Bound connections of one uid.
    pub connections_per_uid: u32,
    /// New public connections a second, a token bucket whose burst is two seconds' worth.
    pub accept_rate: u32,
    /// Addresses to which `connections_per_ip` and `accept_rate` do not apply.
    pub exempt: Vec<IpNet>,
    /// Bytes of an HTTP request head.
    pub head_bytes: usize,
    /// Time to receive it.
    pub head_timeout: Duration,
    /// Time from the upgrade to the first message.
    pub first_message_timeout: Duration,
    /// Time a doorbell.v1 page that said hello without a token has to be bound by the backend.
    pub unbound_timeout: Duration,
    /// How long after its token's end a doorbell.v1 connection may say hello with a new one.
    pub token_grace: Duration,
    /// Revocations remembered, each of a uid's tokens or of a single one; at the bound further ones are refused.
    pub revocations: usize,
    /// Bytes of one WebSocket message from a page, over all its fragments.
    pub message_bytes: usize,
    /// Bytes of one line on the text port, its line ending included.
    pub line_bytes: usize,
    /// Bytes of a request body on the API.
    pub body_bytes: usize,
    /// Bytes waiting for one connection.
    pub queue_bytes: usize,
    /// Messages waiting for one connection.
    pub queue_messages: usize,
    /// Silence after which a connection is pinged.
    pub ping_interval: Duration,
    /// Time a pinged connection has to answer.
    pub pong_timeout: Duration,
    /// How long a page whose long-poll was answered counts as there, because it is about to ask again.
    pub poll_linger: Duration,
    /// Time an unfinished line on the text port may stand still, and time its first line has when a key is needed.
    pub line_timeout: Duration,
    /// Time a closing connection has to take its last bytes and hang up.
    pub close_timeout: Duration,
    /// Time a stopping server gives its clients.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_ip: 1_000,
            connections_per_uid: 100,
            accept_rate: 5_000,
            exempt: vec![
                IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
                IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            ],
            head_bytes: 8 * 1024,
            head_timeout: Duration::from_secs(10),
            first_message_timeout: Duration::from_secs(10),
            unbound_timeout: Duration::from_secs(300),
            token_grace: Duration::from_secs(25),
            revocations: 100_000,
            message_bytes: 64 * 1024,
            line_bytes: 1024 * 1024,
            body_bytes: 1024 * 1024,
            queue_bytes: 1024 * 1024,
            queue_messages: 1_000,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            poll_linger: Duration::from_secs(3),
            line_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What the demonstration pages show. Only ever on loopback, but for [`Demo::lan`].
#[derive(Debug, Clone)]
pub struct Demo {
    /// The command that pushes from a terminal, to be followed by a uid and data.
    pub push_command: String,
    /// The API that command asks unless told otherwise.
    pub push_asks: Option<SocketAddr>,
    /// The file that holds an API key, as shown on the page; the key itself never is.
    pub key_file: String,
    /// Others in the network may sign in. Pushing without a key stays for this machine.
    pub lan: bool,
}

impl Demo {
    /// The command that pushes to the server whose API is at `api`.
    #[must_use]
    pub fn push_command(&self, api: SocketAddr) -> String {
        if self.push_asks == Some(api) {
            return self.push_command.clone();
        }
        format!("{} --api {api}", self.push_command)
    }
}
