//! What pages, phones and backends ask of a login, in any words, of a real server over loopback.
//!
//! The first line is method and target, then come header lines up to an empty one, then the body. `{qr}` and its like
//! stand for what a login under way has at that place, so that a request can get as far as its secrets let it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use doorbell_server::Server;
use doorbell_server::settings::{ApiKey, Digest, LoginClient, ProviderSettings, Settings, Tokens};
use serde_json::Value;

const API_KEY: &str = "fuzz-api-key-0123456789";
const SECRET: &str = "fuzz-shop-secret-0123456789";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const BEGIN: &str = "client_id=shop&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the request's framing is up to; the connection has one request.
const OURS: [&str; 5] = ["content-length", "transfer-encoding", "connection", "upgrade", "expect"];

/// Every request is answered, none by failing; none changes a login whose secrets it has not.
pub(crate) fn check(data: &[u8]) {
    static STAGE: OnceLock<Mutex<Stage>> = OnceLock::new();
    let stage = STAGE.get_or_init(|| Mutex::new(Stage::new()));
    stage.lock().unwrap_or_else(PoisonError::into_inner).check(data);
}

struct Stage {
    server: Server,
    own: Login,
    /// Nobody has its secrets.
    bystander: Login,
}

struct Login {
    device_code: String,
    version: Value,
    /// What the braces stand for.
    words: Vec<(&'static str, String)>,
}

impl Stage {
    fn new() -> Self {
        let day = Duration::from_secs(86_400);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut settings = Settings::default();
        (settings.public.listen, settings.text.listen, settings.api.listen) = (any, any, any);
        settings.api.keys = vec![ApiKey { name: "fuzz".into(), secret: API_KEY.into(), expires: None }];
        settings.tokens =
            Tokens { key: Some("0123456789abcdef0123456789abcdef".into()), ..Tokens::default() };
        let shop = LoginClient {
            secret: Some(Digest::of(SECRET)),
            redirect_uris: vec!["https://shop.example/after".into()],
            ..LoginClient::new("shop", "Example Shop")
        };
        settings.login.rules.clients = vec![shop];
        settings.login.rules.created_ttl = day;
        settings.login.rules.rotate = day;
        settings.providers = vec![ProviderSettings {
            name: "demo".into(),
            kind: "demo".into(),
            ..ProviderSettings::default()
        }];
        let server = Server::start(settings).expect("the server starts");
        let public = server.addresses().public;
        Self { own: Login::begin(public), bystander: Login::begin(public), server }
    }

    fn check(&mut self, data: &[u8]) {
        let public = self.server.addresses().public;
        let text = |word: &[u8]| data.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word));
        if [&b"since"[..], b"wait", b"/events", b"/poll"].into_iter().any(text) {
            // It would rightly wait.
            return;
        }
        if text(b"{") && !self.own.is_open(public) {
            self.own = Login::begin(public);
        }
        let (target, headers, body) = self.request(data);
        let for_backend = [" /v1/redeem", " /v1/logins"].iter().any(|path| target.contains(path));
        let (address, key) = match for_backend {
            true => (self.server.addresses().api, format!("Authorization: Bearer {API_KEY}\r\n")),
            false => (public, String::new()),
        };
        let answer = ask(address, &target, &[headers.as_slice(), key.as_bytes()].concat(), &body);
        assert!(answer.starts_with("HTTP/1."), "no answer to {target:?}: {answer:?}");
        let status = &answer[9..12];
        assert!(!status.starts_with('5') || status == "503", "{answer}");
        // Whoever says a secret in a path may read it in the answer that there is no such path.
        let said = [target.as_bytes(), &headers, &body].concat();
        let says = |secret: &str| said.windows(secret.len()).any(|window| window == secret.as_bytes());
        let told = |secret: &&str| answer.contains(*secret) && !says(secret);
        let secrets = [API_KEY, SECRET, &self.bystander.device_code];
        assert!(!secrets.iter().any(told), "{answer}");

