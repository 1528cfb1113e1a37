//! What waits for one connection: written directly while the socket takes it, queued within a bound when not.
//!
//! The owner keeps an `Outbound` behind a lock of its own and calls it with the socket. Whoever pushes writes; nobody
//! is woken. When the socket refuses, the rest waits here until the connection's event loop sees it writable and
//! calls [`Outbound::flush`]. An idle connection holds 16 bytes of this and no heap.
//!
//! Whoever hands frames of many connections to the kernel together does so without a lock: [`Outbound::lend`] lets it
//! write a frame, [`Outbound::settle`] says how that went. What comes in between waits here, as it would behind a frame that
//! the socket has refused.
//!
//! Invariants: bytes reach the socket in the order of the calls and never interleave inside a frame; after
//! [`Outbound::finish`] nothing is accepted any more; what was promised (answered [`Sent::Written`]) and then given up
//! is returned as [`Promised`], so that it can be counted.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::{Encoding, Mark, Message};

/// Where bytes go: a non-blocking socket.
pub trait Sink {
    /// Writes a prefix of `bytes` and says how long it was; never blocks.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now; anything else means that it will never take anything again.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes a prefix of the concatenated `parts` and says how long it was; never blocks.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn write_vectored(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.write(parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part))
    }
}

/// How much may wait for one connection.
///
/// An empty queue takes one message of any size (the listeners bound their sizes); beyond that, both bounds hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Unsent bytes, those of the partly sent frame included.
    pub bytes: usize,
    /// Unsent messages, the partly sent one included.
    pub messages: usize,
}

/// What became of one message for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The socket or the queue within its bound has it.
    Written,
    /// The bound is reached: the message was not taken and the owner must close the connection as too slow.
    Full,
    /// The connection takes nothing any more.
    Closed,
}

/// What a flush left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing waits.
    Drained,
    /// The socket refused: call again when it is writable. Or a frame is lent: whoever settles it calls again.
    Blocked,
    /// The socket failed; nothing will be taken any more.
    Failed(Promised),
}

/// What had been promised and was then given up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Promised {
    /// Messages of which at least one byte was unsent.
    pub messages: usize,
    /// Of those, the ones that are followed.
    pub marks: Vec<Mark>,
}

/// What became of a message that is to go out with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lent {
    /// Whoever asked writes the whole frame, or as much as the socket takes, and then calls [`Outbound::settle`].
    Yours,
    /// As [`Outbound::send`] would have said; nothing is to be written.
    Settled(Sent),
    /// Another frame is lent, and behind it is no room: to be asked again when that is settled. Nothing says yet that the connection is slow.
    Busy,
}

/// The outgoing side of one connection. See the module's header.
#[derive(Debug, Default)]
pub struct Outbound {
    /// Present while something waits.
    queue: Option<Box<Queue>>,
    /// Bytes of the frame that is lent; 0 for none.
    lent: u32,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// Nothing is accepted any more; what waits is still sent.
    Finished,
    /// The socket takes nothing any more.
    Gone,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Waiting>,
    /// Bytes of the first frame that the socket already has.
    sent: usize,
    /// Unsent bytes of all frames.
    bytes: usize,
    /// The last frame is a farewell ([`Outbound::finish`]) and no message.
    farewell: bool,
}

/// A frame that waits, and whose it is in the trail.
#[derive(Debug)]
struct Waiting {
    frame: Arc<[u8]>,
    mark: Mark,
}

impl Waiting {
    /// Bytes that are no message of the hub's.
    fn unmarked(bytes: &[u8]) -> Self {
        Self { frame: Arc::from(bytes), mark: Mark::NONE }
    }
}

impl Outbound {
    /// An outgoing side on which nothing waits.
    #[must_use]
    pub const fn new() -> Self {
        Self { queue: None, lent: 0, stage: Stage::Open }
    }

