//! A request's head, read from the bytes of a raw socket.

use thiserror::Error;

use super::Upgrade;

/// The request line and header fields of an HTTP/1 request.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The request target, as sent: usually a path and a query.
    pub target: &'a str,
    /// 0 or 1: the `x` of HTTP/1.x.
    pub minor_version: u8,
    /// The header fields, in order.
    pub headers: &'a [httparse::Header<'a>],
}

impl<'a> Head<'a> {
    /// Parses a head that [`find_head_end`] found complete. `fields` bounds how many header fields it may have.
    ///
    /// # Errors
    /// Any [`HeadError`].
    pub fn parse(head: &'a [u8], fields: &'a mut [httparse::Header<'a>]) -> Result<Self, HeadError> {
        let mut request = httparse::Request::new(fields);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(HeadError::Incomplete),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
            Err(error) => return Err(HeadError::Malformed(error)),
        }
        let httparse::Request {
            method: Some(method),
            path: Some(target),
            version: Some(minor_version),
            headers,
        } = request
        else {
            return Err(HeadError::Incomplete);
        };
        Ok(Self { method, target, minor_version, headers })
    }

    /// What the request says about becoming a WebSocket.
    #[must_use]
    pub fn upgrade(&self) -> Upgrade<'a> {
        let headers = self.headers.iter().map(|field| (field.name, field.value));
        Upgrade::from_headers(self.method, self.minor_version, headers)
    }
}

/// Why bytes are not the head of an HTTP/1 request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The blank line at the end is missing, or there is nothing before it.
    #[error("request head is incomplete")]
    Incomplete,
    /// There are more header fields than allowed.
    #[error("request has too many header fields")]
    TooManyFields,
    /// The bytes do not follow RFC 9112.
    #[error("request head is malformed: {0}")]
    Malformed(httparse::Error),
}

impl HeadError {
    /// The HTTP status to answer: 400 or 431.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::TooManyFields => 431,
            Self::Incomplete | Self::Malformed(_) => 400,
        }
    }

    /// A stable `snake_case` label for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Incomplete => "head_incomplete",
            Self::TooManyFields => "too_many_fields",
            Self::Malformed(_) => "head_malformed",
        }
    }
}

/// Finds the end of a request head: the offset behind its blank line. `None` while there is none.
///
/// Lines end in CRLF or in LF alone, as RFC 9112 §2.2 lets a recipient read them and `httparse` does. `from`
/// says how many bytes earlier calls have looked at, so that a head which comes in pieces is searched once.
/// One empty line before the request line is passed over, as §2.2 asks; two end the head, which is then empty
/// and does not parse.
#[must_use]
pub fn find_head_end(buf: &[u8], from: usize) -> Option<usize> {
    // The blank line may have begun in the three bytes before: LF CR LF, less its last.
    let from = from.saturating_sub(3).min(buf.len());
    memchr::memchr_iter(b'\n', &buf[from..]).map(|at| from + at + 1).find_map(|line| match buf[line..] {
        [b'\n', ..] => Some(line + 1),
        [b'\r', b'\n', ..] => Some(line + 2),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n";

    #[test]
    fn the_head_ends_behind_its_blank_line() {
        let mut sent = REQUEST.to_vec();
        sent.extend_from_slice(b"\x81\x80frames\r\n\r\n");
        assert_eq!(find_head_end(&sent, 0), Some(REQUEST.len()));
        assert_eq!(find_head_end(b"GET / HTTP/1.1\nHost: h\n\nrest", 0), Some(24));
        assert_eq!(find_head_end(b"GET / HTTP/1.1\r\nHost: h\n\r\nrest", 0), Some(26));
        assert_eq!(find_head_end(b"\r\nGET / HTTP/1.1\r\n\r\n", 0), Some(20));
        assert_eq!(find_head_end(b"", 7), None);
    }

    #[test]
    fn a_head_that_comes_in_pieces_is_found_at_its_last_byte() {
        for first in 0..REQUEST.len() {
            assert_eq!(find_head_end(&REQUEST[..first], 0), None);
            assert_eq!(find_head_end(REQUEST, first), Some(REQUEST.len()), "after {first} bytes");
        }
    }

    #[test]
    fn a_head_is_parsed_and_judged() {
        let mut fields = [httparse::EMPTY_HEADER; 4];
        let head = Head::parse(REQUEST, &mut fields).unwrap();
        assert_eq!((head.method, head.target, head.minor_version), ("GET", "/a?b", 1));
        assert_eq!(head.headers.len(), 2);
        assert!(head.upgrade().is_requested());
        assert_eq!(head.upgrade().host(), Some(&b"h"[..]));
    }

    #[test]
    fn what_is_not_a_head_is_refused() {
        let parse =
            |head: &[u8]| Head::parse(head, &mut [httparse::EMPTY_HEADER; 2]).map(|_| ()).unwrap_err();
        for (head, status, reason) in [
            (&b"GET / HTTP/1.1\r\n"[..], 400, "head_incomplete"),
            (b"\r\n\r\n", 400, "head_incomplete"),
            (b"GET / HTTP/1.1\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n", 431, "too_many_fields"),
            (b"\x16\x03\x01\x02\x00\x01\n\n", 400, "head_malformed"),
            (b"GET / HTTP/1.1\r\nfolded: a\r\n b\r\n\r\n", 400, "head_malformed"),
            (b"GET / HTTP/2.0\r\n\r\n", 400, "head_malformed"),
        ] {
            let error = parse(head);
            assert_eq!((error.status(), error.reason()), (status, reason), "{error}");
        }
    }
}
