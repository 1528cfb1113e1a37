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

use std::sync::atomic::Ordering;
use std::time::Duration;

use doorbell_protocol::Uid;
use parking_lot::MutexGuard;

use super::table::{SHARDS, User, shard_of};
use super::{Hub, Outbox};
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

impl<O: Outbox> Hub<O> {
    /// Sends a message to every connection of `uid`, and keeps it for its `ttl`.
    pub fn push(&self, uid: &str, post: &Post<'_>, now: Now) -> Delivered {
        let (hash, shard) = self.locate(uid);
        let delivered = loop {
            let mailbox = {
                let mut shard = shard.lock();
                let user = shard.users.share(hash, uid);
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
        let mut courtesy = Courtesy::default();
        let mut users: Vec<User<O>> = Vec::new();
        let mut shards = self.shards.iter().peekable();
        while let Some(shard) = shards.next() {
            users.extend(shard.lock().users.share_all());
            if users.len() < AT_A_TIME && shards.peek().is_some() {
                continue;
            }
            users.sort_unstable_by_key(User::place);
            let mut coming = users.drain(..);
            while let Some(user) = coming.next() {
                if let Some(next) = coming.as_slice().first() {
                    next.prefetch();
                }
                delivered += user.deliver(message, &self.trail, 0);
                courtesy.delivered();
            }
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

impl std::ops::AddAssign for Delivered {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.written += other.written;
        self.sequenced += other.sequenced;
        self.held += other.held;
        self.seq = other.seq;
    }
}
