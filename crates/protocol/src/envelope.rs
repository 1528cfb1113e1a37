//! The `doorbell.v1` dialect: JSON envelopes (`docs/PROTOCOL.md`).
//!
//! From the page: [`FromPage`]. To the page: the `write_*` functions, which append one JSON object; the transport
//! puts it into a text frame, a server-sent event or a poll's answer. Unknown fields and types are ignored, so that
//! either side may learn new ones first.

use std::io::Write as _;

use serde::Deserialize;

use crate::close::CloseCode;
use crate::json::write_json_string;

/// The subprotocol's name in `Sec-WebSocket-Protocol`.
pub const SUBPROTOCOL: &str = "doorbell.v1";

/// What a page says.
#[derive(Debug, PartialEq, Eq)]
pub enum FromPage {
    /// Who it is, and where it left off.
    Hello {
        /// A token, with open identity the uid; without it the page waits to be bound.
        token: Option<String>,
        /// What it has seen already.
        resume: Option<Position>,
    },
    /// Everything up to `seq` was handled.
    Ack {
        /// A message's number.
        seq: u64,
    },
    /// Wants to be told how a login goes.
    LoginWatch {
        /// The login's secret.
        device_code: String,
    },
    /// Wants a pong.
    Ping,
    /// A type this version does not know.
    Unknown,
}

/// A place in a uid's sequence of messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Position {
    /// Which memory of the server's it belongs to.
    pub epoch: String,
    /// The number of the last message seen.
    pub seq: u64,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    token: Option<String>,
    resume: Option<Position>,
    seq: Option<u64>,
    device_code: Option<String>,
}

/// Reads one envelope.
///
/// # Errors
/// Not a JSON object with a `type`, or a known field of the wrong type; the text says which.
pub fn read(text: &[u8]) -> Result<FromPage, String> {
    let Wire { kind, token, resume, seq, device_code } =
        serde_json::from_slice(text).map_err(|error| format!("not a doorbell.v1 message: {error}"))?;
    match kind.as_str() {
        "hello" => Ok(FromPage::Hello { token, resume }),
        "ack" => seq.map(|seq| FromPage::Ack { seq }).ok_or_else(|| "an ack needs a seq".to_owned()),
        "login.watch" => device_code
            .map(|device_code| FromPage::LoginWatch { device_code })
            .ok_or_else(|| "a login.watch needs a device_code".to_owned()),
        "ping" => Ok(FromPage::Ping),
        _ => Ok(FromPage::Unknown),
    }
}

/// What a page is told when it is let in.
#[derive(Debug, Clone, Copy)]
pub struct Welcome<'a> {
    /// Whose page it is; none while it waits to be bound.
    pub uid: Option<&'a str>,
    /// The connection's name in the API.
    pub connection: &'a str,
    /// Which memory of the server's `seq` belongs to.
    pub epoch: &'a str,
    /// Everything up to here the page has, or will not get.
    pub seq: u64,
    /// Whether nothing is missing since where it left off.
    pub recovered: bool,
    /// Seconds of silence after which the server pings.
    pub ping_interval: u64,
}

/// Appends a `welcome`.
pub fn write_welcome(welcome: &Welcome<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"welcome\",\"uid\":");
    match welcome.uid {
        Some(uid) => write_json_string(uid, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"connection\":");
    write_json_string(welcome.connection, out);
    out.extend_from_slice(b",\"epoch\":");
    write_json_string(welcome.epoch, out);
    let Welcome { seq, recovered, ping_interval, .. } = welcome;
    write(out, format_args!(",\"seq\":{seq},\"recovered\":{recovered},\"ping_interval\":{ping_interval}}}"));
}

/// Appends a `message`; one without `seq` (a broadcast) is in nobody's sequence, and one without `id` (a line of the text
/// port) is called after its `seq`. `data` is JSON and goes in as it is.
pub fn write_message(seq: Option<u64>, id: &str, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"message\"");
    if let Some(seq) = seq {
        write(out, format_args!(",\"seq\":{seq}"));
    }
    out.extend_from_slice(b",\"id\":");
    if id.is_empty() {
        write(out, format_args!("\"m_{:x}\"", seq.unwrap_or_default()));
    } else {
        write_json_string(id, out);
    }
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data);
    out.push(b'}');
}

