//! The terminal's own login: what any command line does by RFC 8628, and a page by its long-poll. It shows the QR code,
//! says who scanned and who signed in, and with Enter signs out or begins anew.
//!
//! It runs on a thread of its own, beside the server and through its public listener, and only while somebody is at the
//! terminal. It ends when the server no longer answers, when there is nothing more to read, or with the process.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fast_qr::{ECL, QRBuilder, QRCode};
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::http::request::Builder;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::ask::{self, Answer};
use super::print;

/// How long a question waits for the login's next step.
const WAIT: Duration = Duration::from_secs(25);
/// What an answer may take beyond that.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before the same question again, when the server has no room for it.
const AGAIN: Duration = Duration::from_secs(5);
/// Bytes of a line that somebody types.
const LINE_BYTES: u64 = 256;
/// The light modules that a QR code has around it (ISO/IEC 18004, "quiet zone").
const QUIET_ZONE: usize = 4;

/// A login as the server shows it to whoever began it.
#[derive(Debug, Deserialize)]
struct View {
    state: String,
    version: u64,
    verification_uri_complete: Option<String>,
    number: Option<String>,
    name: Option<String>,
    code: Option<String>,
    #[serde(default)]
    asks_number: bool,
}

#[derive(Debug, Deserialize)]
struct Begun {
    device_code: String,
    #[serde(flatten)]
    view: View,
}

#[derive(Debug, Deserialize)]
struct Granted {
    access_token: String,
    identity: Identity,
}

#[derive(Debug, Deserialize)]
struct Identity {
    id: String,
    name: Option<String>,
}

/// Whether somebody is at the terminal: in the background, reading from it would stop the server.
pub(super) fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && is_in_foreground()
}

/// Whether the terminal's keys are for this process (proc(5), `stat`: `pgrp` and `tpgid`).
fn is_in_foreground() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before the parenthesis may have anything in it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    matches!(fields[..], [_, _, own, _, _, foreground, ..] if own == foreground)
}

/// Begins logins for `client` at the server on `public`, until the module's header says.
///
/// # Errors
/// No thread could be started.
pub(super) fn begin(public: SocketAddr, client: &'static str) -> io::Result<()> {
    std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        let screen = Screen::default();
        if let Err(error) = (Terminal { public, client, screen }).run() {
            // Most often the server is stopping.
            tracing::debug!("the terminal's login ended: {error:#}");
        }
    })?;
    Ok(())
}

struct Terminal {
    public: SocketAddr,
    client: &'static str,
    screen: Screen,
}

impl Terminal {
    fn run(&mut self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        loop {
            let granted = self.sign_in(&runtime)?;
            if self.read_line().is_none() {
                return Ok(());
            }
            if let Some(Granted { access_token, .. }) = granted {
                let form = [("token", access_token.as_str()), ("client_id", self.client)];
                runtime.block_on(self.post("/v1/revoke", &form))?;
                self.screen.draw("  Signed out.\n");
                self.screen.leave();
            }
        }
    }

