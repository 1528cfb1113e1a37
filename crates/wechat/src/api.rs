//! One call to WeChat's API.
//!
//! Every answer is HTTP 200, errors too, and its `Content-Type` says nothing: JSON comes as `text/plain`. An answer is
//! an error when it has an `errcode` that is not 0. Secrets travel in queries, so no address is ever logged, no
//! redirect followed and no proxy taken from the environment.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::error::Advice;
use crate::quota::Quotas;
use crate::{Bases, CallError, Endpoint, ErrorCode};

/// The longest answer that is read. JSON answers have a few hundred bytes, mini-program codes some ten thousand.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How often a busy WeChat is asked again.
const RETRIES: u32 = 3;

/// How long calls may take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// One request, from connecting to the last byte of its answer.
    pub request: Duration,
    /// A call with its retries.
    pub total: Duration,
    /// The pause before a busy WeChat is asked again; doubled each time.
    pub backoff: Duration,
}

impl Default for Timing {
    /// A person waits for most calls: someone who looks at a phone gives up after about ten seconds.
    fn default() -> Self {
        Self {
            request: Duration::from_secs(5),
            total: Duration::from_secs(9),
            backoff: Duration::from_secs(1),
        }
    }
}

/// WeChat's API. Cheap to clone by `Arc`; keeps connections open between calls.
#[derive(Debug)]
pub struct Api {
    http: Client,
    bases: Bases,
    timing: Timing,
    quotas: Quotas,
}

/// A call's parameters. No `Debug`: most values are secrets.
pub(crate) struct Call<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) query: &'a [(&'a str, &'a str)],
    /// Posted as JSON; without it the call is a GET.
    pub(crate) body: Option<Value>,
}

impl Api {
    /// An API at these addresses.
    ///
    /// # Errors
    /// When the system's certificates or randomness cannot be read.
    pub fn new(bases: Bases, timing: Timing) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(timing.request)
            .timeout(timing.request)
            .build()?;
        Ok(Self { http, bases, timing, quotas: Quotas::default() })
    }

    /// The addresses in use.
    pub const fn bases(&self) -> &Bases {
        &self.bases
    }

    /// Makes a call and reads its answer's JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, CallError> {
        let endpoint = call.endpoint;
        let answer = self.bytes(call).await?;
        serde_json::from_slice(&answer)
            .map_err(|_| unreadable(endpoint, "a field is missing or of another type"))
    }

    /// Makes a call; a busy WeChat is asked again while there is time.
    pub(crate) async fn bytes(&self, call: Call<'_>) -> Result<Bytes, CallError> {
        let endpoint = call.endpoint;
        let deadline = Instant::now() + self.timing.total;
        let mut backoff = self.timing.backoff;
        let mut retries = 0;
        loop {
            self.quotas.check(endpoint)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CallError::TimedOut { endpoint });
            }
            let error = match self.once(&call, left.min(self.timing.request)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let Advice::Wait(quota) = error.advice()
                && error.code().is_some()
            {
                self.quotas.used_up(endpoint, quota);
            }
            // A call without an answer may have been carried out, and codes work once: it is not repeated.
            let again = error.advice() == Advice::Retry && !matches!(error, CallError::TimedOut { .. });
            if !again || retries == RETRIES || Instant::now() + backoff >= deadline {
                tracing::debug!(%error, retries, "a call to WeChat failed");
                return Err(error);
            }
            tracing::debug!(%error, retries, "asking WeChat again");
            tokio::time::sleep(backoff).await;
            backoff *= 2;
            retries += 1;
        }
    }

    async fn once(&self, call: &Call<'_>, timeout: Duration) -> Result<Bytes, CallError> {
        let endpoint = call.endpoint;
        let mut url = Url::parse(&format!("{}{}", self.bases.api.as_str(), endpoint.path()))
            .map_err(|_| unreadable(endpoint, "the address is malformed"))?;
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let method = if call.body.is_some() { Method::POST } else { Method::GET };
        let mut request = self.http.request(method, url).timeout(timeout);
        if let Some(body) = &call.body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let mut response = request.send().await.map_err(|error| unreachable(endpoint, error))?;
        let status = response.status();
        if status != StatusCode::OK {
            let why = if status.is_redirection() { "a redirect" } else { "an HTTP status other than 200" };
            return Err(unreadable(endpoint, why));
        }
        let mut answer = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(endpoint, error))? {
            if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(unreadable(endpoint, "longer than 1 MiB"));
            }
            answer.extend_from_slice(&chunk);
        }
        judge(endpoint, answer.freeze())
    }
}

