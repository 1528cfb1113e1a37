//! Connections one by one: listed, closed, and bound by the backend.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use doorbell_hub::Outbox as _;
use doorbell_protocol::close::CloseCode;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api::{Answer, App, read, valid_uid};
use super::fields::UidField;
use super::problem::{Members, Problem};
use crate::io::{Connection, ConnectionId, Cursor, Dialect, Unbindable};

/// Connections of one page of the list: unless the request says, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// A connection as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connection)]
pub(super) struct OneConnection {
    #[schema(example = "c_00001700000000")]
    id: String,
    /// None while it has not said who it is, or waits to be bound.
    uid: Option<String>,
    /// `websocket`, `sse` or `poll`.
    transport: &'static str,
    /// `plain` or `doorbell.v1`.
    dialect: &'static str,
    /// The client's own IP address.
    address: String,
    /// Unix seconds.
    since: u32,
}

impl OneConnection {
    pub(super) fn of(connection: &Arc<Connection>) -> Self {
        Self {
            id: connection.id().to_string(),
            uid: connection.uid().map(ToString::to_string),
            transport: connection.dialect.transport(),
            dialect: connection.dialect.name(),
            address: connection.address.to_string(),
            since: connection.since,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// The `next` of the page before.
    #[param(pattern = "^[a-z0-9_.-]+$")]
    cursor: Option<String>,
    /// Connections of one page; 100 without it.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
    /// Only those of this uid.
    #[param(min_length = 1, max_length = 128)]
    uid: Option<String>,
    /// Only those of this kind.
    #[param(pattern = "^(websocket|sse|poll)$")]
    transport: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConnectionList {
    connections: Vec<OneConnection>,
    /// Where the next page begins; none when this was the last.
    next: Option<String>,
}

/// Lists connections, a page at a time
#[utoipa::path(get, path = "/v1/connections", tag = "connections", params(ListQuery),
    responses((status = 200, description = "one page", body = ConnectionList),
        (status = 400, description = "the query says what cannot be", body = Members, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(context): State<App>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Json<ConnectionList>> {
    let Query(query) = query.map_err(|error| Problem::bad_request("query", error.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request("limit", format!("`limit` is 1 to {MAX_PAGE}")));
    }
    let transport = match &query.transport {
        None => None,
        Some(name) => Some(transport(name).ok_or_else(|| {
            Problem::bad_request("transport", "`transport` is \"websocket\", \"sse\" or \"poll\"")
        })?),
    };
    let wrong_cursor = || Problem::bad_request("cursor", "`cursor` is the `next` of the page before");
    if let Some(uid) = &query.uid {
        let uid = valid_uid(uid)?;
        let after = match &query.cursor {
            None => None,
            Some(cursor) => Some(ConnectionId::parse(cursor).ok_or_else(wrong_cursor)?.as_u64()),
        };
        let mut found = context.hub.connections_of(uid.as_str());
        found.sort_by_key(|connection| connection.id().as_u64());
        found.retain(|connection| {
            !connection.is_closing()
                && after.is_none_or(|after| connection.id().as_u64() > after)
                && transport.is_none_or(|transport| transport == connection.dialect.transport())
        });
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| last.id().to_string());
        return Ok(Json(ConnectionList { connections: found.iter().map(OneConnection::of).collect(), next }));
    }
    let cursor = match &query.cursor {
        None => Cursor::default(),
        Some(cursor) => Cursor::parse(cursor).ok_or_else(wrong_cursor)?,
    };
    let Some(directory) = context.directory.get() else { return Err(unknown()) };
    let (found, next) = directory.list(cursor, limit, transport).await;
    let connections = found.iter().map(OneConnection::of).collect();
    Ok(Json(ConnectionList { connections, next: next.map(|next| next.to_string()) }))
}

fn transport(name: &str) -> Option<&'static str> {
    let all = [Dialect::V1, Dialect::Events, Dialect::Poll];
    all.into_iter().map(Dialect::transport).find(|transport| *transport == name)
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kicked {
    pub(super) closed: usize,
}

/// Closes one connection with 3501
#[utoipa::path(delete, path = "/v1/connections/{id}", tag = "connections", params(("id" = String, Path)),
    responses((status = 200, description = "it is closed", body = Kicked),
        (status = 404, description = "there is no such connection", body = Members, content_type = "application/problem+json")))]
pub(super) async fn close(State(context): State<App>, Path(id): Path<String>) -> Answer<Json<Kicked>> {
    let id = ConnectionId::parse(&id).ok_or_else(unknown)?;
    let directory = context.directory.get().ok_or_else(unknown)?;
    let connection = directory.find(id).await.ok_or_else(unknown)?;
    connection.close(CloseCode::KICKED, "kicked");
    Ok(Json(Kicked { closed: 1 }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BindRequest {
    uid: UidField,
}

/// Says who a waiting page is
#[utoipa::path(post, path = "/v1/connections/{id}/bind", tag = "connections", params(("id" = String, Path)),
    request_body = BindRequest,
    responses((status = 200, description = "it has its uid", body = OneConnection),
        (status = 404, description = "there is no such connection", body = Members, content_type = "application/problem+json"),
        (status = 409, description = "it does not wait, or the uid has too many", body = Members, content_type = "application/problem+json"),
        (status = 503, description = "no answer in time", body = Members, content_type = "application/problem+json")))]
pub(super) async fn bind(
    State(context): State<App>,
    Path(id): Path<String>,
    body: Body,
) -> Answer<Json<OneConnection>> {
    let request: BindRequest = read(&context, body).await?;
    let uid = request.uid.uid()?;
    let id = ConnectionId::parse(&id).ok_or_else(unknown)?;
    let directory = context.directory.get().ok_or_else(unknown)?;
    let bound = directory.bind(id, uid).await;
    bound.map(|connection| Json(OneConnection::of(&connection))).map_err(|error| match error {
        Unbindable::Unknown => unknown(),
        Unbindable::Bound => conflict("bound", "the connection has a uid already"),
        Unbindable::NotWaiting => conflict(
            "not_waiting",
            "the connection does not wait to be bound: a doorbell.v1 page does after a hello without a token",
        ),
        Unbindable::TooMany => conflict(
            "connections_per_uid",
            "the uid has as many connections as it may have (limits.connections_per_uid)",
        ),
        Unbindable::Busy => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "the connection's loop did not answer in time; it may be bound all the same",
        ),
    })
}

fn conflict(kind: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::CONFLICT, kind, detail)
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_connection", "there is no connection of that name now")
}
