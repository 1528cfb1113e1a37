//! Tokens that stop working before their end: all of a uid's that were issued before a moment, or a single one.
//!
//! A verdict is asked for whenever a token is shown, and by each connection once more after it has become reachable:
//! a revocation enters the table first and looks for connections then, so between the two neither can slip past the
//! other. While nothing is revoked a verdict costs one atomic read.
//!
//! What is revoked stays so until every token it is about has ended by itself (`tokens.max_lifetime`), and longer while
//! there is room. A full table refuses; it never forgets. With a [`Journal`] it also outlives the process.

mod journal;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use doorbell_protocol::Uid;
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

use self::journal::Journal;
use crate::identity::NOT_BEFORE_LEEWAY_SECONDS;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// Entries: uids with a `before`, and single tokens.
    count: AtomicUsize,
    by_uid: RwLock<HashMap<Uid, Revoked>>,
    /// Where they outlive the process; unset where they do not.
    journal: OnceLock<Journal>,
}

/// What of one uid is revoked. Times are in seconds since the Unix epoch.
#[derive(Debug, Default)]
struct Revoked {
    /// Tokens issued before this; 0 for none.
    before: u64,
    /// When the last of them has ended.
    before_until: u64,
    /// Single tokens, and when each has ended.
    tokens: Vec<(u32, u64)>,
}

/// What a connection keeps of the proof it came with, to be found when that is revoked: eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Proof {
    /// When it was issued, in seconds since the Unix epoch; 0 when it does not say, which is before everything.
    issued: u32,
    /// A hash of the token's `jti`; 0 when it has none.
    token: u32,
}

impl Proof {
    pub(crate) const fn to_bits(self) -> u64 {
        (self.issued as u64) << 32 | self.token as u64
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = bits.to_be_bytes();
        Self { issued: u32::from_be_bytes([a, b, c, d]), token: u32::from_be_bytes([e, f, g, h]) }
    }
}

/// One revocation, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revocation {
    uid: Uid,
    scope: Scope,
    /// When the last token it is about has ended.
    until: u64,
}

/// Which of a uid's tokens are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// Those issued before this.
    Before(u64),
    /// The one whose `jti` has this hash.
    Token(u32),
}

/// What is to be revoked of a uid.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Revoke<'a> {
    /// Every token issued up to now, and every token that does not say when.
    ///
    /// Tokens count whole seconds, so those issued later in this second are among them: [`Revocations::issue_from`]. A
    /// second revocation in one second goes a second further, so that it also covers what was issued between the two,
    /// but never beyond what the leeway for clocks allows.
    Now,
    /// Every token issued before this many seconds after the Unix epoch, and every token that does not say when.
    Before(u64),
    /// The token with this `jti`.
    Token(&'a str),
}

/// Why nothing was revoked: the table is full, and everything in it is still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revoke: there are already {limit} revocations of tokens that have not ended (limits.revocations)")]
pub(crate) struct TooManyRevocations {
    limit: usize,
}

