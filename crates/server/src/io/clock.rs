//! The event loops' coarse clock: deadlines in four bytes.

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
}
