//! Why did it not arrive? The trail of each message, as `GET /v1/messages/{id}` tells it.

mod support;

use std::time::Duration;

use doorbell_server::Server;
use serde_json::{Value, json};
use support::{
    Backend, Client, Events, Page, V1, api, connect, eventually, metric, push, request, settings, start,
};

fn trail(server: &Server, id: &Value) -> Vec<Value> {
    let (status, answer) = api(server, "GET", &format!("/v1/messages/{}", id.as_str().expect("an id")), "");
    assert_eq!(status, 200, "{answer}");
    let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&answer["id"], &answer["complete"]), (id, &json!(true)));
    answer["trails"].as_array_mut().expect("a list").drain(..).collect()
}

/// The steps of the only trail: what, which connection, why.
fn steps(server: &Server, id: &Value) -> Vec<(String, Value, Value)> {
    let trails = trail(server, id);
    assert_eq!(trails.len(), 1, "{trails:?}");
    let steps = trails[0]["steps"].as_array().expect("a list");
    let mut last = 0;
    for step in steps {
        let at = step["at_ms"].as_u64().expect("a time");
        assert!(at >= last, "in order: {steps:?}");
        last = at;
    }
    let text = |step: &Value| step["step"].as_str().expect("a word").to_owned();
    steps.iter().map(|step| (text(step), step["connection"].clone(), step["reason"].clone())).collect()
}

fn step(what: &str, connection: &Value, reason: Option<&str>) -> (String, Value, Value) {
    (what.to_owned(), connection.clone(), json!(reason))
}

const NONE: &Value = &Value::Null;

#[test]
fn wait_acked_says_who_acknowledged_and_so_does_the_trail() {
    let server = start(settings());
    let (mut frozen, frozen_welcome) = Client::hello(&server, "frozen", None);
    let answer = push(&server, &json!({"uid": "frozen", "data": 1, "wait": "acked", "timeout_ms": 150}));
    assert_eq!((&answer["written"], &answer["acked"]), (&json!(1), &json!(0)));
    let frozen_name = &frozen_welcome["connection"];
    assert_eq!(
        steps(&server, &answer["id"]),
        [step("accepted", NONE, None), step("written", frozen_name, None)],
        "written and never acknowledged"
    );

    let (mut client, welcome) = Client::hello(&server, "u", None);
    let acknowledging = std::thread::spawn(move || {
        let seq = client.next()["seq"].take();
        client.say(&json!({"type": "ack", "seq": seq}));
        client
    });
    let answer = push(&server, &json!({"uid": "u", "data": 1, "wait": "acked", "timeout_ms": 15_000}));
    assert_eq!((&answer["written"], &answer["acked"]), (&json!(1), &json!(1)));
    let name = &welcome["connection"];
    assert_eq!(
        steps(&server, &answer["id"]),
        [step("accepted", NONE, None), step("written", name, None), step("acked", name, None)]
    );
    assert_eq!(trail(&server, &answer["id"])[0]["seq"], answer["seq"]);
    drop(acknowledging.join().expect("it acknowledges"));
    frozen.next();
}

#[test]
fn what_nobody_was_there_for_is_absent_or_held_and_then_written_or_gone() {
    let mut settings = settings();
    settings.mailbox.messages = 2;
    let server = start(settings);
    let now_or_never = push(&server, &json!({"uid": "u", "data": 1, "ttl": 0}));
    assert_eq!(
        steps(&server, &now_or_never["id"]),
        [step("accepted", NONE, None), step("dropped", NONE, Some("absent"))]
    );
    let pushes: Vec<Value> = (0..3).map(|n| push(&server, &json!({"uid": "u", "data": n}))).collect();
    let (mut client, welcome) = Client::hello(&server, "u", None);
    client.next();
    assert_eq!(
        steps(&server, &pushes[0]["id"]),
        [step("accepted", NONE, None), step("held", NONE, None), step("dropped", NONE, Some("evicted"))]
    );
    assert_eq!(
        steps(&server, &pushes[2]["id"]),
        [
            step("accepted", NONE, None),
            step("held", NONE, None),
            step("written", &welcome["connection"], None)
        ]
    );
    let brief = push(&server, &json!({"uid": "v", "data": 1, "ttl": "1ms"}));
    eventually("it to expire", || steps(&server, &brief["id"]).len() == 3);
    assert_eq!(steps(&server, &brief["id"])[2], step("dropped", NONE, Some("expired")));
}

#[test]
fn every_transport_leaves_its_steps() {
    let server = start(settings());
    let public = server.addresses().public;
    let (mut events, place, welcome) = Events::open(public, "u", "");
    let _plain = Page::bind(public, "u");
    let answer = push(&server, &json!({"uid": "u", "data": 1}));
    let seq = events.next().2["seq"].clone();
    let ack = json!({"seq": seq}).to_string();
    assert_eq!(request(public, "POST", "/v1/ack", "Authorization: Bearer u\r\n", &ack).0, 204);
    let seen = steps(&server, &answer["id"]);
    let of = |what: &str| seen.iter().filter(|step| step.0 == what).count();
    assert_eq!((of("accepted"), of("written"), of("acked")), (1, 2, 1), "{seen:?}");
    assert_eq!(seen[3], step("acked", &welcome["connection"], None));

    let poll = |since: &str| {
        let path = format!("/v1/poll?wait=0&since={since}");
        let (_, body) = request(public, "GET", &path, "Authorization: Bearer u\r\n", "");
        serde_json::from_str::<Value>(&body).expect("JSON")
    };
    poll("another:99");
    assert_eq!(steps(&server, &answer["id"]).len(), 4, "a place in another memory acknowledges nothing");
    let polled = poll(&place);
    assert_eq!(polled["messages"][0]["seq"], seq);
    assert_eq!(steps(&server, &answer["id"]).len(), 5, "written to the poll");
    for _ in 0..2 {
        poll(polled["next"].as_str().expect("a place"));
    }
    let seen = steps(&server, &answer["id"]);
    assert_eq!((seen.len(), &seen[5]), (6, &step("acked", NONE, None)), "asking from there says so, once");
}

