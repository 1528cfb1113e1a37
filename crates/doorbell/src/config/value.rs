//! One value as it was written, and the types it can be read as: durations, sizes, addresses, networks, origins.
//!
//! A value from a file has TOML's types; one from the environment or a flag is text, and a list there is separated
//! by commas. Every reader reports what is wrong, with what would be right, and then gives `None`.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use doorbell_server::webhooks;
use ipnet::IpNet;
use secrecy::SecretString;

use super::error::{Errors, Place};

/// From how many bytes on a secret cannot be guessed over a network; shorter ones are warned about when serving.
pub(crate) const GOOD_SECRET_BYTES: usize = 16;
/// The longest, in bytes: it must fit a request head and a line.
pub(crate) const MAX_SECRET_BYTES: usize = 1024;

/// What was written. No `Debug`: it may be a secret.
pub(crate) enum Raw {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Value>),
    /// A type that no key takes, by its TOML name.
    Other(&'static str),
}

/// What was written, and where.
pub(crate) struct Value {
    pub(crate) raw: Raw,
    pub(crate) place: Place,
}

impl Value {
    pub(crate) fn text(text: impl Into<String>, place: Place) -> Self {
        Self { raw: Raw::Text(text.into()), place }
    }

    /// A text that may not be empty.
    pub(crate) fn string(&self, errors: &mut Errors) -> Option<String> {
        match &self.raw {
            Raw::Text(text) if !text.is_empty() => Some(text.clone()),
            _ => self.refuse("expected a text in quotes, not empty", errors),
        }
    }

    pub(crate) fn path(&self, errors: &mut Errors) -> Option<PathBuf> {
        self.string(errors).map(PathBuf::from)
    }

    pub(crate) fn boolean(&self, errors: &mut Errors) -> Option<bool> {
        match &self.raw {
            Raw::Boolean(value) => Some(*value),
            Raw::Text(text) if text == "true" => Some(true),
            Raw::Text(text) if text == "false" => Some(false),
            _ => self.refuse("expected true or false", errors),
        }
    }

