//! One event loop: a thread, an epoll set, a slab of connections.
//!
//! Readiness is edge-triggered and registered once for both directions: a connection costs no further system call to
//! watch, whoever writes to it. Reads go into one buffer that all connections of the loop share, so an idle
//! connection holds none. There are no timers: each slot has the tick of its next deadline, and a sweep over the
//! slab looks for those that have come.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use doorbell_hub::{Bound, Flushed, Outbox as _, Promised, Reason};
use doorbell_protocol::Uid;
use doorbell_protocol::close::CloseCode;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::oneshot;

use super::clock::{Clock, TICK, Tick};
use super::connection::{Connection, ConnectionId, Received};
use super::life::{Next, Slot, Start};
use super::records::MAX_RECORD_BYTES;
use super::tls::{End, Failure};
use super::together;
use super::tools::Tools;
use crate::context::{Context, Counted, HttpConnection};
use crate::metrics::Listener;
use crate::policy::Policy;

const WAKE: Token = Token(usize::MAX);
/// One read; larger than most pushes and most of what waits on a busy text port.
const READ_BYTES: usize = 64 * 1024;
const _: () = assert!(READ_BYTES > MAX_RECORD_BYTES, "a record's rest has to fit behind its beginning");
/// Slots looked at in one sweep. Below this every deadline is met within a tick, above it within eight.
const SWEEP_SLOTS: usize = 8_192;

/// What other threads tell a loop.
#[derive(Debug)]
pub(super) enum Command {
    /// Here is a connection to look after.
    Add(NewConnection),
    /// Another thread has ended this connection's outgoing side.
    Closing(ConnectionId),
    /// The backend says who this waiting page is.
    Bind(ConnectionId, Uid, oneshot::Sender<Result<Arc<Connection>, Unbindable>>),
    /// Lend this connection.
    Find(ConnectionId, oneshot::Sender<Option<Arc<Connection>>>),
    /// Lend some connections.
    List(Places, oneshot::Sender<Listed>),
    /// Say goodbye to everyone and end by then.
    Drain(Instant),
}

/// Which connections of a loop are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// The first place to look at.
    pub(super) from: usize,
    /// How many connections at most.
    pub(super) most: usize,
    /// Only those on this transport.
    pub(super) transport: Option<&'static str>,
}

/// Some connections of a loop.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) connections: Vec<Arc<Connection>>,
    /// Where to look next; none at the end.
    pub(super) next: Option<usize>,
}

/// Why the backend could not bind a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unbindable {
    /// There is none of that name, or it is closing.
    Unknown,
    /// It has a uid already.
    Bound,
    /// It has not said that it waits to be bound.
    NotWaiting,
    /// The uid has as many connections as it may have.
    TooMany,
    /// Its loop did not answer in time; it may still be bound.
    Busy,
}

/// A socket on its way to its loop.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(super) socket: TcpStream,
    pub(super) peer: IpAddr,
    /// Whether [`crate::admission::Addresses`] counts it, under `peer`.
    pub(super) counted: bool,
    pub(super) listener: Listener,
    pub(super) start: Start,
}

/// A loop, as other threads see it.
#[derive(Debug)]
pub(crate) struct LoopHandle {
    commands: Mutex<Vec<Command>>,
    waker: Waker,
    /// Connections given to it and not yet gone.
    load: AtomicUsize,
    queue_bytes: AtomicUsize,
    queue_messages: AtomicUsize,
    context: Arc<Context>,
}

