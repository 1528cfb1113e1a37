//! The fan-out: a message goes to every connection of a uid, of a group, or of all, on the pusher's own thread.
//!
//! Order: pushes to one uid reach each of its connections in the order they were accepted. One connection orders by
//! its own lock; several share an order lock; a uid with a mailbox has the mailbox's. Nobody else's push ever takes
//! one of these.
//!
//! Looking ahead: what several pushes are about to read is fetched from memory all at once. Among a million connections
//! a look-up reads places that no cache holds, each found only by way of the one before: the bucket of the table, the
//! connection. One after the other they cost more than all the rest of a push (`docs/decisions/0004-look-ahead.md`). The
//! places of different uids do not depend on each other, and a processor fetches many at a time. So [`Hub::look_ahead`]
//! asks for them step by step for a handful of uids, under locks taken before the first step: an atomic operation in between
//! would keep the order. For a uid alone it asks for the bucket, while whoever pushes makes the frame.
//!
//! Going together: deliveries of a broadcast, and of pushes that come together, are handed to the connections as a list
//! ([`Outbox::deliver_each`]), which can then hand all frames to the kernel at once (`docs/decisions/0005-sends-together.md`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use doorbell_protocol::Uid;
use parking_lot::{Mutex, MutexGuard};

use super::table::{SHARDS, Shard, User, shard_of};
use super::{Delivery, Hub, Outbox};
use crate::mailbox::{Kept, Mailbox};
use crate::{Body, Mark, Message, Now, Sent, Step, Trail};

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

/// How many uids [`Hub::look_ahead`] looks at. More than a core has misses under way at once, and few enough that what
/// it fetched is still in the cache when the last push needs it.
pub const AHEAD: usize = 32;

/// How many deliveries of a broadcast go together before it gives way. A push or a new connection that waits for the same core waits for so
/// many: some 1.2 ms on loopback (`docs/decisions/0002-fan-out-gives-way.md`).
pub const TOGETHER: usize = 128;

/// Where a message to a uid has to go.
enum Place<O> {
    /// Through its mailbox.
    Mailbox(Arc<Mutex<Mailbox>>),
    /// The same, but the mailbox has to be opened.
    NewMailbox,
    /// To the connections that are there, if any: the common case, in which nobody can resume and nothing is kept, so that nothing
    /// is numbered.
    Pages(Option<User<O>>),
}

