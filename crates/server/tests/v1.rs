//! doorbell.v1 over raw sockets: hello, resume, acknowledgements, mailboxes, truthful pushes.

mod support;

use std::time::Duration;

use doorbell_protocol::Uid;
use doorbell_server::identity::TokenKeys;
use doorbell_server::settings::{IdentityMode, Tokens};
use serde_json::{Value, json};
use support::{Backend, Client, Page, api, eventually, push, settings, start};

#[test]
fn a_message_comes_in_an_envelope_and_is_the_same_message_on_a_plain_connection() {
    let server = start(settings());
    let (mut client, welcome) = Client::hello(&server, "u", None);
    assert_eq!((&welcome["uid"], &welcome["recovered"]), (&json!("u"), &json!(true)));
    assert_eq!(welcome["ping_interval"], 25);
    let seq = welcome["seq"].as_u64().expect("a number");
    let mut plain = Page::bind(server.addresses().public, "u");

    let answer = push(&server, &json!({"uid": "u", "data": {"percent": "88%"}}));
    assert_eq!(
        (&answer["written"], &answer["held"], &answer["seq"]),
        (&json!(2), &json!(0), &json!(seq + 1))
    );
    let message = client.next();
    assert_eq!(
        message,
        json!({"type": "message", "seq": seq + 1, "id": answer["id"], "data": {"percent": "88%"}})
    );
    assert_eq!(plain.message(), r#"{"percent":"88%"}"#);

    let line = r#"{"uid":"u", "n": 1}"#;
    assert_eq!(Backend::connect(server.addresses().text).line(line), "ok");
    let message = client.next();
    assert_eq!((&message["seq"], &message["data"]), (&json!(seq + 2), &json!({"uid": "u", "n": 1})));
    assert_eq!(plain.message(), line);

    api(&server, "POST", "/v1/broadcast", r#"{"data":"all"}"#);
    let message = client.next();
    assert_eq!((&message["data"], message.get("seq")), (&json!("all"), None));
}

#[test]
fn what_came_while_the_page_was_away_is_replayed_once_and_in_order() {
    let server = start(settings());
    let (mut client, welcome) = Client::hello(&server, "u", None);
    let epoch = welcome["epoch"].as_str().expect("a name").to_owned();
    push(&server, &json!({"uid": "u", "data": 0}));
    let seen = client.next()["seq"].as_u64().expect("a number");
    drop(client);
    eventually("the page to be gone", || {
        push(&server, &json!({"uid": "u", "data": "gone?", "ttl": 0}))["written"] == 0
    });
    for number in 1..=3 {
        assert_eq!(push(&server, &json!({"uid": "u", "data": number}))["held"], 1);
    }
    for _ in 0..2 {
        let (mut client, welcome) = Client::hello(&server, "u", Some((&epoch, seen)));
        assert_eq!((&welcome["recovered"], &welcome["seq"]), (&json!(true), &json!(seen)));
        let data: Vec<Value> = (0..3).map(|_| client.next()["data"].take()).collect();
        assert_eq!(data, [1, 2, 3]);
        client.nothing_waits();
    }
    let (mut other, welcome) = Client::hello(&server, "u", Some(("another", 5)));
    assert_eq!(welcome["recovered"], false, "of another memory");
    other.nothing_waits();
    let (mut future, welcome) = Client::hello(&server, "u", Some((&epoch, u64::MAX)));
    assert_eq!(welcome["recovered"], false, "a number that was never given");
    future.nothing_waits();
}

#[test]
fn a_push_that_came_before_the_page_waits_for_it_and_only_for_it() {
    let server = start(settings());
    let answer = push(&server, &json!({"uid": "u", "data": "early"}));
    assert_eq!(
        (&answer["connections"], &answer["written"], &answer["held"]),
        (&json!(0), &json!(0), &json!(1))
    );
    push(&server, &json!({"uid": "u", "data": "now or never", "ttl": 0}));
    let mut plain = Page::bind(server.addresses().public, "u");
    let (mut client, _) = Client::hello(&server, "u", None);
    assert_eq!(client.next()["data"], "early");
    client.nothing_waits();
    let (mut second, _) = Client::hello(&server, "u", None);
    second.nothing_waits();
    plain.sync();
}

#[test]
fn what_fell_out_of_the_mailbox_is_told() {
    let mut settings = settings();
    settings.mailbox.messages = 2;
    let server = start(settings);
    let (client, welcome) = Client::hello(&server, "u", None);
    let epoch = welcome["epoch"].as_str().expect("a name").to_owned();
    let seq = welcome["seq"].as_u64().expect("a number");
    drop(client);
    eventually("the page to be gone", || {
        push(&server, &json!({"uid": "u", "data": "?", "ttl": 0}))["written"] == 0
    });
    for number in 1..=3 {
        push(&server, &json!({"uid": "u", "data": number}));
    }
    let (mut client, welcome) = Client::hello(&server, "u", Some((&epoch, seq)));
    assert_eq!(welcome["recovered"], false);
    assert_eq!((client.next()["data"].take(), client.next()["data"].take()), (json!(2), json!(3)));
    assert_eq!(support::metric(&server, "doorbell_mailbox_lost"), 1);
}

#[test]
fn the_text_port_holds_a_line_when_it_is_told_to() {
    let mut settings = settings();
    settings.text.hold = Duration::from_secs(60);
    let server = start(settings);
    let mut backend = Backend::connect(server.addresses().text);
    let line = r#"{"uid":"u","n":1}"#;
    assert_eq!(backend.line(line), "held");
    let mut plain = Page::upgrade(server.addresses().public, "");
    plain.text("u");
    assert_eq!(plain.message(), line, "a plain page, too");
    assert_eq!(backend.line(r#"{"uid":"v","n":2}"#), "held");
    let (mut client, _) = Client::hello(&server, "v", None);
    assert_eq!(client.next()["data"], json!({"uid": "v", "n": 2}));
    assert_eq!(backend.line(r#"{"uid":"v","n":3}"#), "ok");
}

#[test]
fn a_push_can_wait_for_the_page_to_acknowledge() {
    let server = start(settings());
    let (mut client, _) = Client::hello(&server, "u", None);
    let answer = push(&server, &json!({"uid": "u", "data": 1, "wait": "acked", "timeout_ms": 100}));
    assert_eq!((&answer["written"], &answer["acked"]), (&json!(1), &json!(0)), "a frozen page");
    client.next();
    let acknowledging = std::thread::spawn(move || {
        let seq = client.next()["seq"].take();
        client.say(&json!({"type": "ack", "seq": seq}));
        client
    });
    let answer = push(&server, &json!({"uid": "u", "data": 2, "wait": "acked", "timeout_ms": 15_000}));
    assert_eq!((&answer["written"], &answer["acked"]), (&json!(1), &json!(1)));
    let mut client = acknowledging.join().expect("it acknowledges");
    client.say(&json!({"type": "ack", "seq": u64::MAX}));
    client.nothing_waits();
    let answer = push(&server, &json!({"uid": "u", "data": 3, "wait": "acked", "timeout_ms": 100}));
    assert_eq!(answer["acked"], 0, "what was not sent cannot be acknowledged");
}

#[test]
fn a_push_with_an_id_is_delivered_once() {
    let server = start(settings());
    let (mut client, _) = Client::hello(&server, "u", None);
    let body = json!({"uid": "u", "data": "once", "id": "order-1"});
    let first = push(&server, &body);
    assert_eq!((&first["id"], &first["written"]), (&json!("order-1"), &json!(1)));
    assert_eq!(push(&server, &body), first);
    assert_eq!(client.next()["id"], "order-1");
    client.nothing_waits();
}

#[test]
fn a_batch_is_answered_one_by_one() {
    let server = start(settings());
    let (mut client, _) = Client::hello(&server, "u", None);
    let batch = json!([
        {"uid": "u", "data": 1},
        {"uid": "", "data": 2},
        {"uid": "nobody", "data": 3, "ttl": "1m"},
        {"uid": "nobody", "data": 3, "ttl": "1 fortnight"},
        {"uid": "u", "data": 4},
    ]);
    let answers = push(&server, &batch);
    let kinds: Vec<&Value> =
        answers.as_array().expect("an array").iter().map(|answer| &answer["type"]).collect();
    let null = &Value::Null;
    assert_eq!(kinds, [null, &json!("urn:doorbell:uid"), null, &json!("urn:doorbell:ttl"), null]);
    assert_eq!(answers[2]["held"], 1);
    assert_eq!((client.next()["data"].take(), client.next()["data"].take()), (json!(1), json!(4)));
}

#[test]
fn the_conversation_has_rules() {
    let mut settings = settings();
    settings.limits.first_message_timeout = Duration::from_millis(300);
    let server = start(settings);
    let mut silent = Client::connect(&server);
    let bye = silent.next();
    assert_eq!(
        bye,
        json!({"type": "bye", "code": 3502, "reason": "the first message did not come in time", "reconnect": false})
    );
    assert_eq!(silent.0.frame().close_code(), 3502);

    let mut unclear = Client::connect(&server);
    unclear.0.text("hello");
    assert_eq!(unclear.next()["code"], 1008);

    let (mut client, _) = Client::hello(&server, "u", None);
    client.say(&json!({"type": "from the future", "x": 1}));
    client.nothing_waits();

    api(&server, "DELETE", "/v1/users/u/connections", "");
    assert_eq!(client.next(), json!({"type": "bye", "code": 3501, "reason": "kicked", "reconnect": false}));
    assert_eq!(client.0.frame().close_code(), 3501);
}

#[test]
fn a_draining_server_says_when_to_come_back() {
    let server = start(settings());
    let (mut client, _) = Client::hello(&server, "u", None);
    let draining = std::thread::spawn(move || server.drain());
    let bye = client.next();
    assert_eq!((&bye["type"], &bye["code"], &bye["reconnect"]), (&json!("bye"), &json!(3001), &json!(true)));
    assert!(bye["retry_after_ms"].as_u64().expect("a number") <= 30_000);
    assert_eq!(client.0.frame().close_code(), 3001);
    drop(client);
    assert_eq!(draining.join().expect("it stops").cut, 0);
}

#[test]
fn a_token_is_refreshed_in_place() {
    let mut settings = settings();
    settings.public.identity = IdentityMode::Token;
    settings.tokens = Tokens { key: Some("0123456789abcdef0123456789abcdef".into()), ..Tokens::default() };
    let keys = TokenKeys::new(&settings.tokens).expect("a good key");
    let token = |uid: &str, seconds| {
        let uid = Uid::new(uid).expect("a valid uid");
        keys.mint(&uid, Duration::from_secs(seconds), std::time::SystemTime::now()).expect("a private key")
    };
    let server = start(settings);
    let (mut client, welcome) = Client::hello(&server, &token("u", 5), None);
    client.say(&json!({"type": "hello", "token": token("u", 60)}));
    let again = client.next();
    assert_eq!(
        (&again["type"], &again["uid"], &again["connection"]),
        (&json!("welcome"), &json!("u"), &welcome["connection"])
    );
    client.say(&json!({"type": "hello", "token": token("v", 60)}));
    assert_eq!(client.next()["code"], 3500, "a connection stays its uid's");
    let mut stranger = Client::connect(&server);
    stranger.say(&json!({"type": "hello", "token": "u"}));
    assert_eq!(stranger.next()["code"], 3500);
}
