//! Scan-to-login: a page shows a QR code, a phone scans it, its owner agrees or refuses, and exactly that page goes on.
//!
//! ```text
//! pending ──► scanned ──► approved ──► consumed
//!    │           │           │
//!    └───────────┴───────────┴──► denied, expired, cancelled
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `attempt` | one login and every step it can take |
//! | `logins` | [`Logins`]: reads, steps, writes back; the clock's work |
//! | `browser`, `phone`, `backend` | what each of the three sides may ask of it |
//! | `store`, `memory` | the trait behind which attempts are kept, and the store in memory |
//! | `secret` | tokens, codes, and what is kept of them |
//! | `crowd`, `guesses` | bounds on attempts and on guessing |
//! | `provider` | the seam for those who can say who a phone's owner is |
//!
//! Nothing here opens a socket, reads a clock or knows HTTP: time, randomness and the store are passed in. What can
//! never happen: whoever merely sees the QR code receives the result; a result is received twice; two phones both win;
//! a state goes backwards; a secret is in the store.

mod agent;
mod attempt;
mod backend;
mod browser;
mod crowd;
mod guesses;
mod identity;
mod logins;
mod memory;
mod phone;
mod provider;
mod rules;
mod secret;
mod store;
mod view;
mod wheel;

pub use agent::{Computer, describe};
pub use attempt::{
    Attempt, CookieRule, Errand as PendingErrand, NUMBER_TRIES, Origin, OwnCode, Phone, Record, Refusal,
    Session, State, Step, Who, same_network,
};
pub use backend::{Handle, RedeemError, Redeemed, Redemption};
pub use browser::{Begin, BeginError, Begun as BegunLogin, Page};
pub use crowd::Crowded;
pub use guesses::{Guessing, TRIES, TRIES_WINDOW_MS};
pub use identity::{Identity, masked};
pub use logins::{Logins, Observer};
pub use memory::MemoryStore;
pub use phone::{Consent, Returned, TypedError};
pub use provider::{
    Begun, Errand, Happened, Outcome, Provider, ProviderCode, ProviderError, Reply, Request, Work,
};
pub use rules::{Client, NumberMatch, Proximity, Rules, RulesError};
pub use secret::{Digest, Keys, LoginId, NoRandomness, Random, Token, USER_CODES, UserCode};
pub use store::{Inserted, Key, Replaced, Store, StoreError};
pub use view::{PhoneView, View};

/// Milliseconds of a clock that never goes back; only differences mean something.
pub type Now = u64;
