//! A client's connection, in the clear or under TLS, over a socket that blocks or does not.

use std::io::{self, Read, Write};

use rustls::ClientConnection;

use crate::tls::Tls;

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Link<S> {
    pub(crate) socket: S,
    tls: Option<Box<ClientConnection>>,
}

impl<S> Link<S> {
    /// In the clear.
    pub(crate) fn plain(socket: S) -> Self {
        Self { socket, tls: None }
    }

    /// Under TLS where there is any. The hello goes out with the first bytes that are written.
    pub(crate) fn new(socket: S, tls: Option<&Tls>) -> io::Result<Self> {
        Ok(Self { socket, tls: tls.map(Tls::connect).transpose()?.map(Box::new) })
    }

    /// Whether a read that did not fill its buffer has emptied the socket.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// The same connection over what `change` makes of its socket.
    pub(crate) fn map<T>(self, change: impl FnOnce(S) -> T) -> Link<T> {
        Link { socket: change(self.socket), tls: self.tls }
    }
}

impl<S: Write> Link<S> {
    /// Gives the socket the records that wait.
    fn send_records(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

impl<S: Read + Write> Read for Link<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
            match tls.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            self.send_records()?;
        }
    }
}

/// A record that the socket does not take is a failure: clients say a few bytes at a time.
impl<S: Write> Write for Link<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.write(bytes) };
        // Before the handshake is done it is kept until then.
        let length = tls.writer().write(bytes)?;
        self.send_records()?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
