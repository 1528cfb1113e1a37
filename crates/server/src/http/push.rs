//! `POST /v1/push` and its kin: what is asked, what is sent, and a truthful answer.
//!
//! An `id` names a push for two minutes: whoever repeats it meanwhile gets the first answer and nothing is sent again,
//! so a backend may retry after a timeout without ringing twice.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use doorbell_hub::{AHEAD, Body as Contents, Delivered, Message, Post};
use doorbell_protocol::frame::{Opcode, encode};
use doorbell_protocol::{Uid, json};
use http::StatusCode;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::{AnyOfBuilder, SchemaType};

use super::api::{Answer, App, aside, collect, read};
use super::fields::{UidField, any_json, either, present};
use super::problem::{Members, Problem, parse, parse_object};
use super::ttl::Ttl;

/// Uids one push may name.
const MAX_UIDS: usize = 10_000;
/// Pushes one request may hold.
const MAX_BATCH: usize = 1_000;
/// From how many uids on a push leaves the thread that serves other requests: it makes a system call for each.
const MANY_UIDS: usize = 64;
/// Bytes of an `id`.
const MAX_ID_BYTES: usize = 128;
/// How long an `id` is remembered, and how many are.
const REMEMBERED: Duration = Duration::from_secs(120);
const MAX_REMEMBERED: usize = 100_000;
/// How long a push waits for acknowledgements that does not say, and at most.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ACK_TIMEOUT: Duration = Duration::from_secs(60);

/// What became of a push.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct Pushed {
    /// Its name: the one the request gave, or a new one.
    id: String,
    /// Its number in the uid's sequence, when it has one: it does where a page may resume.
    seq: Option<u64>,
    /// Connections it was for.
    connections: usize,
    /// Connections that have it in their socket or their queue.
    written: usize,
    /// Connections that have acknowledged it by now.
    acked: usize,
    /// Mailboxes that keep it because nobody was there to take it.
    held: usize,
}

impl Pushed {
    fn new(id: String, delivered: Delivered, acked: usize) -> Self {
        let Delivered { connections, written, held, seq, .. } = delivered;
        Self { id, seq: (seq > 0).then_some(seq), connections, written, acked, held }
    }
}

/// A push to one uid, or to several: either `uid` or `uids` is required.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PushRequest {
    uid: Option<UidField>,
    #[schema(max_items = 10_000)]
    uids: Option<Vec<UidField>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(required = true, schema_with = any_json)]
    data: Option<Box<RawValue>>,
    /// How long it is kept for a page that is away; 0 is for who is there now.
    ttl: Option<Ttl>,
    /// A name for this push, in bytes: whoever repeats it within two minutes gets the first answer, and nothing is sent
    /// again.
    #[schema(min_length = 1, max_length = 128)]
    id: Option<String>,
    wait: Option<Wait>,
    /// How long `"wait": "acked"` waits, at most 60,000; 5,000 without it.
    #[schema(maximum = 18_446_744_073_709_551_615_u64)]
    timeout_ms: Option<u64>,
}

/// When to answer: once it is written, or once every connection that can has acknowledged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Wait {
    Written,
    /// For a single `uid` only.
    Acked,
}

/// The `data` of a push in both dialects.
#[derive(Debug)]
pub(super) struct Payload {
    json: Vec<u8>,
    frame: Vec<u8>,
}

impl Payload {
    /// Plain connections get a string as itself and anything else as compact JSON; envelopes get compact JSON.
    pub(super) fn new(data: Option<Box<RawValue>>) -> Answer<Self> {
        let missing = || Problem::bad_request("data", "`data` is missing: a string or any JSON value");
        let data = data.ok_or_else(missing)?;
        let mut json = Vec::with_capacity(data.get().len());
        json::compact_json(data.get(), &mut json);
        let mut frame = Vec::with_capacity(json.len() + 10);
        if data.get().starts_with('"') {
            let text: String = serde_json::from_str(data.get())
                .map_err(|error| Problem::bad_request("json", format!("`data`: {error}")))?;
            encode(Opcode::Text, text.as_bytes(), &mut frame);
        } else {
            encode(Opcode::Text, &json, &mut frame);
        }
        Ok(Self { json, frame })
    }

    /// As a message that is in nobody's sequence.
    pub(super) fn message<'a>(&'a self, id: &'a str) -> Message<'a> {
        Message::with_body(&self.frame, Contents { id, data: &self.json, epoch: "" }, 0)
    }

    fn post<'a>(&'a self, id: &'a str, epoch: &'a str, ttl: Duration) -> Post<'a> {
        Post { frame: &self.frame, body: Contents { id, data: &self.json, epoch }, ttl }
    }
}

/// A name for one message that nobody can guess or repeat.
pub(super) fn message_id() -> Answer<String> {
    random_name("m_")
}