impl LoopHandle {
    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, connection: NewConnection) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.tell(Command::Add(connection));
    }

    pub(super) fn closing(&self, id: ConnectionId) {
        self.tell(Command::Closing(id));
    }

    pub(super) fn drain(&self, until: Instant) {
        self.tell(Command::Drain(until));
    }

    pub(super) fn tell(&self, command: Command) {
        let mut commands = self.commands.lock();
        commands.push(command);
        let first = commands.len() == 1;
        drop(commands);
        if first && let Err(error) = self.waker.wake() {
            // Writing to an eventfd fails only without memory; the next command or sweep finds the queue anyway.
            tracing::error!(%error, "failed to wake an event loop");
        }
    }

    /// The bound of one connection's outgoing queue.
    pub(super) fn bound(&self) -> Bound {
        Bound {
            bytes: self.queue_bytes.load(Ordering::Relaxed),
            messages: self.queue_messages.load(Ordering::Relaxed),
        }
    }

    /// How long a page counts as there whose long-poll was answered.
    pub(super) fn poll_linger(&self) -> Duration {
        self.context.policy.load().limits.poll_linger
    }

    pub(super) fn count_written(&self) {
        self.context.metrics.written.inc();
    }

    pub(super) fn count_slow(&self) {
        self.context.metrics.refused(Listener::Public, "too_slow");
    }

    /// Whether frames may go to the kernel together.
    pub(super) fn may_send_together(&self) -> bool {
        self.context.policy.load().io_uring
    }

    pub(super) fn count_together(&self, frames: usize) {
        self.context.metrics.sent_together.inc_by(frames as u64);
    }

    pub(super) fn count_lost(&self, id: ConnectionId, promised: &Promised) {
        self.context.given_up(id, promised, Reason::ConnectionLost);
    }

    pub(super) fn count_closed(&self, id: ConnectionId, code: CloseCode, reason: &str, promised: &Promised) {
        tracing::debug!(connection = %id, code = code.0, reason, "closing connection");
        self.context.metrics.closed(code.0);
        self.context.given_up(id, promised, Reason::TooSlow);
    }

    /// The name of the memory that messages' numbers belong to.
    pub(super) fn epoch(&self) -> &str {
        self.context.hub.epoch()
    }

    /// Takes over the bounds of a new policy.
    pub(super) fn adopt(&self, policy: &Policy) {
        self.queue_bytes.store(policy.limits.queue_bytes, Ordering::Relaxed);
        self.queue_messages.store(policy.limits.queue_messages, Ordering::Relaxed);
    }
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct EventLoop {
    poll: Poll,
    handle: Arc<LoopHandle>,
    context: Arc<Context>,
    index: u8,
    /// Turns the count of connections so far into the random part of their names.
    naming: RandomState,
    named: u64,
    slots: Slab<Slot>,
    read_buffer: Box<[u8]>,
    /// What was read under TLS, decrypted; without memory until something was.
    plain: Vec<u8>,
    tools: Tools,
    /// Slots with more to read than one turn allows.
    again: Vec<usize>,
    /// The slots of one sweep whose deadline has come.
    due: Vec<usize>,
    swept: Tick,
    cursor: usize,
    draining: Option<Instant>,
    closed: usize,
}

/// How a drained loop parted with its connections.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parted {
    /// Ended by the end of the window.
    pub(super) closed: usize,
    /// Still there then, and cut.
    pub(super) cut: usize,
}

impl EventLoop {
    pub(super) fn new(index: u8, context: &Arc<Context>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let handle = Arc::new(LoopHandle {
            commands: Mutex::default(),
            waker: Waker::new(poll.registry(), WAKE)?,
            load: AtomicUsize::new(0),
            queue_bytes: AtomicUsize::new(0),
            queue_messages: AtomicUsize::new(0),
            context: Arc::clone(context),
        });
        handle.adopt(&context.policy.load());
        let clock = Clock::start();
        Ok(Self {
            poll,
            handle,
            context: Arc::clone(context),
            index,
            naming: RandomState::new(),
            named: 0,
            slots: Slab::new(),
            read_buffer: vec![0; READ_BYTES].into_boxed_slice(),
            plain: Vec::new(),
            tools: Tools::new(context, clock),
            again: Vec::new(),
            due: Vec::new(),
            swept: clock.now(),
            cursor: 0,
            draining: None,
            closed: 0,
        })
    }

    pub(super) fn handle(&self) -> Arc<LoopHandle> {
        Arc::clone(&self.handle)
    }

