//! What waits for one connection: written directly while the socket takes it, queued within a bound when not.
//!
//! The owner keeps an `Outbound` behind a lock of its own and calls it with the socket. Whoever pushes writes; nobody
//! is woken. When the socket refuses, the rest waits here until the connection's event loop sees it writable and
//! calls [`Outbound::flush`]. An idle connection holds 16 bytes of this and no heap.
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
    /// The socket refused; call again when it is writable.
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

/// The outgoing side of one connection. See the module's header.
#[derive(Debug, Default)]
pub struct Outbound {
    /// Present while something waits.
    queue: Option<Box<Queue>>,
    finished: bool,
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
        Self { queue: None, finished: false }
    }

    /// Whether nothing waits for the socket.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.queue.is_none()
    }

    /// Whether [`Outbound::finish`] was called or the socket failed.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Sends a message: to the socket if nothing waits, else to the queue.
    pub fn send(
        &mut self,
        sink: &impl Sink,
        message: &Message<'_>,
        encoding: Encoding,
        bound: Bound,
    ) -> Sent {
        if self.finished {
            return Sent::Closed;
        }
        if let Some(queue) = &mut self.queue {
            let size = message.frame(encoding).len();
            if queue.frames.len() >= bound.messages || queue.bytes.saturating_add(size) > bound.bytes {
                return Sent::Full;
            }
            queue.bytes += size;
            queue.frames.push_back(Waiting { frame: message.share(encoding), mark: message.mark() });
            return Sent::Written;
        }
        let frame = message.frame(encoding);
        match write_some(sink, frame) {
            Ok(sent) if sent == frame.len() => Sent::Written,
            Ok(sent) => {
                let frame = message.share(encoding);
                let bytes = frame.len() - sent;
                let frames = VecDeque::from([Waiting { frame, mark: message.mark() }]);
                self.queue = Some(Box::new(Queue { frames, sent, bytes, farewell: false }));
                Sent::Written
            }
            Err(_) => {
                self.finished = true;
                Sent::Closed
            }
        }
    }

    /// Queues bytes without trying the socket, so that nothing leaves before [`Outbound::flush`] is called.
    pub fn enqueue(&mut self, bytes: &[u8]) {
        if !self.finished && !bytes.is_empty() {
            let queue = self.queue.get_or_insert_default();
            queue.bytes += bytes.len();
            queue.frames.push_back(Waiting::unmarked(bytes));
        }
    }

    /// Gives the socket what waits, as far as it takes it.
    pub fn flush(&mut self, sink: &impl Sink) -> Flushed {
        /// Frames handed to one gathering write; the kernel's own limit is 1,024 (`IOV_MAX`).
        const GATHER: usize = 64;
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
        if self.finished {
            return Promised::default();
        }
        self.finished = true;
        match &mut self.queue {
            Some(queue) => {
                let keep = usize::from(queue.sent > 0);
                let promised = Promised::of(queue.frames.drain(keep..));
                queue.bytes = queue.frames.front().map_or(0, |waiting| waiting.frame.len() - queue.sent);
                queue.append_farewell(farewell);
                promised
            }
            None => {
                self.write_farewell(sink, farewell);
                Promised::default()
            }
        }
    }

    /// Ends the outgoing side politely: everything promised is still sent, then `farewell`.
    pub fn finish_after_queue(&mut self, sink: &impl Sink, farewell: &[u8]) {
        if self.finished {
            return;
        }
        self.finished = true;
        match &mut self.queue {
            Some(queue) => queue.append_farewell(farewell),
            None => self.write_farewell(sink, farewell),
        }
    }

    /// Gives everything up at once, as when the socket is gone.
    pub fn abandon(&mut self) -> Promised {
        self.finished = true;
        self.queue.take().map_or_else(Promised::default, |queue| queue.promised())
    }

    fn write_farewell(&mut self, sink: &impl Sink, farewell: &[u8]) {
        // A failure needs no answer: the socket is as gone as it was going to be.
        let sent = write_some(sink, farewell).unwrap_or(farewell.len());
        if sent < farewell.len() {
            let mut queue = Queue::default();
            queue.append_farewell(&farewell[sent..]);
            self.queue = Some(Box::new(queue));
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
        if !farewell.is_empty() {
            self.bytes += farewell.len();
            self.farewell = true;
            self.frames.push_back(Waiting::unmarked(farewell));
        }
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
            Ok(sent) => return Ok(sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
