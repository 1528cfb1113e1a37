//! The registry against a model, and under threads: nobody gets another's message, nobody misses one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use doorbell_hub::{
    AHEAD, BindError, Body, CatchUp, Delivered, Encoding, Hub, Message, Outbox, Post, Retention, Sent,
};
use doorbell_protocol::Uid;
use proptest::prelude::*;

/// A connection that keeps what it gets.
#[derive(Debug)]
struct Memory {
    uid: Uid,
    got: Mutex<Vec<Vec<u8>>>,
    closed: AtomicBool,
}

fn named(uid: &str) -> Uid {
    Uid::new(uid).expect("a valid uid")
}

impl Memory {
    fn new(uid: &str) -> Arc<Self> {
        Arc::new(Self { uid: named(uid), got: Mutex::default(), closed: AtomicBool::new(false) })
    }

    fn got(&self) -> Vec<Vec<u8>> {
        self.got.lock().expect("no poison").clone()
    }
}

impl Outbox for Memory {
    fn uid(&self) -> Option<&Uid> {
        Some(&self.uid)
    }

    fn deliver(&self, message: &Message<'_>) -> Sent {
        if self.closed.load(Ordering::SeqCst) {
            return Sent::Closed;
        }
        self.got.lock().expect("no poison").push(message.frame(Encoding::Plain).to_vec());
        Sent::Written
    }
}

fn bind(hub: &Hub<Memory>, connection: &Arc<Memory>, limit: usize) -> Result<(), BindError> {
    hub.bind(connection, limit, CatchUp::Nothing, 0, |_| {})
}

/// A message for who is there now.
fn post(frame: &[u8]) -> Post<'_> {
    Post { frame, body: Body::default(), ttl: Duration::ZERO }
}

#[derive(Debug, Clone)]
enum Step {
    Bind(u8),
    /// The n-th of the connections there are.
    Unbind(usize),
    /// The n-th stops taking messages but is still in the table.
    Close(usize),
    Push(u8),
    /// One to each of these.
    PushEach(Vec<u8>),
    Broadcast,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8).prop_map(Step::Bind),
        3 => any::<usize>().prop_map(Step::Unbind),
        1 => any::<usize>().prop_map(Step::Close),
        4 => (0..6u8).prop_map(Step::Push),
        2 => prop::collection::vec(0..6u8, 0..12).prop_map(Step::PushEach),
        1 => Just(Step::Broadcast),
    ]
}

proptest! {
    #[test]
    fn any_order_of_binds_pushes_and_closes_agrees_with_the_model(
        steps in prop::collection::vec(step(), 0..200),
        limit in 1..5usize,
    ) {
        let hub = Hub::new();
        let mut bound: Vec<Arc<Memory>> = Vec::new();
        // Kept, so that no address is used twice and what they got last can be checked too.
        let mut unbound: Vec<Arc<Memory>> = Vec::new();
        let mut expected: HashMap<*const Memory, Vec<Vec<u8>>> = HashMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            let frame = number.to_be_bytes();
            match step {
                Step::Bind(uid) => {
                    let connection = Memory::new(&format!("u{uid}"));
                    let siblings = bound.iter().filter(|other| other.uid == connection.uid).count();
                    let result = bind(&hub, &connection, limit);
                    if siblings < limit {
                        prop_assert_eq!(result, Ok(()));
                        bound.push(connection);
                    } else {
                        prop_assert_eq!(result, Err(BindError::TooMany { limit }));
                    }
                }
                Step::Unbind(index) if !bound.is_empty() => {
                    let connection = bound.remove(index % bound.len());
                    prop_assert!(hub.unbind(&connection, 0));
                    prop_assert!(!hub.unbind(&connection, 0), "only once");
                    unbound.push(connection);
                }
                Step::Close(index) if !bound.is_empty() => {
                    bound[index % bound.len()].closed.store(true, Ordering::SeqCst);
                }
                Step::Unbind(_) | Step::Close(_) => {}
                Step::Push(uid) => {
                    // Nothing below may notice.
                    hub.look_ahead(["u0", "u1", "u2", "u3", "u4", "u5", "u6"]);
                    let uid = format!("u{uid}");
                    let meant: Vec<_> = bound.iter().filter(|other| other.uid.as_str() == uid).collect();
                    let delivered = hub.push(&uid, &post(&frame), 0);
                    prop_assert_eq!(delivered, note(&mut expected, &meant, &frame));
                }
                Step::PushEach(uids) => {
                    let uids: Vec<_> = uids.iter().map(|uid| named(&format!("u{uid}"))).collect();
                    let frames: Vec<_> = (0..uids.len()).map(|place| [number, place].map(usize::to_be_bytes).concat()).collect();
                    let posts: Vec<_> = uids.iter().zip(&frames).map(|(uid, frame)| (uid, post(frame))).collect();
                    let mut delivered = Vec::new();
                    hub.push_each(&posts, 0, |told| delivered.push(told));
                    let agreed: Vec<_> = uids
                        .iter()
                        .zip(&frames)
                        .map(|(uid, frame)| {
                            let meant: Vec<_> = bound.iter().filter(|other| other.uid == *uid).collect();
                            note(&mut expected, &meant, frame)
                        })
                        .collect();
                    prop_assert_eq!(delivered, agreed);
                }
                Step::Broadcast => {
                    let meant: Vec<_> = bound.iter().collect();
                    let delivered = hub.broadcast(&Message::new(&frame));
                    prop_assert_eq!(delivered, note(&mut expected, &meant, &frame));
                }
            }
            prop_assert_eq!(hub.connections(), bound.len());
            let users: std::collections::HashSet<_> = bound.iter().map(|other| other.uid.clone()).collect();
            prop_assert_eq!(hub.users(), users.len());
        }
        for connection in bound.iter().chain(&unbound) {
            let expected = expected.remove(&Arc::as_ptr(connection)).unwrap_or_default();
            prop_assert_eq!(connection.got(), expected);
        }
    }
}

