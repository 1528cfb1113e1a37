//! What the phone's side may ask: to look, to take the login, to agree, to refuse, to come back from a provider.

use std::net::IpAddr;
use std::sync::Arc;

use crate::Now;
use crate::attempt::{Attempt, Errand, Number, Origin, Phone, Refusal, State, Step, Who};
use crate::browser::decided;
use crate::guesses::Guessing;
use crate::identity::Identity;
use crate::logins::{Decision, Logins};
use crate::rules::Rules;
use crate::secret::{Digest, Token, UserCode};
use crate::store::{Key, Store};
use crate::view::PhoneView;

/// What agreeing led to.
#[derive(Debug)]
pub enum Consent {
    /// The login was approved before.
    Approved(Box<PhoneView>),
    /// The phone has to say who its owner is: to be sent to the provider with this `state`.
    Ask(Token),
}

/// A phone that is back from a provider with the `state` it left with.
#[derive(Debug)]
pub struct Returned {
    /// The login, by its device code's digest: its QR token may change meanwhile.
    device: Digest,
    /// The digest of the visit.
    visit: Digest,
    /// The provider it was sent to.
    pub provider: String,
    /// It is the computer itself that is back: the provider drew a QR code of its own.
    pub is_computer: bool,
}

/// Why a typed code finds nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypedError {
    /// No login has it.
    #[error("no login has this code")]
    Wrong,
    /// Not looked up.
    #[error("too many wrong codes")]
    Guessing(Guessing),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

fn key_of(qr: &str) -> Result<Key, Refusal> {
    Token::parse(qr).map(|qr| Key::Qr(qr.digest())).ok_or(Refusal::Unknown)
}

/// Whoever came with a QR token came with one that still works.
fn check_qr(attempt: &Attempt, key: Key, rules: &Rules, now: Now) -> Result<(), Refusal> {
    match key {
        Key::Qr(digest) => attempt.check_qr(&digest, rules, now),
        _ => Ok(()),
    }
}

impl<S: Store> Logins<S> {
    /// What a phone with this QR token is shown. Changes nothing.
    ///
    /// # Errors
    /// There is no such login, or the token was renewed.
    pub async fn look(
        &self,
        qr: &str,
        visit: Option<&Digest>,
        from: IpAddr,
        now: Now,
    ) -> Result<PhoneView, Refusal> {
        let attempt = self.with_qr(key_of(qr)?, now).await?;
        Ok(self.phone_view(&attempt, visit, Some(from), now))
    }

    async fn with_qr(&self, key: Key, now: Now) -> Result<Arc<Attempt>, Refusal> {
        let attempt = self.find(key, now).await?;
        check_qr(&attempt, key, &self.rules(), now)?;
        Ok(attempt)
    }

    fn phone_view(
        &self,
        attempt: &Attempt,
        visit: Option<&Digest>,
        from: Option<IpAddr>,
        now: Now,
    ) -> PhoneView {
        PhoneView::of(attempt, visit, from, &self.keys, &self.rules(), now)
    }

    /// The QR token of the login with this typed code. Wrong ones are counted.
    ///
    /// # Errors
    /// [`TypedError`]
    pub async fn typed(&self, text: &str, from: IpAddr, now: Now) -> Result<Token, TypedError> {
        let rules = self.rules();
        self.guesses.check(from, &rules, now).map_err(TypedError::Guessing)?;
        let found = match UserCode::parse(text) {
            Some(code) => self.store.find(Key::UserCode(self.keys.user_code_digest(code))).await?,
            None => None,
        };
        match found.filter(|attempt| attempt.state == State::Pending && !attempt.is_overdue(now)) {
            Some(attempt) => Ok(self.keys.qr(attempt.id, attempt.rotation)),
            None => {
                let live = self.store.pending().await?;
                self.guesses.wrong(from, live, &rules, now);
                Err(TypedError::Wrong)
            }
        }
    }

    /// Takes the login for a phone. The same phone may ask again.
    ///
    /// # Errors
    /// Another phone was first, the token was renewed, the login is over.
    pub async fn scan(&self, qr: &str, phone: Phone, now: Now) -> Result<PhoneView, Refusal> {
        self.take(qr, phone, None, now).await
    }

    /// Takes the login for the person whom a provider has seen with the QR code. When they agree, nobody is asked who
    /// they are; the client must allow that provider.
    ///
    /// # Errors
    /// As [`Logins::scan`]; or the client's visitors may not use that provider.
    pub async fn scan_known(
        &self,
        qr: &str,
        phone: Phone,
        identity: Identity,
        now: Now,
    ) -> Result<PhoneView, Refusal> {
        self.take(qr, phone, Some(identity), now).await
    }

