//! One connection as other threads see it: a socket, what waits for it, and whose it is.
//!
//! The event loop it lives on owns everything else ([`super::life`]). Anyone may [`Connection::deliver`] or
//! [`Connection::close`]; only the loop reads, and only the loop takes it out of the registry and lets go of the
//! descriptor. The descriptor closes when the last `Arc` goes, so a write can never reach a stranger's socket.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use doorbell_hub::{
    Bound, Delivery, Encoding, Flushed, Lent, Message, Outbound, Outbox, Promised, Sent, Sink,
};
use doorbell_protocol::Uid;
use doorbell_protocol::close::CloseCode;
use doorbell_protocol::deflate::compress_always;
use doorbell_protocol::envelope::{write_bye, write_event};
use doorbell_protocol::frame::{Opcode, encode, encode_close};
use parking_lot::Mutex;
use rustix::net::SendFlags;

use super::event_loop::LoopHandle;
use super::poll::{Latest, Poll};
use super::tls::{Arrived, End, Failure, Tls};
use super::together;
use crate::revocation::Proof;

/// Where a connection lives: its loop (8 bits), which tenant of its place there it is (32, random), and that place (24).
///
/// The backend may bind a page by this name, so nobody should guess another's, and a name whose connection has gone
/// should not come to mean the next one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    /// Places a loop can have.
    pub(super) const PLACES: usize = 1 << 24;

    /// `None` when the place is not one of [`ConnectionId::PLACES`].
    pub(super) fn new(home: u8, generation: u32, token: usize) -> Option<Self> {
        let token = u64::try_from(token).ok().filter(|_| token < Self::PLACES)?;
        Some(Self(u64::from(home) << 56 | u64::from(generation) << 24 | token))
    }

    /// Reads what [`std::fmt::Display`] writes, and nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("c_").filter(|digits| digits.len() == 16)?;
        let lower = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(digits, 16).ok().filter(|_| lower).map(Self)
    }

    /// The loop's index.
    pub(super) const fn home(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// The place in that loop.
    pub(super) const fn token(self) -> usize {
        let [.., a, b, c] = self.0.to_be_bytes();
        u32::from_be_bytes([0, a, b, c]) as usize
    }

    /// The whole of it as a number, for comparisons and for the hub's trail.
    pub(crate) const fn as_u64(self) -> u64 {
        self.0
    }

    /// What [`ConnectionId::as_u64`] gave.
    pub(crate) const fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "c_{:016x}", self.0)
    }
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    /// Where the listener speaks TLS and the hello has come.
    pub(super) tls: Option<Box<Tls>>,
    outgoing: Mutex<Outgoing>,
    uid: OnceLock<Uid>,
    home: Arc<LoopHandle>,
    pub(super) id: ConnectionId,
    /// Unix seconds of the accept.
    pub(crate) since: u32,
    /// The client's own address, proxies seen through.
    pub(crate) address: IpAddr,
    /// Whether it counts towards its address's limit.
    pub(super) counted: bool,
    pub(crate) dialect: Dialect,
    /// With permessage-deflate, messages up to two to the power of this many bytes may be sent compressed; else 0.
    pub(super) window_bits: u8,
    /// In doorbell.v1, the number up to which it was sent everything.
    seen: AtomicU64,
    /// In doorbell.v1, the number up to which it has acknowledged everything.
    acked: AtomicU64,
    /// The [`Proof`] it came with.
    proof: AtomicU64,
    /// Whether it is told of a login, and has to be forgotten there when it goes.
    watches: AtomicBool,
}

/// What goes out, under one lock.
#[derive(Debug, Default)]
struct Outgoing {
    outbound: Outbound,
    /// What a long-poll says before it ends; until then nothing goes out.
    poll: Poll,
}

/// How a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The article's, and whatever else is no envelope.
    Plain,
    /// doorbell.v1: JSON envelopes with resume and acknowledgement, over a WebSocket.
    V1,
    /// The same as server-sent events.
    Events,
    /// The same by long-poll.
    Poll,
}

impl Dialect {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::V1 | Self::Events | Self::Poll => "doorbell.v1",
        }
    }

    pub(crate) const fn transport(self) -> &'static str {
        match self {
            Self::Plain | Self::V1 => "websocket",
            Self::Events => "sse",
            Self::Poll => "poll",
        }
    }

    const fn encoding(self) -> Encoding {
        match self {
            Self::Plain => Encoding::Plain,
            Self::V1 => Encoding::Envelope,
            Self::Events => Encoding::Event,
            Self::Poll => Encoding::Text,
        }
    }

    const fn deflated(self) -> Encoding {
        match self {
            Self::Plain => Encoding::DeflatedPlain,
            Self::V1 => Encoding::DeflatedEnvelope,
            Self::Events | Self::Poll => self.encoding(),
        }
    }
}

