//! Every limit, met from outside: what the client hears, and what `/metrics` counts.

mod support;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use doorbell_server::settings::{Limits, Settings};
use doorbell_server::{Server, StartError};
use support::{
    Backend, Page, UPGRADE, connect, eventually, metric, read_all, read_head, request, settings, start,
};

fn limited(change: impl FnOnce(&mut Limits)) -> Server {
    let mut settings = settings();
    change(&mut settings.limits);
    start(settings)
}

fn refused(server: &Server, listener: &str, reason: &str) -> u64 {
    metric(server, &format!("doorbell_refused_total{{listener=\"{listener}\",reason=\"{reason}\"}}"))
}

/// The status of a raw request on the public listener.
fn status(server: &Server, request: &str) -> String {
    let mut socket = connect(server.addresses().public);
    socket.write_all(request.as_bytes()).expect("the server reads");
    read_head(&mut socket).get(9..12).expect("a status line").to_owned()
}

#[test]
fn a_head_over_its_bound_is_431() {
    let server = limited(|limits| limits.head_bytes = 1_000);
    let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1_000));
    assert_eq!(status(&server, &head), "431");
    assert_eq!(status(&server, &format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1_000))), "431", "unfinished");
    assert_eq!(refused(&server, "public", "head_too_large"), 2);
}

#[test]
fn a_head_that_does_not_come_is_408_and_a_first_message_that_does_not_come_is_3502() {
    let server = limited(|limits| {
        limits.head_timeout = Duration::from_millis(200);
        limits.first_message_timeout = Duration::from_millis(200);
    });
    assert_eq!(status(&server, ""), "408");
    assert_eq!(status(&server, "GET / HT"), "408");
    let mut page = Page::upgrade(server.addresses().public, "");
    assert_eq!(page.frame().close_code(), 3502);
    assert_eq!(refused(&server, "public", "head_timeout"), 2);
    assert_eq!(refused(&server, "public", "first_message_timeout"), 1);
}

#[test]
fn noise_and_tls_are_told_so_at_once() {
    let server = start(settings());
    for noise in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\x00\x01\x02", b"{\"uid\":1}\n"] {
        let mut socket = connect(server.addresses().public);
        socket.write_all(noise).expect("the server reads");
        assert!(read_head(&mut socket).starts_with("HTTP/1.1 400 "), "{noise:?}");
    }
    assert_eq!(refused(&server, "public", "malformed_head"), 3);
}

#[test]
fn a_message_over_its_bound_is_1009() {
    let server = limited(|limits| limits.message_bytes = 100);
    let mut page = Page::upgrade(server.addresses().public, "");
    page.text(&"x".repeat(101));
    assert_eq!(page.frame().close_code(), 1009);
}

#[test]
fn one_address_has_so_many_connections_and_gets_its_places_back() {
    let server = limited(|limits| {
        limits.exempt.clear();
        limits.connections_per_ip = 2;
    });
    let public = server.addresses().public;
    let one = Page::bind(public, "a");
    let _two = Page::bind(public, "b");
    assert!(read_head(&mut connect(public)).starts_with("HTTP/1.1 429 "));
    assert!(refused(&server, "public", "connections_per_ip") >= 1);
    drop(one);
    eventually("a place to become free", || {
        let mut socket = connect(public);
        socket.write_all(format!("{UPGRADE}\r\n").as_bytes()).is_ok()
            && read_head(&mut socket).starts_with("HTTP/1.1 101 ")
    });
}

#[test]
fn clients_behind_a_trusted_proxy_are_counted_one_by_one() {
    let mut settings = settings();
    settings.limits.exempt.clear();
    settings.limits.connections_per_ip = 1;
    settings.public.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    let server = start(settings);
    let public = server.addresses().public;
    let forwarded = |client: &str| format!("X-Forwarded-For: 203.0.113.7, {client}\r\n");
    let mut pages: Vec<_> =
        (1..=5).map(|client| Page::upgrade(public, &forwarded(&format!("198.51.100.{client}")))).collect();
    let mut socket = connect(public);
    let again = format!("{UPGRADE}{}\r\n", forwarded("198.51.100.3"));
    socket.write_all(again.as_bytes()).expect("the server reads");
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 429 "), "the third client a second time");

    for (client, header) in
        [(6, b"PROXY TCP4 198.51.100.6 192.0.2.1 56324 443\r\n".to_vec()), (7, proxy_v2([198, 51, 100, 7]))]
    {
        let mut socket = connect(public);
        socket.write_all(&header).expect("the server reads");
        let mut page = Page::upgrade_on(socket, "");
        page.text(&format!("client{client}"));
        page.sync();
        let (_, body) = support::api(&server, "GET", &format!("/v1/users/client{client}"), "");
        assert!(body.contains(&format!("\"address\":\"198.51.100.{client}\"")), "{body}");
        pages.push(page);
    }
}

