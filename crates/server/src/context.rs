//! What every part of one server shares.

use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use doorbell_hub::{Hub, Now};
use tokio::sync::mpsc;

use crate::acks::Acks;
use crate::admission::Addresses;
use crate::http::Remembered;
use crate::io::{Connection, Directory};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::tickets::Tickets;

/// See the module's header. One per server, behind one `Arc`.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) hub: Hub<Connection>,
    pub(crate) metrics: Metrics,
    pub(crate) policy: ArcSwap<Policy>,
    pub(crate) addresses: Addresses,
    /// Where the event loops send connections that speak ordinary HTTP; unset where nothing serves them.
    pub(crate) http: OnceLock<mpsc::Sender<HttpConnection>>,
    /// Finds connections by their names; set when the loops are there.
    pub(crate) directory: OnceLock<Directory>,
    /// Who waits for acknowledgements.
    pub(crate) acks: Acks,
    /// Credentials on loan to addresses.
    pub(crate) tickets: Tickets,
    /// What was answered to pushes that may be repeated.
    pub(crate) remembered: Remembered,
    started: Instant,
    /// Set once, when the server begins to stop.
    draining: AtomicBool,
}

impl Context {
    pub(crate) fn new(policy: Policy) -> Self {
        let hub = Hub::new();
        hub.retain(policy.retention);
        Self {
            hub,
            directory: OnceLock::new(),
            acks: Acks::default(),
            remembered: Remembered::default(),
            tickets: Tickets::default(),
            started: Instant::now(),
            metrics: Metrics::default(),
            policy: ArcSwap::from_pointee(policy),
            addresses: Addresses::default(),
            http: OnceLock::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// Milliseconds since the start: the hub's idea of time.
    pub(crate) fn now(&self) -> Now {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

/// A connection on the public listener whose request is not for the event loops.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    pub(crate) socket: TcpStream,
    /// What was read of it already: a complete request head and what came with it.
    pub(crate) read: Vec<u8>,
    /// Counts the connection towards its address until dropped.
    pub(crate) counted: Option<Counted>,
}

/// One connection's place in its address's count, given up on drop.
#[derive(Debug)]
pub(crate) struct Counted {
    context: Arc<Context>,
    address: IpAddr,
}

impl Counted {
    /// Takes charge of a place that was already admitted.
    pub(crate) fn new(context: &Arc<Context>, address: IpAddr) -> Self {
        Self { context: Arc::clone(context), address }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.context.addresses.release(self.address);
    }
}
