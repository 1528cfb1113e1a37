//! The trail: what became of each message, step by step, for as long as there is room to remember it.
//!
//! A ring of bounded memory, in parts by uid so that pushes do not meet here: what is new overwrites what is oldest.
//! A message is named by its [`Mark`], eight bytes that travel with it; a step is one entry of fixed size at the end of
//! a queue, so noting one costs a short lock and no search. The searching is done by whoever asks. A message without a
//! mark (a text-port line that nobody can resume from, a broadcast) is not followed and costs nothing here.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use doorbell_protocol::Uid;
use parking_lot::Mutex;

use crate::{Message, Now, Sent};

/// A power of two.
const PARTS: usize = 16;

/// Names a message that is followed; nothing but the trail knows what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// Of a message that is not followed.
    pub(crate) const NONE: Self = Self(0);
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It waits for a page, because nobody took it.
    Held,
    /// The socket or the bounded queue of a connection has it.
    Written {
        /// The connection's number ([`crate::Outbox::number`]).
        connection: u64,
    },
    /// A page said that it has handled it.
    Acked {
        /// The connection's number; 0 when a long-poll said it by asking for what comes next.
        connection: u64,
    },
    /// It was given up, for one connection or for all.
    Dropped {
        /// The connection that will not have it.
        connection: Option<u64>,
        /// Why.
        reason: Reason,
    },
}

impl Step {
    /// Nobody was there, and it is not kept.
    pub(crate) const ABSENT: Self = Self::Dropped { connection: None, reason: Reason::Absent };
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nobody was there, and it was not to be kept.
    Absent,
    /// Its time ended before anybody was there.
    Expired,
    /// It made room in a mailbox for newer ones before anybody was there.
    Evicted,
    /// The connection's queue was full.
    TooSlow,
    /// The connection was lost while it waited in its queue.
    ConnectionLost,
    /// The connection was already closing.
    Closing,
}

impl Reason {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::TooSlow => "too_slow",
            Self::ConnectionLost => "connection_lost",
            Self::Closing => "closing",
        }
    }
}

/// What became of one message for one uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// For whom it was.
    pub uid: Uid,
    /// Its number in the uid's sequence; 0 when it has none.
    pub seq: u64,
    /// When it was accepted.
    pub at: Now,
    /// What happened since, oldest first.
    pub steps: Vec<(Now, Step)>,
}

/// See the module's header.
#[derive(Debug)]
pub struct Trail {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    /// Bytes for all parts together; 0 follows nothing.
    memory: AtomicUsize,
    overwritten: AtomicU64,
}

#[derive(Debug, Default)]
struct Part {
    messages: VecDeque<Record>,
    /// Messages that were at the front before: the first one's number in this part.
    gone: u64,
    steps: VecDeque<Entry>,
    acks: VecDeque<Ack>,
    bytes: usize,
    /// Entries are in the order of their time, whatever the clocks of those who note them.
    last: Now,
}

#[derive(Debug)]
struct Record {
    /// Empty for one that is called after its number.
    id: Box<str>,
    uid: Uid,
    seq: u64,
    at: Now,
}

#[derive(Debug)]
struct Entry {
    at: Now,
    number: u64,
    step: Step,
}

/// One acknowledgement, of every message of a uid after `from` up to `to`.
#[derive(Debug)]
struct Ack {
    at: Now,
    uid: u64,
    connection: u64,
    from: u64,
    to: u64,
}

// Twice their size, because a queue that grows holds twice what is in it.
const ENTRY: usize = 2 * size_of::<Entry>();
const ACK: usize = 2 * size_of::<Ack>();

impl Record {
    fn bytes(&self) -> usize {
        /// What an allocation costs beyond its bytes.
        const ALLOCATION: usize = 16;
        let id = if self.id.is_empty() { 0 } else { self.id.len() + ALLOCATION };
        let uid = if self.uid.as_str().len() > 24 { self.uid.as_str().len() + ALLOCATION } else { 0 };
        2 * size_of::<Self>() + id + uid
    }

    /// A message without an id is called after its number, as in its envelope.
    fn is_called(&self, id: &str) -> bool {
        if !self.id.is_empty() {
            return *self.id == *id;
        }
        let number = id.strip_prefix("m_").filter(|number| !number.starts_with('+'));
        number.and_then(|number| u64::from_str_radix(number, 16).ok()) == Some(self.seq)
    }
}

impl Default for Trail {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            memory: AtomicUsize::new(0),
            overwritten: AtomicU64::new(0),
        }
    }
}

