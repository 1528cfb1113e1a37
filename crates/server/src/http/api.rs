//! The HTTP API (`docs/PROTOCOL.md`).
//!
//! | call | does |
//! |---|---|
//! | `POST /v1/push` | to the connections of one uid or several |
//! | `POST /v1/broadcast` | to every connection |
//! | `GET /v1/users/{uid}` | who is there, on what, since when |
//! | `DELETE /v1/users/{uid}/connections` | closes them with 3501 |
//! | `POST /v1/users/{uid}/revoke` | ends tokens before their time, and the connections that came with them |
//! | `GET /v1/messages/{id}` | what became of a message |
//! | `GET /v1/connections`, `DELETE /v1/connections/{id}` | the list of all, closes one with 3501 |
//! | `POST /v1/connections/{id}/bind` | says who a waiting page is |
//! | `POST /v1/tokens` | mints a connection token |
//! | `PUT`, `DELETE /v1/groups/{group}/members/{uid}` | membership |
//! | `POST /v1/groups/{group}/push` | to the connections of a group's members |
//! | `/healthz`, `/readyz`, `/metrics` | operations, without a key |
//! | `/openapi.json`, `/docs` | all of this described, for programs and for people, without a key |

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::body::Body;
use axum::extract::{MatchedPath, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use doorbell_protocol::Uid;
use doorbell_protocol::close::CloseCode;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::connections::{self, Kicked, OneConnection};
use super::fields::{any_json, present};
use super::login;
use super::problem::{Members, Problem, parse_object, read_bytes, settle};
use super::push::{self, Payload, message_id};
use super::{docs, messages, openapi, tokens};
use crate::context::Context;
use crate::metrics::Listener;

pub(super) type App = Arc<Context>;
pub(super) type Answer<T> = Result<T, Problem>;

/// The routes of the API listener.
pub(crate) fn router(context: Arc<Context>) -> Router {
    let (guarded, guarded_calls) = guarded().split_for_parts();
    let (open, open_calls) = open().split_for_parts();
    let document = openapi::describe(guarded_calls, open_calls);
    let guarded =
        guarded.fallback(unknown).layer(middleware::from_fn_with_state(Arc::clone(&context), authorize));
    open.merge(guarded)
        .layer(middleware::from_fn_with_state(Arc::clone(&context), time))
        .layer(Extension(openapi::Document::new(&document)))
        .layer(middleware::from_fn_with_state((Arc::clone(&context), Listener::Api), settle))
        .with_state(context)
}

/// The calls that need a key, each with its description.
fn guarded() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(push::push))
        .routes(routes!(broadcast))
        .routes(routes!(user))
        .routes(routes!(kick))
        .routes(routes!(tokens::revoke))
        .routes(routes!(messages::trail))
        .routes(routes!(connections::list))
        .routes(routes!(connections::close))
        .routes(routes!(connections::bind))
        .routes(routes!(tokens::mint))
        .merge(login::api::routes())
        .routes(routes!(join, leave))
        .routes(routes!(push::push_group))
}

/// The calls that need none.
fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(healthy))
        .routes(routes!(ready))
        .routes(routes!(metrics))
        .routes(routes!(openapi::document))
        .routes(routes!(docs::page))
}

/// Takes the time of a call.
async fn time(
    State(context): State<App>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let response = next.run(request).await;
    // What reaches no route or has no such method may have any name; it is not among the labels.
    if let (Some(path), true) = (path, response.status() != StatusCode::METHOD_NOT_ALLOWED) {
        context.metrics.api_call(&method, path.as_str(), started.elapsed());
    }
    response
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

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BroadcastRequest {
    #[serde(default, deserialize_with = "present")]
    #[schema(required = true, schema_with = any_json)]
    data: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Broadcasted {
    connections: usize,
    written: usize,
}

/// Pushes to every connection that has a uid
#[utoipa::path(post, path = "/v1/broadcast", tag = "pushes", request_body = BroadcastRequest,
    responses((status = 200, description = "how many it reached", body = Broadcasted)))]
async fn broadcast(State(context): State<App>, body: Body) -> Answer<Json<Broadcasted>> {
    let request: BroadcastRequest = read(&context, body).await?;
    let payload = Payload::new(request.data)?;
    let id = message_id()?;
    let hub = Arc::clone(&context);
    let delivered = aside(move || hub.hub.broadcast(&payload.message(&id))).await?;
    context.metrics.broadcasts.inc();
    Ok(Json(Broadcasted { connections: delivered.connections, written: delivered.written }))
}

