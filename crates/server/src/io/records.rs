//! What is left of a TLS session after its handshake: two keys, two counters, and in TLS 1.3 what makes the next keys.
//!
//! The library would keep a structure of 1.1 KB, the state of its handshake's machine and, for each direction, a
//! cipher that is ready to use; here the cipher is made for each record, which costs a third of a microsecond, and an
//! idle session shrinks to a quarter (`docs/decisions/0003-tls-on-the-loops.md`). Handshakes, their secrets and the
//! secrets of later keys stay the library's; ciphers are aws-lc's. A record is RFC 8446 section 5 or RFC 5246 section
//! 6.2.3.3 with the nonces of RFC 5288 and RFC 7905.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, InvalidMessage, PeerMisbehaved,
    ProtocolVersion,
};

/// Type, version and length.
const HEADER_BYTES: usize = 5;
/// The most plaintext of a record (RFC 8446 section 5.1).
pub(super) const RECORD_BYTES: usize = 1 << 14;
/// The longest record there may be (RFC 5246 section 6.2.3).
pub(crate) const MAX_RECORD_BYTES: usize = HEADER_BYTES + RECORD_BYTES + 2_048;
/// What follows the ciphertext, in every suite.
const TAG_BYTES: usize = 16;
/// What precedes the ciphertext with AES in TLS 1.2: the part of the nonce that is not secret.
const EXPLICIT_BYTES: usize = 8;
/// The handshake's message that its sender has changed its key (RFC 8446 section 4.6.3).
const KEY_UPDATE: u8 = 24;
/// How many records AES may seal under one key: the library's own limit, below that of RFC 8446 section 5.5.
const AES_RECORDS: u64 = 1 << 24;
/// New keys that a client may take between two records with data: the library's own limit.
const KEY_UPDATES: u8 = 32;

/// See the module's header.
pub(super) struct Records {
    sending: Direction,
    receiving: Direction,
    /// What makes the next keys; TLS 1.2 has none. Boxed: the library gives half a kilobyte.
    next: Option<Box<KernelConnection<ServerConnectionData>>>,
    /// Records after which what is sent gets a new key, or with TLS 1.2 ends.
    seals: u64,
    updates: u8,
    /// The client wants a new key, and gets it before the next record with data: one answer for any number of
    /// questions, so that nothing piles up for a client that does not read (RFC 8446 section 4.6.3).
    owes_update: bool,
    /// The other end said that it will send nothing more, so what follows is thrown away.
    ended: bool,
}

/// One direction's key, and how many records it has been used for.
struct Direction {
    sequence: u64,
    secrets: ConnectionTrafficSecrets,
}

impl Records {
    /// Goes on where the library's session stands: its handshake is done and all that it had to say was taken.
    pub(super) fn after(session: UnbufferedServerConnection) -> Result<Self, Error> {
        let (secrets, next) = session.dangerous_into_kernel_connection()?;
        let [sending, receiving] =
            [secrets.tx, secrets.rx].map(|(sequence, secrets)| Direction { sequence, secrets });
        let seals = match sending.secrets {
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => u64::MAX,
            _ => AES_RECORDS,
        };
        let next = (next.protocol_version() == ProtocolVersion::TLSv1_3).then(|| Box::new(next));
        Ok(Self { sending, receiving, next, seals, updates: 0, owes_update: false, ended: false })
    }

    /// Decrypts what is whole in `bytes`, adds its length to `used`, and appends its data to `plain`. Whether the other
    /// end said that this was all.
    pub(super) fn open(
        &mut self,
        bytes: &mut [u8],
        used: &mut usize,
        plain: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        while !self.ended {
            let Some(length) = record_length(&bytes[*used..]) else { return Ok(false) };
            if length > MAX_RECORD_BYTES {
                return Err(InvalidMessage::MessageTooLarge.into());
            }
            let Some(record) = bytes.get_mut(*used..*used + length) else { return Ok(false) };
            *used += length;
            let modern = self.next.is_some();
            let (kind, text) = self.receiving.open(record, modern)?;
            match kind {
                ContentType::ApplicationData => {
                    plain.extend_from_slice(text);
                    self.updates = 0;
                }
                ContentType::Alert => self.ended = is_close_notify(text, modern)?,
                // A client that wants to renegotiate is refused as well.
                ContentType::Handshake if modern => {
                    let message = <[u8; 5]>::try_from(text).map_err(|_| InvalidMessage::InvalidKeyUpdate)?;
                    self.update(message)?;
                }
                kind => return Err(unexpected(kind)),
            }
        }
        *used = bytes.len();
        Ok(true)
    }

