//! The pages WeChat shows: on the computer its own QR code, on the phone its questions; and a phone to click.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::Router;
use axum::extract::{Form, Path, Query, RawQuery, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use fast_qr::convert::svg::SvgBuilder;
use fast_qr::{ECL, QRBuilder};
use http::{HeaderMap, StatusCode, header};
use reqwest::Url;

use crate::control::{Scanned, scan};
use crate::world::{Account, Kind, Status, Waiting, World, random};
use crate::{Browsers, Shared};

const COOKIE: &str = "standin_person";
/// Codes given inside WeChat live for five minutes, website codes for ten.
const IN_WECHAT_CODE_LIFE: Duration = Duration::from_secs(300);
pub(crate) const WEBSITE_CODE_LIFE: Duration = Duration::from_secs(600);
const QR_LIFE: Duration = Duration::from_secs(300);
const LONG_POLL: Duration = Duration::from_secs(25);

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/connect/oauth2/authorize", get(authorize))
        .route("/connect/oauth2/decide", post(decide))
        .route("/connect/qrconnect", get(qrconnect))
        .route("/connect/qrcode/{uuid}", get(qr_code))
        .route("/connect/l/qrconnect", get(poll))
        .route("/connect/confirm", get(confirm))
        .route("/connect/confirm/{what}", post(confirmed))
        .route("/q/{id}", get(scene).post(scene_scanned))
        .route("/phone", get(phone))
        .route("/phone/scan", post(phone_scan))
        .route("/", get(|| async { Redirect::to("/phone") }))
}