impl Revocations {
    /// Keeps revocations from now on in a file at `path`, and takes over those that are in it.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(crate) fn keep_in(&self, path: PathBuf, now: u64) -> io::Result<()> {
        let (journal, kept) = Journal::open(path, now)?;
        self.take_over(kept);
        // Asked once, when a server starts.
        let _ = self.journal.set(journal);
        Ok(())
    }

    /// Makes a revocation outlive the process, and with it those that could not be kept before; whether it does. It waits
    /// for the disk.
    pub(crate) fn keep(&self, revocation: &Revocation, now: u64) -> bool {
        let Some(journal) = self.journal.get() else { return false };
        match journal.append(revocation, || self.all(now), now) {
            Ok(found) => {
                self.take_over(found);
                true
            }
            Err(error) => {
                tracing::error!(%error, "failed to keep a revocation: it is lost if the server stops before it keeps another");
                false
            }
        }
    }

    /// Those that are not over.
    fn all(&self, now: u64) -> Vec<Revocation> {
        let mut all = Vec::new();
        for (uid, revoked) in &*self.by_uid.read() {
            let before =
                (revoked.before > 0).then_some((Scope::Before(revoked.before), revoked.before_until));
            let tokens = revoked.tokens.iter().map(|(token, until)| (Scope::Token(*token), *until));
            let scopes = before.into_iter().chain(tokens).filter(|(_, until)| *until > now);
            all.extend(scopes.map(|(scope, until)| Revocation { uid: uid.clone(), scope, until }));
        }
        all
    }

    /// Remembers what another process has revoked.
    fn take_over(&self, found: Vec<Revocation>) {
        if found.is_empty() {
            return;
        }
        let mut by_uid = self.by_uid.write();
        for Revocation { uid, scope, until } in found {
            by_uid.entry(uid).or_default().add(scope, until);
        }
        self.count.store(by_uid.values().map(Revoked::count).sum(), Ordering::Release);
    }

    /// What to keep of a token issued at `issued` and called `id`, as far as it says.
    pub(crate) fn proof(&self, issued: Option<u64>, id: Option<&str>) -> Proof {
        let issued = issued.map_or(0, |issued| u32::try_from(issued).unwrap_or(u32::MAX));
        Proof { issued, token: id.map_or(0, hash_of) }
    }

    /// The word of somebody trusted that a connection is `uid`'s, given at `now`, in seconds since the Unix epoch. It
    /// counts as given after every revocation so far.
    pub(crate) fn vouch(&self, uid: &Uid, now: u64) -> Proof {
        self.proof(Some(now.max(self.issue_from(uid))), None)
    }

    /// Revokes from `now` (seconds since the Unix epoch) on. `lifetime` is how long tokens live at most, `limit` how many
    /// revocations there may be. What it returns is for [`Revocations::keep`].
    ///
    /// # Errors
    /// [`TooManyRevocations`]; nothing is revoked then.
    pub(crate) fn revoke(
        &self,
        uid: &Uid,
        what: Revoke<'_>,
        now: u64,
        lifetime: Duration,
        limit: usize,
    ) -> Result<Revocation, TooManyRevocations> {
        let until = now.saturating_add(lifetime.as_secs()).saturating_add(1);
        let mut by_uid = self.by_uid.write();
        let before = by_uid.get(uid).map_or(0, |revoked| revoked.before);
        let (scope, until) = match what {
            Revoke::Now => {
                let again = (before + 1).min(now + NOT_BEFORE_LEEWAY_SECONDS);
                (Scope::Before(before.max(again).max(now + 1)), until + NOT_BEFORE_LEEWAY_SECONDS)
            }
            Revoke::Before(moment) => (Scope::Before(before.max(moment)), until),
            Revoke::Token(id) => (Scope::Token(hash_of(id)), until),
        };
        let is_new = by_uid.get(uid).is_none_or(|revoked| !revoked.has(scope));
        if is_new && self.count.load(Ordering::Acquire) >= limit {
            by_uid.retain(|_, revoked| revoked.keep(now));
            self.count.store(by_uid.values().map(Revoked::count).sum(), Ordering::Release);
            if self.count.load(Ordering::Acquire) >= limit {
                return Err(TooManyRevocations { limit });
            }
        }
        by_uid.entry(uid.clone()).or_default().add(scope, until);
        self.count.fetch_add(usize::from(is_new), Ordering::AcqRel);
        Ok(Revocation { uid: uid.clone(), scope, until })
    }

    /// Whether what `proof` was kept of works no more for `uid`.
    pub(crate) fn is_revoked(&self, uid: &Uid, proof: Proof) -> bool {
        if self.count() == 0 {
            return false;
        }
        self.by_uid.read().get(uid).is_some_and(|revoked| {
            u64::from(proof.issued) < revoked.before
                || (proof.token != 0 && revoked.tokens.iter().any(|(token, _)| *token == proof.token))
        })
    }

    /// The first second in which a token for `uid` may be issued and is not revoked at once; 0 when any will do.
    pub(crate) fn issue_from(&self, uid: &Uid) -> u64 {
        if self.count() == 0 {
            return 0;
        }
        self.by_uid.read().get(uid).map_or(0, |revoked| revoked.before)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

/// The same in every process, because a [`Journal`] keeps it. Two tokens of one uid share it once in four thousand
/// million, and nobody gains by names that do: it is one's own tokens that end.
fn hash_of(id: &str) -> u32 {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(id));
    // 0 is for none.
    u32::from_be_bytes([a, b, c, d]).max(1)
}

impl Revoked {
    fn has(&self, scope: Scope) -> bool {
        match scope {
            Scope::Before(_) => self.before > 0,
            Scope::Token(token) => self.tokens.iter().any(|(other, _)| *other == token),
        }
    }

    fn add(&mut self, scope: Scope, until: u64) {
        match scope {
            Scope::Before(before) => {
                self.before = self.before.max(before);
                self.before_until = self.before_until.max(until);
            }
            Scope::Token(token) => {
                self.tokens.retain(|(other, _)| *other != token);
                self.tokens.push((token, until));
            }
        }
    }

    fn count(&self) -> usize {
        self.tokens.len() + usize::from(self.before > 0)
    }

