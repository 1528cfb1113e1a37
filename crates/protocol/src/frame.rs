//! WebSocket frames: the header of RFC 6455 §5.2, masking of §5.3, and frames as a server sends them.
//!
//! A server never fragments and never masks, so what it sends is two to ten bytes of header and the payload as it is,
//! or compressed by [`crate::deflate`]. The same bytes go to every receiver: encode once, share.

use crate::close::CloseCode;
use crate::error::ProtocolError;

/// The longest header a server sends, in bytes: two, and a 64-bit length.
pub const MAX_SERVER_HEADER: usize = 10;

/// The longest header a client sends, in bytes: two, a 64-bit length, and the mask.
pub const MAX_CLIENT_HEADER: usize = 14;

/// The longest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The longest reason in a Close frame, in bytes: a control payload less the code.
pub const MAX_CLOSE_REASON: usize = MAX_CONTROL_PAYLOAD - 2;

// RFC 6455 §5.2: first byte FIN RSV1 RSV2 RSV3 opcode(4), second byte MASK length(7).
const FIN: u8 = 0b1000_0000;
const RSV: u8 = 0b0111_0000;
/// Set in the first frame of a compressed message (RFC 7692 §6).
pub(crate) const RSV1: u8 = 0b0100_0000;
const OPCODE: u8 = 0b0000_1111;
const MASK: u8 = 0b1000_0000;
const LENGTH: u8 = 0b0111_1111;
/// In the seven bits of length: the length is in the next two bytes.
const LENGTH_16: u8 = 126;
/// In the seven bits of length: the length is in the next eight bytes.
const LENGTH_64: u8 = 127;

/// What a frame is (RFC 6455 §5.2 and §11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// A further fragment of the message under way.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The closing handshake.
    Close,
    /// Asks for a Pong with the same payload.
    Ping,
    /// Answers a Ping, or comes unasked as a sign of life.
    Pong,
}

impl Opcode {
    /// Whether this is Close, Ping or Pong: short, unfragmented, allowed inside a fragmented message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    /// The four bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the last frame of its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The masking key, present in every frame of a client and in none of a server.
    pub mask: Option<[u8; 4]>,
    /// The declared length of the payload, in bytes; below 2^63.
    pub payload_len: u64,
    /// Whether the message that begins with it is compressed (RFC 7692 §6).
    pub compressed: bool,
}

impl Header {
    /// Reads a header from the start of `bytes`, and how many bytes it takes.
    ///
    /// Neither side's rule about masking is applied here. `None` when more bytes are needed. What the bytes
    /// present already violate is reported at once, and the same error would come with more bytes.
    ///
    /// # Errors
    /// Any violation that shows in one header alone: reserved bits and opcodes, control frames that are
    /// fragmented or long, lengths that are not minimal or have the highest bit set.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        Self::parse_with(bytes, false)
    }

    /// As [`parse`](Self::parse); with `deflate`, RSV1 may mark the first frame of a data message as compressed.
    pub(crate) fn parse_with(bytes: &[u8], deflate: bool) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let compressed = first & RSV == RSV1
            && deflate
            && matches!(Opcode::from_bits(first & OPCODE), Some(Opcode::Text | Opcode::Binary));
        if first & RSV != 0 && !compressed {
            return Err(ProtocolError::ReservedBits);
        }
        let fin = first & FIN != 0;
        let bits = first & OPCODE;
        let opcode = Opcode::from_bits(bits).ok_or(ProtocolError::ReservedOpcode(bits))?;
        if opcode.is_control() && !fin {
            return Err(ProtocolError::FragmentedControl);
        }

        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let short = second & LENGTH;
        if opcode.is_control() && short >= LENGTH_16 {
            return Err(ProtocolError::ControlTooLong);
        }
        let (payload_len, at) = match short {
            LENGTH_16 => {
                let Some(long) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*long)), 4)
            }
            LENGTH_64 => {
                let Some(long) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*long), 10)
            }
            short => (u64::from(short), 2),
        };
        if payload_len >> 63 != 0 {
            return Err(ProtocolError::LengthHighBit);
        }
        let shortest = match payload_len {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        if at != shortest {
            return Err(ProtocolError::NonMinimalLength);
        }

        if second & MASK == 0 {
            return Ok(Some((Self { fin, opcode, mask: None, payload_len, compressed }, at)));
        }
        let Some(mask) = bytes[at..].first_chunk() else { return Ok(None) };
        Ok(Some((Self { fin, opcode, mask: Some(*mask), payload_len, compressed }, at + 4)))
    }
}

