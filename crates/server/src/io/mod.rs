//! Everything that touches the sockets of waiting pages and of backends on the text port.
//!
//! | file | owns |
//! |---|---|
//! | [`acceptor`] | the listeners, and who may come in |
//! | [`event_loop`] | a thread's epoll set and its connections |
//! | [`life`] | the life of a connection: what each stage does with what arrives, and what is due when |
//! | [`tools`] | what a loop lends to the connection whose turn it is |
//! | [`hello`] | how a connection says who it is, and the conversation in doorbell.v1 |
//! | [`head`], [`stream`], [`text`] | the first bytes of a public connection; SSE and long-polls; the text port's lines |
//! | [`together`] | how frames of many connections go to the kernel together |
//! | [`poll`] | a long-poll's one answer |
//! | [`tls`], [`records`] | the TLS session of one connection; its records after the handshake |
//! | [`connection`] | what other threads may do to a connection |
//! | [`directory`] | how other threads find one by its name, and list them |
//!
//! Nothing outside knows how readiness is found or where bytes are kept; why it is built this way and what it
//! costs is measured in `docs/decisions/0001-own-epoll-loops.md`. Every thread started here belongs to the [`Io`]
//! that started it and ends in [`Io::drain`].

mod acceptor;
mod clock;
mod connection;
mod directory;
mod event_loop;
mod head;
mod hello;
mod life;
mod poll;
mod records;
mod stream;
mod text;
mod tls;
mod together;
mod tools;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use mio::Waker;

use self::acceptor::{Acceptor, Source};
pub(crate) use self::connection::{Connection, ConnectionId, Dialect, Socket};
pub(crate) use self::directory::{Cursor, Directory};
pub(crate) use self::event_loop::Unbindable;
use self::event_loop::{EventLoop, LoopHandle, Parted};
pub(crate) use self::life::Role;
pub(crate) use self::records::MAX_RECORD_BYTES;
pub(crate) use self::tls::{End, Failure, Tls};
use crate::context::Context;
use crate::metrics::Listener;

/// The event loops and the acceptor of one server.
#[derive(Debug)]
pub(crate) struct Io {
    context: Arc<Context>,
    loops: Loops,
    threads: Vec<JoinHandle<Parted>>,
    acceptor: JoinHandle<()>,
    waker: Waker,
}

/// The event loops.
#[derive(Debug, Clone)]
pub(crate) struct Loops(Arc<[Arc<LoopHandle>]>);

impl Io {
    /// Starts a loop per core and the acceptor. The listeners must be non-blocking.
    ///
    /// `capacity` is how many connections the loops may hold together.
    pub(crate) fn start(
        context: &Arc<Context>,
        listeners: Vec<(TcpListener, Listener, Role)>,
        capacity: usize,
    ) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(128);
        let mut loops = Vec::with_capacity(cores);
        for index in 0..cores {
            loops.push(EventLoop::new(u8::try_from(index).unwrap_or(u8::MAX), context)?);
        }
        let handles: Arc<[_]> = loops.iter().map(EventLoop::handle).collect();
        // Each context is given to one set of loops.
        let _ = context.directory.set(Directory::new(&handles));
        let sources = listeners
            .into_iter()
            .map(|(socket, listener, role)| Source {
                socket: mio::net::TcpListener::from_std(socket),
                listener,
                role,
            })
            .collect();
        let (acceptor, waker) = Acceptor::new(sources, handles.to_vec(), Arc::clone(context), capacity)?;
        let mut threads = Vec::with_capacity(cores);
        for (index, event_loop) in loops.into_iter().enumerate() {
            let builder = std::thread::Builder::new().name(format!("loop-{index}"));
            let watched = Watched(Arc::clone(context));
            threads.push(builder.spawn(move || {
                let _watched = watched;
                event_loop.run()
            })?);
        }
        let watched = Watched(Arc::clone(context));
        let builder = std::thread::Builder::new().name("acceptor".to_owned());
        let acceptor = builder.spawn(move || {
            let _watched = watched;
            acceptor.run();
        })?;
        Ok(Self { context: Arc::clone(context), loops: Loops(handles), threads, acceptor, waker })
    }

    /// The loops, for what concerns all of them.
    pub(crate) fn loops(&self) -> Loops {
        self.loops.clone()
    }

    /// Stops accepting, says goodbye to every connection and waits until all are gone or `until` has come.
    pub(crate) fn drain(self, until: Instant) -> (usize, usize) {
        self.context.start_draining();
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "failed to wake the acceptor");
        }
        for handle in &*self.loops.0 {
            handle.drain(until);
        }
        let mut total = Parted::default();
        for thread in self.threads {
            match thread.join() {
                Ok(parted) => {
                    total.closed += parted.closed;
                    total.cut += parted.cut;
                }
                Err(_) => tracing::error!("an event loop had panicked"),
            }
        }
        if self.acceptor.join().is_err() {
            tracing::error!("the acceptor had panicked");
        }
        (total.closed, total.cut)
    }
}

/// Says so when the thread that owns it ends before the server does.
struct Watched(Arc<Context>);

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.0.is_draining() {
            self.0.health.thread_died();
        }
    }
}

impl Loops {
    /// Takes over the bounds of a new policy.
    pub(crate) fn reload(&self, policy: &crate::policy::Policy) {
        for handle in &*self.0 {
            handle.adopt(policy);
        }
    }
}
