//! Who waits for acknowledgements, and what came in meanwhile.
//!
//! A waiter enters before its push, because the answer may come before the push returns with the number to wait for.
//! While nobody waits an acknowledgement costs one atomic read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use doorbell_protocol::Uid;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    waiting: AtomicUsize,
    by_uid: Mutex<HashMap<Uid, Vec<Arc<Waiter>>>>,
}

#[derive(Debug, Default)]
struct Waiter {
    /// What was acknowledged since it entered, one range (from exclusive, to) for each acknowledgement.
    ranges: Mutex<Vec<(u64, u64)>>,
    /// The furthest place a long-poll has asked from. Polls are not told apart, so together they count as one.
    polled: AtomicU64,
    changed: Notify,
}

/// A place among those who wait, left on drop.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    acks: &'a Acks,
    uid: Uid,
    waiter: Arc<Waiter>,
}

impl Acks {
    /// Begins to listen for acknowledgements of `uid`'s connections.
    pub(crate) fn wait_for(&self, uid: &Uid) -> Waiting<'_> {
        let waiter = Arc::<Waiter>::default();
        self.by_uid.lock().entry(uid.clone()).or_default().push(Arc::clone(&waiter));
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting { acks: self, uid: uid.clone(), waiter }
    }

    /// Takes note that one connection of `uid` has newly acknowledged what lies after `from`, up to `to`.
    pub(crate) fn note(&self, uid: &Uid, from: u64, to: u64) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(waiters) = self.by_uid.lock().get(uid) {
            for waiter in waiters {
                waiter.ranges.lock().push((from, to));
                waiter.changed.notify_one();
            }
        }
    }

    /// Takes note that a long-poll of `uid` asks for what comes after `seq`.
    pub(crate) fn note_poll(&self, uid: &Uid, seq: u64) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(waiters) = self.by_uid.lock().get(uid) {
            for waiter in waiters {
                waiter.polled.fetch_max(seq, Ordering::SeqCst);
                waiter.changed.notify_one();
            }
        }
    }
}

impl Waiting<'_> {
    /// How many connections have acknowledged message `seq` since.
    pub(crate) fn count(&self, seq: u64) -> usize {
        let polled = usize::from(seq > 0 && self.waiter.polled.load(Ordering::SeqCst) >= seq);
        let ranges = self.waiter.ranges.lock();
        ranges.iter().filter(|(from, to)| (from + 1..=*to).contains(&seq)).count() + polled
    }

    /// Returns once at least `enough` connections have acknowledged message `seq`.
    pub(crate) async fn until(&self, seq: u64, enough: usize) {
        while self.count(seq) < enough {
            self.waiter.changed.notified().await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut by_uid = self.acks.by_uid.lock();
        if let Some(waiters) = by_uid.get_mut(&self.uid) {
            waiters.retain(|other| !Arc::ptr_eq(other, &self.waiter));
            if waiters.is_empty() {
                by_uid.remove(&self.uid);
            }
        }
        self.acks.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
