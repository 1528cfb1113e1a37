//! The payload every scenario sends: a JSON object that names its uid and its place in the order.
//!
//! `{"uid":"u7","seq":3,"pad":"xxxx"}`, padded to an exact length. It is also a valid line for the
//! text port, which passes it on byte for byte. Sequence numbers start at 1 and count per receiver;
//! 0 means "not checked" and is what the floor's ready frame carries.

use std::io::Write as _;

/// The uid that every client accepts, used by broadcasts and by the floor.
pub(crate) const EVERYONE: &str = "*";

const MIDDLE: &[u8] = b"\",\"seq\":";

/// Appends a payload of exactly `len` bytes, or the shortest that fits uid and number when `len` is less.
pub(crate) fn append(out: &mut Vec<u8>, uid: &str, seq: u64, len: usize) {
    let start = out.len();
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{{\"uid\":\"{uid}\",\"seq\":{seq},\"pad\":\"");
    let used = out.len() - start + 2;
    out.resize(out.len() + len.saturating_sub(used), b'x');
    out.extend_from_slice(b"\"}");
}

/// The uid and sequence number of a payload, or `None` when it is not one of ours.
pub(crate) fn parse(payload: &[u8]) -> Option<(&[u8], u64)> {
    let rest = payload.strip_prefix(b"{\"uid\":\"")?;
    let (uid, rest) = rest.split_at(rest.iter().position(|b| *b == b'"')?);
    let rest = rest.strip_prefix(MIDDLE)?;
    let (digits, _) = rest.split_at(rest.iter().position(|b| !b.is_ascii_digit())?);
    let seq = std::str::from_utf8(digits).ok()?.parse().ok()?;
    rest.ends_with(b"\"}").then_some((uid, seq))
}

/// Appends one unmasked text frame (RFC 6455 section 5.2), as a server sends it.
pub(crate) fn append_server_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(0x81);
    match u8::try_from(payload.len()) {
        Ok(len) if len < 126 => out.push(len),
        _ => {
            out.push(126);
            let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_has_the_asked_length_and_reads_back() {
        let mut out = Vec::new();
        append(&mut out, "u18999", 42, 128);
        assert_eq!(out.len(), 128);
        assert_eq!(parse(&out), Some((&b"u18999"[..], 42)));
    }

    #[test]
    fn foreign_and_cut_payloads_are_not_ours() {
        let mut out = Vec::new();
        append(&mut out, "u1", 1, 64);
        assert_eq!(parse(&out[..63]), None);
        assert_eq!(parse(b"{\"uid\":\"u1\"}"), None);
        assert_eq!(parse(b""), None);
    }
}
