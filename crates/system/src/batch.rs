//! Sends by the batch: one system call (io_uring_enter(2)) for many sockets, where a loop of send(2) makes one for each.
//!
//! A batch waits for no socket: every send is one that does not block (`MSG_DONTWAIT`), and the kernel does it and answers
//! while it takes it in (`REQ_F_NOWAIT` in io_uring/net.c), in the order given. What happens to memory does not rely on that:
//! frames are copied into the batch's own, which stays where it is until the kernel has answered for all of them, and for ever
//! if it does not.
//!
//! **What it holds**: one descriptor; 16 KiB of frames, 8 KiB of entries and a page of answers that the kernel shares, 3 KiB
//! beside them. Nothing is allocated after [`Batch::new`]. The kernel keeps its side of 128 requests, some 40 KiB.
//!
//! **Threads and processes**: a batch belongs to the thread that made it; the kernel refuses any other
//! (`IORING_SETUP_SINGLE_ISSUER`). After a fork two processes see one ring: the child's copy breaks and leaves it alone.
//!
//! What it saves and when: `docs/decisions/0005-sends-together.md`.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::{io, mem, process, ptr};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// Frames on their way to sockets together: one system call for all of them.
///
/// Some time after one is dropped the kernel interrupts its thread once: a system call that waits may then end with `EINTR`.
///
/// One for each thread that sends:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<doorbell_system::batch::Batch>();
/// ```
pub struct Batch {
    /// `None` once the batch broke: whoever takes the ring brings it back only when the kernel has answered for everything.
    ring: Option<IoUring>,
    /// The frames. The kernel may be reading them whenever the ring is away.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// What the kernel said, for each entry.
    answers: Vec<Option<i32>>,
    /// The process that made it.
    process: u32,
    of_one_thread: PhantomData<*const ()>,
}

/// One frame on its way to one socket.
struct Entry {
    socket: RawFd,
    /// Where the frame begins in the batch's bytes.
    start: usize,
    length: u32,
}

impl Batch {
    /// Sends at most so many at a time.
    pub const MOST: usize = Self::ENTRIES as usize;

    const ENTRIES: u32 = 128;

    /// Bytes of the longest frame, and of all frames that are sent together.
    pub const LONGEST: usize = 16 << 10;

    /// Makes one and has the kernel do nothing by it, so that whatever the kernel forbids is found here.
    ///
    /// # Errors
    /// What the kernel says: it has no io_uring (`ENOSYS`), forbids it (`EPERM`, by seccomp or `kernel.io_uring_disabled`),
    /// is too old (`EINVAL`; it takes Linux 6.1), or has no memory or descriptor to give.
    pub fn new() -> io::Result<Self> {
        // As many answers as entries are enough, because all are there before the next entry is made. An entry that cannot
        // even be begun has its answer too, and does not hold up those behind it.
        let mut ring = IoUring::<squeue::Entry, cqueue::Entry>::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(Self::ENTRIES)
            .build(Self::ENTRIES)?;
        let nothing = opcode::Nop::new().build();
        // SAFETY: it has the kernel read and write no memory of ours.
        unsafe { ring.submission().push(&nothing) }.map_err(io::Error::other)?;
        exchange(&mut ring, &mut [None])?;
        Ok(Self {
            ring: Some(ring),
            bytes: Vec::with_capacity(Self::LONGEST),
            entries: Vec::with_capacity(Self::MOST),
            answers: Vec::with_capacity(Self::MOST),
            process: process::id(),
            of_one_thread: PhantomData,
        })
    }

    /// Starts with nothing. `None` once the batch broke, because the kernel did not answer for everything or the process is
    /// another: it is of no use any more.
    pub fn start<'frame>(&mut self) -> Option<Frames<'_, 'frame>> {
        self.ring.as_ref()?;
        self.bytes.clear();
        self.entries.clear();
        Some(Frames { batch: self, copies: [None; KINDS], next: 0 })
    }

    /// Sends what was added. Each entry has its answer then, or `None` if the kernel gave none.
    fn send(&mut self) {
        self.answers.clear();
        self.answers.resize(self.entries.len(), None);
        if self.entries.is_empty() {
            return;
        }
        // Dropped, and so closed, on any other way out than the last.
        let Some(mut ring) = self.ring.take().filter(|_| self.process == process::id()) else { return };
        let mut queue = ring.submission();
        for (number, entry) in (0..).zip(&self.entries) {
            let start = self.bytes.as_ptr().wrapping_add(entry.start);
            let send = opcode::Send::new(Fd(entry.socket), start, entry.length)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(number);
            // SAFETY: `start` and `length` are a part of `bytes`, where `Frames::copy` placed it. These bytes are the batch's
            // own, and are neither moved nor written to nor freed while the ring is away: that is until the kernel has
            // answered for every entry, or else for ever (`Drop`). The socket is borrowed by the `Frames` that sends,
            // so its number means that socket; what the kernel has begun holds the socket by itself.
            if unsafe { queue.push(&send) }.is_err() {
                return;
            }
        }
        drop(queue);
        if exchange(&mut ring, &mut self.answers).is_ok() {
            self.ring = Some(ring);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // The kernel may not be done with them.
        if self.ring.is_none() {
            mem::forget(mem::take(&mut self.bytes));
        }
    }
}

/// Of how many frames a batch knows that it has them already: a broadcast's differ by dialect and compression.
const KINDS: usize = 4;

