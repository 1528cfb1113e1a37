//! Everything the stand-in knows: accounts, people, codes, tokens, tickets, and what is to go wrong.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use crate::deliver::Delivery;
use crate::fault::{Fault, Quota};

/// What an appid is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Website,
    Official,
    MiniProgram,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    pub(crate) appid: String,
    pub(crate) kind: Kind,
    pub(crate) secret: String,
    pub(crate) name: String,
    /// The host of allowed return addresses.
    #[serde(default = "loopback")]
    pub(crate) domain: String,
    /// Whose unionids its people have; none without.
    #[serde(default)]
    pub(crate) open_platform: Option<String>,
    #[serde(default)]
    pub(crate) callback: Option<CallbackSetting>,
}

fn loopback() -> String {
    "127.0.0.1".into()
}

/// How the account's bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Plain,
    Compatible,
    #[default]
    Safe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    #[default]
    Xml,
    Json,
}

/// How a delivery that heard no answer is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Retry {
    /// The same bytes.
    #[default]
    Same,
    /// Another timestamp, nonce, encryption and signature.
    Fresh,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallbackSetting {
    pub(crate) url: String,
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) encoding_aes_key: String,
    #[serde(default)]
    pub(crate) mode: Mode,
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(default)]
    pub(crate) retry: Retry,
}

/// Someone with a phone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    /// Names them in the control API.
    pub(crate) id: String,
    pub(crate) nickname: String,
    /// Sees pages in snapshot mode: their identity is made up until they tap "use the full service".
    #[serde(default)]
    pub(crate) snapshot: bool,
    #[serde(default)]
    pub(crate) no_unionid: bool,
    /// The appids of the accounts they follow.
    #[serde(default)]
    pub(crate) follows: HashSet<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) appid: String,
    pub(crate) person: String,
    pub(crate) scope: String,
    pub(crate) snapshot: bool,
    pub(crate) expires: Duration,
    pub(crate) used: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct UserToken {
    pub(crate) appid: String,
    pub(crate) person: String,
    pub(crate) scope: String,
    pub(crate) snapshot: bool,
    pub(crate) refresh: String,
    pub(crate) expires: Duration,
    pub(crate) refresh_expires: Duration,
}

/// An account's tokens of one endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    pub(crate) current: Option<(String, Duration)>,
    /// The one before, good for five minutes more.
    pub(crate) previous: Option<(String, Duration)>,
    pub(crate) forced: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) appid: String,
    pub(crate) scene: String,
    pub(crate) expires: Option<Duration>,
}

/// A code that opens a mini program. It never expires.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProgramCode {
    /// What its picture's URL ends with.
    pub(crate) id: String,
    pub(crate) appid: String,
    pub(crate) scene: String,
    pub(crate) page: String,
}

/// A page with WeChat's own QR code.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) appid: String,
    pub(crate) redirect_uri: String,
    pub(crate) state: String,
    pub(crate) status: Status,
    pub(crate) expires: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Waiting,
    Scanned,
    Cancelled,
    Confirmed(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// On refusal, qrconnect redirects with the state alone, as old copies of its page say.
    pub(crate) refusal_redirects: bool,
    /// When callbacks are given up, in milliseconds.
    pub(crate) callback_timeout_ms: u64,
    /// How long new account tokens last, in seconds.
    pub(crate) token_seconds: u64,
    /// How far the clock of callbacks is off, in seconds.
    pub(crate) callback_skew: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { refusal_redirects: false, callback_timeout_ms: 5_000, token_seconds: 7_200, callback_skew: 0 }
    }
}