/// Appends a server-sent event (WHATWG HTML, "Server-sent events") whose data is `envelope`; `position` is what the
/// browser says as `Last-Event-ID` when it comes back.
pub fn write_event(name: &str, position: Option<(&str, u64)>, envelope: &[u8], out: &mut Vec<u8>) {
    if let Some((epoch, seq)) = position {
        write(out, format_args!("id: {epoch}:{seq}\n"));
    }
    write(out, format_args!("event: {name}\ndata: "));
    // A carriage return would end the line; in JSON it can only be white space between tokens.
    out.extend(envelope.iter().map(|byte| if *byte == b'\r' { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
}

/// Reads a place in a sequence as server-sent events and long-polls write it, `<epoch>:<seq>`.
#[must_use]
pub fn read_position(text: &str) -> Option<Position> {
    let (epoch, seq) = text.rsplit_once(':')?;
    (!epoch.is_empty()).then_some(Position { epoch: epoch.to_owned(), seq: seq.parse().ok()? })
}

/// Appends a `pong`.
pub fn write_pong(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"pong\"}");
}

/// Appends a `bye`: why the connection ends, and whether and when to come back.
pub fn write_bye(code: CloseCode, reason: &str, retry_after_ms: Option<u64>, out: &mut Vec<u8>) {
    let reconnect = !matches!(code.0, 3500..=3999);
    write(out, format_args!("{{\"type\":\"bye\",\"code\":{},\"reason\":", code.0));
    write_json_string(reason, out);
    write(out, format_args!(",\"reconnect\":{reconnect}"));
    if let Some(wait) = retry_after_ms.filter(|_| reconnect) {
        write(out, format_args!(",\"retry_after_ms\":{wait}"));
    }
    out.push(b'}');
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_understood_and_unknown_things_ignored() {
        for (text, expected) in [
            (r#"{"type":"hello"}"#, FromPage::Hello { token: None, resume: None }),
            (
                r#"{"type":"hello","token":"t","resume":{"epoch":"e","seq":41,"x":1},"new":[]}"#,
                FromPage::Hello {
                    token: Some("t".into()),
                    resume: Some(Position { epoch: "e".into(), seq: 41 }),
                },
            ),
            (r#"{"seq":7,"type":"ack"}"#, FromPage::Ack { seq: 7 }),
            (r#"{"type":"login.watch","device_code":"d"}"#, FromPage::LoginWatch { device_code: "d".into() }),
            (r#"{"type":"ping"}"#, FromPage::Ping),
            (r#"{"type":"dance","seq":-1.5}"#, FromPage::Unknown),
        ] {
            if text.contains("-1.5") {
                assert!(read(text.as_bytes()).is_err(), "a known field of the wrong type");
            } else {
                assert_eq!(read(text.as_bytes()), Ok(expected), "{text}");
            }
        }
        for text in [
            "",
            "x",
            "[]",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"ack"}"#,
            r#"{"type":"login.watch"}"#,
            "\u{feff}{}",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_json() {
        let mut out = Vec::new();
        let welcome = Welcome {
            uid: Some("a\"b"),
            connection: "c_1",
            epoch: "e",
            seq: 41,
            recovered: true,
            ping_interval: 25,
        };
        write_welcome(&welcome, &mut out);
        assert_eq!(
            String::from_utf8(std::mem::take(&mut out)).unwrap(),
            r#"{"type":"welcome","uid":"a\"b","connection":"c_1","epoch":"e","seq":41,"recovered":true,"ping_interval":25}"#
        );
        write_message(Some(42), "m_1", br#"{"percent":"88%"}"#, &mut out);
        assert_eq!(
            String::from_utf8(std::mem::take(&mut out)).unwrap(),
            r#"{"type":"message","seq":42,"id":"m_1","data":{"percent":"88%"}}"#
        );
        write_bye(CloseCode::DRAINING, "draining", Some(1_870), &mut out);
        assert_eq!(
            String::from_utf8(std::mem::take(&mut out)).unwrap(),
            r#"{"type":"bye","code":3001,"reason":"draining","reconnect":true,"retry_after_ms":1870}"#
        );
        write_bye(CloseCode::KICKED, "kicked", Some(1), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"type":"bye","code":3501,"reason":"kicked","reconnect":false}"#
        );
    }
}
