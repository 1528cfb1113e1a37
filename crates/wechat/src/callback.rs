//! Calls from WeChat: is it WeChat, is it for us, is it new?
//!
//! Encrypted mode is required: in plaintext mode the signature does not cover the body, so one captured query lets
//! anyone post anything. The checks run from cheap to dear, the signature before anything is decrypted, and all
//! failures look alike from outside.

use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

use crate::crypto::{AesKey, DecryptError, is_signature};
use crate::fields::Fields;
use crate::replay::{Limits, Memory, Seen};
use crate::{FieldsError, MAX_BODY_BYTES, Message};

/// What an account's console shows under "server configuration".
#[derive(Debug, Clone)]
pub struct CallbackKeys {
    /// The appid: messages name it inside.
    pub appid: String,
    /// The token that signs queries.
    pub token: SecretString,
    /// The key that encrypts bodies.
    pub key: AesKey,
    /// The key before it: WeChat may use it for a while after a change.
    pub previous: Option<AesKey>,
}

/// A callback's query, as received. Parameters that are absent are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Signs the token, the timestamp and the nonce, not the body.
    pub signature: String,
    /// WeChat's clock, in seconds since the Unix epoch.
    pub timestamp: String,
    /// Random.
    pub nonce: String,
    /// Signs the ciphertext too.
    pub msg_signature: String,
    /// `aes` for encrypted bodies.
    pub encrypt_type: String,
    /// To be echoed, when an address is checked.
    pub echostr: String,
}

/// Why a callback is refused: 403 with an empty body, whatever the reason. The reason is for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A parameter is missing, doubled or too long.
    #[error("a parameter is missing, doubled or too long")]
    Query,
    /// The timestamp is too far from our clock.
    #[error("the timestamp is too far from this machine's clock")]
    Stale,
    /// Not encrypted, though a key is configured.
    #[error("the message is not encrypted: set the account to the safe mode")]
    NotEncrypted,
    /// Not signed with our token.
    #[error("the signature is wrong")]
    Signature,
    /// Delivered more often or later than WeChat does, or with another body.
    #[error("the message was delivered before")]
    Replayed,
    /// The envelope or the message cannot be read.
    #[error(transparent)]
    Body(#[from] FieldsError),
    /// Neither key decrypts it.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
}

impl Refusal {
    /// A stable name for metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Query => "wechat_query",
            Self::Stale => "wechat_stale",
            Self::NotEncrypted => "wechat_not_encrypted",
            Self::Signature => "wechat_signature",
            Self::Replayed => "wechat_replayed",
            Self::Body(_) => "wechat_body",
            Self::Decrypt(_) => "wechat_decrypt",
        }
    }
}

/// A callback that was accepted.
#[derive(Debug)]
pub struct Received {
    /// What it says.
    pub message: Message,
    /// Whether it says so for the first time; a repetition is answered like the first and changes nothing.
    pub is_new: bool,
    /// The key that worked; replies use it.
    pub(crate) key: AesKey,
    pub(crate) nonce: String,
}

/// An account's callback. One per appid: it remembers what was delivered.
#[derive(Debug)]
pub struct Callback {
    keys: CallbackKeys,
    limits: Limits,
    memory: Mutex<Memory>,
}

impl Query {
    /// Reads a query string; unknown parameters do not matter.
    ///
    /// # Errors
    /// When a known parameter is given twice, is not UTF-8, or is longer than any of WeChat's.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        let mut given = 0_u8;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (bit, field) = match name {
                "signature" => (1, &mut parsed.signature),
                "timestamp" => (2, &mut parsed.timestamp),
                "nonce" => (4, &mut parsed.nonce),
                "msg_signature" => (8, &mut parsed.msg_signature),
                "encrypt_type" => (16, &mut parsed.encrypt_type),
                "echostr" => (32, &mut parsed.echostr),
                _ => continue,
            };
            if given & bit != 0 || value.len() > 1_024 {
                return Err(Refusal::Query);
            }
            given |= bit;
            *field = decoded(value).ok_or(Refusal::Query)?;
        }
        Ok(parsed)
    }
}

