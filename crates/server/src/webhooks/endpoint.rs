//! One URL. What is about one subject goes out in order: the next only when the one before was taken or given up.
//! Subjects do not wait for each other, except for the places of [`Terms::places`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{StatusCode, header};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::signature::SigningKey;
use crate::metrics::WebhookMetrics;
use crate::settings::{WebhookEvent, Webhooks as Settings};

/// Each wait is this many times the one before: the default's four waits span 1 to 60 s.
const BACKOFF_FACTOR: u32 = 4;
/// Bytes of an answer that are read, so that its connection can be used again; nothing in it matters.
const MAX_ANSWER: usize = 16 * 1024;
/// What a delivery costs besides its body: its id, its task, its places in the tables.
const OVERHEAD: usize = 1_024;
/// How often one URL's failures are logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// How an endpoint is treated; exchanged whole on reload.
#[derive(Debug)]
pub(super) struct Terms {
    key: SigningKey,
    tries: u32,
    retry_first: Duration,
    retry_max: Duration,
    timeout: Duration,
    queue_messages: usize,
    queue_bytes: usize,
    /// One for each request that may be under way.
    places: Semaphore,
}

impl Terms {
    pub(super) fn new(settings: &Settings, key: SigningKey) -> Self {
        Self {
            key,
            tries: settings.tries,
            retry_first: settings.retry_first,
            retry_max: settings.retry_max,
            timeout: settings.timeout,
            queue_messages: settings.queue_messages,
            queue_bytes: settings.queue_bytes,
            places: Semaphore::new(settings.concurrency),
        }
    }

    /// The wait after the `failed`-th try: exponential, shortened by up to half at random so that many do not come back
    /// at once.
    fn wait(&self, failed: u32) -> Duration {
        let full = self.retry_first.saturating_mul(BACKOFF_FACTOR.saturating_pow(failed.saturating_sub(1)));
        // Without randomness the waits are only less spread.
        let random = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        full.min(self.retry_max).mul_f64(0.5 + random / 2.0)
    }
}

/// One event on its way to one or several URLs.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The same in every try, and for every URL.
    pub(super) id: String,
    pub(super) event: WebhookEvent,
    pub(super) body: Bytes,
}

impl Delivery {
    fn cost(&self) -> usize {
        self.body.len() + OVERHEAD
    }
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: reqwest::Url,
    pub(super) client: reqwest::Client,
    terms: ArcSwap<Terms>,
    queue: Mutex<Queue>,
    /// It has answered 410: it wants no more.
    gone: AtomicBool,
    stop: CancellationToken,
    metrics: WebhookMetrics,
    complained: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Never an empty list: a subject without deliveries has no entry.
    subjects: HashMap<Arc<str>, VecDeque<Arc<Delivery>>>,
    messages: usize,
    bytes: usize,
}

/// What came of one try.
enum Outcome {
    Taken,
    Gone,
    /// Worth another try, perhaps not before the time the answer named.
    Failed(&'static str, Option<Duration>),
}

impl Endpoint {
    pub(super) fn new(
        url: reqwest::Url,
        client: reqwest::Client,
        terms: Arc<Terms>,
        stop: CancellationToken,
        metrics: WebhookMetrics,
    ) -> Self {
        Self {
            url,
            client,
            terms: ArcSwap::new(terms),
            queue: Mutex::default(),
            gone: AtomicBool::new(false),
            stop,
            metrics,
            complained: Mutex::default(),
        }
    }

    /// Takes over new terms; an endpoint that was gone gets another chance.
    pub(super) fn adopt(&self, terms: Arc<Terms>) {
        self.terms.store(terms);
        self.gone.store(false, Ordering::Release);
    }

    /// Queues a delivery, or drops it. Whether the caller is to start [`Endpoint::work_off`] for the subject.
    pub(super) fn accept(&self, subject: &str, delivery: &Arc<Delivery>) -> bool {
        if self.gone.load(Ordering::Acquire) {
            self.metrics.ended(delivery.event, "gone");
            return false;
        }
        let terms = self.terms.load();
        let cost = delivery.cost();
        let mut queue = self.queue.lock();
        if queue.messages >= terms.queue_messages || queue.bytes + cost > terms.queue_bytes {
            drop(queue);
            self.metrics.ended(delivery.event, "dropped");
            self.complain("the queue is full; the event is dropped");
            return false;
        }
        queue.messages += 1;
        queue.bytes += cost;
        self.metrics.queued(cost);
        match queue.subjects.entry(Arc::from(subject)) {
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push_back(Arc::clone(delivery));
                false
            }
            Entry::Vacant(vacant) => {
                vacant.insert(VecDeque::from([Arc::clone(delivery)]));
                true
            }
        }
    }

