//! Connection tokens: minted for a backend, and revoked.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::api::{Answer, App, read, read_optional, valid_uid};
use super::fields::{UidField, not_both};
use super::problem::{Members, Problem};
use super::push::random_name;
use super::ttl::TokenTtl;
use crate::context::{Ended, unix_seconds};
use crate::identity::MintError;
use crate::policy::Identity;
use crate::revocation::Revoke;

/// How long a token lasts that is asked for without a time.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);
/// Bytes of a token's name.
const MAX_TOKEN_ID_BYTES: usize = 256;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenRequest {
    uid: UidField,
    /// An hour without it.
    ttl: Option<TokenTtl>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Minted {
    token: String,
    /// Its `jti`, by which it can be revoked alone.
    id: String,
    /// Seconds.
    expires_in: u64,
}

/// Mints a connection token
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = TokenRequest,
    responses((status = 200, description = "the token", body = Minted),
        (status = 409, description = "there are no tokens, or the server only checks them", body = Members, content_type = "application/problem+json")))]
pub(super) async fn mint(State(context): State<App>, body: Body) -> Answer<Json<Minted>> {
    let request: TokenRequest = read(&context, body).await?;
    let uid = request.uid.uid()?;
    let ttl = request.ttl.map_or(Ok(TOKEN_TTL), |ttl| ttl.duration())?;
    let policy = context.policy.load_full();
    let Identity::Token(keys) = &policy.identity else { return Err(open_identity()) };
    let now = SystemTime::now();
    // A token made right after a revocation is not meant by it.
    let issued = unix_seconds(now).max(context.revocations.issue_from(&uid));
    let id = random_name("j_")?;
    let token = keys.mint_as(&uid, ttl, now, issued, Some(&id)).map_err(|error| match error {
        MintError::Ttl => Problem::bad_request("ttl", error.to_string()),
        _ => Problem::new(StatusCode::CONFLICT, "public_key", error.to_string()),
    })?;
    Ok(Json(Minted { token, id, expires_in: ttl.as_secs() }))
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeRequest {
    /// Tokens issued before this, in seconds since the Unix epoch; now without it.
    #[schema(maximum = 18_446_744_073_709_551_615_u64)]
    before: Option<u64>,
    /// Only the token with this `jti`, of 1 to 256 bytes.
    #[schema(min_length = 1, max_length = 256)]
    token_id: Option<String>,
}

/// A [`RevokeRequest`], as it is described.
pub(super) struct Revoking;

impl ToSchema for Revoking {
    fn name() -> Cow<'static, str> {
        RevokeRequest::name()
    }
}

impl utoipa::PartialSchema for Revoking {
    fn schema() -> RefOr<Schema> {
        not_both(<RevokeRequest as utoipa::PartialSchema>::schema(), ["before", "token_id"])
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevokedTokens {
    uid: String,
    /// Tokens of the uid issued before this are revoked, in seconds since the Unix epoch; none are when it is null.
    before: Option<u64>,
    /// How many connections were closed.
    closed: usize,
    /// Whether it holds beyond a restart of the server. If not, revoke again after one.
    durable: bool,
}

/// Ends tokens before their time, and the connections that came with them
#[utoipa::path(post, path = "/v1/users/{uid}/revoke", tag = "users", params(("uid" = String, Path, min_length = 1, max_length = 128)),
    request_body = Option<Revoking>,
    responses((status = 200, description = "they no longer work", body = RevokedTokens),
        (status = 409, description = "there are no tokens", body = Members, content_type = "application/problem+json"),
        (status = 503, description = "there is no room to remember it", body = Members, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(context): State<App>,
    Path(uid): Path<String>,
    body: Body,
) -> Answer<Json<RevokedTokens>> {
    let uid = valid_uid(&uid)?;
    let request: RevokeRequest = read_optional(&context, body).await?;
    let RevokeRequest { before, token_id } = request;
    let what = match (before, token_id.as_deref()) {
        (None, None) => Revoke::Now,
        (Some(before), None) if before <= unix_seconds(SystemTime::now()) => Revoke::Before(before),
        (Some(_), None) => {
            let detail = "`before` is in seconds since 1970 and not in the future; without it, it is now";
            return Err(Problem::bad_request("before", detail));
        }
        (None, Some(id)) if (1..=MAX_TOKEN_ID_BYTES).contains(&id.len()) => Revoke::Token(id),
        (None, Some(_)) => {
            let detail = format!("a `token_id` has 1 to {MAX_TOKEN_ID_BYTES} bytes");
            return Err(Problem::bad_request("token_id", detail));
        }
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("token_id", "give `before` or `token_id`, not both"));
        }
    };
    if matches!(context.policy.load().identity, Identity::Open) {
        return Err(open_identity());
    }
    let Ended { before, closed, durable } = context
        .revoke(&uid, what)
        .map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "revocations", error.to_string()))?;
    let before = (before > 0).then_some(before);
    Ok(Json(RevokedTokens { uid: uid.to_string(), before, closed, durable }))
}

fn open_identity() -> Problem {
    let detail = "with open identity there are no tokens: the page says its uid itself";
    Problem::new(StatusCode::CONFLICT, "open_identity", detail)
}
