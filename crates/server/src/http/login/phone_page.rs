//! From a login to the page that a phone shows of it. What the pages look like is [`crate::http::phone`]'s.

use std::net::IpAddr;
use std::time::Duration;

use axum::response::Response;
use doorbell_login::{NUMBER_TRIES, NumberMatch, PhoneView, Refusal, State, TypedError, describe};

use super::caller::Caller;
use crate::http::phone::{Asking, Consent, Language, Number, Site, Step, View, Way};
use crate::login::Service;
use crate::places::Places;

/// Whom the demonstration's provider may be told to be.
const DEMO_NAMES: [&[&str]; 2] = [&["Alice", "Bob", "Carol"], &["小明", "小红", "小刚"]];

/// Everything a phone's page depends on.
#[derive(Debug)]
pub(super) struct PhonePage<'a> {
    /// The QR token; empty on pages that lead nowhere.
    pub(super) qr: &'a str,
    /// Goes into every form, as `page_token`.
    pub(super) page_token: &'a str,
    /// What the page is about.
    pub(super) said: Said<'a>,
    /// What went wrong with the last step, on a page that can be gone on with.
    pub(super) error: Option<&'a Refusal>,
    /// By whom the owner may say who they are; goes back as `provider`.
    pub(super) choices: Vec<Choice>,
    /// The phone's `Accept-Language`.
    pub(super) languages: &'a str,
    /// The phone's address.
    pub(super) address: IpAddr,
    /// Where addresses are, when there is a database.
    pub(super) places: Option<&'a Places>,
}

impl<'a> PhonePage<'a> {
    /// A page that leads nowhere, or begins where the person types.
    pub(super) fn without_form(said: Said<'a>, service: &'a Service, caller: &'a Caller) -> Self {
        Self {
            qr: "",
            page_token: "",
            said,
            error: None,
            choices: Vec::new(),
            languages: &caller.languages,
            address: caller.address,
            places: service.places(),
        }
    }
}

/// What a page is about.
#[derive(Debug)]
pub(super) enum Said<'a> {
    /// A login.
    View(&'a PhoneView),
    /// There is none for this phone.
    Refusal(&'a Refusal),
    /// The form for a typed code, and what was wrong with the last one.
    Form(Option<&'a TypedError>),
    /// The form that was sent is not of a page that this phone was given.
    NoPage,
    /// A provider did not say who the owner is; this is for them to read.
    Failed(&'a str),
}

/// One way for the owner to say who they are.
#[derive(Debug)]
pub(super) struct Choice {
    /// The field's value.
    pub(super) name: String,
    /// What it is called.
    pub(super) label: String,
    /// The page asks for a name, in the field `name`.
    pub(super) asks_name: bool,
}

/// The page.
pub(super) fn render(page: &PhonePage<'_>) -> Response {
    let language = Language::of_header(page.languages);
    let path = if page.qr.is_empty() { "/s".to_owned() } else { format!("/s/{}", page.qr) };
    let mut shown = View {
        language,
        path: &path,
        token: page.page_token,
        version: None,
        site: None,
        step: Step::Unknown,
    };
    let view = match page.said {
        Said::View(view) => view,
        Said::Form(error) => {
            shown.step = match error {
                Some(TypedError::Guessing(_)) => Step::Busy(RETRY_SECONDS),
                error => Step::TypeCode { wrong: error.is_some() },
            };
            return shown.response();
        }
        Said::Refusal(refusal) => {
            shown.step = refused(refusal);
            return shown.response();
        }
        Said::NoPage => {
            shown.step = Step::NoCookie;
            return shown.response();
        }
        Said::Failed(text) => {
            shown.step = Step::Failed(Some(text));
            return shown.response();
        }
    };
    // A page that leads nowhere has nothing to look at again.
    shown.version = (!page.qr.is_empty()).then_some(view.version);
    shown.site = view.client.as_ref().map(|client| Site {
        name: &client.name,
        // Anything else would be loaded from elsewhere.
        icon: client.icon.as_deref().filter(|icon| icon.starts_with("data:image/")),
    });
    let computer = view.computer.address;
    let place = |address| page.places.and_then(|places| places.of(address, language == Language::Chinese));
    let (there, here) = (place(computer), place(page.address));
    let address = computer.to_string();
    let asking = Asking {
        computer: describe(&view.computer.user_agent),
        place: there.as_ref().map(|place| place.name.as_str()),
        address: &address,
        age: Duration::from_millis(view.age_ms),
    };
    let abroad = there.as_ref().zip(here.as_ref()).is_some_and(|(there, here)| there.country != here.country);
    let elsewhere = view.same_network == Some(false) || abroad;
    let ways: Vec<_> =
        page.choices.iter().map(|choice| Way { provider: &choice.name, label: &choice.label }).collect();
    shown.step = match view.state {
        _ if shown.site.is_none() => Step::SiteUnknown,
        State::Pending if page.choices.is_empty() => Step::OwnApp,
        State::Pending => Step::Scan,
        State::Expired => Step::Expired,
        State::Cancelled => Step::Cancelled,
        State::Denied if view.tries_left == 0 => Step::NumbersUsedUp,
        State::Denied => Step::Refused,
        _ if !view.is_owner => Step::Taken,
        State::Scanned => match page.error {
            Some(error @ (Refusal::TooFar | Refusal::Provider)) => refused(error),
            _ => Step::Consent(Consent {
                asking,
                elsewhere,
                message: view.binding_message.as_deref(),
                ways: &ways,
                names: if page.choices.iter().any(|choice| choice.asks_name) {
                    DEMO_NAMES[usize::from(language == Language::Chinese)]
                } else {
                    &[]
                },
                number: (view.number_match == NumberMatch::ToPhone).then_some(Number {
                    tries_left: view.tries_left.into(),
                    wrong: view.tries_left < NUMBER_TRIES,
                }),
                expires_in: Duration::from_millis(view.expires_in_ms),
            }),
        },
        State::Approved => view.digits.as_deref().map_or(Step::Agreed(asking), Step::Digits),
        State::Consumed if view.revoked => Step::Ended,
        State::Consumed => Step::SignedIn(asking),
    };
    shown.response()
}

/// How long somebody who guessed has to wait at most.
const RETRY_SECONDS: u64 = doorbell_login::TRIES_WINDOW_MS / 1_000;

const fn refused(refusal: &Refusal) -> Step<'static> {
    match refusal {
        Refusal::Unknown => Step::Unknown,
        Refusal::Renewed => Step::Renewed,
        Refusal::Over(State::Expired) => Step::Expired,
        Refusal::Over(State::Cancelled) => Step::Cancelled,
        Refusal::Over(State::Denied) | Refusal::Number { .. } => Step::Refused,
        Refusal::Over(_) | Refusal::AlreadyScanned | Refusal::WrongState(_) => Step::Taken,
        Refusal::TooFar => Step::OtherNetwork,
        Refusal::Provider => Step::OwnApp,
        Refusal::TooOften => Step::Busy(1),
        _ => Step::Failed(None),
    }
}