fn proxy_v2(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb]);
    header
}

#[test]
fn a_forwarded_address_from_a_stranger_is_not_believed() {
    let server = start(settings());
    let mut page = Page::upgrade(server.addresses().public, "X-Forwarded-For: 198.51.100.1\r\n");
    page.text("u");
    page.sync();
    let (_, body) = support::api(&server, "GET", "/v1/users/u", "");
    assert!(body.contains("\"address\":\"127.0.0.1\""), "{body}");
    assert_eq!(status(&server, "PROXY TCP4 198.51.100.6 192.0.2.1 56324 443\r\n\r\n"), "400");
}

#[test]
fn one_uid_has_so_many_connections() {
    let server = limited(|limits| limits.connections_per_uid = 2);
    let public = server.addresses().public;
    let _first = Page::bind(public, "u");
    let _second = Page::bind(public, "u");
    let mut third = Page::upgrade(public, "");
    third.text("u");
    assert_eq!(third.frame().close_code(), 1008);
    assert_eq!(Backend::connect(server.addresses().text).line(r#"{"uid":"u"}"#), "ok");
}

#[test]
fn connections_that_come_too_fast_are_503_and_exempt_addresses_are_not() {
    let server = limited(|limits| {
        limits.exempt.clear();
        limits.accept_rate = 1;
    });
    let public = server.addresses().public;
    let heads: Vec<_> = (0..5)
        .map(|_| {
            let mut socket = connect(public);
            let _ = socket.write_all(format!("{UPGRADE}\r\n").as_bytes());
            read_head(&mut socket)
        })
        .collect();
    assert!(heads.iter().any(|head| head.starts_with("HTTP/1.1 503 ")), "{heads:?}");
    assert!(heads[0].starts_with("HTTP/1.1 101 "), "the bucket starts full");
    assert!(refused(&server, "public", "accept_rate") >= 1);

    let server = limited(|limits| limits.accept_rate = 1);
    for _ in 0..20 {
        Page::upgrade(server.addresses().public, "");
    }
}

#[test]
fn a_page_that_does_not_read_is_closed_with_3008_and_every_ok_is_accounted_for() {
    let server = start(settings());
    let mut page = Page::bind(server.addresses().public, "slow");
    let mut quick = Page::bind(server.addresses().public, "quick");
    let mut backend = Backend::connect(server.addresses().text);
    let padding = "x".repeat(64 * 1024 - 32);
    let answers: Vec<String> = (0..1_000)
        .map(|number| backend.line(&format!(r#"{{"uid":"slow","n":{number},"p":"{padding}"}}"#)))
        .collect();
    let ok = answers.iter().take_while(|answer| *answer == "ok").count();
    assert!(ok < 1_000, "the bound is reached");
    assert!(answers[ok..].iter().all(|answer| answer == "fail"), "and from then on nothing is promised");
    assert_eq!(backend.line(r#"{"uid":"quick"}"#), "ok", "nobody else is disturbed");
    assert_eq!(quick.message(), r#"{"uid":"quick"}"#);

    let mut delivered = 0;
    loop {
        let frame = page.frame();
        if frame.first == 0x88 {
            assert_eq!(frame.close_code(), 3008);
            break;
        }
        assert!(String::from_utf8(frame.payload).expect("text").contains(&format!("\"n\":{delivered},")));
        delivered += 1;
    }
    assert_eq!(page.try_frame(), None, "then the connection ends");
    let dropped = metric(&server, "doorbell_messages_dropped_total{reason=\"too_slow\"}");
    assert_eq!(u64::try_from(ok - delivered).expect("no more than promised"), dropped);
}

#[test]
fn broadcasts_to_pages_that_do_not_read_stop_neither_pushes_nor_new_connections() {
    let server = limited(|limits| limits.queue_bytes = 256 * 1024);
    let public = server.addresses().public;
    let mut quick = Page::bind(public, "quick");
    let slow: Vec<_> = (0..50).map(|number| Page::bind(public, &format!("slow{number}"))).collect();
    let mut backend = Backend::connect(server.addresses().text);
    let over = AtomicBool::new(false);
    let (mut pushed, mut broadcasts) = (0, 0);
    std::thread::scope(|scope| {
        let broadcaster = scope.spawn(|| {
            let all = format!(r#"{{"data":"{}"}}"#, "x".repeat(64 * 1024));
            let mut count = 0;
            while !over.load(Ordering::SeqCst) {
                assert_eq!(support::api(&server, "POST", "/v1/broadcast", &all).0, 200);
                count += 1;
            }
            count
        });
        // Whatever happens here, the broadcaster ends.
        let happened = std::panic::catch_unwind(AssertUnwindSafe(|| {
            eventually("a hundred pushes, while pages are too slow", || {
                assert_eq!(backend.line(&format!(r#"{{"uid":"quick","n":{pushed}}}"#)), "ok");
                let mut other = Page::bind(public, "new");
                assert_eq!(backend.line(r#"{"uid":"new"}"#), "ok");
                next_line(&mut other, r#"{"uid":"new"}"#);
                next_line(&mut quick, &format!(r#"{{"uid":"quick","n":{pushed}}}"#));
                pushed += 1;
                pushed >= 100 && refused(&server, "public", "too_slow") >= 50
            });
        }));
        over.store(true, Ordering::SeqCst);
        broadcasts = broadcaster.join().expect("every broadcast is answered");
        happened.expect("pushes and new connections go on");
    });
    assert!(broadcasts > 4, "more than a queue holds: {broadcasts}");
    drop(slow);
}

/// Reads past broadcasts up to this line.
fn next_line(page: &mut Page, line: &str) {
    while page.message() != line {}
}

#[test]
fn a_silent_peer_is_pinged_and_one_that_does_not_answer_is_let_go() {
    let server = limited(|limits| {
        limits.ping_interval = Duration::from_millis(300);
        limits.pong_timeout = Duration::from_millis(300);
    });
    let mut living = Page::bind(server.addresses().public, "living");
    let mut dead = Page::bind(server.addresses().public, "dead");
    let mut backend = Backend::connect(server.addresses().text);
    let mut rest = Vec::new();
    // Its pings are never answered, so its connection ends; the other's are, by whoever reads its frames.
    let reader = std::thread::spawn(move || living.message());
    dead.0.read_to_end(&mut rest).expect("an end in time");
    assert!(rest.starts_with(&[0x89, 4]), "a ping came first: {rest:?}");
    assert_eq!(backend.line(r#"{"uid":"dead"}"#), "fail");
    assert_eq!(backend.line(r#"{"uid":"living"}"#), "ok");
    assert_eq!(reader.join().expect("it reads"), r#"{"uid":"living"}"#);
    assert_eq!(refused(&server, "public", "pong_timeout"), 1);
}

/// The payload of the next ping, which is not answered.
fn next_ping(page: &mut Page) -> Vec<u8> {
    let mut head = [0; 2];
    page.0.read_exact(&mut head).expect("a ping in time");
    assert_eq!(head[0], 0x89, "a ping and nothing else");
    let mut payload = vec![0; usize::from(head[1])];
    page.0.read_exact(&mut payload).expect("the whole ping");
    payload
}

#[test]
fn pongs_that_bring_back_what_their_ping_said_tell_the_round_trip() {
    const PING_INTERVAL: Duration = Duration::from_millis(200);
    let server = limited(|limits| limits.ping_interval = PING_INTERVAL);
    let measured = || metric(&server, "doorbell_ping_rtt_seconds_count");
    let mut page = Page::bind(server.addresses().public, "u");
    let ping = next_ping(&mut page);
    page.send(10, &ping);
    page.send(10, &ping);
    let second = next_ping(&mut page);
    assert_eq!(measured(), 1, "once for each ping");
    assert_ne!(second, ping, "each says when it was sent");

    let mut from_the_future = second;
    from_the_future[0] ^= 0x80;
    page.send(10, &from_the_future);
    for no_stamp in [&b""[..], b"abc", &[0; 125]] {
        next_ping(&mut page);
        page.send(10, no_stamp);
    }
    next_ping(&mut page);
    page.send(1, b"another word");
    let last = next_ping(&mut page);
    assert_eq!(measured(), 1, "nobody else's bytes count");
    page.send(10, &last);
    next_ping(&mut page);
    assert_eq!(measured(), 2);

    let (_, text) = request(server.addresses().api, "GET", "/metrics", "", "");
    let sum = text.lines().find_map(|line| line.strip_prefix("doorbell_ping_rtt_seconds_sum "));
    let sum: f64 = sum.expect("a sum").parse().expect("a number");
    assert!(sum > 0.0 && sum <= 2.0 * Limits::default().pong_timeout.as_secs_f64(), "{sum}");
}

#[test]
fn origins_are_checked() {
    let server = start(settings());
    let host = server.addresses().public;
    for (origin, expected) in [
        ("https://evil.example", "403"),
        ("http://localhost:3000", "101"),
        ("null", "101"),
        (&format!("http://{host}"), "101"),
    ] {
        assert_eq!(status(&server, &format!("{UPGRADE}Origin: {origin}\r\n\r\n")), expected, "{origin}");
    }
    assert_eq!(refused(&server, "public", "origin"), 1);
}

#[test]
fn an_over_long_line_gets_one_fail_and_the_end() {
    let server = limited(|limits| limits.line_bytes = 100);
    for line in ["x".repeat(200), "x".repeat(200) + "\n{\"uid\":1}\n", "x".repeat(100) + "\n"] {
        let mut backend = Backend::connect(server.addresses().text);
        backend.0.write_all(line.as_bytes()).expect("the server reads");
        assert_eq!(read_all(&mut backend.0), "fail\n");
    }
    let mut backend = Backend::connect(server.addresses().text);
    let fits = format!(r#"{{"uid":"nobody","p":"{}"}}"#, "x".repeat(75));
    assert_eq!((fits.len() + 1, backend.line(&fits).as_str()), (99, "fail"));
    assert_eq!(backend.line("{}"), "fail", "and goes on");
    assert_eq!(refused(&server, "text", "line_too_long"), 3);
}

#[test]
fn an_unfinished_line_may_not_stand_still_but_an_idle_backend_may() {
    let server = limited(|limits| limits.line_timeout = Duration::from_millis(200));
    let mut idle = Backend::connect(server.addresses().text);
    let mut stuck = Backend::connect(server.addresses().text);
    stuck.0.write_all(b"{\"uid\"").expect("the server reads");
    assert_eq!(read_all(&mut stuck.0), "fail\n");
    assert_eq!(idle.line("{}"), "fail", "still talked to");
}

#[test]
fn the_text_port_asks_for_its_key_first() {
    let mut settings = settings();
    settings.text.key = Some("secret".into());
    let server = start(settings);
    let _page = Page::bind(server.addresses().public, "u");
    let mut backend = Backend::connect(server.addresses().text);
    assert_eq!(backend.line("AUTH secret"), "ok");
    assert_eq!(backend.line(r#"{"uid":"u"}"#), "ok");
    for first in ["AUTH wrong", "AUTH", r#"{"uid":"u"}"#] {
        let mut backend = Backend::connect(server.addresses().text);
        backend.0.write_all(format!("{first}\n{{\"uid\":\"u\"}}\n").as_bytes()).expect("the server reads");
        assert_eq!(read_all(&mut backend.0), "fail\n", "{first}");
    }
    assert_eq!(refused(&server, "text", "bad_key"), 3);
}

#[test]
fn a_web_page_cannot_push_through_the_text_port() {
    let server = start(settings());
    let _page = Page::bind(server.addresses().public, "u");
    let mut socket = connect(server.addresses().text);
    let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\r\n{\"uid\":\"u\"}\n";
    socket.write_all(post.as_bytes()).expect("the server reads");
    assert_eq!(read_all(&mut socket), "fail\n");
    assert_eq!(metric(&server, "doorbell_messages_written_total"), 0);
}

#[test]
fn doors_that_would_stand_open_are_not_opened() {
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let unsafe_ones: [fn(&mut Settings, SocketAddr); 3] = [
        |settings, any| settings.public.listen = any,
        |settings, any| settings.text.listen = any,
        |settings, any| {
            settings.api.listen = any;
            settings.api.keys.clear();
        },
    ];
    for change in unsafe_ones {
        let mut settings = settings();
        change(&mut settings, any(0));
        assert!(matches!(Server::start(settings), Err(StartError::Unsafe(_))));
    }
    let mut acknowledged = settings();
    acknowledged.public.listen = any(0);
    acknowledged.public.open_identity_acknowledged = true;
    start(acknowledged);
}

#[test]
fn a_body_over_its_bound_is_413_and_one_that_does_not_come_is_408() {
    let server = limited(|limits| {
        limits.body_bytes = 100;
        limits.head_timeout = Duration::from_millis(300);
    });
    let body = format!(r#"{{"uid":"u","data":"{}"}}"#, "x".repeat(100));
    assert_eq!(support::api(&server, "POST", "/v1/push", &body).0, 413);
    let headers = format!("Authorization: Bearer {}\r\nExpect: nothing\r\n", support::KEY);
    let mut socket = connect(server.addresses().api);
    let head = format!("POST /v1/push HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 50\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("the server reads");
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 408 "));
    assert_eq!(request(server.addresses().api, "GET", "/healthz", "", "").0, 200);
}
