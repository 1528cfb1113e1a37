//! Mini programs: their codes, their sign-in, and the data they encrypt.

use std::fmt;

use aes::Aes128;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::api::{Call, unreadable};
use crate::crypto::sha1_hex;
use crate::oauth::is_id;
use crate::{Api, App, CallError, Endpoint};

/// The longest scene of a mini-program code.
pub const MAX_SCENE_CHARS: usize = 32;

/// Which edition of a mini program a code opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edition {
    /// The published one.
    #[default]
    Release,
    /// The one that is tried out.
    Trial,
    /// The one in the developer's hands.
    Develop,
}

impl Edition {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Trial => "trial",
            Self::Develop => "develop",
        }
    }
}

/// The picture of a mini-program code.
#[derive(Debug, Clone)]
pub struct Picture {
    /// `image/jpeg` or `image/png`.
    pub media_type: &'static str,
    /// The file.
    pub bytes: Bytes,
}

/// Who signed in to a mini program.
pub struct Session {
    /// The person, for this appid alone.
    pub openid: String,
    /// The person, across the appids of one Open Platform account.
    pub unionid: Option<String>,
    /// Decrypts what the mini program sends. Never leaves the server.
    pub session_key: SecretString,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { openid, unionid, session_key: _ } = self;
        f.debug_struct("Session").field("openid", openid).field("unionid", unionid).finish_non_exhaustive()
    }
}

/// Why data from a mini program is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not encrypted for this mini program and session")]
pub struct NotOurs;

#[derive(Deserialize)]
struct SessionAnswer {
    openid: String,
    unionid: Option<String>,
    session_key: SecretString,
}

impl Api {
    /// Exchanges the code of `wx.login()`, once.
    ///
    /// # Errors
    /// 40226 for a person whom WeChat holds for a risk; 45011 beyond a hundred calls a minute and person.
    pub async fn session(&self, app: &App, code: &str) -> Result<Session, CallError> {
        let endpoint = Endpoint::CodeToSession;
        let query = [
            ("appid", app.appid.as_str()),
            ("secret", app.secret.expose_secret()),
            ("js_code", code),
            ("grant_type", "authorization_code"),
        ];
        let SessionAnswer { openid, unionid, session_key } =
            self.json(Call { endpoint, query: &query, body: None }).await?;
        if !is_id(&openid) {
            return Err(unreadable(endpoint, "the openid is malformed"));
        }
        Ok(Session { openid, unionid: unionid.filter(|unionid| is_id(unionid)), session_key })
    }

    /// The picture of a code that opens `page`, or the home page, with `scene`: at most [`MAX_SCENE_CHARS`] visible
    /// characters. It never expires, so the scene must. Pages of other editions than the published one need not exist.
    ///
    /// # Errors
    /// 40169 for a bad scene, 41030 for a page that is not published.
    pub async fn mini_program_code(
        &self,
        token: &SecretString,
        scene: &str,
        page: Option<&str>,
        edition: Edition,
    ) -> Result<Picture, CallError> {
        let endpoint = Endpoint::MiniProgramCode;
        let mut body = json!({
            "scene": scene,
            "env_version": edition.as_str(),
            "check_path": edition == Edition::Release,
        });
        if let Some(page) = page {
            body["page"] = page.into();
        }
        let query = [("access_token", token.expose_secret())];
        let bytes = self.bytes(Call { endpoint, query: &query, body: Some(body) }).await?;
        // The bytes say what they are; the answer's type need not.
        let media_type = match &*bytes {
            [0xff, 0xd8, 0xff, ..] => "image/jpeg",
            [0x89, b'P', b'N', b'G', ..] => "image/png",
            _ => return Err(unreadable(endpoint, "neither JPEG nor PNG")),
        };
        Ok(Picture { media_type, bytes })
    }
}

impl Session {
    /// Decrypts what `wx.getUserInfo` and its like gave: JSON whose watermark names the appid.
    ///
    /// # Errors
    /// When it was not encrypted with this session's key for `appid`.
    pub fn decrypt(&self, appid: &str, encrypted_data: &str, iv: &str) -> Result<Value, NotOurs> {
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| NotOurs);
        let (key, iv) = (bytes(self.session_key.expose_secret())?, bytes(iv)?);
        let cipher = cbc::Decryptor::<Aes128>::new_from_slices(&key, &iv).map_err(|_| NotOurs)?;
        let mut data = bytes(encrypted_data)?;
        let plain = cipher.decrypt_padded::<Pkcs7>(&mut data).map_err(|_| NotOurs)?;
        let value: Value = serde_json::from_slice(plain).map_err(|_| NotOurs)?;
        if value["watermark"]["appid"].as_str() == Some(appid) { Ok(value) } else { Err(NotOurs) }
    }

    /// Whether `signature` is that of `raw_data` in this session.
    pub fn signed(&self, raw_data: &str, signature: &str) -> bool {
        let expected = sha1_hex(&[raw_data.as_bytes(), self.session_key.expose_secret().as_bytes()]);
        expected.as_bytes().ct_eq(signature.as_bytes()).into()
    }
}
