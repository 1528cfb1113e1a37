//! TLS on the public listener: real sockets, and a TLS client that shares nothing with the server's connection code.

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doorbell_server::settings::IdentityMode;
use doorbell_server::utc::rfc3339;
use doorbell_server::{Server, StartError};
use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, ClientConnection, HandshakeKind};
use serde_json::{Value, json};
use support::login::{ask_on, login_settings, shop};
use support::tls::{Identity, TlsStream, connect_tls, secure};
use support::{
    Backend, Events, Log, Page, V1, connect, eventually, metric, push, read_all, request, request_on,
    settings, start,
};

fn bind(server: &Server, client: &Arc<ClientConfig>, uid: &str) -> Page<TlsStream> {
    Page::bind_on(connect_tls(server.addresses().public, client), uid)
}

fn refused(server: &Server, reason: &str) -> u64 {
    metric(server, &format!("doorbell_refused_total{{listener=\"public\",reason=\"{reason}\"}}"))
}

fn handshakes(server: &Server, kind: &str) -> u64 {
    metric(server, &format!("doorbell_tls_handshakes_total{{handshake=\"{kind}\"}}"))
}

/// The alert goes out first and is counted then, so whoever has read it may have to wait for the count.
fn refused_once(server: &Server, reason: &str) {
    eventually("the refusal to be counted", || refused(server, reason) == 1);
}

/// The bytes of a ClientHello.
fn hello(client: &Arc<ClientConfig>) -> Vec<u8> {
    let name = "localhost".try_into().expect("a name");
    let mut connection = ClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("a hello");
    hello
}

/// The description of the fatal alert that is all that comes.
fn alert(socket: &mut TcpStream) -> u8 {
    let mut record = [0; 7];
    socket.read_exact(&mut record).expect("an alert");
    assert_eq!((record[0], record[5]), (0x15, 2), "{record:?}");
    assert_eq!(socket.read(&mut [0]).expect("an end in time"), 0);
    record[6]
}

