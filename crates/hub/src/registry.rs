//! The registry of uids and the fan-out: one table for all threads.
//!
//! The table is split into shards by the uid's hash; a shard's lock is held for a look-up and never while a socket is
//! written. An entry is two words: the uid lives in the connection itself, so an idle bound connection costs the
//! table about 28 bytes. The hash is keyed (SipHash with a random key), because clients choose uids.
//!
//! Order: pushes to one uid reach each of its connections in the order they were accepted. One connection orders by
//! its own lock; several share an order lock, which nobody else's push ever takes.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorbell_protocol::Uid;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::Mutex;

use crate::groups::Groups;
use crate::{GroupError, Message, Sent};

/// A power of two. Look-ups hold a lock for tens of nanoseconds: 64 keep any number of cores from meeting there.
const SHARDS: usize = 64;

/// One connection, as the hub sees it.
pub trait Outbox: Send + Sync + 'static {
    /// The uid it is bound to. Must be set before [`Hub::bind`] and never change.
    fn uid(&self) -> Option<&Uid>;

    /// Takes a message: writes or queues it within the connection's bound, or refuses. Never blocks.
    fn deliver(&self, message: &Message<'_>) -> Sent;
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivered {
    /// Connections the message was meant for.
    pub connections: usize,
    /// Connections whose socket or bounded queue has it.
    pub written: usize,
}

/// Why a connection could not be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The uid has as many connections as it may have.
    #[error("bind: the uid already has {limit} connections")]
    TooMany {
        /// `limits.connections_per_uid`
        limit: usize,
    },
    /// The connection names no uid.
    #[error("bind: the connection names no uid")]
    Unnamed,
}

/// Every bound connection by uid, and the groups.
#[derive(Debug)]
pub struct Hub<O> {
    hasher: RandomState,
    shards: Box<[Mutex<HashTable<User<O>>>]>,
    connections: AtomicUsize,
    users: AtomicUsize,
    groups: Groups,
}

/// The connections of one uid. Never empty.
#[derive(Debug)]
enum User<O> {
    One(Arc<O>),
    Many(Arc<Many<O>>),
}

#[derive(Debug)]
struct Many<O> {
    connections: Box<[Arc<O>]>,
    /// Held while a push goes to all of them, so that every tab sees the same order. Shared by the successors of
    /// this list, because a push may still be using an older one.
    order: Arc<Mutex<()>>,
}

