//! Every step a login can take.
//!
//! The steps are functions from an attempt to the attempt that follows it. They know no clock, no store and no
//! randomness; [`crate::Logins`] reads, calls one of them, and writes back if the version is still the same. Each
//! raises the version and leaves one [`Record`].

use std::net::IpAddr;
use std::time::Duration;

use super::{
    Attempt, Errand, NUMBER_TRIES, OwnCode, Phone, Record, Refusal, Session, State, Step, Who, millis,
};
use crate::Now;
use crate::identity::Identity;
use crate::rules::{NumberMatch, Proximity, Rules};
use crate::secret::{Digest, Keys};

/// Records kept of one login.
const MAX_RECORDS: usize = 16;
/// Former QR tokens that are still known, to say that they were renewed.
const MAX_OLD_QR: usize = 32;
/// How often a page may ask for a new QR token.
const ROTATE_PAUSE_MS: u64 = 1_000;
/// How long an ended login is remembered, for a page that asks late.
const KEEP_ENDED: Duration = Duration::from_secs(300);
/// How long what came of a login can be ended by its name.
const KEEP_CONSUMED: Duration = Duration::from_secs(24 * 3_600);

/// What happens next, when something does.
type Stepped = Result<Attempt, Refusal>;

impl Attempt {
    /// The page shows this code of the provider's own, which names `qr`.
    pub(crate) fn show_own_code(&self, qr: &Digest, code: OwnCode, now: Now) -> Stepped {
        self.expect(State::Pending)?;
        if self.qr != *qr {
            return Err(Refusal::Renewed);
        }
        let mut next = self.clone();
        next.own_code = Some(code);
        Ok(next.record(self, Step::OwnCode, Who::Browser, None, now))
    }

    /// What this QR token's digest is to this login.
    pub(crate) fn check_qr(&self, qr: &Digest, rules: &Rules, now: Now) -> Result<(), Refusal> {
        if *qr == self.qr || self.scanned_qr.as_ref() == Some(qr) {
            return Ok(());
        }
        let last = self.old_qr.last() == Some(qr);
        let in_grace = last && now < self.rotated.saturating_add(millis(rules.rotate_grace));
        if in_grace { Ok(()) } else { Err(Refusal::Renewed) }
    }

    /// Changes the QR token.
    pub(crate) fn rotate(&self, keys: &Keys, who: Who, now: Now) -> Stepped {
        self.expect(State::Pending)?;
        if who == Who::Browser && now < self.rotated.saturating_add(ROTATE_PAUSE_MS) {
            return Err(Refusal::TooOften);
        }
        let mut next = self.clone();
        next.old_qr.push(next.qr);
        if next.old_qr.len() > MAX_OLD_QR {
            next.old_qr.remove(0);
        }
        next.rotation += 1;
        next.rotated = now;
        next.qr = keys.qr(self.id, next.rotation).digest();
        Ok(next.record(self, Step::Rotated, who, None, now))
    }

    /// A phone takes the login, `with` a QR token; `known` is who its owner is, if a provider has told of the scan. The
    /// same phone again changes nothing (`None`), but that its address is learnt where only the provider's was known.
    pub(crate) fn scan(
        &self,
        phone: Phone,
        with: Option<Digest>,
        known: Option<Identity>,
        rules: &Rules,
        now: Now,
    ) -> Result<Option<Self>, Refusal> {
        if let Some(owner) = &self.phone {
            return match self.state {
                _ if owner.visit != phone.visit => Err(Refusal::AlreadyScanned),
                State::Scanned if self.known.is_some() && known.is_none() && owner.origin != phone.origin => {
                    let mut next = self.clone();
                    let (visit, address) = (phone.visit, phone.origin.address);
                    let name = owner.name.clone();
                    next.phone = Some(Box::new(Phone { name, ..phone }));
                    Ok(Some(next.record(self, Step::Scanned, Who::Phone(visit), Some(address), now)))
                }
                State::Scanned | State::Approved => Ok(None),
                state => Err(Refusal::Over(state)),
            };
        }
        self.expect(State::Pending)?;
        let mut next = self.clone();
        next.state = State::Scanned;
        next.deadline = now.saturating_add(millis(rules.scanned_ttl));
        let (visit, address) = (phone.visit, phone.origin.address);
        next.phone = Some(Box::new(phone));
        next.scanned_qr = with;
        next.known = known.map(Box::new);
        Ok(Some(next.record(self, Step::Scanned, Who::Phone(visit), Some(address), now)))
    }

