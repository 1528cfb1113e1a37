//! Doorbell's listeners and transports: what the binary runs and what tests start on port 0.
//!
//! | room | what is in it |
//! |---|---|
//! | [`Server`], [`EchoServer`] | how a server starts, reloads and stops |
//! | [`settings`] | what it is told, [`identity`] whom it believes, [`tls`] what it shows browsers |
//! | `io` | the event loops: WebSockets and the text port; the life of a connection is `io/life.rs` |
//! | `http` | the API, and what the public listener serves besides WebSockets |
//! | `policy`, `upgrade`, `origin`, `client_address`, `admission` | the rules both apply |
//! | `revocation`, `tickets`, `acks` | what is remembered about tokens, and who waits for acknowledgements |
//! | [`webhooks`] | what backends are told unasked |
//! | `login` | the pages that log in by scanning: who watches, what they are told, the providers |
//! | `metrics` | what `/metrics` shows |
//! | [`utc`] | how moments are written |

mod acks;
mod admission;
mod client_address;
mod context;
mod cookies;
mod descriptors;
mod health;
mod http;
pub mod identity;
mod io;
mod log_name;
mod login;
mod metrics;
mod origin;
pub mod places;
mod policy;
mod revocation;
mod server;
pub mod settings;
mod tickets;
pub mod tls;
mod upgrade;
pub mod utc;
pub mod webhooks;

pub use server::{Addresses, DrainReport, EchoServer, ReloadReport, Server, StartError};
