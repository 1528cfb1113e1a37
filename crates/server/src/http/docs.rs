//! `/docs`: the API described for people, from `/openapi.json`, in one page that loads nothing else.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, header};

const PAGE: &str = include_str!("../../assets/docs/index.html");
const STYLE: &str = include_str!("../../assets/docs/docs.css");
const SCRIPT: &str = include_str!("../../assets/docs/docs.js");

/// The page with its style and its script in it, and the policy that allows these two and nothing else.
static WHOLE: LazyLock<(String, Option<HeaderValue>)> = LazyLock::new(|| {
    let page = PAGE.replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT);
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT),
    );
    // Base64 and words are always a header's value.
    (page, HeaderValue::from_str(&policy).ok())
});

/// A source expression that allows exactly this text (CSP level 3, section 2.3.1).
fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes())))
}

/// Shows this description in a browser
#[utoipa::path(get, path = "/docs", tag = "operations",
    responses((status = 200, description = "a page", body = String, content_type = "text/html")))]
pub(super) async fn page() -> Response {
    let (page, policy) = &*WHOLE;
    let mut response = Html(page.as_str()).into_response();
    let headers = response.headers_mut();
    let strict = HeaderValue::from_static("default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone().unwrap_or(strict));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
