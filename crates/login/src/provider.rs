//! The seam behind which providers plug in: whoever can say who the phone's owner is.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use crate::identity::Identity;
use crate::secret::{Digest, Token};

/// A code of a provider's own, which its event names again.
#[derive(Debug, Clone)]
pub enum ProviderCode {
    /// A QR code that says this.
    Text(String),
    /// A picture of a code that nobody else can draw. The page gets it once, and it is kept nowhere.
    Picture {
        /// Such as `image/jpeg`.
        media_type: &'static str,
        /// The file.
        bytes: Vec<u8>,
    },
    /// On the provider's own page, to which the computer is sent; see [`Provider::sends_computer`].
    Page,
}

/// A future that is sent between threads.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whom the phone is sent to, or what is known already.
#[derive(Debug, Clone)]
pub enum Begun {
    /// The phone goes there and comes back to the callback with the `state`.
    Redirect(String),
    /// The provider knows without asking.
    Identity(Identity),
}

/// What a provider is given to begin with.
#[derive(Debug, Clone)]
pub struct Errand<'a> {
    /// What must come back as `state`: works once, for this login and this phone only.
    pub state: &'a Token,
    /// The address of the callback, `<public address>/v1/callback/<section>`.
    pub callback: &'a str,
    /// The phone's `User-Agent`.
    pub user_agent: &'a str,
    /// The phone's `Accept-Language`.
    pub languages: &'a str,
    /// The fields of the form by which the owner agreed, for providers whose page is ours.
    pub form: &'a [(String, String)],
    /// Who the owner is, where this provider has said so in a [`Happened`].
    pub known: Option<&'a Identity>,
}

/// A request to `/v1/callback/<section>`, whole.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// What follows the question mark, as it came.
    pub query: &'a str,
    /// The `Content-Type`.
    pub content_type: &'a str,
    /// The body, within `limits.body`.
    pub body: &'a [u8],
    /// The caller's own address.
    pub address: IpAddr,
    /// Seconds since the Unix epoch, for time windows of signatures.
    pub unix_seconds: u64,
    /// This server's public address, without a slash at its end, for links in replies.
    pub base: &'a str,
}

/// What a callback means.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The phone is back, and this is its owner. Only believed of a request whose `state` was good.
    Identity(Identity),
    /// The phone is back, and its owner refused. Only believed of a request whose `state` was good.
    Refused,
    /// A phone follows the link that the provider gave to the person of a [`Happened`]: it gets `visit` as its visit key
    /// and is sent to the page of `qr`. Nothing changes by it, since a GET does not.
    Visit {
        /// The QR token.
        qr: String,
        /// The key that [`Happened::visit`] named.
        visit: Token,
    },
    /// The provider's own app on a phone tells that its owner has scanned a code. It is answered with what the phone
    /// should show and with `visit`, the key that [`Happened::visit`] names, by which it goes on as a phone does.
    Scanned {
        /// The scan.
        happened: Happened,
        /// The phone's visit key.
        visit: Token,
    },
    /// The provider's own server tells of something; it gets this answer at once, and these things are done.
    Event {
        /// What the provider's server wants to hear.
        reply: Reply,
        /// What happened at the provider.
        happened: Option<Happened>,
    },
}

/// An answer for a provider's server.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// What a provider's server can tell of: it has seen a person with a QR code of ours.
#[derive(Debug, Clone)]
pub struct Happened {
    /// The QR token.
    pub qr: String,
    /// The person. When the login is theirs and they agree, [`Errand::known`] says so, and nobody else is believed.
    pub identity: Identity,
    /// Takes the login for this visit: the person alone is given its key, as a link in the provider's own app.
    pub visit: Digest,
    /// Whether scanning was agreeing, which it is only where the operator has said so.
    pub agreed: bool,
}

/// Why a provider could not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// Not from the provider: no or a wrong signature, another application's, out of its time.
    #[error("the request is not the provider's: {0}")]
    Forged(&'static str),
    /// The person must not be logged in, such as a virtual account; the text is for them.
    #[error("this person cannot log in: {0}")]
    Unwelcome(&'static str),
    /// The provider says that what came back is used, too old or not its own: begin again.
    #[error("the provider does not accept what came back")]
    Stale,
    /// The provider does not answer, or not as it should. The text is for the log.
    #[error("the provider failed: {0}")]
    Unavailable(String),
}

/// Whoever can say who the phone's owner is. See the module's header.
pub trait Provider: Send + Sync + fmt::Debug {
    /// Its section in the configuration; also in its callback's address.
    fn name(&self) -> &str;

    /// What it is called on the phone's page, such as `WeChat`.
    fn label(&self) -> &str;

    /// Whether its own page tells us when the owner refuses. Where it does not, ours has to ask before it.
    fn shows_refusal(&self) -> bool;

    /// Whether it is the computer that is sent there, because the provider's page draws a QR code of its own. Such a
    /// provider is not offered on the phone's page.
    fn sends_computer(&self) -> bool {
        false
    }

    /// A code of the provider's own: what the page shows in the place of our address. What the provider tells of its scan
    /// names `qr` again. Asked once for a login that begins with this provider, and its QR token does not change after
    /// that.
    fn own_code<'a>(
        &'a self,
        qr: &'a Token,
        life: Duration,
    ) -> Work<'a, Result<Option<ProviderCode>, ProviderError>> {
        let _ = (qr, life);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Whether it can be used on a phone whose browser calls itself this.
    fn suits(&self, user_agent: &str) -> bool {
        let _ = user_agent;
        true
    }

    /// Begins to find out who the phone's owner is; whom it has told of already, it may say at once.
    fn begin<'a>(&'a self, errand: &'a Errand<'a>) -> Work<'a, Result<Begun, ProviderError>>;

    /// The `state` that a callback brings back; none for what its own server tells of. A provider that allows fewer
    /// characters than a token has writes it otherwise in [`Provider::begin`] and reads it back here.
    fn state(&self, request: &Request<'_>) -> Option<String> {
        request
            .query
            .split('&')
            .find_map(|pair| pair.strip_prefix("state="))
            .filter(|state| !state.is_empty())
            .map(str::to_owned)
    }

    /// Reads a callback and, where the phone is back, asks the provider who it is.
    fn callback<'a>(&'a self, request: &'a Request<'a>) -> Work<'a, Result<Outcome, ProviderError>>;
}
