//! What the page asks: to begin, to look, to renew, to type the number, to give up.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorbell_login::{
    Begin, BeginError, BegunLogin, Client, CookieRule, Crowded, Errand, OwnCode, Page, Provider,
    ProviderCode, Refusal, Token, View,
};
use http::{StatusCode, header};
use serde::Serialize;

use super::caller::{Caller, System};
use super::fields::Fields;
use super::{Refused, service};
use crate::cookies::LOGIN_COOKIE;
use crate::http::public::Public;
use crate::login::{Envelope, NotWaited, Service, Shown, is_exempt};

/// How long a look may wait, and does that does not say. Proxies often cut after 30 or 60 seconds.
const MAX_WAIT: Duration = Duration::from_secs(55);
const WAIT: Duration = Duration::from_secs(25);

/// The answer to `POST /v1/device_authorization` (RFC 8628 section 3.2, and what is ours).
#[derive(Serialize)]
struct Begun {
    device_code: String,
    /// Seconds.
    interval: u64,
    /// A provider's picture to show in the place of a QR code, as a `data:` address; in this answer alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_image: Option<String>,
    #[serde(flatten)]
    shown: Shown,
}

/// `POST /v1/device_authorization`
pub(super) async fn begin(State(public): State<Public>, request: Request) -> Result<Response, Refused> {
    let context = &public.context;
    let service = service(context)?;
    let caller = Caller::of(context, &request)?;
    let (parts, body) = request.into_parts();
    let fields = Fields::read(&parts.headers, body, context.policy.load().limits.head_timeout).await?;
    let rules = service.logins.rules();
    let client = super::token::client(&rules, &parts.headers, &fields, super::token::Secret::IfSent)?;
    if fields.get("code_challenge_method").is_some_and(|method| method != "S256") {
        return Err(Refused::bad_request("invalid_request", "code_challenge_method is S256, or left out"));
    }
    let cookie = if caller.is_page() {
        let known = caller.login_cookie.as_deref().and_then(Token::parse);
        let fresh = || Token::random(&System).map_err(|error| unavailable(error.to_string()));
        let rule = if caller.is_same_origin() { CookieRule::Required } else { CookieRule::IfSent };
        Some((known.map_or_else(fresh, Ok)?, rule))
    } else {
        None
    };
    let begin = Begin {
        client,
        base: &caller.base,
        computer: caller.origin(),
        exempt: is_exempt(context, caller.address),
        cookie: cookie.as_ref().map(|(cookie, rule)| (cookie, *rule)),
        web_origin: caller.web_origin.as_deref(),
        redirect_uri: fields.get("redirect_uri"),
        return_to: fields.get("return_to"),
        challenge: fields.get("code_challenge"),
        binding_message: fields.get("binding_message"),
        provider: fields.get("provider").or_else(|| only_provider(client)),
    };
    let provider = begin.provider.and_then(|name| service.provider(name));
    if let Some(provider) = provider.as_ref().filter(|provider| provider.sends_computer())
        && begin.cookie.is_none()
    {
        let text = format!(
            "the provider `{}` draws its QR code on a page of its own and brings the browser back, so a page in that \
             browser has to begin the login",
            provider.name()
        );
        return Err(Refused::bad_request("invalid_request", text));
    }
    let mut begun = service.logins.begin(begin, service.now()).await.map_err(|error| not_begun(&error))?;
    let mut verification_image = None;
    if let Some(provider) = provider {
        (begun.view, verification_image) = with_own_code(service, &*provider, &begun).await?;
    }
    let BegunLogin { device_code, view } = begun;
    let interval = service.settings.load().interval.as_secs();
    let (device_code, shown) = (device_code.expose().to_owned(), Shown::of(&view));
    let begun = Begun { device_code, interval, verification_image, shown };
    let mut response = Json(begun).into_response();
    if let Some(cookie) = cookie.and_then(|(cookie, _)| caller.set_cookie(LOGIN_COOKIE, &cookie, "/v1")) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The provider of a client that has one only: it need not be named.
fn only_provider(client: &Client) -> Option<&str> {
    match client.providers.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

/// What the page is shown, and the picture that goes with it, once the provider has made a code of its own if it does so.
/// Without that code there would be nothing to scan, so a login whose provider fails does not begin.
async fn with_own_code(
    service: &Service,
    provider: &dyn Provider,
    begun: &BegunLogin,
) -> Result<(View, Option<String>), Refused> {
    let BegunLogin { device_code, view } = begun;
    let Some(qr) = &view.qr else { return Ok((view.clone(), None)) };
    let life = service.logins.rules().created_ttl;
    let (code, image) = match provider.own_code(qr, life).await {
        Ok(None) => return Ok((view.clone(), None)),
        Ok(Some(ProviderCode::Text(text))) => (OwnCode::Text(text.into()), None),
        Ok(Some(ProviderCode::Page)) => (OwnCode::Elsewhere, None),
        Ok(Some(ProviderCode::Picture { media_type, bytes })) => {
            let image = format!("data:{media_type};base64,{}", STANDARD.encode(bytes));
            (OwnCode::Elsewhere, Some(image))
        }
        Err(error) => {
            service.logins.withdraw(device_code, service.now()).await?;
            return Err(super::scan::provider_failed(service, provider.name(), &error));
        }
    };
    match service.logins.show_own_code(device_code, qr, code, service.now()).await {
        Ok(view) => Ok((view, image)),
        Err(refusal) => {
            service.logins.withdraw(device_code, service.now()).await?;
            Err(refusal.into())
        }
    }
}

/// The answer to `POST /v1/login/provider`.
#[derive(Serialize)]
pub(super) struct Sent {
    /// Where the browser goes, or an `iframe` of the page.
    authorization_uri: String,
}

/// `POST /v1/login/provider`: sends the computer to a provider whose own page draws the QR code.
pub(super) async fn provider(State(public): State<Public>, request: Request) -> Result<Json<Sent>, Refused> {
    let service = service(&public.context)?;
    let caller = Caller::of(&public.context, &request)?;
    let (parts, body) = request.into_parts();
    let fields = Fields::read(&parts.headers, body, public.context.policy.load().limits.head_timeout).await?;
    let page = page(&caller)?;
    let (attempt, _) = service.logins.current(page, service.now()).await?;
    let name = fields.get("provider").or(attempt.provider.as_deref());
    let name = name.ok_or_else(|| Refused::bad_request("invalid_request", "`provider` is missing"))?;
    let provider = service.provider(name).filter(|provider| provider.sends_computer());
    let provider = provider.ok_or(Refusal::Provider)?;
    let cookie = caller.login_cookie.as_deref().and_then(Token::parse).ok_or(Refusal::Unknown)?;
    let (device_code, visit) = (page.device_code, cookie.digest());
    let state = service.logins.send_computer(device_code, &visit, name, service.now()).await?;
    let callback = format!("{}/v1/callback/{name}", caller.base);
    let errand = Errand {
        state: &state,
        callback: &callback,
        user_agent: &caller.user_agent,
        languages: &caller.languages,
        form: &[],
        known: None,
    };
    match provider.begin(&errand).await {
        Ok(doorbell_login::Begun::Redirect(authorization_uri)) => Ok(Json(Sent { authorization_uri })),
        Ok(doorbell_login::Begun::Identity(_)) => Err(Refusal::Provider.into()),
        Err(error) => Err(super::scan::provider_failed(service, name, &error)),
    }
}

fn not_begun(error: &BeginError) -> Refused {
    let text = error.to_string();
    match error {
        BeginError::Crowded(Crowded::Address) => {
            Refused::new(StatusCode::TOO_MANY_REQUESTS, "attempts_per_ip", text).after(10)
        }
        BeginError::Crowded(Crowded::Everywhere) => {
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "attempts", text).after(5)
        }
        BeginError::Store(_) | BeginError::Random(_) => unavailable(text),
        _ => Refused::bad_request("invalid_request", text),
    }
}

fn unavailable(text: String) -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text).after(1)
}

