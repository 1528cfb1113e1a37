//! Quotas that WeChat said are used up: until they return, nothing is asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::Quota;
use crate::{CallError, Endpoint};

/// Shanghai's offset from UTC, in seconds; it has no summer time.
const SHANGHAI_SECONDS: u64 = 8 * 3_600;
const DAY_SECONDS: u64 = 86_400;

/// When each call may be made again.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<[Option<Instant>; Endpoint::COUNT]>);

impl Quotas {
    /// Refuses a call whose quota is used up.
    pub(crate) fn check(&self, endpoint: Endpoint) -> Result<(), CallError> {
        let until = self.0.lock()[endpoint.index()];
        let retry_after = until.map(|until| until.saturating_duration_since(Instant::now()));
        match retry_after {
            Some(retry_after) if !retry_after.is_zero() => {
                Err(CallError::QuotaUsedUp { endpoint, retry_after })
            }
            _ => Ok(()),
        }
    }

    /// Remembers what WeChat said.
    pub(crate) fn used_up(&self, endpoint: Endpoint, quota: Quota) {
        // The minute quota of this call is each user's own; it stops nobody else.
        if endpoint == Endpoint::CodeToSession && quota == Quota::Minute {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wait = match quota {
            Quota::Minute => Duration::from_secs(60),
            Quota::Day => until_midnight(now.as_secs()),
        };
        tracing::error!(%endpoint, seconds = wait.as_secs(), "a quota of WeChat's is used up; pausing this call");
        self.0.lock()[endpoint.index()] = Some(Instant::now() + wait);
    }
}

/// From a time in seconds since the Unix epoch until the next midnight in Shanghai.
fn until_midnight(unix_seconds: u64) -> Duration {
    Duration::from_secs(DAY_SECONDS - (unix_seconds + SHANGHAI_SECONDS) % DAY_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_days_quota_returns_at_midnight_in_shanghai() {
        // 2026-11-25 15:59:59 and 16:00:00 UTC.
        assert_eq!(until_midnight(1_795_622_399), Duration::from_secs(1));
        assert_eq!(until_midnight(1_795_622_400), Duration::from_secs(DAY_SECONDS));
    }

    #[test]
    fn a_used_up_quota_stops_its_call_alone() {
        let quotas = Quotas::default();
        quotas.used_up(Endpoint::UserInfo, Quota::Minute);
        assert!(matches!(quotas.check(Endpoint::UserInfo), Err(CallError::QuotaUsedUp { .. })));
        assert_eq!(quotas.check(Endpoint::CodeToToken), Ok(()));
        quotas.used_up(Endpoint::CodeToSession, Quota::Minute);
        assert_eq!(quotas.check(Endpoint::CodeToSession), Ok(()));
    }
}
