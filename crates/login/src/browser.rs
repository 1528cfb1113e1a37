//! What the computer's side may ask: to begin, to look, to renew, to type the number, to give up.

use std::sync::Arc;

use crate::Now;
use crate::attempt::{
    Agreed, Attempt, CookieRule, Origin, OwnCode, Record, Refusal, State, Step, Who, millis,
};
use crate::crowd::Crowded;
use crate::logins::{Decision, Logins};
use crate::rules::{Client, NumberMatch};
use crate::secret::{Digest, LoginId, NoRandomness, Token};
use crate::store::{Inserted, Key, Store, StoreError};
use crate::view::View;

/// What a login begins with. The client has been looked up, and its secret, where it came, compared.
#[derive(Debug)]
pub struct Begin<'a> {
    /// Whose visitor logs in.
    pub client: &'a Client,
    /// The server's address as the browser knows it, without a slash at its end: where the QR code leads.
    pub base: &'a str,
    /// The computer.
    pub computer: Origin,
    /// Whether its address counts towards no limit.
    pub exempt: bool,
    /// The cookie of the browser that asked, and whether it must come back.
    pub cookie: Option<(&'a Token, CookieRule)>,
    /// The origin of the page that asked.
    pub web_origin: Option<&'a str>,
    /// Where the code is for.
    pub redirect_uri: Option<&'a str>,
    /// Where the page is that asked, for a provider that takes its window away: of `web_origin`, so that nobody is led
    /// elsewhere.
    pub return_to: Option<&'a str>,
    /// The PKCE challenge, method S256.
    pub challenge: Option<&'a str>,
    /// A text for both screens.
    pub binding_message: Option<&'a str>,
    /// The provider that is asked for.
    pub provider: Option<&'a str>,
}

/// Why no login begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The address is not registered for the client, byte for byte.
    #[error("redirect_uri is not one of the client's")]
    RedirectUri,
    /// Not an address of the page's own origin.
    #[error("return_to is not an address of the page's own origin, of up to {MAX_RETURN_TO} characters")]
    ReturnTo,
    /// Not a base64url SHA-256.
    #[error("code_challenge is not a base64url SHA-256 of 43 characters")]
    Challenge,
    /// A client without a secret must use PKCE.
    #[error("a client without a secret needs a code_challenge (S256)")]
    NeedsChallenge,
    /// Too long, or with control characters.
    #[error("binding_message has more than {MAX_BINDING_MESSAGE} characters, or control characters")]
    BindingMessage,
    /// Not one of the client's.
    #[error("the client's visitors may not use this provider")]
    Provider,
    /// There is no room.
    #[error("too many logins are under way")]
    Crowded(Crowded),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// Characters of a binding message (OpenID CIBA Core section 7.1 asks for short ones).
const MAX_BINDING_MESSAGE: usize = 64;
/// Characters of a page's address.
const MAX_RETURN_TO: usize = 2_048;
/// Tries to find a typed code that no other login has; one clash in 20^8 / live codes is rare already.
const CODE_TRIES: u8 = 16;

/// A login that has begun.
#[derive(Debug)]
pub struct Begun {
    /// The browser's secret. It is kept nowhere else.
    pub device_code: Token,
    /// What to show.
    pub view: View,
}

/// Who asks for a page.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The device code, as it came.
    pub device_code: &'a str,
    /// The cookie, as it came.
    pub cookie: Option<&'a str>,
    /// The `Origin`, as it came.
    pub web_origin: Option<&'a str>,
}

impl Page<'_> {
    const fn key(digest: Digest) -> Key {
        Key::Device(digest)
    }

    /// A wrong cookie or another origin is as good as a wrong device code: the login is not theirs.
    fn may_see(&self, attempt: &Attempt) -> Result<(), Refusal> {
        let cookie = match (&attempt.cookie, self.cookie) {
            (None, _) | (Some((_, CookieRule::IfSent)), None) => true,
            (Some((digest, _)), Some(cookie)) => digest.matches(cookie),
            (Some((_, CookieRule::Required)), None) => false,
        };
        let origin = match (&attempt.web_origin, self.web_origin) {
            (Some(bound), Some(origin)) => bound.eq_ignore_ascii_case(origin),
            _ => true,
        };
        if cookie && origin { Ok(()) } else { Err(Refusal::Unknown) }
    }

    fn digest(&self) -> Result<Digest, Refusal> {
        Token::parse(self.device_code).map(|code| code.digest()).ok_or(Refusal::Unknown)
    }
}

