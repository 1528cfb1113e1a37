//! Who a connection is: checks and mints connection tokens (JWT, RFC 7519).
//!
//! A server has one algorithm and one key. The algorithm named in a token's header never chooses anything
//! (RFC 8725 sections 3.1 and 3.2): a token that names another one is refused before its signature is looked at.
//! Time is passed in. Nothing here logs, and no error contains a token or a key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorbell_protocol::Uid;
use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::settings::{TokenAlgorithm, Tokens};

/// The longest token that is looked at, in bytes. Longer than any token minted here by far, short enough that
/// decoding one is never a lever.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// The shortest HS256 key accepted, in bytes: as long as the hash (RFC 7518 section 3.2).
pub const MIN_HS256_KEY_BYTES: usize = 32;

/// How far the minting machine's clock may run ahead before `nbf` or `iat` refuses its tokens, in seconds. `exp` has no
/// such leeway: it is also the moment at which an open connection is closed.
pub const NOT_BEFORE_LEEWAY_SECONDS: u64 = 5;

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whom the connection belongs to: the claim `sub`.
    pub uid: Uid,
    /// When the token, and any connection it opened, ends: the claim `exp`, in seconds since the Unix epoch.
    /// Any value after the `now` it was verified at, up to `u64::MAX`.
    pub expires: u64,
    /// When the token was issued: the claim `iat`, in seconds since the Unix epoch.
    pub issued: Option<u64>,
    /// What the token is called: the claim `jti`, when it is a string.
    pub id: Option<String>,
}

/// The key that checks tokens and, when it is a private or shared one, mints them.
#[derive(Debug, Clone)]
pub struct TokenKeys {
    verifying: DecodingKey,
    signing: Option<EncodingKey>,
    algorithm: Algorithm,
    validation: Validation,
    issuer: Option<String>,
    audience: Option<String>,
    max_lifetime: u64,
}

impl TokenKeys {
    /// Reads the configured key. Surrounding whitespace is not part of it, so that a key file may end in a newline.
    ///
    /// # Errors
    /// Says what is wrong with the key and what would be right; never shows it.
    pub fn new(tokens: &Tokens) -> Result<Self, TokenKeyError> {
        let key = tokens.key.as_ref().ok_or(TokenKeyError::Missing)?;
        let text = key.expose_secret().trim();
        let (algorithm, verifying, signing) = match tokens.algorithm {
            TokenAlgorithm::Hs256 => shared_key(text)?,
            TokenAlgorithm::Es256 => pem_key(text, &ES256)?,
            TokenAlgorithm::EdDsa => pem_key(text, &EDDSA)?,
        };
        // Claims are checked below, against the time passed in. The library checks the signature only.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Ok(Self {
            verifying,
            signing,
            algorithm,
            validation,
            issuer: tokens.issuer.clone(),
            audience: tokens.audience.clone(),
            max_lifetime: tokens.max_lifetime.as_secs(),
        })
    }

    /// Checks a token as it came from the client, byte for byte, at the time `now`.
    ///
    /// `exp` and `sub` must be there, `nbf` is checked when it is, `iss` and `aud` must match when they are
    /// configured and are ignored otherwise. A token with `iat` ends `tokens.max_lifetime` after it, if not sooner.
    /// Whether it was revoked is not known here.
    ///
    /// # Errors
    /// Why the token is refused; [`TokenError::reason`] is its metric label. Only a token with a good signature
    /// gets any other answer than `malformed`, `wrong_algorithm` or `bad_signature`.
    pub fn verify(&self, token: &[u8], now: SystemTime) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| header_error(&error))?;
        if header.alg != self.algorithm {
            return Err(TokenError::WrongAlgorithm);
        }
        // RFC 7515 section 4.1.11: an extension that must be understood and is not means refusal. None is known here.
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let claims = jsonwebtoken::decode::<WireClaims>(token, &self.verifying, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidSignature => TokenError::BadSignature,
                _ => TokenError::Malformed,
            })?
            .claims;
        self.check(claims, unix_seconds(now))
    }

    /// Makes a token for `uid` that ends `ttl` (whole seconds, at least one) after `now`, with `sub`, `exp`, `iat`
    /// and, when configured, `iss` and `aud`.
    ///
    /// # Errors
    /// The key is a public one, or `ttl` is under a second or over `tokens.max_lifetime`.
    pub fn mint(&self, uid: &Uid, ttl: Duration, now: SystemTime) -> Result<String, MintError> {
        self.mint_as(uid, ttl, now, unix_seconds(now), None)
    }

    /// [`TokenKeys::mint`] with an `iat` of one's own, in seconds since the Unix epoch, and a `jti` by which the token
    /// can be revoked alone.
    ///
    /// # Errors
    /// As [`TokenKeys::mint`].
    pub fn mint_as(
        &self,
        uid: &Uid,
        ttl: Duration,
        now: SystemTime,
        issued: u64,
        id: Option<&str>,
    ) -> Result<String, MintError> {
        let signing = self.signing.as_ref().ok_or(MintError::PublicKeyOnly)?;
        let lasts = (1..=self.max_lifetime).contains(&ttl.as_secs());
        let exp = unix_seconds(now).checked_add(ttl.as_secs()).filter(|_| lasts).ok_or(MintError::Ttl)?;
        let claims = MintedClaims {
            sub: uid.as_str(),
            exp,
            iat: issued,
            jti: id,
            iss: self.issuer.as_deref(),
            aud: self.audience.as_deref(),
        };
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, signing).map_err(MintError::Signing)
    }

    /// Whether [`Self::mint`] can work: false for a public key.
    pub fn can_mint(&self) -> bool {
        self.signing.is_some()
    }

    fn check(&self, claims: WireClaims, now: u64) -> Result<Claims, TokenError> {
        let mut expires = seconds(claims.exp.as_ref().ok_or(TokenError::MissingExpiry)?)?;
        // Both were ignored once, so one of another type is as good as none.
        let issued = match &claims.iat {
            Some(serde_json::Value::Number(number)) => seconds(number).ok(),
            _ => None,
        };
        let id = claims.jti.as_ref().and_then(serde_json::Value::as_str).map(str::to_owned);
        if let Some(issued) = issued {
            // Otherwise it would outlive its revocation.
            expires = expires.min(issued.saturating_add(self.max_lifetime));
            if now.saturating_add(NOT_BEFORE_LEEWAY_SECONDS) < issued {
                return Err(TokenError::NotYetValid);
            }
        }
        if now >= expires {
            return Err(TokenError::Expired);
        }
        if let Some(not_before) = &claims.nbf
            && now.saturating_add(NOT_BEFORE_LEEWAY_SECONDS) < seconds(not_before)?
        {
            return Err(TokenError::NotYetValid);
        }
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(TokenError::WrongIssuer);
        }
        if let Some(expected) = &self.audience
            && !claims.aud.is_some_and(|audience| audience.contains(expected))
        {
            return Err(TokenError::WrongAudience);
        }
        let subject =
            claims.sub.as_ref().and_then(serde_json::Value::as_str).ok_or(TokenError::BadSubject)?;
        let uid = Uid::new(subject).map_err(|_| TokenError::BadSubject)?;
        Ok(Claims { uid, expires, issued, id })
    }
}

