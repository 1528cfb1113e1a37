//! Asks a running server's HTTP API: one request on one connection, within a deadline. Shared by `push`, `broadcast`
//! and `why`, and in part by the terminal's login.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use tokio::net::TcpStream;

use crate::bounded::{SECRET_FILE_BYTES, read_text, text_of};
use crate::cli::{AskArgs, ServerArgs};
use crate::config::{Config, Environment, Overrides, check_secret, load};
use crate::data_dir::API_KEY_FILE;
use crate::exit::Failure;

/// The longest that asking may take, from connecting to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest DATA read from stdin, in bytes; the API's own default is the same.
const DATA_BYTES: u64 = 1024 * 1024;
/// The longest answer read, in bytes: that of a message with a long trail.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// What the server answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// What the server answered to a push it carried out: one line of JSON.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// As it came, without its line ending.
    pub(crate) text: String,
    /// To how many connections it was written.
    pub(crate) written: u64,
}

/// What to ask whom: everything that can be wrong before anything is sent.
pub(crate) struct Asking {
    address: SocketAddr,
    key: SecretString,
}

impl Asking {
    /// Finds the server and a key for it.
    pub(crate) fn new(args: &ServerArgs, environment: &Environment) -> Result<Self, Failure> {
        let config = load(&args.place.sources(environment, Overrides::default()))?;
        let key = find_key(args, &config, environment).map_err(Failure::CouldNotAsk)?;
        Ok(Self { address: reachable(args.api.unwrap_or(config.settings.api.listen)), key })
    }

    /// Posts a JSON body and waits for the answer.
    pub(crate) fn post(&self, path: &str, body: String) -> Result<Answer, Failure> {
        self.ask(Request::post(path).header(CONTENT_TYPE, "application/json"), body)
    }

    /// Asks for what is at a path.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Request::get(path), String::new())
    }

    fn ask(&self, request: Builder, body: String) -> Result<Answer, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")
            .map_err(Failure::CouldNotAsk)?;
        runtime
            .block_on(async {
                tokio::time::timeout(DEADLINE, self.exchange(request, body))
                    .await
                    .with_context(|| format!("{} did not answer within {DEADLINE:?}", self.address))?
            })
            .map_err(Failure::CouldNotAsk)
    }

    async fn exchange(&self, request: Builder, body: String) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect(self.address).await.with_context(|| {
            format!("no server at {}: start `doorbell`, or name its API with --api ADDR", self.address)
        })?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.key.expose_secret()))
            .context("the API key is not visible ASCII")?;
        bearer.set_sensitive(true);
        let request = request.header(HOST, self.address.to_string()).header(AUTHORIZATION, bearer);
        talk(stream, request, body, || {
            format!("no HTTP API at {}: name the api listener with --api ADDR", self.address)
        })
        .await
    }
}

/// Sends one request on a fresh connection and reads the answer. `no_http` says what is wrong when nobody speaks HTTP there.
pub(crate) async fn talk(
    stream: TcpStream,
    request: Builder,
    body: String,
    no_http: impl Fn() -> String + Copy,
) -> anyhow::Result<Answer> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(no_http)?;
    let request = request.body(Full::<Bytes>::from(body)).context("cannot build the request")?;
    let answer = async {
        let response = sender.send_request(request).await.with_context(no_http)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error)).context("the answer broke off")?.to_bytes();
        Ok(Answer { status: status.as_u16(), body })
    };
    // The connection must be driven while the request waits; it ends with this future, so nothing is left running.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended.with_context(no_http)?;
            answer.await
        }
    }
}

/// DATA as JSON: as it stands when it is valid JSON, else as a string.
pub(crate) fn data(args: &AskArgs, data: &str) -> Result<Box<RawValue>, Failure> {
    let read;
    let text = if data == "-" {
        read = text_of(io::stdin().lock(), DATA_BYTES).context("cannot use stdin").map_err(Failure::Usage)?;
        let line = read.strip_suffix('\n').unwrap_or(&read);
        line.strip_suffix('\r').unwrap_or(line)
    } else {
        data
    };
    let raw = if args.string { None } else { serde_json::from_str::<&RawValue>(text).ok() };
    match raw {
        Some(raw) => Ok(raw.to_owned()),
        None => {
            serde_json::value::to_raw_value(text).context("cannot write DATA as JSON").map_err(Failure::Usage)
        }
    }
}

