//! Where revocations outlive the process: a file of JSON lines, appended to and synced before a revocation is answered.
//!
//! It is written anew when it is opened and when most of its lines have become idle, without what is over. A line that a
//! power cut left unfinished is cut off; one that cannot be read is left out, with a warning either way. One process
//! writes at a time, guarded by a lock file beside it: another one on the same directory reads what is there, and takes
//! over with the first revocation after the writer has gone. Then each learns of the other's: what the one who comes has
//! revoked meanwhile is written, and what the one who went has written is taken over.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use doorbell_protocol::Uid;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Revocation, Scope};

/// A line is at most a uid of 128 bytes, each written as six, and two numbers.
const MAX_LINE_BYTES: u64 = 1_024;
/// Idle lines that are not worth writing the file anew.
const SLACK: usize = 1_024;

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    writer: Mutex<Option<Writer>>,
}

/// Held by the one process that writes.
#[derive(Debug)]
struct Writer {
    /// Locked until it is dropped.
    _lock: File,
    file: File,
    lines: usize,
    /// Of how many lines on it is written anew.
    full: usize,
    /// The last write failed and may have left half a line.
    torn: bool,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    uid: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<u32>,
    until: u64,
}

impl<'a> Line<'a> {
    fn of(revocation: &'a Revocation) -> Self {
        let (before, token) = match revocation.scope {
            Scope::Before(before) => (Some(before), None),
            Scope::Token(token) => (None, Some(token)),
        };
        Self { uid: revocation.uid.as_str().into(), before, token, until: revocation.until }
    }

    fn read(text: &'a [u8]) -> Option<Revocation> {
        let line: Self = serde_json::from_slice(text).ok()?;
        let scope = match (line.before, line.token) {
            (Some(before), None) => Scope::Before(before),
            (None, Some(token)) => Scope::Token(token),
            _ => return None,
        };
        Some(Revocation { uid: Uid::new(&line.uid).ok()?, scope, until: line.until })
    }

    fn write(&self, to: &mut impl io::Write) -> io::Result<()> {
        serde_json::to_writer(&mut *to, self)?;
        to.write_all(b"\n")
    }
}

impl Journal {
    /// Opens the file at `path`, in a directory that exists; with it what is in it and not over at `now`, in seconds since
    /// the Unix epoch.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn open(path: PathBuf, now: u64) -> io::Result<(Self, Vec<Revocation>)> {
        let (writer, kept) = match Writer::open(&path, now)? {
            Some((writer, kept)) => (Some(writer), kept),
            None => {
                tracing::warn!(
                    path = %path.display(),
                    "another server keeps its revocations here: this one's are lost with it until that one has stopped"
                );
                (None, read(&path, now)?)
            }
        };
        Ok((Self { path, writer: Mutex::new(writer) }, kept))
    }

    /// Appends a revocation; when this returns it survives a power cut. When the file may lack others, because this process
    /// has only now become the one who writes or failed to write before, `known` says all there are, and they are
    /// appended with it. What was found there that another process wrote is returned.
    ///
    /// # Errors
    /// It is not kept.
    pub(crate) fn append(
        &self,
        revocation: &Revocation,
        known: impl FnOnce() -> Vec<Revocation>,
        now: u64,
    ) -> io::Result<Vec<Revocation>> {
        let mut place = self.writer.lock();
        let is_new = place.is_none();
        let is_behind = place.as_ref().is_none_or(|writer| writer.torn);
        // Let go of first: the lock is as much in one's own way as in anyone's.
        let usable = place.take().filter(|writer| writer.lines < writer.full);
        let (writer, found) = match usable {
            Some(writer) => (writer, Vec::new()),
            None => Writer::open(&self.path, now)?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::WouldBlock, "another server keeps its revocations here")
            })?,
        };
        let known = if is_behind { known() } else { Vec::new() };
        place.insert(writer).append(known.iter().chain([revocation]))?;
        Ok(if is_new { found } else { Vec::new() })
    }
}

