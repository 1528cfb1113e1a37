//! Budgets of wrong typed codes: five from an address in ten minutes, and so many from everybody in a day that
//! guessing hits once in ten thousand days.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::Now;
use crate::crowd::network;
use crate::rules::Rules;

/// Wrong codes from one address (IPv6: one /64) before it has to wait.
pub const TRIES: u32 = 5;
/// How long it has to wait, from its first wrong code on.
pub const TRIES_WINDOW_MS: u64 = 10 * 60 * 1_000;
/// Addresses whose wrong codes are remembered; the budget of all bounds what forgetting some allows.
const MOST_ADDRESSES: usize = 100_000;
/// One part of the day.
const HOUR_MS: u64 = 3_600 * 1_000;
/// The hours of a day, and the one under way.
const HOURS: usize = 25;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_network: HashMap<IpAddr, (Now, u32)>,
    /// What was spent in each hour of the last day, by hour modulo their number.
    hours: [u64; HOURS],
    hour: u64,
}

/// Why a typed code is not looked up, right or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guessing {
    /// The address has typed too many wrong ones: it may again after so many milliseconds.
    Address(u64),
    /// Everybody together has: typed codes are off, QR codes are not.
    Everybody,
}

impl Guesses {
    /// Whether `address` may have a code looked up.
    pub(crate) fn check(&self, address: IpAddr, rules: &Rules, now: Now) -> Result<(), Guessing> {
        let mut counts = self.0.lock();
        if let Some((since, wrong)) = counts.by_network.get(&network(address)) {
            let until = since.saturating_add(TRIES_WINDOW_MS);
            if *wrong >= TRIES && now < until {
                return Err(Guessing::Address(until - now));
            }
        }
        if counts.spent(now) >= budget(rules) { Err(Guessing::Everybody) } else { Ok(()) }
    }

    /// Counts a wrong one while `live` codes could have been hit.
    pub(crate) fn wrong(&self, address: IpAddr, live: usize, rules: &Rules, now: Now) {
        let mut counts = self.0.lock();
        if counts.by_network.len() >= MOST_ADDRESSES {
            counts.by_network.retain(|_, (since, _)| now < since.saturating_add(TRIES_WINDOW_MS));
        }
        let full = counts.by_network.len() >= MOST_ADDRESSES;
        let address = network(address);
        if !full || counts.by_network.contains_key(&address) {
            let (since, wrong) = counts.by_network.entry(address).or_insert((now, 0));
            if now >= since.saturating_add(TRIES_WINDOW_MS) {
                (*since, *wrong) = (now, 0);
            }
            *wrong += 1;
        }
        counts.spent(now);
        let hour = counts.this_hour();
        counts.hours[hour] += (live as u64).max(u64::from(rules.typed_codes));
    }
}

/// In wrong codes times live codes.
fn budget(rules: &Rules) -> u64 {
    u64::from(rules.wrong_codes) * u64::from(rules.typed_codes)
}

impl Counts {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 25")]
    const fn this_hour(&self) -> usize {
        (self.hour % HOURS as u64) as usize
    }

    /// What was spent in the last day.
    fn spent(&mut self, now: Now) -> u64 {
        let hour = now / HOUR_MS;
        if hour.saturating_sub(self.hour) >= HOURS as u64 {
            self.hours = [0; HOURS];
            self.hour = hour;
        }
        while self.hour < hour {
            self.hour += 1;
            let this = self.this_hour();
            self.hours[this] = 0;
        }
        self.hours.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_wrong_codes_from_one_network_are_enough() {
        let (guesses, rules) = (Guesses::default(), Rules::default());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..TRIES {
            assert_eq!(guesses.check(one, &rules, 1_000), Ok(()));
            guesses.wrong(one, 1, &rules, 1_000);
        }
        assert_eq!(guesses.check(one, &rules, 2_000), Err(Guessing::Address(TRIES_WINDOW_MS - 1_000)));
        assert_eq!(guesses.check(other, &rules, 2_000), Ok(()));
        assert_eq!(guesses.check(one, &rules, 1_000 + TRIES_WINDOW_MS), Ok(()));
    }

    #[test]
    fn no_day_has_more_wrong_codes_than_the_budget() {
        let rules = Rules { wrong_codes: 48, ..Rules::default() };
        let guesses = Guesses::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let mut wrong = Vec::new();
        // Half an hour apart, for five days, as many as are allowed.
        for step in 0..240_u64 {
            let now = step * HOUR_MS / 2;
            for number in 0..7 {
                let number = u32::try_from(step * 7 + number).expect("small");
                if guesses.check(address(number), &rules, now).is_ok() {
                    guesses.wrong(address(number), 10, &rules, now);
                    wrong.push(now);
                }
            }
        }
        let day = 24 * HOUR_MS;
        for start in &wrong {
            let count = wrong.iter().filter(|at| (*start..*start + day).contains(*at)).count();
            assert!(count <= 48, "{count} in a day");
        }
        assert!(wrong.len() > 48, "the budget comes back");
    }

    #[test]
    fn more_live_codes_use_the_budget_up_faster() {
        let rules = Rules { wrong_codes: 10, typed_codes: 1_000, ..Rules::default() };
        let guesses = Guesses::default();
        guesses.wrong(IpAddr::from([192, 0, 2, 1]), 10_000, &rules, 0);
        assert_eq!(guesses.check(IpAddr::from([192, 0, 2, 2]), &rules, 0), Err(Guessing::Everybody));
    }
}
