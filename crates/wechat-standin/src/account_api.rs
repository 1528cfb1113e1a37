//! `/cgi-bin/…` and `/wxa/…`: what an account's server asks for.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::Shared;
use crate::answer::{Failure, answer, fail};
use crate::pages::qr_svg;
use crate::picture::jpeg;
use crate::world::{Kind, ProgramCode, Ticket, Tokens, World, openid, random, random_standard};

type Parameters = Query<HashMap<String, String>>;

/// How long an account token works after the next was given.
const OVERLAP: Duration = Duration::from_secs(300);
const MAX_TICKET_SECONDS: u64 = 2_592_000;
/// Pages that the mini programs here have.
const PUBLISHED: [&str; 2] = ["pages/index/index", "pages/login/login"];

fn credentials(world: &World, appid: Option<&str>, secret: Option<&str>) -> Result<String, Failure> {
    match appid.and_then(|appid| world.accounts.get(appid)) {
        Some(account) if account.kind == Kind::Website => Err(Failure(40_013, "invalid appid")),
        Some(account) if secret != Some(&account.secret) => Err(Failure(40_125, "invalid appsecret")),
        Some(account) => Ok(account.appid.clone()),
        None => Err(Failure(40_013, "invalid appid")),
    }
}

pub(crate) async fn token(State(shared): State<Shared>, Query(query): Parameters) -> Response {
    let mut world = shared.world.lock();
    let text = |name: &str| query.get(name).map(String::as_str);
    if text("grant_type") != Some("client_credential") {
        return fail(40_002, "invalid grant_type");
    }
    match credentials(&world, text("appid"), text("secret")) {
        Ok(appid) => {
            let mut tokens = world.plain.remove(&appid).unwrap_or_default();
            let given = issue(&mut world, &mut tokens);
            world.plain.insert(appid, tokens);
            given
        }
        Err(error) => error.into(),
    }
}

/// Gives a new token; the one before works for five minutes more.
fn issue(world: &mut World, tokens: &mut Tokens) -> Response {
    let (now, seconds) = (world.now(), world.settings.token_seconds);
    tokens.previous = tokens.current.take().map(|(token, expires)| (token, expires.min(now + OVERLAP)));
    let token = world.secret("98_", 100);
    tokens.current = Some((token.clone(), now + Duration::from_secs(seconds)));
    answer(&json!({ "access_token": token, "expires_in": seconds }))
}

pub(crate) async fn stable_token(State(shared): State<Shared>, body: String) -> Response {
    let mut world = shared.world.lock();
    let Ok(body) = serde_json::from_str::<Value>(&body) else { return fail(47_001, "data format error") };
    if body["grant_type"] != "client_credential" {
        return fail(40_002, "invalid grant_type");
    }
    let appid = match credentials(&world, body["appid"].as_str(), body["secret"].as_str()) {
        Ok(appid) => appid,
        Err(error) => return error.into(),
    };
    let now = world.now();
    let mut tokens = world.stable.remove(&appid).unwrap_or_default();
    let spaced = tokens.forced.is_none_or(|forced| now >= forced + Duration::from_secs(30));
    let forced = body["force_refresh"] == true && spaced;
    if forced {
        tokens.forced = Some(now);
        tokens.current = None;
    }
    let given = match &tokens.current {
        // The same for everyone, until five minutes before its end.
        Some((token, expires)) if *expires > now + OVERLAP => {
            answer(&json!({ "access_token": token, "expires_in": (*expires - now).as_secs() }))
        }
        _ => issue(&mut world, &mut tokens),
    };
    if forced {
        tokens.previous = None;
    }
    world.stable.insert(appid, tokens);
    given
}

/// The account of a query's token.
fn owner(world: &World, query: &HashMap<String, String>) -> Result<String, Failure> {
    match query.get("access_token").filter(|token| !token.is_empty()) {
        None => Err(Failure(41_001, "access_token missing")),
        Some(token) => world
            .token_owner(token)
            .map(str::to_owned)
            .ok_or(Failure(40_001, "invalid credential, access_token is invalid or not latest")),
    }
}

/// The account of a query's token, which has to be of that kind.
fn owner_of(kind: Kind, world: &World, query: &HashMap<String, String>) -> Result<String, Failure> {
    let appid = owner(world, query)?;
    if world.accounts[&appid].kind == kind { Ok(appid) } else { Err(Failure(48_001, "api unauthorized")) }
}

