//! The WebSocket decoder, on any bytes.

use doorbell_protocol::{Decoder, Event, ProtocolError};

/// What a decoder may hold beyond the message limit, in bytes: its own state.
const STATE: usize = 512;

/// A stream means the same however it is cut, and never costs more memory than the limit.
///
/// The first two bytes choose the message limit, the third the size of the pieces; the rest is the stream.
pub(crate) fn check(data: &[u8]) {
    let [high, low, piece, stream @ ..] = data else { return };
    let max_message = usize::from(u16::from_be_bytes([*high, *low]));
    let whole = decode(stream, stream.len().max(1), max_message);
    let pieces = decode(stream, usize::from(*piece).max(1), max_message);
    assert_eq!(whole, pieces, "the cut changed the meaning");
}

fn decode(stream: &[u8], piece: usize, max_message: usize) -> (Vec<String>, Result<(), ProtocolError>) {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for piece in stream.chunks(piece) {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            let closed = match decoder.next(&mut input, max_message) {
                Ok(Some(event)) => {
                    events.push(format!("{event:?}"));
                    matches!(event, Event::Close { .. })
                }
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            };
            if closed {
                return (events, Ok(()));
            }
            assert!(decoder.buffered() <= max_message + STATE, "too much is held");
        }
        assert!(input.is_empty(), "input is left");
        assert!(decoder.buffered() <= max_message + STATE, "too much is held");
    }
    (events, Ok(()))
}
