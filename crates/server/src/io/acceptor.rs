//! Accepts connections and hands each to the event loop that has the fewest.
//!
//! One thread for both listeners. When descriptors run out it says so, leaves the connections it has alone, lets the
//! system keep the queue, and tries again a moment later.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use super::event_loop::{LoopHandle, NewConnection};
use super::life::{Role, Start};
use super::tls::NOT_NOW;
use crate::admission::{TokenBucket, is_in};
use crate::context::Context;
use crate::metrics::Listener;
use crate::upgrade::{Refused, busy, too_many_from};

const WAKE: Token = Token(usize::MAX);
/// How long it waits when the system has nothing left to accept with.
const PAUSE: Duration = Duration::from_millis(100);
/// How often that is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Connections accepted from one listener before the other is looked at.
const ACCEPTS_A_TURN: usize = 256;

/// A listener and what its connections are for.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) socket: TcpListener,
    pub(super) listener: Listener,
    pub(super) role: Role,
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct Acceptor {
    poll: Poll,
    sources: Vec<Source>,
    loops: Vec<Arc<LoopHandle>>,
    context: Arc<Context>,
    bucket: TokenBucket,
    /// Connections the loops may hold, so that the rest of the process keeps some descriptors.
    capacity: usize,
    complained: Option<Instant>,
}

/// Whether a listener has more to accept.
enum Turn {
    Done,
    More,
    /// The system has no descriptor or memory.
    Exhausted,
}

impl Acceptor {
    pub(super) fn new(
        mut sources: Vec<Source>,
        loops: Vec<Arc<LoopHandle>>,
        context: Arc<Context>,
        capacity: usize,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        for (index, source) in sources.iter_mut().enumerate() {
            poll.registry().register(&mut source.socket, Token(index), Interest::READABLE)?;
        }
        let bucket = TokenBucket::full(context.policy.load().limits.accept_rate, Instant::now());
        Ok((Self { poll, sources, loops, context, bucket, capacity, complained: None }, waker))
    }

    /// Runs until the context says that the server drains and the waker was used.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(16);
        let mut pending = vec![false; self.sources.len()];
        let mut timeout = None;
        loop {
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "failed to wait for connections");
            }
            if self.context.is_draining() {
                return;
            }
            for event in &events {
                if let Some(pending) = pending.get_mut(event.token().0) {
                    *pending = true;
                }
            }
            timeout = None;
            for (index, pending) in pending.iter_mut().enumerate().filter(|(_, pending)| **pending) {
                match self.accept(index) {
                    Turn::Done => *pending = false,
                    Turn::More => timeout = Some(Duration::ZERO),
                    Turn::Exhausted => timeout = timeout.or(Some(PAUSE)),
                }
            }
        }
    }

    fn accept(&mut self, index: usize) -> Turn {
        for _ in 0..ACCEPTS_A_TURN {
            match self.sources[index].socket.accept() {
                Ok((socket, peer)) => self.admit(index, socket, peer),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Turn::Done,
                    // The connection was gone before it was accepted.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.complain(&error);
                        return Turn::Exhausted;
                    }
                },
            }
        }
        Turn::More
    }

    fn admit(&mut self, index: usize, socket: mio::net::TcpStream, peer: SocketAddr) {
        let Source { listener, role, .. } = self.sources[index];
        let context = Arc::clone(&self.context);
        context.metrics.accepted(listener);
        let Some(home) = self.loops.iter().min_by_key(|home| home.load()).map(Arc::clone) else { return };
        let held: usize = self.loops.iter().map(|home| home.load()).sum();
        if held >= self.capacity {
            // No room even for a polite goodbye: what the socket takes at once is what the client hears.
            context.metrics.refused(listener, "capacity");
            context.health.refused("capacity");
            if self.may_complain() {
                tracing::error!(
                    connections = held,
                    "there is no room for more connections; existing ones go on, new ones are refused; raise the descriptor limit (ulimit -n, LimitNOFILE)"
                );
            }
            let answer = match listener {
                Listener::Public => self.refusal(&busy("capacity")),
                Listener::Text | Listener::Api => b"fail\n".to_vec(),
            };
            let _ = io::Write::write(&mut &socket, &answer);
            return;
        }
        let peer = peer.ip().to_canonical();
        let (start, counted) = match listener {
            Listener::Public => match self.welcome(peer) {
                Ok(counted) => (Start::Head(role), counted),
                Err((reason, answer)) => {
                    context.metrics.refused(listener, reason);
                    (Start::Refused(answer), false)
                }
            },
            Listener::Text | Listener::Api => (Start::Text, false),
        };
        let socket = TcpStream::from(OwnedFd::from(socket));
        home.add(NewConnection { socket, peer, counted, listener, start });
    }

    /// Whether `peer` may come in now, and whether it was counted. A trusted proxy is not: its clients are, once
    /// their requests say who they are.
    fn welcome(&mut self, peer: IpAddr) -> Result<bool, (&'static str, Vec<u8>)> {
        let policy = self.context.policy.load();
        if is_in(&policy.limits.exempt, peer) {
            return Ok(false);
        }
        if !self.bucket.take(policy.limits.accept_rate, Instant::now()) {
            self.context.health.refused("accept_rate");
            return Err(("accept_rate", self.refusal(&busy("accept_rate"))));
        }
        if is_in(&policy.trusted_proxies, peer) {
            return Ok(false);
        }
        if self.context.addresses.admit(peer, policy.limits.connections_per_ip) {
            Ok(true)
        } else {
            let refused = too_many_from(peer);
            Err((refused.reason, self.refusal(&refused)))
        }
    }

    /// What whoever is refused on the public listener hears, in the protocol they are about to speak.
    fn refusal(&self, refused: &Refused) -> Vec<u8> {
        if self.context.policy.load().tls.is_some() { NOT_NOW.to_vec() } else { refused.answer() }
    }

    /// Whether the last complaint is long enough ago.
    fn may_complain(&mut self) -> bool {
        let now = Instant::now();
        let may = self.complained.is_none_or(|last| now.duration_since(last) >= COMPLAIN_EVERY);
        if may {
            self.complained = Some(now);
        }
        may
    }

    fn complain(&mut self, error: &io::Error) {
        self.context.metrics.accept_failed();
        self.context.health.refused("descriptors");
        if self.may_complain() {
            tracing::error!(
                %error,
                "failed to accept a connection; existing ones go on, new ones wait; raise the descriptor limit (ulimit -n, LimitNOFILE)"
            );
        }
    }
}
