//! What a loop lends to the connection whose turn it is: the clock, the policy of this turn, and buffers, so that an idle
//! connection needs none of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbell_hub::Now;
use doorbell_protocol::Inflater;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::clock::{Clock, Tick};
use super::poll::Latest;
use super::text::Line;
use crate::context::Context;
use crate::metrics::Listener;
use crate::policy::Policy;

/// See the module's header.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) context: Arc<Context>,
    pub(super) policy: Arc<Policy>,
    pub(super) now: Tick,
    /// The hub's idea of now.
    pub(super) now_ms: Now,
    /// For frames being encoded.
    pub(super) frame: Vec<u8>,
    /// For answers being collected.
    pub(super) answers: Vec<u8>,
    /// For lines that are looked at together.
    pub(super) handful: Vec<Line>,
    /// For compressed messages that arrive; without memory until the first one does.
    pub(super) inflater: Inflater,
    pub(super) latest_poll: Latest,
    pub(super) text_ok: Counter,
    pub(super) text_fail: Counter,
    pub(super) text_held: Counter,
    pub(super) clock: Clock,
    open_public: Gauge,
    open_text: Gauge,
    random: u64,
}

impl Tools {
    pub(super) fn new(context: &Arc<Context>, clock: Clock) -> Self {
        use std::hash::BuildHasher as _;
        Self {
            policy: context.policy.load_full(),
            now: clock.now(),
            now_ms: context.now(),
            frame: Vec::new(),
            answers: Vec::new(),
            handful: Vec::new(),
            inflater: Inflater::new(),
            latest_poll: Latest::default(),
            text_ok: context.metrics.pushes("text", "ok"),
            text_fail: context.metrics.pushes("text", "fail"),
            text_held: context.metrics.pushes("text", "held"),
            clock,
            open_public: context.metrics.open(Listener::Public),
            open_text: context.metrics.open(Listener::Text),
            random: std::hash::RandomState::new().hash_one(0) | 1,
            context: Arc::clone(context),
        }
    }

    /// Looks at the clock and at the policy, once a turn.
    pub(super) fn begin_turn(&mut self) {
        let now = Instant::now();
        self.now = self.clock.at(now);
        self.now_ms = self.context.at(now);
        let policy = self.context.policy.load();
        if !Arc::ptr_eq(&policy, &self.policy) {
            self.policy = Arc::clone(&policy);
        }
    }

    pub(super) const fn open(&self, listener: Listener) -> &Gauge {
        match listener {
            Listener::Text => &self.open_text,
            Listener::Public | Listener::Api => &self.open_public,
        }
    }

    pub(super) fn after(&self, wait: Duration) -> Tick {
        self.now.after(wait)
    }

    /// A duration up to `most`, so that many connections do not act at once (xorshift64*; not for secrets).
    pub(super) fn jitter(&mut self, most: Duration) -> Duration {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let fraction = (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f64 / f64::from(1u32 << 24);
        most.mul_f64(fraction)
    }
}