/// A socket as a [`Sink`]: one system call a write.
pub(crate) struct Socket<'a>(pub(crate) &'a TcpStream);

impl Sink for Socket<'_> {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        // Not the standard library's: that is glibc's, which makes each call a point at which the thread could be cancelled.
        Ok(rustix::net::send(self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        (&mut &*self.0).write_vectored(parts)
    }
}

/// What a connection's messages are written to: its socket, or its session and through that its socket.
struct Wire<'a>(&'a Connection);

impl Sink for Wire<'_> {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let socket = Socket(&self.0.socket);
        match &self.0.tls {
            None => socket.write(bytes),
            Some(tls) => tls.write(&socket, bytes),
        }
    }

    fn write_vectored(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let socket = Socket(&self.0.socket);
        match &self.0.tls {
            None => socket.write_vectored(parts),
            Some(tls) => tls.write_vectored(&socket, parts),
        }
    }
}

/// What one read of a connection brought.
#[derive(Debug)]
pub(super) struct Received<'b> {
    /// What it says. Under TLS this may be nothing although something arrived.
    pub(super) bytes: &'b mut [u8],
    /// There was as much as was asked for, so there may be more.
    pub(super) more: bool,
    /// The other end will send nothing more.
    pub(super) end: Option<End>,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        home: Arc<LoopHandle>,
        id: ConnectionId,
        address: IpAddr,
        counted: bool,
        since: u32,
    ) -> Self {
        Self {
            socket,
            tls: None,
            outgoing: Mutex::default(),
            uid: OnceLock::new(),
            home,
            id,
            since,
            address,
            counted,
            dialect: Dialect::Plain,
            window_bits: 0,
            seen: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            proof: AtomicU64::new(0),
            watches: AtomicBool::new(false),
        }
    }

    /// Its name in the API and the logs.
    pub(crate) const fn id(&self) -> ConnectionId {
        self.id
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The loop it lives on.
    pub(super) fn home(&self) -> &LoopHandle {
        &self.home
    }

    /// Its socket and its session, for whoever goes on with it.
    pub(super) fn into_parts(self) -> (TcpStream, Option<Box<Tls>>) {
        (self.socket, self.tls)
    }

    /// Reads once into `buffer`; under TLS what that says is in `plain`. Only its loop calls this.
    pub(super) fn read<'b>(
        &self,
        buffer: &'b mut [u8],
        plain: &'b mut Vec<u8>,
    ) -> Result<Received<'b>, Failure> {
        let mut asked = 0;
        let read = |buffer: &mut [u8]| {
            asked = buffer.len();
            (&self.socket).read(buffer)
        };
        let Some(tls) = &self.tls else {
            let length = { read }(buffer).map_err(Failure::Socket)?;
            let end = (length == 0).then_some(End::Said);
            return Ok(Received { bytes: &mut buffer[..length], more: length == asked, end });
        };
        plain.clear();
        let Arrived { length, end } = tls.read(read, &Socket(&self.socket), buffer, plain)?;
        Ok(Received { bytes: plain, more: length == asked, end })
    }

    /// Has its session take ciphertext that was read before there was a session.
    pub(super) fn take(&self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Failure> {
        match &self.tls {
            Some(tls) => tls.take(&Socket(&self.socket), bytes, plain).map(drop),
            None => Ok(()),
        }
    }

    /// Whether permessage-deflate was negotiated.
    pub(super) const fn is_compressed(&self) -> bool {
        self.window_bits > 0
    }

    /// The compressed form of an echoed frame, where the connection may get one.
    pub(super) fn compress(&self, frame: &[u8]) -> Option<Vec<u8>> {
        self.is_compressed().then(|| compress_always(frame, self.window_bits))?
    }

    fn encoding(&self, message: &Message<'_>) -> Encoding {
        let encoding = self.dialect.encoding();
        // 15 is the usual window, which every match fits into; a smaller one has to hold the whole message.
        match self.window_bits {
            0 => encoding,
            15 => self.dialect.deflated(),
            bits if message.frame(encoding).len() <= 1 << bits => self.dialect.deflated(),
            _ => encoding,
        }
    }

    fn note_seen(&self, message: &Message<'_>) {
        if message.seq() > 0 {
            self.seen.store(message.seq(), Ordering::Release);
        }
    }

    /// How much may wait for it.
    pub(super) fn bound(&self) -> Bound {
        self.home.bound()
    }

    /// Gives it its uid; a second call changes nothing and says so.
    pub(super) fn name(&self, uid: Uid) -> bool {
        self.uid.set(uid).is_ok()
    }

    /// What shows who it is.
    pub(crate) fn proof(&self) -> Proof {
        Proof::from_bits(self.proof.load(Ordering::Acquire))
    }

    /// Takes note of what shows who it is, before it becomes reachable by that or goes on with it.
    pub(super) fn prove(&self, proof: Proof) {
        self.proof.store(proof.to_bits(), Ordering::Release);
    }

    /// Whether it takes nothing any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.outgoing.lock().outbound.is_finished()
    }

    /// Takes note that it is told of a login.
    pub(crate) fn note_watching(&self) {
        self.watches.store(true, Ordering::SeqCst);
    }

    /// Whether it is told of a login.
    pub(super) fn is_watching(&self) -> bool {
        self.watches.load(Ordering::SeqCst)
    }

    /// Tells it how its login stands, from any thread: an envelope of doorbell.v1.
    pub(crate) fn tell_login(&self, envelope: &[u8]) {
        let mut frame = Vec::with_capacity(envelope.len() + 32);
        match self.dialect {
            Dialect::Events => write_event("login", None, envelope, &mut frame),
            _ => encode(Opcode::Text, envelope, &mut frame),
        }
        if self.send(&frame, self.bound()) == Sent::Full {
            self.home.count_slow();
            self.close_slow();
        }
    }

    /// Sends the head of an event stream, from any thread.
    pub(crate) fn send_head(&self, head: &[u8]) {
        // A socket that fails shows when it is next read.
        let _ = self.send(head, self.bound());
    }

    /// Answers with these bytes and ends it, from any thread.
    pub(crate) fn end_with(&self, answer: &[u8]) {
        self.finish_after_queue(answer);
        self.home.closing(self.id);
    }

    /// Takes note of where its messages begin.
    pub(super) fn begin_after(&self, seq: u64) {
        self.seen.store(seq, Ordering::Release);
        self.acked.store(seq, Ordering::Release);
    }

    /// Takes note of an acknowledgement; the numbers it newly covers, from (exclusive) and to.
    pub(crate) fn acknowledge(&self, seq: u64) -> Option<(u64, u64)> {
        let to = seq.min(self.seen.load(Ordering::Acquire));
        let from = self.acked.fetch_max(to, Ordering::AcqRel);
        (from < to).then_some((from, to))
    }

    /// Makes it a long-poll that is about to be caught up.
    pub(super) fn expect_poll(&mut self, allow_origin: Option<String>) {
        self.outgoing.get_mut().poll = Poll::new(allow_origin);
    }

    /// Takes note of where a long-poll's messages begin.
    pub(super) fn begin_poll(&self, seq: u64, recovered: bool) {
        self.outgoing.lock().poll.begin(seq, recovered);
    }

    /// Has a long-poll wait, unless it has something to say at once; whether it has.
    pub(super) fn poll_caught_up(&self, latest: &mut Latest) -> bool {
        self.outgoing.lock().poll.caught_up(latest)
    }

    /// A long-poll's answer as things stand; empty when it was given already.
    pub(super) fn poll_answer(&self, bye: Option<&[u8]>) -> Vec<u8> {
        self.outgoing.lock().poll.answer(self.home.epoch(), self.seen.load(Ordering::Acquire), bye)
    }

    /// [`Outbox::deliver`] of a long-poll: what it waits for is its answer and its end.
    fn deliver_to_poll(&self, message: &Message<'_>) -> Sent {
        let mut outgoing = self.outgoing.lock();
        let Outgoing { outbound, poll } = &mut *outgoing;
        let seen = self.seen.load(Ordering::Acquire);
        let Some(complete) = poll.take(message, seen) else { return Sent::Closed };
        self.home.count_written();
        self.note_seen(message);
        if complete {
            let answer = poll.answer(self.home.epoch(), seen, None);
            outbound.finish_after_queue(&Wire(self), &answer);
            drop(outgoing);
            self.home.closing(self.id);
        }
        Sent::Written
    }

    /// Takes note of what became of a message, and closes it if that was one too many.
    fn note_sent(&self, message: &Message<'_>, sent: Sent) {
        match sent {
            Sent::Written => {
                self.home.count_written();
                self.note_seen(message);
            }
            Sent::Full => {
                self.home.count_slow();
                self.close_slow();
            }
            Sent::Closed => {}
        }
    }

    /// A message as it goes out, but for what a session or a long-poll makes of it.
    pub(super) fn frame<'m>(&self, message: &'m Message<'_>) -> &'m [u8] {
        message.frame(self.encoding(message))
    }

    /// Lets the caller write a message's frame to the socket, or says what became of the message. A frame of more than `longest` bytes and
    /// one that a session or a long-poll has yet to put into its own words are not lent.
    pub(super) fn lend(&self, message: &Message<'_>, longest: usize) -> Lent {
        if self.tls.is_some() || self.dialect == Dialect::Poll {
            return Lent::Settled(self.deliver(message));
        }
        let mut outgoing = self.outgoing.lock();
        if self.frame(message).len() > longest {
            if outgoing.outbound.is_lent() {
                return Lent::Busy;
            }
            drop(outgoing);
            return Lent::Settled(self.deliver(message));
        }
        let lent = outgoing.outbound.lend(message, self.encoding(message), self.home.bound());
        drop(outgoing);
        if let Lent::Settled(sent) = lent {
            self.note_sent(message, sent);
        }
        lent
    }

    /// Sends to the socket or to the queue. Where a frame is lent, there may be no room behind it although the connection is quick: then
    /// this waits until that is settled, a few milliseconds at most, for whoever has it waits for nobody.
    fn put(&self, message: &Message<'_>, encoding: Encoding, bound: Bound) -> Sent {
        const PATIENCE: Duration = Duration::from_millis(100);
        let mut since = None;
        loop {
            let mut outgoing = self.outgoing.lock();
            let sent = outgoing.outbound.send(&Wire(self), message, encoding, bound);
            let hasty = sent == Sent::Full && outgoing.outbound.is_lent();
            drop(outgoing);
            if !hasty || since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return sent;
            }
            std::thread::yield_now();
        }
    }

    /// Takes note of how much of a lent frame the socket took, and sees off what came meanwhile.
    pub(super) fn settle(&self, message: &Message<'_>, taken: io::Result<usize>) -> Sent {
        let mut outgoing = self.outgoing.lock();
        let outbound = &mut outgoing.outbound;
        let sent = outbound.settle(taken, message, self.encoding(message));
        let flushed = match outbound.is_drained() {
            true => Flushed::Drained,
            false => outbound.flush(&Wire(self)),
        };
        // Its loop may have been waiting for this frame to end it.
        let ending = sent == Sent::Written && outbound.is_finished();
        drop(outgoing);
        if sent == Sent::Closed {
            // The loop is to hear of it, also where the socket itself is as it was but how much it took is not known.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        if let Flushed::Failed(promised) = flushed {
            self.home.count_lost(self.id, &promised);
        }
        if ending {
            self.home.closing(self.id);
        }
        self.note_sent(message, sent);
        sent
    }

    /// What ends it on the wire: in doorbell.v1 a `bye`, on a WebSocket a Close frame.
    pub(super) fn farewell(&self, code: CloseCode, reason: &str, retry_after_ms: Option<u64>) -> Vec<u8> {
        let mut farewell = Vec::with_capacity(64);
        let mut bye = Vec::with_capacity(96);
        if self.dialect != Dialect::Plain {
            write_bye(code, reason, retry_after_ms, &mut bye);
        }
        match self.dialect {
            Dialect::Plain => encode_close(code, reason, &mut farewell),
            Dialect::V1 => {
                encode(Opcode::Text, &bye, &mut farewell);
                encode_close(code, reason, &mut farewell);
            }
            Dialect::Events => write_event("bye", None, &bye, &mut farewell),
            Dialect::Poll => farewell = self.poll_answer(Some(&bye)),
        }
        farewell
    }

    /// Closes it from any thread, after everything it was promised.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.end(code, reason, |outbound, socket, farewell| {
            outbound.finish_after_queue(socket, farewell);
            Promised::default()
        });
    }

    /// Closes it from any thread, giving up what waits behind the frame under way: it is too slow to be told.
    fn close_slow(&self) {
        let reason = "too slow: the queue is full";
        self.end(CloseCode::TOO_SLOW, reason, |outbound, socket, farewell| outbound.finish(socket, farewell));
    }

    /// Ends the outgoing side with a Close frame and tells the loop, which does the rest.
    fn end(
        &self,
        code: CloseCode,
        reason: &str,
        finish: impl FnOnce(&mut Outbound, &Wire<'_>, &[u8]) -> Promised,
    ) {
        let farewell = self.farewell(code, reason, None);
        let mut outgoing = self.outgoing.lock();
        if outgoing.outbound.is_finished() {
            return;
        }
        let promised = finish(&mut outgoing.outbound, &Wire(self), &farewell);
        drop(outgoing);
        self.home.count_closed(self.id, code, reason, &promised);
        self.home.closing(self.id);
    }

    /// Sends bytes that are no message of the hub's: a handshake, a pong, an answer on the text port.
    pub(super) fn send(&self, bytes: &[u8], bound: Bound) -> Sent {
        self.put(&Message::new(bytes), Encoding::Plain, bound)
    }

    /// Queues bytes that may leave only with the next [`Connection::flush`].
    pub(super) fn enqueue(&self, bytes: &[u8]) {
        self.outgoing.lock().outbound.enqueue(bytes);
    }

    pub(super) fn flush(&self) -> Flushed {
        let outbound = &mut self.outgoing.lock().outbound;
        if !outbound.is_drained() {
            let flushed = outbound.flush(&Wire(self));
            if flushed != Flushed::Drained {
                return flushed;
            }
        }
        // The last record may not have left whole.
        let last = self.tls.as_ref().map_or(Ok(()), |tls| tls.flush(&Socket(&self.socket)));
        match last {
            Ok(()) => Flushed::Drained,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flushed::Blocked,
            Err(_) => Flushed::Failed(outbound.abandon()),
        }
    }

    /// Whether the socket has everything.
    pub(super) fn is_drained(&self) -> bool {
        self.outgoing.lock().outbound.is_drained() && self.tls.as_ref().is_none_or(|tls| tls.is_drained())
    }

    /// Ends the sending direction of a socket that has everything; under TLS says so first. Whether it is ended: if
    /// not, it is to be called again when all has been flushed.
    pub(super) fn shut(&self) -> bool {
        let said = self.tls.as_ref().map_or(Ok(()), |tls| tls.shut(&Socket(&self.socket)));
        if said.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return false;
        }
        // An error says that the socket is gone, which the next event will say too.
        let _ = self.socket.shutdown(Shutdown::Write);
        true
    }

    /// Ends the outgoing side after all that was promised.
    pub(super) fn finish_after_queue(&self, farewell: &[u8]) {
        self.outgoing.lock().outbound.finish_after_queue(&Wire(self), farewell);
    }

    /// Gives up everything, as when the socket is gone.
    pub(super) fn abandon(&self) -> Promised {
        self.outgoing.lock().outbound.abandon()
    }
}

