//! Published test vectors: WeChat's own pages and the tests of open-source SDKs; each names its source.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorbell_wechat::crypto::{AesKey, is_signature, signature};
use doorbell_wechat::mini_program::Session;
use doorbell_wechat::{Callback, CallbackKeys, Query, Refusal, ReplayLimits};
use serde_json::Value;

const VECTORS: &str = include_str!("vectors.jsonl");

fn vectors(kind: &str) -> Vec<Value> {
    let all = VECTORS.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let vectors: Vec<Value> = all.filter(|vector| vector["kind"] == kind).collect();
    assert!(!vectors.is_empty(), "{kind}");
    vectors
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} of {}", vector["id"]))
}

fn at(vector: &Value) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(text(vector, "timestamp").parse().expect("digits"))
}

/// An account with a vector's token, and its key when it has one.
fn account(vector: &Value) -> Callback {
    let key = vector["encoding_aes_key"].as_str().unwrap_or("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let keys = CallbackKeys {
        appid: vector["receive_id"].as_str().unwrap_or("wx").to_owned(),
        token: text(vector, "token").into(),
        key: AesKey::parse(key).expect("a key"),
        previous: None,
    };
    Callback::new(keys, ReplayLimits::default())
}

#[test]
fn queries_are_signed() {
    for vector in vectors("url_signature") {
        let query = Query {
            signature: text(&vector, "signature").into(),
            timestamp: text(&vector, "timestamp").into(),
            nonce: text(&vector, "nonce").into(),
            echostr: vector["echostr"].as_str().unwrap_or("echo").into(),
            ..Query::default()
        };
        let account = account(&vector);
        assert_eq!(account.check(&query, at(&vector)), Ok(query.echostr.as_str()), "{}", vector["id"]);
        if let Some(wrong) = vector["negative_signature"].as_str() {
            let query = Query { signature: wrong.into(), ..query };
            assert_eq!(account.check(&query, at(&vector)), Err(Refusal::Signature));
        }
    }
}

#[test]
fn parts_are_sorted_by_their_bytes() {
    for vector in vectors("sorted_sha1") {
        let parts: Vec<&str> =
            vector["parts"].as_array().expect("parts").iter().filter_map(Value::as_str).collect();
        assert_eq!(signature(&parts), text(&vector, "sha1"), "{}", vector["id"]);
    }
}

#[test]
fn messages_are_decrypted_and_encrypted_to_the_byte() {
    let mut keys_with_spare_bits = 0;
    for vector in vectors("aes_message") {
        let (encrypted, receive_id) = (text(&vector, "encrypt"), text(&vector, "receive_id"));
        let id = &vector["id"];
        let key = text(&vector, "encoding_aes_key");
        keys_with_spare_bits += usize::from(
            !key.ends_with(['A', 'E', 'I', 'M', 'Q', 'U', 'Y', 'c', 'g', 'k', 'o', 's', 'w', '0', '4', '8']),
        );
        let key = AesKey::parse(key).expect("a key");
        let plain = key.decrypt(encrypted, receive_id).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(String::from_utf8(plain.clone()).expect("UTF-8"), text(&vector, "plaintext"), "{id}");
        let random = text(&vector, "random16").as_bytes().try_into().expect("16 bytes");
        assert_eq!(key.encrypt(&plain, receive_id, random), encrypted, "{id}");

        let parts = [text(&vector, "token"), text(&vector, "timestamp"), text(&vector, "nonce"), encrypted];
        let published =
            vector["msg_signature"].as_str().unwrap_or_else(|| text(&vector, "computed_msg_signature"));
        assert!(is_signature(published, &parts), "{id}");
    }
    assert!(keys_with_spare_bits >= 3, "{keys_with_spare_bits} keys have spare bits");
}

#[test]
fn whole_callbacks_of_the_vectors_are_accepted() {
    let mut accepted = 0;
    for vector in vectors("aes_message") {
        let plain = text(&vector, "plaintext");
        // The others are replies, echo strings or bare text.
        if !plain.contains("CreateTime") || vector["msg_signature"].is_null() {
            continue;
        }
        let query = Query {
            timestamp: text(&vector, "timestamp").into(),
            nonce: text(&vector, "nonce").into(),
            msg_signature: text(&vector, "msg_signature").into(),
            encrypt_type: "aes".into(),
            ..Query::default()
        };
        let encrypted = text(&vector, "encrypt");
        for body in [
            format!(
                "<xml><ToUserName><![CDATA[gh]]></ToUserName><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
            ),
            serde_json::json!({ "ToUserName": "gh", "Encrypt": encrypted }).to_string(),
        ] {
            let received = account(&vector).receive(&query, body.as_bytes(), at(&vector));
            let received = received.unwrap_or_else(|error| panic!("{}: {error}", vector["id"]));
            assert!(plain.contains(&received.message.openid));
            accepted += 1;
        }
    }
    assert_eq!(accepted, 6);
}

#[test]
fn mini_programs_data_is_decrypted_for_its_appid_alone() {
    for vector in vectors("miniprogram_encrypted_data") {
        let session = session(text(&vector, "session_key"));
        let appid = vector["watermark"]["appid"].as_str().expect("an appid");
        let decrypt =
            |appid: &str| session.decrypt(appid, text(&vector, "encrypted_data"), text(&vector, "iv"));
        let data = decrypt(appid).expect("ours");
        assert_eq!(data["openId"], vector["open_id"]);
        assert_eq!(data["unionId"], vector["union_id"]);
        assert_eq!(data["watermark"], vector["watermark"]);
        assert!(decrypt("wx0").is_err());
    }
}

#[test]
fn mini_programs_raw_data_is_signed_with_the_session() {
    for vector in vectors("miniprogram_raw_signature") {
        let session = session(text(&vector, "session_key"));
        let (raw, signature) = (text(&vector, "raw_data"), text(&vector, "sha1"));
        assert!(session.signed(raw, signature), "{}", vector["id"]);
        assert!(!session.signed(&raw.replace("Band", "Bond").replace("Lam", "Lan"), signature));
    }
}

fn session(key: &str) -> Session {
    Session { openid: "o".into(), unionid: None, session_key: key.into() }
}
