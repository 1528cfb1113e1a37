//! Whether a request to become a WebSocket is granted: one answer for the event loops and for the HTTP library.

use std::net::IpAddr;

use doorbell_protocol::Deflate;
use doorbell_protocol::envelope::SUBPROTOCOL;
use doorbell_protocol::handshake::{Upgrade, refusal};

use crate::io::Dialect;
use crate::policy::Policy;

/// Paths on which a WebSocket lives.
pub(crate) const PATHS: [&str; 2] = ["/", "/ws"];

/// A refused request: the whole HTTP response, and its label in the metrics.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
    /// Names and values of headers the status calls for.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Refused {
    pub(crate) fn new(status: u16, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { status, reason, detail: detail.into(), headers: &[] }
    }

    /// The refusal of a credential.
    pub(crate) fn unauthorized(reason: &'static str) -> Self {
        Self {
            headers: &[("WWW-Authenticate", "Bearer realm=\"doorbell\", error=\"invalid_token\"")],
            ..Self::new(401, reason, format!("the token is not accepted: {reason}"))
        }
    }

    /// The response, byte for byte.
    pub(crate) fn answer(&self) -> Vec<u8> {
        refusal(self.status, phrase(self.status), self.reason, self.headers, &self.detail)
    }
}

/// A request that becomes a WebSocket.
#[derive(Debug)]
pub(crate) struct Granted {
    /// The complete 101 head.
    pub(crate) answer: Vec<u8>,
    pub(crate) dialect: Dialect,
    pub(crate) deflate: Option<Deflate>,
}

/// Checks everything about the request itself.
///
/// A subprotocol that is not known is not chosen, and the connection is plain, as it is without any.
pub(crate) fn grant(upgrade: &Upgrade<'_>, policy: &Policy) -> Result<Granted, Refused> {
    let accepted = upgrade.accept().map_err(|error| Refused {
        headers: error.headers(),
        ..Refused::new(error.status(), error.reason(), error.to_string())
    })?;
    if !policy.origins.allows(upgrade.origin(), upgrade.host()) {
        return Err(origin_refused(upgrade.origin()));
    }
    let deflate = upgrade.deflate().filter(|_| policy.compression);
    let v1 = upgrade.protocols().any(|protocol| protocol == SUBPROTOCOL);
    let (subprotocol, dialect) = if v1 { (Some(SUBPROTOCOL), Dialect::V1) } else { (None, Dialect::Plain) };
    Ok(Granted { answer: accepted.response(subprotocol, deflate), dialect, deflate })
}

/// The refusal of a page from an origin that is not allowed.
pub(crate) fn origin_refused(origin: Option<&[u8]>) -> Refused {
    let origin = String::from_utf8_lossy(origin.unwrap_or_default()).into_owned();
    let detail = format!(
        "the origin {origin} is not allowed; add it to public.origins, or load the page from this server's host"
    );
    Refused::new(403, "origin", detail)
}

/// The refusal of one connection too many from one address.
pub(crate) fn too_many_from(address: IpAddr) -> Refused {
    Refused {
        headers: &[("Retry-After", "10")],
        ..Refused::new(429, "connections_per_ip", format!("{address} has as many connections as it may have"))
    }
}

/// The refusal of new connections that come too fast or do not fit.
pub(crate) fn busy(reason: &'static str) -> Refused {
    let detail = "the server takes no new connection now; come back in a second";
    Refused { headers: &[("Retry-After", "1")], ..Refused::new(503, reason, detail) }
}

fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error")
}