    /// The other end has changed its key.
    fn update(&mut self, message: [u8; 5]) -> Result<(), Error> {
        let wants_one = match message {
            [KEY_UPDATE, 0, 0, 1, wants @ (0 | 1)] => wants == 1,
            _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
        };
        if self.updates == KEY_UPDATES {
            return Err(PeerMisbehaved::TooManyKeyUpdateRequests.into());
        }
        self.updates += 1;
        self.owes_update |= wants_one;
        let Some(next) = &mut self.next else { return Err(unexpected(ContentType::Handshake)) };
        let (sequence, secrets) = next.update_rx_secret()?;
        self.receiving = Direction { sequence, secrets };
        Ok(())
    }

    /// Appends a record with data to `to`, at most [`RECORD_BYTES`] of it, and before it a new key where one is due.
    pub(super) fn seal(&mut self, data: &[u8], to: &mut Vec<u8>) -> Result<(), Error> {
        if self.owes_update || self.sending.sequence + 1 >= self.seals {
            let Some(next) = &mut self.next else { return Err(Error::EncryptError) };
            let message = [KEY_UPDATE, 0, 0, 1, 0];
            self.sending.seal(ContentType::Handshake, &message, true, to)?;
            let (sequence, secrets) = next.update_tx_secret()?;
            self.sending = Direction { sequence, secrets };
            self.owes_update = false;
        }
        self.sending.seal(ContentType::ApplicationData, data, self.next.is_some(), to)
    }

    /// Appends the record that says that nothing more will come.
    pub(super) fn seal_close(&mut self, to: &mut Vec<u8>) -> Result<(), Error> {
        self.seal_alert([1, AlertDescription::CloseNotify.into()], to)
    }

    /// Appends the record that says why the session is over, if that is for us to say.
    pub(super) fn seal_failure(&mut self, error: &Error, to: &mut Vec<u8>) -> Result<(), Error> {
        let description = match error {
            Error::AlertReceived(_) => return Ok(()),
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord | Error::InvalidMessage(InvalidMessage::MessageTooLarge) => {
                AlertDescription::RecordOverflow
            }
            Error::InvalidMessage(_) => AlertDescription::DecodeError,
            Error::InappropriateMessage { .. } | Error::PeerMisbehaved(_) => {
                AlertDescription::UnexpectedMessage
            }
            _ => AlertDescription::InternalError,
        };
        self.seal_alert([2, description.into()], to)
    }

    fn seal_alert(&mut self, alert: [u8; 2], to: &mut Vec<u8>) -> Result<(), Error> {
        self.sending.seal(ContentType::Alert, &alert, self.next.is_some(), to)
    }
}

