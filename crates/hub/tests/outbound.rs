//! The direct-write/queue path: what was answered `Written` arrives whole, once and in order, whoever writes when.

use std::cell::RefCell;
use std::io;

use doorbell_hub::{Bound, Encoding, Flushed, Lent, Message, Outbound, Sent, Sink};
use proptest::prelude::*;

const ROOMY: Bound = Bound { bytes: 1 << 20, messages: 1_000 };

/// A socket that takes as much as it is told to and remembers it.
#[derive(Default)]
struct Pipe {
    room: RefCell<usize>,
    taken: RefCell<Vec<u8>>,
    broken: RefCell<bool>,
}

impl Sink for Pipe {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if *self.broken.borrow() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = self.room.borrow_mut();
        let length = bytes.len().min(*room);
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        *room -= length;
        self.taken.borrow_mut().extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write_vectored(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.write(&parts.iter().flat_map(|part| part.to_vec()).collect::<Vec<u8>>())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u8>),
    Room(usize),
    Flush,
    /// Has a frame lent, or settles the one that is.
    Lend(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40).prop_map(Step::Send),
        (0..60usize).prop_map(Step::Room),
        Just(Step::Flush),
        prop::collection::vec(any::<u8>(), 1..40).prop_map(Step::Lend),
    ]
}

/// Writes a lent frame and says how that went, as whoever sends many together does.
fn settle(outbound: &mut Outbound, pipe: &Pipe, frame: &[u8]) -> Sent {
    let sent = outbound.settle(pipe.write(frame), &Message::new(frame), Encoding::Plain);
    if !outbound.is_drained() {
        outbound.flush(pipe);
    }
    sent
}

proptest! {
    #[test]
    fn what_is_written_arrives_whole_and_in_order(
        steps in prop::collection::vec(step(), 0..200),
        bytes in 1..200usize,
        messages in 1..10usize,
    ) {
        let bound = Bound { bytes, messages };
        let (pipe, mut outbound) = (Pipe::default(), Outbound::new());
        let mut promised = Vec::new();
        let mut lent: Option<Vec<u8>> = None;
        for step in steps {
            match step {
                Step::Send(frame) => match outbound.send(&pipe, &Message::new(&frame), Encoding::Plain, bound) {
                    Sent::Written => promised.extend_from_slice(&frame),
                    Sent::Full => prop_assert!(!outbound.is_drained(), "an empty queue takes anything"),
                    Sent::Closed => prop_assert!(false, "nothing closed it"),
                },
                Step::Room(room) => *pipe.room.borrow_mut() += room,
                Step::Flush => {
                    let flushed = outbound.flush(&pipe);
                    prop_assert_eq!(flushed == Flushed::Drained, outbound.is_drained());
                }
                Step::Lend(frame) => match lent.take() {
                    Some(frame) => prop_assert_eq!(settle(&mut outbound, &pipe, &frame), Sent::Written),
                    None => match outbound.lend(&Message::new(&frame), Encoding::Plain, bound) {
                        Lent::Yours => {
                            promised.extend_from_slice(&frame);
                            prop_assert!(!outbound.is_drained(), "it is under way");
                            lent = Some(frame);
                        }
                        Lent::Settled(Sent::Written) => promised.extend_from_slice(&frame),
                        Lent::Settled(Sent::Full) => prop_assert!(!outbound.is_drained()),
                        Lent::Busy | Lent::Settled(Sent::Closed) => {
                            prop_assert!(false, "nothing is lent, and nothing closed it");
                        }
                    },
                },
            }
            prop_assert!(promised.starts_with(&pipe.taken.borrow()), "a prefix of what was promised");
        }
        *pipe.room.borrow_mut() = usize::MAX;
        if let Some(frame) = lent {
            prop_assert_eq!(outbound.flush(&pipe), Flushed::Blocked, "nothing goes before the lent frame");
            prop_assert_eq!(settle(&mut outbound, &pipe, &frame), Sent::Written);
        }
        prop_assert_eq!(outbound.flush(&pipe), Flushed::Drained);
        prop_assert_eq!(&*pipe.taken.borrow(), &promised);
    }
}