impl Trail {
    /// Sets how many bytes it may take from now on; 0 follows no further message.
    pub fn set_memory(&self, bytes: usize) {
        self.memory.store(bytes, Ordering::Relaxed);
        for part in &self.parts {
            self.trim(&mut part.lock());
        }
    }

    /// Follows a message to `uid`, called `id`, or after its number when that is empty.
    pub(crate) fn follow(&self, id: &str, uid: &str, seq: u64, now: Now) -> Mark {
        if self.memory.load(Ordering::Relaxed) == 0 {
            return Mark::NONE;
        }
        let Ok(uid) = Uid::new(uid) else { return Mark::NONE };
        let index = self.part_of(&uid);
        let mut part = self.parts[index].lock();
        let at = part.at(now);
        let message = Record { id: id.into(), uid, seq, at };
        part.bytes += message.bytes();
        part.messages.push_back(message);
        // Never 0: the first message of a part has number 1.
        let number = part.gone + part.messages.len() as u64;
        self.trim(&mut part);
        Mark(number * PARTS as u64 + index as u64)
    }

    /// Takes note of what happened to a message.
    pub fn note(&self, mark: Mark, step: Step, now: Now) {
        if mark == Mark::NONE {
            return;
        }
        let number = mark.0 / PARTS as u64;
        let index = usize::try_from(mark.0 % PARTS as u64).unwrap_or_default();
        let mut part = self.parts[index].lock();
        if number <= part.gone {
            return;
        }
        let at = part.at(now);
        part.bytes += ENTRY;
        part.steps.push_back(Entry { at, number, step });
        self.trim(&mut part);
    }

    /// Takes note of what a connection said to a message.
    #[inline]
    pub(crate) fn note_sent(&self, message: &Message<'_>, connection: u64, sent: Sent, now: Now) {
        if message.mark() == Mark::NONE {
            return;
        }
        let given_up = |reason| Step::Dropped { connection: Some(connection), reason };
        let step = match sent {
            Sent::Written => Step::Written { connection },
            Sent::Full => given_up(Reason::TooSlow),
            Sent::Closed => given_up(Reason::Closing),
        };
        self.note(message.mark(), step, now);
    }

    /// Takes note that a page of `uid` has handled every message after `from`, up to `to`.
    pub fn acked(&self, uid: &Uid, connection: u64, (from, to): (u64, u64), now: Now) {
        if self.memory.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut part = self.parts[self.part_of(uid)].lock();
        let at = part.at(now);
        part.bytes += ACK;
        part.acks.push_back(Ack { at, uid: self.hash(uid), connection, from, to });
        self.trim(&mut part);
    }

    /// What became of the message called `id`, for each uid it was for or only for `uid`, and whether that is all of it:
    /// it stops at `most` steps, and at `most` uids.
    #[must_use]
    pub fn find(&self, id: &str, uid: Option<&str>, most: usize) -> (Vec<Followed>, bool) {
        let mut found = Vec::new();
        let mut left = most;
        for part in &self.parts {
            let part = part.lock();
            for (index, message) in part.messages.iter().enumerate() {
                if !message.is_called(id) || uid.is_some_and(|uid| message.uid.as_str() != uid) {
                    continue;
                }
                if left == 0 || found.len() == most {
                    return (found, false);
                }
                let number = part.gone + index as u64 + 1;
                let mut followed = part.followed(number, message, self.hash(&message.uid));
                if followed.steps.len() > left {
                    followed.steps.truncate(left);
                    found.push(followed);
                    return (found, false);
                }
                left -= followed.steps.len();
                found.push(followed);
            }
        }
        (found, true)
    }

    /// Bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.lock().bytes).sum()
    }

    /// Messages whose trail made room for newer ones.
    #[must_use]
    pub fn overwritten(&self) -> u64 {
        self.overwritten.load(Ordering::Relaxed)
    }

    fn trim(&self, part: &mut Part) {
        let bound = self.memory.load(Ordering::Relaxed) / PARTS;
        while part.bytes > bound {
            let message = part.messages.front().map_or(Now::MAX, |message| message.at);
            let step = part.steps.front().map_or(Now::MAX, |step| step.at);
            let ack = part.acks.front().map_or(Now::MAX, |ack| ack.at);
            // The message before its steps: what is still there is whole.
            if message <= step && message <= ack {
                let Some(message) = part.messages.pop_front() else { return };
                part.gone += 1;
                part.bytes -= message.bytes();
                self.overwritten.fetch_add(1, Ordering::Relaxed);
            } else if step <= ack {
                part.steps.pop_front();
                part.bytes -= ENTRY;
            } else {
                part.acks.pop_front();
                part.bytes -= ACK;
            }
        }
    }

    fn hash(&self, uid: &Uid) -> u64 {
        self.hasher.hash_one(uid.as_str())
    }

    fn part_of(&self, uid: &Uid) -> usize {
        (self.hash(uid) >> 32) as usize % PARTS
    }
}

