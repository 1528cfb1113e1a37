//! Responses to requests that are not served, written without an HTTP library.

use std::io::Write as _;

use crate::json::write_json_string;

/// A complete HTTP/1.1 response that says why, after which the connection closes.
///
/// The body is a problem (RFC 9457) with `type` `urn:doorbell:<kind>`, `title` the reason phrase, `status` and
/// `detail`. Fields for its type, its length and the closing connection are written; `headers` adds others.
/// An `Upgrade` among them is named in `Connection`, as RFC 9110 §7.8 asks. CR, LF and NUL in them are left
/// out, so that nothing taken from a request can add a header.
#[must_use]
pub fn refusal(
    status: u16,
    reason_phrase: &str,
    kind: &str,
    headers: &[(&str, &str)],
    detail: &str,
) -> Vec<u8> {
    let mut body = Vec::with_capacity(128 + detail.len());
    body.extend_from_slice(b"{\"type\":");
    write_json_string(&format!("urn:doorbell:{kind}"), &mut body);
    body.extend_from_slice(b",\"title\":");
    write_json_string(reason_phrase, &mut body);
    write_all(&mut body, format_args!(",\"status\":{status},\"detail\":"));
    write_json_string(detail, &mut body);
    body.extend_from_slice(b"}\n");

    let mut out = Vec::with_capacity(256 + body.len());
    write_all(&mut out, format_args!("HTTP/1.1 {status} "));
    write_field_text(reason_phrase, &mut out);
    write_all(
        &mut out,
        format_args!(
            "\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\nConnection: close",
            body.len()
        ),
    );
    if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade")) {
        out.extend_from_slice(b", Upgrade");
    }
    for (name, value) in headers {
        out.extend_from_slice(b"\r\n");
        write_field_text(name, &mut out);
        out.extend_from_slice(b": ");
        write_field_text(value, &mut out);
    }
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(&body);
    out
}

fn write_all(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes any bytes");
}

fn write_field_text(text: &str, out: &mut Vec<u8>) {
    out.extend(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_complete_response_with_a_problem() {
        let response =
            refusal(403, "Forbidden", "origin", &[("Retry-After", "5")], "origin \"x\" is not allowed");
        assert_eq!(
            std::str::from_utf8(&response).unwrap(),
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nContent-Length: 103\r\n\
             Connection: close\r\nRetry-After: 5\r\n\r\n\
             {\"type\":\"urn:doorbell:origin\",\"title\":\"Forbidden\",\"status\":403,\
             \"detail\":\"origin \\\"x\\\" is not allowed\"}\n"
        );
    }

    #[test]
    fn an_upgrade_field_is_named_in_connection() {
        let response = refusal(426, "Upgrade Required", "version", &[("upgrade", "websocket")], "");
        let response = String::from_utf8(response).unwrap();
        assert!(response.contains("\r\nConnection: close, Upgrade\r\nupgrade: websocket\r\n"));
    }

    #[test]
    fn fields_cannot_be_smuggled_in() {
        let response =
            refusal(400, "Bad\r\nA: b", "malformed", &[("X", "y\r\nSet-Cookie: z\n\0")], "d\r\n\r\n");
        let response = String::from_utf8(response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(head.lines().count(), 5);
        assert_eq!(body.lines().count(), 1);
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
