//! How connections and servers begin, change and end.

mod support;

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use doorbell_protocol::Uid;
use doorbell_server::identity::TokenKeys;
use doorbell_server::settings::{ApiKey, IdentityMode, Settings, Tokens};
use support::{
    Backend, KEY, Page, UPGRADE, api, connect, eventually, metric, read_head, request, settings, start,
};

fn with_tokens() -> (Settings, TokenKeys) {
    let mut settings = settings();
    settings.public.identity = IdentityMode::Token;
    settings.tokens = Tokens { key: Some("0123456789abcdef0123456789abcdef".into()), ..Tokens::default() };
    let keys = TokenKeys::new(&settings.tokens).expect("a good key");
    (settings, keys)
}

fn token(keys: &TokenKeys, uid: &str, ttl: Duration) -> String {
    keys.mint(&Uid::new(uid).expect("a valid uid"), ttl, SystemTime::now()).expect("a private key")
}

#[test]
fn a_token_names_its_uid_and_its_end_ends_the_connection() {
    let (settings, keys) = with_tokens();
    let server = start(settings);
    let public = server.addresses().public;
    let mut page = Page::bind(public, &token(&keys, "u", Duration::from_secs(3_600)));
    let mut brief = Page::bind(public, &token(&keys, "brief", Duration::from_secs(1)));
    let mut backend = Backend::connect(server.addresses().text);
    assert_eq!(backend.line(r#"{"uid":"u"}"#), "ok");
    assert_eq!(page.message(), r#"{"uid":"u"}"#);
    assert_eq!(brief.frame().close_code(), 3002);
    assert_eq!(backend.line(r#"{"uid":"brief"}"#), "fail");
    assert_eq!(backend.line(r#"{"uid":"u"}"#), "ok");
}

#[test]
fn the_api_mints_tokens() {
    let (settings, _) = with_tokens();
    let server = start(settings);
    let (status, body) = api(&server, "POST", "/v1/tokens", r#"{"uid":"u","ttl":"5m"}"#);
    assert_eq!(status, 200, "{body}");
    let minted: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(minted["expires_in"], 300);
    let mut page = Page::bind(server.addresses().public, minted["token"].as_str().expect("a token"));
    assert_eq!(Backend::connect(server.addresses().text).line(r#"{"uid":"u"}"#), "ok");
    assert_eq!(page.message(), r#"{"uid":"u"}"#);
    assert_eq!(api(&server, "POST", "/v1/tokens", r#"{"uid":"u","ttl":0}"#).0, 400);
    let open = start(support::settings());
    assert_eq!(api(&open, "POST", "/v1/tokens", r#"{"uid":"u"}"#).0, 409);
}

#[test]
fn what_is_no_token_is_closed_with_3500() {
    let (settings, keys) = with_tokens();
    let server = start(settings);
    let mut other = TokenKeys::new(&Tokens { key: Some("f".repeat(32).into()), ..Tokens::default() });
    let forged = token(other.as_mut().expect("a good key"), "u", Duration::from_secs(60));
    let expired = keys.mint(
        &Uid::new("u").expect("valid"),
        Duration::from_secs(60),
        SystemTime::now() - Duration::from_secs(120),
    );
    for credential in ["u", "", &forged, &expired.expect("a private key")] {
        let mut page = Page::upgrade(server.addresses().public, "");
        page.text(credential);
        assert_eq!(page.frame().close_code(), 3500, "{credential:?}");
    }
}

#[test]
fn a_server_that_stops_answers_what_it_has_and_tells_pages_when_to_come_back() {
    let mut settings = settings();
    settings.limits.drain_timeout = Duration::from_secs(10);
    let server = start(settings);
    let addresses = server.addresses();
    let mut page = Page::bind(addresses.public, "u");
    let mut backend = Backend::connect(addresses.text);
    assert_eq!(backend.line(r#"{"uid":"u"}"#), "ok");
    let draining = std::thread::spawn(move || server.drain());
    assert_eq!(page.message(), r#"{"uid":"u"}"#);
    let goodbye = page.frame();
    assert_eq!(goodbye.close_code(), 3001);
    let reason = String::from_utf8(goodbye.payload[2..].to_vec()).expect("text");
    assert!(reason.starts_with("draining; come back in "), "{reason}");
    drop(page);
    assert_eq!(backend.answer(), "", "the end");
    drop(backend);
    let report = draining.join().expect("it stops");
    assert_eq!((report.closed, report.cut), (2, 0));
    assert!(std::net::TcpStream::connect(addresses.public).is_err(), "nobody is there");
}

#[test]
fn clients_that_stay_are_cut_at_the_end_of_the_window() {
    let mut settings = settings();
    settings.limits.drain_timeout = Duration::from_millis(300);
    let server = start(settings);
    let _page = Page::bind(server.addresses().public, "u");
    let report = server.drain();
    assert_eq!((report.closed, report.cut), (0, 1));
}

#[test]
fn a_reload_changes_keys_limits_and_origins_and_says_what_it_could_not() {
    let mut server = start(settings());
    let mut changed = settings();
    changed.api.keys = vec![
        ApiKey { name: "old".into(), secret: "expired-key-0123456789".into(), expires: Some(1) },
        ApiKey { name: "new".into(), secret: "another-key-0123456789".into(), expires: None },
    ];
    changed.limits.connections_per_uid = 1;
    changed.public.origins = vec!["https://app.example".into()];
    changed.text.listen = "127.0.0.1:1".parse().expect("an address");
    let page = Page::bind(server.addresses().public, "u");
    let report = server.reload(changed).expect("a good key");
    assert_eq!(report.applied, ["public.origins", "api.keys", "limits"]);
    assert_eq!(report.needs_restart, ["text.listen"]);
    let status = |key: &str| {
        let headers = format!("X-API-Key: {key}\r\n");
        request(server.addresses().api, "GET", "/v1/users/u", &headers, "").0
    };
    assert_eq!(status(KEY), 401);
    assert_eq!(status("expired-key-0123456789"), 401);
    assert_eq!(status("another-key-0123456789"), 200);
    let mut second = Page::upgrade(server.addresses().public, "Origin: https://app.example\r\n");
    second.text("u");
    assert_eq!(second.frame().close_code(), 1008);
    drop(page);
}

#[test]
fn a_reload_cannot_open_a_door_where_the_server_listens_now() {
    let (mut token_mode, _) = with_tokens();
    token_mode.public.listen = "0.0.0.0:0".parse().expect("an address");
    token_mode.text.listen = "0.0.0.0:0".parse().expect("an address");
    token_mode.text.key = Some("secret".into());
    let mut server = start(token_mode.clone());
    // Each of these would be fine after a restart, because it also moves to loopback.
    let open = Settings { public: settings().public, ..token_mode.clone() };
    let keyless = Settings { text: settings().text, ..token_mode };
    for change in [open, keyless] {
        assert!(matches!(server.reload(change), Err(doorbell_server::StartError::Unsafe(_))));
    }
    let mut page = Page::upgrade(server.addresses().public, "");
    page.text("u");
    assert_eq!(page.frame().close_code(), 3500, "tokens are still asked for");
}

#[test]
fn a_page_says_goodbye_and_is_answered_with_1000() {
    let server = start(settings());
    let mut page = Page::bind(server.addresses().public, "u");
    page.send(8, &3_999u16.to_be_bytes());
    let answer = page.frame();
    assert_eq!((answer.close_code(), answer.payload.len()), (1000, 2));
    assert_eq!(page.try_frame(), None);
    assert_eq!(Backend::connect(server.addresses().text).line(r#"{"uid":"u"}"#), "fail");
}

#[test]
fn ordinary_http_is_answered_and_the_connection_ends_so_that_the_next_request_is_read_from_its_start() {
    let server = start(settings());
    let mut socket = connect(server.addresses().public);
    let pipelined = format!("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n{UPGRADE}\r\n");
    socket.write_all(pipelined.as_bytes()).expect("the server reads");
    let answer = support::read_all(&mut socket);
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{answer}");
    assert!(!answer.contains(" 101 "), "{answer}");
    eventually("the connection to be gone", || {
        metric(&server, "doorbell_open_connections{listener=\"public\"}") == 0
    });
}

#[test]
fn frames_right_behind_the_request_are_not_lost() {
    let server = start(settings());
    let mut socket = connect(server.addresses().public);
    let mut bytes = format!("{UPGRADE}\r\n").into_bytes();
    bytes.extend_from_slice(&[0x81, 0x81, 0, 0, 0, 0, b'u']);
    bytes.extend_from_slice(&[0x89, 0x80, 0, 0, 0, 0]);
    // A byte at a time, too.
    for byte in bytes {
        socket.write_all(&[byte]).expect("the server reads");
    }
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 101 "));
    let mut page = Page(socket);
    assert_eq!(page.frame().first, 0x8a);
    assert_eq!(Backend::connect(server.addresses().text).line(r#"{"uid":"u"}"#), "ok");
}

#[test]
fn the_api_pushes_truthfully() {
    let server = start(settings());
    let mut one = Page::bind(server.addresses().public, "u");
    let mut two = Page::bind(server.addresses().public, "u");
    let mut other = Page::bind(server.addresses().public, "1");
    let (status, body) =
        api(&server, "POST", "/v1/push", r#"{"uid":"u","data":{ "z": [1, 2], "a": "x y" }}"#);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"connections\":2,\"written\":2,\"acked\":0,\"held\":0"), "{body}");
    for page in [&mut one, &mut two] {
        assert_eq!(page.message(), r#"{"z":[1,2],"a":"x y"}"#, "compact, in its own order");
    }
    let (_, body) =
        api(&server, "POST", "/v1/push", r#"{"uids":["u",1,"nobody","u"],"data":"a \"string\""}"#);
    assert!(body.contains("\"connections\":3,\"written\":3"), "{body}");
    assert_eq!(other.message(), r#"a "string""#, "a string is itself");
    let (_, body) = api(&server, "POST", "/v1/push", r#"{"uid":"nobody","data":1}"#);
    assert!(body.contains("\"connections\":0,\"written\":0"), "{body}");
    let (_, body) = api(&server, "POST", "/v1/broadcast", r#"{"data":null}"#);
    assert_eq!(body, r#"{"connections":3,"written":3}"#);
}

#[test]
fn the_api_knows_who_is_there_and_kicks() {
    let server = start(settings());
    let mut page = Page::bind(server.addresses().public, "a/b c");
    let (status, body) = api(&server, "GET", "/v1/users/a%2Fb%20c", "");
    assert_eq!(status, 200);
    assert!(body.starts_with(r#"{"uid":"a/b c","online":true,"connections":[{"id":"c_"#), "{body}");
    assert_eq!(
        api(&server, "DELETE", "/v1/users/a%2Fb%20c/connections", ""),
        (200, r#"{"closed":1}"#.into())
    );
    assert_eq!(page.frame().close_code(), 3501);
    let (_, body) = api(&server, "GET", "/v1/users/a%2Fb%20c", "");
    assert_eq!(body, r#"{"uid":"a/b c","online":false,"connections":[]}"#);
}

#[test]
fn the_api_says_what_is_wrong() {
    let server = start(settings());
    let address = server.addresses().api;
    for headers in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic x\r\n", "X-API-Key: \r\n"] {
        let (status, body) = request(address, "POST", "/v1/push", headers, r#"{"uid":"u","data":1}"#);
        assert_eq!(status, 401);
        assert!(body.contains(r#""type":"urn:doorbell:key""#), "{body}");
    }
    for (body, kind) in [
        ("", "json"),
        ("{", "json"),
        ("1", "json"),
        (r#"{"data":1}"#, "uid"),
        (r#"{"uid":"u"}"#, "data"),
        (r#"{"uid":"","data":1}"#, "uid"),
        (r#"{"uid":true,"data":1}"#, "json"),
        (r#"{"uid":"u","uids":["u"],"data":1}"#, "uid"),
        (r#"{"uid":"u","data":1,"daat":2}"#, "json"),
        (r#"{"uids":["u"],"data":1,"wait":"never"}"#, "json"),
        (r#"{"uids":["u","v"],"data":1,"wait":"acked"}"#, "wait"),
        (r#"{"uid":"u","data":1,"ttl":"soon"}"#, "ttl"),
        (r#"{"uid":"u","data":1,"ttl":99999999}"#, "ttl"),
        (r#"{"uid":"u","data":1,"id":""}"#, "id"),
    ] {
        let (status, answer) = api(&server, "POST", "/v1/push", body);
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer.contains(&format!("\"type\":\"urn:doorbell:{kind}\"")), "{body}: {answer}");
    }
    for (method, path, status, kind) in [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/push", 405, "method"),
        ("POST", "/healthz", 405, "method"),
        ("GET", "/v1/users/%FF", 400, "malformed"),
    ] {
        let (answered, answer) = api(&server, method, path, "");
        assert_eq!(answered, status, "{path}: {answer}");
        assert!(answer.starts_with(&format!("{{\"type\":\"urn:doorbell:{kind}\"")), "{path}: {answer}");
    }
    assert_eq!(metric(&server, "doorbell_refused_total{listener=\"api\",reason=\"uid\"}"), 3, "counted");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(request(address, "GET", path, "", "").0, 200, "{path}");
    }
}

#[test]
fn groups_are_managed_by_the_backend() {
    let server = start(settings());
    let mut page = Page::bind(server.addresses().public, "u");
    assert_eq!(api(&server, "PUT", "/v1/groups/g/members/u", ""), (200, r#"{"changed":true}"#.into()));
    let (_, body) = api(&server, "POST", "/v1/groups/g/push", r#"{"data":"hi"}"#);
    assert!(body.contains("\"written\":1"), "{body}");
    assert_eq!(page.message(), "hi");
    assert_eq!(api(&server, "DELETE", "/v1/groups/g/members/u", ""), (200, r#"{"changed":true}"#.into()));
    let (_, body) = api(&server, "POST", "/v1/groups/g/push", r#"{"data":"hi"}"#);
    assert!(body.contains("\"connections\":0"), "{body}");
}
