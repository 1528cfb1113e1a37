//! `/sns/…`: what a person's code is good for.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Shared;
use crate::answer::{Failure, answer, fail};
use crate::world::{Kind, UserToken, World, openid, random_bytes, snapshot_id};

type Parameters = Query<HashMap<String, String>>;

const USER_TOKEN_LIFE: Duration = Duration::from_secs(7_200);
const REFRESH_TOKEN_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// Checks appid and secret, in WeChat's order.
fn account<'w>(
    world: &'w World,
    query: &HashMap<String, String>,
    kinds: &[Kind],
) -> Result<&'w str, Failure> {
    let Some(appid) = query.get("appid").filter(|appid| !appid.is_empty()) else {
        return Err(Failure(41_002, "appid missing"));
    };
    let Some(secret) = query.get("secret").filter(|secret| !secret.is_empty()) else {
        return Err(Failure(41_004, "appsecret missing"));
    };
    match world.accounts.get(appid) {
        Some(account) if !kinds.contains(&account.kind) => Err(Failure(40_013, "invalid appid")),
        Some(account) if account.secret != *secret => Err(Failure(40_125, "invalid appsecret")),
        Some(account) => Ok(&account.appid),
        None => Err(Failure(40_013, "invalid appid")),
    }
}

/// Uses a code up: the person, the scope, and whether they are a snapshot.
fn use_code(
    world: &mut World,
    appid: &str,
    code: Option<&String>,
) -> Result<(String, String, bool), Failure> {
    let Some(code) = code.filter(|code| !code.is_empty()) else {
        return Err(Failure(41_008, "missing code"));
    };
    let now = world.now();
    match world.codes.get_mut(code) {
        Some(code) if code.appid != appid => Err(Failure(40_029, "invalid code")),
        Some(code) if code.used => Err(Failure(40_163, "code been used")),
        Some(code) if now >= code.expires => Err(Failure(42_003, "code expired")),
        Some(code) => {
            code.used = true;
            Ok((code.person.clone(), code.scope.clone(), code.snapshot))
        }
        None => Err(Failure(40_029, "invalid code")),
    }
}

pub(crate) async fn access_token(State(shared): State<Shared>, Query(query): Parameters) -> Response {
    let mut world = shared.world.lock();
    world.sweep();
    let appid = match account(&world, &query, &[Kind::Website, Kind::Official]) {
        Ok(appid) => appid.to_owned(),
        Err(error) => return error.into(),
    };
    if query.get("grant_type").is_none_or(|kind| kind != "authorization_code") {
        return fail(40_002, "invalid grant_type");
    }
    match use_code(&mut world, &appid, query.get("code")) {
        Ok((person, scope, snapshot)) => answer(&grant(&mut world, &appid, &person, &scope, snapshot)),
        Err(error) => error.into(),
    }
}

fn grant(world: &mut World, appid: &str, person: &str, scope: &str, snapshot: bool) -> Value {
    let (access, refresh) = (world.secret("98_", 48), world.secret("98_", 48));
    let now = world.now();
    let token = UserToken {
        appid: appid.into(),
        person: person.into(),
        scope: scope.into(),
        snapshot,
        refresh: refresh.clone(),
        expires: now + USER_TOKEN_LIFE,
        refresh_expires: now + REFRESH_TOKEN_LIFE,
    };
    world.user_tokens.insert(access.clone(), token);
    let mut answer = json!({
        "access_token": access, "expires_in": USER_TOKEN_LIFE.as_secs(), "refresh_token": refresh,
        "openid": if snapshot { snapshot_id() } else { openid(appid, person) }, "scope": scope,
    });
    if snapshot {
        answer["is_snapshotuser"] = json!(1);
        answer["unionid"] = json!(snapshot_id());
    } else if scope != "snsapi_base"
        && let Some(unionid) = world.unionid(appid, person)
    {
        answer["unionid"] = json!(unionid);
    }
    answer
}

