//! The environment layer: `DOORBELL_<SECTION>_<KEY>` for every key, and a few names of their own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::api_keys::{ENVIRONMENT_KEY, KeyEntry};
use super::error::{Errors, Place};
use super::file::clip;
use super::nearest::nearest;
use super::table::KEYS;
use super::value::Value;
use super::{Config, Secret};

/// The configuration file.
pub(crate) const CONFIG: &str = "DOORBELL_CONFIG";
/// The data directory.
pub(crate) const DATA_DIR: &str = "DOORBELL_DATA_DIR";
/// Adds one API key; the CLI also asks with it.
pub(crate) const API_KEY: &str = "DOORBELL_API_KEY";
/// A file that holds it.
pub(crate) const API_KEY_FILE: &str = "DOORBELL_API_KEY_FILE";

/// Environment variables, taken once so that everything that reads them sees the same, and tests can pass their own.
/// No `Debug`: some are secrets.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value of a variable; an empty one counts as not set, as the XDG base directory specification has it.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Reads every `DOORBELL_…` variable over `config`.
pub(crate) fn apply(config: &mut Config, environment: &Environment, errors: &mut Errors) {
    for (name, value) in &environment.0 {
        let name = name.to_string_lossy();
        if !name.starts_with("DOORBELL_") || [CONFIG, DATA_DIR].contains(&name.as_ref()) {
            continue;
        }
        let place = Place::Environment(clip(&name));
        let key = KEYS.iter().find(|key| key.env_name() == name);
        let known = key.is_some() || [API_KEY, API_KEY_FILE].contains(&name.as_ref());
        if !known {
            if !is_service_link(&name) {
                errors.push(&place, unknown_variable(&name));
            }
            continue;
        }
        let Some(text) = value.to_str() else {
            errors.push(&place, "not UTF-8");
            continue;
        };
        let value = Value::text(text, place);
        match key {
            Some(key) => config.apply(key, &value, errors),
            None => add_api_key(config, &name, &value, errors),
        }
    }
}

fn add_api_key(config: &mut Config, name: &str, value: &Value, errors: &mut Errors) {
    if config.api_keys.iter().any(|key| key.name == ENVIRONMENT_KEY) {
        return errors.push(&value.place, format!("{API_KEY} is given as well; keep one"));
    }
    let secret = if name == API_KEY_FILE {
        value.path(errors).map(Secret::File)
    } else {
        value.secret(errors).map(Secret::Inline)
    };
    if let Some(secret) = secret {
        let name = ENVIRONMENT_KEY.to_owned();
        config.api_keys.push(KeyEntry { name, secret, expires: None, place: value.place.clone() });
    }
}

/// Kubernetes and Docker's links put such variables into every container near a service called `doorbell` or
/// `doorbell-…` (`DOORBELL_SERVICE_HOST`, `DOORBELL_PORT_19999_TCP_ADDR`): nobody wrote them, so they are not slips.
fn is_service_link(name: &str) -> bool {
    let digit_after =
        |(index, part): (usize, &str)| name[index + part.len()..].starts_with(|c: char| c.is_ascii_digit());
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.match_indices("_PORT_").any(digit_after)
}

fn unknown_variable(name: &str) -> String {
    let names: Vec<String> = KEYS.iter().map(super::table::Key::env_name).collect();
    let known = names.iter().map(String::as_str).chain([CONFIG, DATA_DIR, API_KEY, API_KEY_FILE]);
    match nearest(name, known) {
        Some(near) => format!("unknown variable; did you mean {near}?"),
        None => "unknown variable".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_injects_is_not_a_slip() {
        for name in [
            "DOORBELL_SERVICE_HOST",
            "DOORBELL_SERVICE_PORT",
            "DOORBELL_SERVICE_PORT_HTTP",
            "DOORBELL_PORT",
            "DOORBELL_PORT_19999_TCP",
            "DOORBELL_PORT_19999_TCP_ADDR",
            "DOORBELL_API_SERVICE_HOST",
            "DOORBELL_API_PORT_10003_TCP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for key in KEYS {
            assert!(!is_service_link(&key.env_name()), "{}", key.name);
        }
        assert!(!is_service_link("DOORBELL_PUBLIC_PORTS"));
    }
}
