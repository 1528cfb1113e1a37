//! The life of a connection, from its first byte to its last.
//!
//! ```text
//! public:  Head ──► WebSocket(Unnamed) ──► WebSocket(Listening) ──► Closing ──► gone
//!  (with TLS first Hello)
//!            │                              (in doorbell.v1 first Unbound; or Echo)
//!            └────► handed over to HTTP
//!            ├────► Events, Poll (doorbell.v1 without a WebSocket) ──► Closing ──► gone
//! text:    Text ──────────────────────────────────────────────────► Closing ──► gone
//! ```
//! A [`Slot`] is what the event loop keeps of one connection. Its methods say what happens next as a [`Next`] and
//! leave the doing to the loop, so this file knows the rules and [`super::event_loop`] the mechanics. An idle
//! connection holds no buffer and no timer: a word of decoder, a deadline, and the shared [`Connection`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbell_hub::{CatchUp, Sent};
use doorbell_protocol::close::CloseCode;
use doorbell_protocol::frame::{Opcode, encode, encode_close};
use doorbell_protocol::{Decoder, Event, Inflater, MessageKind, Uid};

use super::clock::Tick;
use super::connection::{Connection, Dialect};
use super::event_loop::Unbindable;
use super::head::{self, Head, Hello};
use super::hello::{Place, bind, bind_waiting, catch_up, hear, identify, name};
use super::stream::{Subscription, events_head};
use super::text::TextState;
use super::tls::{Failure, Tls};
use super::tools::Tools;
use crate::login::Stream;
use crate::metrics::Listener;
use crate::upgrade::{Granted, Refused};

/// How a connection comes to its loop.
#[derive(Debug)]
pub(super) enum Start {
    /// Public, and nothing read yet; the role is what an upgrade makes of it.
    Head(Role),
    /// On the text port.
    Text,
    /// Not welcome: this is the answer.
    Refused(Vec<u8>),
}

/// What WebSocket connections of a listener do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// They name a uid and wait for messages.
    Page,
    /// They get back what they send.
    Echo,
}

/// What the event loop is to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing.
    Continue,
    /// Read again: the connection had paused.
    Resume,
    /// Send what was promised, then a Close frame, then hang up.
    Close(CloseCode, &'static str),
    /// Send what was promised, then these bytes, then hang up.
    Farewell(Vec<u8>),
    /// Give the socket to those who speak ordinary HTTP.
    HandOver { peer: IpAddr, read: Vec<u8> },
    /// Let go at once.
    Gone,
}

/// What the event loop keeps of one connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) connection: Arc<Connection>,
    stage: Stage,
    /// When [`Slot::overdue`] has something to do.
    deadline: Tick,
    /// When the token that named it expires, or its time to be bound ends.
    expires: Tick,
    pub(super) listener: Listener,
    /// A ping is out and nothing was heard since.
    awaiting_pong: bool,
    /// The other end will send nothing more.
    ended: bool,
    /// This end will send nothing more.
    shut: bool,
}

#[derive(Debug)]
enum Stage {
    /// TLS is being agreed on. Until its first bytes are there, and with them the session, what there is of them.
    Hello(Role, Option<Box<Partial>>),
    /// A request head is arriving; what there is of it, once it did not come in one piece.
    Head(Role, Option<Box<Partial>>),
    WebSocket(Standing, Decoder),
    /// Server-sent events: nothing comes in.
    Events,
    /// A long-poll: nothing comes in.
    Poll,
    Text(Box<TextState>),
    /// Nothing but the answer goes out.
    Refused,
    /// The last bytes are on their way; what comes in is no longer read for its meaning.
    Closing,
}

/// The beginning of a request head, or of what comes before a TLS hello. Boxed, so that the many connections without one do not carry its size.
#[derive(Debug)]
struct Partial(Vec<u8>);

impl Partial {
    /// What is there with what has arrived, which `joined` may have to hold.
    fn join<'b>(
        partial: &mut Option<Box<Self>>,
        bytes: &'b mut [u8],
        joined: &'b mut Vec<u8>,
    ) -> &'b mut [u8] {
        let Some(before) = partial.take() else { return bytes };
        *joined = before.0;
        joined.extend_from_slice(bytes);
        joined
    }
}

