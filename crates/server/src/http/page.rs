//! What a page without a WebSocket does besides listening: it acknowledges, and asks for tickets.
//!
//! `POST /v1/ack` and `POST /v1/tickets` on the public listener, with `Authorization: Bearer TOKEN`. Pages of allowed
//! origins may call them, and the event stream and the long-poll, from elsewhere (CORS, WHATWG Fetch section 3.2).

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{options, post};
use doorbell_hub::Outbox as _;
use doorbell_protocol::Uid;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::problem::{Problem, read_json};
use super::public::Public;
use crate::context::Context;
use crate::io::Dialect;
use crate::upgrade::origin_refused;

/// Bytes of a body here.
const MAX_BODY: usize = 1_024;

pub(super) fn routes(public: &Public) -> Router<Public> {
    Router::new()
        .route("/v1/ack", post(ack).options(no_content))
        .route("/v1/tickets", post(ticket).options(no_content))
        // GET is the event loops'; see `io/head.rs`.
        .route("/v1/events", options(no_content))
        .route("/v1/poll", options(no_content))
        .layer(middleware::from_fn_with_state(public.clone(), across_origins))
}

/// Refuses origins that are not allowed and opens the answer to those that are.
async fn across_origins(State(public): State<Public>, request: Request, next: Next) -> Response {
    let (origin, host) = (request.headers().get(header::ORIGIN), request.headers().get(header::HOST));
    let origins = &public.context.policy.load_full().origins;
    if !origins.allows(origin.map(HeaderValue::as_bytes), host.map(HeaderValue::as_bytes)) {
        let refused = origin_refused(origin.map(HeaderValue::as_bytes));
        return Problem::new(StatusCode::FORBIDDEN, refused.reason, refused.detail).into_response();
    }
    let origin = origin.cloned();
    let mut response = next.run(request).await;
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// The answer to a browser that asks whether it may.
async fn no_content() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, Last-Event-ID, Cache-Control"),
        (header::ACCESS_CONTROL_MAX_AGE, "7200"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Whose request it is, and the credential that says so.
fn identify(context: &Context, headers: &HeaderMap) -> Result<(Uid, Vec<u8>), Problem> {
    let unauthorized = |kind: &'static str| {
        let detail = "send `Authorization: Bearer TOKEN` with a token that is accepted";
        Problem::new(StatusCode::UNAUTHORIZED, kind, detail)
    };
    let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let token = value
        .and_then(|value| value.split_at_checked(7))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        .map(|(_, token)| token.trim_ascii())
        .ok_or_else(|| unauthorized("credential"))?;
    let identity = &context.policy.load_full().identity;
    let identified = context.identify(token, identity).map_err(unauthorized)?;
    Ok((identified.uid, token.to_vec()))
}

#[derive(Debug, Deserialize)]
struct Ack {
    seq: u64,
    /// The connection it is for, as the welcome named it; without it, every event stream of the uid.
    connection: Option<String>,
}

async fn ack(State(public): State<Public>, headers: HeaderMap, body: Body) -> Result<StatusCode, Problem> {
    let context = &public.context;
    let (uid, _) = identify(context, &headers)?;
    let deadline = context.policy.load().limits.head_timeout;
    let ack: Ack = read_json(body, MAX_BODY, deadline).await?;
    for connection in context.hub.connections_of(uid.as_str()) {
        let meant = ack.connection.as_ref().is_none_or(|id| *id == connection.id().to_string());
        if connection.dialect == Dialect::Events
            && meant
            && connection.seen().is_some()
            && let Some(range) = connection.acknowledge(ack.seq)
        {
            context.acked(&uid, connection.id(), range);
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Serialize)]
struct Ticket {
    ticket: String,
    /// Seconds.
    expires_in: u64,
}

async fn ticket(State(public): State<Public>, headers: HeaderMap) -> Result<Json<Ticket>, Problem> {
    let (_, credential) = identify(&public.context, &headers)?;
    let ticket = public.context.tickets.give(credential).ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "random", "the system gives no randomness")
    })?;
    Ok(Json(Ticket { ticket, expires_in: 30 }))
}
