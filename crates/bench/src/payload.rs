//! The payload every scenario sends: a JSON object that names its uid, its place in the order, and when it was sent.
//!
//! `{"uid":"u7","seq":3,"at":81234567,"pad":"xxxx"}`, padded to an exact length. It is also a valid line for the
//! text port, which passes it on byte for byte. Sequence numbers start at 1 and count per receiver; 0 means "not
//! checked" and is what the floor's ready frame carries. `at` is the sender's monotonic clock in microseconds, which
//! all processes of a machine share; 0 means "not timed".

use std::io::Write as _;

/// The uid that every client accepts, used by broadcasts and by the floor.
pub(crate) const EVERYONE: &str = "*";

/// How the parts around uid and numbers are written.
struct Form {
    start: &'static [u8],
    seq: &'static [u8],
    at: &'static [u8],
    end: &'static [u8],
}

const PLAIN: Form = Form { start: b"{\"uid\":\"", seq: b"\",\"seq\":", at: b",\"at\":", end: b"\"}" };

/// Inside a JSON string.
const QUOTED: Form =
    Form { start: b"{\\\"uid\\\":\\\"", seq: b"\\\",\\\"seq\\\":", at: b",\\\"at\\\":", end: b"\\\"}" };

/// One message, as its receiver reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payload<'a> {
    pub(crate) uid: &'a [u8],
    pub(crate) seq: u64,
    /// Microseconds of the monotonic clock.
    pub(crate) at: u64,
}

/// Appends a payload of exactly `len` bytes, or the shortest that fits uid and numbers when `len` is less.
pub(crate) fn append(out: &mut Vec<u8>, uid: &str, seq: u64, at: u64, len: usize) {
    let start = out.len();
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{{\"uid\":\"{uid}\",\"seq\":{seq},\"at\":{at},\"pad\":\"");
    let used = out.len() - start + 2;
    out.resize(out.len() + len.saturating_sub(used), b'x');
    out.extend_from_slice(b"\"}");
}

/// The payload in `bytes`, which are it or an envelope around it; `None` when there is none of ours. Some servers' envelopes
/// carry it as a JSON string.
pub(crate) fn find(bytes: &[u8]) -> Option<Payload<'_>> {
    find_as(bytes, &PLAIN).or_else(|| find_as(bytes, &QUOTED))
}

fn find_as<'a>(bytes: &'a [u8], form: &Form) -> Option<Payload<'a>> {
    let start = bytes.windows(form.start.len()).position(|window| window == form.start)?;
    let rest = &bytes[start + form.start.len()..];
    let (uid, rest) = rest.split_at(rest.iter().position(|byte| form.seq.starts_with(&[*byte]))?);
    let (seq, rest) = number(rest.strip_prefix(form.seq)?)?;
    let (at, rest) = number(rest.strip_prefix(form.at)?)?;
    // The padding does not hold it, so the first one is the payload's own end.
    let whole = rest.windows(form.end.len()).any(|window| window == form.end);
    whole.then_some(Payload { uid, seq, at })
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = bytes.split_at(bytes.iter().position(|byte| !byte.is_ascii_digit())?);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
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
        append(&mut out, "u18999", 42, 7, 128);
        assert_eq!(out.len(), 128);
        assert_eq!(find(&out), Some(Payload { uid: b"u18999", seq: 42, at: 7 }));
    }

    #[test]
    fn a_payload_is_found_in_its_envelope() {
        let mut out = b"{\"type\":\"message\",\"seq\":9,\"id\":\"m_9\",\"data\":".to_vec();
        append(&mut out, "u1", 3, 5, 64);
        out.push(b'}');
        assert_eq!(find(&out), Some(Payload { uid: b"u1", seq: 3, at: 5 }));
    }

    #[test]
    fn a_payload_is_found_inside_a_json_string_but_not_when_it_is_cut() {
        let mut payload = Vec::new();
        append(&mut payload, "u1", 3, 5, 64);
        let text = serde_json::json!({"event": "m", "data": String::from_utf8(payload).unwrap()}).to_string();
        assert_eq!(find(text.as_bytes()), Some(Payload { uid: b"u1", seq: 3, at: 5 }));
        assert_eq!(find(&text.as_bytes()[..text.find(r#"x\""#).unwrap() + 2]), None);
    }

    #[test]
    fn foreign_and_cut_payloads_are_not_ours() {
        let mut out = Vec::new();
        append(&mut out, "u1", 1, 0, 64);
        assert_eq!(find(&out[..63]), None);
        assert_eq!(find(b"{\"uid\":\"u1\"}"), None);
        assert_eq!(find(b"{\"type\":\"welcome\",\"uid\":\"u1\",\"seq\":1}"), None);
        assert_eq!(find(b""), None);
    }
}
