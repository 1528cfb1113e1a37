//! The PROXY protocol header, versions 1 and 2: the client's address, as told by a proxy in front.
//!
//! Source: HAProxy's `doc/proxy-protocol.txt`. Only believe the header on a connection from a trusted proxy:
//! anyone can write one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// The longest version 1 header, in bytes, CRLF included (§2.1).
pub const MAX_V1: usize = 107;

/// The longest version 2 header accepted, in bytes: 16 and 536 of addresses and extensions, which is what
/// the specification has a sender fit into one segment (§2.2).
pub const MAX_V2: usize = 16 + 536;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the start of a stream says about a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The bytes so far are the start of a header; ask again with more, and all of them.
    Partial,
    /// The stream does not start with a header.
    Absent,
    /// There is a header.
    Present {
        /// The client's address. `None` when the proxy speaks for itself (`LOCAL`, a health check) or the
        /// client's transport is not TCP over IP: the connection's own peer is then the source.
        source: Option<SocketAddr>,
        /// How many bytes the header takes; the client's own follow.
        consumed: usize,
    },
}

/// Reads the header at the start of `buf`.
///
/// # Errors
/// Any [`ProxyError`], after which the stream cannot be understood.
pub fn parse(buf: &[u8]) -> Result<ProxyHeader, ProxyError> {
    if let Some(rest) = buf.strip_prefix(V2_SIGNATURE) {
        return parse_v2(rest);
    }
    if buf.starts_with(V1_PREFIX) {
        return parse_v1(buf);
    }
    if V1_PREFIX.starts_with(buf) || V2_SIGNATURE.starts_with(buf) {
        return Ok(ProxyHeader::Partial);
    }
    Ok(ProxyHeader::Absent)
}

/// Why a PROXY header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// A version 1 header does not end within [`MAX_V1`] bytes, or a version 2 header declares more than
    /// [`MAX_V2`].
    #[error("PROXY header is too long")]
    TooLong,
    /// A version 1 header is not the line that §2.1 describes.
    #[error("PROXY version 1 header is malformed")]
    MalformedV1,
    /// A binary header has another version than 2.
    #[error("PROXY header has version {0}, not 2")]
    Version(
        /// The version as sent.
        u8,
    ),
    /// A version 2 header has a command other than `LOCAL` and `PROXY`.
    #[error("PROXY command {0} is unknown")]
    Command(
        /// The command as sent.
        u8,
    ),
    /// A version 2 header has an address family or transport that §2.2 does not define.
    #[error("PROXY address family {0:#04x} is unknown")]
    Family(
        /// The family and transport byte as sent.
        u8,
    ),
    /// A version 2 header is too short for the addresses of its family.
    #[error("PROXY header is too short for its addresses")]
    TooShort,
}

impl ProxyError {
    /// A stable `snake_case` label for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong => "proxy_too_long",
            Self::MalformedV1 => "proxy_malformed_v1",
            Self::Version(_) => "proxy_version",
            Self::Command(_) => "proxy_command",
            Self::Family(_) => "proxy_family",
            Self::TooShort => "proxy_too_short",
        }
    }
}

fn parse_v1(buf: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let within = &buf[..buf.len().min(MAX_V1)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if buf.len() < MAX_V1 { Ok(ProxyHeader::Partial) } else { Err(ProxyError::TooLong) };
    };
    let line = buf[..end].strip_suffix(b"\r").ok_or(ProxyError::MalformedV1)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::MalformedV1)?;
    let source = v1_source(line).ok_or(ProxyError::MalformedV1)?;
    Ok(ProxyHeader::Present { source, consumed: end + 1 })
}

/// The source that a line names, which may be none. The outer `None` is a malformed line.
fn v1_source(line: &str) -> Option<Option<SocketAddr>> {
    let mut fields = line.split(' ').skip(1);
    let family = fields.next()?;
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Some(None);
    }
    let (source, destination, source_port, destination_port) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let address = match family {
        "TCP4" => IpAddr::V4(both::<Ipv4Addr>(source, destination)?),
        "TCP6" => IpAddr::V6(both::<Ipv6Addr>(source, destination)?),
        _ => return None,
    };
    port(destination_port)?;
    Some(Some(SocketAddr::new(address, port(source_port)?)))
}

/// The first of two addresses of one family, when both are well-formed.
fn both<A: FromStr>(source: &str, destination: &str) -> Option<A> {
    destination.parse::<A>().ok()?;
    source.parse().ok()
}

/// A port in decimal, without a sign or leading zeros.
fn port(field: &str) -> Option<u16> {
    let canonical = field == "0" || !field.starts_with(['0', '+']);
    field.parse().ok().filter(|_| canonical)
}

/// Reads what follows the signature: version and command, family and transport, length, addresses.
fn parse_v2(rest: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let Some(&version_command) = rest.first() else { return Ok(ProxyHeader::Partial) };
    if version_command >> 4 != 2 {
        return Err(ProxyError::Version(version_command >> 4));
    }
    let command = version_command & 0x0f;
    if command > 1 {
        return Err(ProxyError::Command(command));
    }
    let Some(&family) = rest.get(1) else { return Ok(ProxyHeader::Partial) };
    if family >> 4 > 3 || family & 0x0f > 2 {
        return Err(ProxyError::Family(family));
    }
    let Some(&length) = rest[2..].first_chunk() else { return Ok(ProxyHeader::Partial) };
    let length = usize::from(u16::from_be_bytes(length));
    let consumed = 16 + length;
    if consumed > MAX_V2 {
        return Err(ProxyError::TooLong);
    }
    let Some(addresses) = rest[4..].get(..length) else { return Ok(ProxyHeader::Partial) };

    let source = match (command, family) {
        (1, 0x11) => {
            let (source, ports) = split_addresses::<4>(addresses)?;
            Some(SocketAddr::new(Ipv4Addr::from(source).into(), ports))
        }
        (1, 0x21) => {
            let (source, ports) = split_addresses::<16>(addresses)?;
            Some(SocketAddr::new(Ipv6Addr::from(source).into(), ports))
        }
        // LOCAL, whose addresses are to be ignored, or a client that did not come by TCP over IP.
        _ => None,
    };
    Ok(ProxyHeader::Present { source, consumed })
}

