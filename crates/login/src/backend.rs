//! What the site's backend may ask: the result, once; and to end what came of it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::Now;
use crate::attempt::{Attempt, Refusal, Session, State, Step, Who};
use crate::identity::Identity;
use crate::logins::{Decision, Logins};
use crate::rules::Client;
use crate::secret::{LoginId, Token};
use crate::store::{Key, Store, StoreError};

/// Milliseconds by which a poll may come early without being too fast: networks are not even.
const SLACK_MS: u64 = 500;
/// What each poll that comes too fast adds to the pause (RFC 8628 section 3.5).
const SLOW_DOWN_MS: u64 = 5_000;

/// What is shown for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handle<'a> {
    /// The device code.
    DeviceCode(&'a str),
    /// The one-time code.
    Code(&'a str),
}

/// A request for the result. The client has shown its secret, if it has one.
#[derive(Debug, Clone, Copy)]
pub struct Redemption<'a> {
    /// What is shown for it.
    pub handle: Handle<'a>,
    /// Who asks; none for a backend with an API key that did not say.
    pub client: Option<&'a Client>,
    /// The PKCE verifier.
    pub verifier: Option<&'a str>,
    /// The redirect address, which for a one-time code must be that of the beginning.
    pub redirect_uri: Option<&'a str>,
    /// Whether [`Redemption::redirect_uri`] is compared.
    pub compare_redirect_uri: bool,
    /// Where the request comes from.
    pub address: Option<IpAddr>,
}

/// The result.
#[derive(Debug)]
pub struct Redeemed {
    /// The login, as it now stands.
    pub attempt: Arc<Attempt>,
    /// Who agreed.
    pub identity: Identity,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedeemError {
    /// Not yet.
    #[error("the login is still under way")]
    Pending(State),
    /// The owner refused, or the computer gave up.
    #[error("the login was refused")]
    Denied,
    /// Too late.
    #[error("the login has expired")]
    Expired,
    /// No such login, another client's, or a wrong verifier or redirect address.
    #[error("nothing can be fetched with this")]
    Invalid,
    /// It was fetched before. Somebody has what they should not have, so what came of it is ended.
    #[error("the result was fetched before; what came of it is ended")]
    Reused(Box<Attempt>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S: Store> Logins<S> {
    /// Gives the result out, once. `session` makes what comes of it from who agreed.
    ///
    /// # Errors
    /// [`RedeemError`]. Only whoever is shown to be the right client with the right verifier learns more than
    /// [`RedeemError::Invalid`].
    pub async fn redeem(
        &self,
        redemption: Redemption<'_>,
        session: impl Fn(&Identity) -> Option<Session>,
        now: Now,
    ) -> Result<Redeemed, RedeemError> {
        let (handle, key): (_, fn(_) -> _) = match redemption.handle {
            Handle::DeviceCode(text) => (text, Key::Device),
            Handle::Code(text) => (text, Key::Code),
        };
        let key = key(Token::parse(handle).ok_or(RedeemError::Invalid)?.digest());
        let stepped = self
            .step(key, now, |attempt| {
                check(attempt, &redemption)?;
                let session = attempt.identity.as_deref().and_then(&session);
                let next = attempt.consume(session, redemption.address, now)?;
                Ok(Decision::Step(Box::new(next), Step::Consumed, ()))
            })
            .await;
        match stepped {
            Ok((attempt, ())) => {
                let identity = attempt.identity.as_deref().cloned().ok_or(RedeemError::Invalid)?;
                Ok(Redeemed { attempt, identity })
            }
            Err(Refusal::WrongState(state)) => Err(RedeemError::Pending(state)),
            Err(Refusal::Over(State::Consumed)) => {
                let attempt = self.find(key, now).await.map_err(|_| RedeemError::Invalid)?;
                let ended = self.revoke(attempt.id, Who::Backend, now).await;
                let ended = ended.map_err(|refusal| match refusal {
                    Refusal::Store(error) => RedeemError::Store(error),
                    _ => RedeemError::Invalid,
                })?;
                Err(RedeemError::Reused(Box::new(Attempt::clone(&ended))))
            }
            Err(Refusal::Over(State::Expired)) => Err(RedeemError::Expired),
            Err(Refusal::Over(_)) => Err(RedeemError::Denied),
            Err(Refusal::Store(error)) => Err(RedeemError::Store(error)),
            Err(_) => Err(RedeemError::Invalid),
        }
    }

    /// The name of the login with this device code.
    pub async fn named(&self, device_code: &str) -> Option<LoginId> {
        let device = Token::parse(device_code)?.digest();
        self.store.find(Key::Device(device)).await.ok().flatten().map(|attempt| attempt.id)
    }

    /// Whether a client polls the token endpoint faster than it was told to; each time adds five seconds to its pause
    /// (RFC 8628 section 3.5). Unknown device codes are never too fast: they get no further anyway.
    ///
    /// # Errors
    /// The store fails.
    pub async fn polls_too_fast(
        &self,
        device_code: &str,
        interval_ms: u64,
        now: Now,
    ) -> Result<bool, StoreError> {
        let Some(device) = Token::parse(device_code) else { return Ok(false) };
        let Some(attempt) = self.store.find(Key::Device(device.digest())).await? else { return Ok(false) };
        if attempt.state.is_final() {
            return Ok(false);
        }
        Ok(self.heard(&attempt, now, |page| {
            let pause = page.interval_ms.max(interval_ms);
            let early =
                page.polled.is_some_and(|last| now.saturating_add(SLACK_MS) < last.saturating_add(pause));
            page.polled = Some(now);
            page.interval_ms = if early { pause.saturating_add(SLOW_DOWN_MS) } else { pause };
            early
        }))
    }

    /// Ends what came of a login; the login as it then stands. The same again changes nothing.
    ///
    /// # Errors
    /// There is no such login, or nothing came of it.
    pub async fn revoke(&self, id: LoginId, who: Who, now: Now) -> Result<Arc<Attempt>, Refusal> {
        let attempt = self.store.get(id).await?.ok_or(Refusal::Unknown)?;
        let (attempt, ()) = self
            .step(Key::Device(attempt.device), now, |attempt| {
                Ok(match attempt.revoke(who, now)? {
                    Some(next) => Decision::Step(Box::new(next), Step::Revoked, ()),
                    None => Decision::Keep(()),
                })
            })
            .await?;
        Ok(attempt)
    }
}

/// Whether the request is by the login's own client, with the verifier of whoever began it.
fn check(attempt: &Attempt, redemption: &Redemption<'_>) -> Result<(), Refusal> {
    let client = redemption.client.is_none_or(|client| *client.id == *attempt.client);
    let verifier = match (&attempt.challenge, redemption.verifier) {
        (None, _) => true,
        (Some(challenge), Some(verifier)) => challenge.matches(verifier),
        (Some(_), None) => false,
    };
    let redirect_uri =
        !redemption.compare_redirect_uri || redemption.redirect_uri == attempt.redirect_uri.as_deref();
    if client && verifier && redirect_uri { Ok(()) } else { Err(Refusal::Unknown) }
}
