//! Files and streams read up to a bound, so that a wrong path (a device, a log, a disk image) is an error and not a
//! full memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest file that holds a secret, in bytes: a PEM key is under 4 KiB.
pub(crate) const SECRET_FILE_BYTES: u64 = 64 * 1024;
/// The longest configuration file, in bytes.
pub(crate) const CONFIG_FILE_BYTES: u64 = 1024 * 1024;

/// The text of a file.
///
/// # Errors
/// It cannot be opened or read, is longer than `limit` bytes, or is not UTF-8.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    text_of(File::open(path)?, limit)
}

/// The text of a stream up to its end.
///
/// # Errors
/// As [`read_text`].
pub(crate) fn text_of(stream: impl Read, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}
