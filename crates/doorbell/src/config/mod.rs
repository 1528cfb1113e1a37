//! The configuration: a TOML file, then the environment, then flags; the later layer wins. Checked whole before a port
//! opens, all errors at once, each with its place.
//!
//! `table` lists every key; `file`, `environment` and [`Overrides`] are the layers; `check` holds the rules
//! between keys. `docs/doorbell.toml` is generated from the table by [`reference_text`].

mod api_keys;
mod check;
mod environment;
mod error;
mod file;
mod logins;
mod nearest;
mod reference;
mod table;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use doorbell_server::settings::Settings;
use secrecy::SecretString;

pub use environment::Environment;
pub use error::{ConfigError, Place};
pub use reference::text as reference_text;

pub(crate) use api_keys::{ENVIRONMENT_KEY, MADE_KEY};
pub(crate) use check::is_loopback;
pub(crate) use environment::DATA_DIR;
pub(crate) use value::{GOOD_SECRET_BYTES, check_secret, parse_duration};

use api_keys::KeyEntry;
use error::Errors;
use logins::{ClientEntry, ProviderEntry};
use table::Key;
use value::Value;

/// The file that is read when none is named and it is there.
pub const DEFAULT_FILE: &str = "doorbell.toml";

/// A whole, checked configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What the server is started with, but for the keys that the data directory holds.
    pub settings: Settings,
    /// How the process logs.
    pub log: Log,
    text_key: Option<Secret>,
    token_key: Option<Secret>,
    webhook_secret: Option<Secret>,
    api_keys: Vec<KeyEntry>,
    clients: Vec<ClientEntry>,
    providers: Vec<ProviderEntry>,
    places: BTreeMap<&'static str, Place>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level, then exceptions by module: `info,doorbell_server=debug`.
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Human }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A secret as it was configured: itself, or the file that holds it.
#[derive(Debug, Clone)]
enum Secret {
    Inline(SecretString),
    File(PathBuf),
}

/// Whether files named by the configuration are read.
#[derive(Debug, Clone, Copy)]
enum Files {
    Read,
    Skip,
}

/// The flags layer, and what a command such as `demo` sets beneath the flags.
#[derive(Debug, Clone, Default)]
pub struct Overrides(Vec<Override>);

#[derive(Debug, Clone)]
struct Override {
    key: &'static str,
    flag: &'static str,
    text: String,
}

impl Overrides {
    /// Sets `key` to `text` in the name of `flag`, over whatever was set before; a list is separated by commas.
    pub fn set(&mut self, key: &'static str, flag: &'static str, text: impl Into<String>) {
        self.0.push(Override { key, flag, text: text.into() });
    }

    /// Appends what lies above this.
    pub fn extend(&mut self, above: Self) {
        self.0.extend(above.0);
    }
}

/// Where a configuration comes from.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`; else `DOORBELL_CONFIG`, else `./doorbell.toml` when it is there.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Environment,
    /// The flags.
    pub overrides: Overrides,
}

/// Reads and checks the text of a configuration file alone. Touches no other file: a secret given as `…_file` is left
/// out of [`Config::settings`].
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn parse(text: &str) -> Result<Config, Vec<ConfigError>> {
    let mut config = Config::default();
    let mut errors = Errors::default();
    file::apply(&mut config, DEFAULT_FILE, text, &mut errors);
    check::finish(&mut config, Files::Skip, &mut errors);
    config.unless(errors)
}

/// Reads and checks all layers, and the files that hold secrets.
///
/// # Errors
/// Everything that is wrong with them: first the file's, in the order of its text, then the environment's, then the
/// flags'.
pub fn load(sources: &Sources) -> Result<Config, Vec<ConfigError>> {
    let mut config = Config::default();
    let mut errors = Errors::default();
    if let Some(path) = file_of(sources) {
        match crate::bounded::read_text(&path, crate::bounded::CONFIG_FILE_BYTES) {
            Ok(text) => file::apply(&mut config, &path.display().to_string(), &text, &mut errors),
            Err(error) => {
                errors.push(&Place::Default, format!("cannot read {}: {error}", path.display()));
            }
        }
    }
    environment::apply(&mut config, &sources.environment, &mut errors);
    for Override { key, flag, text } in &sources.overrides.0 {
        let key = table::find(key).expect("overrides name keys of the table");
        config.apply(key, &Value::text(text, Place::Flag(flag)), &mut errors);
    }
    check::finish(&mut config, Files::Read, &mut errors);
    config.unless(errors)
}

/// The file that [`load`] reads, if any.
pub fn file_of(sources: &Sources) -> Option<PathBuf> {
    sources
        .file
        .clone()
        .or_else(|| sources.environment.get(environment::CONFIG).map(PathBuf::from))
        .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| Path::exists(path)))
}

impl Config {
    /// Whether the token key comes from the data directory: none is configured.
    pub fn uses_made_token_key(&self) -> bool {
        self.token_key.is_none()
    }

    fn apply(&mut self, key: &'static Key, value: &Value, errors: &mut Errors) {
        if let Some(twin) = key.twin()
            && let Some(place) = self.places.get(twin.name)
            && place.same_layer(&value.place)
        {
            errors.push(&value.place, format!("{} is given as well, at {place}; keep one", twin.name));
        }
        self.places.insert(key.name, value.place.clone());
        (key.set)(self, value, errors);
    }

    /// Where the value in force was given; of a secret and its `_file`, whichever of the two is in force.
    fn place(&self, key: &str) -> Place {
        let of = |name: &str| self.places.get(name);
        let twin = table::find(key).and_then(Key::twin).and_then(|twin| of(twin.name));
        match (of(key), twin) {
            (Some(one), Some(other)) => one.later(other).clone(),
            (Some(place), None) | (None, Some(place)) => place.clone(),
            (None, None) => Place::Default,
        }
    }

    /// Whether a key was given at all, well or badly.
    fn given(&self, key: &str) -> bool {
        self.place(key) != Place::Default
    }

    fn unless(self, errors: Errors) -> Result<Self, Vec<ConfigError>> {
        if errors.is_empty() { Ok(self) } else { Err(errors.into_sorted()) }
    }
}

#[cfg(test)]
mod tests;
