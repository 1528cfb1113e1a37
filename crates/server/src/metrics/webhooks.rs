//! What `/metrics` shows of webhooks.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::settings::WebhookEvent;

/// Seconds: a receiver next door, one across the world, one at the default time limit.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    event: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tried {
    result: &'static str,
}

/// Cheap to clone; the clones count together.
#[derive(Debug, Clone)]
pub(crate) struct WebhookMetrics {
    ended: Family<Ended, Counter>,
    tries: Family<Tried, Counter>,
    duration: Histogram,
    queued: Gauge,
    queued_bytes: Gauge,
    presence_lost: Counter,
}

impl WebhookMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let ended = Family::default();
        registry.register(
            "webhook_events",
            "Events for one URL: delivered, given_up after the last try, dropped at a full queue, or gone",
            ended.clone(),
        );
        let tries = Family::default();
        registry.register("webhook_tries", "Webhook requests, by what came of them", tries.clone());
        let duration = Histogram::new(BUCKETS);
        registry.register_with_unit(
            "webhook_try_duration",
            "How long webhook requests took",
            Unit::Seconds,
            duration.clone(),
        );
        let queued = Gauge::default();
        registry.register("webhook_queued_events", "Events not yet taken or given up", queued.clone());
        let queued_bytes = Gauge::default();
        registry.register_with_unit(
            "webhook_queued",
            "Memory of the events not yet taken or given up",
            Unit::Bytes,
            queued_bytes.clone(),
        );
        let presence_lost = Counter::default();
        registry.register(
            "webhook_presence_lost",
            "Uids that came or went while there was no room to take note of it",
            presence_lost.clone(),
        );
        Self { ended, tries, duration, queued, queued_bytes, presence_lost }
    }

    pub(crate) fn ended(&self, event: WebhookEvent, result: &'static str) {
        self.ended.get_or_create(&Ended { event: event.name(), result }).inc();
    }

    pub(crate) fn tried(&self, result: &'static str, took: Duration) {
        self.tries.get_or_create(&Tried { result }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(crate) fn queued(&self, bytes: usize) {
        self.queued.inc();
        self.queued_bytes.inc_by(i64::try_from(bytes).unwrap_or_default());
    }

    pub(crate) fn unqueued(&self, bytes: usize) {
        self.queued.dec();
        self.queued_bytes.dec_by(i64::try_from(bytes).unwrap_or_default());
    }

    pub(crate) fn lost(&self, transitions: usize) {
        self.presence_lost.inc_by(transitions as u64);
    }
}
