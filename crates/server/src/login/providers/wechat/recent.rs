//! Keys that were given out a while ago: bounded, and forgotten by age.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use doorbell_login::Token;
use parking_lot::Mutex;

/// Keys that are remembered; at the bound the oldest goes.
const MOST: usize = 100_000;

/// See the module's header.
pub(super) struct Recent {
    life: Duration,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_name: HashMap<String, Token>,
    /// Oldest first.
    order: VecDeque<(Instant, String)>,
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").field("count", &self.held.lock().order.len()).finish_non_exhaustive()
    }
}

impl Recent {
    /// Keys that are forgotten after `life`.
    pub(super) fn new(life: Duration) -> Self {
        Self { life, held: Mutex::default() }
    }

    /// The key of that name: the one it has, or else the one that `make` gives.
    pub(super) fn key<E>(&self, name: &str, make: impl FnOnce() -> Result<Token, E>) -> Result<Token, E> {
        let mut held = self.held.lock();
        held.forget(self.life);
        if let Some(key) = held.by_name.get(name) {
            return Ok(key.clone());
        }
        let key = make()?;
        held.order.push_back((Instant::now(), name.to_owned()));
        held.by_name.insert(name.to_owned(), key.clone());
        Ok(key)
    }

    /// The key of that name, if it has one.
    pub(super) fn find(&self, name: &str) -> Option<Token> {
        let mut held = self.held.lock();
        held.forget(self.life);
        held.by_name.get(name).cloned()
    }
}

impl Held {
    fn forget(&mut self, life: Duration) {
        while self.order.len() >= MOST || self.order.front().is_some_and(|(at, _)| at.elapsed() > life) {
            let Some((_, name)) = self.order.pop_front() else { return };
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::System;

    #[test]
    fn a_name_keeps_its_key_and_the_oldest_goes_at_the_bound() {
        let recent = Recent::new(Duration::from_secs(600));
        let key = |name: &str| recent.key(name, || Token::random(&System)).expect("randomness");
        let first = key("0");
        assert_eq!(key("0").expose(), first.expose());
        for name in 1..MOST {
            key(&name.to_string());
        }
        assert!(recent.find("0").is_none() && recent.find("1").is_some());
        assert!(recent.held.lock().by_name.len() < MOST);
        let over = Recent::new(Duration::ZERO);
        over.key("0", || Token::random(&System)).expect("randomness");
        std::thread::yield_now();
        assert!(over.find("0").is_none());
    }
}
