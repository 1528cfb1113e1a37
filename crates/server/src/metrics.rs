//! What `/metrics` shows.
//!
//! Names follow the Prometheus conventions; labels are small closed sets, never a uid, a group or an address.

mod webhooks;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::webhooks::WebhookMetrics;

/// Which listener something happened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Listener {
    Public,
    Text,
    Api,
}

impl Listener {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Text => "text",
            Self::Api => "api",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    listener: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closing {
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pushing {
    port: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByListener {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStep {
    step: &'static str,
}

/// What counts logins; cheap to share.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoginMetrics {
    steps: Family<ByStep, Counter>,
    refused: Family<ByReason, Counter>,
    /// Set, not counted, when somebody asks.
    pub(crate) under_way: Gauge,
}

impl LoginMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("logins", "Steps that logins have taken", metrics.steps.clone());
        registry.register(
            "logins_refused",
            "Requests for logins refused, by reason",
            metrics.refused.clone(),
        );
        registry.register("logins_under_way", "Logins that have not ended", metrics.under_way.clone());
        metrics
    }

    pub(crate) fn stepped(&self, step: doorbell_login::Step) {
        self.steps.get_or_create(&ByStep { step: step.name() }).inc();
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ByReason { reason }).inc();
    }
}

/// Every counter and gauge of one server. Cheap to share; no globals, so that servers in one process do not mix.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    refused: Family<Refusal, Counter>,
    closed: Family<Closing, Counter>,
    accepted: Family<ByListener, Counter>,
    open: Family<ByListener, Gauge>,
    pushes: Family<Pushing, Counter>,
    dropped: Family<ByReason, Counter>,
    accept_failures: Counter,
    pub(crate) login: LoginMetrics,
    pub(crate) bound: Gauge,
    pub(crate) users: Gauge,
    pub(crate) mailboxes: Gauge,
    pub(crate) mailbox_bytes: Gauge,
    /// Set, not counted, from what the hub has counted.
    pub(crate) mailbox_lost: Gauge,
    pub(crate) revocations: Gauge,
    pub(crate) trail_bytes: Gauge,
    /// Set, not counted, from what the hub has counted.
    pub(crate) trail_overwritten: Gauge,
    pub(crate) broadcasts: Counter,
    /// Messages that reached a socket or a bounded queue.
    pub(crate) written: Counter,
    webhooks: WebhookMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("doorbell");
        let refused = Family::default();
        registry.register(
            "refused",
            "Connections, requests and lines refused, by listener and reason",
            refused.clone(),
        );
        let closed = Family::default();
        registry.register(
            "websocket_closed",
            "WebSocket connections the server closed, by code",
            closed.clone(),
        );
        let accepted = Family::default();
        registry.register("accepted_connections", "Connections accepted", accepted.clone());
        let open = Family::default();
        registry.register("open_connections", "Connections open now, whatever their state", open.clone());
        let pushes = Family::default();
        registry.register(
            "pushes",
            "Pushes by way in and result: ok (at least one connection) or fail",
            pushes.clone(),
        );
        let dropped = Family::default();
        registry.register(
            "messages_dropped",
            "Messages that were promised to a connection and then given up, by reason",
            dropped.clone(),
        );
        let accept_failures = Counter::default();
        registry.register(
            "accept_failures",
            "Times the system had no descriptor or memory for a new connection",
            accept_failures.clone(),
        );
        let login = LoginMetrics::register(&mut registry);
        let bound = Gauge::default();
        registry.register("bound_connections", "Connections that have named their uid", bound.clone());
        let users = Gauge::default();
        registry.register("users", "Uids with at least one connection", users.clone());
        let mailboxes = Gauge::default();
        registry.register("mailboxes", "Uids of which messages or numbers are kept", mailboxes.clone());
        let mailbox_bytes = Gauge::default();
        registry.register("mailbox_bytes", "Memory of all mailboxes", mailbox_bytes.clone());
        let mailbox_lost = Gauge::default();
        registry.register(
            "mailbox_lost",
            "Kept messages given up, by age or for want of room, before anybody was sent them",
            mailbox_lost.clone(),
        );
        let revocations = Gauge::default();
        registry.register("revocations", "Revocations of tokens that are remembered", revocations.clone());
        let trail_bytes = Gauge::default();
        registry.register("trail_bytes", "Memory of what became of messages", trail_bytes.clone());
        let trail_overwritten = Gauge::default();
        registry.register(
            "trail_overwritten",
            "Messages whose trail made room for newer ones",
            trail_overwritten.clone(),
        );
        let broadcasts = Counter::default();
        registry.register("broadcasts", "Broadcasts asked for", broadcasts.clone());
        let written = Counter::default();
        registry.register(
            "messages_written",
            "Messages handed to a connection's socket or bounded queue",
            written.clone(),
        );
        let webhooks = WebhookMetrics::register(&mut registry);
        let start = Gauge::<f64, AtomicU64>::default();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        start.set(now.as_secs_f64());
        registry.register_with_unit("start_time", "When the server started", Unit::Seconds, start);
        Self {
            registry,
            refused,
            closed,
            accepted,
            open,
            pushes,
            dropped,
            accept_failures,
            login,
            bound,
            users,
            mailboxes,
            mailbox_bytes,
            mailbox_lost,
            revocations,
            trail_bytes,
            trail_overwritten,
            broadcasts,
            written,
            webhooks,
        }
    }
}

impl Metrics {
    pub(crate) fn refused(&self, listener: Listener, reason: &'static str) {
        self.refused.get_or_create(&Refusal { listener: listener.label(), reason }).inc();
    }

    pub(crate) fn closed(&self, code: u16) {
        self.closed.get_or_create(&Closing { code }).inc();
    }

    pub(crate) fn accepted(&self, listener: Listener) {
        self.accepted.get_or_create(&ByListener { listener: listener.label() }).inc();
    }

    pub(crate) fn open(&self, listener: Listener) -> Gauge {
        self.open.get_or_create_owned(&ByListener { listener: listener.label() })
    }

    pub(crate) fn pushes(&self, port: &'static str, result: &'static str) -> Counter {
        self.pushes.get_or_create_owned(&Pushing { port, result })
    }

    pub(crate) fn dropped(&self, reason: &'static str, messages: usize) {
        if messages > 0 {
            self.dropped.get_or_create(&ByReason { reason }).inc_by(messages as u64);
        }
    }

    pub(crate) const fn webhooks(&self) -> &WebhookMetrics {
        &self.webhooks
    }

    pub(crate) fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    /// The OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::with_capacity(4096);
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
