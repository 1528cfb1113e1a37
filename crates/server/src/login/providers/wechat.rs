//! What the ways of logging in with WeChat have in common.
//!
//! | kind | QR code | who agrees where | file |
//! |---|---|---|---|
//! | `wechat-web` | ours | our page in WeChat's browser, then WeChat's | [`web`] |
//! | `wechat-open` | WeChat's, on its page | WeChat's page on the phone | [`open`] |
//! | `wechat-mp` | WeChat's text, drawn by us | our page, from a link in the account's chat | [`mp`] |
//! | `wechat-miniprogram` | WeChat's picture | a mini program's page | [`mini_program`] |

mod mini_program;
mod mp;
mod open;
mod recent;
mod web;

use std::sync::Arc;

use doorbell_login::{Errand, Identity, NoRandomness, ProviderError};
use doorbell_wechat::oauth::{Grant, Profile};
use doorbell_wechat::{
    AccountToken, AccountTokenTiming, Advice, Api, App, Base, Bases, CallError, FileTokenStore, Timing,
};

pub(super) use self::mini_program::MiniProgram;
pub(super) use self::mp::Mp;
pub(super) use self::open::Open;
pub(super) use self::web::Web;
use crate::settings::ProviderSettings;

/// What every kind needs.
#[derive(Debug)]
struct Account {
    /// The section's name.
    name: String,
    app: App,
    api: Arc<Api>,
}

impl Account {
    /// None when a setting is missing, which the check of the configuration has told of.
    fn new(settings: &ProviderSettings) -> Option<Self> {
        let bases = Bases::default();
        let base = |text: &Option<String>, usual: Base| match text {
            Some(text) => Base::parse(text).ok(),
            None => Some(usual),
        };
        let bases =
            Bases { api: base(&settings.api_base, bases.api)?, open: base(&settings.open_base, bases.open)? };
        let api = match Api::new(bases, Timing::default()) {
            Ok(api) => Arc::new(api),
            Err(error) => {
                tracing::error!(provider = settings.name, %error, "WeChat's client cannot be made");
                return None;
            }
        };
        let app = App { appid: settings.appid.clone()?, secret: settings.secret.clone()? };
        Some(Self { name: settings.name.clone(), app, api })
    }

    /// The account's own token, for the kinds that ask WeChat for codes. None as for [`Account::new`].
    fn token(&self, settings: &ProviderSettings) -> Option<AccountToken> {
        let store = Arc::new(FileTokenStore::new(settings.account_token_path.clone()?));
        let timing = AccountTokenTiming::default();
        Some(AccountToken::new(Arc::clone(&self.api), self.app.clone(), store, timing))
    }

    fn identity(&self, openid: String, unionid: Option<String>, profile: Option<Profile>) -> Identity {
        let (name, picture, later) = match profile {
            Some(profile) => (profile.name, profile.picture, profile.unionid),
            None => (None, None, None),
        };
        Identity {
            provider: self.name.clone(),
            appid: Some(self.app.appid.clone()),
            id: openid,
            unionid: unionid.or(later),
            name,
            picture,
        }
    }

    /// Exchanges a code; with `profile`, asks for a name and a picture too, and goes without when there are none.
    async fn identify(&self, code: &str, profile: bool) -> Result<Identity, ProviderError> {
        let grant = self.api.exchange(&self.app, code).await.map_err(|error| self.failed(&error))?;
        if grant.snapshot_user {
            return Err(ProviderError::Unwelcome(SNAPSHOT));
        }
        let profile = if profile { self.profile(&grant).await } else { None };
        Ok(self.identity(grant.openid, grant.unionid, profile))
    }

    async fn profile(&self, grant: &Grant) -> Option<Profile> {
        match self.api.profile(grant).await {
            Ok(profile) => Some(profile),
            Err(error) => {
                tracing::warn!(provider = self.name, %error, "logging in without a name and a picture");
                None
            }
        }
    }

    /// What a failed call means for the person who waits for it.
    fn failed(&self, error: &CallError) -> ProviderError {
        match error.advice() {
            Advice::StartAgain => ProviderError::Stale,
            Advice::RefusePerson => ProviderError::Unwelcome(HELD),
            Advice::Configure => {
                tracing::error!(provider = self.name, %error, "WeChat refuses this account's settings");
                ProviderError::Unavailable(error.to_string())
            }
            _ => ProviderError::Unavailable(error.to_string()),
        }
    }
}

/// What people call all of them.
const LABEL: &str = "微信 WeChat";

/// The person whom the provider has seen scan: nobody else is brought to these kinds.
fn known<'a>(errand: &Errand<'a>) -> Result<&'a Identity, ProviderError> {
    let text = "nobody is sent anywhere: whoever scans is known";
    errand.known.ok_or_else(|| ProviderError::Unavailable(text.to_owned()))
}

fn no_randomness(error: NoRandomness) -> ProviderError {
    ProviderError::Unavailable(error.to_string())
}

/// A made-up identity: the person has looked at the page in WeChat's "snapshot" mode.
const SNAPSHOT: &str = "微信正以“快照页”方式显示本页：请点击页面下方的“使用完整服务”，然后重新扫码。WeChat shows this page as \
                        a snapshot: tap “Use full service” at its bottom, then scan the code again.";
/// WeChat holds the person for a risk, or they have not granted what was asked.
const HELD: &str = "微信暂不允许此帐号登录。WeChat does not allow this account to log in now.";

/// A parameter of a query, decoded; the first of that name.
fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.into_owned())
        .filter(|value| !value.is_empty() && value.len() <= 1_024)
}
