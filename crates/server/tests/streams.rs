//! doorbell.v1 without WebSockets: server-sent events and long-polls over raw sockets.

mod support;

use std::io::Write as _;
use std::time::Duration;

use doorbell_server::Server;
use doorbell_server::settings::IdentityMode;
use serde_json::{Value, json};
use support::{
    Backend, Events, api, connect, eventually, metric, read_all, read_head, request, settings, start,
};

fn push(server: &Server, body: &Value) -> Value {
    let (status, answer) = api(server, "POST", "/v1/push", &body.to_string());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

fn poll(server: &Server, uid: &str, query: &str) -> Value {
    let authorization = format!("Authorization: Bearer {uid}\r\n");
    let path = format!("/v1/poll?{query}");
    let (status, answer) = request(server.addresses().public, "GET", &path, &authorization, "");
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

#[test]
fn events_arrive_and_a_stream_resumes_where_it_left_off() {
    let server = start(settings());
    let (mut events, start, welcome) = Events::open(server.addresses().public, "u", "");
    assert_eq!((&welcome["uid"], &welcome["recovered"]), (&json!("u"), &json!(true)));
    assert_eq!(start, format!("{}:{}", welcome["epoch"].as_str().expect("a name"), welcome["seq"]));
    let answer = push(&server, &json!({"uid": "u", "data": {"n": 1}}));
    assert_eq!(answer["written"], 1);
    let (name, id, message) = events.next();
    assert_eq!(
        (name.as_str(), &message["data"], &message["id"]),
        ("message", &json!({"n": 1}), &answer["id"])
    );
    let id = id.expect("a place");
    assert!(id.ends_with(&format!(":{}", message["seq"])), "{id}");
    drop(events);
    eventually("the page to be gone", || {
        push(&server, &json!({"uid": "u", "data": "?", "ttl": 0}))["written"] == 0
    });
    push(&server, &json!({"uid": "u", "data": 2}));
    push(&server, &json!({"uid": "u", "data": 3}));
    let (mut events, _, welcome) =
        Events::open(server.addresses().public, "u", &format!("Last-Event-ID: {id}\r\n"));
    assert_eq!(welcome["recovered"], true);
    assert_eq!((events.next().2["data"].take(), events.next().2["data"].take()), (json!(2), json!(3)));
    let (_, _, welcome) = Events::open(server.addresses().public, "u", "Last-Event-ID: nonsense\r\n");
    assert_eq!(welcome["recovered"], false);

    let (_, body) = api(&server, "GET", "/v1/users/u", "");
    assert!(body.contains(r#""transport":"sse","dialect":"doorbell.v1""#), "{body}");
    let line = "{\"uid\":\"u\",\r\"n\":4}";
    assert_eq!(Backend::connect(server.addresses().text).line(line), "ok");
    assert_eq!(events.next().2["data"], json!({"uid": "u", "n": 4}), "a bare CR breaks no event");
}

#[test]
fn streams_acknowledge_by_post_and_polls_by_asking_on() {
    let server = start(settings());
    let (mut events, _, _) = Events::open(server.addresses().public, "u", "");
    let public = server.addresses().public;
    let acknowledging = std::thread::spawn(move || {
        let seq = events.next().2["seq"].take();
        let body = json!({"seq": seq}).to_string();
        let (status, answer) = request(public, "POST", "/v1/ack", "Authorization: Bearer u\r\n", &body);
        assert_eq!(status, 204, "{answer}");
        events
    });
    let wait = |uid: &str| json!({"uid": uid, "data": 1, "wait": "acked", "timeout_ms": 15_000});
    assert_eq!(push(&server, &wait("u"))["acked"], 1);
    drop(acknowledging.join().expect("it acknowledges"));

    std::thread::scope(|scope| {
        scope.spawn(|| {
            let first = poll(&server, "v", "wait=20");
            assert_eq!(first["messages"][0]["data"], 1, "{first}");
            let next = first["next"].as_str().expect("a place").to_owned();
            let second = poll(&server, "v", &format!("since={next}&wait=0"));
            assert_eq!((&second["messages"], &second["recovered"]), (&json!([]), &json!(true)));
        });
        let answer = push(&server, &wait("v"));
        assert_eq!(answer["acked"], 1, "{answer}");
    });
}

#[test]
fn a_poll_gets_what_waits_at_once_and_what_comes_when_it_comes() {
    let server = start(settings());
    push(&server, &json!({"uid": "u", "data": 1}));
    push(&server, &json!({"uid": "u", "data": 2}));
    let first = poll(&server, "u", "wait=20");
    let data = |answer: &Value| -> Vec<Value> {
        let messages = answer["messages"].as_array().expect("an array");
        messages.iter().map(|message| message["data"].clone()).collect()
    };
    assert_eq!(data(&first), [1, 2]);
    let next = first["next"].as_str().expect("a place");
    let empty = poll(&server, "u", &format!("since={next}&wait=0"));
    assert_eq!((data(&empty), &empty["next"]), (vec![], &first["next"]), "it is still there");
    // The answer was lost on the way: asking again from the old place brings the same again.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| poll(&server, "u", &format!("since={next}&wait=20")));
        eventually("the poll to wait", || {
            api(&server, "GET", "/v1/users/u", "").1.contains("\"transport\":\"poll\"")
        });
        assert_eq!(push(&server, &json!({"uid": "u", "data": 3}))["written"], 1);
        let answer = waiting.join().expect("it polls");
        assert_eq!((data(&answer), &answer["recovered"]), (vec![json!(3)], &json!(true)));
    });
    assert_eq!(data(&poll(&server, "u", &format!("since={next}&wait=0"))), [3]);
    let encoded = next.replace(':', "%3A");
    assert_eq!(poll(&server, "u", &format!("since={encoded}&wait=0"))["recovered"], true);
    assert_eq!(poll(&server, "u", "since=another:5&wait=0")["recovered"], false);
}

#[test]
fn each_poll_is_open_to_the_origin_that_asked() {
    let mut settings = settings();
    let (one, two) = (Some("https://one.example"), Some("https://two.example"));
    settings.public.origins = [one, two].into_iter().flatten().map(str::to_owned).collect();
    let server = start(settings);
    let asked = [one, one, two, None, one].map(|origin| {
        let mut socket = connect(server.addresses().public);
        let line = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
        let ask =
            format!("GET /v1/poll?wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer u\r\n{line}\r\n");
        socket.write_all(ask.as_bytes()).expect("the server reads");
        (socket, origin)
    });
    eventually("all to wait", || {
        let (_, answer) = api(&server, "GET", "/v1/users/u", "");
        answer.matches("\"transport\":\"poll\"").count() == asked.len()
    });
    assert_eq!(push(&server, &json!({"uid": "u", "data": "hello"}))["written"], asked.len());
    for (mut socket, origin) in asked {
        let answer = read_all(&mut socket);
        let open_to =
            answer.lines().find_map(|line| line.strip_prefix("Access-Control-Allow-Origin: ")).map(str::trim);
        assert_eq!(open_to, origin, "{answer}");
        assert!(answer.contains("\"data\":\"hello\""), "{answer}");
    }
}

#[test]
fn what_comes_between_two_polls_of_a_page_is_held_for_it() {
    let mut settings = settings();
    settings.limits.poll_linger = Duration::from_secs(60);
    let server = start(settings);
    let place = poll(&server, "u", "wait=0")["next"].as_str().expect("a place").to_owned();
    let (_, user) = api(&server, "GET", "/v1/users/u", "");
    assert_eq!(user, r#"{"uid":"u","online":true,"connections":[]}"#, "it is about to ask again");
    let mut backend = Backend::connect(server.addresses().text);
    assert_eq!(backend.line(r#"{"uid":"u","n":1}"#), "held");
    let answer = push(&server, &json!({"uid": "u", "data": 2, "ttl": 0}));
    assert_eq!((&answer["written"], &answer["held"]), (&json!(0), &json!(1)), "{answer}");
    assert_eq!(backend.line(r#"{"uid":"another","n":1}"#), "fail", "who never asked is not there");
    // The first answer is lost on the way.
    for _ in 0..2 {
        let answer = poll(&server, "u", &format!("since={place}&wait=20"));
        let messages = answer["messages"].as_array().expect("an array");
        let data: Vec<_> = messages.iter().map(|message| &message["data"]).collect();
        assert_eq!(data, [&json!({"uid": "u", "n": 1}), &json!(2)]);
        assert_eq!(answer["recovered"], true);
    }
    assert_eq!(metric(&server, "doorbell_poll_lingered"), 2);
    assert_eq!(metric(&server, "doorbell_mailbox_lost"), 0);
}

#[test]
fn a_page_that_does_not_poll_again_is_away_once_it_has_lingered() {
    let mut settings = settings();
    settings.limits.poll_linger = Duration::from_secs(1);
    let server = start(settings);
    let place = poll(&server, "u", "wait=0")["next"].as_str().expect("a place").to_owned();
    let mut backend = Backend::connect(server.addresses().text);
    eventually("it to count as away", || backend.line(r#"{"uid":"u"}"#) == "fail");
    assert_eq!(api(&server, "GET", "/v1/users/u", "").1, r#"{"uid":"u","online":false,"connections":[]}"#);
    let held = metric(&server, "doorbell_poll_lingered");
    let answer = poll(&server, "u", &format!("since={place}&wait=0"));
    assert_eq!((&answer["messages"], &answer["recovered"]), (&json!([]), &json!(held == 0)), "{held} held");
    assert_eq!(metric(&server, "doorbell_mailbox_lost"), held);
}

#[test]
fn a_page_whose_poll_was_dismissed_does_not_linger() {
    let mut settings = settings();
    settings.limits.poll_linger = Duration::from_secs(60);
    let server = start(settings);
    let mut backend = Backend::connect(server.addresses().text);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| poll(&server, "u", "wait=20"));
        eventually("the poll to wait", || {
            api(&server, "GET", "/v1/users/u", "").1.contains("\"transport\":\"poll\"")
        });
        api(&server, "DELETE", "/v1/users/u/connections", "");
        assert_eq!(waiting.join().expect("it polls")["bye"]["code"], 3501);
    });
    assert_eq!(backend.line(r#"{"uid":"u"}"#), "fail");
    assert!(api(&server, "GET", "/v1/users/u", "").1.contains(r#""online":false"#));
}

#[test]
fn credentials_and_origins_are_checked() {
    let server = start(settings());
    let public = server.addresses().public;
    for path in ["/v1/events", "/v1/poll", "/v1/poll?ticket=t_0"] {
        let (status, body) = request(public, "GET", path, "", "");
        assert_eq!(status, 401, "{body}");
        assert!(body.contains("urn:doorbell:credential"), "{body}");
        let foreign = "Authorization: Bearer u\r\nOrigin: https://evil.example\r\n";
        assert_eq!(request(public, "GET", path, foreign, "").0, 403);
    }
    assert_eq!(request(public, "GET", "/v1/poll?wait=x", "Authorization: Bearer u\r\n", "").0, 400);
    assert_eq!(request(public, "POST", "/v1/ack", "", "{\"seq\":1}").0, 401);
    let foreign = "Authorization: Bearer u\r\nOrigin: https://evil.example\r\n";
    assert_eq!(request(public, "POST", "/v1/ack", foreign, "{\"seq\":1}").0, 403);
    assert_eq!(request(public, "OPTIONS", "/v1/events", "Origin: http://localhost:3000\r\n", "").0, 204);

    let mut settings = settings();
    settings.public.identity = IdentityMode::Token;
    settings.tokens.key = Some("0123456789abcdef0123456789abcdef".into());
    let server = start(settings);
    let (status, body) =
        request(server.addresses().public, "GET", "/v1/events", "Authorization: Bearer u\r\n", "");
    assert_eq!(status, 401, "{body}");
}

#[test]
fn a_ticket_stands_in_for_a_header_once() {
    let server = start(settings());
    let public = server.addresses().public;
    let (status, body) = request(public, "POST", "/v1/tickets", "Authorization: Bearer u\r\n", "");
    assert_eq!(status, 200, "{body}");
    let ticket: Value = serde_json::from_str(&body).expect("JSON");
    let path = format!("/v1/poll?wait=0&ticket={}", ticket["ticket"].as_str().expect("a ticket"));
    assert_eq!(request(public, "GET", &path, "", "").0, 200);
    assert_eq!(request(public, "GET", &path, "", "").0, 401);
}

#[test]
fn streams_are_kept_alive_and_ended_with_a_reason() {
    let mut settings = settings();
    settings.limits.ping_interval = Duration::from_millis(200);
    let server = start(settings);
    let (mut events, _, _) = Events::open(server.addresses().public, "u", "");
    assert_eq!((events.line(), events.line()), (":".into(), String::new()), "a comment");
    api(&server, "DELETE", "/v1/users/u/connections", "");
    let (name, _, bye) = events.next();
    assert_eq!((name.as_str(), &bye["code"], &bye["reconnect"]), ("bye", &json!(3501), &json!(false)));
    assert_eq!(events.line(), "", "the end");

    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| poll(&server, "v", "wait=20"));
        eventually("the poll to wait", || {
            api(&server, "GET", "/v1/users/v", "").1.contains("\"transport\":\"poll\"")
        });
        api(&server, "DELETE", "/v1/users/v/connections", "");
        assert_eq!(waiting.join().expect("it polls")["bye"]["code"], 3501);
    });
}

#[test]
fn an_http_1_0_proxy_can_pass_a_stream_on() {
    let server = start(settings());
    let mut socket = connect(server.addresses().public);
    socket
        .write_all(b"GET /v1/events HTTP/1.0\r\nAuthorization: Bearer u\r\n\r\n")
        .expect("the server reads");
    let head = read_head(&mut socket).to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding") && head.contains("connection: close"), "{head}");
    assert!(head.contains("x-accel-buffering: no") && head.contains("cache-control: no-store"), "{head}");
    assert_eq!(Events(socket).next().0, "welcome");
}
