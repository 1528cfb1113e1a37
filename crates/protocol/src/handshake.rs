//! The WebSocket opening handshake, server side (RFC 6455 §4.2), on whoever's header parser.
//!
//! [`Upgrade`] collects the header fields that matter and judges them; [`Accepted`] is the proof that they
//! were right and writes the 101. [`Head`] and [`find_head_end`] read a request head from a raw socket,
//! [`refusal()`] writes the response to one that cannot be served.

mod error;
mod head;
mod refusal;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};

pub use error::HandshakeError;
pub use head::{Head, HeadError, find_head_end};
pub use refusal::refusal;

use crate::deflate::Deflate;
use crate::line::is_token;

/// What the server appends to the client's key before hashing (RFC 6455 §1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Base64 as clients write keys. Bits beyond the 16th byte are not looked at: some clients make a key from 22
/// random characters, and RFC 4648 §3.5 leaves it to the decoder.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
///
/// The key is hashed as it is written, whatever it is.
#[must_use]
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let hash = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; 28];
    let written = KEY_BASE64.encode_slice(hash, &mut accept);
    debug_assert_eq!(written, Ok(28), "20 bytes are 28 characters of base64");
    accept
}

/// What a request says about becoming a WebSocket.
#[derive(Debug, Clone)]
pub struct Upgrade<'a> {
    method: &'a str,
    minor_version: u8,
    /// Some `Upgrade` field lists `websocket`.
    websocket: bool,
    /// Some `Connection` field lists `upgrade`.
    connection_upgrade: bool,
    host: Field<'a>,
    origin: Field<'a>,
    version: Field<'a>,
    key: Field<'a>,
    /// The values of all `Sec-WebSocket-Protocol` fields. Empty, and so without memory, when there are none.
    protocols: Vec<&'a [u8]>,
    /// The values of all `Sec-WebSocket-Extensions` fields.
    extensions: Vec<&'a [u8]>,
}

/// A header field that may appear once.
#[derive(Debug, Clone, Copy, Default)]
struct Field<'a> {
    /// The first value, without whitespace around it.
    first: Option<&'a [u8]>,
    repeated: bool,
}

impl<'a> Field<'a> {
    const fn add(&mut self, value: &'a [u8]) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.repeated = true,
        }
    }
}

impl<'a> Upgrade<'a> {
    /// Collects what matters from a request of HTTP/1.`minor_version`.
    ///
    /// Names are compared without regard to case; whitespace around values is ignored.
    pub fn from_headers(
        method: &'a str,
        minor_version: u8,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Self {
        let mut upgrade = Self {
            method,
            minor_version,
            websocket: false,
            connection_upgrade: false,
            host: Field::default(),
            origin: Field::default(),
            version: Field::default(),
            key: Field::default(),
            protocols: Vec::new(),
            extensions: Vec::new(),
        };
        for (name, value) in headers {
            upgrade.add(name, value.trim_ascii());
        }
        upgrade
    }

    fn add(&mut self, name: &str, value: &'a [u8]) {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("host") {
            self.host.add(value);
        } else if is("upgrade") {
            self.websocket |= list(value).any(|token| token.eq_ignore_ascii_case(b"websocket"));
        } else if is("connection") {
            self.connection_upgrade |= list(value).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
        } else if is("origin") {
            self.origin.add(value);
        } else if is("sec-websocket-key") {
            self.key.add(value);
        } else if is("sec-websocket-version") {
            self.version.add(value);
        } else if is("sec-websocket-protocol") {
            self.protocols.push(value);
        } else if is("sec-websocket-extensions") {
            self.extensions.push(value);
        }
    }

    /// Whether the request wants a WebSocket: an `Upgrade` field lists `websocket`, in any case.
    ///
    /// Tells a handshake, right or wrong, from another request for the same address.
    #[must_use]
    pub const fn is_requested(&self) -> bool {
        self.websocket
    }

