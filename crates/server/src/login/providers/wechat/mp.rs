//! `wechat-mp`: a parametric QR code of an official account. Its scan is told to us, and is no consent: the account
//! answers in the chat with a link to our page, where the person agrees or refuses.
//!
//! WeChat waits five seconds for the answer to a callback, so nothing on that way waits for WeChat: the code was made
//! before, the answer is made here, and who the person is came with the event. What more there is to know of them is
//! asked when they agree.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorbell_login::{
    Begun, Errand, Happened, Identity, Outcome, Provider, ProviderCode, ProviderError, Reply as Answer,
    Request, Token, Work,
};
use doorbell_wechat::crypto::AesKey;
use doorbell_wechat::oauth::Scope;
use doorbell_wechat::{
    AccountToken, Callback, CallbackKeys, ErrorCode, MessageKind, Query, Received, Refusal, ReplayLimits,
    Reply,
};
use secrecy::ExposeSecret as _;

use super::recent::Recent;
use super::{Account, LABEL, known, parameter, web};
use crate::login::System;
use crate::settings::{ProviderSettings, WeChatScope};

/// How much longer than the login WeChat's code lives, so that a scan at the last moment is told, and answered.
const AFTER: Duration = Duration::from_secs(60);
/// How long a callback that comes again gets the same link: twice what WeChat's retries and our window for their
/// timestamps take.
const LINK_LIFE: Duration = Duration::from_secs(600);
/// How long a callback may wait for the person's unionid: WeChat waits five seconds for its answer.
const IN_CALLBACK: Duration = Duration::from_secs(3);

/// See the module's header.
#[derive(Debug)]
pub(in crate::login) struct Mp {
    account: Account,
    token: AccountToken,
    callback: Callback,
    consent: Consent,
    scope: WeChatScope,
    /// The visit keys that were given out, by the event that was answered with them.
    links: Recent,
}

/// What a scan means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consent {
    /// Nothing before the person agrees on our page.
    Asked,
    /// That the person agrees; the operator has said so.
    Scan,
}

impl Mp {
    pub(in crate::login) fn new(settings: &ProviderSettings) -> Option<Self> {
        let account = Account::new(settings)?;
        let key = |text: &secrecy::SecretString| AesKey::parse(text.expose_secret()).ok();
        let previous = match &settings.previous_encoding_aes_key {
            Some(previous) => Some(key(previous)?),
            None => None,
        };
        let keys = CallbackKeys {
            appid: account.app.appid.clone(),
            token: settings.token.clone()?,
            key: key(settings.encoding_aes_key.as_ref()?)?,
            previous,
        };
        Some(Self {
            token: account.token(settings)?,
            account,
            callback: Callback::new(keys, ReplayLimits::default()),
            consent: if settings.scan_is_consent { Consent::Scan } else { Consent::Asked },
            scope: settings.scope,
            links: Recent::new(LINK_LIFE),
        })
    }

    /// The person with their unionid, where WeChat gives one. Without an answer they are nobody: a person must not be one
    /// account today and another tomorrow.
    async fn with_unionid(&self, person: &Identity) -> Result<Identity, ProviderError> {
        let asked = self.token.with(|token| {
            let api = &self.account.api;
            async move { api.unionid(&token, &person.id).await }
        });
        let unionid = match asked.await {
            Ok(unionid) => unionid,
            // Never to be had, so that it is never missing by chance.
            Err(error) if error.code() == Some(ErrorCode::API_UNAUTHORIZED) => None,
            Err(error) => return Err(self.account.failed(&error)),
        };
        Ok(Identity { unionid, ..person.clone() })
    }

    async fn deliver(&self, request: &Request<'_>) -> Result<Outcome, Refusal> {
        let query = Query::parse(request.query)?;
        let now = UNIX_EPOCH + Duration::from_secs(request.unix_seconds);
        if request.method != "POST" {
            let echo = self.callback.check(&query, now)?;
            return Ok(event(
                Reply { body: echo.to_owned(), content_type: "text/plain; charset=utf-8" },
                None,
            ));
        }
        let received = self.callback.receive(&query, request.body, now)?;
        let MessageKind::Scan { scene, .. } = &received.message.kind else {
            return Ok(event(Reply::nothing(), None));
        };
        // Codes of other uses of the account have other scenes.
        if Token::parse(scene).is_none() {
            return Ok(event(Reply::nothing(), None));
        }
        let scene = scene.clone();
        Ok(self.scanned(request, &received, scene, now).await)
    }

