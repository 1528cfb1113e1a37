//! The page as HTML: a view goes in, a document and its headers come out.
//!
//! askama escapes every value. Style and script are part of the document, so that it needs no second request; the
//! content policy names their hashes, and nothing else may run.

use std::sync::LazyLock;

use askama::Template;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::name::shown;
use super::texts::{Notice, Texts, with};
use super::view::{Asking, Number, Site, Step, View};

const STYLE: &str = include_str!("../../../assets/phone/phone.css");
const SCRIPT: &str = include_str!("../../../assets/phone/phone.js");

/// Only what is in the document runs, and nobody frames it (CSP Level 2, hash sources). Forms may lead on to a provider,
/// and browsers apply `form-action` to where an answer redirects; a provider's stand-in is on this machine, without TLS.
static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         form-action 'self' https: http://127.0.0.1:* http://localhost:*; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).expect("base64 and ASCII")
});

/// What the template fills in.
#[derive(Template)]
#[template(path = "phone/page.html")]
struct Page<'a> {
    t: &'static Texts,
    view: &'a View<'a>,
    style: &'static str,
    script: &'static str,
    title: String,
    symbol: &'static str,
    notice: Option<String>,
}

impl View<'_> {
    /// The document.
    pub(crate) fn html(&self) -> String {
        let t = self.language.texts();
        let (symbol, title, notice) = self.heading(t);
        let page = Page { t, view: self, style: STYLE, script: SCRIPT, title, symbol, notice };
        // Writing to a string fails only when a value's own `Display` does, and none here can.
        page.render().unwrap_or_default()
    }

    /// The document with its status and headers.
    pub(crate) fn response(&self) -> Response {
        let fixed = |name: HeaderName, value: &'static str| (name, HeaderValue::from_static(value));
        let mut response = (self.status(), self.html()).into_response();
        response.headers_mut().extend([
            fixed(header::CONTENT_TYPE, "text/html; charset=utf-8"),
            fixed(header::CACHE_CONTROL, "no-store"),
            fixed(header::VARY, "Accept-Language, Cookie"),
            fixed(header::REFERRER_POLICY, "no-referrer"),
            fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            fixed(header::X_FRAME_OPTIONS, "DENY"),
            fixed(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            fixed(HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY.clone()),
        ]);
        if let Some(version) = self.version
            && let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\""))
        {
            response.headers_mut().insert(header::ETAG, tag);
        }
        if let Step::Busy(seconds) = self.step {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    const fn status(&self) -> StatusCode {
        match self.step {
            Step::Taken => StatusCode::CONFLICT,
            Step::Renewed | Step::Expired | Step::Cancelled => StatusCode::GONE,
            Step::Unknown | Step::SiteUnknown => StatusCode::NOT_FOUND,
            Step::OtherNetwork | Step::OwnApp | Step::NoCookie => StatusCode::FORBIDDEN,
            Step::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::OK,
        }
    }

    /// The symbol, the heading, and the one sentence of a page that has no more.
    fn heading(&self, t: &'static Texts) -> (&'static str, String, Option<String>) {
        let site = self.site.map_or("", |site| site.name);
        let said = |symbol, Notice { title, body }: Notice| (symbol, title.to_owned(), Some(body.to_owned()));
        match self.step {
            Step::Scan | Step::Consent(_) => ("", with(t.sign_in_to, &shown(site)), None),
            Step::Digits(_) => ("", t.digits.to_owned(), None),
            Step::Agreed(_) => ("good", t.agreed.to_owned(), None),
            Step::SignedIn(_) => ("good", with(t.signed_in, &shown(site)), None),
            Step::TypeCode { .. } => ("", t.type_code.to_owned(), None),
            Step::Ended => said("good", t.ended),
            Step::Refused => said("no", t.refused),
            Step::Expired => said("time", t.expired),
            Step::Taken => said("other", t.taken),
            Step::Renewed => said("again", t.renewed),
            Step::Cancelled => said("no", t.cancelled),
            Step::NumbersUsedUp => said("no", t.numbers_used_up),
            Step::Unknown => said("other", t.unknown),
            Step::SiteUnknown => said("other", t.site_unknown),
            Step::OtherNetwork => said("no", t.other_network),
            Step::OwnApp => said("other", t.own_app),
            Step::NoCookie => said("again", t.no_cookie),
            Step::Busy(seconds) => {
                ("time", t.busy.title.to_owned(), Some(with(t.busy.body, &seconds.to_string())))
            }
            Step::Failed(why) => {
                ("no", t.failed.title.to_owned(), Some(why.unwrap_or(t.failed.body).to_owned()))
            }
        }
    }
}

/// What the template asks for.
impl Page<'_> {
    /// The page looks whether it is still true while somebody sees it.
    fn watched(&self) -> String {
        self.view.version.map(|version| version.to_string()).unwrap_or_default()
    }

    fn computer(&self, asking: &Asking<'_>) -> String {
        self.view.language.computer(asking.computer)
    }

    fn ago(&self, asking: &Asking<'_>) -> String {
        self.view.language.ago(asking.age)
    }

    fn seconds_left(&self, seconds: u64) -> String {
        with(self.t.seconds_left, &seconds.to_string())
    }

    fn wrong_number(&self, number: &Number) -> String {
        with(self.t.wrong_number[usize::from(number.tries_left != 1)], &number.tries_left.to_string())
    }
}

