//! Connections by their names: listed in pages, closed, and bound by the backend.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use doorbell_server::Server;
use serde_json::{Value, json};
use support::{Client, Events, Page, api, eventually, metric, push, settings, start};

fn ask(server: &Server, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = api(server, method, path, &body);
    (status, serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}")))
}

/// A page that waits to be bound, and its name.
fn waiting(server: &Server, resume: Option<(&str, u64)>) -> (Client, String) {
    let mut client = Client::connect(server);
    let mut hello = json!({"type": "hello"});
    if let Some((epoch, seq)) = resume {
        hello["resume"] = json!({"epoch": epoch, "seq": seq});
    }
    client.say(&hello);
    let welcome = client.next();
    assert_eq!((&welcome["type"], &welcome["uid"]), (&json!("welcome"), &Value::Null));
    let name = welcome["connection"].as_str().expect("a name").to_owned();
    (client, name)
}

fn bind(server: &Server, name: &str, uid: &str) -> (u16, Value) {
    ask(server, "POST", &format!("/v1/connections/{name}/bind"), &json!({ "uid": uid }))
}

#[test]
fn the_backend_says_who_a_waiting_page_is() {
    let server = start(settings());
    push(&server, &json!({"uid": "u", "data": "before"}));
    let (mut client, name) = waiting(&server, None);
    client.nothing_waits();
    let (status, answer) = bind(&server, &name, "u");
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["id"], &answer["uid"]), (&json!(name), &json!("u")));
    let welcome = client.next();
    assert_eq!(
        (&welcome["type"], &welcome["uid"], &welcome["connection"], &welcome["recovered"]),
        (&json!("welcome"), &json!("u"), &json!(name), &json!(true))
    );
    assert_eq!(client.next()["data"], "before", "what was held comes with the binding");
    assert_eq!(push(&server, &json!({"uid": "u", "data": "after"}))["written"], 1);
    assert_eq!(client.next()["data"], "after");

    let (status, answer) = bind(&server, &name, "v");
    assert_eq!((status, &answer["type"]), (409, &json!("urn:doorbell:bound")));
}

#[test]
fn a_waiting_page_that_was_there_before_resumes_when_it_is_bound() {
    let server = start(settings());
    let (first, welcome) = Client::hello(&server, "u", None);
    let (epoch, seq) =
        (welcome["epoch"].as_str().expect("a name").to_owned(), welcome["seq"].as_u64().expect("a number"));
    drop(first);
    eventually("the page to be gone", || {
        push(&server, &json!({"uid": "u", "data": "?", "ttl": 0}))["written"] == 0
    });
    push(&server, &json!({"uid": "u", "data": "missed"}));
    for (resume, recovered) in [((&*epoch, seq), true), (("another", 7), false)] {
        let (mut client, name) = waiting(&server, Some(resume));
        assert_eq!(bind(&server, &name, "u").0, 200);
        let welcome = client.next();
        assert_eq!(welcome["recovered"], recovered, "{welcome}");
        if recovered {
            assert_eq!(welcome["seq"], seq);
            assert_eq!(client.next()["data"], "missed");
        }
        client.nothing_waits();
    }
}

#[test]
fn what_cannot_be_bound_is_told_apart() {
    let mut settings = settings();
    settings.limits.connections_per_uid = 1;
    let server = start(settings);
    for unknown in ["c_0000000000000000", "c_ff00000000000000", "me", "c_"] {
        let (status, answer) = bind(&server, unknown, "u");
        assert_eq!((status, &answer["type"]), (404, &json!("urn:doorbell:unknown_connection")), "{unknown}");
    }
    let silent = Client::connect(&server);
    let plain = Page::upgrade(server.addresses().public, "");
    eventually("both to be listed", || listed(&server, "").len() == 2);
    for name in listed(&server, "") {
        let (status, answer) = bind(&server, &name, "u");
        assert_eq!((status, &answer["type"]), (409, &json!("urn:doorbell:not_waiting")));
    }
    drop((silent, plain));

    let _full = Page::bind(server.addresses().public, "u");
    let (mut client, name) = waiting(&server, None);
    let (status, answer) = bind(&server, &name, "u");
    assert_eq!((status, &answer["type"]), (409, &json!("urn:doorbell:connections_per_uid")));
    client.nothing_waits();
    assert_eq!(bind(&server, &name, "v").0, 200, "it waits on");
    assert_eq!(bind(&server, &name, "").0, 400);
    drop(client);
    eventually("it to be gone", || bind(&server, &name, "v").0 == 404);
}

