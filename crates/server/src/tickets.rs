//! Tickets: a credential's stand-in for clients that cannot set headers. A ticket may stand in an address, where logs
//! and histories see it, because it works once and for thirty seconds.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a ticket works.
const LIFE: Duration = Duration::from_secs(30);
/// How many there are at once; at the bound the oldest stop working.
const MAX_TICKETS: usize = 100_000;

/// The tickets that still work.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    credentials: HashMap<String, Vec<u8>>,
    /// Oldest first; some are used already.
    order: VecDeque<(Instant, String)>,
}

impl Tickets {
    /// Gives a ticket for `credential`; none when the system has no randomness.
    pub(crate) fn give(&self, credential: Vec<u8>) -> Option<String> {
        use std::fmt::Write as _;
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let mut ticket = String::from("t_");
        for byte in random {
            write!(ticket, "{byte:02x}").ok()?;
        }
        let mut given = self.0.lock();
        given.forget(MAX_TICKETS - 1);
        given.credentials.insert(ticket.clone(), credential);
        given.order.push_back((Instant::now(), ticket.clone()));
        Some(ticket)
    }

    /// Takes a ticket back: the credential it stood for, once.
    pub(crate) fn redeem(&self, ticket: &str) -> Option<Vec<u8>> {
        let mut given = self.0.lock();
        given.forget(MAX_TICKETS);
        given.credentials.remove(ticket)
    }
}

impl Given {
    fn forget(&mut self, most: usize) {
        while self.order.front().is_some_and(|(since, _)| since.elapsed() >= LIFE || self.order.len() > most)
        {
            if let Some((_, ticket)) = self.order.pop_front() {
                self.credentials.remove(&ticket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_works_once() {
        let tickets = Tickets::default();
        let ticket = tickets.give(b"token".to_vec()).expect("randomness");
        assert_eq!(tickets.redeem("t_0"), None);
        assert_eq!(tickets.redeem(&ticket).as_deref(), Some(&b"token"[..]));
        assert_eq!(tickets.redeem(&ticket), None);
    }
}
