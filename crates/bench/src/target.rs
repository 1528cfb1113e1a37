//! What is measured: how clients subscribe to it, how messages get in, and which processes are its own.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, bail};

use crate::procfs::{CpuTime, Memory, cpu_time, descriptors, memory};
use crate::server::{Server, ServerCommand};
use crate::template::{self, Template, Words};

/// How a client and a server speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A WebSocket whose first message is the credential and whose messages are the payloads.
    Plain,
    /// A WebSocket that speaks `doorbell.v1`.
    V1,
    /// Doorbell's server-sent events.
    Events,
    /// A long-poll of Doorbell's that waits as long as it may. It hears nothing before its end: only its waiting can be
    /// measured.
    Poll,
    /// A WebSocket whose address says whose it is.
    UrlWebSocket,
    /// Server-sent events whose address says whose they are.
    UrlEvents,
}

impl Protocol {
    const ALL: [Self; 6] =
        [Self::Plain, Self::V1, Self::Events, Self::Poll, Self::UrlWebSocket, Self::UrlEvents];

    /// Its name in commands and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::V1 => "v1",
            Self::Events => "sse",
            Self::Poll => "poll",
            Self::UrlWebSocket => "url-websocket",
            Self::UrlEvents => "url-sse",
        }
    }

    pub(crate) fn is_websocket(self) -> bool {
        !matches!(self, Self::Events | Self::Poll | Self::UrlEvents)
    }
}

impl FromStr for Protocol {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|it| it.name() == name).context("no such protocol")
    }
}

/// An address of HTTP or WebSocket without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// Path and query; `{uid}` stands for the uid.
    pub path: String,
    /// Header lines beside those that every request has.
    pub headers: Vec<Template>,
}

impl Endpoint {
    pub(crate) fn at(address: SocketAddr, path: &str) -> Self {
        Self { address, host: address.to_string(), path: path.to_owned(), headers: Vec::new() }
    }

    /// The header lines, each with its end.
    pub(crate) fn header_lines(&self, uid: &str) -> String {
        let line = |header: &Template| String::from_utf8_lossy(&header.with_uid(uid)).into_owned() + "\r\n";
        self.headers.iter().map(line).collect()
    }

    fn from_words<'a>(words: &mut impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut word = || words.next().context("a word is missing");
        let (address, host, path) = (word()?.parse()?, word()?.to_owned(), word()?.to_owned());
        Ok(Self { address, host, path, headers: template::from_words(words)? })
    }
}

/// The words of a child's command.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, host, path, headers } = self;
        write!(f, "{address} {host} {path} {}", Words(headers))
    }
}

impl FromStr for Endpoint {
    type Err = anyhow::Error;

    /// Reads `ws://host:port/path` or `http://host:port/path`.
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("http://"));
        let rest = rest.context("a URL here begins with ws:// or http://")?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            bail!("white space in a URL");
        }
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let address =
            with_port.to_socket_addrs().with_context(|| format!("failed to look {host} up"))?.next();
        let address = address.with_context(|| format!("no address of {host}"))?;
        Ok(Self { address, host: host.to_owned(), path: path.to_owned(), headers: Vec::new() })
    }
}

/// What a client says on its WebSocket to get its messages, and goes on to say while it has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    /// Messages it sends once its connection is open, `{uid}` filled in with its credential. One that is not UTF-8 goes as a binary
    /// message.
    pub hello: Vec<Template>,
    /// It has subscribed once it hears a message that contains this; without it, once it has said its hello.
    pub until: Option<Template>,
    /// The server's own pings: a message that is the first is answered with the second.
    pub replies: Vec<(Template, Template)>,
}

impl Conversation {
    fn from_words<'a>(words: &mut impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        let hello = template::from_words(words)?;
        let until = template::from_words(words)?.pop();
        let replies = template::from_words(words)?.into_iter().zip(template::from_words(words)?);
        Ok(Self { hello, until, replies: replies.collect() })
    }
}

/// The words of a child's command.
impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (heard, said): (Vec<_>, Vec<_>) = self.replies.iter().cloned().unzip();
        let until = self.until.as_slice();
        write!(f, "{} {} {} {}", Words(&self.hello), Words(until), Words(&heard), Words(&said))
    }
}