        let bystander = look(public, &self.bystander.device_code);
        let now = (&bystander["state"], &bystander["version"]);
        assert_eq!(now, (&Value::from("pending"), &self.bystander.version), "after {target:?}");
    }

    /// The request line, header lines and body that the data stand for.
    fn request(&self, data: &[u8]) -> (String, Vec<u8>, Vec<u8>) {
        let mut data = data.to_vec();
        for (word, meant) in &self.own.words {
            replace(&mut data, word.as_bytes(), meant.as_bytes());
        }
        let mut lines = data.split(|byte| *byte == b'\n');
        let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let target: String = first.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        let mut headers = Vec::new();
        for line in lines.by_ref() {
            if line.is_empty() {
                break;
            }
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
            if !OURS.contains(&name.as_str()) {
                headers.extend(line.iter().filter(|byte| !matches!(byte, b'\r' | 0)));
                headers.extend_from_slice(b"\r\n");
            }
        }
        (target, headers, lines.collect::<Vec<_>>().join(&b'\n'))
    }
}

impl Login {
    /// Begins one, and opens its page on a phone.
    fn begin(public: SocketAddr) -> Self {
        let begun = ask(public, "POST /v1/device_authorization", FORM.as_bytes(), BEGIN.as_bytes());
        let view = json(&begun);
        let text = |name: &str| view[name].as_str().unwrap_or_else(|| panic!("{name}: {begun}")).to_owned();
        let complete = text("verification_uri_complete");
        let qr = complete.rsplit_once('/').map(|(_, qr)| qr.to_owned()).expect("an address");
        let page = ask(public, &format!("GET /s/{qr}"), b"", b"");
        let between = |before: &str, after: char| {
            let rest = page.split_once(before).unwrap_or_else(|| panic!("{before}: {page}")).1;
            rest.split(after).next().unwrap_or_default().to_owned()
        };
        let visit = between("doorbell_visit=", ';');
        let field = page.split('<').find(|tag| tag.contains("name=\"page_token\"")).expect("a field");
        let page_token = field.split_once("value=\"").expect("a value").1.split('"').next();
        let words = vec![
            ("{device_code}", text("device_code")),
            ("{login}", text("login")),
            ("{user_code}", text("user_code")),
            ("{qr}", qr),
            ("{visit}", visit),
            ("{page_token}", page_token.unwrap_or_default().to_owned()),
            ("{secret}", SECRET.to_owned()),
            ("{verifier}", VERIFIER.to_owned()),
        ];
        Self { device_code: text("device_code"), version: view["version"].clone(), words }
    }

    fn is_open(&self, public: SocketAddr) -> bool {
        matches!(look(public, &self.device_code)["state"].as_str(), Some("pending" | "scanned"))
    }
}

/// How a login is, as its page sees it.
fn look(public: SocketAddr, device_code: &str) -> Value {
    let headers = format!("Authorization: Bearer {device_code}\r\n");
    json(&ask(public, "GET /v1/login", headers.as_bytes(), b""))
}

fn json(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// The whole answer to one request.
fn ask(address: SocketAddr, target: &str, headers: &[u8], body: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).expect("the server accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let named = headers.to_ascii_lowercase().windows(5).any(|name| name == b"host:");
    let host = if named { String::new() } else { format!("Host: {address}\r\n") };
    let length = body.len();
    let head = format!("{target} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n");
    // Who is refused for its head may not get to send its body.
    let _ = socket.write_all(&[head.as_bytes(), headers, b"\r\n", body].concat());
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Ok(_) => {}
        // What was sent and not read resets the connection, after the answer.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{target:?}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn replace(data: &mut Vec<u8>, word: &[u8], meant: &[u8]) {
    let mut from = 0;
    while let Some(at) = data[from..].windows(word.len()).position(|window| window == word) {
        let at = from + at;
        data.splice(at..at + word.len(), meant.iter().copied());
        from = at + meant.len();
    }
}
