//! The WebSocket stream of one client, decoded as it arrives (RFC 6455 §5, server side).
//!
//! A [`Decoder`] between messages is one empty pointer. Frames that lie whole in the bytes just read are
//! unmasked there and lent out; only a frame or message that ends in a later read is copied, into a
//! buffer that is freed when the message is done. Memory grows with the bytes that have arrived, not
//! with the length a header declares.

use std::mem;

use crate::close::CloseCode;
use crate::deflate::{Inflater, longest};
use crate::error::ProtocolError;
use crate::frame::{Header, MAX_CLIENT_HEADER, MAX_CONTROL_PAYLOAD, Opcode, unmask};

/// How a message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 text, verified.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// What a client said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// One whole message, put together from its fragments.
    Message {
        /// How it was sent.
        kind: MessageKind,
        /// The payload; valid UTF-8 when `kind` is [`MessageKind::Text`].
        data: &'a [u8],
    },
    /// A Ping and its payload, at most 125 bytes, which a Pong must carry back (§5.5.2).
    Ping(&'a [u8]),
    /// A Pong and its payload, at most 125 bytes.
    Pong(&'a [u8]),
    /// The client closes: nothing after this is to be read (§5.5.1).
    Close {
        /// The code, legal on the wire; `None` when the frame was empty.
        code: Option<CloseCode>,
        /// The reason, at most 123 bytes, often empty.
        reason: &'a str,
    },
}

/// Decodes what one client sends. One pointer in size, and without a buffer between messages.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What has arrived of a message or frame that is not complete; `None` between messages.
    partial: Option<Box<Partial>>,
}

impl Decoder {
    /// A decoder at the start of a stream. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// Whether the decoder is between messages and holds no memory.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// The heap memory held, in bytes: 0 when idle, else at most the message limit and a small constant.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            size_of::<Partial>() + partial.message.as_ref().map_or(0, |message| message.data.capacity())
        })
    }

    /// Takes the next event out of `input`, advancing it past the bytes used.
    ///
    /// `None` when all of `input` is taken and the rest of a frame, if any, is remembered. The event borrows
    /// from `input` when its frame lies there whole, else from the decoder, which gives that memory back on
    /// the next call. So a caller asks until `None`, or until [`Event::Close`], after which it stops.
    ///
    /// `max_message` bounds the payload of one message in bytes, over all its fragments.
    ///
    /// # Errors
    /// Any [`ProtocolError`]. The stream is then beyond repair and the decoder must not be used again.
    pub fn next<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i mut [u8],
        max_message: usize,
    ) -> Result<Option<Event<'e>>, ProtocolError> {
        self.forget_delivered();
        match self.advance(input, Rules { max_message, deflate: false })? {
            Step::Blocked => Ok(None),
            Step::InPlace(frame, payload) => event(frame.opcode, payload).map(Some),
            Step::Kept(partial, opcode) => partial.event(opcode).map(Some),
        }
    }

    /// As [`next`](Self::next), where permessage-deflate was negotiated: a compressed message is inflated, to at most
    /// `max_message` bytes, and then borrows from `inflater`.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_inflating<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i mut [u8],
        max_message: usize,
        inflater: &'e mut Inflater,
    ) -> Result<Option<Event<'e>>, ProtocolError> {
        self.forget_delivered();
        match self.advance(input, Rules { max_message, deflate: true })? {
            Step::Blocked => Ok(None),
            Step::InPlace(Frame { opcode, compressed: true, .. }, payload) => {
                event(opcode, inflater.inflate(payload, max_message)?).map(Some)
            }
            Step::InPlace(frame, payload) => event(frame.opcode, payload).map(Some),
            Step::Kept(partial, opcode) => match &partial.message {
                Some(Message { kind, data, compressed: true, .. }) if !opcode.is_control() => {
                    event(kind.opcode(), inflater.inflate(data, max_message)?).map(Some)
                }
                _ => partial.event(opcode).map(Some),
            },
        }
    }

    /// Frees what the event returned by the previous call borrowed.
    fn forget_delivered(&mut self) {
        let Some(partial) = &mut self.partial else { return };
        match partial.delivered {
            Delivered::Nothing => {}
            Delivered::Message => self.partial = None,
            Delivered::Control => {
                partial.delivered = Delivered::Nothing;
                partial.control_len = 0;
                self.forget_unless_in_message();
            }
        }
    }

    fn forget_unless_in_message(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.message.is_none()) {
            self.partial = None;
        }
    }

    /// Reads frames until one completes an event or the input ends.
    fn advance<'d, 'i>(
        &'d mut self,
        input: &mut &'i mut [u8],
        rules: Rules,
    ) -> Result<Step<'d, 'i>, ProtocolError> {
        let opcode = loop {
            let under_way = self.partial.as_mut().and_then(|partial| partial.frame.take());
            let frame = match under_way {
                Some(frame) => frame,
                None => match self.read_header(input, rules)? {
                    Some(frame) => frame,
                    None => return Ok(Step::Blocked),
                },
            };

            let single = frame.opcode.is_control() || (frame.fin && frame.opcode != Opcode::Continuation);
            if single && frame.taken == 0 && frame.len <= input.len() {
                let payload = take(input, frame.len);
                unmask(payload, frame.mask, 0);
                // Only a header that came in pieces, or the message around a control frame, was kept.
                self.forget_unless_in_message();
                return Ok(Step::InPlace(frame, payload));
            }

            match self.partial.get_or_insert_default().take_payload(frame, input, rules)? {
                Progress::Blocked => return Ok(Step::Blocked),
                Progress::Frame => {}
                Progress::Event => break frame.opcode,
            }
        };
        // There already: the loop ends only with a payload in it.
        Ok(Step::Kept(self.partial.get_or_insert_default(), opcode))
    }

    /// Reads the header of the next frame and checks it against the message under way.
    fn read_header(&mut self, input: &mut &mut [u8], rules: Rules) -> Result<Option<Frame>, ProtocolError> {
        let Rules { max_message, deflate } = rules;
        let header = match &mut self.partial {
            Some(partial) if partial.header_len > 0 => partial.complete_header(input, deflate)?,
            _ => match Header::parse_with(input, deflate)? {
                Some((header, len)) => {
                    take(input, len);
                    Some(header)
                }
                None if input.is_empty() => None,
                None => self.partial.get_or_insert_default().complete_header(input, deflate)?,
            },
        };
        let Some(header) = header else { return Ok(None) };

        let mask = header.mask.ok_or(ProtocolError::Unmasked)?;
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let room = match (header.opcode, message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => MAX_CONTROL_PAYLOAD,
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::InterruptedMessage),
            (Opcode::Continuation, Some(message)) => {
                rules.longest(message.compressed).saturating_sub(message.data.len())
            }
            (Opcode::Text | Opcode::Binary, None) => rules.longest(header.compressed),
        };
        let len = usize::try_from(header.payload_len)
            .ok()
            .filter(|len| *len <= room)
            .ok_or(ProtocolError::MessageTooBig { max: max_message })?;
        let Header { fin, opcode, compressed, .. } = header;
        Ok(Some(Frame { fin, opcode, compressed, mask, len, taken: 0 }))
    }
}

