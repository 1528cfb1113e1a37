//! Who calls.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::Request;
use doorbell_login::{Digest, NoRandomness, Origin, Random, Token};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Refused;
use crate::client_address::client_address;
use crate::context::Context;
use crate::cookies::{LOGIN_COOKIE, VISIT_COOKIE, cookie, cookies};
use crate::http::Peer;
use crate::origin::is_own;

/// What a request says of whoever sent it.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Their own address, proxies seen through.
    pub(super) address: IpAddr,
    pub(super) user_agent: String,
    pub(super) languages: String,
    /// The server's address as they know it, without a slash at its end.
    pub(super) base: String,
    /// The page that asks, when a browser says so.
    pub(super) web_origin: Option<String>,
    /// The cookie of a browser that began a login.
    pub(super) login_cookie: Option<String>,
    /// The cookies of a phone that looked at one, that of the most specific path first.
    visit_cookies: Vec<String>,
    /// What a browser says of where the request was made.
    site: Site,
    pub(super) bearer: Option<String>,
    /// They want JSON, not a page.
    pub(super) wants_json: bool,
}

/// Cookies of one name that are looked at: one for all pages, one for those of a login, one for a provider's callback.
const VISIT_COOKIES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Site {
    /// Nothing: an old browser, or none.
    Unsaid,
    /// A page of this very origin.
    Same,
    /// Another page, or the person themselves.
    Other,
}

impl Caller {
    pub(super) fn of(context: &Context, request: &Request) -> Result<Self, Refused> {
        let headers = request.headers();
        let nobody = Peer { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), tls: false };
        let Peer { address: peer, tls } = request.extensions().get::<Peer>().copied().unwrap_or(nobody);
        let policy = context.policy.load();
        let forwarded = headers.get_all("x-forwarded-for");
        let forwarded: Vec<&[u8]> = forwarded.iter().map(HeaderValue::as_bytes).collect();
        let address = client_address(peer, forwarded.into_iter(), &policy.trusted_proxies);
        let base = match &policy.url {
            Some(url) => url.clone(),
            None => {
                let trusted = crate::admission::is_in(&policy.trusted_proxies, peer);
                let https = tls || trusted && text(headers, "x-forwarded-proto") == Some("https");
                let host = text(headers, header::HOST.as_str()).filter(|host| is_authority(host));
                let host = host
                    .ok_or_else(|| Refused::bad_request("invalid_request", "the Host is missing or odd"))?;
                format!("{}://{host}", if https { "https" } else { "http" })
            }
        };
        let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        let own = origin.map(|origin| is_own(origin, host, tls));
        let site = match (text(headers, "sec-fetch-site"), own) {
            (Some("same-origin"), _) | (None, Some(true)) => Site::Same,
            (None, None) => Site::Unsaid,
            // Pages that send no referrer say `null` of themselves when they post a form (WHATWG Fetch, "append a
            // request Origin header").
            (None, Some(false)) if origin == Some(b"null") => Site::Unsaid,
            _ => Site::Other,
        };
        let sent = headers.get(header::COOKIE).map(HeaderValue::as_bytes).unwrap_or_default();
        let accepts = text(headers, header::ACCEPT.as_str()).unwrap_or_default();
        let sends = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
        Ok(Self {
            address,
            user_agent: text(headers, header::USER_AGENT.as_str()).unwrap_or_default().to_owned(),
            languages: text(headers, header::ACCEPT_LANGUAGE.as_str()).unwrap_or_default().to_owned(),
            base,
            web_origin: origin.and_then(|origin| std::str::from_utf8(origin).ok()).map(str::to_owned),
            login_cookie: cookie(sent, LOGIN_COOKIE).map(str::to_owned),
            visit_cookies: cookies(sent, VISIT_COOKIE).take(VISIT_COOKIES).map(str::to_owned).collect(),
            site,
            bearer: bearer(headers),
            wants_json: accepts.contains("application/json") || sends.starts_with("application/json"),
        })
    }

    /// Where they are and what they say they are.
    pub(super) fn origin(&self) -> Origin {
        Origin::new(self.address, &self.user_agent)
    }

    /// Whether a browser's page asks.
    pub(super) fn is_page(&self) -> bool {
        self.web_origin.is_some() || self.site != Site::Unsaid
    }

    /// Whether a page of this very origin asks.
    pub(super) fn is_same_origin(&self) -> bool {
        self.site == Site::Same
    }

    /// Refuses what another site's page has a browser send.
    pub(super) fn must_be_same_origin(&self) -> Result<(), Refused> {
        if self.site == Site::Other {
            let detail = "this is for the page of this very server";
            return Err(Refused::new(StatusCode::FORBIDDEN, "origin", detail));
        }
        Ok(())
    }

    /// The phone's visit: the key an app was given, the cookie it has, or a fresh one to be set.
    pub(super) fn visit(&self, random: &dyn Random) -> Result<Visit, NoRandomness> {
        if let Some(key) = self.bearer.as_deref().and_then(Token::parse) {
            return Ok(Visit { key, from: VisitFrom::App });
        }
        match self.visit_cookies.first().map(String::as_str).and_then(Token::parse) {
            Some(key) => Ok(Visit { key, from: VisitFrom::Cookie }),
            None => Ok(Visit { key: Token::random(random)?, from: VisitFrom::Here }),
        }
    }

    /// The digests of the visit's cookies.
    pub(super) fn known_visits(&self) -> impl Iterator<Item = Digest> {
        self.visit_cookies.iter().filter_map(|key| Token::parse(key)).map(|key| key.digest())
    }

    /// A `Set-Cookie` for this caller.
    pub(super) fn set_cookie(&self, name: &str, value: &Token, path: &str) -> Option<HeaderValue> {
        let secure = if self.base.starts_with("https://") { "; Secure" } else { "" };
        let value = value.expose();
        let cookie = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::from_str(&cookie).ok().map(|mut cookie| {
            cookie.set_sensitive(true);
            cookie
        })
    }
}

/// A phone's visit.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) key: Token,
    pub(super) from: VisitFrom,
}

/// Where the key of a visit is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VisitFrom {
    /// A provider's app was given it, and says so itself: no other page can have a browser do that.
    App,
    /// The browser sent it.
    Cookie,
    /// It was made a moment ago.
    Here,
}

/// The system's randomness.
#[derive(Debug)]
pub(super) struct System;

impl Random for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        getrandom::fill(bytes).map_err(|_| NoRandomness)
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = text(headers, header::AUTHORIZATION.as_str())?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case("bearer ").then(|| token.trim().to_owned())
}

/// Whether a `Host` can stand in an address.
fn is_authority(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !host.is_empty() && host.len() <= 255 && host.bytes().all(plain)
}
