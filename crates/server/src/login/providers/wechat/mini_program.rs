//! `wechat-miniprogram`: a code of WeChat's that opens a page of a mini program. It says which login was scanned and by
//! whom, with the code of `wx.login()`, shows whose computer asks, and agrees or refuses as our own page does.

use std::time::Duration;

use doorbell_login::{
    Begun, Errand, Happened, Outcome, Provider, ProviderCode, ProviderError, Request, Token, Work,
};
use doorbell_wechat::AccountToken;
use doorbell_wechat::mini_program::{Edition, Picture};
use serde::Deserialize;

use super::recent::Recent;
use super::{Account, LABEL, no_randomness};
use crate::login::System;
use crate::settings::{MiniProgramEdition, ProviderSettings};

/// Characters of a scene: 22 of base64url are 132 bits, and WeChat takes 32.
const SCENE: usize = 22;
/// How long a scene is known: longer than logins wait for a scan.
const SCENE_LIFE: Duration = Duration::from_secs(3_600);
/// How long a person who scans again is the same visitor.
const VISIT_LIFE: Duration = Duration::from_secs(600);

/// See the module's header.
#[derive(Debug)]
pub(in crate::login) struct MiniProgram {
    account: Account,
    token: AccountToken,
    page: Option<String>,
    edition: Edition,
    /// The QR token behind each scene. WeChat's codes never expire and take fewer characters than a token has.
    scenes: Recent,
    /// The visit key of each person with each scene: whoever heard no answer asks again.
    visits: Recent,
}

/// What the mini program posts.
#[derive(Deserialize)]
struct Scan {
    scene: String,
    code: String,
}

impl MiniProgram {
    pub(in crate::login) fn new(settings: &ProviderSettings) -> Option<Self> {
        let account = Account::new(settings)?;
        Some(Self {
            token: account.token(settings)?,
            account,
            page: settings.page.clone(),
            edition: match settings.edition {
                MiniProgramEdition::Release => Edition::Release,
                MiniProgramEdition::Trial => Edition::Trial,
                MiniProgramEdition::Develop => Edition::Develop,
            },
            scenes: Recent::new(SCENE_LIFE),
            visits: Recent::new(VISIT_LIFE),
        })
    }

    async fn picture(&self, scene: &str) -> Result<Picture, ProviderError> {
        let (page, edition) = (self.page.as_deref(), self.edition);
        let made = self.token.with(|token| {
            let api = &self.account.api;
            async move { api.mini_program_code(&token, scene, page, edition).await }
        });
        made.await.map_err(|error| self.account.failed(&error))
    }

    async fn scanned(&self, Scan { scene, code }: Scan) -> Result<Outcome, ProviderError> {
        let qr = self.scenes.find(&scene).ok_or(ProviderError::Stale)?;
        let Account { api, app, .. } = &self.account;
        let session = api.session(app, &code).await.map_err(|error| self.account.failed(&error))?;
        let whose = format!("{scene} {}", session.openid);
        let visit = self.visits.key(&whose, || Token::random(&System)).map_err(no_randomness)?;
        let identity = self.account.identity(session.openid, session.unionid, None);
        let happened =
            Happened { qr: qr.expose().to_owned(), identity, visit: visit.digest(), agreed: false };
        Ok(Outcome::Scanned { happened, visit })
    }
}

impl Provider for MiniProgram {
    fn name(&self) -> &str {
        &self.account.name
    }

    fn label(&self) -> &str {
        LABEL
    }

    /// The mini program asks, and says what was answered.
    fn shows_refusal(&self) -> bool {
        true
    }

    fn suits(&self, _: &str) -> bool {
        false
    }

    fn own_code<'a>(
        &'a self,
        qr: &'a Token,
        _: Duration,
    ) -> Work<'a, Result<Option<ProviderCode>, ProviderError>> {
        Box::pin(async move {
            let mut scene = Token::random(&System).map_err(no_randomness)?.expose().to_owned();
            scene.truncate(SCENE);
            let Picture { media_type, bytes } = self.picture(&scene).await?;
            self.scenes.key(&scene, || Ok(qr.clone()))?;
            Ok(Some(ProviderCode::Picture { media_type, bytes: bytes.into() }))
        })
    }

    fn begin<'a>(&'a self, errand: &'a Errand<'a>) -> Work<'a, Result<Begun, ProviderError>> {
        Box::pin(std::future::ready(super::known(errand).cloned().map(Begun::Identity)))
    }

    fn state(&self, _: &Request<'_>) -> Option<String> {
        None
    }

    fn callback<'a>(&'a self, request: &'a Request<'a>) -> Work<'a, Result<Outcome, ProviderError>> {
        Box::pin(async {
            let scan =
                (request.method == "POST").then(|| serde_json::from_slice(request.body).ok()).flatten();
            match scan {
                Some(scan) => self.scanned(scan).await,
                None => Err(ProviderError::Forged("expected a POST of JSON with `scene` and `code`")),
            }
        })
    }
}
