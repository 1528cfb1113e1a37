//! What is accepted as WeChat's, and what is not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorbell_wechat::crypto::{AesKey, DecryptError, signature};
use doorbell_wechat::{
    Callback, CallbackKeys, Format, MessageKind, Query, Received, Refusal, ReplayLimits, Reply,
};
use proptest::collection::vec;
use proptest::prelude::*;

const APPID: &str = "wx5823bf96d3bd56c7";
const TOKEN: &str = "QDG6eK";
const KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";
const OLD_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
const OTHER_KEY: &str = "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR";
const NOW: u64 = 1_790_000_000;

fn key(text: &str) -> AesKey {
    AesKey::parse(text).expect("a key")
}

fn account(previous: Option<&str>) -> Callback {
    let keys =
        CallbackKeys { appid: APPID.into(), token: TOKEN.into(), key: key(KEY), previous: previous.map(key) };
    Callback::new(keys, ReplayLimits::default())
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn event(scene: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[oA]]></FromUserName>\
         <CreateTime>{NOW}</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[SCAN]]></Event>\
         <EventKey><![CDATA[{scene}]]></EventKey><Ticket><![CDATA[T]]></Ticket></xml>"
    )
}

/// A delivery as WeChat makes it, each part to be changed.
#[derive(Clone)]
struct Delivery {
    query: Query,
    body: String,
}

fn sealed(plain: &str, key_text: &str, appid: &str, token: &str, nonce: &str) -> Delivery {
    let encrypted = key(key_text).encrypt(plain.as_bytes(), appid, *b"0123456789abcdef");
    let timestamp = NOW.to_string();
    let query = Query {
        signature: signature(&[token, &timestamp, nonce]),
        msg_signature: signature(&[token, &timestamp, nonce, &encrypted]),
        timestamp,
        nonce: nonce.into(),
        encrypt_type: "aes".into(),
        ..Query::default()
    };
    let body = format!("<xml><ToUserName>gh_1</ToUserName><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>");
    Delivery { query, body }
}

fn genuine(scene: &str, nonce: &str) -> Delivery {
    sealed(&event(scene), KEY, APPID, TOKEN, nonce)
}

impl Delivery {
    fn to(&self, account: &Callback, seconds: u64) -> Result<Received, Refusal> {
        account.receive(&self.query, self.body.as_bytes(), at(seconds))
    }
}

#[test]
fn a_genuine_callback_is_accepted_once_and_recognised_again() {
    let account = account(None);
    let received = genuine("S", "1").to(&account, NOW).expect("genuine");
    assert!(received.is_new);
    assert_eq!(received.message.openid, "oA");
    let scan = MessageKind::Scan { scene: "S".into(), ticket: "T".into(), subscribed: false };
    assert_eq!(received.message.kind, scan);
    // The same delivery, and the same event signed anew.
    for (nonce, after) in [("1", 5), ("2", 10)] {
        assert!(!genuine("S", nonce).to(&account, NOW + after).expect("genuine").is_new, "{nonce}");
    }
    // A third delivery is WeChat's last.
    assert!(!genuine("S", "1").to(&account, NOW + 10).expect("genuine").is_new);
    assert_eq!(genuine("S", "1").to(&account, NOW + 15).map(|_| ()), Err(Refusal::Replayed));
}

