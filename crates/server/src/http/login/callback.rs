//! What providers ask: `/v1/callback/{provider}`, by the phone that is back or by the provider's own server.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use doorbell_login::{Digest, Happened, Origin, Outcome, Phone, Refusal, Reply, Request as Called, Token};
use http::{HeaderValue, StatusCode, header};

use super::caller::Caller;
use super::scan::{finish, provider_failed, returned_page};
use super::{Refused, service};
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
    };
    let Some(state) = provider.state(&called) else {
        return match provider.callback(&called).await {
            Ok(Outcome::Event { reply, happened }) => {
                if let Some(happened) = happened {
                    tell(service, provider.name(), happened, caller.address).await;
                }
                Ok(replied(reply))
            }
            // Without a `state` nobody is known to be back.
            Ok(_) => Ok(returned_page(&caller, Err(&Refusal::Unknown))),
            Err(error) => Err(provider_failed(service, provider.name(), &error)),
        };
    };
    let mut returned = Err(Refusal::Unknown);
    let phone = caller.known_visit();
    let computer = caller.login_cookie.as_deref().and_then(Token::parse).map(|cookie| cookie.digest());
    for visit in [phone, computer].into_iter().flatten() {
        returned = service.logins.came_back(state, &visit, provider.name(), service.now()).await;
        if returned.is_ok() {
            break;
        }
    }
    let returned = match returned {
        Ok(returned) => returned,
        Err(refusal) => return Ok(returned_page(&caller, Err(&refusal))),
    };
    match provider.callback(&called).await {
        Ok(outcome) => {
            let said = finish(service, &caller, &returned, outcome).await;
            Ok(returned_page(&caller, said.as_ref()))
        }
        Err(error) => Err(provider_failed(service, provider.name(), &error)),
    }
}

/// Does what a provider's server told of. It is told once more or too late as well; then nothing changes.
async fn tell(service: &Service, provider: &str, happened: Happened, address: IpAddr) {
    let Happened { qr, identity, agreed } = happened;
    let appid = identity.appid.as_deref().unwrap_or_default();
    let visit = Digest::of(&format!("{provider}\0{appid}\0{}", identity.id));
    let phone = Phone { visit, origin: Origin::new(address, provider), name: identity.name.clone() };
    let done = match service.logins.scan(&qr, phone, service.now()).await {
        Ok(_) if agreed => service.logins.approve(&qr, &visit, None, identity, service.now()).await.map(drop),
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = done {
        service.refused(crate::login::error_of(&refusal));
        tracing::debug!(provider, %refusal, "what a provider told of changes nothing");
    }
}

fn replied(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = HeaderValue::from_static(reply.content_type);
    let response = (status, [(header::CONTENT_TYPE, kind)], reply.body).into_response();
    if status.is_success() { response } else { counted_as(response, "provider_forged") }
}
