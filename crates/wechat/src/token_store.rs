//! Where the account token outlives a process, and who may renew it.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::future::Future;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// How often a lease that another process holds is looked at again.
const LEASE_PAUSE: Duration = Duration::from_millis(50);
/// A stored token is a few hundred bytes.
const MAX_FILE_BYTES: u64 = 16 << 10;

/// A token and when it ends, by the wall clock: the only clock that survives a restart.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// The token.
    pub token: SecretString,
    /// Seconds since the Unix epoch.
    pub expires_at: u64,
}

/// The right to renew, until dropped.
#[expect(missing_debug_implementations, reason = "it holds whatever its store needs")]
pub struct Lease(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Send>);

impl Lease {
    /// A lease that ends when `held` is dropped.
    pub fn new(held: impl Send + 'static) -> Self {
        Self(Box::new(held))
    }
}

/// What [`TokenStore::lease`] gives.
pub type LeaseFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Lease>> + Send + 'a>>;

/// Shares one account token between the processes that use it. One holder renews at a time: it takes the lease, looks
/// whether another has renewed meanwhile, and only then asks WeChat. A file does this for one machine; a cluster
/// implements it on what its nodes share.
pub trait TokenStore: fmt::Debug + Send + Sync {
    /// The token last saved; none when there is none or it cannot be read.
    ///
    /// # Errors
    /// When the store fails.
    fn load(&self) -> io::Result<Option<StoredToken>>;

    /// Keeps a token.
    ///
    /// # Errors
    /// When the store fails; the token is then used, and lost with the process.
    fn save(&self, token: &StoredToken) -> io::Result<()>;

    /// Waits for the right to renew. The caller sets the deadline.
    fn lease(&self) -> LeaseFuture<'_>;
}

/// A file of mode 0600, its renewal guarded by a lock file beside it.
#[derive(Debug)]
pub struct FileTokenStore {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct OnDisk<'a> {
    #[serde(borrow)]
    access_token: std::borrow::Cow<'a, str>,
    expires_at: u64,
}

impl FileTokenStore {
    /// A store at `path`, whose directory exists.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        self.path.with_file_name(name)
    }
}

impl TokenStore for FileTokenStore {
    fn load(&self) -> io::Result<Option<StoredToken>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() > MAX_FILE_BYTES {
            return Ok(None);
        }
        let text = io::read_to_string(file)?;
        // A file that was cut short or edited is as good as none.
        Ok(serde_json::from_str::<OnDisk<'_>>(&text).ok().map(|on_disk| StoredToken {
            token: SecretString::from(on_disk.access_token.into_owned()),
            expires_at: on_disk.expires_at,
        }))
    }

    fn save(&self, token: &StoredToken) -> io::Result<()> {
        let on_disk =
            OnDisk { access_token: token.token.expose_secret().into(), expires_at: token.expires_at };
        let new = self.beside(".new");
        // Made anew, so that an old file's mode is never inherited.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(serde_json::to_string(&on_disk)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }

    fn lease(&self) -> LeaseFuture<'_> {
        Box::pin(async {
            let lock = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.beside(".lock"))?;
            loop {
                match lock.try_lock() {
                    // The system lets go of it with the descriptor, whatever ends the process.
                    Ok(()) => return Ok(Lease::new(lock)),
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LEASE_PAUSE).await,
                    Err(TryLockError::Error(error)) => return Err(error),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store(dir: &tempfile::TempDir) -> FileTokenStore {
        FileTokenStore::new(dir.path().join("wechat-mp.token"))
    }

    #[test]
    fn a_saved_token_is_read_back_and_nobody_elses_to_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = store(&dir);
        assert!(store.load().expect("readable").is_none());
        for token in ["T1", "T\"2"] {
            store.save(&StoredToken { token: token.into(), expires_at: 7 }).expect("saved");
            let loaded = store.load().expect("readable").expect("there");
            assert_eq!((loaded.token.expose_secret(), loaded.expires_at), (token, 7));
            let mode = fs::metadata(&store.path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = store(&dir);
        for text in ["", "{", "{\"access_token\":\"T\"}", &"x".repeat(20_000)] {
            fs::write(&store.path, text).expect("written");
            assert!(store.load().expect("readable").is_none(), "{text}");
        }
    }

    #[tokio::test]
    async fn one_lease_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, other) = (store(&dir), store(&dir));
        let lease = one.lease().await.expect("free");
        let waited = tokio::time::timeout(Duration::from_millis(120), other.lease()).await;
        assert!(waited.is_err(), "the lease is taken");
        drop(lease);
        let waited = tokio::time::timeout(Duration::from_secs(10), other.lease()).await;
        assert!(waited.expect("in time").is_ok());
    }
}