/// A name that nobody can guess or repeat, after a prefix that says what it is for.
pub(super) fn random_name(prefix: &str) -> Answer<String> {
    use std::fmt::Write as _;
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "failed to read randomness");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "random", "the system gives no randomness")
    })?;
    Ok(random.iter().fold(String::from(prefix), |mut id, byte| {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    }))
}

/// One push, or a list of them, each still as it was written.
#[derive(Debug)]
pub(super) enum Pushes {
    One(PushRequest),
    Several(Vec<Box<RawValue>>),
}

impl Pushes {
    fn read(text: &[u8]) -> Answer<Self> {
        if text.trim_ascii_start().first() != Some(&b'[') {
            return parse_object(text).map(Self::One);
        }
        let several: Vec<_> = parse(text)?;
        if several.len() > MAX_BATCH {
            let detail = format!("a batch has at most {MAX_BATCH} pushes");
            return Err(Problem::bad_request("batch", detail));
        }
        Ok(Self::Several(several))
    }
}

impl utoipa::ToSchema for Pushes {
    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        use utoipa::PartialSchema as _;
        let request = either(PushRequest::schema(), ["uid", "uids"]);
        schemas.push((<PushRequest as utoipa::ToSchema>::name().into(), request));
        <PushRequest as utoipa::ToSchema>::schemas(schemas);
    }
}

impl utoipa::PartialSchema for Pushes {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let one = utoipa::openapi::Ref::from_schema_name(<PushRequest as utoipa::ToSchema>::name());
        let anything = ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .description(Some("What is no push is answered with a problem in its place."));
        let each = AnyOfBuilder::new().item(one.clone()).item(anything);
        let several = utoipa::openapi::ArrayBuilder::new().items(each).max_items(Some(MAX_BATCH));
        utoipa::openapi::OneOfBuilder::new().item(one).item(several).into()
    }
}

/// The answer to one push, or to several in their order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum PushAnswer {
    One(Pushed),
    Several(Vec<BatchAnswer>),
}

/// What became of one push of a batch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum BatchAnswer {
    Pushed(Pushed),
    Wrong(Members),
}

/// Pushes to the connections of one uid or several, or does so for each of a list
#[utoipa::path(post, path = "/v1/push", tag = "pushes", request_body = Pushes,
    responses((status = 200, description = "what became of it; `written` is 0 when nobody heard it", body = PushAnswer)))]
pub(super) async fn push(State(context): State<App>, body: Body) -> Answer<Json<PushAnswer>> {
    let requests = match Pushes::read(&collect(&context, body).await?)? {
        Pushes::One(request) => return Ok(Json(PushAnswer::One(push_one(&context, request).await?))),
        Pushes::Several(requests) => requests,
    };
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        // One that is wrong does not stop the others.
        let answer = match parse_object(request.get().as_bytes()) {
            Ok(request) => push_one(&context, request).await,
            Err(problem) => Err(problem),
        };
        answers.push(match answer {
            Ok(pushed) => BatchAnswer::Pushed(pushed),
            Err(problem) => BatchAnswer::Wrong(problem.into()),
        });
    }
    Ok(Json(PushAnswer::Several(answers)))
}

async fn push_one(context: &App, request: PushRequest) -> Answer<Pushed> {
    let payload = Payload::new(request.data)?;
    let ttl = request.ttl.map_or_else(|| Ok(context.policy.load().ttl), |ttl| ttl.duration())?;
    let uids = match (request.uid, request.uids) {
        (Some(uid), None) => vec![uid.uid()?],
        (None, Some(uids)) if uids.len() > MAX_UIDS => {
            return Err(Problem::bad_request("uids", format!("`uids` names more than {MAX_UIDS}")));
        }
        // Whoever is named twice gets the message once.
        (None, Some(uids)) => {
            uids.iter().map(UidField::uid).collect::<Answer<BTreeSet<_>>>()?.into_iter().collect()
        }
        _ => return Err(Problem::bad_request("uid", "give either `uid` or `uids`")),
    };
    let wait = match (request.wait, &*uids) {
        (Some(Wait::Acked), [_]) => {
            let timeout = request.timeout_ms.map_or(ACK_TIMEOUT, Duration::from_millis);
            Some(timeout.min(MAX_ACK_TIMEOUT))
        }
        (Some(Wait::Acked), _) => {
            return Err(Problem::bad_request("wait", "`wait` can be \"acked\" for a single `uid` only"));
        }
        _ => None,
    };
    let Some(id) = request.id else {
        return send(context, message_id()?, uids, payload, ttl, wait).await;
    };
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(Problem::bad_request("id", format!("an `id` has 1 to {MAX_ID_BYTES} bytes")));
    }
    let first = context.remembered.remember(&id, Instant::now());
    first.get_or_try_init(|| send(context, id, uids, payload, ttl, wait)).await.cloned()
}

