//! WeChat, as a server meets it: calls to its API, and calls from it.
//!
//! | to WeChat | from WeChat |
//! |---|---|
//! | [`Api`]: one call, with its deadline, retries and quotas | [`Callback`]: is this really WeChat, and is it new? |
//! | [`oauth`]: pages, codes, identities | [`Message`]: what happened |
//! | [`AccountToken`]: the one token of an account, kept fresh | [`Reply`]: the answer, encrypted |
//! | [`scene`]: parametric QR codes; `follower`: who follows | [`crypto`]: signatures and AES as WeChat does them |
//! | [`mini_program`]: mini-program codes and sign-in | |
//!
//! The crate knows nothing of browsers, logins or who waits for what. It reads clocks only where it says so, spawns
//! nothing, and never puts a secret, a code or a token into a log line, an error or a `Debug` output.
//!
//! Source of every fact about WeChat: the pages under `developers.weixin.qq.com`, unless a line says otherwise.

mod account_token;
mod api;
mod callback;
pub mod crypto;
mod endpoint;
mod error;
mod fields;
mod follower;
mod message;
pub mod mini_program;
pub mod oauth;
mod quota;
mod replay;
mod reply;
pub mod scene;
mod token_store;

pub use self::account_token::{AccountToken, Timing as AccountTokenTiming};
pub use self::api::{Api, Timing};
pub use self::callback::{Callback, CallbackKeys, Query, Received, Refusal};
pub use self::endpoint::{BadBase, Base, Bases, Endpoint};
pub use self::error::{Advice, CallError, ErrorCode, Quota};
pub use self::fields::{FieldsError, Format, MAX_BODY_BYTES};
pub use self::message::{Message, MessageKind};
pub use self::replay::Limits as ReplayLimits;
pub use self::reply::{BadReply, Reply};
pub use self::token_store::{FileTokenStore, Lease, LeaseFuture, StoredToken, TokenStore};

/// One account of WeChat's: an appid and its secret.
#[derive(Debug, Clone)]
pub struct App {
    /// Public; part of every address.
    pub appid: String,
    /// Redacted in `Debug`; leaves the process only towards the API.
    pub secret: secrecy::SecretString,
}
