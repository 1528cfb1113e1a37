//! The registry of uids and the fan-out: one table for all threads.
//!
//! The table is split into shards by the uid's hash; a shard's lock is held for a look-up and never while a socket is
//! written. An entry is two words: the uid lives in the connection itself, so an idle bound connection costs the
//! table about 28 bytes. The hash is keyed (SipHash with a random key), because clients choose uids.
//!
//! Order: pushes to one uid reach each of its connections in the order they were accepted. One connection orders by
//! its own lock; several share an order lock; a uid with a mailbox has the mailbox's. Nobody else's push ever takes
//! one of these. Locks are taken in the order mailbox, shard; no two of a kind at once.

mod ahead;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use doorbell_protocol::Uid;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::{Mutex, MutexGuard, RwLock};

pub use self::ahead::AHEAD;
use crate::groups::Groups;
use crate::mailbox::{Change, Kept, Mailbox};
use crate::presence::{Noted, Transitions};
use crate::{Body, GroupError, Mark, Message, Now, Retention, Sent, Step, Trail};

/// A power of two. Look-ups hold a lock for tens of nanoseconds: 64 keep any number of cores from meeting there.
const SHARDS: usize = 64;

/// One connection, as the hub sees it.
pub trait Outbox: Send + Sync + 'static {
    /// The uid it is bound to. Must be set before [`Hub::bind`] and never change.
    fn uid(&self) -> Option<&Uid>;

    /// Takes a message: writes or queues it within the connection's bound, or refuses. Never blocks.
    fn deliver(&self, message: &Message<'_>) -> Sent;

    /// For a connection that can resume: the number up to which it was sent everything, as its greeting said and each
    /// delivery since. `None` for one that cannot.
    fn seen(&self) -> Option<u64> {
        None
    }

    /// For a connection that takes nothing more because its page is about to come back on another, as a long-poll does
    /// that was answered: how long it counts as there. Zero for any other.
    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    /// What the trail calls it.
    fn number(&self) -> u64 {
        0
    }

    /// Reads whatever [`Outbox::deliver`] reads first, so that it is in the processor's cache by then; see
    /// [`Hub::look_ahead`].
    fn touch(&self) {
        std::hint::black_box(self.uid().map(|uid| uid.len()));
    }
}

/// A message to a uid.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// What plain connections get: a whole frame.
    pub frame: &'a [u8],
    /// What goes into envelopes.
    pub body: Body<'a>,
    /// How long it may wait for a page; zero is for who is there now, or lingers ([`Outbox::linger`]).
    pub ttl: Duration,
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

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivered {
    /// Connections the message was meant for.
    pub connections: usize,
    /// Connections whose socket or bounded queue has it.
    pub written: usize,
    /// Of those, the ones that can acknowledge it.
    pub sequenced: usize,
    /// Mailboxes that keep it because nobody was there to take it.
    pub held: usize,
    /// Its number in the uid's sequence; 0 when it has none.
    pub seq: u64,
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
}

#[derive(Debug)]
struct Shard<O> {
    users: HashTable<User<O>>,
    mailboxes: HashTable<Labelled>,
    noted: Noted,
}

#[derive(Debug)]
struct Labelled {
    uid: Uid,
    mailbox: Arc<Mutex<Mailbox>>,
}