    /// Runs until drained.
    pub(super) fn run(mut self) -> Parted {
        let mut events = Events::with_capacity(1024);
        if self.tools.policy.io_uring {
            together::prepare();
        }
        loop {
            let timeout = if !self.again.is_empty() {
                Some(Duration::ZERO)
            } else if self.slots.is_empty() && self.draining.is_none() {
                None
            } else {
                Some(TICK)
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "failed to wait for events");
            }
            self.tools.begin_turn();
            for event in &events {
                if event.token() == WAKE {
                    self.obey();
                } else {
                    self.ready(event);
                }
            }
            for token in std::mem::take(&mut self.again) {
                self.read(token, true);
            }
            self.sweep();
            if let Some(until) = self.draining {
                if self.slots.is_empty() {
                    return Parted { closed: self.closed, cut: 0 };
                }
                if Instant::now() >= until {
                    return self.cut();
                }
            }
        }
    }

    fn cut(mut self) -> Parted {
        let tokens: Vec<usize> = self.slots.iter().map(|(token, _)| token).collect();
        for token in &tokens {
            self.remove(*token);
        }
        Parted { closed: self.closed - tokens.len(), cut: tokens.len() }
    }

    fn obey(&mut self) {
        let commands = std::mem::take(&mut *self.handle.commands.lock());
        for command in commands {
            match command {
                Command::Add(connection) => self.add(connection),
                Command::Closing(id) => {
                    if self.slot(id).is_some() {
                        self.closing(id.token());
                    }
                }
                // Whoever asked may have given up waiting for the answer.
                Command::Bind(id, uid, answer) => drop(answer.send(self.bind(id, uid))),
                Command::Find(id, answer) => {
                    let slot = self.slot(id).filter(|slot| slot.is_page());
                    let _ = answer.send(slot.map(|slot| Arc::clone(&slot.connection)));
                }
                Command::List(range, answer) => drop(answer.send(self.list(range))),
                Command::Drain(until) => self.drain(until),
            }
        }
    }

    fn slot(&self, id: ConnectionId) -> Option<&Slot> {
        self.slots.get(id.token()).filter(|slot| slot.connection.id == id)
    }

    /// Binds a page that waits for it.
    fn bind(&mut self, id: ConnectionId, uid: Uid) -> Result<Arc<Connection>, Unbindable> {
        if self.slot(id).is_none() {
            return Err(Unbindable::Unknown);
        }
        let token = id.token();
        let Some(slot) = self.slots.get_mut(token) else { return Err(Unbindable::Unknown) };
        let connection = Arc::clone(&slot.connection);
        match slot.bind(uid, &self.tools) {
            Ok(()) => Ok(connection),
            Err((error, next)) => {
                self.apply(token, next);
                Err(error)
            }
        }
    }

    /// Looks at no more places than a sweep does, so that a long list delays nobody.
    fn list(&self, range: Places) -> Listed {
        let Places { from, most, transport } = range;
        let end = self.slots.capacity();
        let mut connections = Vec::new();
        let mut token = from;
        while token < end && token - from < SWEEP_SLOTS && connections.len() < most {
            if let Some(slot) = self.slots.get(token).filter(|slot| slot.is_page())
                && transport.is_none_or(|transport| transport == slot.connection.dialect.transport())
            {
                connections.push(Arc::clone(&slot.connection));
            }
            token += 1;
        }
        Listed { connections, next: (token < end).then_some(token) }
    }

    fn add(&mut self, new: NewConnection) {
        if self.draining.is_some() {
            self.part(new.counted.then_some(new.peer));
            return;
        }
        let entry = self.slots.vacant_entry();
        let token = entry.key();
        self.named = self.named.wrapping_add(1);
        // Half of a keyed hash (SipHash): nobody outside can tell the next one.
        let generation = (self.naming.hash_one(self.named) >> 32) as u32;
        let Some(id) = ConnectionId::new(self.index, generation, token) else {
            self.context.metrics.refused(new.listener, "capacity");
            self.part(new.counted.then_some(new.peer));
            return;
        };
        let registered = self.poll.registry().register(
            &mut SourceFd(&new.socket.as_raw_fd()),
            Token(token),
            Interest::READABLE | Interest::WRITABLE,
        );
        if let Err(error) = registered {
            tracing::warn!(%error, "failed to watch a new connection");
            self.part(new.counted.then_some(new.peer));
            return;
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let connection = Arc::new(Connection::new(
            new.socket,
            Arc::clone(&self.handle),
            id,
            new.peer,
            new.counted,
            u32::try_from(since).unwrap_or(u32::MAX),
        ));
        let (slot, next) = Slot::begin(connection, new.listener, new.start, &self.tools);
        tracing::debug!(connection = %id, listener = new.listener.label(), "connection opened");
        self.tools.open(new.listener).inc();
        entry.insert(slot);
        self.apply(token, next);
    }

    fn ready(&mut self, event: &Event) {
        let token = event.token().0;
        let Some(slot) = self.slots.get_mut(token) else { return };
        if event.is_writable() {
            match slot.connection.flush() {
                Flushed::Drained => {
                    let next = slot.drained();
                    self.apply(token, next);
                }
                Flushed::Blocked => {}
                Flushed::Failed(promised) => {
                    self.context.given_up(slot.connection.id, &promised, Reason::ConnectionLost);
                    self.remove(token);
                    return;
                }
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(token, event.is_read_closed() || event.is_error());
        }
    }

    /// Reads once, so that every connection has its turn. `to_the_end` is whether its end may be there to be read:
    /// a short read alone proves that the socket is empty, but not that no end of stream follows.
    fn read(&mut self, token: usize, to_the_end: bool) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        if slot.is_paused() {
            return;
        }
        let tools = &mut self.tools;
        let (buffer, plain) = (&mut self.read_buffer, &mut self.plain);
        let Some(read) = contain(|| slot.connection.read(buffer, plain)) else { return self.remove(token) };
        match read {
            Ok(Received { bytes, more, end }) => {
                if end.is_none() || !bytes.is_empty() {
                    let next = contain(|| slot.receive(bytes, tools)).unwrap_or(Next::Gone);
                    self.apply(token, next);
                }
                let Some(slot) = self.slots.get_mut(token) else { return };
                if let Some(end) = end {
                    if end == End::Cut {
                        tracing::debug!(connection = %slot.connection.id, "ended without close_notify");
                    }
                    let next = slot.ended();
                    self.apply(token, next);
                } else if more || to_the_end {
                    self.again.push(token);
                }
            }
            Err(Failure::Socket(error)) => match error.kind() {
                io::ErrorKind::WouldBlock => {}
                io::ErrorKind::Interrupted => self.again.push(token),
                _ => self.remove(token),
            },
            Err(Failure::Protocol(error)) => {
                let next = slot.broken(&error, tools);
                self.apply(token, next);
            }
        }
    }

    /// Does what a connection's life asks for next.
    fn apply(&mut self, token: usize, next: Next) {
        match next {
            Next::Continue => {}
            Next::Resume => self.again.push(token),
            Next::Close(code, reason) => {
                let Some(slot) = self.slots.get(token) else { return };
                tracing::debug!(connection = %slot.connection.id, code = code.0, reason, "closing connection");
                slot.connection.close_here(code, reason);
                self.context.metrics.closed(code.0);
                self.closing(token);
            }
            Next::Farewell(bytes) => {
                let Some(slot) = self.slots.get(token) else { return };
                slot.connection.finish_after_queue(&bytes);
                self.closing(token);
            }
            Next::HandOver { peer, read } => self.hand_over(token, peer, read),
            Next::Gone => self.remove(token),
        }
    }

    /// The outgoing side is ended; what is left is to see the last bytes off and hear the other end hang up.
    fn closing(&mut self, token: usize) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        if slot.connection.uid().is_some() {
            self.context.hub.unbind(&slot.connection, self.tools.now_ms);
        }
        forget_watching(&self.context, &slot.connection);
        let next = slot.close(&self.tools);
        if slot.connection.is_drained() {
            let drained = slot.drained();
            self.apply(token, drained);
        }
        self.apply(token, next);
    }

    fn remove(&mut self, token: usize) {
        let Some(slot) = self.slots.try_remove(token) else { return };
        let connection = &slot.connection;
        if connection.uid().is_some() {
            self.context.hub.unbind(connection, self.tools.now_ms);
        }
        tracing::debug!(
            connection = %connection.id,
            uid_hash = self.context.log_names.of(connection.uid()),
            "connection gone"
        );
        let promised = connection.abandon();
        self.context.given_up(connection.id, &promised, Reason::ConnectionLost);
        forget_watching(&self.context, connection);
        self.tools.open(slot.listener).dec();
        self.part(connection.counted.then_some(connection.address));
        if self.slots.is_empty() {
            self.slots.shrink_to_fit();
        }
    }

    fn part(&self, counted: Option<IpAddr>) {
        self.handle.load.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = counted {
            self.context.addresses.release(address);
        }
    }

    /// Gives a connection that speaks ordinary HTTP to those who serve that.
    fn hand_over(&mut self, token: usize, peer: IpAddr, read: Vec<u8>) {
        let Some(slot) = self.slots.try_remove(token) else { return };
        self.tools.open(slot.listener).dec();
        self.handle.load.fetch_sub(1, Ordering::Relaxed);
        let (counted, address) = (slot.connection.counted, slot.connection.address);
        let counted = counted.then(|| Counted::new(&self.context, address));
        // Nobody else has seen a connection that never named a uid.
        let Some(connection) = Arc::into_inner(slot.connection) else { return };
        let (socket, tls) = connection.into_parts();
        if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd())) {
            tracing::warn!(%error, "failed to let go of a connection");
            return;
        }
        let http = self.context.http.get();
        let given = http
            .is_some_and(|http| http.try_send(HttpConnection { socket, tls, peer, read, counted }).is_ok());
        if !given {
            self.context.metrics.refused(Listener::Public, "http_backlog");
        }
    }

    fn sweep(&mut self) {
        let now = self.tools.now;
        if now == self.swept {
            return;
        }
        self.swept = now;
        let end = self.slots.capacity();
        let stop = if end <= SWEEP_SLOTS { end } else { self.cursor + SWEEP_SLOTS.max(end.div_ceil(8)) };
        if end <= SWEEP_SLOTS {
            self.cursor = 0;
        }
        let range = self.cursor..stop.min(end);
        self.due.extend(range.filter(|token| self.slots.get(*token).is_some_and(|slot| slot.is_due(now))));
        self.cursor = if stop >= end { 0 } else { stop };
        for token in std::mem::take(&mut self.due) {
            let Some(slot) = self.slots.get_mut(token) else { continue };
            let tools = &mut self.tools;
            let next = contain(|| slot.overdue(tools)).unwrap_or(Next::Gone);
            self.apply(token, next);
        }
    }

    fn drain(&mut self, until: Instant) {
        self.draining = Some(until);
        self.closed = self.slots.len();
        let tokens: Vec<usize> = self.slots.iter().map(|(token, _)| token).collect();
        // Backends first: what they have sent is still answered by pages that are still there.
        for listener in [Listener::Text, Listener::Public] {
            for token in &tokens {
                if self.slots.get(*token).is_some_and(|slot| slot.listener == listener) {
                    if listener == Listener::Text {
                        self.read(*token, true);
                    }
                    let Some(slot) = self.slots.get_mut(*token) else { continue };
                    let next = slot.goodbye(until, &mut self.tools);
                    self.apply(*token, next);
                }
            }
        }
    }
}

/// Called once nothing more is taken: whoever begins to tell it of a login after that sees so, and forgets it too.
fn forget_watching(context: &Context, connection: &Connection) {
    if connection.is_watching()
        && let Some(service) = context.login.get()
    {
        service.gone(connection);
    }
}

/// Keeps a panic, which is a bug of ours, to the one connection whose bytes led to it.
fn contain<T>(step: impl FnOnce() -> T) -> Option<T> {
    let done = std::panic::catch_unwind(AssertUnwindSafe(step)).ok();
    if done.is_none() {
        tracing::error!("a connection's handling panicked; only that connection is closed");
    }
    done
}

impl Connection {
    /// [`Connection::close`] on the connection's own loop, which needs no telling.
    fn close_here(&self, code: CloseCode, reason: &str) {
        self.finish_after_queue(&self.farewell(code, reason, None));
    }
}
