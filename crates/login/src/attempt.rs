//! One login attempt as the store keeps it, and every step it can take.
//!
//! The steps are functions from an attempt to the attempt that follows it. They know no clock, no store and no
//! randomness; [`crate::Logins`] reads, calls one of them, and writes back if the version is still the same. Each
//! raises the version and leaves one [`Record`].

use std::net::IpAddr;
use std::time::Duration;

use crate::Now;
use crate::identity::{Identity, masked};
use crate::rules::{NumberMatch, Proximity, Rules};
use crate::secret::{Digest, Keys, LoginId};

/// Where a login stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The QR code is shown.
    Pending,
    /// A phone has it.
    Scanned,
    /// The phone's owner has agreed.
    Approved,
    /// Refused.
    Denied,
    /// Too late.
    Expired,
    /// The computer gave up.
    Cancelled,
    /// The result was fetched.
    Consumed,
}

impl State {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scanned => "scanned",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Consumed => "consumed",
        }
    }

    /// Whether it is never left.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Denied | Self::Expired | Self::Cancelled | Self::Consumed)
    }
}

/// Who took a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever holds the device code.
    Browser,
    /// A phone, by the digest of its visit.
    Phone(Digest),
    /// A backend: the client of the login, or one with an API key.
    Backend,
    /// The clock.
    Timer,
}

impl Who {
    /// Its name in the audit trail.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Phone(_) => "phone",
            Self::Backend => "backend",
            Self::Timer => "timer",
        }
    }
}

/// One step, as it is remembered. Holds digests only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: Now,
    /// What happened.
    pub step: Step,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The version after.
    pub version: u64,
    /// By whom.
    pub who: Who,
    /// From where, when it came over a network.
    pub address: Option<IpAddr>,
}

/// What can happen to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// It began.
    Created,
    /// The QR token changed.
    Rotated,
    /// The page shows a QR code of the provider's own.
    OwnCode,
    /// A phone took it.
    Scanned,
    /// The phone went to a provider to prove who its owner is.
    SentToProvider,
    /// The phone came back from there.
    CameBack,
    /// Agreed.
    Approved,
    /// The computer typed the right number.
    Released,
    /// A wrong number, on either side.
    WrongNumber,
    /// Refused, or too many wrong numbers.
    Denied,
    /// Too late.
    Expired,
    /// The computer gave up.
    Cancelled,
    /// The result was fetched.
    Consumed,
    /// What came of it was ended.
    Revoked,
}

impl Step {
    /// Its name in the audit trail and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Rotated => "rotated",
            Self::OwnCode => "own_code",
            Self::Scanned => "scanned",
            Self::SentToProvider => "sent_to_provider",
            Self::CameBack => "came_back",
            Self::Approved => "approved",
            Self::Released => "released",
            Self::WrongNumber => "wrong_number",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Consumed => "consumed",
            Self::Revoked => "revoked",
        }
    }
}

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The client's own address.
    pub address: IpAddr,
    /// Its `User-Agent`, cut to [`Origin::MAX_USER_AGENT`] bytes.
    pub user_agent: Box<str>,
}

impl Origin {
    /// Bytes of a user agent that are kept.
    pub const MAX_USER_AGENT: usize = 256;

    /// An address and what the client says of itself.
    #[must_use]
    pub fn new(address: IpAddr, user_agent: &str) -> Self {
        let end = user_agent.floor_char_boundary(Self::MAX_USER_AGENT);
        Self { address, user_agent: user_agent[..end].into() }
    }
}

/// The phone that owns a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phone {
    /// The digest of its visit key.
    pub visit: Digest,
    /// Where it is.
    pub origin: Origin,
    /// Its owner's name, once known.
    pub name: Option<String>,
}

/// A phone, or a computer whose provider draws its own QR code, that is at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// The digest of the `state` that must come back.
    pub state: Digest,
    /// Whose errand it is: the digest of the visit.
    pub visit: Digest,
    /// To which provider.
    pub provider: Box<str>,
}

/// What the page shows in the place of our QR code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnCode {
    /// A QR code that says this.
    Text(Box<str>),
    /// Nothing that is drawn here: a picture that the page was given, or a page of the provider's.
    Elsewhere,
}

/// What came of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The uid that was logged in.
    pub uid: String,
    /// It was ended.
    pub revoked: bool,
}