/// Writes a server's header to the start of `out` and returns its length, in bytes.
///
/// FIN is set, there is no mask, and the length is in its shortest form. A control frame's payload must be
/// at most [`MAX_CONTROL_PAYLOAD`] bytes.
pub fn encode_header(opcode: Opcode, payload_len: usize, out: &mut [u8; MAX_SERVER_HEADER]) -> usize {
    debug_assert!(!opcode.is_control() || payload_len <= MAX_CONTROL_PAYLOAD, "control payload too long");
    let length = (payload_len as u64).to_be_bytes();
    out[0] = FIN | opcode.bits();
    match payload_len {
        0..=125 => {
            out[1] = length[7];
            2
        }
        126..=0xffff => {
            out[1] = LENGTH_16;
            out[2..4].copy_from_slice(&length[6..]);
            4
        }
        _ => {
            out[1] = LENGTH_64;
            out[2..].copy_from_slice(&length);
            10
        }
    }
}

/// Appends one whole frame as a server sends it: unfragmented and unmasked.
///
/// A control frame's payload must be at most [`MAX_CONTROL_PAYLOAD`] bytes.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let mut header = [0; MAX_SERVER_HEADER];
    let header_len = encode_header(opcode, payload.len(), &mut header);
    out.reserve(header_len + payload.len());
    out.extend_from_slice(&header[..header_len]);
    out.extend_from_slice(payload);
}

/// Appends a Close frame. The reason is cut, between characters, to [`MAX_CLOSE_REASON`] bytes.
///
/// `code` must be [legal on the wire](CloseCode::is_legal_on_wire).
pub fn encode_close(code: CloseCode, reason: &str, out: &mut Vec<u8>) {
    debug_assert!(code.is_legal_on_wire(), "close code must not be sent");
    let reason = &reason[..reason.floor_char_boundary(MAX_CLOSE_REASON)];
    let mut payload = [0; MAX_CONTROL_PAYLOAD];
    let payload_len = 2 + reason.len();
    payload[..2].copy_from_slice(&code.0.to_be_bytes());
    payload[2..payload_len].copy_from_slice(reason.as_bytes());
    encode(Opcode::Close, &payload[..payload_len], out);
}

/// Masks or unmasks, in place, a part of a payload that starts `offset` bytes into it (RFC 6455 §5.3).
pub fn unmask(payload: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    // Whole words leave the key where it was: the rest starts with its first byte.
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(opcode, payload, &mut out);
        out
    }

    #[test]
    fn text_frames_are_as_the_first_server_sent_them() {
        let line = br#"{"uid":"uid1","percent":"88%"}"#;
        let frame = encoded(Opcode::Text, line);
        assert_eq!(frame[..2], [0x81, 0x1e]);
        assert_eq!(&frame[2..], line);
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        assert_eq!(encoded(Opcode::Text, &[b'x'; 125])[..3], [0x81, 125, b'x']);
        assert_eq!(encoded(Opcode::Text, &[b'x'; 126])[..5], [0x81, 126, 0, 126, b'x']);
        assert_eq!(encoded(Opcode::Text, &[b'x'; 65_535])[..5], [0x81, 126, 0xff, 0xff, b'x']);
        let long = encoded(Opcode::Binary, &[b'x'; 65_536]);
        assert_eq!(long[..11], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0, b'x']);
    }

    #[test]
    fn every_header_is_read_back() {
        for opcode in
            [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong]
        {
            for len in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40] {
                if opcode.is_control() && len > MAX_CONTROL_PAYLOAD {
                    continue;
                }
                let mut bytes = [0; MAX_SERVER_HEADER];
                let n = encode_header(opcode, len, &mut bytes);
                for short in 0..n {
                    assert_eq!(Header::parse(&bytes[..short]), Ok(None));
                }
                let header =
                    Header { fin: true, opcode, mask: None, payload_len: len as u64, compressed: false };
                assert_eq!(Header::parse(&bytes[..n]), Ok(Some((header, n))));
            }
        }
    }

    #[test]
    fn close_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        encode_close(CloseCode::NORMAL, "", &mut out);
        assert_eq!(out, [0x88, 2, 0x03, 0xe8]);

        out.clear();
        // 61 two-byte characters are 122 bytes: the 62nd would end at 124.
        encode_close(CloseCode::KICKED, &"é".repeat(100), &mut out);
        assert_eq!(out[..4], [0x88, 124, 0x0d, 0xad]);
        assert_eq!(&out[4..], "é".repeat(61).as_bytes());
    }

    #[test]
    fn unmasking_goes_on_at_any_offset() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..=255).collect();
        let mut masked = plain.clone();
        for (i, byte) in masked.iter_mut().enumerate() {
            *byte ^= mask[i % 4];
        }
        for split in 0..64 {
            let mut copy = masked.clone();
            let (left, right) = copy.split_at_mut(split);
            unmask(left, mask, 0);
            unmask(right, mask, split);
            assert_eq!(copy, plain, "split at {split}");
        }
    }
}
