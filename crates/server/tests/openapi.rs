//! `/openapi.json` and `/docs` as a client meets them. That the description is the router's is tested beside the router.

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;

use serde_json::Value;
use support::{connect, read_all, request, settings, start};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
const PROTOCOL: &str = include_str!("../../../docs/PROTOCOL.md");

fn document(server: &doorbell_server::Server) -> (String, Value) {
    let (status, text) = request(server.addresses().api, "GET", "/openapi.json", "", "");
    assert_eq!(status, 200);
    let document = serde_json::from_str(&text).expect("JSON");
    (text, document)
}

/// Every method and path, and whether it needs a key.
fn calls(document: &Value) -> Vec<(String, String, bool)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    paths
        .flat_map(|(path, item)| {
            item.as_object().expect("methods").iter().map(|(method, operation)| {
                (method.to_uppercase(), path.clone(), operation.get("security").is_some())
            })
        })
        .collect()
}

#[test]
fn the_description_is_the_one_in_the_documents() {
    let (text, document) = document(&start(settings()));
    if std::env::var_os("WRITE_SNAPSHOTS").is_some() {
        std::fs::write(SNAPSHOT, format!("{text}\n")).expect("writes");
    }
    let snapshot = std::fs::read_to_string(SNAPSHOT).expect("docs/openapi.json");
    assert!(
        snapshot.trim_end() == text,
        "the API has changed: look at it, then run this test with WRITE_SNAPSHOTS=1 to write docs/openapi.json"
    );
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn a_call_needs_a_key_where_the_description_says_so_and_takes_no_other_method() {
    let server = start(settings());
    let api = server.addresses().api;
    let calls = calls(&document(&server).1);
    for (method, path, guarded) in &calls {
        let path = path.replace(['{', '}'], "");
        let (status, _) = request(api, method, &path, "", "");
        assert_eq!(status == 401, *guarded, "{method} {path}: {status}");
    }
    let key = format!("Authorization: Bearer {}\r\n", support::KEY);
    let paths: BTreeSet<&String> = calls.iter().map(|(_, path, _)| path).collect();
    for path in paths {
        let described = |method: &str| calls.iter().any(|(one, other, _)| one == method && other == path);
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"] {
            let (status, _) = request(api, method, &path.replace(['{', '}'], ""), &key, "");
            assert_eq!(status == 405, !described(method), "{method} {path}: {status}");
        }
    }
}

#[test]
fn the_protocol_document_has_a_section_for_each_call() {
    let (_, api) = PROTOCOL.split_once("\n## HTTP API\n").expect("the API's section");
    let api = api.split("\n## ").next().expect("its text");
    let mut documented = BTreeSet::new();
    for heading in api.lines().filter(|line| line.starts_with("### `")) {
        let names: Vec<&str> = heading.split('`').skip(1).step_by(2).collect();
        let path = names.iter().find_map(|name| Some(&name[name.find('/')?..])).expect("a path");
        for name in names {
            let (method, path) = name.split_once(' ').unwrap_or((name, path));
            documented.insert((method.to_owned(), path.to_owned()));
        }
    }
    let described = calls(&document(&start(settings())).1).into_iter();
    let described: BTreeSet<_> = described
        .filter(|(_, path, _)| path.starts_with("/v1/"))
        .map(|(method, path, _)| (method, path))
        .collect();
    assert_eq!(documented, described);
}

#[test]
fn the_page_runs_its_own_script_and_nothing_else() {
    let server = start(settings());
    let mut socket = connect(server.addresses().api);
    socket
        .write_all(b"GET /docs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("the server reads");
    let answer = read_all(&mut socket);
    let (head, page) = answer.split_once("\r\n\r\n").expect("a head");
    let policy =
        head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    for elsewhere in ["http://", "https://", "src=", "<link", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn a_list_of_values_is_no_object() {
    let server = start(settings());
    for (path, body) in [
        ("/v1/groups/g/push", r#"["data",null]"#),
        ("/v1/users/u/revoke", "[null,null]"),
        ("/v1/tokens", r#"["u",null]"#),
        ("/v1/broadcast", r#"["data"]"#),
        ("/v1/tokens", "null"),
    ] {
        let (status, answer) = support::api(&server, "POST", path, body);
        assert_eq!(status, 400, "{path}: {answer}");
    }
    let (status, answer) = support::api(&server, "POST", "/v1/push", r#"[["u",null,1,null,null,null,null]]"#);
    assert_eq!(status, 200);
    assert!(answer.contains("urn:doorbell:json"), "{answer}");
}