    /// One login, from its QR code to its end; what came of it, if anything did.
    fn sign_in(&mut self, runtime: &Runtime) -> anyhow::Result<Option<Granted>> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).context("no randomness")?;
        let verifier = URL_SAFE_NO_PAD.encode(random);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let form = [
            ("client_id", self.client),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        let answer = runtime.block_on(self.post("/v1/device_authorization", &form))?;
        let Begun { device_code, mut view } = read(&answer)?;
        loop {
            self.show(&view);
            match view.state.as_str() {
                "approved" if view.code.is_some() => break,
                "approved" if view.asks_number => {
                    let Some(number) = self.read_line() else { bail!("nobody types the number") };
                    let number = json!({ "number": number.trim() }).to_string();
                    // A wrong one is told by the state, too.
                    let request = Request::post("/v1/login/number").header(CONTENT_TYPE, "application/json");
                    runtime.block_on(self.ask(request, Some(&device_code), number))?;
                    view = self.look(runtime, &device_code, None)?;
                }
                "pending" | "scanned" | "approved" => {
                    view = self.look(runtime, &device_code, Some(view.version))?;
                }
                _ => return Ok(None),
            }
        }
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device_code.as_str()),
            ("code_verifier", verifier.as_str()),
            ("client_id", self.client),
        ];
        let granted: Granted = read(&runtime.block_on(self.post("/v1/token", &form))?)?;
        let name = granted.identity.name.as_deref().unwrap_or(&granted.identity.id);
        self.screen.draw(&format!("  Signed in as {}. Enter signs out.\n", plain(name)));
        Ok(Some(granted))
    }

    /// The login as it is, or once its version is another than `since`.
    fn look(&self, runtime: &Runtime, device_code: &str, since: Option<u64>) -> anyhow::Result<View> {
        let path = since.map_or_else(
            || "/v1/login".to_owned(),
            |since| format!("/v1/login?since={since}&wait={}", WAIT.as_secs()),
        );
        loop {
            let answer = runtime.block_on(self.ask(Request::get(&path), Some(device_code), String::new()))?;
            if answer.status != 503 {
                return read(&answer);
            }
            runtime.block_on(tokio::time::sleep(AGAIN));
        }
    }

    /// A line that somebody types; nothing when there is nobody any more.
    fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = io::stdin().lock().take(LINE_BYTES).read_line(&mut line).ok()?;
        self.screen.typed();
        (read > 0).then_some(line)
    }

    fn show(&mut self, view: &View) {
        let name = view.name.as_deref().map(plain);
        let text = match view.state.as_str() {
            "pending" => view.verification_uri_complete.as_deref().map_or_else(String::new, pending),
            "scanned" => match name {
                Some(name) => format!("  Scanned by {name}: agree on the phone.\n"),
                None => "  Scanned: agree on the phone.\n".to_owned(),
            },
            "approved" if view.asks_number => {
                "  Agreed. Type the six digits that the phone shows, then Enter:\n".to_owned()
            }
            "approved" => "  Agreed.\n".to_owned(),
            "denied" => "  Refused on the phone. Enter shows another code.\n".to_owned(),
            "expired" => "  The code has expired. Enter shows another one.\n".to_owned(),
            _ => "  The login has ended. Enter shows another code.\n".to_owned(),
        };
        let number = view.number.as_ref().filter(|_| matches!(view.state.as_str(), "pending" | "scanned"));
        let number =
            number.map_or_else(String::new, |number| format!("  Type {} on the phone.\n", plain(number)));
        self.screen.draw(&(text + &number));
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let fields: serde_json::Map<_, _> =
            form.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        self.ask(request, None, serde_json::Value::Object(fields).to_string()).await
    }

    async fn ask(
        &self,
        mut request: Builder,
        device_code: Option<&str>,
        body: String,
    ) -> anyhow::Result<Answer> {
        request = request
            .header(HOST, self.public.to_string())
            .header(USER_AGENT, concat!("doorbell/", env!("CARGO_PKG_VERSION"), " (Linux)"));
        if let Some(device_code) = device_code {
            let mut bearer = HeaderValue::try_from(format!("Bearer {device_code}"))?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        tokio::time::timeout(WAIT + PATIENCE, async {
            let stream = TcpStream::connect(self.public).await.context("no server")?;
            ask::talk(stream, request, body, || "no HTTP".to_owned()).await
        })
        .await
        .context("no answer")?
    }
}

fn read<T: for<'a> Deserialize<'a>>(answer: &Answer) -> anyhow::Result<T> {
    if answer.status != 200 {
        bail!("the server answered {}: {}", answer.status, answer.text());
    }
    serde_json::from_slice(&answer.body).context("an answer that is no login")
}

/// A text from outside, which must not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The QR code of an address, and the address for those who have no phone at hand.
fn pending(address: &str) -> String {
    let mut text = String::new();
    // The smaller the better on a screen of 24 lines: paper wears off, screens do not.
    if let Ok(code) = QRBuilder::new(address).ecl(ECL::L).build() {
        draw(&code, &mut text);
    }
    text + &format!("  Sign in to this terminal: scan the code, or open\n  {}\n", plain(address))
}

/// Draws a QR code in half blocks, two rows of modules a line. The colours are said: in a terminal's own, a dark one
/// would show the code inverted, which many phones do not read.
fn draw(code: &QRCode, text: &mut String) {
    let dark = |row: usize, column: usize| {
        let inside = |at: usize| (QUIET_ZONE..QUIET_ZONE + code.size).contains(&at);
        inside(row) && inside(column) && code[row - QUIET_ZONE][column - QUIET_ZONE].value()
    };
    let size = code.size + 2 * QUIET_ZONE;
    for row in (0..size).step_by(2) {
        text.push_str("  \u{1b}[30;107m");
        for column in 0..size {
            text.push(match (dark(row, column), dark(row + 1, column)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        text.push_str("\u{1b}[0m\n");
    }
}

/// The last lines of the terminal, which are drawn anew when something changes.
#[derive(Debug, Default)]
struct Screen {
    drawn: String,
}

impl Screen {
    /// Puts a text in the place of the one before.
    fn draw(&mut self, text: &str) {
        if text == self.drawn {
            return;
        }
        let lines = self.drawn.lines().count();
        // Up to where it began, and from there on nothing (ECMA-48, CPL and ED).
        let clear = if lines == 0 { String::new() } else { format!("\u{1b}[{lines}F\u{1b}[J") };
        print(&(clear + text));
        text.clone_into(&mut self.drawn);
    }

    /// Takes note that somebody typed a line there.
    fn typed(&mut self) {
        self.drawn.push('\n');
    }

    /// Leaves what is there where it is.
    fn leave(&mut self) {
        self.drawn.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(plain("Ada\u{1b}[2J\r小明"), "Ada\u{fffd}[2J\u{fffd}小明");
    }

    #[test]
    fn a_code_fits_a_terminal_of_24_lines() {
        let address = format!("http://192.168.100.200:19999/s/{}", "A".repeat(43));
        let lines = pending(&address).lines().count();
        assert!(lines < 24, "{lines}");
    }
}