    /// The owner agrees. The same again changes nothing (`None`); a wrong number counts ([`Agreed::WrongNumber`]).
    pub(crate) fn approve(
        &self,
        visit: &Digest,
        number: Number<'_>,
        identity: Identity,
        rules: &Rules,
        keys: &Keys,
        now: Now,
    ) -> Result<Agreed, Refusal> {
        if let Some(agreed) = self.may_agree(visit, number, keys, now)? {
            return Ok(agreed);
        }
        let mut next = self.clone();
        next.state = State::Approved;
        next.deadline = now.saturating_add(millis(rules.approved_ttl));
        next.wrong_numbers = 0;
        next.errand = None;
        next.identity = Some(Box::new(identity));
        if self.number_match != NumberMatch::ToBrowser {
            next.code = Some(keys.code(self.id).digest());
        }
        Ok(Agreed::Step(Box::new(next.record(self, Step::Approved, Who::Phone(*visit), None, now))))
    }

    /// The owner agrees and goes to a provider to say who they are.
    pub(crate) fn send(
        &self,
        errand: Errand,
        number: Number<'_>,
        keys: &Keys,
        now: Now,
    ) -> Result<Agreed, Refusal> {
        if let Some(agreed) = self.may_agree(&errand.visit, number, keys, now)? {
            return Ok(agreed);
        }
        let who = Who::Phone(errand.visit);
        let mut next = self.clone();
        next.errand = Some(Box::new(errand));
        Ok(Agreed::Step(Box::new(next.record(self, Step::SentToProvider, who, None, now))))
    }

    /// The computer goes to a provider that draws a QR code of its own.
    pub(crate) fn send_computer(&self, errand: Errand, now: Now) -> Stepped {
        self.expect(State::Pending)?;
        let mut next = self.clone();
        next.errand = Some(Box::new(errand));
        Ok(next.record(self, Step::SentToProvider, Who::Browser, None, now))
    }

    /// Whoever went to a provider is back: its `state` works no more.
    pub(crate) fn come_back(&self, visit: &Digest, now: Now) -> Stepped {
        match &self.errand {
            Some(errand) if errand.visit == *visit && !self.state.is_final() => {}
            _ => return Err(Refusal::Unknown),
        }
        let mut next = self.clone();
        next.errand = None;
        Ok(next.record(self, Step::CameBack, Who::Phone(*visit), None, now))
    }

    /// `None` when the step may be taken.
    fn may_agree(
        &self,
        visit: &Digest,
        number: Number<'_>,
        keys: &Keys,
        now: Now,
    ) -> Result<Option<Agreed>, Refusal> {
        self.expect_owner(visit)?;
        match self.state {
            State::Approved => return Ok(Some(Agreed::Already)),
            State::Scanned => {}
            state if state.is_final() => return Err(Refusal::Over(state)),
            state => return Err(Refusal::WrongState(state)),
        }
        if self.proximity == Proximity::Require && self.same_network() != Some(true) {
            return Err(Refusal::TooFar);
        }
        if self.number_match == NumberMatch::ToPhone
            && let Number::Typed(typed) = number
        {
            match typed {
                Some(typed) if same(typed, &keys.number_to_phone(self.id)) => {}
                Some(_) => return Ok(Some(self.wrong_number(Who::Phone(*visit), now))),
                None => return Err(Refusal::Number { left: NUMBER_TRIES - self.wrong_numbers }),
            }
        }
        Ok(None)
    }

    fn wrong_number(&self, who: Who, now: Now) -> Agreed {
        let mut next = self.clone();
        next.wrong_numbers += 1;
        let left = NUMBER_TRIES.saturating_sub(next.wrong_numbers);
        let next = if left == 0 {
            next.end(self, State::Denied, Step::Denied, who, None, now)
        } else {
            next.record(self, Step::WrongNumber, who, None, now)
        };
        Agreed::WrongNumber { next: Box::new(next), left }
    }

    /// The computer types the number that the phone shows.
    pub(crate) fn release(&self, typed: &str, keys: &Keys, now: Now) -> Result<Agreed, Refusal> {
        match self.state {
            State::Approved => {}
            state if state.is_final() => return Err(Refusal::Over(state)),
            state => return Err(Refusal::WrongState(state)),
        }
        if self.code.is_some() {
            return Ok(Agreed::Already);
        }
        if !same(typed, &keys.number_to_browser(self.id)) {
            return Ok(self.wrong_number(Who::Browser, now));
        }
        let mut next = self.clone();
        next.code = Some(keys.code(self.id).digest());
        Ok(Agreed::Step(Box::new(next.record(self, Step::Released, Who::Browser, None, now))))
    }