    /// Lets go of what is over; whether anything is left.
    fn keep(&mut self, now: u64) -> bool {
        self.tokens.retain(|(_, until)| *until > now);
        if self.before_until <= now {
            self.before = 0;
        }
        self.count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn uid(text: &str) -> Uid {
        Uid::new(text).expect("a uid")
    }

    fn before(revoked: Result<Revocation, TooManyRevocations>) -> u64 {
        match revoked.expect("room").scope {
            Scope::Before(before) => before,
            Scope::Token(_) => 0,
        }
    }

    #[test]
    fn what_was_issued_before_is_revoked_and_what_does_not_say() {
        let revocations = Revocations::default();
        let at = |issued| revocations.is_revoked(&uid("u"), revocations.proof(issued, None));
        assert!(!at(None));
        revocations.revoke(&uid("u"), Revoke::Before(100), 100, DAY, 10).expect("room");
        assert!(at(None) && at(Some(99)));
        assert!(!at(Some(100)));
        assert!(!revocations.is_revoked(&uid("v"), revocations.proof(None, None)));
        revocations.revoke(&uid("u"), Revoke::Before(50), 100, DAY, 10).expect("room");
        assert!(at(Some(99)), "an earlier moment takes nothing back");
        assert_eq!((revocations.issue_from(&uid("u")), revocations.count()), (100, 1));
    }

    #[test]
    fn a_single_token_is_revoked_alone() {
        let revocations = Revocations::default();
        for _ in 0..2 {
            revocations.revoke(&uid("u"), Revoke::Token("a"), 100, DAY, 10).expect("room");
        }
        assert_eq!(revocations.count(), 1);
        for (user, id, revoked) in
            [("u", Some("a"), true), ("u", Some("b"), false), ("u", None, false), ("v", Some("a"), false)]
        {
            assert_eq!(
                revocations.is_revoked(&uid(user), revocations.proof(Some(1), id)),
                revoked,
                "{user} {id:?}"
            );
        }
    }

    #[test]
    fn a_full_table_refuses_until_something_in_it_is_over() {
        let revocations = Revocations::default();
        revocations.revoke(&uid("a"), Revoke::Before(1), 1_000, DAY, 2).expect("room");
        revocations.revoke(&uid("b"), Revoke::Token("t"), 2_000, DAY, 2).expect("room");
        let full = Err(TooManyRevocations { limit: 2 });
        assert_eq!(revocations.revoke(&uid("c"), Revoke::Before(1), 3_000, DAY, 2), full);
        assert_eq!(revocations.issue_from(&uid("c")), 0);
        let again = revocations.revoke(&uid("a"), Revoke::Before(2), 3_000, DAY, 2);
        assert_eq!(before(again), 2, "it is there already");
        let over = 2_000 + DAY.as_secs() + 1;
        let later = revocations.revoke(&uid("c"), Revoke::Before(1), over, DAY, 2);
        assert_eq!(before(later), 1, "b's has ended");
        assert_eq!(revocations.count(), 2);
        assert_eq!(revocations.issue_from(&uid("a")), 2);
    }

    #[test]
    fn revoking_now_covers_what_was_issued_between_two_revocations_of_one_second() {
        let revocations = Revocations::default();
        for times in 1..=4 {
            let issued = revocations.vouch(&uid("u"), 100);
            assert!(!revocations.is_revoked(&uid("u"), issued));
            let again = revocations.revoke(&uid("u"), Revoke::Now, 100, DAY, 10);
            assert_eq!(before(again), 100 + times);
            assert!(revocations.is_revoked(&uid("u"), issued));
        }
        assert_eq!(before(revocations.revoke(&uid("u"), Revoke::Now, 200, DAY, 10)), 201);
    }

    #[test]
    fn who_takes_over_a_journal_keeps_its_own_and_learns_the_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("revocations.jsonl");
        let opened = || {
            let revocations = Revocations::default();
            revocations.keep_in(path.clone(), 100).expect("opens");
            revocations
        };
        let revoke = |revocations: &Revocations, name: &str, what| {
            let revocation = revocations.revoke(&uid(name), what, 100, DAY, 10).expect("room");
            revocations.keep(&revocation, 100)
        };
        let (first, second) = (opened(), opened());
        assert!(revoke(&first, "first", Revoke::Before(100)));
        assert!(!revoke(&second, "second", Revoke::Before(100)), "the first one writes");
        assert!(!revoke(&second, "second", Revoke::Token("t")));
        drop(first);
        assert!(revoke(&second, "third", Revoke::Before(100)));
        let at = |revocations: &Revocations, name| {
            revocations.is_revoked(&uid(name), revocations.proof(Some(99), None))
        };
        assert!(at(&second, "first"));
        drop(second);
        let next = opened();
        assert!(["first", "second", "third"].iter().all(|name| at(&next, name)));
        assert!(next.is_revoked(&uid("second"), next.proof(Some(101), Some("t"))));
        assert_eq!(next.count(), 4);
    }

    #[test]
    fn a_proof_fits_its_bits() {
        let proof = Revocations::default().proof(Some(1_795_425_402), Some("jti"));
        assert_eq!(Proof::from_bits(proof.to_bits()), proof);
    }
}
