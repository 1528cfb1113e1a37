//! JSON that is copied: whitespace removed, or a string written, and nothing else touched.

use std::io::Write as _;

use crate::scan::find_special;

/// Appends `json` without the whitespace between its tokens.
///
/// `json` must be valid JSON. Everything else stays byte for byte: the order of members, duplicates, the
/// spelling of numbers and escapes.
pub fn compact_json(json: &str, out: &mut Vec<u8>) {
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        if bytes[at] == b'"' {
            at = end_of_string(bytes, at + 1);
        } else {
            while at < bytes.len() && bytes[at] != b'"' && !bytes[at].is_ascii_whitespace() {
                at += 1;
            }
        }
        out.extend_from_slice(&bytes[start..at]);
    }
}

/// The offset behind the closing quote of the string whose content starts at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at = find_special(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            // The byte after a backslash, be it a quote, does not end the string.
            Some(b'\\') => at = (at + 2).min(bytes.len()),
            Some(_) => at += 1,
            None => return at,
        }
    }
}

/// Appends `text` as a JSON string, quotes included.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    out.push(b'"');
    loop {
        let special = find_special(bytes, at);
        out.extend_from_slice(&bytes[at..special]);
        match bytes.get(special) {
            Some(byte @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', *byte]),
            Some(control) => write!(out, "\\u{control:04x}").expect("a Vec takes any bytes"),
            None => break,
        }
        at = special + 1;
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn compacted(json: &str) -> String {
        let mut out = Vec::new();
        compact_json(json, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_whitespace_between_tokens_goes() {
        let json =
            "\r\n{ \"b\" : [ 1.50 ,\t-0, true ] ,\n\"a b\":\"c \\\" \\\\\" , \"a b\" : \"\\u0041\\/ 微 \" } ";
        assert_eq!(compacted(json), r#"{"b":[1.50,-0,true],"a b":"c \" \\","a b":"\u0041\/ 微 "}"#);
        assert_eq!(compacted(" null "), "null");
        assert_eq!(compacted("\" \""), "\" \"");
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        write_json_string("a\"\\\n\u{1}é/", &mut out);
        assert_eq!(out, "\"a\\\"\\\\\\u000a\\u0001é/\"".as_bytes());
    }

    /// Any JSON value, up to four levels deep.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[ \t\\\\\"\n]{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn compacting_undoes_pretty_printing(value in value()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compacted(&pretty), value.to_string());
        }

        #[test]
        fn written_strings_are_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            write_json_string(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn compacting_anything_does_not_panic(text in any::<String>()) {
            compacted(&text);
        }
    }
}
