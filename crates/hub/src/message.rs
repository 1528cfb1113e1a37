//! A message on its way out: encoded and compressed at most once a dialect, shared by everyone who cannot take it at once.

use std::cell::OnceCell;
use std::sync::Arc;

use doorbell_protocol::deflate::compress;
use doorbell_protocol::envelope::{write_event, write_message};
use doorbell_protocol::frame::{Opcode, encode};

use crate::Mark;

/// How a connection wants its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A WebSocket text frame with the payload itself.
    Plain,
    /// A WebSocket text frame with a `doorbell.v1` envelope.
    Envelope,
    /// A server-sent event with a `doorbell.v1` envelope.
    Event,
    /// The envelope alone.
    Text,
    /// As `Plain`, compressed where that makes it smaller (permessage-deflate).
    DeflatedPlain,
    /// As `Envelope`, compressed where that makes it smaller.
    DeflatedEnvelope,
}

/// A message, borrowed from whoever pushes it.
///
/// Most sockets take a frame at once, so the bytes are only borrowed; the first connection that must queue makes the
/// one shared copy, and every later one holds the same allocation. A push to plain connections that keep up allocates
/// nothing.
#[derive(Debug)]
pub struct Message<'a> {
    /// The plain frame, or whatever bytes a connection sends that are no message.
    frame: &'a [u8],
    shared: OnceCell<Arc<[u8]>>,
    /// What an envelope holds.
    body: Body<'a>,
    /// The message's number in its uid's sequence; 0 for none.
    seq: u64,
    mark: Mark,
    text: OnceCell<Arc<[u8]>>,
    envelope: OnceCell<Arc<[u8]>>,
    event: OnceCell<Arc<[u8]>>,
    /// `None` in them: left as it is.
    deflated: OnceCell<Option<Arc<[u8]>>>,
    deflated_envelope: OnceCell<Option<Arc<[u8]>>>,
}

/// What an envelope says of a message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Body<'a> {
    /// The message's name; empty for a line of the text port, which has none.
    pub id: &'a str,
    /// JSON.
    pub data: &'a [u8],
    /// Which memory `seq` belongs to.
    pub epoch: &'a str,
}

impl<'a> Message<'a> {
    /// Wraps `frame`, the exact bytes for every encoding: for what is no message of a uid's.
    #[must_use]
    pub const fn new(frame: &'a [u8]) -> Self {
        Self::with_body(frame, Body { id: "", data: b"null", epoch: "" }, 0)
    }

    /// A message that plain connections get as `frame` and others in an envelope; `seq` 0 means that it has no number.
    #[must_use]
    pub const fn with_body(frame: &'a [u8], body: Body<'a>, seq: u64) -> Self {
        Self {
            frame,
            shared: OnceCell::new(),
            body,
            seq,
            mark: Mark::NONE,
            text: OnceCell::new(),
            envelope: OnceCell::new(),
            event: OnceCell::new(),
            deflated: OnceCell::new(),
            deflated_envelope: OnceCell::new(),
        }
    }

    /// Its number in its uid's sequence; 0 for none.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The same message, followed.
    #[must_use]
    pub(crate) const fn marked(mut self, mark: Mark) -> Self {
        self.mark = mark;
        self
    }

    /// What its trail calls it.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    /// The bytes to write.
    #[must_use]
    pub fn frame(&self, encoding: Encoding) -> &[u8] {
        match encoding {
            Encoding::Plain => self.frame,
            Encoding::Envelope => self.envelope(),
            Encoding::Event => self.event(),
            Encoding::Text => self.text(),
            Encoding::DeflatedPlain => self.deflated().map_or(self.frame, |frame| frame),
            Encoding::DeflatedEnvelope => self.deflated_envelope().unwrap_or_else(|| self.envelope()),
        }
    }

    /// The shared copy, made on first use.
    #[must_use]
    pub fn share(&self, encoding: Encoding) -> Arc<[u8]> {
        match encoding {
            Encoding::Plain => Arc::clone(self.shared.get_or_init(|| Arc::from(self.frame))),
            Encoding::Envelope => Arc::clone(self.envelope()),
            Encoding::Event => Arc::clone(self.event()),
            Encoding::Text => Arc::clone(self.text()),
            Encoding::DeflatedPlain => {
                self.deflated().map_or_else(|| self.share(Encoding::Plain), Arc::clone)
            }
            Encoding::DeflatedEnvelope => {
                Arc::clone(self.deflated_envelope().unwrap_or_else(|| self.envelope()))
            }
        }
    }

    fn text(&self) -> &Arc<[u8]> {
        self.text.get_or_init(|| {
            let mut text = Vec::with_capacity(self.body.data.len() + 64);
            write_message((self.seq > 0).then_some(self.seq), self.body.id, self.body.data, &mut text);
            Arc::from(text)
        })
    }

    fn event(&self) -> &Arc<[u8]> {
        self.event.get_or_init(|| {
            let text = self.text();
            let mut event = Vec::with_capacity(text.len() + 64);
            let position = (self.seq > 0).then_some((self.body.epoch, self.seq));
            write_event("message", position, text, &mut event);
            Arc::from(event)
        })
    }

    fn deflated(&self) -> Option<&Arc<[u8]>> {
        self.deflated.get_or_init(|| compress(self.frame).map(Arc::from)).as_ref()
    }

    fn deflated_envelope(&self) -> Option<&Arc<[u8]>> {
        self.deflated_envelope.get_or_init(|| compress(self.envelope()).map(Arc::from)).as_ref()
    }

    fn envelope(&self) -> &Arc<[u8]> {
        self.envelope.get_or_init(|| {
            let text = self.text();
            let mut frame = Vec::with_capacity(text.len() + 10);
            encode(Opcode::Text, text, &mut frame);
            Arc::from(frame)
        })
    }
}
