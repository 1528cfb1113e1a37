//! A message on its way out: encoded once, shared by everyone who cannot take it at once.

use std::cell::OnceCell;
use std::sync::Arc;

/// An encoded frame, borrowed from whoever pushes it.
///
/// Most sockets take a frame at once, so the bytes are only borrowed; the first connection that must queue makes the
/// one shared copy, and every later one holds the same allocation. A push to sockets that keep up allocates nothing.
#[derive(Debug)]
pub struct Message<'a> {
    frame: &'a [u8],
    shared: OnceCell<Arc<[u8]>>,
}

impl<'a> Message<'a> {
    /// Wraps `frame`, the exact bytes to put on the wire.
    #[must_use]
    pub const fn new(frame: &'a [u8]) -> Self {
        Self { frame, shared: OnceCell::new() }
    }

    /// The bytes to write.
    #[must_use]
    pub const fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// The shared copy, made on first use.
    #[must_use]
    pub fn share(&self) -> Arc<[u8]> {
        Arc::clone(self.shared.get_or_init(|| Arc::from(self.frame)))
    }
}