    /// One of a few words, exactly as listed.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)], errors: &mut Errors) -> Option<T> {
        if let Raw::Text(text) = &self.raw
            && let Some((_, value)) = words.iter().find(|(word, _)| word == text)
        {
            return Some(*value);
        }
        let names: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.refuse(format!("expected {}", names.join(" or ")), errors)
    }

    /// A whole number within bounds.
    pub(crate) fn count<T>(&self, bounds: RangeInclusive<T>, errors: &mut Errors) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = match &self.raw {
            Raw::Integer(number) => Some(*number),
            Raw::Text(text) => text.parse().ok(),
            _ => None,
        };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) if bounds.contains(&number) => Some(number),
            _ => self.refuse(
                format!("expected a whole number from {} to {}", bounds.start(), bounds.end()),
                errors,
            ),
        }
    }

    /// A size within bounds, in bytes.
    pub(crate) fn size(&self, bounds: RangeInclusive<usize>, errors: &mut Errors) -> Option<usize> {
        let bytes = match &self.raw {
            Raw::Integer(number) => usize::try_from(*number).ok(),
            Raw::Text(text) => parse_size(text),
            _ => None,
        };
        match bytes {
            Some(bytes) if bounds.contains(&bytes) => Some(bytes),
            Some(_) => self.refuse(
                format!("must be from {} to {}", show_size(*bounds.start()), show_size(*bounds.end())),
                errors,
            ),
            None => self.refuse("expected a size such as \"64KiB\", \"1MiB\" or a number of bytes", errors),
        }
    }

    /// A duration within bounds.
    pub(crate) fn duration(&self, bounds: RangeInclusive<Duration>, errors: &mut Errors) -> Option<Duration> {
        let duration = match &self.raw {
            Raw::Text(text) => parse_duration(text),
            _ => None,
        };
        match duration {
            Some(duration) if bounds.contains(&duration) => Some(duration),
            Some(_) => self.refuse(
                format!(
                    "must be from {} to {}",
                    show_duration(*bounds.start()),
                    show_duration(*bounds.end())
                ),
                errors,
            ),
            None => self.refuse("expected a duration such as \"30s\", \"500ms\", \"2m\" or \"1h\"", errors),
        }
    }

    pub(crate) fn address(&self, errors: &mut Errors) -> Option<SocketAddr> {
        let Raw::Text(text) = &self.raw else {
            return self.refuse("expected an address such as \"127.0.0.1:19999\"", errors);
        };
        text.parse().ok().or_else(|| {
            self.refuse(
                "expected an IP address and a port, such as \"127.0.0.1:19999\" or \"[::]:19999\"",
                errors,
            )
        })
    }

    /// A list of networks; a bare address is a network of one.
    pub(crate) fn networks(&self, errors: &mut Errors) -> Option<Vec<IpNet>> {
        self.list(errors, |item, errors| {
            let parsed = match &item.raw {
                Raw::Text(text) => {
                    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
                }
                _ => None,
            };
            parsed.map(|network| network.trunc()).or_else(|| {
                item.refuse("expected a network such as \"10.0.0.0/8\" or an address such as \"::1\"", errors)
            })
        })
    }

    /// The address of a web server: an origin.
    pub(crate) fn url(&self, errors: &mut Errors) -> Option<String> {
        let url = match &self.raw {
            Raw::Text(text) => parse_origin(text.strip_suffix('/').unwrap_or(text)),
            _ => Err(String::new()),
        };
        match url {
            Ok(url) if url.starts_with("https://") || url.starts_with("http://") => Some(url),
            _ => self
                .refuse("expected an address without a path, such as \"https://push.example.com\"", errors),
        }
    }

    /// A list of texts.
    pub(crate) fn strings(&self, errors: &mut Errors) -> Option<Vec<String>> {
        self.list(errors, |item, errors| item.string(errors))
    }

    /// A list of web origins, in the form browsers send them.
    pub(crate) fn origins(&self, errors: &mut Errors) -> Option<Vec<String>> {
        self.list(errors, |item, errors| match &item.raw {
            Raw::Text(text) => match parse_origin(text) {
                Ok(origin) => Some(origin),
                Err(why) => item.refuse(why, errors),
            },
            _ => item.refuse("expected an origin such as \"https://www.example.com\"", errors),
        })
    }

    /// A list of http and https URLs.
    pub(crate) fn urls(&self, errors: &mut Errors) -> Option<Vec<String>> {
        self.list(errors, |item, errors| match &item.raw {
            Raw::Text(text) if webhooks::is_url(text) => Some(text.clone()),
            _ => item.refuse("expected a URL such as \"https://www.example.com/doorbell\"", errors),
        })
    }

    /// A list of some of a few words.
    pub(crate) fn words<T: Copy>(&self, words: &[(&str, T)], errors: &mut Errors) -> Option<Vec<T>> {
        self.list(errors, |item, errors| item.word(words, errors))
    }

    /// A secret: it travels in request heads and lines, so it is visible ASCII. Never part of a message.
    pub(crate) fn secret(&self, errors: &mut Errors) -> Option<SecretString> {
        let text = match &self.raw {
            Raw::Text(text) => text.trim(),
            _ => return self.refuse("expected a secret in quotes", errors),
        };
        match check_secret(text) {
            Ok(()) => Some(SecretString::from(text)),
            Err(why) => self.refuse(why, errors),
        }
    }

    /// Every bad item is reported, not only the first.
    fn list<T>(&self, errors: &mut Errors, read: impl Fn(&Self, &mut Errors) -> Option<T>) -> Option<Vec<T>> {
        let split;
        let items = match &self.raw {
            Raw::List(items) => items,
            Raw::Text(text) if !matches!(self.place, Place::File { .. }) => {
                split = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Self::text(item, self.place.clone()))
                    .collect();
                &split
            }
            _ => return self.refuse("expected a list such as [\"…\", \"…\"]", errors),
        };
        let read: Vec<Option<T>> = items.iter().map(|item| read(item, errors)).collect();
        read.into_iter().collect()
    }

    pub(crate) fn refuse<T>(&self, message: impl Into<String>, errors: &mut Errors) -> Option<T> {
        let mut message = message.into();
        if let Raw::Other(kind) = self.raw {
            message.push_str(", found ");
            message.push_str(kind);
        }
        errors.push(&self.place, message);
        None
    }
}