/// Source address and port out of: source, destination, source port, destination port, extensions.
fn split_addresses<const N: usize>(addresses: &[u8]) -> Result<([u8; N], u16), ProxyError> {
    let read = || {
        let (source, rest) = addresses.split_first_chunk::<N>()?;
        let (_destination, rest) = rest.split_first_chunk::<N>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let _destination_port = rest.first_chunk::<2>()?;
        Some((*source, u16::from_be_bytes(*port)))
    };
    read().ok_or(ProxyError::TooShort)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(version_command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[version_command, family], &length, addresses].concat()
    }

    fn present(source: &str, consumed: usize) -> Result<ProxyHeader, ProxyError> {
        Ok(ProxyHeader::Present { source: Some(source.parse().unwrap()), consumed })
    }

    #[test]
    fn version_1_names_the_source() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
        assert_eq!(parse(&[line, &b"GET /"[..]].concat()), present("192.0.2.1:56324", line.len()));
        let line = b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n";
        assert_eq!(parse(line), present("[2001:db8::1]:0", line.len()));
        for line in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff::1 whatever 1 2 3\r\n"] {
            assert_eq!(parse(line), Ok(ProxyHeader::Present { source: None, consumed: line.len() }));
        }
    }

    #[test]
    fn malformed_version_1_lines_are_refused() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 056 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 +443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 1 443\r\n",
            "PROXY TCP4 ::1 ::1 1 443\r\n",
            "PROXY TCP6 192.0.2.1 ::1 1 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n",
            "PROXY UNKNOWN2\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(ProxyError::MalformedV1), "{line:?}");
        }
        assert_eq!(parse(b"PROXY \xff\r\n"), Err(ProxyError::MalformedV1));
    }

    #[test]
    fn version_1_ends_within_107_bytes() {
        let line = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
        assert_eq!(parse(line(107).as_bytes()), Ok(ProxyHeader::Present { source: None, consumed: 107 }));
        assert_eq!(parse(&line(108).as_bytes()[..106]), Ok(ProxyHeader::Partial));
        assert_eq!(parse(&line(108).as_bytes()[..107]), Err(ProxyError::TooLong));
        assert_eq!(parse(line(108).as_bytes()), Err(ProxyError::TooLong));
    }

    #[test]
    fn version_2_names_the_source() {
        let four = v2(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb]);
        assert_eq!(parse(&[&four[..], b"GET"].concat()), present("192.0.2.1:56324", 28));

        let mut addresses = [0; 36];
        addresses[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        addresses[15] = 1;
        addresses[33] = 80;
        assert_eq!(parse(&v2(0x21, 0x21, &addresses)), present("[2001:db8::1]:80", 52));

        // Extensions follow the addresses.
        let with_tlv = v2(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 2, 0, 7, 1, 0xbb, 4, 0, 1, 0]);
        assert_eq!(parse(&with_tlv), present("192.0.2.1:7", 32));
    }

    #[test]
    fn version_2_may_name_no_source() {
        for header in [
            v2(0x20, 0x00, &[]),
            v2(0x20, 0x11, &[0; 12]),
            v2(0x21, 0x00, &[1, 2, 3]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x21, 0x31, &[0; 216]),
        ] {
            let consumed = header.len();
            assert_eq!(parse(&header), Ok(ProxyHeader::Present { source: None, consumed }));
        }
    }

    #[test]
    fn malformed_version_2_headers_are_refused() {
        for (header, error, reason) in [
            (v2(0x11, 0x11, &[0; 12]), ProxyError::Version(1), "proxy_version"),
            (v2(0x22, 0x11, &[0; 12]), ProxyError::Command(2), "proxy_command"),
            (v2(0x21, 0x41, &[0; 12]), ProxyError::Family(0x41), "proxy_family"),
            (v2(0x21, 0x13, &[0; 12]), ProxyError::Family(0x13), "proxy_family"),
            (v2(0x21, 0x11, &[0; 11]), ProxyError::TooShort, "proxy_too_short"),
            (v2(0x21, 0x21, &[0; 35]), ProxyError::TooShort, "proxy_too_short"),
            (v2(0x21, 0x11, &[0; 537]), ProxyError::TooLong, "proxy_too_long"),
        ] {
            assert_eq!(parse(&header), Err(error));
            assert_eq!(error.reason(), reason);
        }
        assert_eq!(ProxyError::MalformedV1.reason(), "proxy_malformed_v1");
        assert!(parse(&v2(0x21, 0x11, &[0; 536])).is_ok());
    }

    #[test]
    fn headers_that_come_in_pieces_are_partial() {
        let v1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n".to_vec();
        for header in [v1, v2(0x21, 0x11, &[0; 20])] {
            for len in 0..header.len() {
                assert_eq!(parse(&header[..len]), Ok(ProxyHeader::Partial), "{len}");
            }
        }
    }

    #[test]
    fn other_streams_have_no_header() {
        for stream in [&b"GET / HTTP/1.1\r\n"[..], b"PROXYING", b"\r\n\r\nGET", b"P\n", b"{\"uid\":1}\n"] {
            assert_eq!(parse(stream), Ok(ProxyHeader::Absent));
        }
    }
}
