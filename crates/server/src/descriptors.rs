//! How the process's descriptors are shared out.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for listeners, epoll sets, logs and the moment a connection is refused.
const SPARE: usize = 64;

/// How many connections each part of a server may hold, so that none can starve another of descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// WebSockets and text-port connections, in the event loops.
    pub(crate) connections: usize,
    /// Ordinary HTTP on the public listener.
    pub(crate) http: usize,
    /// The API.
    pub(crate) api: usize,
}

impl Budget {
    /// Raises the process's soft limit to the hard one and shares it out.
    pub(crate) fn take() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
        Self::of(current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX)))
    }

    const fn of(descriptors: usize) -> Self {
        let api = if descriptors / 16 < 256 { descriptors / 16 } else { 256 };
        let http = if descriptors / 8 < 512 { descriptors / 8 } else { 512 };
        let connections = descriptors.saturating_sub(api + http + SPARE);
        Self { connections: if connections == 0 { 1 } else { connections }, http, api }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_descriptors_are_for_pages_and_everyone_has_some() {
        assert_eq!(Budget::of(1_024), Budget { connections: 768, http: 128, api: 64 });
        assert_eq!(Budget::of(20_000), Budget { connections: 19_168, http: 512, api: 256 });
        assert_eq!(Budget::of(80), Budget { connections: 1, http: 10, api: 5 });
    }
}