/// How far a WebSocket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has not said who it is, and has not long to do so.
    Unnamed,
    /// In doorbell.v1: it has said hello without a token and waits for the backend to bind it.
    Unbound(Place),
    /// It has a uid and gets its messages.
    Listening,
    /// A conformance suite's: it gets back what it sends.
    Echo,
}

/// Time a refused connection has to take the answer: short, because whoever is refused may be a crowd.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an event stream on a login lasts: longer than any login, so that one that is over does not stay for ever.
const LOGIN_EVENTS_TIMEOUT: Duration = Duration::from_secs(3_600);

impl Slot {
    pub(super) fn begin(
        connection: Arc<Connection>,
        listener: Listener,
        start: Start,
        tools: &Tools,
    ) -> (Self, Next) {
        let limits = &tools.policy.limits;
        let (stage, deadline, next) = match start {
            Start::Head(role) => {
                let hello = tools.policy.tls.is_some();
                let stage = if hello { Stage::Hello(role, None) } else { Stage::Head(role, None) };
                (stage, tools.after(limits.head_timeout), Next::Continue)
            }
            Start::Text => {
                let locked = tools.policy.text_key.is_some();
                let deadline = if locked { tools.after(limits.line_timeout) } else { Tick::NEVER };
                (Stage::Text(Box::new(TextState::new(locked))), deadline, Next::Continue)
            }
            Start::Refused(answer) => (Stage::Refused, Tick::NEVER, Next::Farewell(answer)),
        };
        let slot = Self {
            connection,
            stage,
            deadline,
            expires: Tick::NEVER,
            listener,
            awaiting_pong: false,
            ended: false,
            shut: false,
        };
        (slot, next)
    }

    /// Takes bytes that arrived.
    pub(super) fn receive(&mut self, bytes: &mut [u8], tools: &mut Tools) -> Next {
        match &mut self.stage {
            Stage::Hello(..) => self.receive_hello(bytes, tools),
            Stage::Head(..) => self.receive_head(bytes, tools),
            Stage::WebSocket(..) => self.receive_frames(bytes, tools),
            Stage::Text(state) => {
                let next = state.receive(bytes, &self.connection, tools);
                self.deadline = if state.is_waiting_for_more() {
                    tools.after(tools.policy.limits.line_timeout)
                } else {
                    Tick::NEVER
                };
                next
            }
            Stage::Events | Stage::Poll | Stage::Refused | Stage::Closing => Next::Continue,
        }
    }

    /// Whether it must not be read now: it has not taken the answers it already has.
    pub(super) fn is_paused(&self) -> bool {
        matches!(&self.stage, Stage::Text(state) if state.is_paused())
    }

    /// Takes note that nothing waits to be sent.
    pub(super) fn drained(&mut self) -> Next {
        match &mut self.stage {
            Stage::Closing if self.ended => Next::Gone,
            Stage::Closing => {
                self.shut = self.shut || self.connection.shut();
                Next::Continue
            }
            Stage::Text(state) if state.is_paused() => {
                state.resume();
                Next::Resume
            }
            _ => Next::Continue,
        }
    }

    /// Takes note that nothing more will arrive.
    pub(super) fn ended(&mut self) -> Next {
        self.ended = true;
        match self.stage {
            // Half-closed backends still get their answers.
            Stage::Text(_) => Next::Farewell(Vec::new()),
            Stage::Refused | Stage::Closing if !self.connection.is_drained() => Next::Continue,
            _ => Next::Gone,
        }
    }

    /// Enters the last stage, unless it is there already.
    pub(super) fn close(&mut self, tools: &Tools) -> Next {
        let timeout = match self.stage {
            Stage::Closing => return Next::Continue,
            Stage::Refused => REFUSED_TIMEOUT,
            _ => tools.policy.limits.close_timeout,
        };
        self.stage = Stage::Closing;
        self.deadline = tools.after(timeout);
        self.expires = Tick::NEVER;
        Next::Continue
    }

