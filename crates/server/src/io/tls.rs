//! The TLS session of one connection, without a task, a thread or a socket of its own.
//!
//! Whoever writes to a connection seals and writes, under the session's own lock and, where messages are sent, under
//! the connection's outgoing one, which is taken first. The library has the handshake; after it [`Records`] goes on.
//! What arrives is decrypted into a buffer that is lent, so an idle session holds its keys and no buffer. Two things may
//! have to wait here: a record of which the rest has not arrived, and one sealed record that the socket has not taken
//! whole. While the latter is there nothing more is sealed: [`Sink::write`] says `WouldBlock`, and what is to be sent waits
//! where the bound of the queue counts it.

use std::sync::Arc;
use std::{io, mem};

use doorbell_hub::Sink;
use parking_lot::Mutex;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{HandshakeKind, InvalidMessage, ServerConfig};

use super::records::{MAX_RECORD_BYTES, RECORD_BYTES, Records, record_length};

/// What a client is told that is not let in before its first byte is read: a fatal alert, `internal_error`. An answer
/// in HTTP would be noise to it, and a handshake is what a crowd at the door should not get.
pub(super) const NOT_NOW: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 80];

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Tls(Mutex<Session>);

struct Session {
    stage: Stage,
    /// How the handshake went, once it is done.
    handshake: Option<HandshakeKind>,
    /// What has arrived of a record, or of a message of the handshake.
    received: Vec<u8>,
    /// What the socket has not taken of the last record, or of the last answers of the handshake.
    unsent: Vec<u8>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("handshake", &self.handshake).finish_non_exhaustive()
    }
}

enum Stage {
    /// The library's own session, which is large; gone when the handshake is done.
    Handshake(Box<UnbufferedServerConnection>),
    Open(Records),
    /// Our close_notify, or the alert that says what the other end broke, is out or waits to be. Nothing more is
    /// sealed, and what arrives is thrown away.
    Over,
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Bytes read from the socket.
    pub(crate) length: usize,
    /// How the other end's sending ended, if it did.
    pub(crate) end: Option<End>,
}

/// How the other end's sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It said so, with close_notify.
    Said,
    /// Its connection ended without: anyone between may have cut it (RFC 8446 section 6.1).
    Cut,
}

/// Why a session cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The socket.
    Socket(io::Error),
    /// What arrived. It has been answered with an alert.
    Protocol(rustls::Error),
}

impl Tls {
    /// A session whose hello is about to be read.
    ///
    /// # Errors
    /// The configuration contradicts itself.
    pub(super) fn accept(config: &Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let stage = Stage::Handshake(Box::new(UnbufferedServerConnection::new(Arc::clone(config))?));
        let (received, unsent) = (Vec::new(), Vec::new());
        Ok(Self(Mutex::new(Session { stage, handshake: None, received, unsent })))
    }

    /// How the handshake went, once it is done.
    pub(super) fn established(&self) -> Option<HandshakeKind> {
        self.0.lock().handshake
    }