/// Percent-decoding, with `+` for a space.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next()?)? << 4 | digit(rest.next()?)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

impl Callback {
    /// The callback of one account.
    pub fn new(keys: CallbackKeys, limits: Limits) -> Self {
        Self { keys, limits, memory: Mutex::new(Memory::new(limits)) }
    }

    /// Answers WeChat's check of the address (GET): what to echo, as plain text.
    ///
    /// # Errors
    /// When it is not WeChat.
    pub fn check<'q>(&self, query: &'q Query, now: SystemTime) -> Result<&'q str, Refusal> {
        self.fresh(query, unix_seconds(now))?;
        if query.signature.is_empty() || query.echostr.is_empty() {
            return Err(Refusal::Query);
        }
        self.signed(query)?;
        Ok(&query.echostr)
    }

    /// Accepts or refuses a delivery (POST).
    ///
    /// # Errors
    /// When it is not WeChat's, not for this account, not encrypted, or replayed. Nothing is remembered of it.
    pub fn receive(&self, query: &Query, body: &[u8], now: SystemTime) -> Result<Received, Refusal> {
        let now = unix_seconds(now);
        self.fresh(query, now)?;
        if query.encrypt_type != "aes" || query.msg_signature.is_empty() {
            return Err(Refusal::NotEncrypted);
        }
        if body.len() > MAX_BODY_BYTES {
            return Err(FieldsError::TooBig.into());
        }
        if !query.signature.is_empty() {
            self.signed(query)?;
        }
        let (envelope, _) = Fields::parse(body)?;
        // In the compatible mode plain fields stand beside it, which nothing signs: they are not looked at.
        let encrypted = envelope.get("Encrypt").ok_or(Refusal::NotEncrypted)?;
        let parts = [self.keys.token.expose_secret(), &query.timestamp, &query.nonce, encrypted];
        if !is_signature(&query.msg_signature, &parts) {
            return Err(Refusal::Signature);
        }
        let (plain, key) = self.decrypt(encrypted)?;
        let message = Message::parse(&plain)?;

        let mut memory = self.memory.lock();
        match memory.delivery(&query.timestamp, &query.nonce, encrypted, now) {
            Seen::Replayed => return Err(Refusal::Replayed),
            Seen::Again => {}
            Seen::New => memory.keep(&query.timestamp, &query.nonce, encrypted, now),
        }
        let is_new = memory.is_new_message(message.identity(), now);
        drop(memory);
        Ok(Received { message, is_new, key: key.clone(), nonce: query.nonce.clone() })
    }

    pub(crate) const fn keys(&self) -> &CallbackKeys {
        &self.keys
    }

    fn fresh(&self, query: &Query, now: u64) -> Result<(), Refusal> {
        let digits = !query.timestamp.is_empty() && query.timestamp.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || query.nonce.is_empty() {
            return Err(Refusal::Query);
        }
        let timestamp: u64 = query.timestamp.parse().map_err(|_| Refusal::Query)?;
        if timestamp.abs_diff(now) > self.limits.window_seconds {
            return Err(Refusal::Stale);
        }
        Ok(())
    }

    fn signed(&self, query: &Query) -> Result<(), Refusal> {
        let parts = [self.keys.token.expose_secret(), &query.timestamp, &query.nonce];
        if is_signature(&query.signature, &parts) { Ok(()) } else { Err(Refusal::Signature) }
    }

    fn decrypt(&self, encrypted: &str) -> Result<(Vec<u8>, &AesKey), DecryptError> {
        let CallbackKeys { appid, key, previous, .. } = &self.keys;
        match (key.decrypt(encrypted, appid), previous) {
            (Ok(plain), _) => Ok((plain, key)),
            (Err(error), None) => Err(error),
            (Err(error), Some(previous)) => {
                previous.decrypt(encrypted, appid).map(|plain| (plain, previous)).map_err(|_| error)
            }
        }
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
