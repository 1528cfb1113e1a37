//! What a batch does to sockets: everything arrives, whole and in order, and one socket's trouble is its own.

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;

use common::{batch, pair};
use doorbell_system::batch::Batch;
use socket2::SockRef;

/// Sends each frame to its socket in one batch, and expects each socket to take all of its own.
fn send_all<'a>(batch: &mut Batch, frames: impl Iterator<Item = (&'a TcpStream, &'a [u8])>) {
    let mut lengths = Vec::new();
    let mut together = batch.start().expect("works");
    for (socket, bytes) in frames {
        assert!(together.add(socket.as_fd(), bytes), "no room");
        lengths.push(bytes.len());
    }
    let taken: Vec<_> = together.send().map(|answer| answer.expect("taken")).collect();
    assert_eq!(taken, lengths);
}

fn read(mut peer: &TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    peer.read_exact(&mut bytes).expect("arrives");
    bytes
}

/// Everything up to the end that the sender makes.
fn read_to_end(socket: &TcpStream, mut peer: &TcpStream) -> Vec<u8> {
    socket.shutdown(Shutdown::Write).expect("ends");
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).expect("arrives");
    bytes
}

/// A pair with small buffers, but larger than a segment (64 KiB on loopback): no frame is divided within one.
fn narrow_pair() -> (TcpStream, TcpStream) {
    let (socket, peer) = pair();
    SockRef::from(&socket).set_send_buffer_size(50_000).expect("a small buffer");
    SockRef::from(&peer).set_recv_buffer_size(50_000).expect("a small buffer");
    (socket, peer)
}

#[test]
fn a_frame_of_each_socket_and_one_for_all_arrive() {
    let Some(mut batch) = batch() else { return };
    let pairs: Vec<_> = (0..Batch::MOST).map(|_| pair()).collect();
    let own: Vec<_> = (0..Batch::MOST).map(|number| format!("for {number:3} alone")).collect();
    send_all(&mut batch, pairs.iter().zip(&own).map(|((socket, _), frame)| (socket, frame.as_bytes())));
    let shared = vec![b'x'; Batch::LONGEST];
    send_all(&mut batch, pairs.iter().map(|(socket, _)| (socket, &shared[..])));
    for ((socket, peer), frame) in pairs.iter().zip(&own) {
        let bytes = read_to_end(socket, peer);
        assert!(bytes == [frame.as_bytes(), &shared].concat(), "{frame} came with {} bytes", bytes.len());
    }
}

#[test]
fn a_thousand_batches_arrive_in_order() {
    let Some(mut batch) = batch() else { return };
    let pairs = [pair(), pair(), pair()];
    for number in 0..1000_u32 {
        // The same place in memory each time, with something else in it.
        let frame = number.to_be_bytes();
        send_all(&mut batch, pairs.iter().map(|(socket, _)| (socket, &frame[..])));
    }
    let all: Vec<_> = (0..1000_u32).flat_map(u32::to_be_bytes).collect();
    for (socket, peer) in &pairs {
        assert_eq!(read_to_end(socket, peer), all);
    }
}

#[test]
fn frames_are_nothing_to_16_kib_and_no_longer() {
    let Some(mut batch) = batch() else { return };
    let (socket, peer) = pair();
    let bytes: Vec<u8> = (0..=250).cycle().take(Batch::LONGEST + 1).collect();
    for length in [0, 1, Batch::LONGEST] {
        send_all(&mut batch, [(&socket, &bytes[..length])].into_iter());
        assert_eq!(read(&peer, length), bytes[..length]);
    }
    let mut together = batch.start().expect("works");
    assert!(!together.add(socket.as_fd(), &bytes));
    assert_eq!(together.send().count(), 0);
    assert_eq!(read_to_end(&socket, &peer), [], "more than was sent");
}

#[test]
fn a_batch_is_128_sends_or_16_kib() {
    let Some(mut batch) = batch() else { return };
    let (socket, _peer) = pair();
    let mut together = batch.start().expect("works");
    for _ in 0..Batch::MOST {
        assert!(together.add(socket.as_fd(), b"x"));
    }
    assert!(!together.add(socket.as_fd(), b"x"));
    assert_eq!(together.send().filter_map(Result::ok).count(), Batch::MOST);

    let bytes = vec![0; Batch::LONGEST];
    let (most, rest) = bytes.split_at(Batch::LONGEST - 1);
    let mut together = batch.start().expect("works");
    assert!(together.add(socket.as_fd(), most));
    assert!(!together.add(socket.as_fd(), b"yz"));
    assert!(together.add(socket.as_fd(), rest));
    assert!(!together.add(socket.as_fd(), b"z"));
}

