//! Secrets and what is kept of them.
//!
//! A secret leaves in one answer and comes back in a request; what is kept is its SHA-256. Those that a page must be
//! able to read again (its QR token, its codes) are not kept either: they are computed anew from the login's public id
//! and the [`Keys`], so that whoever reads the store reads no secret.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no randomness")]
pub struct NoRandomness;

/// Where random bytes come from.
pub trait Random: Send + Sync {
    /// Fills `bytes` with what nobody can guess.
    ///
    /// # Errors
    /// [`NoRandomness`]
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness>;
}

/// 32 unguessable bytes as base64url: 43 characters. Prints as nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Characters of a token.
    pub const LENGTH: usize = 43;

    /// A fresh one.
    ///
    /// # Errors
    /// [`NoRandomness`]
    pub fn random(random: &dyn Random) -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        random.fill(&mut bytes)?;
        Ok(Self::of(&bytes))
    }

    /// Takes a text that came in, if it has the shape of a token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let shaped = text.len() == Self::LENGTH
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        shaped.then(|| Self(text.to_owned()))
    }

    /// The token itself, for the one answer or request it belongs in.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    fn of(bytes: &[u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// SHA-256 of a secret. Two are compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Reads a base64url SHA-256, as a PKCE challenge is written (RFC 7636 section 4.2).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex(pair[0])? << 4 | hex(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Whether this is the digest of `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        *self == Self::of(text)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 hexadecimal digits: enough to tell two apart in a log, too few to search for the secret with.
    #[must_use]
    pub fn short(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::hash::Hash for Digest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}…)", self.short())
    }
}

/// A login's public name: `l_` and 24 hexadecimal digits. It is in answers, logs and webhooks and opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginId([u8; 12]);