impl Direction {
    /// Decrypts one whole record in place: what it is, and what it says.
    fn open<'r>(&mut self, record: &'r mut [u8], modern: bool) -> Result<(ContentType, &'r [u8]), Error> {
        let (header, body) = record.split_at_mut(HEADER_BYTES);
        let kind = ContentType::from(header[0]);
        if modern && kind != ContentType::ApplicationData {
            return Err(unexpected(kind));
        }
        let (cipher, mut nonce) = self.cipher()?;
        let mut skip = 0;
        if !modern && self.is_aes() {
            skip = EXPLICIT_BYTES;
            nonce[4..].copy_from_slice(body.get(..EXPLICIT_BYTES).ok_or(Error::DecryptError)?);
        }
        let sealed = &mut body[skip..];
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(Error::DecryptError)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let associated = self.associated(kind, length)?;
        let associated = if modern { &*header } else { &associated };
        let opened = cipher.open_in_place(nonce, Aad::from(associated), sealed);
        let mut text: &[u8] = opened.map_err(|_| Error::DecryptError)?;
        self.sequence += 1;
        let mut kind = kind;
        if modern {
            if text.len() > RECORD_BYTES + 1 {
                return Err(Error::PeerSentOversizedRecord);
            }
            // The kind is the last byte that is not padding.
            let last = text.iter().rposition(|byte| *byte != 0);
            let last = last.ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
            kind = ContentType::from(text[last]);
            text = &text[..last];
        }
        if text.len() > RECORD_BYTES {
            return Err(Error::PeerSentOversizedRecord);
        }
        Ok((kind, text))
    }

    /// Appends one record to `to`; after an error nothing is appended.
    fn seal(&mut self, kind: ContentType, text: &[u8], modern: bool, to: &mut Vec<u8>) -> Result<(), Error> {
        let (cipher, nonce) = self.cipher()?;
        let explicit: &[u8] = if !modern && self.is_aes() { &nonce[4..] } else { &[] };
        let body = explicit.len() + text.len() + usize::from(modern) + TAG_BYTES;
        let length = u16::try_from(body).map_err(|_| Error::EncryptError)?.to_be_bytes();
        let shown = if modern { ContentType::ApplicationData } else { kind };
        let header = [shown.into(), 3, 3, length[0], length[1]];
        let associated = self.associated(kind, text.len())?;
        let associated: &[u8] = if modern { &header } else { &associated };
        let start = to.len();
        to.reserve(HEADER_BYTES + body);
        to.extend_from_slice(&header);
        to.extend_from_slice(explicit);
        let sealed = to.len();
        to.extend_from_slice(text);
        if modern {
            to.push(kind.into());
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(associated), &mut to[sealed..]);
        match tag {
            Ok(tag) => to.extend_from_slice(tag.as_ref()),
            Err(_) => {
                to.truncate(start);
                return Err(Error::EncryptError);
            }
        }
        self.sequence += 1;
        Ok(())
    }

    /// The cipher, its key and what its nonces begin with. The library makes secrets of these three kinds alone.
    fn parts(&self) -> Option<(&'static aead::Algorithm, &AeadKey, &Iv)> {
        match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => Some((&aead::AES_128_GCM, key, iv)),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => Some((&aead::AES_256_GCM, key, iv)),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                Some((&aead::CHACHA20_POLY1305, key, iv))
            }
            _ => None,
        }
    }

    fn is_aes(&self) -> bool {
        !matches!(self.secrets, ConnectionTrafficSecrets::Chacha20Poly1305 { .. })
    }

    /// The cipher, and the nonce of the next record: no two records have the same, as each is counted once it is done.
    fn cipher(&self) -> Result<(LessSafeKey, [u8; aead::NONCE_LEN]), Error> {
        let Some((algorithm, key, iv)) = self.parts() else { return Err(Error::EncryptError) };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::EncryptError)?;
        let mut nonce = [0; aead::NONCE_LEN];
        nonce[4..].copy_from_slice(&self.sequence.to_be_bytes());
        for (byte, secret) in nonce.iter_mut().zip(iv.as_ref()) {
            *byte ^= secret;
        }
        Ok((LessSafeKey::new(key), nonce))
    }

    /// What TLS 1.2 authenticates beside a record of `length` bytes of text.
    fn associated(&self, kind: ContentType, length: usize) -> Result<[u8; 13], Error> {
        let length = u16::try_from(length).map_err(|_| Error::EncryptError)?;
        let mut associated = [0; 13];
        associated[..8].copy_from_slice(&self.sequence.to_be_bytes());
        associated[8..11].copy_from_slice(&[kind.into(), 3, 3]);
        associated[11..].copy_from_slice(&length.to_be_bytes());
        Ok(associated)
    }
}

/// How long the record at the beginning of `bytes` is by its header, if that is there.
pub(super) fn record_length(bytes: &[u8]) -> Option<usize> {
    let [_, _, _, high, low, ..] = bytes else { return None };
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])))
}

/// Whether an alert says that nothing more will come. Any other ends the session, but for the warnings of TLS 1.2 and
/// that of a user who has cancelled.
fn is_close_notify(alert: &[u8], modern: bool) -> Result<bool, Error> {
    let [level, description] = alert else { return Err(InvalidMessage::MissingData("alert").into()) };
    match AlertDescription::from(*description) {
        AlertDescription::CloseNotify => Ok(true),
        AlertDescription::UserCanceled => Ok(false),
        _ if !modern && *level == 1 => Ok(false),
        description => Err(Error::AlertReceived(description)),
    }
}

