//! Cookies (RFC 6265), read by hand: two names are known, and nothing else in them is looked at.

/// Binds a browser to the logins it began.
pub(crate) const LOGIN_COOKIE: &str = "doorbell_login";
/// Binds a phone to the logins it scanned.
pub(crate) const VISIT_COOKIE: &str = "doorbell_visit";

/// The values of a cookie in a `Cookie` header: browsers send the one of the most specific path first.
pub(crate) fn cookies<'h>(header: &'h [u8], name: &str) -> impl Iterator<Item = &'h str> {
    let header = std::str::from_utf8(header).unwrap_or_default();
    header
        .split(';')
        .filter_map(move |pair| pair.trim_start().strip_prefix(name)?.strip_prefix('='))
        .map(str::trim_end)
}

/// The first of them.
pub(crate) fn cookie<'h>(header: &'h [u8], name: &str) -> Option<&'h str> {
    cookies(header, name).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        for (header, expected) in [
            ("doorbell_visit=a", Some("a")),
            ("x=1; doorbell_visit=a ; y=2", Some("a")),
            ("doorbell_visit=a; doorbell_visit=b", Some("a")),
            ("xdoorbell_visit=a", None),
            ("doorbell_visits=a", None),
            ("doorbell_visit", None),
            ("", None),
        ] {
            assert_eq!(cookie(header.as_bytes(), VISIT_COOKIE), expected, "{header}");
        }
        assert_eq!(cookie(b"\xff", VISIT_COOKIE), None);
    }
}
