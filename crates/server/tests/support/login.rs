//! A page, a phone and a backend, over the wire.
#![allow(unreachable_pub, reason = "shared by several test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{Read, Write};
use std::net::SocketAddr;

use doorbell_server::Server;
use doorbell_server::settings::{Digest, IdentityMode, LoginClient, ProviderSettings, Settings, Tokens};
use serde_json::{Value, json};

use super::{connect, read_all, settings, start};

pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const SECRET: &str = "shop-secret-0123456789";
pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A server with token identity, the demo provider and one site.
pub fn login_settings(client: LoginClient) -> Settings {
    let mut settings = settings();
    settings.public.identity = IdentityMode::Token;
    settings.tokens = Tokens { key: Some("0123456789abcdef0123456789abcdef".into()), ..Tokens::default() };
    settings.login.rules.clients = vec![client];
    settings.providers =
        vec![ProviderSettings { name: "demo".into(), kind: "demo".into(), ..ProviderSettings::default() }];
    settings
}

pub fn shop() -> LoginClient {
    LoginClient {
        secret: Some(Digest::of(SECRET)),
        redirect_uris: vec!["https://shop.example/after".into()],
        ..LoginClient::new("shop", "Example Shop")
    }
}

pub fn shop_server() -> Server {
    start(login_settings(shop()))
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The value of a cookie it sets.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let set = self.header("set-cookie")?.strip_prefix(name)?.strip_prefix('=')?;
        Some(set.split(';').next().unwrap_or_default().to_owned())
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// One request with extra header lines, each ended by CRLF.
pub fn ask(address: SocketAddr, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    ask_on(connect(address), method, target, &format!("Host: {address}\r\n{headers}"), body)
}

/// As [`ask`], with a `Host` of the caller's.
pub fn ask_on(
    mut socket: impl Read + Write,
    method: &str,
    target: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let length = body.len();
    let text = format!(
        "{method} {target} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    socket.write_all(text.as_bytes()).expect("the server reads");
    let all = read_all(&mut socket);
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {all:?}"));
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    Answer { status, head: head.to_owned(), body }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

pub const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
pub const JSON: &str = "Content-Type: application/json\r\n";

/// A login as the computer has it.
#[derive(Debug, Clone)]
pub struct Login {
    pub address: SocketAddr,
    pub device_code: String,
    pub id: String,
    pub qr: String,
    pub begun: Value,
}

impl Login {
    pub fn begin(server: &Server) -> Self {
        Self::begin_with(server, "", &json!({"client_id": "shop", "code_challenge": CHALLENGE}))
    }

    pub fn begin_with(server: &Server, headers: &str, body: &Value) -> Self {
        let address = server.addresses().public;
        let answer =
            ask(address, "POST", "/v1/device_authorization", &format!("{JSON}{headers}"), &body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        Self::of(address, answer.json())
    }

    pub fn of(address: SocketAddr, begun: Value) -> Self {
        let text = |name: &str| begun[name].as_str().unwrap_or_else(|| panic!("{name}: {begun}")).to_owned();
        let complete = text("verification_uri_complete");
        let qr = complete.rsplit_once('/').expect("an address").1.to_owned();
        Self { address, device_code: text("device_code"), id: text("login"), qr, begun }
    }

    pub fn get(&self) -> Value {
        let answer = self.ask("GET", "/v1/login", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        let headers = format!("{JSON}Authorization: Bearer {}\r\n", self.device_code);
        ask(self.address, method, target, &headers, body)
    }

    pub fn state(&self) -> String {
        self.get()["state"].as_str().expect("a state").to_owned()
    }

    pub fn token(&self) -> Answer {
        self.token_with(&[("client_secret", SECRET), ("code_verifier", VERIFIER)], "")
    }

    pub fn token_with(&self, fields: &[(&str, &str)], headers: &str) -> Answer {
        let device_code = &self.device_code;
        let mut body = format!("grant_type={DEVICE_CODE}&client_id=shop&device_code={device_code}");
        for (name, value) in fields {
            body.push_str(&format!("&{name}={value}"));
        }
        ask(self.address, "POST", "/v1/token", &format!("{FORM}{headers}"), &body)
    }
}

/// The value of a form's field, whatever the order of its attributes.
pub fn input_value(html: &str, name: &str) -> Option<String> {
    let named = format!("name=\"{name}\"");
    let tag = html.split('<').find(|tag| tag.starts_with("input") && tag.contains(&named))?;
    Some(tag.split_once("value=\"")?.1.split('"').next()?.to_owned())
}

/// A phone with the page of a QR code open.
#[derive(Debug, Clone)]
pub struct Phone {
    pub address: SocketAddr,
    pub qr: String,
    pub visit: String,
    pub page_token: String,
    pub html: String,
    /// Lines of its own.
    pub headers: String,
}

impl Phone {
    pub fn open(login: &Login) -> Self {
        Self::open_with(login, "")
    }

    pub fn open_with(login: &Login, headers: &str) -> Self {
        let page = ask(login.address, "GET", &format!("/s/{}", login.qr), headers, "");
        assert_eq!(page.status, 200, "{page:?}");
        let visit = page.cookie("doorbell_visit").expect("a visit");
        let page_token = input_value(&page.body, "page_token").expect("a token");
        let (address, qr) = (login.address, login.qr.clone());
        Self { address, qr, visit, page_token, html: page.body, headers: headers.to_owned() }
    }

    /// A POST with JSON; the answer is JSON.
    pub fn post(&self, action: &str, fields: &[(&str, &str)]) -> Answer {
        let mut body = json!({"page_token": self.page_token});
        for (name, value) in fields {
            body[name] = json!(value);
        }
        let headers = format!("{JSON}{}Cookie: doorbell_visit={}\r\n", self.headers, self.visit);
        ask(self.address, "POST", &format!("/s/{}/{action}", self.qr), &headers, &body.to_string())
    }

    pub fn page(&self) -> Answer {
        let headers = format!("{}Cookie: doorbell_visit={}\r\n", self.headers, self.visit);
        ask(self.address, "GET", &format!("/s/{}", self.qr), &headers, "")
    }

    pub fn scanned(login: &Login) -> Self {
        let phone = Self::open(login);
        let answer = phone.post("scan", &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
        phone
    }

    pub fn approved(login: &Login, name: &str) -> Self {
        let phone = Self::scanned(login);
        let answer = phone.post("approve", &[("name", name)]);
        assert_eq!(answer.status, 200, "{answer:?}");
        phone
    }
}
