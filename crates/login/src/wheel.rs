//! A timing wheel: what is due when, at the cost of one slot a tick, however much waits.

use std::collections::VecDeque;

use crate::Now;

/// Milliseconds of one slot: how late something may be.
const SLOT_MS: u64 = 250;
/// Slots of one turn: 64 seconds.
const SLOTS: usize = 256;

/// Entries are never taken out early: whoever is given one checks whether it is still meant.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    slots: Vec<Vec<(Now, T)>>,
    /// The slot number (not yet wrapped) that is looked at next.
    next: u64,
    /// Due and not yet given out.
    ready: VecDeque<T>,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: 0, ready: VecDeque::new() }
    }
}

impl<T> Wheel<T> {
    /// Has `item` given out from `at` on.
    pub(crate) fn add(&mut self, at: Now, item: T) {
        let slot = (at / SLOT_MS).max(self.next);
        self.slots[index(slot)].push((at, item));
    }

    /// Takes up to `most` that are due.
    pub(crate) fn due(&mut self, now: Now, most: usize) -> Vec<T> {
        let last = now / SLOT_MS;
        // After a long pause one turn has looked at every slot.
        if last.saturating_sub(self.next) >= SLOTS as u64 {
            self.next = last - SLOTS as u64 + 1;
        }
        while self.next <= last && self.ready.len() < most {
            let slot = &mut self.slots[index(self.next)];
            let mut kept = Vec::new();
            for (at, item) in slot.drain(..) {
                if at <= now {
                    self.ready.push_back(item);
                } else {
                    kept.push((at, item));
                }
            }
            // The slot of now may get more that is due in it, and has to be looked at again.
            let current = self.next == last;
            *slot = kept;
            if current {
                break;
            }
            self.next += 1;
        }
        let count = self.ready.len().min(most);
        self.ready.drain(..count).collect()
    }

    /// How many wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.ready.len() + self.slots.iter().map(Vec::len).sum::<usize>()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is below 256")]
const fn index(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everything_is_given_once_and_never_early(
            steps in proptest::collection::vec((0..300_000_u64, 0..90_000_u64), 1..60),
            most in 1..9_usize,
        ) {
            let mut wheel = Wheel::default();
            let mut now = 0;
            let mut waiting = Vec::new();
            for (item, (ahead, pause)) in steps.into_iter().enumerate() {
                wheel.add(now + ahead, item);
                waiting.push((now + ahead, item));
                now += pause;
                loop {
                    let due = wheel.due(now, most);
                    prop_assert!(due.len() <= most);
                    for item in &due {
                        let at = waiting.iter().position(|(_, other)| other == item).expect("given once");
                        prop_assert!(waiting.swap_remove(at).0 <= now, "early");
                    }
                    if due.is_empty() { break }
                }
                for (at, item) in &waiting {
                    prop_assert!(*at + SLOT_MS > now, "{item} was due at {at}, and it is {now}");
                }
            }
            prop_assert_eq!(wheel.len(), waiting.len());
        }
    }
}
