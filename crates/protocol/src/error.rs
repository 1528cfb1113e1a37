//! What a client can do wrong in a WebSocket stream.

use thiserror::Error;

use crate::close::CloseCode;

/// A violation of RFC 6455, or of the message limit, by the peer.
///
/// The stream cannot be read further: the caller sends a Close frame with [`close_code`](Self::close_code)
/// and ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set though no extension that was negotiated means anything by it here (§5.2).
    #[error("reserved header bits are set")]
    ReservedBits,
    /// The opcode is one of 3 to 7 or 11 to 15 (§5.2).
    #[error("opcode {0} is reserved")]
    ReservedOpcode(
        /// The opcode as sent.
        u8,
    ),
    /// A client's frame is not masked (§5.1).
    #[error("frame is not masked")]
    Unmasked,
    /// A control frame has FIN clear (§5.4).
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A control frame's payload is longer than 125 bytes (§5.5).
    #[error("control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A continuation frame came while no message was under way (§5.4).
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A text or binary frame came inside a fragmented message (§5.4).
    #[error("new message inside a fragmented message")]
    InterruptedMessage,
    /// The length is not in its shortest form (§5.2).
    #[error("payload length is not in its shortest form")]
    NonMinimalLength,
    /// The most significant bit of a 64-bit length is set (§5.2).
    #[error("payload length has its highest bit set")]
    LengthHighBit,
    /// The message, by its declared length, is larger than allowed here (§10.4).
    #[error("message is larger than {max} bytes")]
    MessageTooBig {
        /// The limit in force, in bytes of payload.
        max: usize,
    },
    /// A text message is not UTF-8 (§8.1).
    #[error("text message is not UTF-8")]
    InvalidUtf8,
    /// A compressed message cannot be inflated (RFC 7692 §7.2.2).
    #[error("compressed message cannot be inflated")]
    InvalidDeflate,
    /// A Close frame has a payload of one byte, half a code (§5.5.1).
    #[error("close frame has half a code")]
    TruncatedCloseCode,
    /// A Close frame has a code that must not be sent (§7.4).
    #[error("close code {0} must not be sent")]
    IllegalCloseCode(
        /// The code as sent.
        u16,
    ),
    /// The reason in a Close frame is not UTF-8 (§5.5.1).
    #[error("close reason is not UTF-8")]
    CloseReasonNotUtf8,
}

impl ProtocolError {
    /// The code to close the connection with.
    #[must_use]
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::MessageTooBig { .. } => CloseCode::TOO_BIG,
            Self::InvalidUtf8 | Self::InvalidDeflate | Self::CloseReasonNotUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::Unmasked
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::UnexpectedContinuation
            | Self::InterruptedMessage
            | Self::NonMinimalLength
            | Self::LengthHighBit
            | Self::TruncatedCloseCode
            | Self::IllegalCloseCode(_) => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// A stable `snake_case` label for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode(_) => "reserved_opcode",
            Self::Unmasked => "unmasked",
            Self::FragmentedControl => "fragmented_control",
            Self::ControlTooLong => "control_too_long",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::InterruptedMessage => "interrupted_message",
            Self::NonMinimalLength => "non_minimal_length",
            Self::LengthHighBit => "length_high_bit",
            Self::MessageTooBig { .. } => "message_too_big",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidDeflate => "invalid_deflate",
            Self::TruncatedCloseCode => "truncated_close_code",
            Self::IllegalCloseCode(_) => "illegal_close_code",
            Self::CloseReasonNotUtf8 => "close_reason_not_utf8",
        }
    }
}