#[test]
fn at_the_bound_the_message_is_refused_and_an_empty_queue_takes_any_size() {
    let (pipe, mut outbound) = (Pipe::default(), Outbound::new());
    let bound = Bound { bytes: 10, messages: 2 };
    assert_eq!(outbound.send(&pipe, &Message::new(&[0; 100]), Encoding::Plain, bound), Sent::Written);
    assert_eq!(outbound.send(&pipe, &Message::new(&[0; 1]), Encoding::Plain, bound), Sent::Full, "bytes");
    let bound = Bound { bytes: 1_000, messages: 2 };
    assert_eq!(outbound.send(&pipe, &Message::new(&[0; 1]), Encoding::Plain, bound), Sent::Written);
    assert_eq!(outbound.send(&pipe, &Message::new(&[0; 1]), Encoding::Plain, bound), Sent::Full, "messages");
}

#[test]
fn finishing_keeps_the_frame_under_way_whole_and_counts_what_it_gives_up() {
    let (pipe, mut outbound) = (Pipe::default(), Outbound::new());
    *pipe.room.borrow_mut() = 2;
    for frame in [b"one", b"two", b"six"] {
        assert_eq!(outbound.send(&pipe, &Message::new(frame), Encoding::Plain, ROOMY), Sent::Written);
    }
    assert_eq!(outbound.finish(&pipe, b"bye").messages, 2);
    assert_eq!(outbound.send(&pipe, &Message::new(b"late"), Encoding::Plain, ROOMY), Sent::Closed);
    *pipe.room.borrow_mut() = usize::MAX;
    assert_eq!(outbound.flush(&pipe), Flushed::Drained);
    assert_eq!(&*pipe.taken.borrow(), b"onebye");
}

#[test]
fn finishing_politely_sends_everything_first() {
    let (pipe, mut outbound) = (Pipe::default(), Outbound::new());
    for frame in [b"one", b"two"] {
        assert_eq!(outbound.send(&pipe, &Message::new(frame), Encoding::Plain, ROOMY), Sent::Written);
    }
    outbound.finish_after_queue(&pipe, b"bye");
    assert_eq!(outbound.send(&pipe, &Message::new(b"late"), Encoding::Plain, ROOMY), Sent::Closed);
    *pipe.room.borrow_mut() = 4;
    assert_eq!(outbound.flush(&pipe), Flushed::Blocked);
    assert_eq!(outbound.abandon().messages, 1, "the farewell is no message");
}

#[test]
fn a_broken_socket_takes_nothing_and_what_waited_is_counted() {
    let (pipe, mut outbound) = (Pipe::default(), Outbound::new());
    assert_eq!(outbound.send(&pipe, &Message::new(b"one"), Encoding::Plain, ROOMY), Sent::Written);
    assert_eq!(outbound.send(&pipe, &Message::new(b"two"), Encoding::Plain, ROOMY), Sent::Written);
    *pipe.broken.borrow_mut() = true;
    let Flushed::Failed(promised) = outbound.flush(&pipe) else { panic!("the socket is broken") };
    assert_eq!(promised.messages, 2);
    assert_eq!(outbound.send(&pipe, &Message::new(b"late"), Encoding::Plain, ROOMY), Sent::Closed);
}

/// An outgoing side of which a frame is lent.
fn with_lent(frame: &[u8], bound: Bound) -> Outbound {
    let mut outbound = Outbound::new();
    assert_eq!(outbound.lend(&Message::new(frame), Encoding::Plain, bound), Lent::Yours);
    outbound
}

#[test]
fn a_lent_frame_counts_towards_the_bound() {
    let bound = Bound { bytes: 10, messages: 2 };
    let pipe = Pipe::default();
    let mut outbound = with_lent(&[0; 8], bound);
    assert_eq!(outbound.send(&pipe, &Message::new(&[0; 3]), Encoding::Plain, bound), Sent::Full, "bytes");
    assert_eq!(outbound.send(&pipe, &Message::new(&[0; 1]), Encoding::Plain, bound), Sent::Written);
    assert_eq!(outbound.lend(&Message::new(&[0; 1]), Encoding::Plain, bound), Lent::Busy, "messages");
    assert!(outbound.is_lent(), "so it may be quick enough");
    *pipe.room.borrow_mut() = usize::MAX;
    settle(&mut outbound, &pipe, &[0; 8]);
    assert_eq!(outbound.lend(&Message::new(&[0; 11]), Encoding::Plain, bound), Lent::Yours, "as it was");
}