fn unexpected(got_type: ContentType) -> Error {
    Error::InappropriateMessage { expect_types: vec![ContentType::ApplicationData], got_type }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;

    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::unbuffered::ConnectionState;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion};

    use super::*;

    /// Has both ends agree in memory.
    fn agree(version: &'static SupportedProtocolVersion) -> (Records, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a certificate");
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let client = client.with_protocol_versions(&[version]).expect("a version");
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_provider(provider);
        let server = server.with_protocol_versions(&[version]).expect("a version").with_no_client_auth();
        let mut server = server.with_single_cert(vec![certificate], key).expect("a pair");
        server.enable_secret_extraction = true;
        let mut server = UnbufferedServerConnection::new(Arc::new(server)).expect("a server");
        let mut client =
            ClientConnection::new(client, "localhost".try_into().expect("a name")).expect("a client");
        let mut arrived = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            while client.wants_write() {
                client.write_tls(&mut arrived).expect("a buffer");
            }
            let mut answer = Vec::new();
            loop {
                let status = server.process_tls_records(&mut arrived);
                let discard = status.discard;
                match status.state.expect("a handshake") {
                    ConnectionState::EncodeTlsData(mut encode) => {
                        let mut room = [0; 4_096];
                        let length = encode.encode(&mut room).expect("room");
                        answer.extend_from_slice(&room[..length]);
                    }
                    ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                    _ => {
                        arrived.drain(..discard);
                        break;
                    }
                }
                arrived.drain(..discard);
            }
            hear(&mut client, &answer);
        }
        (Records::after(server).expect("its secrets"), client)
    }

    /// What the client makes of these bytes.
    fn hear(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).expect("memory");
            client.process_new_packets().expect("records it can read");
        }
        let mut heard = vec![0; 1 << 16];
        let length = client.reader().read(&mut heard).unwrap_or(0);
        heard.truncate(length);
        heard
    }

    #[test]
    fn a_key_that_has_sealed_enough_is_changed_and_without_another_the_session_ends() {
        let (mut records, mut client) = agree(&TLS13);
        records.seals = 4;
        for round in 0..20_u8 {
            let mut sealed = Vec::new();
            records.seal(&[round], &mut sealed).expect("a record");
            assert!(records.sending.sequence < records.seals, "round {round}");
            assert_eq!(hear(&mut client, &sealed), [round]);
        }
        let (mut records, mut client) = agree(&TLS12);
        records.seals = 4;
        let mut sealed = Vec::new();
        while records.seal(b"x", &mut sealed).is_ok() {}
        assert!(records.sending.sequence < records.seals);
        records.seal_close(&mut sealed).expect("room for the last word");
        assert!(!hear(&mut client, &sealed).is_empty());
    }

    #[test]
    fn any_number_of_questions_for_a_new_key_gets_one() {
        let (mut records, mut client) = agree(&TLS13);
        let mut asked = Vec::new();
        for _ in 0..3 {
            client.refresh_traffic_keys().expect("a key");
            client.write_tls(&mut asked).expect("a buffer");
        }
        let (mut used, mut plain) = (0, Vec::new());
        records.open(&mut asked, &mut used, &mut plain).expect("keys of its own");
        let mut sealed = Vec::new();
        records.seal(b"a", &mut sealed).expect("a record");
        assert_eq!(records.sending.sequence, 1, "the first record under a new key");
        records.seal(b"b", &mut sealed).expect("a record");
        assert_eq!(records.sending.sequence, 2, "which stays");
        assert_eq!(hear(&mut client, &sealed), b"ab");
    }

    #[test]
    fn a_new_key_that_asks_for_none_is_not_answered() {
        let (mut records, mut client) = agree(&TLS13);
        // The client's answer to a question is the only key it takes without a question of its own.
        let (question, mut asked) = ([KEY_UPDATE, 0, 0, 1, 1], Vec::new());
        records.sending.seal(ContentType::Handshake, &question, true, &mut asked).expect("a record");
        let (sequence, secrets) = records.next.as_mut().expect("TLS 1.3").update_tx_secret().expect("a key");
        records.sending = Direction { sequence, secrets };
        records.seal(b"a", &mut asked).expect("a record");
        assert_eq!(hear(&mut client, &asked), b"a");
        client.writer().write_all(b"b").expect("a buffer");
        let mut answer = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut answer).expect("a buffer");
        }
        let (mut used, mut plain) = (0, Vec::new());
        records.open(&mut answer, &mut used, &mut plain).expect("a key of its own");
        assert_eq!((&plain[..], records.receiving.sequence), (&b"b"[..], 1), "the first record under it");
        let mut sealed = Vec::new();
        records.seal(b"c", &mut sealed).expect("a record");
        assert_eq!(records.sending.sequence, 2, "the same key still");
        assert_eq!(hear(&mut client, &sealed), b"c");
    }
}
