//! What logs call a uid: never itself.

use std::hash::{BuildHasher as _, RandomState};

use aws_lc_rs::hmac;
use doorbell_protocol::Uid;

/// The key of one server's names, made when it starts: whoever has only the log cannot try out uids.
#[derive(Debug)]
pub(crate) struct LogNames(hmac::Key);

impl Default for LogNames {
    fn default() -> Self {
        // Each is keyed by the system's randomness.
        let bytes: Vec<u8> =
            (0..4).flat_map(|part: u64| RandomState::new().hash_one(part).to_be_bytes()).collect();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }
}

impl LogNames {
    /// The name of a uid until the process ends: 48 bits of its HMAC-SHA-256; empty for none.
    pub(crate) fn of(&self, uid: Option<&Uid>) -> String {
        use std::fmt::Write as _;
        let Some(uid) = uid else { return String::new() };
        let tag = hmac::sign(&self.0, uid.as_str().as_bytes());
        tag.as_ref().iter().take(6).fold(String::with_capacity(12), |mut name, byte| {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
            name
        })
    }
}
