//! Calls to the API, against the stand-in.

use std::time::{Duration, Instant};

use doorbell_wechat::{Advice, CallError, ErrorCode};
use secrecy::SecretString;
use serde_json::json;

use crate::support::{MINI_PROGRAM, OFFICIAL, WEBSITE, WeChat, app};

const TOKEN_PATH: &str = "/sns/oauth2/access_token";

#[tokio::test]
async fn a_code_gives_the_identity_its_scope_allows() {
    let wechat = WeChat::start().await;
    let api = wechat.api();
    let base =
        api.exchange(&app(OFFICIAL), &wechat.code(OFFICIAL, "snsapi_base").await).await.expect("a grant");
    assert_eq!((base.openid.len(), base.unionid.as_deref(), base.snapshot_user), (28, None, false));
    let refused = api.profile(&base).await.expect_err("not in the scope");
    assert_eq!(refused.code(), Some(ErrorCode::API_UNAUTHORIZED));

    let full =
        api.exchange(&app(OFFICIAL), &wechat.code(OFFICIAL, "snsapi_userinfo").await).await.expect("a grant");
    let profile = api.profile(&full).await.expect("a profile");
    assert_eq!(profile.name.as_deref(), Some("小明"));
    assert!(profile.picture.expect("a picture").starts_with("https://thirdwx.qlogo.cn/mmopen/"));
    assert_eq!(full.openid, base.openid);

    // Another appid knows the person by another openid and by the same unionid.
    let website =
        api.exchange(&app(WEBSITE), &wechat.code(WEBSITE, "snsapi_login").await).await.expect("a grant");
    assert_ne!(website.openid, full.openid);
    assert_eq!((&website.unionid, website.unionid.is_some()), (&full.unionid, true));

    let session =
        api.session(&app(MINI_PROGRAM), &wechat.code(MINI_PROGRAM, "").await).await.expect("a session");
    assert_eq!(session.unionid, full.unionid);
}

#[tokio::test]
async fn codes_work_once_for_their_appid_and_not_for_long() {
    let wechat = WeChat::start().await;
    let api = wechat.api();
    let official = app(OFFICIAL);
    let start_again = |error: CallError, code: i64| {
        assert_eq!((error.code(), error.advice()), (Some(ErrorCode(code)), Advice::StartAgain), "{error}");
        let CallError::Refused { rid, .. } = error else { panic!("refused") };
        assert_eq!(rid.expect("a rid").len(), 26);
    };
    let used = wechat.code(OFFICIAL, "snsapi_base").await;
    api.exchange(&official, &used).await.expect("a grant");
    start_again(api.exchange(&official, &used).await.expect_err("used"), 40_163);
    start_again(api.exchange(&official, "garbled").await.expect_err("unknown"), 40_029);
    let others = wechat.code(WEBSITE, "snsapi_login").await;
    start_again(api.exchange(&official, &others).await.expect_err("another's"), 40_029);
    let late = wechat.code(OFFICIAL, "snsapi_base").await;
    wechat.order("clock", json!({ "seconds": 301 })).await;
    start_again(api.exchange(&official, &late).await.expect_err("late"), 42_003);
}

#[tokio::test]
async fn a_busy_wechat_is_asked_again_and_the_code_still_works() {
    let wechat = WeChat::start().await;
    let api = wechat.api();
    for what in [json!({ "code": -1 }), json!("empty"), json!("html"), json!({ "status": 502 })] {
        let code = wechat.code(OFFICIAL, "snsapi_base").await;
        wechat.fault(TOKEN_PATH, json!({ "times": 2, "what": what })).await;
        let before = wechat.calls(TOKEN_PATH).await;
        let grant = api.exchange(&app(OFFICIAL), &code).await;
        assert!(grant.is_ok(), "{what}: {grant:?}");
        assert_eq!(wechat.calls(TOKEN_PATH).await - before, 3, "{what}");
    }
    wechat.fault(TOKEN_PATH, json!({ "times": 100, "what": { "code": -1 } })).await;
    let error = api.exchange(&app(OFFICIAL), "code").await.expect_err("busy for good");
    assert_eq!(error.code(), Some(ErrorCode::BUSY));
}