    /// Takes ciphertext that is there already, as [`Tls::read`] does.
    pub(super) fn take(
        &self,
        sink: &impl Sink,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Arrived, Failure> {
        self.0.lock().receive(sink, bytes.len(), bytes, plain)
    }

    /// Reads once with `read`, appends what it decrypts to `plain`, and answers what the handshake or the protocol has
    /// to be answered. `buffer` is for ciphertext, and longer than [`MAX_RECORD_BYTES`]; nothing is left in it.
    pub(crate) fn read(
        &self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
        sink: &impl Sink,
        buffer: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Arrived, Failure> {
        // Held while reading, which does not block: a writer must find what is kept of a handshake's message.
        let mut session = self.0.lock();
        let kept = session.received.len();
        buffer[..kept].copy_from_slice(&session.received);
        let length = read(&mut buffer[kept..]).map_err(Failure::Socket)?;
        if length == 0 {
            return Ok(Arrived { length, end: Some(End::Cut) });
        }
        session.receive(sink, length, &mut buffer[..kept + length], plain)
    }

    /// Seals and writes a prefix of `bytes`, as [`Sink::write`] does.
    pub(crate) fn write(&self, sink: &impl Sink, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.0.lock();
        session.flush(sink)?;
        let mut taken = 0;
        for record in bytes.chunks(RECORD_BYTES) {
            session.seal(record)?;
            taken += record.len();
            match session.flush(sink) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Seals and writes a prefix of the concatenated `parts`, gathered into few records.
    pub(crate) fn write_vectored(&self, sink: &impl Sink, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if let [part] = parts {
            return self.write(sink, part);
        }
        let all = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut gathered = Vec::with_capacity(all.min(RECORD_BYTES));
        for part in parts {
            let room = RECORD_BYTES - gathered.len();
            gathered.extend_from_slice(&part[..part.len().min(room)]);
        }
        self.write(sink, &gathered)
    }

    /// Gives the socket what waits here.
    ///
    /// # Errors
    /// `WouldBlock` when something still waits; anything else is the socket's end.
    pub(crate) fn flush(&self, sink: &impl Sink) -> io::Result<()> {
        self.0.lock().flush(sink)
    }

    /// Whether nothing waits here.
    pub(super) fn is_drained(&self) -> bool {
        self.0.lock().unsent.is_empty()
    }

    /// Says that nothing more will be sent, once; then as [`Tls::flush`].
    pub(crate) fn shut(&self, sink: &impl Sink) -> io::Result<()> {
        let mut session = self.0.lock();
        session.flush(sink)?;
        session.close()?;
        session.flush(sink)
    }
}

impl Session {
    fn receive(
        &mut self,
        sink: &impl Sink,
        length: usize,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Arrived, Failure> {
        if matches!(self.stage, Stage::Over) {
            return Ok(Arrived { length, end: None });
        }
        let mut used = 0;
        let opened = self.open(bytes, &mut used, plain);
        let rest = &mut bytes[used..];
        match &opened {
            // Exactly as long as it is, and without memory when nothing is left: most reads end with a record.
            Ok(_) => self.received = rest.to_vec(),
            Err(error) => {
                self.answer_with_alert(error, rest);
                self.stage = Stage::Over;
                self.received = Vec::new();
            }
        }
        match self.flush(sink) {
            Ok(()) => {}
            // The event loop flushes it when the socket is writable again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Failure::Socket(error)),
        }
        let end = opened.map_err(Failure::Protocol)?;
        Ok(Arrived { length, end })
    }

    /// Decrypts all that is whole in `bytes`, adds its length to `used`, and collects what is to be answered.
    fn open(
        &mut self,
        bytes: &mut [u8],
        used: &mut usize,
        plain: &mut Vec<u8>,
    ) -> Result<Option<End>, rustls::Error> {
        if let Stage::Handshake(session) = &mut self.stage {
            if !agree(session, bytes, used, &mut self.unsent)? {
                return Ok(None);
            }
            self.handshake = session.handshake_kind();
            if let Stage::Handshake(session) = mem::replace(&mut self.stage, Stage::Over) {
                self.stage = Stage::Open(Records::after(*session)?);
            }
        }
        let Stage::Open(records) = &mut self.stage else { return Ok(None) };
        Ok(records.open(bytes, used, plain)?.then_some(End::Said))
    }

    /// Says what the other end broke, where it can be told. `rest` is what the library has not used. It wants to see
    /// that again, but must not be asked more often than it has something to say: in TLS 1.3 that may be the answer to
    /// the hello, then the alert.
    fn answer_with_alert(&mut self, error: &rustls::Error, rest: &mut [u8]) {
        // An alert that cannot be written is not worth another failure.
        match &mut self.stage {
            Stage::Handshake(session) => {
                while session.wants_write() {
                    let Ok(ConnectionState::EncodeTlsData(encode)) = session.process_tls_records(rest).state
                    else {
                        break;
                    };
                    let _ = append_encoded(&mut self.unsent, encode);
                }
            }
            Stage::Open(records) => drop(records.seal_failure(error, &mut self.unsent)),
            Stage::Over => {}
        }
    }

    fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        let Stage::Open(records) = &mut self.stage else { return Err(io::ErrorKind::NotConnected.into()) };
        records.seal(plain, &mut self.unsent).map_err(io::Error::other)
    }

    /// Says that nothing more will come, unless the session is over or has not begun.
    fn close(&mut self) -> io::Result<()> {
        let Stage::Open(records) = &mut self.stage else { return Ok(()) };
        let sealed = records.seal_close(&mut self.unsent);
        self.stage = Stage::Over;
        sealed.map_err(io::Error::other)
    }

    fn flush(&mut self, sink: &impl Sink) -> io::Result<()> {
        let mut sent = 0;
        let flushed = loop {
            let rest = &self.unsent[sent..];
            if rest.is_empty() {
                break Ok(());
            }
            match sink.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if sent == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..sent);
        }
        flushed
    }
}

/// Takes the handshake as far as `bytes` go, adds what it used of them to `used`, and appends its answers to `unsent`.
/// Whether it is done.
fn agree(
    session: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    used: &mut usize,
    unsent: &mut Vec<u8>,
) -> Result<bool, rustls::Error> {
    // One record after the other, so that the library sees none behind the handshake's last.
    let mut shown = record_end(bytes, *used);
    loop {
        let UnbufferedStatus { discard, state } = session.process_tls_records(&mut bytes[*used..shown]);
        *used += discard;
        match state? {
            ConnectionState::EncodeTlsData(encode) => {
                append_encoded(unsent, encode)?;
                continue;
            }
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                continue;
            }
            // `WriteTraffic` when it is done, `BlockedHandshake`, and nothing else before there is data.
            _ => {}
        }
        if !session.is_handshaking() {
            return Ok(true);
        }
        if shown == bytes.len() {
            break;
        }
        shown = record_end(bytes, shown);
    }
    if bytes.len() - *used > MAX_RECORD_BYTES {
        // A message may span records, but none that is honest is so long.
        return Err(InvalidMessage::HandshakePayloadTooLarge.into());
    }
    Ok(false)
}

/// Where the record that begins at `start` ends, or what there is of it.
fn record_end(bytes: &[u8], start: usize) -> usize {
    record_length(&bytes[start..]).map_or(bytes.len(), |length| bytes.len().min(start + length))
}

/// Appends what the library has to say to `to`.
fn append_encoded(
    to: &mut Vec<u8>,
    mut encode: EncodeTlsData<'_, ServerConnectionData>,
) -> Result<(), rustls::Error> {
    let start = to.len();
    // Asked without room it says how much it wants.
    let Err(EncodeError::InsufficientSize(room)) = encode.encode(&mut []) else { return Ok(()) };
    to.resize(start + room.required_size, 0);
    let encoded = encode.encode(&mut to[start..]);
    to.truncate(start + encoded.as_ref().map_or(0, |length| *length));
    encoded.map(drop).map_err(|error| rustls::Error::General(error.to_string()))
}
