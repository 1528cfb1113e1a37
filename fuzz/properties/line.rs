//! The text port's lines, on any bytes, with `serde_json` as the judge.

use std::collections::HashMap;

use doorbell_protocol::json::compact_json;
use doorbell_protocol::line::{auth_key, looks_like_http, next_line, uid_of};
use doorbell_protocol::{LineError, Uid};
use serde_json::Value;
use serde_json::value::RawValue;

/// Every line is understood as `serde_json` understands it, and valid JSON survives being compacted.
pub(crate) fn check(data: &[u8]) {
    let mut rest = data;
    while let Some((line, taken)) = next_line(rest) {
        assert!(!line.ends_with(b"\r") && !line.contains(&b'\n'));
        check_line(line);
        rest = &rest[taken..];
    }
    check_line(rest);
}

fn check_line(line: &[u8]) {
    assert!(!(looks_like_http(line) && uid_of(line).is_ok()), "a push taken for HTTP");
    assert!(auth_key(line).is_none_or(|key| !key.is_empty()));

    let found = uid_of(line);
    let value = match serde_json::from_slice::<Value>(line) {
        Ok(value) => value,
        // `serde_json` stops at 128 levels and at numbers that no f64 holds; RFC 8259 knows neither bound.
        Err(error) if ["recursion limit", "number out of range"].iter().any(|known| is(&error, known)) => {
            return;
        }
        Err(error) => {
            assert!(matches!(found, Err(LineError::NotJson { .. })), "{found:?}, but {error}");
            return;
        }
    };
    assert_eq!(found, expected(line, &value));

    let json = std::str::from_utf8(line).expect("valid JSON is UTF-8");
    let mut compact = Vec::new();
    compact_json(json, &mut compact);
    assert_eq!(serde_json::from_slice::<Value>(&compact).expect("still JSON"), value);
    let mut twice = Vec::new();
    compact_json(std::str::from_utf8(&compact).expect("still UTF-8"), &mut twice);
    assert_eq!(compact, twice);
}

fn is(error: &serde_json::Error, known: &str) -> bool {
    error.to_string().contains(known)
}

/// The uid of a line that is the JSON `value`.
fn expected(line: &[u8], value: &Value) -> Result<Uid, LineError> {
    if !value.is_object() {
        return Err(LineError::NotAnObject);
    }
    // The members as written: a `Value` does not keep the digits of large numbers.
    let members: HashMap<String, Box<RawValue>> = serde_json::from_slice(line).expect("an object");
    let uid = members.get("uid").ok_or(LineError::NoUid)?.get();
    match &value["uid"] {
        Value::String(uid) => Ok(Uid::new(uid)?),
        Value::Number(_) if uid == "-0" => Ok(Uid::new("0")?),
        Value::Number(_) if !uid.contains(['.', 'e', 'E']) => Ok(Uid::new(uid)?),
        _ => Err(LineError::UidType),
    }
}
