//! How many logins are under way, by address and in all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;

use crate::rules::Rules;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_network: HashMap<IpAddr, u32>,
    total: usize,
}

/// Why there is no room for another login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowded {
    /// The address has as many as it may have.
    Address,
    /// There is no room at all.
    Everywhere,
}

/// An address may have at most this part of the places that are free. However many addresses flood the table, some
/// places stay free for an address that has none (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on
/// Networking 6(2), 1998).
const SHARE: usize = 100;

impl Crowd {
    /// Counts one more login of `address`, if there is room. An exempt address counts in all only.
    pub(crate) fn enter(&self, address: IpAddr, exempt: bool, rules: &Rules) -> Result<(), Crowded> {
        let mut counts = self.0.lock();
        let free = rules.attempts.saturating_sub(counts.total);
        if free == 0 {
            return Err(Crowded::Everywhere);
        }
        if !exempt {
            let most = (rules.attempts_per_ip as usize).min((free / SHARE).max(1));
            let count = counts.by_network.entry(network(address)).or_insert(0);
            if *count as usize >= most {
                return Err(Crowded::Address);
            }
            *count += 1;
        }
        counts.total += 1;
        Ok(())
    }

    /// Counts one less.
    pub(crate) fn leave(&self, address: IpAddr, exempt: bool) {
        let mut counts = self.0.lock();
        counts.total = counts.total.saturating_sub(1);
        if !exempt && let Some(count) = counts.by_network.get_mut(&network(address)) {
            *count -= 1;
            if *count == 0 {
                counts.by_network.remove(&network(address));
            }
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.0.lock().total
    }
}

/// What one subscriber is given: an IPv4 address, an IPv6 /64 (RFC 6177 section 2).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_addresses_flood_it_a_newcomer_finds_a_place() {
        let crowd = Crowd::default();
        let rules = Rules { attempts: 10_000, attempts_per_ip: 50, ..Rules::default() };
        let mut entered = 0_usize;
        for round in 0..200 {
            for address in 0..5_000_u32 {
                let address = IpAddr::from((0x0a00_0000 + address).to_be_bytes());
                let admitted = crowd.enter(address, false, &rules);
                assert!(round == 0 || admitted != Err(Crowded::Everywhere));
                entered += usize::from(admitted.is_ok());
            }
        }
        assert_eq!(crowd.total(), entered);
        assert!(entered < 10_000, "{entered}");
        let newcomer = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(crowd.enter(newcomer, false, &rules), Ok(()));
        crowd.leave(newcomer, false);
        assert_eq!(crowd.total(), entered);
    }

    #[test]
    fn an_address_has_its_limit_and_an_exempt_one_only_that_of_all() {
        let crowd = Crowd::default();
        let rules = Rules { attempts: 1_000, attempts_per_ip: 2, ..Rules::default() };
        let one = "2001:db8::1".parse().expect("an address");
        let same = "2001:db8::2".parse().expect("an address");
        assert_eq!(crowd.enter(one, false, &rules), Ok(()));
        assert_eq!(crowd.enter(same, false, &rules), Ok(()));
        assert_eq!(crowd.enter(one, false, &rules), Err(Crowded::Address));
        for _ in 0..998 {
            assert_eq!(crowd.enter(one, true, &rules), Ok(()));
        }
        assert_eq!(crowd.enter(one, true, &rules), Err(Crowded::Everywhere));
        crowd.leave(same, false);
        assert_eq!(
            crowd.enter(one, false, &rules),
            Err(Crowded::Address),
            "the last place is for somebody else"
        );
        crowd.leave(one, false);
        assert_eq!(crowd.enter(one, false, &rules), Ok(()));
    }
}
