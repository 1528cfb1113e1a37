//! What the site's backend asks by OAuth (RFC 6749, RFC 8628): the result, once.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Request, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorbell_login::{Attempt, Client, Handle, Identity, LoginId, RedeemError, Redemption, Rules, Session};
use doorbell_protocol::Uid;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use super::caller::Caller;
use super::fields::Fields;
use super::{Refused, service};
use crate::context::{Context, unix_seconds};
use crate::http::public::Public;
use crate::login::Service;
use crate::policy;
use crate::revocation::Revoke;

/// The grant of RFC 8628.
pub(super) const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The grant for the one-time code.
pub(super) const AUTHORIZATION_CODE: &str = "authorization_code";

/// How long a poll may ask to be kept waiting (RFC 7240 section 4.3).
const MAX_WAIT: Duration = Duration::from_secs(55);

/// Whether the client has to show its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    /// Yes, if it has one.
    Required,
    /// Only a wrong one is refused: a page begins logins for a client whose secret it must not know.
    IfSent,
}

/// The client that asks, by `Authorization: Basic` or by fields (RFC 6749 section 2.3.1).
pub(super) fn client<'r>(
    rules: &'r Rules,
    headers: &HeaderMap,
    fields: &Fields,
    secret: Secret,
) -> Result<&'r Client, Refused> {
    let unauthorized = |text: &str| Refused::new(StatusCode::UNAUTHORIZED, "invalid_client", text);
    let basic = basic(headers);
    let (id, shown) = match &basic {
        Some((id, shown)) => {
            if fields.get("client_id").is_some_and(|other| other != id) {
                return Err(Refused::bad_request("invalid_request", "two clients are named"));
            }
            (id.as_str(), Some(shown.as_str()))
        }
        None => {
            let id = fields.get("client_id");
            (id.ok_or_else(|| unauthorized("client_id is missing"))?, fields.get("client_secret"))
        }
    };
    let client = rules.client(id).ok_or_else(|| unauthorized("there is no such client"))?;
    match (&client.secret, shown.filter(|shown| !shown.is_empty())) {
        (Some(digest), Some(shown)) if digest.matches(shown) => Ok(client),
        (None, None) => Ok(client),
        (Some(_), None) if secret == Secret::IfSent => Ok(client),
        _ => Err(unauthorized("the client's secret is missing or wrong")),
    }
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    // Both parts are written as form fields are; most clients leave what needs no escape as it is.
    let unescaped =
        |part: &str| form_urlencoded::parse(part.as_bytes()).next().map(|(text, _)| text.into_owned());
    Some((unescaped(id)?, unescaped(secret).unwrap_or_default()))
}

/// The answer to `POST /v1/token`.
#[derive(Serialize)]
pub(super) struct Granted {
    access_token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    identity: Identity,
    login: String,
}

/// `POST /v1/token`
pub(super) async fn token(State(public): State<Public>, request: Request) -> Result<Json<Granted>, Refused> {
    let context = &public.context;
    let service = service(context)?;
    let caller = Caller::of(context, &request)?;
    let (parts, body) = request.into_parts();
    let fields = Fields::read(&parts.headers, body, context.policy.load().limits.head_timeout).await?;
    let rules = service.logins.rules();
    let client = client(&rules, &parts.headers, &fields, Secret::Required)?;
    let field = |name: &'static str| {
        fields
            .get(name)
            .ok_or_else(|| Refused::bad_request("invalid_request", format!("`{name}` is missing")))
    };
    let (handle, by_code) = match field("grant_type")? {
        DEVICE_CODE => (Handle::DeviceCode(field("device_code")?), false),
        AUTHORIZATION_CODE => (Handle::Code(field("code")?), true),
        _ => return Err(Refused::bad_request("unsupported_grant_type", "not a grant of this server")),
    };
    let minter = Minter::of(context, service)?;
    let redemption = Redemption {
        handle,
        client: Some(client),
        verifier: fields.get("code_verifier"),
        redirect_uri: fields.get("redirect_uri"),
        compare_redirect_uri: by_code,
        address: Some(caller.address),
    };
    let session = |identity: &Identity| session_of(identity, client);
    let mut redeemed = service.logins.redeem(redemption, session, service.now()).await;
    if let (Err(RedeemError::Pending(_)), Handle::DeviceCode(device_code)) = (&redeemed, handle) {
        let waited = match (preferred_wait(&parts.headers), service.logins.named(device_code).await) {
            (Some(wait), Some(id)) => service.wait_while(id, wait, |attempt| !attempt.is_released()).await,
            _ => false,
        };
        if waited {
            redeemed = service.logins.redeem(redemption, session, service.now()).await;
        } else {
            let interval = service.settings.load().interval;
            let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            let polled = service.logins.polls_too_fast(device_code, interval_ms, service.now()).await;
            if polled.unwrap_or_default() {
                let text = "polled faster than `interval`; it is five seconds longer from now on";
                return Err(Refused::bad_request("slow_down", text));
            }
        }
    }
    let redeemed = redeemed.map_err(|error| not_redeemed(context, service, &error))?;
    let uid = redeemed.attempt.session.as_ref().map(|session| session.uid.as_str());
    let (access_token, expires_in) = minter.mint(context, uid, redeemed.attempt.id)?;
    Ok(Json(Granted {
        access_token,
        token_type: "Bearer",
        expires_in,
        identity: redeemed.identity,
        login: redeemed.attempt.id.to_string(),
    }))
}

fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get("prefer")?.to_str().ok()?;
    let wait = preferences.split(',').find_map(|part| part.trim().strip_prefix("wait="))?;
    let seconds = wait.split(';').next()?.trim().parse::<u64>().ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

/// The error, and the end of what came of a login whose result was fetched before.
pub(super) fn not_redeemed(context: &Context, service: &Service, error: &RedeemError) -> Refused {
    let text = error.to_string();
    match error {
        RedeemError::Pending(state) => {
            Refused::bad_request("authorization_pending", text).with(json!({"state": state.name()}))
        }
        RedeemError::Denied => Refused::bad_request("access_denied", text),
        RedeemError::Expired => Refused::bad_request("expired_token", text),
        RedeemError::Reused(attempt) => {
            end_session(context, attempt);
            service.refused("reused");
            Refused::bad_request("invalid_grant", text)
        }
        RedeemError::Store(_) => {
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text)
        }
        _ => Refused::bad_request("invalid_grant", text),
    }
}

/// Ends what came of a login: its token works no more, and the connections that came with it are closed. How many those
/// were.
pub(super) fn end_session(context: &Context, attempt: &Attempt) -> usize {
    let Some(session) = &attempt.session else { return 0 };
    let Ok(uid) = Uid::new(&session.uid) else { return 0 };
    let id = attempt.id.to_string();
    let what = match context.policy.load().identity {
        // No token says which connections those are: all of the uid's.
        policy::Identity::Open => Revoke::Now,
        policy::Identity::Token(_) => Revoke::Token(&id),
    };
    match context.revoke(&uid, what) {
        Ok(ended) => ended.closed,
        Err(error) => {
            tracing::error!(login = %attempt.id, %error, "failed to end what came of a login");
            0
        }
    }
}

/// What comes of a login: the uid that whoever agreed connects as.
pub(super) fn session_of(identity: &Identity, client: &Client) -> Option<Session> {
    let uid = identity.uid(client.uid.as_deref())?;
    Uid::new(&uid).is_ok().then_some(Session { uid, revoked: false })
}

/// Makes tokens; known to be able to before a result is given out.
struct Minter {
    policy: std::sync::Arc<policy::Policy>,
    ttl: Duration,
}

impl Minter {
    fn of(context: &Context, service: &Service) -> Result<Self, Refused> {
        let policy = context.policy.load_full();
        if let policy::Identity::Token(keys) = &policy.identity
            && !keys.can_mint()
        {
            let text = "the server's token key is a public one; use POST /v1/redeem of the API";
            return Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", text));
        }
        Ok(Self { policy, ttl: service.settings.load().token_ttl })
    }

    /// The token is called after its login, by which it can be revoked alone.
    fn mint(&self, context: &Context, uid: Option<&str>, login: LoginId) -> Result<(String, u64), Refused> {
        let failed = |text: String| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", text);
        let uid = uid.and_then(|uid| Uid::new(uid).ok());
        let uid = uid.ok_or_else(|| failed("this person has no uid here".to_owned()))?;
        let token = match &self.policy.identity {
            // What a page says is its uid itself.
            policy::Identity::Open => uid.to_string(),
            policy::Identity::Token(keys) => {
                let now = SystemTime::now();
                let issued = unix_seconds(now).max(context.revocations.issue_from(&uid));
                keys.mint_as(&uid, self.ttl, now, issued, Some(&login.to_string()))
                    .map_err(|error| failed(error.to_string()))?
            }
        };
        Ok((token, self.ttl.as_secs()))
    }
}