/// How clients subscribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// What they speak.
    pub protocol: Protocol,
    /// Where.
    pub endpoint: Endpoint,
    /// What is said there.
    pub conversation: Conversation,
}

/// The words of a child's command.
impl fmt::Display for Subscribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.protocol.name(), self.endpoint, self.conversation)
    }
}

impl Subscribe {
    /// As the protocol has it.
    pub fn new(protocol: Protocol, endpoint: Endpoint) -> Self {
        let (hello, until) = match protocol {
            Protocol::Plain => (vec![Template::literal(template::UID)], None),
            Protocol::V1 => (
                vec![Template::literal(r#"{"type":"hello","token":"{uid}"}"#)],
                Some(Template::literal(r#"{"type":"welcome""#)),
            ),
            _ => (Vec::new(), None),
        };
        Self { protocol, endpoint, conversation: Conversation { hello, until, replies: Vec::new() } }
    }

    /// How clients of a Doorbell with this public listener subscribe.
    pub fn to_doorbell(protocol: Protocol, public: SocketAddr) -> Self {
        let path = match protocol {
            Protocol::Events => "/v1/events",
            Protocol::Poll => "/v1/poll?wait=55",
            _ => "/",
        };
        Self::new(protocol, Endpoint::at(public, path))
    }

    pub(crate) fn from_words<'a>(words: &mut impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        let protocol = words.next().context("a word is missing")?.parse()?;
        let endpoint = Endpoint::from_words(words)?;
        Ok(Self { protocol, endpoint, conversation: Conversation::from_words(words)? })
    }
}

/// How a message to one uid gets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publish {
    /// A line of JSON that names its uid, answered by a line `ok`: Doorbell's text port, and the Workerman sample's.
    Text(SocketAddr),
    /// A POST.
    Url(Post),
}

/// A POST that carries a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Where it goes.
    pub endpoint: Endpoint,
    /// Its body: places for the uid and the payload.
    pub body: Template,
}

impl Post {
    /// With the payload as its body.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, body: Template::literal(template::PAYLOAD) }
    }
}

/// The words of a child's command.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(address) => write!(f, "text {address}"),
            Self::Url(Post { endpoint, body }) => write!(f, "url {endpoint} {body}"),
        }
    }
}

impl Publish {
    pub(crate) fn from_words<'a>(words: &mut impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        match words.next().context("a word is missing")? {
            "text" => Ok(Self::Text(words.next().context("a word is missing")?.parse()?)),
            "url" => {
                let endpoint = Endpoint::from_words(words)?;
                Ok(Self::Url(Post { endpoint, body: words.next().context("a word is missing")?.parse()? }))
            }
            _ => bail!("no such way to publish"),
        }
    }
}

/// How a message to everyone gets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishToAll {
    /// `POST /v1/broadcast`.
    Api(Api),
    /// A POST whose `{uid}` is `*`; everyone has subscribed to what it names.
    Url(Post),
}

/// Doorbell's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Where it listens.
    pub address: SocketAddr,
    /// One of its keys.
    pub key: String,
}

/// How logins are begun, scanned and fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logins {
    /// Where a site's own app scans and agrees, and its backend fetches results.
    pub api: Api,
    /// A client of `[[login.clients]]` without a secret and without number match.
    pub client_id: String,
}

/// See the module's header. A server that was started for it ends with it.
#[derive(Debug)]
pub struct Target {
    /// How clients subscribe.
    pub subscribe: Subscribe,
    /// How pushes are made; without it only connections can be measured.
    pub publish: Option<Publish>,
    /// How broadcasts are made, where there are any.
    pub publish_to_all: Option<PublishToAll>,
    /// Mints a token for each client; without it a client's credential is its uid.
    pub tokens: Option<Api>,
    /// The certificate that clients believe; without it they speak without TLS.
    pub tls: Option<PathBuf>,
    /// How logins are made; without it they cannot be measured.
    pub logins: Option<Logins>,
    /// The processes whose CPU time and memory are the server's; none when they are not here.
    pub pids: Vec<u32>,
    /// Kept: it ends when dropped.
    _server: Option<Server>,
}