impl<S: Store> Logins<S> {
    /// Begins a login.
    ///
    /// # Errors
    /// [`BeginError`]; nothing has begun then.
    pub async fn begin(&self, begin: Begin<'_>, now: Now) -> Result<Begun, BeginError> {
        let rules = self.rules();
        let Begin { client, computer, exempt, cookie, web_origin, redirect_uri, .. } = begin;
        if redirect_uri.is_some_and(|uri| !client.redirect_uris.iter().any(|known| known == uri)) {
            return Err(BeginError::RedirectUri);
        }
        if begin.return_to.is_some_and(|address| !is_of_origin(address, web_origin)) {
            return Err(BeginError::ReturnTo);
        }
        let challenge = match begin.challenge {
            Some(text) => Some(Digest::parse(text).ok_or(BeginError::Challenge)?),
            None if client.secret.is_none() => return Err(BeginError::NeedsChallenge),
            None => None,
        };
        let unclear =
            |text: &str| text.chars().count() > MAX_BINDING_MESSAGE || text.chars().any(char::is_control);
        if begin.binding_message.is_some_and(unclear) {
            return Err(BeginError::BindingMessage);
        }
        if begin.provider.is_some_and(|provider| !client.allows(provider)) {
            return Err(BeginError::Provider);
        }
        let device_code = Token::random(&*self.random)?;
        self.crowd.enter(computer.address, exempt, &rules).map_err(BeginError::Crowded)?;
        let address = computer.address;
        let attempt = |id: LoginId, salt: u8| {
            let (state, who) = (State::Pending, Who::Browser);
            let address = Some(computer.address);
            let created =
                Record { at: now, step: Step::Created, from: state, to: state, version: 1, who, address };
            let user_code = self.keys.user_code(id, salt);
            Attempt {
                id,
                version: 1,
                state,
                created: now,
                deadline: now.saturating_add(millis(rules.created_ttl)),
                device: device_code.digest(),
                cookie: cookie.map(|(cookie, rule)| (cookie.digest(), rule)),
                web_origin: web_origin.map(Into::into),
                base: begin.base.into(),
                client: client.id.as_str().into(),
                redirect_uri: redirect_uri.map(Into::into),
                return_to: begin.return_to.map(Into::into),
                challenge,
                binding_message: begin.binding_message.map(Into::into),
                provider: begin.provider.map(Into::into),
                own_code: None,
                computer: computer.clone(),
                counted: !exempt,
                number_match: client.number_match,
                proximity: client.proximity,
                rotation: 0,
                rotated: now,
                qr: self.keys.qr(id, 0).digest(),
                old_qr: Vec::new(),
                scanned_qr: None,
                user_code: (self.keys.user_code_digest(user_code), salt),
                phone: None,
                known: None,
                errand: None,
                wrong_numbers: 0,
                identity: None,
                code: None,
                session: None,
                audit: vec![created],
            }
        };
        match self.insert(attempt).await {
            Ok(attempt) => {
                self.observe(&attempt, Step::Created);
                Ok(Begun { device_code, view: View::of(&attempt, &self.keys, &rules, now) })
            }
            Err(error) => {
                self.crowd.leave(address, exempt);
                Err(error)
            }
        }
    }

    async fn insert(&self, attempt: impl Fn(LoginId, u8) -> Attempt) -> Result<Arc<Attempt>, BeginError> {
        let id = LoginId::random(&*self.random)?;
        for salt in 0..CODE_TRIES {
            let attempt = Arc::new(attempt(id, salt));
            if self.store.insert(Arc::clone(&attempt)).await? == Inserted::New {
                return Ok(attempt);
            }
        }
        Err(BeginError::Crowded(Crowded::Everywhere))
    }

    /// The login of whoever holds the device code, as the page shows it. From then on its QR code changes by the clock:
    /// a page that asks here can draw a new one.
    ///
    /// # Errors
    /// There is none, or it is not theirs.
    pub async fn current(&self, page: Page<'_>, now: Now) -> Result<(Arc<Attempt>, View), Refusal> {
        let attempt = self.find(Page::key(page.digest()?), now).await?;
        page.may_see(&attempt)?;
        self.follow(&attempt, now);
        let view = self.view(&attempt, now);
        Ok((attempt, view))
    }

    /// [`Logins::current`] for a connection whose request carries no cookie of the login's: a WebSocket, whose origin has
    /// been checked instead.
    ///
    /// # Errors
    /// There is no such login.
    pub async fn watch(&self, device_code: &str, now: Now) -> Result<Arc<Attempt>, Refusal> {
        let device = Token::parse(device_code).ok_or(Refusal::Unknown)?.digest();
        let attempt = self.find(Key::Device(device), now).await?;
        self.follow(&attempt, now);
        Ok(attempt)
    }

