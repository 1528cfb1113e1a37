//! Fields that several requests have: who, how long, what.

use std::time::Duration;

use doorbell_protocol::Uid;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::openapi::schema::{AnyOfBuilder, SchemaType};
use utoipa::openapi::{KnownFormat, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use super::api::Answer;
use super::problem::Problem;

/// The longest time a `ttl` may be.
const MAX_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A uid as JSON writes it: a string, or an integer that stands for its digits.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a uid is a string or an integer")]
pub(super) enum UidField {
    Text(String),
    Unsigned(u64),
    Signed(i64),
}

/// Seconds, or a text such as `"90s"`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a ttl is a number of seconds or a text such as \"90s\"")]
pub(super) enum Ttl {
    Seconds(u64),
    Text(String),
}

impl UidField {
    pub(super) fn uid(&self) -> Answer<Uid> {
        let uid = match self {
            Self::Text(text) => Uid::new(text),
            Self::Unsigned(number) => Uid::new(&number.to_string()),
            Self::Signed(number) => Uid::new(&number.to_string()),
        };
        uid.map_err(|error| Problem::bad_request("uid", error.to_string()))
    }
}

impl Ttl {
    pub(super) fn duration(&self) -> Answer<Duration> {
        let duration = match self {
            Self::Seconds(seconds) => Some(Duration::from_secs(*seconds)),
            Self::Text(text) => {
                let at = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
                let (number, unit) = text.split_at(at);
                number.parse().ok().and_then(|number: u64| match unit {
                    "ms" => Some(Duration::from_millis(number)),
                    "s" => Some(Duration::from_secs(number)),
                    "m" => number.checked_mul(60).map(Duration::from_secs),
                    "h" => number.checked_mul(3_600).map(Duration::from_secs),
                    _ => None,
                })
            }
        };
        duration.filter(|ttl| *ttl <= MAX_TTL).ok_or_else(|| {
            let detail = "`ttl` is a number of seconds or a text such as \"90s\" or \"5m\", up to 7 days";
            Problem::bad_request("ttl", detail)
        })
    }
}

impl ToSchema for UidField {
    fn name() -> std::borrow::Cow<'static, str> {
        "Uid".into()
    }
}

impl PartialSchema for UidField {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(128));
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(i64::MIN))
            .maximum(Some(u64::MAX))
            .description(Some("stands for its digits"));
        let about = "Who is behind a connection: 1 to 128 bytes of UTF-8.";
        OneOfBuilder::new().item(text).item(number).description(Some(about)).into()
    }
}

impl ToSchema for Ttl {}

impl PartialSchema for Ttl {
    fn schema() -> RefOr<Schema> {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .maximum(Some(MAX_TTL.as_secs()))
            .description(Some("seconds"));
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]+(ms|s|m|h)$"));
        let about = "A time: seconds, or a text such as \"90s\", \"5m\" or \"1h\"; at most 7 days.";
        OneOfBuilder::new().item(seconds).item(text).description(Some(about)).into()
    }
}

/// Any JSON value, `null` too.
pub(super) fn any_json() -> Schema {
    let about = "What the page gets: any JSON value. A plain connection gets a string as itself.";
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(about)).into()
}

/// An IP address of either kind, or `null` for none.
pub(super) fn any_ip() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let of = |format| text().format(Some(SchemaFormat::KnownFormat(format)));
    let none = ObjectBuilder::new().schema_type(Type::Null);
    AnyOfBuilder::new().item(of(KnownFormat::Ipv4)).item(of(KnownFormat::Ipv6)).item(none).into()
}

/// An object of which exactly one of two fields is required, though its type has both as an `Option`.
pub(super) fn either(object: RefOr<Schema>, fields: [&str; 2]) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(object)) = object else { return object };
    let with = |field: &str, without: &str| {
        let mut one = object.clone();
        one.properties.remove(without);
        one.properties.entry(field.to_owned()).and_modify(|schema| *schema = not_null(schema.clone()));
        one.required.push(field.to_owned());
        one
    };
    let [first, second] = fields;
    OneOfBuilder::new().item(with(first, second)).item(with(second, first)).into()
}

/// What an `Option` is described as, without the `null`.
fn not_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    let only = |kind: &SchemaType| match kind {
        SchemaType::Array(types) => types
            .iter()
            .find(|kind| **kind != Type::Null)
            .map_or_else(|| SchemaType::Array(types.clone()), |kind| SchemaType::Type(kind.clone())),
        kind => kind.clone(),
    };
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            object.schema_type = only(&object.schema_type);
            RefOr::T(Schema::Object(object))
        }
        RefOr::T(Schema::Array(mut array)) => {
            array.schema_type = only(&array.schema_type);
            RefOr::T(Schema::Array(array))
        }
        RefOr::T(Schema::OneOf(one_of)) => {
            let is_null = |item: &RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
            let given = one_of.items.iter().find(|item| !is_null(item)).cloned();
            given.unwrap_or(RefOr::T(Schema::OneOf(one_of)))
        }
        other => other,
    }
}

/// Tells `null`, which is data, from no data at all.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}
