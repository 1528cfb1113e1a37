//! How long: a message is kept, a token lasts.

use std::time::Duration;

use serde::Deserialize;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::api::Answer;
use super::problem::Problem;

/// The longest time a `ttl` may be.
const MAX_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The shortest time a token may last: it counts in seconds.
const MIN_TOKEN_TTL: Duration = Duration::from_secs(1);
/// What a text may end in, and its milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// How long a message is kept: from nothing to seven days.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Ttl(Time);

/// How long a token lasts: from a second to seven days.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct TokenTtl(Time);

impl Ttl {
    pub(super) fn duration(&self) -> Answer<Duration> {
        self.0.within(Duration::ZERO)
    }
}

impl TokenTtl {
    pub(super) fn duration(&self) -> Answer<Duration> {
        self.0.within(MIN_TOKEN_TTL)
    }
}

impl ToSchema for Ttl {}

impl PartialSchema for Ttl {
    fn schema() -> RefOr<Schema> {
        Time::schema(Duration::ZERO)
    }
}

impl ToSchema for TokenTtl {}

impl PartialSchema for TokenTtl {
    fn schema() -> RefOr<Schema> {
        Time::schema(MIN_TOKEN_TTL)
    }
}

/// Seconds, or a text such as `"90s"`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a ttl is a number of seconds or a text such as \"90s\"")]
enum Time {
    Seconds(u64),
    Text(String),
}

impl Time {
    fn within(&self, least: Duration) -> Answer<Duration> {
        let duration = match self {
            Self::Seconds(seconds) => Some(Duration::from_secs(*seconds)),
            Self::Text(text) => {
                let at = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
                let (number, unit) = text.split_at(at);
                let unit = UNITS.iter().find(|(name, _)| *name == unit);
                let number = number.parse().ok();
                let millis =
                    number.zip(unit).and_then(|(number, (_, unit)): (u64, _)| number.checked_mul(*unit));
                millis.map(Duration::from_millis)
            }
        };
        duration.filter(|ttl| (least..=MAX_TTL).contains(ttl)).ok_or_else(|| {
            let detail = "`ttl` is a number of seconds or a text such as \"90s\" or \"5m\"";
            Problem::bad_request("ttl", format!("{detail}, {}", bounds(least)))
        })
    }

    /// Exactly what [`Self::within`] takes.
    fn schema(least: Duration) -> RefOr<Schema> {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(least.as_secs()))
            .maximum(Some(MAX_TTL.as_secs()))
            .description(Some("seconds"));
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern(least)));
        let about = "A time: seconds, or a text such as \"90s\", \"5m\" or \"1h\"";
        let about = format!("{about}; {}.", bounds(least));
        OneOfBuilder::new().item(seconds).item(text).description(Some(about)).into()
    }
}

/// The bounds in words.
fn bounds(least: Duration) -> String {
    format!("from {} s to 7 days", least.as_secs())
}

/// A regular expression for the texts from `least` to [`MAX_TTL`], of what every engine knows.
fn pattern(least: Duration) -> String {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (least, most) = (millis(least), millis(MAX_TTL));
    let each = UNITS.map(|(name, unit)| format!("0*({}){name}", decimals(least.div_ceil(unit), most / unit)));
    format!("^({})$", each.join("|"))
}

/// The decimal numbers from `least`, which is 0 or a power of ten, to `most`, which has more digits.
fn decimals(least: u64, most: u64) -> String {
    let (least_digits, most) = (least.to_string().len(), most.to_string());
    // Those with fewer digits than `most`; then those with as many that are less by one digit, from the first on.
    let mut all = vec![format!("[{}-9][0-9]{{{},{}}}", least.min(1), least_digits - 1, most.len() - 2)];
    for (at, digit) in most.char_indices() {
        let lowest = if at == 0 { '1' } else { '0' };
        if digit > lowest {
            let (before, rest) = (&most[..at], most.len() - at - 1);
            let below = char::from_u32(u32::from(digit) - 1).unwrap_or(lowest);
            all.push(format!("{before}[{lowest}-{below}][0-9]{{{rest}}}"));
        }
    }
    all.push(most);
    all.join("|")
}
