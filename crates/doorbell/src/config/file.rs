//! The file layer: walks the parsed TOML by hand, so that every wrong key and value is found in one pass, each with
//! its line and column.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::api_keys;
use super::error::{Errors, Place};
use super::logins;
use super::nearest::nearest;
use super::table::{self, KEYS};
use super::value::{Raw, Value};

/// Reads the text of a file called `name` over `config`.
pub(crate) fn apply(config: &mut Config, name: &str, text: &str, errors: &mut Errors) {
    let source = Source { name: name.into(), text };
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        // The library's own display quotes the line, which may hold a secret; its message alone does not.
        errors.push(&source.place(error.span().map_or(0, |span| span.start)), error.message());
    }
    if !syntax.is_empty() {
        // What was recovered from a broken text would only produce errors about things nobody wrote.
        return;
    }
    for (section, value) in document.get_ref() {
        let place = source.place(section.span().start);
        let section = section.get_ref().as_ref();
        if section == "providers" {
            logins::providers(config, &source, &place, value, errors);
            continue;
        }
        if !table::sections().contains(&section) {
            errors.push(&place, unknown_section(section));
            continue;
        }
        let DeValue::Table(keys) = value.get_ref() else {
            errors.push(&place, format!("`{section}` is a section: write [{section}] on a line of its own"));
            continue;
        };
        for (key, value) in keys {
            let place = source.place(key.span().start);
            let name = format!("{section}.{}", key.get_ref());
            if name == "api.keys" {
                api_keys::apply(config, &source, &place, value, errors);
            } else if name == "login.clients" {
                logins::clients(config, &source, &place, value, errors);
            } else if let Some(key) = table::find(&name) {
                config.apply(key, &source.value(value), errors);
            } else {
                errors.push(&place, unknown_key(&name));
            }
        }
    }
}

/// The text being read, to turn offsets into places.
pub(crate) struct Source<'t> {
    name: Arc<str>,
    text: &'t str,
}

impl Source<'_> {
    pub(crate) fn place(&self, offset: usize) -> Place {
        Place::in_file(&self.name, self.text, offset)
    }

    pub(crate) fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
        let raw = match value.get_ref() {
            DeValue::String(text) => Raw::Text(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Raw::Other("a number out of range"), Raw::Integer),
            DeValue::Boolean(value) => Raw::Boolean(*value),
            DeValue::Array(items) => Raw::List(items.iter().map(|item| self.value(item)).collect()),
            DeValue::Datetime(time) => Raw::Text(time.to_string()),
            DeValue::Float(_) => Raw::Other("a number with a fraction"),
            DeValue::Table(_) => Raw::Other("a table"),
        };
        Value { raw, place: self.place(value.span().start) }
    }
}

/// The message for a key nobody knows; also used for environment variables, by their key's name.
pub(crate) fn unknown_key(name: &str) -> String {
    let known = KEYS.iter().map(|key| key.name).chain(["api.keys", "login.clients"]);
    let leaf = name.rsplit('.').next().unwrap_or(name);
    let elsewhere = || KEYS.iter().map(|key| key.name).find(|known| known.rsplit('.').next() == Some(leaf));
    match nearest(name, known).or_else(elsewhere) {
        Some(near) => format!("unknown key `{}`; did you mean `{near}`?", clip(name)),
        None => format!("unknown key `{}`", clip(name)),
    }
}

fn unknown_section(name: &str) -> String {
    let leaf = |known: &&str| known.rsplit('.').next() == Some(name);
    match (
        nearest(name, table::sections().into_iter().chain(["providers"])),
        KEYS.iter().map(|key| key.name).find(leaf),
    ) {
        (Some(near), _) => format!("unknown section `[{}]`; did you mean `[{near}]`?", clip(name)),
        (None, Some(near)) => format!("unknown key `{name}`; did you mean `{near}`?"),
        (None, None) => {
            format!("unknown section `[{}]`; there are: {}", clip(name), table::sections().join(", "))
        }
    }
}

/// A name as it may stand in a message: short, and without control characters.
pub(crate) fn clip(name: &str) -> String {
    let clipped: String = name.chars().take(64).collect();
    clipped.escape_debug().to_string()
}
