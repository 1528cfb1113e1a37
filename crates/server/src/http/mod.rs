//! Ordinary HTTP: what the public listener serves besides WebSockets, and the API.
//!
//! hyper drives every connection through [`serve`]; the routes are axum's.

mod api;
mod client;
mod connections;
mod demo;
mod docs;
mod fields;
mod login;
mod messages;
mod openapi;
mod page;
mod phone;
mod problem;
mod public;
mod push;
mod tokens;

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

pub(crate) use self::api::router as api_router;
pub(crate) use self::demo::Addresses as DemoAddresses;
pub(crate) use self::public::{Public, serve as serve_public};
pub(crate) use self::push::Remembered;
use crate::context::Context;
use crate::metrics::Listener;

/// The tasks of one server and the word to stop. Every task started in this module belongs to one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Who is at the other end of a request's connection: a proxy, where there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Serves the API until told to stop, at most `places` connections at once.
pub(crate) async fn serve_api(
    listener: TcpListener,
    router: Router,
    context: Arc<Context>,
    tasks: Tasks,
    places: usize,
) {
    let places = Arc::new(Semaphore::new(places));
    loop {
        let accepted = tokio::select! {
            () = tasks.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                context.metrics.accepted(Listener::Api);
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    context.metrics.refused(Listener::Api, "capacity");
                    continue;
                };
                let socket = Rewound::new(Vec::new(), socket);
                let (router, context, stop) = (router.clone(), Arc::clone(&context), tasks.stop.clone());
                tasks.tracker.spawn(async move {
                    serve(socket, Peer(peer.ip()), router, &context, Listener::Api, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Descriptors have run out; the system keeps the queue.
                context.metrics.accept_failed();
                tracing::error!(%error, "failed to accept a connection on the API listener");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one HTTP/1 connection with `router`, within the limits, until its end or the server's.
async fn serve(
    socket: Rewound,
    peer: Peer,
    router: Router,
    context: &Context,
    listener: Listener,
    stop: CancellationToken,
) {
    let limits = context.policy.load().limits.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        async move { router.oneshot(request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        // hyper's own least; its buffer also carries bodies.
        .max_buf_size(limits.head_bytes.max(8_192))
        // See `public`: there every connection is for one request.
        .keep_alive(listener == Listener::Api)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        let reason = if error.is_parse_too_large() {
            "head_too_large"
        } else if error.is_parse() {
            "malformed_head"
        } else if error.is_timeout() {
            "head_timeout"
        } else {
            return;
        };
        context.metrics.refused(listener, reason);
    }
}

/// A socket of which something was read already.
#[derive(Debug)]
pub(crate) struct Rewound {
    read: Vec<u8>,
    used: usize,
    socket: TcpStream,
}

impl Rewound {
    pub(crate) const fn new(read: Vec<u8>, socket: TcpStream) -> Self {
        Self { read, used: 0, socket }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.read.get(this.used..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.socket).poll_read(task, buffer);
        }
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        this.used += length;
        if this.used == this.read.len() {
            this.read = Vec::new();
            this.used = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(task)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(task, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
