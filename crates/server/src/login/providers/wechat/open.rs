//! `wechat-open`: the computer goes to WeChat's own page, which draws a QR code and brings the browser back with a code
//! (website application of the Open Platform).

use std::time::Duration;

use doorbell_login::{Begun, Errand, Outcome, Provider, ProviderCode, ProviderError, Request, Token, Work};
use doorbell_wechat::oauth::qrconnect_url;

use super::{Account, LABEL, parameter};
use crate::settings::ProviderSettings;

/// See the module's header.
#[derive(Debug)]
pub(in crate::login) struct Open(Account);

impl Open {
    pub(in crate::login) fn new(settings: &ProviderSettings) -> Option<Self> {
        Account::new(settings).map(Self)
    }
}

impl Provider for Open {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn label(&self) -> &str {
        LABEL
    }

    /// WeChat says today that it calls nothing then; where it does as it did before, the callback without a code is one.
    fn shows_refusal(&self) -> bool {
        false
    }

    fn sends_computer(&self) -> bool {
        true
    }

    fn suits(&self, _: &str) -> bool {
        false
    }

    fn own_code<'a>(
        &'a self,
        _: &'a Token,
        _: Duration,
    ) -> Work<'a, Result<Option<ProviderCode>, ProviderError>> {
        Box::pin(std::future::ready(Ok(Some(ProviderCode::Page))))
    }

    fn begin<'a>(&'a self, errand: &'a Errand<'a>) -> Work<'a, Result<Begun, ProviderError>> {
        let Account { api, app, .. } = &self.0;
        let url = qrconnect_url(api.bases(), &app.appid, errand.callback, errand.state.expose());
        Box::pin(std::future::ready(Ok(Begun::Redirect(url))))
    }

    fn callback<'a>(&'a self, request: &'a Request<'a>) -> Work<'a, Result<Outcome, ProviderError>> {
        Box::pin(async {
            match parameter(request.query, "code") {
                Some(code) => self.0.identify(&code, true).await.map(Outcome::Identity),
                None => Ok(Outcome::Refused),
            }
        })
    }
}
