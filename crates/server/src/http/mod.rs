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
mod rewound;
mod tokens;
mod ttl;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

pub(crate) use self::api::router as api_router;
pub(crate) use self::demo::Addresses as DemoAddresses;
pub(crate) use self::public::{Public, serve as serve_public};
pub(crate) use self::push::Remembered;
use self::rewound::Rewound;
use crate::context::Context;
use crate::metrics::Listener;

/// The tasks of one server and the word to stop. Every task started in this module belongs to one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// The other end of a request's connection: a proxy, where there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// Whether it speaks TLS with this server itself.
    pub(crate) tls: bool,
}

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
                let socket = Rewound::new(Vec::new(), socket, None);
                let peer = Peer { address: peer.ip(), tls: false };
                let (router, context, stop) = (router.clone(), Arc::clone(&context), tasks.stop.clone());
                tasks.tracker.spawn(async move {
                    serve(socket, peer, router, &context, Listener::Api, stop).await;
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
