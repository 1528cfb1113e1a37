//! Who is told when a login takes a step.
//!
//! Connections that watch are told by whoever took the step, with one write each; requests that wait are woken. Both
//! are forgotten when they go or the login ends, and a login has at most [`MOST`] connections: the oldest makes room.
//!
//! Steps may be told by several threads at once, and a connection that just came looks for itself. A [`Watcher`] lets
//! each version through once and none after a later one; its lock is held while its connection is written to.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use doorbell_login::{Attempt, LoginId, View};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::shown;
use crate::io::Connection;

/// Connections that may watch one login: a few tabs and those that are about to be missed.
const MOST: usize = 8;
const SHARDS: usize = 32;

/// See the module's header.
#[derive(Debug)]
pub(super) struct Watchers {
    logins: Vec<Mutex<HashMap<LoginId, Watched>>>,
    connections: Mutex<HashMap<u64, LoginId>>,
}

/// A connection that is told of a login.
#[derive(Debug)]
pub(super) struct Watcher {
    connection: Weak<Connection>,
    /// The least version that it may still be told.
    next: Mutex<u64>,
}

impl Watcher {
    /// Tells it, unless it was told this version or a later one.
    pub(super) fn tell(&self, version: u64, envelope: &[u8]) {
        let Some(connection) = self.connection.upgrade() else { return };
        let mut next = self.next.lock();
        if version >= *next {
            *next = version + 1;
            connection.tell_login(envelope);
        }
    }

    /// It asked once more, so it may be told once more what it was told last.
    fn again(&self) {
        let mut next = self.next.lock();
        *next = next.saturating_sub(1);
    }

    fn is_of(&self, connection: &Connection) -> bool {
        std::ptr::eq(self.connection.as_ptr(), connection)
    }
}

#[derive(Debug, Default)]
struct Watched {
    watchers: Vec<Arc<Watcher>>,
    stepped: Arc<Notify>,
    waiting: usize,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { logins: (0..SHARDS).map(|_| Mutex::default()).collect(), connections: Mutex::default() }
    }
}

impl Watchers {
    fn shard(&self, id: LoginId) -> &Mutex<HashMap<LoginId, Watched>> {
        &self.logins[usize::from(id.as_bytes()[2]) % SHARDS]
    }

    /// Has a connection told of a login, and of no other; and whether that is new.
    pub(super) fn add(&self, id: LoginId, connection: &Arc<Connection>) -> (Arc<Watcher>, bool) {
        let before = self.connections.lock().insert(connection.id().as_u64(), id);
        connection.note_watching();
        if let Some(before) = before.filter(|before| *before != id) {
            self.take_out(before, connection);
        }
        let mut logins = self.shard(id).lock();
        let watched = logins.entry(id).or_default();
        if let Some(watcher) = watched.watchers.iter().find(|watcher| watcher.is_of(connection)) {
            let watcher = Arc::clone(watcher);
            drop(logins);
            watcher.again();
            return (watcher, false);
        }
        watched.watchers.retain(|other| other.connection.strong_count() > 0);
        if watched.watchers.len() >= MOST {
            watched.watchers.remove(0);
        }
        let watcher = Arc::new(Watcher { connection: Arc::downgrade(connection), next: Mutex::new(0) });
        watched.watchers.push(Arc::clone(&watcher));
        (watcher, before != Some(id))
    }

    /// Forgets a connection; the login it watched.
    pub(super) fn remove(&self, connection: &Connection) -> Option<LoginId> {
        let id = self.connections.lock().remove(&connection.id().as_u64())?;
        self.take_out(id, connection);
        Some(id)
    }

    fn take_out(&self, id: LoginId, connection: &Connection) {
        let mut logins = self.shard(id).lock();
        if let Some(watched) = logins.get_mut(&id) {
            watched.watchers.retain(|watcher| !watcher.is_of(connection));
            if watched.is_idle() {
                logins.remove(&id);
            }
        }
    }

    /// A place among those who wait for steps of a login.
    pub(super) fn waiter(&self, id: LoginId) -> Waiter<'_> {
        let mut logins = self.shard(id).lock();
        let watched = logins.entry(id).or_default();
        watched.waiting += 1;
        Waiter { watchers: self, id, stepped: Arc::clone(&watched.stepped) }
    }

    /// Tells everybody of a step.
    pub(super) fn tell(&self, attempt: &Attempt, view: &dyn Fn() -> View) {
        let mut logins = self.shard(attempt.id).lock();
        let Some(watched) = logins.get_mut(&attempt.id) else { return };
        watched.stepped.notify_waiters();
        let watchers = watched.watchers.clone();
        drop(logins);
        if watchers.is_empty() {
            return;
        }
        let envelope = shown::envelope(&view());
        for watcher in watchers {
            watcher.tell(attempt.version, &envelope);
        }
    }
}

impl Watched {
    const fn is_idle(&self) -> bool {
        self.waiting == 0 && self.watchers.is_empty()
    }
}

/// Waits for steps of a login; leaves on drop.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    watchers: &'a Watchers,
    id: LoginId,
    stepped: Arc<Notify>,
}

impl Waiter<'_> {
    /// The next step from now on, also if nobody waits for it yet.
    pub(super) fn stepped(&self) -> std::pin::Pin<Box<Notified<'_>>> {
        let mut stepped = Box::pin(self.stepped.notified());
        stepped.as_mut().enable();
        stepped
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut logins = self.watchers.shard(self.id).lock();
        if let Some(watched) = logins.get_mut(&self.id) {
            watched.waiting -= 1;
            if watched.is_idle() {
                logins.remove(&self.id);
            }
        }
    }
}
