//! Who is told when a login takes a step.
//!
//! Connections that watch are told by whoever took the step, with one write each; requests that wait are woken. Both
//! are forgotten when they go or the login ends, and a login has at most [`MOST`] connections: the oldest makes room.

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

#[derive(Debug, Default)]
struct Watched {
    connections: Vec<Weak<Connection>>,
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

    /// Has a connection told of a login, and of no other; whether that is new.
    pub(super) fn add(&self, id: LoginId, connection: &Arc<Connection>) -> bool {
        let before = self.connections.lock().insert(connection.id().as_u64(), id);
        connection.note_watching();
        if before == Some(id) {
            return false;
        }
        if let Some(before) = before {
            self.take_out(before, connection);
        }
        let mut logins = self.shard(id).lock();
        let watched = logins.entry(id).or_default();
        watched.connections.retain(|other| other.strong_count() > 0);
        if watched.connections.len() >= MOST {
            watched.connections.remove(0);
        }
        watched.connections.push(Arc::downgrade(connection));
        true
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
            watched.connections.retain(|other| !std::ptr::eq(other.as_ptr(), connection));
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
        let connections: Vec<_> = watched.connections.iter().filter_map(Weak::upgrade).collect();
        drop(logins);
        if connections.is_empty() {
            return;
        }
        let envelope = shown::envelope(&view());
        for connection in connections {
            connection.tell_login(&envelope);
        }
    }
}

impl Watched {
    const fn is_idle(&self) -> bool {
        self.waiting == 0 && self.connections.is_empty()
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
