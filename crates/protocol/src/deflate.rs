//! permessage-deflate (RFC 7692), without context takeover in either direction.
//!
//! No connection keeps a compressor: each message is compressed by itself, once, with the thread's own compressor, and
//! the bytes are shared by all receivers; what a client sends is inflated into a buffer that all connections of a thread
//! share. A client that asks for a smaller window than the usual 32 KiB is only sent compressed what fits into the window
//! it asked for, because no match in a message is farther away than the message is long; anything else it gets as it is.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error::ProtocolError;
use crate::frame::{Header, Opcode, RSV1, encode};
use crate::line::is_token;

/// The extension's name.
const NAME: &[u8] = b"permessage-deflate";

/// Payloads below this many bytes are sent as they are: they would hardly shrink.
pub const MIN_PAYLOAD: usize = 128;

/// What every compressed message ends with on its way through the compressor, and not on the wire (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The output an [`Inflater`] keeps between messages, in bytes.
const KEPT_OUTPUT: usize = 64 * 1024;

/// A negotiated permessage-deflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// 8 to 15: compressed messages refer back at most two to the power of this many bytes.
    server_window_bits: u8,
    /// The client asked for that, so the answer has to name it.
    asked: bool,
}

impl Deflate {
    /// The first acceptable offer in the values of the `Sec-WebSocket-Extensions` fields (§5, §7.1).
    pub(crate) fn negotiate<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        values.flat_map(|value| value.split(|byte| *byte == b',')).find_map(Self::read)
    }

    /// Reads one offer; `None` for another extension and for what §7.1 has declined.
    fn read(offer: &[u8]) -> Option<Self> {
        let mut parts = offer.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        if !parts.next()?.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut deflate = Self { server_window_bits: 15, asked: false };
        let mut seen = [false; 4];
        for parameter in parts {
            let (name, value) = match parameter.iter().position(|byte| *byte == b'=') {
                Some(at) => (
                    parameter[..at].trim_ascii_end(),
                    Some(unquoted(parameter[at + 1..].trim_ascii_start())?),
                ),
                None => (parameter, None),
            };
            let index = match (name, value) {
                (b"server_no_context_takeover", None) => 0,
                (b"client_no_context_takeover", None) => 1,
                // Whatever the client is able to limit itself to, it need not.
                (b"client_max_window_bits", None) => 2,
                (b"client_max_window_bits", Some(bits)) => {
                    window_bits(bits)?;
                    2
                }
                (b"server_max_window_bits", Some(bits)) => {
                    deflate.server_window_bits = window_bits(bits)?;
                    deflate.asked = true;
                    3
                }
                _ => return None,
            };
            if std::mem::replace(&mut seen[index], true) {
                return None;
            }
        }
        Some(deflate)
    }

    /// The value of the answer's `Sec-WebSocket-Extensions`.
    #[must_use]
    pub fn answer(&self) -> String {
        let mut answer =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if self.asked {
            answer.push_str(&format!("; server_max_window_bits={}", self.server_window_bits));
        }
        answer
    }

    /// 8 to 15: a message of at most two to the power of this many bytes may be sent compressed.
    #[must_use]
    pub const fn server_window_bits(&self) -> u8 {
        self.server_window_bits
    }
}

/// A value that may be a quoted string, of which only what is a token after unquoting is good here (RFC 6455 §9.1).
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    };
    is_token(inner).then_some(inner)
}

/// A decimal from 8 to 15 without leading zeros (§7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

