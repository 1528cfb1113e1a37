//! The account token, against the stand-in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorbell_wechat::{AccountToken, AccountTokenTiming, CallError, ErrorCode, FileTokenStore};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{OFFICIAL, WeChat, app};

const TOKEN_PATH: &str = "/cgi-bin/stable_token";
const QR_PATH: &str = "/cgi-bin/qrcode/create";

fn holder(wechat: &WeChat, dir: &Path) -> Arc<AccountToken> {
    let store = Arc::new(FileTokenStore::new(dir.join("wechat-mp.token")));
    Arc::new(AccountToken::new(wechat.api(), app(OFFICIAL), store, AccountTokenTiming::default()))
}

/// Makes codes from many tasks at once, each several times.
async fn load(wechat: &WeChat, holder: &Arc<AccountToken>, tasks: usize, each: usize) {
    let api = wechat.api();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let (api, holder) = (Arc::clone(&api), Arc::clone(holder));
        running.spawn(async move {
            for n in 0..each {
                let scene = format!("s{task}-{n}");
                let made = holder
                    .with(|token| {
                        let (api, scene) = (Arc::clone(&api), scene.clone());
                        async move { api.create_scene_code(&token, &scene, Duration::from_secs(60)).await }
                    })
                    .await;
                made.expect("a code");
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("no task fails");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fetch_serves_everyone_and_one_more_when_it_is_invalidated_under_load() {
    let (wechat, dir) = (WeChat::start().await, tempfile::tempdir().expect("a directory"));
    let holder = holder(&wechat, dir.path());
    load(&wechat, &holder, 50, 2).await;
    assert_eq!(wechat.calls(TOKEN_PATH).await, 1);

    let running = tokio::spawn({
        let holder = Arc::clone(&holder);
        let wechat_api = wechat.api();
        async move {
            let mut done = 0;
            while done < 300 {
                let api = Arc::clone(&wechat_api);
                let made = holder.with(|token| {
                    let api = Arc::clone(&api);
                    async move { api.create_scene_code(&token, "s", Duration::from_secs(60)).await }
                });
                made.await.expect("a code");
                done += 1;
            }
        }
    });
    let loads = async {
        load(&wechat, &holder, 50, 2).await;
        wechat.order("tokens/invalidate", json!({ "appid": OFFICIAL })).await;
        load(&wechat, &holder, 50, 4).await;
    };
    loads.await;
    running.await.expect("it ends");
    assert_eq!(wechat.calls(TOKEN_PATH).await, 2, "one refresh, not a stampede");
}

#[tokio::test]
async fn a_restart_makes_no_new_token() {
    let (wechat, dir) = (WeChat::start().await, tempfile::tempdir().expect("a directory"));
    let first = holder(&wechat, dir.path()).token().await.expect("a token");
    let again = holder(&wechat, dir.path()).token().await.expect("a token");
    assert_eq!(first.expose_secret(), again.expose_secret());
    assert_eq!(wechat.calls(TOKEN_PATH).await, 1);
}

#[tokio::test]
async fn holders_that_share_a_store_fetch_once() {
    let (wechat, dir) = (WeChat::start().await, tempfile::tempdir().expect("a directory"));
    let mut asking = JoinSet::new();
    for _ in 0..8 {
        let holder = holder(&wechat, dir.path());
        asking.spawn(async move { holder.token().await.expect("a token").expose_secret().to_owned() });
    }
    let tokens: std::collections::HashSet<String> = asking.join_all().await.into_iter().collect();
    assert_eq!((tokens.len(), wechat.calls(TOKEN_PATH).await), (1, 1));
    // One is refused and renews; another takes the new one from the store when its own is refused.
    wechat.order("tokens/invalidate", json!({ "appid": OFFICIAL })).await;
    let (one, other) = (holder(&wechat, dir.path()), holder(&wechat, dir.path()));
    one.token().await.expect("the stored one");
    other.token().await.expect("the stored one");
    load(&wechat, &one, 1, 1).await;
    load(&wechat, &other, 1, 1).await;
    assert_eq!(wechat.calls(TOKEN_PATH).await, 2);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end() {
    let (wechat, dir) = (WeChat::start().await, tempfile::tempdir().expect("a directory"));
    // WeChat gives the same token until five minutes before its end, so one of two seconds is due at once by half.
    wechat.order("settings", json!({ "token_seconds": 2 })).await;
    let holder = holder(&wechat, dir.path());
    let first = holder.token().await.expect("a token");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let token = holder.token().await.expect("always one that works");
        if token.expose_secret() != first.expose_secret() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is never renewed");
        tokio::task::yield_now().await;
    }
    assert_eq!(wechat.calls(TOKEN_PATH).await, 2);
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_old_token_in_use() {
    let (wechat, dir) = (WeChat::start().await, tempfile::tempdir().expect("a directory"));
    wechat.order("settings", json!({ "token_seconds": 4 })).await;
    let holder = holder(&wechat, dir.path());
    let first = holder.token().await.expect("a token");
    wechat.fault(TOKEN_PATH, json!({ "times": 1_000, "what": { "code": 40_164 } })).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while wechat.calls(TOKEN_PATH).await < 2 {
        let token = holder.token().await.expect("the old one");
        assert_eq!(token.expose_secret(), first.expose_secret());
        assert!(tokio::time::Instant::now() < deadline, "it is never renewed");
    }
    // And is not asked for again at once.
    holder.token().await.expect("the old one");
    assert_eq!(wechat.calls(TOKEN_PATH).await, 2);
}

#[tokio::test]
async fn a_token_that_wechat_refuses_but_still_gives_out_is_forced_once() {
    let (wechat, dir) = (WeChat::start().await, tempfile::tempdir().expect("a directory"));
    let holder = holder(&wechat, dir.path());
    let api = wechat.api();
    let make = || {
        holder.with(|token| {
            let api = Arc::clone(&api);
            async move { api.create_scene_code(&token, "s", Duration::from_secs(60)).await }
        })
    };
    wechat.fault(QR_PATH, json!({ "what": { "code": 40_001 } })).await;
    make().await.expect("the second try works");
    assert_eq!(wechat.calls(TOKEN_PATH).await, 3, "first, the same again, forced");
    // Refused twice in a row, the call fails: it is never made a third time.
    wechat.fault(QR_PATH, json!({ "times": 100, "what": { "code": 40_001 } })).await;
    let before = wechat.calls(QR_PATH).await;
    let error = make().await.expect_err("refused for good");
    assert_eq!(error.code(), Some(ErrorCode::INVALID_CREDENTIAL));
    assert_eq!(wechat.calls(QR_PATH).await - before, 2);
}

#[tokio::test]
async fn a_missing_right_is_no_matter_of_the_token() {
    let (wechat, dir) = (WeChat::start().await, tempfile::tempdir().expect("a directory"));
    let holder = holder(&wechat, dir.path());
    let error = holder
        .with(|_| async {
            Err::<(), _>(CallError::Refused {
                endpoint: doorbell_wechat::Endpoint::CreateQrCode,
                code: ErrorCode::API_UNAUTHORIZED,
                rid: None,
            })
        })
        .await
        .expect_err("refused");
    assert_eq!(error.code(), Some(ErrorCode::API_UNAUTHORIZED));
    assert_eq!(wechat.calls(TOKEN_PATH).await, 1);
}
