//! `/_control/…`: what people do, what goes wrong, and what has happened. JSON in, JSON out.

use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Shared;
use crate::deliver::{Delivery, Event, deliver};
use crate::fault::{Fault, Quota};
use crate::pages::settle;
use crate::world::{Account, Person, ProgramCode, Settings, Status, World};

type Answer = Result<Json<Value>, (StatusCode, String)>;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/reset", post(reset))
        .route("/accounts", post(add_account))
        .route("/people", post(add_person))
        .route("/settings", post(set))
        .route("/faults", post(add_fault).delete(clear_faults))
        .route("/quotas", post(set_quota))
        .route("/clock", post(advance))
        .route("/tokens/invalidate", post(invalidate))
        .route("/codes", post(new_code))
        .route("/scan", post(do_scan))
        .route("/agree", post(agree))
        .route("/refuse", post(refuse))
        .route("/events", post(send_event))
        .route("/state", get(state))
}

fn bad(why: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, why.into())
}

fn done() -> Answer {
    Ok(Json(json!({ "ok": true })))
}

/// Forgets everything.
async fn reset(State(shared): State<Shared>) -> Answer {
    *shared.world.lock() = World::new();
    done()
}

/// Adds or replaces an account.
async fn add_account(State(shared): State<Shared>, Json(account): Json<Account>) -> Answer {
    let mut world = shared.world.lock();
    world.accounts.insert(account.appid.clone(), account);
    done()
}

/// Adds or replaces a person.
async fn add_person(State(shared): State<Shared>, Json(person): Json<Person>) -> Answer {
    shared.world.lock().people.insert(person.id.clone(), person);
    done()
}

async fn set(State(shared): State<Shared>, Json(settings): Json<Settings>) -> Answer {
    shared.world.lock().settings = settings;
    done()
}

async fn add_fault(State(shared): State<Shared>, Json(fault): Json<Fault>) -> Answer {
    shared.world.lock().faults.push(fault);
    done()
}

