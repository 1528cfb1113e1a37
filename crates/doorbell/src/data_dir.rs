//! The data directory: the two keys that the first run makes in it (`api.key`, `token.key`), and where the server keeps
//! what is to outlive it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorbell_server::settings::{ApiKey, Settings};
use secrecy::SecretString;

use crate::bounded::{SECRET_FILE_BYTES, text_of};
use crate::config::{Config, DATA_DIR, Environment, MADE_KEY, check_secret};

/// The API's key, when no other is configured as well as when others are.
pub const API_KEY_FILE: &str = "api.key";
/// The HS256 key of tokens, when none is configured.
pub const TOKEN_KEY_FILE: &str = "token.key";
/// Revocations of tokens that have not ended.
const REVOCATIONS_FILE: &str = "revocations.jsonl";

/// Random bytes of a made key: 256 bits.
const KEY_BYTES: usize = 32;

/// The directory that holds what the server keeps between runs.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The directory in force: the flag, else `DOORBELL_DATA_DIR`, else what systemd gives (`STATE_DIRECTORY`), else
    /// the user's (`XDG_STATE_HOME`, `HOME`), else `doorbell-data` here. Creates nothing.
    pub fn locate(flag: Option<&Path>, environment: &Environment) -> Self {
        let variable = |name: &str| environment.get(name).map(PathBuf::from);
        // systemd separates several directories by colons; a service with one StateDirectory= has one.
        let state = environment
            .get("STATE_DIRECTORY")
            .and_then(|value| value.to_str())
            .and_then(|value| value.split(':').next())
            .map(PathBuf::from);
        let path = flag
            .map(Path::to_path_buf)
            .or_else(|| variable(DATA_DIR))
            .or(state)
            // The XDG specification has relative paths ignored.
            .or_else(|| {
                variable("XDG_STATE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("doorbell"))
            })
            .or_else(|| variable("HOME").map(|home| home.join(".local/state/doorbell")))
            .unwrap_or_else(|| PathBuf::from("doorbell-data"));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The server's settings: the configuration, and the keys of this directory, made when they are not there.
    ///
    /// # Errors
    /// The directory or a key cannot be made or read, or a key can be read by others.
    pub fn complete(&self, config: &Config) -> anyhow::Result<Settings> {
        let mut settings = config.settings.clone();
        let secret = self.ensure_key(API_KEY_FILE)?;
        settings.api.keys.push(ApiKey { name: MADE_KEY.into(), secret, expires: None });
        if config.uses_made_token_key() {
            settings.tokens.key = Some(self.ensure_key(TOKEN_KEY_FILE)?);
        }
        settings.tokens.revocations_path = Some(self.0.join(REVOCATIONS_FILE));
        for provider in &mut settings.providers {
            provider.account_token_path = Some(self.0.join(format!("{}.account-token", provider.name)));
        }
        Ok(settings)
    }

    /// The key in file `name`, made when it is not there. Of two processes that make it at once, both get the same.
    ///
    /// # Errors
    /// As [`Self::complete`].
    pub fn ensure_key(&self, name: &str) -> anyhow::Result<SecretString> {
        if let Some(key) = self.read_key(name)? {
            return Ok(key);
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .with_context(|| format!("cannot make the data directory {}", self.0.display()))?;
        let path = self.0.join(name);
        make_key(&path).with_context(|| format!("cannot make {}", path.display()))?;
        // Read back rather than kept: another process may have been first.
        self.read_key(name)?.with_context(|| format!("{} vanished while it was made", path.display()))
    }

    /// The key in file `name`, or none when there is no such file.
    ///
    /// # Errors
    /// It cannot be read, can be read by others, or is not a key.
    pub fn read_key(&self, name: &str) -> anyhow::Result<Option<SecretString>> {
        let path = self.0.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        // Asked of the open file, so that what is checked is what is read.
        let mode = file.metadata().with_context(|| format!("cannot read {}", path.display()))?.mode();
        if mode & 0o077 != 0 {
            bail!(
                "{path} can be read by others (mode {mode:03o}): run `chmod 600 {path}`, and if \
                   others may have seen it, delete it so that a new one is made",
                path = path.display(),
                mode = mode & 0o777
            );
        }
        let text =
            text_of(file, SECRET_FILE_BYTES).with_context(|| format!("cannot read {}", path.display()))?;
        let key = text.trim();
        if let Err(why) = check_secret(key) {
            bail!("{} holds no key: {why}; delete it so that a new one is made", path.display());
        }
        Ok(Some(SecretString::from(key)))
    }
}

/// Writes a fresh key to a file of its own and links it to `path`, which fails when `path` exists: no reader ever sees
/// half a key, and none is ever replaced.
fn make_key(path: &Path) -> io::Result<()> {
    let mut bytes = [0_u8; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let text = format!("{}\n", URL_SAFE_NO_PAD.encode(bytes));
    let mut tag = [0_u8; 8];
    getrandom::fill(&mut tag).map_err(io::Error::other)?;
    let draft = path.with_extension(format!("key.{}", URL_SAFE_NO_PAD.encode(tag)));
    write_new(&draft, &text)?;
    let linked = fs::hard_link(&draft, path);
    // Leaving the draft behind would leave a copy of a key nobody looks after.
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // A file system without hard links (vfat): a reader may meet the file while it is short, and says so.
        Err(_) => match write_new(path, &text) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            written => written,
        },
        Ok(()) => Ok(()),
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    // A key that is lost in a power cut after tokens were signed with it would log everyone out.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let data_dir = DataDir(directory.path().join("state/doorbell"));
        (directory, data_dir)
    }

    #[test]
    fn the_directory_is_the_first_one_named() {
        let all: Environment = [
            ("DOORBELL_DATA_DIR", "/own"),
            ("STATE_DIRECTORY", "/var/lib/doorbell:/var/lib/other"),
            ("XDG_STATE_HOME", "/xdg"),
            ("HOME", "/home/u"),
        ]
        .into_iter()
        .collect();
        let located = |flag: Option<&str>, environment: &Environment| {
            DataDir::locate(flag.map(Path::new), environment).path().display().to_string()
        };
        assert_eq!(located(Some("/flag"), &all), "/flag");
        assert_eq!(located(None, &all), "/own");
        for (variables, expected) in [
            (&[("STATE_DIRECTORY", "/var/lib/doorbell:/b"), ("HOME", "/h")][..], "/var/lib/doorbell"),
            (&[("XDG_STATE_HOME", "/xdg"), ("HOME", "/h")], "/xdg/doorbell"),
            (&[("XDG_STATE_HOME", "relative"), ("HOME", "/h")], "/h/.local/state/doorbell"),
            (&[("DOORBELL_DATA_DIR", ""), ("HOME", "/h")], "/h/.local/state/doorbell"),
            (&[], "doorbell-data"),
        ] {
            assert_eq!(located(None, &variables.iter().copied().collect()), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_made_key_is_private_random_and_kept() {
        let (_guard, data_dir) = fresh();
        assert!(data_dir.read_key(API_KEY_FILE).expect("no file is no error").is_none());
        let key = data_dir.ensure_key(API_KEY_FILE).expect("makes it");
        let path = data_dir.path().join(API_KEY_FILE);
        let text = fs::read_to_string(&path).expect("reads");
        assert_eq!(text, format!("{}\n", key.expose_secret()));
        assert_eq!(text.len(), 44);
        assert!(URL_SAFE_NO_PAD.decode(key.expose_secret()).is_ok_and(|bytes| bytes.len() == KEY_BYTES));
        let mode = |path: &Path| fs::metadata(path).expect("is there").mode() & 0o777;
        assert_eq!((mode(&path), mode(data_dir.path())), (0o600, 0o700));
        assert_eq!(data_dir.ensure_key(API_KEY_FILE).expect("kept").expose_secret(), key.expose_secret());
        assert_ne!(
            data_dir.ensure_key(TOKEN_KEY_FILE).expect("another").expose_secret(),
            key.expose_secret()
        );
        let files = fs::read_dir(data_dir.path()).expect("lists").count();
        assert_eq!(files, 2, "no draft is left behind");
    }

    #[test]
    fn those_who_make_it_at_once_agree() {
        for _ in 0..20 {
            let (_guard, data_dir) = fresh();
            let start = std::sync::Barrier::new(8);
            let keys: Vec<String> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            let key = data_dir.ensure_key(API_KEY_FILE).expect("makes it");
                            key.expose_secret().to_owned()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert!(keys.iter().all(|key| key == &keys[0]), "{keys:?}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_guard, data_dir) = fresh();
        data_dir.ensure_key(API_KEY_FILE).expect("makes it");
        let path = data_dir.path().join(API_KEY_FILE);
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            let error = data_dir.ensure_key(API_KEY_FILE).expect_err("refused").to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("chmod");
        assert!(data_dir.ensure_key(API_KEY_FILE).is_ok());
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_not_shown() {
        let (_guard, data_dir) = fresh();
        data_dir.ensure_key(API_KEY_FILE).expect("makes it");
        let path = data_dir.path().join(API_KEY_FILE);
        for text in ["", "hunter2 hunter2 hunter2 hunter2"] {
            fs::write(&path, text).expect("writes");
            let error = format!("{:#}", data_dir.ensure_key(API_KEY_FILE).expect_err("refused"));
            assert!(error.contains("holds no key") && !error.contains("hunter2"), "{error}");
        }
    }
}