#[test]
fn pages_get_their_pushes_over_both_versions() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let mut backend = Backend::connect(server.addresses().text);
    for version in [&TLS12, &TLS13] {
        let mut page = bind(&server, &identity.client_of(&[version]), "u");
        assert_eq!(page.0.conn.protocol_version(), Some(version.version));
        assert_eq!(backend.line(r#"{"uid":"u","n":1}"#), "ok");
        assert_eq!(page.message(), r#"{"uid":"u","n":1}"#);
        page.send(8, &1_000_u16.to_be_bytes());
        assert_eq!(page.frame().close_code(), 1_000);
        assert_eq!(page.try_frame(), None, "close_notify, or reading would fail");
    }
}

#[test]
fn every_suite_is_spoken_both_ways() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let mut backend = Backend::connect(server.addresses().text);
    // More than a record, and not a multiple of one.
    let line = format!(r#"{{"uid":"u","data":"{}"}}"#, "x".repeat(40_000));
    // The certificate's key is for ECDSA.
    let suites = aws_lc_rs::DEFAULT_CIPHER_SUITES;
    let spoken =
        suites.iter().filter(|suite| suite.usable_for_signature_algorithm(SignatureAlgorithm::ECDSA));
    let mut tried = 0;
    for suite in spoken {
        let mut page = bind(&server, &identity.client_with(*suite), "u");
        assert_eq!(page.0.conn.negotiated_cipher_suite().expect("a suite").suite(), suite.suite());
        for _ in 0..3 {
            assert_eq!(backend.line(&line), "ok");
            assert!(page.message() == line, "{suite:?}: the message, whole");
            page.send(9, b"still here");
            assert_eq!(page.frame().payload, b"still here");
        }
        page.send(8, &1_000_u16.to_be_bytes());
        assert_eq!(page.frame().close_code(), 1_000);
        assert_eq!(page.try_frame(), None, "{suite:?}: close_notify, or reading would fail");
        tried += 1;
    }
    assert_eq!(tried, 6, "three ciphers in either version");
}

#[test]
fn a_client_changes_its_keys_as_it_likes_while_it_has_something_to_say() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let mut backend = Backend::connect(server.addresses().text);
    let mut page = bind(&server, &identity.client_of(&[&TLS13]), "u");
    // Each asks for a new key of the server's as well.
    for round in 0..40 {
        page.0.conn.refresh_traffic_keys().expect("a key");
        let said = format!("round {round}");
        page.send(9, said.as_bytes());
        assert_eq!(page.frame().payload, said.as_bytes());
    }
    // Many before the server has anything to say: one new key answers all.
    for _ in 0..20 {
        page.0.conn.refresh_traffic_keys().expect("a key");
    }
    page.send(9, b"here");
    assert_eq!(page.frame().payload, b"here");
    assert_eq!(backend.line(r#"{"uid":"u"}"#), "ok");
    assert_eq!(page.message(), r#"{"uid":"u"}"#);
    // More than anybody needs.
    for _ in 0..40 {
        page.0.conn.refresh_traffic_keys().expect("a key");
    }
    page.0.conn.write_tls(&mut page.0.sock).expect("sent");
    let error = page.0.read(&mut [0]).expect_err("an alert");
    assert!(error.to_string().contains("UnexpectedMessage"), "{error}");
    refused_once(&server, "tls_record");
}

#[test]
fn a_record_in_pieces_is_heard_with_its_last_byte_and_what_follows_it_stays() {
    let identity = Identity::new();
    let server = start(identity.settings());
    for version in [&TLS12, &TLS13] {
        let mut page = bind(&server, &identity.client_of(&[version]), "u");
        let mut sealed = Vec::new();
        for said in [b"one", b"two"] {
            // The beginnings of two frames: a ping each, masked with nothing.
            let frame = [&[0x89, 0x83, 0, 0, 0, 0], &said[..]].concat();
            page.0.conn.writer().write_all(&frame).expect("a buffer");
            page.0.conn.write_tls(&mut sealed).expect("a record");
        }
        let half = sealed.len() / 2;
        // The first record is there but for its last byte, and then with the beginning of the second's header.
        for piece in [&sealed[..3], &sealed[3..half - 1], &sealed[half - 1..half + 3]] {
            page.0.sock.write_all(piece).expect("the server reads");
        }
        assert_eq!(page.frame().payload, b"one");
        for byte in &sealed[half + 3..] {
            page.0.sock.write_all(&[*byte]).expect("the server reads");
        }
        assert_eq!(page.frame().payload, b"two");
    }
}

#[test]
fn an_offer_of_another_protocol_is_refused_and_no_offer_is_taken() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let client = |offers: &[&str]| {
        let mut client = ClientConfig::clone(&identity.client());
        client.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(client)
    };
    let page = bind(&server, &client(&["h2", "http/1.1"]), "u");
    assert_eq!(page.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(bind(&server, &client(&[]), "u").0.conn.alpn_protocol(), None);
    let mut stream = connect_tls(server.addresses().public, &client(&["h2"]));
    let error = stream.write(b"GET").expect_err("no protocol in common");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    refused_once(&server, "tls_handshake");
}

#[test]
fn doorbell_v1_events_and_polls_work() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let client = identity.client();
    let public = server.addresses().public;
    let mut page = Page::upgrade_on(connect_tls(public, &client), V1);
    page.text(&json!({"type": "hello", "token": "v1"}).to_string());
    let welcome: Value = serde_json::from_str(&page.message()).expect("an envelope");
    assert_eq!(welcome["type"], "welcome");
    let (mut events, place, _) = Events::open_on(connect_tls(public, &client), "sse", "");
    push(&server, &json!({"uids": ["v1", "sse"], "data": {"n": 1}}));
    let message: Value = serde_json::from_str(&page.message()).expect("an envelope");
    assert_eq!(message["data"], json!({"n": 1}));
    let (_, id, message) = events.next();
    assert_eq!(message["data"], json!({"n": 1}));
    assert_ne!(id, Some(place.clone()));

    let headers = "Host: localhost\r\nAuthorization: Bearer sse\r\n";
    let path = format!("/v1/poll?since={place}&wait=20");
    let (status, body) = request_on(connect_tls(public, &client), "GET", &path, headers, "");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""data":{"n":1}"#), "{body}");
}

#[test]
fn large_messages_go_both_ways() {
    let identity = Identity::new();
    let mut settings = identity.settings();
    settings.limits.message_bytes = 1 << 20;
    settings.limits.queue_bytes = 8 << 20;
    let server = start(settings);
    let mut page = bind(&server, &identity.client(), "u");
    let mut backend = Backend::connect(server.addresses().text);
    let big = "x".repeat(900_000);
    let line = format!(r#"{{"uid":"u","data":"{big}"}}"#);
    // More than the socket takes at once, so that records are cut and what follows them waits.
    for _ in 0..5 {
        assert_eq!(backend.line(&line), "ok");
    }
    for _ in 0..5 {
        assert!(page.message() == line, "the message, whole");
    }
    // A ping as long as one may be, behind a message of many records.
    page.text(&big);
    page.send(9, &[b'p'; 125]);
    assert_eq!(page.frame().payload, [b'p'; 125]);
}

#[test]
fn a_page_that_does_not_read_is_closed_with_3008_and_costs_nobody() {
    let identity = Identity::new();
    let mut settings = identity.settings();
    settings.limits.queue_bytes = 64 * 1024;
    let server = start(settings);
    let client = identity.client();
    let mut slow = bind(&server, &client, "u");
    let mut other = bind(&server, &client, "other");
    let mut backend = Backend::connect(server.addresses().text);
    let line = format!(r#"{{"uid":"u","data":"{}"}}"#, "x".repeat(10_000));
    let mut taken = 0;
    while backend.line(&line) == "ok" {
        taken += 1;
        assert_eq!(backend.line(r#"{"uid":"other"}"#), "ok");
        assert_eq!(other.message(), r#"{"uid":"other"}"#);
        assert!(taken < 10_000, "the queue has a bound");
    }
    let mut read = 0;
    loop {
        let frame = slow.frame();
        if frame.first == 0x88 {
            assert_eq!(frame.close_code(), 3_008);
            break;
        }
        assert!(frame.payload == line.as_bytes(), "whole and in order");
        read += 1;
    }
    let dropped = metric(&server, "doorbell_messages_dropped_total{reason=\"too_slow\"}");
    assert_eq!(taken, read + dropped, "every ok is accounted for");
    assert_eq!(slow.try_frame(), None, "close_notify follows the Close frame");
}

#[test]
fn a_hello_that_comes_byte_by_byte_is_taken() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let client = identity.client();
    let name = "localhost".try_into().expect("a name");
    let mut connection = ClientConnection::new(client, name).expect("a client");
    let mut socket = connect(server.addresses().public);
    let mut first = Vec::new();
    connection.write_tls(&mut first).expect("a hello");
    for byte in &first {
        socket.write_all(&[*byte]).expect("the server reads");
    }
    let mut page = Page::bind_on(rustls::StreamOwned::new(connection, socket), "u");
    assert_eq!(Backend::connect(server.addresses().text).line(r#"{"uid":"u"}"#), "ok");
    assert_eq!(page.message(), r#"{"uid":"u"}"#);
}

#[test]
fn what_is_no_tls_is_told_so_and_counted() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let public = server.addresses().public;

    let mut socket = connect(public);
    socket.write_all(b"GET /v1/poll HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer u\r\n\r\n").expect("sent");
    let answer = read_all(&mut socket);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("wss://"), "{answer}");
    assert_eq!(refused(&server, "not_tls"), 1);

    let mut socket = connect(public);
    socket.write_all(b"\x00\x01\x02\x03\x04\x05\x06\x07").expect("sent");
    alert(&mut socket);
    // TLS 1.0 alone: version, random, no session, one suite, no compression.
    let mut old = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    old.extend_from_slice(&[7; 32]);
    old.extend_from_slice(&[0, 0, 2, 0, 0x2f, 1, 0]);
    let mut socket = connect(public);
    socket.write_all(&old).expect("sent");
    assert_eq!(alert(&mut socket), u8::from(AlertDescription::HandshakeFailure));
    assert_eq!(refused(&server, "tls_handshake"), 2);
    assert_eq!(handshakes(&server, "full"), 0);
    eventually("places to become free", || {
        metric(&server, "doorbell_open_connections{listener=\"public\"}") == 0
    });
}

#[test]
fn a_record_that_was_tampered_with_ends_the_connection_with_an_alert() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let mut page = bind(&server, &identity.client(), "u");
    page.0.conn.writer().write_all(b"never to be read").expect("a buffer");
    let mut sealed = Vec::new();
    page.0.conn.write_tls(&mut sealed).expect("a record");
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    page.0.sock.write_all(&sealed).expect("sent");
    let error = page.0.read(&mut [0]).expect_err("an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    refused_once(&server, "tls_record");
    eventually("the uid to be gone", || metric(&server, "doorbell_users") == 0);
}

#[test]
fn a_handshake_has_the_time_of_a_head_and_no_more_bytes_than_a_record() {
    let identity = Identity::new();
    let mut settings = identity.settings();
    settings.limits.head_timeout = Duration::from_millis(200);
    let server = start(settings);
    let public = server.addresses().public;
    let hello = hello(&identity.client());
    for first in [&b""[..], &hello[..20], &hello] {
        let mut socket = connect(public);
        socket.write_all(first).expect("sent");
        let mut rest = Vec::new();
        let ended = socket.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    assert_eq!(refused(&server, "tls_handshake_timeout"), 3);
    // Done in time, but then there is no request.
    let mut stream = connect_tls(public, &identity.client());
    assert!(read_all(&mut stream).starts_with("HTTP/1.1 408 "));
    assert_eq!(refused(&server, "head_timeout"), 1);

    // One message of the handshake over two records, longer than anybody's hello.
    let mut long = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xf0];
    long.resize(5 + 0x4000, 0);
    let record = long.clone();
    long.extend_from_slice(&[0x16, 3, 1, 0x40, 0]);
    long.extend_from_slice(&record[5..]);
    let mut socket = connect(public);
    // It may be refused before it is all sent.
    let _ = socket.write_all(&long);
    let _ = socket.read_to_end(&mut Vec::new());
    assert_eq!(refused(&server, "tls_handshake"), 1);
}

#[test]
fn who_comes_back_resumes() {
    let identity = Identity::new();
    let mut settings = identity.settings();
    settings.public.compression = true;
    let mut server = start(settings.clone());
    for (times, version) in [(1, &TLS12), (2, &TLS13)] {
        let client = identity.client_of(&[version]);
        let first = bind(&server, &client, "u");
        assert_eq!(first.0.conn.handshake_kind(), Some(HandshakeKind::Full));
        let second = bind(&server, &client, "u");
        assert_eq!(second.0.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        // A reload that leaves the certificate alone costs nobody a full handshake.
        settings.public.compression = !settings.public.compression;
        let report = server.reload(settings.clone()).expect("taken over");
        assert_eq!(report.applied, ["public.compression"]);
        let third = bind(&server, &client, "u");
        assert_eq!(third.0.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!((handshakes(&server, "full"), handshakes(&server, "resumed")), (times, 2 * times));
    }
}

#[test]
fn a_reload_shows_the_new_certificate_to_new_connections_and_a_bad_one_changes_nothing() {
    let mut identity = Identity::new();
    let settings = identity.settings();
    let mut server = start(settings.clone());
    let before = identity.client();
    let mut page = bind(&server, &before, "old");
    identity.renew();
    assert_eq!(server.reload(settings.clone()).expect("taken over").applied, ["public.tls_cert"]);
    let after = identity.client_of(&[&TLS13]);
    bind(&server, &after, "new");
    let mut stream = connect_tls(server.addresses().public, &identity_less(&before));
    let error = stream.write(b"GET").expect_err("a certificate it does not believe");
    assert!(error.to_string().contains("certificate"), "{error}");

    std::fs::write(identity.directory.path().join("key.pem"), "no key").expect("a file");
    let error = server.reload(settings).expect_err("no key");
    assert!(matches!(&error, StartError::Tls(error) if error.to_string().contains("key.pem")), "{error:?}");
    bind(&server, &after, "newer");
    assert_eq!(Backend::connect(server.addresses().text).line(r#"{"uid":"old"}"#), "ok");
    assert_eq!(page.message(), r#"{"uid":"old"}"#, "who was there stays");
}

#[test]
fn when_the_certificate_expires_is_shown_and_is_warned_of_when_it_is_soon() {
    const SHOWN: &str = "doorbell_tls_certificate_expires_timestamp_seconds";
    const DAY: u64 = 86_400;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let moment = |unix_seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds);
    // Of this thread alone, on which servers start and reload.
    let log = Log::default();
    let writer = log.clone();
    let logging = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(logging);

    let good = now + 20 * DAY;
    let mut identity = Identity::until(moment(good));
    let settings_now = identity.settings();
    let mut server = start(settings_now.clone());
    assert_eq!(metric(&server, SHOWN), good);
    assert!(!log.take().contains("WARN"), "nobody has to do anything yet");

    for (end, said) in [(now + 3 * DAY, "expires soon"), (now - DAY, "has expired")] {
        identity.renew_until(moment(end));
        server.reload(settings_now.clone()).expect("taken over");
        assert_eq!(metric(&server, SHOWN), end);
        let log = log.take();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
        let [warning] = warnings[..] else { panic!("one warning: {log}") };
        let date = rfc3339(end * 1_000);
        assert!(warning.contains(said) && warning.contains(&date) && warning.contains("/cert.pem"), "{log}");
    }
    drop(start(settings_now.clone()));
    assert!(log.take().contains("has expired"), "a start warns as well");

    // What cannot be taken over changes nothing here either.
    std::fs::write(identity.directory.path().join("key.pem"), "no key").expect("a file");
    server.reload(settings_now).expect_err("no key");
    assert_eq!(metric(&server, SHOWN), now - DAY);
    server.reload(settings()).expect("taken over");
    let (_, text) = request(server.addresses().api, "GET", "/metrics", "", "");
    assert!(!text.contains(SHOWN), "no certificate, no date: {text}");
}

/// The same client without what it remembers of sessions.
fn identity_less(client: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut client = ClientConfig::clone(client);
    client.resumption = rustls::client::Resumption::disabled();
    Arc::new(client)
}

#[test]
fn a_certificate_that_cannot_be_used_keeps_the_server_from_starting() {
    let identity = Identity::new();
    let other = Identity::new();
    let file = |name: &str| identity.directory.path().join(name);
    std::fs::write(file("text.pem"), "nothing in here").expect("a file");
    let whole = std::fs::read_to_string(file("cert.pem")).expect("a file");
    std::fs::write(file("half.pem"), &whole[..whole.len() / 2]).expect("a file");
    for (cert, key, said) in [
        (file("none.pem"), file("key.pem"), "none.pem"),
        (file("text.pem"), file("key.pem"), "text.pem holds no certificate"),
        (file("half.pem"), file("key.pem"), "half.pem is not whole"),
        (file("key.pem"), file("key.pem"), "key.pem holds no certificate"),
        (file("cert.pem"), file("cert.pem"), "cert.pem holds no private key"),
        (file("cert.pem"), other.directory.path().join("key.pem"), "is not the key's in"),
    ] {
        let mut settings = identity.settings();
        settings.public.tls_cert = Some(cert);
        settings.public.tls_key = Some(key);
        let error = Server::start(settings).expect_err("it cannot be used");
        assert!(
            matches!(&error, StartError::Tls(error) if error.to_string().contains(said)),
            "{error:?}: {said}"
        );
    }
    let mut half = identity.settings();
    half.public.tls_key = None;
    assert!(matches!(Server::start(half), Err(StartError::Tls(_))));
}

#[test]
fn a_server_that_stops_sends_close_and_close_notify() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let mut page = bind(&server, &identity.client(), "u");
    let reader = std::thread::spawn(move || {
        assert_eq!(page.frame().close_code(), 3_001);
        // Without close_notify this would be an error.
        assert_eq!(page.0.read(&mut [0]).expect("close_notify"), 0);
    });
    let report = server.drain();
    reader.join().expect("what it was told");
    assert_eq!((report.closed, report.cut), (1, 0));
}

#[test]
fn whoever_hangs_up_without_a_word_is_gone() {
    let identity = Identity::new();
    let server = start(identity.settings());
    let page = bind(&server, &identity.client(), "cut");
    page.0.sock.shutdown(Shutdown::Write).expect("a socket");
    let mut said = bind(&server, &identity.client(), "said");
    said.0.conn.send_close_notify();
    said.0.conn.write_tls(&mut said.0.sock).expect("sent");
    eventually("both to be gone", || metric(&server, "doorbell_users") == 0);
}

#[test]
fn a_load_balancer_says_whose_connection_it_passes_through() {
    let identity = Identity::new();
    let mut settings = identity.settings();
    settings.limits.exempt.clear();
    settings.limits.connections_per_ip = 1;
    settings.public.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    let server = start(settings);
    let client = identity.client();
    let through = |address: &str| {
        let mut socket = connect(server.addresses().public);
        let header = format!("PROXY TCP4 {address} 192.0.2.1 56324 443\r\n");
        // The header alone, then the hello.
        socket.write_all(header.as_bytes()).expect("the server reads");
        let headers = "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut stream = secure(socket, &client);
        stream.write_all(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).expect("sent");
        (support::read_head(&mut stream).get(9..12).expect("a status").to_owned(), stream)
    };
    let (status, _one) = through("198.51.100.1");
    assert_eq!(status, "101");
    let (status, _two) = through("198.51.100.2");
    assert_eq!(status, "101");
    assert_eq!(through("198.51.100.1").0, "429");

    // Behind the hello it would be the client's own word.
    let mut stream = connect_tls(server.addresses().public, &client);
    let inside = "PROXY TCP4 198.51.100.3 192.0.2.1 56324 443\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(inside.as_bytes()).expect("sent");
    assert!(read_all(&mut stream).starts_with("HTTP/1.1 400 "), "not believed");
    assert_eq!(refused(&server, "malformed_head"), 1);
}

#[test]
fn a_login_goes_over_tls_and_its_addresses_say_https() {
    let identity = Identity::new();
    let mut settings = login_settings(shop());
    let tls = identity.settings();
    (settings.public.tls_cert, settings.public.tls_key) = (tls.public.tls_cert, tls.public.tls_key);
    assert_eq!(settings.public.identity, IdentityMode::Token);
    let server = start(settings);
    let client = identity.client();
    let public = server.addresses().public;
    let ask = |method: &str, target: &str, headers: &str, body: &str| {
        ask_on(connect_tls(public, &client), method, target, &format!("Host: localhost\r\n{headers}"), body)
    };
    let body = json!({"client_id": "shop", "code_challenge": support::login::CHALLENGE}).to_string();
    let begun = ask("POST", "/v1/device_authorization", "Content-Type: application/json\r\n", &body);
    assert_eq!(begun.status, 200, "{begun:?}");
    let begun = begun.json();
    let complete = begun["verification_uri_complete"].as_str().expect("an address");
    assert!(complete.starts_with("https://localhost/"), "{complete}");
    let path = complete.strip_prefix("https://localhost").expect("an address");
    let page = ask("GET", path, "", "");
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.header("set-cookie").expect("a cookie").ends_with("; Secure"), "{page:?}");

    let device_code = begun["device_code"].as_str().expect("a code");
    let mut stream = connect_tls(public, &client);
    let ask = format!(
        "GET /v1/login/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {device_code}\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).expect("sent");
    assert!(support::read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    assert_eq!(Events(stream).next().2["state"], "pending");

    // A page that came in the clear may be anybody's on the way, whatever its host.
    for (origin, status) in [("https://localhost", "101"), ("http://localhost", "403"), ("https://x", "403")]
    {
        let mut stream = connect_tls(public, &client);
        let upgrade = support::UPGRADE.replace("127.0.0.1", "localhost");
        stream.write_all(format!("{upgrade}Origin: {origin}\r\n\r\n").as_bytes()).expect("sent");
        assert_eq!(&support::read_head(&mut stream)[9..12], status, "{origin}");
    }
}