#[derive(Debug, Serialize, ToSchema)]
struct User {
    uid: String,
    /// Whether it has a connection, or a long-poll of its was just answered and it is about to ask again.
    online: bool,
    connections: Vec<OneConnection>,
}

/// Says whether a uid is there, from where and since when
#[utoipa::path(get, path = "/v1/users/{uid}", tag = "users", params(("uid" = String, Path, min_length = 1, max_length = 128)),
    responses((status = 200, description = "its connections, none when it is not there or between two long-polls", body = User)))]
async fn user(State(context): State<App>, Path(uid): Path<String>) -> Answer<Json<User>> {
    let uid = valid_uid(&uid)?;
    let connections: Vec<_> = context
        .hub
        .connections_of(uid.as_str())
        .iter()
        .filter(|connection| !connection.is_closing())
        .map(OneConnection::of)
        .collect();
    let online = !connections.is_empty() || context.hub.is_lingering(uid.as_str(), context.now());
    Ok(Json(User { uid: uid.to_string(), online, connections }))
}

/// Closes the connections of a uid with 3501
#[utoipa::path(delete, path = "/v1/users/{uid}/connections", tag = "users", params(("uid" = String, Path, min_length = 1, max_length = 128)),
    responses((status = 200, description = "how many were closed", body = Kicked)))]
async fn kick(State(context): State<App>, Path(uid): Path<String>) -> Answer<Json<Kicked>> {
    let uid = valid_uid(&uid)?;
    let mut connections = context.hub.connections_of(uid.as_str());
    connections.retain(|connection| !connection.is_closing());
    for connection in &connections {
        connection.close(CloseCode::KICKED, "kicked");
    }
    Ok(Json(Kicked { closed: connections.len() }))
}

#[derive(Debug, Serialize, ToSchema)]
struct Membership {
    /// Whether something had to change.
    changed: bool,
}

/// Makes a uid a member of a group
#[utoipa::path(put, path = "/v1/groups/{group}/members/{uid}", tag = "groups",
    params(("group" = String, Path, min_length = 1, max_length = 128), ("uid" = String, Path, min_length = 1, max_length = 128)),
    responses((status = 200, description = "it is a member", body = Membership)))]
async fn join(
    State(context): State<App>,
    Path((group, uid)): Path<(String, String)>,
) -> Answer<Json<Membership>> {
    let uid = valid_uid(&uid)?;
    let changed =
        context.hub.join(&group, &uid).map_err(|error| Problem::bad_request("group", error.to_string()))?;
    Ok(Json(Membership { changed }))
}

/// Ends a membership
#[utoipa::path(delete, path = "/v1/groups/{group}/members/{uid}", tag = "groups",
    params(("group" = String, Path), ("uid" = String, Path, min_length = 1, max_length = 128)),
    responses((status = 200, description = "it is no member", body = Membership)))]
async fn leave(
    State(context): State<App>,
    Path((group, uid)): Path<(String, String)>,
) -> Answer<Json<Membership>> {
    Ok(Json(Membership { changed: context.hub.leave(&group, valid_uid(&uid)?.as_str()) }))
}

/// Says that the process answers
#[utoipa::path(get, path = "/healthz", tag = "operations",
    responses((status = 200, description = "it does", body = String, content_type = "text/plain"),
        (status = 503, description = "a part of it has ended", body = Members, content_type = "application/problem+json")))]
async fn healthy(State(context): State<App>) -> Response {
    if context.health.is_alive() {
        return "ok\n".into_response();
    }
    let detail = "a thread has ended before its time; see the log";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "dead_thread", detail).into_response()
}

/// Says whether the server takes new work
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses((status = 200, description = "it does", body = String, content_type = "text/plain"),
        (status = 503, description = "it does not", body = Members, content_type = "application/problem+json")))]
async fn ready(State(context): State<App>) -> Response {
    if context.is_draining() {
        let detail = "the server is stopping";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail).into_response();
    }
    if let Some(reason) = context.health.refusing() {
        let detail = "new connections are turned away";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason, detail).into_response();
    }
    "ready\n".into_response()
}

