//! Whether the server can take new connections now, as `/readyz` tells it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a refusal keeps the server from being ready: longer than the acceptor pauses between two tries, and than a
/// load balancer takes to ask again.
const LASTS: Duration = Duration::from_secs(5);

/// The last time somebody was turned away for want of room.
#[derive(Debug, Default)]
pub(crate) struct Health {
    refused: Mutex<Option<(Instant, &'static str)>>,
    /// Threads that have ended though the server had not been told to stop.
    dead: AtomicU64,
}

impl Health {
    /// Takes note that new connections are turned away, or cannot even be accepted.
    pub(crate) fn refused(&self, reason: &'static str) {
        *self.refused.lock() = Some((Instant::now(), reason));
    }

    /// Why new connections are turned away now, if they are.
    pub(crate) fn refusing(&self) -> Option<&'static str> {
        self.refused.lock().filter(|(at, _)| at.elapsed() < LASTS).map(|(_, reason)| reason)
    }

    /// Takes note that a thread has ended before its time.
    pub(crate) fn thread_died(&self) {
        self.dead.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether every thread is there.
    pub(crate) fn is_alive(&self) -> bool {
        self.dead.load(Ordering::Relaxed) == 0
    }
}
