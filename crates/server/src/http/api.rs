//! The HTTP API (`docs/PROTOCOL.md`).
//!
//! | call | does |
//! |---|---|
//! | `POST /v1/push` | to the connections of one uid or several |
//! | `POST /v1/broadcast` | to every connection |
//! | `GET /v1/users/{uid}` | who is there, on what, since when |
//! | `DELETE /v1/users/{uid}/connections` | closes them with 3501 |
//! | `PUT`, `DELETE /v1/groups/{group}/members/{uid}` | membership |
//! | `POST /v1/groups/{group}/push` | to the connections of a group's members |
//! | `/healthz`, `/readyz`, `/metrics` | operations, without a key |

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use doorbell_hub::{Delivered, Message};
use doorbell_protocol::close::CloseCode;
use doorbell_protocol::frame::{Opcode, encode};
use doorbell_protocol::{Uid, json};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::problem::{Problem, read_json, settle};
use crate::context::Context;
use crate::metrics::Listener;

/// Uids one push may name.
const MAX_UIDS: usize = 10_000;
/// From how many uids on a push leaves the thread that serves other requests: it makes a system call for each.
const MANY_UIDS: usize = 64;

type App = Arc<Context>;
type Answer<T> = Result<T, Problem>;

/// The routes of the API listener.
pub(crate) fn router(context: Arc<Context>) -> Router {
    let guarded = Router::new()
        .route("/v1/push", post(push))
        .route("/v1/broadcast", post(broadcast))
        .route("/v1/users/{uid}", get(user))
        .route("/v1/users/{uid}/connections", delete(kick))
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

/// What became of a push. `acked` and `held` belong to connections that acknowledge and to mailboxes; plain
/// connections have neither, so they are 0.
#[derive(Debug, Serialize)]
pub(super) struct Pushed {
    id: String,
    connections: usize,
    written: usize,
    acked: usize,
    held: usize,
}

impl Pushed {
    pub(super) fn new(delivered: Delivered) -> Answer<Self> {
        let id = message_id()?;
        Ok(Self { id, connections: delivered.connections, written: delivered.written, acked: 0, held: 0 })
    }
}

/// A name for one message that nobody can guess or repeat.
fn message_id() -> Answer<String> {
    use std::fmt::Write as _;
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "failed to read randomness");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "random", "the system gives no randomness")
    })?;
    Ok(random.iter().fold(String::from("m_"), |mut id, byte| {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushRequest {
    uid: Option<UidField>,
    uids: Option<Vec<UidField>>,
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    /// Seconds or a duration the message may wait. Only 0, "who is there now", exists without mailboxes.
    ttl: Option<serde_json::Value>,
    wait: Option<String>,
}

/// A uid as JSON writes it: a string, or an integer that stands for its digits.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum UidField {
    Text(String),
    Unsigned(u64),
    Signed(i64),
}

impl UidField {
    fn uid(&self) -> Answer<Uid> {
        let uid = match self {
            Self::Text(text) => Uid::new(text),
            Self::Unsigned(number) => Uid::new(&number.to_string()),
            Self::Signed(number) => Uid::new(&number.to_string()),
        };
        uid.map_err(|error| Problem::bad_request("uid", error.to_string()))
    }
}

/// The `data` of a push as a plain connection gets it: a string as itself, anything else as compact JSON.
pub(super) fn plain_frame(data: &RawValue) -> Answer<Vec<u8>> {
    let mut payload = Vec::new();
    if data.get().starts_with('"') {
        let text: String = serde_json::from_str(data.get())
            .map_err(|error| Problem::bad_request("json", format!("`data`: {error}")))?;
        payload = text.into_bytes();
    } else {
        json::compact_json(data.get(), &mut payload);
    }
    let mut frame = Vec::with_capacity(payload.len() + 10);
    encode(Opcode::Text, &payload, &mut frame);
    Ok(frame)
}

/// Tells `null`, which is data, from no data at all.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

fn required(data: Option<Box<RawValue>>) -> Answer<Box<RawValue>> {
    data.ok_or_else(|| Problem::bad_request("data", "`data` is missing: a string or any JSON value"))
}

async fn push(State(context): State<App>, body: Body) -> Answer<Json<Pushed>> {
    let request: PushRequest = read(&context, body).await?;
    if request.ttl.is_some_and(|ttl| ttl != 0 && ttl != "0s") {
        let detail = "`ttl` can only be 0 here: this version keeps no message for absent users";
        return Err(Problem::bad_request("ttl", detail));
    }
    if request.wait.is_some_and(|wait| wait != "written") {
        let detail = "`wait` can only be \"written\" here: plain connections acknowledge nothing";
        return Err(Problem::bad_request("wait", detail));
    }
    let frame = plain_frame(&required(request.data)?)?;
    let uids = match (request.uid, request.uids) {
        (Some(uid), None) => vec![uid.uid()?],
        (None, Some(uids)) if uids.len() > MAX_UIDS => {
            return Err(Problem::bad_request("uids", format!("`uids` names more than {MAX_UIDS}")));
        }
        // Whoever is named twice gets the message once.
        (None, Some(uids)) => {
            uids.iter().map(UidField::uid).collect::<Answer<BTreeSet<_>>>()?.into_iter().collect()
        }
        _ => return Err(Problem::bad_request("uid", "give either `uid` or `uids`")),
    };
    let hub = Arc::clone(&context);
    let many = uids.len() > MANY_UIDS;
    let send = move || {
        let message = Message::new(&frame);
        uids.iter().fold(Delivered::default(), |mut sum, uid| {
            sum += hub.hub.push(uid.as_str(), &message);
            sum
        })
    };
    let delivered = if many { aside(send).await? } else { send() };
    count(&context, delivered);
    Ok(Json(Pushed::new(delivered)?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataRequest {
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct Broadcasted {
    connections: usize,
    written: usize,
}

async fn broadcast(State(context): State<App>, body: Body) -> Answer<Json<Broadcasted>> {
    let request: DataRequest = read(&context, body).await?;
    let frame = plain_frame(&required(request.data)?)?;
    let hub = Arc::clone(&context);
    let delivered = aside(move || hub.hub.broadcast(&Message::new(&frame))).await?;
    context.metrics.broadcasts.inc();
    Ok(Json(Broadcasted { connections: delivered.connections, written: delivered.written }))
}

#[derive(Debug, Serialize)]
struct User {
    uid: String,
    online: bool,
    connections: Vec<OneConnection>,
}

#[derive(Debug, Serialize)]
struct OneConnection {
    id: String,
    transport: &'static str,
    dialect: &'static str,
    address: String,
    /// Unix seconds.
    since: u32,
}

async fn user(State(context): State<App>, Path(uid): Path<String>) -> Answer<Json<User>> {
    let uid = valid_uid(&uid)?;
    let connections: Vec<_> = context
        .hub
        .connections_of(uid.as_str())
        .iter()
        .filter(|connection| !connection.is_closing())
        .map(|connection| OneConnection {
            id: connection.id().to_string(),
            transport: "websocket",
            dialect: "plain",
            address: connection.address.to_string(),
            since: connection.since,
        })
        .collect();
    Ok(Json(User { uid: uid.to_string(), online: !connections.is_empty(), connections }))
}

#[derive(Debug, Serialize)]
struct Kicked {
    closed: usize,
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

async fn push_group(
    State(context): State<App>,
    Path(group): Path<String>,
    body: Body,
) -> Answer<Json<Pushed>> {
    let request: DataRequest = read(&context, body).await?;
    let frame = plain_frame(&required(request.data)?)?;
    let hub = Arc::clone(&context);
    let delivered = aside(move || hub.hub.push_group(&group, &Message::new(&frame))).await?;
    count(&context, delivered);
    Ok(Json(Pushed::new(delivered)?))
}

async fn ready(State(context): State<App>) -> Response {
    if context.is_draining() {
        let detail = "the server is stopping";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail).into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(context): State<App>) -> Response {
    context.metrics.bound.set(i64::try_from(context.hub.connections()).unwrap_or(i64::MAX));
    context.metrics.users.set(i64::try_from(context.hub.users()).unwrap_or(i64::MAX));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], context.metrics.encode()).into_response()
}

async fn unknown(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {}", request.uri().path()))
}

async fn read<T: serde::de::DeserializeOwned>(context: &App, body: Body) -> Answer<T> {
    let (limit, deadline) = {
        let policy = context.policy.load();
        (policy.limits.body_bytes, policy.limits.head_timeout)
    };
    read_json(body, limit, deadline).await
}

fn valid_uid(uid: &str) -> Answer<Uid> {
    Uid::new(uid).map_err(|error| Problem::bad_request("uid", error.to_string()))
}

fn count(context: &App, delivered: Delivered) {
    let result = if delivered.written > 0 { "ok" } else { "fail" };
    context.metrics.pushes("api", result).inc();
}

/// Runs what makes many system calls where it delays no other request.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a fan-out had panicked");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the fan-out failed; see the log")
    })
}
