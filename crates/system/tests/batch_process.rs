//! A batch and its process: system calls that are forbidden, signals, forks, memory. Apart from the other tests, because these
//! change the process or the thread that they run in.
#![expect(unsafe_code, reason = "signals, seccomp, fork and an allocator that counts have no safe way in")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{ErrorKind, Read as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::thread;

use common::{DEADLINE, batch, pair};
use doorbell_system::batch::Batch;

/// Says how often each thread asked for memory.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all is the system allocator's; counting touches none of it, and allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's promises are this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are this one's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// From now on this thread's system call fails with this error.
fn forbid(call: libc::c_long, error: i32) {
    let (call, error) = (u32::try_from(call).expect("small"), u32::try_from(error).expect("positive"));
    let step = |code, skipped_unless_equal, value| {
        let code = u16::try_from(code).expect("small");
        libc::sock_filter { code, jt: 0, jf: skipped_unless_equal, k: value }
    };
    // The number of the call is the first word of what a filter sees (seccomp(2)).
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | error),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the filter and its four steps are there until the call has returned, which copies them.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    assert!(done, "no filter: {}", std::io::Error::last_os_error());
}

/// Runs it in a thread of its own, which a filter can have for itself.
fn apart(test: impl FnOnce() + Send + 'static) {
    thread::spawn(test).join().expect("the test's own thread");
}

/// Waits, with a deadline, for what no event tells of.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        thread::yield_now();
    }
}

#[test]
fn what_the_kernel_forbids_is_an_error_of_the_first_call() {
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter] {
        for error in [libc::EPERM, libc::ENOSYS] {
            apart(move || {
                forbid(call, error);
                let refused = Batch::new().err().expect("the kernel forbids it");
                assert_eq!(refused.raw_os_error(), Some(error));
            });
        }
    }
}

#[test]
fn a_batch_that_the_kernel_fails_breaks_and_says_that_it_knows_nothing() {
    // The first is not among what passes; the second passes now and then, but not ten times.
    for error in [libc::EPERM, libc::EAGAIN] {
        apart(move || {
            let Some(mut batch) = batch() else { return };
            let (socket, mut peer) = pair();
            forbid(libc::SYS_io_uring_enter, error);
            let mut together = batch.start().expect("works");
            assert!(together.add(socket.as_fd(), b"one") && together.add(socket.as_fd(), b"two"));
            let answers: Vec<_> =
                together.send().map(|answer| answer.expect_err("unknown").raw_os_error()).collect();
            assert_eq!(answers, [Some(libc::EIO); 2]);
            assert!(batch.start().is_none(), "used again");
            drop(batch);
            socket.shutdown(Shutdown::Write).expect("ends");
            assert_eq!(peer.read(&mut [0; 8]).expect("ends"), 0, "sent after all");
        });
    }
}

#[test]
fn a_peer_that_is_gone_is_an_error_and_no_signal() {
    // As in a program that is not Rust's: a SIGPIPE would end it.
    // SAFETY: no handler is set that could do anything.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let Some(mut batch) = batch() else { return };
    let ((gone, gone_peer), (socket, mut peer)) = (pair(), pair());
    drop(gone_peer);
    let mut failed = None;
    wait_until("the peer is gone", || {
        let mut together = batch.start().expect("works");
        assert!(together.add(gone.as_fd(), b"x") && together.add(socket.as_fd(), b"x"));
        let mut answers = together.send();
        failed = answers.next().expect("of two").err().map(|error| error.kind());
        assert_eq!(answers.next().expect("of two").expect("taken"), 1);
        failed.is_some()
    });
    assert!(matches!(failed, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)), "{failed:?}");
    // Twice, because a reset is told once and a broken pipe from then on.
    let mut together = batch.start().expect("works");
    assert!(together.add(gone.as_fd(), b"x"));
    assert_eq!(together.send().next().expect("of one").expect_err("gone").kind(), ErrorKind::BrokenPipe);
    assert_eq!(peer.read(&mut [0; 1]).expect("arrives"), 1);
}

/// Whether the batch takes the frame, without a panic.
fn takes(batch: &mut Batch, socket: &TcpStream, frame: &[u8]) -> bool {
    let Some(mut together) = batch.start() else { return false };
    together.add(socket.as_fd(), frame) && together.send().next().is_some_and(|answer| answer.is_ok())
}

#[test]
fn a_fork_cannot_use_it_and_does_not_break_it() {
    let Some(mut batch) = batch() else { return };
    let (socket, mut peer) = pair();
    assert!(takes(&mut batch, &socket, b"before "));
    // SAFETY: the child allocates nothing, takes no lock and ends without running anything of the parent's.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no fork");
    if child == 0 {
        let works = takes(&mut batch, &socket, b"child ") || batch.start().is_some();
        // SAFETY: it ends here.
        unsafe { libc::_exit(i32::from(works)) };
    }
    let mut status = -1;
    // SAFETY: the child is this process's own, and the status is written to a number of ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child used it or failed");
    assert!(takes(&mut batch, &socket, b"after"));
    socket.shutdown(Shutdown::Write).expect("ends");
    let mut text = String::new();
    peer.read_to_string(&mut text).expect("arrives");
    assert_eq!(text, "before after");
}

#[test]
fn nothing_is_allocated_once_it_is_there() {
    let Some(mut batch) = batch() else { return };
    let (socket, _peer) = pair();
    let frame = [b'x'; 100];
    let before = ASKED.get();
    for _ in 0..20 {
        let mut together = batch.start().expect("works");
        for _ in 0..Batch::MOST {
            assert!(together.add(socket.as_fd(), &frame));
        }
        let taken: usize = together.send().map(|answer| answer.unwrap_or(0)).sum();
        assert!(taken > 0);
    }
    assert_eq!(ASKED.get(), before);
}
