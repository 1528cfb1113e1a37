//! Tokens that end before their time, and the connections that came with them, on every transport.

mod support;

use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

use doorbell_protocol::Uid;
use doorbell_server::Server;
use doorbell_server::identity::TokenKeys;
use doorbell_server::settings::{IdentityMode, Settings, Tokens};
use serde_json::{Value, json};
use support::{
    Backend, Client, Events, Page, api, connect, metric, push, read_all, request, settings, start,
};

/// A server that wants tokens, and the keys to make them.
fn start_with_tokens(change: impl FnOnce(&mut Settings)) -> (Server, TokenKeys) {
    let mut settings = settings();
    settings.public.identity = IdentityMode::Token;
    settings.tokens = Tokens { key: Some("0123456789abcdef0123456789abcdef".into()), ..Tokens::default() };
    change(&mut settings);
    let keys = TokenKeys::new(&settings.tokens).expect("a good key");
    (start(settings), keys)
}

/// A token issued that many seconds ago, with a `jti` if it is to have one.
fn token(keys: &TokenKeys, uid: &str, ago: u64, id: Option<&str>) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let uid = Uid::new(uid).expect("a uid");
    keys.mint_as(&uid, Duration::from_secs(600), SystemTime::now(), now - ago, id).expect("mints")
}

fn minted(server: &Server, uid: &str) -> (String, String) {
    let (status, answer) = api(server, "POST", "/v1/tokens", &json!({ "uid": uid }).to_string());
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    (answer["token"].as_str().expect("a token").to_owned(), answer["id"].as_str().expect("an id").to_owned())
}

fn revoke(server: &Server, uid: &str, body: &str) -> (u16, Value) {
    let (status, answer) = api(server, "POST", &format!("/v1/users/{uid}/revoke"), body);
    (status, serde_json::from_str(&answer).expect("JSON"))
}

/// The answer to a request of a page's.
fn page_request(server: &Server, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
    let headers = format!("Authorization: Bearer {token}\r\n");
    let (status, body) = request(server.addresses().public, method, path, &headers, body);
    (status, serde_json::from_str(&body).unwrap_or_default())
}