    async fn take(
        &self,
        qr: &str,
        phone: Phone,
        known: Option<Identity>,
        now: Now,
    ) -> Result<PhoneView, Refusal> {
        let key = key_of(qr)?;
        let rules = self.rules();
        let (attempt, ()) = self
            .step(key, now, |attempt| {
                check_qr(attempt, key, &rules, now)?;
                if let Some(identity) = &known {
                    self.may_use(attempt, &identity.provider)?;
                }
                let with = Some(*key.digest());
                Ok(match attempt.scan(phone.clone(), with, known.clone(), &rules, now)? {
                    Some(next) => Decision::Step(Box::new(next), Step::Scanned, ()),
                    None => Decision::Keep(()),
                })
            })
            .await?;
        Ok(self.phone_view(&attempt, Some(&phone.visit), None, now))
    }

    /// The owner agrees, and is known.
    ///
    /// # Errors
    /// Not the owner's phone, a missing or wrong number, too far away, over.
    pub async fn approve(
        &self,
        qr: &str,
        visit: &Digest,
        number: Option<&str>,
        identity: Identity,
        now: Now,
    ) -> Result<PhoneView, Refusal> {
        self.agree(key_of(qr)?, visit, Number::Typed(number), identity, now).await
    }

    /// The owner agrees, and `provider` is to say who that is.
    ///
    /// # Errors
    /// As [`Logins::approve`]; or the client's visitors may not use that provider.
    pub async fn agree_by(
        &self,
        qr: &str,
        visit: &Digest,
        number: Option<&str>,
        provider: &str,
        now: Now,
    ) -> Result<Consent, Refusal> {
        let key = key_of(qr)?;
        let rules = self.rules();
        let state = Token::random(&*self.random)?;
        let (attempt, left) = self
            .step(key, now, |attempt| {
                check_qr(attempt, key, &rules, now)?;
                let errand = self.errand(attempt, &state, visit, provider)?;
                let agreed = attempt.send(errand, Number::Typed(number), &self.keys, now)?;
                Ok(decided(agreed, Step::SentToProvider))
            })
            .await?;
        match left {
            Some(left) => Err(Refusal::Number { left }),
            None if attempt.state == State::Approved => {
                Ok(Consent::Approved(Box::new(self.phone_view(&attempt, Some(visit), None, now))))
            }
            None => Ok(Consent::Ask(state)),
        }
    }

    /// The computer itself is sent to a provider that draws a QR code of its own; the `state` to send it with.
    /// `visit` is the digest of the browser's cookie.
    ///
    /// # Errors
    /// Not pending, or the client's visitors may not use that provider.
    pub async fn send_computer(
        &self,
        device_code: &str,
        visit: &Digest,
        provider: &str,
        now: Now,
    ) -> Result<Token, Refusal> {
        let device = Token::parse(device_code).ok_or(Refusal::Unknown)?.digest();
        let state = Token::random(&*self.random)?;
        self.step(Key::Device(device), now, |attempt| {
            let bound = attempt.cookie.as_ref().is_some_and(|(cookie, _)| cookie == visit);
            if !bound {
                return Err(Refusal::Unknown);
            }
            let errand = self.errand(attempt, &state, visit, provider)?;
            Ok(Decision::Step(Box::new(attempt.send_computer(errand, now)?), Step::SentToProvider, ()))
        })
        .await?;
        Ok(state)
    }

    fn errand(
        &self,
        attempt: &Attempt,
        state: &Token,
        visit: &Digest,
        provider: &str,
    ) -> Result<Errand, Refusal> {
        self.may_use(attempt, provider)?;
        Ok(Errand { state: state.digest(), visit: *visit, provider: provider.into() })
    }

    fn may_use(&self, attempt: &Attempt, provider: &str) -> Result<(), Refusal> {
        let allowed = self.rules().client(&attempt.client).is_some_and(|client| client.allows(provider));
        let asked_for = attempt.provider.as_deref().is_none_or(|asked| asked == provider);
        if allowed && asked_for { Ok(()) } else { Err(Refusal::Provider) }
    }

    /// Takes back the `state` that a phone left with. It works once, for that phone, from that provider.
    ///
    /// # Errors
    /// [`Refusal::Unknown`]: used, of another visit or another provider, or never given.
    pub async fn came_back(
        &self,
        state: &str,
        visit: &Digest,
        provider: &str,
        now: Now,
    ) -> Result<Returned, Refusal> {
        let state = Token::parse(state).ok_or(Refusal::Unknown)?.digest();
        let (attempt, ()) = self
            .step(Key::Errand(state), now, |attempt| {
                match &attempt.errand {
                    Some(errand) if errand.state == state && *errand.provider == *provider => {}
                    _ => return Err(Refusal::Unknown),
                }
                Ok(Decision::Step(Box::new(attempt.come_back(visit, now)?), Step::CameBack, ()))
            })
            .await?;
        Ok(Returned {
            device: attempt.device,
            visit: *visit,
            provider: provider.to_owned(),
            is_computer: attempt.phone.is_none(),
        })
    }