async fn clear_faults(State(shared): State<Shared>) -> Answer {
    shared.world.lock().faults.clear();
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathQuota {
    path: String,
    left: u64,
    code: i64,
}

/// Lets a path be called so often, then answers with an error: 45009 or 45011.
async fn set_quota(State(shared): State<Shared>, Json(quota): Json<PathQuota>) -> Answer {
    shared.world.lock().quotas.insert(quota.path, Quota { left: quota.left, code: quota.code });
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    seconds: u64,
}

/// Moves the clock of codes, tokens and tickets; callbacks go by the real one.
async fn advance(State(shared): State<Shared>, Json(Advance { seconds }): Json<Advance>) -> Answer {
    shared.world.lock().advance(Duration::from_secs(seconds));
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfAccount {
    appid: String,
}

/// Makes an account's tokens stop working, as when someone else forces a new one.
async fn invalidate(State(shared): State<Shared>, Json(OfAccount { appid }): Json<OfAccount>) -> Answer {
    let mut world = shared.world.lock();
    world.stable.remove(&appid);
    world.plain.remove(&appid);
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCode {
    appid: String,
    person: String,
    #[serde(default)]
    scope: String,
    #[serde(default = "five_minutes")]
    seconds: u64,
}

const fn five_minutes() -> u64 {
    300
}

/// Makes a code without a page, as `wx.login()` of a mini program does.
async fn new_code(State(shared): State<Shared>, Json(new): Json<NewCode>) -> Answer {
    let mut world = shared.world.lock();
    let code = world.new_code(&new.appid, &new.person, &new.scope, Duration::from_secs(new.seconds), false);
    Ok(Json(json!({ "code": code })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scan {
    person: String,
    text: String,
    /// Whether someone who does not follow the account follows it after the scan.
    #[serde(default = "yes")]
    follow: bool,
}

const fn yes() -> bool {
    true
}

/// What a scan comes to.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Scanned {
    /// The phone's browser opens it.
    Open { url: String },
    /// WeChat asks; see `/_control/agree` and `/_control/refuse`.
    Confirm { uuid: String },
    /// The account was told, or was not because the person did not follow it.
    Event { delivery: Option<Box<Delivery>> },
    /// The phone opens a page of a mini program, whose `wx.login()` is `/_control/codes`.
    Program {
        #[serde(flatten)]
        code: ProgramCode,
    },
    /// The phone says so, and nobody is told.
    Expired,
}

async fn do_scan(State(shared): State<Shared>, Json(order): Json<Scan>) -> Answer {
    let scanned = scan(&shared, &order.person, &order.text, order.follow).await.map_err(bad)?;
    Ok(Json(json!(scanned)))
}

/// Scans what a QR code says with a person's phone.
pub(crate) async fn scan(shared: &Shared, person: &str, text: &str, follow: bool) -> Result<Scanned, String> {
    if let Some(id) = text.strip_prefix(&format!("{}/q/", shared.base)) {
        let event = {
            let mut world = shared.world.lock();
            let now = world.now();
            let value = world.scene_urls.get(id).cloned().ok_or("no such code")?;
            let ticket = world.tickets.get(&value).cloned();
            let Some(ticket) = ticket.filter(|ticket| ticket.expires.is_none_or(|expires| now < expires))
            else {
                return Ok(Scanned::Expired);
            };
            let someone = world.people.get_mut(person).ok_or("no such person")?;
            let follows = someone.follows.contains(&ticket.appid);
            if !follows && !follow {
                return Ok(Scanned::Event { delivery: None });
            }
            someone.follows.insert(ticket.appid.clone());
            let (name, key) = if follows {
                ("SCAN", ticket.scene)
            } else {
                ("subscribe", format!("qrscene_{}", ticket.scene))
            };
            Event {
                appid: ticket.appid,
                person: person.into(),
                event: name.into(),
                key,
                ticket: value,
                content: String::new(),
                create_time: None,
                pad: None,
            }
        };
        return deliver(shared, event)
            .await
            .map(|delivery| Scanned::Event { delivery: Some(Box::new(delivery)) });
    }
    if let Some(uuid) = text.strip_prefix(&format!("{}/connect/confirm?uuid=", shared.base)) {
        let mut world = shared.world.lock();
        let now = world.now();
        return Ok(match world.waiting.get_mut(uuid).filter(|waiting| now < waiting.expires) {
            Some(waiting) => {
                if waiting.status == Status::Waiting {
                    waiting.status = Status::Scanned;
                }
                Scanned::Confirm { uuid: uuid.into() }
            }
            None => Scanned::Expired,
        });
    }
    if let Some(id) = text.strip_prefix(&format!("{}/a/", shared.base)) {
        let world = shared.world.lock();
        let code = world.program_codes.iter().find(|code| code.id == id).cloned().ok_or("no such code")?;
        return Ok(Scanned::Program { code });
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(Scanned::Open { url: text.into() });
    }
    Err("WeChat shows this as text".into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    uuid: String,
    #[serde(default)]
    person: String,
}

/// The person agrees to WeChat's own QR code.
async fn agree(State(shared): State<Shared>, Json(Decision { uuid, person }): Json<Decision>) -> Answer {
    let settled = settle(&mut shared.world.lock(), &uuid, Some(&person));
    Ok(Json(json!({ "ok": settled })))
}

/// The person cancels it; nothing is called back unless `refusal_redirects` is set.
async fn refuse(State(shared): State<Shared>, Json(Decision { uuid, .. }): Json<Decision>) -> Answer {
    let settled = settle(&mut shared.world.lock(), &uuid, None);
    Ok(Json(json!({ "ok": settled })))
}

/// Tells an account something; answers when it has been told, or given up.
async fn send_event(State(shared): State<Shared>, Json(event): Json<Event>) -> Answer {
    let delivery = deliver(&shared, event).await.map_err(bad)?;
    Ok(Json(json!(delivery)))
}

/// Everything that has happened.
async fn state(State(shared): State<Shared>) -> Answer {
    let world = shared.world.lock();
    let tickets: Vec<Value> = world
        .scene_urls
        .iter()
        .filter_map(|(id, value)| {
            let ticket = world.tickets.get(value)?;
            let url = format!("{}/q/{id}", shared.base);
            Some(json!({ "ticket": value, "url": url, "scene": ticket.scene, "appid": ticket.appid }))
        })
        .collect();
    Ok(Json(json!({
        "calls": world.calls,
        "deliveries": world.deliveries,
        "chats": world.chats,
        "tickets": tickets,
        "program_codes": world.program_codes,
        "secrets": world.secrets,
        "accounts": world.accounts,
    })))
}
