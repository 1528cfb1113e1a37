//! A connection that comes from an event loop, for hyper: what was read of it already comes first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use doorbell_hub::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::io::{End, Failure, MAX_RECORD_BYTES, Tls};

/// One read under TLS: a whole record behind the beginning of it that may be kept.
const READ_BYTES: usize = 2 * MAX_RECORD_BYTES;

/// A socket of which something was read already, with its TLS session if it has one.
#[derive(Debug)]
pub(super) struct Rewound {
    /// What was read, and under TLS decrypted.
    read: Vec<u8>,
    used: usize,
    socket: TcpStream,
    tls: Option<Box<Tls>>,
}

/// A runtime's socket as a [`Sink`]. Refusing, it takes note that whoever asks for readiness has to wait.
struct Socket<'a>(&'a TcpStream);

impl Sink for Socket<'_> {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }
}

impl Rewound {
    pub(super) const fn new(read: Vec<u8>, socket: TcpStream, tls: Option<Box<Tls>>) -> Self {
        Self { read, used: 0, socket, tls }
    }

    /// Has `step` done once the socket takes what its session has for it.
    fn poll_tls<T>(
        &self,
        task: &mut Context<'_>,
        step: impl Fn(&Tls, &Socket<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<Option<T>>> {
        let Some(tls) = &self.tls else { return Poll::Ready(Ok(None)) };
        loop {
            match step(tls, &Socket(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(task))?;
                }
                done => return Poll::Ready(done.map(Some)),
            }
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.read.is_empty() {
            let Some(tls) = &this.tls else {
                return Pin::new(&mut this.socket).poll_read(task, buffer);
            };
            ready!(this.socket.poll_read_ready(task))?;
            let socket = &this.socket;
            let mut sealed = vec![0; READ_BYTES];
            let read = |buffer: &mut [u8]| socket.try_read(buffer);
            match tls.read(read, &Socket(socket), &mut sealed, &mut this.read) {
                Ok(arrived) if this.read.is_empty() => match arrived.end {
                    Some(End::Said) => return Poll::Ready(Ok(())),
                    Some(End::Cut) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    None => {}
                },
                Ok(_) => {}
                Err(Failure::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(Failure::Socket(error)) => return Poll::Ready(Err(error)),
                Err(Failure::Protocol(error)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
        let rest = &this.read[this.used..];
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        this.used += length;
        if this.used == this.read.len() {
            this.read = Vec::new();
            this.used = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.poll_tls(task, |tls, socket| tls.write(socket, bytes)))? {
            Some(taken) => Poll::Ready(Ok(taken)),
            None => Pin::new(&mut self.socket).poll_write(task, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_tls(task, |tls, socket| tls.flush(socket)))?;
        Pin::new(&mut self.socket).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_tls(task, |tls, socket| tls.shut(socket)))?;
        Pin::new(&mut self.socket).poll_shutdown(task)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_tls(task, |tls, socket| tls.write_vectored(socket, parts)))? {
            Some(taken) => Poll::Ready(Ok(taken)),
            None => Pin::new(&mut self.socket).poll_write_vectored(task, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