/// Why a configured token key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenKeyError {
    /// No key is configured.
    #[error("no token key is configured")]
    Missing,
    /// An HS256 key under 32 bytes could be guessed from one token.
    #[error("{found} bytes are too few for an HS256 key; it needs at least 32 random bytes of text")]
    TooShort {
        /// How many bytes the key has without surrounding whitespace.
        found: usize,
    },
    /// A PEM text as a shared secret is a mix-up, and a dangerous one: a public key is known to everyone.
    #[error("HS256 takes a shared secret, and this is a PEM key; set algorithm to \"ES256\" or \"EdDSA\"")]
    PemForHs256,
    /// Not PEM at all, or PEM of something else.
    #[error("not a PEM {wanted} key; {hint}")]
    NotAKey {
        /// The kind of key the algorithm takes.
        wanted: &'static str,
        /// How to make one.
        hint: &'static str,
    },
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a JWT: too long, not three parts, not base64url, not JSON, a claim of the wrong type.
    #[error("not a token")]
    Malformed,
    /// Names another algorithm than the configured one, `none` among them.
    #[error("signed with another algorithm than the configured one")]
    WrongAlgorithm,
    /// The signature is not by the configured key over these bytes.
    #[error("bad signature")]
    BadSignature,
    /// No `exp`.
    #[error("says nothing of when it expires")]
    MissingExpiry,
    /// `exp` has come.
    #[error("expired")]
    Expired,
    /// `nbf` has not come, or `iat`.
    #[error("not yet valid")]
    NotYetValid,
    /// `iss` is not the configured issuer.
    #[error("from another issuer")]
    WrongIssuer,
    /// `aud` does not name the configured audience.
    #[error("for another audience")]
    WrongAudience,
    /// No `sub`, or one that is no uid.
    #[error("its subject is not a uid")]
    BadSubject,
}

impl TokenError {
    /// The label under which this refusal is counted.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::MissingExpiry => "missing_expiry",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::BadSubject => "bad_subject",
        }
    }
}

