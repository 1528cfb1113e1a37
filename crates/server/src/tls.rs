//! TLS of the public listener: the certificate, and what every session goes by.
//!
//! Read from files before a port opens and again on SIGHUP; the sessions themselves are in `io/tls.rs`. Nothing is
//! kept of a session for a client that comes back: the ticket it holds is all there is, under keys that change by
//! themselves every six hours.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ProducesTickets};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use secrecy::{ExposeSecret as _, SecretSlice};

use crate::settings::Public;

/// The longest file of a certificate chain or a key, in bytes: a chain of four is under 16 KiB.
const FILE_BYTES: u64 = 256 * 1024;

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// One is configured without the other.
    #[error("public.tls_cert and public.tls_key belong together: set both or neither")]
    Half,
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The first file holds no certificate.
    #[error("{path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The second file holds no private key.
    #[error("{path} holds no private key in PEM: PKCS#8, SEC1 or PKCS#1, without a passphrase")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A section of PEM is damaged.
    #[error("{path} is not whole: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// The key is of a kind that is not supported, or broken.
    #[error("the key in {path} cannot be used: {why}")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What the library said.
        why: rustls::Error,
    },
    /// The first certificate of the chain is another key's, or is none.
    #[error("the first certificate in {cert} is not the key's in {key}: {why}")]
    Mismatch {
        /// The chain's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the library said.
        why: rustls::Error,
    },
    /// The system gives no randomness for tickets.
    #[error("make the keys of session tickets: {0}")]
    Tickets(rustls::Error),
}

/// A certificate chain with its private key, checked to belong together.
#[derive(Debug)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    /// In DER. Wiped when dropped, and prints as nothing.
    key: SecretSlice<u8>,
    signed: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads what the settings name, if they name anything.
    ///
    /// # Errors
    /// [`TlsError`], which names the file and what is wrong with it.
    pub fn of(settings: &Public) -> Result<Option<Self>, TlsError> {
        match (&settings.tls_cert, &settings.tls_key) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Self::read(cert, key).map(Some),
            _ => Err(TlsError::Half),
        }
    }

    /// Reads a PEM chain, the server's own certificate first, and the PEM key of that certificate.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let damaged = |path: &Path, error: &dyn std::fmt::Display| TlsError::Damaged {
            path: path.to_owned(),
            why: error.to_string(),
        };
        let text = read(cert)?;
        let chain = CertificateDer::pem_slice_iter(text.expose_secret()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| damaged(cert, &error))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate { path: cert.to_owned() });
        }
        let text = read(key)?;
        let private = PrivateKeyDer::from_pem_slice(text.expose_secret()).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => TlsError::NoKey { path: key.to_owned() },
            error => damaged(key, &error),
        })?;
        let der = SecretSlice::from(private.secret_der().to_vec());
        let signing = provider().key_provider.load_private_key(private);
        let signing = signing.map_err(|why| TlsError::BadKey { path: key.to_owned(), why })?;
        let signed = CertifiedKey::new(chain.clone(), signing);
        signed.keys_match().map_err(|why| TlsError::Mismatch {
            cert: cert.to_owned(),
            key: key.to_owned(),
            why,
        })?;
        Ok(Self { chain, key: der, signed: Arc::new(signed) })
    }

    /// When the server's own certificate expires, in seconds since the Unix epoch: the last one at which it is good.
    /// `None` when its dates make no sense.
    ///
    /// The library shows nobody a certificate's dates, but its verifier names the end of one that is over, and at the end
    /// of time every certificate is. It looks at the dates before it asks who signed, so it needs to believe nobody here.
    pub(crate) fn expires(&self) -> Option<u64> {
        let parsed = ParsedCertificate::try_from(self.chain.first()?).ok()?;
        let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
        let roots = RootCertStore::empty();
        match verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], end_of_time, &[]) {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => Some(not_after.as_secs()),
            _ => None,
        }
    }

    /// Whether two are the same, whatever files they came from.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.chain == other.chain && self.key.expose_secret() == other.key.expose_secret()
    }
}

/// The whole of a file of bounded size, wiped when dropped: it may hold a key.
fn read(path: &Path) -> Result<SecretSlice<u8>, TlsError> {
    let bytes = File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES) {
            let error = format!("longer than {FILE_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
        }
        Ok(SecretSlice::from(bytes))
    });
    bytes.map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

/// What sessions of one server share, whichever certificate they began with.
#[derive(Debug)]
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    /// Outlives a change of the certificate, so that a reload does not cost everyone a full handshake.
    tickets: Arc<dyn ProducesTickets>,
}

impl Tls {
    pub(crate) fn new() -> Result<Self, TlsError> {
        let tickets = aws_lc_rs::Ticketer::new().map_err(TlsError::Tickets)?;
        Ok(Self { provider: Arc::new(provider()), tickets })
    }

    /// What new sessions go by.
    pub(crate) fn configure(&self, certificate: &Certificate) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions();
        // The provider is the library's own, with suites for both versions.
        let builder = builder.expect("a provider that has TLS 1.2 and 1.3").with_no_client_auth();
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&certificate.signed)));
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // All that a client needs to come back is in its ticket: with a store, memory would grow with visitors.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(&self.tickets);
        // A second one would serve a client that opens two connections at once, which no page does.
        config.send_tls13_tickets = 1;
        // Once it is established a session is its keys and counters (`io/records.rs`).
        config.enable_secret_extraction = true;
        Arc::new(config)
    }
}
