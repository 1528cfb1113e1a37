//! Web authorization: the pages a person is sent to, and what their codes are good for.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::api::{Call, unreadable};
use crate::{Api, App, Bases, CallError, Endpoint};

/// What the person is asked to grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Silent: gives the openid alone.
    #[default]
    Base,
    /// With a prompt: also the unionid, the name and the picture.
    UserInfo,
}

impl Scope {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "snsapi_base",
            Self::UserInfo => "snsapi_userinfo",
        }
    }
}

/// Where the phone's WeChat browser goes to be recognised (official account, service kind). WeChat checks the order
/// of the parameters and requires the fragment. `state` is at most 128 letters and digits.
pub fn authorize_url(bases: &Bases, appid: &str, redirect_uri: &str, scope: Scope, state: &str) -> String {
    let query = encoded(&[
        ("appid", appid),
        ("redirect_uri", redirect_uri),
        ("response_type", "code"),
        ("scope", scope.as_str()),
        ("state", state),
    ]);
    format!("{}/connect/oauth2/authorize?{query}#wechat_redirect", bases.open.as_str())
}

/// Where the computer's browser goes for WeChat's own QR code (website application).
pub fn qrconnect_url(bases: &Bases, appid: &str, redirect_uri: &str, state: &str) -> String {
    let query = encoded(&[
        ("appid", appid),
        ("redirect_uri", redirect_uri),
        ("response_type", "code"),
        ("scope", "snsapi_login"),
        ("state", state),
    ]);
    format!("{}/connect/qrconnect?{query}#wechat_redirect", bases.open.as_str())
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (name, value) in pairs {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                query.push(char::from(byte));
            } else {
                query.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    query
}

/// What a code was good for.
pub struct Grant {
    /// The person, for this appid alone.
    pub openid: String,
    /// The person, for every appid of one Open Platform account; when the account is bound to one and the scope allows.
    pub unionid: Option<String>,
    /// The person's token, for [`Api::profile`].
    pub access_token: SecretString,
    /// Renews it.
    pub refresh_token: Option<SecretString>,
    /// What was granted, comma-separated.
    pub scope: String,
    /// A made-up identity of WeChat's "snapshot page" mode: nobody to log in.
    pub snapshot_user: bool,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("openid", &self.openid)
            .field("unionid", &self.unionid)
            .field("scope", &self.scope)
            .field("snapshot_user", &self.snapshot_user)
            .finish_non_exhaustive()
    }
}

/// A name and a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// As the person wrote it; any text.
    pub name: Option<String>,
    /// Dies when the person changes the picture.
    pub picture: Option<String>,
    /// As in [`Grant::unionid`].
    pub unionid: Option<String>,
}

#[derive(Deserialize)]
struct GrantAnswer {
    openid: String,
    unionid: Option<String>,
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    #[serde(default)]
    scope: String,
    is_snapshotuser: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ProfileAnswer {
    openid: String,
    nickname: Option<String>,
    headimgurl: Option<String>,
    unionid: Option<String>,
}

impl Api {
    /// Exchanges a code, once.
    ///
    /// # Errors
    /// [`CallError::advice`] says what to do; [`crate::Advice::StartAgain`] for codes that are spent, expired or not ours.
    pub async fn exchange(&self, app: &App, code: &str) -> Result<Grant, CallError> {
        let endpoint = Endpoint::CodeToToken;
        let query = [
            ("appid", app.appid.as_str()),
            ("secret", app.secret.expose_secret()),
            ("code", code),
            ("grant_type", "authorization_code"),
        ];
        let answer: GrantAnswer = self.json(Call { endpoint, query: &query, body: None }).await?;
        if !is_id(&answer.openid) {
            return Err(unreadable(endpoint, "the openid is malformed"));
        }
        Ok(Grant {
            openid: answer.openid,
            unionid: answer.unionid.filter(|unionid| is_id(unionid)),
            access_token: answer.access_token,
            refresh_token: answer.refresh_token,
            scope: answer.scope,
            // Seen as a number; anything that is not plainly "no" is taken for "yes".
            snapshot_user: answer
                .is_snapshotuser
                .is_some_and(|value| !matches!(value.to_string().as_str(), "0" | "\"0\"" | "false" | "null")),
        })
    }

    /// Asks for a name and a picture; for grants of [`Scope::UserInfo`] and of website applications.
    ///
    /// # Errors
    /// 48001 when the scope does not allow it, or the person is a snapshot's.
    pub async fn profile(&self, grant: &Grant) -> Result<Profile, CallError> {
        let endpoint = Endpoint::UserInfo;
        let query = [
            ("access_token", grant.access_token.expose_secret()),
            ("openid", grant.openid.as_str()),
            ("lang", "zh_CN"),
        ];
        let answer: ProfileAnswer = self.json(Call { endpoint, query: &query, body: None }).await?;
        if answer.openid != grant.openid {
            return Err(unreadable(endpoint, "about someone else"));
        }
        let text = |value: Option<String>| value.filter(|value| !value.is_empty());
        Ok(Profile {
            name: text(answer.nickname),
            // It is shown as an image, so it is one of the web's or none.
            picture: text(answer.headimgurl)
                .filter(|url| url.starts_with("https://") || url.starts_with("http://"))
                .map(|url| url.replacen("http://thirdwx.qlogo.cn", "https://thirdwx.qlogo.cn", 1)),
            unionid: text(answer.unionid).filter(|unionid| is_id(unionid)),
        })
    }
}

/// Whether a text can be an openid or unionid: 28 characters today, and never with spaces or markup.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_the_order_and_the_fragment() {
        let bases = Bases::default();
        let back = "https://login.example.com/v1/callback/wechat?a=b";
        assert_eq!(
            authorize_url(&bases, "wx1", back, Scope::UserInfo, "S1"),
            "https://open.weixin.qq.com/connect/oauth2/authorize?appid=wx1&redirect_uri=\
             https%3A%2F%2Flogin.example.com%2Fv1%2Fcallback%2Fwechat%3Fa%3Db&response_type=code\
             &scope=snsapi_userinfo&state=S1#wechat_redirect"
        );
        assert_eq!(
            qrconnect_url(&bases, "wx2", "https://a.example/", "S2"),
            "https://open.weixin.qq.com/connect/qrconnect?appid=wx2&redirect_uri=https%3A%2F%2Fa.example%2F\
             &response_type=code&scope=snsapi_login&state=S2#wechat_redirect"
        );
    }

    #[test]
    fn ids_have_no_markup() {
        assert!(is_id("oGZUI0egBJY1zhBYw2KhdUfwVJJE"));
        for bad in ["", "a b", "<script>", "../x", &"o".repeat(129)] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
