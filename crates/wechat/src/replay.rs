//! What has been delivered already.
//!
//! WeChat delivers a callback up to three times, some seconds apart, when it hears no answer; whether the later ones
//! are signed anew is not documented, so both are known. A delivery is told by its timestamp and nonce, which cannot
//! be reused with another body; what it says is told by the message's own identity.

use std::collections::{HashMap, VecDeque};

/// How much is remembered, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How far a timestamp may be from our clock, in seconds; what is older is remembered no longer.
    pub window_seconds: u64,
    /// How often one delivery may come: WeChat tries three times in all.
    pub deliveries: u32,
    /// How long after the first the last of them may come, in seconds: WeChat waits five for an answer.
    pub retry_seconds: u64,
    /// How many deliveries and messages are remembered, each. Only what is signed by WeChat is, so nobody else can
    /// push out what matters; at the bound the oldest is forgotten.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { window_seconds: 300, deliveries: 3, retry_seconds: 60, entries: 100_000 }
    }
}

/// Whether something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    /// The same delivery, within what WeChat does.
    Again,
    /// The same delivery more often or later than WeChat does, or its timestamp and nonce with another body.
    Replayed,
}

#[derive(Debug)]
pub(crate) struct Memory {
    limits: Limits,
    deliveries: Recent<Delivery>,
    messages: Recent<()>,
}

#[derive(Debug)]
struct Delivery {
    body: String,
    first: u64,
    count: u32,
}

impl Memory {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, deliveries: Recent::default(), messages: Recent::default() }
    }

    /// Looks a delivery up; a new one is remembered only once it was found to be good, by [`Self::keep`].
    pub(crate) fn delivery(&mut self, timestamp: &str, nonce: &str, body: &str, now: u64) -> Seen {
        self.forget(now);
        let Some(delivery) = self.deliveries.entries.get_mut(&key(timestamp, nonce)) else {
            return Seen::New;
        };
        let in_time = now.saturating_sub(delivery.first) <= self.limits.retry_seconds;
        if delivery.body != body || delivery.count >= self.limits.deliveries || !in_time {
            return Seen::Replayed;
        }
        delivery.count += 1;
        Seen::Again
    }

    pub(crate) fn keep(&mut self, timestamp: &str, nonce: &str, body: &str, now: u64) {
        let delivery = Delivery { body: body.to_owned(), first: now, count: 1 };
        self.deliveries.insert(key(timestamp, nonce), delivery, now, self.limits.entries);
    }

    /// Whether a message is told for the first time, however it was signed.
    pub(crate) fn is_new_message(&mut self, identity: String, now: u64) -> bool {
        if self.messages.entries.contains_key(&identity) {
            return false;
        }
        self.messages.insert(identity, (), now, self.limits.entries);
        true
    }

    fn forget(&mut self, now: u64) {
        // A timestamp may be ahead of our clock by the window, and good for the window after that.
        let horizon = now.saturating_sub(2 * self.limits.window_seconds);
        self.deliveries.forget(horizon);
        self.messages.forget(horizon);
    }
}

/// Joined so that neither part can reach into the other: a timestamp is digits alone.
fn key(timestamp: &str, nonce: &str) -> String {
    format!("{timestamp} {nonce}")
}

/// A map that forgets its oldest entries.
#[derive(Debug)]
struct Recent<T> {
    entries: HashMap<String, T>,
    order: VecDeque<(u64, String)>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Recent<T> {
    fn insert(&mut self, key: String, value: T, now: u64, bound: usize) {
        while self.order.len() >= bound.max(1) {
            self.forget_one();
        }
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back((now, key));
        }
    }

    fn forget(&mut self, horizon: u64) {
        while self.order.front().is_some_and(|(at, _)| *at < horizon) {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_comes_three_times_at_most_and_not_for_long() {
        let mut memory = Memory::new(Limits::default());
        assert_eq!(memory.delivery("1", "n", "b", 1_000), Seen::New);
        memory.keep("1", "n", "b", 1_000);
        assert_eq!(memory.delivery("1", "n", "other", 1_001), Seen::Replayed);
        assert_eq!(memory.delivery("1", "n", "b", 1_005), Seen::Again);
        assert_eq!(memory.delivery("1", "n", "b", 1_010), Seen::Again);
        assert_eq!(memory.delivery("1", "n", "b", 1_015), Seen::Replayed);
        memory.keep("2", "n", "b", 1_000);
        assert_eq!(memory.delivery("2", "n", "b", 1_061), Seen::Replayed);
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound_and_after_the_window() {
        let mut memory = Memory::new(Limits { entries: 2, ..Limits::default() });
        for nonce in ["a", "b", "c"] {
            memory.keep("1", nonce, "b", 1_000);
        }
        assert_eq!(memory.deliveries.entries.len(), 2);
        assert_eq!(memory.delivery("1", "a", "b", 1_000), Seen::New);
        assert!(memory.is_new_message("m".into(), 1_000));
        assert!(!memory.is_new_message("m".into(), 1_600));
        memory.forget(1_601);
        assert!(memory.deliveries.entries.is_empty() && memory.messages.entries.is_empty());
    }
}