    /// Whether it is a page's, as far as anyone outside can tell: it may be listed, bound and closed by name.
    pub(super) fn is_page(&self) -> bool {
        match self.stage {
            Stage::WebSocket(standing, _) => standing != Standing::Echo,
            Stage::Events | Stage::Poll => true,
            Stage::Hello(..) | Stage::Head(..) | Stage::Text(_) | Stage::Refused | Stage::Closing => false,
        }
    }

    /// Makes a page that waits to be bound `uid`'s; when it cannot, says why, and what now.
    pub(super) fn bind(&mut self, uid: Uid, tools: &Tools) -> Result<(), (Unbindable, Next)> {
        match &mut self.stage {
            Stage::WebSocket(standing, _) => {
                bind_waiting(&self.connection, uid, standing, tools)?;
                self.expires = Tick::NEVER;
                Ok(())
            }
            Stage::Events | Stage::Poll => Err((Unbindable::Bound, Next::Continue)),
            Stage::Hello(..) | Stage::Head(..) | Stage::Text(_) | Stage::Refused | Stage::Closing => {
                Err((Unbindable::Unknown, Next::Continue))
            }
        }
    }

    pub(super) fn is_due(&self, now: Tick) -> bool {
        self.deadline <= now || self.expires <= now
    }

    /// Does what is due.
    pub(super) fn overdue(&mut self, tools: &mut Tools) -> Next {
        if self.expires <= tools.now {
            self.expires = Tick::NEVER;
            if matches!(self.stage, Stage::WebSocket(Standing::Unbound(_), _)) {
                tools.context.metrics.refused(self.listener, "unbound_timeout");
                return Next::Close(CloseCode::NOT_BOUND, "nobody bound it in time");
            }
            return Next::Close(CloseCode::TOKEN_EXPIRED, "the token has expired");
        }
        match &mut self.stage {
            Stage::Hello(..) => {
                tools.context.metrics.refused(self.listener, "tls_handshake_timeout");
                Next::Gone
            }
            Stage::Head(..) => {
                tools.context.metrics.refused(self.listener, "head_timeout");
                Next::Farewell(head::timeout_answer())
            }
            Stage::WebSocket(Standing::Unnamed, _) => {
                tools.context.metrics.refused(self.listener, "first_message_timeout");
                Next::Close(CloseCode::SAID_NOTHING, "the first message did not come in time")
            }
            Stage::WebSocket(..) if self.awaiting_pong => {
                tools.context.metrics.refused(self.listener, "pong_timeout");
                Next::Gone
            }
            Stage::WebSocket(..) => {
                self.awaiting_pong = true;
                self.deadline = tools.after(tools.policy.limits.pong_timeout);
                tools.frame.clear();
                // The Pong brings it back (RFC 6455 section 5.5.3), so nobody has to remember when this was.
                encode(Opcode::Ping, &tools.clock.stamp(), &mut tools.frame);
                self.answer(tools)
            }
            Stage::Events => {
                self.deadline = tools.after(tools.policy.limits.ping_interval);
                tools.frame.clear();
                // A comment: it keeps proxies from thinking that the stream is dead.
                tools.frame.extend_from_slice(b":\n\n");
                self.answer(tools)
            }
            Stage::Poll => Next::Farewell(self.connection.poll_answer(None)),
            Stage::Text(_) => {
                tools.context.metrics.refused(self.listener, "line_timeout");
                Next::Farewell(b"fail\n".to_vec())
            }
            Stage::Refused | Stage::Closing => Next::Gone,
        }
    }

    /// The server is stopping; `until` is the end of its patience.
    pub(super) fn goodbye(&mut self, until: Instant, tools: &mut Tools) -> Next {
        let next = match &self.stage {
            Stage::Hello(..) | Stage::Head(..) => Next::Gone,
            Stage::Text(_) => Next::Farewell(Vec::new()),
            Stage::WebSocket(..) | Stage::Events | Stage::Poll => {
                let window = until.saturating_duration_since(Instant::now());
                let wait = tools.jitter(window).as_millis();
                let reason = format!("draining; come back in {wait} ms");
                let wait = u64::try_from(wait).ok();
                tools.context.metrics.closed(CloseCode::DRAINING.0);
                Next::Farewell(self.connection.farewell(CloseCode::DRAINING, &reason, wait))
            }
            Stage::Refused | Stage::Closing => Next::Continue,
        };
        self.expires = Tick::NEVER;
        next
    }