pub(crate) async fn create_qr_code(
    State(shared): State<Shared>,
    Query(query): Parameters,
    body: String,
) -> Response {
    let mut world = shared.world.lock();
    let appid = match owner_of(Kind::Official, &world, &query) {
        Ok(appid) => appid,
        Err(error) => return error.into(),
    };
    if body.is_empty() {
        return fail(44_002, "empty post data");
    }
    let Ok(body) = serde_json::from_str::<Value>(&body) else { return fail(47_001, "data format error") };
    let scene = &body["action_info"]["scene"];
    let number =
        |most: u64| scene["scene_id"].as_u64().filter(|id| (1..=most).contains(id)).map(|id| id.to_string());
    let text = || scene["scene_str"].as_str().filter(|text| (1..=64).contains(&text.chars().count()));
    let (scene, temporary) = match body["action_name"].as_str() {
        // Without the level of `scene` WeChat makes a code for scene 0.
        Some("QR_SCENE" | "QR_STR_SCENE") if scene.is_null() => (Some("0".to_owned()), true),
        Some("QR_SCENE") => (number(u64::from(u32::MAX)), true),
        Some("QR_STR_SCENE") => (text().map(str::to_owned), true),
        Some("QR_LIMIT_SCENE") => (number(100_000), false),
        Some("QR_LIMIT_STR_SCENE") => (text().map(str::to_owned), false),
        _ => return fail(40_053, "invalid action info"),
    };
    let Some(scene) = scene else { return fail(40_053, "invalid action info") };
    let seconds = body["expire_seconds"].as_u64().unwrap_or(60).min(MAX_TICKET_SECONDS);
    let expires = temporary.then(|| world.now() + Duration::from_secs(seconds));
    let ticket = random_standard(60);
    let id = format!("02{}", random(15));
    world.tickets.insert(ticket.clone(), Ticket { appid, scene, expires });
    world.scene_urls.insert(id.clone(), ticket.clone());
    // WeChat's is http://weixin.qq.com/q/02…; this one can be opened.
    let mut made = json!({ "ticket": ticket, "url": format!("{}/q/{id}", shared.base) });
    if temporary {
        made["expire_seconds"] = json!(seconds);
    }
    answer(&made)
}

pub(crate) async fn show_qr_code(State(shared): State<Shared>, Query(query): Parameters) -> Response {
    let world = shared.world.lock();
    let ticket = query.get("ticket");
    let found = world.scene_urls.iter().find(|(_, known)| Some(*known) == ticket);
    match found {
        Some((id, _)) => qr_svg(&format!("{}/q/{id}", shared.base)),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(crate) async fn callback_addresses(State(shared): State<Shared>, Query(query): Parameters) -> Response {
    let owner = owner(&shared.world.lock(), &query);
    match owner {
        Ok(_) => answer(&json!({ "ip_list": ["127.0.0.1"] })),
        Err(error) => error.into(),
    }
}

/// A person of the account, by their openid.
pub(crate) async fn follower(State(shared): State<Shared>, Query(query): Parameters) -> Response {
    let world = shared.world.lock();
    let appid = match owner_of(Kind::Official, &world, &query) {
        Ok(appid) => appid,
        Err(error) => return error.into(),
    };
    let asked = query.get("openid");
    let Some(person) = world.people.values().find(|person| asked == Some(&openid(&appid, &person.id))) else {
        return fail(40_003, "invalid openid");
    };
    let follows = person.follows.contains(&appid);
    let mut told = json!({ "subscribe": u8::from(follows), "openid": asked });
    if follows {
        // Since 2021 without a name and a picture, whoever asks.
        for (name, value) in [("nickname", json!("")), ("headimgurl", json!("")), ("sex", json!(0))] {
            told[name] = value;
        }
        if let Some(unionid) = world.unionid(&appid, &person.id) {
            told["unionid"] = json!(unionid);
        }
    }
    answer(&told)
}

pub(crate) async fn mini_program_code(
    State(shared): State<Shared>,
    Query(query): Parameters,
    body: String,
) -> Response {
    let mut world = shared.world.lock();
    let appid = match owner_of(Kind::MiniProgram, &world, &query) {
        Ok(appid) => appid,
        Err(error) => return error.into(),
    };
    let Ok(body) = serde_json::from_str::<Value>(&body) else { return fail(47_001, "data format error") };
    let scene = body["scene"].as_str().unwrap_or_default();
    let visible = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'()*+,/:;=?@-._~".contains(&byte);
    if !(1..=32).contains(&scene.len()) || !scene.bytes().all(visible) {
        return fail(40_169, "invalid length for scene, or the data is not json string");
    }
    let page = body["page"].as_str().unwrap_or("pages/index/index");
    let edition = body["env_version"].as_str().unwrap_or("release");
    if !["release", "trial", "develop"].contains(&edition) {
        return fail(40_097, "invalid args");
    }
    if body["check_path"] != false && (edition != "release" || !PUBLISHED.contains(&page)) {
        return fail(41_030, "invalid page");
    }
    // WeChat draws a flower that only its app can read; this one any camera can.
    let id = random(12);
    let Some(picture) = jpeg(&format!("{}/a/{id}", shared.base)) else { return fail(-1, "system error") };
    world.program_codes.push(ProgramCode { id, appid, scene: scene.into(), page: page.into() });
    ([(header::CONTENT_TYPE, "image/jpeg")], picture).into_response()
}