#[test]
fn two_backends_that_bind_one_page_do_not_both_win() {
    let server = start(settings());
    for _ in 0..20 {
        let (mut client, name) = waiting(&server, None);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let asking: Vec<_> =
                ["a", "b", "c"].map(|uid| scope.spawn(|| bind(&server, &name, uid).0)).into_iter().collect();
            asking.into_iter().map(|asking| asking.join().expect("an answer")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(client.next()["type"], "welcome");
        client.nothing_waits();
    }
}

#[test]
fn a_page_that_nobody_binds_is_closed() {
    let mut settings = settings();
    settings.limits.unbound_timeout = Duration::from_millis(300);
    let server = start(settings);
    let (mut client, _) = waiting(&server, None);
    assert_eq!(
        client.next(),
        json!({"type": "bye", "code": 3503, "reason": "nobody bound it in time", "reconnect": false})
    );
    assert_eq!(client.0.frame().close_code(), 3503);
    assert_eq!(metric(&server, r#"doorbell_refused_total{listener="public",reason="unbound_timeout"}"#), 1);
    let (mut bound, name) = waiting(&server, None);
    assert_eq!(bind(&server, &name, "u").0, 200);
    bound.next();
    // Longer than the time it had.
    bound.0.0.set_read_timeout(Some(Duration::from_millis(900))).expect("a socket");
    let mut byte = [0];
    let quiet = std::io::Read::read(&mut bound.0.0, &mut byte).expect_err("nothing comes");
    assert_eq!(quiet.kind(), std::io::ErrorKind::WouldBlock);
}

/// The names of all connections, page by page.
fn listed(server: &Server, query: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, answer) = ask(server, "GET", &format!("/v1/connections?{query}{cursor}"), &Value::Null);
        assert_eq!(status, 200, "{answer}");
        let page = answer["connections"].as_array().expect("a list");
        names.extend(page.iter().map(|row| row["id"].as_str().expect("a name").to_owned()));
        let Some(next) = answer["next"].as_str() else { return names };
        cursor = format!("&cursor={next}");
    }
}

#[test]
fn connections_are_listed_in_pages() {
    let server = start(settings());
    assert!(listed(&server, "").is_empty());
    let pages: Vec<Page> =
        (0..23).map(|n| Page::bind(server.addresses().public, &format!("u{}", n % 2))).collect();
    let (_events, ..) = Events::open(server.addresses().public, "u0", "");
    let (_waiting, name) = waiting(&server, None);
    for limit in [1, 7, 25, 1_000] {
        let names = listed(&server, &format!("limit={limit}"));
        assert_eq!(names.len(), 25, "pages of {limit}");
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 25, "each once");
        assert!(names.contains(&name));
    }
    assert_eq!(listed(&server, "uid=u0&limit=5").len(), 13);
    assert_eq!(listed(&server, "uid=u1&limit=5").len(), 11);
    assert_eq!(listed(&server, "uid=nobody").len(), 0);
    assert_eq!(listed(&server, "transport=sse&limit=1").len(), 1);
    assert_eq!(listed(&server, "uid=u0&transport=sse").len(), 1);
    assert_eq!(listed(&server, "transport=poll").len(), 0);
    let (_, answer) = ask(&server, "GET", "/v1/connections?transport=sse", &Value::Null);
    let row = &answer["connections"][0];
    assert_eq!(
        (&row["uid"], &row["transport"], &row["dialect"], &row["address"]),
        (&json!("u0"), &json!("sse"), &json!("doorbell.v1"), &json!("127.0.0.1"))
    );
    for (query, kind) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "query"),
        ("cursor=x", "cursor"),
        ("uid=u&cursor=0-0", "cursor"),
        ("uid=", "uid"),
        ("transport=pigeon", "transport"),
        ("colour=red", "query"),
    ] {
        let (status, answer) = ask(&server, "GET", &format!("/v1/connections?{query}"), &Value::Null);
        assert_eq!((status, &answer["type"]), (400, &json!(format!("urn:doorbell:{kind}"))), "{query}");
    }
    assert!(listed(&server, "cursor=99-99999999999").is_empty(), "past the end");
    drop(pages);
}

#[test]
fn a_connection_is_closed_by_its_name() {
    let server = start(settings());
    let (mut client, welcome) = Client::hello(&server, "u", None);
    let mut other = Page::bind(server.addresses().public, "u");
    let (mut events, _, events_welcome) = Events::open(server.addresses().public, "u", "");
    let (mut unbound, unbound_name) = waiting(&server, None);
    let path = |name: &Value| format!("/v1/connections/{}", name.as_str().expect("a name"));

    let path_of_client = path(&welcome["connection"]);
    assert_eq!(ask(&server, "DELETE", &path_of_client, &Value::Null), (200, json!({"closed": 1})));
    assert_eq!(client.next()["code"], 3501);
    assert_eq!(client.0.frame().close_code(), 3501);
    let (status, answer) = ask(&server, "DELETE", &path_of_client, &Value::Null);
    assert_eq!((status, &answer["type"]), (404, &json!("urn:doorbell:unknown_connection")));

    assert_eq!(ask(&server, "DELETE", &path(&events_welcome["connection"]), &Value::Null).0, 200);
    assert_eq!(events.next().2["code"], 3501);
    assert_eq!(ask(&server, "DELETE", &path(&json!(unbound_name)), &Value::Null).0, 200);
    assert_eq!(unbound.next()["code"], 3501);

    other.sync();
    assert_eq!(push(&server, &json!({"uid": "u", "data": 1}))["written"], 1, "the other one stays");
}
