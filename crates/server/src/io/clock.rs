//! The event loops' coarse clock: deadlines in four bytes; and stamps that say when a ping was sent.

use std::time::{Duration, Instant};

/// How long a tick is. Deadlines of seconds need no finer one, and a sweep a tick costs nothing worth measuring.
pub(super) const TICK: Duration = Duration::from_millis(125);

/// A moment, in ticks since the clock started; good for 17 years. `Tick::NEVER` is later than all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u32);

impl Tick {
    pub(super) const NEVER: Self = Self(u32::MAX);

    /// The first tick at which `wait` has certainly passed.
    pub(super) fn after(self, wait: Duration) -> Self {
        let ticks = wait.as_nanos().div_ceil(TICK.as_nanos()).saturating_add(1);
        Self(self.0.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX)))
    }
}

/// Monotonic, so stepping the wall clock moves no deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(self) -> Tick {
        self.at(Instant::now())
    }

    pub(super) fn at(self, now: Instant) -> Tick {
        let ticks = now.saturating_duration_since(self.start).as_nanos() / TICK.as_nanos();
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX - 1))
    }

    /// The present moment, for a ping to carry there and back: microseconds since the start, which begin again at 0
    /// after 71 minutes.
    pub(super) fn stamp(self) -> [u8; 4] {
        self.micros().to_be_bytes()
    }

    /// How long ago `stamp` was made. `None` when that is more than `most`, or it is no stamp: anybody may have written
    /// it.
    pub(super) fn since_stamp(self, stamp: &[u8], most: Duration) -> Option<Duration> {
        let made = u32::from_be_bytes(stamp.try_into().ok()?);
        let since = Duration::from_micros(u64::from(self.micros().wrapping_sub(made)));
        (since <= most).then_some(since)
    }

    #[expect(clippy::cast_possible_truncation, reason = "it begins again")]
    fn micros(self) -> u32 {
        self.start.elapsed().as_micros() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_good_over_their_own_beginning_and_within_the_bound() {
        // So old that the count began again five seconds ago.
        let start = Instant::now().checked_sub(Duration::from_micros((1 << 32) + 5_000_000));
        let clock = Clock { start: start.expect("the machine has run for longer") };
        let ago = |seconds: u32| clock.micros().wrapping_sub(seconds * 1_000_000).to_be_bytes();
        let second = Duration::from_secs(1);
        assert!(clock.since_stamp(&clock.stamp(), second).is_some());
        assert!(clock.since_stamp(&ago(10), 11 * second).is_some_and(|since| since >= 10 * second));
        assert_eq!(clock.since_stamp(&ago(10), 9 * second), None);
        let ahead = clock.micros().wrapping_add(60_000_000).to_be_bytes();
        assert_eq!(clock.since_stamp(&ahead, 600 * second), None, "from the future");
        for no_stamp in [&b""[..], b"abc", b"abcde"] {
            assert_eq!(clock.since_stamp(no_stamp, Duration::MAX), None);
        }
    }
}
