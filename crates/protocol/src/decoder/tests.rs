//! The decoder against hand-made frames, each violation, and random streams in random pieces.

use proptest::prelude::*;

use super::*;
use crate::frame::encode_header;

const MAX: usize = 70_000;

/// An event that owns its bytes.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Said {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message { kind: MessageKind::Text, data } => Self::Text(data.to_vec()),
            Event::Message { kind: MessageKind::Binary, data } => Self::Binary(data.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close { code, reason } => Self::Close(code.map(|code| code.0), reason.to_owned()),
        }
    }
}

/// A client's frame, masked.
fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut header = [0; 10];
    // A length that only a data frame may have is encoded as one, for the tests of that violation.
    let len = encode_header(Opcode::Text, payload.len(), &mut header);
    header[0] = (if fin { 0x80 } else { 0 }) | opcode.bits();
    header[1] |= 0x80;
    let mut out = [&header[..len], &mask, payload].concat();
    unmask(&mut out[len + 4..], mask, 0);
    out
}

/// Feeds the pieces one after another and says what came out, up to the first error.
fn feed<'p>(
    decoder: &mut Decoder,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Said>, Result<(), ProtocolError>) {
    let mut said = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.next(&mut input, MAX) {
                Ok(Some(event)) => said.push(event.into()),
                Ok(None) => break,
                Err(error) => return (said, Err(error)),
            }
            assert!(decoder.buffered() <= MAX + size_of::<Partial>());
        }
        assert!(input.is_empty(), "all input is taken");
        assert_eq!(decoder.is_idle(), decoder.buffered() == 0);
    }
    (said, Ok(()))
}

fn decode(stream: &[u8]) -> (Vec<Said>, Result<(), ProtocolError>) {
    feed(&mut Decoder::new(), [stream])
}

/// Decodes the stream whole and byte by byte, which must fail alike, and returns the error.
fn error(stream: &[u8]) -> ProtocolError {
    let whole = decode(stream);
    assert_eq!(whole, feed(&mut Decoder::new(), stream.chunks(1)));
    whole.1.expect_err("a violation")
}

#[test]
fn an_idle_decoder_is_one_empty_pointer() {
    assert!(size_of::<Decoder>() <= 16);
    let mut decoder = Decoder::new();
    assert!(decoder.is_idle());
    let (said, _) = feed(&mut decoder, [&frame(true, Opcode::Text, b"hello")[..]]);
    assert_eq!(said, [Said::Text(b"hello".to_vec())]);
    assert!(decoder.is_idle());
}

#[test]
fn a_whole_frame_is_lent_from_the_input() {
    let mut bytes = frame(true, Opcode::Text, b"hello");
    let place = bytes[6..].as_ptr();
    let mut decoder = Decoder::new();
    let mut input = &mut bytes[..];
    let Ok(Some(Event::Message { data, .. })) = decoder.next(&mut input, MAX) else { panic!("a message") };
    assert_eq!(data.as_ptr(), place);
    assert!(decoder.is_idle());
}

#[test]
fn a_message_in_pieces_is_held_until_the_call_after_its_delivery() {
    let bytes = frame(true, Opcode::Binary, &[7; 1000]);
    let mut decoder = Decoder::new();
    assert_eq!(feed(&mut decoder, [&bytes[..500]]), (vec![], Ok(())));
    assert!(!decoder.is_idle());
    // What has arrived is held, not what is declared.
    assert!(decoder.buffered() < 500 + size_of::<Partial>());
    let mut rest = bytes[500..].to_vec();
    let mut input = &mut rest[..];
    let Ok(Some(Event::Message { data, .. })) = decoder.next(&mut input, MAX) else { panic!("a message") };
    assert_eq!(data, [7; 1000]);
    assert_eq!(decoder.next(&mut input, MAX), Ok(None));
    assert!(decoder.is_idle());
}

#[test]
fn a_payload_that_comes_whole_after_its_header_leaves_nothing_behind() {
    let bytes = frame(true, Opcode::Text, b"hello");
    let mut decoder = Decoder::new();
    for _ in 0..2 {
        assert_eq!(feed(&mut decoder, [&bytes[..6]]), (vec![], Ok(())));
        assert!(!decoder.is_idle());
        assert_eq!(feed(&mut decoder, [&bytes[6..]]).0, [Said::Text(b"hello".to_vec())]);
        assert!(decoder.is_idle());
    }
}