impl<O: Outbox> Hub<O> {
    /// Sends a message to every connection of `uid`, and keeps it for its `ttl`.
    pub fn push(&self, uid: &str, post: &Post<'_>, now: Now) -> Delivered {
        let (hash, shard) = self.locate(uid);
        let delivered = loop {
            let mailbox = {
                let mut shard = shard.lock();
                match self.place_of(&shard, hash, uid, post) {
                    Place::Mailbox(mailbox) => mailbox,
                    Place::Pages(user) => {
                        drop(shard);
                        return self.push_unkept(uid, user, post, now);
                    }
                    Place::NewMailbox => {
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

    /// Sends each message to every connection of its uid, as [`Hub::push`] would one after the other, and tells of each in
    /// that order. Those that go to one connection each and are not kept go out together.
    pub fn push_each(&self, posts: &[(&Uid, Post<'_>)], now: Now, mut told: impl FnMut(Delivered)) {
        let mut together: Vec<(Arc<O>, Message<'_>)> = Vec::with_capacity(posts.len());
        let mut rest = posts;
        while let [(uid, post), later @ ..] = rest {
            let (hash, shard) = self.locate(uid.as_str());
            let place = self.place_of(&shard.lock(), hash, uid.as_str(), post);
            if let Place::Pages(Some(User::One(connection))) = place {
                let message = self.unkept(uid.as_str(), post, now);
                together.push((connection, message));
            } else {
                // Not before what came before it.
                self.deliver_together(&mut together, now, &mut told);
                told(self.push(uid.as_str(), post, now));
            }
            rest = later;
        }
        self.deliver_together(&mut together, now, &mut told);
    }

    /// Delivers these, and tells of each.
    fn deliver_together(
        &self,
        together: &mut Vec<(Arc<O>, Message<'_>)>,
        now: Now,
        told: &mut impl FnMut(Delivered),
    ) {
        let mut deliveries: Vec<_> =
            together.iter().map(|(connection, message)| Delivery::of(connection, message)).collect();
        O::deliver_each(&mut deliveries);
        for delivery in &deliveries {
            let mut delivered = Delivered::default();
            delivered.count(delivery, &self.trail, now);
            told(delivered);
        }
        drop(deliveries);
        together.clear();
    }

    /// Where a message to `uid` has to go, at this moment.
    fn place_of(&self, shard: &Shard<O>, hash: u64, uid: &str, post: &Post<'_>) -> Place<O> {
        if let Some(mailbox) = shard.mailbox(hash, uid) {
            return Place::Mailbox(mailbox);
        }
        let user = shard.users.share(hash, uid);
        let sequenced = user.as_ref().is_some_and(User::is_sequenced);
        if post.ttl.is_zero() && !sequenced { Place::Pages(user) } else { Place::NewMailbox }
    }

    /// A message that is not numbered. What has no name then has nothing by which anyone could ask for its trail.
    fn unkept<'a>(&self, uid: &str, post: &Post<'a>, now: Now) -> Message<'a> {
        let mark =
            if post.body.id.is_empty() { Mark::NONE } else { self.trail.follow(post.body.id, uid, 0, now) };
        Message::with_body(post.frame, post.body, 0).marked(mark)
    }

    fn push_unkept(&self, uid: &str, user: Option<User<O>>, post: &Post<'_>, now: Now) -> Delivered {
        let message = self.unkept(uid, post, now);
        let Some(user) = user else {
            self.trail.note(message.mark(), Step::ABSENT, now);
            return Delivered::default();
        };
        user.deliver(&message, &self.trail, now)
    }

    /// Sends a message to every connection of every member of `group`, and keeps it for each for its `ttl`.
    pub fn push_group(&self, group: &str, post: &Post<'_>, now: Now) -> Delivered {
        let mut delivered = Delivered::default();
        for uids in self.groups.members(group).chunks(AHEAD) {
            self.look_ahead(uids.iter().map(Uid::as_str));
            let posts: Vec<_> = uids.iter().map(|uid| (uid, *post)).collect();
            self.push_each(&posts, now, |told| delivered += told);
            give_way();
        }
        delivered
    }

    /// Sends `message` to every bound connection, tens of thousands at a time in the order in which they lie in memory:
    /// connections that came one after the other are neighbours there, and so are their sockets in the kernel's memory.
    ///
    /// Connections that bind or close meanwhile may or may not be among them. It takes a while when there are many, and
    /// lets other threads go first every now and then.
    pub fn broadcast(&self, message: &Message<'_>) -> Delivered {
        /// A list of at most some 1 MiB, however many broadcasts go on beside each other; and who closes meanwhile keeps
        /// its descriptor only until its turn, which is within a second.
        const AT_A_TIME: usize = 1 << 16;
        let mut delivered = Delivered::default();
        let mut users: Vec<User<O>> = Vec::new();
        let mut shards = self.shards.iter().peekable();
        while let Some(shard) = shards.next() {
            users.extend(shard.lock().users.share_all());
            if users.len() < AT_A_TIME && shards.peek().is_some() {
                continue;
            }
            users.sort_unstable_by_key(User::place);
            for users in users.chunks(TOGETHER) {
                delivered += self.broadcast_to(users, message);
                give_way();
            }
            users.clear();
        }
        delivered
    }

    /// Sends a message to these, together where a uid has one connection; several have to hear it in the order of their uid.
    fn broadcast_to(&self, users: &[User<O>], message: &Message<'_>) -> Delivered {
        let mut delivered = Delivered::default();
        let mut deliveries = Vec::with_capacity(users.len());
        for user in users {
            user.prefetch();
            match user {
                User::One(connection) => deliveries.push(Delivery::of(connection, message)),
                User::Many(_) => delivered += user.deliver(message, &self.trail, 0),
            }
        }
        O::deliver_each(&mut deliveries);
        for delivery in &deliveries {
            delivered.count(delivery, &self.trail, 0);
        }
        delivered
    }

    /// Prepares the processor's caches for pushes to the first [`AHEAD`] of these uids. Nothing but time depends on it.
    ///
    /// Waits for nobody: a shard that is locked is left out. It holds the others for a few microseconds.
    pub fn look_ahead<'a>(&self, uids: impl IntoIterator<Item = &'a str>) {
        let mut coming = uids.into_iter().map(|uid| self.hash(uid));
        let Some(first) = coming.next() else { return };
        let Some(second) = coming.next() else {
            // What its place leads to would have to be waited for.
            if let Some(shard) = self.shards[shard_of(first)].try_lock() {
                shard.users.prefetch_bucket(first);
            }
            return;
        };
        let mut hashes = [0; AHEAD];
        let mut count = 0;
        for (place, hash) in hashes.iter_mut().zip([first, second].into_iter().chain(coming)) {
            *place = hash;
            count += 1;
        }
        let hashes = &hashes[..count];

        let mut shards = [const { None }; SHARDS];
        for hash in hashes {
            let index = shard_of(*hash);
            if shards[index].is_none() {
                shards[index] = self.shards[index].try_lock();
            }
        }
        let users = |hash| shards[shard_of(hash)].as_ref().map(|shard| &shard.users);
        for hash in hashes {
            if let Some(users) = users(*hash) {
                users.prefetch_bucket(*hash);
            }
        }
        for hash in hashes {
            if let Some(users) = users(*hash) {
                users.prefetch_connection(*hash);
            }
        }
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
        let user = self.locate(uid).1.lock().users.share(hash, uid);
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
}

impl<O: Outbox> User<O> {
    fn deliver(&self, message: &Message<'_>, trail: &Trail, now: Now) -> Delivered {
        let _in_order = match self {
            Self::One(_) => None,
            Self::Many(many) => Some(many.order.lock()),
        };
        let mut delivered = Delivered::default();
        for connection in self.connections() {
            let sent = connection.deliver(message);
            delivered.count(&Delivery { connection, message, sent }, trail, now);
        }
        delivered
    }
}

impl<'a, O> Delivery<'a, O> {
    /// One that is still to be made.
    const fn of(connection: &'a Arc<O>, message: &'a Message<'a>) -> Self {
        Self { connection, message, sent: Sent::Closed }
    }
}

impl Delivered {
    /// Counts a delivery that was made, and notes it in the trail.
    fn count<O: Outbox>(&mut self, delivery: &Delivery<'_, O>, trail: &Trail, now: Now) {
        let Delivery { connection, message, sent } = delivery;
        trail.note_sent(message, connection.number(), *sent, now);
        self.connections += 1;
        if *sent == Sent::Written {
            self.written += 1;
            self.sequenced += usize::from(connection.seen().is_some());
        }
    }
}

/// Gives up the processor between the deliveries of a long fan-out, so that a push to one uid or a new connection that
/// waits for the same core waits for a few of them and not for a scheduler's time slice.
fn give_way() {
    std::thread::yield_now();
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
