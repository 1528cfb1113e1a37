//! Deliveries that go together: one system call for the frames of many connections, where the kernel has io_uring and allows it.
//!
//! Each thread that sends has a batch of its own: a loop from the start, any other from the first time that it has several deliveries
//! to make. No connection is locked while the kernel works: its frame is lent ([`doorbell_hub::Outbound::lend`]). What a batch is no help
//! to goes by itself: what a session or a long-poll has to put into words of its own, long frames, and everything where there is no batch
//! to be had.

use std::cell::RefCell;
use std::os::fd::AsFd as _;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorbell_hub::{Delivery, Lent, Outbox as _};
use doorbell_system::batch::Batch;

use super::connection::Connection;

/// Fewer deliveries than this go one by one: setting a batch up and reading its answers costs about as much as it saves then.
const FEW: usize = 4;

thread_local! {
    static SENDER: RefCell<Option<Sender>> = RefCell::new(Sender::new());
}

/// What a thread sends with.
struct Sender {
    batch: Batch,
    /// Which deliveries are under way.
    lent: Vec<usize>,
    _place: Place,
}

/// Threads of this process that may have a batch at a time, each a descriptor and some 70 KiB: up to 256 loops, from their start, and 64 of
/// those that broadcast, which come and go and may be hundreds.
const MOST_BATCHES: usize = 256 + 64;
static BATCHES: AtomicUsize = AtomicUsize::new(0);

/// Has this thread's batch ready, if there is one to be had, before there is anything to send.
pub(super) fn prepare() {
    SENDER.with_borrow(|_| {});
}

/// Makes these deliveries.
pub(super) fn deliver_each(deliveries: &mut [Delivery<'_, Connection>]) {
    let wanted = deliveries.len() >= FEW
        && deliveries.first().is_some_and(|delivery| delivery.connection.home().may_send_together());
    if !wanted {
        return one_by_one(deliveries);
    }
    SENDER.with_borrow_mut(|sender| match sender {
        Some(sender) => sender.deliver(deliveries),
        None => one_by_one(deliveries),
    });
}

fn one_by_one(deliveries: &mut [Delivery<'_, Connection>]) {
    for delivery in deliveries {
        delivery.sent = delivery.connection.deliver(delivery.message);
    }
}

impl Sender {
    /// `None` where there are enough already, and where the kernel has no io_uring or forbids it, which is said once.
    fn new() -> Option<Self> {
        static SAID: Once = Once::new();
        let place = Place::take()?;
        match Batch::new() {
            Ok(batch) => Some(Self { batch, lent: Vec::with_capacity(Batch::MOST), _place: place }),
            Err(error) => {
                SAID.call_once(|| tracing::info!(%error, "frames go to the kernel one by one: no io_uring"));
                None
            }
        }
    }

    fn deliver(&mut self, mut deliveries: &mut [Delivery<'_, Connection>]) {
        while !deliveries.is_empty() {
            let done = self.deliver_some(deliveries);
            deliveries = &mut deliveries[done..];
        }
    }

    /// Makes as many deliveries from the first on as there is room for; how many.
    fn deliver_some(&mut self, deliveries: &mut [Delivery<'_, Connection>]) -> usize {
        let Self { batch, lent, .. } = self;
        let Some(mut frames) = batch.start() else {
            one_by_one(deliveries);
            return deliveries.len();
        };
        lent.clear();
        let mut done = 0;
        for (index, delivery) in deliveries.iter_mut().enumerate() {
            let Delivery { connection, message, sent } = delivery;
            match connection.lend(message, Batch::LONGEST) {
                Lent::Settled(settled) => *sent = settled,
                Lent::Yours if frames.add(connection.socket().as_fd(), connection.frame(message)) => {
                    lent.push(index);
                }
                Lent::Yours => {
                    *sent = connection.settle(message, Ok(0));
                    done += 1;
                    break;
                }
                // It may be this batch that it waits for.
                Lent::Busy if !lent.is_empty() => break,
                Lent::Busy => *sent = connection.deliver(message),
            }
            done += 1;
        }
        if let Some(delivery) = deliveries.first() {
            delivery.connection.home().count_together(lent.len());
        }
        for (index, taken) in lent.drain(..).zip(frames.send()) {
            let Delivery { connection, message, sent } = &mut deliveries[index];
            *sent = connection.settle(message, taken);
        }
        done
    }
}

/// One of [`MOST_BATCHES`].
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let take = |taken| (taken < MOST_BATCHES).then_some(taken + 1);
        BATCHES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok().then_some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        BATCHES.fetch_sub(1, Ordering::Relaxed);
    }
}
