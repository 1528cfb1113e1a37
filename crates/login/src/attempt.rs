//! One login attempt as the store keeps it. What may happen to it is in [`steps`].

mod steps;

use std::net::IpAddr;
use std::time::Duration;

pub(crate) use self::steps::{Agreed, Number};
use crate::Now;
use crate::identity::{Identity, masked};
use crate::rules::{NumberMatch, Proximity, Rules};
use crate::secret::{Digest, LoginId};

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

    /// The owner's name as the computer may show it.
    #[must_use]
    pub fn masked_name(&self) -> Option<String> {
        let known = self.identity.as_ref().and_then(|identity| identity.name.as_deref());
        known.or_else(|| self.phone.as_ref()?.name.as_deref()).map(masked).filter(|name| !name.is_empty())
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
