//! What the phone asks: the pages under `/s`.
//!
//! A GET changes nothing, whoever sends it: a scanner's preview, a prefetch, a HEAD. It gives the phone a cookie (its
//! visit) and a page with a token bound to that cookie and to this QR code; every POST has to bring both, from a page
//! of this very origin. A provider's app has the key of its visit as a bearer token instead, which no page can have a
//! browser send.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts as _, Path, Request, State};
use axum::response::{IntoResponse, Response};
use doorbell_login::{
    Begun, Consent, Digest, Errand, Guessing, Outcome, Phone, PhoneView, Provider, ProviderError, Refusal,
    Returned, Token, TypedError, describe,
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::{Caller, System, Visit, VisitFrom};
use super::fields::Fields;
use super::phone_page::{Choice, PhonePage, Said, render};
use super::{Refused, service};
use crate::context::Context;
use crate::cookies::VISIT_COOKIE;
use crate::http::problem::counted_as;
use crate::http::public::Public;
use crate::login::{Service, error_of, seconds};

/// What a phone is shown, as JSON.
#[derive(Serialize, ToSchema)]
pub(super) struct PhoneShown {
    login: String,
    state: &'static str,
    version: u64,
    expires_in: u64,
    site: Site,
    computer: Computer,
    /// Seconds since the login began.
    age: u64,
    number_match: &'static str,
    tries_left: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    same_network: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binding_message: Option<String>,
    /// What the computer has to type.
    #[serde(skip_serializing_if = "Option::is_none")]
    digits: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Site {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    icon: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Computer {
    browser: Option<&'static str>,
    system: Option<&'static str>,
    address: String,
}

impl PhoneShown {
    pub(super) fn of(view: &PhoneView) -> Self {
        let (id, name, icon) = match &view.client {
            Some(client) => (client.id.clone(), client.name.clone(), client.icon.clone()),
            None => (String::new(), String::new(), None),
        };
        let described = describe(&view.computer.user_agent);
        Self {
            login: view.login.to_string(),
            state: view.state.name(),
            version: view.version,
            expires_in: seconds(view.expires_in_ms),
            site: Site { id, name, icon },
            computer: Computer {
                browser: described.browser,
                system: described.system,
                address: view.computer.address.to_string(),
            },
            age: view.age_ms / 1_000,
            number_match: view.number_match.name(),
            tries_left: view.tries_left,
            same_network: view.same_network,
            binding_message: view.binding_message.clone(),
            digits: view.digits.clone(),
        }
    }
}

/// `GET /s/{qr}`
pub(super) async fn page(
    State(public): State<Public>,
    Path(qr): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    let service = service(&public.context)?;
    let caller = Caller::of(&public.context, &request)?;
    let visit = caller.visit(&System).map_err(Refusal::from)?;
    let looked = service.logins.look(&qr, Some(&visit.key.digest()), caller.address, service.now()).await;
    Ok(answer(service, &caller, &visit, &qr, looked))
}

/// A phone's page or, where it asks for that, JSON.
fn answer(
    service: &Service,
    caller: &Caller,
    visit: &Visit,
    qr: &str,
    looked: Result<PhoneView, Refusal>,
) -> Response {
    let page_token = page_token(service, &visit.key, qr);
    let page_token = page_token.as_ref().map(Token::expose).unwrap_or_default();
    let status = match &looked {
        Ok(view) if view.state.is_final() && !view.is_owner => StatusCode::GONE,
        Ok(_) => StatusCode::OK,
        Err(refusal) => Refused::from(refusal).status,
    };
    let mut response = if caller.wants_json {
        match &looked {
            Ok(view) => Json(PhoneShown::of(view)).into_response(),
            Err(refusal) => Refused::from(refusal).into_response(),
        }
    } else {
        let choices = choices(service, caller, looked.as_ref().ok());
        let said = match &looked {
            Ok(view) => Said::View(view),
            Err(refusal) => Said::Refusal(refusal),
        };
        let page = PhonePage { qr, page_token, choices, ..PhonePage::without_form(said, service, caller) };
        html(status, &page)
    };
    if visit.from == VisitFrom::Here
        && let Some(cookie) = caller.set_cookie(VISIT_COOKIE, &visit.key, "/")
    {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    match &looked {
        Err(refusal) => counted_as(response, error_of(refusal)),
        Ok(view) if status == StatusCode::GONE => counted_as(response, error_of(&Refusal::Over(view.state))),
        Ok(_) => response,
    }
}

fn html(status: StatusCode, page: &PhonePage<'_>) -> Response {
    let mut response = render(page);
    *response.status_mut() = status;
    response
}

/// A page that says only this, for those who do not ask for JSON.
fn page_or(service: &Service, caller: &Caller, refused: Refused, said: Said<'_>) -> Response {
    if caller.wants_json {
        return refused.into_response();
    }
    let page = html(refused.status, &PhonePage::without_form(said, service, caller));
    counted_as(page, refused.error)
}

fn page_token(service: &Service, visit: &Token, qr: &str) -> Option<Token> {
    let qr = Token::parse(qr)?;
    Some(service.logins.keys().page_token(&visit.digest(), &qr.digest()))
}

/// The providers by which this phone's owner may say who they are.
fn choices(service: &Service, caller: &Caller, view: Option<&PhoneView>) -> Vec<Choice> {
    let Some(view) = view else { return Vec::new() };
    if let Some(known_by) = &view.known_by {
        // Whoever the provider has seen is not asked again.
        let label =
            service.provider(known_by).map_or_else(String::new, |provider| provider.label().to_owned());
        return vec![Choice { name: known_by.clone(), label, asks_name: false }];
    }
    let allowed = |provider: &dyn Provider| {
        view.client.as_ref().is_some_and(|client| client.allows(provider.name()))
            && view.provider.as_ref().is_none_or(|asked| asked == provider.name())
    };
    let suiting = service.providers_for(&caller.user_agent).into_iter();
    let choice = |provider: &dyn Provider| Choice {
        name: provider.name().to_owned(),
        label: provider.label().to_owned(),
        asks_name: provider.label() == "Demo",
    };
    suiting.filter(|provider| allowed(&**provider)).map(|provider| choice(&*provider)).collect()
}

/// A POST to a login's page that came from that page, on this phone.
pub(super) struct Posted {
    context: Arc<Context>,
    service: Arc<Service>,
    qr: String,
    caller: Caller,
    visit: Visit,
    fields: Fields,
}

/// Refuses what is none of ours.
impl FromRequest<Public> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, public: &Public) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let qr = Path::<String>::from_request_parts(&mut parts, public).await;
        let Path(qr) = qr.map_err(IntoResponse::into_response)?;
        Self::read(public, qr, Request::from_parts(parts, body)).await.map_err(Refused::into_response)?
    }
}

impl Posted {
    /// The POST, or the page that answers one that is none of ours.
    async fn read(public: &Public, qr: String, request: Request) -> Result<Result<Self, Response>, Refused> {
        let context = &public.context;
        let service = service(context)?;
        let caller = Caller::of(context, &request)?;
        caller.must_be_same_origin()?;
        let (parts, body) = request.into_parts();
        let fields = Fields::read(&parts.headers, body, context.policy.load().limits.head_timeout).await?;
        let forged = || {
            let text = "the page's token is missing or not this phone's: load the page again, with cookies";
            Refused::new(StatusCode::FORBIDDEN, "page_token", text)
        };
        let visit = caller.visit(&System).map_err(Refusal::from)?;
        let shown = fields.get("page_token").map(Digest::of);
        let expected = page_token(service, &visit.key, &qr).map(|token| token.digest());
        let is_ours = match visit.from {
            VisitFrom::App => true,
            VisitFrom::Cookie => shown.is_some() && shown == expected,
            VisitFrom::Here => false,
        };
        if !is_ours {
            return Ok(Err(page_or(service, &caller, forged(), Said::NoPage)));
        }
        let (context, service) = (Arc::clone(context), Arc::clone(service));
        Ok(Ok(Self { context, service, qr, caller, visit, fields }))
    }

    /// The page after a step, or with what went wrong on it.
    async fn settle(&self, step: Result<PhoneView, Refusal>) -> Response {
        match step {
            Ok(view) => self.done(view),
            Err(refusal) => self.failed(refusal).await,
        }
    }

    /// The page after a step: by a redirect, so that going back or reloading posts nothing again.
    fn done(&self, view: PhoneView) -> Response {
        if self.caller.wants_json {
            return answer(&self.service, &self.caller, &self.visit, &self.qr, Ok(view));
        }
        see_other(&format!("/s/{}", self.qr))
    }

    /// The page with what went wrong on it.
    async fn failed(&self, refusal: Refusal) -> Response {
        let Self { service, qr, caller, visit, .. } = self;
        let again = service.logins.look(qr, Some(&visit.key.digest()), caller.address, service.now()).await;
        let (false, Ok(view)) = (caller.wants_json, &again) else {
            return answer(service, caller, visit, qr, Err(refusal));
        };
        let page_token = page_token(service, &visit.key, qr);
        let page = PhonePage {
            qr,
            page_token: page_token.as_ref().map(Token::expose).unwrap_or_default(),
            error: Some(&refusal),
            choices: choices(service, caller, Some(view)),
            ..PhonePage::without_form(Said::View(view), service, caller)
        };
        counted_as(html(Refused::from(&refusal).status, &page), error_of(&refusal))
    }
}

pub(super) fn see_other(address: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(address) else {
        return Refused::new(StatusCode::BAD_GATEWAY, "provider", "the provider's address is odd")
            .into_response();
    };
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// `POST /s/{qr}/scan`
pub(super) async fn scan(posted: Posted) -> Response {
    let Posted { service, qr, caller, visit, .. } = &posted;
    let phone = Phone { visit: visit.key.digest(), origin: caller.origin(), name: None };
    let scanned = service.logins.scan(qr, phone, service.now()).await;
    posted.settle(scanned).await
}

/// `POST /s/{qr}/deny`
pub(super) async fn deny(posted: Posted) -> Response {
    let Posted { service, qr, caller, visit, .. } = &posted;
    let denied = service.logins.deny(qr, &visit.key.digest(), Some(caller.address), service.now()).await;
    posted.settle(denied).await
}

/// `POST /s/{qr}/approve`
pub(super) async fn approve(posted: Posted) -> Result<Response, Refused> {
    let Posted { service, qr, caller, visit: own, fields, .. } = &posted;
    let visit = own.key.digest();
    let view = match service.logins.look(qr, Some(&visit), caller.address, service.now()).await {
        Ok(view) => view,
        Err(refusal) => return Ok(posted.failed(refusal).await),
    };
    let choices = choices(service, caller, Some(&view));
    let chosen = match fields.get("provider") {
        Some(name) => choices.iter().find(|choice| choice.name == name),
        None => choices.first(),
    };
    let Some(provider) = chosen.and_then(|choice| service.provider(&choice.name)) else {
        return Ok(posted.failed(Refusal::Provider).await);
    };
    let number = fields.get("number");
    let agreed = service.logins.agree_by(qr, &visit, number, provider.name(), service.now()).await;
    let state = match agreed {
        Ok(Consent::Approved(view)) => return Ok(posted.done(*view)),
        Ok(Consent::Ask(state)) => state,
        Err(refusal) => return Ok(posted.failed(refusal).await),
    };
    let known = match &view.known_by {
        Some(_) => service.logins.inspect(view.login).await.map_err(Refusal::from)?,
        None => None,
    };
    let known = known.as_ref().and_then(|attempt| attempt.known.as_deref());
    let path = format!("/v1/callback/{}", provider.name());
    let callback = format!("{}{path}", caller.base);
    let errand = Errand {
        state: &state,
        callback: &callback,
        user_agent: &caller.user_agent,
        languages: &caller.languages,
        form: fields.all(),
        known: known.filter(|known| known.provider == provider.name()),
    };
    match provider.begin(&errand).await {
        Ok(Begun::Redirect(address)) => {
            let mut response = see_other(&address);
            // The key of such a visit is a cookie of this login's pages alone.
            if errand.known.is_some()
                && let Some(cookie) = caller.set_cookie(VISIT_COOKIE, &own.key, &path)
            {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            Ok(response)
        }
        Ok(Begun::Identity(identity)) => {
            let returned =
                service.logins.came_back(state.expose(), &visit, provider.name(), service.now()).await;
            let approved = match returned {
                Ok(returned) => finish(service, caller, &returned, Outcome::Identity(identity)).await,
                Err(refusal) => Err(refusal),
            };
            Ok(posted.settle(approved).await)
        }
        Err(error) => Ok(failed_page(service, caller, provider.name(), &error)),
    }
}

/// `POST /s/{qr}/revoke`: "that was not me", before the result was fetched and for a day after.
pub(super) async fn revoke(posted: Posted) -> Response {
    let Posted { context, service, qr, caller, visit, .. } = &posted;
    let visit = visit.key.digest();
    let revoked = service.logins.revoke_by_owner(qr, &visit, Some(caller.address), service.now()).await;
    let revoked = revoked.map(|(attempt, view)| {
        super::token::end_session(context, &attempt);
        view
    });
    posted.settle(revoked).await
}

/// A person's page, or JSON for what is no browser, after a provider did not say who they are.
pub(super) fn failed_page(
    service: &Service,
    caller: &Caller,
    provider: &str,
    error: &ProviderError,
) -> Response {
    let refused = provider_failed(service, provider, error);
    let said = match error {
        ProviderError::Forged(_) => FORGED,
        ProviderError::Unwelcome(text) => text,
        ProviderError::Stale => STALE,
        _ => UNAVAILABLE,
    };
    page_or(service, caller, refused, Said::Failed(said))
}

const FORGED: &str = "这个请求无法确认来源，请回到电脑重新扫码。This request cannot be trusted. Scan the code on the \
                      computer again.";
const STALE: &str = "这次授权已用过或已过期，请回到电脑重新扫码。This authorization is used or too old. Scan the code on the \
                     computer again.";
const UNAVAILABLE: &str = "对方暂时没有回应。请返回上一页再点一次同意，或稍后重新扫码。No answer at the moment. Go back and \
                           agree once more, or scan again later.";

/// Does what a provider said of a phone that is back.
pub(super) async fn finish(
    service: &Service,
    caller: &Caller,
    returned: &Returned,
    outcome: Outcome,
) -> Result<PhoneView, Refusal> {
    match outcome {
        Outcome::Identity(identity) => {
            service.logins.approve_returned(returned, caller.origin(), identity, service.now()).await
        }
        Outcome::Refused => service.logins.deny_returned(returned, service.now()).await,
        Outcome::Event { .. } | Outcome::Visit { .. } | Outcome::Scanned { .. } => Err(Refusal::Unknown),
    }
}

pub(super) fn provider_failed(service: &Service, provider: &str, error: &ProviderError) -> Refused {
    let (status, reason) = match error {
        ProviderError::Forged(_) => (StatusCode::FORBIDDEN, "provider_forged"),
        ProviderError::Unwelcome(_) => (StatusCode::FORBIDDEN, "provider_unwelcome"),
        ProviderError::Stale => (StatusCode::BAD_REQUEST, "provider_stale"),
        _ => (StatusCode::BAD_GATEWAY, "provider_unavailable"),
    };
    service.refused(reason);
    tracing::warn!(provider, %error, "a provider did not say who it is");
    let text = match error {
        // What the provider said is for the log.
        ProviderError::Unavailable(_) => "the provider does not answer; try again".to_owned(),
        other => other.to_string(),
    };
    Refused::new(status, reason, text)
}

/// A phone's page after it came back from a provider.
pub(super) fn returned_page(
    service: &Service,
    caller: &Caller,
    said: Result<&PhoneView, &Refusal>,
) -> Response {
    let (status, said, reason) = match said {
        Ok(view) => (StatusCode::OK, Said::View(view), None),
        Err(refusal) => {
            // A `state` that is not this phone's is a bad request rather than a login that is not there.
            let status = Refused::from(refusal).status;
            let status = if status == StatusCode::NOT_FOUND { StatusCode::BAD_REQUEST } else { status };
            (status, Said::Refusal(refusal), Some(error_of(refusal)))
        }
    };
    let response = html(status, &PhonePage::without_form(said, service, caller));
    match reason {
        Some(reason) => counted_as(response, reason),
        None => response,
    }
}

/// `GET /s`
pub(super) async fn form(State(public): State<Public>, request: Request) -> Result<Response, Refused> {
    let service = service(&public.context)?;
    let caller = Caller::of(&public.context, &request)?;
    Ok(html(StatusCode::OK, &PhonePage::without_form(Said::Form(None), service, &caller)))
}

/// `POST /s`
pub(super) async fn typed(State(public): State<Public>, request: Request) -> Result<Response, Refused> {
    let service = service(&public.context)?;
    let caller = Caller::of(&public.context, &request)?;
    caller.must_be_same_origin()?;
    let (parts, body) = request.into_parts();
    let fields = Fields::read(&parts.headers, body, public.context.policy.load().limits.head_timeout).await?;
    let code = fields.get("user_code").unwrap_or_default();
    let error = match service.logins.typed(code, caller.address, service.now()).await {
        Ok(qr) => return Ok(see_other(&format!("/s/{}", qr.expose()))),
        Err(error) => error,
    };
    let (status, reason, wait) = match &error {
        TypedError::Wrong => (StatusCode::NOT_FOUND, "user_code", None),
        TypedError::Guessing(Guessing::Address(wait)) => {
            (StatusCode::TOO_MANY_REQUESTS, "user_code_tries", Some(seconds(*wait)))
        }
        TypedError::Guessing(Guessing::Everybody) => {
            (StatusCode::TOO_MANY_REQUESTS, "user_code_budget", Some(3_600))
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", Some(1)),
    };
    let mut response = if caller.wants_json {
        Refused::new(status, reason, error.to_string()).into_response()
    } else {
        html(status, &PhonePage::without_form(Said::Form(Some(&error)), service, &caller))
    };
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    Ok(counted_as(response, reason))
}
