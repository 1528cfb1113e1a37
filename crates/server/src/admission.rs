//! Who may connect now: connections per address, and how many new ones a second.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use ipnet::IpNet;
use parking_lot::Mutex;

/// Open connections by address. IPv6 counts by /64: that is what one subscriber is given (RFC 6177 section 2).
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    open: Mutex<HashMap<IpAddr, u32>>,
}

impl Addresses {
    /// Counts one more connection of `address`, unless it has `limit` already.
    pub(crate) fn admit(&self, address: IpAddr, limit: u32) -> bool {
        let mut open = self.open.lock();
        let count = open.entry(network(address)).or_insert(0);
        if *count >= limit {
            return false;
        }
        *count += 1;
        true
    }

    /// Counts one connection of `address` less.
    pub(crate) fn release(&self, address: IpAddr) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&network(address)) {
            *count -= 1;
            if *count == 0 {
                open.remove(&network(address));
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Whether `address` is in one of `networks`; an IPv4 address mapped into IPv6 counts as what it is.
pub(crate) fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address.to_canonical()))
}

/// A token bucket: `rate` a second on average, two seconds' worth at once.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    const BURST_SECONDS: f64 = 2.0;

    pub(crate) fn full(rate: u32, now: Instant) -> Self {
        Self { tokens: f64::from(rate) * Self::BURST_SECONDS, filled: now }
    }

    /// Takes one token if there is one.
    pub(crate) fn take(&mut self, rate: u32, now: Instant) -> bool {
        let rate = f64::from(rate);
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = elapsed.mul_add(rate, self.tokens).min((rate * Self::BURST_SECONDS).max(1.0));
        self.filled = now;
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bucket_gives_its_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(10, start);
        assert_eq!((0..100).filter(|_| bucket.take(10, start)).count(), 20);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| bucket.take(10, later)).count(), 5);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| bucket.take(10, much_later)).count(), 20);
    }

    #[test]
    fn bucket_counts_fractions_when_asked_often() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(10, start);
        let taken = (0..=10_000u32)
            .filter(|step| bucket.take(10, start + Duration::from_millis(u64::from(*step))))
            .count();
        assert!((119..=121).contains(&taken), "20 at once and 10 a second for 10 s, got {taken}");
    }

    #[test]
    fn addresses_are_counted_and_forgotten() {
        let addresses = Addresses::default();
        let one = IpAddr::from([192, 0, 2, 1]);
        assert!(addresses.admit(one, 1));
        assert!(!addresses.admit(one, 1));
        assert!(addresses.admit(IpAddr::from([192, 0, 2, 2]), 1));
        addresses.release(one);
        assert!(addresses.admit(one, 1));
        addresses.release(one);
        addresses.release(IpAddr::from([192, 0, 2, 2]));
        assert!(addresses.open.lock().is_empty());
    }

    #[test]
    fn ipv6_counts_by_its_64() {
        let addresses = Addresses::default();
        assert!(addresses.admit("2001:db8::1".parse().unwrap(), 1));
        assert!(!addresses.admit("2001:db8::2".parse().unwrap(), 1));
        assert!(addresses.admit("2001:db8:0:1::1".parse().unwrap(), 1));
    }
}