thread_local! {
    /// About 300 KiB, made by the first message that a thread compresses.
    static COMPRESSOR: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

/// The compressed form of `frame`, which is one whole data frame as [`encode`] writes it.
///
/// `None` when it is no such frame, shorter than [`MIN_PAYLOAD`], or would not become smaller.
#[must_use]
pub fn compress(frame: &[u8]) -> Option<Vec<u8>> {
    let (opcode, payload) = data(frame)?;
    if payload.len() < MIN_PAYLOAD {
        return None;
    }
    let compressed = compress_within(opcode, payload)?;
    (compressed.len() < frame.len()).then_some(compressed)
}

/// As [`compress`], but however small the message is and whatever becomes of it, and with a window of just two to the
/// power of `window_bits` bytes: what a conformance suite is to see. A window of 8 bits, for which there is no compressor,
/// has to hold the whole message.
#[must_use]
pub fn compress_always(frame: &[u8], window_bits: u8) -> Option<Vec<u8>> {
    let (opcode, payload) = data(frame)?;
    match window_bits {
        9..15 => {
            let mut own = Compress::new_with_window_bits(Compression::fast(), false, window_bits);
            compress_with(&mut own, opcode, payload)
        }
        15 => compress_within(opcode, payload),
        _ if payload.len() <= 1 << 8 => compress_within(opcode, payload),
        _ => None,
    }
}

/// The most bytes that a compressor of ordinary quality makes of a message: with the fixed code, which fast ones use
/// whatever the data is, a byte above 143 takes nine bits (RFC 1951 §3.2.6).
pub(crate) const fn longest(message: usize) -> usize {
    message.saturating_add(message / 7 + 64)
}

/// Opcode and payload of a whole data frame as a server sends it.
fn data(frame: &[u8]) -> Option<(Opcode, &[u8])> {
    let (header, at) = Header::parse(frame).ok()??;
    let is_data = matches!(header.opcode, Opcode::Text | Opcode::Binary);
    (is_data && header.fin && header.mask.is_none()).then(|| (header.opcode, &frame[at..]))
}

fn compress_within(opcode: Opcode, payload: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        // Level 1: on messages of some hundred bytes of JSON the others win a few per cent for twice the time and more.
        let compressor = compressor.get_or_insert_with(|| Compress::new(Compression::fast(), false));
        compressor.reset();
        compress_with(compressor, opcode, payload)
    })
}

fn compress_with(compressor: &mut Compress, opcode: Opcode, payload: &[u8]) -> Option<Vec<u8>> {
    // Always enough: this compressor does not stand a full output everywhere.
    let mut out = Vec::with_capacity(longest(payload.len()));
    compressor.compress_vec(payload, &mut out, FlushCompress::Sync).ok()?;
    let whole = compressor.total_in() == payload.len() as u64 && out.len() < out.capacity();
    let compressed = out.strip_suffix(&TAIL).filter(|_| whole)?;
    let mut frame = Vec::new();
    encode(opcode, compressed, &mut frame);
    frame[0] |= RSV1;
    Some(frame)
}

/// Inflates one message after the other. Holds nothing until the first one.
#[derive(Debug, Default)]
pub struct Inflater {
    state: Option<Decompress>,
    output: Vec<u8>,
}

