//! The browser's client and its login element, one file each, so that a site needs no package manager.
//!
//! The files are built from `clients/js` and committed; the tests there insist that a fresh build is the same bytes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::public::Public;

const CLIENT: &str = include_str!("../../assets/client/doorbell.js");
const LOGIN: &str = include_str!("../../assets/client/doorbell-login.js");

/// A page asks again after five minutes, so an upgraded server's file is soon everywhere; until then it costs nothing.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");

pub(super) fn routes() -> Router<Public> {
    Router::new().route("/doorbell.js", script(CLIENT)).route("/doorbell-login.js", script(LOGIN))
}

fn script(text: &'static str) -> axum::routing::MethodRouter<Public> {
    let etag = etag(text);
    get(move |headers: HeaderMap| async move { answer(text, etag, &headers) })
}

/// Names the content. Not a defence against anybody: whoever could choose the file could choose its name, too.
fn etag(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// The file, or word that the browser has it already (RFC 9110 section 13.1.2).
fn answer(text: &'static str, etag: String, headers: &HeaderMap) -> Response {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag == etag);
    let common: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8")),
        (header::CACHE_CONTROL, CACHE_CONTROL),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // Any site may load it; what it may then do is for the origin checks of the calls it makes.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, common, [(header::ETAG, etag)]).into_response();
    }
    (common, [(header::ETAG, etag)], text).into_response()
}
