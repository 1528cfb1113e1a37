//! Parametric QR codes: a scan comes back as an event that names the scene.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use crate::api::{Call, unreadable};
use crate::{Api, CallError, Endpoint};

/// The longest life of a temporary code.
const MAX_SECONDS: u64 = 2_592_000;
/// The longest scene.
pub const MAX_SCENE_CHARS: usize = 64;

/// A temporary code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SceneCode {
    /// Events of its scans carry it.
    pub ticket: String,
    /// What the QR code says; any QR library draws it.
    pub url: String,
    /// How long WeChat accepts scans.
    pub expires_in: Duration,
}

#[derive(Deserialize)]
struct Answer {
    ticket: String,
    url: String,
    expire_seconds: Option<u64>,
}

impl Api {
    /// Makes a temporary code whose scans name `scene`: 1 to 64 characters. The account must be of the service kind, and
    /// verified.
    ///
    /// # Errors
    /// 48001 when the account has no right to it.
    pub async fn create_scene_code(
        &self,
        token: &SecretString,
        scene: &str,
        life: Duration,
    ) -> Result<SceneCode, CallError> {
        let endpoint = Endpoint::CreateQrCode;
        let body = json!({
            "expire_seconds": life.as_secs().clamp(1, MAX_SECONDS),
            "action_name": "QR_STR_SCENE",
            "action_info": { "scene": { "scene_str": scene } },
        });
        let query = [("access_token", token.expose_secret())];
        let answer: Answer = self.json(Call { endpoint, query: &query, body: Some(body) }).await?;
        // It becomes a QR code on a page, so it is an address of the web or nothing.
        if !(answer.url.starts_with("http://") || answer.url.starts_with("https://"))
            || answer.url.len() > 1_024
        {
            return Err(unreadable(endpoint, "the code's text is no address"));
        }
        let seconds = answer.expire_seconds.unwrap_or(60);
        Ok(SceneCode { ticket: answer.ticket, url: answer.url, expires_in: Duration::from_secs(seconds) })
    }
}