#[test]
fn control_frames_between_fragments_are_delivered_at_once() {
    let stream = [
        frame(false, Opcode::Text, b"ui"),
        frame(true, Opcode::Ping, b"p"),
        frame(false, Opcode::Continuation, b""),
        frame(true, Opcode::Pong, b""),
        frame(true, Opcode::Continuation, b"d1"),
        frame(true, Opcode::Close, b"\x03\xe8bye"),
    ]
    .concat();
    let expected = [
        Said::Ping(b"p".to_vec()),
        Said::Pong(vec![]),
        Said::Text(b"uid1".to_vec()),
        Said::Close(Some(1000), "bye".to_owned()),
    ];
    assert_eq!(decode(&stream), (expected.to_vec(), Ok(())));
    for len in 1..stream.len() {
        let mut decoder = Decoder::new();
        let pieces = stream.chunks(len);
        assert_eq!(feed(&mut decoder, pieces), (expected.to_vec(), Ok(())), "in pieces of {len}");
        assert!(decoder.is_idle());
    }
}

#[test]
fn characters_may_be_split_between_fragments() {
    let text = "微信😀é".as_bytes();
    for at in 0..text.len() {
        let stream =
            [frame(false, Opcode::Text, &text[..at]), frame(true, Opcode::Continuation, &text[at..])]
                .concat();
        assert_eq!(decode(&stream).0, [Said::Text(text.to_vec())]);
    }
}

#[test]
fn binary_messages_need_not_be_utf8() {
    let stream = [frame(false, Opcode::Binary, b"\xff"), frame(true, Opcode::Continuation, b"\xc0")].concat();
    assert_eq!(decode(&stream).0, [Said::Binary(vec![0xff, 0xc0])]);
    assert_eq!(decode(&frame(true, Opcode::Binary, b"\xff")).0, [Said::Binary(vec![0xff])]);
}

#[test]
fn an_empty_close_has_no_code() {
    assert_eq!(decode(&frame(true, Opcode::Close, b"")).0, [Said::Close(None, String::new())]);
}

#[test]
fn each_violation_has_its_error_code_and_label() {
    let text = |payload: &[u8]| frame(true, Opcode::Text, payload);
    let with_first = |byte: u8| [&[byte][..], &text(b"")[1..]].concat();
    let start = frame(false, Opcode::Text, b"a");
    let cases = [
        (with_first(0xc1), ProtocolError::ReservedBits, 1002, "reserved_bits"),
        (with_first(0xa1), ProtocolError::ReservedBits, 1002, "reserved_bits"),
        (with_first(0x91), ProtocolError::ReservedBits, 1002, "reserved_bits"),
        (with_first(0x83), ProtocolError::ReservedOpcode(3), 1002, "reserved_opcode"),
        (with_first(0x8b), ProtocolError::ReservedOpcode(11), 1002, "reserved_opcode"),
        (vec![0x81, 0x01, b'a'], ProtocolError::Unmasked, 1002, "unmasked"),
        (frame(false, Opcode::Ping, b""), ProtocolError::FragmentedControl, 1002, "fragmented_control"),
        (frame(true, Opcode::Ping, &[0; 126]), ProtocolError::ControlTooLong, 1002, "control_too_long"),
        (frame(true, Opcode::Close, &[0; 70_000]), ProtocolError::ControlTooLong, 1002, "control_too_long"),
        (
            frame(true, Opcode::Continuation, b"a"),
            ProtocolError::UnexpectedContinuation,
            1002,
            "unexpected_continuation",
        ),
        (
            [start.clone(), text(b"b")].concat(),
            ProtocolError::InterruptedMessage,
            1002,
            "interrupted_message",
        ),
        (vec![0x81, 0xfe, 0, 125], ProtocolError::NonMinimalLength, 1002, "non_minimal_length"),
        (
            vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            ProtocolError::NonMinimalLength,
            1002,
            "non_minimal_length",
        ),
        (vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], ProtocolError::LengthHighBit, 1002, "length_high_bit"),
        (
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x71, 1, 2, 3, 4],
            ProtocolError::MessageTooBig { max: MAX },
            1009,
            "message_too_big",
        ),
        (
            [start, frame(false, Opcode::Continuation, &[b'a'; MAX])].concat(),
            ProtocolError::MessageTooBig { max: MAX },
            1009,
            "message_too_big",
        ),
        (text(b"\xff"), ProtocolError::InvalidUtf8, 1007, "invalid_utf8"),
        (text(b"\xed\xa0\x80"), ProtocolError::InvalidUtf8, 1007, "invalid_utf8"),
        (text("é".as_bytes().split_last().unwrap().1), ProtocolError::InvalidUtf8, 1007, "invalid_utf8"),
        (
            frame(true, Opcode::Close, b"\x03"),
            ProtocolError::TruncatedCloseCode,
            1002,
            "truncated_close_code",
        ),
        (
            frame(true, Opcode::Close, b"\x03\xed"),
            ProtocolError::IllegalCloseCode(1005),
            1002,
            "illegal_close_code",
        ),
        (
            frame(true, Opcode::Close, b"\x03\xe8\xff"),
            ProtocolError::CloseReasonNotUtf8,
            1007,
            "close_reason_not_utf8",
        ),
    ];
    for (stream, expected, code, reason) in cases {
        assert_eq!(error(&stream), expected);
        assert_eq!(expected.close_code(), CloseCode(code));
        assert_eq!(expected.reason(), reason);
    }
}

