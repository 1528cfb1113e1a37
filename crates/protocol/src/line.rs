//! The text port's lines: one push a line, `{"uid":…, …}`, answered `ok\n` or `fail\n`.
//!
//! A line is forwarded as it came. It is parsed only to know that it is a JSON object, and for whom.

use thiserror::Error;

use crate::scan::{ScanError, Scanner, Text, Value};
use crate::uid::{Uid, UidError};

/// Splits the first line off `buf`: the line without any of its trailing `\r` and `\n`, and how many bytes
/// it took, its `\n` included. `None` while there is no `\n`.
#[must_use]
pub fn next_line(buf: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'\n', buf)?;
    let mut line = &buf[..end];
    while let [rest @ .., b'\r'] = line {
        line = rest;
    }
    Some((line, end + 1))
}

/// Finds whom a pushed line is for: the top-level member `uid` of the JSON object that the line must be.
///
/// The whole line is checked strictly (RFC 8259): UTF-8 without a byte order mark, no lone surrogates, at
/// most 511 levels. The name is compared with its escapes decoded and in its case; the last of several
/// counts. A string is the uid itself, escapes decoded. An integer is its digits, whatever their number, so
/// `1` and `"1"` are one uid; `-0` is `0`.
///
/// One pass over the line; allocates only for a uid of more than 24 bytes.
///
/// # Errors
/// Any [`LineError`]; that of the line's syntax before that of its uid.
pub fn uid_of(line: &[u8]) -> Result<Uid, LineError> {
    let Ok(text) = simdutf8::basic::from_utf8(line) else {
        let at = simdutf8::compat::from_utf8(line).map_or_else(|error| error.valid_up_to(), str::len);
        return Err(LineError::NotJson { at });
    };
    let mut scanner = Scanner::new(text);
    scanner.skip_whitespace();
    if !scanner.eat(b'{') {
        scanner.value(0)?;
        scanner.expect_end()?;
        return Err(LineError::NotAnObject);
    }

    let mut uid = None;
    scanner.skip_whitespace();
    if !scanner.eat(b'}') {
        loop {
            let name = scanner.name()?;
            let value = scanner.value(1)?;
            if name.is("uid") {
                uid = Some(value);
            }
            scanner.skip_whitespace();
            if !scanner.eat(b',') {
                break;
            }
            scanner.skip_whitespace();
        }
        scanner.expect(b'}')?;
    }
    scanner.expect_end()?;

    match uid {
        Some(Value::String(text)) if text.escaped => Ok(decoded_uid(text)?),
        Some(Value::String(text)) => Ok(Uid::new(text.raw)?),
        Some(Value::Integer("-0")) => Ok(Uid::new("0")?),
        Some(Value::Integer(digits)) => Ok(Uid::new(digits)?),
        Some(Value::Other) => Err(LineError::UidType),
        None => Err(LineError::NoUid),
    }
}

/// Why a line is not a push. It is answered `fail`, whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LineError {
    /// The line is not JSON, or more than one value, or not UTF-8.
    #[error("line is not JSON at byte {at}")]
    NotJson {
        /// The offset of the first byte that cannot stand where it does, or the length of the line when
        /// something is missing.
        at: usize,
    },
    /// More than 511 levels of objects and arrays.
    #[error("line is nested too deeply")]
    TooDeep,
    /// The line is JSON, but not an object.
    #[error("line is not a JSON object")]
    NotAnObject,
    /// The object has no member `uid`.
    #[error("line has no uid")]
    NoUid,
    /// `uid` is neither a string nor an integer.
    #[error("uid is neither a string nor an integer")]
    UidType,
    /// `uid` is empty or too long.
    #[error(transparent)]
    Uid(#[from] UidError),
}

impl LineError {
    /// A stable `snake_case` label for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => "not_json",
            Self::TooDeep => "too_deep",
            Self::NotAnObject => "not_an_object",
            Self::NoUid => "no_uid",
            Self::UidType => "uid_type",
            Self::Uid(error) => error.reason(),
        }
    }
}

impl From<ScanError> for LineError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Syntax { at } => Self::NotJson { at },
            ScanError::TooDeep => Self::TooDeep,
        }
    }
}

/// Decodes a uid that is written with escapes, without making room for one that is too long.
fn decoded_uid(text: Text<'_>) -> Result<Uid, UidError> {
    let bytes = text.chars().map(char::len_utf8).sum();
    if bytes > Uid::MAX_BYTES {
        return Err(UidError::TooLong { bytes });
    }
    Uid::new(&text.chars().collect::<String>())
}

