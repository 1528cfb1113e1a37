//! doorbell.v1 without WebSockets: server-sent events (`GET /v1/events`) and long-polls (`GET /v1/poll`).
//!
//! Both are connections of the event loops like any other: while they wait they hold no buffer and no timer. An event
//! stream has no length and ends with its connection, so that any HTTP/1.0 proxy passes it on; a poll is answered once
//! ([`super::poll`]).

use std::time::Duration;

use doorbell_protocol::envelope::{Position, read_position};

use super::connection::Dialect;
use crate::cookies::{LOGIN_COOKIE, cookie};
use crate::login::Stream;
use crate::upgrade::{Refused, busy};

/// How long a poll waits that does not say, and at most. Proxies often cut after 30 or 60 seconds.
const WAIT: Duration = Duration::from_secs(25);
const MAX_WAIT: Duration = Duration::from_secs(55);

/// A request to be told what comes.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) dialect: Dialect,
    /// A token, or with open identity the uid.
    pub(super) credential: Vec<u8>,
    pub(super) resume: Option<Position>,
    /// How long a poll waits.
    pub(super) wait: Duration,
    /// The origin to which the answer is open, when a page of another one asks.
    pub(super) allow_origin: Option<String>,
}

/// What a subscription's request says, as its headers and its query do.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    pub(super) query: &'a str,
    pub(super) authorization: Option<&'a [u8]>,
    pub(super) last_event_id: Option<&'a [u8]>,
    pub(super) origin: Option<&'a [u8]>,
}

/// Where a login's events are.
const LOGIN_EVENTS: &str = "/v1/login/events";

/// Whether a request is for a login's events.
pub(super) fn is_for_login(method: &str, path: &str) -> bool {
    method == "GET" && path == LOGIN_EVENTS
}

/// Reads a request for a login's events: the device code, or a ticket for it.
pub(super) fn read_login(
    asked: &Asked<'_>,
    cookies: Option<&[u8]>,
    redeem: impl FnOnce(&str) -> Option<Vec<u8>>,
) -> Result<Stream, Refused> {
    let read = Subscription::read(Dialect::Events, asked, redeem)?;
    let opened = |answer| opened(answer, read.allow_origin.as_deref());
    let unknown = Refused::new(404, "not_found", "there is no such login, or it is not this browser's");
    Ok(Stream {
        device_code: String::from_utf8(read.credential).unwrap_or_default(),
        cookie: cookies.and_then(|cookies| cookie(cookies, LOGIN_COOKIE)).map(str::to_owned),
        head: opened(events_head(None)),
        unknown: opened(unknown.answer()),
        busy: opened(busy("opening").answer()),
        web_origin: read.allow_origin,
    })
}

/// An answer that the page which asked may read: the cookie that binds its browser to its login came along.
fn opened(mut answer: Vec<u8>, origin: Option<&str>) -> Vec<u8> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    if let (Some(origin), Some(end)) = (origin, end) {
        let lines = format!(
            "\r\nAccess-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n\
             Access-Control-Expose-Headers: Retry-After\r\nVary: Origin"
        );
        answer.splice(end..end, lines.into_bytes());
    }
    answer
}

impl Subscription {
    /// The dialect of a path, if it is one of these two.
    pub(super) fn dialect_of(method: &str, path: &str) -> Option<Dialect> {
        match (method, path) {
            ("GET", "/v1/events") => Some(Dialect::Events),
            ("GET", "/v1/poll") => Some(Dialect::Poll),
            _ => None,
        }
    }

    /// Reads the request. `redeem` turns a ticket into the credential it was given for.
    pub(super) fn read(
        dialect: Dialect,
        asked: &Asked<'_>,
        redeem: impl FnOnce(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, Refused> {
        let parameter = |name: &str| {
            let pairs = asked.query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        let bearer = asked.authorization.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii().to_vec())
        });
        let credential = bearer.or_else(|| parameter("ticket").and_then(redeem));
        let credential = credential.ok_or_else(|| Refused {
            headers: &[("WWW-Authenticate", "Bearer realm=\"doorbell\"")],
            ..Refused::new(
                401,
                "credential",
                "send `Authorization: Bearer TOKEN`, or a fresh ticket as ?ticket=",
            )
        })?;
        let since = match dialect {
            Dialect::Events => asked.last_event_id.and_then(|id| std::str::from_utf8(id).ok()),
            _ => None,
        };
        // URLSearchParams and its like write the colon as %3A.
        let from_query = parameter("since").map(|since| since.replace("%3A", ":").replace("%3a", ":"));
        let since = since.or(from_query.as_deref()).filter(|since| !since.is_empty());
        // What is no place of ours is a place in a memory that is gone.
        let resume = since
            .map(|since| read_position(since).unwrap_or_else(|| Position { epoch: String::new(), seq: 0 }));
        let wait = match parameter("wait").map(str::parse::<u64>) {
            None => WAIT,
            Some(Ok(seconds)) => Duration::from_secs(seconds).min(MAX_WAIT),
            Some(Err(_)) => return Err(Refused::new(400, "wait", "`wait` is a whole number of seconds")),
        };
        let allow_origin = asked.origin.map(|origin| String::from_utf8_lossy(origin).into_owned());
        Ok(Self { dialect, credential, resume, wait, allow_origin })
    }
}

/// The head of an event stream's answer.
pub(super) fn events_head(allow_origin: Option<&str>) -> Vec<u8> {
    head("text/event-stream", "X-Accel-Buffering: no\r\n", allow_origin)
}

pub(super) fn head(kind: &str, more: &str, allow_origin: Option<&str>) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-store, no-transform\r\n{more}Connection: close\r\n"
    );
    if let Some(origin) = allow_origin {
        // It was checked against the allow-list, and a header value that was parsed holds no line break.
        head.push_str(&format!("Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}
