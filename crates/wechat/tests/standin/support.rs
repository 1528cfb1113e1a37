//! A stand-in WeChat on a port of its own, and an API that asks it.

use std::sync::Arc;
use std::time::Duration;

use doorbell_wechat::{Api, App, Base, Bases, Timing};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const OFFICIAL: &str = "wx00000000000000a1";
pub(crate) const WEBSITE: &str = "wx00000000000000b2";
pub(crate) const MINI_PROGRAM: &str = "wx00000000000000c3";

pub(crate) struct WeChat {
    base: String,
    http: reqwest::Client,
    serving: JoinHandle<()>,
}

impl Drop for WeChat {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl WeChat {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let serving = tokio::spawn(async move {
            doorbell_wechat_standin::serve(listener, doorbell_wechat_standin::Browsers::WeChat)
                .await
                .expect("it serves");
        });
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { base, http, serving }
    }

    /// An API with short times, so that tests need not wait.
    pub(crate) fn api(&self) -> Arc<Api> {
        let timing = Timing {
            request: Duration::from_millis(500),
            total: Duration::from_secs(20),
            backoff: Duration::from_millis(20),
        };
        let base = Base::parse(&self.base).expect("an address of this machine");
        Arc::new(Api::new(Bases { api: base.clone(), open: base }, timing).expect("an API"))
    }

    pub(crate) async fn order(&self, what: &str, body: Value) -> Value {
        let answer = self
            .http
            .post(format!("{}/_control/{what}", self.base))
            .header("Content-Type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .expect("the stand-in answers");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{what}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    pub(crate) async fn state(&self) -> Value {
        let answer = self.http.get(format!("{}/_control/state", self.base)).send().await.expect("an answer");
        serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
    }

    pub(crate) async fn calls(&self, path: &str) -> u64 {
        self.state().await["calls"][path].as_u64().unwrap_or_default()
    }

    pub(crate) async fn fault(&self, path: &str, fault: Value) {
        let mut fault = fault;
        fault["path"] = json!(path);
        self.order("faults", fault).await;
    }

    pub(crate) async fn clear_faults(&self) {
        let cleared = self.http.delete(format!("{}/_control/faults", self.base)).send().await;
        assert!(cleared.expect("the stand-in answers").status().is_success());
    }

    pub(crate) async fn code(&self, appid: &str, scope: &str) -> String {
        let new = json!({ "appid": appid, "person": "xiaoming", "scope": scope });
        self.order("codes", new).await["code"].as_str().expect("a code").to_owned()
    }
}

pub(crate) fn app(appid: &str) -> App {
    App { appid: appid.into(), secret: format!("standin-secret-of-{appid}").into() }
}