/// The start of every answer that may be an error.
#[derive(Deserialize)]
struct Verdict {
    errcode: Option<i64>,
    errmsg: Option<String>,
}

/// Tells errors from results.
fn judge(endpoint: Endpoint, answer: Bytes) -> Result<Bytes, CallError> {
    // Pictures start with other bytes.
    let picture = endpoint == Endpoint::MiniProgramCode && !answer.starts_with(b"{");
    if answer.is_empty() {
        return Err(unreadable(endpoint, "empty"));
    }
    if picture {
        return Ok(answer);
    }
    let verdict: Verdict =
        serde_json::from_slice(&answer).map_err(|_| unreadable(endpoint, "not a JSON object"))?;
    match verdict.errcode {
        None | Some(0) => Ok(answer),
        Some(code) => {
            let rid = verdict.errmsg.as_deref().and_then(rid_of);
            Err(CallError::Refused { endpoint, code: ErrorCode(code), rid })
        }
    }
}

/// The request's id in an `errmsg`, such as `code been used, rid: 6206378a-793424c0-2e4091cc`. The rest of the text
/// varies and may quote what was sent, so nothing else of it is kept.
fn rid_of(message: &str) -> Option<String> {
    let (_, rid) = message.rsplit_once("rid:")?;
    let rid = rid.trim();
    let plain =
        (1..=64).contains(&rid.len()) && rid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    plain.then(|| rid.to_owned())
}

pub(crate) const fn unreadable(endpoint: Endpoint, why: &'static str) -> CallError {
    CallError::Unreadable { endpoint, why }
}

fn unreachable(endpoint: Endpoint, error: reqwest::Error) -> CallError {
    if error.is_timeout() {
        return CallError::TimedOut { endpoint };
    }
    // The address holds secrets; the innermost cause is the system's own text.
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    CallError::Unreachable { endpoint, why: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(answer: &'static str) -> Result<Bytes, CallError> {
        judge(Endpoint::CodeToToken, Bytes::from_static(answer.as_bytes()))
    }

    #[test]
    fn an_answer_is_an_error_only_by_its_errcode() {
        assert!(judged(r#"{"access_token":"t"}"#).is_ok());
        assert!(judged(r#"{"errcode":0,"errmsg":"ok"}"#).is_ok());
        let Err(CallError::Refused { code, rid, .. }) =
            judged(r#"{"errcode":40163,"errmsg":"code been used, rid: 6206378a-793424c0-2e4091cc"}"#)
        else {
            panic!("an error");
        };
        assert_eq!((code, rid.as_deref()), (ErrorCode::CODE_USED, Some("6206378a-793424c0-2e4091cc")));
    }

    #[test]
    fn an_answer_that_is_no_json_object_is_unreadable() {
        for answer in ["", "<html>", "[]", "\"\"", "null", "{", r#"{"errcode":"40001"}"#] {
            assert!(matches!(judged(answer), Err(CallError::Unreadable { .. })), "{answer}");
        }
    }

    #[test]
    fn only_the_rid_of_a_message_is_kept() {
        assert_eq!(
            rid_of("invalid code rid: 6206378a-793424c0-2e4091cc").as_deref(),
            Some("6206378a-793424c0-2e4091cc")
        );
        assert_eq!(rid_of("code been used, hints: [ req_id: XYv1Ha07042046 ]"), None);
        assert_eq!(rid_of("invalid secret S3CRET, rid: S3CRET"), None);
        assert_eq!(rid_of("system error"), None);
    }

    #[test]
    fn a_picture_is_told_from_an_error_by_its_first_byte() {
        let code = |bytes: &'static [u8]| judge(Endpoint::MiniProgramCode, Bytes::from_static(bytes));
        assert!(code(b"\xff\xd8\xff\xe0").is_ok());
        assert!(matches!(
            code(br#"{"errcode":40169,"errmsg":"invalid length for scene"}"#),
            Err(CallError::Refused { code: ErrorCode(40_169), .. })
        ));
    }
}
