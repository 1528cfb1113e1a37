//! The store in memory: sharded, bounded, gone with the process.
//!
//! Attempts lie in shards by name, keys in shards by digest. A key is entered before the attempt that has it can be
//! read and taken out after, so whoever finds a key looks the attempt up under its shard's lock and sees it whole.
//! Locks are taken one at a time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::Now;
use crate::attempt::{Attempt, State};
use crate::secret::LoginId;
use crate::store::{Inserted, Key, Replaced, Store, StoreError};
use crate::wheel::Wheel;

const SHARDS: usize = 32;

/// See the module's header.
#[derive(Debug)]
pub struct MemoryStore {
    attempts: Vec<Mutex<HashMap<LoginId, Arc<Attempt>>>>,
    keys: Vec<Mutex<HashMap<Key, LoginId>>>,
    hasher: RandomState,
    wheel: Mutex<Wheel<LoginId>>,
    ended: Mutex<Ended>,
    pending: AtomicUsize,
    most_ended: usize,
}

/// Attempts that are over, the oldest first: those that were fetched apart, so that a flood of others cannot push out
/// what somebody may still want to revoke.
#[derive(Debug, Default)]
struct Ended {
    consumed: VecDeque<LoginId>,
    others: VecDeque<LoginId>,
}

impl MemoryStore {
    /// An empty store that remembers up to `most_ended` attempts that were fetched, and as many that ended otherwise.
    /// How many are under way [`crate::Logins`] bounds.
    #[must_use]
    pub fn new(most_ended: usize) -> Self {
        Self {
            attempts: (0..SHARDS).map(|_| Mutex::default()).collect(),
            keys: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            wheel: Mutex::default(),
            ended: Mutex::default(),
            pending: AtomicUsize::new(0),
            most_ended,
        }
    }

    /// How many attempts there are, ended ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.attempts.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys there are.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, id: LoginId) -> &Mutex<HashMap<LoginId, Arc<Attempt>>> {
        &self.attempts[usize::from(id.as_bytes()[0]) % SHARDS]
    }

    fn keys_of(&self, key: &Key) -> &Mutex<HashMap<Key, LoginId>> {
        // Digests come from callers, so the shard is not theirs to choose.
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let hash = self.hasher.hash_one(key) as usize;
        &self.keys[hash % SHARDS]
    }

    fn enter(&self, key: Key, id: LoginId) -> bool {
        let mut keys = self.keys_of(&key).lock();
        *keys.entry(key).or_insert(id) == id
    }

    fn strike(&self, key: Key, id: LoginId) {
        let mut keys = self.keys_of(&key).lock();
        if keys.get(&key) == Some(&id) {
            keys.remove(&key);
        }
    }

    fn read(&self, id: LoginId) -> Option<Arc<Attempt>> {
        self.shard(id).lock().get(&id).map(Arc::clone)
    }

    fn take_out(&self, id: LoginId) {
        let removed = self.shard(id).lock().remove(&id);
        let Some(attempt) = removed else { return };
        if attempt.state == State::Pending {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        for key in attempt.keys() {
            self.strike(key, id);
        }
    }

    fn swap(&self, seen: u64, next: &Arc<Attempt>) -> Replaced {
        let id = next.id;
        let Some(before) = self.read(id).filter(|before| before.version == seen) else {
            return Replaced::Changed;
        };
        let old: Vec<Key> = before.keys().collect();
        let new: Vec<Key> = next.keys().collect();
        let fresh = || new.iter().filter(|key| !old.contains(key)).copied();
        for key in fresh() {
            self.enter(key, id);
        }
        let mut shard = self.shard(id).lock();
        let swapped = match shard.get_mut(&id) {
            Some(current) if current.version == seen => {
                *current = Arc::clone(next);
                true
            }
            _ => false,
        };
        drop(shard);
        if !swapped {
            let kept = self.read(id);
            for key in fresh() {
                // The one that was faster may have entered the same.
                if kept.as_ref().is_none_or(|kept| !kept.keys().any(|other| other == key)) {
                    self.strike(key, id);
                }
            }
            return Replaced::Changed;
        }
        for key in old.iter().filter(|key| !new.contains(key)) {
            self.strike(*key, id);
        }
        if before.state == State::Pending && next.state != State::Pending {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
        if next.deadline != before.deadline {
            self.wheel.lock().add(next.deadline, id);
        }
        if next.state.is_final() && !before.state.is_final() {
            self.note_end(id, next.state);
        }
        Replaced::Done
    }

    fn note_end(&self, id: LoginId, state: State) {
        let mut ended = self.ended.lock();
        let list = if state == State::Consumed { &mut ended.consumed } else { &mut ended.others };
        list.push_back(id);
        let forgotten = if list.len() > self.most_ended { list.pop_front() } else { None };
        drop(ended);
        if let Some(id) = forgotten {
            self.take_out(id);
        }
    }
}

impl Store for MemoryStore {
    async fn insert(&self, attempt: Arc<Attempt>) -> Result<Inserted, StoreError> {
        let (id, deadline) = (attempt.id, attempt.deadline);
        let keys: Vec<Key> = attempt.keys().collect();
        for (index, key) in keys.iter().enumerate() {
            if !self.enter(*key, id) {
                for key in &keys[..index] {
                    self.strike(*key, id);
                }
                return Ok(Inserted::Clash);
            }
        }
        self.shard(id).lock().insert(id, attempt);
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.wheel.lock().add(deadline, id);
        Ok(Inserted::New)
    }

    async fn get(&self, id: LoginId) -> Result<Option<Arc<Attempt>>, StoreError> {
        Ok(self.read(id))
    }

    async fn find(&self, key: Key) -> Result<Option<Arc<Attempt>>, StoreError> {
        let id = self.keys_of(&key).lock().get(&key).copied();
        // A key that is on its way in or out does not speak for the attempt; the attempt does.
        Ok(id.and_then(|id| self.read(id)).filter(|attempt| attempt.keys().any(|own| own == key)))
    }

    async fn replace(&self, seen: u64, next: Arc<Attempt>) -> Result<Replaced, StoreError> {
        Ok(self.swap(seen, &next))
    }

    async fn remove(&self, id: LoginId) -> Result<(), StoreError> {
        self.take_out(id);
        Ok(())
    }

    async fn due(&self, now: Now, most: usize) -> Result<Vec<LoginId>, StoreError> {
        Ok(self.wheel.lock().due(now, most))
    }

    async fn pending(&self) -> Result<usize, StoreError> {
        Ok(self.pending.load(Ordering::Relaxed))
    }
}
