//! What each side is shown of a login.

use crate::attempt::{Attempt, Origin, OwnCode, State};
use crate::rules::{Client, NumberMatch, Rules};
use crate::secret::{Digest, Keys, LoginId, Token, UserCode};
use crate::{Now, attempt};

/// What the page that wants to log in is told. Holds secrets: it is for whoever has the device code.
#[derive(Debug, Clone)]
pub struct View {
    /// The login's public name.
    pub login: LoginId,
    /// Where it stands.
    pub state: State,
    /// Which change this is; a page drops what is older than what it has.
    pub version: u64,
    /// Milliseconds until the state ends by itself; 0 once it has.
    pub expires_in_ms: u64,
    /// The server's address as the browser knows it.
    pub base: String,
    /// The token of the QR code; while pending.
    pub qr: Option<Token>,
    /// The provider's own code, to be shown in the place of ours; while pending.
    pub own_code: Option<OwnCode>,
    /// The typed code; while pending.
    pub user_code: Option<UserCode>,
    /// Milliseconds until the QR code changes; while pending.
    pub rotate_in_ms: Option<u64>,
    /// The number to show, where the phone has to type it; while pending or scanned.
    pub number: Option<String>,
    /// Who scanned, all but the first character hidden.
    pub name: Option<String>,
    /// The one-time code; once approved and released.
    pub code: Option<Token>,
    /// The page has to ask for the number that the phone shows.
    pub asks_number: bool,
}

impl View {
    pub(crate) fn of(attempt: &Attempt, keys: &Keys, rules: &Rules, now: Now) -> Self {
        let pending = attempt.state == State::Pending;
        let open = matches!(attempt.state, State::Pending | State::Scanned);
        let (id, number_match) = (attempt.id, attempt.number_match);
        Self {
            login: id,
            state: attempt.state,
            version: attempt.version,
            expires_in_ms: if attempt.state.is_final() { 0 } else { attempt.deadline.saturating_sub(now) },
            base: attempt.base.as_ref().into(),
            qr: pending.then(|| keys.qr(id, attempt.rotation)),
            user_code: pending.then(|| keys.user_code(id, attempt.user_code.1)),
            own_code: attempt.own_code.clone().filter(|_| pending),
            rotate_in_ms: attempt.rotation_due(rules).filter(|_| pending).map(|due| due.saturating_sub(now)),
            number: (open && number_match == NumberMatch::ToPhone).then(|| keys.number_to_phone(id)),
            name: if pending { None } else { attempt.masked_name() },
            code: attempt.is_released().then(|| keys.code(id)),
            asks_number: attempt.state == State::Approved && attempt.code.is_none(),
        }
    }
}

/// What the phone is told. Holds no secret but the digits for the computer, and those only for the owner.
#[derive(Debug, Clone)]
pub struct PhoneView {
    /// The login's public name.
    pub login: LoginId,
    /// Where it stands.
    pub state: State,
    /// Which change this is.
    pub version: u64,
    /// Whose visitors log in; none when the client is no longer configured.
    pub client: Option<Client>,
    /// The computer.
    pub computer: Origin,
    /// Milliseconds since the login began.
    pub age_ms: u64,
    /// Milliseconds until the state ends by itself.
    pub expires_in_ms: u64,
    /// How the screens are compared.
    pub number_match: NumberMatch,
    /// Wrong numbers that may still be typed.
    pub tries_left: u8,
    /// Whether the phone is on the computer's network, where that matters and can be known.
    pub same_network: Option<bool>,
    /// What both screens show.
    pub binding_message: Option<String>,
    /// The provider that was asked for.
    pub provider: Option<String>,
    /// Whether this phone owns the login.
    pub is_owner: bool,
    /// The provider that has said who the owner is already; only for the owner.
    pub known_by: Option<String>,
    /// The six digits for the computer: approved, and not yet typed there.
    pub digits: Option<String>,
    /// Whether what came of it was ended.
    pub revoked: bool,
}

impl PhoneView {
    pub(crate) fn of(
        attempt: &Attempt,
        visit: Option<&Digest>,
        seen_from: Option<std::net::IpAddr>,
        keys: &Keys,
        rules: &Rules,
        now: Now,
    ) -> Self {
        let is_owner = attempt.phone.as_ref().zip(visit).is_some_and(|(phone, visit)| phone.visit == *visit);
        let measured = attempt.proximity != crate::rules::Proximity::Off;
        let near = match (&attempt.phone, seen_from) {
            (Some(_), _) if is_owner => attempt.same_network(),
            (_, Some(address)) => attempt::same_network(attempt.computer.address, address),
            _ => None,
        };
        let withheld = attempt.state == State::Approved && attempt.code.is_none();
        Self {
            login: attempt.id,
            state: attempt.state,
            version: attempt.version,
            client: rules.client(&attempt.client).cloned(),
            computer: attempt.computer.clone(),
            age_ms: now.saturating_sub(attempt.created),
            expires_in_ms: if attempt.state.is_final() { 0 } else { attempt.deadline.saturating_sub(now) },
            number_match: attempt.number_match,
            tries_left: attempt::NUMBER_TRIES.saturating_sub(attempt.wrong_numbers),
            same_network: near.filter(|_| measured),
            binding_message: attempt.binding_message.as_deref().map(Into::into),
            provider: attempt.provider.as_deref().map(Into::into),
            is_owner,
            known_by: attempt.known.as_ref().filter(|_| is_owner).map(|known| known.provider.clone()),
            revoked: attempt.session.as_ref().is_some_and(|session| session.revoked),
            digits: (is_owner && withheld).then(|| keys.number_to_browser(attempt.id)),
        }
    }
}
