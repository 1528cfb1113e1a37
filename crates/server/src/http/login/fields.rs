//! Bodies: JSON or a form, read into the same few texts.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, header};
use serde_json::Value;

use super::{MAX_BODY, Refused};
use crate::http::problem::read_bytes;

/// The fields of a body. Those nobody asks for are ignored.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a body of either kind; an empty one has no fields.
    pub(super) async fn read(headers: &HeaderMap, body: Body, deadline: Duration) -> Result<Self, Refused> {
        let bytes = read_bytes(body, MAX_BODY, deadline).await?;
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        Self::parse(kind, &bytes).map_err(|detail| Refused::bad_request("invalid_request", detail))
    }

    /// Reads the bytes of a body of that `Content-Type`.
    pub(super) fn parse(kind: &str, bytes: &[u8]) -> Result<Self, String> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let fields: Vec<(String, String)> = if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        {
            form_urlencoded::parse(bytes).into_owned().collect()
        } else if kind.eq_ignore_ascii_case("application/json") {
            let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("the body: {error}"))?;
            let Value::Object(members) = value else {
                return Err("the body is not a JSON object".to_owned());
            };
            let text = |value| match value {
                Value::String(text) => Some(text),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(value) => Some(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            };
            members.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect()
        } else {
            return Err("send application/x-www-form-urlencoded or application/json".to_owned());
        };
        for (index, (name, _)) in fields.iter().enumerate() {
            if fields[..index].iter().any(|(other, _)| other == name) {
                // RFC 6749 section 3.2: which of the two is meant must not depend on who reads it.
                return Err(format!(
                    "`{}` is given twice",
                    name.chars().take(64).collect::<String>().escape_debug()
                ));
            }
        }
        Ok(Self(fields))
    }

    /// A field that is there and not empty (RFC 6749 section 3.2 has empty ones count as left out).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All of them.
    pub(super) fn all(&self) -> &[(String, String)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_say_the_same_and_doubles_are_refused() {
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        for (kind, body) in [
            (form, "client_id=a+b%20c&number=7&empty="),
            ("application/json", r#"{"client_id":"a b c","number":7,"empty":"","list":[1]}"#),
        ] {
            let fields = Fields::parse(kind, body.as_bytes()).expect("fields");
            assert_eq!((fields.get("client_id"), fields.get("number")), (Some("a b c"), Some("7")));
            assert_eq!((fields.get("empty"), fields.get("list"), fields.get("other")), (None, None, None));
        }
        assert!(Fields::parse(form, b"a=1&a=2").is_err());
        assert!(Fields::parse("text/plain", b"a=1").is_err());
        assert!(Fields::parse("application/json", b"[]").is_err());
        assert!(Fields::parse("", b"").expect("nothing").all().is_empty());
    }
}