/// What stands for a site without an icon: the first letter of its name.
fn initial(site: &Site<'_>) -> String {
    shown(site.name).chars().next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::language::Language;
    use super::super::view::{Consent, Way};
    use super::*;

    const HOSTILE: &str = "<script>alert('1')</script>\"&\u{202e}";

    const WAYS: &[Way<'static>] =
        &[Way { provider: "wechat-mp", label: "WeChat" }, Way { provider: "other", label: HOSTILE }];

    fn asking() -> Asking<'static> {
        let computer = doorbell_login::describe("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/131.0.0.0");
        Asking { computer, place: Some(HOSTILE), address: "203.0.113.9", age: Duration::from_secs(21) }
    }

    fn consent(names: &'static [&'static str]) -> Consent<'static> {
        Consent {
            asking: asking(),
            elsewhere: true,
            message: Some(HOSTILE),
            ways: WAYS,
            names,
            number: Some(Number { tries_left: 2, wrong: true }),
            expires_in: Duration::from_secs(57),
        }
    }

    fn steps() -> Vec<Step<'static>> {
        vec![
            Step::Scan,
            Step::Consent(consent(&[])),
            Step::Consent(consent(&["Alice", HOSTILE])),
            Step::Digits("123456"),
            Step::Agreed(asking()),
            Step::SignedIn(asking()),
            Step::Ended,
            Step::Refused,
            Step::Expired,
            Step::Taken,
            Step::Renewed,
            Step::Cancelled,
            Step::NumbersUsedUp,
            Step::Unknown,
            Step::SiteUnknown,
            Step::OtherNetwork,
            Step::OwnApp,
            Step::NoCookie,
            Step::Busy(7),
            Step::Failed(None),
            // A provider's sentence is this program's own text.
            Step::Failed(Some("<script>alert('1')</script>")),
            Step::TypeCode { wrong: true },
        ]
    }

    fn view(step: Step<'static>, language: Language) -> View<'static> {
        let site = Site { name: HOSTILE, icon: None };
        View { language, path: "/s/abc", token: "page-token", version: Some(3), site: Some(site), step }
    }

    #[test]
    fn no_value_becomes_markup_in_any_step() {
        for language in [Language::English, Language::Chinese] {
            for step in steps() {
                let html = view(step, language).html();
                let counted = format!("data-text=\"{}\"", language.texts().seconds_left);
                let body = html.replace(SCRIPT, "").replace(STYLE, "").replace(&counted, "");
                assert!(!html.contains("<script>alert"), "{step:?}");
                assert!(!html.contains('\u{202e}'), "{step:?}: a direction mark of a name stays");
                assert_eq!(body.matches("<script").count(), 1, "{step:?}");
                assert!(html.contains("lang=\"") && html.ends_with("</html>"), "{step:?}");
                assert!(!body.contains("{}"), "{step:?}: a text has an empty place");
            }
        }
    }

    #[test]
    fn a_page_loads_nothing_and_a_form_carries_its_token() {
        for step in steps() {
            let html = view(step, Language::English).html();
            for outside in
                ["src=\"http", "href=\"http://", "url(", "@import", "<iframe", " style=\"", " onclick"]
            {
                assert!(!html.contains(outside), "{step:?}: {outside}");
            }
            assert_eq!(
                html.matches("<form").count(),
                html.matches("value=\"page-token\"").count(),
                "{step:?}"
            );
            assert_eq!(html.matches("method=\"post\"").count(), html.matches("<form").count(), "{step:?}");
        }
    }

    #[test]
    fn the_policy_names_exactly_what_is_in_the_document() {
        let response = view(Step::Scan, Language::English).response();
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("text").to_owned();
        let html = view(Step::Scan, Language::English).html();
        for (tag, directive) in [("style", "style-src"), ("script", "script-src")] {
            let inline = html
                .split(&format!("<{tag}>"))
                .nth(1)
                .and_then(|rest| rest.split(&format!("</{tag}>")).next());
            let hash = STANDARD.encode(Sha256::digest(inline.expect("one")));
            assert!(policy.contains(&format!("{directive} 'sha256-{hash}'")), "{policy}");
        }
        assert!(!policy.contains("unsafe"));
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            assert_eq!(response.headers()[name], value);
        }
    }

    #[test]
    fn the_question_shows_who_asks_from_where_and_since_when() {
        let html = view(Step::Consent(consent(&[])), Language::English).html();
        for part in ["Chrome on Windows", "203.0.113.9", "21 seconds ago", "2 tries are left", "57 s left"] {
            assert!(html.contains(part), "{part}\n{html}");
        }
        let chinese = view(Step::Consent(consent(&[])), Language::Chinese).html();
        for part in ["Windows 上的 Chrome", "21 秒前", "同意", "拒绝"] {
            assert!(chinese.contains(part), "{part}\n{chinese}");
        }
    }
}
