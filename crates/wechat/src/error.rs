//! What a call to WeChat can end with.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::Endpoint;

/// WeChat's `errcode`. Codes that are not listed here occur too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i64);

/// What to do about an [`ErrorCode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// WeChat is busy: the same call may succeed in a second.
    Retry,
    /// The account token is no longer good.
    RefreshToken,
    /// The code is spent, expired or not ours: the person starts the login again.
    StartAgain,
    /// A quota is used up.
    Wait(Quota),
    /// The account's settings at WeChat or here need a change by the operator.
    Configure,
    /// The person may not log in: frozen, high-risk, or has not granted what was asked.
    RefusePerson,
    /// Not known; nothing better than to give up.
    GiveUp,
}

/// How long a quota of WeChat's lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Until midnight in Shanghai.
    Day,
    /// Until the next minute.
    Minute,
}

impl ErrorCode {
    /// `system error`
    pub const BUSY: Self = Self(-1);
    /// `invalid credential, access_token is invalid or not latest`
    pub const INVALID_CREDENTIAL: Self = Self(40_001);
    /// `code been used`
    pub const CODE_USED: Self = Self(40_163);
    /// `invalid code`
    pub const INVALID_CODE: Self = Self(40_029);
    /// `api unauthorized`
    pub const API_UNAUTHORIZED: Self = Self(48_001);

    /// What the code asks of the caller.
    pub const fn advice(self) -> Advice {
        match self.0 {
            -1 => Advice::Retry,
            40_001 | 40_014 | 42_001 => Advice::RefreshToken,
            40_029 | 40_163 | 42_003 | 40_030 | 42_002 | 42_007 => Advice::StartAgain,
            45_009 => Advice::Wait(Quota::Day),
            45_011 => Advice::Wait(Quota::Minute),
            40_003 | 40_013 | 40_125 | 40_164 | 40_169 | 41_030 | 41_002 | 41_004 | 48_001 | 48_004
            | 89_501 | 89_503 | 89_506 | 89_507 => Advice::Configure,
            40_226 | 50_001 | 50_002 => Advice::RefusePerson,
            _ => Advice::GiveUp,
        }
    }

    /// What an operator can do about it, for logs; nothing for codes that are no operator's business.
    pub const fn cure(self) -> Option<&'static str> {
        Some(match self.0 {
            40_001 | 40_125 => "the secret is not this appid's: copy it again from the console",
            40_013 => "the appid is wrong, or is of another kind of account",
            40_164 => "add this server's address to the account's IP allow-list",
            89_501 | 89_503 | 89_506 | 89_507 => {
                "the account's administrator must confirm this server's address"
            }
            45_009 => "the day's quota is used up; it returns at midnight in Shanghai",
            45_011 => "too many calls this minute",
            41_030 => "the mini program has no such published page: publish it, or set `edition`",
            48_001 | 48_004 => {
                "the account has no right to this call: verify it, or use another kind of account"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a call gave no result. Holds no secret, code or token, whatever WeChat wrote into its answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// WeChat answered with an error.
    #[error("{endpoint}: WeChat answered {code}{}{}", Tail("rid", .rid), Tail("cure", &.code.cure()))]
    Refused {
        /// The call.
        endpoint: Endpoint,
        /// WeChat's code.
        code: ErrorCode,
        /// The request's id at WeChat, for their support.
        rid: Option<String>,
    },
    /// The answer is empty, too long, of another HTTP status, not JSON, or lacks a field.
    #[error("{endpoint}: the answer cannot be read: {why}")]
    Unreadable {
        /// The call.
        endpoint: Endpoint,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No connection, or it broke.
    #[error("{endpoint}: WeChat cannot be reached: {why}")]
    Unreachable {
        /// The call.
        endpoint: Endpoint,
        /// What is wrong with it.
        why: String,
    },
    /// No answer in time. Whether WeChat acted on the call is unknown.
    #[error("{endpoint}: no answer in time")]
    TimedOut {
        /// The call.
        endpoint: Endpoint,
    },
    /// Not asked: WeChat said that a quota is used up, and it has not come back yet.
    #[error("{endpoint}: a quota of WeChat's is used up, for {} s more", .retry_after.as_secs())]
    QuotaUsedUp {
        /// The call.
        endpoint: Endpoint,
        /// When to ask again.
        retry_after: Duration,
    },
}

impl CallError {
    /// What to do about it.
    pub const fn advice(&self) -> Advice {
        match self {
            Self::Refused { code, .. } => code.advice(),
            Self::Unreadable { .. } | Self::Unreachable { .. } | Self::TimedOut { .. } => Advice::Retry,
            Self::QuotaUsedUp { .. } => Advice::Wait(Quota::Minute),
        }
    }

    /// WeChat's code, when it answered with one.
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// `, name value`, or nothing.
struct Tail<'a, T>(&'static str, &'a Option<T>);

impl<T: fmt::Display> fmt::Display for Tail<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(value) => write!(f, ", {} {value}", self.0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads a code in the log looks for its words in the table of errors, in both languages.
    #[test]
    fn the_table_of_errors_has_the_words_of_the_log() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wechat.md");
        let table = std::fs::read_to_string(path).expect("a readable file");
        for code in [40_001, 40_013, 40_125, 40_164, 41_030, 45_009, 45_011, 48_001, 89_503] {
            let cure = ErrorCode(code).cure().expect("a cure");
            let words = cure.split([':', ';']).next().unwrap_or(cure);
            let rows = table.lines().filter(|line| line.contains(&code.to_string()) && line.contains(words));
            assert_eq!(rows.count(), 2, "{code}: {words}");
        }
    }
}
