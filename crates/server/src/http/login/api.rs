//! The calls of the API listener: for a site's own phone app, and for its backend.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use doorbell_login::{
    Attempt, Digest, Handle, Identity, LoginId, Origin, Phone, RedeemError, Redemption, Refusal, Step, Who,
    describe,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::scan::PhoneShown;
use super::token::{end_session, session_of};
use crate::context::Context;
use crate::http::api::{Answer, App, read};
use crate::http::fields::{UidField, any_ip, either};
use crate::http::problem::{Members, Problem};
use crate::login::{Service, error_of, seconds};

/// The provider of people whom the site's own app knows.
const APP: &str = "app";

pub(in crate::http) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(redeem))
        .routes(routes!(inspect))
        .routes(routes!(end))
        .routes(routes!(scan))
        .routes(routes!(approve))
        .routes(routes!(deny))
}

fn service(context: &Context) -> Answer<&Arc<Service>> {
    context.login.get().ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "the server is starting")
    })
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        Self::new(super::Refused::from(refusal).status, error_of(refusal), refusal.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::from(&refusal)
    }
}

/// What the site's app says of the person whose phone it is on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Person {
    uid: UidField,
    name: Option<String>,
    avatar: Option<String>,
    /// The phone's address, for the comparison of networks.
    #[schema(schema_with = any_ip)]
    ip: Option<IpAddr>,
    /// The number that the computer shows.
    number: Option<String>,
}

impl Person {
    /// The site has authenticated its user, so the uid is the visit.
    fn visit(&self) -> Answer<Digest> {
        Ok(Digest::of(&format!("{APP}\0{}", self.uid.uid()?)))
    }

    fn identity(&self) -> Answer<Identity> {
        let short = |text: &Option<String>| {
            text.as_deref().map(|text| text.chars().filter(|c| !c.is_control()).take(256).collect())
        };
        Ok(Identity {
            provider: APP.to_owned(),
            appid: None,
            id: self.uid.uid()?.to_string(),
            unionid: None,
            name: short(&self.name),
            picture: short(&self.avatar),
        })
    }
}

/// Takes a login for a user of the site's own app
#[utoipa::path(post, path = "/v1/logins/{login}/scan", tag = "logins", params(("login" = String, Path)), request_body = Person,
    responses((status = 200, description = "what the phone should show", body = PhoneShown),
        (status = 404, description = "no such login", body = Members, content_type = "application/problem+json"),
        (status = 409, description = "another phone was first", body = Members, content_type = "application/problem+json"),
        (status = 410, description = "the code was renewed, or the login is over", body = Members, content_type = "application/problem+json")))]
async fn scan(State(context): State<App>, Path(qr): Path<String>, body: Body) -> Answer<Json<PhoneShown>> {
    let service = service(&context)?;
    let person: Person = read(&context, body).await?;
    // Without the phone's address it counts as nowhere near.
    let address = person.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let name = person.identity()?.name;
    let phone = Phone { visit: person.visit()?, origin: Origin::new(address, APP), name };
    let view = service.logins.scan(&qr, phone, service.now()).await?;
    Ok(Json(PhoneShown::of(&view)))
}

/// Agrees to a login
#[utoipa::path(post, path = "/v1/logins/{login}/approve", tag = "logins", params(("login" = String, Path)), request_body = Person,
    responses((status = 200, description = "agreed", body = PhoneShown),
        (status = 400, description = "the number is missing or wrong", body = Members, content_type = "application/problem+json"),
        (status = 403, description = "too far away, or not allowed", body = Members, content_type = "application/problem+json"),
        (status = 404, description = "no such login", body = Members, content_type = "application/problem+json"),
        (status = 409, description = "another phone's, or not scanned", body = Members, content_type = "application/problem+json"),
        (status = 410, description = "the code was renewed, or the login is over", body = Members, content_type = "application/problem+json")))]
async fn approve(State(context): State<App>, Path(qr): Path<String>, body: Body) -> Answer<Json<PhoneShown>> {
    let service = service(&context)?;
    let person: Person = read(&context, body).await?;
    let (visit, identity) = (person.visit()?, person.identity()?);
    let number = person.number.as_deref();
    let view = service.logins.approve(&qr, &visit, number, identity, service.now()).await?;
    Ok(Json(PhoneShown::of(&view)))
}