/// Counts what happens, in the OpenMetrics format
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "the metrics", body = String, content_type = "application/openmetrics-text")))]
async fn metrics(State(context): State<App>) -> Response {
    let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
    if let Some(service) = context.login.get() {
        context.metrics.login.under_way.set(gauge(service.under_way()));
        context.metrics.login.long_polls.set(gauge(service.waiting()));
    }
    context.metrics.bound.set(gauge(context.hub.connections()));
    context.metrics.users.set(gauge(context.hub.users()));
    context.metrics.revocations.set(gauge(context.revocations.count()));
    let trail = context.hub.trail();
    context.metrics.trail_bytes.set(gauge(trail.bytes()));
    context.metrics.trail_overwritten.set(i64::try_from(trail.overwritten()).unwrap_or(i64::MAX));
    context.metrics.mailboxes.set(gauge(context.hub.mailboxes()));
    context.metrics.mailbox_bytes.set(gauge(context.hub.mailbox_bytes()));
    context.metrics.poll_lingered.set(i64::try_from(context.hub.lingered()).unwrap_or(i64::MAX));
    context.metrics.mailbox_lost.set(i64::try_from(context.hub.lost()).unwrap_or(i64::MAX));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], context.metrics.encode()).into_response()
}

async fn unknown(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {}", request.uri().path()))
}

/// Reads a body within the limits.
pub(super) async fn collect(context: &App, body: Body) -> Answer<Bytes> {
    let (limit, deadline) = {
        let policy = context.policy.load();
        (policy.limits.body_bytes, policy.limits.head_timeout)
    };
    read_bytes(body, limit, deadline).await
}

/// Reads a body that is an object, within the limits.
pub(super) async fn read<T: serde::de::DeserializeOwned>(context: &App, body: Body) -> Answer<T> {
    parse_object(&collect(context, body).await?)
}

/// [`read`], with the default for an empty body and for `null`.
pub(super) async fn read_optional<T>(context: &App, body: Body) -> Answer<T>
where
    T: serde::de::DeserializeOwned + Default,
{
    let text = collect(context, body).await?;
    match text.trim_ascii() {
        b"" | b"null" => Ok(T::default()),
        _ => parse_object(&text),
    }
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::Router;

    use super::*;
    use crate::policy::Policy;
    use crate::settings::Limits;

    /// What a router shows of itself, without its fallback.
    fn shown(router: &Router<impl Sized>) -> String {
        let shown = format!("{router:?}");
        shown.split("fallback_router").next().unwrap_or_default().to_owned()
    }

    /// The paths of a router: `RouteId(2): "/v1/broadcast"`.
    fn paths(shown: &str) -> BTreeMap<&str, &str> {
        let parts = shown.split("RouteId(").filter_map(|part| part.split_once("): \""));
        parts.filter_map(|(id, rest)| Some((id, rest.split_once('"')?.0))).collect()
    }

    /// The methods of each path: `RouteId(2): MethodRouter(… allow_header: Bytes(b"POST") })`.
    fn methods(shown: &str) -> BTreeSet<(String, String)> {
        let paths = paths(shown);
        let mut methods = BTreeSet::new();
        for part in shown.split("RouteId(") {
            let Some((id, rest)) = part.split_once("): MethodRouter(") else { continue };
            let Some((_, allowed)) = rest.split_once("allow_header: Bytes(b\"") else { continue };
            let allowed = allowed.split_once('"').expect("an end").0;
            for method in allowed.split(',').filter(|method| *method != "HEAD") {
                methods.insert((paths[id].to_owned(), method.to_owned()));
            }
        }
        methods
    }

    fn described(document: &serde_json::Value) -> BTreeSet<(String, String)> {
        let paths = document["paths"].as_object().expect("paths").iter();
        paths
            .flat_map(|(path, item)| {
                let methods = item.as_object().expect("methods").keys();
                methods.map(move |method| (path.clone(), method.to_uppercase()))
            })
            .collect()
    }

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let mut served = BTreeSet::new();
        let mut parts = Vec::new();
        for part in [guarded(), open()] {
            let (router, calls) = part.split_for_parts();
            served.extend(methods(&shown(&router)));
            parts.push(calls);
        }
        let open = parts.pop().expect("two");
        let document = openapi::describe(parts.pop().expect("two"), open);
        let document = serde_json::to_value(document).expect("JSON");
        assert!(served.len() > 12, "{served:?}");
        assert_eq!(served, described(&document));
        // Whatever is added to the router on its way is in the description too.
        let whole = router(Arc::new(Context::new(Policy::echo(Limits::default(), false))));
        let whole = shown(&whole);
        let whole: BTreeSet<&str> = paths(&whole).into_values().collect();
        let known = document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        assert_eq!(whole, known);
    }
}
