//! The registry: who is connected under which uid, and who is in which group. One table for all threads.
//!
//! This file owns the [`Hub`] and whatever changes who is in it: a connection binds and unbinds, uids come and go,
//! members join and leave. What is done with the registry has a file each: messages go out in `fan_out.rs`, what has to
//! wait is kept in `mailboxes.rs`; how the registry is stored is `table.rs`'s.
//!
//! The hash is keyed (SipHash with a random key), because clients choose uids. Locks are taken in the order mailbox,
//! shard; no two of a kind at once.

mod fan_out;
mod mailboxes;
mod table;
mod users;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use doorbell_protocol::Uid;
use doorbell_system::memory::HugePages;
use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};

pub use self::fan_out::{AHEAD, Delivered, Post, TOGETHER};
use self::table::{SHARDS, Shard, User, shard_of};
use self::users::{Removed, Users};
use crate::groups::Groups;
use crate::mailbox::Kept;
use crate::presence::{Noted, Transitions};
use crate::{GroupError, Message, Now, Retention, Sent, Trail};

/// One connection, as the hub sees it.
pub trait Outbox: Send + Sync + 'static {
    /// The uid it is bound to. Must be set before [`Hub::bind`] and never change.
    fn uid(&self) -> Option<&Uid>;

    /// Takes a message: writes or queues it within the connection's bound, or refuses. Never blocks.
    fn deliver(&self, message: &Message<'_>) -> Sent;

    /// Delivers each message to its connection, as [`Outbox::deliver`] would one after the other, and says in it what became
    /// of it. What goes to one connection keeps its order; between connections there is none.
    fn deliver_each(deliveries: &mut [Delivery<'_, Self>])
    where
        Self: Sized,
    {
        for delivery in deliveries {
            delivery.sent = delivery.connection.deliver(delivery.message);
        }
    }

    /// For a connection that can resume: the number up to which it was sent everything, as its greeting said and each
    /// delivery since, or [`Outbox::settle`]. `None` for one that cannot.
    fn seen(&self) -> Option<u64> {
        None
    }

    /// Takes note that nothing up to this number is owed to it any more: it was sent it, or was told that it is gone.
    /// [`Outbox::seen`] is at least that from now on.
    fn settle(&self, _seq: u64) {}

    /// For a connection that takes nothing more because its page is about to come back on another, as a long-poll does
    /// that was answered: how long it counts as there. Zero for any other.
    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    /// What the trail calls it.
    fn number(&self) -> u64 {
        0
    }
}

/// One of several deliveries that go together ([`Outbox::deliver_each`]).
#[derive(Debug)]
pub struct Delivery<'a, O> {
    /// Who is to get it.
    pub connection: &'a Arc<O>,
    /// What it gets.
    pub message: &'a Message<'a>,
    /// What became of it.
    pub sent: Sent,
}

/// What a connection that binds is to be caught up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// What nobody was sent yet.
    Unsent,
    /// Everything after this number, of this hub's numbers.
    After(u64),
    /// It had a place in a memory that is gone; what nobody was sent yet.
    Lost,
    /// Nothing: it only wants what comes from now on.
    Nothing,
}

/// What a connection is told before it gets its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// The number after which its messages begin.
    pub seq: u64,
    /// Whether it gets everything after the place where it left off.
    pub recovered: bool,
    /// Whether it is caught up before it is reachable. If not, whoever hears the greeting may think it reachable, so it
    /// should leave only when [`Hub::bind`] has returned.
    pub catching_up: bool,
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
    /// After it was greeted and before it was reachable, something came that it was to get and had to be given up
    /// again. It should come back and be told.
    #[error("bind: overtaken by what could not be kept")]
    Overtaken,
}

