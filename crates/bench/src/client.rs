//! One client of the fleet, from connect to close, over a WebSocket or server-sent events.
//!
//! The fleet owns the read buffer and lends it; a client keeps bytes only when a frame or a line was cut.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::{Domain, Protocol as Transport, SockAddr, Socket, Type};

use crate::clock::monotonic_us;
use crate::histogram::Histogram;
use crate::link::Link;
use crate::payload::{self, EVERYONE};
use crate::tally::Tally;
use crate::target::{Conversation, Protocol, Subscribe};
use crate::template::UID;
use crate::tls::Tls;

/// The sample key of RFC 6455 section 1.3 and its answer, so that no hash is needed here or in the floor.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Source addresses 127.0.0.2 and up: each has a port range of its own.
const SOURCES: usize = 64;

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// TCP handshake not finished.
    Connecting,
    /// Request sent, answer awaited.
    Upgrading,
    /// It has said its hello and waits to hear that it has subscribed.
    Greeting,
    /// It has said who it is; it counts what comes.
    Open,
}

/// What lies around a payload.
#[derive(Debug, Clone, Copy)]
enum Envelopes {
    /// Nothing: every message is one.
    None,
    /// Doorbell's, which say whether they carry one.
    Doorbell,
    /// Another server's. What carries none of ours is its own affair; a payload that it spoils is then missing.
    Foreign,
}

impl Envelopes {
    fn of(subscribe: &Subscribe) -> Self {
        match subscribe.protocol {
            Protocol::Plain => Self::None,
            Protocol::UrlWebSocket if subscribe.conversation == Conversation::default() => Self::None,
            Protocol::UrlWebSocket => Self::Foreign,
            Protocol::V1 | Protocol::Events | Protocol::Poll | Protocol::UrlEvents => Self::Doorbell,
        }
    }
}

/// What a fleet has counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) tally: Tally,
    /// From push to receipt.
    pub(crate) pushes: Histogram,
    /// The same of what went to everyone.
    pub(crate) broadcasts: Histogram,
}

pub(crate) struct Client {
    pub(crate) link: Link<TcpStream>,
    pub(crate) state: State,
    /// Since when it has wanted to be open.
    pub(crate) since: Instant,
    /// How long a server that refused it wants it to stay away.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) uid: String,
    /// A token; the uid where there is none.
    credential: Option<String>,
    last_seq: u64,
    carry: Vec<u8>,
}

