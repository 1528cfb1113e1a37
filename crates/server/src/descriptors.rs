//! How many descriptors the process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for the listeners, the API, logs and the moment a connection is refused.
const RESERVED: u64 = 256;

/// Raises the soft limit to the hard one and says how many connections the event loops may hold.
pub(crate) fn capacity() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let current = current.unwrap_or(u64::MAX);
    let reserved = RESERVED.min(current / 4);
    usize::try_from(current - reserved).unwrap_or(usize::MAX)
}