/// Whether a first line is that of an HTTP request, `METHOD SP target SP HTTP/…` (RFC 9112 §3).
///
/// A web page can make a browser send an HTTP request here whose body holds lines. Any method token counts:
/// a page chooses its method freely.
#[must_use]
pub fn looks_like_http(line: &[u8]) -> bool {
    let Some(space) = memchr::memchr(b' ', line) else { return false };
    let (method, rest) = (&line[..space], &line[space + 1..]);
    // Anything may stand for the target: what matters is that a browser sent this.
    let Some(space) = memchr::memrchr(b' ', rest) else { return false };
    is_token(method) && rest[space + 1..].starts_with(b"HTTP/")
}

/// The key in `AUTH <key>`, a text-port client's first line when the port has one. `None` for other lines
/// and for an empty key.
#[must_use]
pub fn auth_key(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"AUTH ").filter(|key| !key.is_empty())
}

/// Whether these bytes are a `token` of HTTP (RFC 9110 §5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_all_their_line_endings_and_nothing_else() {
        assert_eq!(next_line(b""), None);
        assert_eq!(next_line(b"{\"uid\":1}\r"), None);
        assert_eq!(next_line(b"\n"), Some((&b""[..], 1)));
        assert_eq!(next_line(b" a \nb\n"), Some((&b" a "[..], 4)));
        assert_eq!(next_line(b"a\r\r\r\nb"), Some((&b"a"[..], 5)));
        assert_eq!(next_line(b"a\rb\r\n"), Some((&b"a\rb"[..], 5)));
        assert_eq!(next_line(b"\r\r\n"), Some((&b""[..], 3)));
    }

    fn uid(line: &str) -> String {
        uid_of(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}")).as_str().to_owned()
    }

    fn error(line: impl AsRef<[u8]>) -> LineError {
        uid_of(line.as_ref()).expect_err(&String::from_utf8_lossy(line.as_ref()))
    }

    #[test]
    fn a_line_names_its_uid() {
        assert_eq!(uid(r#"{"uid":"uid1","percent":"88%"}"#), "uid1");
        assert_eq!(uid(r#"{"percent":"88%","uid":"uid1"}"#), "uid1");
        assert_eq!(uid("{ \"z\":1 ,\t\"uid\" : \"uid1\", \"m\":\"\\u5fae\\u4fe1 \\/ 微\" }  "), "uid1");
        assert_eq!(uid("  \t\r{\"uid\":\"uid1\"}\r"), "uid1");
        assert_eq!(uid(r#"{"a":{"uid":"x"},"uid":"uid1","b":[{"uid":"y"}]}"#), "uid1");
    }

    #[test]
    fn escapes_in_name_and_value_are_decoded() {
        assert_eq!(uid(r#"{"\u0075id":"\u0075id1"}"#), "uid1");
        assert_eq!(uid(r#"{"u\u0069d":"\u5fae\ud83d\ude00\/\n"}"#), "微😀/\n");
        assert_eq!(error(r#"{"\u0055id":"uid1"}"#), LineError::NoUid);
    }

    #[test]
    fn the_last_duplicate_wins_and_all_must_be_json() {
        assert_eq!(uid(r#"{"uid":"nobody","uid":"uid1"}"#), "uid1");
        assert_eq!(uid(r#"{"uid":null,"\u0075id":"uid1"}"#), "uid1");
        assert_eq!(error(r#"{"uid":"uid1","uid":null}"#), LineError::UidType);
        assert_eq!(error(r#"{"uid":007,"uid":"uid1"}"#), LineError::NotJson { at: 8 });
    }

    #[test]
    fn the_name_is_case_sensitive_and_top_level() {
        for line in [r#"{"UID":"uid1"}"#, r#"{"data":{"uid":"uid1"}}"#, "{}", r#"{"uid ":1}"#, r#"{"ui":1}"#]
        {
            assert_eq!(error(line), LineError::NoUid, "{line}");
        }
    }

    #[test]
    fn integers_are_their_digits() {
        for digits in ["1", "0", "-5", "9223372036854775807", "9223372036854775808", "12345678901234567890"] {
            assert_eq!(uid(&format!(r#"{{"uid":{digits}}}"#)), digits);
            assert_eq!(uid(&format!(r#"{{"uid":"{digits}"}}"#)), digits);
        }
        assert_eq!(uid(r#"{"uid":-0}"#), "0");
        assert_eq!(uid(&format!(r#"{{"uid":{}}}"#, "9".repeat(128))), "9".repeat(128));
        let long = format!(r#"{{"uid":{}}}"#, "9".repeat(129));
        assert_eq!(error(long), LineError::Uid(UidError::TooLong { bytes: 129 }));
    }

    #[test]
    fn strings_are_themselves() {
        for text in ["01", "1.0", " 1", "-0", "true"] {
            assert_eq!(uid(&format!(r#"{{"uid":"{text}"}}"#)), text);
        }
    }

    #[test]
    fn other_types_are_no_uid() {
        for value in [
            "1.0",
            "1.9",
            "1e0",
            "-0.0",
            "-5.9",
            "1e30",
            "true",
            "false",
            "null",
            r#"["a"]"#,
            r#"{"a":1}"#,
            "[]",
            "{}",
        ] {
            assert_eq!(error(format!(r#"{{"uid":{value}}}"#)), LineError::UidType, "{value}");
        }
    }

    #[test]
    fn a_uid_has_1_to_128_bytes() {
        assert_eq!(error(r#"{"uid":""}"#), LineError::Uid(UidError::Empty));
        assert_eq!(uid(&format!(r#"{{"uid":"{}"}}"#, "x".repeat(128))).len(), 128);
        let long = format!(r#"{{"uid":"{}"}}"#, "x".repeat(129));
        assert_eq!(error(long), LineError::Uid(UidError::TooLong { bytes: 129 }));
        // The length is that of the uid, not of its spelling.
        assert_eq!(uid(&format!(r#"{{"uid":"{}"}}"#, r"\u0041".repeat(128))), "A".repeat(128));
        let long = format!(r#"{{"uid":"{}"}}"#, r"\u0041".repeat(129));
        assert_eq!(error(long), LineError::Uid(UidError::TooLong { bytes: 129 }));
    }

    #[test]
    fn other_json_is_no_object() {
        for line in ["123", "true", "null", r#""abc""#, r#""""#, "[]", r#"[{"uid":"uid1"}]"#] {
            assert_eq!(error(line), LineError::NotAnObject, "{line}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_whole() {
        for (line, at) in [
            (&b""[..], 0),
            (b"   ", 3),
            (b"hello", 0),
            (br#"{"uid":"uid1""#, 13),
            (b"{'uid':'uid1'}", 1),
            (br#"{"uid":"uid1"}{"uid":"uid1"}"#, 14),
            (b"\xef\xbb\xbf{\"uid\":\"uid1\"}", 0),
            (b"{\"uid\":\"uid1\",\"m\":\"\xff\"}", 19),
            (b"{\"uid\":\"uid1\",\"m\":\"\0\"}", 19),
            (b"{\"uid\":\"uid1\"}\0", 14),
            (br#"{"uid":"uid1","m":"\ud800"}"#, 25),
            (br#"{"uid":"uid1","n":007}"#, 19),
            (br#"{"uid":"uid1",}"#, 14),
            (br#"{"uid":"uid1" "m":1}"#, 14),
        ] {
            assert_eq!(error(line), LineError::NotJson { at }, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn the_512th_level_is_too_deep_counting_the_object() {
        let nested = |levels: usize| {
            format!(r#"{{"uid":"uid1","m":{}0{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        assert_eq!(uid(&nested(511)), "uid1");
        assert_eq!(error(nested(512)), LineError::TooDeep);
    }

    #[test]
    fn errors_have_labels() {
        assert_eq!(error("hello").reason(), "not_json");
        assert_eq!(error("[".repeat(600)).reason(), "too_deep");
        assert_eq!(error("[]").reason(), "not_an_object");
        assert_eq!(error("{}").reason(), "no_uid");
        assert_eq!(error(r#"{"uid":[]}"#).reason(), "uid_type");
        assert_eq!(error(r#"{"uid":""}"#).reason(), "uid_empty");
    }

    #[test]
    fn http_requests_are_recognised_by_their_first_line() {
        for line in ["POST / HTTP/1.1", "GET /a b HTTP/1.0", "x-any * HTTP/2", "PRI * HTTP/2.0"] {
            assert!(looks_like_http(line.as_bytes()), "{line}");
        }
        for line in [
            "",
            "GET",
            "GET /",
            "GET HTTP/1.1",
            "{\"uid\":1} / HTTP/1.1",
            r#"{"uid": 1, "m": "HTTP/1.1"}"#,
            " / HTTP/1.1",
            "AUTH secret",
        ] {
            assert!(!looks_like_http(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn auth_lines_carry_a_key() {
        assert_eq!(auth_key(b"AUTH k1"), Some(&b"k1"[..]));
        assert_eq!(auth_key(b"AUTH a b "), Some(&b"a b "[..]));
        for line in [&b"AUTH "[..], b"AUTH", b"auth k1", b" AUTH k1", b"{\"uid\":1}"] {
            assert_eq!(auth_key(line), None);
        }
    }
}
