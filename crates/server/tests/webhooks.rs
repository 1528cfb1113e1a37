//! Webhooks as a receiver meets them: signed, in order, tried again, bounded.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorbell_server::settings::Settings;
use serde_json::{Value, json};
use support::{PATIENCE, Page, eventually, metric, settings, start};

const SECRET: &str = "a secret of the webhooks' own";

/// One request a receiver got.
#[derive(Debug, Clone)]
struct Got {
    id: String,
    timestamp: u64,
    signature: String,
    text: String,
    body: Value,
}

impl Got {
    fn event(&self) -> (&str, &str) {
        (self.body["type"].as_str().expect("a type"), self.body["data"]["uid"].as_str().expect("a uid"))
    }

    fn is_signed_with(&self, secret: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signed = format!("{}.{}.{}", self.id, self.timestamp, self.text);
        let signature = self.signature.strip_prefix("v1,").expect("version 1");
        hmac::verify(&key, signed.as_bytes(), &STANDARD.decode(signature).expect("base64")).is_ok()
    }
}

/// What the receiver does with one request.
enum Reply {
    Status(&'static str),
    /// After the test has said so.
    Wait(mpsc::Receiver<()>, &'static str),
    /// Keeps the connection open and says nothing.
    Hang,
}

type Script = Arc<Mutex<dyn FnMut(&Got) -> Reply + Send>>;

/// A receiver that does as its script says.
struct Receiver {
    address: SocketAddr,
    got: mpsc::Receiver<Got>,
}

impl Receiver {
    fn start(script: impl FnMut(&Got) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (sender, got) = mpsc::channel();
        let script: Script = Arc::new(Mutex::new(script));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (script, sender) = (Arc::clone(&script), sender.clone());
                std::thread::spawn(move || serve(&socket.expect("a connection"), &script, &sender));
            }
        });
        Self { address, got }
    }

    fn next(&self) -> Got {
        self.got.recv_timeout(PATIENCE).expect("a webhook in time")
    }

    fn url(&self) -> String {
        format!("http://{}/hook?from=doorbell", self.address)
    }
}

/// Answers requests until the other end hangs up.
fn serve(socket: &TcpStream, script: &Script, sender: &mpsc::Sender<Got>) {
    let mut reader = BufReader::new(socket);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        assert_eq!(head[0], "POST /hook?from=doorbell HTTP/1.1");
        let header = |name: &str| {
            let pairs = head.iter().filter_map(|line| line.split_once(": "));
            pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
        };
        assert_eq!(header("content-type"), Some("application/json"));
        let mut body = vec![0; header("content-length").expect("a length").parse().expect("a number")];
        reader.read_exact(&mut body).expect("a body");
        let text = String::from_utf8(body).expect("text");
        let got = Got {
            id: header("webhook-id").expect("an id").to_owned(),
            timestamp: header("webhook-timestamp").expect("a time").parse().expect("seconds"),
            signature: header("webhook-signature").expect("a signature").to_owned(),
            body: serde_json::from_str(&text).expect("JSON"),
            text,
        };
        let reply = (script.lock().expect("no poison"))(&got);
        let _ = sender.send(got);
        let status = match reply {
            Reply::Status(status) => status,
            Reply::Wait(gate, status) => {
                let _ = gate.recv_timeout(PATIENCE);
                status
            }
            Reply::Hang => {
                let _ = reader.read_line(&mut String::new());
                return;
            }
        };
        if (&mut &*socket)
            .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())
            .is_err()
        {
            return;
        }
    }
}

const OK: &str = "204 No Content";
const BROKEN: &str = "500 Internal Server Error";

/// Webhooks to `receiver`, told at once and tried again soon.
fn with(receiver: &Receiver) -> Settings {
    let mut settings = settings();
    settings.webhooks.urls = vec![receiver.url()];
    settings.webhooks.secret = Some(SECRET.into());
    settings.webhooks.offline_after = Duration::ZERO;
    settings.webhooks.retry_first = Duration::from_millis(10);
    settings.limits.drain_timeout = Duration::from_secs(10);
    settings
}