fn note(
    expected: &mut HashMap<*const Memory, Vec<Vec<u8>>>,
    meant: &[&Arc<Memory>],
    frame: &[u8],
) -> Delivered {
    let mut written = 0;
    for connection in meant {
        if !connection.closed.load(Ordering::SeqCst) {
            expected.entry(Arc::as_ptr(connection)).or_default().push(frame.to_vec());
            written += 1;
        }
    }
    Delivered { connections: meant.len(), written, ..Delivered::default() }
}

#[test]
fn what_is_kept_comes_after_what_was_pushed_before_it() {
    let hub = Hub::new();
    hub.retain(Retention::default());
    let (connection, other) = (Memory::new("a"), Memory::new("b"));
    for connection in [&connection, &other] {
        bind(&hub, connection, 1).expect("there is room");
    }
    let kept = |frame| Post { ttl: Duration::from_secs(10), ..post(frame) };
    let (a, b, absent) = (named("a"), named("b"), named("absent"));
    let posts =
        [(&a, post(b"1")), (&b, post(b"2")), (&a, kept(b"3")), (&absent, kept(b"4")), (&a, post(b"5"))];
    let mut delivered = Vec::new();
    hub.push_each(&posts, 1, |told| delivered.push((told.written, told.held)));
    assert_eq!(delivered, [(1, 0), (1, 0), (1, 0), (0, 1), (1, 0)]);
    assert_eq!(connection.got(), [b"1", b"3", b"5"]);
    assert_eq!(other.got(), [b"2"]);
}