impl Client {
    /// Starts a non-blocking connect from the source address that belongs to `index`.
    pub(crate) fn connect(
        subscribe: &Subscribe,
        index: usize,
        credential: Option<String>,
        since: Instant,
        receive_buffer: Option<usize>,
        tls: Option<&Tls>,
    ) -> io::Result<Self> {
        let server = subscribe.endpoint.address;
        let socket = source_socket(server, index)?;
        socket.set_nonblocking(true)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        match socket.connect(&SockAddr::from(server)) {
            Err(e) if e.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(e);
            }
            _ => {}
        }
        Ok(Self {
            link: Link::new(TcpStream::from_std(socket.into()), tls)?,
            state: State::Connecting,
            since,
            retry_after: None,
            uid: format!("u{index}"),
            credential,
            last_seq: 0,
            carry: Vec::new(),
        })
    }

    /// Expects sequence numbers from 1 again.
    pub(crate) fn reset(&mut self) {
        self.last_seq = 0;
    }

    /// Goes on as far as the socket allows. An error, and the end of the stream, is final.
    pub(crate) fn advance(
        &mut self,
        subscribe: &Subscribe,
        scratch: &mut [u8],
        counts: &mut Counts,
    ) -> io::Result<()> {
        if self.state == State::Connecting {
            let socket = &self.link.socket;
            if let Some(e) = socket.take_error()? {
                return Err(e);
            }
            match socket.peer_addr() {
                Err(e) if e.kind() == io::ErrorKind::NotConnected => return Ok(()),
                other => other?,
            };
            socket.set_nodelay(true)?;
            self.send(self.request(subscribe).as_bytes())?;
            // A poll is answered when its wait is over.
            self.state = match subscribe.protocol {
                Protocol::Poll => State::Open,
                _ => State::Upgrading,
            };
        }
        loop {
            match self.link.read(scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.take(&scratch[..n], subscribe, counts)?;
                    // Readiness is edge-triggered: a short read has emptied the socket, and what
                    // comes later is a new edge.
                    if n < scratch.len() && self.link.is_plain() {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn request(&self, subscribe: &Subscribe) -> String {
        let endpoint = &subscribe.endpoint;
        let path = endpoint.path.replace(UID, &self.uid);
        let more = if subscribe.protocol.is_websocket() {
            let offer = match subscribe.protocol {
                Protocol::V1 => "Sec-WebSocket-Protocol: doorbell.v1\r\n",
                _ => "",
            };
            format!(
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
                 Sec-WebSocket-Version: 13\r\n{offer}"
            )
        } else {
            let bearer = match subscribe.protocol {
                Protocol::Events | Protocol::Poll => {
                    format!("Authorization: Bearer {}\r\n", self.credential())
                }
                _ => String::new(),
            };
            format!("Accept: text/event-stream\r\n{bearer}")
        };
        let headers = endpoint.header_lines(&self.uid);
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{more}{headers}\r\n", endpoint.host)
    }

    fn credential(&self) -> &str {
        self.credential.as_deref().unwrap_or(&self.uid)
    }

    fn take(&mut self, bytes: &[u8], subscribe: &Subscribe, counts: &mut Counts) -> io::Result<()> {
        if self.carry.is_empty() {
            let used = self.parse(bytes, subscribe, counts)?;
            self.carry.extend_from_slice(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.carry);
            all.extend_from_slice(bytes);
            let used = self.parse(&all, subscribe, counts)?;
            self.carry.extend_from_slice(&all[used..]);
        }
        Ok(())
    }

    /// Consumes what is complete and says how many bytes that was.
    fn parse(&mut self, bytes: &[u8], subscribe: &Subscribe, counts: &mut Counts) -> io::Result<usize> {
        let mut used = 0;
        if self.state == State::Upgrading {
            let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(0) };
            self.accept(&String::from_utf8_lossy(&bytes[..end]), subscribe)?;
            used = end + 4;
        }
        if !subscribe.protocol.is_websocket() {
            return self.parse_events(bytes, used, counts);
        }
        while let Some((opcode, payload, len)) = server_frame(&bytes[used..])? {
            used += len;
            match opcode {
                0x1 | 0x2 => {
                    self.converse(payload, subscribe)?;
                    self.hear(payload, Envelopes::of(subscribe), counts);
                }
                0x8 => return Err(io::ErrorKind::ConnectionAborted.into()),
                0x9 => self.send(&masked_frame(0x8a, payload))?,
                _ => {}
            }
        }
        Ok(used)
    }

    /// Reads the head of the answer, and says who it is where that is yet to be said.
    fn accept(&mut self, head: &str, subscribe: &Subscribe) -> io::Result<()> {
        let accepted = if subscribe.protocol.is_websocket() {
            head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT)
        } else {
            head.starts_with("HTTP/1.1 200")
        };
        if !accepted {
            let after = head.lines().filter_map(|line| line.split_once(':'));
            let mut after = after.filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
            self.retry_after =
                after.next().and_then(|(_, value)| value.trim().parse().ok()).map(Duration::from_secs);
            return Err(io::Error::other(format!("refused: {}", head.lines().next().unwrap_or(""))));
        }
        for hello in &subscribe.conversation.hello {
            self.say(&hello.with_uid(self.credential()))?;
        }
        self.state = match subscribe.conversation.until {
            None => State::Open,
            Some(_) => State::Greeting,
        };
        Ok(())
    }

    /// Takes its part in what is said beside the messages.
    fn converse(&mut self, heard: &[u8], subscribe: &Subscribe) -> io::Result<()> {
        let conversation = &subscribe.conversation;
        if let (State::Greeting, Some(until)) = (self.state, &conversation.until)
            && heard.windows(until.as_bytes().len()).any(|window| window == until.as_bytes())
        {
            self.state = State::Open;
        }
        for (ping, pong) in &conversation.replies {
            if heard == ping.as_bytes() {
                self.say(pong.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Sends one message.
    fn say(&mut self, message: &[u8]) -> io::Result<()> {
        let first = if std::str::from_utf8(message).is_ok() { 0x81 } else { 0x82 };
        self.send(&masked_frame(first, message))
    }

    /// Server-sent events, a line at a time. Lines that are no data, those of a chunked body among them, say nothing.
    fn parse_events(&mut self, bytes: &[u8], mut used: usize, counts: &mut Counts) -> io::Result<usize> {
        while let Some(length) = bytes[used..].iter().position(|byte| *byte == b'\n') {
            let line = &bytes[used..used + length];
            used += length + 1;
            if let Some(data) = line.strip_prefix(b"data:") {
                self.hear(data.trim_ascii(), Envelopes::Doorbell, counts);
            }
        }
        Ok(used)
    }

    /// Takes a message. One without a payload of ours is misdelivered where it should have had one.
    fn hear(&mut self, text: &[u8], envelopes: Envelopes, counts: &mut Counts) {
        match envelopes {
            Envelopes::None => self.count(payload::find(text), counts),
            Envelopes::Doorbell => {
                let found = payload::find(text);
                if found.is_some() || text.starts_with(b"{\"type\":\"message\"") {
                    self.count(found, counts);
                }
            }
            // Some put several envelopes into one message, a line each; a payload has no line end.
            Envelopes::Foreign => {
                for found in text.split(|byte| *byte == b'\n').filter_map(payload::find) {
                    self.count(Some(found), counts);
                }
            }
        }
    }

    fn count(
        &mut self,
        found: Option<payload::Payload<'_>>,
        Counts { tally, pushes, broadcasts }: &mut Counts,
    ) {
        tally.received += 1;
        let Some(payload::Payload { uid, seq, at }) = found else {
            tally.misdelivered += 1;
            return;
        };
        let everyone = uid == EVERYONE.as_bytes();
        if at > 0 {
            let late = monotonic_us().saturating_sub(at);
            if everyone { broadcasts.record_us(late) } else { pushes.record_us(late) }
        }
        if uid != self.uid.as_bytes() && !everyone {
            tally.misdelivered += 1;
        } else if seq == 0 {
            // Not in a sequence: the floor's ready frame, or one of two sequences at once.
        } else if seq <= self.last_seq {
            tally.duplicated += 1;
        } else {
            tally.skipped += seq - self.last_seq - 1;
            self.last_seq = seq;
        }
    }

    /// Sends a few bytes; a socket that refuses them this early in its life is a failure.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.link.write(bytes)? {
            n if n == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// A socket for a connection to `server`, from the source address that belongs to `index` where that is loopback.
pub(crate) fn source_socket(server: SocketAddr, index: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Transport::TCP))?;
    if server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let last = u8::try_from(2 + index % SOURCES).unwrap_or(2);
        socket.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, last], 0))))?;
    }
    Ok(socket)
}

