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

use super::api::{Answer, App, read, valid_uid};
use super::problem::Problem;
use super::push::UidField;
use crate::io::{Connection, ConnectionId, Cursor, Dialect, Unbindable};

/// Connections of one page of the list: unless the request says, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// A connection as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct OneConnection {
    id: String,
    /// None while it has not said who it is, or waits to be bound.
    uid: Option<String>,
    transport: &'static str,
    dialect: &'static str,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    cursor: Option<String>,
    limit: Option<usize>,
    uid: Option<String>,
    transport: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ConnectionList {
    connections: Vec<OneConnection>,
    /// Where the next page begins; none when this was the last.
    next: Option<String>,
}

/// `GET /v1/connections`
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

#[derive(Debug, Serialize)]
pub(super) struct Kicked {
    pub(super) closed: usize,
}

/// `DELETE /v1/connections/{id}`
pub(super) async fn close(State(context): State<App>, Path(id): Path<String>) -> Answer<Json<Kicked>> {
    let id = ConnectionId::parse(&id).ok_or_else(unknown)?;
    let directory = context.directory.get().ok_or_else(unknown)?;
    let connection = directory.find(id).await.ok_or_else(unknown)?;
    connection.close(CloseCode::KICKED, "kicked");
    Ok(Json(Kicked { closed: 1 }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BindRequest {
    uid: UidField,
}

/// `POST /v1/connections/{id}/bind`
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