#[test]
fn a_farewell_follows_the_lent_frame() {
    for polite in [false, true] {
        let pipe = Pipe::default();
        *pipe.room.borrow_mut() = usize::MAX;
        let mut outbound = with_lent(b"one", ROOMY);
        assert_eq!(outbound.send(&pipe, &Message::new(b"two"), Encoding::Plain, ROOMY), Sent::Written);
        if polite {
            outbound.finish_after_queue(&pipe, b"bye");
        } else {
            assert_eq!(
                outbound.finish(&pipe, b"bye").messages,
                1,
                "it gives up what waits, not what is lent"
            );
        }
        assert_eq!(*pipe.taken.borrow(), b"", "the frame is still to come");
        assert_eq!(settle(&mut outbound, &pipe, b"one"), Sent::Written);
        let told: &[u8] = if polite { b"onetwobye" } else { b"onebye" };
        assert_eq!(*pipe.taken.borrow(), told);
        assert!(outbound.is_drained());
    }
}

#[test]
fn a_farewell_follows_the_lent_frame_where_nothing_else_waits() {
    let pipe = Pipe::default();
    *pipe.room.borrow_mut() = usize::MAX;
    let mut outbound = with_lent(b"one", ROOMY);
    outbound.finish_after_queue(&pipe, b"bye");
    assert_eq!(settle(&mut outbound, &pipe, b"one"), Sent::Written);
    assert_eq!(*pipe.taken.borrow(), b"onebye");
}

#[test]
fn what_the_socket_left_of_a_lent_frame_goes_first() {
    let pipe = Pipe::default();
    *pipe.room.borrow_mut() = 1;
    let mut outbound = with_lent(b"one", ROOMY);
    assert_eq!(outbound.send(&pipe, &Message::new(b"two"), Encoding::Plain, ROOMY), Sent::Written);
    assert_eq!(settle(&mut outbound, &pipe, b"one"), Sent::Written);
    *pipe.room.borrow_mut() = usize::MAX;
    assert_eq!(outbound.flush(&pipe), Flushed::Drained);
    assert_eq!(*pipe.taken.borrow(), b"onetwo");
}

#[test]
fn a_lent_frame_that_fails_is_not_written_and_what_came_behind_it_is_counted() {
    let pipe = Pipe::default();
    let mut outbound = with_lent(b"one", ROOMY);
    assert_eq!(outbound.send(&pipe, &Message::new(b"two"), Encoding::Plain, ROOMY), Sent::Written);
    let failed =
        outbound.settle(Err(io::ErrorKind::BrokenPipe.into()), &Message::new(b"one"), Encoding::Plain);
    assert_eq!(failed, Sent::Closed);
    *pipe.room.borrow_mut() = usize::MAX;
    let Flushed::Failed(promised) = outbound.flush(&pipe) else { panic!("the frame may have left in part") };
    assert_eq!(promised.messages, 1);
    assert_eq!(*pipe.taken.borrow(), b"", "nothing follows it");
    assert_eq!(outbound.send(&pipe, &Message::new(b"late"), Encoding::Plain, ROOMY), Sent::Closed);
}

#[test]
fn a_lent_frame_of_a_connection_that_went_counts_as_written_only_when_it_left_whole() {
    let cases: [(io::Result<usize>, Sent); 4] = [
        (Ok(3), Sent::Written),
        (Ok(2), Sent::Closed),
        (Err(io::ErrorKind::WouldBlock.into()), Sent::Closed),
        (Err(io::ErrorKind::ConnectionReset.into()), Sent::Closed),
    ];
    for (taken, sent) in cases {
        let mut outbound = with_lent(b"one", ROOMY);
        assert_eq!(outbound.abandon().messages, 0, "whoever settles it says what became of it");
        assert_eq!(outbound.settle(taken, &Message::new(b"one"), Encoding::Plain), sent);
        assert!(outbound.is_drained(), "nothing is kept for nobody");
    }
}

mod interleavings {
    //! Two pushers that write under the lock, one that has its frames lent and writes them without, a reader that makes room, and the
    //! event loop that flushes on each writable edge, in every order that 2,000 random schedules find.

    use std::io;

    use doorbell_hub::{Encoding, Flushed, Lent, Message, Outbound, Sent, Sink};
    use shuttle::sync::atomic::{AtomicBool, Ordering};
    use shuttle::sync::{Arc, Condvar, Mutex};
    use shuttle::thread;

    const FRAME: usize = 5;
    const PUSHERS: u8 = 3;
    /// The one that has its frames lent.
    const BORROWER: u8 = 2;
    const PER_PUSHER: u8 = 4;

