//! permessage-deflate: the decoder with an inflater on any bytes, and the compressor on any payload.

use doorbell_protocol::deflate::compress;
use doorbell_protocol::frame::encode;
use doorbell_protocol::{Decoder, Event, Inflater, Opcode, ProtocolError};

/// A stream means the same however it is cut, and no message is larger than the limit whatever it inflates to; and what
/// is compressed comes back as it was.
///
/// The first two bytes choose the message limit, the third the size of the pieces; the rest is the stream.
pub(crate) fn check(data: &[u8]) {
    let [high, low, piece, stream @ ..] = data else { return };
    let max_message = usize::from(u16::from_be_bytes([*high, *low]));
    let whole = decode(stream, stream.len().max(1), max_message);
    let pieces = decode(stream, usize::from(*piece).max(1), max_message);
    assert_eq!(whole, pieces, "the cut changed the meaning");
    round_trip(stream);
}

fn decode(stream: &[u8], piece: usize, max_message: usize) -> (Vec<String>, Result<(), ProtocolError>) {
    let (mut decoder, mut inflater) = (Decoder::new(), Inflater::new());
    let mut events = Vec::new();
    for piece in stream.chunks(piece) {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.next_inflating(&mut input, max_message, &mut inflater) {
                Ok(Some(event)) => {
                    events.push(format!("{event:?}"));
                    match event {
                        Event::Close { .. } => return (events, Ok(())),
                        Event::Message { data, .. } => {
                            assert!(data.len() <= max_message, "larger than the limit")
                        }
                        Event::Ping(_) | Event::Pong(_) => {}
                    }
                }
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
        assert!(input.is_empty(), "input is left");
    }
    (events, Ok(()))
}

fn round_trip(payload: &[u8]) {
    let mut stream = Vec::new();
    append_masked(payload, &mut stream);
    let (mut decoder, mut inflater) = (Decoder::new(), Inflater::new());
    let mut input = &mut stream[..];
    let event = decoder.next_inflating(&mut input, payload.len(), &mut inflater);
    let Ok(Some(Event::Message { data, .. })) = event else { panic!("{event:?}") };
    assert_eq!(data, payload);
}

/// Appends a client's binary message, compressed where that makes it smaller. The mask is zero, so that the payload stays.
pub(crate) fn append_masked(payload: &[u8], out: &mut Vec<u8>) {
    let mut frame = Vec::new();
    encode(Opcode::Binary, payload, &mut frame);
    let mut frame = compress(&frame).unwrap_or(frame);
    let header = match frame[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    frame[1] |= 0x80;
    out.extend_from_slice(&frame[..header]);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&frame[header..]);
}