pub(crate) struct World {
    started: Instant,
    advanced: Duration,
    pub(crate) accounts: HashMap<String, Account>,
    pub(crate) people: HashMap<String, Person>,
    pub(crate) codes: HashMap<String, Code>,
    pub(crate) user_tokens: HashMap<String, UserToken>,
    pub(crate) stable: HashMap<String, Tokens>,
    pub(crate) plain: HashMap<String, Tokens>,
    pub(crate) tickets: HashMap<String, Ticket>,
    /// By the id in a code's URL: the ticket.
    pub(crate) scene_urls: HashMap<String, String>,
    /// Oldest first.
    pub(crate) program_codes: Vec<ProgramCode>,
    pub(crate) waiting: HashMap<String, Waiting>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) quotas: HashMap<String, Quota>,
    pub(crate) calls: HashMap<String, u64>,
    pub(crate) deliveries: Vec<Delivery>,
    /// By person: who wrote, and what.
    pub(crate) chats: HashMap<String, Vec<(String, String)>>,
    pub(crate) settings: Settings,
    /// Everything secret that was given out, so that a test can look for it in logs.
    pub(crate) secrets: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            started: Instant::now(),
            advanced: Duration::ZERO,
            accounts: HashMap::new(),
            people: HashMap::new(),
            codes: HashMap::new(),
            user_tokens: HashMap::new(),
            stable: HashMap::new(),
            plain: HashMap::new(),
            tickets: HashMap::new(),
            scene_urls: HashMap::new(),
            program_codes: Vec::new(),
            waiting: HashMap::new(),
            faults: Vec::new(),
            quotas: HashMap::new(),
            calls: HashMap::new(),
            deliveries: Vec::new(),
            chats: HashMap::new(),
            settings: Settings::default(),
            secrets: Vec::new(),
        };
        for (appid, kind, name) in [
            ("wx00000000000000a1", Kind::Official, "示例公众号 Example account"),
            ("wx00000000000000b2", Kind::Website, "示例网站 Example site"),
            ("wx00000000000000c3", Kind::MiniProgram, "示例小程序 Example mini program"),
        ] {
            world.accounts.insert(
                appid.into(),
                Account {
                    appid: appid.into(),
                    kind,
                    secret: format!("standin-secret-of-{appid}"),
                    name: name.into(),
                    domain: loopback(),
                    open_platform: Some("example".into()),
                    callback: None,
                },
            );
        }
        for (id, nickname) in [("xiaoming", "小明"), ("xiaohong", "小红")] {
            let person = Person {
                id: id.into(),
                nickname: nickname.into(),
                snapshot: false,
                no_unionid: false,
                follows: HashSet::new(),
            };
            world.people.insert(id.into(), person);
        }
        world
    }

    /// Time since the start, as far as it was advanced.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed() + self.advanced
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.advanced += by;
    }

    /// The clock of callbacks, in seconds since the Unix epoch.
    pub(crate) fn callback_time(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        now.saturating_add_signed(self.settings.callback_skew)
    }

    /// Makes something secret and remembers that it is.
    pub(crate) fn secret(&mut self, prefix: &str, bytes: usize) -> String {
        let secret = format!("{prefix}{}", random(bytes));
        self.secrets.push(secret.clone());
        secret
    }

    pub(crate) fn new_code(
        &mut self,
        appid: &str,
        person: &str,
        scope: &str,
        life: Duration,
        snapshot: bool,
    ) -> String {
        let code = self.secret("0", 23);
        let expires = self.now() + life;
        let made = Code {
            appid: appid.into(),
            person: person.into(),
            scope: scope.into(),
            snapshot,
            expires,
            used: false,
        };
        self.codes.insert(code.clone(), made);
        code
    }

    /// The person's unionid, when the account and they have one.
    pub(crate) fn unionid(&self, appid: &str, person: &str) -> Option<String> {
        let platform = self.accounts.get(appid)?.open_platform.as_ref()?;
        let known = self.people.get(person).is_some_and(|person| !person.no_unionid);
        known.then(|| id(&["union", platform, person]))
    }

    /// Whose account token this is, if it works.
    pub(crate) fn token_owner(&self, token: &str) -> Option<&str> {
        let now = self.now();
        let works = |held: &Option<(String, Duration)>| {
            held.as_ref().is_some_and(|(held, expires)| held == token && now < *expires)
        };
        [&self.stable, &self.plain]
            .into_iter()
            .flatten()
            .find(|(_, tokens)| works(&tokens.current) || works(&tokens.previous))
            .map(|(appid, _)| appid.as_str())
    }

    /// Takes what is over out of memory, so that a long-running demonstration stays small.
    pub(crate) fn sweep(&mut self) {
        let now = self.now();
        let kept = Duration::from_secs(3_600);
        self.codes.retain(|_, code| now < code.expires + kept);
        self.waiting.retain(|_, waiting| now < waiting.expires + kept);
        self.tickets.retain(|_, ticket| ticket.expires.is_none_or(|expires| now < expires + kept));
    }
}

/// The openid of a person for an appid: `o` and 27 characters, always the same.
pub(crate) fn openid(appid: &str, person: &str) -> String {
    id(&["open", appid, person])
}

/// A made-up openid, as snapshot mode gives.
pub(crate) fn snapshot_id() -> String {
    format!("o{}", &random(21)[..27])
}

fn id(parts: &[&str]) -> String {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let hash = hash.finalize();
    let mut text = format!("o{}", URL_SAFE_NO_PAD.encode(hash));
    text.push('A');
    text.truncate(28);
    text
}

/// Random bytes as text fit for URLs.
pub(crate) fn random(bytes: usize) -> String {
    URL_SAFE_NO_PAD.encode(random_bytes(bytes))
}

/// Random bytes as text that needs encoding in a URL, with `+`, `/` and `=` in it.
pub(crate) fn random_standard(bytes: usize) -> String {
    format!("gQ+/{}==", STANDARD.encode(random_bytes(bytes)).trim_end_matches('='))
}

pub(crate) fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}
