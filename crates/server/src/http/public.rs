//! What the public listener serves besides WebSockets.
//!
//! Connections come from the event loops with their first request already read, and end with its answer: the next
//! request may be for a WebSocket or an event stream, and those live on the loops, which read every head first.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use doorbell_hub::Sink as _;
use http::{HeaderValue, StatusCode};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use super::problem::{Problem, settle};
use super::{Peer, Rewound, Tasks, client, demo, login, page, serve as serve_connection};
use crate::context::{Context, HttpConnection};
use crate::io::Socket;
use crate::metrics::Listener;
use crate::settings::Demo;
use crate::upgrade::{PATHS, Refused, busy};

/// What the public routes know.
#[derive(Debug, Clone)]
pub(crate) struct Public {
    pub(crate) context: Arc<Context>,
    pub(crate) demo: Option<Arc<demo::Shown>>,
}

impl Public {
    pub(crate) fn new(context: &Arc<Context>, demo: Option<(Demo, demo::Addresses)>) -> Self {
        let demo = demo.map(|(demo, addresses)| Arc::new(demo::Shown::new(demo, addresses)));
        Self { context: Arc::clone(context), demo }
    }
}

/// Serves the connections that arrive on `connections` until told to stop, at most `places` at once.
pub(crate) async fn serve(
    mut connections: mpsc::Receiver<HttpConnection>,
    public: Public,
    tasks: Tasks,
    places: usize,
) {
    let router = router(public.clone());
    let places = Arc::new(Semaphore::new(places));
    loop {
        let connection = tokio::select! {
            () = tasks.stop.cancelled() => return,
            connection = connections.recv() => connection,
        };
        let Some(connection) = connection else { return };
        let HttpConnection { socket, tls, peer, read, counted } = connection;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            public.context.metrics.refused(Listener::Public, "http_capacity");
            // What the socket takes at once is what the client hears.
            let (socket, answer) = (Socket(&socket), busy("http_capacity").answer());
            let _ = match &tls {
                None => socket.write(&answer),
                Some(tls) => tls.write(&socket, &answer),
            };
            continue;
        };
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "failed to take over a connection");
                continue;
            }
        };
        let router = router.clone();
        let (context, stop) = (Arc::clone(&public.context), tasks.stop.clone());
        tasks.tracker.spawn(async move {
            let peer = Peer { address: peer, tls: tls.is_some() };
            let socket = Rewound::new(read, socket, tls);
            serve_connection(socket, peer, router, &context, Listener::Public, stop).await;
            drop((counted, place));
        });
    }
}

fn router(public: Public) -> Router {
    let demo = public.demo.is_some();
    let mut router = Router::new();
    for path in PATHS {
        router = router.route(path, get(waiting_place));
    }
    router = router.merge(page::routes(&public)).merge(login::routes(&public)).merge(client::routes());
    if demo {
        router = router.merge(demo::routes());
    }
    let counted = (Arc::clone(&public.context), Listener::Public);
    router.fallback(unknown).layer(middleware::from_fn_with_state(counted, settle)).with_state(public)
}

/// `/` and `/ws` without an upgrade: a WebSocket lives here; the demonstration's page may too.
async fn waiting_place(State(public): State<Public>, request: Request) -> Response {
    match &public.demo {
        Some(demo) if request.uri().path() == "/" => demo.page(),
        _ => no_upgrade(),
    }
}

fn refuse(refused: &Refused) -> Response {
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = Problem::new(status, refused.reason, refused.detail.clone()).into_response();
    for (name, value) in refused.headers {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    response
}

fn no_upgrade() -> Response {
    let refused = Refused {
        headers: &[("Upgrade", "websocket"), ("Connection", "Upgrade")],
        ..Refused::new(
            426,
            "no_upgrade",
            "this address is for WebSockets: new WebSocket('ws://…/'), or 'wss://…/' by TLS",
        )
    };
    refuse(&refused)
}

async fn unknown(request: Request<Body>) -> Response {
    let detail = format!("there is no {}; WebSockets live at / and /ws", request.uri().path());
    refuse(&Refused::new(404, "not_found", detail))
}
