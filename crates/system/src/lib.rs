//! What the processor and the kernel are asked for beyond the standard library.
//!
//! The only crate with unsafe code: every other one is without, so that what can break memory is read here, in one place.
//! What it exports is safe for any caller, whatever the caller does. It knows nothing of Doorbell.
#![expect(unsafe_code, reason = "it is what this crate is for; the workspace denies it everywhere else")]

pub mod batch;
pub mod memory;
