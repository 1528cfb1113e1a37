//! Certificates made for a test, and clients that believe them.
#![allow(unreachable_pub, reason = "shared by several test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::SystemTime;

use doorbell_server::settings::Settings;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

use super::{connect, settings};

/// A certificate in files of its own, gone with it.
#[derive(Debug)]
pub struct Identity {
    pub directory: TempDir,
    pub certificate: CertificateDer<'static>,
}

impl Identity {
    /// For `localhost` and `127.0.0.1`, self-signed.
    pub fn new() -> Self {
        Self::made(None)
    }

    /// The same, and good until `end`, which has no parts of a second.
    pub fn until(end: SystemTime) -> Self {
        Self::made(Some(end))
    }

    fn made(end: Option<SystemTime>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let certificate = write(&directory, end);
        Self { directory, certificate }
    }

    /// Writes another certificate and key into the same files.
    pub fn renew(&mut self) {
        self.certificate = write(&self.directory, None);
    }

    /// Writes another certificate and key into the same files, good until `end`.
    pub fn renew_until(&mut self, end: SystemTime) {
        self.certificate = write(&self.directory, Some(end));
    }

    /// Open identity on port 0, over TLS.
    pub fn settings(&self) -> Settings {
        let mut settings = settings();
        settings.public.tls_cert = Some(self.directory.path().join("cert.pem"));
        settings.public.tls_key = Some(self.directory.path().join("key.pem"));
        settings
    }

    /// A client that believes this certificate alone. Connections of one client resume each other's sessions.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.client_of(rustls::ALL_VERSIONS)
    }

    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        self.build(aws_lc_rs::default_provider(), versions)
    }

    /// A client that knows one suite.
    pub fn client_with(&self, suite: SupportedCipherSuite) -> Arc<ClientConfig> {
        let provider = CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
        self.build(provider, &[suite.version()])
    }

    fn build(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(versions).expect("a version");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

fn write(directory: &TempDir, end: Option<SystemTime>) -> CertificateDer<'static> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("names");
    if let Some(end) = end {
        params.not_after = end.into();
    }
    let signing = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&signing).expect("a certificate");
    let key = directory.path().join("key.pem");
    fs::write(directory.path().join("cert.pem"), certificate.pem()).expect("a file");
    fs::write(&key, signing.serialize_pem()).expect("a file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    certificate.der().clone()
}

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Connects; the handshake is done with the first read or write.
pub fn connect_tls(address: SocketAddr, client: &Arc<ClientConfig>) -> TlsStream {
    secure(connect(address), client)
}

/// Speaks TLS on a socket.
pub fn secure(socket: TcpStream, client: &Arc<ClientConfig>) -> TlsStream {
    let name = "localhost".try_into().expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::clone(client), name).expect("a client"), socket)
}

/// A connection of which a test does not care how it is spoken.
#[derive(Debug)]
pub enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Link {
    pub fn connect(address: SocketAddr, client: Option<&Arc<ClientConfig>>) -> Self {
        match client {
            None => Self::Plain(connect(address)),
            Some(client) => Self::Tls(Box::new(connect_tls(address, client))),
        }
    }

    /// The socket alone.
    pub fn into_socket(self) -> TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.sock,
        }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