async fn send(
    context: &App,
    id: String,
    uids: Vec<Uid>,
    payload: Payload,
    ttl: Duration,
    wait: Option<Duration>,
) -> Answer<Pushed> {
    let waiting = wait.zip(uids.first()).map(|(timeout, uid)| (timeout, context.acks.wait_for(uid)));
    let delivered = if uids.len() > MANY_UIDS {
        let (context, id) = (Arc::clone(context), id.clone());
        aside(move || send_each(&context, &id, &uids, &payload, ttl)).await?
    } else {
        send_each(context, &id, &uids, &payload, ttl)
    };
    let mut acked = 0;
    if let Some((timeout, waiting)) = waiting {
        // A message that waits for its page may still be acknowledged in time.
        let enough = if delivered.held > 0 { 1 } else { delivered.sequenced };
        let _ = tokio::time::timeout(timeout, waiting.until(delivered.seq, enough)).await;
        acked = waiting.count(delivered.seq);
    }
    let result = if delivered.written > 0 {
        "ok"
    } else if delivered.held > 0 {
        "held"
    } else {
        "fail"
    };
    context.metrics.pushes("api", result).inc();
    Ok(Pushed::new(id, delivered, acked))
}

fn send_each(context: &App, id: &str, uids: &[Uid], payload: &Payload, ttl: Duration) -> Delivered {
    let now = context.now();
    let mut sum = Delivered::default();
    let post = payload.post(id, context.hub.epoch(), ttl);
    for uids in uids.chunks(AHEAD) {
        context.hub.look_ahead(uids.iter().map(Uid::as_str));
        for uid in uids {
            sum += context.hub.push(uid.as_str(), &post, now);
        }
    }
    if uids.len() > 1 {
        // Each uid has a sequence of its own.
        sum.seq = 0;
    }
    sum
}

/// A push to a group.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupPushRequest {
    #[serde(default, deserialize_with = "present")]
    #[schema(required = true, schema_with = any_json)]
    data: Option<Box<RawValue>>,
    ttl: Option<Ttl>,
}

/// Pushes to every connection of every member
#[utoipa::path(post, path = "/v1/groups/{group}/push", tag = "groups", params(("group" = String, Path)),
    request_body = GroupPushRequest,
    responses((status = 200, description = "what became of it; a group that does not exist has no members", body = Pushed)))]
pub(super) async fn push_group(
    State(context): State<App>,
    Path(group): Path<String>,
    body: Body,
) -> Answer<Json<Pushed>> {
    let request: GroupPushRequest = read(&context, body).await?;
    let payload = Payload::new(request.data)?;
    let ttl = request.ttl.map_or_else(|| Ok(context.policy.load().ttl), |ttl| ttl.duration())?;
    let id = message_id()?;
    let (hub, name) = (Arc::clone(&context), id.clone());
    let mut delivered =
        aside(move || hub.hub.push_group(&group, &payload.post(&name, hub.hub.epoch(), ttl), hub.now()))
            .await?;
    delivered.seq = 0;
    let result = if delivered.written > 0 { "ok" } else { "fail" };
    context.metrics.pushes("group", result).inc();
    Ok(Json(Pushed::new(id, delivered, 0)))
}

/// One push by a person at the demonstration page.
pub(super) fn push_by_hand(context: &App, uid: &str, data: Box<RawValue>) -> Answer<Pushed> {
    let uid = Uid::new(uid).map_err(|error| Problem::bad_request("uid", error.to_string()))?;
    let payload = Payload::new(Some(data))?;
    let id = message_id()?;
    let ttl = context.policy.load().ttl;
    let delivered =
        context.hub.push(uid.as_str(), &payload.post(&id, context.hub.epoch(), ttl), context.now());
    let result = if delivered.written > 0 { "ok" } else { "fail" };
    context.metrics.pushes("demo", result).inc();
    Ok(Pushed::new(id, delivered, 0))
}

/// The answers to pushes that named themselves.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    by_id: HashMap<String, Arc<OnceCell<Pushed>>>,
    /// Oldest first.
    order: VecDeque<(Instant, String)>,
}

impl Remembered {
    /// The answer to the push called `id`: empty for the first to ask, who fills it.
    fn remember(&self, id: &str, now: Instant) -> Arc<OnceCell<Pushed>> {
        let mut answers = self.answers.lock();
        while let Some((since, _)) = answers.order.front() {
            if now.duration_since(*since) < REMEMBERED && answers.order.len() < MAX_REMEMBERED {
                break;
            }
            if let Some((_, id)) = answers.order.pop_front() {
                answers.by_id.remove(&id);
            }
        }
        if let Some(answer) = answers.by_id.get(id) {
            return Arc::clone(answer);
        }
        let answer = Arc::<OnceCell<Pushed>>::default();
        answers.by_id.insert(id.to_owned(), Arc::clone(&answer));
        answers.order.push_back((now, id.to_owned()));
        answer
    }
}
