//! The demonstration: one page on which a push arrives, and a form that makes one.
//!
//! Only ever part of a server that `doorbell demo` started. The form's pushes need no key, so they are accepted
//! from the page itself alone: same origin, JSON, and a host that no foreign name server could have pointed here.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::problem::{Problem, read_json};
use super::public::Public;
use super::push::{Pushed, push_by_hand};
use crate::settings::Demo;

const PAGE: &str = include_str!("../../assets/demo/index.html");
const STYLE: &str = include_str!("../../assets/demo/demo.css");
const SCRIPT: &str = include_str!("../../assets/demo/demo.js");

/// Everything the page loads is its own; nothing is inline, nothing frames it.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// Where the page's one-liners send their pushes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) text: SocketAddr,
    pub(crate) api: SocketAddr,
}

/// What the page is told, in `/demo/config.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    text: SocketAddr,
    api: SocketAddr,
    push_command: String,
    key_file: String,
}

impl Shown {
    pub(crate) fn new(demo: Demo, addresses: Addresses) -> Self {
        let Addresses { text, api } = addresses;
        Self { text, api, push_command: demo.push_command(api), key_file: demo.key_file }
    }

    /// `GET /`
    pub(super) fn page(&self) -> Response {
        file(PAGE, "text/html; charset=utf-8")
    }
}

/// The page's other routes.
pub(super) fn routes() -> Router<Public> {
    Router::new()
        .route("/demo.css", get(|| async { file(STYLE, "text/css; charset=utf-8") }))
        .route("/demo.js", get(|| async { file(SCRIPT, "text/javascript; charset=utf-8") }))
        .route("/demo/config.json", get(config))
        .route("/demo/push", post(push))
}

fn file(text: &'static str, kind: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

async fn config(State(public): State<Public>) -> Response {
    match &public.demo {
        Some(demo) => Json(&**demo).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushForm {
    uid: String,
    data: Box<RawValue>,
}

async fn push(State(public): State<Public>, request: Request) -> Result<Json<Pushed>, Problem> {
    let (parts, body): (_, Body) = request.into_parts();
    if !is_from_the_page(&parts.headers) {
        let detail = "only the demonstration page itself may push without a key";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin", detail));
    }
    let limits = public.context.policy.load().limits.clone();
    let form: PushForm = read_json(body, limits.body_bytes, limits.head_timeout).await?;
    Ok(Json(push_by_hand(&public.context, &form.uid, form.data)?))
}

fn is_from_the_page(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(header::HOST) else { return false };
    let json = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let same_origin = text(header::ORIGIN).is_some_and(|origin| origin.strip_prefix("http://") == Some(host));
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    json && same_origin && (name == "localhost" || name.parse::<IpAddr>().is_ok())
}
