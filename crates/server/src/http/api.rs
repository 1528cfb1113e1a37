//! The HTTP API (`docs/PROTOCOL.md`).
//!
//! | call | does |
//! |---|---|
//! | `POST /v1/push` | to the connections of one uid or several |
//! | `POST /v1/broadcast` | to every connection |
//! | `GET /v1/users/{uid}` | who is there, on what, since when |
//! | `DELETE /v1/users/{uid}/connections` | closes them with 3501 |
//! | `POST /v1/users/{uid}/revoke` | ends tokens before their time, and the connections that came with them |
//! | `GET /v1/connections`, `DELETE /v1/connections/{id}` | the list of all, closes one with 3501 |
//! | `POST /v1/connections/{id}/bind` | says who a waiting page is |
//! | `POST /v1/tokens` | mints a connection token |
//! | `PUT`, `DELETE /v1/groups/{group}/members/{uid}` | membership |
//! | `POST /v1/groups/{group}/push` | to the connections of a group's members |
//! | `/healthz`, `/readyz`, `/metrics` | operations, without a key |

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use doorbell_protocol::Uid;
use doorbell_protocol::close::CloseCode;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::connections::{self, Kicked, OneConnection};
use super::problem::{Problem, read_json, settle};
use super::push::{Payload, message_id, present, push, push_group};
use super::tokens;
use crate::context::Context;
use crate::metrics::Listener;

pub(super) type App = Arc<Context>;
pub(super) type Answer<T> = Result<T, Problem>;

/// The routes of the API listener.
pub(crate) fn router(context: Arc<Context>) -> Router {
    let guarded = Router::new()
        .route("/v1/push", post(push))
        .route("/v1/broadcast", post(broadcast))
        .route("/v1/users/{uid}", get(user))
        .route("/v1/users/{uid}/connections", delete(kick))
        .route("/v1/users/{uid}/revoke", post(tokens::revoke))
        .route("/v1/connections", get(connections::list))
        .route("/v1/connections/{id}", delete(connections::close))
        .route("/v1/connections/{id}/bind", post(connections::bind))
        .route("/v1/tokens", post(tokens::mint))
        .route("/v1/groups/{group}/members/{uid}", put(join).delete(leave))
        .route("/v1/groups/{group}/push", post(push_group))
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(Arc::clone(&context), authorize));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(guarded)
        .layer(middleware::from_fn_with_state((Arc::clone(&context), Listener::Api), settle))
        .with_state(context)
}

/// Lets a request through that shows a key that works.
async fn authorize(State(context): State<App>, request: Request, next: Next) -> Response {
    let policy = context.policy.load_full();
    let name = presented_key(request.headers()).and_then(|key| policy.api_key(key, SystemTime::now()));
    let Some(name) = name else {
        let detail = "send an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`; the first run wrote one to api.key in the data dir";
        return Problem::new(StatusCode::UNAUTHORIZED, "key", detail).into_response();
    };
    tracing::debug!(key = name, method = %request.method(), path = request.uri().path(), "api request");
    next.run(request).await
}

fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        return scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii());
    }
    headers.get("x-api-key").map(|value| value.as_bytes().trim_ascii())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BroadcastRequest {
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct Broadcasted {
    connections: usize,
    written: usize,
}

async fn broadcast(State(context): State<App>, body: Body) -> Answer<Json<Broadcasted>> {
    let request: BroadcastRequest = read(&context, body).await?;
    let payload = Payload::new(request.data)?;
    let id = message_id()?;
    let hub = Arc::clone(&context);
    let delivered = aside(move || hub.hub.broadcast(&payload.message(&id))).await?;
    context.metrics.broadcasts.inc();
    Ok(Json(Broadcasted { connections: delivered.connections, written: delivered.written }))
}

#[derive(Debug, Serialize)]
struct User {
    uid: String,
    online: bool,
    connections: Vec<OneConnection>,
}

async fn user(State(context): State<App>, Path(uid): Path<String>) -> Answer<Json<User>> {
    let uid = valid_uid(&uid)?;
    let connections: Vec<_> = context
        .hub
        .connections_of(uid.as_str())
        .iter()
        .filter(|connection| !connection.is_closing())
        .map(OneConnection::of)
        .collect();
    Ok(Json(User { uid: uid.to_string(), online: !connections.is_empty(), connections }))
}

async fn kick(State(context): State<App>, Path(uid): Path<String>) -> Answer<Json<Kicked>> {
    let uid = valid_uid(&uid)?;
    let mut connections = context.hub.connections_of(uid.as_str());
    connections.retain(|connection| !connection.is_closing());
    for connection in &connections {
        connection.close(CloseCode::KICKED, "kicked");
    }
    Ok(Json(Kicked { closed: connections.len() }))
}

#[derive(Debug, Serialize)]
struct Membership {
    changed: bool,
}

async fn join(
    State(context): State<App>,
    Path((group, uid)): Path<(String, String)>,
) -> Answer<Json<Membership>> {
    let uid = valid_uid(&uid)?;
    let changed =
        context.hub.join(&group, &uid).map_err(|error| Problem::bad_request("group", error.to_string()))?;
    Ok(Json(Membership { changed }))
}

async fn leave(
    State(context): State<App>,
    Path((group, uid)): Path<(String, String)>,
) -> Answer<Json<Membership>> {
    Ok(Json(Membership { changed: context.hub.leave(&group, valid_uid(&uid)?.as_str()) }))
}

async fn ready(State(context): State<App>) -> Response {
    if context.is_draining() {
        let detail = "the server is stopping";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail).into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(context): State<App>) -> Response {
    let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
    context.metrics.bound.set(gauge(context.hub.connections()));
    context.metrics.users.set(gauge(context.hub.users()));
    context.metrics.revocations.set(gauge(context.revocations.count()));
    context.metrics.mailboxes.set(gauge(context.hub.mailboxes()));
    context.metrics.mailbox_bytes.set(gauge(context.hub.mailbox_bytes()));
    context.metrics.mailbox_lost.set(i64::try_from(context.hub.lost()).unwrap_or(i64::MAX));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], context.metrics.encode()).into_response()
}

async fn unknown(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {}", request.uri().path()))
}

pub(super) async fn read<T: serde::de::DeserializeOwned>(context: &App, body: Body) -> Answer<T> {
    let (limit, deadline) = {
        let policy = context.policy.load();
        (policy.limits.body_bytes, policy.limits.head_timeout)
    };
    read_json(body, limit, deadline).await
}

/// [`read`], with the default for an empty body.
pub(super) async fn read_optional<T>(context: &App, body: Body) -> Answer<T>
where
    T: serde::de::DeserializeOwned + Default,
{
    use axum::body::HttpBody as _;
    if body.is_end_stream() { Ok(T::default()) } else { read(context, body).await }
}

pub(super) fn valid_uid(uid: &str) -> Answer<Uid> {
    Uid::new(uid).map_err(|error| Problem::bad_request("uid", error.to_string()))
}

/// Runs what makes many system calls where it delays no other request.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a fan-out had panicked");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the fan-out failed; see the log")
    })
}
