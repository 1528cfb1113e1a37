//! HTTP/1.1 over one kept-alive connection: broadcasts, tokens, and messages published to a URL.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::link::Link;
use crate::payload;
use crate::target::{Api, Endpoint, Post, PublishToAll};
use crate::template::UID;

/// A blocking client.
#[derive(Debug)]
pub(crate) struct HttpClient {
    stream: BufReader<Link<TcpStream>>,
}

impl HttpClient {
    pub(crate) fn connect(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(endpoint.address)
            .with_context(|| format!("failed to connect to {}", endpoint.host))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self::over(Link::plain(stream)))
    }

    /// Speaks over a connection that is there.
    pub(crate) fn over(link: Link<TcpStream>) -> Self {
        Self { stream: BufReader::new(link) }
    }

    /// Sends bytes that are whole requests.
    pub(crate) fn send(&mut self, requests: &[u8]) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(requests).context("failed to send a request")
    }

    /// Reads one answer: its status and its body.
    pub(crate) fn answer(&mut self) -> anyhow::Result<(u16, Vec<u8>)> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no HTTP answer")?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.trim().eq_ignore_ascii_case("chunked");
            }
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16).context("a bad chunk")?;
                self.take(size, &mut body)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.take(length, &mut body)?;
        }
        Ok((status, body))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).context("no answer")? == 0 {
            bail!("the connection ended");
        }
        Ok(line.trim_end().to_owned())
    }

    fn take(&mut self, length: usize, body: &mut Vec<u8>) -> anyhow::Result<()> {
        let start = body.len();
        body.resize(start + length, 0);
        self.stream.read_exact(&mut body[start..]).context("an answer without its end")
    }
}

/// Appends a POST of a message to `uid`.
pub(crate) fn append_message(out: &mut Vec<u8>, post: &Post, uid: &str, payload: &[u8]) {
    let mut body = Vec::new();
    post.body.append(&mut body, uid, payload);
    append_post(out, &post.endpoint, uid, &post.endpoint.header_lines(uid), &body);
}

/// Appends a POST. `uid` takes its place in the path.
pub(crate) fn append_post(out: &mut Vec<u8>, endpoint: &Endpoint, uid: &str, more: &str, body: &[u8]) {
    let path = endpoint.path.replace(UID, uid);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\n{more}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        endpoint.host,
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// Asks Doorbell's API, with its key.
#[derive(Debug)]
pub(crate) struct ApiClient {
    client: HttpClient,
    api: Api,
}

impl ApiClient {
    pub(crate) fn connect(api: &Api) -> anyhow::Result<Self> {
        let client = HttpClient::connect(&Endpoint::at(api.address, "/"))?;
        Ok(Self { client, api: api.clone() })
    }

    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> anyhow::Result<serde_json::Value> {
        self.send_post(path, body)?;
        self.answer_to(path)
    }

    /// Sends a POST; [`Self::answer_to`] or [`Self::status`] has to follow.
    pub(crate) fn send_post(&mut self, path: &str, body: &[u8]) -> anyhow::Result<()> {
        let mut request = Vec::new();
        let key = format!("Authorization: Bearer {}\r\n", self.api.key);
        append_post(&mut request, &Endpoint::at(self.api.address, path), "", &key, body);
        self.client.send(&request)
    }

    /// The status of the answer.
    pub(crate) fn status(&mut self) -> anyhow::Result<u16> {
        Ok(self.client.answer()?.0)
    }

    /// The answer, which has to be a success.
    pub(crate) fn answer_to(&mut self, path: &str) -> anyhow::Result<serde_json::Value> {
        let (status, body) = self.client.answer()?;
        if status != 200 {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("{path}: the answer is not JSON"))
    }

    /// A connection token for `uid` that lives for an hour.
    pub(crate) fn token(&mut self, uid: &str) -> anyhow::Result<String> {
        let body = format!("{{\"uid\":\"{uid}\",\"ttl\":\"1h\"}}");
        let answer = self.post("/v1/tokens", body.as_bytes())?;
        Ok(answer["token"].as_str().context("no `token` in the answer")?.to_owned())
    }
}

/// Publishes to everyone.
#[derive(Debug)]
pub struct Broadcaster(Way);

#[derive(Debug)]
enum Way {
    Api(ApiClient),
    Url(HttpClient, Post),
}

impl Broadcaster {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(way: &PublishToAll) -> anyhow::Result<Self> {
        Ok(Self(match way {
            PublishToAll::Api(api) => Way::Api(ApiClient::connect(api)?),
            PublishToAll::Url(post) => Way::Url(HttpClient::connect(&post.endpoint)?, post.clone()),
        }))
    }

    /// Sends a payload of ours to everyone; to how many it was written, where the server says that.
    ///
    /// # Errors
    /// When the answer is no success.
    pub fn broadcast(&mut self, payload: &[u8]) -> anyhow::Result<Option<u64>> {
        match &mut self.0 {
            Way::Api(api) => {
                let body = [b"{\"data\":", payload, b"}"].concat();
                let answer = api.post("/v1/broadcast", &body)?;
                Ok(Some(answer["written"].as_u64().with_context(|| format!("no `written` in {answer}"))?))
            }
            Way::Url(client, post) => {
                let mut request = Vec::new();
                append_message(&mut request, post, payload::EVERYONE, payload);
                client.send(&request)?;
                match client.answer()? {
                    (200..=299, _) => Ok(None),
                    (status, _) => bail!("a broadcast was answered {status}"),
                }
            }
        }
    }
}