    /// The owner, or before a scan anyone who has the QR code, refuses. The same again changes nothing (`None`).
    pub(crate) fn deny(
        &self,
        visit: &Digest,
        origin: Option<IpAddr>,
        now: Now,
    ) -> Result<Option<Self>, Refusal> {
        if self.phone.is_some() {
            self.expect_owner(visit)?;
        }
        match self.state {
            State::Denied => return Ok(None),
            state if state.is_final() => return Err(Refusal::Over(state)),
            _ => {}
        }
        Ok(Some(self.clone().end(self, State::Denied, Step::Denied, Who::Phone(*visit), origin, now)))
    }

    /// The computer gives up.
    pub(crate) fn cancel(&self, who: Who, now: Now) -> Result<Option<Self>, Refusal> {
        match self.state {
            State::Cancelled => Ok(None),
            state if state.is_final() => Err(Refusal::Over(state)),
            _ => Ok(Some(self.clone().end(self, State::Cancelled, Step::Cancelled, who, None, now))),
        }
    }

    /// Its time is over.
    pub(crate) fn expire(&self, now: Now) -> Self {
        self.clone().end(self, State::Expired, Step::Expired, Who::Timer, None, now)
    }

    /// The result is fetched. `session` is what comes of it.
    pub(crate) fn consume(&self, session: Option<Session>, address: Option<IpAddr>, now: Now) -> Stepped {
        match self.state {
            State::Approved if self.code.is_some() => {}
            state if state.is_final() => return Err(Refusal::Over(state)),
            state => return Err(Refusal::WrongState(state)),
        }
        let mut next = self.clone();
        next.session = session.map(Box::new);
        Ok(next.end(self, State::Consumed, Step::Consumed, Who::Backend, address, now))
    }

    /// What came of it is ended; `None` when it was already.
    pub(crate) fn revoke(&self, who: Who, now: Now) -> Result<Option<Self>, Refusal> {
        if self.state != State::Consumed {
            return Err(Refusal::WrongState(self.state));
        }
        let mut next = self.clone();
        match &mut next.session {
            Some(session) if session.revoked => return Ok(None),
            Some(session) => session.revoked = true,
            // A backend has it; that it is to end is remembered and told.
            None => next.session = Some(Box::new(Session { uid: String::new(), revoked: true })),
        }
        Ok(Some(next.record(self, Step::Revoked, who, None, now)))
    }

    fn expect(&self, state: State) -> Result<(), Refusal> {
        if self.state == state {
            return Ok(());
        }
        Err(match self.state {
            State::Scanned => Refusal::AlreadyScanned,
            over if over.is_final() => Refusal::Over(over),
            other => Refusal::WrongState(other),
        })
    }

    fn expect_owner(&self, visit: &Digest) -> Result<(), Refusal> {
        match &self.phone {
            Some(phone) if phone.visit == *visit => Ok(()),
            Some(_) => Err(Refusal::AlreadyScanned),
            None if self.state.is_final() => Err(Refusal::Over(self.state)),
            None => Err(Refusal::WrongState(self.state)),
        }
    }

    fn end(
        mut self,
        before: &Self,
        state: State,
        step: Step,
        who: Who,
        address: Option<IpAddr>,
        now: Now,
    ) -> Self {
        self.state = state;
        self.errand = None;
        let keep = if state == State::Consumed { KEEP_CONSUMED } else { KEEP_ENDED };
        self.deadline = now.saturating_add(millis(keep));
        self.record(before, step, who, address, now)
    }

    fn record(mut self, before: &Self, step: Step, who: Who, address: Option<IpAddr>, now: Now) -> Self {
        self.version = before.version + 1;
        if self.audit.len() >= MAX_RECORDS {
            // Rotations say the least.
            let least = self.audit.iter().position(|record| record.step == Step::Rotated).unwrap_or(1);
            self.audit.remove(least);
        }
        let (from, to, version) = (before.state, self.state, self.version);
        self.audit.push(Record { at: now, step, from, to, version, who, address });
        self
    }
}

/// The number that came with a consent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number<'a> {
    /// What the phone typed, if anything.
    Typed(Option<&'a str>),
    /// It was asked for before the phone went to its provider.
    Checked,
}

/// What came of agreeing, or of typing a number.
#[derive(Debug)]
pub(crate) enum Agreed {
    /// It was done before; nothing changes.
    Already,
    /// The next attempt.
    Step(Box<Attempt>),
    /// The number was wrong: the next attempt, and the tries left.
    WrongNumber { next: Box<Attempt>, left: u8 },
}

/// Compares numbers people type: digits only count, and the time says nothing.
fn same(typed: &str, expected: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    let digits: String = typed.chars().filter(char::is_ascii_digit).take(16).collect();
    digits.as_bytes().ct_eq(expected.as_bytes()).into()
}
