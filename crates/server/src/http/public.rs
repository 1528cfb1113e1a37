//! What the public listener serves besides WebSockets.
//!
//! Connections come from the event loops with their first request already read. One that becomes a WebSocket later
//! (a proxy reusing a connection) goes back to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use doorbell_protocol::handshake::Upgrade;
use http::{HeaderValue, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use super::problem::{Problem, settle};
use super::{Rewound, Tasks, demo, serve as serve_connection};
use crate::admission::is_in;
use crate::client_address::client_address;
use crate::context::{Context, Counted, HttpConnection};
use crate::io::{Loops, Upgraded};
use crate::metrics::Listener;
use crate::settings::Demo;
use crate::upgrade::{PATHS, Refused, busy, grant, too_many_from};

/// What the public routes know.
#[derive(Debug, Clone)]
pub(crate) struct Public {
    pub(crate) context: Arc<Context>,
    pub(crate) loops: Loops,
    pub(crate) demo: Option<Arc<demo::Shown>>,
}

impl Public {
    pub(crate) fn new(context: &Arc<Context>, loops: Loops, demo: Option<(Demo, demo::Addresses)>) -> Self {
        let demo = demo.map(|(demo, addresses)| Arc::new(demo::Shown::new(demo, addresses)));
        Self { context: Arc::clone(context), loops, demo }
    }
}

/// A connection's address, for its requests.
#[derive(Debug, Clone, Copy)]
struct Peer(IpAddr);

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
        let HttpConnection { socket, read, peer, counted } = connection;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            public.context.metrics.refused(Listener::Public, "http_capacity");
            // What the socket takes at once is what the client hears.
            let _ = io::Write::write(&mut &socket, &busy("http_capacity").answer());
            continue;
        };
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "failed to take over a connection");
                continue;
            }
        };
        let router = router.clone().layer(axum::Extension(Peer(peer)));
        let (context, stop) = (Arc::clone(&public.context), tasks.stop.clone());
        tasks.tracker.spawn(async move {
            serve_connection(Rewound::new(read, socket), router, &context, Listener::Public, stop).await;
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
    if demo {
        router = router.merge(demo::routes());
    }
    let counted = (Arc::clone(&public.context), Listener::Public);
    router.fallback(unknown).layer(middleware::from_fn_with_state(counted, settle)).with_state(public)
}

/// `/` and `/ws`: a WebSocket lives here; the demonstration's page may too.
async fn waiting_place(State(public): State<Public>, mut request: Request) -> Response {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let minor_version = u8::from(parts.version >= Version::HTTP_11);
    let fields = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let upgrade = Upgrade::from_headers(parts.method.as_str(), minor_version, fields);
    if !upgrade.is_requested() {
        return match &public.demo {
            Some(demo) if parts.uri.path() == "/" => demo.page(),
            _ => no_upgrade(),
        };
    }
    let policy = public.context.policy.load_full();
    let (answer, dialect) = match grant(&upgrade, &policy) {
        Ok(granted) => granted,
        Err(refused) => return refuse(&refused),
    };
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let forwarded = parts.headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
    let address = client_address(peer, forwarded.collect::<Vec<_>>().into_iter(), &policy.trusted_proxies);
    // The HTTP connection's own place in the count ends with it; the WebSocket takes one of its own.
    let counted = if is_in(&policy.limits.exempt, address) {
        None
    } else if public.context.addresses.admit(address, policy.limits.connections_per_ip) {
        Some(Counted::new(&public.context, address))
    } else {
        return refuse(&too_many_from(address));
    };
    let loops = public.loops.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Rewound>>() else { return };
        let (socket, rest) = parts.io.into_inner().into_parts();
        let mut read = parts.read_buf.to_vec();
        read.extend_from_slice(&rest);
        match socket.into_std() {
            Ok(socket) => {
                loops.adopt(socket, address, counted.is_some(), Upgraded { dialect, read });
                // From here the event loop answers for the count.
                if let Some(counted) = counted {
                    counted.hand_on();
                }
            }
            Err(error) => tracing::warn!(%error, "failed to take over an upgraded connection"),
        }
    });
    switching(&answer)
}

/// The 101 the event loops would have written, as the HTTP library wants it.
fn switching(answer: &[u8]) -> Response {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Response::new(&mut headers);
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    if parsed.parse(answer).is_ok() {
        for field in parsed.headers.iter() {
            let name = http::HeaderName::from_bytes(field.name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response
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
        ..Refused::new(426, "no_upgrade", "this address is for WebSockets: new WebSocket('ws://…/')")
    };
    refuse(&refused)
}

async fn unknown(request: Request<Body>) -> Response {
    let detail = format!("there is no {}; WebSockets live at / and /ws", request.uri().path());
    refuse(&Refused::new(404, "not_found", detail))
}
