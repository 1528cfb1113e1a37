//! What pages say in doorbell.v1, on any bytes, with `serde_json` as the judge.

use doorbell_protocol::envelope::{FromPage, read, read_position};
use serde_json::Value;

/// What is read is what the JSON says.
pub(crate) fn check(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(position) = read_position(text)
    {
        let written = format!("{}:{}", position.epoch, position.seq);
        assert_eq!(read_position(&written), Some(position));
    }
    // What nobody asks for is skipped unread, so it may be worse than `serde_json` allows.
    let (Ok(said), Ok(value)) = (read(data), serde_json::from_slice::<Value>(data)) else { return };
    assert!(value.is_object());
    let (text, number) = (|name: &str| value[name].as_str(), |name: &str| value[name].as_u64());
    match said {
        FromPage::Hello { token, resume } => {
            assert_eq!((text("type"), token.as_deref()), (Some("hello"), text("token")));
            let place = resume.as_ref().map(|place| (place.epoch.as_str(), place.seq));
            let place_there = value["resume"].as_object().map(|place| {
                (place["epoch"].as_str().expect("a text"), place["seq"].as_u64().expect("a number"))
            });
            assert_eq!(place, place_there);
        }
        FromPage::Ack { seq } => assert_eq!((text("type"), Some(seq)), (Some("ack"), number("seq"))),
        FromPage::LoginWatch { device_code } => {
            assert_eq!((text("type"), Some(&*device_code)), (Some("login.watch"), text("device_code")));
        }
        FromPage::Ping => assert_eq!(text("type"), Some("ping")),
        FromPage::Unknown => {
            let kind = text("type").expect("a type");
            assert!(!["hello", "ack", "login.watch", "ping"].contains(&kind), "{kind}");
        }
    }
}