impl LoginId {
    /// A fresh one.
    ///
    /// # Errors
    /// [`NoRandomness`]
    pub fn random(random: &dyn Random) -> Result<Self, NoRandomness> {
        let mut bytes = [0; 12];
        random.fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads one as it is written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("l_")?.as_bytes();
        let mut bytes = [0; 12];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex(pair[0])? << 4 | hex(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("l_")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Letters of a typed code: no vowels, so that it spells nothing, and no digits (RFC 8628 section 6.1).
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// How many typed codes there are: 20 to the 8th, 34.5 bits.
pub const USER_CODES: u64 = 25_600_000_000;

/// The typed fallback for whoever cannot scan: eight letters, shown as `WDJB-MJHT`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserCode([u8; 8]);

impl UserCode {
    /// Reads what a person typed: case, spaces, dashes and the like do not matter.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut code = [0; 8];
        let mut length = 0;
        for character in text.chars().take(64) {
            if character.is_whitespace() || character.is_ascii_punctuation() || character == '–' {
                continue;
            }
            let letter = u8::try_from(character).ok()?.to_ascii_uppercase();
            *code.get_mut(length)? = *ALPHABET.iter().find(|known| **known == letter)?;
            length += 1;
        }
        (length == code.len()).then_some(Self(code))
    }

    /// Takes the first eight bytes that fall evenly on the alphabet; more than enough of 32 random ones do.
    fn of(bytes: &[u8; 32]) -> Self {
        let mut even = bytes.iter().filter(|byte| **byte < 240).chain([&0; 8]);
        Self(std::array::from_fn(|_| {
            let byte = even.next().copied().unwrap_or_default();
            ALPHABET[usize::from(byte) % ALPHABET.len()]
        }))
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, letter) in self.0.iter().enumerate() {
            if index == 4 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserCode(…)")
    }
}

/// The key from which a login's readable secrets are computed (HMAC-SHA-256). One for all nodes that share a store;
/// made anew, it ends every login under way.
#[derive(Clone)]
pub struct Keys([u8; 32]);

impl Keys {
    /// A fresh key.
    ///
    /// # Errors
    /// [`NoRandomness`]
    pub fn random(random: &dyn Random) -> Result<Self, NoRandomness> {
        let mut key = [0; 32];
        random.fill(&mut key)?;
        Ok(Self(key))
    }

    /// A key that is kept somewhere.
    #[must_use]
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The QR token after so many rotations.
    #[must_use]
    pub fn qr(&self, id: LoginId, rotation: u32) -> Token {
        Token::of(&self.derive(b"qr", id.as_bytes(), &rotation.to_be_bytes()))
    }

    /// The one-time code.
    #[must_use]
    pub fn code(&self, id: LoginId) -> Token {
        Token::of(&self.derive(b"code", id.as_bytes(), &[]))
    }

    /// The typed code; `salt` tells apart the tries to find one that nobody else has.
    #[must_use]
    pub fn user_code(&self, id: LoginId, salt: u8) -> UserCode {
        UserCode::of(&self.derive(b"user_code", id.as_bytes(), &[salt]))
    }

    /// What is kept of a typed code. A plain hash of so few possibilities could be searched through.
    #[must_use]
    pub fn user_code_digest(&self, code: UserCode) -> Digest {
        Digest(self.derive(b"user_code_digest", &code.0, &[]))
    }

    /// The number that the computer shows and the phone types: two digits.
    #[must_use]
    pub fn number_to_phone(&self, id: LoginId) -> String {
        format!("{:02}", self.number(b"to_phone", id) % 100)
    }

    /// The number that the phone shows and the computer types: six digits.
    #[must_use]
    pub fn number_to_browser(&self, id: LoginId) -> String {
        format!("{:06}", self.number(b"to_browser", id) % 1_000_000)
    }

    /// What a page of ours for this visit and this QR code may post back with (cross-site request forgery).
    #[must_use]
    pub fn page_token(&self, visit: &Digest, qr: &Digest) -> Token {
        Token::of(&self.derive(b"page", visit.as_bytes(), qr.as_bytes()))
    }

    fn number(&self, label: &[u8], id: LoginId) -> u64 {
        let bytes = self.derive(label, id.as_bytes(), &[]);
        let mut first = [0; 8];
        first.copy_from_slice(&bytes[..8]);
        u64::from_be_bytes(first)
    }

    /// Each part is preceded by its length, so that no two inputs run together.
    fn derive(&self, label: &[u8], first: &[u8], second: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in [label, first, second] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_codes_are_read_as_people_type_them() {
        let code = Keys::from_bytes([7; 32]).user_code(LoginId([1; 12]), 0);
        let shown = code.to_string();
        for text in [shown.clone(), shown.to_lowercase(), shown.replace('-', ""), shown.replace('-', " – ")]
        {
            assert_eq!(UserCode::parse(&text), Some(code), "{text}");
        }
        for text in ["", "WDJB-MJH", "WDJB-MJHTT", "WDJB-MJHA", "ＷDJB-MJHT", "WDJB-MJ1T"] {
            assert_eq!(UserCode::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_derived_differs_by_everything_it_is_derived_from() {
        let (keys, other) = (Keys::from_bytes([1; 32]), Keys::from_bytes([2; 32]));
        let (a, b) = (LoginId([1; 12]), LoginId([2; 12]));
        let tokens = [keys.qr(a, 0), keys.qr(a, 1), keys.qr(b, 0), other.qr(a, 0), keys.code(a)];
        for (index, token) in tokens.iter().enumerate() {
            assert!(Token::parse(token.expose()).is_some());
            assert!(!tokens[..index].contains(token));
        }
        assert_eq!(keys.number_to_phone(a).len(), 2);
        assert_eq!(keys.number_to_browser(a).len(), 6);
    }

    #[test]
    fn typed_codes_use_every_letter_about_as_often() {
        let mut seen = std::collections::HashMap::new();
        let keys = Keys::from_bytes([3; 32]);
        for number in 0..4_000_u16 {
            let mut id = [0; 12];
            id[..2].copy_from_slice(&number.to_be_bytes());
            for letter in keys.user_code(LoginId(id), 0).0 {
                *seen.entry(letter).or_insert(0_u32) += 1;
            }
        }
        assert_eq!(seen.len(), ALPHABET.len());
        // 1,600 expected of each, with a deviation of 39.
        assert!(seen.values().all(|count| (1_400..1_800).contains(count)), "{seen:?}");
    }

    #[test]
    fn ids_and_challenges_are_read_back() {
        let id = LoginId([0xab; 12]);
        assert_eq!(LoginId::parse(&id.to_string()), Some(id));
        for text in ["", "l_", "l_zz", "m_abababababababababababab", "l_ABABABABABABABABABABABAB"] {
            assert_eq!(LoginId::parse(text), None, "{text}");
        }
        // RFC 7636 appendix B.
        let challenge = Digest::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM").expect("a challenge");
        assert!(challenge.matches("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!challenge.matches("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK"));
        assert_eq!(Digest::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c"), None);
    }
}