    /// Takes note that what arrived breaks TLS: the alert that says so is on its way already.
    pub(super) fn broken(&self, error: &rustls::Error, tools: &Tools) -> Next {
        let reason = match self.stage {
            Stage::Hello(..) => "tls_handshake",
            _ => "tls_record",
        };
        tracing::debug!(connection = %self.connection.id, %error, reason, "TLS failed");
        tools.context.metrics.refused(self.listener, reason);
        Next::Farewell(Vec::new())
    }

    /// Takes the first bytes of a connection under TLS, and what the session made of the later ones.
    fn receive_hello(&mut self, bytes: &mut [u8], tools: &mut Tools) -> Next {
        let Stage::Hello(role, partial) = &mut self.stage else { return Next::Continue };
        let role = *role;
        if let Some(tls) = &self.connection.tls {
            let Some(kind) = tls.established() else { return Next::Continue };
            tools.context.metrics.handshake(kind);
            self.stage = Stage::Head(role, None);
            return self.receive_head(bytes, tools);
        }
        let mut joined = Vec::new();
        let bytes = Partial::join(partial, bytes, &mut joined);
        let (peer, skip) = match head::read_hello(bytes, self.connection.address, tools) {
            Hello::Partial => {
                *partial = Some(Box::new(Partial(bytes.to_vec())));
                return Next::Continue;
            }
            Hello::Refused { answer, reason } => {
                tools.context.metrics.refused(self.listener, reason);
                return Next::Farewell(answer);
            }
            Hello::Tls { peer, skip } => (peer, skip),
        };
        let tls = match tools.policy.tls.as_ref().map(Tls::accept) {
            Some(Ok(tls)) => tls,
            Some(Err(error)) => return self.broken(&error, tools),
            // A reload has taken the certificate away since it was accepted.
            None => return Next::Gone,
        };
        // Until it has a uid nobody else holds the connection.
        if let Some(connection) = Arc::get_mut(&mut self.connection) {
            connection.address = peer;
            connection.tls = Some(Box::new(tls));
        }
        let mut plain = Vec::new();
        match self.connection.take(&mut bytes[skip..], &mut plain) {
            Ok(()) => self.receive_hello(&mut plain, tools),
            Err(Failure::Protocol(error)) => self.broken(&error, tools),
            Err(Failure::Socket(_)) => Next::Gone,
        }
    }

    fn receive_head(&mut self, bytes: &mut [u8], tools: &mut Tools) -> Next {
        let Stage::Head(role, partial) = &mut self.stage else { return Next::Continue };
        let role = *role;
        if bytes.is_empty() {
            return Next::Continue;
        }
        let mut joined = Vec::new();
        let bytes = Partial::join(partial, bytes, &mut joined);
        match head::read(bytes, &self.connection, role, tools) {
            Head::Partial => {
                *partial = Some(Box::new(Partial(bytes.to_vec())));
                Next::Continue
            }
            Head::Refused { answer, reason } => {
                tools.context.metrics.refused(self.listener, reason);
                Next::Farewell(answer)
            }
            Head::Subscribe { subscription, address, counted } => {
                if let Some(connection) = Arc::get_mut(&mut self.connection) {
                    connection.address = address;
                    connection.counted = counted;
                }
                self.subscribe(*subscription, tools)
            }
            Head::WatchLogin { stream, address, counted } => {
                if let Some(connection) = Arc::get_mut(&mut self.connection) {
                    connection.address = address;
                    connection.counted = counted;
                    connection.dialect = Dialect::Events;
                }
                self.watch_login(*stream, tools)
            }
            Head::Http { peer, skip } => Next::HandOver { peer, read: bytes[skip..].to_vec() },
            Head::WebSocket { granted: Granted { answer, dialect, deflate }, consumed, address, counted } => {
                // Until it has a uid nobody else holds the connection.
                if let Some(connection) = Arc::get_mut(&mut self.connection) {
                    connection.address = address;
                    connection.counted = counted;
                    connection.dialect = dialect;
                    connection.window_bits = deflate.map_or(0, |deflate| deflate.server_window_bits());
                }
                if self.connection.send(&answer, unbounded()) != Sent::Written {
                    return Next::Gone;
                }
                let (standing, timeout) = match role {
                    Role::Page => (Standing::Unnamed, tools.policy.limits.first_message_timeout),
                    Role::Echo => (Standing::Echo, tools.policy.limits.ping_interval),
                };
                self.stage = Stage::WebSocket(standing, Decoder::new());
                self.deadline = tools.after(timeout);
                self.receive(&mut bytes[consumed..], tools)
            }
        }
    }

