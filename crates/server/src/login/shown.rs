//! A login as its page is shown it: one JSON object, the same in every answer and event.

use std::time::Duration;

use doorbell_login::{OwnCode, Token, View};
use serde::Serialize;

/// See the module's header. Holds secrets: it is for whoever has the device code.
#[derive(Serialize)]
pub(crate) struct Shown {
    login: String,
    state: &'static str,
    version: u64,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_uri_complete: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotate_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    asks_number: bool,
}

impl Shown {
    pub(crate) fn of(view: &View) -> Self {
        let qr = view.qr.as_ref().map(Token::expose);
        let base = &view.base;
        let complete = match &view.own_code {
            Some(OwnCode::Text(text)) => Some(text.to_string()),
            // There is nothing to draw, and nothing to type: whoever came to our page could not go on there.
            Some(OwnCode::Elsewhere) => None,
            None => qr.map(|qr| format!("{base}/s/{qr}")),
        };
        let typed = complete.is_some();
        Self {
            login: view.login.to_string(),
            state: view.state.name(),
            version: view.version,
            expires_in: seconds(view.expires_in_ms),
            verification_uri: typed.then(|| format!("{base}/s")),
            verification_uri_complete: complete,
            user_code: view.user_code.filter(|_| typed).map(|code| code.to_string()),
            rotate_in: view.rotate_in_ms.map(seconds),
            number: view.number.clone(),
            name: view.name.clone(),
            code: view.code.as_ref().map(|code| code.expose().to_owned()),
            asks_number: view.asks_number,
        }
    }
}

/// Rounded up, so that 0 means that it is over.
pub(crate) const fn seconds(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1_000)
}

/// A login as an envelope of doorbell.v1.
#[derive(Serialize)]
pub(crate) struct Envelope {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    shown: Shown,
}

impl Envelope {
    pub(crate) fn of(view: &View) -> Self {
        Self { kind: "login", shown: Shown::of(view) }
    }
}

/// The envelope's bytes.
pub(super) fn envelope(view: &View) -> Vec<u8> {
    // Texts and numbers always serialize.
    serde_json::to_vec(&Envelope::of(view)).unwrap_or_default()
}

/// The envelope that says why there is none, and when to ask again where that helps. `error` is a word of ours.
pub(super) fn failure(error: &'static str, again: Option<Duration>) -> Vec<u8> {
    let again = again.map_or_else(String::new, |again| format!(",\"retry_after_ms\":{}", again.as_millis()));
    format!("{{\"type\":\"login\",\"state\":null,\"error\":\"{error}\"{again}}}").into_bytes()
}
