//! Every key there is, once: its name, default, meaning and how a value becomes a setting.
//!
//! The file, the environment, the flags, the suggestions for mistyped names and `docs/doorbell.toml` all read this
//! table, so a key that is added here is added everywhere. `[[api.keys]]` is a list of tables and has its own rows.

use std::ops::RangeInclusive;
use std::time::Duration;

use doorbell_server::settings::{IdentityMode, TokenAlgorithm, WebhookEvent};
use secrecy::SecretString;

use super::error::Errors;
use super::value::{Raw, Value};
use super::{Config, LogFormat, Secret};

/// One key of the configuration.
pub(crate) struct Key {
    /// `section.key`, as in the file.
    pub(crate) name: &'static str,
    /// What the reference shows.
    pub(crate) shown: Shown,
    /// What it means, with its unit and bounds; the reference page's text.
    pub(crate) doc: &'static str,
    /// Reads the value, reporting what is wrong with it, and stores it.
    pub(crate) set: fn(&mut Config, &Value, &mut Errors),
}

/// A value in the reference, as TOML.
pub(crate) enum Shown {
    /// The default.
    Default(&'static str),
    /// An example; the key has no default, or one that the text explains.
    Example(&'static str),
}
use Shown::{Default, Example};

impl Key {
    /// `DOORBELL_<SECTION>_<KEY>`.
    pub(crate) fn env_name(&self) -> String {
        format!("DOORBELL_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// The other way to give the same secret: `key` for `key_file` and the reverse.
    pub(crate) fn twin(&self) -> Option<&'static Self> {
        match self.name.strip_suffix("_file") {
            Some(plain) => find(plain),
            None => KEYS.iter().find(|key| key.name.strip_suffix("_file") == Some(self.name)),
        }
    }
}

/// The key of that name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The sections, in the order of the reference.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = KEYS.iter().filter_map(|key| Some(key.name.split_once('.')?.0)).collect();
    sections.dedup();
    sections
}

/// The fields of one `[[api.keys]]`: name, example, meaning.
pub(crate) const API_KEY_FIELDS: &[(&str, &str, &str)] = &[
    (
        "name",
        "\"shop\"",
        "What logs and metrics call it: 1 to 64 letters, digits, - _ and . Required, once each.",
    ),
    (
        "secret",
        "\"…\"",
        "The secret, up to 1024 bytes of visible ASCII, better at least 16. This or secret_file.",
    ),
    ("secret_file", "\"/run/secrets/shop\"", "A file that holds it; whitespace around it is not part of it."),
    (
        "expires",
        "2030-01-01T00:00:00Z",
        "When it stops working: a date (its start in UTC) or a time with offset.",
    ),
];

/// The fields of one `[[login.clients]]`: name, example, meaning.
pub(crate) const CLIENT_FIELDS: &[(&str, &str, &str)] = &[
    ("id", "\"shop\"", "Its client_id: 1 to 64 letters, digits, - _ and . Required, once each."),
    (
        "secret",
        "\"…\"",
        "What its backend shows, up to 1024 bytes of visible ASCII. This, secret_file, secret_hash, or none: then its \
         pages must use PKCE.",
    ),
    ("secret_file", "\"/run/secrets/shop\"", "A file that holds it; whitespace around it is not part of it."),
    ("secret_hash", "\"…\"", "Its SHA-256 in 64 hexadecimal digits, so that the secret itself is not here."),
    ("name", "\"Example Shop\"", "What the phone calls it, up to 64 characters. Required."),
    (
        "icon",
        "\"https://shop.example/icon.png\"",
        "A picture for the phone: an https: address or a data: URL.",
    ),
    (
        "redirect_uris",
        "[\"https://shop.example/after-login\"]",
        "Where a browser may be sent with its code; compared byte for byte.",
    ),
    (
        "providers",
        "[\"wechat-mp\"]",
        "Sections of the providers its visitors may use, \"app\" for its own app; without it, all.",
    ),
    (
        "number_match",
        "\"off\"",
        "\"to_phone\": the computer shows two digits, the phone types them. \"to_browser\": the phone shows six, the \
         computer types them before it gets its result. \"off\": neither.",
    ),
    (
        "proximity",
        "\"signal\"",
        "Whether both devices are on one network (IPv4 /24, IPv6 /48): \"signal\" says so on the phone when not, \
         \"require\" lets nobody agree then, \"off\" does not look.",
    ),
    (
        "uid",
        "\"{provider}:{account}\"",
        "The uid of whoever logged in: {provider}, {appid}, {id}, {unionid}, and {account}, which is the unionid or else \
         appid:id. Without it, provider:appid:id.",
    ),
];

/// The fields of one `[providers.<name>]`: name, example, meaning.
pub(crate) const PROVIDER_FIELDS: &[(&str, &str, &str)] = &[
    (
        "kind",
        "\"demo\"",
        "What it is: \"wechat-web\", \"wechat-open\", \"wechat-mp\" or \"wechat-miniprogram\" (docs/wechat.md says which), \
         \"feishu\", or \"demo\", which believes what the phone types and works on loopback only.",
    ),
    ("appid", "\"wx…\"", "The provider's name for the application."),
    ("secret", "\"…\"", "The application's secret."),
    ("secret_file", "\"/run/secrets/wechat\"", "A file that holds it."),
    ("token", "\"…\"", "What signs the provider's own requests."),
    ("token_file", "\"/run/secrets/wechat-token\"", "A file that holds it."),
    ("encoding_aes_key", "\"…\"", "What encrypts them."),
    ("encoding_aes_key_file", "\"/run/secrets/wechat-aes\"", "A file that holds it."),
    ("previous_encoding_aes_key", "\"…\"", "What encrypted them until lately."),
    ("previous_encoding_aes_key_file", "\"/run/secrets/wechat-aes-old\"", "A file that holds it."),
    (
        "api_base",
        "\"https://api.weixin.qq.com\"",
        "Where the provider's API is, when it is not where it always is. https, or http on this machine.",
    ),
    (
        "open_base",
        "\"https://open.weixin.qq.com\"",
        "Where the pages are that the provider shows to people, likewise.",
    ),
    (
        "scope",
        "\"base\"",
        "wechat-web, wechat-mp: \"base\" has WeChat ask nothing and tell the openid (wechat-mp: the unionid too), \
         \"userinfo\" has WeChat ask and tell name, picture and unionid.",
    ),
    (
        "page",
        "\"pages/login/login\"",
        "wechat-miniprogram: the page that a code opens; without it, the home page.",
    ),
    (
        "edition",
        "\"release\"",
        "wechat-miniprogram: which edition a code opens, \"release\", \"trial\" or \"develop\". Only of the published one \
         the page must exist.",
    ),
    ("any_browser", "false", "wechat-web: every browser counts as WeChat's, for stand-ins, which have none."),
    (
        "scan_is_consent",
        "false",
        "wechat-mp: a scan logs in without a question. Whoever is made to scan a stranger's code is then logged in there.",
    ),
];

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Long enough for any deliberate choice, short enough to catch a slip of the unit.
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// Below this a timeout refuses honest clients on a slow network.
const TENTH: Duration = Duration::from_millis(100);
const WAIT: RangeInclusive<Duration> = TENTH..=HOUR;
/// How long a token may work.
const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(3_650 * 24 * 3_600);
/// Between two tries of a webhook.
const RETRY: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;
const SECOND: Duration = Duration::from_secs(1);
/// Times of a login.
const LOGIN: RangeInclusive<Duration> = SECOND..=HOUR;
/// How long messages may be kept.
const KEEP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 24 * 3_600);

/// Every key but those of `[[api.keys]]`, grouped by section.
pub(crate) static KEYS: &[Key] = &[
    Key {
        name: "public.listen",
        shown: Example("\"0.0.0.0:19999\""),
        doc: "Where browsers connect. Without it: 0.0.0.0:19999, or 127.0.0.1:19999 with open identity. Port 0 \
              takes a free one, which is printed.",
        set: |c, v, e| put(&mut c.settings.public.listen, v.address(e)),
    },
    Key {
        name: "public.identity",
        shown: Default("\"token\""),
        doc: "What a plain connection's first message is: \"token\", a signed token whose sub is the uid, or \"open\", \
              the uid itself. Open lets anyone claim any uid.",
        set: |c, v, e| {
            let words = [("token", IdentityMode::Token), ("open", IdentityMode::Open)];
            put(&mut c.settings.public.identity, v.word(&words, e));
        },
    },
    Key {
        name: "public.open_identity_acknowledged",
        shown: Default("false"),
        doc: "Set to true to allow open identity beyond loopback.",
        set: |c, v, e| put(&mut c.settings.public.open_identity_acknowledged, v.boolean(e)),
    },
    Key {
        name: "public.origins",
        shown: Default("[]"),
        doc: "Web origins whose pages may connect besides the listener's own host, such as \
              \"https://www.example.com\"; \"*\" allows every page.",
        set: |c, v, e| put(&mut c.settings.public.origins, v.origins(e)),
    },
    Key {
        name: "public.url",
        shown: Example("\"https://push.example.com\""),
        doc: "The address browsers and phones know this listener by: where QR codes lead. Without it, what each request's Host says.",
        set: |c, v, e| put_some(&mut c.settings.public.url, v.url(e)),
    },
    Key {
        name: "public.trusted_proxies",
        shown: Default("[]"),
        doc: "Networks of the proxies whose X-Forwarded-For or PROXY header is believed, such as \"10.0.0.0/8\".",
        set: |c, v, e| put(&mut c.settings.public.trusted_proxies, v.networks(e)),
    },
    Key {
        name: "public.compression",
        shown: Default("false"),
        doc: "Whether WebSockets may use permessage-deflate, where the client offers it. Saves traffic on messages of some \
              hundred bytes and more, and costs CPU time for each message.",
        set: |c, v, e| put(&mut c.settings.public.compression, v.boolean(e)),
    },
    Key {
        name: "public.io_uring",
        shown: Default("true"),
        doc: "Whether frames for many pages go to the kernel together, by io_uring, which makes broadcasts and busy text \
              ports a tenth to a quarter cheaper. Where the kernel is older than 6.1 or forbids it, as Docker does by default, they go one \
              by one.",
        set: |c, v, e| put(&mut c.settings.public.io_uring, v.boolean(e)),
    },
    Key {
        name: "public.tls_cert",
        shown: Example("\"/etc/doorbell/fullchain.pem\""),
        doc: "A PEM file with the certificate and the chain above it. With tls_key, this listener speaks TLS 1.2 and 1.3 \
              itself: https:// and wss:// only. SIGHUP reads both files anew. Without it, put nginx or Caddy in front.",
        set: |c, v, e| put_some(&mut c.settings.public.tls_cert, v.path(e)),
    },
    Key {
        name: "public.tls_key",
        shown: Example("\"/etc/doorbell/privkey.pem\""),
        doc: "A PEM file with the private key of tls_cert: PKCS#8, SEC1 or PKCS#1, without a passphrase. ECDSA costs a \
              fraction of RSA for each handshake.",
        set: |c, v, e| put_some(&mut c.settings.public.tls_key, v.path(e)),
    },
    Key {
        name: "text.listen",
        shown: Default("\"127.0.0.1:10002\""),
        doc: "Where backends push one JSON object a line. Beyond loopback only with a key.",
        set: |c, v, e| put(&mut c.settings.text.listen, v.address(e)),
    },
    Key {
        name: "text.key",
        shown: Example("\"…\""),
        doc: "When set, a connection's first line must be AUTH and this. Up to 1024 bytes of visible ASCII, better at least 16.",
        set: |c, v, e| put_some(&mut c.text_key, v.secret(e).map(Secret::Inline)),
    },
    Key {
        name: "text.key_file",
        shown: Example("\"/run/secrets/doorbell-text\""),
        doc: "A file that holds text.key; whitespace around it is not part of it.",
        set: |c, v, e| put_some(&mut c.text_key, v.path(e).map(Secret::File)),
    },
    Key {
        name: "text.hold",
        shown: Default("\"0s\""),
        doc: "How long a line for an absent uid waits for its page and is answered held, up to 7d; 0s: not at all, the answer is fail.",
        set: |c, v, e| put(&mut c.settings.text.hold, v.duration(KEEP, e)),
    },
    Key {
        name: "api.listen",
        shown: Default("\"127.0.0.1:10003\""),
        doc: "Where the HTTP API listens. Every call needs a key: one of [[api.keys]], or the one that the first run \
              leaves in api.key in the data directory.",
        set: |c, v, e| put(&mut c.settings.api.listen, v.address(e)),
    },
    Key {
        name: "tokens.algorithm",
        shown: Default("\"HS256\""),
        doc: "The only signature accepted on tokens: \"HS256\" (a shared secret), \"ES256\" or \"EdDSA\" (a PEM key).",
        set: |c, v, e| {
            let words = [
                ("HS256", TokenAlgorithm::Hs256),
                ("ES256", TokenAlgorithm::Es256),
                ("EdDSA", TokenAlgorithm::EdDsa),
            ];
            put(&mut c.settings.tokens.algorithm, v.word(&words, e));
        },
    },
    Key {
        name: "tokens.key",
        shown: Example("\"…\""),
        doc: "The key. HS256: at least 32 bytes of text, taken byte for byte without the whitespace around it. \
              ES256 and EdDSA: PEM, private (mints and checks) or public (checks). Without it, HS256 uses token.key \
              in the data directory, made on the first run.",
        set: |c, v, e| {
            put_some(&mut c.token_key, v.string(e).map(|text| Secret::Inline(SecretString::from(text))));
        },
    },
    Key {
        name: "tokens.key_file",
        shown: Example("\"/run/secrets/doorbell-tokens\""),
        doc: "A file that holds tokens.key.",
        set: |c, v, e| put_some(&mut c.token_key, v.path(e).map(Secret::File)),
    },
    Key {
        name: "tokens.issuer",
        shown: Example("\"https://www.example.com\""),
        doc: "When set, a token's iss must be this, and minted tokens carry it.",
        set: |c, v, e| put_some(&mut c.settings.tokens.issuer, v.string(e)),
    },
    Key {
        name: "tokens.audience",
        shown: Example("\"doorbell\""),
        doc: "When set, a token's aud must be or contain this, and minted tokens carry it.",
        set: |c, v, e| put_some(&mut c.settings.tokens.audience, v.string(e)),
    },
    Key {
        name: "tokens.max_lifetime",
        shown: Default("\"30d\""),
        doc: "How long after its iat a token works at most, whatever its exp says, 1m to 3650d. Revocations are remembered as long.",
        set: |c, v, e| put(&mut c.settings.tokens.max_lifetime, v.duration(LIFETIME, e)),
    },
    Key {
        name: "mailbox.messages",
        shown: Default("100"),
        doc: "Messages kept for one uid, 1 to 100000; the oldest go first.",
        set: |c, v, e| put(&mut c.settings.mailbox.messages, v.count(1..=100_000, e).map(usize_of)),
    },
    Key {
        name: "mailbox.bytes",
        shown: Default("\"1MiB\""),
        doc: "Bytes kept for one uid, 4KiB to 1GiB.",
        set: |c, v, e| put(&mut c.settings.mailbox.bytes, v.size(4 * KIB..=KIB * MIB, e)),
    },
    Key {
        name: "mailbox.ttl",
        shown: Default("\"300s\""),
        doc: "How long a push by HTTP waits that does not say, up to 7d, and how long a page may stay away and still learn whether it missed something.",
        set: |c, v, e| put(&mut c.settings.mailbox.ttl, v.duration(KEEP, e)),
    },
    Key {
        name: "mailbox.memory",
        shown: Default("\"256MiB\""),
        doc: "Bytes kept for all uids together, 64KiB to 1TiB. At the bound the fullest mailboxes give up their oldest messages.",
        set: |c, v, e| put(&mut c.settings.mailbox.memory, v.size(64 * KIB..=MIB * MIB, e)),
    },
    Key {
        name: "webhooks.urls",
        shown: Default("[]"),
        doc: "Where events are posted as signed JSON, each to every URL. Without URLs there are no webhooks.",
        set: |c, v, e| put(&mut c.settings.webhooks.urls, v.urls(e)),
    },
    Key {
        name: "webhooks.secret",
        shown: Example("\"whsec_…\""),
        doc: "What signs them, required with URLs: whsec_ and base64, or any other text, taken byte for byte.",
        set: |c, v, e| put_some(&mut c.webhook_secret, v.secret(e).map(Secret::Inline)),
    },
    Key {
        name: "webhooks.secret_file",
        shown: Example("\"/run/secrets/doorbell-webhooks\""),
        doc: "A file that holds webhooks.secret; whitespace around it is not part of it.",
        set: |c, v, e| put_some(&mut c.webhook_secret, v.path(e).map(Secret::File)),
    },
    Key {
        name: "webhooks.events",
        shown: Default("[\"user.online\", \"user.offline\", \"login.approved\", \"login.denied\"]"),
        doc: "Which events are sent.",
        set: |c, v, e| {
            let words = WebhookEvent::ALL.map(|event| (event.name(), event));
            put(&mut c.settings.webhooks.events, v.words(&words, e));
        },
    },
    Key {
        name: "webhooks.offline_after",
        shown: Default("\"3s\""),
        doc: "How long a uid's last connection must be gone before user.offline is sent, so that a page that reloads is \
              not reported. Up to 1h.",
        set: |c, v, e| put(&mut c.settings.webhooks.offline_after, v.duration(Duration::ZERO..=HOUR, e)),
    },
    Key {
        name: "webhooks.timeout",
        shown: Default("\"5s\""),
        doc: "The time one try has, from connecting to the answer.",
        set: |c, v, e| put(&mut c.settings.webhooks.timeout, v.duration(WAIT, e)),
    },
    Key {
        name: "webhooks.tries",
        shown: Default("5"),
        doc: "Tries for one event and URL before it is given up, 1 to 20.",
        set: |c, v, e| put(&mut c.settings.webhooks.tries, v.count(1..=20, e)),
    },
    Key {
        name: "webhooks.retry_first",
        shown: Default("\"1s\""),
        doc: "The wait after the first failed try. Each later one is four times the one before; all are shortened by \
              up to half at random.",
        set: |c, v, e| put(&mut c.settings.webhooks.retry_first, v.duration(RETRY, e)),
    },
    Key {
        name: "webhooks.retry_max",
        shown: Default("\"60s\""),
        doc: "The longest wait between two tries, whatever the receiver's Retry-After asks for.",
        set: |c, v, e| put(&mut c.settings.webhooks.retry_max, v.duration(RETRY, e)),
    },
    Key {
        name: "webhooks.concurrency",
        shown: Default("16"),
        doc: "Requests to one URL at once, 1 to 1000. Events of one uid or login never overtake each other.",
        set: |c, v, e| put(&mut c.settings.webhooks.concurrency, v.count(1..=1_000, e).map(usize_of)),
    },
    Key {
        name: "webhooks.queue_messages",
        shown: Default("10000"),
        doc: "Events that may wait for one URL, 1 to 1000000. Those that find no room are dropped and counted.",
        set: |c, v, e| put(&mut c.settings.webhooks.queue_messages, v.count(1..=1_000_000, e).map(usize_of)),
    },
    Key {
        name: "webhooks.queue_bytes",
        shown: Default("\"16MiB\""),
        doc: "Memory that may wait for one URL, 64KiB to 1GiB; an event counts 1 KiB besides its body.",
        set: |c, v, e| put(&mut c.settings.webhooks.queue_bytes, v.size(64 * KIB..=KIB * MIB, e)),
    },
    Key {
        name: "trail.memory",
        shown: Default("\"16MiB\""),
        doc: "Bytes for what became of the latest messages, up to 1GiB: about 250 for a message to one connection. 0 remembers nothing.",
        set: |c, v, e| put(&mut c.settings.trail.memory, v.size(0..=KIB * MIB, e)),
    },
    Key {
        name: "login.created_ttl",
        shown: Default("\"120s\""),
        doc: "How long a login waits for a scan, 1s to 1h.",
        set: |c, v, e| put(&mut c.settings.login.rules.created_ttl, v.duration(LOGIN, e)),
    },
    Key {
        name: "login.scanned_ttl",
        shown: Default("\"60s\""),
        doc: "How long it waits for the phone's answer after the scan, 1s to 1h.",
        set: |c, v, e| put(&mut c.settings.login.rules.scanned_ttl, v.duration(LOGIN, e)),
    },
    Key {
        name: "login.approved_ttl",
        shown: Default("\"60s\""),
        doc: "How long its result waits to be fetched, 1s to 1h.",
        set: |c, v, e| put(&mut c.settings.login.rules.approved_ttl, v.duration(LOGIN, e)),
    },
    Key {
        name: "login.rotate",
        shown: Default("\"30s\""),
        doc: "How often the QR code changes while nobody has scanned it and a page follows, 1s to 1h.",
        set: |c, v, e| put(&mut c.settings.login.rules.rotate, v.duration(LOGIN, e)),
    },
    Key {
        name: "login.rotate_grace",
        shown: Default("\"5s\""),
        doc: "How long the code before still works, 0s to 1h.",
        set: |c, v, e| put(&mut c.settings.login.rules.rotate_grace, v.duration(Duration::ZERO..=HOUR, e)),
    },
    Key {
        name: "login.abandoned",
        shown: Default("\"30s\""),
        doc: "How long a login whose page was connected waits for the page to come back, 0s to 1h; 0s: it does not care.",
        set: |c, v, e| put(&mut c.settings.login.rules.abandoned, v.duration(Duration::ZERO..=HOUR, e)),
    },
    Key {
        name: "login.interval",
        shown: Default("\"5s\""),
        doc: "The pause between two polls of /v1/token that do not ask to wait, 1s to 60s.",
        set: |c, v, e| {
            put(&mut c.settings.login.interval, v.duration(SECOND..=Duration::from_secs(60), e));
        },
    },
    Key {
        name: "login.token_ttl",
        shown: Default("\"1h\""),
        doc: "How long the connection token lasts that comes of a login, 1s to 7d.",
        set: |c, v, e| put(&mut c.settings.login.token_ttl, v.duration(SECOND..=*KEEP.end(), e)),
    },
    Key {
        name: "login.opening",
        shown: Default("1024"),
        doc: "WebSockets and event streams that may be about to be told of a login at the same moment; one more is \
              told to come back. With 0 pages poll.",
        set: |c, v, e| put(&mut c.settings.login.opening, v.count(0..=1_000_000, e).map(usize_of)),
    },
    Key {
        name: "login.long_polls",
        shown: Default("128"),
        doc: "Requests that may wait for a step of a login; one more is told to come back. Each takes a place that \
              phones and backends need as well.",
        set: |c, v, e| put(&mut c.settings.login.long_polls, v.count(1..=100_000, e).map(usize_of)),
    },
    Key {
        name: "login.places_file",
        shown: Example("\"/var/lib/GeoIP/GeoLite2-City.mmdb\""),
        doc: "A database of places in MaxMind's format (GeoLite2, DB-IP Lite; City or Country), read at the start: the phone's page then shows where the computer's address is. Without it, it shows the address alone.",
        set: |c, v, e| put_some(&mut c.settings.login.places_file, v.path(e)),
    },
    Key {
        name: "login.attempts_per_ip",
        shown: Default("100"),
        doc: "Logins under way from one address; IPv6 addresses count by their /64. Networks in limits.exempt have no such limit.",
        set: |c, v, e| put(&mut c.settings.login.rules.attempts_per_ip, v.count(1..=u32::MAX, e)),
    },
    Key {
        name: "login.attempts",
        shown: Default("100000"),
        doc: "Logins under way in all, 100 to 10000000; about 2 KiB each. An address may have a hundredth of the free places at most.",
        set: |c, v, e| put(&mut c.settings.login.rules.attempts, v.count(100..=10_000_000, e).map(usize_of)),
    },
    Key {
        name: "login.wrong_codes",
        shown: Default("2560"),
        doc: "Wrong typed codes a day before typed codes are off for the rest of it; QR codes still work. Times typed_codes at most 2560000, so that guessing hits once in ten thousand days.",
        set: |c, v, e| put(&mut c.settings.login.rules.wrong_codes, v.count(1..=2_560_000, e)),
    },
    Key {
        name: "login.typed_codes",
        shown: Default("1000"),
        doc: "Live typed codes for which wrong_codes is meant; with more of them a wrong one counts for more.",
        set: |c, v, e| put(&mut c.settings.login.rules.typed_codes, v.count(1..=2_560_000, e)),
    },
    Key {
        name: "limits.connections_per_ip",
        shown: Default("1000"),
        doc: "Open public connections from one address; IPv6 addresses count by their /64.",
        set: |c, v, e| put(&mut c.settings.limits.connections_per_ip, v.count(1..=u32::MAX, e)),
    },
    Key {
        name: "limits.connections_per_uid",
        shown: Default("100"),
        doc: "Open connections of one uid.",
        set: |c, v, e| put(&mut c.settings.limits.connections_per_uid, v.count(1..=u32::MAX, e)),
    },
    Key {
        name: "limits.accept_rate",
        shown: Default("5000"),
        doc: "New public connections a second; two seconds' worth may come at once.",
        set: |c, v, e| put(&mut c.settings.limits.accept_rate, v.count(1..=1_000_000, e)),
    },
    Key {
        name: "limits.exempt",
        shown: Default("[\"127.0.0.0/8\", \"::1\"]"),
        doc: "Networks to which connections_per_ip and accept_rate do not apply.",
        set: |c, v, e| put(&mut c.settings.limits.exempt, v.networks(e)),
    },
    Key {
        name: "limits.head",
        shown: Default("\"8KiB\""),
        doc: "The head of an HTTP request, 1KiB to 1MiB.",
        set: |c, v, e| put(&mut c.settings.limits.head_bytes, v.size(KIB..=MIB, e)),
    },
    Key {
        name: "limits.head_timeout",
        shown: Default("\"10s\""),
        doc: "The time to receive that head.",
        set: |c, v, e| put(&mut c.settings.limits.head_timeout, v.duration(WAIT, e)),
    },
    Key {
        name: "limits.first_message",
        shown: Default("\"10s\""),
        doc: "The time from the upgrade to the first message, which says who the page is.",
        set: |c, v, e| put(&mut c.settings.limits.first_message_timeout, v.duration(WAIT, e)),
    },
    Key {
        name: "limits.unbound",
        shown: Default("\"300s\""),
        doc: "The time a page that said hello without a token has to be bound by the backend; then it is closed with 3503.",
        set: |c, v, e| put(&mut c.settings.limits.unbound_timeout, v.duration(WAIT, e)),
    },
    Key {
        name: "limits.token_grace",
        shown: Default("\"25s\""),
        doc: "How long after its token's end a doorbell.v1 connection may say hello with a new one, 0s to 1h.",
        set: |c, v, e| put(&mut c.settings.limits.token_grace, v.duration(Duration::ZERO..=HOUR, e)),
    },
    Key {
        name: "limits.revocations",
        shown: Default("100000"),
        doc: "Revocations of tokens that are remembered, 1 to 10000000, about 100 bytes each and the uid; further ones are refused.",
        set: |c, v, e| put(&mut c.settings.limits.revocations, v.count(1..=10_000_000, e).map(usize_of)),
    },
    Key {
        name: "limits.message",
        shown: Default("\"64KiB\""),
        doc: "One WebSocket message from a page, over all its fragments, 1KiB to 1GiB.",
        set: |c, v, e| put(&mut c.settings.limits.message_bytes, v.size(KIB..=KIB * MIB, e)),
    },
    Key {
        name: "limits.line",
        shown: Default("\"1MiB\""),
        doc: "One line on the text port, its line ending included, 1KiB to 1GiB.",
        set: |c, v, e| put(&mut c.settings.limits.line_bytes, v.size(KIB..=KIB * MIB, e)),
    },
    Key {
        name: "limits.body",
        shown: Default("\"1MiB\""),
        doc: "The body of an API request, 1KiB to 1GiB.",
        set: |c, v, e| put(&mut c.settings.limits.body_bytes, v.size(KIB..=KIB * MIB, e)),
    },
    Key {
        name: "limits.queue_bytes",
        shown: Default("\"1MiB\""),
        doc: "Bytes that may wait for one connection, 4KiB to 1GiB. One that falls behind further is closed with 3008.",
        set: |c, v, e| put(&mut c.settings.limits.queue_bytes, v.size(4 * KIB..=KIB * MIB, e)),
    },
    Key {
        name: "limits.queue_messages",
        shown: Default("1000"),
        doc: "Messages that may wait for one connection, 1 to 1000000.",
        set: |c, v, e| put(&mut c.settings.limits.queue_messages, v.count(1..=1_000_000, e).map(usize_of)),
    },
    Key {
        name: "limits.ping_interval",
        shown: Default("\"25s\""),
        doc: "The silence after which a connection is pinged. Proxies often cut after 30 or 60 seconds.",
        set: |c, v, e| put(&mut c.settings.limits.ping_interval, v.duration(WAIT, e)),
    },
    Key {
        name: "limits.pong_timeout",
        shown: Default("\"8s\""),
        doc: "The time a pinged connection has to answer.",
        set: |c, v, e| put(&mut c.settings.limits.pong_timeout, v.duration(WAIT, e)),
    },
    Key {
        name: "limits.poll_linger",
        shown: Default("\"3s\""),
        doc: "How long a page whose long-poll was answered counts as there, because it is about to ask again, up to 1m: what comes meanwhile is held for it, also without a ttl.",
        set: |c, v, e| put(&mut c.settings.limits.poll_linger, v.duration(Duration::ZERO..=MINUTE, e)),
    },
    Key {
        name: "limits.line_timeout",
        shown: Default("\"60s\""),
        doc: "The time an unfinished line on the text port may stand still, and its first line has when a key is \
              needed.",
        set: |c, v, e| put(&mut c.settings.limits.line_timeout, v.duration(WAIT, e)),
    },
    Key {
        name: "limits.close_timeout",
        shown: Default("\"10s\""),
        doc: "The time a closing connection has to take its last bytes and hang up.",
        set: |c, v, e| put(&mut c.settings.limits.close_timeout, v.duration(WAIT, e)),
    },
    Key {
        name: "limits.drain",
        shown: Default("\"30s\""),
        doc: "The time a stopping server gives its clients, 0s to 1h.",
        set: |c, v, e| put(&mut c.settings.limits.drain_timeout, v.duration(Duration::ZERO..=HOUR, e)),
    },
    Key {
        name: "log.level",
        shown: Default("\"info\""),
        doc: "What is logged to stderr: \"error\", \"warn\", \"info\", \"debug\" or \"trace\", and after commas \
              exceptions such as \"doorbell_server=debug\".",
        set: |c, v, e| put(&mut c.log.level, log_level(v, e)),
    },
    Key {
        name: "log.format",
        shown: Default("\"human\""),
        doc: "\"human\" for people, \"json\" for one JSON object a line.",
        set: |c, v, e| {
            let words = [("human", LogFormat::Human), ("json", LogFormat::Json)];
            put(&mut c.log.format, v.word(&words, e));
        },
    },
];

fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn put_some<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A level, then exceptions by module. The filter library takes any word as a module's name, so a mistyped level
/// would silence everything; hence the words are checked here.
fn log_level(value: &Value, errors: &mut Errors) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let Raw::Text(text) = &value.raw else {
        return value.refuse("expected a level such as \"info\"", errors);
    };
    let good = |part: &str| {
        let (target, level) = part.split_once('=').unwrap_or(("any", part));
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        LEVELS.contains(&level) && !target.is_empty() && target.chars().all(named)
    };
    if text.split(',').all(|part| good(part.trim())) {
        return Some(text.clone());
    }
    value.refuse(
        "expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", then exceptions such as \
         \"doorbell_server=debug\"",
        errors,
    )
}