impl Inflater {
    /// An inflater that has not inflated anything. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: None, output: Vec::new() }
    }

    /// The message that `payload` is when inflated; never more than `max` bytes.
    ///
    /// # Errors
    /// [`ProtocolError::MessageTooBig`] as soon as there would be more, and [`ProtocolError::InvalidDeflate`].
    pub fn inflate(&mut self, payload: &[u8], max: usize) -> Result<&[u8], ProtocolError> {
        let state = self.state.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        self.output.clear();
        self.output.shrink_to(KEPT_OUTPUT);
        for mut input in [payload, &TAIL] {
            loop {
                if self.output.len() == self.output.capacity() {
                    if self.output.len() > max {
                        return Err(ProtocolError::MessageTooBig { max });
                    }
                    // Doubles, yet never by more than it takes to see that there is too much.
                    let room = max + 1 - self.output.len();
                    self.output.reserve_exact(self.output.len().max(1024).min(room));
                }
                let before = (state.total_in(), self.output.len());
                let status = state
                    .decompress_vec(input, &mut self.output, FlushDecompress::None)
                    .map_err(|_| ProtocolError::InvalidDeflate)?;
                let used = usize::try_from(state.total_in() - before.0).unwrap_or(usize::MAX);
                input = input.get(used..).unwrap_or_default();
                if status == Status::StreamEnd {
                    // The sender's last block said that it is the last (§7.2.3.4); what follows is a stream anew.
                    state.reset(false);
                }
                if input.is_empty() && self.output.len() < self.output.capacity() {
                    break;
                }
                if used == 0 && self.output.len() == before.1 && self.output.len() < self.output.capacity() {
                    return Err(ProtocolError::InvalidDeflate);
                }
            }
        }
        if self.output.len() > max {
            return Err(ProtocolError::MessageTooBig { max });
        }
        Ok(&self.output)
    }

    /// The heap memory held for output, in bytes.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.output.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(value: &str) -> Option<String> {
        Deflate::negotiate([value.as_bytes()].into_iter()).map(|deflate| deflate.answer())
    }

    const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn acceptable_offers_are_accepted_and_the_first_one_wins() {
        for offer in [
            "permessage-deflate",
            "Permessage-Deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=\"10\" ; server_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate; client_no_context_takeover",
            "permessage-deflate; unknown, permessage-deflate",
        ] {
            assert_eq!(negotiate(offer).as_deref(), Some(ANSWER), "{offer}");
        }
        for bits in 8..=15 {
            let answer = negotiate(&format!("permessage-deflate; server_max_window_bits={bits}"));
            assert_eq!(answer, Some(format!("{ANSWER}; server_max_window_bits={bits}")));
        }
    }

    #[test]
    fn other_and_malformed_offers_are_declined() {
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=x",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; ",
        ] {
            assert_eq!(negotiate(offer), None, "{offer}");
        }
    }

    fn text(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode(Opcode::Text, payload, &mut frame);
        frame
    }

    fn payload_of(frame: &[u8]) -> &[u8] {
        let (header, at) = Header::parse_with(frame, true).expect("a frame").expect("whole");
        assert!(header.compressed);
        &frame[at..]
    }

    #[test]
    fn what_is_compressed_inflates_to_itself() {
        let mut inflater = Inflater::new();
        for length in [128, 129, 1000, 65_535, 65_536, 300_000] {
            let payload: Vec<u8> = (0..length).map(|i| b"{\"percent\":\"88%\"}"[i % 17]).collect();
            let frame = compress(&text(&payload)).expect("compresses");
            assert_eq!(frame[0], 0xc1);
            assert!(frame.len() < payload.len());
            assert_eq!(inflater.inflate(payload_of(&frame), length).unwrap(), payload);
        }
    }

    #[test]
    fn small_incompressible_and_control_frames_are_left_alone() {
        assert_eq!(compress(&text(&[b'x'; MIN_PAYLOAD - 1])), None);
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56).to_le_bytes()[0]
        })
        .take(300_000)
        .collect();
        assert_eq!(compress(&text(&noise)), None);
        let mut ping = Vec::new();
        encode(Opcode::Ping, &[b'x'; 125], &mut ping);
        assert_eq!(compress(&ping), None);
        assert_eq!(compress_always(&ping, 15), None);
        let mut inflater = Inflater::new();
        for payload in [&b""[..], b"x", &noise] {
            for bits in 9..=15 {
                let frame = compress_always(&text(payload), bits).expect("always");
                assert_eq!(inflater.inflate(payload_of(&frame), 300_000), Ok(payload));
            }
        }
        assert_eq!(compress(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), None);
    }

    #[test]
    fn a_bomb_is_noticed_at_the_bound() {
        let bomb = compress(&text(&vec![b'x'; 16 << 20])).expect("compresses");
        let mut inflater = Inflater::new();
        for max in [0, 1, 1000, 65_536] {
            assert_eq!(
                inflater.inflate(payload_of(&bomb), max),
                Err(ProtocolError::MessageTooBig { max }),
                "{max}"
            );
            assert!(inflater.buffered() <= (max + 1).max(KEPT_OUTPUT));
        }
    }

    #[test]
    fn garbage_is_an_error_and_the_next_message_is_not_hurt() {
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&[0xff; 20], 1000), Err(ProtocolError::InvalidDeflate));
        // §7.2.3.1, §7.2.3.3 and §7.2.3.4: "Hello" in a fixed, a stored, and a last block.
        for hello in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        ] {
            assert_eq!(inflater.inflate(hello, 5), Ok(&b"Hello"[..]), "{hello:02x?}");
        }
        assert_eq!(inflater.inflate(&[0x00], 5), Ok(&b""[..]));
    }
}
