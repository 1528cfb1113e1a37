//! Where WeChat's calls and pages are.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use thiserror::Error;

/// The three hosts of WeChat. Configurable, so that a stand-in can take their place.
#[derive(Debug, Clone)]
pub struct Bases {
    /// `https://api.weixin.qq.com`: calls from server to server.
    pub api: Base,
    /// `https://open.weixin.qq.com`: pages shown to people.
    pub open: Base,
}

/// The beginning of addresses: scheme, host, port and perhaps a path, without a `/` at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base(String);

/// Why an address cannot be a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadBase {
    /// Not an address, or one with a query or fragment.
    #[error("expected an address such as https://api.weixin.qq.com")]
    NotAnAddress,
    /// Secrets travel in queries, so the way must be encrypted; a stand-in on this machine is excepted.
    #[error("expected https: secrets travel there (http is for addresses of this machine)")]
    NotEncrypted,
}

impl Default for Bases {
    fn default() -> Self {
        Self {
            api: Base("https://api.weixin.qq.com".into()),
            open: Base("https://open.weixin.qq.com".into()),
        }
    }
}

impl Base {
    /// Reads the beginning of addresses.
    ///
    /// # Errors
    /// When `text` is no such address, or one to which a secret would travel in clear.
    pub fn parse(text: &str) -> Result<Self, BadBase> {
        let url = Url::parse(text).map_err(|_| BadBase::NotAnAddress)?;
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(BadBase::NotAnAddress);
        }
        let host = url.host_str().ok_or(BadBase::NotAnAddress)?;
        match url.scheme() {
            "https" => {}
            "http" if is_this_machine(host) => {}
            "http" => return Err(BadBase::NotEncrypted),
            _ => return Err(BadBase::NotAnAddress),
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// The text, without a `/` at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A call of WeChat's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// A code for a user token.
    CodeToToken,
    /// A user token's renewal.
    RefreshUserToken,
    /// Whether a user token is good.
    CheckUserToken,
    /// Name and picture.
    UserInfo,
    /// The account token.
    StableToken,
    /// What an account may know of a person who follows it.
    Follower,
    /// A parametric QR code.
    CreateQrCode,
    /// The addresses callbacks come from.
    CallbackAddresses,
    /// A mini-program code.
    MiniProgramCode,
    /// A mini program's code for a session.
    CodeToSession,
}

impl Endpoint {
    /// How many there are.
    pub(crate) const COUNT: usize = 10;

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// The path under [`Bases::api`].
    pub const fn path(self) -> &'static str {
        match self {
            Self::CodeToToken => "/sns/oauth2/access_token",
            Self::RefreshUserToken => "/sns/oauth2/refresh_token",
            Self::CheckUserToken => "/sns/auth",
            Self::UserInfo => "/sns/userinfo",
            Self::StableToken => "/cgi-bin/stable_token",
            Self::Follower => "/cgi-bin/user/info",
            Self::CreateQrCode => "/cgi-bin/qrcode/create",
            Self::CallbackAddresses => "/cgi-bin/getcallbackip",
            Self::MiniProgramCode => "/wxa/getwxacodeunlimit",
            Self::CodeToSession => "/sns/jscode2session",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_encrypted_or_on_this_machine() {
        for (text, expected) in [
            ("https://api.weixin.qq.com", Ok("https://api.weixin.qq.com")),
            ("https://api.weixin.qq.com/", Ok("https://api.weixin.qq.com")),
            ("https://proxy.example.com:8443/wechat/", Ok("https://proxy.example.com:8443/wechat")),
            ("http://127.0.0.1:9000", Ok("http://127.0.0.1:9000")),
            ("http://[::1]:9000", Ok("http://[::1]:9000")),
            ("http://localhost:9000", Ok("http://localhost:9000")),
            ("http://api.weixin.qq.com", Err(BadBase::NotEncrypted)),
            ("http://localhost.example.com", Err(BadBase::NotEncrypted)),
            ("http://10.0.0.1", Err(BadBase::NotEncrypted)),
            ("ftp://127.0.0.1", Err(BadBase::NotAnAddress)),
            ("https://user@example.com", Err(BadBase::NotAnAddress)),
            ("https://example.com/?a=b", Err(BadBase::NotAnAddress)),
            ("https://example.com/#a", Err(BadBase::NotAnAddress)),
            ("api.weixin.qq.com", Err(BadBase::NotAnAddress)),
        ] {
            assert_eq!(
                Base::parse(text).as_ref().map(Base::as_str).map_err(|error| *error),
                expected,
                "{text}"
            );
        }
    }
}