#[test]
fn the_first_connection_and_the_last_one_gone_are_told_and_signed() {
    let receiver = Receiver::start(|_| Reply::Status(OK));
    let server = start(with(&receiver));
    let public = server.addresses().public;
    let (first, second) = (Page::bind(public, "u"), Page::bind(public, "u"));
    let online = receiver.next();
    assert_eq!(online.body["type"], "user.online");
    assert_eq!(online.body["data"], json!({"uid": "u"}));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    for time in [online.timestamp, online.body["timestamp"].as_u64().expect("seconds")] {
        assert!((now - 60..=now).contains(&time), "{time} is about {now}");
    }
    assert!(online.is_signed_with(SECRET));
    assert!(!online.is_signed_with("another secret"));
    drop(first);
    eventually("the first page is gone", || metric(&server, "doorbell_bound_connections") == 1);
    drop(second);
    let offline = receiver.next();
    assert_eq!(offline.event(), ("user.offline", "u"), "and nothing in between");
    assert!(offline.is_signed_with(SECRET));
    assert_ne!(online.id, offline.id);
    let delivered = r#"doorbell_webhook_events_total{event="user.offline",result="delivered"}"#;
    eventually("it is counted", || metric(&server, delivered) == 1);
    assert_eq!(metric(&server, "doorbell_webhook_queued_events"), 0);
    assert_eq!(metric(&server, "doorbell_webhook_queued_bytes"), 0);
}

#[test]
fn a_brief_absence_is_not_told_and_a_stopping_server_tells_the_others() {
    let receiver = Receiver::start(|_| Reply::Status(OK));
    let mut settings = with(&receiver);
    settings.webhooks.offline_after = Duration::from_secs(3_600);
    let server = start(settings);
    let public = server.addresses().public;
    let page = Page::bind(public, "brief");
    assert_eq!(receiver.next().event(), ("user.online", "brief"));
    drop(page);
    eventually("it is away", || metric(&server, "doorbell_users") == 0);
    let mut back = Page::bind(public, "brief");
    let leaver = Page::bind(public, "leaver");
    assert_eq!(receiver.next().event(), ("user.online", "leaver"));
    drop(leaver);
    eventually("it is away", || metric(&server, "doorbell_users") == 1);
    let hangs_up = std::thread::spawn(move || while back.try_frame().is_some() {});
    let _ = server.drain();
    hangs_up.join().expect("a Close frame");
    let rest: Vec<Got> = receiver.got.try_iter().collect();
    let rest: Vec<_> = rest.iter().map(Got::event).collect();
    assert_eq!(
        rest,
        [("user.offline", "leaver")],
        "the page that the server sent away is not said to be gone"
    );
}