impl Part {
    fn at(&mut self, now: Now) -> Now {
        self.last = self.last.max(now);
        self.last
    }

    fn followed(&self, number: u64, message: &Record, uid: u64) -> Followed {
        let of_message = self.steps.iter().filter(|entry| entry.number == number);
        let mut steps: Vec<(Now, Step)> = of_message.map(|entry| (entry.at, entry.step)).collect();
        if message.seq > 0 {
            for ack in &self.acks {
                let covers =
                    ack.uid == uid && ack.at >= message.at && ack.from < message.seq && message.seq <= ack.to;
                let step = Step::Acked { connection: ack.connection };
                // Each long-poll says it again.
                if covers && !steps.iter().any(|(_, other)| *other == step) {
                    steps.push((ack.at, step));
                }
            }
        }
        // A page may acknowledge within the millisecond, and before whoever wrote to it says so.
        steps.sort();
        Followed { uid: message.uid.clone(), seq: message.seq, at: message.at, steps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(bytes: usize) -> Trail {
        let trail = Trail::default();
        trail.set_memory(bytes);
        trail
    }

    fn steps(trail: &Trail, id: &str) -> Vec<(Now, Step)> {
        let (mut found, _) = trail.find(id, None, 100);
        assert_eq!(found.len(), 1, "{id}");
        found.remove(0).steps
    }

    #[test]
    fn a_message_is_followed_from_end_to_end() {
        let trail = trail(1 << 20);
        let uid = Uid::new("u").expect("a uid");
        let first = trail.follow("m_a", "u", 1, 10);
        trail.note(first, Step::Held, 10);
        let second = trail.follow("", "u", 0x2f, 11);
        trail.note(first, Step::Written { connection: 7 }, 12);
        trail.note(second, Step::Written { connection: 7 }, 12);
        trail.acked(&uid, 7, (0, 1), 15);
        trail.acked(&uid, 7, (1, 0x2f), 16);
        assert_eq!(
            steps(&trail, "m_a"),
            [(10, Step::Held), (12, Step::Written { connection: 7 }), (15, Step::Acked { connection: 7 })]
        );
        assert_eq!(
            steps(&trail, "m_2f").last(),
            Some(&(16, Step::Acked { connection: 7 })),
            "called after its number"
        );
        for (id, uid) in [("m_b", None), ("m_a", Some("v")), ("", None)] {
            assert_eq!(trail.find(id, uid, 9), (Vec::new(), true));
        }
    }

    #[test]
    fn one_id_may_be_for_many_uids() {
        let trail = trail(1 << 20);
        for number in 0..50 {
            let mark = trail.follow("m_a", &format!("u{number}"), 0, 1);
            trail.note(mark, Step::Dropped { connection: None, reason: Reason::Absent }, 1);
        }
        for (uid, most, expected) in
            [(None, 1_000, (50, true)), (None, 20, (20, false)), (Some("u7"), 20, (1, true))]
        {
            let (found, whole) = trail.find("m_a", uid, most);
            assert_eq!((found.len(), whole), expected);
        }
    }

    #[test]
    fn memory_stays_bounded_and_what_is_left_is_whole() {
        let trail = trail(64 * 1024);
        let uid = Uid::new("u").expect("a uid");
        for number in 1..5_000u64 {
            let mark = trail.follow(&format!("m_{number}"), "u", number, number);
            trail.note(mark, Step::Written { connection: 1 }, number);
            trail.acked(&uid, 1, (number - 1, number), number);
            assert!(trail.bytes() <= 64 * 1024);
        }
        let mut left = 0;
        for number in 1..5_000 {
            for followed in trail.find(&format!("m_{number}"), None, 9).0 {
                left += 1;
                assert_eq!(followed.steps.len(), 2, "{number}");
            }
        }
        assert!(left > 5, "{left}");
        assert_eq!(trail.overwritten() + left, 4_999);
        trail.set_memory(0);
        assert_eq!(trail.bytes(), 0);
        assert_eq!(trail.follow("m_a", "u", 1, 1), Mark::NONE);
    }
}