    /// Sends what waits about `subject` until nothing does.
    pub(super) async fn work_off(&self, subject: &str) {
        loop {
            let next = self.queue.lock().subjects.get(subject).and_then(|waiting| waiting.front().cloned());
            let Some(delivery) = next else { return };
            let result = self.deliver(&delivery).await;
            self.metrics.ended(delivery.event, result);
            self.metrics.unqueued(delivery.cost());
            let mut queue = self.queue.lock();
            queue.messages -= 1;
            queue.bytes -= delivery.cost();
            if let Some(waiting) = queue.subjects.get_mut(subject) {
                waiting.pop_front();
                if waiting.is_empty() {
                    queue.subjects.remove(subject);
                    return;
                }
            }
        }
    }

    /// Tries until it is taken or given up; the result as the metrics call it.
    async fn deliver(&self, delivery: &Delivery) -> &'static str {
        let mut tried = 0;
        loop {
            // Looked at anew each time: they may have changed while it waited.
            let terms = self.terms.load_full();
            let outcome = {
                // The semaphore is never closed.
                let _place = terms.places.acquire().await;
                if self.gone.load(Ordering::Acquire) {
                    return "gone";
                }
                self.attempt(&terms, delivery).await
            };
            tried += 1;
            let asked = match outcome {
                Outcome::Taken => return "delivered",
                Outcome::Gone => {
                    self.gone.store(true, Ordering::Release);
                    tracing::warn!(
                        host = self.host(),
                        "a webhook's receiver answered 410: it gets no more until a reload or a start"
                    );
                    return "gone";
                }
                Outcome::Failed(why, asked) => {
                    self.complain(why);
                    asked
                }
            };
            if tried >= terms.tries || self.stop.is_cancelled() {
                return "given_up";
            }
            let wait = terms.wait(tried).max(asked.unwrap_or_default().min(terms.retry_max));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // One last try.
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn attempt(&self, terms: &Terms, delivery: &Delivery) -> Outcome {
        let started = Instant::now();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .client
            .post(self.url.clone())
            .timeout(terms.timeout)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &delivery.id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", terms.key.sign(&delivery.id, now, &delivery.body))
            .body(delivery.body.clone());
        let outcome = match request.send().await {
            Ok(response) => settle(response).await,
            Err(error) if error.is_timeout() => Outcome::Failed("timeout", None),
            Err(error) if error.is_connect() => Outcome::Failed("connect", None),
            Err(_) => Outcome::Failed("broken", None),
        };
        let result = match outcome {
            Outcome::Taken => "ok",
            Outcome::Gone => "gone",
            Outcome::Failed(why, _) => why,
        };
        self.metrics.tried(result, started.elapsed());
        outcome
    }

    /// Where it is, without the path, which may be a secret.
    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn complain(&self, why: &'static str) {
        let now = Instant::now();
        let mut complained = self.complained.lock();
        if complained.is_none_or(|last| now.duration_since(last) >= COMPLAIN_EVERY) {
            *complained = Some(now);
            tracing::warn!(host = self.host(), why, "a webhook was not taken");
        }
    }
}

/// Reads what an answer means, and as much of its body as lets its connection be used again.
async fn settle(mut response: reqwest::Response) -> Outcome {
    let status = response.status();
    let outcome = match status {
        _ if status.is_success() => Outcome::Taken,
        StatusCode::GONE => Outcome::Gone,
        _ if status.is_redirection() => Outcome::Failed("redirect", None),
        _ => {
            // RFC 9110 section 10.2.3; a date is not looked at.
            let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let asked = asked.and_then(|value| value.parse().ok()).map(Duration::from_secs);
            Outcome::Failed("status", asked)
        }
    };
    let mut read = 0;
    while let Ok(Some(part)) = response.chunk().await {
        read += part.len();
        if read > MAX_ANSWER {
            break;
        }
    }
    outcome
}
