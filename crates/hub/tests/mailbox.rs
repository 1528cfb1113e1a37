//! The mailbox against a model: a page that comes back gets everything it missed, once and in order, or is told that
//! something is gone. Never a silent gap, never a message twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbell_hub::{BindError, Body, CatchUp, Greeting, Hub, Message, Now, Outbox, Post, Retention, Sent};
use doorbell_protocol::Uid;
use proptest::prelude::*;

/// A connection that can resume and keeps what it gets: the message's index in the test, which is its data.
#[derive(Debug)]
struct Page {
    uid: Uid,
    seen: AtomicU64,
    got: Mutex<Vec<(u64, usize)>>,
    /// Milliseconds.
    linger: AtomicU64,
}

impl Page {
    fn new(uid: Uid) -> Self {
        Self { uid, seen: AtomicU64::new(0), got: Mutex::default(), linger: AtomicU64::new(0) }
    }
}

impl Outbox for Page {
    fn uid(&self) -> Option<&Uid> {
        Some(&self.uid)
    }

    fn deliver(&self, message: &Message<'_>) -> Sent {
        let frame = message.frame(doorbell_hub::Encoding::Plain);
        let index = std::str::from_utf8(frame).expect("text").parse().expect("a number");
        assert!(message.seq() > self.seen.load(Ordering::SeqCst), "numbers rise on a connection");
        self.seen.store(message.seq(), Ordering::SeqCst);
        self.got.lock().expect("no poison").push((message.seq(), index));
        Sent::Written
    }

    fn linger(&self) -> Duration {
        Duration::from_millis(self.linger.load(Ordering::SeqCst))
    }

    fn settle(&self, seq: u64) {
        self.seen.fetch_max(seq, Ordering::SeqCst);
    }

    fn seen(&self) -> Option<u64> {
        Some(self.seen.load(Ordering::SeqCst))
    }
}

/// A browser: it connects, goes away, and comes back with what it knows.
#[derive(Debug, Default)]
struct Client {
    connection: Option<Arc<Page>>,
    position: Option<u64>,
    /// Indices of the messages it has handled, in order.
    handled: Vec<usize>,
    /// Messages pushed before this index may be missing: it was told so, or was not yet there.
    owed_from: usize,
    /// How many of its connection's messages it has taken over.
    taken: usize,
    left_at: Now,
}

#[derive(Debug, Clone)]
enum Step {
    Push {
        uid: usize,
        ttl: u64,
    },
    Connect(usize),
    Leave(usize),
    /// Leaves, and is expected back.
    Linger(usize),
    /// Comes back before the old connection is known to be gone.
    Overlap(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2usize, prop_oneof![Just(0u64), Just(50), Just(1_000)])
            .prop_map(|(uid, ttl)| Step::Push { uid, ttl }),
        4 => (0..4usize).prop_map(Step::Connect),
        3 => (0..4usize).prop_map(Step::Leave),
        3 => (0..4usize).prop_map(Step::Linger),
        2 => (0..4usize).prop_map(Step::Overlap),
        2 => (1..400u64).prop_map(Step::Pass),
    ]
}

/// Milliseconds.
const LINGER: u64 = 100;

struct World {
    hub: Hub<Page>,
    now: Now,
    clients: Vec<Client>,
    /// Of each message: its uid, its ttl, when it was pushed. What was held is owed, also without a ttl.
    pushed: Vec<(usize, u64, Now)>,
    /// Until when a page of each uid lingers.
    lingers_until: [Now; 2],
    idle: u64,
    roomy: bool,
}

impl World {
    fn new(retention: Retention, roomy: bool) -> Self {
        let hub = Hub::new();
        hub.retain(retention);
        let idle = u64::try_from(retention.idle.as_millis()).expect("short");
        let clients = (0..4).map(|_| Client::default()).collect();
        Self { hub, now: 1, clients, pushed: Vec::new(), lingers_until: [0; 2], idle, roomy }
    }