    /// Lets in an event stream or a long-poll.
    fn subscribe(&mut self, subscription: Subscription, tools: &mut Tools) -> Next {
        let Subscription { dialect, credential, resume, wait, allow_origin } = subscription;
        let (uid, expires, proof) = match identify(&credential, tools) {
            Ok(identified) => identified,
            Err(refusal) => {
                tools.context.metrics.refused(self.listener, refusal.reason);
                return Next::Farewell(Refused::unauthorized(refusal.reason).answer());
            }
        };
        let is_poll = dialect == Dialect::Poll;
        let head = events_head(allow_origin.as_deref());
        if let Some(connection) = Arc::get_mut(&mut self.connection) {
            connection.dialect = dialect;
            if is_poll {
                connection.expect_poll(allow_origin);
            }
        }
        let place = catch_up(resume.as_ref(), tools);
        if let (true, CatchUp::After(seq)) = (is_poll, place) {
            // Asking from there says that what came before has arrived.
            tools.context.polled(&uid, seq);
        }
        if !is_poll {
            self.connection.send(&head, unbounded());
            self.bound_silence(tools);
        }
        self.expires = expires;
        self.deadline = tools.after(if is_poll { wait } else { tools.policy.limits.ping_interval });
        self.stage = if is_poll { Stage::Poll } else { Stage::Events };
        if let Err(refusal) = bind(&self.connection, uid, proof, place, tools) {
            tools.context.metrics.refused(self.listener, refusal.reason);
            return Next::Close(refusal.code, refusal.reason);
        }
        if is_poll && self.connection.poll_caught_up(&mut tools.latest_poll) {
            return Next::Farewell(self.connection.poll_answer(None));
        }
        Next::Continue
    }

    /// Lets in an event stream on a login; what it is told comes once the login is found.
    fn watch_login(&mut self, stream: Stream, tools: &Tools) -> Next {
        let Some(service) = tools.context.login.get() else { return Next::Farewell(stream.busy) };
        self.bound_silence(tools);
        self.expires = tools.after(LOGIN_EVENTS_TIMEOUT);
        self.deadline = tools.after(tools.policy.limits.ping_interval);
        self.stage = Stage::Events;
        service.open_stream(&self.connection, stream);
        Next::Continue
    }

    /// Nobody answers a comment, so it is the system that must notice when nobody takes it either.
    fn bound_silence(&self, tools: &Tools) {
        let limits = &tools.policy.limits;
        let patience = limits.ping_interval + limits.pong_timeout;
        let socket = socket2::SockRef::from(self.connection.socket());
        if let Err(error) = socket.set_tcp_user_timeout(Some(patience)) {
            tracing::debug!(%error, "failed to bound the time an event stream may take nothing");
        }
    }

    fn receive_frames(&mut self, bytes: &mut [u8], tools: &mut Tools) -> Next {
        // Out of the tools for as long as a message may borrow from it.
        let mut inflater = std::mem::take(&mut tools.inflater);
        let next = self.receive_messages(bytes, &mut inflater, tools);
        tools.inflater = inflater;
        next
    }

