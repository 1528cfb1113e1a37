//! The hub's mailboxes: when one is made, found and dropped, and how all of them stay within their memory.
//!
//! What a single mailbox keeps is [`crate::mailbox`]'s business. This file owns what they share: the table's entries,
//! the bytes in all, and the horizon, which keeps the numbers of dropped mailboxes from being used again. Whoever holds
//! a mailbox may find it dropped meanwhile, and then looks again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use doorbell_protocol::Uid;
use parking_lot::Mutex;

use super::table::{Labelled, SHARDS, Shard, shrink};
use super::{Hub, Outbox};
use crate::mailbox::{Change, Mailbox};
use crate::{Now, Retention};

/// What a mailbox costs without mail.
const EMPTY_MAILBOX: usize = 160;

impl<O: Outbox> Hub<O> {
    /// Sets how much mailboxes keep from now on.
    pub fn retain(&self, retention: Retention) {
        *self.retention.write() = retention;
    }

    /// Gives up what is too old in every mailbox, and drops those that are empty and idle. To be called every few
    /// seconds.
    pub fn sweep(&self, now: Now) {
        for shard in &self.shards {
            let all: Vec<_> = {
                let shard = shard.lock();
                shard.mailboxes.iter().map(|it| (it.uid.clone(), Arc::clone(&it.mailbox))).collect()
            };
            for (uid, mailbox) in all {
                let mut mailbox = mailbox.lock();
                let change = mailbox.expire(now, &self.trail);
                self.account(change);
                if mailbox.is_idle(now) {
                    self.drop_mailbox(&mut mailbox, &uid);
                }
            }
        }
    }

    /// Whether a page of `uid` counts as there that has no connection at this moment.
    #[must_use]
    pub fn is_lingering(&self, uid: &str, now: Now) -> bool {
        let (hash, shard) = self.locate(uid);
        let mailbox = shard.lock().mailbox(hash, uid);
        mailbox.is_some_and(|mailbox| mailbox.lock().is_lingering(now))
    }

    /// Bytes that all mailboxes take.
    #[must_use]
    pub fn mailbox_bytes(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// How many mailboxes there are.
    #[must_use]
    pub fn mailboxes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().mailboxes.len()).sum()
    }

    /// How many kept messages were given up, by age or for want of room, before anybody was sent them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// How many messages were kept that had no `ttl`, because a page lingered that had no connection.
    #[must_use]
    pub fn lingered(&self) -> u64 {
        self.lingered.load(Ordering::Relaxed)
    }

    /// Takes note that the page of a connection that is still reachable comes back on another.
    pub(super) fn let_linger(&self, connection: &Arc<O>, uid: &Uid, now: Now) {
        let linger = connection.linger();
        if linger.is_zero() {
            return;
        }
        let (hash, shard) = self.locate(uid.as_str());
        loop {
            let mailbox = {
                let mut shard = shard.lock();
                if !shard
                    .users
                    .connections(hash, uid.as_str())
                    .iter()
                    .any(|other| Arc::ptr_eq(other, connection))
                {
                    return;
                }
                self.open_mailbox(&mut shard, hash, uid, now)
            };
            let mut mailbox = mailbox.lock();
            if !mailbox.dropped {
                return mailbox.linger(linger, now);
            }
        }
    }

    /// The mailbox of `uid`, made when there is none.
    pub(super) fn open_mailbox(
        &self,
        shard: &mut Shard<O>,
        hash: u64,
        uid: &Uid,
        now: Now,
    ) -> Arc<Mutex<Mailbox>> {
        if let Some(mailbox) = shard.mailbox(hash, uid.as_str()) {
            return mailbox;
        }
        let horizon = self.horizon.load(Ordering::Acquire);
        let user = shard.users.share(hash, uid.as_str());
        let numbers = user.map_or((horizon, horizon), |user| user.numbers(horizon));
        self.make_mailbox(shard, hash, uid, numbers, now)
    }

    pub(super) fn make_mailbox(
        &self,
        shard: &mut Shard<O>,
        hash: u64,
        uid: &Uid,
        (floor, last): (u64, u64),
        now: Now,
    ) -> Arc<Mutex<Mailbox>> {
        let mut mailbox = Mailbox::new(floor, last, 0);
        mailbox.touch(now, &self.retention.read());
        let mailbox = Arc::new(Mutex::new(mailbox));
        let labelled = Labelled { uid: uid.clone(), mailbox: Arc::clone(&mailbox) };
        shard.mailboxes.insert_unique(hash, labelled, |other| self.hash(other.uid.as_str()));
        self.memory.fetch_add(EMPTY_MAILBOX, Ordering::Relaxed);
        mailbox
    }

    /// Takes a mailbox out of the table. Its numbers must not be used again, so the horizon rises to them.
    fn drop_mailbox(&self, mailbox: &mut Mailbox, uid: &Uid) {
        if std::mem::replace(&mut mailbox.dropped, true) {
            return;
        }
        self.horizon.fetch_max(mailbox.last, Ordering::AcqRel);
        let (hash, shard) = self.locate(uid.as_str());
        let mut shard = shard.lock();
        if let Ok(entry) = shard.mailboxes.find_entry(hash, |it| it.uid == *uid) {
            drop(entry.remove());
            shrink(&mut shard.mailboxes, |it| self.hash(it.uid.as_str()));
            self.memory.fetch_sub(EMPTY_MAILBOX, Ordering::Relaxed);
        }
    }

    /// Brings the memory of all mailboxes back within its bound. Fair: of a handful of mailboxes looked at, the
    /// largest gives up its older half, so that one hoarder cannot push out everyone else.
    pub(super) fn relieve(&self, now: Now) {
        const HANDFUL: usize = 8;
        let bound = self.retention.read().memory;
        let mut fruitless = 0;
        while self.memory.load(Ordering::Relaxed) > bound && fruitless < SHARDS {
            let turn = self.relief.fetch_add(1, Ordering::Relaxed);
            let handful: Vec<_> = {
                let shard = self.shards[turn % SHARDS].lock();
                let skip = (turn / SHARDS * HANDFUL) % shard.mailboxes.len().max(1);
                let some = shard.mailboxes.iter().skip(skip).take(HANDFUL);
                some.map(|it| (it.uid.clone(), Arc::clone(&it.mailbox))).collect()
            };
            let largest = handful.iter().max_by_key(|(_, mailbox)| mailbox.lock().bytes());
            let Some((uid, mailbox)) = largest else {
                fruitless += 1;
                continue;
            };
            let mut mailbox = mailbox.lock();
            let change = mailbox.halve(&self.trail, now);
            if change.freed == 0 {
                self.drop_mailbox(&mut mailbox, uid);
            }
            self.account(change);
        }
    }

    pub(super) fn account(&self, change: Change) {
        self.memory.fetch_add(change.added, Ordering::Relaxed);
        self.memory.fetch_sub(change.freed, Ordering::Relaxed);
        self.lost.fetch_add(change.lost as u64, Ordering::Relaxed);
    }
}