/// Refuses a login
#[utoipa::path(post, path = "/v1/logins/{login}/deny", tag = "logins", params(("login" = String, Path)), request_body = Person,
    responses((status = 200, description = "refused", body = PhoneShown),
        (status = 404, description = "no such login", body = Members, content_type = "application/problem+json"),
        (status = 409, description = "another phone's", body = Members, content_type = "application/problem+json"),
        (status = 410, description = "the code was renewed, or the login is over", body = Members, content_type = "application/problem+json")))]
async fn deny(State(context): State<App>, Path(qr): Path<String>, body: Body) -> Answer<Json<PhoneShown>> {
    let service = service(&context)?;
    let person: Person = read(&context, body).await?;
    let view = service.logins.deny(&qr, &person.visit()?, person.ip, service.now()).await?;
    Ok(Json(PhoneShown::of(&view)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RedeemRequest {
    code: Option<String>,
    device_code: Option<String>,
    code_verifier: Option<String>,
    client_id: Option<String>,
}

/// A [`RedeemRequest`], as it is described.
struct Redeeming;

impl ToSchema for Redeeming {
    fn name() -> Cow<'static, str> {
        RedeemRequest::name()
    }
}

impl utoipa::PartialSchema for Redeeming {
    fn schema() -> RefOr<Schema> {
        either(<RedeemRequest as utoipa::PartialSchema>::schema(), ["code", "device_code"])
    }
}

/// A person as a provider knows them: what an [`Identity`] looks like on the wire.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes another type's fields")]
struct PersonShown {
    /// The provider's section in the configuration, or `app`.
    provider: String,
    /// The provider's name for the application.
    appid: Option<String>,
    /// Stable within `provider` and `appid`.
    id: String,
    /// The same person across the applications of one owner.
    unionid: Option<String>,
    name: Option<String>,
    picture: Option<String>,
}

/// Who logged in, as a backend is told.
#[derive(Debug, Serialize, ToSchema)]
struct Redeemed {
    login: String,
    client_id: String,
    #[schema(value_type = PersonShown)]
    identity: Identity,
    /// The uid that the identity makes here.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    /// When the owner agreed, in Unix seconds.
    at: u64,
    /// The computer's address.
    ip: String,
    /// The computer's browser.
    user_agent: String,
}

/// Gives the result of a login out, once
#[utoipa::path(post, path = "/v1/redeem", tag = "logins", request_body = Redeeming,
    responses((status = 200, description = "who logged in", body = Redeemed),
        (status = 404, description = "no such login", body = Members, content_type = "application/problem+json"),
        (status = 409, description = "still under way, or fetched before: then what came of it is ended", body = Members, content_type = "application/problem+json"),
        (status = 410, description = "refused or expired", body = Members, content_type = "application/problem+json")))]
async fn redeem(State(context): State<App>, body: Body) -> Answer<Json<Redeemed>> {
    let service = service(&context)?;
    let request: RedeemRequest = read(&context, body).await?;
    let handle = match (&request.code, &request.device_code) {
        (Some(code), None) => Handle::Code(code),
        (None, Some(device_code)) => Handle::DeviceCode(device_code),
        _ => return Err(Problem::bad_request("code", "give either `code` or `device_code`")),
    };
    let rules = service.logins.rules();
    let client = match &request.client_id {
        Some(id) => Some(
            rules
                .client(id)
                .ok_or_else(|| Problem::bad_request("invalid_client", "there is no such client"))?,
        ),
        None => None,
    };
    let redemption = Redemption {
        handle,
        client,
        verifier: request.code_verifier.as_deref(),
        redirect_uri: None,
        compare_redirect_uri: false,
        address: None,
    };
    let session = |identity: &Identity| client.and_then(|client| session_of(identity, client));
    let redeemed = service.logins.redeem(redemption, session, service.now()).await;
    let redeemed = redeemed.map_err(|error| not_redeemed(&context, service, &error))?;
    let attempt = &redeemed.attempt;
    let uid = rules.client(&attempt.client).and_then(|client| session_of(&redeemed.identity, client));
    Ok(Json(Redeemed {
        login: attempt.id.to_string(),
        client_id: attempt.client.as_ref().to_owned(),
        at: agreed_at(service, attempt),
        ip: attempt.computer.address.to_string(),
        user_agent: attempt.computer.user_agent.as_ref().to_owned(),
        uid: uid.map(|session| session.uid),
        identity: redeemed.identity,
    }))
}

fn agreed_at(service: &Service, attempt: &Attempt) -> u64 {
    let agreed = attempt.audit.iter().find(|record| record.step == Step::Approved);
    service.unix_seconds(agreed.map_or(attempt.created, |record| record.at))
}

