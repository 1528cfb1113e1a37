//! Clients whose connections break all the time, while messages pour in: each gets every message of its uid exactly
//! once and in order, whatever the transport, with TLS and without, and is told of what fell out of the mailbox.
//!
//! `DOORBELL_TORTURE=full` makes it 1,000 clients and 100,000 messages.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use doorbell_server::Server;
use doorbell_server::settings::Settings;
use rustls::ClientConfig;
use serde_json::{Value, json};
use support::tls::{Identity, Link};
use support::{Backend, Events, PATIENCE, Page, api, eventually, metric, push, request_on, settings, start};

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

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// FIN, and what still comes is thrown away.
    Fin,
    /// RST, whatever is under way.
    Reset,
    /// The server has written, nobody reads, and the system sends RST for it.
    Unread,
    /// Nothing that the server sends arrives any more, not even at the system: a phone has lost its network.
    HalfOpen,
}

const CUTS: [Cut; 4] = [Cut::Fin, Cut::Reset, Cut::Unread, Cut::HalfOpen];
const TRANSPORTS: [&str; 3] = ["websocket", "sse", "poll"];

/// What all clients of a run share.
#[derive(Default)]
struct Run {
    /// How clients speak TLS, if they do.
    tls: Option<Arc<ClientConfig>>,
    /// How often each transport was cut in each way.
    cuts: [[AtomicUsize; CUTS.len()]; TRANSPORTS.len()],
    /// Rounds of pushes that are done.
    round: Mutex<usize>,
    next_round: Condvar,
}

impl Run {
    fn advance(&self) {
        *self.round.lock().expect("no poison") += 1;
        self.next_round.notify_all();
    }

    /// Waits until that many rounds are done.
    fn wait_for(&self, round: usize) {
        let now = self.round.lock().expect("no poison");
        let (_now, timeout) =
            self.next_round.wait_timeout_while(now, PATIENCE, |now| *now < round).expect("no poison");
        assert!(!timeout.timed_out(), "round {round} does not come");
    }

    fn now(&self) -> usize {
        *self.round.lock().expect("no poison")
    }

    fn assert_every_cut_was_made(&self) {
        for (transport, cuts) in TRANSPORTS.iter().zip(&self.cuts) {
            for (cut, count) in CUTS.iter().zip(cuts) {
                assert!(count.load(Ordering::Relaxed) > 0, "no {cut:?} on {transport}");
            }
        }
    }
}

/// Lets nothing arrive any more, so that what the server sends is not acknowledged: a filter that accepts no byte
/// (`ret #0`).
fn lose_network(socket: &TcpStream) {
    let nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    socket2::SockRef::from(socket).attach_filter(&nothing).expect("a socket of ours");
}

/// How much may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    None,
    /// What the client was told of. It also stays away for some rounds now and then.
    Told,
}

/// Where a client left off, what it has got, and what it misses.
struct Client<'a> {
    run: &'a Run,
    public: SocketAddr,
    uid: String,
    transport: usize,
    /// Messages there will be; the last one is always kept.
    each: usize,
    loss: Loss,
    place: Option<(String, u64)>,
    /// The number of the next message to come.
    next: usize,
    /// It was told `recovered:false`, and has not had a message since.
    told: bool,
    missing: BTreeSet<usize>,
    dice: Dice,
    /// Connections that are half-open.
    abandoned: Vec<TcpStream>,
}

