//! The first bytes of a public connection: an optional PROXY header, where TLS is spoken a hello, then an HTTP request
//! head.
//!
//! Requests for a WebSocket are answered here and stay with the event loop; every other request goes, as it came, to
//! the HTTP library. The head is parsed once for the limits to be the same for both.

use std::net::IpAddr;

use doorbell_protocol::handshake::{Upgrade, find_head_end};
use doorbell_protocol::proxy::{self, ProxyHeader};

use super::connection::Connection;
use super::life::Role;
use super::stream::{Asked, Subscription, is_for_login, read_login};
use super::tools::Tools;
use crate::admission::is_in;
use crate::client_address::client_address;
use crate::login::Stream;
use crate::policy::Policy;
use crate::upgrade::{Granted, PATHS, Refused, grant, origin_refused, too_many_from};

/// Header fields a request may have; browsers send about twenty.
const MAX_HEADERS: usize = 64;

/// What the first bytes are.
#[derive(Debug)]
pub(super) enum Head {
    /// Not all there yet.
    Partial,
    /// Not acceptable; this is the answer.
    Refused { answer: Vec<u8>, reason: &'static str },
    /// A granted upgrade, how long the request was, and whose connection it is.
    WebSocket { granted: Granted, consumed: usize, address: IpAddr, counted: bool },
    /// A request to be told what comes, by server-sent events or a long-poll.
    Subscribe { subscription: Box<Subscription>, address: IpAddr, counted: bool },
    /// A request to be told how a login goes.
    WatchLogin { stream: Box<Stream>, address: IpAddr, counted: bool },
    /// Another request, from `skip` on.
    Http { peer: IpAddr, skip: usize },
}

impl From<Refused> for Head {
    fn from(refused: Refused) -> Self {
        Self::Refused { answer: refused.answer(), reason: refused.reason }
    }
}

/// What the first bytes are where TLS is spoken.
#[derive(Debug)]
pub(super) enum Hello {
    /// Not all there yet.
    Partial,
    /// Not TLS; this is the answer, in the clear.
    Refused { answer: Vec<u8>, reason: &'static str },
    /// Whatever is from `skip` on is for TLS to judge.
    Tls { peer: IpAddr, skip: usize },
}

/// Reads what there is in front of a TLS hello: of a load balancer that passes TLS through, its PROXY header.
pub(super) fn read_hello(bytes: &[u8], peer: IpAddr, tools: &Tools) -> Hello {
    let (peer, skip) = match proxied(bytes, peer, is_in(&tools.policy.trusted_proxies, peer)) {
        Ok(found) => found,
        Err(Head::Refused { answer, reason }) => return Hello::Refused { answer, reason },
        Err(_) => return Hello::Partial,
    };
    match bytes.get(skip) {
        None => Hello::Partial,
        // A method, or an empty line before it. Nothing in the request was looked at: it may hold a token, which was
        // sent in the clear.
        Some(byte) if byte.is_ascii_alphabetic() || matches!(byte, b'\r' | b'\n') => {
            let detail = "this port speaks TLS: use https:// and wss:// here";
            let refused = Refused::new(400, "not_tls", detail);
            Hello::Refused { answer: refused.answer(), reason: refused.reason }
        }
        Some(_) => Hello::Tls { peer, skip },
    }
}

/// Reads what there is.
pub(super) fn read(bytes: &[u8], connection: &Connection, role: Role, tools: &Tools) -> Head {
    let policy = &tools.policy;
    let (peer, counted) = (connection.address, connection.counted);
    // Under TLS a PROXY header had its place before the hello: behind that, a client behind a load balancer could write it.
    let may_be_proxied = connection.tls.is_none() && is_in(&policy.trusted_proxies, peer);
    let (peer, skip) = match proxied(bytes, peer, may_be_proxied) {
        Ok(found) => found,
        Err(head) => return head,
    };
    let request = &bytes[skip..];
    let limit = policy.limits.head_bytes;
    // A WebSocket client may send frames right behind its head; only the head counts towards the limit.
    let Some(end) = find_head_end(request, 0) else {
        return if request.len() > limit { too_large(limit) } else { reject_early(request) };
    };
    if end > limit {
        return too_large(limit);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(&request[..end]) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return malformed("its head ends too soon"),
        Err(httparse::Error::TooManyHeaders) => return too_large(limit),
        Err(error) => return malformed(&error.to_string()),
    }
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let fields = || parsed.headers.iter().map(|header| (header.name, header.value));
    let upgrade = Upgrade::from_headers(method, parsed.version.unwrap_or_default(), fields());
    let (path, query) = path_and_query(target);
    let dialect = Subscription::dialect_of(method, path);
    let for_login = is_for_login(method, path);
    if role == Role::Page && (for_login || dialect.is_some()) {
        let field = |name: &str| {
            let mut fields = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            fields.next().map(|header| header.value)
        };
        let asked = Asked {
            query,
            authorization: field("authorization"),
            last_event_id: field("last-event-id"),
            origin: field("origin"),
        };
        if !policy.origins.allows(asked.origin, upgrade.host()) {
            return origin_refused(asked.origin).into();
        }
        let redeem = |ticket: &str| tools.context.tickets.redeem(ticket);
        let admit = || admit(parsed.headers, peer, counted, tools);
        let head = match dialect {
            Some(dialect) => Subscription::read(dialect, &asked, redeem).and_then(|subscription| {
                let (address, counted) = admit()?;
                Ok(Head::Subscribe { subscription: Box::new(subscription), address, counted })
            }),
            None => read_login(&asked, field("cookie"), redeem).and_then(|stream| {
                let (address, counted) = admit()?;
                Ok(Head::WatchLogin { stream: Box::new(stream), address, counted })
            }),
        };
        return head.unwrap_or_else(Head::from);
    }
    if !upgrade.is_requested() || !PATHS.contains(&path) {
        return match role {
            Role::Page => Head::Http { peer, skip },
            Role::Echo => {
                Refused::new(426, "no_upgrade", "this server only echoes WebSocket messages").into()
            }
        };
    }
    let granted = match grant(&upgrade, policy) {
        Ok(granted) => granted,
        Err(refused) => return refused.into(),
    };
    let (address, counted) = match admit(parsed.headers, peer, counted, tools) {
        Ok(admitted) => admitted,
        Err(refused) => return refused.into(),
    };
    Head::WebSocket { granted, consumed: skip + end, address, counted }
}

/// The path and the query of a request target, which a client that takes the server for a proxy writes with scheme and
/// host (RFC 9112 section 3.2.2).
fn path_and_query(target: &str) -> (&str, &str) {
    let relative = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let (path, query) = relative.split_once('?').unwrap_or((relative, ""));
    (if path.is_empty() { "/" } else { path }, query)
}

/// Whose connection it is, and whether it is now counted; `counted` says whether it is already.
fn admit(
    headers: &[httparse::Header<'_>],
    peer: IpAddr,
    counted: bool,
    tools: &Tools,
) -> Result<(IpAddr, bool), Refused> {
    let Policy { limits, trusted_proxies, .. } = &*tools.policy;
    let forwarded = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("x-forwarded-for"))
        .map(|header| header.value);
    let address = client_address(peer, forwarded, trusted_proxies);
    if counted || is_in(&limits.exempt, address) {
        return Ok((address, counted));
    }
    if tools.context.addresses.admit(address, limits.connections_per_ip) {
        Ok((address, true))
    } else {
        Err(too_many_from(address))
    }
}

/// The answer to a head that did not come in time.
pub(super) fn timeout_answer() -> Vec<u8> {
    Refused::new(408, "head_timeout", "the request head did not arrive in time").answer()
}

/// Sees through a PROXY header, which only trusted proxies may send.
fn proxied(bytes: &[u8], peer: IpAddr, trusted: bool) -> Result<(IpAddr, usize), Head> {
    if !trusted {
        return Ok((peer, 0));
    }
    match proxy::parse(bytes) {
        Ok(ProxyHeader::Absent) => Ok((peer, 0)),
        Ok(ProxyHeader::Partial) => Err(Head::Partial),
        Ok(ProxyHeader::Present { source, consumed }) => {
            Ok((source.map_or(peer, |source| source.ip().to_canonical()), consumed))
        }
        Err(error) => Err(Refused::new(400, "proxy_header", error.to_string()).into()),
    }
}

/// Refuses at the first line what cannot become HTTP, such as a TLS hello or noise, instead of waiting for more.
fn reject_early(request: &[u8]) -> Head {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let method = request.split(|byte| *byte == b' ').next().unwrap_or_default();
    // Empty lines before a request are allowed (RFC 9112 section 2.2).
    let method = method.trim_ascii_start();
    if method.len() > 32 || !method.iter().all(token) {
        let tls = request.first() == Some(&0x16);
        return malformed(if tls {
            "it is TLS; use http:// and ws:// here"
        } else {
            "it does not begin with a method"
        });
    }
    Head::Partial
}

fn malformed(what: &str) -> Head {
    Refused::new(400, "malformed_head", format!("this is no HTTP/1.1 request: {what}")).into()
}

fn too_large(limit: usize) -> Head {
    Refused::new(431, "head_too_large", format!("the request head is larger than {limit} bytes")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_split_in_both_forms() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/ws?a=b?c", "/ws", "a=b?c"),
            ("http://x", "/", ""),
            ("http://x:1/ws?a", "/ws", "a"),
            ("https://x?a=/", "/", "a=/"),
            ("/a://b", "/a://b", ""),
            ("/v1/poll?since=e:1", "/v1/poll", "since=e:1"),
        ] {
            assert_eq!(path_and_query(target), (path, query), "{target}");
        }
    }
}