/// The first key there is: the file named, the environment's, the configuration's, the data directory's.
fn find_key(args: &ServerArgs, config: &Config, environment: &Environment) -> anyhow::Result<SecretString> {
    if let Some(path) = &args.key_file {
        let text =
            read_text(path, SECRET_FILE_BYTES).with_context(|| format!("cannot read {}", path.display()))?;
        if let Err(why) = check_secret(text.trim()) {
            bail!("{} holds no API key: {why}", path.display());
        }
        return Ok(SecretString::from(text.trim()));
    }
    let keys = &config.settings.api.keys;
    if let Some(key) =
        keys.iter().find(|key| key.name == crate::config::ENVIRONMENT_KEY).or_else(|| keys.first())
    {
        return Ok(key.secret.clone());
    }
    let directory = args.place.data_dir(environment);
    directory.read_key(API_KEY_FILE)?.with_context(|| {
        format!(
            "no API key: {} is not there; start the server once, or use --key-file FILE, DOORBELL_API_KEY \
             or --data-dir DIR",
            directory.path().join(API_KEY_FILE).display()
        )
    })
}

/// A server that listens everywhere is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

impl Answer {
    /// Reads the answer to a push or a broadcast.
    pub(crate) fn delivery(&self) -> Result<Delivery, Failure> {
        let json = self.accepted().map_err(Failure::CouldNotAsk)?;
        let written = json.get("written").and_then(serde_json::Value::as_u64);
        let written = written
            .context("an answer without `written`: is this Doorbell's API?")
            .map_err(Failure::CouldNotAsk)?;
        Ok(Delivery { text: self.text(), written })
    }

    /// The body, without its line ending.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    /// The last part of a problem's type.
    pub(crate) fn problem(&self) -> Option<String> {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        Some(problem.get("type")?.as_str()?.strip_prefix("urn:doorbell:")?.to_owned())
    }

    /// The body of a success; of anything else, what the server said.
    pub(crate) fn accepted(&self) -> anyhow::Result<serde_json::Value> {
        let json: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        if (200..300).contains(&self.status) {
            return json.context("an answer that is no JSON: is this Doorbell's API?");
        }
        let said = |name| json.as_ref().and_then(|json| json.get(name)).and_then(serde_json::Value::as_str);
        let why: String =
            said("detail").or_else(|| said("title")).unwrap_or("no reason given").chars().take(300).collect();
        match self.status {
            401 | 403 => bail!(
                "the server refused the key ({why}): use the key of that server, by --key-file FILE or DOORBELL_API_KEY"
            ),
            404 => bail!("no such call there ({why}): name the api listener with --api ADDR"),
            status => bail!("the server answered {status}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_json_goes_as_it_stands_and_the_rest_as_a_string() {
        let plain = AskArgs::default();
        let string = AskArgs { string: true, ..AskArgs::default() };
        for (args, text, expected) in [
            (&plain, r#"{"b":1, "a":1.0e2,"b":"\u00e9"}"#, r#"{"b":1, "a":1.0e2,"b":"\u00e9"}"#),
            (&plain, " [1] ", "[1]"),
            (&plain, "88%", r#""88%""#),
            (&plain, "88", "88"),
            (&plain, "", r#""""#),
            (&plain, "say \"hi\"", r#""say \"hi\"""#),
            (&string, "88", r#""88""#),
            (&string, "-", "unreachable"),
        ] {
            if text == "-" {
                continue;
            }
            let data = data(args, text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(data.get(), expected);
        }
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        let answer = |status, body: &'static [u8]| Answer { status, body: Bytes::from_static(body) };
        let Ok(delivery) = answer(200, b"{\"written\":2}\n").delivery() else { panic!("an answer") };
        assert_eq!((delivery.text.as_str(), delivery.written), ("{\"written\":2}", 2));
        for (status, body, expected) in [
            (200, &b"<html>"[..], "is this Doorbell"),
            (200, b"{}", "is this Doorbell"),
            (401, b"{\"title\":\"who are you\"}", "refused the key (who are you)"),
            (404, b"", "--api ADDR"),
            (413, b"{\"title\":\"t\",\"detail\":\"too long\"}", "answered 413: too long"),
        ] {
            let Err(Failure::CouldNotAsk(error)) = answer(status, body).delivery() else {
                panic!("an error")
            };
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.1:1", "192.0.2.1:1")]
        {
            assert_eq!(reachable(listen.parse().expect("an address")).to_string(), asked);
        }
    }
}
