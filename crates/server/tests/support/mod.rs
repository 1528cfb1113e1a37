//! A real server on port 0 and raw sockets to it.
#![allow(unreachable_pub, reason = "shared by several test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a failed unwrap is a failed test")]

pub mod login;
pub mod tls;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbell_server::Server;
use doorbell_server::settings::{ApiKey, IdentityMode, Settings};
use serde_json::{Value, json};

pub const KEY: &str = "test-api-key-0123456789";
/// Long enough that only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Loopback, port 0, open identity, one API key.
pub fn settings() -> Settings {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut settings = Settings::default();
    settings.public.listen = any;
    settings.public.identity = IdentityMode::Open;
    settings.text.listen = any;
    settings.api.listen = any;
    settings.api.keys = vec![ApiKey { name: "test".into(), secret: KEY.into(), expires: None }];
    settings
}

pub fn start(settings: Settings) -> Server {
    Server::start(settings).expect("the server starts")
}

/// Where a test has logs written to.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What was written since the last call.
    pub fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the server accepts");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A WebSocket client that speaks bytes.
#[derive(Debug)]
pub struct Page<S = TcpStream>(pub S);

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.first, 0x88, "a Close frame, not {self:?}");
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }
}

pub const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Page {
    /// Upgrades, with extra header lines each ended by CRLF.
    pub fn upgrade(address: SocketAddr, headers: &str) -> Self {
        Self::upgrade_on(connect(address), headers)
    }

    /// Upgrades and names `uid`, and waits until the server has taken note.
    pub fn bind(address: SocketAddr, uid: &str) -> Self {
        Self::bind_on(connect(address), uid)
    }
}

impl<S: Read + Write> Page<S> {
    pub fn upgrade_on(mut socket: S, headers: &str) -> Self {
        socket.write_all(format!("{UPGRADE}{headers}\r\n").as_bytes()).unwrap();
        let head = read_head(&mut socket);
        assert!(head.starts_with("HTTP/1.1 101 "), "upgraded, not {head}");
        Self(socket)
    }

    pub fn bind_on(socket: S, uid: &str) -> Self {
        let mut page = Self::upgrade_on(socket, "");
        page.text(uid);
        page.sync();
        page
    }

    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame).unwrap();
    }

    pub fn text(&mut self, text: &str) {
        self.send(1, text.as_bytes());
    }

    /// Pings and waits for the pong: everything sent before has been handled.
    pub fn sync(&mut self) {
        self.send(9, b"sync");
        loop {
            let frame = self.frame();
            if frame.first == 0x8a {
                assert_eq!(frame.payload, b"sync");
                return;
            }
        }
    }

    /// The next frame, server pings not counted.
    pub fn frame(&mut self) -> Frame {
        self.try_frame().expect("a frame, not the end")
    }

    /// The next frame or, at the end of the stream, nothing.
    pub fn try_frame(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 2];
            match self.0.read(&mut head[..1]) {
                Ok(0) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                other => other.map(drop).expect("a byte in time"),
            }
            self.0.read_exact(&mut head[1..]).unwrap();
            assert_eq!(head[1] & 0x80, 0, "a server never masks");
            let length = match head[1] {
                126 => {
                    let mut length = [0; 2];
                    self.0.read_exact(&mut length).unwrap();
                    usize::from(u16::from_be_bytes(length))
                }
                127 => {
                    let mut length = [0; 8];
                    self.0.read_exact(&mut length).unwrap();
                    usize::try_from(u64::from_be_bytes(length)).unwrap()
                }
                length => usize::from(length),
            };
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).unwrap();
            if head[0] != 0x89 {
                return Some(Frame { first: head[0], payload });
            }
            self.send(10, &payload);
        }
    }

    /// The next message's text.
    pub fn message(&mut self) -> String {
        let frame = self.frame();
        assert_eq!(frame.first, 0x81, "a text frame, not {frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }
}

/// Reads up to the empty line.
pub fn read_head(socket: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte) {
            Ok(0) => break,
            other => other.map(drop).expect("a byte in time"),
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Everything until the other end hangs up.
pub fn read_all(socket: &mut impl Read) -> String {
    let mut all = Vec::new();
    match socket.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "an end in time"),
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// An event stream.
pub struct Events<S = TcpStream>(pub S);

impl Events {
    pub fn open(address: SocketAddr, uid: &str, headers: &str) -> (Self, String, Value) {
        Self::open_on(connect(address), uid, headers)
    }
}

impl<S: Read + Write> Events<S> {
    pub fn open_on(mut socket: S, uid: &str, headers: &str) -> (Self, String, Value) {
        let ask =
            format!("GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {uid}\r\n{headers}\r\n");
        socket.write_all(ask.as_bytes()).expect("the server reads");
        let head = read_head(&mut socket);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut events = Self(socket);
        let (name, id, welcome) = events.next();
        assert_eq!(name, "welcome");
        (events, id.expect("a place"), welcome)
    }

    /// The next event's name, id and data; comments are skipped.
    pub fn next(&mut self) -> (String, Option<String>, Value) {
        let (mut name, mut id, mut data) = (String::new(), None, Value::Null);
        loop {
            let line = self.line();
            match line.split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("data", value)) => data = serde_json::from_str(value).expect("JSON"),
                _ if line.is_empty() && !name.is_empty() => return (name, id, data),
                _ => assert!(line.is_empty() || line.starts_with(':'), "{line:?}"),
            }
        }
    }

    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).expect("a byte in time") == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text")
    }
}