    /// An attempt as its page shows it, for whoever has shown the device code before.
    pub fn view(&self, attempt: &Attempt, now: Now) -> View {
        View::of(attempt, &self.keys, &self.rules(), now)
    }

    /// Takes a login back that its page was never told of.
    ///
    /// # Errors
    /// It has ended already.
    pub async fn withdraw(&self, device_code: &Token, now: Now) -> Result<(), Refusal> {
        self.step(Key::Device(device_code.digest()), now, |attempt| {
            Ok(match attempt.cancel(Who::Browser, now)? {
                Some(next) => Decision::Step(Box::new(next), Step::Cancelled, ()),
                None => Decision::Keep(()),
            })
        })
        .await
        .map(drop)
    }

    /// Has the page show a code of the provider's own, which names the QR token `qr`; see [`crate::Provider::own_code`].
    ///
    /// # Errors
    /// Not pending any more, or the QR token has changed meanwhile.
    pub async fn show_own_code(
        &self,
        device_code: &Token,
        qr: &Token,
        code: OwnCode,
        now: Now,
    ) -> Result<View, Refusal> {
        let (attempt, ()) = self
            .step(Key::Device(device_code.digest()), now, |attempt| {
                let next = attempt.show_own_code(&qr.digest(), code.clone(), now)?;
                Ok(Decision::Step(Box::new(next), Step::OwnCode, ()))
            })
            .await?;
        Ok(self.view(&attempt, now))
    }

    /// Changes the QR token at once.
    ///
    /// # Errors
    /// Not pending, not theirs, or it changed less than a second ago.
    pub async fn rotate(&self, page: Page<'_>, now: Now) -> Result<View, Refusal> {
        let (attempt, ()) = self
            .step(Page::key(page.digest()?), now, |attempt| {
                page.may_see(attempt)?;
                if attempt.own_code.is_some() {
                    return Ok(Decision::Keep(()));
                }
                Ok(Decision::Step(
                    Box::new(attempt.rotate(&self.keys, Who::Browser, now)?),
                    Step::Rotated,
                    (),
                ))
            })
            .await?;
        self.follow(&attempt, now);
        Ok(self.view(&attempt, now))
    }

    /// Gives up.
    ///
    /// # Errors
    /// It has ended otherwise, or is not theirs.
    pub async fn cancel(&self, page: Page<'_>, now: Now) -> Result<View, Refusal> {
        let (attempt, ()) = self
            .step(Page::key(page.digest()?), now, |attempt| {
                page.may_see(attempt)?;
                Ok(match attempt.cancel(Who::Browser, now)? {
                    Some(next) => Decision::Step(Box::new(next), Step::Cancelled, ()),
                    None => Decision::Keep(()),
                })
            })
            .await?;
        Ok(self.view(&attempt, now))
    }

    /// Types the number that the phone shows, which releases the result.
    ///
    /// # Errors
    /// [`Refusal::Number`] when it is wrong; after three of these the login is denied.
    pub async fn type_number(&self, page: Page<'_>, number: &str, now: Now) -> Result<View, Refusal> {
        let (attempt, left) = self
            .step(Page::key(page.digest()?), now, |attempt| {
                page.may_see(attempt)?;
                if attempt.number_match != NumberMatch::ToBrowser {
                    return Err(Refusal::WrongState(attempt.state));
                }
                attempt.release(number, &self.keys, now).map(|agreed| decided(agreed, Step::Released))
            })
            .await?;
        match left {
            None => Ok(self.view(&attempt, now)),
            Some(left) => Err(Refusal::Number { left }),
        }
    }
}

/// Whether an address is one of `origin`'s pages.
fn is_of_origin(address: &str, origin: Option<&str>) -> bool {
    let path = origin.filter(|origin| origin.contains("://")).and_then(|origin| address.strip_prefix(origin));
    let in_it = path.is_some_and(|path| path.is_empty() || path.starts_with(['/', '?']));
    in_it
        && address.len() <= MAX_RETURN_TO
        && address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// What a consent or a number makes of an attempt; the answer is the tries left when it was wrong.
pub(crate) fn decided(agreed: Agreed, step: Step) -> Decision<Option<u8>> {
    match agreed {
        Agreed::Already => Decision::Keep(None),
        Agreed::Step(next) => Decision::Step(next, step, None),
        Agreed::WrongNumber { next, left } => {
            let step = if left == 0 { Step::Denied } else { Step::WrongNumber };
            Decision::Step(next, step, Some(left))
        }
    }
}
