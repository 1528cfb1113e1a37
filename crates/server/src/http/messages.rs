//! `GET /v1/messages/{id}`: what became of a message, for each uid it was for.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use doorbell_hub::{Followed, Step};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api::{Answer, App, aside, valid_uid};
use super::problem::{Members, Problem};
use crate::context::Context;
use crate::io::ConnectionId;

/// Uids that one answer speaks of, and steps.
const MOST: usize = 10_000;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TrailQuery {
    /// Only what became of it for this uid.
    #[param(min_length = 1, max_length = 128)]
    uid: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trail {
    id: String,
    trails: Vec<OneTrail>,
    /// Whether that is all; the answer stops at 10,000 steps.
    complete: bool,
}

/// What became of it for one uid.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrailOfUid)]
pub(super) struct OneTrail {
    uid: String,
    /// Its number in the uid's sequence, when it has one.
    seq: Option<u64>,
    steps: Vec<OneStep>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrailStep)]
pub(super) struct OneStep {
    /// Milliseconds since the Unix epoch.
    at_ms: u64,
    /// `accepted`, `held`, `written`, `acked` or `dropped`.
    step: &'static str,
    /// The connection it is about; none when it is about all, or about long-polls.
    connection: Option<String>,
    /// Why it was dropped: `absent`, `expired`, `evicted`, `too_slow`, `connection_lost` or `closing`.
    reason: Option<&'static str>,
}

/// Says what became of a message
#[utoipa::path(get, path = "/v1/messages/{id}", tag = "pushes", params(("id" = String, Path), TrailQuery),
    responses((status = 200, description = "what is remembered of it", body = Trail),
        (status = 404, description = "nothing is remembered of it", body = Members, content_type = "application/problem+json")))]
pub(super) async fn trail(
    State(context): State<App>,
    Path(id): Path<String>,
    query: Result<Query<TrailQuery>, QueryRejection>,
) -> Answer<Json<Trail>> {
    let Query(query) = query.map_err(|error| Problem::bad_request("query", error.body_text()))?;
    let uid = query.uid.map(|uid| valid_uid(&uid)).transpose()?;
    let (asked, name) = (std::sync::Arc::clone(&context), id.clone());
    // It looks through all of them.
    let (found, complete) =
        aside(move || asked.hub.trail().find(&name, uid.as_ref().map(doorbell_protocol::Uid::as_str), MOST))
            .await?;
    if found.is_empty() {
        let detail = "no message of that id is remembered: none was accepted, or newer ones took its place (trail.memory)";
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_message", detail));
    }
    let trails = found.iter().map(|followed| OneTrail::of(followed, &context)).collect();
    Ok(Json(Trail { id, trails, complete }))
}

impl OneTrail {
    fn of(followed: &Followed, context: &Context) -> Self {
        let Followed { uid, seq, at, steps } = followed;
        let mut shown =
            vec![OneStep { at_ms: context.unix_ms(*at), step: "accepted", connection: None, reason: None }];
        shown.extend(steps.iter().map(|(at, step)| OneStep::of(context.unix_ms(*at), *step)));
        Self { uid: uid.to_string(), seq: (*seq > 0).then_some(*seq), steps: shown }
    }
}

impl OneStep {
    fn of(at_ms: u64, step: Step) -> Self {
        let name = |connection: u64| Some(ConnectionId::from_u64(connection).to_string());
        let (step, connection, reason) = match step {
            Step::Held => ("held", None, None),
            Step::Written { connection } => ("written", name(connection), None),
            Step::Acked { connection: 0 } => ("acked", None, None),
            Step::Acked { connection } => ("acked", name(connection), None),
            Step::Dropped { connection, reason } => {
                ("dropped", connection.and_then(name), Some(reason.name()))
            }
        };
        Self { at_ms, step, connection, reason }
    }
}
