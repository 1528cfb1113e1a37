//! What goes wrong with API calls, and how many are allowed.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::Shared;
use crate::answer::{fail, message_of, text};

/// Something that goes wrong with the next calls of a path.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) path: String,
    /// How many calls it spoils.
    #[serde(default = "one")]
    pub(crate) times: u32,
    /// Waits before anything else.
    #[serde(default)]
    pub(crate) delay_ms: u64,
    #[serde(default)]
    pub(crate) what: What,
    /// Lets the call be carried out first, so that its answer alone is lost.
    #[serde(default)]
    pub(crate) after: bool,
}

const fn one() -> u32 {
    1
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    /// Nothing more: the answer is only late.
    #[default]
    Late,
    /// An error.
    Code(i64),
    /// HTTP 200 with nothing, of type text/html.
    Empty,
    /// A page.
    Html,
    /// Another HTTP status.
    Status(u16),
    /// A redirect to the given address.
    Redirect(String),
    /// This body.
    Body(String),
}

/// How many calls of a path are allowed before 45009 or 45011.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quota {
    pub(crate) left: u64,
    pub(crate) code: i64,
}

pub(crate) async fn apply(State(shared): State<Shared>, request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let (fault, over) = {
        let mut world = shared.world.lock();
        *world.calls.entry(path.clone()).or_default() += 1;
        let over = match world.quotas.get_mut(&path) {
            Some(quota) if quota.left == 0 => Some(quota.code),
            Some(quota) => {
                quota.left -= 1;
                None
            }
            None => None,
        };
        let found = world.faults.iter_mut().find(|fault| fault.path == path && fault.times > 0);
        (
            found.map(|fault| {
                fault.times -= 1;
                fault.clone()
            }),
            over,
        )
    };
    if let Some(code) = over {
        return fail(code, message_of(code));
    }
    let Some(fault) = fault else { return next.run(request).await };
    let mut done = None;
    if fault.after {
        done = Some(next.clone().run(Request::from_parts(request.into_parts().0, Body::empty())).await);
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    } else {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
        if matches!(fault.what, What::Late) {
            return next.run(request).await;
        }
    }
    match fault.what {
        What::Late => done.unwrap_or_else(|| text(String::new())),
        What::Code(code) => fail(code, message_of(code)),
        What::Empty => ([(header::CONTENT_TYPE, "text/html")], "").into_response(),
        What::Html => {
            ([(header::CONTENT_TYPE, "text/html")], "<html><body>502</body></html>").into_response()
        }
        What::Status(status) => {
            (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), "").into_response()
        }
        What::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        What::Body(body) => text(body),
    }
}