/// Whether a text can be a secret; the answer never contains it.
pub(crate) fn check_secret(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("a secret has at least one byte, and should have 16".into());
    }
    if text.len() > MAX_SECRET_BYTES {
        return Err(format!("a secret has at most {MAX_SECRET_BYTES} bytes"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a secret is visible ASCII without spaces, such as base64".into());
    }
    Ok(())
}

/// Reads `30s`, `500ms`, `2m`, `1h` or `7d`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
}

/// Reads `64KiB`, `1MiB`, `1GiB`, `512B` or plain bytes, into bytes.
pub(crate) fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor).and_then(|bytes| usize::try_from(bytes).ok())
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn show_size(bytes: usize) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

fn show_duration(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".into(),
        ms if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        ms if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// Brings an origin into the form browsers send (RFC 6454 section 6.2): lower case, no default port, no path.
fn parse_origin(text: &str) -> Result<String, String> {
    let usage = || "expected an origin such as \"https://www.example.com\" or \"*\"".to_owned();
    if text == "*" {
        return Ok(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://").ok_or_else(usage)?;
    let scheme_chars = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(scheme_chars) {
        return Err(usage());
    }
    if scheme == "ws" || scheme == "wss" {
        return Err(format!("an origin is the page's: write http{} instead of {scheme}", &scheme[2..]));
    }
    if authority.contains(['/', '?', '#']) {
        return Err("an origin ends after the host or the port: remove the path".into());
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse::<u16>().map_err(|_| "the port is a number from 1 to 65535".to_owned())?;
            (host, Some(port))
        }
        _ => (authority, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let host_is_good = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(named),
    };
    if !host_is_good {
        return Err("the host is a name, an IPv4 address or an IPv6 address in brackets; \
                    a name outside ASCII is written in its xn-- form"
            .into());
    }
    match (scheme, port) {
        (_, Some(0)) => Err("the port is a number from 1 to 65535".into()),
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => Ok(format!("{scheme}://{host}")),
        (_, Some(port)) => Ok(format!("{scheme}://{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("1 h", Some(3_600_000)),
            ("7d", Some(604_800_000)),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1S", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(parse_duration(text).map(|duration| duration.as_millis()), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two_or_bytes() {
        for (text, expected) in [
            ("64KiB", Some(65_536)),
            ("1MiB", Some(1_048_576)),
            ("1GiB", Some(1 << 30)),
            ("512B", Some(512)),
            ("512", Some(512)),
            ("64KB", None),
            ("64k", None),
            ("", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn origins_take_the_form_browsers_send() {
        for (text, expected) in [
            ("*", Some("*")),
            ("https://Example.com", Some("https://example.com")),
            ("https://example.com:443", Some("https://example.com")),
            ("http://example.com:80", Some("http://example.com")),
            ("https://example.com:8443", Some("https://example.com:8443")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("http://[::1]", Some("http://[::1]")),
            ("capacitor://localhost", Some("capacitor://localhost")),
            ("https://example.com/", None),
            ("https://example.com/path", None),
            ("https://user@example.com", None),
            ("https://例子.com", None),
            ("https://", None),
            ("https://example.com:0", None),
            ("https://example.com:99999", None),
            ("wss://example.com", None),
            ("example.com", None),
            ("null", None),
            ("", None),
        ] {
            assert_eq!(parse_origin(text).ok().as_deref(), expected, "{text}");
        }
    }
}