/// What a mailbox costs without mail.
const EMPTY_MAILBOX: usize = 160;

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
        let hasher = RandomState::new();
        Self {
            // Keyed by the system's randomness; it need not be a secret, only different.
            epoch: format!("{:016x}", hasher.hash_one(std::process::id())),
            hasher,
            shards: (0..SHARDS)
                .map(|_| {
                    let (users, mailboxes) = (HashTable::new(), HashTable::new());
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

    /// Sets how much mailboxes keep from now on.
    pub fn retain(&self, retention: Retention) {
        *self.retention.write() = retention;
    }

    /// Makes `connection` reachable under its uid, caught up as it asks: `greet` is called once, then what it missed
    /// is delivered to it, then it is reachable, and nothing comes between or twice.
    ///
    /// # Errors
    /// [`BindError`]; the connection is then not reachable, and was not greeted unless it lost a race for the last
    /// place.
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
        if shard.lock().connections(hash, uid.as_str()).len() >= limit {
            return Err(BindError::TooMany { limit });
        }
        let mut greeted = None;
        loop {
            let (found, siblings) = {
                let shard = shard.lock();
                (shard.mailbox(hash, uid.as_str()), shard.user(hash, uid.as_str()))
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
            let after = greeted.or(asked);
            let missed = |kept: &Kept| after.map_or(!kept.written, |after| kept.seq > after);
            if greeted.is_none() {
                let last = mailbox.last;
                let before = mailbox.kept().find(|kept| missed(kept)).map_or(last, |kept| kept.seq - 1);
                let seq = asked.filter(|_| recovered).unwrap_or(before);
                greet(Greeting { seq, recovered, catching_up: true });
            }
            for kept in mailbox.kept() {
                if missed(kept) {
                    let message = kept.message(&self.epoch);
                    let sent = connection.deliver(&message);
                    self.trail.note_sent(&message, connection.number(), sent, now);
                    kept.written |= sent == Sent::Written;
                }
            }
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
        match shard.users.entry(hash, |user| user.is(uid), |user| self.hash(user.uid())) {
            Entry::Vacant(vacant) => {
                vacant.insert(User::One(Arc::clone(connection)));
                self.users.fetch_add(1, Ordering::Relaxed);
                if self.watched.load(Ordering::Relaxed)
                    && let Some(uid) = connection.uid()
                {
                    shard.noted.note(uid, true);
                }
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
    pub fn unbind(&self, connection: &Arc<O>, now: Now) -> bool {
        let Some(uid) = connection.uid() else { return false };
        // While it can still be found, so that no push finds neither the connection nor that its page lingers.
        self.let_linger(connection, uid, now);
        let (hash, shard) = self.locate(uid.as_str());
        let mut shard = shard.lock();
        let Ok(mut occupied) = shard.users.find_entry(hash, |user| user.is(uid.as_str())) else {
            return false;
        };
        let user = occupied.get_mut();
        if !user.connections().iter().any(|other| Arc::ptr_eq(other, connection)) {
            return false;
        }
        let rest = user.without(connection);
        let horizon = self.horizon.load(Ordering::Acquire);
        let others = rest.as_ref().map(|rest| rest.numbers(horizon));
        match rest {
            Some(rest) => *user = rest,
            None => {
                drop(occupied.remove());
                self.users.fetch_sub(1, Ordering::Relaxed);
                if self.watched.load(Ordering::Relaxed) {
                    shard.noted.note(uid, false);
                }
                shrink(&mut shard.users, |user| self.hash(user.uid()));
            }
        }
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

    /// Takes note that the page of a connection that is still reachable comes back on another.
    fn let_linger(&self, connection: &Arc<O>, uid: &Uid, now: Now) {
        let linger = connection.linger();
        if linger.is_zero() {
            return;
        }
        let (hash, shard) = self.locate(uid.as_str());
        loop {
            let mailbox = {
                let mut shard = shard.lock();
                if !shard.connections(hash, uid.as_str()).iter().any(|other| Arc::ptr_eq(other, connection)) {
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

    /// Whether a page of `uid` counts as there that has no connection at this moment.
    #[must_use]
    pub fn is_lingering(&self, uid: &str, now: Now) -> bool {
        let (hash, shard) = self.locate(uid);
        let mailbox = shard.lock().mailbox(hash, uid);
        mailbox.is_some_and(|mailbox| mailbox.lock().is_lingering(now))
    }

    /// Sends a message to every connection of `uid`, and keeps it for its `ttl`.
    pub fn push(&self, uid: &str, post: &Post<'_>, now: Now) -> Delivered {
        let (hash, shard) = self.locate(uid);
        let delivered = loop {
            let mailbox = {
                let mut shard = shard.lock();
                let user = shard.user(hash, uid);
                let sequenced = user.as_ref().is_some_and(User::is_sequenced);
                match shard.mailbox(hash, uid) {
                    Some(mailbox) => mailbox,
                    None if post.ttl.is_zero() && !sequenced => {
                        drop(shard);
                        // The common case: nobody can resume and nothing is kept, so nothing is numbered. What has
                        // no name then has nothing by which anyone could ask for its trail.
                        let mark = if post.body.id.is_empty() {
                            Mark::NONE
                        } else {
                            self.trail.follow(post.body.id, uid, 0, now)
                        };
                        let Some(user) = user else {
                            self.trail.note(mark, Step::ABSENT, now);
                            return Delivered::default();
                        };
                        let message = Message::with_body(post.frame, post.body, 0).marked(mark);
                        return user.deliver(&message, &self.trail, now);
                    }
                    None => {
                        let Ok(owned) = Uid::new(uid) else { return Delivered::default() };
                        self.open_mailbox(&mut shard, hash, &owned, now)
                    }
                }
            };
            let mut mailbox = mailbox.lock();
            if mailbox.dropped {
                continue;
            }
            break self.push_into(&mut mailbox, hash, uid, post, now);
        };
        self.relieve(now);
        delivered
    }

    /// Numbers, delivers and keeps a message while its mailbox is locked.
    fn push_into(
        &self,
        mailbox: &mut MutexGuard<'_, Mailbox>,
        hash: u64,
        uid: &str,
        post: &Post<'_>,
        now: Now,
    ) -> Delivered {
        let retention = *self.retention.read();
        mailbox.touch(now, &retention);
        mailbox.last += 1;
        let mark = self.trail.follow(post.body.id, uid, mailbox.last, now);
        let message = Message::with_body(post.frame, post.body, mailbox.last).marked(mark);
        let user = self.locate(uid).1.lock().user(hash, uid);
        let mut delivered = Delivered::default();
        if let Some(user) = user {
            delivered = user.deliver(&message, &self.trail, now);
            mailbox.linger(user.linger(), now);
        }
        delivered.seq = mailbox.last;
        let expires = mailbox.expiry(post.ttl, now);
        if expires > now {
            let written = delivered.written > 0;
            let kept = Kept::new(&message, post, expires, written);
            if !written {
                self.trail.note(mark, Step::Held, now);
                self.lingered.fetch_add(u64::from(post.ttl.is_zero()), Ordering::Relaxed);
            }
            let mut change = mailbox.keep(kept, &retention, &self.trail, now);
            let expired = mailbox.expire(now, &self.trail);
            change.freed += expired.freed;
            change.lost += expired.lost;
            self.account(change);
            delivered.held = usize::from(!written);
        } else if delivered.connections == 0 {
            self.trail.note(mark, Step::ABSENT, now);
        }
        delivered
    }

    /// The mailbox of `uid`, made when there is none.
    fn open_mailbox(&self, shard: &mut Shard<O>, hash: u64, uid: &Uid, now: Now) -> Arc<Mutex<Mailbox>> {
        if let Some(mailbox) = shard.mailbox(hash, uid.as_str()) {
            return mailbox;
        }
        let horizon = self.horizon.load(Ordering::Acquire);
        let user = shard.user(hash, uid.as_str());
        let numbers = user.map_or((horizon, horizon), |user| user.numbers(horizon));
        self.make_mailbox(shard, hash, uid, numbers, now)
    }

    fn make_mailbox(
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
    fn relieve(&self, now: Now) {
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

    fn account(&self, change: Change) {
        self.memory.fetch_add(change.added, Ordering::Relaxed);
        self.memory.fetch_sub(change.freed, Ordering::Relaxed);
        self.lost.fetch_add(change.lost as u64, Ordering::Relaxed);
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

    /// Sends `message` to every bound connection.
    ///
    /// Connections that bind or close meanwhile may or may not be among them. It takes a while when there are many, and
    /// lets other threads go first every now and then.
    pub fn broadcast(&self, message: &Message<'_>) -> Delivered {
        let mut delivered = Delivered::default();
        let mut users: Vec<User<O>> = Vec::new();
        let mut courtesy = Courtesy::default();
        for shard in &self.shards {
            users.extend(shard.lock().users.iter().map(User::share));
            for user in users.drain(..) {
                delivered += user.deliver(message, &self.trail, 0);
                courtesy.delivered();
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

    /// Sends a message to every connection of every member of `group`, and keeps it for each for its `ttl`.
    pub fn push_group(&self, group: &str, post: &Post<'_>, now: Now) -> Delivered {
        let mut delivered = Delivered::default();
        let mut courtesy = Courtesy::default();
        for uids in self.groups.members(group).chunks(AHEAD) {
            self.look_ahead(uids.iter().map(Uid::as_str));
            for uid in uids {
                delivered += self.push(uid.as_str(), post, now);
                courtesy.delivered();
            }
        }
        delivered
    }

    fn find(&self, uid: &str) -> Option<User<O>> {
        let (hash, shard) = self.locate(uid);
        shard.lock().user(hash, uid)
    }

    fn hash(&self, uid: &str) -> u64 {
        self.hasher.hash_one(uid)
    }

    fn locate(&self, uid: &str) -> (u64, &Mutex<Shard<O>>) {
        let hash = self.hash(uid);
        (hash, &self.shards[shard_of(hash)])
    }
}

/// The table uses the low bits and the top seven; the shard comes from bits between.
const fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

/// Gives up the processor between the deliveries of a long fan-out, so that a push to one uid or a new connection that
/// waits for the same core waits for a few of them (about 6 us each on loopback) and not for a scheduler's time slice.
#[derive(Default)]
struct Courtesy(u32);

impl Courtesy {
    const EVERY: u32 = 32;

    fn delivered(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(Self::EVERY) {
            std::thread::yield_now();
        }
    }
}

/// Gives memory back after a crowd has left; the factor keeps a table that breathes from reallocating each time.
fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if table.capacity() > 64 && table.len() * 4 < table.capacity() {
        table.shrink_to(table.len() * 2, hash);
    }
}

impl<O: Outbox> Shard<O> {
    fn user(&self, hash: u64, uid: &str) -> Option<User<O>> {
        self.users.find(hash, |user| user.is(uid)).map(User::share)
    }

    fn connections(&self, hash: u64, uid: &str) -> &[Arc<O>] {
        self.users.find(hash, |user| user.is(uid)).map_or(&[], User::connections)
    }

    fn mailbox(&self, hash: u64, uid: &str) -> Option<Arc<Mutex<Mailbox>>> {
        self.mailboxes.find(hash, |it| it.uid.as_str() == uid).map(|it| Arc::clone(&it.mailbox))
    }
}

impl<O: Outbox> User<O> {
    /// Whether some connection can resume.
    fn is_sequenced(&self) -> bool {
        self.connections().iter().any(|connection| connection.seen().is_some())
    }

    /// How long one of its pages lingers at most.
    fn linger(&self) -> Duration {
        self.connections().iter().map(|connection| connection.linger()).max().unwrap_or_default()
    }

    /// The floor and the last number of a mailbox made while these connections are there; see [`crate::mailbox`].
    fn numbers(&self, horizon: u64) -> (u64, u64) {
        let seen = || self.connections().iter().filter_map(|connection| connection.seen());
        (seen().min().unwrap_or(horizon), seen().max().unwrap_or(horizon).max(horizon))
    }

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

    fn deliver(&self, message: &Message<'_>, trail: &Trail, now: Now) -> Delivered {
        let _in_order = match self {
            Self::One(_) => None,
            Self::Many(many) => Some(many.order.lock()),
        };
        let connections = self.connections();
        let mut delivered = Delivered { connections: connections.len(), ..Delivered::default() };
        for connection in connections {
            let sent = connection.deliver(message);
            trail.note_sent(message, connection.number(), sent, now);
            if sent == Sent::Written {
                delivered.written += 1;
                delivered.sequenced += usize::from(connection.seen().is_some());
            }
        }
        delivered
    }
}

impl std::ops::AddAssign for Delivered {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.written += other.written;
        self.sequenced += other.sequenced;
        self.held += other.held;
        self.seq = other.seq;
    }
}