impl<O: Outbox> Default for Hub<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: Outbox> Hub<O> {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            connections: AtomicUsize::new(0),
            users: AtomicUsize::new(0),
            groups: Groups::default(),
        }
    }

    /// Makes `connection` reachable under its uid.
    ///
    /// # Errors
    /// [`BindError`]; the connection is then not reachable.
    pub fn bind(&self, connection: &Arc<O>, limit: usize) -> Result<(), BindError> {
        let uid = connection.uid().ok_or(BindError::Unnamed)?;
        let (hash, shard) = self.locate(uid.as_str());
        let mut table = shard.lock();
        match table.entry(hash, |user| user.is(uid.as_str()), |user| self.hash(user.uid())) {
            Entry::Vacant(vacant) => {
                if limit == 0 {
                    return Err(BindError::TooMany { limit });
                }
                vacant.insert(User::One(Arc::clone(connection)));
                self.users.fetch_add(1, Ordering::Relaxed);
            }
            Entry::Occupied(mut occupied) => {
                let user = occupied.get_mut();
                if user.connections().len() >= limit {
                    return Err(BindError::TooMany { limit });
                }
                *user = user.with(connection);
            }
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes `connection` unreachable; its uid's other connections stay. Says whether it was reachable.
    pub fn unbind(&self, connection: &Arc<O>) -> bool {
        let Some(uid) = connection.uid() else { return false };
        let (hash, shard) = self.locate(uid.as_str());
        let mut table = shard.lock();
        let Ok(mut occupied) = table.find_entry(hash, |user| user.is(uid.as_str())) else { return false };
        let user = occupied.get_mut();
        if !user.connections().iter().any(|other| Arc::ptr_eq(other, connection)) {
            return false;
        }
        match user.without(connection) {
            Some(rest) => *user = rest,
            None => {
                drop(occupied.remove());
                self.users.fetch_sub(1, Ordering::Relaxed);
                shrink(&mut table, |user| self.hash(user.uid()));
            }
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// Sends `message` to every connection of `uid`.
    pub fn push(&self, uid: &str, message: &Message<'_>) -> Delivered {
        self.find(uid).map_or_else(Delivered::default, |user| user.deliver(message))
    }

    /// Sends `message` to every bound connection.
    ///
    /// Connections that bind or close meanwhile may or may not be among them.
    pub fn broadcast(&self, message: &Message<'_>) -> Delivered {
        let mut delivered = Delivered::default();
        let mut users: Vec<User<O>> = Vec::new();
        for shard in &self.shards {
            users.extend(shard.lock().iter().map(User::share));
            for user in users.drain(..) {
                delivered += user.deliver(message);
            }
        }
        delivered
    }

    /// The connections of `uid`, oldest first.
    #[must_use]
    pub fn connections_of(&self, uid: &str) -> Vec<Arc<O>> {
        self.find(uid).map_or_else(Vec::new, |user| user.connections().to_vec())
    }

    /// How many connections are bound.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many uids have at least one connection.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.load(Ordering::Relaxed)
    }

    /// Makes `uid` a member of `group`, whether or not it is connected. Says whether it was not yet.
    ///
    /// # Errors
    /// [`GroupError`] at the bounds.
    pub fn join(&self, group: &str, uid: &Uid) -> Result<bool, GroupError> {
        self.groups.join(group, uid)
    }

    /// Ends the membership of `uid` in `group`. Says whether there was one.
    pub fn leave(&self, group: &str, uid: &str) -> bool {
        self.groups.leave(group, uid)
    }

    /// Sends `message` to every connection of every member of `group`.
    pub fn push_group(&self, group: &str, message: &Message<'_>) -> Delivered {
        let mut delivered = Delivered::default();
        for uid in self.groups.members(group) {
            delivered += self.push(uid.as_str(), message);
        }
        delivered
    }

    fn find(&self, uid: &str) -> Option<User<O>> {
        let (hash, shard) = self.locate(uid);
        let table = shard.lock();
        table.find(hash, |user| user.is(uid)).map(User::share)
    }

    fn hash(&self, uid: &str) -> u64 {
        self.hasher.hash_one(uid)
    }

    fn locate(&self, uid: &str) -> (u64, &Mutex<HashTable<User<O>>>) {
        let hash = self.hash(uid);
        // The table uses the low bits and the top seven; the shard comes from bits between.
        let index = (hash >> 32) as usize % SHARDS;
        (hash, &self.shards[index])
    }
}

/// Gives memory back after a crowd has left; the factor keeps a table that breathes from reallocating each time.
fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if table.capacity() > 64 && table.len() * 4 < table.capacity() {
        table.shrink_to(table.len() * 2, hash);
    }
}

impl<O: Outbox> User<O> {
    fn connections(&self) -> &[Arc<O>] {
        match self {
            Self::One(connection) => std::slice::from_ref(connection),
            Self::Many(many) => &many.connections,
        }
    }

    fn uid(&self) -> &str {
        self.connections().first().and_then(|connection| connection.uid()).map_or("", Uid::as_str)
    }

    fn is(&self, uid: &str) -> bool {
        self.uid() == uid
    }

    fn share(&self) -> Self {
        match self {
            Self::One(connection) => Self::One(Arc::clone(connection)),
            Self::Many(many) => Self::Many(Arc::clone(many)),
        }
    }

    fn with(&self, connection: &Arc<O>) -> Self {
        let connections = self.connections().iter().chain([connection]).cloned().collect();
        let order = match self {
            Self::One(_) => Arc::default(),
            Self::Many(many) => Arc::clone(&many.order),
        };
        Self::Many(Arc::new(Many { connections, order }))
    }

    fn without(&self, connection: &Arc<O>) -> Option<Self> {
        let Self::Many(many) = self else { return None };
        let rest: Box<[_]> =
            many.connections.iter().filter(|other| !Arc::ptr_eq(other, connection)).cloned().collect();
        match &*rest {
            [] => None,
            [last] => Some(Self::One(Arc::clone(last))),
            _ => Some(Self::Many(Arc::new(Many { connections: rest, order: Arc::clone(&many.order) }))),
        }
    }

    fn deliver(&self, message: &Message<'_>) -> Delivered {
        let _in_order = match self {
            Self::One(_) => None,
            Self::Many(many) => Some(many.order.lock()),
        };
        let connections = self.connections();
        let written =
            connections.iter().filter(|connection| connection.deliver(message) == Sent::Written).count();
        Delivered { connections: connections.len(), written }
    }
}

impl std::ops::AddAssign for Delivered {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.written += other.written;
    }
}