pub(crate) async fn refresh_token(State(shared): State<Shared>, Query(query): Parameters) -> Response {
    let mut world = shared.world.lock();
    let now = world.now();
    let (appid, refresh) = (query.get("appid"), query.get("refresh_token"));
    let found = world.user_tokens.iter_mut().find(|(_, token)| Some(&token.refresh) == refresh);
    match found {
        Some((_, token)) if Some(&token.appid) != appid => fail(40_030, "invalid refresh_token"),
        Some((_, token)) if now >= token.refresh_expires => fail(42_002, "refresh_token expired"),
        Some((access, token)) => {
            token.expires = now + USER_TOKEN_LIFE;
            answer(&json!({
                "access_token": access, "expires_in": USER_TOKEN_LIFE.as_secs(), "refresh_token": token.refresh,
                "openid": openid(&token.appid, &token.person), "scope": token.scope,
            }))
        }
        None => fail(40_030, "invalid refresh_token"),
    }
}

/// The user token of a query, if it works.
fn user_token(world: &World, query: &HashMap<String, String>) -> Result<UserToken, Failure> {
    let Some(access) = query.get("access_token").filter(|access| !access.is_empty()) else {
        return Err(Failure(41_001, "access_token missing"));
    };
    match world.user_tokens.get(access) {
        Some(token) if world.now() >= token.expires => Err(Failure(42_001, "access_token expired")),
        Some(token) => Ok(token.clone()),
        None => Err(Failure(40_001, "invalid credential, access_token is invalid or not latest")),
    }
}

pub(crate) async fn auth(State(shared): State<Shared>, Query(query): Parameters) -> Response {
    let world = shared.world.lock();
    match user_token(&world, &query) {
        Ok(token) if query.get("openid").is_some_and(|id| *id == openid(&token.appid, &token.person)) => {
            answer(&json!({ "errcode": 0, "errmsg": "ok" }))
        }
        Ok(_) => fail(40_003, "invalid openid"),
        Err(error) => error.into(),
    }
}

pub(crate) async fn user_info(State(shared): State<Shared>, Query(query): Parameters) -> Response {
    let world = shared.world.lock();
    let token = match user_token(&world, &query) {
        Ok(token) => token,
        Err(error) => return error.into(),
    };
    if token.scope == "snsapi_base" || token.snapshot {
        return fail(48_001, "api unauthorized");
    }
    let id = openid(&token.appid, &token.person);
    if query.get("openid").is_none_or(|asked| *asked != id) {
        return fail(40_003, "invalid openid");
    }
    let nickname = world.people.get(&token.person).map_or("", |person| person.nickname.as_str());
    let mut info = json!({
        "openid": id, "nickname": nickname, "sex": "0", "language": "", "city": "", "province": "", "country": "",
        "headimgurl": format!("https://thirdwx.qlogo.cn/mmopen/vi_32/{}/132", token.person), "privilege": [],
    });
    if let Some(unionid) = world.unionid(&token.appid, &token.person) {
        info["unionid"] = json!(unionid);
    }
    answer(&info)
}

pub(crate) async fn code_to_session(State(shared): State<Shared>, Query(query): Parameters) -> Response {
    let mut world = shared.world.lock();
    let appid = match account(&world, &query, &[Kind::MiniProgram]) {
        Ok(appid) => appid.to_owned(),
        Err(error) => return error.into(),
    };
    match use_code(&mut world, &appid, query.get("js_code")) {
        Ok((person, ..)) => {
            let session_key = STANDARD.encode(random_bytes(16));
            world.secrets.push(session_key.clone());
            let mut session = json!({ "openid": openid(&appid, &person), "session_key": session_key });
            if let Some(unionid) = world.unionid(&appid, &person) {
                session["unionid"] = json!(unionid);
            }
            answer(&session)
        }
        Err(error) => error.into(),
    }
}