#[test]
fn whatever_is_forged_downgraded_or_tampered_is_refused() {
    let good = genuine("S", "1");
    let changed = |change: &dyn Fn(&mut Delivery)| {
        let mut delivery = good.clone();
        change(&mut delivery);
        delivery
    };
    let cases: Vec<(&str, Delivery, Refusal)> = vec![
        ("another token", sealed(&event("S"), KEY, APPID, "other", "1"), Refusal::Signature),
        (
            "another key",
            sealed(&event("S"), OTHER_KEY, APPID, TOKEN, "1"),
            Refusal::Decrypt(DecryptError::Pad),
        ),
        (
            "another appid",
            sealed(&event("S"), KEY, "wx0", TOKEN, "1"),
            Refusal::Decrypt(DecryptError::ReceiveId),
        ),
        ("no msg_signature", changed(&|d| d.query.msg_signature.clear()), Refusal::NotEncrypted),
        ("raw", changed(&|d| d.query.encrypt_type = "raw".into()), Refusal::NotEncrypted),
        ("no encrypt_type", changed(&|d| d.query.encrypt_type.clear()), Refusal::NotEncrypted),
        ("a plain body", changed(&|d| d.body = event("S")), Refusal::NotEncrypted),
        ("another signature", changed(&|d| d.query.signature = "0".repeat(40)), Refusal::Signature),
        ("another msg_signature", changed(&|d| d.query.msg_signature = "0".repeat(40)), Refusal::Signature),
        (
            "an upper-case msg_signature",
            changed(&|d| d.query.msg_signature.make_ascii_uppercase()),
            Refusal::Signature,
        ),
        ("another nonce", changed(&|d| d.query.nonce = "2".into()), Refusal::Signature),
        ("no nonce", changed(&|d| d.query.nonce.clear()), Refusal::Query),
        ("no timestamp", changed(&|d| d.query.timestamp.clear()), Refusal::Query),
        ("a signed timestamp", changed(&|d| d.query.timestamp.insert(0, '+')), Refusal::Query),
        ("another ciphertext", changed(&|d| d.body = genuine("X", "1").body), Refusal::Signature),
        ("not base64", resigned("*"), Refusal::Decrypt(DecryptError::Base64)),
        ("half a block", resigned("AAAAAAAAAAAAAAAAAAAAAA=="), Refusal::Decrypt(DecryptError::Length)),
        ("nothing encrypted", resigned(""), Refusal::Decrypt(DecryptError::Length)),
    ];
    for (name, delivery, expected) in cases {
        let account = account(None);
        let refused = delivery.to(&account, NOW).map(|_| ());
        // What a wrong key makes of the last byte is the key's doing; any refusal of the decryption is right.
        match (&refused, expected) {
            (Err(Refusal::Decrypt(_)), Refusal::Decrypt(_)) if name == "another key" => {}
            _ => assert_eq!(refused, Err(expected), "{name}"),
        }
        // Nothing of it is remembered: the genuine one is new.
        assert!(good.to(&account, NOW).expect("genuine").is_new, "{name}");
    }
}

/// A delivery whose ciphertext is `encrypted`, rightly signed.
fn resigned(encrypted: &str) -> Delivery {
    let mut delivery = genuine("S", "1");
    delivery.body = format!("<xml><Encrypt>{encrypted}</Encrypt></xml>");
    delivery.query.msg_signature = signature(&[TOKEN, &delivery.query.timestamp, "1", encrypted]);
    delivery
}

#[test]
fn a_nonce_is_not_used_for_another_body() {
    let account = account(None);
    genuine("S", "1").to(&account, NOW).expect("genuine");
    assert_eq!(genuine("X", "1").to(&account, NOW).map(|_| ()), Err(Refusal::Replayed));
}

#[test]
fn old_and_future_callbacks_are_refused() {
    for (seconds, good) in
        [(NOW - 300, true), (NOW + 300, true), (NOW - 301, false), (NOW + 301, false), (0, false)]
    {
        let refused = genuine("S", "1").to(&account(None), seconds).map(|_| ());
        assert_eq!(refused, if good { Ok(()) } else { Err(Refusal::Stale) }, "{seconds}");
    }
}

#[test]
fn plain_fields_beside_the_ciphertext_do_not_count() {
    let mut delivery = genuine("S", "1");
    delivery.body = delivery.body.replace("<Encrypt>", "<FromUserName>oEvil</FromUserName><Encrypt>");
    let received = delivery.to(&account(None), NOW).expect("genuine");
    assert_eq!(received.message.openid, "oA");
}

#[test]
fn after_a_change_of_keys_both_work_and_the_reply_uses_the_one_that_did() {
    let account = account(Some(OLD_KEY));
    for (used, nonce, scene) in [(OLD_KEY, "1", "A"), (KEY, "2", "B")] {
        let received =
            sealed(&event(scene), used, APPID, TOKEN, nonce).to(&account, NOW).expect("either key");
        let reply = Reply::text(&account, &received, "hello", at(NOW)).expect("randomness");
        let encrypted = between(&reply.body, "<Encrypt><![CDATA[", "]]></Encrypt>");
        assert!(key(used).decrypt(encrypted, APPID).is_ok(), "{nonce}");
    }
    let refused = sealed(&event("C"), OTHER_KEY, APPID, TOKEN, "3").to(&account, NOW);
    assert!(matches!(refused, Err(Refusal::Decrypt(_))));
}

