//! What every part of one server shares.

use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use doorbell_hub::{Hub, Now, Promised, Reason, Step};
use doorbell_protocol::Uid;
use doorbell_protocol::close::CloseCode;
use tokio::sync::mpsc;

use crate::acks::Acks;
use crate::admission::Addresses;
use crate::health::Health;
use crate::http::Remembered;
use crate::io::{Connection, ConnectionId, Directory, Tls};
use crate::log_name::LogNames;
use crate::login::Service;
use crate::metrics::Metrics;
use crate::policy::{Identity, Policy};
use crate::revocation::{Proof, Revocations, Revoke, TooManyRevocations};
use crate::tickets::Tickets;
use crate::webhooks::Webhooks;

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
    /// What logs call uids.
    pub(crate) log_names: LogNames,
    /// Tokens that stop working before their end.
    pub(crate) revocations: Revocations,
    /// Pages that log in by scanning; unset where nothing serves them.
    pub(crate) login: OnceLock<Arc<Service>>,
    /// Credentials on loan to addresses.
    pub(crate) tickets: Tickets,
    /// What was answered to pushes that may be repeated.
    pub(crate) remembered: Remembered,
    /// Whether new connections can be taken.
    pub(crate) health: Health,
    /// Tells backends what happens.
    pub(crate) webhooks: Webhooks,
    started: Instant,
    started_at: SystemTime,
    /// Set once, when the server begins to stop.
    draining: AtomicBool,
}

impl Context {
    pub(crate) fn new(policy: Policy) -> Self {
        let hub = Hub::new();
        hub.retain(policy.retention);
        hub.trail().set_memory(policy.trail_memory);
        Self {
            hub,
            directory: OnceLock::new(),
            log_names: LogNames::default(),
            revocations: Revocations::default(),
            login: OnceLock::new(),
            acks: Acks::default(),
            remembered: Remembered::default(),
            tickets: Tickets::default(),
            health: Health::default(),
            webhooks: Webhooks::default(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            metrics: Metrics::default(),
            policy: ArcSwap::from_pointee(policy),
            addresses: Addresses::default(),
            http: OnceLock::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// Milliseconds since the start: the hub's idea of time.
    pub(crate) fn now(&self) -> Now {
        self.at(Instant::now())
    }

    /// What the hub calls that moment.
    pub(crate) fn at(&self, now: Instant) -> Now {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// What the hub calls `now`, in milliseconds since the Unix epoch. Stepping the clock does not move it.
    pub(crate) fn unix_ms(&self, now: Now) -> u64 {
        let started = self.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        u64::try_from(started).unwrap_or(u64::MAX).saturating_add(now)
    }

    /// Takes note that a connection of `uid` has acknowledged every message after `from`, up to `to`.
    pub(crate) fn acked(&self, uid: &Uid, connection: ConnectionId, (from, to): (u64, u64)) {
        self.metrics.acks.inc();
        self.acks.note(uid, from, to);
        self.hub.trail().acked(uid, connection.as_u64(), (from, to), self.now());
    }

    /// Takes note that a long-poll of `uid` asks for what comes after `seq`.
    pub(crate) fn polled(&self, uid: &Uid, seq: u64) {
        self.acks.note_poll(uid, seq);
        self.hub.trail().acked(uid, 0, (0, seq), self.now());
    }

    /// Counts what a connection was promised and then not sent, and notes it in the trail of each.
    pub(crate) fn given_up(&self, connection: ConnectionId, promised: &Promised, reason: Reason) {
        self.metrics.dropped(reason.name(), promised.messages);
        let step = Step::Dropped { connection: Some(connection.as_u64()), reason };
        for mark in &promised.marks {
            self.hub.trail().note(*mark, step, self.now());
        }
    }

    /// Whom a credential names, as things stand.
    ///
    /// # Errors
    /// Why it names nobody: a stable reason.
    pub(crate) fn identify(
        &self,
        credential: &[u8],
        identity: &Identity,
    ) -> Result<Identified, &'static str> {
        let now = SystemTime::now();
        match identity {
            Identity::Open => {
                let uid = Uid::from_bytes(credential).map_err(|error| error.reason())?;
                let proof = self.revocations.vouch(&uid, unix_seconds(now));
                Ok(Identified { uid, expires: None, proof })
            }
            Identity::Token(keys) => {
                let claims = keys.verify(credential, now).map_err(|error| error.reason())?;
                let proof = self.revocations.proof(claims.issued, claims.id.as_deref());
                if self.revocations.is_revoked(&claims.uid, proof) {
                    return Err(REVOKED);
                }
                Ok(Identified { uid: claims.uid, expires: Some(claims.expires), proof })
            }
        }
    }

    /// Revokes tokens of `uid` and closes the connections that came with them. It may wait for the disk.
    ///
    /// # Errors
    /// [`TooManyRevocations`]; nothing was revoked or closed then.
    pub(crate) fn revoke(&self, uid: &Uid, what: Revoke<'_>) -> Result<Ended, TooManyRevocations> {
        let (lifetime, limit) = {
            let policy = self.policy.load();
            (policy.max_lifetime, policy.limits.revocations)
        };
        let now = unix_seconds(SystemTime::now());
        let revocation = self.revocations.revoke(uid, what, now, lifetime, limit)?;
        // In this order: who became reachable before is found here, who does later looks into the table.
        let mut connections = self.hub.connections_of(uid.as_str());
        connections.retain(|connection| {
            !connection.is_closing() && self.revocations.is_revoked(uid, connection.proof())
        });
        for connection in &connections {
            connection.close(CloseCode::BAD_TOKEN, REVOKED);
        }
        // The disk may take a while, and other requests should not wait for it.
        let durable = tokio::task::block_in_place(|| self.revocations.keep(&revocation, now));
        Ok(Ended { before: self.revocations.issue_from(uid), closed: connections.len(), durable })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

/// The reason with which revoked tokens are refused and their connections closed.
pub(crate) const REVOKED: &str = "revoked";

/// What a revocation did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Tokens of the uid issued before this are revoked, in seconds since the Unix epoch; 0 for none.
    pub(crate) before: u64,
    /// Connections that were closed.
    pub(crate) closed: usize,
    /// Whether it outlives the process.
    pub(crate) durable: bool,
}

/// Whom a credential names.
#[derive(Debug)]
pub(crate) struct Identified {
    pub(crate) uid: Uid,
    /// Until when, in seconds since the Unix epoch; none for as long as it likes.
    pub(crate) expires: Option<u64>,
    pub(crate) proof: Proof,
}

/// Seconds since the Unix epoch; 0 by a clock that is before it.
pub(crate) fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A connection on the public listener whose request is not for the event loops.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    pub(crate) socket: TcpStream,
    /// Its session, where it speaks TLS.
    pub(crate) tls: Option<Box<Tls>>,
    /// Who speaks, by a PROXY header where a trusted proxy sent one.
    pub(crate) peer: IpAddr,
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
