//! The TLS session of one connection, without a task, a thread or a socket of its own.
//!
//! Whoever writes to a connection seals and writes, under the session's own lock and, where messages are sent, under
//! the connection's outgoing one, which is taken first. What arrives is decrypted into a buffer that is lent, so an
//! idle session holds its keys and no buffer. Two things may have to wait here: a record of which the rest has not
//! arrived, and one sealed record that the socket has not taken whole. While the latter is there nothing more is
//! sealed: [`Sink::write`] says `WouldBlock`, and what is to be sent waits where the bound of the queue counts it.

use std::io;
use std::sync::Arc;

use doorbell_hub::Sink;
use parking_lot::Mutex;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{HandshakeKind, InvalidMessage, ServerConfig};

/// Plaintext sealed at once: the most that a record holds (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 1 << 14;
/// What sealing adds to a record at most; with room for an answer to a key update (RFC 8446 section 4.6.3).
const SEALING_BYTES: usize = 128;
/// The longest record there may be (RFC 5246 section 6.2.3), and so the most that is kept until its rest arrives.
pub(crate) const MAX_RECORD_BYTES: usize = 5 + (1 << 14) + 2_048;

/// What a client is told that is not let in before its first byte is read: a fatal alert, `internal_error`. An answer
/// in HTTP would be noise to it, and a handshake is what a crowd at the door should not get.
pub(super) const NOT_NOW: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 80];

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Tls(Mutex<Session>);

struct Session {
    rustls: UnbufferedServerConnection,
    /// What has arrived of a record, or of a message of the handshake.
    received: Vec<u8>,
    /// What the socket has not taken of the last record, or of the last answers of the handshake.
    unsent: Vec<u8>,
    phase: Phase,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("phase", &self.phase).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    /// Our close_notify is out, or waits to be: nothing more is sealed, and what arrives is thrown away.
    Shut,
    /// The other end broke the protocol: the alert that says so is the last that is sent, else as above.
    Broken,
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
        let rustls = UnbufferedServerConnection::new(Arc::clone(config))?;
        let (received, unsent) = (Vec::new(), Vec::new());
        Ok(Self(Mutex::new(Session { rustls, received, unsent, phase: Phase::Handshake })))
    }

    /// How the handshake went, once it is done.
    pub(super) fn established(&self) -> Option<HandshakeKind> {
        let session = self.0.lock();
        if session.phase == Phase::Handshake { None } else { session.rustls.handshake_kind() }
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
        if session.phase == Phase::Open {
            session.seal_close()?;
        }
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
        if matches!(self.phase, Phase::Shut | Phase::Broken) {
            return Ok(Arrived { length, end: None });
        }
        let mut used = 0;
        let opened = self.open(bytes, &mut used, plain);
        let rest = &mut bytes[used..];
        if opened.is_ok() {
            // Exactly as long as it is, and without memory when nothing is left: most reads end with a record.
            self.received = rest.to_vec();
        } else {
            self.answer_with_alert(rest);
            self.phase = Phase::Broken;
            self.received = Vec::new();
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
        let mut end = None;
        loop {
            let UnbufferedStatus { discard, state } = self.rustls.process_tls_records(&mut bytes[*used..]);
            *used += discard;
            let more = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        *used += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    true
                }
                ConnectionState::EncodeTlsData(encode) => {
                    append_encoded(&mut self.unsent, encode)?;
                    true
                }
                ConnectionState::TransmitTlsData(transmit) => {
                    transmit.done();
                    true
                }
                ConnectionState::PeerClosed => {
                    end = Some(End::Said);
                    true
                }
                ConnectionState::WriteTraffic(_) => {
                    if self.phase == Phase::Handshake {
                        self.phase = Phase::Open;
                    }
                    false
                }
                // `BlockedHandshake`, `Closed`, and early data, which is not offered.
                _ => false,
            };
            if !more {
                break;
            }
        }
        if bytes.len() - *used > MAX_RECORD_BYTES {
            // Only a handshake's message spans records, and none that is honest is so long.
            return Err(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        Ok(end)
    }

    /// After a failure, all that the library has left to say is the alert, if there is one. It wants to see again what it
    /// has not used, and must not be asked twice: it would look at it, and fail, anew.
    fn answer_with_alert(&mut self, rest: &mut [u8]) {
        if let Ok(ConnectionState::EncodeTlsData(encode)) = self.rustls.process_tls_records(rest).state {
            // Without room for seven bytes there is no alert.
            let _ = append_encoded(&mut self.unsent, encode);
        }
    }

    fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        self.sealing(|traffic, unsent| {
            append(unsent, plain.len() + SEALING_BYTES, |room| Ok(traffic.encrypt(plain, room)?))
        })
    }

    fn seal_close(&mut self) -> io::Result<()> {
        self.sealing(|traffic, unsent| {
            append(unsent, SEALING_BYTES, |room| Ok(traffic.queue_close_notify(room)?))
        })?;
        self.phase = Phase::Shut;
        Ok(())
    }

    /// Lends the state in which the library seals. It gives that out only when it has looked at what is here of the
    /// next record.
    fn sealing(
        &mut self,
        seal: impl FnOnce(&mut Traffic<'_>, &mut Vec<u8>) -> Result<(), rustls::Error>,
    ) -> io::Result<()> {
        if self.phase != Phase::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        loop {
            let encoded = match self.rustls.process_tls_records(&mut self.received).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return seal(&mut traffic, &mut self.unsent).map_err(io::Error::other);
                }
                Ok(ConnectionState::EncodeTlsData(encode)) => append_encoded(&mut self.unsent, encode),
                Ok(ConnectionState::TransmitTlsData(transmit)) => {
                    transmit.done();
                    Ok(())
                }
                Ok(_) => return Err(io::ErrorKind::NotConnected.into()),
                Err(error) => Err(error),
            };
            encoded.map_err(io::Error::other)?;
        }
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

type Traffic<'a> = WriteTraffic<'a, ServerConnectionData>;

/// Why bytes could not be appended.
enum Unwritten {
    /// There has to be room for so many.
    Room(usize),
    Failed(rustls::Error),
}

impl From<EncodeError> for Unwritten {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(error) => Self::Room(error.required_size),
            EncodeError::AlreadyEncoded => Self::Failed(rustls::Error::General(error.to_string())),
        }
    }
}

impl From<EncryptError> for Unwritten {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(error) => Self::Room(error.required_size),
            EncryptError::EncryptExhausted => Self::Failed(rustls::Error::EncryptError),
        }
    }
}

fn append_encoded(
    to: &mut Vec<u8>,
    mut encode: EncodeTlsData<'_, ServerConnectionData>,
) -> Result<(), rustls::Error> {
    append(to, 0, |room| Ok(encode.encode(room)?))
}

/// Has `write` append to `to`; `room` is how much it will want, as far as is known.
fn append(
    to: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Unwritten>,
) -> Result<(), rustls::Error> {
    let start = to.len();
    loop {
        to.resize(start + room, 0);
        match write(&mut to[start..]) {
            Ok(written) => {
                to.truncate(start + written);
                return Ok(());
            }
            Err(Unwritten::Room(required)) if required > room => room = required,
            Err(Unwritten::Room(_)) => {
                to.truncate(start);
                return Err(rustls::Error::General("no room is enough".to_owned()));
            }
            Err(Unwritten::Failed(error)) => {
                to.truncate(start);
                return Err(error);
            }
        }
    }
}
