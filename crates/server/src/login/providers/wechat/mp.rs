//! `wechat-mp`: a parametric QR code of an official account. Its scan is told to us, and is no consent: the account
//! answers in the chat with a link to our page, where the person agrees or refuses.
//!
//! WeChat waits five seconds for the answer to a callback, so nothing on that way waits for WeChat: the code was made
//! before, the answer is made here, and who the person is came with the event.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorbell_login::{
    Begun, Errand, Happened, Outcome, Provider, ProviderError, Reply as Answer, Request, Token, Work,
};
use doorbell_wechat::crypto::AesKey;
use doorbell_wechat::{
    AccountToken, AccountTokenTiming, Callback, CallbackKeys, FileTokenStore, MessageKind, Query, Received,
    Refusal, ReplayLimits, Reply,
};
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;

use super::{Account, parameter};
use crate::login::System;
use crate::settings::ProviderSettings;

/// How much longer than the login WeChat's code lives, so that a scan at the last moment is told, and answered.
const AFTER: Duration = Duration::from_secs(60);
/// Links that are remembered, to give the same one to a callback that comes again; at the bound the oldest goes.
const LINKS: usize = 20_000;
/// How long: twice what WeChat's retries and our window for their timestamps take.
const LINK_SECONDS: u64 = 600;

/// See the module's header.
#[derive(Debug)]
pub(in crate::login) struct Mp {
    account: Account,
    token: AccountToken,
    callback: Callback,
    consent: Consent,
    links: Mutex<Links>,
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
        let store = Arc::new(FileTokenStore::new(settings.account_token_path.clone()?));
        let token = AccountToken::new(
            Arc::clone(&account.api),
            account.app.clone(),
            store,
            AccountTokenTiming::default(),
        );
        Some(Self {
            account,
            token,
            callback: Callback::new(keys, ReplayLimits::default()),
            consent: if settings.scan_is_consent { Consent::Scan } else { Consent::Asked },
            links: Mutex::default(),
        })
    }

    fn deliver(&self, request: &Request<'_>) -> Result<Outcome, Refusal> {
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
        Ok(self.scanned(request, &received, scene, now))
    }

    fn scanned(&self, request: &Request<'_>, received: &Received, qr: String, now: SystemTime) -> Outcome {
        let visit = self.links.lock().visit(received.message.identity(), request.unix_seconds);
        let Some(visit) = visit else {
            tracing::error!("the system gives no randomness");
            return event(Reply::nothing(), None);
        };
        let text = match self.consent {
            Consent::Scan => "您已在电脑上登录。You are logged in on the computer.".to_owned(),
            Consent::Asked => format!(
                "请打开链接，确认或拒绝在电脑上登录；如非本人操作请忽略。Open the link to agree or refuse to be logged in on \
                 the computer; ignore it if that was not you.\n{}/v1/callback/{}?qr={qr}&visit={}",
                request.base,
                self.account.name,
                visit.expose()
            ),
        };
        let reply = Reply::text(&self.callback, received, &text, now).unwrap_or_else(|_| Reply::nothing());
        let happened = received.is_new.then(|| Happened {
            qr,
            identity: self.account.identity(received.message.openid.clone(), None, None),
            visit: visit.digest(),
            agreed: self.consent == Consent::Scan,
        });
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
        "微信 WeChat"
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
    ) -> Work<'a, Result<Option<String>, ProviderError>> {
        Box::pin(async move {
            let api = &self.account.api;
            let made = self.token.with(|token| {
                let api = Arc::clone(api);
                async move { api.create_scene_code(&token, qr.expose(), life + AFTER).await }
            });
            made.await.map(|code| Some(code.url)).map_err(|error| self.account.failed(&error))
        })
    }

    fn begin<'a>(&'a self, _: &'a Errand<'a>) -> Work<'a, Result<Begun, ProviderError>> {
        let text = "nobody is sent anywhere: the account's chat brings the person".to_owned();
        Box::pin(std::future::ready(Err(ProviderError::Unavailable(text))))
    }

    fn state(&self, _: &Request<'_>) -> Option<String> {
        None
    }

    fn callback<'a>(&'a self, request: &'a Request<'a>) -> Work<'a, Result<Outcome, ProviderError>> {
        let link = || {
            let (qr, visit) = (parameter(request.query, "qr")?, parameter(request.query, "visit")?);
            Some(Outcome::Visit { qr: Token::parse(&qr)?.expose().to_owned(), visit: Token::parse(&visit)? })
        };
        let outcome = if request.method == "GET" { link() } else { None };
        let outcome = outcome.unwrap_or_else(|| {
            self.deliver(request).unwrap_or_else(|refusal| {
                tracing::warn!(provider = self.account.name, reason = refusal.reason(), %refusal, "refused a callback");
                // The same for every reason: whoever tries things out learns nothing.
                let reply = Answer { status: 403, content_type: "text/plain; charset=utf-8", body: Vec::new() };
                Outcome::Event { reply, happened: None }
            })
        });
        Box::pin(std::future::ready(Ok(outcome)))
    }
}

/// The visit keys that were given out, by the event that was answered with them.
#[derive(Default)]
struct Links {
    by_event: HashMap<String, Token>,
    /// Oldest first, with the second of each.
    order: VecDeque<(u64, String)>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("count", &self.order.len()).finish_non_exhaustive()
    }
}

impl Links {
    /// The key for this event: the same one when it is told again.
    fn visit(&mut self, event: String, now: u64) -> Option<Token> {
        let old = |(at, _): &(u64, String)| *at + LINK_SECONDS < now;
        while self.order.front().is_some_and(old) || self.order.len() >= LINKS {
            let Some((_, event)) = self.order.pop_front() else { break };
            self.by_event.remove(&event);
        }
        if let Some(visit) = self.by_event.get(&event) {
            return Some(visit.clone());
        }
        let visit = Token::random(&System).ok()?;
        self.order.push_back((now, event.clone()));
        self.by_event.insert(event, visit.clone());
        Some(visit)
    }
}
