//! permessage-deflate from outside, with an inflater and a compressor that are not the server's own code.

mod support;

use std::io::Write as _;

use doorbell_server::Server;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};
use support::{Backend, Client, Frame, Page, UPGRADE, V1, connect, metric, push, read_head, settings, start};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

fn compressing() -> Server {
    let mut settings = settings();
    settings.public.compression = true;
    start(settings)
}

fn answered(server: &Server, headers: &str) -> Option<String> {
    let mut socket = connect(server.addresses().public);
    socket.write_all(format!("{UPGRADE}{headers}\r\n").as_bytes()).expect("the server reads");
    let head = read_head(&mut socket);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: ")).map(str::to_owned)
}

fn inflate(payload: &[u8]) -> String {
    let mut out = Vec::with_capacity(1 << 20);
    let all = [payload, &TAIL].concat();
    Decompress::new(false).decompress_vec(&all, &mut out, FlushDecompress::Sync).expect("inflates");
    String::from_utf8(out).expect("text")
}

fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 1024);
    Compress::new(Compression::best(), false)
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .expect("compresses");
    out.strip_suffix(&TAIL).expect("a flushed end").to_vec()
}

/// Sends a compressed text message.
fn say(page: &mut Page, payload: &[u8]) {
    page.send(0x41, &deflate(payload));
}

fn line(pad: usize) -> String {
    format!("{{\"uid\":\"u1\",\"pad\":\"{}\"}}", "doorbell ".repeat(pad))
}

#[test]
fn it_is_off_by_default_and_negotiated_where_it_is_on() {
    let server = start(settings());
    assert_eq!(answered(&server, OFFER), None);
    let mut page = Page::upgrade(server.addresses().public, OFFER);
    page.send(0x41, &deflate(b"u1"));
    assert_eq!(page.frame().close_code(), 1002, "a compressed frame where nothing was negotiated");

    let server = compressing();
    assert_eq!(answered(&server, ""), None);
    assert_eq!(answered(&server, "Sec-WebSocket-Extensions: permessage-deflate; what\r\n"), None);
    let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(answered(&server, OFFER).as_deref(), Some(plain));
    let bits = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    assert_eq!(answered(&server, bits), Some(format!("{plain}; server_max_window_bits=9")));
}

#[test]
fn large_messages_are_compressed_for_those_who_asked_and_nobody_else() {
    let server = compressing();
    let mut compressed = Page::upgrade(server.addresses().public, OFFER);
    say(&mut compressed, b"u1");
    compressed.sync();
    let mut plain = Page::bind(server.addresses().public, "u1");
    let (mut v1, _) = Client::hello(&server, "u1", None);
    let mut v1_compressed = Client(Page::upgrade(server.addresses().public, &format!("{V1}{OFFER}")));
    v1_compressed.say(&json!({"type": "hello", "token": "u1"}));
    assert_eq!(v1_compressed.next()["type"], "welcome");

    let mut backend = Backend::connect(server.addresses().text);
    for _ in 0..3 {
        let large = line(40);
        assert_eq!(backend.line(&large), "ok");
        let Frame { first, payload } = compressed.frame();
        assert_eq!(first, 0xc1, "FIN, RSV1, text");
        assert!(payload.len() < large.len() / 3);
        assert_eq!(inflate(&payload), large);
        assert_eq!(plain.message(), large);
        let data: Value = serde_json::from_str(&large).expect("JSON");
        assert_eq!(v1.next()["data"], data);
        let Frame { first, payload } = v1_compressed.0.frame();
        assert_eq!(first, 0xc1);
        let envelope: Value = serde_json::from_str(&inflate(&payload)).expect("JSON");
        assert_eq!((&envelope["type"], &envelope["data"]), (&json!("message"), &data));
    }

    let small = line(1);
    assert_eq!(backend.line(&small), "ok");
    assert_eq!(compressed.message(), small, "small messages are left alone");
    push(&server, &json!({"uid": "u1", "data": "é".repeat(200)}));
    assert_eq!(inflate(&compressed.frame().payload), "é".repeat(200));
    // A pong carries what its ping did, in a frame without RSV1.
    compressed.send(9, &[b'x'; 125]);
    assert_eq!(compressed.frame(), Frame { first: 0x8a, payload: vec![b'x'; 125] });
}

#[test]
fn a_smaller_window_gets_compressed_only_what_fits_into_it() {
    let server = compressing();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    let mut page = Page::upgrade(server.addresses().public, offer);
    page.text("u1");
    page.sync();
    let mut backend = Backend::connect(server.addresses().text);
    let fits = line(40);
    assert!((128..=500).contains(&fits.len()));
    assert_eq!(backend.line(&fits), "ok");
    assert_eq!(inflate(&page.frame().payload), fits);
    let too_long = line(100);
    assert_eq!(backend.line(&too_long), "ok");
    assert_eq!(page.message(), too_long);
}

#[test]
fn a_bomb_is_closed_with_1009_and_hurts_nobody() {
    let server = compressing();
    let mut neighbour = Page::bind(server.addresses().public, "u1");
    let bomb = deflate(&vec![b'x'; 32 << 20]);
    assert!(bomb.len() < 64 * 1024, "{}", bomb.len());
    for _ in 0..20 {
        let mut page = Page::upgrade(server.addresses().public, OFFER);
        page.send(0x42, &bomb);
        assert_eq!(page.frame().close_code(), 1009);
    }
    let mut page = Page::upgrade(server.addresses().public, OFFER);
    page.send(0x41, &[0xff; 20]);
    assert_eq!(page.frame().close_code(), 1007);
    let refused = "doorbell_refused_total{listener=\"public\",reason=\"message_too_big\"}";
    assert_eq!(metric(&server, refused), 20);
    // As large as a message may be is not too large.
    let mut page = Page::upgrade(server.addresses().public, OFFER);
    say(&mut page, b"u2");
    say(&mut page, &vec![b'y'; 64 * 1024]);
    page.sync();
    let mut backend = Backend::connect(server.addresses().text);
    assert_eq!(backend.line(&line(30)), "ok");
    assert_eq!(neighbour.message(), line(30));
}