pub const V1: &str = "Sec-WebSocket-Protocol: other, doorbell.v1\r\n";

/// A page that speaks doorbell.v1.
pub struct Client(pub Page);

impl Client {
    pub fn connect(server: &Server) -> Self {
        Self(Page::upgrade(server.addresses().public, V1))
    }

    /// Says hello as `uid`; the welcome.
    pub fn hello(server: &Server, uid: &str, resume: Option<(&str, u64)>) -> (Self, Value) {
        let mut client = Self::connect(server);
        let mut hello = json!({"type": "hello", "token": uid});
        if let Some((epoch, seq)) = resume {
            hello["resume"] = json!({"epoch": epoch, "seq": seq});
        }
        client.say(&hello);
        let welcome = client.next();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        (client, welcome)
    }

    pub fn say(&mut self, message: &Value) {
        self.0.text(&message.to_string());
    }

    pub fn next(&mut self) -> Value {
        serde_json::from_str(&self.0.message()).expect("an envelope")
    }

    pub fn nothing_waits(&mut self) {
        self.say(&json!({"type": "ping"}));
        assert_eq!(self.next()["type"], "pong");
    }
}

pub fn push(server: &Server, body: &Value) -> Value {
    let (status, answer) = api(server, "POST", "/v1/push", &body.to_string());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// A backend on the text port.
#[derive(Debug)]
pub struct Backend(pub TcpStream);

impl Backend {
    pub fn connect(address: SocketAddr) -> Self {
        Self(connect(address))
    }

    /// Sends a line and reads its answer, without the line ending.
    pub fn line(&mut self, line: &str) -> String {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.answer()
    }

    pub fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).expect("an answer in time") == 1 && byte[0] != b'\n' {
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }
}

/// One request to the API; the status and the body.
pub fn api(server: &Server, method: &str, path: &str, body: &str) -> (u16, String) {
    request(server.addresses().api, method, path, &format!("Authorization: Bearer {KEY}\r\n"), body)
}

pub fn request(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let headers = format!("Host: {address}\r\n{headers}");
    request_on(connect(address), method, path, &headers, body)
}

/// As [`request`], with a `Host` of the caller's.
pub fn request_on(
    mut socket: impl Read + Write,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    socket.write_all(text.as_bytes()).unwrap();
    let answer = read_all(&mut socket);
    let status =
        answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

/// The value of a counter or gauge, 0 when it is not there yet.
pub fn metric(server: &Server, name: &str) -> u64 {
    let (status, text) = request(server.addresses().api, "GET", "/metrics", "", "");
    assert_eq!(status, 200);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// Waits for something that happens soon but not at once, by asking again; panics when it does not.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