#[test]
fn a_failed_webhook_is_tried_again_under_the_same_id() {
    let mut failures = ["503 Service Unavailable\r\nRetry-After: 0", BROKEN].into_iter();
    let receiver = Receiver::start(move |_| Reply::Status(failures.next().unwrap_or(OK)));
    let server = start(with(&receiver));
    let _page = Page::bind(server.addresses().public, "u");
    let tries = [receiver.next(), receiver.next(), receiver.next()];
    for one in &tries {
        assert_eq!((one.event(), &one.id), (("user.online", "u"), &tries[0].id));
        assert!(one.is_signed_with(SECRET));
    }
    let delivered = r#"doorbell_webhook_events_total{event="user.online",result="delivered"}"#;
    eventually("it is counted", || metric(&server, delivered) == 1);
    assert_eq!(metric(&server, r#"doorbell_webhook_tries_total{result="status"}"#), 2);
    assert_eq!(metric(&server, r#"doorbell_webhook_tries_total{result="ok"}"#), 1);
    assert_eq!(metric(&server, "doorbell_webhook_try_duration_seconds_count"), 3);
}

#[test]
fn one_uid_stays_in_order_and_nobody_else_waits_for_it() {
    let (open, gate) = mpsc::channel();
    let mut gate = Some(gate);
    let receiver = Receiver::start(move |got| match got.event() {
        ("user.online", "slow") => gate.take().map_or(Reply::Status(OK), |gate| Reply::Wait(gate, BROKEN)),
        _ => Reply::Status(OK),
    });
    let server = start(with(&receiver));
    let public = server.addresses().public;
    let slow = Page::bind(public, "slow");
    assert_eq!(receiver.next().event(), ("user.online", "slow"));
    drop(slow);
    eventually("it is away", || metric(&server, "doorbell_users") == 0);
    let other = Page::bind(public, "other");
    assert_eq!(receiver.next().event(), ("user.online", "other"));
    drop(other);
    assert_eq!(receiver.next().event(), ("user.offline", "other"));
    open.send(()).expect("the receiver waits");
    assert_eq!(receiver.next().event(), ("user.online", "slow"), "tried again before what came after it");
    assert_eq!(receiver.next().event(), ("user.offline", "slow"));
}

#[test]
fn a_receiver_that_hangs_costs_its_time_and_is_given_up() {
    let receiver = Receiver::start(|got| match got.event() {
        ("user.online", _) => Reply::Hang,
        _ => Reply::Status(OK),
    });
    let mut settings = with(&receiver);
    settings.webhooks.timeout = Duration::from_millis(100);
    settings.webhooks.tries = 2;
    let server = start(settings);
    drop(Page::bind(server.addresses().public, "u"));
    let events = [receiver.next(), receiver.next(), receiver.next()];
    let events: Vec<_> = events.iter().map(Got::event).collect();
    assert_eq!(events, [("user.online", "u"), ("user.online", "u"), ("user.offline", "u")]);
    let given_up = r#"doorbell_webhook_events_total{event="user.online",result="given_up"}"#;
    assert_eq!(metric(&server, given_up), 1);
    assert_eq!(metric(&server, r#"doorbell_webhook_tries_total{result="timeout"}"#), 2);
}

#[test]
fn a_receiver_that_is_gone_is_left_alone_until_a_reload() {
    let mut gone = Some("410 Gone");
    let receiver = Receiver::start(move |_| Reply::Status(gone.take().unwrap_or(OK)));
    let settings = with(&receiver);
    let mut server = start(settings.clone());
    let public = server.addresses().public;
    let _one = Page::bind(public, "one");
    assert_eq!(receiver.next().event(), ("user.online", "one"));
    let count = r#"doorbell_webhook_events_total{event="user.online",result="gone"}"#;
    eventually("it is given up without another try", || metric(&server, count) == 1);
    let _two = Page::bind(public, "two");
    eventually("the next is not even tried", || metric(&server, count) == 2);
    server.reload(settings).expect("good settings");
    let _three = Page::bind(public, "three");
    assert_eq!(receiver.next().event(), ("user.online", "three"));
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(|_| Reply::Status(OK));
    let location: &'static str =
        Box::leak(format!("307 Temporary Redirect\r\nLocation: {}", elsewhere.url()).into_boxed_str());
    let receiver = Receiver::start(move |_| Reply::Status(location));
    let mut settings = with(&receiver);
    settings.webhooks.tries = 1;
    let server = start(settings);
    let _page = Page::bind(server.addresses().public, "u");
    let given_up = r#"doorbell_webhook_events_total{event="user.online",result="given_up"}"#;
    eventually("it is given up", || metric(&server, given_up) == 1);
    assert_eq!(metric(&server, r#"doorbell_webhook_tries_total{result="redirect"}"#), 1);
    assert!(elsewhere.got.try_recv().is_err());
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let (doors, mut gates): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel()).unzip();
    let receiver =
        Receiver::start(move |_| gates.pop().map_or(Reply::Status(OK), |gate| Reply::Wait(gate, OK)));
    let mut settings = with(&receiver);
    settings.webhooks.queue_messages = 2;
    let server = start(settings);
    let public = server.addresses().public;
    let _pages = ["0", "1"].map(|uid| {
        let page = Page::bind(public, uid);
        assert_eq!(receiver.next().event(), ("user.online", uid));
        page
    });
    let _unlucky = Page::bind(public, "2");
    let dropped = r#"doorbell_webhook_events_total{event="user.online",result="dropped"}"#;
    eventually("the third is dropped", || metric(&server, dropped) == 1);
    assert_eq!(metric(&server, "doorbell_webhook_queued_events"), 2);
    for door in doors {
        door.send(()).expect("the receiver waits");
    }
    eventually("the others leave", || metric(&server, "doorbell_webhook_queued_events") == 0);
    let _later = Page::bind(public, "3");
    assert_eq!(receiver.next().event(), ("user.online", "3"));
}

#[test]
fn a_dead_receiver_does_not_hold_up_a_stop() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let mut settings = settings();
    settings.webhooks.urls = vec![format!("http://{address}/")];
    settings.webhooks.secret = Some(SECRET.into());
    settings.webhooks.retry_first = Duration::from_secs(3_600);
    settings.webhooks.retry_max = Duration::from_secs(3_600);
    settings.limits.drain_timeout = Duration::from_secs(600);
    let server = start(settings);
    let page = Page::bind(server.addresses().public, "u");
    eventually("it has failed once", || {
        metric(&server, r#"doorbell_webhook_tries_total{result="connect"}"#) == 1
    });
    drop(page);
    let _ = server.drain();
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let mut without = settings();
    without.webhooks.urls = vec!["https://www.example.com/".into()];
    assert!(doorbell_server::Server::start(without.clone()).is_err(), "no secret");
    without.webhooks.secret = Some(SECRET.into());
    without.webhooks.urls = vec!["ftp://www.example.com/".into()];
    assert!(doorbell_server::Server::start(without).is_err(), "no web address");
}
