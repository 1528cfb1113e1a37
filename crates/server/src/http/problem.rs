//! Errors on the wire: RFC 9457 problems with a stable `type`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::context::Context;
use crate::metrics::Listener;

/// An error as a client sees it. `kind` is the stable part: the response's `type` is `urn:doorbell:<kind>`.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into() }
    }

    pub(super) fn bad_request(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, detail)
    }

    /// Its status and what it says to people.
    pub(super) fn into_parts(self) -> (StatusCode, String) {
        (self.status, self.detail)
    }

    /// For answers the HTTP library makes by itself, such as to a path that is no UTF-8.
    fn of_status(status: StatusCode) -> Self {
        let (kind, detail) = match status {
            StatusCode::METHOD_NOT_ALLOWED => ("method", "the path does not take this method"),
            StatusCode::NOT_FOUND => ("not_found", "there is nothing at this path"),
            _ => ("malformed", "the request cannot be understood"),
        };
        Self::new(status, kind, detail)
    }
}

/// The members of a problem (RFC 9457 section 3.1), in the order the event loops write them too.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Members {
    /// `urn:doorbell:` and a word that never changes: what a program looks at.
    #[serde(rename = "type")]
    #[schema(pattern = "^urn:doorbell:[a-z_]+$")]
    kind: String,
    title: &'static str,
    status: u16,
    /// For people.
    detail: String,
}

impl From<Problem> for Members {
    fn from(problem: Problem) -> Self {
        Self {
            kind: format!("urn:doorbell:{}", problem.kind),
            title: problem.status.canonical_reason().unwrap_or("Error"),
            status: problem.status.as_u16(),
            detail: problem.detail,
        }
    }
}

/// The kind of problem a response is, for whoever counts.
#[derive(Debug, Clone, Copy)]
struct Kind(&'static str);

/// Marks an error answer of another shape as what it is, so that it is counted and left as it is.
pub(super) fn counted_as(mut response: Response, kind: &'static str) -> Response {
    response.extensions_mut().insert(Kind(kind));
    response
}

/// Makes every error answer a problem, and counts it.
pub(super) async fn settle(
    State((context, listener)): State<(Arc<Context>, Listener)>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    if response.extensions().get::<Kind>().is_none() {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = Problem::of_status(response.status()).into_response();
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    if let Some(Kind(kind)) = response.extensions().get() {
        context.metrics.refused(listener, kind);
    }
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, kind) = (self.status, self.kind);
        // A struct of texts and a number always serializes.
        let body = serde_json::to_string(&Members::from(self)).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.extensions_mut().insert(Kind(kind));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"doorbell\""));
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE || status == StatusCode::REQUEST_TIMEOUT {
            // What is left of the body is not read.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Reads a whole JSON body, which is an object, within its bound and its deadline.
pub(super) async fn read_json<T: DeserializeOwned>(
    body: Body,
    limit: usize,
    deadline: Duration,
) -> Result<T, Problem> {
    parse_object(&read_bytes(body, limit, deadline).await?)
}

/// Reads a whole body within its bound and its deadline.
pub(super) async fn read_bytes(body: Body, limit: usize, deadline: Duration) -> Result<Bytes, Problem> {
    match tokio::time::timeout(deadline, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            use std::error::Error as _;
            let too_large =
                error.source().is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
            Err(if too_large {
                let detail = format!("the body is larger than {limit} bytes (limits.body)");
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
            } else {
                Problem::bad_request("body", "the body ended before it was complete")
            })
        }
        Err(_) => {
            let detail = "the body did not arrive in time";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
        }
    }
}

/// Reads an object. serde would also take a list of its fields' values.
pub(super) fn parse_object<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    if text.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(Problem::bad_request("json", "the body: expected an object in {}"));
    }
    parse(text)
}

/// Reads any JSON.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|error| Problem::bad_request("json", format!("the body: {error}")))
}
