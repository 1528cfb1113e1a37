//! `feishu`: Feishu and Lark, by the authorization code grant of RFC 6749. A refusal comes back as
//! `error=access_denied`.

use std::time::Duration;

use doorbell_login::{Begun, Errand, Identity, Outcome, Provider, ProviderError, Request, Work};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::settings::ProviderSettings;

/// One request, from connecting to the last byte of its answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Answers have some hundred bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// `error` codes of the token endpoint that are about the code: invalid, used, expired.
const SPENT: [i64; 3] = [20_003, 20_004, 20_065];

/// See the module's header.
#[derive(Debug)]
pub(super) struct Feishu {
    name: String,
    app_id: String,
    secret: SecretString,
    /// Where people are sent: `https://accounts.feishu.cn`.
    accounts: String,
    /// Where the API is: `https://open.feishu.cn`.
    api: String,
    http: Client,
}

#[derive(Deserialize)]
struct Granted {
    access_token: Option<SecretString>,
}

#[derive(Deserialize)]
struct Told {
    data: Option<Person>,
}

#[derive(Deserialize)]
struct Person {
    open_id: String,
    union_id: Option<String>,
    name: Option<String>,
    avatar_url: Option<String>,
}

/// What every answer may say.
#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    code: i64,
}

impl Feishu {
    pub(super) fn new(settings: &ProviderSettings) -> Option<Self> {
        let base = |text: &Option<String>, usual: &str| {
            doorbell_wechat::Base::parse(text.as_deref().unwrap_or(usual))
                .ok()
                .map(|base| base.as_str().to_owned())
        };
        let http =
            Client::builder().redirect(Policy::none()).no_proxy().referer(false).timeout(TIMEOUT).build();
        Some(Self {
            name: settings.name.clone(),
            app_id: settings.appid.clone()?,
            secret: settings.secret.clone()?,
            accounts: base(&settings.open_base, "https://accounts.feishu.cn")?,
            api: base(&settings.api_base, "https://open.feishu.cn")?,
            http: http.ok()?,
        })
    }

    async fn identify(&self, code: &str, callback: &str) -> Result<Identity, ProviderError> {
        let body = json!({
            "grant_type": "authorization_code",
            "client_id": self.app_id,
            "client_secret": self.secret.expose_secret(),
            "code": code,
            "redirect_uri": callback,
        });
        let asked = self.http.post(format!("{}/open-apis/authen/v2/oauth/token", self.api));
        let asked = asked.header("Content-Type", "application/json; charset=utf-8").body(body.to_string());
        let token = ask::<Granted>(asked).await?.access_token;
        let token = token.ok_or_else(|| unavailable("no access_token"))?;
        let asked = self.http.get(format!("{}/open-apis/authen/v1/user_info", self.api));
        let asked = asked.header("Authorization", format!("Bearer {}", token.expose_secret()));
        let person = ask::<Told>(asked).await?.data.ok_or_else(|| unavailable("no data"))?;
        if person.open_id.is_empty() {
            return Err(unavailable("no open_id"));
        }
        let text = |value: Option<String>| value.filter(|value| !value.is_empty());
        Ok(Identity {
            provider: self.name.clone(),
            appid: Some(self.app_id.clone()),
            id: person.open_id,
            unionid: text(person.union_id),
            name: text(person.name),
            picture: text(person.avatar_url).filter(|url| url.starts_with("https://")),
        })
    }
}

impl Provider for Feishu {
    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self) -> &str {
        "飞书 Feishu"
    }

    fn shows_refusal(&self) -> bool {
        true
    }

    /// Its page works in any browser but WeChat's, which does not open it.
    fn suits(&self, user_agent: &str) -> bool {
        !user_agent.contains("MicroMessenger")
    }

    fn begin<'a>(&'a self, errand: &'a Errand<'a>) -> Work<'a, Result<Begun, ProviderError>> {
        let begun = Url::parse(&format!("{}/open-apis/authen/v1/authorize", self.accounts)).map(|mut url| {
            url.query_pairs_mut()
                .append_pair("client_id", &self.app_id)
                .append_pair("response_type", "code")
                .append_pair("redirect_uri", errand.callback)
                .append_pair("state", errand.state.expose());
            Begun::Redirect(url.into())
        });
        Box::pin(std::future::ready(begun.map_err(|_| unavailable("the address is malformed"))))
    }

    fn callback<'a>(&'a self, request: &'a Request<'a>) -> Work<'a, Result<Outcome, ProviderError>> {
        Box::pin(async {
            let parameter = |name: &str| {
                form_urlencoded::parse(request.query.as_bytes())
                    .find(|(found, _)| found == name)
                    .map(|(_, value)| value.into_owned())
            };
            match (parameter("code"), parameter("error").as_deref()) {
                (_, Some("access_denied")) => Ok(Outcome::Refused),
                (Some(code), None) => {
                    let callback = format!("{}/v1/callback/{}", request.base, self.name);
                    self.identify(&code, &callback).await.map(Outcome::Identity)
                }
                _ => Err(ProviderError::Stale),
            }
        })
    }
}

/// Makes a call. Its errors hold no address, since that could hold a secret, and nothing of the answer.
async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ProviderError> {
    let broken = |error: reqwest::Error| match error.is_timeout() {
        true => unavailable("no answer in time"),
        false => unavailable("it cannot be reached"),
    };
    let mut response = request.send().await.map_err(broken)?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        answer.extend_from_slice(&chunk);
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(unavailable("the answer is too long"));
        }
    }
    let verdict: Verdict =
        serde_json::from_slice(&answer).map_err(|_| unavailable("the answer is no JSON"))?;
    match verdict.code {
        0 if status.is_success() => {
            serde_json::from_slice(&answer).map_err(|_| unavailable("a field is missing"))
        }
        code if SPENT.contains(&code) => Err(ProviderError::Stale),
        code => Err(ProviderError::Unavailable(format!("it answered {code} ({status})"))),
    }
}

fn unavailable(why: &str) -> ProviderError {
    ProviderError::Unavailable(why.to_owned())
}
