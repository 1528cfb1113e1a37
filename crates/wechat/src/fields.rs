//! Bodies of callbacks, XML or JSON, as flat fields.
//!
//! Only the root's direct children with text count; the order, unknown fields and deeper elements do not matter. What
//! could mean two things, or make a parser work, is refused: a DTD, an entity of its own, a field given twice.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// The longest body that is read. Events have under 1 KiB.
pub const MAX_BODY_BYTES: usize = 64 << 10;
/// Events have about ten fields.
const MAX_FIELDS: usize = 64;
/// The deepest documented event has four levels.
const MAX_DEPTH: usize = 16;

/// How an account is set to write its callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `<xml>…</xml>`
    Xml,
    /// `{…}`
    Json,
}

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FieldsError {
    /// Longer than [`MAX_BODY_BYTES`], with more than 64 fields or deeper than 16 levels.
    #[error("the body is too big")]
    TooBig,
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// Not well-formed.
    #[error("the body is not well-formed")]
    Malformed,
    /// A DTD, a processing instruction, or an entity that XML does not predefine.
    #[error("the body has a DTD, a processing instruction or an entity of its own")]
    Forbidden,
    /// A field given twice.
    #[error("a field is given twice")]
    Duplicate,
}

/// Fields by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(HashMap<String, String>);

impl Fields {
    /// Reads a body in whichever format it has.
    pub(crate) fn parse(body: &[u8]) -> Result<(Self, Format), FieldsError> {
        if body.len() > MAX_BODY_BYTES {
            return Err(FieldsError::TooBig);
        }
        let text = std::str::from_utf8(body).map_err(|_| FieldsError::NotUtf8)?;
        if text.trim_start().starts_with('{') {
            Ok((Self::json(text)?, Format::Json))
        } else {
            Ok((Self::xml(text)?, Format::Xml))
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn insert(&mut self, name: String, value: String) -> Result<(), FieldsError> {
        if self.0.len() == MAX_FIELDS {
            return Err(FieldsError::TooBig);
        }
        match self.0.entry(name) {
            Entry::Occupied(_) => Err(FieldsError::Duplicate),
            Entry::Vacant(entry) => {
                entry.insert(value);
                Ok(())
            }
        }
    }

    fn xml(text: &str) -> Result<Self, FieldsError> {
        let mut reader = Reader::from_str(text);
        let mut fields = Self::default();
        // Names of the open elements; the root's child collects text until it ends or has a child of its own.
        let mut depth = 0_usize;
        let mut field: Option<(String, String)> = None;
        let mut seen_root = false;
        loop {
            match reader.read_event().map_err(|_| FieldsError::Malformed)? {
                Event::Start(start) => {
                    if depth == 0 && std::mem::replace(&mut seen_root, true) {
                        return Err(FieldsError::Malformed);
                    }
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(FieldsError::TooBig);
                    }
                    field = (depth == 2).then(|| (start.name().as_ref().to_owned(), String::new()));
                }
                Event::Empty(start) => match depth {
                    0 if std::mem::replace(&mut seen_root, true) => return Err(FieldsError::Malformed),
                    1 => fields.insert(start.name().as_ref().to_owned(), String::new())?,
                    _ => field = None,
                },
                Event::End(_) => {
                    depth = depth.checked_sub(1).ok_or(FieldsError::Malformed)?;
                    if let Some((name, value)) = field.take() {
                        fields.insert(name, value)?;
                    }
                }
                Event::Text(text) => text_in(&mut field, depth, &text.into_inner())?,
                Event::CData(text) => text_in(&mut field, depth, &text.into_inner())?,
                Event::GeneralRef(reference) => {
                    let character = resolve(&reference)?;
                    text_in(&mut field, depth, character.encode_utf8(&mut [0; 4]))?;
                }
                Event::Comment(_) | Event::Decl(_) => {}
                Event::PI(_) | Event::DocType(_) => return Err(FieldsError::Forbidden),
                Event::Eof if depth == 0 && seen_root => return Ok(fields),
                Event::Eof => return Err(FieldsError::Malformed),
            }
        }
    }

    fn json(text: &str) -> Result<Self, FieldsError> {
        let Parsed(result) = serde_json::from_str(text).map_err(|_| FieldsError::Malformed)?;
        result
    }
}

/// Adds text to the field that is open. Around the root only whitespace may stand.
fn text_in(field: &mut Option<(String, String)>, depth: usize, text: &str) -> Result<(), FieldsError> {
    match field {
        Some((_, value)) => value.push_str(text),
        None if depth == 0 && !text.trim_matches([' ', '\t', '\r', '\n', '\u{feff}']).is_empty() => {
            return Err(FieldsError::Malformed);
        }
        None => {}
    }
    Ok(())
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, FieldsError> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| FieldsError::Malformed)? {
        return Ok(character);
    }
    match &**reference {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(FieldsError::Forbidden),
    }
}

