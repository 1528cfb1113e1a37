//! WebSocket close codes: RFC 6455 §7.4 and the codes Doorbell adds.

use std::fmt;

/// Why a WebSocket connection ends, as both sides say it in a Close frame.
///
/// Of Doorbell's own codes, a client should come back after 3000 to 3499 and should not after 3500 to 3999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away: a server shutting down, a page being left.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the WebSocket protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The peer sent a kind of data that is not accepted here.
    pub const UNSUPPORTED: Self = Self(1003);
    /// The data does not fit its type: text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A policy was violated and no other code fits.
    pub const POLICY: Self = Self(1008);
    /// The message is larger than the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// The fault is on the server's side.
    pub const INTERNAL: Self = Self(1011);
    /// The server drains: come back, after the time given if one was.
    pub const DRAINING: Self = Self(3001);
    /// The token that proved the uid ran out: come back with a fresh one.
    pub const TOKEN_EXPIRED: Self = Self(3002);
    /// The client read more slowly than messages came and its queue is full: come back and resume.
    pub const TOO_SLOW: Self = Self(3008);
    /// The token does not prove a uid.
    pub const BAD_TOKEN: Self = Self(3500);
    /// The connection was ended by an operator or a backend.
    pub const KICKED: Self = Self(3501);
    /// The first message did not come in time.
    pub const SAID_NOTHING: Self = Self(3502);
    /// The page waited for the backend to say who it is, and the backend did not in time.
    pub const NOT_BOUND: Self = Self(3503);

    /// Whether a Close frame may carry this code.
    ///
    /// Excluded are the codes that only report a missing frame (1005, 1006, 1015), the reserved 1004 and
    /// everything neither registered with IANA nor left to applications: RFC 6455 §7.4.1 and §7.4.2.
    #[must_use]
    pub const fn is_legal_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lists of Autobahn cases 7.7 (legal) and 7.9 (not), with the edges of each range.
    #[test]
    fn only_registered_and_application_codes_are_legal_on_the_wire() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014] {
            assert!(CloseCode(code).is_legal_on_wire(), "{code}");
        }
        for code in [3000, 3001, 3500, 3999, 4000, 4999] {
            assert!(CloseCode(code).is_legal_on_wire(), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!CloseCode(code).is_legal_on_wire(), "{code}");
        }
    }
}
