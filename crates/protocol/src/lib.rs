//! Doorbell's wire formats as bytes: WebSocket frames and handshakes, text-port lines, PROXY headers.
//!
//! Sans-I/O: bytes go in, events and bytes come out. Nothing here opens a socket, reads a clock, or waits.
//! Every function is total over its input: bytes from the network produce an error value, never a panic,
//! and never make more memory be reserved than has arrived.
//!
//! | module | format | source |
//! |---|---|---|
//! | [`frame`], [`decoder`] | WebSocket frames and messages, server side | RFC 6455 §5 |
//! | [`deflate`] | permessage-deflate: negotiation, compressed frames, bounded inflating | RFC 7692 |
//! | [`close`] | WebSocket close codes | RFC 6455 §7.4 |
//! | [`handshake`] | the WebSocket opening handshake and its refusals | RFC 6455 §4.2, RFC 9457 |
//! | [`mod@line`] | the text port's lines | RFC 8259 |
//! | [`json`] | JSON that is copied, never re-encoded | RFC 8259 |
//! | [`proxy`] | the PROXY protocol header, v1 and v2 | HAProxy `proxy-protocol.txt` |
//! | [`uid`] | who is behind a connection | |
//!
//! ```
//! use doorbell_protocol::{Decoder, Event, MessageKind};
//!
//! let mut decoder = Decoder::new();
//! // "Hello", masked, as RFC 6455 §5.7 prints it.
//! let mut received = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
//! let mut input = &mut received[..];
//! while let Some(event) = decoder.next(&mut input, 65_536)? {
//!     assert_eq!(event, Event::Message { kind: MessageKind::Text, data: b"Hello" });
//! }
//! assert!(decoder.is_idle());
//! # Ok::<(), doorbell_protocol::ProtocolError>(())
//! ```

pub mod close;
pub mod decoder;
pub mod deflate;
pub mod envelope;
mod error;
pub mod frame;
pub mod handshake;
pub mod json;
pub mod line;
pub mod proxy;
mod scan;
pub mod uid;

pub use close::CloseCode;
pub use decoder::{Decoder, Event, MessageKind};
pub use deflate::{Deflate, Inflater};
pub use error::ProtocolError;
pub use frame::Opcode;
pub use line::LineError;
pub use uid::{Uid, UidError};