    /// Clients 0 and 1 are uid 0's, 2 and 3 uid 1's.
    fn uid(client: usize) -> usize {
        client / 2
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Push { uid, ttl } => {
                let index = self.pushed.len();
                self.pushed.push((uid, ttl, self.now));
                let data = index.to_string();
                let body = Body { id: "", data: data.as_bytes(), epoch: "" };
                let post = Post { frame: data.as_bytes(), body, ttl: Duration::from_millis(ttl) };
                let delivered = self.hub.push(&format!("u{uid}"), &post, self.now);
                let is_awaited = ttl > 0 || self.lingers_until[uid] > self.now;
                if self.roomy {
                    assert_eq!(delivered.held > 0, is_awaited && delivered.written == 0, "{delivered:?}");
                }
                self.pushed[index].1 = ttl.max(u64::from(delivered.held > 0));
            }
            Step::Connect(client) if self.clients[client].connection.is_none() => self.connect(client),
            Step::Leave(client) => {
                self.take(client);
                if let Some(connection) = self.clients[client].connection.take() {
                    assert!(self.hub.unbind(&connection, self.now));
                    self.clients[client].left_at = self.now;
                }
            }
            Step::Linger(client) => {
                if let Some(connection) = &self.clients[client].connection {
                    connection.linger.store(LINGER, Ordering::SeqCst);
                    self.lingers_until[Self::uid(client)] = self.now + LINGER;
                    self.run(Step::Leave(client));
                }
            }
            Step::Connect(_) => {}
            Step::Overlap(client) => {
                self.take(client);
                if let Some(old) = self.clients[client].connection.take() {
                    self.clients[client].left_at = self.now;
                    self.connect(client);
                    assert!(self.hub.unbind(&old, self.now));
                }
            }
            Step::Pass(time) => {
                self.now += time;
                self.hub.sweep(self.now);
            }
        }
        for client in 0..self.clients.len() {
            self.take(client);
        }
    }

    fn connect(&mut self, client: usize) {
        let uid = Self::uid(client);
        let name = Uid::new(&format!("u{uid}")).expect("valid");
        let page = Arc::new(Page::new(name));
        let catch_up = self.clients[client].position.map_or(CatchUp::Unsent, CatchUp::After);
        let mut greeting: Option<Greeting> = None;
        self.hub
            .bind(&page, 10, catch_up, self.now, |given| {
                page.seen.store(given.seq, Ordering::SeqCst);
                assert!(greeting.replace(given).is_none(), "greeted once");
            })
            .expect("there is room");
        let greeting = greeting.expect("greeted");
        let returning = self.clients[client].position.is_some();
        if returning && self.roomy {
            let away = self.now - self.clients[client].left_at;
            // What it has handled may age; what lies beyond may not.
            let beyond = self.clients[client].handled.last().map_or(0, |last| last + 1);
            let nothing_aged = self.pushed[beyond..]
                .iter()
                .all(|(of, ttl, at)| *of != uid || *ttl == 0 || at + ttl > self.now);
            if away < self.idle && nothing_aged {
                assert!(greeting.recovered, "nothing was lost, so it must be told so");
            }
        }
        let state = &mut self.clients[client];
        if !returning || !greeting.recovered {
            state.owed_from = self.pushed.len();
        }
        state.position = Some(greeting.seq);
        state.connection = Some(page);
        state.taken = 0;
    }

    /// Takes over what the connection got and checks it against what is owed.
    fn take(&mut self, client: usize) {
        let uid = Self::uid(client);
        let state = &mut self.clients[client];
        let Some(connection) = &state.connection else { return };
        for (seq, index) in connection.got.lock().expect("no poison").iter().skip(state.taken) {
            state.taken += 1;
            assert_eq!(self.pushed[*index].0, uid, "nobody else's");
            let last = state.handled.last().copied();
            assert!(last.is_none_or(|last| last < *index), "in order and once: {last:?} then {index}");
            let from = last.map_or(0, |last| last + 1).max(state.owed_from);
            for missed in from..*index {
                let (of, ttl, _) = self.pushed[missed];
                assert!(of != uid || ttl == 0, "a silent gap: {missed} before {index}");
            }
            state.handled.push(*index);
            state.position = Some(*seq);
        }
    }

    /// Everything that is owed to a client that is there has arrived.
    fn settle(&mut self) {
        for client in 0..self.clients.len() {
            self.take(client);
            let uid = Self::uid(client);
            let state = &self.clients[client];
            if state.connection.is_none() {
                continue;
            }
            let from = state.handled.last().map_or(0, |last| last + 1).max(state.owed_from);
            for missed in from..self.pushed.len() {
                let (of, ttl, _) = self.pushed[missed];
                assert!(of != uid || ttl == 0, "{missed} never came");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn with_room_nothing_is_missed(steps in prop::collection::vec(step(), 0..120)) {
        let idle = Duration::from_millis(500);
        let mut world = World::new(Retention { idle, ..Retention::default() }, true);
        for step in steps {
            world.run(step);
        }
        world.settle();
    }

    #[test]
    fn without_room_every_gap_is_told(
        steps in prop::collection::vec(step(), 0..120),
        messages in 1..4usize,
        memory in 0..2_000usize,
    ) {
        let retention = Retention { messages, bytes: 400, memory, idle: Duration::from_millis(300) };
        let mut world = World::new(retention, false);
        for step in steps {
            world.run(step);
        }
        world.settle();
        prop_assert!(world.hub.mailbox_bytes() <= memory.max(800), "{} bytes", world.hub.mailbox_bytes());
    }
}

#[test]
fn an_idle_uid_without_mail_has_no_mailbox() {
    let mut world = World::new(Retention { idle: Duration::from_millis(100), ..Retention::default() }, true);
    world.run(Step::Connect(0));
    assert_eq!((world.hub.mailboxes(), world.hub.mailbox_bytes()), (0, 0));
    world.run(Step::Push { uid: 0, ttl: 50 });
    assert_eq!(world.hub.mailboxes(), 1);
    world.run(Step::Pass(500));
    assert_eq!((world.hub.mailboxes(), world.hub.mailbox_bytes()), (0, 0));
    world.run(Step::Push { uid: 0, ttl: 50 });
    world.settle();
}

/// One uid and a hub whose empty mailboxes are dropped soon.
struct Household {
    hub: Hub<Page>,
}

impl Household {
    fn new() -> Self {
        let hub = Hub::new();
        hub.retain(Retention { idle: Duration::from_millis(500), ..Retention::default() });
        Self { hub }
    }

    fn bind(&self, catch_up: CatchUp, now: Now) -> (Arc<Page>, Greeting) {
        let page = Arc::new(Page::new(Uid::new("u").expect("valid")));
        let mut greeting = None;
        let greet = |given: Greeting| {
            page.seen.store(given.seq, Ordering::SeqCst);
            greeting = Some(given);
        };
        self.hub.bind(&page, 10, catch_up, now, greet).expect("there is room");
        (page, greeting.expect("greeted"))
    }

    /// One where somebody was once, so that what comes waits.
    fn visited() -> Self {
        let it = Self::new();
        it.hub.unbind(&it.bind(CatchUp::Unsent, 1).0, 1);
        it
    }

    /// Lets the mailbox empty itself and go.
    fn forget(&self, now: Now) {
        self.hub.sweep(now);
        assert_eq!(self.hub.mailboxes(), 0);
    }

    fn push(&self, ttl: u64, now: Now) -> u64 {
        let body = Body { id: "", data: b"0", epoch: "" };
        self.hub.push("u", &Post { frame: b"0", body, ttl: Duration::from_millis(ttl) }, now).seq
    }
}

#[test]
fn a_page_that_was_told_of_a_gap_hides_it_from_no_other() {
    let it = Household::visited();
    let first = it.push(1_000, 1);
    it.push(50, 1);
    // It is told that the second is gone, and gets the first.
    let (told, greeting) = it.bind(CatchUp::After(first - 1), 60);
    assert!(!greeting.recovered && told.got.lock().expect("no poison").len() == 1);
    it.forget(2_000);
    let (_, greeting) = it.bind(CatchUp::After(first), 2_000);
    assert!(!greeting.recovered, "this one has the first and misses the second");
}

#[test]
fn what_a_new_page_was_not_owed_is_hidden_from_no_other() {
    let it = Household::visited();
    let first = it.push(1_000, 1);
    let (listening, _) = it.bind(CatchUp::After(first), 1);
    it.push(1_000, 1);
    it.hub.unbind(&listening, 1);
    // It is owed what nobody was sent: the first, and not the second.
    let (new, greeting) = it.bind(CatchUp::Unsent, 1);
    assert!(greeting.recovered && new.got.lock().expect("no poison").len() == 1);
    it.forget(2_000);
    let (_, greeting) = it.bind(CatchUp::After(first), 2_000);
    assert!(!greeting.recovered, "this one misses the second");
}

#[test]
fn a_page_that_is_overtaken_while_it_is_greeted_is_sent_away() {
    let it = Household::new();
    it.hub.retain(Retention { messages: 1, ..Retention::default() });
    let page = Arc::new(Page::new(Uid::new("u").expect("valid")));
    let bound = it.hub.bind(&page, 10, CatchUp::Unsent, 1, |greeting| {
        page.seen.store(greeting.seq, Ordering::SeqCst);
        it.push(1_000, 1);
        it.push(1_000, 1);
    });
    assert_eq!(bound, Err(BindError::Overtaken), "the first is gone, and it was not told");
    let (again, greeting) = it.bind(CatchUp::After(page.seen.load(Ordering::SeqCst)), 1);
    assert!(!greeting.recovered && again.got.lock().expect("no poison").len() == 1);
}

#[test]
fn what_a_lingering_page_does_not_come_back_for_is_lost_and_told() {
    let mut world = World::new(Retention::default(), true);
    world.run(Step::Connect(0));
    world.run(Step::Connect(1));
    world.run(Step::Linger(0));
    world.run(Step::Push { uid: 0, ttl: 0 });
    assert_eq!((world.hub.lingered(), world.hub.lost()), (0, 0), "the other page took it");
    world.run(Step::Leave(1));
    world.run(Step::Pass(LINGER - 1));
    assert!(world.hub.is_lingering("u0", world.now) && !world.hub.is_lingering("u1", world.now));
    world.run(Step::Push { uid: 0, ttl: 0 });
    assert_eq!((world.hub.lingered(), world.hub.lost()), (1, 0));
    world.run(Step::Pass(1));
    assert_eq!((world.hub.lingered(), world.hub.lost()), (1, 1));
    assert!(!world.hub.is_lingering("u0", world.now));
    world.run(Step::Push { uid: 0, ttl: 0 });
    assert_eq!(world.hub.lingered(), 1, "nobody is expected any more");
    let owed_from = world.clients[1].owed_from;
    world.run(Step::Connect(1));
    assert!(world.clients[1].owed_from > owed_from, "it was told that something is gone");
}

#[test]
fn what_somebody_took_while_another_lingered_is_owed_to_nobody_else() {
    let mut world = World::new(Retention::default(), true);
    for client in [0, 1] {
        world.run(Step::Connect(client));
    }
    world.run(Step::Linger(0));
    world.run(Step::Push { uid: 0, ttl: 0 });
    world.run(Step::Pass(LINGER));
    let owed_from = world.clients[0].owed_from;
    world.run(Step::Connect(0));
    assert_eq!(world.clients[0].owed_from, owed_from, "it missed nothing that was to wait for it");
}

#[test]
fn pushes_and_reconnects_on_many_threads_lose_and_repeat_nothing() {
    const PUSHES: usize = 20_000;
    let hub = Arc::new(Hub::<Page>::new());
    hub.retain(Retention { messages: PUSHES, bytes: usize::MAX, ..Retention::default() });
    let pushers: Vec<_> = (0..2usize)
        .map(|pusher| {
            let hub = Arc::clone(&hub);
            std::thread::spawn(move || {
                for number in 0..PUSHES / 2 {
                    let data = (number * 2 + pusher).to_string();
                    let body = Body { id: "", data: data.as_bytes(), epoch: "" };
                    let post = Post { frame: data.as_bytes(), body, ttl: Duration::from_secs(3_600) };
                    hub.push("u", &post, 1);
                }
            })
        })
        .collect();
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let hub = Arc::clone(&hub);
            std::thread::spawn(move || {
                let mut position = 0;
                let mut seen = Vec::new();
                while seen.len() < PUSHES {
                    let uid = Uid::new("u").expect("valid");
                    let page = Arc::new(Page::new(uid));
                    let catch_up = CatchUp::After(position);
                    let mut recovered = false;
                    hub.bind(&page, 10, catch_up, 1, |greeting| {
                        recovered = greeting.recovered;
                        page.seen.store(greeting.seq, Ordering::SeqCst);
                    })
                    .expect("there is room");
                    std::thread::yield_now();
                    hub.unbind(&page, 1);
                    let got = page.got.lock().expect("no poison");
                    assert!(recovered || (position == 0 && seen.is_empty()), "everything is kept");
                    seen.extend(got.iter().map(|(seq, _)| *seq));
                    position = seen.last().copied().unwrap_or(0);
                }
                seen
            })
        })
        .collect();
    for pusher in pushers {
        pusher.join().expect("pushers do not panic");
    }
    for client in clients {
        let seen = client.join().expect("clients do not panic");
        assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no gap and no repetition");
    }
}