/// Frames about to be sent. The batch, the sockets and the bytes are borrowed until then. Nothing is sent when this is dropped.
///
/// A socket that is closed before its frame is sent does not compile:
/// ```compile_fail,E0505
/// use std::os::fd::AsFd;
/// fn close_before(batch: &mut doorbell_system::batch::Batch, socket: std::net::TcpStream) {
///     let mut frames = batch.start().unwrap();
///     assert!(frames.add(socket.as_fd(), b"frame"));
///     drop(socket);
///     frames.send();
/// }
/// ```
/// nor does a frame that is changed:
/// ```compile_fail,E0506
/// use std::os::fd::AsFd;
/// fn change_before(batch: &mut doorbell_system::batch::Batch, socket: std::net::TcpStream) {
///     let mut frame = *b"frame";
///     let mut frames = batch.start().unwrap();
///     assert!(frames.add(socket.as_fd(), &frame));
///     frame[0] = b'F';
///     frames.send();
/// }
/// ```
/// Afterwards both are their owner's again, before the answers are read:
/// ```
/// use std::os::fd::AsFd;
/// fn close_after(batch: &mut doorbell_system::batch::Batch, socket: std::net::TcpStream) -> Option<bool> {
///     let mut frames = batch.start()?;
///     assert!(frames.add(socket.as_fd(), b"frame"));
///     let mut answers = frames.send();
///     drop(socket);
///     answers.next().map(|answer| answer.is_ok())
/// }
/// ```
pub struct Frames<'batch, 'frame> {
    batch: &'batch mut Batch,
    /// What was copied last, and where in the batch's bytes it is.
    copies: [Option<(&'frame [u8], usize)>; KINDS],
    /// Which of the copies is forgotten next.
    next: usize,
}

impl<'batch, 'frame> Frames<'batch, 'frame> {
    /// Adds a frame. `false` when there is no room for it: [`Batch::MOST`] were added, or all frames together would have more
    /// than [`Batch::LONGEST`] bytes; so never for a longer one. The same slice for many sockets takes room once, when no more
    /// than three others come in between.
    ///
    /// A socket that took only a part of a frame may yet take the next one of the same batch, having been given room
    /// in between. Whoever adds a socket twice has to be ready for that.
    #[must_use]
    pub fn add(&mut self, socket: BorrowedFd<'frame>, bytes: &'frame [u8]) -> bool {
        if self.batch.entries.len() == Batch::MOST {
            return false;
        }
        let Ok(length) = u32::try_from(bytes.len()) else { return false };
        let Some(start) = self.copy(bytes) else { return false };
        self.batch.entries.push(Entry { socket: socket.as_raw_fd(), start, length });
        true
    }

    /// Where in the batch's bytes these are, copied there if need be. `None` when there is no room.
    fn copy(&mut self, bytes: &'frame [u8]) -> Option<usize> {
        // What was copied is still borrowed and so has not changed: the same place, the same bytes.
        if let Some((_, start)) = self.copies.iter().flatten().find(|(copied, _)| ptr::eq(*copied, bytes)) {
            return Some(*start);
        }
        let start = self.batch.bytes.len();
        if bytes.len() > Batch::LONGEST - start {
            return None;
        }
        self.batch.bytes.extend_from_slice(bytes);
        self.copies[self.next] = Some((bytes, start));
        self.next = (self.next + 1) % KINDS;
        Some(start)
    }

    /// Sends all that was added, in that order, by one system call. For each, in that order, the answer that send(2) gives with
    /// `MSG_DONTWAIT` and `MSG_NOSIGNAL`: how many bytes the socket took, which may be a part, or why none.
    ///
    /// # Errors
    /// Each answer is its socket's alone, `EAGAIN` when that has no room. `EIO` says that the batch broke and what became of
    /// this frame is not known: some or all of it may be sent, even later, so the socket is of no more use for writing.
    pub fn send(self) -> impl ExactSizeIterator<Item = io::Result<usize>> + use<'batch> {
        self.batch.send();
        self.batch.answers.iter().map(|answer| {
            let result = answer.unwrap_or(-libc::EIO);
            usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()))
        })
    }
}

/// Hands the kernel the entries in the ring's queue, numbered from 0, and waits for an answer to each.
///
/// # Errors
/// When the kernel will not take them, or has not answered after ten tries of 100 ms.
fn exchange(ring: &mut IoUring, answers: &mut [Option<i32>]) -> io::Result<()> {
    const TRIES: usize = 10;
    const WAIT: Timespec = Timespec::new().nsec(100_000_000);
    const FOR_NOW: [i32; 4] = [libc::EINTR, libc::EAGAIN, libc::EBUSY, libc::ETIME];
    let mut missing = answers.len();
    for _ in 0..TRIES {
        let submitted = ring.submitter().submit_with_args(missing, &SubmitArgs::new().timespec(&WAIT));
        for answer in ring.completion() {
            let place = usize::try_from(answer.user_data()).ok().and_then(|number| answers.get_mut(number));
            if place.is_some_and(|place| place.replace(answer.result()).is_none()) {
                missing -= 1;
            }
        }
        if missing == 0 {
            return Ok(());
        }
        // Else it took only some, or a signal came, or it lacks memory for now, or it took that long.
        if let Err(error) = submitted
            && !error.raw_os_error().is_some_and(|number| FOR_NOW.contains(&number))
        {
            return Err(error);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}
