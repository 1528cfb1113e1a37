//! Which web origins may open a WebSocket (RFC 6455 section 10.2; cross-site WebSocket hijacking).

use std::net::IpAddr;

use crate::settings::IdentityMode;

/// The allow-list and what is allowed without it.
#[derive(Debug, Clone)]
pub(crate) struct OriginPolicy {
    listed: Vec<String>,
    any: bool,
    /// With open identity: `null` (a page opened from a file) and loopback origins, for development.
    development: bool,
    /// The listener speaks TLS, so that a page of its own host came by https: whoever is on the way of one that came
    /// by http can make it say what they like.
    tls: bool,
}

impl OriginPolicy {
    pub(crate) fn new(origins: &[String], identity: IdentityMode, tls: bool) -> Self {
        Self {
            listed: origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect(),
            any: origins.iter().any(|origin| origin == "*"),
            development: identity == IdentityMode::Open,
            tls,
        }
    }

    /// Any origin, as for a conformance suite's echo server.
    pub(crate) const fn any() -> Self {
        Self { listed: Vec::new(), any: true, development: true, tls: false }
    }

    /// Whether a request with this `Origin` for this `Host` is welcome. No origin at all is: it is no browser, or
    /// not cross-site.
    pub(crate) fn allows(&self, origin: Option<&[u8]>, host: Option<&[u8]>) -> bool {
        let Some(origin) = origin else { return true };
        if self.any {
            return true;
        }
        let Ok(origin) = std::str::from_utf8(origin) else { return false };
        let origin = origin.to_ascii_lowercase();
        if self.listed.contains(&origin) {
            return true;
        }
        if origin == "null" {
            return self.development;
        }
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        is_own_host(scheme, authority, host, self.tls)
            || (self.development && is_web(scheme) && is_loopback(authority))
    }
}

/// Whether an origin is that of the very host it speaks to; `tls` says whether it does so by TLS of this server's.
pub(crate) fn is_own(origin: &[u8], host: Option<&[u8]>, tls: bool) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let origin = origin.to_ascii_lowercase();
    origin.split_once("://").is_some_and(|(scheme, authority)| is_own_host(scheme, authority, host, tls))
}

fn is_own_host(scheme: &str, authority: &str, host: Option<&[u8]>, tls: bool) -> bool {
    is_web(scheme) && (scheme == "https" || !tls) && is_host(scheme, authority, host)
}

fn is_web(scheme: &str) -> bool {
    matches!(scheme, "http" | "https")
}

fn is_host(scheme: &str, authority: &str, host: Option<&[u8]>) -> bool {
    host.and_then(|host| std::str::from_utf8(host).ok()).is_some_and(|host| {
        let host = host.to_ascii_lowercase();
        without_default_port(scheme, authority) == without_default_port(scheme, &host)
    })
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(port).unwrap_or(authority)
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(listed: &[&str], identity: IdentityMode, origin: &str, host: &str) -> bool {
        let listed: Vec<_> = listed.iter().map(ToString::to_string).collect();
        OriginPolicy::new(&listed, identity, false).allows(Some(origin.as_bytes()), Some(host.as_bytes()))
    }

    #[test]
    fn table_of_origins() {
        use IdentityMode::{Open, Token};
        let listed = &["https://app.example"][..];
        for (listed, identity, origin, host, expected) in [
            (&[][..], Token, "https://ws.example", "ws.example", true),
            (&[], Token, "https://ws.example", "ws.example:443", true),
            (&[], Token, "http://ws.example:8080", "ws.example:8080", true),
            (&[], Token, "http://ws.example:8080", "ws.example:8081", false),
            (&[], Token, "https://evil.example", "ws.example", false),
            (&[], Token, "https://ws.example.evil.example", "ws.example", false),
            (&[], Token, "null", "ws.example", false),
            (&[], Token, "http://localhost:3000", "ws.example", false),
            (&[], Open, "null", "127.0.0.1:19999", true),
            (&[], Open, "http://localhost:3000", "127.0.0.1:19999", true),
            (&[], Open, "http://[::1]:3000", "127.0.0.1:19999", true),
            (&[], Open, "http://localhost.evil.example", "127.0.0.1:19999", false),
            (&[], Open, "https://evil.example", "127.0.0.1:19999", false),
            (&[], Open, "file://", "127.0.0.1:19999", false),
            (listed, Token, "https://app.example", "ws.example", true),
            (listed, Token, "https://APP.example", "ws.example", true),
            (listed, Token, "http://app.example", "ws.example", false),
            (&["*"], Token, "https://any.example", "ws.example", true),
        ] {
            assert_eq!(
                allows(listed, identity, origin, host),
                expected,
                "{origin} at {host} with {listed:?}"
            );
        }
    }

    #[test]
    fn under_tls_only_https_is_ones_own() {
        let own = |origin: &str, tls| is_own(origin.as_bytes(), Some(b"ws.example"), tls);
        assert!(own("https://ws.example", true) && own("https://ws.example:443", true));
        assert!(!own("http://ws.example", true) && own("http://ws.example", false));
        let policy = OriginPolicy::new(&[], IdentityMode::Open, true);
        assert!(policy.allows(Some(b"http://localhost:3000"), Some(b"localhost")), "for development");
    }

    #[test]
    fn no_origin_is_welcome_and_bytes_that_are_no_text_are_not() {
        let policy = OriginPolicy::new(&[], IdentityMode::Token, false);
        assert!(policy.allows(None, None));
        assert!(!policy.allows(Some(b"\xff"), Some(b"\xff")));
    }
}