#[test]
fn revoking_a_uid_closes_its_sockets_within_a_second_and_refuses_its_old_tokens() {
    let (server, keys) = start_with_tokens(|_| {});
    let public = server.addresses().public;
    let old = token(&keys, "u", 10, None);
    let (mut client, _) = Client::hello(&server, &old, None);
    let mut plain = Page::bind(public, &old);
    let (mut events, ..) = Events::open(public, &old, "");
    let mut poll = connect(public);
    let ask = format!("GET /v1/poll?wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {old}\r\n\r\n");
    poll.write_all(ask.as_bytes()).expect("the server reads");
    let (_, ticket) = page_request(&server, "POST", "/v1/tickets", &old, "");
    let other = token(&keys, "other", 10, None);
    let (mut bystander, _) = Client::hello(&server, &other, None);
    support::eventually("all four to be there", || {
        push(&server, &json!({"uid": "u", "data": "?", "ttl": 0}))["connections"] == 4
    });
    // The poll was answered by that; a new one waits.
    read_all(&mut poll);
    let mut poll = connect(public);
    poll.write_all(ask.as_bytes()).expect("the server reads");
    support::eventually("the poll to wait", || {
        let (_, answer) = api(&server, "GET", "/v1/connections?uid=u&transport=poll", "");
        answer.contains("\"poll\"")
    });

    let began = Instant::now();
    let (status, answer) = revoke(&server, "u", "");
    assert_eq!((status, &answer["closed"]), (200, &json!(4)), "{answer}");
    loop {
        let said = client.next();
        if said["type"] == "bye" {
            assert_eq!(said, json!({"type": "bye", "code": 3500, "reason": "revoked", "reconnect": false}));
            break;
        }
    }
    assert_eq!(client.0.frame().close_code(), 3500);
    let close = loop {
        let frame = plain.frame();
        if frame.first == 0x88 {
            break frame;
        }
    };
    assert_eq!(close.close_code(), 3500);
    let bye = loop {
        let (name, _, data) = events.next();
        if name == "bye" {
            break data;
        }
    };
    assert_eq!(bye["code"], 3500);
    assert!(read_all(&mut poll).contains(r#""bye":{"type":"bye","code":3500,"reason":"revoked""#));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    let mut refused = Client::connect(&server);
    refused.say(&json!({"type": "hello", "token": old}));
    let bye = refused.next();
    assert_eq!((&bye["code"], &bye["reason"]), (&json!(3500), &json!("revoked")));
    let mut refused = Page::upgrade(public, "");
    refused.text(&old);
    assert_eq!(refused.frame().close_code(), 3500);
    for (method, path) in
        [("GET", "/v1/events"), ("GET", "/v1/poll"), ("POST", "/v1/ack"), ("POST", "/v1/tickets")]
    {
        let (status, problem) = page_request(&server, method, path, &old, r#"{"seq":1}"#);
        assert_eq!((status, &problem["type"]), (401, &json!("urn:doorbell:revoked")), "{path}");
    }
    let by_ticket = format!("/v1/poll?ticket={}", ticket["ticket"].as_str().expect("a ticket"));
    assert_eq!(request(public, "GET", &by_ticket, "", "").0, 401, "a ticket for a revoked token");

    bystander.nothing_waits();
    let (fresh, _) = minted(&server, "u");
    let (mut client, _) = Client::hello(&server, &fresh, None);
    client.nothing_waits();
    assert_eq!(metric(&server, "doorbell_revocations"), 1);
    assert!(metric(&server, r#"doorbell_refused_total{listener="public",reason="revoked"}"#) >= 4);

    let (_, answer) = revoke(&server, "u", "{}");
    assert_eq!(answer["closed"], 1, "also what was minted in the second of the first revocation");
    assert_eq!(client.next()["reason"], "revoked");
}

#[test]
fn a_revocation_leaves_alone_what_was_issued_after_its_moment() {
    let (server, keys) = start_with_tokens(|_| {});
    let (mut old, _) = Client::hello(&server, &token(&keys, "u", 100, None), None);
    let (mut new, _) = Client::hello(&server, &token(&keys, "u", 10, None), None);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let (status, answer) = revoke(&server, "u", &json!({"before": now - 50}).to_string());
    assert_eq!((status, &answer["closed"], &answer["before"]), (200, &json!(1), &json!(now - 50)));
    assert_eq!(old.next()["reason"], "revoked");
    new.nothing_waits();
    // A token that is exchanged in place takes its place here too.
    new.say(&json!({"type": "hello", "token": token(&keys, "u", 60, None)}));
    assert_eq!(new.next()["reason"], "revoked");
    let answer = revoke(&server, "u", &json!({"before": now + 3_600}).to_string());
    assert_eq!((answer.0, &answer.1["type"]), (400, &json!("urn:doorbell:before")));
}

#[test]
fn a_single_token_is_revoked_by_its_id() {
    let (server, _) = start_with_tokens(|_| {});
    let ((lost, lost_id), (kept, _)) = (minted(&server, "u"), minted(&server, "u"));
    let (mut stranger, _) = Client::hello(&server, &lost, None);
    let (mut owner, _) = Client::hello(&server, &kept, None);
    let (status, answer) = revoke(&server, "u", &json!({"token_id": lost_id}).to_string());
    assert_eq!((status, &answer["closed"], &answer["before"]), (200, &json!(1), &Value::Null));
    assert_eq!(stranger.next()["reason"], "revoked");
    owner.nothing_waits();
    assert_eq!(page_request(&server, "GET", "/v1/poll", &lost, "").0, 401);
    let (mut again, _) = Client::hello(&server, &kept, None);
    again.nothing_waits();
    for wrong in [r#"{"token_id":""}"#, r#"{"token_id":"a","before":1}"#] {
        assert_eq!(revoke(&server, "u", wrong).0, 400, "{wrong}");
    }
}

#[test]
fn a_token_that_does_not_say_when_it_was_issued_counts_as_old() {
    let (server, keys) = start_with_tokens(|_| {});
    // {"sub":"u","exp":32503680000}, signed with the key above.
    let silent = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1IiwiZXhwIjozMjUwMzY4MDAwMH0.\
                  N6mWL3yaaW_6XT4coCYKD8U1UwqMNg4ETsthpObPApw";
    assert!(keys.verify(silent.as_bytes(), SystemTime::now()).is_ok(), "the fixture");
    let (mut client, _) = Client::hello(&server, silent, None);
    client.nothing_waits();
    assert_eq!(revoke(&server, "u", r#"{"before":1}"#).1["closed"], 1);
    assert_eq!(client.next()["reason"], "revoked");
    assert_eq!(page_request(&server, "GET", "/v1/poll", silent, "").1["type"], "urn:doorbell:revoked");
}

#[test]
fn a_page_that_the_backend_bound_is_closed_by_a_revocation_and_can_be_bound_after_it() {
    let (server, _) = start_with_tokens(|_| {});
    for _ in 0..2 {
        let mut client = Client::connect(&server);
        client.say(&json!({"type": "hello"}));
        let name = client.next()["connection"].as_str().expect("a name").to_owned();
        let (status, _) = api(&server, "POST", &format!("/v1/connections/{name}/bind"), r#"{"uid":"u"}"#);
        assert_eq!(status, 200);
        assert_eq!(client.next()["uid"], "u");
        client.nothing_waits();
        assert_eq!(revoke(&server, "u", "").1["closed"], 1);
        assert_eq!(client.next()["reason"], "revoked");
    }
}

#[test]
fn a_full_table_of_revocations_refuses_aloud() {
    let (server, keys) = start_with_tokens(|settings| settings.limits.revocations = 1);
    assert_eq!(revoke(&server, "a", "").0, 200);
    let (mut client, _) = Client::hello(&server, &token(&keys, "b", 10, None), None);
    let (status, problem) = revoke(&server, "b", "");
    assert_eq!((status, &problem["type"]), (503, &json!("urn:doorbell:revocations")));
    client.nothing_waits();
    assert_eq!(metric(&server, r#"doorbell_refused_total{listener="api",reason="revocations"}"#), 1);
}

#[test]
fn with_open_identity_there_is_nothing_to_revoke() {
    let server = start(settings());
    let (status, problem) = revoke(&server, "u", "");
    assert_eq!((status, &problem["type"]), (409, &json!("urn:doorbell:open_identity")));
}

/// A server, and its text port, with mailboxes that hold this many messages. A page that has much to catch up with is
/// welcomed long before it can be found: whoever revokes meanwhile looks in vain.
fn start_with_mailboxes(waiting: usize) -> (Server, TokenKeys, Backend) {
    let (server, keys) = start_with_tokens(|settings| {
        settings.mailbox.messages = waiting;
        settings.mailbox.bytes = 16 << 20;
        settings.limits.queue_messages = 2 * waiting;
        settings.limits.queue_bytes = 16 << 20;
        settings.limits.connections_per_uid = 1_000;
        settings.text.hold = Duration::from_secs(300);
    });
    let backend = Backend::connect(server.addresses().text);
    (server, keys, backend)
}

fn fill_mailbox(backend: &mut Backend, uid: &str, waiting: usize) {
    let lines = format!("{{\"uid\":\"{uid}\"}}\n").repeat(waiting);
    backend.0.write_all(lines.as_bytes()).expect("the server reads");
    assert!((0..waiting).all(|_| backend.answer() == "held"));
}

#[test]
fn hellos_and_revocations_at_once_leave_no_revoked_connection() {
    const WAITING: usize = 1_000;
    let (server, keys, mut backend) = start_with_mailboxes(WAITING);
    for round in 0..20 {
        let uid = format!("u{round}");
        fill_mailbox(&mut backend, &uid, WAITING);
        let old = token(&keys, &uid, 10, None);
        let (welcomed, first_welcome) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (welcomed, server, old) = (welcomed.clone(), &server, &old);
                scope.spawn(move || {
                    for _ in 0..5 {
                        let mut page = Page::upgrade(server.addresses().public, support::V1);
                        page.text(&json!({"type": "hello", "token": old}).to_string());
                        // Welcomed or refused: either way it has been looked at.
                        page.frame();
                        let _ = welcomed.send(());
                        std::mem::forget(page);
                    }
                });
            }
            first_welcome.recv().expect("somebody says hello");
            assert_eq!(revoke(&server, &uid, "").0, 200);
        });
        support::eventually("every connection to be closed", || {
            let (_, answer) = api(&server, "GET", &format!("/v1/users/{uid}"), "");
            answer.contains(r#""online":false"#)
        });
    }
}

#[test]
fn a_revocation_during_a_hello_closes_what_it_could_not_find() {
    const WAITING: usize = 5_000;
    let (server, keys, mut backend) = start_with_mailboxes(WAITING);
    // A machine that is busy may let the hello win: then it was found, and another uid shows it.
    let in_between = (0..20).any(|round| {
        let uid = format!("u{round}");
        fill_mailbox(&mut backend, &uid, WAITING);
        let (mut client, _) = Client::hello(&server, &token(&keys, &uid, 10, None), None);
        let (status, answer) = revoke(&server, &uid, "");
        assert_eq!(status, 200, "{answer}");
        let bye = (0..=WAITING).map(|_| client.next()).find(|message| message["type"] == "bye");
        assert_eq!(bye.expect("a bye")["reason"], "revoked");
        assert_eq!(client.0.frame().close_code(), 3500);
        answer["closed"] == 0
    });
    assert!(in_between, "no revocation came between a welcome and what it is the beginning of");
}

#[test]
fn a_connection_is_closed_when_its_token_has_been_expired_for_the_grace() {
    let (server, keys) = start_with_tokens(|settings| {
        settings.limits.token_grace = Duration::from_secs(2);
        settings.limits.first_message_timeout = Duration::from_secs(1);
    });
    let uid = Uid::new("u").expect("a uid");
    let token = keys.mint(&uid, Duration::from_secs(1), SystemTime::now()).expect("mints");
    let mut events = Events::open(server.addresses().public, &token, "").0;
    let (mut client, _) = Client::hello(&server, &token, None);
    let began = Instant::now();
    let bye = client.next();
    assert_eq!((&bye["code"], &bye["reconnect"]), (&json!(3002), &json!(true)));
    assert!(began.elapsed() >= Duration::from_secs(2), "only after the grace: {:?}", began.elapsed());
    assert_eq!(client.0.frame().close_code(), 3002);
    assert_eq!(events.next().2["code"], 3002);
}
