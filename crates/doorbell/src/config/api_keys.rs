//! `[[api.keys]]` and `DOORBELL_API_KEY`: the named secrets that open the API.

use std::collections::BTreeMap;
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeValue;
use toml::value::{Datetime, Offset};

use super::error::{Errors, Place};
use super::file::{Source, clip};
use super::nearest::nearest;
use super::table::API_KEY_FIELDS;
use super::value::{Raw, Value};
use super::{Config, Secret};

/// The name of the key that `DOORBELL_API_KEY` adds.
pub(crate) const ENVIRONMENT_KEY: &str = "env";
/// The name of the key that the first run makes.
pub(crate) const MADE_KEY: &str = "default";

/// One configured API key, its secret not yet read.
#[derive(Debug, Clone)]
pub(crate) struct KeyEntry {
    pub(crate) name: String,
    pub(crate) secret: Secret,
    /// Seconds since the Unix epoch.
    pub(crate) expires: Option<u64>,
    pub(crate) place: Place,
}

/// Reads `api.keys` of a file.
pub(crate) fn apply(
    config: &mut Config,
    source: &Source<'_>,
    place: &Place,
    value: &Spanned<DeValue<'_>>,
    errors: &mut Errors,
) {
    let usage = "`api.keys` is a list of tables: write [[api.keys]] above each key's name and secret";
    let DeValue::Array(items) = value.get_ref() else {
        return errors.push(place, usage);
    };
    for item in items.iter() {
        let place = source.place(item.span().start);
        let DeValue::Table(fields) = item.get_ref() else {
            errors.push(&place, usage);
            continue;
        };
        let mut given = BTreeMap::new();
        for (field, value) in fields {
            let name = field.get_ref().as_ref();
            if API_KEY_FIELDS.iter().any(|(known, ..)| *known == name) {
                given.insert(name, source.value(value));
                continue;
            }
            let near = nearest(name, API_KEY_FIELDS.iter().map(|(known, ..)| *known));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let message = format!("unknown key `{}` in [[api.keys]]{hint}", clip(name));
            errors.push(&source.place(field.span().start), message);
        }
        if let Some(entry) = read(&given, &place, errors) {
            if config.api_keys.iter().any(|other| other.name == entry.name) {
                let message = format!("two API keys are called \"{}\"", entry.name);
                errors.push(&given["name"].place, message);
            }
            config.api_keys.push(entry);
        }
    }
}

fn read(given: &BTreeMap<&str, Value>, place: &Place, errors: &mut Errors) -> Option<KeyEntry> {
    let name = match given.get("name") {
        Some(value) => value.string(errors).and_then(|name| match check_name(&name) {
            Ok(()) => Some(name),
            Err(why) => value.refuse(why, errors),
        }),
        None => {
            errors.push(place, "an API key needs a `name`");
            None
        }
    };
    let secret = match (given.get("secret"), given.get("secret_file")) {
        (Some(value), None) => value.secret(errors).map(Secret::Inline),
        (None, Some(value)) => value.path(errors).map(Secret::File),
        (None, None) => {
            errors.push(place, "an API key needs a `secret` or a `secret_file`");
            None
        }
        (Some(_), Some(value)) => value.refuse("`secret` and `secret_file` are both given; keep one", errors),
    };
    let expires = match given.get("expires") {
        Some(value) => Some(expiry(value, errors)?),
        None => None,
    };
    Some(KeyEntry { name: name?, secret: secret?, expires, place: place.clone() })
}

fn check_name(name: &str) -> Result<(), String> {
    if name == ENVIRONMENT_KEY || name == MADE_KEY {
        return Err(format!("the name \"{name}\" is taken: DOORBELL_API_KEY and api.key have such names"));
    }
    let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.len() > 64 || !name.chars().all(named) {
        return Err("a name has 1 to 64 letters, digits, - _ and .".into());
    }
    Ok(())
}

fn expiry(value: &Value, errors: &mut Errors) -> Option<u64> {
    let seconds = match &value.raw {
        Raw::Integer(seconds) => u64::try_from(*seconds).ok(),
        Raw::Text(text) => Datetime::from_str(text).ok().and_then(|time| unix_seconds(&time)),
        _ => None,
    };
    seconds.or_else(|| {
        value.refuse("expected a date such as 2030-01-01, or a time such as 2030-01-01T00:00:00Z", errors)
    })
}

/// A time without an offset names 26 different hours, so it is refused; a date alone starts in UTC.
fn unix_seconds(time: &Datetime) -> Option<u64> {
    let date = time.date?;
    let of_day = match &time.time {
        Some(time) => {
            i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0))
        }
        None => 0,
    };
    let offset_minutes = match (&time.time, &time.offset) {
        (None, None) | (Some(_), Some(Offset::Z)) => 0,
        (Some(_), Some(Offset::Custom { minutes })) => i64::from(*minutes),
        _ => return None,
    };
    let days = days_since_epoch(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    u64::try_from(days * 86_400 + of_day - offset_minutes * 60).ok()
}

/// Days from 1970-01-01 in the Gregorian calendar. Source: Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_unix_seconds() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(951_782_400)),
            ("2030-01-01T00:00:00Z", Some(1_893_456_000)),
            ("2030-01-01T08:00:00+08:00", Some(1_893_456_000)),
            ("2029-12-31T19:00:00-05:00", Some(1_893_456_000)),
            ("2030-01-01T00:00:00", None),
            ("00:00:00", None),
            ("1969-12-31", None),
        ] {
            let time = Datetime::from_str(text).expect("a TOML time");
            assert_eq!(unix_seconds(&time), expected, "{text}");
        }
    }
}
