//! A bound on how many there may be of something at once, which may change while some are there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there are.
#[derive(Debug, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

/// A place in a [`Room`], for as long as it is held.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Room {
    /// A place, unless `most` are taken.
    pub(super) fn enter(&self, most: usize) -> Option<Place> {
        let enter = |taken| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok()?;
        Some(Place(Arc::clone(&self.0)))
    }

    /// Places taken.
    pub(super) fn taken(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_room_lets_in_whoever_comes_after_somebody_left_or_the_bound_rose() {
        let room = Room::default();
        let first = room.enter(1).expect("room");
        assert!(room.enter(1).is_none());
        let second = room.enter(2).expect("more room");
        assert_eq!(room.taken(), 2);
        drop((first, second));
        assert_eq!(room.taken(), 0);
        assert!(room.enter(0).is_none());
    }
}
