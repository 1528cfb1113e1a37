//! One client of the fleet: a plain-dialect WebSocket connection from connect to close.
//!
//! The fleet owns the read buffer and lends it; a client keeps bytes only when a frame was cut.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::payload::{self, EVERYONE};
use crate::tally::Tally;

/// The sample key of RFC 6455 section 1.3 and its answer, so that no hash is needed here or in the floor.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Source addresses 127.0.0.2 and up: each has a port range of its own.
const SOURCES: usize = 16;

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// TCP handshake not finished.
    Connecting,
    /// Upgrade request sent, answer awaited.
    Upgrading,
    /// Its uid is sent; it counts what comes.
    Open,
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) state: State,
    uid: String,
    last_seq: u64,
    carry: Vec<u8>,
}

impl Client {
    /// Starts a non-blocking connect from the source address that belongs to `index`.
    pub(crate) fn connect(
        server: SocketAddr,
        index: usize,
        receive_buffer: Option<usize>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let last = u8::try_from(2 + index % SOURCES).unwrap_or(2);
            socket.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, last], 0))))?;
        }
        match socket.connect(&SockAddr::from(server)) {
            Err(e) if e.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(e);
            }
            _ => {}
        }
        Ok(Self {
            stream: TcpStream::from_std(socket.into()),
            state: State::Connecting,
            uid: format!("u{index}"),
            last_seq: 0,
            carry: Vec::new(),
        })
    }

    /// Expects sequence numbers from 1 again.
    pub(crate) fn reset(&mut self) {
        self.last_seq = 0;
    }

    /// Goes on as far as the socket allows. An error, and the end of the stream, is final.
    pub(crate) fn advance(&mut self, scratch: &mut [u8], tally: &mut Tally) -> io::Result<()> {
        if self.state == State::Connecting {
            if let Some(e) = self.stream.take_error()? {
                return Err(e);
            }
            match self.stream.peer_addr() {
                Err(e) if e.kind() == io::ErrorKind::NotConnected => return Ok(()),
                other => other?,
            };
            self.stream.set_nodelay(true)?;
            self.send(upgrade_request().as_bytes())?;
            self.state = State::Upgrading;
        }
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.take(&scratch[..n], tally)?;
                    // Readiness is edge-triggered: a short read has emptied the socket, and what
                    // comes later is a new edge.
                    if n < scratch.len() {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<()> {
        if self.carry.is_empty() {
            let used = self.parse(bytes, tally)?;
            self.carry.extend_from_slice(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.carry);
            all.extend_from_slice(bytes);
            let used = self.parse(&all, tally)?;
            self.carry.extend_from_slice(&all[used..]);
        }
        Ok(())
    }

    /// Consumes what is complete and says how many bytes that was.
    fn parse(&mut self, bytes: &[u8], tally: &mut Tally) -> io::Result<usize> {
        let mut used = 0;
        if self.state == State::Upgrading {
            let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(0) };
            let head = String::from_utf8_lossy(&bytes[..end]);
            if !head.starts_with("HTTP/1.1 101") || !head.contains(ACCEPT) {
                return Err(io::Error::other(format!(
                    "upgrade refused: {}",
                    head.lines().next().unwrap_or("")
                )));
            }
            let uid = masked_frame(0x81, self.uid.as_bytes());
            self.send(&uid)?;
            self.state = State::Open;
            used = end + 4;
        }
        while let Some((opcode, payload, len)) = server_frame(&bytes[used..])? {
            used += len;
            match opcode {
                0x1 | 0x2 => self.count(payload, tally),
                0x8 => return Err(io::ErrorKind::ConnectionAborted.into()),
                0x9 => self.send(&masked_frame(0x8a, payload))?,
                _ => {}
            }
        }
        Ok(used)
    }

    fn count(&mut self, payload: &[u8], tally: &mut Tally) {
        tally.received += 1;
        let Some((uid, seq)) = payload::parse(payload) else {
            tally.misdelivered += 1;
            return;
        };
        if uid != self.uid.as_bytes() && uid != EVERYONE.as_bytes() {
            tally.misdelivered += 1;
        } else if seq == 0 {
            // The floor's ready frame: counted only.
        } else if seq <= self.last_seq {
            tally.duplicated += 1;
        } else {
            tally.skipped += seq - self.last_seq - 1;
            self.last_seq = seq;
        }
    }

    /// Sends a few bytes; a socket that refuses them this early in its life is a failure.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.stream.write(bytes)? {
            n if n == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

fn upgrade_request() -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A client's frame of at most 125 bytes, masked as RFC 6455 section 5.3 demands.
fn masked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let len = u8::try_from(payload.len().min(125)).unwrap_or(125);
    let mut frame = vec![first, 0x80 | len];
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().take(usize::from(len)).zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

/// Opcode, payload and whole length of the first frame, or `None` when it is not complete yet.
fn server_frame(bytes: &[u8]) -> io::Result<Option<(u8, &[u8], usize)>> {
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

    /// What client `u1` counts for these uids and sequence numbers.
    fn counted(payloads: &[(&str, u64)]) -> Tally {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::connect(listener.local_addr().unwrap(), 1, None).unwrap();
        let mut tally = Tally::default();
        for (uid, seq) in payloads {
            let mut payload = Vec::new();
            payload::append(&mut payload, uid, *seq, 64);
            client.count(&payload, &mut tally);
        }
        tally
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