    async fn scanned(
        &self,
        request: &Request<'_>,
        received: &Received,
        qr: String,
        now: SystemTime,
    ) -> Outcome {
        let visit = self.links.key(&received.message.identity(), || Token::random(&System));
        let Ok(visit) = visit else {
            tracing::error!("the system gives no randomness");
            return event(Reply::nothing(), None);
        };
        let mut identity = self.account.identity(received.message.openid.clone(), None, None);
        let mut agreed = self.consent == Consent::Scan;
        if agreed && received.is_new {
            match tokio::time::timeout(IN_CALLBACK, self.with_unionid(&identity)).await {
                Ok(Ok(known)) => identity = known,
                // Then the person is asked, and so is WeChat once more.
                Ok(Err(_)) | Err(_) => agreed = false,
            }
        }
        let text = match agreed {
            true => "您已在电脑上登录。You are logged in on the computer.".to_owned(),
            false => format!(
                "请打开链接，确认或拒绝在电脑上登录；如非本人操作请忽略。Open the link to agree or refuse to be logged in on \
                 the computer; ignore it if that was not you.\n{}/v1/callback/{}?qr={qr}&visit={}",
                request.base,
                self.account.name,
                visit.expose()
            ),
        };
        let reply = Reply::text(&self.callback, received, &text, now).unwrap_or_else(|_| Reply::nothing());
        let happened = received.is_new.then(|| Happened { qr, identity, visit: visit.digest(), agreed });
        event(reply, happened)
    }
}

fn event(reply: Reply, happened: Option<Happened>) -> Outcome {
    let Reply { body, content_type } = reply;
    Outcome::Event { reply: Answer { status: 200, content_type, body: body.into_bytes() }, happened }
}

impl Provider for Mp {
    fn name(&self) -> &str {
        &self.account.name
    }

    fn label(&self) -> &str {
        LABEL
    }

    fn shows_refusal(&self) -> bool {
        false
    }

    /// Phones come by the link in the chat, and are known then.
    fn suits(&self, _: &str) -> bool {
        false
    }

    fn own_code<'a>(
        &'a self,
        qr: &'a Token,
        life: Duration,
    ) -> Work<'a, Result<Option<ProviderCode>, ProviderError>> {
        Box::pin(async move {
            let made = self.token.with(|token| {
                let api = &self.account.api;
                async move { api.create_scene_code(&token, qr.expose(), life + AFTER).await }
            });
            let code = made.await.map_err(|error| self.account.failed(&error))?;
            Ok(Some(ProviderCode::Text(code.url)))
        })
    }

    fn begin<'a>(&'a self, errand: &'a Errand<'a>) -> Work<'a, Result<Begun, ProviderError>> {
        Box::pin(async {
            let person = known(errand)?;
            match self.scope {
                WeChatScope::Base => self.with_unionid(person).await.map(Begun::Identity),
                WeChatScope::UserInfo => Ok(web::authorize(&self.account, Scope::UserInfo, errand)),
            }
        })
    }

    /// The phone that is back from the web authorization has one, WeChat's server has none.
    fn state(&self, request: &Request<'_>) -> Option<String> {
        if request.method == "GET" { web::state(request) } else { None }
    }

    fn callback<'a>(&'a self, request: &'a Request<'a>) -> Work<'a, Result<Outcome, ProviderError>> {
        Box::pin(async {
            if self.state(request).is_some() {
                return web::authorized(&self.account, Scope::UserInfo, request).await;
            }
            if request.method == "GET"
                && let Some(visit) = link(request.query)
            {
                return Ok(visit);
            }
            Ok(self.deliver(request).await.unwrap_or_else(|refusal| {
                tracing::warn!(provider = self.account.name, reason = refusal.reason(), %refusal, "refused a callback");
                // The same for every reason: whoever tries things out learns nothing.
                let reply = Answer { status: 403, content_type: "text/plain; charset=utf-8", body: Vec::new() };
                Outcome::Event { reply, happened: None }
            }))
        })
    }
}

/// What the link in the chat says.
fn link(query: &str) -> Option<Outcome> {
    let (qr, visit) = (parameter(query, "qr")?, parameter(query, "visit")?);
    Some(Outcome::Visit { qr: Token::parse(&qr)?.expose().to_owned(), visit: Token::parse(&visit)? })
}