    /// Whether nothing waits for the socket, and nothing is lent.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.queue.is_none() && !self.is_lent()
    }

    /// Whether a frame is lent. A [`Sent::Full`] then says nothing of how fast the connection is.
    #[must_use]
    pub const fn is_lent(&self) -> bool {
        self.lent > 0
    }

    /// Whether [`Outbound::finish`] was called or the socket failed.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        !matches!(self.stage, Stage::Open)
    }

    /// Sends a message: to the socket if nothing waits, else to the queue.
    pub fn send(
        &mut self,
        sink: &impl Sink,
        message: &Message<'_>,
        encoding: Encoding,
        bound: Bound,
    ) -> Sent {
        if let Some(sent) = self.queue_behind(message, encoding, bound) {
            return sent;
        }
        self.note_taken(write_some(sink, message.frame(encoding)), message, encoding)
    }

    /// Lets the caller write a message's frame, unless something waits that it has to wait behind, or nothing is taken any more. A frame of
    /// more than 4 GiB cannot be lent and is too much for any bound.
    pub fn lend(&mut self, message: &Message<'_>, encoding: Encoding, bound: Bound) -> Lent {
        match self.queue_behind(message, encoding, bound) {
            Some(Sent::Full) if self.is_lent() => return Lent::Busy,
            Some(sent) => return Lent::Settled(sent),
            None => {}
        }
        match u32::try_from(message.frame(encoding).len()) {
            Ok(length) => {
                self.lent = length;
                Lent::Yours
            }
            Err(_) => Lent::Settled(Sent::Full),
        }
    }

    /// Takes note of how much of a lent frame the socket took, as [`Sink::write`] says it. The rest waits, before everything
    /// that has come since; call [`Outbound::flush`] next if anything does ([`Outbound::is_drained`]).
    pub fn settle(&mut self, taken: io::Result<usize>, message: &Message<'_>, encoding: Encoding) -> Sent {
        self.lent = 0;
        self.note_taken(refused_as_nothing(taken), message, encoding)
    }

    /// What becomes of a message that may not be written now; `None` for one that may.
    fn queue_behind(&mut self, message: &Message<'_>, encoding: Encoding, bound: Bound) -> Option<Sent> {
        if self.is_finished() {
            return Some(Sent::Closed);
        }
        if self.is_drained() {
            return None;
        }
        let size = message.frame(encoding).len();
        let (messages, bytes) = self.queue.as_ref().map_or((0, 0), |queue| (queue.frames.len(), queue.bytes));
        let (messages, bytes) = (messages + usize::from(self.is_lent()), bytes + self.lent as usize);
        if messages >= bound.messages || bytes.saturating_add(size) > bound.bytes {
            return Some(Sent::Full);
        }
        let queue = self.queue.get_or_insert_default();
        queue.bytes += size;
        queue.frames.push_back(Waiting { frame: message.share(encoding), mark: message.mark() });
        Some(Sent::Written)
    }

    /// What becomes of a message of which the socket took so much.
    fn note_taken(&mut self, taken: io::Result<usize>, message: &Message<'_>, encoding: Encoding) -> Sent {
        match taken {
            Ok(sent) if sent == message.frame(encoding).len() => Sent::Written,
            Ok(_) if self.stage == Stage::Gone => Sent::Closed,
            Ok(sent) => {
                let frame = message.share(encoding);
                let queue = self.queue.get_or_insert_default();
                queue.bytes += frame.len() - sent;
                queue.sent = sent;
                queue.frames.push_front(Waiting { frame, mark: message.mark() });
                Sent::Written
            }
            Err(_) => {
                self.stage = Stage::Gone;
                Sent::Closed
            }
        }
    }

    /// Queues bytes without trying the socket, so that nothing leaves before [`Outbound::flush`] is called.
    pub fn enqueue(&mut self, bytes: &[u8]) {
        if !self.is_finished() && !bytes.is_empty() {
            let queue = self.queue.get_or_insert_default();
            queue.bytes += bytes.len();
            queue.frames.push_back(Waiting::unmarked(bytes));
        }
    }

    /// Gives the socket what waits, as far as it takes it.
    pub fn flush(&mut self, sink: &impl Sink) -> Flushed {
        /// Frames handed to one gathering write; the kernel's own limit is 1,024 (`IOV_MAX`).
        const GATHER: usize = 64;
        if self.is_lent() {
            return Flushed::Blocked;
        }
        if self.stage == Stage::Gone && self.queue.is_some() {
            // How much of a frame the socket has may not even be known.
            return self.fail();
        }
        while let Some(queue) = &mut self.queue {
            let mut parts = [io::IoSlice::new(&[]); GATHER];
            let mut used = 0;
            for (part, waiting) in parts.iter_mut().zip(&queue.frames) {
                let skip = if used == 0 { queue.sent } else { 0 };
                *part = io::IoSlice::new(&waiting.frame[skip..]);
                used += 1;
            }
            match sink.write_vectored(&parts[..used]) {
                Ok(0) => return self.fail(),
                Ok(sent) => {
                    queue.advance(sent);
                    if queue.frames.is_empty() {
                        self.queue = None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.fail(),
            }
        }
        Flushed::Drained
    }

    /// Ends the outgoing side: gives up every message of which no byte was sent, and lets `farewell` follow the one
    /// under way. Nothing is accepted afterwards; keep flushing until [`Flushed::Drained`].
    pub fn finish(&mut self, sink: &impl Sink, farewell: &[u8]) -> Promised {
        if self.is_finished() {
            return Promised::default();
        }
        self.stage = Stage::Finished;
        let promised = self.queue.as_mut().map_or_else(Promised::default, |queue| {
            let keep = usize::from(queue.sent > 0);
            let promised = Promised::of(queue.frames.drain(keep..));
            queue.bytes = queue.frames.front().map_or(0, |waiting| waiting.frame.len() - queue.sent);
            promised
        });
        self.append_farewell(sink, farewell);
        promised
    }

    /// Ends the outgoing side politely: everything promised is still sent, then `farewell`.
    pub fn finish_after_queue(&mut self, sink: &impl Sink, farewell: &[u8]) {
        if !self.is_finished() {
            self.stage = Stage::Finished;
            self.append_farewell(sink, farewell);
        }
    }

    /// Gives everything up at once, as when the socket is gone.
    pub fn abandon(&mut self) -> Promised {
        self.stage = Stage::Gone;
        self.queue.take().map_or_else(Promised::default, |queue| queue.promised())
    }

    /// Lets a farewell follow what waits or is lent; where nothing is, it goes to the socket.
    fn append_farewell(&mut self, sink: &impl Sink, farewell: &[u8]) {
        // A failure needs no answer: the socket is as gone as it was going to be.
        let sent = match self.is_drained() {
            true => write_some(sink, farewell).unwrap_or(farewell.len()),
            false => 0,
        };
        if sent < farewell.len() {
            self.queue.get_or_insert_default().append_farewell(&farewell[sent..]);
        }
    }

    fn fail(&mut self) -> Flushed {
        Flushed::Failed(self.abandon())
    }
}

impl Queue {
    fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while let Some(waiting) = self.frames.front() {
            let rest = waiting.frame.len() - self.sent;
            if sent < rest {
                self.sent += sent;
                return;
            }
            sent -= rest;
            self.sent = 0;
            self.frames.pop_front();
        }
    }

    fn append_farewell(&mut self, farewell: &[u8]) {
        self.bytes += farewell.len();
        self.farewell = true;
        self.frames.push_back(Waiting::unmarked(farewell));
    }

    fn promised(mut self) -> Promised {
        if self.farewell {
            self.frames.pop_back();
        }
        Promised::of(self.frames.into_iter())
    }
}

impl Promised {
    fn of(given_up: impl ExactSizeIterator<Item = Waiting>) -> Self {
        let messages = given_up.len();
        let marks = given_up.map(|waiting| waiting.mark).filter(|mark| *mark != Mark::NONE).collect();
        Self { messages, marks }
    }
}

/// Writes once, counting a refusal as nothing written.
fn write_some(sink: &impl Sink, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match sink.write(bytes) {
            Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            taken => return refused_as_nothing(taken),
        }
    }
}

/// A refusal is nothing taken.
fn refused_as_nothing(taken: io::Result<usize>) -> io::Result<usize> {
    match taken {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        taken => taken,
    }
}