    /// Checks the handshake against RFC 6455 §4.2.1.
    ///
    /// # Errors
    /// The first requirement that is not met, as a [`HandshakeError`].
    pub fn accept(&self) -> Result<Accepted, HandshakeError> {
        let once = |field: Field<'a>, missing, repeated| {
            if field.repeated { Err(repeated) } else { field.first.ok_or(missing) }
        };
        if self.method != "GET" {
            return Err(HandshakeError::Method);
        }
        if self.minor_version < 1 {
            return Err(HandshakeError::HttpVersion);
        }
        once(self.host, HandshakeError::MissingHost, HandshakeError::RepeatedHost)?;
        if !self.websocket {
            return Err(HandshakeError::NotRequested);
        }
        if !self.connection_upgrade {
            return Err(HandshakeError::Connection);
        }
        let version = once(self.version, HandshakeError::MissingVersion, HandshakeError::Version)?;
        if version != b"13" {
            return Err(HandshakeError::Version);
        }
        let key = once(self.key, HandshakeError::MissingKey, HandshakeError::RepeatedKey)?;
        // Room for one byte more than a key has, so that a longer one is seen to be longer.
        let decoded = KEY_BASE64.decode_slice(key, &mut [0; 18]);
        if decoded != Ok(16) {
            return Err(HandshakeError::MalformedKey);
        }
        // Two origins leave open which one the allow-list is to judge.
        if self.origin.repeated {
            return Err(HandshakeError::RepeatedOrigin);
        }
        Ok(Accepted { accept: accept_key(key) })
    }

    /// The first `Host` field.
    #[must_use]
    pub const fn host(&self) -> Option<&'a [u8]> {
        self.host.first
    }

    /// The `Origin` field, which a browser always sends (RFC 6454 §7). [`accept`](Self::accept) refuses a
    /// request with two.
    #[must_use]
    pub const fn origin(&self) -> Option<&'a [u8]> {
        self.origin.first
    }

    /// The subprotocols offered, in the client's order of preference. Elements that are no token are skipped.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        self.protocols
            .iter()
            .flat_map(|value| list(value))
            .filter(|token| is_token(token))
            .filter_map(|token| std::str::from_utf8(token).ok())
    }
}

impl Upgrade<'_> {
    /// What to answer to the offers of permessage-deflate, if one of them is acceptable (RFC 7692 §5).
    #[must_use]
    pub fn deflate(&self) -> Option<Deflate> {
        Deflate::negotiate(self.extensions.iter().copied())
    }
}

/// The elements of a comma-separated list (RFC 9110 §5.6.1), without whitespace around them.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A handshake that meets every requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    accept: [u8; 28],
}

impl Accepted {
    /// The head of the `101 Switching Protocols` response, its blank line included; frames follow it.
    ///
    /// `subprotocol` must be one that the client [offered](Upgrade::protocols), or `None`; `deflate` what it
    /// [offered](Upgrade::deflate), or `None`.
    #[must_use]
    pub fn response(&self, subprotocol: Option<&str>, deflate: Option<Deflate>) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\n\
              Upgrade: websocket\r\n\
              Connection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        if let Some(subprotocol) = subprotocol {
            debug_assert!(is_token(subprotocol.as_bytes()), "a subprotocol is a token");
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(subprotocol.as_bytes());
        }
        if let Some(deflate) = deflate {
            out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
            out.extend_from_slice(deflate.answer().as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's handshake of RFC 6455 §1.3.
    const SAMPLE: [(&str, &str); 7] = [
        ("Host", "server.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Origin", "http://example.com"),
        ("Sec-WebSocket-Protocol", "chat, superchat"),
        ("Sec-WebSocket-Version", "13"),
    ];

    fn upgrade<'a>(method: &'a str, minor_version: u8, headers: &[(&'a str, &'a str)]) -> Upgrade<'a> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        Upgrade::from_headers(method, minor_version, headers)
    }

    /// The sample with one field replaced; an empty value leaves it out.
    fn with(name: &'static str, value: &'static str) -> Result<Accepted, HandshakeError> {
        let others = SAMPLE.into_iter().filter(|(other, _)| !other.eq_ignore_ascii_case(name));
        let headers: Vec<_> = others.chain([(name, value)]).filter(|(_, value)| !value.is_empty()).collect();
        upgrade("GET", 1, &headers).accept()
    }

    /// The sample with one more field.
    fn and(name: &'static str, value: &'static str) -> Result<Accepted, HandshakeError> {
        let headers: Vec<_> = SAMPLE.into_iter().chain([(name, value)]).collect();
        upgrade("GET", 1, &headers).accept()
    }

