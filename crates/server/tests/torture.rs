//! Clients whose connections break all the time, while messages pour in: each gets every message of its uid exactly
//! once and in order, whatever the transport.
//!
//! `DOORBELL_TORTURE=full` makes it 1,000 clients and 100,000 messages.

mod support;

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Backend, Events, Page, metric, request, settings, start};

/// A small generator (xorshift64*): the breaks of a run follow from its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Where a client left off, and what it has got.
struct Client {
    public: SocketAddr,
    uid: String,
    place: Option<(String, u64)>,
    got: Vec<u64>,
    dice: Dice,
    /// Connections left open and unread, as by a phone that lost its network.
    abandoned: Vec<TcpStream>,
}

impl Client {
    fn take(&mut self, message: &Value) {
        let seq = message["seq"].as_u64().expect("a number");
        let (_, last) = self.place.as_mut().expect("welcomed");
        assert!(seq > *last, "{}: {seq} after {last}", self.uid);
        *last = seq;
        self.got.push(message["data"]["n"].as_u64().expect("a number"));
    }

    fn welcomed(&mut self, welcome: &Value) {
        assert_eq!(welcome["recovered"], true, "{}: {welcome}", self.uid);
        let epoch = welcome["epoch"].as_str().expect("a name").to_owned();
        self.place = Some((epoch, welcome["seq"].as_u64().expect("a number")));
    }

    /// How many messages to read before the next break.
    fn until_break(&mut self, wanted: usize) -> usize {
        let most = usize::try_from(self.dice.below(12)).expect("small");
        most.min(wanted - self.got.len())
    }

    fn break_off(&mut self, socket: TcpStream) {
        match self.dice.below(4) {
            0 => drop(socket),
            1 => {
                // Bytes not read when it closes make the system send RST.
                let _ = socket.shutdown(Shutdown::Write);
            }
            2 => reset_on_close(&socket),
            // Few, because each holds a place of its uid's.
            _ if self.abandoned.len() < 5 => self.abandoned.push(socket),
            _ => drop(socket),
        }
    }

    fn by_websocket(&mut self, wanted: usize) {
        while self.got.len() < wanted {
            let mut page = Page::upgrade(self.public, "Sec-WebSocket-Protocol: doorbell.v1\r\n");
            let mut hello = json!({"type": "hello", "token": self.uid});
            if let Some((epoch, seq)) = &self.place {
                hello["resume"] = json!({"epoch": epoch, "seq": seq});
            }
            page.text(&hello.to_string());
            self.welcomed(&serde_json::from_str(&page.message()).expect("an envelope"));
            for _ in 0..self.until_break(wanted) {
                let message: Value = serde_json::from_str(&page.message()).expect("an envelope");
                self.take(&message);
                if self.dice.below(3) == 0 {
                    page.text(&json!({"type": "ack", "seq": message["seq"]}).to_string());
                }
            }
            self.break_off(page.0);
        }
    }

    fn by_events(&mut self, wanted: usize) {
        while self.got.len() < wanted {
            let resume = self.place.as_ref().map(|(epoch, seq)| format!("Last-Event-ID: {epoch}:{seq}\r\n"));
            let (mut events, _, welcome) = Events::open(self.public, &self.uid, &resume.unwrap_or_default());
            self.welcomed(&welcome);
            for _ in 0..self.until_break(wanted) {
                let (_, _, message) = events.next();
                self.take(&message);
            }
            self.break_off(events.0);
        }
    }

    fn by_polls(&mut self, wanted: usize) {
        while self.got.len() < wanted {
            let since = self.place.as_ref().map(|(epoch, seq)| format!("since={epoch}:{seq}&"));
            let path = format!("/v1/poll?{}wait=10", since.unwrap_or_default());
            let authorization = format!("Authorization: Bearer {}\r\n", self.uid);
            if self.dice.below(4) == 0 {
                // Asks and does not stay for the answer.
                let mut socket = support::connect(self.public);
                let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n");
                socket.write_all(ask.as_bytes()).expect("the server reads");
                self.break_off(socket);
                continue;
            }
            let (status, body) = request(self.public, "GET", &path, &authorization, "");
            assert_eq!(status, 200, "{body}");
            let answer: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(answer["recovered"], true, "{answer}");
            for message in answer["messages"].as_array().expect("an array") {
                let seq = message["seq"].as_u64().expect("a number");
                assert!(self.place.as_ref().is_none_or(|(_, last)| seq > *last), "{answer}");
                self.got.push(message["data"]["n"].as_u64().expect("a number"));
            }
            let next = answer["next"].as_str().expect("a place");
            let (epoch, seq) = next.rsplit_once(':').expect("a place");
            self.place = Some((epoch.to_owned(), seq.parse().expect("a number")));
        }
    }
}

fn reset_on_close(socket: &TcpStream) {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).expect("a socket");
}

#[test]
fn broken_connections_lose_and_repeat_nothing() {
    let full = std::env::var("DOORBELL_TORTURE").is_ok_and(|torture| torture == "full");
    let (clients, each) = if full { (1_000u64, 100usize) } else { (90, 200) };
    let mut settings = settings();
    settings.text.hold = Duration::from_secs(300);
    settings.mailbox.messages = 10_000;
    let server = start(settings);
    let addresses = server.addresses();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|number| {
                scope.spawn(move || {
                    let mut client = Client {
                        public: addresses.public,
                        uid: format!("u{number}"),
                        place: None,
                        got: Vec::new(),
                        dice: Dice(0x9e37_79b9_7f4a_7c15 ^ (number + 1)),
                        abandoned: Vec::new(),
                    };
                    match number % 3 {
                        0 => client.by_websocket(each),
                        1 => client.by_events(each),
                        _ => {
                            // A first poll gives it a place to ask from.
                            let authorization = format!("Authorization: Bearer {}\r\n", client.uid);
                            let (_, body) =
                                request(client.public, "GET", "/v1/poll?wait=10", &authorization, "");
                            let answer: Value = serde_json::from_str(&body).expect("JSON");
                            let next = answer["next"].as_str().expect("a place");
                            let (epoch, seq) = next.rsplit_once(':').expect("a place");
                            client.place = Some((epoch.to_owned(), seq.parse().expect("a number")));
                            for message in answer["messages"].as_array().expect("an array") {
                                client.got.push(message["data"]["n"].as_u64().expect("a number"));
                            }
                            client.by_polls(each);
                        }
                    }
                    let expected: Vec<u64> = (0..each as u64).collect();
                    assert_eq!(client.got, expected, "{}", client.uid);
                })
            })
            .collect();
        let mut backend = Backend::connect(addresses.text);
        for number in 0..each {
            for uid in 0..clients.len() {
                let answer = backend.line(&format!(r#"{{"uid":"u{uid}","n":{number}}}"#));
                assert!(answer == "ok" || answer == "held", "{answer}");
            }
        }
        for client in clients {
            client.join().expect("every client got everything");
        }
    });
    assert_eq!(metric(&server, "doorbell_mailbox_lost"), 0);
}
