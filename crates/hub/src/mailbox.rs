//! The mailbox: what one uid was sent lately, so that a page that reconnects misses nothing.
//!
//! A uid without mail costs nothing: its mailbox is made by the first message that may wait, or when its last
//! sequenced connection goes away, and dropped once nothing was kept or asked for a while. That such a mailbox can
//! come again without ever hiding a gap rests on three numbers:
//!
//! - `last` is the number of the newest message; numbers of one server never fall, because a dropped mailbox leaves
//!   its `last` in the hub's *horizon* and a new one starts there;
//! - `floor`: whoever has seen at least this has missed nothing that is not kept here. It rises whenever a message
//!   that should have waited is lost, by age or for want of room;
//! - every sequenced connection knows the number it was last sent, or up to which nothing is owed to it any more
//!   ([`crate::Outbox::seen`]). As long as one is connected without a mailbox, nothing after that number that could have
//!   waited was lost, so the least such number is a new mailbox's floor.
//!
//! Whoever holds a mailbox's lock decides the order of its uid's messages: a push numbers and delivers under it, and
//! a page that comes back is caught up and bound under it, so it can neither miss nor repeat one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::{Body, Mark, Message, Post, Reason, Step, Trail};

/// Milliseconds since some moment all callers share. The hub has no clock of its own.
pub type Now = u64;

fn after(now: Now, wait: Duration) -> Now {
    now.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// How much a mailbox keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Messages of one uid.
    pub messages: usize,
    /// Bytes of one uid's messages.
    pub bytes: usize,
    /// Bytes of all mailboxes together.
    pub memory: usize,
    /// How long an empty mailbox remembers its numbers after it was last used.
    pub idle: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { messages: 100, bytes: 1024 * 1024, memory: 256 * 1024 * 1024, idle: Duration::from_secs(300) }
    }
}

/// What a message costs a mailbox beyond its bytes.
const OVERHEAD: usize = 104;

#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) floor: u64,
    pub(crate) last: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
    /// When it may go, if it is empty then.
    idle_until: Now,
    /// Until when a page counts as there that has no connection: everything waits for it at least so long, whatever its
    /// `ttl`.
    lingers_until: Now,
    /// It was taken out of the table; whoever still holds it must look again.
    pub(crate) dropped: bool,
}

#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) seq: u64,
    id: Box<str>,
    data: Box<[u8]>,
    /// Where the plain payload differs from `data`: a string is sent as itself.
    frame: Arc<[u8]>,
    expires: Now,
    mark: Mark,
    /// Whether a page that has not seen it misses something once it has gone. Not what has no `ttl` and some connection
    /// took at once: it waits only for the sake of a page that lingers.
    owed: bool,
    /// Some connection took it.
    pub(crate) written: bool,
}

impl Kept {
    pub(crate) fn new(message: &Message<'_>, post: &Post<'_>, expires: Now, written: bool) -> Self {
        Self {
            seq: message.seq(),
            id: post.body.id.into(),
            data: post.body.data.into(),
            frame: message.share(crate::Encoding::Plain),
            expires,
            mark: message.mark(),
            owed: !post.ttl.is_zero() || !written,
            written,
        }
    }

    /// The message again, with its old number.
    pub(crate) fn message<'a>(&'a self, epoch: &'a str) -> Message<'a> {
        Message::with_body(&self.frame, Body { id: &self.id, data: &self.data, epoch }, self.seq)
            .marked(self.mark)
    }

    /// Says so when it goes and nobody was sent it.
    fn lose(&self, reason: Reason, trail: &Trail, now: Now) {
        if !self.written {
            trail.note(self.mark, Step::Dropped { connection: None, reason }, now);
        }
    }

    pub(crate) const fn is_owed(&self) -> bool {
        self.owed
    }

    fn size(&self) -> usize {
        self.id.len() + self.data.len() + self.frame.len() + OVERHEAD
    }
}

/// What a change did to the memory all mailboxes share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) added: usize,
    pub(crate) freed: usize,
    /// Messages given up that nobody had been sent.
    pub(crate) lost: usize,
}

impl Mailbox {
    pub(crate) fn new(floor: u64, last: u64, idle_until: Now) -> Self {
        Self { floor, last, kept: VecDeque::new(), bytes: 0, idle_until, lingers_until: 0, dropped: false }
    }

    /// Keeps a message within the bounds, at the cost of the oldest.
    pub(crate) fn keep(&mut self, kept: Kept, retention: &Retention, trail: &Trail, now: Now) -> Change {
        let added = kept.size();
        self.bytes += added;
        self.kept.push_back(kept);
        let mut change = Change { added, ..Change::default() };
        while self.kept.len() > retention.messages || self.bytes > retention.bytes {
            self.give_up_oldest(&mut change, trail, now);
        }
        change
    }

    /// Takes note that somebody was here.
    pub(crate) fn touch(&mut self, now: Now, retention: &Retention) {
        self.idle_until = self.idle_until.max(after(now, retention.idle));
    }

    /// Takes note that a page is about to come back and counts as there.
    pub(crate) fn linger(&mut self, linger: Duration, now: Now) {
        self.lingers_until = self.lingers_until.max(after(now, linger));
        // Or it would be forgotten with the mailbox.
        self.idle_until = self.idle_until.max(self.lingers_until);
    }

    /// Whether a page counts as there that has no connection.
    pub(crate) const fn is_lingering(&self, now: Now) -> bool {
        self.lingers_until > now
    }

    /// When a message of this `ttl` that comes now has waited long enough; now when it need not wait.
    pub(crate) fn expiry(&self, ttl: Duration, now: Now) -> Now {
        after(now, ttl).max(self.lingers_until)
    }

    /// Gives up what is too old. A message somebody was sent is only forgotten; the floor rises all the same, because
    /// another page may not have had it.
    pub(crate) fn expire(&mut self, now: Now, trail: &Trail) -> Change {
        let mut change = Change::default();
        if self.kept.iter().all(|kept| kept.expires > now) {
            return change;
        }
        let mut bytes = self.bytes;
        let floor = &mut self.floor;
        self.kept.retain(|kept| {
            if kept.expires > now {
                return true;
            }
            if kept.owed {
                *floor = (*floor).max(kept.seq);
            }
            bytes -= kept.size();
            change.freed += kept.size();
            change.lost += usize::from(!kept.written);
            kept.lose(Reason::Expired, trail, now);
            false
        });
        self.bytes = bytes;
        change
    }

    /// Gives up half of what it keeps, the older half, for the sake of all.
    pub(crate) fn halve(&mut self, trail: &Trail, now: Now) -> Change {
        let mut change = Change::default();
        for _ in 0..self.kept.len().div_ceil(2) {
            self.give_up_oldest(&mut change, trail, now);
        }
        change
    }

    fn give_up_oldest(&mut self, change: &mut Change, trail: &Trail, now: Now) {
        if let Some(oldest) = self.kept.pop_front() {
            if oldest.owed {
                self.floor = self.floor.max(oldest.seq);
            }
            self.bytes -= oldest.size();
            change.freed += oldest.size();
            change.lost += usize::from(!oldest.written);
            oldest.lose(Reason::Evicted, trail, now);
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it may be dropped: it keeps nothing and nobody came for a while.
    pub(crate) fn is_idle(&self, now: Now) -> bool {
        self.kept.is_empty() && self.idle_until <= now
    }

    /// What is kept, oldest first.
    pub(crate) fn kept(&mut self) -> impl Iterator<Item = &mut Kept> {
        self.kept.iter_mut()
    }
}
