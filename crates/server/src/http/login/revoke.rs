//! Signing out by the token that a login gave (RFC 7009).

use std::time::SystemTime;

use axum::extract::{Request, State};
use doorbell_login::{LoginId, Refusal, Who};
use http::StatusCode;

use super::fields::Fields;
use super::token::{Secret, client};
use super::{Refused, service};
use crate::http::public::Public;
use crate::policy::Identity;
use crate::revocation::Revoke;

/// `POST /v1/revoke`: ends what came of a login, for whoever has its token.
///
/// A token that nobody would take anyway is answered like one that was revoked (section 2.2): there is nothing to end.
pub(super) async fn revoke(State(public): State<Public>, request: Request) -> Result<StatusCode, Refused> {
    let context = &public.context;
    let service = service(context)?;
    let (parts, body) = request.into_parts();
    let policy = context.policy.load_full();
    let fields = Fields::read(&parts.headers, body, policy.limits.head_timeout).await?;
    let rules = service.logins.rules();
    let client = client(&rules, &parts.headers, &fields, Secret::Required)?;
    let token =
        fields.get("token").ok_or_else(|| Refused::bad_request("invalid_request", "`token` is missing"))?;
    let unsupported = |text| Refused::bad_request("unsupported_token_type", text);
    let Identity::Token(keys) = &policy.identity else {
        return Err(unsupported("with open identity there are no tokens"));
    };
    let Ok(claims) = keys.verify(token.as_bytes(), SystemTime::now()) else { return Ok(StatusCode::OK) };
    // The token is called after its login; any other is a backend's to revoke.
    let named = claims.id.as_deref().and_then(|name| Some((name, LoginId::parse(name)?)));
    let (name, id) = named.ok_or_else(|| unsupported("this token did not come of a login"))?;
    let attempt = service.logins.inspect(id).await.map_err(Refusal::from)?;
    if attempt.is_some_and(|attempt| *attempt.client != *client.id) {
        return Err(Refused::bad_request("invalid_grant", "this token was given to another client"));
    }
    context.revoke(&claims.uid, Revoke::Token(name)).map_err(|error| {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", error.to_string()).after(60)
    })?;
    match service.logins.revoke(id, Who::Backend, service.now()).await {
        // The phone is told that it is over, and by the trail everybody else. The login may be forgotten by now.
        Ok(_) | Err(Refusal::Unknown) => Ok(StatusCode::OK),
        Err(refusal) => Err(refusal.into()),
    }
}