/// A JSON object's fields; errors of ours are carried out as values, since serde's would lose their kind.
struct Parsed(Result<Fields, FieldsError>);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Parsed;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
                let mut fields = Ok(Fields::default());
                // Read to its end even when refused, so that what follows is still checked to be JSON.
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let value = map.next_value::<serde_json::Value>()?;
                    let text = match value {
                        serde_json::Value::String(text) => text,
                        serde_json::Value::Number(number) => number.to_string(),
                        _ => continue,
                    };
                    if let Ok(known) = &mut fields
                        && let Err(error) = known.insert(name.into_owned(), text)
                    {
                        fields = Err(error);
                    }
                }
                Ok(Parsed(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<Vec<(String, String)>, FieldsError> {
        let (fields, _) = Fields::parse(body.as_bytes())?;
        let mut fields: Vec<_> = fields.0.into_iter().collect();
        fields.sort();
        Ok(fields)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, FieldsError> {
        Ok(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn cdata_text_and_entities_are_equal() {
        let expected = pairs(&[("A", "x<&y"), ("B", "")]);
        assert_eq!(parsed("<xml><A><![CDATA[x<&y]]></A><B></B></xml>"), expected);
        assert_eq!(parsed("<xml>\n<B/><A>x&lt;&#38;y</A>\n</xml>\n"), expected);
        assert_eq!(
            parsed("<?xml version=\"1.0\"?><xml><!-- c --><A>x<![CDATA[<&]]>y</A><B/></xml>"),
            expected
        );
        assert_eq!(parsed(r#"{"A":"x<&y","B":"","C":{"D":1},"E":null}"#), expected);
    }

    #[test]
    fn numbers_of_json_are_text() {
        assert_eq!(parsed(r#"{"CreateTime":1714112445}"#), pairs(&[("CreateTime", "1714112445")]));
    }

    #[test]
    fn deeper_elements_are_no_fields() {
        assert_eq!(parsed("<xml><A>1<B>2</B>3</A><C>4</C></xml>"), pairs(&[("C", "4")]));
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        use FieldsError::{Duplicate, Forbidden, Malformed, NotUtf8, TooBig};
        let deep = "<a>".repeat(17) + &"</a>".repeat(17);
        let many: String = (0..65).map(|n| format!("<a{n}/>")).collect();
        let long = format!("<xml><A>{}</A></xml>", "x".repeat(MAX_BODY_BYTES));
        for (body, expected) in [
            ("<!DOCTYPE x [<!ENTITY a 'b'>]><xml><A>&a;</A></xml>", Forbidden),
            ("<!DOCTYPE x SYSTEM 'file:///etc/passwd'><xml/>", Forbidden),
            ("<xml><A>&a;</A></xml>", Forbidden),
            ("<?php echo 1 ?><xml/>", Forbidden),
            ("<xml><A>1</A><A>2</A></xml>", Duplicate),
            (r#"{"A":"1","A":"2"}"#, Duplicate),
            ("<xml><A></xml>", Malformed),
            ("<xml></xml><xml></xml>", Malformed),
            ("<xml><A>&#0;</A></xml>", Malformed),
            ("<xml>", Malformed),
            ("text<xml/>", Malformed),
            ("", Malformed),
            ("{", Malformed),
            ("{} {}", Malformed),
            ("[]", Malformed),
            (deep.as_str(), TooBig),
            (&format!("<xml>{many}</xml>"), TooBig),
            (long.as_str(), TooBig),
        ] {
            assert_eq!(parsed(body), Err(expected), "{}", &body[..body.len().min(60)]);
        }
        assert_eq!(Fields::parse(b"<xml><A>\xff</A></xml>"), Err(NotUtf8));
    }
}