#[test]
fn four_frames_take_room_once_however_they_alternate() {
    let Some(mut batch) = batch() else { return };
    let pairs: Vec<_> = (0..Batch::MOST).map(|_| pair()).collect();
    let kinds = [0, 1, 2, 3].map(|kind| vec![b'a' + kind; Batch::LONGEST / 4]);
    let frames = pairs.iter().enumerate().map(|(number, (socket, _))| (socket, &kinds[number % 4][..]));
    send_all(&mut batch, frames);
    for (number, (socket, peer)) in pairs.iter().enumerate() {
        assert!(read_to_end(socket, peer) == kinds[number % 4], "socket {number}");
    }
}

#[test]
fn a_fifth_frame_and_a_first_again_are_themselves() {
    let Some(mut batch) = batch() else { return };
    let (socket, peer) = pair();
    let kinds: Vec<_> = (0..6_u8).map(|kind| vec![b'a' + kind; 100]).collect();
    // Longer ones and shorter ones, which begin in the same place.
    let order: Vec<_> = (0..60).map(|number| &kinds[number * number % 6][..100 - number % 7]).collect();
    send_all(&mut batch, order.iter().map(|frame| (&socket, *frame)));
    assert_eq!(read_to_end(&socket, &peer), order.concat());
}

#[test]
fn one_socket_many_times_gets_its_frames_in_order() {
    let Some(mut batch) = batch() else { return };
    let ((socket, peer), (other, _other_peer)) = (pair(), pair());
    let frames: Vec<_> = (0..Batch::MOST / 2).map(|number| format!("{number};")).collect();
    let both = frames.iter().flat_map(|frame| [(&socket, frame.as_bytes()), (&other, b"between")]);
    send_all(&mut batch, both);
    assert_eq!(read_to_end(&socket, &peer), frames.concat().into_bytes());
}

#[test]
fn a_socket_without_room_answers_so_and_holds_up_nobody() {
    let Some(mut batch) = batch() else { return };
    let ((before, _before_peer), (full, peer), (after, _after_peer)) = (pair(), narrow_pair(), pair());
    let frame: Vec<u8> = (0..=250).cycle().take(Batch::LONGEST - 2).collect();
    let (mut expected, mut part) = (Vec::new(), false);
    loop {
        let mut together = batch.start().expect("works");
        assert!(together.add(before.as_fd(), b"x"));
        // It blocks for anyone else: no socket needs to be told not to.
        assert!(together.add(full.as_fd(), &frame));
        assert!(together.add(after.as_fd(), b"x"));
        let mut answers = together.send();
        assert_eq!(answers.next().expect("of three").expect("taken"), 1);
        let taken = answers.next().expect("of three");
        assert_eq!(answers.next().expect("of three").expect("taken"), 1);
        match taken {
            Ok(taken) => {
                expected.extend_from_slice(&frame[..taken]);
                part |= taken < frame.len();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
        assert!(expected.len() < 1 << 24, "a small buffer takes sixteen megabytes");
    }
    assert!(part, "never a part of a frame");
    // Emptied, it takes frames again, and nothing came of the one it had no room for.
    assert!(read(&peer, expected.len()) == expected, "not what was taken");
    let mut together = batch.start().expect("works");
    assert!(together.add(full.as_fd(), b"again"));
    assert_eq!(together.send().next().expect("of one").expect("taken"), 5);
    assert_eq!(read_to_end(&full, &peer), b"again");
}

#[test]
fn what_is_no_socket_answers_so_and_holds_up_nobody() {
    let Some(mut batch) = batch() else { return };
    let ((before, before_peer), (after, after_peer)) = (pair(), pair());
    let file = File::open("/dev/null").expect("Linux");
    let mut together = batch.start().expect("works");
    assert!(together.add(before.as_fd(), b"x"));
    assert!(together.add(file.as_fd(), b"x"));
    assert!(together.add(after.as_fd(), b"x"));
    let answers: Vec<_> = together.send().map(Result::ok).collect();
    assert_eq!(answers, [Some(1), None, Some(1)]);
    assert_eq!([read(&before_peer, 1), read(&after_peer, 1)], [b"x", b"x"]);
}

#[test]
fn frames_that_are_dropped_are_not_sent() {
    let Some(mut batch) = batch() else { return };
    let (socket, peer) = pair();
    assert!(batch.start().expect("works").add(socket.as_fd(), b"dropped"));
    send_all(&mut batch, [(&socket, &b"sent"[..])].into_iter());
    assert_eq!(batch.start().expect("works").send().len(), 0);
    assert_eq!(read_to_end(&socket, &peer), b"sent");
}