#[tokio::test]
async fn a_silent_wechat_is_given_up_in_time_and_the_call_not_repeated() {
    let wechat = WeChat::start().await;
    wechat.fault(TOKEN_PATH, json!({ "delay_ms": 10_000 })).await;
    let code = wechat.code(OFFICIAL, "snsapi_base").await;
    let started = Instant::now();
    let error = wechat.api().exchange(&app(OFFICIAL), &code).await.expect_err("silent");
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(wechat.calls(TOKEN_PATH).await, 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let wechat = WeChat::start().await;
    let elsewhere = format!("{}/sns/auth", wechat.api().bases().api.as_str());
    wechat.fault(TOKEN_PATH, json!({ "times": 9, "what": { "redirect": elsewhere } })).await;
    let error = wechat.api().exchange(&app(OFFICIAL), "code").await.expect_err("a redirect");
    assert!(matches!(error, CallError::Unreadable { why: "a redirect", .. }), "{error:?}");
    assert_eq!(wechat.calls("/sns/auth").await, 0);
}

#[tokio::test]
async fn an_answer_about_someone_else_or_without_an_openid_is_no_identity() {
    let wechat = WeChat::start().await;
    let api = wechat.api();
    for body in [
        r#"{"access_token":"t","expires_in":7200}"#,
        r#"{"access_token":"t","openid":""}"#,
        r#"{"access_token":"t","openid":"<script>"}"#,
        r#"{"access_token":"t","openid":1}"#,
        r#"[1]"#,
    ] {
        wechat.fault(TOKEN_PATH, json!({ "times": 4, "what": { "body": body } })).await;
        let error = api.exchange(&app(OFFICIAL), "code").await.expect_err(body);
        assert!(matches!(error, CallError::Unreadable { .. }), "{body}: {error:?}");
        wechat.clear_faults().await;
    }
    let grant =
        api.exchange(&app(WEBSITE), &wechat.code(WEBSITE, "snsapi_login").await).await.expect("a grant");
    wechat
        .fault("/sns/userinfo", json!({ "what": { "body": r#"{"openid":"oOther","nickname":"x"}"# } }))
        .await;
    assert!(api.profile(&grant).await.is_err());
}

#[tokio::test]
async fn a_used_up_quota_stops_the_calls() {
    let wechat = WeChat::start().await;
    let api = wechat.api();
    wechat.order("quotas", json!({ "path": TOKEN_PATH, "left": 1, "code": 45_011 })).await;
    api.exchange(&app(OFFICIAL), &wechat.code(OFFICIAL, "snsapi_base").await)
        .await
        .expect("within the quota");
    let error = api.exchange(&app(OFFICIAL), "code").await.expect_err("beyond it");
    assert_eq!(error.code(), Some(ErrorCode(45_011)));
    let before = wechat.calls(TOKEN_PATH).await;
    let error = api.exchange(&app(OFFICIAL), "code").await.expect_err("still beyond it");
    assert!(matches!(error, CallError::QuotaUsedUp { .. }), "{error:?}");
    assert_eq!(wechat.calls(TOKEN_PATH).await, before, "nothing was asked");
}

#[tokio::test]
async fn configuration_errors_say_what_to_change() {
    let wechat = WeChat::start().await;
    let api = wechat.api();
    let mut wrong = app(OFFICIAL);
    wrong.secret = "wrong".into();
    let code = wechat.code(OFFICIAL, "snsapi_base").await;
    for (account, expected) in [(wrong, 40_125), (app("wx0"), 40_013), (app(MINI_PROGRAM), 40_013)] {
        let error = api.exchange(&account, &code).await.expect_err("wrong");
        assert_eq!((error.code(), error.advice()), (Some(ErrorCode(expected)), Advice::Configure));
        assert!(error.to_string().contains("cure"), "{error}");
    }
    api.exchange(&app(OFFICIAL), &code).await.expect("the code is not spent by that");
}

#[tokio::test]
async fn no_error_and_no_debug_output_holds_a_secret() {
    let wechat = WeChat::start().await;
    let api = wechat.api();
    let app = app(OFFICIAL);
    let code = wechat.code(OFFICIAL, "snsapi_userinfo").await;
    let mut said = format!("{api:?} {app:?}");
    let quoting =
        json!({ "errcode": 40_029, "errmsg": format!("invalid code {code}, rid: {code}") }).to_string();
    for what in
        [json!({ "body": quoting }), json!({ "code": 40_125 }), json!({ "status": 500 }), json!("empty")]
    {
        wechat.order("faults", json!({ "path": TOKEN_PATH, "times": 4, "what": what })).await;
        let error = api.exchange(&app, &code).await.expect_err("a fault");
        said.push_str(&format!("{error} {error:?} "));
        wechat.clear_faults().await;
    }
    let grant = api.exchange(&app, &code).await.expect("a grant");
    said.push_str(&format!("{grant:?}"));
    let gone = doorbell_wechat::Base::parse("http://127.0.0.1:1").expect("a base");
    let nowhere = doorbell_wechat::Bases { api: gone.clone(), open: gone };
    let timing = doorbell_wechat::Timing { backoff: Duration::from_millis(1), ..Default::default() };
    let error = doorbell_wechat::Api::new(nowhere, timing).expect("an API").exchange(&app, &code).await;
    said.push_str(&format!("{:?}", error.expect_err("nobody there")));
    let session = SecretString::from("session-key");
    said.push_str(&format!(
        "{:?}",
        doorbell_wechat::mini_program::Session { openid: "o".into(), unionid: None, session_key: session }
    ));

    let state = wechat.state().await;
    let secrets = state["secrets"].as_array().expect("secrets");
    assert!(secrets.len() >= 3, "{secrets:?}");
    for secret in
        secrets.iter().filter_map(|secret| secret.as_str()).chain(["standin-secret-of", "session-key"])
    {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}