    /// The provider has said who the owner is.
    ///
    /// # Errors
    /// As [`Logins::approve`], but for the number, which was asked for before; or the provider has seen somebody else
    /// scan.
    pub async fn approve_returned(
        &self,
        returned: &Returned,
        origin: Origin,
        identity: Identity,
        now: Now,
    ) -> Result<PhoneView, Refusal> {
        if returned.is_computer {
            let rules = self.rules();
            let phone = Phone { visit: returned.visit, origin, name: identity.name.clone() };
            self.step(Key::Device(returned.device), now, |attempt| {
                Ok(match attempt.scan(phone.clone(), None, None, &rules, now)? {
                    Some(next) => Decision::Step(Box::new(next), Step::Scanned, ()),
                    None => Decision::Keep(()),
                })
            })
            .await?;
        }
        self.agree(Key::Device(returned.device), &returned.visit, Number::Checked, identity, now).await
    }

    /// The provider has said that the owner refused.
    ///
    /// # Errors
    /// It has ended otherwise.
    pub async fn deny_returned(&self, returned: &Returned, now: Now) -> Result<PhoneView, Refusal> {
        self.refuse(Key::Device(returned.device), &returned.visit, None, now).await
    }

    async fn agree(
        &self,
        key: Key,
        visit: &Digest,
        number: Number<'_>,
        identity: Identity,
        now: Now,
    ) -> Result<PhoneView, Refusal> {
        let rules = self.rules();
        let (attempt, left) = self
            .step(key, now, |attempt| {
                check_qr(attempt, key, &rules, now)?;
                let allowed =
                    rules.client(&attempt.client).is_some_and(|client| client.allows(&identity.provider));
                if !allowed {
                    return Err(Refusal::Provider);
                }
                let known = attempt.known.as_deref().filter(|known| known.provider == identity.provider);
                if known.is_some_and(|known| known.id != identity.id) {
                    return Err(Refusal::AlreadyScanned);
                }
                let agreed = attempt.approve(visit, number, identity.clone(), &rules, &self.keys, now)?;
                Ok(decided(agreed, Step::Approved))
            })
            .await?;
        match left {
            Some(left) => Err(Refusal::Number { left }),
            None => Ok(self.phone_view(&attempt, Some(visit), None, now)),
        }
    }

    /// The owner, or before a scan anyone who has the QR code, refuses.
    ///
    /// # Errors
    /// Not the owner's phone, the token was renewed, or it has ended otherwise.
    pub async fn deny(
        &self,
        qr: &str,
        visit: &Digest,
        address: Option<IpAddr>,
        now: Now,
    ) -> Result<PhoneView, Refusal> {
        self.refuse(key_of(qr)?, visit, address, now).await
    }

    /// The owner says "that was not me": before the result was fetched it is refused, after that what came of it is
    /// ended. The same again changes nothing.
    ///
    /// # Errors
    /// Not the owner's phone, or it has ended otherwise.
    pub async fn revoke_by_owner(
        &self,
        qr: &str,
        visit: &Digest,
        address: Option<IpAddr>,
        now: Now,
    ) -> Result<(Arc<Attempt>, PhoneView), Refusal> {
        let key = key_of(qr)?;
        let rules = self.rules();
        let (attempt, ()) = self
            .step(key, now, |attempt| {
                attempt.check_qr(key.digest(), &rules, now)?;
                if attempt.phone.as_ref().is_none_or(|phone| phone.visit != *visit) {
                    return Err(Refusal::AlreadyScanned);
                }
                let (next, step) = if attempt.state == State::Consumed {
                    (attempt.revoke(Who::Phone(*visit), now)?, Step::Revoked)
                } else {
                    (attempt.deny(visit, address, now)?, Step::Denied)
                };
                Ok(next.map_or(Decision::Keep(()), |next| Decision::Step(Box::new(next), step, ())))
            })
            .await?;
        let view = self.phone_view(&attempt, Some(visit), None, now);
        Ok((attempt, view))
    }

    async fn refuse(
        &self,
        key: Key,
        visit: &Digest,
        address: Option<IpAddr>,
        now: Now,
    ) -> Result<PhoneView, Refusal> {
        let rules = self.rules();
        let (attempt, ()) = self
            .step(key, now, |attempt| {
                check_qr(attempt, key, &rules, now)?;
                Ok(match attempt.deny(visit, address, now)? {
                    Some(next) => Decision::Step(Box::new(next), Step::Denied, ()),
                    None => Decision::Keep(()),
                })
            })
            .await?;
        Ok(self.phone_view(&attempt, Some(visit), None, now))
    }
}