/// A client's frame, masked as RFC 6455 section 5.3 demands. A token is longer than 125 bytes, and nothing here than
/// 64 KiB.
pub(crate) fn masked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(len) if len < 126 => frame.push(0x80 | len),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

/// Opcode, payload and whole length of the first frame, or `None` when it is not complete yet.
pub(crate) fn server_frame(bytes: &[u8]) -> io::Result<Option<(u8, &[u8], usize)>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Err(io::Error::other("not a whole unmasked frame without extensions"));
    }
    let (head, len) = match (second, rest) {
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (126, _) => return Ok(None),
        (127, _) => return Err(io::Error::other("a frame above 64 KiB")),
        (len, _) => (2, usize::from(*len)),
    };
    Ok(bytes.get(head..head + len).map(|payload| (first & 0x0f, payload, head + len)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Endpoint;
    use crate::template::Template;

    fn client(protocol: Protocol) -> Client {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::at(listener.local_addr().unwrap(), "/");
        Client::connect(&Subscribe::new(protocol, endpoint), 1, None, Instant::now(), None, None).unwrap()
    }

    /// What client `u1` counts for these uids and sequence numbers.
    fn counted(payloads: &[(&str, u64)]) -> Tally {
        let mut client = client(Protocol::Plain);
        let mut counts = Counts::default();
        for (uid, seq) in payloads {
            let mut payload = Vec::new();
            payload::append(&mut payload, uid, *seq, 0, 64);
            client.hear(&payload, Envelopes::None, &mut counts);
        }
        counts.tally
    }

    #[test]
    fn a_clean_sequence_counts_as_exactly_delivered() {
        assert!(counted(&[("u1", 1), (EVERYONE, 2), ("u1", 3)]).is_exactly(3));
    }

    #[test]
    fn gaps_repeats_and_foreign_uids_are_counted_apart() {
        let tally = counted(&[("u1", 1), ("u1", 4), ("u1", 4), ("u10", 5)]);
        assert_eq!(tally, Tally { received: 4, skipped: 2, duplicated: 1, misdelivered: 1, closed: 0 });
    }

    #[test]
    fn events_are_counted_a_line_at_a_time_however_they_are_cut() {
        let mut stream =
            b"id: e:0\nevent: welcome\ndata: {\"type\":\"welcome\",\"uid\":\"u1\",\"seq\":0}\n\n:\n\n"
                .to_vec();
        for seq in 1..=2 {
            stream.extend_from_slice(b"event: message\ndata: {\"type\":\"message\",\"data\":");
            payload::append(&mut stream, "u1", seq, 0, 64);
            stream.extend_from_slice(b"}\n\n");
        }
        let events = Subscribe::new(Protocol::Events, "http://127.0.0.1:1/".parse().unwrap());
        for cut in 0..stream.len() {
            let (mut client, mut counts) = (client(Protocol::Events), Counts::default());
            client.state = State::Open;
            client.take(&stream[..cut], &events, &mut counts).unwrap();
            client.take(&stream[cut..], &events, &mut counts).unwrap();
            assert!(counts.tally.is_exactly(2), "cut at {cut}: {}", counts.tally);
        }
    }

    #[test]
    fn a_message_without_a_payload_of_ours_is_misdelivered_and_other_envelopes_are_not() {
        let (mut client, mut counts) = (client(Protocol::V1), Counts::default());
        client.hear(b"{\"type\":\"welcome\",\"uid\":\"u1\"}", Envelopes::Doorbell, &mut counts);
        assert!(counts.tally.is_exactly(0));
        client.hear(b"{\"type\":\"message\",\"data\":1}", Envelopes::Doorbell, &mut counts);
        assert_eq!(counts.tally.misdelivered, 1);
    }

    #[test]
    fn of_another_servers_envelopes_each_line_counts_and_those_without_a_payload_do_not() {
        let (mut client, mut counts) = (client(Protocol::UrlWebSocket), Counts::default());
        let mut message = b"{\"pong\":1}\n".to_vec();
        for seq in 1..=3 {
            payload::append(&mut message, "u1", seq, 0, 64);
            message.extend_from_slice(b"}\n");
        }
        client.hear(&message, Envelopes::Foreign, &mut counts);
        assert!(counts.tally.is_exactly(3), "{}", counts.tally);
    }

    #[test]
    fn it_has_subscribed_once_it_hears_so_and_answers_pings() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::at(listener.local_addr().unwrap(), "/");
        let conversation = Conversation {
            hello: vec![Template::literal("40{uid}"), r"\x82\x00".parse().unwrap()],
            until: Some(Template::literal("40{")),
            replies: vec![(Template::literal("2"), Template::literal("3"))],
        };
        let subscribe = Subscribe { protocol: Protocol::UrlWebSocket, endpoint, conversation };
        let mut client = Client::connect(&subscribe, 7, None, Instant::now(), None, None).unwrap();
        let mut server = listener.accept().unwrap().0;
        let mut said = |length: usize| {
            let mut bytes = vec![0; length];
            server.read_exact(&mut bytes).unwrap();
            bytes
        };

        let head = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}");
        client.accept(&head, &subscribe).unwrap();
        assert_eq!(said(10), masked_frame(0x81, b"40u7"));
        assert_eq!(said(8), masked_frame(0x82, b"\x82\0"));

        let (scratch, mut counts) = (&mut Vec::new(), Counts::default());
        for (text, state) in [("2", State::Greeting), ("0{}", State::Greeting), ("40{}", State::Open)] {
            scratch.clear();
            payload::append_server_frame(scratch, text.as_bytes());
            client.take(scratch, &subscribe, &mut counts).unwrap();
            assert_eq!(client.state, state, "{text}");
        }
        assert_eq!(said(7), masked_frame(0x81, b"3"));
        assert!(counts.tally.is_exactly(0), "none of them is a message: {}", counts.tally);
    }

    #[test]
    fn frames_are_read_whole_or_not_at_all() {
        let mut frame = Vec::new();
        payload::append_server_frame(&mut frame, &[b'x'; 128]);
        assert_eq!(frame.len(), 132);
        for cut in 0..frame.len() {
            assert_eq!(server_frame(&frame[..cut]).unwrap(), None);
        }
        assert_eq!(server_frame(&frame).unwrap(), Some((1, &[b'x'; 128][..], 132)));
    }

    #[test]
    fn masked_and_compressed_frames_are_refused() {
        assert!(server_frame(&[0x81, 0x80, 0, 0, 0, 0]).is_err());
        assert!(server_frame(&[0xc1, 0]).is_err());
    }
}