    #[test]
    fn the_sample_of_the_rfc_is_accepted() {
        assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let upgrade = upgrade("GET", 1, &SAMPLE);
        assert!(upgrade.is_requested());
        assert_eq!(upgrade.host(), Some(&b"server.example.com"[..]));
        assert_eq!(upgrade.origin(), Some(&b"http://example.com"[..]));
        assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
        let response = upgrade.accept().unwrap().response(Some("chat"), None);
        assert_eq!(
            std::str::from_utf8(&response).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
        );
        let response = upgrade.accept().unwrap().response(None, None);
        assert!(response.ends_with(b"Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
    }

    #[test]
    fn names_and_tokens_are_compared_without_regard_to_case() {
        assert!(with("UPGRADE", " WebSocket ").is_ok());
        assert!(with("upgrade", "h2c, websocket").is_ok());
        assert!(with("connection", "keep-alive,\tUPGRADE").is_ok());
        assert!(with("Origin", "").is_ok());
        assert!(with("Sec-WebSocket-Protocol", "").is_ok());
    }

    #[test]
    fn each_requirement_has_its_error() {
        assert_eq!(upgrade("POST", 1, &SAMPLE).accept(), Err(HandshakeError::Method));
        assert_eq!(upgrade("get", 1, &SAMPLE).accept(), Err(HandshakeError::Method));
        assert_eq!(upgrade("GET", 0, &SAMPLE).accept(), Err(HandshakeError::HttpVersion));
        assert_eq!(with("Host", ""), Err(HandshakeError::MissingHost));
        assert_eq!(and("Host", "other"), Err(HandshakeError::RepeatedHost));
        assert_eq!(with("Upgrade", ""), Err(HandshakeError::NotRequested));
        assert_eq!(with("Upgrade", "websockets"), Err(HandshakeError::NotRequested));
        assert_eq!(with("Connection", ""), Err(HandshakeError::Connection));
        assert_eq!(with("Connection", "keep-alive"), Err(HandshakeError::Connection));
        assert_eq!(with("Sec-WebSocket-Version", ""), Err(HandshakeError::MissingVersion));
        for version in ["8", "013", "13, 8", "+13"] {
            assert_eq!(with("Sec-WebSocket-Version", version), Err(HandshakeError::Version));
        }
        assert_eq!(and("Sec-WebSocket-Version", "13"), Err(HandshakeError::Version));
        assert_eq!(with("Sec-WebSocket-Key", ""), Err(HandshakeError::MissingKey));
        assert_eq!(and("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), Err(HandshakeError::RepeatedKey));
        assert_eq!(and("origin", "null"), Err(HandshakeError::RepeatedOrigin));
    }

    #[test]
    fn a_key_is_base64_of_16_bytes() {
        // The last one has bits set behind the 16th byte.
        for key in ["AAAAAAAAAAAAAAAAAAAAAA==", "/+//////////////////+w==", "AAAAAAAAAAAAAAAAAAAAAB=="] {
            assert!(with("Sec-WebSocket-Key", key).is_ok(), "{key}");
        }
        for key in [
            "abc",
            "AAAAAAAAAAAAAAAAAAAAAA",       // no padding
            "AAAAAAAAAAAAAAAAAAAA",         // 15 bytes
            "AAAAAAAAAAAAAAAAAAAAAAA=",     // 17 bytes
            "AAAAAAAAAAAAAAAAAAAAAAAA",     // 18 bytes
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAA", // 21 bytes
            "AAAAAAAAAAA-AAAAAAAAAA==",     // the other alphabet
        ] {
            assert_eq!(with("Sec-WebSocket-Key", key), Err(HandshakeError::MalformedKey), "{key}");
        }
    }

    #[test]
    fn subprotocols_come_from_all_fields_and_are_tokens() {
        let headers = [
            ("Sec-WebSocket-Protocol", "a,, b c ,doorbell.v1"),
            ("X-Other", "x"),
            ("sec-websocket-protocol", "é, d"),
        ];
        let upgrade = upgrade("GET", 1, &headers);
        assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["a", "doorbell.v1", "d"]);
        assert!(!upgrade.is_requested());
    }
}
