//! Who is behind a connection.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use compact_str::CompactString;
use thiserror::Error;

/// A user id: 1 to [`Uid::MAX_BYTES`] bytes of UTF-8, compared byte for byte.
///
/// Nothing is trimmed or normalised: `"uid1"` and `"uid1\n"` are two users. The value takes 24 bytes and
/// ids of up to 24 bytes live inside it; longer ones are on the heap. Hashes and compares like its `str`,
/// so a map keyed by `Uid` is looked up with a `&str`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(CompactString);

impl Uid {
    /// The longest uid, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Takes a string as a uid.
    ///
    /// # Errors
    /// [`UidError::Empty`] and [`UidError::TooLong`].
    pub fn new(uid: &str) -> Result<Self, UidError> {
        check_length(uid.len())?;
        Ok(Self(CompactString::new(uid)))
    }

    /// Takes bytes as a uid, as a WebSocket message carries it.
    ///
    /// # Errors
    /// Any [`UidError`].
    pub fn from_bytes(uid: &[u8]) -> Result<Self, UidError> {
        check_length(uid.len())?;
        let uid = std::str::from_utf8(uid).map_err(|_| UidError::NotUtf8)?;
        Ok(Self(CompactString::new(uid)))
    }

    /// The uid as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl Deref for Uid {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Uid {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Uid {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// Why something is not a [`Uid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UidError {
    /// There are no bytes.
    #[error("uid is empty")]
    Empty,
    /// There are more than [`Uid::MAX_BYTES`] bytes.
    #[error("uid is {bytes} bytes long, more than {}", Uid::MAX_BYTES)]
    TooLong {
        /// The length of what was offered, in bytes of UTF-8.
        bytes: usize,
    },
    /// The bytes are not UTF-8.
    #[error("uid is not UTF-8")]
    NotUtf8,
}

impl UidError {
    /// A stable `snake_case` label for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "uid_empty",
            Self::TooLong { .. } => "uid_too_long",
            Self::NotUtf8 => "uid_not_utf8",
        }
    }
}

const fn check_length(bytes: usize) -> Result<(), UidError> {
    match bytes {
        0 => Err(UidError::Empty),
        1..=Uid::MAX_BYTES => Ok(()),
        bytes => Err(UidError::TooLong { bytes }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn lengths_of_1_to_128_bytes_are_taken() {
        assert_eq!(Uid::new(""), Err(UidError::Empty));
        assert_eq!(Uid::from_bytes(b""), Err(UidError::Empty));
        assert!(Uid::new("a").is_ok());
        let longest = "é".repeat(64);
        assert_eq!(Uid::new(&longest).unwrap().as_str(), longest);
        let over = "x".repeat(129);
        assert_eq!(Uid::new(&over), Err(UidError::TooLong { bytes: 129 }));
        assert_eq!(Uid::from_bytes(over.as_bytes()), Err(UidError::TooLong { bytes: 129 }));
    }

    #[test]
    fn bytes_are_kept_as_they_are() {
        assert_eq!(Uid::from_bytes(b" uid1\n\0").unwrap().as_str(), " uid1\n\0");
        assert_ne!(Uid::new("uid1").unwrap(), Uid::new("uid1\n").unwrap());
        assert_eq!(Uid::from_bytes(b"\xff"), Err(UidError::NotUtf8));
    }

    #[test]
    fn a_map_is_looked_up_by_str() {
        let table = HashMap::from([(Uid::new("uid1").unwrap(), 7)]);
        assert_eq!(table.get("uid1"), Some(&7));
    }

    #[test]
    fn a_uid_takes_24_bytes() {
        assert_eq!(size_of::<Uid>(), 24);
        assert_eq!(size_of::<Option<Uid>>(), 24);
    }

    #[test]
    fn errors_have_labels() {
        assert_eq!(UidError::Empty.reason(), "uid_empty");
        assert_eq!(UidError::TooLong { bytes: 129 }.reason(), "uid_too_long");
        assert_eq!(UidError::NotUtf8.reason(), "uid_not_utf8");
    }
}