impl Writer {
    /// Becomes the one who writes, and writes the file anew with what it keeps; none when another process is.
    fn open(path: &Path, now: u64) -> io::Result<Option<(Self, Vec<Revocation>)>> {
        let lock = new_file().create(true).truncate(false).open(path.with_added_extension("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Now that nobody else adds to it.
        let kept = read(path, now)?;
        let draft = path.with_added_extension("new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = new_file().create_new(true).open(&draft)?;
        let mut text = Vec::new();
        for revocation in &kept {
            Line::of(revocation).write(&mut text)?;
        }
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        let lines = kept.len();
        let writer = Self { _lock: lock, file, lines, full: 2 * lines + SLACK, torn: false };
        Ok(Some((writer, kept)))
    }

    fn append<'a>(&mut self, revocations: impl IntoIterator<Item = &'a Revocation>) -> io::Result<()> {
        let mut text = if self.torn { b"\n".to_vec() } else { Vec::new() };
        let mut lines = 0;
        for revocation in revocations {
            Line::of(revocation).write(&mut text)?;
            lines += 1;
        }
        self.torn = true;
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.torn = false;
        self.lines += lines;
        Ok(())
    }
}

fn new_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// What the file says and is not over, each once; nothing when there is no file.
fn read(path: &Path, now: u64) -> io::Result<Vec<Revocation>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut kept = BTreeMap::new();
    let mut line = Vec::new();
    let mut damaged = 0;
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let is_whole = line.pop_if(|byte| *byte == b'\n').is_some();
        if is_whole && line.is_empty() {
            continue;
        }
        match Line::read(&line).filter(|_| is_whole) {
            Some(Revocation { until, .. }) if until <= now => {}
            Some(Revocation { uid, scope, until }) => {
                let token = if let Scope::Token(token) = scope { Some(token) } else { None };
                let known = kept.entry((uid, token)).or_insert((scope, until));
                *known = (known.0.max(scope), known.1.max(until));
            }
            None => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::warn!(
            path = %path.display(),
            lines = damaged,
            "revocations that cannot be read are left out: not written to their end, or damaged"
        );
    }
    Ok(kept.into_iter().map(|((uid, _), (scope, until))| Revocation { uid, scope, until }).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn append(journal: &Journal, revocation: &Revocation) -> io::Result<Vec<Revocation>> {
        journal.append(revocation, Vec::new, 0)
    }

    fn before(uid: &str, before: u64, until: u64) -> Revocation {
        Revocation { uid: Uid::new(uid).expect("a uid"), scope: Scope::Before(before), until }
    }

    fn opened(path: &Path, now: u64) -> (Journal, Vec<Revocation>) {
        Journal::open(path.to_owned(), now).expect("opens")
    }

    #[test]
    fn what_was_appended_is_there_again_until_it_is_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("revocations.jsonl");
        let (journal, kept) = opened(&path, 0);
        assert_eq!(kept, []);
        let token = Revocation { scope: Scope::Token(7), ..before("a\n\u{1}", 0, 200) };
        for revocation in [&before("b", 10, 100), &token, &before("b", 5, 150), &before("c", 1, 50)] {
            append(&journal, revocation).expect("room");
        }
        drop(journal);
        let (journal, kept) = opened(&path, 50);
        assert_eq!(kept, [token.clone(), before("b", 10, 150)], "the later moment and the later end");
        drop(journal);
        assert_eq!(opened(&path, 150).1, [token]);
        let text = fs::read_to_string(&path).expect("there");
        assert_eq!(text, "{\"uid\":\"a\\n\\u0001\",\"token\":7,\"until\":200}\n", "what is over is not kept");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn half_a_line_at_the_end_is_cut_off_and_damage_costs_its_own_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("revocations.jsonl");
        let whole = "{\"uid\":\"a\",\"before\":1,\"until\":9}\n";
        let long = "x".repeat(5_000);
        fs::write(&path, format!("{whole}{long}\n\u{0}\n{{\"uid\":\"b\",\"until\":9}}\n{{\"uid\":\"c\",\"before\":1,\"until\":9}}"))
            .expect("written");
        let (journal, kept) = opened(&path, 0);
        assert_eq!(kept, [before("a", 1, 9)]);
        assert_eq!(fs::read_to_string(&path).expect("there"), whole);
        append(&journal, &before("d", 1, 9)).expect("room");
        drop(journal);
        assert_eq!(opened(&path, 0).1, [before("a", 1, 9), before("d", 1, 9)]);
    }

    #[test]
    fn it_is_written_anew_before_it_grows_without_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("revocations.jsonl");
        let (journal, _) = opened(&path, 0);
        for moment in 0..SLACK as u64 {
            append(&journal, &before("a", moment, 9)).expect("room");
        }
        assert_eq!(fs::read_to_string(&path).expect("there").lines().count(), SLACK);
        append(&journal, &before("a", 5_000, 9)).expect("room");
        assert_eq!(fs::read_to_string(&path).expect("there").lines().count(), 2);
        drop(journal);
        assert_eq!(opened(&path, 0).1, [before("a", 5_000, 9)]);
    }

    #[test]
    fn a_second_process_reads_and_takes_over_when_the_first_has_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("revocations.jsonl");
        let (first, _) = opened(&path, 0);
        append(&first, &before("a", 1, 9)).expect("room");
        let (second, kept) = opened(&path, 0);
        assert_eq!(kept, [before("a", 1, 9)]);
        let refused = append(&second, &before("b", 1, 9)).expect_err("the first one writes");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        append(&first, &before("c", 1, 9)).expect("room");
        drop(first);
        let known = || vec![before("a", 1, 9), before("b", 1, 9)];
        let found = second.append(&before("d", 1, 9), known, 0).expect("it is alone now");
        assert_eq!(found, [before("a", 1, 9), before("c", 1, 9)], "what the first one has revoked");
        let nothing = || panic!("it is all there");
        assert_eq!(second.append(&before("e", 1, 9), nothing, 0).expect("room"), []);
        drop(second);
        let all = ["a", "b", "c", "d", "e"].map(|uid| before(uid, 1, 9));
        assert_eq!(opened(&path, 0).1, all);
    }
}
