//! The demonstration: a page that signs in by a scan, a page on which a push arrives, and a form that makes one.
//!
//! Only ever part of a server that `doorbell demo` started. Pushes and tokens need no key here, so they are for the
//! machine the server runs on alone, and there for the pages themselves alone: same origin, JSON, and a host that no
//! foreign name server could have pointed here.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use askama::Template;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use doorbell_protocol::Uid;
use http::request::Parts;
use http::{Extensions, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Peer;
use super::problem::{Problem, read_json};
use super::public::Public;
use super::push::{Pushed, push_by_hand};
use crate::origin::is_own;
use crate::policy::Identity;
use crate::settings::Demo;

const STYLE: &str = include_str!("../../assets/demo/demo.css");
const SCRIPTS: [(&str, &str); 3] = [
    ("/demo/frame.js", include_str!("../../assets/demo/frame.js")),
    ("/demo/login.js", include_str!("../../assets/demo/login.js")),
    ("/demo/push.js", include_str!("../../assets/demo/push.js")),
];

#[derive(Template)]
#[template(path = "demo/login.html")]
struct SignIn;

#[derive(Template)]
#[template(path = "demo/push.html")]
struct Push;

// Nothing is filled in, so rendering cannot fail.
static SIGN_IN: LazyLock<String> = LazyLock::new(|| SignIn.render().unwrap_or_default());
static PUSH: LazyLock<String> = LazyLock::new(|| Push.render().unwrap_or_default());

/// Everything the pages load is their own; nothing is inline, nothing frames them.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// How long the push page's token lasts.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);

/// Where the page's one-liners send their pushes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) public: IpAddr,
    pub(crate) text: SocketAddr,
    pub(crate) api: SocketAddr,
}

/// What the push page is told, in `/demo/config.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    text: SocketAddr,
    api: SocketAddr,
    push_command: String,
    key_file: String,
    #[serde(skip)]
    own: IpAddr,
}

impl Shown {
    pub(crate) fn new(demo: Demo, addresses: Addresses) -> Self {
        let Addresses { public: own, text, api } = addresses;
        Self { text, api, push_command: demo.push_command(api), key_file: demo.key_file, own }
    }

    /// `GET /`
    pub(super) fn page(&self) -> Response {
        file(&SIGN_IN, "text/html; charset=utf-8")
    }

    /// Whether the request is from the machine the server runs on: by loopback, or by the very address that the server
    /// listens on, which as a sender nobody else in the network can complete a handshake with.
    fn is_local(&self, extensions: &Extensions) -> bool {
        extensions.get::<Peer>().is_some_and(|Peer { address: peer, .. }| {
            let peer = peer.to_canonical();
            peer.is_loopback() || peer == self.own.to_canonical()
        })
    }
}

/// The pages' other routes.
pub(super) fn routes() -> Router<Public> {
    let mut router = Router::new()
        .route("/push", get(push_page))
        .route("/demo.css", get(|| async { file(STYLE, "text/css; charset=utf-8") }))
        .route("/demo/config.json", get(config))
        .route("/demo/token", post(token))
        .route("/demo/push", post(push));
    for (path, script) in SCRIPTS {
        router =
            router.route(path, get(move || async move { file(script, "text/javascript; charset=utf-8") }));
    }
    router
}

fn file(text: &'static str, kind: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

/// The demonstration, for requests from this machine.
fn here<'p>(public: &'p Public, extensions: &Extensions) -> Option<&'p Shown> {
    public.demo.as_deref().filter(|demo| demo.is_local(extensions))
}

/// `GET /push`; what others in the network may do is sign in.
async fn push_page(State(public): State<Public>, request: Request) -> Response {
    match here(&public, request.extensions()) {
        Some(_) => file(&PUSH, "text/html; charset=utf-8"),
        None => Redirect::to("/").into_response(),
    }
}

/// What the push page is told, and what its first message is to be.
#[derive(Serialize)]
struct Config<'a> {
    #[serde(flatten)]
    shown: &'a Shown,
    identity: &'static str,
}

async fn config(State(public): State<Public>, request: Request) -> Response {
    let Some(shown) = here(&public, request.extensions()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let identity = match public.context.policy.load().identity {
        Identity::Open => "open",
        Identity::Token(_) => "token",
    };
    Json(Config { shown, identity }).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenForm {
    uid: String,
}

#[derive(Debug, Serialize)]
struct Token {
    token: String,
}

/// `POST /demo/token`: what the push page says first, where a uid alone is not believed.
async fn token(State(public): State<Public>, request: Request) -> Result<Json<Token>, Problem> {
    let form: TokenForm = read_from_the_page(&public, request).await?;
    let uid = Uid::new(&form.uid).map_err(|error| Problem::bad_request("uid", error.to_string()))?;
    let token = match &public.context.policy.load().identity {
        Identity::Open => Ok(uid.to_string()),
        Identity::Token(keys) => {
            keys.mint(&uid, TOKEN_TTL, SystemTime::now()).map_err(|error| error.to_string())
        }
    };
    token
        .map(|token| Json(Token { token }))
        .map_err(|error| Problem::new(StatusCode::CONFLICT, "public_key", error))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushForm {
    uid: String,
    data: Box<RawValue>,
}

/// `POST /demo/push`
async fn push(State(public): State<Public>, request: Request) -> Result<Json<Pushed>, Problem> {
    let form: PushForm = read_from_the_page(&public, request).await?;
    Ok(Json(push_by_hand(&public.context, &form.uid, form.data)?))
}

async fn read_from_the_page<T: serde::de::DeserializeOwned>(
    public: &Public,
    request: Request,
) -> Result<T, Problem> {
    let (parts, body): (_, Body) = request.into_parts();
    if here(public, &parts.extensions).is_none() || !is_from_the_page(&parts) {
        let detail = "only the demonstration page itself may push without a key, on the machine that runs it";
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin", detail));
    }
    let limits = public.context.policy.load().limits.clone();
    read_json(body, limits.body_bytes, limits.head_timeout).await
}

fn is_from_the_page(parts: &Parts) -> bool {
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(header::HOST) else { return false };
    let json = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let tls = parts.extensions.get::<Peer>().is_some_and(|peer| peer.tls);
    let own =
        text(header::ORIGIN).is_some_and(|origin| is_own(origin.as_bytes(), Some(host.as_bytes()), tls));
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    json && own && (name == "localhost" || name.parse::<IpAddr>().is_ok())
}