impl Target {
    /// A server of our own, with open identity, on free loopback ports.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(command: &ServerCommand, protocol: Protocol) -> anyhow::Result<Self> {
        let server = Server::start(command)?;
        let api = Api { address: server.api, key: server.api_key.clone() };
        Ok(Self {
            subscribe: Subscribe::to_doorbell(protocol, server.public),
            publish: Some(Publish::Text(server.text)),
            publish_to_all: Some(PublishToAll::Api(api.clone())),
            tokens: None,
            tls: command.tls.as_ref().map(|(certificate, _)| certificate.clone()),
            logins: command.login_client.map(|client_id| Logins { api, client_id: client_id.to_owned() }),
            pids: vec![server.pid()],
            _server: Some(server),
        })
    }

    /// A server that somebody else has started, of which only this is known.
    pub fn new(subscribe: Subscribe) -> Self {
        Self {
            subscribe,
            publish: None,
            publish_to_all: None,
            tokens: None,
            tls: None,
            logins: None,
            pids: Vec::new(),
            _server: None,
        }
    }

    /// With a way to push.
    #[must_use]
    pub fn publishing(self, publish: Option<Publish>) -> Self {
        Self { publish, ..self }
    }

    /// With a way to reach everyone.
    #[must_use]
    pub fn publishing_to_all(self, publish_to_all: Option<PublishToAll>) -> Self {
        Self { publish_to_all, ..self }
    }

    /// CPU time of all its processes so far; zero when none is known.
    ///
    /// # Errors
    /// When one of them has ended.
    pub fn cpu_time(&self) -> anyhow::Result<CpuTime> {
        cpu_time_of(&self.pids)
    }

    /// Memory of all its processes.
    ///
    /// # Errors
    /// When one of them has ended.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let mut sum = Memory::default();
        for pid in &self.pids {
            let one = memory(*pid).context("the server has ended")?;
            sum.pss += one.pss;
            sum.anonymous += one.anonymous;
        }
        Ok(sum)
    }

    /// Open descriptors of all its processes.
    ///
    /// # Errors
    /// When one of them has ended.
    pub fn descriptors(&self) -> anyhow::Result<usize> {
        self.pids.iter().map(|pid| descriptors(*pid).context("the server has ended")).sum()
    }

    /// Waits until it has worked off what it was given, or for a second when its processes are not known.
    ///
    /// # Errors
    /// When it has ended, or is still busy after 20 seconds.
    pub fn settle(&self) -> anyhow::Result<()> {
        crate::clock::settle(&self.pids)
    }
}

/// CPU time of some processes together.
pub(crate) fn cpu_time_of(pids: &[u32]) -> anyhow::Result<CpuTime> {
    let mut sum = CpuTime::default();
    for pid in pids {
        sum += cpu_time(*pid).context("a measured process has ended")?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_survive_a_command() {
        let endpoint: Endpoint = "ws://127.0.0.1:8080/sub/{uid}?x=1".parse().unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.path.as_str()), ("127.0.0.1:8080", "/sub/{uid}?x=1"));
        assert_eq!(endpoint.address, SocketAddr::from(([127, 0, 0, 1], 8080)));
        assert_eq!("http://127.0.0.1".parse::<Endpoint>().unwrap().address.port(), 80);
        for wrong in ["wss://127.0.0.1/", "127.0.0.1:1", "ws://127.0.0.1/a b"] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
        let endpoint = Endpoint { headers: vec![Template::literal("X-API-Key: a b")], ..endpoint };
        let conversation = Conversation {
            hello: vec![Template::literal("{uid} 1"), "\\x82\\x00".parse().unwrap()],
            until: Some(Template::literal("subscribed to")),
            replies: vec![(Template::literal("2"), Template::literal("3"))],
        };
        let subscribe =
            Subscribe { protocol: Protocol::UrlWebSocket, endpoint: endpoint.clone(), conversation };
        for subscribe in [subscribe, Subscribe::new(Protocol::V1, endpoint.clone())] {
            let words = subscribe.to_string();
            assert_eq!(Subscribe::from_words(&mut words.split(' ')).unwrap(), subscribe);
        }
        let post = Post { endpoint, body: Template::literal("to {uid}: {payload}") };
        for publish in [Publish::Url(post), Publish::Text(SocketAddr::from(([127, 0, 0, 1], 1)))] {
            let words = publish.to_string();
            assert_eq!(Publish::from_words(&mut words.split(' ')).unwrap(), publish);
        }
    }
}