impl<'a> Client<'a> {
    fn new(run: &'a Run, public: SocketAddr, number: usize, each: usize, loss: Loss) -> Self {
        let dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1));
        Self {
            run,
            public,
            uid: format!("u{number}"),
            transport: number % TRANSPORTS.len(),
            each,
            loss,
            place: None,
            next: 0,
            told: false,
            missing: BTreeSet::new(),
            dice,
            abandoned: Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.next == self.each
    }

    /// Takes a message as the application does: after the one before, or after a gap that was announced.
    fn take(&mut self, message: &Value) {
        let seq = message["seq"].as_u64().expect("a number");
        let (_, last) = self.place.as_mut().expect("welcomed");
        assert!(seq > *last, "{}: {seq} after {last}", self.uid);
        *last = seq;
        let number = message["data"]["n"].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a number");
        let is_next = number == self.next || (self.told && number > self.next);
        assert!(is_next, "{}: {number} where {} was to come", self.uid, self.next);
        self.missing.extend(self.next..number);
        self.next = number + 1;
        self.told = false;
    }

    fn welcomed(&mut self, recovered: &Value, epoch: &str, seq: u64) {
        let recovered = recovered.as_bool().expect("yes or no");
        assert!(recovered || self.loss == Loss::Told, "{}: {:?}", self.uid, self.place);
        self.told |= !recovered;
        self.place = Some((epoch.to_owned(), seq));
    }

    fn welcomed_by(&mut self, welcome: &Value) {
        let seq = welcome["seq"].as_u64().expect("a number");
        self.welcomed(&welcome["recovered"], welcome["epoch"].as_str().expect("a name"), seq);
    }

    /// How many messages to read before the next break.
    fn until_break(&mut self) -> u64 {
        self.dice.below(12)
    }

    /// Ends a connection, one way or another.
    fn cut(&mut self, link: Link) {
        let mut socket = link.into_socket();
        let mut kind = usize::try_from(self.dice.below(CUTS.len() as u64)).expect("small");
        // Few are abandoned, because each holds a place of its uid's.
        if self.abandoned.len() >= 5 {
            kind %= CUTS.len() - 1;
        }
        // Whoever has everything may wait in vain for one more.
        if self.is_done() {
            kind = 0;
        }
        self.run.cuts[self.transport][kind].fetch_add(1, Ordering::Relaxed);
        match CUTS[kind] {
            Cut::Fin => {
                // It may be closed already: then the server has said all it will.
                let _ = socket.shutdown(Shutdown::Write);
                let mut rest = Vec::new();
                let _ = socket.read_to_end(&mut rest);
            }
            Cut::Reset => {
                let linger = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                linger.expect("a socket");
            }
            Cut::Unread => {
                let written = socket.peek(&mut [0]).expect("something in time");
                assert!(written > 0, "{}: closed, not written to", self.uid);
            }
            Cut::HalfOpen => {
                lose_network(&socket);
                self.abandoned.push(socket);
            }
        }
        if self.loss == Loss::Told && self.dice.below(4) == 0 {
            let away = usize::try_from(self.dice.below(25)).expect("small");
            self.run.wait_for((self.run.now() + away).min(self.each));
        }
    }

    fn link(&self) -> Link {
        Link::connect(self.public, self.run.tls.as_ref())
    }

    /// Goes on until it has had, or was told to miss, everything.
    fn run(&mut self) {
        while !self.is_done() {
            self.connect_once();
        }
    }

    /// Connects, takes some messages and breaks off.
    fn connect_once(&mut self) {
        match self.transport {
            0 => self.by_websocket(),
            1 => self.by_events(),
            _ => self.by_poll(),
        }
    }

    /// Says who it is, and goes.
    fn first_place(&mut self) {
        match self.transport {
            0 => {
                let mut page = Page::upgrade_on(self.link(), "Sec-WebSocket-Protocol: doorbell.v1\r\n");
                page.text(&json!({"type": "hello", "token": self.uid}).to_string());
                self.welcomed_by(&serde_json::from_str(&page.message()).expect("an envelope"));
            }
            1 => {
                let (_, _, welcome) = Events::open_on(self.link(), &self.uid, "");
                self.welcomed_by(&welcome);
            }
            _ => self.by_poll(),
        }
    }

    fn by_websocket(&mut self) {
        let mut page = Page::upgrade_on(self.link(), "Sec-WebSocket-Protocol: doorbell.v1\r\n");
        let mut hello = json!({"type": "hello", "token": self.uid});
        if let Some((epoch, seq)) = &self.place {
            hello["resume"] = json!({"epoch": epoch, "seq": seq});
        }
        page.text(&hello.to_string());
        self.welcomed_by(&serde_json::from_str(&page.message()).expect("an envelope"));
        for _ in 0..self.until_break() {
            if self.is_done() {
                break;
            }
            let message: Value = serde_json::from_str(&page.message()).expect("an envelope");
            self.take(&message);
            if self.dice.below(3) == 0 {
                page.text(&json!({"type": "ack", "seq": message["seq"]}).to_string());
            }
        }
        self.cut(page.0);
    }

    fn by_events(&mut self) {
        let resume = self.place.as_ref().map(|(epoch, seq)| format!("Last-Event-ID: {epoch}:{seq}\r\n"));
        let (mut events, _, welcome) = Events::open_on(self.link(), &self.uid, &resume.unwrap_or_default());
        self.welcomed_by(&welcome);
        for _ in 0..self.until_break() {
            if self.is_done() {
                break;
            }
            let (_, _, message) = events.next();
            self.take(&message);
        }
        self.cut(events.0);
    }

    fn by_poll(&mut self) {
        let (since, wait) = match &self.place {
            Some((epoch, seq)) => (format!("since={epoch}:{seq}&"), 5),
            // It wants a place to ask from.
            None => (String::new(), 0),
        };
        let path = format!("/v1/poll?{since}wait={wait}");
        let authorization = format!("Authorization: Bearer {}\r\n", self.uid);
        if self.place.is_some() && self.dice.below(3) == 0 {
            // Asks and does not take the answer.
            let mut link = self.link();
            let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n");
            link.write_all(ask.as_bytes()).expect("the server reads");
            self.cut(link);
            return;
        }
        let headers = format!("Host: x\r\n{authorization}");
        let (status, body) = request_on(self.link(), "GET", &path, &headers, "");
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let next = answer["next"].as_str().expect("a place");
        let (epoch, seq) = next.rsplit_once(':').expect("a place");
        let since = self.place.as_ref().map_or(0, |(_, seq)| *seq);
        self.welcomed(&answer["recovered"], epoch, since);
        for message in answer["messages"].as_array().expect("an array") {
            self.take(message);
        }
        self.place = Some((epoch.to_owned(), seq.parse().expect("a number")));
    }
}

