//! What `/metrics` shows.
//!
//! Names follow the Prometheus conventions; labels are small closed sets, never a uid, a group or an address.

mod process;
mod webhooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use rustls::HandshakeKind;

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
    /// Likewise.
    pub(crate) long_polls: Gauge,
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
        registry.register(
            "login_long_polls",
            "Requests that wait for a step of a login",
            metrics.long_polls.clone(),
        );
        metrics
    }

    pub(crate) fn stepped(&self, step: doorbell_login::Step) {
        self.steps.get_or_create(&ByStep { step: step.name() }).inc();
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ByReason { reason }).inc();
    }
}

/// Seconds: a push, a fan-out, a wait for an acknowledgement.
const CALL_BUCKETS: [f64; 9] = [0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 60.0];

/// Seconds: from a page in the same building to one that just answers in time.
const PING_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    /// Method and route, as in the API's description: a closed set.
    call: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByHandshake {
    handshake: &'static str,
}

/// A Unix time in whole seconds that is not always there; without it `/metrics` does not have the name either.
#[derive(Debug, Clone)]
pub(crate) struct Moment(Arc<AtomicI64>);

impl Moment {
    const NONE: i64 = i64::MIN;

    pub(crate) fn set(&self, unix_seconds: Option<u64>) {
        let seconds = unix_seconds.and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(Self::NONE);
        self.0.store(seconds, Ordering::Relaxed);
    }

    fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|seconds| *seconds != Self::NONE)
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(Self::NONE)))
    }
}

impl EncodeMetric for Moment {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.get().map_or(Ok(()), |seconds| ConstGauge::new(seconds).encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.get().is_none()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Recovery {
    recovered: &'static str,
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
    /// Set, not counted, from what the hub has counted.
    pub(crate) poll_lingered: Gauge,
    pub(crate) revocations: Gauge,
    pub(crate) trail_bytes: Gauge,
    /// Set, not counted, from what the hub has counted.
    pub(crate) trail_overwritten: Gauge,
    pub(crate) broadcasts: Counter,
    /// Messages that reached a socket or a bounded queue.
    pub(crate) written: Counter,
    /// Of those, the ones that went to the kernel together with others.
    pub(crate) sent_together: Counter,
    webhooks: WebhookMetrics,
    /// Names that do not begin with `doorbell_`.
    plain: Registry,
    calls: Family<Call, Histogram, fn() -> Histogram>,
    recoveries: Family<Recovery, Counter>,
    handshakes: Family<ByHandshake, Counter>,
    /// Of the certificate that new TLS sessions are shown.
    pub(crate) certificate_expires: Moment,
    /// In seconds.
    pub(crate) ping_rtt: Histogram,
    /// Acknowledgements that said something new.
    pub(crate) acks: Counter,
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
        let poll_lingered = Gauge::default();
        registry.register(
            "poll_lingered",
            "Messages without a ttl that waited for a page between two of its long-polls",
            poll_lingered.clone(),
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
        let sent_together = Counter::default();
        registry.register(
            "messages_sent_together",
            "Messages handed to the kernel together with others, by io_uring",
            sent_together.clone(),
        );
        let webhooks = WebhookMetrics::register(&mut registry);
        let calls = Family::new_with_constructor((|| Histogram::new(CALL_BUCKETS)) as fn() -> Histogram);
        registry.register_with_unit(
            "api_request_duration",
            "How long API calls took",
            Unit::Seconds,
            calls.clone(),
        );
        let recoveries = Family::default();
        registry.register(
            "recoveries",
            "Pages that came back, by whether they missed nothing",
            recoveries.clone(),
        );
        let handshakes = Family::default();
        registry.register(
            "tls_handshakes",
            "TLS handshakes done: full, or resumed by a ticket, which costs a fraction",
            handshakes.clone(),
        );
        let certificate_expires = Moment::default();
        registry.register_with_unit(
            "tls_certificate_expires_timestamp",
            "When the certificate of the public listener expires",
            Unit::Seconds,
            certificate_expires.clone(),
        );
        let ping_rtt = Histogram::new(PING_BUCKETS);
        registry.register_with_unit(
            "ping_rtt",
            "From a ping to its pong, of pages whose next word was that pong",
            Unit::Seconds,
            ping_rtt.clone(),
        );
        let acks = Counter::default();
        registry.register("acks", "Acknowledgements of something new", acks.clone());
        let mut plain = Registry::default();
        process::register(&mut plain);
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
            poll_lingered,
            revocations,
            trail_bytes,
            trail_overwritten,
            broadcasts,
            written,
            sent_together,
            webhooks,
            plain,
            calls,
            recoveries,
            handshakes,
            certificate_expires,
            ping_rtt,
            acks,
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

    pub(crate) fn recovery(&self, recovered: bool) {
        let recovered = if recovered { "true" } else { "false" };
        self.recoveries.get_or_create(&Recovery { recovered }).inc();
    }

    pub(crate) fn handshake(&self, kind: HandshakeKind) {
        let handshake = if kind == HandshakeKind::Resumed { "resumed" } else { "full" };
        self.handshakes.get_or_create(&ByHandshake { handshake }).inc();
    }

    pub(crate) fn api_call(&self, method: &http::Method, path: &str, took: Duration) {
        let call = Call { call: format!("{method} {path}") };
        self.calls.get_or_create(&call).observe(took.as_secs_f64());
    }

    /// The OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut encoded = String::with_capacity(8_192);
        // Writing to a String cannot fail.
        let _ = text::encode_registry(&mut encoded, &self.registry)
            .and_then(|()| text::encode_registry(&mut encoded, &self.plain))
            .and_then(|()| text::encode_eof(&mut encoded));
        encoded
    }
}