#[test]
fn threads_that_bind_push_and_close_never_misdeliver_or_lose() {
    const THREADS: usize = 4;
    const UIDS: usize = 50;
    const ROUNDS: usize = 4_000;
    let hub = Arc::new(Hub::new());
    // One connection of each uid stays throughout: it must get every push to its uid, in each pusher's order.
    let steady: Vec<_> = (0..UIDS).map(|uid| Memory::new(&format!("u{uid}"))).collect();
    for connection in &steady {
        bind(&hub, connection, usize::MAX).expect("there is room");
    }
    let barrier = Arc::new(Barrier::new(THREADS));
    let strangers = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (hub, barrier, strangers) = (Arc::clone(&hub), Arc::clone(&barrier), Arc::clone(&strangers));
            // In another order for each thread, which must not matter.
            let mut ahead: Vec<_> = (0..AHEAD).map(|uid| format!("u{uid}")).collect();
            ahead.rotate_left(thread * 7);
            std::thread::spawn(move || {
                barrier.wait();
                for round in 0..ROUNDS {
                    hub.look_ahead(ahead.iter().map(String::as_str));
                    let uid = format!("u{}", (round * 7 + thread * 13) % UIDS);
                    let passing = Memory::new(&uid);
                    bind(&hub, &passing, usize::MAX).expect("there is room");
                    let frame = format!("{uid} {thread} {round}");
                    let delivered = hub.push(&uid, &post(frame.as_bytes()), 0);
                    assert!(delivered.written >= 2, "the steady one and this one");
                    assert!(passing.got().contains(&frame.clone().into_bytes()), "its own push, while bound");
                    assert!(hub.unbind(&passing, 0));
                    let wrong = passing.got().iter().filter(|got| !names(got, &uid)).count();
                    strangers.fetch_add(wrong, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("threads do not panic");
    }
    assert_eq!(strangers.load(Ordering::SeqCst), 0);
    let mut total = 0;
    for connection in &steady {
        let got = connection.got();
        total += got.len();
        assert!(got.iter().all(|frame| names(frame, connection.uid.as_str())), "nobody else's");
        for thread in 0..THREADS {
            let rounds: Vec<usize> = got
                .iter()
                .filter_map(|frame| {
                    let text = std::str::from_utf8(frame).expect("text");
                    let mut words = text.split(' ').skip(1).map(|word| word.parse().expect("a number"));
                    (words.next() == Some(thread)).then(|| words.next().expect("a round"))
                })
                .collect();
            assert!(rounds.is_sorted(), "in order");
        }
    }
    assert_eq!(total, THREADS * ROUNDS, "nobody missed one");
    assert_eq!((hub.connections(), hub.users()), (UIDS, UIDS));
}

fn names(frame: &[u8], uid: &str) -> bool {
    frame.split(|byte| *byte == b' ').next() == Some(uid.as_bytes())
}

#[test]
fn all_tabs_of_a_uid_see_concurrent_pushes_in_one_order() {
    let hub = Arc::new(Hub::new());
    let tabs: Vec<_> = (0..3).map(|_| Memory::new("u")).collect();
    for tab in &tabs {
        bind(&hub, tab, 10).expect("there is room");
    }
    let threads: Vec<_> = (0..4u8)
        .map(|thread| {
            let hub = Arc::clone(&hub);
            std::thread::spawn(move || {
                for number in 0..1_000u16 {
                    let [high, low] = number.to_be_bytes();
                    hub.push("u", &post(&[thread, high, low]), 0);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("threads do not panic");
    }
    assert_eq!(tabs[0].got().len(), 4_000);
    assert!(tabs.iter().all(|tab| tab.got() == tabs[0].got()));
}

#[test]
fn groups_reach_their_members_wherever_they_are() {
    let hub = Hub::new();
    let (one, two, three) = (Memory::new("one"), Memory::new("two"), Memory::new("three"));
    for connection in [&one, &two, &three] {
        bind(&hub, connection, 10).expect("there is room");
    }
    for member in ["one", "two", "absent"] {
        assert_eq!(hub.join("g", &Uid::new(member).expect("valid")), Ok(true));
    }
    assert_eq!(hub.join("g", &one.uid), Ok(false), "a member already");
    let message = post(b"hello");
    assert_eq!(
        hub.push_group("g", &message, 0),
        Delivered { connections: 2, written: 2, ..Delivered::default() }
    );
    assert!(hub.leave("g", "two"));
    assert!(!hub.leave("g", "two"));
    assert_eq!(
        hub.push_group("g", &message, 0),
        Delivered { connections: 1, written: 1, ..Delivered::default() }
    );
    assert_eq!(hub.push_group("nobody", &message, 0), Delivered::default());
    assert_eq!((one.got().len(), two.got().len(), three.got().len()), (2, 1, 0));
}

#[test]
fn who_comes_and_goes_is_noted_in_order_while_somebody_watches() {
    let hub = Hub::new();
    let (one, two) = (Memory::new("u"), Memory::new("u"));
    let happened = || -> Vec<(String, bool)> {
        let happened = hub.transitions().happened.into_iter();
        happened.map(|transition| (transition.uid.to_string(), transition.online)).collect()
    };
    bind(&hub, &one, 10).expect("a place");
    hub.unbind(&one, 0);
    assert!(happened().is_empty(), "nobody watched");
    hub.watch(true);
    bind(&hub, &one, 10).expect("a place");
    bind(&hub, &two, 10).expect("a place");
    hub.unbind(&one, 0);
    hub.unbind(&two, 0);
    bind(&hub, &one, 10).expect("a place");
    let u = |online| ("u".to_owned(), online);
    assert_eq!(happened(), [u(true), u(false), u(true)]);
    assert!(happened().is_empty(), "each is fetched once");
    hub.unbind(&one, 0);
    hub.watch(false);
    assert!(happened().is_empty(), "nobody watches any more");
}

#[test]
fn what_nobody_fetches_is_bounded_and_counted() {
    let hub = Hub::new();
    hub.watch(true);
    let one = Memory::new("u");
    for _ in 0..20_000 {
        bind(&hub, &one, 10).expect("a place");
        hub.unbind(&one, 0);
    }
    let transitions = hub.transitions();
    assert_eq!(transitions.happened.len() + transitions.lost, 40_000);
    assert!(transitions.lost > 0);
    assert_eq!(hub.transitions().lost, 0);
}

#[test]
fn a_broadcast_to_more_than_are_sent_to_at_a_time_reaches_everyone_once() {
    const CROWD: usize = 140_000;
    let hub = Hub::new();
    let crowd: Vec<_> = (0..CROWD).map(|number| Memory::new(&format!("user-{number}"))).collect();
    for connection in &crowd {
        bind(&hub, connection, 1).expect("binds");
    }
    assert_eq!(hub.broadcast(&Message::new(b"all")).written, CROWD);
    assert!(crowd.iter().all(|connection| connection.got() == [b"all"]));
}