/// See the module's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its public name.
    pub id: LoginId,
    /// Raised by every step.
    pub version: u64,
    /// Where it stands.
    pub state: State,
    /// When it began.
    pub created: Now,
    /// When its state ends by itself; for a final state, when it is forgotten.
    pub deadline: Now,
    /// The digest of the device code.
    pub device: Digest,
    /// The digest of the browser's cookie, and whether every call must bring it.
    pub cookie: Option<(Digest, CookieRule)>,
    /// The web origin that asked, for a page.
    pub web_origin: Option<Box<str>>,
    /// The server's address as the browser knows it, without a slash at its end: where the QR code leads.
    pub base: Box<str>,
    /// Whose visitors log in.
    pub client: Box<str>,
    /// Where the code is for.
    pub redirect_uri: Option<Box<str>>,
    /// Where the page is that shows the login, for a provider that takes its window away.
    pub return_to: Option<Box<str>>,
    /// The PKCE challenge: SHA-256 of the verifier.
    pub challenge: Option<Digest>,
    /// A text to be shown on both screens.
    pub binding_message: Option<Box<str>>,
    /// The provider that was asked for.
    pub provider: Option<Box<str>>,
    /// That provider's own code, shown in the place of ours. The QR token does not change then.
    pub own_code: Option<OwnCode>,
    /// The computer.
    pub computer: Origin,
    /// Whether it counts towards its address's limit.
    pub counted: bool,
    /// How the screens are compared; as it was when the login began.
    pub number_match: NumberMatch,
    /// What is made of the networks; as it was when the login began.
    pub proximity: Proximity,
    /// How often the QR token has changed.
    pub rotation: u32,
    /// When it last did.
    pub rotated: Now,
    /// The digest of the QR token in force.
    pub qr: Digest,
    /// Those before it, the last one last.
    pub old_qr: Vec<Digest>,
    /// The digest of the QR token that the phone came with: it stays good for it.
    pub scanned_qr: Option<Digest>,
    /// The keyed digest of the typed code, and its salt.
    pub user_code: (Digest, u8),
    /// The phone that was first.
    pub phone: Option<Box<Phone>>,
    /// Who its owner is, where the provider that told of the scan has said so.
    pub known: Option<Box<Identity>>,
    /// The errand under way.
    pub errand: Option<Box<Errand>>,
    /// Wrong numbers so far.
    pub wrong_numbers: u8,
    /// Who agreed.
    pub identity: Option<Box<Identity>>,
    /// The digest of the one-time code, once the result may be fetched.
    pub code: Option<Digest>,
    /// What came of it.
    pub session: Option<Box<Session>>,
    /// What happened, the oldest first.
    pub audit: Vec<Record>,
}

/// Whether the browser's cookie is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieRule {
    /// Every call must bring it: the page is of the same site, so the browser sends it.
    Required,
    /// It must be right where it comes: a page of another site may not be allowed to send it.
    IfSent,
}

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such login, or it is not the caller's.
    #[error("there is no such login")]
    Unknown,
    /// The QR code has changed since.
    #[error("the code has been renewed: scan it again")]
    Renewed,
    /// The login has ended.
    #[error("the login is over")]
    Over(State),
    /// Another phone was first.
    #[error("another phone has scanned the code")]
    AlreadyScanned,
    /// The login does not stand where this step begins.
    #[error("the login does not stand where this is possible")]
    WrongState(State),
    /// The number is missing or wrong.
    #[error("the number is missing or wrong")]
    Number {
        /// Tries left.
        left: u8,
    },
    /// The phone is not on the computer's network, and must be.
    #[error("the phone is not on the computer's network")]
    TooFar,
    /// The provider is not one of the client's.
    #[error("this way of logging in is not allowed here")]
    Provider,
    /// The QR code changes too often.
    #[error("the code was renewed a moment ago")]
    TooOften,
    /// The store failed, or too many wanted the same login at once.
    #[error("the login cannot be changed now")]
    Store(#[from] crate::store::StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] crate::secret::NoRandomness),
}

/// Wrong numbers that end a login.
pub const NUMBER_TRIES: u8 = 3;
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
pub(crate) type Stepped = Result<Attempt, Refusal>;

impl Attempt {
    /// Whether its time is over though nobody has said so yet.
    pub(crate) fn is_overdue(&self, now: Now) -> bool {
        !self.state.is_final() && self.deadline <= now
    }

    /// Whether both devices are on one network, by [`same_network`]. `None` also until a phone is there.
    #[must_use]
    pub fn same_network(&self) -> Option<bool> {
        self.phone.as_ref().and_then(|phone| same_network(self.computer.address, phone.origin.address))
    }

    /// Whether the result may be fetched.
    #[must_use]
    pub const fn is_released(&self) -> bool {
        matches!(self.state, State::Approved) && self.code.is_some()
    }

    /// When the QR token is due to change; never where the provider's own code names it.
    pub(crate) fn rotation_due(&self, rules: &Rules) -> Option<Now> {
        self.own_code.is_none().then(|| self.rotated.saturating_add(millis(rules.rotate)))
    }

    /// Whether the computer is at a provider that draws a QR code of its own, so that its page is not heard of.
    pub(crate) fn is_away(&self) -> bool {
        self.errand.is_some() && self.phone.is_none()
    }

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

    /// The owner's name as the computer may show it.
    #[must_use]
    pub fn masked_name(&self) -> Option<String> {
        let known = self.identity.as_ref().and_then(|identity| identity.name.as_deref());
        known.or_else(|| self.phone.as_ref()?.name.as_deref()).map(masked).filter(|name| !name.is_empty())
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

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Compares numbers people type: digits only count, and the time says nothing.
fn same(typed: &str, expected: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    let digits: String = typed.chars().filter(char::is_ascii_digit).take(16).collect();
    digits.as_bytes().ct_eq(expected.as_bytes()).into()
}

/// Whether two addresses are of one IPv4 /24 or one IPv6 /48, the usual sizes of a site's network.
///
/// A loopback address says nothing about networks: `None` where one of the two is one, and true where both are.
#[must_use]
pub fn same_network(one: IpAddr, other: IpAddr) -> Option<bool> {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    if one.is_loopback() != other.is_loopback() {
        return None;
    }
    Some(match (one, other) {
        _ if one.is_loopback() => true,
        (IpAddr::V4(one), IpAddr::V4(other)) => one.to_bits() >> 8 == other.to_bits() >> 8,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() >> 80 == other.to_bits() >> 80,
        _ => false,
    })
}
