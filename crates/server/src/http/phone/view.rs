//! What the page shows: everything it depends on, and nothing that can be looked up.

use std::time::Duration;

use doorbell_login::Computer;

use super::language::Language;

/// One page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) language: Language,
    /// Where the forms go: `/s/<qr>`, or `/s` for the typed code.
    pub(crate) path: &'a str,
    /// What a form has to bring back, so that no other site can send it.
    pub(crate) token: &'a str,
    /// Names the state, so that the page notices when it has changed; `None` on pages that stay as they are.
    pub(crate) version: Option<u64>,
    /// The site, as far as it is known yet.
    pub(crate) site: Option<Site<'a>>,
    pub(crate) step: Step<'a>,
}

/// Who wants to know who somebody is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) name: &'a str,
    /// A `data:` URI: the page loads nothing from elsewhere.
    pub(crate) icon: Option<&'a str>,
}

/// The computer that asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) computer: Computer,
    /// Where the address is, when a database knows.
    pub(crate) place: Option<&'a str>,
    pub(crate) address: &'a str,
    pub(crate) age: Duration,
}

/// Where the sign-in is, as this phone may know it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    /// The code was opened; nothing has happened yet.
    Scan,
    /// The question.
    Consent(Consent<'a>),
    /// Agreed, and the computer has to be told these digits first.
    Digits(&'a str),
    /// Agreed; the site has not fetched the result yet.
    Agreed(Asking<'a>),
    /// The site has the result.
    SignedIn(Asking<'a>),
    /// Its owner said "that was not me".
    Ended,
    Refused,
    Expired,
    /// The first scan was another phone's.
    Taken,
    /// The token in the code is an earlier one of a sign-in that goes on.
    Renewed,
    /// The computer gave up.
    Cancelled,
    /// Wrong numbers, as often as one may.
    NumbersUsedUp,
    Unknown,
    SiteUnknown,
    /// The site wants both in one network.
    OtherNetwork,
    /// Only the site's own app may go on.
    OwnApp,
    /// The form came without what the page had given.
    NoCookie,
    /// Too many tries; so many seconds to wait.
    Busy(u64),
    /// The provider did not say who this is, and why, when it is known.
    Failed(Option<&'a str>),
    /// The form for a typed code, after a wrong one or not.
    TypeCode {
        wrong: bool,
    },
}

/// The question and what it depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Consent<'a> {
    pub(crate) asking: Asking<'a>,
    /// Address or place do not match this phone's.
    pub(crate) elsewhere: bool,
    /// What the site shows on the computer too.
    pub(crate) message: Option<&'a str>,
    /// Who may say who this is; the page asks when there are several.
    pub(crate) ways: &'a [Way<'a>],
    /// Whom the demonstration's provider may be told to be.
    pub(crate) names: &'a [&'a str],
    pub(crate) number: Option<Number>,
    pub(crate) expires_in: Duration,
}

/// A provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    /// Its section in the configuration.
    pub(crate) provider: &'a str,
    /// What people call it.
    pub(crate) label: &'a str,
}

/// The number that the computer shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number {
    pub(crate) tries_left: u32,
    /// One was wrong already.
    pub(crate) wrong: bool,
}