/// Whose phone a request comes from; none outside of WeChat.
fn owner(shared: &Shared, headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let cookie =
        cookies.split(';').filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == COOKIE);
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match cookie {
        Some((_, person)) => Some(person.to_owned()),
        None => {
            let inside = shared.browsers == Browsers::Any || agent.contains("MicroMessenger");
            inside.then(|| "xiaoming".to_owned())
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

fn page(title: &str, body: &str) -> Response {
    Html(format!(
        "<!doctype html><html lang=\"zh-CN\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:26rem;min-height:100vh;background:#ededed;color:#111}}\
         header{{background:#ededed;border-bottom:1px solid #ddd;padding:.8rem;text-align:center;font-weight:600}}\
         main{{padding:1rem}}section{{background:#fff;border-radius:8px;padding:1rem;margin:0 0 1rem}}\
         button,.button{{display:block;width:100%;box-sizing:border-box;min-height:44px;border:0;border-radius:8px;\
         margin:.5rem 0;font:inherit;background:#07c160;color:#fff;text-align:center;line-height:44px;text-decoration:none}}\
         button.plain{{background:#f2f2f2;color:#06ae56}}input,textarea{{width:100%;box-sizing:border-box;font:inherit;\
         min-height:44px;border:1px solid #ccc;border-radius:8px;padding:.4rem}}\
         .bubble{{background:#95ec69;border-radius:8px;padding:.6rem;margin:.5rem 0;white-space:pre-wrap;overflow-wrap:anywhere}}\
         img{{max-width:100%;height:auto}}small{{color:#555}}</style><header>{title}</header><main>{body}</main></html>"
    ))
    .into_response()
}

/// A page of WeChat's that says what is wrong; nothing is called back.
fn refuse(text: &str) -> Response {
    page("微信 WeChat", &format!("<section id=\"error\">{}</section>", escape(text)))
}

/// The parameters of an authorize or qrconnect address; WeChat checks their order.
fn ordered(query: Option<&str>) -> Result<HashMap<String, String>, &'static str> {
    const ORDER: [&str; 5] = ["appid", "redirect_uri", "response_type", "scope", "state"];
    let query = query.unwrap_or_default();
    let url = Url::parse(&format!("http://x/?{query}")).map_err(|_| "参数错误 malformed parameters")?;
    let pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    if !pairs.iter().map(|(name, _)| name.as_str()).take(5).eq(ORDER) {
        return Err("参数错误 parameters are missing or out of order");
    }
    Ok(pairs.into_iter().collect())
}

/// The account of an address, when it may be used that way.
fn checked<'w>(
    world: &'w World,
    query: &HashMap<String, String>,
    kind: Kind,
    scopes: &[&str],
) -> Result<&'w Account, &'static str> {
    let account = world.accounts.get(&query["appid"]).ok_or("10013 appid 错误 unknown appid")?;
    if account.kind != kind {
        return Err("10016 不支持 wrong kind of appid");
    }
    let host = Url::parse(&query["redirect_uri"]).ok().and_then(|url| url.host_str().map(str::to_owned));
    if host.as_deref() != Some(&account.domain) {
        return Err("10003 redirect_uri 域名与后台配置不一致 redirect_uri 参数错误");
    }
    if query["response_type"] != "code" {
        return Err("参数错误 response_type");
    }
    if !scopes.contains(&query["scope"].as_str()) {
        return Err("10005 Scope 参数错误或没有 Scope 权限 no right to this scope");
    }
    let state = &query["state"];
    if state.len() > 128
        || (kind == Kind::Official && !state.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    {
        return Err("state 参数错误 state has at most 128 letters and digits");
    }
    Ok(account)
}

fn back(redirect_uri: &str, pairs: &[(&str, &str)]) -> Response {
    let Ok(mut url) = Url::parse(redirect_uri) else { return refuse("redirect_uri 参数错误") };
    url.query_pairs_mut().extend_pairs(pairs);
    (StatusCode::FOUND, [(header::LOCATION, url.to_string())]).into_response()
}

async fn authorize(State(shared): State<Shared>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let Some(person) = owner(&shared, &headers) else {
        return refuse("请在微信客户端打开链接 Open this address in WeChat");
    };
    let query = match ordered(query.as_deref()) {
        Ok(query) => query,
        Err(why) => return refuse(why),
    };
    let mut world = shared.world.lock();
    let account = match checked(&world, &query, Kind::Official, &["snsapi_base", "snsapi_userinfo"]) {
        Ok(account) => account.clone(),
        Err(why) => return refuse(why),
    };
    let snapshot = query.get("forceSnapShot").is_some_and(|force| force == "true")
        || world.people.get(&person).is_some_and(|person| person.snapshot);
    if query["scope"] == "snsapi_base" {
        let code = world.new_code(&account.appid, &person, "snsapi_base", IN_WECHAT_CODE_LIFE, snapshot);
        return back(&query["redirect_uri"], &[("code", &code), ("state", &query["state"])]);
    }
    let hidden: String = ["appid", "redirect_uri", "state"]
        .iter()
        .map(|name| format!("<input type=hidden name={name} value=\"{}\">", escape(&query[*name])))
        .collect();
    page(
        "微信授权 Authorize",
        &format!(
            "<section><b>{}</b><p>申请获取你的昵称、头像 asks for your name and picture</p></section>\
             <form method=post action=/connect/oauth2/decide>{hidden}<button id=allow name=what value=allow>允许 Allow</button>\
             <button id=refuse class=plain name=what value=refuse>拒绝 Refuse</button></form>",
            escape(&account.name)
        ),
    )
}

async fn decide(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let Some(person) = owner(&shared, &headers) else { return refuse("请在微信客户端打开链接") };
    if field("what") != "allow" {
        // WeChat calls nothing: iOS closes the page, Android leaves it.
        return page("微信 WeChat", "<section id=closed>页面已关闭 The page has closed</section>");
    }
    let mut world = shared.world.lock();
    let snapshot = world.people.get(&person).is_some_and(|person| person.snapshot);
    let code = world.new_code(field("appid"), &person, "snsapi_userinfo", IN_WECHAT_CODE_LIFE, snapshot);
    back(field("redirect_uri"), &[("code", &code), ("state", field("state"))])
}

async fn qrconnect(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query = match ordered(query.as_deref()) {
        Ok(query) => query,
        Err(why) => return refuse(why),
    };
    let uuid = random(12);
    let mut world = shared.world.lock();
    let name = match checked(&world, &query, Kind::Website, &["snsapi_login"]) {
        Ok(account) => account.name.clone(),
        Err(why) => return refuse(why),
    };
    let expires = world.now() + QR_LIFE;
    let waiting = Waiting {
        appid: query["appid"].clone(),
        redirect_uri: query["redirect_uri"].clone(),
        state: query["state"].clone(),
        status: Status::Waiting,
        expires,
    };
    world.waiting.insert(uuid.clone(), waiting);
    drop(world);
    let target = if query.get("self_redirect").is_some_and(|value| value == "true") { "self" } else { "top" };
    page(
        "微信登录 WeChat login",
        &format!(
            "<section><img id=qr src=/connect/qrcode/{uuid} alt=\"QR\" width=280 height=280 data-text=\"{}/connect/confirm?uuid={uuid}\">\
             <p id=status>请使用微信扫一扫登录 Scan with WeChat</p><p><b>{}</b></p>\
             <small><a target=_blank href=\"/connect/confirm?uuid={uuid}\">用示例手机扫描 scan with the example phone</a></small></section>\
             <script>(async () => {{ let last = ''; for (;;) {{\
             const text = await (await fetch('/connect/l/qrconnect?uuid={uuid}&_=' + Date.now() + last)).text();\
             const code = Number(/errcode=(\\d+)/.exec(text)[1]), said = document.querySelector('#status');\
             if (code === 405) return {target}.location.replace(/to='([^']*)'/.exec(text)[1]);\
             if (code === 404) {{ said.textContent = '扫描成功，请在手机上确认 Scanned; confirm on the phone'; last = '&last=404'; }}\
             if (code === 403) {{ said.textContent = '你已取消此次登录 You have cancelled'; last = '';\
               const to = /to='([^']*)'/.exec(text)[1]; if (to) return {target}.location.replace(to); return; }}\
             if (code === 402) {{ said.textContent = '二维码已失效 The code has expired'; return; }} }} }})();</script>",
            shared.base,
            escape(&name)
        ),
    )
}

async fn qr_code(State(shared): State<Shared>, Path(uuid): Path<String>) -> Response {
    qr_svg(&format!("{}/connect/confirm?uuid={uuid}", shared.base))
}

pub(crate) fn qr_svg(text: &str) -> Response {
    match QRBuilder::new(text).ecl(ECL::M).build() {
        Ok(code) => {
            ([(header::CONTENT_TYPE, "image/svg+xml")], SvgBuilder::default().to_str(&code)).into_response()
        }
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// WeChat's page asks what the phone did: answered when it changes, or after 25 seconds.
async fn poll(State(shared): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response {
    let field = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let started = tokio::time::Instant::now();
    let (code, to) = loop {
        let found = {
            let world = shared.world.lock();
            match world.waiting.get(field("uuid")) {
                None => Some((402, String::new())),
                Some(waiting) if world.now() >= waiting.expires => Some((402, String::new())),
                Some(waiting) => match &waiting.status {
                    Status::Scanned if field("last") != "404" => Some((404, String::new())),
                    Status::Waiting | Status::Scanned => None,
                    Status::Cancelled if world.settings.refusal_redirects => {
                        Some((403, with(&waiting.redirect_uri, &[("state", &waiting.state)])))
                    }
                    Status::Cancelled => Some((403, String::new())),
                    Status::Confirmed(code) => {
                        Some((405, with(&waiting.redirect_uri, &[("code", code), ("state", &waiting.state)])))
                    }
                },
            }
        };
        match found {
            Some(found) => break found,
            None if started.elapsed() >= LONG_POLL => break (408, String::new()),
            None => tokio::time::sleep(Duration::from_millis(40)).await,
        }
    };
    let body = format!("window.wx_errcode={code};window.wx_code='';/* to='{to}' */");
    ([(header::CONTENT_TYPE, "text/javascript"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

fn with(redirect_uri: &str, pairs: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse(redirect_uri) else { return String::new() };
    url.query_pairs_mut().extend_pairs(pairs);
    url.to_string().replace('\'', "%27")
}

async fn confirm(State(shared): State<Shared>, Query(query): Query<HashMap<String, String>>) -> Response {
    let uuid = query.get("uuid").map(String::as_str).unwrap_or_default();
    let mut world = shared.world.lock();
    let now = world.now();
    let Some(waiting) = world.waiting.get_mut(uuid).filter(|waiting| now < waiting.expires) else {
        return refuse("二维码已过期 The code has expired");
    };
    if waiting.status == Status::Waiting {
        waiting.status = Status::Scanned;
    }
    let appid = waiting.appid.clone();
    let name = escape(&world.accounts[&appid].name);
    page(
        "微信登录 WeChat login",
        &format!(
            "<section><b>{name}</b><p>申请使用微信登录 asks to log you in</p></section>\
             <form method=post action=/connect/confirm/allow><input type=hidden name=uuid value=\"{uuid}\">\
             <button id=allow>确认登录 Log in</button></form><form method=post action=/connect/confirm/cancel>\
             <input type=hidden name=uuid value=\"{uuid}\"><button id=refuse class=plain>取消 Cancel</button></form>",
            uuid = escape(uuid)
        ),
    )
}

async fn confirmed(
    State(shared): State<Shared>,
    Path(what): Path<String>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let uuid = form.get("uuid").map(String::as_str).unwrap_or_default();
    let person = owner(&shared, &headers).unwrap_or_else(|| "xiaoming".into());
    let mut world = shared.world.lock();
    let done = settle(&mut world, uuid, (what == "allow").then_some(person.as_str()));
    page(
        "微信 WeChat",
        &format!("<section id=done>{}</section>", if done { "完成 Done" } else { "已过期 Expired" }),
    )
}

/// Confirms WeChat's own QR code for a person, or cancels it.
pub(crate) fn settle(world: &mut World, uuid: &str, person: Option<&str>) -> bool {
    let now = world.now();
    let Some(appid) =
        world.waiting.get(uuid).filter(|waiting| now < waiting.expires).map(|waiting| waiting.appid.clone())
    else {
        return false;
    };
    let status = match person {
        Some(person) => {
            Status::Confirmed(world.new_code(&appid, person, "snsapi_login", WEBSITE_CODE_LIFE, false))
        }
        None => Status::Cancelled,
    };
    if let Some(waiting) = world.waiting.get_mut(uuid)
        && matches!(waiting.status, Status::Waiting | Status::Scanned)
    {
        waiting.status = status;
        return true;
    }
    false
}

async fn scene(State(shared): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let world = shared.world.lock();
    let ticket = world.scene_urls.get(&id).and_then(|ticket| world.tickets.get(ticket));
    let Some(ticket) = ticket.filter(|ticket| ticket.expires.is_none_or(|expires| world.now() < expires))
    else {
        return refuse("二维码已过期 The code has expired");
    };
    let account = &world.accounts[&ticket.appid];
    let person = owner(&shared, &headers).unwrap_or_else(|| "xiaoming".into());
    let follows = world.people.get(&person).is_some_and(|person| person.follows.contains(&account.appid));
    let button = if follows { "进入公众号 Enter" } else { "关注公众号 Follow" };
    page(
        "微信 WeChat",
        &format!(
            "<section><b>{}</b></section><form method=post><button id=follow>{button}</button></form>",
            escape(&account.name)
        ),
    )
}

async fn scene_scanned(State(shared): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let person = owner(&shared, &headers).unwrap_or_else(|| "xiaoming".into());
    let text = format!("{}/q/{id}", shared.base);
    match scan(&shared, &person, &text, true).await {
        Ok(Scanned::Expired) => refuse("二维码已过期 The code has expired"),
        Ok(_) => Redirect::to("/phone").into_response(),
        Err(why) => refuse(&why),
    }
}

/// A phone: whose it is, what was written to them, and a scanner to paste into.
async fn phone(
    State(shared): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let world = shared.world.lock();
    let chosen = query.get("person").filter(|person| world.people.contains_key(*person)).cloned();
    let person = chosen.or_else(|| owner(&shared, &headers)).unwrap_or_else(|| "xiaoming".into());
    let mut body = String::from("<section>");
    let mut people: Vec<_> = world.people.values().collect();
    people.sort_by(|one, other| one.id.cmp(&other.id));
    for someone in people {
        let mark = if someone.id == person { "● " } else { "○ " };
        let _ = write!(
            body,
            "<a href=\"/phone?person={0}\">{mark}{1}</a> ",
            escape(&someone.id),
            escape(&someone.nickname)
        );
    }
    body.push_str(
        "</section><section><form method=post action=/phone/scan><label>扫一扫 Scan<textarea name=text rows=3 \
         placeholder=\"粘贴二维码的内容 paste what the QR code says\"></textarea></label><button id=scan>扫描 Scan</button></form></section>",
    );
    for (from, text) in world.chats.get(&person).into_iter().flatten().rev().take(20) {
        let _ = write!(
            body,
            "<section><small>{}</small><div class=bubble>{}</div></section>",
            escape(from),
            linked(text)
        );
    }
    let cookie = format!("{COOKIE}={person}; Path=/; SameSite=Lax");
    ([(header::SET_COOKIE, cookie)], page("微信 WeChat（示例 example）", &body)).into_response()
}

/// Addresses as links, as WeChat shows them.
fn linked(text: &str) -> String {
    let mut html = String::new();
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        if bare.starts_with("https://") || bare.starts_with("http://") {
            let _ = write!(html, "<a class=link href=\"{0}\">{0}</a>{1}", escape(bare), &word[bare.len()..]);
        } else {
            html.push_str(&escape(word));
        }
    }
    html
}

async fn phone_scan(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let person = owner(&shared, &headers).unwrap_or_else(|| "xiaoming".into());
    let text = form.get("text").map(|text| text.trim().to_owned()).unwrap_or_default();
    match scan(&shared, &person, &text, true).await {
        Ok(Scanned::Open { url }) => (StatusCode::SEE_OTHER, [(header::LOCATION, url)]).into_response(),
        Ok(Scanned::Confirm { uuid }) => {
            Redirect::to(&format!("/connect/confirm?uuid={uuid}")).into_response()
        }
        Ok(Scanned::Event { .. }) => Redirect::to("/phone").into_response(),
        Ok(Scanned::Program { .. }) => refuse("这里没有小程序 There are no mini programs on this phone"),
        Ok(Scanned::Expired) => refuse("二维码已过期 The code has expired"),
        Err(why) => refuse(&why),
    }
}
