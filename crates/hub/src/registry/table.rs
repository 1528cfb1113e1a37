//! The table of the registry: who is in it, in shards.
//!
//! A shard is chosen by the uid's hash; its lock is held for a look-up and never while a socket is written. What a look-up
//! finds is shared out of the shard, so that whoever uses it holds no lock of the table. The uid lives in the connection
//! itself: an entry of `users.rs` is a pointer and a tag, 11 to 23 bytes of table for an idle bound connection.

use std::sync::Arc;
use std::time::Duration;

use doorbell_protocol::Uid;
use doorbell_system::memory::prefetch_shared;
use hashbrown::HashTable;
use parking_lot::Mutex;

use super::Outbox;
use super::users::Users;
use crate::mailbox::Mailbox;
use crate::presence::Noted;

/// A power of two. Look-ups hold a lock for tens of nanoseconds: 64 keep any number of cores from meeting there.
pub(super) const SHARDS: usize = 64;

/// The table uses the low bits and the top seven; the shard comes from bits between.
pub(super) const fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

#[derive(Debug)]
pub(super) struct Shard<O> {
    pub(super) users: Users<O>,
    pub(super) mailboxes: HashTable<Labelled>,
    pub(super) noted: Noted,
}

#[derive(Debug)]
pub(super) struct Labelled {
    pub(super) uid: Uid,
    pub(super) mailbox: Arc<Mutex<Mailbox>>,
}

/// The connections of one uid. Never empty.
#[derive(Debug)]
pub(super) enum User<O> {
    One(Arc<O>),
    Many(Arc<Many<O>>),
}

#[derive(Debug)]
pub(super) struct Many<O> {
    connections: Box<[Arc<O>]>,
    /// Held while a push goes to all of them, so that every tab sees the same order. Shared by the successors of
    /// this list, because a push may still be using an older one.
    pub(super) order: Arc<Mutex<()>>,
}

impl<O: Outbox> Shard<O> {
    pub(super) fn mailbox(&self, hash: u64, uid: &str) -> Option<Arc<Mutex<Mailbox>>> {
        self.mailboxes.find(hash, |it| it.uid.as_str() == uid).map(|it| Arc::clone(&it.mailbox))
    }
}

impl<O: Outbox> User<O> {
    /// Whether some connection can resume.
    pub(super) fn is_sequenced(&self) -> bool {
        self.connections().iter().any(|connection| connection.seen().is_some())
    }

    /// How long one of its pages lingers at most.
    pub(super) fn linger(&self) -> Duration {
        self.connections().iter().map(|connection| connection.linger()).max().unwrap_or_default()
    }

    /// The floor and the last number of a mailbox made while these connections are there; see [`crate::mailbox`].
    pub(super) fn numbers(&self, horizon: u64) -> (u64, u64) {
        let seen = || self.connections().iter().filter_map(|connection| connection.seen());
        (seen().min().unwrap_or(horizon), seen().max().unwrap_or(horizon).max(horizon))
    }

    pub(super) fn connections(&self) -> &[Arc<O>] {
        match self {
            Self::One(connection) => std::slice::from_ref(connection),
            Self::Many(many) => &many.connections,
        }
    }

    /// Where its first connection lies in memory.
    pub(super) fn place(&self) -> usize {
        self.connections().first().map_or(0, |connection| Arc::as_ptr(connection).addr())
    }

    /// Asks for the memory in which its first connection lies, where that can be told without reading any.
    pub(super) fn prefetch(&self) {
        match self {
            Self::One(connection) => prefetch_shared(connection),
            Self::Many(many) => prefetch_shared(many),
        }
    }

    pub(super) fn uid(&self) -> &str {
        uid_of_first(self.connections())
    }

    pub(super) fn share(&self) -> Self {
        match self {
            Self::One(connection) => Self::One(Arc::clone(connection)),
            Self::Many(many) => Self::Many(Arc::clone(many)),
        }
    }

    pub(super) fn with(&self, connection: &Arc<O>) -> Self {
        let connections = self.connections().iter().chain([connection]).cloned().collect();
        let order = match self {
            Self::One(_) => Arc::default(),
            Self::Many(many) => Arc::clone(&many.order),
        };
        Self::Many(Arc::new(Many { connections, order }))
    }

    pub(super) fn without(&self, connection: &Arc<O>) -> Option<Self> {
        let Self::Many(many) = self else { return None };
        let rest: Box<[_]> =
            many.connections.iter().filter(|other| !Arc::ptr_eq(other, connection)).cloned().collect();
        match &*rest {
            [] => None,
            [last] => Some(Self::One(Arc::clone(last))),
            _ => Some(Self::Many(Arc::new(Many { connections: rest, order: Arc::clone(&many.order) }))),
        }
    }
}

impl<O: Outbox> Many<O> {
    pub(super) fn connections(&self) -> &[Arc<O>] {
        &self.connections
    }

    pub(super) fn uid(&self) -> &str {
        uid_of_first(&self.connections)
    }

    pub(super) fn is(&self, uid: &str) -> bool {
        self.uid() == uid
    }
}

fn uid_of_first<O: Outbox>(connections: &[Arc<O>]) -> &str {
    connections.first().and_then(|connection| connection.uid()).map_or("", Uid::as_str)
}

/// Gives memory back after a crowd has left; the factor keeps a table that breathes from reallocating each time.
pub(super) fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if table.capacity() > 64 && table.len() * 4 < table.capacity() {
        table.shrink_to(table.len() * 2, hash);
    }
}