fn not_redeemed(context: &Context, service: &Service, error: &RedeemError) -> Problem {
    let text = error.to_string();
    match error {
        RedeemError::Pending(_) => Problem::new(StatusCode::CONFLICT, "authorization_pending", text),
        RedeemError::Denied => Problem::new(StatusCode::GONE, "access_denied", text),
        RedeemError::Expired => Problem::new(StatusCode::GONE, "expired_token", text),
        RedeemError::Reused(attempt) => {
            end_session(context, attempt);
            service.refused("reused");
            Problem::new(StatusCode::CONFLICT, "reused", text)
        }
        RedeemError::Store(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text)
        }
        _ => Problem::new(StatusCode::NOT_FOUND, "invalid_grant", text),
    }
}

/// A login as those who look after the server see it: no secret, and of phones only digests.
#[derive(Debug, Serialize, ToSchema)]
struct Inspected {
    login: String,
    state: &'static str,
    version: u64,
    client_id: String,
    /// Unix seconds.
    created: u64,
    expires_in: u64,
    computer: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<PersonShown>)]
    identity: Option<Identity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionShown>,
    audit: Vec<Recorded>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Place {
    browser: Option<&'static str>,
    system: Option<&'static str>,
    address: String,
}

impl Place {
    fn of(origin: &Origin) -> Self {
        let described = describe(&origin.user_agent);
        Self { browser: described.browser, system: described.system, address: origin.address.to_string() }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct SessionShown {
    uid: String,
    revoked: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct Recorded {
    /// Unix seconds.
    at: u64,
    step: &'static str,
    from: &'static str,
    to: &'static str,
    version: u64,
    who: &'static str,
    /// The beginning of the digest of the phone's visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    visit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

fn login_id(text: &str) -> Answer<LoginId> {
    LoginId::parse(text).ok_or_else(|| Problem::from(Refusal::Unknown))
}

/// Says how a login stands and what happened to it
#[utoipa::path(get, path = "/v1/logins/{login}", tag = "logins", params(("login" = String, Path)),
    responses((status = 200, description = "the login", body = Inspected),
        (status = 404, description = "no such login", body = Members, content_type = "application/problem+json")))]
async fn inspect(State(context): State<App>, Path(id): Path<String>) -> Answer<Json<Inspected>> {
    let service = service(&context)?;
    let found = service.logins.inspect(login_id(&id)?).await.map_err(Refusal::from)?;
    let attempt = found.ok_or(Refusal::Unknown)?;
    let left = attempt.deadline.saturating_sub(service.now());
    let recorded = |record: &doorbell_login::Record| Recorded {
        at: service.unix_seconds(record.at),
        step: record.step.name(),
        from: record.from.name(),
        to: record.to.name(),
        version: record.version,
        who: record.who.name(),
        visit: match record.who {
            Who::Phone(visit) => Some(visit.short()),
            _ => None,
        },
        address: record.address.map(|address| address.to_string()),
    };
    Ok(Json(Inspected {
        login: attempt.id.to_string(),
        state: attempt.state.name(),
        version: attempt.version,
        client_id: attempt.client.as_ref().to_owned(),
        created: service.unix_seconds(attempt.created),
        expires_in: if attempt.state.is_final() { 0 } else { seconds(left) },
        computer: Place::of(&attempt.computer),
        phone: attempt.phone.as_ref().map(|phone| Place::of(&phone.origin)),
        identity: attempt.identity.as_deref().cloned(),
        session: attempt
            .session
            .as_deref()
            .map(|session| SessionShown { uid: session.uid.clone(), revoked: session.revoked }),
        audit: attempt.audit.iter().map(recorded).collect(),
    }))
}

#[derive(Debug, Serialize, ToSchema)]
struct Ended {
    login: String,
    /// Connections closed.
    closed: usize,
}

/// Ends what came of a login
#[utoipa::path(delete, path = "/v1/logins/{login}/session", tag = "logins", params(("login" = String, Path)),
    responses((status = 200, description = "it is ended", body = Ended),
        (status = 404, description = "no such login", body = Members, content_type = "application/problem+json"),
        (status = 409, description = "nothing came of it", body = Members, content_type = "application/problem+json")))]
async fn end(State(context): State<App>, Path(id): Path<String>) -> Answer<Json<Ended>> {
    let service = service(&context)?;
    let attempt = service.logins.revoke(login_id(&id)?, Who::Backend, service.now()).await?;
    Ok(Json(Ended { login: attempt.id.to_string(), closed: end_session(&context, &attempt) }))
}
