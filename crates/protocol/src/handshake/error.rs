//! What can be wrong with a handshake, and what to answer.

use thiserror::Error;

use super::refusal;

/// A requirement of RFC 6455 §4.2.1 that a request does not meet.
///
/// Displays as what is wrong and what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The method is not GET.
    #[error("a WebSocket handshake uses the method GET")]
    Method,
    /// The request is HTTP/1.0.
    #[error("a WebSocket handshake needs HTTP/1.1")]
    HttpVersion,
    /// There is no `Host` field.
    #[error("the Host header is missing; it names the server asked for")]
    MissingHost,
    /// There is more than one `Host` field.
    #[error("there is more than one Host header; send exactly one")]
    RepeatedHost,
    /// No `Upgrade` field lists `websocket`.
    #[error("this address speaks WebSocket; send `Upgrade: websocket`")]
    NotRequested,
    /// No `Connection` field lists `upgrade`. Often the mark of a proxy that does not forward it.
    #[error("the Connection header does not list `Upgrade`; a proxy in between must pass it on")]
    Connection,
    /// There is no `Sec-WebSocket-Version` field.
    #[error("the Sec-WebSocket-Version header is missing; send `Sec-WebSocket-Version: 13`")]
    MissingVersion,
    /// `Sec-WebSocket-Version` is not exactly `13`, once.
    #[error("the Sec-WebSocket-Version is not supported; send `Sec-WebSocket-Version: 13`, once")]
    Version,
    /// There is no `Sec-WebSocket-Key` field.
    #[error("the Sec-WebSocket-Key header is missing; send 16 random bytes in base64")]
    MissingKey,
    /// There is more than one `Sec-WebSocket-Key` field.
    #[error("there is more than one Sec-WebSocket-Key header; send exactly one")]
    RepeatedKey,
    /// `Sec-WebSocket-Key` is not base64 of 16 bytes.
    #[error("the Sec-WebSocket-Key is malformed; send 16 random bytes in base64, 24 characters")]
    MalformedKey,
    /// There is more than one `Origin` field.
    #[error("there is more than one Origin header; send at most one")]
    RepeatedOrigin,
}

impl HandshakeError {
    /// The HTTP status to answer: 400, 405 or 426.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotRequested | Self::Version => 426,
            Self::HttpVersion
            | Self::MissingHost
            | Self::RepeatedHost
            | Self::Connection
            | Self::MissingVersion
            | Self::MissingKey
            | Self::RepeatedKey
            | Self::MalformedKey
            | Self::RepeatedOrigin => 400,
        }
    }

    /// The reason phrase of [`status`](Self::status) (RFC 9110 §15).
    #[must_use]
    pub const fn reason_phrase(&self) -> &'static str {
        match self.status() {
            405 => "Method Not Allowed",
            426 => "Upgrade Required",
            _ => "Bad Request",
        }
    }

    /// The header fields that the status calls for: `Allow` (RFC 9110 §15.5.6), `Upgrade` (§15.5.22),
    /// `Sec-WebSocket-Version` (RFC 6455 §4.4).
    #[must_use]
    pub const fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("Allow", "GET")],
            Self::NotRequested | Self::Version => {
                &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
            }
            Self::MissingVersion => &[("Sec-WebSocket-Version", "13")],
            _ => &[],
        }
    }

    /// The whole response, as [`refusal()`] writes it.
    #[must_use]
    pub fn refusal(&self) -> Vec<u8> {
        refusal(self.status(), self.reason_phrase(), self.reason(), self.headers(), &self.to_string())
    }

    /// A stable `snake_case` label for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::HttpVersion => "http_version",
            Self::MissingHost => "missing_host",
            Self::RepeatedHost => "repeated_host",
            Self::NotRequested => "not_requested",
            Self::Connection => "connection",
            Self::MissingVersion => "missing_version",
            Self::Version => "version",
            Self::MissingKey => "missing_key",
            Self::RepeatedKey => "repeated_key",
            Self::MalformedKey => "malformed_key",
            Self::RepeatedOrigin => "repeated_origin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_status_its_headers_and_a_label() {
        for (error, status, header, reason) in [
            (HandshakeError::Method, 405, Some("Allow: GET"), "method"),
            (HandshakeError::HttpVersion, 400, None, "http_version"),
            (HandshakeError::MissingHost, 400, None, "missing_host"),
            (HandshakeError::RepeatedHost, 400, None, "repeated_host"),
            (HandshakeError::NotRequested, 426, Some("Upgrade: websocket"), "not_requested"),
            (HandshakeError::Connection, 400, None, "connection"),
            (HandshakeError::MissingVersion, 400, Some("Sec-WebSocket-Version: 13"), "missing_version"),
            (HandshakeError::Version, 426, Some("Sec-WebSocket-Version: 13"), "version"),
            (HandshakeError::MissingKey, 400, None, "missing_key"),
            (HandshakeError::RepeatedKey, 400, None, "repeated_key"),
            (HandshakeError::MalformedKey, 400, None, "malformed_key"),
            (HandshakeError::RepeatedOrigin, 400, None, "repeated_origin"),
        ] {
            assert_eq!(error.reason(), reason);
            let response = String::from_utf8(error.refusal()).unwrap();
            assert!(response.starts_with(&format!("HTTP/1.1 {status} {}\r\n", error.reason_phrase())));
            assert!(
                header.is_none_or(|header| response.contains(&format!("\r\n{header}\r\n"))),
                "{response}"
            );
        }
    }
}