#[test]
fn replies_are_signed_encrypted_and_of_the_account_s_format() {
    let text = "tap <a href=\"https://a.example/?a=1&b=2\">here</a> ]]> 微信";
    let account = account(None);
    let received = genuine("S", "n1").to(&account, NOW).expect("genuine");
    let reply = Reply::text(&account, &received, text, at(NOW + 1)).expect("randomness");
    let encrypted = between(&reply.body, "<Encrypt><![CDATA[", "]]>");
    let timestamp = between(&reply.body, "<TimeStamp>", "<");
    assert_eq!(timestamp, (NOW + 1).to_string());
    assert_eq!(
        between(&reply.body, "<MsgSignature><![CDATA[", "]]>"),
        signature(&[TOKEN, timestamp, "n1", encrypted])
    );
    let plain = String::from_utf8(key(KEY).decrypt(encrypted, APPID).expect("ours")).expect("UTF-8");
    assert!(
        plain.contains("<ToUserName><![CDATA[oA]]></ToUserName><FromUserName><![CDATA[gh_1]]>"),
        "{plain}"
    );
    assert!(plain.contains("]]]]><![CDATA[>"), "the end of CDATA is split: {plain}");

    let json = r#"{"ToUserName":"gh_1","FromUserName":"oA","CreateTime":1,"MsgType":"event","Event":"SCAN","EventKey":"S","Ticket":"T"}"#;
    let received = sealed(json, KEY, APPID, TOKEN, "n2").to(&account, NOW).expect("genuine");
    assert_eq!(received.message.format, Format::Json);
    let reply = Reply::text(&account, &received, text, at(NOW)).expect("randomness");
    let reply: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
    let plain = key(KEY).decrypt(reply["Encrypt"].as_str().expect("text"), APPID).expect("ours");
    let plain: serde_json::Value = serde_json::from_slice(&plain).expect("JSON");
    assert_eq!((plain["ToUserName"].as_str(), plain["Content"].as_str()), (Some("oA"), Some(text)));
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{start} in {text}"));
    rest.split_once(end).map_or(rest, |(inside, _)| inside)
}

#[test]
fn queries_are_decoded_and_doubled_parameters_refused() {
    let query =
        Query::parse("signature=a&timestamp=1&nonce=2&openid=o&echostr=a%2Bb+c&x=%zz").expect("a query");
    assert_eq!(query.echostr, "a+b c");
    for bad in ["nonce=1&nonce=1", "nonce=%", "nonce=%4", "nonce=%zz", "nonce=%ff"] {
        assert_eq!(Query::parse(bad), Err(Refusal::Query), "{bad}");
    }
    assert_eq!(Query::parse(&format!("nonce={}", "1".repeat(1_025))), Err(Refusal::Query));
}

#[test]
fn pads_of_every_length_are_taken_and_every_byte_of_them_counts() {
    let mut pads = std::collections::HashSet::new();
    for length in 0..64 {
        let message = vec![b'x'; length];
        let encrypted = key(KEY).encrypt(&message, APPID, [1; 16]);
        assert_eq!(key(KEY).decrypt(&encrypted, APPID).as_deref(), Ok(&*message), "{length}");
        pads.insert(32 - (20 + length + APPID.len()) % 32);
    }
    assert_eq!(pads.len(), 32, "every pad from 1 to 32");
}

proptest! {
    #[test]
    fn what_is_encrypted_is_decrypted(message in vec(any::<u8>(), 0..200), random in any::<[u8; 16]>(), key_text in "[A-Za-z0-9]{43}") {
        let key = key(&key_text);
        let encrypted = key.encrypt(&message, APPID, random);
        prop_assert_eq!(key.decrypt(&encrypted, APPID), Ok(message));
        prop_assert_eq!(key.decrypt(&encrypted, "wx0"), Err(DecryptError::ReceiveId));
    }

    #[test]
    fn no_ciphertext_panics(encrypted in "[A-Za-z0-9+/]{0,120}={0,2}") {
        let _ = key(KEY).decrypt(&encrypted, APPID);
    }
}
