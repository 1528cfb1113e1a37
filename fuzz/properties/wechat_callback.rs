//! WeChat's callbacks, on any bytes: the query up to the first line feed, the body after it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorbell_wechat::crypto::{AesKey, signature};
use doorbell_wechat::{Callback, CallbackKeys, Message, Query, Refusal, ReplayLimits};

const TOKEN: &str = "AAAAA";
const APPID: &str = "wxba5fad812f8e6fb9";
const TIMESTAMP: u64 = 1_714_112_445;

/// Nothing is accepted without a signature; with one, exactly what can be read is.
pub(crate) fn check(data: &[u8]) {
    let key = AesKey::parse("kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR").expect("a key");
    let keys = CallbackKeys { appid: APPID.into(), token: TOKEN.into(), key: key.clone(), previous: None };
    let callback = Callback::new(keys, ReplayLimits::default());
    let now = UNIX_EPOCH + Duration::from_secs(TIMESTAMP);
    let (query, body) = split(data);
    if let Ok(query) = std::str::from_utf8(query)
        && let Ok(query) = Query::parse(query)
    {
        // The signature of a random query is right once in 2^160.
        assert!(callback.check(&query, now).is_err());
        assert!(callback.receive(&query, body, now).is_err());
    }

    let parsed = Message::parse(body);
    if let Ok(message) = &parsed {
        assert!(message.identity().starts_with(&message.openid));
    }
    let mut sealed = Sealed::new(&key, body);
    let received = sealed.deliver(&callback, now);
    match (&parsed, received) {
        (Ok(message), Ok(received)) => assert_eq!((message, true), (&received, true)),
        (Err(why), Err(Refusal::Body(refused))) => assert_eq!(*why, refused),
        (parsed, received) => panic!("{parsed:?} alone, {received:?} sealed"),
    }
    // Any changed byte of the ciphertext is noticed, wherever the data says.
    let at = data.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte))
        % sealed.encrypted.len();
    let changed = if sealed.encrypted.as_bytes()[at] == b'A' { "B" } else { "A" };
    sealed.encrypted.replace_range(at..=at, changed);
    assert_eq!(sealed.deliver(&callback, now), Err(Refusal::Signature));
}

fn split(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

struct Sealed {
    query: Query,
    encrypted: String,
}

impl Sealed {
    fn new(key: &AesKey, body: &[u8]) -> Self {
        // A plain text may be as long as a body; its envelope is a third longer and would be refused for that.
        let encrypted = key.encrypt(&body[..body.len().min(40_000)], APPID, [7; 16]);
        let (timestamp, nonce) = (TIMESTAMP.to_string(), "n".to_owned());
        let msg_signature = signature(&[TOKEN, &timestamp, &nonce, &encrypted]);
        let query = Query { timestamp, nonce, msg_signature, encrypt_type: "aes".into(), ..Query::default() };
        Self { query, encrypted }
    }

    fn deliver(&self, callback: &Callback, now: SystemTime) -> Result<Message, Refusal> {
        let body = format!("<xml><Encrypt><![CDATA[{}]]></Encrypt></xml>", self.encrypted);
        callback.receive(&self.query, body.as_bytes(), now).map(|received| received.message)
    }
}