    /// A socket with a small buffer that raises an edge, once, when room follows a refusal, as epoll does.
    #[derive(Default)]
    struct Socket {
        state: Mutex<State>,
        edge: Condvar,
    }

    #[derive(Default)]
    struct State {
        buffered: Vec<u8>,
        received: Vec<u8>,
        refused: bool,
        writable: bool,
    }

    const BUFFER: usize = 7;

    impl Sink for &Socket {
        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.state.lock().expect("no poison");
            let length = bytes.len().min(BUFFER - state.buffered.len());
            // The kernel remembers a refusal whenever it could not take everything.
            state.refused |= length < bytes.len();
            if length == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state.buffered.extend_from_slice(&bytes[..length]);
            Ok(length)
        }
    }

    impl Socket {
        fn read(&self) -> usize {
            let mut state = self.state.lock().expect("no poison");
            let taken = std::mem::take(&mut state.buffered);
            state.received.extend_from_slice(&taken);
            if std::mem::take(&mut state.refused) {
                state.writable = true;
                self.edge.notify_all();
            }
            state.received.len()
        }
    }

    fn push(outbound: &Mutex<Outbound>, socket: &Socket, pusher: u8, frame: &[u8]) -> Sent {
        let message = Message::new(frame);
        let mut locked = outbound.lock().expect("no poison");
        if pusher != BORROWER {
            return locked.send(&socket, &message, Encoding::Plain, super::ROOMY);
        }
        match locked.lend(&message, Encoding::Plain, super::ROOMY) {
            Lent::Settled(sent) => sent,
            Lent::Busy => panic!("there is room, and one borrower"),
            Lent::Yours => {
                drop(locked);
                let taken = socket.write(frame);
                let mut locked = outbound.lock().expect("no poison");
                let sent = locked.settle(taken, &message, Encoding::Plain);
                assert!(!matches!(locked.flush(&socket), Flushed::Failed(_)));
                sent
            }
        }
    }

    #[test]
    fn no_message_is_lost_torn_or_stuck_between_direct_writes_and_flushes() {
        shuttle::check_random(
            || {
                let socket = Arc::new(Socket::default());
                let outbound = Arc::new(Mutex::new(Outbound::new()));
                let done = Arc::new(AtomicBool::new(false));
                let pushers: Vec<_> = (0..PUSHERS)
                    .map(|pusher| {
                        let (socket, outbound) = (Arc::clone(&socket), Arc::clone(&outbound));
                        thread::spawn(move || {
                            for number in 0..PER_PUSHER {
                                let frame = [pusher * 16 + number; FRAME];
                                assert_eq!(push(&outbound, &socket, pusher, &frame), Sent::Written);
                            }
                        })
                    })
                    .collect();
                let event_loop = {
                    let (socket, outbound, done) =
                        (Arc::clone(&socket), Arc::clone(&outbound), Arc::clone(&done));
                    thread::spawn(move || {
                        loop {
                            let mut state = socket.state.lock().expect("no poison");
                            while !state.writable && !done.load(Ordering::SeqCst) {
                                state = socket.edge.wait(state).expect("no poison");
                            }
                            if !std::mem::take(&mut state.writable) {
                                return;
                            }
                            drop(state);
                            let flushed = outbound.lock().expect("no poison").flush(&&*socket);
                            assert!(!matches!(flushed, Flushed::Failed(_)));
                        }
                    })
                };
                let total = usize::from(PUSHERS * PER_PUSHER) * FRAME;
                while socket.read() < total {
                    thread::yield_now();
                }
                for pusher in pushers {
                    pusher.join().expect("pushers do not panic");
                }
                {
                    let _state = socket.state.lock().expect("no poison");
                    done.store(true, Ordering::SeqCst);
                    socket.edge.notify_all();
                }
                event_loop.join().expect("the loop does not panic");
                let state = socket.state.lock().expect("no poison");
                let frames: Vec<&[u8]> = state.received.chunks(FRAME).collect();
                assert!(frames.iter().all(|frame| frame.iter().all(|byte| *byte == frame[0])), "torn");
                for pusher in 0..PUSHERS {
                    let numbers: Vec<u8> =
                        frames.iter().map(|frame| frame[0]).filter(|byte| byte / 16 == pusher).collect();
                    let expected: Vec<u8> = (0..PER_PUSHER).map(|number| pusher * 16 + number).collect();
                    assert_eq!(numbers, expected, "in order, once each");
                }
            },
            2_000,
        );
    }
}