impl Outbox for Connection {
    fn uid(&self) -> Option<&Uid> {
        self.uid.get()
    }

    fn deliver(&self, message: &Message<'_>) -> Sent {
        if self.dialect == Dialect::Poll {
            return self.deliver_to_poll(message);
        }
        let encoding = self.encoding(message);
        let sent = self.put(message, encoding, self.home.bound());
        self.note_sent(message, sent);
        sent
    }

    fn deliver_each(deliveries: &mut [Delivery<'_, Self>]) {
        together::deliver_each(deliveries);
    }

    fn number(&self) -> u64 {
        self.id.as_u64()
    }

    fn linger(&self) -> Duration {
        if self.dialect == Dialect::Poll && self.outgoing.lock().poll.is_answered() {
            self.home.poll_linger()
        } else {
            Duration::ZERO
        }
    }

    fn settle(&self, seq: u64) {
        self.seen.fetch_max(seq, Ordering::AcqRel);
    }

    fn seen(&self) -> Option<u64> {
        (self.dialect != Dialect::Plain).then(|| self.seen.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let id = ConnectionId::new(3, 0xdead_beef, 77).expect("a place");
        assert_eq!((id.home(), id.token()), (3, 77));
        assert_eq!(id.to_string(), "c_03deadbeef00004d");
        assert_eq!(ConnectionId::parse("c_03deadbeef00004d"), Some(id));
        for wrong in
            ["", "c_", "c_03DEADBEEF00004D", "c_03deadbeef00004", "c_+3deadbeef00004d", "03deadbeef00004d"]
        {
            assert_eq!(ConnectionId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(ConnectionId::new(0, 0, ConnectionId::PLACES), None);
    }
}
