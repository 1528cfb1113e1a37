//! Bytes with places to fill in: how other servers' requests and messages are told to this program.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail};

/// Stands for the uid, or for the client's credential.
pub(crate) const UID: &str = "{uid}";

/// Stands for the message as it is.
pub(crate) const PAYLOAD: &str = "{payload}";

/// Stands for the message as a JSON string, with its quotes.
const QUOTED: &str = "{payload-quoted}";

/// Written with `\xNN` for a byte that is white space, a control character, a backslash or not ASCII, so that it is one word of a
/// child's command; it reads the same escapes, and everything else as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<u8>);

impl Template {
    /// These bytes, without a look for escapes. Not a `From`: a command line would read by that and not by [`FromStr`].
    pub(crate) fn literal(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// Appends it with every place filled in.
    pub(crate) fn append(&self, out: &mut Vec<u8>, uid: &str, payload: &[u8]) {
        let mut rest = &self.0[..];
        while let Some(&first) = rest.first() {
            if let Some(after) = rest.strip_prefix(UID.as_bytes()) {
                out.extend_from_slice(uid.as_bytes());
                rest = after;
            } else if let Some(after) = rest.strip_prefix(PAYLOAD.as_bytes()) {
                out.extend_from_slice(payload);
                rest = after;
            } else if let Some(after) = rest.strip_prefix(QUOTED.as_bytes()) {
                append_quoted(out, payload);
                rest = after;
            } else {
                out.push(first);
                rest = &rest[1..];
            }
        }
    }

    /// It with the uid filled in.
    pub(crate) fn with_uid(&self, uid: &str) -> Vec<u8> {
        let mut out = Vec::new();
        self.append(&mut out, uid, b"");
        out
    }

    /// As it is, for what has no places; at least one byte.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The payloads of this program are printable ASCII: nothing else in them has to be escaped.
fn append_quoted(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(b'"');
    for &byte in payload {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

impl FromStr for Template {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            bail!("an empty template");
        }
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            match after.strip_prefix(b"x") {
                Some(digits) if first == b'\\' => {
                    let pair = digits.first_chunk::<2>().context("\\x without its two digits")?;
                    let pair = std::str::from_utf8(pair).context("\\x without its two digits")?;
                    bytes.push(u8::from_str_radix(pair, 16).with_context(|| format!("\\x{pair}"))?);
                    rest = &digits[2..];
                }
                _ => bytes.push(first),
            }
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in &self.0 {
            if byte.is_ascii_graphic() && byte != b'\\' {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Writes templates as words, their number first.
pub(crate) struct Words<'a>(pub(crate) &'a [Template]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.len())?;
        self.0.iter().try_for_each(|template| write!(f, " {template}"))
    }
}

/// Reads what [`Words`] has written.
pub(crate) fn from_words<'a>(words: &mut impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<Template>> {
    let count = words.next().context("a number is missing")?.parse::<usize>()?;
    (0..count).map(|_| words.next().context("a word is missing")?.parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in_and_everything_else_stays() {
        let template: Template =
            r#"{"to":"{uid}","as":{payload},"text":{payload-quoted},"n":{}}"#.parse().unwrap();
        let mut out = Vec::new();
        template.append(&mut out, "u7", br#"{"a":"\"}"#);
        let filled = r#"{"to":"u7","as":{"a":"\"},"text":"{\"a\":\"\\\"}","n":{}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), filled);
    }

    #[test]
    fn a_uid_that_looks_like_a_place_is_not_filled_in_again() {
        assert_eq!(Template::literal("{uid}").with_uid("{payload}"), b"{payload}");
    }

    #[test]
    fn any_bytes_survive_a_command_as_one_word() {
        let all: Vec<u8> = (0..=255).collect();
        let written = Template(all.clone()).to_string();
        assert!(written.bytes().all(|byte| byte.is_ascii_graphic()), "{written}");
        assert_eq!(written.parse::<Template>().unwrap().as_bytes(), all);
        let templates = [Template::literal("a b"), Template::literal("c\\x")];
        let words = Words(&templates).to_string();
        assert_eq!(from_words(&mut words.split(' ')).unwrap(), templates);
    }

    #[test]
    fn half_escapes_are_refused() {
        for wrong in ["", r"\x", r"\x1", r"\xzz", r"a\x0"] {
            assert!(wrong.parse::<Template>().is_err(), "{wrong}");
        }
    }
}