/// Every bound connection by uid, and the groups.
#[derive(Debug)]
pub struct Hub<O> {
    /// Which memory of messages this is: another one for each hub.
    epoch: String,
    hasher: RandomState,
    shards: Box<[Mutex<Shard<O>>]>,
    retention: RwLock<Retention>,
    /// At least the `last` of every mailbox that was ever dropped.
    horizon: AtomicU64,
    /// Bytes of all mailboxes.
    memory: AtomicUsize,
    /// Messages mailboxes gave up that nobody had been sent.
    lost: AtomicU64,
    /// Messages that waited only for a page that lingers.
    lingered: AtomicU64,
    /// Where the next search for memory begins.
    relief: AtomicUsize,
    connections: AtomicUsize,
    users: AtomicUsize,
    /// Whether transitions are noted.
    watched: AtomicBool,
    groups: Groups,
    trail: Trail,
    huge_pages: HugePages,
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
        let hasher = RandomState::new();
        Self {
            // Keyed by the system's randomness; it need not be a secret, only different.
            epoch: format!("{:016x}", hasher.hash_one(std::process::id())),
            hasher,
            shards: (0..SHARDS)
                .map(|_| {
                    let (users, mailboxes) = (Users::new(), HashTable::new());
                    Mutex::new(Shard { users, mailboxes, noted: Noted::default() })
                })
                .collect(),
            retention: RwLock::default(),
            horizon: AtomicU64::new(0),
            memory: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            lingered: AtomicU64::new(0),
            relief: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            users: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            groups: Groups::default(),
            trail: Trail::default(),
            huge_pages: HugePages::default(),
        }
    }

    /// What became of messages. Until it is given memory it follows none.
    #[must_use]
    pub const fn trail(&self) -> &Trail {
        &self.trail
    }

    /// The name of this hub's memory, to which its numbers belong.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Makes `connection` reachable under its uid, caught up as it asks: `greet` is called once, then what it missed
    /// is delivered to it, then it is reachable, and nothing comes between or twice.
    ///
    /// # Errors
    /// [`BindError`]; the connection is then not reachable, and was not greeted unless it lost a race for the last
    /// place or was overtaken.
    pub fn bind(
        &self,
        connection: &Arc<O>,
        limit: usize,
        catch_up: CatchUp,
        now: Now,
        mut greet: impl FnMut(Greeting),
    ) -> Result<(), BindError> {
        let uid = connection.uid().ok_or(BindError::Unnamed)?;
        let (hash, shard) = self.locate(uid.as_str());
        if shard.lock().users.connections(hash, uid.as_str()).len() >= limit {
            return Err(BindError::TooMany { limit });
        }
        let mut greeted = None;
        loop {
            let (found, siblings) = {
                let shard = shard.lock();
                (shard.mailbox(hash, uid.as_str()), shard.users.share(hash, uid.as_str()))
            };
            let Some(mailbox) = found else {
                greeted = greeted.or_else(|| {
                    let greeting = self.greeting_without_mailbox(siblings.as_ref(), catch_up);
                    greet(greeting);
                    Some(greeting.seq)
                });
                let mut shard = shard.lock();
                if shard.mailbox(hash, uid.as_str()).is_some() {
                    // A message came meanwhile, and its mailbox may hold it for this connection.
                    continue;
                }
                return self.admit(&mut shard, hash, connection, limit);
            };
            let mut mailbox = mailbox.lock();
            if mailbox.dropped {
                continue;
            }
            let expired = mailbox.expire(now, &self.trail);
            self.account(expired);
            // What has gone is gone, but of what is kept nothing may be missing: also not what was sent meanwhile, to a
            // connection that was dead already.
            let asked = match catch_up {
                CatchUp::After(seq) if seq <= mailbox.last => Some(seq),
                CatchUp::Nothing => Some(mailbox.last),
                _ => None,
            };
            let recovered = match catch_up {
                CatchUp::After(seq) => (mailbox.floor..=mailbox.last).contains(&seq),
                CatchUp::Lost => false,
                CatchUp::Unsent | CatchUp::Nothing => true,
            };
            if greeted.is_some_and(|seq| seq < mailbox.floor) && connection.seen().is_some() {
                return Err(BindError::Overtaken);
            }
            let after = greeted.or(asked);
            let missed = |kept: &Kept| after.map_or(!kept.written, |after| kept.seq > after);
            if greeted.is_none() {
                let last = mailbox.last;
                let before = mailbox.kept().find(|kept| missed(kept)).map_or(last, |kept| kept.seq - 1);
                let seq = asked.filter(|_| recovered).unwrap_or(before);
                greet(Greeting { seq, recovered, catching_up: true });
            }
            let mut settled = mailbox.floor;
            for kept in mailbox.kept() {
                if missed(kept) {
                    let message = kept.message(&self.epoch);
                    let sent = connection.deliver(&message);
                    self.trail.note_sent(&message, connection.number(), sent, now);
                    kept.written |= sent == Sent::Written;
                } else if kept.is_owed() {
                    settled = settled.max(kept.seq);
                }
            }
            // What it was told is gone, and what it is not owed: other pages may be, so once the mailbox is dropped it must
            // not stand for having missed none of it.
            connection.settle(settled);
            mailbox.touch(now, &self.retention.read());
            return self.admit(&mut shard.lock(), hash, connection, limit);
        }
    }

    /// Without a mailbox nothing waits. Whether something was missed is known only while another connection that can
    /// resume is there, typically the one this page has just lost and the server has not: since that one was greeted
    /// nothing was sent that could have waited.
    fn greeting_without_mailbox(&self, siblings: Option<&User<O>>, catch_up: CatchUp) -> Greeting {
        let horizon = self.horizon.load(Ordering::Acquire);
        match (catch_up, siblings.filter(|user| user.is_sequenced())) {
            (CatchUp::Unsent | CatchUp::Nothing, _) => {
                Greeting { seq: horizon, recovered: true, catching_up: false }
            }
            (CatchUp::After(seq), Some(user)) => {
                let (floor, last) = user.numbers(horizon);
                let recovered = (floor..=last).contains(&seq);
                Greeting { seq: if recovered { seq } else { horizon }, recovered, catching_up: false }
            }
            (CatchUp::After(_), None) | (CatchUp::Lost, _) => {
                Greeting { seq: horizon, recovered: false, catching_up: false }
            }
        }
    }

    fn admit(
        &self,
        shard: &mut Shard<O>,
        hash: u64,
        connection: &Arc<O>,
        limit: usize,
    ) -> Result<(), BindError> {
        let uid = connection.uid().map_or("", Uid::as_str);
        let there = shard.users.connections(hash, uid).len();
        if there >= limit {
            return Err(BindError::TooMany { limit });
        }
        shard.users.add(hash, connection, |uid| self.hash(uid));
        if there == 0 {
            self.users.fetch_add(1, Ordering::Relaxed);
            if self.watched.load(Ordering::Relaxed)
                && let Some(uid) = connection.uid()
            {
                shard.noted.note(uid, true);
            }
        }
        let connections = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.huge_pages.grown_to(connections);
        Ok(())
    }

    /// Makes `connection` unreachable; its uid's other connections stay. Says whether it was reachable.
    pub fn unbind(&self, connection: &Arc<O>, now: Now) -> bool {
        let Some(uid) = connection.uid() else { return false };
        // While it can still be found, so that no push finds neither the connection nor that its page lingers.
        self.let_linger(connection, uid, now);
        let (hash, shard) = self.locate(uid.as_str());
        let mut shard = shard.lock();
        let horizon = self.horizon.load(Ordering::Acquire);
        let others = match shard.users.remove(hash, connection, |uid| self.hash(uid)) {
            Removed::Absent => return false,
            Removed::Rest(rest) => Some(rest.numbers(horizon)),
            Removed::Last => {
                self.users.fetch_sub(1, Ordering::Relaxed);
                if self.watched.load(Ordering::Relaxed) {
                    shard.noted.note(uid, false);
                }
                None
            }
        };
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let Some(seen) = connection.seen() else { return true };
        match shard.mailbox(hash, uid.as_str()) {
            Some(mailbox) => {
                drop(shard);
                mailbox.lock().touch(now, &self.retention.read());
            }
            None => {
                // It may come back, and must then be told whether it missed something.
                let (floor, last) = others.unwrap_or((seen, horizon));
                self.make_mailbox(&mut shard, hash, uid, (floor.min(seen), last.max(seen)), now);
                drop(shard);
                self.relieve(now);
            }
        }
        true
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

    /// Whether uids that come and go are noted for [`Hub::transitions`]; off at first. When it is turned off, what was
    /// noted and not fetched is forgotten.
    pub fn watch(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
        if !watched {
            for shard in &self.shards {
                shard.lock().noted.clear();
            }
        }
    }

    /// Who has come and gone since the last call.
    #[must_use]
    pub fn transitions(&self) -> Transitions {
        let mut transitions = Transitions::default();
        for shard in &self.shards {
            shard.lock().noted.fetch(&mut transitions);
        }
        transitions
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

    fn find(&self, uid: &str) -> Option<User<O>> {
        let (hash, shard) = self.locate(uid);
        shard.lock().users.share(hash, uid)
    }

    fn hash(&self, uid: &str) -> u64 {
        self.hasher.hash_one(uid)
    }

    fn locate(&self, uid: &str) -> (u64, &Mutex<Shard<O>>) {
        let hash = self.hash(uid);
        (hash, &self.shards[shard_of(hash)])
    }
}
