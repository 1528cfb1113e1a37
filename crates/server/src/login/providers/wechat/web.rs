//! `wechat-web`: our QR code opens our page in WeChat's browser; whoever agrees there goes on to WeChat's
//! authorization and comes back with a code (official account of the service kind).

use doorbell_login::{Begun, Errand, Outcome, Provider, ProviderError, Request, Token, Work};
use doorbell_wechat::oauth::{Scope, authorize_url};

use super::{Account, LABEL, parameter};
use crate::settings::{ProviderSettings, WeChatScope};

/// See the module's header.
#[derive(Debug)]
pub(in crate::login) struct Web {
    account: Account,
    scope: Scope,
    any_browser: bool,
}

impl Web {
    pub(in crate::login) fn new(settings: &ProviderSettings) -> Option<Self> {
        let scope = match settings.scope {
            WeChatScope::Base => Scope::Base,
            WeChatScope::UserInfo => Scope::UserInfo,
        };
        Some(Self { account: Account::new(settings)?, scope, any_browser: settings.any_browser })
    }
}

impl Provider for Web {
    fn name(&self) -> &str {
        &self.account.name
    }

    fn label(&self) -> &str {
        LABEL
    }

    /// WeChat calls nothing when the person refuses there, so our page asks first.
    fn shows_refusal(&self) -> bool {
        false
    }

    fn suits(&self, user_agent: &str) -> bool {
        self.any_browser || user_agent.contains("MicroMessenger")
    }

    fn begin<'a>(&'a self, errand: &'a Errand<'a>) -> Work<'a, Result<Begun, ProviderError>> {
        Box::pin(std::future::ready(Ok(authorize(&self.account, self.scope, errand))))
    }

    fn state(&self, request: &Request<'_>) -> Option<String> {
        state(request)
    }

    fn callback<'a>(&'a self, request: &'a Request<'a>) -> Work<'a, Result<Outcome, ProviderError>> {
        Box::pin(authorized(&self.account, self.scope, request))
    }
}

/// Sends the phone to the account's web authorization.
pub(super) fn authorize(account: &Account, scope: Scope, errand: &Errand<'_>) -> Begun {
    let Account { api, app, .. } = account;
    let state = hex(errand.state);
    Begun::Redirect(authorize_url(api.bases(), &app.appid, errand.callback, scope, &state))
}

/// The `state` that the phone is back from there with.
pub(super) fn state(request: &Request<'_>) -> Option<String> {
    parameter(request.query, "state").map(|state| unhex(&state).unwrap_or(state))
}

/// Who is back from there.
pub(super) async fn authorized(
    account: &Account,
    scope: Scope,
    request: &Request<'_>,
) -> Result<Outcome, ProviderError> {
    match parameter(request.query, "code") {
        Some(code) => account.identify(&code, scope == Scope::UserInfo).await.map(Outcome::Identity),
        None => Ok(Outcome::Refused),
    }
}

/// WeChat takes letters and digits alone as `state`, up to 128: the token's characters as hexadecimal digits are 86.
fn hex(state: &Token) -> String {
    state.expose().bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_letters_and_digits_is_read_back() {
        let token = Token::parse("abcDEF012-_abcDEF012-_abcDEF012-_abcDEF012-").expect("a token");
        let state = hex(&token);
        assert!(state.len() <= 128 && state.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{state}");
        assert_eq!(unhex(&state).as_deref(), Some(token.expose()));
        for bad in ["a", "zz", "ff"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
