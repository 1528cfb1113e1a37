//! A stand-in for WeChat: its API, the pages it shows to people, the callbacks it makes, and phones to hold.
//!
//! WeChat cannot be reached from a test. This program answers at WeChat's paths as WeChat's documentation says, with
//! the quirks that users report: JSON as `text/plain`, errors as HTTP 200 with a `rid`, codes that work once, account
//! tokens that overlap for five minutes, callbacks that come three times. It shares no code with `doorbell-wechat`, so
//! that the two cannot share a mistake.
//!
//! `/_control/…` decides what people do and what goes wrong; `/phone` is a phone to click. Nothing is kept: a restart
//! forgets everything. For loopback only: there are no real secrets here, and nothing to protect.

mod account_api;
mod answer;
mod control;
mod deliver;
mod fault;
mod pages;
mod person_api;
mod picture;
mod seal;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::world::World;

/// Which browsers count as WeChat's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Browsers {
    /// Those that say so, and those that have chosen a person at `/phone`.
    #[default]
    WeChat,
    /// Every one: for demonstrations on one computer.
    Any,
}

/// What every route shares.
#[derive(Clone)]
pub(crate) struct Shared {
    browsers: Browsers,
    world: Arc<Mutex<World>>,
    http: reqwest::Client,
    base: Arc<str>,
}

/// Serves on `listener` until the future is dropped.
///
/// # Errors
/// When the system refuses.
pub async fn serve(listener: TcpListener, browsers: Browsers) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    axum::serve(listener, router(address, browsers)?).await?;
    Ok(())
}

fn router(address: SocketAddr, browsers: Browsers) -> anyhow::Result<Router> {
    let shared = Shared {
        browsers,
        world: Arc::new(Mutex::new(World::new())),
        http: reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // A new connection each time, as WeChat's many machines do.
            .pool_max_idle_per_host(0)
            .build()?,
        base: format!("http://{address}").into(),
    };
    let api = Router::new()
        .route("/sns/oauth2/access_token", get(person_api::access_token))
        .route("/sns/oauth2/refresh_token", get(person_api::refresh_token))
        .route("/sns/auth", get(person_api::auth))
        .route("/sns/userinfo", get(person_api::user_info))
        .route("/sns/jscode2session", get(person_api::code_to_session))
        .route("/cgi-bin/token", get(account_api::token))
        .route("/cgi-bin/stable_token", post(account_api::stable_token))
        .route("/cgi-bin/user/info", get(account_api::follower))
        .route("/cgi-bin/qrcode/create", post(account_api::create_qr_code))
        .route("/cgi-bin/getcallbackip", get(account_api::callback_addresses))
        .route("/wxa/getwxacodeunlimit", post(account_api::mini_program_code))
        .layer(middleware::from_fn_with_state(shared.clone(), fault::apply));
    let router = Router::new()
        .merge(api)
        .route("/cgi-bin/showqrcode", get(account_api::show_qr_code))
        .merge(pages::routes())
        .nest("/_control", control::routes());
    Ok(router.with_state(shared))
}