#[test]
fn what_a_slow_or_lost_connection_did_not_get_is_said_of_each_message() {
    let mut settings = settings();
    settings.limits.queue_messages = 3;
    let server = start(settings);
    let socket = connect(server.addresses().public);
    socket2::SockRef::from(&socket).set_recv_buffer_size(4_096).expect("a socket");
    let mut page = Page::upgrade_on(socket, "");
    page.text("u");
    page.sync();
    // Too much for the socket's buffers, so most waits in the queue and the last finds it full.
    let data = "x".repeat(900_000);
    let mut pushes = Vec::new();
    loop {
        let answer = push(&server, &json!({"uid": "u", "data": data, "ttl": 0}));
        let written = answer["written"] == 1;
        pushes.push(answer);
        if !written {
            break;
        }
        assert!(pushes.len() < 100, "the queue is never full");
    }
    let fates: Vec<(usize, Value)> = pushes
        .iter()
        .map(|answer| {
            let steps = steps(&server, &answer["id"]);
            (steps.len(), steps.last().expect("a step").2.clone())
        })
        .collect();
    let dropped = fates.iter().filter(|(_, reason)| *reason == "too_slow").count();
    assert_eq!(fates.last().expect("a push"), &(2, json!("too_slow")), "it was never written");
    let counted = metric(&server, r#"doorbell_messages_dropped_total{reason="too_slow"}"#);
    assert_eq!(dropped as u64, counted + 1, "each that was promised and given up says so: {fates:?}");
}

#[test]
fn a_lost_connection_says_what_still_waited_for_it() {
    let server = start(settings());
    let socket = connect(server.addresses().public);
    socket2::SockRef::from(&socket).set_recv_buffer_size(4_096).expect("a socket");
    let mut page = Page::upgrade_on(socket, V1);
    page.text(&json!({"type": "hello", "token": "u"}).to_string());
    let welcome: Value = serde_json::from_str(&page.message()).expect("an envelope");
    let data = "x".repeat(200_000);
    let pushes: Vec<Value> = (0..30)
        .map(|_| push(&server, &json!({"uid": "u", "data": data})))
        .take_while(|it| it["written"] == 1)
        .collect();
    socket2::SockRef::from(&page.0).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(page);
    let dropped = || {
        metric(&server, r#"doorbell_messages_dropped_total{reason="connection_lost"}"#)
            + metric(&server, r#"doorbell_messages_dropped_total{reason="too_slow"}"#)
    };
    eventually("the loss to be noticed", || dropped() > 0);
    let lost = pushes.iter().filter(|answer| {
        let steps = steps(&server, &answer["id"]);
        steps.len() == 3 && steps[2].0 == "dropped" && steps[2].1 == welcome["connection"]
    });
    assert_eq!(lost.count() as u64, dropped());
}

#[test]
fn lines_of_the_text_port_have_a_trail_when_they_have_a_number() {
    let server = start(settings());
    let mut backend = Backend::connect(server.addresses().text);
    let _plain = Page::bind(server.addresses().public, "plain");
    assert_eq!(backend.line(r#"{"uid":"plain"}"#), "ok");
    assert_eq!(metric(&server, "doorbell_trail_bytes"), 0, "nobody could ask for it: it has no name");
    let (mut client, welcome) = Client::hello(&server, "u", None);
    assert_eq!(backend.line(r#"{"uid":"u"}"#), "ok");
    let id = client.next()["id"].clone();
    assert_eq!(
        steps(&server, &id),
        [step("accepted", NONE, None), step("written", &welcome["connection"], None)]
    );
}

#[test]
fn a_push_to_many_has_a_trail_for_each_and_the_unknown_have_none() {
    let mut settings = settings();
    settings.trail.memory = 64 * 1024;
    let server = start(settings);
    let answer = push(&server, &json!({"uids": ["a", "b", "c"], "data": 1, "id": "order/1 é"}));
    let path = "/v1/messages/order%2F1%20%C3%A9";
    let (_, body) = api(&server, "GET", path, "");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&body["id"], body["trails"].as_array().map(Vec::len)), (&answer["id"], Some(3)));
    let (_, body) = api(&server, "GET", &format!("{path}?uid=b"), "");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&body["trails"][0]["uid"], body["trails"].as_array().map(Vec::len)), (&json!("b"), Some(1)));
    for (path, status, kind) in [
        ("/v1/messages/m_0", 404, "unknown_message"),
        ("/v1/messages/m_0?uid=", 400, "uid"),
        ("/v1/messages/m_0?color=red", 400, "query"),
    ] {
        let (code, body) = api(&server, "GET", path, "");
        assert_eq!(code, status, "{body}");
        assert!(body.contains(&format!("urn:doorbell:{kind}")), "{body}");
    }
    for number in 0..2_000 {
        push(&server, &json!({"uid": format!("u{number}"), "data": 1, "ttl": 0}));
    }
    assert!(metric(&server, "doorbell_trail_bytes") <= 64 * 1024);
    assert!(metric(&server, "doorbell_trail_overwritten") > 0);
    assert_eq!(api(&server, "GET", &format!("{path}?uid=b"), "").0, 404, "overwritten");
}
