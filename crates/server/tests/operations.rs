//! What an operator sees: metrics of the process and of calls, and readiness.

mod support;

use support::{Events, api, connect, eventually, metric, request, settings, start};

#[test]
fn the_process_and_the_calls_are_measured() {
    let server = start(settings());
    assert_eq!(api(&server, "POST", "/v1/broadcast", r#"{"data":1}"#).0, 200);
    assert_eq!(api(&server, "GET", "/v1/no/such/call", "").0, 404);
    let (_, text) = request(server.addresses().api, "GET", "/metrics", "", "");
    assert!(
        text.contains(r#"doorbell_api_request_duration_seconds_count{call="POST /v1/broadcast"} 1"#),
        "{text}"
    );
    assert!(!text.contains("/v1/no/such/call"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().expect("a number")
    };
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_resident_memory_bytes") > 1_000_000.0);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
}

#[test]
fn pages_that_come_back_are_counted_by_what_they_missed() {
    let server = start(settings());
    let public = server.addresses().public;
    let (first, place, _) = Events::open(public, "u", "");
    drop(first);
    drop(Events::open(public, "u", &format!("Last-Event-ID: {place}\r\n")));
    drop(Events::open(public, "u", "Last-Event-ID: elsewhere:1\r\n"));
    assert_eq!(metric(&server, r#"doorbell_recoveries_total{recovered="true"}"#), 1);
    assert_eq!(metric(&server, r#"doorbell_recoveries_total{recovered="false"}"#), 1);
}

#[test]
fn a_server_that_turns_connections_away_is_not_ready() {
    let mut settings = settings();
    settings.limits.exempt = Vec::new();
    settings.limits.accept_rate = 1;
    let server = start(settings);
    let (api, public) = (server.addresses().api, server.addresses().public);
    assert_eq!(request(api, "GET", "/readyz", "", "").0, 200);
    let _crowd: Vec<_> = (0..10).map(|_| connect(public)).collect();
    eventually("it says so", || {
        let (status, body) = request(api, "GET", "/readyz", "", "");
        status == 503 && body.contains("urn:doorbell:accept_rate")
    });
    assert_eq!(request(api, "GET", "/healthz", "", "").0, 200, "it lives");
}
