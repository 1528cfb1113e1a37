//! What the phone's pages look like. Everything they say is in [`PhonePage`]; how they say it is here alone.

use std::fmt::Write as _;

use doorbell_login::{PhoneView, Refusal, State, TypedError, describe};

/// Everything a phone's page says.
#[derive(Debug)]
pub(super) struct PhonePage<'a> {
    /// The QR token; empty on pages that lead nowhere.
    pub(super) qr: &'a str,
    /// Goes into every form, as `page_token`.
    pub(super) page_token: &'a str,
    /// What the page is about.
    pub(super) said: Said<'a>,
    /// What went wrong with the last step, on a page that can be gone on with.
    pub(super) error: Option<&'a Refusal>,
    /// By whom the owner may say who they are; goes back as `provider`.
    pub(super) choices: Vec<Choice>,
    /// The phone's `Accept-Language`.
    pub(super) languages: &'a str,
}

/// What a page is about.
#[derive(Debug)]
pub(super) enum Said<'a> {
    /// A login.
    View(&'a PhoneView),
    /// There is none for this phone.
    Refusal(&'a Refusal),
    /// A provider did not say who the owner is; this is for them to read.
    Failed(&'a str),
    /// The form for a typed code, and what was wrong with the last one.
    Form(Option<&'a TypedError>),
}

/// One way for the owner to say who they are.
#[derive(Debug)]
pub(super) struct Choice {
    /// The field's value.
    pub(super) name: String,
    /// What it is called.
    pub(super) label: String,
    /// The page asks for a name, in the field `name`.
    pub(super) asks_name: bool,
}

/// The page's HTML.
pub(super) fn render(page: &PhonePage<'_>) -> String {
    let title = if page.languages.starts_with("zh") { "登录 · Log in" } else { "Log in" };
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title><main>",
    );
    if let Some(error) = page.error {
        let _ = write!(html, "<p role=\"alert\">{}</p>", escaped(&error.to_string()));
    }
    match page.said {
        Said::Form(error) => {
            if let Some(error) = error {
                let _ = write!(html, "<p role=\"alert\">{}</p>", escaped(&error.to_string()));
            }
            html.push_str(
                "<h1>Enter the code</h1><form method=\"post\" action=\"/s\"><label>Code \
                 <input name=\"user_code\" autocomplete=\"off\" autocapitalize=\"characters\" required></label> \
                 <button>Continue</button></form>",
            );
        }
        Said::Refusal(refusal) => {
            let _ = write!(html, "<h1>Log in</h1><p>{}</p>", escaped(&refusal.to_string()));
        }
        Said::Failed(text) => {
            let _ = write!(html, "<h1>登录 · Log in</h1><p role=\"alert\">{}</p>", escaped(text));
        }
        Said::View(view) => login(page, view, &mut html),
    }
    html.push_str("</main></html>");
    html
}

fn login(page: &PhonePage<'_>, view: &PhoneView, html: &mut String) {
    let name = view.client.as_ref().map_or("", |client| client.name.as_str());
    let _ = write!(html, "<h1>Log in to {}</h1>", escaped(name));
    match view.state {
        State::Pending => {
            computer(view, html);
            form(page, "scan", "<button>Continue</button>", html);
        }
        State::Scanned if view.is_owner => {
            computer(view, html);
            let mut fields = String::new();
            if view.number_match == doorbell_login::NumberMatch::ToPhone {
                fields.push_str(
                    "<label>The number on the computer <input name=\"number\" inputmode=\"numeric\" required></label> ",
                );
            }
            for choice in &page.choices {
                if choice.asks_name {
                    fields.push_str("<label>Your name <input name=\"name\"></label> ");
                }
                let _ = write!(
                    fields,
                    "<button name=\"provider\" value=\"{}\">Agree ({})</button> ",
                    escaped(&choice.name),
                    escaped(&choice.label)
                );
            }
            form(page, "approve", &fields, html);
            form(page, "deny", "<button>Refuse</button>", html);
        }
        State::Scanned => html.push_str("<p>Another phone has scanned this code.</p>"),
        State::Approved => match &view.digits {
            Some(digits) => {
                let _ = write!(html, "<p>Type this on the computer: <strong>{digits}</strong></p>");
                form(page, "deny", "<button>That was not me</button>", html);
            }
            None => html.push_str("<p>Agreed. You may close this page.</p>"),
        },
        state => {
            let _ = write!(html, "<p>This login is {}.</p>", super::scan::over(state));
        }
    }
}

fn computer(view: &PhoneView, html: &mut String) {
    let described = describe(&view.computer.user_agent);
    let _ = write!(
        html,
        "<p>{} on {}, {}, {} s ago</p>",
        described.browser.unwrap_or("A browser"),
        described.system.unwrap_or("a computer"),
        view.computer.address,
        view.age_ms / 1_000
    );
    if view.same_network == Some(false) {
        html.push_str("<p role=\"alert\">The computer is not on this phone's network.</p>");
    }
    if let Some(message) = &view.binding_message {
        let _ = write!(html, "<p>{}</p>", escaped(message));
    }
}

fn form(page: &PhonePage<'_>, action: &str, fields: &str, html: &mut String) {
    let _ = write!(
        html,
        "<form method=\"post\" action=\"/s/{}/{action}\"><input type=\"hidden\" name=\"page_token\" value=\"{}\">{fields}</form>",
        escaped(page.qr),
        escaped(page.page_token)
    );
}

/// A text as it may stand in HTML, quotes included.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