/// Notices within seconds that a connection is half-open.
fn be_impatient(settings: &mut Settings) {
    settings.limits.ping_interval = Duration::from_secs(1);
    settings.limits.pong_timeout = Duration::from_secs(1);
    settings.limits.close_timeout = Duration::from_secs(1);
}

/// Whether nobody is there any more, as far as anyone can ask.
fn is_deserted(server: &Server) -> bool {
    let (_, listed) = api(server, "GET", "/v1/connections", "");
    listed.contains(r#""connections":[]"#)
        && metric(server, "doorbell_bound_connections") == 0
        && metric(server, r#"doorbell_open_connections{listener="public"}"#) == 0
}

#[test]
fn half_open_connections_are_noticed_on_every_transport() {
    let mut settings = settings();
    be_impatient(&mut settings);
    let server = start(settings);
    let public = server.addresses().public;
    let mut poll = support::connect(public);
    poll.write_all(b"GET /v1/poll?wait=2 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer poll\r\n\r\n")
        .expect("it reads");
    let pages = [
        Page::bind(public, "plain").0,
        support::Client::hello(&server, "websocket", None).0.0.0,
        Events::open(public, "sse", "").0.0,
        poll,
    ];
    eventually("all to be there", || metric(&server, "doorbell_bound_connections") == 4);
    pages.iter().for_each(lose_network);
    eventually("all to be gone", || is_deserted(&server));
    let silent = r#"doorbell_refused_total{listener="public",reason="pong_timeout"}"#;
    assert_eq!(metric(&server, silent), 2, "the WebSockets");
    drop(pages);
}

#[test]
fn broken_connections_lose_and_repeat_nothing() {
    let full = std::env::var("DOORBELL_TORTURE").is_ok_and(|torture| torture == "full");
    let (clients, each) = if full { (1_000, 100) } else { (90, 200) };
    break_connections(clients, each, settings(), Run::default());
}

#[test]
fn broken_connections_lose_and_repeat_nothing_over_tls() {
    let identity = Identity::new();
    let run = Run { tls: Some(identity.client()), ..Run::default() };
    break_connections(90, 200, identity.settings(), run);
}

fn break_connections(clients: usize, each: usize, mut settings: Settings, run: Run) {
    settings.text.hold = Duration::from_secs(300);
    settings.mailbox.messages = 10_000;
    be_impatient(&mut settings);
    let server = start(settings);
    let addresses = server.addresses();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|number| {
                let mut client = Client::new(&run, addresses.public, number, each, Loss::None);
                scope.spawn(move || {
                    client.run();
                    client.abandoned
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
        let clients = clients.into_iter().map(|client| client.join().expect("every client got everything"));
        let abandoned: Vec<_> = clients.flatten().collect();
        eventually("half-open connections to be noticed", || is_deserted(&server));
        drop(abandoned);
    });
    run.assert_every_cut_was_made();
    assert_eq!(metric(&server, "doorbell_mailbox_lost"), 0);
}

#[test]
fn what_falls_out_of_the_mailbox_is_told_and_counted_and_nothing_else_is_missing() {
    const CLIENTS: usize = 30;
    const EACH: usize = 400;
    let mut settings = settings();
    settings.mailbox.messages = 5;
    settings.trail.memory = 64 << 20;
    let server = start(settings);
    let run = Run::default();
    let missing: BTreeMap<String, BTreeSet<usize>> = std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|number| {
            let mut client = Client::new(&run, server.addresses().public, number, EACH, Loss::Told);
            // From now on it has a place, so that nothing can go without its being told.
            client.first_place();
            client
        });
        let clients: Vec<_> = clients
            .map(|mut client| {
                scope.spawn(move || {
                    client.run();
                    (client.uid, client.missing)
                })
            })
            .collect();
        let uids: Vec<_> = (0..CLIENTS).map(|number| format!("u{number}")).collect();
        for number in 0..EACH {
            push(&server, &json!({"uids": uids, "id": format!("n{number}"), "data": {"n": number}}));
            run.advance();
        }
        clients.into_iter().map(|client| client.join().expect("nothing is missing in silence")).collect()
    });
    run.assert_every_cut_was_made();

    // The server's account, message by message.
    let (mut lost, mut lost_on_the_way) = (0, 0);
    for number in 0..EACH {
        let (status, body) = api(&server, "GET", &format!("/v1/messages/n{number}"), "");
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let trails = answer["trails"].as_array().expect("an array");
        assert_eq!(trails.len(), CLIENTS, "{answer}");
        for trail in trails {
            let steps = trail["steps"].as_array().expect("an array");
            let has = |step: &str| steps.iter().any(|one| one["step"] == step);
            let fell_out = steps.iter().any(|one| one["reason"] == "evicted");
            assert!(fell_out != has("written"), "it was sent to a connection or fell out: {trail}");
            let is_missing = missing[trail["uid"].as_str().expect("a uid")].contains(&number);
            assert!(is_missing || !fell_out, "the client has what the server lost: {trail}");
            lost += u64::from(fell_out);
            lost_on_the_way += u64::from(is_missing && !fell_out);
        }
    }
    let all: usize = missing.values().map(BTreeSet::len).sum();
    assert_eq!(metric(&server, "doorbell_mailbox_lost"), lost);
    assert_eq!(all as u64, lost + lost_on_the_way);
    for (transport, name) in TRANSPORTS.iter().enumerate() {
        let some = (transport..CLIENTS).step_by(3).any(|number| !missing[&format!("u{number}")].is_empty());
        assert!(some, "nothing fell out on {name}");
    }
    assert!(lost > 0);
}
