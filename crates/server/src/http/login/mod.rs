//! Scan-to-login over HTTP (`docs/PROTOCOL.md`).
//!
//! | file | owns |
//! |---|---|
//! | [`caller`] | who calls: address, cookies, origin, and the server's address as they know it |
//! | [`fields`] | bodies, JSON or form |
//! | [`device`] | what the page asks: to begin, to look, to renew, to type the number, to give up |
//! | [`token`] | what the site's backend asks by OAuth: the result, once |
//! | [`revoke`] | signing out by the token |
//! | [`scan`] | what the phone asks: the pages under `/s` |
//! | [`phone_page`] | what these pages look like |
//! | [`callback`] | what providers ask |
//! | [`api`] | the calls of the API listener |

pub(super) mod api;
mod callback;
mod caller;
mod device;
mod fields;
mod phone_page;
mod revoke;
mod scan;
mod token;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, options, post};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use self::caller::Caller;
use super::problem::{Problem, counted_as};
use super::public::Public;
use crate::context::Context;
use crate::login::Service;
use crate::upgrade::origin_refused;

/// Bytes of a body here.
const MAX_BODY: usize = 16 * 1_024;

/// The routes of the public listener.
pub(super) fn routes(public: &Public) -> Router<Public> {
    let called_by_pages = Router::new()
        .route("/v1/device_authorization", post(device::begin).options(no_content))
        .route("/v1/token", post(token::token).options(no_content))
        .route("/v1/revoke", post(revoke::revoke).options(no_content))
        .route("/v1/login", get(device::current).delete(device::cancel).options(no_content))
        .route("/v1/login/rotate", post(device::rotate).options(no_content))
        .route("/v1/login/number", post(device::number).options(no_content))
        .route("/v1/login/provider", post(device::provider).options(no_content))
        // GET is the event loops'; see `io/head.rs`.
        .route("/v1/login/events", options(no_content))
        .layer(middleware::from_fn_with_state(public.clone(), across_origins));
    let called_by_phones = Router::new()
        .route("/s", get(scan::form).post(scan::typed))
        .route("/s/{qr}", get(scan::page))
        .route("/s/{qr}/scan", post(scan::scan))
        .route("/s/{qr}/approve", post(scan::approve))
        .route("/s/{qr}/deny", post(scan::deny))
        .route("/s/{qr}/revoke", post(scan::revoke))
        .route("/v1/callback/{provider}", get(callback::callback).post(callback::callback))
        .layer(middleware::from_fn(kept_nowhere));
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .merge(called_by_phones)
        .merge(called_by_pages)
}

/// The service; every server that has these routes has one.
fn service(context: &Context) -> Result<&Arc<Service>, Refused> {
    context
        .login
        .get()
        .ok_or_else(|| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "starting"))
}

/// An error as OAuth writes it (RFC 6749 section 5.2).
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    error: &'static str,
    description: String,
    /// Further members.
    more: Value,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Refused {
    fn new(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: description.into(), more: Value::Null, retry_after: None }
    }

    fn bad_request(error: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, description)
    }

    fn with(mut self, more: Value) -> Self {
        self.more = more;
        self
    }

    const fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let (status, detail) = problem.into_parts();
        Self::new(status, "invalid_request", detail)
    }
}

impl From<&doorbell_login::Refusal> for Refused {
    fn from(refusal: &doorbell_login::Refusal) -> Self {
        use doorbell_login::Refusal;
        let status = match refusal {
            Refusal::Unknown => StatusCode::NOT_FOUND,
            Refusal::Renewed | Refusal::Over(_) => StatusCode::GONE,
            Refusal::AlreadyScanned | Refusal::WrongState(_) => StatusCode::CONFLICT,
            Refusal::Number { .. } => StatusCode::BAD_REQUEST,
            Refusal::TooFar | Refusal::Provider => StatusCode::FORBIDDEN,
            Refusal::TooOften => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let refused = Self::new(status, crate::login::error_of(refusal), refusal.to_string());
        match refusal {
            Refusal::Number { left } => refused.with(json!({"tries_left": left})),
            Refusal::Over(state) | Refusal::WrongState(state) => refused.with(json!({"state": state.name()})),
            Refusal::TooOften => refused.after(1),
            Refusal::Store(_) => refused.after(5),
            _ => refused,
        }
    }
}

impl From<doorbell_login::Refusal> for Refused {
    fn from(refusal: doorbell_login::Refusal) -> Self {
        Self::from(&refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut body = json!({"error": self.error, "error_description": self.description});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), self.more) {
            body.extend(more);
        }
        let mut response = counted_as((self.status, Json(body)).into_response(), self.error);
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"doorbell\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Refuses pages of origins that are not allowed, and opens the answer to those that are, cookies included.
async fn across_origins(State(public): State<Public>, request: Request, next: Next) -> Response {
    let origins = public.context.policy.load().origins.clone();
    let headers = request.headers();
    let (origin, host) = (headers.get(header::ORIGIN), headers.get(header::HOST));
    let allowed = origins.allows(origin.map(HeaderValue::as_bytes), host.map(HeaderValue::as_bytes));
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if !allowed || (origin.is_none() && cross_site) {
        let refused = origin_refused(origin.map(HeaderValue::as_bytes));
        return Refused::new(StatusCode::FORBIDDEN, refused.reason, refused.detail).into_response();
    }
    let is_page = origin.is_some() || headers.contains_key("sec-fetch-site");
    let origin = origin.cloned();
    let mut response = kept_nowhere(request, next).await;
    if is_page && response.status() == StatusCode::UNAUTHORIZED {
        // At the word `Basic` a browser asks the visitor for a password.
        let bearer = HeaderValue::from_static("Bearer realm=\"doorbell\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// Has an answer kept by nobody, and its address told to nobody.
async fn kept_nowhere(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The answer to a browser that asks whether it may.
async fn no_content() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, Last-Event-ID, Cache-Control, Prefer",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "7200"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// `GET /.well-known/oauth-authorization-server` (RFC 8414).
async fn metadata(State(public): State<Public>, request: Request) -> Result<Response, Refused> {
    let caller = Caller::of(&public.context, &request)?;
    let base = &caller.base;
    let metadata = json!({
        "issuer": base,
        "device_authorization_endpoint": format!("{base}/v1/device_authorization"),
        "token_endpoint": format!("{base}/v1/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint": format!("{base}/v1/revoke"),
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "grant_types_supported": [token::DEVICE_CODE, token::AUTHORIZATION_CODE],
        "response_types_supported": [],
        "code_challenge_methods_supported": ["S256"],
    });
    Ok(Json(metadata).into_response())
}
