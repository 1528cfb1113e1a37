//! What providers ask: `/v1/callback/{provider}`, by the phone that is back or by the provider's own server.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use doorbell_login::{
    Happened, Origin, Outcome, Phone, PhoneView, Refusal, Reply, Request as Called, State as LoginState,
    Token,
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::caller::Caller;
use super::scan::{PhoneShown, failed_page, finish, returned_page, see_other};
use super::{Refused, service};
use crate::cookies::VISIT_COOKIE;
use crate::http::problem::{counted_as, read_bytes};
use crate::http::public::Public;
use crate::login::Service;

/// `GET`, `POST /v1/callback/{provider}`
pub(super) async fn callback(
    State(public): State<Public>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    let context = &public.context;
    let service = service(context)?;
    let caller = Caller::of(context, &request)?;
    let unknown = || Refused::new(StatusCode::NOT_FOUND, "provider", "there is no such provider");
    let provider = service.provider(&name).ok_or_else(unknown)?;
    let (parts, body) = request.into_parts();
    let limits = context.policy.load().limits.clone();
    let body = read_bytes(body, limits.body_bytes, limits.head_timeout).await?;
    let called = Called {
        method: parts.method.as_str(),
        query: parts.uri.query().unwrap_or_default(),
        content_type: parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default(),
        body: &body,
        address: caller.address,
        unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        base: &caller.base,
    };
    let Some(state) = provider.state(&called) else {
        return match provider.callback(&called).await {
            Ok(Outcome::Event { reply, happened }) => {
                if let Some(happened) = happened {
                    tell(service, provider.name(), happened, caller.address).await;
                }
                Ok(replied(reply))
            }
            Ok(Outcome::Scanned { happened, visit }) => scanned(service, &caller, happened, &visit).await,
            Ok(Outcome::Visit { qr, visit }) => Ok(visiting(service, &caller, &qr, &visit).await),
            // Without a `state` nobody is known to be back.
            Ok(_) => Ok(returned_page(service, &caller, Err(&Refusal::Unknown))),
            Err(error) => Ok(failed_page(service, &caller, provider.name(), &error)),
        };
    };
    let mut returned = Err(Refusal::Unknown);
    let computer = caller.login_cookie.as_deref().and_then(Token::parse).map(|cookie| cookie.digest());
    for visit in caller.known_visits().chain(computer) {
        returned = service.logins.came_back(&state, &visit, provider.name(), service.now()).await;
        if returned.is_ok() {
            break;
        }
    }
    let returned = match returned {
        Ok(returned) => returned,
        Err(refusal) => return Ok(returned_page(service, &caller, Err(&refusal))),
    };
    match provider.callback(&called).await {
        Ok(outcome) => {
            let said = finish(service, &caller, &returned, outcome).await;
            if returned.is_computer
                && let Some(address) = sent_on(service, said.as_ref()).await
            {
                return Ok(see_other(&address));
            }
            // The login's own page goes on with it: it follows the login, and its forms know where they belong.
            if !returned.is_computer
                && let Some(address) = own_page(service, said.as_ref()).await
            {
                return Ok(see_other(&address));
            }
            Ok(returned_page(service, &caller, said.as_ref()))
        }
        Err(error) => Ok(failed_page(service, &caller, provider.name(), &error)),
    }
}

/// The page of a login that a phone is back from a provider with.
async fn own_page(service: &Service, said: Result<&PhoneView, &Refusal>) -> Option<String> {
    let attempt = service.logins.inspect(said.ok()?.login).await.ok()??;
    Some(format!("/s/{}", service.logins.keys().qr(attempt.id, attempt.rotation).expose()))
}

/// Where the computer goes on from a provider's page: to the site's registered address, with the one-time code or with why
/// there is none; else to the page that began, which has the login at hand.
async fn sent_on(service: &Service, said: Result<&PhoneView, &Refusal>) -> Option<String> {
    let view = said.ok()?;
    let attempt = service.logins.inspect(view.login).await.ok()??;
    let Some(address) = attempt.redirect_uri.as_deref() else {
        return attempt.return_to.as_deref().map(str::to_owned);
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    match (attempt.state, service.logins.view(&attempt, service.now()).code) {
        (_, Some(code)) => query.append_pair("code", code.expose()),
        (LoginState::Denied, None) => query.append_pair("error", "access_denied"),
        // The digits that the computer is to type are still wanted: its page asks for them.
        _ => return None,
    };
    query.append_pair("login", &attempt.id.to_string());
    let join = if address.contains('?') { '&' } else { '?' };
    Some(format!("{address}{join}{}", query.finish()))
}

/// Does what a provider's server told of. It is told once more or too late as well; then nothing changes.
async fn tell(service: &Service, provider: &str, happened: Happened, address: IpAddr) {
    let Happened { qr, identity, visit, agreed } = happened;
    let phone = Phone { visit, origin: Origin::new(address, provider), name: identity.name.clone() };
    let done = match service.logins.scan_known(&qr, phone, identity.clone(), service.now()).await {
        Ok(_) if agreed => service.logins.approve(&qr, &visit, None, identity, service.now()).await.map(drop),
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = done {
        service.refused(crate::login::error_of(&refusal));
        tracing::debug!(provider, %refusal, "what a provider told of changes nothing");
    }
}

/// What a provider's app on a phone is told of the login it has scanned, and how it goes on.
#[derive(Serialize)]
struct Taken {
    /// Where: `/s/<qr>`.
    qr: String,
    /// As a bearer token.
    visit: String,
    #[serde(flatten)]
    shown: PhoneShown,
}

/// Takes the login for the person whose phone it is.
async fn scanned(
    service: &Service,
    caller: &Caller,
    happened: Happened,
    visit: &Token,
) -> Result<Response, Refused> {
    let Happened { qr, identity, visit: digest, .. } = happened;
    let phone = Phone { visit: digest, origin: caller.origin(), name: identity.name.clone() };
    let view = service.logins.scan_known(&qr, phone, identity, service.now()).await?;
    let taken = Taken { qr, visit: visit.expose().to_owned(), shown: PhoneShown::of(&view) };
    Ok(Json(taken).into_response())
}

/// Gives a phone that follows a provider's link the visit that has taken the login. The cookie is for this login's pages
/// alone: whoever sends somebody a link of theirs must not know that phone's key to other logins.
async fn visiting(service: &Service, caller: &Caller, qr: &str, visit: &Token) -> Response {
    let path = format!("/s/{qr}");
    let mut response = see_other(&path);
    let looked = service.logins.look(qr, Some(&visit.digest()), caller.address, service.now()).await;
    if looked.is_ok_and(|view| view.is_owner)
        && let Some(cookie) = caller.set_cookie(VISIT_COOKIE, visit, &path)
    {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn replied(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = HeaderValue::from_static(reply.content_type);
    let response = (status, [(header::CONTENT_TYPE, kind)], reply.body).into_response();
    if status.is_success() { response } else { counted_as(response, "provider_forged") }
}