/// What holds for a stream.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// Bytes of payload in one message, as it was before it was compressed.
    max_message: usize,
    /// permessage-deflate was negotiated.
    deflate: bool,
}

impl Rules {
    /// The most bytes a message may have on the wire.
    const fn longest(self, compressed: bool) -> usize {
        match compressed {
            true => longest(self.max_message),
            false => self.max_message,
        }
    }
}

/// How far the input brought the stream.
enum Step<'d, 'i> {
    /// All input is taken and no event is complete.
    Blocked,
    /// A frame lay whole in the input; its payload is unmasked there.
    InPlace(Frame, &'i [u8]),
    /// A control payload, or a message, is complete in the [`Partial`]. The opcode is that of its last frame.
    Kept(&'d Partial, Opcode),
}

/// What taking payload out of the input completed.
enum Progress {
    /// Nothing: all input is taken.
    Blocked,
    /// A frame, and its message goes on.
    Frame,
    /// A control frame, or the last one of a message.
    Event,
}

/// A frame whose header has been read and accepted.
#[derive(Debug, Clone, Copy)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    /// It begins a compressed message.
    compressed: bool,
    mask: [u8; 4],
    /// Bytes of payload, within the limit.
    len: usize,
    /// Bytes of payload taken out of the input so far.
    taken: usize,
}

/// What the last event returned to the caller borrows from the [`Partial`].
#[derive(Debug, Default, Clone, Copy)]
enum Delivered {
    #[default]
    Nothing,
    Control,
    Message,
}

/// What has arrived of something incomplete. At most one of header bytes, frame and delivery is set.
#[derive(Debug)]
struct Partial {
    /// The first `header_len` bytes are the start of a header.
    header: [u8; MAX_CLIENT_HEADER],
    header_len: u8,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// The data message under way, from its first byte of payload to its delivery.
    message: Option<Message>,
    /// The first `control_len` bytes are the payload of the control frame under way.
    control: [u8; MAX_CONTROL_PAYLOAD],
    control_len: u8,
    delivered: Delivered,
}

impl Default for Partial {
    fn default() -> Self {
        Self {
            header: [0; MAX_CLIENT_HEADER],
            header_len: 0,
            frame: None,
            message: None,
            control: [0; MAX_CONTROL_PAYLOAD],
            control_len: 0,
            delivered: Delivered::Nothing,
        }
    }
}

impl Partial {
    /// Moves bytes from the input until they make a header. `None` when the input ends first.
    fn complete_header(
        &mut self,
        input: &mut &mut [u8],
        deflate: bool,
    ) -> Result<Option<Header>, ProtocolError> {
        while let [byte, ..] = **input {
            take(input, 1);
            self.header[usize::from(self.header_len)] = byte;
            self.header_len += 1;
            // A header is complete at 14 bytes at the latest, so the index above stays inside.
            let bytes = &self.header[..usize::from(self.header_len)];
            if let Some((header, _)) = Header::parse_with(bytes, deflate)? {
                self.header_len = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Moves what the input has of the frame's payload into the message or the control payload.
    fn take_payload(
        &mut self,
        mut frame: Frame,
        input: &mut &mut [u8],
        rules: Rules,
    ) -> Result<Progress, ProtocolError> {
        if input.is_empty() && frame.taken < frame.len {
            // Nothing but the header is here: the payload may yet come whole, and then stays in place.
            self.frame = Some(frame);
            return Ok(Progress::Blocked);
        }
        let missing = frame.len - frame.taken;
        let payload = take(input, missing.min(input.len()));
        unmask(payload, frame.mask, frame.taken);
        frame.taken += payload.len();
        let complete = frame.taken == frame.len;

        if frame.opcode.is_control() {
            let start = usize::from(self.control_len);
            self.control[start..start + payload.len()].copy_from_slice(payload);
            self.control_len = u8::try_from(frame.taken).expect("a control payload is at most 125 bytes");
        } else {
            let kind = if frame.opcode == Opcode::Binary { MessageKind::Binary } else { MessageKind::Text };
            // A continuation finds the message its first frame made, and leaves the kind alone.
            let message = self.message.get_or_insert_with(|| Message::new(kind, frame.compressed));
            let longest = rules.longest(message.compressed);
            let limit = if frame.fin { message.data.len() + missing } else { longest };
            message.append(payload, limit);
            message.check_utf8(complete && frame.fin)?;
        }

        if !complete {
            self.frame = Some(frame);
            return Ok(Progress::Blocked);
        }
        self.delivered = match (frame.opcode.is_control(), frame.fin) {
            (true, _) => Delivered::Control,
            (false, true) => Delivered::Message,
            (false, false) => return Ok(Progress::Frame),
        };
        Ok(Progress::Event)
    }

    /// The event that the frame just completed makes.
    fn event(&self, opcode: Opcode) -> Result<Event<'_>, ProtocolError> {
        match &self.message {
            Some(Message { kind, data, .. }) if !opcode.is_control() => {
                Ok(Event::Message { kind: *kind, data })
            }
            _ => event(opcode, &self.control[..usize::from(self.control_len)]),
        }
    }
}

/// A data message that is being put together.
#[derive(Debug)]
struct Message {
    kind: MessageKind,
    /// `data` has yet to be inflated.
    compressed: bool,
    data: Vec<u8>,
    /// `data` up to here is whole characters of valid UTF-8. Stays 0 in a binary message.
    valid_up_to: usize,
}

impl Message {
    const fn new(kind: MessageKind, compressed: bool) -> Self {
        Self { kind, compressed, data: Vec::new(), valid_up_to: 0 }
    }

    /// Appends bytes, growing by doubling as a `Vec` does, yet never past `limit`: the final size when it is
    /// known, else the most a message may have.
    fn append(&mut self, bytes: &[u8], limit: usize) {
        let needed = self.data.len() + bytes.len();
        if needed > self.data.capacity() {
            let capacity = self.data.capacity().saturating_mul(2).min(limit).max(needed);
            self.data.reserve_exact(capacity - self.data.len());
        }
        self.data.extend_from_slice(bytes);
    }

    /// Refuses text as soon as what has arrived cannot become UTF-8, so that nobody waits for the rest.
    fn check_utf8(&mut self, at_end: bool) -> Result<(), ProtocolError> {
        if self.kind == MessageKind::Binary || self.compressed {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.data[self.valid_up_to..]) {
            Ok(_) => self.valid_up_to = self.data.len(),
            // A character that is only cut short may go on in the next bytes.
            Err(error) if error.error_len().is_none() && !at_end => self.valid_up_to += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::InvalidUtf8),
        }
        Ok(())
    }
}

/// The event of an unfragmented frame.
fn event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    match opcode {
        Opcode::Text => {
            simdutf8::basic::from_utf8(payload).map_err(|_| ProtocolError::InvalidUtf8)?;
            Ok(Event::Message { kind: MessageKind::Text, data: payload })
        }
        // A continuation never comes here: `advance` keeps it, and a kept message makes its own event.
        Opcode::Binary | Opcode::Continuation => {
            Ok(Event::Message { kind: MessageKind::Binary, data: payload })
        }
        Opcode::Ping => Ok(Event::Ping(payload)),
        Opcode::Pong => Ok(Event::Pong(payload)),
        Opcode::Close => close_event(payload),
    }
}

fn close_event(payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Event::Close { code: None, reason: "" }),
            _ => Err(ProtocolError::TruncatedCloseCode),
        };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.is_legal_on_wire() {
        return Err(ProtocolError::IllegalCloseCode(code.0));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReasonNotUtf8)?;
    Ok(Event::Close { code: Some(code), reason })
}

/// Splits the first `n` bytes off the input.
fn take<'i>(input: &mut &'i mut [u8], n: usize) -> &'i mut [u8] {
    let (taken, rest) = mem::take(input).split_at_mut(n);
    *input = rest;
    taken
}

#[cfg(test)]
mod tests;
