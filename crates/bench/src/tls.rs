//! How clients speak TLS: they believe one certificate, whatever name it has, and come back by ticket when told to.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

/// What the clients of one process share.
#[derive(Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    tickets: Arc<Tickets>,
}

impl Tls {
    /// Clients that believe the first certificate in a PEM file and no other.
    pub(crate) fn believing(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let certificate = CertificateDer::from_pem_slice(&text);
        let certificate = certificate.map_err(|_| anyhow::anyhow!("no certificate in {}", file.display()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tickets = Arc::new(Tickets::default());
        let verifier = Arc::new(Pinned { certificate, provider: Arc::clone(&provider) });
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = builder.with_no_client_auth();
        config.resumption = Resumption::store(Arc::<Tickets>::clone(&tickets));
        Ok(Self { config: Arc::new(config), tickets })
    }

    /// The same for clients that come once: they keep no ticket and show none.
    pub(crate) fn for_strangers(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::disabled();
        Self { config: Arc::new(config), tickets: Arc::default() }
    }

    /// A client's side of a new connection.
    pub(crate) fn connect(&self) -> std::io::Result<ClientConnection> {
        let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
        ClientConnection::new(Arc::clone(&self.config), name).map_err(std::io::Error::other)
    }

    /// Whether clients that connect from now on show a ticket.
    pub(crate) fn resume(&self, resume: bool) {
        self.tickets.shown.store(resume, Ordering::Relaxed);
    }
}

/// A ticket for each client that was there, whoever shows it then: there are no more of them than clients.
#[derive(Default)]
struct Tickets {
    shown: AtomicBool,
    kept: Mutex<Vec<Tls13ClientSessionValue>>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tickets").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.kept.lock().push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if self.shown.load(Ordering::Relaxed) { self.kept.lock().pop() } else { None }
    }
}

/// Believes one certificate. Who holds its key is still to be proved by each handshake.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("the server shows another certificate than that of --tls".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