    fn receive_messages(&mut self, mut bytes: &mut [u8], inflater: &mut Inflater, tools: &mut Tools) -> Next {
        let Stage::WebSocket(standing, decoder) = &mut self.stage else { return Next::Continue };
        let max_message = tools.policy.limits.message_bytes;
        let mut awaiting_pong = std::mem::take(&mut self.awaiting_pong);
        loop {
            let event = if self.connection.is_compressed() {
                decoder.next_inflating(&mut bytes, max_message, inflater)
            } else {
                decoder.next(&mut bytes, max_message)
            };
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    tools.context.metrics.refused(self.listener, error.reason());
                    return Next::Close(error.close_code(), error.reason());
                }
            };
            tools.frame.clear();
            match event {
                Event::Message { data, .. } if self.connection.dialect == Dialect::V1 => {
                    match hear(&self.connection, data, standing, &mut self.expires, tools) {
                        Ok(()) => {}
                        Err(refusal) => {
                            tools.context.metrics.refused(self.listener, refusal.reason);
                            return Next::Close(refusal.code, refusal.reason);
                        }
                    }
                }
                Event::Message { data, .. } if *standing == Standing::Unnamed => {
                    // The article's pages get what was held only where the operator has asked for holding.
                    let held = if tools.policy.hold.is_zero() { CatchUp::Nothing } else { CatchUp::Unsent };
                    match name(&self.connection, data, held, tools) {
                        Ok(expires) => {
                            *standing = Standing::Listening;
                            self.expires = expires;
                        }
                        Err(refusal) => {
                            tools.context.metrics.refused(self.listener, refusal.reason);
                            return Next::Close(refusal.code, refusal.reason);
                        }
                    }
                }
                Event::Message { kind, data } if *standing == Standing::Echo => {
                    let opcode = match kind {
                        MessageKind::Text => Opcode::Text,
                        MessageKind::Binary => Opcode::Binary,
                    };
                    encode(opcode, data, &mut tools.frame);
                    if let Some(compressed) = self.connection.compress(&tools.frame) {
                        tools.frame = compressed;
                    }
                }
                // The article's page may say what it likes; nobody listens.
                Event::Message { .. } => {}
                Event::Pong(payload) => {
                    // One for each ping, so that a page that sends them unasked adds nothing.
                    if std::mem::take(&mut awaiting_pong)
                        && let Some(took) = tools.clock.since_stamp(payload, tools.policy.limits.pong_timeout)
                    {
                        tools.context.metrics.ping_rtt.observe(took.as_secs_f64());
                    }
                }
                Event::Ping(payload) => encode(Opcode::Pong, payload, &mut tools.frame),
                Event::Close { code, .. } => {
                    // An echo server echoes the code too (RFC 6455 section 5.5.1); the article's answers 1000.
                    let code = code.filter(|_| *standing == Standing::Echo).unwrap_or(CloseCode::NORMAL);
                    encode_close(code, "", &mut tools.frame);
                    return Next::Farewell(std::mem::take(&mut tools.frame));
                }
            }
            if !tools.frame.is_empty() {
                match self.connection.send(&tools.frame, self.connection.bound()) {
                    Sent::Written => {}
                    Sent::Full => return Next::Close(CloseCode::TOO_SLOW, "too slow: the queue is full"),
                    Sent::Closed => return Next::Gone,
                }
            }
        }
        if *standing != Standing::Unnamed {
            let interval = tools.policy.limits.ping_interval;
            // Between four fifths of the interval and all of it, so that a crowd that came at once is not pinged
            // at once.
            let early = tools.jitter(interval / 5);
            self.deadline = tools.after(interval.saturating_sub(early));
        }
        Next::Continue
    }

    fn answer(&self, tools: &Tools) -> Next {
        match self.connection.send(&tools.frame, self.connection.bound()) {
            Sent::Written => Next::Continue,
            Sent::Full => Next::Close(CloseCode::TOO_SLOW, "too slow: the queue is full"),
            Sent::Closed => Next::Gone,
        }
    }
}

/// For what a listener's own limits bound already.
pub(super) const fn unbounded() -> doorbell_hub::Bound {
    doorbell_hub::Bound { bytes: usize::MAX, messages: usize::MAX }
}
