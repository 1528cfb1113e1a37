//! Where attempts are kept.
//!
//! The store is the truth: every change is one [`Store::replace`] against the version that was read, so of many that
//! want the same login at once one wins and the others look again. A store keeps no secrets, only digests to find
//! attempts by. Its calls are asynchronous because a durable store or one that several nodes share has to wait; the
//! one in memory never does.

use std::future::Future;
use std::sync::Arc;

use crate::Now;
use crate::attempt::{Attempt, State};
use crate::secret::{Digest, LoginId};

/// What an attempt is found by. The kind is part of it: a device code never finds what a QR token does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// The device code's digest.
    Device(Digest),
    /// A QR token's digest, in force or renewed.
    Qr(Digest),
    /// The typed code's keyed digest; while the login is pending.
    UserCode(Digest),
    /// The one-time code's digest.
    Code(Digest),
    /// The digest of a `state` that a provider is to bring back.
    Errand(Digest),
}

impl Key {
    /// The digest in it.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Device(digest)
            | Self::Qr(digest)
            | Self::UserCode(digest)
            | Self::Code(digest)
            | Self::Errand(digest) => digest,
        }
    }
}

impl Attempt {
    /// Everything it is to be found by, as it stands.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        [Key::Device(self.device), Key::Qr(self.qr)]
            .into_iter()
            .chain(self.old_qr.iter().copied().map(Key::Qr))
            .chain((self.state == State::Pending).then_some(Key::UserCode(self.user_code.0)))
            .chain(self.code.map(Key::Code))
            .chain(self.errand.as_ref().map(|errand| Key::Errand(errand.state)))
    }
}

/// The store failed, or cannot say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store of logins failed: {0}")]
pub struct StoreError(pub String);

/// What became of a new attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is there.
    New,
    /// Another attempt has one of its keys already, which only typed codes can.
    Clash,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It is in force.
    Done,
    /// Somebody else was faster, or it is gone; look again.
    Changed,
}

/// See the module's header.
pub trait Store: Send + Sync {
    /// Adds an attempt with all its keys, or nothing.
    fn insert(&self, attempt: Arc<Attempt>) -> impl Future<Output = Result<Inserted, StoreError>> + Send;

    /// The attempt of that name.
    fn get(&self, id: LoginId) -> impl Future<Output = Result<Option<Arc<Attempt>>, StoreError>> + Send;

    /// The attempt that has this key.
    fn find(&self, key: Key) -> impl Future<Output = Result<Option<Arc<Attempt>>, StoreError>> + Send;

    /// Puts `next` in the place of the attempt of its name, if that has the version `seen` still.
    fn replace(
        &self,
        seen: u64,
        next: Arc<Attempt>,
    ) -> impl Future<Output = Result<Replaced, StoreError>> + Send;

    /// Takes an attempt out.
    fn remove(&self, id: LoginId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Names of attempts whose deadline may have come, at most `most`; each is given once until it changes again.
    fn due(&self, now: Now, most: usize) -> impl Future<Output = Result<Vec<LoginId>, StoreError>> + Send;

    /// How many are pending: as many typed codes are live.
    fn pending(&self) -> impl Future<Output = Result<usize, StoreError>> + Send;
}