#[test]
fn text_is_refused_at_its_first_bad_byte() {
    // The frame declares 60,000 bytes; the first 4 to arrive already cannot be text.
    let whole = frame(true, Opcode::Text, &[&b"ok\xf4\x90"[..], &[b'a'; 59_996]].concat());
    let mut decoder = Decoder::new();
    assert_eq!(feed(&mut decoder, [&whole[..8 + 3]]), (vec![], Ok(())));
    assert_eq!(feed(&mut decoder, [&whole[8 + 3..8 + 4]]).1, Err(ProtocolError::InvalidUtf8));

    // A fragment may end inside a character; the next must go on with it.
    let stream = [frame(false, Opcode::Text, b"\xe5"), frame(false, Opcode::Continuation, b"a")].concat();
    assert_eq!(error(&stream), ProtocolError::InvalidUtf8);
}

#[test]
fn the_limit_is_on_the_message_and_inclusive() {
    let at_limit = [frame(false, Opcode::Text, &[b'a'; 30_000]), {
        frame(true, Opcode::Continuation, &[b'b'; MAX - 30_000])
    }]
    .concat();
    assert!(matches!(&decode(&at_limit).0[..], [Said::Text(text)] if text.len() == MAX));
    assert!(matches!(&decode(&frame(true, Opcode::Text, &[b'a'; MAX])).0[..], [Said::Text(_)]));
    // Control frames do not count.
    let mut decoder = Decoder::new();
    let mut ping = frame(true, Opcode::Ping, &[1; 125]);
    assert_eq!(decoder.next(&mut &mut ping[..], 0), Ok(Some(Event::Ping(&[1; 125]))));
}

/// One thing a client says, and where it cuts what it says into frames.
fn message() -> impl Strategy<Value = (Said, Vec<usize>)> {
    let payload = |max| prop::collection::vec(any::<u8>(), 0..max);
    let said = prop_oneof![
        4 => "\\PC{0,200}".prop_map(|text| Said::Text(text.into_bytes())),
        4 => payload(300).prop_map(Said::Binary),
        1 => (60_000..MAX).prop_map(|len| Said::Binary(vec![b'x'; len])),
    ];
    (said, prop::collection::vec(0..300_usize, 0..5))
}

fn control() -> impl Strategy<Value = Said> {
    let payload = || prop::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![payload().prop_map(Said::Ping), payload().prop_map(Said::Pong)]
}

/// A stream of messages in random fragments, with control frames between them, and what it says in order.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<Said>)> {
    prop::collection::vec((message(), prop::collection::vec(control(), 0..3)), 0..6).prop_map(|messages| {
        let (mut bytes, mut said) = (Vec::new(), Vec::new());
        for ((message, mut cuts), controls) in messages {
            let (mut opcode, payload) = match &message {
                Said::Text(payload) => (Opcode::Text, payload),
                Said::Binary(payload) => (Opcode::Binary, payload),
                other => panic!("{other:?} is no message"),
            };
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(payload.len()));
            cuts.sort_unstable();
            let mut controls = controls.into_iter();
            let mut start = 0;
            for cut in cuts {
                bytes.extend(frame(false, opcode, &payload[start..cut]));
                (opcode, start) = (Opcode::Continuation, cut);
                if let Some(control) = controls.next() {
                    match &control {
                        Said::Ping(payload) => bytes.extend(frame(true, Opcode::Ping, payload)),
                        Said::Pong(payload) => bytes.extend(frame(true, Opcode::Pong, payload)),
                        other => panic!("{other:?} is not between fragments"),
                    }
                    said.push(control);
                }
            }
            bytes.extend(frame(true, opcode, &payload[start..]));
            said.push(message);
        }
        (bytes, said)
    })
}

proptest! {
    #[test]
    fn what_a_client_says_is_heard_however_it_is_cut(
        (bytes, said) in stream(),
        cuts in prop::collection::vec(1..500_usize, 1..20),
    ) {
        let mut decoder = Decoder::new();
        prop_assert_eq!(decode(&bytes), (said.clone(), Ok(())));

        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(feed(&mut decoder, pieces), (said, Ok(())));
        prop_assert!(decoder.is_idle());
    }
}
