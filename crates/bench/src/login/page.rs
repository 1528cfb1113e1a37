//! One page with a QR code: it begins a login over HTTP and watches it on a doorbell.v1 WebSocket.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::client::{ACCEPT, KEY, masked_frame, server_frame, source_socket};
use crate::http::{HttpClient, append_post};
use crate::link::Link;
use crate::target::Endpoint;
use crate::tls::Tls;

/// The verifier of RFC 7636 appendix B and its challenge, so that no hash is needed here.
pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// How long a page waits for an answer or a step before it counts as lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What begins logins.
#[derive(Debug)]
pub(super) struct Browser {
    pub(super) public: Endpoint,
    /// Without it the public listener is spoken to in the clear.
    pub(super) tls: Option<Tls>,
    pub(super) client_id: String,
}

/// A login that has begun.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub(super) device_code: String,
    /// Its public name.
    pub(super) login: String,
    /// The QR token.
    pub(super) qr: String,
}

impl Browser {
    /// Connects from the source address that belongs to `index`.
    fn connect(&self, index: usize) -> anyhow::Result<Link<TcpStream>> {
        let socket = source_socket(self.public.address, index)?;
        socket.connect(&self.public.address.into()).context("failed to connect")?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Link::new(stream, self.tls.as_ref())?)
    }

    /// `POST /v1/device_authorization`, on a connection of its own: the public listener closes after each request.
    pub(super) fn begin(&self, index: usize) -> anyhow::Result<Begun> {
        let body = format!("{{\"client_id\":\"{}\",\"code_challenge\":\"{CHALLENGE}\"}}", self.client_id);
        let endpoint = Endpoint { path: "/v1/device_authorization".into(), ..self.public.clone() };
        let mut request = Vec::new();
        append_post(&mut request, &endpoint, "", "", body.as_bytes());
        let begun = self.ask(index, &request)?;
        let field = |name: &str| begun[name].as_str().with_context(|| format!("no `{name}` in {begun}"));
        let address = field("verification_uri_complete")?;
        let qr = address.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Begun { device_code: field("device_code")?.to_owned(), login: field("login")?.to_owned(), qr })
    }

    /// `GET /v1/login`.
    pub(super) fn current(&self, begun: &Begun, index: usize) -> anyhow::Result<Value> {
        let (host, code) = (&self.public.host, &begun.device_code);
        let request =
            format!("GET /v1/login HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {code}\r\n\r\n");
        self.ask(index, request.as_bytes())
    }

    fn ask(&self, index: usize, request: &[u8]) -> anyhow::Result<Value> {
        let mut client = HttpClient::over(self.connect(index)?);
        client.send(request)?;
        match client.answer()? {
            (200, body) => serde_json::from_slice(&body).context("the answer is not JSON"),
            (status, body) => bail!("{status}: {}", String::from_utf8_lossy(&body)),
        }
    }

    /// Opens a WebSocket and asks to be told of the login.
    pub(super) fn watch(&self, begun: &Begun, index: usize) -> anyhow::Result<Page> {
        let mut link = self.connect(index)?;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: doorbell.v1\r\n\r\n",
            self.public.host
        );
        link.write_all(request.as_bytes())?;
        let mut page = Page { link, partial: Vec::new() };
        let end = loop {
            match page.partial.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end,
                None => page.read()?,
            }
        };
        let head = String::from_utf8_lossy(&page.partial[..end]).into_owned();
        if !(head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT)) {
            bail!("refused: {}", head.lines().next().unwrap_or_default());
        }
        page.partial.drain(..end + 4);
        page.link.write_all(&watch_frame(begun))?;
        Ok(page)
    }
}

/// The envelope that asks to be told of a login.
pub(super) fn watch_frame(begun: &Begun) -> Vec<u8> {
    let text = format!("{{\"type\":\"login.watch\",\"device_code\":\"{}\"}}", begun.device_code);
    masked_frame(0x81, text.as_bytes())
}

/// A page that watches.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) link: Link<TcpStream>,
    /// What has come of a frame that is not whole yet.
    pub(super) partial: Vec<u8>,
}

impl Page {
    /// The next envelope about a login. Pings are answered meanwhile.
    pub(super) fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            let mut answers = Vec::new();
            let envelope = take_envelope(&mut self.partial, &mut answers)?;
            self.link.write_all(&answers)?;
            match envelope {
                Some(envelope) => return Ok(envelope),
                None => self.read()?,
            }
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        let n = self.link.read(&mut buffer).context("nothing came")?;
        if n == 0 {
            bail!("the connection ended");
        }
        self.partial.extend_from_slice(&buffer[..n]);
        Ok(())
    }
}

/// Takes frames off `bytes` up to the first envelope about a login; pongs that are due are appended to `answers`.
pub(super) fn take_envelope(bytes: &mut Vec<u8>, answers: &mut Vec<u8>) -> anyhow::Result<Option<Value>> {
    while let Some((opcode, payload, length)) = server_frame(bytes)? {
        let envelope = match opcode {
            0x1 => Some(serde_json::from_slice::<Value>(payload).context("a message that is not JSON")?),
            0x8 => bail!("closed by the server"),
            0x9 => {
                answers.extend_from_slice(&masked_frame(0x8a, payload));
                None
            }
            _ => None,
        };
        bytes.drain(..length);
        if let Some(envelope) = envelope.filter(|envelope| envelope["type"] == "login") {
            return Ok(Some(envelope));
        }
    }
    Ok(None)
}