/// Whose page it is that asks.
fn page(caller: &Caller) -> Result<Page<'_>, Refused> {
    let device_code = caller.bearer.as_deref().ok_or_else(|| {
        Refused::new(StatusCode::UNAUTHORIZED, "invalid_token", "send `Authorization: Bearer DEVICE_CODE`")
    })?;
    let (cookie, web_origin) = (caller.login_cookie.as_deref(), caller.web_origin.as_deref());
    Ok(Page { device_code, cookie, web_origin })
}

/// `GET /v1/login`, at once or once its version is another than `since`
pub(super) async fn current(
    State(public): State<Public>,
    request: Request,
) -> Result<Json<Envelope>, Refused> {
    let service = service(&public.context)?;
    let caller = Caller::of(&public.context, &request)?;
    let query = request.uri().query().unwrap_or_default().to_owned();
    // A request that is kept while waiting could not be sent between threads.
    drop(request);
    let parameter = |name: &str| {
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let number = |name: &str| match parameter(name).map(|text| text.parse::<u64>()) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(Refused::bad_request("invalid_request", format!("`{name}` is a whole number"))),
    };
    let since = number("since")?;
    let wait = number("wait")?.map_or(WAIT, Duration::from_secs).min(MAX_WAIT);
    match service.wait_for(page(&caller)?, since, wait).await {
        Ok((_, view)) => Ok(Json(Envelope::of(&view))),
        Err(NotWaited::Refused(refusal)) => Err(refusal.into()),
        Err(NotWaited::Full(again)) => {
            let text = "as many requests wait for logins as may (login.long_polls)";
            Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text)
                .after(again.as_secs()))
        }
    }
}

/// `DELETE /v1/login`
pub(super) async fn cancel(
    State(public): State<Public>,
    request: Request,
) -> Result<Json<Envelope>, Refused> {
    let service = service(&public.context)?;
    let caller = Caller::of(&public.context, &request)?;
    let view = service.logins.cancel(page(&caller)?, service.now()).await?;
    Ok(Json(Envelope::of(&view)))
}

/// `POST /v1/login/rotate`
pub(super) async fn rotate(
    State(public): State<Public>,
    request: Request,
) -> Result<Json<Envelope>, Refused> {
    let service = service(&public.context)?;
    let caller = Caller::of(&public.context, &request)?;
    let view = service.logins.rotate(page(&caller)?, service.now()).await?;
    Ok(Json(Envelope::of(&view)))
}

/// `POST /v1/login/number`
pub(super) async fn number(
    State(public): State<Public>,
    request: Request,
) -> Result<Json<Envelope>, Refused> {
    let service = service(&public.context)?;
    let caller = Caller::of(&public.context, &request)?;
    let (parts, body) = request.into_parts();
    let fields = Fields::read(&parts.headers, body, public.context.policy.load().limits.head_timeout).await?;
    let typed = fields.get("number").unwrap_or_default();
    let view = service.logins.type_number(page(&caller)?, typed, service.now()).await?;
    Ok(Json(Envelope::of(&view)))
}
