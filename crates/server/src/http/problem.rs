//! Errors on the wire: RFC 9457 problems with a stable `type`.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;

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

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": format!("urn:doorbell:{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"doorbell\""));
        }
        if self.status == StatusCode::PAYLOAD_TOO_LARGE || self.status == StatusCode::REQUEST_TIMEOUT {
            // What is left of the body is not read.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Reads a whole JSON body within its bound and its deadline.
pub(super) async fn read_json<T: DeserializeOwned>(
    body: Body,
    limit: usize,
    deadline: Duration,
) -> Result<T, Problem> {
    let collected = tokio::time::timeout(deadline, axum::body::to_bytes(body, limit)).await;
    let bytes = match collected {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            use std::error::Error as _;
            let too_large =
                error.source().is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
            return Err(if too_large {
                let detail = format!("the body is larger than {limit} bytes (limits.body)");
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
            } else {
                Problem::bad_request("body", "the body ended before it was complete")
            });
        }
        Err(_) => {
            let detail = "the body did not arrive in time";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| Problem::bad_request("json", format!("the body: {error}")))
}
