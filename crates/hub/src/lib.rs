//! Who is connected, and where a message goes.
//!
//! Five ideas, a file each: the [`Hub`] is the registry of uids and groups, with its fan-out and its mailboxes in files
//! of their own under it; a mailbox is what one uid was sent lately; an [`Outbound`] is what waits for one connection; a
//! [`Message`] is encoded once a dialect and shared by all who must queue it; the [`Trail`] remembers what became of it.
//! The crate knows no socket, no HTTP and no clock: a connection is whatever implements [`Outbox`], a socket whatever
//! implements [`Sink`]. That is what lets the registry be tested with a million connections and the outbound queue
//! under every interleaving (`tests/`).
//!
//! Concurrency: every method takes `&self` and may be called from any thread. A shard's lock covers only the look-up,
//! never a write to a socket.

mod groups;
mod mailbox;
mod message;
mod outbound;
mod presence;
mod registry;
mod trail;

pub use groups::GroupError;
pub use mailbox::{Now, Retention};
pub use message::{Body, Encoding, Message};
pub use outbound::{Bound, Flushed, Lent, Outbound, Promised, Sent, Sink};
pub use presence::{Transition, Transitions};
pub use registry::{AHEAD, BindError, CatchUp, Delivered, Delivery, Greeting, Hub, Outbox, Post, TOGETHER};
pub use trail::{Followed, Mark, Reason, Step, Trail};