/// Why no token was minted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The configured key is a public one.
    #[error("the configured token key is a public key: it checks tokens, it cannot mint them")]
    PublicKeyOnly,
    /// Under a second, or over `tokens.max_lifetime`.
    #[error("a token lives at least one second and at most tokens.max_lifetime")]
    Ttl,
    /// The signature failed.
    #[error("signing failed")]
    Signing(#[source] JwtError),
}

/// The claims that are read. Others are ignored; one of these twice is malformed (RFC 7519 section 4).
#[derive(Deserialize)]
struct WireClaims {
    /// A number here is a usual slip of the minting side; taken as any value, it gets the reason that says so.
    sub: Option<serde_json::Value>,
    exp: Option<serde_json::Number>,
    nbf: Option<serde_json::Number>,
    iat: Option<serde_json::Value>,
    jti: Option<serde_json::Value>,
    iss: Option<String>,
    aud: Option<Audience>,
}

/// RFC 7519 section 4.1.3: one name or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    sub: &'a str,
    exp: u64,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// What one asymmetric algorithm takes as its key.
struct KeyKind {
    algorithm: Algorithm,
    wanted: &'static str,
    hint: &'static str,
    /// Bytes of a raw public key: P-256 uncompressed (SEC 1 section 2.3.3), Ed25519 (RFC 8032).
    public_bytes: usize,
    private: fn(&[u8]) -> Result<EncodingKey, JwtError>,
    public: fn(&[u8]) -> Result<DecodingKey, JwtError>,
}

const ES256: KeyKind = KeyKind {
    algorithm: Algorithm::ES256,
    wanted: "EC (P-256)",
    hint: "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, or convert an \
           \"EC PRIVATE KEY\" with `openssl pkcs8 -topk8 -nocrypt`",
    public_bytes: 65,
    private: EncodingKey::from_ec_pem,
    public: DecodingKey::from_ec_pem,
};

const EDDSA: KeyKind = KeyKind {
    algorithm: Algorithm::EdDSA,
    wanted: "Ed25519",
    hint: "make one with `openssl genpkey -algorithm ed25519`",
    public_bytes: 32,
    private: EncodingKey::from_ed_pem,
    public: DecodingKey::from_ed_pem,
};

fn shared_key(text: &str) -> Result<(Algorithm, DecodingKey, Option<EncodingKey>), TokenKeyError> {
    if text.starts_with("-----BEGIN") {
        return Err(TokenKeyError::PemForHs256);
    }
    if text.len() < MIN_HS256_KEY_BYTES {
        return Err(TokenKeyError::TooShort { found: text.len() });
    }
    let bytes = text.as_bytes();
    Ok((Algorithm::HS256, DecodingKey::from_secret(bytes), Some(EncodingKey::from_secret(bytes))))
}

fn pem_key(
    text: &str,
    kind: &KeyKind,
) -> Result<(Algorithm, DecodingKey, Option<EncodingKey>), TokenKeyError> {
    let refuse = || TokenKeyError::NotAKey { wanted: kind.wanted, hint: kind.hint };
    let (verifying, signing) = if text.contains("-----BEGIN PRIVATE KEY-----") {
        let signing = (kind.private)(text.as_bytes()).map_err(|_| refuse())?;
        // The public half is computed, so a key on another curve fails here and not at the first token.
        let public = Jwk::from_encoding_key(&signing, kind.algorithm).map_err(|_| refuse())?;
        (DecodingKey::from_jwk(&public).map_err(|_| refuse())?, Some(signing))
    } else if text.contains("-----BEGIN PUBLIC KEY-----") {
        ((kind.public)(text.as_bytes()).map_err(|_| refuse())?, None)
    } else {
        return Err(refuse());
    };
    match verifying.try_get_as_bytes() {
        Ok(raw) if raw.len() == kind.public_bytes => Ok((kind.algorithm, verifying, signing)),
        _ => Err(refuse()),
    }
}

/// A header that is JSON but does not fit names an algorithm nobody signs with (`none` is one); anything else is noise.
fn header_error(error: &JwtError) -> TokenError {
    match error.kind() {
        ErrorKind::Json(json) if json.is_data() => TokenError::WrongAlgorithm,
        _ => TokenError::Malformed,
    }
}

/// RFC 7519's NumericDate may have a fraction; it is cut off, so a token never lives longer than it says.
fn seconds(number: &serde_json::Number) -> Result<u64, TokenError> {
    if let Some(whole) = number.as_u64() {
        return Ok(whole);
    }
    match number.as_f64() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the guard leaves no negative value, and a float too big for u64 saturates"
        )]
        Some(float) if float >= 0.0 => Ok(float as u64),
        _ => Err(TokenError::Malformed),
    }
}

/// A clock before 1970 reads as 0, where every token with an `nbf` is refused and none is expired wrongly late.
fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
