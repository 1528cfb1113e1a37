//! Answers as WeChat's API gives them: HTTP 200, `text/plain`, errors with a `rid`.

use axum::response::{IntoResponse as _, Response};
use http::header;
use serde_json::{Value, json};

use crate::world::random_bytes;

/// A result.
pub(crate) fn answer(value: &Value) -> Response {
    // WeChat escapes slashes in some answers.
    text(value.to_string().replace('/', "\\/"))
}

/// An error.
pub(crate) fn fail(code: i64, message: &str) -> Response {
    text(json!({ "errcode": code, "errmsg": format!("{message}, rid: {}", rid()) }).to_string())
}

/// An error on its way to being an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure(pub(crate) i64, pub(crate) &'static str);

impl From<Failure> for Response {
    fn from(Failure(code, message): Failure) -> Self {
        fail(code, message)
    }
}

/// The text WeChat has for a code.
pub(crate) fn message_of(code: i64) -> &'static str {
    match code {
        -1 => "system error",
        40_001 => "invalid credential, access_token is invalid or not latest",
        40_013 => "invalid appid",
        40_029 => "invalid code",
        40_125 => "invalid appsecret",
        40_163 => "code been used",
        40_164 => "invalid ip 203.0.113.7, not in whitelist",
        40_226 => "code blocked",
        42_001 => "access_token expired",
        42_003 => "code expired",
        45_009 => "reach max api daily quota limit",
        45_011 => "api minute-quota reach limit, must slower, retry next minute",
        48_001 => "api unauthorized",
        _ => "error",
    }
}

pub(crate) fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain")], body).into_response()
}

/// Three times eight hexadecimal digits.
fn rid() -> String {
    let hex: String = random_bytes(12).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}", &hex[..8], &hex[8..16], &hex[16..])
}
